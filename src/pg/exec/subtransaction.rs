//! Work that may fail without aborting the transaction: a subtransaction that ends in a `Result`.

use std::collections::VecDeque;
use std::ffi::CStr;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use pgrx::pg_sys::panic::{CaughtError, ErrorReportWithLevel};
use pgrx::prelude::*;

use crate::error::{Error, Report, Result};
use crate::pg::exec::memory::new_context;
use crate::pg::exec::snapshot;
use crate::pg::exec::time_limit::TimeLimit;

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
    run(keep, None, body)
}

/// Does a step that changes rows which other sessions change, too. Returns false, and nothing is done, if
/// one of them has done so after the snapshot of a transaction that keeps it.
pub fn unless_superseded(step: impl FnOnce() -> Result<()>) -> Result<bool> {
    if !snapshot::is_kept() {
        return step().map(|()| true);
    }
    match in_subtransaction(OnSuccess::Commit, step) {
        Err(error) if error.is_code(PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE) => Ok(false),
        done => done.map(|()| true),
    }
}

/// Runs `body` in a subtransaction for a limited time. What is still running then is cancelled, which is
/// an error. SQL that catches the cancellation is not ended.
pub fn in_limited_subtransaction<T>(
    limit: Duration,
    body: impl FnOnce() -> Result<T>,
) -> Result<T> {
    run(OnSuccess::Commit, Some(limit), body)
}

fn run<T>(keep: OnSuccess, limit: Option<Duration>, body: impl FnOnce() -> Result<T>) -> Result<T> {
    // SAFETY: needs a transaction that has not failed and runs no parallel query: SQL functions that
    // are not marked parallel safe, and jobs, run in one. This function also ends the subtransaction.
    let (context, owner) = unsafe {
        let outer = (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner);
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::MemoryContextSwitchTo(outer.0);
        outer
    };

    let result = {
        let trace = ErrorTrace::begin();
        let time = limit.map(|limit| (limit, TimeLimit::begin(limit)));
        PgTryBuilder::new(AssertUnwindSafe(|| body().map_err(Caught::Failed)))
            .catch_others(|caught| match &time {
                Some((limit, time)) if time.is_over() && Caught::is_cancellation(&caught) => {
                    Err(Caught::Failed(Error::TimeLimit(limit.as_millis())))
                }
                _ => Err(Caught::of(caught, &trace)),
            })
            .execute()
    };

    // SAFETY: the current subtransaction is ours: what began in `body` has ended there, or the
    // rollback ends it. The context and the owner are older than it, so they are still live.
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

impl Caught {
    fn of(caught: CaughtError, trace: &ErrorTrace) -> Self {
        if matches!(caught, CaughtError::RustPanic { .. }) || Self::is_cancellation(&caught) {
            Caught::Raised(Box::new(caught))
        } else {
            Caught::Failed(Error::Postgres(Box::new(trace.report(&caught))))
        }
    }

    fn is_cancellation(caught: &CaughtError) -> bool {
        match caught {
            CaughtError::PostgresError(report) | CaughtError::ErrorReport(report) => {
                is_cancellation(report)
            }
            CaughtError::RustPanic { .. } => false,
        }
    }
}

/// Whether the error is a cancellation, which is meant for the caller's whole statement: by a user,
/// by `statement_timeout` or a similar limit. The same SQLSTATE raised by users' SQL does not count.
/// A shutdown is not an ERROR and never gets here.
///
/// PostgreSQL keeps no flag by which a cancellation could be recognized afterwards, so it is
/// recognized by the C function that raises it. It has this name in the versions 15 to 18. The test
/// `a_cancellation_is_raised_again` runs on each version and fails if that changes.
fn is_cancellation(report: &ErrorReportWithLevel) -> bool {
    report.sql_error_code() == PgSqlErrorCode::ERRCODE_QUERY_CANCELED
        && report.function_name() == Some("ProcessInterrupts")
}

/// What pgrx's error report lacks of a PostgreSQL error: the SQLSTATE if it is one that a user
/// defined, the context, and the position. An error context callback records them while the error is
/// being raised. An error that is raised again (plpgsql's `raise` without arguments) calls no
/// callback, so what was recorded for it before is found by its message and its place.
struct TracedError {
    message: String,
    file: String,
    line: u32,
    sqlstate: i32,
    context: Option<String>,
    position: Option<usize>,
}

impl TracedError {
    /// Whether this was recorded for the error of a report.
    fn is_of(&self, report: &ErrorReportWithLevel) -> bool {
        PgSqlErrorCode::from(self.sqlstate) == report.sql_error_code()
            && self.message == report.message()
            && self.file == report.file()
            && self.line == report.line_number()
    }
}

/// The most errors that a trace keeps, the latest ones. All but one of them have been caught by
/// users' SQL, which can still raise them again.
const MAX_TRACED: usize = 16;

/// Records errors that are raised, until it is dropped. Each one has records of its own: an error
/// within nested traces is recorded in all of them.
pub(in crate::pg) struct ErrorTrace(*mut Recorder);

struct Recorder {
    callback: pg_sys::ErrorContextCallback,
    errors: VecDeque<TracedError>,
}

impl ErrorTrace {
    pub(in crate::pg) fn begin() -> Self {
        let recorder = Box::into_raw(Box::new(Recorder {
            callback: pg_sys::ErrorContextCallback {
                // SAFETY: `error_context_stack` is a variable of the backend's only thread.
                previous: unsafe { pg_sys::error_context_stack },
                callback: Some(record_error),
                arg: std::ptr::null_mut(),
            },
            errors: VecDeque::new(),
        }));
        // SAFETY: the recorder is on the heap and live until `drop`, which takes it from the stack
        // of callbacks before it frees it.
        unsafe {
            (*recorder).callback.arg = recorder.cast();
            pg_sys::error_context_stack = &raw mut (*recorder).callback;
        }
        Self(recorder)
    }

    /// An error that was caught while this trace existed, as a report.
    pub(in crate::pg) fn report(&self, caught: &CaughtError) -> Report {
        let (report, traced) = match caught {
            CaughtError::PostgresError(report) => {
                // SAFETY: the recorder is live until `drop`. Only the callback changes it, and no
                // error is being raised now.
                let errors = unsafe { &(*self.0).errors };
                (report, errors.iter().rev().find(|error| error.is_of(report)))
            }
            CaughtError::ErrorReport(report) | CaughtError::RustPanic { ereport: report, .. } => {
                (report, None)
            }
        };
        Report {
            sqlstate: traced.map_or(report.sql_error_code() as i32, |traced| traced.sqlstate),
            message: report.message().to_owned(),
            detail: report.detail().map(str::to_owned),
            hint: report.hint().map(str::to_owned),
            context: traced.and_then(|traced| traced.context.clone()),
            position: traced.and_then(|traced| traced.position),
        }
    }
}

impl Drop for ErrorTrace {
    fn drop(&mut self) {
        // SAFETY: the recorder came from a Box in `begin`. Callbacks are a stack: what was pushed
        // after ours is gone, by return or by unwinding, so ours is the top of it.
        unsafe { pg_sys::error_context_stack = Box::from_raw(self.0).callback.previous };
    }
}

/// PostgreSQL calls this for every message while it is being built, notices included; only errors
/// are recorded.
///
/// # Safety
///
/// Only as the callback of a live [`Recorder`], with this recorder as its argument.
#[pg_guard]
unsafe extern "C-unwind" fn record_error(recorder: *mut std::ffi::c_void) {
    // SAFETY: the caller is errfinish() or GetErrorContextStack(): there is an entry on the stack of
    // errors, which is copied into a context that is deleted here. The recorder is live, and nothing
    // else refers to its errors while one is being raised.
    unsafe {
        let memory = new_context(c"recorded error");
        let outer = pg_sys::MemoryContextSwitchTo(memory);
        let data = pg_sys::CopyErrorData();
        pg_sys::MemoryContextSwitchTo(outer);
        if (*data).elevel >= PgLogLevel::ERROR as i32 {
            let errors = &mut (*recorder.cast::<Recorder>()).errors;
            if errors.len() == MAX_TRACED {
                errors.pop_front();
            }
            errors.push_back(traced(&*data));
        }
        pg_sys::MemoryContextDelete(memory);
    }
}

/// # Safety
///
/// The texts of `data` are null or C strings.
unsafe fn traced(data: &pg_sys::ErrorData) -> TracedError {
    let text = |text: *const std::ffi::c_char| {
        // SAFETY: a C string, as the caller promises.
        (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
    };
    // SPI makes the position one within the statement that it was given; the parser alone does not.
    let positions = [data.internalpos, data.cursorpos];
    // Where SPI gives a position, it gives the statement apart from the context.
    let statement = text(data.internalquery).map(|query| format!("SQL statement \"{query}\""));
    // The callbacks of what runs within the trace have been called before this one, the others
    // follow: the context ends where the trace began.
    let context: Vec<_> = statement.into_iter().chain(text(data.context)).collect();
    let context = strip_own_context(&context.join("\n")).to_owned();
    TracedError {
        message: text(data.message).unwrap_or_default(),
        file: text(data.filename).unwrap_or_default(),
        line: data.lineno as u32,
        sqlstate: data.sqlerrcode,
        context: (!context.is_empty()).then_some(context),
        position: positions.into_iter().find(|at| *at > 0).map(|at| at.unsigned_abs() as usize),
    }
}

/// Removes Segmenter's own statement around the users' SQL from a context. It is recognized by the
/// comment that it begins with.
fn strip_own_context(context: &str) -> &str {
    let ours = context.find("SQL statement \"-- ").unwrap_or(context.len());
    context[..ours].trim_end()
}
