//! Claims: a consumer takes its next messages, in order, for a limited time.

use pgrx::datum::{Interval, Uuid};
use pgrx::prelude::*;
use pgrx::spi::{SpiClient, SpiHeapTupleData};
use serde_json::Value;

use super::admin::SubscriptionRow;
use super::{Consumer, acts_for, check_limit};
use crate::catalog::log::{self, LogStatus};
use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::config::Key;
use crate::error::{Error, Result};
use crate::pg::exec::durable;
use crate::pg::exec::kept::Kept;
use crate::pg::exec::role;
use crate::pg::format::json::JsonbText;
use crate::pg::format::uuid;

/// A claimed message.
pub struct Message {
    pub id: i64,
    pub lease: Uuid,
    pub subscription: Uuid,
    pub segment: Uuid,
    pub audience: String,
    pub external_id: Option<String>,
    pub target: String,
    pub operation: String,
    pub part: i32,
    pub parts: i32,
    pub members: i32,
    pub attempt: i32,
    pub payload: JsonbText,
}

impl Message {
    /// A message of a subscription, from a row of the outbox, under a lease.
    pub(super) fn read(
        row: &SpiHeapTupleData<'_>,
        subscription: Uuid,
        (lease, attempt): (Uuid, i32),
    ) -> Result<Self> {
        let text = |column: &str| {
            Ok::<_, Error>(row.get_by_name::<String, _>(column)?.unwrap_or_default())
        };
        let number =
            |column: &str| Ok::<_, Error>(row.get_by_name::<i32, _>(column)?.unwrap_or_default());
        let payload: Option<JsonbText> = row.get_by_name("payload")?;
        Ok(Self {
            id: row.get_by_name("id")?.unwrap_or_default(),
            lease,
            subscription,
            segment: row.get_by_name("segment_id")?.ok_or(Error::MissingValue("segment_id"))?,
            audience: text("audience")?,
            external_id: row.get_by_name("external_id")?,
            target: text("target")?,
            operation: text("operation")?,
            part: number("part")?,
            parts: number("parts")?,
            members: number("members")?,
            attempt,
            payload: payload.unwrap_or_else(|| JsonbText("{}".into())),
        })
    }
}

/// Claims the next messages of one subscription, in order, for the time `lease`. Among the
/// subscriptions without a valid lease it takes the one whose waiting message is the oldest. Empty:
/// no message waits. Errors: an argument out of range, an unknown consumer, a caller that may not
/// act for it.
pub fn claim(
    set: &RelationSet,
    consumer: &str,
    max_messages: i32,
    lease: Interval,
) -> Result<Vec<Message>> {
    let problem =
        |name, problem: &str| Err(Error::Argument { name, problem: problem.to_owned(), hint: "" });
    if max_messages < 1 {
        return problem("max_messages", "it must be at least 1");
    }
    if lease.as_micros() <= 0 {
        return problem("lease", "it must be longer than zero");
    }
    check_limit("lease", &lease)?;
    let found = Consumer::find(set, Key::Name(consumer))?;
    let consumer = found.ok_or_else(|| Error::UnknownConsumer(consumer.into()))?;
    if !acts_for(set, role::current(), consumer.role) {
        return Err(Error::NotConsumer(consumer.name));
    }
    claim_of(set, &consumer, max_messages, lease)
}

/// The condition that the next message of a subscription waits for others.
pub(super) fn held_back(set: &RelationSet) -> String {
    set.sql(&queries::delivery::IS_HELD_BACK, &[]).trim_end().to_owned()
}

pub fn claim_of(
    set: &RelationSet,
    consumer: &Consumer,
    max_messages: i32,
    lease: Interval,
) -> Result<Vec<Message>> {
    set.as_owner(|| {
        // This look-up is read-only, so that no transaction id is assigned if nothing waits.
        let waiting: Option<Vec<Uuid>> = Spi::connect(|client| {
            let parts = [("is_held_back", &*held_back(set))];
            let sql = set.sql(&queries::delivery::claim::FIND_CANDIDATES, &parts);
            client.select(Kept::new(sql), Some(1), &[consumer.id.into()])?.first().get_one()
        })?;
        for subscription in waiting.unwrap_or_default() {
            let claimed = Spi::connect_mut(|client| {
                claim_from(client, set, consumer, subscription, max_messages, lease)
            })?;
            if !claimed.is_empty() {
                return Ok(claimed);
            }
        }
        Ok(Vec::new())
    })
}

/// Claims messages of one subscription; empty if another session was faster. Each statement has a
/// snapshot of its own, so what is read after the cursor was locked stays true.
fn claim_from(
    client: &mut SpiClient<'_>,
    set: &RelationSet,
    consumer: &Consumer,
    subscription: Uuid,
    max_messages: i32,
    lease: Interval,
) -> Result<Vec<Message>> {
    let row = client
        .update(
            &set.sql(&queries::delivery::claim::LOCK_CURSOR, &[]),
            Some(1),
            &[subscription.into()],
        )?
        .first();
    if row.is_empty() {
        return Ok(Vec::new());
    }
    durable::flush_at_commit();
    let attempts: i32 = row.get_by_name("attempts")?.unwrap_or_default();
    if attempts.unsigned_abs() >= consumer.params.max_attempts {
        // No attempt is left: the last one was not answered, or more were permitted then.
        let last: Option<String> = row.get_by_name("last_error")?;
        let error = match (row.get_by_name::<bool, _>("has_lease")?, last) {
            (Some(true), _) => format!(
                "no attempt is left after {attempts}: the lease of the last one ran out without an answer"
            ),
            (_, Some(last)) => format!("no attempt is left after {attempts}: {last}"),
            (_, None) => format!("no attempt is left after {attempts}"),
        };
        return give_up(client, set, subscription, &error).map(|()| Vec::new());
    }

    let args = [subscription.into(), i64::from(max_messages).into()];
    let id = uuid::time_ordered();
    let mut messages = Vec::new();
    for row in
        client.update(&set.sql(&queries::delivery::claim::LIST_MESSAGES, &[]), None, &args)?
    {
        if row.get_by_name::<bool, _>("is_available")? != Some(true) {
            break;
        }
        messages.push(Message::read(&row, subscription, (id, attempts + 1))?);
    }
    if let Some(last) = messages.last() {
        let args = [subscription.into(), id.into(), lease.into(), last.id.into()];
        client.update(&set.sql(&queries::delivery::claim::TAKE_LEASE, &[]), None, &args)?;
    }
    Ok(messages)
}

/// Marks a subscription, whose cursor is locked, as failed: it waits for an operator.
fn give_up(
    client: &mut SpiClient<'_>,
    set: &RelationSet,
    subscription: Uuid,
    error: &str,
) -> Result<()> {
    let now = log::interval(std::time::Duration::ZERO);
    client.update(
        &set.sql(&queries::delivery::ack::SCHEDULE_RETRY, &[]),
        None,
        &[subscription.into(), error.into(), now.into()],
    )?;
    client.update(&set.sql(&queries::delivery::MARK_FAILED, &[]), None, &[subscription.into()])?;
    let subscribed = SubscriptionRow::find(set, subscription)?;
    subscribed.log(set, LogStatus::Failed, error, Value::Null)
}
