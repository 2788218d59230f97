//! Look-ups in the system catalogs for which SQL has no function.

use std::ffi::CString;

use pgrx::prelude::*;

use crate::pg::exec::table_scan;

/// The longest identifier in bytes; PostgreSQL truncates longer ones.
pub const MAX_NAME: usize = pg_sys::NAMEDATALEN as usize - 1;

/// Whether a value of one type may be stored in a column of another without a cast.
pub fn is_assignable(from: pg_sys::Oid, to: pg_sys::Oid) -> bool {
    // SAFETY: both arrays have the one element announced. Needs a transaction for its look-ups, in
    // which SQL functions and jobs run, as all look-ups of this module do.
    unsafe { pg_sys::can_coerce_type(1, &from, &to, pg_sys::CoercionContext::COERCION_ASSIGNMENT) }
}

/// The base type of a domain with its modifier (length, precision). Other types are returned
/// unchanged.
pub fn base_type(typ: pg_sys::Oid, mut modifier: i32) -> (pg_sys::Oid, i32) {
    // SAFETY: the modifier is a place of our own. Needs a transaction; a missing type is raised.
    unsafe { (pg_sys::getBaseTypeAndTypmod(typ, &mut modifier), modifier) }
}

/// Whether all values of a type have the same length.
pub fn has_fixed_length(typ: pg_sys::Oid) -> bool {
    // SAFETY: needs a transaction for its look-up; a type that does not exist is raised.
    unsafe { pg_sys::get_typlen(typ) > 0 }
}

/// Whether SQL may name objects that do not exist yet, as `check_function_bodies` decides. pg_dump
/// turns it off in its scripts, which fill tables before they build indexes.
pub fn references_are_deferred() -> bool {
    // SAFETY: the variable of a setting, which only this thread writes.
    unsafe { !pg_sys::check_function_bodies }
}

/// Invalidates what all sessions have cached about a relation, when this transaction commits.
pub fn invalidate(relation: pg_sys::Oid) {
    // SAFETY: needs a transaction, which sends the message when it commits. A relation that does not
    // exist is raised.
    unsafe { pg_sys::CacheInvalidateRelcacheByRelid(relation) };
}

/// The name of a type without its modifier, qualified unless it is an SQL keyword.
pub fn type_name(typ: pg_sys::Oid) -> String {
    full_type_name(typ, -1)
}

/// The name of a type with its modifier, if there is one.
pub fn full_type_name(typ: pg_sys::Oid, modifier: i32) -> String {
    let flags = pg_sys::FORMAT_TYPE_TYPEMOD_GIVEN | pg_sys::FORMAT_TYPE_FORCE_QUALIFY;
    // SAFETY: needs a transaction. It gives a new C string; a missing type is raised.
    unsafe { owned(pg_sys::format_type_extended(typ, modifier, flags as u16)) }
}

/// The name of a type for messages.
pub fn format_type(typ: pg_sys::Oid) -> String {
    // SAFETY: needs a transaction. It gives a new C string; a missing type is raised.
    unsafe { owned(pg_sys::format_type_extended(typ, -1, 0)) }
}

/// An operator with the types of its operands, for messages.
pub fn format_operator(operator: pg_sys::Oid) -> String {
    // SAFETY: needs a transaction. It gives a new C string, also for an operator that does not exist.
    unsafe { owned(pg_sys::format_operator(operator)) }
}

/// Whether a type is a pseudo-type, such as record.
pub fn is_pseudo_type(typ: pg_sys::Oid) -> bool {
    // SAFETY: needs a transaction for its look-up. A type that does not exist gives 0.
    unsafe { pg_sys::get_typtype(typ) as u8 == pg_sys::TYPTYPE_PSEUDO }
}

/// Whether Citus has distributed one of the relations, or keeps copies of it on other servers. Such
/// relations are planned by Citus. Where there is no Citus, none is.
pub fn are_distributed(relations: &[pg_sys::Oid]) -> bool {
    !distributed(relations).is_empty()
}

/// Those of the relations that are.
pub fn distributed(relations: &[pg_sys::Oid]) -> Vec<pg_sys::Oid> {
    // SAFETY: needs a transaction. The name is a C string; a missing relation gives the invalid OID.
    let citus = unsafe {
        let catalog = pg_sys::Oid::from(pg_sys::PG_CATALOG_NAMESPACE);
        pg_sys::get_relname_relid(c"pg_dist_partition".as_ptr(), catalog)
    };
    if citus == pg_sys::InvalidOid || relations.is_empty() {
        return Vec::new();
    }
    let rows = table_scan::read(citus, [c"logicalrelid"]).unwrap_or_default();
    let known = rows.into_iter().filter_map(|[relation]| relation);
    let known = known.map(|oid| pg_sys::Oid::from(oid.value() as u32));
    known.filter(|oid| relations.contains(oid)).collect()
}

/// Whether other tables inherit from a table, or did. A partitioned table has partitions, and none that
/// inherit from it.
pub fn has_children(table: pg_sys::Oid) -> bool {
    // SAFETY: needs a transaction. The row of a relation that exists is not null, and live until it is
    // released.
    unsafe {
        let id = pg_sys::SysCacheIdentifier::RELOID as i32;
        let row = pg_sys::SearchSysCache1(id, table.into());
        if row.is_null() {
            return false;
        }
        let class = &*pg_sys::GETSTRUCT(row).cast::<pg_sys::FormData_pg_class>();
        let is_partitioned = class.relkind as u8 == pg_sys::RELKIND_PARTITIONED_TABLE;
        let has_children = class.relhassubclass && !is_partitioned;
        pg_sys::ReleaseSysCache(row);
        has_children
    }
}

/// Whether a type is an array. Only a cast can coerce the elements of an array to a modifier.
pub fn is_array(typ: pg_sys::Oid) -> bool {
    // SAFETY: needs a transaction. A missing type gives the invalid OID.
    unsafe { pg_sys::get_element_type(typ) != pg_sys::InvalidOid }
}

/// Whether the values of a type are the same bytes in a copy of the database: the type is PostgreSQL's own,
/// and its values hold no OIDs of what a database defines.
pub fn is_portable(typ: pg_sys::Oid) -> bool {
    // SAFETY: needs a transaction. A type that is no array gives the invalid OID.
    let element = unsafe { pg_sys::get_element_type(typ) };
    let typ = if element == pg_sys::InvalidOid { typ } else { element };
    let holds_oids = [
        pg_sys::REGPROCOID,
        pg_sys::REGPROCEDUREOID,
        pg_sys::REGOPEROID,
        pg_sys::REGOPERATOROID,
        pg_sys::REGCLASSOID,
        pg_sys::REGTYPEOID,
        pg_sys::REGROLEOID,
        pg_sys::REGNAMESPACEOID,
        pg_sys::REGCONFIGOID,
        pg_sys::REGDICTIONARYOID,
        pg_sys::REGCOLLATIONOID,
        pg_sys::ACLITEMOID,
        pg_sys::RECORDOID,
    ];
    typ.to_u32() < pg_sys::FirstNormalObjectId && !holds_oids.contains(&typ)
}

/// The SQL expression that coerces `expression` to a modifier of its type as an assignment does:
/// the value is rounded or padded, and a value that is too long is an error (a cast would truncate
/// it silently).
pub fn coerce_to_typmod(expression: &str, typ: pg_sys::Oid, modifier: i32) -> String {
    let mut function = pg_sys::InvalidOid;
    // SAFETY: needs a transaction. The function is a place of our own, which is set where the answer
    // is COERCION_PATH_FUNC. Names are new C strings, or null.
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

/// Whether two values of a type are equal exactly if their texts are equal.
pub fn is_plain_key(typ: pg_sys::Oid, collation: pg_sys::Oid) -> bool {
    match base_type(typ, -1).0 {
        pg_sys::INT2OID | pg_sys::INT4OID | pg_sys::INT8OID | pg_sys::UUIDOID => true,
        // SAFETY: needs a transaction. A missing collation is raised, and the invalid OID is not
        // looked up.
        pg_sys::TEXTOID | pg_sys::VARCHAROID => unsafe {
            collation != pg_sys::InvalidOid && pg_sys::get_collation_isdeterministic(collation)
        },
        _ => false,
    }
}

/// A type with its collation, in the form for a cast.
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

/// The name of a collation; `None` for the invalid OID.
fn collation_name(collation: pg_sys::Oid) -> crate::error::Result<Option<String>> {
    if collation == pg_sys::InvalidOid {
        return Ok(None);
    }
    // The name depends on the search_path, which is that of the statement that will contain it.
    let sql = "select $1::pg_catalog.regcollation::pg_catalog.text";
    Spi::connect(|_| crate::pg::exec::statement::read_one(sql, &[collation.into()]))
}

/// The owner of a relation that is open.
pub fn owner_of(relation: &pgrx::PgRelation) -> pg_sys::Oid {
    // SAFETY: the entry of an open relation has its row of pg_class, which is live while it is open.
    unsafe { (*relation.rd_rel).relowner }
}

/// Finds a relation by its name in the search_path; `None` if there is none. A text that is not a
/// name is an error. No privilege on the schema is required: callers check what they need.
pub fn relation_named(name: &str) -> crate::error::Result<Option<pg_sys::Oid>> {
    let (schema, relation) = crate::pg::exec::statement::split_name(name)?;
    let relation = CString::new(relation).unwrap_or_default();
    let schema = schema.map(|schema| CString::new(schema).unwrap_or_default());
    // SAFETY: needs a transaction. Names are C strings that are live during the calls; what is missing
    // gives the invalid OID, also for a schema that is missing.
    let found = unsafe {
        match schema {
            None => pg_sys::RelnameGetRelid(relation.as_ptr()),
            Some(schema) => {
                let schema = pg_sys::get_namespace_oid(schema.as_ptr(), true);
                pg_sys::get_relname_relid(relation.as_ptr(), schema)
            }
        }
    };
    Ok((found != pg_sys::InvalidOid).then_some(found))
}

/// Whether a relation has a column of this name.
pub fn has_column(relation: pg_sys::Oid, column: &str) -> bool {
    column_number(relation, column).is_some()
}

/// The number of the column of this name, but no system column.
pub fn column_number(relation: pg_sys::Oid, column: &str) -> Option<i16> {
    let column = CString::new(column).ok()?;
    // SAFETY: needs a transaction. The name is live during the call; what is missing has the number 0.
    let number = unsafe { pg_sys::get_attnum(relation, column.as_ptr()) };
    (number > 0).then_some(number)
}

/// The columns that are declared NOT NULL and that a row which a trigger is called for has null.
pub fn null_columns(trigger: &PgTrigger<'_>) -> Vec<String> {
    let data = trigger.trigger_data();
    // SAFETY: the data of a trigger that is being called: its relation is open, and its rows are of
    // that relation. The name of a column is a C string in its attribute.
    unsafe {
        let fires_on_update =
            data.tg_event & pg_sys::TRIGGER_EVENT_OPMASK == pg_sys::TRIGGER_EVENT_UPDATE;
        let row = if fires_on_update { data.tg_newtuple } else { data.tg_trigtuple };
        let columns = pgrx::PgTupleDesc::from_pg_unchecked((*data.tg_relation).rd_att);
        columns
            .iter()
            .filter(|column| !column.attisdropped && column.attnotnull)
            .filter(|column| pg_sys::heap_attisnull(row, column.attnum.into(), columns.as_ptr()))
            .map(|column| column.name().to_owned())
            .collect()
    }
}

/// The name of a relation for messages, or its OID if it does not exist.
pub fn display_name(relation: pg_sys::Oid) -> String {
    visible_name(relation).unwrap_or_else(|| relation.to_u32().to_string())
}

/// The name of a relation with its schema, or `None` if it does not exist.
pub fn qualified_name(relation: pg_sys::Oid) -> Option<String> {
    // SAFETY: needs a transaction. Names are new C strings, or null.
    unsafe {
        let name = pg_sys::get_rel_name(relation);
        let schema = pg_sys::get_namespace_name(pg_sys::get_rel_namespace(relation));
        let is_there = !name.is_null() && !schema.is_null();
        is_there.then(|| pgrx::spi::quote_qualified_identifier(owned(schema), owned(name)))
    }
}

/// The name of a schema, not quoted, or `None` if it does not exist.
pub fn schema_name(schema: pg_sys::Oid) -> Option<String> {
    // SAFETY: needs a transaction. The name is a new C string, or null.
    unsafe {
        let name = pg_sys::get_namespace_name(schema);
        (!name.is_null()).then(|| owned(name))
    }
}

/// The name of a function with the types of its arguments, or `None` if it does not exist. Functions
/// and types that are not visible in the search_path have their schemas.
pub fn function_name(function: pg_sys::Oid) -> Option<String> {
    // SAFETY: needs a transaction. The name of a function that exists is a new C string; a missing one
    // has none.
    unsafe {
        let exists = !pg_sys::get_func_name(function).is_null();
        exists.then(|| owned(pg_sys::format_procedure(function)))
    }
}

/// Whether a relation is a view, materialized or not.
pub fn is_view(relation: pg_sys::Oid) -> bool {
    // SAFETY: needs a transaction. A missing relation has the kind 0.
    let kind = unsafe { pg_sys::get_rel_relkind(relation) } as u8;
    kind == pg_sys::RELKIND_VIEW || kind == pg_sys::RELKIND_MATVIEW
}

/// Whether an object may be a user's: it was not made with the database.
pub fn is_users(object: pg_sys::Oid) -> bool {
    object.to_u32() >= pg_sys::FirstNormalObjectId
}

/// A name with its schema, or alone if the schema does not exist.
pub fn qualify(schema: pg_sys::Oid, name: &str) -> String {
    // SAFETY: needs a transaction. The name of the schema is a new C string, or null.
    unsafe {
        let schema = pg_sys::get_namespace_name(schema);
        match schema.is_null() {
            true => pgrx::spi::quote_identifier(name),
            false => pgrx::spi::quote_qualified_identifier(owned(schema), name.to_owned()),
        }
    }
}

/// Whether the session applies what was replicated: it has a replication origin.
pub fn applies_replication() -> bool {
    // SAFETY: a variable of this process's only thread.
    unsafe { u32::from(pg_sys::replorigin_session_origin) != pg_sys::InvalidRepOriginId }
}

/// What is known of a table's rows without reading them.
pub struct Physical {
    /// The file that holds them: TRUNCATE and whatever rewrites the table changes it.
    pub storage: u32,
    /// Its size in blocks.
    pub blocks: u32,
    /// Rows that are written may become others, by triggers or rules of users.
    pub may_alter_rows: bool,
}

/// Reads what is known of a table's rows. `None`: there is no such relation with storage. The
/// caller holds a lock on it.
pub fn physical(table: pg_sys::Oid) -> Option<Physical> {
    // SAFETY: needs a transaction, in which SQL functions and jobs run. A relation that does not
    // exist gives a null pointer, which is not used. What is read belongs to the open relation; its
    // list of triggers has as many elements as it says.
    unsafe {
        let relation = pg_sys::try_relation_open(table, pg_sys::AccessShareLock as i32);
        if relation.is_null() {
            return None;
        }
        let class = &*(*relation).rd_rel;
        let physical = (class.relkind == pg_sys::RELKIND_RELATION as std::ffi::c_char).then(|| {
            let triggers = (*relation).trigdesc.as_ref();
            let has_trigger = triggers.is_some_and(|found| {
                let triggers =
                    std::slice::from_raw_parts(found.triggers, found.numtriggers.max(0) as usize);
                triggers.iter().any(|trigger| !trigger.tgisinternal)
            });
            Physical {
                storage: class.relfilenode.to_u32(),
                blocks: pg_sys::RelationGetNumberOfBlocksInFork(
                    relation,
                    pg_sys::ForkNumber::MAIN_FORKNUM,
                ),
                may_alter_rows: has_trigger || class.relhasrules,
            }
        });
        pg_sys::relation_close(relation, pg_sys::AccessShareLock as i32);
        physical
    }
}

/// The name of a relation, with its schema if it is not visible in the search_path. `None` if the
/// relation does not exist, or outside a transaction, where no look-up is possible.
pub fn visible_name(relation: pg_sys::Oid) -> Option<String> {
    // SAFETY: look-ups need a transaction, which is checked first. Names are new C strings, or null.
    unsafe {
        if !pg_sys::IsTransactionState() {
            return None;
        }
        let name = pg_sys::get_rel_name(relation);
        if !name.is_null() && pg_sys::RelationIsVisible(relation) {
            return Some(pgrx::spi::quote_identifier(owned(name)));
        }
    }
    qualified_name(relation)
}

/// Runs `body` as if no script of an extension were running: the objects that it creates or replaces
/// do not become members of the extension.
pub fn outside_extension_script<T>(body: impl FnOnce() -> T) -> T {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            // SAFETY: a variable of this process's only thread, set back to what PostgreSQL set it to.
            unsafe { pg_sys::creating_extension = self.0 };
        }
    }
    // SAFETY: a variable of this process's only thread. If an error ends the script, PostgreSQL resets
    // it itself.
    let _restore = unsafe {
        let before = pg_sys::creating_extension;
        pg_sys::creating_extension = false;
        Restore(before)
    };
    body()
}

/// Finds a relation in the schema of a function. The result is the invalid OID if there is none.
pub fn relation_beside(function: pg_sys::Oid, name: &std::ffi::CStr) -> pg_sys::Oid {
    // SAFETY: needs a transaction. The name is a C string; what is missing gives the invalid OID.
    unsafe { pg_sys::get_relname_relid(name.as_ptr(), pg_sys::get_func_namespace(function)) }
}

/// A copy of a text; empty for a null pointer.
///
/// # Safety
///
/// `text` is null or a C string.
unsafe fn owned(text: *mut std::ffi::c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: a C string, as the caller promises.
    unsafe { std::ffi::CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
