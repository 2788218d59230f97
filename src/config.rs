//! Config rows become validated types here, once, and nobody doubts them afterwards.

// Every key is validated when a row is written, those of steps that are not there yet too.
#![allow(dead_code)]

use pgrx::JsonB;
use pgrx::datum::Uuid;
use pgrx::prelude::*;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::guards::Guards;
use crate::schedule;
use crate::service::Service;

/// The column `refresh_params`: how a segment is recomputed.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Refresher {
    /// One SELECT that gives the members.
    Query { sql: String },
    /// A CALL that changes the segment table itself.
    Procedure { sql: String },
    /// A query for the ids that may have changed, and one for the members among them.
    Incremental { changed: String, sql: String },
}

/// One entry of the column `sources`: what has to be loaded before a refresh.
#[derive(Debug, Clone)]
pub enum Source {
    Table(TableSource),
    Ready(ReadySource),
}

/// A table that is loaded when its newest row is new enough.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableSource {
    pub table: String,
    pub loaded_at: Option<String>,
    pub warn_after: Option<String>,
    pub error_after: Option<String>,
    pub filter: Option<String>,
    pub min_rows: Option<u64>,
}

/// Whatever is ready when its query says so.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadySource {
    pub name: String,
    /// A query for one boolean.
    pub ready: String,
}

/// The column `params` of a consumer: how it is served.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConsumerParams {
    pub updater: Updater,
    pub max_attempts: Option<u32>,
}

/// The way a consumer is served.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Updater {
    #[default]
    Pull,
    Function {
        name: String,
    },
    Http {
        url: String,
        #[serde(default)]
        headers: std::collections::BTreeMap<String, String>,
        timeout: Option<String>,
        secret: Option<String>,
    },
}

/// The column `params` of a subscription: how it is handed over.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SubscriptionParams {
    pub mode: Mode,
    pub batch_size: Option<std::num::NonZeroU32>,
    pub fields: Option<Fields>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// What changed.
    #[default]
    Delta,
    /// All members each time.
    Replace,
}

/// Which columns of the segment table go into a member, and under which names.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Fields {
    Columns(Vec<String>),
    Renamed(std::collections::BTreeMap<String, String>),
}

/// What a segment is, read and validated.
pub struct Segment {
    pub id: Uuid,
    pub name: String,
    pub table: pg_sys::Oid,
    pub owner: pg_sys::Oid,
    /// None: the segment is loaded by hand.
    pub refresher: Option<Refresher>,
    pub guards: Guards,
    pub sources: Vec<Source>,
    /// The key of the lock that one refresh at a time holds.
    pub lock_key: i64,
    pub actual: bool,
}

/// Which segment is meant.
#[derive(Clone, Copy)]
pub enum Key<'a> {
    Name(&'a str),
    Id(Uuid),
}

impl Segment {
    /// Reads a segment as the active snapshot sees it; by name only an actual one is found.
    pub fn find(service: &Service, key: Key<'_>) -> Result<Option<Segment>> {
        let sql = service.sql(include_str!("../sql/query/segment.sql"), &[]);
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
                let Some(name) = row.get_by_name::<String, _>("name")? else { return Ok(None) };
                let Some(id) = row.get_by_name::<Uuid, _>("id")? else { return Ok(None) };
                let json = |column| -> Result<Value> {
                    Ok(row.get_by_name::<JsonB, _>(column)?.map_or(Value::Null, |json| json.0))
                };
                let subject = Subject::Segment(&name);
                Ok(Some(Segment {
                    refresher: refresher(json("refresh_params")?, subject)?,
                    guards: guards(json("guards")?, subject)?,
                    sources: sources(json("sources")?, subject)?,
                    table: row.get_by_name("table_oid")?.unwrap_or(pg_sys::InvalidOid),
                    owner: row.get_by_name("owner")?.unwrap_or(pg_sys::InvalidOid),
                    lock_key: row.get_by_name("lock_key")?.unwrap_or_default(),
                    actual: row.get_by_name("actual")?.unwrap_or_default(),
                    id,
                    name,
                }))
            })
        })
    }
}

/// Whose row a value stands in, for messages.
#[derive(Clone, Copy)]
pub enum Subject<'a> {
    Segment(&'a str),
    Consumer(&'a str),
    Subscription(&'a str),
    Schedule,
}

impl std::fmt::Display for Subject<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Subject::Segment(name) => write!(f, "segment \"{name}\""),
            Subject::Consumer(name) => write!(f, "consumer \"{name}\""),
            Subject::Schedule => write!(f, "the schedule"),
            Subject::Subscription(target) => write!(f, "the subscription for \"{target}\""),
        }
    }
}

const REFRESHERS: &str = "Give exactly one of {\"query\": {\"sql\": …}}, {\"procedure\": {\"sql\": \"call …()\"}}, {\"incremental\": {\"changed\": …, \"sql\": …}}, or {} for a segment that is loaded by hand.";
const GUARDS: &str = "The guards are min_members, max_members, max_added, max_removed (numbers of members), max_change (a share, 0 to 1) and allow_empty (true or false).";
const SOURCES: &str = "Give a list of {\"table\": …, \"loaded_at\": …, \"warn_after\": …, \"error_after\": …, \"filter\": …, \"min_rows\": …} or {\"name\": …, \"ready\": \"select …\"}.";
const CONSUMER: &str = "Give {\"updater\": \"pull\"}, {\"updater\": {\"function\": {\"name\": …}}} or {\"updater\": {\"http\": {\"url\": …, \"headers\": …, \"timeout\": …, \"secret\": …}}}, and max_attempts where wanted.";
const SUBSCRIPTION: &str = "The keys are mode (\"delta\" or \"replace\"), batch_size (a number of members) and fields (a list of columns, or an object from column to name).";

/// Validates `refresh_params`; an empty object is no refresher.
pub fn refresher(json: Value, subject: Subject<'_>) -> Result<Option<Refresher>> {
    if json.as_object().is_some_and(|object| object.is_empty()) {
        return Ok(None);
    }
    typed("refresh_params", json, subject, REFRESHERS).map(Some)
}

/// Validates `guards`.
pub fn guards(json: Value, subject: Subject<'_>) -> Result<Guards> {
    let guards: Guards = typed("guards", json, subject, GUARDS)?;
    guards.validate().map_err(|problem| invalid("guards", subject, problem, GUARDS))?;
    Ok(guards)
}

/// Validates `sources`.
pub fn sources(json: Value, subject: Subject<'_>) -> Result<Vec<Source>> {
    typed::<Vec<Value>>("sources", json, subject, SOURCES)?
        .into_iter()
        .map(|entry| {
            if entry.get("ready").is_some() || entry.get("name").is_some() {
                typed("sources", entry, subject, SOURCES).map(Source::Ready)
            } else {
                typed("sources", entry, subject, SOURCES).map(Source::Table)
            }
        })
        .collect()
}

/// Validates a consumer's `params`.
pub fn consumer_params(json: Value, subject: Subject<'_>) -> Result<ConsumerParams> {
    typed("params", json, subject, CONSUMER)
}

/// Validates a subscription's `params`.
pub fn subscription_params(json: Value, subject: Subject<'_>) -> Result<SubscriptionParams> {
    typed("params", json, subject, SUBSCRIPTION)
}

/// Validates a cron expression in the column named.
pub fn cron(
    column: &'static str,
    text: Option<&str>,
    subject: Subject<'_>,
) -> Result<Option<schedule::Schedule>> {
    let parsed = text.map(str::parse::<schedule::Schedule>).transpose();
    parsed.map_err(|error| invalid(column, subject, error.to_string(), &error.hint()))
}

/// Validates the name of a time zone in the column named.
pub fn timezone(
    column: &'static str,
    text: Option<&str>,
    subject: Subject<'_>,
) -> Result<Option<chrono_tz::Tz>> {
    let parsed = text.map(schedule::parse_zone).transpose();
    parsed.map_err(|error| invalid(column, subject, error.to_string(), &error.hint()))
}

fn typed<T: DeserializeOwned>(
    column: &'static str,
    json: Value,
    subject: Subject<'_>,
    hint: &str,
) -> Result<T> {
    serde_json::from_value(json)
        .map_err(|error| invalid(column, subject, error.to_string().replace('`', "\""), hint))
}

fn invalid(column: &'static str, subject: Subject<'_>, problem: String, hint: &str) -> Error {
    Error::Config {
        column,
        subject: subject.to_string(),
        problem,
        hint: Some(hint.to_owned()).filter(|hint| !hint.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const S: Subject<'_> = Subject::Segment("s");

    fn message<T>(result: Result<T>) -> String {
        match result {
            Ok(_) => panic!("must be refused"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_refresher_has_exactly_one_key() {
        assert!(matches!(refresher(json!({}), S), Ok(None)));
        assert!(matches!(
            refresher(json!({"query": {"sql": "select 1"}}), S),
            Ok(Some(Refresher::Query { .. }))
        ));
        assert!(matches!(
            refresher(json!({"incremental": {"changed": "a", "sql": "b"}}), S),
            Ok(Some(Refresher::Incremental { .. }))
        ));
        assert!(message(refresher(json!({"qery": {"sql": ""}}), S)).contains("\"qery\""));
        assert!(message(refresher(json!({"query": {"sql": "", "x": 1}}), S)).contains("\"x\""));
        assert!(message(refresher(json!({"query": {}}), S)).contains("\"sql\""));
        refresher(json!({"query": {"sql": ""}, "procedure": {"sql": ""}}), S)
            .expect_err("two keys");
        refresher(json!([]), S).expect_err("not an object");
        refresher(Value::Null, S).expect_err("null");
    }

    #[test]
    fn a_source_is_a_table_or_a_question() {
        let both = json!([{"table": "a.b", "loaded_at": "at", "error_after": "1 day", "min_rows": 1},
                          {"name": "orders", "ready": "select true"}]);
        assert_eq!(sources(both, S).expect("valid").len(), 2);
        assert!(message(sources(json!([{"table": "a", "loadd_at": "b"}]), S)).contains("loadd_at"));
        assert!(message(sources(json!([{"name": "a"}]), S)).contains("ready"));
        sources(json!({}), S).expect_err("not a list");
    }

    #[test]
    fn consumers_and_subscriptions_name_what_is_wrong() {
        consumer_params(json!({}), S).expect("defaults");
        consumer_params(json!({"updater": "pull", "max_attempts": 3}), S).expect("pull");
        consumer_params(json!({"updater": {"http": {"url": "https://x"}}}), S).expect("http");
        assert!(message(consumer_params(json!({"updater": "push"}), S)).contains("push"));
        subscription_params(json!({"mode": "replace", "fields": {"id": "user"}}), S)
            .expect("valid");
        assert!(message(subscription_params(json!({"batchsize": 1}), S)).contains("batchsize"));
        subscription_params(json!({"batch_size": 0}), S).expect_err("zero");
    }
}
