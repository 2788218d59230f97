//! Messages to consumers whose updater is a foreign server: its connector says which requests a message
//! takes, and what their answers mean.

use std::time::Duration;

use pgrx::JsonB;
use pgrx::prelude::*;
use serde_json::{Value, json};

use super::ack::{ack, stop};
use super::push::{ANSWER_LIMIT, MARGIN, ignore_lost_lease, is_allowed, record_failure};
use super::{Claimed, Consumer, nack};
use crate::catalog::connectors::{Connection, Mapping};
use crate::catalog::log::interval;
use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::config::{self, Subject};
use crate::error::{Error, Report, Result};
use crate::pg::bgw::{process, thread};
use crate::pg::clock;
use crate::pg::format::json::JsonbText;
use segmenter_core::connector::{
    Answer, Grant, Meaning, Message, Next, Operation, Progress, Request, Token, Values, Verdict,
    Work,
};
use segmenter_core::http::Sender;
use segmenter_core::http::exchange::Signature;
use segmenter_core::http::signature::Key;

/// A worker waits so long itself; for longer it gives the message back.
const SHORT: Duration = Duration::from_secs(2);

type Done = std::result::Result<(), Report>;

/// The role whose user mapping a consumer uses: its own, or the owner of the set.
pub(super) fn user_of(set: &RelationSet, role: Option<pg_sys::Oid>) -> pg_sys::Oid {
    role.unwrap_or(set.owner)
}

/// The time limit that a server has, as an interval; none: it sets none, or cannot be used.
pub fn timeout(set: &RelationSet, server: &str) -> Result<Option<String>> {
    Connection::timeout(&set.extension, server)
}

/// Checks that a consumer can be served through a foreign server. Nothing is sent.
pub fn check(set: &RelationSet, role: Option<pg_sys::Oid>, server: &str) -> Result<()> {
    let user = user_of(set, role);
    if role.is_some() {
        set.check_owner_can_act_as(user)?;
    }
    let connection = Connection::find(&set.extension, server, user)?;
    match connection.server.hosts().find(|host| !is_allowed(host)) {
        Some(host) => Err(Error::NotAllowed { url: host.to_string() }),
        None => Ok(()),
    }
}

/// What is known of a message before the first request.
struct Begun {
    connection: Connection,
    message: Message,
    progress: Progress,
    is_new: bool,
}

/// Does the work on a message: the requests that its operation takes, from where it stopped.
pub fn deliver(
    (set, sender): (&RelationSet, &Sender),
    consumer: &Consumer,
    server: &str,
    limit: Duration,
    claimed: &Claimed,
) -> Done {
    let begun = process::transaction_within(Some(ANSWER_LIMIT), || {
        check(set, consumer.role, server)?;
        let connection = Connection::find(&set.extension, server, user_of(set, consumer.role))?;
        let (message, kept) = describe(set, claimed)?;
        let ids = (message.id, message.first_id);
        let progress = Progress::of(kept, ids, clock::now());
        let is_new = progress.done == 0 && progress.receipt.is_empty();
        Ok(Begun { connection, message, progress, is_new })
    });
    let Begun { connection, message, progress, is_new } = match begun {
        Ok(begun) => begun,
        Err(report) => return record_failure(set, claimed, &report.to_line(), None),
    };
    let delivery = Delivery { set, sender, connection: &connection, claimed, limit };
    let Some(operation) = connection.spec.operation(&message.operation) else {
        let problem = format!("the connector has no operation \"{}\"", message.operation);
        return delivery.stop(&problem);
    };
    let Connection { spec, server, mapping, .. } = &connection;
    let values = Values::new(spec, server, &mapping.secrets, &message);
    let work = Work::new(spec, operation, values, progress);
    delivery.work(work, operation, is_new, &message)
}

/// What the message's requests refer to, and how far the work on it is.
pub(super) fn describe(set: &RelationSet, claimed: &Claimed) -> Result<(Message, Option<Value>)> {
    let args = [claimed.subscription.into(), claimed.id.into(), claimed.parts.into()];
    let payload: Value = serde_json::from_str(&claimed.payload.0).unwrap_or_default();
    set.as_owner(|| {
        Spi::connect(|client| {
            let sql = set.sql(&queries::delivery::push::DESCRIBE_MESSAGE, &[]);
            let row = client.select(&sql, Some(1), &args)?.first();
            let subject = Subject::Subscription(&claimed.target);
            let params = config::parse("params", row.get_by_name("params")?, subject)?;
            let params = config::subscription_params(params, subject)?;
            let member = payload.pointer("/members/0").and_then(Value::as_object);
            let fields = match member {
                Some(member) => member.keys().cloned().collect(),
                None => params.selection.fields.iter().map(|(_, name)| name.to_owned()).collect(),
            };
            let kept: Option<JsonbText> = row.get_by_name("progress")?;
            let message = Message {
                id: claimed.id,
                first_id: row.get_by_name("first_id")?.unwrap_or(claimed.id),
                operation: claimed.operation.clone(),
                part: claimed.part,
                parts: claimed.parts,
                total: row.get_by_name("total")?.unwrap_or_default(),
                subscription: claimed.subscription.to_string(),
                segment: row.get_by_name("segment")?.unwrap_or_default(),
                audience: claimed.audience.clone(),
                target: claimed.target.clone(),
                external_id: claimed.external_id.clone(),
                fields,
                payload,
            };
            Ok((message, kept.and_then(|kept| serde_json::from_str(&kept.0).ok())))
        })
    })
}

/// The delivery of one message by this worker.
struct Delivery<'a> {
    set: &'a RelationSet,
    sender: &'a Sender,
    connection: &'a Connection,
    claimed: &'a Claimed,
    limit: Duration,
}

impl Delivery<'_> {
    fn work(
        &self,
        mut work: Work<'_>,
        operation: &Operation,
        is_new: bool,
        message: &Message,
    ) -> Done {
        if let Err(problem) = work.check() {
            return self.stop(&problem);
        }
        if work.has_nothing_to_send() {
            return self.finish(&work, message);
        }
        // What a later request refers to must be known before the first one is made.
        if is_new && (operation.steps().len() > 1 || message.parts > 1) && !self.save(&work)? {
            return Ok(());
        }
        // A token that was refused is renewed once.
        let mut refused: Option<String> = None;
        while let Some(step) = work.step() {
            if !work.values.grants().is_empty() {
                match self.token(message, refused.as_deref())? {
                    Ok(token) => work.values.set_token(token),
                    Err(verdict) => return self.fail(&work, verdict),
                }
            }
            if step.method != "GET"
                && let Some(wait) = self.count_request()?
            {
                match wait <= SHORT {
                    true => process::wait(wait),
                    false => return self.postpone(&work, wait),
                }
                continue;
            }
            let request = match work.request(step) {
                Ok(request) => request,
                Err(problem) => return self.stop(&format!("step \"{}\": {problem}", step.name)),
            };
            let answer = match self.exchange(request, work.values.signature())? {
                Ok(answer) => answer,
                Err(problem) => {
                    let problem = work.values.masked(&problem);
                    let problem = format!("step \"{}\": {problem}", step.name);
                    return self.fail(&work, retry(problem));
                }
            };
            match work.answered(step, &answer, clock::now()) {
                Next::Step => {
                    if work.step().is_some() && !self.save(&work)? {
                        return Ok(());
                    }
                }
                Next::Wait(wait) => return self.postpone(&work, wait),
                Next::Failed(mut verdict) => {
                    verdict.problem = format!("step \"{}\": {}", step.name, verdict.problem);
                    let token = work.values.token().map(str::to_owned);
                    let can_renew = !work.values.grants().is_empty() && refused.is_none();
                    if verdict.meaning == Meaning::Token && can_renew && token.is_some() {
                        refused = token;
                        continue;
                    }
                    return self.fail(&work, verdict);
                }
            }
        }
        self.finish(&work, message)
    }

    fn extension_and_mapping(&self) -> (&crate::catalog::extension::Extension, &Mapping) {
        (&self.set.extension, &self.connection.mapping)
    }

    /// A valid access token other than the one that was refused. It is kept in the user mapping: other
    /// workers use it, too, and the one before may not be valid any more.
    fn token(
        &self,
        message: &Message,
        refused: Option<&str>,
    ) -> std::result::Result<std::result::Result<String, Verdict>, Report> {
        let limit = Some(self.limit + MARGIN);
        process::transaction_within(limit, || {
            let (extension, mapping) = self.extension_and_mapping();
            let Some(mapping) = mapping.lock(extension)? else {
                return Ok(Err(retry("the user mapping was dropped".into())));
            };
            let now = clock::now();
            if let Some(token) = mapping.token(now).filter(|token| Some(*token) != refused) {
                return Ok(Ok(token.to_owned()));
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
        let answer = match self.send(request, None) {
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
    fn count_request(&self) -> std::result::Result<Option<Duration>, Report> {
        let limits = &self.connection.spec.limits;
        if limits.windows().is_empty() {
            return Ok(None);
        }
        process::transaction_within(Some(ANSWER_LIMIT), || {
            let (extension, mapping) = self.extension_and_mapping();
            mapping.count_request(extension, limits)
        })
    }

    /// Makes a request. No transaction is open meanwhile.
    fn exchange(
        &self,
        request: Request,
        signature: Option<String>,
    ) -> std::result::Result<std::result::Result<Answer, String>, Report> {
        let signature = match self.connection.spec.signature {
            None => None,
            Some(_) => match signature.map(Key::try_from).transpose() {
                Ok(key) => Some(Signature { key, message_id: self.claimed.id }),
                Err(problem) => return Ok(Err(format!("option \"secret\": {problem}"))),
            },
        };
        match process::caught(|| self.send(request, signature)) {
            Ok(answer) => Ok(answer),
            Err(report) => Ok(Err(report.to_line())),
        }
    }

    fn send(
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

    /// Keeps how far the work is. False: another worker has the message.
    fn save(&self, work: &Work<'_>) -> std::result::Result<bool, Report> {
        let args = [
            self.claimed.subscription.into(),
            self.claimed.lease.into(),
            JsonB(json!(work.progress)).into(),
            interval(self.limit + MARGIN).into(),
        ];
        process::transaction_within(Some(ANSWER_LIMIT), || {
            let sql = &queries::delivery::push::SAVE_PROGRESS;
            let held: Option<bool> = self.set.as_owner(|| {
                let sql = self.set.sql(sql, &[]);
                Spi::connect_mut(|client| {
                    let row = client.update(&sql, Some(1), &args)?.first();
                    if row.is_empty() { Ok::<_, Error>(None) } else { Ok(row.get_one()?) }
                })
            })?;
            Ok(held == Some(true))
        })
    }

    /// Gives the message back: it goes on later, which is no attempt.
    fn postpone(&self, work: &Work<'_>, wait: Duration) -> Done {
        let args = [
            self.claimed.subscription.into(),
            self.claimed.lease.into(),
            JsonB(json!(work.progress)).into(),
            interval(wait).into(),
        ];
        process::transaction_within(Some(ANSWER_LIMIT), || {
            let sql = &queries::delivery::push::POSTPONE;
            self.set.as_owner(|| Ok(Spi::run_with_args(&self.set.sql(sql, &[]), &args)?))
        })
    }

    fn finish(&self, work: &Work<'_>, message: &Message) -> Done {
        let receipt = work.receipt();
        let is_last = message.part >= message.parts;
        let progress = (!is_last).then(|| JsonB(json!(work.progress)));
        let args = [
            self.claimed.subscription.into(),
            self.claimed.lease.into(),
            progress.into(),
            interval(self.limit + MARGIN).into(),
        ];
        process::transaction_within(Some(ANSWER_LIMIT), || {
            self.set.write(&queries::delivery::push::SAVE_PROGRESS, &args)?;
            ack(self.set, self.claimed.lease, self.claimed.id, &receipt)
        })
        .or_else(ignore_lost_lease)
    }

    fn stop(&self, problem: &str) -> Done {
        process::transaction_within(Some(ANSWER_LIMIT), || {
            stop(self.set, self.claimed.lease, self.claimed.id, problem)
        })
        .or_else(ignore_lost_lease)
    }

    fn fail(&self, work: &Work<'_>, verdict: Verdict) -> Done {
        let Verdict { meaning, wait, problem } = verdict;
        process::transaction_within(Some(ANSWER_LIMIT), || {
            let args = [
                self.claimed.subscription.into(),
                self.claimed.lease.into(),
                JsonB(json!(work.progress)).into(),
                interval(self.limit + MARGIN).into(),
            ];
            self.set.write(&queries::delivery::push::SAVE_PROGRESS, &args)?;
            let (lease, id) = (self.claimed.lease, self.claimed.id);
            match meaning {
                Meaning::Ok | Meaning::Retry => {
                    nack(self.set, lease, id, &problem, wait.map(interval))
                }
                Meaning::Token | Meaning::Stop => stop(self.set, lease, id, &problem),
                Meaning::Gone => {
                    let problem = format!("the audience is not there any more: {problem}");
                    stop(self.set, lease, id, &problem)
                }
            }
        })
        .or_else(ignore_lost_lease)
    }
}

fn retry(problem: String) -> Verdict {
    Verdict { meaning: Meaning::Retry, wait: None, problem }
}

fn stopped(problem: String) -> Verdict {
    Verdict { meaning: Meaning::Stop, wait: None, problem }
}
