//! Deletes what is past its retention: once an hour, in transactions of their own.

use std::time::{Duration, Instant};

use crate::error::{Report, Result};
use crate::pg::bgw::process;

/// The pause after everything old has been deleted.
const INTERVAL: Duration = Duration::from_secs(3600);
/// The pause after an error.
const RETRY_DELAY: Duration = Duration::from_secs(60);
/// Time limit of one deletion.
const MAX_PRUNING: Duration = Duration::from_secs(60);

/// When something is deleted next.
#[derive(Default)]
pub struct Pruning {
    /// None: now.
    not_before: Option<Instant>,
}

impl Pruning {
    /// Deletes one batch, if it is time, in a transaction that is cancelled after `limit` (default:
    /// [`MAX_PRUNING`]). `delete` returns whether there may be more to delete; the next round
    /// continues then. `None`: it is not time.
    pub fn run(
        &mut self,
        limit: Option<Duration>,
        delete: impl FnOnce() -> Result<bool>,
    ) -> Option<std::result::Result<(), Report>> {
        if self.not_before.is_some_and(|time| time > Instant::now()) {
            return None;
        }
        let deleted = process::transaction_within(limit.or(Some(MAX_PRUNING)), delete);
        self.not_before = match deleted {
            Ok(true) => None,
            Ok(false) => Some(Instant::now() + INTERVAL),
            Err(_) => Some(Instant::now() + RETRY_DELAY),
        };
        Some(deleted.map(drop))
    }
}
