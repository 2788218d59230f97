//! The scheduling of one relation set: handles the ends of jobs and starts a worker for each
//! refresh that is due. Each step is a transaction of its own: an error undoes its own step only.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use pgrx::datum::Uuid;
use pgrx::prelude::*;

use super::deliveries::Deliveries;
use super::logged::{Action, LoggedErrors};
use super::pruning::Pruning;
use super::{Started, limits, owner_role};
use crate::catalog::relation_set::{Extension, RelationSet};
use crate::catalog::state::{self, LostRun};
use crate::config::{Key, Segment};
use crate::delivery::push;
use crate::error::{Error, Report, Result, emit};
use crate::pg::bgw::job_table::{self, Job, JobSpec};
use crate::pg::bgw::process;
use crate::pg::clock;
use crate::refresh;
use crate::refresh::handover;
use crate::refresh::publish::subscription::Pending;
use crate::refresh::retention::{self, When};
use crate::schedule::due::{self, Item};
use crate::schedule::run::{self, PlannedRefresh};
use segmenter_core::clock::is_ahead;
use segmenter_core::job::{Effect, Event, Kind, RETRY_DELAY, Task};
use segmenter_core::queue::{Offer, Queue};

/// Time that a set has in a round. For a set other than the extension's own, what is still running
/// then is cancelled, because its owner could make it slow, which would delay the other sets.
const MAX_ROUND: Duration = Duration::from_secs(10);
/// The number of segments that no worker can refresh and whose failure is logged in one round.
const MAX_BLOCKED: usize = 20;

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

    /// Closes refreshes that are logged as running but have no job, and releases the leases of
    /// workers that are gone: what an earlier scheduler, or a crash, has left behind.
    fn recover(&mut self, deadline: &Deadline) -> std::result::Result<(), Report> {
        let database = self.database;
        let jobs = job_table::jobs(database);
        let interrupted = process::transaction_within(deadline.limit(), || {
            let set = self.open()?;
            let served: Vec<Uuid> = jobs
                .iter()
                .filter(|job| job.spec.task == Task::Deliver)
                .map(|job| job.spec.subject)
                .collect();
            push::release(set, None, &served)?;
            state::interrupt(set, || alive(database), None)
        })?;
        interrupted.names.iter().for_each(|name| log_interrupted(name));
        self.is_recovered = !interrupted.is_incomplete;
        Ok(())
    }

    /// Handles the ends of the collected jobs, each in a transaction of its own.
    fn handle_ended(&mut self, deadline: &Deadline) {
        for mut ended in std::mem::take(&mut self.ended) {
            let now = clock::now();
            if deadline.is_over() || ended.retry_at.is_some_and(|time| time > now) {
                self.ended.push(ended);
                continue;
            }
            let run = ended.job.spec.run;
            match self.handle(ended.job, deadline) {
                Ok(()) => self.errors.clear(Action::HandleEnd(run)),
                Err(report) => {
                    let what = format!("{}, handling the end of a worker", self.description());
                    self.errors.log(Action::HandleEnd(run), &what, &report);
                    let failed = ended.job.apply(Event::NotHandled, now);
                    let effects = failed.map(|to| to.effects).unwrap_or_default();
                    if effects.contains(&Effect::HandleAgain) {
                        ended.retry_at = Some(clock::now() + RETRY_DELAY);
                        self.ended.push(ended);
                    }
                }
            }
        }
    }

    /// Handles the end of a job: first the effects in the database, then those in memory.
    fn handle(&mut self, mut job: Job, deadline: &Deadline) -> std::result::Result<(), Report> {
        let now = clock::now();
        let Some(handled) = job.apply(Event::Handled, now) else { return Ok(()) };
        let subject = job.spec.subject;
        let database = self.database;
        let item = process::transaction_within(deadline.limit(), || {
            let set = self.open()?;
            for effect in handled.effects {
                match effect {
                    Effect::RecordLostRun => record_lost_run(set, &job, database)?,
                    Effect::RecordOverrun => record_overrun(set, &job)?,
                    Effect::ReleaseLeases => push::release(set, Some(subject), &[])?,
                    _ => {}
                }
            }
            let Some(segment) = job.segment() else { return Ok(None) };
            // The segment may be due again by now, whatever the result was.
            Ok(due::items(set, None, Some(&[segment]))?.pop())
        })?;

        let item = item.as_ref();
        for effect in handled.effects {
            match effect {
                Effect::BackOff if job.segment().is_none() => {
                    self.deliveries.back_off(subject, now);
                }
                Effect::BackOff => {
                    self.not_before.insert(subject, now + RETRY_DELAY);
                }
                Effect::QueueAgain => {
                    if item.is_some_and(|item| !was_attempted(item, &job)) {
                        self.not_before.insert(subject, now + RETRY_DELAY);
                    }
                    self.queue_at(subject, item.and_then(|item| item.next(now)));
                }
                Effect::QueueCheck => {
                    let checked = item.filter(|item| item.due.is_some());
                    self.queue_at(subject, checked.map(|item| item.next_check(now)));
                }
                Effect::Reorder => {
                    let earlier = self.reordered.insert(subject, now);
                    self.reordered.retain(|_, at| *at + RETRY_DELAY > now);
                    if earlier.is_some_and(|at| at + RETRY_DELAY > now) {
                        self.not_before.insert(subject, now + RETRY_DELAY);
                    }
                    self.queue_at(subject, item.and_then(|item| item.next(now)));
                }
                Effect::RemovePending => self.remove_pending(subject),
                Effect::RetryPending => {
                    if let Some(entry) = self.pending.get_mut(&subject) {
                        entry.at = now + RETRY_DELAY;
                    }
                }
                Effect::ListConsumers => self.deliveries.read_again(),
                // In the database, see above.
                Effect::RecordLostRun | Effect::RecordOverrun | Effect::ReleaseLeases => {}
                // Not effects of this event, or not of these tasks.
                Effect::TakePlace | Effect::FreePlace | Effect::HandleAgain | Effect::Resume => {}
            }
        }
        Ok(())
    }

    /// Removes the pending entry of a segment whose worker has written its messages. If the entry
    /// may be newer than the worker, it stays for another one.
    fn remove_pending(&mut self, segment: Uuid) {
        match self.pending.get_mut(&segment) {
            Some(entry) if entry.must_rerun => entry.must_rerun = false,
            Some(_) => {
                self.pending.remove(&segment);
            }
            None => {}
        }
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

    /// Puts the segments whose time has come into the order in which they are refreshed.
    fn take_due(&mut self, busy: &HashSet<Uuid>, now: clock::Instant) -> Result<()> {
        let due = self.queue.take_due(now);
        if due.is_empty() {
            return Ok(());
        }
        let Some(set) = &self.set else { return Err(Error::NoExtension) };
        // Segments that are waiting or running count for the order, too.
        let concerned: Vec<Uuid> =
            due.iter().copied().chain(self.queue.pending()).chain(busy.iter().copied()).collect();
        let items = due::items(set, None, Some(&concerned))?;
        // A segment that was refreshed by hand in the meantime may not be due any more.
        let is_due = |item: &Item| item.next(now).is_some_and(|at| at <= now);
        let (mut items, others): (Vec<Item>, Vec<Item>) =
            items.into_iter().partition(|item| busy.contains(&item.id) || is_due(item));
        items.sort_by_key(|item| item.next(now));
        let planned = run::order_by_dependency(set, items);
        for item in others {
            self.queue.set(item.id, item.next(now));
        }
        self.queue.put(planned.into_iter().map(|planned| {
            let is_busy = busy.contains(&planned.id);
            (planned.id, planned.position.clone(), (!is_busy).then_some(planned))
        }));
        Ok(())
    }

    /// Starts workers for refreshes. Returns the segments that no worker can refresh, and whether
    /// there was no room for another worker.
    fn start_refreshes(
        &mut self,
        busy: &mut Busy,
        is_shared: bool,
    ) -> Result<(Vec<PlannedRefresh>, bool)> {
        let Some(set) = &self.set else { return Err(Error::NoExtension) };
        let limits = limits(Kind::Refreshes, self.is_own, is_shared);
        let (mut blocked, mut started, mut is_full) = (Vec::new(), Vec::new(), false);
        let (database, mart) = (self.database, self.mart);
        self.queue.offer(&busy.segments, |id, planned| {
            if planned.blocking_error(set).is_some() {
                if blocked.len() == MAX_BLOCKED {
                    return Offer::Declined(planned);
                }
                blocked.push(planned);
                return Offer::Taken;
            }
            let spec = refresh_spec(Task::Refresh, (database, mart), planned.owner, id);
            match super::start(spec, limits, &process_name(&planned.name)) {
                Started::Yes => {
                    started.push(id);
                    Offer::Taken
                }
                Started::ShareTaken => Offer::Declined(planned),
                Started::Busy => Offer::Stop(planned),
                Started::NoRoom => {
                    is_full = true;
                    Offer::Stop(planned)
                }
            }
        });
        busy.segments.extend(started);
        Ok((blocked, is_full))
    }

    /// Starts workers for pending messages that need no refresh. Returns false if there is no room
    /// for another worker.
    fn start_hand_overs(&mut self, busy: &mut Busy, is_shared: bool) -> Result<bool> {
        let Some(set) = &self.set else { return Err(Error::NoExtension) };
        let limits = limits(Kind::Refreshes, self.is_own, is_shared);
        let now = clock::now();
        for (id, entry) in &self.pending {
            // A segment that is due or running is handed over by its refresh.
            let has_job = busy.segments.contains(id) || self.queue.is_pending(*id);
            if has_job || entry.at > now {
                continue;
            }
            let Some(planned) = run::hand_over_only(set, *id)? else { continue };
            // A hand-over runs no code of the segment's owner: if that role cannot connect, the set's
            // owner makes it.
            let can_connect = planned.blocking_error(set).is_none();
            let role = if can_connect { planned.owner } else { owner_role(set) };
            let mut spec = refresh_spec(Task::HandOver, (self.database, self.mart), role, *id);
            spec.account = set.account_of(Some(planned.owner)).to_u32();
            match super::start(spec, limits, &process_name(&entry.name)) {
                Started::Yes => {
                    busy.segments.insert(*id);
                }
                Started::ShareTaken => {}
                Started::Busy => break,
                Started::NoRoom => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Logs the failure of each segment that no worker can refresh, in transactions of their own.
    fn log_blocked(&mut self, blocked: Vec<PlannedRefresh>, deadline: &Deadline) {
        for planned in blocked {
            let (id, now) = (planned.id, clock::now());
            if deadline.is_over() {
                self.queue_at(id, Some(now));
                continue;
            }
            let logged = process::transaction_within(deadline.limit(), || {
                let set = self.open()?;
                if let Some(error) = planned.blocking_error(set) {
                    let request = planned.request(run::new_id());
                    refresh::fail(set, &request, error, (now, Duration::ZERO))?;
                }
                Ok(due::items(set, None, Some(&[id]))?.pop())
            });
            self.not_before.insert(id, now + RETRY_DELAY);
            match logged {
                Ok(item) => {
                    self.errors.clear(Action::LogFailure(id));
                    self.queue_at(id, item.and_then(|item| item.next(now)));
                }
                Err(report) => {
                    let what = format!(
                        "{}, logging a failure of \"{}\"",
                        self.description(),
                        planned.name
                    );
                    self.errors.log(Action::LogFailure(id), &what, &report);
                    self.queue_at(id, Some(now));
                }
            }
        }
    }

    /// Deletes old messages and log entries, and has workers delete former members, if it is time.
    pub fn prune(&mut self) {
        if self.is_backing_off() || !self.is_current {
            return;
        }
        let deadline = Deadline::new(!self.is_own);
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

/// Whether the worker of a job has left something that the next refresh of the segment is due after:
/// an attempt, or that the segment is waiting. If it has not, whatever the reason is, the segment would
/// be due again at once. A hand-over is no attempt.
fn was_attempted(item: &Item, job: &Job) -> bool {
    job.spec.task != Task::Refresh
        || item.waiting_since.is_some()
        || item.last_refresh.is_some_and(|at| at >= job.requested)
}

/// The job of a worker for a segment.
fn refresh_spec(
    task: Task,
    (database, set): (pg_sys::Oid, pg_sys::Oid),
    role: pg_sys::Oid,
    segment: Uuid,
) -> JobSpec {
    JobSpec {
        task,
        database: database.to_u32(),
        set: set.to_u32(),
        role: role.to_u32(),
        account: role.to_u32(),
        subject: segment,
        run: run::new_id(),
    }
}

/// The name of the process of a worker for a segment.
fn process_name(segment: &str) -> String {
    format!("segmenter worker for {segment}")
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

/// The runs of the present jobs.
fn alive(database: pg_sys::Oid) -> Vec<Uuid> {
    job_table::jobs(database).iter().map(|job| job.spec.run).collect()
}

/// Records the end of a run whose worker is gone: `failed` if nothing is recorded of it,
/// `interrupted` if it is recorded as running. If another session has refreshed the segment since, the
/// lost run gets its end in the log only.
fn record_lost_run(set: &RelationSet, job: &Job, database: pg_sys::Oid) -> Result<()> {
    let JobSpec { subject: segment, run, .. } = job.spec;
    let lost_at = job.ended.unwrap_or_else(clock::now);
    match state::find_lost_run(set, segment, run, lost_at)? {
        LostRun::Unknown => {
            let Some(name) = run::name_of(set, segment)? else { return Ok(()) };
            let planned = PlannedRefresh::standalone(segment, name.clone());
            let error = Error::WorkerDied(name);
            refresh::fail(set, &planned.request(run), error, (lost_at, Duration::ZERO))?;
        }
        LostRun::Running => {
            let interrupted = state::interrupt(set, || alive(database), Some(segment))?;
            if interrupted.is_incomplete {
                return Err(Error::OpenAttempt(segment));
            }
            interrupted.names.iter().for_each(|name| log_interrupted(name));
        }
        LostRun::Superseded => state::log_lost(set, segment, run)?,
        LostRun::Ended => {}
    }
    Ok(())
}

/// Records the failure of a job whose worker was ended, because its SQL did not react to the
/// cancellation at its time limit.
fn record_overrun(set: &RelationSet, job: &Job) -> Result<()> {
    let JobSpec { task, subject, run, .. } = job.spec;
    let limit = job.overrun.unwrap_or_default();
    let error = |what, limit_name| Error::Overrun {
        what,
        limit: limit_name,
        milliseconds: limit.as_millis(),
    };
    if task == Task::Deliver {
        return push::fail(set, subject, &error("the delivery", "its time limit"));
    }
    let Some(segment) = Segment::find_bare(set, Key::Id(subject))? else { return Ok(()) };
    let planned = PlannedRefresh::standalone(subject, segment.name.clone());
    let request = planned.request(run);
    let elapsed = limit + process::OVERRUN;
    let ended = job.ended.unwrap_or_else(clock::now);
    let began = ended - elapsed;
    let recorded = match task {
        Task::Refresh => state::find_lost_run(set, subject, run, ended)?,
        // The end of the refresh before is recorded.
        _ => LostRun::Ended,
    };
    match recorded {
        LostRun::Unknown | LostRun::Running => {
            let error = error("the refresh", "segmenter.refresh_timeout");
            refresh::fail(set, &request, error, (began, elapsed)).map(drop)
        }
        LostRun::Ended => {
            let error = error("the hand-over", "segmenter.refresh_timeout");
            handover::fail(set, &request, Some(&segment), error, (began, elapsed)).map(drop)
        }
        LostRun::Superseded => state::log_lost(set, subject, run),
    }
}

fn log_interrupted(name: &str) {
    emit(
        PgLogLevel::LOG,
        format!("segmenter: the refresh of segment \"{name}\" was interrupted"),
        None,
    );
}
