//! The incremental refresher: an incremental pass compares only ids that may have changed since the
//! last refresh.
//!
//! The checkpoint is stored in the segment's state, in the transaction of the refresh, so it is valid
//! exactly if the refresh was committed. Without a usable checkpoint, or when a full pass is due, all ids are compared.

use std::collections::{BTreeMap, BTreeSet};

use pgrx::datum::{TimestampWithTimeZone, Uuid};
use pgrx::prelude::*;
use serde_json::{Value, json};

use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::config::segment_table::Table;
use crate::config::{self, Incremental, Refresher, Segment, Subject};
use crate::error::{Error, Result};
use crate::pg::bgw::activity;
use crate::pg::clock::{self, Instant};
use crate::pg::exec::dependency::Named;
use crate::pg::exec::role;
use crate::pg::exec::statement::{self, Prepared, StatementKind};
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};
use crate::pg::exec::tuplestore::Relation;
use crate::pg::system_catalog;
use crate::refresh::content::LastContent;
use crate::refresh::delta::{self, Delta, DeltaTarget};
use crate::refresh::incremental::capture::{CAPTURED, Captured};
use crate::refresh::incremental::checkpoint::{Checkpoint, last_checkpoint};
use crate::refresh::incremental::id_query::{EXPIRED, IdQuery, Purpose};
use crate::refresh::reads::Reads;
use segmenter_core::content::Checksum;
use segmenter_core::tables_read;

pub mod capture;
mod checkpoint;
pub mod dependencies;
pub mod gaps;
mod id_query;
pub mod watch;
mod watermark;

const CHANGED: &std::ffi::CStr = c"changed";
const IDS: &std::ffi::CStr = c"segmenter_ids";
const RECENT: &std::ffi::CStr = c"segmenter_recent";

/// Captured ids cannot be read any more.
const NO_CAST: &str = "captured ids are no values of their column's type any more";

/// The watermark, determined before the snapshot of a refresh is taken, or why there is none.
pub struct WatermarkCandidate(Option<std::result::Result<Instant, &'static str>>);

impl WatermarkCandidate {
    /// Determines the watermark if the segment's refresher needs one. Must be called before the
    /// snapshot is taken.
    pub fn of(set: &RelationSet, segment: &Segment) -> Result<Self> {
        match &segment.refresher {
            Some(Refresher::Incremental(Incremental { changed: Some(_), .. })) => {
                Ok(Self(Some(watermark::take(set)?)))
            }
            _ => Ok(Self::none()),
        }
    }

    /// For a refresh that needs no watermark.
    pub fn none() -> Self {
        Self(None)
    }
}

/// Why a full pass is made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FullPassReason {
    Requested,
    Scheduled,
    /// An incremental pass is impossible, for this reason.
    Required(&'static str),
}

impl FullPassReason {
    fn as_str(self) -> &'static str {
        match self {
            FullPassReason::Requested => "it was asked for",
            FullPassReason::Scheduled => "full_cron",
            FullPassReason::Required(reason) => reason,
        }
    }
}

/// What an incremental refresh will do.
pub struct Plan {
    refresher: Incremental,
    /// The time of the refresh.
    now: Instant,
    /// The checkpoint of the last refresh; none: there is none, or it is not usable.
    since: Option<Checkpoint>,
    /// Why a full pass is made; none: an incremental pass.
    full: Option<FullPassReason>,
    /// The number of members before; none: they must be counted.
    before: Option<u64>,
    next: Checkpoint,
    /// Why there is no new watermark, so that the old one is kept.
    kept: Option<&'static str>,
    /// The ids whose answer the clock has changed, and whether there are no others.
    expired: Expired,
    /// Remarks for the result.
    remarks: Vec<String>,
}

/// The ids whose answer the clock has changed since the last refresh.
#[derive(Clone, Copy, Default)]
struct Expired {
    ids: u64,
    are_all: bool,
}

/// What an incremental refresh reports.
pub struct Progress {
    /// The checkpoint to store, with what the doctor reports.
    pub checkpoint: Value,
    /// The details of the pass, for the log.
    pub pass: Value,
    /// A remark for the result; none: nothing is remarkable.
    pub remark: Option<String>,
    /// Time alone has changed the answers that were looked at.
    pub is_by_clock: bool,
}

/// Decides between a full and an incremental pass, as the active snapshot sees the segment. `reads`: what
/// its queries read; if its tables are not known, they cannot be analysed, which fails the refresh when
/// they are run. `now` is the time of the refresh; `full` requests a full pass; `is_freed`: members may return
/// that lists of the segment have lost, whose ids are not among the changed ones; so may
/// people who were kept out, after as many `readmissions`.
pub fn plan(
    set: &RelationSet,
    (segment, table): (&Segment, &Table),
    refresher: &Incremental,
    reads: &Reads,
    beginning: &WatermarkCandidate,
    (now, full, (is_freed, readmissions)): (Instant, bool, (bool, i64)),
) -> Result<Plan> {
    let (last, before) = last_checkpoint(set, segment.id)?;
    let position = last.as_ref().and_then(|last| last.captured.as_ref());
    let captured = match &refresher.watch {
        Some(watched) => Some(capture::read_captured(set, segment.owner, watched, position)?),
        None => None,
    };
    let definitions = hash_definitions(set, reads)?;
    let reads = reads.tables.as_ref().map(|read| names_of(read, captured.as_ref()));
    let next = Checkpoint {
        refresher: json!(segment.refresher),
        cluster: activity::cluster(),
        table: table.oid.to_u32(),
        owner: segment.owner.to_u32(),
        at: Some(now.min(clock::transaction_start())),
        full_at: now,
        missed: None,
        watermark: None,
        captured,
        reads,
        definitions,
        readmissions,
    };

    let since = last.filter(|last| last.is_continued_by(&next));
    let is_due = |since: &Checkpoint| -> Result<bool> {
        let Some(schedule) = refresher.full_schedule() else { return Ok(false) };
        let zone = segment.timezone.as_deref().unwrap_or(set.timezone());
        let zone =
            config::timezone("refresh_timezone", Some(zone), Subject::Segment(&segment.name))?;
        let next = zone.and_then(|zone| schedule.next_after(since.full_at, zone));
        Ok(next.is_some_and(|next| next <= now))
    };
    let is_emptied = || -> Result<bool> {
        let parts = [("table", table.name.as_str())];
        let any = set.as_table_owner(table.owner, || {
            Spi::connect(|_| {
                statement::read_one::<bool>(
                    &set.sql(&queries::refresh::HAS_MEMBERS, &parts),
                    &[segment.id.into()],
                )
            })
        })?;
        Ok(any == Some(false))
    };
    let read_before = since.as_ref().and_then(|since| since.reads.as_ref());
    let replaced = read_before
        .zip(next.reads.as_ref())
        .and_then(|(then, now)| tables_read::replaced(then, now));
    let obstacle = match &since {
        None => Some("there is no checkpoint to continue from"),
        // Changes that were made since, by the right clock, would not be looked at.
        Some(since) if since.is_ahead(now) => Some("the last refresh lies in the future"),
        Some(since) if refresher.changed.is_some() && since.watermark.is_none() => {
            Some("the last refresh left no watermark")
        }
        Some(_) if replaced.is_some() => Some("the queries read other tables than before"),
        // (A checkpoint without tables is one of an earlier version, or of queries that were not analysed.)
        Some(since) if since.reads.is_some() && since.definitions != next.definitions => Some(
            "views, functions or policies that the queries go by are defined otherwise than before",
        ),
        Some(_) if is_freed => Some("segments whose members it leaves out have lost some"),
        Some(since) if since.readmissions != readmissions => {
            Some("people who were kept out were readmitted")
        }
        Some(since) => match (&since.captured, &next.captured) {
            (Some(before), Some(now)) => capture::full_pass_reason(set, before, now)?,
            _ => None,
        },
    };
    let full = match (&since, obstacle) {
        (_, Some(obstacle)) => Some(FullPassReason::Required(obstacle)),
        _ if full => Some(FullPassReason::Requested),
        (Some(since), None) if is_due(since)? => Some(FullPassReason::Scheduled),
        _ if before.is_none_or(|before| before > 0) && is_emptied()? => {
            Some(FullPassReason::Required("the segment's table was emptied"))
        }
        _ => None,
    };

    let remarks = replaced.map(|what| format!("{what}: all ids were compared"));
    let mut plan = Plan {
        refresher: refresher.clone(),
        now,
        since,
        full,
        before,
        next,
        kept: None,
        expired: Expired::default(),
        remarks: remarks.into_iter().collect(),
    };
    match beginning.0 {
        Some(Ok(watermark)) => plan.next.watermark = Some(watermark),
        Some(Err(why)) => {
            plan.next.watermark = plan.since.as_ref().and_then(|since| since.watermark);
            plan.kept = Some(why);
        }
        None => {}
    }
    if let (None, Some(since)) = (plan.full, &plan.since) {
        (plan.next.full_at, plan.next.missed) = (since.full_at, since.missed);
    }
    Ok(plan)
}

/// A hash of the definitions of what the queries read; none: there are none but tables without row-level
/// security.
fn hash_definitions(set: &RelationSet, reads: &Reads) -> Result<Option<String>> {
    let own = |oid: &pg_sys::Oid| oid.to_u32() >= pg_sys::FirstNormalObjectId;
    let functions = reads.edges.iter().map(|(object, _)| object);
    let functions = functions.filter(|object| object.is_function()).map(|object| object.oid());
    let functions: Vec<pg_sys::Oid> = functions.filter(own).collect();
    let args = [reads.relations().into(), functions.into()];
    set.as_owner(|| {
        let sql = queries::refresh::incremental::HASH_DEFINITIONS.kept();
        Spi::connect(|client| Ok(client.select(sql, Some(1), &args)?.first().get_one()?))
    })
}

/// The tables that the queries read, and those that are watched, by name.
fn names_of(read: &BTreeSet<u32>, captured: Option<&Captured>) -> BTreeMap<String, u32> {
    let watched = captured.into_iter().flat_map(Captured::tables);
    let named = |oid| Some((system_catalog::qualified_name(pg_sys::Oid::from(oid))?, oid));
    read.iter().copied().chain(watched).filter_map(named).collect()
}

/// Checks that the queries of a refresher can be analysed, and that those for ids give some. Runs with the
/// rights of the segment's owner, within an SPI connection.
pub fn check(set: &RelationSet, refresher: &Incremental) -> Result<()> {
    let ever = [TimestampWithTimeZone::negative_infinity(); 2];
    if let Some(changed) = &refresher.changed {
        IdQuery::configured(Purpose::Changed, changed, &ever[..1])?;
    }
    if let Some(expires) = &refresher.expires {
        IdQuery::configured(Purpose::Expires, expires, &ever)?;
    }
    dependencies::analyse(set, refresher).map(drop)
}

/// The relations and functions that an incremental refresher names, and the tables that its queries
/// read, through views, too. Runs with the rights of the segment's owner, within an SPI connection.
pub fn named_by(set: &RelationSet, refresher: &Incremental) -> Result<(Named, BTreeSet<u32>)> {
    let dependencies = dependencies::analyse(set, refresher)?;
    let tables = dependencies.tables();
    Ok((dependencies.named, tables))
}

/// The query for the members, analysed; an error in another query of the refresher is one, too. Runs with
/// the rights of the segment's owner, within an SPI connection.
pub fn members(set: &RelationSet, refresher: &Incremental) -> Result<Prepared> {
    Ok(dependencies::analyse(set, refresher)?.members)
}

/// The relation `changed` with one id, for the query of members; none: the id is no value of the type of changed
/// ids. Runs with the rights of the segment's owner, within an SPI connection.
pub fn changed_id(
    set: &RelationSet,
    refresher: &Incremental,
    id: &str,
) -> Result<Option<Relation>> {
    let ever = [TimestampWithTimeZone::negative_infinity()];
    let changed = match (&refresher.changed, &refresher.watch) {
        (Some(changed), _) => {
            delta::parse_single_statement(changed, StatementKind::Select)?.to_owned()
        }
        (None, watched) => capture::ids_of(set, watched.as_deref().unwrap_or_default())?,
    };
    let query = Prepared::analysed(&changed, &id_query::args(&ever))?;
    let column = query.columns().into_iter().find(|column| column.name == "id");
    let Some(column) = column else { return Ok(None) };
    let id_type = system_catalog::type_with_collation(column.type_oid, column.collation)?;
    let sql = set.sql(&queries::refresh::ask::GIVE_ID, &[("type", &id_type)]);
    let given = in_subtransaction(OnSuccess::Commit, || {
        let relation = Relation::new(CHANGED);
        relation.append(&sql, &[id.into()])?;
        Ok(relation)
    });
    match given {
        Ok(relation) => Ok(Some(relation)),
        Err(Error::Postgres(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether an id is among the captured changes that the next refresh will read; none: that compares all ids.
pub fn is_captured(
    set: &RelationSet,
    segment: &Segment,
    watched: &[config::Watched],
    id: &str,
) -> Result<Option<bool>> {
    let (last, _) = last_checkpoint(set, segment.id)?;
    let Some(before) = last.and_then(|last| last.captured) else { return Ok(None) };
    let now = capture::read_captured(set, segment.owner, watched, Some(&before))?;
    if capture::full_pass_reason(set, &before, &now)?.is_some() {
        return Ok(None);
    }
    Spi::connect(|_| {
        let captured = Relation::new(CAPTURED);
        capture::keep_captured(set, &before, &now, &captured)?;
        set.extension.as_owner(|| {
            let sql = queries::refresh::ask::IS_CAPTURED.text();
            statement::read_one::<bool>(sql, &[id.into()])
        })
    })
}

impl Plan {
    /// Computes the delta, and has `leave_out` take members of the segment's lists out of it. Runs with the
    /// rights of the segment's owner, within an SPI connection.
    pub fn delta<'a>(
        mut self,
        set: &'a RelationSet,
        table: &'a Table,
        target: (Uuid, u64),
        last: &LastContent,
        mut leave_out: impl FnMut(&mut Delta, &DeltaTarget<'_>) -> Result<()>,
    ) -> Result<(Delta, DeltaTarget<'a>, Progress)> {
        let (segment, _) = target;
        let changed = Relation::new(CHANGED);
        let ids = Relation::new(IDS);
        if self.full.is_none() {
            match role::read_only(|| self.read_changed(set, &changed, &ids))? {
                Some((is_plain, expired)) => {
                    self.expired = expired;
                    let found = role::read_only(|| self.notice_edits(set, table, target, last))?;
                    if self.full.is_none() {
                        let (name, looked_at) =
                            if is_plain { ("changed", &changed) } else { ("segmenter_ids", &ids) };
                        let before = match self.before {
                            Some(before) => before,
                            None => delta::count_members(set, table, segment)?,
                        };
                        let sql = &self.refresher.sql;
                        let ids = (name, looked_at.rows());
                        let (mut delta, side) =
                            delta::of_changed(set, table, target, sql, ids, before)?;
                        delta.found = found;
                        leave_out(&mut delta, &side)?;
                        return Ok((delta, side, self.progress(looked_at.rows(), None)));
                    }
                    changed.clear();
                }
                None => {
                    self.full = Some(FullPassReason::Required(NO_CAST));
                    (self.next.full_at, self.next.missed) = (self.now, None);
                    self.remarks.push(format!("{NO_CAST}: all ids were compared"));
                }
            }
        }
        role::read_only(|| self.materialize_all_ids(set, &changed, table, segment))?;
        let (mut delta, side) = delta::of_query(set, table, target, &self.refresher.sql, true)?;
        leave_out(&mut delta, &side)?;
        // Ids that changed since the last refresh are no fault of earlier passes. A change of any
        // other id should have been found earlier: it is counted as missed.
        let missed = match self.full {
            Some(FullPassReason::Requested | FullPassReason::Scheduled)
                if last.edited(&delta, &side).is_none() =>
            {
                let missed = role::read_only(|| self.count_missed(set))?;
                if missed.is_none() {
                    self.remarks.push(format!("{NO_CAST}: missed changes are not counted"));
                }
                missed
            }
            _ => None,
        };
        Ok((delta, side, self.progress(changed.rows(), missed)))
    }

    /// Makes a full pass of an incremental one if the table's rows were changed by hand, as far as
    /// that can be found out at a low price. Returns the members, if they were read. The relation
    /// `changed` is there.
    fn notice_edits(
        &mut self,
        set: &RelationSet,
        table: &Table,
        target: (Uuid, u64),
        last: &LastContent,
    ) -> Result<Option<Checksum>> {
        if !last.must_read(table) {
            return Ok(None);
        }
        let query = delta::parse_single_statement(&self.refresher.sql, StatementKind::Select)?;
        let side = DeltaTarget::of_query((set, table), target, query)?;
        let found = side.sum_members()?;
        if last.is_edited(&found, &side) {
            self.full = Some(FullPassReason::Required("rows of the table were changed by hand"));
            (self.next.full_at, self.next.missed) = (self.now, None);
        }
        Ok(Some(found))
    }

    /// Puts the changed ids into the relation `changed`, each once. Returns whether ids of their type
    /// are equal exactly if their texts are; if not, ids that are equal and differ as text are all in
    /// the relation `ids`, for the comparison, and `changed` has one of each, so that the member query
    /// does not return a member twice. And what of them has expired. None: captured ids cannot be read any more.
    fn read_changed(
        &self,
        set: &RelationSet,
        changed: &Relation,
        ids: &Relation,
    ) -> Result<Option<(bool, Expired)>> {
        let (captured, expired) = (Relation::new(CAPTURED), Relation::new(EXPIRED));
        let query = self.since_query(set, &captured, &expired)?;
        let all = if query.is_plain { changed } else { ids };
        if !self.materialize_changed(set, &query, all)? {
            return Ok(None);
        }
        if !query.is_plain {
            changed.append(queries::refresh::incremental::DISTINCT_IDS.text(), &[])?;
        }
        let mut gone = Expired { ids: expired.rows(), are_all: false };
        if gone.ids > 0 {
            let are_all = &queries::refresh::incremental::ARE_ALL_EXPIRED;
            gone.are_all = statement::read_one(are_all.text(), &[])? == Some(true);
        }
        Ok(Some((query.is_plain, gone)))
    }

    /// The number of changes that a full pass has found and earlier passes have missed; none: it is
    /// not known.
    fn count_missed(&self, set: &RelationSet) -> Result<Option<i64>> {
        let (captured, expired) = (Relation::new(CAPTURED), Relation::new(EXPIRED));
        let recent = Relation::new(RECENT);
        let query = self.since_query(set, &captured, &expired)?;
        if !self.materialize_changed(set, &query, &recent)? {
            return Ok(None);
        }
        let sql = &queries::refresh::incremental::COUNT_MISSED;
        statement::read_one::<i64>(sql.text(), &[])
    }

    /// Runs the query for changed ids. False: captured ids cannot be read any more. A query for
    /// captured ids does no more than cast them.
    fn materialize_changed(
        &self,
        set: &RelationSet,
        query: &IdQuery,
        relation: &Relation,
    ) -> Result<bool> {
        if self.refresher.watch.is_none() {
            return query.materialize(set, relation).map(|()| true);
        }
        match in_subtransaction(OnSuccess::Commit, || query.materialize(set, relation)) {
            Ok(()) => Ok(true),
            Err(error @ Error::Replaced(_)) => Err(error),
            Err(_) => {
                relation.clear();
                Ok(false)
            }
        }
    }

    /// The query for ids that have changed since the last refresh, and those whose answer the clock
    /// has changed. Captured ids are put into the relation `captured`, and expired ones into
    /// `expired`, which the query then reads.
    fn since_query(
        &self,
        set: &RelationSet,
        captured: &Relation,
        expired: &Relation,
    ) -> Result<IdQuery> {
        let since = self.since.as_ref();
        let before = since.and_then(|since| since.captured.as_ref());
        let query = if let (Some(before), Some(now)) = (before, &self.next.captured) {
            capture::keep_captured(set, before, now, captured)?;
            let ever = [TimestampWithTimeZone::negative_infinity()];
            IdQuery::of(Purpose::Changed, capture::changed_sql(set, now), &ever)?
        } else {
            let since = since.and_then(|since| since.watermark).map(clock::timestamp);
            self.changed_query(since.unwrap_or(TimestampWithTimeZone::negative_infinity()))?
        };
        let last = since.and_then(|since| since.at).map(clock::timestamp);
        let times = [
            last.unwrap_or(TimestampWithTimeZone::negative_infinity()),
            clock::timestamp(self.now),
        ];
        match &self.refresher.expires {
            Some(text) => {
                let expires = IdQuery::configured(Purpose::Expires, text, &times)?;
                query.with_expired(set, &expires, expired)
            }
            None => Ok(query),
        }
    }

    /// Puts all ids into the relation: those that the query for changed ids returns for all times,
    /// and those of the members.
    fn materialize_all_ids(
        &self,
        set: &RelationSet,
        relation: &Relation,
        table: &Table,
        segment: Uuid,
    ) -> Result<()> {
        let ever = TimestampWithTimeZone::negative_infinity();
        let query = match &self.next.captured {
            Some(captured) => {
                IdQuery::of(Purpose::Changed, capture::all_sql(set, captured), &[ever])?
            }
            None => self.changed_query(ever)?,
        };
        // It is not run in a full pass, and an error in it should not wait for the next one.
        if let Some(text) = &self.refresher.expires {
            query.check_expires(&IdQuery::configured(Purpose::Expires, text, &[ever, ever])?)?;
        }
        if self.next.captured.is_none() {
            return query.materialize_all(set, relation, &table.name, segment);
        }
        // Where captured ids are no values of their type any more, ids of members may be none either.
        let all = in_subtransaction(OnSuccess::Commit, || {
            query.materialize_all(set, relation, &table.name, segment)
        });
        all.or_else(|_| {
            relation.clear();
            query.materialize_all_castable(set, relation, &table.name, segment)
        })
    }

    /// The configured query for changed ids, checked.
    fn changed_query(&self, since: TimestampWithTimeZone) -> Result<IdQuery> {
        let text = self.refresher.changed.as_deref().unwrap_or_default();
        IdQuery::configured(Purpose::Changed, text, &[since])
    }

    fn progress(&self, ids: u64, missed: Option<i64>) -> Progress {
        let mut checkpoint = json!(self.next);
        let mut remarks = self.remarks.clone();
        match missed {
            None | Some(0) => {}
            Some(1) => remarks.push("1 change was missed by earlier passes".to_owned()),
            Some(many) => {
                remarks.push(format!("{many} changes were missed by earlier passes"));
            }
        }
        if self.full.is_some() {
            checkpoint["missed"] = missed.into();
        }
        if let Some(kept) = self.kept {
            let becomes = match self.next.watermark {
                Some(_) => "the watermark stays where it was",
                None => "there is no watermark yet",
            };
            checkpoint["kept"] = kept.into();
            remarks.push(format!("{becomes}: {kept}"));
        }
        if let Some(missing) = self.next.captured.as_ref().and_then(Captured::incomplete) {
            checkpoint["incomplete"] = missing.table.as_str().into();
            checkpoint["why"] = json!(missing.why);
            let (what, _) = missing.why.explain(&missing.table);
            remarks.push(format!("{what}: each refresh compares all ids"));
        }
        let mut pass = checkpoint.clone();
        if let Some(pass) = pass.as_object_mut() {
            pass.remove("refresher");
            pass.remove("reads");
        }
        pass["pass"] = if self.full.is_some() { "full" } else { "changes" }.into();
        pass["ids"] = ids.into();
        if let Some(reason) = self.full {
            pass["reason"] = reason.as_str().into();
        }
        let is_by_clock = self.full.is_none() && self.expired.are_all;
        if self.full.is_none() && self.expired.ids > 0 {
            pass["expired"] = self.expired.ids.into();
        }
        let remark = (!remarks.is_empty()).then(|| remarks.join("; "));
        Progress { checkpoint, pass, remark, is_by_clock }
    }
}
