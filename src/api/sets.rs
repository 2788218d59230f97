//! The SQL functions that create, list and drop relation sets.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::require_arg;
use crate::catalog::manage_sets;
use crate::catalog::migrate;
use crate::catalog::registry;
use crate::pg::bgw::process;

/// Creates a relation set, as ordinary tables of the caller.
///
/// - `cfg_table`: the name of the mart, and the prefix of the other names: `crm.seg` creates
///   `crm.seg_segments`, `crm.seg_status` and so on. The name is parsed as PostgreSQL parses names;
///   without a schema, the first one of `search_path` is used.
/// - `log_table`: the name of the log; by default `cfg_table` with `_log`.
///
/// Returns the mart. A name that is taken, too long, or in a schema for temporary objects is an
/// error, and nothing is created. `set segmenter.cfg_table` makes a session work on the set; the
/// background workers serve all sets.
///
/// ```sql
/// select segmenter_init('crm.seg');
/// ```
#[pg_extern(sql = "
create function segmenter_init(cfg_table text default 'segmenter', log_table text default null) returns regclass
language c as 'MODULE_PATHNAME', '@FUNCTION_NAME@';
")]
fn segmenter_init(
    cfg_table: Option<&str>,
    log_table: Option<&str>,
) -> Result<pg_sys::Oid, ErrorReport> {
    process::must_not_be_in_recovery()?;
    Ok(manage_sets::init(require_arg("cfg_table", cfg_table)?, log_table)?)
}

/// The relation sets of this database.
///
/// Returns a row for each, the extension's own set first: the mart that identifies it, its log, its
/// owner, the number of active segments that the caller may see (null: relations of the set are
/// missing), and whether the session works on it.
///
/// ```sql
/// select * from segmenter_sets();
/// ```
#[pg_extern(stable)]
#[allow(clippy::type_complexity)]
fn segmenter_sets() -> Result<
    TableIterator<
        'static,
        (
            name!(cfg_table, String),
            name!(log_table, String),
            name!(owner, String),
            name!(segments, Option<i64>),
            name!(is_current, bool),
        ),
    >,
    ErrorReport,
> {
    let sets = manage_sets::list()?;
    Ok(TableIterator::new(
        sets.into_iter()
            .map(|set| (set.cfg_table, set.log_table, set.owner, set.segments, set.is_current)),
    ))
}

/// Migrates a relation set that the update of the extension could not migrate.
///
/// - `cfg_table`: the set, by its mart.
///
/// Returns whether it was migrated; false: it has the current version already. The caller must own
/// the set. What is in the way is an error, and nothing is changed.
///
/// ```sql
/// select segmenter_migrate_set('crm.seg');
/// ```
#[pg_extern]
fn segmenter_migrate_set(cfg_table: Option<&str>) -> Result<bool, ErrorReport> {
    Ok(migrate::migrate_set(require_arg("cfg_table", cfg_table)?)?)
}

/// Migrates all relation sets; for the scripts that update the extension.
#[pg_extern]
fn segmenter_migrate_sets() -> Result<(), ErrorReport> {
    Ok(migrate::migrate_all()?)
}

/// Makes the owner of a relation set's relations the owner of the set, after they were given to that
/// role (`alter table … owner to`, `reassign owned`). Until then nothing of the set runs: code that
/// the previous owner attached to the relations would run with the rights of the new one.
///
/// - `cfg_table`: the set, by its mart.
///
/// The caller must be able to act as the new owner, and every relation of the set must belong to it.
///
/// ```sql
/// select segmenter_adopt_set('crm.seg');
/// ```
#[pg_extern]
fn segmenter_adopt_set(cfg_table: Option<&str>) -> Result<(), ErrorReport> {
    process::must_not_be_in_recovery()?;
    Ok(registry::adopt(require_arg("cfg_table", cfg_table)?)?)
}

/// Drops a relation set with its segments, log and messages. Segment tables stay, as ordinary
/// tables.
///
/// - `cfg_table`: the set, by its mart.
/// - `force`: drop it even if it has active segments or undelivered messages.
///
/// The caller must own the set. Other objects that depend on it, such as views, are an error.
///
/// ```sql
/// select segmenter_drop_set('crm.seg');
/// ```
#[pg_extern]
fn segmenter_drop_set(
    cfg_table: Option<&str>,
    force: default!(Option<bool>, "false"),
) -> Result<(), ErrorReport> {
    process::must_not_be_in_recovery()?;
    manage_sets::drop_set(require_arg("cfg_table", cfg_table)?, require_arg("force", force)?)?;
    Ok(())
}
