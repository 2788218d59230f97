//! The delta of an incremental pass: only for the ids that may have changed.

use std::rc::Rc;

use pgrx::datum::Uuid;

use super::{
    ADDED, CHANGED, DELTA, Delta, DeltaTarget, INVALID, LONG, LongIds, NEITHER, REMOVED, UNCHANGED,
    duplicates, old_value, parse_single_statement,
};
use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::config::segment_table::Table;
use crate::error::{Error, Result};
use crate::pg::bgw::progress::{self, Figure, Phase};
use crate::pg::exec::role;
use crate::pg::exec::statement::{Prepared, StatementKind};
use crate::pg::exec::tuplestore::Relation;
use crate::pg::format::fingerprint::Counts;
use segmenter_core::guards::DeltaStats;

/// The operation of a received row whose id is not among the changed ids.
const OUTSIDE: u8 = b'o';

/// Computes the delta between a query and a segment's members, as [`super::of_query`] does, but
/// only for changed ids. `ids` is the relation of the SPI connection that has them, each once, and
/// `changed` its number of rows. `before` is the number of members before. Rows that the query
/// returns for other ids are ignored.
pub fn of_changed<'a>(
    set: &'a RelationSet,
    table: &'a Table,
    segment: (Uuid, u64),
    sql: &str,
    (ids, changed): (&str, u64),
    before: u64,
) -> Result<(Delta, DeltaTarget<'a>)> {
    let relation = Relation::new(DELTA);
    let (figures, long_ids, change, side) = role::read_only(|| {
        let query = parse_single_statement(sql, StatementKind::Select)?;
        let analysed = Rc::new(Prepared::of_user(query, &[])?);
        let side = DeltaTarget::of_analysed((set, table), segment, &analysed)?;

        let source = super::received(&side, query, &analysed, true)?;
        let member = side.member_sql();
        let sql = &queries::refresh::delta::JOIN_CHANGED;
        let received = side.checked_sql(&source.sql);
        let sql = side.delta_of(sql, &[("received", &received), ("member", &member), ("ids", ids)]);
        let skipped = [UNCHANGED, OUTSIDE, NEITHER];
        Figure::before().reach(before);
        // Of each id there is a row at most.
        progress::enter_expecting(Phase::Comparing, changed, 0);
        let args = side.args();
        let (histogram, sums) = role::from_memory(|| {
            side.append_delta(&relation, (&sql, &args), &skipped, Counts::Received)
        })?;
        analysed.check_seen(query, &[])?;

        let of = |letters: &[u8]| letters.iter().map(|letter| histogram.of(*letter)).sum::<u64>();
        if of(&[ADDED, REMOVED, CHANGED, UNCHANGED, NEITHER]) != changed {
            return Err(Error::DuplicateIds { examples: duplicates(&side, &received)? });
        }
        let figures = DeltaStats {
            received: of(&[ADDED, CHANGED, UNCHANGED, INVALID, LONG, OUTSIDE]),
            invalid: of(&[INVALID, LONG]),
            added: of(&[ADDED]),
            removed: of(&[REMOVED]),
            changed: of(&[CHANGED]),
            before,
            ..DeltaStats::default()
        };
        Ok((figures, LongIds::find(of(&[LONG]))?, sums.change, side))
    })?;
    Ok((Delta { figures, long_ids, found: None, change, relation }, side))
}

impl DeltaTarget<'_> {
    /// A query for the member with the id `c.id`.
    pub(super) fn member_sql(&self) -> String {
        let values: String = self
            .columns()
            .map(|(number, column)| format!(", {} as o{number}", old_value(column)))
            .collect();
        let parts =
            [("old_values", values.as_str()), ("collation", self.table.id_collation.as_str())];
        self.sql(&queries::refresh::delta::MEMBER_BY_ID, &parts)
    }
}
