//! The functions for sets of service relations under other names.

use pgrx::prelude::*;

use super::require_arg;
use crate::catalog::manage_sets;
use crate::error::raise;

/// Makes a set of service relations under names of one's own, as ordinary tables of the caller.
///
/// - `cfg_table`: the mart, and how the names of the others begin: `crm.seg` makes `crm.seg_segments`,
///   `crm.seg_status` and so on. Names are taken apart as PostgreSQL does it; without a schema they are
///   made in the first one of `search_path`.
/// - `log_table`: the log, by default `cfg_table` with `_log`.
///
/// Gives the mart. A name that is taken, too long or in a schema for temporary objects is an error, and
/// nothing is made. `set segmenter.cfg_table` has a session work on the set; the background workers serve
/// every one.
///
/// ```sql
/// select segmenter_init('crm.seg');
/// ```
#[pg_extern(sql = "
create function segmenter_init(cfg_table text default 'segmenter', log_table text default null) returns regclass
language c as 'MODULE_PATHNAME', '@FUNCTION_NAME@';
")]
fn segmenter_init(cfg_table: Option<&str>, log_table: Option<&str>) -> pg_sys::Oid {
    let made =
        require_arg("cfg_table", cfg_table).and_then(|name| manage_sets::init(name, log_table));
    made.unwrap_or_else(|error| raise(error))
}

/// The sets of service relations in this database.
///
/// Gives a row for each, the extension's own first: the mart by which it is known, its log, its owner,
/// the number of its actual segments that the caller may see (null: relations of it are missing), and
/// whether the session works on it.
///
/// ```sql
/// select * from segmenter_sets();
/// ```
#[pg_extern(stable)]
#[allow(clippy::type_complexity)]
fn segmenter_sets() -> TableIterator<
    'static,
    (
        name!(cfg_table, String),
        name!(log_table, String),
        name!(owner, String),
        name!(segments, Option<i64>),
        name!(is_current, bool),
    ),
> {
    let sets = manage_sets::list().unwrap_or_else(|error| raise(error));
    TableIterator::new(
        sets.into_iter()
            .map(|set| (set.cfg_table, set.log_table, set.owner, set.segments, set.is_current)),
    )
}

/// Drops a set of service relations with all that it holds: segments, log, messages. Segment tables stay,
/// as ordinary tables.
///
/// - `cfg_table`: the set, by its mart.
/// - `force`: drop it with actual segments in it, or messages that are not delivered.
///
/// The caller must own the set. What else depends on it, a view of the user's say, is an error.
///
/// ```sql
/// select segmenter_drop_set('crm.seg');
/// ```
#[pg_extern]
fn segmenter_drop_set(cfg_table: Option<&str>, force: default!(Option<bool>, "false")) {
    let drop = || {
        manage_sets::drop_set(require_arg("cfg_table", cfg_table)?, require_arg("force", force)?)
    };
    drop().unwrap_or_else(|error| raise(error))
}
