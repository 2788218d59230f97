//! What is in target systems: which audiences consumers report, compared with those that were handed over.

use pgrx::JsonB;
use pgrx::datum::{AnyNumeric, TimestampWithTimeZone, Uuid};
use pgrx::prelude::*;
use serde_json::{Value, json};

use super::admin::SubscriptionRow;
use super::{Consumer, acts_for, resync};
use crate::catalog::log::LogStatus;
use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::catalog::viewer::Viewer;
use crate::config::Key;
use crate::error::{Error, Result, counted};
use crate::pg::clock;
use crate::pg::exec::durable;
use crate::pg::exec::role;
use crate::pg::exec::statement::read_one;
use crate::pg::format::json::JsonbText;
use segmenter_core::audience_report::{self, FORM};

/// What is recorded of a consumer that is asked, until it has answered.
const NO_ANSWER: &str = "it has not answered";

/// An audience, as Segmenter knows it and as its consumer has reported it.
pub struct Audience {
    pub consumer: String,
    pub target: Option<String>,
    /// The name of the segment; none: no subscription has the audience.
    pub segment: Option<String>,
    pub audience: Option<String>,
    pub external_id: Option<String>,
    /// known, missing, foreign or unreported.
    pub state: String,
    /// The members that were handed over.
    pub members: Option<i64>,
    pub size: Option<i64>,
    pub match_rate: Option<AnyNumeric>,
    pub drift: Option<AnyNumeric>,
    pub reported_at: Option<TimestampWithTimeZone>,
    pub subscription: Option<Uuid>,
    /// The drift is larger than the subscription allows, and nothing was delivered since.
    pub is_over: bool,
    /// The subscription wants all members to be handed over then.
    pub heals: bool,
}

/// The audiences that a role may see: those of its segments and of its consumers, or of all segments if it sees
/// figures of all.
pub fn list(set: &RelationSet, viewer: Viewer) -> Result<Vec<Audience>> {
    find(set, viewer, None)
}

fn find(set: &RelationSet, viewer: Viewer, consumer: Option<Uuid>) -> Result<Vec<Audience>> {
    let Viewer { role, sees_figures, .. } = viewer;
    let args = [role.into(), set.owner.into(), sees_figures.into(), consumer.into()];
    set.as_owner(|| {
        let sql = set.sql(&queries::delivery::audiences::LIST_AUDIENCES, &[]);
        Spi::connect(|client| {
            let rows = client.select(&sql, None, &args)?.map(|row| {
                let text = |column: &str| Ok::<_, Error>(row.get_by_name::<String, _>(column)?);
                let is = |column: &str| {
                    Ok::<_, Error>(row.get_by_name::<bool, _>(column)?.unwrap_or_default())
                };
                Ok(Audience {
                    consumer: text("consumer")?.unwrap_or_default(),
                    target: text("target")?,
                    segment: text("segment")?,
                    audience: text("audience")?,
                    external_id: text("external_id")?,
                    state: text("state")?.unwrap_or_default(),
                    members: row.get_by_name("members")?,
                    size: row.get_by_name("size")?,
                    match_rate: row.get_by_name("match_rate")?,
                    drift: row.get_by_name("drift")?,
                    reported_at: row.get_by_name("reported_at")?,
                    subscription: row.get_by_name("subscription_id")?,
                    is_over: is("is_over")?,
                    heals: is("heals")?,
                })
            });
            rows.collect()
        })
    })
}

/// Records what a consumer reports by the caller, who must be able to act for it. Returns the number of
/// audiences.
pub fn report(set: &RelationSet, consumer: &str, audiences: &JsonbText) -> Result<usize> {
    let found = Consumer::find(set, Key::Name(consumer))?;
    let consumer = found.ok_or_else(|| Error::UnknownConsumer(consumer.into()))?;
    if !acts_for(set, role::current(), consumer.role) {
        return Err(Error::NotConsumer(consumer.name));
    }
    let audiences = audiences.parse().map_err(invalid)?;
    record(set, &consumer, audiences, false)
}

/// Records what a consumer reports, by itself or when it is asked, in place of its last report; `was_asked`:
/// at a question that was due. Requests a resync for each of its subscriptions that wants one because its
/// audience has drifted. Returns the number of audiences.
pub fn record(
    set: &RelationSet,
    consumer: &Consumer,
    audiences: Value,
    was_asked: bool,
) -> Result<usize> {
    let audiences = audience_report::parse(audiences).map_err(invalid)?;
    let args = [consumer.id.into(), JsonB(json!(audiences)).into(), was_asked.into()];
    set.write(&queries::delivery::audiences::RECORD_REPORT, &args)?;
    heal(set, consumer)?;
    Ok(audiences.len())
}

fn invalid(problem: String) -> Error {
    Error::Argument { name: "audiences", problem, hint: FORM }
}

/// Requests a resync where an audience has drifted too far: once for each report, and not while messages
/// wait that may be the reason.
fn heal(set: &RelationSet, consumer: &Consumer) -> Result<()> {
    let viewer = Viewer { role: set.owner, sees_figures: true, is_limited: false };
    for audience in find(set, viewer, Some(consumer.id))? {
        let (true, true, Some(id)) = (audience.is_over, audience.heals, audience.subscription)
        else {
            continue;
        };
        if !resync::request(set, id)? {
            continue;
        }
        let message = format!(
            "all members are handed over again: the audience has {} by the consumer's report, {} were handed over",
            counted(audience.size.unwrap_or_default(), "member"),
            audience.members.unwrap_or_default()
        );
        let params = json!({ "consumer": consumer.name });
        SubscriptionRow::find(set, id)?.log(set, LogStatus::Waiting, &message, params)?;
    }
    Ok(())
}

/// What a consumer is asked, if that is due: a message of the operation `list`. It counts as asked from then
/// on, whatever becomes of it.
pub fn due_question(set: &RelationSet, consumer: &Consumer) -> Result<Option<JsonbText>> {
    let Some(every) = &consumer.params.list_every else { return Ok(None) };
    let args = [consumer.id.into(), every.as_str().into()];
    let next: Option<TimestampWithTimeZone> = set.as_owner(|| {
        let sql = set.sql(&queries::delivery::audiences::NEXT_QUESTION, &[]);
        Spi::connect(|_| read_one(&sql, &args))
    })?;
    if next.is_none_or(|next| clock::instant(next) > clock::now()) {
        return Ok(None);
    }
    record_failure(set, consumer.id, NO_ANSWER)?;
    let known: Option<JsonbText> = set.as_owner(|| {
        let sql = set.sql(&queries::delivery::audiences::LIST_KNOWN, &[]);
        Spi::connect(|_| read_one(&sql, &[consumer.id.into()]))
    })?;
    let known = known.and_then(|known| known.parse().ok()).unwrap_or_default();
    let question = json!({
        "version": 1,
        "operation": "list",
        "consumer": { "id": consumer.id.to_string(), "name": consumer.name },
        "audiences": known,
    });
    Ok(Some(JsonbText(question.to_string())))
}

/// Records why a consumer that was asked has not reported its audiences.
pub fn record_failure(set: &RelationSet, consumer: Uuid, error: &str) -> Result<()> {
    durable::flush_at_commit();
    let args = [consumer.into(), super::ack::truncate_utf8(error).into()];
    set.write(&queries::delivery::audiences::RECORD_FAILURE, &args)
}

/// The audiences in the answer to a question.
pub fn of_answer(answer: &str) -> Result<Value> {
    let invalid = |problem: String| Error::Argument {
        name: "receipt",
        problem,
        hint: "The answer to the operation \"list\" is an object with the key audiences.",
    };
    let answer: Value = serde_json::from_str(answer).map_err(|error| invalid(error.to_string()))?;
    match answer {
        Value::Object(mut answer) => {
            answer.remove("audiences").ok_or_else(|| invalid("it has no audiences".into()))
        }
        _ => Err(invalid("it is not an object".into())),
    }
}
