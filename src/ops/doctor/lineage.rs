//! Segments of which it is not known which other segments they read.

use super::findings::Findings;
use super::texts;
use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::catalog::viewer::Viewer;
use crate::error::Result;
use crate::refresh::reads::NAME_SOURCES;

pub(super) fn unknown_segments(
    found: &mut Findings,
    set: &RelationSet,
    viewer: Viewer,
) -> Result<()> {
    let current = set.readers().current.into();
    let args = [viewer.role.into(), viewer.sees_figures.into(), set.mart().into(), current];
    for [name] in texts(set, &queries::ops::doctor::OPEN_READERS, &args)? {
        found.warn(
            "lineage",
            format!(
                "segment \"{name}\" reads segments that are not known, so it waits for none of them"
            ),
            NAME_SOURCES,
        );
    }
    found.close_segments("lineage", "it is known which segments read others");
    Ok(())
}
