//! The segments that read another one, leave out its members, or belong to it as a family: it is kept while
//! there are any.

use pgrx::datum::Uuid;
use pgrx::prelude::*;

use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::catalog::settings;
use crate::error::{Error, Result, Tie};

/// What becomes of a segment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Retired,
    Deleted,
    Renamed,
}

/// Checks that no active segment reads a segment that is retired, deleted or renamed, leaves out its
/// members, or belongs to it; a renamed one only those that name it concern. `caller`: the role that learns the names of
/// those that it may see. With `segmenter.force_retire` any segment passes.
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
    let (tie, segments, hidden) = set.as_owner(|| {
        // Rows that this statement has changed are seen: one statement may retire both.
        Spi::connect_mut(|client| {
            let sql = set.sql(&queries::config::LIST_READERS, &[]);
            let row = client.update(&sql, Some(1), &args)?.first();
            if row.is_empty() {
                return Ok((None, Vec::new(), None));
            }
            let names: Option<Vec<String>> = row.get_by_name("names")?;
            let hidden: Option<i64> = row.get_by_name("hidden")?;
            let tie: Option<i32> = row.get_by_name("tie")?;
            Ok::<_, Error>((tie, names.unwrap_or_default(), hidden))
        })
    })?;
    let tie = match tie {
        None => return Ok(()),
        Some(1) => Tie::Family,
        Some(2) => Tie::List,
        Some(_) => Tie::Reads,
    };
    let hidden = hidden.unwrap_or_default().unsigned_abs();
    Err(Error::IsNeeded { segment: name.to_owned(), what, tie, segments, hidden })
}
