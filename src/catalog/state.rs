//! The state of segments: what their next refresh depends on. It is written in the transaction of the
//! refresh, so it is true exactly if the refresh was committed.
//!
//! The state of a segment is written by sessions that hold the segment's lock until they commit. An
//! attempt that failed has released the lock with its work; it is recorded in a row of its own,
//! which counts until the next successful refresh. Neither waits for a row of another session.

use std::time::Duration;

use pgrx::JsonB;
use pgrx::datum::{DatumWithOid, Timestamp, TimestampWithTimeZone, Uuid};
use pgrx::prelude::*;
use serde_json::{Value, json};

use crate::catalog::change_readers;
use crate::catalog::log::LogStatus;
use crate::catalog::queries;
use crate::catalog::query::Query;
use crate::catalog::relation_set::RelationSet;
use crate::error::{Error, Result};
use crate::pg::bgw::job_table;
use crate::pg::bgw::process;
use crate::pg::clock::{self, Instant};
use crate::pg::exec::lock;
use crate::pg::exec::snapshot;
use crate::pg::exec::statement;
use crate::pg::exec::subtransaction::unless_superseded;
use crate::pg::system_catalog;
use segmenter_core::content::Content;
use segmenter_core::guards::DeltaStats;
use segmenter_core::text::cut;

/// What is known of the last refresh of a segment.
pub struct SegmentState {
    run_id: Option<Uuid>,
    is_running: bool,
    status: Option<String>,
    ended_at: Option<TimestampWithTimeZone>,
}

impl SegmentState {
    /// None: the segment was never refreshed.
    pub fn find(set: &RelationSet, segment: Uuid) -> Result<Option<Self>> {
        set.as_owner(|| {
            Spi::connect(|client| {
                let statement = set.kept(&queries::catalog::state::FIND_STATE);
                let row = client.select(statement, Some(1), &[segment.into()])?.first();
                if row.is_empty() {
                    return Ok(None);
                }
                Ok(Some(Self {
                    run_id: row.get_by_name("run_id")?,
                    is_running: row.get_by_name("is_running")?.unwrap_or_default(),
                    status: row.get_by_name("status")?,
                    ended_at: row.get_by_name("ended_at")?,
                }))
            })
        })
    }

    /// Whether the segment is waiting for its sources, and no refresh is running.
    pub fn is_waiting(&self) -> bool {
        !self.is_running && self.status.as_deref() == Some(LogStatus::Waiting.as_str())
    }
}

/// What is recorded of a run that lost its worker at a time.
pub enum LostRun {
    /// Nothing.
    Unknown,
    /// That it goes on.
    Running,
    /// How it ended.
    Ended,
    /// Nothing; another run has ended after that time, which counts more.
    Superseded,
}

/// Finds what is recorded of a run of a segment that lost its worker at `lost_at`.
pub fn find_lost_run(
    set: &RelationSet,
    segment: Uuid,
    run: Uuid,
    lost_at: Instant,
) -> Result<LostRun> {
    let Some(state) = SegmentState::find(set, segment)? else { return Ok(LostRun::Unknown) };
    let is_last = state.run_id == Some(run);
    let has_later_end = || state.ended_at.is_some_and(|at| clock::instant(at) > lost_at);
    Ok(match (is_last, state.is_running, &state.status) {
        (true, true, _) => LostRun::Running,
        (true, false, Some(_)) => LostRun::Ended,
        _ if has_later_end() => LostRun::Superseded,
        // It ended before its worker was lost, and another one has ended since.
        _ if has_end(set, segment, run)? => LostRun::Ended,
        _ => LostRun::Unknown,
    })
}

/// Whether the log has the end of a run of a segment.
fn has_end(set: &RelationSet, segment: Uuid, run: Uuid) -> Result<bool> {
    set.as_owner(|| {
        let sql = set.sql(&queries::catalog::state::HAS_END, &[]);
        Spi::connect(|_| {
            Ok(statement::read_one::<bool>(&sql, &[segment.into(), run.into()])? == Some(true))
        })
    })
}

/// Logs the end of a run that a later one has superseded, if the log has its begin and not its end, and
/// records that it runs no more. An error: another session may be writing that end.
pub fn log_lost(set: &RelationSet, segment: Uuid, run: Uuid) -> Result<()> {
    if !may_record(set, segment) {
        return Err(Error::OpenAttempt(segment));
    }
    set.write(&queries::catalog::state::LOG_LOST, &[segment.into(), run.into()])
}

/// What is recorded of a successful refresh.
pub struct Success<'a> {
    pub figures: DeltaStats,
    /// The local time of the change.
    pub at: Timestamp,
    /// The sources whose load times lie in the future.
    pub ahead: &'a [String],
    /// The checkpoint of an incremental refresh.
    pub checkpoint: Option<Value>,
    /// What the table holds now.
    pub content: Option<&'a Content>,
    /// The segments whose members it leaves out, as it has seen them.
    pub lists: Option<&'a JsonB>,
    /// Rows of the table were changed by hand before: members came or went that no figure counts.
    pub is_edited: bool,
    /// The version of the segment's definition.
    pub definition: Option<i32>,
    /// The hash of the refresher; none: a one-off query.
    pub ran_with: Option<&'a str>,
}

/// A refresh of a segment by a run, from its begin to its end.
#[derive(Clone, Copy)]
pub struct Attempt {
    pub segment: Uuid,
    pub run: Uuid,
    pub began: Instant,
    pub elapsed: Duration,
}

impl Attempt {
    fn ended(&self) -> Instant {
        self.began + chrono::TimeDelta::from_std(self.elapsed).unwrap_or_default()
    }

    fn args<'a>(&self) -> Vec<DatumWithOid<'a>> {
        let (began, ended) = (clock::timestamp(self.began), clock::timestamp(self.ended()));
        vec![self.segment.into(), self.run.into(), began.into(), ended.into()]
    }

    /// Records a successful refresh.
    pub fn succeed(&self, set: &RelationSet, success: Success<'_>) -> Result<()> {
        self.close_lost_run(set)?;
        let Success {
            figures,
            at,
            ahead,
            checkpoint,
            content,
            lists,
            is_edited,
            definition,
            ran_with,
        } = success;
        let count = |figure: u64| figure as i64;
        let mut args = self.args();
        args.extend([
            count(figures.coverage()).into(),
            count(figures.added).into(),
            count(figures.removed).into(),
            count(figures.changed).into(),
            at.into(),
        ]);
        if let Some(checkpoint) = &checkpoint {
            change_readers::record(set, self.segment, checkpoint)?;
        }
        let ahead = (!ahead.is_empty()).then(|| ahead.to_vec());
        args.extend([checkpoint.map(JsonB).into(), set.timezone().to_owned().into(), ahead.into()]);
        args.push(content.map(|content| JsonB(json!(content))).into());
        args.extend([count(figures.excluded).into(), is_edited.into()]);
        args.push(lists.map(|lists| JsonB(lists.0.clone())).into());
        args.push(definition.into());
        args.extend([ran_with.into(), count(figures.received).into()]);
        set.write(&queries::catalog::state::RECORD_SUCCESS, &args)
    }

    /// Closes what is left of a run that has lost its worker: the success outlives its attempt. Where
    /// the snapshot is kept this is left to another session: one that has ended since may have done it.
    fn close_lost_run(&self, set: &RelationSet) -> Result<()> {
        if snapshot::is_kept() {
            return Ok(());
        }
        interrupt(set, || alive(self.run), Some(self.segment)).map(drop)
    }

    /// Records an attempt that ended as `status`, failed or refused, with a version of the definition.
    pub fn fail(
        &self,
        set: &RelationSet,
        (status, message): (LogStatus, Option<&str>),
        definition: Option<i32>,
    ) -> Result<()> {
        let mut args = self.args();
        let message = message.map(cut);
        args.extend([status.as_str().into(), message.as_deref().into(), definition.into()]);
        let query = &queries::catalog::state::RECORD_FAILURE;
        record_attempt(set, (self.segment, self.run), query, &args).map(drop)
    }

    /// Records that the segment waits for its sources.
    pub fn wait(&self, set: &RelationSet, message: Option<&str>) -> Result<()> {
        let began = clock::timestamp(self.began);
        let message = message.map(cut);
        let message = message.as_deref().into();
        let args = [self.segment.into(), self.run.into(), began.into(), message];
        let query = &queries::catalog::state::RECORD_WAITING;
        record_attempt(set, (self.segment, self.run), query, &args).map(drop)
    }
}

/// Records an attempt, after the end of a run before it that has lost its worker: there is room for one.
/// Returns false if it is left to another session, which has recorded an attempt and not ended its
/// transaction yet: no session waits for another.
fn record_attempt(
    set: &RelationSet,
    attempt: (Uuid, Uuid),
    query: &Query,
    args: &[DatumWithOid<'_>],
) -> Result<bool> {
    record_attempt_by(set, attempt, || set.write(query, args))
}

/// The same by a step that writes the record.
fn record_attempt_by(
    set: &RelationSet,
    (segment, run): (Uuid, Uuid),
    write: impl FnOnce() -> Result<()>,
) -> Result<bool> {
    if !may_record(set, segment) {
        return Ok(false);
    }
    if !snapshot::is_kept() {
        interrupt(set, || alive(run), Some(segment))?;
        return write().map(|()| true);
    }
    // In a snapshot that is kept, a run can seem to go on that has ended since.
    if running(set, Some(segment))?.iter().any(|(_, other)| *other != run) {
        return Ok(false);
    }
    unless_superseded(write)
}

/// Whether this session may record an attempt: no other one has done so in an open transaction.
fn may_record(set: &RelationSet, segment: Uuid) -> bool {
    // Two segments with the same key only leave a record to each other.
    let words = segment.as_bytes().chunks_exact(4);
    let low =
        words.fold(0, |key, word| key ^ u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
    lock::try_lock_attempt(lock::Key { high: set.mart().to_u32(), low })
}

/// Takes the locks that [`count_outcome`] needs, for the rest of the transaction: a run that finds no memory for
/// more locks must be able to record that.
pub fn hold_counts(set: &RelationSet) -> Result<()> {
    set.as_owner(|| {
        let sql = set.sql(&queries::catalog::state::HOLD_COUNTS, &[]);
        Spi::connect(|_| statement::read_one::<bool>(&sql, &[])).map(drop)
    })
}

/// Counts a refresh that did not succeed, together with its entry of the log. It is a row of its own, so that
/// no session waits for another one.
pub fn count_outcome(set: &RelationSet, segment: Uuid, status: LogStatus) -> Result<()> {
    let args = [segment.into(), status.as_str().into()];
    set.write(&queries::catalog::state::COUNT_OUTCOME, &args)
}

/// The number of a segment's counts that are left alone.
const COUNTS_KEPT: i64 = 20;
/// The number of counts that one call adds up at most; the next call adds up the rest.
const ADDED_UP_AT_ONCE: i64 = 10_000;

/// Adds up what [`count_outcome`] has counted, where a segment has many counts.
pub fn add_up_counts(set: &RelationSet) -> Result<()> {
    if process::is_in_recovery() {
        return Ok(());
    }
    set.as_owner(|| {
        // The search runs read-only: no transaction id is assigned where there is nothing to add up.
        let find = set.sql(&queries::catalog::state::FIND_MANY_COUNTS, &[]);
        let many =
            Spi::connect(|_| statement::read_one::<Vec<Uuid>>(&find, &[COUNTS_KEPT.into()]))?;
        let Some(many) = many else { return Ok(()) };
        unless_superseded(|| {
            let sql = set.sql(&queries::catalog::state::ADD_UP_COUNTS, &[]);
            Ok(Spi::run_with_args(&sql, &[many.into(), ADDED_UP_AT_ONCE.into()])?)
        })
        .map(drop)
    })
}

/// Records that a run begins to refresh a segment. The refresh follows in another transaction. Returns
/// false if nothing is recorded, see [`record_attempt`].
pub fn begin(set: &RelationSet, segment: Uuid, run: Uuid, began: Instant) -> Result<bool> {
    let args = [segment.into(), run.into(), clock::timestamp(began).into()];
    let mut is_recorded = false;
    let recorded = record_attempt_by(set, (segment, run), || {
        is_recorded = set.as_owner(|| {
            Spi::connect_mut(|client| {
                let statement = set.kept(&queries::catalog::state::BEGIN_RUN);
                let row = client.update(statement, Some(1), &args)?.first();
                Ok::<_, Error>(row.get_one::<bool>()?.unwrap_or_default())
            })
        })?;
        Ok(())
    })?;
    Ok(recorded && is_recorded)
}

/// What a segment reads, to be recorded.
pub struct ReadsRecord {
    /// The relations that decide the order of refreshes.
    pub relations: Vec<pg_sys::Oid>,
    /// Each relation or function, with what names it; none: the segment itself does.
    pub lineage: Vec<(ObjectRef, Option<ObjectRef>)>,
    /// The tables of segments that are read under the segments' names.
    pub segments: Vec<(pg_sys::Oid, Option<ObjectRef>, String)>,
}

/// A relation, or a function where the flag is set.
pub type ObjectRef = (pg_sys::Oid, bool);

impl ReadsRecord {
    /// The names of the relations.
    fn names(&self) -> Vec<String> {
        let names = self.relations.iter().copied().filter_map(system_catalog::qualified_name);
        let mut names: Vec<_> = names.collect();
        names.sort_unstable();
        names
    }

    /// The value of the column `lineage`.
    fn lineage(&self) -> Value {
        let name = |(oid, is_function): ObjectRef| match is_function {
            true => system_catalog::function_name(oid),
            false => system_catalog::qualified_name(oid),
        };
        let kind = |(oid, is_function): ObjectRef| match is_function {
            true => "function",
            false if system_catalog::is_view(oid) => "view",
            false => "table",
        };
        let edges = self.lineage.iter().filter_map(|(object, via)| {
            Some((name(*object)?, via.and_then(name), kind(*object), None))
        });
        let segments = self.segments.iter().filter_map(|(table, via, segment)| {
            let table = (*table, false);
            Some((name(table)?, via.and_then(name), kind(table), Some(segment)))
        });
        let mut edges: Vec<_> = edges.chain(segments).collect();
        edges.sort_unstable();
        let edges = edges.into_iter().map(|(reads, via, kind, segment)| match segment {
            None => json!({"reads": reads, "kind": kind, "via": via}),
            Some(segment) => {
                json!({"reads": reads, "kind": kind, "via": via, "segment": segment})
            }
        });
        edges.collect()
    }
}

/// Records what a segment reads, unless it is recorded. Returns whether it was not known that tables of
/// other segments are among it.
pub fn record_reads(set: &RelationSet, segment: Uuid, reads: &ReadsRecord) -> Result<bool> {
    let (names, lineage, recorded) = set.as_owner(|| {
        // Names depend on the settings of our own statements, not on those of the session.
        let (names, lineage) = (reads.names(), reads.lineage());
        let recorded = Spi::connect(|client| {
            let statement = set.kept(&queries::catalog::state::GET_READS);
            let row = client.select(statement, Some(1), &[segment.into()])?.first();
            if row.is_empty() {
                return Ok(None);
            }
            let lineage: Option<String> = row.get_by_name("lineage")?;
            let lineage = lineage.and_then(|lineage| serde_json::from_str::<Value>(&lineage).ok());
            Ok::<_, Error>(row.get_by_name::<Vec<String>, _>("reads")?.zip(lineage))
        })?;
        Ok::<_, Error>((names, lineage, recorded))
    })?;
    let is_recorded = recorded.is_some_and(|(reads, edges)| reads == names && edges == lineage);
    if is_recorded || !may_record(set, segment) {
        return Ok(false);
    }
    let args = [
        segment.into(),
        names.into(),
        JsonB(lineage).into(),
        reads.relations.clone().into(),
        set.mart().into(),
    ];
    let mut must_order = false;
    let record = || {
        must_order = set.as_owner(|| {
            Spi::connect_mut(|client| {
                let statement = set.kept(&queries::catalog::state::RECORD_READS);
                let row = client.update(statement, Some(1), &args)?.first();
                Ok::<_, Error>(row.get_one::<bool>()?.unwrap_or_default())
            })
        })?;
        Ok(())
    };
    unless_superseded(record)?;
    Ok(must_order)
}

/// Takes back that a run refreshes a segment, which another session has locked, or deleted, since.
pub fn abandon(set: &RelationSet, segment: Uuid, run: Uuid) -> Result<()> {
    let args = [segment.into(), run.into()];
    record_attempt(set, (segment, run), &queries::catalog::state::ABANDON_RUN, &args).map(drop)
}

/// Counts a hand-over without a refresh.
pub fn count_handover(set: &RelationSet, segment: Uuid) -> Result<()> {
    count_change(set, segment, 0, None)
}

/// Counts an erasure that has deleted members. `content`: what the segment's table holds after it.
pub fn count_erasure(
    set: &RelationSet,
    segment: Uuid,
    members: u64,
    content: Option<&Content>,
) -> Result<()> {
    count_change(set, segment, members, content)
}

fn count_change(
    set: &RelationSet,
    segment: Uuid,
    members: u64,
    content: Option<&Content>,
) -> Result<()> {
    let content = content.map(|content| JsonB(json!(content)));
    let args = [segment.into(), (members as i64).into(), content.into()];
    set.write(&queries::catalog::state::COUNT_CHANGE, &args)
}

/// The refreshes that lost their workers.
pub struct Interrupted {
    /// The segments whose refresh was logged as interrupted.
    pub names: Vec<String>,
    /// Whether one is still recorded as running, because another session is recording an attempt.
    pub is_incomplete: bool,
}

/// Records every running refresh as interrupted, in the log and as an attempt. Refreshes of the runs that
/// `alive` gives are left out; where `segment` is given, only its refresh is considered. Each end has one
/// owner: the session that may record an attempt, in a transaction whose statements see what was
/// committed before. `alive` is asked after the search, so that it knows every run that is found there.
pub fn interrupt(
    set: &RelationSet,
    alive: impl FnOnce() -> Vec<Uuid>,
    segment: Option<Uuid>,
) -> Result<Interrupted> {
    debug_assert!(!snapshot::is_kept(), "an end is written by what was committed before");
    let mut lost = running(set, segment)?;
    if !lost.is_empty() {
        let alive = alive();
        lost.retain(|(_, run)| !alive.contains(run));
    }
    if lost.is_empty() {
        return Ok(Interrupted { names: Vec::new(), is_incomplete: false });
    }
    let found = lost.len();
    lost.retain(|(segment, _)| may_record(set, *segment));
    let is_incomplete = lost.len() < found;
    let (segments, runs): (Vec<Uuid>, Vec<Uuid>) = lost.into_iter().unzip();
    let interrupted = set.as_owner(|| {
        Spi::connect_mut(|client| {
            let sql = set.sql(&queries::catalog::state::RECORD_INTERRUPTED, &[]);
            let rows = client.update(&sql, None, &[segments.into(), runs.into()])?;
            let names = rows.map(|row| Ok(row.get::<String>(1)?.unwrap_or_default()));
            let names = names.collect::<Result<_>>()?;
            Ok::<_, Error>(Interrupted { names, is_incomplete })
        })
    })?;
    // What was kept of a segment that was deleted meanwhile.
    delete_orphaned(set, segment)?;
    Ok(interrupted)
}

/// The segments whose refresh is recorded as running, each with the run. Where `segment` is given, only
/// this one is considered.
fn running(set: &RelationSet, segment: Option<Uuid>) -> Result<Vec<(Uuid, Uuid)>> {
    // The search runs read-only: no transaction id is assigned where nothing is running.
    set.as_owner(|| {
        Spi::connect(|client| {
            let rows = match segment {
                None => {
                    let sql = set.sql(&queries::catalog::state::FIND_RUNNING, &[]);
                    client.select(&sql, None, &[])?
                }
                Some(segment) => {
                    let statement = set.kept(&queries::catalog::state::FIND_RUN);
                    client.select(statement, Some(1), &[segment.into()])?
                }
            };
            let pair = |row: pgrx::spi::SpiHeapTupleData<'_>| {
                Ok(row.get::<Uuid>(1)?.zip(row.get::<Uuid>(2)?))
            };
            rows.filter_map(|row| pair(row).transpose()).collect()
        })
    })
}

/// The runs that have a worker, and this one.
fn alive(run: Uuid) -> Vec<Uuid> {
    let jobs = match job_table::is_initialized() {
        true => job_table::jobs(process::current_database().0),
        false => Vec::new(),
    };
    jobs.iter().map(|job| job.spec.run).chain([run]).collect()
}

/// Deletes the states, counts and attempts of segments that no longer exist: of one segment, or of all.
pub fn delete_orphaned(set: &RelationSet, segment: Option<Uuid>) -> Result<()> {
    change_readers::forget(set, segment)?;
    // Not kept: one segment and all of them take plans of their own.
    set.as_owner(|| {
        let sql = set.sql(&queries::catalog::state::DELETE_STATES, &[]);
        Ok(Spi::run_with_args(&sql, &[segment.into()])?)
    })
}
