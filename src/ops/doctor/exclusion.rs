//! Segments whose members others leave out: lists that are late, so that others wait, and those that have
//! no effect.

use super::findings::Findings;
use super::{OVERDUE, segments_with_jobs};
use crate::catalog::queries;
use crate::catalog::relation_set::{Relation, RelationSet};
use crate::catalog::viewer::Viewer;
use crate::config::exclusion;
use crate::error::Result;
use crate::pg::clock;
use crate::schedule::due::Item;
use pgrx::prelude::*;
use segmenter_core::due::Due;

pub(super) fn lists(
    found: &mut Findings,
    set: &RelationSet,
    (viewer, items, is_served): (Viewer, &[Item], bool),
) -> Result<()> {
    let now = clock::now();
    let running = segments_with_jobs();
    let overdue = |name: &str| {
        let item = items.iter().find(|item| item.name == name)?;
        let due = if is_served { item.next(now) } else { item.due.and_then(Due::at) };
        let due = due.filter(|due| now - *due > OVERDUE && !running.contains(&item.id))?;
        Some(format!("it has been due since {}", due.format("%F %T UTC")))
    };
    for [what, name, detail, followers] in findings(set, viewer)? {
        match what.as_str() {
            "list" => {
                let why = match detail.as_str() {
                    "new" => Some("it was never refreshed".to_owned()),
                    "" => overdue(&name),
                    "failed" => Some("its last refresh has failed".to_owned()),
                    "waiting" => Some("it is waiting".to_owned()),
                    status => Some(format!("its last refresh was {status}")),
                };
                if let Some(why) = why {
                    let detail = format!(
                        "segment \"{name}\", whose members others leave out, is late: {why}. It is waited for by {followers}"
                    );
                    let hint = format!(
                        "See {} for its last refreshes. Those that leave its members out wait for the next success.",
                        set.display_name(Relation::Log)
                    );
                    found.problem("exclusion", detail, hint);
                }
            }
            "unused" => found.warn(
                "exclusion",
                format!("no segment leaves out the members of suppression list \"{name}\""),
                "All others are exempt from it, or there is none: correct exempt, or set is_suppression = false.",
            ),
            "alone" => found.warn(
                "exclusion",
                format!("segment \"{name}\" is the only one of priority group \"{detail}\""),
                "Give the segments of one group the same priority_group, or set it and priority to null.",
            ),
            _ => found.warn(
                "exclusion",
                format!("segment \"{name}\" is exempt from \"{detail}\", which is no suppression list"),
                "Set is_suppression for that segment, or remove the name from exempt.",
            ),
        }
    }
    found.close_segments("exclusion", "every list is up to date and has an effect");
    Ok(())
}

fn findings(set: &RelationSet, viewer: Viewer) -> Result<Vec<[String; 4]>> {
    let args = [viewer.role.into(), viewer.sees_figures.into()];
    set.as_owner(|| {
        let sql = exclusion::sql(set, &queries::ops::doctor::EXCLUSION_FINDINGS);
        Spi::connect(|client| {
            let rows = client.select(&sql, None, &args)?;
            rows.map(|row| {
                let text =
                    |ordinal| Ok::<_, pgrx::spi::SpiError>(row.get(ordinal)?.unwrap_or_default());
                Ok([text(1)?, text(2)?, text(3)?, text(4)?])
            })
            .collect()
        })
    })
}
