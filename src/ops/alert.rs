//! Rules of alerts.

use pgrx::datum::Uuid;
use pgrx::prelude::PgSqlErrorCode as Code;
use pgrx::prelude::*;

use super::subscribe::{consumer, role_named, unless_taken};
use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::error::{Error, Result};
use crate::pg::exec::role;
use crate::pg::format::json::JsonbText;

/// Makes a rule with the rights of the caller only, as the caller could by hand. A new consumer gets the
/// caller's role. Returns the rule's id.
pub fn alert(
    set: &RelationSet,
    name: &str,
    rule: JsonbText,
    consumer_role: Option<&str>,
) -> Result<Uuid> {
    let wanted = consumer_role.map(role_named).transpose()?;
    let consumer = consumer(set, name, role::current(), wanted)?;
    set.write_as_caller(|| {
        Spi::connect_mut(|client| {
            let args = [consumer.into(), rule.into()];
            let sql = set.sql(&queries::ops::alert::INSERT_ALERT, &[]);
            let id = unless_taken(
                || Ok(client.update(&sql, None, &args)?.first().get_one()?),
                || Error::Exists {
                    code: Code::ERRCODE_UNIQUE_VIOLATION,
                    what: format!("the same rule of alerts for \"{name}\""),
                    hint: "To have it reported otherwise, end that one: set actual_end = now()."
                        .into(),
                },
            )?;
            id.ok_or(Error::MissingValue("id"))
        })
    })
}
