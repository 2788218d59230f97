//! The history of a segment's definition.

use pgrx::datum::Uuid;
use pgrx::prelude::*;

use super::row::{is_restored, set_of};
use crate::catalog::definitions;
use crate::error::{self, Error};

/// Records a segment's row as a version of its definition. In a restored database the versions are those
/// of the dump.
pub(super) fn record_definition(trigger: &PgTrigger<'_>) -> error::Result<()> {
    let set = set_of(trigger)?;
    let is_insert = matches!(trigger.op()?, PgTriggerOperation::Insert);
    if is_insert && is_restored(&set) {
        return Ok(());
    }
    let old = trigger.old();
    let row = if is_insert { trigger.new() } else { trigger.old() };
    let id = row.map(|row| row.get_by_name::<Uuid>("id")).transpose()?.flatten();
    definitions::record(&set, id.ok_or(Error::MissingValue("id"))?, old.map(Into::into))
}
