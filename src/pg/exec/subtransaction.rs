//! Work that may fail without aborting the transaction: a subtransaction that ends in a `Result`.

use std::cell::{Cell, RefCell};
use std::ffi::CStr;
use std::panic::AssertUnwindSafe;

use pgrx::pg_sys::panic::{CaughtError, ErrorReportWithLevel};
use pgrx::prelude::*;

use crate::error::{Error, Report, Result};

/// What happens to the work of a subtransaction that succeeded.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum OnSuccess {
    Commit,
    /// A dry run: everything is undone, and only the returned value remains.
    Rollback,
}

/// Runs `body` in a subtransaction. If it returns an error, or PostgreSQL raises one in it, its
/// work is undone and the error is returned. A cancellation and a panic are raised again.
pub fn in_subtransaction<T>(keep: OnSuccess, body: impl FnOnce() -> Result<T>) -> Result<T> {
    // SAFETY: a subtransaction may be begun wherever a function runs; both ends of it, and the
    // restored context and owner, are in this function.
    let (context, owner) = unsafe {
        let outer = (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner);
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::MemoryContextSwitchTo(outer.0);
        outer
    };

    let result = {
        let _trace = ErrorTrace::begin();
        PgTryBuilder::new(AssertUnwindSafe(|| body().map_err(Caught::Failed)))
            .catch_others(|caught| Err(Caught::from(caught)))
            .execute()
    };

    // SAFETY: as above.
    unsafe {
        if result.is_ok() && keep == OnSuccess::Commit {
            pg_sys::ReleaseCurrentSubTransaction();
        } else {
            pg_sys::RollbackAndReleaseCurrentSubTransaction();
        }
        pg_sys::MemoryContextSwitchTo(context);
        pg_sys::CurrentResourceOwner = owner;
    }

    match result {
        Ok(value) => Ok(value),
        Err(Caught::Failed(error)) => Err(error),
        Err(Caught::Raised(caught)) => caught.rethrow(),
    }
}

enum Caught {
    Failed(Error),
    /// Must be raised again.
    Raised(Box<CaughtError>),
}

impl From<CaughtError> for Caught {
    fn from(caught: CaughtError) -> Self {
        // A cancellation is meant for the caller's whole statement. The same SQLSTATE raised by
        // users' SQL does not count. A shutdown is not an ERROR and never gets here.
        let is_cancelled = |report: &ErrorReportWithLevel| {
            report.sql_error_code() == PgSqlErrorCode::ERRCODE_QUERY_CANCELED
                && report.function_name() == Some("ProcessInterrupts")
        };
        match &caught {
            CaughtError::RustPanic { .. } => Caught::Raised(Box::new(caught)),
            CaughtError::PostgresError(report) | CaughtError::ErrorReport(report)
                if is_cancelled(report) =>
            {
                Caught::Raised(Box::new(caught))
            }
            _ => Caught::Failed(Error::Postgres(Box::new(report_of(&caught)))),
        }
    }
}

/// The caught error as a report.
pub(in crate::pg) fn report_of(caught: &CaughtError) -> Report {
    let (report, traced) = match caught {
        CaughtError::PostgresError(report) => (report, ErrorTrace::last()),
        CaughtError::ErrorReport(report) | CaughtError::RustPanic { ereport: report, .. } => {
            (report, None)
        }
    };
    let (sqlstate, context, position) = match traced {
        Some(trace) => (trace.sqlstate, trace.context, trace.position),
        None => (report.sql_error_code() as i32, None, None),
    };
    Report {
        sqlstate,
        message: report.message().to_owned(),
        detail: report.detail().map(str::to_owned),
        hint: report.hint().map(str::to_owned),
        context,
        position,
    }
}

/// What pgrx's error report lacks of a PostgreSQL error: the SQLSTATE as it was raised, and the
/// context. An error context callback records them while the error is being raised.
#[derive(Clone)]
struct TracedError {
    sqlstate: i32,
    context: Option<String>,
    position: Option<usize>,
}

thread_local! {
    static TRACED: RefCell<Option<TracedError>> = const { RefCell::new(None) };
    static BUSY: Cell<bool> = const { Cell::new(false) };
}

/// Installs the callback until it is dropped.
pub(in crate::pg) struct ErrorTrace {
    callback: *mut pg_sys::ErrorContextCallback,
}

impl ErrorTrace {
    pub(in crate::pg) fn begin() -> Self {
        BUSY.set(false);
        // SAFETY: the callback lives on the heap, where PostgreSQL's stack points to, until
        // `drop` unlinks and frees it.
        unsafe {
            let callback = Box::into_raw(Box::new(pg_sys::ErrorContextCallback {
                previous: pg_sys::error_context_stack,
                callback: Some(record_error),
                arg: std::ptr::null_mut(),
            }));
            pg_sys::error_context_stack = callback;
            Self { callback }
        }
    }

    /// Takes the error that was recorded last.
    fn last() -> Option<TracedError> {
        TRACED.with(|noted| noted.borrow_mut().take())
    }
}

impl Drop for ErrorTrace {
    fn drop(&mut self) {
        // SAFETY: callbacks are a stack; what came after ours has gone, by return or by unwinding.
        unsafe { pg_sys::error_context_stack = Box::from_raw(self.callback).previous };
    }
}

/// PostgreSQL calls this for every message, while it is being built. It must not raise an error. It
/// sees notices too: the last message before the catch is the error that was caught.
unsafe extern "C-unwind" fn record_error(_: *mut std::ffi::c_void) {
    // GetErrorContextStack() calls every callback again, including this one.
    if BUSY.replace(true) {
        return;
    }
    // SAFETY: called by errfinish(), where an error is being built, so both are allowed; the text
    // is copied at once.
    let noted = unsafe {
        let sqlstate = pg_sys::geterrcode();
        let text = pg_sys::GetErrorContextStack();
        let context = (!text.is_null())
            .then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
            .map(|text| strip_own_context(&text).to_owned())
            .filter(|text| !text.is_empty());
        // SPI makes the position one within the statement that it was given; the parser alone does not.
        let positions = [pg_sys::getinternalerrposition(), pg_sys::geterrposition()];
        let position =
            positions.into_iter().find(|at| *at > 0).map(|at| at.unsigned_abs() as usize);
        TracedError { sqlstate, context, position }
    };
    TRACED.with(|cell| *cell.borrow_mut() = Some(noted));
    BUSY.set(false);
}

/// Removes Segmenter's own statement around the users' SQL from a context. It is recognized by the
/// comment that it begins with.
fn strip_own_context(context: &str) -> &str {
    let ours = context.find("SQL statement \"-- ").unwrap_or(context.len());
    context[..ours].trim_end()
}
