//! A query's result as a relation that the next statements read by name: rows in a tuplestore,
//! which spills to disk, registered with SPI as an ephemeral named relation.

use std::ffi::{CStr, c_int, c_void};

use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;

use super::statement::Prepared;
use crate::error::Result;

unsafe extern "C-unwind" {
    // Not among pgrx's bindings.
    fn SetTuplestoreDestReceiverParams(
        receiver: *mut pg_sys::DestReceiver,
        store: *mut pg_sys::Tuplestorestate,
        context: pg_sys::MemoryContext,
        detoast: bool,
        target: pg_sys::TupleDesc,
        map_failure: *const std::ffi::c_char,
    );
}

/// Rows counted by their first column, a non-null `"char"`.
pub struct Tally([u64; 256]);

impl Tally {
    pub fn of(&self, operation: u8) -> u64 {
        self.0[operation as usize]
    }
}

/// A named relation of the current SPI connection. It must be dropped before the connection ends,
/// and made in the (sub)transaction in which it is dropped, since that owns its files.
pub struct Relation {
    store: *mut pg_sys::Tuplestorestate,
    name: &'static CStr,
}

impl Relation {
    /// Makes a relation that is to be filled.
    pub fn new(name: &'static CStr) -> Self {
        // SAFETY: the store lives in SPI's memory and is ended in `drop`. Random access lets
        // every reader rewind.
        let store = unsafe { pg_sys::tuplestore_begin_heap(true, false, pg_sys::work_mem) };
        Self { store, name }
    }

    /// How many rows it keeps.
    pub fn rows(&self) -> u64 {
        // SAFETY: the store is live.
        unsafe { pg_sys::tuplestore_tuple_count(self.store) as u64 }
    }

    /// Runs a query as the active snapshot sees the database and keeps all its rows.
    pub fn keep(&self, sql: &str, args: &[DatumWithOid<'_>]) -> Result<()> {
        let query = Prepared::new(sql, args)?;
        query.execute(args, self.receiver())?;
        self.register(&query);
        Ok(())
    }

    /// The same for a query whose first column is a `"char"`: rows are counted by it, and those
    /// where it is one of `skipped` are counted only.
    pub fn keep_tallied(
        &self,
        sql: &str,
        args: &[DatumWithOid<'_>],
        skipped: &[u8],
    ) -> Result<Tally> {
        let query = Prepared::new(sql, args)?;
        let mut tallying = Tallying {
            receiver: pg_sys::DestReceiver {
                receiveSlot: Some(tally_slot),
                rStartup: Some(tally_startup),
                rShutdown: Some(tally_shutdown),
                rDestroy: Some(tally_destroy),
                mydest: pg_sys::CommandDest::DestTuplestore,
            },
            inner: self.receiver(),
            is_skipped: std::array::from_fn(|letter| skipped.contains(&(letter as u8))),
            tally: Tally([0; 256]),
        };
        query.execute(args, (&raw mut tallying).cast())?;
        self.register(&query);
        Ok(tallying.tally)
    }

    fn receiver(&self) -> *mut pg_sys::DestReceiver {
        // SAFETY: the receiver writes to our store and lives in SPI's memory, as the store does.
        unsafe {
            let receiver = pg_sys::CreateDestReceiver(pg_sys::CommandDest::DestTuplestore);
            SetTuplestoreDestReceiverParams(
                receiver,
                self.store,
                pg_sys::CurrentMemoryContext,
                false,
                std::ptr::null_mut(),
                std::ptr::null(),
            );
            receiver
        }
    }

    fn register(&self, query: &Prepared) {
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
        // While an error unwinds, the abort frees files and memory: ending the store might raise.
        if !std::thread::panicking() {
            // SAFETY: nobody reads it any more, since its name goes first.
            unsafe {
                pg_sys::SPI_unregister_relation(self.name.as_ptr());
                pg_sys::tuplestore_end(self.store);
            }
        }
    }
}

/// A receiver in front of another one. The first field is what PostgreSQL sees.
#[repr(C)]
struct Tallying {
    receiver: pg_sys::DestReceiver,
    inner: *mut pg_sys::DestReceiver,
    is_skipped: [bool; 256],
    tally: Tally,
}

// The four callbacks have nothing to drop, so that an error may jump over them. They call the
// inner receiver directly: pgrx's guard would cost more than the work.

unsafe extern "C-unwind" fn tally_slot(
    slot: *mut pg_sys::TupleTableSlot,
    receiver: *mut pg_sys::DestReceiver,
) -> bool {
    // SAFETY: PostgreSQL hands back the receiver it was given, with a live slot whose first
    // column is a by-value "char" that is never null.
    unsafe {
        let this = receiver.cast::<Tallying>();
        if (*slot).tts_nvalid < 1 {
            pg_sys::slot_getsomeattrs_int(slot, 1);
        }
        let operation = (*(*slot).tts_values).value() as u8 as usize;
        (*this).tally.0[operation] += 1;
        if (*this).is_skipped[operation] {
            return true;
        }
        match (*(*this).inner).receiveSlot {
            Some(receive) => receive(slot, (*this).inner),
            None => true,
        }
    }
}

unsafe extern "C-unwind" fn tally_startup(
    receiver: *mut pg_sys::DestReceiver,
    operation: c_int,
    desc: pg_sys::TupleDesc,
) {
    // SAFETY: as in `tally_slot`.
    unsafe {
        let inner = (*receiver.cast::<Tallying>()).inner;
        if let Some(startup) = (*inner).rStartup {
            startup(inner, operation, desc);
        }
    }
}

unsafe extern "C-unwind" fn tally_shutdown(receiver: *mut pg_sys::DestReceiver) {
    // SAFETY: as in `tally_slot`.
    unsafe {
        let inner = (*receiver.cast::<Tallying>()).inner;
        if let Some(shutdown) = (*inner).rShutdown {
            shutdown(inner);
        }
    }
}

unsafe extern "C-unwind" fn tally_destroy(_: *mut pg_sys::DestReceiver) {}
