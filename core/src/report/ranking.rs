//! Which segments matter most, and what the reader should know first.

use std::cmp::Reverse;

use super::{Report, Segment, Status};

impl Segment {
    /// Its last attempt did not end well.
    pub(super) fn needs_attention(&self) -> bool {
        self.status.is_some_and(|status| status != Status::Ok)
    }

    /// The difference of its members in a week; none: it is not known.
    pub(super) fn change(&self) -> Option<i64> {
        Some(self.members? - self.members_a_week_ago?)
    }

    fn loss(&self) -> i64 {
        self.change().map_or(0, |change| (-change).max(0))
    }

    pub(super) fn came(&self) -> i64 {
        self.points.iter().map(|point| point.came).sum()
    }

    pub(super) fn left(&self) -> i64 {
        self.points.iter().map(|point| point.left).sum()
    }

    /// Its members at the end of each of so many buckets; none: not known yet.
    pub(super) fn sizes(&self, buckets: usize) -> Vec<Option<i64>> {
        let mut points = self.points.iter().peekable();
        // What was there before the first refresh, where that was before.
        let mut size = self.points.iter().find_map(|point| point.before).filter(|size| *size > 0);
        // A log that says nothing of its size: it has not changed.
        if self.points.iter().all(|point| point.members.is_none()) {
            size = self.members;
        }
        (0..buckets)
            .map(|bucket| {
                while let Some(point) = points.next_if(|point| point.bucket <= bucket) {
                    size = point.members.or(size);
                }
                size
            })
            .collect()
    }

    /// How its refreshes ended in each of so many buckets: the worst of each. One that has begun to wait waits
    /// until something else happens.
    pub(super) fn outcomes(&self, buckets: usize) -> Vec<Option<Status>> {
        let mut outcomes = vec![None; buckets];
        let mut waits = false;
        let mut points = self.points.iter().peekable();
        for (bucket, outcome) in outcomes.iter_mut().enumerate() {
            match points.next_if(|point| point.bucket == bucket) {
                Some(point) => {
                    *outcome = point.worst();
                    waits = point.ends_waiting;
                }
                None if waits => *outcome = Some(Status::Waiting),
                None => {}
            }
        }
        outcomes
    }
}

/// Puts those first that need attention, then those that have lost most in a week, then the largest.
pub(super) fn sort(segments: &mut [Segment]) {
    segments.sort_by(|one, other| {
        let key = |segment: &Segment| {
            (
                Reverse(segment.status.filter(|status| *status != Status::Ok)),
                Reverse(segment.loss()),
                Reverse(segment.members),
            )
        };
        key(one).cmp(&key(other)).then_with(|| one.name.cmp(&other.name))
    });
}

/// Those that have shrunk in a week, the one with the largest loss first.
pub(super) fn shrunk(report: &Report) -> Vec<&Segment> {
    let mut shrunk: Vec<&Segment> = report.segments.iter().filter(|s| s.loss() > 0).collect();
    shrunk.sort_by_key(|segment| Reverse(segment.loss()));
    shrunk
}

pub(super) fn waiting(report: &Report) -> Vec<&Segment> {
    let mut waiting: Vec<&Segment> =
        report.segments.iter().filter(|s| s.status == Some(Status::Waiting)).collect();
    waiting.sort_by_key(|segment| Reverse(segment.waits_for_seconds));
    waiting
}

#[cfg(test)]
mod tests {
    use super::super::Point;
    use super::*;

    fn segment(name: &str, status: Status, members: i64, before: i64) -> Segment {
        Segment {
            name: name.into(),
            status: Some(status),
            members: Some(members),
            members_a_week_ago: Some(before),
            ..Segment::default()
        }
    }

    #[test]
    fn what_needs_attention_comes_first() {
        let mut segments = vec![
            segment("large", Status::Ok, 900, 900),
            segment("grown", Status::Ok, 50, 10),
            segment("shrunk", Status::Ok, 10, 60),
            segment("late", Status::Waiting, 1, 1),
            segment("broken", Status::Failed, 1, 1),
            Segment { name: "new".into(), ..Segment::default() },
        ];
        sort(&mut segments);
        let names: Vec<&str> = segments.iter().map(|segment| segment.name.as_str()).collect();
        assert_eq!(names, ["broken", "late", "shrunk", "large", "grown", "new"]);
        let report = Report { segments, ..Report::default() };
        assert_eq!(shrunk(&report).len(), 1);
        assert_eq!(waiting(&report)[0].name, "late");
    }

    #[test]
    fn sizes_and_waits_last_until_something_happens() {
        let point = |bucket, members, waits: bool| Point {
            bucket,
            members,
            ok: i64::from(!waits),
            waiting: i64::from(waits),
            ends_waiting: waits,
            ..Point::default()
        };
        let mut one = segment("one", Status::Ok, 7, 7);
        assert_eq!(one.sizes(2), [Some(7), Some(7)]);
        one.points = vec![point(1, Some(5), false), point(2, None, true), point(4, Some(7), false)];
        assert_eq!(one.sizes(5), [None, Some(5), Some(5), Some(5), Some(7)]);
        let (ok, waiting) = (Some(Status::Ok), Some(Status::Waiting));
        assert_eq!(one.outcomes(5), [None, ok, waiting, waiting, ok]);
        one.points[0].before = Some(3);
        assert_eq!(one.sizes(2), [Some(3), Some(5)]);
    }
}
