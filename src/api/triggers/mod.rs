//! The triggers of the config tables, which validate rows when they are written, and the triggers
//! of watched tables.

mod alert;
mod capture;
mod connector;
mod consumer;
mod definition;
mod exclusion;
mod family;
mod retention;
mod row;
mod segment;
mod subscription;

pub(super) use connector::{check_connector, check_options};
pub(super) use row::NewRow;

use pgrx::heap_tuple::PgHeapTuple;
use pgrx::prelude::*;

use crate::api::restored;
use crate::catalog::state;
use crate::error::{self, Error, raise};
use crate::pg::exec::durable;
use crate::pg::system_catalog;
use alert::{check_alert, delete_subscription};
use capture::capture;
use consumer::check_consumer;
use definition::record_definition;
use exclusion::check_exclusion;
use row::{check_deleted, new_row, set_of};
use segment::{check_segment, register_segment};
use subscription::{check_delivery, check_subscription, notice_kept_audience};

/// Before a segment is written: validates it, and sets its owner if none is given. Before it is
/// deleted: refuses that while it has subscriptions.
#[pg_trigger]
fn segmenter_check_segment<'a>(trigger: &'a PgTrigger<'a>) -> Result<Option<NewRow<'a>>, Error> {
    if matches!(trigger.op()?, PgTriggerOperation::Delete) {
        return Ok(Some(check_deleted(trigger, true).unwrap_or_else(|error| raise(error))));
    }
    Ok(Some(checked(trigger, check_segment)))
}

/// After a segment is written: attaches its table to the mart, or detaches it. With the argument
/// `exclusion`: checks the segments whose members it leaves out, and its priority. With the argument
/// `definition`: records the row as a version of the segment's definition.
#[pg_trigger]
fn segmenter_register_segment<'a>(trigger: &'a PgTrigger<'a>) -> Result<Option<NewRow<'a>>, Error> {
    let args = trigger.extra_args()?;
    let work = match args.first().map(String::as_str) {
        Some("exclusion") => check_exclusion,
        Some("definition") => record_definition,
        _ => register_segment,
    };
    unless_early(trigger, work);
    Ok(None)
}

/// After segments, consumers or subscriptions are written: invalidates the segments' relation, so
/// that the scheduler reads the config again.
#[pg_trigger]
fn segmenter_notice_segments<'a>(trigger: &'a PgTrigger<'a>) -> Result<Option<NewRow<'a>>, Error> {
    unless_early(trigger, notice_segments);
    Ok(None)
}

/// Before a consumer is written: validates it. Before it is deleted: refuses that while it has
/// subscriptions.
#[pg_trigger]
fn segmenter_check_consumer<'a>(trigger: &'a PgTrigger<'a>) -> Result<Option<NewRow<'a>>, Error> {
    if matches!(trigger.op()?, PgTriggerOperation::Delete) {
        return Ok(Some(check_deleted(trigger, false).unwrap_or_else(|error| raise(error))));
    }
    Ok(Some(checked(trigger, check_consumer)))
}

/// Before a rule of alerts is written: validates it, checks that both parties agree, and writes the
/// subscription that delivers its alerts. After it was deleted: deletes that subscription.
#[pg_trigger]
fn segmenter_check_alert<'a>(trigger: &'a PgTrigger<'a>) -> Result<Option<NewRow<'a>>, Error> {
    if !matches!(trigger.op()?, PgTriggerOperation::Delete) {
        return Ok(Some(checked(trigger, check_alert)));
    }
    if matches!(trigger.when()?, PgTriggerWhen::After) {
        unless_early(trigger, delete_subscription);
    }
    Ok(trigger.old().map(PgHeapTuple::into_owned))
}

/// Before a subscription is written: validates it, and checks that both parties agree. Before it is
/// deleted: warns if the consumer still has the audience. With the argument `delivery`: checks that
/// the columns are written by a role that acts for the consumer.
#[pg_trigger]
fn segmenter_check_subscription<'a>(
    trigger: &'a PgTrigger<'a>,
) -> Result<Option<NewRow<'a>>, Error> {
    if matches!(trigger.op()?, PgTriggerOperation::Delete) {
        notice_kept_audience(trigger).unwrap_or_else(|error| raise(error));
        return Ok(trigger.old().map(PgHeapTuple::into_owned));
    }
    if trigger.extra_args()?.first().is_some_and(|argument| argument == "delivery") {
        return Ok(Some(check_delivery(trigger).unwrap_or_else(|error| raise(error))));
    }
    Ok(Some(checked(trigger, check_subscription)))
}

/// After a watched table is written: captures the ids that were written.
#[pg_trigger]
fn segmenter_capture<'a>(trigger: &'a PgTrigger<'a>) -> Result<Option<NewRow<'a>>, Error> {
    capture(trigger).unwrap_or_else(|error| raise(error));
    Ok(None)
}

/// The row as it is written, checked by `check`.
fn checked<'a>(
    trigger: &'a PgTrigger<'a>,
    check: impl Fn(&'a PgTrigger<'a>) -> error::Result<NewRow<'a>>,
) -> NewRow<'a> {
    let row = match restored::is_early(trigger) {
        Ok(true) => new_row(trigger),
        Ok(false) => check(trigger),
        Err(error) => Err(error),
    };
    row.unwrap_or_else(|error| raise(error))
}

fn unless_early<'a>(
    trigger: &'a PgTrigger<'a>,
    work: impl Fn(&'a PgTrigger<'a>) -> error::Result<()>,
) {
    let done = restored::is_early(trigger)
        .and_then(|is_early| if is_early { Ok(()) } else { work(trigger) });
    done.unwrap_or_else(|error| raise(error));
}

fn notice_segments(trigger: &PgTrigger<'_>) -> error::Result<()> {
    let set = set_of(trigger)?;
    // What was ended must not come back after a crash.
    durable::flush_at_commit();
    let is_truncated = matches!(trigger.op()?, PgTriggerOperation::Truncate);
    if is_truncated && trigger.relation()?.oid() == set.segments() {
        state::delete_orphaned(&set, None)?;
    }
    system_catalog::invalidate(set.segments());
    Ok(())
}
