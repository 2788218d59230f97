//! Settings whose values are checked.

use std::ffi::{CStr, CString, c_char, c_void};

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};
use pgrx::prelude::*;

use crate::schedule::parse_zone;

/// Defines a setting that holds the name of a time zone. A name that PostgreSQL or the schedules
/// do not know is refused. Only superusers set it, because it decides what every refresh writes.
pub fn define_timezone(
    name: &'static CStr,
    short: &'static CStr,
    long: &'static CStr,
    setting: &'static GucSetting<Option<CString>>,
) {
    // SAFETY: the hook keeps to what a check hook may do.
    unsafe {
        GucRegistry::define_string_guc_with_hooks(
            name,
            short,
            long,
            setting,
            GucContext::Suset,
            GucFlags::empty(),
            Some(is_timezone),
            None,
            None,
        );
    }
}

/// Reserves a prefix, so that a misspelt setting is refused.
pub fn reserve_prefix(prefix: &'static CStr) {
    // SAFETY: the string is static.
    unsafe { pg_sys::MarkGUCPrefixReserved(prefix.as_ptr()) };
}

#[pg_guard]
unsafe extern "C-unwind" fn is_timezone(
    value: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: PostgreSQL hands over the new value, a C string that may be null for a default.
    unsafe {
        let Some(name) = (*value).as_ref().map(|_| CStr::from_ptr(*value)) else { return true };
        !pg_sys::pg_tzset(name.as_ptr()).is_null()
            && name.to_str().is_ok_and(|name| parse_zone(name).is_ok())
    }
}
