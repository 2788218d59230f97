//! The segments that read another one, leave out its members, or belong to it as a family: it is kept while
//! there are any.

use pgrx::datum::Uuid;
use pgrx::prelude::*;

use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::catalog::settings;
use crate::error::{Error, Result, Tie, Tied};

/// What becomes of a segment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Retired,
    Deleted,
    Renamed,
}

/// Checks that no active segment reads a segment that is retired, deleted or renamed, leaves out its
/// members, or belongs to it; a name is kept only for those that use it. `caller`: segments that this role may
/// see are named, the others are counted. With `segmenter.force_retire` any segment passes.
pub fn check_none(
    set: &RelationSet,
    (id, name, table, owner): (Uuid, &str, pg_sys::Oid, pg_sys::Oid),
    is_suppression: bool,
    fate: Fate,
    caller: pg_sys::Oid,
) -> Result<()> {
    let what = match fate {
        Fate::Retired => "retired",
        Fate::Deleted => "deleted",
        Fate::Renamed => "renamed",
    };
    let is_renamed = fate == Fate::Renamed;
    let table = if is_renamed { pg_sys::InvalidOid } else { table };
    // Of those that a suppression list concerns, the exempt ones name it.
    let exempt = is_suppression.then_some(is_renamed);
    if settings::may_retire_read() {
        return Ok(());
    }
    let args = [id.into(), table.into(), name.into(), caller.into(), exempt.into(), owner.into()];
    let tied = set.as_owner(|| {
        // Rows that this statement has changed are seen: one statement may retire both.
        Spi::connect_mut(|client| {
            let sql = set.sql(&queries::config::LIST_READERS, &[]);
            let rows = client.update(&sql, None, &args)?;
            rows.map(|row| {
                let tie = match row.get_by_name::<i32, _>("tie")? {
                    Some(1) => Tie::Family,
                    Some(2) => Tie::List,
                    _ => Tie::Reads,
                };
                let names: Option<Vec<String>> = row.get_by_name("names")?;
                let hidden: Option<i64> = row.get_by_name("hidden")?;
                let hidden = hidden.unwrap_or_default().unsigned_abs();
                Ok(Tied { tie, names: names.unwrap_or_default(), hidden })
            })
            .collect::<Result<Vec<_>>>()
        })
    })?;
    match tied.is_empty() {
        true => Ok(()),
        false => Err(Error::IsNeeded { segment: name.to_owned(), what, tied }),
    }
}
