//! The functions for consumers, and for those who look after them.

use pgrx::JsonB;
use pgrx::datum::{Interval, Uuid};
use pgrx::prelude::*;

use super::require_arg;
use crate::catalog::relation_set::RelationSet;
use crate::delivery;
use crate::error::{Error, raise};
use crate::ops::erase;
use crate::ops::subscribe;
use crate::pg::format::json::JsonbText;
use crate::schedule::run;
use segmenter_core::jsonb;
use segmenter_core::receipt::Receipt;

/// A message with its members, which are taken as they are, in place of the object that
/// `jsonb_build_object` would make of them one by one. Used where messages are written.
///
/// - `head`: everything but the members.
/// - `members`: an array.
#[pg_extern(sql = "
create function segmenter_message(head jsonb, members jsonb) returns jsonb
language c immutable strict parallel safe as 'MODULE_PATHNAME', '@FUNCTION_NAME@';
")]
fn segmenter_message(head: &[u8], members: &[u8]) -> Vec<u8> {
    jsonb::with_key(head, "members", members).unwrap_or_else(|| raise(Error::MessageTooLarge))
}

/// Subscribes a consumer to a segment.
///
/// - `consumer`: the consumer by its name; a new one is made, with the caller's role.
/// - `segment`: the segment by its name.
/// - `target`: the target system.
/// - `params`: how it is handed over: `mode`, `batch_size`, `fields`.
///
/// Gives the subscription's id. Its first messages are written at the next refresh or run.
///
/// ```sql
/// select segmenter_subscribe('crm', 'vip', 'newsletter', '{"fields": ["id", "hash_email"]}');
/// ```
#[pg_extern]
fn segmenter_subscribe(
    consumer: Option<&str>,
    segment: Option<&str>,
    target: Option<&str>,
    params: default!(Option<JsonB>, "'{}'"),
) -> Uuid {
    let subscribe = || {
        subscribe::subscribe(
            &RelationSet::current()?,
            require_arg("consumer", consumer)?,
            require_arg("segment", segment)?,
            require_arg("target", target)?,
            require_arg("params", params)?.0,
        )
    };
    subscribe().unwrap_or_else(|error| raise(error))
}

/// Claims the next messages for a consumer, in their order, of one subscription that nobody holds.
/// Commit before you act on them.
///
/// - `consumer`: the consumer by its name; the caller is a member of its role.
/// - `max_messages`: how many at most.
/// - `lease`: for how long nobody else gets them.
///
/// Gives a row for each message; none where nothing waits. Each is to be acknowledged by
/// `segmenter_ack`, or given back by `segmenter_nack`; when the lease runs out it is handed out again.
///
/// ```sql
/// select * from segmenter_claim('crm', 10);
/// ```
#[pg_extern]
#[allow(clippy::type_complexity)]
fn segmenter_claim(
    consumer: Option<&str>,
    max_messages: default!(Option<i32>, "1"),
    lease: default!(Option<Interval>, "'5 minutes'"),
) -> TableIterator<
    'static,
    (
        name!(message_id, i64),
        name!(lease, Uuid),
        name!(subscription_id, Uuid),
        name!(audience, String),
        name!(external_id, Option<String>),
        name!(target, String),
        name!(operation, String),
        name!(part, i32),
        name!(parts, i32),
        name!(members, i32),
        name!(attempt, i32),
        name!(payload, JsonbText),
    ),
> {
    let claim = || {
        let (consumer, max) =
            (require_arg("consumer", consumer)?, require_arg("max_messages", max_messages)?);
        delivery::claim(&RelationSet::current()?, consumer, max, require_arg("lease", lease)?)
    };
    let messages = claim().unwrap_or_else(|error| raise(error));
    TableIterator::new(messages.into_iter().map(|message| {
        (
            message.id,
            message.lease,
            message.subscription,
            message.audience,
            message.external_id,
            message.target,
            message.operation,
            message.part,
            message.parts,
            message.members,
            message.attempt,
            message.payload,
        )
    }))
}

/// Acknowledges messages: the subscription is delivered through this one.
///
/// - `lease`, `message_id`: as they were claimed.
/// - `receipt`: what the consumer says of it: `external_id` (the audience's id there), `coverage`,
///   `num_received`, `num_invalid`, `message`; other keys are kept too. At most 64 KiB.
///
/// To acknowledge again does no harm. A lease that ran out and was taken by another is refused.
///
/// ```sql
/// select segmenter_ack('1b0c…', 17, '{"external_id": "238…", "num_received": 950}');
/// ```
#[pg_extern]
fn segmenter_ack(
    lease: Option<Uuid>,
    message_id: Option<i64>,
    receipt: default!(Option<JsonbText>, "'{}'"),
) {
    let ack = || {
        let (lease, message) =
            (require_arg("lease", lease)?, require_arg("message_id", message_id)?);
        let receipt = Receipt::parse(&require_arg("receipt", receipt)?.0).map_err(|problem| {
            Error::Argument { name: "receipt", problem, hint: delivery::RECEIPT }
        })?;
        delivery::ack(&RelationSet::current()?, lease, message, &receipt)
    };
    ack().unwrap_or_else(|error| raise(error))
}

/// Gives messages back that could not be delivered.
///
/// - `lease`, `message_id`: as they were claimed.
/// - `error`: why.
/// - `retry_after`: when to try again; by default after `segmenter.retry_delay`, doubled with each
///   attempt up to an hour.
///
/// After the consumer's `max_attempts` the subscription is `failed`, and waits for `segmenter_retry`,
/// `segmenter_skip` or `segmenter_resync`.
///
/// ```sql
/// select segmenter_nack('1b0c…', 17, 'the server answered 500', '10 minutes');
/// ```
#[pg_extern]
fn segmenter_nack(
    lease: Option<Uuid>,
    message_id: Option<i64>,
    error: Option<&str>,
    retry_after: default!(Option<Interval>, "NULL"),
) {
    let nack = || {
        let (lease, message) =
            (require_arg("lease", lease)?, require_arg("message_id", message_id)?);
        let error = require_arg("error", error)?;
        delivery::nack(&RelationSet::current()?, lease, message, error, retry_after)
    };
    nack().unwrap_or_else(|error| raise(error))
}

/// Has a subscription that failed, or waits to be tried again, go on at once. Gives how many messages
/// wait. The caller owns the segment, or acts for the consumer.
///
/// ```sql
/// select segmenter_retry(id) from segmenter_subscriptions where status = 'failed';
/// ```
#[pg_extern]
fn segmenter_retry(subscription: Option<Uuid>) -> i64 {
    let retry =
        || delivery::retry(&RelationSet::current()?, require_arg("subscription", subscription)?);
    retry().unwrap_or_else(|error| raise(error))
}

/// Passes over the message that a subscription is at. Gives its id; null: nothing waits. What it said
/// is lost to the consumer, unless `segmenter_resync` follows.
///
/// ```sql
/// select segmenter_skip(id) from segmenter_subscriptions where status = 'failed';
/// ```
#[pg_extern]
fn segmenter_skip(subscription: Option<Uuid>) -> Option<i64> {
    let skip =
        || delivery::skip(&RelationSet::current()?, require_arg("subscription", subscription)?);
    skip().unwrap_or_else(|error| raise(error))
}

/// Drops what waits for a subscription, and hands over every member in place of what the consumer
/// has. Gives the number of messages.
///
/// ```sql
/// select segmenter_resync(id) from segmenter_subscriptions where target = 'newsletter';
/// ```
#[pg_extern]
fn segmenter_resync(subscription: Option<Uuid>) -> i64 {
    let resync = || {
        let subscription = require_arg("subscription", subscription)?;
        delivery::resync(&RelationSet::current()?, subscription, run::new_id()?)
    };
    resync().unwrap_or_else(|error| raise(error)) as i64
}

/// Erases a person: in one transaction from every segment of roles that the caller is a member of, with
/// all history, and from messages; each consumer that was told of the person is told to remove them.
/// Erase the person from the segments' sources first, or the next refresh brings them back.
///
/// - `id`: the member's key.
///
/// Gives a row for each segment that held the person: how many rows were deleted, and how many messages
/// tell of it.
///
/// ```sql
/// select * from segmenter_erase('42');
/// ```
#[pg_extern]
fn segmenter_erase(
    id: Option<&str>,
) -> TableIterator<'static, (name!(segment, String), name!(rows, i64), name!(messages, i64))> {
    let erase = || erase::erase(&RelationSet::current()?, require_arg("id", id)?, run::new_id()?);
    let erased = erase().unwrap_or_else(|error| raise(error));
    TableIterator::new(
        erased.into_iter().map(|of| (of.segment, of.rows as i64, of.messages as i64)),
    )
}
