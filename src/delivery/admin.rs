//! What an operator does about a subscription that has failed: retry, or skip a message.

use pgrx::datum::Uuid;
use pgrx::prelude::*;
use pgrx::spi::SpiClient;
use serde_json::{Value, json};

use super::{Consumer, DeliveryUpdate, acts_for, set_status};
use crate::catalog::log::{self, Action, Entry, LogCounts, LogStatus};
use crate::catalog::queries;
use crate::catalog::relation_set::{Relation, RelationSet};
use crate::config::Key;
use crate::error::{Error, Result};
use crate::pg::bgw::activity;
use crate::pg::clock;
use crate::pg::exec::durable;
use crate::pg::exec::role;
use crate::refresh::publish::outbox;

/// A subscription by its names.
pub struct SubscriptionName<'a> {
    pub consumer: &'a str,
    pub segment: &'a str,
    pub target: &'a str,
}

impl SubscriptionName<'_> {
    /// Finds the subscription that the caller may administer: the active one, or else the one that ended
    /// last.
    pub fn find(&self, set: &RelationSet) -> Result<Uuid> {
        let args = [self.consumer.into(), self.segment.into(), self.target.into()];
        let ids: Option<Vec<Uuid>> = set.as_owner(|| {
            let sql = set.sql(&queries::delivery::admin::LIST_NAMED, &[]);
            Spi::connect(|client| client.select(&sql, Some(1), &args)?.first().get_one())
        })?;
        for id in ids.unwrap_or_default() {
            match SubscriptionRow::of_caller(set, id) {
                Err(Error::UnknownSubscription { .. }) => {}
                found => return found.map(|found| found.id),
            }
        }
        Err(self.unknown(set))
    }

    /// The error for one that does not exist, or that the caller may not know.
    pub(super) fn unknown(&self, set: &RelationSet) -> Error {
        Error::UnknownSubscriptionName {
            consumer: self.consumer.to_owned(),
            segment: self.segment.to_owned(),
            target: self.target.to_owned(),
            status: set.display_name(Relation::Status),
        }
    }
}

/// A subscription, with the roles that may administer it: the segment's owner and the consumer's
/// role.
pub struct SubscriptionRow {
    pub id: Uuid,
    /// None: it delivers alerts.
    pub segment: Option<(Uuid, String)>,
    pub consumer_id: Uuid,
    pub consumer: String,
    pub target: String,
    owner: pg_sys::Oid,
    role: Option<pg_sys::Oid>,
}

impl SubscriptionRow {
    pub fn find(set: &RelationSet, id: Uuid) -> Result<Self> {
        let unknown = || unknown(set, id);
        set.as_owner(|| {
            Spi::connect(|client| {
                let row = client
                    .select(
                        &set.sql(&queries::delivery::admin::FIND_SUBSCRIPTION, &[]),
                        Some(1),
                        &[id.into()],
                    )?
                    .first();
                if row.is_empty() {
                    return Err(unknown());
                }
                let text = |column: &str| {
                    Ok::<_, Error>(row.get_by_name::<String, _>(column)?.unwrap_or_default())
                };
                Ok(Self {
                    id,
                    segment: row
                        .get_by_name("segment_id")?
                        .map(|segment| Ok::<_, Error>((segment, text("segment")?)))
                        .transpose()?,
                    consumer_id: row.get_by_name("consumer_id")?.ok_or_else(unknown)?,
                    consumer: text("consumer")?,
                    target: text("target")?,
                    owner: row.get_by_name("owner")?.unwrap_or(pg_sys::InvalidOid),
                    role: row.get_by_name("role")?,
                })
            })
        })
    }

    /// Finds a subscription that the caller may administer: it may act as the segment's owner, or
    /// for the consumer. For other callers the error is the same as for an id that does not exist.
    pub fn of_caller(set: &RelationSet, id: Uuid) -> Result<Self> {
        let found = Self::find(set, id)?;
        let caller = role::current();
        if found.is_owned_by(caller) || acts_for(set, caller, found.role) {
            return Ok(found);
        }
        Err(unknown(set, id))
    }

    /// Whether a role may act as the segment's owner.
    pub fn is_owned_by(&self, role: pg_sys::Oid) -> bool {
        role::may_act_as(role, self.owner)
    }

    pub fn log(
        &self,
        set: &RelationSet,
        status: LogStatus,
        message: &str,
        params: Value,
    ) -> Result<()> {
        let entry = Entry {
            run_id: None,
            action: Action::Deliver,
            status,
            segment: (
                self.segment.as_ref().map(|(id, _)| *id),
                self.segment.as_ref().map_or("", |(_, name)| name),
            ),
            subscription: Some((self.id, &self.target)),
            counts: LogCounts::default(),
            began: clock::now(),
            elapsed: None,
            message: Some(message),
            error: None,
            params,
            reason: None,
        };
        log::write(set, entry)
    }
}

/// The waiting messages of a subscription: their number, the ids of the first and the last one, and
/// whether the `create` of the audience is among them.
struct PendingMessages {
    count: i64,
    first: Option<i64>,
    last: Option<i64>,
    has_create: bool,
}

impl PendingMessages {
    fn read(client: &mut SpiClient<'_>, set: &RelationSet, subscription: Uuid) -> Result<Self> {
        let row = client
            .update(
                &set.sql(&queries::delivery::admin::COUNT_PENDING, &[]),
                Some(1),
                &[subscription.into()],
            )?
            .first();
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

/// Clears the failure of a subscription, so that its waiting messages can be delivered at once.
/// Returns their number.
pub fn retry(set: &RelationSet, subscription: Uuid) -> Result<i64> {
    let subscribed = SubscriptionRow::of_caller(set, subscription)?;
    Ok(resume(set, &subscribed, false, |_| None)?.count)
}

/// Skips the message that a subscription is at. Returns its id; none: no message waits.
pub fn skip(set: &RelationSet, subscription: Uuid) -> Result<Option<i64>> {
    let subscribed = SubscriptionRow::of_caller(set, subscription)?;
    let pending = resume(set, &subscribed, true, |pending| pending.first)?;
    if let Some(message) = pending.first {
        let text = format!("message {message} was skipped");
        let params = json!({ "message_id": message, "consumer": subscribed.consumer });
        subscribed.log(set, LogStatus::Skipped, &text, params)?;
    }
    Ok(pending.first)
}

/// Has the workers of this database deliver to consumers that those of another one have delivered to,
/// of which this is a copy: to all that the caller may act for, or to one of them. Returns their number.
pub fn resume_deliveries(set: &RelationSet, consumer: Option<&str>) -> Result<i64> {
    let caller = role::current();
    let args =
        [caller.into(), set.owner.into(), consumer.into(), activity::place().as_str().into()];
    let resumed = set.as_owner(|| {
        let sql = set.sql(&queries::delivery::admin::RESUME_DELIVERIES, &[]);
        Spi::connect_mut(|client| {
            Ok::<_, Error>(client.update(&sql, Some(1), &args)?.first().get_one::<i64>()?)
        })
    })?;
    let resumed = resumed.unwrap_or_default();
    if let (Some(name), 0) = (consumer, resumed) {
        match Consumer::find(set, Key::Name(name))? {
            None => return Err(Error::UnknownConsumer(name.into())),
            Some(found) if !acts_for(set, caller, found.role) => {
                return Err(Error::NotConsumer(found.name));
            }
            Some(_) => {}
        }
    }
    outbox::wake_workers(set)?;
    Ok(resumed)
}

/// Discards the waiting messages of a subscription, and forgets the id of an audience that is gone in the
/// target system. Returns whether the audience has to be created: its `create` was among them, or it is gone.
pub fn drop_pending(set: &RelationSet, subscribed: &SubscriptionRow) -> Result<bool> {
    let pending = resume(set, subscribed, false, |pending| pending.last)?;
    if pending.count > 0 {
        let text = format!("{} messages were discarded by a resync", pending.count);
        let params = json!({ "message_id": pending.last, "consumer": subscribed.consumer });
        subscribed.log(set, LogStatus::Skipped, &text, params)?;
    }
    let is_gone = set.as_owner(|| {
        Spi::connect_mut(|client| {
            let sql = set.sql(&queries::delivery::admin::FORGET_PROGRESS, &[]);
            let rows = client.update(&sql, None, &[subscribed.id.into()])?;
            let is_gone = if rows.is_empty() { None } else { rows.first().get_one()? };
            if is_gone == Some(true) {
                let update = DeliveryUpdate { is_deleted: true, ..DeliveryUpdate::default() };
                set_status(client, set, subscribed.id, update)?;
            }
            Ok::<_, Error>(is_gone == Some(true))
        })
    })?;
    Ok(pending.has_create || is_gone)
}

/// Clears the failure, the lease and the retry time of a subscription, and moves its cursor to the
/// message `through`. Returns what waited before. `is_skip`: that message is skipped, and what it held is
/// missing until all members follow.
fn resume(
    set: &RelationSet,
    subscribed: &SubscriptionRow,
    is_skip: bool,
    through: impl FnOnce(&PendingMessages) -> Option<i64>,
) -> Result<PendingMessages> {
    durable::flush_at_commit();
    set.as_owner(|| {
        Spi::connect_mut(|client| {
            let subscription = subscribed.id;
            let sql = set.sql(&queries::delivery::admin::MOVE_CURSOR, &[]);
            // The first call locks the cursor, so that no waiting message is claimed or delivered
            // meanwhile.
            let args = [subscription.into(), None::<i64>.into(), false.into()];
            client.update(&sql, None, &args)?;
            let pending = PendingMessages::read(client, set, subscription)?;
            if let Some(through) = through(&pending) {
                let args = [subscription.into(), through.into(), is_skip.into()];
                client.update(&sql, None, &args)?;
            }
            client.update(
                &set.sql(&queries::delivery::admin::CLEAR_FAILED, &[]),
                None,
                &[subscription.into()],
            )?;
            set_status(client, set, subscription, DeliveryUpdate::default())?;
            outbox::notify([subscribed.consumer.as_str()]);
            Ok(pending)
        })
    })
    .and_then(|resumed| outbox::wake_workers(set).map(|()| resumed))
}

fn unknown(set: &RelationSet, id: Uuid) -> Error {
    let subscriptions = set.display_name(Relation::Subscriptions);
    Error::UnknownSubscription { id, subscriptions }
}
