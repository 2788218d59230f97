//! A pass of an incremental refresher: what it compares, and what it reports.

use std::rc::Rc;

use pgrx::datum::{TimestampWithTimeZone, Uuid};
use serde_json::{Value, json};

use super::capture::{self, Captured};
use super::checkpoint::Checkpoint;
use super::decision::{FullPassReason, WatermarkCandidate};
use super::id_query::{EXPIRED, IdQuery, Purpose};
use super::readings::{CapturedIds, Readings};
use super::{CHANGED, IDS};
use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::config::Incremental;
use crate::config::segment_table::Table;
use crate::error::{Error, Result};
use crate::pg::clock::{self, Instant};
use crate::pg::exec::implied::Implied;
use crate::pg::exec::role;
use crate::pg::exec::statement::{self, Prepared, StatementKind};
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};
use crate::pg::exec::tuplestore::Relation;
use crate::pg::system_catalog;
use crate::refresh::content::LastContent;
use crate::refresh::delta::{self, Delta, DeltaTarget};
use segmenter_core::content::Checksum;
use segmenter_core::guards::DeltaStats;

const RECENT: &std::ffi::CStr = c"segmenter_recent";

/// Captured ids cannot be read any more.
const NO_CAST: &str = "captured ids are no values of their column's type any more";

/// What an incremental refresh will do.
#[derive(Clone)]
pub struct Plan<'a> {
    pub(super) refresher: Incremental,
    /// The time of the refresh.
    pub(super) now: Instant,
    /// The checkpoint of the last refresh; none: there is none, or it is not usable.
    pub(super) since: Option<Checkpoint>,
    /// Why a full pass is made; none: an incremental pass.
    pub(super) full: Option<FullPassReason>,
    /// The number of members before; none: they must be counted.
    pub(super) before: Option<u64>,
    pub(super) next: Checkpoint,
    /// Why there is no new watermark, so that the old one is kept.
    pub(super) kept: Option<&'static str>,
    /// The ids whose answer the clock has changed, and whether there are no others.
    pub(super) expired: Expired,
    /// Remarks for the result.
    pub(super) remarks: Vec<String>,
    /// What the segment's family has read for it; none: it reads by itself.
    pub(super) given: Option<Given<'a>>,
    /// What the run in this transaction has read; none: it is no part of one.
    pub(super) readings: Option<&'a Readings>,
}

/// What a family has read.
#[derive(Clone)]
pub struct Given<'a> {
    /// The query for the segment's rows.
    pub sql: String,
    /// Those of the ids that have changed that the segment has or gets, of a pass over these.
    pub ids: &'a Relation,
}

/// The relations for the ids that have changed, which statements read by their names: each id once as its
/// type compares them, and as text.
#[derive(Clone, Copy)]
pub struct Ids<'a> {
    pub changed: &'a Relation,
    pub ids: &'a Relation,
}

impl<'a> Ids<'a> {
    /// The relation with all ids, by its name.
    pub fn all(self, is_plain: bool) -> (&'static str, &'a Relation) {
        if is_plain { ("changed", self.changed) } else { ("segmenter_ids", self.ids) }
    }
}

/// New relations for ids.
pub fn new_ids() -> (Relation, Relation) {
    (Relation::new(CHANGED), Relation::new(IDS))
}

/// The ids whose answer the clock has changed since the last refresh.
#[derive(Clone, Copy, Default)]
pub(super) struct Expired {
    pub(super) ids: u64,
    pub(super) are_all: bool,
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

impl<'a> Plan<'a> {
    /// Computes the delta, and has `leave_out` take members of the segment's lists out of it. Runs with the
    /// rights of the segment's owner, within an SPI connection.
    pub fn delta<'b>(
        mut self,
        set: &'b RelationSet,
        table: &'b Table,
        target: (Uuid, u64),
        last: &LastContent,
        mut leave_out: impl FnMut(&mut Delta, &DeltaTarget<'_>) -> Result<()>,
    ) -> Result<(Delta, DeltaTarget<'b>, Progress)> {
        let (segment, _) = target;
        let (changed, ids) = new_ids();
        let given = self.given.take();
        let (is_given, is_asked_for_changes) = (given.is_some(), self.full.is_none());
        if is_asked_for_changes {
            let own = Ids { changed: &changed, ids: &ids };
            let read = match &given {
                Some(given) => {
                    given.ids.publish();
                    Some(("segmenter_ids", given.ids))
                }
                None => role::read_only(|| self.read_changed(set, own))?.map(|it| own.all(it)),
            };
            match read {
                Some((name, looked_at)) => {
                    let sql = given.as_ref().map(|given| given.sql.as_str());
                    let notice = || self.notice_edits(set, table, (target, sql), last);
                    let found = role::read_only(notice)?;
                    if self.full.is_none() {
                        let before = match self.before {
                            Some(before) => before,
                            None => delta::count_members(set, table, segment)?,
                        };
                        let sql = given.as_ref().map_or(&self.refresher.sql, |given| &given.sql);
                        let ids = (name, looked_at.rows());
                        let (mut delta, side) =
                            delta::of_changed(set, table, target, sql, ids, before)?;
                        delta.found = found;
                        leave_out(&mut delta, &side)?;
                        return Ok((delta, side, self.progress(looked_at.rows(), None)));
                    }
                    changed.clear();
                }
                None => self.compare_all_instead(),
            }
        }
        let (mut delta, side) = match given.filter(|_| !is_asked_for_changes) {
            Some(given) => delta::of_query(set, table, target, &given.sql, true)?,
            None => {
                let sql = &self.refresher.sql;
                let segments = [segment];
                let compare = || delta::of_query(set, table, target, sql, true);
                self.with_all_ids(set, (table, &segments), &changed, compare)?
            }
        };
        let DeltaStats { received, invalid, removed, .. } = delta.figures;
        let compared = received - invalid + removed;
        leave_out(&mut delta, &side)?;
        // Ids that changed since the last refresh are no fault of earlier passes. A change of any
        // other id should have been found earlier: it is counted as missed.
        let missed = match self.full {
            // Of a family that is not counted.
            Some(FullPassReason::Requested | FullPassReason::Scheduled)
                if !is_given && last.edited(&delta, &side).is_none() =>
            {
                let missed = role::read_only(|| self.count_missed(set, &delta))?;
                if missed.is_none() {
                    self.remarks.push(format!("{NO_CAST}: missed changes are not counted"));
                }
                missed
            }
            _ => None,
        };
        Ok((delta, side, self.progress(compared, missed)))
    }

    /// Reads the rows of a family: of the ids that have changed, or of all. `read` runs the query for members
    /// and keeps its rows; whether it is of those that have changed is passed to it. The ids of the segments are
    /// among all ids. Returns whether the ids that have changed are in one relation, as
    /// [`Self::read_changed`] does.
    pub fn read_family(
        &mut self,
        set: &RelationSet,
        target: (&Table, &[Uuid]),
        ids: Ids<'_>,
        read: impl Fn(bool) -> Result<()>,
    ) -> Result<bool> {
        if self.full.is_none() {
            match role::read_only(|| self.read_changed(set, ids))? {
                Some(is_plain) => return role::read_only(|| read(true)).map(|()| is_plain),
                None => self.compare_all_instead(),
            }
        }
        let read = || role::read_only(|| read(false));
        self.with_all_ids(set, target, ids.changed, read).map(|()| true)
    }

    /// The plan of a segment that reads by itself.
    pub fn own(self) -> Plan<'static> {
        let Plan { refresher, now, since, full, before, next, kept, expired, remarks, .. } = self;
        let (given, readings) = (None, None);
        Plan { refresher, now, since, full, before, next, kept, expired, remarks, given, readings }
    }

    /// The watermark that the next pass begins with.
    pub fn beginning(&self) -> WatermarkCandidate {
        match (self.refresher.changed.is_some(), self.kept, self.next.watermark) {
            (true, None, Some(watermark)) => WatermarkCandidate::at(watermark),
            (true, why, _) => {
                WatermarkCandidate::missing(why.unwrap_or("its family has no watermark"))
            }
            (false, ..) => WatermarkCandidate::none(),
        }
    }

    /// The progress of a segment of this family that has read by itself, later: as far as the family has got.
    pub fn caught_up(&self, mut made: Progress) -> Progress {
        let own = std::mem::replace(&mut made.checkpoint, json!(self.next));
        for key in ["refresher", "full_at", "missed", "kept", "incomplete", "why"] {
            if let Some(value) = own.get(key) {
                made.checkpoint[key] = value.clone();
            }
        }
        made
    }

    /// Whether only ids that have changed are compared.
    pub fn is_of_changes(&self) -> bool {
        self.full.is_none()
    }

    /// What the refresh of a family reports.
    pub fn progress_of_family(&self, ids: &Relation) -> Progress {
        self.progress(ids.rows(), None)
    }

    /// Makes it a full pass, because captured ids cannot be read any more.
    fn compare_all_instead(&mut self) {
        self.full = Some(FullPassReason::Required(NO_CAST));
        (self.next.full_at, self.next.missed) = (self.now, None);
        self.remarks.push(format!("{NO_CAST}: all ids were compared"));
    }

    /// Runs `compare` with the relation `changed` that has all ids. The query for members need not read them
    /// if it takes them from the watched tables.
    fn with_all_ids<T>(
        &self,
        set: &RelationSet,
        (table, segments): (&Table, &[Uuid]),
        changed: &Relation,
        compare: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let implied = role::read_only(|| {
            let all = self.all_query(set)?;
            let implied = self.implied(set, &all, changed)?;
            if implied.is_none() {
                self.materialize_all_ids(set, &all, changed, (table, segments))?;
            }
            Ok(implied)
        })?;
        match implied {
            Some(implied) => implied.take_out(compare),
            None => compare(),
        }
    }

    /// What is known of the relation `changed` with all ids, where this suffices for the query for
    /// members: it only joins it with columns of ids of the watched tables. Then the relation has no rows.
    fn implied(
        &self,
        set: &RelationSet,
        all: &IdQuery,
        changed: &Relation,
    ) -> Result<Option<Rc<Implied>>> {
        // Ids that are equal and differ as text are not interchangeable.
        let Some(captured) = self.next.captured.as_ref().filter(|_| all.is_plain) else {
            return Ok(None);
        };
        all.give_columns(set, changed)?;
        let implied = Rc::new(Implied { name: CHANGED, columns: captured.columns() });
        let query = delta::parse_single_statement(&self.refresher.sql, StatementKind::Select)?;
        let query = implied.taken_out(query)?;
        let is_local = |query: &Prepared| !system_catalog::are_distributed(&query.relations());
        Ok(query.is_some_and(|query| is_local(&query)).then_some(implied))
    }

    /// Makes a full pass of an incremental one if the table's rows were changed by hand, as far as
    /// that can be found out at a low price. Returns the members, if they were read. The relation
    /// `changed` is there.
    fn notice_edits(
        &mut self,
        set: &RelationSet,
        table: &Table,
        (target, sql): ((Uuid, u64), Option<&str>),
        last: &LastContent,
    ) -> Result<Option<Checksum>> {
        if !last.must_read(table) {
            return Ok(None);
        }
        let sql = sql.unwrap_or(&self.refresher.sql);
        let query = delta::parse_single_statement(sql, StatementKind::Select)?;
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
    /// does not return a member twice. None: captured ids cannot be read any more.
    fn read_changed(&mut self, set: &RelationSet, to: Ids<'_>) -> Result<Option<bool>> {
        let Ids { changed, ids } = to;
        let (own, expired) = (Readings::within_current(), Relation::new(EXPIRED));
        let _captured = self.read_captured(set, &own)?;
        let query = self.since_query(set, &expired)?;
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
        self.expired = gone;
        Ok(Some(query.is_plain))
    }

    /// The number of changes that a full pass has found and earlier passes have missed; none: it is
    /// not known.
    fn count_missed(&self, set: &RelationSet, delta: &Delta) -> Result<Option<i64>> {
        let DeltaStats { added, removed, changed, .. } = delta.figures;
        if added + removed + changed == 0 {
            return Ok(Some(0));
        }
        let (own, expired) = (Readings::within_current(), Relation::new(EXPIRED));
        let recent = Relation::new(RECENT);
        let _captured = self.read_captured(set, &own)?;
        let query = self.since_query(set, &expired)?;
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

    /// The positions between which captured changes are read; none: no tables are watched.
    fn positions(&self) -> Option<(&Captured, &Captured)> {
        let before = self.since.as_ref().and_then(|since| since.captured.as_ref());
        before.zip(self.next.captured.as_ref())
    }

    /// Reads the captured changes, if tables are watched: with what the run has read, or else into `own`.
    fn read_captured<'b>(
        &self,
        set: &RelationSet,
        own: &'b Readings,
    ) -> Result<Option<CapturedIds<'b>>>
    where
        'a: 'b,
    {
        let readings = self.readings.unwrap_or(own);
        self.positions().map(|positions| readings.read(set, positions)).transpose()
    }

    /// The query for ids that have changed since the last refresh, and those whose answer the clock
    /// has changed. It reads the captured ids, which are there as long as what [`Self::read_captured`] has
    /// returned, and expired ones, which are put into `expired`.
    fn since_query(&self, set: &RelationSet, expired: &Relation) -> Result<IdQuery> {
        let since = self.since.as_ref();
        let query = if let Some((_, now)) = self.positions() {
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

    /// The query for changed ids, for all times.
    fn all_query(&self, set: &RelationSet) -> Result<IdQuery> {
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
        Ok(query)
    }

    /// Puts all ids into the relation: those of the query, and those of the members.
    fn materialize_all_ids(
        &self,
        set: &RelationSet,
        query: &IdQuery,
        relation: &Relation,
        (table, segments): (&Table, &[Uuid]),
    ) -> Result<()> {
        if self.next.captured.is_none() {
            return query.materialize_all(set, relation, &table.name, segments);
        }
        // Where captured ids are no values of their type any more, ids of members may be none either.
        let all = in_subtransaction(OnSuccess::Commit, || {
            query.materialize_all(set, relation, &table.name, segments)
        });
        all.or_else(|_| {
            relation.clear();
            query.materialize_all_castable(set, relation, &table.name, segments)
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
