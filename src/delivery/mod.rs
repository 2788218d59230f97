//! Delivering: messages are claimed, and what became of them is told. Reads the outbox only.

use pgrx::JsonB;
use pgrx::datum::{Interval, Uuid};
use pgrx::prelude::*;
use pgrx::spi::SpiClient;
use serde_json::{Value, json};

use crate::config::{self, ConsumerParams, Subject};
use crate::due::backoff;
use crate::error::{Error, Result};
use crate::guc;
use crate::log::{self, Action, Counts, Entry, Status};
use crate::outbox;
use crate::pg::clock;
use crate::pg::json::JsonbText;
use crate::pg::role;
use crate::service::Service;

pub mod receipt;
pub mod serve;

use receipt::Receipt;

/// What a receipt is, for hints.
pub const RECEIPT: &str = "A receipt is an object of external_id and message (texts), coverage, num_received and num_invalid (numbers of members), and whatever else is worth keeping.";

/// So many bytes of what a consumer complains of are kept.
const LONGEST_ERROR: usize = 2000;

/// A consumer, and who may act for it.
pub struct Consumer {
    pub id: Uuid,
    pub name: String,
    pub role: Option<pg_sys::Oid>,
    pub params: ConsumerParams,
}

/// Which consumer is meant.
#[derive(Clone, Copy)]
pub enum Key<'a> {
    Name(&'a str),
    Id(Uuid),
}

impl Consumer {
    pub fn find(service: &Service, key: Key<'_>) -> Result<Option<Self>> {
        let sql = service.sql(include_str!("../../sql/query/consumer.sql"), &[]);
        let (name, id) = match key {
            Key::Name(name) => (Some(name), None),
            Key::Id(id) => (None, Some(id)),
        };
        service.run_as_owner(|| {
            Spi::connect(|client| {
                let row = client.select(&sql, Some(1), &[name.into(), id.into()])?.first();
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

/// Whether a role may act for a consumer with the role given.
fn acts_for(service: &Service, caller: pg_sys::Oid, consumer: Option<pg_sys::Oid>) -> bool {
    role::is_member(caller, service.owner)
        || consumer.is_some_and(|role| role::is_member(caller, role))
}

/// A message that was claimed.
pub struct Message {
    pub id: i64,
    pub lease: Uuid,
    pub subscription: Uuid,
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

/// Claims the next messages, in their order, of one subscription that nobody holds.
pub fn claim(
    service: &Service,
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
        return problem("lease", "it must be longer than nothing");
    }
    let found = Consumer::find(service, Key::Name(consumer))?;
    let consumer = found.ok_or_else(|| Error::UnknownConsumer(consumer.into()))?;
    if !acts_for(service, role::current(), consumer.role) {
        return Err(Error::NotConsumer(consumer.name));
    }
    claim_of(service, &consumer, max_messages, lease)
}

fn claim_of(
    service: &Service,
    consumer: &Consumer,
    max_messages: i32,
    lease: Interval,
) -> Result<Vec<Message>> {
    let candidates = service.sql(include_str!("../../sql/query/claim_candidates.sql"), &[]);
    service.run_as_owner(|| {
        // Without a transaction id where there is nothing to do.
        let waiting: Option<Vec<Uuid>> = Spi::connect(|client| {
            client.select(&candidates, Some(1), &[consumer.id.into()])?.first().get_one()
        })?;
        for subscription in waiting.unwrap_or_default() {
            let claimed = Spi::connect_mut(|client| {
                claim_from(client, service, consumer, subscription, max_messages, lease)
            })?;
            if !claimed.is_empty() {
                return Ok(claimed);
            }
        }
        Ok(Vec::new())
    })
}

/// Claims messages of one subscription; none where somebody else was faster. Every statement sees
/// what is committed by then, so that what is decided holds once the cursor is locked.
fn claim_from(
    client: &mut SpiClient<'_>,
    service: &Service,
    consumer: &Consumer,
    subscription: Uuid,
    max_messages: i32,
    lease: Interval,
) -> Result<Vec<Message>> {
    let lock = service.sql(include_str!("../../sql/query/claim_lock.sql"), &[]);
    let row = client.update(&lock, Some(1), &[subscription.into()])?.first();
    if row.is_empty() {
        return Ok(Vec::new());
    }
    let attempts: i32 = row.get_one()?.unwrap_or_default();
    if attempts.unsigned_abs() >= consumer.params.max_attempts {
        // Whoever held it has said nothing, time and again.
        let error = format!("the lease ran out {attempts} times");
        return give_up(client, service, subscription, &error).map(|()| Vec::new());
    }

    let sql = service.sql(include_str!("../../sql/query/claim_messages.sql"), &[]);
    let args = [subscription.into(), i64::from(max_messages).into()];
    let id = new_lease(client)?;
    let mut messages = Vec::new();
    for row in client.update(&sql, None, &args)? {
        if row.get_by_name::<bool, _>("is_available")? != Some(true) {
            break;
        }
        let text = |column: &str| Ok::<_, Error>(row.get_by_name::<String, _>(column)?);
        let number =
            |column: &str| Ok::<_, Error>(row.get_by_name::<i32, _>(column)?.unwrap_or_default());
        messages.push(Message {
            id: row.get_by_name("id")?.unwrap_or_default(),
            lease: id,
            subscription,
            audience: text("audience")?.unwrap_or_default(),
            external_id: text("external_id")?,
            target: text("target")?.unwrap_or_default(),
            operation: text("operation")?.unwrap_or_default(),
            part: number("part")?,
            parts: number("parts")?,
            members: number("members")?,
            attempt: attempts + 1,
            payload: row
                .get_by_name::<JsonbText, _>("payload")?
                .unwrap_or_else(|| JsonbText("{}".into())),
        });
    }
    if let Some(last) = messages.last() {
        let take = service.sql(include_str!("../../sql/query/claim_take.sql"), &[]);
        let args = [subscription.into(), id.into(), lease.into(), last.id.into()];
        client.update(&take, None, &args)?;
    }
    Ok(messages)
}

fn new_lease(client: &SpiClient<'_>) -> Result<Uuid> {
    let id = client.select("select pg_catalog.gen_random_uuid()", Some(1), &[])?.first().get_one();
    id?.ok_or(Error::Spi(pgrx::spi::Error::InvalidPosition))
}

/// A message in the hands of whoever holds its lease, its delivery locked.
struct Held {
    subscription: Uuid,
    target: String,
    segment: (Uuid, String),
    run_id: Option<Uuid>,
    operation: String,
    attempts: i32,
    max_attempts: u32,
    /// It was acknowledged before.
    is_delivered: bool,
    what: Value,
}

impl Held {
    /// Checks a lease, and who shows it.
    fn find(
        client: &mut SpiClient<'_>,
        service: &Service,
        caller: pg_sys::Oid,
        lease: Uuid,
        message: i64,
    ) -> Result<Self> {
        let sql = service.sql(include_str!("../../sql/query/lease.sql"), &[]);
        let row = client.update(&sql, Some(1), &[message.into()])?.first();
        let no_lease = || Error::NoLease { lease, message };
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
        let is_held = row.get_by_name::<Uuid, _>("lease")? == Some(lease);
        if !is_held || message > number("leased_through")? {
            return Err(no_lease());
        }
        let consumer = text("consumer")?;
        if !acts_for(service, caller, row.get_by_name("role")?) {
            return Err(Error::NotConsumer(consumer));
        }
        let params = row.get_by_name::<JsonB, _>("params")?.map(|json| json.0).unwrap_or_default();
        let params = config::consumer_params(params, Subject::Consumer(&consumer))?;
        let operation = text("operation")?;
        let attempts = count("attempts")?;
        Ok(Self {
            subscription: row.get_by_name("subscription_id")?.ok_or_else(no_lease)?,
            target: text("target")?,
            segment: (row.get_by_name("segment_id")?.ok_or_else(no_lease)?, text("segment")?),
            run_id: row.get_by_name("run_id")?,
            max_attempts: params.max_attempts,
            is_delivered: message <= number("delivered_through")?,
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
        service: &Service,
        status: Status,
        counts: Counts,
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
        };
        log::write(service, entry)
    }
}

/// Delivers a subscription through a message, which the lease is on. Saying so again is harmless.
pub fn ack(service: &Service, lease: Uuid, message: i64, receipt: &Receipt) -> Result<()> {
    with_held(service, lease, message, |client, held| {
        if held.is_delivered {
            return Ok(());
        }
        let args = [held.subscription.into(), message.into()];
        for text in [
            include_str!("../../sql/query/ack.sql"),
            include_str!("../../sql/query/ack_erased.sql"),
        ] {
            client.update(&service.sql(text, &[]), None, &args)?;
        }
        let is_over = held.operation == "delete";
        let external_id = receipt.external_id.as_deref();
        set_status(client, service, held.subscription, external_id, is_over)?;
        let counts = Counts {
            received: receipt.num_received,
            invalid: receipt.num_invalid,
            coverage: receipt.coverage,
            ..Counts::default()
        };
        let whole = (!receipt.whole.is_empty()).then(|| Value::Object(receipt.whole.clone()));
        held.log(service, Status::Ok, counts, receipt.message.as_deref(), whole)
    })
}

/// Says that a message, which the lease is on, could not be delivered. It is tried again after
/// `retry_after`, or later and later; after the consumer's `max_attempts` a person has to look.
pub fn nack(
    service: &Service,
    lease: Uuid,
    message: i64,
    error: &str,
    retry_after: Option<Interval>,
) -> Result<()> {
    if retry_after.is_some_and(|wait| wait.as_micros() < 0) {
        let problem = "it must not be negative".into();
        return Err(Error::Argument { name: "retry_after", problem, hint: "" });
    }
    let error = shortened(error);
    with_held(service, lease, message, |client, held| {
        if held.is_delivered {
            return Err(Error::NoLease { lease, message });
        }
        let wait = retry_after.unwrap_or_else(|| {
            let wait = backoff(held.attempts.unsigned_abs(), guc::retry_delay());
            log::interval(wait.and_then(|wait| wait.to_std().ok()).unwrap_or_default())
        });
        let sql = service.sql(include_str!("../../sql/query/nack.sql"), &[]);
        client.update(&sql, None, &[held.subscription.into(), error.into(), wait.into()])?;
        if held.attempts.unsigned_abs() >= held.max_attempts {
            let sql = service.sql(include_str!("../../sql/query/delivery_failed.sql"), &[]);
            client.update(&sql, None, &[held.subscription.into()])?;
        }
        held.log(service, Status::Failed, Counts::default(), Some(error), None)
    })
}

fn with_held<T>(
    service: &Service,
    lease: Uuid,
    message: i64,
    body: impl FnOnce(&mut SpiClient<'_>, &Held) -> Result<T>,
) -> Result<T> {
    let caller = role::current();
    service.run_as_owner(|| {
        Spi::connect_mut(|client| {
            let held = Held::find(client, service, caller, lease, message)?;
            body(client, &held)
        })
    })
}

fn set_status(
    client: &mut SpiClient<'_>,
    service: &Service,
    subscription: Uuid,
    external_id: Option<&str>,
    is_over: bool,
) -> Result<()> {
    let sql = service.sql(include_str!("../../sql/query/delivery_status.sql"), &[]);
    client.update(&sql, None, &[subscription.into(), external_id.into(), is_over.into()])?;
    Ok(())
}

/// Leaves a subscription, whose cursor is locked, to a person.
fn give_up(
    client: &mut SpiClient<'_>,
    service: &Service,
    subscription: Uuid,
    error: &str,
) -> Result<()> {
    let nack = service.sql(include_str!("../../sql/query/nack.sql"), &[]);
    let now = log::interval(std::time::Duration::ZERO);
    client.update(&nack, None, &[subscription.into(), error.into(), now.into()])?;
    let failed = service.sql(include_str!("../../sql/query/delivery_failed.sql"), &[]);
    client.update(&failed, None, &[subscription.into()])?;
    let subscribed = Subscribed::find(service, subscription)?;
    subscribed.log(service, Status::Failed, error, Value::Null)
}

/// A subscription as a person has to do with it.
pub struct Subscribed {
    pub id: Uuid,
    pub segment: (Uuid, String),
    pub consumer: String,
    pub target: String,
    owner: pg_sys::Oid,
    role: Option<pg_sys::Oid>,
}

impl Subscribed {
    fn find(service: &Service, id: Uuid) -> Result<Self> {
        let sql = service.sql(include_str!("../../sql/query/subscription.sql"), &[]);
        let unknown = || Error::UnknownSubscription(id);
        service.run_as_owner(|| {
            Spi::connect(|client| {
                let row = client.select(&sql, Some(1), &[id.into()])?.first();
                if row.is_empty() {
                    return Err(unknown());
                }
                let text = |column: &str| {
                    Ok::<_, Error>(row.get_by_name::<String, _>(column)?.unwrap_or_default())
                };
                Ok(Self {
                    id,
                    segment: (
                        row.get_by_name("segment_id")?.ok_or_else(unknown)?,
                        text("segment")?,
                    ),
                    consumer: text("consumer")?,
                    target: text("target")?,
                    owner: row.get_by_name("owner")?.unwrap_or(pg_sys::InvalidOid),
                    role: row.get_by_name("role")?,
                })
            })
        })
    }

    /// Finds one that the caller has a say in: he owns the segment, or acts for the consumer. To
    /// anybody else it does not exist.
    pub fn of_caller(service: &Service, id: Uuid) -> Result<Self> {
        let found = Self::find(service, id)?;
        let caller = role::current();
        if role::is_member(caller, found.owner) || acts_for(service, caller, found.role) {
            return Ok(found);
        }
        Err(Error::UnknownSubscription(id))
    }

    fn log(&self, service: &Service, status: Status, message: &str, params: Value) -> Result<()> {
        let entry = Entry {
            run_id: None,
            action: Action::Deliver,
            status,
            segment: (Some(self.segment.0), &self.segment.1),
            subscription: Some((self.id, &self.target)),
            counts: Counts::default(),
            began: clock::now(),
            elapsed: None,
            message: Some(message),
            error: None,
            params,
        };
        log::write(service, entry)
    }
}

/// What waits for a subscription.
struct Pending {
    count: i64,
    first: Option<i64>,
    last: Option<i64>,
    has_create: bool,
}

impl Pending {
    fn read(client: &mut SpiClient<'_>, service: &Service, subscription: Uuid) -> Result<Self> {
        let sql = service.sql(include_str!("../../sql/query/pending.sql"), &[]);
        let row = client.update(&sql, Some(1), &[subscription.into()])?.first();
        let values: Vec<Option<i64>> = row.get_one()?.unwrap_or_default();
        let value = |at: usize| values.get(at).copied().flatten();
        Ok(Self {
            count: value(0).unwrap_or_default(),
            first: value(1),
            last: value(2),
            has_create: value(3).unwrap_or_default() > 0,
        })
    }
}

/// Has a subscription go on at once, whatever has failed. Gives how many messages wait.
pub fn retry(service: &Service, subscription: Uuid) -> Result<i64> {
    let subscribed = Subscribed::of_caller(service, subscription)?;
    Ok(resume(service, &subscribed, |_| None)?.count)
}

/// Has a subscription go on after the message it is at. Gives that message; none: nothing waits.
pub fn skip(service: &Service, subscription: Uuid) -> Result<Option<i64>> {
    let subscribed = Subscribed::of_caller(service, subscription)?;
    let pending = resume(service, &subscribed, |pending| pending.first)?;
    if let Some(message) = pending.first {
        let told = format!("message {message} was passed over");
        let params = json!({ "message_id": message, "consumer": subscribed.consumer });
        subscribed.log(service, Status::Skipped, &told, params)?;
    }
    Ok(pending.first)
}

/// Drops whatever waits for a subscription. Says whether its audience's creation was among that.
pub fn drop_pending(service: &Service, subscribed: &Subscribed) -> Result<bool> {
    let pending = resume(service, subscribed, |pending| pending.last)?;
    if pending.count > 0 {
        let told =
            format!("{} messages were dropped, since everything is handed over", pending.count);
        let params = json!({ "message_id": pending.last, "consumer": subscribed.consumer });
        subscribed.log(service, Status::Skipped, &told, params)?;
    }
    Ok(pending.has_create)
}

/// Clears what stands in a subscription's way, and moves its cursor to `through`.
fn resume(
    service: &Service,
    subscribed: &Subscribed,
    through: impl FnOnce(&Pending) -> Option<i64>,
) -> Result<Pending> {
    service
        .run_as_owner(|| {
            Spi::connect_mut(|client| {
                let subscription = subscribed.id;
                let sql = service.sql(include_str!("../../sql/query/retry.sql"), &[]);
                // The first time it locks the cursor, so that what waits stays what it is.
                client.update(&sql, None, &[subscription.into(), None::<i64>.into()])?;
                let pending = Pending::read(client, service, subscription)?;
                if let Some(through) = through(&pending) {
                    client.update(&sql, None, &[subscription.into(), through.into()])?;
                }
                let sql = service.sql(include_str!("../../sql/query/retry_status.sql"), &[]);
                client.update(&sql, None, &[subscription.into()])?;
                set_status(client, service, subscription, None, false)?;
                outbox::notify(client, vec![&subscribed.consumer])?;
                Ok(pending)
            })
        })
        .and_then(|resumed| outbox::wake_workers(service).map(|()| resumed))
}

/// Cuts a complaint to what is worth keeping.
fn shortened(text: &str) -> &str {
    let mut end = text.len().min(LONGEST_ERROR);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
