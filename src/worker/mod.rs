//! The background workers: the launcher starts a scheduler for each configured database; a
//! scheduler starts a worker for each refresh, and for each consumer that workers serve. This
//! module holds no rules: `schedule::due` decides when a segment is due, `schedule::run` in which
//! order segments are refreshed, `delivery::push` how a consumer is served, and
//! `segmenter_core::job` what the end of a job leads to. `README.md` beside this file describes the
//! processes and the life of a job.

use std::time::Duration;

use pgrx::prelude::*;

use crate::catalog::relation_set::RelationSet;
use crate::catalog::settings;
use crate::delivery::push::serve;
use crate::error::{Report, emit};
use crate::pg::bgw::job_table::{self, JobHandle, JobResult, JobSpec, Limits, Refusal};
use crate::pg::bgw::process;
use crate::pg::bgw::progress;
use segmenter_core::job::{Kind, Task};

mod deliveries;
mod launcher;
mod logged;
mod pruning;
mod refresher;
mod scheduler;
mod server;
mod servers;
mod set_scheduler;
mod sets;

const LAUNCHER: &str = "segmenter launcher";
const SCHEDULER: &str = "segmenter scheduler";
const WORKER: &str = "segmenter worker";
/// The application name of a server, which is a worker, too.
const SERVER: &str = "segmenter server";

/// Called when the library is loaded. While the server preloads it, allocates the job table and the
/// progress, and registers the launcher.
pub fn init() {
    if process::is_preloading() {
        job_table::init();
        progress::init();
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

/// Prepares a process that schedules refreshes.
fn prepare_scheduling() {
    process::set(c"lock_timeout", c"1s");
    process::set(c"search_path", c"pg_catalog, pg_temp");
    process::watch_relations();
}

/// Whether a worker was started.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Started {
    Yes,
    /// As many workers of this kind are running as may.
    Busy,
    /// As many are running for its role or its set as may.
    ShareTaken,
    /// The job table is full, or there is no room for another process.
    NoRoom,
}

/// Adds a job to the job table and requests a worker for it. `name`: the name of the process.
fn start(spec: JobSpec, limits: Limits, name: &str) -> Started {
    let handle = match job_table::request(spec, limits) {
        Ok(handle) => handle,
        Err(Refusal::DatabaseFull) => return Started::Busy,
        Err(Refusal::ShareTaken) => return Started::ShareTaken,
        Err(Refusal::TableFull) => return Started::NoRoom,
    };
    let argument = pg_sys::Datum::from(u64::from(handle));
    if !process::spawn(WORKER, name, "segmenter_worker", argument) {
        job_table::cancel(handle);
        return Started::NoRoom;
    }
    Started::Yes
}

/// How many jobs a database may have, and how many of them a role and a set. `is_own`: the set is the
/// extension's own, which all roles share. `is_shared`: there are other roles to leave a place to.
fn limits(kind: Kind, is_own: bool, is_shared: bool) -> Limits {
    let (in_database, per_role) = match kind {
        Kind::Refreshes => (settings::max_workers(), settings::max_workers_per_role()),
        Kind::Deliveries => (settings::max_deliveries(), settings::max_deliveries_per_role()),
        // One for all sets of a role.
        Kind::Servers => (settings::max_workers(), 1),
    };
    let share = match per_role {
        0 if is_shared => in_database.saturating_sub(1).max(1),
        0 => in_database,
        limit => limit,
    };
    Limits { in_database, of_role: share, of_set: (!is_own).then_some(share) }
}

/// The role that a worker connects as to act for the owner of a set. The bootstrap superuser does so
/// for the extension's own set only.
fn owner_role(set: &RelationSet) -> pg_sys::Oid {
    if set.is_own { pg_sys::InvalidOid } else { set.owner }
}

/// Does a job that the scheduler has requested, connected as the role of the job.
fn work(handle: JobHandle) {
    process::start();
    let Some(job) = job_table::begin(handle) else { return };
    let JobSpec { task, database, set, role, subject, .. } = job.spec;
    process::connect(Some(database.into()), (role != 0).then(|| role.into()));
    let worked = match task {
        Task::Refresh | Task::HandOver => refresher::work(&job).map(|result| (result, None)),
        Task::Deliver => serve(set.into(), subject).map(|()| (JobResult::Done, None)),
        Task::Serve => server::work(role.into()).map(|resume_at| (JobResult::Done, resume_at)),
    };
    match worked {
        Ok((result, resume_at)) => {
            process::flush_statistics();
            job_table::report(handle, result, resume_at);
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
