//! The table of a new segment: its name, and its columns, which the segment's query gives.

use PgSqlErrorCode as Code;
use pgrx::prelude::*;
use pgrx::spi::{quote_identifier, quote_qualified_identifier};

use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::config::{SERVICE_COLUMNS, Subject};
use crate::error::{Error, Result};
use crate::pg::exec::statement::{self, ResultColumn};
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};
use crate::pg::system_catalog::{self, MAX_NAME};

const ELSEWHERE: &str = "The table is created in the first schema of search_path: pass table_name => 'schema.table', or set search_path.";

/// A table that is to be created.
pub struct NewTable<'a> {
    /// Qualified and quoted.
    pub name: &'a str,
    pub columns: &'a [ResultColumn],
    pub history: bool,
    /// Whether it is for many segments.
    pub shared: bool,
    /// Whether the caller has named it.
    pub is_named: bool,
}

impl NewTable<'_> {
    /// Creates it as the current role. It runs within an SPI connection.
    pub fn create(&self, set: &RelationSet) -> Result<()> {
        let table = self.name;
        let text = if self.history {
            &queries::ops::create_segment::CREATE_HISTORY_TABLE
        } else {
            &queries::ops::create_segment::CREATE_LATEST_TABLE
        };
        let columns: String =
            extra(self.columns).map(|column| format!(",\n    {}", definition(column))).collect();
        let key = if self.shared { "segment_id, id" } else { "id" };
        let parts = [("table", table), ("columns", columns.as_str()), ("key", key)];
        // The text may hold several statements. SPI splits it with PostgreSQL's own parser.
        let created = in_subtransaction(OnSuccess::Commit, || {
            Spi::connect_mut(|client| {
                Ok(client.update(&set.sql(text, &parts), None, &[]).map(drop)?)
            })
        });
        created.map_err(|error| match &error {
            // A unique violation: another session has created it meanwhile.
            Error::Postgres(report)
                if [Code::ERRCODE_DUPLICATE_TABLE, Code::ERRCODE_UNIQUE_VIOLATION]
                    .iter()
                    .any(|code| report.sqlstate == *code as i32) =>
            {
                Error::Exists {
                    code: Code::ERRCODE_DUPLICATE_TABLE,
                    what: format!("table {table}"),
                    hint: "If it is the table of a segment, change that segment; otherwise pass another table_name.".into(),
                }
            }
            _ if self.is_named => error,
            _ => error.with_hint(Code::ERRCODE_INSUFFICIENT_PRIVILEGE, ELSEWHERE),
        })
    }
}

/// Checks the name of the segment before its table is created, which would be an error of the table.
pub fn check_name(set: &RelationSet, name: &str) -> Result<()> {
    let subject = Subject::Segment(name);
    if name.trim().is_empty() {
        return Err(Error::Check {
            column: "name",
            subject: subject.to_string(),
            problem: "it must not be empty or blank",
        });
    }
    let sql = set.sql(&queries::ops::create_segment::FIND_NAMESAKE, &[]);
    let table = set.write_as_caller(|| {
        Spi::connect(|_| statement::read_one::<String>(&sql, &[name.into()]))
    })?;
    match table {
        Some(table) => Err(Error::Exists {
            code: Code::ERRCODE_UNIQUE_VIOLATION,
            what: subject.to_string(),
            hint: format!("Its table is {table}. Change that segment, or choose another name."),
        }),
        None => Ok(()),
    }
}

/// The name of the table of a new segment, qualified and quoted. A name without a schema gets the current
/// schema of the caller.
pub fn name_of(segment: &str, table_name: Option<&str>) -> Result<String> {
    let (schema, table) = match table_name {
        Some(name) => {
            let (schema, table) = statement::split_name(name)?;
            // PostgreSQL truncates a name that is too long when it parses it.
            if table.len() >= MAX_NAME - 3 && !ends_with(name, &table) {
                return Err(Error::NameTooLong(name.into()));
            }
            (schema, table)
        }
        None if segment.len() > MAX_NAME => return Err(Error::NameTooLong(segment.into())),
        None => (None, segment.to_owned()),
    };
    let schema = match schema {
        Some(schema) => schema,
        None => Spi::connect(|client| {
            client
                .select(queries::catalog::CURRENT_SCHEMA.text(), Some(1), &[])?
                .first()
                .get_one::<String>()
        })?
        .ok_or_else(|| Error::NoSchema(segment.into()))?,
    };
    if schema.starts_with("pg_temp") {
        return Err(Error::Table {
            table: quote_qualified_identifier(schema, table),
            problem: "it is temporary".into(),
            hint: Some("Pass a table_name in a schema that stays.".into()),
        });
    }
    if schema.starts_with("pg_") || schema == "information_schema" {
        return Err(Error::Table {
            problem: format!("schema {} belongs to PostgreSQL", quote_identifier(&schema)),
            table: quote_qualified_identifier(schema, table),
            hint: Some("Pass a table_name in a schema of your own.".into()),
        });
    }
    Ok(quote_qualified_identifier(schema, table))
}

fn ends_with(name: &str, table: &str) -> bool {
    let name = name.trim_end().trim_end_matches('"').replace("\"\"", "\"");
    name.to_lowercase().ends_with(&table.to_lowercase())
}

/// Checks that each column of a query has a name, and a type that a column of a table can have.
pub fn check_columns(columns: &[ResultColumn]) -> Result<()> {
    if columns.iter().any(|column| column.name == "?column?") {
        return Err(Error::Query {
            code: Code::ERRCODE_UNDEFINED_COLUMN,
            problem: "a column of the query has no name".into(),
            detail: None,
            hint: Some("Name every column: select ..., count(*) as orders".into()),
        });
    }
    if let Some(column) =
        columns.iter().find(|column| system_catalog::is_pseudo_type(column.type_oid))
    {
        let typ = system_catalog::format_type(column.type_oid);
        return Err(Error::Query {
            code: Code::ERRCODE_INVALID_TABLE_DEFINITION,
            problem: format!(
                "column \"{}\" of the query is of the pseudo-type {typ}, which no column of a table can have",
                column.name
            ),
            detail: None,
            hint: Some("Cast it to another type, for example text or jsonb: to_jsonb(...)".into()),
        });
    }
    Ok(())
}

/// The columns of a query that the mart does not have.
pub fn extra(columns: &[ResultColumn]) -> impl Iterator<Item = &ResultColumn> {
    columns.iter().filter(|column| {
        let name = column.name.as_str();
        !SERVICE_COLUMNS.contains(&name) && name != "hash_email" && name != "hash_phone"
    })
}

/// A column of a query as the definition of a column of a table.
pub fn definition(column: &ResultColumn) -> String {
    format!(
        "{} {}",
        quote_identifier(&column.name),
        system_catalog::full_type_name(column.type_oid, column.modifier)
    )
}
