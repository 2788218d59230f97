//! Settings whose values are checked when they are set.

use std::ffi::{CStr, CString, c_char, c_void};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};
use pgrx::prelude::*;

use crate::error::{self, Result, raise};
use crate::pg::exec::snapshot::Active;
use segmenter_core::http::address::Address;
use segmenter_core::schedule::parse_zone;

/// Defines a setting that holds the name of a time zone. Only names that both PostgreSQL and the
/// schedules know are accepted. Only superusers can set it, because it decides what every refresh
/// writes.
pub fn define_timezone(name: &'static CStr, texts: Texts, setting: &'static Setting) {
    define(name, texts, setting, GucContext::Suset, is_timezone);
}

/// Defines a setting of the server that holds a list of names. A text that is not a list is
/// refused.
pub fn define_names(name: &'static CStr, texts: Texts, setting: &'static Setting) {
    define(name, texts, setting, GucContext::Sighup, is_names);
}

/// Defines a setting that holds a list of addresses; an invalid address is refused. Only superusers
/// can set it, because it decides where the server may connect to.
pub fn define_addresses(name: &'static CStr, texts: Texts, setting: &'static Setting) {
    define(name, texts, setting, GucContext::Suset, is_addresses);
}

/// Defines a setting that holds the name of a relation set, or nothing. In a session, a name for
/// which `is_set` returns an error is refused. From a file, a database or a role the name is
/// accepted unchecked, and the error is raised when the setting is used.
pub fn define_set(
    name: &'static CStr,
    texts: Texts,
    setting: &'static Setting,
    is_set: fn(&str) -> Result<()>,
) {
    IS_SET.set(is_set).ok();
    IS_DEFINING.store(true, Ordering::Relaxed);
    define(name, texts, setting, GucContext::Userset, is_known_set);
    IS_DEFINING.store(false, Ordering::Relaxed);
}

static IS_SET: OnceLock<fn(&str) -> Result<()>> = OnceLock::new();
/// True while the setting is being defined. A value that was set before the library was loaded must
/// not be dropped with a warning then.
static IS_DEFINING: AtomicBool = AtomicBool::new(false);

/// The storage of a setting's text.
pub type Setting = GucSetting<Option<CString>>;
/// The short description of a setting, and the long one.
pub type Texts = [&'static CStr; 2];
type Check = unsafe extern "C-unwind" fn(
    *mut *mut c_char,
    *mut *mut c_void,
    pg_sys::GucSource::Type,
) -> bool;

fn define(
    name: &'static CStr,
    [short, long]: Texts,
    setting: &'static Setting,
    context: GucContext,
    check: Check,
) {
    let flags = GucFlags::empty();
    // SAFETY: the hooks below keep to what a check hook may do.
    unsafe {
        GucRegistry::define_string_guc_with_hooks(
            name,
            short,
            long,
            setting,
            context,
            flags,
            Some(check),
            None,
            None,
        );
    }
}

/// The names in a list, without the double quotes around them; `None` if the text is not a list.
pub fn split_names(list: &CStr) -> Option<Vec<String>> {
    // SAFETY: the list is split in a copy of its own, into which the names point.
    unsafe {
        let copy = pg_sys::pstrdup(list.as_ptr());
        let mut names = std::ptr::null_mut();
        let is_list = pg_sys::SplitGUCList(copy, b',' as c_char, &mut names);
        let names = is_list.then(|| {
            let names = pgrx::PgList::<c_char>::from_pg(names);
            let owned = |name: *mut c_char| CStr::from_ptr(name).to_string_lossy().into_owned();
            names.iter_ptr().map(owned).collect()
        });
        pg_sys::pfree(copy.cast());
        names
    }
}

/// Reserves a prefix, so that a misspelt setting under it is refused.
pub fn reserve_prefix(prefix: &'static CStr) {
    // SAFETY: the string is static.
    unsafe { pg_sys::MarkGUCPrefixReserved(prefix.as_ptr()) };
}

/// The answer of a check hook. If the value is refused, `why` becomes the DETAIL of the error.
///
/// # Safety
///
/// Only within a check hook, where PostgreSQL reads what is set here.
unsafe fn accept(is_valid: bool, why: impl FnOnce() -> String) -> bool {
    if !is_valid && let Ok(why) = CString::new(why()) {
        // SAFETY: a copy in PostgreSQL's memory, which it reads when it reports the error.
        unsafe { pg_sys::GUC_check_errdetail_string = pg_sys::pstrdup(why.as_ptr()) };
    }
    is_valid
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
        let is_zone = !pg_sys::pg_tzset(name.as_ptr()).is_null()
            && name.to_str().is_ok_and(|name| parse_zone(name).is_ok());
        accept(is_zone, || "A time zone is an IANA name, such as UTC or Europe/Berlin.".into())
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn is_names(
    value: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: as above.
    unsafe {
        let is_list =
            (*value).as_ref().is_none_or(|_| split_names(CStr::from_ptr(*value)).is_some());
        accept(is_list, || {
            "A list of names is separated by commas, as in: shop, \"Shop 2\".".into()
        })
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn is_addresses(
    value: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: as above.
    unsafe {
        let Some(list) = (*value).as_ref().map(|_| CStr::from_ptr(*value)) else { return true };
        let Some(names) = split_names(list) else {
            return accept(false, || "A list of URLs is separated by commas.".into());
        };
        let invalid = names.iter().find_map(|name| Some((name, name.parse::<Address>().err()?)));
        accept(invalid.is_none(), || {
            invalid.map_or_else(String::new, |(name, error)| format!("\"{name}\": {error}."))
        })
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn is_known_set(
    value: *mut *mut c_char,
    _extra: *mut *mut c_void,
    source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: as above.
    let name = unsafe { (*value).as_ref().map(|_| CStr::from_ptr(*value)) };
    let name = name.map(CStr::to_string_lossy).unwrap_or_default();
    let is_test = source == pg_sys::GucSource::PGC_S_TEST;
    // SAFETY: reads the state of the transaction, and a global that a parallel worker sets.
    let can_look = unsafe { pg_sys::IsTransactionState() && pg_sys::ParallelWorkerNumber < 0 };
    if name.is_empty()
        || !can_look
        || IS_DEFINING.load(Ordering::Relaxed)
        || !(is_test || source >= pg_sys::GucSource::PGC_S_INTERACTIVE)
    {
        return true;
    }
    let Some(is_set) = IS_SET.get() else { return true };
    let _snapshot = Active::catalog();
    match is_set(&name) {
        Ok(()) => {}
        // ALTER DATABASE and ALTER ROLE: the set may exist where and when the value is used.
        Err(error) if is_test => error::emit(PgLogLevel::NOTICE, error.to_string(), None),
        Err(error) => raise(error),
    }
    true
}
