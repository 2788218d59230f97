//! The watermark: the time since which changes may be unseen.
//!
//! A change is stamped with a time of its transaction, `now()` or later, and becomes visible when
//! that transaction commits, however long this takes. After a refresh, which sees all committed
//! changes, the next one must therefore read everything since the start of the oldest transaction
//! that was open.
//!
//! PostgreSQL does not show when a session reads the clock for `now()`. The algorithm relies on two
//! facts: a session is listed with that time as soon as it has a transaction, and it does not wait
//! for anything between reading the clock and being listed.

use std::collections::HashMap;
use std::time::Duration;

use chrono::TimeDelta;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;

use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::error::{Error, Result};
use crate::pg::bgw::activity;
use crate::pg::bgw::process;
use crate::pg::clock::{self, Instant};
use crate::pg::exec::snapshot;

/// The number of times that sessions are listed at most, and the pause in between. They are listed
/// again while a session may have a transaction whose start is not listed yet; that state lasts an
/// instant.
const LOOKS: u32 = 50;
const PAUSE: Duration = Duration::from_millis(1);

/// Determines the watermark for the snapshot that is taken next: every transaction that this
/// snapshot does not see began after the watermark. The inner error says why it cannot be
/// determined.
pub fn take(set: &RelationSet) -> Result<std::result::Result<Instant, &'static str>> {
    if snapshot::is_kept() {
        return Ok(Err("the transaction keeps a snapshot from its first statement on"));
    }
    let now = clock::now();
    let Some(oldest) = set.extension.as_owner(|| oldest(set, now))? else {
        return Ok(Err("the beginning of a session's transaction is not known"));
    };
    // A prepared transaction has no recorded start time. One that was prepared after the sessions
    // were listed was counted there, with its session's start time. One that was prepared before is
    // either still listed here, or has ended, and then the snapshot sees it.
    let prepared = set.extension.as_owner(|| {
        let sql = queries::refresh::incremental::watermark::HAS_PREPARED.kept();
        Spi::connect(|client| {
            Ok::<_, Error>(client.select(sql, Some(1), &[])?.first().get_one::<bool>()?)
        })
    })?;
    if prepared.unwrap_or_default() {
        return Ok(Err("a prepared transaction is open"));
    }
    // One microsecond less, so that a condition "later than" also finds changes of exactly this
    // time.
    Ok(Ok(oldest - TimeDelta::microseconds(1)))
}

/// The start of the oldest open transaction in this database, this one included; `now` if there is
/// no older one. None: the start of a session's transaction could not be determined.
fn oldest(set: &RelationSet, now: Instant) -> Result<Option<Instant>> {
    let own = Spi::connect(|client| {
        let sql = queries::refresh::incremental::watermark::TRANSACTION_BEGAN.kept();
        let began = client.select(sql, Some(1), &[])?.first();
        Ok::<_, Error>(began.get_one::<TimestampWithTimeZone>()?)
    })?;
    let mut oldest = own.map_or(now, |own| now.min(clock::instant(own)));
    // Sessions that may have read the clock before `now` and are not listed with that time yet, and
    // whether they were waiting when they were last listed.
    let mut doubtful: Option<HashMap<i32, bool>> = None;
    for _ in 0..LOOKS {
        activity::clear_activity_snapshot();
        let mut still = HashMap::new();
        Spi::connect(|client| -> Result<()> {
            let sessions = set.kept(&queries::refresh::incremental::watermark::LIST_SESSIONS);
            for row in client.select(sessions, None, &[])? {
                let Some(pid) = row.get_by_name::<i32, _>("pid")? else { continue };
                // A session that was not in the first list reads the clock after `now`.
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
                // A session that was waiting when it was last listed, and is in no transaction now,
                // reads the clock after that, and so after `now`.
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
