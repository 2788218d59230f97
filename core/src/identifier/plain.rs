//! Identifiers other than addresses and numbers.

use std::sync::LazyLock;

use chrono::{Datelike, NaiveDate};
use regex::Regex;
use unicode_normalization::UnicodeNormalization;

use super::{Platform, not_empty, trimmed, without_blanks};

/// What an identifier is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    FirstName,
    LastName,
    City,
    State,
    Zip,
    Country,
    BirthDate,
    MobileAdId,
    ExternalId,
}

/// The kinds by name.
pub const KINDS: [(&str, Kind); 9] = [
    ("first_name", Kind::FirstName),
    ("last_name", Kind::LastName),
    ("city", Kind::City),
    ("state", Kind::State),
    ("zip", Kind::Zip),
    ("country", Kind::Country),
    ("birth_date", Kind::BirthDate),
    ("mobile_ad_id", Kind::MobileAdId),
    ("external_id", Kind::ExternalId),
];

/// An identifier in the form that a platform compares; none: it cannot be one.
pub fn plain(kind: Kind, value: &str, platform: Option<Platform>) -> Option<String> {
    match kind {
        Kind::FirstName | Kind::LastName => name(value, platform),
        Kind::City | Kind::State => place(value, platform),
        Kind::Zip => zip(value, platform),
        Kind::Country => country(value, platform),
        Kind::BirthDate => birth_date(value, platform),
        Kind::MobileAdId => mobile_ad_id(value, platform),
        Kind::ExternalId => not_empty(trimmed(value)),
    }
}

#[allow(clippy::unwrap_used)]
static PUNCTUATION: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"[\p{P}\p{S}]").unwrap());
#[allow(clippy::unwrap_used)]
static NO_WORD: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"[^\p{L}\p{N}\s]").unwrap());

/// Small letters of every script.
fn lower(text: &str) -> String {
    text.to_lowercase().nfc().collect()
}

fn name(value: &str, platform: Option<Platform>) -> Option<String> {
    let text = trimmed(value);
    match platform {
        Some(Platform::Linkedin) => not_empty(text),
        Some(Platform::Meta) => {
            not_empty(lower(&PUNCTUATION.replace_all(&text, "")).replace(' ', ""))
        }
        _ => not_empty(lower(&PUNCTUATION.replace_all(&text, "")).trim().to_owned()),
    }
}

fn place(value: &str, platform: Option<Platform>) -> Option<String> {
    let text = lower(&trimmed(value));
    match platform {
        Some(Platform::Meta) => not_empty(text.chars().filter(char::is_ascii_lowercase).collect()),
        _ => not_empty(NO_WORD.replace_all(&text, "").trim().to_owned()),
    }
}

fn zip(value: &str, platform: Option<Platform>) -> Option<String> {
    match platform {
        // Of a code of the United States the first five digits.
        Some(Platform::Meta) => {
            let text = without_blanks(value).to_lowercase();
            not_empty(text.split('-').next().unwrap_or_default().to_owned())
        }
        _ => not_empty(trimmed(value)),
    }
}

/// A country by its two letters (ISO 3166). Meta leaves out what is no letter.
fn country(value: &str, platform: Option<Platform>) -> Option<String> {
    let code = without_blanks(value).to_ascii_uppercase();
    if platform == Some(Platform::Meta) {
        let letters: String = code.chars().filter(char::is_ascii_uppercase).collect();
        return rust_iso3166::from_alpha2(&letters).map(|_| letters.to_ascii_lowercase());
    }
    rust_iso3166::from_alpha2(&code).map(|_| code)
}

/// A date as `YYYY-MM-DD`, `YYYYMMDD` or `DD.MM.YYYY`. In other forms it cannot be told which is the month.
fn birth_date(value: &str, platform: Option<Platform>) -> Option<String> {
    let text = without_blanks(value);
    let formats = ["%Y-%m-%d", "%Y%m%d", "%d.%m.%Y"];
    let date = formats.iter().find_map(|format| NaiveDate::parse_from_str(&text, format).ok())?;
    if !(1800..=9999).contains(&date.year()) {
        return None;
    }
    let form = if platform == Some(Platform::Meta) { "%Y%m%d" } else { "%Y-%m-%d" };
    Some(date.format(form).to_string())
}

/// The advertising id of a device, a UUID with hyphens. All zeros stand for a person who allows none.
fn mobile_ad_id(value: &str, platform: Option<Platform>) -> Option<String> {
    let text = without_blanks(value);
    let digits: String = text.chars().filter(|character| *character != '-').collect();
    let is_id = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_id || digits.bytes().all(|byte| byte == b'0') {
        return None;
    }
    // Yandex takes the ids of Apple in capital letters, those of Google in small ones.
    let is_apple = digits.bytes().any(|byte| byte.is_ascii_uppercase());
    let digits = match platform {
        Some(Platform::Yandex) if is_apple => digits.to_ascii_uppercase(),
        _ => digits.to_ascii_lowercase(),
    };
    let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
    Some(parts.join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(kind: Kind, platform: Option<Platform>, pairs: &[(&str, Option<&str>)]) {
        for (value, expected) in pairs {
            let found = plain(kind, value, platform);
            assert_eq!(found.as_deref(), *expected, "{value} {kind:?} {platform:?}");
        }
    }

    #[test]
    fn names_have_small_letters_and_no_punctuation() {
        let meta = Some(Platform::Meta);
        let names = [
            ("O'Brien", Some("obrien")),
            ("Valéry", Some("valéry")),
            ("정", Some("정")),
            ("Mary-Jane", Some("maryjane")),
            (" Anna\u{a0}Maria ", Some("annamaria")),
            ("E\u{301}lodie", Some("élodie")),
            ("Наталья", Some("наталья")),
            ("हिन्दी", Some("हिन्दी")),
            ("...", None),
            (" ", None),
        ];
        is(Kind::FirstName, meta, &names);
        is(Kind::LastName, Some(Platform::Google), &[("O'Brien Smith", Some("obrien smith"))]);
        is(Kind::LastName, None, &[(" Anna  Maria- ", Some("anna  maria")), ("—", None)]);
        is(Kind::LastName, Some(Platform::Linkedin), &[(" O'Brien", Some("O'Brien"))]);
    }

    #[test]
    fn places_and_codes() {
        let (meta, google) = (Some(Platform::Meta), Some(Platform::Google));
        is(Kind::City, meta, &[("St. Paul 2", Some("stpaul")), ("Москва", None)]);
        is(
            Kind::State,
            google,
            &[(" New_York, ", Some("newyork")), ("Île-de-France", Some("îledefrance"))],
        );
        is(
            Kind::Zip,
            meta,
            &[("94035-1234", Some("94035")), ("SW1A 1AA", Some("sw1a1aa")), ("-", None)],
        );
        is(Kind::Zip, google, &[(" SW1A 1AA ", Some("SW1A 1AA"))]);
        is(
            Kind::Country,
            meta,
            &[("Us", Some("us")), ("GB ", Some("gb")), ("XX", None), ("USA", None), ("", None)],
        );
        is(
            Kind::Country,
            google,
            &[("us", Some("US")), ("tf", Some("TF")), ("001", None), ("XK", None)],
        );
    }

    #[test]
    fn dates_are_those_that_there_are() {
        let dates = [
            ("1990-05-07", Some("1990-05-07")),
            ("1990-5-7", Some("1990-05-07")),
            ("19900507", Some("1990-05-07")),
            (" 07.05.1990", Some("1990-05-07")),
            ("29.02.2000", Some("2000-02-29")),
            ("29.02.1900", None),
            ("05/07/1990", None),
            ("0090-05-07", None),
            ("1990", None),
            ("", None),
        ];
        is(Kind::BirthDate, None, &dates);
        is(Kind::BirthDate, Some(Platform::Meta), &[("1990-05-07", Some("19900507"))]);
    }

    #[test]
    fn ids_of_devices_and_of_others() {
        let id = "ab1e2345-6789-0abc-def0-1234567890ab";
        let upper = id.to_uppercase();
        let bare = id.replace('-', "");
        let small = [(id, Some(id)), (&*upper, Some(id)), (&*bare, Some(id))];
        is(Kind::MobileAdId, Some(Platform::Meta), &small);
        is(Kind::MobileAdId, Some(Platform::Yandex), &[(&upper, Some(&upper)), (id, Some(id))]);
        let none = [
            "",
            "00000000-0000-0000-0000-000000000000",
            "ab1e",
            "zb1e23456789-0abc-def0-1234567890ab",
        ];
        is(Kind::MobileAdId, None, &none.map(|value| (value, None)));
        is(
            Kind::ExternalId,
            Some(Platform::Meta),
            &[(" A-1 b\u{feff}", Some("A-1 b")), (" ", None)],
        );
    }
}
