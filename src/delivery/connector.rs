//! Messages to consumers whose updater is a foreign server: its connector says which requests a message
//! takes, and what their answers mean.

use std::time::Duration;

use pgrx::JsonB;
use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;
use serde_json::{Value, json};

use super::ack::{ack, stop};
use super::exchange::{Exchange, Outcome};
use super::push::{ANSWER_LIMIT, MARGIN, ignore_lost_lease, is_allowed, record_failure};
use super::{Claimed, Consumer, nack};
use crate::catalog::connectors::Connection;
use crate::catalog::log::interval;
use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::config::{self, Subject};
use crate::error::{Error, Report, Result};
use crate::pg::bgw::process;
use crate::pg::clock;
use crate::pg::exec::durable;
use crate::pg::format::json::JsonbText;
use segmenter_core::connector::number::keep_digits;
use segmenter_core::connector::{
    Listing, Meaning, Message, Next, Operation, Position, Progress, Values, Verdict, Work,
};
use segmenter_core::http::Sender;

type Done = std::result::Result<(), Report>;

/// The role whose user mapping a consumer uses: its own, or the owner of the set.
pub(super) fn user_of(set: &RelationSet, role: Option<pg_sys::Oid>) -> pg_sys::Oid {
    role.unwrap_or(set.owner)
}

/// The time limit that a server has, as an interval; none: it sets none, or cannot be used.
pub fn timeout(set: &RelationSet, server: &str) -> Result<Option<String>> {
    Connection::timeout(&set.extension, server)
}

/// The connection that a consumer is served through. Errors: it cannot be used. Nothing is sent.
pub fn connect(set: &RelationSet, role: Option<pg_sys::Oid>, server: &str) -> Result<Connection> {
    let user = user_of(set, role);
    if role.is_some() {
        set.check_owner_can_act_as(user)?;
    }
    let connection = Connection::find(&set.extension, server, user)?;
    if let Some(host) = connection.server.hosts().find(|host| !is_allowed(host)) {
        return Err(Error::NotAllowed { url: host.to_string() });
    }
    Ok(connection)
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
        let connection = connect(set, consumer.role, server)?;
        let (message, progress) = describe(set, claimed)?;
        let is_new = progress.last.is_none();
        Ok(Begun { connection, message, progress, is_new })
    });
    let Begun { connection, message, progress, is_new } = match begun {
        Ok(begun) => begun,
        Err(report) => return record_failure(set, claimed, &report.to_line(), None),
    };
    let exchange = Exchange::new((set, sender), &connection, limit);
    let mut delivery = Delivery { set, exchange, claimed, limit };
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
pub(super) fn describe(set: &RelationSet, claimed: &Claimed) -> Result<(Message, Progress)> {
    let args = [claimed.subscription.into(), claimed.id.into()];
    // A payload that cannot be parsed must not become a message without members.
    let payload = JsonbText(keep_digits(&claimed.payload.0).into_owned());
    let payload = payload.parse().map_err(|problem| Error::Argument {
        name: "payload",
        problem: format!("message {}: {problem}", claimed.id),
        hint: "Leave the column that has such a value out of the fields of the subscription, and call segmenter_resync().",
    })?;
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
            let kept = kept.and_then(|kept| serde_json::from_str(&kept.0).ok());
            let position = Position {
                message: claimed.id,
                first: row.get_by_name("first_id")?.unwrap_or(claimed.id),
                after: row.get_by_name("after_id")?.unwrap_or_default(),
                total: row.get_by_name("total")?.unwrap_or_default(),
            };
            let progress = Progress::of(kept, position, clock::now());
            let message = Message {
                id: claimed.id,
                first_id: progress.first,
                operation: claimed.operation.clone(),
                part: claimed.part,
                parts: claimed.parts,
                total: progress.total,
                subscription: claimed.subscription.to_string(),
                segment: row.get_by_name("segment")?.unwrap_or_default(),
                audience: claimed.audience.clone(),
                target: claimed.target.clone(),
                external_id: claimed.external_id.clone(),
                fields,
                payload,
            };
            Ok((message, progress))
        })
    })
}

/// The delivery of one message by this worker.
struct Delivery<'a> {
    set: &'a RelationSet,
    exchange: Exchange<'a>,
    claimed: &'a Claimed,
    limit: Duration,
}

impl Delivery<'_> {
    fn work(
        &mut self,
        mut work: Work<'_>,
        operation: &Operation,
        is_new: bool,
        message: &Message,
    ) -> Done {
        if work.has_nothing_to_send() {
            return self.finish(&work, message);
        }
        if let Err(problem) = work.check() {
            return self.stop(&problem);
        }
        // What a later request refers to must be known before the first one is made.
        if is_new && (operation.steps().len() > 1 || message.parts > 1) && !self.save(&work)? {
            return Ok(());
        }
        while let Some(step) = work.step() {
            let answer = match self.exchange.request(&mut work.values, step, message)? {
                Outcome::Answer(answer) => answer,
                Outcome::Wait(wait) => return self.postpone(&work, wait),
                Outcome::Failed(verdict) => return self.fail(&work, verdict),
            };
            match work.answered(step, &answer, clock::now()) {
                Next::Step => {
                    if work.step().is_some() && !self.save(&work)? {
                        return Ok(());
                    }
                }
                Next::Wait(wait) => return self.postpone(&work, wait),
                Next::Failed(mut verdict) => {
                    if self.exchange.renews(&work.values, &verdict) {
                        continue;
                    }
                    verdict.problem = format!("step \"{}\": {}", step.name, verdict.problem);
                    return self.fail(&work, verdict);
                }
            }
        }
        self.finish(&work, message)
    }

    /// What the progress of the message is recorded with, for a time from now.
    fn recorded(&self, progress: Option<&Progress>, time: Duration) -> [DatumWithOid<'_>; 4] {
        [
            self.claimed.subscription.into(),
            self.claimed.lease.into(),
            progress.map(|progress| JsonB(json!(progress))).into(),
            interval(time).into(),
        ]
    }

    /// How long the lease lasts from a request on.
    fn lease_time(&self) -> Duration {
        self.limit + MARGIN
    }

    /// Keeps how far the work is. False: another worker has the message.
    fn save(&self, work: &Work<'_>) -> std::result::Result<bool, Report> {
        let args = self.recorded(Some(&work.progress), self.lease_time());
        process::transaction_within(Some(ANSWER_LIMIT), || {
            durable::flush_at_commit();
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
        let args = self.recorded(Some(&work.progress), wait);
        process::transaction_within(Some(ANSWER_LIMIT), || {
            durable::flush_at_commit();
            let sql = &queries::delivery::push::POSTPONE;
            self.set.as_owner(|| Ok(Spi::run_with_args(&self.set.sql(sql, &[]), &args)?))
        })
    }

    fn finish(&self, work: &Work<'_>, message: &Message) -> Done {
        let receipt = work.receipt();
        let is_last = message.part >= message.parts;
        let progress = (!is_last).then_some(&work.progress);
        let args = self.recorded(progress, self.lease_time());
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
            let args = self.recorded(Some(&work.progress), self.lease_time());
            self.set.write(&queries::delivery::push::SAVE_PROGRESS, &args)?;
            let (lease, id) = (self.claimed.lease, self.claimed.id);
            match meaning {
                Meaning::Ok | Meaning::Retry => {
                    nack(self.set, lease, id, &problem, wait.map(interval))
                }
                Meaning::Token | Meaning::Stop => stop(self.set, lease, id, &problem),
                Meaning::Gone => {
                    let problem = format!(
                        "the audience is not there any more: {problem}: call segmenter_resync() to have another one created"
                    );
                    stop(self.set, lease, id, &problem)
                }
            }
        })
        .or_else(ignore_lost_lease)
    }
}

/// Asks a platform which audiences it has. The inner error says why it has not answered.
pub fn list(
    (set, sender): (&RelationSet, &Sender),
    consumer: &Consumer,
    server: &str,
    limit: Duration,
) -> std::result::Result<std::result::Result<Value, String>, Report> {
    let connection =
        process::transaction_within(Some(ANSWER_LIMIT), || connect(set, consumer.role, server))?;
    let mut exchange = Exchange::new((set, sender), &connection, limit);
    let message = Message { operation: "list".into(), ..Message::default() };
    let Connection { spec, server, mapping, .. } = &connection;
    let values = Values::new(spec, server, &mapping.secrets, &message);
    let Some(mut listing) = Listing::new(spec, values) else {
        return Ok(Err("the connector has no operation \"list\"".into()));
    };
    loop {
        let answer = match exchange.request(&mut listing.values, listing.step, &message)? {
            Outcome::Answer(answer) => answer,
            Outcome::Wait(_) => {
                return Ok(Err("the platform permits no more requests now".into()));
            }
            Outcome::Failed(verdict) => return Ok(Err(verdict.problem)),
        };
        match listing.answered(&answer) {
            Ok(true) => {}
            Ok(false) => return Ok(Ok(Value::Array(listing.audiences))),
            Err(verdict) if exchange.renews(&listing.values, &verdict) => {}
            Err(verdict) => return Ok(Err(verdict.problem)),
        }
    }
}
