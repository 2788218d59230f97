//! Parses and validates the columns of a segment that say whose members it leaves out: `exclude`,
//! `exempt`, `priority_group` and `priority`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ConfigError, Result, Subject, typed};

const EXCLUDE: &str = "Give a list of segments, each a name or {\"segment\": ..., \"by\": [...]}, with \"by\" from \"id\", \"hash_email\" and \"hash_phone\".";
const EXEMPT: &str = "Give an object of suppression lists by name, each with the reason: {\"opted out\": \"invoices are no advertising\"}.";
const PRIORITY: &str = "Give both priority_group and priority, or neither.";

/// A column that members of two segments are compared by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MatchColumn {
    // In the order of their names, as SQL sorts them.
    HashEmail,
    HashPhone,
    Id,
}

impl MatchColumn {
    pub const ALL: [Self; 3] = [Self::Id, Self::HashEmail, Self::HashPhone];

    /// The column of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|column| column.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::HashEmail => "hash_email",
            Self::HashPhone => "hash_phone",
        }
    }
}

/// One entry of the column `exclude`: a segment whose members are left out.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Excluded {
    /// The name of an active segment.
    pub segment: String,
    /// A member is left out where any of these columns has the same value.
    #[serde(default = "by_id")]
    pub by: Vec<MatchColumn>,
}

fn by_id() -> Vec<MatchColumn> {
    vec![MatchColumn::Id]
}

/// Validates `exclude`.
pub fn exclude(json: Value, subject: Subject<'_>) -> Result<Vec<Excluded>> {
    let invalid = |problem: String| ConfigError::new("exclude", subject, problem, EXCLUDE);
    let Value::Array(entries) = json else {
        return Err(invalid(format!("{json} is not a list")));
    };
    let mut excluded: Vec<Excluded> = Vec::with_capacity(entries.len());
    for entry in entries {
        let mut entry: Excluded = match entry {
            Value::String(segment) => Excluded { segment, by: by_id() },
            object => typed("exclude", object, subject, EXCLUDE)?,
        };
        let name = &entry.segment;
        if entry.by.is_empty() {
            return Err(invalid(format!("\"by\" of segment \"{name}\" names no column")));
        }
        if excluded.iter().any(|other| other.segment == *name) {
            return Err(invalid(format!("segment \"{name}\" is named twice")));
        }
        entry.by.sort_unstable();
        entry.by.dedup();
        excluded.push(entry);
    }
    Ok(excluded)
}

/// Validates `exempt`: suppression lists that do not apply, by name, each with the reason.
pub fn exempt(json: Value, subject: Subject<'_>) -> Result<BTreeMap<String, String>> {
    let exempt: BTreeMap<String, String> = typed("exempt", json, subject, EXEMPT)?;
    match exempt.iter().find(|(_, reason)| reason.trim().is_empty()) {
        Some((list, _)) => {
            let problem = format!("the exemption from \"{list}\" has no reason");
            Err(ConfigError::new("exempt", subject, problem, EXEMPT))
        }
        None => Ok(exempt),
    }
}

/// Validates `priority_group` and `priority`.
pub fn priority(
    group: Option<String>,
    priority: Option<i32>,
    subject: Subject<'_>,
) -> Result<Option<(String, i32)>> {
    let invalid = |column, problem: &str| Err(ConfigError::new(column, subject, problem, PRIORITY));
    match (group, priority) {
        (Some(group), _) if group.trim().is_empty() => {
            invalid("priority_group", "it must not be empty or blank")
        }
        (Some(_), None) => invalid("priority", "it is null, but there is a priority_group"),
        (None, Some(_)) => invalid("priority_group", "it is null, but there is a priority"),
        (group, priority) => Ok(group.zip(priority)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const S: Subject<'_> = Subject::Segment("s");

    fn message<T>(result: Result<T>) -> String {
        match result {
            Ok(_) => panic!("must be refused"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn an_excluded_segment_is_a_name_or_an_object() {
        let both = json!(["opted out", {"segment": "b", "by": ["hash_phone", "id", "id"]}]);
        let expected = [
            Excluded { segment: "opted out".into(), by: vec![MatchColumn::Id] },
            Excluded { segment: "b".into(), by: vec![MatchColumn::HashPhone, MatchColumn::Id] },
        ];
        assert_eq!(exclude(both, S).expect("valid"), expected);
        assert!(message(exclude(json!({}), S)).contains("is not a list"));
        assert!(message(exclude(json!([7]), S)).contains("is not an object"));
        assert!(message(exclude(json!(["a", {"segment": "a"}]), S)).contains("named twice"));
        let none = json!([{"segment": "a", "by": []}]);
        assert!(message(exclude(none, S)).contains("names no column"));
        let other = json!([{"segment": "a", "by": ["email"]}]);
        assert!(message(exclude(other, S)).contains("\"email\""));
        assert!(message(exclude(json!([{"by": ["id"]}]), S)).contains("\"segment\""));
        assert!(message(exclude(json!([{"segment": "a", "bye": 1}]), S)).contains("\"bye\""));
    }

    #[test]
    fn an_exemption_has_a_reason() {
        let reasons = exempt(json!({"opted out": "invoices"}), S).expect("valid");
        assert_eq!(reasons["opted out"], "invoices");
        assert!(message(exempt(json!({"opted out": " "}), S)).contains("has no reason"));
        assert!(message(exempt(json!({"opted out": null}), S)).contains("opted out"));
        assert!(message(exempt(json!(["opted out"]), S)).contains("is not an object"));
    }

    #[test]
    fn a_priority_has_a_group() {
        assert_eq!(priority(None, None, S).expect("valid"), None);
        assert_eq!(priority(Some("a".into()), Some(1), S).expect("valid"), Some(("a".into(), 1)));
        assert!(message(priority(Some("a".into()), None, S)).contains("priority"));
        assert!(message(priority(None, Some(1), S)).contains("priority_group"));
        assert!(message(priority(Some(" ".into()), Some(1), S)).contains("blank"));
    }
}
