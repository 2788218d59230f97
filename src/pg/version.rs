//! Differences between PostgreSQL versions, and what pgrx's bindings lack. No other module depends
//! on the version.
//!
//! A `cfg` names the versions that are old. So a version that is newer than all of them gets the
//! code of the newest one.

use std::ffi::{CStr, c_int};

use pgrx::prelude::*;

#[cfg(any(feature = "pg15", feature = "pg16", feature = "pg17"))]
pub(in crate::pg) use pg_sys::pqsignal;
#[cfg(not(any(feature = "pg15", feature = "pg16", feature = "pg17")))]
pub(in crate::pg) use pg_sys::pqsignal_be as pqsignal;

/// Functions that pgrx does not bind, or not as signal handlers: it binds them as Rust functions.
mod unbound {
    use std::ffi::c_int;

    unsafe extern "C-unwind" {
        pub fn die(signal: c_int);
        pub fn SignalHandlerForConfigReload(signal: c_int);
        pub fn enable_timeout_after(id: c_int, delay_ms: c_int);
        pub fn disable_timeout(id: c_int, keep_indicator: bool);
    }
}

/// The server's handlers of SIGTERM and SIGHUP.
pub(in crate::pg) use unbound::{SignalHandlerForConfigReload as reload_later, die};

/// `STATEMENT_TIMEOUT` of the enum `TimeoutId`: the same in the versions 15 to 18.
const STATEMENT_TIMEOUT: c_int = 3;

/// Cancels what is running after some milliseconds, as `statement_timeout` does. One that is set
/// already is replaced.
///
/// # Safety
///
/// The process is connected to a database: then the server has registered the timeout.
#[expect(ffi_unwind_calls, reason = "within a guard")]
pub(in crate::pg) unsafe fn enable_statement_timeout(milliseconds: c_int) {
    // SAFETY: the timeout is registered, as the caller promises.
    unsafe {
        pg_sys::ffi::pg_guard_ffi_boundary(|| {
            unbound::enable_timeout_after(STATEMENT_TIMEOUT, milliseconds)
        })
    }
}

/// Ends the timeout. A cancellation that it has requested before may still be pending.
///
/// # Safety
///
/// As for [`enable_statement_timeout`].
#[expect(ffi_unwind_calls, reason = "within a guard")]
pub(in crate::pg) unsafe fn disable_statement_timeout() {
    // SAFETY: the timeout is registered, as the caller promises.
    unsafe {
        pg_sys::ffi::pg_guard_ffi_boundary(|| unbound::disable_timeout(STATEMENT_TIMEOUT, false))
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

/// Splits a name at its dots into a list in the current memory context. A text that cannot be a name
/// raises an error.
pub(in crate::pg) fn name_parts(name: &CStr) -> *mut pg_sys::List {
    // SAFETY: the C string is live during the call, which copies it; without a context for soft
    // errors (the null pointer) they are raised.
    unsafe {
        #[cfg(feature = "pg15")]
        return pg_sys::stringToQualifiedNameList(name.as_ptr());
        #[cfg(not(feature = "pg15"))]
        return pg_sys::stringToQualifiedNameList(name.as_ptr(), std::ptr::null_mut());
    }
}
