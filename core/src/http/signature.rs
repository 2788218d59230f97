//! Signatures of messages, as Standard Webhooks has them: <https://www.standardwebhooks.com>.

use data_encoding::BASE64;
use ring::hmac;

/// The beginning of a secret that is Base64.
const PREFIX: &str = "whsec_";

/// The key of a secret: what its Base64 stands for after `whsec_`, or else its bytes.
pub fn key(secret: &str) -> Result<Vec<u8>, String> {
    let key = match secret.strip_prefix(PREFIX) {
        Some(text) => BASE64
            .decode(text.as_bytes())
            .map_err(|_| format!("\"secret\": what follows {PREFIX} is not Base64"))?,
        None => secret.as_bytes().to_vec(),
    };
    if key.is_empty() { Err("\"secret\" is empty".to_owned()) } else { Ok(key) }
}

/// The signature of a message that is sent at a time, in seconds since 1970.
pub fn sign(key: &[u8], (id, timestamp): (&str, i64), body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    let mut context = hmac::Context::with_key(&key);
    for part in [id, ".", &timestamp.to_string(), ".", body] {
        context.update(part.as_bytes());
    }
    format!("v1,{}", BASE64.encode(context.sign().as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification.
    #[test]
    fn signatures_are_those_of_the_specification() {
        let key = key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("key");
        assert_eq!(
            sign(&key, ("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330), r#"{"test": 2432232314}"#),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        );
    }

    #[test]
    fn secrets_are_base64_or_any_text() {
        assert_eq!(key("whsec_AQID").as_deref(), Ok(&[1, 2, 3][..]));
        assert_eq!(key("Jefe").as_deref(), Ok(&b"Jefe"[..]));
        for wrong in ["", "whsec_", "whsec_?", "whsec_AQI"] {
            assert!(key(wrong).is_err(), "{wrong}");
        }
    }
}
