//! Rules of alerts: what is reported of which segments.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;

use super::{ConfigError, Result, Subject, typed};

/// The form of a rule, for hints.
const FORM: &str = "A rule is {\"on\": [\"failed\", \"refused\", \"waiting > 2 hours\", \"late\", \"size > 30 %\", \"delivery\", \"drift\", \"definition\"], \"segments\": \"*\"}: at least one of these, and \"*\" or a list of names.";
/// The most segments that a rule can name.
const MAX_SEGMENTS: usize = 1000;
/// The most changes of a state that can be allowed within a time.
const MAX_CHANGES: u32 = 1000;

/// What can be reported of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The last refresh failed, or was interrupted.
    Failed,
    /// A guard refused the last refresh.
    Refused,
    /// It waits for its sources.
    Waiting,
    /// It is due, and was not refreshed.
    Late,
    /// A refresh has changed the number of its members by much.
    Size,
    /// Messages for a consumer are stuck, or could not be written.
    Delivery,
    /// An audience differs from what was handed over.
    Drift,
    /// Its definition was changed.
    Definition,
}

impl Kind {
    pub const ALL: [Kind; 8] = [
        Kind::Failed,
        Kind::Refused,
        Kind::Waiting,
        Kind::Late,
        Kind::Size,
        Kind::Delivery,
        Kind::Drift,
        Kind::Definition,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Failed => "failed",
            Kind::Refused => "refused",
            Kind::Waiting => "waiting",
            Kind::Late => "late",
            Kind::Size => "size",
            Kind::Delivery => "delivery",
            Kind::Drift => "drift",
            Kind::Definition => "definition",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// Beyond what something is reported.
#[derive(Debug, Clone, PartialEq)]
pub enum Limit {
    /// More failures in a row.
    Count(u32),
    /// A larger share, 0.1 for 10 %.
    Share(f64),
    /// A longer time: a PostgreSQL interval, as text.
    Time(String),
}

/// A kind, with the limit that the rule gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    pub kind: Kind,
    /// None: the usual one.
    pub limit: Option<Limit>,
}

/// When a state counts as one that changes too often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flapping {
    /// More changes than this.
    pub changes: u32,
    /// Within this time: a PostgreSQL interval, as text.
    pub within: String,
}

/// The column `rule` of `segmenter_alerts`.
#[derive(Debug, Clone, PartialEq)]
pub struct AlertRule {
    /// Each kind once.
    pub on: Vec<Condition>,
    /// The names of the segments; none: all.
    pub segments: Option<Vec<String>>,
    /// None: each change is reported.
    pub flapping: Option<Flapping>,
}

impl AlertRule {
    /// The condition of a kind, if it is reported.
    pub fn on(&self, kind: Kind) -> Option<&Condition> {
        self.on.iter().find(|condition| condition.kind == kind)
    }

    /// The intervals in it, each with the key that it belongs to.
    pub fn intervals(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let limits = self.on.iter().filter_map(|condition| match &condition.limit {
            Some(Limit::Time(text)) => Some(("on", text.as_str())),
            _ => None,
        });
        limits.chain(self.flapping.iter().map(|flapping| ("within", flapping.within.as_str())))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    on: Vec<String>,
    segments: Option<Value>,
    flapping: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawFlapping {
    changes: u32,
    within: String,
}

impl Default for RawFlapping {
    fn default() -> Self {
        Self { changes: 20, within: "1 hour".into() }
    }
}

/// Validates a rule of alerts. Its intervals are PostgreSQL's to read.
pub fn alert_rule(json: Value, subject: Subject<'_>) -> Result<AlertRule> {
    let raw: RawRule = typed("rule", json, subject, FORM)?;
    let parse = || -> std::result::Result<AlertRule, String> {
        let on = raw
            .on
            .iter()
            .map(|text| condition(text))
            .collect::<std::result::Result<Vec<_>, _>>()?;
        if on.is_empty() {
            return Err("\"on\" names nothing".into());
        }
        let mut kinds = BTreeSet::new();
        if let Some(twice) = on.iter().find(|condition| !kinds.insert(condition.kind)) {
            return Err(format!("\"on\" names \"{}\" twice", twice.kind.as_str()));
        }
        Ok(AlertRule { on, segments: segments(raw.segments)?, flapping: flapping(raw.flapping)? })
    };
    parse().map_err(|problem| ConfigError::new("rule", subject, problem, FORM))
}

/// A kind, or `KIND > LIMIT`.
fn condition(text: &str) -> std::result::Result<Condition, String> {
    let (name, limit) = match text.split_once('>') {
        Some((name, limit)) => (name.trim(), Some(limit.trim())),
        None => (text.trim(), None),
    };
    let kind = Kind::named(name).ok_or_else(|| {
        let known = Kind::ALL.map(Kind::as_str).join("\", \"");
        format!("\"on\": unknown \"{name}\", expected one of \"{known}\"")
    })?;
    let limit = limit.map(|limit| self::limit(kind, limit)).transpose();
    Ok(Condition {
        kind,
        limit: limit.map_err(|problem| format!("\"on\": \"{text}\": {problem}"))?,
    })
}

fn limit(kind: Kind, text: &str) -> std::result::Result<Limit, String> {
    match kind {
        Kind::Refused | Kind::Definition => Err(format!("\"{}\" has no limit", kind.as_str())),
        Kind::Failed => match text.parse() {
            Ok(count) => Ok(Limit::Count(count)),
            Err(_) => Err("the limit is not a number of failures in a row".into()),
        },
        Kind::Size | Kind::Drift => {
            let (number, unit) = match text.strip_suffix('%') {
                Some(number) => (number.trim(), 100.0),
                None => (text, 1.0),
            };
            match number.parse::<f64>() {
                // Who writes 30 means 30 %.
                Ok(number) if number > 1.0 && number.is_finite() && unit == 1.0 => Err(format!(
                    "without %, the limit is a share of 1: write {text} % or a number below 1"
                )),
                Ok(number) if number >= 0.0 && number.is_finite() => {
                    Ok(Limit::Share(number / unit))
                }
                _ => Err("the limit is not a share, such as 30 % or 0.3".into()),
            }
        }
        // PostgreSQL skips punctuation within an interval, so that ">= 1 hour" would be one.
        Kind::Waiting | Kind::Late | Kind::Delivery
            if text.is_empty() || text.contains(['<', '>', '=', '!', '~']) =>
        {
            Err("the limit is not an interval, such as 2 hours".into())
        }
        // As an interval of PostgreSQL, a number without a unit is a number of seconds.
        Kind::Waiting | Kind::Late | Kind::Delivery if text.parse::<f64>().is_ok() => {
            Err(format!("the limit has no unit, as {text} hours has"))
        }
        Kind::Waiting | Kind::Late | Kind::Delivery => Ok(Limit::Time(text.to_owned())),
    }
}

fn segments(json: Option<Value>) -> std::result::Result<Option<Vec<String>>, String> {
    match json {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(all)) if all == "*" => Ok(None),
        Some(Value::Array(names)) if names.is_empty() => Err("\"segments\" names none".into()),
        Some(Value::Array(names)) if names.len() > MAX_SEGMENTS => Err(format!(
            "\"segments\" has {} names, it may have {MAX_SEGMENTS}; \"*\" means all",
            names.len()
        )),
        Some(Value::Array(names)) => {
            let name = |name: Value| match name {
                Value::String(name) => Ok(name),
                other => Err(format!("\"segments\": {other} is not a name")),
            };
            names.into_iter().map(name).collect::<std::result::Result<_, _>>().map(Some)
        }
        Some(other) => Err(format!("\"segments\": {other} is neither \"*\" nor a list of names")),
    }
}

fn flapping(json: Option<Value>) -> std::result::Result<Option<Flapping>, String> {
    let raw: RawFlapping = match json {
        None | Some(Value::Null | Value::Bool(true)) => RawFlapping::default(),
        Some(Value::Bool(false)) => return Ok(None),
        Some(object @ Value::Object(_)) => {
            super::of_object(object).map_err(|problem| format!("\"flapping\": {problem}"))?
        }
        Some(other) => return Err(format!("\"flapping\": {other} is neither false nor an object")),
    };
    match raw.changes {
        2..=MAX_CHANGES => Ok(Some(Flapping { changes: raw.changes, within: raw.within })),
        other => Err(format!(
            "\"flapping\": \"changes\" is {other}, it must lie between 2 and {MAX_CHANGES}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rule(json: Value) -> std::result::Result<AlertRule, String> {
        alert_rule(json, Subject::Alert("ops")).map_err(|error| error.to_string())
    }

    #[test]
    fn kinds_have_limits_of_their_own() {
        let rule = rule(json!({"on": [
            "failed > 3", "refused", "waiting > 2 h", " late ", "size>30 %", "drift > 0.1", "delivery > 1 day"
        ]}));
        let rule = rule.expect("a rule");
        let limits: Vec<_> = rule.on.iter().map(|condition| condition.limit.clone()).collect();
        let time = |text: &str| Some(Limit::Time(text.into()));
        assert_eq!(
            limits,
            [
                Some(Limit::Count(3)),
                None,
                time("2 h"),
                None,
                Some(Limit::Share(0.3)),
                Some(Limit::Share(0.1)),
                time("1 day"),
            ]
        );
        assert_eq!(rule.segments, None);
        assert_eq!(rule.flapping, Some(Flapping { changes: 20, within: "1 hour".into() }));
        let intervals: Vec<_> = rule.intervals().collect();
        assert_eq!(intervals, [("on", "2 h"), ("on", "1 day"), ("within", "1 hour")]);
        assert!(rule.on(Kind::Definition).is_none() && rule.on(Kind::Late).is_some());
    }

    #[test]
    fn segments_and_damping_are_chosen() {
        let rule = rule(json!({"on": ["late"], "segments": ["vip", "b\"c"], "flapping": false}));
        let rule = rule.expect("a rule");
        assert_eq!(rule.segments, Some(vec!["vip".to_owned(), "b\"c".to_owned()]));
        assert_eq!(rule.flapping, None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (json, problem) in [
            (json!([]), "is not an object"),
            (json!({}), "missing key \"on\""),
            (json!({"on": []}), "\"on\" names nothing"),
            (json!({"on": "failed"}), "\"on\": invalid type: text \"failed\", expected a list"),
            (json!({"on": ["fail"]}), "unknown \"fail\", expected one of \"failed\""),
            (json!({"on": ["late", "late > 1 h"]}), "names \"late\" twice"),
            (json!({"on": ["refused > 3"]}), "\"refused > 3\": \"refused\" has no limit"),
            (json!({"on": ["failed > x"]}), "not a number of failures in a row"),
            (json!({"on": ["size > much"]}), "not a share"),
            (json!({"on": ["size > -1"]}), "not a share"),
            (json!({"on": ["size > NaN"]}), "not a share"),
            (json!({"on": ["size > inf %"]}), "not a share"),
            (json!({"on": ["drift > 30"]}), "write 30 % or a number below 1"),
            (json!({"on": ["late >"]}), "not an interval"),
            (json!({"on": ["late > 1 hour > 2"]}), "not an interval"),
            (json!({"on": ["late >= 1 hour"]}), "not an interval"),
            (json!({"on": ["waiting > 2"]}), "no unit, as 2 hours has"),
            (json!({"on": ["late"], "segments": "vip"}), "neither \"*\" nor a list of names"),
            (json!({"on": ["late"], "segments": []}), "\"segments\" names none"),
            (json!({"on": ["late"], "segments": [1]}), "1 is not a name"),
            (json!({"on": ["late"], "flapping": {"changes": 1}}), "between 2 and 1000"),
            (
                json!({"on": ["late"], "flapping": {"times": 1}}),
                "\"flapping\": unknown key \"times\"",
            ),
            (json!({"on": ["late"], "flapping": 3}), "neither false nor an object"),
            (json!({"on": ["late"], "at": 1}), "unknown key \"at\""),
        ] {
            let found = rule(json.clone()).expect_err("a problem");
            assert!(found.contains(problem), "{json}: {found}");
            assert!(found.starts_with("invalid rule of the alerts for \"ops\": "), "{found}");
        }
    }
}
