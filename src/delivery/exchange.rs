//! Requests to a platform: access tokens, the number of requests that it permits, and the exchange itself.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::push::{ANSWER_LIMIT, MARGIN, is_allowed};
use crate::catalog::connectors::{Connection, Mapping};
use crate::catalog::extension::Extension;
use crate::catalog::relation_set::RelationSet;
use crate::error::{Error, Report, Result};
use crate::pg::bgw::{process, thread};
use crate::pg::clock;
use segmenter_core::connector::{Answer, Grant, Meaning, Message, Request, Token, Values, Verdict};
use segmenter_core::http::Sender;
use segmenter_core::http::exchange::Signature;
use segmenter_core::http::signature::Key;

/// Requests through a connection.
pub struct Exchange<'a> {
    pub set: &'a RelationSet,
    pub sender: &'a Sender,
    pub connection: &'a Connection,
    /// The time limit of a request.
    pub limit: Duration,
}

impl Exchange<'_> {
    fn extension_and_mapping(&self) -> (&Extension, &Mapping) {
        (&self.set.extension, &self.connection.mapping)
    }

    /// A valid access token other than the one that was refused. It is kept in the user mapping: other
    /// workers use it, too, and the one before may not be valid any more.
    pub fn token(
        &self,
        message: &Message,
        refused: Option<&str>,
    ) -> std::result::Result<std::result::Result<String, Verdict>, Report> {
        let grants = self.connection.spec.grants.len().clamp(1, 10) as u32;
        let (limit, began) = (self.limit * grants + MARGIN, Instant::now());
        process::transaction_within(Some(limit), || {
            let (extension, mapping) = self.extension_and_mapping();
            let Some(mapping) = mapping.lock(extension)? else {
                return Ok(Err(retry("the user mapping was dropped".into())));
            };
            let now = clock::now();
            if let Some(token) = mapping.token(now).filter(|token| Some(*token) != refused) {
                return Ok(Ok(token.to_owned()));
            }
            // Cancelled after the platform has answered, a refresh token that it gave would be lost.
            if began.elapsed() > MARGIN / 2 {
                return Ok(Err(retry("another session has not got an access token either".into())));
            }
            let Connection { spec, server, .. } = self.connection;
            let mut values = Values::new(spec, server, &mapping.secrets, message);
            let mut verdict = stopped("there is no access token".into());
            // Where one grant is refused, such as a refresh token that was not used for long, another may
            // be given.
            for grant in values.grants() {
                match self.grant(&mut values, grant)? {
                    Ok(token) => {
                        mapping.keep(extension, &token)?;
                        return Ok(Ok(token.access_token));
                    }
                    Err(failed) if failed.meaning == Meaning::Retry => return Ok(Err(failed)),
                    Err(failed) => verdict = failed,
                }
            }
            Ok(Err(verdict))
        })
    }

    /// Asks for an access token by one grant.
    fn grant(
        &self,
        values: &mut Values<'_>,
        grant: &Grant,
    ) -> Result<std::result::Result<Token, Verdict>> {
        let now = clock::now();
        let request = match values.token_request(grant, now) {
            Ok(request) => request,
            Err(problem) => return Ok(Err(stopped(problem))),
        };
        let answer = match self.post(request, None) {
            Ok(answer) => answer,
            Err(problem) => {
                let problem = values.masked(&problem);
                return Ok(Err(retry(format!("the access token: {problem}"))));
            }
        };
        // Only what says why is shown: the rest may hold secrets.
        let said = ["error_description", "error", "message"].iter().find_map(|key| {
            answer.json.get(*key).and_then(Value::as_str).map(|text| values.masked(text))
        });
        let said = said.unwrap_or_default();
        let problem = format!("the access token was refused: {} {said}", answer.status);
        let problem = problem.trim_end().to_owned();
        Ok(match answer.status {
            200..=299 => Token::of(&answer, now)
                .map_err(|problem| retry(format!("the access token: {problem}"))),
            408 | 429 | 500.. => Err(retry(problem)),
            _ => Err(stopped(problem)),
        })
    }

    /// `Some`: the next request has to wait, as the platform permits only so many.
    pub fn count_request(&self) -> std::result::Result<Option<Duration>, Report> {
        let limits = &self.connection.spec.limits;
        if limits.windows().is_empty() {
            return Ok(None);
        }
        process::transaction_within(Some(ANSWER_LIMIT), || {
            let (extension, mapping) = self.extension_and_mapping();
            mapping.count_request(extension, limits)
        })
    }

    /// Makes a request, for a message. No transaction is open meanwhile. `secret`: the key of its signature.
    pub fn send(
        &self,
        request: Request,
        secret: Option<String>,
        message_id: i64,
    ) -> std::result::Result<std::result::Result<Answer, String>, Report> {
        let signature = match self.connection.spec.signature {
            None => None,
            Some(_) => match secret.map(Key::try_from).transpose() {
                Ok(key) => Some(Signature { key, message_id }),
                Err(problem) => return Ok(Err(format!("option \"secret\": {problem}"))),
            },
        };
        match process::caught(|| self.post(request, signature)) {
            Ok(answer) => Ok(answer),
            Err(report) => Ok(Err(report.to_line())),
        }
    }

    fn post(
        &self,
        request: Request,
        signature: Option<Signature>,
    ) -> std::result::Result<Answer, String> {
        if !is_allowed(&request.address) {
            let error = Error::NotAllowed { url: request.address.to_string() };
            return Err(error.report().to_line());
        }
        let (sender, limit) = (self.sender.clone(), self.limit);
        thread::run(move || sender.exchange(&request, signature.as_ref(), limit))
            .unwrap_or_else(|| Err("the request could not be sent".into()))
    }
}

/// The same request may succeed later.
pub fn retry(problem: String) -> Verdict {
    Verdict { meaning: Meaning::Retry, wait: None, problem }
}

/// A person must look at it.
pub fn stopped(problem: String) -> Verdict {
    Verdict { meaning: Meaning::Stop, wait: None, problem }
}
