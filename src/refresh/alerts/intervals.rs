//! The limits of rules that are times.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use pgrx::prelude::*;

use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::config::{AlertRule, Limit};
use crate::error::Result;
use crate::pg::exec::statement::read_one;
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};
use segmenter_core::alert::Interval;

/// The intervals of a rule, as PostgreSQL reads them.
pub(super) struct Intervals(HashMap<String, Duration>);

/// The number of intervals that a session remembers.
const MOST_READ: usize = 1000;

thread_local! {
    /// Those that this session has read.
    static READ: RefCell<HashMap<String, Duration>> = RefCell::default();
}

impl Intervals {
    /// An interval that PostgreSQL does not read is an error.
    pub(super) fn of(set: &RelationSet, rule: &AlertRule) -> Result<Self> {
        let texts = rule.on.iter().filter_map(|condition| match &condition.limit {
            Some(Limit::Time(text)) => Some(text),
            _ => None,
        });
        let texts = texts.chain(rule.flapping.iter().map(|flapping| &flapping.within));
        let read = texts.map(|text| {
            if let Some(known) = READ.with_borrow(|read| read.get(text).copied()) {
                return Ok((text.clone(), known));
            }
            let sql = queries::config::PARSE_INTERVAL;
            let args = [text.as_str().into()];
            let parsed: Option<i64> = in_subtransaction(OnSuccess::Commit, || {
                set.as_owner(|| Spi::connect(|_| read_one(sql.text(), &args)))
            })?;
            let parsed = Duration::from_millis(parsed.unwrap_or_default().max(0) as u64);
            READ.with_borrow_mut(|read| {
                if read.len() >= MOST_READ {
                    read.clear();
                }
                read.insert(text.clone(), parsed);
            });
            Ok((text.clone(), parsed))
        });
        read.collect::<Result<_>>().map(Self)
    }
}

impl Interval for Intervals {
    fn duration(&self, text: &str) -> Duration {
        self.0.get(text).copied().unwrap_or_default()
    }
}
