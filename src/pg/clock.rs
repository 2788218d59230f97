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

/// Says of a segment that it is held until a time.
pub fn held(until: Instant) -> String {
    match until == DateTime::<Utc>::MAX_UTC {
        true => "held without an end".into(),
        false => format!("held until {}", until.format("%F %T UTC")),
    }
}

/// Converts to PostgreSQL's type. The last time becomes `infinity`, one that is too early
/// `-infinity`.
pub fn timestamp(instant: Instant) -> TimestampWithTimeZone {
    if instant == DateTime::<Utc>::MAX_UTC {
        return TimestampWithTimeZone::positive_infinity();
    }
    let micros = instant.timestamp_micros().saturating_sub(EPOCH);
    // PostgreSQL's last time is later than chrono's.
    TimestampWithTimeZone::try_from(micros).unwrap_or(TimestampWithTimeZone::negative_infinity())
}

/// Converts from PostgreSQL's microseconds.
pub(in crate::pg) fn at(micros: i64) -> Instant {
    match micros {
        i64::MIN => DateTime::<Utc>::MIN_UTC,
        i64::MAX => DateTime::<Utc>::MAX_UTC,
        _ => {
            DateTime::from_timestamp_micros(micros.saturating_add(EPOCH)).unwrap_or(match micros {
                ..0 => DateTime::<Utc>::MIN_UTC,
                _ => DateTime::<Utc>::MAX_UTC,
            })
        }
    }
}

#[cfg(feature = "pg_test")]
mod tests {
    use super::*;

    #[pg_extern]
    fn times_keep_their_side_of_the_clock() {
        let early = TimestampWithTimeZone::negative_infinity();
        let late = TimestampWithTimeZone::positive_infinity();
        assert_eq!(instant(early), DateTime::<Utc>::MIN_UTC);
        assert_eq!(instant(late), DateTime::<Utc>::MAX_UTC);
        assert_eq!(timestamp(DateTime::<Utc>::MIN_UTC), early);
        assert_eq!(timestamp(DateTime::<Utc>::MAX_UTC), late);
        // Earlier than PostgreSQL's first time, which is in 4714 BC.
        assert_eq!(timestamp(Instant::MIN_UTC + chrono::TimeDelta::days(366)), early);
        assert!(timestamp(Instant::MAX_UTC - chrono::TimeDelta::days(1)) != late);
        let now = now();
        assert_eq!(instant(timestamp(now)), now);
    }
}
