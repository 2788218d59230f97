//! A time limit within a statement of a client's session.

use std::ffi::c_int;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pgrx::prelude::*;

use crate::pg::version::{self, Timeout};

static TIMEOUT: OnceLock<Timeout> = OnceLock::new();
/// The limit has passed.
static IS_OVER: AtomicBool = AtomicBool::new(false);

/// What is running at the limit is cancelled. It ends when this is dropped; one at a time.
pub(in crate::pg) struct TimeLimit(Timeout);

/// PostgreSQL calls this within a signal handler.
unsafe extern "C-unwind" fn cancel() {
    IS_OVER.store(true, Ordering::Relaxed);
    version::cancel_at_next_interrupt();
}

impl TimeLimit {
    pub fn begin(limit: Duration) -> Self {
        // SAFETY: registered once in the process. The handler only sets flags.
        let timeout = *TIMEOUT.get_or_init(|| unsafe { Timeout::register(cancel) });
        IS_OVER.store(false, Ordering::Relaxed);
        // SAFETY: callers are SQL functions, in sessions that are connected to their database.
        unsafe { timeout.enable(limit.as_millis().clamp(1, i32::MAX as u128) as c_int) };
        Self(timeout)
    }

    /// Whether the limit has passed, so that a cancellation is its own.
    pub fn is_over(&self) -> bool {
        IS_OVER.load(Ordering::Relaxed)
    }
}

impl Drop for TimeLimit {
    fn drop(&mut self) {
        // SAFETY: enabled in `begin`.
        unsafe { self.0.disable() };
        // It may have passed just after the end. Its cancellation would hit whatever comes next.
        if self.is_over() {
            discard_cancel();
        }
    }
}

/// Takes back a cancellation that was not raised yet.
pub(in crate::pg) fn discard_cancel() {
    // SAFETY: a flag of this process, which it may clear at any time; only the handler of SIGINT and
    // the timeouts set it. It is a C `sig_atomic_t`.
    unsafe { (&raw mut pg_sys::QueryCancelPending).write_volatile(0) };
}
