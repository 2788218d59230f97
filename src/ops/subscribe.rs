//! The short way to a subscription: its row, and the consumer's where that is new.

use pgrx::JsonB;
use pgrx::datum::Uuid;
use pgrx::prelude::*;
use serde_json::Value;

use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::error::{Error, Result};
use crate::pg::exec::role::{self, RegRole};

/// Subscribes a consumer to a segment as its caller could by hand, with no rights but the caller's
/// own. A new consumer gets the caller's role.
pub fn subscribe(
    set: &RelationSet,
    consumer: &str,
    segment: &str,
    target: &str,
    params: Value,
) -> Result<Uuid> {
    set.as_caller(|| {
        Spi::connect_mut(|client| {
            let args = [segment.into(), consumer.into()];
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
                    let args = [consumer.into(), RegRole(role::current()).into()];
                    client
                        .update(
                            &set.sql(&queries::ops::subscribe::INSERT_CONSUMER, &[]),
                            None,
                            &args,
                        )?
                        .first()
                        .get_one()?
                }
            };
            let args = [consumer.into(), segment.into(), target.into(), JsonB(params).into()];
            // To its end: a statement that is left after its first row fires no statement triggers.
            let id = client
                .update(&set.sql(&queries::ops::subscribe::INSERT_SUBSCRIPTION, &[]), None, &args)?
                .first()
                .get_one()?;
            id.ok_or(Error::Spi(pgrx::spi::Error::InvalidPosition))
        })
    })
}
