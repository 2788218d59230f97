//! Texts of the log, which are cut where they are too long, and of messages.

use std::borrow::Cow;

use serde_json::Value;

/// The longest text in the log, in bytes.
pub const LONGEST: usize = 64 * 1024;
/// The longest value of a `jsonb` column of the log: the sum of the texts in it, in bytes.
const LONGEST_VALUE: usize = 4 * LONGEST;
/// Room for the remark that a text was cut.
const REMARK: usize = 48;

/// As much of a text as a message shows.
pub fn shown(text: &str) -> String {
    first(text, 100)
}

/// The first characters of a text, at most so many.
pub fn first(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// Why a text cannot be parsed as JSON. PostgreSQL takes values that cannot be parsed here.
pub fn json_problem(error: &serde_json::Error) -> String {
    let problem = error.to_string();
    if problem.starts_with("recursion limit exceeded") {
        "it is nested too deeply".into()
    } else if problem.starts_with("number out of range") {
        "it holds a number that is out of range".into()
    } else {
        problem
    }
}

/// The text, cut after at most `longest` bytes, with a remark that says so.
fn cut_to(text: &str, longest: usize) -> Cow<'_, str> {
    if text.len() <= longest {
        return Cow::Borrowed(text);
    }
    let kept = &text[..text.floor_char_boundary(longest.saturating_sub(REMARK))];
    Cow::Owned(format!("{kept} ... (cut, {} bytes in all)", text.len()))
}

/// A text for the log, of at most [`LONGEST`] bytes.
pub fn cut(text: &str) -> Cow<'_, str> {
    cut_to(text, LONGEST)
}

/// A value for the log: each text in it has at most [`LONGEST`] bytes, and fewer where they are
/// many.
pub fn cut_value(mut value: Value) -> Value {
    let mut longest = LONGEST;
    cut_texts(&mut value, longest);
    while length(&value) > LONGEST_VALUE {
        longest /= 2;
        if longest < 2 * REMARK {
            let text = value.to_string();
            return serde_json::json!({ "cut": cut(&text) });
        }
        cut_texts(&mut value, longest);
    }
    value
}

fn cut_texts(value: &mut Value, longest: usize) {
    match value {
        Value::String(text) => {
            if let Cow::Owned(cut) = cut_to(text, longest) {
                *text = cut;
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| cut_texts(value, longest)),
        Value::Object(values) => values.values_mut().for_each(|value| cut_texts(value, longest)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// About the length of the value as text.
fn length(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(values) => values.iter().map(|value| 1 + length(value)).sum(),
        Value::Object(values) => values.iter().map(|(key, value)| key.len() + length(value)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 4,
    }
}

/// Whether two names of time zones are the same, in any case; all aliases of UTC are.
pub fn is_same_zone(one: &str, other: &str) -> bool {
    plain_zone(one) == plain_zone(other)
}

fn plain_zone(zone: &str) -> String {
    let zone = zone.to_lowercase();
    match zone.strip_prefix("etc/").unwrap_or(&zone) {
        "utc" | "uct" | "gmt" | "zulu" | "universal" | "greenwich" => "utc".into(),
        _ => zone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn zones_have_aliases() {
        assert!(is_same_zone("Etc/UTC", "utc") && is_same_zone("GMT", "Zulu"));
        assert!(is_same_zone("europe/berlin", "Europe/Berlin"));
        assert!(!is_same_zone("CET", "Europe/Berlin"));
    }

    #[test]
    fn short_texts_stay() {
        let text = "x".repeat(LONGEST);
        assert_eq!(cut(&text), text);
        let value = json!({"a": text, "b": [1, null, "short"]});
        assert_eq!(cut_value(value.clone()), value);
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        for text in ["x".repeat(LONGEST + 1), "☃".repeat(LONGEST), "xé".repeat(10 * LONGEST)] {
            let cut = cut(&text);
            assert!(cut.len() <= LONGEST && cut.len() > LONGEST - 2 * REMARK, "{}", cut.len());
            let (kept, remark) = cut.split_once(" ... ").unwrap();
            assert!(text.starts_with(kept));
            assert_eq!(remark, format!("(cut, {} bytes in all)", text.len()));
        }
    }

    #[test]
    fn texts_of_a_value_are_cut() {
        let long = "x".repeat(32 << 20);
        let cut = cut_value(json!({"refresh_params": {"query": {"sql": long}}, "role": "r"}));
        assert_eq!(cut["role"], "r");
        let sql = cut["refresh_params"]["query"]["sql"].as_str().unwrap();
        assert!(sql.len() <= LONGEST && sql.ends_with("(cut, 33554432 bytes in all)"));
    }

    #[test]
    fn many_texts_of_a_value_are_cut_further() {
        let many = vec!["x".repeat(LONGEST); 100];
        let cut = cut_value(json!(many));
        assert_eq!(cut.as_array().unwrap().len(), 100);
        assert!(length(&cut) <= LONGEST_VALUE);
        let cut = cut_value(json!(vec!["x"; 1 << 20]));
        assert!(cut["cut"].as_str().unwrap().len() <= LONGEST);
        let keys: serde_json::Map<_, _> =
            (0..9).map(|n| (format!("{n}{}", "k".repeat(LONGEST)), json!(n))).collect();
        assert!(length(&cut_value(Value::Object(keys))) <= LONGEST_VALUE);
    }
}
