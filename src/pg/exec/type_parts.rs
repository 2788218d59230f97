//! What a type is made of: whatever makes a value of a type makes values of its parts, too.

use std::collections::BTreeSet;

use pgrx::prelude::*;

use crate::pg::exec::function::Function;

/// The types that values of a type hold, itself among them: the base types of domains, the elements of
/// arrays, the bounds of ranges and multiranges, the attributes of composite types, and so on.
pub(in crate::pg) fn parts_of(typ: pg_sys::Oid) -> Vec<pg_sys::Oid> {
    let (mut found, mut seen, mut rest) = (Vec::new(), BTreeSet::new(), vec![typ]);
    while let Some(typ) = rest.pop() {
        if typ == pg_sys::InvalidOid || !seen.insert(typ.to_u32()) {
            continue;
        }
        found.push(typ);
        // SAFETY: needs a transaction for its look-ups. A type that is no such container gives no type
        // (0); a type that does not exist is raised.
        unsafe {
            rest.extend([
                pg_sys::getBaseType(typ),
                pg_sys::get_element_type(typ),
                pg_sys::get_multirange_range(typ),
                pg_sys::get_range_subtype(typ),
            ]);
            if pg_sys::get_typtype(typ) as u8 == pg_sys::TYPTYPE_COMPOSITE {
                // A copy, which is freed when it is dropped.
                let row = pg_sys::lookup_rowtype_tupdesc_copy(typ, -1);
                let row = pgrx::PgTupleDesc::from_pg_is_copy(row);
                let live = row.iter().filter(|attribute| !attribute.attisdropped);
                rest.extend(live.map(|attribute| attribute.atttypid));
            }
        }
    }
    found
}

/// Whether a type is a domain.
pub(in crate::pg) fn is_domain(typ: pg_sys::Oid) -> bool {
    // SAFETY: needs a transaction for its look-up. A type that does not exist gives 0.
    unsafe { pg_sys::get_typtype(typ) as u8 == pg_sys::TYPTYPE_DOMAIN }
}

/// Whether a type came with an extension or a user, and the function that reads its values need not give
/// the same value for the same text. (That of an enum searches for a label.)
pub(in crate::pg) fn has_mutable_input(typ: pg_sys::Oid) -> bool {
    if typ.to_u32() < pg_sys::FirstNormalObjectId {
        return false;
    }
    let (mut input, mut parameter) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
    // SAFETY: needs a transaction for its look-ups. Both results are places of their own; a type that does
    // not exist is raised, and one without an input function is, too.
    unsafe {
        if pg_sys::get_typtype(typ) as u8 != pg_sys::TYPTYPE_BASE
            || pg_sys::get_element_type(typ) != pg_sys::InvalidOid
        {
            return false;
        }
        pg_sys::getTypeInputInfo(typ, &mut input, &mut parameter);
    }
    Function::find(input).is_some_and(|input| !input.is_immutable())
}
