//! The job table in shared memory: the schedulers and the jobs of the workers, for all processes.
//! It exists if the library was preloaded. After a crash it is empty, because all processes have
//! ended.

use std::sync::atomic::{AtomicBool, Ordering};

use pgrx::datum::Uuid;
use pgrx::lwlock::PgLwLock;
use pgrx::prelude::*;
use pgrx::{PGRXSharedMemory, pg_shmem_init};

use crate::pg::bgw::process::process_id;
use crate::pg::clock::{self, Instant};

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
}

impl Scheduler {
    /// The time of the last heartbeat.
    pub fn last_heartbeat(&self) -> Instant {
        clock::at(self.time)
    }
}

/// The state of a job.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum JobState {
    #[default]
    Free,
    /// A worker has been requested.
    Requested,
    Running,
    Ended(JobResult),
}

/// How a worker ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum JobResult {
    /// It finished its task; the outcome is in the log.
    Done,
    /// The sources are still not loaded.
    Waiting,
    /// Another process is refreshing the segment.
    Busy,
    /// The process exited without reporting a result.
    Died,
}

/// The kind of a worker's task.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum Task {
    /// Refresh a segment.
    #[default]
    Refresh,
    /// Hand over pending messages of a segment without refreshing it.
    HandOver,
    /// Deliver messages to a consumer.
    Deliver,
}

/// The job of one worker.
#[derive(Clone, Copy, Default)]
pub struct Job {
    pub stage: JobState,
    pub task: Task,
    pub database: u32,
    /// The relation set, identified by its mart.
    pub set: u32,
    /// The role as which the worker connects; 0: the bootstrap superuser.
    pub role: u32,
    subject: [u8; 16],
    run: [u8; 16],
    /// The worker's process, once it runs.
    pub pid: i32,
    asked: i64,
    /// Distinguishes the uses of a place.
    generation: u32,
}

impl Job {
    /// The segment, or the consumer.
    pub fn subject(&self) -> Uuid {
        Uuid::from_bytes(self.subject)
    }

    /// The segment, unless the task is to deliver.
    pub fn segment(&self) -> Option<Uuid> {
        (self.task != Task::Deliver).then(|| self.subject())
    }

    pub fn run(&self) -> Uuid {
        Uuid::from_bytes(self.run)
    }

    /// When the worker was requested.
    pub fn requested_at(&self) -> Instant {
        clock::at(self.asked)
    }
}

/// The place of a job in the table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct JobHandle {
    place: u32,
    generation: u32,
}

impl JobHandle {
    /// The handle as the argument of a worker.
    pub fn to_datum(self) -> pg_sys::Datum {
        pg_sys::Datum::from(((self.generation as u64) << 32) | self.place as u64)
    }

    pub fn from_datum(datum: pg_sys::Datum) -> Self {
        let value = datum.value() as u64;
        Self { place: value as u32, generation: (value >> 32) as u32 }
    }
}

#[derive(Clone, Copy)]
struct JobTable {
    schedulers: [Scheduler; SCHEDULERS],
    jobs: [Job; JOBS],
    generation: u32,
}

impl Default for JobTable {
    fn default() -> Self {
        Self {
            schedulers: [Scheduler::default(); SCHEDULERS],
            jobs: [Job::default(); JOBS],
            generation: 0,
        }
    }
}

// SAFETY: values without pointers and destructors, valid in every process that maps the memory; all
// access goes through the lock.
unsafe impl PGRXSharedMemory for JobTable {}

// SAFETY: the name must be unique among the extensions' locks: it is that of this extension.
static BOARD: PgLwLock<JobTable> = unsafe { PgLwLock::new(c"segmenter") };
static IS_THERE: AtomicBool = AtomicBool::new(false);

/// Requests the shared memory. It must be called while the library is being preloaded.
pub fn init() {
    pg_shmem_init!(BOARD);
    IS_THERE.store(true, Ordering::Relaxed);
}

/// Whether the library was preloaded.
pub fn is_initialized() -> bool {
    IS_THERE.load(Ordering::Relaxed)
}

/// Makes this process the scheduler of a database. Returns false if the database has one, or if no
/// place is free.
pub fn claim_scheduler(database: pg_sys::Oid) -> bool {
    let (database, now) = (database.to_u32(), clock::micros());
    let pid = process_id();
    {
        let mut table = BOARD.exclusive();
        if table.schedulers.iter().any(|other| other.database == database && other.pid != 0) {
            return false;
        }
        let place = table
            .schedulers
            .iter()
            .position(|place| place.pid == 0 && (place.database == database || place.time < now));
        let Some(place) = place else { return false };
        table.schedulers[place] = Scheduler { database, pid, time: now };
    }
    // SAFETY: the callback has the required signature, and PostgreSQL does not unload libraries.
    unsafe { pg_sys::before_shmem_exit(Some(on_exit), pg_sys::Datum::null()) };
    true
}

/// At exit: releases this process's place as a scheduler, and ends its job if that is still
/// running.
///
/// Taking the lock is safe: this process cannot hold it any more, and no other one holds it for
/// ever. While a lock of this kind is held, SIGTERM is not processed, and a panic releases it. An
/// error that ends the process where it holds locks leaves them to this callback.
#[pg_guard]
extern "C-unwind" fn on_exit(_code: std::ffi::c_int, _arg: pg_sys::Datum) {
    // SAFETY: the process is ending, and no frame that held a lock is returned to.
    unsafe { pg_sys::LWLockReleaseAll() };
    let pid = process_id();
    let mut table = BOARD.exclusive();
    for place in table.schedulers.iter_mut().filter(|place| place.pid == pid) {
        *place = Scheduler::default();
    }
    for job in table.jobs.iter_mut().filter(|job| job.stage == JobState::Running && job.pid == pid)
    {
        job.stage = JobState::Ended(JobResult::Died);
    }
}

/// Records a heartbeat of this scheduler.
pub fn heartbeat() {
    let (pid, now) = (process_id(), clock::micros());
    for place in BOARD.exclusive().schedulers.iter_mut().filter(|place| place.pid == pid) {
        place.time = now;
    }
}

/// Releases this scheduler's place, and keeps its database without a scheduler for some seconds.
pub fn release_with_cooldown(seconds: i64) {
    let (pid, now) = (process_id(), clock::micros());
    for place in BOARD.exclusive().schedulers.iter_mut().filter(|place| place.pid == pid) {
        place.pid = 0;
        place.time = now + seconds * 1_000_000;
    }
}

/// The scheduler of a database.
pub fn scheduler(database: pg_sys::Oid) -> Option<Scheduler> {
    let table = BOARD.share();
    table.schedulers.iter().find(|s| s.pid != 0 && s.database == database.to_u32()).copied()
}

/// Whether a database has a scheduler, or must not get one yet.
pub fn is_taken(database: pg_sys::Oid) -> bool {
    let now = clock::micros();
    let table = BOARD.share();
    let mut places = table.schedulers.iter().filter(|s| s.database == database.to_u32());
    places.any(|place| place.pid != 0 || place.time > now)
}

/// Adds a job to the table; `None`: the table is full.
pub fn add(
    (database, set): (pg_sys::Oid, pg_sys::Oid),
    task: Task,
    role: pg_sys::Oid,
    subject: Uuid,
    run: Uuid,
) -> Option<JobHandle> {
    let asked = clock::micros();
    let mut table = BOARD.exclusive();
    let place = table.jobs.iter().position(|job| job.stage == JobState::Free)?;
    table.generation = table.generation.wrapping_add(1);
    let generation = table.generation;
    table.jobs[place] = Job {
        stage: JobState::Requested,
        task,
        database: database.to_u32(),
        set: set.to_u32(),
        role: role.to_u32(),
        subject: *subject.as_bytes(),
        run: *run.as_bytes(),
        pid: 0,
        asked,
        generation,
    };
    Some(JobHandle { place: place as u32, generation })
}

/// Begins a job in this process; `None`: the job is not requested any more.
pub fn begin(ticket: JobHandle) -> Option<Job> {
    let begun = {
        let mut table = BOARD.exclusive();
        let job = table.jobs.get_mut(ticket.place as usize)?;
        if job.generation != ticket.generation || job.stage != JobState::Requested {
            return None;
        }
        job.stage = JobState::Running;
        job.pid = process_id();
        *job
    };
    // SAFETY: the callback has the required signature, and PostgreSQL does not unload libraries.
    unsafe { pg_sys::before_shmem_exit(Some(on_exit), pg_sys::Datum::null()) };
    Some(begun)
}

/// Records how a job ended.
pub fn end(ticket: JobHandle, end: JobResult) {
    with(ticket, |job| job.stage = JobState::Ended(end));
}

/// Removes a job from the table.
pub fn remove(ticket: JobHandle) {
    with(ticket, |job| *job = Job::default());
}

fn with(ticket: JobHandle, change: impl FnOnce(&mut Job)) {
    let mut table = BOARD.exclusive();
    let job = table.jobs.get_mut(ticket.place as usize);
    if let Some(job) = job.filter(|job| job.generation == ticket.generation) {
        change(job);
    }
}

/// The jobs of a database.
pub fn jobs(database: pg_sys::Oid) -> Vec<(JobHandle, Job)> {
    let table = BOARD.share();
    let jobs = table.jobs.iter().enumerate();
    jobs.filter(|(_, job)| job.stage != JobState::Free && job.database == database.to_u32())
        .map(|(place, job)| (JobHandle { place: place as u32, generation: job.generation }, *job))
        .collect()
}
