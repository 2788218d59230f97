//! Checks of roles: what the caller sees, and whether owners are there.

use pgrx::prelude::*;

use super::findings::Findings;
use super::texts;
use crate::catalog::queries;
use crate::catalog::relation_set::{Relation, RelationSet};
use crate::catalog::viewer::Viewer;
use crate::error::{Error, Result, counted};
use crate::pg::exec::role;

/// How many segments the caller sees. What it does not see is not checked.
pub(super) fn segments(found: &mut Findings, set: &RelationSet, viewer: Viewer) -> Result<()> {
    let (all, seen, owners) = set.as_owner(|| {
        Spi::connect(|client| {
            let sql = set.sql(&queries::ops::doctor::COUNT_SEGMENTS, &[]);
            let row = client.select(&sql, Some(1), &[viewer.role.into()])?.first();
            let owners: Vec<String> = row.get_by_name("owners")?.unwrap_or_default();
            let count = |column| Ok::<_, Error>(row.get_by_name::<i64, _>(column)?);
            Ok::<_, Error>((count("segments")?, count("seen")?, owners))
        })
    })?;
    let (all, seen) = (all.unwrap_or_default(), seen.unwrap_or_default());
    if seen == all || viewer.sees_figures {
        found.ok("segments", format!("looked at {}", counted(all, "segment")));
        return Ok(());
    }
    let scope = format!("{seen} of {}", counted(all, "segment"));
    let named = owners.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
    let more = if owners.len() > 5 { " and others" } else { "" };
    found.warn(
        "segments",
        format!("looked at {scope}: not a member of {named}{more}"),
        "Members of pg_monitor see figures of all segments: grant pg_monitor to the role.",
    );
    found.scope = Some(scope);
    Ok(())
}

/// Roles that are gone, and tables that were given to another role than their segment.
pub(super) fn roles(found: &mut Findings, set: &RelationSet, viewer: Viewer) -> Result<()> {
    let extension_owner = set.extension.owner();
    if !role::is_superuser(extension_owner) {
        let owner = role::name(extension_owner);
        found.warn(
            "roles",
            format!("the owner of the extension, role \"{owner}\", is no superuser"),
            "Background workers are connected as it, and captured changes of other roles' tables are read as it: reassign the extension to a superuser.",
        );
    }
    let sql = &queries::ops::doctor::ROLE_FINDINGS;
    let args = [viewer.role.into(), set.owner.into(), viewer.sees_figures.into()];
    for [what, name, owner, table, table_owner] in texts(set, sql, &args)? {
        let segments = set.display_name(Relation::Segments);
        match what.as_str() {
            "owner" => found.problem(
                "roles",
                format!("the owner of segment \"{name}\" does not exist"),
                format!("Give the segment an owner: update {segments} set owner = ... for it."),
            ),
            "table" => found.warn(
                "roles",
                format!("segment \"{name}\" belongs to role {owner}, its table {table} to role {table_owner}"),
                format!("If that role has taken over the segment: update {segments} set owner = ... for it."),
            ),
            _ => found.warn(
                "roles",
                format!("the role of consumer \"{name}\" does not exist"),
                format!(
                    "Give the consumer a role: update {} set role = ... for it.",
                    set.display_name(Relation::Consumers)
                ),
            ),
        }
    }
    found.close_segments("roles", "every owner and role exists");
    Ok(())
}
