//! The retention of former members: rows of segment tables whose membership period has ended lose their
//! contacts after a time, and are deleted after another one. Rows of members are never touched.

use std::time::Duration;

use pgrx::datum::{Timestamp, Uuid};
use pgrx::prelude::*;
use serde_json::{Value, json};

use crate::catalog::log::{self, Action, Entry, LogCounts, LogStatus};
use crate::catalog::queries;
use crate::catalog::query::Query;
use crate::catalog::relation_set::RelationSet;
use crate::config::segment_table::{self, Column, Holder, Purpose, Table};
use crate::config::{self, ConfigError, Retention, Segment, Subject};
use crate::error::{Error, Result, emit_warning};
use crate::pg::bgw::process;
use crate::pg::clock;
use crate::pg::exec::portal;
use crate::pg::exec::role;
use crate::pg::exec::snapshot;
use crate::pg::exec::statement;
use crate::pg::exec::subtransaction::{OnSuccess, in_limited_subtransaction, in_subtransaction};
use crate::pg::format::json::JsonbText;
use crate::refresh::handover::latest;
use crate::refresh::may_refresh;
use crate::refresh::segment_lock::acquire;

/// The number of rows that one step deletes at most, and the number that it takes the contacts of.
const ROWS_AT_ONCE: i64 = 10_000;
/// The number of segments that one call handles at most; the next call handles others.
const SEGMENTS_AT_ONCE: i64 = 100;
/// The time of one step for a segment of another role, whose triggers and policies run meanwhile.
const LONGEST_STEP: Duration = Duration::from_secs(60);
/// How long a step waits for a lock. What is locked is handled later.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// A segment whose retention is to be applied.
pub struct DueSegment {
    pub id: Uuid,
    pub name: String,
    pub owner: pg_sys::Oid,
}

/// What a step has done.
#[derive(Default)]
struct Step {
    deleted: i64,
    stripped: i64,
    /// Whether rows may be left.
    has_more: bool,
}

/// Which segments' retention is applied.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Of those where rows are left, or where it was not applied for an hour: tables are read as a whole.
    Due,
    Always,
}

/// The segments whose retention is to be applied, of those whose owner `reader` is a member of, if it is
/// given. What the rows say is not checked.
pub fn list(set: &RelationSet, reader: Option<pg_sys::Oid>, when: When) -> Result<Vec<DueSegment>> {
    let args = [reader.into(), SEGMENTS_AT_ONCE.into(), (when == When::Due).into()];
    set.as_owner(|| {
        Spi::connect(|client| {
            let sql = set.sql(&queries::refresh::retention::LIST_DUE, &[]);
            let rows = client.select(&sql, None, &args)?.map(|row| {
                let missing = |column| move || Error::MissingValue(column);
                Ok(DueSegment {
                    id: row.get_by_name("id")?.ok_or_else(missing("id"))?,
                    name: row.get_by_name("name")?.ok_or_else(missing("name"))?,
                    owner: row.get_by_name("owner")?.ok_or_else(missing("owner"))?,
                })
            });
            rows.collect()
        })
    })
}

/// Applies the retention of each segment whose owner the caller may act as, a step each. One that fails
/// stops no other.
pub fn prune_all(set: &RelationSet, when: When) -> Result<()> {
    if !is_possible() {
        return Ok(());
    }
    for segment in list(set, Some(role::current()), when)? {
        prune(set, &segment)?;
    }
    Ok(())
}

fn is_possible() -> bool {
    !process::is_in_recovery()
}

/// Takes a step for one segment: deletes rows, and then takes contacts from others. A failure is recorded
/// and logged, and is a WARNING. Returns whether rows may be left; a segment that is locked is left for later.
pub fn prune(set: &RelationSet, segment: &DueSegment) -> Result<bool> {
    if !is_possible() {
        return Ok(false);
    }
    let began = clock::now();
    let step = || {
        role::with_lock_timeout(LONGEST_WAIT, || {
            let _lock = acquire(set, segment.id, &segment.name)?;
            let (_snapshot, found) = latest(set, segment.id)?;
            may_refresh(set, &found, role::current())?;
            let Some((retention, step)) = take_step(set, &found)? else { return Ok(false) };
            record(set, segment.id, !step.has_more, None)?;
            if step.deleted + step.stripped > 0 {
                log_step(set, segment, began, retention, Ok(&step))?;
            }
            Ok(step.has_more)
        })
    };
    let stepped = match segment.owner == role::current() {
        true => in_subtransaction(OnSuccess::Commit, step),
        false => in_limited_subtransaction(LONGEST_STEP, step),
    };
    let error = match stepped {
        Ok(has_more) => return Ok(has_more),
        Err(Error::TimeLimit(limit)) => Error::Query {
            code: PgSqlErrorCode::ERRCODE_QUERY_CANCELED,
            problem: format!("a step took longer than {limit} ms"),
            detail: None,
            hint: Some("Look for a trigger or a policy of its table that does not end.".into()),
        },
        Err(error) => error,
    };
    if matches!(
        error,
        Error::Busy { .. } | Error::UnknownSegment { .. } | Error::NotPermitted { .. }
    ) || error.is_code(PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE)
        // With a kept snapshot: rows were written since, which the next call sees.
        || snapshot::is_kept()
            && error.is_code(PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE)
    {
        return Ok(false);
    }
    let report = error.report();
    emit_warning(
        &format!("the retention of segment \"{}\" was not applied", segment.name),
        &report,
    );
    in_subtransaction(OnSuccess::Commit, || {
        let _lock = match acquire(set, segment.id, &segment.name) {
            Err(Error::Busy { .. }) => return Ok(()),
            held => held?,
        };
        record(set, segment.id, true, Some(&report.message))?;
        log_step(set, segment, began, Value::Null, Err(&error))
    })?;
    Ok(false)
}

/// None: the table does not exist, or the segment has no retention any more.
fn take_step(set: &RelationSet, segment: &Segment) -> Result<Option<(Value, Step)>> {
    let holder = segment.holder();
    if !segment_table::lock(set, segment.table, holder, Purpose::Access)? {
        return Ok(None);
    }
    let table = Table::check(set, segment.table, holder)?;
    table.check_visible_to_owners()?;
    let Some(limits) = Limits::find(set, segment)? else { return Ok(None) };
    // Triggers of the table are users' SQL.
    let _portals = portal::CursorScope::begin()?;
    let columns = match limits.retention.without_contacts_after {
        Some(_) => losable(&table, holder.name)?,
        None => Vec::new(),
    };
    let write = |query: &Query, before: Option<Timestamp>, parts: &[(&str, &str)]| {
        let Some(before) = before else { return Ok(0) };
        let args = [segment.id.into(), before.into(), ROWS_AT_ONCE.into()];
        let sql = set.sql(query, parts);
        let count = Spi::connect_mut(|client| {
            client.update(&sql, Some(1), &args)?.first().get_one::<i64>()
        })?;
        Ok::<_, Error>(count.unwrap_or_default())
    };
    let quoted: Vec<String> = columns.iter().map(|column| column.quoted()).collect();
    let assignments: Vec<_> = quoted.iter().map(|column| format!("{column} = null")).collect();
    let told: Vec<_> = quoted.iter().map(|column| format!("o.{column}")).collect();
    let step = table.with_constraints_at_once(set, || {
        set.as_segment_owner(segment.owner, || {
            let name = ("table", table.name.as_str());
            let deleted =
                write(&queries::refresh::retention::DELETE_ROWS, limits.keep_before, &[name])?;
            let parts =
                [name, ("assignments", &assignments.join(", ")), ("columns", &told.join(", "))];
            let stripped = match columns.is_empty() {
                true => 0,
                false => {
                    write(&queries::refresh::retention::STRIP_ROWS, limits.contacts_before, &parts)?
                }
            };
            let has_more = deleted.max(stripped) == ROWS_AT_ONCE;
            Ok(Step { deleted, stripped, has_more })
        })
    })?;
    Ok(Some((limits.json, step)))
}

/// A retention and the local times that follow from it.
struct Limits {
    json: Value,
    retention: Retention,
    keep_before: Option<Timestamp>,
    contacts_before: Option<Timestamp>,
}

impl Limits {
    /// None: the segment keeps former members for ever.
    fn find(set: &RelationSet, segment: &Segment) -> Result<Option<Self>> {
        set.as_owner(|| {
            Spi::connect(|client| {
                let sql = set.sql(&queries::refresh::retention::FIND_LIMITS, &[]);
                let row = client.select(&sql, Some(1), &[segment.id.into()])?.first();
                let json: Option<JsonbText> = row.get_by_name("retention")?;
                let json = config::parse("retention", json, Subject::Segment(&segment.name))?;
                let retention = config::retention(json.clone(), Subject::Segment(&segment.name))?;
                if retention == Retention::default() {
                    return Ok(None);
                }
                Ok(Some(Self {
                    json,
                    retention,
                    keep_before: row.get_by_name("keep_before")?,
                    contacts_before: row.get_by_name("contacts_before")?,
                }))
            })
        })
    }
}

/// The columns that former members lose. One that is NOT NULL is an error. What PostgreSQL writes itself
/// (generated columns, identities) stays.
fn losable<'a>(table: &'a Table, segment: &str) -> Result<Vec<&'a Column>> {
    let is_free =
        |column: &&Column| column.name != "id" && !column.is_generated && !column.is_identity;
    let columns: Vec<&Column> = table.columns.iter().filter(is_free).collect();
    match columns.iter().find(|column| column.is_not_null()) {
        None => Ok(columns),
        Some(column) => {
            let problem = format!(
                "\"without_contacts_after\": column {} of table {} is NOT NULL",
                column.quoted(),
                table.name
            );
            let hint = format!(
                "alter table {} alter column {} drop not null, or give \"keep\" only.",
                table.name,
                column.quoted()
            );
            Err(ConfigError::new("retention", Subject::Segment(segment), problem, &hint).into())
        }
    }
}

/// Checks that a retention can be applied to a segment's table, as far as its columns decide that.
pub fn check(
    set: &RelationSet,
    table: pg_sys::Oid,
    holder: Holder<'_>,
    retention: &Retention,
) -> Result<()> {
    // A table that is not valid is reported elsewhere.
    let checked =
        in_subtransaction(OnSuccess::Commit, || Table::check(set, table, holder).map(Some));
    match (checked, &retention.without_contacts_after) {
        (Ok(Some(table)), Some(_)) => losable(&table, holder.name).map(drop),
        _ => Ok(()),
    }
}

/// Checks that the segment's owner has the privileges that its retention needs.
pub fn check_rights(
    set: &RelationSet,
    table: pg_sys::Oid,
    holder: Holder<'_>,
    retention: &Retention,
) -> Result<()> {
    let mut needed = Vec::new();
    needed.extend(retention.keep.as_ref().map(|_| "delete"));
    needed.extend(retention.without_contacts_after.as_ref().map(|_| "update"));
    let args = [table.into(), holder.owner.into(), needed.into()];
    let missing: Option<Vec<String>> = set.as_owner(|| {
        let sql = set.sql(&queries::refresh::retention::LIST_MISSING_RIGHTS, &[]);
        Spi::connect(|_| statement::read_one(&sql, &args))
    })?;
    let Some(missing) = missing else { return Ok(()) };
    let (rights, owner) = (missing.join(" and "), role::name(holder.owner));
    let name = segment_table::name(set, table)?.unwrap_or_default();
    Err(Error::Query {
        code: PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
        problem: format!("role \"{owner}\" may not {rights} rows of table {name}"),
        detail: None,
        hint: Some(format!(
            "grant {} on {name} to {}",
            missing.join(", "),
            pgrx::spi::quote_identifier(&owner)
        )),
    })
}

fn record(set: &RelationSet, segment: Uuid, is_done: bool, error: Option<&str>) -> Result<()> {
    let error = error.map(segmenter_core::text::cut);
    let args = [segment.into(), is_done.into(), error.as_deref().into()];
    set.write(&queries::refresh::retention::RECORD_PRUNED, &args)
}

fn log_step(
    set: &RelationSet,
    segment: &DueSegment,
    began: clock::Instant,
    retention: Value,
    step: std::result::Result<&Step, &Error>,
) -> Result<()> {
    let report = step.err().map(Error::report);
    let counts = step.map_or(LogCounts::default(), |step| LogCounts {
        removed: Some(step.deleted),
        changed: Some(step.stripped),
        ..LogCounts::default()
    });
    let entry = Entry {
        run_id: None,
        action: Action::Prune,
        status: if step.is_ok() { LogStatus::Ok } else { LogStatus::Failed },
        segment: (Some(segment.id), &segment.name),
        subscription: None,
        counts,
        began,
        elapsed: (clock::now() - began).to_std().ok(),
        message: report.as_ref().map(|report| report.message.as_str()),
        error: report.as_ref(),
        params: json!({"retention": retention, "role": role::name(role::current())}),
        reason: None,
    };
    log::write(set, entry)
}
