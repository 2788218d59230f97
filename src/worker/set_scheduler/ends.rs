//! The ends of jobs: what is recorded of them, and when their segments are tried again.

use std::time::Duration;

use pgrx::datum::Uuid;
use pgrx::prelude::*;

use super::{Deadline, SetScheduler};
use crate::catalog::relation_set::RelationSet;
use crate::catalog::state::{self, LostRun};
use crate::config::{Key, Segment};
use crate::delivery::push;
use crate::error::{Error, Report, Result, emit};
use crate::pg::bgw::job_table::{self, Job, JobSpec};
use crate::pg::bgw::process;
use crate::pg::clock;
use crate::refresh;
use crate::refresh::handover;
use crate::schedule::due::{self, Item};
use crate::schedule::run::{self, PlannedRefresh};
use crate::worker::logged::Action;
use segmenter_core::job::{Effect, Event, RETRY_DELAY, Task};

impl SetScheduler {
    /// Closes refreshes that are logged as running but have no job, and releases the leases of
    /// workers that are gone: what an earlier scheduler, or a crash, has left behind.
    pub(super) fn recover(&mut self, deadline: &Deadline) -> std::result::Result<(), Report> {
        let database = self.database;
        let jobs = job_table::jobs(database);
        let interrupted = process::transaction_within(deadline.limit(), || {
            let set = self.open()?;
            let served: Vec<Uuid> = jobs
                .iter()
                .filter(|job| job.spec.task == Task::Deliver)
                .map(|job| job.spec.subject)
                .collect();
            push::release(set, None, &served)?;
            state::interrupt(set, || alive(database), None)
        })?;
        interrupted.names.iter().for_each(|name| log_interrupted(name));
        self.is_recovered = !interrupted.is_incomplete;
        Ok(())
    }

    /// Handles the ends of the collected jobs, each in a transaction of its own.
    pub(super) fn handle_ended(&mut self, deadline: &Deadline) {
        for mut ended in std::mem::take(&mut self.ended) {
            let now = clock::now();
            if deadline.is_over() || ended.retry_at.is_some_and(|time| time > now) {
                self.ended.push(ended);
                continue;
            }
            let run = ended.job.spec.run;
            match self.handle(ended.job, deadline) {
                Ok(()) => self.errors.clear(Action::HandleEnd(run)),
                Err(report) => {
                    let what = format!("{}, handling the end of a worker", self.description());
                    self.errors.log(Action::HandleEnd(run), &what, &report);
                    let failed = ended.job.apply(Event::NotHandled, now);
                    let effects = failed.map(|to| to.effects).unwrap_or_default();
                    if effects.contains(&Effect::HandleAgain) {
                        ended.retry_at = Some(clock::now() + RETRY_DELAY);
                        self.ended.push(ended);
                    }
                }
            }
        }
    }

    /// Handles the end of a job: first the effects in the database, then those in memory.
    fn handle(&mut self, mut job: Job, deadline: &Deadline) -> std::result::Result<(), Report> {
        let now = clock::now();
        let Some(handled) = job.apply(Event::Handled, now) else { return Ok(()) };
        let subject = job.spec.subject;
        let database = self.database;
        let item = process::transaction_within(deadline.limit(), || {
            let set = self.open()?;
            for effect in handled.effects {
                match effect {
                    Effect::RecordLostRun => record_lost_run(set, &job, database)?,
                    Effect::RecordOverrun => record_overrun(set, &job)?,
                    Effect::ReleaseLeases => push::release(set, Some(subject), &[])?,
                    _ => {}
                }
            }
            let Some(segment) = job.segment() else { return Ok(None) };
            // The segment may be due again by now, whatever the result was.
            Ok(due::items(set, None, Some(&[segment]))?.pop())
        })?;

        let item = item.as_ref();
        for effect in handled.effects {
            match effect {
                Effect::BackOff if job.segment().is_none() => {
                    self.deliveries.back_off(subject, now);
                }
                Effect::BackOff => {
                    self.not_before.insert(subject, now + RETRY_DELAY);
                }
                Effect::QueueAgain => {
                    if item.is_some_and(|item| !was_attempted(item, &job)) {
                        self.not_before.insert(subject, now + RETRY_DELAY);
                    }
                    self.queue_at(subject, item.and_then(|item| item.next(now)));
                }
                Effect::QueueCheck => {
                    let checked = item.filter(|item| item.due.is_some());
                    self.queue_at(subject, checked.map(|item| item.next_check(now)));
                }
                Effect::Reorder => {
                    let earlier = self.reordered.insert(subject, now);
                    self.reordered.retain(|_, at| *at + RETRY_DELAY > now);
                    if earlier.is_some_and(|at| at + RETRY_DELAY > now) {
                        self.not_before.insert(subject, now + RETRY_DELAY);
                    }
                    self.queue_at(subject, item.and_then(|item| item.next(now)));
                }
                Effect::RemovePending => self.remove_pending(subject),
                Effect::RetryPending => {
                    if let Some(entry) = self.pending.get_mut(&subject) {
                        entry.at = now + RETRY_DELAY;
                    }
                }
                Effect::ListConsumers => self.deliveries.read_again(),
                // In the database, see above.
                Effect::RecordLostRun | Effect::RecordOverrun | Effect::ReleaseLeases => {}
                // Not effects of this event, or not of these tasks.
                Effect::TakePlace | Effect::FreePlace | Effect::HandleAgain | Effect::Resume => {}
            }
        }
        Ok(())
    }

    /// Removes the pending entry of a segment whose worker has written its messages. If the entry
    /// may be newer than the worker, it stays for another one.
    fn remove_pending(&mut self, segment: Uuid) {
        match self.pending.get_mut(&segment) {
            Some(entry) if entry.must_rerun => entry.must_rerun = false,
            Some(_) => {
                self.pending.remove(&segment);
            }
            None => {}
        }
    }
}

/// Whether the worker of a job has left something that the next refresh of the segment is due after:
/// an attempt, or that the segment is waiting. If it has not, whatever the reason is, the segment would
/// be due again at once. A hand-over is no attempt.
fn was_attempted(item: &Item, job: &Job) -> bool {
    job.spec.task != Task::Refresh
        || item.waiting_since.is_some()
        || item.last_refresh().is_some_and(|at| at >= job.requested)
}

/// The runs of the present jobs.
fn alive(database: pg_sys::Oid) -> Vec<Uuid> {
    job_table::jobs(database).iter().map(|job| job.spec.run).collect()
}

/// Records the end of a run whose worker is gone: `failed` if nothing is recorded of it,
/// `interrupted` if it is recorded as running. If another session has refreshed the segment since, the
/// lost run gets its end in the log only.
fn record_lost_run(set: &RelationSet, job: &Job, database: pg_sys::Oid) -> Result<()> {
    let JobSpec { subject: segment, run, .. } = job.spec;
    let lost_at = job.ended.unwrap_or_else(clock::now);
    match state::find_lost_run(set, segment, run, lost_at)? {
        LostRun::Unknown => {
            let Some(name) = run::name_of(set, segment)? else { return Ok(()) };
            let planned = PlannedRefresh::standalone(segment, name.clone());
            let error = Error::WorkerDied(name);
            refresh::fail(set, &planned.request(run), error, (lost_at, Duration::ZERO))?;
        }
        LostRun::Running => {
            let interrupted = state::interrupt(set, || alive(database), Some(segment))?;
            if interrupted.is_incomplete {
                return Err(Error::OpenAttempt(segment));
            }
            interrupted.names.iter().for_each(|name| log_interrupted(name));
        }
        LostRun::Superseded => state::log_lost(set, segment, run)?,
        LostRun::Ended => {}
    }
    Ok(())
}

/// Records the failure of a job whose worker was ended, because its SQL did not react to the
/// cancellation at its time limit.
fn record_overrun(set: &RelationSet, job: &Job) -> Result<()> {
    let JobSpec { task, subject, run, .. } = job.spec;
    let limit = job.overrun.unwrap_or_default();
    let error = |what, limit_name| Error::Overrun {
        what,
        limit: limit_name,
        milliseconds: limit.as_millis(),
    };
    if task == Task::Deliver {
        return push::fail(set, subject, &error("the delivery", "its time limit"));
    }
    let Some(segment) = Segment::find_bare(set, Key::Id(subject))? else { return Ok(()) };
    let planned = PlannedRefresh::standalone(subject, segment.name.clone());
    let request = planned.request(run);
    let elapsed = limit + process::OVERRUN;
    let ended = job.ended.unwrap_or_else(clock::now);
    let began = ended - elapsed;
    let recorded = match task {
        Task::Refresh => state::find_lost_run(set, subject, run, ended)?,
        // The end of the refresh before is recorded.
        _ => LostRun::Ended,
    };
    match recorded {
        LostRun::Unknown | LostRun::Running => {
            let error = error("the refresh", "segmenter.refresh_timeout");
            refresh::fail(set, &request, error, (began, elapsed)).map(drop)
        }
        LostRun::Ended => {
            let error = error("the hand-over", "segmenter.refresh_timeout");
            handover::fail(set, &request, Some(&segment), error, (began, elapsed)).map(drop)
        }
        LostRun::Superseded => state::log_lost(set, subject, run),
    }
}

fn log_interrupted(name: &str) {
    emit(
        PgLogLevel::LOG,
        format!("segmenter: the refresh of segment \"{name}\" was interrupted"),
        None,
    );
}
