//! Rows of consumers, before they are written.

use pgrx::datum::Uuid;
use pgrx::prelude::*;

use super::row::{
    NewRow, check_member, check_name_and_period, is_endless, is_free, is_restored, json, new_row,
    set_of, text,
};
use super::segment::check_interval;
use crate::api::restored;
use crate::api::written::warn_of_consumer;
use crate::catalog::queries;
use crate::config::{self, ConfigError, ConsumerParams, Subject, Updater};
use crate::error::{self, Error};
use crate::pg::bgw::activity;
use crate::pg::exec::role;

/// The longest payload of a notification, in bytes. A consumer is notified with its name.
pub(super) const MAX_CONSUMER: usize = 7999;

pub(super) fn check_consumer<'a>(trigger: &'a PgTrigger<'a>) -> error::Result<NewRow<'a>> {
    let set = set_of(trigger)?;
    let mut row = new_row(trigger)?;
    let name = text(&row, "name")?.unwrap_or_default();
    let subject = Subject::Consumer(&name);
    restored::take_roles(&mut row, subject)?;
    let params = config::consumer_params(json(&row, "params", subject)?, subject)?;
    check_name_and_period(trigger, &row, subject)?;
    if name.len() > MAX_CONSUMER {
        return Err(Error::Config(ConfigError {
            column: "name",
            subject: "the consumer".into(),
            problem: format!("it has {} bytes, more than {MAX_CONSUMER}", name.len()),
            hint: Some("NOTIFY sends the name, and its payload cannot be longer.".into()),
        }));
    }
    check_updater(&params, subject)?;
    let old = trigger.old();
    if let Some(role) = row.get_by_name::<pg_sys::Oid>("role")? {
        let before = old.as_ref().map(|old| old.get_by_name("role")).transpose()?.flatten();
        check_member(&set, role::current(), before, role, subject)?;
    } else if !role::may_act_as(role::current(), set.owner) {
        let role = role::name(role::current());
        return Err(Error::NoRole { consumer: subject.to_string(), role });
    }
    if let Some(old) = &old {
        if old.get_by_name::<Uuid>("id")? != row.get_by_name::<Uuid>("id")? {
            let problem = "it cannot be changed, since subscriptions refer to it";
            return Err(Error::Config(ConfigError::new("id", subject, problem, "")));
        }
        is_free(&set, &queries::config::CONSUMER_NAME_IS_TAKEN, old, &row, subject)?;
    }
    if is_endless(row.get_by_name("actual_end")?) && !is_restored(&set) {
        warn_of_consumer(&set, &name, row.get_by_name("role")?, &params);
    }
    // A row that a dump brings has one: its database is another place.
    if row.get_by_name::<String>("home")?.is_none() {
        row.set_by_name("home", activity::place())?;
    }
    Ok(row)
}

/// Checks the parameters of a consumer that workers serve.
pub(super) fn check_updater(params: &ConsumerParams, subject: Subject<'_>) -> error::Result<()> {
    let timeout = match &params.updater {
        Updater::Pull | Updater::Server(_) => &None,
        Updater::Function(function) => &function.timeout,
        Updater::Http(http) => &http.timeout,
    };
    check_interval("params", "timeout", timeout, subject)?;
    check_interval("params", "list_every", &params.list_every, subject)
}
