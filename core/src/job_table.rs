//! The jobs of all workers of a server, in a fixed number of places. The server keeps this table in
//! shared memory; here are its rules. `Id` identifies segments, consumers and runs.

use std::time::Duration;

use crate::clock::Instant;
use crate::job::{Event, JobResult, JobState, Kind, Task, Transition, due_event, transition};

/// What a worker has to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct JobSpec<Id> {
    pub task: Task,
    /// The oid of the database.
    pub database: u32,
    /// The relation set, identified by the oid of its mart.
    pub set: u32,
    /// The oid of the role that the worker connects as; 0: the bootstrap superuser.
    pub role: u32,
    /// The oid of the role in whose share of the places it is.
    pub account: u32,
    /// The segment, or the consumer.
    pub subject: Id,
    pub run: Id,
}

/// A job: what has to be done, and how far it got.
#[derive(Clone, Copy, Debug)]
pub struct Job<Id> {
    pub spec: JobSpec<Id>,
    pub state: JobState,
    pub requested: Instant,
    /// When it came into this state.
    pub since: Instant,
    /// When it ended; none: it has not.
    pub ended: Option<Instant>,
    /// The worker's process, once it runs.
    pub pid: i32,
    /// When the worker wants its task to be continued; none: when there is a reason.
    pub resume_at: Option<Instant>,
    /// The time limit that the worker has overrun, where that was its end.
    pub overrun: Option<Duration>,
    /// Distinguishes the jobs that have had the same place.
    generation: u32,
}

impl<Id: Copy> Job<Id> {
    /// The segment, if the task is about one.
    pub fn segment(&self) -> Option<Id> {
        (self.spec.task.kind() == Kind::Refreshes).then_some(self.spec.subject)
    }

    /// Changes the state. Returns the transition; `None`: the event has no meaning in this state.
    pub fn apply(&mut self, event: Event, now: Instant) -> Option<Transition> {
        let to = transition(self.spec.task, self.state, event)?;
        (self.state, self.since) = (to.next, now);
        if matches!(to.next, JobState::Ended(_) | JobState::Collected(_)) {
            self.ended.get_or_insert(now);
        }
        Some(to)
    }
}

/// How many jobs of its kind a job may join.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// In the database.
    pub in_database: usize,
    /// Of the role in whose account it is.
    pub of_role: usize,
    /// Of the relation set; none: the set has no limit of its own.
    pub of_set: Option<usize>,
}

/// Why a job gets no place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The table is full.
    TableFull,
    /// The database has as many jobs of this kind as it may have.
    DatabaseFull,
    /// The role or the set has its share, or the place is another scheduler's turn.
    ShareTaken,
}

/// A scheduler that was refused a place for a role. It asks again in every round. A place that becomes
/// free goes to the scheduler that has waited longest among those that may have it, not to the one
/// whose job has just ended, which hears of it first.
#[derive(Clone, Copy, Debug)]
struct Waiter<Id> {
    pid: i32,
    spec: JobSpec<Id>,
    limits: Limits,
    since: Instant,
    /// When it has asked last.
    asked: Instant,
}

/// After this time without asking again, a scheduler is not waiting any more.
const PATIENCE: Duration = Duration::from_secs(3);
/// How many schedulers can wait. Further ones get a place whenever there is room.
const WAITERS: usize = 64;

/// Identifies a job: its place in the table, and its generation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct JobHandle {
    place: u32,
    generation: u32,
}

impl From<u64> for JobHandle {
    fn from(value: u64) -> Self {
        Self { place: value as u32, generation: (value >> 32) as u32 }
    }
}

impl From<JobHandle> for u64 {
    fn from(handle: JobHandle) -> Self {
        (u64::from(handle.generation) << 32) | u64::from(handle.place)
    }
}

/// The table with `PLACES` places. It holds requested and running jobs, and ended ones until the
/// scheduler collects them.
#[derive(Clone, Copy)]
pub struct JobTable<Id, const PLACES: usize> {
    places: [Option<Job<Id>>; PLACES],
    waiters: [Option<Waiter<Id>>; WAITERS],
    /// The generation of the last job.
    generation: u32,
}

impl<Id: Copy, const PLACES: usize> Default for JobTable<Id, PLACES> {
    fn default() -> Self {
        Self { places: [None; PLACES], waiters: [None; WAITERS], generation: 0 }
    }
}

impl<Id: Copy, const PLACES: usize> JobTable<Id, PLACES> {
    /// Adds a job within its limits. `pid`: the scheduler.
    pub fn request(
        &mut self,
        spec: JobSpec<Id>,
        limits: Limits,
        pid: i32,
        now: Instant,
    ) -> Result<JobHandle, Refusal> {
        let refusal = self
            .refusal(&spec, limits, None)
            .or_else(|| self.is_anothers_turn(&spec, pid, now).then_some(Refusal::ShareTaken));
        if let Some(refusal) = refusal {
            self.wait(spec, limits, pid, now);
            return Err(refusal);
        }
        let to = transition(spec.task, JobState::Free, Event::Request).ok_or(Refusal::TableFull)?;
        let free = self.places.iter().position(Option::is_none);
        let place = free.ok_or(Refusal::TableFull)?;
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let state = to.next;
        let (ended, resume_at, overrun) = (None, None, None);
        self.places[place] = Some(Job {
            spec,
            state,
            requested: now,
            since: now,
            ended,
            pid: 0,
            resume_at,
            overrun,
            generation,
        });
        let waited = self.waiters.iter_mut().filter(|waiter| is_for(waiter, &spec, pid));
        waited.for_each(|waiter| *waiter = None);
        Ok(JobHandle { place: place as u32, generation })
    }

    /// Why a job may not join the others; `another`: as if this one had joined them before.
    fn refusal(
        &self,
        spec: &JobSpec<Id>,
        limits: Limits,
        another: Option<&JobSpec<Id>>,
    ) -> Option<Refusal> {
        // An ended job takes no process any more.
        let is_ended = |job: &&Job<Id>| matches!(job.state, JobState::Ended(_));
        let jobs = self.jobs(spec.database).filter(|job| !is_ended(job)).map(|job| &job.spec);
        let of_kind = jobs.chain(another).filter(|other| other.task.kind() == spec.task.kind());
        let (mut in_database, mut of_role, mut of_set) = (0, 0, 0);
        for other in of_kind {
            in_database += 1;
            of_role += usize::from(other.account == spec.account);
            of_set += usize::from(other.set == spec.set);
        }
        if in_database >= limits.in_database {
            Some(Refusal::DatabaseFull)
        } else if of_role >= limits.of_role || limits.of_set.is_some_and(|limit| of_set >= limit) {
            Some(Refusal::ShareTaken)
        } else {
            None
        }
    }

    /// Whether the job would take the place that another scheduler has waited for longer.
    fn is_anothers_turn(&self, spec: &JobSpec<Id>, pid: i32, now: Instant) -> bool {
        let own = self.waiters.iter().find(|place| is_for(place, spec, pid)).copied().flatten();
        let since = own.filter(|own| own.is_waiting(now)).map_or(now, |own| own.since);
        self.waiters.iter().flatten().any(|other| {
            other.pid != pid
                && other.since < since
                && other.is_waiting(now)
                && other.spec.database == spec.database
                && other.spec.task.kind() == spec.task.kind()
                && self.refusal(&other.spec, other.limits, None).is_none()
                && self.refusal(&other.spec, other.limits, Some(spec)).is_some()
        })
    }

    /// Records that a scheduler was refused a place, and since when it has been waiting for one.
    fn wait(&mut self, spec: JobSpec<Id>, limits: Limits, pid: i32, now: Instant) {
        let own = self.waiters.iter().position(|place| is_for(place, &spec, pid));
        let is_free =
            |place: &Option<Waiter<Id>>| place.is_none_or(|waiter| !waiter.is_waiting(now));
        let Some(place) = own.or_else(|| self.waiters.iter().position(is_free)) else { return };
        let before = self.waiters[place].filter(|before| own.is_some() && before.is_waiting(now));
        let since = before.map_or(now, |before| before.since);
        self.waiters[place] = Some(Waiter { pid, spec, limits, since, asked: now });
    }

    /// Frees the place of a job for which the server had no process.
    pub fn cancel(&mut self, handle: JobHandle, now: Instant) {
        self.apply(handle, Event::NoProcess, now);
    }

    /// Begins a job in a process. `None`: the job was withdrawn.
    pub fn begin(&mut self, handle: JobHandle, pid: i32, now: Instant) -> Option<Job<Id>> {
        let job = self.job(handle)?;
        job.apply(Event::Begin, now)?;
        job.pid = pid;
        Some(*job)
    }

    /// Records the result of a job, and when its task is to be continued.
    pub fn report(
        &mut self,
        handle: JobHandle,
        result: JobResult,
        resume_at: Option<Instant>,
        now: Instant,
    ) {
        if let Some(job) = self.job(handle) {
            job.resume_at = resume_at;
        }
        self.apply(handle, Event::Report(result), now);
    }

    /// Records that a process exits; `overrun`: because it has overrun this time limit.
    pub fn exit(&mut self, pid: i32, overrun: Option<Duration>, now: Instant) {
        let event = if overrun.is_some() { Event::Overrun } else { Event::Exit };
        for job in self.places.iter_mut().flatten().filter(|job| job.pid == pid) {
            if job.apply(event, now).is_some() {
                job.overrun = overrun;
            }
        }
    }

    /// Removes and returns those jobs of a database that `is_own` selects and that have ended, or
    /// whose worker has not started in time. A worker that starts later finds no job.
    pub fn collect(
        &mut self,
        database: u32,
        is_own: impl Fn(&JobSpec<Id>) -> bool,
        now: Instant,
    ) -> Vec<Job<Id>> {
        self.expire(now, |job| (job.spec.database == database && is_own(&job.spec)).then_some(true))
    }

    /// Frees the places that ended jobs keep in databases without a scheduler.
    pub fn remove_abandoned(&mut self, now: Instant, is_served: impl Fn(u32) -> bool) {
        self.expire(now, |job| (!is_served(job.spec.database)).then_some(false));
    }

    /// The jobs of a database.
    pub fn jobs(&self, database: u32) -> impl Iterator<Item = &Job<Id>> {
        self.places.iter().flatten().filter(move |job| job.spec.database == database)
    }

    /// Applies the events that the time brings about. `is_served`: whether the database of a job
    /// has a scheduler; `None`: the job is left alone. Returns the jobs that lost their places.
    fn expire(
        &mut self,
        now: Instant,
        is_served: impl Fn(&Job<Id>) -> Option<bool>,
    ) -> Vec<Job<Id>> {
        let mut removed = Vec::new();
        for place in &mut self.places {
            let Some(job) = place else { continue };
            let Some(is_served) = is_served(job) else { continue };
            let Some(event) = due_event(job.state, job.since, now, is_served) else { continue };
            if job.apply(event, now).is_some() && !job.state.has_place() {
                removed.push(*job);
                *place = None;
            }
        }
        removed
    }

    fn apply(&mut self, handle: JobHandle, event: Event, now: Instant) {
        let Some(job) = self.job(handle) else { return };
        if job.apply(event, now).is_some() && !job.state.has_place() {
            self.places[handle.place as usize] = None;
        }
    }

    fn job(&mut self, handle: JobHandle) -> Option<&mut Job<Id>> {
        let place = self.places.get_mut(handle.place as usize)?.as_mut();
        place.filter(|job| job.generation == handle.generation)
    }
}

impl<Id> Waiter<Id> {
    fn is_waiting(&self, now: Instant) -> bool {
        // The clock may have been set back since.
        (now - self.asked).to_std().is_ok_and(|age| age < PATIENCE)
    }
}

/// Whether a scheduler waits there for a job like this one: of the same kind and account.
fn is_for<Id>(place: &Option<Waiter<Id>>, spec: &JobSpec<Id>, pid: i32) -> bool {
    place.as_ref().is_some_and(|waiter| {
        let JobSpec { task, database, account, .. } = waiter.spec;
        waiter.pid == pid
            && (task.kind(), database, account) == (spec.task.kind(), spec.database, spec.account)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Effect, End, RETRY_DELAY, START_LIMIT};
    use chrono::{DateTime, TimeDelta};
    use std::collections::{HashMap, HashSet};

    const DATABASE: u32 = 1;
    const PLACES: usize = 4;

    type Table = JobTable<u32, PLACES>;

    fn at(seconds: i64) -> Instant {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
    }

    fn spec(task: Task, subject: u32, run: u32) -> JobSpec<u32> {
        JobSpec { task, database: DATABASE, set: 7, role: 0, account: 0, subject, run }
    }

    /// The scheduler.
    const PID: i32 = 1;
    const UNLIMITED: Limits = Limits { in_database: 99, of_role: 99, of_set: None };

    #[test]
    fn a_worker_begins_its_own_job_only() {
        let mut table = Table::default();
        let first = table.request(spec(Task::Refresh, 1, 1), UNLIMITED, PID, at(0)).unwrap();
        // It has not begun in time: the job is withdrawn, and the place gets another job.
        assert!(table.collect(DATABASE, |_| true, at(59)).is_empty());
        let withdrawn = table.collect(DATABASE, |_| true, at(60));
        assert_eq!(withdrawn[0].state, JobState::Collected(End::NotStarted));
        let second = table.request(spec(Task::Refresh, 2, 2), UNLIMITED, PID, at(61)).unwrap();
        assert_eq!(first.place, second.place);
        assert!(table.begin(first, 11, at(62)).is_none());
        assert_eq!(table.begin(second, 12, at(62)).unwrap().spec.subject, 2);
        // The handle of the first one changes nothing.
        table.report(first, JobResult::Done, None, at(63));
        table.cancel(first, at(63));
        assert_eq!(table.jobs(DATABASE).next().unwrap().state, JobState::Running);
        // A process passes the handle on as a number.
        assert_eq!(JobHandle::from(u64::from(second)), second);
    }

    #[test]
    fn a_worker_that_begins_at_the_last_moment_is_not_withdrawn() {
        let mut table = Table::default();
        let handle = table.request(spec(Task::Refresh, 1, 1), UNLIMITED, PID, at(0)).unwrap();
        assert!(table.begin(handle, 11, at(60)).is_some());
        assert!(table.collect(DATABASE, |_| true, at(60)).is_empty());
        table.report(handle, JobResult::Done, None, at(61));
        table.exit(11, Some(Duration::from_secs(1)), at(61));
        // The result was reported before.
        let ended = table.collect(DATABASE, |_| true, at(65));
        assert_eq!(ended[0].state, JobState::Collected(End::Reported(JobResult::Done)));
        // Since when it has been over, whenever that is found.
        assert_eq!((ended[0].ended, ended[0].since), (Some(at(61)), at(65)));
        assert_eq!(ended[0].overrun, None);
        assert_eq!(table.jobs(DATABASE).count(), 0);
    }

    #[test]
    fn other_databases_keep_their_jobs() {
        let mut table = Table::default();
        let mut other = spec(Task::Deliver, 1, 1);
        other.database = 2;
        let handle = table.request(other, UNLIMITED, PID, at(0)).unwrap();
        table.begin(handle, 11, at(0));
        table.exit(11, None, at(1));
        assert!(table.collect(DATABASE, |_| true, at(1000)).is_empty());
        table.remove_abandoned(at(1000), |database| database == 2);
        assert_eq!(table.jobs(2).count(), 1);
        table.remove_abandoned(at(1000), |_| false);
        assert_eq!(table.jobs(2).count(), 0);
    }

    #[test]
    fn a_full_table_takes_no_job() {
        let mut table = Table::default();
        let handles: Vec<JobHandle> = (0..PLACES as u32)
            .filter_map(|n| table.request(spec(Task::Refresh, n, n), UNLIMITED, PID, at(0)).ok())
            .collect();
        assert_eq!(handles.len(), PLACES);
        let mut request = || table.request(spec(Task::Refresh, 9, 9), UNLIMITED, PID, at(0));
        assert_eq!(request(), Err(Refusal::TableFull));
        table.cancel(handles[2], at(0));
        assert!(table.request(spec(Task::Refresh, 9, 9), UNLIMITED, PID, at(0)).is_ok());
    }

    #[test]
    fn no_role_or_set_has_more_than_its_share() {
        let limits = Limits { in_database: 3, of_role: 2, of_set: Some(1) };
        let of = |task, account, set| JobSpec { account, set, ..spec(task, 1, 1) };
        let mut table = Table::default();
        let mut request = |spec| table.request(spec, limits, PID, at(0));
        let first = request(of(Task::Refresh, 1, 1)).unwrap();
        assert_eq!(request(of(Task::HandOver, 2, 1)), Err(Refusal::ShareTaken));
        assert!(request(of(Task::HandOver, 1, 2)).is_ok());
        assert_eq!(request(of(Task::Refresh, 1, 3)), Err(Refusal::ShareTaken));
        // Other kinds have places of their own.
        assert!(request(of(Task::Deliver, 1, 1)).is_ok());
        assert!(request(of(Task::Refresh, 3, 3)).is_ok());
        assert_eq!(request(of(Task::Refresh, 4, 4)), Err(Refusal::DatabaseFull));
        // One that has ended takes no share any more.
        table.begin(first, 11, at(1));
        table.exit(11, None, at(2));
        table.collect(DATABASE, |_| true, at(2));
        assert!(table.request(of(Task::Refresh, 1, 1), limits, PID, at(3)).is_ok());
    }

    #[test]
    fn schedulers_take_turns_at_a_place() {
        let limits = Limits { in_database: 2, of_role: 1, of_set: None };
        let mut table = Table::default();
        let mut pid = 10;
        // Starts a job that ends at once; whether there was a place for it.
        let mut run = |table: &mut Table, scheduler, account, now| {
            let spec = JobSpec { account, ..spec(Task::Deliver, scheduler as u32, 1) };
            let handle = table.request(spec, limits, scheduler, at(now)).ok();
            handle.map(|handle| {
                pid += 1;
                table.begin(handle, pid, at(now));
                pid
            })
        };
        let first = run(&mut table, 1, 7, 0).unwrap();
        assert_eq!(run(&mut table, 2, 7, 1), None);
        // Another role's place is not what the second one waits for.
        let other = run(&mut table, 3, 8, 1).unwrap();
        table.exit(other, None, at(1));
        table.exit(first, None, at(2));
        table.collect(DATABASE, |_| true, at(2));
        // The first one asks again at once, before the second one does.
        assert_eq!(run(&mut table, 1, 7, 2), None);
        let second = run(&mut table, 2, 7, 2).unwrap();
        table.exit(second, None, at(3));
        table.collect(DATABASE, |_| true, at(3));
        assert_eq!(run(&mut table, 2, 7, 3), None);
        let first = run(&mut table, 1, 7, 3).unwrap();
        // The second one does not ask again: its turn passes.
        table.exit(first, None, at(7));
        table.collect(DATABASE, |_| true, at(7));
        assert!(run(&mut table, 1, 7, 7).is_some());
    }

    #[test]
    fn a_place_of_the_database_goes_to_the_longest_waiting_one() {
        let limits = Limits { in_database: 1, of_role: 1, of_set: None };
        let of = |account| JobSpec { account, ..spec(Task::Refresh, account, 1) };
        let mut table = Table::default();
        let first = table.request(of(1), limits, 1, at(0)).unwrap();
        assert_eq!(table.request(of(2), limits, 2, at(1)), Err(Refusal::DatabaseFull));
        assert_eq!(table.request(of(3), limits, 3, at(2)), Err(Refusal::DatabaseFull));
        table.cancel(first, at(3));
        assert_eq!(table.request(of(3), limits, 3, at(3)), Err(Refusal::ShareTaken));
        assert_eq!(table.request(of(1), limits, 1, at(3)), Err(Refusal::ShareTaken));
        // Deliveries have places of their own.
        assert!(table.request(spec(Task::Deliver, 9, 1), limits, 1, at(3)).is_ok());
        assert!(table.request(of(2), limits, 2, at(3)).is_ok());
    }

    /// Numbers that look random, the same in every run of the test.
    struct Random(u64);

    impl Random {
        fn below(&mut self, limit: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 % limit as u64) as usize
        }
    }

    /// A scheduler, its workers and the time.
    struct World {
        random: Random,
        now: Instant,
        table: Table,
        /// The memory of the scheduler; `None`: there is no scheduler.
        collected: Option<Vec<Job<u32>>>,
        /// No job of this task and subject before this time.
        not_before: HashMap<(Task, u32), Instant>,
        /// Processes that were requested and have not begun, and those that work.
        requested: Vec<JobHandle>,
        working: Vec<(JobHandle, i32)>,
        /// For the invariants.
        runs: u32,
        begun: HashSet<u32>,
        ended: HashSet<u32>,
        failed_at: HashMap<(Task, u32), Instant>,
        failed_refreshes: usize,
        recorded_refreshes: usize,
    }

    impl World {
        fn new(seed: u64) -> Self {
            Self {
                random: Random(seed),
                now: at(0),
                table: Table::default(),
                collected: Some(Vec::new()),
                not_before: HashMap::new(),
                requested: Vec::new(),
                working: Vec::new(),
                runs: 0,
                begun: HashSet::new(),
                ended: HashSet::new(),
                failed_at: HashMap::new(),
                failed_refreshes: 0,
                recorded_refreshes: 0,
            }
        }

        fn end(&mut self, run: u32) {
            assert!(self.ended.insert(run), "run {run} ended twice");
        }

        fn request(&mut self) {
            let task = [Task::Refresh, Task::HandOver, Task::Deliver][self.random.below(3)];
            let subject = self.random.below(4) as u32 + if task == Task::Deliver { 10 } else { 0 };
            let Some(collected) = &self.collected else { return };
            let is_busy =
                self.table.jobs(DATABASE).chain(collected).any(|job| job.spec.subject == subject);
            let not_before = self.not_before.get(&(task, subject));
            if is_busy || not_before.is_some_and(|at| *at > self.now) {
                return;
            }
            let Ok(handle) =
                self.table.request(spec(task, subject, self.runs), UNLIMITED, PID, self.now)
            else {
                assert_eq!(self.table.jobs(DATABASE).count(), PLACES);
                return;
            };
            if let Some(failed) = self.failed_at.get(&(task, subject)) {
                assert!(self.now - *failed >= TimeDelta::seconds(5), "tried again at once");
            }
            self.runs += 1;
            if self.random.below(8) == 0 {
                self.table.cancel(handle, self.now);
                self.end(self.runs - 1);
            } else {
                self.requested.push(handle);
            }
        }

        fn begin(&mut self) {
            if self.requested.is_empty() {
                return;
            }
            let at = self.random.below(self.requested.len());
            let handle = self.requested.swap_remove(at);
            let pid = self.runs as i32 * 100 + self.working.len() as i32 + 1;
            if let Some(job) = self.table.begin(handle, pid, self.now) {
                assert!(self.begun.insert(job.spec.run), "begun twice");
                assert!(!self.ended.contains(&job.spec.run), "begun after its end");
                self.working.push((handle, pid));
            }
        }

        fn exit(&mut self) {
            if self.working.is_empty() {
                return;
            }
            let at = self.random.below(self.working.len());
            let (handle, pid) = self.working.swap_remove(at);
            let result = [JobResult::Done, JobResult::Failed, JobResult::Waiting, JobResult::Busy];
            if let Some(result) = result.get(self.random.below(6)) {
                self.table.report(handle, *result, None, self.now);
            }
            let overrun = [None, Some(Duration::from_secs(3))][self.random.below(2)];
            self.table.exit(pid, overrun, self.now);
        }

        fn collect(&mut self) {
            if let Some(collected) = &mut self.collected {
                collected.extend(self.table.collect(DATABASE, |_| true, self.now));
                let mut jobs = self.table.jobs(DATABASE);
                assert!(jobs.all(|job| !matches!(job.state, JobState::Ended(_))));
            }
        }

        fn handle(&mut self) {
            let Some(collected) = self.collected.as_mut().filter(|jobs| !jobs.is_empty()) else {
                return;
            };
            let at = self.random.below(collected.len());
            let event =
                [Event::Handled, Event::NotHandled, Event::SetDropped][self.random.below(3)];
            let job = &mut collected[at];
            let JobState::Collected(end) = job.state else { panic!("{:?}", job.state) };
            let to = job.apply(event, self.now).unwrap();
            let job = *job;
            if to.next != JobState::Free {
                assert_eq!((to.next, to.effects), (job.state, &[Effect::HandleAgain][..]));
                return;
            }
            collected.swap_remove(at);
            self.end(job.spec.run);
            if event == Event::SetDropped {
                return;
            }
            let JobSpec { task, subject, .. } = job.spec;
            if end.is_failure() {
                self.failed_at.insert((task, subject), self.now);
                self.failed_refreshes += usize::from(task == Task::Refresh);
            }
            for effect in to.effects {
                match effect {
                    Effect::RecordLostRun => self.recorded_refreshes += 1,
                    Effect::RecordOverrun => {
                        self.recorded_refreshes += usize::from(task == Task::Refresh);
                    }
                    Effect::BackOff => {
                        self.not_before.insert((task, subject), self.now + RETRY_DELAY);
                    }
                    Effect::RetryPending => {
                        self.not_before.insert((Task::HandOver, subject), self.now + RETRY_DELAY);
                    }
                    _ => {}
                }
            }
        }

        /// The scheduler ends, or another one starts, for which the table is all there is.
        fn restart(&mut self) {
            match self.collected.take() {
                Some(lost) => lost.iter().for_each(|job| self.end(job.spec.run)),
                None => self.collected = Some(Vec::new()),
            }
        }

        fn abandon(&mut self) {
            let before: Vec<u32> = self.table.jobs(DATABASE).map(|job| job.spec.run).collect();
            let is_served = self.collected.is_some();
            self.table.remove_abandoned(self.now, |_| is_served);
            let after: Vec<u32> = self.table.jobs(DATABASE).map(|job| job.spec.run).collect();
            for run in before.into_iter().filter(|run| !after.contains(run)) {
                assert!(!is_served);
                self.end(run);
            }
        }

        fn check(&self) {
            let collected = self.collected.iter().flatten();
            let mut subjects = HashSet::new();
            for job in self.table.jobs(DATABASE).chain(collected) {
                assert!(subjects.insert(job.spec.subject), "{} has two jobs", job.spec.subject);
                assert!(!self.ended.contains(&job.spec.run), "a job goes on after its end");
            }
            assert_eq!(self.failed_refreshes, self.recorded_refreshes);
        }
    }

    #[test]
    fn whatever_happens_each_job_has_one_end_and_no_place_is_lost() {
        for seed in 1..=200 {
            let mut world = World::new(seed);
            for _ in 0..2_000 {
                match world.random.below(20) {
                    0..=4 => world.request(),
                    5..=7 => world.begin(),
                    8..=10 => world.exit(),
                    11..=12 => world.collect(),
                    13..=15 => world.handle(),
                    16 | 17 => world.now += TimeDelta::seconds(world.random.below(10) as i64),
                    18 if world.random.below(10) == 0 => world.now += START_LIMIT,
                    19 if world.collected.is_none() || world.random.below(40) == 0 => {
                        world.restart();
                    }
                    _ => world.abandon(),
                }
                world.check();
            }
            // All processes end, and the scheduler does its work.
            if world.collected.is_none() {
                world.restart();
            }
            while !world.working.is_empty() {
                world.exit();
            }
            world.now += Duration::from_secs(3600);
            world.collect();
            while world.collected.iter().any(|jobs| !jobs.is_empty()) {
                world.handle();
            }
            world.check();
            assert_eq!(world.table.jobs(DATABASE).count(), 0, "seed {seed}: a place is lost");
            assert_eq!(world.ended.len(), world.runs as usize, "seed {seed}: a job has no end");
            assert!(world.begun.len() > 20, "seed {seed}: nothing happened");
        }
    }
}
