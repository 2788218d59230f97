//! Resync of consumers whose copy of the audience is out of date.

use pgrx::datum::Uuid;

use super::admin::{SubscriptionRow, drop_pending};
use crate::catalog::relation_set::RelationSet;
use crate::error::{Error, Result};
use crate::refresh::handover::{from_table, latest};
use crate::refresh::publish::subscription::Subscription;
use crate::refresh::segment_lock::acquire;

/// Discards the waiting messages of a subscription and writes all members as `replace`. Returns the
/// number of messages written. Errors: the subscription has ended, the segment is locked, or its
/// table cannot be read.
pub fn resync(set: &RelationSet, subscription: Uuid, run_id: Uuid) -> Result<u64> {
    let subscribed = SubscriptionRow::of_caller(set, subscription)?;
    let (segment, name) = &subscribed.segment;
    let _held = acquire(set, *segment, name)?;
    let (_snapshot, segment) = latest(set, *segment)?;
    let begins = drop_pending(set, &subscribed)?;
    let action = |subscription: &Subscription| subscription.recreate_action(begins);
    let handed = from_table(set, &segment, run_id, action, Some(subscription))?;
    match (handed.messages, handed.failed) {
        (_, 1..) => Err(Error::NotHandedOver { target: subscribed.target }),
        (0, _) => Err(Error::EndedSubscription(subscription)),
        (messages, _) => Ok(messages),
    }
}
