//! When a segment is to be refreshed: its schedule, and what became of the last attempts at it.

use chrono::{DateTime, TimeDelta, Utc};
use pgrx::datum::{TimestampWithTimeZone, Uuid};
use pgrx::prelude::*;

use crate::config::{self, Subject};
use crate::error::{Error, Result};
use crate::guc;
use crate::pg::clock::{self, Instant};
use crate::service::Service;
use crate::timetable::Timetables;

/// No retry is put off for longer than this.
const LONGEST_RETRY_DELAY: TimeDelta = TimeDelta::hours(1);

/// So often come the runs of a scheduler, for segments without a schedule.
const RUNS: TimeDelta = TimeDelta::minutes(1);

/// The last attempt at a segment.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    pub began: DateTime<Utc>,
    pub ended: DateTime<Utc>,
    /// How many attempts in a row have failed, this one last.
    pub failures: u32,
}

/// When a segment is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// At every run: it has no schedule.
    EveryRun,
    /// When its schedule comes.
    Scheduled(DateTime<Utc>),
    /// Before that, because its last attempts, so many, have failed.
    Retry(DateTime<Utc>, u32),
    /// Its schedule does not come any more.
    Never,
}

impl Due {
    /// Decides. A schedule counts from the beginning of the last attempt, or from `actual_begin`:
    /// `scheduled` is when it comes after that (never: none inside), or none where there is no
    /// schedule. However often it came since then, one refresh catches up. After failures the next
    /// attempt comes when `retry_delay` has passed, doubled with each failure up to an hour, unless the
    /// schedule comes earlier; a delay of zero is no retry.
    pub fn by(
        scheduled: Option<Option<DateTime<Utc>>>,
        last: Option<Attempt>,
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

    /// The same where another schedule makes it due as well, at the time given.
    fn or_at(self, other: Option<DateTime<Utc>>) -> Self {
        match (self, other) {
            (Due::Never, Some(other)) => Due::Scheduled(other),
            (Due::Scheduled(at) | Due::Retry(at, _), Some(other)) if other < at => {
                Due::Scheduled(other)
            }
            (due, _) => due,
        }
    }

    /// The time from which on it is due; none: at every run, or never.
    pub fn at(self) -> Option<DateTime<Utc>> {
        match self {
            Due::Scheduled(at) | Due::Retry(at, _) => Some(at),
            Due::EveryRun | Due::Never => None,
        }
    }

    /// Whether it is due at that time.
    pub fn is_at(self, now: DateTime<Utc>) -> bool {
        self == Due::EveryRun || self.at().is_some_and(|at| at <= now)
    }
}

fn retry_at(last: Attempt, delay: TimeDelta) -> Option<DateTime<Utc>> {
    last.ended.checked_add_signed(backoff(last.failures, delay)?)
}

/// How long after so many failures the next attempt comes: the delay, doubled with each further
/// failure up to an hour; none: without a delay, or a failure.
pub fn backoff(failures: u32, delay: TimeDelta) -> Option<TimeDelta> {
    if failures == 0 || delay <= TimeDelta::zero() {
        return None;
    }
    let doubled = 1_i32.checked_shl(failures - 1).and_then(|times| delay.checked_mul(times));
    let delay = doubled.filter(|delay| *delay > TimeDelta::zero());
    Some(delay.map_or(LONGEST_RETRY_DELAY, |delay| delay.min(LONGEST_RETRY_DELAY)))
}

/// An actual segment, and when it is to be refreshed. What else is wrong with it, its refresh
/// will say.
pub struct Item {
    pub id: Uuid,
    pub name: String,
    pub table: pg_sys::Oid,
    pub owner: pg_sys::Oid,
    pub refresh_cron: Option<String>,
    pub last_refresh: Option<Instant>,
    /// None: by hand only.
    pub due: Option<Due>,
    /// Since when it has been waiting for its sources.
    pub waiting_since: Option<Instant>,
    /// What is wrong with its schedule, which then counts for nothing.
    pub problem: Option<String>,
}

impl Item {
    pub fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due.is_at(now))
    }

    /// When a scheduler refreshes it: when it is due, and once a minute where every run will do.
    pub fn next(&self, now: Instant) -> Option<Instant> {
        match self.due? {
            Due::EveryRun => Some(self.last_refresh.map_or(now, |last| last + RUNS)),
            due => due.at(),
        }
    }

    /// When a scheduler looks again whether it can be refreshed now: the longer it has been waiting
    /// the longer that takes, a tenth of that time.
    pub fn look_again(&self, now: Instant) -> Instant {
        let waited = self.waiting_since.map_or(TimeDelta::zero(), |since| now - since);
        now + (waited / 10).clamp(TimeDelta::seconds(1), TimeDelta::seconds(30))
    }

    /// Why it is due, or is not, in words.
    pub fn reason(&self, now: Instant) -> String {
        let reason = match self.due {
            _ if self.problem.is_some() => self.problem.clone().unwrap_or_default(),
            None => "by hand only".into(),
            Some(Due::EveryRun) => "at every run".into(),
            Some(Due::Scheduled(_)) => "scheduled".into(),
            Some(Due::Retry(_, 1)) => "retry after a failure".into(),
            Some(Due::Retry(_, failures)) => format!("retry after {failures} failures"),
            Some(Due::Never) => "the schedule does not come any more".into(),
        };
        if self.waiting_since.is_some() && self.is_due(now) {
            return format!("{reason}; waiting for its sources");
        }
        reason
    }

    fn read(
        row: &pgrx::spi::SpiHeapTupleData<'_>,
        service: &Service,
        timetables: &mut Timetables,
    ) -> Result<Self> {
        let missing = || Error::Spi(pgrx::spi::Error::InvalidPosition);
        let time = |column| -> Result<Option<Instant>> {
            Ok(row.get_by_name::<TimestampWithTimeZone, _>(column)?.map(clock::instant))
        };
        let name: String = row.get_by_name("name")?.ok_or_else(missing)?;
        let refresh_cron: Option<String> = row.get_by_name("refresh_cron")?;
        let timezone: Option<String> = row.get_by_name("refresh_timezone")?;
        let statuses: Vec<String> = row.get_by_name("statuses")?.unwrap_or_default();
        let last = match (time("began")?, time("ended")?) {
            (Some(began), Some(ended)) => {
                Some(Attempt { began, ended, failures: failures(&statuses) })
            }
            _ => None,
        };

        let subject = Subject::Segment(&name);
        let zone = timezone.as_deref().unwrap_or(&service.timezone);
        let actual_begin = time("actual_begin")?.ok_or_else(missing)?;
        let after = last.map_or(actual_begin, |last| last.began);
        let parse_zone = || config::timezone("refresh_timezone", Some(zone), subject);
        let mut next = |column, cron: Option<&str>| match cron {
            Some(cron) => {
                let timetable = timetables.get(cron, zone, || {
                    let schedule = config::cron(column, Some(cron), subject)?;
                    Ok::<_, Error>(schedule.zip(parse_zone()?))
                });
                timetable.map(|known| known.map(|known| known.next_after(after)))
            }
            None => parse_zone().map(|_| None),
        };
        let full_cron: Option<String> = row.get_by_name("full_cron")?;
        let scheduled = next("refresh_cron", refresh_cron.as_deref());
        let full = next("refresh_params", full_cron.as_deref());
        let (scheduled, full, problem) = match (scheduled, full) {
            (Ok(scheduled), Ok(full)) => (scheduled, full.flatten(), None),
            (Err(error), _) | (_, Err(error)) => (None, None, Some(error.to_string())),
        };
        let automatic = row.get_by_name::<bool, _>("refresh_auto")?.unwrap_or_default();
        // A full pass makes it due as well.
        let due = automatic.then(|| Due::by(scheduled, last, guc::retry_delay()).or_at(full));
        Ok(Self {
            id: row.get_by_name("id")?.ok_or_else(missing)?,
            table: row.get_by_name("table_oid")?.unwrap_or(pg_sys::InvalidOid),
            owner: row.get_by_name("owner")?.unwrap_or(pg_sys::InvalidOid),
            last_refresh: last.map(|last| last.began),
            waiting_since: time("waiting_since")?,
            name,
            refresh_cron,
            due,
            problem,
        })
    }
}

/// The actual segments of roles that `reader` is a member of, by name: all, or those of `only`.
pub fn items(service: &Service, reader: pg_sys::Oid, only: Option<&[Uuid]>) -> Result<Vec<Item>> {
    let sql = service.sql(include_str!("../sql/query/due.sql"), &[]);
    let only = only.map(<[Uuid]>::to_vec);
    service.run_as_owner(|| {
        Spi::connect(|client| {
            let rows = client.select(&sql, None, &[reader.into(), only.into()])?;
            let mut timetables = Timetables::default();
            rows.map(|row| Item::read(&row, service, &mut timetables)).collect()
        })
    })
}

/// How many attempts in a row have failed, the newest first.
fn failures(statuses: &[String]) -> u32 {
    let failed = |status: &&String| matches!(status.as_str(), "failed" | "interrupted");
    statuses.iter().take_while(failed).count() as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::Schedule;
    use chrono_tz::Tz;

    impl Due {
        /// By a schedule that goes by the clocks of its zone.
        fn of(
            schedule: Option<(&Schedule, Tz)>,
            last: Option<Attempt>,
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

    fn attempt(began: &str, failures: u32) -> Option<Attempt> {
        let began = at(began);
        Some(Attempt { began, ended: began + TimeDelta::seconds(10), failures })
    }

    const MINUTE: TimeDelta = TimeDelta::minutes(1);

    #[test]
    fn a_schedule_counts_from_the_last_attempt() {
        let (begin, midnight) = (at("2026-05-01T12:00:00Z"), at("2026-05-05T00:00:00Z"));
        let daily: Schedule = "@daily".parse().unwrap();
        let of = |last| Due::of(Some((&daily, Tz::UTC)), last, begin, MINUTE);

        // Never attempted; long missed; attempted today.
        assert_eq!(of(None), Due::Scheduled(at("2026-05-02T00:00:00Z")));
        assert_eq!(of(attempt("2026-05-02T00:00:01Z", 0)).at(), Some(at("2026-05-03T00:00:00Z")));
        assert_eq!(of(attempt("2026-05-04T00:00:00Z", 0)), Due::Scheduled(midnight));
        // What came during the attempt is still to be done.
        assert_eq!(of(attempt("2026-05-04T23:59:55Z", 0)), Due::Scheduled(midnight));
        // Due from the very instant on.
        assert!(Due::Scheduled(midnight).is_at(midnight));
        assert!(!Due::Scheduled(midnight).is_at(midnight - TimeDelta::microseconds(1)));
        // Midnight elsewhere.
        let kolkata = Some((&daily, Tz::Asia__Kolkata));
        let due = Due::of(kolkata, attempt("2026-05-04T18:00:00Z", 0), begin, MINUTE);
        assert_eq!(due.at(), Some(at("2026-05-04T18:30:00Z")));
    }

    #[test]
    fn without_a_schedule_every_run_will_do_and_a_date_that_never_comes_none() {
        let begin = at("2026-05-01T12:00:00Z");
        assert_eq!(Due::of(None, None, begin, MINUTE), Due::EveryRun);
        assert_eq!(Due::of(None, attempt("2026-05-04T00:00:00Z", 9), begin, MINUTE), Due::EveryRun);
        assert!(Due::EveryRun.is_at(begin));
        let never: Schedule = "0 0 30 2 *".parse().unwrap();
        assert_eq!(Due::of(Some((&never, Tz::UTC)), None, begin, MINUTE), Due::Never);
        assert!(!Due::Never.is_at(DateTime::<Utc>::MAX_UTC));
    }

    #[test]
    fn retries_come_later_and_later_but_never_after_the_schedule() {
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
        // None at all.
        assert_eq!(of(3, TimeDelta::zero()), of(0, MINUTE));

        let often: Schedule = "30 seconds".parse().unwrap();
        let last = attempt("2026-05-04T00:00:00Z", 1);
        let due = Due::of(Some((&often, Tz::UTC)), last, begin, MINUTE);
        assert_eq!(due, Due::Scheduled(at("2026-05-04T00:00:30Z")));
        // A schedule that does not come any more does not keep a failure from being mended.
        let never: Schedule = "0 0 30 2 *".parse().unwrap();
        let due = Due::of(Some((&never, Tz::UTC)), last, begin, MINUTE);
        assert_eq!(due, Due::Retry(ended + MINUTE, 1));
    }

    #[test]
    fn failures_are_counted_from_the_newest_on() {
        let count = |statuses: &[&str]| {
            failures(&statuses.iter().map(|status| status.to_string()).collect::<Vec<_>>())
        };
        assert_eq!(count(&[]), 0);
        assert_eq!(count(&["ok", "failed"]), 0);
        assert_eq!(count(&["refused", "failed"]), 0);
        assert_eq!(count(&["failed", "interrupted", "ok", "failed"]), 2);
    }
}
