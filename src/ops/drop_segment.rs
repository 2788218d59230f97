//! Deletes a segment: its subscriptions, its row and, if asked for, its table.

use pgrx::datum::{DatumWithOid, Uuid};
use pgrx::prelude::*;

use crate::catalog::definitions;
use crate::catalog::queries;
use crate::catalog::query::Query;
use crate::catalog::relation_set::RelationSet;
use crate::config::readers::{self, Fate};
use crate::config::{Key, Segment, segment_table};
use crate::error::{Error, Result, counted};
use crate::pg::exec::role;
use crate::pg::exec::statement;
use crate::refresh::handover;
use crate::refresh::segment_lock::acquire;

/// Deletes the active segment with a name, or else the retired ones. Returns whether they are gone:
/// while a consumer has not got all its messages, a segment is only retired.
pub fn drop_segment(set: &RelationSet, name: &str, drop_table: bool, run_id: Uuid) -> Result<bool> {
    let caller = role::current();
    let ids: Option<Vec<Uuid>> = set.as_owner(|| {
        let sql = set.sql(&queries::ops::drop_segment::LIST_SEGMENTS, &[]);
        Spi::connect(|_| statement::read_one(&sql, &[name.into(), caller.into()]))
    })?;
    let ids = ids.filter(|ids| !ids.is_empty()).ok_or_else(|| set.unknown_segment(name))?;
    let mut are_gone = true;
    for id in ids {
        are_gone &= drop_one(set, name, id, drop_table, run_id)?;
    }
    Ok(are_gone)
}

fn drop_one(
    set: &RelationSet,
    name: &str,
    id: Uuid,
    drop_table: bool,
    run_id: Uuid,
) -> Result<bool> {
    let found = Segment::find_bare(set, Key::Id(id))?.ok_or_else(|| set.unknown_segment(name))?;
    let (table, is_suppression) = (found.table, found.is_suppression);
    let named = (id, name, table, found.owner);
    readers::check_none(set, named, is_suppression, Fate::Deleted, role::current())?;
    let _lock = acquire(set, id, name)?;
    write(set, &queries::ops::drop_segment::END_SUBSCRIPTIONS, id)?;
    let (_snapshot, segment) = handover::latest(set, id)?;
    handover::from_table(set, &segment, run_id, |ended| ended.pending_action(false), None)?;
    let owed: Option<i64> = read(set, &queries::ops::drop_segment::COUNT_OWED, &[id.into()])?;
    if let Some(owed @ 1..) = owed {
        write(set, &queries::ops::drop_segment::RETIRE_SEGMENT, id)?;
        pgrx::notice!(
            "segment \"{name}\" is retired: {} must get the end of the audience before it can be deleted",
            counted(owed, "subscription")
        );
        return Ok(false);
    }
    write(set, &queries::ops::drop_segment::DELETE_SUBSCRIPTIONS, id)?;
    write(set, &queries::ops::drop_segment::DELETE_SEGMENT, id)?;
    if !drop_table {
        return Ok(true);
    }
    let sql = &queries::ops::drop_segment::FIND_OTHER_SEGMENT;
    let other: Option<String> = read(set, sql, &[segment.table.into()])?;
    let Some(table) = segment_table::name(set, segment.table)? else { return Ok(true) };
    if let Some(other) = other {
        return Err(Error::Query {
            code: PgSqlErrorCode::ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST,
            problem: format!("table {table} cannot be dropped with segment \"{name}\""),
            detail: Some(format!("It is the table of segment \"{other}\", too.")),
            hint: Some(
                "Leave out drop_table, and delete the segment's rows from the table.".into(),
            ),
        });
    }
    set.extension.as_caller(|| {
        let parts = [("table", table.as_str())];
        Spi::run(&set.sql(&queries::ops::drop_segment::DROP_TABLE, &parts))
    })?;
    Ok(true)
}

fn write(set: &RelationSet, query: &Query, segment: Uuid) -> Result<()> {
    definitions::acting_as(role::current(), || {
        set.as_owner(|| Ok(Spi::run_with_args(&set.sql(query, &[]), &[segment.into()])?))
    })
}

fn read<T: FromDatum + IntoDatum>(
    set: &RelationSet,
    query: &Query,
    args: &[DatumWithOid<'_>],
) -> Result<Option<T>> {
    // The statements of this function are seen: a snapshot of their own.
    set.as_owner(|| {
        Spi::connect_mut(|client| {
            let rows = client.update(&set.sql(query, &[]), None, args)?;
            if rows.is_empty() { Ok(None) } else { Ok(rows.first().get_one()?) }
        })
    })
}
