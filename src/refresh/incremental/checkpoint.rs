//! How far an incremental refresh got: what the next one continues from.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use pgrx::datum::Uuid;
use pgrx::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::capture::Captured;
use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::error::Result;
use crate::pg::clock::Instant;
use crate::pg::format::json::JsonbText;
use segmenter_core::clock::is_ahead;

/// How far an incremental refresh got, as stored in the segment's state.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The refresher: another one may select other members.
    pub refresher: Value,
    /// The database cluster and the segment's table: a checkpoint is not valid in a copy elsewhere.
    pub cluster: u64,
    pub table: u32,
    /// The role whose rights the queries ran with: another role may see other rows.
    #[serde(default)]
    pub owner: u32,
    /// The time of the refresh, or the beginning of its transaction if that was earlier: its SQL may
    /// have gone by either of them.
    #[serde(default)]
    pub at: Option<DateTime<Utc>>,
    /// The time of the last full pass.
    pub full_at: DateTime<Utc>,
    /// The number of changes that the last full pass found and the passes before it had missed;
    /// none: unknown.
    #[serde(default)]
    pub missed: Option<i64>,
    /// The time since which changes may be unseen.
    #[serde(default)]
    pub watermark: Option<DateTime<Utc>>,
    /// The position in the captured changes: changes that its snapshot does not see are unread.
    #[serde(default)]
    pub captured: Option<Captured>,
    /// The tables that the queries read, by name, with their OIDs; none: not known.
    #[serde(default)]
    pub reads: Option<BTreeMap<String, u32>>,
    /// A hash of the views, functions and policies that decide what the queries give; none: there are none,
    /// or not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definitions: Option<String>,
    /// The number of people who had been kept out of the segment and readmitted.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub readmissions: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

impl Checkpoint {
    /// Whether it was recorded while the clock was ahead. The times from which the next pass looks are
    /// compared exactly: what is written until then would be missed.
    pub fn is_ahead(&self, now: Instant) -> bool {
        is_ahead(self.full_at, now) || self.watermark.max(self.at).is_some_and(|at| at > now)
    }

    /// Whether it continues where another segment of its family does.
    pub fn is_as_far_as(&self, family: &Self) -> bool {
        let own = |it: &Self| Self {
            refresher: Value::Null,
            full_at: DateTime::UNIX_EPOCH,
            missed: None,
            ..it.clone()
        };
        serde_json::to_value(own(self)).ok() == serde_json::to_value(own(family)).ok()
    }

    /// Whether refresher, table, owner and cluster are the same in the next refresh.
    pub fn is_continued_by(&self, next: &Self) -> bool {
        (&self.refresher, self.cluster, self.table, self.owner)
            == (&next.refresher, next.cluster, next.table, next.owner)
    }
}

/// The checkpoint of the last successful refresh, and the number of members; none: unknown. A
/// checkpoint that this version cannot read is not used.
pub fn last_checkpoint(
    set: &RelationSet,
    segment: Uuid,
) -> Result<(Option<Checkpoint>, Option<u64>)> {
    set.as_owner(|| {
        Spi::connect(|client| {
            let sql = set.sql(&queries::catalog::state::FIND_CHECKPOINT, &[]);
            let row = client.select(&sql, Some(1), &[segment.into()])?.first();
            if row.is_empty() {
                return Ok((None, None));
            }
            let checkpoint = row.get_by_name::<JsonbText, _>("checkpoint")?;
            let members = row.get_by_name::<i64, _>("members")?;
            Ok((
                checkpoint.and_then(|json| serde_json::from_str(&json.0).ok()),
                members.map(|count| count as u64),
            ))
        })
    })
}
