//! Delivery: messages are claimed by consumers or pushed by workers, then acknowledged, retried or
//! skipped.

use pgrx::datum::{Interval, TimestampWithTimeZone, Uuid};
use pgrx::prelude::*;
use pgrx::spi::SpiClient;

use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::catalog::viewer::Viewer;
use crate::config::{self, ConsumerParams, Key, Subject};
use crate::error::{Error, Result};
use crate::pg::bgw::activity;
use crate::pg::exec::role;
use crate::pg::format::json::JsonbText;

mod ack;
pub mod admin;
pub mod audiences;
mod claim;
pub mod connector;
pub mod consent;
mod exchange;
pub mod push;
pub mod render;
mod resync;
mod take;

pub use ack::{ack, nack};
pub use admin::{SubscriptionName, resume_deliveries, retry, skip};
use claim::Message as Claimed;
pub use claim::claim;
pub use resync::resync;
pub use take::take;

/// The form of a receipt, for hints.
pub const RECEIPT: &str = "A receipt is an object of external_id and message (texts), coverage, num_received and num_invalid (numbers of members), and whatever else is worth keeping.";

/// Checks that an interval that a caller gives is finite and no longer than any that is meant.
fn check_limit(name: &'static str, interval: &Interval) -> Result<()> {
    const MAX_YEARS: i128 = 1000;
    const YEAR: i128 = 366 * 24 * 60 * 60 * 1_000_000;
    if interval.as_micros() <= MAX_YEARS * YEAR {
        return Ok(());
    }
    let problem = format!("it must not be longer than {MAX_YEARS} years");
    Err(Error::Argument { name, problem, hint: "" })
}

/// A consumer, the role that it acts as, and its parsed parameters.
pub struct Consumer {
    pub id: Uuid,
    pub name: String,
    pub role: Option<pg_sys::Oid>,
    pub params: ConsumerParams,
    /// The cluster and the database whose workers deliver to it.
    home: Option<String>,
}

impl Consumer {
    /// Finds a consumer. Retired consumers are found, too. A name finds the consumer that the
    /// current role may act for, if it is that of several.
    pub fn find(set: &RelationSet, key: Key<'_>) -> Result<Option<Self>> {
        let caller = role::current();
        let (name, id) = match key {
            Key::Name(name) => (Some(name), None),
            Key::Id(id) => (None, Some(id)),
        };
        set.as_owner(|| {
            Spi::connect(|client| {
                let row = client
                    .select(
                        set.kept(&queries::delivery::FIND_CONSUMER),
                        Some(1),
                        &[name.into(), id.into(), caller.into(), set.owner.into()],
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
                let subject = Subject::Consumer(&name);
                let params = config::parse("params", row.get_by_name("params")?, subject)?;
                Ok(Some(Self {
                    params: config::consumer_params(params, subject)?,
                    role: row.get_by_name("role")?,
                    home: row.get_by_name("home")?,
                    id,
                    name,
                }))
            })
        })
    }
}

impl Consumer {
    /// Whether this database is a copy of the one whose workers deliver to it.
    pub fn is_paused(&self) -> bool {
        self.home.as_ref() != Some(&activity::place())
    }
}

/// Whether the role `caller` may act for a consumer whose role is `consumer`: it may act as that
/// role, or as the set's owner.
pub fn acts_for(set: &RelationSet, caller: pg_sys::Oid, consumer: Option<pg_sys::Oid>) -> bool {
    role::may_act_as(caller, set.owner)
        || consumer.is_some_and(|role| role::may_act_as(caller, role))
}

/// The delivery state of a subscription, as the current role may see it.
pub struct Delivered {
    pub subscription: Uuid,
    /// How many messages wait for delivery.
    pub pending: i64,
    pub at: Option<TimestampWithTimeZone>,
    pub receipt: Option<JsonbText>,
    pub error: Option<String>,
    /// The consumer's name.
    pub consumer: String,
}

/// The delivery state of the active subscriptions to segments that the current role may act as the owner of,
/// and of the consumers that it may act for, or of all if it may see figures of all. Only the answers of
/// consumers that it may act for are shown.
pub fn delivered(set: &RelationSet) -> Result<Vec<Delivered>> {
    let viewer = Viewer::current(set);
    let args = [viewer.role.into(), set.owner.into(), viewer.sees_figures.into()];
    set.as_owner(|| {
        Spi::connect(|client| {
            let sql = set.sql(&queries::delivery::LIST_DELIVERED, &[]);
            let missing = || Error::MissingValue("subscription_id");
            let rows = client.select(&sql, None, &args)?.map(|row| {
                Ok(Delivered {
                    subscription: row.get_by_name("subscription_id")?.ok_or_else(missing)?,
                    pending: row.get_by_name("pending_messages")?.unwrap_or_default(),
                    at: row.get_by_name("delivered_at")?,
                    receipt: row.get_by_name("last_receipt")?,
                    error: row.get_by_name("last_error")?,
                    consumer: row.get_by_name("consumer")?.unwrap_or_default(),
                })
            });
            rows.collect()
        })
    })
}

/// What an acknowledgement or a resync changes in the state of an audience.
#[derive(Clone, Copy, Default)]
struct DeliveryUpdate<'a> {
    /// The audience's id in the target system, if the receipt has one.
    external_id: Option<&'a str>,
    /// The audience was deleted, or is gone; `is_final`: and the last acknowledged message was that deletion.
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
    client.update(set.kept(&queries::delivery::UPDATE_AUDIENCE_STATUS), None, &args)?;
    Ok(())
}
