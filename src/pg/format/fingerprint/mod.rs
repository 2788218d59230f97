//! Compares members with the rows of a query by fingerprints: 128 bits for each member, in memory.
//! This replaces a join that moves and compares whole rows; reading both sides then takes more time
//! than comparing them.
//!
//! A fingerprint has two 64-bit hashes, of the key and of the whole row, with a seed that each segment
//! has for itself: the sums of the hashes are kept, see [`segmenter_core::content`]. Two rows of which both hashes are equal are treated as equal; for a changed
//! row the probability of that error is 2⁻⁶⁴. Rows that were added, removed or changed are written
//! to a relation, with the place (ctid) of the old row. The old rows are fetched later and their
//! keys are compared, which finds different keys whose hashes collide.

use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;

use crate::error::Result;
use crate::pg::bgw::progress::Figure;
use crate::pg::exec::receiver::{Receive, Received, Receiver, Row};
use crate::pg::exec::statement::Prepared;
use crate::pg::exec::tuplestore::{Relation, append_rows};

mod batch;
mod hashing;
mod sum;

use batch::Batch;
pub(in crate::pg) use hashing::Hashing;
use hashing::lengths;
pub use hashing::{hash_text, new_seed};
use segmenter_core::content::Checksum;
pub use sum::{Counts, DeltaColumns, DeltaOperations, DeltaSums, append_delta, sum};

/// The fingerprint of a member, and the place of its row.
struct Fingerprint {
    key: u64,
    row: u64,
    block: u32,
    offset: u16,
    is_matched: bool,
}

impl Fingerprint {
    fn of((key, row): (u64, u64), place: &pg_sys::ItemPointerData) -> Self {
        let block = u32::from(place.ip_blkid.bi_hi) << 16 | u32::from(place.ip_blkid.bi_lo);
        Self { key, row, block, offset: place.ip_posid, is_matched: false }
    }

    /// The place of the member's row.
    fn place(&self) -> pg_sys::ItemPointerData {
        pg_sys::ItemPointerData {
            ip_blkid: pg_sys::BlockIdData {
                bi_hi: (self.block >> 16) as u16,
                bi_lo: self.block as u16,
            },
            ip_posid: self.offset,
        }
    }
}

/// Writes rows about members that were removed or changed into a relation: the operation in the
/// first column and the place of the old row in the last.
struct LocatedWriter {
    store: *mut pg_sys::Tuplestorestate,
    desc: pg_sys::TupleDesc,
    /// The row that is being written. The executor's own must not be changed.
    values: Vec<pg_sys::Datum>,
    nulls: Vec<bool>,
}

impl LocatedWriter {
    /// # Safety
    ///
    /// The store and the descriptor, which has at least two columns, outlive the writer.
    unsafe fn new(store: *mut pg_sys::Tuplestorestate, desc: pg_sys::TupleDesc) -> Self {
        // SAFETY: a descriptor of a query's result is live, as the caller promises.
        let width = unsafe { (*desc).natts } as usize;
        let (values, nulls) = (vec![pg_sys::Datum::null(); width], vec![true; width]);
        Self { store, desc, values, nulls }
    }

    /// Writes a row about a member. `row`: the received row; none: all its columns are null.
    ///
    /// # Safety
    ///
    /// The values of `row` are those of the descriptor's columns, and are live.
    unsafe fn put(&mut self, member: &Fingerprint, operation: u8, row: Option<Row<'_>>) {
        match row {
            Some(row) => {
                self.values.copy_from_slice(row.values);
                self.nulls.copy_from_slice(row.nulls);
            }
            None => self.nulls.fill(true),
        }
        let mut place = member.place();
        let last = self.values.len() - 1;
        (self.values[0], self.nulls[0]) = (operation.into(), false);
        (self.values[last], self.nulls[last]) = ((&raw mut place).into(), false);
        // SAFETY: there is a value for each column of the descriptor, of its type; the store copies
        // the row, also the place.
        unsafe {
            let row = Row { values: &self.values, nulls: &self.nulls };
            append_rows(self.store, self.desc, &[row]);
        }
        self.values[last] = pg_sys::Datum::null();
    }
}

/// The fingerprints of a segment's members, ordered by the hashes of their keys.
pub struct FingerprintIndex {
    hashing: Hashing,
    fingerprints: Vec<Fingerprint>,
    /// For each bucket of hashes that begin with the same bits: the index of its first fingerprint.
    starts: Vec<u32>,
    shift: u32,
    /// The sum of all fingerprints.
    sum: Checksum,
}

/// The result of comparing the received rows.
#[derive(Default)]
pub struct MatchStats {
    pub added: u64,
    pub changed: u64,
    pub unchanged: u64,
    /// Rows without a key.
    pub invalid: u64,
    /// A key was too long, and nothing was compared any further.
    pub has_long_key: bool,
    /// Whether a member's key, or another key with the same hash, was received more than once.
    pub duplicate_key: bool,
    /// The same for keys that no member has; `None` if the memory did not suffice to find out.
    pub duplicate_new_key: Option<bool>,
    /// What the change adds to the sum of the members.
    pub change: Checksum,
}

/// The operations of rows that are not simply added.
#[derive(Clone, Copy)]
pub struct Operations {
    pub changed: u8,
    pub removed: u8,
}

/// The memory limit for fingerprints, in bytes.
fn memory() -> usize {
    // SAFETY: a setting in kB, an integer that only this thread writes.
    unsafe { pg_sys::maintenance_work_mem as usize * 1024 }
}

impl FingerprintIndex {
    /// Builds the index of the members that a query returns: the key, the values, and the row's
    /// `ctid`. `seed` is that of the hashes. `None`: they would exceed the memory limit.
    pub fn take(sql: &str, args: &[DatumWithOid<'_>], seed: u64) -> Result<Option<Self>> {
        let query = Prepared::new(sql, args)?;
        let columns = query.columns();
        let compared = &columns[..columns.len().saturating_sub(1)];
        let hashing = Hashing::new(compared.iter().map(|column| column.type_oid), seed);
        let room = (memory() / (size_of::<Fingerprint>() + 1)).min(u32::MAX as usize);
        let mut taking = Receiver::new(LoadReceiver {
            hashing,
            fingerprints: Vec::new(),
            room,
            is_full: false,
            sum: Checksum::default(),
            before: Figure::before(),
        });
        query.execute(args, taking.destination())?;
        let LoadReceiver { hashing, mut fingerprints, is_full, sum, .. } = taking.inner;
        if is_full {
            return Ok(None);
        }
        fingerprints.sort_unstable_by_key(|fingerprint| fingerprint.key);
        pgrx::check_for_interrupts!();

        // About four fingerprints in a bucket.
        let bits = (fingerprints.len() / 4).max(1).ilog2() + 1;
        let shift = u64::BITS - bits;
        let mut starts = Vec::with_capacity((1 << bits) + 1);
        for (at, fingerprint) in fingerprints.iter().enumerate() {
            let bucket = (fingerprint.key >> shift) as usize;
            starts.resize(starts.len().max(bucket + 1), at as u32);
        }
        starts.resize((1 << bits) + 1, fingerprints.len() as u32);
        Ok(Some(Self { hashing, fingerprints, starts, shift, sum }))
    }

    /// The number of members.
    pub fn count(&self) -> u64 {
        self.fingerprints.len() as u64
    }

    /// The sum of the members' fingerprints.
    pub fn sum(&self) -> Checksum {
        self.sum
    }

    /// Compares the rows that a query without parameters returns: the operation, the key, the values as the members
    /// have them, further columns, and a null place of the type `tid`. New rows are written to
    /// `added`. Rows that differ from the member's are written to `located`, with the operation
    /// `changed` and the member's place. Unchanged rows and rows without a key are only counted.
    /// Members that were not received follow in `located`, with the operation `removed`. A key of more
    /// than `longest` bytes ends it.
    pub fn compare(
        mut self,
        query: &Prepared,
        added: &Relation,
        located: &Relation,
        operations: Operations,
        longest: usize,
    ) -> Result<MatchStats> {
        let desc = query.result_desc();
        let columns = lengths(query.columns().iter().map(|column| column.type_oid));
        let room =
            memory().saturating_sub(self.fingerprints.len() * (size_of::<Fingerprint>() + 1));
        let mut comparing = Receiver::new(ProbeReceiver {
            longest,
            count: 0,
            received: Figure::received(),
            batch: Batch::new(columns),
            deciding: MatchSink {
                fingerprints: &mut self,
                added: added.store(),
                desc,
                operations,
                // SAFETY: both belong to the SPI connection, as the relation and the query do. Our
                // query has the operation, the key and the place at least.
                located: unsafe { LocatedWriter::new(located.store(), desc) },
                new_keys: Vec::new(),
                room: room / size_of::<u64>(),
                compared: MatchStats::default(),
            },
        });
        query.execute(&[], comparing.destination())?;
        comparing.inner.flush_batch();
        let MatchSink { located: mut writer, mut new_keys, mut compared, .. } =
            comparing.inner.deciding;
        if new_keys.len() as u64 == compared.added {
            new_keys.sort_unstable();
            compared.duplicate_new_key = Some(new_keys.windows(2).any(|pair| pair[0] == pair[1]));
        }
        pgrx::check_for_interrupts!();

        self.fingerprints.retain(|fingerprint| !fingerprint.is_matched);
        for fingerprint in &self.fingerprints {
            compared.change.remove((fingerprint.key, fingerprint.row));
            // SAFETY: without a row there are no values.
            unsafe { writer.put(fingerprint, operations.removed, None) };
        }
        added.register(query);
        located.register(query);
        Ok(compared)
    }

    /// The first key hash in the bucket of this one. Reading it brings the bucket into the cache.
    fn bucket_start(&self, key: u64) -> u64 {
        let start = self.starts.get((key >> self.shift) as usize);
        let fingerprint = start.and_then(|&start| self.fingerprints.get(start as usize));
        fingerprint.map_or(0, |fingerprint| fingerprint.key)
    }

    /// Finds the member of a received row, and marks it as matched.
    fn probe(&mut self, key: u64, row: u64) -> Probe<'_> {
        let bucket = (key >> self.shift) as usize;
        let (Some(&from), Some(&to)) = (self.starts.get(bucket), self.starts.get(bucket + 1))
        else {
            return Probe::Miss;
        };
        let Some(bucket) = self.fingerprints.get_mut(from as usize..to as usize) else {
            return Probe::Miss;
        };
        let (mut other, mut is_twice) = (None, false);
        for fingerprint in bucket.iter_mut().filter(|fingerprint| fingerprint.key == key) {
            if fingerprint.is_matched {
                is_twice = true;
            } else if fingerprint.row == row {
                fingerprint.is_matched = true;
                return Probe::Unchanged;
            } else {
                other = Some(fingerprint);
            }
        }
        match other {
            Some(fingerprint) => {
                fingerprint.is_matched = true;
                Probe::Changed(fingerprint)
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
    fingerprints: Vec<Fingerprint>,
    room: usize,
    is_full: bool,
    sum: Checksum,
    before: Figure,
}

impl Receive for LoadReceiver {
    unsafe fn receive(&mut self, row: Row<'_>) -> Received {
        self.is_full =
            self.fingerprints.len() >= self.room || self.fingerprints.try_reserve(1).is_err();
        if self.is_full {
            return Received::Stop;
        }
        let place = row.values[row.values.len() - 1].cast_mut_ptr::<pg_sys::ItemPointerData>();
        // SAFETY: the row has the columns of the query of `take`, the last of which is the ctid that
        // every row has; values live as long as the row.
        unsafe {
            let hashes = self.hashing.hash(row.values, row.nulls);
            self.sum.add(hashes);
            self.fingerprints.push(Fingerprint::of(hashes, &*place));
        }
        self.before.reach(self.fingerprints.len() as u64);
        Received::Done
    }
}

struct ProbeReceiver<'a> {
    longest: usize,
    /// The number of rows.
    count: u64,
    received: Figure,
    batch: Batch,
    deciding: MatchSink<'a>,
}

impl Receive for ProbeReceiver<'_> {
    unsafe fn receive(&mut self, row: Row<'_>) -> Received {
        let Row { values, nulls } = row;
        self.count += 1;
        self.received.reach(self.count);
        if nulls[1] {
            self.deciding.compared.invalid += 1;
            return Received::Done;
        }
        // SAFETY: the row has the columns of the query of `compare`, the key in the second, which is a
        // text and not null, and then the values that the members have; they live as long as the row.
        unsafe {
            if pg_sys::toast_raw_datum_size(values[1]) - pg_sys::VARHDRSZ > self.longest {
                self.deciding.compared.has_long_key = true;
                return Received::Stop;
            }
            let hashes = self.deciding.fingerprints.hashing.hash(&values[1..], &nulls[1..]);
            if self.batch.take(hashes, values, nulls) {
                return Received::Done;
            }
            self.flush_batch();
            if !self.batch.take(hashes, values, nulls) && self.deciding.decide(hashes, row) {
                self.deciding.append_added(&[row]);
            }
        }
        Received::Done
    }
}

impl ProbeReceiver<'_> {
    /// Compares the rows of the batch with the members.
    fn flush_batch(&mut self) {
        let Self { batch, deciding, .. } = self;
        // A member's bucket is hardly ever in a cache. All buckets of the batch are read here
        // first, so that the processor waits for them at the same time.
        let touched = batch.rows.iter().fold(0, |sum: u64, &(key, _)| {
            sum.wrapping_add(deciding.fingerprints.bucket_start(key))
        });
        std::hint::black_box(touched);
        let width = batch.columns.len();
        let values = batch.values.chunks_exact(width);
        let rows = values.zip(batch.nulls.chunks_exact(width));
        let mut added = Vec::new();
        for (hashes, (values, nulls)) in batch.rows.iter().zip(rows) {
            let row = Row { values, nulls };
            // SAFETY: the batch holds rows of the query, and what their values point to.
            if unsafe { deciding.decide(*hashes, row) } {
                added.push(row);
            }
        }
        // SAFETY: as for `decide`.
        unsafe { deciding.append_added(&added) };
        batch.clear();
    }
}

/// The destination of received rows whose hashes are known.
struct MatchSink<'a> {
    fingerprints: &'a mut FingerprintIndex,
    added: *mut pg_sys::Tuplestorestate,
    desc: pg_sys::TupleDesc,
    operations: Operations,
    located: LocatedWriter,
    /// The hashes of the keys of added rows, as long as there is room for them.
    new_keys: Vec<u64>,
    room: usize,
    compared: MatchStats,
}

impl MatchSink<'_> {
    /// Decides what a row is. True: no member has its key, and it is to be appended to the added
    /// rows.
    ///
    /// # Safety
    ///
    /// The values of `row` are those of the descriptor's columns, and are live.
    unsafe fn decide(&mut self, (key, hash): (u64, u64), row: Row<'_>) -> bool {
        match self.fingerprints.probe(key, hash) {
            Probe::Unchanged => self.compared.unchanged += 1,
            Probe::Duplicate => self.compared.duplicate_key = true,
            Probe::Changed(fingerprint) => {
                self.compared.changed += 1;
                self.compared.change.remove((fingerprint.key, fingerprint.row));
                self.compared.change.add((key, hash));
                // SAFETY: as the caller promises.
                unsafe { self.located.put(fingerprint, self.operations.changed, Some(row)) };
            }
            Probe::Miss => {
                self.compared.added += 1;
                self.compared.change.add((key, hash));
                if self.new_keys.len() < self.room && self.new_keys.try_reserve(1).is_ok() {
                    self.new_keys.push(key);
                }
                return true;
            }
        }
        false
    }

    /// Appends rows to the added ones.
    ///
    /// # Safety
    ///
    /// As for [`Self::decide`].
    unsafe fn append_added(&self, rows: &[Row<'_>]) {
        // SAFETY: each row has a value for each column of the descriptor, as the caller promises; the
        // store is live during the query.
        unsafe { append_rows(self.added, self.desc, rows) };
    }
}
