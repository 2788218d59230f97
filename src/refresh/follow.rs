//! When a list has gained members, they leave the segments that leave them out at once, without a
//! refresh of these segments.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use pgrx::datum::Uuid;
use pgrx::prelude::*;
use serde_json::json;

use crate::catalog::log::{self, Action, Entry, LogCounts, LogStatus};
use crate::catalog::relation_set::RelationSet;
use crate::config::exclusion::{self, Dependent};
use crate::config::segment_table::{self, Purpose, Table};
use crate::config::{Key, Segment};
use crate::error::{Error, Report, Result, counted, emit_warning};
use crate::pg::bgw::progress::{self, Kind, Phase, Tracker};
use crate::pg::clock;
use crate::pg::exec::role;
use crate::pg::exec::snapshot::Active;
use crate::pg::exec::subtransaction::{OnSuccess, in_limited_subtransaction, in_subtransaction};
use crate::refresh::exclusion::{Closed, Exclusion};
use crate::refresh::lists::{Gained, Known, Turns, seen_by};
use crate::refresh::segment_lock::acquire;
use crate::refresh::{RefreshResult, handover};
use segmenter_core::guards::DeltaStats;

/// The time that a refresh spends on all segments of another role that leave out its members, whose
/// triggers, policies and conditions of subscriptions run meanwhile, and that it waits for each of their
/// locks: a role cannot hold up another role's list.
const LONGEST_WORK: Duration = Duration::from_secs(10);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Has members that a list has gained leave the segments that leave them out. A segment that cannot be
/// locked, or fails, is left behind: a run, or the scheduler, has it follow. `turns`: of the run in this
/// transaction. Returns what concerns segments whose owner the caller may act as; of the others it learns nothing.
pub fn close_dependents(
    set: &RelationSet,
    gained: Gained,
    run_id: Uuid,
    turns: Option<&Turns>,
) -> Result<Vec<RefreshResult>> {
    let is_to_come = |found: &Dependent| turns.is_some_and(|turns| turns.is_to_come(found));
    let (later, now): (Vec<_>, Vec<_>) =
        exclusion::dependents(set, gained.list)?.into_iter().partition(is_to_come);
    let known = Known::from([(gained.list, gained)]);
    let mut results = Vec::new();
    let mut left: HashMap<pg_sys::Oid, Duration> = HashMap::new();
    for dependent in now {
        pgrx::check_for_interrupts!();
        let (caller, owner) = (role::current(), dependent.owner);
        let named = (dependent.id, dependent.name.as_str());
        let close = || close_alone(set, &dependent, run_id, (turns, Some(&known)));
        if owner == caller {
            results.extend(follow_one(set, named, (run_id, None), close)?.result());
            continue;
        }
        let left = left.entry(owner).or_insert(LONGEST_WORK);
        if !left.is_zero() {
            let (began, tells) = (Instant::now(), role::may_act_as(caller, owner));
            let limit = Some(Limit { time: *left, tells });
            let followed = follow_one(set, named, (run_id, limit), close)?;
            *left = left.saturating_sub(began.elapsed());
            results.extend(followed.result().filter(|_| tells));
        }
    }
    if let (Some(turns), false) = (turns, later.is_empty()) {
        known.into_values().for_each(|gained| turns.keep(gained));
    }
    Ok(results)
}

/// What became of a segment whose lists have gained members.
pub enum Followed {
    /// It has none of them.
    Nothing,
    /// It is locked, or was changed meanwhile: it is left behind.
    Busy,
    /// Members have left, or could not.
    Tried(Box<RefreshResult>),
}

impl Followed {
    pub fn result(self) -> Option<RefreshResult> {
        match self {
            Followed::Tried(result) => Some(*result),
            Followed::Nothing | Followed::Busy => None,
        }
    }
}

/// What a segment of another role is given.
#[derive(Clone, Copy)]
pub struct Limit {
    time: Duration,
    /// The caller may act as its owner, and learns of a failure.
    tells: bool,
}

/// Has members leave a segment that its lists have gained since it followed them last.
pub fn follow(
    set: &RelationSet,
    segment: (Uuid, &str),
    run_id: Uuid,
    turns: Option<&Turns>,
) -> Result<Followed> {
    let known = turns.map(|turns| turns.known());
    follow_one(set, segment, (run_id, None), || {
        let found = Segment::find_bare(set, Key::Id(segment.0))?;
        match found.filter(|found| found.actual && found.has_lists) {
            Some(Segment { id, name, owner, .. }) => {
                let dependent = Dependent { id, name, owner, is_priority: false };
                close_alone(set, &dependent, run_id, (turns, known.as_deref()))
            }
            None => Ok(None),
        }
    })
}

/// The same, by `close`. `limit`: for a segment of another role than the caller.
fn follow_one(
    set: &RelationSet,
    (id, name): (Uuid, &str),
    (run_id, limit): (Uuid, Option<Limit>),
    close: impl FnOnce() -> Result<Option<Closed>>,
) -> Result<Followed> {
    let (began, timer) = (clock::now(), Instant::now());
    let closed = match limit {
        None => in_subtransaction(OnSuccess::Commit, close),
        Some(Limit { time, .. }) => {
            in_limited_subtransaction(time, || role::with_lock_timeout(LONGEST_WAIT, close))
        }
    };
    let (mut reason, mut params, mut withdrawn) = (None, json!({}), None);
    let (figures, message, error) = match closed {
        Ok(None) => return Ok(Followed::Nothing),
        Err(Error::Busy { .. } | Error::Superseded(_) | Error::Replaced(_)) => {
            return Ok(Followed::Busy);
        }
        Ok(Some(closed)) if closed.removed > 0 => {
            reason = closed.reason();
            params["closed"] = json!(closed.record());
            let Closed { before, removed, .. } = closed;
            let figures = DeltaStats { before, removed, ..DeltaStats::default() };
            (Some((figures, closed.messages)), Some(remark(closed.removed)), None)
        }
        // The segment has no members to lose, but consumers have some.
        Ok(Some(closed)) if closed.messages > 0 => {
            reason = Some(closed.reason_of_lists());
            withdrawn = Some(closed.messages as i64);
            (None, Some(WITHDRAWN.to_owned()), None)
        }
        Ok(Some(_)) => return Ok(Followed::Nothing),
        Err(error)
            if limit.is_some() && error.is_code(PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE) =>
        {
            return Ok(Followed::Busy);
        }
        Err(error) => {
            let report = error.report();
            if limit.is_none_or(|limit| limit.tells) {
                emit_warning(&format!("members were not removed from segment \"{name}\""), &report);
            }
            (None, None, Some(report))
        }
    };
    let status = if error.is_some() { LogStatus::Failed } else { LogStatus::Ok };
    let elapsed = timer.elapsed();
    let entry = Entry {
        run_id: Some(run_id),
        action: Action::Exclude,
        status,
        segment: (Some(id), name),
        subscription: None,
        counts: figures.map_or(LogCounts::default(), |(figures, _)| figures.into()),
        began,
        elapsed: Some(elapsed),
        message: error.as_ref().map(|report| report.message.as_str()).or(message.as_deref()),
        error: error.as_ref(),
        params,
        reason,
    };
    log::write(set, entry)?;
    Ok(Followed::Tried(Box::new(RefreshResult {
        segment: name.to_owned(),
        status,
        figures: figures.map(|(figures, _)| figures),
        messages: figures.map(|(_, messages)| messages as i64).or(withdrawn),
        elapsed,
        detail: error.as_ref().map(Report::to_line).or(message),
        watches: false,
        error,
        members: Vec::new(),
        others: Vec::new(),
    })))
}

/// What is said where only messages remove people.
const WITHDRAWN: &str =
    "people who are excluded are removed at consumers that have them while changes are held back";

/// What is said of members that have left.
pub fn remark(removed: u64) -> String {
    let members = counted(removed as i64, "member");
    format!("{members} removed: in segments whose members it leaves out")
}

/// Closes one segment, under its locks. None: there is nothing that it must follow.
fn close_alone(
    set: &RelationSet,
    dependent: &Dependent,
    run_id: Uuid,
    (turns, known): (Option<&Turns>, Option<&Known>),
) -> Result<Option<Closed>> {
    set.check_owner_can_act_as(dependent.owner)?;
    let _progress = Tracker::begin(Kind::HandOver, set.mart(), dependent.id, Phase::WaitingForLock);
    let _held = acquire(set, dependent.id, &dependent.name)?;
    // Under its lock it keeps its table, and what it has seen.
    let (_snapshot, segment) = handover::latest(set, dependent.id)?;
    if !segment.actual || !segment.has_lists {
        return Ok(None);
    }
    let seen = seen_by(set, segment.id)?;
    if !seen.1 {
        return Ok(None);
    }
    let exclusion = Exclusion::find_after(set, &segment, seen)?;
    if exclusion.behind().is_empty() {
        return Ok(None);
    }
    if !segment_table::lock(set, segment.table, segment.holder(), Purpose::Refresh)? {
        return Err(Error::TableDropped(segment.name));
    }
    let _snapshot = Active::fresh();
    let table = Table::check(set, segment.table, segment.holder())?;
    table.check_usable(set, segment.holder())?;
    progress::enter(Phase::Applying);
    exclusion.close(set, (&segment, &table), (run_id, true), (turns, known, None)).map(Some)
}
