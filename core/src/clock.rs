//! The time type of all decisions.

use chrono::{DateTime, TimeDelta, Utc};

/// A point in time, in UTC.
pub type Instant = DateTime<Utc>;

/// How far a recorded time may lie ahead of the clock and still count: other sessions and servers
/// read other clocks. A time beyond that was recorded while a clock was wrong, and counts for
/// nothing.
pub const MAX_AHEAD: TimeDelta = TimeDelta::seconds(10);

/// Whether a time of something that has happened cannot be true.
pub fn is_ahead(time: Instant, now: Instant) -> bool {
    now.checked_add_signed(MAX_AHEAD).is_some_and(|latest| time > latest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_far_ahead_of_the_clock_count_for_nothing() {
        let now: Instant = "2026-05-04T00:00:00Z".parse().unwrap();
        assert!(!is_ahead(now, now));
        assert!(!is_ahead(now - TimeDelta::days(400), now));
        assert!(!is_ahead(now + MAX_AHEAD, now));
        assert!(is_ahead(now + MAX_AHEAD + TimeDelta::microseconds(1), now));
        assert!(is_ahead(Instant::MAX_UTC, now));
        assert!(!is_ahead(Instant::MAX_UTC, Instant::MAX_UTC));
    }
}
