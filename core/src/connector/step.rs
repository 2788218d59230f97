//! Operations and their steps, each of which is one request.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::answer::{RawRule, RawTake, Rule, Take};
use super::body::{Body, RawBody};
use super::spec::{MAIN_HOST, check_name, check_pointer, templates};
use super::template::{Place, Shared, Template};
use crate::http::check_headers;

/// What is handed over: the keys of `operations`.
pub(super) const OPERATIONS: [&str; 9] =
    ["create", "add", "remove", "replace", "delete", "events", "alert", "list", "default"];
pub(super) const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

/// How an operation is done.
#[derive(Debug, Clone)]
pub enum Operation {
    Steps(Vec<Step>),
    /// Nothing is sent: an audience cannot be created empty, or changes of this kind mean nothing to the
    /// platform.
    Nothing,
}

impl Operation {
    pub fn steps(&self) -> &[Step] {
        match self {
            Self::Steps(steps) => steps,
            Self::Nothing => &[],
        }
    }
}

/// One request, and what is taken from its answer.
#[derive(Debug, Clone)]
pub struct Step {
    pub name: String,
    /// The step is left out unless this holds.
    pub when: Option<Template>,
    pub method: String,
    pub url: Url,
    pub query: Vec<(String, Template)>,
    pub headers: Vec<(String, Template)>,
    pub body: Body,
    pub take: Take,
    pub rules: Vec<Rule>,
    pub poll: Option<Poll>,
    /// How long the next step waits.
    pub pause: Option<Duration>,
}

/// A URL: the name of a host, and the path, of which references are whole segments or parts of them.
#[derive(Debug, Clone)]
pub struct Url {
    pub host: String,
    pub path: Vec<Template>,
}

/// Asks again until the platform has processed what it was sent.
#[derive(Debug, Clone)]
pub struct Poll {
    /// Where the rows are among which that of the audience is looked for; none: the answer is the row.
    pub rows: Option<String>,
    /// What the row has, by JSON Pointers.
    pub row: Vec<(String, Template)>,
    /// Where the row has its state.
    pub state: String,
    pub done: Vec<String>,
    pub failed: Vec<String>,
    pub every: Duration,
    pub within: Duration,
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum RawOperation {
    Word(String),
    Steps(Vec<RawStep>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawStep {
    name: String,
    when: Option<Value>,
    #[serde(default = "post")]
    method: String,
    url: String,
    #[serde(default)]
    query: BTreeMap<String, Value>,
    #[serde(default)]
    headers: BTreeMap<String, Value>,
    #[serde(default)]
    body: RawBody,
    #[serde(default)]
    take: RawTake,
    #[serde(default)]
    answers: Vec<RawRule>,
    poll: Option<RawPoll>,
    /// Seconds.
    pause: Option<u32>,
}

fn post() -> String {
    "POST".into()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPoll {
    rows: Option<String>,
    #[serde(default)]
    row: BTreeMap<String, Value>,
    state: String,
    done: Vec<String>,
    #[serde(default)]
    failed: Vec<String>,
    /// Seconds.
    every: u32,
    /// Seconds.
    within: u32,
}

pub(super) fn parse_operation(
    name: &str,
    raw: RawOperation,
    shared: &Shared,
) -> Result<Operation, String> {
    if !OPERATIONS.contains(&name) {
        return Err(format!("there is no such operation; there are {}", OPERATIONS.join(", ")));
    }
    let steps = match raw {
        RawOperation::Word(word) if word == "none" => return Ok(Operation::Nothing),
        RawOperation::Word(word) => {
            return Err(format!("\"{word}\" is neither \"none\" nor a list of steps"));
        }
        RawOperation::Steps(steps) => steps,
    };
    if steps.is_empty() {
        return Err("there is no step".into());
    }
    let mut names = BTreeSet::new();
    let parse = |raw: RawStep| {
        let name = raw.name.clone();
        if !names.insert(name.clone()) {
            return Err(format!("there are two steps \"{name}\""));
        }
        parse_step(raw, shared).map_err(|problem| format!("step \"{name}\": {problem}"))
    };
    steps.into_iter().map(parse).collect::<Result<_, _>>().map(Operation::Steps)
}

fn parse_step(raw: RawStep, shared: &Shared) -> Result<Step, String> {
    check_name("step", &raw.name)?;
    if !METHODS.contains(&raw.method.as_str()) {
        return Err(format!("\"{}\" is none of {}", raw.method, METHODS.join(", ")));
    }
    let names = raw.headers.keys().map(|name| (name.clone(), String::new())).collect();
    check_headers(&names)?;
    let when = raw.when.map(|json| Template::parse(&json, shared, Place::default())).transpose();
    let rules = raw.answers.into_iter().map(Rule::parse).collect::<Result<_, _>>();
    Ok(Step {
        name: raw.name,
        when: when.map_err(|problem| format!("when: {problem}"))?,
        method: raw.method,
        url: Url::parse(&raw.url)?,
        query: templates(raw.query, shared, Place::default())
            .map_err(|problem| format!("query: {problem}"))?,
        headers: templates(raw.headers, shared, Place::header())
            .map_err(|problem| format!("headers: {problem}"))?,
        body: Body::parse(raw.body, shared).map_err(|problem| format!("body: {problem}"))?,
        take: Take::parse(raw.take, shared).map_err(|problem| format!("take: {problem}"))?,
        rules: rules.map_err(|problem| format!("answers: {problem}"))?,
        poll: raw.poll.map(|poll| parse_poll(poll, shared)).transpose()?,
        pause: raw.pause.map(|seconds| Duration::from_secs(seconds.into())),
    })
}

fn parse_poll(raw: RawPoll, shared: &Shared) -> Result<Poll, String> {
    check_pointer(&raw.state)?;
    raw.rows.as_deref().map(check_pointer).transpose()?;
    raw.row.keys().try_for_each(|pointer| check_pointer(pointer))?;
    if raw.every == 0 || raw.within == 0 || raw.done.is_empty() {
        return Err("poll: \"every\", \"within\" and \"done\" must not be empty".into());
    }
    Ok(Poll {
        rows: raw.rows,
        row: templates(raw.row, shared, Place::default())?,
        state: raw.state,
        done: raw.done,
        failed: raw.failed,
        every: Duration::from_secs(raw.every.into()),
        within: Duration::from_secs(raw.within.into()),
    })
}

impl Url {
    /// Parses `/path` (of the main host) or `{hosts.name}/path`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (host, path) = match text.strip_prefix("{hosts.") {
            Some(rest) => match rest.split_once('}') {
                Some((host, path)) => (host, path),
                None => return Err(format!("url \"{text}\" has a brace without another")),
            },
            None => (MAIN_HOST, text),
        };
        if !path.is_empty() && !path.starts_with('/') || path.contains(['?', '#']) {
            return Err(format!(
                "url \"{text}\" is no path: it begins with / or {{hosts.NAME}}, and a query is given as \"query\""
            ));
        }
        let parse =
            |segment: &str| Template::parse(&segment.into(), &Shared::default(), Place::default());
        let path = path.split('/').skip(1).map(parse).collect::<Result<_, _>>();
        Ok(Self {
            host: host.to_owned(),
            path: path.map_err(|problem| format!("url \"{text}\": {problem}"))?,
        })
    }
}
