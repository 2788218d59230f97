//! The delta computed from fingerprints of the members.

use std::ffi::CStr;

use super::{
    CHANGED, DeltaTarget, LONGEST_ID, REMOVED, check_duplicates, is_fitted_array, old_value,
};
use crate::catalog::queries;
use crate::catalog::query::Query;
use crate::error::Result;
use crate::pg::bgw::progress;
use crate::pg::exec::statement::Prepared;
use crate::pg::exec::tuplestore::Relation;
use crate::pg::format::fingerprint::{DeltaSums, FingerprintIndex, Operations};
use crate::pg::system_catalog;
use segmenter_core::guards::DeltaStats;

const LOCATED: &CStr = c"segmenter_located";

/// The operation of a row whose hash matched a member with another key.
const MISTAKEN: u8 = b'x';

/// Computes the delta from fingerprints into `relation`. None: fingerprints cannot be used, and the
/// relation is empty. That is so for arrays that are coerced when they are stored, for members
/// whose fingerprints do not fit in memory, for ids that are too long to be stored, and after a
/// collision of hashes.
pub(super) fn by_fingerprint(
    side: &DeltaTarget<'_>,
    relation: &Relation,
    received: &str,
) -> Result<Option<(DeltaStats, DeltaSums)>> {
    if side.received_columns().any(|(_, column)| is_fitted_array(column)) {
        return Ok(None);
    }
    let members = side.fingerprint_sql(&queries::refresh::delta::LIST_MEMBERS);
    let query = Prepared::new(&side.delta_received_sql(received), &[])?;
    let expected = query.estimated_rows();
    progress::enter_reading(expected);
    let Some(index) = FingerprintIndex::take(&members, &side.args(), side.seed)? else {
        return Ok(None);
    };
    let (before, sum) = (index.count(), index.sum());
    let located = Relation::new(LOCATED);
    progress::enter_comparing(expected);
    let compared = index.compare(
        &query,
        relation,
        &located,
        Operations { changed: CHANGED, removed: REMOVED },
        LONGEST_ID,
    )?;
    if compared.has_long_key {
        relation.clear();
        return Ok(None);
    }
    let figures = DeltaStats {
        received: compared.unchanged + compared.added + compared.changed + compared.invalid,
        invalid: compared.invalid,
        added: compared.added,
        removed: before - compared.unchanged - compared.changed,
        changed: compared.changed,
        before,
        ..DeltaStats::default()
    };
    let mut is_mistaken = false;
    if compared.duplicate_key || compared.duplicate_new_key != Some(false) {
        check_duplicates(side, compared.duplicate_key, figures, received)?;
        // `check_duplicates` found no key twice: two different keys have the same hash.
        is_mistaken = compared.duplicate_key;
    }
    if !is_mistaken && located.rows() > 0 {
        let histogram = relation.append_counted(&side.old_values_sql(), &[], &[])?;
        is_mistaken = histogram.of(MISTAKEN) > 0;
    }
    if is_mistaken {
        relation.clear();
        return Ok(None);
    }
    let sums = DeltaSums { before: sum, change: compared.change };
    Ok(Some((figures, sums)))
}

impl DeltaTarget<'_> {
    /// The values, as expressions, that fingerprints of members `t` are computed from, besides the id.
    pub fn hashed_values(&self) -> impl Iterator<Item = String> {
        self.hashed_columns().map(|(_, column)| old_value(column))
    }

    /// A query for members, with the columns that fingerprints are computed from.
    pub(super) fn fingerprint_sql(&self, query: &Query) -> String {
        let value = |(number, column)| format!(", {} as o{number}", old_value(column));
        let values: String = self.hashed_columns().map(value).collect();
        let collation = self.table.id_collation.as_str();
        self.sql(query, &[("old_values", &values), ("collation", collation)])
    }

    fn delta_received_sql(&self, received: &str) -> String {
        let new = self.received_columns().map(|(number, _)| format!(", q.n{number}"));
        let old = self.columns().map(|(number, column)| {
            format!(", null::{} as o{number}", system_catalog::type_name(column.type_oid))
        });
        let values: String = new.chain(old).collect();
        self.sql(
            &queries::refresh::delta::RECEIVED_AS_ADDED,
            &[("values", &values), ("received", received)],
        )
    }

    fn old_values_sql(&self) -> String {
        let new = self.received_columns().map(|(number, _)| format!(", d.n{number}"));
        let old =
            self.columns().map(|(number, column)| format!(", {} as o{number}", old_value(column)));
        let values: String = new.chain(old).collect();
        self.sql(&queries::refresh::delta::FETCH_OLD_VALUES, &[("values", &values)])
    }
}
