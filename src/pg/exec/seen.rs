//! Whether the active snapshot sees what a statement has read.
//!
//! A name leads to the relation of now, its rows are those of the snapshot. Of a relation that was
//! renamed, created, truncated or rewritten after the snapshot was taken, the snapshot may see no rows,
//! though there were rows under the name at any time. Rows of the system catalogs tell: those that are
//! found now, of relations, rules of views, functions and schemas, must be visible in the snapshot.

use std::collections::HashSet;
use std::ffi::c_void;
use std::rc::Rc;

use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;

use crate::error::{Error, Result};
use crate::pg::exec::receiver::{raw, with_error_guard};
use crate::pg::exec::statement::Prepared;
use crate::pg::system_catalog;
use crate::pg::version;

impl Prepared {
    /// The error that something which it reads is newer than the active snapshot. To be asked after
    /// the statement was run with arguments of these types: its relations are locked then, and are
    /// those that its names lead to.
    pub fn check_seen(self: Rc<Self>, sql: &str, args: &[DatumWithOid<'_>]) -> Result<()> {
        let analysed = match self.is_valid() {
            true => self,
            false => Rc::new(Self::of_user(sql, args)?),
        };
        let mut functions = analysed.functions();
        functions.retain(|function| system_catalog::is_users(*function));
        let mut relations = analysed.relations();
        if !functions.is_empty() {
            // What their bodies have read.
            relations.extend(locked());
        }
        if let Some(function) = functions.into_iter().find(|function| is_newer_function(*function))
        {
            let name = system_catalog::function_name(function);
            return Err(Error::Replaced(name.unwrap_or_default()));
        }
        check_relations(&relations)
    }

    /// The functions that it calls, also in views.
    fn functions(&self) -> HashSet<pg_sys::Oid> {
        let mut functions = HashSet::new();
        for query in self.queries() {
            // SAFETY: queries of a live plan. The walk changes nothing but the function of an
            // operator that is not looked up yet, which the planner sets to the same.
            unsafe { version::begin_walk(query.cast(), walk, (&raw mut functions).cast()) };
        }
        functions
    }
}

/// The same for relations, which were read.
pub fn check_relations(relations: &[pg_sys::Oid]) -> Result<()> {
    match find_newer(relations) {
        None => Ok(()),
        Some(relation) => Err(Error::Replaced(system_catalog::display_name(relation))),
    }
}

/// The same for all relations that this transaction has read.
pub fn check_all_relations() -> Result<()> {
    check_relations(&locked())
}

/// Collects the functions that a node and the nodes below it call.
///
/// # Safety
///
/// `node` is null or a live node; `context` is the place of a set of functions.
#[pg_guard]
unsafe extern "C-unwind" fn walk(node: *mut pg_sys::Node, context: *mut c_void) -> bool {
    // SAFETY: nodes are live, and of the type that their tags say.
    unsafe {
        match node.as_ref().map(|node| node.type_) {
            None => false,
            Some(pg_sys::NodeTag::T_Query) => version::walk_query(node.cast(), walk, context, 0),
            Some(_) => {
                pg_sys::check_functions_in_node(node, Some(collect), context);
                version::walk_expression(node, walk, context)
            }
        }
    }
}

/// Collects a function. The answer "false" goes on to the next one.
///
/// # Safety
///
/// `context` is the place of a set of functions.
#[pg_guard]
unsafe extern "C-unwind" fn collect(function: pg_sys::Oid, context: *mut c_void) -> bool {
    // SAFETY: as above.
    unsafe { (*context.cast::<HashSet<pg_sys::Oid>>()).insert(function) };
    false
}

/// The users' relations that this transaction has locked, which includes all that it has read.
fn locked() -> Vec<pg_sys::Oid> {
    // SAFETY: needs a process in the shared array of processes. The array is made in the current memory
    // context, and only read. A tag of a relation has its database, or 0, and its OID.
    unsafe {
        let data = pg_sys::GetLockStatusData();
        let count = usize::try_from((*data).nelements).unwrap_or_default();
        let locks = std::slice::from_raw_parts((*data).locks, count).iter();
        let own = locks.filter(|lock| {
            lock.pid == pg_sys::MyProcPid
                && lock.holdMask != 0
                && u32::from(lock.locktag.locktag_type) == pg_sys::LockTagType::LOCKTAG_RELATION
                && lock.locktag.locktag_field1 == pg_sys::MyDatabaseId.to_u32()
        });
        let relations = own.map(|lock| pg_sys::Oid::from(lock.locktag.locktag_field2));
        relations.filter(|relation| system_catalog::is_users(*relation)).collect()
    }
}

/// The first of the relations, or of their partitions and children, that may have other rows, or other
/// relations behind it, than the active snapshot sees.
#[expect(ffi_unwind_calls, reason = "within a guard")]
fn find_newer(relations: &[pg_sys::Oid]) -> Option<pg_sys::Oid> {
    let with_children = |relation: &pg_sys::Oid| -> Vec<pg_sys::Oid> {
        let none = std::ptr::null_mut();
        // SAFETY: needs a transaction. The list is made in the current memory context, and only read.
        unsafe {
            // One that this transaction has dropped is still locked, and cannot be read any more.
            if pg_sys::get_rel_relkind(*relation) == 0 {
                return Vec::new();
            }
            let all = with_error_guard(|| {
                raw::find_all_inheritors(*relation, pg_sys::NoLock as i32, none)
            });
            pgrx::PgList::<pg_sys::Oid>::from_pg(all).iter_oid().collect()
        }
    };
    let mut schemas = HashSet::new();
    let mut is_newer = |relation: pg_sys::Oid| {
        // SAFETY: needs a transaction; a relation that is missing has the kind 0, and no schema.
        let (kind, schema) = unsafe {
            (pg_sys::get_rel_relkind(relation) as u8, pg_sys::get_rel_namespace(relation))
        };
        let rows = match kind {
            pg_sys::RELKIND_RELATION
            | pg_sys::RELKIND_PARTITIONED_TABLE
            | pg_sys::RELKIND_MATVIEW
            | pg_sys::RELKIND_FOREIGN_TABLE => is_newer_row(Id::RELOID, &[relation.into()]),
            pg_sys::RELKIND_VIEW => {
                let rule = c"_RETURN".as_ptr();
                is_newer_row(Id::RELOID, &[relation.into()])
                    || is_newer_row(Id::RULERELNAME, &[relation.into(), rule.into()])
            }
            // Indexes and sequences have no rows of their own to be seen.
            _ => return false,
        };
        rows || (schemas.insert(schema) && is_newer_row(Id::NAMESPACEOID, &[schema.into()]))
    };
    relations.iter().flat_map(with_children).find(|relation| is_newer(*relation))
}

fn is_newer_function(function: pg_sys::Oid) -> bool {
    is_newer_row(Id::PROCOID, &[function.into()])
}

use pg_sys::SysCacheIdentifier as Id;

/// Whether a row of a system catalog was written by a transaction that the active snapshot does not
/// see. (What is written in place, such as statistics, leaves the row as it is.)
fn is_newer_row(cache: Id::Type, key: &[pg_sys::Datum]) -> bool {
    let key = |number: usize| key.get(number).copied().unwrap_or(pg_sys::Datum::null());
    // SAFETY: needs a transaction with an active snapshot, in which users' queries are run. A row from
    // the cache is valid until it is released; its header is that of a row on disk. The keys are those
    // of the cache.
    unsafe {
        let tuple = pg_sys::SearchSysCache(cache as i32, key(0), key(1), key(2), key(3));
        if tuple.is_null() {
            return false;
        }
        let writer = pg_sys::htup::HeapTupleHeaderGetXmin((*tuple).t_data);
        pg_sys::ReleaseSysCache(tuple);
        writer.into_inner() >= pg_sys::FirstNormalTransactionId.into_inner()
            && !pg_sys::TransactionIdIsCurrentTransactionId(writer)
            && pg_sys::XidInMVCCSnapshot(writer, pg_sys::GetActiveSnapshot())
    }
}
