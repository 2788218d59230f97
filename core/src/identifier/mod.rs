//! Identifiers of people in the form that ad platforms compare: each platform hashes its users' identifiers
//! in this form, so a difference of one blank means that no person is matched. See
//! docs/consumers.md for the platforms' documents.

mod digest;
mod email;
mod phone;
mod plain;

pub use digest::{ALGORITHMS, Algorithm};
pub use email::email;
pub use phone::phone;
pub use plain::{KINDS, Kind, plain};

use unicode_normalization::UnicodeNormalization;

/// A platform that has its own rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Platform {
    Meta,
    Google,
    Yandex,
    Vk,
    Tiktok,
    Linkedin,
    Snapchat,
    Pinterest,
    Criteo,
}

/// The platforms by name.
pub const PLATFORMS: [(&str, Platform); 9] = [
    ("meta", Platform::Meta),
    ("google", Platform::Google),
    ("yandex", Platform::Yandex),
    ("vk", Platform::Vk),
    ("tiktok", Platform::Tiktok),
    ("linkedin", Platform::Linkedin),
    ("snapchat", Platform::Snapchat),
    ("pinterest", Platform::Pinterest),
    ("criteo", Platform::Criteo),
];

/// The value of a name in one of these tables.
pub fn by_name<T: Copy>(table: &[(&'static str, T)], name: &str) -> Option<T> {
    table.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
}

/// Whether a character is a blank of some kind, or is not visible at all: spaces, tabs, ends of lines,
/// no-break and zero-width spaces, byte order marks, marks of the direction of a text, controls.
fn is_blank(character: char) -> bool {
    character.is_whitespace() || is_invisible(character)
}

/// Whether a character has no width and is no letter: controls, and the formats of Unicode that appear
/// where a text was copied.
fn is_invisible(character: char) -> bool {
    let is_format = matches!(
        character,
        '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
    );
    is_format || character.is_control() && !character.is_whitespace()
}

/// The text without blanks, in the composed form of Unicode (NFC).
fn without_blanks(value: &str) -> String {
    value.chars().filter(|character| !is_blank(*character)).nfc().collect()
}

/// The text without invisible characters and without blanks at its ends, composed; each blank within it
/// is an ordinary one.
fn trimmed(value: &str) -> String {
    let visible = value.chars().filter(|character| !is_invisible(*character));
    let text: String = visible.map(|c| if c.is_whitespace() { ' ' } else { c }).nfc().collect();
    text.trim().to_owned()
}

/// None for an empty text.
fn not_empty(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_of_every_kind_go() {
        let blanks = " \t\n\r\u{b}\u{c}\u{1c}\u{1f}\u{85}\u{a0}\u{ad}\u{1680}\u{2000}\u{200a}\u{200b}\
            \u{200d}\u{200e}\u{2028}\u{2029}\u{202f}\u{205f}\u{2060}\u{3000}\u{feff}\u{7f}\u{1}";
        assert!(blanks.chars().all(is_blank));
        assert_eq!(without_blanks(&format!("{blanks}a{blanks}b{blanks}")), "ab");
        assert_eq!(trimmed("\u{feff}\u{a0} Anna\u{a0}Maria\u{200b}\t "), "Anna Maria");
        for character in ['a', '0', '.', '@', 'é', '정', 'ß', '\u{301}', '😀'] {
            assert!(!is_blank(character), "{character}");
        }
        // Composed: a letter and its accent are one character.
        assert_eq!(without_blanks("e\u{301}"), "é");
        assert_eq!(trimmed("e\u{200b}\u{301}"), "é");
    }

    #[test]
    fn platforms_are_found_by_name() {
        assert_eq!(by_name(&PLATFORMS, "vk"), Some(Platform::Vk));
        assert_eq!(by_name(&PLATFORMS, "VK"), None);
        assert_eq!(by_name(&PLATFORMS, ""), None);
    }
}
