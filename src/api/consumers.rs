//! The SQL functions for consumers, and for the administration of deliveries.

use pgrx::datum::{Interval, TimestampWithTimeZone, Uuid};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::require_arg;
use crate::catalog::extension::Extension;
use crate::catalog::log::LogStatus;
use crate::catalog::relation_set::RelationSet;
use crate::delivery;
use crate::error::{self, Error, SetError, TakeError};
use crate::ops::alert;
use crate::ops::erase;
use crate::ops::subscribe::{self, NewSubscription};
use crate::pg::exec::result_set::ResultSet;
use crate::pg::format::json::{JsonbBytes, JsonbText};
use crate::schedule::run;
use segmenter_core::jsonb::WithKey;
use segmenter_core::receipt::Receipt;

/// Builds the payload of a message: `head` with the key `members` added. The members are copied as
/// a whole; `jsonb_build_object` would copy them one by one. Used where messages are written.
///
/// - `head`: an object with everything but the members.
/// - `members`: an array.
#[pg_extern(sql = "
create function segmenter_message(head jsonb, members jsonb) returns jsonb
language c immutable strict parallel safe as 'MODULE_PATHNAME', '@FUNCTION_NAME@';
")]
fn segmenter_message(head: &[u8], members: &[u8]) -> Result<JsonbBytes, ErrorReport> {
    let message = WithKey::new(head, "members", members).ok_or(Error::MessageTooLarge)?;
    Ok(JsonbBytes::build(message.size(), |put| message.write(put)))
}

/// Subscribes a consumer to a segment.
///
/// - `consumer`: the name of the consumer. A new one is created, with the caller's role.
/// - `segment`: the name of the segment.
/// - `target`: the name of the target system at the consumer.
/// - `params`: how the segment is handed over: `mode`, `batch_size`, `fields`.
/// - `consumer_role`: the role that the consumer belongs to; a new one gets it. Needed where the
///   consumer belongs to a role that neither the caller nor the segment's owner is a member of, and
///   that does not list them as subscribers: anyone can create a consumer with a name.
///
/// Returns the subscription's id. The first messages are written at the next refresh or run.
///
/// ```sql
/// select segmenter_subscribe('crm', 'vip', 'newsletter', '{"fields": ["id", "hash_email"]}');
/// ```
#[pg_extern]
fn segmenter_subscribe(
    consumer: Option<&str>,
    segment: Option<&str>,
    target: Option<&str>,
    params: default!(Option<JsonbText>, "'{}'"),
    consumer_role: default!(Option<&str>, "NULL"),
) -> Result<Uuid, ErrorReport> {
    let request = NewSubscription {
        consumer: require_arg("consumer", consumer)?,
        segment: require_arg("segment", segment)?,
        target: require_arg("target", target)?,
        params: require_arg("params", params)?,
        consumer_role,
    };
    Ok(subscribe::subscribe(&RelationSet::writable()?, request)?)
}

/// Makes a rule of alerts: what goes wrong with segments is reported to the consumer, once when it begins and once when
/// it is over.
///
/// - `consumer`: the name of the consumer. A new one is created, with the caller's role.
/// - `rule`: `on`, a list of `failed`, `refused`, `waiting`, `late`, `size`, `delivery`, `drift` and `definition`, each
///   with a limit if wanted, such as `failed > 2`, `waiting > 2 hours` or `size > 30 %`; `segments`, `"*"` (the default)
///   or a list of names; `flapping`, `{"changes": 20, "within": "1 hour"}` by default, or `false`.
/// - `consumer_role`: the role that the consumer belongs to; a new one gets it. As for `segmenter_subscribe()`, it is
///   needed where the caller is not a member of it and not among the consumer's subscribers.
///
/// The rule covers segments whose owner the caller is a member of, also later ones. Returns its id, which is that of
/// the rule in `segmenter_alerts` and of the messages' subscription. Errors: a rule that is not valid (22023), the same
/// rule again (23505), a consumer that has not permitted it (42501).
///
/// ```sql
/// select segmenter_alert('ops', '{"on": ["failed", "refused", "waiting > 2 hours", "late"]}');
/// ```
#[pg_extern]
fn segmenter_alert(
    consumer: Option<&str>,
    rule: Option<JsonbText>,
    consumer_role: default!(Option<&str>, "NULL"),
) -> Result<Uuid, ErrorReport> {
    let consumer = require_arg("consumer", consumer)?;
    let rule = require_arg("rule", rule)?;
    Ok(alert::alert(&RelationSet::writable()?, consumer, rule, consumer_role)?)
}

/// Claims the next messages of one subscription of a consumer, in order. Among the subscriptions
/// without a valid lease it takes the one whose waiting message is the oldest. Commit before you
/// act on the messages.
///
/// - `consumer`: the name of the consumer. The caller must be a member of its role.
/// - `max_messages`: the highest number of messages.
/// - `lease`: the time during which no other session can claim the messages.
///
/// Returns a row for each message; no row if no message waits. Acknowledge each message with
/// `segmenter_ack`, or report a failure with `segmenter_nack`. When the lease runs out, the
/// messages can be claimed again.
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
) -> Result<
    TableIterator<
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
    >,
    ErrorReport,
> {
    let (consumer, max) =
        (require_arg("consumer", consumer)?, require_arg("max_messages", max_messages)?);
    let set = RelationSet::writable()?;
    let messages = delivery::claim(&set, consumer, max, require_arg("lease", lease)?)?;
    Ok(TableIterator::new(messages.into_iter().map(|message| {
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
    })))
}

/// Takes an audience as rows, for people: all its members, or what has changed of it since the last time.
///
/// - `consumer`, `segment`, `target`: the names of the subscription. The caller must be a member of the
///   consumer's role, and the background workers must not deliver to the consumer.
/// - `changes`: only what has changed since messages were acknowledged last. The column `change` of the list
///   says what: `added`, `changed` or `removed`.
///
/// The columns of the list are fields of the subscription, by their names and in any order, each of the type of
/// the column that it is or of type text. Members have the subscription's fields, and are those for whom its
/// `where` is true. The messages that say the same are acknowledged in this transaction, and the log says who has
/// taken how many members. A text that a spreadsheet would take for a formula gets an apostrophe before it; a
/// column that is declared as varchar, or as any other type, is given as it is.
///
/// Errors: a column that is no field (42703) or of another type (42804); messages that another session has claimed
/// (55P03); an audience that is held back, stuck, or has ended, and changes that are not known, because all members
/// were handed over again (55000).
///
/// ```sql
/// select * from segmenter_take('crm', 'vip', 'newsletter') as t (id text, hash_email text);
/// ```
#[pg_extern(sql = "
create function segmenter_take(consumer text, segment text, target text, changes boolean default false)
returns setof record
language c as 'MODULE_PATHNAME', '@FUNCTION_NAME@';
")]
fn segmenter_take(
    consumer: Option<&str>,
    segment: Option<&str>,
    target: Option<&str>,
    changes: Option<bool>,
    call: pg_sys::FunctionCallInfo,
) -> Result<(), ErrorReport> {
    let name = name(consumer, segment, target)?;
    let changes = require_arg("changes", changes)?;
    if !ResultSet::has_columns(call) {
        return Err(Error::from(TakeError::NoColumns).into());
    }
    let set = RelationSet::writable()?;
    delivery::take(&set, &name, changes, &ResultSet::of(call)?)?;
    Ok(())
}

/// Acknowledges messages: all messages of the subscription up to and including this one are
/// delivered.
///
/// - `lease`, `message_id`: as returned by the claim.
/// - `receipt`: what the consumer reports about the message: `external_id` (the audience's id in
///   the target system), `coverage`, `num_received`, `num_invalid`, `message`; other keys are kept,
///   too. At most 64 KiB.
///
/// Repeating an acknowledgement changes nothing. A lease that ran out and was replaced by another
/// one is an error.
///
/// ```sql
/// select segmenter_ack('1b0c…', 17, '{"external_id": "238…", "num_received": 950}');
/// ```
#[pg_extern]
fn segmenter_ack(
    lease: Option<Uuid>,
    message_id: Option<i64>,
    receipt: default!(Option<JsonbText>, "'{}'"),
) -> Result<(), ErrorReport> {
    let (lease, message) = (require_arg("lease", lease)?, require_arg("message_id", message_id)?);
    let receipt = Receipt::parse(&require_arg("receipt", receipt)?.0)
        .map_err(|problem| Error::Argument { name: "receipt", problem, hint: delivery::RECEIPT })?;
    delivery::ack(&RelationSet::writable()?, lease, message, &receipt)?;
    Ok(())
}

/// Reports that a message could not be delivered.
///
/// - `lease`, `message_id`: as returned by the claim.
/// - `error`: the reason.
/// - `retry_after`: the delay before the next attempt; by default `segmenter.retry_delay`, doubled
///   with each attempt up to an hour.
///
/// After the consumer's `max_attempts` the message is stuck: the subscription is `failed`, and
/// waits for `segmenter_retry`, `segmenter_skip` or `segmenter_resync`.
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
) -> Result<(), ErrorReport> {
    let (lease, message) = (require_arg("lease", lease)?, require_arg("message_id", message_id)?);
    let error = require_arg("error", error)?;
    delivery::nack(&RelationSet::writable()?, lease, message, error, retry_after)?;
    Ok(())
}

/// Makes a subscription that has failed, or waits for its next attempt, continue at once. Returns
/// the number of waiting messages. The caller must be a member of the segment's owner or of the
/// consumer's role.
///
/// ```sql
/// select segmenter_retry(id) from segmenter_subscriptions where status = 'failed';
/// ```
#[pg_extern]
fn segmenter_retry(subscription: Option<Uuid>) -> Result<i64, ErrorReport> {
    let set = RelationSet::writable()?;
    Ok(delivery::retry(&set, require_arg("subscription", subscription)?)?)
}

/// Skips the message that a subscription is at. Returns its id; null: no message waits. The
/// consumer never gets the content of this message, unless `segmenter_resync` follows.
///
/// ```sql
/// select segmenter_skip(id) from segmenter_subscriptions where status = 'failed';
/// ```
#[pg_extern]
fn segmenter_skip(subscription: Option<Uuid>) -> Result<Option<i64>, ErrorReport> {
    let set = RelationSet::writable()?;
    Ok(delivery::skip(&set, require_arg("subscription", subscription)?)?)
}

/// Discards the waiting messages of a subscription, and writes all members as `replace`. Returns
/// the number of messages written. An audience that is gone, by what a platform has said, is created
/// again.
///
/// Called by a member of the consumer's role that does not own the segment, it only requests that,
/// and returns 0: the segment's next run makes the resync. One request waits at most.
///
/// ```sql
/// select segmenter_resync(id) from segmenter_subscriptions where target = 'newsletter';
/// ```
#[pg_extern]
fn segmenter_resync(subscription: Option<Uuid>) -> Result<i64, ErrorReport> {
    let subscription = require_arg("subscription", subscription)?;
    Ok(delivery::resync(&RelationSet::writable()?, subscription, run::new_id())? as i64)
}

/// `segmenter_retry` for a subscription that is named: by its consumer, its segment and its target.
///
/// ```sql
/// select segmenter_retry('crm', 'vip', 'newsletter');
/// ```
#[pg_extern(name = "segmenter_retry")]
fn segmenter_retry_named(
    consumer: Option<&str>,
    segment: Option<&str>,
    target: Option<&str>,
) -> Result<i64, ErrorReport> {
    let set = RelationSet::writable()?;
    Ok(delivery::retry(&set, named(&set, consumer, segment, target)?)?)
}

/// `segmenter_skip` for a subscription that is named: by its consumer, its segment and its target.
///
/// ```sql
/// select segmenter_skip('crm', 'vip', 'newsletter');
/// ```
#[pg_extern(name = "segmenter_skip")]
fn segmenter_skip_named(
    consumer: Option<&str>,
    segment: Option<&str>,
    target: Option<&str>,
) -> Result<Option<i64>, ErrorReport> {
    let set = RelationSet::writable()?;
    Ok(delivery::skip(&set, named(&set, consumer, segment, target)?)?)
}

/// `segmenter_resync` for a subscription that is named: by its consumer, its segment and its target.
///
/// ```sql
/// select segmenter_resync('crm', 'vip', 'newsletter');
/// ```
#[pg_extern(name = "segmenter_resync")]
fn segmenter_resync_named(
    consumer: Option<&str>,
    segment: Option<&str>,
    target: Option<&str>,
) -> Result<i64, ErrorReport> {
    let set = RelationSet::writable()?;
    let subscription = named(&set, consumer, segment, target)?;
    Ok(delivery::resync(&set, subscription, run::new_id())? as i64)
}

fn named(
    set: &RelationSet,
    consumer: Option<&str>,
    segment: Option<&str>,
    target: Option<&str>,
) -> error::Result<Uuid> {
    name(consumer, segment, target)?.find(set)
}

fn name<'a>(
    consumer: Option<&'a str>,
    segment: Option<&'a str>,
    target: Option<&'a str>,
) -> error::Result<delivery::SubscriptionName<'a>> {
    Ok(delivery::SubscriptionName {
        consumer: require_arg("consumer", consumer)?,
        segment: require_arg("segment", segment)?,
        target: require_arg("target", target)?,
    })
}

/// Has the background workers of this database deliver to consumers that those of another database have
/// delivered to. A copy of a database (a restored dump, a database that was made from a template, a
/// logical replica) does not deliver by itself. Consumers that claim their messages need nothing of it.
///
/// - `consumer`: the name of a consumer; null: all that the caller may act for.
///
/// Returns the number of consumers whose deliveries were paused and go on now. The caller must be a
/// member of the consumer's role, or own the relation set.
///
/// ```sql
/// select segmenter_resume_deliveries();
/// ```
#[pg_extern]
fn segmenter_resume_deliveries(
    consumer: default!(Option<&str>, "NULL"),
) -> Result<i64, ErrorReport> {
    Ok(delivery::resume_deliveries(&RelationSet::writable()?, consumer)?)
}

/// The state of deliveries in one relation set, for its status view. What the consumer answered is
/// shown to members of the consumer's role.
///
/// - `cfg_table`: the set's mart.
///
/// ```sql
/// select count(*) from segmenter_delivered_in('segmenter');
/// ```
#[pg_extern(sql = "
create function segmenter_delivered_in(cfg_table regclass)
returns table (
    subscription_id uuid, pending_messages bigint, delivered_at timestamptz, last_receipt jsonb, last_error text,
    consumer text
)
stable language c as 'MODULE_PATHNAME', '@FUNCTION_NAME@';
")]
#[allow(clippy::type_complexity)]
fn segmenter_delivered_in(
    cfg_table: Option<pg_sys::Oid>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(subscription_id, Uuid),
            name!(pending_messages, i64),
            name!(delivered_at, Option<TimestampWithTimeZone>),
            name!(last_receipt, Option<JsonbText>),
            name!(last_error, Option<String>),
            name!(consumer, String),
        ),
    >,
    ErrorReport,
> {
    let mart = require_arg("cfg_table", cfg_table)?;
    let set = RelationSet::of_mart(Extension::current()?, mart);
    let rows = match set.and_then(|set| delivery::delivered(&set)) {
        // The status view of a set that is not migrated yet shows the rest.
        Err(error @ Error::Set(SetError::OtherVersion { is_own: false, .. })) => {
            error::emit_warning("its deliveries are not known", &error.report());
            Vec::new()
        }
        Err(Error::Set(error)) if error.is_broken() => {
            error::emit_warning("its deliveries are not known", &Error::Set(error).report());
            Vec::new()
        }
        rows => rows?,
    };
    Ok(TableIterator::new(
        rows.into_iter().map(|row| {
            (row.subscription, row.pending, row.at, row.receipt, row.error, row.consumer)
        }),
    ))
}

/// Erases a person, in one transaction, from every segment whose owner the caller is a member of,
/// with all history, and from messages. Each consumer that has received the person gets a message
/// to remove the person. Erase the person from the segments' sources first: otherwise the next
/// refresh adds the person again.
///
/// - `id`: the id of the member.
/// - `keep_out`: leave a keyed hash of the id, so that no refresh adds the person again to a segment of
///   a role that the caller is a member of; if that is the owner of the set, to any segment of the set.
///
/// Returns a row for each segment that held the person, or that could not be searched: the number
/// of deleted rows, the number of messages written, the status (`ok`, or `failed`, with a WARNING
/// and an entry of the log), and why it failed. One segment's failure does not stop the others.
///
/// ```sql
/// select * from segmenter_erase('42', keep_out => true);
/// ```
#[pg_extern(name = "segmenter_erase")]
#[allow(clippy::type_complexity)]
fn segmenter_erase_person(
    id: Option<&str>,
    keep_out: default!(Option<bool>, "false"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(segment, String),
            name!(rows, i64),
            name!(messages, i64),
            name!(status, String),
            name!(detail, Option<String>),
        ),
    >,
    ErrorReport,
> {
    let set = RelationSet::writable()?;
    let (id, keep_out) = (require_arg("id", id)?, require_arg("keep_out", keep_out)?);
    let erased = erase::erase(&set, id, keep_out, run::new_id())?;
    Ok(TableIterator::new(erased.into_iter().map(|of| {
        let status = if of.failure.is_none() { LogStatus::Ok } else { LogStatus::Failed };
        let detail = of.failure.map(|report| report.to_line());
        (of.segment, of.rows as i64, of.messages as i64, status.as_str().to_owned(), detail)
    })))
}

/// The function of version 1.0.0, which has one argument: an error, until the extension is updated.
#[pg_extern(sql = false)]
fn segmenter_erase(_id: Option<&str>) -> Result<(), ErrorReport> {
    Ok(RelationSet::current().map(drop)?)
}

/// Takes back that a person is kept out: the next refresh adds the person again, if its query gives the
/// person.
///
/// - `id`: the id of the person, as it was erased.
///
/// Returns whether the person was kept out of segments of a role that the caller is a member of; the
/// owner of the set readmits to the whole set.
///
/// ```sql
/// select segmenter_readmit('42');
/// ```
#[pg_extern]
fn segmenter_readmit(id: Option<&str>) -> Result<bool, ErrorReport> {
    let set = RelationSet::writable()?;
    Ok(erase::kept_out::readmit(&set, require_arg("id", id)?, run::new_id())?)
}
