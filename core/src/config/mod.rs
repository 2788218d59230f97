//! Parses and validates the JSON and texts of config rows. Later code may assume that they are
//! valid.

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use thiserror::Error;

use crate::schedule;

mod alert;
mod consumer;
mod exclusion;
mod segment;

pub use alert::{AlertRule, Condition, Flapping, Kind as AlertKind, Limit, alert_rule};
pub use consumer::{
    ConsumerParams, EVENT_KEYS, Fields, First, FunctionUpdater, HttpUpdater, Mode, Selection,
    SubscriptionParams, Updater, consumer_params, subscription_params, unknown_placeholder,
};
pub use exclusion::{Excluded, MatchColumn, exclude, exempt, priority};
pub use segment::{
    Incremental, NewMember, NewSubscription, Query, ReadySource, Refresher, Retention,
    SegmentSource, SourceCheck, Sql, TableSource, Watched, guards, refresher, retention, sources,
};

/// The column of a family's rows that names the segment of each.
pub const FAMILY_COLUMN: &str = "segment";

/// The columns of a segment table that Segmenter writes itself.
pub const SERVICE_COLUMNS: [&str; 5] =
    ["segment_id", "id", "actual_begin", "actual_end", "processed"];

pub type Result<T> = std::result::Result<T, ConfigError>;

/// A value of a config row that is not valid.
#[derive(Debug, Clone, Error)]
#[error("invalid {column} of {subject}: {problem}")]
pub struct ConfigError {
    pub column: &'static str,
    pub subject: String,
    pub problem: String,
    pub hint: Option<String>,
}

impl ConfigError {
    /// An error with a hint; an empty hint is left out.
    pub fn new(
        column: &'static str,
        subject: Subject<'_>,
        problem: impl Into<String>,
        hint: &str,
    ) -> Self {
        Self {
            column,
            subject: subject.to_string(),
            problem: problem.into(),
            hint: Some(hint.to_owned()).filter(|hint| !hint.is_empty()),
        }
    }
}

/// The row that a value belongs to, for messages.
#[derive(Clone, Copy)]
pub enum Subject<'a> {
    Segment(&'a str),
    Consumer(&'a str),
    Subscription(&'a str),
    /// A rule of alerts, by its consumer.
    Alert(&'a str),
    Schedule,
    /// A foreign server.
    Server,
}

impl Subject<'_> {
    /// What it is, without its name.
    pub fn kind(&self) -> &'static str {
        match self {
            Subject::Segment(_) => "segment",
            Subject::Consumer(_) => "consumer",
            Subject::Subscription(_) => "subscription",
            Subject::Alert(_) => "rule of alerts",
            Subject::Schedule => "schedule",
            Subject::Server => "server",
        }
    }
}

impl std::fmt::Display for Subject<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Subject::Segment(name) => write!(f, "segment \"{name}\""),
            Subject::Consumer(name) => write!(f, "consumer \"{name}\""),
            Subject::Schedule => write!(f, "the schedule"),
            Subject::Server => write!(f, "the server"),
            Subject::Alert(consumer) => write!(f, "the alerts for \"{consumer}\""),
            Subject::Subscription(target) => write!(f, "the subscription for \"{target}\""),
        }
    }
}

/// Validates the cron expression in the given column; a null is valid.
pub fn cron(
    column: &'static str,
    text: Option<&str>,
    subject: Subject<'_>,
) -> Result<Option<schedule::Schedule>> {
    let parsed = text.map(str::parse::<schedule::Schedule>).transpose();
    parsed.map_err(|error| ConfigError::new(column, subject, error.to_string(), &error.hint()))
}

/// Validates the name of a time zone in the given column; a null is valid.
pub fn timezone(
    column: &'static str,
    text: Option<&str>,
    subject: Subject<'_>,
) -> Result<Option<chrono_tz::Tz>> {
    let parsed = text.map(schedule::parse_zone).transpose();
    parsed.map_err(|error| ConfigError::new(column, subject, error.to_string(), &error.hint()))
}

/// Deserializes an object. The error names the key of the invalid value.
fn typed<T: DeserializeOwned>(
    column: &'static str,
    json: Value,
    subject: Subject<'_>,
    hint: &str,
) -> Result<T> {
    // Serde would also read a struct from a list, by position.
    if !json.is_object() {
        return Err(ConfigError::new(column, subject, format!("{json} is not an object"), hint));
    }
    of_object(json).map_err(|problem| ConfigError::new(column, subject, problem, hint))
}

/// Deserializes a value that is an object. The problem names the key of the invalid value.
pub(crate) fn of_object<T: DeserializeOwned>(json: Value) -> std::result::Result<T, String> {
    serde_path_to_error::deserialize(json).map_err(|error| {
        let problem = plain_words(&error.inner().to_string().replace('`', "\""));
        let path = error.path().to_string();
        let key = path.rsplit('.').next().unwrap_or_default();
        let is_named = key.is_empty() || key == "?" || problem.contains(&format!("\"{key}\""));
        match problem.strip_prefix('"') {
            // A key within an object that was read apart.
            Some(rest) if !is_named && rest.contains("\": ") => format!("\"{path}.{rest}"),
            _ if is_named => problem,
            _ => format!("\"{path}\": {problem}"),
        }
    })
}

/// The words of serde for a value that is not of its type, in those of JSON.
fn plain_words(problem: &str) -> String {
    const WORDS: [(&str, &str); 18] = [
        ("expected u64", "expected a number of 0 or more, without decimals"),
        ("expected u32", "expected a number of 0 or more, without decimals"),
        ("invalid value: map, expected map with a single key", "expected an object with one key"),
        ("expected f64", "expected a number"),
        ("expected a sequence", "expected a list"),
        ("expected a boolean", "expected true or false"),
        ("expected string or map", "expected a text or an object"),
        ("expected a string", "expected a text"),
        ("expected a map", "expected an object"),
        ("invalid type: string ", "invalid type: text "),
        ("invalid type: sequence", "invalid type: list"),
        ("invalid type: map", "invalid type: object"),
        ("invalid type: integer ", "invalid type: number "),
        ("invalid type: floating point ", "invalid type: number "),
        ("invalid value: integer ", "invalid value: number "),
        ("unknown variant", "unknown"),
        ("unknown field", "unknown key"),
        ("missing field", "missing key"),
    ];
    WORDS
        .iter()
        .fold(problem.to_owned(), |problem, (of_serde, plain)| problem.replacen(of_serde, plain, 1))
}

/// For serde: requires an object, because a list would be read as a struct's fields by position.
fn object<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    json: D,
) -> std::result::Result<T, D::Error> {
    let value = Value::deserialize(json)?;
    if !value.is_object() {
        return Err(D::Error::custom(format!("{value} is not an object")));
    }
    // The error names the key within the object, which serde forgets here.
    serde_path_to_error::deserialize(value).map_err(|error| {
        let (path, inner) = (error.path().to_string(), error.inner().to_string());
        let is_named = path == "." || inner.contains(&format!("`{path}`"));
        D::Error::custom(if is_named { inner } else { format!("\"{path}\": {inner}") })
    })
}

/// The same, where a null is no object.
fn optional_object<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    json: D,
) -> std::result::Result<Option<T>, D::Error> {
    match Value::deserialize(json)? {
        Value::Null => Ok(None),
        value => object(value).map(Some).map_err(D::Error::custom),
    }
}

/// The same for a list of objects.
fn objects<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    json: D,
) -> std::result::Result<Vec<T>, D::Error> {
    let values = Vec::<Value>::deserialize(json)?;
    values.into_iter().map(|value| object(value).map_err(D::Error::custom)).collect()
}
