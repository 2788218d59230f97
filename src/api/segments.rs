//! The SQL functions that create, alter and drop segments.

use pgrx::datum::Uuid;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::require_arg;
use crate::catalog::relation_set::RelationSet;
use crate::ops::create_segment;
use crate::ops::drop_segment;
use crate::ops::put_segment::{self, PutSegment};
use crate::ops::restore_definition;
use crate::pg::format::json::JsonbText;
use crate::schedule::run;

/// Creates a segment: its table, and its row in segmenter_segments.
///
/// - `name`: the segment.
/// - `query`: one SELECT whose column `id` is the member's id; its other columns become columns of
///   the table.
/// - `refresh_cron`: the schedule. A segment with a schedule is automatic.
/// - `table_name`: the table to create; by default the segment's name in `current_schema()`.
/// - `history`: true: keep every membership period; false: keep the latest state only.
///
/// Returns the segment's id. If the query or the schedule is invalid, nothing is created.
///
/// ```sql
/// select segmenter_create_segment(
///     'vip', 'select id, hash_email from crm.people where vip', '@daily');
/// ```
#[pg_extern]
fn segmenter_create_segment(
    name: Option<&str>,
    query: Option<&str>,
    refresh_cron: default!(Option<&str>, "NULL"),
    table_name: default!(Option<&str>, "NULL"),
    history: default!(Option<bool>, "true"),
) -> Result<Uuid, ErrorReport> {
    let request = create_segment::NewSegment {
        name: require_arg("name", name)?,
        query: require_arg("query", query)?,
        refresh_cron,
        table_name,
        history: require_arg("history", history)?,
    };
    Ok(create_segment::create(&RelationSet::writable()?, &request)?)
}

/// Creates a segment, or alters the one that has the name: for files of segments that are run again and
/// again. What is null stays as it is.
///
/// - `name`: the segment.
/// - `query`: its query, short for the refresher `{"query": {"sql": …}}`.
/// - `refresh_params`: any other refresher.
/// - `refresh_cron`, `refresh_timezone`: the schedule. The first one makes the segment automatic.
/// - `table_name`: its table, which is created if it does not exist; by default the segment's name in
///   `current_schema()`.
/// - `history`: whether a new table keeps every membership period.
/// - `description`, `sources`, `guards`, `exclude`: the columns of segmenter_segments.
/// - `owner`: the role that owns it, and its own table; by default the caller.
/// - `refresh`: refresh it at once.
///
/// Returns one row: the segment, what was done (`created`, `altered`, `unchanged`), and the columns
/// that were changed (`columns`: its table got new ones). If anything is wrong, nothing is changed.
///
/// ```sql
/// select * from segmenter_put_segment('vip', 'select id, hash_email from crm.people where vip', refresh_cron => '@daily');
/// ```
#[pg_extern]
#[allow(clippy::type_complexity, clippy::too_many_arguments)]
fn segmenter_put_segment(
    name: Option<&str>,
    query: default!(Option<&str>, "NULL"),
    refresh_params: default!(Option<JsonbText>, "NULL"),
    refresh_cron: default!(Option<&str>, "NULL"),
    refresh_timezone: default!(Option<&str>, "NULL"),
    table_name: default!(Option<&str>, "NULL"),
    history: default!(Option<bool>, "true"),
    description: default!(Option<&str>, "NULL"),
    owner: default!(Option<&str>, "NULL"),
    sources: default!(Option<JsonbText>, "NULL"),
    guards: default!(Option<JsonbText>, "NULL"),
    exclude: default!(Option<JsonbText>, "NULL"),
    refresh: default!(Option<bool>, "false"),
) -> Result<
    TableIterator<
        'static,
        (name!(segment, String), name!(action, String), name!(changed, Vec<String>)),
    >,
    ErrorReport,
> {
    let name = require_arg("name", name)?;
    let set = RelationSet::writable()?;
    let request = PutSegment {
        name,
        query,
        refresh_params,
        refresh_cron,
        refresh_timezone,
        table_name,
        history: history.unwrap_or(true),
        description,
        owner,
        sources,
        guards,
        exclude,
    };
    let refresh = require_arg("refresh", refresh)?;
    let put = put_segment::put(&set, &request)?;
    put_segment::refresh(&set, name, &put, refresh, run::new_id())?;
    Ok(TableIterator::once((name.to_owned(), put.action.as_str().to_owned(), put.changed)))
}

/// Deletes a segment: ends its subscriptions, has their consumers delete the audiences, and deletes
/// its row, with its states. Its entries in the log stay.
///
/// - `name`: the segment. If no active one has this name: the retired ones.
/// - `drop_table`: drop its table, too; otherwise it leaves the mart and stays, with the members.
///
/// Returns true. While a consumer has not got all its messages, the segment is only retired, with a
/// NOTICE, and the result is false: call it again later. The caller must be able to act as the
/// segment's owner, and own the table to drop it.
///
/// ```sql
/// select segmenter_drop_segment('vip');
/// ```
#[pg_extern]
fn segmenter_drop_segment(
    name: Option<&str>,
    drop_table: default!(Option<bool>, "false"),
) -> Result<bool, ErrorReport> {
    let (name, drop_table) = (require_arg("name", name)?, require_arg("drop_table", drop_table)?);
    Ok(drop_segment::drop_segment(&RelationSet::writable()?, name, drop_table, run::new_id())?)
}

/// Makes the row of a segment what it was in a version of its definition: all columns but its id, also its
/// name, its table, its owner and whether it is active. The members stay until the next refresh.
///
/// - `name`: the segment. If no active one has this name: the one that was retired last.
/// - `version`: the version, as segmenter_definitions lists it.
///
/// Returns the version that the row has now: a new one, or the last one if the row is the same already. The
/// caller must be able to act as the segment's owner, as for an update of the row. If a part of the version
/// cannot be restored (its table or its owner is gone, its name is taken), nothing is changed.
///
/// ```sql
/// select segmenter_restore_definition('vip', 1);
/// ```
#[pg_extern]
fn segmenter_restore_definition(
    name: Option<&str>,
    version: Option<i32>,
) -> Result<i32, ErrorReport> {
    let (name, version) = (require_arg("name", name)?, require_arg("version", version)?);
    Ok(restore_definition::restore(&RelationSet::writable()?, name, version)?)
}
