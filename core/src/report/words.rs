//! Numbers, durations and texts as the page shows them.

use std::fmt::Write;

/// A number with its thousands apart.
pub fn number(value: i64) -> String {
    let digits = value.unsigned_abs().to_string();
    let mut text = String::new();
    if value < 0 {
        text.push('\u{2212}');
    }
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A difference, with its sign.
pub fn signed(value: i64) -> String {
    match value {
        0 => "0".into(),
        1.. => format!("+{}", number(value)),
        _ => number(value),
    }
}

/// A number for an axis, in few characters.
pub fn short(value: i64) -> String {
    let sign = if value < 0 { "\u{2212}" } else { "" };
    let size = value.unsigned_abs();
    let scaled = |unit: u64, name: &str| {
        let tenths = size / (unit / 10);
        match tenths % 10 {
            0 => format!("{sign}{}{name}", tenths / 10),
            tenth => format!("{sign}{}.{tenth}{name}", tenths / 10),
        }
    };
    match size {
        0..10_000 => number(value),
        10_000..1_000_000 => scaled(1_000, "k"),
        1_000_000..1_000_000_000 => scaled(1_000_000, "M"),
        _ => scaled(1_000_000_000, "G"),
    }
}

/// A part of a whole in percent; none: the whole is nothing.
pub fn percent(part: i64, whole: i64) -> Option<String> {
    if whole <= 0 {
        return None;
    }
    let share = part as f64 / whole as f64 * 100.0;
    let sign = if part < 0 { "\u{2212}" } else { "" };
    let share = share.abs();
    Some(match share {
        _ if part == 0 => "0\u{a0}%".into(),
        ..0.1 => format!("{sign}<0.1\u{a0}%"),
        ..10.0 => format!("{sign}{share:.1}\u{a0}%"),
        _ => format!("{sign}{share:.0}\u{a0}%"),
    })
}

/// A duration, to about two digits.
pub fn duration(seconds: i64) -> String {
    let seconds = seconds.max(0);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => match seconds % 3_600 / 60 {
            0 => format!("{} h", seconds / 3_600),
            minutes => format!("{} h {minutes} min", seconds / 3_600),
        },
        _ => match seconds % 86_400 / 3_600 {
            0 => counted(seconds / 86_400, "day"),
            hours => format!("{} {hours} h", counted(seconds / 86_400, "day")),
        },
    }
}

pub fn counted(count: i64, what: &str) -> String {
    format!("{} {what}{}", number(count), if count == 1 { "" } else { "s" })
}

/// The first characters of a text, on one line. What is not shown, or changes how the text around it is shown,
/// becomes a character that is.
pub fn clipped(text: &str, longest: usize) -> String {
    let mut clipped: String = text.chars().take(longest).map(visible).collect();
    if text.chars().nth(longest).is_some() {
        clipped.push('\u{2026}');
    }
    clipped
}

fn visible(c: char) -> char {
    match c {
        '\t' | '\n' | '\r' => ' ',
        // Marks and overrides of the direction of text.
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

/// A page of HTML with references in place of the characters that are not ASCII. Its style sheet is ASCII.
pub fn as_ascii(page: &str) -> String {
    let mut ascii = String::with_capacity(page.len() + page.len() / 8);
    for c in page.chars() {
        match c {
            c if c.is_ascii() => ascii.push(c),
            c => {
                let _ = write!(ascii, "&#{};", u32::from(c));
            }
        }
    }
    ascii
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_exact() {
        assert_eq!(number(0), "0");
        assert_eq!(number(999), "999");
        assert_eq!(number(-1_234_567), "\u{2212}1,234,567");
        assert_eq!(number(i64::MIN), "\u{2212}9,223,372,036,854,775,808");
        assert_eq!(signed(12), "+12");
        assert_eq!(short(9_999), "9,999");
        assert_eq!(short(12_000), "12k");
        assert_eq!(short(-1_250_000), "\u{2212}1.2M");
        assert_eq!(short(3_000_000_000), "3G");
        assert_eq!(percent(1, 0), None);
        assert_eq!(percent(0, 7).unwrap(), "0\u{a0}%");
        assert_eq!(percent(-1, 3).unwrap(), "\u{2212}33\u{a0}%");
        assert_eq!(percent(1, 100_000).unwrap(), "<0.1\u{a0}%");
        assert_eq!(percent(5, 100).unwrap(), "5.0\u{a0}%");
    }

    #[test]
    fn durations_have_two_units_at_most() {
        assert_eq!(duration(-5), "0 s");
        assert_eq!(duration(59), "59 s");
        assert_eq!(duration(3_599), "59 min");
        assert_eq!(duration(3_600), "1 h");
        assert_eq!(duration(19_200), "5 h 20 min");
        assert_eq!(duration(86_400), "1 day");
        assert_eq!(duration(2 * 86_400 + 7_200), "2 days 2 h");
    }

    #[test]
    fn texts_are_one_line_of_characters_that_are_seen() {
        assert_eq!(clipped("a\nb\u{202e}c\u{0}", 10), "a b\u{fffd}c\u{fffd}");
        assert_eq!(clipped("abcdef", 3), "abc\u{2026}");
        assert_eq!(clipped("abc", 3), "abc");
        assert_eq!(as_ascii("Tver\u{2026} \u{1f600}"), "Tver&#8230; &#128512;");
    }
}
