//! What a consumer reports of the audiences in its target systems: parsed and validated.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::of_object;

/// The most audiences of a report.
const MAX_AUDIENCES: usize = 10_000;
/// The longest text, in bytes.
const MAX_TEXT: usize = 1000;

/// The form of a report, for hints.
pub const FORM: &str = "Give a list of {\"external_id\": ..., \"name\": ..., \"target\": ..., \"size\": ..., \"match_rate\": ..., \"status\": ...}: texts, a number of members and a share from 0 to 1; only external_id is needed.";

/// An audience in a target system.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reported {
    #[serde(deserialize_with = "id")]
    pub external_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The target system that it is in; none: any of the consumer's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The number of its members.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// The share of the members that the target system could match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub match_rate: Option<f64>,
    /// What the target system says of its state, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
}

/// An id, which some target systems give as a number.
fn id<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        other => Err(serde::de::Error::custom(format!("{other} is not a text"))),
    }
}

impl Reported {
    fn problem(&self) -> Option<String> {
        if self.external_id.is_empty() || self.external_id.len() > MAX_TEXT {
            return Some(format!("\"external_id\" must have 1 to {MAX_TEXT} bytes"));
        }
        let texts = [("name", &self.name), ("target", &self.target), ("status", &self.status)];
        for (key, text) in texts {
            if text.as_ref().is_some_and(|text| text.len() > MAX_TEXT) {
                return Some(format!("\"{key}\" must have at most {MAX_TEXT} bytes"));
            }
        }
        let all =
            texts.into_iter().filter_map(|(_, text)| text.as_ref()).chain([&self.external_id]);
        if all.into_iter().any(|text| text.contains('\0')) {
            return Some("it holds a null character".into());
        }
        if self.size.is_some_and(|size| i64::try_from(size).is_err()) {
            return Some("\"size\" is too large".into());
        }
        let is_share = |rate: f64| (0.0..=1.0).contains(&rate);
        if self.match_rate.is_some_and(|rate| !is_share(rate)) {
            return Some("\"match_rate\" must be from 0 to 1".into());
        }
        None
    }
}

/// Parses a report. The error names the audience by its place, and what is wrong with it.
pub fn parse(report: Value) -> Result<Vec<Reported>, String> {
    let Value::Array(audiences) = report else { return Err("it is not a list".into()) };
    if audiences.len() > MAX_AUDIENCES {
        return Err(format!("it has {} audiences, more than {MAX_AUDIENCES}", audiences.len()));
    }
    let mut known = std::collections::HashSet::new();
    let mut parsed = Vec::with_capacity(audiences.len());
    for (place, audience) in audiences.into_iter().enumerate() {
        let of = |problem: String| format!("audience {}: {problem}", place + 1);
        if !audience.is_object() {
            return Err(of("it is not an object".into()));
        }
        let audience: Reported = of_object(audience).map_err(&of)?;
        if let Some(problem) = audience.problem() {
            return Err(of(problem));
        }
        if !known.insert((audience.external_id.clone(), audience.target.clone())) {
            return Err(of(format!("\"{}\" is given twice", audience.external_id)));
        }
        parsed.push(audience);
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_report_is_parsed() {
        let report = json!([
            {"external_id": "8812", "name": "vip", "target": "ads", "size": 1203, "match_rate": 0.87, "status": "ready"},
            {"external_id": 77, "name": null, "size": null},
        ]);
        let parsed = parse(report).expect("valid");
        assert_eq!(parsed[0].size, Some(1203));
        assert_eq!(json!(parsed[1]), json!({"external_id": "77"}));
        assert_eq!(parse(json!([])).expect("none"), []);
        let both =
            json!([{"external_id": "1", "target": "a"}, {"external_id": "1", "target": "b"}]);
        assert_eq!(parse(both).expect("of two targets").len(), 2);
    }

    #[test]
    fn an_invalid_report_is_refused() {
        let one = |key: &str, value: Value| {
            let mut audience = json!({"external_id": "1"});
            audience[key] = value;
            json!([audience])
        };
        for (report, named) in [
            (json!({}), "list"),
            (json!(null), "list"),
            (json!(["1"]), "audience 1: it is not an object"),
            (json!([["1"]]), "object"),
            (json!([{"external_id": "1"}, {}]), "audience 2: "),
            (json!([{"name": "vip"}]), "external_id"),
            (one("external_id", json!("")), "external_id"),
            (one("external_id", json!([])), "external_id"),
            (one("external_id", json!("x".repeat(1001))), "1000"),
            (one("name", json!(5)), "text"),
            (one("name", json!("x".repeat(1001))), "\"name\""),
            (one("status", json!("\0")), "null character"),
            (one("size", json!(-1)), "0 or more"),
            (one("size", json!(1.5)), "number"),
            (one("size", json!(u64::MAX)), "\"size\""),
            (one("match_rate", json!(87)), "\"match_rate\""),
            (one("match_rate", json!(-0.1)), "\"match_rate\""),
            (one("match_rate", json!("0.5")), "number"),
            (one("members", json!(1)), "\"members\""),
            (json!([{"external_id": "1"}, {"external_id": 1}]), "\"1\" is given twice"),
        ] {
            let problem = parse(report.clone()).expect_err(&report.to_string());
            assert!(problem.contains(named), "{problem}");
        }
        let many = vec![json!({"external_id": "1"}); MAX_AUDIENCES + 1];
        assert!(parse(Value::Array(many)).expect_err("too many").contains("10001"));
    }
}
