//! Subscribes a consumer to a segment: creates the subscription, and the consumer if it is new.

use pgrx::JsonB;
use pgrx::datum::Uuid;
use pgrx::prelude::*;
use serde_json::Value;

use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::error::{Error, Result};
use crate::pg::exec::role::{self, RegRole};

/// Subscribes a consumer to a segment with the rights of the caller only, as the caller could by
/// hand. A new consumer gets the caller's role. Returns the subscription's id.
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
            // No row limit here: a statement that stops after its first row does not fire its
            // statement-level triggers.
            let id = client
                .update(&set.sql(&queries::ops::subscribe::INSERT_SUBSCRIPTION, &[]), None, &args)?
                .first()
                .get_one()?;
            id.ok_or(Error::Spi(pgrx::spi::Error::InvalidPosition))
        })
    })
}
