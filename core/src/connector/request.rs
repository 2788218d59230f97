//! Requests, made from the steps of a spec and the values of a message.

use std::collections::BTreeMap;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};

use super::grant::Grant;
use super::mask::{MASK, mask};
use super::spec::{ACCESS_TOKEN, Spec, parse_host};
use super::step::{Step, Url};
use super::template::{Data, Reference, Scope, Template};
use crate::http::address::Address;

/// What is not encoded in a URL: the unreserved characters of RFC 3986.
pub(super) const RESERVED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// How much of what a platform says is reported, in characters.
const SAID_LIMIT: usize = 600;
/// Shorter secrets may be an id by chance.
const LONG_SECRET: usize = 8;

/// Secrets, each one masked.
pub fn masked(secrets: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    secrets.keys().map(|name| (name.clone(), MASK.to_owned())).collect()
}

/// A message for a connector.
#[derive(Debug, Clone, Default)]
pub struct Message {
    pub id: i64,
    /// The id of the first part of the operation.
    pub first_id: i64,
    pub operation: String,
    pub part: i32,
    pub parts: i32,
    /// The number of members in all parts.
    pub total: i64,
    pub subscription: String,
    pub segment: String,
    pub audience: String,
    pub target: String,
    pub external_id: Option<String>,
    /// The names of the fields of its members.
    pub fields: Vec<String>,
    pub payload: Value,
}

/// A server: what a DBA has said of a platform.
#[derive(Debug, Clone)]
pub struct Server {
    pub name: String,
    hosts: BTreeMap<String, Address>,
    options: BTreeMap<String, String>,
}

impl Server {
    /// Checks the options of a server against the spec of its connector.
    pub fn new(
        name: &str,
        spec: &Spec,
        mut options: BTreeMap<String, String>,
    ) -> Result<Self, OptionError> {
        let wrong = |name: &str, problem: &str| OptionError {
            name: name.to_owned(),
            problem: problem.to_owned(),
        };
        options.remove(super::spec::CONNECTOR);
        options.remove(super::spec::TIMEOUT);
        // Before those that are missing: a misspelt name is one of each.
        let is_host = |name: &str| spec.hosts.keys().any(|host| Spec::host_option(host) == name);
        if let Some(name) =
            options.keys().find(|name| !spec.options.contains_key(*name) && !is_host(name))
        {
            return Err(wrong(name, "the connector has none of that name"));
        }
        let mut hosts = BTreeMap::new();
        for (host, default) in &spec.hosts {
            let option = Spec::host_option(host);
            let address = match (options.remove(&option), default) {
                (Some(url), _) => parse_host(&url).map_err(|problem| wrong(&option, &problem))?,
                (None, Some(address)) => address.clone(),
                (None, None) => return Err(wrong(&option, "it is missing")),
            };
            hosts.insert(host.clone(), address);
        }
        for (name, option) in &spec.options {
            match (options.get(name), &option.default) {
                (Some(value), _) => {
                    option.check(value).map_err(|problem| wrong(name, &problem))?;
                }
                (None, Some(default)) => {
                    options.insert(name.clone(), default.clone());
                }
                (None, None) if option.is_required => {
                    return Err(wrong(name, "it is missing"));
                }
                (None, None) => {}
            }
        }
        Ok(Self { name: name.to_owned(), hosts, options })
    }

    pub fn hosts(&self) -> impl Iterator<Item = &Address> {
        self.hosts.values()
    }
}

/// What is wrong with an option of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionError {
    pub name: String,
    pub problem: String,
}

/// A request, as it is sent.
#[derive(Debug, Clone)]
pub struct Request {
    pub step: String,
    pub method: String,
    pub address: Address,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

/// The values of a message, to which templates refer.
pub struct Values<'a> {
    spec: &'a Spec,
    server: &'a Server,
    secrets: &'a BTreeMap<String, String>,
    message: &'a Message,
    members: Vec<Map<String, Value>>,
    fields: Vec<(String, String)>,
    pub(super) external_id: Option<String>,
    pub(super) began_at: String,
    pub(super) taken: Map<String, Value>,
    pub(super) kept: Map<String, Value>,
    token: Option<String>,
    jwt: Option<String>,
    digest: Option<String>,
    /// Members of the message none of whose fields has the form that the platform takes.
    pub unfit: u64,
}

impl<'a> Values<'a> {
    pub fn new(
        spec: &'a Spec,
        server: &'a Server,
        secrets: &'a BTreeMap<String, String>,
        message: &'a Message,
    ) -> Self {
        let has = |name: &String| message.fields.contains(name);
        let fields = spec.fields.iter().filter(|(name, _)| has(name));
        let fields = fields.map(|(name, field)| (name.clone(), field.name.clone())).collect();
        let (members, unfit) = fitting(spec, &message.payload);
        Self {
            spec,
            server,
            secrets,
            message,
            members,
            fields,
            external_id: message.external_id.clone(),
            began_at: String::new(),
            taken: Map::new(),
            kept: Map::new(),
            token: secrets.get(ACCESS_TOKEN).cloned(),
            jwt: None,
            digest: None,
            unfit,
        }
    }

    /// With an access token that a grant has given.
    pub fn set_token(&mut self, token: String) {
        self.token = Some(token);
    }

    /// The access token that requests have.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    pub fn operation(&self) -> &str {
        &self.message.operation
    }

    /// The number of members that are sent.
    pub fn count(&self) -> usize {
        self.members.len()
    }

    pub(super) fn scope(&self) -> Scope<'_> {
        Scope::new(self)
    }

    /// The grants by which an access token can be got, the best one first; empty: the token is a secret.
    pub fn grants(&self) -> Vec<&'a Grant> {
        let holds =
            |grant: &&Grant| grant.when.as_ref().is_none_or(|when| when.is_true(&self.scope()));
        self.spec.grants.iter().filter(holds).collect()
    }

    /// The key of the signature; `None`: the request is not signed.
    pub fn signature(&self) -> Option<String> {
        self.spec.signature.as_ref()?.text(&self.scope())
    }

    /// The request of a grant.
    pub fn token_request(
        &mut self,
        grant: &Grant,
        now: chrono::DateTime<chrono::Utc>,
    ) -> Result<Request, String> {
        self.jwt = grant.sign(&self.scope(), now)?;
        let form = super::body::Body::Form(grant.form.clone());
        let scope = self.scope();
        let rendered = form.render(&scope, self.message.id)?;
        let (content_type, body) = rendered.unwrap_or_default();
        let headers = [
            ("content-type".to_owned(), content_type),
            ("accept".to_owned(), "application/json".to_owned()),
        ];
        Ok(Request {
            step: "token".into(),
            method: "POST".into(),
            address: self.address(&grant.url, &[])?,
            headers: headers.into(),
            body,
        })
    }

    /// The request of a step.
    pub fn request(&mut self, step: &Step) -> Result<Request, String> {
        self.digest = None;
        self.digest = step.body.digest(&self.scope())?;
        let scope = self.scope();
        let rendered = step.body.render(&scope, self.message.id)?;
        let mut headers = BTreeMap::new();
        for (name, template) in self.spec.headers.iter().chain(&step.headers) {
            if let Some(value) = template.text(&scope) {
                headers.insert(name.to_lowercase(), value);
            }
        }
        // The problem must not show the value, which may be a secret.
        let names = headers.iter().find(|(_, value)| {
            !value.is_ascii() || value.bytes().any(|byte| byte.is_ascii_control())
        });
        if let Some((name, _)) = names {
            return Err(format!("header \"{name}\" has characters that a header cannot have"));
        }
        let (content_type, body) = rendered.unwrap_or_default();
        if !content_type.is_empty() {
            headers.insert("content-type".into(), content_type);
        }
        Ok(Request {
            step: step.name.clone(),
            method: step.method.clone(),
            address: self.address(&step.url, &step.query)?,
            headers,
            body,
        })
    }

    /// The address of a URL. Values are encoded, so that they cannot leave their place.
    fn address(&self, url: &Url, query: &[(String, Template)]) -> Result<Address, String> {
        let scope = self.scope();
        let host = self.server.hosts.get(&url.host).ok_or("there is no such host")?;
        let mut text = host.to_string();
        if !url.path.is_empty() {
            text.truncate(text.trim_end_matches('/').len());
        }
        for segment in &url.path {
            // Without its last segment a path means something else.
            let is_part = |value: &String| match value.as_str() {
                "" => segment.references().is_empty(),
                value => !matches!(value, "." | ".."),
            };
            let value = segment
                .text(&scope)
                .filter(is_part)
                .ok_or("a value in the path of a URL is missing, or cannot be part of one")?;
            text.push('/');
            text.push_str(&encoded(segment, &value));
        }
        let query =
            query.iter().filter_map(|(name, template)| Some((name, template.text(&scope)?)));
        for (number, (name, value)) in query.enumerate() {
            let mark = if number == 0 { '?' } else { '&' };
            text.push(mark);
            text.extend(utf8_percent_encode(name, RESERVED));
            text.push('=');
            text.extend(utf8_percent_encode(&value, RESERVED));
        }
        let address: Address =
            text.parse().map_err(|error| format!("the URL \"{text}\" cannot be used: {error}"))?;
        match address.is_under(host) {
            true => Ok(address),
            false => Err(format!("the URL \"{text}\" is not below {host}")),
        }
    }

    /// What a platform says, in one line, cut, and without secrets.
    pub fn masked(&self, text: &str) -> String {
        // A secret of which the end is cut off could not be found.
        let masked = super::one_line(&mask(text, self.all_secrets()));
        masked.chars().take(SAID_LIMIT).collect()
    }

    /// Whether a text has a secret, which is not to be kept elsewhere.
    pub(super) fn holds_secret(&self, text: &str) -> bool {
        let long = self.all_secrets().filter(|secret| secret.len() >= LONG_SECRET);
        mask(text, long) != text
    }

    fn all_secrets(&self) -> impl Iterator<Item = &String> {
        self.secrets.values().chain(&self.token).chain(&self.jwt)
    }
}

/// What the spec itself writes (`me:ingest`) stays as it is.
fn encoded(segment: &Template, value: &str) -> String {
    match segment.references().is_empty() {
        true => value.to_owned(),
        false => utf8_percent_encode(value, RESERVED).to_string(),
    }
}

impl Data for Values<'_> {
    fn get(&self, reference: &Reference) -> Value {
        let text = |text: Option<&String>| text.map_or(Value::Null, |text| text.as_str().into());
        let message = self.message;
        let known = |name: &str| -> Value {
            match name {
                "audience" => message.audience.as_str().into(),
                "external_id" => text(self.external_id.as_ref()),
                "target" => message.target.as_str().into(),
                "segment" => message.segment.as_str().into(),
                "subscription_id" => message.subscription.as_str().into(),
                "message.id" => message.id.into(),
                "message.first_id" => message.first_id.into(),
                "message.operation" => message.operation.as_str().into(),
                "message.part" => message.part.into(),
                "message.parts" => message.parts.into(),
                "message.is_first" => (message.part <= 1).into(),
                "message.is_last" => (message.part >= message.parts).into(),
                "message.members" => self.members.len().into(),
                "message.total" => message.total.into(),
                "message.began_at" => self.began_at.as_str().into(),
                "message.payload" => message.payload.clone(),
                "file_md5" => text(self.digest.as_ref()),
                "token" => text(self.token.as_ref()),
                "jwt" => text(self.jwt.as_ref()),
                name => match name.strip_prefix("alert.") {
                    Some(key) => message.payload["alert"][key].clone(),
                    None => Value::Null,
                },
            }
        };
        match reference {
            Reference::Option(name) => text(self.server.options.get(name)),
            Reference::Secret(name) => text(self.secrets.get(name)),
            Reference::Host(name) => {
                self.server.hosts.get(name).map_or(Value::Null, |host| host.to_string().into())
            }
            Reference::Taken(name) => self.taken.get(name).cloned().unwrap_or_default(),
            Reference::Kept(name) => self.kept.get(name).cloned().unwrap_or_default(),
            Reference::Known(name) => known(name),
            Reference::Member(_) | Reference::FieldName | Reference::FieldValue => Value::Null,
        }
    }

    fn members(&self) -> &[Map<String, Value>] {
        &self.members
    }

    fn fields(&self) -> &[(String, String)] {
        &self.fields
    }
}

/// The members of a message with the values whose form the platform takes, and the number of members
/// that have none.
fn fitting(spec: &Spec, payload: &Value) -> (Vec<Map<String, Value>>, u64) {
    let members = payload.get("members").and_then(Value::as_array);
    let members = members.map(Vec::as_slice).unwrap_or_default();
    if spec.fields.is_empty() {
        return (Vec::new(), 0);
    }
    let fit = |member: &Value| {
        let member = member.as_object()?;
        let values = spec.fields.iter().filter_map(|(name, field)| {
            let value = member.get(name)?;
            let text = super::template::as_text(value)?;
            field.form.fits(&text).then(|| (name.clone(), value.clone()))
        });
        let values: Map<String, Value> = values.collect();
        (!values.is_empty()).then_some(values)
    };
    let fitting: Vec<_> = members.iter().filter_map(fit).collect();
    let unfit = members.len() - fitting.len();
    (fitting, unfit as u64)
}
