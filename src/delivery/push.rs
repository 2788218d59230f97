//! Pushing: a worker calls the function or the URL of a consumer that does not claim its messages
//! itself, once for each message.

use std::time::Duration;

use chrono::TimeDelta;

use pgrx::datum::{Interval, TimestampWithTimeZone, Uuid};
use pgrx::prelude::*;

use super::claim::{Message, claim_of, held_back};
use super::{Consumer, ack, audiences, connector, nack};
use crate::catalog::extension::Extension;
use crate::catalog::log::interval;
use crate::catalog::queries;
use crate::catalog::relation_set::{Relation, RelationSet};
use crate::catalog::session_settings::SessionSettings;
use crate::catalog::settings;
use crate::config::{FunctionUpdater, HttpUpdater, Key, Updater};
use crate::error::{Error, Report, Result};
use crate::pg::bgw::activity;
use crate::pg::bgw::process;
use crate::pg::bgw::progress::{Figure, Kind, Phase, Tracker};
use crate::pg::bgw::thread;
use crate::pg::clock::{self, Instant};
use crate::pg::exec::durable;
use crate::pg::exec::role;
use crate::pg::exec::statement::read_one;
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};
use crate::pg::format::json::JsonbText;
use segmenter_core::http::address::Address;
use segmenter_core::http::{Answer, HttpRequest, Sender};
use segmenter_core::receipt::Receipt;

/// Time limit for finding and claiming a message. The set's relations are read, whose owner could
/// make that slow.
const CLAIM_LIMIT: Duration = Duration::from_secs(30);
/// Time limit of a function for one message, unless the consumer sets one.
const FUNCTION_TIMEOUT: Duration = Duration::from_secs(300);
/// Time limit of an HTTP request, unless the consumer sets one.
const HTTP_TIMEOUT: Duration = Duration::from_secs(30);
/// Time limit of a request to a foreign server, unless the server sets one: files take longer.
const SERVER_TIMEOUT: Duration = Duration::from_secs(120);
/// The highest time limit that a consumer can set.
const MAX_TIMEOUT: Duration = Duration::from_secs(3600);
/// Time limit for recording the answer to a message.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(300);
/// How much longer than this time limit a lease is.
pub(super) const MARGIN: Duration = Duration::from_secs(30);

/// How long a worker serves one consumer while messages wait. Then another one may have its place.
const TURN: TimeDelta = TimeDelta::seconds(60);

/// Delivers messages to a consumer until none can be delivered now, or its turn is over.
pub fn serve(set: pg_sys::Oid, consumer: Uuid) -> std::result::Result<(), Report> {
    let connected = || {
        let settings = SessionSettings::read()?;
        Ok((RelationSet::of_mart(Extension::current()?, set)?, settings))
    };
    let (set, settings) = process::transaction(connected)?;
    let sender = Sender::default();
    let began = clock::now();
    let mut progress: Option<Tracker> = None;
    while clock::now() - began < TURN {
        process::reload_config();
        // Read again for each message: the consumer may have changed, or another session may need
        // the database without connections.
        let next = process::transaction_within(Some(CLAIM_LIMIT), || {
            if process::is_database_wanted() || settings.have_changed()? {
                return Ok(None);
            }
            let Some(consumer) = Consumer::find(&set, Key::Id(consumer))? else {
                return Ok(None);
            };
            let Some(limit) = limit(&set, &consumer)? else { return Ok(None) };
            if consumer.is_paused() {
                return Ok(None);
            }
            if let Some(question) = audiences::due_question(&set, &consumer)? {
                return Ok(Some((consumer, limit, Next::Question(question))));
            }
            let claimed = claim_of(&set, &consumer, 1, interval(limit + MARGIN))?;
            let message = claimed.into_iter().next();
            Ok(message.map(|message| (consumer, limit, Next::Message(message))))
        })?;
        let message = match next {
            None => return Ok(()),
            Some((consumer, limit, Next::Question(question))) => {
                ask((&set, &sender), &consumer, limit, &question)?;
                let is_function = matches!(consumer.params.updater, Updater::Function(_));
                if is_function && is_of_other_role(&consumer) {
                    return Ok(());
                }
                continue;
            }
            Some((consumer, limit, Next::Message(message))) => (consumer, limit, message),
        };
        let (consumer, limit, message) = message;
        match &progress {
            Some(progress) => progress.deliver(message.segment),
            None => {
                let (mart, segment) = (set.mart(), message.segment);
                let tracker = Tracker::begin(Kind::Delivery, mart, segment, Phase::Delivering);
                progress = Some(tracker);
            }
        }
        process::announce(
            &format!("segmenter: {}", consumer.name),
            Some(&format!("delivery of message {} to \"{}\"", message.id, consumer.name)),
        );
        match &consumer.params.updater {
            Updater::Pull => return Ok(()),
            Updater::Function(function) => {
                call(&set, &consumer, function, limit, &message)?;
                if is_of_other_role(&consumer) {
                    return Ok(());
                }
            }
            Updater::Http(updater) => send(&set, &sender, updater, limit, &message)?,
            Updater::Server(server) => {
                connector::deliver((&set, &sender), &consumer, server, limit, &message)?;
            }
        }
        Figure::messages().add(1);
    }
    Ok(())
}

/// What a worker does next for a consumer.
enum Next {
    Message(Message),
    /// It asks for the audiences.
    Question(JsonbText),
}

/// Whether the worker is connected as another role than the consumer's, so that a call was refused. If the
/// consumer's role can connect by now, the next worker connects as this role.
fn is_of_other_role(consumer: &Consumer) -> bool {
    consumer.role.is_some_and(|role| role != role::current())
}

/// Asks a consumer's function, or its platform, for the audiences, and records the answer, together with what
/// the function changes.
fn ask(
    (set, sender): (&RelationSet, &Sender),
    consumer: &Consumer,
    limit: Duration,
    question: &JsonbText,
) -> std::result::Result<(), Report> {
    process::announce(
        &format!("segmenter: {}", consumer.name),
        Some(&format!("asking \"{}\" for its audiences", consumer.name)),
    );
    let record = |audiences| {
        durable::flush_at_commit();
        audiences::record(set, consumer, audiences, true).map(drop)
    };
    let failed = |problem: &str| {
        process::transaction_within(Some(ANSWER_LIMIT), || {
            audiences::record_failure(set, consumer.id, problem)
        })
    };
    let recorded = match &consumer.params.updater {
        Updater::Pull | Updater::Http(_) => Ok(()),
        Updater::Function(function) => process::transaction_within(Some(limit), || {
            let answer = answer_of(set, consumer, function, (question, None))?;
            record(audiences::of_answer(&answer)?)
        }),
        Updater::Server(server) => match connector::list((set, sender), consumer, server, limit) {
            Ok(Ok(audiences)) => {
                process::transaction_within(Some(ANSWER_LIMIT), || record(audiences))
            }
            Ok(Err(problem)) => return failed(&problem),
            Err(report) => Err(report),
        },
    };
    recorded.or_else(|report| failed(&report.to_line()))
}

/// Time limit of one message. None: the consumer claims its messages itself.
fn limit(set: &RelationSet, consumer: &Consumer) -> Result<Option<Duration>> {
    match &consumer.params.updater {
        Updater::Pull => Ok(None),
        Updater::Function(updater) => {
            timeout(set, updater.timeout.as_deref(), FUNCTION_TIMEOUT).map(Some)
        }
        Updater::Http(updater) => timeout(set, updater.timeout.as_deref(), HTTP_TIMEOUT).map(Some),
        Updater::Server(server) => {
            let text = connector::timeout(set, server)?;
            timeout(set, text.as_deref(), SERVER_TIMEOUT).map(Some)
        }
    }
}

/// The timeout of a consumer, given as an interval in PostgreSQL's notation, but at most
/// [`MAX_TIMEOUT`].
fn timeout(set: &RelationSet, text: Option<&str>, default: Duration) -> Result<Duration> {
    let Some(text) = text else { return Ok(default) };
    let sql = queries::config::PARSE_INTERVAL;
    let limit = set.as_owner(|| Spi::connect(|_| read_one::<i64>(sql.text(), &[text.into()])))?;
    let limit = Duration::from_millis(limit.unwrap_or_default().max(1) as u64);
    Ok(limit.min(MAX_TIMEOUT))
}

/// Calls the consumer's function. Its changes are committed together with the acknowledgement. If
/// it fails, they are rolled back and the error is recorded.
fn call(
    set: &RelationSet,
    consumer: &Consumer,
    function: &FunctionUpdater,
    limit: Duration,
    message: &Message,
) -> std::result::Result<(), Report> {
    let called = process::transaction_within(Some(limit), || {
        let receipt = result_of(set, consumer, function, message)?;
        ack(set, message.lease, message.id, &receipt)
    });
    match called {
        Ok(()) => Ok(()),
        Err(report) => record_failure(set, message, &report.to_line(), None),
    }
}

/// Looks up a function: the qualified name to call it by, and its result type. Error: it does not
/// exist, or it has other arguments or another result than a consumer's function must have.
fn resolve(consumer: &str, name: &str) -> Result<(String, pg_sys::Oid)> {
    let unfit = |problem: String, hint: &str| Error::Function {
        consumer: consumer.to_owned(),
        problem,
        hint: hint.to_owned(),
    };
    const NAME: &str = "Name it with its schema and argument: crm.push(jsonb).";
    let found = in_subtransaction(OnSuccess::Rollback, || {
        Spi::connect(|client| {
            let sql = &queries::delivery::push::RESOLVE_FUNCTION;
            let row = client.select(sql.text(), Some(1), &[name.into()])?.first();
            if row.is_empty() {
                return Ok(None);
            }
            let fits = row.get_by_name::<bool, _>("fits")?.unwrap_or_default();
            let call: Option<String> = row.get_by_name("call")?;
            let result: Option<pg_sys::Oid> = row.get_by_name("result")?;
            Ok(Some((call, result, fits)))
        })
    });
    // For a text that cannot be the name of a function PostgreSQL raises an error.
    let found = found.map_err(|error| match error.report().sqlstate {
        code if code == PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE as i32 => error,
        _ => unfit(format!("\"{name}\": {error}"), NAME),
    })?;
    match found {
        Some((Some(call), Some(result), true)) => Ok((call, result)),
        None => Err(unfit(format!("{name} does not exist"), NAME)),
        Some(_) => Err(unfit(
            format!("{name} is not a function of one jsonb that gives one jsonb, json or void"),
            "Declare it so: create function crm.push(message jsonb) returns jsonb ...",
        )),
    }
}

/// Checks that a consumer's function exists and can be called. Nothing is called.
pub fn check_function(
    set: &RelationSet,
    consumer: &str,
    role: Option<pg_sys::Oid>,
    function: &FunctionUpdater,
) -> Result<()> {
    let Some(role) = role.filter(|role| role::exists(*role)) else {
        return Err(no_role(set, consumer));
    };
    set.as_consumer(role, || resolve(consumer, &function.name).map(drop))
}

fn no_role(set: &RelationSet, consumer: &str) -> Error {
    Error::Function {
        consumer: consumer.to_owned(),
        problem: "the consumer has no role to call it with".into(),
        hint: format!(
            "Give it one: update {} set role = ... for it.",
            set.display_name(Relation::Consumers)
        ),
    }
}

fn result_of(
    set: &RelationSet,
    consumer: &Consumer,
    function: &FunctionUpdater,
    message: &Message,
) -> Result<Receipt> {
    let what = (&message.payload, Some((message.id, message.attempt)));
    let receipt = answer_of(set, consumer, function, what)?;
    Receipt::parse(&receipt).map_err(|problem| Error::Argument {
        name: "receipt",
        problem,
        hint: super::RECEIPT,
    })
}

/// What a consumer's function returns for a payload, as JSON text. `message`: the id of the message that it is
/// of, and the number of the attempt.
fn answer_of(
    set: &RelationSet,
    consumer: &Consumer,
    function: &FunctionUpdater,
    (payload, message): (&JsonbText, Option<(i64, i32)>),
) -> Result<String> {
    let refuse = |problem: String, hint: String| {
        Err(Error::Function { consumer: consumer.name.clone(), problem, hint })
    };
    // The worker must be connected as the consumer's role, so that the function never runs in a
    // process with more rights.
    let Some(role) = consumer.role.filter(|role| role::exists(*role)) else {
        return Err(no_role(set, &consumer.name));
    };
    set.check_owner_can_act_as(role)?;
    if role != role::current() {
        let name = role::name(role);
        return refuse(
            format!("role \"{name}\" is not permitted to log in and connect to this database"),
            format!(
                "alter role {} login (it needs no password), or grant connect on this database to it.",
                pgrx::spi::quote_identifier(name)
            ),
        );
    }
    set.as_consumer(role, || {
        let (name, result) = resolve(&consumer.name, &function.name)?;
        let cast = if result == pg_sys::VOIDOID { "" } else { "::pg_catalog.jsonb" };
        let (id, attempt) = message.unzip();
        let args = [payload.clone().into(), id.into(), attempt.into()];
        let receipt: Option<JsonbText> = Spi::connect_mut(|client| {
            let row = client
                .update(
                    &set.sql(
                        &queries::delivery::push::CALL_FUNCTION,
                        &[("function", &name), ("cast", cast)],
                    ),
                    None,
                    &args,
                )?
                .first();
            if cast.is_empty() { Ok::<_, Error>(None) } else { Ok(row.get_one()?) }
        })?;
        Ok(receipt.map_or_else(|| "{}".into(), |receipt| receipt.0))
    })
}

/// Sends a message to the consumer's URL. No transaction is open during the request.
fn send(
    set: &RelationSet,
    sender: &Sender,
    updater: &HttpUpdater,
    timeout: Duration,
    message: &Message,
) -> std::result::Result<(), Report> {
    if !is_allowed(&updater.url) {
        let report = Error::NotAllowed { url: updater.url.to_string() }.report();
        return record_failure(set, message, &report.to_line(), None);
    }
    let request = HttpRequest {
        address: updater.url.clone(),
        headers: updater.headers.clone(),
        timeout,
        key: updater.secret.clone(),
        message_id: message.id,
        body: message.payload.0.clone(),
    };
    let sender = sender.clone();
    let sent = match process::caught(|| thread::run(move || sender.send(&request))) {
        Ok(sent) => sent,
        Err(report) => return record_failure(set, message, &report.to_line(), None),
    };
    match sent {
        Some(Answer::Accepted { body }) => {
            let receipt = Receipt::of_answer(body);
            process::transaction_within(Some(ANSWER_LIMIT), || {
                ack(set, message.lease, message.id, &receipt)
            })
            .or_else(ignore_lost_lease)
        }
        Some(Answer::Refused { problem, retry_after }) => {
            record_failure(set, message, &problem, retry_after.map(interval))
        }
        None => record_failure(set, message, "the message could not be sent", None),
    }
}

/// Whether `segmenter.http_allow` permits messages to an address.
pub fn is_allowed(address: &Address) -> bool {
    settings::http_allow().iter().any(|prefix| address.is_under(prefix))
}

pub(super) fn record_failure(
    set: &RelationSet,
    message: &Message,
    problem: &str,
    retry_after: Option<Interval>,
) -> std::result::Result<(), Report> {
    process::transaction_within(Some(ANSWER_LIMIT), || {
        nack(set, message.lease, message.id, problem, retry_after)
    })
    .or_else(ignore_lost_lease)
}

/// Losing the lease is not an error: another worker owns the message.
pub(super) fn ignore_lost_lease(report: Report) -> std::result::Result<(), Report> {
    let is_taken =
        report.sqlstate == PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE as i32;
    if is_taken { Ok(()) } else { Err(report) }
}

/// Records that the message that a worker was delivering to a consumer could not be delivered.
pub fn fail(set: &RelationSet, consumer: Uuid, error: &Error) -> Result<()> {
    let problem = error.report().to_line();
    let args = [consumer.into()];
    let leased: Option<(Option<Uuid>, Option<i64>)> = set.as_owner(|| {
        Spi::connect(|client| {
            let sql = set.sql(&queries::delivery::push::FIND_LEASED_MESSAGE, &[]);
            let row = client.select(&sql, Some(1), &args)?.first();
            if row.is_empty() { Ok::<_, Error>(None) } else { Ok(Some(row.get_two()?)) }
        })
    })?;
    match leased {
        Some((Some(lease), Some(message))) => nack(set, lease, message, &problem, None),
        // It was claiming a message, or recording the answer.
        _ => Ok(()),
    }
}

/// Releases the leases of workers that are gone: the leases of one consumer, or, without one, those
/// of all consumers that are not in `alive`.
pub fn release(set: &RelationSet, consumer: Option<Uuid>, alive: &[Uuid]) -> Result<()> {
    let args = [consumer.into(), alive.to_vec().into()];
    set.as_owner(|| {
        let leases = set.sql(&queries::delivery::push::LIST_LEASES, &[]);
        // This look-up is read-only, so that no transaction id is assigned if no lease is held.
        let leases: Option<Vec<Uuid>> = Spi::connect(|_| read_one(&leases, &args))?;
        let Some(leases) = leases.filter(|leases| !leases.is_empty()) else { return Ok(()) };
        durable::flush_at_commit();
        Ok(Spi::run_with_args(
            &set.sql(&queries::delivery::push::RELEASE_LEASES, &[]),
            &[leases.into()],
        )?)
    })
}

/// A consumer that workers serve, and when its next message can be delivered.
pub struct Waiting {
    pub consumer: Uuid,
    pub name: String,
    /// The role to connect as. None: the owner of the set.
    pub role: Option<pg_sys::Oid>,
    /// The role in whose share of the workers it is.
    pub account: pg_sys::Oid,
    pub at: Instant,
}

/// The consumers that workers serve and that have waiting messages, ordered by the time from which
/// they can be delivered.
pub fn waiting(set: &RelationSet) -> Result<Vec<Waiting>> {
    set.as_owner(|| {
        Spi::connect(|client| {
            let missing = |column| move || Error::MissingValue(column);
            let parts = [("is_held_back", &*held_back(set))];
            let sql = set.sql(&queries::delivery::push::LIST_WAITING_CONSUMERS, &parts);
            let rows = client.select(&sql, None, &[activity::place().into()])?;
            rows.map(|row| {
                let role: Option<pg_sys::Oid> = row.get_by_name("role")?;
                let at: Option<TimestampWithTimeZone> = row.get_by_name("at")?;
                // If the role cannot connect, a message can still be sent by HTTP. For a function the
                // worker records the reason as a failed delivery.
                let connects = |role| -> Result<bool> {
                    Ok(role::exists(role)
                        && set.check_owner_can_act_as(role).is_ok()
                        && role::can_log_in(role)?
                        && role::can_connect(role)?)
                };
                Ok(Waiting {
                    consumer: row.get_by_name("id")?.ok_or_else(missing("id"))?,
                    name: row.get_by_name("name")?.unwrap_or_default(),
                    role: match role {
                        Some(role) if connects(role)? => Some(role),
                        _ => None,
                    },
                    account: set.account_of(role),
                    at: at.map(clock::instant).ok_or_else(missing("at"))?,
                })
            })
            .collect()
        })
    })
}
