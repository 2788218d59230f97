//! Captured changes: the ids of a watched table that were written. Triggers record them in the
//! writer's transaction, and every segment that watches the table reads them.
//!
//! A segment stores the snapshot of its last refresh. Changes that this snapshot does not see are
//! still unread, however late their transactions committed. If tables or triggers have changed
//! since, a full pass is made.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use pgrx::datum::{DatumWithOid, TimestampWithTimeZone};
use pgrx::prelude::*;
use serde::{Deserialize, Serialize};

use crate::catalog::extension::Extension;
use crate::catalog::queries;
use crate::catalog::query::Query;
use crate::catalog::relation_set::RelationSet;
use crate::catalog::settings;
use crate::config::Watched;
use crate::error::{Error, Result};
use crate::pg::bgw::activity;
use crate::pg::bgw::process;
use crate::pg::clock;
use crate::pg::exec::kept::Kept;
use crate::pg::exec::snapshot;
use crate::pg::exec::statement;
use crate::pg::exec::subtransaction::unless_superseded;
use crate::pg::exec::tuplestore::Relation;
use crate::pg::format::json::JsonbText;
use crate::pg::system_catalog;

/// The part of our SQL that lists a table with its partitions and children.
pub(super) const TREE: (&str, &str) =
    ("tree", queries::refresh::incremental::watch::PARTITION_TREE.fragment());

/// The part that lists the tables above them.
pub(super) const ABOVE: (&str, &str) =
    ("above", queries::refresh::incremental::watch::ANCESTORS.fragment());

pub const CAPTURED: &std::ffi::CStr = c"segmenter_captured";

/// Changes that its snapshot sees are read, and so are those of its own transaction.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Position {
    /// The snapshot, a `pg_snapshot`, in which changes were read.
    pub snapshot: String,
    /// The transaction that took the snapshot, if it had an id.
    pub own: Option<String>,
}

/// A position in the captured changes, as the log stores it, and the watched tables it refers to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Captured {
    #[serde(flatten)]
    position: Position,
    at: DateTime<Utc>,
    /// A text that changes whenever the triggers or the tables change.
    triggers: String,
    /// A text that changes whenever the tables above them do, and what fills them; none: a position of
    /// version 1.0.0.
    #[serde(default)]
    parents: Option<String>,
    /// The OIDs of the watched tables, their partitions and children, and those above them.
    sources: Vec<u32>,
    /// The watched tables by the names in the configuration, with their OIDs.
    #[serde(default)]
    watched: BTreeMap<String, u32>,
    /// Those of them that have replaced a table whose changes were captured, and lack triggers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    lost: Vec<u32>,
    #[serde(skip)]
    tables: Vec<Table>,
    /// The relations whose changes can be missed.
    #[serde(skip)]
    missing: Vec<Missing>,
}

/// A relation whose changes can be missed.
#[derive(Debug, Clone, Deserialize)]
pub struct Missing {
    /// Its name, qualified and quoted.
    pub table: String,
    pub why: Why,
}

/// Why changes of a relation can be missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Why {
    /// It lacks triggers.
    Trigger,
    /// It is above a watched table, and lacks triggers.
    Parent,
    Unlogged,
    Replicated,
    /// The column is virtual.
    Virtual,
}

impl Why {
    /// What is the case, and what to do, for a relation and a column.
    pub fn explain(self, table: &str) -> (String, String) {
        let name = pgrx::spi::quote_literal(table);
        match self {
            Why::Trigger => (
                format!("changes of {table} are not captured"),
                format!(
                    "Have the table's owner call segmenter_watch({name}), with the column of ids if it is another than \"id\". A tool that replaces the table has to do so each time, as a post_hook of dbt."
                ),
            ),
            Why::Parent => (
                format!("changes that are written through {table} are not captured"),
                format!(
                    "Have the owner of the parent call segmenter_watch({name}), with the column of ids if it is another than \"id\"."
                ),
            ),
            Why::Unlogged => (
                format!("changes of {table} are not captured reliably, since it is unlogged"),
                format!("A crash empties it without a trigger: alter table {table} set logged."),
            ),
            Why::Replicated => (
                format!("changes of {table} are not captured, since a subscription fills it"),
                "Logical replication fires no triggers of statements. Give the segment a query of \"changed\" ids.".into(),
            ),
            Why::Virtual => (
                format!("changes of {table} are not captured, since the column of ids is virtual"),
                "Make the column STORED, or watch a column that it is made of.".into(),
            ),
        }
    }
}

/// A watched table.
#[derive(Debug, Clone)]
struct Table {
    oid: pg_sys::Oid,
    /// The name, qualified and quoted, as are the column and the type below.
    name: String,
    id_column: String,
    id_type: String,
    /// The column's name without quotes, as in the triggers' argument.
    column: String,
    /// The OIDs of the table, its partitions and children.
    sources: Vec<pg_sys::Oid>,
}

/// Parallel arrays with an element for each watched table, partition and child: the number of
/// the watched table, the OID, and the column.
pub(super) type Sources = (Vec<i32>, Vec<pg_sys::Oid>, Vec<String>);

impl Captured {
    /// A table whose changes are not all captured; none: all are.
    pub fn incomplete(&self) -> Option<&Missing> {
        self.missing.first()
    }

    /// The watched tables.
    pub fn tables(&self) -> impl Iterator<Item = u32> {
        self.watched.values().copied()
    }

    /// The columns of ids of the watched tables, by their numbers.
    pub fn columns(&self) -> Vec<(pg_sys::Oid, i16)> {
        let number = |table: &Table| system_catalog::column_number(table.oid, &table.column);
        self.tables.iter().filter_map(|table| Some((table.oid, number(table)?))).collect()
    }

    /// Whether a table has come under the name of one whose changes were captured, and lacks triggers
    /// since then.
    fn has_lost(&self, name: &str, table: u32) -> bool {
        let is_other = match self.watched.get(name) {
            Some(before) => *before != table,
            // A position of version 1.0.0 has no names.
            None => self.watched.is_empty() && !self.sources.contains(&table),
        };
        is_other || self.lost.contains(&table)
    }

    pub(super) fn position(&self) -> &Position {
        &self.position
    }

    /// What is watched.
    pub(super) fn sources(&self) -> Sources {
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

/// Describes the tables that a segment watches, and takes the active snapshot as the new position.
/// `before` is the position of the last refresh.
pub fn read_captured(
    set: &RelationSet,
    owner: pg_sys::Oid,
    watched: &[Watched],
    before: Option<&Captured>,
) -> Result<Captured> {
    let text = |query: &Query| {
        Spi::connect(|client| {
            Ok::<_, Error>(client.select(query.kept(), Some(1), &[])?.first().get_one::<String>()?)
        })
    };
    let mut captured = Captured {
        position: Position {
            snapshot: text(&queries::refresh::incremental::capture::CURRENT_SNAPSHOT)?
                .unwrap_or_default(),
            own: text(&queries::refresh::incremental::capture::CURRENT_TRANSACTION)?,
        },
        at: clock::now(),
        triggers: String::new(),
        parents: None,
        sources: Vec::new(),
        watched: BTreeMap::new(),
        lost: Vec::new(),
        tables: Vec::new(),
        missing: Vec::new(),
    };
    let (mut states, mut parents) = (Vec::new(), Vec::new());
    for watched in watched {
        let table = set.as_segment_owner(owner, || ask(watched))?;
        let oid = table.oid;
        let state = describe(set, watched, oid)?;
        if !state.is_watched {
            if !before.is_some_and(|before| before.has_lost(&watched.table, oid.to_u32())) {
                let column = watched.id.clone();
                return Err(Error::NotWatched { table: table.name, column });
            }
            captured.lost.push(oid.to_u32());
        }
        captured.watched.insert(watched.table.clone(), oid.to_u32());
        captured.sources.extend(&state.sources);
        captured.missing.extend(state.missing);
        states.push(state.state);
        parents.push(state.parents);
        let sources = state.sources.into_iter().map(pg_sys::Oid::from).collect();
        captured.tables.push(Table { sources, ..table });
    }
    captured.triggers = states.join(" ");
    captured.parents = Some(parents.join(" "));
    Ok(captured)
}

/// Describes a watched table as the segment's owner sees it. That role must be able to read every
/// id in it, otherwise an error is returned.
fn ask(watched: &Watched) -> Result<Table> {
    let sql = &queries::refresh::incremental::watch::DESCRIBE_WATCHED;
    let args = [watched.table.as_str().into(), watched.id.as_str().into()];
    statement::split_name(&watched.table)?;
    Spi::connect(|client| {
        let row = client.select(sql.kept(), Some(1), &args)?.first();
        let refuse = |code, problem: String, hint: &str| {
            Err(Error::Query { code, problem, detail: None, hint: Some(hint.to_owned()) })
        };
        if row.is_empty() {
            // The name is looked up as of now, the table in the snapshot: its rows are not there either.
            return refuse(
                PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE,
                format!(
                    "watched table {} was replaced after the snapshot of the refresh",
                    watched.table
                ),
                "Refresh the segment again, in another transaction.",
            );
        }
        let name: String = row.get_by_name("name")?.unwrap_or_default();
        let Some(id_column) = row.get_by_name::<String, _>("id_column")? else {
            return refuse(
                PgSqlErrorCode::ERRCODE_UNDEFINED_COLUMN,
                format!("watched table {name} has no column \"{}\"", watched.id),
                "Name the column that holds ids: {\"table\": ..., \"id\": ...}.",
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
        Ok(Table { oid, name, id_column, id_type, column, sources: Vec::new() })
    })
}

/// Describes the capture of a watched table: the table with its partitions and those above it, the
/// state of the triggers, and the relations whose changes can be missed.
fn describe(set: &RelationSet, watched: &Watched, table: pg_sys::Oid) -> Result<State> {
    let args = [table.into(), watched.id.as_str().into(), set.changes().into()];
    // This is read in the snapshot that is stored: the next refresh finds what was altered after
    // it.
    let json = set.extension.as_owner(|| {
        let query = &queries::refresh::incremental::capture::DESCRIBE_TRIGGERS;
        let statement = Kept::new(set.sql(query, &[TREE, ABOVE]));
        Spi::connect(|client| {
            Ok::<_, Error>(
                client.select(statement, Some(1), &args)?.first().get_one::<JsonbText>()?,
            )
        })
    })?;
    let json = json.ok_or(Error::MissingValue("triggers"))?;
    serde_json::from_str(&json.0).map_err(|_| Error::MissingValue("triggers"))
}

/// The JSON that the query `describe_triggers` returns.
#[derive(Deserialize)]
struct State {
    sources: Vec<u32>,
    state: String,
    parents: String,
    is_watched: bool,
    missing: Vec<Missing>,
}

/// Why an incremental pass is impossible since the last checkpoint; none: it is possible.
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
        before.position.snapshot.as_str().into(),
        before.position.own.as_deref().into(),
    ];
    let all = set.extension.as_owner(|| {
        let statement = set.kept(&queries::refresh::incremental::capture::CONCERNS_ALL_IDS);
        Spi::connect(|client| {
            Ok::<_, Error>(client.select(statement, Some(1), &args)?.first().get_one::<i32>()?)
        })
    })?;
    Ok(match all {
        Some(1) => Some(
            "a watched table was truncated or filled by replication, or its ids could not be read",
        ),
        Some(_) => Some("captured changes were pruned before they were read"),
        None => (before.triggers != now.triggers
            || (before.parents.is_some() && before.parents != now.parents))
            .then_some("the watched tables or their captures are not the same any more"),
    })
}

/// The start of the retention period of captured changes: a segment whose last read is not after it
/// makes a full pass. None: they are kept for ever.
pub fn retained_since() -> Option<DateTime<Utc>> {
    clock::now().checked_sub_signed(settings::capture_retention()?)
}

/// Stores the ids captured between two positions in a relation, for [`changed_sql`]. Runs within an
/// SPI connection.
pub fn keep_captured(
    set: &RelationSet,
    (before, now): (&Captured, &Captured),
    captured: &Relation,
) -> Result<()> {
    let (numbers, sources, columns) = now.sources();
    let args: [DatumWithOid<'_>; 5] = [
        numbers.into(),
        sources.into(),
        columns.into(),
        before.position.snapshot.as_str().into(),
        before.position.own.as_deref().into(),
    ];
    set.extension.as_owner(|| {
        captured
            .append(&set.sql(&queries::refresh::incremental::capture::LIST_UNREAD_IDS, &[]), &args)
    })
}

/// A query for the ids in the relation [`CAPTURED`], in the types of their columns. Must run with
/// the rights of the segment's owner, because casting to a domain can call any function.
pub fn changed_sql(set: &RelationSet, now: &Captured) -> String {
    let ids = (0..).zip(&now.tables).map(|(number, table): (i32, _)| {
        let parts = [("number", number.to_string()), ("type", table.id_type.clone())];
        let parts = parts.each_ref().map(|(word, part)| (*word, part.as_str()));
        set.sql(&queries::refresh::incremental::capture::CAST_IDS, &parts)
    });
    ids.collect::<Vec<_>>().join("\nunion all\n")
}

/// A query for all ids of the watched tables.
pub fn all_sql(set: &RelationSet, now: &Captured) -> String {
    ids_sql(set, &now.tables)
}

/// A query for all ids of the watched tables, without a position. Runs with the rights of the
/// segment's owner.
pub fn ids_of(set: &RelationSet, watched: &[Watched]) -> Result<String> {
    let tables = watched.iter().map(ask).collect::<Result<Vec<_>>>()?;
    Ok(ids_sql(set, &tables))
}

fn ids_sql(set: &RelationSet, tables: &[Table]) -> String {
    let ids = tables.iter().map(|table| {
        let parts = [("column", table.id_column.as_str()), ("table", table.name.as_str())];
        set.sql(&queries::refresh::incremental::watch::LIST_IDS, &parts)
    });
    ids.collect::<Vec<_>>().join("\nunion all\n")
}

/// The number of captured changes that one call deletes at most; the next call deletes the rest.
const PRUNED_AT_ONCE: i64 = 10_000;

/// The number of captured changes that nothing keeps from being deleted; no more than one call deletes.
pub fn count_read(extension: &Extension) -> Result<usize> {
    Ok(find_read(extension)?.map_or(0, |old| old.len()))
}

/// Whether that many captured changes are more than one call deletes.
pub fn is_backlog(count: usize) -> bool {
    count as i64 >= PRUNED_AT_ONCE
}

/// The places of captured changes that all segments of all sets have read.
fn find_read(extension: &Extension) -> Result<Option<Vec<String>>> {
    let since = retained_since().map(clock::timestamp);
    let since = since.unwrap_or(TimestampWithTimeZone::negative_infinity());
    let args = [
        snapshot::horizon().to_string().into(),
        since.into(),
        PRUNED_AT_ONCE.into(),
        activity::cluster().to_string().into(),
    ];
    extension.read(&queries::refresh::incremental::capture::FIND_READ_CHANGES, &args)
}

/// Deletes captured changes that all segments of all sets have read. Returns whether more of them
/// may be left to delete.
pub fn prune(extension: &Extension) -> Result<bool> {
    if process::is_in_recovery() {
        return Ok(false);
    }
    let old = find_read(extension)?;
    let Some(old) = old.filter(|old| !old.is_empty()) else { return Ok(false) };
    let more = old.len() as i64 == PRUNED_AT_ONCE;
    let deleted = unless_superseded(|| {
        extension.as_owner(|| {
            let sql = extension.sql(&queries::refresh::incremental::capture::DELETE_CHANGES, &[]);
            Ok(Spi::run_with_args(&sql, &[old.into()])?)
        })
    })?;
    Ok(deleted && more)
}
