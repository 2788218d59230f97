//! The lock that keeps refreshes, hand-overs and erasures of a segment, and changes of its table,
//! apart.

use std::time::Duration;

use pgrx::datum::Uuid;
use pgrx::prelude::*;
use pgrx::spi::SpiClient;

use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::error::{Error, Holder, Result};
use crate::pg::exec::lock::{self, SegmentLockGuard};
use crate::pg::exec::role;
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};

/// Takes a segment's lock until the (sub)transaction ends. If the lock is not free, the error
/// [`Error::Busy`] names what holds it.
pub fn acquire(set: &RelationSet, segment: Uuid, name: &str) -> Result<SegmentLockGuard> {
    let key = key(set, segment)?;
    set.as_owner(|| {
        Spi::connect(|client| {
            if let Some(held) = lock::try_lock(key) {
                return Ok(held);
            }
            let holder = match find_holder(client, set, key)? {
                (Some(pid), _) if lock::is_held(key) => Holder::This(pid),
                (Some(pid), _) => Holder::Process(pid),
                (None, Some(gid)) => Holder::Prepared(gid),
                (None, None) => Holder::Unknown,
            };
            Err(Error::Busy { segment: name.to_owned(), holder })
        })
    })
}

/// The process that holds a segment's lock; none: it is free, or a prepared transaction holds it.
pub fn holder(set: &RelationSet, segment: Uuid) -> Result<Option<i32>> {
    let key = key(set, segment)?;
    set.as_owner(|| Spi::connect(|client| Ok(find_holder(client, set, key)?.0)))
}

/// The process, or the prepared transaction, that holds a lock.
fn find_holder(
    client: &SpiClient<'_>,
    set: &RelationSet,
    key: lock::Key,
) -> Result<(Option<i32>, Option<String>)> {
    let args = [
        pg_sys::Oid::from(key.high).into(),
        pg_sys::Oid::from(key.low).into(),
        (lock::CLASS as i16).into(),
    ];
    let sql = set.sql(&queries::refresh::segment_lock::FIND_HOLDER, &[]);
    let row = client.select(&sql, Some(1), &args)?.first();
    if row.is_empty() {
        return Ok((None, None));
    }
    Ok((row.get_by_name("pid")?, row.get_by_name("gid")?))
}

/// Waits for a segment's lock, for a limited time, and takes it. The error [`Error::Busy`] names what
/// holds it.
pub fn wait(
    set: &RelationSet,
    segment: Uuid,
    name: &str,
    limit: Duration,
) -> Result<SegmentLockGuard> {
    let key = key(set, segment)?;
    let waited = in_subtransaction(OnSuccess::Commit, || {
        Ok(role::with_lock_timeout(limit, || lock::lock(key)))
    });
    match waited {
        Ok(Some(held)) => Ok(held),
        // This backend itself is using it.
        Ok(None) => acquire(set, segment, name),
        Err(Error::Postgres(report))
            if report.sqlstate == PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE as i32 =>
        {
            // Names what holds it; or it has ended just now.
            acquire(set, segment, name)
        }
        Err(error) => Err(error),
    }
}

fn key(set: &RelationSet, segment: Uuid) -> Result<lock::Key> {
    let key: Option<i64> = set.as_owner(|| {
        Spi::connect(|client| {
            client
                .select(
                    set.kept(&queries::refresh::segment_lock::GET_KEY),
                    Some(1),
                    &[segment.into()],
                )?
                .first()
                .get_one()
        })
    })?;
    Ok(lock::Key::from(key.unwrap_or_default()))
}
