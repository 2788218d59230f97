//! Questions about types and settings that SQL cannot put.

use std::ffi::CString;

use pgrx::prelude::*;

/// PostgreSQL cuts longer identifiers.
pub const MAX_NAME: usize = pg_sys::NAMEDATALEN as usize - 1;

/// Whether a value of one type may be stored in a column of another without a cast.
pub fn is_assignable(from: pg_sys::Oid, to: pg_sys::Oid) -> bool {
    // SAFETY: both arrays have the one element announced.
    unsafe { pg_sys::can_coerce_type(1, &from, &to, pg_sys::CoercionContext::COERCION_ASSIGNMENT) }
}

/// A type without the domains around it, and the modifier (length, precision) it then has.
pub fn base_type(typ: pg_sys::Oid, mut modifier: i32) -> (pg_sys::Oid, i32) {
    // SAFETY: the modifier is read and written in place.
    unsafe { (pg_sys::getBaseTypeAndTypmod(typ, &mut modifier), modifier) }
}

/// Whether what SQL names exists is left to later, as `check_function_bodies` says: pg_dump turns
/// it off in its scripts, which fill tables before they build indexes.
pub fn references_are_deferred() -> bool {
    // SAFETY: reads a setting.
    unsafe { !pg_sys::check_function_bodies }
}

/// Has every session look at a relation anew, once this transaction commits.
pub fn invalidate(relation: pg_sys::Oid) {
    // SAFETY: queues a message; a relation that does not exist is raised.
    unsafe { pg_sys::CacheInvalidateRelcacheByRelid(relation) };
}

/// The name of a type without modifier, qualified unless it is a keyword of SQL.
pub fn type_name(typ: pg_sys::Oid) -> String {
    full_type_name(typ, -1)
}

/// The name of a type with a modifier, where there is one.
pub fn full_type_name(typ: pg_sys::Oid, modifier: i32) -> String {
    let flags = pg_sys::FORMAT_TYPE_TYPEMOD_GIVEN | pg_sys::FORMAT_TYPE_FORCE_QUALIFY;
    // SAFETY: gives a string of its own, copied here; a missing type is raised.
    unsafe { owned(pg_sys::format_type_extended(typ, modifier, flags as u16)) }
}

/// The name of a type as people read it.
pub fn format_type(typ: pg_sys::Oid) -> String {
    // SAFETY: as above.
    unsafe { owned(pg_sys::format_type_extended(typ, -1, 0)) }
}

/// Whether a type is an array: its elements can be fitted to a modifier by a cast only.
pub fn is_array(typ: pg_sys::Oid) -> bool {
    // SAFETY: asks the catalogues.
    unsafe { pg_sys::get_element_type(typ) != pg_sys::InvalidOid }
}

/// An expression of a type fitted to a modifier of it as storing it would be: rounded, padded, and
/// an error where it is too long (a cast would cut it silently).
pub fn coerce_to_typmod(expression: &str, typ: pg_sys::Oid, modifier: i32) -> String {
    let mut function = pg_sys::InvalidOid;
    // SAFETY: asks the catalogues; names are copied.
    unsafe {
        if modifier < 0
            || pg_sys::find_typmod_coercion_function(typ, &mut function)
                != pg_sys::CoercionPathType::COERCION_PATH_FUNC
        {
            return expression.to_owned();
        }
        let name = pgrx::spi::quote_qualified_identifier(
            owned(pg_sys::get_namespace_name(pg_sys::get_func_namespace(function))),
            owned(pg_sys::get_func_name(function)),
        );
        // The third argument, where there is one, says whether the cast is explicit.
        let implicit = if pg_sys::get_func_nargs(function) == 3 { ", false" } else { "" };
        format!("{name}({expression}, {modifier}{implicit})")
    }
}

/// Whether values of a type are equal just where their texts are the same.
pub fn is_plain_key(typ: pg_sys::Oid, collation: pg_sys::Oid) -> bool {
    match base_type(typ, -1).0 {
        pg_sys::INT2OID | pg_sys::INT4OID | pg_sys::INT8OID | pg_sys::UUIDOID => true,
        // SAFETY: asks the catalogues.
        pg_sys::TEXTOID | pg_sys::VARCHAROID => unsafe {
            collation != pg_sys::InvalidOid && pg_sys::get_collation_isdeterministic(collation)
        },
        _ => false,
    }
}

/// A type with its collation, as a cast takes them.
pub fn type_with_collation(
    typ: pg_sys::Oid,
    collation: pg_sys::Oid,
) -> crate::error::Result<String> {
    let name = type_name(typ);
    Ok(match collation_name(collation)? {
        Some(collation) => format!("{name} collate {collation}"),
        None => name,
    })
}

/// The name of a collation; none: there is none.
fn collation_name(collation: pg_sys::Oid) -> crate::error::Result<Option<String>> {
    if collation == pg_sys::InvalidOid {
        return Ok(None);
    }
    // The name goes by what is in the search_path, as the statement does that it is for.
    let sql = "select $1::pg_catalog.regcollation::pg_catalog.text";
    Spi::connect(|_| crate::pg::exec::statement::read_one(sql, &[collation.into()]))
}

/// The relation of a name, as the search_path has it; none: there is no such relation. A text that is no
/// name is raised. It takes no right to the schema: what may be done with it is asked elsewhere.
pub fn relation_named(name: &str) -> Option<pg_sys::Oid> {
    let (schema, relation) = crate::pg::exec::statement::split_name(name);
    let relation = CString::new(relation).ok()?;
    // SAFETY: asks the catalogues about C strings; what is missing gives an invalid OID.
    let found = unsafe {
        match schema {
            None => pg_sys::RelnameGetRelid(relation.as_ptr()),
            Some(schema) => {
                let schema = CString::new(schema).ok()?;
                let schema = pg_sys::get_namespace_oid(schema.as_ptr(), true);
                pg_sys::get_relname_relid(relation.as_ptr(), schema)
            }
        }
    };
    (found != pg_sys::InvalidOid).then_some(found)
}

/// The name of a relation as people read it, or its number where it is gone.
pub fn display_name(relation: pg_sys::Oid) -> String {
    visible_name(relation).unwrap_or_else(|| relation.to_u32().to_string())
}

/// The name of a relation, with its schema where that is needed to find it; none: it is gone, or nothing
/// can be looked up now.
pub fn visible_name(relation: pg_sys::Oid) -> Option<String> {
    // SAFETY: asks the catalogues within a transaction; names are copied.
    unsafe {
        if !pg_sys::IsTransactionState() {
            return None;
        }
        let name = pg_sys::get_rel_name(relation);
        if name.is_null() {
            return None;
        }
        let name = owned(name);
        if pg_sys::RelationIsVisible(relation) {
            return Some(pgrx::spi::quote_identifier(name));
        }
        let schema = owned(pg_sys::get_namespace_name(pg_sys::get_rel_namespace(relation)));
        Some(pgrx::spi::quote_qualified_identifier(schema, name))
    }
}

/// Whether the script of an extension runs.
pub fn is_creating_extension() -> bool {
    // SAFETY: reads a global of the backend.
    unsafe { pg_sys::creating_extension }
}

/// A relation in the schema of a function.
pub fn relation_beside(function: pg_sys::Oid, name: &std::ffi::CStr) -> pg_sys::Oid {
    // SAFETY: asks the catalogues; what is missing gives an invalid OID.
    unsafe { pg_sys::get_relname_relid(name.as_ptr(), pg_sys::get_func_namespace(function)) }
}

/// SAFETY: `text` is null or a C string.
unsafe fn owned(text: *mut std::ffi::c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: as promised by the caller.
    unsafe { std::ffi::CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
