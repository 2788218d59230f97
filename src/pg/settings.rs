//! Settings whose values are checked when they are set.

use std::ffi::{CStr, CString, c_char, c_void};
use std::sync::OnceLock;

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};
use pgrx::prelude::*;

use crate::error::{self, Report, Result};
use crate::pg::exec::snapshot::Active;
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};
use segmenter_core::http::address::Address;
use segmenter_core::schedule::parse_zone;

/// Defines a setting that holds the name of a time zone. Only names that both PostgreSQL and the
/// schedules know are accepted. Only superusers can set it, because it decides what every refresh
/// writes. That of a session has no effect, of which it is warned.
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
    define(name, texts, setting, GucContext::Userset, is_known_set);
    // Only now: a value that was set before the library was loaded has been accepted unchecked. If
    // it were refused, it would be dropped with a warning.
    IS_SET.set(is_set).ok();
}

/// The check of a set's name; none while the setting is being defined.
static IS_SET: OnceLock<fn(&str) -> Result<()>> = OnceLock::new();

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
    // SAFETY: the hook is one of those below: it reads the new value, and sets only what a check
    // hook may set to refuse it.
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
    // SAFETY: the text is split in a copy, into which the names point: they are copied before it is
    // freed.
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
    // SAFETY: a C string, which PostgreSQL copies.
    unsafe { pg_sys::MarkGUCPrefixReserved(prefix.as_ptr()) };
}

/// The new value that a check hook is to check; `None` for a null pointer, which a default can be.
///
/// # Safety
///
/// `value` is the first argument of a check hook. The text is live during the call of the hook.
unsafe fn new_value<'a>(value: *mut *mut c_char) -> Option<&'a CStr> {
    // SAFETY: PostgreSQL hands over the place of a pointer that is null or points to a C string.
    unsafe { (!(*value).is_null()).then(|| CStr::from_ptr(*value)) }
}

/// A copy of a text in PostgreSQL's memory; null for a text with a zero byte.
fn pg_text(text: &str) -> *mut c_char {
    let Ok(text) = CString::new(text) else { return std::ptr::null_mut() };
    // SAFETY: copies a C string that is live during the call.
    unsafe { pg_sys::pstrdup(text.as_ptr()) }
}

/// The answer of a check hook. If the value is refused, `why` becomes the DETAIL of the error. To be
/// called within a check hook only: elsewhere it has no effect.
fn accept(is_valid: bool, why: impl FnOnce() -> String) -> bool {
    if !is_valid {
        // SAFETY: PostgreSQL resets this variable before it calls a hook, and reads it when the hook
        // has refused a value; it is of this process's only thread.
        unsafe { pg_sys::GUC_check_errdetail_string = pg_text(&why()) };
    }
    is_valid
}

/// The answer of a check hook that refuses a value, with an error of its own. As for [`accept`].
fn refuse(report: &Report) -> bool {
    // SAFETY: as for the DETAIL in `accept`. Null pointers leave these parts out.
    unsafe {
        pg_sys::GUC_check_errcode(report.sqlstate);
        pg_sys::GUC_check_errmsg_string = pg_text(&report.message);
        let optional =
            |text: &Option<String>| text.as_deref().map_or(std::ptr::null_mut(), pg_text);
        pg_sys::GUC_check_errdetail_string = optional(&report.detail);
        pg_sys::GUC_check_errhint_string = optional(&report.hint);
    }
    false
}

/// Checks the name of a time zone.
///
/// # Safety
///
/// Only as a check hook, with the arguments of one.
#[pg_guard]
unsafe extern "C-unwind" fn is_timezone(
    value: *mut *mut c_char,
    _extra: *mut *mut c_void,
    source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: called with the arguments of a check hook. The zone that pg_tzset() returns is cached
    // by PostgreSQL for ever; only whether there is one matters.
    unsafe {
        let Some(name) = new_value(value) else { return true };
        let is_zone = !pg_sys::pg_tzset(name.as_ptr()).is_null()
            && name.to_str().is_ok_and(|name| parse_zone(name).is_ok());
        if is_zone && source == pg_sys::GucSource::PGC_S_SESSION && pg_sys::ParallelWorkerNumber < 0
        {
            error::emit(
                PgLogLevel::WARNING,
                "segmenter.timezone of a session has no effect".into(),
                Some("The database's applies: ALTER DATABASE ... SET segmenter.timezone."),
            );
        }
        accept(is_zone, || "A time zone is an IANA name, such as UTC or Europe/Berlin.".into())
    }
}

/// Checks a list of names.
///
/// # Safety
///
/// Only as a check hook, with the arguments of one.
#[pg_guard]
unsafe extern "C-unwind" fn is_names(
    value: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: called with the arguments of a check hook.
    let value = unsafe { new_value(value) };
    let is_list = value.is_none_or(|list| split_names(list).is_some());
    accept(is_list, || "A list of names is separated by commas, as in: shop, \"Shop 2\".".into())
}

/// Checks a list of addresses.
///
/// # Safety
///
/// Only as a check hook, with the arguments of one.
#[pg_guard]
unsafe extern "C-unwind" fn is_addresses(
    value: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: called with the arguments of a check hook.
    let Some(list) = (unsafe { new_value(value) }) else { return true };
    let Some(names) = split_names(list) else {
        return accept(false, || "A list of URLs is separated by commas.".into());
    };
    let invalid = names.iter().find_map(|name| Some((name, name.parse::<Address>().err()?)));
    accept(invalid.is_none(), || {
        invalid.map_or_else(String::new, |(name, error)| format!("\"{name}\": {error}."))
    })
}

/// Checks a set's name by a look-up. The look-up runs in a subtransaction, so that any error of it
/// becomes a refusal: what the caller does with a refused value (an error, a warning, a default) is
/// its own decision. Only a cancellation is raised.
///
/// # Safety
///
/// Only as a check hook, with the arguments of one.
#[pg_guard]
unsafe extern "C-unwind" fn is_known_set(
    value: *mut *mut c_char,
    _extra: *mut *mut c_void,
    source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: called with the arguments of a check hook.
    let name = unsafe { new_value(value) }.map(CStr::to_string_lossy).unwrap_or_default();
    let is_test = source == pg_sys::GucSource::PGC_S_TEST;
    if name.is_empty()
        || !can_look_up()
        || !(is_test || source >= pg_sys::GucSource::PGC_S_INTERACTIVE)
    {
        return true;
    }
    let Some(is_set) = IS_SET.get() else { return true };
    let found = in_subtransaction(OnSuccess::Commit, || {
        let _snapshot = Active::catalog();
        is_set(&name)
    });
    match found {
        Ok(()) => true,
        // ALTER DATABASE and ALTER ROLE: the set may exist where and when the value is used.
        Err(error) if is_test => {
            error::emit(PgLogLevel::NOTICE, error.to_string(), None);
            true
        }
        Err(error) => refuse(&error.report()),
    }
}

/// Whether a look-up in a subtransaction is possible: in a transaction that has not failed, and that
/// runs no parallel query. A parallel worker takes over settings that its leader has checked.
fn can_look_up() -> bool {
    // SAFETY: these read the state of this process and its transaction, and may be called without
    // one.
    unsafe {
        pg_sys::IsTransactionState()
            && pg_sys::ParallelWorkerNumber < 0
            && !pg_sys::IsInParallelMode()
    }
}
