//! Restores an earlier definition of a segment.

use PgSqlErrorCode as Code;
use pgrx::datum::Uuid;
use pgrx::prelude::*;
use pgrx::spi::quote_identifier;
use serde_json::{Value, json};

use crate::catalog::definitions;
use crate::catalog::queries;
use crate::catalog::relation_set::{Relation, RelationSet};
use crate::config::Subject;
use crate::error::{Error, Result};
use crate::pg::exec::role;
use crate::pg::exec::statement;
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};
use crate::pg::format::json::JsonbText;
use crate::pg::system_catalog;

/// A version of a definition, compared with the segment's row.
struct Version {
    /// None: there is no such version, or the row was deleted by it.
    definition: Option<JsonbText>,
    /// The columns that have other values now.
    columns: Vec<String>,
    /// Those of them that an erasure has redacted.
    erased: Vec<String>,
    last: i32,
}

/// Makes the row of a segment what it was in a version of its definition, with the rights of the caller. Returns
/// the version that the row has now: a new one, or the last one if the row is the same. An error is raised, and
/// nothing is changed, if a part of it cannot be restored.
pub fn restore(set: &RelationSet, name: &str, version: i32) -> Result<i32> {
    // What a caller may not see is not locked.
    let args = [name.into(), role::current().into()];
    let id: Option<Uuid> = set.as_owner(|| {
        let sql = set.sql(&queries::ops::restore_definition::FIND_SEGMENT, &[]);
        Spi::connect_mut(|client| {
            let rows = client.update(&sql, None, &args)?;
            if rows.is_empty() { Ok::<_, Error>(None) } else { Ok(rows.first().get_one()?) }
        })
    })?;
    let id = id.ok_or_else(|| set.unknown_segment(name))?;
    let found = find(set, id, version)?;
    let last = found.last;
    let refuse = |code, problem: String, hint: &str| {
        let subject = Subject::Segment(name).to_string();
        Err(Error::NotRestored { code, version, subject, problem, hint: hint.to_owned() })
    };
    let Some(definition) = found.definition else {
        let versions = match last {
            0 => "it has no versions".to_owned(),
            last => format!("it has the versions 1 to {last}"),
        };
        let hint = format!("{} lists them.", set.display_name(Relation::Definitions));
        return refuse(Code::ERRCODE_UNDEFINED_OBJECT, versions, &hint);
    };
    if !found.erased.is_empty() {
        let columns: Vec<_> = found.erased.iter().map(|column| format!("\"{column}\"")).collect();
        return refuse(
            Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("an erasure has redacted {}", columns.join(", ")),
            "Write the row as it should be.",
        );
    }
    if found.columns.is_empty() {
        return Ok(last);
    }
    let mut definition = match definition.parse() {
        Ok(Value::Object(definition)) => definition,
        _ => return Err(Error::MissingValue("definition")),
    };
    let is_other = |column: &str| found.columns.iter().any(|other| other == column);
    if is_other("table_name") {
        let table = definition.get("table_name").and_then(Value::as_str).unwrap_or_default();
        let Some(oid) = system_catalog::relation_named(table)? else {
            return refuse(
                Code::ERRCODE_UNDEFINED_TABLE,
                format!("there is no table {table}"),
                "Create it or rename it, or write the other columns of the version into the row.",
            );
        };
        definition.insert("table_name".into(), json!(oid.to_u32().to_string()));
    }
    if is_other("owner") {
        let owner = definition.get("owner").and_then(Value::as_str).unwrap_or_default();
        let named = statement::split_name(owner).ok().and_then(|(_, owner)| role::named(&owner));
        let Some(oid) = named else {
            return refuse(
                Code::ERRCODE_UNDEFINED_OBJECT,
                format!("there is no role {owner}"),
                "Create it, or write the other columns of the version into the row.",
            );
        };
        definition.insert("owner".into(), json!(oid.to_u32().to_string()));
    }
    let columns = found.columns.iter().map(quote_identifier);
    let assignments: Vec<String> = columns.map(|column| format!("{column} = d.{column}")).collect();
    let parts = [("assignments", assignments.join(", "))];
    let parts = parts.each_ref().map(|(word, part)| (*word, part.as_str()));
    let args = [id.into(), JsonbText(Value::Object(definition).to_string()).into()];
    let restored = in_subtransaction(OnSuccess::Commit, || {
        set.write_as_caller(|| {
            Spi::connect_mut(|client| {
                let sql = set.sql(&queries::ops::restore_definition::UPDATE_SEGMENT, &parts);
                Ok(client.update(&sql, None, &args)?.len())
            })
        })
    });
    let what = format!("version {version} of {} cannot be restored", Subject::Segment(name));
    match restored.map_err(|error| error.about(&what))? {
        0 => Err(set.unknown_segment(name)),
        _ => Ok(find(set, id, version)?.last),
    }
}

fn find(set: &RelationSet, id: Uuid, version: i32) -> Result<Version> {
    set.in_zone(definitions::ZONE, || {
        Spi::connect_mut(|client| {
            let sql = set.sql(&queries::ops::restore_definition::FIND_VERSION, &[]);
            let row = client.update(&sql, None, &[id.into(), version.into()])?.first();
            let columns: Option<Vec<String>> = row.get_by_name("columns")?;
            let erased: Option<Vec<String>> = row.get_by_name("erased")?;
            Ok(Version {
                definition: row.get_by_name("definition")?,
                columns: columns.unwrap_or_default(),
                erased: erased.unwrap_or_default(),
                last: row.get_by_name("last")?.unwrap_or_default(),
            })
        })
    })
}
