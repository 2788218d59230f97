//! What the parser knows, `connectors/schema.json` has, and `docs/connectors.md` describes, key by key.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{self, DeserializeOwned, Deserializer, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Value, json};

use super::super::answer::{Meaning, RawRule, RawTake, Rows, Unit, Wait};
use super::super::body::{Empty, RawBody, RawCsv, RawPart};
use super::super::field::{FieldSpec, Form};
use super::super::grant::{RawGrant, RawJwt};
use super::super::limits::Limits;
use super::super::option::{RawOption, SecretSpec};
use super::super::spec::{RawSpec, Spec};
use super::super::step::{METHODS, OPERATIONS, RawPoll, RawStep};
use super::super::template::KNOWN;

const DOCUMENT: &str = include_str!("../../../../docs/connectors.md");

type Names = BTreeSet<String>;

fn names<'a>(names: impl IntoIterator<Item = &'a str>) -> Names {
    names.into_iter().map(str::to_owned).collect()
}

/// Fails with the names that a type asks for: the fields of a struct, the variants of an enum.
struct Asked;

#[derive(Debug)]
struct Answered(&'static [&'static str]);

impl fmt::Display for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl std::error::Error for Answered {}

impl de::Error for Answered {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self(&[])
    }
}

impl<'de> Deserializer<'de> for Asked {
    type Error = Answered;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Answered> {
        Err(Answered(&[]))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Answered> {
        Err(Answered(fields))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Answered> {
        Err(Answered(variants))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map identifier ignored_any
    }
}

fn known<T: DeserializeOwned>() -> Names {
    match T::deserialize(Asked) {
        Ok(_) => Names::new(),
        Err(Answered(found)) => names(found.iter().copied()),
    }
}

/// The keys of an object, which must refuse others.
fn keys<T: DeserializeOwned>() -> Names {
    let refused = serde_json::from_value::<T>(json!({ "colour": "red" }));
    let problem = refused.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(problem.starts_with("unknown "), "{problem}");
    known::<T>()
}

/// The objects of a spec: where the schema has them, and their keys.
fn objects() -> [(&'static str, Names); 17] {
    [
        ("", keys::<RawSpec>()),
        ("/$defs/option", keys::<RawOption>()),
        ("/$defs/secret", keys::<SecretSpec>()),
        ("/$defs/grant", keys::<RawGrant>()),
        ("/$defs/grant/properties/jwt", keys::<RawJwt>()),
        ("/$defs/field", keys::<FieldSpec>()),
        ("/$defs/limits", keys::<Limits>()),
        ("/$defs/step", keys::<RawStep>()),
        ("/$defs/body", keys::<RawBody>()),
        ("/$defs/part", keys::<RawPart>()),
        ("/$defs/csv", keys::<RawCsv>()),
        ("/$defs/lines", keys::<Empty>()),
        ("/$defs/take", keys::<RawTake>()),
        ("/$defs/take/properties/audiences", keys::<Rows>()),
        ("/$defs/poll", keys::<RawPoll>()),
        ("/$defs/rule", keys::<RawRule>()),
        ("/$defs/rule/properties/wait", keys::<Wait>()),
    ]
}

/// The words that a value can be: where the schema has them.
fn words() -> [(&'static str, Names); 5] {
    [
        ("/$defs/field/properties/form", known::<Form>()),
        ("/$defs/step/properties/method", names(METHODS)),
        ("/$defs/rule/properties/do", known::<Meaning>()),
        ("/$defs/rule/properties/wait/properties/unit", known::<Unit>()),
        ("/properties/operations/propertyNames", names(OPERATIONS)),
    ]
}

#[test]
fn the_schema_has_what_the_parser_knows() {
    let schema = include_str!("../../../../connectors/schema.json");
    let schema: Value = serde_json::from_str(schema).expect("JSON");
    let at = |place: &str| schema.pointer(place).unwrap_or_else(|| panic!("no {place}"));
    for (place, keys) in objects() {
        let object = at(place);
        let properties = object["properties"].as_object();
        let properties = properties.map(|found| names(found.keys().map(String::as_str)));
        assert_eq!(properties.unwrap_or_default(), keys, "{place}");
        assert_eq!(object["additionalProperties"], false, "{place}");
    }
    for (place, words) in words() {
        let found = at(place)["enum"].as_array().expect("a list");
        assert_eq!(names(found.iter().filter_map(Value::as_str)), words, "{place}");
    }
    // Nothing of the schema is left out here.
    let closed = schema.to_string().matches("\"additionalProperties\":false").count();
    let sources = 2;
    assert_eq!(closed, objects().len() + sources);
}

/// The part of the document below a heading, down to the next one of its rank.
fn section(heading: &str) -> &'static str {
    let (rank, _) = heading.split_once(' ').expect("a heading");
    let begin = DOCUMENT.find(&format!("\n{heading}\n")).expect("the heading") + heading.len() + 2;
    let rest = &DOCUMENT[begin..];
    let end = rest.find(&format!("\n{rank} ")).unwrap_or(rest.len());
    &rest[..end]
}

/// What the first column of a table has in backquotes.
fn column(section: &str, head: &str) -> Names {
    let (_, rows) = section.split_once(&format!("| {head} |")).expect("the table");
    let rows = rows.lines().skip(2).take_while(|line| line.starts_with('|'));
    let cells = rows.filter_map(|row| row.split('|').nth(1));
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

#[test]
fn the_document_describes_what_the_parser_knows() {
    let spec = section("## The spec");
    for (heading, head, keys) in [
        ("## The spec", "key", keys::<RawSpec>()),
        ("### Steps", "key", keys::<RawStep>()),
        ("### Steps", "body", keys::<RawBody>()),
        ("### Rules", "key", keys::<RawRule>()),
        ("### Grants", "key", keys::<RawGrant>()),
    ] {
        assert_eq!(column(section(heading), head), keys, "{heading}, {head}");
    }
    for (place, names) in objects().into_iter().chain(words()) {
        for name in names {
            let forms = [format!("`{name}`"), format!("\"{name}\"")];
            assert!(forms.iter().any(|form| spec.contains(form)), "{place}: {name}");
        }
    }
    for (name, _) in KNOWN {
        assert!(spec.contains(&format!("`{{{name}}}`")), "{{{name}}}");
    }
    for limit in ["10,000 values", "64 deep", "63 characters"] {
        assert!(spec.contains(limit), "{limit}");
    }
}

#[test]
fn the_parser_knows_what_the_document_describes() {
    let of_when = |when: &str| {
        let when: Value = serde_json::from_str(when).expect("JSON");
        Spec::parse(json!({
            "hosts": {"api": "https://x.example"},
            "operations": {"add": [{"name": "add", "url": "/a", "when": when}]},
        }))
        .err()
        .unwrap_or_default()
    };
    let unknown = of_when(r#"{"$loop": 1}"#);
    let (_, listed) = unknown.split_once("directives ").expect("a list");
    let listed = names(listed.split([',', ' ']).filter(|word| word.starts_with('$')));
    let templates = section("### Templates");
    let described = column(templates, "directive");
    let described: Names =
        described.iter().filter_map(|form| form.split('"').nth(1)).map(str::to_owned).collect();
    assert_eq!(described, listed);
    for name in &described {
        let problem = of_when(&json!({ name: 1 }).to_string());
        assert!(!problem.contains("is none of the directives"), "{name}: {problem}");
    }
    for reference in column(templates, "reference") {
        let problem = of_when(&json!(reference.replace("NAME", "name")).to_string());
        assert!(!problem.contains("there is no {"), "{reference}: {problem}");
    }
}
