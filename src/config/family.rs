//! Families: segments whose rows one query gives, for many segments at once. The segment that has the
//! query is the family; the others name it. What one of them is computed from is the query for its rows.

use pgrx::datum::Uuid;
use pgrx::prelude::*;
use pgrx::spi::quote_literal;

use super::segment_table::Table;
use super::{ConfigError, Refresher, Subject, parse, refresher};
use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::error::{Error, Result};
use crate::pg::exec::statement;
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};

/// Whether a segment belongs to a family.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum Kinship {
    #[default]
    None,
    /// It is a family.
    Family,
    /// It belongs to the family with this id.
    Member(Uuid),
}

impl Kinship {
    /// Whether the rows of its query name segments.
    pub fn has_named_rows(self) -> bool {
        self != Self::None
    }

    pub fn is_family(self) -> bool {
        self == Self::Family
    }
}

/// A refresher as it is run, and what it says of families: that of a segment of a family is the family's,
/// for the rows with the segment's name. The segment and its family have one owner and one table.
pub fn resolve(
    set: &RelationSet,
    own: Option<Refresher>,
    (name, table, owner): (&str, pg_sys::Oid, pg_sys::Oid),
) -> Result<(Option<Refresher>, Kinship)> {
    let Some(Refresher::Family(family)) = &own else {
        let is_family = own.as_ref().is_some_and(Refresher::is_family);
        let kinship = if is_family { Kinship::Family } else { Kinship::None };
        return Ok((own, kinship));
    };
    let refuse = |problem: String, hint: &str| {
        Err(ConfigError::new("refresh_params", Subject::Segment(name), problem, hint).into())
    };
    if family == name {
        return refuse(
            "a segment cannot belong to itself".into(),
            "Name the segment that has the query of the family.",
        );
    }
    // A family that belongs to another role is none for this one.
    let found = match Found::by_name(set, family)? {
        Some(found) if found.owner == owner => found,
        _ => {
            return refuse(
                format!("there is no segment \"{family}\" of the same owner"),
                "Create the family first: a segment with \"family\": true in its query.",
            );
        }
    };
    let Some(of_family) = found.refresher.filter(Refresher::is_family) else {
        return refuse(
            format!("segment \"{family}\" is no family"),
            "A family has \"family\": true in its query, and belongs to no other family.",
        );
    };
    if found.table != table {
        return refuse(
            format!("its table is not that of its family \"{family}\""),
            "The segments of a family and the family itself have the same table_name.",
        );
    }
    let sql = sql_of_member(set, of_family.members_sql().unwrap_or_default(), name)?;
    Ok((Some(of_family.of_member(sql)), Kinship::Member(found.id)))
}

/// The segment that is named as a family.
struct Found {
    id: Uuid,
    table: pg_sys::Oid,
    owner: pg_sys::Oid,
    refresher: Option<Refresher>,
}

impl Found {
    fn by_name(set: &RelationSet, name: &str) -> Result<Option<Self>> {
        set.as_owner(|| {
            Spi::connect(|client| {
                let statement = set.kept(&queries::config::FIND_FAMILY);
                let row = client.select(statement, Some(1), &[name.into()])?.first();
                if row.is_empty() {
                    return Ok(None);
                }
                let Some(id) = row.get_by_name("id")? else { return Ok(None) };
                let subject = Subject::Segment(name);
                let json = parse("refresh_params", row.get_by_name("refresh_params")?, subject)?;
                Ok(Some(Self {
                    id,
                    table: row.get_by_name("table_oid")?.unwrap_or(pg_sys::InvalidOid),
                    owner: row.get_by_name("owner")?.unwrap_or(pg_sys::InvalidOid),
                    refresher: refresher(json, subject)?,
                }))
            })
        })
    }
}

/// The query for the rows of one segment. Text that is not one statement stays what it is: running it is
/// an error.
pub fn sql_of_member(set: &RelationSet, sql: &str, name: &str) -> Result<String> {
    let parsed = in_subtransaction(OnSuccess::Commit, || Ok(statement::parse(sql)));
    let query = match parsed.as_deref() {
        Ok([one]) => one.text,
        _ => return Ok(sql.to_owned()),
    };
    let parts = [("query", query), ("name", &quote_literal(name))];
    Ok(set.sql(&queries::refresh::family::ROWS_OF_MEMBER, &parts))
}

/// Checks that a table can be that of a family.
pub fn check_table(table: &Table) -> Result<()> {
    match table.kind.shared {
        true => Ok(()),
        false => Err(Error::Table {
            table: table.name.clone(),
            problem: "it is the table of a single segment, and a family needs one for many".into(),
            hint: Some(
                "Name another table in table_name, or give this one a unique index on (segment_id, id) in place of that on (id).".into(),
            ),
        }),
    }
}
