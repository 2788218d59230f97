//! Users' SQL: split by PostgreSQL's own parser, prepared, inspected, executed.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char};
use std::mem::ManuallyDrop;
use std::rc::Rc;

use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;

use crate::error::{Error, Result};
use crate::pg::exec::receiver::Destination;
use crate::pg::exec::role;
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};

/// The kind of a statement.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum StatementKind {
    Select,
    Call,
    Other,
}

/// A statement as the parser delimits it.
pub struct Parsed<'a> {
    pub kind: StatementKind,
    /// Without a trailing semicolon and what follows it.
    pub text: &'a str,
}

/// Parses a text into its statements. A syntax error is raised.
pub fn parse(sql: &str) -> Vec<Parsed<'_>> {
    let Ok(source) = CString::new(sql) else { return Vec::new() };
    // SAFETY: the parser gets a C string that is live during the call, and gives a list of RawStmt
    // nodes, each with a statement, in the current memory context.
    unsafe {
        let list = pg_sys::raw_parser(source.as_ptr(), pg_sys::RawParseMode::RAW_PARSE_DEFAULT);
        let list = pgrx::PgList::<pg_sys::RawStmt>::from_pg(list);
        list.iter_ptr()
            .map(|raw| {
                let kind = match (*(*raw).stmt).type_ {
                    pg_sys::NodeTag::T_SelectStmt => StatementKind::Select,
                    pg_sys::NodeTag::T_CallStmt => StatementKind::Call,
                    _ => StatementKind::Other,
                };
                let begin = (*raw).stmt_location.max(0) as usize;
                let end = match (*raw).stmt_len {
                    0 => sql.len(),
                    length => begin + length as usize,
                };
                // The positions count bytes in the encoding of the database. `sql` is UTF-8, and so
                // is the database: others are not supported.
                Parsed { kind, text: sql.get(begin..end).unwrap_or_default() }
            })
            .collect()
    }
}

/// A column of a query's result.
pub struct ResultColumn {
    pub name: String,
    pub type_oid: pg_sys::Oid,
    pub modifier: i32,
    pub collation: pg_sys::Oid,
}

/// The number of users' statements whose analysis a session keeps at most.
const MAX_ANALYSED: usize = 32;

/// Users' statements by their text, the types of their parameters, and the role.
type Analysed = HashMap<(String, Vec<pg_sys::Oid>, pg_sys::Oid), Rc<Prepared>>;

thread_local! {
    // Without a destructor: it would run when the process ends, after PostgreSQL's own clean-up.
    static ANALYSED: ManuallyDrop<RefCell<Analysed>> = ManuallyDrop::default();
}

/// A prepared statement. It has its plan to itself, and frees it when it is dropped.
pub struct Prepared(pg_sys::SPIPlanPtr);

impl Prepared {
    /// Parses and analyses one statement whose parameters have the types of `args`. PostgreSQL
    /// raises an error if the statement is invalid. Its plan may be parallel. It needs an SPI
    /// connection: without one, the result is an error.
    pub fn new(sql: &str, args: &[DatumWithOid<'_>]) -> Result<Self> {
        Self::kept(prepare(sql, args)?)
    }

    /// Takes over a plan that was just prepared. A null pointer is the error that SPI reports.
    pub(in crate::pg) fn kept(plan: pg_sys::SPIPlanPtr) -> Result<Self> {
        if plan.is_null() {
            // SAFETY: a variable of this process's only thread, set by the preparation.
            Spi::check_status(unsafe { pg_sys::SPI_result })?;
            return Err(Error::MissingValue("plan"));
        }
        // SAFETY: the plan is a new one. Kept, it does not end with the SPI connection, but where
        // `drop` frees it.
        let kept = unsafe { pg_sys::SPI_keepplan(plan) };
        if kept != 0 {
            Spi::check_status(kept)?;
        }
        Ok(Self(plan))
    }

    /// The same for a user's statement: an error says where in the statement it is. One that would give
    /// wrong rows is an error.
    pub fn of_user(sql: &str, args: &[DatumWithOid<'_>]) -> Result<Self> {
        let prepared = in_subtransaction(OnSuccess::Commit, || Self::new(sql, args))
            .map_err(|error| error.in_statement(sql))?;
        prepared.check_joins()?;
        Ok(prepared)
    }

    /// The same for one that reads no relation of the SPI connection, and that is analysed and not
    /// executed. The session keeps the analysis, for the current role, until something changes that it
    /// depends on. Users' SQL always has the same search path.
    pub fn analysed(sql: &str, args: &[DatumWithOid<'_>]) -> Result<Rc<Self>> {
        let types = args.iter().map(DatumWithOid::oid).collect();
        let key = (sql.to_owned(), types, role::current());
        let kept = ANALYSED.with(|kept| kept.borrow().get(&key).cloned());
        if let Some(kept) = kept.filter(|kept| kept.is_valid()) {
            return Ok(kept);
        }
        let analysed = Rc::new(Self::of_user(sql, args)?);
        ANALYSED.with(|kept| {
            let mut kept = kept.borrow_mut();
            if kept.len() >= MAX_ANALYSED {
                kept.clear();
            }
            kept.insert(key, Rc::clone(&analysed));
        });
        Ok(analysed)
    }

    /// Whether nothing that its analysis depends on has changed since.
    pub(in crate::pg) fn is_valid(&self) -> bool {
        self.source().is_some_and(|source| source.is_valid)
    }

    /// Whether it only reads: no modifying WITH, no row locks.
    pub fn is_plain_select(&self) -> bool {
        self.query().is_some_and(|query| {
            query.commandType == pg_sys::CmdType::CMD_SELECT
                && !query.hasModifyingCTE
                && query.rowMarks.is_null()
        })
    }

    /// The columns of its result.
    pub fn columns(&self) -> Vec<ResultColumn> {
        let Some(source) = self.source() else { return Vec::new() };
        if source.resultDesc.is_null() {
            return Vec::new();
        }
        // SAFETY: the descriptor of a live plan is copied, and the copy is handed over.
        let desc = unsafe {
            pgrx::PgTupleDesc::from_pg_is_copy(pg_sys::CreateTupleDescCopy(source.resultDesc))
        };
        desc.iter()
            .map(|column| ResultColumn {
                name: column.name().to_owned(),
                type_oid: column.type_oid().value(),
                modifier: column.type_mod(),
                collation: column.attcollation,
            })
            .collect()
    }

    /// The relations that it reads, also through views.
    pub fn relations(&self) -> Vec<pg_sys::Oid> {
        let Some(source) = self.source() else { return Vec::new() };
        // SAFETY: a list of OIDs of a live plan, which is only read.
        unsafe { pgrx::PgList::<pg_sys::Oid>::from_pg(source.relationOids).iter_oid().collect() }
    }

    /// Runs it read-only. It sees exactly the active snapshot, and anything that tries to write
    /// through SPI raises an error. The rows go to `destination`.
    pub(in crate::pg) fn execute(
        &self,
        args: &[DatumWithOid<'_>],
        destination: Destination<'_>,
    ) -> Result<()> {
        // SAFETY: the plan is live until `drop`.
        unsafe { execute(self.0, args, destination) }
    }

    /// The number of rows that the planner expects of it; none: there is no plan. To be asked of a statement
    /// without parameters, which is executed with the plan that is made for this.
    pub fn estimated_rows(&self) -> Option<u64> {
        // SAFETY: the plan is live until `drop`, and its statement is planned as for its execution, with the
        // active snapshot. What is counted as used is released at once: nothing is raised in between.
        unsafe {
            let cached = pg_sys::SPI_plan_get_cached_plan(self.0).as_ref()?;
            let statements = pgrx::PgList::<pg_sys::PlannedStmt>::from_pg(cached.stmt_list);
            let plan = statements.get_ptr(0).and_then(|one| (*one).planTree.as_ref());
            let rows = plan.map(|plan| plan.plan_rows.max(0.0) as u64);
            let cached = std::ptr::from_ref(cached).cast_mut();
            pg_sys::ReleaseCachedPlan(cached, pg_sys::CurrentResourceOwner);
            rows
        }
    }

    /// The descriptor of its result, copied into the current memory context.
    pub(in crate::pg) fn result_desc(&self) -> pg_sys::TupleDesc {
        match self.source() {
            // SAFETY: copies the descriptor of a live plan.
            Some(source) if !source.resultDesc.is_null() => unsafe {
                pg_sys::CreateTupleDescCopy(source.resultDesc)
            },
            _ => std::ptr::null_mut(),
        }
    }

    /// The analysed and rewritten queries of its statements.
    pub(in crate::pg) fn queries(&self) -> Vec<*mut pg_sys::Query> {
        // SAFETY: as for `source`.
        unsafe {
            let sources = pg_sys::SPI_plan_get_plan_sources(self.0);
            let sources = pgrx::PgList::<pg_sys::CachedPlanSource>::from_pg(sources);
            let queries = |source: *mut pg_sys::CachedPlanSource| {
                pgrx::PgList::<pg_sys::Query>::from_pg((*source).query_list)
            };
            let lists: Vec<_> = sources.iter_ptr().map(queries).collect();
            lists.iter().flat_map(|list| list.iter_ptr()).collect()
        }
    }

    fn source(&self) -> Option<&pg_sys::CachedPlanSource> {
        // SAFETY: the plan is live as long as `self`, and so are its sources, which it owns. Nothing
        // changes them but a new analysis, which happens when it is executed.
        unsafe {
            let sources = pg_sys::SPI_plan_get_plan_sources(self.0);
            let sources = pgrx::PgList::<pg_sys::CachedPlanSource>::from_pg(sources);
            sources.get_ptr(0).and_then(|source| source.as_ref())
        }
    }

    fn query(&self) -> Option<&pg_sys::Query> {
        let source = self.source()?;
        // SAFETY: a list that the source owns; it is as live as the source.
        unsafe {
            let queries = pgrx::PgList::<pg_sys::Query>::from_pg(source.query_list);
            if queries.len() != 1 {
                return None;
            }
            queries.get_ptr(0).and_then(|query| query.as_ref())
        }
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        // SAFETY: the plan is kept, and nothing else has it. If an error unwinds while it runs, the
        // executor's part of it lives until the abort, which holds a reference of its own.
        unsafe { pg_sys::SPI_freeplan(self.0) };
    }
}

/// Prepares a statement. The plan ends with the current SPI connection, unless it is kept.
fn prepare(sql: &str, args: &[DatumWithOid<'_>]) -> Result<pg_sys::SPIPlanPtr> {
    let sql = CString::new(sql).map_err(|_| Error::Query {
        code: PgSqlErrorCode::ERRCODE_CHARACTER_NOT_IN_REPERTOIRE,
        problem: "the SQL holds a null character".into(),
        detail: None,
        hint: None,
    })?;
    let mut types: Vec<_> = args.iter().map(DatumWithOid::oid).collect();
    // SAFETY: the string and the types are live during the call, which copies them; without an SPI
    // connection it returns null.
    let plan = unsafe {
        pg_sys::SPI_prepare_cursor(
            sql.as_ptr(),
            types.len() as i32,
            types.as_mut_ptr(),
            pg_sys::CURSOR_OPT_PARALLEL_OK as i32,
        )
    };
    if plan.is_null() {
        // SAFETY: a variable of this process's only thread, set by the call above.
        Spi::check_status(unsafe { pg_sys::SPI_result })?;
        return Err(Error::MissingValue("plan"));
    }
    Ok(plan)
}

/// Runs a plan read-only, with the active snapshot.
///
/// # Safety
///
/// The plan is live, and was prepared with the types of `args`.
unsafe fn execute(
    plan: pg_sys::SPIPlanPtr,
    args: &[DatumWithOid<'_>],
    mut destination: Destination<'_>,
) -> Result<()> {
    // SAFETY: the parameter list has room for every argument and lives, in the current memory
    // context, longer than the call. Without arguments there is none: PostgreSQL itself passes no empty
    // list, and extensions that take one over rely on that. The destination is borrowed for the call, and so is what it
    // points to.
    unsafe {
        let mut params = std::ptr::null_mut();
        if !args.is_empty() {
            params = pg_sys::makeParamList(args.len() as i32);
            let slots = (*params).params.as_mut_slice(args.len());
            for (slot, arg) in slots.iter_mut().zip(args) {
                let datum = arg.datum();
                slot.isnull = datum.is_none();
                slot.value = datum.map_or(pg_sys::Datum::null(), |datum| datum.sans_lifetime());
                slot.pflags = pg_sys::PARAM_FLAG_CONST as u16;
                slot.ptype = arg.oid();
            }
        }
        let options = pg_sys::SPIExecuteOptions {
            params,
            read_only: true,
            dest: destination.as_mut_ptr(),
            ..Default::default()
        };
        Spi::check_status(pg_sys::SPI_execute_plan_extended(plan, &options))?;
    }
    Ok(())
}

/// The value of a statement that returns one row of one column. It sees the active snapshot. It needs
/// an SPI connection: without one, the result is an error.
pub fn read_one<T: FromDatum + IntoDatum>(
    sql: &str,
    args: &[DatumWithOid<'_>],
) -> Result<Option<T>> {
    let plan = prepare(sql, args)?;
    // SAFETY: the plan is live until the SPI connection ends, which is after this function.
    unsafe { execute(plan, args, Destination::spi()) }?;
    Ok(first_value())
}

/// The number of statements that a session keeps at most for [`read_one_kept`]: one for each list whose
/// members are looked up, and few others.
const MAX_KEPT: usize = 1024;

thread_local! {
    // Without a destructor: it would run when the process ends, after PostgreSQL's own clean-up.
    static KEPT: ManuallyDrop<RefCell<HashMap<String, Rc<Prepared>>>> = ManuallyDrop::default();
}

/// The same with a statement that the session keeps with its plan. The arguments of one text always
/// have the same types. It may run in a parallel worker.
pub fn read_one_kept<T: FromDatum + IntoDatum>(
    sql: String,
    args: &[DatumWithOid<'_>],
) -> Result<Option<T>> {
    let found = KEPT.with(|kept| kept.borrow().get(&sql).cloned());
    let prepared = match found {
        Some(prepared) => prepared,
        None => {
            let prepared = Rc::new(Prepared::new(&sql, args)?);
            KEPT.with(|kept| {
                let mut kept = kept.borrow_mut();
                if kept.len() >= MAX_KEPT {
                    kept.clear();
                }
                kept.insert(sql, Rc::clone(&prepared));
            });
            prepared
        }
    };
    prepared.execute(args, Destination::spi())?;
    Ok(first_value())
}

/// The same with one plan for all arguments, which looks up rows in an index, however many the tables have.
pub fn look_up<T: FromDatum + IntoDatum>(
    sql: String,
    args: &[DatumWithOid<'_>],
) -> Result<Option<T>> {
    role::by_index(|| read_one_kept(sql, args))
}

/// The first value of the result that SPI has just received. To be called before anything else uses
/// SPI.
fn first_value<T: FromDatum + IntoDatum>() -> Option<T> {
    // SAFETY: SPI has just put the result there. It is read before anything else uses SPI, and
    // freed after the value has been copied from it.
    unsafe {
        let table = pg_sys::SPI_tuptable;
        if table.is_null() || (*table).numvals == 0 {
            return None;
        }
        let mut is_null = false;
        let datum = pg_sys::SPI_getbinval(*(*table).vals, (*table).tupdesc, 1, &mut is_null);
        let value = T::from_datum(datum, is_null);
        pg_sys::SPI_freetuptable(table);
        value
    }
}

/// Splits a name as PostgreSQL does into a schema, if there is one, and a relation. A text that cannot
/// be a name is an error.
pub fn split_name(name: &str) -> Result<(Option<String>, String)> {
    let parts = CString::new(name).ok().and_then(|name| name_parts(&name)).unwrap_or_default();
    match <[String; 1]>::try_from(parts) {
        Ok([relation]) => Ok((None, relation)),
        Err(parts) => match <[String; 2]>::try_from(parts) {
            Ok([schema, relation]) => Ok((Some(schema), relation)),
            Err(_) => Err(Error::NotAName(name.to_owned())),
        },
    }
}

/// The parts of a name between its dots; `None` if the text cannot be a name.
fn name_parts(name: &CStr) -> Option<Vec<String>> {
    // SAFETY: the text is split in a copy, into which the parts point: they are copied before it is
    // freed.
    unsafe {
        let copy = pg_sys::pstrdup(name.as_ptr());
        let mut parts = std::ptr::null_mut();
        let is_name = pg_sys::SplitIdentifierString(copy, b'.' as c_char, &mut parts);
        let parts = is_name.then(|| {
            let parts = pgrx::PgList::<c_char>::from_pg(parts);
            let owned = |part: *mut c_char| CStr::from_ptr(part).to_string_lossy().into_owned();
            parts.iter_ptr().map(owned).collect()
        });
        pg_sys::pfree(copy.cast());
        parts
    }
}
