//! Resync of consumers whose copy of the audience is out of date.

use pgrx::datum::Uuid;

use super::admin::{Subscribed, drop_pending};
use crate::catalog::relation_set::Service;
use crate::error::{Error, Result};
use crate::refresh::handover::{from_table, latest};
use crate::refresh::publish::subscription::Subscription;
use crate::refresh::segment_lock::claim;

/// Drops what waits for a subscription and hands over every member in place of what is there.
/// Gives the number of messages.
pub fn resync(service: &Service, subscription: Uuid, run_id: Uuid) -> Result<u64> {
    let subscribed = Subscribed::of_caller(service, subscription)?;
    let (segment, name) = &subscribed.segment;
    let _held = claim(service, *segment, name)?;
    let (_snapshot, segment) = latest(service, *segment)?;
    let begins = drop_pending(service, &subscribed)?;
    let owed = |subscription: &Subscription| subscription.renewed(begins);
    let handed = from_table(service, &segment, run_id, owed, Some(subscription))?;
    match (handed.messages, handed.failed) {
        (_, 1..) => Err(Error::NotHandedOver { target: subscribed.target }),
        (0, _) => Err(Error::EndedSubscription(subscription)),
        (messages, _) => Ok(messages),
    }
}
