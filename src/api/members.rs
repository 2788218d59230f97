//! The SQL functions that show the members of segments.

use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use serde_json::json;

use super::require_arg;
use crate::catalog::log;
use crate::catalog::relation_set::RelationSet;
use crate::ops::members::{self, Overlap, Region};
use crate::ops::preview;
use crate::pg::exec::result_set::ResultSet;
use crate::pg::format::json::JsonbText;
use crate::refresh::diff;

/// The members of a segment.
///
/// - `name`: the segment.
/// - `at`: those of a time; by default those of now.
///
/// The segment's table is read with the rights of the caller. Of a table without history the members at a
/// time are known only since a member was added last: an earlier time is an error. So is a family, which has
/// no members of its own.
///
/// ```sql
/// select id from segmenter_members('vip') except select id from segmenter_members('vip', now() - interval '1 day');
/// ```
#[pg_extern(sql = "
create function segmenter_members(name text, at timestamptz default null)
returns table (id varchar, hash_email varchar, hash_phone varchar, actual_begin timestamp, actual_end timestamp)
stable language c as 'MODULE_PATHNAME', '@FUNCTION_NAME@';
")]
fn segmenter_members(
    name: Option<&str>,
    at: Option<TimestampWithTimeZone>,
    call: pg_sys::FunctionCallInfo,
) -> Result<(), ErrorReport> {
    let result = ResultSet::of(call)?;
    members::list(&RelationSet::current()?, require_arg("name", name)?, at, &result)?;
    Ok(())
}

/// How segments overlap, two by two.
///
/// - `segments`: their names, each once.
/// - `at`: as they were at a time; by default as they are now.
///
/// Returns a row for each pair, in the order of the names: the members of both, how many they have in
/// common, which share of the first segment's members that is, and their similarity (`jaccard`: common
/// members by all members of the two). Shares of nothing are null.
///
/// ```sql
/// select * from segmenter_overlap('{vip, lapsed, oslo}') order by jaccard desc;
/// ```
#[pg_extern(stable)]
#[allow(clippy::type_complexity)]
fn segmenter_overlap(
    segments: Option<Vec<Option<String>>>,
    at: default!(Option<TimestampWithTimeZone>, "NULL"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(segment, String),
            name!(other, String),
            name!(members, i64),
            name!(other_members, i64),
            name!(common, i64),
            name!(share, Option<AnyNumeric>),
            name!(jaccard, Option<AnyNumeric>),
        ),
    >,
    ErrorReport,
> {
    let names = members::names(require_arg("segments", segments)?)?;
    let overlaps = members::overlaps(&RelationSet::current()?, &names, at)?;
    Ok(TableIterator::new(overlaps.into_iter().map(move |overlap| {
        let Overlap { pair, members, common, .. } = overlap;
        let (share, jaccard) = (overlap.share(), overlap.jaccard());
        let name = |number: usize| names[number].clone();
        (name(pair.0), name(pair.1), members.0, members.1, common, share, jaccard)
    })))
}

/// Divides the members of segments into those that are in exactly the same of them.
///
/// - `segments`: their names, each once.
/// - `at`: as they were at a time; by default as they are now.
///
/// Returns a row for each combination of segments that has members. The numbers add up to the union.
///
/// ```sql
/// select segments, members from segmenter_venn('{vip, lapsed, oslo}');
/// ```
#[pg_extern(stable)]
#[allow(clippy::type_complexity)]
fn segmenter_venn(
    segments: Option<Vec<Option<String>>>,
    at: default!(Option<TimestampWithTimeZone>, "NULL"),
) -> Result<TableIterator<'static, (name!(segments, Vec<String>), name!(members, i64))>, ErrorReport>
{
    let names = members::names(require_arg("segments", segments)?)?;
    let regions = members::regions(&RelationSet::current()?, &names, at)?;
    Ok(TableIterator::new(regions.into_iter().map(move |Region { segments, members }| {
        (segments.iter().map(|number| names[*number].clone()).collect(), members)
    })))
}

/// Runs a query that is no segment yet, and says what it would give as one.
///
/// - `query`: the query.
///
/// It is run with the rights of the caller and may only read. Returns one row: how many people it gives
/// (`members`), how many rows have no id, or one that an earlier row has (`without_id`, `duplicates`), the names
/// of its columns, and the three segments that its people resemble most, with the similarity (`already`), of those
/// that the caller may read.
///
/// ```sql
/// select members, duplicates, already from segmenter_preview('select id from crm.customers');
/// ```
#[pg_extern]
#[allow(clippy::type_complexity)]
fn segmenter_preview(
    query: Option<&str>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(members, i64),
            name!(without_id, i64),
            name!(duplicates, i64),
            name!(columns, Vec<String>),
            name!(already, JsonbText),
            name!(elapsed, Interval),
        ),
    >,
    ErrorReport,
> {
    let preview = preview::preview(&RelationSet::current()?, require_arg("query", query)?)?;
    let already = preview.similar.iter().map(|similar| {
        // The number is one that PostgreSQL has written.
        format!("{{\"segment\": {}, \"jaccard\": {}}}", json!(similar.segment), similar.jaccard)
    });
    let already = JsonbText(format!("[{}]", already.collect::<Vec<_>>().join(", ")));
    Ok(TableIterator::once((
        preview.members,
        preview.without_id,
        preview.duplicates,
        preview.columns,
        already,
        log::interval(preview.elapsed),
    )))
}

/// Who would be added, removed or changed by a refresh of a segment now.
///
/// - `name`: the segment.
/// - `query`: a one-off query instead of the segment's refresher, as for `segmenter_refresh`.
///
/// Returns a row for each: the operation (`added`, `removed`, `changed`), the id, and the values of the columns
/// before and after. Nothing is changed. A guard that would refuse the refresh is named in a NOTICE; what would
/// keep it from being made is an error. The caller needs the rights for a refresh, and SELECT on the table.
///
/// ```sql
/// select operation, count(*) from segmenter_diff('vip') group by operation;
/// ```
#[pg_extern(sql = "
create function segmenter_diff(name text, query text default null)
returns table (operation text, id text, old jsonb, new jsonb)
language c as 'MODULE_PATHNAME', '@FUNCTION_NAME@';
")]
fn segmenter_diff(
    name: Option<&str>,
    query: Option<&str>,
    call: pg_sys::FunctionCallInfo,
) -> Result<(), ErrorReport> {
    let result = ResultSet::of(call)?;
    diff::list(&RelationSet::writable()?, require_arg("name", name)?, query, &result)?;
    Ok(())
}
