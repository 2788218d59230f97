//! Creates a segment from a name and a query: its table and its config row.

use PgSqlErrorCode as Code;
use pgrx::JsonB;
use pgrx::datum::Uuid;
use pgrx::prelude::*;
use serde_json::json;

use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::config::segment_table::{Holder, Table};
use crate::config::{SERVICE_COLUMNS, Subject};
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
<<<<<<< HEAD
    let table = new_table::name_of(request.name, request.table_name)?;
    // Sessions that put a segment of the name see this one.
    lock::lock_name(set.segments(), request.name);
=======
    check_name(set, request.name)?;
    let table = table_name(request)?;
>>>>>>> 00f93ad (Say in words what PostgreSQL says of constraints and parsers)
    set.as_caller(|| {
        Spi::connect_mut(|client| {
            let query = delta::parse_single_statement(request.query, StatementKind::Select)?;
            let columns = Prepared::of_user(query, &[]).map_err(advise)?.columns();
            new_table::check_named(&columns)?;
            NewTable {
                name: &table,
                columns: &columns,
                history: request.history,
                is_named: request.table_name.is_some(),
            }
<<<<<<< HEAD
            .create(set)?;
=======
            let text = if request.history {
                &queries::ops::create_segment::CREATE_HISTORY_TABLE
            } else {
                &queries::ops::create_segment::CREATE_LATEST_TABLE
            };
            let parts = [("table", table.as_str()), ("columns", &extra_columns(&columns))];
            // The text may hold several statements. SPI splits it with PostgreSQL's own parser.
            let created = in_subtransaction(OnSuccess::Commit, || {
                Ok(client.update(&set.sql(text, &parts), None, &[]).map(drop)?)
            });
            created.map_err(|error| match &error {
                Error::Postgres(report) if report.sqlstate == Code::ERRCODE_DUPLICATE_TABLE as i32 => {
                    Error::Exists {
                        code: Code::ERRCODE_DUPLICATE_TABLE,
                        what: format!("table {table}"),
                        hint: "If it is the table of a segment, change that segment; otherwise pass another table_name.".into(),
                    }
                }
                _ if request.table_name.is_some() => error,
                _ => error.with_hint(Code::ERRCODE_INSUFFICIENT_PRIVILEGE, ELSEWHERE),
            })
            .map_err(|error| {
                error.about(&format!("the table of segment \"{}\" cannot be created", request.name))
            })?;
>>>>>>> 00f93ad (Say in words what PostgreSQL says of constraints and parsers)

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
                Ok(client.update(&sql, None, &args)?.first().get_one::<Uuid>()?)
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

/// Checks the name of the segment before its table is created, which would be an error of the table.
fn check_name(set: &RelationSet, name: &str) -> Result<()> {
    let subject = Subject::Segment(name);
    if name.trim().is_empty() {
        return Err(Error::Check {
            column: "name",
            subject: subject.to_string(),
            problem: "it must not be empty or blank",
        });
    }
    let sql = set.sql(&queries::ops::create_segment::FIND_NAMESAKE, &[]);
    let table =
        set.as_caller(|| Spi::connect(|_| statement::read_one::<String>(&sql, &[name.into()])))?;
    match table {
        Some(table) => Err(Error::Exists {
            code: Code::ERRCODE_UNIQUE_VIOLATION,
            what: subject.to_string(),
            hint: format!("Its table is {table}. Change that segment, or choose another name."),
        }),
        None => Ok(()),
    }
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
<<<<<<< HEAD
=======

/// The name of the new table, qualified and quoted. A name without a schema gets the current schema
/// of the caller.
fn table_name(request: &NewSegment<'_>) -> Result<String> {
    let (schema, table) = match request.table_name {
        Some(name) => {
            let (schema, table) = statement::split_name(name)?;
            // PostgreSQL truncates a name that is too long when it parses it.
            if table.len() >= MAX_NAME - 3 && !ends_with(name, &table) {
                return Err(Error::NameTooLong(name.into()));
            }
            (schema, table)
        }
        None if request.name.len() > MAX_NAME => {
            return Err(Error::NameTooLong(request.name.into()));
        }
        None => (None, request.name.to_owned()),
    };
    let schema = match schema {
        Some(schema) => schema,
        None => Spi::connect(|client| {
            client
                .select(queries::catalog::CURRENT_SCHEMA.text(), Some(1), &[])?
                .first()
                .get_one::<String>()
        })?
        .ok_or_else(|| Error::NoSchema(request.name.into()))?,
    };
    if schema.starts_with("pg_temp") {
        return Err(Error::Table {
            table: quote_qualified_identifier(schema, table),
            problem: "it is temporary".into(),
            hint: Some("Pass a table_name in a schema that stays.".into()),
        });
    }
    Ok(quote_qualified_identifier(schema, table))
}

fn ends_with(name: &str, table: &str) -> bool {
    let name = name.trim_end().trim_end_matches('"').replace("\"\"", "\"");
    name.to_lowercase().ends_with(&table.to_lowercase())
}

/// The columns of the query that the mart does not have, as column definitions.
fn extra_columns(columns: &[ResultColumn]) -> String {
    columns
        .iter()
        .filter(|column| {
            let name = column.name.as_str();
            !SERVICE_COLUMNS.contains(&name) && name != "hash_email" && name != "hash_phone"
        })
        .map(|column| {
            format!(
                ",\n    {} {}",
                quote_identifier(&column.name),
                system_catalog::full_type_name(column.type_oid, column.modifier)
            )
        })
        .collect()
}
>>>>>>> 00f93ad (Say in words what PostgreSQL says of constraints and parsers)
