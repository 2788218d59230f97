//! Differences between PostgreSQL versions. No other module depends on the version.

use std::ffi::CStr;

use pgrx::prelude::*;

#[cfg(not(feature = "pg18"))]
pub use pg_sys::pqsignal;
#[cfg(feature = "pg18")]
pub use pg_sys::pqsignal_be as pqsignal;

/// The kind of membership that `pg_has_role` checks to find out whether a role may act as another.
/// From version 16 on, a membership without SET does not allow a role to become the other one.
#[cfg(feature = "pg15")]
pub const MEMBERSHIP: &str = "'member'";
#[cfg(not(feature = "pg15"))]
pub const MEMBERSHIP: &str = "'set'";

/// The same check in C.
pub fn may_act_as(caller: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    // SAFETY: reads the catalogs.
    unsafe {
        #[cfg(feature = "pg15")]
        return pg_sys::is_member_of_role(caller, role);
        #[cfg(not(feature = "pg15"))]
        return pg_sys::member_can_set_role(caller, role);
    }
}

/// Whether a role has the rights of a table's owner.
pub fn owns_table(role: pg_sys::Oid, table: pg_sys::Oid) -> bool {
    // SAFETY: reads the catalogs.
    unsafe {
        #[cfg(feature = "pg15")]
        return pg_sys::pg_class_ownercheck(table, role);
        #[cfg(not(feature = "pg15"))]
        return pg_sys::object_ownercheck(pg_sys::RelationRelationId, table, role);
    }
}

/// Splits a name at its dots. A text that cannot be a name raises an error.
pub(in crate::pg) fn name_parts(name: &CStr) -> *mut pg_sys::List {
    // SAFETY: reads the string; without a context for errors they are raised.
    unsafe {
        #[cfg(feature = "pg15")]
        return pg_sys::stringToQualifiedNameList(name.as_ptr());
        #[cfg(not(feature = "pg15"))]
        return pg_sys::stringToQualifiedNameList(name.as_ptr(), std::ptr::null_mut());
    }
}
