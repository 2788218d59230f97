//! The guard `unusual`: what a refresh does, compared with what earlier refreshes of the segment did.

use serde::Deserialize;

use crate::guards::DeltaStats;

/// The number of earlier refreshes below which nothing is compared.
const FEWEST: usize = 7;

/// The largest number of earlier refreshes that are compared.
const MOST: u32 = 1_000;

/// The median absolute deviation of normally distributed values is their standard deviation divided by
/// this.
const NORMAL: f64 = 1.4826;

/// The least deviation, as a share of the usual number of members: smaller changes are never unusual.
const LEAST: f64 = 0.01;

/// The key `unusual` of the guards.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Unusual {
    /// The number of deviations from the median up to which a figure is usual.
    pub deviations: f64,
    /// The number of earlier refreshes.
    pub runs: u32,
    /// Whether the refresh is applied nevertheless, with a remark.
    pub only_tell: bool,
}

impl Default for Unusual {
    fn default() -> Self {
        Self { deviations: 5.0, runs: 28, only_tell: false }
    }
}

/// The figures of an earlier refresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refreshed {
    pub members: u64,
    pub added: u64,
    pub removed: u64,
    pub changed: u64,
}

impl Refreshed {
    /// How the number of members has changed.
    fn step(&self) -> f64 {
        self.added as f64 - self.removed as f64
    }

    fn churn(&self) -> f64 {
        (self.added + self.removed + self.changed) as f64
    }
}

impl From<DeltaStats> for Refreshed {
    fn from(figures: DeltaStats) -> Self {
        let DeltaStats { added, removed, changed, .. } = figures;
        Self { members: figures.coverage(), added, removed, changed }
    }
}

/// The median and the deviation of earlier figures.
#[derive(Clone, Copy)]
struct Usual {
    median: f64,
    deviation: f64,
}

impl Usual {
    fn of(figures: impl Iterator<Item = f64>) -> Self {
        let mut figures: Vec<f64> = figures.collect();
        let median = median(&mut figures);
        let mut distances: Vec<f64> =
            figures.into_iter().map(|figure| (figure - median).abs()).collect();
        Self { median, deviation: NORMAL * self::median(&mut distances) }
    }

    fn at_least(self, deviation: f64) -> Self {
        Self { deviation: self.deviation.max(deviation), ..self }
    }

    /// By how many deviations a figure is above the median.
    fn above(&self, figure: f64) -> f64 {
        (figure - self.median) / self.deviation
    }

    fn describe(&self, runs: usize) -> String {
        let round = |figure: f64| (figure * 100.0).round() / 100.0;
        let (median, deviation) = (round(self.median), round(self.deviation));
        format!("the median of the last {runs} refreshes is {median}, the deviation {deviation}")
    }
}

/// The middle of at least one figure.
fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    match (figures.len() % 2, figures.get(middle), figures.get(middle.wrapping_sub(1))) {
        (0, Some(upper), Some(lower)) => (upper + lower) / 2.0,
        (_, Some(middle), _) => *middle,
        _ => 0.0,
    }
}

impl Unusual {
    /// Checks the rules that the types do not express.
    pub fn validate(&self) -> Result<(), String> {
        let Self { deviations, runs, .. } = self;
        if !(*deviations > 0.0 && deviations.is_finite()) {
            return Err(format!("\"deviations\" is {deviations}, it must be more than 0"));
        }
        if !(FEWEST as u32..=MOST).contains(runs) {
            return Err(format!("\"runs\" is {runs}, it must lie between {FEWEST} and {MOST}"));
        }
        Ok(())
    }

    /// What is unusual of a refresh; nothing if too few refreshes went before it.
    ///
    /// The number of members is unusual if it is far from the median, and has come there by an unusual
    /// step: a segment that grows for long, and one that returns to what was usual, pass. The number
    /// of members that were added, removed or changed is unusual if it is far above its median,
    /// unless the refresh makes up for a number of members that was unusual itself.
    pub fn find(&self, past: &[Refreshed], figures: DeltaStats) -> Vec<String> {
        let mut unusual = Vec::new();
        if past.len() < FEWEST {
            return unusual;
        }
        let now = Refreshed::from(figures);
        let size = Usual::of(past.iter().map(|it| it.members as f64));
        let least = (LEAST * size.median).max(1.0);
        let size = size.at_least(least);
        let step = Usual::of(past.iter().map(Refreshed::step)).at_least(least);
        let is_far = |members: u64| size.above(members as f64).abs() > self.deviations;
        if is_far(now.members) && step.above(now.step()).abs() > self.deviations {
            let usual = size.describe(past.len());
            let members = match now.members {
                1 => "1 member is".to_owned(),
                many => format!("{many} members are"),
            };
            unusual.push(format!("{members} unusual: {usual}"));
        }
        // Most of these figures lie close to 0 and some far above, so that their deviation is
        // measured from 0.
        let churn = Usual::of(past.iter().map(Refreshed::churn));
        let churn = churn.at_least(least.max(NORMAL * churn.median));
        if churn.above(now.churn()) > self.deviations && !is_far(figures.before) {
            let usual = churn.describe(past.len());
            let count = now.churn();
            unusual
                .push(format!("{count} added, removed and changed members are unusual: {usual}"));
        }
        unusual
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Refreshes that bring a segment to these numbers of members, each from the one before it.
    fn refreshes(sizes: &[u64]) -> Vec<Refreshed> {
        let pairs = sizes.iter().zip(sizes.iter().skip(1));
        pairs.map(|(before, after)| between(*before, *after).into()).collect()
    }

    fn between(before: u64, after: u64) -> DeltaStats {
        DeltaStats {
            before,
            added: after.saturating_sub(before),
            removed: before.saturating_sub(after),
            ..DeltaStats::default()
        }
    }

    /// Pseudorandom numbers, roughly normal, with the standard deviation 1.
    struct Random(u64);

    impl Random {
        fn next(&mut self) -> f64 {
            let mut sum = 0.0;
            for _ in 0..12 {
                self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                sum += (self.0 >> 11) as f64 / (1u64 << 53) as f64;
            }
            sum - 6.0
        }
    }

    const SIZES: [u64; 8] = [100, 100, 102, 99, 101, 103, 98, 100];

    #[test]
    fn a_jump_is_unusual_in_both_figures() {
        let past = refreshes(&SIZES);
        let found = Unusual::default().find(&past, between(100, 160));
        assert_eq!(
            found,
            [
                "160 members are unusual: the median of the last 7 refreshes is 100, the deviation 1.48",
                "60 added, removed and changed members are unusual: the median of the last 7 refreshes is 2, the deviation 2.97",
            ]
        );
        assert!(Unusual::default().find(&past, between(100, 104)).is_empty());
        assert_eq!(Unusual::default().find(&past, between(100, 50)).len(), 2);
    }

    #[test]
    fn members_that_are_replaced_are_unusual_whatever_their_number() {
        let figures = DeltaStats { added: 50, removed: 50, ..between(100, 100) };
        let found = Unusual::default().find(&refreshes(&SIZES), figures);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("100 added, removed and changed members"));
    }

    #[test]
    fn a_segment_may_return_to_what_was_usual_and_stay_at_what_was_forced() {
        let mut sizes = SIZES.to_vec();
        sizes.push(50);
        let unusual = Unusual::default();
        assert!(unusual.find(&refreshes(&sizes), between(50, 100)).is_empty());
        assert!(unusual.find(&refreshes(&sizes), between(50, 51)).is_empty());
    }

    #[test]
    fn too_little_past_says_nothing() {
        let past = refreshes(&SIZES[..7]);
        assert_eq!(past.len(), 6);
        assert!(Unusual::default().find(&past, between(100, 1_000_000)).is_empty());
    }

    #[test]
    fn figures_that_never_change_have_room_for_a_little() {
        let past = vec![Refreshed { members: 1_000, added: 0, removed: 0, changed: 0 }; 28];
        assert!(Unusual::default().find(&past, between(1_000, 1_049)).is_empty());
        assert_eq!(Unusual::default().find(&past, between(1_000, 1_080)).len(), 2);
        let empty = vec![Refreshed { members: 0, added: 0, removed: 0, changed: 0 }; 28];
        assert!(Unusual::default().find(&empty, between(0, 5)).is_empty());
        assert_eq!(Unusual::default().find(&empty, between(0, 50)).len(), 2);
    }

    /// The steps are a share of the size, added and removed members in one.
    #[test]
    fn a_random_walk_is_hardly_ever_unusual_and_half_of_a_quiet_one_always() {
        for share in [0.001, 0.005, 0.01, 0.02, 0.05] {
            let mut random = Random(7);
            let mut sizes = vec![100_000];
            let (mut unusual, runs) = (0, 5_000);
            while sizes.len() < runs + 29 {
                let before = sizes[sizes.len() - 1];
                let after = (before as f64 * (1.0 + share * random.next())).round() as u64;
                if sizes.len() > 28 {
                    let past = refreshes(&sizes[sizes.len() - 29..]);
                    let guard = Unusual::default();
                    unusual += usize::from(!guard.find(&past, between(before, after)).is_empty());
                    let half = guard.find(&past, between(before, before / 2));
                    assert!(share > 0.01 || !half.is_empty(), "{before} members, then half");
                }
                // It stays in a range in which a share is many members.
                sizes.push(after.max(50_000));
            }
            assert!(unusual * 1_000 < runs, "{unusual} of {runs} with steps of {share}");
        }
    }

    #[test]
    fn wrong_values_are_named() {
        let invalid = |json: &str| {
            let unusual: Unusual = serde_json::from_str(json).expect("an object of the right form");
            unusual.validate().expect_err("a problem")
        };
        assert!(invalid(r#"{"deviations": 0}"#).contains("deviations"));
        assert!(invalid(r#"{"runs": 6}"#).contains("between 7 and 1000"));
        assert!(invalid(r#"{"runs": 1001}"#).contains("runs"));
        assert!(serde_json::from_str::<Unusual>(r#"{"run": 7}"#).is_err());
        assert_eq!(serde_json::from_str::<Unusual>("{}").expect("defaults"), Unusual::default());
    }
}
