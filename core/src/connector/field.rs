//! Fields of members: their names on the platform, and the forms of their values.

use serde::Deserialize;

/// A field of members.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldSpec {
    /// The platform's name for it.
    #[serde(rename = "as")]
    pub name: String,
    #[serde(default)]
    pub form: Form,
}

/// The form that a value must have. A value of another form is not handed over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// 64 lower-case hexadecimal digits.
    Sha256,
    /// 32 lower-case hexadecimal digits.
    Md5,
    /// 128 lower-case hexadecimal digits.
    Sha512,
    /// SHA-256 in Base64.
    Sha256Base64,
    /// Any text that is not empty.
    #[default]
    Text,
}

impl Form {
    pub fn fits(self, text: &str) -> bool {
        let is_hex = |digits| {
            let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            text.len() == digits && text.bytes().all(is_digit)
        };
        match self {
            Self::Sha256 => is_hex(64),
            Self::Md5 => is_hex(32),
            Self::Sha512 => is_hex(128),
            Self::Sha256Base64 => {
                data_encoding::BASE64.decode(text.as_bytes()).is_ok_and(|hash| hash.len() == 32)
            }
            Self::Text => !text.is_empty(),
        }
    }
}
