//! The messages of alerts, in the outbox and as notifications.

use std::collections::BTreeSet;

use pgrx::JsonB;
use pgrx::datum::Uuid;
use pgrx::prelude::*;
use pgrx::spi::SpiHeapTupleData;
use serde_json::{Value, json};

use super::uuid;
use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::catalog::sequence;
use crate::error::Result;
use crate::pg::clock::{self, Instant};
use crate::pg::exec::at_commit;
use crate::pg::exec::lock;
use crate::pg::exec::notification;
use crate::pg::exec::subtransaction::unless_superseded;
use crate::pg::system_catalog;
use crate::refresh::publish::outbox;
use segmenter_core::alert::Reported;

/// The channel that people and programs listen on.
const CHANNEL: &std::ffi::CStr = c"segmenter_alert";

/// The consumer that gets the alerts.
#[derive(Clone)]
pub(super) struct Recipient {
    pub id: Uuid,
    pub name: String,
    pub is_pushed: bool,
}

impl Recipient {
    pub(super) fn read(row: &SpiHeapTupleData<'_>) -> Result<Self> {
        Ok(Self {
            id: uuid(row, "consumer_id")?,
            name: row.get_by_name("consumer")?.unwrap_or_default(),
            is_pushed: row.get_by_name("is_pushed")?.unwrap_or_default(),
        })
    }
}

/// A message that is to be written.
pub(super) struct Message {
    pub alert: Uuid,
    pub consumer: Recipient,
    pub segment: (Uuid, String),
    pub run_id: Option<Uuid>,
    pub at: Instant,
    /// Its key `alert`.
    pub alert_key: Value,
}

/// Writes messages as the last thing that a transaction does. The alerts of a rule are about many segments, which are
/// refreshed at the same time: a transaction that stayed open after it has written one would commit it when later ones
/// were delivered, and it would be lost; and others would have to wait for it.
pub(super) fn write(outbox: pg_sys::Oid, messages: &[Message]) -> Result<()> {
    let ids: BTreeSet<[u8; 16]> =
        messages.iter().map(|message| *message.alert.as_bytes()).collect();
    let ids: Vec<Uuid> = ids.into_iter().map(Uuid::from_bytes).collect();
    // The set may have been dropped meanwhile.
    if system_catalog::visible_name(outbox).is_none() {
        return Ok(());
    }
    let set = RelationSet::of(outbox)?;
    sequence::lift_messages(&set, &ids)?;
    lock::lock_alert_order(outbox);
    for Message { alert, consumer, segment: (segment, name), run_id, at, alert_key } in messages {
        let args = [
            consumer.id.into(),
            (*alert).into(),
            (*segment).into(),
            name.as_str().into(),
            (*run_id).into(),
            clock::timestamp(*at).into(),
            JsonB(alert_key.clone()).into(),
        ];
        set.write(&queries::refresh::alerts::INSERT_MESSAGE, &args)?;
    }
    for id in ids {
        // Another session may have done so since the snapshot of a transaction that keeps it.
        unless_superseded(|| Spi::connect_mut(|client| outbox::queue(client, &set, &[id])))?;
    }
    let names: BTreeSet<_> =
        messages.iter().map(|message| message.consumer.name.as_str()).collect();
    outbox::notify(names);
    match messages.iter().any(|message| message.consumer.is_pushed) {
        true => outbox::wake_workers(&set),
        false => Ok(()),
    }
}

/// Writes what this transaction reports now, so that it can be changed.
pub fn write_now() -> Result<()> {
    at_commit::run_all()
}

/// Notifies those who listen. Every role may listen, so that errors and the names of consumers are left to the
/// message.
pub(super) fn notify(reported: &Reported, message: &Value, segment: &str) {
    let payload = json!({
        "segment": segment,
        "on": message["on"],
        "was": reported.was,
        "is": reported.is,
        "flapping": reported.is_flapping,
        "since": message["since"],
        "key": message["key"],
    });
    notification::send(CHANNEL, &payload.to_string());
}
