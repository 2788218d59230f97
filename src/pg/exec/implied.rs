//! Joins that change nothing: a query joins a relation of the SPI connection, by equality, with a column of
//! a table, and the relation has all values of that column, each once. Such a join is taken out of the
//! query when it is analysed. What is left is planned like any other query: in parallel, and with
//! statistics.
//!
//! The relation is taken out where
//!
//! - it is joined by inner joins only, and one of their conditions, or of those of WHERE, is
//!   `relation.id = column` by the type's own equality. The column may be one of an outer query, too. The
//!   relation's id becomes the column, and the condition `column = column`: it drops rows where the
//!   column is null, as the join does;
//! - it is all of the subquery in such a condition `column in (select id from relation)`, which becomes
//!   `column is not null`.

use std::cell::RefCell;
use std::ffi::{CStr, c_int, c_void};
use std::rc::Rc;
use std::sync::OnceLock;

use pgrx::prelude::*;

use crate::error::Result;
use crate::pg::exec::statement::Prepared;
use crate::pg::version;

/// A relation of the SPI connection with one column, and the columns of tables all of whose values it
/// stands for.
pub struct Implied {
    pub name: &'static CStr,
    /// Tables, and the numbers of their columns.
    pub columns: Vec<(pg_sys::Oid, i16)>,
}

/// What is done to queries that are analysed now.
#[derive(Clone)]
struct Task {
    implied: Rc<Implied>,
    /// A query that it cannot be taken out of is an error: its rows are not there.
    is_required: bool,
}

thread_local! {
    static TASK: RefCell<Option<Task>> = const { RefCell::new(None) };
}

/// What other libraries do after the analysis of a statement.
static NEXT: OnceLock<pg_sys::post_parse_analyze_hook_type> = OnceLock::new();

impl Implied {
    /// A query of a user without the relation, which the SPI connection has with its column; none: it
    /// cannot be taken out.
    pub fn taken_out(self: &Rc<Self>, sql: &str) -> Result<Option<Prepared>> {
        let query = self.during(false, || Prepared::of_user(sql, &[]))?;
        let mut search = Search::of(Rc::clone(self));
        let is_read = query.queries().into_iter().any(|query| {
            search.begin(query);
            search.reads_it || search.found.is_some()
        });
        Ok((!is_read).then_some(query))
    }

    /// Takes the relation out of all queries that `body` runs. One that it cannot be taken out of is an
    /// error.
    pub fn take_out<T>(self: &Rc<Self>, body: impl FnOnce() -> Result<T>) -> Result<T> {
        self.during(true, body)
    }

    fn during<T>(
        self: &Rc<Self>,
        is_required: bool,
        body: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        struct Scope(Option<Task>);
        impl Drop for Scope {
            fn drop(&mut self) {
                TASK.with(|task| task.replace(self.0.take()));
            }
        }
        install();
        let task = Task { implied: Rc::clone(self), is_required };
        let _scope = Scope(TASK.with(|current| current.replace(Some(task))));
        body()
    }
}

/// Installs the hook, once in a process.
fn install() {
    NEXT.get_or_init(|| {
        // SAFETY: a variable of this process's only thread.
        unsafe { (&raw mut pg_sys::post_parse_analyze_hook).replace(Some(analysed)) }
    });
}

/// PostgreSQL calls this for each statement that it has analysed, before views are opened.
///
/// # Safety
///
/// As a hook of the parser.
#[pg_guard]
#[expect(ffi_unwind_calls, reason = "within a guard")]
unsafe extern "C-unwind" fn analysed(
    state: *mut pg_sys::ParseState,
    query: *mut pg_sys::Query,
    jumble: *mut pg_sys::JumbleState,
) {
    if let Some(Some(next)) = NEXT.get() {
        // SAFETY: the arguments are passed on.
        unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| next(state, query, jumble)) };
    }
    let Some(task) = TASK.with(|task| task.borrow().clone()) else { return };
    let mut search = Search::of(task.implied);
    loop {
        search.begin(query);
        let Some(found) = search.found.take() else { break };
        // SAFETY: the search has found it in this query, which is live and analysed only.
        unsafe { found.take_out() };
    }
    if search.reads_it && task.is_required {
        ereport!(
            ERROR,
            PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE,
            "a table or a query was altered while it was read",
            "Refresh the segment again."
        );
    }
}

/// A place where the relation can be taken out.
enum Place {
    /// An entry of a query's range table, from 1, that is joined with a column.
    Entry { query: *mut pg_sys::Query, entry: c_int, column: *mut pg_sys::Var },
    /// A condition that a column is in the relation.
    Condition { sublink: *mut pg_sys::SubLink, column: *mut pg_sys::Var },
}

impl Place {
    /// Takes the relation out.
    ///
    /// # Safety
    ///
    /// The nodes are live and belong to one query, which is analysed and not rewritten yet.
    unsafe fn take_out(self) {
        // SAFETY: as the caller promises. New nodes are made in the current memory context, in which the
        // parser has made those of the query.
        unsafe {
            match self {
                Place::Entry { query, entry, column } => {
                    let target = pg_sys::makeTargetEntry(
                        pg_sys::copyObjectImpl(column.cast()).cast(),
                        1,
                        std::ptr::null_mut(),
                        false,
                    );
                    let mut targets = pgrx::PgList::<pg_sys::TargetEntry>::new();
                    targets.push(target);
                    let of = (entry, entry_of(query, entry));
                    let replaced = version::replace_columns(query, of, targets.into_pg());
                    query.copy_from_nonoverlapping(replaced, 1);
                    // A relation with one row and no column, which the planner joins with nothing.
                    (*entry_of(query, entry)).rtekind = pg_sys::RTEKind::RTE_RESULT;
                }
                Place::Condition { sublink, column } => {
                    let test = pg_sys::NullTest {
                        xpr: pg_sys::Expr { type_: pg_sys::NodeTag::T_NullTest },
                        arg: column.cast(),
                        nulltesttype: pg_sys::NullTestType::IS_NOT_NULL,
                        argisrow: false,
                        location: -1,
                    };
                    // The node is smaller, and takes the other one's place.
                    const { assert!(size_of::<pg_sys::NullTest>() <= size_of::<pg_sys::SubLink>()) };
                    sublink.cast::<pg_sys::NullTest>().write(test);
                }
            }
        }
    }
}

/// An entry of a query's range table, from 1.
///
/// # Safety
///
/// The query is live, and has the entry.
unsafe fn entry_of(query: *mut pg_sys::Query, entry: c_int) -> *mut pg_sys::RangeTblEntry {
    // SAFETY: as the caller promises; the list is only read.
    unsafe {
        let entries = pgrx::PgList::<pg_sys::RangeTblEntry>::from_pg((*query).rtable);
        entries.get_ptr(entry as usize - 1).unwrap_or(std::ptr::null_mut())
    }
}

/// The elements of a list of nodes.
///
/// # Safety
///
/// A live list, or null.
unsafe fn elements(list: *mut pg_sys::List) -> Vec<*mut pg_sys::Node> {
    // SAFETY: as the caller promises; the list is only read.
    unsafe { pgrx::PgList::<pg_sys::Node>::from_pg(list).iter_ptr().collect() }
}

/// The conditions that a condition connects by AND.
///
/// # Safety
///
/// A live node, or null.
unsafe fn conditions(quals: *mut pg_sys::Node) -> Vec<*mut pg_sys::Node> {
    // SAFETY: as the caller promises. The tag says what a node is.
    unsafe {
        match quals.as_ref().map(|node| node.type_) {
            None => Vec::new(),
            Some(pg_sys::NodeTag::T_BoolExpr)
                if (*quals.cast::<pg_sys::BoolExpr>()).boolop == pg_sys::BoolExprType::AND_EXPR =>
            {
                let parts = elements((*quals.cast::<pg_sys::BoolExpr>()).args);
                parts.into_iter().flat_map(|part| conditions(part)).collect()
            }
            Some(_) => vec![quals],
        }
    }
}

/// The column that an expression is, apart from a cast that keeps the bytes.
///
/// # Safety
///
/// A live node, or null.
unsafe fn column_of(mut node: *mut pg_sys::Node) -> Option<*mut pg_sys::Var> {
    // SAFETY: as the caller promises. The tag says what a node is.
    unsafe {
        loop {
            match node.as_ref()?.type_ {
                pg_sys::NodeTag::T_Var => return Some(node.cast()),
                pg_sys::NodeTag::T_RelabelType => {
                    node = (*node.cast::<pg_sys::RelabelType>()).arg.cast();
                }
                _ => return None,
            }
        }
    }
}

/// Both sides of a condition that is an equality of the type `of`, which compares bytes.
///
/// # Safety
///
/// A live node, or null.
unsafe fn sides_of_equality(
    node: *mut pg_sys::Node,
    of: pg_sys::Oid,
) -> Option<[*mut pg_sys::Node; 2]> {
    // SAFETY: as the caller promises. The tag says what a node is. The cache has an entry for each type
    // of a column, which stays; a collation that a condition has exists.
    unsafe {
        if node.as_ref()?.type_ != pg_sys::NodeTag::T_OpExpr {
            return None;
        }
        let condition = &*node.cast::<pg_sys::OpExpr>();
        let equality = (*pg_sys::lookup_type_cache(of, pg_sys::TYPECACHE_EQ_OPR as c_int)).eq_opr;
        let collation = condition.inputcollid;
        let is_equality = condition.opno == equality
            && (collation == pg_sys::InvalidOid
                || pg_sys::get_collation_isdeterministic(collation));
        let sides = elements(condition.args);
        is_equality.then(|| sides.try_into().ok()).flatten()
    }
}

/// What is known of the relation's entry below a node of the tree of joins.
enum Joined {
    /// It is not there.
    Absent,
    /// It is joined by inner joins, with no condition on it.
    Freely,
    /// It is joined with this column.
    With(*mut pg_sys::Var),
    /// It cannot be taken out.
    Otherwise,
}

/// The search for the relation in a query.
struct Search {
    implied: Rc<Implied>,
    /// The queries that the search is in, the outermost first.
    levels: Vec<*mut pg_sys::Query>,
    found: Option<Place>,
    /// Whether the relation is there in a place where it cannot be taken out.
    reads_it: bool,
}

impl Search {
    fn of(implied: Rc<Implied>) -> Self {
        Self { implied, levels: Vec::new(), found: None, reads_it: false }
    }

    /// Searches a query up to the first place where the relation can be taken out.
    fn begin(&mut self, query: *mut pg_sys::Query) {
        self.levels.clear();
        self.reads_it = false;
        // SAFETY: a live query; the walk reads it.
        unsafe { version::begin_walk(query.cast(), visit, std::ptr::from_mut(self).cast()) };
    }

    /// Whether an entry of a range table is the relation.
    ///
    /// # Safety
    ///
    /// The entry is live.
    unsafe fn is_it(&self, entry: *mut pg_sys::RangeTblEntry) -> bool {
        // SAFETY: as the caller promises. Such an entry has a name, a C string.
        unsafe {
            (*entry).rtekind == pg_sys::RTEKind::RTE_NAMEDTUPLESTORE
                && CStr::from_ptr((*entry).enrname) == self.implied.name
        }
    }

    /// Looks for the relation in the last one of `levels`.
    ///
    /// # Safety
    ///
    /// The queries of `levels` are live.
    unsafe fn look(&mut self) {
        let Some(&query) = self.levels.last() else { return };
        // SAFETY: as the caller promises; an analysed query has a tree of joins, and entries for all
        // places in it.
        unsafe {
            let mut quals = Vec::new();
            inner_conditions((*query).jointree.cast(), &mut quals);
            for condition in quals {
                if let Some(place) = self.find_condition(query, condition) {
                    self.found = Some(place);
                    return;
                }
            }
            for (number, entry) in (1..).zip(elements((*query).rtable)) {
                if !self.is_it(entry.cast()) {
                    continue;
                }
                match self.joined(query, (*query).jointree.cast(), number) {
                    // The columns of grouping sets are told apart.
                    Joined::With(column) if (*query).groupingSets.is_null() => {
                        self.found = Some(Place::Entry { query, entry: number, column });
                        return;
                    }
                    _ => self.reads_it = true,
                }
            }
        }
    }

    /// The condition that a column is in the relation, if it is one.
    ///
    /// # Safety
    ///
    /// Live nodes.
    unsafe fn find_condition(
        &self,
        query: *mut pg_sys::Query,
        node: *mut pg_sys::Node,
    ) -> Option<Place> {
        // SAFETY: as the caller promises. The tag says what a node is.
        unsafe {
            if (*node).type_ != pg_sys::NodeTag::T_SubLink {
                return None;
            }
            let sublink = node.cast::<pg_sys::SubLink>();
            if (*sublink).subLinkType != pg_sys::SubLinkType::ANY_SUBLINK {
                return None;
            }
            let inner = (*sublink).subselect.cast::<pg_sys::Query>();
            let targets = elements((*inner).targetList);
            let [target] = targets.as_slice() else { return None };
            let id = column_of((*target.cast::<pg_sys::TargetEntry>()).expr.cast())?;
            let [from] = elements((*(*inner).jointree).fromlist)[..] else { return None };
            let is_all = (*from).type_ == pg_sys::NodeTag::T_RangeTblRef
                && (*from.cast::<pg_sys::RangeTblRef>()).rtindex == (*id).varno
                && (*id).varlevelsup == 0
                && (*(*inner).jointree).quals.is_null()
                && (*inner).groupClause.is_null()
                && (*inner).groupingSets.is_null()
                && (*inner).havingQual.is_null()
                && (*inner).distinctClause.is_null()
                && (*inner).limitOffset.is_null()
                && (*inner).limitCount.is_null()
                && (*inner).setOperations.is_null();
            if !is_all || !self.is_it(entry_of(inner, (*id).varno)) {
                return None;
            }
            let [left, _] = sides_of_equality((*sublink).testexpr, (*id).vartype)?;
            let column = column_of(left)?;
            let levels = self.levels.as_slice();
            let is_implied = self.is_implied(levels, query, column, (*id).vartype);
            is_implied.then_some(Place::Condition { sublink, column })
        }
    }

    /// How the entry `number` is joined below a node of the tree of joins.
    ///
    /// # Safety
    ///
    /// A live query, which has the entry, and a node of its tree.
    unsafe fn joined(
        &self,
        query: *mut pg_sys::Query,
        node: *mut pg_sys::Node,
        number: c_int,
    ) -> Joined {
        use pg_sys::JoinType as Type;
        // SAFETY: as the caller promises. The tag says what a node is.
        unsafe {
            let (below, quals) = match (*node).type_ {
                pg_sys::NodeTag::T_RangeTblRef => {
                    let is_it = (*node.cast::<pg_sys::RangeTblRef>()).rtindex == number;
                    return if is_it { Joined::Freely } else { Joined::Absent };
                }
                pg_sys::NodeTag::T_FromExpr => {
                    let from = node.cast::<pg_sys::FromExpr>();
                    (elements((*from).fromlist), (*from).quals)
                }
                pg_sys::NodeTag::T_JoinExpr => {
                    let join = node.cast::<pg_sys::JoinExpr>();
                    let (left, right) = ((*join).larg, (*join).rarg);
                    let kept = match (*join).jointype {
                        Type::JOIN_INNER => None,
                        Type::JOIN_LEFT => Some((left, right)),
                        Type::JOIN_RIGHT => Some((right, left)),
                        _ => return self.joined_in_any(query, &[left, right], number),
                    };
                    match kept {
                        None => (vec![left, right], (*join).quals),
                        // The side whose rows are all kept may have been joined with a column.
                        Some((kept, other)) => {
                            return match self.joined(query, kept, number) {
                                Joined::Absent => self.joined_in_any(query, &[other], number),
                                with @ Joined::With(_) => with,
                                _ => Joined::Otherwise,
                            };
                        }
                    }
                }
                _ => return Joined::Otherwise,
            };
            let mut is_below = false;
            for node in below {
                match self.joined(query, node, number) {
                    Joined::Absent => {}
                    Joined::Freely => is_below = true,
                    other => return other,
                }
            }
            if !is_below {
                return Joined::Absent;
            }
            for condition in conditions(quals) {
                if let Some(column) = self.joined_column(query, condition, number) {
                    return Joined::With(column);
                }
            }
            match pg_sys::rangeTableEntry_used(quals, number, 0) {
                true => Joined::Otherwise,
                false => Joined::Freely,
            }
        }
    }

    /// The entry cannot be taken out if it is below one of the nodes.
    ///
    /// # Safety
    ///
    /// As for [`Self::joined`].
    unsafe fn joined_in_any(
        &self,
        query: *mut pg_sys::Query,
        nodes: &[*mut pg_sys::Node],
        number: c_int,
    ) -> Joined {
        // SAFETY: as the caller promises.
        let is_absent =
            |node: &*mut _| matches!(unsafe { self.joined(query, *node, number) }, Joined::Absent);
        if nodes.iter().all(is_absent) { Joined::Absent } else { Joined::Otherwise }
    }

    /// The column that a condition compares with the entry `number`, if the relation has all of its values.
    ///
    /// # Safety
    ///
    /// As for [`Self::joined`].
    unsafe fn joined_column(
        &self,
        query: *mut pg_sys::Query,
        condition: *mut pg_sys::Node,
        number: c_int,
    ) -> Option<*mut pg_sys::Var> {
        // SAFETY: as the caller promises; the entry is the relation, which has one column.
        unsafe {
            let types = (*entry_of(query, number)).coltypes;
            let id_type = pgrx::PgList::<pg_sys::Oid>::from_pg(types).get_oid(0)?;
            let [left, right] = sides_of_equality(condition, id_type)?;
            let (left, right) = (column_of(left)?, column_of(right)?);
            let is_id = |var: *mut pg_sys::Var| (*var).varno == number && (*var).varlevelsup == 0;
            let column = match (is_id(left), is_id(right)) {
                (true, false) => right,
                (false, true) => left,
                _ => return None,
            };
            self.is_implied(&self.levels, query, column, id_type).then_some(column)
        }
    }

    /// Whether the relation has all values of a column of the last one of `levels`.
    ///
    /// # Safety
    ///
    /// Live queries and nodes.
    unsafe fn is_implied(
        &self,
        levels: &[*mut pg_sys::Query],
        query: *mut pg_sys::Query,
        column: *mut pg_sys::Var,
        id_type: pg_sys::Oid,
    ) -> bool {
        // SAFETY: as the caller promises; a column's entry is in the query that it says.
        unsafe {
            let up = (*column).varlevelsup as usize;
            let Some(place) = levels.len().checked_sub(1 + up) else { return false };
            let entry = entry_of(levels[place], (*column).varno);
            let is_listed = (*entry).rtekind == pg_sys::RTEKind::RTE_RELATION
                && self.implied.columns.contains(&((*entry).relid, (*column).varattno));
            let is_inner = up > 0 || is_inner((*query).jointree.cast(), (*column).varno);
            is_listed && is_inner && (*column).vartype == id_type
        }
    }
}

/// Whether an entry is joined so that none of its columns becomes null. False: it is not there, either.
///
/// # Safety
///
/// A live node of a tree of joins.
unsafe fn is_inner(node: *mut pg_sys::Node, number: c_int) -> bool {
    use pg_sys::JoinType as Type;
    // SAFETY: as the caller promises. The tag says what a node is.
    unsafe {
        match (*node).type_ {
            pg_sys::NodeTag::T_RangeTblRef => {
                (*node.cast::<pg_sys::RangeTblRef>()).rtindex == number
            }
            pg_sys::NodeTag::T_FromExpr => {
                let from = elements((*node.cast::<pg_sys::FromExpr>()).fromlist);
                from.into_iter().any(|node| is_inner(node, number))
            }
            pg_sys::NodeTag::T_JoinExpr => {
                let join = &*node.cast::<pg_sys::JoinExpr>();
                let (left, right) = (is_inner(join.larg, number), is_inner(join.rarg, number));
                match join.jointype {
                    Type::JOIN_INNER => left || right,
                    Type::JOIN_LEFT => left,
                    Type::JOIN_RIGHT => right,
                    _ => false,
                }
            }
            _ => false,
        }
    }
}

/// The conditions that every row of a tree of joins fulfils: those of WHERE and of inner joins.
///
/// # Safety
///
/// A live node of a tree of joins.
unsafe fn inner_conditions(node: *mut pg_sys::Node, found: &mut Vec<*mut pg_sys::Node>) {
    // SAFETY: as the caller promises. The tag says what a node is.
    unsafe {
        match node.as_ref().map(|node| node.type_) {
            Some(pg_sys::NodeTag::T_FromExpr) => {
                let from = &*node.cast::<pg_sys::FromExpr>();
                found.extend(conditions(from.quals));
                elements(from.fromlist).into_iter().for_each(|node| inner_conditions(node, found));
            }
            Some(pg_sys::NodeTag::T_JoinExpr) => {
                let join = &*node.cast::<pg_sys::JoinExpr>();
                if join.jointype == pg_sys::JoinType::JOIN_INNER {
                    found.extend(conditions(join.quals));
                    inner_conditions(join.larg, found);
                    inner_conditions(join.rarg, found);
                }
            }
            _ => {}
        }
    }
}

/// Visits a node and what is below it. True: a place was found.
///
/// # Safety
///
/// `node` is null or a live node; `context` is a search.
#[pg_guard]
unsafe extern "C-unwind" fn visit(node: *mut pg_sys::Node, context: *mut c_void) -> bool {
    if node.is_null() {
        return false;
    }
    // SAFETY: as the caller promises. Each use of the search ends before a function is called that uses
    // it, too.
    unsafe {
        if (*node).type_ != pg_sys::NodeTag::T_Query {
            return version::walk_expression(node, visit, context);
        }
        let search = context.cast::<Search>();
        (*search).levels.push(node.cast());
        (*search).look();
        let is_found =
            (*search).found.is_some() || version::walk_query(node.cast(), visit, context, 0);
        (*search).levels.pop();
        is_found
    }
}
