//! Tables that are published by logical replication and that refreshes could not write to.

use super::findings::Findings;
use super::texts;
use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::catalog::viewer::Viewer;
use crate::error::Result;

pub(super) fn replication(found: &mut Findings, set: &RelationSet, viewer: Viewer) -> Result<()> {
    let sql = &queries::ops::doctor::UNIDENTIFIED_TABLES;
    for [table, what] in texts(set, sql, &[viewer.role.into(), viewer.sees_figures.into()])? {
        match what.as_str() {
            "columns" => found.problem(
                "replication",
                format!("table {table} is published with a list of columns, but its replica identity is the whole row: PostgreSQL refuses to update and delete in it"),
                "Publish all its columns: name the table without a list in alter publication ... set table ....",
            ),
            _ => found.problem(
                "replication",
                format!("table {table} is published, but has no replica identity: PostgreSQL refuses to update and delete in it"),
                format!("alter table {table} replica identity full;"),
            ),
        }
    }
    found.close_segments("replication", "no publication keeps a table from being written to");
    Ok(())
}
