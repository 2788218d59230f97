//! Cron schedules with pg_cron's meaning, in any time zone.
//!
//! The text of a schedule is parsed once into a [`Schedule`]. After that the only thing that can
//! fail is finding a next run. The `cron` crate does the calendar search. It gets only lists of
//! plain numbers and naive wall-clock times, for which it is reliable. The grammar, the rule for
//! the two day fields, `$` and the clock changes are handled here.

use std::collections::BTreeSet;
use std::fmt;
use std::iter::StepBy;
use std::ops::RangeInclusive;
use std::str::FromStr;

use chrono::{
    DateTime, Datelike, MappedLocalTime, NaiveDateTime, Offset, TimeDelta, TimeZone, Utc,
};
use chrono_tz::{GapInfo, TZ_VARIANTS, Tz};
use thiserror::Error;

use crate::text::shown;

/// The last year that the `cron` crate searches.
const LAST_YEAR: i32 = 2100;

/// The named schedules, each with the five fields that it means.
const MACROS: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// The words that may follow a number of seconds.
const SECONDS: [&str; 2] = ["seconds", "second"];

/// A valid schedule: five cron fields, a name such as `@daily`, or a number of seconds.
///
/// [`FromStr`] makes it from text, and refuses an invalid text with a [`ScheduleError`]:
///
/// - five fields between blanks: minute (0–59), hour (0–23), day of month (1–31), month (1–12 or
///   `jan`–`dec`), day of week (0–7 or `sun`–`sat`; 0 and 7 are both Sunday), names in any case;
/// - a field is a list, separated by commas, of values, rising ranges `low-high`, and `*`; a range
///   or `*` may have a step `/n`, from 1 to the field's largest value. A range may end with `sun`
///   (`fri-sun`). `$` alone is the last day of the month;
/// - if neither day field begins with `*`, a day must match one of them; otherwise it must match
///   both;
/// - `@hourly`, `@daily`, `@midnight`, `@weekly`, `@monthly`, `@yearly`, `@annually`;
/// - `N seconds` (or `second`), N from 1 to 59.
///
/// # Examples
///
/// ```
/// # use segmenter_core::schedule::*;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let weekday_mornings: Schedule = "30 6 * * mon-fri".parse()?;
/// assert!("0 24 * * *".parse::<Schedule>().is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule(Rule);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    /// Runs this long after the given time.
    Every(TimeDelta),
    /// Runs when the wall clock shows a time of one of the calendars.
    Clock {
        /// Whether the job is at fixed times of day, and not hourly or more often. It then runs
        /// once for each such time, also when the clocks change.
        fixed: bool,
        calendars: Vec<Calendar>,
    },
}

/// Wall-clock times, to the minute.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Calendar {
    times: cron::Schedule,
    /// Whether only times on the last day of a month count.
    last_day: bool,
}

impl Calendar {
    /// Writes sets of field values in the notation of the `cron` crate: it has seconds first, and
    /// weekdays numbered from Sunday as 1.
    fn new(
        [minutes, hours, days, months, weekdays]: [&BTreeSet<u32>; 5],
        last_day: bool,
    ) -> Result<Self, ScheduleError> {
        let weekdays = weekdays.iter().map(|day| day % 7 + 1).collect();
        let lists = [minutes, hours, days, months, &weekdays].map(|values| {
            let values: Vec<String> = values.iter().map(u32::to_string).collect();
            values.join(",")
        });
        let text = format!("0 {}", lists.join(" "));
        let times = text.parse().map_err(|_| ScheduleError::Calendar(text))?;
        Ok(Self { times, last_day })
    }

    /// The wall-clock times later than `start`, in order.
    fn after(&self, start: NaiveDateTime) -> impl Iterator<Item = NaiveDateTime> {
        let ends_month = |time: &NaiveDateTime| time.date().succ_opt().is_none_or(|d| d.day() == 1);
        self.times
            .after_owned(start.and_utc())
            .map(|time| time.naive_utc())
            .filter(move |time| !self.last_day || ends_month(time))
    }
}

impl FromStr for Schedule {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        match words[..] {
            [] => Err(ScheduleError::Empty),
            [first, ..] if first.starts_with('@') => MACROS
                .iter()
                .find(|(name, _)| words.len() == 1 && name.eq_ignore_ascii_case(first))
                .ok_or_else(|| ScheduleError::Macro(shown(text)))
                .and_then(|(_, fields)| fields.parse()),
            [count, unit] if SECONDS.iter().any(|word| word.eq_ignore_ascii_case(unit)) => {
                let count = number(count)
                    .filter(|count| (1..=59).contains(count))
                    .ok_or_else(|| ScheduleError::Seconds(shown(count)))?;
                Ok(Self(Rule::Every(TimeDelta::seconds(count.into()))))
            }
            [minute, hour, day, month, weekday] => {
                Self::from_fields([minute, hour, day, month, weekday])
            }
            _ => Err(ScheduleError::FieldCount { count: words.len(), text: shown(text) }),
        }
    }
}

impl Schedule {
    fn from_fields([minute, hour, day, month, weekday]: [&str; 5]) -> Result<Self, ScheduleError> {
        let last_day = day == "$";
        let minutes = Field::Minute.parse(minute)?;
        let hours = Field::Hour.parse(hour)?;
        // The last day of a month is never before the 28th.
        let days = Field::DayOfMonth.parse(if last_day { "28-31" } else { day })?;
        let months = Field::Month.parse(month)?;
        let weekdays = Field::DayOfWeek.parse(weekday)?;

        let calendar = |days, weekdays, last_day| {
            Calendar::new([&minutes, &hours, days, &months, weekdays], last_day)
        };
        // The crate requires that both day fields match, so "one of them" takes two calendars.
        let calendars = if day.starts_with('*') || weekday.starts_with('*') {
            vec![calendar(&days, &weekdays, last_day)?]
        } else {
            vec![
                calendar(&days, &Field::DayOfWeek.parse("*")?, last_day)?,
                calendar(&Field::DayOfMonth.parse("*")?, &weekdays, false)?,
            ]
        };
        let fixed = !minute.starts_with('*') && !hour.starts_with('*');
        Ok(Self(Rule::Clock { fixed, calendars }))
    }

    /// Whether it runs when the wall clock shows certain times, independent of the given time.
    pub fn is_calendar(&self) -> bool {
        matches!(self.0, Rule::Clock { .. })
    }

    /// The first run later than `after`, by the clocks of `zone`; `None` if there is none.
    ///
    /// A job at fixed times of day (neither minute nor hour begins with `*`) whose time is skipped
    /// when clocks go forward runs at the first instant after the gap; a job whose time occurs
    /// twice when they go back runs the first time only. Other jobs follow real time: they skip the
    /// gap and run in both passes. A schedule of N seconds is `after` plus N seconds in any zone;
    /// the fraction of a second is kept.
    ///
    /// Calendar runs are known from 1970 to the end of 2100. An earlier `after` counts as the start
    /// of 1970, and after 2100 there are no runs (`chrono-tz` knows clock changes to the end of
    /// 2099). For a date that does not exist (30 February) all these years are searched, which
    /// takes microseconds.
    ///
    /// # Examples
    ///
    /// ```
    /// # use segmenter_core::schedule::*;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let schedule: Schedule = "30 2 * * *".parse()?;
    /// let after = "2026-03-28T12:00:00Z".parse()?;
    /// // Berlin has no 02:30 on 29 March 2026; 03:00 there is the first instant after the gap.
    /// let next = schedule.next_after(after, parse_zone("Europe/Berlin")?);
    /// assert_eq!(next, Some("2026-03-29T01:00:00Z".parse()?));
    /// # Ok(())
    /// # }
    /// ```
    pub fn next_after(&self, after: DateTime<Utc>, zone: Tz) -> Option<DateTime<Utc>> {
        let (fixed, calendars) = match &self.0 {
            Rule::Every(interval) => return after.checked_add_signed(*interval),
            Rule::Clock { fixed, calendars } => (*fixed, calendars),
        };
        // This also keeps the local times below within chrono's range.
        if after.year() > LAST_YEAR {
            return None;
        }
        let after = after.max(DateTime::UNIX_EPOCH);

        // The instant of a wall-clock time, if it is later than `after`.
        let run = |wall: NaiveDateTime| {
            let run = match zone.from_local_datetime(&wall) {
                MappedLocalTime::Single(run) => Some(run),
                MappedLocalTime::Ambiguous(first, second) => {
                    Some(if fixed || first > after { first } else { second })
                }
                MappedLocalTime::None if fixed => GapInfo::new(&wall, &zone)?.end,
                MappedLocalTime::None => None,
            };
            run.map(|run| run.to_utc()).filter(|run| *run > after)
        };

        // Later instants have later wall-clock times, except in the second pass of an overlap. In
        // the first pass, times that are already over on the wall clock are therefore still to come
        // in the second pass. The search uses the clocks of both passes, and the earlier result is
        // the next run. Outside overlaps there is one pass, which is used as both.
        let here = zone.from_local_datetime(&after.with_timezone(&zone).naive_local());
        [here.earliest(), here.latest()]
            .into_iter()
            .flatten()
            .map(|pass| after.naive_utc() + pass.offset().fix())
            .flat_map(|start| {
                calendars.iter().filter_map(move |calendar| calendar.after(start).find_map(run))
            })
            .min()
    }
}

/// A cron field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The first field, 0 to 59.
    Minute,
    /// The second field, 0 to 23.
    Hour,
    /// The third field, 1 to 31, or `$`.
    DayOfMonth,
    /// The fourth field, 1 to 12, or names.
    Month,
    /// The fifth field, 0 to 7, or names.
    DayOfWeek,
}

impl fmt::Display for Field {
    /// Writes the field's name in plain words, such as `day of month`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.facts().0)
    }
}

impl Field {
    /// Its name, its lowest and highest value, and the names of values from the lowest on.
    const fn facts(self) -> (&'static str, u32, u32, &'static [&'static str]) {
        match self {
            Self::Minute => ("minute", 0, 59, &[]),
            Self::Hour => ("hour", 0, 23, &[]),
            Self::DayOfMonth => ("day of month", 1, 31, &[]),
            Self::Month => ("month", 1, 12, &MONTHS),
            Self::DayOfWeek => ("day of week", 0, 7, &WEEKDAYS),
        }
    }

    /// The values of a whole field.
    fn parse(self, text: &str) -> Result<BTreeSet<u32>, ScheduleError> {
        let mut values = BTreeSet::new();
        for item in text.split(',') {
            values.extend(self.item(item).ok_or_else(|| ScheduleError::Field {
                field: self,
                text: shown(if item.is_empty() { text } else { item }),
            })?);
        }
        Ok(values)
    }

    /// The values of one item: a value, or a range or `*` with or without a step.
    fn item(self, item: &str) -> Option<StepBy<RangeInclusive<u32>>> {
        let (_, min, max, _) = self.facts();
        let (span, step) = match item.split_once('/') {
            Some((span, step)) => (span, Some(number(step)?)),
            None => (item, None),
        };
        let (low, high) = match span.split_once('-') {
            Some((low, high)) => (self.value(low)?, self.value(high)?),
            None if span == "*" => (min, max),
            // A step requires a range or `*`.
            None if step.is_some() => return None,
            None => (self.value(span)?, self.value(span)?),
        };
        // Sunday by name is 0, but 7 at the end of a range.
        let high = match high {
            0 if low > 0 && span.to_ascii_lowercase().ends_with("-sun") => 7,
            high => high,
        };
        let step = step.unwrap_or(1);
        (low <= high && (1..=max).contains(&step)).then(|| (low..=high).step_by(step as usize))
    }

    /// One value, by name or by number.
    fn value(self, text: &str) -> Option<u32> {
        let (_, min, max, names) = self.facts();
        (min..)
            .zip(names)
            .find(|(_, name)| name.eq_ignore_ascii_case(text))
            .map(|(value, _)| value)
            .or_else(|| number(text))
            .filter(|value| (min..=max).contains(value))
    }

    /// A sentence that says what the field allows.
    fn hint(self) -> String {
        let (name, min, max, _) = self.facts();
        let also = match self {
            Self::Month => " (or jan to dec)",
            Self::DayOfWeek => " (0 and 7 are Sunday; or sun to sat)",
            Self::DayOfMonth => " (or $ alone, the last day)",
            Self::Minute | Self::Hour => "",
        };
        format!(
            "The {name} may be *, values from {min} to {max}{also}, ranges from low to high, \
             or a list of these by commas; * and ranges may have a step from /1 to /{max}."
        )
    }
}

/// Parses decimal digits only: the standard parser would accept a plus sign.
fn number(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// Why a text is not a schedule.
///
/// `Display` gives the message in PostgreSQL's style; [`ScheduleError::hint`] gives what is
/// allowed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ScheduleError {
    /// The text is empty, or blank.
    #[error("schedule is empty")]
    Empty,
    /// The text does not have five fields.
    #[error("wrong number of fields ({count}) in schedule \"{text}\"")]
    FieldCount {
        /// How many fields it has.
        count: usize,
        /// The whole text.
        text: String,
    },
    /// The text begins with `@` and is not a known name.
    #[error("unknown schedule macro \"{0}\"")]
    Macro(String),
    /// The number before `seconds` is not from 1 to 59.
    #[error("invalid number of seconds \"{0}\" in schedule")]
    Seconds(String),
    /// A field is invalid or out of range.
    #[error("invalid {field} \"{text}\" in schedule")]
    Field {
        /// Which field.
        field: Field,
        /// The invalid item of its list, or the whole list if that item is empty.
        text: String,
    },
    /// The `cron` crate refused lists that were checked before; no text is known to cause this.
    #[error("calendar cannot hold schedule \"{0}\"")]
    Calendar(String),
}

impl ScheduleError {
    /// What is allowed instead, in one or two sentences.
    ///
    /// # Examples
    ///
    /// ```
    /// # use segmenter_core::schedule::*;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let error = "0 24 * * *".parse::<Schedule>().unwrap_err();
    /// assert_eq!(error.to_string(), r#"invalid hour "24" in schedule"#);
    /// assert!(error.hint().contains("values from 0 to 23"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn hint(&self) -> String {
        let macros = MACROS.map(|(name, _)| name).join(", ");
        match self {
            Self::Empty | Self::FieldCount { .. } | Self::Calendar(_) => format!(
                "A schedule is five fields (minute, hour, day of month, month, day of week), \
                 one of {macros}, or a number of seconds such as 30 seconds."
            ),
            Self::Macro(_) => format!("The macros are {macros}."),
            Self::Seconds(_) => "The number of seconds may be from 1 to 59.".to_owned(),
            Self::Field { field, .. } => field.hint(),
        }
    }
}

/// A text that is not the name of a time zone.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("unknown time zone \"{0}\"")]
pub struct ZoneError(String);

impl ZoneError {
    /// What is allowed, in one sentence.
    pub fn hint(&self) -> String {
        "A time zone is an IANA name, such as UTC or Europe/Berlin.".to_owned()
    }
}

/// Finds a time zone by its IANA name, such as `Europe/Berlin`, in any case.
///
/// Offsets (`+02`) and POSIX rules are not names; they are refused with a [`ZoneError`].
///
/// # Examples
///
/// ```
/// # use segmenter_core::schedule::*;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// assert_eq!(parse_zone("europe/berlin")?, chrono_tz::Europe::Berlin);
/// # Ok(())
/// # }
/// ```
pub fn parse_zone(name: &str) -> Result<Tz, ZoneError> {
    // The exact name is found without a search.
    let found = name.parse().ok();
    found
        .or_else(|| TZ_VARIANTS.into_iter().find(|zone| zone.name().eq_ignore_ascii_case(name)))
        .ok_or_else(|| ZoneError(shown(name)))
}

#[cfg(test)]
mod tests;
