//! Keeps a query's result as a relation that later statements read by name. The rows are in a
//! tuplestore, which spills to disk and is registered with SPI as an ephemeral named relation.

use std::cell::Cell;
use std::ffi::{CStr, c_void};
use std::rc::Rc;

use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;

use crate::error::Result;
use crate::pg::exec::memory::new_context_in;
use crate::pg::exec::receiver::{Receive, Received, Receiver, Row, raw, with_error_guard};
use crate::pg::exec::statement::Prepared;

/// Numbers of rows by their first column, a non-null `"char"`.
pub struct ByteHistogram([u64; 256]);

impl ByteHistogram {
    pub fn of(&self, operation: u8) -> u64 {
        self.0[operation as usize]
    }
}

/// A relation that statements of the current SPI connection read by its name. Drop it in the
/// connection in which it was filled: that removes the name.
///
/// Its rows are in a memory context of their own, which ends with the SPI connection if `drop` does
/// not end it before, and its files belong to the (sub)transaction. A relation that outlives its
/// rows is known to have lost them: using it raises an error.
pub struct Relation {
    rows: Rc<Rows>,
    name: &'static CStr,
    /// Another relation has the name now.
    is_replaced: Cell<bool>,
}

/// The tuplestore of a relation, and the memory context that it is in; both null at its end.
struct Rows {
    store: Cell<*mut pg_sys::Tuplestorestate>,
    memory: Cell<pg_sys::MemoryContext>,
    /// The columns of the rows, in this memory; null: not known yet.
    columns: Cell<pg_sys::TupleDesc>,
}

/// A (sub)transaction, for relations that are made within one of its own subtransactions and outlive that: their
/// rows end with the (sub)transaction.
#[derive(Clone, Copy)]
pub struct Place {
    memory: pg_sys::MemoryContext,
    owner: pg_sys::ResourceOwner,
    subtransaction: pg_sys::SubTransactionId,
}

impl Place {
    /// The current (sub)transaction.
    pub fn current() -> Self {
        // SAFETY: variables of this process's only thread, and the number of the current subtransaction.
        unsafe {
            Self {
                memory: pg_sys::CurTransactionContext,
                owner: pg_sys::CurTransactionResourceOwner,
                subtransaction: pg_sys::GetCurrentSubTransactionId(),
            }
        }
    }
}

/// The memory that the rows of a relation have as a rule, in kB.
pub fn usual_memory() -> i32 {
    // SAFETY: a variable of this process's only thread.
    unsafe { pg_sys::work_mem }
}

impl Relation {
    /// Makes an empty relation.
    pub fn new(name: &'static CStr) -> Self {
        // SAFETY: what is current is live.
        unsafe {
            let place = (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner);
            Self::begin(place, name, usual_memory())
        }
    }

    /// Makes an empty relation in a (sub)transaction that is going on. Its rows go to disk beyond this memory, in kB.
    pub fn at(place: Place, name: &'static CStr, memory: i32) -> Self {
        // SAFETY: memory and owner are those of a transaction that is going on, which is checked.
        unsafe {
            if !pg_sys::SubTransactionIsActive(place.subtransaction) {
                ereport!(
                    ERROR,
                    PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
                    format!("the transaction of {name:?} has ended")
                );
            }
            Self::begin((place.memory, place.owner), name, memory)
        }
    }

    /// Makes an empty relation.
    ///
    /// # Safety
    ///
    /// The memory context and the resource owner are live, and end together.
    unsafe fn begin(
        (memory, owner): (pg_sys::MemoryContext, pg_sys::ResourceOwner),
        name: &'static CStr,
        kilobytes: i32,
    ) -> Self {
        // SAFETY: the place is live, as the caller promises. The callback and its argument are in the new
        // context and in a reference that belongs to it: both live until the callback is called, once.
        // Random access lets every reader rewind.
        let rows = unsafe {
            let context = new_context_in(memory, c"segmenter relation");
            let outer = pg_sys::MemoryContextSwitchTo(context);
            let current = pg_sys::CurrentResourceOwner;
            pg_sys::CurrentResourceOwner = owner;
            let store = pg_sys::tuplestore_begin_heap(true, false, kilobytes);
            pg_sys::CurrentResourceOwner = current;
            let callback = pg_sys::palloc(size_of::<pg_sys::MemoryContextCallback>())
                .cast::<pg_sys::MemoryContextCallback>();
            pg_sys::MemoryContextSwitchTo(outer);
            let rows = Rc::new(Rows {
                store: Cell::new(store),
                memory: Cell::new(context),
                columns: Cell::new(std::ptr::null_mut()),
            });
            callback.write(pg_sys::MemoryContextCallback {
                func: Some(forget_rows),
                arg: Rc::into_raw(Rc::clone(&rows)).cast_mut().cast(),
                next: std::ptr::null_mut(),
            });
            pg_sys::MemoryContextRegisterResetCallback(context, callback);
            rows
        };
        Self { rows, name, is_replaced: Cell::new(false) }
    }

    /// The number of its rows.
    pub fn rows(&self) -> u64 {
        // SAFETY: the store is live.
        unsafe { pg_sys::tuplestore_tuple_count(self.store()) as u64 }
    }

    /// The tuplestore with its rows, which is live.
    pub(in crate::pg) fn store(&self) -> *mut pg_sys::Tuplestorestate {
        let store = self.rows.store.get();
        if store.is_null() {
            ereport!(
                ERROR,
                PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
                format!("the rows of {:?} have ended with their SPI connection", self.name)
            );
        }
        store
    }

    /// Ends the relation, whose name another one has been given since.
    pub fn give_up_name(self) {
        self.is_replaced.set(true);
    }

    /// Removes all rows.
    pub fn clear(&self) {
        // SAFETY: the store is live, and no query that reads it is running: queries run to their
        // end.
        unsafe { pg_sys::tuplestore_clear(self.store()) };
    }

    /// Gives the relation the columns of a query, which is not executed.
    pub fn take_columns(&self, sql: &str, args: &[DatumWithOid<'_>]) -> Result<()> {
        self.register(&Prepared::new(sql, args)?);
        Ok(())
    }

    /// Gives the relation the columns of an analysed query, whose rows it is to have a part of.
    pub(in crate::pg) fn take_columns_from(&self, query: &Prepared) {
        let memory = self.rows.memory.get();
        // SAFETY: the memory is as live as the store.
        unsafe {
            let outer = pg_sys::MemoryContextSwitchTo(memory);
            self.rows.columns.set(query.result_desc());
            pg_sys::MemoryContextSwitchTo(outer);
        }
    }

    /// Runs a query with the active snapshot and appends its rows.
    pub fn append(&self, sql: &str, args: &[DatumWithOid<'_>]) -> Result<()> {
        let query = Prepared::new(sql, args)?;
        let mut keeping = Receiver::new(StoreReceiver { store: self.store() });
        query.execute(args, keeping.destination())?;
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
        let mut counting = Receiver::new(self.counting(skipped));
        query.execute(args, counting.destination())?;
        self.register(&query);
        Ok(counting.inner.histogram)
    }

    /// A receiver that appends rows as [`Self::append_counted`] does.
    pub(in crate::pg) fn counting(&self, skipped: &[u8]) -> HistogramReceiver {
        let is_skipped = std::array::from_fn(|letter| skipped.contains(&(letter as u8)));
        let histogram = ByteHistogram([0; 256]);
        HistogramReceiver { store: self.store(), is_skipped, histogram }
    }

    /// Makes the relation readable by its name, with the columns of a query.
    pub(in crate::pg) fn register(&self, query: &Prepared) {
        self.take_columns_from(query);
        self.publish();
    }

    /// Makes the relation, which has its columns, readable by its name in the current SPI connection, which is
    /// another one than that it was filled in.
    pub fn publish(&self) {
        // SAFETY: what is registered is in the memory of the SPI connection, in that of the store, or
        // static; the store is live until `drop`, which removes the name. Of one of the same name that
        // an error has left behind only the name is left.
        unsafe {
            pg_sys::SPI_unregister_relation(self.name.as_ptr());
            let relation = pgrx::PgMemoryContexts::CurrentMemoryContext
                .palloc0_struct::<pg_sys::EphemeralNamedRelationData>();
            (*relation).md.name = self.name.as_ptr().cast_mut();
            (*relation).md.reliddesc = pg_sys::InvalidOid;
            (*relation).md.tupdesc = self.rows.columns.get();
            (*relation).md.enrtype = pg_sys::EphemeralNameRelationType::ENR_NAMED_TUPLESTORE;
            (*relation).md.enrtuples = pg_sys::tuplestore_tuple_count(self.store()) as f64;
            (*relation).reldata = self.store().cast::<c_void>();
            pg_sys::SPI_register_relation(relation);
        }
    }
}

impl Relation {
    /// Statements of the current SPI connection read it by its name no more.
    pub fn withdraw(&self) {
        // SAFETY: it looks the name up in the connection, and forgets it if it is there.
        unsafe { pg_sys::SPI_unregister_relation(self.name.as_ptr()) };
    }

    /// Gives the relation the columns of another one, whose rows it is to have a part of.
    pub fn take_columns_of(&self, other: &Relation) {
        let memory = self.rows.memory.get();
        // SAFETY: both memories are live, and so is the descriptor in the other one.
        unsafe {
            let outer = pg_sys::MemoryContextSwitchTo(memory);
            let columns = other.rows.columns.get();
            if !columns.is_null() {
                self.rows.columns.set(pg_sys::CreateTupleDescCopy(columns));
            }
            pg_sys::MemoryContextSwitchTo(outer);
        }
    }
}

impl Drop for Relation {
    fn drop(&mut self) {
        let (store, memory) = (self.rows.store.get(), self.rows.memory.get());
        // While an error unwinds, the abort frees files and memory; ending the store could raise an
        // error.
        if std::thread::panicking() || store.is_null() {
            return;
        }
        // SAFETY: the store and its context are live: their end would have made them null. Nothing
        // reads the store any more, because its name is removed first. Deleting the context calls
        // the callback.
        unsafe {
            if !self.is_replaced.get() {
                pg_sys::SPI_unregister_relation(self.name.as_ptr());
            }
            pg_sys::tuplestore_end(store);
            pg_sys::MemoryContextDelete(memory);
        }
    }
}

/// PostgreSQL calls this when the memory context of a relation's rows ends.
///
/// # Safety
///
/// Only as the callback that [`Relation::new`] registers, which is called once.
unsafe extern "C-unwind" fn forget_rows(rows: *mut c_void) {
    // SAFETY: the pointer is the reference that `new` gave to the context. What follows cannot
    // panic.
    let rows = unsafe { Rc::from_raw(rows.cast::<Rows>().cast_const()) };
    rows.store.set(std::ptr::null_mut());
    rows.memory.set(std::ptr::null_mut());
}

/// Appends copies of rows to a tuplestore.
///
/// # Safety
///
/// The store and the descriptor are live. Each row has a value for each column of the descriptor, of
/// its type and live.
#[expect(ffi_unwind_calls, reason = "within a guard, for all rows")]
pub(in crate::pg) unsafe fn append_rows(
    store: *mut pg_sys::Tuplestorestate,
    desc: pg_sys::TupleDesc,
    rows: &[Row<'_>],
) {
    // SAFETY: as the caller promises; the arrays are only read. The loop owns nothing and cannot
    // panic.
    unsafe {
        with_error_guard(|| {
            for row in rows {
                raw::tuplestore_putvalues(store, desc, row.values.as_ptr(), row.nulls.as_ptr());
            }
        });
    }
}

/// Appends rows to a tuplestore, which is live.
pub(in crate::pg) struct StoreReceiver {
    pub store: *mut pg_sys::Tuplestorestate,
}

impl Receive for StoreReceiver {
    unsafe fn receive(&mut self, _: Row<'_>) -> Received {
        Received::Keep(self.store)
    }
}

/// Counts rows by their first column, a `"char"`, and appends those that are not skipped.
pub(in crate::pg) struct HistogramReceiver {
    store: *mut pg_sys::Tuplestorestate,
    is_skipped: [bool; 256],
    pub(in crate::pg) histogram: ByteHistogram,
}

impl HistogramReceiver {
    /// Counts a row. Returns its first column too.
    ///
    /// # Safety
    ///
    /// The first column of the row is a `"char"` that is not null.
    pub(in crate::pg) unsafe fn count(&mut self, row: Row<'_>) -> (u8, Received) {
        let operation = row.values[0].value() as u8;
        let place = operation as usize;
        self.histogram.0[place] += 1;
        let received =
            if self.is_skipped[place] { Received::Done } else { Received::Keep(self.store) };
        (operation, received)
    }
}

impl Receive for HistogramReceiver {
    unsafe fn receive(&mut self, row: Row<'_>) -> Received {
        // SAFETY: the row has the columns that `append_counted` requires of its query.
        unsafe { self.count(row).1 }
    }
}
