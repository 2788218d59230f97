//! Figures of segments and subscriptions in the text format of Prometheus.

use std::fmt::{self, Display, Write};

/// The figures of a segment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SegmentFigures {
    pub name: String,
    pub ok: i64,
    pub failed: i64,
    pub refused: i64,
    pub waiting: i64,
    pub skipped: i64,
    pub rows_received: i64,
    pub added: i64,
    pub removed: i64,
    pub changed: i64,
    pub excluded: i64,
    /// The seconds of all successful refreshes, and of the last one.
    pub elapsed: f64,
    pub last_elapsed: Option<f64>,
    pub members: Option<i64>,
    pub failures_in_a_row: i64,
    /// The seconds since the last successful refresh began; none: there was none.
    pub staleness: Option<f64>,
    /// The seconds since it should have been refreshed; none: it is refreshed by hand only.
    pub overdue: Option<f64>,
}

/// The figures of a subscription.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SubscriptionFigures {
    pub consumer: String,
    pub segment: String,
    pub target: String,
    pub messages_written: i64,
    pub messages_delivered: i64,
    pub members_handed_over: i64,
    pub attempts: i64,
    pub failed: i64,
    pub failures_in_a_row: i64,
    /// The seconds for which the first message waits.
    pub lag: f64,
}

/// What is shown of a set.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figures {
    pub version: String,
    /// In the order in which segments are given series of their own.
    pub segments: Vec<SegmentFigures>,
    pub subscriptions: Vec<SubscriptionFigures>,
}

impl SegmentFigures {
    /// The figures of several segments as one without a name: counts are summed up, of times and failures
    /// in a row the largest counts.
    fn sum(rest: &[Self]) -> Self {
        rest.iter().fold(Self::default(), |sum, one| Self {
            name: String::new(),
            ok: sum.ok + one.ok,
            failed: sum.failed + one.failed,
            refused: sum.refused + one.refused,
            waiting: sum.waiting + one.waiting,
            skipped: sum.skipped + one.skipped,
            rows_received: sum.rows_received + one.rows_received,
            added: sum.added + one.added,
            removed: sum.removed + one.removed,
            changed: sum.changed + one.changed,
            excluded: sum.excluded + one.excluded,
            elapsed: sum.elapsed + one.elapsed,
            last_elapsed: largest(sum.last_elapsed, one.last_elapsed),
            members: match (sum.members, one.members) {
                (Some(sum), Some(one)) => Some(sum + one),
                (sum, one) => sum.or(one),
            },
            failures_in_a_row: sum.failures_in_a_row.max(one.failures_in_a_row),
            staleness: largest(sum.staleness, one.staleness),
            overdue: largest(sum.overdue, one.overdue),
        })
    }
}

impl SubscriptionFigures {
    fn sum(rest: &[&Self]) -> Self {
        rest.iter().fold(Self::default(), |sum, one| Self {
            messages_written: sum.messages_written + one.messages_written,
            messages_delivered: sum.messages_delivered + one.messages_delivered,
            members_handed_over: sum.members_handed_over + one.members_handed_over,
            attempts: sum.attempts + one.attempts,
            failed: sum.failed + one.failed,
            failures_in_a_row: sum.failures_in_a_row.max(one.failures_in_a_row),
            lag: sum.lag.max(one.lag),
            ..sum
        })
    }
}

fn largest(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.max(other)),
        (one, other) => one.or(other),
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
}

#[derive(Clone, Copy)]
enum Value {
    Count(i64),
    Number(f64),
}

impl Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Count(count) => write!(f, "{count}"),
            Value::Number(number) => write!(f, "{number}"),
        }
    }
}

/// The value of a label, without what would end it.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in self.0.split_inclusive(['\\', '"', '\n']) {
            let plain = part.trim_end_matches(['\\', '"', '\n']);
            f.write_str(plain)?;
            match &part[plain.len()..] {
                "\\" => f.write_str("\\\\")?,
                "\"" => f.write_str("\\\"")?,
                "\n" => f.write_str("\\n")?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// A text under construction.
struct Text(String);

impl Text {
    /// Begins a metric.
    fn head(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        // Writing to a string cannot fail.
        _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: Value) {
        self.0.push_str(name);
        for (place, (label, text)) in labels.iter().enumerate() {
            let before = if place == 0 { '{' } else { ',' };
            _ = write!(self.0, "{before}{label}=\"{}\"", Escaped(text));
        }
        let end = if labels.is_empty() { "" } else { "}" };
        _ = writeln!(self.0, "{end} {value}");
    }
}

type Metric<F> = (&'static str, Kind, &'static str, fn(&F) -> Option<Value>);

const OF_SEGMENTS: [Metric<SegmentFigures>; 11] = [
    (
        "segmenter_segment_rows_received_total",
        Kind::Counter,
        "Rows that the refresher returned in successful refreshes.",
        |it| Some(Value::Count(it.rows_received)),
    ),
    ("segmenter_segment_members_added_total", Kind::Counter, "Members that were added.", |it| {
        Some(Value::Count(it.added))
    }),
    (
        "segmenter_segment_members_removed_total",
        Kind::Counter,
        "Members that were removed.",
        |it| Some(Value::Count(it.removed)),
    ),
    (
        "segmenter_segment_members_changed_total",
        Kind::Counter,
        "Members that were changed.",
        |it| Some(Value::Count(it.changed)),
    ),
    (
        "segmenter_segment_rows_excluded_total",
        Kind::Counter,
        "Rows that were left out, because other segments have their members, or the people are kept out.",
        |it| Some(Value::Count(it.excluded)),
    ),
    (
        "segmenter_segment_refresh_seconds_total",
        Kind::Counter,
        "Time of successful refreshes.",
        |it| Some(Value::Number(it.elapsed)),
    ),
    (
        "segmenter_segment_last_refresh_seconds",
        Kind::Gauge,
        "Time of the last successful refresh.",
        |it| it.last_elapsed.map(Value::Number),
    ),
    (
        "segmenter_segment_members",
        Kind::Gauge,
        "Members after the last successful refresh.",
        |it| it.members.map(Value::Count),
    ),
    (
        "segmenter_segment_failures_in_a_row",
        Kind::Gauge,
        "Failed refreshes since the last one that did not fail.",
        |it| Some(Value::Count(it.failures_in_a_row)),
    ),
    (
        "segmenter_segment_staleness_seconds",
        Kind::Gauge,
        "Time since the last successful refresh began.",
        |it| it.staleness.map(Value::Number),
    ),
    (
        "segmenter_segment_overdue_seconds",
        Kind::Gauge,
        "Time since an automatic segment has been due; 0: it is not.",
        |it| it.overdue.map(Value::Number),
    ),
];

const OF_SUBSCRIPTIONS: [Metric<SubscriptionFigures>; 7] = [
    (
        "segmenter_subscription_messages_written_total",
        Kind::Counter,
        "Messages that were written for the consumer.",
        |it| Some(Value::Count(it.messages_written)),
    ),
    (
        "segmenter_subscription_messages_delivered_total",
        Kind::Counter,
        "Messages that were delivered.",
        |it| Some(Value::Count(it.messages_delivered)),
    ),
    (
        "segmenter_subscription_members_handed_over_total",
        Kind::Counter,
        "Members, or events, in the messages that were written.",
        |it| Some(Value::Count(it.members_handed_over)),
    ),
    (
        "segmenter_subscription_delivery_attempts_total",
        Kind::Counter,
        "Attempts to deliver that have ended.",
        |it| Some(Value::Count(it.attempts)),
    ),
    (
        "segmenter_subscription_delivery_failures_total",
        Kind::Counter,
        "Attempts to deliver that have failed.",
        |it| Some(Value::Count(it.failed)),
    ),
    (
        "segmenter_subscription_delivery_failures_in_a_row",
        Kind::Gauge,
        "Attempts to deliver that have failed since the last one that did not.",
        |it| Some(Value::Count(it.failures_in_a_row)),
    ),
    (
        "segmenter_subscription_lag_seconds",
        Kind::Gauge,
        "Time for which the first message has been waiting to be delivered; 0: none waits.",
        |it| Some(Value::Number(it.lag)),
    ),
];

/// The figures in the text format of Prometheus, version 0.0.4. The first `limit` segments have series of their
/// own, and so have their first `limit` subscriptions; the others are summed up in series whose labels are
/// empty.
pub fn render(figures: Figures, limit: usize) -> String {
    let Figures { version, mut segments, subscriptions } = figures;
    let all = segments.len();
    let rest = segments.split_off(limit.min(all));
    let names: std::collections::HashSet<&str> =
        segments.iter().map(|segment| segment.name.as_str()).collect();
    let (mut own, mut others): (Vec<_>, Vec<_>) =
        subscriptions.iter().partition(|it| names.contains(it.segment.as_str()));
    others.extend(own.split_off(limit.min(own.len())));
    let summed = (!others.is_empty()).then(|| SubscriptionFigures::sum(&others));
    let own: Vec<_> = own.into_iter().chain(&summed).collect();

    let mut text = Text(String::with_capacity(1024 + (segments.len() + 1) * 2048));
    text.head("segmenter_info", Kind::Gauge, "The version of Segmenter.");
    text.sample("segmenter_info", &[("version", &version)], Value::Count(1));
    text.head("segmenter_segments", Kind::Gauge, "Active segments.");
    text.sample("segmenter_segments", &[], Value::Count(all as i64));
    text.head(
        "segmenter_segments_summed",
        Kind::Gauge,
        "Active segments that have no series of their own: see segmenter.metrics_segments.",
    );
    text.sample("segmenter_segments_summed", &[], Value::Count(rest.len() as i64));
    if !rest.is_empty() {
        drop(names);
        segments.push(SegmentFigures::sum(&rest));
    }

    if !segments.is_empty() {
        let name = "segmenter_segment_refreshes_total";
        text.head(name, Kind::Counter, "Refreshes, by how they ended.");
        for segment in &segments {
            let SegmentFigures { ok, failed, refused, waiting, skipped, .. } = *segment;
            for (status, count) in [
                ("ok", ok),
                ("failed", failed),
                ("refused", refused),
                ("waiting", waiting),
                ("skipped", skipped),
            ] {
                let labels = [("segment", segment.name.as_str()), ("status", status)];
                text.sample(name, &labels, Value::Count(count));
            }
        }
    }
    write_all(&mut text, &OF_SEGMENTS, &segments.iter().collect::<Vec<_>>(), |it| {
        vec![("segment", it.name.as_str())]
    });
    write_all(&mut text, &OF_SUBSCRIPTIONS, &own, |it| {
        vec![
            ("consumer", it.consumer.as_str()),
            ("segment", it.segment.as_str()),
            ("target", it.target.as_str()),
        ]
    });
    text.0
}

/// Writes metrics that have samples, each with all of them.
fn write_all<'a, F>(
    text: &mut Text,
    metrics: &[Metric<F>],
    figures: &[&'a F],
    labels: impl Fn(&'a F) -> Vec<(&'static str, &'a str)>,
) {
    for (name, kind, help, value) in metrics {
        let mut samples = figures.iter().filter_map(|it| Some((*it, value(it)?))).peekable();
        if samples.peek().is_some() {
            text.head(name, *kind, help);
        }
        for (it, value) in samples {
            text.sample(name, &labels(it), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    type AllSeries = BTreeMap<(String, Vec<(String, String)>), f64>;

    /// A reader of the format, as its specification says it: series by their names and labels.
    fn parse(text: &str) -> AllSeries {
        let (mut series, mut kinds, mut helps) =
            (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        let mut current = String::new();
        assert!(text.ends_with('\n'));
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect("a help");
                assert!(helps.insert(name.to_owned()) && help.ends_with('.'), "{line}");
                continue;
            }
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a type");
                assert!(helps.contains(name) && kinds.insert(name.to_owned(), kind).is_none());
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                current = name.to_owned();
                continue;
            }
            let end = line.find(['{', ' ']).expect("a value");
            let (name, mut rest) = line.split_at(end);
            assert_eq!(name, current, "the samples of a metric follow its head");
            let mut labels = Vec::new();
            while let Some(after) = rest.strip_prefix(['{', ',']) {
                let (label, after) = after.split_once("=\"").expect("a label");
                let (mut value, mut characters) = (String::new(), after.char_indices());
                let end = loop {
                    match characters.next().expect("the end of a value") {
                        (_, '\\') => value.push(match characters.next().map(|(_, next)| next) {
                            Some('n') => '\n',
                            Some(escaped @ ('\\' | '"')) => escaped,
                            other => panic!("{other:?} is not to be escaped"),
                        }),
                        (end, '"') => break end,
                        (_, character) => value.push(character),
                    }
                };
                labels.push((label.to_owned(), value));
                rest = &after[end + 1..];
                if let Some(after) = rest.strip_prefix('}') {
                    rest = after;
                    break;
                }
            }
            let value: f64 = rest.strip_prefix(' ').expect("a value").parse().expect("a number");
            assert!(series.insert((name.to_owned(), labels), value).is_none(), "twice: {line}");
        }
        series
    }

    fn segment(name: &str, ok: i64) -> SegmentFigures {
        SegmentFigures {
            name: name.into(),
            ok,
            failed: 1,
            members: Some(10),
            elapsed: 0.25,
            last_elapsed: Some(0.125),
            failures_in_a_row: ok,
            staleness: Some(ok as f64),
            overdue: Some(0.0),
            ..SegmentFigures::default()
        }
    }

    fn subscription(segment: &str, target: &str) -> SubscriptionFigures {
        SubscriptionFigures {
            consumer: "crm".into(),
            segment: segment.into(),
            target: target.into(),
            messages_written: 2,
            lag: 3.5,
            ..SubscriptionFigures::default()
        }
    }

    fn value(series: &AllSeries, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let labels = labels.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        series.get(&(name.to_owned(), labels.collect())).copied()
    }

    #[test]
    fn nothing_has_no_series_of_segments() {
        let text = render(Figures { version: "1.1.0".into(), ..Figures::default() }, 10);
        let series = parse(&text);
        assert_eq!(series.len(), 3);
        assert_eq!(value(&series, "segmenter_info", &[("version", "1.1.0")]), Some(1.0));
        assert_eq!(value(&series, "segmenter_segments", &[]), Some(0.0));
    }

    #[test]
    fn hostile_names_are_read_back() {
        let names = [
            "plain",
            "a\"b",
            "\"",
            "\\",
            "\\n",
            "a\nb",
            "\n\n\\\"",
            "ends\\",
            "} 1\nsegmenter_info 2",
            "# HELP x y",
            "Käufer · покупатели · 買い手 · 🛒",
            "a,b=\"c\",",
            " ",
            "\r\t\u{7f}\u{2028}",
        ];
        let figures = Figures {
            segments: names.iter().map(|name| segment(name, 7)).collect(),
            subscriptions: names.iter().map(|name| subscription(name, name)).collect(),
            ..Figures::default()
        };
        let series = parse(&render(figures, 100));
        for name in names {
            let labels = [("segment", name), ("status", "ok")];
            assert_eq!(value(&series, "segmenter_segment_refreshes_total", &labels), Some(7.0));
            let labels = [("consumer", "crm"), ("segment", name), ("target", name)];
            assert_eq!(value(&series, "segmenter_subscription_lag_seconds", &labels), Some(3.5));
        }
    }

    #[test]
    fn segments_past_the_limit_are_summed_up() {
        let segments: Vec<_> =
            (0..10).map(|number| segment(&format!("s{number}"), number)).collect();
        let mut subscriptions: Vec<_> =
            (0..10).map(|number| subscription(&format!("s{number}"), "mail")).collect();
        subscriptions.extend((0..10).map(|number| subscription("s0", &format!("t{number}"))));
        let figures = Figures { segments, subscriptions, ..Figures::default() };
        let series = parse(&render(figures.clone(), 3));
        assert_eq!(value(&series, "segmenter_segments", &[]), Some(10.0));
        assert_eq!(value(&series, "segmenter_segments_summed", &[]), Some(7.0));
        let refreshes = |segment, status| {
            let labels = [("segment", segment), ("status", status)];
            value(&series, "segmenter_segment_refreshes_total", &labels)
        };
        assert_eq!(refreshes("s2", "ok"), Some(2.0));
        assert_eq!(refreshes("s3", "ok"), None);
        assert_eq!(refreshes("", "ok"), Some((3..10).sum::<i64>() as f64));
        assert_eq!(refreshes("", "failed"), Some(7.0));
        let of_rest = |name| value(&series, name, &[("segment", "")]);
        assert_eq!(of_rest("segmenter_segment_members"), Some(70.0));
        assert_eq!(of_rest("segmenter_segment_staleness_seconds"), Some(9.0));
        assert_eq!(of_rest("segmenter_segment_failures_in_a_row"), Some(9.0));
        assert_eq!(of_rest("segmenter_segment_refresh_seconds_total"), Some(1.75));
        let written = |labels: &[(&str, &str)]| {
            value(&series, "segmenter_subscription_messages_written_total", labels)
        };
        let own = series.keys().filter(|(name, _)| name == "segmenter_subscription_lag_seconds");
        assert_eq!(own.count(), 4);
        assert_eq!(written(&[("consumer", ""), ("segment", ""), ("target", "")]), Some(34.0));

        // As many, and none.
        let series = parse(&render(figures.clone(), 10));
        assert_eq!(value(&series, "segmenter_segments_summed", &[]), Some(0.0));
        assert_eq!(value(&series, "segmenter_segment_members", &[("segment", "")]), None);
        let series = parse(&render(figures, 0));
        assert_eq!(value(&series, "segmenter_segment_members", &[("segment", "")]), Some(100.0));
    }

    #[test]
    fn what_is_not_known_has_no_sample() {
        let one = SegmentFigures { name: "new".into(), ..SegmentFigures::default() };
        let text = render(Figures { segments: vec![one], ..Figures::default() }, 10);
        let series = parse(&text);
        let labels = [("segment", "new")];
        assert_eq!(value(&series, "segmenter_segment_rows_received_total", &labels), Some(0.0));
        for name in ["members{", "staleness_seconds", "overdue_seconds", "last_refresh_seconds"] {
            assert!(!text.contains(&format!("segmenter_segment_{name}")), "{name}");
        }
    }

    #[test]
    fn numbers_are_plain() {
        assert_eq!(Value::Number(1e-7).to_string(), "0.0000001");
        assert_eq!(Value::Number(0.0).to_string(), "0");
        assert_eq!(Value::Count(i64::MAX).to_string(), "9223372036854775807");
    }
}
