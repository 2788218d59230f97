//! The spec of a connector: what of a platform is data. It is a closed schema, which
//! `connectors/schema.json` describes; [`Spec::parse`] checks a spec when it is written.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use super::answer::{RawRule, Rule};
use super::field::FieldSpec;
use super::grant::{Grant, RawGrant};
use super::limits::Limits;
use super::option::{OptionSpec, RawOption, SecretSpec, parse_options};
use super::step::{Operation, RawOperation, parse_operation};
use super::template::{Place, Reference, Shared, Template};
use crate::http::address::Address;

/// The host of steps that name none. The option `url` of a server takes its place.
pub const MAIN_HOST: &str = "api";
/// Options that every server has.
pub const CONNECTOR: &str = "connector";
pub const TIMEOUT: &str = "timeout";
/// Secrets that Segmenter keeps in user mappings beside those of the spec.
pub const ACCESS_TOKEN: &str = "access_token";
pub const ACCESS_TOKEN_EXPIRES: &str = "access_token_expires";

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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSpec {
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
        if ["add", "replace", "alert"].iter().all(|name| self.operation(name).is_none()) {
            return Err("operations: there is none of \"add\", \"replace\" and \"alert\"".into());
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
