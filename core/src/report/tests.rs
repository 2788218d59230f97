use super::*;

const HOSTILE: [&str; 8] = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "'; drop table x; --</title></style></svg>",
    "\u{202e}txt.exe\u{0}\n\u{1b}[31m",
    "]]>&lt;&amp;&#60;script&#62;",
    "{{name}} ${name} {% raw %}",
    "\u{422}\u{432}\u{435}\u{440}\u{44c} \u{1f469}\u{200d}\u{1f4bb}",
    "javascript:alert(1)",
];

/// A report on so many segments over so many days.
fn sample(segments: usize, days: usize, name: impl Fn(usize) -> String) -> Report {
    let buckets = (0..days)
        .map(|day| Bucket {
            label: format!("2026-10-{:02}", day + 1),
            short: format!("{} Oct", day + 1),
        })
        .collect();
    let segment = |number: usize| {
        let points = (0..days)
            .map(|bucket| Point {
                bucket,
                members: Some((1_000 * (number + 1) + bucket * 13) as i64),
                before: Some(1_000 * (number + 1) as i64),
                came: (bucket * 17 % 40) as i64,
                left: (bucket * 5 % 23) as i64,
                ok: 1,
                waiting: i64::from((bucket + number).is_multiple_of(19)),
                failed: i64::from((bucket + number).is_multiple_of(23)),
                ..Point::default()
            })
            .collect();
        Segment {
            name: name(number),
            status: Some(match number % 9 {
                1 => Status::Waiting,
                2 => Status::Failed,
                _ => Status::Ok,
            }),
            reason: Some(format!("source \"{}\" is not ready", name(number))),
            since: Some("2026-10-30 06:30".into()),
            waits_for_seconds: Some(19_200),
            members: Some(1_000 * (number + 1) as i64),
            members_a_week_ago: Some(1_000 * (number + 1) as i64 + (number % 3) as i64 * 100),
            points,
            ..Segment::default()
        }
    };
    let subscription = |number: usize| Subscription {
        consumer: name(number),
        target: name(number),
        segment: name(number),
        status: "queued".into(),
        waiting_messages: (number % 2) as i64,
        waiting_since: Some("2026-10-30 06:30".into()),
        waiting_seconds: Some(60),
        held: None,
    };
    let edge = |number: usize| Edge {
        segment: name(number),
        reads: name(number + 1),
        kind: "table".into(),
        via: Some(name(number + 2)),
    };
    let overlapping = segments.min(12);
    Report {
        database: name(0),
        role: name(0),
        made_at: "2026-10-30 12:00".into(),
        zone: "UTC".into(),
        days: days as i32,
        buckets,
        segments: (0..segments).map(segment).collect(),
        late_sources: (0..segments.min(5))
            .map(|number| LateSource {
                name: name(number),
                segments: 2,
                waits: 1,
                ..LateSource::default()
            })
            .collect(),
        subscriptions: (0..segments).map(subscription).collect(),
        findings: (0..segments)
            .map(|number| Finding { is_problem: number % 2 == 0, text: name(number) })
            .collect(),
        overlap: Overlap {
            segments: (0..overlapping)
                .map(|number| OverlapSegment { name: name(number), members: 100 })
                .collect(),
            common: (0..overlapping)
                .flat_map(|one| {
                    (one + 1..overlapping).map(move |two| (one, two, (one * two % 100) as i64))
                })
                .collect(),
            left_out: vec![(3, "they are too large to be compared here")],
        },
        lineage: (0..segments).map(edge).collect(),
    }
}

fn plain(number: usize) -> String {
    format!("segment {number}")
}

/// The page without its style sheet.
fn body(page: &str) -> &str {
    page.split_once("</style>").unwrap().1
}

#[test]
fn a_page_is_whole_with_none_and_one_segment() {
    for count in [0, 1] {
        for days in [0, 1, 30] {
            let page = render(&sample(count, days, plain));
            assert!(
                page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>"),
                "{count} {days}"
            );
            assert!(page.is_ascii());
            assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
            assert_eq!(page.contains("There is no segment"), count == 0);
        }
    }
    assert!(render(&Report::default()).contains("There is no segment"));
}

#[test]
fn the_first_screen_answers_what_is_asked() {
    let mut report = sample(3, 30, plain);
    let page = render(&report);
    let says = |text: &str| assert!(page.contains(text), "{text}");
    says("Which segment shrank last week?</h2><p class=\"big\"><bdi>segment 2</bdi>");
    says("3,200 &#8594; 3,000 members (&#8722;6.2&#160;%)");
    says("Which source was late?</h2><p class=\"big\"><bdi>segment 0</bdi>");
    says("Does anything wait?</h2><p class=\"big\">1 segment, 1 message</p>");
    says("<bdi>segment 1</bdi> has waited for 5 h 20 min");
    says("Did a refresh go wrong?</h2><p class=\"big\">1 segment</p>");

    for segment in &mut report.segments {
        segment.status = Some(Status::Ok);
        segment.members_a_week_ago = segment.members;
    }
    report.late_sources.clear();
    report.subscriptions.clear();
    report.findings.clear();
    let page = render(&report);
    assert_eq!(page.matches("<p class=\"big\">None</p>").count(), 3);
    assert_eq!(page.matches("<p class=\"big\">Nothing</p>").count(), 1);
    assert!(page.contains("Nothing: every last refresh went well"));
}

#[test]
fn hostile_texts_are_texts() {
    let page =
        render(&sample(HOSTILE.len(), 30, |number| HOSTILE[number % HOSTILE.len()].to_owned()));
    let body = body(&page);
    for tag in ["<script", "<img", "<style", "</style", "<link", "<iframe", "<a ", "<base", "<form"]
    {
        assert!(!body.contains(tag), "{tag}");
    }
    assert!(!page.contains("http:") && !page.contains("https:"), "an address");
    assert!(page.is_ascii() && !page.chars().any(|c| c.is_control() && c != '\n'));
    assert!(!body.contains("&#8238;"), "an override of direction");
    assert_eq!(page.matches("<title>").count(), page.matches("</title>").count());
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    // Attributes are ours alone: what is in quotes is their values.
    for tag in body.split('<').skip(1).filter_map(|tag| tag.split_once('>')) {
        let names: String = tag.0.split('"').step_by(2).collect();
        assert!(
            !names.contains(" on") && !names.contains("href") && !names.contains("src"),
            "{names}"
        );
    }
}

#[test]
fn a_page_stays_short_and_says_what_is_left_out() {
    let page = render(&sample(1_000, 30, plain));
    assert!(page.len() < 1_500_000, "{} bytes", page.len());
    assert!(page.contains("24 of 1,000 segments"));
    assert!(page.contains("960 segments more are left out"));
    assert_eq!(page.split("All segments").nth(1).unwrap().matches("<tr>").count(), 1_001);

    // Names as long as they can be, and many more of them.
    let long = |number: usize| format!("{number} {}", "\u{1f469}".repeat(500));
    let page = render(&sample(5_000, 100, long));
    assert!(page.len() <= LONGEST, "{} bytes", page.len());
    assert!(page.contains("segments more are left out"));
}

#[test]
fn every_picture_has_a_text() {
    let page = render(&sample(5, 30, plain));
    let pictures: Vec<&str> = page.split("<svg").skip(1).collect();
    assert!(pictures.len() > 10);
    for picture in pictures {
        assert!(picture.contains("role=\"img\""), "{picture}");
        assert!(picture.split_once('>').unwrap().1.starts_with("<title>"), "{picture}");
    }
    // Both themes have every colour that is drawn.
    let style = include_str!("style.css");
    let drawn = body(&page).split('"').filter(|value| value.len() == 7 && value.starts_with('#'));
    for colour in drawn.filter(|colour| *colour != "#000000") {
        assert!(style.contains(&format!("=\"{colour}\"]")), "{colour}");
    }
}

#[test]
fn figures_at_the_limits_are_drawn() {
    let mut report = sample(1, 3, plain);
    let point = |bucket, members| Point {
        bucket,
        members: Some(members),
        came: i64::MAX / 4,
        left: i64::MAX / 4,
        ..Point::default()
    };
    report.segments[0].points = vec![point(0, i64::MAX), point(1, -5), point(9, 0)];
    assert!(render(&report).contains("came"));
}
