//! A scheduler: serves every set of service relations of its database.

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

/// How often it looks round at least.
const ROUND: Duration = Duration::from_secs(1);
/// For so many seconds it leaves a database alone that somebody wants for himself.
const DATABASE_YIELD_SECONDS: i64 = 10;
/// A set that is somebody's may not keep the others waiting for longer.
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

/// What a look at the database says.
enum TickResult {
    /// Somebody wants it without us.
    Leave,
    /// The extension is not there.
    Absent,
    /// There are sets to serve.
    Sets,
}

/// What was said in the server's log, not to be said again while it lasts.
#[derive(Default)]
struct LastLogged {
    trouble: Option<String>,
    absent: bool,
    full: bool,
}

/// A set, and how it went with it.
struct SetState {
    set: SetScheduler,
    is_own: bool,
    /// It is left alone until then, since something went wrong.
    backoff_until: Option<Instant>,
    trouble: Option<String>,
}

struct Scheduler {
    database: pg_sys::Oid,
    name: String,
    /// With the relation that lists them; none: the extension is not there, or may have changed.
    sets: Option<(pg_sys::Oid, Vec<SetState>)>,
    /// Which of them comes first this time.
    turn: usize,
    said: LastLogged,
}

impl Scheduler {
    /// Starts from nothing at the next round.
    fn forget(&mut self) {
        if let Some((registry, mut sets)) = self.sets.take() {
            process::unwatch(registry);
            sets.iter_mut().for_each(|served| served.set.forget());
        }
    }

    /// Sees which sets there are.
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

    /// Serves each set in a transaction of its own; gives how long there is nothing to do.
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
            // Before the snapshot is taken: what a worker has done by then is in it.
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

    /// Takes jobs off the board that are over and whose set is gone.
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

/// The jobs of a set, and those of the others.
fn jobs(database: pg_sys::Oid, mart: pg_sys::Oid) -> (Jobs, Jobs) {
    job_table::jobs(database).into_iter().partition(|(_, job)| job.set == mart.to_u32())
}

/// What the other sets leave of the workers that a database may have.
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

/// Says what went wrong, unless it is what was said before.
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
