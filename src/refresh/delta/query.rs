//! The query of a segment: one statement, which fits the segment's table.

use pgrx::prelude::*;

use crate::catalog::relation_set::RelationSet;
use crate::config::segment_table::{Column, MOST_COLUMNS, Table};
use crate::config::{FAMILY_COLUMN, SERVICE_COLUMNS};
use crate::error::{Error, Result};
use crate::pg::exec::dependency::Named;
use crate::pg::exec::statement::{self, Prepared, StatementKind};
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};
use crate::pg::system_catalog;

/// The only statement of a text, without a trailing semicolon or comment. Another number of
/// statements, or another kind, is an error.
pub fn parse_single_statement(sql: &str, kind: StatementKind) -> Result<&str> {
    let problem = |problem: String| {
        let hint = match kind {
            StatementKind::Call => "Give one CALL of the procedure.",
            _ => "Give one SELECT whose column \"id\" is the member's key.",
        };
        Err(Error::Query {
            code: PgSqlErrorCode::ERRCODE_SYNTAX_ERROR,
            problem,
            detail: None,
            hint: Some(hint.into()),
        })
    };
    let what = if kind == StatementKind::Call { "CALL" } else { "SELECT" };
    let parsed = in_subtransaction(OnSuccess::Commit, || Ok(statement::parse(sql)))
        .map_err(|error| error.in_statement(sql))?;
    match parsed.as_slice() {
        [] => problem("the SQL holds no statement".into()),
        [one] if one.kind == kind => Ok(one.text),
        [_] => problem(format!("the SQL is not a {what}")),
        more => problem(format!("the SQL holds {} statements, not one", more.len())),
    }
}

/// The relations, functions and segments that a query names. Runs with the rights of the segment's
/// owner, within an SPI connection.
pub fn named_by(set: &RelationSet, sql: &str) -> Result<Named> {
    let query = Prepared::analysed(parse_single_statement(sql, StatementKind::Select)?, &[])?;
    Ok(query.named(&set.readers()))
}

/// Checks that a query fits a table. Runs with the rights of the segment's owner, within an SPI
/// connection.
pub fn check(sql: &str, table: &Table) -> Result<()> {
    let query = parse_single_statement(sql, StatementKind::Select)?;
    check_analysed(&Prepared::of_user(query, &[])?, table)
}

/// The same for a query that was analysed.
pub fn check_analysed(query: &Prepared, table: &Table) -> Result<()> {
    check_query(query, table).map(drop)
}

/// Checks that a query fits a table. Returns for each column of the table whether the query returns
/// it, and whether its ids may be too long to be stored.
pub(super) fn check_query(query: &Prepared, table: &Table) -> Result<(Vec<bool>, bool)> {
    use PgSqlErrorCode as Code;
    let problem = |code, problem: String, hint: Option<String>| {
        Err(Error::Query { code, problem, detail: None, hint })
    };
    if !query.is_plain_select() {
        return problem(
            Code::ERRCODE_FEATURE_NOT_SUPPORTED,
            "the query does more than read".into(),
            Some("Leave out INTO, FOR UPDATE and statements in WITH that change data.".into()),
        );
    }
    let mut received = vec![false; table.columns.len()];
    let (mut has_id, mut has_long_ids, mut has_segment) = (false, false, false);
    for column in query.columns() {
        let name = &column.name;
        if table.has_named_rows && name == FAMILY_COLUMN {
            if has_segment {
                return duplicate_column(name);
            }
            has_segment = true;
            if ![pg_sys::TEXTOID, pg_sys::VARCHAROID].contains(&column.type_oid) {
                let given = system_catalog::format_type(column.type_oid);
                return problem(
                    Code::ERRCODE_DATATYPE_MISMATCH,
                    format!("column \"{name}\" of the query of a family is {given}, not text"),
                    Some(format!("Cast it: {name}::text.")),
                );
            }
            continue;
        }
        if name == "id" && !has_id {
            has_id = true;
            has_long_ids = !system_catalog::has_fixed_length(column.type_oid);
            continue;
        }
        let position = table.columns.iter().position(|target| target.name == *name);
        let Some(position) = position else {
            if name == "id" {
                return duplicate_column(name);
            }
            if SERVICE_COLUMNS.contains(&name.as_str()) {
                return problem(
                    Code::ERRCODE_INVALID_COLUMN_REFERENCE,
                    format!("the query gives the service column \"{name}\""),
                    Some(
                        "Segmenter fills it itself: leave it out, or give it another name.".into(),
                    ),
                );
            }
            let known: Vec<_> = table.columns.iter().map(Column::quoted).collect();
            return problem(
                Code::ERRCODE_UNDEFINED_COLUMN,
                format!(
                    "the query gives column \"{name}\", which table {} does not have",
                    table.name
                ),
                Some(format!(
                    "Besides \"id\" it may give {}; add the column to the table, or leave it out.",
                    known.join(", ")
                )),
            );
        };
        let target = &table.columns[position];
        if received[position] {
            return duplicate_column(name);
        }
        if target.is_generated || target.is_identity {
            return problem(
                Code::ERRCODE_GENERATED_ALWAYS,
                format!("the query gives column \"{name}\", which table {} generates", table.name),
                Some("Leave it out.".into()),
            );
        }
        if !system_catalog::is_assignable(column.type_oid, target.type_oid) {
            let (given, wanted) = (
                system_catalog::format_type(column.type_oid),
                system_catalog::format_type(target.type_oid),
            );
            return problem(
                Code::ERRCODE_DATATYPE_MISMATCH,
                format!(
                    "column \"{name}\" of the query is {given}, in table {} it is {wanted}",
                    table.name
                ),
                Some(format!("Cast it: {}::{wanted}.", target.quoted())),
            );
        }
        received[position] = true;
    }
    check_width(table, received.iter().filter(|received| **received).count())?;
    if !has_id {
        return problem(
            Code::ERRCODE_UNDEFINED_COLUMN,
            "the query gives no column \"id\"".into(),
            Some("Name the member's key so: select customer_id as id, ...".into()),
        );
    }
    if table.has_named_rows && !has_segment {
        return problem(
            Code::ERRCODE_UNDEFINED_COLUMN,
            format!("the query of a family gives no column \"{FAMILY_COLUMN}\""),
            Some("Name the segment of each row so: select ..., 'vip' as segment".into()),
        );
    }
    Ok((received, has_long_ids))
}

/// Checks that the new values of `received` columns fit into one target list with the old values of
/// all columns.
pub(super) fn check_width(table: &Table, received: usize) -> Result<()> {
    match received + table.columns.len() > 2 * MOST_COLUMNS + 1 {
        true => Err(table.too_wide()),
        false => Ok(()),
    }
}

fn duplicate_column<T>(name: &str) -> Result<T> {
    Err(Error::Query {
        code: PgSqlErrorCode::ERRCODE_DUPLICATE_COLUMN,
        problem: format!("the query gives column \"{name}\" twice"),
        detail: None,
        hint: Some("Give each column a name of its own.".into()),
    })
}
