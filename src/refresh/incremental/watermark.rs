//! Since when changes may not have been seen.
//!
//! A change is stamped with a time of the transaction that makes it, `now()` or later, and seen
//! once that commits, however long it takes. So a refresh that sees all that is committed has to
//! look again, the next time, at everything since the beginning of the oldest transaction that was
//! open. Nobody says when a session reads the clock for `now()`: what is relied on is that it is
//! listed with that time as soon as it has a transaction, and that it waits for nothing in between.

use std::collections::HashMap;
use std::time::Duration;

use chrono::TimeDelta;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;

use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::error::Result;
use crate::pg::bgw::activity;
use crate::pg::bgw::process;
use crate::pg::clock::{self, Instant};
use crate::pg::exec::snapshot;
use crate::pg::exec::statement;

/// So often sessions are looked at that are neither waiting nor in a transaction, with a pause in
/// between: a session is like that for an instant.
const LOOKS: u32 = 50;
const PAUSE: Duration = Duration::from_millis(1);

/// Takes the watermark for the snapshot that is taken next: no transaction that is not seen in that
/// began at it or before. None where that cannot be told, and why.
pub fn take(set: &RelationSet) -> Result<std::result::Result<Instant, &'static str>> {
    if snapshot::is_kept() {
        return Ok(Err("the transaction keeps a snapshot from its first statement on"));
    }
    let now = clock::now();
    let Some(oldest) = set.extension.as_owner(|| oldest(set, now))? else {
        return Ok(Err("it cannot be told since when a session has been in its transaction"));
    };
    // When a prepared transaction began is not recorded. It was a session's when that was looked at,
    // or stands here, or is seen.
    let prepared = set.extension.as_owner(|| {
        let sql = &queries::refresh::incremental::watermark::HAS_PREPARED;
        Spi::connect(|_| statement::read_one::<bool>(sql.text(), &[]))
    })?;
    if prepared.unwrap_or_default() {
        return Ok(Err("a prepared transaction is open"));
    }
    // What has the very time is to be found by "later than", too.
    Ok(Ok(oldest - TimeDelta::microseconds(1)))
}

/// When the oldest transaction began of those that are open in this database, our own among them;
/// `now` where there is no older one. None: a session does not say.
fn oldest(set: &RelationSet, now: Instant) -> Result<Option<Instant>> {
    let own = Spi::connect(|_| {
        statement::read_one::<TimestampWithTimeZone>(
            queries::refresh::incremental::watermark::TRANSACTION_BEGAN.text(),
            &[],
        )
    })?;
    let mut oldest = own.map_or(now, |own| now.min(clock::instant(own)));
    // Sessions that may have read the clock before `now` and not be listed with it yet, and whether
    // they were waiting when they were looked at the last time.
    let mut doubtful: Option<HashMap<i32, bool>> = None;
    for _ in 0..LOOKS {
        activity::clear_activity_snapshot();
        let mut still = HashMap::new();
        Spi::connect(|client| -> Result<()> {
            for row in client.select(
                &set.sql(&queries::refresh::incremental::watermark::LIST_SESSIONS, &[]),
                None,
                &[],
            )? {
                let Some(pid) = row.get_by_name::<i32, _>("pid")? else { continue };
                // Who has come after the first look reads the clock after it.
                let waited = match &doubtful {
                    None => false,
                    Some(before) => match before.get(&pid) {
                        Some(waited) => *waited,
                        None => continue,
                    },
                };
                if let Some(began) = row.get_by_name::<TimestampWithTimeZone, _>("xact_start")? {
                    oldest = oldest.min(clock::instant(began));
                    continue;
                }
                let in_transaction: bool = row.get_by_name("in_transaction")?.unwrap_or_default();
                // Whoever was waiting, and is in no transaction, reads the clock later than that.
                if waited && !in_transaction {
                    continue;
                }
                still.insert(pid, row.get_by_name("waits")?.unwrap_or_default());
            }
            Ok(())
        })?;
        if still.is_empty() {
            return Ok(Some(oldest));
        }
        let all_waiting = still.values().all(|waits| *waits);
        doubtful = Some(still);
        if !all_waiting {
            process::wait(PAUSE);
        }
    }
    Ok(None)
}
