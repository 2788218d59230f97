//! The time, between PostgreSQL and chrono.

use chrono::{DateTime, Utc};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;

pub use segmenter_core::clock::Instant;

/// PostgreSQL counts microseconds from the year 2000.
const EPOCH: i64 = 946_684_800_000_000;

/// Now.
pub fn now() -> Instant {
    at(micros())
}

/// Now, as PostgreSQL counts.
pub(in crate::pg) fn micros() -> i64 {
    // SAFETY: reads the clock.
    unsafe { pg_sys::GetCurrentTimestamp() }
}

/// A point in time of PostgreSQL's; those before or after all others are the outermost ones.
pub fn instant(time: TimestampWithTimeZone) -> Instant {
    at(time.into())
}

/// The same, the other way round.
pub fn timestamp(instant: Instant) -> TimestampWithTimeZone {
    let micros = instant.timestamp_micros().saturating_sub(EPOCH);
    TimestampWithTimeZone::try_from(micros).unwrap_or(TimestampWithTimeZone::positive_infinity())
}

/// A point in time as PostgreSQL counts it.
pub(in crate::pg) fn at(micros: i64) -> Instant {
    match micros {
        i64::MIN => DateTime::<Utc>::MIN_UTC,
        i64::MAX => DateTime::<Utc>::MAX_UTC,
        _ => DateTime::from_timestamp_micros(micros.saturating_add(EPOCH))
            .unwrap_or(DateTime::<Utc>::MAX_UTC),
    }
}
