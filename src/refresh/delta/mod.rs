//! The delta of a refresh, computed in one pass over the received rows and the members, and stored
//! as the relation `segmenter_delta`. Where the fingerprints of the members fit in memory, they are
//! compared; otherwise a full join is used, which spills to disk.

use std::ffi::CStr;
use std::rc::Rc;

use pgrx::datum::Uuid;
use pgrx::prelude::*;

use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::config::segment_table::Table;
use crate::error::{Error, Result};
use crate::pg::bgw::progress::{self, Figure, Phase};
use crate::pg::exec::role;
use crate::pg::exec::statement::{self, Prepared, StatementKind};
use crate::pg::exec::tuplestore::{ByteHistogram, Relation};
use crate::pg::format::fingerprint::{Counts, DeltaOperations, DeltaSums};
use segmenter_core::content::Checksum;
use segmenter_core::guards::DeltaStats;

mod changed;
pub mod excluded;
mod fingerprint;
mod hashes;
mod query;
mod received;
mod target;

pub use changed::of_changed;
use fingerprint::by_fingerprint;
pub use hashes::{NO_HASHES, NoHashes, SHORTEST_HASH};
use query::check_width;
pub use query::{check, check_analysed, named_by, parse_single_statement};
use received::received;
pub use received::{Source, localized, of_changed_ids};
pub use target::DeltaTarget;
use target::{is_fitted_array, old_value};

const DELTA: &CStr = c"segmenter_delta";
const BEFORE: &CStr = c"segmenter_before";

const ADDED: u8 = b'a';
const REMOVED: u8 = b'r';
const CHANGED: u8 = b'c';
const INVALID: u8 = b'i';
const UNCHANGED: u8 = b'=';
/// A received row whose id is too long to be stored.
const LONG: u8 = b'l';

/// The length of the longest id, in bytes: an entry of a unique index on (segment_id, id) has room for
/// it, also where it cannot be compressed.
pub const LONGEST_ID: usize = 2600;

/// The operation of a changed id that is no member, neither before nor now.
const NEITHER: u8 = b'-';

const OPERATIONS: DeltaOperations = DeltaOperations {
    added: ADDED,
    removed: REMOVED,
    changed: CHANGED,
    unchanged: UNCHANGED,
    neither: NEITHER,
};

/// The delta of one refresh. Dropping it drops the relation `segmenter_delta`.
pub struct Delta {
    pub figures: DeltaStats,
    /// Rows that were left out because their ids are too long: one of the error's kind, which is
    /// reported and keeps no other member back. They are among the invalid ones.
    pub long_ids: Option<LongIds>,
    /// The members that were found in the table; none: not all of them were read.
    pub found: Option<Checksum>,
    /// What the delta adds to the sum of the members.
    pub change: Checksum,
    relation: Relation,
}

/// Received rows that were left out because their ids are too long.
pub struct LongIds {
    pub count: u64,
    example: String,
}

impl LongIds {
    /// Finds an example in the delta.
    fn find(count: u64) -> Result<Option<Self>> {
        if count == 0 {
            return Ok(None);
        }
        let example = statement::read_one(queries::refresh::delta::FIND_LONG_ID.text(), &[])?;
        Ok(Some(Self { count, example: example.unwrap_or_default() }))
    }

    pub fn error(&self) -> Error {
        let (count, example) = (self.count, self.example.clone());
        Error::IdTooLong { count, example, most: LONGEST_ID }
    }
}

/// The number of members of a segment. Runs within an SPI connection.
pub fn count_members(set: &RelationSet, table: &Table, segment: Uuid) -> Result<u64> {
    let parts = [("table", table.name.as_str())];
    Ok(statement::read_one::<i64>(
        &set.sql(&queries::refresh::COUNT_MEMBERS, &parts),
        &[segment.into()],
    )?
    .unwrap_or_default() as u64)
}

/// Whether a segment has members, as the active snapshot sees the table. One is looked up in the index: it may be the
/// last of a large table that the planner would expect to find it at the beginning of.
pub fn has_members(set: &RelationSet, table: &Table, segment: Uuid) -> Result<bool> {
    let found = set.as_table_owner(table.owner, || {
        let sql = set.sql(&queries::refresh::HAS_MEMBERS, &[("table", table.name.as_str())]);
        Spi::connect(|_| statement::look_up::<bool>(sql, &[segment.into()]))
    })?;
    Ok(found == Some(true))
}

/// Computes the delta between a query and a segment's members, both as the active snapshot sees
/// them. Runs with the rights of the segment's owner, within an SPI connection. A query that does
/// not fit the table, writes, or returns a key twice is an error. `has_changed`: the SPI connection has
/// the relation `changed`.
pub fn of_query<'a>(
    set: &'a RelationSet,
    table: &'a Table,
    (segment, seed): (Uuid, u64),
    sql: &str,
    has_changed: bool,
) -> Result<(Delta, DeltaTarget<'a>)> {
    let relation = Relation::new(DELTA);
    let (figures, long_ids, sums, side) = role::read_only(|| {
        let query = parse_single_statement(sql, StatementKind::Select)?;
        let analysed = match has_changed {
            true => Rc::new(Prepared::of_user(query, &[])?),
            false => Prepared::analysed(query, &[])?,
        };
        let side = DeltaTarget::of_analysed((set, table), (segment, seed), &analysed)?;

        let source = self::received(&side, query, &analysed, has_changed)?;
        let found = compare(&side, &relation, &source)?;
        analysed.check_seen(query, &[])?;
        Ok((found.0, found.1, found.2, side))
    })?;
    Ok((Delta::of(figures, long_ids, sums, relation), side))
}

/// Compares received rows with the members, by fingerprints or by a join.
fn compare(
    side: &DeltaTarget<'_>,
    relation: &Relation,
    source: &Source,
) -> Result<(DeltaStats, Option<LongIds>, DeltaSums)> {
    if let Some((figures, sums)) = by_fingerprint(side, relation, &source.sql)? {
        return Ok((figures, None, sums));
    }
    let received = side.checked_sql(&source.sql);
    let sql = side.delta_sql(&received, &side.members_sql());
    progress::enter_comparing(Prepared::new(&source.sql, &[])?.estimated_rows());
    let args = side.args();
    let (histogram, sums) =
        side.append_delta(relation, (&sql, &args), &[UNCHANGED], Counts::Received)?;
    let figures = figures(&histogram);
    // Each member is counted once, unless its key was received twice.
    check_duplicates(side, figures.before != side.count_members()?, figures, &received)?;
    Ok((figures, LongIds::find(histogram.of(LONG))?, sums))
}

impl Delta {
    /// A delta for which all members were read.
    fn of(
        figures: DeltaStats,
        long_ids: Option<LongIds>,
        sums: DeltaSums,
        relation: Relation,
    ) -> Self {
        let DeltaSums { before, change } = sums;
        Self { figures, long_ids, found: Some(before), change, relation }
    }
}

/// A copy of a segment's members, taken before a procedure changes them.
pub struct Before<'a> {
    side: DeltaTarget<'a>,
    _relation: Relation,
}

/// Copies the members, as the active snapshot sees them.
pub fn before_procedure<'a>(
    set: &'a RelationSet,
    table: &'a Table,
    (segment, seed): (Uuid, u64),
) -> Result<Before<'a>> {
    check_width(table, table.columns.len())?;
    let received = vec![true; table.columns.len()];
    // What is stored was not too long.
    let side = DeltaTarget { set, table, segment, received, has_long_ids: false, seed };
    let relation = Relation::new(BEFORE);
    progress::enter(Phase::ReadingMembers);
    relation.append(&side.members_sql(), &side.args())?;
    Figure::before().reach(relation.rows());
    Ok(Before { side, _relation: relation })
}

impl<'a> Before<'a> {
    /// Computes the delta between the copy and the members that the active snapshot sees now.
    /// Members without an id are an error.
    pub fn compare(self) -> Result<(Delta, DeltaTarget<'a>)> {
        let received = self
            .side
            .received_sql(&self.side.sql(&queries::refresh::delta::LIST_STORED_MEMBERS, &[]));
        let received = self.side.checked_sql(&received);
        let sql = self.side.delta_sql(&received, "select * from segmenter_before");
        let relation = Relation::new(DELTA);
        progress::enter(Phase::Comparing);
        let args = self.side.args();
        let (histogram, sums) =
            self.side.append_delta(&relation, (&sql, &args), &[UNCHANGED], Counts::Received)?;
        if histogram.of(INVALID) > 0 {
            return Err(Error::MembersWithoutId {
                table: self.side.table.name.clone(),
                count: histogram.of(INVALID),
            });
        }
        Ok((Delta::of(figures(&histogram), None, sums, relation), self.side))
    }
}

/// Raises an error, with examples, if a key was received twice. `matched_twice` says so for keys of
/// members; new keys are checked in the delta here.
fn check_duplicates(
    side: &DeltaTarget<'_>,
    matched_twice: bool,
    figures: DeltaStats,
    received: &str,
) -> Result<()> {
    let duplicate_new_key = || -> Result<bool> {
        let sql = &queries::refresh::delta::HAS_DUPLICATE_ADDED;
        Ok(figures.added > 1 && statement::read_one(sql.text(), &[])?.unwrap_or_default())
    };
    if matched_twice || duplicate_new_key()? {
        let examples = duplicates(side, received)?;
        if !examples.is_empty() {
            return Err(Error::DuplicateIds { examples });
        }
    }
    Ok(())
}

/// Examples of ids that are received more than once.
fn duplicates(side: &DeltaTarget<'_>, received: &str) -> Result<Vec<String>> {
    Ok(statement::read_one(
        &side.sql(&queries::refresh::delta::FIND_DUPLICATES, &[("received", received)]),
        &[],
    )?
    .unwrap_or_default())
}

fn figures(histogram: &ByteHistogram) -> DeltaStats {
    let (added, removed, changed) =
        (histogram.of(ADDED), histogram.of(REMOVED), histogram.of(CHANGED));
    let invalid = histogram.of(INVALID) + histogram.of(LONG);
    let unchanged = histogram.of(UNCHANGED);
    DeltaStats {
        received: unchanged + added + changed + invalid,
        invalid,
        added,
        removed,
        changed,
        before: unchanged + changed + removed,
        excluded: 0,
    }
}
