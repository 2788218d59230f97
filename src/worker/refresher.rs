//! A worker: one refresh of one segment, connected as the segment's owner.

use std::time::Instant;

use super::complain;
use crate::error::{Error, Report};
use crate::guc;
use crate::pg::board::{self, End, Ticket};
use crate::pg::{clock, process};
use crate::refresh::{self, Start};
use crate::run::{self, Planned};
use crate::service::Service;

pub fn main(ticket: Ticket) {
    process::start();
    let Some(job) = board::begin(ticket) else { return };
    process::connect(Some(job.database.into()), Some(job.role.into()));
    match refresh(&job) {
        Ok(end) => {
            process::flush_statistics();
            board::end(ticket, end);
        }
        // The scheduler sees what the log lacks.
        Err(report) => complain("a worker could not go on", &report),
    }
}

fn refresh(job: &board::Job) -> Result<End, Report> {
    let service = process::transaction(Service::current)?;
    let name = process::transaction(|| run::name_of(&service, job.segment()))?;
    let Some(name) = name else { return Ok(End::Done) };
    process::announce(&format!("segmenter: {name}"), Some(&format!("refresh of \"{name}\"")));

    let planned = Planned::alone(job.segment(), name);
    let request = planned.request(job.run());
    match process::transaction(|| refresh::start(&service, &request))? {
        Start::Now => {}
        Start::Waiting => return Ok(End::Waiting),
        Start::Busy => return Ok(End::Busy),
        Start::Gone => return Ok(End::Done),
    }
    let (began, timer) = (clock::now(), Instant::now());
    let limit = guc::refresh_timeout();
    let refreshed = {
        let _limit = process::Limit::begin(limit);
        process::transaction(|| refresh::refresh(&service, &request))
    };
    if let Err(report) = refreshed {
        let elapsed = timer.elapsed();
        let error = match limit {
            Some(limit) if elapsed >= limit && report.is_cancelled() => {
                Error::TimedOut(limit.as_millis())
            }
            _ => Error::Postgres(Box::new(report)),
        };
        process::transaction(|| refresh::fail(&service, &request, error, (began, elapsed)))?;
    }
    Ok(End::Done)
}
