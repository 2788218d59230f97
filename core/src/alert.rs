//! Alerts: what is observed of a segment, and what is reported of it. Each state is reported once when it begins, and once
//! when it is over; one that changes too often is reported as that.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::config::{AlertKind as Kind, AlertRule, Limit};
use crate::text::first;

/// For how long a segment may be due before it is late, unless the rule says so.
const LATE: Duration = Duration::from_secs(600);
/// How far the number of members may change in one refresh, unless the rule says so. What is unusual of the
/// segment is reported besides.
const SIZE: f64 = 0.5;
/// The state of a subject of which nothing is wrong.
pub const OK: &str = "ok";
/// What is reported last of something that was wrong when the segment was retired, or the rule came to leave it out.
pub const ENDED: &str = "ended";

/// What a state is of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// The last refresh: failed, refused or waiting.
    Refresh,
    Late,
    Size,
    Definition,
    /// By the id of the subscription.
    Delivery(String),
    Drift(String),
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Subject::Refresh => f.write_str("refresh"),
            Subject::Late => f.write_str("late"),
            Subject::Size => f.write_str("size"),
            Subject::Definition => f.write_str("definition"),
            Subject::Delivery(id) => write!(f, "delivery {id}"),
            Subject::Drift(id) => write!(f, "drift {id}"),
        }
    }
}

/// What is known of a segment now.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// How the last refresh ended; none: it was never refreshed.
    pub status: Option<Status>,
    /// Why it did not succeed.
    pub message: Option<String>,
    /// Failures in a row.
    pub failures: u32,
    /// For how long it has been waiting for its sources.
    pub waiting: Option<Duration>,
    /// For how long it has been due, zero: it is not; none: that is not looked at.
    pub due: Option<Duration>,
    /// How many refreshes have succeeded, and what the last one changed.
    pub refreshes: i64,
    pub before: u64,
    pub after: u64,
    /// What is unusual of the last refresh by the segment's own past.
    pub unusual: Vec<String>,
    /// The version of the definition, the columns that were changed since the one that was looked at last, and the
    /// roles that did it.
    pub version: i64,
    pub changed: Vec<String>,
    pub changed_by: Vec<String>,
    pub subscriptions: Vec<Handed>,
}

/// How the last attempt to refresh a segment ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Ok,
    Failed,
    Refused,
    Waiting,
}

/// What is known of an active subscription.
#[derive(Debug, Clone, Default)]
pub struct Handed {
    pub id: String,
    pub consumer: String,
    pub target: String,
    /// Why its messages are stuck, or could not be written; none: they are not.
    pub problem: Option<String>,
    /// For how long the first message has been waiting that could be delivered.
    pub lag: Option<Duration>,
    /// How far the audience differs from what was handed over, as a share; none: it is not known.
    pub drift: Option<f64>,
    /// Whether that is more than the subscription allows.
    pub is_over: bool,
}

/// A state that is observed.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    pub subject: Subject,
    /// None: it stays as it was.
    pub state: Option<&'static str>,
    /// For people, without the segment's name: what it is.
    pub summary: String,
    pub detail: Option<String>,
    /// Of a size or a definition: the refresh or the version that it was observed with.
    pub seen: Option<i64>,
    /// The consumer and the target that it is about.
    pub consumer: Option<(String, String)>,
}

/// What is known of a subject, between two looks.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Memory {
    pub state: String,
    pub reported: String,
    pub since: DateTime<Utc>,
    /// When it changed lately.
    pub changes: Vec<DateTime<Utc>>,
    pub seen: Option<i64>,
}

impl Memory {
    /// Of a subject of which nothing was ever wrong.
    pub fn new(now: DateTime<Utc>, seen: Option<i64>) -> Self {
        Self { state: OK.into(), reported: OK.into(), since: now, changes: Vec::new(), seen }
    }

    /// Whether there is nothing in it that has to be kept.
    pub fn is_empty(&self) -> bool {
        self.state == OK && self.reported == OK && self.changes.is_empty() && self.seen.is_none()
    }
}

/// When a state counts as one that changes too often: after more than `changes` changes `within` a time.
#[derive(Debug, Clone, Copy)]
pub struct Damping {
    pub changes: usize,
    pub within: TimeDelta,
}

/// A change that is reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reported {
    pub was: String,
    pub is: String,
    /// Since when it is so.
    pub since: DateTime<Utc>,
    /// It has changed too often: nothing more is reported until it has come to rest.
    pub is_flapping: bool,
}

/// What is reported after a look at a subject, which its memory is brought up to date by.
///
/// With damping, the change that is one too many is reported as flapping, and the next ones are not, until the
/// subject has stayed in one state for the time. Then that state is reported, if it is another one than was reported.
pub fn look(
    memory: &mut Memory,
    observed: &Observed,
    now: DateTime<Utc>,
    damping: Option<Damping>,
) -> Option<Reported> {
    memory.seen = observed.seen.or(memory.seen);
    match (&observed.subject, observed.state) {
        // An event has no end.
        (Subject::Definition, state) => state.map(|is| Reported {
            was: OK.into(),
            is: is.into(),
            since: now,
            is_flapping: false,
        }),
        (_, state) => {
            let state = state.map_or_else(|| memory.state.clone(), str::to_owned);
            change(memory, &state, now, damping)
        }
    }
}

/// What is reported when a subject is not looked at any more.
pub fn leave(reported: &str, now: DateTime<Utc>) -> Option<Reported> {
    let ended =
        || Reported { was: reported.into(), is: ENDED.into(), since: now, is_flapping: false };
    (reported != OK).then(ended)
}

fn change(
    memory: &mut Memory,
    state: &str,
    now: DateTime<Utc>,
    damping: Option<Damping>,
) -> Option<Reported> {
    let was_flapping = damping.is_some_and(|damping| memory.changes.len() > damping.changes);
    match damping {
        // Times that were recorded while the clock was ahead count for nothing.
        Some(Damping { within, .. }) => {
            memory.changes.retain(|at| *at <= now && now - *at < within);
        }
        None => memory.changes.clear(),
    }
    if memory.state != state {
        (memory.state, memory.since) = (state.to_owned(), now);
        memory.changes.extend(damping.map(|_| now));
    }
    let Some(Damping { changes: limit, .. }) = damping else { return report(memory, false) };
    match memory.changes.last().copied() {
        Some(last) if was_flapping => {
            // It flaps until the last change is as old as that.
            memory.changes = vec![last; limit + 1];
            None
        }
        _ => {
            let is_flapping = memory.changes.len() > limit;
            report(memory, is_flapping)
        }
    }
}

fn report(memory: &mut Memory, is_flapping: bool) -> Option<Reported> {
    if memory.reported == memory.state && !is_flapping {
        return None;
    }
    let was = std::mem::replace(&mut memory.reported, memory.state.clone());
    Some(Reported { was, is: memory.state.clone(), since: memory.since, is_flapping })
}

/// Reads the intervals of a rule.
pub trait Interval {
    fn duration(&self, text: &str) -> Duration;
}

/// What a rule observes of a segment. `seen`: with which refresh, or version, a subject was observed last.
pub fn observe(
    rule: &AlertRule,
    facts: &Facts,
    intervals: &impl Interval,
    seen: impl Fn(&Subject) -> Option<i64>,
) -> Vec<Observed> {
    let mut observed = Vec::new();
    let time = |limit: &Option<Limit>, usual: Duration| match limit {
        Some(Limit::Time(text)) => intervals.duration(text),
        _ => usual,
    };
    if [Kind::Failed, Kind::Refused, Kind::Waiting].iter().any(|kind| rule.on(*kind).is_some()) {
        observed.push(refresh(rule, facts, time));
    }
    if let (Some(condition), Some(due)) = (rule.on(Kind::Late), facts.due) {
        let limit = time(&condition.limit, LATE);
        let is_late = Some(due).filter(|due| *due > limit);
        let summary = match is_late {
            Some(due) => format!("it has been due for {} and was not refreshed", words(due)),
            None => "it is not overdue any more".into(),
        };
        let detail = facts.message.clone().filter(|_| is_late.is_some());
        let state = if is_late.is_some() { Kind::Late.as_str() } else { OK };
        observed.push(Observed { detail, ..plain(Subject::Late, state, summary) });
    }
    if let Some(condition) = rule.on(Kind::Size)
        && facts.refreshes > 0
    {
        observed.push(size(facts, &condition.limit, seen(&Subject::Size)));
    }
    if rule.on(Kind::Definition).is_some() && facts.version > 0 {
        observed.push(definition(facts, seen(&Subject::Definition)));
    }
    for subscription in &facts.subscriptions {
        if let Some(condition) = rule.on(Kind::Delivery) {
            let limit = condition.limit.as_ref().map(|_| time(&condition.limit, Duration::ZERO));
            observed.push(delivery(subscription, limit));
        }
        if let Some(condition) = rule.on(Kind::Drift) {
            observed.push(drift(subscription, &condition.limit));
        }
    }
    observed
}

fn plain(subject: Subject, state: &'static str, summary: String) -> Observed {
    Observed { subject, state: Some(state), summary, detail: None, seen: None, consumer: None }
}

fn refresh(
    rule: &AlertRule,
    facts: &Facts,
    time: impl Fn(&Option<Limit>, Duration) -> Duration,
) -> Observed {
    let reported = |kind: Kind| {
        let condition = rule.on(kind)?;
        let is_over = match (kind, &condition.limit) {
            (Kind::Failed, Some(Limit::Count(limit))) => facts.failures > *limit,
            (Kind::Waiting, limit) => {
                facts.waiting.unwrap_or_default() >= time(limit, Duration::ZERO)
            }
            _ => true,
        };
        is_over.then_some(kind.as_str())
    };
    let (state, summary) = match facts.status {
        None => (None, String::new()),
        Some(Status::Ok) => (Some(OK), "it is refreshed again".to_owned()),
        Some(Status::Failed) => (
            reported(Kind::Failed),
            match facts.failures {
                0 | 1 => "its refresh failed".into(),
                many => format!("its refresh failed {many} times in a row"),
            },
        ),
        Some(Status::Refused) => (reported(Kind::Refused), "its refresh was refused".into()),
        Some(Status::Waiting) => (
            reported(Kind::Waiting),
            match facts.waiting {
                Some(waited) if waited >= Duration::from_secs(60) => {
                    format!("it has been waiting for its sources for {}", words(waited))
                }
                _ => "it waits for its sources".into(),
            },
        ),
    };
    let detail = facts.message.clone().filter(|_| facts.status != Some(Status::Ok));
    let subject = Subject::Refresh;
    Observed { subject, state, summary, detail, seen: None, consumer: None }
}

fn size(facts: &Facts, limit: &Option<Limit>, seen: Option<i64>) -> Observed {
    let (before, after) = (facts.before, facts.after);
    let share = match before {
        // The first members are no change.
        0 => 0.0,
        _ => (after as f64 - before as f64).abs() / before as f64,
    };
    let (is_large, unusual) = match limit {
        Some(Limit::Share(limit)) => (share > *limit, false),
        _ => (share >= SIZE, !facts.unusual.is_empty()),
    };
    let change = match after >= before {
        true => "has grown",
        false => "has shrunk",
    };
    let summary = match (is_large || unusual, before == after) {
        (true, false) => format!("it {change} from {before} to {after} members in one refresh"),
        (true, true) => {
            format!("many of its {after} members were changed or replaced in one refresh")
        }
        (false, _) => format!("its size has come to rest: it has {after} members"),
    };
    let state = match seen {
        // What was there before the rule is not reported, and a refresh is looked at once.
        None => None,
        Some(seen) if seen == facts.refreshes => None,
        Some(_) if is_large || unusual => Some(Kind::Size.as_str()),
        Some(_) => Some(OK),
    };
    let detail = (!facts.unusual.is_empty() && unusual).then(|| facts.unusual.join("; "));
    let seen = Some(facts.refreshes);
    Observed { subject: Subject::Size, state, summary, detail, seen, consumer: None }
}

/// What has changed of the definition since the version `seen`.
pub fn definition(facts: &Facts, seen: Option<i64>) -> Observed {
    let version = facts.version;
    let mut summary = match seen {
        Some(seen) if seen + 1 < version => {
            format!("its definition was changed: versions {} to {version}", seen + 1)
        }
        _ => format!("its definition was changed: version {version}"),
    };
    let quoted = |names: &[String]| {
        let names: Vec<_> = names.iter().map(|name| format!("\"{name}\"")).collect();
        names.join(", ")
    };
    match &facts.changed_by[..] {
        [] => {}
        [role] => summary.push_str(&format!(", by role \"{role}\"")),
        roles => summary.push_str(&format!(", by roles {}", quoted(roles))),
    }
    let columns = &facts.changed;
    let detail = (!columns.is_empty()).then(|| format!("changed: {}", quoted(columns)));
    let is_new = seen.is_some_and(|seen| seen < version);
    Observed {
        subject: Subject::Definition,
        state: is_new.then_some(Kind::Definition.as_str()),
        summary,
        detail,
        seen: Some(facts.version),
        consumer: None,
    }
}

fn delivery(handed: &Handed, limit: Option<Duration>) -> Observed {
    let lag = handed.lag.filter(|lag| limit.is_some_and(|limit| *lag > limit));
    let to = format!("\"{}\" for \"{}\"", handed.consumer, handed.target);
    let (state, summary) = match (&handed.problem, lag) {
        (Some(_), _) => (Kind::Delivery.as_str(), format!("its messages to {to} are stuck")),
        (None, Some(lag)) => {
            let waited = words(lag);
            (Kind::Delivery.as_str(), format!("a message to {to} has been waiting for {waited}"))
        }
        (None, None) => (OK, format!("its messages to {to} are delivered again")),
    };
    Observed {
        detail: handed.problem.clone().filter(|problem| !problem.is_empty()),
        consumer: Some((handed.consumer.clone(), handed.target.clone())),
        ..plain(Subject::Delivery(handed.id.clone()), state, summary)
    }
}

fn drift(handed: &Handed, limit: &Option<Limit>) -> Observed {
    let to = format!("\"{}\" for \"{}\"", handed.consumer, handed.target);
    let is_over = match (limit, handed.drift) {
        (_, None) => None,
        (Some(Limit::Share(limit)), Some(drift)) => Some(drift > *limit),
        (_, Some(_)) => Some(handed.is_over),
    };
    let percent = (handed.drift.unwrap_or_default() * 1000.0).round() / 10.0;
    let (state, summary) = match is_over {
        None => (None, String::new()),
        Some(true) => (
            Some(Kind::Drift.as_str()),
            format!("its audience of {to} differs by {percent} % from what was handed over"),
        ),
        Some(false) => (Some(OK), format!("its audience of {to} is what was handed over again")),
    };
    let consumer = Some((handed.consumer.clone(), handed.target.clone()));
    let subject = Subject::Drift(handed.id.clone());
    Observed { subject, state, summary, detail: None, seen: None, consumer }
}

/// A time in words, in its largest unit.
fn words(time: Duration) -> String {
    let seconds = time.as_secs();
    let (count, unit) = match seconds {
        0..=119 => (seconds, "second"),
        120..=7_199 => (seconds / 60, "minute"),
        7_200..=172_799 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    match count {
        1 => format!("1 {unit}"),
        _ => format!("{count} {unit}s"),
    }
}

/// The most characters of a summary and of a detail: what is reported is read on a phone.
const MAX_SUMMARY: usize = 500;
const MAX_DETAIL: usize = 2000;

/// The key `alert` of a message: what is reported, of which rule and which subject. `about` is what was observed;
/// none: the segment is not looked at any more.
pub fn message(
    rule: &str,
    (segment_id, segment): (&str, &str),
    (subject, about): (&str, Option<&Observed>),
    reported: &Reported,
) -> Value {
    let is_event = subject == Subject::Definition.to_string();
    let kind = match (reported.is.as_str(), reported.was.as_str()) {
        (OK | ENDED, was) => was,
        (is, _) => is,
    };
    let gone = || "it is not looked at any more".to_owned();
    let summary = about.map_or_else(gone, |observed| observed.summary.clone());
    let mut summary = format!("segment \"{segment}\": {summary}");
    if reported.is_flapping {
        summary.push_str("; it changes often: no more is reported of it until it has come to rest");
    }
    let consumer = about.and_then(|observed| observed.consumer.as_ref());
    json!({
        "rule": rule,
        "key": format!("{rule} {segment_id} {subject}"),
        "on": kind,
        "was": reported.was,
        "is": reported.is,
        "firing": !matches!(reported.is.as_str(), OK | ENDED),
        "event": is_event,
        "flapping": reported.is_flapping,
        "since": reported.since.to_rfc3339_opts(chrono::SecondsFormat::Micros, true),
        "summary": first(&summary, MAX_SUMMARY),
        "detail": about.and_then(|observed| observed.detail.as_deref()).map(|text| first(text, MAX_DETAIL)),
        "consumer": consumer.map(|(consumer, _)| consumer),
        "target": consumer.map(|(_, target)| target),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Subject as Of, alert_rule};

    struct Hours;

    impl Interval for Hours {
        fn duration(&self, text: &str) -> Duration {
            let hours = text.strip_suffix(" h").and_then(|hours| hours.parse::<u64>().ok());
            Duration::from_secs(3600 * hours.expect("a number of hours"))
        }
    }

    fn at(minutes: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::days(20_000) + TimeDelta::minutes(minutes)
    }

    fn rule(on: &[&str]) -> AlertRule {
        alert_rule(json!({"on": on}), Of::Alert("ops")).expect("a rule")
    }

    /// The states that are observed, with the subjects.
    fn states(rule: &AlertRule, facts: &Facts) -> Vec<(String, Option<&'static str>)> {
        let observed = observe(rule, facts, &Hours, |_| Some(0));
        observed.into_iter().map(|found| (found.subject.to_string(), found.state)).collect()
    }

    const DAMPING: Damping = Damping { changes: 4, within: TimeDelta::minutes(60) };

    #[test]
    fn each_change_is_told_once() {
        let mut memory = Memory::new(at(0), None);
        let mut reported = Vec::new();
        for (minute, state) in
            ["ok", "failed", "failed", "failed", "refused", "ok", "ok"].iter().enumerate()
        {
            let found = change(&mut memory, state, at(minute as i64), None);
            reported.extend(found.map(|reported| format!("{} {}", reported.was, reported.is)));
        }
        assert_eq!(reported, ["ok failed", "failed refused", "refused ok"]);
        assert!(memory.is_empty());
    }

    #[test]
    fn flapping_is_told_and_its_end() {
        let mut memory = Memory::new(at(0), None);
        let mut reported = Vec::new();
        for minute in 0..30 {
            let state = if minute % 2 == 0 { "failed" } else { OK };
            if let Some(found) = change(&mut memory, state, at(minute), Some(DAMPING)) {
                reported.push((minute, found.is, found.is_flapping));
            }
        }
        let expected = [
            (0, "failed", false),
            (1, OK, false),
            (2, "failed", false),
            (3, OK, false),
            (4, "failed", true),
        ];
        assert_eq!(reported, expected.map(|(minute, is, flaps)| (minute, is.to_owned(), flaps)));
        // It stays ok, is looked at every minute, and is reported when an hour has gone.
        let rest: Vec<i64> = (30..120)
            .filter(|minute| change(&mut memory, OK, at(*minute), Some(DAMPING)).is_some())
            .collect();
        assert_eq!(rest, [29 + 60]);
        assert!(memory.is_empty());
    }

    #[test]
    fn a_clock_that_was_ahead_makes_nothing_flap() {
        let mut memory = Memory::new(at(0), None);
        memory.changes = vec![at(10_000); 4];
        let reported = change(&mut memory, "failed", at(1), Some(DAMPING)).expect("a change");
        assert!(!reported.is_flapping);
        assert_eq!(memory.changes, [at(1)]);
    }

    #[test]
    fn a_state_that_is_not_asked_for_changes_nothing() {
        let facts = |status| Facts { status: Some(status), failures: 1, ..Facts::default() };
        let rule = rule(&["failed"]);
        let refresh = |state| vec![("refresh".to_owned(), state)];
        assert_eq!(states(&rule, &facts(Status::Failed)), refresh(Some("failed")));
        assert_eq!(states(&rule, &facts(Status::Refused)), refresh(None));
        assert_eq!(states(&rule, &facts(Status::Waiting)), refresh(None));
        assert_eq!(states(&rule, &facts(Status::Ok)), refresh(Some(OK)));
        assert_eq!(states(&rule, &Facts::default()), refresh(None));
    }

    #[test]
    fn limits_are_kept() {
        let rule =
            rule(&["failed > 2", "waiting > 2 h", "late > 1 h", "delivery > 3 h", "drift > 10 %"]);
        let hours = |hours: u64| Some(Duration::from_secs(3600 * hours));
        let handed = |lag, drift| Handed { id: "u".into(), lag, drift, ..Handed::default() };
        let below = Facts {
            status: Some(Status::Failed),
            failures: 2,
            due: hours(1),
            subscriptions: vec![handed(hours(3), Some(0.1))],
            ..Facts::default()
        };
        let state = |subject: &str, state| (subject.to_owned(), state);
        assert_eq!(
            states(&rule, &below),
            [
                state("refresh", None),
                state("late", Some(OK)),
                state("delivery u", Some(OK)),
                state("drift u", Some(OK))
            ]
        );
        let above = Facts {
            failures: 3,
            due: hours(2),
            subscriptions: vec![handed(hours(4), Some(0.11))],
            ..below
        };
        assert_eq!(
            states(&rule, &above),
            [
                state("refresh", Some("failed")),
                state("late", Some("late")),
                state("delivery u", Some("delivery")),
                state("drift u", Some("drift"))
            ]
        );
        let waiting =
            |waiting| Facts { status: Some(Status::Waiting), waiting, ..Facts::default() };
        assert_eq!(states(&rule, &waiting(hours(1)))[0].1, None);
        assert_eq!(states(&rule, &waiting(hours(2)))[0].1, Some("waiting"));
    }

    #[test]
    fn a_size_is_looked_at_once_for_each_refresh() {
        let facts = |before, after| Facts { refreshes: 7, before, after, ..Facts::default() };
        let state =
            |rule: &AlertRule, facts: &Facts, seen| observe(rule, facts, &Hours, |_| seen)[0].state;
        let usual = rule(&["size"]);
        assert_eq!(state(&usual, &facts(100, 50), Some(6)), Some("size"));
        assert_eq!(state(&usual, &facts(100, 51), Some(6)), Some(OK));
        assert_eq!(state(&usual, &facts(100, 50), Some(7)), None);
        assert_eq!(state(&usual, &facts(100, 50), None), None);
        assert_eq!(state(&usual, &facts(0, 50), Some(6)), Some(OK));
        let unusual = Facts { unusual: vec!["it is".into()], ..facts(100, 101) };
        assert_eq!(state(&usual, &unusual, Some(6)), Some("size"));
        let share = rule(&["size > 30 %"]);
        assert_eq!(state(&share, &unusual, Some(6)), Some(OK));
        assert_eq!(state(&share, &facts(100, 69), Some(6)), Some("size"));
        assert_eq!(state(&share, &facts(100, 70), Some(6)), Some(OK));
    }

    #[test]
    fn a_definition_is_told_with_each_version() {
        let facts = Facts {
            version: 3,
            changed: vec!["refresh_params".into()],
            changed_by: vec!["anna".into()],
            ..Facts::default()
        };
        let rule = rule(&["definition"]);
        let seen = |seen| observe(&rule, &facts, &Hours, |_| seen).remove(0);
        assert_eq!(seen(None).state, None);
        assert_eq!(seen(Some(3)).state, None);
        let reported = seen(Some(2));
        assert_eq!(reported.state, Some("definition"));
        assert_eq!(reported.summary, "its definition was changed: version 3, by role \"anna\"");
        assert_eq!(reported.detail.as_deref(), Some("changed: \"refresh_params\""));
        // Those between two looks are reported together.
        assert_eq!(
            seen(Some(1)).summary,
            "its definition was changed: versions 2 to 3, by role \"anna\""
        );
        // Each version is reported, and nothing ends.
        let mut memory = Memory::new(at(0), Some(2));
        for version in [3, 4] {
            let observed = Observed { seen: Some(version), ..reported.clone() };
            let reported =
                look(&mut memory, &observed, at(version), Some(DAMPING)).expect("an event");
            assert_eq!((reported.was.as_str(), reported.is.as_str()), (OK, "definition"));
        }
        assert_eq!((memory.seen, memory.reported.as_str()), (Some(4), OK));
    }

    #[test]
    fn what_was_wrong_is_told_to_have_ended() {
        assert_eq!(leave(OK, at(0)), None);
        assert_eq!(
            leave("failed", at(0)).map(|reported| (reported.was, reported.is)),
            Some(("failed".into(), "ended".into()))
        );
    }

    #[test]
    fn a_message_says_what_is_and_what_was() {
        let observed = Observed {
            detail: Some("column \"x\" does not exist".into()),
            ..plain(Subject::Refresh, "failed", "its refresh failed".into())
        };
        let (was, is) = (OK.to_owned(), "failed".to_owned());
        let reported = Reported { was, is, since: at(0), is_flapping: false };
        let message = message("r", ("s", "vip"), ("refresh", Some(&observed)), &reported);
        assert_eq!(message["summary"], "segment \"vip\": its refresh failed");
        assert_eq!(message["key"], "r s refresh");
        assert_eq!((&message["on"], &message["firing"]), (&json!("failed"), &json!(true)));
        let over =
            Reported { was: "failed".into(), is: ENDED.into(), since: at(1), is_flapping: false };
        let message = super::message("r", ("s", "vip"), ("refresh", None), &over);
        assert_eq!((&message["on"], &message["firing"]), (&json!("failed"), &json!(false)));
        assert_eq!(message["summary"], "segment \"vip\": it is not looked at any more");
        let long = super::message("r", ("s", &"ü".repeat(600)), ("refresh", None), &over);
        let summary = long["summary"].as_str().expect("a text");
        assert_eq!(summary.chars().count(), 503);
        assert!(summary.ends_with("ü..."));
    }

    #[test]
    fn a_time_is_in_words() {
        let found = [0, 1, 119, 120, 7_199, 7_200, 172_800].map(|s| words(Duration::from_secs(s)));
        assert_eq!(
            found,
            [
                "0 seconds",
                "1 second",
                "119 seconds",
                "2 minutes",
                "119 minutes",
                "2 hours",
                "2 days"
            ]
        );
    }
}
