//! The segments that a statement names: by a call of the function that gives the members of one, or by a
//! condition on the view of all members. The analysed form of the statement shows them, through its views.

use std::collections::HashSet;
use std::ffi::c_void;

use pgrx::prelude::*;

use crate::pg::exec::function::Function;
use crate::pg::exec::statement::Prepared;
use crate::pg::system_catalog;
use crate::pg::version;

/// What shows the members of segments.
pub struct Readers {
    /// The function that gives the members of the segment in its first argument: its schema and name,
    /// not quoted, since what is quoted depends on a setting.
    pub members: (String, &'static str),
    /// The view of all members, whose first column is the name of the segment.
    pub current: pg_sys::Oid,
}

/// The segments that a statement names.
#[derive(Default)]
pub struct NamedSegments {
    /// Each name, and the view that has it; none: the statement itself.
    pub names: HashSet<(String, Option<pg_sys::Oid>)>,
    /// It reads segments that only its execution tells.
    pub is_open: bool,
}

impl NamedSegments {
    pub fn extend(&mut self, other: Self) {
        self.names.extend(other.names);
        self.is_open |= other.is_open;
    }
}

impl Prepared {
    /// The segments that the statement names.
    pub fn segments(&self, readers: &Readers) -> NamedSegments {
        walk(self.queries(), readers)
    }
}

/// The segments that the body of an SQL function names. A body that cannot be analysed raises PostgreSQL's
/// error.
pub fn of_body(function: pg_sys::Oid, readers: &Readers) -> NamedSegments {
    let Some(function) = Function::find(function).filter(Function::is_sql) else {
        return NamedSegments::default();
    };
    // SAFETY: there is no call whose expression could be given.
    let body = unsafe { function.body(std::ptr::null_mut(), pg_sys::InvalidOid) };
    walk(body.queries, readers)
}

fn walk(queries: Vec<*mut pg_sys::Query>, readers: &Readers) -> NamedSegments {
    let mut walk = Walk {
        readers,
        found: NamedSegments::default(),
        levels: Vec::new(),
        views: Vec::new(),
        all: HashSet::new(),
        limited: HashSet::new(),
    };
    for query in queries {
        // SAFETY: live queries. The walk changes nothing but the function of an operator that is not
        // looked up yet, which the planner sets to the same.
        unsafe { version::begin_walk(query.cast(), visit, (&raw mut walk).cast()) };
    }
    walk.found.is_open |= !walk.all.is_subset(&walk.limited);
    walk.found
}

struct Walk<'a> {
    readers: &'a Readers,
    found: NamedSegments,
    /// The queries that the walk is in, the outermost first.
    levels: Vec<*mut pg_sys::Query>,
    /// The entries of range tables that the walk is in, each with the view that it is in or stands for.
    views: Vec<(*mut pg_sys::RangeTblEntry, Option<pg_sys::Oid>)>,
    /// The entries of the view of all members, and those of them whose segment a condition names.
    all: HashSet<*mut pg_sys::RangeTblEntry>,
    limited: HashSet<*mut pg_sys::RangeTblEntry>,
}

impl Walk<'_> {
    fn view(&self) -> Option<pg_sys::Oid> {
        self.views.last().and_then(|(_, view)| *view)
    }

    fn name(&mut self, name: String) {
        let view = self.view();
        self.found.names.insert((name, view));
    }

    /// The walk comes to an entry of a range table, or leaves it.
    ///
    /// # Safety
    ///
    /// The entry is live.
    unsafe fn pass(&mut self, entry: *mut pg_sys::RangeTblEntry) {
        if self.views.last().is_some_and(|(last, _)| *last == entry) {
            self.views.pop();
            return;
        }
        // SAFETY: as the caller promises.
        let view = unsafe {
            match (*entry).rtekind {
                pg_sys::RTEKind::RTE_SUBQUERY => version::view_of(entry),
                _ => pg_sys::InvalidOid,
            }
        };
        let is_view = view != pg_sys::InvalidOid;
        if is_view && view == self.readers.current {
            self.all.insert(entry);
        }
        self.views.push((entry, if is_view { Some(view) } else { self.view() }));
    }

    /// A call of a function.
    ///
    /// # Safety
    ///
    /// The call is live.
    unsafe fn call(&mut self, call: &pg_sys::FuncExpr) {
        if !system_catalog::is_users(call.funcid)
            || Function::find(call.funcid).is_none_or(|it| {
                let (schema, name) = &self.readers.members;
                !it.is_named(schema, name)
            })
        {
            return;
        }
        // SAFETY: a list of live expressions. Named arguments say their places until the statement is
        // planned.
        let name = unsafe {
            let args = pgrx::PgList::<pg_sys::Node>::from_pg(call.args);
            let first =
                args.iter_ptr().enumerate().find_map(|(place, argument)| match (*argument).type_ {
                    pg_sys::NodeTag::T_NamedArgExpr => {
                        let named = argument.cast::<pg_sys::NamedArgExpr>();
                        ((*named).argnumber == 0).then(|| (*named).arg.cast())
                    }
                    _ => (place == 0).then_some(argument),
                });
            first.map(|first| text_of(first))
        };
        match name {
            Some(Some(name)) => self.name(name),
            // A null is an error where it is executed.
            _ => self.found.is_open = true,
        }
    }

    /// A comparison of two expressions for equality, or of the first with any element of the second.
    ///
    /// # Safety
    ///
    /// The expressions are live.
    unsafe fn comparison(&mut self, args: *mut pg_sys::List, is_any: bool) {
        // SAFETY: as the caller promises.
        unsafe {
            let args = pgrx::PgList::<pg_sys::Node>::from_pg(args);
            let (Some(one), Some(two)) = (args.get_ptr(0), args.get_ptr(1)) else { return };
            let (column, value) = match self.is_segment(one) {
                Some(entry) => (entry, two),
                None => match self.is_segment(two).filter(|_| !is_any) {
                    Some(entry) => (entry, one),
                    None => return,
                },
            };
            let names = if is_any { texts_of(value) } else { text_of(value).map(|it| vec![it]) };
            if let Some(names) = names {
                self.limited.insert(column);
                names.into_iter().for_each(|name| self.name(name));
            }
        }
    }

    /// The entry of the view of all members whose column with the segment's name an expression is.
    ///
    /// # Safety
    ///
    /// The expression is live.
    unsafe fn is_segment(&self, node: *mut pg_sys::Node) -> Option<*mut pg_sys::RangeTblEntry> {
        // SAFETY: as the caller promises; the levels are live queries, whose lists are only read.
        unsafe {
            let node = stripped(node);
            if (*node).type_ != pg_sys::NodeTag::T_Var {
                return None;
            }
            let column = &*node.cast::<pg_sys::Var>();
            let level = self.levels.len().checked_sub(column.varlevelsup as usize + 1)?;
            let query = self.levels[level];
            let entries = pgrx::PgList::<pg_sys::RangeTblEntry>::from_pg((*query).rtable);
            let entry = entries.get_ptr((column.varno as usize).checked_sub(1)?)?;
            let is_subquery = (*entry).rtekind == pg_sys::RTEKind::RTE_SUBQUERY;
            (column.varattno == 1
                && is_subquery
                && self.readers.current != pg_sys::InvalidOid
                && version::view_of(entry) == self.readers.current)
                .then_some(entry)
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
    // SAFETY: the context is the walk that `walk` passes. Each use of it ends before a function is called
    // that uses it, too. A node begins with its tag, which says what it is.
    unsafe {
        let walk = context.cast::<Walk<'_>>();
        match (*node).type_ {
            Tag::T_Query => {
                let flags = pg_sys::QTW_EXAMINE_RTES_BEFORE | pg_sys::QTW_EXAMINE_RTES_AFTER;
                (*walk).levels.push(node.cast());
                let ended = version::walk_query(node.cast(), visit, context, flags as i32);
                (*walk).levels.pop();
                return ended;
            }
            Tag::T_RangeTblEntry => {
                (*walk).pass(node.cast());
                return false;
            }
            Tag::T_FuncExpr => (*walk).call(&*node.cast()),
            Tag::T_OpExpr => {
                let compared = &*node.cast::<pg_sys::OpExpr>();
                if compared.opno.to_u32() == pg_sys::TextEqualOperator {
                    (*walk).comparison(compared.args, false);
                }
            }
            Tag::T_ScalarArrayOpExpr => {
                let compared = &*node.cast::<pg_sys::ScalarArrayOpExpr>();
                if compared.useOr && compared.opno.to_u32() == pg_sys::TextEqualOperator {
                    (*walk).comparison(compared.args, true);
                }
            }
            _ => {}
        }
        version::walk_expression(node, visit, context)
    }
}

/// An expression without casts between types of the same form.
///
/// # Safety
///
/// The expression is live.
unsafe fn stripped(mut node: *mut pg_sys::Node) -> *mut pg_sys::Node {
    // SAFETY: as the caller promises: what it holds is live, too.
    unsafe {
        while (*node).type_ == pg_sys::NodeTag::T_RelabelType {
            node = (*node.cast::<pg_sys::RelabelType>()).arg.cast();
        }
        node
    }
}

/// The value of an expression that is a constant text; none: it is another one, or null.
///
/// # Safety
///
/// The expression is live.
unsafe fn text_of(node: *mut pg_sys::Node) -> Option<String> {
    // SAFETY: as the caller promises; the value of a constant is of its type.
    unsafe {
        let node = stripped(node);
        if (*node).type_ != pg_sys::NodeTag::T_Const {
            return None;
        }
        let constant = &*node.cast::<pg_sys::Const>();
        match constant.consttype {
            pg_sys::TEXTOID | pg_sys::VARCHAROID => {
                String::from_datum(constant.constvalue, constant.constisnull)
            }
            _ => None,
        }
    }
}

/// The elements of an expression that is an array of constant texts.
///
/// # Safety
///
/// The expression is live.
unsafe fn texts_of(node: *mut pg_sys::Node) -> Option<Vec<String>> {
    // SAFETY: as the caller promises; the value of a constant is of its type.
    unsafe {
        let node = stripped(node);
        match (*node).type_ {
            pg_sys::NodeTag::T_ArrayExpr => {
                let elements = (*node.cast::<pg_sys::ArrayExpr>()).elements;
                let elements = pgrx::PgList::<pg_sys::Node>::from_pg(elements);
                elements.iter_ptr().map(|element| text_of(element)).collect()
            }
            pg_sys::NodeTag::T_Const => {
                let constant = &*node.cast::<pg_sys::Const>();
                match constant.consttype {
                    pg_sys::TEXTARRAYOID | pg_sys::VARCHARARRAYOID => {
                        let names = Vec::<Option<String>>::from_datum(
                            constant.constvalue,
                            constant.constisnull,
                        );
                        names.map(|names| names.into_iter().flatten().collect())
                    }
                    _ => None,
                }
            }
            _ => None,
        }
    }
}
