//! The launcher: keeps a scheduler running for each database in `segmenter.databases`.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use pgrx::prelude::*;

use super::{LAUNCHER, SCHEDULER, log_error};
use crate::catalog::settings;
use crate::error::emit;
use crate::pg::bgw::job_table;
use crate::pg::bgw::process;

/// The longest pause between two checks of the databases and their schedulers.
const ROUND: Duration = Duration::from_secs(5);
/// Delay before a scheduler is started again. It doubles with each start, up to [`MAX_PAUSE`].
const PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// What the launcher remembers about a database.
#[derive(Default)]
struct Database {
    /// The database does not exist, and this has been logged.
    is_missing: bool,
    /// When a scheduler was last requested, and the delay before it may be requested again.
    requested: Option<(Instant, Duration)>,
}

pub fn main() {
    process::start();
    process::connect(None, None);
    process::announce(LAUNCHER, None);
    let mut databases: HashMap<String, Database> = HashMap::new();
    let mut is_full = false;
    loop {
        let names = settings::databases();
        databases.retain(|name, _| names.contains(name));
        let existing = process::transaction(|| Ok(process::databases())).unwrap_or_else(|report| {
            log_error("cannot list the databases", &report);
            HashMap::new()
        });
        let mut no_room = false;
        for name in names {
            let known = databases.entry(name.clone()).or_default();
            match existing.get(&name) {
                Some(&oid) => {
                    known.is_missing = false;
                    if !job_table::is_taken(oid) {
                        // It has not failed: its successor need not wait.
                        if job_table::take_released(oid) {
                            known.requested = None;
                        }
                        no_room |= !known.request_scheduler(&name, oid);
                    }
                }
                None => known.log_missing(&name),
            }
        }
        if no_room && !is_full {
            emit(
                PgLogLevel::WARNING,
                "segmenter: no room for another scheduler".into(),
                Some("Raise max_worker_processes. It will be tried again."),
            );
        }
        is_full = no_room;
        // A database that has no scheduler any more keeps no places in the job table.
        job_table::remove_abandoned();
        process::wait(databases.values().map(Database::pause).min().unwrap_or(ROUND).min(ROUND));
        process::reload_config();
    }
}

impl Database {
    /// Requests the database's scheduler, unless the delay since the last request is not over.
    /// Returns false if there is no room for another process.
    fn request_scheduler(&mut self, name: &str, oid: pg_sys::Oid) -> bool {
        let pause = match self.requested {
            None => PAUSE,
            Some((time, pause)) if time.elapsed() < pause => return true,
            // The last request is long ago, so the scheduler was running: start with the shortest
            // delay.
            Some((time, _)) if time.elapsed() > 2 * MAX_PAUSE => PAUSE,
            Some((_, pause)) => (2 * pause).min(MAX_PAUSE),
        };
        self.requested = Some((Instant::now(), pause));
        process::spawn(
            SCHEDULER,
            &format!("segmenter scheduler for {name}"),
            "segmenter_scheduler",
            pg_sys::Datum::from(oid.to_u32()),
        )
    }

    /// The time until a scheduler may be requested again; [`ROUND`] if that time is over.
    fn pause(&self) -> Duration {
        let left = self.requested.map(|(time, pause)| pause.saturating_sub(time.elapsed()));
        left.filter(|left| !left.is_zero()).unwrap_or(ROUND)
    }

    fn log_missing(&mut self, name: &str) {
        if !self.is_missing {
            emit(
                PgLogLevel::WARNING,
                format!("segmenter: database \"{name}\" does not exist"),
                Some("Create it, or take it out of segmenter.databases."),
            );
        }
        *self = Database { is_missing: true, requested: None };
    }
}
