//! What happened to a person, in every segment that the caller may see: from the segment tables, and from the log,
//! which knows the runs and the reasons.

use pgrx::datum::{Timestamp, TimestampWithTimeZone, Uuid};
use pgrx::prelude::*;

use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::config::{Key, Segment};
use crate::error::{Error, Result};
use crate::ops::person::{self, Cause, Change, Identity, Moment, Place};
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};
use segmenter_core::reason::Reason;
use segmenter_core::text::first;

/// A row of `segmenter_timeline()`.
pub struct Event {
    pub at: TimestampWithTimeZone,
    pub event: &'static str,
    /// None: it concerns all segments of a role, or of the set.
    pub segment: Option<String>,
    pub run: Option<Uuid>,
    pub reason: Option<String>,
    pub detail: Option<String>,
}

const EXCLUDED: &str = "excluded";

/// The number of characters of a condition that are shown.
const MOST_SHOWN: usize = 200;

/// A change of the membership, and the run that has made it.
struct Made {
    run: Option<Uuid>,
    change: Change,
    /// By the refresh itself, or before it.
    by: Stage,
    reason: Option<String>,
}

/// What a run does one after the other: it removes people who are kept out, and members of lists, and then refreshes the
/// segment.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    KeptOut,
    Lists,
    Refresh,
}

impl Stage {
    fn of(reason: Option<&str>) -> Self {
        let is = |of: Reason| reason == Some(of.as_str());
        match () {
            () if is(Reason::Erased) => Stage::KeptOut,
            () if is(Reason::Exclusion) || is(Reason::Priority) => Stage::Lists,
            () => Stage::Refresh,
        }
    }
}

/// The events of a person, in order.
pub fn list(set: &RelationSet, id: &str) -> Result<Vec<Event>> {
    let mut events = Vec::new();
    for place in person::places(set, None)? {
        pgrx::check_for_interrupts!();
        events.extend(of_segment(set, &place, id)?);
    }
    for person::KeptOut { at, role } in person::kept_out(set, id, None)? {
        let of = match role {
            Some(role) => format!("the segments of role \"{role}\""),
            None => "all segments".to_owned(),
        };
        events.push(Event {
            at,
            event: "erased",
            segment: None,
            run: None,
            reason: Some(Reason::Erased.as_str().to_owned()),
            detail: Some(format!("kept out of {of}")),
        });
    }
    // Those of one time stay in the order of the segment.
    events.sort_by_key(|event: &Event| i64::from(event.at));
    Ok(events)
}

fn of_segment(set: &RelationSet, place: &Place, id: &str) -> Result<Vec<Event>> {
    let moments = place.moments(set, id)?;
    if moments.is_empty() {
        return Ok(Vec::new());
    }
    let causes = person::causes(set, place.id, &moments)?;
    let mut events = Vec::with_capacity(moments.len());
    for moment in &moments {
        let cause = causes.get(&person::micros(moment.local)).cloned().unwrap_or_default();
        events.push(event(set, place, id, moment, cause)?);
    }
    let made: Vec<Made> = events
        .iter()
        .zip(&moments)
        .map(|(event, moment)| Made {
            run: event.run,
            change: moment.change,
            by: match event.event {
                EXCLUDED => Stage::Lists,
                _ if event.reason.as_deref() == Some(Reason::Erased.as_str()) => Stage::KeptOut,
                _ => Stage::Refresh,
            },
            reason: event.reason.clone(),
        })
        .collect();
    events.extend(handed_over(set, place, &moments, &made)?);
    events.sort_by_key(|event| i64::from(event.at));
    Ok(events)
}

fn event(
    set: &RelationSet,
    place: &Place,
    id: &str,
    moment: &Moment,
    cause: Cause,
) -> Result<Event> {
    let (mut reason, mut detail) = (cause.reason.clone(), None);
    let is_excluded = moment.change == Change::Exited && !cause.lists.is_empty();
    if is_excluded {
        let (because, names) = because_of(set, place, id, moment.local, &cause)?;
        (reason, detail) = (Some(because), Some(format!("because of {names}")));
    } else if moment.change == Change::Entered
        && reason.as_deref() == Some(Reason::Data.as_str())
        && let Some((freed, list)) = freed(set, place, id, moment.local)?
    {
        (reason, detail) = (Some(freed), Some(format!("has left \"{list}\"")));
    } else if cause.may_be_clock {
        detail = Some("the same refresh has found answers that time alone has changed".to_owned());
    }
    Ok(Event {
        at: moment.at,
        event: match moment.change {
            Change::Entered => "entered",
            Change::Exited if is_excluded => EXCLUDED,
            Change::Exited => "exited",
            Change::Changed => "changed",
        },
        segment: Some(place.name.clone()),
        run: cause.run,
        reason,
        detail,
    })
}

/// The reason why a member has left because of lists, and the names of these: of those that the log names, the ones that
/// had the person then.
pub fn because_of(
    set: &RelationSet,
    place: &Place,
    id: &str,
    at: Timestamp,
    cause: &Cause,
) -> Result<(String, String)> {
    let mut had: Vec<&(String, String)> = cause.lists.iter().collect();
    if had.len() > 1 {
        let who = Identity { id: id.to_owned(), ..Identity::default() };
        let known = current_lists(set, place)?;
        let matches = |(name, _): &&(String, String)| {
            let listed = known.iter().find(|listed| listed.list.name == *name);
            listed.is_some_and(|listed| {
                let since = in_subtransaction(OnSuccess::Rollback, || {
                    listed.since(set, &who, (Some(at), None))
                });
                since.is_ok_and(|since| since.is_some())
            })
        };
        let those: Vec<_> = had.iter().copied().filter(|list| matches(list)).collect();
        if !those.is_empty() {
            had = those;
        }
    }
    let strongest = had.iter().find(|(_, reason)| reason != Reason::Priority.as_str());
    let reason = strongest.or(had.first()).map(|(_, reason)| reason.clone());
    let names: Vec<_> = had.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    Ok((reason.unwrap_or_default(), names.join(", ")))
}

/// Why a person could enter that a list had before, and the list; none: no list has let the person go since the refresh
/// before.
pub fn freed(
    set: &RelationSet,
    place: &Place,
    id: &str,
    at: Timestamp,
) -> Result<Option<(String, String)>> {
    let lists = current_lists(set, place)?;
    if lists.is_empty() {
        return Ok(None);
    }
    let Some(before) = person::previous_refresh(set, place.id, at)? else { return Ok(None) };
    let who = Identity { id: id.to_owned(), ..Identity::default() };
    for listed in lists {
        let since = in_subtransaction(OnSuccess::Rollback, || {
            listed.since(set, &who, (Some(at), Some(before)))
        });
        if since.is_ok_and(|since| since.is_some()) {
            return Ok(Some((listed.reason.as_str().into(), listed.list.name)));
        }
    }
    Ok(None)
}

fn current_lists(set: &RelationSet, place: &Place) -> Result<Vec<person::Listed>> {
    match Segment::find_bare(set, Key::Id(place.id))? {
        Some(segment) => person::lists(set, &segment),
        None => Ok(Vec::new()),
    }
}

/// What was handed over of the person: its changes, and all members while it was one of them.
fn handed_over(
    set: &RelationSet,
    place: &Place,
    moments: &[Moment],
    made: &[Made],
) -> Result<Vec<Event>> {
    set.in_zone(&place.zone, || {
        Spi::connect(|client| {
            let sql = set.sql(&queries::ops::person::LIST_HANDOVERS, &[]);
            let rows = client.select(&sql, None, &[place.id.into()])?;
            let mut events = Vec::new();
            for row in rows {
                let text = |name: &str| Ok::<_, Error>(row.get_by_name::<String, _>(name)?);
                let (Some(at), Some(local)) =
                    (row.get_by_name("at")?, row.get_by_name::<Timestamp, _>("local")?)
                else {
                    continue;
                };
                let run: Option<Uuid> = row.get_by_name("run_id")?;
                let given = text("operations")?.unwrap_or_default();
                let reason = text("reason")?;
                let stage = Stage::of(reason.as_deref());
                let in_run = made
                    .iter()
                    .rev()
                    .find(|made| run.is_some() && made.run == run && made.by == stage);
                let Some(operations) = concerns(&given, in_run, is_member(moments, local)) else {
                    continue;
                };
                let (consumer, target) =
                    (text("consumer")?.unwrap_or_default(), text("target")?.unwrap_or_default());
                let condition = match text("condition")? {
                    Some(condition) => format!(", to those with {}", first(&condition, MOST_SHOWN)),
                    None => String::new(),
                };
                events.push(Event {
                    at,
                    event: "handed over",
                    segment: Some(place.name.clone()),
                    run,
                    reason: match in_run {
                        Some(made) if operations != "replace" => made.reason.clone(),
                        _ => reason,
                    },
                    detail: Some(format!(
                        "{operations}: \"{consumer}\" for \"{target}\"{condition}"
                    )),
                });
            }
            Ok(events)
        })
    })
}

/// The operations of a hand-over that concern a person; none: it does not. `in_run`: the change of its membership
/// by the same run.
fn concerns(operations: &str, in_run: Option<&Made>, is_member: bool) -> Option<&'static str> {
    let has = |operation: &str| operations.split(", ").any(|it| it == operation);
    let last = in_run.map(|made| made.change);
    if has("delete") {
        is_member.then_some("delete")
    } else if has("events") {
        // Those who were members then, or what has happened.
        match has("create") {
            true => is_member.then_some("entered"),
            false => last.map(|last| match last {
                Change::Entered => "entered",
                Change::Exited => "exited",
                Change::Changed => "changed",
            }),
        }
    } else if operations == "create" {
        None
    } else if has("create") {
        is_member.then_some("add")
    } else if has("replace") {
        let left = (last == Some(Change::Exited)).then_some("left out of a replace");
        if is_member { Some("replace") } else { left }
    } else if has("remove") {
        last.map(|last| match last {
            Change::Entered => "add",
            Change::Exited => "remove",
            Change::Changed => "remove and add",
        })
    } else {
        None
    }
}

/// Whether a person was a member at a local time.
pub fn is_member(moments: &[Moment], at: Timestamp) -> bool {
    let last = moments.iter().rev().find(|moment| moment.local <= at);
    last.is_some_and(|moment| moment.change != Change::Exited)
}
