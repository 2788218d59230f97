//! The retention of former members in a segment's row.

use pgrx::prelude::*;

use super::row::{NewRow, text};
use super::segment::check_interval;
use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::config::segment_table::Holder;
use crate::config::{ConfigError, Retention, Subject};
use crate::error;
use crate::pg::exec::role;
use crate::pg::exec::statement;
use crate::pg::format::json::JsonbText;
use crate::refresh::retention;

/// Checks the intervals of a retention.
pub(super) fn check_retention(retention: &Retention, subject: Subject<'_>) -> error::Result<()> {
    check_interval("retention", "keep", &retention.keep, subject)?;
    let without = &retention.without_contacts_after;
    check_interval("retention", "without_contacts_after", without, subject)?;
    let (Some(keep), Some(without)) = (&retention.keep, without) else { return Ok(()) };
    let sql = queries::refresh::retention::IS_SHORTER.text();
    let args = [keep.as_str().into(), without.as_str().into()];
    let ask = || Spi::connect(|_| statement::read_one::<bool>(sql, &args));
    match role::with_text_form(ask)? {
        Some(true) => {
            let problem =
                format!("\"keep\": {keep} is shorter than \"without_contacts_after\": {without}");
            let hint = "The rows would be deleted before they lose their contacts: leave out \"without_contacts_after\", or keep them longer.";
            Err(ConfigError::new("retention", subject, problem, hint).into())
        }
        _ => Ok(()),
    }
}

/// Checks, where a retention, the table or the owner is new, whether the table lets it be applied. A privilege can
/// be granted later: that is a WARNING.
pub(super) fn check_retained(
    set: &RelationSet,
    trigger: &PgTrigger<'_>,
    row: &NewRow<'_>,
    retention: &Retention,
) -> error::Result<()> {
    if let Some(old) = trigger.old() {
        let is_same = |column| -> error::Result<bool> {
            Ok(old.get_by_name::<pg_sys::Oid>(column)? == row.get_by_name(column)?)
        };
        if is_same("table_name")?
            && is_same("owner")?
            && old.get_by_name::<JsonbText>("retention")?
                == row.get_by_name::<JsonbText>("retention")?
        {
            return Ok(());
        }
    }
    let (Some(id), Some(table), Some(owner)) =
        (row.get_by_name("id")?, row.get_by_name("table_name")?, row.get_by_name("owner")?)
    else {
        return Ok(());
    };
    let name = text(row, "name")?.unwrap_or_default();
    let holder = Holder { id, name: &name, owner };
    retention::check(set, table, holder, retention)?;
    if role::exists(owner)
        && let Err(error) = retention::check_rights(set, table, holder, retention)
    {
        let what = format!("the retention of {} will not be applied", Subject::Segment(&name));
        error::emit_warning(&what, &error.report());
    }
    Ok(())
}
