//! The relations and functions that a statement names, found in its analysed form.

use std::collections::HashSet;
use std::ffi::{CString, c_void};

use pgrx::prelude::*;

use crate::error::{Error, Result};
use crate::pg::exec::segment_calls::{NamedSegments, Readers};
use crate::pg::exec::statement::Prepared;
use crate::pg::version;

/// What a statement names itself: not what its views and functions read.
#[derive(Default)]
pub struct Named {
    pub relations: HashSet<pg_sys::Oid>,
    pub functions: HashSet<pg_sys::Oid>,
    /// The segments that it names, also in its views.
    pub segments: NamedSegments,
}

impl Named {
    pub fn extend(&mut self, other: Self) {
        self.relations.extend(other.relations);
        self.functions.extend(other.functions);
        self.segments.extend(other.segments);
    }
}

impl Prepared {
    /// The relations, functions and segments that the statement names.
    pub fn named(&self, readers: &Readers) -> Named {
        let mut named = Named { segments: self.segments(readers), ..Named::default() };
        for query in self.queries() {
            // SAFETY: queries of a live plan. The walk changes nothing but the function of an
            // operator that is not looked up yet, which the planner sets to the same.
            unsafe { version::begin_walk(query.cast(), walk, (&raw mut named).cast()) };
        }
        named
    }

    /// Analyses the body of an SQL function as a call of it does, with its parameters. Needs an SPI
    /// connection. A body that cannot be analysed without a call, such as one whose parameters have
    /// polymorphic types, raises PostgreSQL's error.
    pub fn of_function(function: pg_sys::Oid, body: &str) -> Result<Self> {
        let body = CString::new(body).map_err(|_| Error::MissingValue("prosrc"))?;
        // SAFETY: the tuple is released after the parameters were read from it. They live in the
        // current memory context, longer than the preparation, which alone uses them.
        let plan = unsafe {
            let id = pg_sys::SysCacheIdentifier::PROCOID as i32;
            let tuple = pg_sys::SearchSysCache1(id, pg_sys::Datum::from(function));
            if tuple.is_null() {
                return Err(Error::MissingValue("prosrc"));
            }
            let parameters =
                version::function_parameters(tuple, std::ptr::null_mut(), pg_sys::InvalidOid);
            pg_sys::ReleaseSysCache(tuple);
            let options = pg_sys::SPIPrepareOptions {
                parserSetup: Some(version::set_up_function_parser),
                parserSetupArg: parameters,
                ..Default::default()
            };
            pg_sys::SPI_prepare_extended(body.as_ptr(), &options)
        };
        Self::kept(plan)
    }
}

/// Collects what a node and the nodes below it name. Of a view only its name is taken: what is below
/// it is the rewritten query of the view.
///
/// # Safety
///
/// `node` is null or a live node; `context` is the place of a [`Named`].
#[pg_guard]
unsafe extern "C-unwind" fn walk(node: *mut pg_sys::Node, context: *mut c_void) -> bool {
    // SAFETY: nodes are live, and of the type that their tags say.
    unsafe {
        let Some(tag) = node.as_ref().map(|node| node.type_) else { return false };
        let named = &mut *context.cast::<Named>();
        match tag {
            pg_sys::NodeTag::T_Query => {
                let query = node.cast::<pg_sys::Query>();
                if !(*query).utilityStmt.is_null() {
                    return false;
                }
                let entries = pgrx::PgList::<pg_sys::RangeTblEntry>::from_pg((*query).rtable);
                for entry in entries.iter_ptr() {
                    let view = match (*entry).rtekind {
                        pg_sys::RTEKind::RTE_RELATION => (*entry).relid,
                        pg_sys::RTEKind::RTE_SUBQUERY => version::view_of(entry),
                        _ => pg_sys::InvalidOid,
                    };
                    if view != pg_sys::InvalidOid {
                        named.relations.insert(view);
                    } else if (*entry).rtekind == pg_sys::RTEKind::RTE_SUBQUERY {
                        version::begin_walk((*entry).subquery.cast(), walk, context);
                    }
                }
                let flags = pg_sys::QTW_IGNORE_RT_SUBQUERIES as i32;
                version::walk_query(query, walk, context, flags)
            }
            _ => {
                pg_sys::check_functions_in_node(node, Some(collect_function), context);
                version::walk_expression(node, walk, context)
            }
        }
    }
}

/// Collects a function. The answer "false" goes on to the next one.
///
/// # Safety
///
/// `context` is the place of a [`Named`].
#[pg_guard]
unsafe extern "C-unwind" fn collect_function(function: pg_sys::Oid, context: *mut c_void) -> bool {
    // SAFETY: as above.
    unsafe { (*context.cast::<Named>()).functions.insert(function) };
    false
}
