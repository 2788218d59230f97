//! Templates: JSON in which texts refer to values, and objects of one `$` key are directives.
//!
//! A template always ends, and its result is a JSON value whatever the data hold: values are put into
//! their place, never parsed. There is no loop but `$members` and `$fields`, and no calculation.

use std::cell::Cell;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

/// How deep templates can be nested, those that they use included.
const MAX_DEPTH: usize = 64;
/// How many values the templates of a spec can have, those that they use included: a template that uses
/// another one twice, which uses a third one twice, doubles with each.
const MAX_SIZE: usize = 10_000;
/// How deep `$json` can be nested: a text is escaped in each, which doubles its backslashes.
const MAX_JSON: u8 = 2;

/// A template, parsed.
#[derive(Debug, Clone)]
pub enum Template {
    /// A number, a boolean, null.
    Literal(Value),
    Text(Vec<Piece>),
    Array(Vec<Template>),
    Object(Vec<(String, Template)>),
    /// `{"$members": T}`: an array with T for each member.
    Members(Box<Template>),
    /// `{"$fields": T}`: an array with T for each field that members have.
    Fields(Box<Template>),
    /// `{"$if": [condition, T, T]}`; without the last one nothing takes its place.
    If(Box<[Template; 2]>, Option<Box<Template>>),
    /// `{"$coalesce": [T, …]}`: the first that is not null.
    Coalesce(Vec<Template>),
    Not(Box<Template>),
    All(Vec<Template>),
    Any(Vec<Template>),
    /// `{"$equal": [T, T]}`, as texts.
    Equal(Box<[Template; 2]>),
    /// `{"$int": T}`: the number that a text holds.
    Int(Box<Template>),
    /// `{"$json": T}`: JSON as a text.
    Json(Box<Template>),
}

#[derive(Debug, Clone)]
pub enum Piece {
    Text(String),
    Reference(Reference),
}

/// What a text in braces refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    Option(String),
    Secret(String),
    Host(String),
    /// What a step of this message has taken from an answer.
    Taken(String),
    /// The same, of this or an earlier part of the operation.
    Kept(String),
    Member(String),
    /// The platform's name of a field.
    FieldName,
    /// The value of a field, of a member.
    FieldValue,
    /// What is known of a message and its audience, see [`KNOWN`].
    Known(&'static str),
}

/// What is known of a message and its audience: names and meanings.
pub const KNOWN: [(&str, &str); 30] = [
    ("audience", "the name of the audience"),
    ("external_id", "its id on the platform; null: it has none yet"),
    ("target", "the subscription's target"),
    ("segment", "the name of the segment"),
    ("subscription_id", "the subscription's id"),
    ("message.id", "the message's id"),
    ("message.first_id", "the id of the first part of the operation"),
    ("message.operation", "create, add, remove, replace, delete"),
    ("message.part", "the number of the part, from 1"),
    ("message.parts", "the number of parts"),
    ("message.is_first", "true for the first part"),
    ("message.is_last", "true for the last part"),
    ("message.members", "the number of members in the message"),
    ("message.total", "the number of members in all parts"),
    ("message.began_at", "when the first request of the operation was made, RFC 3339"),
    ("message.payload", "the whole message"),
    ("alert.summary", "of an alert: what it is, in a sentence"),
    ("alert.detail", "why, as far as that is known; may be null"),
    ("alert.on", "which of the conditions of the rule: failed, late and so on"),
    ("alert.was", "the state that was reported before"),
    ("alert.is", "the state that is reported"),
    ("alert.firing", "true: it begins; false: it is over"),
    ("alert.event", "true: it has no end, as the change of a definition"),
    ("alert.flapping", "true: it changes too often to be reported each time"),
    ("alert.since", "since when it is so, RFC 3339"),
    ("alert.key", "the same for the begin and the end of an alert"),
    ("alert.rule", "the id of the rule"),
    ("file_md5", "the MD5 digest of the file in a multipart body, in hexadecimal"),
    ("token", "the access token: the secret access_token, or what a grant has given"),
    ("jwt", "the signed token of the grant"),
];

/// Where a template stands: what it can refer to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Place {
    pub may_use_secrets: bool,
    pub may_use_members: bool,
    in_members: bool,
    in_fields: bool,
    in_json: u8,
}

impl Place {
    /// A place of request bodies and headers.
    pub fn body() -> Self {
        Self { may_use_secrets: true, may_use_members: true, ..Self::default() }
    }

    /// A place of headers.
    pub fn header() -> Self {
        Self { may_use_secrets: true, ..Self::default() }
    }

    /// A place within a member.
    pub fn member() -> Self {
        Self { may_use_secrets: true, in_members: true, ..Self::default() }
    }
}

/// Templates under names, which others use with `{"$use": name}`, and the number of values that were parsed
/// with them.
#[derive(Debug, Default, Deserialize)]
#[serde(from = "BTreeMap<String, Value>")]
pub struct Shared {
    templates: BTreeMap<String, Value>,
    size: Cell<usize>,
}

impl From<BTreeMap<String, Value>> for Shared {
    fn from(templates: BTreeMap<String, Value>) -> Self {
        Self { templates, size: Cell::new(0) }
    }
}

impl Shared {
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.templates.iter()
    }
}

impl Template {
    /// Parses a template. The error says what is wrong with it.
    pub fn parse(json: &Value, shared: &Shared, place: Place) -> Result<Self, String> {
        parse(json, shared, place, 0)
    }

    /// All references in it.
    pub fn references(&self) -> Vec<&Reference> {
        let mut found = Vec::new();
        self.collect(&mut found);
        found
    }

    fn collect<'a>(&'a self, found: &mut Vec<&'a Reference>) {
        match self {
            Self::Literal(_) => {}
            Self::Text(pieces) => found.extend(pieces.iter().filter_map(|piece| match piece {
                Piece::Reference(reference) => Some(reference),
                Piece::Text(_) => None,
            })),
            Self::Array(items) | Self::Coalesce(items) | Self::All(items) | Self::Any(items) => {
                items.iter().for_each(|item| item.collect(found));
            }
            Self::Object(entries) => entries.iter().for_each(|(_, item)| item.collect(found)),
            Self::Members(item)
            | Self::Fields(item)
            | Self::Not(item)
            | Self::Int(item)
            | Self::Json(item) => item.collect(found),
            Self::If(branches, otherwise) => {
                branches.iter().chain(otherwise.as_deref()).for_each(|item| item.collect(found));
            }
            Self::Equal(items) => items.iter().for_each(|item| item.collect(found)),
        }
    }

    /// Whether it has a value for each member.
    pub fn uses_members(&self) -> bool {
        let mut is_used = self
            .references()
            .iter()
            .any(|reference| matches!(reference, Reference::Known("message.payload" | "file_md5")));
        self.visit(&mut |template| is_used |= matches!(template, Self::Members(_)));
        is_used
    }

    fn visit(&self, seen: &mut impl FnMut(&Self)) {
        seen(self);
        match self {
            Self::Literal(_) | Self::Text(_) => {}
            Self::Array(items) | Self::Coalesce(items) | Self::All(items) | Self::Any(items) => {
                items.iter().for_each(|item| item.visit(seen));
            }
            Self::Object(entries) => entries.iter().for_each(|(_, item)| item.visit(seen)),
            Self::Members(item)
            | Self::Fields(item)
            | Self::Not(item)
            | Self::Int(item)
            | Self::Json(item) => item.visit(seen),
            Self::If(branches, otherwise) => {
                branches.iter().chain(otherwise.as_deref()).for_each(|item| item.visit(seen));
            }
            Self::Equal(items) => items.iter().for_each(|item| item.visit(seen)),
        }
    }

    /// Its value; `None`: nothing takes its place.
    pub fn value(&self, scope: &Scope<'_>) -> Option<Value> {
        Some(match self {
            Self::Literal(value) => value.clone(),
            Self::Text(pieces) => text(pieces, scope),
            Self::Array(items) => values(items, scope),
            Self::Object(entries) => {
                let entries = entries
                    .iter()
                    .filter_map(|(key, item)| item.value(scope).map(|value| (key.clone(), value)));
                Value::Object(entries.collect())
            }
            Self::Members(item) => {
                let of = |member| item.value(&Scope { member: Some(member), ..*scope });
                Value::Array(scope.data.members().iter().filter_map(of).collect())
            }
            Self::Fields(item) => {
                let of = |field| item.value(&Scope { field: Some(field), ..*scope });
                Value::Array(scope.data.fields().iter().filter_map(of).collect())
            }
            Self::If(branches, otherwise) => {
                let [condition, then] = &**branches;
                return match (condition.is_true(scope), otherwise) {
                    (true, _) => then.value(scope),
                    (false, Some(otherwise)) => otherwise.value(scope),
                    (false, None) => None,
                };
            }
            Self::Coalesce(items) => {
                let mut found = items.iter().filter_map(|item| item.value(scope));
                found.find(|value| !value.is_null()).unwrap_or_default()
            }
            Self::Not(_) | Self::All(_) | Self::Any(_) | Self::Equal(_) => {
                self.is_true(scope).into()
            }
            Self::Int(item) => match item.value(scope)? {
                Value::String(text) => text.parse::<i64>().map_or(Value::Null, Value::from),
                number => number,
            },
            Self::Json(item) => item.value(scope)?.to_string().into(),
        })
    }

    /// Whether it holds: neither false nor null nor nothing.
    pub fn is_true(&self, scope: &Scope<'_>) -> bool {
        match self {
            Self::Not(item) => !item.is_true(scope),
            Self::All(items) => items.iter().all(|item| item.is_true(scope)),
            Self::Any(items) => items.iter().any(|item| item.is_true(scope)),
            Self::Equal(items) => {
                let [a, b] = &**items;
                let text = |item: &Self| item.value(scope).as_ref().and_then(as_text);
                text(a) == text(b)
            }
            _ => !matches!(self.value(scope), None | Some(Value::Null | Value::Bool(false))),
        }
    }

    /// Its value as a text; none: it has none.
    pub fn text(&self, scope: &Scope<'_>) -> Option<String> {
        self.value(scope).as_ref().and_then(as_text)
    }
}

/// The values that templates refer to.
pub trait Data {
    /// The value of a reference that belongs to no member.
    fn get(&self, reference: &Reference) -> Value;

    fn members(&self) -> &[Map<String, Value>];

    /// The fields that members have: their names, and those on the platform.
    fn fields(&self) -> &[(String, String)];
}

/// What a template sees.
#[derive(Clone, Copy)]
pub struct Scope<'a> {
    pub data: &'a dyn Data,
    pub member: Option<&'a Map<String, Value>>,
    pub field: Option<&'a (String, String)>,
}

impl<'a> Scope<'a> {
    pub fn new(data: &'a dyn Data) -> Self {
        Self { data, member: None, field: None }
    }

    fn get(&self, reference: &Reference) -> Value {
        let of_member = |name: &str| self.member?.get(name).cloned();
        // Where members have one field only, it is known outside of `$fields`, too.
        let field = self.field.or_else(|| self.data.fields().first());
        match reference {
            Reference::Member(name) => of_member(name).unwrap_or_default(),
            Reference::FieldName => field.map_or(Value::Null, |(_, name)| name.as_str().into()),
            Reference::FieldValue => {
                field.and_then(|(name, _)| of_member(name)).unwrap_or_default()
            }
            other => self.data.get(other),
        }
    }
}

/// A value in a text: a text as it is, a number or a boolean in JSON; others have none.
pub fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn values(items: &[Template], scope: &Scope<'_>) -> Value {
    Value::Array(items.iter().filter_map(|item| item.value(scope)).collect())
}

/// A text that is one reference has its value and type. In other texts a reference without a text
/// makes the whole null.
fn text(pieces: &[Piece], scope: &Scope<'_>) -> Value {
    if let [Piece::Reference(reference)] = pieces {
        return scope.get(reference);
    }
    let mut whole = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(text) => whole.push_str(text),
            Piece::Reference(reference) => match as_text(&scope.get(reference)) {
                Some(text) => whole.push_str(&text),
                None => return Value::Null,
            },
        }
    }
    Value::String(whole)
}

fn parse(json: &Value, shared: &Shared, place: Place, depth: usize) -> Result<Template, String> {
    if depth > MAX_DEPTH {
        return Err(format!("templates are nested deeper than {MAX_DEPTH}, or use themselves"));
    }
    shared.size.set(shared.size.get() + 1);
    if shared.size.get() > MAX_SIZE {
        return Err(format!("the templates of a spec have more than {MAX_SIZE} values"));
    }
    let of = |json: &Value, place| parse(json, shared, place, depth + 1);
    let list = |items: &[Value]| -> Result<Vec<_>, String> {
        items.iter().map(|item| of(item, place)).collect()
    };
    match json {
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(Template::Literal(json.clone())),
        Value::String(text) => pieces(text, place).map(Template::Text),
        Value::Array(items) => list(items).map(Template::Array),
        Value::Object(entries) => {
            let directive = entries.iter().find(|(key, _)| key.starts_with('$'));
            let Some((name, body)) = directive else {
                let entry = |(key, item): (&String, &Value)| Ok((key.clone(), of(item, place)?));
                let entries: Result<_, String> = entries.iter().map(entry).collect();
                return entries.map(Template::Object);
            };
            if entries.len() > 1 {
                return Err(format!("\"{name}\" is a directive, which stands alone in its object"));
            }
            let boxed = |place| of(body, place).map(Box::new);
            let items = || match body {
                Value::Array(items) => Ok(items.as_slice()),
                _ => Err(format!("\"{name}\" takes a list")),
            };
            let pair = || match items()? {
                [a, b] => Ok(Box::new([of(a, place)?, of(b, place)?])),
                _ => Err(format!("\"{name}\" takes a list of two")),
            };
            match name.as_str() {
                "$members" if place.may_use_members => {
                    let place = Place { in_members: true, may_use_members: false, ..place };
                    boxed(place).map(Template::Members)
                }
                "$members" => Err("\"$members\" cannot stand here".into()),
                "$fields" if place.in_fields => {
                    Err("\"$fields\" cannot stand within another".into())
                }
                "$fields" => boxed(Place { in_fields: true, ..place }).map(Template::Fields),
                "$if" => match items()? {
                    [condition, then] => {
                        Ok(Template::If(Box::new([of(condition, place)?, of(then, place)?]), None))
                    }
                    [condition, then, otherwise] => Ok(Template::If(
                        Box::new([of(condition, place)?, of(then, place)?]),
                        Some(Box::new(of(otherwise, place)?)),
                    )),
                    _ => Err("\"$if\" takes a list of a condition and one or two templates".into()),
                },
                "$coalesce" => list(items()?).map(Template::Coalesce),
                "$not" => boxed(place).map(Template::Not),
                "$all" => list(items()?).map(Template::All),
                "$any" => list(items()?).map(Template::Any),
                "$equal" => pair().map(Template::Equal),
                "$int" => boxed(place).map(Template::Int),
                "$json" if place.in_json >= MAX_JSON => {
                    Err(format!("\"$json\" cannot be nested deeper than {MAX_JSON}"))
                }
                "$json" => boxed(Place { in_json: place.in_json + 1, ..place }).map(Template::Json),
                "$use" => {
                    let name = body.as_str().unwrap_or_default();
                    match shared.templates.get(name) {
                        Some(json) => of(json, place),
                        None => Err(format!("\"$use\": there is no template {body}")),
                    }
                }
                _ => Err(format!(
                    "\"{name}\" is none of the directives $all, $any, $coalesce, $equal, $fields, $if, $int, $json, $members, $not and $use"
                )),
            }
        }
    }
}

/// Parses a text: `{name}` is a reference, `{{` and `}}` are braces.
fn pieces(text: &str, place: Place) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        literal.push_str(&rest[..at]);
        let brace = &rest[at..=at];
        let after = &rest[at + 1..];
        if let Some(after) = after.strip_prefix(brace) {
            literal.push_str(brace);
            rest = after;
            continue;
        }
        let name = match after.split_once('}') {
            Some((name, _)) if brace == "{" => name,
            _ => return Err(format!("\"{text}\" has a brace without another; write it twice")),
        };
        if !literal.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut literal)));
        }
        pieces.push(Piece::Reference(reference(name, place)?));
        rest = &after[name.len() + 1..];
    }
    literal.push_str(rest);
    if !literal.is_empty() || pieces.is_empty() {
        pieces.push(Piece::Text(literal));
    }
    Ok(pieces)
}

fn reference(name: &str, place: Place) -> Result<Reference, String> {
    let owned = |name: &str| name.to_owned();
    let (found, is_allowed) = match name.split_once('.') {
        Some(("options", name)) => (Reference::Option(owned(name)), true),
        Some(("secrets", name)) => (Reference::Secret(owned(name)), place.may_use_secrets),
        Some(("hosts", name)) => (Reference::Host(owned(name)), true),
        Some(("taken", name)) => (Reference::Taken(owned(name)), true),
        Some(("kept", name)) => (Reference::Kept(owned(name)), true),
        Some(("member", name)) => (Reference::Member(owned(name)), place.in_members),
        Some(("field", "name")) => (Reference::FieldName, true),
        Some(("field", "value")) => (Reference::FieldValue, place.in_members),
        _ => {
            let known = KNOWN.iter().find(|(known, _)| *known == name);
            let Some((known, _)) = known else {
                return Err(format!("there is no {{{name}}}"));
            };
            let is_allowed = match *known {
                "token" | "jwt" => place.may_use_secrets,
                // The message once for each member would be as long as their number squared.
                "message.payload" => !place.in_members,
                _ => true,
            };
            (Reference::Known(known), is_allowed)
        }
    };
    match is_allowed {
        true => Ok(found),
        false => Err(format!("{{{name}}} cannot stand here")),
    }
}
