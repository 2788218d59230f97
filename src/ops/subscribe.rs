//! Subscribes a consumer to a segment: creates the subscription, and the consumer if it is new.

use pgrx::JsonB;
use pgrx::datum::Uuid;
use pgrx::prelude::*;
use serde_json::Value;

use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::error::{Error, Result};
use crate::pg::exec::role::{self, RegRole};
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};

/// Subscribes a consumer to a segment with the rights of the caller only, as the caller could by
/// hand. A new consumer gets the caller's role. Returns the subscription's id.
pub fn subscribe(
    set: &RelationSet,
    name: &str,
    segment: &str,
    target: &str,
    params: Value,
) -> Result<Uuid> {
    set.as_caller(|| {
        Spi::connect_mut(|client| {
            let args = [segment.into(), name.into()];
            let found = client
                .update(&set.sql(&queries::ops::subscribe::FIND_BOTH, &[]), Some(1), &args)?
                .first()
                .get_two::<Uuid, Uuid>()?;
            let (Some(segment), known) = found else {
                return Err(set.unknown_segment(segment));
            };
            let consumer = match known {
                Some(consumer) => Some(consumer),
                None => {
                    let args = [name.into(), RegRole(role::current()).into()];
                    let sql = set.sql(&queries::ops::subscribe::INSERT_CONSUMER, &[]);
                    unless_taken(
                        || Ok(client.update(&sql, None, &args)?.first().get_one()?),
                        || Error::Exists {
                code: PgSqlErrorCode::ERRCODE_UNIQUE_VIOLATION,
                            what: format!("consumer \"{name}\" of another role"),
                            hint: "Its role, or the owner of the consumers' table, can subscribe it; or choose another name.".into(),
                        },
                    )?
                }
            };
            let args = [consumer.into(), segment.into(), target.into(), JsonB(params).into()];
            // No row limit here: a statement that stops after its first row does not fire its
            // statement-level triggers.
            let sql = set.sql(&queries::ops::subscribe::INSERT_SUBSCRIPTION, &[]);
            let id = unless_taken(
                || Ok(client.update(&sql, None, &args)?.first().get_one()?),
                || Error::Exists {
                code: PgSqlErrorCode::ERRCODE_UNIQUE_VIOLATION,
                    what: format!("the subscription of \"{name}\" for \"{target}\""),
                    hint: "A consumer has one active subscription to a segment for each target.".into(),
                },
            )?;
            id.ok_or(Error::MissingValue("id"))
        })
    })
}

/// Runs an insert; a value that exists already is the error `taken`.
fn unless_taken<T>(insert: impl FnOnce() -> Result<T>, taken: impl FnOnce() -> Error) -> Result<T> {
    in_subtransaction(OnSuccess::Commit, insert).map_err(|error| match &error {
        Error::Postgres(report)
            if report.sqlstate == PgSqlErrorCode::ERRCODE_UNIQUE_VIOLATION as i32 =>
        {
            taken()
        }
        _ => error,
    })
}
