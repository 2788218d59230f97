//! A worker: one refresh of one segment, or only its handing over, connected as the segment's owner.

use std::time::Instant;

use crate::catalog::log::Status;
use crate::catalog::relation_set::{Extension, Service};
use crate::catalog::settings;
use crate::config::{Key, Segment};
use crate::error::{Error, Report};
use crate::pg::bgw::job_table::{End, Job, Task};
use crate::pg::bgw::process;
use crate::pg::clock;
use crate::refresh::handover;
use crate::refresh::{self, Request, Start};
use crate::schedule::run::Planned;

pub fn work(job: &Job) -> Result<End, Report> {
    let set = job.set.into();
    let service = limited(|| Service::of_mart(Extension::current()?, set))?;
    let segment = limited(|| Segment::find(&service, Key::Id(job.subject())))?;
    let Some(Segment { name, actual, .. }) = segment else { return Ok(End::Done) };
    let what = match job.task {
        Task::HandOver => "handing over",
        _ => "refresh",
    };
    process::announce(&format!("segmenter: {name}"), Some(&format!("{what} of \"{name}\"")));

    let planned = Planned::alone(job.subject(), name);
    let request = planned.request(job.run());
    let (end, is_handed_over) = match job.task {
        Task::Refresh if actual => refresh(&service, &request)?,
        _ => (End::Done, false),
    };
    // What new subscribers are owed does not wait for a refresh that comes through.
    if is_handed_over {
        return Ok(end);
    }
    let handed = limited(|| handover::hand_over(&service, &request))?;
    let is_busy = handed.is_some_and(|handed| handed.status == Status::Skipped);
    Ok(if is_busy && job.task == Task::HandOver { End::Busy } else { end })
}

/// Runs a transaction of no more than `segmenter.refresh_timeout`: who owns a set may keep whoever reads
/// its rows waiting, too.
fn limited<T>(body: impl FnOnce() -> Result<T, Error>) -> Result<T, Report> {
    process::transaction_within(settings::refresh_timeout(), body)
}

/// Refreshes, and says whether that has handed over as well.
fn refresh(service: &Service, request: &Request<'_>) -> Result<(End, bool), Report> {
    match limited(|| refresh::start(service, request))? {
        Start::Now => {}
        Start::Waiting => return Ok((End::Waiting, false)),
        Start::Busy => return Ok((End::Busy, true)),
        Start::Gone => return Ok((End::Done, true)),
    }
    let (began, timer) = (clock::now(), Instant::now());
    match limited(|| refresh::refresh(service, request)) {
        Ok(outcome) => Ok((End::Done, matches!(outcome.status, Status::Ok | Status::Skipped))),
        Err(report) => {
            let elapsed = timer.elapsed();
            let error = match settings::refresh_timeout() {
                Some(limit) if elapsed >= limit && report.is_cancelled() => {
                    Error::TimedOut(limit.as_millis())
                }
                _ => Error::Postgres(Box::new(report)),
            };
            limited(|| refresh::fail(service, request, error, (began, elapsed)))?;
            Ok((End::Done, false))
        }
    }
}
