//! The steps of one refresh, in order.

use pgrx::datum::{Timestamp, Uuid};
use pgrx::prelude::*;
use pgrx::spi::SpiClient;

use super::{Applied, RefreshRequest};
use crate::catalog::log;
use crate::catalog::queries;
use crate::catalog::relation_set::{Relation, RelationSet};
use crate::config;
use crate::config::segment_table::{self, Purpose, Table};
use crate::config::{Key, Query, Refresher, Segment, Sql};
use crate::error::{Error, Result, emit, emit_warning};
use crate::pg::bgw::progress::{self, Figure, Kind, Phase, Tracker};
use crate::pg::clock;
use crate::pg::exec::portal;
use crate::pg::exec::role;
use crate::pg::exec::seen;
use crate::pg::exec::snapshot::{self, Active};
use crate::pg::exec::statement::{self, Prepared, StatementKind};
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};
use crate::refresh::content::LastContent;
use crate::refresh::delta::{Delta, DeltaTarget};
use crate::refresh::exclusion::{Exclusion, LeftOut};
use crate::refresh::family::Rows;
use crate::refresh::incremental::{Plan, WatermarkCandidate};
use crate::refresh::now::RefreshTime;
use crate::refresh::publish::outbox;
use crate::refresh::publish::payload::{Origin, PayloadInput};
use crate::refresh::publish::subscription::{self, Subscription};
use crate::refresh::reads::Reads;
use crate::refresh::segment_lock::acquire;
use crate::refresh::{apply, delta, diff, exclusion, incremental, reads, source_check, upstream};
use segmenter_core::content::Edited;
use segmenter_core::guards::DeltaStats;
use segmenter_core::reason;
use segmenter_core::sync_plan::SyncAction;
use segmenter_core::text::is_same_zone;
use segmenter_core::unusual::Refreshed;

/// The number of attempts at a refresh whose table is changed by concurrent writes.
const TRIES: u32 = 3;

/// Takes the steps of a refresh in a subtransaction, again where they can succeed then; a dry run is rolled
/// back. `found` receives the segment, for messages about it, and `reads` what it reads.
pub(super) fn attempt(
    set: &RelationSet,
    (request, family): (&RefreshRequest<'_>, &Rows),
    found: &mut Option<Segment>,
    reads: &mut Option<Reads>,
) -> Result<Applied> {
    let keep = if request.dry_run { OnSuccess::Rollback } else { OnSuccess::Commit };
    let (mut tries, mut edited) = (0, None);
    loop {
        tries += 1;
        match in_subtransaction(keep, || steps(set, (request, edited, family), found, reads)) {
            Err(Error::Unfollowed(found)) => edited = Some(found),
            // A concurrent write changed rows of the table, or a relation that is read was replaced:
            // with a new snapshot the refresh may succeed.
            Err(Error::TableChanged { .. } | Error::Replaced(_))
                if tries < TRIES && !snapshot::is_kept() => {}
            result => return result,
        }
        if let Some(shown) = request.shows {
            shown.clear();
        }
    }
}

/// Takes the steps of a refresh, in order. `noticed`: rows that were changed by hand, as an attempt before has
/// noticed; the members of all of its lists leave first, also those that it has followed before, and
/// people who are kept out. `family` receives the rows of a family. `found` and `reads` as for `attempt`.
fn steps(
    set: &RelationSet,
    (request, noticed, family): (&RefreshRequest<'_>, Option<Edited>, &Rows),
    found: &mut Option<Segment>,
    reads: &mut Option<Reads>,
) -> Result<Applied> {
    let segment = find(set, request, found)?;
    // Users' SQL runs from here on, first in the source checks.
    let _portals = portal::CursorScope::begin()?;
    // The caller's rights are checked here, once: a role that is granted or revoked while the
    // refresh goes on changes nothing of what it does.
    may_refresh(set, segment, role::current())?;
    let permitted = segment.owner;
    if let Some(cycle) = request.cycle {
        return Err(Error::Cycle { segment: segment.name.clone(), cycle: cycle.to_vec() });
    }
    check_not_held(request, segment)?;
    if request.skip_busy {
        segment.check_schedule(set)?;
    }
    let _progress = Tracker::begin(Kind::Refresh, set.mart(), segment.id, Phase::WaitingForLock);
    let _lock = acquire(set, segment.id, &segment.name)?;
    let beginning = match (request.query, request.slice) {
        (Some(_), _) => WatermarkCandidate::none(),
        (None, Some(slice)) => slice.watermark(),
        (None, None) => WatermarkCandidate::of(set, segment)?,
    };
    let (_snapshot, segment) = lock_and_snapshot(set, request, found, permitted)?;
    progress::enter(Phase::CheckingSources);
    let time = RefreshTime::begin();
    check_not_superseded(set, segment)?;
    if !role::exists(segment.owner) {
        return Err(Error::OwnerDropped {
            segment: segment.name.clone(),
            segments: set.display_name(Relation::Segments),
        });
    }

    let is_family = segment.kinship.is_family();
    // A one-off query for one segment of a family names none.
    let is_named = segment.kinship.has_named_rows() && request.query.is_none();
    let table = match request.slice {
        Some(slice) => slice.check_table(set, segment)?,
        None => Table::check(set, segment.table, segment.holder())?,
    };
    let table = table.with_named_rows(is_named);
    table.check_usable(set, segment.holder())?;
    if is_family {
        config::family::check_table(&table)?;
        if request.shows.is_some() || request.query.is_some() {
            return Err(Error::IsFamily(segment.name.clone()));
        }
    }

    let lists = Exclusion::find(set, segment)?.following(noticed.is_some());
    lists.check_rights(segment)?;
    // What lists have gained in this run is not all that such a refresh follows.
    let turns = request.turns.filter(|_| noticed.is_none());
    let target = (segment, &table);
    let closed = lists.close_in_turn(set, target, request.run_id, (turns, request.shows))?;
    // What follows sees that members have left.
    let _closed = (closed.all() > 0).then(Active::fresh);
    let before = lists.ids();
    let (at, recorded_zone, last) = last_content(set, segment)?;
    progress::know_members(last.members());
    let refresher = match request.query {
        Some(sql) => Refresher::Query(Query::of(sql)),
        None => segment.refresher.clone().ok_or_else(|| no_refresher(set, segment))?,
    };
    let changes = (lists.may_free(), lists.readmissions());
    let slice = match request.slice {
        Some(slice) => slice.is_of(set, segment, last.version.as_deref())?.then_some(slice),
        None => None,
    };
    let (slice, given) = match (slice, &refresher) {
        (Some(slice), Refresher::Incremental(incremental)) => {
            let plan = slice.plan(set, (segment, &table), incremental, changes)?;
            (plan.is_some().then_some(slice), plan)
        }
        (slice, _) => (slice, None),
    };
    let source_check::Checked { remarks: mut late, ahead, .. } = match request.query {
        // Sources belong to the segment's refresher: a one-off query has none, but the lists hold.
        Some(_) => match upstream::check_lists(set, segment, &before)? {
            missing if missing.is_empty() => source_check::Checked::default(),
            missing => return Err(Error::NotLoaded(missing)),
        },
        // Its family has waited for what they read.
        None if slice.is_some() => check_sources_loaded(set, segment, &Reads::default(), &before)?,
        None => {
            let reads = reads.insert(reads::find(set, segment));
            check_sources_loaded(set, segment, reads, &before)?
        }
    };
    let mut actions = match request.shows {
        None => pending_actions(set, segment)?,
        Some(_) => Vec::new(),
    };
    let runs_with = hash_of(&refresher);
    let past = match segment.guards.runs() {
        0 => Vec::new(),
        runs => log::past_figures(set, segment.id, runs)?,
    };
    let refresh = |client: &mut SpiClient<'_>| {
        let mut plan = match (given, &refresher) {
            (Some(given), _) => Some(given),
            (None, Refresher::Incremental(incremental)) => {
                let how = (time.at, request.full, changes);
                let reads = reads.get_or_insert_default();
                let target = (segment, &table);
                let readings = request.turns.map(|turns| &turns.readings);
                Some(incremental::plan(set, target, incremental, reads, &beginning, how, readings)?)
            }
            _ => None,
        };
        let mut progress = None;
        let mut edited = None;
        let mut no_hashes = None;
        let mut unusual = Vec::new();
        let mut left_out = LeftOut::default();
        if is_family {
            progress::enter(Phase::Comparing);
            let how = (plan.take().map(Plan::own), request.dry_run);
            let (remarks, made) = family.read(set, (segment, &table), &refresher, how)?;
            late.extend(remarks);
            progress = made;
        }
        let (delta, side) = set.as_segment_owner(segment.owner, || {
            progress::enter(Phase::ReadingMembers);
            let target = (segment.id, last.seed);
            let written = matches!(refresher, Refresher::Procedure(_)).then_some(at);
            let (delta, side) = match (plan, &refresher) {
                (Some(plan), _) => {
                    let leave_out = |delta: &mut Delta, side: &DeltaTarget<'_>| {
                        left_out =
                            lists.leave_out(client, (delta, side), (written, request.turns))?;
                        Ok(())
                    };
                    if let Some(slice) = slice {
                        slice.published();
                    }
                    let (delta, side, made) = plan.delta(set, &table, target, &last, leave_out)?;
                    progress = Some(match request.slice.filter(|_| slice.is_none()) {
                        Some(slice) => slice.caught_up(made),
                        None => made,
                    });
                    (delta, side)
                }
                (None, refresher) => {
                    let (mut delta, side) = match refresher {
                        _ if is_family => {
                            let (_none, sql) = family.own();
                            delta::of_query(set, &table, target, &sql, true)?
                        }
                        Refresher::Procedure(Sql { sql }) => {
                            run_procedure(client, set, &table, segment, target, sql)?
                        }
                        Refresher::Query(Query { sql, .. }) => {
                            let kept = slice.map(|slice| slice.published());
                            let sql = kept.as_ref().unwrap_or(sql);
                            delta::of_query(set, &table, target, sql, kept.is_some())?
                        }
                        Refresher::Incremental(_) | Refresher::Family(_) => {
                            return Err(no_refresher(set, segment));
                        }
                    };
                    let how = (written, request.turns);
                    left_out = lists.leave_out(client, (&mut delta, &side), how)?;
                    (delta, side)
                }
            };
            Figure::before().settle(delta.figures.before);
            if !is_family {
                // It has received the rows of its segments.
                Figure::received().settle(delta.figures.received);
            }
            edited = noticed.or(last.edited(&delta, &side));
            if let (Some(found), None, true) = (edited, noticed, lists.may_close()) {
                return Err(Error::Unfollowed(found));
            }
            unusual = guard((segment, &past), request, &delta)?;
            no_hashes = match request.shows {
                None => delta.no_hashes(&side)?,
                Some(_) => None,
            };
            if edited.is_some() {
                // The consumers have what the state says, not what the table had.
                for (subscription, action) in &mut actions {
                    *action = action.with_all_members(subscription.params.mode);
                }
            }
            let is_written = matches!(refresher, Refresher::Procedure(_));
            if let Some(result) = request.shows {
                diff::show(client, (&delta, &side), (at, is_written), result)?;
                return Ok((delta, side));
            }
            let DeltaStats { added, removed, changed, .. } = delta.figures;
            let written = added + removed + changed;
            if is_written {
                Figure::written().settle(closed.all() + written);
                return Ok((delta, side));
            }
            // Columns that the refresher does not return get their values when the delta is applied
            // (defaults, triggers). Counting messages with such columns therefore needs the applied
            // delta, which the dry run then rolls back.
            if !request.dry_run || outbox::reads_stored(&side, &actions) {
                let later = outbox::members_of_actions(&actions, delta.figures);
                progress::enter_expecting(Phase::Applying, written, later);
                apply::apply(client, &side, delta.figures, at)?;
            }
            Ok::<_, Error>((delta, side))
        })?;
        let is_by_clock = progress.as_ref().is_some_and(|progress| progress.is_by_clock);
        let kept = match request.query {
            None => side.not_received(last.names()),
            Some(_) => Vec::new(),
        };
        let reason = reason::of_refresh(reason::Facts {
            is_one_off: request.query.is_some(),
            is_refreshed: last.is_refreshed,
            ran_with: last.ran_with.as_deref(),
            runs_with: &runs_with,
            is_by_clock,
        });
        let source = PayloadInput {
            set,
            table: Ok(&table),
            delta: Some((&side, delta.figures)),
            origin: if edited.is_some() { Origin::Edited } else { Origin::Refresh },
            run_id: request.run_id,
            reason: Some(reason),
            at: Some(at),
            summing: None,
        };
        // This snapshot sees the applied delta.
        let _snapshot = Active::fresh();
        let content = match request.dry_run {
            true => None,
            false => set.as_segment_owner(segment.owner, || last.after(&delta, &side))?,
        };
        progress::enter(Phase::HandingOver);
        let handed = match request.dry_run {
            true => outbox::count(&source, &actions)?,
            false => outbox::hand_over(client, &source, actions)?,
        };
        let is_edited = edited.is_some() || !last.is_refreshed && delta.figures.before > 0;
        let gained = set.as_segment_owner(segment.owner, || {
            exclusion::gained(segment, &delta, &side, is_edited)
        })?;
        let (figures, long_ids) = (delta.figures, delta.long_ids);
        Ok::<_, Error>(Applied {
            figures,
            at,
            handed,
            late,
            ahead,
            long_ids,
            no_hashes,
            unusual,
            progress,
            edited,
            is_edited,
            kept,
            content,
            closed,
            left_out,
            lists: lists.record(),
            gained,
            reason: Some(reason),
        })
    };
    let mut applied = table.with_constraints_at_once(set, || Spi::connect_mut(refresh))?;
    if let Some(long) = &applied.long_ids {
        let what = format!("segment \"{}\" lacks members", segment.name);
        emit_warning(&what, &long.error().report());
    }
    if let Some(found) = &applied.no_hashes {
        found.warn(&segment.name);
    }
    if !applied.unusual.is_empty() {
        let message = format!("segment \"{}\": {}", segment.name, applied.unusual.join("; "));
        emit(PgLogLevel::WARNING, message, Some("Look at the segment's sources."));
    }
    if let Some(zone) = recorded_zone.filter(|zone| !is_same_zone(zone, set.timezone())) {
        applied.late.push(format!(
            "the members' times are in {zone}, but segmenter.timezone is {}",
            set.timezone()
        ));
    }
    Ok(applied)
}

/// A hash that tells refreshers apart.
pub(super) fn hash_of(refresher: &Refresher) -> String {
    reason::hash(&serde_json::json!(refresher).to_string())
}

fn no_refresher(set: &RelationSet, segment: &Segment) -> Error {
    Error::NoRefresher {
        segment: segment.name.clone(),
        segments: set.display_name(Relation::Segments),
    }
}

/// The hand-overs that a refresh of the segment requires, by subscription.
pub(super) fn pending_actions(
    set: &RelationSet,
    segment: &Segment,
) -> Result<Vec<(Subscription, SyncAction)>> {
    Ok(actions_of(subscription::find(set, None, Some(segment.id), None)?))
}

/// The hand-overs that a change of the segment's members requires, by subscription.
pub fn actions_of(subscriptions: Vec<Subscription>) -> Vec<(Subscription, SyncAction)> {
    let actions = subscriptions.into_iter().filter_map(|subscription| {
        let handover = subscription.pending_action(true)?;
        Some((subscription, handover))
    });
    actions.collect()
}

/// Reads the segment and keeps it in `found`, for messages about it. A row that is not valid is an
/// error of its segment, which those who may refresh it see: so it counts as an attempt.
pub(super) fn find<'a>(
    set: &RelationSet,
    request: &RefreshRequest<'_>,
    found: &'a mut Option<Segment>,
) -> Result<&'a Segment> {
    match Segment::find(set, request.segment) {
        Ok(Some(segment)) => Ok(found.insert(segment)),
        Ok(None) => Err(set.unknown_segment(request.name)),
        Err(error @ Error::Config(_)) => {
            if let Some(segment) = Segment::find_bare(set, request.segment)? {
                may_refresh(set, found.insert(segment), role::current())?;
            }
            Err(error)
        }
        Err(error) => Err(error),
    }
}

/// Checks that a role may refresh a segment and hand it over: it must be able to act as the
/// segment's owner, and so must the owner of the set.
pub fn may_refresh(set: &RelationSet, segment: &Segment, caller: pg_sys::Oid) -> Result<()> {
    if role::may_act_as(caller, segment.owner) {
        // The owner of the set can have written the row, so it must be able to act as this role
        // too.
        return set.check_owner_can_act_as(segment.owner);
    }
    Err(Error::NotPermitted { segment: segment.name.clone(), owner: role::name(segment.owner) })
}

/// Checks that a run or a worker may refresh the segment now.
pub(super) fn check_not_held(request: &RefreshRequest<'_>, segment: &Segment) -> Result<()> {
    match segment.held_until {
        Some(until) if request.skip_busy => {
            Err(Error::Held { segment: segment.name.clone(), held: clock::held(until) })
        }
        _ => Ok(()),
    }
}

/// Locks the segment's table and then takes the snapshot. The caller holds the segment's lock: from
/// then on, neither another refresh nor a change of the segment's table can interfere. `permitted`:
/// an owner whose segments the caller may refresh.
fn lock_and_snapshot<'a>(
    set: &RelationSet,
    request: &RefreshRequest<'_>,
    found: &'a mut Option<Segment>,
    permitted: pg_sys::Oid,
) -> Result<(Active, &'a Segment)> {
    let gone = || set.unknown_segment(request.name);
    loop {
        let segment = found.as_ref().ok_or_else(gone)?;
        if segment.owner != permitted {
            may_refresh(set, segment, role::current())?;
        }
        let locked = segment_table::lock(set, segment.table, segment.holder(), Purpose::Refresh);
        let snapshot = Active::fresh();
        let current = Segment::find(set, Key::Id(segment.id))?.filter(|segment| segment.actual);
        let current = current.ok_or_else(gone)?;
        // The segment may have got another table or owner before the lock was granted.
        let is_same = (current.table, current.owner) == (segment.table, segment.owner);
        match locked {
            _ if !is_same => *found = Some(current),
            Ok(true) => return Ok((snapshot, found.insert(current))),
            refused => {
                check_not_superseded(set, &current)?;
                refused?;
                return Err(Error::TableDropped(current.name));
            }
        }
    }
}

/// Raises an error in a transaction that keeps its snapshot (REPEATABLE READ or higher) if the
/// segment was refreshed or changed between that snapshot and the lock.
pub fn check_not_superseded(set: &RelationSet, segment: &Segment) -> Result<()> {
    if !snapshot::is_kept() {
        return Ok(());
    }
    let state = || -> Result<Option<String>> {
        set.as_owner(|| {
            Spi::connect(|_| {
                statement::read_one(
                    &set.sql(&queries::refresh::GET_SEGMENT_STATE, &[]),
                    &[segment.id.into()],
                )
            })
        })
    };
    let seen = state()?;
    let latest = {
        let _snapshot = Active::latest();
        state()?
    };
    if latest != seen { Err(Error::Superseded(segment.name.clone())) } else { Ok(()) }
}

/// Checks that the segment's sources are loaded and that the segments that it reads are up to date.
/// Returns remarks about sources.
pub(super) fn check_sources_loaded(
    set: &RelationSet,
    segment: &Segment,
    reads: &Reads,
    lists: &[Uuid],
) -> Result<source_check::Checked> {
    let mut found = match segment.sources.as_slice() {
        [] => Default::default(),
        sources => Spi::connect(|_| {
            set.as_segment_owner(segment.owner, || source_check::check(set, sources))
        })?,
    };
    found.missing.extend(upstream::check(set, segment, reads, lists)?);
    if found.missing.is_empty() { Ok(found) } else { Err(Error::NotLoaded(found.missing)) }
}

/// The local time of the refresh, the zone that the members' times are in (none: it is the first one
/// that is recorded), and what is known of the members after the last refresh.
pub fn last_content(
    set: &RelationSet,
    segment: &Segment,
) -> Result<(Timestamp, Option<String>, LastContent)> {
    set.as_owner(|| {
        Spi::connect(|client| {
            let statement = set.kept(&queries::refresh::GET_INSTANT);
            let row = client.select(statement, Some(1), &[segment.id.into()])?.first();
            let at: Option<Timestamp> = row.get_by_name("at")?;
            let zone: Option<String> = row.get_by_name("timezone")?;
            Ok((at.unwrap_or(Timestamp::positive_infinity()), zone, LastContent::read(&row)?))
        })
    })
}

fn run_procedure<'a>(
    client: &mut SpiClient<'_>,
    set: &'a RelationSet,
    table: &'a Table,
    segment: &Segment,
    target: (Uuid, u64),
    sql: &str,
) -> Result<(Delta, DeltaTarget<'a>)> {
    let call = delta::parse_single_statement(sql, StatementKind::Call)?;
    // An error in its text, other than one of the procedure's own statements, has a line and a column.
    drop(Prepared::of_user(call, &[])?);
    let before = delta::before_procedure(set, table, target)?;
    progress::enter(Phase::Applying);
    client.update(call, None, &[])?;
    if snapshot::is_kept() {
        // Elsewhere each statement of a procedure has a snapshot of its own.
        seen::check_all_relations()?;
    }
    let _snapshot = Active::fresh();
    if Table::check(set, segment.table, segment.holder())? != *table {
        return Err(Error::TableAltered(table.name.clone()));
    }
    before.compare()
}

/// Checks a delta by the segment's guards, and the figures of earlier refreshes. Returns what is unusual of
/// it, and does not refuse it.
fn guard(
    (segment, past): (&Segment, &[Refreshed]),
    request: &RefreshRequest<'_>,
    delta: &Delta,
) -> Result<Vec<String>> {
    if request.force {
        return Ok(Vec::new());
    }
    let checked = segment.guards.check(delta.figures, past);
    let checked = checked.map_err(|refusal| Error::Refused(Box::new(refusal)));
    match (&checked, request.shows) {
        (Err(refused), Some(_)) => {
            diff::say_refused(segment, refused);
            Ok(Vec::new())
        }
        _ => checked,
    }
}
