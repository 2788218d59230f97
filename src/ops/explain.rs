//! Why a person is in a segment, or is not: each thing that decides it, one by one.

use pgrx::datum::{Timestamp, TimestampWithTimeZone, Uuid};
use pgrx::prelude::*;
use pgrx::spi::SpiHeapTupleData;

use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::config::segment_table::Table;
use crate::config::{Key, MatchColumn, Segment, Subject};
use crate::error::{Error, Result};
use crate::ops::members::{check_finite, localized};
use crate::ops::person::{self, Change, Identity, Listed, Moment, Place};
use crate::ops::timeline;
use crate::pg::exec::role;
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};
use crate::refresh::ask::{self, Captured, Given};
use crate::refresh::diff::check_may_read;
use crate::refresh::may_refresh;
use crate::refresh::publish::filter::Filter;
use segmenter_core::reason::Reason;

/// A row of `segmenter_explain()`.
pub struct Step {
    pub step: &'static str,
    pub verdict: String,
    pub since: Option<TimestampWithTimeZone>,
    pub detail: Option<String>,
}

impl Step {
    fn new(step: &'static str, verdict: &str, detail: impl Into<String>) -> Self {
        Self { step, verdict: verdict.to_owned(), since: None, detail: Some(detail.into()) }
    }

    fn since(self, since: Option<TimestampWithTimeZone>) -> Self {
        Self { since, ..self }
    }
}

const ONLY_NOW: &str = "it is known for now only";

/// A person, a segment, and the time that is asked for.
struct Question<'a> {
    set: &'a RelationSet,
    segment: Segment,
    place: Place,
    id: &'a str,
    /// None: now.
    at: Option<TimestampWithTimeZone>,
    local: Option<Timestamp>,
}

/// Explains. The caller must be able to act as the segment's owner, and to read the segment's table.
pub fn explain(
    set: &RelationSet,
    name: &str,
    id: &str,
    at: Option<TimestampWithTimeZone>,
) -> Result<Vec<Step>> {
    check_finite(at)?;
    let unknown = || set.unknown_segment(name);
    let bare = Segment::find_bare(set, Key::Name(name))?.ok_or_else(unknown)?;
    let caller = role::current();
    match may_refresh(set, &bare, caller) {
        Err(Error::NotPermitted { .. }) => return Err(unknown()),
        permitted => permitted?,
    }
    check_may_read(set, &bare, caller)?;
    let place = person::places(set, Some(name))?.pop();
    let place = place.ok_or_else(|| Error::TableDropped(name.to_owned()))?;
    // A row that is not valid can be explained as far as it goes.
    let (segment, invalid) = match Segment::find(set, Key::Name(name)) {
        Ok(Some(segment)) => (segment, None),
        Ok(None) => (bare, None),
        Err(error @ Error::Config(_)) => (bare, Some(error)),
        Err(error) => return Err(error),
    };
    if segment.kinship.is_family() {
        return Err(Error::IsFamily(segment.name));
    }
    let local = localized(set, Some(&place.zone), at)?;
    let question = Question { set, segment, place, id, at, local };
    let mut steps = vec![question.table()?, question.refresh()?];
    let given = match (at, invalid) {
        (None, None) => ask::ask(set, &question.segment, id),
        (None, Some(error)) => Err(error),
        (Some(_), _) => Ok(None),
    };
    let lists = person::lists(set, &question.segment)?;
    let who = question.identity(&given, &lists)?;
    steps.push(question.query(given));
    let (priorities, lists): (Vec<Listed>, Vec<Listed>) =
        lists.into_iter().partition(|listed| listed.reason == Reason::Priority);
    let kept_out = person::kept_out(set, id, Some(question.segment.owner))?;
    steps.push(match kept_out.first().filter(|_| at.is_none()) {
        Some(kept) => {
            Step::new("excluded", "yes", "kept out since an erasure").since(Some(kept.at))
        }
        None => question.lists("excluded", &lists, &who),
    });
    steps.push(question.lists("priority", &priorities, &who));
    steps.extend(question.reads()?);
    steps.push(question.captured()?);
    steps.extend(question.delivered()?);
    Ok(steps)
}

impl Question<'_> {
    /// The changes of the membership until the time that is asked for.
    fn moments(&self, place: &Place) -> Result<Vec<Moment>> {
        let mut moments = place.moments(self.set, self.id)?;
        if let Some(local) = self.local {
            moments.retain(|moment| moment.local <= local);
        }
        Ok(moments)
    }

    /// Whether the person is in the table, since when, and by which run.
    fn table(&self) -> Result<Step> {
        let moments = self.moments(&self.place)?;
        let Some(last) = moments.last() else {
            return self.no_membership();
        };
        let is_member = last.change != Change::Exited;
        let decisive = if is_member { Change::Entered } else { Change::Exited };
        let Some(moment) = moments.iter().rev().find(|moment| moment.change == decisive) else {
            return Ok(Step::new("table", if is_member { "yes" } else { "no" }, ""));
        };
        let cause = person::causes(self.set, self.place.id, std::slice::from_ref(moment))?;
        let cause = cause.get(&person::micros(moment.local)).cloned().unwrap_or_default();
        let what = if is_member { "entered" } else { "left" };
        let detail = match (cause.run, &cause.reason) {
            (None, _) => format!("{what}; the log does not have the run"),
            (Some(run), _) if !is_member && !cause.lists.is_empty() => {
                let (reason, names) =
                    timeline::because_of(self.set, &self.place, self.id, moment.local, &cause)?;
                format!("{what} in run {run}, reason: {reason} ({names})")
            }
            (Some(run), Some(reason)) => {
                let freed = match is_member && reason == Reason::Data.as_str() {
                    true => timeline::freed(self.set, &self.place, self.id, moment.local)?,
                    false => None,
                };
                match freed {
                    Some((reason, list)) => {
                        format!("{what} in run {run}, reason: {reason} (has left \"{list}\")")
                    }
                    None => format!("{what} in run {run}, reason: {reason}"),
                }
            }
            (Some(run), None) => format!("{what} in run {run}"),
        };
        let detail = match cause.definition {
            Some(version) => format!("{detail}, under definition {version}"),
            None => detail,
        };
        let verdict = if is_member { "yes" } else { "no" };
        Ok(Step::new("table", verdict, detail).since(Some(moment.at)))
    }

    /// Nothing in the table. What its retention has deleted may have been a membership.
    fn no_membership(&self) -> Result<Step> {
        const NONE: &str = "the table has no membership of this id";
        let set = self.set;
        let args = [self.segment.id.into(), self.place.zone.as_str().into(), self.at.into()];
        // A retention that a hand has written may be no interval.
        let kept = in_subtransaction(OnSuccess::Rollback, || {
            set.as_owner(|| {
                Spi::connect(|client| {
                    let sql = set.sql(&queries::ops::explain::FIND_KEPT_SINCE, &[]);
                    let rows = client.select(&sql, Some(1), &args)?;
                    if rows.is_empty() {
                        return Ok(None);
                    }
                    let row = rows.first();
                    let text = |name: &str| row.get_by_name::<String, _>(name);
                    let since = text("since")?.unwrap_or_default();
                    let keep = text("keep")?.unwrap_or_default();
                    let is_before = row.get_by_name::<bool, _>("is_before")?.unwrap_or_default();
                    Ok::<_, Error>(Some((since, keep, is_before)))
                })
            })
        });
        Ok(match kept.ok().flatten() {
            Some((since, keep, is_before)) => {
                let verdict = if is_before { "unknown" } else { "no" };
                let detail = format!(
                    "{NONE}; one that ended before {since} is not kept (retention: {keep})"
                );
                Step::new("table", verdict, detail)
            }
            None => Step::new("table", "no", NONE),
        })
    }

    /// How the last attempt to refresh the segment ended.
    fn refresh(&self) -> Result<Step> {
        let set = self.set;
        let found = set.as_owner(|| {
            Spi::connect(|client| {
                let row = match self.at {
                    None => {
                        let sql = set.sql(&queries::ops::explain::FIND_REFRESH, &[]);
                        client.select(&sql, Some(1), &[self.segment.id.into()])?
                    }
                    Some(at) => {
                        let sql = set.sql(&queries::ops::explain::FIND_REFRESH_AT, &[]);
                        client.select(&sql, Some(1), &[self.segment.id.into(), at.into()])?
                    }
                };
                if row.is_empty() {
                    return Ok(None);
                }
                let row = row.first();
                let status: Option<String> = row.get_by_name("status")?;
                let since: Option<TimestampWithTimeZone> = row.get_by_name("since")?;
                let detail: Option<String> = row.get_by_name("detail")?;
                Ok::<_, Error>(Some((status, since, detail)))
            })
        })?;
        Ok(match found {
            Some((status, since, detail)) => {
                Step { step: "refresh", verdict: status.unwrap_or_default(), since, detail }
            }
            None => Step::new("refresh", "unknown", "the log has no refresh until then"),
        })
    }

    /// What members of lists are compared with: the hashes that the query gives, or that the table has.
    fn identity(&self, given: &Result<Option<Given>>, lists: &[Listed]) -> Result<Identity> {
        let mut who = Identity { id: self.id.to_owned(), ..Identity::default() };
        if !lists.iter().any(Listed::is_by_hashes) {
            return Ok(who);
        }
        let given = given.as_ref().ok().and_then(Option::as_ref);
        let given = given.map(|given| given.hashes.clone()).unwrap_or_default();
        let kept = self.place.hashes(self.set, self.id, self.local)?;
        for (column, value) in
            [(MatchColumn::HashEmail, &mut who.email), (MatchColumn::HashPhone, &mut who.phone)]
        {
            match given.iter().chain(&kept).find(|(of, _)| *of == column) {
                Some((_, hash)) => value.clone_from(hash),
                None => who.unknown.push(column),
            }
        }
        Ok(who)
    }

    /// Whether the query gives the id now.
    fn query(&self, given: Result<Option<Given>>) -> Step {
        if self.at.is_some() {
            return Step::new("query", "unknown", ONLY_NOW);
        }
        match given {
            Err(error) => Step::new("query", "failed", error.report().to_line()),
            Ok(None) => {
                let why = match self.segment.refresher {
                    Some(_) => "a procedure cannot be asked for one person",
                    None => "the segment has no refresher",
                };
                Step::new("query", "unknown", why)
            }
            Ok(Some(Given { rows: 0, .. })) => {
                Step::new("query", "without", "the query, run now, does not give the id")
            }
            Ok(Some(Given { rows: 1, .. })) => {
                Step::new("query", "once", "the query, run now, gives the id")
            }
            Ok(Some(Given { rows, .. })) => Step::new(
                "query",
                "twice",
                format!("the query, run now, gives the id {rows} times, so a refresh fails"),
            ),
        }
    }

    /// Whether lists have the person: since when is shown of those that the caller may read.
    fn lists(&self, step: &'static str, lists: &[Listed], who: &Identity) -> Step {
        if lists.is_empty() {
            let none = match step {
                "priority" => "no segment comes before it in a priority group",
                _ => "it leaves out the members of no other segment",
            };
            return Step::new(step, "no", none);
        }
        let (mut names, mut first, mut unclear) = (Vec::new(), None, Vec::new());
        let then = if self.at.is_some() { " at that time" } else { "" };
        for listed in lists {
            let name = format!("\"{}\"", listed.list.name);
            let found = in_subtransaction(OnSuccess::Rollback, || {
                listed.since(self.set, who, (self.local, None))
            });
            match found {
                Ok(None) => match listed.unknown_of(who).as_slice() {
                    [] => {}
                    columns => unclear.push(format!(
                        "{name} compares by {}, not known of the person{then}",
                        columns.join(" and ")
                    )),
                },
                Ok(Some(since)) => {
                    let is_earlier =
                        |earlier: TimestampWithTimeZone| i64::from(since) < i64::from(earlier);
                    let may_read = listed.may_be_read(self.set).unwrap_or_default();
                    if may_read && first.is_none_or(is_earlier) {
                        first = Some(since);
                    }
                    names.push(name);
                }
                Err(error) => unclear.push(format!("{name}: {}", error.report().message)),
            }
        }
        match (names.as_slice(), unclear.as_slice()) {
            ([], []) => Step::new(step, "no", "no list has the person"),
            ([], unclear) => Step::new(step, "unknown", unclear.join("; ")),
            (names, _) => Step::new(step, "yes", format!("by {}", names.join(", "))).since(first),
        }
    }

    /// Whether the person is in each segment that it reads.
    fn reads(&self) -> Result<Vec<Step>> {
        let set = self.set;
        let names: Vec<String> = set.as_owner(|| {
            Spi::connect(|client| {
                let sql = set.sql(&queries::ops::explain::LIST_READS, &[]);
                let rows = client.select(&sql, None, &[self.segment.id.into()])?;
                let name = |row: SpiHeapTupleData<'_>| row.get_by_name::<String, _>("name");
                let names: Vec<Option<String>> =
                    rows.map(name).collect::<std::result::Result<_, _>>()?;
                Ok::<_, Error>(names.into_iter().flatten().collect())
            })
        })?;
        let mut steps = Vec::new();
        for name in names {
            let Some(place) = person::known(set, &name)? else {
                steps.push(Step::new("reads", "unknown", "a segment that you may not see"));
                continue;
            };
            let found = in_subtransaction(OnSuccess::Rollback, || self.moments(&place));
            steps.push(match found {
                Err(error) => {
                    let problem = error.report().message;
                    Step::new("reads", "unknown", format!("{name}: {problem}"))
                }
                Ok(moments) => match moments.last() {
                    Some(last) if last.change != Change::Exited => {
                        let entered = moments.iter().rev().find(|it| it.change == Change::Entered);
                        Step::new("reads", "yes", name).since(entered.map(|moment| moment.at))
                    }
                    last => Step::new("reads", "no", name).since(last.map(|moment| moment.at)),
                },
            });
        }
        Ok(steps)
    }

    /// Whether a captured change of the person waits for the next refresh.
    fn captured(&self) -> Result<Step> {
        if self.at.is_some() {
            return Ok(Step::new("captured", "unknown", ONLY_NOW));
        }
        Ok(match ask::captured(self.set, &self.segment, self.id) {
            Ok(Captured::Unwatched) => Step::new("captured", "no", "the segment watches no table"),
            Ok(Captured::All) => {
                Step::new("captured", "unknown", "the next refresh compares all ids")
            }
            Ok(Captured::Waiting) => {
                Step::new("captured", "yes", "a captured change waits for the next refresh")
            }
            Ok(Captured::Nothing) => Step::new("captured", "no", "no captured change waits"),
            Err(error) => Step::new("captured", "unknown", error.report().message),
        })
    }

    /// What was handed over last, for each subscription.
    fn delivered(&self) -> Result<Vec<Step>> {
        let set = self.set;
        let moments = self.moments(&self.place)?;
        let is_member = moments.last().is_some_and(|moment| moment.change != Change::Exited);
        let rows: Vec<Delivery> = set.as_owner(|| {
            Spi::connect(|client| {
                let sql = set.sql(&queries::ops::explain::LIST_DELIVERIES, &[]);
                let args = [self.segment.id.into(), self.at.into()];
                let rows = client.select(&sql, None, &args)?;
                rows.map(|row| Delivery::read(&row)).collect::<Result<_>>()
            })
        })?;
        rows.into_iter().map(|delivery| self.delivery(delivery, is_member)).collect()
    }

    fn delivery(&self, delivery: Delivery, is_member: bool) -> Result<Step> {
        let to = format!("\"{}\" for \"{}\"", delivery.consumer, delivery.target);
        let last = match (&delivery.operations, delivery.run) {
            (Some(operations), Some(run)) => {
                format!("last handed over: {operations}, in run {run}")
            }
            _ => "the log has no hand-over".to_owned(),
        };
        if self.at.is_some() {
            let verdict = match (&delivery.operations, is_member) {
                (None, _) => "unknown",
                (Some(_), true) => "yes",
                (Some(_), false) => "no",
            };
            let step = Step::new("delivered", verdict, format!("{to}: {last}"));
            return Ok(step.since(delivery.handed_at));
        }
        if let Some(error) = &delivery.error {
            let detail = format!("{to}: the last hand-over failed: {error}");
            return Ok(Step::new("delivered", "failed", detail).since(delivery.handed_at));
        }
        if let Some(held) = &delivery.held {
            let detail = format!("{to}: changes are held back: {held}; {last}");
            return Ok(Step::new("delivered", "held", detail).since(delivery.handed_at));
        }
        if !delivery.has_audience {
            return Ok(Step::new("delivered", "no", format!("{to}: nothing was handed over")));
        }
        if delivery.waiting > 0 {
            let waiting = match delivery.waiting {
                1 => "1 message waits".to_owned(),
                many => format!("{many} messages wait"),
            };
            let detail = format!("{to}: {waiting}; {last}");
            return Ok(Step::new("delivered", "waiting", detail).since(delivery.handed_at));
        }
        let is_selected = match (&delivery.condition, is_member) {
            (Some(condition), true) => self.is_selected(condition, &delivery.target)?,
            _ => true,
        };
        let (verdict, detail) = match (is_member, is_selected) {
            (true, true) => ("yes", format!("{to}: {last}")),
            (true, false) => ("no", format!("{to}: its condition leaves the person out; {last}")),
            (false, _) => ("no", format!("{to}: {last}")),
        };
        Ok(Step::new("delivered", verdict, detail).since(delivery.delivered_at))
    }

    /// Whether the condition of a subscription holds for the member.
    fn is_selected(&self, condition: &str, target: &str) -> Result<bool> {
        let (set, segment) = (self.set, &self.segment);
        let table = Table::check(set, segment.table, segment.holder())?;
        let of = (&table, segment.owner);
        let selected = in_subtransaction(OnSuccess::Rollback, || {
            let filter = Filter::analyse(set, of, condition, Subject::Subscription(target))?;
            filter.has_member(set, of, segment.id, self.id)
        });
        Ok(selected.unwrap_or(true))
    }
}

/// What is known of a subscription.
struct Delivery {
    consumer: String,
    target: String,
    has_audience: bool,
    handed_at: Option<TimestampWithTimeZone>,
    operations: Option<String>,
    run: Option<Uuid>,
    waiting: i64,
    delivered_at: Option<TimestampWithTimeZone>,
    error: Option<String>,
    condition: Option<String>,
    held: Option<String>,
}

impl Delivery {
    fn read(row: &SpiHeapTupleData<'_>) -> Result<Self> {
        let text = |column: &str| Ok::<_, Error>(row.get_by_name::<String, _>(column)?);
        Ok(Self {
            consumer: text("consumer")?.unwrap_or_default(),
            target: text("target")?.unwrap_or_default(),
            has_audience: row.get_by_name("has_audience")?.unwrap_or_default(),
            handed_at: row.get_by_name("handed_at")?,
            operations: text("operations")?.filter(|operations| !operations.is_empty()),
            run: row.get_by_name("run_id")?,
            waiting: row.get_by_name("waiting")?.unwrap_or_default(),
            delivered_at: row.get_by_name("delivered_at")?,
            error: text("error")?,
            condition: text("condition")?,
            held: text("held")?,
        })
    }
}
