//! Which members a role sees, in the mart and in the tables of segments.

use pgrx::datum::Uuid;
use pgrx::prelude::*;

use super::queries;
use super::relation_set::{RelationSet, render};
use crate::error::Result;
use crate::pg::exec::role;
use crate::pg::exec::statement;
use crate::pg::system_catalog;

/// Whether rows of a segment in a table are members that the current role may see. `segments`: the
/// relation of the set's segments, whose policy decides. The look-up has the rights of the current
/// role, and sees what its statement sees.
pub fn may_see(segments: pg_sys::Oid, segment: Uuid, table: pg_sys::Oid) -> Result<bool> {
    let Some(segments) = system_catalog::qualified_name(segments) else { return Ok(false) };
    let part = |word: &str| (word == "segments").then(|| segments.clone());
    let sql = render(queries::catalog::MAY_SEE.text(), part);
    let args = [segment.into(), table.into()];
    let found: Option<bool> = Spi::connect(|_| statement::read_one_kept(sql, &args))?;
    Ok(found.unwrap_or_default())
}

/// Whether a role may read all members that a segment's table holds: it has SELECT on the table, and no policy
/// hides rows from it. (The owner of the segment sees all of them, or the segment cannot be refreshed.) True
/// if there is no such table.
pub fn may_read(
    set: &RelationSet,
    (table, owner): (pg_sys::Oid, pg_sys::Oid),
    reader: pg_sys::Oid,
) -> Result<bool> {
    let has_right = set.extension.as_owner(|| {
        let sql = queries::catalog::MAY_READ.text();
        Spi::connect(|_| statement::read_one::<bool>(sql, &[reader.into(), table.into()]))
    })?;
    let is_limited = || reader != owner && role::is_limited_by_policies(reader, table);
    Ok(has_right != Some(false) && !is_limited())
}
