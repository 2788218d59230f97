//! The requests that waiting messages would make.

use pgrx::datum::Uuid;
use pgrx::prelude::*;
use serde_json::{Value, json};

use super::acts_for;
use super::admin::SubscriptionRow;
use super::connector::{describe, user_of};
use super::{Claimed, Consumer};
use crate::catalog::connectors::Connection;
use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::config::{HttpUpdater, Key, Updater};
use crate::error::{Error, Result};
use crate::pg::clock;
use crate::pg::exec::role;
use crate::pg::format::json::JsonbText;
use segmenter_core::connector::{MASK, Progress, Request, Values, masked, preview};

/// A request that would be made.
pub struct Rendered {
    pub message_id: i64,
    pub step: String,
    pub method: String,
    pub url: String,
    pub headers: Value,
    pub body: Option<String>,
}

/// The requests that the waiting messages of a subscription would make, in order, with secrets masked.
pub fn render(set: &RelationSet, subscription: Uuid) -> Result<Vec<Rendered>> {
    let subscribed = SubscriptionRow::of_caller(set, subscription)?;
    let found = Consumer::find(set, Key::Id(subscribed.consumer_id))?;
    let consumer = found.ok_or(Error::UnknownConsumer(subscribed.consumer))?;
    if !acts_for(set, role::current(), consumer.role) {
        return Err(Error::NotConsumer(consumer.name));
    }
    let waiting = waiting(set, subscription)?;
    match &consumer.params.updater {
        Updater::Http(http) => Ok(waiting.iter().map(|message| plain(http, message)).collect()),
        Updater::Server(server) => {
            let user = user_of(set, consumer.role);
            let connection = Connection::find(&set.extension, server, user)?;
            let mut rendered = Vec::new();
            // An id that a message gives the audience, which the next ones refer to.
            let mut external_id = None;
            for message in &waiting {
                let (requests, id) = requests(set, &connection, message, external_id)?;
                rendered.extend(requests);
                external_id = id;
            }
            Ok(rendered)
        }
        Updater::Pull | Updater::Function(_) => Err(Error::Argument {
            name: "subscription",
            problem: format!("no requests are made to consumer \"{}\"", consumer.name),
            hint: "Requests are made to consumers whose updater is a server or a URL.",
        }),
    }
}

fn waiting(set: &RelationSet, subscription: Uuid) -> Result<Vec<Claimed>> {
    set.as_owner(|| {
        Spi::connect(|client| {
            let sql = set.sql(&queries::delivery::push::LIST_WAITING_MESSAGES, &[]);
            let rows = client.select(&sql, None, &[subscription.into()])?.map(|row| {
                let text = |column: &str| {
                    Ok::<_, Error>(row.get_by_name::<String, _>(column)?.unwrap_or_default())
                };
                let number = |column: &str| {
                    Ok::<_, Error>(row.get_by_name::<i32, _>(column)?.unwrap_or_default())
                };
                let payload: Option<JsonbText> = row.get_by_name("payload")?;
                Ok(Claimed {
                    id: row.get_by_name("id")?.unwrap_or_default(),
                    lease: Uuid::from_bytes([0; 16]),
                    subscription,
                    audience: text("audience")?,
                    external_id: row.get_by_name("external_id")?,
                    target: text("target")?,
                    operation: text("operation")?,
                    part: number("part")?,
                    parts: number("parts")?,
                    members: number("members")?,
                    attempt: 1,
                    payload: payload.unwrap_or_else(|| JsonbText("{}".into())),
                })
            });
            rows.collect()
        })
    })
}

fn requests(
    set: &RelationSet,
    connection: &Connection,
    claimed: &Claimed,
    external_id: Option<String>,
) -> Result<(Vec<Rendered>, Option<String>)> {
    let (mut message, kept) = describe(set, claimed)?;
    message.external_id = message.external_id.or(external_id);
    let progress = Progress::of(kept, (message.id, message.first_id), clock::now());
    let Connection { spec, server, mapping, .. } = connection;
    let secrets = masked(&mapping.secrets);
    let values = Values::new(spec, server, &secrets, &message);
    let Some(operation) = spec.operation(&message.operation) else {
        return Ok((Vec::new(), message.external_id));
    };
    let previewed = preview(spec, operation, values, progress);
    let (requests, external_id) = previewed.map_err(|problem| Error::Argument {
        name: "subscription",
        problem: format!("message {}: {problem}", claimed.id),
        hint: "",
    })?;
    let shown = requests.into_iter().map(|request| shown(claimed.id, request));
    Ok((shown.collect(), external_id))
}

fn shown(message_id: i64, request: Request) -> Rendered {
    let body = String::from_utf8_lossy(&request.body).replace('\0', "\u{fffd}");
    Rendered {
        message_id,
        step: request.step,
        method: request.method,
        // What is not known yet is shown in braces.
        url: request.address.to_string().replace("%7B", "{").replace("%7D", "}"),
        headers: json!(request.headers),
        body: (!body.is_empty()).then_some(body),
    }
}

/// The request to a URL. What its headers hold may be a secret.
fn plain(http: &HttpUpdater, claimed: &Claimed) -> Rendered {
    let id = claimed.id.to_string();
    let own = [("content-type", "application/json"), ("idempotency-key", &id), ("webhook-id", &id)];
    let signature = http.secret.as_ref().map(|_| ("webhook-signature", MASK));
    let users = http.headers.keys().map(|name| (name.as_str(), MASK));
    let headers: serde_json::Map<String, Value> = own
        .into_iter()
        .chain(signature)
        .chain(users)
        .map(|(name, value)| (name.to_lowercase(), value.into()))
        .collect();
    Rendered {
        message_id: claimed.id,
        step: "send".into(),
        method: "POST".into(),
        url: http.url.to_string(),
        headers: Value::Object(headers),
        body: Some(claimed.payload.0.clone()),
    }
}
