//! Reads the ids that a statement has changed from its transition tables, and records them.

use std::cell::RefCell;
use std::ffi::{CStr, CString};

use pgrx::prelude::*;

use crate::pg::exec::memory::new_context_in;
use crate::pg::exec::receiver::{raw, with_error_guard};
use crate::pg::exec::role;

/// The most ids in one row. (The ids of one updated row are not separated: it can be one more.)
const IDS_AT_ONCE: usize = 10_000;

/// The function that a trigger calls.
pub fn trigger_function(trigger: &pg_sys::TriggerData) -> pg_sys::Oid {
    // SAFETY: in the data of a call, PostgreSQL points to the trigger, which it keeps meanwhile.
    unsafe { (*trigger.tg_trigger).tgfoid }
}

/// Records the ids that a statement has written, in the statement's trigger, as rows of the
/// relation `changes`: (source, id_column, xid, ids). A row whose `ids` is null stands for all ids:
/// the table was truncated, or it does not have the column any more.
///
/// `trigger` is the data of a call of a statement trigger, as PostgreSQL hands it over.
pub fn record(trigger: &pg_sys::TriggerData, column: &CStr, changes: pg_sys::Oid) {
    // SAFETY: the call's data are live: the open table with its descriptor, and the transition
    // tables, which are null where the trigger has none. What is opened here is closed at the end,
    // or by the abort.
    unsafe {
        let source = trigger.tg_relation;
        let mut writer = Writer::open(changes, (*source).rd_id, column);
        let number = pg_sys::get_attnum((*source).rd_id, column.as_ptr());
        let is_truncate =
            trigger.tg_event & pg_sys::TRIGGER_EVENT_OPMASK == pg_sys::TRIGGER_EVENT_TRUNCATE;
        if is_truncate || number <= 0 {
            writer.write(true);
        } else {
            let typ = pg_sys::get_atttype((*source).rd_id, number);
            let desc = (*source).rd_att;
            let mut pairs = Pairs::open(trigger, desc, number, typ);
            let mut add_all = || {
                // Only the reading of rows goes without a guard for each function. The frames in it
                // own nothing: an error jumps over them to this guard. The settings level of
                // `with_text_form` is outside.
                while with_error_guard(|| pairs.read(&mut writer)) {
                    writer.write(false);
                }
                writer.write(false);
            };
            if is_plain(typ) {
                add_all()
            } else {
                role::with_text_form(add_all)
            }
            pairs.close();
        }
        writer.close();
    }
}

/// Whether a trigger fires only where replicated changes are applied.
pub fn is_for_replication(trigger: &pg_sys::TriggerData) -> bool {
    // SAFETY: in the data of a call, PostgreSQL points to the trigger, which it keeps meanwhile.
    unsafe { (*trigger.tg_trigger).tgenabled as u8 == pg_sys::TRIGGER_FIRES_ON_REPLICA }
}

thread_local! {
    /// The last table that was marked, its column, and the (sub)transaction of the mark.
    static MARKED: RefCell<Option<(pg_sys::Oid, CString, u32, u32)>> = const { RefCell::new(None) };
}

/// Records that all ids of a table may have changed: once in a (sub)transaction, as long as no other
/// table is marked in between. Runs in a trigger of rows.
pub fn mark_all(trigger: &pg_sys::TriggerData, column: &CStr, changes: pg_sys::Oid) {
    // SAFETY: the call's data are live: the open table. A transaction that writes has an id.
    unsafe {
        let source = (*trigger.tg_relation).rd_id;
        let transaction = u32::from(pg_sys::GetTopTransactionId());
        let mark = (source, column.to_owned(), transaction, pg_sys::GetCurrentSubTransactionId());
        if MARKED.with_borrow(|last| last.as_ref() == Some(&mark)) {
            return;
        }
        let mut writer = Writer::open(changes, source, column);
        writer.write(true);
        writer.close();
        MARKED.set(Some(mark));
    }
}

/// The old and the new rows of a statement, in the same order, and how their ids are read.
struct Pairs {
    old: TransitionScan,
    new: TransitionScan,
    /// The length of the type in `pg_type`, and whether it is passed by value.
    length: i16,
    by_value: bool,
    text: TextOf,
}

impl Pairs {
    /// # Safety
    ///
    /// The transition tables of `trigger` are null or live and have rows of the descriptor, in
    /// which the column `number` exists and has the type `typ`.
    unsafe fn open(
        trigger: &pg_sys::TriggerData,
        desc: pg_sys::TupleDesc,
        number: i16,
        typ: pg_sys::Oid,
    ) -> Self {
        let (mut length, mut by_value) = (0, false);
        // SAFETY: the caller's promises are those that are required; both results are places of
        // their own.
        unsafe {
            pg_sys::get_typlenbyval(typ, &mut length, &mut by_value);
            Self {
                old: TransitionScan::open(trigger.tg_oldtable, desc, number),
                new: TransitionScan::open(trigger.tg_newtable, desc, number),
                length,
                by_value,
                text: TextOf::of(typ),
            }
        }
    }

    /// Reads rows into the writer until it is full. False: there are no more rows.
    ///
    /// # Safety
    ///
    /// As opened. It runs within [`with_error_guard`].
    unsafe fn read(&mut self, writer: &mut Writer) -> bool {
        // SAFETY: both scans are open, and values live until the next row is read. The functions
        // called are unguarded or cannot fail.
        unsafe {
            while !writer.ids.is_full() {
                let (before, after) = (self.old.next(), self.new.next());
                if before.is_none() && after.is_none() {
                    return false;
                }
                let (before, after) = (before.flatten(), after.flatten());
                // Old and new rows come in the same order. Most updates do not change the id, which
                // is then recorded once.
                let is_same = match (before, after) {
                    (Some(before), Some(after)) => {
                        is_same_image(before, after, self.length, self.by_value)
                    }
                    _ => false,
                };
                if let Some(id) = before
                    && !is_same
                {
                    writer.add(id, &self.text);
                }
                if let Some(id) = after {
                    writer.add(id, &self.text);
                }
            }
        }
        true
    }

    /// # Safety
    ///
    /// As opened.
    unsafe fn close(self) {
        // SAFETY: both scans were opened in `open`.
        unsafe {
            self.old.close();
            self.new.close();
        }
    }
}

/// A scan of a transition table, which may be absent.
struct TransitionScan {
    store: *mut pg_sys::Tuplestorestate,
    slot: *mut pg_sys::TupleTableSlot,
    number: i32,
}

impl TransitionScan {
    /// # Safety
    ///
    /// The store is null or live, and its rows are as the descriptor says.
    unsafe fn open(
        store: *mut pg_sys::Tuplestorestate,
        desc: pg_sys::TupleDesc,
        number: i16,
    ) -> Self {
        let mut reader = Self { store, slot: std::ptr::null_mut(), number: number.into() };
        if !store.is_null() {
            // SAFETY: the store is live, as the caller promises. Other triggers read it by pointers
            // of their own, so this one is a new one.
            unsafe {
                let pointer =
                    pg_sys::tuplestore_alloc_read_pointer(store, pg_sys::EXEC_FLAG_REWIND as i32);
                pg_sys::tuplestore_select_read_pointer(store, pointer);
                pg_sys::tuplestore_rescan(store);
                reader.slot =
                    pg_sys::MakeSingleTupleTableSlot(desc, &raw const pg_sys::TTSOpsMinimalTuple);
            }
        }
        reader
    }

    /// The id of the next row, which may be null; `None` after the last row.
    ///
    /// # Safety
    ///
    /// It runs within [`with_error_guard`]. The value lives until the next call.
    #[expect(ffi_unwind_calls, reason = "this frame owns nothing")]
    unsafe fn next(&mut self) -> Option<Option<pg_sys::Datum>> {
        if self.store.is_null() {
            return None;
        }
        // SAFETY: the store is live and the slot has its descriptor, as opened; a column that is
        // deformed has a place in both arrays of the slot. This frame owns nothing.
        unsafe {
            if !raw::tuplestore_gettupleslot(self.store, true, false, self.slot) {
                self.store = std::ptr::null_mut();
                return None;
            }
            let slot = self.slot;
            if i32::from((*slot).tts_nvalid) < self.number {
                raw::slot_getsomeattrs_int(slot, self.number);
            }
            let at = self.number as usize - 1;
            let is_null = *(*slot).tts_isnull.add(at);
            Some((!is_null).then(|| *(*slot).tts_values.add(at)))
        }
    }

    /// # Safety
    ///
    /// As opened.
    unsafe fn close(self) {
        if !self.slot.is_null() {
            // SAFETY: the slot was made in `open`, and this takes the scan, its only user.
            unsafe { pg_sys::ExecDropSingleTupleTableSlot(self.slot) };
        }
    }
}

/// Whether two values are stored as the same bytes.
///
/// # Safety
///
/// The values are live, and of a type with that length, or that is passed by value.
unsafe fn is_same_image(
    one: pg_sys::Datum,
    other: pg_sys::Datum,
    length: i16,
    by_value: bool,
) -> bool {
    if by_value {
        return one.value() == other.value();
    }
    let bytes = |value: pg_sys::Datum| {
        let start = value.cast_mut_ptr::<u8>().cast_const();
        // SAFETY: the value points to as many bytes as its type's length says: to a varlena (-1), to
        // a C string (-2), or to a fixed number of bytes.
        unsafe {
            let length = match length {
                -1 => pgrx::varsize_any(start.cast()),
                -2 => CStr::from_ptr(start.cast()).count_bytes(),
                length => length as usize,
            };
            std::slice::from_raw_parts(start, length)
        }
    };
    bytes(one) == bytes(other)
}

/// Whether the text form of a type is the same in every session, independent of settings.
fn is_plain(typ: pg_sys::Oid) -> bool {
    use pg_sys::{INT2OID, INT4OID, INT8OID, TEXTOID, UUIDOID, VARCHAROID};
    [INT2OID, INT4OID, INT8OID, TEXTOID, UUIDOID, VARCHAROID].contains(&typ)
}

/// How values of a type are converted to text.
enum TextOf {
    Int2,
    Int4,
    Int8,
    /// The value is text already.
    Itself,
    Output(pg_sys::FmgrInfo),
}

impl TextOf {
    /// A type that does not exist raises an error.
    fn of(typ: pg_sys::Oid) -> Self {
        match typ {
            pg_sys::INT2OID => return Self::Int2,
            pg_sys::INT4OID => return Self::Int4,
            pg_sys::INT8OID => return Self::Int8,
            pg_sys::TEXTOID | pg_sys::VARCHAROID => return Self::Itself,
            _ => {}
        }
        let mut info = pg_sys::FmgrInfo::default();
        let (mut function, mut is_varlena) = (pg_sys::InvalidOid, false);
        // SAFETY: look-ups in the transaction of the trigger; a missing type is raised. What `info`
        // points to lives in the current memory context, the one of the trigger's call.
        unsafe {
            pg_sys::getTypeOutputInfo(typ, &mut function, &mut is_varlena);
            pg_sys::fmgr_info(function, &mut info);
        }
        Self::Output(info)
    }
}

/// A `text[]` without nulls in PostgreSQL's format: a header, and elements aligned to four bytes.
/// It is built in place, which is much faster than building it from datums.
struct Ids {
    bytes: *mut u8,
    used: usize,
    capacity: usize,
    count: i32,
}

impl Ids {
    /// Length, number of dimensions, offset of the data if there are nulls, element type, number of
    /// elements, lower bound.
    const HEADER: usize = 6 * size_of::<i32>();
    /// A row with this many bytes is full. A longer id still goes into one row.
    const ENOUGH: usize = 1 << 20;

    /// The bytes are in the memory context that is current, and are not used after its end: the
    /// trigger's call is shorter.
    fn new() -> Self {
        let capacity = 1 << 16;
        // SAFETY: more than zero bytes, and less than the most that can be allocated.
        let bytes = unsafe { pg_sys::palloc(capacity) }.cast();
        Self { bytes, used: Self::HEADER, capacity, count: 0 }
    }

    fn is_full(&self) -> bool {
        self.count as usize == IDS_AT_ONCE || self.used >= Self::ENOUGH
    }

    /// # Safety
    ///
    /// It runs within [`with_error_guard`].
    #[expect(ffi_unwind_calls, reason = "this frame owns nothing")]
    unsafe fn push(&mut self, id: &[u8]) {
        let size = pg_sys::VARHDRSZ + id.len();
        let end = self.used + size.next_multiple_of(4);
        // SAFETY: there is room up to `end` when something is written. The bytes were allocated by
        // PostgreSQL, as repalloc() requires. This frame owns nothing.
        unsafe {
            if end > self.capacity {
                self.capacity = end.max(self.capacity * 2);
                self.bytes = raw::repalloc(self.bytes.cast(), self.capacity).cast();
            }
            let element = self.bytes.add(self.used);
            pgrx::set_varsize_4b(element.cast(), size as i32);
            let text = element.add(pg_sys::VARHDRSZ);
            std::ptr::copy_nonoverlapping(id.as_ptr(), text, id.len());
            std::ptr::write_bytes(text.add(id.len()), 0, end - self.used - size);
        }
        self.used = end;
        self.count += 1;
    }

    /// The array, valid until the next id is added.
    fn finish(&mut self) -> pg_sys::Datum {
        let header = [0, 1, 0, u32::from(pg_sys::TEXTOID) as i32, self.count, 1];
        // SAFETY: `new` leaves room for the header, and allocates with the alignment of integers.
        unsafe {
            std::ptr::copy_nonoverlapping(header.as_ptr(), self.bytes.cast(), header.len());
            pgrx::set_varsize_4b(self.bytes.cast(), self.used as i32);
        }
        (self.used, self.count) = (Self::HEADER, 0);
        pg_sys::Datum::from(self.bytes)
    }
}

/// Collects ids and writes them as rows.
struct Writer {
    changes: pg_sys::Relation,
    source: pg_sys::Oid,
    column: pg_sys::NameData,
    ids: Ids,
    /// The memory for building one row.
    memory: pg_sys::MemoryContext,
}

impl Writer {
    /// Opens the relation of captured changes. A missing relation raises an error.
    fn open(changes: pg_sys::Oid, source: pg_sys::Oid, column: &CStr) -> Self {
        let mut name = pg_sys::NameData::default();
        // SAFETY: a C string is copied into a name, truncated to its length. The current memory
        // context is that of the trigger's call, which the writer does not outlive.
        unsafe {
            pg_sys::namestrcpy(&mut name, column.as_ptr());
            Self {
                changes: pg_sys::table_open(changes, pg_sys::RowExclusiveLock as i32),
                source,
                column: name,
                ids: Ids::new(),
                memory: new_context_in(pg_sys::CurrentMemoryContext, c"captured ids"),
            }
        }
    }

    /// Adds an id.
    ///
    /// # Safety
    ///
    /// The value is live, and of the type that `text` was made of. It runs within
    /// [`with_error_guard`].
    #[expect(ffi_unwind_calls, reason = "this frame owns nothing")]
    unsafe fn add(&mut self, id: pg_sys::Datum, text: &TextOf) {
        let mut digits = itoa::Buffer::new();
        // SAFETY: the value has the type of `text`, as the caller promises. What the unguarded
        // functions allocate is in `memory` until the row is written. This frame owns nothing: the
        // buffer of digits and the copy of `info` have no destructors.
        unsafe {
            match text {
                TextOf::Int2 => self.ids.push(digits.format(id.value() as i16).as_bytes()),
                TextOf::Int4 => self.ids.push(digits.format(id.value() as i32).as_bytes()),
                TextOf::Int8 => self.ids.push(digits.format(id.value() as i64).as_bytes()),
                TextOf::Itself => {
                    let outer = std::mem::replace(&mut *current_memory(), self.memory);
                    let value = raw::pg_detoast_datum_packed(id.cast_mut_ptr());
                    *current_memory() = outer;
                    self.ids.push(pgrx::varlena_to_byte_slice(value));
                }
                TextOf::Output(info) => {
                    let outer = std::mem::replace(&mut *current_memory(), self.memory);
                    let mut info = *info;
                    let shown = raw::OutputFunctionCall(&mut info, id);
                    *current_memory() = outer;
                    self.ids.push(CStr::from_ptr(shown).to_bytes());
                }
            }
        }
    }

    /// Writes the collected ids, or with `all` a row that stands for all ids.
    fn write(&mut self, all: bool) {
        if self.ids.count == 0 && !all {
            return;
        }
        pgrx::check_for_interrupts!();
        // SAFETY: the relation is open, and has the four columns of the values. The row is
        // built in `memory`, which is reset when it is written.
        unsafe {
            let outer = pg_sys::MemoryContextSwitchTo(self.memory);
            let mut values = [
                self.source.into(),
                pg_sys::Datum::from(&raw const self.column),
                pg_sys::Datum::from(pg_sys::GetTopFullTransactionId().value),
                if all { pg_sys::Datum::null() } else { self.ids.finish() },
            ];
            let mut nulls = [false, false, false, all];
            let row = pg_sys::heap_form_tuple(
                (*self.changes).rd_att,
                values.as_mut_ptr(),
                nulls.as_mut_ptr(),
            );
            pg_sys::CatalogTupleInsert(self.changes, row);
            pg_sys::MemoryContextSwitchTo(outer);
            pg_sys::MemoryContextReset(self.memory);
        }
    }

    fn close(self) {
        // SAFETY: `open` made the context and opened the relation, and this takes the writer. The
        // lock is kept to the end of the transaction.
        unsafe {
            pg_sys::MemoryContextDelete(self.memory);
            pg_sys::table_close(self.changes, pg_sys::NoLock as i32);
        }
    }
}

/// The place of the current memory context.
fn current_memory() -> *mut pg_sys::MemoryContext {
    &raw mut pg_sys::CurrentMemoryContext
}
