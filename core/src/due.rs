//! When a segment is due for a refresh, and when a failed attempt is repeated.

use chrono::{DateTime, TimeDelta, Utc};

use crate::clock::is_ahead;

/// The longest delay of a retry.
const MAX_RETRY_DELAY: TimeDelta = TimeDelta::hours(1);

/// The last attempt to refresh a segment.
#[derive(Clone, Copy, Debug)]
pub struct LastRun {
    pub began: DateTime<Utc>,
    pub ended: DateTime<Utc>,
    /// The number of failed attempts in a row, up to and including this one.
    pub failures: u32,
}

/// When a segment is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// At every run, because it has no schedule.
    EveryRun,
    /// At a time of its schedule.
    Scheduled(DateTime<Utc>),
    /// Earlier, as a retry after this number of failed attempts in a row.
    Retry(DateTime<Utc>, u32),
    /// At once: its last attempt is recorded with a time in the future.
    AtOnce,
    /// At once: members may return that segments which it leaves out have lost since.
    Freed,
    /// At once: its definition was changed after the last attempt, which failed.
    Redefined,
    /// Its automatic refreshes rest, and then it is due at this time; the last time of all: never.
    Held(DateTime<Utc>),
    /// Never: its schedule has no further time.
    Never,
}

/// What decides when a segment of a family is due, besides its own schedule and attempts.
#[derive(Clone, Copy, Debug)]
pub struct InFamily {
    pub has_schedule: bool,
    /// Its family is refreshed automatically.
    pub is_automatic: bool,
    /// Since when the segment has been waiting for its sources.
    pub waiting_since: Option<DateTime<Utc>>,
}

impl LastRun {
    /// Whether its times were recorded while the clock was ahead: then they decide nothing.
    pub fn is_ahead(&self, now: DateTime<Utc>) -> bool {
        is_ahead(self.began, now) || is_ahead(self.ended, now)
    }
}

impl Due {
    /// Decides when a segment is due. `scheduled` is `None` if it has no schedule. Otherwise it
    /// contains the schedule's first time after the beginning of the last attempt (after
    /// `actual_begin` if there was none), or `None` if the schedule has no further time. One
    /// refresh makes up for all times that were missed.
    ///
    /// After a failure, the segment is due again when `retry_delay` has passed since the end of the
    /// attempt, unless the schedule comes earlier. The delay is doubled with each further failure,
    /// up to an hour; a delay of zero means no retry.
    pub fn by(
        scheduled: Option<Option<DateTime<Utc>>>,
        last: Option<LastRun>,
        retry_delay: TimeDelta,
    ) -> Self {
        let Some(scheduled) = scheduled else { return Due::EveryRun };
        let retry = last.and_then(|last| Some((retry_at(last, retry_delay)?, last.failures)));
        match (scheduled, retry) {
            (Some(scheduled), Some((retry, failures))) if retry < scheduled => {
                Due::Retry(retry, failures)
            }
            (Some(scheduled), _) => Due::Scheduled(scheduled),
            (None, Some((retry, failures))) => Due::Retry(retry, failures),
            (None, None) => Due::Never,
        }
    }

    /// The same for a segment whose schedule is not valid: it is due, so that its refresh fails, and
    /// then for a retry.
    pub fn without_valid_schedule(last: Option<LastRun>, retry_delay: TimeDelta) -> Self {
        match last {
            Some(last) if last.failures > 0 => Due::by(Some(None), Some(last), retry_delay),
            _ => Due::EveryRun,
        }
    }

    /// The same for a segment that another schedule makes due as well, at the given time.
    pub fn or_at(self, other: Option<DateTime<Utc>>) -> Self {
        match (self, other) {
            (Due::Never, Some(other)) => Due::Scheduled(other),
            (Due::Scheduled(at) | Due::Retry(at, _), Some(other)) if other < at => {
                Due::Scheduled(other)
            }
            (due, _) => due,
        }
    }

    /// The same for a segment whose last attempt is recorded with a time in the future, if that is so.
    pub fn unless_ahead(self, last: Option<LastRun>, now: DateTime<Utc>) -> Self {
        match self {
            Due::EveryRun => self,
            _ if last.is_some_and(|last| last.is_ahead(now)) => Due::AtOnce,
            _ => self,
        }
    }

    /// The same for a segment of a family. `None`: it is refreshed when its family is.
    ///
    /// That is so without a schedule of its own, and also where lists have lost members, which make its
    /// family due. It is due alone where its family has left it behind: after a failure, with the usual
    /// delay, and while it waits for its sources. If nothing refreshes its family automatically, it is not
    /// refreshed alone either.
    pub fn in_family(
        self,
        family: InFamily,
        last: Option<LastRun>,
        retry_delay: TimeDelta,
        now: DateTime<Utc>,
    ) -> Option<Self> {
        let InFamily { has_schedule, is_automatic, waiting_since } = family;
        let has_failed = last.is_some_and(|last| last.failures > 0);
        let due = match (self, waiting_since) {
            (Due::EveryRun, _) if !has_schedule && has_failed => {
                Due::by(Some(None), last, retry_delay).unless_ahead(last, now)
            }
            (Due::EveryRun, Some(since)) if !has_schedule => Due::Scheduled(since),
            // Its family would be refreshed again and again, as long as this segment waits.
            (Due::Freed, Some(since)) if is_automatic => Due::Scheduled(since),
            (due, _) => due,
        };
        let is_with_family = match due {
            Due::Freed if is_automatic => true,
            Due::EveryRun | Due::Never => !has_schedule,
            Due::Retry(..) | Due::Scheduled(_) => !has_schedule && !is_automatic,
            _ => !has_schedule && !is_automatic && waiting_since.is_some(),
        };
        (!is_with_family).then_some(due)
    }

    /// The same for a segment that is held until a time, if that time is still to come.
    pub fn held(self, until: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Self {
        match (self, until.filter(|until| *until > now)) {
            (Due::Never, _) | (_, None) => self,
            (due, Some(until)) => Due::Held(due.at().map_or(until, |at| at.max(until))),
        }
    }

    /// The time from which it is due; `None`: at every run, at once, or never.
    pub fn at(self) -> Option<DateTime<Utc>> {
        match self {
            Due::Scheduled(at) | Due::Retry(at, _) => Some(at),
            Due::Held(at) => Some(at).filter(|at| *at < DateTime::<Utc>::MAX_UTC),
            Due::EveryRun | Due::AtOnce | Due::Freed | Due::Redefined | Due::Never => None,
        }
    }

    /// Whether it is due at a time.
    pub fn is_at(self, now: DateTime<Utc>) -> bool {
        matches!(self, Due::EveryRun | Due::AtOnce | Due::Freed | Due::Redefined)
            || self.at().is_some_and(|at| at <= now)
    }
}

fn retry_at(last: LastRun, delay: TimeDelta) -> Option<DateTime<Utc>> {
    last.ended.checked_add_signed(backoff(last.failures, delay)?)
}

/// The delay before the next attempt: `delay`, doubled with each failure after the first, up to an
/// hour. `None` if there is no delay or no failure.
pub fn backoff(failures: u32, delay: TimeDelta) -> Option<TimeDelta> {
    if failures == 0 || delay <= TimeDelta::zero() {
        return None;
    }
    let doubled = 1_i32.checked_shl(failures - 1).and_then(|times| delay.checked_mul(times));
    let delay = doubled.filter(|delay| *delay > TimeDelta::zero());
    Some(delay.map_or(MAX_RETRY_DELAY, |delay| delay.min(MAX_RETRY_DELAY)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::Schedule;
    use chrono_tz::Tz;

    impl Due {
        /// By a schedule in a time zone.
        fn of(
            schedule: Option<(&Schedule, Tz)>,
            last: Option<LastRun>,
            actual_begin: DateTime<Utc>,
            retry_delay: TimeDelta,
        ) -> Self {
            let after = last.map_or(actual_begin, |last| last.began);
            let scheduled = schedule.map(|(schedule, zone)| schedule.next_after(after, zone));
            Due::by(scheduled, last, retry_delay)
        }
    }

    fn at(time: &str) -> DateTime<Utc> {
        time.parse().unwrap()
    }

    fn attempt(began: &str, failures: u32) -> Option<LastRun> {
        let began = at(began);
        Some(LastRun { began, ended: began + TimeDelta::seconds(10), failures })
    }

    const MINUTE: TimeDelta = TimeDelta::minutes(1);

    #[test]
    fn a_held_segment_is_due_after_its_hold() {
        let now = at("2026-05-01T12:00:00Z");
        let (early, late) = (at("2026-05-01T13:00:00Z"), at("2026-05-02T00:00:00Z"));
        // A hold that is over, or that there is none of, changes nothing.
        for due in [Due::EveryRun, Due::Scheduled(now), Due::Freed] {
            assert_eq!(due.held(None, now), due);
            assert_eq!(due.held(Some(now), now), due);
            assert_eq!(due.held(Some(late), now), Due::Held(late));
        }
        // Its schedule comes before, and after.
        assert_eq!(Due::Scheduled(early).held(Some(late), now), Due::Held(late));
        assert_eq!(Due::Retry(late, 1).held(Some(early), now), Due::Held(late));
        assert_eq!(Due::Never.held(Some(late), now), Due::Never);
        assert!(!Due::Held(late).is_at(early) && Due::Held(late).is_at(late));
        // Without an end it has no next time.
        let endless = Due::EveryRun.held(Some(DateTime::<Utc>::MAX_UTC), now);
        assert_eq!(endless.at(), None);
        assert!(!endless.is_at(late));
    }

    #[test]
    fn a_schedule_counts_from_the_last_attempt() {
        let (begin, midnight) = (at("2026-05-01T12:00:00Z"), at("2026-05-05T00:00:00Z"));
        let daily: Schedule = "@daily".parse().unwrap();
        let of = |last| Due::of(Some((&daily, Tz::UTC)), last, begin, MINUTE);

        // Never attempted; missed for days; attempted today.
        assert_eq!(of(None), Due::Scheduled(at("2026-05-02T00:00:00Z")));
        assert_eq!(of(attempt("2026-05-02T00:00:01Z", 0)).at(), Some(at("2026-05-03T00:00:00Z")));
        assert_eq!(of(attempt("2026-05-04T00:00:00Z", 0)), Due::Scheduled(midnight));
        // A time that came during the attempt is still due.
        assert_eq!(of(attempt("2026-05-04T23:59:55Z", 0)), Due::Scheduled(midnight));
        // It is due from this instant on.
        assert!(Due::Scheduled(midnight).is_at(midnight));
        assert!(!Due::Scheduled(midnight).is_at(midnight - TimeDelta::microseconds(1)));
        // Midnight in another zone.
        let kolkata = Some((&daily, Tz::Asia__Kolkata));
        let due = Due::of(kolkata, attempt("2026-05-04T18:00:00Z", 0), begin, MINUTE);
        assert_eq!(due.at(), Some(at("2026-05-04T18:30:00Z")));
    }

    #[test]
    fn a_segment_of_a_family_is_due_alone_where_it_was_left_behind() {
        let (now, since) = (at("2026-05-04T12:00:00Z"), at("2026-05-04T11:00:00Z"));
        let follows = InFamily { has_schedule: false, is_automatic: true, waiting_since: None };
        let of = |due: Due, family, last| due.in_family(family, last, MINUTE, now);
        // With its family.
        assert_eq!(of(Due::EveryRun, follows, None), None);
        assert_eq!(of(Due::EveryRun, follows, attempt("2026-05-04T11:00:00Z", 0)), None);
        assert_eq!(of(Due::Never, follows, None), None);
        // Alone: after failures, which end some time, while it waits, and once it is defined otherwise.
        let failed = attempt("2026-05-04T11:00:00Z", 2);
        let retry = Due::Retry(at("2026-05-04T11:02:10Z"), 2);
        assert_eq!(of(Due::EveryRun, follows, failed), Some(retry));
        assert_eq!(Due::EveryRun.in_family(follows, failed, TimeDelta::zero(), now), None);
        let ahead = attempt("2026-05-04T18:00:00Z", 1);
        assert_eq!(of(Due::EveryRun, follows, ahead), Some(Due::AtOnce));
        let waits = InFamily { waiting_since: Some(since), ..follows };
        assert_eq!(of(Due::EveryRun, waits, None), Some(Due::Scheduled(since)));
        assert_eq!(of(Due::Redefined, follows, failed), Some(Due::Redefined));
        // Its lists have lost members: with its family, whose query finds who returns, unless it waits.
        assert_eq!(of(Due::Freed, follows, None), None);
        assert_eq!(of(Due::Freed, waits, None), Some(Due::Scheduled(since)));
        // Nothing refreshes its family.
        let by_hand = InFamily { is_automatic: false, ..follows };
        assert_eq!(of(Due::EveryRun, by_hand, failed), None);
        assert_eq!(of(Due::EveryRun, InFamily { is_automatic: false, ..waits }, None), None);
        assert_eq!(of(Due::Freed, by_hand, None), Some(Due::Freed));
        // A schedule of its own.
        let own = InFamily { has_schedule: true, ..follows };
        for due in [Due::Scheduled(now), Due::Never, retry, Due::EveryRun, Due::Redefined] {
            assert_eq!(of(due, own, failed), Some(due));
            assert_eq!(of(due, InFamily { is_automatic: false, ..own }, failed), Some(due));
        }
        assert_eq!(of(Due::Freed, own, None), None);
    }

    #[test]
    fn an_attempt_in_the_future_makes_a_segment_due() {
        let now = at("2026-05-04T00:00:00Z");
        let daily = Due::Scheduled(at("2026-05-05T00:00:00Z"));
        let of = |due: Due, last| due.unless_ahead(last, now);
        assert_eq!(of(daily, None), daily);
        assert_eq!(of(daily, attempt("2026-05-03T23:59:59Z", 0)), daily);
        let ahead = attempt("2026-05-04T08:00:00Z", 0);
        assert_eq!(of(daily, ahead), Due::AtOnce);
        assert_eq!(of(Due::Retry(now, 3), ahead), Due::AtOnce);
        assert_eq!(of(Due::Never, ahead), Due::AtOnce);
        assert_eq!(of(Due::EveryRun, ahead), Due::EveryRun);
        assert!(Due::AtOnce.is_at(now) && Due::AtOnce.at().is_none());
        assert!(Due::Freed.is_at(now) && Due::Freed.at().is_none());
        assert!(Due::Redefined.is_at(now) && Due::Redefined.at().is_none());
        // An end that was recorded after the clock was set forward.
        let ended = LastRun { began: now, ended: now + TimeDelta::hours(8), failures: 1 };
        assert_eq!(of(daily, Some(ended)), Due::AtOnce);
    }

    #[test]
    fn no_schedule_means_every_run_and_an_impossible_date_never() {
        let begin = at("2026-05-01T12:00:00Z");
        assert_eq!(Due::of(None, None, begin, MINUTE), Due::EveryRun);
        assert_eq!(Due::of(None, attempt("2026-05-04T00:00:00Z", 9), begin, MINUTE), Due::EveryRun);
        assert!(Due::EveryRun.is_at(begin));
        let never: Schedule = "0 0 30 2 *".parse().unwrap();
        assert_eq!(Due::of(Some((&never, Tz::UTC)), None, begin, MINUTE), Due::Never);
        assert!(!Due::Never.is_at(DateTime::<Utc>::MAX_UTC));
    }

    #[test]
    fn a_schedule_that_is_not_valid_is_a_failure_with_a_growing_delay() {
        let of = |last| Due::without_valid_schedule(last, MINUTE);
        assert_eq!(of(None), Due::EveryRun);
        assert_eq!(of(attempt("2026-05-04T00:00:00Z", 0)), Due::EveryRun);
        let third = of(attempt("2026-05-04T00:00:00Z", 3));
        assert_eq!(third, Due::Retry(at("2026-05-04T00:04:10Z"), 3));
        let no_retry =
            Due::without_valid_schedule(attempt("2026-05-04T00:00:00Z", 1), TimeDelta::zero());
        assert_eq!(no_retry, Due::Never);
    }

    #[test]
    fn retry_delays_grow_but_the_schedule_can_come_earlier() {
        let begin = at("2026-05-01T12:00:00Z");
        let ended = at("2026-05-04T00:00:10Z");
        let daily: Schedule = "@daily".parse().unwrap();
        let of = |failures, delay| {
            Due::of(
                Some((&daily, Tz::UTC)),
                attempt("2026-05-04T00:00:00Z", failures),
                begin,
                delay,
            )
        };
        for (failures, minutes) in [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (8, 60), (40, 60)] {
            let at = ended + TimeDelta::minutes(minutes);
            assert_eq!(of(failures, MINUTE), Due::Retry(at, failures), "{failures} failures");
        }
        // No retry.
        assert_eq!(of(3, TimeDelta::zero()), of(0, MINUTE));

        let often: Schedule = "30 seconds".parse().unwrap();
        let last = attempt("2026-05-04T00:00:00Z", 1);
        let due = Due::of(Some((&often, Tz::UTC)), last, begin, MINUTE);
        assert_eq!(due, Due::Scheduled(at("2026-05-04T00:00:30Z")));
        // A failure is retried although the schedule has no further time.
        let never: Schedule = "0 0 30 2 *".parse().unwrap();
        let due = Due::of(Some((&never, Tz::UTC)), last, begin, MINUTE);
        assert_eq!(due, Due::Retry(ended + MINUTE, 1));
    }
}
