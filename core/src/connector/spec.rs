//! The spec of a connector: what of a platform is data. It is a closed schema, which
//! `connectors/schema.json` describes; [`Spec::parse`] checks a spec when it is written.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use regex::Regex;
use serde::Deserialize;
use serde_json::Value;

use super::answer::{RawRule, RawTake, Rule, Take};
use super::body::{Body, RawBody};
use super::grant::{Grant, RawGrant};
use super::template::{Place, Reference, Shared, Template};
use crate::http::address::Address;
use crate::http::check_headers;

/// The host of steps that name none. The option `url` of a server takes its place.
pub const MAIN_HOST: &str = "api";
/// Options that every server has.
pub const CONNECTOR: &str = "connector";
pub const TIMEOUT: &str = "timeout";
/// Secrets that Segmenter keeps in user mappings beside those of the spec.
pub const ACCESS_TOKEN: &str = "access_token";
pub const ACCESS_TOKEN_EXPIRES: &str = "access_token_expires";

/// What is handed over: the keys of `operations`.
pub const OPERATIONS: [&str; 8] =
    ["create", "add", "remove", "replace", "delete", "events", "list", "default"];
const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

/// A spec, checked.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The platform's hosts, by names; none: an option of the server must say it.
    pub hosts: BTreeMap<String, Option<Address>>,
    pub options: BTreeMap<String, OptionSpec>,
    pub secrets: BTreeMap<String, SecretSpec>,
    /// How to get an access token: the first whose condition holds.
    pub grants: Vec<Grant>,
    /// Headers of every request but those of grants.
    pub headers: Vec<(String, Template)>,
    /// The key of signatures as Standard Webhooks says; none: requests are not signed.
    pub signature: Option<Template>,
    /// What members can have, by the names of fields in messages.
    pub fields: BTreeMap<String, FieldSpec>,
    /// Members have exactly one of the fields.
    pub is_one_field: bool,
    pub limits: Limits,
    pub operations: BTreeMap<String, Operation>,
    /// Answers of success are JSON; others are not from the platform.
    pub has_json_answers: bool,
    /// Rules for answers, before those that hold for every connector.
    pub rules: Vec<Rule>,
}

/// An option of a server.
#[derive(Debug, Clone)]
pub struct OptionSpec {
    pub is_required: bool,
    pub default: Option<String>,
    pub values: Vec<String>,
    pub pattern: Option<Regex>,
    pub description: String,
}

/// An option of a user mapping.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretSpec {
    #[serde(rename = "required", default)]
    pub is_required: bool,
    #[serde(default)]
    pub description: String,
}

/// A field of members.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldSpec {
    /// The platform's name for it.
    #[serde(rename = "as")]
    pub name: String,
    #[serde(default)]
    pub form: Form,
}

/// The form that a value must have. A value of another form is not handed over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// 64 lower-case hexadecimal digits.
    Sha256,
    /// 32 lower-case hexadecimal digits.
    Md5,
    /// 128 lower-case hexadecimal digits.
    Sha512,
    /// SHA-256 in Base64.
    Sha256Base64,
    /// Any text that is not empty.
    #[default]
    Text,
}

impl Form {
    pub fn fits(self, text: &str) -> bool {
        let is_hex = |digits| {
            let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            text.len() == digits && text.bytes().all(is_digit)
        };
        match self {
            Self::Sha256 => is_hex(64),
            Self::Md5 => is_hex(32),
            Self::Sha512 => is_hex(128),
            Self::Sha256Base64 => {
                data_encoding::BASE64.decode(text.as_bytes()).is_ok_and(|hash| hash.len() == 32)
            }
            Self::Text => !text.is_empty(),
        }
    }
}

/// What the platform takes.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// The most members in a request.
    pub members: Option<u32>,
    /// The fewest members in a request that changes an audience.
    pub least: Option<u32>,
    /// The most requests in a time, of one server and user mapping.
    pub per_second: Option<u32>,
    pub per_minute: Option<u32>,
    pub per_hour: Option<u32>,
    pub per_day: Option<u32>,
    /// GET requests do not count.
    pub free_reads: bool,
}

impl Limits {
    /// Whether requests of a method are among those that the platform limits.
    pub fn counts(&self, method: &str) -> bool {
        !(self.free_reads && method == "GET")
    }

    /// Windows and the most requests in each.
    pub fn windows(&self) -> Vec<(Duration, u32)> {
        let windows = [
            (Duration::from_secs(1), self.per_second),
            (Duration::from_mins(1), self.per_minute),
            (Duration::from_hours(1), self.per_hour),
            (Duration::from_hours(24), self.per_day),
        ];
        windows.into_iter().filter_map(|(window, most)| Some((window, most?))).collect()
    }
}

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
#[serde(deny_unknown_fields)]
struct RawSpec {
    hosts: BTreeMap<String, Option<String>>,
    #[serde(default)]
    options: BTreeMap<String, RawOption>,
    #[serde(default)]
    secrets: BTreeMap<String, SecretSpec>,
    #[serde(default)]
    grants: Vec<RawGrant>,
    #[serde(default)]
    headers: BTreeMap<String, Value>,
    signature: Option<Value>,
    #[serde(default)]
    fields: BTreeMap<String, FieldSpec>,
    #[serde(default)]
    one_field: bool,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    templates: Shared,
    operations: BTreeMap<String, RawOperation>,
    #[serde(default)]
    answers: Vec<RawRule>,
    #[serde(default = "yes")]
    json_answers: bool,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOption {
    #[serde(default)]
    required: bool,
    default: Option<String>,
    #[serde(default)]
    values: Vec<String>,
    pattern: Option<String>,
    #[serde(default)]
    description: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawOperation {
    Word(String),
    Steps(Vec<RawStep>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStep {
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
struct RawPoll {
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

/// Whether a text can be the name of an option, a secret, a host, a step, or of what is taken.
fn is_name(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    text.len() <= 63
        && text.as_bytes().first().is_some_and(u8::is_ascii_lowercase)
        && text.bytes().all(is_part)
}

pub(super) fn check_name(what: &str, name: &str) -> Result<(), String> {
    match is_name(name) {
        true => Ok(()),
        false => Err(format!(
            "{what} \"{name}\": a name has lower-case letters, digits and _, and begins with a letter"
        )),
    }
}

/// Checks a JSON Pointer.
pub(super) fn check_pointer(pointer: &str) -> Result<(), String> {
    match pointer.is_empty() || pointer.starts_with('/') {
        true => Ok(()),
        false => Err(format!("\"{pointer}\" is no JSON Pointer: one begins with /")),
    }
}

/// Parses templates by names.
pub(super) fn templates(
    raw: BTreeMap<String, Value>,
    shared: &Shared,
    place: Place,
) -> Result<Vec<(String, Template)>, String> {
    let parse = |(name, json): (String, Value)| {
        let parsed = Template::parse(&json, shared, place);
        parsed.map_err(|problem| format!("\"{name}\": {problem}")).map(|parsed| (name, parsed))
    };
    raw.into_iter().map(parse).collect()
}

impl Spec {
    /// Parses and checks a spec. The error names what is wrong with it.
    pub fn parse(json: Value) -> Result<Self, String> {
        if !json.is_object() {
            return Err("it is not an object".into());
        }
        let raw: RawSpec = serde_path_to_error::deserialize(json).map_err(|error| {
            match error.path().to_string().as_str() {
                "." => error.inner().to_string(),
                path => format!("{path}: {}", error.inner()),
            }
        })?;
        let shared = &raw.templates;
        for (name, json) in shared.iter() {
            Template::parse(json, shared, Place::member())
                .or_else(|_| Template::parse(json, shared, Place::body()))
                .map_err(|problem| format!("templates.{name}: {problem}"))?;
        }
        let in_operation = |name: String, operation| {
            let parsed = parse_operation(&name, operation, shared);
            parsed
                .map(|parsed| (name.clone(), parsed))
                .map_err(|problem| format!("operations.{name}: {problem}"))
        };
        let signature = raw.signature.map(|json| Template::parse(&json, shared, Place::header()));
        let rules = raw.answers.into_iter().map(Rule::parse).collect::<Result<_, _>>();
        let grants = raw.grants.into_iter().map(|grant| Grant::parse(grant, shared));
        let headers = templates(raw.headers, shared, Place::header());
        let spec = Self {
            hosts: parse_hosts(raw.hosts)?,
            options: parse_options(raw.options)?,
            secrets: raw.secrets,
            grants: grants
                .collect::<Result<_, _>>()
                .map_err(|problem| format!("grants: {problem}"))?,
            headers: headers.map_err(|problem| format!("headers: {problem}"))?,
            signature: signature.transpose().map_err(|problem| format!("signature: {problem}"))?,
            fields: raw.fields,
            is_one_field: raw.one_field,
            limits: raw.limits,
            has_json_answers: raw.json_answers,
            operations: raw
                .operations
                .into_iter()
                .map(|(name, operation)| in_operation(name, operation))
                .collect::<Result<_, _>>()?,
            rules: rules.map_err(|problem| format!("answers: {problem}"))?,
        };
        spec.check()?;
        Ok(spec)
    }

    /// The steps of an operation; `None`: the connector does not do it.
    pub fn operation(&self, name: &str) -> Option<&Operation> {
        self.operations.get(name).or_else(|| self.operations.get("default"))
    }

    /// The name of the option of a server that takes the place of a host.
    pub fn host_option(host: &str) -> String {
        match host {
            MAIN_HOST => "url".into(),
            host => format!("{host}_url"),
        }
    }

    fn check(&self) -> Result<(), String> {
        self.secrets.keys().try_for_each(|name| check_name("secret", name))?;
        for (name, field) in &self.fields {
            if field.name.is_empty() {
                return Err(format!("fields.{name}: \"as\" is empty"));
            }
        }
        let limits = [
            ("members", self.limits.members),
            ("least", self.limits.least),
            ("per_second", self.limits.per_second),
            ("per_minute", self.limits.per_minute),
            ("per_hour", self.limits.per_hour),
            ("per_day", self.limits.per_day),
        ];
        if let Some((name, _)) = limits.iter().find(|(_, limit)| *limit == Some(0)) {
            return Err(format!("limits.{name}: it must be at least 1"));
        }
        if let Some(list) = self.operations.get("list") {
            match list.steps() {
                [step] if step.take.rows.is_some() => {}
                _ => return Err("operations.list: it is one step that takes \"audiences\"".into()),
            }
        }
        if self.operation("add").is_none() && self.operation("replace").is_none() {
            return Err("operations: there is neither \"add\" nor \"replace\"".into());
        }
        let names = Names::of(self);
        let check = |place: &str, template: &Template| {
            template.references().into_iter().try_for_each(|reference| {
                names.check(reference).map_err(|problem| format!("{place}: {problem}"))
            })
        };
        let all = |place: &str, templates: &[(String, Template)]| {
            templates.iter().try_for_each(|(_, template)| check(place, template))
        };
        all("headers", &self.headers)?;
        self.signature.iter().try_for_each(|template| check("signature", template))?;
        for grant in &self.grants {
            grant.templates().into_iter().try_for_each(|template| check("grants", template))?;
            names.check_host(&grant.url.host).map_err(|problem| format!("grants: {problem}"))?;
        }
        for (name, operation) in &self.operations {
            for step in operation.steps() {
                let place = format!("operations.{name}, step \"{}\"", step.name);
                step.when.iter().try_for_each(|template| check(&place, template))?;
                step.url.path.iter().try_for_each(|template| check(&place, template))?;
                names
                    .check_host(&step.url.host)
                    .map_err(|problem| format!("{place}: {problem}"))?;
                all(&place, &step.query)?;
                all(&place, &step.headers)?;
                let body = step.body.templates();
                body.into_iter().try_for_each(|template| check(&place, template))?;
                step.take.templates().try_for_each(|template| check(&place, template))?;
                step.poll.iter().try_for_each(|poll| all(&place, &poll.row))?;
            }
        }
        Ok(())
    }
}

/// The names that references can have.
struct Names<'a> {
    spec: &'a Spec,
    taken: BTreeSet<&'a str>,
    kept: BTreeSet<&'a str>,
}

impl<'a> Names<'a> {
    fn of(spec: &'a Spec) -> Self {
        let steps = || spec.operations.values().flat_map(|operation| operation.steps());
        Self {
            spec,
            taken: steps().flat_map(|step| step.take.taken()).collect(),
            kept: steps().flat_map(|step| step.take.kept()).collect(),
        }
    }

    fn check(&self, reference: &Reference) -> Result<(), String> {
        let missing = |what: &str, name: &str| Err(format!("there is no {what} \"{name}\""));
        match reference {
            Reference::Option(name) if !self.spec.options.contains_key(name) => {
                missing("option", name)
            }
            Reference::Secret(name) if !self.spec.secrets.contains_key(name) => {
                missing("secret", name)
            }
            Reference::Host(name) => self.check_host(name),
            Reference::Taken(name) if !self.taken.contains(name.as_str()) => {
                Err(format!("no step takes \"{name}\""))
            }
            Reference::Kept(name) if !self.kept.contains(name.as_str()) => {
                Err(format!("no step keeps \"{name}\""))
            }
            Reference::Member(name) if !self.spec.fields.contains_key(name) => {
                missing("field", name)
            }
            _ => Ok(()),
        }
    }

    fn check_host(&self, name: &str) -> Result<(), String> {
        match self.spec.hosts.contains_key(name) {
            true => Ok(()),
            false => Err(format!("there is no host \"{name}\"")),
        }
    }
}

fn parse_hosts(
    raw: BTreeMap<String, Option<String>>,
) -> Result<BTreeMap<String, Option<Address>>, String> {
    if !raw.contains_key(MAIN_HOST) {
        return Err(format!("hosts: there is no \"{MAIN_HOST}\""));
    }
    let parse = |(name, url): (String, Option<String>)| {
        check_name("host", &name)?;
        let address = url.map(|url| {
            parse_host(&url).map_err(|problem| format!("hosts.{name}: \"{url}\": {problem}"))
        });
        Ok((name, address.transpose()?))
    };
    raw.into_iter().map(parse).collect()
}

/// Parses the address of a host: requests are made to paths below it.
pub fn parse_host(url: &str) -> Result<Address, String> {
    let address: Address = url.parse().map_err(|error| format!("{error}"))?;
    match address.uri().query() {
        None => Ok(address),
        Some(_) => Err("a query is not allowed".into()),
    }
}

fn parse_options(raw: BTreeMap<String, RawOption>) -> Result<BTreeMap<String, OptionSpec>, String> {
    let parse = |(name, raw): (String, RawOption)| {
        check_name("option", &name)?;
        let is_own = [CONNECTOR, TIMEOUT, "url"].contains(&name.as_str()) || name.ends_with("_url");
        if is_own {
            return Err(format!("options.{name}: every server has this option"));
        }
        let pattern = raw.pattern.map(|text| Regex::new(&format!("^(?:{text})$"))).transpose();
        let pattern = pattern.map_err(|error| format!("options.{name}.pattern: {error}"))?;
        let option = OptionSpec {
            is_required: raw.required,
            default: raw.default,
            values: raw.values,
            pattern,
            description: raw.description,
        };
        if let Some(default) = &option.default {
            option
                .check(default)
                .map_err(|problem| format!("options.{name}.default: {problem}"))?;
        }
        Ok((name, option))
    };
    raw.into_iter().map(parse).collect()
}

impl OptionSpec {
    /// Checks a value. The error says which values there are.
    pub fn check(&self, value: &str) -> Result<(), String> {
        if !self.values.is_empty() && !self.values.iter().any(|known| known == value) {
            return Err(format!("\"{value}\" is none of {}", self.values.join(", ")));
        }
        match &self.pattern {
            Some(pattern) if !pattern.is_match(value) => {
                let pattern = pattern.as_str();
                let pattern = pattern.trim_start_matches("^(?:").trim_end_matches(")$");
                Err(format!("\"{value}\" does not have the form {pattern}"))
            }
            _ => Ok(()),
        }
    }
}

fn parse_operation(name: &str, raw: RawOperation, shared: &Shared) -> Result<Operation, String> {
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
