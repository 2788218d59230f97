//! Guards: limits that refuse a refresh, so that a broken source does not empty an audience.

use std::fmt;

use serde::Deserialize;

use crate::unusual::{Refreshed, Unusual};

/// The delta of a refresh in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeltaStats {
    /// Rows that the refresher returned.
    pub received: u64,
    /// Those of them that have no key.
    pub invalid: u64,
    pub added: u64,
    pub removed: u64,
    pub changed: u64,
    /// Rows that were left out, because other segments have their members.
    pub excluded: u64,
    /// Current members before the refresh.
    pub before: u64,
}

impl DeltaStats {
    /// Current members after the refresh.
    pub fn coverage(&self) -> u64 {
        self.before + self.added - self.removed
    }
}

/// The column `guards`: limits, each of them optional and inclusive.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guards {
    pub min_members: Option<u64>,
    pub max_members: Option<u64>,
    pub max_added: Option<u64>,
    pub max_removed: Option<u64>,
    /// Added, removed and changed members as a share of the members before, from 0 to 1.
    pub max_change: Option<f64>,
    /// Whether a refresh may remove all members of a segment.
    #[serde(default)]
    pub allow_empty: bool,
    /// Limits by the segment's own past.
    pub unusual: Option<Unusual>,
}

/// Why a delta is refused.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    pub figures: DeltaStats,
    pub reasons: Vec<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reasons.join("; "))
    }
}

impl std::error::Error for Refusal {}

impl Refusal {
    /// The figures in one sentence.
    pub fn figures(&self) -> String {
        let DeltaStats { added, removed, changed, before, .. } = self.figures;
        format!(
            "Of {before} members {removed} would be removed and {changed} changed, {added} would be added, {} would remain.",
            self.figures.coverage()
        )
    }
}

impl Guards {
    /// Checks the rules that the types do not express: `max_change` is from 0 to 1, and
    /// `min_members` is not more than `max_members`.
    pub fn validate(&self) -> Result<(), String> {
        if let Some(share) = self.max_change
            && !(0.0..=1.0).contains(&share)
        {
            return Err(format!("\"max_change\" is {share}, it must lie between 0 and 1"));
        }
        if let (Some(min), Some(max)) = (self.min_members, self.max_members)
            && min > max
        {
            return Err(format!("\"min_members\" {min} is more than \"max_members\" {max}"));
        }
        match &self.unusual {
            Some(unusual) => {
                unusual.validate().map_err(|problem| format!("\"unusual\": {problem}"))
            }
            None => Ok(()),
        }
    }

    /// The number of earlier refreshes that a check needs.
    pub fn runs(&self) -> u32 {
        self.unusual.as_ref().map_or(0, |unusual| unusual.runs)
    }

    /// Checks a delta; `past`: the figures of earlier refreshes. Returns what is unusual of it
    /// and does not refuse it. The error has all reasons for the refusal.
    pub fn check(&self, figures: DeltaStats, past: &[Refreshed]) -> Result<Vec<String>, Refusal> {
        let coverage = figures.coverage();
        let mut reasons = Vec::new();
        let mut limit = |broken: bool, reason: String| {
            if broken {
                reasons.push(reason);
            }
        };

        limit(
            !self.allow_empty && figures.before > 0 && coverage == 0,
            match figures.before {
                1 => "it would empty a segment of 1 member".to_owned(),
                many => format!("it would empty a segment of {many} members"),
            },
        );
        if let Some(min) = self.min_members {
            limit(coverage < min, format!("{} fewer than min_members {min}", are(coverage)));
        }
        if let Some(max) = self.max_members {
            limit(coverage > max, format!("{} more than max_members {max}", are(coverage)));
        }
        if let Some(max) = self.max_added {
            limit(
                figures.added > max,
                format!("{} added are more than max_added {max}", figures.added),
            );
        }
        if let Some(max) = self.max_removed {
            limit(
                figures.removed > max,
                format!("{} removed are more than max_removed {max}", figures.removed),
            );
        }
        // A first load has no members before it, so a share of them does not exist.
        if let Some(max) = self.max_change
            && figures.before > 0
        {
            let touched = figures.added + figures.removed + figures.changed;
            let share = touched as f64 / figures.before as f64;
            let told = (share * 10_000.0).round() / 10_000.0;
            limit(share > max, format!("a change of {told} is more than max_change {max}"));
        }

        let mut remarks = Vec::new();
        if let Some(unusual) = &self.unusual {
            let list = if unusual.only_tell { &mut remarks } else { &mut reasons };
            list.extend(unusual.find(past, figures));
        }

        if reasons.is_empty() { Ok(remarks) } else { Err(Refusal { figures, reasons }) }
    }
}

/// A number of members, with its verb.
fn are(members: u64) -> String {
    match members {
        1 => "1 member is".to_owned(),
        many => format!("{many} members are"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(before: u64, added: u64, removed: u64, changed: u64) -> DeltaStats {
        DeltaStats { before, added, removed, changed, ..DeltaStats::default() }
    }

    fn guards(json: &str) -> Guards {
        serde_json::from_str(json).expect("valid guards")
    }

    #[test]
    fn only_emptying_is_refused_by_default() {
        let none = Guards::default();
        assert!(none.check(figures(0, 1_000_000, 0, 0), &[]).is_ok());
        assert!(none.check(figures(100, 0, 99, 1), &[]).is_ok());
        assert!(none.check(figures(0, 0, 0, 0), &[]).is_ok());
        assert!(none.check(figures(100, 0, 100, 0), &[]).is_err());
        assert!(guards(r#"{"allow_empty": true}"#).check(figures(100, 0, 100, 0), &[]).is_ok());
    }

    #[test]
    fn limits_are_inclusive() {
        let limits =
            guards(r#"{"min_members": 5, "max_members": 10, "max_added": 3, "max_removed": 2}"#);
        assert!(limits.check(figures(7, 3, 0, 0), &[]).is_ok());
        assert!(limits.check(figures(7, 0, 2, 0), &[]).is_ok());
        assert!(limits.check(figures(7, 4, 0, 0), &[]).is_err());
        assert!(limits.check(figures(8, 0, 3, 0), &[]).is_err());
        assert!(limits.check(figures(6, 0, 2, 0), &[]).is_err());
        assert_eq!(limits.check(figures(0, 12, 0, 0), &[]).expect_err("refused").reasons.len(), 2);
    }

    #[test]
    fn max_change_counts_all_changes_but_not_those_of_a_first_load() {
        let limits = guards(r#"{"max_change": 0.1}"#);
        assert!(limits.check(figures(100, 4, 3, 3), &[]).is_ok());
        assert!(limits.check(figures(100, 4, 4, 3), &[]).is_err());
        assert!(limits.check(figures(0, 500, 0, 0), &[]).is_ok());
    }

    #[test]
    fn invalid_guards_are_named() {
        assert!(
            serde_json::from_str::<Guards>(r#"{"max_removd": 1}"#)
                .unwrap_err()
                .to_string()
                .contains("max_removd")
        );
        assert!(serde_json::from_str::<Guards>(r#"{"max_added": -1}"#).is_err());
        assert!(guards(r#"{"max_change": 1.5}"#).validate().unwrap_err().contains("max_change"));
        assert!(guards(r#"{"min_members": 5, "max_members": 4}"#).validate().is_err());
        let problem = guards(r#"{"unusual": {"runs": 1}}"#).validate().unwrap_err();
        assert!(problem.contains("\"unusual\": \"runs\" is 1"));
    }

    #[test]
    fn what_is_unusual_is_refused_or_remarked() {
        let past = [Refreshed { members: 100, added: 1, removed: 1, changed: 0 }; 7];
        let refusing = guards(r#"{"unusual": {}}"#);
        let refused = refusing.check(figures(100, 0, 50, 0), &past).expect_err("refused");
        assert_eq!(refused.reasons.len(), 2);
        assert_eq!(refusing.check(figures(100, 1, 2, 0), &past), Ok(Vec::new()));
        let telling = guards(r#"{"unusual": {"only_tell": true}}"#);
        assert_eq!(telling.check(figures(100, 0, 50, 0), &past), Ok(refused.reasons));
    }
}
