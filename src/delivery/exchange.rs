//! Requests to a platform: access tokens, the number of requests that it permits, and the exchange itself.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::push::{ANSWER_LIMIT, MARGIN, is_allowed};
use crate::catalog::connectors::{Connection, Counted, Mapping};
use crate::catalog::extension::Extension;
use crate::catalog::relation_set::RelationSet;
use crate::error::{Error, Report, Result, emit_warning};
use crate::pg::bgw::{process, thread};
use crate::pg::clock;
use segmenter_core::connector::{
    Answer, Grant, Meaning, Message, Request, Step, Token, Values, Verdict,
};
use segmenter_core::http::Sender;
use segmenter_core::http::exchange::Signature;
use segmenter_core::http::signature::Key;

/// A worker waits so long itself until the platform permits a request; for longer it gives the message back.
const SHORT: Duration = Duration::from_secs(2);

/// Requests through a connection.
pub struct Exchange<'a> {
    set: &'a RelationSet,
    sender: &'a Sender,
    connection: &'a Connection,
    /// The time limit of a request.
    limit: Duration,
    /// The access token that the platform has refused.
    refused: Option<String>,
}

/// What became of a request.
pub enum Outcome {
    Answer(Answer),
    /// It was not made: the platform permits only so many, and the next one after this time.
    Wait(Duration),
    /// It could not be made, or has no answer.
    Failed(Verdict),
}

impl<'a> Exchange<'a> {
    pub fn new(
        (set, sender): (&'a RelationSet, &'a Sender),
        connection: &'a Connection,
        limit: Duration,
    ) -> Self {
        Self { set, sender, connection, limit, refused: None }
    }

    fn extension_and_mapping(&self) -> (&Extension, &Mapping) {
        (&self.set.extension, &self.connection.mapping)
    }

    /// Makes the request of a step, for a message: with a valid access token, and when the platform permits
    /// it. No transaction is open while it is sent.
    pub fn request(
        &self,
        values: &mut Values<'_>,
        step: &Step,
        message: &Message,
    ) -> std::result::Result<Outcome, Report> {
        if !values.grants().is_empty() {
            match self.token(message)? {
                Ok(token) => values.set_token(token),
                Err(verdict) => return Ok(Outcome::Failed(verdict)),
            }
        }
        let of_step = |problem: &str| format!("step \"{}\": {problem}", step.name);
        let request = match values.request(step) {
            Ok(request) => request,
            Err(problem) => return Ok(Outcome::Failed(stopped(of_step(&problem)))),
        };
        let signature = match self.signature(values, message.id) {
            Ok(signature) => signature,
            Err(problem) => return Ok(Outcome::Failed(retry(of_step(&problem)))),
        };
        let counted = match self.count(&step.method)? {
            Ok(counted) => counted,
            Err(wait) => return Ok(Outcome::Wait(wait)),
        };
        let answer = process::caught(|| self.post(request, signature));
        let answer = answer.unwrap_or_else(|report| Err(report.to_line()));
        if let Some(counted) = counted {
            self.end(counted);
        }
        Ok(match answer {
            Ok(answer) => Outcome::Answer(answer),
            Err(problem) => Outcome::Failed(retry(of_step(&values.masked(&problem)))),
        })
    }

    /// Whether a request is to be made again with another access token, as the platform has refused that
    /// which it had. That is done once.
    pub fn renews(&mut self, values: &Values<'_>, verdict: &Verdict) -> bool {
        let is_first = self.refused.is_none() && !values.grants().is_empty();
        if verdict.meaning == Meaning::Token && is_first {
            self.refused = values.token().map(str::to_owned);
            return self.refused.is_some();
        }
        false
    }

    /// A valid access token other than the one that was refused. It is kept in the user mapping: other
    /// workers use it, too, and the one before may not be valid any more.
    fn token(
        &self,
        message: &Message,
    ) -> std::result::Result<std::result::Result<String, Verdict>, Report> {
        let grants = self.connection.spec.grants.len().clamp(1, 10) as u32;
        let (limit, began) = (self.limit * grants + MARGIN, Instant::now());
        process::transaction_within(Some(limit), || {
            let (extension, mapping) = self.extension_and_mapping();
            let Some(mapping) = mapping.lock(extension)? else {
                return Ok(Err(retry("the user mapping was dropped".into())));
            };
            let now = clock::now();
            if let Some(token) =
                mapping.token(now).filter(|token| Some(*token) != self.refused.as_deref())
            {
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

    /// Counts a request that is about to be made, where the platform permits only so many. The inner error: it
    /// has to wait so long.
    fn count(
        &self,
        method: &str,
    ) -> std::result::Result<std::result::Result<Option<Counted>, Duration>, Report> {
        let limits = &self.connection.spec.limits;
        if !limits.counts(method) || limits.windows().is_empty() {
            return Ok(Ok(None));
        }
        let began = Instant::now();
        loop {
            let counted = process::transaction_within(Some(ANSWER_LIMIT), || {
                let (extension, mapping) = self.extension_and_mapping();
                mapping.count_request(extension, limits, self.limit)
            })?;
            match counted {
                Ok(counted) => return Ok(Ok(Some(counted))),
                Err(wait) if began.elapsed() + wait > SHORT => return Ok(Err(wait)),
                Err(wait) => process::wait(wait),
            }
        }
    }

    /// Records that a counted request has ended. The answer must not be lost because of an error: then the
    /// request counts until its time limit.
    fn end(&self, counted: Counted) {
        let ended = process::transaction_within(Some(ANSWER_LIMIT), || {
            let (extension, mapping) = self.extension_and_mapping();
            mapping.end_request(extension, counted)
        });
        if let Err(report) = ended {
            emit_warning("the end of a request was not recorded", &report);
        }
    }

    /// What the request for a message is signed with; none: it is not signed.
    fn signature(
        &self,
        values: &Values<'_>,
        message_id: i64,
    ) -> std::result::Result<Option<Signature>, String> {
        if self.connection.spec.signature.is_none() {
            return Ok(None);
        }
        let key = values.signature().map(Key::try_from).transpose();
        let key = key.map_err(|problem| format!("option \"secret\": {problem}"))?;
        Ok(Some(Signature { key, message_id }))
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
fn retry(problem: String) -> Verdict {
    Verdict { meaning: Meaning::Retry, wait: None, problem }
}

/// A person must look at it.
fn stopped(problem: String) -> Verdict {
    Verdict { meaning: Meaning::Stop, wait: None, problem }
}
