//! Redacting what the log and the state say of a person.

use std::collections::BTreeSet;

use pgrx::datum::Uuid;
use pgrx::prelude::*;
use serde_json::json;

use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::error::Result;

/// Redacts errors, receipts and one-off queries that mention the person, in a segment's log and
/// state.
pub fn redact(set: &RelationSet, segment: Uuid, patterns: &[String], id: &str) -> Result<()> {
    let letters: String = id.chars().filter(|c| c.is_alphanumeric()).collect();
    set.as_owner(|| {
        Spi::run_with_args(
            &set.sql(&queries::ops::erase::REDACT_LOG, &[]),
            &[segment.into(), patterns.to_vec().into(), letters.into()],
        )?;
        Ok(Spi::run_with_args(
            &set.sql(&queries::ops::erase::REDACT_STATE, &[]),
            &[segment.into(), patterns.to_vec().into()],
        )?)
    })
}

/// The number of characters of a regular expression, which PostgreSQL refuses when it is too complex. Of
/// a longer text only the beginning is sought.
const LONGEST_PATTERN: usize = 4000;

/// Regular expressions that match the id or one of the hashes as a whole word, also in the notation of
/// SQL and JSON.
pub fn patterns(id: &str, hashes: &BTreeSet<String>) -> Vec<String> {
    let mut tells = hashes.clone();
    for text in [id.to_owned(), id.replace('\'', "''")] {
        let quoted = json!(text).to_string();
        tells.insert(quoted[1..quoted.len() - 1].to_owned());
        tells.insert(text);
    }
    let escape = |text: &String| {
        text.chars().take(LONGEST_PATTERN).fold(String::new(), |mut escaped, c| {
            if c.is_ascii_punctuation() {
                escaped.push('\\');
            }
            escaped.push(c);
            escaped
        })
    };
    let mut patterns = Vec::new();
    let mut any: Vec<String> = Vec::new();
    for text in tells.iter().filter(|text| !text.is_empty()) {
        let escaped = escape(text);
        if text.chars().nth(LONGEST_PATTERN).is_some() {
            patterns.push(format!("(^|[^[:alnum:]_]){escaped}"));
            continue;
        }
        any.push(escaped);
        if any.iter().map(String::len).sum::<usize>() >= LONGEST_PATTERN {
            patterns.push(any_word(&mut any));
        }
    }
    if !any.is_empty() {
        patterns.push(any_word(&mut any));
    }
    patterns
}

/// A regular expression that matches one of the texts as a whole word.
fn any_word(texts: &mut Vec<String>) -> String {
    let any = std::mem::take(texts).join("|");
    format!("(^|[^[:alnum:]_])({any})($|[^[:alnum:]_])")
}

#[cfg(feature = "pg_test")]
#[allow(clippy::expect_used)]
mod tests {
    use pgrx::prelude::*;

    use super::*;

    #[pg_extern]
    fn a_pattern_escapes_punctuation() {
        let found = patterns("a.b|c", &BTreeSet::from(["42".to_owned(), String::new()]));
        assert_eq!(found, [r"(^|[^[:alnum:]_])(42|a\.b\|c)($|[^[:alnum:]_])"]);
        assert!(patterns("", &BTreeSet::new()).is_empty());
    }

    #[pg_extern]
    fn patterns_do_not_grow_without_end() {
        let hashes = (0..1000).map(|i| format!("{i:064}")).collect();
        let found = patterns(&"x".repeat(100_000), &hashes);
        assert!(found.len() > 10 && found.iter().all(|text| text.len() < 2 * LONGEST_PATTERN));
        assert!(hashes.iter().all(|hash| found.iter().any(|text| text.contains(hash))));
    }

    #[pg_extern]
    fn a_pattern_matches_the_notation_of_sql_and_json() {
        let found = patterns("o'b\"c", &BTreeSet::new()).join(" ");
        for text in [r#"o\'b\"c"#, r#"o\'\'b\"c"#, r#"o\'b\\\"c"#, r#"o\'\'b\\\"c"#] {
            assert!(found.contains(text), "{text} in {found}");
        }
    }
}
