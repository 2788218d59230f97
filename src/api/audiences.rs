//! The SQL functions for what is in target systems.

use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::require_arg;
use crate::catalog::relation_set::RelationSet;
use crate::catalog::viewer::Viewer;
use crate::delivery::audiences::{self, Audience};
use crate::pg::format::json::JsonbText;

/// Records which audiences a consumer has in its target systems, in place of what was reported before.
/// The caller must be a member of the consumer's role.
///
/// - `consumer`: the name of the consumer.
/// - `audiences`: a list of objects: `external_id`, and where they are known `name`, `target`, `size` (the
///   number of members), `match_rate` (a share from 0 to 1) and `status`.
///
/// Returns the number of audiences. A subscription with `max_drift` and `heal` whose audience differs by
/// more than that gets all members at the next run.
///
/// ```sql
/// select segmenter_report_audiences('crm', '[{"external_id": "8812", "size": 1203}]');
/// ```
#[pg_extern]
fn segmenter_report_audiences(
    consumer: Option<&str>,
    audiences: Option<JsonbText>,
) -> Result<i64, ErrorReport> {
    let consumer = require_arg("consumer", consumer)?;
    let audiences = require_arg("audiences", audiences)?;
    Ok(audiences::report(&RelationSet::writable()?, consumer, &audiences)? as i64)
}

/// The audiences of the segments and consumers that the caller may see, compared with what the consumers
/// have reported: the rows of the view `segmenter_audiences`.
///
/// ```sql
/// select * from segmenter_audiences where state = 'missing';
/// ```
#[pg_extern(stable)]
#[allow(clippy::type_complexity)]
fn segmenter_list_audiences() -> Result<
    TableIterator<
        'static,
        (
            name!(consumer, String),
            name!(target, Option<String>),
            name!(audience, Option<String>),
            name!(external_id, Option<String>),
            name!(state, String),
            name!(members, Option<i64>),
            name!(size, Option<i64>),
            name!(match_rate, Option<AnyNumeric>),
            name!(drift, Option<AnyNumeric>),
            name!(reported_at, Option<TimestampWithTimeZone>),
        ),
    >,
    ErrorReport,
> {
    let set = RelationSet::current()?;
    // What consumers answer is not for roles that only monitor.
    let viewer = Viewer::current(&set);
    let viewer = Viewer { sees_figures: !viewer.is_limited, ..viewer };
    let rows = audiences::list(&set, viewer)?;
    Ok(TableIterator::new(rows.into_iter().map(|row| {
        let Audience { consumer, target, audience, external_id, state, members, .. } = row;
        let Audience { size, match_rate, drift, reported_at, .. } = row;
        (
            consumer,
            target,
            audience,
            external_id,
            state,
            members,
            size,
            match_rate,
            drift,
            reported_at,
        )
    })))
}
