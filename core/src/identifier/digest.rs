//! Hashes of identifiers.

use data_encoding::{BASE64, HEXLOWER};
use md5::{Digest, Md5};
use ring::digest::{self, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA512, digest as sha};

/// A hash function, and how its result is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    Sha256,
    Sha256Base64,
    Sha512,
    Sha1,
    Md5,
}

/// The algorithms by name.
pub const ALGORITHMS: [(&str, Algorithm); 5] = [
    ("sha256", Algorithm::Sha256),
    ("sha256_base64", Algorithm::Sha256Base64),
    ("sha512", Algorithm::Sha512),
    ("sha1", Algorithm::Sha1),
    ("md5", Algorithm::Md5),
];

impl Algorithm {
    /// The hash of a text in UTF-8: in small hexadecimal digits, or Base64. None for an empty text: all
    /// who lack an identifier would be one person.
    pub fn hash(self, text: &str) -> Option<String> {
        let hex = |algorithm: &'static digest::Algorithm| {
            HEXLOWER.encode(sha(algorithm, text.as_bytes()).as_ref())
        };
        (!text.is_empty()).then(|| match self {
            Algorithm::Sha256 => hex(&SHA256),
            Algorithm::Sha256Base64 => BASE64.encode(sha(&SHA256, text.as_bytes()).as_ref()),
            Algorithm::Sha512 => hex(&SHA512),
            Algorithm::Sha1 => hex(&SHA1_FOR_LEGACY_USE_ONLY),
            Algorithm::Md5 => HEXLOWER.encode(&Md5::digest(text.as_bytes())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_that_platforms_publish() {
        let is = |algorithm: Algorithm, text: &str, expected: &str| {
            assert_eq!(algorithm.hash(text).as_deref(), Some(expected), "{text}");
        };
        is(
            Algorithm::Sha256Base64,
            "alexz@example.com",
            "UJ6TMBm7KFoTSpM0uLtnnf950M4CPVKa9L10TUe0/Yo=",
        );
        is(Algorithm::Sha256Base64, "+18005550100", "+09zpuxf23B31WTN0iw1VLQ85JFoVQw7EsVHt4xRezA=");
        is(
            Algorithm::Sha256,
            "adsapi",
            "49e0be2aeccfb51a8dee4c945c8a70a9ac500cf6f5cb08112575f74db9b1470d",
        );
        is(Algorithm::Md5, "79876543210", "5c5259938ed3e632bc5e3f94731090af");
        is(Algorithm::Md5, "mail@yandex.ru", "3c56ff8fef0f6c65b36b2d25720fe276");
        is(Algorithm::Sha1, "abc", "a9993e364706816aba3e25717850c26c9cd0d89d");
        is(
            Algorithm::Sha512,
            "abc",
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        );
        assert_eq!(Algorithm::Sha256.hash(""), None);
    }
}
