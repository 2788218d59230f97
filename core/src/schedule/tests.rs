use super::*;
use chrono::{Days, Timelike};
use std::path::Path;
use std::time::{Duration, Instant};

fn schedule(text: &str) -> Schedule {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn zone(name: &str) -> Tz {
    parse_zone(name).unwrap()
}

fn next(text: &str, after: &str, zone_name: &str) -> Option<DateTime<Utc>> {
    schedule(text).next_after(at(after), zone(zone_name))
}

/// The rows of a file of vectors in the repository, without its heading.
fn vectors(file: &str) -> Vec<Vec<String>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../pg_test/data/cron");
    let text = std::fs::read_to_string(folder.join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
    text.lines().skip(1).map(cells).collect()
}

/// The cells of a CSV line. Quoted cells may contain commas; the vectors contain no quotes.
fn cells(line: &str) -> Vec<String> {
    let mut cells = vec![String::new()];
    let mut quoted = false;
    for char in line.chars() {
        match char {
            '"' => quoted = !quoted,
            ',' if !quoted => cells.push(String::new()),
            _ => cells.last_mut().unwrap().push(char),
        }
    }
    cells
}

#[test]
fn next_runs_agree_with_the_vectors() {
    let rows = vectors("next.csv");
    assert!(rows.len() > 300, "{} vectors", rows.len());
    for row in &rows {
        let [text, zone_name, after, expected, class] = &row[..] else {
            panic!("{row:?}");
        };
        let expected = (!expected.is_empty()).then(|| at(expected));
        assert_eq!(
            next(text, after, zone_name),
            expected,
            "{class}: {text} after {after} in {zone_name}"
        );
    }
}

#[test]
fn invalid_vectors_are_refused_by_field() {
    let rows = vectors("invalid.csv");
    assert!(rows.len() > 40, "{} vectors", rows.len());
    for row in &rows {
        let [text, expected] = &row[..] else {
            panic!("{row:?}");
        };
        let error = text.parse::<Schedule>().expect_err(text);
        let (named, offending) = match &error {
            ScheduleError::Empty => ("empty".to_owned(), ""),
            ScheduleError::FieldCount { text, .. } => ("field count".to_owned(), text.as_str()),
            ScheduleError::Macro(text) => ("macro".to_owned(), text.as_str()),
            ScheduleError::Seconds(text) => ("interval".to_owned(), text.as_str()),
            ScheduleError::Field { field, text } => (field.to_string(), text.as_str()),
            ScheduleError::Calendar(text) => ("calendar".to_owned(), text.as_str()),
        };
        assert_eq!(&named, expected, "{text}: {error}");
        assert!(text.contains(offending), "{text}: {error}");
    }
}

#[test]
fn errors_name_the_field_the_text_and_what_is_allowed() {
    for (text, message, hint) in [
        ("0 24 * * *", r#"invalid hour "24" in schedule"#, "values from 0 to 23"),
        ("0,5,60 * * * *", r#"invalid minute "60" in schedule"#, "from /1 to /59"),
        ("5,,6 * * * *", r#"invalid minute "5,,6" in schedule"#, "a list of these by commas"),
        ("0 0 $,1 * *", r#"invalid day of month "$" in schedule"#, "$ alone"),
        ("0 0 * jan-sun *", r#"invalid month "jan-sun" in schedule"#, "jan to dec"),
        ("0 0 * * fri-0", r#"invalid day of week "fri-0" in schedule"#, "sun to sat"),
        ("*/60 * * * *", r#"invalid minute "*/60" in schedule"#, "from /1 to /59"),
        ("* * * * 1-5/8", r#"invalid day of week "1-5/8" in schedule"#, "from /1 to /7"),
        ("99999999999 * * * *", r#"invalid minute "99999999999" in schedule"#, "0 to 59"),
        ("\t", "schedule is empty", "five fields"),
        ("* *", r#"wrong number of fields (2) in schedule "* *""#, "minute, hour"),
        ("@reboot", r#"unknown schedule macro "@reboot""#, "@hourly, @daily"),
        ("@daily now", r#"unknown schedule macro "@daily now""#, "@annually"),
        ("60 seconds", r#"invalid number of seconds "60" in schedule"#, "1 to 59"),
    ] {
        let error = text.parse::<Schedule>().expect_err(text);
        assert_eq!(error.to_string(), message);
        assert!(error.hint().contains(hint), "{text}: {}", error.hint());
    }
}

#[test]
fn zones_are_found_by_name_in_any_case() {
    assert_eq!(parse_zone("europe/BERLIN"), Ok(Tz::Europe__Berlin));
    assert_eq!(parse_zone("utc"), Ok(Tz::UTC));
    for name in ["", "Berlin", "+02", "Europe/Berlin ", "CET-1CEST"] {
        let error = parse_zone(name).expect_err(name);
        assert_eq!(error.to_string(), format!("unknown time zone \"{name}\""));
        assert!(error.hint().contains("IANA"));
    }
}

#[test]
fn seconds_count_from_the_time_given() {
    for text in ["30 seconds", " 30  Seconds ", "30 second"] {
        assert_eq!(
            next(text, "2026-03-29T00:59:45.250Z", "Europe/Berlin"),
            Some(at("2026-03-29T01:00:15.250Z"))
        );
    }
    assert_eq!(schedule("1 seconds").next_after(DateTime::<Utc>::MAX_UTC, Tz::UTC), None);
}

#[test]
fn a_range_may_end_with_sunday_by_name() {
    let runs = |weekday: &str| {
        let schedule = schedule(&format!("0 0 * * {weekday}"));
        let mut time = at("2026-05-02T12:00:00Z");
        let until = at("2026-05-09T12:00:00Z");
        std::iter::from_fn(|| {
            time = schedule.next_after(time, Tz::UTC)?;
            (time < until).then(|| time.weekday().num_days_from_sunday())
        })
        .collect::<Vec<_>>()
    };
    assert_eq!(runs("fri-sun"), [0, 5, 6]);
    assert_eq!(runs("4-SUN/2"), [4, 6]);
    assert_eq!(runs("sun-tue"), [0, 1, 2]);
    for sunday in ["0", "7", "sun", "sun-sun", "7-sun", "*/7"] {
        assert_eq!(runs(sunday), [0], "{sunday}");
    }
    for all in ["*", "0-7", "1-7", "mon-sun", "sun-sat", "sun-7"] {
        assert_eq!(runs(all), [0, 1, 2, 3, 4, 5, 6], "{all}");
    }
}

#[test]
fn leap_days_come_in_leap_years() {
    for (after, expected) in [
        ("2024-02-29T11:59:59.999Z", "2024-02-29T12:00:00Z"),
        ("2024-02-29T12:00:00Z", "2028-02-29T12:00:00Z"),
        ("2000-01-01T00:00:00Z", "2000-02-29T12:00:00Z"),
    ] {
        assert_eq!(next("0 12 29 feb *", after, "UTC"), Some(at(expected)), "{after}");
    }
    // 2100 has no leap day, and is the last year searched.
    assert_eq!(next("0 12 29 2 *", "2096-02-29T12:00:00Z", "UTC"), None);
    for (after, expected) in [
        ("2023-02-10T00:00:00Z", "2023-02-28T00:00:00Z"),
        ("2024-02-10T00:00:00Z", "2024-02-29T00:00:00Z"),
        ("2100-02-10T00:00:00Z", "2100-02-28T00:00:00Z"),
    ] {
        assert_eq!(next("0 0 $ * *", after, "UTC"), Some(at(expected)));
    }
}

#[test]
fn a_skipped_day_runs_its_jobs_once_at_its_end() {
    // Samoa crossed the date line: there was no 30 December 2011.
    let midnight = Some(at("2011-12-30T10:00:00Z"));
    for text in ["0 12 30 12 *", "0,30 3,4 30 12 *", "0 0 * * *"] {
        assert_eq!(next(text, "2011-12-30T09:59:00Z", "Pacific/Apia"), midnight, "{text}");
    }
    assert_eq!(
        next("0 12 30 12 *", "2011-12-30T10:00:00Z", "Pacific/Apia"),
        Some(at("2012-12-29T22:00:00Z"))
    );
}

#[test]
fn a_schedule_that_never_runs_is_recognized_quickly() {
    let began = Instant::now();
    for (text, zone_name) in [
        ("0 0 30 2 *", "UTC"),
        ("* * 31 feb */2", "Australia/Lord_Howe"),
        ("*/2 * 30-31 2 *", "America/New_York"),
        ("0 0 31 4,6,9,11 *", "UTC"),
        // The hour that Berlin's clocks skip, on the days when they skip it.
        ("* 2 29-31 3 */7", "Europe/Berlin"),
    ] {
        let next = next(text, "2026-11-01T05:30:00Z", zone_name);
        assert_eq!(next, None, "{text}");
    }
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[test]
fn instants_outside_the_known_years_are_handled() {
    for zone_name in ["UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"] {
        let zone = zone(zone_name);
        let daily = schedule("@daily");
        assert_eq!(daily.next_after(DateTime::<Utc>::MAX_UTC, zone), None, "{zone}");
        let first = daily.next_after(DateTime::<Utc>::MIN_UTC, zone).unwrap();
        assert!(first - DateTime::UNIX_EPOCH <= TimeDelta::days(1), "{zone}");
        assert_eq!(daily.next_after(at("2101-01-01T12:00:00Z"), zone), None);
    }
}

/// Pseudo-random numbers, the same in each run (Knuth's MMIX generator).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len() as u64) as usize]
    }
}

/// One field of the reference: its text, and for each number whether it is one of its values.
struct Mask {
    text: String,
    holds: [bool; 60],
}

impl Mask {
    /// A field of values from `min` to `max`: `*`, `*/n`, or a list of up to `items` values and
    /// ranges.
    fn roll(dice: &mut Dice, min: u64, max: u64, items: u64) -> Self {
        let mut holds = [false; 60];
        let mut texts = Vec::new();
        for _ in 0..=dice.below(items) {
            let (low, high) = (dice.below(max - min + 1), dice.below(max - min + 1));
            let (low, high) = (min + low.min(high), min + low.max(high));
            let step = 1 + dice.below(max.min(20));
            let (text, low, high, step) = match dice.below(6) {
                0 | 1 if texts.is_empty() => ("*".to_owned(), min, max, 1),
                2 if texts.is_empty() => (format!("*/{step}"), min, max, step),
                3 => (format!("{low}-{high}"), low, high, 1),
                4 => (format!("{low}-{high}/{step}"), low, high, step),
                _ => (low.to_string(), low, low, 1),
            };
            for value in (low..=high).step_by(step as usize) {
                holds[value as usize] = true;
            }
            texts.push(text);
        }
        Self { text: texts.join(","), holds }
    }
}

/// The reference: an expression that is checked minute by minute.
struct Reference {
    fields: [Mask; 5],
    last_day: bool,
}

impl Reference {
    fn roll(dice: &mut Dice) -> Self {
        // Hours of the night, when clocks change, are more likely.
        let night = 23 - 18 * dice.below(2);
        let mut fields = [
            Mask::roll(dice, 0, 59, 3),
            Mask::roll(dice, 0, night, 2),
            Mask::roll(dice, 1, 31, 3),
            Mask::roll(dice, 1, 12, 2),
            Mask::roll(dice, 0, 7, 2),
        ];
        if night < 23 && fields[1].text.starts_with('*') {
            fields[1] = Mask::roll(dice, 0, 23, 1);
        }
        for field in [2, 3, 4] {
            if dice.below(3) > 0 {
                fields[field].text = "*".to_owned();
                fields[field].holds = [true; 60];
            }
        }
        let last_day = dice.below(8) == 0;
        if last_day {
            fields[2].text = "$".to_owned();
        }
        Self { fields, last_day }
    }

    fn text(&self) -> String {
        self.fields.each_ref().map(|field| &*field.text).join(" ")
    }

    fn starred(&self, field: usize) -> bool {
        self.fields[field].text.starts_with('*')
    }

    /// Whether the expression matches a wall-clock time.
    fn holds(&self, wall: NaiveDateTime) -> bool {
        let holds = |field: usize, value: u32| self.fields[field].holds[value as usize];
        let day = if self.last_day {
            (wall + Days::new(1)).month() != wall.month()
        } else {
            holds(2, wall.day())
        };
        let sunday_based = wall.weekday().num_days_from_sunday();
        let weekday = holds(4, sunday_based) || sunday_based == 0 && holds(4, 7);
        let days = if self.starred(2) || self.starred(4) { day && weekday } else { day || weekday };
        holds(0, wall.minute()) && holds(1, wall.hour()) && holds(3, wall.month()) && days
    }

    /// The first run later than `after` and not later than `until`. Time advances minute by minute
    /// from some time before, as a cron daemon would see it. A fixed job runs for all wall-clock
    /// minutes after the latest one seen before; other jobs run for the current minute.
    fn next(&self, after: DateTime<Utc>, until: DateTime<Utc>, zone: Tz) -> Option<DateTime<Utc>> {
        let fixed = !self.starred(0) && !self.starred(1);
        let minute = TimeDelta::minutes(1);
        let wall_at = |time: DateTime<Utc>| time.with_timezone(&zone).naive_local();
        let mut time = after.with_second(0).unwrap().with_nanosecond(0).unwrap();
        // A fixed job depends on the minutes seen before; overlaps are shorter than this.
        time -= if fixed { TimeDelta::hours(27) } else { minute };
        let mut seen = wall_at(time);
        while time < until {
            time += minute;
            let wall = wall_at(time);
            let first = if fixed { seen + minute } else { wall };
            let mut minutes = std::iter::successors(Some(first), |wall| Some(*wall + minute))
                .take_while(|minute| *minute <= wall);
            if time > after && minutes.any(|minute| self.holds(minute)) {
                return Some(time);
            }
            seen = seen.max(wall);
        }
        None
    }
}

/// An instant between 2006 and 2035, in most cases within hours of a clock change of the zone.
fn roll_instant(dice: &mut Dice, zone: Tz) -> DateTime<Utc> {
    let offset = |time: DateTime<Utc>| zone.offset_from_utc_datetime(&time.naive_utc()).fix();
    let mut time = at("2006-01-01T00:00:00Z") + TimeDelta::minutes(dice.below(15_500_000) as i64);
    if dice.below(4) > 0 {
        let quarter = TimeDelta::minutes(15);
        let change = (0..40_000)
            .map(|quarters| time + quarter * quarters)
            .find(|time| offset(*time) != offset(*time + quarter));
        if let Some(change) = change {
            time = change + TimeDelta::minutes(dice.below(480) as i64 - 240);
        }
    }
    time + TimeDelta::milliseconds(*dice.pick(&[&0, &0, &1_000, &30_500, &59_999]))
}

#[test]
fn next_runs_agree_with_a_minute_by_minute_reference() {
    let zones = [
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "America/Sao_Paulo",
        "America/St_Johns",
        "Asia/Kolkata",
        "Asia/Tehran",
        "Africa/Casablanca",
        "Africa/Cairo",
        "Australia/Lord_Howe",
        "Pacific/Apia",
        "Pacific/Chatham",
    ];
    const CASES: usize = 600;
    let mut dice = Dice(20_260_329);
    let mut found = 0;
    for _ in 0..CASES {
        let zone = zone(dice.pick(&zones));
        let reference = Reference::roll(&mut dice);
        let after = roll_instant(&mut dice, zone);
        let until = after + TimeDelta::days(2);
        let text = reference.text();
        let next = schedule(&text).next_after(after, zone);
        let case = format!("{text} after {after} in {zone}");
        if let Some(expected) = reference.next(after, until, zone) {
            found += 1;
            assert_eq!(next, Some(expected), "{case}");
        } else if let Some(next) = next {
            assert!(next > until, "{case}: {next}");
            let eve = (next - TimeDelta::days(1)).max(until);
            assert_eq!(reference.next(eve, next, zone), Some(next), "{case}");
        }
    }
    assert!(found > CASES / 3, "only {found} of {CASES} ran");
}
