//! The requests that waiting messages would make.

use pgrx::JsonB;
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
use crate::pg::exec::result_set::ResultSet;
use crate::pg::exec::role;
use segmenter_core::connector::{MASK, Request, Values, masked, preview};

/// Appends the requests that the waiting messages of a subscription would make to a result, in order, with
/// secrets masked.
pub fn render(set: &RelationSet, subscription: Uuid, result: &ResultSet) -> Result<()> {
    let subscribed = SubscriptionRow::of_caller(set, subscription)?;
    let found = Consumer::find(set, Key::Id(subscribed.consumer_id))?;
    let consumer = found.ok_or(Error::UnknownConsumer(subscribed.consumer))?;
    if !acts_for(set, role::current(), consumer.role) {
        return Err(Error::NotConsumer(consumer.name));
    }
    let connection = match &consumer.params.updater {
        Updater::Http(_) => None,
        Updater::Server(server) => {
            let user = user_of(set, consumer.role);
            Some(Connection::find(&set.extension, server, user)?)
        }
        Updater::Pull | Updater::Function(_) => {
            return Err(Error::Argument {
                name: "subscription",
                problem: format!("no requests are made to consumer \"{}\"", consumer.name),
                hint: "Requests are made to consumers whose updater is a server or a URL.",
            });
        }
    };
    // An id that a message gives the audience, which the next ones refer to.
    let mut external_id = None;
    let mut after = 0;
    while let Some(message) = next_waiting(set, subscription, after)? {
        after = message.id;
        match (&connection, &consumer.params.updater) {
            (Some(connection), _) => {
                let (requests, id) = requests(set, connection, &message, external_id)?;
                for request in requests {
                    append(set, result, (message.id, shown(request)))?;
                }
                external_id = id;
            }
            (None, Updater::Http(http)) => {
                append(set, result, (message.id, plain(http, &message)))?;
            }
            (None, _) => {}
        }
    }
    Ok(())
}

/// A request, as it is shown.
struct Shown {
    step: String,
    method: String,
    url: String,
    headers: Value,
    body: Option<String>,
}

fn append(set: &RelationSet, result: &ResultSet, (id, shown): (i64, Shown)) -> Result<()> {
    let Shown { step, method, url, headers, body } = shown;
    let args =
        [id.into(), step.into(), method.into(), url.into(), JsonB(headers).into(), body.into()];
    set.as_owner(|| {
        let sql = queries::delivery::push::SHOW_REQUEST.text();
        Spi::connect(|_| result.append(sql, &args))
    })
}

/// The next waiting message after one.
fn next_waiting(set: &RelationSet, subscription: Uuid, after: i64) -> Result<Option<Claimed>> {
    let no_lease = (Uuid::from_bytes([0; 16]), 1);
    set.as_owner(|| {
        Spi::connect(|client| {
            let sql = set.sql(&queries::delivery::push::FIND_WAITING_MESSAGE, &[]);
            let args = [subscription.into(), after.into()];
            let mut rows = client.select(&sql, Some(1), &args)?;
            rows.next().map(|row| Claimed::read(&row, subscription, no_lease)).transpose()
        })
    })
}

fn requests(
    set: &RelationSet,
    connection: &Connection,
    claimed: &Claimed,
    external_id: Option<String>,
) -> Result<(Vec<Request>, Option<String>)> {
    let (mut message, progress) = describe(set, claimed)?;
    message.external_id = message.external_id.or(external_id);
    let Connection { spec, server, mapping, .. } = connection;
    let secrets = masked(&mapping.secrets);
    let values = Values::new(spec, server, &secrets, &message);
    let Some(operation) = spec.operation(&message.operation) else {
        return Ok((Vec::new(), message.external_id));
    };
    let previewed = preview(spec, operation, values, progress);
    previewed.map_err(|problem| Error::Argument {
        name: "subscription",
        problem: format!("message {} cannot be sent: {problem}", claimed.id),
        hint: "Its delivery would stop with this problem. Correct the subscription, the server or its connector; or call segmenter_resync().",
    })
}

fn shown(request: Request) -> Shown {
    let body = String::from_utf8_lossy(&request.body).replace('\0', "\u{fffd}");
    Shown {
        step: request.step,
        method: request.method,
        // What is not known yet is shown in braces.
        url: request.address.to_string().replace("%7B", "{").replace("%7D", "}"),
        headers: json!(request.headers),
        body: (!body.is_empty()).then_some(body),
    }
}

/// The request to a URL. What its headers hold may be a secret.
fn plain(http: &HttpUpdater, claimed: &Claimed) -> Shown {
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
    Shown {
        step: "send".into(),
        method: "POST".into(),
        url: http.url.to_string(),
        headers: Value::Object(headers),
        body: Some(claimed.payload.0.clone()),
    }
}
