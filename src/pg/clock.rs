//! The current time, and conversion of times between PostgreSQL and chrono.

use chrono::{DateTime, Utc};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;

pub use segmenter_core::clock::Instant;

/// The beginning of the year 2000 in Unix microseconds. PostgreSQL counts from there.
const EPOCH: i64 = 946_684_800_000_000;

/// The current time.
pub fn now() -> Instant {
    at(micros())
}

/// The start of the current transaction, the value of `now()`.
pub fn transaction_start() -> Instant {
    // SAFETY: a variable of this process, set when a transaction begins.
    at(unsafe { pg_sys::GetCurrentTransactionStartTimestamp() })
}

/// The current time in PostgreSQL's microseconds.
pub(in crate::pg) fn micros() -> i64 {
    // SAFETY: has no precondition.
    unsafe { pg_sys::GetCurrentTimestamp() }
}

/// Converts from PostgreSQL's type. The infinite times become chrono's first and last one.
pub fn instant(time: TimestampWithTimeZone) -> Instant {
    at(time.into())
}

/// Converts to PostgreSQL's type. A time that it cannot hold becomes `infinity`.
pub fn timestamp(instant: Instant) -> TimestampWithTimeZone {
    let micros = instant.timestamp_micros().saturating_sub(EPOCH);
    TimestampWithTimeZone::try_from(micros).unwrap_or(TimestampWithTimeZone::positive_infinity())
}

/// Converts from PostgreSQL's microseconds.
pub(in crate::pg) fn at(micros: i64) -> Instant {
    match micros {
        i64::MIN => DateTime::<Utc>::MIN_UTC,
        i64::MAX => DateTime::<Utc>::MAX_UTC,
        _ => DateTime::from_timestamp_micros(micros.saturating_add(EPOCH))
            .unwrap_or(DateTime::<Utc>::MAX_UTC),
    }
}
