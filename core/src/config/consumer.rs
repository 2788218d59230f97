//! Parses and validates the column `params` of consumers (how a consumer is served) and of
//! subscriptions (what is handed over, and how).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ConfigError, Result, SERVICE_COLUMNS, Subject, object, typed};
use crate::http::address::Address;
use crate::http::check_headers;
use crate::http::signature::Key;
use crate::reason::Reason;
use crate::schedule::Schedule;

const CONSUMER: &str = "Give {\"updater\": \"pull\"}, {\"updater\": {\"function\": {\"name\": ...}}}, {\"updater\": {\"http\": {\"url\": ..., \"headers\": ..., \"timeout\": ..., \"secret\": ...}}} or {\"updater\": {\"server\": ...}}, and max_attempts and list_every (with a function or a server) where wanted.";
const SUBSCRIPTION: &str = "The keys are mode (\"delta\", \"replace\" or \"events\"), batch_size (a number of members), fields (a list of columns, or an object from column to name), where (a condition on columns), paused (true or false), min_members (a number of members), resync_cron (a cron expression), max_drift (a share of the members), heal (true or false), and in mode \"events\" first (\"silent\" or \"all\") and reasons (a list).";

/// The default of `max_attempts`.
const MAX_ATTEMPTS: u32 = 10;
const BATCH_SIZE: u32 = 10_000;
/// The most members in a message. The payload must fit into one PostgreSQL value.
const MAX_BATCH: u32 = 100_000;
/// The longest condition, in characters: analysing one takes time and memory that grow with it.
const MAX_FILTER: usize = 10_000;
/// The most fields of a member. A PostgreSQL function takes at most 100 arguments: a name and a
/// value for each field.
const MAX_FIELDS: usize = 50;
const MAX_FIELD: usize = 1000;
const DEFAULT_FIELDS: [&str; 3] = ["id", "hash_email", "hash_phone"];

/// The column `params` of a consumer: how it is served.
#[derive(Debug, Clone)]
pub struct ConsumerParams {
    pub updater: Updater,
    /// The number of failed attempts after which a message is stuck and waits for an operator.
    pub max_attempts: u32,
    /// How often its function is asked which audiences there are, a PostgreSQL interval as text; none: it
    /// is not.
    pub list_every: Option<String>,
}

/// How messages reach the consumer.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Updater {
    /// The consumer claims its messages itself.
    #[default]
    Pull,
    #[serde(deserialize_with = "object")]
    Function(FunctionUpdater),
    #[serde(deserialize_with = "object")]
    Http(HttpUpdater),
    /// A foreign server, whose connector says how messages are sent.
    Server(String),
}

/// An SQL function that is called with each message.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FunctionUpdater {
    pub name: String,
    /// A PostgreSQL interval, as text.
    pub timeout: Option<String>,
}

/// A URL to which each message is posted.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpUpdater {
    pub url: Address,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// A PostgreSQL interval, as text.
    pub timeout: Option<String>,
    pub secret: Option<Key>,
}

/// The column `params` of a subscription: what is handed over, and how.
#[derive(Debug, Clone)]
pub struct SubscriptionParams {
    pub mode: Mode,
    /// The most members in a message.
    pub batch_size: u32,
    pub selection: Selection,
    /// Changes are held back. (Events are written all the same, and delivered after the pause.)
    pub is_paused: bool,
    /// The reasons of the events that are handed over; none: all are.
    pub reasons: Option<Vec<Reason>>,
    /// The fewest members that the audience may have; none: any number.
    pub min_members: Option<u64>,
    /// When all members are handed over again.
    pub resync: Option<Schedule>,
    /// How far the audience may differ from what was handed over, as a share, by what the consumer reports;
    /// none: that is not looked at.
    pub max_drift: Option<f64>,
    /// All members are handed over again where it differs by more.
    pub heals: bool,
}

/// Which members of a segment a subscription has, and what of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    pub fields: Fields,
    /// The SQL condition that its members fulfil; none: it has all members.
    pub filter: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// The delta of each refresh.
    #[default]
    Delta,
    /// All members after each refresh.
    Replace,
    /// The delta of each refresh, as what happened to each member.
    Events(First),
}

impl Mode {
    pub fn is_events(self) -> bool {
        matches!(self, Self::Events(_))
    }
}

/// What is handed over in mode `events` of those who are members at the first hand-over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum First {
    /// Nothing.
    #[default]
    Silent,
    /// That each has entered.
    All,
}

/// The keys of an event besides the fields: no field can have such a name. The key `id` is that of the
/// column `id`.
pub const EVENT_KEYS: [&str; 4] = ["event", "at", "reason", "old"];

/// The columns of the segment table that a member in a message has, and their names there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Fields(BTreeMap<String, String>);

impl Fields {
    /// Each column with its name in a member.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(column, name)| (column.as_str(), name.as_str()))
    }

    /// Only the key: the column `id` under its own name.
    pub fn key() -> Self {
        Self([("id".to_owned(), "id".to_owned())].into())
    }

    /// The fields whose columns exist according to `has`; `id` always exists. `None` if no field is
    /// left.
    pub fn restrict_to(&self, has: impl Fn(&str) -> bool) -> Option<Self> {
        let fields = self.0.iter().filter(|(column, _)| *column == "id" || has(column));
        let fields: BTreeMap<_, _> = fields.map(|(c, n)| (c.clone(), n.clone())).collect();
        (!fields.is_empty()).then_some(Self(fields))
    }

    /// Whether a member with these names has exactly the names of these fields.
    pub fn matches(&self, names: &[String]) -> bool {
        names.len() == self.0.len() && self.0.values().all(|name| names.contains(name))
    }

    /// The name of the key in a member; `None` if the key is not one of the fields.
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
    max_attempts: Option<u64>,
    list_every: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSubscription {
    mode: Option<Value>,
    batch_size: Option<u64>,
    fields: Option<Value>,
    #[serde(rename = "where")]
    filter: Option<String>,
    paused: Option<bool>,
    min_members: Option<u64>,
    resync_cron: Option<String>,
    first: Option<Value>,
    reasons: Option<Vec<String>>,
    max_drift: Option<f64>,
    heal: Option<bool>,
}

/// Validates a consumer's `params`.
pub fn consumer_params(json: Value, subject: Subject<'_>) -> Result<ConsumerParams> {
    let raw: RawConsumer = typed("params", json, subject, CONSUMER)?;
    let problem = match &raw.updater {
        Updater::Function(function) if function.name.trim().is_empty() => {
            Some("the function has no name".to_owned())
        }
        Updater::Http(http) => check_headers(&http.headers).err(),
        Updater::Server(name) if name.trim().is_empty() => Some("the server has no name".into()),
        _ => None,
    };
    let is_asked = matches!(raw.updater, Updater::Function(_) | Updater::Server(_));
    let problem = problem.or_else(|| {
        let problem = "\"list_every\" is for consumers that are served by a function or a server; others report by segmenter_report_audiences()";
        (raw.list_every.is_some() && !is_asked).then(|| problem.to_owned())
    });
    let attempts = match raw.max_attempts {
        None => Ok(MAX_ATTEMPTS),
        Some(0) => Err("\"max_attempts\" must be at least 1".to_owned()),
        Some(attempts) => u32::try_from(attempts)
            .map_err(|_| format!("\"max_attempts\" must be at most {}", u32::MAX)),
    };
    match (problem, attempts) {
        (None, Ok(max_attempts)) => {
            let RawConsumer { updater, list_every, .. } = raw;
            Ok(ConsumerParams { updater, max_attempts, list_every })
        }
        (Some(problem), _) | (None, Err(problem)) => {
            Err(ConfigError::new("params", subject, problem, CONSUMER))
        }
    }
}

/// Validates a subscription's `params`.
pub fn subscription_params(json: Value, subject: Subject<'_>) -> Result<SubscriptionParams> {
    let raw: RawSubscription = typed("params", json, subject, SUBSCRIPTION)?;
    let batch_size = u32::try_from(raw.batch_size.unwrap_or(BATCH_SIZE.into())).unwrap_or(u32::MAX);
    let fields = match raw.fields {
        _ if !(1..=MAX_BATCH).contains(&batch_size) => {
            Err(format!("\"batch_size\" must be from 1 to {MAX_BATCH}"))
        }
        None | Some(Value::Null) => Ok(Fields::default()),
        Some(json) => fields(json),
    };
    let filter = match raw.filter {
        Some(filter) if filter.trim().is_empty() => Err("\"where\" has no condition".to_owned()),
        Some(filter) if filter.chars().count() > MAX_FILTER => Err(format!(
            "\"where\" has {} characters, it may have {MAX_FILTER}; calculate long conditions in the segment's query, as a column of its table",
            filter.chars().count()
        )),
        filter => Ok(filter),
    };
    let resync = raw.resync_cron.as_deref().map(str::parse::<Schedule>).transpose();
    let resync = resync.map_err(|error| {
        ConfigError::new("params", subject, format!("\"resync_cron\": {error}"), &error.hint())
    })?;
    let invalid = |problem| ConfigError::new("params", subject, problem, SUBSCRIPTION);
    let selection =
        Selection { fields: fields.map_err(invalid)?, filter: filter.map_err(invalid)? };
    let mode = mode(raw.mode.as_ref(), raw.first.as_ref()).map_err(invalid)?;
    let reasons = raw.reasons.as_deref().map(reasons).transpose().map_err(invalid)?;
    let min_members = raw.min_members.filter(|min| *min > 0);
    if mode.is_events() {
        let useless = [
            ("resync_cron", resync.is_some()),
            ("min_members", min_members.is_some()),
            ("max_drift", raw.max_drift.is_some()),
        ];
        if let Some((key, _)) = useless.iter().find(|(_, is_given)| *is_given) {
            let problem =
                format!("\"{key}\" concerns all members, which mode \"events\" does not hand over");
            return Err(invalid(problem));
        }
        check_event_fields(&selection.fields).map_err(invalid)?;
    } else if reasons.is_some() {
        return Err(invalid("\"reasons\" is for mode \"events\" only".into()));
    }
    let heals = raw.heal.unwrap_or_default();
    match raw.max_drift {
        None if heals => return Err(invalid("\"heal\" needs \"max_drift\"".into())),
        Some(drift) if drift < 0.0 => {
            return Err(invalid("\"max_drift\" must not be negative".into()));
        }
        _ => {}
    }
    Ok(SubscriptionParams {
        mode,
        batch_size,
        selection,
        is_paused: raw.paused.unwrap_or_default() && !mode.is_events(),
        reasons,
        min_members,
        resync,
        max_drift: raw.max_drift,
        heals,
    })
}

fn mode(mode: Option<&Value>, first: Option<&Value>) -> std::result::Result<Mode, String> {
    let mode = match mode {
        None | Some(Value::Null) => Mode::Delta,
        Some(value) => match value.as_str() {
            Some("delta") => Mode::Delta,
            Some("replace") => Mode::Replace,
            Some("events") => Mode::Events(First::Silent),
            _ => {
                return Err(format!(
                    "\"mode\": unknown {value}, expected \"delta\", \"replace\" or \"events\""
                ));
            }
        },
    };
    match first {
        None | Some(Value::Null) => Ok(mode),
        Some(_) if !mode.is_events() => Err("\"first\" is for mode \"events\" only".into()),
        Some(value) => match value.as_str() {
            Some("silent") => Ok(Mode::Events(First::Silent)),
            Some("all") => Ok(Mode::Events(First::All)),
            _ => Err(format!("\"first\": unknown {value}, expected \"silent\" or \"all\"")),
        },
    }
}

fn reasons(names: &[String]) -> std::result::Result<Vec<Reason>, String> {
    if names.is_empty() {
        return Err("\"reasons\" names none".into());
    }
    let reason = |name: &String| {
        Reason::named(name).ok_or_else(|| {
            let known = Reason::ALL.map(Reason::as_str).join("\", \"");
            format!("\"reasons\": unknown \"{name}\", expected one of \"{known}\"")
        })
    };
    names.iter().map(reason).collect()
}

/// Checks that no field takes a name that an event needs.
fn check_event_fields(fields: &Fields) -> std::result::Result<(), String> {
    for (column, name) in fields.iter() {
        let is_taken = EVENT_KEYS.contains(&name) || name == "id" && column != "id";
        if is_taken {
            return Err(format!(
                "\"fields\": \"{name}\" is a key of events, so \"{column}\" needs another name"
            ));
        }
    }
    Ok(())
}

/// The first text in double braces in the name of an audience that is no placeholder: it stays as it
/// is.
pub fn unknown_placeholder(name: &str) -> Option<&str> {
    const KNOWN: [&str; 3] = ["name", "consumer", "target"];
    let mut rest = name;
    while let Some((_, after)) = rest.split_once("{{") {
        let (word, after) = after.split_once("}}")?;
        if !KNOWN.contains(&word) {
            return Some(word);
        }
        rest = after;
    }
    None
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
    fn consumer_params_are_validated() {
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
        let list = |updater| json!({"updater": updater, "list_every": "1 day"});
        let function = consumer_params(list(json!({"function": {"name": "f"}})), S);
        assert_eq!(function.expect("a function").list_every.as_deref(), Some("1 day"));
        for updater in [json!("pull"), json!({"http": {"url": "https://x"}})] {
            assert!(message(consumer_params(list(updater), S)).contains("list_every"));
        }
        let http = |headers| json!({"updater": {"http": {"url": "https://x", "headers": headers}}});
        consumer_params(http(json!({"X-Token": "a b"})), S).expect("a header");
        assert!(message(consumer_params(http(json!({"X-A": "b\nc"})), S)).contains("X-A"));
        let url = json!({"updater": {"http": {"url": "ftp://x"}}});
        assert!(message(consumer_params(url, S)).contains("ftp"));
    }

    #[test]
    fn unknown_placeholders_of_a_name_are_found() {
        for name in ["", "{{name}} for {{consumer}}/{{target}}", "{name}", "{{name", "}}{{"] {
            assert_eq!(unknown_placeholder(name), None, "{name}");
        }
        for (name, unknown) in
            [("{{nmae}}", "nmae"), ("{{name}} {{ target }}", " target "), ("{{}}", "")]
        {
            assert_eq!(unknown_placeholder(name), Some(unknown));
        }
    }

    #[test]
    fn params_of_events_are_validated() {
        let params = |mut json: Value| {
            if json.get("mode").is_none() {
                json["mode"] = json!("events");
            }
            subscription_params(json, S)
        };
        let silent = params(json!({})).expect("events");
        assert_eq!((silent.mode, silent.reasons), (Mode::Events(First::Silent), None));
        let all = params(json!({"first": "all", "reasons": ["data", "one-off"], "paused": true}));
        let all = all.expect("valid");
        assert_eq!(all.mode, Mode::Events(First::All));
        assert_eq!(all.reasons, Some(vec![Reason::Data, Reason::OneOff]));
        // They are delivered later, not written later.
        assert!(!all.is_paused);
        for (wrong, named) in [
            (json!({"first": "none"}), "\"none\""),
            (json!({"first": true}), "\"first\""),
            (json!({"reasons": []}), "none"),
            (json!({"reasons": ["date"]}), "\"date\""),
            (json!({"reasons": "data"}), "reasons"),
            (json!({"reasons": [1]}), "1"),
            (json!({"resync_cron": "@daily"}), "\"resync_cron\""),
            (json!({"min_members": 5}), "\"min_members\""),
            (json!({"max_drift": 0.1}), "\"max_drift\""),
            (json!({"heal": true}), "\"heal\""),
            (json!({"fields": {"id": "at"}}), "\"at\""),
            (json!({"fields": ["id", "old"]}), "\"old\""),
            (json!({"fields": {"hash_email": "id"}}), "\"hash_email\""),
            (json!({"mode": "delta", "first": "all"}), "\"first\""),
            (json!({"mode": "replace", "reasons": ["data"]}), "\"reasons\""),
            (json!({"mode": "event"}), "\"events\""),
        ] {
            let message = message(params(wrong));
            assert!(message.contains(named), "{message}");
        }
        params(json!({"fields": {"id": "user", "hash_email": "email"}})).expect("renamed");
        subscription_params(json!({"fields": {"id": "at", "hash_email": "old"}}), S)
            .expect("delta");
    }

    #[test]
    fn subscription_params_are_validated() {
        let params = subscription_params(json!({}), S).expect("defaults");
        assert_eq!((params.mode, params.batch_size), (Mode::Delta, 10_000));
        assert_eq!(params.selection, Selection::default());
        assert_eq!(params.selection.fields.id_name(), Some("id"));
        let fields = |fields| subscription_params(json!({ "fields": fields }), S);
        assert_eq!(
            fields(json!({"id": "user"})).expect("valid").selection.fields.id_name(),
            Some("user")
        );
        assert_eq!(fields(json!(["hash_email"])).expect("valid").selection.fields.id_name(), None);
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
        let all = subscription_params(json!({"mode": null, "first": null, "reasons": null}), S);
        assert_eq!(all.expect("nothing given").mode, Mode::Delta);
        assert_eq!((params.is_paused, params.min_members), (false, None));
        let held = json!({"paused": true, "min_members": 1000});
        let held = subscription_params(held, S).expect("valid");
        assert_eq!((held.is_paused, held.min_members), (true, Some(1000)));
        let none = json!({"paused": null, "min_members": 0});
        assert_eq!(subscription_params(none, S).expect("valid").min_members, None);
        for (key, wrong) in
            [("paused", json!("yes")), ("min_members", json!(-1)), ("min_members", json!(1.5))]
        {
            assert!(message(subscription_params(json!({ key: wrong }), S)).contains(key));
        }
        assert_eq!((params.max_drift, params.heals), (None, false));
        let drift = |json| subscription_params(json, S);
        let heals = drift(json!({"max_drift": 0, "heal": true})).expect("valid");
        assert_eq!((heals.max_drift, heals.heals), (Some(0.0), true));
        assert!(drift(json!({"max_drift": 1.5, "heal": null})).is_ok());
        for (wrong, named) in [
            (json!({"heal": true}), "max_drift"),
            (json!({"max_drift": -0.1}), "negative"),
            (json!({"max_drift": "10 %"}), "max_drift"),
            (json!({"max_drift": 0.1, "heal": 1}), "heal"),
        ] {
            assert!(message(drift(wrong)).contains(named), "{named}");
        }
        let resync = |cron| subscription_params(json!({ "resync_cron": cron }), S);
        assert_eq!(resync(json!(null)).expect("valid").resync, None);
        assert_eq!(resync(json!("@monthly")).expect("valid").resync, "0 0 1 * *".parse().ok());
        let error = resync(json!("0 25 * * *")).expect_err("no such hour");
        assert!(error.to_string().contains("\"resync_cron\""), "{error}");
        assert!(error.hint.is_some_and(|hint| hint.contains("0 to 23")));
        assert!(message(resync(json!(5))).contains("resync_cron"));
        let filter = |filter| subscription_params(json!({ "where": filter }), S);
        let city = filter(json!("city = 1")).expect("valid").selection.filter;
        assert_eq!(city.as_deref(), Some("city = 1"));
        assert_eq!(filter(json!(null)).expect("valid").selection.filter, None);
        assert!(message(filter(json!(" \n"))).contains("\"where\""));
        assert!(message(filter(json!(5))).contains("\"where\""));
        assert!(filter(json!("é".repeat(MAX_FILTER))).is_ok());
        assert!(message(filter(json!("é".repeat(MAX_FILTER + 1)))).contains("10001 characters"));
    }
}
