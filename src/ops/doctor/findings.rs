//! The findings of the doctor.

use crate::error::counted;

/// The severity of a finding.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Ok,
    Warning,
    Problem,
}

impl Level {
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Problem => "problem",
        }
    }
}

/// A row of the result.
pub struct Finding {
    pub check: &'static str,
    pub level: Level,
    pub detail: String,
    pub hint: Option<String>,
}

/// The rows, in the order of the checks.
#[derive(Default)]
pub(super) struct Findings {
    pub(super) rows: Vec<Finding>,
    /// How many segments were looked at, if not all.
    pub(super) scope: Option<String>,
}

impl Findings {
    pub(super) fn add(
        &mut self,
        check: &'static str,
        level: Level,
        detail: String,
        hint: Option<String>,
    ) {
        self.rows.push(Finding { check, level, detail, hint });
    }

    pub(super) fn ok(&mut self, check: &'static str, detail: impl Into<String>) {
        self.add(check, Level::Ok, detail.into(), None);
    }

    pub(super) fn warn(&mut self, check: &'static str, detail: String, hint: impl Into<String>) {
        self.add(check, Level::Warning, detail, Some(hint.into()));
    }

    pub(super) fn problem(&mut self, check: &'static str, detail: String, hint: impl Into<String>) {
        self.add(check, Level::Problem, detail, Some(hint.into()));
    }

    /// Adds the row `ok` for a check without findings.
    pub(super) fn close(&mut self, check: &'static str, fine: &str) {
        if !self.rows.iter().any(|finding| finding.check == check) {
            self.ok(check, fine);
        }
    }

    /// The same for a check of segments, which says how many were looked at.
    pub(super) fn close_segments(&mut self, check: &'static str, fine: &str) {
        match &self.scope {
            Some(scope) => self.close(check, &format!("{fine} ({scope})")),
            None => self.close(check, fine),
        }
    }

    pub(super) fn sum_up(&mut self) {
        let count = |level| self.rows.iter().filter(|finding| finding.level == level).count();
        let (problems, warnings) = (count(Level::Problem), count(Level::Warning));
        let worst = self.rows.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok);
        let detail = match worst {
            Level::Ok => "all is well".to_owned(),
            _ => format!(
                "{}, {}",
                counted(problems as i64, "problem"),
                counted(warnings as i64, "warning")
            ),
        };
        let detail = match &self.scope {
            Some(scope) => format!("{detail}; {scope} were looked at"),
            None => detail,
        };
        self.add("summary", worst, detail, None);
    }
}
