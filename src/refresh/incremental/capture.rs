//! Captured changes: which ids of a watched table were written, recorded by triggers in the writer's
//! transaction, and read by every segment that watches the table.
//!
//! A segment keeps the snapshot of its last refresh; what that did not see is still to be read, however
//! late the writer committed. Where the captures are not what they were, all ids are looked at.

use chrono::{DateTime, Utc};
use pgrx::datum::{DatumWithOid, TimestampWithTimeZone};
use pgrx::prelude::*;
use serde::{Deserialize, Serialize};

use crate::catalog::queries;
use crate::catalog::query::Query;
use crate::catalog::relation_set::{Extension, RelationSet};
use crate::catalog::settings;
use crate::config::Watched;
use crate::error::{Error, Result};
use crate::pg::bgw::activity;
use crate::pg::bgw::process;
use crate::pg::clock;
use crate::pg::exec::snapshot;
use crate::pg::exec::statement;
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};
use crate::pg::exec::tuplestore::Relation;
use crate::pg::system_catalog;

/// A table with its partitions and children, in our SQL.
pub(super) const TREE: (&str, &str) =
    ("tree", queries::refresh::incremental::watch::PARTITION_TREE.fragment());

pub const CAPTURED: &std::ffi::CStr = c"segmenter_captured";

/// How far captured changes were read, as the log keeps it; and what there is to read.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Captured {
    /// The snapshot that read them, `pg_snapshot`.
    snapshot: String,
    /// The transaction that took it, where it had an id.
    own: Option<String>,
    at: DateTime<Utc>,
    /// What tells one state of the triggers from another.
    triggers: String,
    /// The watched tables, their partitions and children.
    sources: Vec<u32>,
    #[serde(skip)]
    tables: Vec<Table>,
    /// Those that lack triggers.
    #[serde(skip)]
    missing: Vec<String>,
}

/// A watched table.
#[derive(Debug, Clone)]
struct Table {
    /// Qualified and quoted, as the names below.
    name: String,
    id_column: String,
    id_type: String,
    /// As the triggers name it.
    column: String,
    /// Itself, its partitions and children.
    sources: Vec<pg_sys::Oid>,
}

impl Captured {
    /// A table whose changes are not captured, if there is one.
    pub fn incomplete(&self) -> Option<&str> {
        self.missing.first().map(String::as_str)
    }

    /// Tables with the columns whose changes are captured, once for each.
    fn sources(&self) -> (Vec<i32>, Vec<pg_sys::Oid>, Vec<String>) {
        let mut all = (Vec::new(), Vec::new(), Vec::new());
        for (number, table) in (0..).zip(&self.tables) {
            for source in &table.sources {
                all.0.push(number);
                all.1.push(*source);
                all.2.push(table.column.clone());
            }
        }
        all
    }
}

/// Looks at what a segment watches, and takes the snapshot that is active.
pub fn read_captured(
    set: &RelationSet,
    owner: pg_sys::Oid,
    watched: &[Watched],
) -> Result<Captured> {
    let tables = watched.iter().map(|watched| {
        let asked = set.as_segment_owner(owner, || ask(watched))?;
        states(set, watched, asked)
    });
    let tables = tables.collect::<Result<Vec<(Table, String, Vec<String>)>>>()?;
    let text = |query: &Query| Spi::connect(|_| statement::read_one::<String>(query.text(), &[]));
    let states: Vec<_> = tables.iter().map(|(_, state, _)| state.as_str()).collect();
    Ok(Captured {
        snapshot: text(&queries::refresh::incremental::capture::CURRENT_SNAPSHOT)?
            .unwrap_or_default(),
        own: text(&queries::refresh::incremental::capture::CURRENT_TRANSACTION)?,
        at: clock::now(),
        triggers: states.join(" "),
        sources: tables
            .iter()
            .flat_map(|(table, ..)| &table.sources)
            .map(|oid| oid.to_u32())
            .collect(),
        missing: tables.iter().flat_map(|(.., missing)| missing.clone()).collect(),
        tables: tables.into_iter().map(|(table, ..)| table).collect(),
    })
}

/// A watched table as the segment's owner sees it, who must be able to read all of it.
fn ask(watched: &Watched) -> Result<(pg_sys::Oid, Table)> {
    let sql = &queries::refresh::incremental::watch::DESCRIBE_WATCHED;
    let args = [watched.table.as_str().into(), watched.id.as_str().into()];
    Spi::connect(|client| {
        let row = client.select(sql.text(), Some(1), &args)?.first();
        let name: String = row.get_by_name("name")?.unwrap_or_default();
        let refuse = |code, problem: String, hint: &str| {
            Err(Error::Query { code, problem, detail: None, hint: Some(hint.to_owned()) })
        };
        let Some(id_column) = row.get_by_name::<String, _>("id_column")? else {
            return refuse(
                PgSqlErrorCode::ERRCODE_UNDEFINED_COLUMN,
                format!("watched table {name} has no column \"{}\"", watched.id),
                "Name the column that holds ids: {\"table\": …, \"id\": …}.",
            );
        };
        if !row.get_by_name::<bool, _>("is_readable")?.unwrap_or_default() {
            return refuse(
                PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
                format!("permission denied for watched table {name}"),
                "Grant the segment's owner SELECT on the column of ids.",
            );
        }
        if row.get_by_name::<bool, _>("is_filtered")?.unwrap_or_default() {
            return refuse(
                PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
                format!("row-level security hides rows of watched table {name}"),
                "Captured changes are those of all rows. Use \"changed\" with a query of what the owner may see.",
            );
        }
        let oid = row.get_by_name("oid")?.unwrap_or(pg_sys::InvalidOid);
        let id_type = system_catalog::type_with_collation(
            row.get_by_name("type")?.unwrap_or(pg_sys::InvalidOid),
            row.get_by_name("collation")?.unwrap_or(pg_sys::InvalidOid),
        )?;
        let column = watched.id.clone();
        Ok((oid, Table { name, id_column, id_type, column, sources: Vec::new() }))
    })
}

/// The captures of a watched table: its partitions, the state of the triggers, who lacks some.
fn states(
    set: &RelationSet,
    watched: &Watched,
    (oid, table): (pg_sys::Oid, Table),
) -> Result<(Table, String, Vec<String>)> {
    let args = [oid.into(), watched.id.as_str().into(), set.changes().into()];
    // As of the snapshot that is kept: what was altered after it is for the next refresh to find.
    let json = set.extension.as_owner(|| {
        Spi::connect(|_| {
            statement::read_one::<pgrx::JsonB>(
                &set.sql(&queries::refresh::incremental::capture::DESCRIBE_TRIGGERS, &[TREE]),
                &args,
            )
        })
    })?;
    let json = json.map_or(serde_json::Value::Null, |json| json.0);
    let not_watched =
        || Error::NotWatched { table: table.name.clone(), column: watched.id.clone() };
    let state = State::deserialize(json).map_err(|_| not_watched())?;
    if !state.is_watched {
        return Err(not_watched());
    }
    let sources = state.sources.into_iter().map(pg_sys::Oid::from).collect();
    Ok((Table { sources, ..table }, state.state, state.missing))
}

/// What captures.sql gives.
#[derive(Deserialize)]
struct State {
    sources: Vec<u32>,
    state: String,
    is_watched: bool,
    missing: Vec<String>,
}

/// Why what has changed between two looks cannot be told.
pub fn full_pass_reason(
    set: &RelationSet,
    before: &Captured,
    now: &Captured,
) -> Result<Option<&'static str>> {
    if !now.missing.is_empty() {
        return Ok(Some("not all changes are captured"));
    }
    if retained_since().is_some_and(|since| before.at <= since) {
        return Ok(Some("captured changes are not kept so long"));
    }
    let (_, sources, columns) = now.sources();
    let args = [
        sources.into(),
        columns.into(),
        before.snapshot.as_str().into(),
        before.own.as_deref().into(),
    ];
    let all = set.extension.as_owner(|| {
        Spi::connect(|_| {
            statement::read_one::<i32>(
                &set.sql(&queries::refresh::incremental::capture::CONCERNS_ALL_IDS, &[]),
                &args,
            )
        })
    })?;
    Ok(match all {
        Some(1) => Some("a watched table was truncated, or its ids could not be read"),
        Some(_) => Some("captured changes were pruned before they were read"),
        None => (before.triggers != now.triggers)
            .then_some("the watched tables or their captures are not the same any more"),
    })
}

/// Since when captured changes are kept for segments that have not read them.
fn retained_since() -> Option<DateTime<Utc>> {
    clock::now().checked_sub_signed(settings::capture_retention()?)
}

/// Keeps what was captured between two looks for [`changed_sql`]. Runs within an SPI connection.
pub fn keep_captured(
    set: &RelationSet,
    before: &Captured,
    now: &Captured,
    captured: &Relation,
) -> Result<()> {
    let (numbers, sources, columns) = now.sources();
    let args: [DatumWithOid<'_>; 5] = [
        numbers.into(),
        sources.into(),
        columns.into(),
        before.snapshot.as_str().into(),
        before.own.as_deref().into(),
    ];
    set.extension.as_owner(|| {
        captured
            .append(&set.sql(&queries::refresh::incremental::capture::LIST_UNREAD_IDS, &[]), &args)
    })
}

/// A query for the ids in the relation [`CAPTURED`], in the types of their columns, with the rights of the
/// segment's owner: a domain may call anything.
pub fn changed_sql(set: &RelationSet, now: &Captured) -> String {
    let ids = (0..).zip(&now.tables).map(|(number, table): (i32, _)| {
        let parts = [("number", number.to_string()), ("type", table.id_type.clone())];
        let parts = parts.each_ref().map(|(word, part)| (*word, part.as_str()));
        set.sql(&queries::refresh::incremental::capture::CAST_IDS, &parts)
    });
    ids.collect::<Vec<_>>().join("union all\n")
}

/// A query for all ids of watched tables.
pub fn all_sql(set: &RelationSet, now: &Captured) -> String {
    ids_sql(set, &now.tables)
}

/// The same before there is anything to go by. Runs with the owner's rights.
pub fn ids_of(set: &RelationSet, watched: &[Watched]) -> Result<String> {
    let tables = watched.iter().map(|watched| Ok(ask(watched)?.1));
    Ok(ids_sql(set, &tables.collect::<Result<Vec<_>>>()?))
}

fn ids_sql(set: &RelationSet, tables: &[Table]) -> String {
    let ids = tables.iter().map(|table| {
        let parts = [("column", table.id_column.as_str()), ("table", table.name.as_str())];
        set.sql(&queries::refresh::incremental::watch::LIST_IDS, &parts)
    });
    ids.collect::<Vec<_>>().join("union all\n")
}

/// So many captured changes are deleted at once.
const PRUNED_AT_ONCE: i64 = 10_000;

/// Deletes captured changes that all segments, of every set, have read. Says whether there may be more of
/// them.
pub fn prune(extension: &Extension) -> Result<bool> {
    // With a snapshot that is kept, what others have deleted meanwhile would be an error.
    if process::is_in_recovery() || snapshot::is_kept() {
        return Ok(false);
    }
    let since = retained_since().map(clock::timestamp);
    let since = since.unwrap_or(TimestampWithTimeZone::negative_infinity());
    let mut read = Vec::new();
    for mart in extension.sets()? {
        // A set that cannot be asked does without them: its segments will look at all ids.
        let asked = in_subtransaction(OnSuccess::Rollback, || {
            readers(&RelationSet::of_mart(extension.clone(), mart)?, since)
        });
        read.extend(asked.unwrap_or_default());
    }
    let read = serde_json::to_value(read).unwrap_or_default();
    let args =
        [snapshot::horizon().to_string().into(), pgrx::JsonB(read).into(), PRUNED_AT_ONCE.into()];
    let old: Option<Vec<String>> =
        extension.read(&queries::refresh::incremental::capture::FIND_READ_CHANGES, &args)?;
    let Some(old) = old.filter(|old| !old.is_empty()) else { return Ok(false) };
    let more = old.len() as i64 == PRUNED_AT_ONCE;
    extension.as_owner(|| {
        Spi::run_with_args(
            &extension.sql(&queries::refresh::incremental::capture::DELETE_CHANGES, &[]),
            &[old.into()],
        )
    })?;
    Ok(more)
}

/// How far a segment has read the captured changes of its sources.
#[derive(Serialize, Deserialize)]
struct ReadPosition {
    sources: Vec<u32>,
    through: u64,
}

/// The segments of a set that are still to read captured changes.
fn readers(set: &RelationSet, since: TimestampWithTimeZone) -> Result<Vec<ReadPosition>> {
    let args = [since.into(), activity::cluster().to_string().into()];
    let json: Option<pgrx::JsonB> = set.as_owner(|| {
        Spi::connect(|_| {
            statement::read_one(
                &set.sql(&queries::refresh::incremental::capture::LIST_READERS, &[]),
                &args,
            )
        })
    })?;
    let malformed = |_| Error::Spi(pgrx::spi::Error::InvalidPosition);
    json.map_or(Ok(Vec::new()), |json| serde_json::from_value(json.0).map_err(malformed))
}
