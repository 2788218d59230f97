//! Acknowledgements (ack) and negative acknowledgements (nack) of claimed messages.

use std::time::Duration;

use pgrx::JsonB;
use pgrx::datum::{Interval, Uuid};
use pgrx::prelude::*;
use pgrx::spi::SpiClient;
use serde_json::{Value, json};

use super::{DeliveryUpdate, acts_for, check_limit, set_status};
use crate::catalog::log::{self, Action, Entry, LogCounts, LogStatus};
use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::catalog::settings;
use crate::config::{self, Subject};
use crate::error::{Error, Result};
use crate::pg::clock;
use crate::pg::exec::durable;
use crate::pg::exec::role;
use segmenter_core::due::backoff;
use segmenter_core::receipt::Receipt;

/// Error texts of consumers are cut to this number of bytes.
const MAX_ERROR: usize = 2000;

/// A message under a valid lease. Its row of the deliveries is locked.
struct LeasedMessage {
    subscription: Uuid,
    target: String,
    segment: (Uuid, String),
    run_id: Option<Uuid>,
    operation: String,
    attempts: i32,
    max_attempts: u32,
    /// It was acknowledged before.
    is_delivered: bool,
    /// The deletion of the audience is acknowledged with this message, by itself or by an earlier
    /// one.
    deletes: bool,
    what: Value,
}

impl LeasedMessage {
    /// Checks the lease and the rights of the caller, and locks the message. An invented lease locks
    /// nothing. Errors: [`Error::NoLease`], [`Error::NotConsumer`].
    fn find(
        client: &mut SpiClient<'_>,
        set: &RelationSet,
        caller: pg_sys::Oid,
        lease: Uuid,
        message: i64,
    ) -> Result<Self> {
        let no_lease = || Error::NoLease { lease, message };
        let args = [message.into(), lease.into()];
        let row =
            client.select(set.kept(&queries::delivery::ack::FIND_LEASE), Some(1), &args)?.first();
        if row.is_empty() {
            return Err(no_lease());
        }
        if !acts_for(set, caller, row.get_by_name("role")?) {
            let consumer = row.get_by_name::<String, _>("consumer")?;
            return Err(Error::NotConsumer(consumer.unwrap_or_default()));
        }
        let row =
            client.update(set.kept(&queries::delivery::ack::LOCK_LEASE), Some(1), &args)?.first();
        if row.is_empty() {
            return Err(no_lease());
        }
        let text = |column: &str| {
            Ok::<_, Error>(row.get_by_name::<String, _>(column)?.unwrap_or_default())
        };
        let number =
            |column: &str| Ok::<_, Error>(row.get_by_name::<i64, _>(column)?.unwrap_or_default());
        let count =
            |column: &str| Ok::<_, Error>(row.get_by_name::<i32, _>(column)?.unwrap_or_default());
        if message > number("leased_through")? {
            return Err(no_lease());
        }
        let consumer = text("consumer")?;
        if !acts_for(set, caller, row.get_by_name("role")?) {
            return Err(Error::NotConsumer(consumer));
        }
        let subject = Subject::Consumer(&consumer);
        let params = config::parse("params", row.get_by_name("params")?, subject)?;
        let params = config::consumer_params(params, subject)?;
        let operation = text("operation")?;
        let attempts = count("attempts")?;
        Ok(Self {
            subscription: row.get_by_name("subscription_id")?.ok_or_else(no_lease)?,
            target: text("target")?,
            segment: (row.get_by_name("segment_id")?.ok_or_else(no_lease)?, text("segment")?),
            run_id: row.get_by_name("run_id")?,
            max_attempts: params.max_attempts,
            is_delivered: message <= number("delivered_through")?,
            deletes: row.get_by_name::<bool, _>("deletes")?.unwrap_or_default(),
            what: json!({
                "message_id": message,
                "consumer": consumer,
                "operation": operation,
                "part": count("part")?,
                "parts": count("parts")?,
                "members": count("members")?,
                "attempt": attempts,
            }),
            attempts,
            operation,
        })
    }

    fn log(
        &self,
        set: &RelationSet,
        status: LogStatus,
        counts: LogCounts,
        message: Option<&str>,
        receipt: Option<Value>,
    ) -> Result<()> {
        let mut params = self.what.clone();
        if let Some(receipt) = receipt {
            params["receipt"] = receipt;
        }
        let entry = Entry {
            run_id: self.run_id,
            action: Action::Deliver,
            status,
            segment: (Some(self.segment.0), &self.segment.1),
            subscription: Some((self.subscription, &self.target)),
            counts,
            began: clock::now(),
            elapsed: None,
            message,
            error: None,
            params,
            reason: None,
        };
        log::write(set, entry)
    }
}

/// Acknowledges the messages of a subscription up to and including `message`, which must be under
/// the lease. Repeating an acknowledgement changes nothing.
pub fn ack(set: &RelationSet, lease: Uuid, message: i64, receipt: &Receipt) -> Result<()> {
    let acked = ack_held(set, lease, message, receipt);
    match acked {
        // Messages written by an erasure are deleted when they are delivered. So a repeated
        // acknowledgement may not find its message.
        Err(Error::NoLease { .. }) if was_delivered(set, lease, message)? => Ok(()),
        acked => acked,
    }
}

/// How far apart the cursors are that are remembered to tell when messages were delivered: a part of
/// the time that delivered messages are kept.
pub(super) fn mark_interval() -> Interval {
    let kept = settings::outbox_retention().and_then(|kept| kept.to_std().ok());
    log::interval(kept.map_or(Duration::from_secs(24 * 3600), |kept| kept / 16))
}

fn was_delivered(set: &RelationSet, lease: Uuid, message: i64) -> Result<bool> {
    let consumer = set.as_owner(|| {
        Spi::connect(|client| {
            let row = client
                .select(
                    &set.sql(&queries::delivery::ack::WAS_DELIVERED, &[]),
                    Some(1),
                    &[lease.into(), message.into()],
                )?
                .first();
            let role = if row.is_empty() { None } else { Some(row.get_one::<pg_sys::Oid>()?) };
            Ok::<_, Error>(role)
        })
    })?;
    Ok(consumer.is_some_and(|role| acts_for(set, role::current(), role)))
}

fn ack_held(set: &RelationSet, lease: Uuid, message: i64, receipt: &Receipt) -> Result<()> {
    with_leased(set, lease, message, |client, leased| {
        if leased.is_delivered {
            return Ok(());
        }
        let whole = (!receipt.whole.is_empty()).then(|| Value::Object(receipt.whole.clone()));
        let args = [
            leased.subscription.into(),
            message.into(),
            whole.clone().map(JsonB).into(),
            mark_interval().into(),
            receipt.coverage.into(),
            receipt.num_invalid.unwrap_or_default().into(),
            false.into(),
        ];
        client.update(set.kept(&queries::delivery::ack::ADVANCE_CURSOR), None, &args)?;
        client.update(
            &set.sql(&queries::delivery::ack::DELETE_ERASED_MESSAGES, &[]),
            None,
            &[leased.subscription.into(), message.into()],
        )?;
        let is_final = leased.operation == "delete";
        // An external id in the receipt of a `delete` is the id of the deleted audience, so it is
        // not kept.
        let update = DeliveryUpdate {
            external_id: receipt.external_id.as_deref().filter(|_| !is_final),
            is_deleted: leased.deletes,
            is_final,
        };
        set_status(client, set, leased.subscription, update)?;
        let counts = LogCounts {
            received: receipt.num_received,
            invalid: receipt.num_invalid,
            coverage: receipt.coverage,
            ..LogCounts::default()
        };
        leased.log(set, LogStatus::Ok, counts, receipt.message.as_deref(), whole)
    })
}

/// Records that a message under the lease could not be delivered. It is retried after
/// `retry_after`, by default with exponential backoff. After the consumer's `max_attempts` the
/// message is stuck: it waits for an operator. An acknowledged message is an error
/// ([`Error::NoLease`]), and so is a negative `retry_after`.
pub fn nack(
    set: &RelationSet,
    lease: Uuid,
    message: i64,
    error: &str,
    retry_after: Option<Interval>,
) -> Result<()> {
    refuse(set, (lease, message), error, retry_after, false)
}

/// Records that a message under the lease cannot be delivered, however often it is tried: it waits for
/// an operator.
pub fn stop(set: &RelationSet, lease: Uuid, message: i64, error: &str) -> Result<()> {
    refuse(set, (lease, message), error, None, true)
}

fn refuse(
    set: &RelationSet,
    (lease, message): (Uuid, i64),
    error: &str,
    retry_after: Option<Interval>,
    is_final: bool,
) -> Result<()> {
    if retry_after.is_some_and(|wait| wait.as_micros() < 0) {
        let problem = "it must not be negative".into();
        return Err(Error::Argument { name: "retry_after", problem, hint: "" });
    }
    if let Some(wait) = &retry_after {
        check_limit("retry_after", wait)?;
    }
    let error = truncate_utf8(error);
    with_leased(set, lease, message, |client, leased| {
        if leased.is_delivered {
            return Err(Error::NoLease { lease, message });
        }
        let wait = retry_after.unwrap_or_else(|| {
            let wait = backoff(leased.attempts.unsigned_abs(), settings::retry_delay());
            log::interval(wait.and_then(|wait| wait.to_std().ok()).unwrap_or_default())
        });
        client.update(
            &set.sql(&queries::delivery::ack::SCHEDULE_RETRY, &[]),
            None,
            &[leased.subscription.into(), error.into(), wait.into()],
        )?;
        if is_final || leased.attempts.unsigned_abs() >= leased.max_attempts {
            client.update(
                &set.sql(&queries::delivery::MARK_FAILED, &[]),
                None,
                &[leased.subscription.into()],
            )?;
        }
        leased.log(set, LogStatus::Failed, LogCounts::default(), Some(error), None)
    })
}

fn with_leased<T>(
    set: &RelationSet,
    lease: Uuid,
    message: i64,
    body: impl FnOnce(&mut SpiClient<'_>, &LeasedMessage) -> Result<T>,
) -> Result<T> {
    let caller = role::current();
    set.as_owner(|| {
        Spi::connect_mut(|client| {
            let leased = LeasedMessage::find(client, set, caller, lease, message)?;
            durable::flush_at_commit();
            body(client, &leased)
        })
    })
}

/// Cuts a text to at most [`MAX_ERROR`] bytes, at the boundary of a character.
pub(super) fn truncate_utf8(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_ERROR)]
}
