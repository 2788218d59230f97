//! The incremental refresher: an incremental pass compares only ids that may have changed since the
//! last refresh.
//!
//! The checkpoint is stored in the segment's state, in the transaction of the refresh, so it is valid
//! exactly if the refresh was committed. Without a usable checkpoint, or when a full pass is due, all ids are compared.

use std::collections::BTreeSet;

use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;

use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::config::{self, Incremental, Segment};
use crate::error::{Error, Result};
use crate::pg::exec::dependency::Named;
use crate::pg::exec::statement::{self, Prepared, StatementKind};
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};
use crate::pg::exec::tuplestore::Relation;
use crate::pg::system_catalog;
use crate::refresh::delta;
use crate::refresh::incremental::capture::CAPTURED;
use crate::refresh::incremental::checkpoint::last_checkpoint;
use crate::refresh::incremental::id_query::{IdQuery, Purpose};

pub mod capture;
mod checkpoint;
mod decision;
pub mod dependencies;
pub mod gaps;
mod id_query;
mod pass;
mod readings;
pub mod watch;
mod watermark;

pub use decision::{WatermarkCandidate, plan, plan_of_member};
pub use pass::{Given, Ids, Plan, Progress, new_ids};
pub use readings::Readings;

const CHANGED: &std::ffi::CStr = c"changed";
const IDS: &std::ffi::CStr = c"segmenter_ids";

/// Checks that the queries of a refresher can be analysed, and that those for ids give some. Runs with the
/// rights of the segment's owner, within an SPI connection.
pub fn check(set: &RelationSet, refresher: &Incremental) -> Result<()> {
    let ever = [TimestampWithTimeZone::negative_infinity(); 2];
    if let Some(changed) = &refresher.changed {
        IdQuery::configured(Purpose::Changed, changed, &ever[..1])?;
    }
    if let Some(expires) = &refresher.expires {
        IdQuery::configured(Purpose::Expires, expires, &ever)?;
    }
    dependencies::analyse(set, refresher).map(drop)
}

/// The relations and functions that an incremental refresher names, and the tables that its queries
/// read, through views, too. Runs with the rights of the segment's owner, within an SPI connection.
pub fn named_by(set: &RelationSet, refresher: &Incremental) -> Result<(Named, BTreeSet<u32>)> {
    let dependencies = dependencies::analyse(set, refresher)?;
    let tables = dependencies.tables();
    Ok((dependencies.named, tables))
}

/// The query for the members, analysed; an error in another query of the refresher is one, too. Runs with
/// the rights of the segment's owner, within an SPI connection.
pub fn members(set: &RelationSet, refresher: &Incremental) -> Result<Prepared> {
    Ok(dependencies::analyse(set, refresher)?.members)
}

/// The relation `changed` with one id, for the query of members; none: the id is no value of the type of changed
/// ids. Runs with the rights of the segment's owner, within an SPI connection.
pub fn changed_id(
    set: &RelationSet,
    refresher: &Incremental,
    id: &str,
) -> Result<Option<Relation>> {
    let ever = [TimestampWithTimeZone::negative_infinity()];
    let changed = match (&refresher.changed, &refresher.watch) {
        (Some(changed), _) => {
            delta::parse_single_statement(changed, StatementKind::Select)?.to_owned()
        }
        (None, watched) => capture::ids_of(set, watched.as_deref().unwrap_or_default())?,
    };
    let query = Prepared::analysed(&changed, &id_query::args(&ever))?;
    let column = query.columns().into_iter().find(|column| column.name == "id");
    let Some(column) = column else { return Ok(None) };
    let id_type = system_catalog::type_with_collation(column.type_oid, column.collation)?;
    let sql = set.sql(&queries::refresh::ask::GIVE_ID, &[("type", &id_type)]);
    let given = in_subtransaction(OnSuccess::Commit, || {
        let relation = Relation::new(CHANGED);
        relation.append(&sql, &[id.into()])?;
        Ok(relation)
    });
    match given {
        Ok(relation) => Ok(Some(relation)),
        Err(Error::Postgres(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether an id is among the captured changes that the next refresh will read; none: that compares all ids.
pub fn is_captured(
    set: &RelationSet,
    segment: &Segment,
    watched: &[config::Watched],
    id: &str,
) -> Result<Option<bool>> {
    let (last, _) = last_checkpoint(set, segment.id)?;
    let Some(before) = last.and_then(|last| last.captured) else { return Ok(None) };
    let now = capture::read_captured(set, segment.owner, watched, Some(&before))?;
    if capture::full_pass_reason(set, &before, &now)?.is_some() {
        return Ok(None);
    }
    Spi::connect(|_| {
        let captured = Relation::new(CAPTURED);
        capture::keep_captured(set, (&before, &now), &captured)?;
        set.extension.as_owner(|| {
            let sql = queries::refresh::ask::IS_CAPTURED.text();
            statement::read_one::<bool>(sql, &[id.into()])
        })
    })
}
