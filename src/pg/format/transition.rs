//! Reads the ids that a statement has changed from its transition tables, and records them.

use std::ffi::CStr;

use pgrx::prelude::*;

use crate::pg::exec::receiver::raw;
use crate::pg::exec::role;

/// The most ids in one row.
const IDS_AT_ONCE: usize = 10_000;

/// The function that a trigger calls.
pub fn trigger_function(trigger: &pg_sys::TriggerData) -> pg_sys::Oid {
    // SAFETY: PostgreSQL hands a trigger live data.
    unsafe { (*trigger.tg_trigger).tgfoid }
}

/// Records the ids that a statement has written, in the statement's trigger, as rows of the
/// relation `changes`: (source, id_column, xid, ids). A row whose `ids` is null stands for all ids:
/// the table was truncated, or it does not have the column any more.
pub fn record(trigger: &pg_sys::TriggerData, column: &CStr, changes: pg_sys::Oid) {
    // SAFETY: PostgreSQL hands a trigger live data; slots and tables are let go of at the end, or
    // by the abort.
    unsafe {
        let source = trigger.tg_relation;
        let mut writer = Writer::open(changes, (*source).rd_id, column);
        let number = pg_sys::get_attnum((*source).rd_id, column.as_ptr());
        let is_truncate =
            trigger.tg_event & pg_sys::TRIGGER_EVENT_OPMASK == pg_sys::TRIGGER_EVENT_TRUNCATE;
        if is_truncate || number <= 0 {
            writer.write(true);
        } else {
            let desc = (*source).rd_att;
            let typ = pg_sys::get_atttype((*source).rd_id, number);
            let (mut length, mut by_value) = (0, false);
            pg_sys::get_typlenbyval(typ, &mut length, &mut by_value);
            let text = TextOf::of(typ);
            let mut old = TransitionScan::open(trigger.tg_oldtable, desc, number);
            let mut new = TransitionScan::open(trigger.tg_newtable, desc, number);
            let mut add_all = || {
                loop {
                    let (before, after) = (old.next(), new.next());
                    if before.is_none() && after.is_none() {
                        break;
                    }
                    let (before, after) = (before.flatten(), after.flatten());
                    // Old and new rows come in the same order. Most updates do not change the id,
                    // which is then recorded once.
                    let is_same = match (before, after) {
                        (Some(before), Some(after)) => {
                            is_same_image(before, after, length, by_value)
                        }
                        _ => false,
                    };
                    for id in [before.filter(|_| !is_same), after].into_iter().flatten() {
                        writer.add(id, &text);
                    }
                }
            };
            if is_plain(typ) {
                add_all()
            } else {
                role::with_text_form(add_all)
            }
            writer.write(false);
            old.close();
            new.close();
        }
        writer.close();
    }
}

/// A scan of a transition table, which may be absent.
struct TransitionScan {
    store: *mut pg_sys::Tuplestorestate,
    slot: *mut pg_sys::TupleTableSlot,
    number: i32,
}

impl TransitionScan {
    /// SAFETY: the store is null or alive, its rows are as the descriptor says.
    unsafe fn open(
        store: *mut pg_sys::Tuplestorestate,
        desc: pg_sys::TupleDesc,
        number: i16,
    ) -> Self {
        let mut reader = Self { store, slot: std::ptr::null_mut(), number: number.into() };
        if !store.is_null() {
            // SAFETY: others read the store by pointers of their own.
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
    /// SAFETY: the value lives until the next call.
    unsafe fn next(&mut self) -> Option<Option<pg_sys::Datum>> {
        if self.store.is_null() {
            return None;
        }
        // SAFETY: as opened.
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

    unsafe fn close(self) {
        if !self.slot.is_null() {
            // SAFETY: it is not used any more.
            unsafe { pg_sys::ExecDropSingleTupleTableSlot(self.slot) };
        }
    }
}

/// Whether two values are stored as the same bytes.
///
/// SAFETY: the values are of a type with that length, or that is passed by value.
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
        // SAFETY: as promised by the caller.
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
    unsafe fn of(typ: pg_sys::Oid) -> Self {
        match typ {
            pg_sys::INT2OID => return Self::Int2,
            pg_sys::INT4OID => return Self::Int4,
            pg_sys::INT8OID => return Self::Int8,
            pg_sys::TEXTOID | pg_sys::VARCHAROID => return Self::Itself,
            _ => {}
        }
        let mut info = pg_sys::FmgrInfo::default();
        let (mut function, mut is_varlena) = (pg_sys::InvalidOid, false);
        // SAFETY: reads the catalogs.
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

    unsafe fn new() -> Self {
        let capacity = 1 << 16;
        // SAFETY: belongs to the memory context that is current.
        let bytes = unsafe { pg_sys::palloc(capacity) }.cast();
        Self { bytes, used: Self::HEADER, capacity, count: 0 }
    }

    fn is_full(&self) -> bool {
        self.count as usize == IDS_AT_ONCE || self.used >= Self::ENOUGH
    }

    unsafe fn push(&mut self, id: &[u8]) {
        let size = pg_sys::VARHDRSZ + id.len();
        let end = self.used + size.next_multiple_of(4);
        // SAFETY: the room up to the end is made sure of first.
        unsafe {
            if end > self.capacity {
                self.capacity = end.max(self.capacity * 2);
                self.bytes = pg_sys::repalloc(self.bytes.cast(), self.capacity).cast();
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
    unsafe fn finish(&mut self) -> pg_sys::Datum {
        let header = [0, 1, 0, u32::from(pg_sys::TEXTOID) as i32, self.count, 1];
        // SAFETY: the header's room is there.
        unsafe {
            std::ptr::copy_nonoverlapping(header.as_ptr(), self.bytes.cast(), header.len());
            pgrx::set_varsize_4b(self.bytes.cast(), self.used as i32);
        }
        (self.used, self.count) = (Self::HEADER, 0);
        pg_sys::Datum::from(self.bytes)
    }
}

/// Collects ids and writes them as rows. It contains nothing that has to be dropped, so an error
/// may jump over it.
struct Writer {
    changes: pg_sys::Relation,
    source: pg_sys::Oid,
    column: pg_sys::NameData,
    ids: Ids,
    /// The memory for building one row.
    memory: pg_sys::MemoryContext,
}

impl Writer {
    unsafe fn open(changes: pg_sys::Oid, source: pg_sys::Oid, column: &CStr) -> Self {
        let mut name = pg_sys::NameData::default();
        // SAFETY: a name has its zero byte, and the context is deleted in `close` or with its
        // parent.
        unsafe {
            pg_sys::namestrcpy(&mut name, column.as_ptr());
            Self {
                changes: pg_sys::table_open(changes, pg_sys::RowExclusiveLock as i32),
                source,
                column: name,
                ids: Ids::new(),
                memory: pg_sys::AllocSetContextCreateInternal(
                    pg_sys::CurrentMemoryContext,
                    c"captured ids".as_ptr(),
                    pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
                    pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
                    pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
                ),
            }
        }
    }

    unsafe fn add(&mut self, id: pg_sys::Datum, text: &TextOf) {
        let mut digits = itoa::Buffer::new();
        // SAFETY: the value is of the type that the text is made of.
        unsafe {
            match text {
                TextOf::Int2 => self.ids.push(digits.format(id.value() as i16).as_bytes()),
                TextOf::Int4 => self.ids.push(digits.format(id.value() as i32).as_bytes()),
                TextOf::Int8 => self.ids.push(digits.format(id.value() as i64).as_bytes()),
                TextOf::Itself => {
                    let outer = pg_sys::MemoryContextSwitchTo(self.memory);
                    let value = pg_sys::pg_detoast_datum_packed(id.cast_mut_ptr());
                    pg_sys::MemoryContextSwitchTo(outer);
                    self.ids.push(pgrx::varlena_to_byte_slice(value));
                }
                TextOf::Output(info) => {
                    let outer = pg_sys::MemoryContextSwitchTo(self.memory);
                    let mut info = *info;
                    let shown = pg_sys::OutputFunctionCall(&mut info, id);
                    pg_sys::MemoryContextSwitchTo(outer);
                    self.ids.push(CStr::from_ptr(shown).to_bytes());
                }
            }
            if self.ids.is_full() {
                self.write(false);
            }
        }
    }

    /// Writes the collected ids, or with `all` a row that stands for all ids.
    unsafe fn write(&mut self, all: bool) {
        if self.ids.count == 0 && !all {
            return;
        }
        pgrx::check_for_interrupts!();
        // SAFETY: four values for the four columns.
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

    unsafe fn close(self) {
        // SAFETY: the lock is kept to the end of the transaction.
        unsafe {
            pg_sys::MemoryContextDelete(self.memory);
            pg_sys::table_close(self.changes, pg_sys::NoLock as i32);
        }
    }
}
