//! The sum of fingerprints without the fingerprints themselves.

use pgrx::datum::DatumWithOid;

use super::Hashing;
use crate::error::Result;
use crate::pg::bgw::progress::Figure;
use crate::pg::exec::receiver::{Receive, Received, Receiver, Row};
use crate::pg::exec::statement::Prepared;
use crate::pg::exec::tuplestore::{ByteHistogram, HistogramReceiver, Relation};
use segmenter_core::content::Checksum;

/// The sum of the rows that a query returns: the key, the values, and one more column, which is
/// ignored. Runs within an SPI connection, with the active snapshot.
pub fn sum(sql: &str, args: &[DatumWithOid<'_>], seed: u64) -> Result<Checksum> {
    let query = Prepared::new(sql, args)?;
    let columns = query.columns();
    let hashed = &columns[..columns.len().saturating_sub(1)];
    let hashing = Hashing::new(hashed.iter().map(|column| column.type_oid), seed);
    let mut summing = Receiver::new(SumReceiver { hashing, sum: Checksum::default() });
    query.execute(args, summing.destination())?;
    Ok(summing.inner.sum)
}

struct SumReceiver {
    hashing: Hashing,
    sum: Checksum,
}

impl Receive for SumReceiver {
    unsafe fn receive(&mut self, row: Row<'_>) -> Received {
        // SAFETY: the row has the columns of the query of `sum`; its values live as long as it.
        self.sum.add(unsafe { self.hashing.hash(row.values, row.nulls) });
        Received::Done
    }
}

/// The columns of a row of a delta that are hashed, by their places, each list with the key first.
pub struct DeltaColumns {
    pub new: Vec<usize>,
    pub old: Vec<usize>,
}

/// The operations of a delta.
#[derive(Clone, Copy)]
pub struct DeltaOperations {
    pub added: u8,
    pub removed: u8,
    pub changed: u8,
    pub unchanged: u8,
    /// Of rows that are neither received nor members.
    pub neither: u8,
}

/// Whether the rows of a delta are counted as received, for the progress of the refresh.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Counts {
    Received,
    /// They were counted before.
    Nothing,
}

/// The sums of the rows of a delta.
#[derive(Clone, Copy, Default)]
pub struct DeltaSums {
    /// The members before that the delta has rows of.
    pub before: Checksum,
    /// What the delta adds to the sum of the members.
    pub change: Checksum,
}

/// Appends the rows of a query for a delta to a relation, as [`Relation::append_counted`] does, and
/// sums up their old and new values.
pub fn append_delta(
    relation: &Relation,
    (sql, args): (&str, &[DatumWithOid<'_>]),
    skipped: &[u8],
    columns: DeltaColumns,
    operations: DeltaOperations,
    (seed, counts): (u64, Counts),
) -> Result<(ByteHistogram, DeltaSums)> {
    let query = Prepared::new(sql, args)?;
    let types: Vec<_> = query.columns().iter().map(|column| column.type_oid).collect();
    let hashing = Hashing::new(columns.new.iter().map(|column| types[*column]), seed);
    let mut receiving = Receiver::new(DeltaReceiver {
        counting: relation.counting(skipped),
        hashing,
        columns,
        operations,
        sums: DeltaSums::default(),
        progress: (counts == Counts::Received).then(Progress::begin),
    });
    query.execute(args, receiving.destination())?;
    relation.register(&query);
    Ok((receiving.inner.counting.histogram, receiving.inner.sums))
}

struct DeltaReceiver {
    counting: HistogramReceiver,
    hashing: Hashing,
    columns: DeltaColumns,
    operations: DeltaOperations,
    sums: DeltaSums,
    progress: Option<Progress>,
}

/// What the progress shows of a comparison that reads both sides at once.
struct Progress {
    members: u64,
    rows: u64,
    before: Figure,
    received: Figure,
}

impl Progress {
    fn begin() -> Self {
        Self { members: 0, rows: 0, before: Figure::before(), received: Figure::received() }
    }

    fn count(&mut self, operation: u8, operations: &DeltaOperations) {
        let DeltaOperations { removed, changed, unchanged, neither, .. } = *operations;
        if operation == unchanged || operation == changed || operation == removed {
            self.members += 1;
            self.before.reach(self.members);
        }
        if operation != removed && operation != neither {
            self.rows += 1;
            self.received.reach(self.rows);
        }
    }
}

impl Receive for DeltaReceiver {
    unsafe fn receive(&mut self, row: Row<'_>) -> Received {
        // SAFETY: as the caller promises.
        let (operation, received) = unsafe { self.counting.count(row) };
        if let Some(progress) = &mut self.progress {
            progress.count(operation, &self.operations);
        }
        let DeltaOperations { added, removed, changed, unchanged, .. } = self.operations;
        // SAFETY: the row is one of the query's, whose columns were given; old and new values of a
        // column have the same type.
        let hash = |columns: &[usize]| unsafe {
            let values = columns.iter().map(|column| (row.values[*column], row.nulls[*column]));
            self.hashing.hash_each(values)
        };
        let sums = &mut self.sums;
        if operation == unchanged || operation == changed || operation == removed {
            let old = hash(&self.columns.old);
            sums.before.add(old);
            if operation != unchanged {
                sums.change.remove(old);
            }
        }
        if operation == added || operation == changed {
            sums.change.add(hash(&self.columns.new));
        }
        received
    }
}
