//! The SQL function for roles that monitor the server.

use pgrx::datum::{TimestampWithTimeZone, Uuid};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::require_arg;
use crate::catalog::extension::Extension;
use crate::catalog::relation_set::RelationSet;
use crate::error::{Error, SetError};
use crate::schedule::figures;

/// The figures of segments that belong to other roles, for the status view of one relation set.
///
/// - `cfg_table`: the set's mart.
///
/// Returns rows to members of `pg_monitor` only, about the segments that policies hide from them.
///
/// ```sql
/// select name, last_status, coverage from segmenter_figures_in('segmenter');
/// ```
#[pg_extern(sql = "
create function segmenter_figures_in(cfg_table regclass)
returns table (
    id uuid, name text, table_name regclass, refresh_auto boolean, refresh_cron text,
    last_refresh timestamptz, last_status text, next_refresh timestamptz,
    coverage bigint, added bigint, removed bigint, changed bigint,
    update_consumer text, update_target text, update_name text, update_cron text, update_status text,
    pending_messages bigint, last_delivery timestamptz, excluded bigint,
    subscription_id uuid, hold_until timestamptz
)
stable language c as 'MODULE_PATHNAME', '@FUNCTION_NAME@';
")]
#[allow(clippy::type_complexity)]
fn segmenter_figures_in(
    cfg_table: Option<pg_sys::Oid>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(id, Uuid),
            name!(name, String),
            name!(table_name, pg_sys::Oid),
            name!(refresh_auto, bool),
            name!(refresh_cron, Option<String>),
            name!(last_refresh, Option<TimestampWithTimeZone>),
            name!(last_status, Option<String>),
            name!(next_refresh, Option<TimestampWithTimeZone>),
            name!(coverage, Option<i64>),
            name!(added, Option<i64>),
            name!(removed, Option<i64>),
            name!(changed, Option<i64>),
            name!(update_consumer, Option<String>),
            name!(update_target, Option<String>),
            name!(update_name, Option<String>),
            name!(update_cron, Option<String>),
            name!(update_status, Option<String>),
            name!(pending_messages, Option<i64>),
            name!(last_delivery, Option<TimestampWithTimeZone>),
            name!(excluded, Option<i64>),
            name!(subscription_id, Option<Uuid>),
            name!(hold_until, Option<TimestampWithTimeZone>),
        ),
    >,
    ErrorReport,
> {
    let mart = require_arg("cfg_table", cfg_table)?;
    let set = RelationSet::of_mart(Extension::current()?, mart);
    let rows = match set.and_then(|set| figures::hidden(&set)) {
        // The status view says of such a set what else is not known.
        Err(Error::Set(SetError::OtherVersion { is_own: false, .. })) => Vec::new(),
        Err(Error::Set(error)) if error.is_broken() => Vec::new(),
        rows => rows?,
    };
    Ok(TableIterator::new(rows.into_iter().map(|row| {
        (
            row.id,
            row.name,
            row.table,
            row.refresh_auto,
            row.refresh_cron,
            row.last_refresh,
            row.last_status,
            row.next_refresh,
            row.coverage,
            row.added,
            row.removed,
            row.changed,
            row.update_consumer,
            row.update_target,
            row.update_name,
            row.update_cron,
            row.update_status,
            row.pending_messages,
            row.last_delivery,
            row.excluded,
            row.subscription,
            row.hold_until,
        )
    })))
}
