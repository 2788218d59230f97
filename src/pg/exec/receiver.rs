//! Receives a query's rows from the executor, one by one.
//!
//! The executor calls [`receive`] for each row, between C functions. Three rules keep this sound:
//!
//! - An error of PostgreSQL jumps over the Rust frames between it and the next guard. They must own
//!   nothing that has a destructor. So the functions in [`raw`], which have no guard, are called
//!   only in frames that own nothing.
//! - A panic must not leave Rust. So [`Receive::receive`] runs in a guard, which makes an error of
//!   PostgreSQL of it. What it calls in C is guarded, too (`pg_sys::…`).
//! - A guard for C functions costs about as much as the shortest of them. So those that are needed
//!   for every row are called by [`receive`] itself, without one.

use std::ffi::c_int;
use std::marker::PhantomData;

use pgrx::prelude::*;

/// What happens to a received row.
pub(in crate::pg) enum Received {
    /// Nothing more: the receiver has taken from it what it needs.
    Done,
    /// It is appended to this tuplestore, which must be live.
    Keep(*mut pg_sys::Tuplestorestate),
    /// The query ends.
    Stop,
}

/// Receives the rows of a query.
pub(in crate::pg) trait Receive {
    /// Receives one row. It may panic, and call functions of PostgreSQL that raise errors.
    ///
    /// # Safety
    ///
    /// The row has the columns of the query that the receiver was made for.
    unsafe fn receive(&mut self, row: Row<'_>) -> Received;
}

/// The columns of a row, in the arrays of the executor's slot.
#[derive(Clone, Copy)]
pub(in crate::pg) struct Row<'a> {
    pub values: &'a [pg_sys::Datum],
    pub nulls: &'a [bool],
}

/// A destination of a query's rows. PostgreSQL accesses only the first field.
#[repr(C)]
pub(in crate::pg) struct Receiver<R> {
    receiver: pg_sys::DestReceiver,
    pub inner: R,
}

/// A receiver that a query may use as long as it is borrowed.
pub(in crate::pg) struct Destination<'a> {
    receiver: *mut pg_sys::DestReceiver,
    borrowed: PhantomData<&'a mut pg_sys::DestReceiver>,
}

impl<'a> Destination<'a> {
    /// SPI's own table, for a result of a few rows.
    pub fn spi() -> Self {
        Self { receiver: std::ptr::null_mut(), borrowed: PhantomData }
    }

    /// The pointer for the executor. It must not be used after `self` has been dropped.
    pub fn as_mut_ptr(&mut self) -> *mut pg_sys::DestReceiver {
        self.receiver
    }
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

    /// The receiver as the destination of a query.
    pub fn destination(&mut self) -> Destination<'_> {
        Destination { receiver: (&raw mut *self).cast(), borrowed: PhantomData }
    }
}

/// Receives a row from the executor.
///
/// This frame owns nothing, and neither does the executor's: the errors of the unguarded functions
/// jump over both to the guard around the query.
///
/// # Safety
///
/// `receiver` is a live [`Receiver<R>`], and `slot` holds a row of its query.
#[expect(ffi_unwind_calls, reason = "this frame owns nothing")]
unsafe extern "C-unwind" fn receive<R: Receive>(
    slot: *mut pg_sys::TupleTableSlot,
    receiver: *mut pg_sys::DestReceiver,
) -> bool {
    // SAFETY: PostgreSQL hands back the receiver that it was given in `destination`, where it is
    // borrowed for the query. A deformed slot has a place for every column of its descriptor in both
    // arrays, which nothing changes before the row is handed over. The guard is called where nothing
    // has to be dropped.
    unsafe {
        let columns = (*(*slot).tts_tupleDescriptor).natts;
        if c_int::from((*slot).tts_nvalid) < columns {
            raw::slot_getsomeattrs_int(slot, columns);
        }
        let received = pg_sys::panic::pgrx_extern_c_guard(|| {
            let columns = columns as usize;
            let row = Row {
                values: std::slice::from_raw_parts((*slot).tts_values, columns),
                nulls: std::slice::from_raw_parts((*slot).tts_isnull, columns),
            };
            (*receiver.cast::<Receiver<R>>()).inner.receive(row)
        });
        match received {
            Received::Done => true,
            Received::Keep(store) => {
                raw::tuplestore_puttupleslot(store, slot);
                true
            }
            Received::Stop => false,
        }
    }
}

extern "C-unwind" fn startup(_: *mut pg_sys::DestReceiver, _: c_int, _: pg_sys::TupleDesc) {}

extern "C-unwind" fn nothing(_: *mut pg_sys::DestReceiver) {}

/// Calls `look` with the bytes of a value of variable length.
///
/// # Safety
///
/// The value has a type of variable length (`typlen` is -1), is not null, and is live.
#[inline]
pub(in crate::pg) unsafe fn with_bytes<T>(
    value: pg_sys::Datum,
    look: impl FnOnce(&[u8]) -> T,
) -> T {
    let given = value.cast_mut_ptr::<pg_sys::varlena>();
    // SAFETY: the value is a live varlena, as the caller promises. One that is stored outside of the
    // row or compressed is replaced by a copy in the current memory context, which nothing else
    // refers to when it is freed.
    unsafe {
        let is_stored_otherwise = pgrx::varatt_is_1b_e(given) || pgrx::varatt_is_4b_c(given);
        let plain = if is_stored_otherwise { detoasted(given) } else { given };
        // One call, which becomes part of this function: it is made for every value of every row.
        let result = look(pgrx::varlena_to_byte_slice(plain));
        if is_stored_otherwise {
            pg_sys::pfree(plain.cast());
        }
        result
    }
}

/// # Safety
///
/// The value is live.
#[cold]
unsafe fn detoasted(value: *mut pg_sys::varlena) -> *mut pg_sys::varlena {
    // SAFETY: as the caller promises.
    unsafe { pg_sys::pg_detoast_datum_packed(value) }
}

/// Runs C functions without a guard for each. PostgreSQL's errors unwind from here, as panics.
///
/// # Safety
///
/// `body` owns nothing that has a destructor, does not panic, and calls no guarded function that
/// raises an error (that would be a panic): only the functions of [`raw`], and Rust code that
/// cannot fail. A panic in it ends the server.
pub(in crate::pg) unsafe fn with_error_guard<T>(body: impl FnOnce() -> T) -> T {
    // SAFETY: what the guard requires is what the caller promises.
    unsafe { pg_sys::ffi::pg_guard_ffi_boundary(body) }
}

/// C functions that are called for every row, without pgrx's guard, which would cost more than the
/// functions themselves. They may be called only in frames that own nothing, either directly below
/// the executor or within [`with_error_guard`].
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
        pub fn OutputFunctionCall(
            info: *mut pg_sys::FmgrInfo,
            value: pg_sys::Datum,
        ) -> *mut std::ffi::c_char;
        // Not among pgrx's bindings.
        pub fn find_all_inheritors(
            parent: pg_sys::Oid,
            lock: pg_sys::LOCKMODE,
            parents: *mut *mut pg_sys::List,
        ) -> *mut pg_sys::List;
        pub fn repalloc(pointer: *mut std::ffi::c_void, size: usize) -> *mut std::ffi::c_void;
    }
}
