//! Redacting what the log, the state and alerts say of a person.

use std::collections::BTreeSet;

use pgrx::datum::Uuid;
use pgrx::prelude::*;
use serde_json::json;

use super::{LONGEST_WAIT, LONGEST_WORK, Listed, work};
use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::error::{Result, counted, emit, emit_warning};
use crate::pg::exec::role;
use crate::refresh::alerts;

/// Redacts errors, receipts, filters and one-off queries that mention the person, in a segment's log and
/// state, and in alerts about it.
pub fn redact(set: &RelationSet, segment: Uuid, patterns: &[String], id: &str) -> Result<()> {
    let (letters, many) = (letters(id), many_letters(id));
    redact_definitions(set, Some(segment), patterns, id)?;
    alerts::write_now()?;
    set.as_owner(|| {
        Spi::run_with_args(
            &set.sql(&queries::ops::erase::REDACT_LOG, &[]),
            &[segment.into(), patterns.to_vec().into(), letters.into(), many.clone().into()],
        )?;
        Spi::run_with_args(
            &set.sql(&queries::ops::erase::REDACT_ALERTS, &[]),
            &[segment.into(), patterns.to_vec().into()],
        )?;
        Ok(Spi::run_with_args(
            &set.sql(&queries::ops::erase::REDACT_STATE, &[]),
            &[segment.into(), patterns.to_vec().into(), many.into()],
        )?)
    })
}

fn letters(id: &str) -> String {
    id.chars().filter(|c| c.is_alphanumeric()).collect()
}

/// The letters and digits of an id, if they are enough to be sought in every spelling; otherwise nothing.
fn many_letters(id: &str) -> String {
    Some(letters(id)).filter(|it| it.chars().count() >= LEAST_LETTERS).unwrap_or_default()
}

/// The columns of a segment's row in which no person can be named.
const CLOSED: [&str; 13] = [
    "id",
    "table_name",
    "owner",
    "refresh_auto",
    "refresh_cron",
    "refresh_timezone",
    "guards",
    "actual_begin",
    "actual_end",
    "is_suppression",
    "priority",
    "retention",
    "hold_until",
];

/// The number of letters and digits of an id that is sought in every spelling: shorter ones are found in
/// other words and numbers.
const LEAST_LETTERS: usize = 6;

/// Redacts what the definitions of a segment say of the person, or with none those of deleted segments.
fn redact_definitions(
    set: &RelationSet,
    segment: Option<Uuid>,
    patterns: &[String],
    id: &str,
) -> Result<()> {
    let closed: Vec<&str> = CLOSED.to_vec();
    let args = [segment.into(), patterns.to_vec().into(), many_letters(id).into(), closed.into()];
    set.as_owner(|| {
        let sql = set.sql(&queries::ops::erase::REDACT_DEFINITIONS, &[]);
        Ok(Spi::run_with_args(&sql, &args)?)
    })
}

/// Redacts the definitions of deleted segments, if the caller may act as the set's owner, and reports what
/// still names the person. The relations of another set may run code of its owner: for a limited time.
pub(super) fn redact_rest(set: &RelationSet, segments: &[Listed], patterns: &[String], id: &str) {
    let limit = || (!set.is_own).then_some(LONGEST_WORK);
    if role::may_act_as(role::current(), set.owner) {
        let redacted = work(&mut limit(), || {
            role::with_lock_timeout(LONGEST_WAIT, || redact_definitions(set, None, patterns, id))
        });
        if let Err(error) = redacted {
            let what = "the person was not erased from the definitions of deleted segments";
            emit_warning(what, &error.report());
        }
    }
    if let Err(error) = work(&mut limit(), || report_named(set, segments, patterns)) {
        emit_warning("it is not known whether segments name the person", &error.report());
    }
}

/// Reports the segments and subscriptions whose rows name the person, which are for people to change.
fn report_named(set: &RelationSet, segments: &[Listed], patterns: &[String]) -> Result<()> {
    let (mut named, mut filters) = (Vec::new(), Vec::new());
    for segment in segments {
        let args = [segment.id.into(), patterns.to_vec().into(), CLOSED.to_vec().into()];
        let (is_named, subscriptions) = set.as_owner(|| {
            let sql = set.sql(&queries::ops::erase::NAMES_PERSON, &[]);
            Spi::connect(|client| {
                let row = client.select(&sql, Some(1), &args)?.first();
                row.get_two::<bool, Vec<String>>()
            })
        })?;
        if is_named == Some(true) {
            named.push(format!("\"{}\"", segment.name));
        }
        filters.extend(subscriptions.unwrap_or_default());
    }
    say_named(
        "the definition of",
        (named, "segment"),
        "Change what they say of the person: an erasure redacts earlier versions of definitions, not the segments' rows.",
    );
    say_named(
        "the \"where\" of",
        (filters, "subscription"),
        "Change what they say of the person: an erasure redacts filters of earlier hand-overs, not the subscriptions' rows.",
    );
    Ok(())
}

fn say_named(what: &str, (mut named, kind): (Vec<String>, &str), hint: &str) {
    if named.is_empty() {
        return;
    }
    named.sort_unstable();
    let rows = counted(named.len() as i64, kind);
    let named = named.join(", ");
    let message = format!("{what} {rows} names the id or a hash of the person: {named}");
    emit(PgLogLevel::NOTICE, message, Some(hint));
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
