//! Delivery: messages are claimed by consumers or pushed by workers, then acknowledged, retried or
//! skipped.

use pgrx::JsonB;
use pgrx::datum::Uuid;
use pgrx::prelude::*;
use pgrx::spi::SpiClient;

use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::config::{self, ConsumerParams, Key, Subject};
use crate::error::Result;
use crate::pg::exec::role;

mod ack;
pub mod admin;
mod claim;
pub mod push;
mod resync;

pub use ack::{ack, nack};
pub use admin::{retry, skip};
pub use claim::claim;
pub use resync::resync;

/// The form of a receipt, for hints.
pub const RECEIPT: &str = "A receipt is an object of external_id and message (texts), coverage, num_received and num_invalid (numbers of members), and whatever else is worth keeping.";

/// A consumer, the role that it acts as, and its parsed parameters.
pub struct Consumer {
    pub id: Uuid,
    pub name: String,
    pub role: Option<pg_sys::Oid>,
    pub params: ConsumerParams,
}

impl Consumer {
    pub fn find(set: &RelationSet, key: Key<'_>) -> Result<Option<Self>> {
        let (name, id) = match key {
            Key::Name(name) => (Some(name), None),
            Key::Id(id) => (None, Some(id)),
        };
        set.as_owner(|| {
            Spi::connect(|client| {
                let row = client
                    .select(
                        &set.sql(&queries::delivery::FIND_CONSUMER, &[]),
                        Some(1),
                        &[name.into(), id.into()],
                    )?
                    .first();
                if row.is_empty() {
                    return Ok(None);
                }
                let (Some(id), Some(name)) =
                    (row.get_by_name("id")?, row.get_by_name::<String, _>("name")?)
                else {
                    return Ok(None);
                };
                let params = row.get_by_name::<JsonB, _>("params")?.map(|json| json.0);
                let subject = Subject::Consumer(&name);
                Ok(Some(Self {
                    params: config::consumer_params(params.unwrap_or_default(), subject)?,
                    role: row.get_by_name("role")?,
                    id,
                    name,
                }))
            })
        })
    }
}

/// Whether the role `caller` may act for a consumer whose role is `consumer`: it may act as that
/// role, or as the set's owner.
fn acts_for(set: &RelationSet, caller: pg_sys::Oid, consumer: Option<pg_sys::Oid>) -> bool {
    role::may_act_as(caller, set.owner)
        || consumer.is_some_and(|role| role::may_act_as(caller, role))
}

/// What an acknowledgement changes in the state of an audience.
#[derive(Clone, Copy, Default)]
struct DeliveryUpdate<'a> {
    /// The audience's id in the target system, if the receipt has one.
    external_id: Option<&'a str>,
    /// The audience was deleted; `is_final`: and the last acknowledged message was that deletion.
    is_deleted: bool,
    is_final: bool,
}

fn set_status(
    client: &mut SpiClient<'_>,
    set: &RelationSet,
    subscription: Uuid,
    update: DeliveryUpdate<'_>,
) -> Result<()> {
    let DeliveryUpdate { external_id, is_deleted, is_final } = update;
    let args = [subscription.into(), external_id.into(), is_deleted.into(), is_final.into()];
    client.update(&set.sql(&queries::delivery::UPDATE_AUDIENCE_STATUS, &[]), None, &args)?;
    Ok(())
}
