//! Who may write what of a subscription: it has two parties.

use pgrx::datum::Uuid;
use pgrx::prelude::*;

use super::acts_for;
use crate::catalog::connectors::Connection;
use crate::catalog::queries;
use crate::catalog::relation_set::{Relation, RelationSet};
use crate::config::{ConfigError, Subject};
use crate::error::{Error, Result};
use crate::pg::exec::role;
use segmenter_core::connector::Spec;

/// The two parties of a subscription, of which the segment's owner writes its config, and the
/// consumer what deliveries say.
pub struct Parties {
    caller: pg_sys::Oid,
    segment_owner: Option<pg_sys::Oid>,
    consumer: Option<String>,
    role: Option<pg_sys::Oid>,
    subscribers: Vec<Option<pg_sys::Oid>>,
    server: Option<String>,
}

impl Parties {
    /// The parties of a subscription that the current role writes.
    pub fn find(set: &RelationSet, segment: Option<Uuid>, consumer: Option<Uuid>) -> Result<Self> {
        let caller = role::current();
        let args = [segment.into(), consumer.into()];
        set.as_owner(|| {
            Spi::connect(|client| {
                let sql = set.sql(&queries::delivery::FIND_PARTIES, &[]);
                let row = client.select(&sql, Some(1), &args)?.first();
                Ok(Self {
                    caller,
                    segment_owner: row.get_by_name("segment_owner")?,
                    consumer: row.get_by_name("consumer")?,
                    role: row.get_by_name("role")?,
                    subscribers: row.get_by_name("subscribers")?.unwrap_or_default(),
                    server: row.get_by_name("server")?,
                })
            })
        })
    }

    /// The consumer's name; none: it does not exist.
    pub fn consumer(&self) -> Option<&str> {
        self.consumer.as_deref()
    }

    /// Checks that the connector through which the consumer is served can send alerts.
    pub fn check_takes_alerts(&self, set: &RelationSet, subject: Subject<'_>) -> Result<()> {
        match self.connector(set) {
            Some(spec) if spec.operation("alert").is_none() => Err(ConfigError::new(
                "consumer_id",
                subject,
                "the connector of its server has no operation \"alert\"",
                "Choose a consumer that is served in another way, or add the operation to a connector of your own.",
            )
            .into()),
            _ => Ok(()),
        }
    }

    /// The spec of the connector that the consumer is served through; none: there is none, or it cannot be
    /// used, of which a WARNING is given where the consumer is configured.
    pub fn connector(&self, set: &RelationSet) -> Option<Spec> {
        let user = super::connector::user_of(set, self.role);
        Connection::spec(&set.extension, self.server.as_deref()?, user).ok()
    }

    fn acts_for_consumer(&self, set: &RelationSet) -> bool {
        acts_for(set, self.caller, self.role)
    }

    fn acts_for_segment(&self, set: &RelationSet) -> bool {
        role::may_act_as(self.caller, set.owner)
            || self.segment_owner.is_some_and(|owner| role::may_act_as(self.caller, owner))
    }

    /// The config is for roles that may act as the segment's owner.
    pub fn check_config(&self, set: &RelationSet, subject: Subject<'_>) -> Result<()> {
        // A segment that does not exist is found by the foreign key.
        if self.segment_owner.is_none() || self.acts_for_segment(set) {
            return Ok(());
        }
        Err(Error::NotParty {
            what: subject.to_string(),
            who: "Members of the role that owns the segment change a subscription; members of the consumer's role can end it: set actual_end = now().",
        })
    }

    /// Checks that the consumer exists: otherwise the foreign key of the row would say so.
    pub fn check_consumer(&self, set: &RelationSet, subject: Subject<'_>) -> Result<()> {
        match self.consumer.is_some() {
            true => Ok(()),
            false => Err(Self::missing(set, "consumer", Relation::Consumers, subject)),
        }
    }

    /// Checks that the segment exists. The segment of a role that the caller may not act as does not exist
    /// for the caller.
    pub fn check_segment(&self, set: &RelationSet, subject: Subject<'_>) -> Result<()> {
        match self.segment_owner.is_some() && self.acts_for_segment(set) {
            true => Ok(()),
            false => Err(Self::missing(set, "segment", Relation::Segments, subject)),
        }
    }

    fn missing(
        set: &RelationSet,
        what: &'static str,
        listed: Relation,
        subject: Subject<'_>,
    ) -> Error {
        let (subject, listed) = (subject.to_string(), set.display_name(listed));
        Error::NoParty { what, subject, listed }
    }

    /// Either party may end the subscription.
    pub fn check_ends(&self, set: &RelationSet, subject: Subject<'_>) -> Result<()> {
        match self.acts_for_consumer(set) {
            true => Ok(()),
            false => self.check_config(set, subject),
        }
    }

    /// What deliveries say is for roles that may act for the consumer.
    pub fn check_delivery(
        &self,
        set: &RelationSet,
        column: &'static str,
        subject: Subject<'_>,
    ) -> Result<()> {
        if self.acts_for_consumer(set) {
            return Ok(());
        }
        Err(Error::NotParty {
            what: format!("column \"{column}\" of {subject}"),
            who: "Deliveries and members of the consumer's role write it.",
        })
    }

    /// The consumer agrees if the caller may act for it, or as a role that it lists.
    pub fn check_consent(&self, set: &RelationSet) -> Result<()> {
        let is_listed = || {
            let mut listed = self.subscribers.iter().flatten();
            listed.any(|role| role::may_act_as(self.caller, *role))
        };
        // When a dump is restored, the consumer may come later.
        let Some(consumer) = &self.consumer else { return Ok(()) };
        if self.acts_for_consumer(set) || is_listed() {
            return Ok(());
        }
        Err(Error::NoConsent {
            role: role::name(self.caller),
            consumer: consumer.clone(),
            consumers: set.display_name(Relation::Consumers),
        })
    }
}
