//! What segments read, for people: tables, views, functions and other segments.

use pgrx::prelude::*;

use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::config::exclusion;
use crate::error::{Error, Result};
use crate::pg::exec::role;

/// One thing that a segment reads.
pub struct Lineage {
    pub segment: String,
    pub reads: String,
    /// segment, table, view or function.
    pub kind: String,
    /// The view or function that names it, or the column that has its members left out; none: the
    /// segment's queries do.
    pub via: Option<String>,
}

/// What the segments that the caller may see read, as it was recorded last.
pub fn list(set: &RelationSet) -> Result<Vec<Lineage>> {
    let args = [role::current().into()];
    set.as_owner(|| {
        let sql = exclusion::sql(set, &queries::ops::lineage::LIST_LINEAGE);
        Spi::connect(|client| {
            let rows = client.select(&sql, None, &args)?;
            rows.map(|row| {
                let text = |column: &str| Ok::<_, Error>(row.get_by_name::<String, _>(column)?);
                Ok(Lineage {
                    segment: text("segment")?.unwrap_or_default(),
                    reads: text("reads")?.unwrap_or_default(),
                    kind: text("kind")?.unwrap_or_default(),
                    via: text("via")?,
                })
            })
            .collect()
        })
    })
}
