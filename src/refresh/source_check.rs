//! Checks that a segment's sources are loaded, in the snapshot in which its members are read.

use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;
use pgrx::spi::{quote_identifier, quote_qualified_identifier};

use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::config::{ReadySource, SourceCheck, TableSource};
use crate::error::{Error, Result};
use crate::pg::exec::dependency::Named;
use crate::pg::exec::role;
use crate::pg::exec::statement::{self, Prepared};
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};
use crate::pg::system_catalog;

/// How far a load time may lie in the future without a remark: the clock of the loading system.
const MAX_AHEAD: &str = "5 minutes";

/// The time since a source was loaded.
#[derive(Debug)]
struct Age {
    text: String,
    exceeds_error: bool,
    exceeds_warn: bool,
    /// The load time, where it lies in the future.
    ahead: Option<String>,
}

/// The facts found about one source.
#[derive(Debug, Default)]
struct Facts {
    /// None: it was never loaded.
    age: Option<Age>,
    /// Its number of rows, counted up to `min_rows` only.
    rows: Option<u64>,
}

/// The result of a source check.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Loaded,
    /// Loaded, with a remark that it is late, or was never loaded where that is only a remark.
    Late(String),
    /// Loaded at a time that lies in the future, with a remark.
    Ahead(String),
    NotLoaded(String),
}

/// The result of all source checks of a segment.
#[derive(Default)]
pub struct Checked {
    /// Remarks about sources that are loaded.
    pub remarks: Vec<String>,
    /// The tables whose newest load time lies in the future.
    pub ahead: Vec<String>,
    /// What is not loaded.
    pub missing: Vec<String>,
}

/// Checks the sources of a segment as the active snapshot sees them. Runs with the rights of the
/// segment's owner, within an SPI connection.
pub fn check(set: &RelationSet, sources: &[SourceCheck]) -> Result<Checked> {
    let mut found = Checked::default();
    role::read_only(|| {
        for source in sources {
            let (named, verdict): (_, &dyn Fn() -> Result<Verdict>) = match source {
                SourceCheck::Table(source) => (&source.table, &|| {
                    check_parts(source)?;
                    Ok(judge(source, &facts(set, source)?))
                }),
                SourceCheck::Ready(source) => {
                    (&source.name, &|| Ok(judge_ready(source, is_ready(set, source)?)))
                }
                // Not a matter of the segment's owner: see `upstream`.
                SourceCheck::Segment(_) => continue,
            };
            let checked = in_subtransaction(OnSuccess::Commit, verdict);
            let verdict = checked.map_err(|error| error.about(&format!("source \"{named}\"")))?;
            match verdict {
                Verdict::Loaded => {}
                Verdict::Late(message) => found.remarks.push(message),
                Verdict::Ahead(message) => {
                    found.ahead.push(named.clone());
                    found.remarks.push(message);
                }
                Verdict::NotLoaded(message) => found.missing.push(message),
            }
        }
        Ok(found)
    })
}

/// The tables among a segment's sources. Runs with the rights of the segment's owner, within an SPI
/// connection.
pub fn named_by(sources: &[SourceCheck]) -> Result<Named> {
    let mut named = Named::default();
    for source in sources {
        let SourceCheck::Table(source) = source else { continue };
        named.relations.extend(find_table(&source.table)?);
    }
    Ok(named)
}

/// Checks that a source can be asked. Runs with the rights of the segment's owner, within an SPI
/// connection, and executes nothing.
pub fn analyse(set: &RelationSet, source: &SourceCheck) -> Result<()> {
    let (named, checked) = match source {
        SourceCheck::Table(source) => {
            let prepare = || {
                check_parts(source)?;
                for (sql, args) in questions(set, source)? {
                    check_one(&sql)?;
                    Prepared::new(&sql, &args)?;
                }
                Ok(())
            };
            (&source.table, in_subtransaction(OnSuccess::Rollback, prepare))
        }
        SourceCheck::Ready(source) => {
            let prepare = || ready_query(source).map(drop);
            (&source.name, in_subtransaction(OnSuccess::Rollback, prepare))
        }
        // There is no SQL.
        SourceCheck::Segment(_) => return Ok(()),
    };
    checked.map_err(|error| error.about(&format!("source \"{named}\"")))
}

/// The statements that ask for the facts about a source.
fn questions<'a>(
    set: &RelationSet,
    source: &'a TableSource,
) -> Result<Vec<(String, Vec<DatumWithOid<'a>>)>> {
    let age = source.loaded_at.as_ref().map(|column| ask_age(set, source, column));
    let rows = source.min_rows.map(|min| ask_rows(set, source, min));
    age.into_iter().chain(rows).collect()
}

/// Checks what a source's statements are made of, so that an error speaks of the source and not of the
/// statements: its filter, and its column with load times. A table that does not exist is an error of
/// the statements.
fn check_parts(source: &TableSource) -> Result<()> {
    const BEFORE: &str = "select 1 where ";
    if let Some(filter) = &source.filter {
        let sql = format!("{BEFORE}{filter}");
        let parsed = in_subtransaction(OnSuccess::Commit, || check_one(&sql));
        parsed.map_err(|error| error.in_part(BEFORE.len(), filter))?;
    }
    let Some(column) = &source.loaded_at else { return Ok(()) };
    match find_table(&source.table)? {
        Some(table) if !system_catalog::has_column(table, column) => Err(Error::Query {
            code: PgSqlErrorCode::ERRCODE_UNDEFINED_COLUMN,
            problem: format!("source \"{}\" has no column \"{column}\"", source.table),
            detail: None,
            hint: Some(
                "Name the column with load times in loaded_at, in the case that it has.".into(),
            ),
        }),
        _ => Ok(()),
    }
}

fn find_table(name: &str) -> Result<Option<pg_sys::Oid>> {
    let sql = queries::refresh::source_check::FIND_TABLE.text();
    statement::read_one::<pg_sys::Oid>(sql, &[table_name(name)?.into()])
}

fn ask_age<'a>(
    set: &RelationSet,
    source: &'a TableSource,
    column: &str,
) -> Result<(String, Vec<DatumWithOid<'a>>)> {
    let (table, column) = (table_name(&source.table)?, quote_identifier(column));
    let parts = [("table", &*table), ("loaded_at", &*column), ("filter", filter(source))];
    let args = vec![
        source.error_after.as_deref().into(),
        source.warn_after.as_deref().into(),
        MAX_AHEAD.into(),
    ];
    Ok((set.sql(&queries::refresh::source_check::GET_AGE, &parts), args))
}

fn ask_rows<'a>(
    set: &RelationSet,
    source: &'a TableSource,
    min: u64,
) -> Result<(String, Vec<DatumWithOid<'a>>)> {
    let table = table_name(&source.table)?;
    let parts = [("table", &*table), ("filter", filter(source))];
    Ok((set.sql(&queries::refresh::source_check::COUNT_ROWS, &parts), vec![(min as i64).into()]))
}

fn filter(source: &TableSource) -> &str {
    source.filter.as_deref().unwrap_or("true")
}

fn judge(source: &TableSource, facts: &Facts) -> Verdict {
    let name = &source.table;
    if let (Some(min), Some(rows)) = (source.min_rows, facts.rows)
        && rows < min
    {
        return Verdict::NotLoaded(format!(
            "source \"{name}\" has {rows} rows, fewer than min_rows {min}"
        ));
    }
    if source.loaded_at.is_none() {
        return Verdict::Loaded;
    }
    let text_of = |limit: &Option<String>| limit.clone().unwrap_or_default();
    let Some(age) = &facts.age else {
        let problem = format!("source \"{name}\" has no row with a load time");
        // A limit that only warns does not block.
        return match source.warn_after.is_some() && source.error_after.is_none() {
            true => Verdict::Late(problem),
            false => Verdict::NotLoaded(problem),
        };
    };
    let Age { text, exceeds_error, exceeds_warn, ahead } = age;
    if let Some(time) = ahead {
        return Verdict::Ahead(format!(
            "the newest {} of source \"{name}\" lies in the future: {time}",
            text_of(&source.loaded_at)
        ));
    }
    match (exceeds_error, exceeds_warn) {
        (true, _) => Verdict::NotLoaded(format!(
            "source \"{name}\" was loaded {text} ago, longer than error_after {}",
            text_of(&source.error_after)
        )),
        (_, true) => Verdict::Late(format!(
            "source \"{name}\" was loaded {text} ago, longer than warn_after {}",
            text_of(&source.warn_after)
        )),
        _ => Verdict::Loaded,
    }
}

fn judge_ready(source: &ReadySource, ready: bool) -> Verdict {
    if ready {
        Verdict::Loaded
    } else {
        Verdict::NotLoaded(format!("source \"{}\" is not ready", source.name))
    }
}

fn facts(set: &RelationSet, source: &TableSource) -> Result<Facts> {
    let mut facts = Facts::default();
    if let Some(column) = &source.loaded_at {
        let (sql, args) = ask_age(set, source, column)?;
        let found: Vec<Option<String>> = fetch_one(&sql, &args)?.unwrap_or_default();
        let is = |flag: &Option<String>| flag.as_deref() == Some("true");
        match found.as_slice() {
            [Some(_)] => {
                return Err(Error::Query {
                    code: PgSqlErrorCode::ERRCODE_DATETIME_FIELD_OVERFLOW,
                    problem: format!(
                        "source \"{}\" has a row whose load time, {column}, is infinity",
                        source.table
                    ),
                    detail: None,
                    hint: Some("Correct the row, or leave it out by a filter.".into()),
                });
            }
            [Some(text), too_old, old, ahead, time] => {
                facts.age = Some(Age {
                    text: text.clone(),
                    exceeds_error: is(too_old),
                    exceeds_warn: is(old),
                    ahead: time.clone().filter(|_| is(ahead)),
                });
            }
            _ => {}
        }
    }
    if let Some(min) = source.min_rows {
        let (sql, args) = ask_rows(set, source, min)?;
        facts.rows = fetch_one::<i64>(&sql, &args)?.map(|rows| rows as u64);
    }
    Ok(facts)
}

/// Whether the query of a source returns true.
fn is_ready(set: &RelationSet, source: &ReadySource) -> Result<bool> {
    // In the active snapshot, that of the members, whatever the transaction has written.
    let query = ready_query(source)?;
    let ask = set.sql(&queries::refresh::source_check::ASK_READY, &[("query", &query)]);
    let rows: Vec<Option<bool>> = statement::read_one(&ask, &[])?.unwrap_or_default();
    match rows.as_slice() {
        [] => Ok(false),
        [ready] => Ok(ready.unwrap_or_default()),
        _ => refuse_ready(
            source,
            PgSqlErrorCode::ERRCODE_CARDINALITY_VIOLATION,
            "gives more than one row",
        ),
    }
}

/// The query of a source, checked to be one SELECT of one boolean.
fn ready_query(source: &ReadySource) -> Result<String> {
    let parsed = in_subtransaction(OnSuccess::Commit, || Ok(statement::parse(&source.ready)))
        .map_err(|error| error.in_statement(&source.ready))?;
    let [one] = parsed.as_slice() else {
        return refuse_ready(source, PgSqlErrorCode::ERRCODE_SYNTAX_ERROR, "is not one statement");
    };
    let query = Prepared::of_user(one.text, &[])?;
    let columns = query.columns();
    if !query.is_plain_select() || columns.len() != 1 || columns[0].type_oid != pg_sys::BOOLOID {
        let code = PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH;
        return refuse_ready(source, code, "does not give one boolean");
    }
    Ok(one.text.to_owned())
}

fn refuse_ready<T>(source: &ReadySource, code: PgSqlErrorCode, problem: &str) -> Result<T> {
    Err(Error::Query {
        code,
        problem: format!("the query of source \"{}\" {problem}", source.name),
        detail: None,
        hint: Some("Give one SELECT of one boolean.".into()),
    })
}

/// Runs a statement that contains a user's filter, after checking that it is still one statement.
fn fetch_one<T: FromDatum + IntoDatum>(sql: &str, args: &[DatumWithOid<'_>]) -> Result<Option<T>> {
    check_one(sql)?;
    statement::read_one(sql, args)
}

fn check_one(sql: &str) -> Result<()> {
    if statement::parse(sql).len() == 1 {
        return Ok(());
    }
    Err(Error::Query {
        code: PgSqlErrorCode::ERRCODE_SYNTAX_ERROR,
        problem: "the filter of a source is not one expression".into(),
        detail: None,
        hint: Some("Give what could follow WHERE.".into()),
    })
}

fn table_name(name: &str) -> Result<String> {
    Ok(match statement::split_name(name)? {
        (Some(schema), table) => quote_qualified_identifier(schema, table),
        (None, table) => quote_identifier(table),
    })
}

#[cfg(feature = "pg_test")]
#[allow(clippy::expect_used)]
mod tests {
    use pgrx::prelude::*;

    use super::*;

    fn source(loaded_at: bool, min_rows: Option<u64>) -> TableSource {
        TableSource {
            table: "dwh.orders".into(),
            loaded_at: loaded_at.then(|| "at".into()),
            warn_after: Some("12 hours".into()),
            error_after: Some("1 day".into()),
            filter: None,
            min_rows,
        }
    }

    fn age(too_old: bool, old: bool) -> Facts {
        let age =
            Age { text: "13:00:00".into(), exceeds_error: too_old, exceeds_warn: old, ahead: None };
        Facts { age: Some(age), rows: None }
    }

    #[pg_extern]
    fn the_age_decides() {
        assert_eq!(judge(&source(true, None), &age(false, false)), Verdict::Loaded);
        let Verdict::Late(late) = judge(&source(true, None), &age(false, true)) else { panic!() };
        assert!(
            late.contains("dwh.orders") && late.contains("13:00:00") && late.contains("12 hours")
        );
        let Verdict::NotLoaded(not) = judge(&source(true, None), &age(true, true)) else {
            panic!()
        };
        assert!(not.contains("dwh.orders") && not.contains("13:00:00") && not.contains("1 day"));
        assert!(matches!(judge(&source(true, None), &Facts::default()), Verdict::NotLoaded(_)));
        let warns = TableSource { error_after: None, ..source(true, None) };
        assert!(matches!(judge(&warns, &Facts::default()), Verdict::Late(_)));
        let mut ahead = age(false, false);
        ahead.age.as_mut().expect("an age").ahead = Some("2099-01-01".into());
        let Verdict::Ahead(said) = judge(&source(true, None), &ahead) else { panic!() };
        assert!(said.contains("dwh.orders") && said.contains("2099-01-01"));
    }

    #[pg_extern]
    fn the_number_of_rows_decides() {
        let rows = |rows| Facts { age: None, rows: Some(rows) };
        assert_eq!(judge(&source(false, Some(1)), &rows(1)), Verdict::Loaded);
        assert!(matches!(judge(&source(false, Some(2)), &rows(1)), Verdict::NotLoaded(_)));
        assert_eq!(judge(&source(false, None), &Facts::default()), Verdict::Loaded);
    }
}
