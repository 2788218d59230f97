//! Creates and drops the triggers that capture a table's changes.

use pgrx::prelude::*;
use pgrx::spi::SpiClient;

use super::capture::{ABOVE, TREE};
use crate::catalog::queries;
use crate::catalog::query::Query;
use crate::catalog::relation_set::RelationSet;
use crate::error::{self, Error, Result};
use crate::pg::system_catalog;

/// Creates the triggers that capture changes of a column of a table, its partitions and children,
/// with the caller's rights. Existing triggers are kept. A relation whose changes cannot be
/// captured is an error.
pub fn watch(set: &RelationSet, source: pg_sys::Oid, column: &str) -> Result<()> {
    let refuse = |problem: String, hint: &str| {
        Err(Error::Watch { problem, hint: Some(hint.to_owned()).filter(|hint| !hint.is_empty()) })
    };
    Spi::connect_mut(|client| {
        let (mut watched, mut uncaptured) = (None, Vec::new());
        for row in client.select(
            &set.sql(&queries::refresh::incremental::watch::CHECK_TABLES, &[TREE, ABOVE]),
            None,
            &[source.into(), column.into(), set.changes().into()],
        )? {
            let name: String = row.get_by_name("name")?.unwrap_or_default();
            uncaptured = row.get_by_name::<Vec<String>, _>("uncaptured")?.unwrap_or_default();
            let flag = |flag| -> Result<bool> { Ok(row.get_by_name(flag)?.unwrap_or_default()) };
            if !flag("is_table")? {
                return refuse(
                    format!(
                        "changes of {name} cannot be captured: it is no table of this database"
                    ),
                    "Watch the tables that it reads, or give the segment a query of \"changed\" ids.",
                );
            }
            let relation = row.get_by_name("relation")?.unwrap_or(pg_sys::InvalidOid);
            if system_catalog::are_distributed(&[relation]) {
                return Err(Error::Query {
                    code: PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
                    problem: format!("changes of {name} cannot be captured: Citus distributes it"),
                    detail: Some(
                        "It is written on other servers, where no trigger of this one fires."
                            .into(),
                    ),
                    hint: Some("Give the segment a query of \"changed\" ids.".into()),
                });
            }
            if flag("is_segment")? {
                return refuse(
                    format!("changes of {name} cannot be captured: it is a segment's table"),
                    "Have \"changed\" ask for what was processed: select id from ... where processed > $1.",
                );
            }
            if !flag("is_permanent")? {
                return refuse(
                    format!("changes of {name} cannot be captured: it is temporary or unlogged"),
                    "A crash empties an unlogged table without a trigger. ALTER TABLE ... SET LOGGED, or give the segment a query of \"changed\" ids.",
                );
            }
            if flag("is_replicated")? {
                return refuse(
                    format!(
                        "changes of {name} cannot be captured: a logical replication subscription fills it"
                    ),
                    "Replication fires no triggers of statements. Give the segment a query of \"changed\" ids.",
                );
            }
            if !flag("has_column")? {
                return Err(Error::Query {
                    code: PgSqlErrorCode::ERRCODE_UNDEFINED_COLUMN,
                    problem: format!("table {name} has no column \"{column}\""),
                    detail: None,
                    hint: Some("Give the column that holds the ids of members.".into()),
                });
            }
            if flag("is_virtual")? {
                return refuse(
                    format!(
                        "changes of column \"{column}\" of table {name} cannot be captured: it is a virtual generated column"
                    ),
                    "Its value is not stored, and a trigger does not get it. Make the column STORED, or watch a column that it is made of.",
                );
            }
            watched.get_or_insert(name);
        }
        let Some(watched) = watched else {
            return Err(Error::Query {
                code: PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE,
                problem: format!("relation with OID {} does not exist", source.to_u32()),
                detail: None,
                hint: None,
            });
        };
        let sql = &queries::refresh::incremental::watch::LIST_CREATE_COMMANDS;
        run_each(client, sql, set, source, Some(column))?;
        if let Some(parent) = uncaptured.first() {
            error::emit(
                PgLogLevel::WARNING,
                format!(
                    "changes that are written through {} are not captured",
                    uncaptured.join(", ")
                ),
                Some(&format!(
                    "Watch the parent: select segmenter_watch({}, {}). Until it is watched as well, each refresh of a segment that watches {watched} compares all ids.",
                    pgrx::spi::quote_literal(parent),
                    pgrx::spi::quote_literal(column),
                )),
            );
        }
        Ok(())
    })
}

/// Drops the triggers for a column of a table, its partitions and children; none: for all columns.
pub fn unwatch(set: &RelationSet, source: pg_sys::Oid, column: Option<&str>) -> Result<()> {
    let sql = &queries::refresh::incremental::watch::LIST_DROP_COMMANDS;
    let dropped = Spi::connect_mut(|client| run_each(client, sql, set, source, column))?;
    if dropped == 0 {
        let table = system_catalog::display_name(source);
        let message = match column {
            Some(column) => {
                format!("changes of column \"{column}\" of table {table} are not captured")
            }
            None => format!("changes of table {table} are not captured"),
        };
        error::emit(PgLogLevel::NOTICE, message, None);
    }
    Ok(())
}

/// Runs the statements that a query returns. Returns their number.
fn run_each(
    client: &mut SpiClient<'_>,
    query: &Query,
    set: &RelationSet,
    source: pg_sys::Oid,
    column: Option<&str>,
) -> Result<usize> {
    let args = [source.into(), column.into(), set.changes().into()];
    let sql = set.sql(query, &[TREE]);
    let statements: Vec<String> = client
        .select(&sql, None, &args)?
        .map(|row| Ok(row.get::<String>(1)?.unwrap_or_default()))
        .collect::<Result<_>>()?;
    for statement in &statements {
        client.update(statement, None, &[])?;
    }
    Ok(statements.len())
}
