//! Members told from what is received by fingerprints: 128 bits for each member, in memory, in
//! place of a join that moves and compares whole rows. Reading both sides then costs more than
//! comparing them.
//!
//! A fingerprint has two hashes, of the key and of the whole row, under seeds that are new each
//! time. Rows whose hashes are both the same are taken to be the same; of two that differ nobody
//! will ever see that. Everything else is looked at as it is: whoever left, came or changed goes
//! into a relation with the place of the old row, and hashes of different keys that happen to
//! collide come out there.

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

/// The fingerprint of a member, and where its row is.
struct Fingerprint {
    key: u64,
    row: u64,
    block: u32,
    offset: u16,
    is_matched: bool,
}

impl Fingerprint {
    /// Puts a row about this member into a relation of those who left or changed.
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

/// The fingerprints of a segment's members, in the order of their keys' hashes.
pub struct FingerprintIndex {
    hashing: Hashing,
    prints: Vec<Fingerprint>,
    /// Where those begin that have the same first bits.
    starts: Vec<u32>,
    shift: u32,
}

/// What became of the rows received.
#[derive(Default)]
pub struct MatchStats {
    pub added: u64,
    pub changed: u64,
    pub unchanged: u64,
    pub invalid: u64,
    /// A key of a member, or at least its hash, was received more than once.
    pub duplicate_key: bool,
    /// The same of a key that is no member's; none where there was no memory to tell.
    pub duplicate_new_key: Option<bool>,
}

/// So many bytes fingerprints may take.
fn memory() -> usize {
    // SAFETY: reads a setting, in kB.
    unsafe { pg_sys::maintenance_work_mem as usize * 1024 }
}

impl FingerprintIndex {
    /// Takes the fingerprints of the members that a query gives: the key, values, and the row's
    /// `ctid`. None: they are too many for the memory there is.
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

        // Four to a start, about.
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

    /// How many members there are.
    pub fn count(&self) -> u64 {
        self.prints.len() as u64
    }

    /// Compares what a query gives: the operation, the key, values as the members have them, more
    /// columns, and a null place of the type `tid`. Rows that are new go to `added`; those that
    /// differ from a member's to `met`, changed and with its place; what is unchanged or has no key
    /// is counted only. Members that were not received follow in `met`, removed.
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

    /// The hash of some key that is kept where this one would be.
    fn bucket_start(&self, key: u64) -> u64 {
        let start = self.starts.get((key >> self.shift) as usize);
        let print = start.and_then(|&start| self.prints.get(start as usize));
        print.map_or(0, |print| print.key)
    }

    /// Finds the member whom a row is about, who is thereby met.
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
    /// One who has been met before.
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
    /// Decides about the rows of the batch.
    ///
    /// SAFETY: as for `Receive::receive`.
    unsafe fn flush_batch(&mut self) {
        let Self { batch, deciding } = self;
        // Where a member is, is hardly ever in a cache. The processor waits for many such places
        // at once, unless there is something to decide in between.
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

/// What there is to do with rows whose hashes are known.
struct MatchSink<'a> {
    prints: &'a mut FingerprintIndex,
    added: *mut pg_sys::Tuplestorestate,
    met: *mut pg_sys::Tuplestorestate,
    desc: pg_sys::TupleDesc,
    changed: u8,
    /// The hashes of the keys of those who are added, as long as there is room for them.
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
