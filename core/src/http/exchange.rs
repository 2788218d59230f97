//! Sends any request and returns its whole answer, for connectors.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use ureq::Body;
use ureq::http::Response;

use super::signature::Key;
use super::{ID, SIGNATURE, Sender, TIMESTAMP, problem};
use crate::connector::{Answer, Request};
use crate::receipt::holds_null_character;

/// The longest body of an answer that is read, in bytes.
const ANSWER_LIMIT: u64 = 1024 * 1024;

/// How a request is signed.
#[derive(Clone)]
pub struct Signature {
    pub key: Option<Key>,
    pub message_id: i64,
}

impl Sender {
    /// Sends a request and waits for its answer, at most for the time limit. Redirects are not followed.
    /// Error: why there is no whole answer.
    pub fn exchange(
        &self,
        request: &Request,
        signature: Option<&Signature>,
        timeout: Duration,
    ) -> Result<Answer, String> {
        let response = self.exchanged(request, signature, timeout);
        answer(response.map_err(|error| problem(&error, timeout))?)
    }

    fn exchanged(
        &self,
        request: &Request,
        signature: Option<&Signature>,
        timeout: Duration,
    ) -> Result<Response<Body>, ureq::Error> {
        let mut headers = request.headers.clone();
        if let Some(Signature { key, message_id }) = signature {
            let (id, sent_at) = (message_id.to_string(), chrono::Utc::now().timestamp());
            if let Some(key) = key {
                let body = String::from_utf8_lossy(&request.body);
                headers.insert(SIGNATURE.into(), key.sign((&id, sent_at), &body));
            }
            headers.insert(ID.into(), id);
            headers.insert(TIMESTAMP.into(), sent_at.to_string());
        }
        let uri = request.address.uri();
        let (agent, body) = (&self.0, &request.body);
        let plain = match request.method.as_str() {
            "GET" => agent.get(uri),
            "DELETE" => agent.delete(uri),
            method => {
                let mut sent = match method {
                    "PUT" => agent.put(uri),
                    "PATCH" => agent.patch(uri),
                    _ => agent.post(uri),
                };
                for (name, value) in &headers {
                    sent = sent.header(name, value);
                }
                return sent.config().timeout_global(Some(timeout)).build().send(&body[..]);
            }
        };
        let mut plain = plain;
        for (name, value) in &headers {
            plain = plain.header(name, value);
        }
        let plain = plain.config().timeout_global(Some(timeout)).build();
        // Some platforms take what is to be removed as the body of a DELETE.
        match body.is_empty() {
            true => plain.call(),
            false => plain.force_send_body().send(&body[..]),
        }
    }
}

fn answer(response: Response<Body>) -> Result<Answer, String> {
    let status = response.status().as_u16();
    let (parts, body) = response.into_parts();
    let text = |value: &ureq::http::HeaderValue| Some(value.to_str().ok()?.to_owned());
    let headers: BTreeMap<String, String> = parts
        .headers
        .iter()
        .filter_map(|(name, value)| Some((name.as_str().to_owned(), text(value)?)))
        .collect();
    let read = body.into_with_config().limit(ANSWER_LIMIT).read_to_vec();
    let bytes = read.map_err(|error| match error {
        ureq::Error::BodyExceedsLimit(_) => {
            format!("status {status}, and an answer longer than {ANSWER_LIMIT} bytes")
        }
        _ => format!("status {status}, and an answer that broke off"),
    })?;
    let text = String::from_utf8_lossy(&bytes).trim().to_owned();
    let json = match serde_json::from_slice::<Value>(&bytes) {
        Ok(json) if !holds_null_character(&json) => json,
        _ => Value::Null,
    };
    Ok(Answer { status, headers, json, text })
}
