//! What a report on segments is made of: figures and names of the segments of roles that the caller may act
//! as, from the log, the states and the outbox, and what segments have in common, as far as the caller may read
//! their members.

use std::collections::HashMap;

use pgrx::datum::{DatumWithOid, TimestampWithTimeZone, Uuid};
use pgrx::prelude::*;
use pgrx::spi::SpiHeapTupleData;

use crate::catalog::queries;
use crate::catalog::query::Query;
use crate::catalog::relation_set::RelationSet;
use crate::catalog::viewer::Viewer;
use crate::error::{Error, Result};
use crate::ops::{doctor, lineage, members};
use crate::pg::bgw::process;
use crate::pg::clock;
use crate::pg::exec::role;
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};
use crate::schedule::due;
use segmenter_core::due::Due;
use segmenter_core::report::{
    self, Bucket, Edge, Finding, LateSource, Overlap, OverlapSegment, Point, Report, Segment,
    Status, Subscription,
};

/// The longest time that a report covers, in days: ten years.
const MAX_DAYS: i32 = 3660;
/// Segments that are compared with each other, and the sum of their members.
const MAX_COMPARED: usize = 12;
const MAX_COMPARED_MEMBERS: i64 = 2_000_000;

/// Checks of the doctor whose findings the report shows in sections of their own.
const SHOWN_ELSEWHERE: [&str; 4] = ["refreshes", "deliveries", "segments", "summary"];
/// Checks whose findings end with what users' SQL or a consumer answered, which may contain data of people in it.
const QUOTING: [&str; 2] = ["retention", "audiences"];

/// A segment and what else is known of it.
struct Found {
    id: Uuid,
    segment: Segment,
    is_new: bool,
    may_read: bool,
}

/// The page on the last `days` days.
pub fn report(set: &RelationSet, days: i32) -> Result<String> {
    if !(1..=MAX_DAYS).contains(&days) {
        return Err(Error::Argument {
            name: "days",
            problem: format!("{days} is not between 1 and {MAX_DAYS}"),
            hint: "Give a number of days, which is 30 by default.",
        });
    }
    let (times, buckets): (Vec<_>, Vec<_>) = buckets(set, days)?.into_iter().unzip();
    let mut found = segments(set)?;
    let ids: Vec<Uuid> = found.iter().map(|found| found.id).collect();
    histories(set, &mut found, &times, &ids)?;
    let since = times.first().copied();
    let (_, database) = process::current_database();
    let overlap = overlap(set, &found)?;
    let report = Report {
        database,
        role: role::name(role::current()),
        made_at: made_at(set)?,
        zone: set.timezone().to_owned(),
        days,
        buckets,
        late_sources: late_sources(set, since, &ids)?,
        subscriptions: subscriptions(set, &ids)?,
        findings: findings(set)?,
        overlap,
        lineage: lineage(set)?,
        segments: found.into_iter().map(|found| found.segment).collect(),
    };
    Ok(report::render(&report))
}

/// The rows of a query on the set.
fn read<T>(
    set: &RelationSet,
    query: &Query,
    args: &[DatumWithOid<'_>],
    row: impl Fn(&SpiHeapTupleData<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    set.as_owner(|| {
        Spi::connect(|client| {
            let rows = client.select(&set.sql(query, &[]), None, args)?;
            rows.map(|found| row(&found)).collect()
        })
    })
}

fn text(row: &SpiHeapTupleData<'_>, column: &str) -> Result<String> {
    Ok(row.get_by_name::<String, _>(column)?.unwrap_or_default())
}

fn count(row: &SpiHeapTupleData<'_>, column: &str) -> Result<i64> {
    Ok(row.get_by_name::<i64, _>(column)?.unwrap_or_default())
}

fn is(row: &SpiHeapTupleData<'_>, column: &str) -> Result<bool> {
    Ok(row.get_by_name::<bool, _>(column)?.unwrap_or_default())
}

fn made_at(set: &RelationSet) -> Result<String> {
    let rows = read(set, &queries::ops::report::GET_NOW, &[], |row| text(row, "now"))?;
    Ok(rows.into_iter().next().unwrap_or_default())
}

fn buckets(set: &RelationSet, days: i32) -> Result<Vec<(TimestampWithTimeZone, Bucket)>> {
    read(set, &queries::ops::report::LIST_BUCKETS, &[days.into()], |row| {
        let begun = row.get_by_name("begun")?.ok_or(Error::MissingValue("begun"))?;
        Ok((begun, Bucket { label: text(row, "label")?, short: text(row, "short")? }))
    })
}

fn segments(set: &RelationSet) -> Result<Vec<Found>> {
    let viewer = Viewer::current(set);
    let reader = viewer.is_limited.then_some(viewer.role);
    let due: Vec<(Uuid, TimestampWithTimeZone)> = due::items(set, reader, None)?
        .into_iter()
        .filter_map(|item| Some((item.id, clock::timestamp(item.due.and_then(Due::at)?))))
        .collect();
    let (planned, times): (Vec<Uuid>, Vec<_>) = due.into_iter().unzip();
    let args = [viewer.role.into(), (!viewer.is_limited).into(), planned.into(), times.into()];
    read(set, &queries::ops::report::LIST_SEGMENTS, &args, |row| {
        let status: Option<String> = row.get_by_name("status")?;
        Ok(Found {
            id: row.get_by_name("id")?.ok_or(Error::MissingValue("id"))?,
            is_new: is(row, "is_new")?,
            may_read: is(row, "may_read")?,
            segment: Segment {
                name: text(row, "name")?,
                status: status.as_deref().and_then(Status::named),
                is_running: is(row, "is_running")?,
                reason: row.get_by_name("reason")?,
                since: row.get_by_name("since")?,
                waits_for_seconds: row.get_by_name("waits_for")?,
                next_refresh: row.get_by_name("next_refresh")?,
                members: row.get_by_name("members")?,
                members_a_week_ago: None,
                points: Vec::new(),
            },
        })
    })
}

/// Reads from the log what happened to the segments.
fn histories(
    set: &RelationSet,
    found: &mut [Found],
    buckets: &[TimestampWithTimeZone],
    ids: &[Uuid],
) -> Result<()> {
    let places: HashMap<[u8; 16], usize> =
        ids.iter().enumerate().map(|(place, id)| (*id.as_bytes(), place)).collect();
    let place = |row: &SpiHeapTupleData<'_>| -> Result<Option<usize>> {
        let id: Option<Uuid> = row.get_by_name("segment_id")?;
        Ok(id.and_then(|id| places.get(id.as_bytes()).copied()))
    };

    let args = [buckets.to_vec().into(), ids.to_vec().into()];
    let points = read(set, &queries::ops::report::LIST_REFRESHES, &args, |row| {
        let bucket: Option<i32> = row.get_by_name("bucket")?;
        let point = Point {
            bucket: bucket.and_then(|bucket| usize::try_from(bucket).ok()).unwrap_or_default(),
            members: row.get_by_name("members")?,
            before: row.get_by_name("before")?,
            came: count(row, "came")?,
            left: count(row, "departed")?,
            ok: count(row, "ok")?,
            waiting: count(row, "waiting")?,
            refused: count(row, "refused")?,
            failed: count(row, "failed")?,
            ends_waiting: is(row, "ends_waiting")?,
        };
        Ok((place(row)?, point))
    })?;
    for (place, point) in points {
        if let Some(found) = place.and_then(|place| found.get_mut(place)) {
            found.segment.points.push(point);
        }
    }

    for found in found.iter_mut().filter(|found| !found.is_new) {
        found.segment.members_a_week_ago = found.segment.members;
    }
    let args = [ids.to_vec().into()];
    let before = read(set, &queries::ops::report::LIST_WEEK_AGO, &args, |row| {
        Ok((place(row)?, row.get_by_name::<i64, _>("members")?))
    })?;
    for (place, members) in before {
        if let Some(found) =
            place.and_then(|place| found.get_mut(place)).filter(|found| !found.is_new)
        {
            found.segment.members_a_week_ago = members;
        }
    }
    Ok(())
}

fn late_sources(
    set: &RelationSet,
    since: Option<TimestampWithTimeZone>,
    ids: &[Uuid],
) -> Result<Vec<LateSource>> {
    let args = [since.into(), ids.to_vec().into()];
    read(set, &queries::ops::report::LIST_LATE_SOURCES, &args, |row| {
        Ok(LateSource {
            name: text(row, "name")?,
            segments: count(row, "segments")?,
            waits: count(row, "waits")?,
            longest_seconds: count(row, "longest")?,
            warnings: count(row, "warnings")?,
            last: text(row, "last")?,
            is_waited_for: is(row, "is_waited_for")?,
        })
    })
}

fn subscriptions(set: &RelationSet, ids: &[Uuid]) -> Result<Vec<Subscription>> {
    let args = [ids.to_vec().into()];
    read(set, &queries::ops::report::LIST_SUBSCRIPTIONS, &args, |row| {
        Ok(Subscription {
            consumer: text(row, "consumer")?,
            target: text(row, "target")?,
            segment: text(row, "segment")?,
            status: text(row, "status")?,
            waiting_messages: count(row, "messages")?,
            waiting_since: row.get_by_name("since")?,
            waiting_seconds: row.get_by_name("seconds")?,
            held: row.get_by_name("held")?,
        })
    })
}

/// What the doctor found, of the segments that the report is about.
fn findings(set: &RelationSet) -> Result<Vec<Finding>> {
    let viewer = Viewer::current(set);
    let viewer = Viewer { sees_figures: !viewer.is_limited, ..viewer };
    let found = doctor::examine(set, viewer)?.into_iter();
    let shown = found.filter(|finding| {
        finding.level != doctor::Level::Ok && !SHOWN_ELSEWHERE.contains(&finding.check)
    });
    let finding = |finding: doctor::Finding| {
        let text = match finding.detail.split_once(": ") {
            Some((own, _)) if QUOTING.contains(&finding.check) => own.to_owned(),
            _ => finding.detail,
        };
        Finding { is_problem: finding.level == doctor::Level::Problem, text }
    };
    Ok(shown.map(finding).collect())
}

/// What the largest segments have in common whose members the caller may read.
fn overlap(set: &RelationSet, found: &[Found]) -> Result<Overlap> {
    let size = |found: &Found| found.segment.members.unwrap_or_default();
    let mut with_members: Vec<&Found> = found.iter().filter(|found| size(found) > 0).collect();
    with_members.sort_by_key(|found| std::cmp::Reverse(size(found)));
    let all = with_members.len();
    with_members.retain(|found| found.may_read);
    let hidden = all - with_members.len();
    let mut room = MAX_COMPARED_MEMBERS;
    let mut names: Vec<String> = Vec::new();
    for found in &with_members {
        if names.len() < MAX_COMPARED && size(found) <= room {
            room -= size(found);
            names.push(found.segment.name.clone());
        }
    }
    let too_many = with_members.len() - names.len();
    let mut left_out = Vec::new();
    let mut leave_out = |count: usize, why| {
        if count > 0 {
            left_out.push((count as i64, why));
        }
    };
    leave_out(hidden, "the role may not read them");
    leave_out(too_many, "so many, or so large ones, are not compared here");
    let compared = in_subtransaction(OnSuccess::Commit, || members::overlaps(set, &names, None));
    let Ok(pairs) = compared else {
        leave_out(names.len(), "their tables could not be read");
        return Ok(Overlap { left_out, ..Overlap::default() });
    };
    let mut segments: Vec<OverlapSegment> =
        names.into_iter().map(|name| OverlapSegment { name, members: 0 }).collect();
    let mut common = Vec::new();
    for pair in pairs {
        let (one, other) = pair.pair;
        segments[one].members = pair.members.0;
        segments[other].members = pair.members.1;
        common.push((one, other, pair.common));
    }
    Ok(Overlap { segments, common, left_out })
}

fn lineage(set: &RelationSet) -> Result<Vec<Edge>> {
    let rows = lineage::list(set)?.into_iter();
    let edge = |row: lineage::Lineage| Edge {
        segment: row.segment,
        reads: row.reads,
        kind: row.kind,
        via: row.via,
    };
    Ok(rows.map(edge).collect())
}
