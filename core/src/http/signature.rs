//! Signatures of messages, as Standard Webhooks has them: <https://www.standardwebhooks.com>.

use std::sync::Arc;

use data_encoding::BASE64;
use ring::hmac;
use serde::Deserialize;

/// The beginning of a secret that is Base64.
const PREFIX: &str = "whsec_";

/// The key of a secret: what its Base64 stands for after `whsec_`, or else its bytes. It is never shown.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct Key(Arc<hmac::Key>);

impl TryFrom<String> for Key {
    type Error = String;

    fn try_from(secret: String) -> Result<Self, String> {
        let key = match secret.strip_prefix(PREFIX) {
            Some(text) => BASE64
                .decode(text.as_bytes())
                .map_err(|_| format!("what follows {PREFIX} is not Base64"))?,
            None => secret.into_bytes(),
        };
        match key.is_empty() {
            true => Err("it is empty".to_owned()),
            false => Ok(Self(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &key)))),
        }
    }
}

impl Key {
    /// The signature of a message that is sent at a time, in seconds since 1970.
    pub fn sign(&self, (id, timestamp): (&str, i64), body: &str) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        for part in [id, ".", &timestamp.to_string(), ".", body] {
            context.update(part.as_bytes());
        }
        format!("v1,{}", BASE64.encode(context.sign().as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(secret: &str) -> Result<Key, String> {
        Key::try_from(secret.to_owned())
    }

    /// The example of the specification.
    #[test]
    fn signatures_are_those_of_the_specification() {
        let sign = |secret: &str| {
            let sent = ("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330);
            key(secret).expect("key").sign(sent, r#"{"test": 2432232314}"#)
        };
        let expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(sign("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), expected);
        // Without the prefix a text is the key itself.
        assert_ne!(sign("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), expected);
        assert_eq!(sign("\u{1}\u{2}\u{3}"), sign("whsec_AQID"));
    }

    #[test]
    fn what_is_no_secret_is_refused() {
        for wrong in ["", "whsec_", "whsec_?", "whsec_AQI"] {
            assert!(key(wrong).is_err(), "{wrong}");
        }
    }
}
