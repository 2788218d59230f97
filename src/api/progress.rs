//! The SQL functions for refreshes that are going on.

use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::require_arg;
use crate::catalog::relation_set::RelationSet;
use crate::ops::{cancel, progress};

/// The refreshes and deliveries that are going on, of segments that the caller may see: the rows of the view
/// `segmenter_progress`.
///
/// Returns no rows where the library is not in `shared_preload_libraries`.
///
/// ```sql
/// select pid, segment, phase, rows_received from segmenter_progress;
/// ```
#[pg_extern(volatile)]
#[allow(clippy::type_complexity)]
fn segmenter_list_progress() -> Result<
    TableIterator<
        'static,
        (
            name!(pid, i32),
            name!(segment, String),
            name!(phase, &'static str),
            name!(rows_received, i64),
            name!(rows_before, i64),
            name!(rows_written, i64),
            name!(messages_written, i64),
            name!(started_at, TimestampWithTimeZone),
            name!(phase_started_at, TimestampWithTimeZone),
            name!(estimated_fraction, Option<f64>),
        ),
    >,
    ErrorReport,
> {
    let rows = progress::list(&RelationSet::current()?)?;
    let count = |figure: u64| figure as i64;
    Ok(TableIterator::new(rows.into_iter().map(move |(segment, shown)| {
        (
            shown.pid,
            segment,
            shown.phase.as_str(),
            count(shown.received),
            count(shown.before),
            count(shown.written),
            count(shown.messages),
            shown.started_at,
            shown.phase_started_at,
            shown.fraction,
        )
    })))
}

/// Ends a refresh of a segment that another process is making, as pg_cancel_backend() does: with it ends the
/// statement that makes it, such as a run of many segments. A refresh by a worker is logged as `interrupted`,
/// and comes again by the segment's schedule.
///
/// - `name`: the segment.
/// - `hold`: how long automatic refreshes of it rest from now on, as `hold_until` of segmenter_segments says
///   then; null: as long as before.
///
/// Returns whether there was a refresh. With `hold`, nothing need be going on. The caller must be a member of
/// the segment's owner, and have the right to cancel the process: a refresh that a role makes which the caller
/// is no member of is an error, and the segment is not held.
///
/// ```sql
/// select segmenter_cancel('vip', hold => '2 hours');
/// ```
#[pg_extern]
fn segmenter_cancel(
    name: Option<&str>,
    hold: default!(Option<Interval>, "NULL"),
) -> Result<bool, ErrorReport> {
    let name = require_arg("name", name)?;
    Ok(cancel::cancel(&RelationSet::writable()?, name, hold)?)
}
