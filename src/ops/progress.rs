//! Refreshes and deliveries that are going on, for people.

use std::collections::HashMap;

use pgrx::datum::Uuid;
use pgrx::prelude::*;

use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::catalog::viewer::Viewer;
use crate::error::{Error, Result};
use crate::pg::bgw::progress::{self, Shown};

/// What goes on in the set, with the names of the segments: of those whose figures the caller may see. Empty
/// where the library is not preloaded.
pub fn list(set: &RelationSet) -> Result<Vec<(String, Shown)>> {
    let mut shown = progress::list(set.mart());
    if shown.is_empty() {
        return Ok(Vec::new());
    }
    shown.sort_by_key(|shown| (shown.pid, shown.started_at));
    let ids: Vec<Uuid> = shown.iter().map(|shown| shown.segment).collect();
    let args = [Viewer::current(set).reader().into(), ids.into()];
    let names: HashMap<[u8; 16], String> = set.as_owner(|| {
        let sql = set.sql(&queries::ops::progress::LIST_NAMES, &[]);
        Spi::connect(|client| {
            let rows = client.select(&sql, None, &args)?;
            let named = |row: pgrx::spi::SpiHeapTupleData<'_>| {
                let id = row.get::<Uuid>(1)?.map(|id| *id.as_bytes());
                Ok::<_, Error>(id.zip(row.get::<String>(2)?))
            };
            rows.filter_map(|row| named(row).transpose()).collect::<Result<_>>()
        })
    })?;
    let named = |shown: Shown| Some((names.get(shown.segment.as_bytes())?.clone(), shown));
    Ok(shown.into_iter().filter_map(named).collect())
}
