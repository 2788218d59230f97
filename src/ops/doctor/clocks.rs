//! Checks of clocks and time zones: recorded times that lie in the future, and zones that differ.

use std::collections::BTreeSet;

use chrono::{Offset, TimeDelta};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;

use super::findings::Findings;
use super::{rows, texts};
use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::catalog::viewer::Viewer;
use crate::error::Result;
use crate::pg::clock::{self, Instant};
use crate::pg::exec::statement;
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};
use crate::schedule::due::Item;
use segmenter_core::due::Due;
use segmenter_core::schedule::parse_zone;
use segmenter_core::text::is_same_zone;

/// Recorded times that lie in the future: a clock was ahead when they were written.
pub(super) fn clocks(found: &mut Findings, set: &RelationSet, viewer: Viewer) -> Result<()> {
    let args = [viewer.role.into(), viewer.sees_figures.into()];
    for [name, what, at] in texts(set, &queries::ops::doctor::TIMES_AHEAD, &args)? {
        let segment = format!("segment \"{name}\"");
        let at = format!("{at} {}", set.timezone());
        match what.as_str() {
            "refresh" => found.problem(
                "clock",
                format!("the last refresh of {segment} lies in the future: {at}"),
                "See whether the server's clock is right. The time counts for nothing: an automatic segment is due at once, and the next refresh records the right time.",
            ),
            "checkpoint" => found.problem(
                "clock",
                format!("the checkpoint of {segment} lies in the future: {at}"),
                "The next refresh compares all ids.",
            ),
            "members" => found.problem(
                "clock",
                format!("the last change of members of {segment} lies in the future: {at}"),
                "Members that are added before that time begin at it. Correct the times in the segment's table, then set changed_at of its row in the state to null: see the operations manual, \"A clock that was ahead\".",
            ),
            "waiting" => found.warn(
                "clock",
                format!("{segment} waits since a time that lies in the future: {at}"),
                "It is tried again every second until then.",
            ),
            _ => found.warn(
                "clock",
                format!("deliveries of {segment} have times that lie in the future: {at}"),
                "Leases and retries that were set so count for nothing: messages are delivered at once.",
            ),
        }
    }
    found.close_segments("clock", "no recorded time lies in the future");
    Ok(())
}

/// Zones of members' times that are not the present one, and zones that PostgreSQL and the schedules know
/// with different rules. Members' times and schedules go by `segmenter.timezone`. A value that was set is
/// a decision, and so is `refresh_timezone` of a segment; the default may surprise where the database has
/// another zone: `zone` is the database's, with whether ours was set.
pub(super) fn zones(
    found: &mut Findings,
    set: &RelationSet,
    (viewer, items): (Viewer, &[Item]),
    (zone, is_decided): (String, bool),
) -> Result<()> {
    if !is_decided && !is_same_zone(set.timezone(), &zone) {
        found.warn(
            "time zones",
            format!("segmenter.timezone is not set, so it is {}; the database's TimeZone is {zone}", set.timezone()),
            format!("Members' times and schedules are in it. If that is right: alter database ... set segmenter.timezone = '{}'. Otherwise set the right one before there are members.", set.timezone()),
        );
    }
    let mut in_use = BTreeSet::from([set.timezone().to_owned()]);
    let args = [viewer.role.into(), viewer.sees_figures.into()];
    for [name, recorded, ahead, schedule] in rows(set, &queries::ops::doctor::SEGMENT_ZONES, &args)?
    {
        let name = name.unwrap_or_default();
        in_use.extend(schedule);
        if let Some(recorded) = recorded.filter(|zone| !is_same_zone(zone, set.timezone())) {
            found.problem(
                "time zones",
                format!(
                    "the members' times of segment \"{name}\" are in {recorded}, but segmenter.timezone is {}",
                    set.timezone()
                ),
                format!(
                    "Set it again: alter database ... set segmenter.timezone = '{recorded}'. If the change is meant, convert the times in its table, then set timezone of its row in the state to null."
                ),
            );
        }
        if let Some(sources) = ahead {
            found.warn(
                "sources",
                format!("the newest load time of source {sources} of segment \"{name}\" lies in the future"),
                "The source counts as loaded until then, whatever is not loaded: correct the row.",
            );
        }
    }
    let now = clock::now();
    let mut times: Vec<Instant> = vec![now];
    times.extend(items.iter().filter_map(|item| item.due.and_then(Due::at)));
    times.retain(|time| *time >= now && *time < now + TimeDelta::days(366));
    times.sort_unstable();
    times.dedup();
    times.truncate(MAX_TIMES);
    for zone in in_use {
        compare_rules(found, set, &zone, &times);
    }
    let fine = format!("members' times and schedules are in {}", set.timezone());
    found.close("time zones", &fine);
    Ok(())
}

/// The number of times for which the rules of a zone are compared.
const MAX_TIMES: usize = 100;

/// Compares what PostgreSQL and the schedules know of a zone.
fn compare_rules(found: &mut Findings, set: &RelationSet, zone: &str, times: &[Instant]) {
    // A zone that schedules do not know is an error of theirs.
    let Ok(known) = parse_zone(zone) else { return };
    let stamps: Vec<TimestampWithTimeZone> = times.iter().copied().map(clock::timestamp).collect();
    let offsets = in_subtransaction(OnSuccess::Rollback, || {
        set.in_zone(zone, || {
            let sql = set.sql(&queries::ops::doctor::ZONE_OFFSETS, &[]);
            Spi::connect(|_| statement::read_one::<Vec<i32>>(&sql, &[stamps.into()]))
        })
    });
    const HINT: &str = "Schedules go by the zones that Segmenter was built with, members' times by those of PostgreSQL, which its package or the operating system's tzdata brings: update what is older.";
    let Ok(offsets) = offsets else {
        let detail = format!("PostgreSQL does not know the time zone {zone}");
        return found.problem("time zones", detail, HINT);
    };
    let offsets = offsets.unwrap_or_default();
    let differs = times.iter().zip(offsets).find(|(time, offset)| {
        time.with_timezone(&known).offset().fix().local_minus_utc() != *offset
    });
    if let Some((time, _)) = differs {
        let detail = format!(
            "PostgreSQL and the schedules know other rules of time zone {zone}: at {} they differ",
            time.format("%F %T UTC")
        );
        found.problem("time zones", detail, HINT);
    }
}
