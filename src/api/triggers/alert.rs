//! Rows of alert rules: they are checked before they are written, and their subscriptions are kept with them.

use pgrx::datum::{TimestampWithTimeZone, Uuid};
use pgrx::prelude::*;

use super::row::{NewRow, Row, check_period, is_endless, is_restored, json, new_row, set_of, text};
use super::segment::check_interval;
use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::config::{self, ConfigError, Subject};
use crate::delivery::consent::Parties;
use crate::error::{self, Error};
use crate::pg::exec::durable;
use crate::pg::exec::role;
use crate::pg::exec::statement::read_one;
use crate::pg::format::json::JsonbText;
use crate::pg::format::uuid;
use crate::pg::system_catalog;

/// Before a rule is written.
pub(super) fn check_alert<'a>(trigger: &'a PgTrigger<'a>) -> error::Result<NewRow<'a>> {
    let set = set_of(trigger)?;
    let mut row = new_row(trigger)?;
    let consumer = row.get_by_name::<Uuid>("consumer_id")?;
    let parties = Parties::find(&set, None, consumer)?;
    let name = match (parties.consumer(), consumer) {
        (Some(name), _) => name.to_owned(),
        (None, id) => id.map(|id| id.to_string()).unwrap_or_default(),
    };
    let subject = Subject::Alert(&name);
    if let Some(column) = system_catalog::null_columns(trigger).into_iter().next() {
        return Err(Error::Null { column, subject: subject.to_string() });
    }
    check_period(&row, subject)?;
    let old = trigger.old();
    if let Some(old) = &old {
        for column in ["id", "consumer_id"] {
            if old.get_by_name::<Uuid>(column)? != row.get_by_name::<Uuid>(column)? {
                let problem = "it cannot be changed: end this rule and make another";
                return Err(ConfigError::new(column, subject, problem, "").into());
            }
        }
        if old.get_by_name::<String>("owner_name")? != text(&row, "owner_name")? {
            let problem = "it cannot be changed: end this rule, and have the other role make one";
            return Err(ConfigError::new("owner_name", subject, problem, "").into());
        }
        keep_owner(old, &mut row)?;
    }
    let is_restored = is_restored(&set);
    let is_new = match &old {
        Some(old) => {
            old.get_by_name::<JsonbText>("rule")? != row.get_by_name::<JsonbText>("rule")?
        }
        None => true,
    };
    let is_active = is_endless(row.get_by_name("actual_end")?);
    let was_active = match &old {
        Some(old) => is_endless(old.get_by_name("actual_end")?),
        None => false,
    };
    // Either party may end a rule; everything else is its owner's.
    if old.is_some() && (is_new || is_active && !was_active) && !acts_for_owner(&row)? {
        return Err(Error::NotParty {
            what: subject.to_string(),
            who: "Members of the role that it belongs to change a rule; members of the consumer's role can end it: set actual_end = now().",
        });
    }
    if old.is_none() && !is_restored {
        parties.check_consumer(&set, subject)?;
        match text(&row, "owner_name")? {
            None => row.set_by_name("owner_name", role::name(role::current()))?,
            Some(_) if acts_for_owner(&row)? => {}
            Some(name) => {
                return Err(Error::NotMember { role: name, subject: subject.to_string() });
            }
        }
    }
    if is_new {
        let rule = config::alert_rule(json(&row, "rule", subject)?, subject)?;
        for (key, interval) in rule.intervals() {
            check_interval("rule", key, &Some(interval.to_owned()), subject)?;
        }
        if !is_restored {
            check_segments(&set, rule.segments.unwrap_or_default(), subject)?;
        }
    }
    if is_active && !is_restored {
        parties.check_consent(&set)?;
        parties.check_takes_alerts(&set, subject)?;
    }
    keep_subscription(&set, &mut row, (old.is_some(), is_restored), subject)?;
    Ok(row)
}

/// A rule stays that of its role: a role that is renamed keeps it, and another one that takes the name of one that
/// was renamed or dropped does not get it.
fn keep_owner(old: &Row<'_>, row: &mut NewRow<'_>) -> error::Result<()> {
    let owner = old.get_by_name::<pg_sys::Oid>("owner")?;
    if let Some(owner) = owner.filter(|owner| *owner != pg_sys::InvalidOid) {
        row.set_by_name("owner_name", role::exists(owner).then(|| role::name(owner)))?;
    }
    Ok(())
}

/// Whether the caller may act as the role that a rule belongs to. A superuser may also where there is none.
fn acts_for_owner(row: &NewRow<'_>) -> error::Result<bool> {
    let owner = text(row, "owner_name")?.and_then(|name| role::named(&name));
    let caller = role::current();
    Ok(owner.is_some_and(|owner| role::may_act_as(caller, owner)) || role::is_superuser(caller))
}

/// Checks that the caller may see the segments that a rule names.
fn check_segments(
    set: &RelationSet,
    names: Vec<String>,
    subject: Subject<'_>,
) -> error::Result<()> {
    let args = [names.into(), role::current().into()];
    let unknown: Option<String> = set.as_owner(|| {
        let sql = set.sql(&queries::config::FIND_UNKNOWN_SEGMENT, &[]);
        Spi::connect(|_| read_one(&sql, &args))
    })?;
    match unknown {
        None => Ok(()),
        Some(name) => Err(ConfigError::new(
            "rule",
            subject,
            format!("\"segments\": segment \"{name}\" does not exist"),
            "Name active segments whose owner you are a member of, or \"*\" for all of these.",
        )
        .into()),
    }
}

/// Writes the subscription that delivers the alerts of a rule, or the end of it. A row that a dump brings has
/// its subscription.
fn keep_subscription(
    set: &RelationSet,
    row: &mut NewRow<'_>,
    (is_known, is_restored): (bool, bool),
    subject: Subject<'_>,
) -> error::Result<()> {
    let id = match row.get_by_name::<Uuid>("id")? {
        Some(id) => id,
        None => uuid::time_ordered(),
    };
    row.set_by_name("id", id)?;
    durable::flush_at_commit();
    let begin = row.get_by_name::<TimestampWithTimeZone>("actual_begin")?;
    let end = row.get_by_name::<TimestampWithTimeZone>("actual_end")?;
    if is_known {
        return set.write(&queries::config::END_ALERT, &[id.into(), begin.into(), end.into()]);
    }
    let consumer = row.get_by_name::<Uuid>("consumer_id")?;
    let args = [
        id.into(),
        consumer.into(),
        begin.into(),
        end.into(),
        is_restored.into(),
        row.get_by_name::<JsonbText>("rule")?.into(),
        text(row, "owner_name")?.into(),
    ];
    let is_right: Option<bool> = set.as_owner(|| {
        Spi::connect_mut(|client| {
            let sql = set.kept(&queries::config::SUBSCRIBE_ALERT);
            client.update(sql, None, &args)?.first().get_one()
        })
    })?;
    match is_right {
        Some(true) => Ok(()),
        _ => {
            let problem = "a subscription has it that is not that of a rule for this consumer";
            Err(ConfigError::new("id", subject, problem, "Leave it out: each rule gets one.")
                .into())
        }
    }
}

/// After a rule was deleted: deletes its subscription, and with it what waits.
pub(super) fn delete_subscription(trigger: &PgTrigger<'_>) -> error::Result<()> {
    let Some(old) = trigger.old() else { return Ok(()) };
    let id = old.get_by_name::<Uuid>("id")?;
    set_of(trigger)?.write(&queries::config::UNSUBSCRIBE_ALERT, &[id.into()])
}
