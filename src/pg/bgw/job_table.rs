//! What the background workers and the sessions know of each other: a board in shared memory, there
//! when the library was preloaded. After a crash it is empty, as every process is gone then.

use std::sync::atomic::{AtomicBool, Ordering};

use pgrx::datum::Uuid;
use pgrx::lwlock::PgLwLock;
use pgrx::prelude::*;
use pgrx::{PGRXSharedMemory, pg_shmem_init};

use crate::pg::bgw::process::process_id;
use crate::pg::clock::{self, Instant};

const SCHEDULERS: usize = 64;
const JOBS: usize = 256;

/// A scheduler: the process that starts the refreshes of one database.
#[derive(Clone, Copy, Default)]
pub struct Scheduler {
    pub database: u32,
    /// 0: there is none. A place that was left is kept for its database for a while.
    pub pid: i32,
    /// When it last went round, or until when its place is kept.
    time: i64,
}

impl Scheduler {
    /// When it last went round.
    pub fn last_heartbeat(&self) -> Instant {
        clock::at(self.time)
    }
}

/// How far a job has come.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum JobState {
    #[default]
    Free,
    /// A worker has been asked for.
    Requested,
    Running,
    Ended(JobResult),
}

/// How a worker ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum JobResult {
    /// What came of it is in the log.
    Done,
    /// The sources are still not loaded.
    Waiting,
    /// Somebody else is refreshing the segment.
    Busy,
    /// Without a word.
    Died,
}

/// What a worker is for.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum Task {
    /// A segment is refreshed.
    #[default]
    Refresh,
    /// A segment is handed over to those who are owed something.
    HandOver,
    /// A consumer is served.
    Deliver,
}

/// The task of one worker.
#[derive(Clone, Copy, Default)]
pub struct Job {
    pub stage: JobState,
    pub task: Task,
    pub database: u32,
    /// The set of service relations, by its mart.
    pub set: u32,
    /// As whom the worker connects; 0: as the bootstrap superuser.
    pub role: u32,
    subject: [u8; 16],
    run: [u8; 16],
    /// The worker, once it runs.
    pub pid: i32,
    asked: i64,
    /// Tells one use of the place from another.
    generation: u32,
}

impl Job {
    /// The segment, or the consumer.
    pub fn subject(&self) -> Uuid {
        Uuid::from_bytes(self.subject)
    }

    /// The segment, where it is about one.
    pub fn segment(&self) -> Option<Uuid> {
        (self.task != Task::Deliver).then(|| self.subject())
    }

    pub fn run(&self) -> Uuid {
        Uuid::from_bytes(self.run)
    }

    /// When its worker was asked for.
    pub fn requested_at(&self) -> Instant {
        clock::at(self.asked)
    }
}

/// A job's place on the board.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct JobHandle {
    place: u32,
    generation: u32,
}

impl JobHandle {
    /// The ticket as the argument of a worker.
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

// SAFETY: plain values without pointers.
unsafe impl PGRXSharedMemory for JobTable {}

// SAFETY: no other extension uses this name.
static BOARD: PgLwLock<JobTable> = unsafe { PgLwLock::new(c"segmenter") };
static IS_THERE: AtomicBool = AtomicBool::new(false);

/// Asks for the shared memory: while the library is preloaded.
pub fn init() {
    pg_shmem_init!(BOARD);
    IS_THERE.store(true, Ordering::Relaxed);
}

/// Whether the library was preloaded.
pub fn is_initialized() -> bool {
    IS_THERE.load(Ordering::Relaxed)
}

/// Makes this process the scheduler of its database; false: there is one, or no place is left.
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
    // SAFETY: the callback stays in the library.
    unsafe { pg_sys::before_shmem_exit(Some(on_exit), pg_sys::Datum::null()) };
    true
}

/// Leaves this process's place as a scheduler, or says how its job ended, when it exits.
unsafe extern "C-unwind" fn on_exit(_code: std::ffi::c_int, _arg: pg_sys::Datum) {
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

/// Says that this scheduler has gone round.
pub fn heartbeat() {
    let (pid, now) = (process_id(), clock::micros());
    for place in BOARD.exclusive().schedulers.iter_mut().filter(|place| place.pid == pid) {
        place.time = now;
    }
}

/// Leaves this scheduler's place, and keeps its database without one for so many seconds.
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

/// Whether a database has a scheduler, or is to be left alone for now.
pub fn is_taken(database: pg_sys::Oid) -> bool {
    let now = clock::micros();
    let table = BOARD.share();
    let mut places = table.schedulers.iter().filter(|s| s.database == database.to_u32());
    places.any(|place| place.pid != 0 || place.time > now)
}

/// Puts a job on the board; none: it is full.
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

/// Begins a job in this process; none: nobody waits for it any more.
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
    // SAFETY: the callback stays in the library.
    unsafe { pg_sys::before_shmem_exit(Some(on_exit), pg_sys::Datum::null()) };
    Some(begun)
}

/// Says how a job ended.
pub fn end(ticket: JobHandle, end: JobResult) {
    with(ticket, |job| job.stage = JobState::Ended(end));
}

/// Takes a job off the board.
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
