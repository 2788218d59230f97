//! The settings that a role's SQL sees: those of a new connection of the role to this database,
//! whatever the session that runs it has set.
//!
//! Only what cannot decide a result stays the caller's: memory, parallelism, the choice of plans,
//! timeouts, logging, statistics. PostgreSQL's own grouping of the settings decides, not a list of
//! those that are known to matter, so a setting that a later version or a library adds is covered.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char};
use std::rc::Rc;

use pgrx::prelude::*;

use crate::error::{Error, Result};
use crate::pg::exec::role::{self, Rights, Settings};
use crate::pg::exec::statement;
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};
use crate::pg::version;

/// Settings that remain the caller's although they are of a group that may decide a result: how
/// values go to the client, limits of time, and what a transaction fixes when it begins.
const CALLERS: [&str; 10] = [
    "client_encoding",
    "client_min_messages",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "lock_timeout",
    "statement_timeout",
    "transaction_deferrable",
    "transaction_isolation",
    "transaction_read_only",
    "transaction_timeout",
];

/// The setting for which the server has a default that it gives when it starts.
const DEFAULT_ABBREVIATIONS: (&str, &str) = ("timezone_abbreviations", "Default");

/// The prefix of our own settings, which are read where they apply.
const OWN_PREFIX: &str = "segmenter.";

/// The settings that the SQL of a role runs with, as far as this process may have others.
pub struct Session(Vec<(CString, CString)>);

impl Session {
    /// The settings of a new connection of a role to this database.
    pub fn of(role: pg_sys::Oid) -> Result<Self> {
        // The files and some settings are for superusers to read.
        as_superuser(|| {
            load_libraries_of_settings()?;
            let mut configured = configured_for(role)?;
            let mut settings = Vec::new();
            for setting in version::settings() {
                // SAFETY: it points to a setting, and nothing has been run since that removes one.
                let setting = unsafe { &*setting };
                let name = name_of(setting);
                if !decides(setting, &name) {
                    continue;
                }
                let value = match configured.remove(&name.to_lowercase()) {
                    Some(value) => value,
                    None if is_of_server(setting.source) => continue,
                    None => value_of_server(setting)?,
                };
                settings.push((name, value));
            }
            // Settings of libraries that this process has not loaded.
            let others = configured
                .into_iter()
                .filter(|(name, _)| name.contains('.') && !name.starts_with(OWN_PREFIX));
            settings.extend(others);
            let c_string = |text: String| CString::new(text).unwrap_or_default();
            let pairs = settings.into_iter().map(|(name, value)| (c_string(name), c_string(value)));
            Ok(Self(pairs.collect()))
        })
    }

    /// Sets them, on the settings level that is open.
    pub(in crate::pg) fn apply(&self) {
        for (name, value) in &self.0 {
            // A connection only warns of a value that has become invalid, and goes on without it.
            role::set_if_valid(name, value);
        }
    }
}

/// The value that a setting has in this database whatever the role and the session: `of_database` is
/// that of `alter database … set`, if there is one.
pub fn value_in_database(name: &CStr, of_database: Option<String>) -> Result<String> {
    if let Some(value) = of_database {
        return Ok(value);
    }
    match version::setting(name) {
        // SAFETY: it points to a setting, and nothing has been run since that removes one.
        Some(setting) => as_superuser(|| value_of_server(unsafe { &*setting })),
        None => Ok(String::new()),
    }
}

fn as_superuser<T>(body: impl FnOnce() -> T) -> T {
    let settings = Settings {
        search_path: "pg_catalog, pg_temp".into(),
        timezone: "UTC".into(),
        session: None,
    };
    role::run_as(pg_sys::Oid::from(pg_sys::BOOTSTRAP_SUPERUSERID), Rights::Trusted, &settings, body)
}

/// Whether a setting may decide a result and can be changed in a session.
fn decides(setting: &pg_sys::config_generic, name: &str) -> bool {
    use pg_sys::GucContext::{PGC_SUSET, PGC_USERSET};
    use pg_sys::config_group as group;
    // The groups before are those of connections, memory, WAL, replication, planning, logging,
    // statistics and vacuum, in all versions.
    let may_decide = setting.group >= group::CLIENT_CONN_STATEMENT
        && setting.group != group::LOCK_MANAGEMENT
        && setting.group != group::PRESET_OPTIONS;
    may_decide
        && matches!(setting.context, PGC_SUSET | PGC_USERSET)
        && !CALLERS.contains(&name)
        && !name.starts_with(OWN_PREFIX)
}

/// Loads the libraries that this session has set something of before they were loaded: what their
/// settings are otherwise is known only then, and the SQL would load them itself.
fn load_libraries_of_settings() -> Result<()> {
    let is_unknown = |setting: &pg_sys::config_generic| {
        setting.flags as u32 & pg_sys::GUC_CUSTOM_PLACEHOLDER != 0 && !is_of_server(setting.source)
    };
    // SAFETY: they point to settings, and nothing is run that removes one.
    let names = version::settings().into_iter().map(|setting| unsafe { &*setting });
    let names = names.filter(|setting| is_unknown(setting)).map(name_of);
    let prefix_of = |name: String| name.split_once('.').map(|(prefix, _)| prefix.to_owned());
    let prefixes: Vec<String> = names.filter_map(prefix_of).collect();
    if prefixes.is_empty() {
        return Ok(());
    }
    let sql = "select pg_catalog.array_agg(distinct p.probin)
        from pg_catalog.pg_proc p
        where p.probin operator(pg_catalog.=) any ($1)
           or p.probin operator(pg_catalog.=) any (
               select pg_catalog.concat('$libdir/', x.prefix) from pg_catalog.unnest($1) x (prefix))";
    let libraries = Spi::connect(|_| statement::read_one::<Vec<String>>(sql, &[prefixes.into()]))?;
    for library in libraries.unwrap_or_default() {
        let library = CString::new(library).unwrap_or_default();
        // A library that cannot be loaded fails where it is used.
        let _ = in_subtransaction(OnSuccess::Commit, || {
            // SAFETY: a C string that is live during the call. It is the library of a function, which
            // only a superuser can have made; its errors are caught by the subtransaction.
            unsafe { pg_sys::load_file(library.as_ptr(), false) };
            Ok(())
        });
    }
    Ok(())
}

/// Whether a value comes from the server: its defaults, its configuration files, its command line.
fn is_of_server(source: pg_sys::GucSource::Type) -> bool {
    source <= pg_sys::GucSource::PGC_S_ARGV
}

/// The value of a setting that belongs to neither a database, a role nor a session.
fn value_of_server(setting: &pg_sys::config_generic) -> Result<String> {
    if is_of_server(setting.reset_source) {
        // SAFETY: the name is that of a setting. The result is a C string that lives until the next
        // call; it is copied.
        return Ok(unsafe { owned(pg_sys::GetConfigOptionResetString(setting.name)) });
    }
    // The database, the role or the client has replaced it.
    let name = name_of(setting);
    Ok(match values_in_files()?.get(&name.to_lowercase()) {
        Some(value) => value.clone(),
        None => default_of(setting),
    })
}

/// The built-in default of a setting.
fn default_of(setting: &pg_sys::config_generic) -> String {
    use pg_sys::config_type;
    if name_of(setting) == DEFAULT_ABBREVIATIONS.0 {
        return DEFAULT_ABBREVIATIONS.1.to_owned();
    }
    let place: *const pg_sys::config_generic = setting;
    // SAFETY: each setting is the first field of the structure of its type. Texts are null or C
    // strings, which are copied.
    unsafe {
        match setting.vartype {
            config_type::PGC_BOOL => {
                if (*place.cast::<pg_sys::config_bool>()).boot_val { "on" } else { "off" }.into()
            }
            config_type::PGC_INT => (*place.cast::<pg_sys::config_int>()).boot_val.to_string(),
            config_type::PGC_REAL => (*place.cast::<pg_sys::config_real>()).boot_val.to_string(),
            config_type::PGC_STRING => owned((*place.cast::<pg_sys::config_string>()).boot_val),
            _ => {
                let setting = place.cast::<pg_sys::config_enum>().cast_mut();
                owned(pg_sys::config_enum_lookup_by_value(setting, (*setting).boot_val))
            }
        }
    }
}

/// What `alter database` and `alter role` have set for the connections of a role to this database,
/// by names in lower case.
fn configured_for(role: pg_sys::Oid) -> Result<HashMap<String, String>> {
    // What is for a role goes before what is for a database.
    let sql = "select c.setting
        from pg_catalog.pg_db_role_setting r
        cross join lateral pg_catalog.unnest(r.setconfig) with ordinality c (setting, place)
        where r.setrole operator(pg_catalog.=) any (array[0::pg_catalog.oid, $1])
          and r.setdatabase operator(pg_catalog.=) any (array[0::pg_catalog.oid, $2])
        order by r.setrole operator(pg_catalog.<>) 0::pg_catalog.oid,
            r.setdatabase operator(pg_catalog.<>) 0::pg_catalog.oid, c.place";
    // SAFETY: a variable that is set once, when the process connects.
    let database = unsafe { pg_sys::MyDatabaseId };
    let mut values = HashMap::new();
    Spi::connect(|client| {
        let statement = crate::pg::exec::kept::Kept::new(sql);
        for row in client.select(statement, None, &[role.into(), database.into()])? {
            let setting: String = row.get(1)?.unwrap_or_default();
            if let Some((name, value)) = setting.split_once('=') {
                values.insert(name.to_lowercase(), value.to_owned());
            }
        }
        Ok::<_, Error>(values)
    })
}

type Values = Rc<HashMap<String, String>>;

/// The values in the configuration files, by names in lower case. They are read once for each time
/// that the server has loaded them.
fn values_in_files() -> Result<Values> {
    thread_local! {
        static FILES: RefCell<Option<(pg_sys::TimestampTz, Values)>> = const { RefCell::new(None) };
    }
    // SAFETY: a variable of this process's only thread.
    let loaded = unsafe { pg_sys::PgReloadTime };
    if let Some((at, values)) = FILES.with(|files| files.borrow().clone())
        && at == loaded
    {
        return Ok(values);
    }
    let sql =
        "select pg_catalog.jsonb_object_agg(pg_catalog.lower(f.name), f.setting order by f.seqno)
        from pg_catalog.pg_show_all_file_settings() f
        where f.error is null and f.name is not null and f.setting is not null";
    let read = Spi::connect(|_| statement::read_one::<pgrx::JsonB>(sql, &[]))?;
    let mut values = HashMap::new();
    if let Some(pgrx::JsonB(serde_json::Value::Object(read))) = read {
        for (name, value) in read {
            values.insert(name, value.as_str().unwrap_or_default().to_owned());
        }
    }
    let values = Rc::new(values);
    FILES.with(|files| *files.borrow_mut() = Some((loaded, Rc::clone(&values))));
    Ok(values)
}

fn name_of(setting: &pg_sys::config_generic) -> String {
    // SAFETY: the name of a setting is a C string as long as the setting is there.
    unsafe { owned(setting.name) }
}

/// A copy of a text; empty for a null pointer.
///
/// # Safety
///
/// The pointer is null, or points to a C string.
unsafe fn owned(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: as the caller promises.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
