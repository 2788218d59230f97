//! Hand-over without a refresh: for subscriptions that are new, changed or ended, and for a resync
//! of consumers whose copy is out of date.

use std::time::{Duration, Instant};

use pgrx::JsonB;
use pgrx::datum::Uuid;
use pgrx::prelude::*;
use serde_json::json;

use crate::catalog::log::{self, Action, Entry, LogCounts, LogStatus};
use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::catalog::state;
use crate::config::segment_table::{self, Purpose, Table};
use crate::config::{Key, Segment};
use crate::error::{Error, Report, Result, emit_warning};
use crate::pg::bgw::progress::{self, Kind, Phase, Tracker};
use crate::pg::clock;
use crate::pg::exec::role;
use crate::pg::exec::snapshot::Active;
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};
use crate::refresh::delta::DeltaTarget;
use crate::refresh::follow::{self, Followed};
use crate::refresh::publish::outbox;
use crate::refresh::publish::payload::{Origin, PayloadInput, Summing};
use crate::refresh::publish::stats::PublishStats;
use crate::refresh::publish::subscription::{self, Subscription};
use crate::refresh::segment_lock::acquire;
use crate::refresh::{self, RefreshRequest, RefreshResult};
use segmenter_core::sync_plan::SyncAction;

/// Hands over what the segment's subscriptions require without a refresh, after members have left that
/// its lists have gained; none: nothing was to be handed over. An error becomes a WARNING, an entry of the log and the status of the result.
pub fn hand_over(set: &RelationSet, request: &RefreshRequest<'_>) -> Result<Option<RefreshResult>> {
    let (began, timer) = (clock::now(), Instant::now());
    let Key::Id(segment) = request.segment else { return Ok(None) };
    let followed = match request.ends_only {
        true => Followed::Nothing,
        false => follow::follow(set, (segment, request.name), request.run_id, request.turns)?,
    };
    let skipped = |detail: String| RefreshResult {
        segment: request.name.to_owned(),
        status: LogStatus::Skipped,
        figures: None,
        messages: None,
        elapsed: timer.elapsed(),
        detail: Some(detail),
        watches: false,
        error: None,
        members: Vec::new(),
        others: Vec::new(),
    };
    // It is tried again: a worker that had nothing to do would leave it behind.
    if matches!(followed, Followed::Busy) {
        let name = request.name;
        return Ok(Some(skipped(format!("segment \"{name}\" is being refreshed or changed"))));
    }
    let followed = followed.result();
    let subscriptions = subscription::find(set, None, Some(segment), None)?;
    let action = |subscription: &Subscription| {
        let action = subscription.pending_action(false)?;
        (!request.ends_only || action == SyncAction::Delete).then_some(action)
    };
    if subscriptions.iter().all(|subscription| action(subscription).is_none()) {
        return Ok(followed);
    }
    let mut found = None;
    let handed = in_subtransaction(OnSuccess::Commit, || {
        let segment = match Segment::find_bare(set, request.segment)? {
            Some(segment) => found.insert(segment),
            None => return Err(set.unknown_segment(request.name)),
        };
        refresh::may_refresh(set, segment, role::current())?;
        let _progress =
            Tracker::begin(Kind::HandOver, set.mart(), segment.id, Phase::WaitingForLock);
        let _held = acquire(set, segment.id, &segment.name)?;
        let (_snapshot, segment) = latest(set, segment.id)?;
        from_table(set, &segment, request.run_id, action, None)
    });
    let name = found.as_ref().map_or(request.name, |segment| segment.name.as_str());
    let outcome = |status, messages, detail| RefreshResult {
        segment: name.to_owned(),
        status,
        figures: None,
        messages,
        elapsed: timer.elapsed(),
        detail,
        watches: false,
        error: None,
        members: Vec::new(),
        others: Vec::new(),
    };
    match handed {
        Ok(handed) if handed.messages == 0 && handed.failed == 0 => Ok(followed),
        Ok(handed) if let Some(mut followed) = followed => {
            let messages = followed.messages.unwrap_or_default() + handed.messages as i64;
            followed.messages = Some(messages);
            Ok(Some(followed))
        }
        Ok(handed) => {
            let detail = handed.remark().unwrap_or_else(|| "handed over, not refreshed".into());
            Ok(Some(outcome(LogStatus::Ok, Some(handed.messages as i64), Some(detail))))
        }
        Err(error @ Error::Busy { .. }) => Ok(Some(skipped(error.to_string()))),
        Err(error) => {
            let detail = fail(set, request, found.as_ref(), error, (began, timer.elapsed()))?;
            Ok(Some(outcome(LogStatus::Failed, None, Some(detail))))
        }
    }
}

/// Logs a hand-over that has failed, or that was stopped. Returns the error as a line.
pub fn fail(
    set: &RelationSet,
    request: &RefreshRequest<'_>,
    segment: Option<&Segment>,
    error: Error,
    (began, elapsed): (clock::Instant, Duration),
) -> Result<String> {
    let name = segment.map_or(request.name, |segment| segment.name.as_str());
    let report = error.report();
    emit_warning(&format!("segment \"{name}\" was not handed over"), &report);
    let entry = Entry {
        run_id: Some(request.run_id),
        action: Action::HandOver,
        status: LogStatus::Failed,
        segment: (segment.map(|segment| segment.id), name),
        subscription: None,
        counts: LogCounts::default(),
        began,
        elapsed: Some(elapsed),
        message: Some(&report.message),
        error: Some(&report),
        params: serde_json::json!({}),
        reason: None,
    };
    log::write(set, entry)?;
    Ok(report.to_line())
}

/// The segment as it is under its lock, without its refresher, its guards and its sources, and the
/// snapshot that shows it. The snapshot is active until it is dropped.
pub fn latest(set: &RelationSet, segment: Uuid) -> Result<(Active, Segment)> {
    let snapshot = Active::fresh();
    let found = Segment::find_bare(set, Key::Id(segment))?;
    let segment = found.ok_or_else(|| set.unknown_segment(segment.to_string()))?;
    refresh::check_not_superseded(set, &segment)?;
    Ok((snapshot, segment))
}

/// Hands over members as the segment table stores them. `action` returns the action for a
/// subscription; none: nothing is handed over to it. `only` restricts the hand-over to one
/// subscription.
pub fn from_table(
    set: &RelationSet,
    segment: &Segment,
    run_id: Uuid,
    action: impl Fn(&Subscription) -> Option<SyncAction>,
    only: Option<Uuid>,
) -> Result<PublishStats> {
    let subscriptions = subscription::find(set, None, Some(segment.id), only)?;
    let actions: Vec<_> = subscriptions
        .into_iter()
        .filter_map(|subscription| action(&subscription).map(|handover| (subscription, handover)))
        .collect();
    if actions.is_empty() {
        return Ok(PublishStats::default());
    }
    progress::enter(Phase::HandingOver);
    // The end of an audience has no members: then nothing of the table is read or locked.
    let table = match actions.iter().all(|(_, action)| *action == SyncAction::Delete) {
        true => Err(Error::MissingValue("members").report()),
        false => check_table(set, segment),
    };
    let _snapshot = Active::fresh();
    let table = table.as_ref();
    use SyncAction::{Create, FullSync, Recreate};
    let gives_members =
        actions.iter().any(|(_, action)| matches!(action, Create | FullSync | Recreate));
    let hand_over = |summing: Option<&Summing<'_>>| {
        let source = PayloadInput {
            set,
            table: table.map_err(Report::clone),
            delta: None,
            origin: Origin::Refresh,
            run_id,
            reason: None,
            at: None,
            summing,
        };
        Spi::connect_mut(|client| outbox::hand_over(client, &source, actions))
    };
    let handed = match table {
        Ok(table) if gives_members => doubting_edits(set, segment, table, hand_over)?,
        _ => hand_over(None)?,
    };
    state::count_handover(set, segment.id)?;
    Ok(handed)
}

/// Reads members as the table has them, to give them away without a refresh. If rows were changed by hand
/// that no refresh has noticed, the next one must hand all over again, also if they are changed back until
/// then. `read` may sum the members up meanwhile. The active snapshot shows them.
pub fn doubting_edits<T>(
    set: &RelationSet,
    segment: &Segment,
    table: &Table,
    read: impl FnOnce(Option<&Summing<'_>>) -> Result<T>,
) -> Result<T> {
    let (_, _, last) = refresh::last_content(set, segment)?;
    if !last.has_sums() {
        return read(None);
    }
    let side = DeltaTarget::of_names((set, table), (segment.id, last.seed), last.names());
    let summing = Summing::new(&side);
    let result = read(Some(&summing))?;
    let found = match summing.sum() {
        Some(found) => found,
        None => set.as_segment_owner(segment.owner, || Spi::connect(|_| side.sum_members()))?,
    };
    if let Some(content) = last.doubted(&found, &side) {
        let args = [segment.id.into(), JsonB(json!(content)).into()];
        set.write(&queries::refresh::DOUBT_CONTENT, &args)?;
    }
    Ok(result)
}

/// Locks and checks the segment's table. The error says why it cannot be read.
fn check_table(set: &RelationSet, segment: &Segment) -> std::result::Result<Table, Report> {
    let checked = in_subtransaction(OnSuccess::Commit, || {
        if !segment_table::lock(set, segment.table, segment.holder(), Purpose::Access)? {
            return Err(Error::TableDropped(segment.name.clone()));
        }
        let table = Table::check(set, segment.table, segment.holder())?;
        table.check_in_mart(set, segment.holder())?;
        table.check_visible_to_owner()?;
        Ok(table)
    });
    checked.map_err(|error| error.report())
}
