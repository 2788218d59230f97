//! Grants: how an access token is got, as OAuth 2 (RFC 6749, RFC 7523) says.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use data_encoding::BASE64URL_NOPAD;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::Answer;
use super::spec::templates;
use super::step::Url;
use super::template::{Place, Scope, Shared, Template};

/// How long a signed token is valid.
const JWT_LIFETIME: Duration = Duration::from_hours(1);
/// How long an access token is valid whose grant does not say it.
const LIFETIME: Duration = Duration::from_hours(1);
/// An access token is renewed so long before it ends.
const EARLY: Duration = Duration::from_mins(1);

/// A way to get an access token: a form that is posted, for a JSON object with `access_token`,
/// `expires_in` and, if it changes, `refresh_token`.
#[derive(Debug, Clone)]
pub struct Grant {
    /// It is used if this holds.
    pub when: Option<Template>,
    pub url: Url,
    pub form: Vec<(String, Template)>,
    /// A token that is signed with RS256: `{jwt}` in the form.
    jwt: Option<Jwt>,
}

#[derive(Debug, Clone)]
struct Jwt {
    key: Template,
    claims: Vec<(String, Template)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawGrant {
    when: Option<Value>,
    url: String,
    form: BTreeMap<String, Value>,
    jwt: Option<RawJwt>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawJwt {
    key: Value,
    claims: BTreeMap<String, Value>,
}

/// An access token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub access_token: String,
    /// When it should be renewed.
    pub expires_at: DateTime<Utc>,
    /// The refresh token that takes the place of the one that was used.
    pub refresh_token: Option<String>,
}

impl Grant {
    pub(super) fn parse(raw: RawGrant, shared: &Shared) -> Result<Self, String> {
        let place = Place::header();
        let when = raw.when.map(|json| Template::parse(&json, shared, place)).transpose()?;
        let jwt = match raw.jwt {
            None => None,
            Some(jwt) => Some(Jwt {
                key: Template::parse(&jwt.key, shared, place)?,
                claims: templates(jwt.claims, shared, place)?,
            }),
        };
        let form = templates(raw.form, shared, place)?;
        Ok(Self { when, url: Url::parse(&raw.url)?, form, jwt })
    }

    pub(super) fn templates(&self) -> Vec<&Template> {
        let mut all: Vec<&Template> = self.when.iter().collect();
        all.extend(self.form.iter().map(|(_, template)| template));
        all.extend(self.url.path.iter());
        if let Some(jwt) = &self.jwt {
            all.push(&jwt.key);
            all.extend(jwt.claims.iter().map(|(_, template)| template));
        }
        all
    }

    /// The signed token; `None`: the grant needs none.
    pub(super) fn sign(
        &self,
        scope: &Scope<'_>,
        now: DateTime<Utc>,
    ) -> Result<Option<String>, String> {
        let Some(jwt) = &self.jwt else { return Ok(None) };
        let key = jwt.key.text(scope).unwrap_or_default();
        // In a user mapping line feeds are often written as in JSON.
        let pem = key.replace("\\n", "\n");
        let unfit = |_| "the private key is no RSA key in PEM (PKCS #8)".to_owned();
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| unfit(()))?;
        let key = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).map_err(|_| unfit(()))?;
        let claims = jwt.claims.iter().filter_map(|(name, template)| {
            template.value(scope).map(|value| (name.clone(), value))
        });
        let mut claims: serde_json::Map<String, Value> = claims.collect();
        claims.insert("iat".into(), now.timestamp().into());
        claims.insert("exp".into(), (now + JWT_LIFETIME).timestamp().into());
        let part = |json: Value| BASE64URL_NOPAD.encode(json.to_string().as_bytes());
        let head = part(json!({"alg": "RS256", "typ": "JWT"}));
        let signed = format!("{head}.{}", part(Value::Object(claims)));
        let mut signature = vec![0; key.public().modulus_len()];
        key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
            .map_err(|_| "the private key cannot sign".to_owned())?;
        Ok(Some(format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature))))
    }
}

impl Token {
    /// The token in the answer of a grant. The error does not show the answer, which may hold secrets.
    pub fn of(answer: &Answer, now: DateTime<Utc>) -> Result<Self, String> {
        let text = |key: &str| answer.json.get(key).and_then(Value::as_str).map(str::to_owned);
        let access_token = text("access_token")
            .filter(|token| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()));
        let access_token = access_token.ok_or("the answer has no access_token")?;
        let lifetime = match answer.json.get("expires_in") {
            Some(Value::Number(seconds)) => seconds.as_u64(),
            Some(Value::String(seconds)) => seconds.parse().ok(),
            _ => None,
        };
        const LONGEST: u64 = 10 * 365 * 86_400;
        let lifetime =
            lifetime.map_or(LIFETIME, |seconds| Duration::from_secs(seconds.min(LONGEST)));
        Ok(Self {
            access_token,
            expires_at: now + lifetime.saturating_sub(EARLY.min(lifetime / 2)),
            refresh_token: text("refresh_token").filter(|token| !token.is_empty()),
        })
    }
}
