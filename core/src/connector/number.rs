//! Numbers of a message whose digits a double does not hold.

use std::borrow::Cow;

/// JSON in which numbers that a parser would round, or not take, are texts of the same digits. What can be an
/// integer of 64 bits, or is the same number as a double, stays one.
pub fn keep_digits(json: &str) -> Cow<'_, str> {
    let mut kept = String::new();
    let (mut copied, mut place) = (0, 0);
    let bytes = json.as_bytes();
    while let Some(byte) = bytes.get(place) {
        let begin = place;
        place += 1;
        match byte {
            b'"' => {
                while let Some(byte) = bytes.get(place) {
                    place += 1;
                    match byte {
                        b'"' => break,
                        b'\\' => place += 1,
                        _ => {}
                    }
                }
            }
            b'-' | b'0'..=b'9' => {
                let is_part =
                    |byte: &&u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
                place += bytes[place..].iter().take_while(is_part).count();
                let number = &json[begin..place];
                if !is_exact(number) {
                    kept.extend([&json[copied..begin], "\"", number, "\""]);
                    copied = place;
                }
            }
            _ => {}
        }
    }
    match copied {
        0 => json.into(),
        _ => {
            kept.push_str(&json[copied..]);
            kept.into()
        }
    }
}

fn is_exact(number: &str) -> bool {
    if number.parse::<i64>().is_ok() || number.parse::<u64>().is_ok() {
        return true;
    }
    number.parse::<f64>().is_ok_and(|double| {
        double.is_finite() && Digits::of(number) == Digits::of(&format!("{double:e}"))
    })
}

/// The digits of a number without zeros at either end, and its power of ten.
#[derive(PartialEq)]
struct Digits {
    is_negative: bool,
    digits: String,
    power: i64,
}

impl Digits {
    /// None: it is no number.
    fn of(number: &str) -> Option<Self> {
        let (is_negative, number) = match number.strip_prefix('-') {
            Some(number) => (true, number),
            None => (false, number),
        };
        let (mantissa, power) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = format!("{whole}{fraction}");
        let significant = all.trim_end_matches('0');
        let zeros = i64::try_from(all.len() - significant.len()).ok()?;
        let power = power.parse::<i64>().ok()? - i64::try_from(fraction.len()).ok()? + zeros;
        let digits = significant.trim_start_matches('0').to_owned();
        let power = if digits.is_empty() { 0 } else { power };
        Some(Self { is_negative, digits, power })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_kept() {
        let huge = format!("1{}", "0".repeat(400));
        let tiny = format!("0.{}1", "0".repeat(400));
        for number in [
            "12345678901234567890.5",
            "18446744073709551616001",
            "-0.12345678901234567891",
            &huge,
            &tiny,
        ] {
            let expected = format!(r#"{{"a": ["{number}", 1]}}"#);
            assert_eq!(keep_digits(&format!(r#"{{"a": [{number}, 1]}}"#)), expected);
            serde_json::from_str::<serde_json::Value>(&expected).expect("JSON");
        }
        let googol = format!("1{}", "0".repeat(100));
        for number in [
            "0",
            "-0",
            "0.0",
            "1.50",
            "0.1",
            "-9223372036854775808",
            "18446744073709551615",
            "1e10",
            &googol,
        ] {
            let json =
                format!(r#"{{"a\"": {number}, "b": "\\", "c": "12345678901234567890123, \"5"}}"#);
            assert_eq!(keep_digits(&json), json);
        }
        assert_eq!(keep_digits("12345678901234567890123"), r#""12345678901234567890123""#);
    }
}
