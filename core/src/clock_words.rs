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

/// Whether a text begins with a string constant that has such a word, in quotes.
pub fn is_relative_time(text: &str) -> bool {
    let text = text.strip_prefix(['e', 'E']).unwrap_or(text);
    let Some(text) = text.strip_prefix('\'') else { return false };
    let constant = text.split('\'').next().unwrap_or_default().to_lowercase();
    constant.split(|c: char| !c.is_ascii_alphabetic()).any(|word| RELATIVE.contains(&word))
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
        for text in
            ["'now'::timestamptz", "' Now ' > x", "E'today'", "'tomorrow 12:00'", "'yesterday'"]
        {
            assert!(is_relative_time(text), "{text}");
        }
        for text in ["'2026-01-01 now", "'2026-01-01', 'now'", "now()", "", "'nowhere'", "x'now'"] {
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
