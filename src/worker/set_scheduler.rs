//! The scheduling of one relation set: starts a worker for each refresh that is due, and makes sure
//! that each refresh gets an end in the log.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use pgrx::datum::Uuid;
use pgrx::prelude::*;

use super::deliveries::Deliveries;
use crate::catalog::relation_set::{Extension, RelationSet};
use crate::catalog::state;
use crate::delivery::push;
use crate::error::{Error, Result, emit};
use crate::pg::bgw::job_table::{Job, JobHandle, JobResult, JobState, Task};
use crate::pg::bgw::process;
use crate::pg::clock;
use crate::pg::exec::role;
use crate::refresh;
use crate::refresh::publish::subscription;
use crate::schedule::due;
use crate::schedule::run::{self, PlannedRefresh, ReadTables};

/// Delay before an action of the scheduler that has failed is tried again.
pub const RETRY_DELAY: Duration = Duration::from_secs(5);
/// How often old log entries, delivered messages and captured changes are deleted.
const PRUNING: Duration = Duration::from_secs(3600);
/// Time limit of one deletion.
const MAX_PRUNING: Duration = Duration::from_secs(60);
/// Seconds after which a requested worker that has not started is given up.
const STARTING: i64 = 60;

/// The result of a round.
pub struct Round {
    /// Jobs whose end was handled. They are removed from the job table after the commit.
    pub ended: Vec<JobHandle>,
    /// The next time at which something is due.
    pub next: Option<clock::Instant>,
    /// A worker could not be started, because the job table is full or no process is left.
    pub is_full: bool,
}

/// How many workers the set may have at once.
#[derive(Clone, Copy)]
pub struct Limits {
    pub refreshes: usize,
    pub deliveries: usize,
}

/// A segment with pending messages that need no refresh.
struct PendingPublish {
    name: String,
    /// Not tried before this time.
    at: clock::Instant,
    /// A job of the segment was running when the pending messages were found. It may have begun
    /// before they became pending, so its end does not complete this entry.
    must_rerun: bool,
}

/// A relation set, and the state of its segments and consumers.
pub struct SetScheduler {
    database: pg_sys::Oid,
    pub mart: pg_sys::Oid,
    /// The set's name at the last reading of its config. None: the extension's own set, or not read
    /// yet.
    pub name: Option<String>,
    /// None: not read yet, or discarded after an error.
    set: Option<RelationSet>,
    queue: segmenter_core::queue::Queue<Uuid, PlannedRefresh>,
    /// The relations that due and running segments read.
    reads: ReadTables,
    /// Segments with pending messages that need no refresh.
    owed: BTreeMap<Uuid, PendingPublish>,
    deliveries: Deliveries,
    pruned: Option<Instant>,
}

impl SetScheduler {
    pub fn new(database: pg_sys::Oid, mart: pg_sys::Oid) -> Self {
        Self {
            database,
            mart,
            name: None,
            set: None,
            queue: segmenter_core::queue::Queue::default(),
            reads: HashMap::new(),
            owed: BTreeMap::new(),
            deliveries: Deliveries::default(),
            pruned: None,
        }
    }

    /// Discards all state. The next round reads it again.
    pub fn forget(&mut self) {
        if let Some(set) = self.set.take() {
            process::unwatch(set.segments());
            process::unwatch(set.outbox());
        }
        self.queue.clear();
        self.reads.clear();
        self.owed.clear();
        self.deliveries.forget();
    }

    /// One round: handles ended jobs and starts what is due. `jobs`: the jobs of this set;
    /// `limits`: how many workers it may have.
    pub fn round(&mut self, jobs: &[(JobHandle, Job)], limits: Limits) -> Result<Round> {
        let now = clock::now();
        let known = self.set.as_ref().filter(|set| !process::changed(set.segments()));
        let mut look = known.is_none();
        if look {
            self.refresh_plan(jobs, now)?;
        }
        let Some(set) = &self.set else { return Err(Error::NoExtension) };

        let mut ended = Vec::new();
        let mut running = HashSet::new();
        let mut served = Vec::new();
        for (ticket, job) in jobs {
            if !has_ended(job, now) {
                match job.segment() {
                    Some(segment) => drop(running.insert(segment)),
                    None => served.push(job.subject()),
                }
                continue;
            }
            ended.push(*ticket);
            match job.task {
                Task::Refresh => {
                    reconcile_lost_worker(set, job, jobs)?;
                    self.reads.remove(&job.subject());
                }
                Task::HandOver => {}
                Task::Deliver => {
                    self.deliveries.on_worker_exit(set, job, now)?;
                    look = true;
                    continue;
                }
            }
            clear_pending(&mut self.owed, job, now);
            // The segment may be due again by now, whatever the result was.
            let is_held = job.task == Task::Refresh
                && matches!(job.stage, JobState::Ended(JobResult::Waiting | JobResult::Busy));
            for item in due::items(set, role::current(), Some(&[job.subject()]))? {
                let next = if is_held { Some(item.next_check(now)) } else { item.next(now) };
                self.queue.set(item.id, next.filter(|_| item.due.is_some()));
            }
        }

        let due = self.queue.take_due(now);
        if !due.is_empty() {
            let concerned: Vec<Uuid> = due
                .iter()
                .copied()
                .chain(self.queue.pending())
                .chain(running.iter().copied())
                .collect();
            let mut items = due::items(set, role::current(), Some(&concerned))?;
            // A segment that was refreshed by hand in the meantime may not be due any more.
            items.retain(|item| {
                let must_rerun =
                    running.contains(&item.id) || item.next(now).is_some_and(|at| at <= now);
                if !must_rerun {
                    self.queue.set(item.id, item.next(now));
                }
                must_rerun
            });
            items.sort_by_key(|item| item.next(now));
            let planned = run::order_by_dependency(set, items, &mut self.reads)?;
            let pending = planned.into_iter().filter(|planned| !running.contains(&planned.id));
            self.queue.put(
                pending
                    .map(|planned| (planned.id, planned.after.iter().copied().collect(), planned)),
            );
        }

        let mut is_full = !self.start(&mut running, limits.refreshes)?;
        if let Some(set) = &self.set {
            let limit = limits.deliveries;
            is_full |= !self.deliveries.start(set, self.database, &served, limit, look)?;
        }
        self.prune()?;

        let next = self.queue.next().into_iter().chain(self.deliveries.next(&served)).min();
        // If there is no room for a worker, what is due cannot start: wait for the next regular
        // round instead of trying again at once.
        Ok(Round { ended, next: next.filter(|_| !is_full), is_full })
    }

    /// Reads the config of all segments: in the first round, and when it has changed. The first
    /// round also closes refreshes that are logged as running but have no job, and releases the
    /// leases of workers that are gone.
    fn refresh_plan(&mut self, jobs: &[(JobHandle, Job)], now: clock::Instant) -> Result<()> {
        let is_first = self.set.is_none();
        let set = RelationSet::of_mart(Extension::current()?, self.mart)?;
        process::watch(set.segments());
        process::watch(set.outbox());
        self.name = (!set.is_own).then(|| set.name().to_owned());
        let set = self.set.insert(set);
        if is_first {
            let alive: Vec<Uuid> = jobs.iter().map(|(_, job)| job.run()).collect();
            for name in state::interrupt(set, &alive, None)? {
                say_interrupted(&name);
            }
            let served: Vec<Uuid> = jobs
                .iter()
                .filter(|(_, job)| job.task == Task::Deliver)
                .map(|(_, job)| job.subject())
                .collect();
            push::release(set, None, &served)?;
        }
        let running: HashSet<Uuid> = jobs.iter().filter_map(|(_, job)| job.segment()).collect();
        let owed = subscription::with_pending_actions(set, role::current())?;
        self.owed = owed
            .into_iter()
            .map(|(id, name)| {
                (id, PendingPublish { name, at: now, must_rerun: running.contains(&id) })
            })
            .collect();
        self.queue.clear();
        self.reads.clear();
        for item in due::items(set, role::current(), None)? {
            if !running.contains(&item.id) {
                self.queue.set(item.id, item.next(now));
            }
        }
        Ok(())
    }

    /// Starts workers for refreshes and hand-overs until `limit` segments are running. Returns
    /// false if there is no room for another worker.
    fn start(&mut self, running: &mut HashSet<Uuid>, limit: usize) -> Result<bool> {
        let Some(set) = &self.set else { return Ok(true) };
        while running.len() < limit {
            let Some((id, planned)) = self.queue.take_ready(running) else { break };
            if let Some(error) = planned.blocking_error(set) {
                let request = planned.request(run::new_id());
                refresh::fail(set, &request, error, (clock::now(), Duration::ZERO))?;
                let items = due::items(set, role::current(), Some(&[id]))?;
                items.iter().for_each(|item| self.queue.set(id, item.next(clock::now())));
                continue;
            }
            if !self.spawn(Task::Refresh, planned.owner, id, &planned.name)? {
                self.queue.set(id, Some(clock::now()));
                return Ok(false);
            }
            running.insert(id);
        }
        // A segment that is due or running is handed over by its refresh.
        let now = clock::now();
        let owed = self.owed.iter().filter(|(id, owed)| {
            owed.at <= now && !running.contains(id) && !self.queue.is_pending(**id)
        });
        let owed: Vec<(Uuid, String)> = owed.map(|(id, owed)| (*id, owed.name.clone())).collect();
        for (id, name) in owed {
            if running.len() >= limit {
                break;
            }
            // A hand-over runs no code of the segment's owner. If the owner cannot connect, the
            // worker connects as the bootstrap superuser.
            let Some(planned) = run::hand_over_only(set, id)? else { continue };
            let able = planned.blocking_error(set).is_none();
            let role = if able { planned.owner } else { pg_sys::InvalidOid };
            if !self.spawn(Task::HandOver, role, id, &name)? {
                return Ok(false);
            }
            running.insert(id);
        }
        Ok(true)
    }

    /// Starts a worker for a segment. Returns false if there is no room for it.
    fn spawn(&self, task: Task, role: pg_sys::Oid, segment: Uuid, name: &str) -> Result<bool> {
        let set = (self.database, self.mart);
        super::start(set, task, role, segment, &format!("segmenter worker for {name}"))
    }

    fn prune(&mut self) -> Result<()> {
        let Some(set) = &self.set else { return Ok(()) };
        if self.pruned.is_none_or(|pruned| pruned.elapsed() >= PRUNING) {
            // Deleting captured changes reads the config of every set, so it needs a limit. (The
            // round of another set is limited as a whole.)
            let _limit = set.is_own.then(|| process::Limit::begin(Some(MAX_PRUNING)));
            let more = run::prune(set)?;
            self.pruned = (!more).then(Instant::now);
        }
        Ok(())
    }
}

/// Whether a job has ended, or its worker has not started in time.
pub fn has_ended(job: &Job, now: clock::Instant) -> bool {
    match job.stage {
        JobState::Ended(_) => true,
        JobState::Requested => (now - job.requested_at()).num_seconds() >= STARTING,
        _ => false,
    }
}

/// Removes the entry of a segment whose worker has completed. Otherwise sets the time of the next
/// try.
fn clear_pending(owed: &mut BTreeMap<Uuid, PendingPublish>, job: &Job, now: clock::Instant) {
    let Some(entry) = owed.get_mut(&job.subject()) else { return };
    if !matches!(job.stage, JobState::Ended(JobResult::Done | JobResult::Waiting)) {
        entry.at = now + TimeDelta::seconds(RETRY_DELAY.as_secs() as i64);
    } else if !std::mem::take(&mut entry.must_rerun) {
        owed.remove(&job.subject());
    }
}

/// Marks the run of a worker that died as failed: as `failed` if its refresh had not begun, as
/// `interrupted` if it is logged as running.
fn reconcile_lost_worker(set: &RelationSet, job: &Job, jobs: &[(JobHandle, Job)]) -> Result<()> {
    if !matches!(job.stage, JobState::Ended(JobResult::Died) | JobState::Requested) {
        return Ok(());
    }
    let segment = job.subject();
    match state::status_of(set, segment, job.run())?.as_deref() {
        None => {
            let Some(name) = run::name_of(set, segment)? else { return Ok(()) };
            let planned = PlannedRefresh::standalone(segment, name.clone());
            let request = planned.request(job.run());
            refresh::fail(set, &request, Error::WorkerDied(name), (clock::now(), Duration::ZERO))?;
        }
        Some("running") => {
            let others = jobs.iter().filter(|(_, other)| other.run() != job.run());
            let alive: Vec<Uuid> = others.map(|(_, other)| other.run()).collect();
            for name in state::interrupt(set, &alive, Some(segment))? {
                say_interrupted(&name);
            }
        }
        Some(_) => {}
    }
    Ok(())
}

fn say_interrupted(name: &str) {
    emit(
        PgLogLevel::LOG,
        format!("segmenter: the refresh of segment \"{name}\" was interrupted"),
        None,
    );
}
