//! A scheduler: serves the extension's own relation set of its database, and starts servers for the
//! sets of roles. It reads nothing that users made.

use std::time::Duration;

use pgrx::prelude::*;

use super::SCHEDULER;
use super::logged::Action;
use super::pruning::Pruning;
use super::servers::Servers;
use super::sets::{ROUND, Sets};
use crate::catalog::extension::Extension;
use crate::catalog::session_settings::SessionSettings;
use crate::catalog::settings;
use crate::error::{Result, emit};
use crate::pg::bgw::job_table;
use crate::pg::bgw::process;
use crate::schedule::run;
use segmenter_core::job::RETRY_DELAY;

/// Seconds to stay disconnected so that `DROP DATABASE`, `ALTER DATABASE` and the like can proceed.
const DATABASE_YIELD_SECONDS: i64 = 10;

pub fn main(database: pg_sys::Oid) {
    process::start();
    if !job_table::claim_scheduler(database) {
        return;
    }
    process::connect(Some(database), None);
    super::prepare_scheduling();
    let connected = || Ok((process::current_database(), SessionSettings::read()?));
    let Ok((database, settings)) = process::transaction(connected) else { return };
    process::announce(SCHEDULER, None);

    let mut scheduler = Scheduler::new(database, settings);
    while settings::databases().contains(&scheduler.sets.database_name) {
        scheduler.sets.collect();
        let pause = match process::transaction(|| scheduler.poll()) {
            Ok(Database::Wanted) => {
                job_table::release_with_cooldown(DATABASE_YIELD_SECONDS);
                return;
            }
            Ok(Database::WithOtherSettings) => {
                job_table::release_with_cooldown(0);
                return;
            }
            Ok(Database::WithSets { has_room }) => {
                scheduler.sets.errors.clear(Action::List);
                scheduler.round(has_room)
            }
            Ok(Database::WithoutExtension) => {
                scheduler.close();
                ROUND
            }
            Err(report) => {
                scheduler.sets.forget();
                scheduler.sets.log(Action::List, "", &report);
                RETRY_DELAY
            }
        };
        job_table::heartbeat(scheduler.servers.are_lacking);
        process::wait(pause);
        if process::reload_config() {
            process::invalidate_all();
        }
    }
}

/// The result of a check of the database.
enum Database {
    /// Another session needs the database without connections: disconnect.
    Wanted,
    /// A new session would have other settings than this one: the launcher starts another scheduler.
    WithOtherSettings,
    /// The extension is not installed.
    WithoutExtension,
    /// There are relation sets to serve. `has_room`: the servers that are needed have a process.
    WithSets { has_room: bool },
}

struct Scheduler {
    settings: SessionSettings,
    sets: Sets,
    servers: Servers,
    prune_changes: Pruning,
    /// It was logged that the extension is not installed.
    is_absence_logged: bool,
}

impl Scheduler {
    fn new(database: (pg_sys::Oid, String), settings: SessionSettings) -> Self {
        Self {
            settings,
            sets: Sets::new(database, None),
            servers: Servers::default(),
            prune_changes: Pruning::default(),
            is_absence_logged: false,
        }
    }

    /// Ends the scheduling of all sets: the extension is gone.
    fn close(&mut self) {
        self.sets.close();
        self.servers.close();
    }

    /// Checks the database, reads the list of relation sets if it has changed, and starts servers.
    fn poll(&mut self) -> Result<Database> {
        if process::is_database_wanted() {
            return Ok(Database::Wanted);
        }
        if self.settings.have_changed()? {
            return Ok(Database::WithOtherSettings);
        }
        if self.sets.must_list() {
            let Some(extension) = Extension::find()? else {
                if !self.is_absence_logged {
                    emit(
                        PgLogLevel::LOG,
                        "segmenter: the scheduler waits for the extension to be created".into(),
                        None,
                    );
                }
                self.is_absence_logged = true;
                return Ok(Database::WithoutExtension);
            };
            self.is_absence_logged = false;
            let listed = self.sets.list(&extension)?;
            self.servers.list(&listed);
        }
        Ok(Database::WithSets { has_room: self.servers.start(self.sets.database) })
    }

    /// Serves the extension's own set. Returns the time until the next round.
    fn round(&mut self, has_room: bool) -> Duration {
        let rounds = self.sets.round(!self.servers.is_empty());
        self.prune_changes();
        self.sets.note_room(!rounds.is_full && has_room);
        rounds.pause()
    }

    /// Deletes captured changes that all segments have read, if it is time.
    fn prune_changes(&mut self) {
        let pruned = self.prune_changes.run(None, || run::prune_changes(&Extension::current()?));
        match pruned {
            None => {}
            Some(Ok(())) => self.sets.errors.clear(Action::PruneChanges),
            Some(Err(report)) => {
                self.sets.log(Action::PruneChanges, ", deleting captured changes", &report);
            }
        }
    }
}
