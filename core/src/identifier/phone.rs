//! Phone numbers.

use std::str::FromStr;

use rlibphonenumber::{
    NumberLengthType, PHONE_NUMBER_UTIL as numbers, PhoneNumber, PhoneNumberFormat, Region,
};

use super::{Platform, without_blanks};

/// A phone number in international form (E.164); for some platforms without the plus. None: it cannot be
/// one. `country`: the country, by its two letters, of a number that is written as it is dialled there.
pub fn phone(value: &str, country: Option<&str>, platform: Option<Platform>) -> Option<String> {
    let number = parse(&without_blanks(value), country.and_then(region))?;
    let text = numbers.format(&number, PhoneNumberFormat::E164);
    let has_plus = matches!(
        platform,
        None | Some(Platform::Google | Platform::Linkedin | Platform::Pinterest | Platform::Criteo)
    );
    Some(if has_plus { text.into_owned() } else { text.trim_start_matches('+').to_owned() })
}

fn region(country: &str) -> Option<Region> {
    Region::from_str(&without_blanks(country).to_ascii_uppercase()).ok()
}

/// A number that begins with `+` or `00` is international, whatever is dialled before it in the country.
/// So is one without a country, if there is such a number: a national one would be another person's.
fn parse(text: &str, country: Option<Region>) -> Option<PhoneNumber> {
    // Without a country it needs a plus.
    possible(text, country).or_else(|| match (text.strip_prefix("00"), country) {
        (Some(rest), _) => possible(&format!("+{rest}"), None),
        (None, Some(_)) => None,
        (None, None) => {
            let found = possible(&format!("+{text}"), None);
            found.filter(|number| numbers.is_valid_number(number))
        }
    })
}

/// The number if its length is possible: with an area code, if the country has these.
fn possible(text: &str, country: Option<Region>) -> Option<PhoneNumber> {
    let number = numbers.parse(text, country).ok()?;
    let length = numbers.is_possible_number_with_reason(&number).ok()?;
    (length != NumberLengthType::IsPossibleLocalOnly).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(value: &str, country: Option<&str>, expected: Option<&str>) {
        assert_eq!(phone(value, country, None).as_deref(), expected, "{value} {country:?}");
    }

    #[test]
    fn numbers_are_international() {
        is("+1 (650) 555-1212", None, Some("+16505551212"));
        is("00919876543210", None, Some("+919876543210"));
        is("\u{feff}+44\u{a0}20 7946\u{200b} 0958", None, Some("+442079460958"));
        is("8 (912) 345-67-89", Some("ru"), Some("+79123456789"));
        is("810 44 20 7946 0958", Some("RU"), Some("+442079460958"));
        is("020 7946 0958", Some("GB"), Some("+442079460958"));
        is("+44 20 7946 0958", Some("US"), Some("+442079460958"));
        is("00374 93-828222", Some("RU"), Some("+37493828222"));
        is("00374 93-828222", Some("US"), Some("+37493828222"));
        is("tel:+7-999-555-11-11", None, Some("+79995551111"));
        is("٠٧٧٠٠٩٠٠١٢٣", Some("GB"), Some("+447700900123"));
        is("＋１６５０５５５１２１２", None, Some("+16505551212"));
        // Without a plus, if there is such a number.
        is("7 (999) 555-11-11", None, Some("+79995551111"));
        is("1-800-555-0100", None, Some("+18005550100"));
        is("8 (999) 555-11-11", None, None);
    }

    #[test]
    fn what_cannot_be_a_number_is_none() {
        for value in ["", " ", "+", "abc", "12", "+12", "+999123456789", "123456789012345678901"] {
            is(value, None, None);
            is(value, Some("RU"), None);
        }
        // A local number, and a country that there is not.
        is("345-67-89", Some("US"), None);
        is("912 345 67 89", Some("Russia"), None);
        is("+7 912 345 67 89", Some("Russia"), Some("+79123456789"));
    }

    #[test]
    fn some_platforms_want_no_plus() {
        use super::super::PLATFORMS;
        for (name, platform) in PLATFORMS {
            let expected = match name {
                "google" | "linkedin" | "pinterest" | "criteo" => "+37493828222",
                _ => "37493828222",
            };
            let found = phone("00374 93-828222", None, Some(platform));
            assert_eq!(found.as_deref(), Some(expected), "{name}");
        }
    }
}
