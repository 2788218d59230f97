//! The report: one self-contained HTML page about segments. What it shows are values; it reads nothing.
//!
//! The page is ASCII: other characters are written as references, so that it is the same whatever the
//! encoding of the client is.

mod charts;
mod lineage;
mod page;
mod ranking;
mod words;

/// The longest page, in bytes.
pub const LONGEST: usize = 2_000_000;

/// What the page is made of. Times are local times of the zone, as texts; durations are in seconds.
#[derive(Debug, Default, Clone)]
pub struct Report {
    pub database: String,
    /// The role that asked: only what it may see is shown.
    pub role: String,
    pub made_at: String,
    pub zone: String,
    pub days: i32,
    pub buckets: Vec<Bucket>,
    pub segments: Vec<Segment>,
    pub late_sources: Vec<LateSource>,
    pub subscriptions: Vec<Subscription>,
    pub findings: Vec<Finding>,
    pub overlap: Overlap,
    pub lineage: Vec<Edge>,
}

/// A part of the time that the report covers.
#[derive(Debug, Default, Clone)]
pub struct Bucket {
    /// Its begin, as a table shows it.
    pub label: String,
    /// The same for an axis.
    pub short: String,
}

/// How the last attempt to refresh a segment ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    Ok,
    Waiting,
    Refused,
    Interrupted,
    Failed,
}

impl Status {
    /// The status of the log and the state.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "ok" => Some(Self::Ok),
            "waiting" => Some(Self::Waiting),
            "refused" => Some(Self::Refused),
            "interrupted" => Some(Self::Interrupted),
            "failed" => Some(Self::Failed),
            _ => None,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Waiting => "waiting",
            Self::Refused => "refused",
            Self::Interrupted => "interrupted",
            Self::Failed => "failed",
        }
    }
}

#[derive(Debug, Default, Clone)]
pub struct Segment {
    pub name: String,
    /// None: it was never refreshed.
    pub status: Option<Status>,
    pub is_running: bool,
    /// Why it was refused, or what it waits for.
    pub reason: Option<String>,
    /// Since when it waits, or when the last attempt began.
    pub since: Option<String>,
    pub waits_for_seconds: Option<i64>,
    pub next_refresh: Option<String>,
    pub members: Option<i64>,
    /// None: not known, or it did not exist.
    pub members_a_week_ago: Option<i64>,
    /// What happened in each bucket, in order; buckets without entries are left out.
    pub points: Vec<Point>,
}

/// The refreshes of a segment in a bucket.
#[derive(Debug, Default, Clone)]
pub struct Point {
    pub bucket: usize,
    /// Members after the last successful one.
    pub members: Option<i64>,
    /// Members before the first successful one.
    pub before: Option<i64>,
    pub came: i64,
    pub left: i64,
    pub ok: i64,
    pub waiting: i64,
    pub refused: i64,
    /// Interrupted ones are among them.
    pub failed: i64,
    /// The last of them had to wait.
    pub ends_waiting: bool,
}

impl Point {
    /// The worst of what happened.
    fn worst(&self) -> Option<Status> {
        let counts = [
            (self.failed, Status::Failed),
            (self.refused, Status::Refused),
            (self.waiting, Status::Waiting),
            (self.ok, Status::Ok),
        ];
        counts.into_iter().find(|(count, _)| *count > 0).map(|(_, status)| status)
    }
}

/// A source that segments waited for, or that was late without stopping them.
#[derive(Debug, Default, Clone)]
pub struct LateSource {
    pub name: String,
    pub segments: i64,
    /// How often a segment had to wait for it, and the longest such time.
    pub waits: i64,
    pub longest_seconds: i64,
    /// How often it was late, but not too late for a refresh.
    pub warnings: i64,
    pub last: String,
    /// Segments wait for it now.
    pub is_waited_for: bool,
}

/// An active subscription.
#[derive(Debug, Default, Clone)]
pub struct Subscription {
    pub consumer: String,
    pub target: String,
    pub segment: String,
    pub status: String,
    pub waiting_messages: i64,
    /// Since when the first of them waits, and how long.
    pub waiting_since: Option<String>,
    pub waiting_seconds: Option<i64>,
    /// Why changes are held back.
    pub held: Option<String>,
}

impl Subscription {
    fn waits(&self) -> bool {
        self.waiting_messages > 0 || self.held.is_some() || self.status == "failed"
    }
}

/// A finding of the doctor.
#[derive(Debug, Default, Clone)]
pub struct Finding {
    pub is_problem: bool,
    pub text: String,
}

/// What segments have in common, two by two.
#[derive(Debug, Default, Clone)]
pub struct Overlap {
    pub segments: Vec<OverlapSegment>,
    /// The number of common members of the first segment and the second one, the latter being later in the list.
    pub common: Vec<(usize, usize, i64)>,
    /// Why segments with members are left out, each with their number.
    pub left_out: Vec<(i64, &'static str)>,
}

#[derive(Debug, Default, Clone)]
pub struct OverlapSegment {
    pub name: String,
    pub members: i64,
}

/// One thing that a segment reads.
#[derive(Debug, Default, Clone)]
pub struct Edge {
    pub segment: String,
    pub reads: String,
    /// segment, table, view or function.
    pub kind: String,
    pub via: Option<String>,
}

/// How much of it is shown.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Rows of a table.
    rows: usize,
    /// Rows with a small picture.
    sparks: usize,
    charts: usize,
    strips: usize,
    /// Things in the picture of the lineage.
    nodes: usize,
    findings: usize,
    /// Characters of a name, and of another text.
    name: usize,
    text: usize,
}

impl Limits {
    const FIRST: Self = Self {
        rows: 1000,
        sparks: 300,
        charts: 24,
        strips: 40,
        nodes: 60,
        findings: 40,
        name: 80,
        text: 300,
    };

    fn halved(self) -> Self {
        Self {
            rows: self.rows / 2,
            sparks: self.sparks / 2,
            charts: self.charts / 2,
            strips: self.strips / 2,
            nodes: self.nodes / 2,
            findings: self.findings / 2,
            name: self.name.min(40),
            text: self.text.min(100),
        }
    }
}

/// The page. Where all would be longer than [`LONGEST`], it shows less, and says so.
pub fn render(report: &Report) -> String {
    let mut report = report.clone();
    ranking::sort(&mut report.segments);
    let mut limits = Limits::FIRST;
    loop {
        let page = words::as_ascii(&page::page(&report, limits).into_string());
        if page.len() <= LONGEST || limits.rows == 0 {
            return page;
        }
        limits = limits.halved();
    }
}

#[cfg(test)]
mod tests;
