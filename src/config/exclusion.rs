//! The lists of a segment: the segments whose members it leaves out, because it names them, because
//! they are suppression lists, or because they come before it in its priority group.

use pgrx::datum::Uuid;
use pgrx::prelude::*;
use pgrx::spi::SpiHeapTupleData;

use crate::catalog::queries;
use crate::catalog::query::Query;
use crate::catalog::relation_set::RelationSet;
use crate::config::{MatchColumn, Segment};
use crate::error::{Error, Result};
use crate::pg::exec::kept::Kept;
use crate::pg::exec::role;
use segmenter_core::exclusion::Seen;

/// A list of a segment.
pub struct List {
    pub id: Uuid,
    pub name: String,
    pub table: pg_sys::Oid,
    pub owner: pg_sys::Oid,
    /// How far it has got, and the columns that members are compared by.
    pub now: Seen,
    /// The number of its members; none: not known.
    pub members: Option<u64>,
    /// Whether refreshes write its members, so that it counts its gains and losses.
    pub is_tracked: bool,
    /// It is one only because it comes before the segment in its priority group.
    pub is_priority: bool,
    /// Whether the owner of the segment may read its members, or it is a suppression list.
    pub may_read: bool,
}

/// A query about lists.
pub fn sql(set: &RelationSet, query: &Query) -> String {
    let edges = set.sql(&queries::config::exclusion::LIST_EDGES, &[]);
    set.sql(query, &[("edges", &edges)])
}

/// The lists of a segment, as the active snapshot sees them.
pub fn lists(set: &RelationSet, segment: &Segment) -> Result<Vec<List>> {
    if !segment.has_lists {
        return Ok(Vec::new());
    }
    set.as_owner(|| {
        let statement = Kept::new(sql(set, &queries::config::exclusion::LIST_LISTS));
        Spi::connect(|client| {
            let rows = client.select(statement, None, &[segment.id.into()])?;
            rows.map(|row| List::read(&row, segment.owner)).collect()
        })
    })
}

impl List {
    /// `reader`: the owner of the segment whose list it is.
    fn read(row: &SpiHeapTupleData<'_>, reader: pg_sys::Oid) -> Result<Self> {
        let is = |column: &str| Ok::<_, Error>(row.get_by_name::<bool, _>(column)? == Some(true));
        let count =
            |column: &str| Ok::<_, Error>(row.get_by_name::<i64, _>(column)?.unwrap_or_default());
        let by: Vec<String> = row.get_by_name("by")?.unwrap_or_default();
        let mut by: Vec<_> = by.iter().filter_map(|name| MatchColumn::named(name)).collect();
        by.sort_unstable();
        let table = row.get_by_name("table_oid")?.unwrap_or(pg_sys::InvalidOid);
        let may_read = is("may_read")? && (is("is_open")? || sees_all(reader, table));
        Ok(Self {
            id: row.get_by_name("id")?.ok_or(Error::MissingValue("id"))?,
            name: row.get_by_name("name")?.unwrap_or_default(),
            table,
            owner: row.get_by_name("owner")?.unwrap_or(pg_sys::InvalidOid),
            now: Seen { by, gains: count("gains")?, losses: count("losses")? },
            members: row.get_by_name::<i64, _>("members")?.and_then(|it| it.try_into().ok()),
            is_tracked: is("is_tracked")?,
            is_priority: is("is_priority")?,
            may_read,
        })
    }
}

/// Whether no policy hides members in a list's table from a role.
pub fn sees_all(reader: pg_sys::Oid, table: pg_sys::Oid) -> bool {
    !role::exists(reader) || !role::is_limited_by_policies(reader, table)
}

/// The names that the segment gives in `exclude` and that no active segment has.
pub fn missing(set: &RelationSet, segment: Uuid) -> Result<Vec<String>> {
    set.as_owner(|| {
        let statement = set.kept(&queries::config::exclusion::LIST_MISSING);
        let names = Spi::connect(|client| {
            client.select(statement, Some(1), &[segment.into()])?.first().get_one()
        })?;
        Ok(names.unwrap_or_default())
    })
}

/// A segment that leaves out members of another one.
pub struct Dependent {
    pub id: Uuid,
    pub name: String,
    pub owner: pg_sys::Oid,
    /// It does so only because it comes after it in its priority group.
    pub is_priority: bool,
}

/// The active segments that leave out members of a segment, ordered by name.
pub fn dependents(set: &RelationSet, segment: Uuid) -> Result<Vec<Dependent>> {
    set.as_owner(|| {
        let sql = sql(set, &queries::config::exclusion::LIST_DEPENDENTS);
        Spi::connect(|client| {
            let rows = client.select(&sql, None, &[segment.into()])?;
            rows.map(|row| {
                Ok(Dependent {
                    id: row.get_by_name("id")?.ok_or(Error::MissingValue("id"))?,
                    name: row.get_by_name("name")?.unwrap_or_default(),
                    owner: row.get_by_name("owner")?.unwrap_or(pg_sys::InvalidOid),
                    is_priority: row.get_by_name("is_priority")? == Some(true),
                })
            })
            .collect()
        })
    })
}
