//! Times of schedules that many segments share. Each schedule is parsed once, and searched once
//! between two of its times.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use crate::schedule::Schedule;

/// A schedule in a time zone, with the times that were found so far.
pub struct Timetable {
    schedule: Schedule,
    zone: Tz,
    /// For each time that was searched from, the next time of the schedule; `None`: there is none.
    known: BTreeMap<DateTime<Utc>, Option<DateTime<Utc>>>,
}

impl Timetable {
    fn new(schedule: Schedule, zone: Tz) -> Self {
        Self { schedule, zone, known: BTreeMap::new() }
    }

    /// The first time later than `after`; the same as [`Schedule::next_after`].
    pub fn next_after(&mut self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if !self.schedule.is_calendar() {
            return self.schedule.next_after(after, self.zone);
        }
        // The schedule has no time between a searched time and its result.
        match self.known.range(..=after).next_back() {
            Some((_, next)) if next.is_none_or(|next| after < next) => *next,
            _ => {
                let next = self.schedule.next_after(after, self.zone);
                self.known.insert(after, next);
                next
            }
        }
    }
}

/// Timetables, by the texts of schedule and zone.
#[derive(Default)]
pub struct Timetables(HashMap<(String, String), Option<Timetable>>);

impl Timetables {
    /// The timetable of these texts. If they are new, `parse` parses them; `None` if it returns
    /// none. An error of `parse` is returned and not remembered.
    pub fn get<E>(
        &mut self,
        schedule: &str,
        zone: &str,
        parse: impl FnOnce() -> Result<Option<(Schedule, Tz)>, E>,
    ) -> Result<Option<&mut Timetable>, E> {
        let known = match self.0.entry((schedule.to_owned(), zone.to_owned())) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                new.insert(parse()?.map(|(schedule, zone)| Timetable::new(schedule, zone)))
            }
        };
        Ok(known.as_mut())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    #[test]
    fn cached_times_equal_searched_times() {
        let begin: DateTime<Utc> = "2026-03-20T00:00:00Z".parse().unwrap();
        let schedules = [
            "@daily",
            "30 2 * * *",
            "*/15 * * * *",
            "5 * * * *",
            "30 6 * * mon-fri",
            "0 4 $ * *",
            "30 seconds",
            "0 0 30 2 *",
        ];
        for text in schedules {
            let schedule: Schedule = text.parse().unwrap();
            for zone in [Tz::UTC, Tz::Europe__Berlin, Tz::America__New_York, Tz::Asia__Kolkata] {
                let mut timetable = Timetable::new(schedule.clone(), zone);
                // The times are in no order and cover both clock changes of the year.
                for step in 0..4000_i64 {
                    let after = begin + TimeDelta::seconds(step * 7919 * 601 % (230 * 86_400));
                    let found = schedule.next_after(after, zone);
                    assert_eq!(
                        timetable.next_after(after),
                        found,
                        "{text} in {zone} after {after}"
                    );
                    let again = found.unwrap_or(after);
                    assert_eq!(timetable.next_after(again), schedule.next_after(again, zone));
                }
            }
        }
    }

    #[test]
    fn an_invalid_schedule_is_not_cached() {
        let mut known = Timetables::default();
        let daily = || Ok::<_, &str>(Some(("@daily".parse().unwrap(), Tz::UTC)));
        assert!(known.get("@daily", "UTC", || Err("refused")).is_err());
        assert!(known.get("@daily", "UTC", daily).is_ok());
        assert!(known.get("@daily", "UTC", || Err("not asked any more")).is_ok());
        assert!(known.get("@daily", "Asia/Kolkata", || Err("refused")).is_err());
    }
}
