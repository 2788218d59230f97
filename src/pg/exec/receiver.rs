//! Receives a query's rows from the executor, one by one.

use std::ffi::c_int;

use pgrx::prelude::*;

/// Receives the rows of a query.
pub(in crate::pg) trait Receive {
    /// Receives one row; false ends the query.
    ///
    /// # Safety
    ///
    /// The executor calls it with a live slot. PostgreSQL's errors may jump over it, and it must
    /// not panic: nothing on its own stack may have to be dropped.
    unsafe fn receive(&mut self, slot: *mut pg_sys::TupleTableSlot) -> bool;
}

/// A destination of a query's rows. PostgreSQL accesses only the first field.
#[repr(C)]
pub(in crate::pg) struct Receiver<R> {
    receiver: pg_sys::DestReceiver,
    pub inner: R,
}

impl<R: Receive> Receiver<R> {
    pub fn new(inner: R) -> Self {
        let receiver = pg_sys::DestReceiver {
            receiveSlot: Some(receive::<R>),
            rStartup: Some(startup),
            rShutdown: Some(nothing),
            rDestroy: Some(nothing),
            mydest: pg_sys::CommandDest::DestTuplestore,
        };
        Self { receiver, inner }
    }

    /// A pointer for the executor, valid as long as the receiver.
    pub fn as_mut_ptr(&mut self) -> *mut pg_sys::DestReceiver {
        (&raw mut *self).cast()
    }
}

unsafe extern "C-unwind" fn receive<R: Receive>(
    slot: *mut pg_sys::TupleTableSlot,
    receiver: *mut pg_sys::DestReceiver,
) -> bool {
    // SAFETY: PostgreSQL hands back the receiver it was given.
    unsafe { (*receiver.cast::<Receiver<R>>()).inner.receive(slot) }
}

unsafe extern "C-unwind" fn startup(_: *mut pg_sys::DestReceiver, _: c_int, _: pg_sys::TupleDesc) {}

unsafe extern "C-unwind" fn nothing(_: *mut pg_sys::DestReceiver) {}

/// Runs code of a receiver after the executor has ended. PostgreSQL's errors unwind from here.
///
/// # Safety
///
/// As for [`Receive::receive`].
pub(in crate::pg) unsafe fn with_error_guard<T>(body: impl FnOnce() -> T) -> T {
    // SAFETY: nothing in `body` has to be dropped.
    unsafe { pg_sys::ffi::pg_guard_ffi_boundary(body) }
}

/// The values of a row, in the slot's own arrays.
///
/// # Safety
///
/// As for [`Receive::receive`]; they live as long as the slot keeps its row.
pub(in crate::pg) unsafe fn values<'a>(
    slot: *mut pg_sys::TupleTableSlot,
) -> (&'a mut [pg_sys::Datum], &'a mut [bool]) {
    // SAFETY: once a slot is deformed, both arrays have a place for every column.
    unsafe {
        let columns = (*(*slot).tts_tupleDescriptor).natts;
        if c_int::from((*slot).tts_nvalid) < columns {
            raw::slot_getsomeattrs_int(slot, columns);
        }
        (
            std::slice::from_raw_parts_mut((*slot).tts_values, columns as usize),
            std::slice::from_raw_parts_mut((*slot).tts_isnull, columns as usize),
        )
    }
}

/// Calls `look` with the bytes of a value of variable length.
///
/// # Safety
///
/// As for [`Receive::receive`]; the value has such a type, and is not null.
pub(in crate::pg) unsafe fn with_bytes<T>(
    value: pg_sys::Datum,
    look: impl FnOnce(&[u8]) -> T,
) -> T {
    let given = value.cast_mut_ptr::<pg_sys::varlena>();
    // SAFETY: as promised; what had to be fetched or unpacked is a copy, freed at once.
    unsafe {
        if !pgrx::varatt_is_1b_e(given) && !pgrx::varatt_is_4b_c(given) {
            return look(pgrx::varlena_to_byte_slice(given));
        }
        let copy = raw::pg_detoast_datum_packed(given);
        let result = look(pgrx::varlena_to_byte_slice(copy));
        raw::pfree(copy.cast());
        result
    }
}

/// C functions that are called for every row, without pgrx's guard, which would cost more than the
/// functions themselves. Callers must run inside `pg_guard_ffi_boundary` (below the executor, or in
/// [`with_error_guard`]), and no caller below it may own values with destructors.
pub(in crate::pg) mod raw {
    use pgrx::prelude::*;

    unsafe extern "C-unwind" {
        pub fn slot_getsomeattrs_int(slot: *mut pg_sys::TupleTableSlot, columns: i32);
        pub fn tuplestore_gettupleslot(
            store: *mut pg_sys::Tuplestorestate,
            forward: bool,
            copy: bool,
            slot: *mut pg_sys::TupleTableSlot,
        ) -> bool;
        pub fn tuplestore_puttupleslot(
            store: *mut pg_sys::Tuplestorestate,
            slot: *mut pg_sys::TupleTableSlot,
        );
        pub fn tuplestore_putvalues(
            store: *mut pg_sys::Tuplestorestate,
            desc: pg_sys::TupleDesc,
            values: *const pg_sys::Datum,
            nulls: *const bool,
        );
        pub fn pg_detoast_datum_packed(value: *mut pg_sys::varlena) -> *mut pg_sys::varlena;
        pub fn pfree(pointer: *mut std::ffi::c_void);
    }
}
