//! A worker: one refresh of one segment, or only its handing over, connected as the segment's owner.

use std::time::Instant;

use crate::config::{Key, Segment};
use crate::error::{Error, Report};
use crate::guc;
use crate::handover;
use crate::log::Status;
use crate::pg::board::{End, Job, Task};
use crate::pg::{clock, process};
use crate::refresh::{self, Request, Start};
use crate::run::Planned;
use crate::service::{Extension, Service};

pub fn work(job: &Job) -> Result<End, Report> {
    let set = job.set.into();
    // Whoever owns a set may keep it waiting for its rows, too.
    let limited = process::Limit::begin(guc::refresh_timeout());
    let service = process::transaction(|| Service::of_mart(Extension::current()?, set))?;
    let segment = process::transaction(|| Segment::find(&service, Key::Id(job.subject())))?;
    drop(limited);
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
    let handed = process::transaction(|| handover::hand_over(&service, &request))?;
    let is_busy = handed.is_some_and(|handed| handed.status == Status::Skipped);
    Ok(if is_busy && job.task == Task::HandOver { End::Busy } else { end })
}

/// Refreshes, and says whether that has handed over as well.
fn refresh(service: &Service, request: &Request<'_>) -> Result<(End, bool), Report> {
    match process::transaction(|| refresh::start(service, request))? {
        Start::Now => {}
        Start::Waiting => return Ok((End::Waiting, false)),
        Start::Busy => return Ok((End::Busy, true)),
        Start::Gone => return Ok((End::Done, true)),
    }
    let (began, timer) = (clock::now(), Instant::now());
    let limit = guc::refresh_timeout();
    let refreshed = {
        let _limit = process::Limit::begin(limit);
        process::transaction(|| refresh::refresh(service, request))
    };
    match refreshed {
        Ok(outcome) => Ok((End::Done, matches!(outcome.status, Status::Ok | Status::Skipped))),
        Err(report) => {
            let elapsed = timer.elapsed();
            let error = match limit {
                Some(limit) if elapsed >= limit && report.is_cancelled() => {
                    Error::TimedOut(limit.as_millis())
                }
                _ => Error::Postgres(Box::new(report)),
            };
            process::transaction(|| refresh::fail(service, request, error, (began, elapsed)))?;
            Ok((End::Done, false))
        }
    }
}
