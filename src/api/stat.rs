//! The SQL functions of cumulative figures.

use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::catalog::relation_set::RelationSet;
use crate::catalog::viewer::Viewer;
use crate::ops::metrics;
use crate::ops::stat::{self, SegmentStat, SubscriptionStat};

/// The cumulative figures of the segments whose figures the caller may see: the rows of the view
/// `segmenter_stat`.
///
/// ```sql
/// select segment, ok, failed, mean_elapsed, staleness from segmenter_stat;
/// ```
#[pg_extern(stable)]
#[allow(clippy::type_complexity)]
fn segmenter_list_stat() -> Result<
    TableIterator<
        'static,
        (
            name!(segment, String),
            name!(ok, i64),
            name!(failed, i64),
            name!(refused, i64),
            name!(waiting, i64),
            name!(skipped, i64),
            name!(rows_received, i64),
            name!(added, i64),
            name!(removed, i64),
            name!(changed, i64),
            name!(excluded, i64),
            name!(total_elapsed, Interval),
            name!(mean_elapsed, Option<Interval>),
            name!(last_elapsed, Option<Interval>),
            name!(messages_written, i64),
            name!(failures_in_a_row, i64),
            name!(staleness, Option<Interval>),
            name!(stats_reset, Option<TimestampWithTimeZone>),
        ),
    >,
    ErrorReport,
> {
    let set = RelationSet::current()?;
    let rows = stat::segments(&set, Viewer::current(&set).reader())?;
    Ok(TableIterator::new(rows.into_iter().map(|row| {
        let SegmentStat { segment, refreshes, rows_received, added, removed, changed, .. } = row;
        let [ok, failed, refused, waiting, skipped] = refreshes;
        (
            segment,
            ok,
            failed,
            refused,
            waiting,
            skipped,
            rows_received,
            added,
            removed,
            changed,
            row.excluded,
            row.total_elapsed,
            row.mean_elapsed,
            row.last_elapsed,
            row.messages_written,
            row.failures_in_a_row,
            row.staleness,
            row.stats_reset,
        )
    })))
}

/// The cumulative figures of the subscriptions whose figures the caller may see: the rows of the view
/// `segmenter_stat_subscriptions`.
///
/// ```sql
/// select consumer, segment, target, attempts, failed, lag from segmenter_stat_subscriptions;
/// ```
#[pg_extern(stable)]
#[allow(clippy::type_complexity)]
fn segmenter_list_stat_subscriptions() -> Result<
    TableIterator<
        'static,
        (
            name!(consumer, String),
            name!(segment, String),
            name!(target, String),
            name!(messages_written, i64),
            name!(messages_delivered, i64),
            name!(members_handed_over, i64),
            name!(attempts, i64),
            name!(failed, i64),
            name!(failures_in_a_row, i64),
            name!(lag, Option<Interval>),
            name!(stats_reset, Option<TimestampWithTimeZone>),
        ),
    >,
    ErrorReport,
> {
    let set = RelationSet::current()?;
    let rows = stat::subscriptions(&set, Viewer::current(&set).reader())?;
    Ok(TableIterator::new(rows.into_iter().map(|row| {
        let SubscriptionStat { consumer, segment, target, .. } = row;
        (
            consumer,
            segment,
            target,
            row.messages_written,
            row.messages_delivered,
            row.members_handed_over,
            row.attempts,
            row.failed,
            row.failures_in_a_row,
            row.lag,
            row.stats_reset,
        )
    })))
}

/// Sets the figures of `segmenter_stat` and `segmenter_stat_subscriptions` to 0.
///
/// - `name`: the segment, whose owner the caller must be a member of; its subscriptions are reset with it.
///   Null: all segments whose owner the caller is a member of.
///
/// What is no sum goes on: `failures_in_a_row`, `staleness` and `lag`. Nothing waits for it, and it waits
/// for nothing: what a refresh or a delivery adds that is going on counts after it.
///
/// ```sql
/// select segmenter_stat_reset('vip');
/// ```
#[pg_extern]
fn segmenter_stat_reset(name: default!(Option<&str>, "NULL")) -> Result<(), ErrorReport> {
    Ok(stat::reset(&RelationSet::writable()?, name)?)
}

/// The figures of segments and subscriptions in the text format of Prometheus.
///
/// Returns the figures that `segmenter_stat` and `segmenter_stat_subscriptions` show to the caller, and how
/// many members segments have and for how long they have been due. Only the first
/// `segmenter.metrics_segments` segments, by name, have series of their own. The others are summed up as the
/// segment `""`.
///
/// ```sql
/// select segmenter_metrics();
/// ```
#[pg_extern(stable)]
fn segmenter_metrics() -> Result<String, ErrorReport> {
    Ok(metrics::text(&RelationSet::current()?)?)
}
