//! The incremental refresher: an incremental pass compares only ids that may have changed since the
//! last refresh.
//!
//! The checkpoint is stored in the segment's state, in the transaction of the refresh, so it is valid
//! exactly if the refresh was committed. Without a usable checkpoint, or when a full pass is due, all ids are compared.

use chrono::{DateTime, Utc};
use pgrx::datum::{TimestampWithTimeZone, Uuid};
use pgrx::prelude::*;
use serde::{Deserialize, Serialize};
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
use crate::pg::exec::tuplestore::Relation;
use crate::pg::format::json::JsonbText;
use crate::pg::system_catalog;
use crate::refresh::delta::{self, Delta, DeltaTarget};
use crate::refresh::incremental::capture::{CAPTURED, Captured};

pub mod capture;
pub mod watch;
mod watermark;

const CHANGED: &std::ffi::CStr = c"changed";
const IDS: &std::ffi::CStr = c"segmenter_ids";
const RECENT: &std::ffi::CStr = c"segmenter_recent";
const SINCE: &std::ffi::CStr = c"segmenter_since";

/// How far an incremental refresh got, as stored in the segment's state.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Checkpoint {
    /// The refresher: another one may select other members.
    refresher: Value,
    /// The database cluster and the segment's table: a checkpoint is not valid in a copy elsewhere.
    cluster: u64,
    table: u32,
    /// The role whose rights the queries ran with: another role may see other rows.
    #[serde(default)]
    owner: u32,
    /// The time of the last full pass.
    full_at: DateTime<Utc>,
    /// The number of changes that the last full pass found and the passes before it had missed;
    /// none: unknown.
    #[serde(default)]
    missed: Option<i64>,
    /// The time since which changes may be unseen.
    #[serde(default)]
    watermark: Option<DateTime<Utc>>,
    /// The position in the captured changes: changes that its snapshot does not see are unread.
    #[serde(default)]
    captured: Option<Captured>,
}

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
    /// The checkpoint of the last refresh; none: there is none, or it is not usable.
    since: Option<Checkpoint>,
    /// Why a full pass is made; none: an incremental pass.
    full: Option<FullPassReason>,
    /// The number of members before; none: they must be counted.
    before: Option<u64>,
    next: Checkpoint,
    /// Why there is no new watermark, so that the old one is kept.
    kept: Option<&'static str>,
}

/// What an incremental refresh reports.
pub struct Progress {
    /// The checkpoint to store, with what the doctor reports.
    pub checkpoint: Value,
    /// The details of the pass, for the log.
    pub pass: Value,
    /// A remark for the result; none: nothing is remarkable.
    pub remark: Option<String>,
}

/// Decides between a full and an incremental pass, as the active snapshot sees the segment. `full`
/// requests a full pass.
pub fn plan(
    set: &RelationSet,
    segment: &Segment,
    table: &Table,
    refresher: &Incremental,
    beginning: &WatermarkCandidate,
    full: bool,
) -> Result<Plan> {
    let now = clock::now();
    let (last, before) = last_checkpoint(set, segment.id)?;
    let captured = match &refresher.watch {
        Some(watched) => Some(capture::read_captured(set, segment.owner, watched)?),
        None => None,
    };
    let next = Checkpoint {
        refresher: json!(segment.refresher),
        cluster: activity::cluster(),
        table: table.oid.to_u32(),
        owner: segment.owner.to_u32(),
        full_at: now,
        missed: None,
        watermark: None,
        captured,
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
    let obstacle = match &since {
        None => Some("there is no checkpoint to continue from"),
        Some(since) if refresher.changed.is_some() && since.watermark.is_none() => {
            Some("the last refresh left no watermark")
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

    let mut plan = Plan { refresher: refresher.clone(), since, full, before, next, kept: None };
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

/// The relations and functions that an incremental refresher names. Runs with the rights of the
/// segment's owner, within an SPI connection.
pub fn named_by(set: &RelationSet, refresher: &Incremental) -> Result<Named> {
    let text = match (&refresher.changed, &refresher.watch) {
        (Some(changed), _) => {
            delta::parse_single_statement(changed, StatementKind::Select)?.to_owned()
        }
        (None, watched) => capture::ids_of(set, watched.as_deref().unwrap_or_default())?,
    };
    let args = [TimestampWithTimeZone::negative_infinity().into()];
    let mut named = Prepared::new(&text, &args)?.named();
    // The member query refers to the relation `changed`: an empty one with the right column is
    // enough to analyze it.
    let changed = Relation::new(CHANGED);
    let none = &queries::refresh::incremental::LIST_NO_IDS;
    changed.append(&set.sql(none, &[("query", &text)]), &args)?;
    named.extend(delta::named_by(&refresher.sql)?);
    Ok(named)
}

impl Plan {
    /// Computes the delta. Runs with the rights of the segment's owner, within an SPI connection.
    pub fn delta<'a>(
        &self,
        set: &'a RelationSet,
        table: &'a Table,
        segment: Uuid,
    ) -> Result<(Delta, DeltaTarget<'a>, Progress)> {
        let sql = &self.refresher.sql;
        let changed = Relation::new(CHANGED);
        let (ids, recent) = (Relation::new(IDS), Relation::new(RECENT));
        let mut missed = None;
        let mut looked_at = &changed;
        let (delta, side) = match self.full {
            None => {
                let changed_query = role::read_only(|| {
                    let captured = Relation::new(CAPTURED);
                    let query = self.since_query(set, &captured)?;
                    if query.is_plain {
                        query.materialize(set, &changed)?;
                    } else {
                        // Ids that are equal in their type can differ as text. `segmenter_ids`
                        // keeps them all for the comparison; `changed` has one of each, so that the
                        // member query does not return a member twice.
                        query.materialize(set, &ids)?;
                        changed.append(queries::refresh::incremental::DISTINCT_IDS.text(), &[])?;
                    }
                    Ok(query)
                })?;
                let name = if changed_query.is_plain { "changed" } else { "segmenter_ids" };
                looked_at = if changed_query.is_plain { &changed } else { &ids };
                let before = match self.before {
                    Some(before) => before,
                    None => delta::count_members(set, table, segment)?,
                };
                delta::of_changed(set, table, segment, sql, (name, looked_at.rows()), before)?
            }
            Some(_) => {
                role::read_only(|| self.materialize_all_ids(set, &changed, table, segment))?;
                let found = delta::of_query(set, table, segment, sql, true)?;
                // Ids that changed since the last refresh are no fault of earlier passes. A change
                // of any other id should have been found earlier: it is counted as missed.
                if matches!(self.full, Some(FullPassReason::Requested | FullPassReason::Scheduled))
                {
                    missed = role::read_only(|| {
                        let captured = Relation::new(CAPTURED);
                        self.since_query(set, &captured)?.materialize(set, &recent)?;
                        let sql = &queries::refresh::incremental::COUNT_MISSED;
                        statement::read_one::<i64>(sql.text(), &[])
                    })?;
                }
                found
            }
        };
        Ok((delta, side, self.progress(looked_at.rows(), missed)))
    }

    /// The query for ids that have changed since the last refresh. Captured ids are put into the
    /// relation `captured`, which the query then reads.
    fn since_query(&self, set: &RelationSet, captured: &Relation) -> Result<Changed> {
        let since = self.since.as_ref();
        let before = since.and_then(|since| since.captured.as_ref());
        if let (Some(before), Some(now)) = (before, &self.next.captured) {
            capture::keep_captured(set, before, now, captured)?;
            return Changed::of(
                capture::changed_sql(set, now),
                TimestampWithTimeZone::negative_infinity(),
            );
        }
        let since = since.and_then(|since| since.watermark).map(clock::timestamp);
        self.changed_query(since.unwrap_or(TimestampWithTimeZone::negative_infinity()))
    }

    /// Stores all ids: those of the query for changed ids, since the beginning, and those of the
    /// members.
    fn materialize_all_ids(
        &self,
        set: &RelationSet,
        relation: &Relation,
        table: &Table,
        segment: Uuid,
    ) -> Result<()> {
        let since = TimestampWithTimeZone::negative_infinity();
        let Changed { text, id_type, .. } = match &self.next.captured {
            Some(captured) => Changed::of(capture::all_sql(set, captured), since)?,
            None => self.changed_query(since)?,
        };
        let query = delta::localized(SINCE, text, &[since.into()])?;
        let args = [since.into(), segment.into()];
        let parts = [
            ("query", query.sql.as_str()),
            ("type", id_type.as_str()),
            ("table", table.name.as_str()),
        ];
        relation.append(&set.sql(&queries::refresh::incremental::LIST_ALL_IDS, &parts), &args)
    }

    /// The configured query for changed ids, checked.
    fn changed_query(&self, since: TimestampWithTimeZone) -> Result<Changed> {
        let text = self.refresher.changed.as_deref().unwrap_or_default();
        Changed::of(delta::parse_single_statement(text, StatementKind::Select)?.to_owned(), since)
    }

    fn progress(&self, ids: u64, missed: Option<i64>) -> Progress {
        let mut checkpoint = json!(self.next);
        let mut remarks = Vec::new();
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
        if let Some(table) = self.next.captured.as_ref().and_then(Captured::incomplete) {
            checkpoint["incomplete"] = table.into();
            remarks.push(format!(
                "changes of {table} are not captured: have its owner call segmenter_watch(), or each refresh compares all ids"
            ));
        }
        let mut pass = checkpoint.clone();
        if let Some(pass) = pass.as_object_mut() {
            pass.remove("refresher");
        }
        pass["pass"] = if self.full.is_some() { "full" } else { "changes" }.into();
        pass["ids"] = ids.into();
        if let Some(reason) = self.full {
            pass["reason"] = reason.as_str().into();
        }
        let remark = (!remarks.is_empty()).then(|| remarks.join("; "));
        Progress { checkpoint, pass, remark }
    }
}

/// A query for changed ids. Its `$1` is the time since which changes are requested.
struct Changed {
    text: String,
    since: TimestampWithTimeZone,
    /// The type of the ids, with its collation.
    id_type: String,
    /// Whether ids of that type are equal exactly if their texts are.
    is_plain: bool,
}

impl Changed {
    fn of(text: String, since: TimestampWithTimeZone) -> Result<Self> {
        let query = Prepared::new(&text, &[since.into()])?;
        if !query.is_plain_select() {
            return Err(wrong_changed(
                PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
                "the query of changed ids does more than read",
            ));
        }
        let columns = query.columns();
        let id = columns.iter().find(|column| column.name == "id");
        let id = id.ok_or_else(|| {
            wrong_changed(
                PgSqlErrorCode::ERRCODE_UNDEFINED_COLUMN,
                "the query of changed ids gives no column \"id\"",
            )
        })?;
        let id_type = system_catalog::type_with_collation(id.type_oid, id.collation)?;
        let is_plain = system_catalog::is_plain_key(id.type_oid, id.collation);
        Ok(Self { text, since, id_type, is_plain })
    }

    /// Runs the query and stores each id once.
    fn materialize(&self, set: &RelationSet, relation: &Relation) -> Result<()> {
        let key = match self.is_plain {
            true => "s.id",
            false => "s.id, (s.id)::pg_catalog.text collate pg_catalog.\"C\"",
        };
        let parts = [("query", self.text.as_str()), ("key", key)];
        relation.append(
            &set.sql(&queries::refresh::incremental::LIST_CHANGED_IDS, &parts),
            &[self.since.into()],
        )
    }
}

fn wrong_changed(code: PgSqlErrorCode, problem: &str) -> Error {
    Error::Query {
        code,
        problem: problem.into(),
        detail: None,
        hint: Some(
            "Give one SELECT of the ids that have changed since $1: select customer_id as id from ... where updated_at > $1."
                .into(),
        ),
    }
}

impl Checkpoint {
    /// Whether refresher, table, owner and cluster are the same in the next refresh.
    fn is_continued_by(&self, next: &Self) -> bool {
        (&self.refresher, self.cluster, self.table, self.owner)
            == (&next.refresher, next.cluster, next.table, next.owner)
    }
}

/// The checkpoint of the last successful refresh, and the number of members; none: unknown. A
/// checkpoint that this version cannot read is not used.
fn last_checkpoint(set: &RelationSet, segment: Uuid) -> Result<(Option<Checkpoint>, Option<u64>)> {
    set.as_owner(|| {
        Spi::connect(|client| {
            let sql = set.sql(&queries::catalog::state::FIND_CHECKPOINT, &[]);
            let row = client.select(&sql, Some(1), &[segment.into()])?.first();
            if row.is_empty() {
                return Ok((None, None));
            }
            let checkpoint = row.get_by_name::<JsonbText, _>("checkpoint")?;
            let members = row.get_by_name::<i64, _>("members")?;
            Ok((
                checkpoint.and_then(|json| serde_json::from_str(&json.0).ok()),
                members.map(|count| count as u64),
            ))
        })
    })
}
