//! Segments whose family is not there: nothing refreshes them.

use pgrx::prelude::*;

use super::findings::Findings;
use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::catalog::viewer::Viewer;
use crate::error::{Error, Result, counted};

/// The number of segments that a line names.
const NAMED: usize = 5;

pub(super) fn check(found: &mut Findings, set: &RelationSet, viewer: Viewer) -> Result<()> {
    let orphans: Vec<(String, Vec<String>)> = set.as_owner(|| {
        Spi::connect(|client| {
            let sql = set.sql(&queries::ops::doctor::LIST_ORPHANS, &[]);
            let rows = client.select(&sql, None, &[viewer.reader().into()])?;
            rows.map(|row| {
                let family: Option<String> = row.get_by_name("family")?;
                let segments: Option<Vec<String>> = row.get_by_name("segments")?;
                Ok::<_, Error>((family.unwrap_or_default(), segments.unwrap_or_default()))
            })
            .collect::<Result<_>>()
        })
    })?;
    for (family, segments) in orphans {
        let named: Vec<String> =
            segments.iter().take(NAMED).map(|name| format!("\"{name}\"")).collect();
        let more = match segments.len() - named.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let detail = format!(
            "{} of family \"{family}\" cannot be refreshed, since no segment of the same owner and table is this family: {}{more}",
            counted(segments.len() as i64, "segment"),
            named.join(", ")
        );
        found.problem(
            "families",
            detail,
            "Make it a family again (\"family\": true in its query), name another family in refresh_params, or retire the segments.",
        );
    }
    found.close_segments("families", "every segment of a family has one");
    Ok(())
}
