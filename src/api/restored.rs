//! Config rows that are restored from a dump.
//!
//! A dump of the extension's own set has the names of roles in `guards` and `params`: read as a
//! `regrole`, one role that does not exist would keep every row of the table from being restored. The
//! triggers take the names out again and look the roles up.

use pgrx::prelude::*;
use serde_json::{Map, Value};

use super::triggers::NewRow;
use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::config::Subject;
use crate::error::{self, Error, SetError};
use crate::pg::exec::role::{self, RegRole};
use crate::pg::exec::statement;
use crate::pg::format::json::JsonbText;
use crate::pg::system_catalog;

const OWNER: &str = "restored_owner";
const ROLE: &str = "restored_role";
const SUBSCRIBERS: &str = "restored_subscribers";

/// Whether rows of a set are restored before the registry: pg_dump orders the data of tables by their
/// names. They are taken as they are, just as where a whole dump is restored, which creates the
/// triggers at its end.
pub(super) fn is_early(trigger: &PgTrigger<'_>) -> error::Result<bool> {
    if !system_catalog::references_are_deferred() {
        return Ok(false);
    }
    match RelationSet::of(trigger.relation()?.oid()) {
        Err(Error::Set(SetError::Foreign(_))) => Ok(true),
        _ => Ok(false),
    }
}

/// Sets the owner of a restored segment. If there is no role of its name, the segment has no owner,
/// which a WARNING says. Returns whether the row is restored.
pub(super) fn take_owner(row: &mut NewRow<'_>, subject: Subject<'_>) -> error::Result<bool> {
    let Some(names) = take_names(row, "guards", &[OWNER])? else { return Ok(false) };
    let name = names.get(OWNER).and_then(Value::as_str);
    let owner = name.and_then(role::named);
    if owner.is_none() {
        warn(&format!("{subject} has no owner"), name, "owner");
    }
    row.set_by_name("owner", RegRole(owner.unwrap_or(pg_sys::InvalidOid)))?;
    Ok(true)
}

/// Sets the role and the subscribers of a restored consumer, as far as they exist. Returns whether the
/// row is restored.
pub(super) fn take_roles(row: &mut NewRow<'_>, subject: Subject<'_>) -> error::Result<bool> {
    let Some(names) = take_names(row, "params", &[ROLE, SUBSCRIBERS])? else { return Ok(false) };
    if let Some(name) = names.get(ROLE).and_then(Value::as_str) {
        let role = role::named(name);
        if role.is_none() {
            warn(&format!("{subject} has no role"), Some(name), "role");
        }
        row.set_by_name("role", RegRole(role.unwrap_or(pg_sys::InvalidOid)))?;
    }
    let listed = names.get(SUBSCRIBERS).and_then(Value::as_array);
    let mut subscribers = Vec::new();
    for name in listed.into_iter().flatten().filter_map(Value::as_str) {
        match role::named(name) {
            Some(role) => subscribers.push(RegRole(role)),
            None => warn(&format!("{subject} lacks a subscriber"), Some(name), "subscribers"),
        }
    }
    if !subscribers.is_empty() {
        row.set_by_name("subscribers", subscribers)?;
    }
    Ok(true)
}

/// Takes the names out of a column. None: the row is not restored from a dump.
fn take_names(
    row: &mut NewRow<'_>,
    column: &str,
    keys: &[&str],
) -> error::Result<Option<Map<String, Value>>> {
    let Some(text) = row.get_by_name::<JsonbText>(column)? else { return Ok(None) };
    // What cannot be parsed is reported where it is validated.
    let Ok(Value::Object(object)) = text.parse() else { return Ok(None) };
    if !keys.iter().any(|key| object.contains_key(*key)) {
        return Ok(None);
    }
    // The rest stays as it is, numbers as they were written.
    let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
    let args = [text.into(), keys.into()];
    let rest = Spi::connect(|_| {
        statement::read_one::<JsonbText>(queries::config::REMOVE_KEYS.text(), &args)
    })?;
    row.set_by_name(column, rest.ok_or(Error::MissingValue("object"))?)?;
    Ok(Some(object))
}

fn warn(what: &str, name: Option<&str>, column: &'static str) {
    let name = name.filter(|name| !name.is_empty()).map(str::to_owned);
    error::emit_warning(what, &Error::RoleNotRestored { name, column }.report());
}
