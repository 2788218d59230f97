//! To whom a person's data went: the log knows what was handed over to which consumer, and with which fields; the
//! segment tables know when the person was a member.

use std::collections::{BTreeSet, HashMap};

use pgrx::datum::{Timestamp, TimestampWithTimeZone, Uuid};
use pgrx::prelude::*;
use pgrx::spi::SpiHeapTupleData;

use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::config::segment_table::Table;
use crate::config::{Key, Segment, Subject};
use crate::error::{Error, Result};
use crate::ops::person::{self, Change, Moment, Place};
use crate::ops::timeline::is_member;
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};
use crate::refresh::publish::filter::Filter;

/// A row of `segmenter_disclosures()`: a time during which a consumer had data of a person.
pub struct Disclosure {
    /// None: nothing of it is left.
    pub consumer: Option<String>,
    pub target: String,
    pub fields: Vec<String>,
    /// None: not known.
    pub since: Option<TimestampWithTimeZone>,
    pub until: Option<TimestampWithTimeZone>,
    pub still_there: bool,
    /// Whether nothing is missing, as far as the log and the table tell.
    pub complete: bool,
}

/// The disclosures of a person, in order.
pub fn list(set: &RelationSet, id: &str) -> Result<Vec<Disclosure>> {
    let mut disclosures = Vec::new();
    for place in person::places(set, None)? {
        pgrx::check_for_interrupts!();
        disclosures.extend(of_segment(set, &place, id)?);
    }
    let key = |it: &Disclosure| {
        (it.since.map(i64::from), it.consumer.clone(), it.target.clone(), it.until.map(i64::from))
    };
    disclosures.sort_by_key(key);
    Ok(disclosures)
}

/// What is known of a subscription.
struct Subscribed {
    consumer: Option<String>,
    target: String,
    begun: TimestampWithTimeZone,
    begun_local: Timestamp,
    condition: Option<String>,
    /// The consumer has got messages.
    is_given: bool,
    fields: Vec<String>,
    has_skipped: bool,
    /// The runs whose messages wait, and those of them of which the consumer has claimed no members.
    waiting: Vec<Uuid>,
    unseen: Vec<Uuid>,
    /// The log reaches back to its beginning.
    is_whole: bool,
}

impl Subscribed {
    fn read(row: &SpiHeapTupleData<'_>) -> Result<(Uuid, Self)> {
        let missing = |column| move || Error::MissingValue(column);
        let is = |name: &str| Ok::<_, Error>(row.get_by_name::<bool, _>(name)? == Some(true));
        let subscribed = Self {
            consumer: row.get_by_name("consumer")?,
            target: row.get_by_name("target")?.unwrap_or_default(),
            begun: row.get_by_name("begun")?.ok_or_else(missing("begun"))?,
            begun_local: row.get_by_name("local")?.ok_or_else(missing("local"))?,
            condition: row.get_by_name("condition")?,
            is_given: is("is_given")?,
            fields: row.get_by_name("fields")?.unwrap_or_default(),
            has_skipped: is("has_skipped")?,
            waiting: row.get_by_name("waiting")?.unwrap_or_default(),
            unseen: row.get_by_name("unseen")?.unwrap_or_default(),
            is_whole: is("is_whole")?,
        };
        Ok((row.get_by_name("id")?.ok_or_else(missing("id"))?, subscribed))
    }
}

/// A hand-over that the log has, or an audience that was taken whole.
struct Handover {
    subscription: Uuid,
    consumer: Option<String>,
    target: String,
    run: Option<Uuid>,
    at: TimestampWithTimeZone,
    local: Timestamp,
    operations: Vec<String>,
    fields: Vec<String>,
    condition: Option<String>,
    is_take: bool,
}

impl Handover {
    fn read(row: &SpiHeapTupleData<'_>) -> Result<Self> {
        let missing = |column| move || Error::MissingValue(column);
        Ok(Self {
            subscription: row.get_by_name("subscription")?.ok_or_else(missing("subscription"))?,
            consumer: row.get_by_name("consumer")?,
            target: row.get_by_name("target")?.unwrap_or_default(),
            run: row.get_by_name("run_id")?,
            at: row.get_by_name("at")?.ok_or_else(missing("at"))?,
            local: row.get_by_name("local")?.ok_or_else(missing("local"))?,
            operations: row.get_by_name("operations")?.unwrap_or_default(),
            fields: row.get_by_name("fields")?.unwrap_or_default(),
            condition: row.get_by_name("condition")?,
            is_take: row.get_by_name("is_take")?.unwrap_or_default(),
        })
    }

    fn has(&self, operation: &str) -> bool {
        self.operations.iter().any(|it| it == operation)
    }

    /// Whether it removes people of whom an audience that is held back has more: all others stay as they are.
    fn only_removes(&self) -> bool {
        self.operations.len() == 1 && self.has("remove")
    }

    /// Whether it adds members; the new name of an audience is an `add` by itself.
    fn adds(&self) -> bool {
        self.is_take || self.operations.len() > 1 || self.has("replace")
    }
}

fn of_segment(set: &RelationSet, place: &Place, id: &str) -> Result<Vec<Disclosure>> {
    let moments = place.moments(set, id)?;
    if moments.is_empty() {
        return Ok(Vec::new());
    }
    let args = [place.id.into()];
    let subscriptions: Vec<(Uuid, Subscribed)> = set.in_zone(&place.zone, || {
        Spi::connect(|client| {
            let sql = set.sql(&queries::ops::disclosures::LIST_SUBSCRIPTIONS, &[]);
            let rows = client.select(&sql, None, &args)?;
            rows.map(|row| Subscribed::read(&row)).collect::<Result<_>>()
        })
    })?;
    let mut handovers: HashMap<Uuid, Vec<Handover>> = HashMap::new();
    let mut gone = Vec::new();
    let read: Vec<Handover> = set.in_zone(&place.zone, || {
        Spi::connect(|client| {
            let sql = set.sql(&queries::ops::disclosures::LIST_HANDOVERS, &[]);
            let rows = client.select(&sql, None, &args)?;
            rows.map(|row| Handover::read(&row)).collect::<Result<_>>()
        })
    })?;
    for handover in read {
        let id = handover.subscription;
        if !gone.contains(&id) && subscriptions.iter().all(|(known, _)| *known != id) {
            gone.push(id);
        }
        handovers.entry(id).or_default().push(handover);
    }
    let mut history = History::new(set, place, id, &moments)?;
    let mut disclosures = Vec::new();
    for (subscription, subscribed) in &subscriptions {
        let handovers = handovers.remove(subscription).unwrap_or_default();
        disclosures.extend(history.replay(Some(subscribed), &handovers));
    }
    for subscription in gone {
        let handovers = handovers.remove(&subscription).unwrap_or_default();
        disclosures.extend(history.replay(None, &handovers));
    }
    Ok(disclosures)
}

/// A person in the history of a segment.
struct History<'a> {
    set: &'a RelationSet,
    id: &'a str,
    moments: &'a [Moment],
    /// The runs that have made the changes, by their local times.
    runs: HashMap<i64, Uuid>,
    /// None: the table cannot be read as a segment's.
    segment: Option<(Segment, Table)>,
    zone: &'a str,
    /// Whether columns of former members may have been cleared.
    is_cleared: bool,
    /// Whether conditions were true, by the place of the last moment and the condition; none: not known.
    selected: HashMap<(usize, String), Option<bool>>,
}

/// A time during which a consumer has data of the person.
struct Period {
    since: Option<TimestampWithTimeZone>,
    until: Option<TimestampWithTimeZone>,
    fields: BTreeSet<String>,
}

impl<'a> History<'a> {
    fn new(
        set: &'a RelationSet,
        place: &'a Place,
        id: &'a str,
        moments: &'a [Moment],
    ) -> Result<Self> {
        let segment = Segment::find_bare(set, Key::Id(place.id))?;
        let segment = segment.and_then(|segment| {
            let table = in_subtransaction(OnSuccess::Rollback, || {
                Table::check(set, segment.table, segment.holder())
            });
            Some((segment, table.ok()?))
        });
        let is_cleared = set.as_owner(|| {
            Spi::connect(|client| {
                let sql = set.sql(&queries::ops::disclosures::MAY_BE_CLEARED, &[]);
                let found = client.select(&sql, Some(1), &[place.id.into()])?;
                Ok::<_, Error>(found.first().get_one::<bool>()? == Some(true))
            })
        })?;
        let causes = person::causes(set, place.id, moments)?;
        let runs = causes.into_iter().filter_map(|(at, cause)| Some((at, cause.run?))).collect();
        let (zone, selected) = (place.zone.as_str(), HashMap::new());
        Ok(Self { set, id, moments, runs, segment, zone, is_cleared, selected })
    }

    /// What a consumer had of the person. Without a subscription nothing but the log knows of it.
    fn replay(
        &mut self,
        subscribed: Option<&Subscribed>,
        handovers: &[Handover],
    ) -> Vec<Disclosure> {
        let mut complete = self.is_complete(subscribed);
        let mut periods: Vec<Period> = Vec::new();
        // A run that begins the audience is the first one, whatever the log has lost.
        let begins = handovers.first().is_some_and(|first| first.has("create"));
        if let Some(subscribed) = subscribed.filter(|it| it.is_given && !it.is_whole && !begins) {
            self.guess(subscribed, handovers.first(), &mut periods);
        }
        let mut condition = subscribed.and_then(|subscribed| subscribed.condition.clone());
        for handover in handovers {
            let waits = |runs: fn(&Subscribed) -> &[Uuid]| {
                let runs = subscribed.map_or(&[][..], runs);
                !handover.is_take && handover.run.is_some_and(|run| runs.contains(&run))
            };
            if handover.has("delete") {
                if !waits(|it| &it.waiting) {
                    end(&mut periods, handover.at);
                }
                continue;
            }
            if !handover.is_take {
                condition = handover.condition.clone();
            }
            let mut is_there = is_member(self.moments, handover.local);
            if let (true, Some(condition)) = (is_there, &condition) {
                is_there = self.is_selected(condition, handover.local).unwrap_or_else(|| {
                    complete = false;
                    true
                });
            }
            match is_there {
                true if handover.adds() && !waits(|it| &it.unseen) => {
                    give(&mut periods, Some(handover.at), &handover.fields);
                }
                false if handover.only_removes() && !self.has_left_by(handover) => {}
                false if !waits(|it| &it.waiting) => end(&mut periods, handover.at),
                _ => {}
            }
        }
        let named = handovers.first();
        let consumer = match subscribed {
            Some(subscribed) => subscribed.consumer.clone(),
            None => named.and_then(|handover| handover.consumer.clone()),
        };
        let target = match (subscribed, named) {
            (Some(subscribed), _) => subscribed.target.clone(),
            (None, Some(handover)) => handover.target.clone(),
            (None, None) => String::new(),
        };
        let disclosure = |Period { since, until, fields }| Disclosure {
            consumer: consumer.clone(),
            target: target.clone(),
            fields: fields.into_iter().collect(),
            since,
            until,
            still_there: until.is_none(),
            complete,
        };
        periods.into_iter().map(disclosure).collect()
    }

    /// Whether the log and the table reach back to the beginning of a subscription, and all that was handed over was
    /// delivered.
    fn is_complete(&self, subscribed: Option<&Subscribed>) -> bool {
        let (Some(subscribed), Some((segment, table))) = (subscribed, &self.segment) else {
            return false;
        };
        subscribed.is_whole
            && !subscribed.has_skipped
            && table.kind.history
            && !is_cut(self.set, segment.id, self.zone, subscribed.begun)
    }

    /// What was handed over before the first hand-over that the log has: the person as it was in the segment, with every
    /// field that the subscription has had.
    fn guess(&self, of: &Subscribed, first: Option<&Handover>, periods: &mut Vec<Period>) {
        if is_member(self.moments, of.begun_local) {
            give(periods, Some(of.begun), &of.fields);
        }
        for moment in self.moments.iter().filter(|moment| moment.local > of.begun_local) {
            if first.is_some_and(|first| moment.local >= first.local) {
                break;
            }
            match moment.change {
                Change::Exited => end(periods, moment.at),
                Change::Entered | Change::Changed => give(periods, Some(moment.at), &of.fields),
            }
        }
    }

    /// Whether the run of a hand-over has removed the person from the segment.
    fn has_left_by(&self, handover: &Handover) -> bool {
        let last = self.moments.iter().rev().find(|moment| moment.local <= handover.local);
        let run = last.and_then(|last| self.runs.get(&person::micros(last.local)));
        run.is_some() && run == handover.run.as_ref()
    }

    /// Whether a condition was true for the person at a local time; none: that is not known.
    fn is_selected(&mut self, condition: &str, at: Timestamp) -> Option<bool> {
        let place = self.moments.iter().rposition(|moment| moment.local <= at)?;
        let key = (place, condition.to_owned());
        if let Some(known) = self.selected.get(&key) {
            return *known;
        }
        let (segment, table) = self.segment.as_ref()?;
        let of = (table, segment.owner);
        let selected = in_subtransaction(OnSuccess::Rollback, || {
            let subject = Subject::Subscription(&segment.name);
            let filter = Filter::analyse(self.set, of, condition, subject)?;
            filter.had_member(self.set, of, (segment.id, self.id), (at, self.is_cleared))
        });
        let selected = selected.ok().flatten();
        self.selected.insert(key, selected);
        selected
    }
}

/// Whether memberships that have ended since a time may have been deleted.
fn is_cut(set: &RelationSet, segment: Uuid, zone: &str, since: TimestampWithTimeZone) -> bool {
    let args = [segment.into(), zone.into(), since.into()];
    // A retention that a hand has written may be no interval.
    let cut = in_subtransaction(OnSuccess::Rollback, || {
        set.as_owner(|| {
            Spi::connect(|client| {
                let sql = set.sql(&queries::ops::explain::FIND_KEPT_SINCE, &[]);
                let rows = client.select(&sql, Some(1), &args)?;
                if rows.is_empty() {
                    return Ok(false);
                }
                Ok::<_, Error>(rows.first().get_by_name("is_before")? != Some(false))
            })
        })
    });
    cut.unwrap_or(true)
}

/// The consumer has the person from now on, if it had not before.
fn give(periods: &mut Vec<Period>, since: Option<TimestampWithTimeZone>, fields: &[String]) {
    match periods.last_mut().filter(|last| last.until.is_none()) {
        Some(last) => last.fields.extend(fields.iter().cloned()),
        None => {
            let fields = fields.iter().cloned().collect();
            periods.push(Period { since, until: None, fields });
        }
    }
}

/// The consumer has the person no more.
fn end(periods: &mut [Period], until: TimestampWithTimeZone) {
    if let Some(last) = periods.last_mut().filter(|last| last.until.is_none()) {
        last.until = Some(until);
    }
}
