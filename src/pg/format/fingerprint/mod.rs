//! Compares members with the rows of a query by fingerprints: 128 bits for each member, in memory.
//! This replaces a join that moves and compares whole rows; reading both sides then takes more time
//! than comparing them.
//!
//! A fingerprint has two 64-bit hashes, of the key and of the whole row, with seeds that are new
//! for each comparison. Two rows of which both hashes are equal are treated as equal; for a changed
//! row the probability of that error is 2⁻⁶⁴. Rows that were added, removed or changed are written
//! to a relation, with the place (ctid) of the old row. The old rows are fetched later and their
//! keys are compared, which finds different keys whose hashes collide.

use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;

use crate::error::Result;
use crate::pg::exec::receiver::{Receive, Receiver, raw, values, with_error_guard};
use crate::pg::exec::statement::Prepared;
use crate::pg::exec::tuplestore::Relation;

mod batch;
mod hashing;

use batch::Batch;
use hashing::{Hashing, lengths};

/// The fingerprint of a member, and the place of its row.
struct Fingerprint {
    key: u64,
    row: u64,
    block: u32,
    offset: u16,
    is_matched: bool,
}

impl Fingerprint {
    /// Writes a row about this member, which was removed or changed, with the operation in the
    /// first column and the place of the old row in the last.
    ///
    /// SAFETY: the values are those of the descriptor's columns.
    unsafe fn put(
        &self,
        store: *mut pg_sys::Tuplestorestate,
        desc: pg_sys::TupleDesc,
        operation: u8,
        values: &mut [pg_sys::Datum],
        nulls: &mut [bool],
    ) {
        let mut place = pg_sys::ItemPointerData {
            ip_blkid: pg_sys::BlockIdData {
                bi_hi: (self.block >> 16) as u16,
                bi_lo: self.block as u16,
            },
            ip_posid: self.offset,
        };
        if let ([first, .., last], [first_null, .., last_null]) = (&mut *values, &mut *nulls) {
            *first = operation.into();
            *last = (&raw mut place).into();
            (*first_null, *last_null) = (false, false);
        }
        // SAFETY: as promised; the store copies the row.
        unsafe { raw::tuplestore_putvalues(store, desc, values.as_ptr(), nulls.as_ptr()) };
    }
}

/// The fingerprints of a segment's members, ordered by the hashes of their keys.
pub struct FingerprintIndex {
    hashing: Hashing,
    prints: Vec<Fingerprint>,
    /// For each bucket of hashes that begin with the same bits: the index of its first fingerprint.
    starts: Vec<u32>,
    shift: u32,
}

/// The result of comparing the received rows.
#[derive(Default)]
pub struct MatchStats {
    pub added: u64,
    pub changed: u64,
    pub unchanged: u64,
    pub invalid: u64,
    /// Whether a member's key, or another key with the same hash, was received more than once.
    pub duplicate_key: bool,
    /// The same for keys that no member has; `None` if the memory did not suffice to find out.
    pub duplicate_new_key: Option<bool>,
}

/// The memory limit for fingerprints, in bytes.
fn memory() -> usize {
    // SAFETY: reads a setting, in kB.
    unsafe { pg_sys::maintenance_work_mem as usize * 1024 }
}

impl FingerprintIndex {
    /// Builds the index of the members that a query returns: the key, the values, and the row's
    /// `ctid`. `None`: they would exceed the memory limit.
    pub fn take(sql: &str, args: &[DatumWithOid<'_>]) -> Result<Option<Self>> {
        let query = Prepared::new(sql, args)?;
        let columns = query.columns();
        let compared = &columns[..columns.len().saturating_sub(1)];
        let hashing = Hashing::new(compared.iter().map(|column| column.type_oid));
        let room = (memory() / (size_of::<Fingerprint>() + 1)).min(u32::MAX as usize);
        let mut taking =
            Receiver::new(LoadReceiver { hashing, prints: Vec::new(), room, is_full: false });
        query.execute(args, taking.as_mut_ptr())?;
        let LoadReceiver { hashing, mut prints, is_full, .. } = taking.inner;
        if is_full {
            return Ok(None);
        }
        prints.sort_unstable_by_key(|print| print.key);
        pgrx::check_for_interrupts!();

        // About four fingerprints in a bucket.
        let bits = (prints.len() / 4).max(1).ilog2() + 1;
        let shift = u64::BITS - bits;
        let mut starts = Vec::with_capacity((1 << bits) + 1);
        for (at, print) in prints.iter().enumerate() {
            let bucket = (print.key >> shift) as usize;
            starts.resize(starts.len().max(bucket + 1), at as u32);
        }
        starts.resize((1 << bits) + 1, prints.len() as u32);
        Ok(Some(Self { hashing, prints, starts, shift }))
    }

    /// The number of members.
    pub fn count(&self) -> u64 {
        self.prints.len() as u64
    }

    /// Compares the rows that a query returns: the operation, the key, the values as the members
    /// have them, further columns, and a null place of the type `tid`. New rows are written to
    /// `added`. Rows that differ from the member's are written to `met`, with the operation
    /// `changed` and the member's place. Unchanged rows and rows without a key are only counted.
    /// Members that were not received follow in `met`, with the operation `removed`.
    pub fn compare(
        mut self,
        sql: &str,
        args: &[DatumWithOid<'_>],
        added: &Relation,
        met: &Relation,
        (changed, removed): (u8, u8),
    ) -> Result<MatchStats> {
        let query = Prepared::new(sql, args)?;
        let desc = query.result_desc();
        let columns = lengths(query.columns().iter().map(|column| column.type_oid));
        let room = memory().saturating_sub(self.prints.len() * (size_of::<Fingerprint>() + 1));
        let mut comparing = Receiver::new(ProbeReceiver {
            batch: Batch::new(columns),
            deciding: MatchSink {
                prints: &mut self,
                added: added.store(),
                met: met.store(),
                desc,
                changed,
                new_keys: Vec::new(),
                room: room / size_of::<u64>(),
                compared: MatchStats::default(),
            },
        });
        query.execute(args, comparing.as_mut_ptr())?;
        // SAFETY: the rows of a batch are its own.
        unsafe { with_error_guard(|| comparing.inner.flush_batch()) };
        let MatchSink { mut new_keys, mut compared, .. } = comparing.inner.deciding;
        if new_keys.len() as u64 == compared.added {
            new_keys.sort_unstable();
            compared.duplicate_new_key = Some(new_keys.windows(2).any(|pair| pair[0] == pair[1]));
        }
        pgrx::check_for_interrupts!();

        self.prints.retain(|print| !print.is_matched);
        let mut nulls = vec![true; query.columns().len()];
        let mut values = vec![pg_sys::Datum::null(); nulls.len()];
        // SAFETY: there is a value for every column of the descriptor.
        unsafe {
            with_error_guard(|| {
                for print in &self.prints {
                    print.put(met.store(), desc, removed, &mut values, &mut nulls);
                }
            });
        }
        added.register(&query);
        met.register(&query);
        Ok(compared)
    }

    /// The first key hash in the bucket of this one. Reading it brings the bucket into the cache.
    fn bucket_start(&self, key: u64) -> u64 {
        let start = self.starts.get((key >> self.shift) as usize);
        let print = start.and_then(|&start| self.prints.get(start as usize));
        print.map_or(0, |print| print.key)
    }

    /// Finds the member of a received row, and marks it as matched.
    fn probe(&mut self, key: u64, row: u64) -> Probe<'_> {
        let bucket = (key >> self.shift) as usize;
        let (Some(&from), Some(&to)) = (self.starts.get(bucket), self.starts.get(bucket + 1))
        else {
            return Probe::Miss;
        };
        let Some(bucket) = self.prints.get_mut(from as usize..to as usize) else {
            return Probe::Miss;
        };
        let (mut other, mut is_twice) = (None, false);
        for print in bucket.iter_mut().filter(|print| print.key == key) {
            if print.is_matched {
                is_twice = true;
            } else if print.row == row {
                print.is_matched = true;
                return Probe::Unchanged;
            } else {
                other = Some(print);
            }
        }
        match other {
            Some(print) => {
                print.is_matched = true;
                Probe::Changed(print)
            }
            None if is_twice => Probe::Duplicate,
            None => Probe::Miss,
        }
    }
}

enum Probe<'a> {
    Miss,
    Unchanged,
    Changed(&'a Fingerprint),
    /// The member was matched before.
    Duplicate,
}

struct LoadReceiver {
    hashing: Hashing,
    prints: Vec<Fingerprint>,
    room: usize,
    is_full: bool,
}

impl Receive for LoadReceiver {
    unsafe fn receive(&mut self, slot: *mut pg_sys::TupleTableSlot) -> bool {
        self.is_full = self.prints.len() >= self.room || self.prints.try_reserve(1).is_err();
        if self.is_full {
            return false;
        }
        // SAFETY: the last column is a ctid, which no row is without.
        unsafe {
            let (values, nulls) = values(slot);
            let (key, row) = self.hashing.hash(values, nulls);
            let place = values[values.len() - 1].cast_mut_ptr::<pg_sys::ItemPointerData>();
            let block =
                u32::from((*place).ip_blkid.bi_hi) << 16 | u32::from((*place).ip_blkid.bi_lo);
            let offset = (*place).ip_posid;
            self.prints.push(Fingerprint { key, row, block, offset, is_matched: false });
        }
        true
    }
}

struct ProbeReceiver<'a> {
    batch: Batch,
    deciding: MatchSink<'a>,
}

impl Receive for ProbeReceiver<'_> {
    unsafe fn receive(&mut self, slot: *mut pg_sys::TupleTableSlot) -> bool {
        // SAFETY: the slot's row has the columns of the descriptor, the key in the second.
        unsafe {
            let (values, nulls) = values(slot);
            if nulls[1] {
                self.deciding.compared.invalid += 1;
                return true;
            }
            let hashes = self.deciding.prints.hashing.hash(&values[1..], &nulls[1..]);
            if self.batch.take(hashes, values, nulls) {
                return true;
            }
            self.flush_batch();
            if !self.batch.take(hashes, values, nulls) {
                self.deciding.decide(hashes, values, nulls);
            }
        }
        true
    }
}

impl ProbeReceiver<'_> {
    /// Compares the rows of the batch with the members.
    ///
    /// SAFETY: as for `Receive::receive`.
    unsafe fn flush_batch(&mut self) {
        let Self { batch, deciding } = self;
        // A member's bucket is hardly ever in a cache. All buckets of the batch are read here
        // first, so that the processor waits for them at the same time.
        let touched = batch
            .rows
            .iter()
            .fold(0, |sum: u64, &(key, _)| sum.wrapping_add(deciding.prints.bucket_start(key)));
        std::hint::black_box(touched);
        let width = batch.columns.len();
        let values = batch.values.chunks_exact_mut(width);
        let rows = values.zip(batch.nulls.chunks_exact_mut(width));
        for (hashes, (values, nulls)) in batch.rows.iter().zip(rows) {
            // SAFETY: the batch keeps what its values point to.
            unsafe { deciding.decide(*hashes, values, nulls) };
        }
        batch.clear();
    }
}

/// The destination of received rows whose hashes are known.
struct MatchSink<'a> {
    prints: &'a mut FingerprintIndex,
    added: *mut pg_sys::Tuplestorestate,
    met: *mut pg_sys::Tuplestorestate,
    desc: pg_sys::TupleDesc,
    changed: u8,
    /// The hashes of the keys of added rows, as long as there is room for them.
    new_keys: Vec<u64>,
    room: usize,
    compared: MatchStats,
}

impl MatchSink<'_> {
    /// SAFETY: as for `Receive::receive`; the values are those of the descriptor's columns.
    unsafe fn decide(
        &mut self,
        (key, row): (u64, u64),
        values: &mut [pg_sys::Datum],
        nulls: &mut [bool],
    ) {
        match self.prints.probe(key, row) {
            Probe::Unchanged => self.compared.unchanged += 1,
            Probe::Duplicate => self.compared.duplicate_key = true,
            Probe::Changed(print) => {
                self.compared.changed += 1;
                // SAFETY: as promised.
                unsafe { print.put(self.met, self.desc, self.changed, values, nulls) };
            }
            Probe::Miss => {
                self.compared.added += 1;
                if self.new_keys.len() < self.room && self.new_keys.try_reserve(1).is_ok() {
                    self.new_keys.push(key);
                }
                let (values, nulls) = (values.as_ptr(), nulls.as_ptr());
                // SAFETY: as promised; the store copies the row.
                unsafe { raw::tuplestore_putvalues(self.added, self.desc, values, nulls) };
            }
        }
    }
}
