//! The background workers: the launcher starts a scheduler for each configured database; a
//! scheduler starts a worker for each refresh, and for each consumer that workers serve. This
//! module holds no rules: `schedule::due` decides when a segment is due, `schedule::run` in which
//! order segments are refreshed, `delivery::push` how a consumer is served, and
//! `segmenter_core::job` what the end of a job leads to. `README.md` beside this file describes the
//! processes and the life of a job.

use std::time::Duration;

use pgrx::prelude::*;

use crate::delivery::push::serve;
use crate::error::{Report, emit};
use crate::pg::bgw::job_table::{self, JobHandle, JobResult, JobSpec};
use crate::pg::bgw::process;
use segmenter_core::job::Task;

mod deliveries;
mod launcher;
mod logged;
mod pruning;
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
    work(JobHandle::from(argument.value() as u64));
}

/// Adds a job to the job table and requests a worker for it. `name`: the name of the process.
/// Returns false if the job table is full, or if there is no room for another process.
fn start(spec: JobSpec, name: &str) -> bool {
    let Some(handle) = job_table::request(spec) else { return false };
    let argument = pg_sys::Datum::from(u64::from(handle));
    let is_started = process::spawn(WORKER, name, "segmenter_worker", argument);
    if !is_started {
        job_table::cancel(handle);
    }
    is_started
}

/// Does a job that the scheduler has requested, connected as the role of the job.
fn work(handle: JobHandle) {
    process::start();
    let Some(job) = job_table::begin(handle) else { return };
    let JobSpec { task, database, set, role, subject, .. } = job.spec;
    process::connect(Some(database.into()), (role != 0).then(|| role.into()));
    let worked = match task {
        Task::Refresh | Task::HandOver => refresher::work(&job),
        Task::Deliver => serve(set.into(), subject).map(|()| JobResult::Done),
    };
    match worked {
        Ok(result) => {
            process::flush_statistics();
            job_table::report(handle, result);
        }
        // Nothing is reported here. When the process exits, the job ends as `Died`, and the
        // scheduler handles that.
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
