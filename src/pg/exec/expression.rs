//! One expression of a user's that becomes a part of our statements: that it is one, and what it uses.

use std::collections::BTreeSet;
use std::ffi::{CString, c_void};

use pgrx::pg_sys::{F_ANYTEXTCAT, F_TEXTANYCAT};
use pgrx::prelude::*;

use crate::error::{Error, Result};
use crate::pg::exec::function::{Function, is_time};
use crate::pg::exec::statement::Prepared;
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};
use crate::pg::exec::type_parts::{has_mutable_input, is_domain, parts_of};
use crate::pg::system_catalog;
use crate::pg::version;
use segmenter_core::clock_words::is_relative_time;

/// Why an expression does not depend on one row's values alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// What in it is not immutable.
    NotImmutable(String),
    /// The operator || of a text and a value of another type.
    Concatenation(String),
    Subquery,
    Aggregate,
    WindowFunction,
    /// A function or an operator that gives several rows.
    ReturnsSet,
    WholeRow,
    /// A domain, whose checks may call anything, in the type of a value that is made.
    Domain {
        typ: String,
        domain: String,
    },
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
    let mut walk = Walk { sql, uses: Uses::default(), operator: None };
    for query in query.queries() {
        // SAFETY: a live query, whose results are live expressions. The walker reads them, except that
        // it fills in the functions of operators, as the planner would.
        unsafe {
            let targets = pgrx::PgList::<pg_sys::TargetEntry>::from_pg((*query).targetList);
            let Some(target) = targets.get_ptr(0) else { continue };
            let expression = (*target).expr.cast::<pg_sys::Node>();
            version::begin_walk(expression, visit, std::ptr::from_mut(&mut walk).cast());
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
    /// The operator whose function is noted next.
    operator: Option<pg_sys::Oid>,
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
        let Some(function) = Function::find(oid).filter(|it| !it.is_immutable()) else { return };
        let operator = self.operator.map(system_catalog::format_operator);
        self.note(match operator {
            Some(operator) if [F_TEXTANYCAT, F_ANYTEXTCAT].contains(&oid.to_u32()) => {
                Unfit::Concatenation(operator)
            }
            Some(operator) => Unfit::NotImmutable(format!("operator {operator}")),
            None => Unfit::NotImmutable(format!("function {}()", function.name())),
        });
    }

    /// A word for a time, such as 'now', has become that time already.
    fn note_constant(&mut self, constant: &pg_sys::Const) {
        let at = usize::try_from(constant.location).ok();
        let text = at.and_then(|at| self.sql.get(at..));
        let holds_time = || parts_of(constant.consttype).into_iter().any(is_time);
        if text.is_some_and(is_relative_time) && holds_time() {
            self.note(Unfit::NotImmutable("a constant such as 'now'".into()));
        }
    }

    /// A value of a type is made of something else. That of a user's type may call what the user gave it.
    fn note_made(&mut self, typ: pg_sys::Oid) {
        for part in parts_of(typ) {
            if is_domain(part) {
                let [typ, domain] = [typ, part].map(system_catalog::format_type);
                self.note(Unfit::Domain { typ, domain });
            } else if has_mutable_input(part) {
                let typ = system_catalog::format_type(part);
                self.note(Unfit::NotImmutable(format!("the input of type {typ}")));
            }
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
                let constant = &*node.cast::<pg_sys::Const>();
                (*walk).note_constant(constant);
                (*walk).note_made(constant.consttype);
                return false;
            }
            Tag::T_SubLink | Tag::T_Query => Some(Unfit::Subquery),
            Tag::T_Aggref | Tag::T_GroupingFunc => Some(Unfit::Aggregate),
            Tag::T_WindowFunc => Some(Unfit::WindowFunction),
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
        if let Some(typ) = made_type(node) {
            (*walk).note_made(typ);
        }
        (*walk).operator = operator_of(node);
        pg_sys::check_functions_in_node(node, Some(note_function), context);
        version::walk_expression(node, visit, context)
    }
}

/// The operator that a node applies.
///
/// # Safety
///
/// The node is live.
unsafe fn operator_of(node: *mut pg_sys::Node) -> Option<pg_sys::Oid> {
    use pg_sys::NodeTag as Tag;
    // SAFETY: as the caller promises. The tag says what the node is; the nodes of IS DISTINCT FROM and of
    // NULLIF are those of an operator, too.
    unsafe {
        match (*node).type_ {
            Tag::T_OpExpr | Tag::T_DistinctExpr | Tag::T_NullIfExpr => {
                Some((*node.cast::<pg_sys::OpExpr>()).opno)
            }
            Tag::T_ScalarArrayOpExpr => Some((*node.cast::<pg_sys::ScalarArrayOpExpr>()).opno),
            _ => None,
        }
    }
}

/// The type of the value that a node makes of another one, or of several, without a function that it names.
///
/// # Safety
///
/// The node is live.
unsafe fn made_type(node: *mut pg_sys::Node) -> Option<pg_sys::Oid> {
    use pg_sys::NodeTag as Tag;
    // SAFETY: as the caller promises. A node begins with its tag, which says what it is.
    unsafe {
        match (*node).type_ {
            Tag::T_CoerceToDomain => Some((*node.cast::<pg_sys::CoerceToDomain>()).resulttype),
            Tag::T_CoerceViaIO => Some((*node.cast::<pg_sys::CoerceViaIO>()).resulttype),
            Tag::T_ArrayCoerceExpr => Some((*node.cast::<pg_sys::ArrayCoerceExpr>()).resulttype),
            Tag::T_RowExpr => Some((*node.cast::<pg_sys::RowExpr>()).row_typeid),
            _ => version::type_of_json(node),
        }
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
