//! Differences between PostgreSQL versions, and what pgrx's bindings lack. No other module depends
//! on the version.
//!
//! A `cfg` names the versions that are old. So a version that is newer than all of them gets the
//! code of the newest one.

use std::ffi::{CStr, c_int, c_void};

use pgrx::prelude::*;

#[cfg(any(feature = "pg15", feature = "pg16", feature = "pg17"))]
pub(in crate::pg) use pg_sys::pqsignal;
#[cfg(not(any(feature = "pg15", feature = "pg16", feature = "pg17")))]
pub(in crate::pg) use pg_sys::pqsignal_be as pqsignal;

/// Functions that pgrx does not bind, or not as signal handlers: it binds them as Rust functions.
mod unbound {
    use std::ffi::{c_int, c_void};

    unsafe extern "C-unwind" {
        pub fn die(signal: c_int);
        pub fn SignalHandlerForConfigReload(signal: c_int);
        pub fn enable_timeout_after(id: c_int, delay_ms: c_int);
        pub fn disable_timeout(id: c_int, keep_indicator: bool);
        pub fn RegisterTimeout(id: c_int, handler: Option<unsafe extern "C-unwind" fn()>) -> c_int;
        pub fn Async_Notify(channel: *const std::ffi::c_char, payload: *const std::ffi::c_char);
        pub fn SetLatch(latch: *mut pgrx::pg_sys::Latch);
        pub fn prepare_sql_fn_parse_info(
            procedure: pgrx::pg_sys::HeapTuple,
            call: *mut pgrx::pg_sys::Node,
            collation: pgrx::pg_sys::Oid,
        ) -> *mut c_void;
        pub fn sql_fn_parser_setup(state: *mut pgrx::pg_sys::ParseState, parameters: *mut c_void);
        // Version 16 made macros of these names.
        #[cfg_attr(feature = "pg15", link_name = "query_tree_walker")]
        pub fn query_tree_walker_impl(
            query: *mut pgrx::pg_sys::Query,
            walker: super::Walker,
            context: *mut c_void,
            flags: c_int,
        ) -> bool;
        #[cfg_attr(feature = "pg15", link_name = "expression_tree_walker")]
        pub fn expression_tree_walker_impl(
            node: *mut pgrx::pg_sys::Node,
            walker: super::Walker,
            context: *mut c_void,
        ) -> bool;
    }
}

/// A function that is called for each node of a tree, with a context of its caller's.
pub(in crate::pg) type Walker = unsafe extern "C-unwind" fn(*mut pg_sys::Node, *mut c_void) -> bool;

/// Calls a function for the nodes directly below a query.
///
/// # Safety
///
/// The query is live, and the context is what the function expects.
#[expect(ffi_unwind_calls, reason = "within a guard")]
pub(in crate::pg) unsafe fn walk_query(
    query: *mut pg_sys::Query,
    walker: Walker,
    context: *mut c_void,
    flags: c_int,
) -> bool {
    // SAFETY: as the caller promises.
    unsafe {
        pg_sys::ffi::pg_guard_ffi_boundary(|| {
            unbound::query_tree_walker_impl(query, walker, context, flags)
        })
    }
}

/// Calls a function for the nodes directly below an expression.
///
/// # Safety
///
/// As for [`walk_query`].
#[expect(ffi_unwind_calls, reason = "within a guard")]
pub(in crate::pg) unsafe fn walk_expression(
    node: *mut pg_sys::Node,
    walker: Walker,
    context: *mut c_void,
) -> bool {
    // SAFETY: as the caller promises.
    unsafe {
        pg_sys::ffi::pg_guard_ffi_boundary(|| {
            unbound::expression_tree_walker_impl(node, walker, context)
        })
    }
}

/// Calls the function of a walk for the node that it begins with. A function that C calls raises errors the way
/// that C does: called by Rust, it would leave the functions between it and C without a trace, and the
/// subtransaction around them open.
///
/// # Safety
///
/// The node is live or null, and the context is what the function expects.
#[expect(ffi_unwind_calls, reason = "within a guard")]
pub(in crate::pg) unsafe fn begin_walk(
    node: *mut pg_sys::Node,
    walker: Walker,
    context: *mut c_void,
) -> bool {
    // SAFETY: as the caller promises.
    unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| walker(node, context)) }
}

/// A copy of a query in which the columns of an entry of its range table, with the number from 1, are
/// replaced by the expressions of a target list.
///
/// # Safety
///
/// The query is live and has the entry; the expressions are as in the query itself.
pub(in crate::pg) unsafe fn replace_columns(
    query: *mut pg_sys::Query,
    (number, entry): (c_int, *mut pg_sys::RangeTblEntry),
    targets: *mut pg_sys::List,
) -> *mut pg_sys::Query {
    // SAFETY: as the caller promises.
    unsafe {
        pg_sys::ReplaceVarsFromTargetList(
            query.cast(),
            number,
            0,
            entry,
            targets,
            #[cfg(not(any(feature = "pg15", feature = "pg16", feature = "pg17")))]
            0,
            pg_sys::ReplaceVarsNoMatchOption::REPLACEVARS_REPORT_ERROR,
            0,
            std::ptr::null_mut(),
        )
        .cast()
    }
}

/// The type of the result of `json_value()` and its like, which are nodes from version 17 on; none: the node is
/// another one.
///
/// # Safety
///
/// The node is live.
pub(in crate::pg) unsafe fn type_of_json(node: *mut pg_sys::Node) -> Option<pg_sys::Oid> {
    #[cfg(any(feature = "pg15", feature = "pg16"))]
    {
        let _ = node;
        None
    }
    // SAFETY: as the caller promises. The tag says what the node is.
    #[cfg(not(any(feature = "pg15", feature = "pg16")))]
    unsafe {
        ((*node).type_ == pg_sys::NodeTag::T_JsonExpr)
            .then(|| (*(*node.cast::<pg_sys::JsonExpr>()).returning).typid)
    }
}

/// The view whose rewritten query a subquery of a range table is; invalid: it is none.
///
/// # Safety
///
/// The entry is live, and a subquery of a rewritten query.
pub(in crate::pg) unsafe fn view_of(entry: *mut pg_sys::RangeTblEntry) -> pg_sys::Oid {
    // SAFETY: as the caller promises.
    unsafe {
        #[cfg(feature = "pg15")]
        {
            // The first entry of the view's own range table stands for the view.
            let entries =
                pgrx::PgList::<pg_sys::RangeTblEntry>::from_pg((*(*entry).subquery).rtable);
            let first = entries.get_ptr(0).filter(|first| {
                (**first).rtekind == pg_sys::RTEKind::RTE_RELATION
                    && (**first).relkind == pg_sys::RELKIND_VIEW as std::ffi::c_char
            });
            first.map_or(pg_sys::InvalidOid, |first| (*first).relid)
        }
        #[cfg(not(feature = "pg15"))]
        (*entry).relid
    }
}

/// What the parser has to know of the parameters of an SQL function. `call`, or null, decides the types
/// of polymorphic ones.
///
/// # Safety
///
/// A live tuple of `pg_proc`; the call is null or live.
#[expect(ffi_unwind_calls, reason = "within a guard")]
pub(in crate::pg) unsafe fn function_parameters(
    procedure: pg_sys::HeapTuple,
    call: *mut pg_sys::Node,
    collation: pg_sys::Oid,
) -> *mut c_void {
    // SAFETY: as the caller promises. Without a call, types are those of the declaration.
    unsafe {
        pg_sys::ffi::pg_guard_ffi_boundary(|| {
            unbound::prepare_sql_fn_parse_info(procedure, call, collation)
        })
    }
}

/// Has the parser find the parameters of an SQL function.
///
/// # Safety
///
/// As a hook of the parser, with the result of [`function_parameters`].
#[pg_guard]
#[expect(ffi_unwind_calls, reason = "within a guard")]
pub(in crate::pg) unsafe extern "C-unwind" fn set_up_function_parser(
    state: *mut pg_sys::ParseState,
    parameters: *mut c_void,
) {
    // SAFETY: as the parser promises.
    unsafe {
        pg_sys::ffi::pg_guard_ffi_boundary(|| unbound::sql_fn_parser_setup(state, parameters))
    }
}

/// The server's handlers of SIGTERM and SIGHUP.
pub(in crate::pg) use unbound::{SignalHandlerForConfigReload as reload_later, die};

/// `STATEMENT_TIMEOUT` of the enum `TimeoutId`: the same in the versions 15 to 18.
const STATEMENT_TIMEOUT: c_int = 3;

/// `USER_TIMEOUT` of the enum `TimeoutId`, the first id for timeouts of libraries. Version 17 added
/// `TRANSACTION_TIMEOUT` before it.
#[cfg(any(feature = "pg15", feature = "pg16"))]
const USER_TIMEOUT: c_int = 12;
#[cfg(not(any(feature = "pg15", feature = "pg16")))]
const USER_TIMEOUT: c_int = 13;

/// A timeout of this process.
#[derive(Clone, Copy)]
pub(in crate::pg) struct Timeout(c_int);

impl Timeout {
    /// Cancels what is running, as `statement_timeout` does.
    pub const CANCEL: Self = Self(STATEMENT_TIMEOUT);

    /// Registers a timeout that calls `handler`.
    ///
    /// # Safety
    ///
    /// The process has a free place for a timeout: this is called once in it. The handler runs
    /// within a signal handler: it does only what is safe there.
    #[expect(ffi_unwind_calls, reason = "within a guard")]
    pub unsafe fn register(handler: unsafe extern "C-unwind" fn()) -> Self {
        // SAFETY: the server has initialized the timeouts when it started the process.
        Self(unsafe {
            pg_sys::ffi::pg_guard_ffi_boundary(|| {
                unbound::RegisterTimeout(USER_TIMEOUT, Some(handler))
            })
        })
    }

    /// Lets it fire after some milliseconds. One that is set already is replaced.
    ///
    /// # Safety
    ///
    /// The process is connected to a database: then the server has registered its own timeouts.
    #[expect(ffi_unwind_calls, reason = "within a guard")]
    pub unsafe fn enable(self, milliseconds: c_int) {
        // SAFETY: the timeout is registered, as the caller promises.
        unsafe {
            pg_sys::ffi::pg_guard_ffi_boundary(|| {
                unbound::enable_timeout_after(self.0, milliseconds)
            })
        }
    }

    /// Ends the timeout. What it has requested before may still be pending.
    ///
    /// # Safety
    ///
    /// As for [`Timeout::enable`].
    #[expect(ffi_unwind_calls, reason = "within a guard")]
    pub unsafe fn disable(self) {
        // SAFETY: the timeout is registered, as the caller promises.
        unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| unbound::disable_timeout(self.0, false)) }
    }
}

/// Sends a notification when the transaction commits.
#[expect(ffi_unwind_calls, reason = "within a guard")]
pub(in crate::pg) fn notify(channel: &CStr, payload: &CStr) {
    // SAFETY: both are C strings that are live during the call, which copies them. It needs a
    // transaction, in which SQL functions and jobs run. The closure owns nothing.
    unsafe {
        pg_sys::ffi::pg_guard_ffi_boundary(|| {
            unbound::Async_Notify(channel.as_ptr(), payload.as_ptr())
        })
    }
}

/// Has the process end at its next interrupt, as after SIGTERM. SQL cannot catch that. It is made
/// for signal handlers: it sets flags, as the server's handlers do.
pub(in crate::pg) fn end_at_next_interrupt() {
    interrupt(&raw mut pg_sys::ProcDiePending);
}

/// Has the process cancel what it runs at its next interrupt, as after SIGINT. It is made for signal
/// handlers, too.
pub(in crate::pg) fn cancel_at_next_interrupt() {
    interrupt(&raw mut pg_sys::QueryCancelPending);
}

#[expect(ffi_unwind_calls, reason = "SetLatch raises nothing; the frame owns nothing")]
fn interrupt(flag: *mut c_int) {
    // SAFETY: flags of this process, C `sig_atomic_t`, that handlers may set at any time. `MyLatch` is
    // there from the start of the process to its end.
    unsafe {
        flag.write_volatile(1);
        (&raw mut pg_sys::InterruptPending).write_volatile(1);
        unbound::SetLatch(pg_sys::MyLatch);
    }
}

/// The kind of membership that `pg_has_role` checks to find out whether a role may act as another.
/// From version 16 on, a membership without SET does not allow a role to become the other one.
#[cfg(feature = "pg15")]
pub const MEMBERSHIP: &str = "'member'";
#[cfg(not(feature = "pg15"))]
pub const MEMBERSHIP: &str = "'set'";

/// The same check in C.
pub fn may_act_as(caller: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    // SAFETY: needs a transaction for its look-ups, in which SQL functions and jobs run. Either role
    // may be missing: the answer is false then.
    unsafe {
        #[cfg(feature = "pg15")]
        return pg_sys::is_member_of_role(caller, role);
        #[cfg(not(feature = "pg15"))]
        return pg_sys::member_can_set_role(caller, role);
    }
}

/// Whether a role has the rights of a table's owner. A table that does not exist raises an error.
pub fn owns_table(role: pg_sys::Oid, table: pg_sys::Oid) -> bool {
    // SAFETY: needs a transaction for its look-ups, in which SQL functions and jobs run.
    unsafe {
        #[cfg(feature = "pg15")]
        return pg_sys::pg_class_ownercheck(table, role);
        #[cfg(not(feature = "pg15"))]
        return pg_sys::object_ownercheck(pg_sys::RelationRelationId, table, role);
    }
}

/// The settings of this process. One is replaced when a library that defines it is loaded.
pub(in crate::pg) fn settings() -> Vec<*mut pg_sys::config_generic> {
    // SAFETY: the function gives an array of as many pointers as the count says. It is the server's
    // own in version 15, and a new one in the current memory context from 16 on; it is copied.
    unsafe {
        #[cfg(feature = "pg15")]
        let (count, first) = (pg_sys::GetNumConfigOptions(), pg_sys::get_guc_variables());
        #[cfg(not(feature = "pg15"))]
        let (count, first) = {
            let mut count = 0;
            let first = pg_sys::get_guc_variables(&mut count);
            (count, first)
        };
        std::slice::from_raw_parts(first, count.max(0) as usize).to_vec()
    }
}

/// The setting with a name.
pub(in crate::pg) fn setting(name: &CStr) -> Option<*mut pg_sys::config_generic> {
    #[cfg(feature = "pg15")]
    {
        // SAFETY: pointers to settings, whose names are C strings.
        let is_it = |setting: &*mut pg_sys::config_generic| unsafe {
            CStr::from_ptr((**setting).name).to_bytes().eq_ignore_ascii_case(name.to_bytes())
        };
        settings().into_iter().find(is_it)
    }
    #[cfg(not(feature = "pg15"))]
    {
        // SAFETY: a C string that is live during the call. Without a setting it gives a null pointer:
        // none is created, and no error is raised.
        let found = unsafe { pg_sys::find_option(name.as_ptr(), false, true, 0) };
        (!found.is_null()).then_some(found)
    }
}

/// Analyses and rewrites a statement of the body of an SQL function, in which its arguments are
/// parameters. An invalid statement is raised.
///
/// # Safety
///
/// The statement is one of the text; otherwise as [`function_parameters`].
pub(in crate::pg) unsafe fn analyze_function_body(
    statement: *mut pg_sys::RawStmt,
    text: &CStr,
    procedure: pg_sys::HeapTuple,
    call: *mut pg_sys::Node,
    collation: pg_sys::Oid,
) -> *mut pg_sys::List {
    // SAFETY: the caller's promises are those that are required. The parameters live in the current
    // memory context, longer than the analysis that gets them.
    unsafe {
        pg_sys::pg_analyze_and_rewrite_withcb(
            statement,
            text.as_ptr(),
            Some(set_up_function_parser),
            function_parameters(procedure, call, collation),
            std::ptr::null_mut(),
        )
    }
}
