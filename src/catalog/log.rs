//! The log of a relation set: entries for refreshes, hand-overs, deliveries and erasures.

use std::time::Duration;

use pgrx::JsonB;
use pgrx::datum::{Interval, Uuid};
use pgrx::prelude::*;
use serde_json::Value;

use crate::catalog::definitions;
use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::catalog::sequence;
use crate::catalog::settings;
use crate::error::{Error, Report, Result};
use crate::pg::bgw::process;
use crate::pg::clock::{self, Instant};
use crate::pg::exec::statement::read_one;
use crate::pg::exec::subtransaction::unless_superseded;
use segmenter_core::guards::DeltaStats;
use segmenter_core::reason::Reason;
use segmenter_core::text::{cut, cut_value};
use segmenter_core::unusual::Refreshed;

/// The status of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogStatus {
    Running,
    Ok,
    Skipped,
    Waiting,
    Refused,
    Failed,
    Interrupted,
}

impl LogStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            LogStatus::Running => "running",
            LogStatus::Ok => "ok",
            LogStatus::Skipped => "skipped",
            LogStatus::Waiting => "waiting",
            LogStatus::Refused => "refused",
            LogStatus::Failed => "failed",
            LogStatus::Interrupted => "interrupted",
        }
    }
}

/// The action that an entry reports.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Refresh,
    /// Members were removed, because other segments have gained them.
    Exclude,
    /// Messages were written to the outbox, or writing them failed.
    HandOver,
    /// Messages were delivered to a consumer.
    Deliver,
    Erase,
    /// A person was erased and is kept out.
    KeepOut,
    /// A person who was kept out may be added again.
    Readmit,
    /// Rows of former members were deleted, or lost their contacts.
    Prune,
}

impl Action {
    fn as_str(self) -> &'static str {
        match self {
            Action::Refresh => "refresh",
            Action::Exclude => "exclude",
            Action::HandOver => "hand over",
            Action::Deliver => "deliver",
            Action::Erase => "erase",
            Action::KeepOut => "keep out",
            Action::Readmit => "readmit",
            Action::Prune => "prune",
        }
    }
}

/// The counts of an entry; none where a count does not apply.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogCounts {
    pub received: Option<i64>,
    pub invalid: Option<i64>,
    pub added: Option<i64>,
    pub removed: Option<i64>,
    pub changed: Option<i64>,
    pub excluded: Option<i64>,
    pub coverage: Option<i64>,
}

impl From<DeltaStats> for LogCounts {
    fn from(figures: DeltaStats) -> Self {
        let count = |figure: u64| Some(figure as i64);
        Self {
            received: count(figures.received),
            invalid: count(figures.invalid),
            added: count(figures.added),
            removed: count(figures.removed),
            changed: count(figures.changed),
            excluded: count(figures.excluded),
            coverage: count(figures.coverage()),
        }
    }
}

/// An entry of the log.
pub struct Entry<'a> {
    pub run_id: Option<Uuid>,
    pub action: Action,
    pub status: LogStatus,
    /// Its id and its name. An entry about no segment has neither.
    pub segment: (Option<Uuid>, &'a str),
    /// The subscription's id and its target.
    pub subscription: Option<(Uuid, &'a str)>,
    pub counts: LogCounts,
    pub began: Instant,
    pub elapsed: Option<Duration>,
    pub message: Option<&'a str>,
    pub error: Option<&'a Report>,
    pub params: Value,
    /// Why members have changed, or were handed over; none: they have not, or it is not known.
    pub reason: Option<Reason>,
}

/// Writes an entry in the current transaction, as the set's owner. Long texts are cut: a role that may
/// write an entry must not fill the log with it.
pub fn write(set: &RelationSet, entry: Entry<'_>) -> Result<()> {
    write_refresh(set, entry, None)
}

/// Writes the entry of a refresh, which ran with this version of the segment's definition.
pub fn write_refresh(set: &RelationSet, entry: Entry<'_>, definition: Option<i32>) -> Result<()> {
    sequence::lift_log(set)?;
    let is_of_segment = !matches!(entry.action, Action::KeepOut | Action::Readmit);
    let name = is_of_segment.then_some(entry.segment.1);
    let [name, message] = [name, entry.message].map(|text| text.map(cut));
    let target = entry.subscription.map(|(_, target)| cut(target));
    let args = [
        entry.run_id.into(),
        entry.action.as_str().into(),
        entry.status.as_str().into(),
        entry.segment.0.into(),
        name.as_deref().into(),
        entry.subscription.map(|(id, _)| id).into(),
        target.as_deref().into(),
        entry.counts.received.into(),
        entry.counts.invalid.into(),
        entry.counts.added.into(),
        entry.counts.removed.into(),
        entry.counts.changed.into(),
        entry.counts.coverage.into(),
        entry.elapsed.map(interval).into(),
        message.as_deref().into(),
        entry.error.map(|report| JsonB(cut_value(report.to_json()))).into(),
        JsonB(cut_value(entry.params)).into(),
        clock::timestamp(entry.began).into(),
        entry.counts.excluded.into(),
        definition.into(),
        entry.reason.map(Reason::as_str).into(),
    ];
    set.write(&queries::catalog::log::INSERT_ENTRY, &args)
}

/// The figures of the last successful refreshes of a segment, at most `runs`.
pub fn past_figures(set: &RelationSet, segment: Uuid, runs: u32) -> Result<Vec<Refreshed>> {
    set.as_owner(|| {
        Spi::connect(|client| {
            let sql = set.sql(&queries::catalog::log::LIST_PAST_FIGURES, &[]);
            let rows = client.select(&sql, None, &[segment.into(), i64::from(runs).into()])?;
            let mut past = Vec::new();
            for row in rows {
                let figure = |name| -> Result<u64> {
                    Ok(row.get_by_name::<i64, _>(name)?.unwrap_or_default() as u64)
                };
                past.push(Refreshed {
                    members: figure("coverage")?,
                    added: figure("added")?,
                    removed: figure("removed")?,
                    changed: figure("changed")?,
                });
            }
            Ok(past)
        })
    })
}

/// The number of entries that one call deletes at most; the next call deletes the rest.
const PRUNED_AT_ONCE: i64 = 10_000;

/// Deletes entries older than `segmenter.log_retention`, and what is as old of the definitions of deleted
/// segments. Returns whether more may be left to delete.
pub fn prune(set: &RelationSet) -> Result<bool> {
    if process::is_in_recovery() {
        return Ok(false);
    }
    let Some(retention) = settings::log_retention() else { return Ok(false) };
    let Some(before) = clock::now().checked_sub_signed(retention) else { return Ok(false) };
    let args = [clock::timestamp(before).into(), PRUNED_AT_ONCE.into()];
    let more = set.as_owner(|| {
        // The search runs read-only: no transaction id is assigned where there is nothing to delete.
        let find = set.sql(&queries::catalog::log::FIND_EXPIRED, &[]);
        let old = Spi::connect(|_| read_one::<Vec<i64>>(&find, &args))?;
        let Some(old) = old else { return Ok(false) };
        let more = old.len() as i64 == PRUNED_AT_ONCE;
        let deleted = unless_superseded(|| {
            let sql = set.sql(&queries::catalog::log::DELETE_ENTRIES, &[]);
            Ok(Spi::run_with_args(&sql, &[old.into()])?)
        })?;
        Ok::<_, Error>(deleted && more)
    })?;
    let more_versions = definitions::prune(set, clock::timestamp(before))?;
    Ok(more || more_versions)
}

/// Converts a duration to an `interval`.
pub fn interval(duration: Duration) -> Interval {
    Interval::from_micros(duration.as_micros() as i64)
}
