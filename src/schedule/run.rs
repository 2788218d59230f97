//! A run: all segments that are due, each after the segments whose tables it reads.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use pgrx::datum::{TimestampWithTimeZone, Uuid};
use pgrx::pg_sys::Oid;
use pgrx::prelude::*;

use crate::catalog::extension::Extension;
use crate::catalog::log;
use crate::catalog::log::LogStatus;
use crate::catalog::queries;
use crate::catalog::relation_set::{Relation, RelationSet};
use crate::catalog::state;
use crate::catalog::viewer::Viewer;
use crate::config::{self, Key, Subject};
use crate::error::{Error, Report, Result, counted, emit_warning};
use crate::pg::bgw::process;
use crate::pg::clock;
use crate::pg::exec::commit::Call;
use crate::pg::exec::role;
use crate::pg::exec::snapshot::Active;
use crate::pg::exec::statement;
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};
use crate::pg::format::uuid;
use crate::refresh::handover;
use crate::refresh::incremental::capture;
use crate::refresh::lists::Turns;
use crate::refresh::publish::outbox;
use crate::refresh::publish::subscription::Pending;
use crate::refresh::reads;
use crate::refresh::retention::{self, When};
use crate::refresh::{self, RefreshRequest, RefreshResult};
use crate::schedule::alerts;
use crate::schedule::due::{self, Item};
use segmenter_core::dependency_order::{self, Placed};
use segmenter_core::due::Due;
use segmenter_core::queue::Position;

/// The number of segments of a cycle that a message names.
const NAMED_IN_CYCLE: usize = 20;

/// A segment that is due, at its place in the order.
pub struct PlannedRefresh {
    pub id: Uuid,
    pub name: String,
    pub owner: pg_sys::Oid,
    /// The names of the segments in its cycle, or of the first of them. None: it is in no cycle.
    pub cycle: Option<Rc<[String]>>,
    /// What it reads and where it is stored.
    pub position: Position<Uuid, Oid>,
    /// It is not due: only pending messages for its subscribers are written, and members leave that its
    /// lists have gained. If its lists have lost members by then, it is refreshed.
    pub hand_over_only: bool,
    /// It is planned only because its lists are refreshed before.
    pub is_follower: bool,
}

impl PlannedRefresh {
    /// A segment without dependencies.
    pub fn standalone(id: Uuid, name: String) -> Self {
        Self {
            id,
            name,
            owner: pg_sys::InvalidOid,
            cycle: None,
            position: Position {
                stored_in: Oid::INVALID,
                reads: Vec::new(),
                lists: Vec::new(),
                reads_everything: false,
            },
            hand_over_only: false,
            is_follower: false,
        }
    }

    /// The request to refresh it as a part of the run `run_id`. If the segment is locked it is
    /// skipped.
    pub fn request(&self, run_id: Uuid) -> RefreshRequest<'_> {
        RefreshRequest {
            skip_busy: true,
            cycle: self.cycle.as_deref(),
            ..RefreshRequest::by_hand(Key::Id(self.id), &self.name, run_id)
        }
    }

    /// The error that prevents a worker from refreshing it: a cycle, or an owner that does not
    /// exist, cannot log in or connect, or that the set's owner may not act as. None: a worker can
    /// refresh it.
    pub fn blocking_error(&self, set: &RelationSet) -> Option<Error> {
        let segment = self.name.clone();
        if let Some(cycle) = &self.cycle {
            return Some(Error::Cycle { segment, cycle: cycle.to_vec() });
        }
        if !role::exists(self.owner) {
            return Some(Error::OwnerDropped {
                segment,
                segments: set.display_name(Relation::Segments),
            });
        }
        if let Err(error) = set.check_owner_can_act_as(self.owner) {
            return Some(error);
        }
        let owner = role::name(self.owner);
        match (role::can_log_in(self.owner), role::can_connect(self.owner)) {
            (Err(error), _) | (_, Err(error)) => Some(error),
            (Ok(false), _) => Some(Error::OwnerCannotLogIn { segment, owner }),
            (Ok(true), Ok(false)) => Some(Error::OwnerCannotConnect { segment, owner }),
            (Ok(true), Ok(true)) => None,
        }
    }
}

/// The segments that are due (with `all`: all automatic ones that are not held) and that the caller may refresh, in order; then the segments that are
/// not due but have pending messages. On a standby the result is empty, with a NOTICE.
pub fn plan(set: &RelationSet, all: bool) -> Result<Vec<PlannedRefresh>> {
    if process::is_in_recovery() {
        notice!("the server is in recovery: segments are refreshed on the primary");
        return Ok(Vec::new());
    }
    let now = clock::now();
    let items = due::items(set, Some(role::current()), None)?;
    let is_any = |item: &Item| item.due.is_some_and(|due| !matches!(due, Due::Held(_)));
    let is_planned = |item: &&Item| item.is_due(now) || all && is_any(item);
    let turns: HashSet<Uuid> = items.iter().filter(is_planned).map(|item| item.id).collect();
    // A family refreshes its segments, also those that have a schedule of their own.
    let is_with_family =
        |item: &&Item| item.stands_for != item.id && turns.contains(&item.stands_for);
    let due = items.iter().filter(is_planned).filter(|item| !is_with_family(item));
    let due: HashSet<Uuid> = due.map(|item| item.id).collect();
    let must_close: HashSet<Uuid> =
        items.iter().filter(|item| item.must_close).map(|item| item.id).collect();
    let mut items = with_followers(items, due.union(&must_close).copied().collect());
    // What the workers have found may be missing or old: a run analyses the queries itself.
    for item in &mut items {
        pgrx::check_for_interrupts!();
        item.reads = match config::Segment::find(set, Key::Id(item.id)) {
            Ok(Some(segment)) => reads::find(set, &segment).ordering(),
            _ => Vec::new(),
        };
    }
    let mut planned = order_by_dependency(set, items);
    let pending = Pending::find(set, Some(role::current()))?.segments;
    for planned in &mut planned {
        planned.hand_over_only = !due.contains(&planned.id);
        planned.is_follower = planned.hand_over_only
            && !must_close.contains(&planned.id)
            && !pending.contains_key(&planned.id);
    }
    let known: HashSet<Uuid> = planned.iter().map(|planned| planned.id).collect();
    for (id, name) in pending {
        if !known.contains(&id) {
            planned.push(PlannedRefresh {
                hand_over_only: true,
                ..PlannedRefresh::standalone(id, name)
            });
        }
    }
    Ok(planned)
}

/// The items that are taken, and those that may be freed when their lists are refreshed.
fn with_followers(items: Vec<Item>, mut taken: HashSet<Uuid>) -> Vec<Item> {
    let mut followers: HashMap<Uuid, Vec<Uuid>> = HashMap::new();
    for item in &items {
        for list in &item.lists {
            followers.entry(*list).or_default().push(item.stands_for);
        }
    }
    let mut left: Vec<Uuid> = taken.iter().copied().collect();
    while let Some(list) = left.pop() {
        for follower in followers.get(&list).into_iter().flatten() {
            if taken.insert(*follower) {
                left.push(*follower);
            }
        }
    }
    items.into_iter().filter(|item| taken.contains(&item.id)).collect()
}

/// Orders segments so that each comes after those whose tables it reads, as far as that is known.
pub fn order_by_dependency(set: &RelationSet, items: Vec<Item>) -> Vec<PlannedRefresh> {
    let mart = set.mart();
    let tables: HashSet<_> = items.iter().map(|item| item.table).collect();
    let positions: Vec<_> = items.iter().map(|item| position(item, &tables, mart)).collect();
    let places: HashMap<Uuid, usize> =
        items.iter().enumerate().map(|(place, item)| (item.id, place)).collect();
    let after: Vec<Vec<usize>> = items
        .iter()
        .map(|item| item.lists.iter().filter_map(|list| places.get(list).copied()).collect())
        .collect();
    let nodes: Vec<_> = positions
        .iter()
        .zip(&after)
        .map(|(position, after)| dependency_order::Item {
            stored_in: position.stored_in,
            reads: &position.reads,
            after,
            reads_everything: position.reads_everything,
        })
        .collect();
    let placed = dependency_order::order(&nodes);
    // Those of one cycle share their names.
    let mut named: Option<(usize, Rc<[String]>)> = None;
    let mut planned = Vec::with_capacity(placed.len());
    for Placed { item, cycle } in placed {
        let cycle = cycle.map(|cycle| {
            let known = named.take().filter(|(first, _)| *first == cycle[0]);
            let (first, names) = known.unwrap_or_else(|| {
                let names = cycle.iter().take(NAMED_IN_CYCLE).map(|&item| items[item].name.clone());
                (cycle[0], names.collect())
            });
            named = Some((first, names.clone()));
            names
        });
        let Item { id, name, owner, .. } = &items[item];
        planned.push(PlannedRefresh {
            id: *id,
            name: name.clone(),
            owner: *owner,
            cycle,
            position: positions[item].clone(),
            hand_over_only: false,
            is_follower: false,
        });
    }
    planned
}

/// The tables of other segments that a segment reads.
fn position(item: &Item, tables: &HashSet<Oid>, mart: Oid) -> Position<Uuid, Oid> {
    Position {
        stored_in: item.table,
        reads: item.reads.iter().copied().filter(|table| tables.contains(table)).collect(),
        lists: item.lists.clone(),
        reads_everything: item.reads.contains(&mart),
    }
}

thread_local! {
    /// The runs that this session has begun, and the roles that it had then; the oldest are forgotten.
    static BEGUN: RefCell<VecDeque<(Uuid, pg_sys::Oid)>> = const { RefCell::new(VecDeque::new()) };
}
thread_local! {
    /// The step that this session has made last, if it has failed: a failure of the commit that follows
    /// comes from this one.
    static FAILED: RefCell<Option<(Uuid, Uuid, Report)>> = const { RefCell::new(None) };
}
/// The number of runs that a session remembers.
const REMEMBERED_RUNS: usize = 100;

/// Begins a run whose steps the caller makes one by one. Returns its id.
pub fn begin() -> Uuid {
    let id = new_id();
    BEGUN.with_borrow_mut(|begun| {
        if begun.len() == REMEMBERED_RUNS {
            begun.pop_front();
        }
        begun.push_back((id, role::current()));
    });
    id
}

/// A step of a run that the caller has begun: only such ids, and only segments that it may refresh,
/// so that what the step records concerns the caller alone.
pub fn step_of_caller(
    set: &RelationSet,
    planned: &PlannedRefresh,
    run_id: Uuid,
) -> Result<Option<RefreshResult>> {
    match is_step_of_caller(set, planned, run_id)? {
        true => {
            let outcome = step(set, planned, run_id, None)?;
            let error = outcome.as_ref().and_then(|outcome| outcome.error.clone());
            FAILED.set(error.map(|error| (run_id, planned.id, error)));
            Ok(outcome)
        }
        false => Ok(Some(refresh::refuse(set, &planned.request(run_id), Duration::ZERO))),
    }
}

/// Whether the caller may refresh a segment. An error: it has not begun the run.
fn is_step_of_caller(set: &RelationSet, planned: &PlannedRefresh, run_id: Uuid) -> Result<bool> {
    let caller = role::current();
    if !BEGUN.with_borrow(|begun| begun.contains(&(run_id, caller))) {
        return Err(Error::Argument {
            name: "run_id",
            problem: "this session and role have begun no run with this id".into(),
            hint: "Pass an id that segmenter_run_id() has returned before.",
        });
    }
    let is_permitted: Option<bool> = set.as_owner(|| {
        let sql = set.sql(&queries::config::MAY_USE_SEGMENT, &[]);
        Spi::connect(|_| statement::read_one(&sql, &[planned.id.into(), caller.into()]))
    })?;
    Ok(is_permitted == Some(true))
}

/// Commits a step of a run that the caller has begun. If that fails (a deferred constraint, a lost
/// connection to a foreign server), the step is undone, and its failure is recorded and committed.
pub fn commit_step(call: &Call, planned: &PlannedRefresh, run_id: Uuid) -> Result<()> {
    call.check()?;
    let (began, timer) = (clock::now(), Instant::now());
    let Err(report) = call.commit() else { return Ok(()) };
    call.with_snapshot(|| {
        let set = RelationSet::writable()?;
        if !is_step_of_caller(&set, planned, run_id)? {
            return Ok(());
        }
        let (request, elapsed) = (planned.request(run_id), timer.elapsed());
        let failed = FAILED.take().filter(|(run, id, _)| (*run, *id) == (run_id, planned.id));
        let error = Error::Postgres(Box::new(failed.map_or(report, |(.., error)| error)));
        if !planned.hand_over_only {
            return refresh::fail(&set, &request, error, (began, elapsed)).map(drop);
        }
        let segment = config::Segment::find_bare(&set, Key::Id(planned.id))?;
        handover::fail(&set, &request, segment.as_ref(), error, (began, elapsed)).map(drop)
    })?;
    call.commit().map_err(|report| Error::Postgres(Box::new(report)))
}

/// Refreshes one segment of a run, or only hands it over. `turns`: those of a run in one transaction. None:
/// there was nothing to hand over.
pub fn step(
    set: &RelationSet,
    planned: &PlannedRefresh,
    run_id: Uuid,
    turns: Option<&Turns>,
) -> Result<Option<RefreshResult>> {
    let request = RefreshRequest { turns, ..planned.request(run_id) };
    if planned.hand_over_only && !is_freed(set, planned.id)? {
        return handover::hand_over(set, &request);
    }
    let mut outcome = refresh::refresh(set, &request)?;
    // Messages that need no refresh (for a new or an ended subscription) are written even if the
    // refresh did not succeed.
    if !matches!(outcome.status, LogStatus::Ok | LogStatus::Skipped) {
        let handed = handover::hand_over(set, &request)?;
        outcome.messages = handed.and_then(|handed| handed.messages);
    }
    Ok(Some(outcome))
}

/// Whether a segment is due because its lists have lost members.
fn is_freed(set: &RelationSet, segment: Uuid) -> Result<bool> {
    // It sees what the steps before have done.
    let _snapshot = Active::fresh();
    let item = due::items(set, None, Some(&[segment]))?.pop();
    Ok(item.is_some_and(|item| item.due == Some(Due::Freed)))
}

/// The name of a segment. Retired segments are found, too, since their subscribers may have to be
/// handed the end of an audience.
pub fn name_of(set: &RelationSet, segment: Uuid) -> Result<Option<String>> {
    let found = config::Segment::find_bare(set, Key::Id(segment))?;
    Ok(found.map(|segment| segment.name))
}

/// The plan to hand over a segment that is not due. None: the segment does not exist.
pub fn hand_over_only(set: &RelationSet, segment: Uuid) -> Result<Option<PlannedRefresh>> {
    let found = config::Segment::find_bare(set, Key::Id(segment))?;
    Ok(found.map(|segment| PlannedRefresh {
        owner: segment.owner,
        hand_over_only: true,
        ..PlannedRefresh::standalone(segment.id, segment.name)
    }))
}

/// The id of a new run: ids of runs sort by time.
pub fn new_id() -> Uuid {
    uuid::time_ordered()
}

/// Refreshes all segments that are due (with `all`: all automatic ones) in one transaction, and then deletes what is past its
/// retention. A transaction that takes no more locks keeps what it has done; the other segments stay
/// due.
pub fn run(set: &RelationSet, all: bool, run_id: Uuid) -> Result<Vec<RefreshResult>> {
    let plan = plan(set, all)?;
    if plan.len() > 1 {
        state::hold_counts(set)?;
    }
    let mut outcomes = Vec::new();
    // Segments that have gained or lost members.
    let mut moved: HashSet<Uuid> = HashSet::new();
    let turns = Turns::of(plan.iter().map(|planned| planned.id));
    for (number, planned) in plan.iter().enumerate() {
        turns.begin(planned.id);
        if planned.is_follower && !planned.position.lists.iter().any(|list| moved.contains(list)) {
            continue;
        }
        // What it has locked is released with its work.
        let made = in_subtransaction(OnSuccess::Commit, || {
            match step(set, planned, run_id, Some(&turns))? {
                Some(outcome)
                    if number > 0 && outcome.error.as_ref().is_some_and(Report::lacks_memory) =>
                {
                    Err(Error::OutOfLocks { done: number, planned: plan.len() })
                }
                outcome => Ok(outcome),
            }
        });
        match made {
            Ok(outcome) => {
                if let Some(outcome) = outcome {
                    if outcome.has_moved() {
                        moved.insert(planned.id);
                    }
                    let outcomes_of = outcome.flattened();
                    let has_moved = |other: &RefreshResult| {
                        other.figures.is_some() || other.status != LogStatus::Ok
                    };
                    let are_closed = |name: &str| {
                        let others = outcomes_of.iter().skip(1);
                        others.into_iter().any(|other| other.segment == name && has_moved(other))
                    };
                    let closed = plan.iter().filter(|planned| are_closed(&planned.name));
                    moved.extend(closed.map(|planned| planned.id));
                    outcomes.extend(outcomes_of);
                }
            }
            Err(Error::Postgres(report)) if number > 0 && report.lacks_memory() => {
                stop(set, planned, run_id, Error::OutOfLocks { done: number, planned: plan.len() });
                break;
            }
            Err(error @ Error::OutOfLocks { .. }) => {
                stop(set, planned, run_id, error);
                break;
            }
            Err(error) => return Err(error),
        }
    }
    // A look or a deletion that fails does not undo the refreshes.
    if let Err(error) = in_subtransaction(OnSuccess::Commit, || alerts::look(set)) {
        emit_warning("alerts were not reported", &error.report());
    }
    if let Err(error) = in_subtransaction(OnSuccess::Commit, || prune(set, When::Due)) {
        emit_warning("what is past its retention was not deleted", &error.report());
    }
    Ok(outcomes)
}

/// Reports that a run stops before a segment, which has nothing to do with it.
fn stop(set: &RelationSet, planned: &PlannedRefresh, run_id: Uuid, error: Error) {
    let report = error.report();
    emit_warning("the run stopped early", &report);
    let logged = in_subtransaction(OnSuccess::Commit, || {
        let entry = log::Entry {
            run_id: Some(run_id),
            action: log::Action::Refresh,
            status: LogStatus::Skipped,
            segment: (Some(planned.id), &planned.name),
            subscription: None,
            counts: log::LogCounts::default(),
            began: clock::now(),
            elapsed: None,
            message: Some(&report.message),
            error: Some(&report),
            params: serde_json::json!({"attempted": false}),
            reason: None,
        };
        log::write(set, entry)?;
        state::count_outcome(set, planned.id, LogStatus::Skipped)
    });
    if let Err(error) = logged {
        emit_warning("that was not logged", &error.report());
    }
}

/// Refreshes one segment outside of a run. One that watches tables deletes captured changes then, as a
/// run does: where all refreshes are made by hand, nothing else would.
pub fn by_hand(set: &RelationSet, request: &RefreshRequest<'_>) -> Result<RefreshResult> {
    let mut outcome = refresh::refresh(set, request)?;
    remark_others(&mut outcome);
    outcome.members.iter_mut().for_each(remark_others);
    let watches = |outcome: &RefreshResult| outcome.status == LogStatus::Ok && outcome.watches;
    let reads_changes = watches(&outcome) || outcome.members.iter().any(watches);
    if reads_changes && !request.dry_run {
        let pruned = in_subtransaction(OnSuccess::Commit, || prune_changes(&set.extension));
        if let Err(error) = pruned {
            emit_warning("captured changes were not deleted", &error.report());
        }
    }
    Ok(outcome)
}

/// Adds to the remark of a refresh what has left other segments.
fn remark_others(outcome: &mut RefreshResult) {
    let removed: u64 =
        outcome.others.iter().filter_map(|other| other.figures).map(|other| other.removed).sum();
    let messages: i64 = outcome.others.iter().filter_map(|other| other.messages).sum();
    if removed as i64 + messages > 0 && outcome.status == LogStatus::Ok {
        let from = match outcome.others.len() {
            1 => "1 segment that leaves out its members".to_owned(),
            many => format!("{many} segments that leave out its members"),
        };
        let remark = match removed {
            // They have left already, but consumers have them while changes are held back.
            0 => format!("{} to remove people: of {from}", counted(messages, "message")),
            _ => format!("{} removed from {from}", counted(removed as i64, "member")),
        };
        let remarks: Vec<String> = outcome.detail.take().into_iter().chain([remark]).collect();
        outcome.detail = Some(remarks.join("; "));
    }
}

/// Deletes one batch each of delivered messages, captured changes, log entries and former members that
/// are past their retention.
pub fn prune(set: &RelationSet, when: When) -> Result<()> {
    prune_changes(&set.extension)?;
    prune_messages(set)?;
    prune_log(set)?;
    retention::prune_all(set, when)?;
    Ok(())
}

/// Deletes a batch of captured changes that all segments of all sets have read. Returns whether
/// there may be more.
pub fn prune_changes(extension: &Extension) -> Result<bool> {
    capture::prune(extension)
}

/// Deletes a batch of messages that are past their retention. Returns whether there may be more.
pub fn prune_messages(set: &RelationSet) -> Result<bool> {
    outbox::prune(set)
}

/// Deletes a batch of log entries that are past their retention. Returns whether there may be more.
pub fn prune_log(set: &RelationSet) -> Result<bool> {
    state::add_up_counts(set)?;
    log::prune(set)
}

/// The next time of a schedule after a time, by the local time of a zone (default:
/// `segmenter.timezone`). None: the schedule has no further time.
pub fn cron_next(
    expression: &str,
    after: TimestampWithTimeZone,
    timezone: Option<&str>,
) -> Result<Option<TimestampWithTimeZone>> {
    let zone = match timezone {
        Some(zone) => zone.to_owned(),
        None => Extension::current()?.timezone().to_owned(),
    };
    let schedule = config::cron("expression", Some(expression), Subject::Schedule)?;
    let zone = config::timezone("timezone", Some(&zone), Subject::Schedule)?;
    let next = schedule
        .zip(zone)
        .and_then(|(schedule, zone)| schedule.next_after(clock::instant(after), zone));
    Ok(next.map(clock::timestamp))
}

/// A row of `segmenter_due()`.
pub struct DueRow {
    pub segment: String,
    pub refresh_cron: Option<String>,
    pub last_refresh: Option<TimestampWithTimeZone>,
    pub next_refresh: Option<TimestampWithTimeZone>,
    pub due: bool,
    pub reason: String,
}

/// When the segments whose figures the caller may see are due, whether they are due at the time `at`, and
/// why.
pub fn due(set: &RelationSet, at: TimestampWithTimeZone) -> Result<Vec<DueRow>> {
    let at = clock::instant(at);
    let items = due::items(set, Viewer::current(set).reader(), None)?;
    let rows = items.into_iter().map(|item| DueRow {
        due: item.is_due(at),
        reason: item.reason(at),
        last_refresh: item.last_refresh().map(clock::timestamp),
        next_refresh: item.due.and_then(Due::at).map(clock::timestamp),
        segment: item.name,
        refresh_cron: item.refresh_cron,
    });
    Ok(rows.collect())
}
