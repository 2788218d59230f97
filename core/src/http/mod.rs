//! Sends a message by HTTP and returns the answer.
//!
//! Nothing here calls PostgreSQL, because it runs in a thread of its own.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::time::Duration;

use chrono::{DateTime, Utc};
use ureq::http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use ureq::http::{Response, StatusCode};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body, Error};

pub mod address;
pub mod exchange;
pub mod signature;

use address::Address;

/// The longest body of an answer that is read, in bytes.
const RECEIPT_LIMIT: u64 = 64 * 1024;

/// How much of a refusal's body is reported, in bytes.
const EXCERPT_LIMIT: u64 = 500;

/// The longest delay that a receiver can ask for.
const RETRY_LIMIT: Duration = Duration::from_hours(24);

const USER_AGENT: &str = concat!("segmenter/", env!("CARGO_PKG_VERSION"));
const IDEMPOTENCY_KEY: &str = "idempotency-key";
const ID: &str = "webhook-id";
const TIMESTAMP: &str = "webhook-timestamp";
const SIGNATURE: &str = "webhook-signature";

/// The headers that users cannot set: Segmenter's own, and those that delimit the message or
/// control the connection.
const RESERVED: [&str; 14] = [
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    IDEMPOTENCY_KEY,
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    ID,
    SIGNATURE,
    TIMESTAMP,
];

/// A message to send.
pub struct HttpRequest {
    pub address: Address,
    /// The user's headers, as accepted by [`check_headers`].
    pub headers: BTreeMap<String, String>,
    /// The time limit for the whole request, from the host look-up to the end of the answer.
    pub timeout: Duration,
    /// The key of the signature; `None`: the message is not signed.
    pub key: Option<signature::Key>,
    /// The same at each attempt, so that the receiver recognizes a repetition.
    pub message_id: i64,
    /// The message in JSON.
    pub body: String,
}

/// The result of sending a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The receiver has accepted the message: status 2xx.
    Accepted {
        /// The answer's body (`None` if it is empty), or why it could not be read.
        body: Result<Option<String>, &'static str>,
    },
    /// Another status, or no answer.
    Refused {
        /// One line: the status and the beginning of the body, or the error.
        problem: String,
        /// The delay that a busy receiver asks for (status 429 or 503).
        retry_after: Option<Duration>,
    },
}

impl Answer {
    fn refused(problem: impl Into<String>) -> Self {
        Self::Refused { problem: problem.into(), retry_after: None }
    }
}

/// Sends messages. Connections are kept for the next message; clones share them.
#[derive(Clone)]
pub struct Sender(Agent);

impl Default for Sender {
    /// Certificates are checked against the system's store. Proxy settings of the environment are
    /// ignored, because the environment belongs to the server, not to the user.
    fn default() -> Self {
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .user_agent(USER_AGENT)
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .build();
        Self(config.new_agent())
    }
}

impl Sender {
    /// Sends a message and waits for the answer, at most for the request's time limit.
    pub fn send(&self, request: &HttpRequest) -> Answer {
        if let Err(problem) = check_headers(&request.headers) {
            return Answer::refused(problem);
        }
        match self.post(request) {
            Ok(response) => answer(response, Utc::now()),
            Err(error) => Answer::refused(problem(&error, request.timeout)),
        }
    }

    fn post(&self, request: &HttpRequest) -> Result<Response<Body>, Error> {
        let mut post = self.0.post(request.address.uri());
        for (name, value) in &request.headers {
            post = post.header(name, value);
        }
        let (id, sent_at) = (request.message_id.to_string(), Utc::now().timestamp());
        post = post
            .header(CONTENT_TYPE, "application/json")
            .header(IDEMPOTENCY_KEY, &id)
            .header(ID, &id)
            .header(TIMESTAMP, sent_at.to_string());
        if let Some(key) = &request.key {
            post = post.header(SIGNATURE, key.sign((&id, sent_at), &request.body));
        }
        post.config().timeout_global(Some(request.timeout)).build().send(&request.body)
    }
}

/// Checks the headers that a user wants to send. The error names the header.
pub fn check_headers(headers: &BTreeMap<String, String>) -> Result<(), String> {
    for (name, value) in headers {
        let Ok(header) = HeaderName::from_bytes(name.as_bytes()) else {
            return Err(format!("header \"{}\": its name is not valid", one_line(name)));
        };
        if RESERVED.contains(&header.as_str()) {
            return Err(format!("header \"{name}\": it cannot be set"));
        }
        if HeaderValue::from_str(value).is_err() {
            return Err(format!("header \"{name}\": its value holds a control character"));
        }
        // The meaning of such bytes is not defined.
        if !value.is_ascii() {
            return Err(format!("header \"{name}\": its value is not ASCII"));
        }
    }
    Ok(())
}

fn answer(response: Response<Body>, now: DateTime<Utc>) -> Answer {
    let status = response.status();
    let (parts, body) = response.into_parts();
    if status.is_success() {
        return Answer::Accepted { body: receipt(body) };
    }
    let busy = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    let retry_after = parts.headers.get(RETRY_AFTER).filter(|_| busy);
    let retry_after =
        retry_after.and_then(|value| value.to_str().ok()).and_then(|text| parse_retry(text, now));

    let mut problem = status.as_str().to_owned();
    if let Some(reason) = status.canonical_reason() {
        problem = format!("{problem} {reason}");
    }
    if status.is_redirection() {
        problem.push_str(" (redirects are not followed)");
    }
    let excerpt = excerpt(body);
    if !excerpt.is_empty() {
        problem = format!("{problem}: {excerpt}");
    }
    Answer::Refused { problem, retry_after }
}

/// Reads the body of an accepted answer. The message counts as accepted even if the body breaks
/// off, is too long, or is not a text that PostgreSQL can hold.
fn receipt(body: Body) -> Result<Option<String>, &'static str> {
    let bytes =
        body.into_with_config().limit(RECEIPT_LIMIT).read_to_vec().map_err(
            |error| match error {
                Error::BodyExceedsLimit(_) => "it is longer than 64 KiB",
                _ => "it broke off",
            },
        )?;
    match String::from_utf8(bytes) {
        Ok(text) if text.contains('\0') => Err("it holds a null character"),
        Ok(text) => Ok(Some(text).filter(|text| !text.is_empty())),
        Err(_) => Err("it is not UTF-8"),
    }
}

/// The beginning of a body, in one line.
fn excerpt(body: Body) -> String {
    let mut bytes = Vec::new();
    // What was read before the body broke off is used.
    let _ = body.into_reader().take(EXCERPT_LIMIT).read_to_end(&mut bytes);
    one_line(&String::from_utf8_lossy(&bytes))
}

fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ").trim().to_owned()
}

/// Parses the value of `Retry-After`, a number of seconds or a date, into a delay.
pub(crate) fn parse_retry(text: &str, now: DateTime<Utc>) -> Option<Duration> {
    let text = text.trim();
    let wait = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number that is too large to parse is limited like every large one.
        text.parse().map_or(RETRY_LIMIT, Duration::from_secs)
    } else {
        let date = DateTime::parse_from_rfc2822(text).ok()?;
        date.signed_duration_since(now).to_std().unwrap_or_default()
    };
    Some(wait.min(RETRY_LIMIT))
}

/// Why there was no answer.
fn problem(error: &Error, timeout: Duration) -> String {
    match error {
        Error::Timeout(_) => format!("no answer within {timeout:?}"),
        Error::Io(error) if error.kind() == ErrorKind::UnexpectedEof => {
            "connection closed without an answer".to_owned()
        }
        Error::Io(error) => one_line(&error.to_string()),
        error => one_line(&error.to_string()),
    }
}

#[cfg(test)]
mod tests;
