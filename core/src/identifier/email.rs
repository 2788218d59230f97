//! E-mail addresses.

use super::{Platform, without_blanks};

/// An e-mail address without blanks, in small letters; none: it cannot be one. Letters other than A to Z
/// stay as they are, in every locale.
pub fn email(value: &str, platform: Option<Platform>) -> Option<String> {
    let address = without_blanks(value).to_ascii_lowercase();
    let (user, domain) = address.split_once('@')?;
    if user.is_empty() || domain.contains('@') {
        return None;
    }
    match platform {
        Some(Platform::Google) => google(user, domain),
        _ if !is_public(domain) => None,
        Some(Platform::Tiktok) => {
            let user = user.split('+').next().filter(|user| !user.is_empty())?;
            Some(format!("{user}@{domain}"))
        }
        Some(Platform::Yandex) if !address.is_ascii() => None,
        _ => Some(address),
    }
}

/// Whether a domain has a name and a suffix.
fn is_public(domain: &str) -> bool {
    domain.contains('.') && domain.split('.').all(|label| !label.is_empty())
}

/// Google takes the variants of one mailbox of its own for one address. It takes every domain.
fn google(user: &str, domain: &str) -> Option<String> {
    if domain.is_empty() {
        return None;
    }
    if !matches!(domain, "gmail.com" | "googlemail.com") {
        return Some(format!("{user}@{domain}"));
    }
    let user: String = user.split('+').next()?.chars().filter(|c| *c != '.').collect();
    (!user.is_empty()).then(|| format!("{user}@{domain}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(value: &str, platform: Option<Platform>, expected: Option<&str>) {
        assert_eq!(email(value, platform).as_deref(), expected, "{value} {platform:?}");
    }

    #[test]
    fn addresses_are_in_small_letters_and_without_blanks() {
        is("\u{feff} John_Smith@Gmail.com\u{a0}", None, Some("john_smith@gmail.com"));
        is("Mail @ yandex.ru", None, Some("mail@yandex.ru"));
        is("me@пример.рф", None, Some("me@пример.рф"));
        // Only A to Z: what other platforms make of other letters is not known.
        is("ÄB@x.de", None, Some("Äb@x.de"));
        is("user.name+NYC@Example.com", None, Some("user.name+nyc@example.com"));
        is("user.name+nyc@gmail.com", Some(Platform::Meta), Some("user.name+nyc@gmail.com"));
    }

    #[test]
    fn what_cannot_be_an_address_is_none() {
        for value in ["", " ", "a", "@", "a@", "@b.c", "a@b@c.d", "a@b", "a@.c", "a@b.", "a@b..c"] {
            is(value, None, None);
            is(value, Some(Platform::Meta), None);
        }
    }

    #[test]
    fn platforms_have_their_own_rules() {
        let google = Some(Platform::Google);
        is("Cloudy.SanFrancisco+shopping@gmail.com", google, Some("cloudysanfrancisco@gmail.com"));
        is("a.b+c@googlemail.com", google, Some("ab@googlemail.com"));
        is("a.b+c@example.com", google, Some("a.b+c@example.com"));
        is("root@localhost", google, Some("root@localhost"));
        for nobody in [".@gmail.com", "+a@gmail.com", "a@", "a@b@c"] {
            is(nobody, google, None);
        }
        is("a.b+c@example.com", Some(Platform::Tiktok), Some("a.b@example.com"));
        is("+c@example.com", Some(Platform::Tiktok), None);
        is("me@пример.рф", Some(Platform::Yandex), None);
    }
}
