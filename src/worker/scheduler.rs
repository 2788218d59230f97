//! A scheduler: serves all relation sets of its database.

use std::time::Duration;

use pgrx::prelude::*;

use super::SCHEDULER;
use super::logged::{Action, LoggedErrors};
use super::pruning::Pruning;
use super::set_scheduler::SetScheduler;
use crate::catalog::relation_set::Extension;
use crate::catalog::settings;
use crate::error::{Report, Result, emit};
use crate::pg::bgw::job_table::{self, Job};
use crate::pg::bgw::process;
use crate::pg::clock;
use crate::schedule::run;
use segmenter_core::job::RETRY_DELAY;

/// The longest pause between two rounds.
const ROUND: Duration = Duration::from_secs(1);
/// Seconds to stay disconnected so that `DROP DATABASE`, `ALTER DATABASE` and the like can proceed.
const DATABASE_YIELD_SECONDS: i64 = 10;
pub fn main(database: pg_sys::Oid) {
    process::start();
    if !job_table::claim_scheduler(database) {
        return;
    }
    process::connect(Some(database), None);
    process::set(c"lock_timeout", c"1s");
    process::set(c"search_path", c"pg_catalog, pg_temp");
    process::watch_relations();
    let Ok((database, name)) = process::transaction(|| Ok(process::current_database())) else {
        return;
    };
    process::announce(SCHEDULER, None);

    let mut scheduler = Scheduler::new(database, name);
    while settings::databases().contains(&scheduler.name) {
        scheduler.collect();
        let pause = match process::transaction(|| scheduler.poll()) {
            Ok(Database::Wanted) => {
                job_table::release_with_cooldown(DATABASE_YIELD_SECONDS);
                return;
            }
            Ok(Database::WithSets) => {
                scheduler.errors.clear(Action::List);
                scheduler.round()
            }
            Ok(Database::WithoutExtension) => {
                scheduler.close();
                ROUND
            }
            Err(report) => {
                scheduler.forget();
                scheduler.log(Action::List, "", &report);
                RETRY_DELAY
            }
        };
        job_table::heartbeat();
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
    /// The extension is not installed.
    WithoutExtension,
    /// There are relation sets to serve.
    WithSets,
}

struct Scheduler {
    database: pg_sys::Oid,
    name: String,
    /// The registry that lists the relation sets. None: the list must be read.
    registry: Option<pg_sys::Oid>,
    sets: Vec<SetScheduler>,
    /// Jobs that were collected from the job table and not given to their sets yet.
    collected: Vec<Job>,
    /// Counts the rounds. Each round starts with another set, so that no set is always the last.
    turn: usize,
    prune_changes: Pruning,
    errors: LoggedErrors,
    /// It was logged that the extension is not installed.
    is_absence_logged: bool,
    /// It was logged that there is no room for another worker.
    is_full_logged: bool,
}

impl Scheduler {
    fn new(database: pg_sys::Oid, name: String) -> Self {
        Self {
            database,
            name,
            registry: None,
            sets: Vec::new(),
            collected: Vec::new(),
            turn: 0,
            prune_changes: Pruning::default(),
            errors: LoggedErrors::default(),
            is_absence_logged: false,
            is_full_logged: false,
        }
    }

    /// Takes ended jobs off the job table. This needs no transaction and cannot fail, so no error
    /// keeps a place in the table occupied.
    fn collect(&mut self) {
        self.collected.extend(job_table::collect(self.database));
    }

    /// Gives the collected jobs to their sets. Jobs of sets that do not exist any more are dropped.
    fn distribute(&mut self) {
        for job in self.collected.drain(..) {
            let set = self.sets.iter_mut().find(|set| set.mart.to_u32() == job.spec.set);
            if let Some(set) = set {
                set.add_ended(job);
            }
        }
    }

    /// Makes the next round read everything again. Collected jobs are kept.
    fn forget(&mut self) {
        if let Some(registry) = self.registry.take() {
            process::unwatch(registry);
        }
        self.sets.iter_mut().for_each(SetScheduler::forget);
    }

    /// Ends the scheduling of all sets: the extension is gone.
    fn close(&mut self) {
        self.forget();
        self.sets.drain(..).for_each(SetScheduler::close);
        self.collected.clear();
    }

    /// Checks the database, and reads the list of relation sets if it has changed.
    fn poll(&mut self) -> Result<Database> {
        if process::is_database_wanted() {
            return Ok(Database::Wanted);
        }
        if self.registry.is_some_and(|registry| !process::changed(registry)) {
            return Ok(Database::WithSets);
        }
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
        let registry = extension.registry()?;
        let marts = extension.sets()?;
        process::watch(registry);
        let mut known = std::mem::take(&mut self.sets);
        for (place, mart) in marts.into_iter().enumerate() {
            let set = match known.iter().position(|set| set.mart == mart) {
                Some(at) => known.swap_remove(at),
                None => SetScheduler::new((self.database, &self.name), mart, place == 0),
            };
            self.sets.push(set);
        }
        known.into_iter().for_each(SetScheduler::close);
        self.registry = Some(registry);
        Ok(Database::WithSets)
    }

    /// Serves each set. Returns the time until the next round.
    fn round(&mut self) -> Duration {
        self.distribute();
        let mut next: Option<clock::Instant> = None;
        let mut is_full = false;
        let first = self.turn % self.sets.len().max(1);
        self.turn = self.turn.wrapping_add(1);
        self.sets.rotate_left(first);
        for set in &mut self.sets {
            let round = set.round();
            next = next.into_iter().chain(round.next).min();
            is_full |= round.is_full;
        }
        // Deletions come last: they can take some time.
        self.sets.iter_mut().for_each(SetScheduler::prune);
        self.sets.rotate_right(first);
        self.prune_changes();
        if is_full && !self.is_full_logged {
            emit(
                PgLogLevel::WARNING,
                "segmenter: refreshes wait, since there is no room for another worker".into(),
                Some("Raise max_worker_processes."),
            );
        }
        self.is_full_logged = is_full;
        let until = next.map(|at| (at - clock::now()).to_std().unwrap_or_default());
        until.unwrap_or(ROUND).min(ROUND)
    }

    /// Deletes captured changes that all segments have read, if it is time.
    fn prune_changes(&mut self) {
        let pruned = self.prune_changes.run(None, || run::prune_changes(&Extension::current()?));
        match pruned {
            None => {}
            Some(Ok(())) => self.errors.clear(Action::PruneChanges),
            Some(Err(report)) => {
                self.log(Action::PruneChanges, ", deleting captured changes", &report);
            }
        }
    }

    fn log(&mut self, action: Action, what: &str, report: &Report) {
        let what = format!("scheduler of database \"{}\"{what}", self.name);
        self.errors.log(action, &what, report);
    }
}
