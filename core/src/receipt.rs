//! A consumer's answer to a message (the receipt): parsed and validated.

use serde_json::{Map, Value};

use crate::text::json_problem;

/// The size limit in bytes: receipts are kept in the log.
const MAX_SIZE: usize = 64 * 1024;
pub(crate) const MAX_ID: usize = 1000;

/// A consumer's answer, parsed and validated.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Receipt {
    /// The id of the audience in the target system.
    pub external_id: Option<String>,
    /// The number of members of the audience in the target system.
    pub coverage: Option<i64>,
    /// The number of members of the message that were received, and of those that were invalid.
    pub num_received: Option<i64>,
    pub num_invalid: Option<i64>,
    pub message: Option<String>,
    /// The whole answer, unchanged.
    pub whole: Map<String, Value>,
}

impl Receipt {
    /// Parses a receipt. The error names the invalid key.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_SIZE {
            return Err(format!("it has {} bytes, more than {MAX_SIZE}", text.len()));
        }
        let whole = match serde_json::from_str(text) {
            Ok(Value::Object(whole)) => whole,
            Ok(_) => return Err("it is not an object".into()),
            Err(error) => return Err(json_problem(&error)),
        };
        if whole.iter().any(|(key, value)| key.contains('\0') || holds_null_character(value)) {
            return Err("it holds a null character".into());
        }
        let external_id = match whole.get("external_id") {
            None | Some(Value::Null) => None,
            Some(Value::String(id)) if !id.is_empty() && id.len() <= MAX_ID => Some(id.clone()),
            Some(Value::String(_)) => {
                return Err(format!("\"external_id\" must have 1 to {MAX_ID} bytes"));
            }
            Some(Value::Number(id)) => Some(id.to_string()),
            Some(_) => return Err("\"external_id\" is not a text".into()),
        };
        let count = |key: &str| match whole.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_i64().filter(|count| *count >= 0) {
                Some(count) => Ok(Some(count)),
                None => Err(format!("\"{key}\" is not a number of members")),
            },
        };
        let message = match whole.get("message") {
            None | Some(Value::Null) => None,
            Some(Value::String(message)) => Some(message.clone()),
            Some(_) => return Err("\"message\" is not a text".into()),
        };
        Ok(Self {
            coverage: count("coverage")?,
            num_received: count("num_received")?,
            num_invalid: count("num_invalid")?,
            external_id,
            message,
            whole,
        })
    }

    /// Parses an answer that need not be a receipt. If it is none, the field `message` says so.
    pub fn of_answer(body: Result<Option<String>, &str>) -> Self {
        let parsed = match body.as_ref().map(Option::as_deref) {
            Ok(None) => return Self::default(),
            Ok(Some(body)) if body.trim().is_empty() => return Self::default(),
            Ok(Some(body)) => Self::parse(body),
            Err(problem) => Err((*problem).to_owned()),
        };
        parsed.unwrap_or_else(|problem| Self {
            message: Some(format!("the answer is no receipt: {problem}")),
            ..Self::default()
        })
    }
}

/// Whether a text or a key is one that PostgreSQL cannot hold.
pub(crate) fn holds_null_character(json: &Value) -> bool {
    match json {
        Value::String(text) => text.contains('\0'),
        Value::Array(values) => values.iter().any(holds_null_character),
        Value::Object(object) => {
            object.iter().any(|(key, value)| key.contains('\0') || holds_null_character(value))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_is_parsed() {
        let receipt = Receipt::parse(
            r#"{"external_id": "a1", "coverage": 5, "num_received": 3, "num_invalid": 0, "message": "m", "x": [1]}"#,
        )
        .expect("valid");
        assert_eq!(receipt.external_id.as_deref(), Some("a1"));
        assert_eq!(
            (receipt.coverage, receipt.num_received, receipt.num_invalid),
            (Some(5), Some(3), Some(0))
        );
        assert!(receipt.whole.contains_key("x"));
        assert_eq!(Receipt::parse("{}").expect("empty"), Receipt::default());
        let id = Receipt::parse(r#"{"external_id": 17}"#).expect("a number").external_id;
        assert_eq!(id.as_deref(), Some("17"));
    }

    #[test]
    fn an_invalid_receipt_is_refused() {
        for (text, named) in [
            ("[]", "object"),
            ("", "EOF"),
            (r#"{"external_id": ""}"#, "external_id"),
            (r#"{"external_id": {}}"#, "external_id"),
            (r#"{"coverage": -1}"#, "coverage"),
            (r#"{"coverage": "5"}"#, "coverage"),
            (r#"{"num_received": 1.5}"#, "num_received"),
            (r#"{"num_invalid": 1e300}"#, "num_invalid"),
            (r#"{"message": 5}"#, "message"),
            (r#"{"x": [{"\u0000": 1}]}"#, "null character"),
            (r#"{"x": [{"y": "a\u0000"}]}"#, "null character"),
            (r#"{"x": 1e400}"#, "out of range"),
        ] {
            assert!(Receipt::parse(text).expect_err(text).contains(named), "{text}");
        }
        let deep = format!("{{\"x\": {}1{}}}", "[".repeat(5000), "]".repeat(5000));
        assert!(Receipt::parse(&deep).expect_err("too deep").contains("nested too deeply"));
        let large = format!("{{\"x\": \"{}\"}}", "x".repeat(1 << 20));
        assert!(Receipt::parse(&large).expect_err("too large").contains("65536"));
    }

    #[test]
    fn an_answer_that_is_no_receipt_gets_a_message() {
        let of = |body: &str| Receipt::of_answer(Ok(Some(body.to_owned())));
        assert_eq!(Receipt::of_answer(Ok(None)), Receipt::default());
        assert_eq!(of(" \n"), Receipt::default());
        for remark in [of("OK").message, Receipt::of_answer(Err("it broke off")).message] {
            let remark = remark.unwrap_or_default();
            assert!(remark.starts_with("the answer is no receipt"), "{remark}");
        }
        assert_eq!(of(r#"{"coverage": 1}"#).coverage, Some(1));
    }
}
