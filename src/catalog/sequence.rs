//! The sequences of messages and log entries, whose order decides. A sequence can be behind what its
//! table, or a consumer, has seen: after a switchover to a logical replica, which has no sequences, or a
//! dump that was restored in parts. It is lifted before it is used.

use std::cell::Cell;

use pgrx::datum::{DatumWithOid, Uuid};
use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::catalog::queries;
use crate::catalog::query::Query;
use crate::catalog::relation_set::RelationSet;
use crate::error::Result;
use crate::pg::clock::{self, Instant};
use crate::pg::exec::lock;

/// Makes sure that the next messages get ids above those of all messages, and above those that were
/// delivered for these subscriptions.
pub fn lift_messages(set: &RelationSet, subscriptions: &[Uuid]) -> Result<()> {
    let find = &queries::catalog::sequence::FIND_MESSAGE_LAG;
    lift_behind(set, set.outbox(), find, &[subscriptions.to_vec().into()])
}

thread_local! {
    /// The set whose log's sequence is known to be ahead, and the transaction that has found that.
    static AHEAD: Cell<Option<(pg_sys::Oid, Instant)>> = const { Cell::new(None) };
}

/// The same for the next entries of the log. A transaction looks once.
pub fn lift_log(set: &RelationSet) -> Result<()> {
    let now = Some((set.mart(), clock::transaction_start()));
    if AHEAD.get() == now {
        return Ok(());
    }
    lift_behind(set, set.mart(), &queries::catalog::sequence::FIND_LOG_LAG, &[])?;
    AHEAD.set(now);
    Ok(())
}

/// The id that a sequence of the set gives next. To be called as the owner of the set.
pub fn next_id(set: &RelationSet, sequence: &str) -> Result<i64> {
    let read = set.sql(&queries::catalog::sequence::READ_NEXT, &[("sequence", sequence)]);
    Spi::connect(|client| {
        let next = client.select(read.as_str(), Some(1), &[])?.first().get_one()?;
        Ok(next.unwrap_or(i64::MAX))
    })
}

fn lift_behind(
    set: &RelationSet,
    lock: pg_sys::Oid,
    find: &Query,
    args: &[DatumWithOid<'_>],
) -> Result<()> {
    set.as_owner(|| {
        let lag = || -> Result<Option<(i64, String)>> {
            Spi::connect(|client| {
                let found = client.select(set.kept(find), Some(1), args)?.first();
                match found.is_empty() {
                    true => Ok(None),
                    false => Ok(found.get_one::<i64>()?.zip(found.get::<String>(2)?)),
                }
            })
        };
        if lag()?.is_none() {
            return Ok(());
        }
        // Sessions that lift it at the same time would take ids that others have got meanwhile.
        lock::lock_sequence(lock);
        if let Some((through, sequence)) = lag()?
            && next_id(set, &sequence)? <= through
        {
            let lift = set.sql(&queries::catalog::sequence::LIFT_SEQUENCE, &[]);
            let args = [sequence.into(), through.into()];
            Spi::connect_mut(|client| client.update(&lift, None, &args).map(drop))?;
        }
        Ok(())
    })
}
