//! The new and the old row of a trigger, and what is checked of rows of every kind.

use pgrx::datum::{TimestampWithTimeZone, Uuid};
use pgrx::heap_tuple::PgHeapTuple;
use pgrx::prelude::*;
use pgrx::{AllocatedByPostgres, AllocatedByRust};
use serde_json::Value;

use crate::api::written::{self, check_name_is_free};
use crate::catalog::query::Query;
use crate::catalog::relation_set::RelationSet;
use crate::config::{self, Subject};
use crate::error::{self, Error};
use crate::pg::exec::role;
use crate::pg::format::json::JsonbText;
use crate::pg::system_catalog;

pub(super) type Row<'a> = PgHeapTuple<'a, AllocatedByPostgres>;

pub(in crate::api) type NewRow<'a> = PgHeapTuple<'a, AllocatedByRust>;

/// The relation set that the trigger's table belongs to.
pub(super) fn set_of(trigger: &PgTrigger<'_>) -> error::Result<RelationSet> {
    RelationSet::of(trigger.relation()?.oid())
}

/// Whether a dump is being restored by a role that may write any row of the set.
pub(super) fn is_restored(set: &RelationSet) -> bool {
    system_catalog::references_are_deferred() && role::may_act_as(role::current(), set.owner)
}

/// Checks that the new name of a row, or that of a row that is active again, is free.
pub(super) fn is_free(
    set: &RelationSet,
    taken: &Query,
    old: &Row<'_>,
    new: &NewRow<'_>,
    subject: Subject<'_>,
) -> error::Result<()> {
    let (Some(name), Some(id)) = (text(new, "name")?, new.get_by_name::<Uuid>("id")?) else {
        return Ok(());
    };
    let stays = is_endless(old.get_by_name("actual_end")?)
        && old.get_by_name::<String>("name")?.as_ref() == Some(&name);
    if stays || !is_endless(new.get_by_name("actual_end")?) {
        return Ok(());
    }
    check_name_is_free(set, taken, subject, (&name, id))
}

/// Before a segment or a consumer is deleted.
pub(super) fn check_deleted<'a>(
    trigger: &'a PgTrigger<'a>,
    is_segment: bool,
) -> error::Result<NewRow<'a>> {
    let missing = || Error::Trigger(pgrx::trigger_support::PgTriggerError::NullTriggerData);
    let row = trigger.old().ok_or_else(missing)?.into_owned();
    let name = text(&row, "name")?.unwrap_or_default();
    let id = row.get_by_name::<Uuid>("id")?;
    let (subject, ids) = match is_segment {
        true => (Subject::Segment(&name), (id, None)),
        false => (Subject::Consumer(&name), (None, id)),
    };
    written::check_deleted(&set_of(trigger)?, subject, ids)?;
    Ok(row)
}

pub(super) fn is_endless(end: Option<TimestampWithTimeZone>) -> bool {
    end == Some(TimestampWithTimeZone::positive_infinity())
}

/// Whether an active subscription is ended, and nothing else of it is changed.
pub(super) fn is_ended(old: &Row<'_>, new: &NewRow<'_>) -> error::Result<bool> {
    for column in ["id", "consumer_id", "segment_id"] {
        if old.get_by_name::<Uuid>(column)? != new.get_by_name::<Uuid>(column)? {
            return Ok(false);
        }
    }
    for column in ["target", "name", "cron", "timezone"] {
        if old.get_by_name::<String>(column)? != new.get_by_name::<String>(column)? {
            return Ok(false);
        }
    }
    Ok(old.get_by_name::<JsonbText>("params")? == new.get_by_name::<JsonbText>("params")?
        && old.get_by_name::<TimestampWithTimeZone>("actual_begin")?
            == new.get_by_name::<TimestampWithTimeZone>("actual_begin")?
        && is_endless(old.get_by_name("actual_end")?)
        && new.get_by_name::<TimestampWithTimeZone>("actual_end")?.is_some()
        && !is_endless(new.get_by_name("actual_end")?))
}

/// Checks that the columns of a row that must have a value have one. The owner of a segment is filled in.
fn check_not_null(trigger: &PgTrigger<'_>, subject: Subject<'_>) -> error::Result<()> {
    match system_catalog::null_columns(trigger).into_iter().find(|column| column != "owner") {
        Some(column) if column == "name" || column == "target" => {
            Err(Error::Null { column, subject: format!("a {}", subject.kind()) })
        }
        Some(column) => Err(Error::Null { column, subject: subject.to_string() }),
        None => Ok(()),
    }
}

/// What checks of the table would refuse, in words, and names that cannot be read. A name that stays
/// is not checked: it may be older than this check.
pub(super) fn check_name_and_period(
    trigger: &PgTrigger<'_>,
    row: &NewRow<'_>,
    subject: Subject<'_>,
) -> error::Result<()> {
    check_not_null(trigger, subject)?;
    check_text(trigger, row, "name", subject)?;
    check_period(row, subject)
}

/// Checks that a row does not end before it begins.
pub(super) fn check_period(row: &NewRow<'_>, subject: Subject<'_>) -> error::Result<()> {
    let begin = row.get_by_name::<TimestampWithTimeZone>("actual_begin")?;
    let end = row.get_by_name::<TimestampWithTimeZone>("actual_end")?;
    if let (Some(begin), Some(end)) = (begin, end)
        && end < begin
    {
        let problem = "it must not be earlier than actual_begin";
        return Err(Error::Check { column: "actual_end", subject: subject.to_string(), problem });
    }
    Ok(())
}

/// Checks that a text that is new has a character other than a blank.
pub(super) fn check_text(
    trigger: &PgTrigger<'_>,
    row: &NewRow<'_>,
    column: &'static str,
    subject: Subject<'_>,
) -> error::Result<()> {
    let Some(new) = text(row, column)?.filter(|text| text.trim().is_empty()) else { return Ok(()) };
    let old = trigger.old().map(|old| old.get_by_name::<String>(column)).transpose()?.flatten();
    // The check of a table accepts blanks, and so a dump may have them.
    if old.as_ref() == Some(&new) || !new.is_empty() && system_catalog::references_are_deferred() {
        return Ok(());
    }
    let problem = "it must not be empty or blank";
    Err(Error::Check { column, subject: subject.to_string(), problem })
}

pub(super) fn check_member(
    set: &RelationSet,
    caller: pg_sys::Oid,
    before: Option<pg_sys::Oid>,
    wanted: pg_sys::Oid,
    subject: Subject<'_>,
) -> error::Result<()> {
    if before == Some(wanted) {
        return Ok(());
    }
    if role::may_act_as(caller, wanted) {
        return set.check_owner_can_act_as(wanted);
    }
    Err(Error::NotMember { role: role::name(wanted), subject: subject.to_string() })
}

pub(super) fn new_row<'a>(trigger: &'a PgTrigger<'a>) -> error::Result<NewRow<'a>> {
    match trigger.new() {
        Some(row) => Ok(row.into_owned()),
        None => Err(Error::Trigger(pgrx::trigger_support::PgTriggerError::NullTriggerData)),
    }
}

pub(super) fn text(row: &NewRow<'_>, column: &str) -> error::Result<Option<String>> {
    Ok(row.get_by_name::<String>(column)?)
}

pub(super) fn json(
    row: &NewRow<'_>,
    column: &'static str,
    subject: Subject<'_>,
) -> error::Result<Value> {
    config::parse(column, row.get_by_name::<JsonbText>(column)?, subject)
}
