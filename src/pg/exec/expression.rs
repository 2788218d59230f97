//! One expression of a user's that becomes a part of our statements: that it is one, and what it uses.

use std::collections::BTreeSet;
use std::ffi::{CString, c_void};

use pgrx::prelude::*;

use crate::error::{Error, Result};
use crate::pg::exec::function::{Function, is_time};
use crate::pg::exec::statement::Prepared;
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};
use crate::pg::system_catalog;
use crate::pg::version;
use segmenter_core::clock_words::is_relative_time;

/// Why an expression does not depend on one row's values alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// What in it is not immutable.
    NotImmutable(String),
    Subquery,
    Aggregate,
    WindowFunction,
    /// A function or an operator that gives several rows.
    ReturnsSet,
    WholeRow,
    /// A domain that a value is cast to, whose checks may call anything.
    Domain(String),
}

/// What an expression uses.
#[derive(Default)]
pub struct Uses {
    /// The columns of the relation that it is about, from 0.
    pub columns: BTreeSet<usize>,
    /// None: it depends on the values of these columns alone.
    pub unfit: Option<Unfit>,
}

/// Checks that a text is one expression: nothing follows it that is no part of it, and all parentheses,
/// quotes and comments are closed in it, except that a comment may end with it.
pub fn check_is_one(text: &str) -> Result<()> {
    let is_one = in_subtransaction(OnSuccess::Commit, || Ok(is_one(text)))
        .map_err(|error| error.in_statement(text))?;
    match is_one {
        true => Ok(()),
        false => Err(Error::Query {
            code: PgSqlErrorCode::ERRCODE_SYNTAX_ERROR,
            problem: "it is not one expression".into(),
            detail: None,
            hint: None,
        }),
    }
}

fn is_one(text: &str) -> bool {
    let Ok(source) = CString::new(text) else { return false };
    // SAFETY: the parser gets a C string that is live during the call, and gives a list of one RawStmt
    // with a SELECT, in the current memory context. An expression is one whose list of results has one
    // expression without a name, and that has no other clause.
    unsafe {
        let mode = pg_sys::RawParseMode::RAW_PARSE_PLPGSQL_EXPR;
        let list = pg_sys::raw_parser(source.as_ptr(), mode);
        let list = pgrx::PgList::<pg_sys::RawStmt>::from_pg(list);
        let Some(raw) = list.get_ptr(0).filter(|_| list.len() == 1) else { return false };
        if (*(*raw).stmt).type_ != pg_sys::NodeTag::T_SelectStmt {
            return false;
        }
        let select = &*(*raw).stmt.cast::<pg_sys::SelectStmt>();
        let has_clause = [
            select.distinctClause,
            select.fromClause,
            select.groupClause,
            select.windowClause,
            select.valuesLists,
            select.sortClause,
            select.lockingClause,
        ]
        .iter()
        .any(|clause| !clause.is_null())
            || [select.whereClause, select.havingClause, select.limitOffset, select.limitCount]
                .iter()
                .any(|clause| !clause.is_null())
            || !select.intoClause.is_null()
            || !select.withClause.is_null()
            || select.op != pg_sys::SetOperation::SETOP_NONE;
        let targets = pgrx::PgList::<pg_sys::ResTarget>::from_pg(select.targetList);
        let target = targets.get_ptr(0).filter(|_| targets.len() == 1);
        !has_clause
            && target
                .is_some_and(|target| (*target).name.is_null() && (*target).indirection.is_null())
    }
}

/// What the first result of a query uses. The query, whose text is `sql`, reads one relation, a subquery.
pub fn uses(query: &Prepared, sql: &str) -> Uses {
    let mut walk = Walk { sql, uses: Uses::default() };
    for query in query.queries() {
        // SAFETY: a live query, whose results are live expressions. The walker reads them, except that
        // it fills in the functions of operators, as the planner would.
        unsafe {
            let targets = pgrx::PgList::<pg_sys::TargetEntry>::from_pg((*query).targetList);
            let Some(target) = targets.get_ptr(0) else { continue };
            let expression = (*target).expr.cast::<pg_sys::Node>();
            visit(expression, std::ptr::from_mut(&mut walk).cast());
            // What no function stands for.
            if walk.uses.unfit.is_none() && pg_sys::contain_mutable_functions(expression) {
                walk.note(Unfit::NotImmutable("an expression in it".into()));
            }
        }
    }
    walk.uses
}

struct Walk<'a> {
    sql: &'a str,
    uses: Uses,
}

impl Walk<'_> {
    fn note(&mut self, unfit: Unfit) {
        self.uses.unfit.get_or_insert(unfit);
    }

    fn note_column(&mut self, var: &pg_sys::Var) {
        match usize::try_from(i32::from(var.varattno) - 1) {
            Ok(column) => drop(self.uses.columns.insert(column)),
            Err(_) => self.note(Unfit::WholeRow),
        }
    }

    fn note_function(&mut self, oid: pg_sys::Oid) {
        if let Some(function) = Function::find(oid).filter(|it| !it.is_immutable()) {
            self.note(Unfit::NotImmutable(format!("function {}()", function.name())));
        }
    }

    /// A word for a time, such as 'now', has become that time already.
    fn note_constant(&mut self, constant: &pg_sys::Const) {
        let at = usize::try_from(constant.location).ok();
        let text = at.and_then(|at| self.sql.get(at..));
        if is_time(constant.consttype) && text.is_some_and(is_relative_time) {
            self.note(Unfit::NotImmutable("a constant such as 'now'".into()));
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
    // SAFETY: the context is the walk that `uses` passes. Each use of it ends before a function is called
    // that uses it, too. A node begins with its tag, which says what it is.
    unsafe {
        let walk = context.cast::<Walk<'_>>();
        let unfit = match (*node).type_ {
            Tag::T_Var => {
                (*walk).note_column(&*node.cast());
                return false;
            }
            Tag::T_Const => {
                (*walk).note_constant(&*node.cast());
                return false;
            }
            Tag::T_SubLink | Tag::T_Query => Some(Unfit::Subquery),
            Tag::T_Aggref | Tag::T_GroupingFunc => Some(Unfit::Aggregate),
            Tag::T_WindowFunc => Some(Unfit::WindowFunction),
            Tag::T_CoerceToDomain => {
                let domain = (*node.cast::<pg_sys::CoerceToDomain>()).resulttype;
                Some(Unfit::Domain(system_catalog::format_type(domain)))
            }
            Tag::T_SQLValueFunction => {
                let name = value_function((*node.cast::<pg_sys::SQLValueFunction>()).op);
                Some(Unfit::NotImmutable(name.into()))
            }
            Tag::T_FuncExpr if (*node.cast::<pg_sys::FuncExpr>()).funcretset => {
                Some(Unfit::ReturnsSet)
            }
            Tag::T_OpExpr if (*node.cast::<pg_sys::OpExpr>()).opretset => Some(Unfit::ReturnsSet),
            _ => None,
        };
        if let Some(unfit) = unfit {
            (*walk).note(unfit);
            return true;
        }
        pg_sys::check_functions_in_node(node, Some(note_function), context);
        version::walk_expression(node, visit, context)
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn note_function(function: pg_sys::Oid, walk: *mut c_void) -> bool {
    // SAFETY: the context that `visit` passes on. It uses it before and after, not meanwhile.
    unsafe { (*walk.cast::<Walk<'_>>()).note_function(function) };
    false
}

/// The name of an SQL value function, of which none is immutable.
fn value_function(op: pg_sys::SQLValueFunctionOp::Type) -> &'static str {
    use pg_sys::SQLValueFunctionOp as Op;
    match op {
        Op::SVFOP_CURRENT_DATE => "current_date",
        Op::SVFOP_CURRENT_TIME | Op::SVFOP_CURRENT_TIME_N => "current_time",
        Op::SVFOP_CURRENT_TIMESTAMP | Op::SVFOP_CURRENT_TIMESTAMP_N => "current_timestamp",
        Op::SVFOP_LOCALTIME | Op::SVFOP_LOCALTIME_N => "localtime",
        Op::SVFOP_LOCALTIMESTAMP | Op::SVFOP_LOCALTIMESTAMP_N => "localtimestamp",
        Op::SVFOP_CURRENT_ROLE => "current_role",
        Op::SVFOP_CURRENT_USER => "current_user",
        Op::SVFOP_USER => "user",
        Op::SVFOP_SESSION_USER => "session_user",
        Op::SVFOP_CURRENT_CATALOG => "current_catalog",
        _ => "current_schema",
    }
}
