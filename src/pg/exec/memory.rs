//! PostgreSQL's memory contexts.

use std::ffi::CStr;

use pgrx::prelude::*;

/// A new memory context below the one that holds what lives as long as the process. The caller
/// deletes it.
pub(in crate::pg) fn new_context(name: &'static CStr) -> pg_sys::MemoryContext {
    // SAFETY: `TopMemoryContext` exists from the start of a process to its end.
    unsafe { new_context_in(pg_sys::TopMemoryContext, name) }
}

/// A new memory context that is deleted with its parent, if not before.
///
/// # Safety
///
/// `parent` is a live memory context.
pub(in crate::pg) unsafe fn new_context_in(
    parent: pg_sys::MemoryContext,
    name: &'static CStr,
) -> pg_sys::MemoryContext {
    // SAFETY: the parent is live, as the caller promises; the context keeps a pointer to its name,
    // which is static.
    unsafe {
        pg_sys::AllocSetContextCreateInternal(
            parent,
            name.as_ptr(),
            pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
            pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
            pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
        )
    }
}
