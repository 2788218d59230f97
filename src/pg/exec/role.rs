//! Runs code with the rights of another role, and with settings of its own.

use std::ffi::{CStr, CString};
use std::rc::Rc;
use std::time::Duration;

use pgrx::prelude::*;

use crate::error::{Error, Result};
use crate::pg::exec::session::Session;
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};
pub use crate::pg::version::{MEMBERSHIP, may_act_as, owns_table};

/// The settings that decide the meaning of a query. They are fixed, so that a refresh gives the
/// same members for every caller and in every session.
pub struct Settings {
    pub search_path: String,
    pub timezone: String,
    /// For users' SQL: the other settings of its role's session. None: the SQL is our own, which is
    /// written for the built-in defaults.
    pub session: Option<Rc<Session>>,
}

/// What the text of our own statements, and what they do, relies on.
const OWN_SETTINGS: [(&CStr, &str); 11] = [
    (c"standard_conforming_strings", "on"),
    (c"backslash_quote", "safe_encoding"),
    (c"transform_null_equals", "off"),
    (c"quote_all_identifiers", "off"),
    (c"array_nulls", "on"),
    (c"xmlbinary", "base64"),
    (c"xmloption", "content"),
    (c"row_security", "on"),
    (c"session_replication_role", "origin"),
    (c"gin_fuzzy_search_limit", "0"),
    (c"exit_on_error", "off"),
];

/// Whose statements run, and whether they are restricted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    /// Segmenter's own statements, in which every name is qualified.
    Trusted,
    /// Users' SQL, or statements that may call it: restricted, unless the session is the role's own.
    /// That is so if the current, the session and the authenticated role are the role: then there is
    /// no other role that its SQL could go back to.
    User,
    /// The same, always restricted: in a security-restricted operation SQL cannot change the role or
    /// leave deferred triggers or temporary objects behind.
    Restricted,
}

/// A role as a value of the type `regrole`.
pub struct RegRole(pub pg_sys::Oid);

impl IntoDatum for RegRole {
    /// A role that does not exist is a value, too: `InvalidOid` is not null here.
    fn into_datum(self) -> Option<pg_sys::Datum> {
        Some(pg_sys::Datum::from(self.0.to_u32()))
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::REGROLEOID
    }
}

/// The current role, whose rights apply.
pub fn current() -> pg_sys::Oid {
    // SAFETY: the role is set from the authentication of the session, or the connecting of the
    // worker, until the end of the process: all of our code runs in between.
    unsafe { pg_sys::GetUserId() }
}

/// The role of the session, which has logged in or been set by SET SESSION AUTHORIZATION.
pub fn session() -> pg_sys::Oid {
    // SAFETY: the role is set from the authentication of the session, or the connecting of the
    // worker, until the end of the process: all of our code runs in between.
    unsafe { pg_sys::GetSessionUserId() }
}

/// Whether the session is a role's own: the current, the session and the authenticated role are it.
pub fn has_own_session(role: pg_sys::Oid) -> bool {
    // SAFETY: all three are set from the authentication of the session, or the connecting of the
    // worker, until the end of the process.
    let roles = unsafe {
        [pg_sys::GetUserId(), pg_sys::GetSessionUserId(), pg_sys::GetAuthenticatedUserId()]
    };
    roles.iter().all(|is| *is == role)
}

/// The name of a role, or its OID if it does not exist.
pub fn name(role: pg_sys::Oid) -> String {
    // SAFETY: needs a transaction for its look-up, in which SQL functions and jobs run. With `noerr`
    // set, a missing role gives a null pointer; a name is a new C string.
    unsafe {
        let name = pg_sys::GetUserNameFromId(role, true);
        if name.is_null() {
            return role.to_u32().to_string();
        }
        CStr::from_ptr(name).to_string_lossy().into_owned()
    }
}

/// The role with a name; none: there is none.
pub fn named(name: &str) -> Option<pg_sys::Oid> {
    let name = CString::new(name).ok()?;
    // SAFETY: needs a transaction for its look-up, in which SQL functions and jobs run. The name is a C
    // string that is live during the call; with `missing_ok` set, a missing role gives 0.
    let role = unsafe { pg_sys::get_role_oid(name.as_ptr(), true) };
    (role != pg_sys::InvalidOid).then_some(role)
}

/// Whether a role exists.
pub fn exists(role: pg_sys::Oid) -> bool {
    // SAFETY: needs a transaction for its look-up, in which SQL functions and jobs run. With `noerr`
    // set, a missing role gives a null pointer.
    unsafe { !pg_sys::GetUserNameFromId(role, true).is_null() }
}

/// Whether a role may log in; false if it does not exist.
pub fn can_log_in(role: pg_sys::Oid) -> Result<bool> {
    ask(
        "select r.rolcanlogin from pg_catalog.pg_roles r where r.oid operator(pg_catalog.=) $1",
        role,
    )
}

/// Whether a role may connect to this database; false if it does not exist.
pub fn can_connect(role: pg_sys::Oid) -> Result<bool> {
    let sql = "select pg_catalog.has_database_privilege($1, d.oid, 'connect')
        from pg_catalog.pg_database d where d.datname operator(pg_catalog.=) pg_catalog.current_database()";
    ask(sql, role)
}

/// Whether a role is a superuser; false if it does not exist.
pub fn is_superuser(role: pg_sys::Oid) -> bool {
    // SAFETY: needs a transaction for its look-up, in which SQL functions and jobs run. A role that
    // does not exist is none.
    unsafe { pg_sys::superuser_arg(role) }
}

/// Whether a role may act as another one by its memberships alone: a superuser that is no member may
/// not.
pub fn belongs_to(role: pg_sys::Oid, other: pg_sys::Oid) -> bool {
    if !is_superuser(role) {
        return may_act_as(role, other);
    }
    // SAFETY: needs a transaction for its look-ups, in which SQL functions and jobs run. Either role
    // may be missing: the answer is false then.
    unsafe { pg_sys::is_member_of_role_nosuper(role, other) }
}

/// Whether a role has the rights of pg_monitor.
pub fn is_monitor(role: pg_sys::Oid) -> bool {
    // SAFETY: needs a transaction for its look-ups, in which SQL functions and jobs run. The role may
    // be missing: the answer is false then.
    unsafe { pg_sys::has_privs_of_role(role, pg_sys::Oid::from(pg_sys::ROLE_PG_MONITOR)) }
}

/// Whether row-level security limits what a role sees of a relation; false if it does not exist.
pub fn is_limited_by_policies(role: pg_sys::Oid, relation: pg_sys::Oid) -> bool {
    // SAFETY: needs a transaction for its look-ups, in which SQL functions and jobs run. Either may be
    // missing; without an error, the setting row_security is of no account.
    let limited = unsafe { pg_sys::check_enable_rls(relation, role, true) };
    limited == pg_sys::CheckEnableRlsResult::RLS_ENABLED as i32
}

fn ask(sql: &str, role: pg_sys::Oid) -> Result<bool> {
    let answer = Spi::connect(|_| crate::pg::exec::statement::read_one(sql, &[role.into()]))?;
    Ok(answer.unwrap_or_default())
}

/// Runs `body` as `role`. The caller's role and settings are restored when it returns. If it raises
/// an error, the end of the (sub)transaction restores them.
pub fn run_as<T>(
    role: pg_sys::Oid,
    rights: Rights,
    settings: &Settings,
    body: impl FnOnce() -> T,
) -> T {
    let _identity = Identity::assume(role, rights);
    let _settings = SettingsLevel::enter();
    match &settings.session {
        Some(session) => session.apply(),
        None => set_own(),
    }
    set(c"search_path", &settings.search_path);
    set(c"TimeZone", &settings.timezone);
    // The text form of keys must not depend on the session either.
    set_text_form();
    // Compiling the expressions of a delta would take longer than it saves.
    set(c"jit", "off");
    body()
}

/// Runs `body`, our own statements on the system catalogs, with the caller's rights.
pub fn with_own_settings<T>(body: impl FnOnce() -> T) -> T {
    let _settings = SettingsLevel::enter();
    set_own();
    body()
}

fn set_own() {
    for (name, value) in OWN_SETTINGS {
        set(name, value);
    }
}

/// Runs `body` so that it waits for each lock for a limited time; a shorter limit of the session's
/// stays. A lock that is not granted in time is an error.
pub fn with_lock_timeout<T>(limit: Duration, body: impl FnOnce() -> T) -> T {
    let _settings = SettingsLevel::enter();
    // SAFETY: a variable of this process's only thread.
    let present = unsafe { pg_sys::LockTimeout };
    let limit = limit.as_millis().clamp(1, i32::MAX as u128) as i32;
    if present == 0 || present > limit {
        set(c"lock_timeout", &limit.to_string());
    }
    body()
}

/// Runs `body` in a time zone. One that PostgreSQL does not know raises an error.
pub fn with_timezone<T>(zone: &str, body: impl FnOnce() -> T) -> T {
    let _settings = SettingsLevel::enter();
    set(c"TimeZone", zone);
    body()
}

/// Runs `body` so that values have the same text form in every session.
pub fn with_text_form<T>(body: impl FnOnce() -> T) -> T {
    let _settings = SettingsLevel::enter();
    set_text_form();
    body()
}

/// Runs `body`, statements that look up few rows by their keys, with one plan for all parameters, which looks
/// each row up in an index: it reads no table as a whole, whatever is known of its size, nor does its planning
/// look at the values of a parameter.
pub fn by_index<T>(body: impl FnOnce() -> T) -> T {
    let _settings = SettingsLevel::enter();
    for (name, value) in BY_INDEX {
        set(name, value);
    }
    body()
}

/// The plans of such statements. The costs of what has no index would have expressions compiled.
const BY_INDEX: [(&CStr, &str); 7] = [
    (c"plan_cache_mode", "force_generic_plan"),
    (c"enable_seqscan", "off"),
    (c"enable_hashjoin", "off"),
    (c"enable_mergejoin", "off"),
    (c"enable_indexscan", "on"),
    (c"enable_nestloop", "on"),
    (c"jit", "off"),
];

/// Runs `body`, statements that look up rows which were written a short time ago, so that their plans take the
/// pages of these for what they are: in memory. A table is read as a whole if that is cheaper
/// nevertheless.
pub fn from_memory<T>(body: impl FnOnce() -> T) -> T {
    let _settings = SettingsLevel::enter();
    // SAFETY: variables of this process's only thread.
    let (random, sequential) = unsafe { (pg_sys::random_page_cost, pg_sys::seq_page_cost) };
    if random > sequential {
        set(c"random_page_cost", &sequential.to_string());
    }
    body()
}

fn set_text_form() {
    set(c"DateStyle", "ISO, MDY");
    set(c"IntervalStyle", "postgres");
    set(c"extra_float_digits", "1");
    set(c"bytea_output", "hex");
}

/// Runs `body` so that any change it makes is an error and is undone. PostgreSQL refuses most
/// changes; the others are recognized because a transaction id was assigned.
pub fn read_only<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    in_subtransaction(OnSuccess::Commit, || {
        // SAFETY: a variable of this process's only thread, which may become true at any time. The end
        // of the subtransaction restores it. (From version 16 on, it could not be set temporarily as
        // a setting.)
        unsafe { pg_sys::XactReadOnly = true };
        let value = body()?;
        // SAFETY: needs no more than a transaction: this is a subtransaction.
        let id = unsafe { pg_sys::GetCurrentTransactionIdIfAny() };
        if id == pg_sys::InvalidTransactionId { Ok(value) } else { Err(Error::NotReadOnly) }
    })
}

struct Identity {
    role: pg_sys::Oid,
    context: i32,
}

impl Identity {
    fn assume(role: pg_sys::Oid, rights: Rights) -> Self {
        let mut saved = Self { role: pg_sys::InvalidOid, context: 0 };
        let is_restricted = match rights {
            Rights::Trusted => false,
            Rights::User => !has_own_session(role),
            Rights::Restricted => true,
        };
        // SAFETY: both results are places of their own. Any role may be set, even a missing one: its
        // rights are looked up when they are needed. It is undone in `drop`, or by PostgreSQL when
        // the (sub)transaction aborts.
        unsafe {
            pg_sys::GetUserIdAndSecContext(&mut saved.role, &mut saved.context);
            let restriction = match (is_restricted, rights) {
                (true, _) => {
                    pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION
                }
                (false, Rights::Trusted) => pg_sys::SECURITY_LOCAL_USERID_CHANGE,
                (false, _) => 0,
            };
            pg_sys::SetUserIdAndSecContext(role, saved.context | restriction as i32);
        }
        saved
    }
}

impl Drop for Identity {
    fn drop(&mut self) {
        // SAFETY: restores what was there before.
        unsafe { pg_sys::SetUserIdAndSecContext(self.role, self.context) };
    }
}

struct SettingsLevel(i32);

impl SettingsLevel {
    fn enter() -> Self {
        // SAFETY: needs a transaction, which closes the level if `drop` does not: SQL functions and
        // jobs run in one.
        Self(unsafe { pg_sys::NewGUCNestLevel() })
    }
}

impl Drop for SettingsLevel {
    fn drop(&mut self) {
        // While an error unwinds, hooks of settings must not run: the abort restores the settings.
        if !std::thread::panicking() {
            // SAFETY: levels are a stack, and so are the values of this type, which no caller gets:
            // this is the last one. "false" undoes every change.
            unsafe { pg_sys::AtEOXact_GUC(false, self.0) };
        }
    }
}

fn set(name: &CStr, value: &str) {
    change(name, &CString::new(value).unwrap_or_default(), 0);
}

/// The same, for a value that may be invalid or a setting that may not exist: it stays as it is then.
pub(in crate::pg) fn set_if_valid(name: &CStr, value: &CStr) {
    change(name, value, PgLogLevel::DEBUG2 as i32);
}

/// Sets a value on the settings level that the callers have opened, if it is another one. `level` is that
/// of the report of an invalid value; 0: an error.
fn change(name: &CStr, value: &CStr, level: i32) {
    // SAFETY: both are C strings that are live during the calls. The present value is null if there
    // is no such setting, or a C string until the next call.
    unsafe {
        let present = pg_sys::GetConfigOption(name.as_ptr(), true, false);
        if !present.is_null() && CStr::from_ptr(present) == value {
            return;
        }
        pg_sys::set_config_option(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_SUSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_SAVE,
            true,
            level,
            false,
        );
    }
}

/// Whether a role has a privilege to write to a table; true if the table does not exist.
pub fn may_use_table(role: pg_sys::Oid, table: pg_sys::Oid) -> Result<bool> {
    let sql = "select pg_catalog.has_table_privilege($1, $2, 'insert, update, delete, truncate')";
    let allowed = Spi::connect(|client| {
        client.select(sql, Some(1), &[role.into(), table.into()])?.first().get_one::<bool>()
    })?;
    Ok(allowed.unwrap_or(true))
}
