//! Rows of subscriptions, before they are written or deleted.

use pgrx::datum::Uuid;
use pgrx::prelude::*;

use super::connector;
use super::row::{
    NewRow, check_name_and_period, check_period, check_text, is_ended, is_endless, is_restored,
    json, new_row, set_of, text,
};
use crate::catalog::relation_set::{Relation, RelationSet};
use crate::config::segment_table::Table;
use crate::config::{self, ConfigError, Key, Segment, Selection, Subject};
use crate::delivery::consent::Parties;
use crate::error::{self, Error};
use crate::pg::exec::role;
use crate::pg::format::json::JsonbText;
use crate::pg::system_catalog;
use crate::refresh::publish::filter::Filter;
use crate::refresh::publish::payload;
use crate::refresh::publish::subscription::{self, Subscription};

pub(super) fn check_subscription<'a>(trigger: &'a PgTrigger<'a>) -> error::Result<NewRow<'a>> {
    let set = set_of(trigger)?;
    let row = new_row(trigger)?;
    let target = text(&row, "target")?.unwrap_or_default();
    let subject = Subject::Subscription(&target);
    if row.get_by_name::<Uuid>("segment_id")?.is_none() {
        return check_of_alerts(&set, trigger, row, subject);
    }
    let parties = parties(&set, &row)?;
    if let Some(old) = trigger.old()
        && is_ended(&old, &row)?
    {
        // Either party may end it, whether or not its config is valid.
        parties.check_ends(&set, subject)?;
        check_period(&row, subject)?;
        return Ok(row);
    }
    let params = config::subscription_params(json(&row, "params", subject)?, subject)?;
    check_name_and_period(trigger, &row, subject)?;
    check_target(trigger, &row, subject)?;
    if trigger.old().is_none() && !system_catalog::references_are_deferred() {
        parties.check_consumer(&set, subject)?;
    }
    if trigger.old().is_none() {
        check_status(&row, subject)?;
    }
    config::cron("cron", text(&row, "cron")?.as_deref(), subject)?;
    config::timezone("timezone", text(&row, "timezone")?.as_deref(), subject)?;
    let segment = row.get_by_name::<Uuid>("segment_id")?;
    if let Some(old) = trigger.old() {
        let stays = segment == old.get_by_name("segment_id")?
            && row.get_by_name::<Uuid>("id")? == old.get_by_name("id")?
            && row.get_by_name::<Uuid>("consumer_id")? == old.get_by_name("consumer_id")?;
        if !stays {
            return Err(Error::Config(ConfigError {
                column: "segment_id, consumer_id or id",
                subject: subject.to_string(),
                problem: "it cannot be changed, since the audience is identified by it".into(),
                hint: Some("End this subscription and make another.".into()),
            }));
        }
    }
    // Only changed parameters are checked. So if the fields have become invalid, other columns can
    // still be changed, and the subscription can be ended.
    let are_new = match trigger.old() {
        Some(old) => {
            let before = old.get_by_name::<JsonbText>("params")?;
            before != row.get_by_name::<JsonbText>("params")?
        }
        None => true,
    };
    if let Some(segment) = segment
        && are_new
    {
        check_selection(&set, segment, &params.selection, subject)?;
        if let Some(spec) = parties.connector(&set) {
            connector::check_subscription(&spec, &params, subject)?;
        }
    }
    // A new row is up to the policies.
    if trigger.old().is_some() {
        parties.check_config(&set, subject)?;
    }
    if is_endless(row.get_by_name("actual_end")?) {
        parties.check_consent(&set)?;
    }
    // When a dump is restored, they may follow.
    if trigger.old().is_none() && !system_catalog::references_are_deferred() {
        parties.check_segment(&set, subject)?;
        warn_of_family(&set, segment, subject);
    }
    if trigger.old().is_none() {
        let status = text(&row, "status")?;
        let is_set = status.is_some_and(|status| status != "not uploaded");
        for (column, is_set) in
            [("status", is_set), ("external_id", text(&row, "external_id")?.is_some())]
        {
            if is_set {
                parties.check_delivery(&set, column, subject)?;
            }
        }
    }
    Ok(row)
}

/// Warns of a subscription of a family, whose audience is empty. A segment whose row is not valid has its own
/// messages.
fn warn_of_family(set: &RelationSet, segment: Option<Uuid>, subject: Subject<'_>) {
    let found = segment.and_then(|segment| Segment::find(set, Key::Id(segment)).ok().flatten());
    if let Some(found) = found.filter(|found| found.kinship.is_family()) {
        error::emit_warning(&subject.to_string(), &Error::IsFamily(found.name).report());
    }
}

/// A subscription without a segment is that of a rule of alerts, which writes it.
fn check_of_alerts<'a>(
    set: &RelationSet,
    trigger: &'a PgTrigger<'a>,
    row: NewRow<'a>,
    subject: Subject<'_>,
) -> error::Result<NewRow<'a>> {
    let old = trigger.old();
    let is_ours = match &old {
        None => role::current() == set.owner || is_restored(set),
        Some(old) => {
            role::current() == set.owner && old.get_by_name::<Uuid>("segment_id")?.is_none()
        }
    };
    match text(&row, "target")?.as_deref() {
        Some("alerts") if is_ours => Ok(row),
        _ => {
            let column = "segment_id".to_owned();
            Err(Error::Null { column, subject: subject.to_string() })
        }
    }
}

/// Checks the target of a subscription, and the placeholders in the name of its audience.
pub(super) fn check_target(
    trigger: &PgTrigger<'_>,
    row: &NewRow<'_>,
    subject: Subject<'_>,
) -> error::Result<()> {
    if !system_catalog::references_are_deferred() {
        check_text(trigger, row, "target", subject)?;
    }
    let name = text(row, "name")?.unwrap_or_default();
    let old = trigger.old().map(|old| old.get_by_name::<String>("name")).transpose()?.flatten();
    if old.as_ref() != Some(&name)
        && let Some(unknown) = config::unknown_placeholder(&name)
    {
        error::emit(
            PgLogLevel::WARNING,
            format!(
                "{{{{{unknown}}}}} in the name of {subject} is no placeholder, and stays as it is"
            ),
            Some("The placeholders are {{name}} (the segment's), {{consumer}} and {{target}}."),
        );
    }
    Ok(())
}

pub(super) fn check_status(row: &NewRow<'_>, subject: Subject<'_>) -> error::Result<()> {
    match text(row, "status")?.as_deref() {
        None | Some("not uploaded" | "queued" | "uploaded" | "failed") => Ok(()),
        Some(_) => Err(Error::Check {
            column: "status",
            subject: subject.to_string(),
            problem: "it must be not uploaded, queued, uploaded or failed",
        }),
    }
}

/// The status and the external id of a subscription are what deliveries say.
pub(super) fn check_delivery<'a>(trigger: &'a PgTrigger<'a>) -> error::Result<NewRow<'a>> {
    let row = new_row(trigger)?;
    let target = text(&row, "target")?.unwrap_or_default();
    check_status(&row, Subject::Subscription(&target))?;
    // Our own statements run as the set's owner: nothing is looked up for them.
    if system_catalog::owner_of(&trigger.relation()?) == role::current() {
        return Ok(row);
    }
    let set = set_of(trigger)?;
    let is_changed = |column| -> error::Result<bool> {
        let before = trigger.old().map(|old| old.get_by_name::<String>(column)).transpose()?;
        Ok(before.flatten() != text(&row, column)?)
    };
    let parties = parties(&set, &row)?;
    for column in ["status", "external_id"] {
        if is_changed(column)? {
            parties.check_delivery(&set, column, Subject::Subscription(&target))?;
        }
    }
    Ok(row)
}

pub(super) fn parties(set: &RelationSet, row: &NewRow<'_>) -> error::Result<Parties> {
    Parties::find(set, row.get_by_name("segment_id")?, row.get_by_name("consumer_id")?)
}

/// Checks that the fields are columns of the segment's table, and the filter a condition on them. If the
/// table cannot be checked now, the next refresh reports the error.
pub(super) fn check_selection(
    set: &RelationSet,
    segment: Uuid,
    selection: &Selection,
    subject: Subject<'_>,
) -> error::Result<()> {
    let Ok(Some(segment)) = Segment::find(set, Key::Id(segment)) else { return Ok(()) };
    if !role::may_act_as(role::current(), segment.owner) {
        return Ok(());
    }
    let check_table = || Table::check(set, segment.table, segment.holder());
    let Ok(mut table) = check_table() else { return Ok(()) };
    loop {
        let checked = check_selection_of(set, (&table, segment.owner), selection, subject);
        match checked {
            // Nothing locks the table: a column may have been dropped meanwhile.
            Err(error) => match check_table() {
                Ok(altered) if altered != table => table = altered,
                _ => return Err(error),
            },
            Ok(()) => return Ok(()),
        }
    }
}

fn check_selection_of(
    set: &RelationSet,
    (table, owner): (&Table, pg_sys::Oid),
    Selection { fields, filter }: &Selection,
    subject: Subject<'_>,
) -> error::Result<()> {
    payload::check_fields(table, fields).map_err(|error| {
        Error::Config(ConfigError {
            column: "params",
            subject: subject.to_string(),
            problem: format!("\"fields\": {error}"),
            hint: Some("Name columns of the segment's table.".into()),
        })
    })?;
    match filter {
        // When a dump is restored, the functions that it calls may not work yet.
        Some(filter) if !system_catalog::references_are_deferred() => {
            Filter::analyse(set, (table, owner), filter, subject).map(drop)
        }
        _ => Ok(()),
    }
}

/// Before a subscription is deleted: warns that its audience stays at the consumer, which gets no
/// message.
pub(super) fn notice_kept_audience(trigger: &PgTrigger<'_>) -> error::Result<()> {
    let Some(old) = trigger.old() else { return Ok(()) };
    let set = set_of(trigger)?;
    let id = old.get_by_name::<Uuid>("id")?;
    let known = subscription::find(&set, None, None, id)?;
    if known.iter().any(Subscription::has_audience) {
        let target = old.get_by_name("target")?.unwrap_or_default();
        let subscriptions = set.display_name(Relation::Subscriptions);
        error::emit_warning(
            "a subscription is deleted",
            &Error::AudienceLeft { target, subscriptions }.report(),
        );
    }
    Ok(())
}
