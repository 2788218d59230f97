//! Resync of consumers whose copy of the audience is out of date: at once for the segment's owner, by
//! the segment's next run for the consumer.

use pgrx::datum::Uuid;
use pgrx::prelude::*;

use super::admin::{SubscriptionRow, drop_pending};
use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::error::{Error, Result, emit};
use crate::pg::exec::durable;
use crate::pg::exec::role;
use crate::pg::system_catalog;
use crate::refresh::handover::{from_table, latest};
use crate::refresh::publish::subscription::{self, Subscription};
use crate::refresh::segment_lock::acquire;

/// Discards the waiting messages of a subscription and writes all members as `replace`. Returns the
/// number of messages written. Errors: the subscription has ended, the segment is locked, or its
/// table cannot be read.
///
/// A caller that does not own the segment, but acts for the consumer, only requests it, and the
/// result is 0: it must not be able to lock the segment or to write many messages.
pub fn resync(set: &RelationSet, subscription: Uuid, run_id: Uuid) -> Result<u64> {
    let subscribed = SubscriptionRow::of_caller(set, subscription)?;
    let Some((segment, name)) = &subscribed.segment else {
        return Err(Error::NoResync { what: "alerts", target: subscribed.target });
    };
    if !subscribed.is_owned_by(role::current()) {
        check_resync(set, &subscribed, name)?;
        request(set, subscription)?;
        emit(
            PgLogLevel::NOTICE,
            "the resync is made by the next run of the segment".into(),
            Some("What waits is discarded then, and all members follow."),
        );
        return Ok(0);
    }
    let _held = acquire(set, *segment, name)?;
    let (_snapshot, segment) = latest(set, *segment)?;
    check_resync(set, &subscribed, name)?;
    let begins = drop_pending(set, &subscribed)?;
    let action = |subscription: &Subscription| subscription.recreate_action(begins);
    let handed = from_table(set, &segment, run_id, action, Some(subscription))?;
    if handed.is_held() {
        return Err(Error::HeldBack { target: subscribed.target });
    }
    match (handed.messages, handed.failed) {
        (_, 1..) => Err(Error::NotHandedOver { target: subscribed.target }),
        (0, _) => Err(Error::EndedSubscription(subscription)),
        (messages, _) => Ok(messages),
    }
}

/// Checks that there are members to be handed over: events have none, and before the first successful
/// refresh of its segment a subscription is not served.
fn check_resync(set: &RelationSet, subscribed: &SubscriptionRow, segment: &str) -> Result<()> {
    let found = subscription::find(set, None, None, Some(subscribed.id))?;
    if found.iter().any(Subscription::is_events) {
        return Err(Error::NoResync { what: "events", target: subscribed.target.clone() });
    }
    match found.iter().any(Subscription::is_unready) {
        true => Err(Error::NeverRefreshed(segment.to_owned())),
        false => Ok(()),
    }
}

/// Requests a resync, which the segment's next run makes. A request that waits already stays; then the result
/// is false.
pub(super) fn request(set: &RelationSet, subscription: Uuid) -> Result<bool> {
    let found = subscription::find(set, None, None, Some(subscription))?;
    if !found.iter().any(|found| found.recreate_action(false).is_some()) {
        return Err(Error::EndedSubscription(subscription));
    }
    durable::flush_at_commit();
    let is_new = set.as_owner(|| {
        let sql = set.sql(&queries::delivery::admin::REQUEST_RESYNC, &[]);
        let args = [subscription.into()];
        Spi::connect_mut(|client| Ok::<_, Error>(!client.update(&sql, None, &args)?.is_empty()))
    })?;
    if is_new {
        system_catalog::invalidate(set.segments());
    }
    Ok(is_new)
}
