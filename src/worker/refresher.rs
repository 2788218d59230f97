//! A worker that refreshes one segment, or only hands it over. It is connected as the segment's
//! owner. If that role cannot connect, a hand-over is made by the owner of the set; the bootstrap
//! superuser, for the extension's own set, only writes the ends of audiences, and so reads nothing
//! that users made.

use std::time::{Duration, Instant};

use pgrx::prelude::*;

use crate::catalog::extension::Extension;
use crate::catalog::log::LogStatus;
use crate::catalog::relation_set::RelationSet;
use crate::catalog::settings;
use crate::config::{Key, Segment};
use crate::error::{Error, Report, emit};
use crate::pg::bgw::job_table::{Job, JobResult};
use crate::pg::bgw::process;
use crate::pg::bgw::progress;
use crate::pg::clock;
use crate::pg::exec::role;
use crate::refresh::handover;
use crate::refresh::retention::{self, When};
use crate::refresh::{self, RefreshRequest, Start};
use crate::schedule::run::PlannedRefresh;
use segmenter_core::job::Task;

/// The time that a worker spends on the retention of former members, after its task.
const LONGEST_PRUNING: Duration = Duration::from_secs(60);

pub fn work(job: &Job) -> Result<JobResult, Report> {
    let result = refresh_or_hand_over(job)?;
    // Triggers of the table may run: not as the bootstrap superuser.
    if job.spec.role != 0 {
        prune(job)?;
    }
    Ok(result)
}

/// Applies the retention of the segment's former members if it is time, in steps that are transactions of
/// their own.
fn prune(job: &Job) -> Result<(), Report> {
    let began = Instant::now();
    loop {
        let has_more = limited(|| {
            let set = RelationSet::of_mart(Extension::current()?, job.spec.set.into())?;
            let due = retention::list(&set, Some(role::current()), When::Due)?;
            let own = due.iter().find(|segment| segment.id == job.spec.subject);
            own.map_or(Ok(false), |segment| retention::prune(&set, segment))
        })?;
        if !has_more || began.elapsed() > LONGEST_PRUNING {
            return Ok(());
        }
    }
}

fn refresh_or_hand_over(job: &Job) -> Result<JobResult, Report> {
    let set = job.spec.set.into();
    let set = limited(|| RelationSet::of_mart(Extension::current()?, set))?;
    let segment = limited(|| Segment::find_bare(&set, Key::Id(job.spec.subject)))?;
    let Some(Segment { name, actual, .. }) = segment else { return Ok(JobResult::Done) };
    let what = match job.spec.task {
        Task::HandOver => "handing over",
        _ => "refresh",
    };
    process::announce(&format!("segmenter: {name}"), Some(&format!("{what} of \"{name}\"")));

    let planned = PlannedRefresh::standalone(job.spec.subject, name);
    let request = RefreshRequest {
        is_scheduled: true,
        ends_only: job.spec.role == 0,
        ..planned.request(job.spec.run)
    };
    let (end, is_handed_over) = match job.spec.task {
        Task::Refresh if actual => refresh(&set, &request)?,
        _ => (JobResult::Done, false),
    };
    // Messages that need no refresh (for a new or an ended subscription) are written even if the
    // refresh did not succeed.
    if is_handed_over {
        return Ok(end);
    }
    let handed = limited(|| handover::hand_over(&set, &request))?;
    let is_busy = handed.is_some_and(|handed| handed.status == LogStatus::Skipped);
    Ok(if is_busy && job.spec.task == Task::HandOver { JobResult::Busy } else { end })
}

/// Runs a transaction that is cancelled after `segmenter.refresh_timeout`. Reads of the set's
/// relations are limited, too, since the set's owner could make them run without end.
fn limited<T>(body: impl FnOnce() -> Result<T, Error>) -> Result<T, Report> {
    process::transaction_within(settings::refresh_timeout(), body)
}

/// Refreshes the segment. The flag in the result is true if no hand-over must follow: the refresh
/// wrote the messages, the segment is locked by another session, or it does not exist.
fn refresh(set: &RelationSet, request: &RefreshRequest<'_>) -> Result<(JobResult, bool), Report> {
    match limited(|| refresh::start(set, request))? {
        Start::Now => {}
        Start::Waiting => return Ok((JobResult::Waiting, false)),
        Start::Busy => return Ok((JobResult::Busy, true)),
        // Messages that need no refresh are written.
        Start::Held => return Ok((JobResult::Done, false)),
        Start::Unordered => return Ok((JobResult::Unordered, true)),
        Start::Gone => return Ok((JobResult::Done, true)),
    }
    let (began, timer) = (clock::now(), Instant::now());
    match limited(|| refresh::refresh(set, request)) {
        Ok(outcome) => Ok(match outcome.status {
            LogStatus::Ok => (JobResult::Done, true),
            LogStatus::Skipped => (JobResult::Busy, true),
            LogStatus::Waiting => (JobResult::Done, false),
            _ => (JobResult::Failed, false),
        }),
        Err(report) => {
            let elapsed = timer.elapsed();
            let limit = settings::refresh_timeout().filter(|limit| elapsed >= *limit);
            let cancelled_by = progress::cancelled_by().filter(|_| report.is_cancelled());
            limited(|| {
                let error = match (cancelled_by, limit) {
                    (Some(role), _) => Error::Cancelled { role: role::name(role) },
                    (None, Some(limit)) if report.is_cancelled() => {
                        Error::TimedOut(limit.as_millis())
                    }
                    _ => Error::Postgres(Box::new(report)),
                };
                refresh::fail(set, request, error, (began, elapsed))
            })?;
            if cancelled_by.is_some() {
                log_cancelled(request.name);
            }
            Ok((JobResult::Failed, false))
        }
    }
}

fn log_cancelled(name: &str) {
    emit(
        PgLogLevel::LOG,
        format!("segmenter: the refresh of segment \"{name}\" was cancelled"),
        None,
    );
}
