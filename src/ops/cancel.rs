//! Ends a refresh that is going on, and holds a segment, so that it is not refreshed again by itself.

use pgrx::datum::{Interval, TimestampWithTimeZone, Uuid};
use pgrx::prelude::*;

use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::config::Subject;
use crate::error::{Error, Result};
use crate::pg::bgw::job_table;
use crate::pg::bgw::progress;
use crate::pg::exec::role;
use crate::pg::exec::statement;
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};
use crate::refresh::segment_lock;

/// Cancels the refresh of an active segment that another process is making, and with `hold` lets automatic
/// refreshes rest for that time. Returns whether there was one. Errors: no such segment whose owner the caller
/// may act as; a process that the caller may not cancel; an interval that is not longer than zero.
pub fn cancel(set: &RelationSet, name: &str, hold: Option<Interval>) -> Result<bool> {
    let caller = role::current();
    let found: Option<Uuid> = set.as_owner(|| {
        let sql = set.sql(&queries::ops::cancel::FIND_SEGMENT, &[]);
        Spi::connect(|_| statement::read_one(&sql, &[name.into(), caller.into()]))
    })?;
    let segment = found.ok_or_else(|| set.unknown_segment(name))?;
    if let Some(hold) = hold {
        let until = end_of(set, hold)?;
        set.write_as_caller(|| {
            let sql = set.sql(&queries::ops::cancel::HOLD_SEGMENT, &[]);
            Ok(Spi::run_with_args(&sql, &[segment.into(), until.into()])?)
        })?;
    }
    let end = |pid: i32| {
        let sql = set.sql(&queries::ops::cancel::CANCEL_PROCESS, &[]);
        ask(set, &sql, pid)
    };
    let cancelled = match job_table::is_initialized() {
        true => progress::cancel(set.mart(), segment, caller, end),
        // What holds the lock is not known: it is a refresh, or something else that must not go on with one.
        false => match segment_lock::holder(set, segment)? {
            Some(pid) if ask(set, &set.sql(&queries::ops::cancel::IS_ACTIVE, &[]), pid)? => {
                end(pid)
            }
            _ => Ok(false),
        },
    };
    let what = format!("the refresh of {} was not cancelled", Subject::Segment(name));
    cancelled.map_err(|error| error.about(&what))
}

/// A question about a process, with the rights of the caller.
fn ask(set: &RelationSet, sql: &str, pid: i32) -> Result<bool> {
    let asked = in_subtransaction(OnSuccess::Commit, || {
        set.extension
            .as_caller(|| Spi::connect(|_| statement::read_one::<bool>(sql, &[pid.into()])))
    })?;
    Ok(asked == Some(true))
}

/// The time until which a segment is held.
fn end_of(set: &RelationSet, hold: Interval) -> Result<TimestampWithTimeZone> {
    let refused = |problem: &str| Error::Argument {
        name: "hold",
        problem: problem.to_owned(),
        hint: "Give the time from now on, such as '2 hours'. To hold the segment without an end, set hold_until to 'infinity'; to end a hold, set it to null.",
    };
    let sql = set.sql(&queries::ops::cancel::ADD_HOLD, &[]);
    let added = in_subtransaction(OnSuccess::Commit, || {
        set.extension.as_caller(|| {
            Spi::connect(|client| {
                let row = client.select(&sql, Some(1), &[hold.into()])?.first();
                Ok(row.get_two::<TimestampWithTimeZone, bool>()?)
            })
        })
    });
    match added {
        Ok((Some(until), Some(true))) => Ok(until),
        Ok(_) => Err(refused("it must be longer than zero")),
        Err(error) if error.is_code(PgSqlErrorCode::ERRCODE_DATETIME_FIELD_OVERFLOW) => {
            Err(refused("it is too long"))
        }
        Err(error) => Err(error),
    }
}
