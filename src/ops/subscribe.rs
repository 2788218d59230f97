//! Subscribes a consumer to a segment: creates the subscription, and the consumer if it is new.

use PgSqlErrorCode as Code;
use pgrx::datum::Uuid;
use pgrx::prelude::*;

use crate::catalog::queries;
use crate::catalog::relation_set::{Relation, RelationSet};
use crate::delivery::acts_for;
use crate::error::{Error, Result, emit};
use crate::pg::exec::role::{self, RegRole};
use crate::pg::exec::statement::read_one;
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};
use crate::pg::format::json::JsonbText;

/// The arguments of `segmenter_subscribe()`.
pub struct NewSubscription<'a> {
    pub consumer: &'a str,
    pub segment: &'a str,
    pub target: &'a str,
    pub params: JsonbText,
    /// The role that the consumer belongs to, or that a new one gets.
    pub consumer_role: Option<&'a str>,
}

/// Subscribes a consumer to a segment with the rights of the caller only, as the caller could by
/// hand. A new consumer gets the caller's role, unless another one is given. Returns the
/// subscription's id.
pub fn subscribe(set: &RelationSet, request: NewSubscription<'_>) -> Result<Uuid> {
    let NewSubscription { consumer: name, segment, target, params, consumer_role } = request;
    let wanted = consumer_role.map(role_named).transpose()?;
    let (segment, owner) = set.write_as_caller(|| {
        Spi::connect(|client| {
            let sql = set.sql(&queries::ops::subscribe::FIND_SEGMENT, &[]);
            let row = client.select(&sql, Some(1), &[segment.into()])?.first();
            let found =
                if row.is_empty() { (None, None) } else { row.get_two::<Uuid, pg_sys::Oid>()? };
            match found {
                (Some(id), Some(owner)) => Ok((id, owner)),
                _ => Err(set.unknown_segment(segment)),
            }
        })
    })?;
    let consumer = consumer(set, name, owner, wanted)?;
    set.write_as_caller(|| {
        Spi::connect_mut(|client| {
            let args = [consumer.into(), segment.into(), target.into(), params.into()];
            // No row limit here: a statement that stops after its first row does not fire its
            // statement-level triggers.
            let sql = set.sql(&queries::ops::subscribe::INSERT_SUBSCRIPTION, &[]);
            let id = unless_taken(
                || Ok(client.update(&sql, None, &args)?.first().get_one()?),
                || Error::Exists {
                    code: Code::ERRCODE_UNIQUE_VIOLATION,
                    what: format!("the subscription of \"{name}\" for \"{target}\""),
                    hint: "A consumer has one active subscription to a segment for each target."
                        .into(),
                },
            )?;
            id.ok_or(Error::MissingValue("id"))
        })
    })
}

/// The consumer of a name, which the role `owner` wants to have segments handed over to. A new one gets the
/// caller's role, or the one that is wanted.
pub(super) fn consumer(
    set: &RelationSet,
    name: &str,
    owner: pg_sys::Oid,
    wanted: Option<pg_sys::Oid>,
) -> Result<Uuid> {
    if let Some(known) = Known::find(set, name)? {
        known.check(set, name, owner, wanted)?;
        return Ok(known.id);
    }
    set.write_as_caller(|| {
        Spi::connect_mut(|client| {
            let role = wanted.unwrap_or_else(role::current);
            let args = [name.into(), RegRole(role).into()];
            let sql = set.sql(&queries::ops::subscribe::INSERT_CONSUMER, &[]);
            let created = unless_taken(
                || Ok(client.update(&sql, None, &args)?.first().get_one()?),
                || others_consumer(set, name),
            )?;
            say_created(set, name, role)?;
            created.ok_or(Error::MissingValue("id"))
        })
    })
}

/// The active consumer that has the name already.
struct Known {
    id: Uuid,
    role: Option<pg_sys::Oid>,
    subscribers: Vec<Option<pg_sys::Oid>>,
}

impl Known {
    fn find(set: &RelationSet, name: &str) -> Result<Option<Self>> {
        set.as_owner(|| {
            Spi::connect(|client| {
                let sql = set.sql(&queries::ops::subscribe::FIND_CONSUMER, &[]);
                let row = client.select(&sql, Some(1), &[name.into()])?.first();
                if row.is_empty() {
                    return Ok(None);
                }
                Ok(Some(Self {
                    id: row.get_by_name("id")?.ok_or(Error::MissingValue("id"))?,
                    role: row.get_by_name("role")?,
                    subscribers: row.get_by_name("subscribers")?.unwrap_or_default(),
                }))
            })
        })
    }

    /// Checks that the consumer is the one that is meant. Every role can create a consumer with a name
    /// that others look for. So a name alone finds only consumers whose role the caller or the
    /// segment's owner belongs to, which being a superuser does not count for, and, with a NOTICE,
    /// consumers that list one of them as a subscriber.
    fn check(
        &self,
        set: &RelationSet,
        name: &str,
        owner: pg_sys::Oid,
        wanted: Option<pg_sys::Oid>,
    ) -> Result<()> {
        let caller = role::current();
        if let Some(wanted) = wanted {
            return match self.role == Some(wanted) {
                true => Ok(()),
                false => Err(Error::NotConsumerOf {
                    consumer: name.to_owned(),
                    role: role::name(wanted),
                }),
            };
        }
        let belongs = |role| role::belongs_to(caller, role) || role::belongs_to(owner, role);
        // A consumer without a role was made by the set's owner or a superuser; so was one whose role
        // is a superuser's.
        let is_trusted = match self.role {
            Some(role) => role::is_superuser(role) || belongs(role),
            None => true,
        };
        let is_listed = || self.subscribers.iter().flatten().any(|role| belongs(*role));
        match (acts_for(set, caller, self.role), self.role) {
            _ if !is_trusted && is_listed() => {
                let role = self.role.map(role::name).unwrap_or_default();
                let message = format!("consumer \"{name}\" belongs to role \"{role}\"");
                emit(PgLogLevel::NOTICE, message, None);
                Ok(())
            }
            (true, Some(role)) if !is_trusted => Err(Error::OthersConsumer {
                consumer: name.to_owned(),
                role: role::name(role),
                owner: role::name(owner),
            }),
            (false, _) if !is_listed() => Err(others_consumer(set, name)),
            _ => Ok(()),
        }
    }
}

/// Says that a consumer was created: its name may be misspelt, or that of a retired consumer, which
/// workers may have served while the new one has to claim its messages. Runs within an SPI connection.
fn say_created(set: &RelationSet, name: &str, role: pg_sys::Oid) -> Result<()> {
    let sql = set.sql(&queries::ops::subscribe::COUNT_RETIRED, &[]);
    let retired: Option<i64> = read_one(&sql, &[name.into()])?;
    let consumers = set.display_name(Relation::Consumers);
    let created = format!("consumer \"{name}\" is created for role \"{}\"", role::name(role));
    match retired {
        Some(1..) => emit(
            PgLogLevel::WARNING,
            format!("{created}; a retired consumer has the same name"),
            Some(&format!(
                "The new one claims its messages itself. If the retired one is meant, delete the subscription and the new row of {consumers}, and set its actual_end to infinity."
            )),
        ),
        _ => emit(
            PgLogLevel::NOTICE,
            format!("{created}: it claims its messages itself"),
            Some(&format!("To have workers serve it, set its params in {consumers}.")),
        ),
    }
    Ok(())
}

/// The error for the name of a consumer that the caller may not subscribe.
fn others_consumer(set: &RelationSet, name: &str) -> Error {
    Error::Exists {
        code: Code::ERRCODE_UNIQUE_VIOLATION,
        what: format!("consumer \"{name}\" of another role"),
        hint: format!(
            "Its role can list yours in subscribers of {}; or choose another name.",
            set.display_name(Relation::Consumers)
        ),
    }
}

pub(super) fn role_named(name: &str) -> Result<pg_sys::Oid> {
    let unknown = || Error::UnknownRole(name.to_owned());
    role::named(name).ok_or_else(unknown)
}

/// Runs an insert; a value that exists already is the error `taken`.
pub(super) fn unless_taken<T>(
    insert: impl FnOnce() -> Result<T>,
    taken: impl FnOnce() -> Error,
) -> Result<T> {
    in_subtransaction(OnSuccess::Commit, insert).map_err(|error| match &error {
        Error::Postgres(report) if report.sqlstate == Code::ERRCODE_UNIQUE_VIOLATION as i32 => {
            taken()
        }
        _ => error,
    })
}
