//! Answers of platforms: what a status and a body mean, and what is taken from them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::spec::{check_name, check_pointer};
use super::template::{Place, Shared, Template, as_text};

/// The longest time that a platform can ask to wait for.
const WAIT_LIMIT: Duration = Duration::from_hours(24);

/// An answer, as it came.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body; null if it is no JSON.
    pub json: Value,
    /// The body. It may hold secrets.
    pub text: String,
}

/// What an answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Meaning {
    Ok,
    /// The same request may succeed later.
    Retry,
    /// The access token is not valid any more: another one is needed.
    Token,
    /// The platform has no such audience.
    Gone,
    /// A person must look at it: repeating it would not help.
    Stop,
}

/// A rule: what an answer means that has these properties. All that are given must be there.
#[derive(Debug, Clone)]
pub struct Rule {
    statuses: Vec<u16>,
    json: Vec<(String, Vec<Value>)>,
    meaning: Meaning,
    wait: Option<Wait>,
    say: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRule {
    #[serde(default)]
    status: Vec<u16>,
    /// Values by JSON Pointers; an empty list: any value but null.
    #[serde(default)]
    json: BTreeMap<String, Vec<Value>>,
    #[serde(rename = "do")]
    meaning: Meaning,
    wait: Option<Wait>,
    /// A JSON Pointer to what the platform says.
    say: Option<String>,
}

/// How long to wait.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wait {
    /// The time, in `unit`.
    time: Option<u32>,
    /// A header that has it.
    header: Option<String>,
    /// Where the header, if it is JSON, or the body has it: a JSON Pointer, in which `*` is any key.
    json: Option<String>,
    #[serde(default)]
    unit: Unit,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Unit {
    #[default]
    Seconds,
    Minutes,
}

impl Rule {
    pub(super) fn parse(raw: RawRule) -> Result<Self, String> {
        raw.json.keys().try_for_each(|pointer| check_pointer(pointer))?;
        raw.say.as_deref().map(check_pointer).transpose()?;
        if let Some(wait) = &raw.wait {
            wait.json.as_deref().map(check_pointer).transpose()?;
            if wait.time.is_none() && wait.header.is_none() && wait.json.is_none() {
                return Err("\"wait\" has neither \"time\" nor \"header\" nor \"json\"".into());
            }
        }
        Ok(Self {
            statuses: raw.status,
            json: raw.json.into_iter().collect(),
            meaning: raw.meaning,
            wait: raw.wait,
            say: raw.say,
        })
    }

    fn fits(&self, answer: &Answer) -> bool {
        let has_status = self.statuses.is_empty() || self.statuses.contains(&answer.status);
        has_status
            && self.json.iter().all(|(pointer, values)| match answer.json.pointer(pointer) {
                None | Some(Value::Null) => false,
                Some(found) => values.is_empty() || values.contains(found),
            })
    }
}

/// What an answer means, how long to wait, and what the platform says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub meaning: Meaning,
    pub wait: Option<Duration>,
    /// It may hold secrets.
    pub problem: String,
}

impl Answer {
    /// What it means: by the first rule that fits, or by its status.
    pub fn judge<'a>(&self, rules: impl Iterator<Item = &'a Rule>) -> Verdict {
        let rule = { rules }.find(|rule| rule.fits(self));
        let said = rule.and_then(|rule| self.json.pointer(rule.say.as_deref()?)).and_then(as_text);
        let status = match ureq::http::StatusCode::from_u16(self.status) {
            Ok(status) => status.to_string(),
            Err(_) => self.status.to_string(),
        };
        let text = said.unwrap_or_else(|| self.text.clone());
        let problem = if text.is_empty() { status } else { format!("{status}: {text}") };
        let meaning = match rule {
            Some(rule) => rule.meaning,
            None => match self.status {
                200..=299 => Meaning::Ok,
                401 => Meaning::Token,
                // Redirects are not followed: what is sent is not for others.
                300..=399 => Meaning::Stop,
                _ => Meaning::Retry,
            },
        };
        let wait = match rule.and_then(|rule| rule.wait.as_ref()) {
            Some(wait) => wait.of(self),
            None => None,
        };
        let wait = wait.or_else(|| matches!(self.status, 429 | 503).then(|| self.retry_after())?);
        Verdict { meaning, wait: wait.map(|wait| wait.min(WAIT_LIMIT)), problem }
    }

    fn retry_after(&self) -> Option<Duration> {
        crate::http::parse_retry(self.headers.get("retry-after")?, chrono::Utc::now())
    }
}

impl Wait {
    fn of(&self, answer: &Answer) -> Option<Duration> {
        let header = self.header.as_ref().map(|name| answer.headers.get(&name.to_lowercase()));
        let number = match (header, &self.json) {
            (Some(text), None) => text?.trim().parse().ok(),
            (Some(text), Some(pointer)) => longest(&serde_json::from_str(text?).ok()?, pointer),
            (None, Some(pointer)) => longest(&answer.json, pointer),
            (None, None) => None,
        };
        let number: f64 = number.or(self.time.map(f64::from))?;
        let seconds = match self.unit {
            Unit::Seconds => number,
            Unit::Minutes => number * 60.0,
        };
        (seconds > 0.0).then(|| Duration::try_from_secs_f64(seconds).unwrap_or(WAIT_LIMIT))
    }
}

/// The highest number at a JSON Pointer in which `*` is any key.
fn longest(json: &Value, pointer: &str) -> Option<f64> {
    let Some(rest) = pointer.strip_prefix('/') else {
        return match json {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
    };
    let (key, rest) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    let of = |value: &Value| longest(value, rest);
    let found: Vec<f64> = match json {
        Value::Object(entries) if key == "*" => entries.values().filter_map(of).collect(),
        Value::Array(items) if key == "*" => items.iter().filter_map(of).collect(),
        json => json.pointer(&format!("/{key}")).and_then(of).into_iter().collect(),
    };
    found.into_iter().reduce(f64::max)
}

/// What a step takes from an answer.
#[derive(Debug, Clone, Default)]
pub struct Take {
    receipt: Vec<(&'static str, Source)>,
    taken: Vec<(String, Source)>,
    kept: Vec<(String, Source)>,
    pub rows: Option<Rows>,
}

/// Where the value is.
#[derive(Debug, Clone)]
enum Source {
    Pointer(String),
    Header(String),
    Value(Template),
}

/// A list of audiences in an answer: where it is, and where each of them has what.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rows {
    rows: String,
    external_id: String,
    name: Option<String>,
    size: Option<String>,
    match_rate: Option<String>,
    /// The same as a number of percent.
    match_percent: Option<String>,
    /// How the next page is asked for, `{taken.next}`: what is at a JSON Pointer, the number of audiences
    /// until then (`offset`), or that of the page, from 1 (`page`).
    next: Option<String>,
}

/// The name of what the next page is asked for with.
pub(super) const NEXT: &str = "next";

impl Rows {
    fn check(&self) -> Result<(), String> {
        let optional = [&self.name, &self.size, &self.match_rate, &self.match_percent];
        let pointers = [Some(&self.rows), Some(&self.external_id)].into_iter();
        pointers
            .chain(optional.into_iter().map(Option::as_ref))
            .flatten()
            .try_for_each(|pointer| check_pointer(pointer))?;
        match self.next.as_deref() {
            None | Some("offset" | "page") => Ok(()),
            Some(pointer) => check_pointer(pointer),
        }
    }

    /// The audiences of a page, in the form of a report; none: the answer has no list.
    pub(super) fn audiences(&self, answer: &Answer) -> Option<Vec<Value>> {
        let rows = answer.json.pointer(&self.rows)?.as_array()?;
        let audience = |row: &Value| {
            let text = |pointer: &str| row.pointer(pointer).and_then(as_text);
            let number = |pointer: &Option<String>| {
                text(pointer.as_deref()?)?.parse::<f64>().ok().filter(|number| *number >= 0.0)
            };
            let mut audience = serde_json::Map::new();
            audience.insert("external_id".into(), text(&self.external_id)?.into());
            if let Some(name) = self.name.as_deref().and_then(text) {
                audience.insert("name".into(), name.into());
            }
            if let Some(size) = number(&self.size) {
                audience.insert("size".into(), (size as i64).into());
            }
            let percent = || number(&self.match_percent).map(|percent| percent / 100.0);
            if let Some(rate) = number(&self.match_rate).or_else(percent) {
                audience.insert("match_rate".into(), rate.min(1.0).into());
            }
            Some(Value::Object(audience))
        };
        Some(rows.iter().filter_map(audience).collect())
    }

    /// What the page after this one is asked for with; none: there is none. `pages` and `audiences`: how many
    /// there were until now.
    pub(super) fn next(&self, answer: &Answer, pages: usize, audiences: usize) -> Option<Value> {
        match self.next.as_deref()? {
            "offset" => Some(audiences.into()),
            "page" => Some((pages + 1).into()),
            pointer => answer.json.pointer(pointer).filter(|next| !next.is_null()).cloned(),
        }
    }
}

/// Keys of `take` that become part of the receipt.
const RECEIPT: [&str; 5] = ["external_id", "num_received", "num_invalid", "coverage", "message"];

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawTake {
    external_id: Option<Value>,
    num_received: Option<Value>,
    num_invalid: Option<Value>,
    coverage: Option<Value>,
    message: Option<Value>,
    /// For the next steps of the message.
    values: BTreeMap<String, Value>,
    /// For the next steps of the operation, in all its parts.
    keep: BTreeMap<String, Value>,
    audiences: Option<Rows>,
}

impl Take {
    pub(super) fn parse(raw: RawTake, shared: &Shared) -> Result<Self, String> {
        let receipt =
            [raw.external_id, raw.num_received, raw.num_invalid, raw.coverage, raw.message];
        let receipt = RECEIPT.into_iter().zip(receipt);
        let receipt = receipt
            .filter_map(|(name, json)| Some((name, json?)))
            .map(|(name, json)| Source::parse(&json, shared).map(|source| (name, source)));
        let named = |values: BTreeMap<String, Value>| {
            let parse = |(name, json): (String, Value)| {
                check_name("value", &name)?;
                Ok((name, Source::parse(&json, shared)?))
            };
            values.into_iter().map(parse).collect::<Result<Vec<_>, String>>()
        };
        raw.audiences.iter().try_for_each(Rows::check)?;
        Ok(Self {
            receipt: receipt.collect::<Result<_, _>>()?,
            taken: named(raw.values)?,
            kept: named(raw.keep)?,
            rows: raw.audiences,
        })
    }

    pub(super) fn taken(&self) -> impl Iterator<Item = &str> {
        let next = self.rows.as_ref().map(|_| NEXT);
        self.taken.iter().map(|(name, _)| name.as_str()).chain(next)
    }

    pub(super) fn kept(&self) -> impl Iterator<Item = &str> {
        self.kept.iter().map(|(name, _)| name.as_str())
    }

    pub(super) fn takes_external_id(&self) -> bool {
        self.receipt.iter().any(|(name, _)| *name == "external_id")
    }

    pub(super) fn templates(&self) -> impl Iterator<Item = &Template> {
        let sources = self.receipt.iter().map(|(_, source)| source);
        let sources = sources.chain(self.taken.iter().chain(&self.kept).map(|(_, source)| source));
        sources.filter_map(|source| match source {
            Source::Value(template) => Some(template),
            Source::Pointer(_) | Source::Header(_) => None,
        })
    }

    /// What it takes from an answer into the receipt.
    pub(super) fn receipt_of(
        &self,
        answer: &Answer,
        value: impl Fn(&Template) -> Option<Value>,
    ) -> Vec<(&'static str, Value)> {
        let get =
            |(name, source): &(&'static str, Source)| Some((*name, source.value(answer, &value)?));
        self.receipt.iter().filter_map(get).collect()
    }

    /// What it takes for the next steps of the message.
    pub(super) fn taken_of(
        &self,
        answer: &Answer,
        value: impl Fn(&Template) -> Option<Value>,
    ) -> Vec<(String, Value)> {
        values_of(&self.taken, answer, value)
    }

    /// What it keeps for the next steps of the operation.
    pub(super) fn kept_of(
        &self,
        answer: &Answer,
        value: impl Fn(&Template) -> Option<Value>,
    ) -> Vec<(String, Value)> {
        values_of(&self.kept, answer, value)
    }
}

fn values_of(
    sources: &[(String, Source)],
    answer: &Answer,
    value: impl Fn(&Template) -> Option<Value>,
) -> Vec<(String, Value)> {
    let get =
        |(name, source): &(String, Source)| Some((name.clone(), source.value(answer, &value)?));
    sources.iter().filter_map(get).collect()
}

impl Source {
    /// The value in an answer; `None`: there is none, or null.
    fn value(&self, answer: &Answer, value: impl Fn(&Template) -> Option<Value>) -> Option<Value> {
        let found = match self {
            Self::Pointer(pointer) => answer.json.pointer(pointer).cloned(),
            Self::Header(name) => answer.headers.get(name).map(|text| text.as_str().into()),
            Self::Value(template) => value(template),
        };
        found.filter(|value| !value.is_null())
    }

    fn parse(json: &Value, shared: &Shared) -> Result<Self, String> {
        match json {
            Value::String(pointer) => {
                check_pointer(pointer).map(|()| Self::Pointer(pointer.clone()))
            }
            Value::Object(entries) if entries.len() == 1 => {
                match entries.iter().next().map(|(key, value)| (key.as_str(), value)) {
                    Some(("header", Value::String(name))) => Ok(Self::Header(name.to_lowercase())),
                    Some(("value", template)) => {
                        Template::parse(template, shared, Place::default()).map(Self::Value)
                    }
                    _ => {
                        Err(format!("{json} is neither {{\"header\": ...}} nor {{\"value\": ...}}"))
                    }
                }
            }
            _ => Err(format!("{json} is neither a JSON Pointer nor an object of one key")),
        }
    }
}
