//! The scheduling of one relation set: handles the ends of jobs and starts a worker for each
//! refresh that is due. Each step is a transaction of its own: an error undoes its own step only.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use pgrx::datum::Uuid;
use pgrx::prelude::*;

use super::deliveries::Deliveries;
use super::limits;
use super::logged::{Action, LoggedErrors};
use super::pruning::Pruning;
use crate::catalog::extension::Extension;
use crate::catalog::relation_set::RelationSet;
use crate::error::{Error, Report, Result};
use crate::pg::bgw::job_table::{self, Job};
use crate::pg::bgw::process;
use crate::pg::clock;
use crate::refresh::publish::subscription::Pending;
use crate::refresh::retention::{self, When};
use crate::schedule::alerts;
use crate::schedule::due;
use crate::schedule::run::{self, PlannedRefresh};
use segmenter_core::clock::is_ahead;
use segmenter_core::job::{Kind, RETRY_DELAY};
use segmenter_core::queue::Queue;

mod ends;
mod starts;

/// Time that a set has in a round. For a set other than the extension's own, what is still running
/// then is cancelled, because its owner could make it slow, which would delay the other sets.
const MAX_ROUND: Duration = Duration::from_secs(10);
/// How often alerts are looked for that no refresh tells.
const LOOK_INTERVAL: Duration = Duration::from_secs(30);
/// The result of a round.
#[derive(Default)]
pub struct Round {
    /// The next time at which something is due.
    pub next: Option<clock::Instant>,
    /// A worker could not be started, because the job table is full or no process is left.
    pub is_full: bool,
}

/// A collected job whose end is not handled yet.
struct EndedJob {
    job: Job,
    /// Not handled again before this time.
    retry_at: Option<clock::Instant>,
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

/// The segments and consumers that must not get a job now.
struct Busy {
    segments: HashSet<Uuid>,
    consumers: Vec<Uuid>,
}

/// What is left to do after workers were started.
struct Leftover {
    /// Segments that are due and that no worker can refresh.
    blocked: Vec<PlannedRefresh>,
    next_delivery: Option<clock::Instant>,
    is_full: bool,
}

/// A relation set, and the state of its segments and consumers.
pub struct SetScheduler {
    database: pg_sys::Oid,
    database_name: String,
    pub mart: pg_sys::Oid,
    is_own: bool,
    /// The set's name at the last reading of its config. None: the extension's own set, or not read
    /// yet.
    name: Option<String>,
    /// None: not read yet.
    set: Option<RelationSet>,
    /// Nothing has changed since `set` was read.
    is_current: bool,
    /// The queue and the pending entries are filled from the present config.
    is_planned: bool,
    /// What an earlier scheduler has left behind is repaired.
    is_recovered: bool,
    /// Something is due that could not be started in the last round.
    is_held_up: bool,
    /// A round has come to its end.
    pub was_served: bool,
    /// When the last round began.
    last_round: Option<clock::Instant>,
    /// After an error the set is not served before this time.
    backoff_until: Option<Instant>,
    errors: LoggedErrors,
    ended: Vec<EndedJob>,
    queue: Queue<Uuid, pg_sys::Oid, PlannedRefresh>,
    /// The roles that own segments which workers refresh.
    owners: HashSet<pg_sys::Oid>,
    /// Segments whose last attempt has failed: not queued before this time.
    not_before: HashMap<Uuid, clock::Instant>,
    /// When segments were put in order again because of what their workers had found.
    reordered: HashMap<Uuid, clock::Instant>,
    /// Segments with pending messages that need no refresh.
    pending: BTreeMap<Uuid, PendingPublish>,
    /// When more may have some as time passes.
    next_pending: Option<clock::Instant>,
    deliveries: Deliveries,
    prune_messages: Pruning,
    prune_log: Pruning,
    prune_members: Pruning,
    alerts: Pruning,
}

impl SetScheduler {
    pub fn new(
        (database, database_name): (pg_sys::Oid, &str),
        mart: pg_sys::Oid,
        is_own: bool,
    ) -> Self {
        Self {
            database,
            database_name: database_name.to_owned(),
            mart,
            is_own,
            name: None,
            set: None,
            is_current: false,
            is_planned: false,
            is_recovered: false,
            is_held_up: false,
            was_served: false,
            last_round: None,
            backoff_until: None,
            errors: LoggedErrors::default(),
            ended: Vec::new(),
            queue: Queue::default(),
            owners: HashSet::new(),
            not_before: HashMap::new(),
            reordered: HashMap::new(),
            pending: BTreeMap::new(),
            next_pending: None,
            deliveries: Deliveries::default(),
            prune_messages: Pruning::default(),
            prune_log: Pruning::default(),
            prune_members: Pruning::default(),
            alerts: Pruning::every(LOOK_INTERVAL),
        }
    }

    /// Makes the next round look up the set again: what the registry says of it may have changed.
    pub fn read_again(&mut self) {
        self.is_current = false;
    }

    /// Discards what was read. The next round reads it again. Collected jobs are kept.
    pub fn forget(&mut self) {
        self.is_current = false;
        self.is_planned = false;
        self.queue.clear();
        self.pending.clear();
    }

    /// Whether nothing of the set is to be done now, so that its next time is all there is to wait
    /// for.
    pub fn is_idle(&self) -> bool {
        self.is_planned
            && !self.is_backing_off()
            && self.ended.is_empty()
            && self.pending.is_empty()
            && !self.is_held_up
            && !self.alerts.is_near()
    }

    /// Ends the scheduling of a set that does not exist any more.
    pub fn close(self) {
        if let Some(set) = self.set {
            set.relations().iter().for_each(|relation| process::unwatch(*relation));
        }
    }

    /// Takes over a job that was collected from the job table.
    pub fn add_ended(&mut self, job: Job) {
        self.ended.push(EndedJob { job, retry_at: None });
    }

    /// One round: handles the ends of jobs and starts what is due. `is_shared`: other roles have
    /// sets, and are left a place.
    pub fn round(&mut self, is_shared: bool) -> Round {
        self.notice_clock();
        if self.is_backing_off() {
            return Round::default();
        }
        let deadline = Deadline::new(!self.is_own);
        match self.serve(&deadline, is_shared) {
            Ok(round) => {
                self.errors.clear(Action::Plan);
                round
            }
            Err(report) => {
                self.forget();
                self.backoff_until = Some(Instant::now() + RETRY_DELAY);
                self.errors.log(Action::Plan, &self.description(), &report);
                Round::default()
            }
        }
    }

    /// Discards the times that were reckoned from a clock which has been set back since.
    fn notice_clock(&mut self) {
        let now = clock::now();
        if self.last_round.is_some_and(|last| is_ahead(last, now)) {
            self.forget();
            self.not_before.clear();
            self.reordered.clear();
            self.ended.iter_mut().for_each(|ended| ended.retry_at = None);
            self.deliveries = Deliveries::default();
            self.deliveries.read_again();
        }
        self.last_round = Some(now);
    }

    fn serve(
        &mut self,
        deadline: &Deadline,
        is_shared: bool,
    ) -> std::result::Result<Round, Report> {
        if !self.is_recovered {
            self.recover(deadline)?;
        }
        if !self.ended.is_empty() {
            self.alerts.hurry();
        }
        self.handle_ended(deadline);
        if deadline.is_over() {
            // The other sets are served first.
            if !self.is_own {
                self.backoff_until = Some(Instant::now() + RETRY_DELAY);
            }
            return Ok(Round { next: Some(clock::now()), is_full: false });
        }

        // The jobs are read before the transaction takes its snapshot. So the snapshot contains all
        // that the workers of other jobs have committed.
        let busy = self.busy();
        let plan = || self.plan(busy, is_shared);
        let started = process::transaction_within(deadline.limit(), plan)?;
        self.log_blocked(started.blocked, deadline);

        let retries = self.ended.iter().filter_map(|ended| ended.retry_at);
        let times = self.queue.next().into_iter().chain(started.next_delivery);
        let next = retries.chain(times).chain(self.next_pending).min();
        // If there is no room for a worker, what is due cannot start: wait for the next regular
        // round instead of trying again at once.
        let is_full = started.is_full;
        let is_waiting = self.queue.pending().next().is_some();
        self.is_held_up = is_full || is_waiting || self.deliveries.are_held_up();
        self.was_served = true;
        Ok(Round { next: next.filter(|_| !is_full), is_full })
    }

    /// Whether the set waits after an error.
    fn is_backing_off(&self) -> bool {
        self.backoff_until.is_some_and(|until| until > Instant::now())
    }

    /// The set, for log messages.
    fn description(&self) -> String {
        match &self.name {
            Some(set) => format!("scheduler of database \"{}\", set {set}", self.database_name),
            None => format!("scheduler of database \"{}\"", self.database_name),
        }
    }

    /// The set, read again if it has changed. Must be called in a transaction.
    fn open(&mut self) -> Result<&RelationSet> {
        if let Some(set) = &self.set {
            // The outbox is for the deliveries to ask about.
            let asked = set.relations().iter().filter(|relation| **relation != set.outbox());
            let changed: Vec<_> = asked.filter(|relation| process::changed(**relation)).collect();
            self.is_current &= changed.is_empty();
            self.is_planned &= !changed.contains(&&set.segments());
        }
        if let Some(set) = self.set.take().filter(|_| self.is_current) {
            return Ok(self.set.insert(set));
        }
        let set = RelationSet::of_mart(Extension::current()?, self.mart)?;
        set.relations().iter().for_each(|relation| process::watch(*relation));
        self.name = (!set.is_own).then(|| set.name().to_owned());
        self.is_current = true;
        Ok(self.set.insert(set))
    }

    /// Queues a segment for a time; `None`: it is not due. After a failure it waits for its delay.
    fn queue_at(&mut self, segment: Uuid, time: Option<clock::Instant>) {
        let not_before = self.not_before.get(&segment);
        let time = time.map(|time| not_before.map_or(time, |not_before| time.max(*not_before)));
        self.queue.set(segment, time);
    }

    /// Which segments and consumers have a job, or had one whose end is not handled yet.
    fn busy(&self) -> Busy {
        let jobs = job_table::jobs(self.database);
        let own = jobs.iter().filter(|job| job.spec.set == self.mart.to_u32());
        let (mut segments, mut consumers) = (HashSet::new(), Vec::new());
        for job in own.chain(self.ended.iter().map(|ended| &ended.job)) {
            match job.segment() {
                Some(segment) => {
                    segments.insert(segment);
                }
                None => consumers.push(job.spec.subject),
            }
        }
        Busy { segments, consumers }
    }

    /// Finds what is due and starts workers for it. It writes nothing, so nothing is undone if the
    /// transaction fails.
    fn plan(&mut self, mut busy: Busy, is_shared: bool) -> Result<Leftover> {
        let now = clock::now();
        self.open()?;
        let has_pending = self.next_pending.is_some_and(|at| at <= now);
        if !self.is_planned || has_pending {
            self.read_plan(&busy.segments, now)?;
        }
        self.take_due(&busy.segments, now)?;
        let is_shared = is_shared || self.owners.len() > 1;
        let (blocked, mut is_full) = self.start_refreshes(&mut busy, is_shared)?;
        if !is_full {
            is_full = !self.start_hand_overs(&mut busy, is_shared)?;
        }
        let Some(set) = &self.set else { return Err(Error::NoExtension) };
        let limits = limits(Kind::Deliveries, self.is_own, is_shared);
        is_full |= !self.deliveries.start(set, self.database, &mut busy.consumers, limits)?;
        let next_delivery = self.deliveries.next(&busy.consumers);
        Ok(Leftover { blocked, next_delivery, is_full })
    }

    /// Reads the config of all segments: in the first round, and when it has changed. `busy`: the
    /// segments that have a job.
    fn read_plan(&mut self, busy: &HashSet<Uuid>, now: clock::Instant) -> Result<()> {
        let Some(set) = &self.set else { return Err(Error::NoExtension) };
        let Pending { segments: pending, next } = Pending::find(set, None)?;
        self.next_pending = next;
        let items = due::items(set, None, None)?;
        // Members that their lists have gained leave these without a refresh.
        let behind = items.iter().filter(|item| item.must_close);
        let behind = behind.map(|item| (item.id, item.name.clone()));
        self.pending = pending
            .into_iter()
            .chain(behind)
            .map(|(id, name)| {
                (id, PendingPublish { name, at: now, must_rerun: busy.contains(&id) })
            })
            .collect();
        self.queue.clear();
        let automatic = items.iter().filter(|item| item.due.is_some());
        self.owners = automatic.map(|item| item.owner).collect();
        self.not_before.retain(|_, time| *time > now);
        for item in items.iter().filter(|item| !busy.contains(&item.id)) {
            self.queue_at(item.id, item.next(now));
        }
        self.deliveries.read_again();
        self.is_planned = true;
        Ok(())
    }

    /// Looks for alerts, deletes old messages and log entries, and has workers delete former members, if it is time.
    pub fn prune(&mut self) {
        if self.is_backing_off() || !self.is_current {
            return;
        }
        let deadline = Deadline::new(!self.is_own);
        let mut look = std::mem::replace(&mut self.alerts, Pruning::every(LOOK_INTERVAL));
        let looked = look.run(deadline.limit(), || alerts::look(self.open()?).map(|()| false));
        self.alerts = look;
        self.note_pruned(Action::Alert, "looking for alerts", looked);

        let mut prune_messages = std::mem::take(&mut self.prune_messages);
        let pruned = prune_messages.run(deadline.limit(), || run::prune_messages(self.open()?));
        self.prune_messages = prune_messages;
        self.note_pruned(Action::PruneMessages, "deleting old messages", pruned);

        let mut prune_log = std::mem::take(&mut self.prune_log);
        let pruned = prune_log.run(deadline.limit(), || run::prune_log(self.open()?));
        self.prune_log = prune_log;
        self.note_pruned(Action::PruneLog, "deleting old log entries", pruned);

        // Members are a worker's to write: a segment's, after a hand-over that may have nothing to do.
        let mut prune_members = std::mem::take(&mut self.prune_members);
        let mut due = Vec::new();
        let pruned = prune_members.run(deadline.limit(), || {
            due = retention::list(self.open()?, None, When::Due)?;
            Ok(false)
        });
        self.prune_members = prune_members;
        let at = clock::now();
        for segment in due {
            let entry = PendingPublish { name: segment.name, at, must_rerun: false };
            self.pending.entry(segment.id).or_insert(entry);
        }
        self.note_pruned(Action::PruneMembers, "listing segments with a retention", pruned);
    }

    fn note_pruned(
        &mut self,
        action: Action,
        what: &str,
        pruned: Option<std::result::Result<(), Report>>,
    ) {
        match pruned {
            None => {}
            Some(Ok(())) => self.errors.clear(action),
            Some(Err(report)) => {
                let what = format!("{}, {what}", self.description());
                self.errors.log(action, &what, &report);
            }
        }
    }
}

/// The end of the time that a set has in a round.
struct Deadline {
    end: Instant,
    /// What is still running then is cancelled.
    is_hard: bool,
}

impl Deadline {
    fn new(is_hard: bool) -> Self {
        Self { end: Instant::now() + MAX_ROUND, is_hard }
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.end
    }

    /// The time limit of the next transaction.
    fn limit(&self) -> Option<Duration> {
        self.is_hard.then(|| self.end.saturating_duration_since(Instant::now()))
    }
}
