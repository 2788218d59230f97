//! Where PostgreSQL's versions differ. No other module asks which one it is built for.

use std::ffi::CStr;

use pgrx::prelude::*;

#[cfg(not(feature = "pg18"))]
pub use pg_sys::pqsignal;
#[cfg(feature = "pg18")]
pub use pg_sys::pqsignal_be as pqsignal;

/// What `pg_has_role` is asked to learn whether a role may act as another. From 16 on a membership
/// can be without SET, and then gives no right to become the role.
#[cfg(feature = "pg15")]
pub const MEMBERSHIP: &str = "'member'";
#[cfg(not(feature = "pg15"))]
pub const MEMBERSHIP: &str = "'set'";

/// The same in C.
pub fn may_act_as(caller: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    // SAFETY: asks the catalogues.
    unsafe {
        #[cfg(feature = "pg15")]
        return pg_sys::is_member_of_role(caller, role);
        #[cfg(not(feature = "pg15"))]
        return pg_sys::member_can_set_role(caller, role);
    }
}

/// Whether a role could alter a table.
pub fn owns_table(role: pg_sys::Oid, table: pg_sys::Oid) -> bool {
    // SAFETY: asks the catalogues.
    unsafe {
        #[cfg(feature = "pg15")]
        return pg_sys::pg_class_ownercheck(table, role);
        #[cfg(not(feature = "pg15"))]
        return pg_sys::object_ownercheck(pg_sys::RelationRelationId, table, role);
    }
}

/// A name taken apart at its dots; one that cannot be a name is raised.
pub(in crate::pg) fn name_parts(name: &CStr) -> *mut pg_sys::List {
    // SAFETY: reads the string; without a context for errors they are raised.
    unsafe {
        #[cfg(feature = "pg15")]
        return pg_sys::stringToQualifiedNameList(name.as_ptr());
        #[cfg(not(feature = "pg15"))]
        return pg_sys::stringToQualifiedNameList(name.as_ptr(), std::ptr::null_mut());
    }
}
