//! The `params` of consumers and subscriptions: how they are served, and with what.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ConfigError, Result, SERVICE_COLUMNS, Subject, object, typed};
use crate::http::address::Address;
use crate::http::check_headers;

const CONSUMER: &str = "Give {\"updater\": \"pull\"}, {\"updater\": {\"function\": {\"name\": …}}} or {\"updater\": {\"http\": {\"url\": …, \"headers\": …, \"timeout\": …, \"secret\": …}}}, and max_attempts where wanted.";
const SUBSCRIPTION: &str = "The keys are mode (\"delta\" or \"replace\"), batch_size (a number of members) and fields (a list of columns, or an object from column to name).";

/// So often a message is tried unless the consumer says otherwise.
const MAX_ATTEMPTS: u32 = 10;
const BATCH_SIZE: u32 = 10_000;
/// What PostgreSQL can still keep in one value, with room to spare.
const MAX_BATCH: u32 = 100_000;
/// A function of PostgreSQL takes a hundred arguments: a name and a value each.
const MAX_FIELDS: usize = 50;
const MAX_FIELD: usize = 1000;
const DEFAULT_FIELDS: [&str; 3] = ["id", "hash_email", "hash_phone"];

/// The column `params` of a consumer: how it is served.
#[derive(Debug, Clone)]
pub struct ConsumerParams {
    pub updater: Updater,
    /// After so many failed attempts at a message its subscription waits for a person.
    pub max_attempts: u32,
}

/// The way a consumer is served.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Updater {
    /// It claims its messages itself.
    #[default]
    Pull,
    #[serde(deserialize_with = "object")]
    Function(FunctionUpdater),
    #[serde(deserialize_with = "object")]
    Http(HttpUpdater),
}

/// A SQL function that takes each message.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FunctionUpdater {
    pub name: String,
}

/// A URL that each message is sent to.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpUpdater {
    pub url: Address,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// An interval, as text.
    pub timeout: Option<String>,
    pub secret: Option<String>,
}

/// The column `params` of a subscription: how it is handed over.
#[derive(Debug, Clone)]
pub struct SubscriptionParams {
    pub mode: Mode,
    /// How many members go into a message.
    pub batch_size: u32,
    pub fields: Fields,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// What changed.
    #[default]
    Delta,
    /// All members each time.
    Replace,
}

/// Which columns of the segment table go into a member, and under which names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Fields(BTreeMap<String, String>);

impl Fields {
    /// Each column, and its name in a member.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(column, name)| (column.as_str(), name.as_str()))
    }

    /// The key alone.
    pub fn key() -> Self {
        Self([("id".to_owned(), "id".to_owned())].into())
    }

    /// The fields whose columns there are; none: not one.
    pub fn restrict_to(&self, has: impl Fn(&str) -> bool) -> Option<Self> {
        let fields = self.0.iter().filter(|(column, _)| *column == "id" || has(column));
        let fields: BTreeMap<_, _> = fields.map(|(c, n)| (c.clone(), n.clone())).collect();
        (!fields.is_empty()).then_some(Self(fields))
    }

    /// Whether a member has just these names.
    pub fn matches(&self, member: &Value) -> bool {
        let has = |member: &serde_json::Map<String, Value>| {
            member.len() == self.0.len() && self.0.values().all(|name| member.contains_key(name))
        };
        member.as_object().is_some_and(has)
    }

    /// The name of the key in a member, where it goes into one.
    pub fn id_name(&self) -> Option<&str> {
        self.0.get("id").map(String::as_str)
    }
}

impl Default for Fields {
    fn default() -> Self {
        Self(DEFAULT_FIELDS.map(|name| (name.to_owned(), name.to_owned())).into())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConsumer {
    #[serde(default)]
    updater: Updater,
    max_attempts: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSubscription {
    #[serde(default)]
    mode: Mode,
    batch_size: Option<u32>,
    fields: Option<Value>,
}

/// Validates a consumer's `params`.
pub fn consumer_params(json: Value, subject: Subject<'_>) -> Result<ConsumerParams> {
    let raw: RawConsumer = typed("params", json, subject, CONSUMER)?;
    let problem = match &raw.updater {
        Updater::Function(function) if function.name.trim().is_empty() => {
            Some("the function has no name".to_owned())
        }
        Updater::Http(http) => check_headers(&http.headers).err(),
        _ => None,
    };
    let problem = problem.or_else(|| {
        (raw.max_attempts == Some(0)).then(|| "\"max_attempts\" must be at least 1".to_owned())
    });
    if let Some(problem) = problem {
        return Err(ConfigError::new("params", subject, problem, CONSUMER));
    }
    Ok(ConsumerParams {
        updater: raw.updater,
        max_attempts: raw.max_attempts.unwrap_or(MAX_ATTEMPTS),
    })
}

/// Validates a subscription's `params`.
pub fn subscription_params(json: Value, subject: Subject<'_>) -> Result<SubscriptionParams> {
    let raw: RawSubscription = typed("params", json, subject, SUBSCRIPTION)?;
    let batch_size = raw.batch_size.unwrap_or(BATCH_SIZE);
    let fields = match raw.fields {
        _ if !(1..=MAX_BATCH).contains(&batch_size) => {
            Err(format!("\"batch_size\" must be from 1 to {MAX_BATCH}"))
        }
        None | Some(Value::Null) => Ok(Fields::default()),
        Some(json) => fields(json),
    };
    let fields =
        fields.map_err(|problem| ConfigError::new("params", subject, problem, SUBSCRIPTION))?;
    Ok(SubscriptionParams { mode: raw.mode, batch_size, fields })
}

fn fields(json: Value) -> std::result::Result<Fields, String> {
    let text = |value: Value| match value {
        Value::String(text) => Ok(text),
        other => Err(format!("\"fields\": {other} is not a name")),
    };
    let pairs: Vec<(String, String)> = match json {
        Value::Array(columns) => columns
            .into_iter()
            .map(|column| text(column).map(|column| (column.clone(), column)))
            .collect::<std::result::Result<_, _>>()?,
        Value::Object(renamed) => renamed
            .into_iter()
            .map(|(column, name)| text(name).map(|name| (column, name)))
            .collect::<std::result::Result<_, _>>()?,
        other => return Err(format!("\"fields\": {other} is neither a list nor an object")),
    };
    if pairs.is_empty() {
        return Err("\"fields\" names no column".into());
    }
    if pairs.len() > MAX_FIELDS {
        return Err(format!("\"fields\" names {} columns, more than {MAX_FIELDS}", pairs.len()));
    }
    let mut names = BTreeSet::new();
    for (column, name) in &pairs {
        if column != "id" && SERVICE_COLUMNS.contains(&column.as_str()) {
            return Err(format!("\"fields\": \"{column}\" is a service column"));
        }
        if name.is_empty() || name.len() > MAX_FIELD {
            return Err(format!(
                "\"fields\": the name of \"{column}\" must have 1 to {MAX_FIELD} bytes"
            ));
        }
        if !names.insert(name) {
            return Err(format!("\"fields\" gives the name \"{name}\" twice"));
        }
    }
    Ok(Fields(pairs.into_iter().collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const S: Subject<'_> = Subject::Consumer("c");

    fn message<T>(result: Result<T>) -> String {
        match result {
            Ok(_) => panic!("must be refused"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_consumer_says_how_it_is_served() {
        let params = consumer_params(json!({}), S).expect("defaults");
        assert!(matches!(params.updater, Updater::Pull));
        assert_eq!(params.max_attempts, 10);
        consumer_params(json!([]), S).expect_err("a list");
        consumer_params(json!({"updater": {"function": ["f"]}}), S).expect_err("a list inside");
        consumer_params(json!({"updater": {"function": {"name": " "}}}), S).expect_err("no name");
        consumer_params(json!({"updater": "pull", "max_attempts": 3}), S).expect("pull");
        consumer_params(json!({"updater": {"http": {"url": "https://x"}}}), S).expect("http");
        assert!(message(consumer_params(json!({"updater": "push"}), S)).contains("push"));
        assert!(message(consumer_params(json!({"max_attempts": 0}), S)).contains("max_attempts"));
        let http = |headers| json!({"updater": {"http": {"url": "https://x", "headers": headers}}});
        consumer_params(http(json!({"X-Token": "a b"})), S).expect("a header");
        assert!(message(consumer_params(http(json!({"X-A": "b\nc"})), S)).contains("X-A"));
        let url = json!({"updater": {"http": {"url": "ftp://x"}}});
        assert!(message(consumer_params(url, S)).contains("ftp"));
    }

    #[test]
    fn a_subscription_says_what_is_handed_over() {
        let params = subscription_params(json!({}), S).expect("defaults");
        assert_eq!((params.mode, params.batch_size), (Mode::Delta, 10_000));
        assert_eq!(params.fields, Fields::default());
        assert_eq!(params.fields.id_name(), Some("id"));
        let fields = |fields| subscription_params(json!({ "fields": fields }), S);
        assert_eq!(fields(json!({"id": "user"})).expect("valid").fields.id_name(), Some("user"));
        assert_eq!(fields(json!(["hash_email"])).expect("valid").fields.id_name(), None);
        for (wrong, named) in [
            (json!([]), "no column"),
            (json!("id"), "list"),
            (json!([5]), "5"),
            (json!({"id": null}), "null"),
            (json!({"id": ""}), "\"id\""),
            (json!(["id", "id"]), "twice"),
            (json!({"hash_email": "x", "hash_phone": "x"}), "\"x\""),
            (json!(["processed"]), "processed"),
            (json!((0..51).map(|n| format!("c{n}")).collect::<Vec<_>>()), "51"),
        ] {
            assert!(message(fields(wrong)).contains(named), "{named}");
        }
        assert!(message(subscription_params(json!({"batchsize": 1}), S)).contains("batchsize"));
        assert!(message(subscription_params(json!({"batch_size": 0}), S)).contains("batch_size"));
        subscription_params(json!({"batch_size": 100_001}), S).expect_err("too large");
        subscription_params(json!({"mode": "all"}), S).expect_err("no such mode");
    }
}
