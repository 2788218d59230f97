//! What a query depends on, as its analysed form shows: the tables that it reads, the clock, and time
//! zones. Views are open in it, as the rewriter has put them in. The bodies of SQL functions are
//! analysed as well.

use std::collections::BTreeSet;
use std::ffi::c_void;

use pgrx::prelude::*;

use crate::error::Result;
use crate::pg::exec::function::{Function, is_time};
use crate::pg::exec::statement::Prepared;
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};
use crate::pg::version;
use segmenter_core::clock_words::is_relative_time;

/// What a query depends on.
#[derive(Default)]
pub struct Analysis {
    /// The tables, materialized views and foreign tables that it reads.
    pub tables: BTreeSet<u32>,
    /// What it has the time from, for messages; none: it does not depend on the clock.
    pub clock: Option<String>,
    /// Whether it compares one of its times, its parameters, with a value without a time zone.
    pub is_zoneless: bool,
}

impl Analysis {
    /// Analyses a query whose text is `sql`, and whose parameters are times.
    pub fn of(query: &Prepared, sql: &str) -> Self {
        let scope = Scope { text: Some(sql.to_owned()), ..Scope::default() };
        let mut walk = Walk { scope, ..Walk::default() };
        walk.queries(query.queries());
        // A body is opened after the walk that has found the call: an error in it unwinds no C code.
        while let Some(call) = walk.calls.pop() {
            pgrx::check_for_interrupts!();
            if !walk.opened.insert((call.function.to_u32(), call.times.clone())) {
                continue;
            }
            walk.open(&call);
        }
        walk.found
    }
}

/// A call of an SQL function that was found.
struct Call {
    function: pg_sys::Oid,
    /// The node, or null.
    node: *mut pg_sys::Node,
    collation: pg_sys::Oid,
    /// The arguments that hold one of the query's times, from 1.
    times: Vec<i32>,
    /// The function that is called first, for messages.
    through: String,
}

/// The query, or the body of a function, that is being walked.
#[derive(Default)]
struct Scope {
    /// The text that locations refer to.
    text: Option<String>,
    is_call: bool,
    times: Vec<i32>,
    through: Option<String>,
}

impl Scope {
    /// Whether a parameter is one of the query's times. All parameters of the query are.
    fn is_time(&self, param: &pg_sys::Param) -> bool {
        param.paramkind == pg_sys::ParamKind::PARAM_EXTERN
            && (!self.is_call || self.times.contains(&param.paramid))
    }
}

#[derive(Default)]
struct Walk {
    found: Analysis,
    scope: Scope,
    /// The queries that the walk is in, the outermost first: columns refer to their entries.
    levels: Vec<*mut pg_sys::Query>,
    calls: Vec<Call>,
    opened: BTreeSet<(u32, Vec<i32>)>,
}

impl Walk {
    /// Walks analysed queries.
    fn queries(&mut self, queries: Vec<*mut pg_sys::Query>) {
        for query in queries {
            // SAFETY: a live query. The walker reads it, except that it fills in the functions of
            // operators, as the planner would.
            unsafe { version::begin_walk(query.cast(), visit, std::ptr::from_mut(self).cast()) };
        }
    }

    /// Analyses the body of an SQL function. One that cannot be analysed is judged by its signature.
    fn open(&mut self, call: &Call) {
        let function = Function::find(call.function);
        self.scope = Scope {
            text: None,
            is_call: true,
            times: call.times.clone(),
            through: Some(call.through.clone()),
        };
        let body = in_subtransaction(OnSuccess::Commit, || -> Result<_> {
            let function = Function::find(call.function);
            // SAFETY: the node is live, or null: it belongs to a query that is.
            Ok(function.map(|it| unsafe { it.body(call.node, call.collation) }))
        });
        match body {
            Ok(Some(body)) => {
                self.scope.text = body.text;
                self.queries(body.queries);
            }
            _ => {
                if function.is_some_and(|it| it.may_read_clock()) {
                    let name = call.through.clone();
                    self.found.clock.get_or_insert(name);
                }
            }
        }
    }

    fn note_clock(&mut self, name: String) {
        if self.found.clock.is_none() {
            self.found.clock = Some(match &self.scope.through {
                Some(function) => format!("{name} in {function}"),
                None => name,
            });
        }
    }

    /// A function that a node calls.
    fn note_function(&mut self, oid: pg_sys::Oid, call: Option<&pg_sys::FuncExpr>) {
        let Some(function) = Function::find(oid) else { return };
        if !function.is_sql() {
            if function.may_read_clock() {
                self.note_clock(format!("{}()", function.name()));
            }
            return;
        }
        let through = self.scope.through.clone();
        let through = through.unwrap_or_else(|| format!("{}()", function.name()));
        let mut times = Vec::new();
        if let Some(call) = call {
            // SAFETY: a list of live expressions.
            let args = unsafe { pgrx::PgList::<pg_sys::Node>::from_pg(call.args) };
            for (number, argument) in (1..).zip(args.iter_ptr()) {
                if self.holds_time(argument) {
                    times.push(number);
                }
            }
        }
        self.calls.push(Call {
            function: oid,
            node: call.map_or(std::ptr::null_mut(), |call| {
                std::ptr::from_ref(call).cast_mut().cast::<pg_sys::Node>()
            }),
            collation: call.map_or(pg_sys::InvalidOid, |call| call.inputcollid),
            times,
            through,
        });
    }

    /// Whether one of the query's times occurs in an expression.
    fn holds_time(&self, node: *mut pg_sys::Node) -> bool {
        self.search(node).time
    }

    /// Whether an expression compares one of the query's times with a value without a zone, so that
    /// the zone of the session decides.
    fn is_zoneless(&self, node: *mut pg_sys::Node) -> bool {
        let search = self.search(node);
        search.time && search.conversion
    }

    fn search(&self, node: *mut pg_sys::Node) -> Search<'_> {
        let levels = self.levels.clone();
        let mut search =
            Search { scope: &self.scope, levels, followed: 0, time: false, conversion: false };
        // SAFETY: a live node.
        unsafe { version::begin_walk(node, find, std::ptr::from_mut(&mut search).cast()) };
        search
    }

    /// A constant that was written as a word for a time, such as 'now', has become that time already.
    fn note_constant(&mut self, constant: &pg_sys::Const) {
        let text = self.scope.text.as_deref();
        let at = usize::try_from(constant.location).ok();
        let is_relative = is_time(constant.consttype)
            && text.zip(at).and_then(|(text, at)| text.get(at..)).is_some_and(is_relative_time);
        if is_relative {
            self.note_clock("a constant such as 'now'".to_owned());
        }
    }

    /// Views are among the entries, beside the queries that they stand for.
    fn note_entry(&mut self, entry: &pg_sys::RangeTblEntry) {
        let is_view = entry.relkind as u8 == pg_sys::RELKIND_VIEW;
        if entry.rtekind == pg_sys::RTEKind::RTE_RELATION && !is_view {
            self.found.tables.insert(entry.relid.to_u32());
        }
    }
}

/// Visits a node and what is below it.
#[pg_guard]
unsafe extern "C-unwind" fn visit(node: *mut pg_sys::Node, context: *mut c_void) -> bool {
    use pg_sys::NodeTag as Tag;
    if node.is_null() {
        return false;
    }
    // SAFETY: the context is the walk that `Walk::queries` passes. Each use of it ends before a function
    // is called that uses it, too. A node begins with its tag, which says what it is.
    unsafe {
        let walk = context.cast::<Walk>();
        match (*node).type_ {
            Tag::T_Query => {
                let flags = pg_sys::QTW_EXAMINE_RTES_BEFORE as i32;
                (*walk).levels.push(node.cast());
                let ended = version::walk_query(node.cast(), visit, context, flags);
                (*walk).levels.pop();
                return ended;
            }
            Tag::T_RangeTblEntry => {
                (*walk).note_entry(&*node.cast());
                return false;
            }
            Tag::T_SQLValueFunction => {
                let op = (*node.cast::<pg_sys::SQLValueFunction>()).op;
                value_function(op).into_iter().for_each(|name| (*walk).note_clock(name.into()));
            }
            Tag::T_Const => (*walk).note_constant(&*node.cast()),
            Tag::T_FuncExpr => {
                let call = &*node.cast::<pg_sys::FuncExpr>();
                (*walk).note_function(call.funcid, Some(call));
            }
            _ => {
                pg_sys::check_functions_in_node(node, Some(note_function), context);
            }
        }
        let is_comparison = match (*node).type_ {
            Tag::T_FuncExpr => (*node.cast::<pg_sys::FuncExpr>()).funcresulttype == pg_sys::BOOLOID,
            Tag::T_OpExpr => (*node.cast::<pg_sys::OpExpr>()).opresulttype == pg_sys::BOOLOID,
            Tag::T_DistinctExpr
            | Tag::T_NullIfExpr
            | Tag::T_ScalarArrayOpExpr
            | Tag::T_RowCompareExpr => true,
            _ => false,
        };
        if is_comparison {
            let is_zoneless = (*walk).is_zoneless(node);
            (*walk).found.is_zoneless |= is_zoneless;
        }
        version::walk_expression(node, visit, context)
    }
}

/// Notes a function that a node other than a call uses.
#[pg_guard]
unsafe extern "C-unwind" fn note_function(function: pg_sys::Oid, walk: *mut c_void) -> bool {
    // SAFETY: the context that `visit` passes on. It uses it before and after, not meanwhile.
    unsafe { (*walk.cast::<Walk>()).note_function(function, None) };
    false
}

/// How often a search follows a column to the expression that it stands for.
const MOST_FOLLOWED: u32 = 1000;

/// A search within an expression, and within the expressions that its columns stand for.
struct Search<'a> {
    scope: &'a Scope,
    /// The queries that the expression is in, the outermost first.
    levels: Vec<*mut pg_sys::Query>,
    /// The number of columns that were followed.
    followed: u32,
    /// Whether one of the query's times occurs in it.
    time: bool,
    /// Whether it brings together a time with a zone and one without.
    conversion: bool,
}

/// An expression, and the queries that it is in.
type Origin = (*mut pg_sys::Node, Vec<*mut pg_sys::Query>);

impl Search<'_> {
    /// The expressions that a column stands for: of a subquery, a WITH, a list of values, a join. A column
    /// of a table stands for none.
    ///
    /// # Safety
    ///
    /// The queries of `levels` are live.
    unsafe fn origins(&mut self, var: &pg_sys::Var) -> Vec<Origin> {
        let above = var.varlevelsup as usize;
        if self.followed >= MOST_FOLLOWED || above >= self.levels.len() || var.varattno < 1 {
            return Vec::new();
        }
        self.followed += 1;
        let levels = self.levels[..self.levels.len() - above].to_vec();
        let (place, column) = ((var.varno as usize).checked_sub(1), var.varattno as usize - 1);
        // SAFETY: lists of live queries, which are only read; their elements are of the types that the
        // kind of the entry says.
        unsafe {
            let query = &**levels.last().unwrap_unchecked();
            let entries = pgrx::PgList::<pg_sys::RangeTblEntry>::from_pg(query.rtable);
            let Some(entry) = place.and_then(|place| entries.get_ptr(place)) else {
                return Vec::new();
            };
            let entry = &*entry;
            match entry.rtekind {
                pg_sys::RTEKind::RTE_SUBQUERY => of_target(entry.subquery, column, levels),
                pg_sys::RTEKind::RTE_CTE => {
                    let up = entry.ctelevelsup as usize;
                    let Some(depth) = levels.len().checked_sub(up).filter(|depth| *depth > 0)
                    else {
                        return Vec::new();
                    };
                    let levels = levels[..depth].to_vec();
                    let owner = &**levels.last().unwrap_unchecked();
                    let parts = pgrx::PgList::<pg_sys::CommonTableExpr>::from_pg(owner.cteList);
                    let name = std::ffi::CStr::from_ptr(entry.ctename);
                    let found = parts
                        .iter_ptr()
                        .find(|part| std::ffi::CStr::from_ptr((**part).ctename) == name);
                    let query = found.map_or(std::ptr::null_mut(), |part| (*part).ctequery.cast());
                    of_target(query, column, levels)
                }
                pg_sys::RTEKind::RTE_VALUES => {
                    let rows = pgrx::PgList::<pg_sys::List>::from_pg(entry.values_lists);
                    let values = rows.iter_ptr().filter_map(|row| {
                        pgrx::PgList::<pg_sys::Node>::from_pg(row).get_ptr(column)
                    });
                    values.map(|value| (value, levels.clone())).collect()
                }
                pg_sys::RTEKind::RTE_JOIN => {
                    let aliases = pgrx::PgList::<pg_sys::Node>::from_pg(entry.joinaliasvars);
                    aliases.get_ptr(column).map(|alias| (alias, levels)).into_iter().collect()
                }
                _ => Vec::new(),
            }
        }
    }
}

/// The expression of a query's result column, from 0, within the queries `levels` that it is in.
///
/// # Safety
///
/// The query is live, or null.
unsafe fn of_target(
    query: *mut pg_sys::Query,
    column: usize,
    mut levels: Vec<*mut pg_sys::Query>,
) -> Vec<Origin> {
    // SAFETY: as the caller promises; the list is only read.
    unsafe {
        let Some(found) = query.as_ref() else { return Vec::new() };
        let targets = pgrx::PgList::<pg_sys::TargetEntry>::from_pg(found.targetList);
        let Some(target) = targets.get_ptr(column) else { return Vec::new() };
        levels.push(query);
        vec![((*target).expr.cast(), levels)]
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn find(node: *mut pg_sys::Node, context: *mut c_void) -> bool {
    use pg_sys::NodeTag as Tag;
    if node.is_null() {
        return false;
    }
    // SAFETY: the context is the search that the methods of `Walk` pass. Each use of it ends before a
    // function is called that uses it, too.
    unsafe {
        let search = context.cast::<Search<'_>>();
        match (*node).type_ {
            Tag::T_Query => {
                (*search).levels.push(node.cast());
                let ended = version::walk_query(node.cast(), find, context, 0);
                (*search).levels.pop();
                return ended;
            }
            Tag::T_Param => (*search).time |= (*search).scope.is_time(&*node.cast()),
            Tag::T_Var => {
                let origins = (*search).origins(&*node.cast());
                for (origin, levels) in origins {
                    let outer = std::mem::replace(&mut (*search).levels, levels);
                    version::begin_walk(origin, find, context);
                    (*search).levels = outer;
                }
                return false;
            }
            _ => {
                pg_sys::check_functions_in_node(node, Some(find_conversion), context);
            }
        }
        version::walk_expression(node, find, context)
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn find_conversion(function: pg_sys::Oid, search: *mut c_void) -> bool {
    let is_conversion = Function::find(function).is_some_and(|it| it.depends_on_zone());
    // SAFETY: the context that `find` passes on. It uses it before and after, not meanwhile.
    unsafe { (*search.cast::<Search<'_>>()).conversion |= is_conversion };
    false
}

/// The name of an SQL value function that depends on the clock.
fn value_function(op: pg_sys::SQLValueFunctionOp::Type) -> Option<&'static str> {
    use pg_sys::SQLValueFunctionOp as Op;
    match op {
        Op::SVFOP_CURRENT_DATE => Some("current_date"),
        Op::SVFOP_CURRENT_TIME | Op::SVFOP_CURRENT_TIME_N => Some("current_time"),
        Op::SVFOP_CURRENT_TIMESTAMP | Op::SVFOP_CURRENT_TIMESTAMP_N => Some("current_timestamp"),
        Op::SVFOP_LOCALTIME | Op::SVFOP_LOCALTIME_N => Some("localtime"),
        Op::SVFOP_LOCALTIMESTAMP | Op::SVFOP_LOCALTIMESTAMP_N => Some("localtimestamp"),
        _ => None,
    }
}
