//! What a query would give as a segment, before there is one.

use std::ffi::CStr;
use std::time::{Duration, Instant};

use pgrx::datum::Uuid;
use pgrx::prelude::*;
use pgrx::spi::SpiClient;

use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::config::SERVICE_COLUMNS;
use crate::error::{Error, Result};
use crate::ops::new_table;
use crate::pg::exec::portal;
use crate::pg::exec::role;
use crate::pg::exec::statement::{self, Prepared, StatementKind};
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};
use crate::pg::exec::tuplestore::Relation;
use crate::pg::system_catalog;
use crate::refresh::advise;
use crate::refresh::delta::{LONGEST_ID, parse_single_statement};
use crate::refresh::now::RefreshTime;

const ROWS: &CStr = c"segmenter_rows";
const IDS: &CStr = c"segmenter_row_ids";

/// The number of segments that are named as similar.
const SIMILAR: usize = 3;

/// What a query gives.
pub struct Preview {
    /// The ids that it gives, each counted once.
    pub members: i64,
    /// Rows without an id.
    pub without_id: i64,
    /// Rows whose id an earlier one has.
    pub duplicates: i64,
    pub columns: Vec<String>,
    pub similar: Vec<Similar>,
    pub elapsed: Duration,
}

/// A segment that resembles a query.
pub struct Similar {
    pub segment: String,
    /// The common members as a part of all, a number as text.
    pub jaccard: String,
}

/// Runs a query with the rights of the caller, read-only, and compares its ids with the members of the
/// segments that the caller may read.
pub fn preview(set: &RelationSet, query: &str) -> Result<Preview> {
    let timer = Instant::now();
    let previewed = in_subtransaction(OnSuccess::Rollback, || {
        let _portals = portal::CursorScope::begin()?;
        let _time = RefreshTime::begin();
        set.as_caller(|| role::read_only(|| Spi::connect(|client| run(client, set, query))))
    });
    let mut preview = previewed.map_err(advise)?;
    preview.elapsed = timer.elapsed();
    Ok(preview)
}

/// Runs as the caller.
fn run(client: &SpiClient<'_>, set: &RelationSet, query: &str) -> Result<Preview> {
    let query = parse_single_statement(query, StatementKind::Select)?;
    let columns = check(&Prepared::of_user(query, &[])?)?;
    let (rows, ids) = (Relation::new(ROWS), Relation::new(IDS));
    let name = |relation: &'static CStr| relation.to_string_lossy();
    let parts = [("query", query), ("rows", &*name(ROWS)), ("ids", &*name(IDS))];
    let list = set.sql(&queries::ops::preview::LIST_ROWS, &parts);
    let most = i32::try_from(LONGEST_ID).unwrap_or(i32::MAX);
    rows.append(&list, &[most.into()])?;
    ids.append(&set.sql(&queries::ops::preview::LIST_IDS, &parts), &[])?;
    let sql = set.sql(&queries::ops::preview::COUNT_ROWS, &parts);
    let counts: Option<Vec<i64>> = statement::read_one(&sql, &[])?;
    let (without_id, duplicates) = match counts.as_deref() {
        Some([without_id, duplicates]) => (*without_id, *duplicates),
        _ => (0, 0),
    };
    let members = i64::try_from(ids.rows()).unwrap_or(i64::MAX);
    let similar = similar(client, set, (&name(IDS), members))?;
    let elapsed = Duration::ZERO;
    Ok(Preview { members, without_id, duplicates, columns, similar, elapsed })
}

/// Checks that a query can be that of a segment. Returns the names of its columns.
fn check(query: &Prepared) -> Result<Vec<String>> {
    let problem = |code, problem: String, hint: &str| {
        Err(Error::Query { code, problem, detail: None, hint: Some(hint.into()) })
    };
    if !query.is_plain_select() {
        return problem(
            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            "the query does more than read".into(),
            "Leave out INTO, FOR UPDATE and statements in WITH that change data.",
        );
    }
    let columns = query.columns();
    new_table::check_columns(&columns)?;
    let names: Vec<String> = columns.into_iter().map(|column| column.name).collect();
    for (place, name) in names.iter().enumerate() {
        if names[..place].contains(name) {
            return problem(
                PgSqlErrorCode::ERRCODE_DUPLICATE_COLUMN,
                format!("the query gives column \"{name}\" twice"),
                "Give each column a name of its own.",
            );
        }
        if name != "id" && SERVICE_COLUMNS.contains(&name.as_str()) {
            return problem(
                PgSqlErrorCode::ERRCODE_INVALID_COLUMN_REFERENCE,
                format!("the query gives the service column \"{name}\""),
                "Segmenter fills it itself: leave it out, or give it another name.",
            );
        }
    }
    match names.iter().any(|name| name == "id") {
        true => Ok(names),
        false => problem(
            PgSqlErrorCode::ERRCODE_UNDEFINED_COLUMN,
            "the query gives no column \"id\"".into(),
            "Name the member's key so: select customer_id as id, ...",
        ),
    }
}

/// The segments whose members resemble the ids in a relation most. A table that cannot be read, as a whole or
/// in part, is left out.
fn similar(
    client: &SpiClient<'_>,
    set: &RelationSet,
    (ids, number): (&str, i64),
) -> Result<Vec<Similar>> {
    if number == 0 {
        return Ok(Vec::new());
    }
    let mut found: Vec<(AnyNumeric, Similar)> = Vec::new();
    for (table, segments) in readable(set)? {
        pgrx::check_for_interrupts!();
        let Some(table) = system_catalog::qualified_name(table) else { continue };
        let parts = [("table", table.as_str()), ("ids", ids)];
        let sql = set.sql(&queries::ops::preview::COMPARE, &parts);
        let listed: Vec<Uuid> = segments.iter().map(|(id, _)| *id).collect();
        let compared = in_subtransaction(OnSuccess::Commit, || {
            set.extension.as_caller(|| compare(client, &sql, listed, number))
        });
        for (id, jaccard) in compared.unwrap_or_default() {
            let Some((_, name)) = segments.iter().find(|(segment, _)| *segment == id) else {
                continue;
            };
            let Ok(value) = AnyNumeric::try_from(jaccard.as_str()) else { continue };
            found.push((value, Similar { segment: name.clone(), jaccard }));
        }
    }
    found.sort_by(|(one, a), (two, b)| two.cmp(one).then_with(|| a.segment.cmp(&b.segment)));
    found.truncate(SIMILAR);
    Ok(found.into_iter().map(|(_, similar)| similar).collect())
}

/// The segments of a table that have any of the ids, with their similarity.
fn compare(
    client: &SpiClient<'_>,
    sql: &str,
    segments: Vec<Uuid>,
    number: i64,
) -> Result<Vec<(Uuid, String)>> {
    let rows = client.select(sql, None, &[segments.into(), number.into()])?;
    rows.map(|row| {
        let id = row.get_by_name("id")?.ok_or(Error::MissingValue("id"))?;
        Ok((id, row.get_by_name("jaccard")?.unwrap_or_default()))
    })
    .collect()
}

type Readable = Vec<(pg_sys::Oid, Vec<(Uuid, String)>)>;

/// The tables of the segments that the caller may read, and these.
fn readable(set: &RelationSet) -> Result<Readable> {
    let args = [role::current().into()];
    set.as_owner(|| {
        Spi::connect(|client| {
            let sql = set.sql(&queries::ops::preview::LIST_SEGMENTS, &[]);
            let rows = client.select(&sql, None, &args)?;
            rows.map(|row| {
                let table = row.get_by_name("table_oid")?.unwrap_or(pg_sys::InvalidOid);
                let ids: Vec<Uuid> = row.get_by_name("ids")?.unwrap_or_default();
                let names: Vec<String> = row.get_by_name("names")?.unwrap_or_default();
                Ok((table, ids.into_iter().zip(names).collect()))
            })
            .collect()
        })
    })
}
