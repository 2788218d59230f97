//! The SQL function behind the view `segmenter_lineage`.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::catalog::relation_set::RelationSet;
use crate::ops::lineage::{self, Lineage};

/// What the segments that the caller may see read, as the last refresh of each found, or the writing
/// of its row: the rows of the view `segmenter_lineage`.
///
/// Returns for each segment the tables, views, functions and segments that its queries read or its
/// sources name, and the view or function through which it reads them.
///
/// ```sql
/// select * from segmenter_lineage where segment = 'vip';
/// ```
#[pg_extern(stable)]
#[allow(clippy::type_complexity)]
fn segmenter_list_lineage() -> Result<
    TableIterator<
        'static,
        (
            name!(segment, String),
            name!(reads, String),
            name!(kind, String),
            name!(via, Option<String>),
        ),
    >,
    ErrorReport,
> {
    let rows = lineage::list(&RelationSet::current()?)?;
    Ok(TableIterator::new(
        rows.into_iter().map(|Lineage { segment, reads, kind, via }| (segment, reads, kind, via)),
    ))
}
