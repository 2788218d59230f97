//! The rows that a segment's query returns, in a form that our statements can join with the members.
//!
//! Tables that Citus distributes are planned by Citus, which takes no ephemeral relation into its plans.
//! So a query that reads one is run by itself, with the ids of `changed` as an array, and its rows are
//! kept: what follows reads them here.

use std::ffi::CStr;

use pgrx::datum::DatumWithOid;

use super::DeltaTarget;
use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::error::{Error, Result};
use crate::pg::exec::statement::{self, Prepared};
use crate::pg::exec::tuplestore::Relation;
use crate::pg::system_catalog;

const RECEIVED: &CStr = c"segmenter_received";

/// A query, and the relation of this connection that it reads, if it has one.
pub struct Source {
    pub sql: String,
    _relation: Option<Relation>,
}

impl Source {
    fn of(sql: String) -> Self {
        Self { sql, _relation: None }
    }

    fn kept(name: &'static CStr, sql: &str, args: &[DatumWithOid<'_>]) -> Result<Self> {
        let relation = Relation::new(name);
        relation.append(sql, args)?;
        let sql = format!("select s.* from {} as s", name.to_string_lossy());
        Ok(Self { sql, _relation: Some(relation) })
    }
}

/// The received rows. `query` was analysed as `analysed`; `has_changed`: it may read the relation
/// `changed`. Runs with the rights of the segment's owner, within an SPI connection.
pub(super) fn received(
    side: &DeltaTarget<'_>,
    query: &str,
    analysed: &Prepared,
    has_changed: bool,
) -> Result<Source> {
    let sql = side.received_sql(query);
    if !system_catalog::are_distributed(&analysed.relations()) {
        return Ok(Source::of(sql));
    }
    match has_changed {
        true => with_ids(side.set, &sql),
        false => Source::kept(RECEIVED, &sql, &[]),
    }
}

/// A query that may read the relation `changed` and was analysed as `analysed`, as one that our statements
/// can read.
pub fn of_changed_ids(set: &RelationSet, query: &str, analysed: &Prepared) -> Result<Source> {
    match system_catalog::are_distributed(&analysed.relations()) {
        // A query may begin with a WITH of its own.
        true => with_ids(set, &format!("select s.* from (\n{query}\n) as s")),
        false => Ok(Source::of(query.to_owned())),
    }
}

/// The rows of a query of distributed tables, which gets the ids of `changed` as an array.
fn with_ids(set: &RelationSet, query: &str) -> Result<Source> {
    let ids = &queries::refresh::delta::LIST_IDS_AS_ARRAY;
    let ids = statement::read_one::<Vec<String>>(ids.text(), &[])?.unwrap_or_default();
    let column = Prepared::new(queries::refresh::delta::LIST_IDS.text(), &[])?.columns().pop();
    let column = column.ok_or(Error::MissingValue("id"))?;
    let id_type = system_catalog::type_with_collation(column.type_oid, column.collation)?;
    let parts = [("type", id_type.as_str()), ("received", query)];
    let sql = set.sql(&queries::refresh::delta::RECEIVED_WITH_IDS, &parts);
    Source::kept(RECEIVED, &sql, &[ids.into()])
}

/// A query whose rows our statements join with those of local tables, as one that they can read: itself,
/// or that of its rows, which are kept under `name`.
pub fn localized(name: &'static CStr, sql: String, args: &[DatumWithOid<'_>]) -> Result<Source> {
    let is_distributed = system_catalog::are_distributed(&Prepared::new(&sql, args)?.relations());
    if is_distributed { Source::kept(name, &sql, args) } else { Ok(Source::of(sql)) }
}
