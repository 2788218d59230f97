//! The page: what the reader should know first, then each subject with a picture and a table.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::ranking::{shrunk, waiting};
use super::words::{clipped, counted, duration, number, percent, signed};
use super::{Finding, Limits, Report, Segment, Status, Subscription, charts, lineage};

/// It has no address in it, and nothing that a browser would fetch.
const STYLE: &str = include_str!("style.css");

/// A browser that obeys it fetches nothing and runs nothing, whatever the page has in it.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// Findings that are not folded away.
const FINDINGS: usize = 12;
/// Names in one sentence.
const NAMES: usize = 4;
/// Rows of the tables of what waits and of what was late.
const WAITS: usize = 60;

pub(super) fn page(report: &Report, limits: Limits) -> Markup {
    let page = Page { report, limits };
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                title { "Segments of " (clipped(&report.database, limits.name)) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (page.head())
                main {
                    @if report.segments.is_empty() {
                        p.empty {
                            "There is no segment that role " (page.name(&report.role)) " may see. "
                            code { "segmenter_put_segment()" } " creates one."
                        }
                        (page.findings())
                    } @else {
                        (page.answers())
                        (page.findings())
                        (page.charts())
                        (page.strips())
                        (page.waits())
                        (page.late())
                        (page.overlap())
                        (page.lineage())
                        (page.all())
                    }
                }
                footer {
                    p {
                        "Written by " code { "segmenter_report(" (report.days) ")" } " with the rights of role "
                        (page.name(&report.role)) ": of other roles' segments it says nothing. It has figures and names, and no members."
                    }
                }
            }
        }
    }
}

struct Page<'a> {
    report: &'a Report,
    limits: Limits,
}

/// A text that may hold anything: its direction does not spread.
fn text(text: &str, longest: usize) -> Markup {
    html! { bdi { (clipped(text, longest)) } }
}

/// A number in a cell; none: not known.
fn cell(value: Option<i64>) -> Markup {
    html! { @match value { Some(value) => (number(value)), None => { span.none { "\u{2013}" } } } }
}

/// Only what is not null.
fn nonzero(value: i64) -> Markup {
    cell(Some(value).filter(|value| *value != 0))
}

/// A line that says what is left out.
fn more(left_out: usize, what: &str) -> Markup {
    html! { @if left_out > 0 { p.more { (counted(left_out as i64, what)) " more " (if left_out == 1 { "is" } else { "are" }) " left out." } } }
}

fn is_are(count: usize) -> &'static str {
    if count == 1 { "is" } else { "are" }
}

impl Page<'_> {
    fn name(&self, name: &str) -> Markup {
        text(name, self.limits.name)
    }

    /// Names in a sentence, the first of them, with a change each.
    fn names<T>(&self, named: &[T], name: impl Fn(&T) -> (&str, Option<i64>)) -> Markup {
        html! {
            @for (place, (name, change)) in named.iter().map(name).take(NAMES).enumerate() {
                @if place > 0 { ", " }
                (self.name(name))
                @if let Some(change) = change { " (" (signed(change)) ")" }
            }
            @if named.len() > NAMES { " and " (number((named.len() - NAMES) as i64)) " more" }
        }
    }

    fn head(&self) -> Markup {
        let report = self.report;
        let members: i64 = report.segments.iter().filter_map(|segment| segment.members).sum();
        let period = match report.buckets.first() {
            Some(first) => format!("{} to {}", first.label, report.made_at),
            None => report.made_at.clone(),
        };
        html! {
            header {
                h1 { "Segments of " (self.name(&report.database)) }
                p.sub {
                    (counted(report.segments.len() as i64, "segment")) ", " (counted(members, "member"))
                    " \u{b7} " (period) " (" (self.name(&report.zone)) ")"
                }
            }
        }
    }

    /// What the reader wants to know first.
    fn answers(&self) -> Markup {
        let report = self.report;
        let shrunk = shrunk(report);
        let waiting = waiting(report);
        let held: Vec<&Subscription> = report.subscriptions.iter().filter(|s| s.waits()).collect();
        let messages: i64 = held.iter().map(|subscription| subscription.waiting_messages).sum();
        let failed: Vec<&Segment> = report
            .segments
            .iter()
            .filter(|s| s.needs_attention() && s.status != Some(Status::Waiting))
            .collect();
        let tone = |is_good: bool| if is_good { "good" } else { "bad" };
        html! {
            section.answers aria-label="In short" {
                article class=(tone(shrunk.is_empty())) {
                    h2 { "Which segment shrank last week?" }
                    @match shrunk.first() {
                        None => p.big { "None" },
                        Some(first) => {
                            p.big { (self.name(&first.name)) }
                            p {
                                (number(first.members_a_week_ago.unwrap_or_default())) " \u{2192} "
                                (number(first.members.unwrap_or_default())) " members ("
                                (percent(first.change().unwrap_or_default(), first.members_a_week_ago.unwrap_or_default()).unwrap_or_default())
                                ")"
                            }
                            @if shrunk.len() > 1 {
                                p.also { "Also " (self.names(&shrunk[1..], |segment| (segment.name.as_str(), segment.change()))) }
                            }
                        }
                    }
                }
                article class=(tone(report.late_sources.is_empty())) {
                    h2 { "Which source was late?" }
                    @match report.late_sources.first() {
                        None => p.big { "None" },
                        Some(first) => {
                            p.big { (self.name(&first.name)) }
                            p {
                                @if first.waits > 0 {
                                    (counted(first.segments, "segment")) " had to wait, at most "
                                    (duration(first.longest_seconds))
                                } @else {
                                    (counted(first.segments, "segment")) " went on with old data"
                                }
                                @if first.is_waited_for { ", and still " (if first.segments == 1 { "waits" } else { "wait" }) }
                                @else { ", last on " (first.last) }
                            }
                            @if report.late_sources.len() > 1 {
                                p.also { "Also " (self.names(&report.late_sources[1..], |source| (source.name.as_str(), None))) }
                            }
                        }
                    }
                }
                article class=(tone(waiting.is_empty() && held.is_empty())) {
                    h2 { "Does anything wait?" }
                    @if waiting.is_empty() && held.is_empty() {
                        p.big { "Nothing" }
                    } @else {
                        p.big {
                            @if !waiting.is_empty() { (counted(waiting.len() as i64, "segment")) }
                            @if !waiting.is_empty() && !held.is_empty() { ", " }
                            @if !held.is_empty() { (counted(messages, "message")) }
                        }
                        @if let Some(first) = waiting.first() {
                            p {
                                (self.name(&first.name)) " has waited for "
                                (duration(first.waits_for_seconds.unwrap_or_default()))
                            }
                        }
                        @if !held.is_empty() {
                            p.also { "For " (self.names(&distinct(held.iter().map(|subscription| subscription.consumer.as_str())), |name| (*name, None))) }
                        }
                    }
                }
                article class=(tone(failed.is_empty())) {
                    h2 { "Did a refresh go wrong?" }
                    @match failed.first() {
                        None => p.big { "None" },
                        Some(first) => {
                            p.big { (counted(failed.len() as i64, "segment")) }
                            p { (if failed.len() == 1 { "Stays as it was: " } else { "Stay as they were: " }) (self.names(&failed, |segment| (segment.name.as_str(), None))) }
                            p.also {
                                (self.name(&first.name)) ": " (first.status.map_or("", Status::as_str))
                                @if let Some(since) = &first.since { " on " (since) }
                            }
                        }
                    }
                }
            }
        }
    }

    /// What is wrong: the last attempts that did not end well, and what the doctor found.
    fn findings(&self) -> Markup {
        let report = self.report;
        let bad: Vec<&Segment> = report.segments.iter().filter(|s| s.needs_attention()).collect();
        let mut findings: Vec<_> = report.findings.iter().collect();
        findings.sort_by_key(|finding| !finding.is_problem);
        let problems = bad.len() + findings.iter().filter(|finding| finding.is_problem).count();
        let all: Vec<Markup> = bad
            .iter()
            .map(|segment| self.bad(segment))
            .chain(findings.iter().map(|finding| self.finding(finding)))
            .take(self.limits.findings)
            .collect();
        let (first, rest) = all.split_at(all.len().min(FINDINGS));
        html! {
            section aria-label="Findings" {
                h2 { "What needs attention" }
                @if all.is_empty() {
                    p.fine { "Nothing: every last refresh went well, and " code { "segmenter_doctor()" } " found nothing." }
                } @else {
                    @if problems == 0 { p.fine { "Nothing is broken." } }
                    ul.findings { @for line in first { (line) } }
                    @if !rest.is_empty() {
                        details {
                            summary { (counted(rest.len() as i64, "more finding")) }
                            ul.findings { @for line in rest { (line) } }
                        }
                    }
                    (more(bad.len() + findings.len() - all.len(), "finding"))
                }
            }
        }
    }

    fn bad(&self, segment: &Segment) -> Markup {
        html! {
            li class=(segment.status.map_or("", Status::as_str)) {
                (self.status(segment)) " "
                b { (self.name(&segment.name)) }
                @if let Some(since) = &segment.since {
                    (if segment.status == Some(Status::Waiting) { " since " } else { " on " }) (since)
                }
                @if let Some(reason) = &segment.reason { ": " (text(reason, self.limits.text)) }
                @else { ". The log says why: " code { "segmenter_log" } "." }
            }
        }
    }

    fn finding(&self, finding: &Finding) -> Markup {
        html! {
            li class=(if finding.is_problem { "failed" } else { "warning" }) {
                span.level { (if finding.is_problem { "problem" } else { "warning" }) } " "
                (text(&finding.text, self.limits.text))
            }
        }
    }

    fn status(&self, segment: &Segment) -> Markup {
        html! {
            @match segment.status {
                _ if segment.is_running => span.status { "running" },
                None => span.status { "never refreshed" },
                Some(status) => {
                    span class={ "status " (status.as_str()) } { (charts::sign(status)) (status.as_str()) }
                }
            }
        }
    }

    fn charts(&self) -> Markup {
        let report = self.report;
        let buckets = report.buckets.len();
        let shown = report.segments.len().min(self.limits.charts);
        let (begin, end) = self.ends();
        html! {
            section {
                h2 { "Members over time, who came and who left" }
                p.legend {
                    span.key.line {} " members   " span.key.came {} " came   " span.key.left {} " left"
                    @if shown < report.segments.len() {
                        " \u{b7} " (number(shown as i64)) " of " (counted(report.segments.len() as i64, "segment"))
                        ": those that need attention, then the largest losses of the last 7 days, then the largest"
                    }
                }
                div.charts {
                    @for segment in &report.segments[..shown] {
                        figure {
                            figcaption {
                                span.title { (self.name(&segment.name)) }
                                span.now { (cell(segment.members)) }
                            }
                            (charts::sizes(segment, buckets))
                            p.axis { span { (begin) } span { (end) } }
                            p.sum {
                                (self.week(segment))
                                span { b.came { (signed(segment.came())) } " came" }
                                span { b.left { (signed(-segment.left())) } " left" }
                            }
                        }
                    }
                }
                details {
                    summary { "The same as a table" }
                    div.scroll tabindex="0" role="region" aria-label="Members over time" {
                        table {
                            thead { tr { th scope="col" { "Segment" } th scope="col" { "Begin" } th.n scope="col" { "Members" } th.n scope="col" { "Came" } th.n scope="col" { "Left" } } }
                            tbody {
                                @for segment in &report.segments[..shown] {
                                    @for point in segment.points.iter().filter(|point| point.members.is_some()) {
                                        tr {
                                            th scope="row" { (self.name(&segment.name)) }
                                            td { (report.buckets.get(point.bucket).map_or("", |bucket| bucket.label.as_str())) }
                                            td.n { (cell(point.members)) }
                                            td.n { (nonzero(point.came)) }
                                            td.n { (nonzero(point.left)) }
                                        }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    /// The ends of the axes of time.
    fn ends(&self) -> (&str, &str) {
        let buckets = &self.report.buckets;
        (
            buckets.first().map_or("", |bucket| bucket.short.as_str()),
            buckets.last().map_or("", |bucket| bucket.short.as_str()),
        )
    }

    /// The change of a week.
    fn week(&self, segment: &Segment) -> Markup {
        html! {
            @match (segment.change(), segment.members_a_week_ago) {
                (Some(0), _) => span { "unchanged in 7 days" },
                (Some(change), Some(before)) => {
                    span {
                        b class=(if change < 0 { "down" } else { "up" }) {
                            (if change < 0 { "\u{25bc} " } else { "\u{25b2} " })
                            (percent(change.abs(), before).unwrap_or_else(|| number(change.abs())))
                        }
                        " in 7 days"
                    }
                }
                _ => {}
            }
        }
    }

    fn strips(&self) -> Markup {
        let report = self.report;
        let buckets = report.buckets.len();
        let shown = report.segments.len().min(self.limits.strips);
        let (begin, end) = self.ends();
        html! {
            section {
                h2 { "When refreshes ran, and how they ended" }
                p.legend {
                    (charts::sign(Status::Ok)) " ok   " (charts::sign(Status::Waiting)) " waiting   "
                    (charts::sign(Status::Refused)) " refused by a guard   " (charts::sign(Status::Failed)) " failed"
                    " \u{b7} the worst of each " (self.step())
                }
                div.strips {
                    @for segment in &report.segments[..shown] {
                        div.row {
                            span.title { (self.name(&segment.name)) }
                            (charts::strip(segment, buckets))
                        }
                    }
                    div.row { span.title {} (charts::axis(&report.buckets)) p.axis.ends { span { (begin) } span { (end) } } }
                }
                (more(report.segments.len() - shown, "segment"))
                details {
                    summary { "The same as a table" }
                    div.scroll tabindex="0" role="region" aria-label="Refreshes" {
                        table {
                            thead { tr {
                                th scope="col" { "Segment" }
                                @for name in ["Ok", "Waiting", "Refused", "Failed"] { th.n scope="col" { (name) } }
                                th scope="col" { "Last trouble" }
                            } }
                            tbody {
                                @for segment in &report.segments[..shown] {
                                    @let sum = |count: fn(&super::Point) -> i64| segment.points.iter().map(count).sum::<i64>();
                                    @let trouble = segment.points.iter().rev().find(|point| point.worst().is_some_and(|worst| worst != Status::Ok));
                                    tr {
                                        th scope="row" { (self.name(&segment.name)) }
                                        td.n { (nonzero(sum(|point| point.ok))) }
                                        td.n { (nonzero(sum(|point| point.waiting))) }
                                        td.n { (nonzero(sum(|point| point.refused))) }
                                        td.n { (nonzero(sum(|point| point.failed))) }
                                        td { (trouble.and_then(|point| report.buckets.get(point.bucket)).map_or("", |bucket| bucket.label.as_str())) }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    fn step(&self) -> &'static str {
        match self.report.days {
            ..=3 => "hour",
            4..=100 => "day",
            _ => "step of several days",
        }
    }

    fn waits(&self) -> Markup {
        let report = self.report;
        let waiting = waiting(report);
        let held: Vec<&Subscription> = report.subscriptions.iter().filter(|s| s.waits()).collect();
        html! {
            section {
                h2 { "What waits for whom" }
                @if waiting.is_empty() && held.is_empty() {
                    p.fine { "No segment waits for a source or another segment, and no consumer has messages to take." }
                }
                @if !waiting.is_empty() {
                    table.cards {
                        thead { tr { th scope="col" { "Segment" } th scope="col" { "Waits for" } th.n scope="col" { "Since" } } }
                        tbody {
                            @for segment in waiting.iter().take(WAITS) {
                                tr {
                                    th scope="row" { (self.name(&segment.name)) }
                                    td.wide { (text(segment.reason.as_deref().unwrap_or("its sources"), self.limits.text)) }
                                    td.n data-label="since" {
                                        (segment.since.as_deref().unwrap_or_default())
                                        @if let Some(seconds) = segment.waits_for_seconds { " (" (duration(seconds)) ")" }
                                    }
                                }
                            }
                        }
                    }
                    (more(waiting.len().saturating_sub(WAITS), "segment"))
                }
                @if !held.is_empty() {
                    table.cards {
                        thead { tr { th scope="col" { "Consumer" } th scope="col" { "Audience" } th.n scope="col" { "Messages" } th.n scope="col" { "Since" } } }
                        tbody {
                            @for subscription in held.iter().take(WAITS) {
                                tr {
                                    th scope="row" { (self.name(&subscription.consumer)) }
                                    td.wide {
                                        (self.name(&subscription.segment)) " in " (self.name(&subscription.target))
                                        @if subscription.status == "failed" { " \u{b7} " span.down { "delivery failed" } }
                                        @if let Some(held) = &subscription.held { " \u{b7} held back: " (text(held, self.limits.text)) }
                                    }
                                    td.n data-label="messages" { (number(subscription.waiting_messages)) }
                                    td.n data-label="since" {
                                        (subscription.waiting_since.as_deref().unwrap_or_default())
                                        @if let Some(seconds) = subscription.waiting_seconds { " (" (duration(seconds)) ")" }
                                    }
                                }
                            }
                        }
                    }
                    (more(held.len().saturating_sub(WAITS), "audience"))
                }
            }
        }
    }

    fn late(&self) -> Markup {
        let late = &self.report.late_sources;
        html! {
            section {
                h2 { "Sources that were late" }
                @if late.is_empty() {
                    p.fine { "None in " (counted(i64::from(self.report.days), "day")) "." }
                } @else {
                    table.cards {
                        thead { tr {
                            th scope="col" { "Source" } th.n scope="col" { "Segments" } th.n scope="col" { "Waits" }
                            th.n scope="col" { "Longest" } th.n scope="col" { "Warnings" } th.n scope="col" { "Last" }
                        } }
                        tbody {
                            @for source in late.iter().take(WAITS) {
                                tr {
                                    th scope="row" { (self.name(&source.name)) @if source.is_waited_for { " " span.status.waiting { (charts::sign(Status::Waiting)) "now" } } }
                                    td.n data-label="segments" { (number(source.segments)) }
                                    td.n data-label="waits" { (nonzero(source.waits)) }
                                    td.n data-label="longest" { @if source.waits > 0 { (duration(source.longest_seconds)) } @else { (cell(None)) } }
                                    td.n data-label="warnings" { (nonzero(source.warnings)) }
                                    td.n data-label="last" { (source.last) }
                                }
                            }
                        }
                    }
                    (more(late.len().saturating_sub(WAITS), "source"))
                }
            }
        }
    }

    /// Each cell says which part of the members of its row is in its column.
    fn overlap(&self) -> Markup {
        let overlap = &self.report.overlap;
        let count = overlap.segments.len();
        let common = |row: usize, column: usize| {
            let pair = (row.min(column), row.max(column));
            overlap
                .common
                .iter()
                .find(|(one, two, _)| (*one, *two) == pair)
                .map_or(0, |found| found.2)
        };
        html! {
            section {
                h2 { "What segments have in common" }
                @if count < 2 {
                    p.fine { "There are no two segments to compare." }
                } @else {
                    p.legend { "Of the members of a row, so many percent are also in the column." }
                    table.matrix {
                        thead {
                            tr {
                                td {}
                                @for number in 1..=count { th scope="col" { span aria-hidden="true" { (number) } span.hidden { (self.name(&overlap.segments[number - 1].name)) } } }
                            }
                        }
                        tbody {
                            @for (row, segment) in overlap.segments.iter().enumerate() {
                                tr {
                                    th scope="row" title=(clipped(&segment.name, self.limits.name)) { span.place { (row + 1) } " " (self.name(&segment.name)) }
                                    @for column in 0..count {
                                        @if row == column {
                                            td.self { "\u{b7}" }
                                        } @else {
                                            @let part = common(row, column) * 100 / segment.members.max(1);
                                            td class={ "s" (part.clamp(0, 100) / 10) } title=(counted(common(row, column), "common member")) {
                                                @if common(row, column) > 0 && part == 0 { "<1" } @else if part > 0 { (part) }
                                            }
                                        }
                                    }
                                }
                            }
                        }
                    }
                }
                @for (left_out, why) in &overlap.left_out {
                    p.more { (counted(*left_out, "segment")) " with members " (is_are(*left_out as usize)) " left out: " (why) "." }
                }
            }
        }
    }

    fn lineage(&self) -> Markup {
        let graph = lineage::graph(self.report, self.limits.nodes);
        let rows = self.report.lineage.len().min(self.limits.rows);
        html! {
            section {
                h2 { "What segments are made from, and who gets them" }
                @if graph.edges.is_empty() {
                    p.fine { "No segment is known to read anything yet." }
                } @else {
                    p.legend {
                        span.key.other {} " table, view, function   " span.key.segment {} " segment   "
                        span.key.consumer {} " consumer   " span.key.out {} " members are left out"
                    }
                    div.scroll.picture tabindex="0" role="region" aria-label="Lineage" { (lineage::draw(&graph)) }
                }
                (more(graph.left_out, "segment"))
                @if rows > 0 {
                    details {
                        summary { "The same as a table" }
                        div.scroll tabindex="0" role="region" aria-label="Lineage as a table" {
                            table {
                                thead { tr { th scope="col" { "Segment" } th scope="col" { "Reads" } th scope="col" { "Kind" } th scope="col" { "Via" } } }
                                tbody {
                                    @for edge in &self.report.lineage[..rows] {
                                        tr {
                                            th scope="row" { (self.name(&edge.segment)) }
                                            td { (self.name(&edge.reads)) }
                                            td { (edge.kind) }
                                            td { @if let Some(via) = &edge.via { (self.name(via)) } }
                                        }
                                    }
                                }
                            }
                        }
                        (more(self.report.lineage.len() - rows, "row"))
                    }
                }
            }
        }
    }

    fn all(&self) -> Markup {
        let report = self.report;
        let shown = report.segments.len().min(self.limits.rows);
        html! {
            section {
                h2 { "All segments" }
                table.cards.all {
                    thead { tr {
                        th scope="col" { "Segment" } th scope="col" { "Last refresh" } th.n scope="col" { "Members" }
                        th.n scope="col" { "7 days" } th.n scope="col" { "Came" } th.n scope="col" { "Left" }
                        th.pic scope="col" { "Size" } th.n scope="col" { "Next" }
                    } }
                    tbody {
                        @for (place, segment) in report.segments[..shown].iter().enumerate() {
                            tr {
                                th scope="row" { (self.name(&segment.name)) }
                                td { (self.status(segment)) }
                                td.n data-label="members" { (cell(segment.members)) }
                                td.n data-label="7 days" { (self.change(segment)) }
                                td.n data-label="came" { (nonzero(segment.came())) }
                                td.n data-label="left" { (nonzero(segment.left())) }
                                td.pic { @if place < self.limits.sparks { (charts::spark(segment, report.buckets.len())) } }
                                td.n data-label="next" { (segment.next_refresh.as_deref().unwrap_or("\u{2013}")) }
                            }
                        }
                    }
                }
                (more(report.segments.len() - shown, "segment"))
            }
        }
    }

    fn change(&self, segment: &Segment) -> Markup {
        html! {
            @match segment.change() {
                None => (cell(None)),
                Some(0) => "0",
                Some(change) => b class=(if change < 0 { "down" } else { "up" }) { (signed(change)) },
            }
        }
    }
}

/// Each name once, in the order of the first of each.
fn distinct<'n>(names: impl Iterator<Item = &'n str>) -> Vec<&'n str> {
    let mut distinct = Vec::new();
    for name in names {
        if !distinct.contains(&name) {
            distinct.push(name);
        }
    }
    distinct
}
