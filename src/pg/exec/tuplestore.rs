//! Keeps a query's result as a relation that later statements read by name. The rows are in a
//! tuplestore, which spills to disk and is registered with SPI as an ephemeral named relation.

use std::ffi::{CStr, c_void};

use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;

use crate::error::Result;
use crate::pg::exec::receiver::{Receive, Receiver, raw, values, with_bytes, with_error_guard};
use crate::pg::exec::statement::Prepared;
use segmenter_core::jsonb::{Array, Value};

/// Numbers of rows by their first column, a non-null `"char"`.
pub struct ByteHistogram([u64; 256]);

impl ByteHistogram {
    pub fn of(&self, operation: u8) -> u64 {
        self.0[operation as usize]
    }
}

/// A named relation of the current SPI connection. It must be dropped before the connection ends,
/// and in the (sub)transaction in which it was made, since that owns its files.
pub struct Relation {
    store: *mut pg_sys::Tuplestorestate,
    name: &'static CStr,
}

impl Relation {
    /// Makes an empty relation.
    pub fn new(name: &'static CStr) -> Self {
        // SAFETY: the store lives in SPI's memory and is ended in `drop`. Random access lets
        // every reader rewind.
        let store = unsafe { pg_sys::tuplestore_begin_heap(true, false, pg_sys::work_mem) };
        Self { store, name }
    }

    /// The number of its rows.
    pub fn rows(&self) -> u64 {
        // SAFETY: the store is live.
        unsafe { pg_sys::tuplestore_tuple_count(self.store) as u64 }
    }

    /// The tuplestore with its rows.
    pub(in crate::pg) fn store(&self) -> *mut pg_sys::Tuplestorestate {
        self.store
    }

    /// Removes all rows.
    pub fn clear(&self) {
        // SAFETY: the store is live.
        unsafe { pg_sys::tuplestore_clear(self.store) };
    }

    /// Runs a query with the active snapshot and appends its rows.
    pub fn append(&self, sql: &str, args: &[DatumWithOid<'_>]) -> Result<()> {
        let query = Prepared::new(sql, args)?;
        let mut keeping = Receiver::new(StoreReceiver { store: self.store });
        query.execute(args, keeping.as_mut_ptr())?;
        self.register(&query);
        Ok(())
    }

    /// The same for a query whose first column is a `"char"`. The rows are counted by it; rows with
    /// one of the values in `skipped` are only counted.
    pub fn append_counted(
        &self,
        sql: &str,
        args: &[DatumWithOid<'_>],
        skipped: &[u8],
    ) -> Result<ByteHistogram> {
        let query = Prepared::new(sql, args)?;
        let is_skipped = std::array::from_fn(|letter| skipped.contains(&(letter as u8)));
        let mut tallying = Receiver::new(HistogramReceiver {
            store: self.store,
            is_skipped,
            tally: ByteHistogram([0; 256]),
        });
        query.execute(args, tallying.as_mut_ptr())?;
        self.register(&query);
        Ok(tallying.inner.tally)
    }

    /// Runs a query and appends its rows as arrays of at most `size` objects. Each new row has the
    /// number of the array (from 1), the number of its objects, and the array as `jsonb`. The
    /// query's columns are the values of `keys`: texts, or values of the type `jsonb`. Returns the
    /// number of objects.
    pub fn append_json(
        &self,
        sql: &str,
        args: &[DatumWithOid<'_>],
        keys: &[&str],
        size: usize,
    ) -> Result<u64> {
        let query = Prepared::new(sql, args)?;
        let arrays = Prepared::new(
            "select 1 as part, 1 as members, '[]'::pg_catalog.jsonb as payload",
            &[],
        )?;
        let mut collecting = Receiver::new(BatchReceiver {
            store: self.store,
            desc: arrays.result_desc(),
            size,
            is_json: query
                .columns()
                .iter()
                .map(|column| column.type_oid == pg_sys::JSONBOID)
                .collect(),
            array: Array::of(keys),
            datum: Vec::new(),
            arrays: 0,
            objects: 0,
            is_full: false,
        });
        query.execute(args, collecting.as_mut_ptr())?;
        let collecting = &mut collecting.inner;
        // SAFETY: what is put away is its own.
        unsafe { with_error_guard(|| collecting.put()) };
        if collecting.is_full {
            ereport!(
                ERROR,
                PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
                format!("{size} members are larger than a jsonb array may be")
            );
        }
        self.register(&arrays);
        Ok(collecting.objects)
    }

    pub(in crate::pg) fn register(&self, query: &Prepared) {
        // SAFETY: everything registered lives in SPI's memory, or for ever. One that an error has
        // left behind is gone with its subtransaction, all but its name.
        unsafe {
            pg_sys::SPI_unregister_relation(self.name.as_ptr());
            let relation = pgrx::PgMemoryContexts::CurrentMemoryContext
                .palloc0_struct::<pg_sys::EphemeralNamedRelationData>();
            (*relation).md.name = self.name.as_ptr().cast_mut();
            (*relation).md.reliddesc = pg_sys::InvalidOid;
            (*relation).md.tupdesc = query.result_desc();
            (*relation).md.enrtype = pg_sys::EphemeralNameRelationType::ENR_NAMED_TUPLESTORE;
            (*relation).md.enrtuples = pg_sys::tuplestore_tuple_count(self.store) as f64;
            (*relation).reldata = self.store.cast::<c_void>();
            pg_sys::SPI_register_relation(relation);
        }
    }
}

impl Drop for Relation {
    fn drop(&mut self) {
        // While an error unwinds, the abort frees files and memory; ending the store could raise an
        // error.
        if !std::thread::panicking() {
            // SAFETY: nothing reads it any more, because its name is removed first.
            unsafe {
                pg_sys::SPI_unregister_relation(self.name.as_ptr());
                pg_sys::tuplestore_end(self.store);
            }
        }
    }
}

struct StoreReceiver {
    store: *mut pg_sys::Tuplestorestate,
}

impl Receive for StoreReceiver {
    unsafe fn receive(&mut self, slot: *mut pg_sys::TupleTableSlot) -> bool {
        // SAFETY: both are live.
        unsafe { raw::tuplestore_puttupleslot(self.store, slot) };
        true
    }
}

struct HistogramReceiver {
    store: *mut pg_sys::Tuplestorestate,
    is_skipped: [bool; 256],
    tally: ByteHistogram,
}

impl Receive for HistogramReceiver {
    unsafe fn receive(&mut self, slot: *mut pg_sys::TupleTableSlot) -> bool {
        // SAFETY: both are live; the first column is a by-value "char" that is never null.
        unsafe {
            let (values, _) = values(slot);
            let operation = values[0].value() as u8 as usize;
            self.tally.0[operation] += 1;
            if !self.is_skipped[operation] {
                raw::tuplestore_puttupleslot(self.store, slot);
            }
        }
        true
    }
}

struct BatchReceiver {
    store: *mut pg_sys::Tuplestorestate,
    desc: pg_sys::TupleDesc,
    size: usize,
    /// For each column: whether it is a `jsonb`; otherwise it is a text.
    is_json: Vec<bool>,
    array: Array,
    /// The buffer for the array as a datum.
    datum: Vec<u8>,
    arrays: i32,
    objects: u64,
    is_full: bool,
}

impl Receive for BatchReceiver {
    unsafe fn receive(&mut self, slot: *mut pg_sys::TupleTableSlot) -> bool {
        self.array.begin();
        // SAFETY: the values have the types of the columns.
        unsafe {
            let (values, nulls) = values(slot);
            for ((value, is_null), is_json) in values.iter().zip(nulls).zip(&self.is_json) {
                match (*is_null, *is_json) {
                    (true, _) => self.array.add(Value::Null),
                    (_, true) => with_bytes(*value, |json| self.array.add(Value::Json(json))),
                    _ => with_bytes(*value, |text| self.array.add(Value::Text(text))),
                }
            }
            self.is_full = !self.array.end();
            self.objects += 1;
            if self.array.len() >= self.size {
                self.put();
            }
        }
        !self.is_full
    }
}

impl BatchReceiver {
    /// Appends the array as a row, unless it is empty.
    ///
    /// SAFETY: as for `Receive::receive`.
    unsafe fn put(&mut self) {
        if self.array.is_empty() || self.is_full {
            return;
        }
        self.datum.clear();
        let size = pg_sys::VARHDRSZ + self.array.size();
        if self.datum.try_reserve(size).is_err() {
            self.is_full = true;
            return;
        }
        self.datum.resize(pg_sys::VARHDRSZ, 0);
        self.array.write(&mut self.datum);
        self.arrays += 1;
        let values = [
            self.arrays.into(),
            (self.array.len() as i32).into(),
            pg_sys::Datum::from(self.datum.as_mut_ptr()),
        ];
        // SAFETY: the datum has room for its length; the store copies the row.
        unsafe {
            pgrx::set_varsize_4b(self.datum.as_mut_ptr().cast(), size as i32);
            raw::tuplestore_putvalues(self.store, self.desc, values.as_ptr(), [false; 3].as_ptr());
        }
        self.array.clear();
    }
}
