//! The messages of a segment that hold the person, and what their consumers have to receive.

use std::collections::{BTreeSet, HashMap};

use pgrx::datum::{Timestamp, Uuid};
use pgrx::spi::SpiClient;
use serde_json::json;

use super::SegmentRows;
use crate::catalog::queries;
use crate::catalog::relation_set::{Relation, RelationSet};
use crate::config::{Fields, Subject};
use crate::error::{Error, Result};
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};
use crate::pg::format::json::JsonbText;
use crate::refresh::publish::filter::Filter;
use crate::refresh::publish::payload;
use crate::refresh::publish::subscription::Subscription;
use segmenter_core::reason::Reason;
use segmenter_core::sync_plan::SyncAction;

/// Removes the person from the messages of a segment's subscriptions. Returns what their consumers
/// have to receive.
pub(super) fn redact_messages(
    client: &mut SpiClient<'_>,
    search: &mut Search<'_>,
    subscriptions: Vec<Subscription>,
) -> Result<Vec<(Subscription, Notice)>> {
    let set = search.set;
    let mut used = handed_over_fields(client, set, search.segment)?;
    let mut sought = HashMap::new();
    for subscription in &subscriptions {
        let past = used.remove(&subscription.id).unwrap_or_default();
        let current = subscription.served_fields();
        let mut found = Sought::of(client, search, past, Some(current))?;
        found.has_events = subscription.has_events();
        if !found.members.is_empty() && !search.may_have(subscription) {
            found.members.clear();
        }
        sought.insert(subscription.id, found);
    }
    // What consumers have of a person of whom changes were held back is recorded.
    set.as_owner(|| {
        let sql = set.sql(&queries::ops::erase::TAKE_WITHHELD, &[]);
        for row in client.update(&sql, None, &[search.segment.into(), search.id.into()])? {
            let id = row.get_by_name::<Uuid, _>("subscription_id")?;
            if let Some(found) = id.and_then(|id| sought.get_mut(&id)) {
                found.members = row.get_by_name("member")?.into_iter().collect();
            }
        }
        Ok::<_, Error>(())
    })?;
    // Those whose config is not valid: nothing is written to them, but their messages are searched.
    for (subscription, past) in used {
        sought.insert(subscription, Sought::of(client, search, past, None)?);
    }
    let (mut ids, mut probes) = (Vec::new(), Vec::new());
    for (subscription, sought) in &sought {
        for probe in &sought.probes {
            ids.push(*subscription);
            probes.push(probe.clone());
        }
    }
    let current: HashMap<Uuid, &Fields> = subscriptions
        .iter()
        .map(|subscription| (subscription.id, subscription.served_fields()))
        .collect();
    set.as_owner(|| {
        let sql = set.sql(&queries::ops::erase::REDACT_MESSAGES, &[]);
        for row in client.update(&sql, None, &[ids.into(), probes.into()])? {
            let (Some(id), Some(member)) =
                (row.get_by_name::<Uuid, _>("subscription_id")?, row.get_by_name("member")?)
            else {
                continue;
            };
            let names: Vec<String> = row.get_by_name("names")?.unwrap_or_default();
            if let (Some(sought), Some(current)) = (sought.get_mut(&id), current.get(&id)) {
                sought.take(current, member, &names);
            }
        }
        Ok::<_, Error>(())
    })?;
    drop(current);
    let (id, at) = (search.id, search.at);
    let notices = subscriptions.into_iter().filter_map(|subscription| {
        let notice = sought.remove(&subscription.id)?.notice(&subscription, (id, at))?;
        Some((subscription, notice))
    });
    Ok(notices.collect())
}

/// What a subscription's consumer has to receive.
pub(super) enum Notice {
    /// A `remove` of these members, even of those that the consumer may not have; or the event that the
    /// person has left.
    Remove(Vec<String>),
    /// All remaining members as `replace`: other members look like the person, or it is unknown
    /// what the consumer has of the person.
    Everything,
}

/// What is known of the person as a member with certain fields. Members are JSON texts.
pub(super) struct Versions {
    /// Each with whether a row of such a member is current.
    members: Vec<(String, bool)>,
    /// Whether other members look the same; only asked for fields without the id.
    are_shared: bool,
    /// Whether the table has all the columns.
    is_whole: bool,
}

/// A person in a segment.
pub(super) struct Search<'a> {
    pub(super) set: &'a RelationSet,
    pub(super) segment: Uuid,
    pub(super) rows: Option<&'a SegmentRows>,
    pub(super) id: &'a str,
    /// The local time of the erasure.
    pub(super) at: Timestamp,
    pub(super) known: HashMap<String, Versions>,
}

impl Search<'_> {
    /// What the segment table holds of the person, as members with these fields. Subscriptions with
    /// the same fields share the answer.
    fn versions(&mut self, client: &mut SpiClient<'_>, fields: &Fields) -> Result<&Versions> {
        let key = json!(fields).to_string();
        if !self.known.contains_key(&key) {
            let found = self.look_up(client, fields)?;
            self.known.insert(key.clone(), found);
        }
        self.known.get(&key).ok_or(Error::MissingValue("versions"))
    }

    /// Whether the consumer may have the person: as far as it is known, the filter with which members were
    /// handed over is true for the person.
    fn may_have(&self, subscription: &Subscription) -> bool {
        let filter = subscription.served_selection().filter.as_deref();
        let (Some(rows), Some(filter), false) = (self.rows, filter, subscription.is_unsure())
        else {
            return true;
        };
        let table = (&rows.table, subscription.segment_owner);
        let subject = Subject::Subscription(&subscription.target);
        let has_member = in_subtransaction(OnSuccess::Commit, || {
            let filter = Filter::analyse(self.set, table, filter, subject)?;
            filter.has_member(self.set, table, self.segment, self.id)
        });
        has_member.unwrap_or(true)
    }

    fn look_up(&self, client: &mut SpiClient<'_>, fields: &Fields) -> Result<Versions> {
        let mut found = Versions { members: Vec::new(), are_shared: false, is_whole: true };
        let Some(rows) = self.rows else { return Ok(found) };
        found.is_whole = payload::check_fields(&rows.table, fields).is_ok();
        let Some(now) = rows.member(fields)? else { return Ok(found) };
        self.set.as_table_owner(rows.table.owner, || {
            let sql = rows.sql(self.set, &queries::ops::erase::LIST_VERSIONS, &now);
            let read = |client: &SpiClient<'_>, place: Option<String>| {
                in_subtransaction(OnSuccess::Commit, || {
                    let args = [self.segment.into(), self.id.into(), place.into()];
                    let mut members = Vec::new();
                    for row in client.select(&sql, None, &args)? {
                        if let Some(member) = row.get_by_name::<String, _>("member")? {
                            members.push((member, row.get_by_name("is_actual")? == Some(true)));
                        }
                    }
                    Ok(members)
                })
            };
            match read(client, None) {
                Ok(members) => found.members = members,
                // PostgreSQL cannot show a value as jsonb (\u0000 in a json): the others are read.
                Err(_) => {
                    found.is_whole = false;
                    let sql = rows.sql(self.set, &queries::ops::erase::LIST_PLACES, "");
                    let args = [self.segment.into(), self.id.into()];
                    let places: Option<Vec<String>> =
                        client.select(&sql, Some(1), &args)?.first().get_one()?;
                    for place in places.unwrap_or_default() {
                        for member in read(client, Some(place)).unwrap_or_default() {
                            if !found.members.contains(&member) {
                                found.members.push(member);
                            }
                        }
                    }
                }
            }
            if fields.id_name().is_none() {
                let members = found.members.iter().map(|(member, _)| member.clone());
                let members: Vec<String> = members.collect();
                let sql = rows.sql(self.set, &queries::ops::erase::HAS_LOOKALIKES, &now);
                let args = [self.segment.into(), self.id.into(), members.into()];
                let shared = in_subtransaction(OnSuccess::Commit, || {
                    Ok(client.select(&sql, Some(1), &args)?.first().get_one::<bool>()?)
                });
                found.are_shared = shared.unwrap_or(Some(true)).unwrap_or_default();
            }
            Ok(found)
        })
    }
}

/// What is sought in the messages of a subscription, and what its consumer may have of the person.
#[derive(Default)]
struct Sought {
    probes: Vec<String>,
    members: Vec<String>,
    is_unsure: bool,
    /// The consumer gets events.
    has_events: bool,
}

impl Sought {
    /// `current`: the fields with which members are handed over now; none: its config is not valid.
    fn of(
        client: &mut SpiClient<'_>,
        search: &mut Search<'_>,
        mut used: BTreeSet<Fields>,
        current: Option<&Fields>,
    ) -> Result<Self> {
        let mut sought = Self::default();
        used.extend(current.cloned());
        let id = search.id;
        // Events have the id, whatever their other fields are.
        for event in ["entered", "exited", "changed"] {
            sought.probes.push(json!({ "id": id, "event": event }).to_string());
        }
        for fields in &used {
            let found = search.versions(client, fields)?;
            match fields.id_name() {
                Some(name) => sought.probes.push(json!({ name: id }).to_string()),
                None => {
                    sought.is_unsure |= found.are_shared;
                    let members = found.members.iter().map(|(member, _)| member.clone());
                    sought.probes.extend(members);
                }
            }
            if Some(fields) != current {
                continue;
            }
            // If the table lacks a column that is handed over, it is unknown what the consumer has.
            if found.is_whole {
                let actual = found.members.iter().filter(|(_, is_actual)| *is_actual);
                sought.members.extend(actual.map(|(member, _)| member.clone()));
            } else {
                sought.is_unsure = true;
                let by_id = search.versions(client, &Fields::key())?;
                let actual = by_id.members.iter().find(|(_, is_actual)| *is_actual);
                sought.members.extend(actual.map(|(member, _)| member.clone()));
            }
        }
        Ok(sought)
    }

    /// Takes a member that was removed from a message that waits.
    fn take(&mut self, current: &Fields, member: String, names: &[String]) {
        if self.has_events {
            self.members.push(member);
            return;
        }
        // Without the id among the fields it is unknown which person a removed member was.
        self.is_unsure |= current.id_name().is_none();
        // A member with other fields was replaced by a later message, or will be.
        if current.matches(names) && !self.members.contains(&member) {
            self.members.push(member);
        }
    }

    /// What the consumer has to receive; none: it has nothing of the person. While changes are held back, no
    /// more than the person is removed.
    fn notice(self, subscription: &Subscription, person: (&str, Timestamp)) -> Option<Notice> {
        if self.has_events {
            let asks = subscription.asks_for(SyncAction::Delta, Some(Reason::Erased));
            let (id, at) = person;
            return (asks && subscription.has_audience() && !self.members.is_empty()).then(|| {
                Notice::Remove(vec![payload::erased_event(subscription.served_fields(), id, at)])
            });
        }
        let is_unsure = self.is_unsure && !subscription.is_held();
        match (self.members.is_empty() || !subscription.has_audience(), is_unsure) {
            (true, _) => None,
            (false, true) => Some(Notice::Everything),
            (false, false) => Some(Notice::Remove(self.members)),
        }
    }
}

/// All sets of fields that members were ever handed over with, by subscription. A set that cannot be
/// read is an error: messages with it may hold the person.
fn handed_over_fields(
    client: &mut SpiClient<'_>,
    set: &RelationSet,
    segment: Uuid,
) -> Result<HashMap<Uuid, BTreeSet<Fields>>> {
    set.as_owner(|| {
        let sql = set.sql(&queries::ops::erase::LIST_FIELDS, &[]);
        let rows = client.select(&sql, None, &[segment.into()])?.map(|row| {
            let missing = || Error::MissingValue("subscription_id");
            let subscription = row.get_by_name("subscription_id")?.ok_or_else(missing)?;
            let Some(fields) = row.get_by_name::<JsonbText, _>("fields")? else {
                return Ok((subscription, BTreeSet::new()));
            };
            let fields = fields.parse().and_then(|fields| {
                serde_json::from_value(fields).map_err(|error| error.to_string())
            });
            let fields = fields.map_err(|problem| Error::UnreadableFields {
                handovers: set.display_name(Relation::Handovers),
                subscription,
                problem,
            })?;
            Ok((subscription, fields))
        });
        rows.collect()
    })
}
