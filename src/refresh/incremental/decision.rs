//! The decision between a full and an incremental pass.

use std::collections::{BTreeMap, BTreeSet};

use pgrx::prelude::*;
use serde_json::json;

use super::capture::{self, Captured};
use super::checkpoint::{Checkpoint, last_checkpoint};
use super::pass::{Expired, Given, Plan};
use super::readings::Readings;
use super::watermark;
use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::config::segment_table::Table;
use crate::config::{self, Incremental, Refresher, Segment, Subject};
use crate::error::Result;
use crate::pg::bgw::activity;
use crate::pg::clock::{self, Instant};
use crate::pg::system_catalog;
use crate::refresh::delta;
use crate::refresh::reads::Reads;
use segmenter_core::tables_read;

/// The watermark, determined before the snapshot of a refresh is taken, or why there is none.
pub struct WatermarkCandidate(Option<std::result::Result<Instant, &'static str>>);

impl WatermarkCandidate {
    /// Determines the watermark if the segment's refresher needs one. Must be called before the
    /// snapshot is taken.
    pub fn of(set: &RelationSet, segment: &Segment) -> Result<Self> {
        match &segment.refresher {
            Some(Refresher::Incremental(Incremental { changed: Some(_), .. })) => {
                Ok(Self(Some(watermark::take(set)?)))
            }
            _ => Ok(Self::none()),
        }
    }

    /// One that was determined before.
    pub(super) fn at(watermark: Instant) -> Self {
        Self(Some(Ok(watermark)))
    }

    /// There is none, for this reason.
    pub(super) fn missing(why: &'static str) -> Self {
        Self(Some(Err(why)))
    }

    /// For a refresh that needs no watermark.
    pub fn none() -> Self {
        Self(None)
    }
}

/// Why a full pass is made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum FullPassReason {
    Requested,
    Scheduled,
    /// An incremental pass is impossible, for this reason.
    Required(&'static str),
}

impl FullPassReason {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            FullPassReason::Requested => "it was asked for",
            FullPassReason::Scheduled => "full_cron",
            FullPassReason::Required(reason) => reason,
        }
    }
}
/// Decides between a full and an incremental pass, as the active snapshot sees the segment. `reads`: what
/// its queries read; if its tables are not known, they cannot be analysed, which fails the refresh when
/// they are run. `now` is the time of the refresh; `full` requests a full pass; `is_freed`: members may return
/// that lists of the segment have lost, whose ids are not among the changed ones; so may
/// people who were kept out, after as many `readmissions`.
pub fn plan<'a>(
    set: &RelationSet,
    (segment, table): (&Segment, &Table),
    refresher: &Incremental,
    reads: &Reads,
    beginning: &WatermarkCandidate,
    (now, full, (is_freed, readmissions)): (Instant, bool, (bool, i64)),
    readings: Option<&'a Readings>,
) -> Result<Plan<'a>> {
    let (last, before) = last_checkpoint(set, segment.id)?;
    let position = last.as_ref().and_then(|last| last.captured.as_ref());
    let captured = match &refresher.watch {
        Some(watched) => Some(capture::read_captured(set, segment.owner, watched, position)?),
        None => None,
    };
    let definitions = hash_definitions(set, reads)?;
    let reads = reads.tables.as_ref().map(|read| names_of(read, captured.as_ref()));
    let next = Checkpoint {
        refresher: json!(segment.refresher),
        cluster: activity::cluster(),
        table: table.oid.to_u32(),
        owner: segment.owner.to_u32(),
        at: Some(now.min(clock::transaction_start())),
        full_at: now,
        missed: None,
        watermark: None,
        captured,
        reads,
        definitions,
        readmissions,
    };

    let since = last.filter(|last| last.is_continued_by(&next));
    let is_due = |since: &Checkpoint| -> Result<bool> {
        let Some(schedule) = refresher.full_schedule() else { return Ok(false) };
        let zone = segment.timezone.as_deref().unwrap_or(set.timezone());
        let zone =
            config::timezone("refresh_timezone", Some(zone), Subject::Segment(&segment.name))?;
        let next = zone.and_then(|zone| schedule.next_after(since.full_at, zone));
        Ok(next.is_some_and(|next| next <= now))
    };
    let read_before = since.as_ref().and_then(|since| since.reads.as_ref());
    let replaced = read_before
        .zip(next.reads.as_ref())
        .and_then(|(then, now)| tables_read::replaced(then, now));
    let obstacle = match &since {
        None => Some("there is no checkpoint to continue from"),
        // Changes that were made since, by the right clock, would not be looked at.
        Some(since) if since.is_ahead(now) => Some("the last refresh lies in the future"),
        Some(since) if refresher.changed.is_some() && since.watermark.is_none() => {
            Some("the last refresh left no watermark")
        }
        Some(_) if replaced.is_some() => Some("the queries read other tables than before"),
        // (A checkpoint without tables is one of an earlier version, or of queries that were not analysed.)
        Some(since) if since.reads.is_some() && since.definitions != next.definitions => Some(
            "views, functions or policies that the queries go by are defined otherwise than before",
        ),
        Some(_) if is_freed => Some("segments whose members it leaves out have lost some"),
        Some(since) if since.readmissions != readmissions => {
            Some("people who were kept out were readmitted")
        }
        Some(since) => match (&since.captured, &next.captured) {
            (Some(before), Some(now)) => capture::full_pass_reason(set, before, now)?,
            _ => None,
        },
    };
    let full = match (&since, obstacle) {
        (_, Some(obstacle)) => Some(FullPassReason::Required(obstacle)),
        _ if full => Some(FullPassReason::Requested),
        (Some(since), None) if is_due(since)? => Some(FullPassReason::Scheduled),
        _ if before.is_none_or(|before| before > 0)
            && !delta::has_members(set, table, segment.id)? =>
        {
            Some(FullPassReason::Required("the segment's table was emptied"))
        }
        _ => None,
    };

    let remarks = replaced.map(|what| format!("{what}: all ids were compared"));
    let mut plan = Plan {
        refresher: refresher.clone(),
        now,
        since,
        full,
        before,
        next,
        kept: None,
        expired: Expired::default(),
        remarks: remarks.into_iter().collect(),
        given: None,
        readings,
    };
    match beginning.0 {
        Some(Ok(watermark)) => plan.next.watermark = Some(watermark),
        Some(Err(why)) => {
            plan.next.watermark = plan.since.as_ref().and_then(|since| since.watermark);
            plan.kept = Some(why);
        }
        None => {}
    }
    if let (None, Some(since)) = (plan.full, &plan.since) {
        (plan.next.full_at, plan.next.missed) = (since.full_at, since.missed);
    }
    Ok(plan)
}

/// The plan of a segment whose family has read its rows, by the plan of the family; none: the segment must read by
/// itself, because it has not got as far as the family had, or more than that has changed for it.
pub fn plan_of_member<'a>(
    set: &RelationSet,
    (segment, table): (&Segment, &Table),
    refresher: &Incremental,
    (of_family, given): (&Plan<'_>, Given<'a>),
    (is_freed, readmissions): (bool, i64),
) -> Result<Option<Plan<'a>>> {
    let (last, before) = last_checkpoint(set, segment.id)?;
    let mut next = of_family.next.clone();
    next.refresher = json!(segment.refresher);
    let is_continued = || -> Result<bool> {
        let Some((last, since)) = last.as_ref().zip(of_family.since.as_ref()) else {
            return Ok(false);
        };
        let is_as_far = last.refresher == next.refresher && last.is_as_far_as(since);
        let has_lost = before.is_none_or(|before| before > 0);
        Ok(is_as_far
            && !is_freed
            && last.readmissions == readmissions
            && (!has_lost || delta::has_members(set, table, segment.id)?))
    };
    if of_family.full.is_none() {
        if !is_continued()? {
            return Ok(None);
        }
        if let Some(last) = &last {
            (next.full_at, next.missed) = (last.full_at, last.missed);
        }
    }
    let refresher = refresher.clone();
    let remarks = Vec::new();
    Ok(Some(Plan {
        refresher,
        now: of_family.now,
        since: of_family.since.clone(),
        full: of_family.full,
        before,
        next,
        kept: of_family.kept,
        expired: of_family.expired,
        remarks,
        given: Some(given),
        readings: None,
    }))
}

/// A hash of the definitions of what the queries read; none: there are none but tables without row-level
/// security.
fn hash_definitions(set: &RelationSet, reads: &Reads) -> Result<Option<String>> {
    let own = |oid: &pg_sys::Oid| oid.to_u32() >= pg_sys::FirstNormalObjectId;
    let functions = reads.edges.iter().map(|(object, _)| object);
    let functions = functions.filter(|object| object.is_function()).map(|object| object.oid());
    let functions: Vec<pg_sys::Oid> = functions.filter(own).collect();
    let args = [reads.relations().into(), functions.into()];
    set.as_owner(|| {
        let sql = queries::refresh::incremental::HASH_DEFINITIONS.kept();
        Spi::connect(|client| Ok(client.select(sql, Some(1), &args)?.first().get_one()?))
    })
}

/// The tables that the queries read, and those that are watched, by name.
fn names_of(read: &BTreeSet<u32>, captured: Option<&Captured>) -> BTreeMap<String, u32> {
    let watched = captured.into_iter().flat_map(Captured::tables);
    let named = |oid| Some((system_catalog::qualified_name(pg_sys::Oid::from(oid))?, oid));
    read.iter().copied().chain(watched).filter_map(named).collect()
}
