//! Words of SQL for the current time, found in a text: a constant such as `'now'`, and a call of a
//! clock in the body of a function.

/// The words that PostgreSQL's types take for a time that depends on the present one.
const RELATIVE: [&str; 4] = ["now", "today", "tomorrow", "yesterday"];

/// What names a clock in a function's body. The last ones only where they are called.
const CLOCKS: [&str; 5] =
    ["current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"];
const CALLED: [&str; 6] = [
    "now",
    "clock_timestamp",
    "statement_timestamp",
    "transaction_timestamp",
    "timeofday",
    "segmenter_now",
];

/// Whether a text begins with a string constant that has such a word, in quotes of any kind. One with escapes
/// counts as if it had.
pub fn is_relative_time(text: &str) -> bool {
    let Some((constant, has_escapes)) = constant(text) else { return false };
    let constant = constant.to_lowercase();
    has_escapes && constant.contains('\\')
        || constant.split(|c: char| !c.is_ascii_alphabetic()).any(|word| RELATIVE.contains(&word))
}

/// The string constant that a text begins with, and whether backslashes are escapes in it.
fn constant(text: &str) -> Option<(String, bool)> {
    if let Some(rest) = text.strip_prefix('$') {
        let (tag, rest) = rest.split_once('$')?;
        let end = rest.find(&format!("${tag}$")).unwrap_or(rest.len());
        return Some((rest[..end].to_owned(), false));
    }
    let prefixes =
        [("E", true), ("e", true), ("U&", true), ("u&", true), ("N", false), ("n", false)];
    let prefix = prefixes.iter().find(|(prefix, _)| text.starts_with(&format!("{prefix}'")));
    let (prefix, has_escapes) = prefix.copied().unwrap_or(("", false));
    let mut rest = text[prefix.len()..].strip_prefix('\'')?;
    let mut constant = String::new();
    loop {
        let Some((part, after)) = rest.split_once('\'') else {
            constant.push_str(rest);
            break;
        };
        constant.push_str(part);
        // A doubled quote, or a part that goes on in another line.
        let next = after.trim_start();
        let gap = &after[..after.len() - next.len()];
        match next.strip_prefix('\'') {
            Some(next) if gap.is_empty() || gap.contains(['\n', '\r']) => {
                constant.push_str(if gap.is_empty() { "'" } else { "" });
                rest = next;
            }
            _ => break,
        }
    }
    Some((constant, has_escapes))
}

/// Whether the body of a function names a clock. A word in a comment counts, too: it may say so where
/// the function does not read a clock.
pub fn names_clock(body: &str) -> bool {
    let body = body.to_lowercase();
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    body.char_indices().any(|(at, c)| {
        let starts = is_word(c) && !body[..at].chars().next_back().is_some_and(is_word);
        if !starts {
            return false;
        }
        let rest = &body[at..];
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        CLOCKS.contains(&word)
            || (CALLED.contains(&word)
                && after.trim_start_matches(['"', ' ', '\n', '\t']).starts_with('('))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_for_the_present_is_found() {
        for text in [
            "'now'::timestamptz",
            "' Now ' > x",
            "E'today'",
            "'tomorrow 12:00'",
            "'yesterday'",
            "$$now$$",
            "$x$ today $x$ > y",
            "U&'now'",
            "U&'\\006eow'",
            "E'n\\x6fw'",
            "N'now'",
            "'no'\n  'w'",
            "'{2026-01-01,now}'",
            "'it''s now'",
        ] {
            assert!(is_relative_time(text), "{text}");
        }
        for text in [
            "'2026-01-01 now",
            "'2026-01-01', 'now'",
            "now()",
            "",
            "'nowhere'",
            "x'now'",
            "$$2026$$ now",
            "'2026' 'now'",
            "$1",
            "U&'2026'",
            "'a\\b'",
        ] {
            assert_eq!(is_relative_time(text), text == "'2026-01-01 now", "{text}");
        }
    }

    #[test]
    fn a_clock_is_found_in_a_body() {
        for body in [
            "begin return now(); end",
            "SELECT CURRENT_DATE",
            "x := pg_catalog.now ()",
            "perform \"now\"()",
            "return clock_timestamp\n()",
            "if localtimestamp > x",
        ] {
            assert!(names_clock(body), "{body}");
        }
        for body in
            ["begin return known(1); end", "current_dates", "now_or_later()", "x.now", "", "é"]
        {
            assert!(!names_clock(body), "{body}");
        }
    }
}
