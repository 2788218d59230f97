//! Reading rows of a table without the planner and the executor.

use std::ffi::CStr;

use pgrx::prelude::*;

/// Reads columns of all rows of a table that the active snapshot sees. Nothing that the table's owner
/// made is run for it: no policy, no expression of an index, no rule. `columns` have types that are
/// passed by value. None: the table does not exist, is no plain table, lacks such a column, or is
/// locked.
pub fn read<const COLUMNS: usize>(
    table: pg_sys::Oid,
    columns: [&CStr; COLUMNS],
) -> Option<Vec<[Option<pg_sys::Datum>; COLUMNS]>> {
    let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
    let mut rows = Vec::new();
    // SAFETY: the caller has a transaction with an active snapshot. The relation is open and locked while
    // it is scanned, and a row is read before the next one is fetched. The values are passed by value,
    // so they outlive their row. An error that is raised in between leaves the closing to the
    // transaction's abort.
    unsafe {
        if !pg_sys::ConditionalLockRelationOid(table, lock) {
            return None;
        }
        let relation = pg_sys::try_relation_open(table, pg_sys::NoLock as pg_sys::LOCKMODE);
        if relation.is_null() {
            pg_sys::UnlockRelationOid(table, lock);
            return None;
        }
        let numbers = columns.map(|column| {
            let number = pg_sys::get_attnum(table, column.as_ptr());
            let is_by_value = || pg_sys::get_typbyval(pg_sys::get_atttype(table, number));
            (number > 0 && is_by_value()).then_some(number)
        });
        let is_plain =
            (*(*relation).rd_rel).relkind == pg_sys::RELKIND_RELATION as std::ffi::c_char;
        let is_readable = is_plain && numbers.iter().all(Option::is_some);
        if is_readable {
            let scan = pg_sys::systable_beginscan(
                relation,
                pg_sys::InvalidOid,
                false,
                pg_sys::GetActiveSnapshot(),
                0,
                std::ptr::null_mut(),
            );
            loop {
                pgrx::check_for_interrupts!();
                let row = pg_sys::systable_getnext(scan);
                if row.is_null() {
                    break;
                }
                let attributes = (*relation).rd_att;
                rows.push(numbers.map(|number| {
                    let mut is_null = false;
                    let value = pg_sys::heap_getattr(row, number?.into(), attributes, &mut is_null);
                    (!is_null).then_some(value)
                }));
            }
            pg_sys::systable_endscan(scan);
        }
        pg_sys::relation_close(relation, lock);
        is_readable.then_some(rows)
    }
}
