//! The job table in shared memory: the schedulers and the jobs of the workers, for all processes.
//! It exists if the library was preloaded. After a crash it is empty, because all processes have
//! ended. The rules for jobs are in `core/src/job.rs` and `core/src/job_table.rs`.

use std::sync::atomic::{AtomicBool, Ordering};

use pgrx::datum::Uuid;
use pgrx::lwlock::PgLwLock;
use pgrx::prelude::*;
use pgrx::{PGRXSharedMemory, pg_shmem_init};

use crate::error::emit;
use crate::pg::bgw::process::{self, process_id};
use crate::pg::clock::{self, Instant};

pub use segmenter_core::job::JobResult;
pub use segmenter_core::job_table::{JobHandle, Limits, Refusal};

/// A job of this server.
pub type Job = segmenter_core::job_table::Job<Uuid>;
/// What a worker of this server has to do.
pub type JobSpec = segmenter_core::job_table::JobSpec<Uuid>;

const SCHEDULERS: usize = 64;
const JOBS: usize = 256;

/// A scheduler: the process that starts the workers of one database.
#[derive(Clone, Copy, Default)]
pub struct Scheduler {
    pub database: u32,
    /// 0: there is no process. A place that was released may be reserved for its database for some
    /// time.
    pub pid: i32,
    /// The last heartbeat; without a process, the time until which the place is reserved.
    time: i64,
    /// More servers are needed than may run at once.
    pub lacks_servers: bool,
}

impl Scheduler {
    /// The time of the last heartbeat.
    pub fn last_heartbeat(&self) -> Instant {
        clock::at(self.time)
    }
}

#[derive(Clone, Copy)]
struct JobTable {
    schedulers: [Scheduler; SCHEDULERS],
    jobs: segmenter_core::job_table::JobTable<Uuid, JOBS>,
}

impl Default for JobTable {
    fn default() -> Self {
        Self { schedulers: [Scheduler::default(); SCHEDULERS], jobs: Default::default() }
    }
}

// SAFETY: values without pointers and destructors, valid in every process that maps the memory; all
// access goes through the lock.
unsafe impl PGRXSharedMemory for JobTable {}

// SAFETY: the name must be unique among the extensions' locks: it is that of this extension.
static TABLE: PgLwLock<JobTable> = unsafe { PgLwLock::new(c"segmenter") };
static IS_INITIALIZED: AtomicBool = AtomicBool::new(false);

/// Requests the shared memory. It must be called while the library is being preloaded.
pub fn init() {
    pg_shmem_init!(TABLE);
    IS_INITIALIZED.store(true, Ordering::Relaxed);
}

/// Whether the library was preloaded.
pub fn is_initialized() -> bool {
    IS_INITIALIZED.load(Ordering::Relaxed)
}

/// Makes this process the scheduler of a database. Returns false if the database has one, or if no
/// place is free.
pub fn claim_scheduler(database: pg_sys::Oid) -> bool {
    let (database, now) = (database.to_u32(), clock::micros());
    let pid = process_id();
    {
        let mut table = TABLE.exclusive();
        if table.schedulers.iter().any(|other| other.database == database && other.pid != 0) {
            return false;
        }
        let place = table
            .schedulers
            .iter()
            .position(|place| place.pid == 0 && (place.database == database || place.time < now));
        let Some(place) = place else { return false };
        table.schedulers[place] = Scheduler { database, pid, time: now, lacks_servers: false };
    }
    // SAFETY: the callback has the required signature, and PostgreSQL does not unload libraries.
    unsafe { pg_sys::before_shmem_exit(Some(on_exit), pg_sys::Datum::null()) };
    true
}

/// At exit: releases this process's place as a scheduler, and ends its job if that is still
/// running. Logs that the process has overrun its time limit.
///
/// Taking the lock is safe: this process cannot hold it any more, and no other one holds it for
/// ever. While a lock of this kind is held, SIGTERM is not processed, and a panic releases it. An
/// error that ends the process where it holds locks leaves them to this callback.
#[pg_guard]
extern "C-unwind" fn on_exit(_code: std::ffi::c_int, _arg: pg_sys::Datum) {
    // SAFETY: the process is ending, and no frame that held a lock is returned to.
    unsafe { pg_sys::LWLockReleaseAll() };
    let (pid, overrun) = (process_id(), process::overrun());
    {
        let mut table = TABLE.exclusive();
        for place in table.schedulers.iter_mut().filter(|place| place.pid == pid) {
            *place = Scheduler::default();
        }
        table.jobs.exit(pid, overrun, clock::now());
    }
    // The server logs an administrator's command as the reason.
    if let Some(limit) = overrun {
        emit(
            PgLogLevel::LOG,
            format!(
                "segmenter: the process was ended, since its SQL did not react to the cancellation at its time limit, {} ms",
                limit.as_millis()
            ),
            None,
        );
    }
}

/// Records a heartbeat of this scheduler, and whether more servers are needed than may run at once.
pub fn heartbeat(lacks_servers: bool) {
    let (pid, now) = (process_id(), clock::micros());
    for place in TABLE.exclusive().schedulers.iter_mut().filter(|place| place.pid == pid) {
        place.time = now;
        place.lacks_servers = lacks_servers;
    }
}

/// Releases this scheduler's place, and keeps its database without a scheduler for some seconds.
pub fn release_with_cooldown(seconds: i64) {
    let (pid, now) = (process_id(), clock::micros());
    for place in TABLE.exclusive().schedulers.iter_mut().filter(|place| place.pid == pid) {
        place.pid = 0;
        place.time = now + seconds * 1_000_000;
    }
}

/// Whether a scheduler of a database has released its place by itself since the last call.
pub fn take_released(database: pg_sys::Oid) -> bool {
    let mut table = TABLE.exclusive();
    let is_released =
        |place: &&mut Scheduler| place.database == database.to_u32() && place.pid == 0;
    let released = table.schedulers.iter_mut().find(is_released);
    released.map(std::mem::take).is_some()
}

/// The scheduler of a database.
pub fn scheduler(database: pg_sys::Oid) -> Option<Scheduler> {
    let table = TABLE.share();
    table.schedulers.iter().find(|s| s.pid != 0 && s.database == database.to_u32()).copied()
}

/// Whether a database has a scheduler, or must not get one yet.
pub fn is_taken(database: pg_sys::Oid) -> bool {
    let now = clock::micros();
    let table = TABLE.share();
    let mut places = table.schedulers.iter().filter(|s| s.database == database.to_u32());
    places.any(|place| place.pid != 0 || place.time > now)
}

/// Adds a job to the table, within its limits.
pub fn request(spec: JobSpec, limits: Limits) -> Result<JobHandle, Refusal> {
    TABLE.exclusive().jobs.request(spec, limits, process_id(), clock::now())
}

/// Removes a job for which the server had no process.
pub fn cancel(handle: JobHandle) {
    TABLE.exclusive().jobs.cancel(handle, clock::now());
}

/// Begins a job in this process; `None`: the job was withdrawn.
pub fn begin(handle: JobHandle) -> Option<Job> {
    // The callback is registered first, so that no job can be running without it.
    // SAFETY: the callback has the required signature, and PostgreSQL does not unload libraries.
    unsafe { pg_sys::before_shmem_exit(Some(on_exit), pg_sys::Datum::null()) };
    TABLE.exclusive().jobs.begin(handle, process_id(), clock::now())
}

/// Records the result of a job, and when its task is to be continued.
pub fn report(handle: JobHandle, result: JobResult, resume_at: Option<Instant>) {
    TABLE.exclusive().jobs.report(handle, result, resume_at, clock::now());
}

/// Takes the jobs of a database off the table that `is_own` selects and that have ended, and
/// withdraws those whose worker has not started in time.
pub fn collect(database: pg_sys::Oid, is_own: impl Fn(&JobSpec) -> bool) -> Vec<Job> {
    TABLE.exclusive().jobs.collect(database.to_u32(), is_own, clock::now())
}

/// Frees the places of ended jobs in databases that have had no scheduler for some time.
pub fn remove_abandoned() {
    let mut table = TABLE.exclusive();
    let schedulers = table.schedulers;
    let is_served =
        |database| schedulers.iter().any(|place| place.pid != 0 && place.database == database);
    table.jobs.remove_abandoned(clock::now(), is_served);
}

/// The jobs of a database.
pub fn jobs(database: pg_sys::Oid) -> Vec<Job> {
    TABLE.share().jobs.jobs(database.to_u32()).copied().collect()
}
