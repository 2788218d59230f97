//! Reading what a statement has changed from its transition tables, and recording it.

use std::ffi::CStr;

use pgrx::prelude::*;

use super::role;

/// So many ids go into one row.
const IDS_AT_ONCE: usize = 10_000;

/// The function that a trigger calls.
pub fn trigger_function(trigger: &pg_sys::TriggerData) -> pg_sys::Oid {
    // SAFETY: PostgreSQL hands a trigger live data.
    unsafe { (*trigger.tg_trigger).tgfoid }
}

/// Records the ids that a statement has written, from its trigger, as rows of the relation `changes`:
/// (source, id_column, xid, ids). A row without ids stands for all of them: the table was truncated, or
/// has no such column any more.
pub fn record(trigger: &pg_sys::TriggerData, column: &CStr, changes: pg_sys::Oid) {
    // SAFETY: PostgreSQL hands a trigger live data; slots and tables are let go of at the end, or by
    // the abort.
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
            let mut old = Reader::open(trigger.tg_oldtable, desc, number);
            let mut new = Reader::open(trigger.tg_newtable, desc, number);
            let mut add_all = || {
                loop {
                    let (before, after) = (old.next(), new.next());
                    if before.is_none() && after.is_none() {
                        break;
                    }
                    let (before, after) = (before.flatten(), after.flatten());
                    // Old and new rows come in the same order, and ids seldom change.
                    let is_same = match (before, after) {
                        (Some(before), Some(after)) => {
                            is_same_image(before, after, length, by_value)
                        }
                        _ => false,
                    };
                    for id in [before.filter(|_| !is_same), after].into_iter().flatten() {
                        writer.add(id, &text);
                    }
                    pgrx::check_for_interrupts!();
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

/// A transition table, or none.
struct Reader {
    store: *mut pg_sys::Tuplestorestate,
    pointer: i32,
    slot: *mut pg_sys::TupleTableSlot,
    number: i32,
}

impl Reader {
    /// SAFETY: the store is null or alive, its rows are as the descriptor says.
    unsafe fn open(
        store: *mut pg_sys::Tuplestorestate,
        desc: pg_sys::TupleDesc,
        number: i16,
    ) -> Self {
        let mut reader =
            Self { store, pointer: 0, slot: std::ptr::null_mut(), number: number.into() };
        if !store.is_null() {
            // SAFETY: others read the store by pointers of their own.
            unsafe {
                reader.pointer =
                    pg_sys::tuplestore_alloc_read_pointer(store, pg_sys::EXEC_FLAG_REWIND as i32);
                pg_sys::tuplestore_select_read_pointer(store, reader.pointer);
                pg_sys::tuplestore_rescan(store);
                reader.slot =
                    pg_sys::MakeSingleTupleTableSlot(desc, &raw const pg_sys::TTSOpsMinimalTuple);
            }
        }
        reader
    }

    /// The id of the next row, which may be null; none: there is no further row.
    ///
    /// SAFETY: the value lives until the next call.
    unsafe fn next(&mut self) -> Option<Option<pg_sys::Datum>> {
        if self.store.is_null() {
            return None;
        }
        // SAFETY: as opened.
        unsafe {
            pg_sys::tuplestore_select_read_pointer(self.store, self.pointer);
            if !pg_sys::tuplestore_gettupleslot(self.store, true, false, self.slot) {
                self.store = std::ptr::null_mut();
                return None;
            }
            let slot = self.slot;
            if i32::from((*slot).tts_nvalid) < self.number {
                pg_sys::slot_getsomeattrs_int(slot, self.number);
            }
            let at = self.number as usize - 1;
            let is_null = *(*slot).tts_isnull.add(at);
            Some((!is_null).then(|| *(*slot).tts_values.add(at)))
        }
    }

    unsafe fn close(self) {
        if !self.slot.is_null() {
            // SAFETY: nobody uses it any more.
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

/// Whether a type's text is the same in every session, whatever its settings are.
fn is_plain(typ: pg_sys::Oid) -> bool {
    use pg_sys::{INT2OID, INT4OID, INT8OID, TEXTOID, UUIDOID, VARCHAROID};
    [INT2OID, INT4OID, INT8OID, TEXTOID, UUIDOID, VARCHAROID].contains(&typ)
}

/// How values of a type become text.
enum TextOf {
    /// They are.
    Itself,
    Output(pg_sys::FmgrInfo),
}

impl TextOf {
    unsafe fn of(typ: pg_sys::Oid) -> Self {
        if [pg_sys::TEXTOID, pg_sys::VARCHAROID].contains(&typ) {
            return Self::Itself;
        }
        let mut info = pg_sys::FmgrInfo::default();
        let (mut function, mut is_varlena) = (pg_sys::InvalidOid, false);
        // SAFETY: asks the catalogues.
        unsafe {
            pg_sys::getTypeOutputInfo(typ, &mut function, &mut is_varlena);
            pg_sys::fmgr_info(function, &mut info);
        }
        Self::Output(info)
    }
}

/// Collects ids, and writes them as rows.
struct Writer {
    changes: pg_sys::Relation,
    source: pg_sys::Oid,
    column: pg_sys::NameData,
    ids: Vec<pg_sys::Datum>,
    /// What belongs to the row that is being collected.
    memory: pg_sys::MemoryContext,
}

impl Writer {
    unsafe fn open(changes: pg_sys::Oid, source: pg_sys::Oid, column: &CStr) -> Self {
        let mut name = pg_sys::NameData::default();
        // SAFETY: a name has its zero byte, and the context is deleted in `close` or with its parent.
        unsafe {
            pg_sys::namestrcpy(&mut name, column.as_ptr());
            Self {
                changes: pg_sys::table_open(changes, pg_sys::RowExclusiveLock as i32),
                source,
                column: name,
                ids: Vec::new(),
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
        // SAFETY: the value is copied into the row's memory.
        unsafe {
            let outer = pg_sys::MemoryContextSwitchTo(self.memory);
            let id = match text {
                TextOf::Itself => {
                    pg_sys::Datum::from(pg_sys::pg_detoast_datum_copy(id.cast_mut_ptr()))
                }
                TextOf::Output(info) => {
                    let mut info = *info;
                    let shown = pg_sys::OutputFunctionCall(&mut info, id);
                    pg_sys::Datum::from(pg_sys::cstring_to_text(shown))
                }
            };
            pg_sys::MemoryContextSwitchTo(outer);
            self.ids.push(id);
            if self.ids.len() == IDS_AT_ONCE {
                self.write(false);
            }
        }
    }

    /// Writes what was collected, or that it is `all`.
    unsafe fn write(&mut self, all: bool) {
        if self.ids.is_empty() && !all {
            return;
        }
        // SAFETY: four values for the four columns.
        unsafe {
            let outer = pg_sys::MemoryContextSwitchTo(self.memory);
            let ids = match all {
                true => pg_sys::Datum::null(),
                false => pg_sys::Datum::from(pg_sys::construct_array(
                    self.ids.as_mut_ptr(),
                    self.ids.len() as i32,
                    pg_sys::TEXTOID,
                    -1,
                    false,
                    b'i' as std::ffi::c_char,
                )),
            };
            let mut values = [
                self.source.into(),
                pg_sys::Datum::from(&raw const self.column),
                pg_sys::Datum::from(pg_sys::GetTopFullTransactionId().value),
                ids,
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
        self.ids.clear();
    }

    unsafe fn close(self) {
        // SAFETY: the lock is kept to the end of the transaction.
        unsafe {
            pg_sys::MemoryContextDelete(self.memory);
            pg_sys::table_close(self.changes, pg_sys::NoLock as i32);
        }
    }
}
