//! The relation sets that one process serves: the scheduler the extension's own, a server those of
//! its role.

use std::time::Duration;

use pgrx::prelude::*;

use super::logged::{Action, LoggedErrors};
use super::set_scheduler::SetScheduler;
use crate::catalog::extension::Extension;
use crate::catalog::registry::RegisteredSet;
use crate::error::{Report, Result, emit};
use crate::pg::bgw::job_table::{self, Job};
use crate::pg::bgw::process;
use crate::pg::clock;
use segmenter_core::job::Task;

/// The longest pause between two rounds.
pub const ROUND: Duration = Duration::from_secs(1);

/// The result of a round of all sets.
#[derive(Default)]
pub struct Rounds {
    /// The next time at which something is due.
    pub next: Option<clock::Instant>,
    /// There was no room for another worker.
    pub is_full: bool,
}

impl Rounds {
    /// The time until the next round.
    pub fn pause(&self) -> Duration {
        let until = self.next.map(|at| (at - clock::now()).to_std().unwrap_or_default());
        until.unwrap_or(ROUND).min(ROUND)
    }
}

pub struct Sets {
    pub database: pg_sys::Oid,
    pub database_name: String,
    /// Whose sets they are. None: the extension's own set.
    owner: Option<pg_sys::Oid>,
    /// The registry that lists the relation sets. None: the list must be read.
    registry: Option<pg_sys::Oid>,
    sets: Vec<SetScheduler>,
    /// Jobs that were collected from the job table and not given to their sets yet.
    collected: Vec<Job>,
    /// Counts the rounds. Each round starts with another set, so that no set is always the last.
    turn: usize,
    /// It was logged that there is no room for another worker.
    is_full_logged: bool,
    pub errors: LoggedErrors,
}

impl Sets {
    pub fn new(
        (database, database_name): (pg_sys::Oid, String),
        owner: Option<pg_sys::Oid>,
    ) -> Self {
        Self {
            database,
            database_name,
            owner,
            registry: None,
            sets: Vec::new(),
            collected: Vec::new(),
            turn: 0,
            is_full_logged: false,
            errors: LoggedErrors::default(),
        }
    }

    /// Takes ended jobs of the sets off the job table. This needs no transaction and cannot fail, so
    /// no error keeps a place in the table occupied.
    pub fn collect(&mut self) {
        let is_own = |set: u32| self.sets.iter().any(|own| own.mart.to_u32() == set);
        let jobs =
            job_table::collect(self.database, |spec| spec.task != Task::Serve && is_own(spec.set));
        self.collected.extend(jobs);
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
    pub fn forget(&mut self) {
        if let Some(registry) = self.registry.take() {
            process::unwatch(registry);
        }
        self.sets.iter_mut().for_each(SetScheduler::forget);
    }

    /// Ends the scheduling of all sets.
    pub fn close(&mut self) {
        self.forget();
        self.sets.drain(..).for_each(SetScheduler::close);
        self.collected.clear();
    }

    /// Whether the list of sets must be read.
    pub fn must_list(&self) -> bool {
        self.registry.is_none_or(process::changed)
    }

    /// Reads the list of relation sets. Returns it with the sets of others.
    pub fn list(&mut self, extension: &Extension) -> Result<Vec<RegisteredSet>> {
        let registry = extension.registry()?;
        let listed = extension.sets()?;
        process::watch(registry);
        let mut known = std::mem::take(&mut self.sets);
        for listed in &listed {
            let is_served = match self.owner {
                None => listed.is_own,
                Some(owner) => !listed.is_own && listed.owner == Some(owner),
            };
            if !is_served {
                continue;
            }
            let set = match known.iter().position(|set| set.mart == listed.mart) {
                Some(at) => {
                    let mut set = known.swap_remove(at);
                    set.read_again();
                    set
                }
                None => SetScheduler::new(
                    (self.database, &self.database_name),
                    listed.mart,
                    listed.is_own,
                ),
            };
            self.sets.push(set);
        }
        known.into_iter().for_each(SetScheduler::close);
        self.registry = Some(registry);
        Ok(listed)
    }

    /// Serves each set. `is_shared`: other roles have sets.
    pub fn round(&mut self, is_shared: bool) -> Rounds {
        self.distribute();
        let mut result = Rounds::default();
        let first = self.turn % self.sets.len().max(1);
        self.turn = self.turn.wrapping_add(1);
        self.sets.rotate_left(first);
        for set in &mut self.sets {
            let round = set.round(is_shared);
            result.next = result.next.into_iter().chain(round.next).min();
            result.is_full |= round.is_full;
        }
        // Deletions come last: they can take some time.
        self.sets.iter_mut().for_each(SetScheduler::prune);
        self.sets.rotate_right(first);
        result
    }

    /// Whether no set has anything to be done before its next time, and no job is running.
    pub fn are_idle(&self) -> bool {
        let jobs = job_table::jobs(self.database);
        let has_job = |set: &SetScheduler| {
            jobs.iter().any(|job| job.spec.task != Task::Serve && job.spec.set == set.mart.to_u32())
        };
        self.collected.is_empty() && self.sets.iter().all(|set| !has_job(set) && set.is_idle())
    }

    /// Whether a round of any set has come to its end.
    pub fn was_any_served(&self) -> bool {
        self.sets.iter().any(|set| set.was_served)
    }

    /// Logs, once, that there is no room for another worker.
    pub fn note_room(&mut self, has_room: bool) {
        if !has_room && !self.is_full_logged {
            emit(
                PgLogLevel::WARNING,
                "segmenter: refreshes wait, since there is no room for another worker".into(),
                Some("Raise max_worker_processes."),
            );
        }
        self.is_full_logged = !has_room;
    }

    pub fn log(&mut self, action: Action, what: &str, report: &Report) {
        let what = format!("scheduler of database \"{}\"{what}", self.database_name);
        self.errors.log(action, &what, report);
    }
}
