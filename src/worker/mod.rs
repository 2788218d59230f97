//! The background workers: the launcher starts a scheduler for each configured database; a
//! scheduler starts a worker for each refresh, and for each consumer that workers serve. This
//! module holds no rules: `schedule::due` decides when a segment is due, `schedule::run` in which
//! order segments are refreshed, `delivery::push` how a consumer is served. `README.md` beside this
//! file describes the processes and the life of a job.

use std::time::Duration;

use pgrx::datum::Uuid;
use pgrx::prelude::*;

use crate::delivery::push::serve;
use crate::error::{Report, Result, emit};
use crate::pg::bgw::job_table;
use crate::pg::bgw::job_table::{JobHandle, JobResult, Task};
use crate::pg::bgw::process;
use crate::schedule::run;

mod deliveries;
mod launcher;
mod refresher;
mod scheduler;
mod set_scheduler;

const LAUNCHER: &str = "segmenter launcher";
const SCHEDULER: &str = "segmenter scheduler";
const WORKER: &str = "segmenter worker";

/// Called when the library is loaded. While the server preloads it, allocates the job table and
/// registers the launcher.
pub fn init() {
    if process::is_preloading() {
        job_table::init();
        process::register(LAUNCHER, "segmenter_launcher", Duration::from_secs(1));
    }
}

#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn segmenter_launcher(_argument: pg_sys::Datum) {
    launcher::main();
}

#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn segmenter_scheduler(argument: pg_sys::Datum) {
    scheduler::main(pg_sys::Oid::from(argument.value() as u32));
}

#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn segmenter_worker(argument: pg_sys::Datum) {
    work(job_table::JobHandle::from_datum(argument));
}

/// Adds a job to the job table and starts a worker for it. `set`: the database and the mart;
/// `role`: the role that the worker connects as, or `InvalidOid` for the bootstrap superuser;
/// `subject`: the segment or the consumer; `name`: the name of the process. Returns false if the
/// job table is full, or if there is no room for another process.
fn start(
    set: (pg_sys::Oid, pg_sys::Oid),
    task: Task,
    role: pg_sys::Oid,
    subject: Uuid,
    name: &str,
) -> Result<bool> {
    let ticket = job_table::add(set, task, role, subject, run::new_id());
    let started = ticket
        .is_some_and(|ticket| process::spawn(WORKER, name, "segmenter_worker", ticket.to_datum()));
    if !started {
        ticket.into_iter().for_each(job_table::remove);
    }
    Ok(started)
}

/// Does a job that the scheduler has requested, connected as the role of the job.
fn work(ticket: JobHandle) {
    process::start();
    let Some(job) = job_table::begin(ticket) else { return };
    let role = (job.role != 0).then(|| job.role.into());
    process::connect(Some(job.database.into()), role);
    let worked = match job.task {
        Task::Refresh | Task::HandOver => refresher::work(&job),
        Task::Deliver => serve(job.set.into(), job.subject()).map(|()| JobResult::Done),
    };
    match worked {
        Ok(end) => {
            process::flush_statistics();
            job_table::end(ticket, end);
        }
        // The job is not marked as ended here. When the process exits its result becomes `Died`,
        // and the scheduler writes the missing log entry.
        Err(report) => log_error("a background worker ended", &report),
    }
}

/// Writes an error of a background process to the server's log. `what`: what could not be done.
fn log_error(what: &str, report: &Report) {
    emit(
        PgLogLevel::WARNING,
        format!("segmenter: {what}: {}", report.to_line()),
        report.hint.as_deref(),
    );
}
