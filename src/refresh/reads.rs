//! What a segment reads, which decides the order of refreshes.

use pgrx::prelude::*;

use crate::catalog::relation_set::RelationSet;
use crate::config::{Refresher, Segment, Sql};
use crate::error::Result;
use crate::pg::exec::role;
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};
use crate::refresh::{delta, incremental, source_check};

/// The relations that a segment's queries read and its sources name. What cannot be analysed counts
/// as reading nothing. This analyses the queries with the rights of the segment's owner, which can
/// call functions of that role.
pub fn relations(set: &RelationSet, segment: &Segment) -> Vec<pg_sys::Oid> {
    if !role::exists(segment.owner) {
        return Vec::new();
    }
    let as_owner = |ask: &dyn Fn() -> Result<Vec<pg_sys::Oid>>| {
        let asked = in_subtransaction(OnSuccess::Rollback, || {
            set.as_segment_owner(segment.owner, || Spi::connect(|_| ask()))
        });
        asked.unwrap_or_default()
    };
    let mut reads = match &segment.refresher {
        Some(Refresher::Query(Sql { sql })) => as_owner(&|| delta::relations_of(sql)),
        Some(Refresher::Incremental(incremental)) => {
            as_owner(&|| incremental::relations(set, incremental))
        }
        // What a procedure reads is not known.
        Some(Refresher::Procedure(_)) | None => Vec::new(),
    };
    if !segment.sources.is_empty() {
        reads.extend(as_owner(&|| source_check::relations(&segment.sources)));
    }
    reads
}
