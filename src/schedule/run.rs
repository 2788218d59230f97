//! A run: all segments that are due, each after the segments whose tables it reads.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use pgrx::datum::{TimestampWithTimeZone, Uuid};
use pgrx::prelude::*;

use crate::catalog::log;
use crate::catalog::log::LogStatus;
use crate::catalog::queries;
use crate::catalog::relation_set::{Extension, Relation, RelationSet};
use crate::catalog::settings;
use crate::config::{self, Key, Refresher, Sql, Subject};
use crate::error::{Error, Result, emit_warning};
use crate::pg::bgw::process;
use crate::pg::clock;
use crate::pg::exec::role;
use crate::pg::exec::statement;
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};
use crate::pg::format::uuid;
use crate::refresh::delta;
use crate::refresh::handover;
use crate::refresh::incremental;
use crate::refresh::incremental::capture;
use crate::refresh::publish::outbox;
use crate::refresh::publish::subscription;
use crate::refresh::source_check;
use crate::refresh::{self, RefreshRequest, RefreshResult};
use crate::schedule::due::{self, Item};
use segmenter_core::dependency_order::{self, Placed, order};
use segmenter_core::due::Due;

/// A segment that is due, at its place in the order.
pub struct PlannedRefresh {
    pub id: Uuid,
    pub name: String,
    pub owner: pg_sys::Oid,
    /// The names of the segments in its cycle, its own among them. None: it is in no cycle.
    pub cycle: Option<Vec<String>>,
    /// The segments that must be refreshed before it, because it reads their tables.
    pub after: Vec<Uuid>,
    /// It is not due: only pending messages for its subscribers are written.
    pub hand_over_only: bool,
}

impl PlannedRefresh {
    /// A segment without dependencies.
    pub fn standalone(id: Uuid, name: String) -> Self {
        Self {
            id,
            name,
            owner: pg_sys::InvalidOid,
            cycle: None,
            after: Vec::new(),
            hand_over_only: false,
        }
    }

    /// The request to refresh it as a part of the run `run_id`. If the segment is locked it is
    /// skipped.
    pub fn request(&self, run_id: Uuid) -> RefreshRequest<'_> {
        RefreshRequest {
            segment: Key::Id(self.id),
            name: &self.name,
            query: None,
            dry_run: false,
            force: false,
            full: false,
            skip_busy: true,
            cycle: self.cycle.as_deref(),
            run_id,
        }
    }

    /// The error that prevents a worker from refreshing it: a cycle, or an owner that does not
    /// exist, cannot log in or connect, or that the set's owner may not act as. None: a worker can
    /// refresh it.
    pub fn blocking_error(&self, set: &RelationSet) -> Option<Error> {
        let segment = self.name.clone();
        if let Some(cycle) = &self.cycle {
            return Some(Error::Cycle { segment, cycle: cycle.clone() });
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

/// The relations that segments read, by segment id. Filled as far as needed.
pub type ReadTables = HashMap<Uuid, Vec<pg_sys::Oid>>;

/// The segments that are due and that the caller may refresh, in order; then the segments that are
/// not due but have pending messages. On a standby the result is empty, with a NOTICE.
pub fn plan(set: &RelationSet) -> Result<Vec<PlannedRefresh>> {
    if process::is_in_recovery() {
        notice!("the server is in recovery: segments are refreshed on the primary");
        return Ok(Vec::new());
    }
    let now = clock::now();
    let mut items = due::items(set, role::current(), None)?;
    items.retain(|item| item.is_due(now));
    let mut planned = order_by_dependency(set, items, &mut ReadTables::new())?;
    for (id, name) in subscription::with_pending_actions(set, role::current())? {
        if !planned.iter().any(|planned| planned.id == id) {
            planned.push(PlannedRefresh {
                hand_over_only: true,
                ..PlannedRefresh::standalone(id, name)
            });
        }
    }
    Ok(planned)
}

/// Orders segments so that each comes after those whose tables it reads. `known`: a cache of the
/// relations that segments read.
pub fn order_by_dependency(
    set: &RelationSet,
    items: Vec<Item>,
    known: &mut ReadTables,
) -> Result<Vec<PlannedRefresh>> {
    if items.is_empty() {
        return Ok(Vec::new());
    }
    let mart = set.mart();
    for item in &items {
        known.entry(item.id).or_insert_with(|| reads(set, item));
    }
    let mut by_table: HashMap<pg_sys::Oid, Vec<usize>> = HashMap::new();
    for (place, item) in items.iter().enumerate() {
        by_table.entry(item.table).or_default().push(place);
    }
    let reads: Vec<dependency_order::Dependencies> = items
        .iter()
        .enumerate()
        .map(|(this, reader)| dependency_order::Dependencies {
            items: known[&reader.id]
                .iter()
                .flat_map(|table| by_table.get(table).into_iter().flatten())
                .copied()
                .filter(|other| *other != this)
                .collect(),
            everything: known[&reader.id].contains(&mart),
        })
        .collect();
    let placed = order(&reads);
    let planned = placed.iter().enumerate().map(|(place, Placed { item, cycle })| {
        let earlier = placed[..place].iter().map(|earlier| earlier.item);
        let reads = &reads[*item];
        let after = earlier.filter(|other| reads.everything || reads.items.contains(other));
        let Item { id, name, owner, .. } = &items[*item];
        let names = cycle.iter().map(|&item| items[item].name.clone()).collect();
        PlannedRefresh {
            id: *id,
            name: name.clone(),
            owner: *owner,
            cycle: (!cycle.is_empty()).then_some(names),
            after: after.map(|other| items[other].id).collect(),
            hand_over_only: false,
        }
    });
    Ok(planned.collect())
}

thread_local! {
    /// The runs that this session has begun, and the roles that it had then; the oldest are forgotten.
    static BEGUN: RefCell<VecDeque<(Uuid, pg_sys::Oid)>> = const { RefCell::new(VecDeque::new()) };
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
    match is_permitted {
        Some(true) => step(set, planned, run_id),
        _ => Ok(Some(refresh::refuse(set, &planned.request(run_id), Duration::ZERO))),
    }
}

/// Refreshes one segment of a run, or only hands it over. None: there was nothing to hand over.
pub fn step(
    set: &RelationSet,
    planned: &PlannedRefresh,
    run_id: Uuid,
) -> Result<Option<RefreshResult>> {
    let request = planned.request(run_id);
    if planned.hand_over_only {
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

/// The name of a segment. Retired segments are found, too, since their subscribers may have to be
/// handed the end of an audience.
pub fn name_of(set: &RelationSet, segment: Uuid) -> Result<Option<String>> {
    let found = config::Segment::find(set, Key::Id(segment))?;
    Ok(found.map(|segment| segment.name))
}

/// The plan to hand over a segment that is not due. None: the segment does not exist.
pub fn hand_over_only(set: &RelationSet, segment: Uuid) -> Result<Option<PlannedRefresh>> {
    let found = config::Segment::find(set, Key::Id(segment))?;
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

/// Refreshes all segments that are due in one transaction, and then deletes what is past its
/// retention.
pub fn run(set: &RelationSet, run_id: Uuid) -> Result<Vec<RefreshResult>> {
    let plan = plan(set)?;
    let outcomes: Result<Vec<_>> =
        plan.iter().filter_map(|planned| step(set, planned, run_id).transpose()).collect();
    // A deletion that fails does not undo the refreshes.
    if let Err(error) = in_subtransaction(OnSuccess::Commit, || prune(set)) {
        emit_warning("what is past its retention was not deleted", &error.report());
    }
    outcomes
}

/// Deletes one batch each of delivered messages, captured changes and log entries that are past
/// their retention.
pub fn prune(set: &RelationSet) -> Result<()> {
    prune_changes(&set.extension)?;
    prune_messages(set)?;
    prune_log(set)?;
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
    log::prune(set)
}

/// The next time of a schedule after a time, by the local time of a zone (default:
/// `segmenter.timezone`). None: the schedule has no further time.
pub fn cron_next(
    expression: &str,
    after: TimestampWithTimeZone,
    timezone: Option<&str>,
) -> Result<Option<TimestampWithTimeZone>> {
    let set_zone = settings::timezone();
    let zone = timezone.unwrap_or(&set_zone);
    let schedule = config::cron("expression", Some(expression), Subject::Schedule)?;
    let zone = config::timezone("timezone", Some(zone), Subject::Schedule)?;
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

/// When the segments that the caller may see are due, whether they are due at the time `at`, and
/// why.
pub fn due(set: &RelationSet, at: TimestampWithTimeZone) -> Result<Vec<DueRow>> {
    let at = clock::instant(at);
    let items = due::items(set, role::current(), None)?;
    let rows = items.into_iter().map(|item| DueRow {
        due: item.is_due(at),
        reason: item.reason(at),
        last_refresh: item.last_refresh.map(clock::timestamp),
        next_refresh: item.due.and_then(Due::at).map(clock::timestamp),
        segment: item.name,
        refresh_cron: item.refresh_cron,
    });
    Ok(rows.collect())
}

/// The relations that a segment's query reads and its sources name. A query that cannot be analysed
/// counts as reading nothing.
fn reads(set: &RelationSet, item: &Item) -> Vec<pg_sys::Oid> {
    if !role::exists(item.owner) {
        return Vec::new();
    }
    let Ok(Some(segment)) = config::Segment::find(set, Key::Id(item.id)) else {
        return Vec::new();
    };
    let as_owner = |ask: &dyn Fn() -> Result<Vec<pg_sys::Oid>>| {
        let asked = in_subtransaction(OnSuccess::Rollback, || {
            set.as_segment_owner(item.owner, || Spi::connect(|_| ask()))
        });
        asked.unwrap_or_default()
    };
    let mut reads = match segment.refresher {
        Some(Refresher::Query(Sql { sql })) => as_owner(&|| delta::relations_of(&sql)),
        Some(Refresher::Incremental(incremental)) => {
            as_owner(&|| incremental::relations(set, &incremental))
        }
        // What a procedure reads is not known.
        Some(Refresher::Procedure(_)) | None => Vec::new(),
    };
    if !segment.sources.is_empty() {
        reads.extend(as_owner(&|| source_check::relations(&segment.sources)));
    }
    reads
}
