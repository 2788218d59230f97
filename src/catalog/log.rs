//! The log of a relation set: entries for refreshes, hand-overs, deliveries and erasures.

use std::time::Duration;

use pgrx::JsonB;
use pgrx::datum::{Interval, Uuid};
use pgrx::prelude::*;
use serde_json::Value;

use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::catalog::settings;
use crate::error::{Report, Result};
use crate::pg::bgw::process;
use crate::pg::clock::{self, Instant};
use crate::pg::exec::snapshot;
use crate::pg::exec::statement;
use segmenter_core::guards::DeltaStats;

/// The status of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogStatus {
    Running,
    Ok,
    Skipped,
    Waiting,
    Refused,
    Failed,
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
        }
    }
}

/// The action that an entry reports.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Refresh,
    /// Messages were written to the outbox, or writing them failed.
    HandOver,
    /// Messages were delivered to a consumer.
    Deliver,
    Erase,
}

impl Action {
    fn as_str(self) -> &'static str {
        match self {
            Action::Refresh => "refresh",
            Action::HandOver => "hand over",
            Action::Deliver => "deliver",
            Action::Erase => "erase",
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
            coverage: count(figures.coverage()),
        }
    }
}

/// An entry of the log.
pub struct Entry<'a> {
    pub run_id: Option<Uuid>,
    pub action: Action,
    pub status: LogStatus,
    pub segment: (Option<Uuid>, &'a str),
    /// The subscription's id and its target.
    pub subscription: Option<(Uuid, &'a str)>,
    pub counts: LogCounts,
    pub began: Instant,
    pub elapsed: Option<Duration>,
    pub message: Option<&'a str>,
    pub error: Option<&'a Report>,
    pub params: Value,
}

/// Writes an entry in the current transaction, as the set's owner.
pub fn write(set: &RelationSet, entry: Entry<'_>) -> Result<()> {
    let args = [
        entry.run_id.into(),
        entry.action.as_str().into(),
        entry.status.as_str().into(),
        entry.segment.0.into(),
        entry.segment.1.into(),
        entry.subscription.map(|(id, _)| id).into(),
        entry.subscription.map(|(_, target)| target).into(),
        entry.counts.received.into(),
        entry.counts.invalid.into(),
        entry.counts.added.into(),
        entry.counts.removed.into(),
        entry.counts.changed.into(),
        entry.counts.coverage.into(),
        entry.elapsed.map(interval).into(),
        entry.message.into(),
        entry.error.map(|report| JsonB(report.to_json())).into(),
        JsonB(entry.params).into(),
        clock::timestamp(entry.began).into(),
    ];
    set.as_owner(|| {
        Ok(Spi::run_with_args(&set.sql(&queries::catalog::log::INSERT_ENTRY, &[]), &args)?)
    })
}

/// Whether the last refresh of a segment ended as `waiting`: a source is not loaded yet.
pub fn is_waiting(set: &RelationSet, segment: Uuid) -> Result<bool> {
    let last = set.as_owner(|| {
        Spi::connect(|client| {
            let row = client
                .select(
                    &set.sql(&queries::catalog::log::LAST_REFRESH_STATUS, &[]),
                    Some(1),
                    &[segment.into()],
                )?
                .first();
            if row.is_empty() { Ok(None) } else { row.get_one::<String>() }
        })
    })?;
    Ok(last.as_deref() == Some(LogStatus::Waiting.as_str()))
}

/// Logs as `interrupted` every refresh that is logged as `running` and has no later entry.
/// Refreshes of the runs in `alive` are left out; where `segment` is given, only its refreshes are
/// considered. Returns the segments' names.
pub fn interrupt(set: &RelationSet, alive: &[Uuid], segment: Option<Uuid>) -> Result<Vec<String>> {
    let args = [alive.to_vec().into(), segment.into()];
    set.as_owner(|| {
        let running = set.sql(&queries::catalog::log::FIND_UNFINISHED, &[]);
        let running = Spi::connect(|_| statement::read_one::<Vec<i64>>(&running, &args))?;
        let Some(running) = running.filter(|running| !running.is_empty()) else {
            return Ok(Vec::new());
        };
        Spi::connect_mut(|client| {
            let rows = client.update(
                &set.sql(&queries::catalog::log::INSERT_INTERRUPTED, &[]),
                None,
                &[running.into()],
            )?;
            rows.map(|row| Ok(row.get::<String>(1)?.unwrap_or_default())).collect()
        })
    })
}

/// The last status that a run has logged for a segment; none: the run has logged nothing for it.
pub fn status_of(set: &RelationSet, segment: Uuid, run: Uuid) -> Result<Option<String>> {
    let args = [segment.into(), run.into()];
    set.as_owner(|| {
        Spi::connect(|_| {
            statement::read_one(&set.sql(&queries::catalog::log::LAST_RUN_STATUS, &[]), &args)
        })
    })
}

/// The number of entries that one call deletes at most; the next call deletes the rest.
const PRUNED_AT_ONCE: i64 = 10_000;

/// Deletes entries older than `segmenter.log_retention`, except the last entry of each action and
/// status of a segment or subscription. Returns whether more entries may be left to delete.
pub fn prune(set: &RelationSet) -> Result<bool> {
    // With a kept snapshot, deleting entries that were concurrently deleted would be an error.
    if process::is_in_recovery() || snapshot::is_kept() {
        return Ok(false);
    }
    let Some(retention) = settings::log_retention() else { return Ok(false) };
    let Some(before) = clock::now().checked_sub_signed(retention) else { return Ok(false) };
    // The outbox's retention counts from the delivery, and the log says when that was: entries of
    // deliveries are kept at least as long as messages.
    let delivered =
        settings::outbox_retention().and_then(|kept| clock::now().checked_sub_signed(kept));
    let delivered = delivered.map_or(before, |delivered| delivered.min(before));
    let args = [
        clock::timestamp(before).into(),
        PRUNED_AT_ONCE.into(),
        clock::timestamp(delivered).into(),
    ];
    set.as_owner(|| {
        let old = set.sql(&queries::catalog::log::FIND_EXPIRED, &[]);
        // The search runs read-only: no transaction id is assigned where there is nothing to
        // delete.
        let old = Spi::connect(|_| statement::read_one::<Vec<i64>>(&old, &args))?;
        let Some(old) = old.filter(|old| !old.is_empty()) else { return Ok(false) };
        let more = old.len() as i64 == PRUNED_AT_ONCE;
        Spi::run_with_args(&set.sql(&queries::catalog::log::DELETE_ENTRIES, &[]), &[old.into()])?;
        Ok(more)
    })
}

/// Converts a duration to an `interval`.
pub fn interval(duration: Duration) -> Interval {
    Interval::from_micros(duration.as_micros() as i64)
}
