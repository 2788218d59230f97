//! Joins that Citus plans wrongly: of tables that it distributes with a table that others inherit from,
//! such as the mart. It loses the columns of such a table, and gives too few rows or ends the server
//! (citusdata/citus#8553). In a subquery of its own the table is read as it is.

use std::ffi::c_void;

use pgrx::prelude::*;

use crate::error::{Error, Result};
use crate::pg::exec::statement::Prepared;
use crate::pg::system_catalog;
use crate::pg::version;

impl Prepared {
    /// The error that a user's statement has such a join.
    pub(super) fn check_joins(&self) -> Result<()> {
        let distributed = system_catalog::distributed(&self.relations());
        if distributed.is_empty() {
            return Ok(());
        }
        let mut search = Search { distributed, ..Search::default() };
        for query in self.queries() {
            search.within(query.cast());
        }
        let Some((parent, table)) = search.found else { return Ok(()) };
        let parent = system_catalog::display_name(parent);
        let problem = match table.map(system_catalog::display_name) {
            Some(table) => {
                format!("the query joins {parent} with {table}, which Citus distributes")
            }
            None => format!(
                "the query joins {parent} with a query in WITH, and reads tables that Citus distributes"
            ),
        };
        let detail = format!(
            "Other tables inherit from {parent}. Citus loses rows of such a join, or ends the server."
        );
        let hint = format!(
            "Read what is needed of it first, and join that: with m as materialized (select ... from {parent} where ...)."
        );
        Err(Error::Query {
            code: PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            problem,
            detail: Some(detail),
            hint: Some(hint),
        })
    }
}

#[derive(Default)]
struct Search {
    distributed: Vec<pg_sys::Oid>,
    /// A distributed table that the query reads that was searched last, or one below it.
    below: Option<pg_sys::Oid>,
    /// Such a join: the table that others inherit from, and a distributed one; none: of an outer query.
    found: Option<(pg_sys::Oid, Option<pg_sys::Oid>)>,
}

impl Search {
    fn within(&mut self, node: *mut pg_sys::Node) {
        // SAFETY: a query of a live plan. The walk changes nothing in it.
        unsafe { version::begin_walk(node, visit, std::ptr::from_mut(self).cast()) };
    }

    /// Looks at what a query joins; `below` is what the queries in it read.
    ///
    /// # Safety
    ///
    /// The query is live.
    unsafe fn note_query(&mut self, query: &pg_sys::Query) {
        // SAFETY: a list of live entries.
        let entries = unsafe { pgrx::PgList::<pg_sys::RangeTblEntry>::from_pg(query.rtable) };
        let (mut parent, mut reads_outer) = (None, false);
        for entry in entries.iter_ptr() {
            // SAFETY: as above.
            let entry = unsafe { &*entry };
            match entry.rtekind {
                pg_sys::RTEKind::RTE_RELATION if self.distributed.contains(&entry.relid) => {
                    self.below = Some(entry.relid);
                }
                pg_sys::RTEKind::RTE_RELATION if entry.inh => {
                    let table = Some(entry.relid);
                    parent = parent.or(table.filter(|table| system_catalog::has_children(*table)));
                }
                // A query in WITH, of which it is not known here what it reads.
                pg_sys::RTEKind::RTE_CTE => reads_outer |= entry.ctelevelsup > 0,
                _ => {}
            }
        }
        if let Some(parent) = parent
            && (self.below.is_some() || reads_outer)
        {
            self.found.get_or_insert((parent, self.below));
        }
    }
}

/// Visits a node and what is below it.
///
/// # Safety
///
/// `node` is null or a live node; `context` is a search.
#[pg_guard]
unsafe extern "C-unwind" fn visit(node: *mut pg_sys::Node, context: *mut c_void) -> bool {
    // SAFETY: nodes are live, and of the type that their tags say. Each use of the search ends before a
    // function is called that uses it, too.
    unsafe {
        match node.as_ref().map(|node| node.type_) {
            None => false,
            Some(pg_sys::NodeTag::T_Query) => {
                let search = context.cast::<Search>();
                let beside = (*search).below.take();
                version::walk_query(node.cast(), visit, context, 0);
                (*search).note_query(&*node.cast());
                (*search).below = (*search).below.or(beside);
                false
            }
            Some(_) => version::walk_expression(node, visit, context),
        }
    }
}
