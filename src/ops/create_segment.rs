//! Creates a segment from a name and a query: its table and its config row.

use PgSqlErrorCode as Code;
use pgrx::JsonB;
use pgrx::datum::Uuid;
use pgrx::prelude::*;
use serde_json::json;

use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::config::segment_table::{Holder, Table};
use crate::error::{Error, Result};
use crate::ops::new_table::{self, NewTable};
use crate::pg::exec::lock;
use crate::pg::exec::role;
use crate::pg::exec::statement::{Prepared, StatementKind};
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};
use crate::pg::system_catalog;
use crate::refresh::{advise, delta};

/// The arguments of `segmenter_create_segment()`.
pub struct NewSegment<'a> {
    pub name: &'a str,
    pub query: &'a str,
    pub refresh_cron: Option<&'a str>,
    pub table_name: Option<&'a str>,
    pub history: bool,
}

/// Creates a segment with the rights of the caller only, as the caller could by hand. Returns the
/// segment's id. Errors of the query, the schedule or the table are raised, and nothing is created.
pub fn create(set: &RelationSet, request: &NewSegment<'_>) -> Result<Uuid> {
    new_table::check_name(set, request.name)?;
    let table = new_table::name_of(request.name, request.table_name)?;
    // Sessions that put a segment of the name see this one.
    lock::lock_name(set.segments(), request.name);
    set.as_caller(|| {
        Spi::connect_mut(|client| {
            let query = delta::parse_single_statement(request.query, StatementKind::Select)?;
            let columns = Prepared::of_user(query, &[]).map_err(advise)?.columns();
            new_table::check_columns(&columns)?;
            NewTable {
                shared: false,
                name: &table,
                columns: &columns,
                history: request.history,
                is_named: request.table_name.is_some(),
            }
            .create(set)
            .map_err(|error| {
                error.about(&format!("the table of segment \"{}\" cannot be created", request.name))
            })?;

            check_query(set, request, &table, query)?;
            let sql = set.sql(&queries::ops::create_segment::INSERT_SEGMENT, &[]);
            let args = [
                request.name.into(),
                table.as_str().into(),
                JsonB(json!({"query": {"sql": request.query}})).into(),
                request.refresh_cron.into(),
            ];
            // No row limit here: a statement that stops after its first row does not fire its
            // statement-level triggers.
            let created = in_subtransaction(OnSuccess::Commit, || {
                // The query above is the caller's; this statement is ours.
                role::with_own_settings(|| {
                    Ok(client.update(&sql, None, &args)?.first().get_one::<Uuid>()?)
                })
            });
            let id = created.map_err(|error| match &error {
                Error::Postgres(report)
                    if report.sqlstate == Code::ERRCODE_UNIQUE_VIOLATION as i32 =>
                {
                    Error::Exists {
                        code: Code::ERRCODE_UNIQUE_VIOLATION,
                        what: format!("segment \"{}\"", request.name),
                        hint: "Names are unique among active segments, also those of other owners: choose another name, or retire the other segment.".into(),
                    }
                }
                _ => error,
            })?;
            id.ok_or_else(|| set.unknown_segment(request.name))
        })
    })
}

/// Checks that the query fits the new table, before the segment's row is written: what keeps the
/// segment from being refreshed is an error here, and a WARNING there.
fn check_query(
    set: &RelationSet,
    request: &NewSegment<'_>,
    table: &str,
    query: &str,
) -> Result<()> {
    let created = system_catalog::relation_named(table);
    let oid = created?.ok_or_else(|| Error::TableDropped(request.name.into()))?;
    // The segment has no id yet, and the table no rows.
    let id = Uuid::from_bytes([0; 16]);
    let holder = Holder { id, name: request.name, owner: role::current() };
    delta::check(query, &Table::check(set, oid, holder)?)
}
