//! Which rows of the mart a role sees.

use pgrx::datum::Uuid;
use pgrx::prelude::*;

use super::queries;
use super::relation_set::render;
use crate::error::Result;
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
