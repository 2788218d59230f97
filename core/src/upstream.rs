//! Whether a segment that is built on another one can be refreshed: whether that one is up to date.

use std::fmt;

use crate::clock::{Instant, is_ahead};

/// A segment that another one reads.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// When its last successful refresh began; none: there was none.
    pub refreshed: Option<Instant>,
    /// How its last attempt ended, if it did not succeed: failed, refused, waiting, interrupted.
    pub status: Option<String>,
    /// The first time of its schedules after that refresh; none: it is refreshed by hand or at every
    /// run, or its schedule has no further time.
    pub next: Option<Instant>,
    /// Whether it is refreshed by schedule.
    pub is_scheduled: bool,
}

/// Why a segment is not up to date.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    NeverRefreshed,
    /// Its last attempt ended so.
    Unsuccessful(String),
    /// It has been due since that time.
    DueSince(Instant),
    /// Its last refresh is recorded with a time that lies in the future.
    Ahead,
}

impl Upstream {
    /// Why the segment is not up to date; `None`: it is.
    pub fn obstacle(&self, now: Instant) -> Option<Obstacle> {
        let Some(refreshed) = self.refreshed else { return Some(Obstacle::NeverRefreshed) };
        if let Some(status) = &self.status {
            return Some(Obstacle::Unsuccessful(status.clone()));
        }
        if self.is_scheduled && is_ahead(refreshed, now) {
            return Some(Obstacle::Ahead);
        }
        self.next.filter(|next| *next <= now).map(Obstacle::DueSince)
    }

    /// The same where the time since the last successful refresh alone decides. `is_old`: it is
    /// longer than the limit.
    pub fn obstacle_by_age(&self, is_old: bool, now: Instant) -> Option<Aged> {
        match self.refreshed {
            None => Some(Aged::Other(Obstacle::NeverRefreshed)),
            Some(refreshed) if is_ahead(refreshed, now) => Some(Aged::Other(Obstacle::Ahead)),
            Some(_) => is_old.then_some(Aged::TooOld),
        }
    }
}

/// Why a segment whose age is limited is not up to date.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Aged {
    TooOld,
    Other(Obstacle),
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverRefreshed => write!(f, "was never refreshed"),
            Self::Unsuccessful(status) => match status.as_str() {
                "waiting" => write!(f, "is waiting"),
                "failed" => write!(f, "has failed"),
                other => write!(f, "was {other}"),
            },
            Self::DueSince(time) => write!(f, "has been due since {}", time.format("%F %T UTC")),
            Self::Ahead => write!(f, "was refreshed at a time that lies in the future"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    fn at(time: &str) -> Instant {
        time.parse().unwrap()
    }

    fn fresh() -> Upstream {
        Upstream {
            refreshed: Some(at("2026-05-04T06:00:01Z")),
            status: None,
            next: Some(at("2026-05-05T06:00:00Z")),
            is_scheduled: true,
        }
    }

    #[test]
    fn a_segment_is_up_to_date_until_it_is_due() {
        let of = |now: &str| fresh().obstacle(at(now));
        assert_eq!(of("2026-05-04T07:00:00Z"), None);
        assert_eq!(of("2026-05-05T05:59:59Z"), None);
        let due = at("2026-05-05T06:00:00Z");
        assert_eq!(fresh().obstacle(due), Some(Obstacle::DueSince(due)));
        // By hand, at every run, or no further time.
        let other = Upstream { next: None, ..fresh() };
        assert_eq!(other.obstacle(at("2030-01-01T00:00:00Z")), None);
    }

    #[test]
    fn an_attempt_that_did_not_succeed_counts_until_one_does() {
        let now = at("2026-05-04T07:00:00Z");
        for (status, text) in [
            ("failed", "has failed"),
            ("refused", "was refused"),
            ("waiting", "is waiting"),
            ("interrupted", "was interrupted"),
        ] {
            let upstream = Upstream { status: Some(status.into()), ..fresh() };
            assert_eq!(upstream.obstacle(now).unwrap().to_string(), text);
            assert_eq!(upstream.obstacle_by_age(false, now), None);
        }
        let never =
            Upstream { refreshed: None, status: Some("failed".into()), next: None, ..fresh() };
        assert_eq!(never.obstacle(now), Some(Obstacle::NeverRefreshed));
        let never = never.obstacle_by_age(false, now);
        assert_eq!(never, Some(Aged::Other(Obstacle::NeverRefreshed)));
    }

    #[test]
    fn a_refresh_in_the_future_is_none() {
        let now = at("2026-05-03T00:00:00Z");
        assert_eq!(fresh().obstacle(now), Some(Obstacle::Ahead));
        assert_eq!(fresh().obstacle_by_age(false, now), Some(Aged::Other(Obstacle::Ahead)));
        let by_hand = Upstream { is_scheduled: false, next: None, ..fresh() };
        assert_eq!(by_hand.obstacle(now), None);
        let almost = fresh().refreshed.unwrap() - TimeDelta::seconds(1);
        assert_eq!(fresh().obstacle(almost), None);
    }

    #[test]
    fn a_limit_of_age_decides_alone() {
        let now = at("2026-05-09T00:00:00Z");
        assert_eq!(fresh().obstacle_by_age(false, now), None);
        assert_eq!(fresh().obstacle_by_age(true, now), Some(Aged::TooOld));
    }
}
