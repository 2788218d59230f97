//! A scheduler: serves all relation sets of its database.

use std::time::{Duration, Instant};

use pgrx::prelude::*;

use super::set_scheduler::{Limits, RETRY_DELAY, Round, SetScheduler, has_ended};
use super::{SCHEDULER, log_error};
use crate::catalog::relation_set::Extension;
use crate::catalog::settings;
use crate::error::{Report, Result, emit};
use crate::pg::bgw::job_table::{self, Job, JobHandle};
use crate::pg::bgw::process;
use crate::pg::clock;

/// The longest pause between two rounds.
const ROUND: Duration = Duration::from_secs(1);
/// Seconds to stay disconnected so that `DROP DATABASE`, `ALTER DATABASE` and the like can proceed.
const DATABASE_YIELD_SECONDS: i64 = 10;
/// Time limit of a round for a set other than the extension's own. The set's owner could make the
/// round slow, which would delay the other sets.
const MAX_ROUND: Duration = Duration::from_secs(10);

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

    let mut scheduler =
        Scheduler { database, name, sets: None, turn: 0, said: LastLogged::default() };
    while settings::databases().contains(&scheduler.name) {
        let pause = match process::transaction(|| scheduler.poll()) {
            Ok(TickResult::Leave) => {
                job_table::release_with_cooldown(DATABASE_YIELD_SECONDS);
                return;
            }
            Ok(TickResult::Sets) => {
                scheduler.said.trouble = None;
                scheduler.round()
            }
            Ok(TickResult::Absent) => {
                let ended = job_table::jobs(database).into_iter().filter(|(_, job)| is_over(job));
                ended.for_each(|(ticket, _)| job_table::remove(ticket));
                ROUND
            }
            Err(report) => {
                scheduler.forget();
                log_once(&mut scheduler.said.trouble, &scheduler.name, None, report);
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
enum TickResult {
    /// Another session needs the database without connections: disconnect.
    Leave,
    /// The extension is not installed.
    Absent,
    /// There are relation sets to serve.
    Sets,
}

/// What was logged last. It is not logged again while it lasts.
#[derive(Default)]
struct LastLogged {
    trouble: Option<String>,
    absent: bool,
    full: bool,
}

/// A relation set, and the state of serving it.
struct SetState {
    set: SetScheduler,
    is_own: bool,
    /// After an error the set is not served before this time.
    backoff_until: Option<Instant>,
    trouble: Option<String>,
}

struct Scheduler {
    database: pg_sys::Oid,
    name: String,
    /// The relation sets, with the oid of the registry that lists them. None: the extension is not
    /// installed, or the state was discarded after an error.
    sets: Option<(pg_sys::Oid, Vec<SetState>)>,
    /// Counts the rounds. Each round starts with another set, so that no set is always the last.
    turn: usize,
    said: LastLogged,
}

impl Scheduler {
    /// Discards all state. The next round reads it again.
    fn forget(&mut self) {
        if let Some((registry, mut sets)) = self.sets.take() {
            process::unwatch(registry);
            sets.iter_mut().for_each(|served| served.set.forget());
        }
    }

    /// Checks the database, and reads the list of relation sets if it has changed.
    fn poll(&mut self) -> Result<TickResult> {
        if process::is_database_wanted() {
            return Ok(TickResult::Leave);
        }
        if let Some((registry, _)) = &self.sets
            && !process::changed(*registry)
        {
            return Ok(TickResult::Sets);
        }
        let Some(extension) = Extension::find()? else {
            self.forget();
            if !self.said.absent {
                emit(
                    PgLogLevel::LOG,
                    "segmenter: the scheduler waits for the extension to be created".into(),
                    None,
                );
            }
            self.said.absent = true;
            return Ok(TickResult::Absent);
        };
        self.said.absent = false;
        let registry = extension.registry()?;
        process::watch(registry);
        let mut known = self.sets.take().map(|(_, sets)| sets).unwrap_or_default();
        let mut sets = Vec::new();
        for (place, mart) in extension.sets()?.into_iter().enumerate() {
            let at = known.iter().position(|served| served.set.mart == mart);
            sets.push(at.map(|at| known.swap_remove(at)).unwrap_or_else(|| SetState {
                set: SetScheduler::new(self.database, mart),
                is_own: place == 0,
                backoff_until: None,
                trouble: None,
            }));
        }
        known.iter_mut().for_each(|served| served.set.forget());
        self.sets = Some((registry, sets));
        Ok(TickResult::Sets)
    }

    /// Serves each set in a transaction of its own. Returns the time until the next round.
    fn round(&mut self) -> Duration {
        let Some((_, sets)) = &mut self.sets else { return ROUND };
        let mut next: Option<clock::Instant> = None;
        let mut is_full = false;
        let first = self.turn % sets.len().max(1);
        self.turn = self.turn.wrapping_add(1);
        sets.rotate_left(first);
        for served in sets.iter_mut() {
            if served.backoff_until.is_some_and(|until| until > Instant::now()) {
                continue;
            }
            // The jobs are read before the transaction takes its snapshot. So the snapshot contains
            // all that the ended workers have committed.
            let (own, others) = self::jobs(self.database, served.set.mart);
            let limits = limits(&others);
            let limit = (!served.is_own).then_some(MAX_ROUND);
            match process::transaction_within(limit, || served.set.round(&own, limits)) {
                Ok(Round { ended, next: own_next, is_full: own_full }) => {
                    ended.into_iter().for_each(job_table::remove);
                    (served.backoff_until, served.trouble) = (None, None);
                    next = next.into_iter().chain(own_next).min();
                    is_full |= own_full;
                }
                Err(report) => {
                    served.set.forget();
                    served.backoff_until = Some(Instant::now() + RETRY_DELAY);
                    let set = served.set.name.as_deref();
                    log_once(&mut served.trouble, &self.name, set, report);
                }
            }
        }
        sets.rotate_right(first);
        self.remove_orphaned_jobs();
        if is_full && !self.said.full {
            emit(
                PgLogLevel::WARNING,
                "segmenter: refreshes wait, since there is no room for another worker".into(),
                Some("Raise max_worker_processes."),
            );
        }
        self.said.full = is_full;
        let until = next.map(|at| (at - clock::now()).to_std().unwrap_or_default());
        until.unwrap_or(ROUND).min(ROUND)
    }

    /// Removes ended jobs whose set no longer exists.
    fn remove_orphaned_jobs(&self) {
        let Some((_, sets)) = &self.sets else { return };
        for (ticket, job) in job_table::jobs(self.database) {
            let is_known = sets.iter().any(|served| served.set.mart.to_u32() == job.set);
            if !is_known && is_over(&job) {
                job_table::remove(ticket);
            }
        }
    }
}

fn is_over(job: &Job) -> bool {
    has_ended(job, clock::now())
}

type Jobs = Vec<(JobHandle, Job)>;

/// The jobs of a set, and the jobs of all other sets of the database.
fn jobs(database: pg_sys::Oid, mart: pg_sys::Oid) -> (Jobs, Jobs) {
    job_table::jobs(database).into_iter().partition(|(_, job)| job.set == mart.to_u32())
}

/// The numbers of workers that the other sets leave free within the limits of the database.
fn limits(others: &[(JobHandle, Job)]) -> Limits {
    let busy = |is_refresh: bool| {
        let others = others.iter().filter(|(_, job)| !is_over(job));
        others.filter(|(_, job)| job.segment().is_some() == is_refresh).count()
    };
    Limits {
        refreshes: settings::max_workers().saturating_sub(busy(true)),
        deliveries: settings::max_deliveries().saturating_sub(busy(false)),
    }
}

/// Logs an error, unless it is the one that was logged last.
fn log_once(said: &mut Option<String>, name: &str, set: Option<&str>, report: Report) {
    if said.as_ref() == Some(&report.message) {
        return;
    }
    let what = match set {
        Some(set) => format!("scheduler of database \"{name}\", set {set}"),
        None => format!("scheduler of database \"{name}\""),
    };
    log_error(&what, &report);
    *said = Some(report.message);
}
