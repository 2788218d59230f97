//! Errors that last are logged once.

use std::collections::HashMap;

use pgrx::datum::Uuid;

use super::log_error;
use crate::error::Report;

/// An action of a scheduler that can fail.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Reading the list of relation sets.
    List,
    /// Reading the config of a set and starting workers.
    Plan,
    /// Handling the end of the job of a run.
    HandleEnd(Uuid),
    /// Logging the failure of a segment that no worker can refresh.
    LogFailure(Uuid),
    PruneMessages,
    PruneLog,
    PruneMembers,
    PruneChanges,
    Alert,
}

/// The errors that were logged and still last.
#[derive(Default)]
pub struct LoggedErrors(HashMap<Action, String>);

impl LoggedErrors {
    /// Logs the error of an action, unless the same error was logged and lasts. `what`: what could
    /// not be done.
    pub fn log(&mut self, action: Action, what: &str, report: &Report) {
        if !self.0.values().any(|message| *message == report.message) {
            log_error(what, report);
        }
        self.0.insert(action, report.message.clone());
    }

    /// The action has succeeded.
    pub fn clear(&mut self, action: Action) {
        self.0.remove(&action);
    }
}
