//! The history of segments' definitions: a version for each change of a segment's row.

use std::cell::Cell;

use pgrx::datum::{DatumWithOid, TimestampWithTimeZone, Uuid};
use pgrx::prelude::*;

use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::error::Result;
use crate::pg::exec::role;
use crate::pg::exec::subtransaction::unless_superseded;

/// The zone of the times in definitions: the same row has the same text whatever the settings are.
pub const ZONE: &str = "UTC";

thread_local! {
    static ACTING: Cell<Option<pg_sys::Oid>> = const { Cell::new(None) };
}

/// Runs `body`, which changes rows of segments as the set's owner on behalf of `role`: that role is
/// recorded.
pub fn acting_as<T>(role: pg_sys::Oid, body: impl FnOnce() -> T) -> T {
    struct Restore(Option<pg_sys::Oid>);
    impl Drop for Restore {
        fn drop(&mut self) {
            ACTING.set(self.0);
        }
    }
    let _restore = Restore(ACTING.replace(Some(role)));
    body()
}

/// Records a segment's row as the next version of its definition, if it differs from the last one. `old` is
/// the row before the change; none: there was none.
pub fn record(set: &RelationSet, segment: Uuid, old: Option<DatumWithOid<'_>>) -> Result<()> {
    let acting = ACTING.get().unwrap_or_else(role::current);
    let old = old.unwrap_or_else(|| DatumWithOid::null_oid(pg_sys::RECORDOID));
    let args = [segment.into(), old, role::name(role::session()).into(), role::name(acting).into()];
    set.in_zone(ZONE, || {
        let sql = set.sql(&queries::catalog::definitions::RECORD_VERSION, &[]);
        Ok(Spi::run_with_args(&sql, &args)?)
    })
}

/// The versions of a segment that are kept however old they are.
const KEPT: i64 = 1000;
/// The number of versions that one call deletes at most; the next call deletes the rest.
const PRUNED_AT_ONCE: i64 = 1000;

/// Deletes versions that are older than `before`: those of segments that were deleted before, too, and those
/// that are followed by a thousand. Returns whether more may be left to delete.
pub fn prune(set: &RelationSet, before: TimestampWithTimeZone) -> Result<bool> {
    let args = [before.into(), KEPT.into(), PRUNED_AT_ONCE.into()];
    set.as_owner(|| {
        // The search runs read-only: no transaction id is assigned where there is nothing to delete.
        let find = set.sql(&queries::catalog::definitions::FIND_EXPIRED, &[]);
        let (segments, versions) = Spi::connect(|client| {
            client.select(&find, None, &args)?.first().get_two::<Vec<Uuid>, Vec<i32>>()
        })?;
        let Some((segments, versions)) = segments.zip(versions) else { return Ok(false) };
        let more = versions.len() as i64 == PRUNED_AT_ONCE;
        let deleted = unless_superseded(|| {
            let sql = set.sql(&queries::catalog::definitions::DELETE_VERSIONS, &[]);
            Ok(Spi::run_with_args(&sql, &[segments.into(), versions.into()])?)
        })?;
        Ok(deleted && more)
    })
}
