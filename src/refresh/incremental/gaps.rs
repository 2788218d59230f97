//! What an incremental refresher does not notice, as the analysis of its queries shows.

use pgrx::prelude::*;

use super::dependencies;
use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::config::Incremental;
use crate::error::Result;
use crate::pg::exec::statement;
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};
use segmenter_core::gaps::{self, Facts, Gap};

/// The gaps of a refresher of a segment of `owner`. Its queries are analysed with the rights of that
/// role; what cannot be analysed is an error.
pub fn find(set: &RelationSet, owner: pg_sys::Oid, refresher: &Incremental) -> Result<Vec<Gap>> {
    let found = in_subtransaction(OnSuccess::Rollback, || {
        set.as_segment_owner(owner, || Spi::connect(|_| dependencies::analyse(set, refresher)))
    })?;
    let oids = |tables: &std::collections::BTreeSet<u32>| -> Vec<pg_sys::Oid> {
        tables.iter().map(|oid| pg_sys::Oid::from(*oid)).collect()
    };
    // The query of the watched tables stands for `changed` here.
    let args = [oids(&found.sql.tables).into(), oids(&found.changed.tables).into()];
    let unlisted = set.extension.as_owner(|| {
        let sql = &queries::refresh::incremental::LIST_UNLISTED_TABLES;
        Spi::connect(|_| statement::read_one::<Vec<String>>(sql.text(), &args))
    })?;
    let facts = Facts {
        clock: found.sql.clock,
        unlisted: unlisted.unwrap_or_default(),
        zoneless_changed: found.changed.is_zoneless,
        zoneless_expires: found.expires.is_some_and(|expires| expires.is_zoneless),
    };
    Ok(gaps::gaps(refresher, &facts))
}
