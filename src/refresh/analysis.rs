//! Whether the SQL of a segment can be analysed: asked when its row is written, so that an error is
//! not found by the first refresh.

use pgrx::prelude::*;

use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::config::segment_table::{Holder, Table};
use crate::config::{Query, Refresher, SourceCheck, Sql};
use crate::error::{Error, Result};
use crate::pg::exec::statement::{Prepared, StatementKind, read_one};
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};
use crate::refresh::outcome::advise;
use crate::refresh::{delta, incremental, source_check};

/// The errors of a refresher and of source checks, those of the refresher first. Nothing is executed
/// but what PostgreSQL itself evaluates in an analysis (immutable functions of constants), with the
/// rights of the segment's owner. `table`: the segment's table, against which a query is checked
/// where the table itself is valid. `has_named_rows`: the query's rows name segments.
pub fn errors(
    set: &RelationSet,
    holder: Holder<'_>,
    (table, has_named_rows): (pg_sys::Oid, bool),
    refresher: Option<&Refresher>,
    sources: &[SourceCheck],
) -> Vec<Error> {
    let as_owner = |check: &dyn Fn() -> Result<()>| {
        let checked = in_subtransaction(OnSuccess::Rollback, || {
            set.as_segment_owner(holder.owner, || Spi::connect(|_| check()))
        });
        checked.err()
    };
    let table = in_subtransaction(OnSuccess::Rollback, || Table::check(set, table, holder)).ok();
    let table = table.map(|table| table.with_named_rows(has_named_rows));
    let of_refresher = refresher.and_then(|refresher| {
        as_owner(&|| match refresher {
            Refresher::Query(Query { sql, .. }) => match &table {
                Some(table) => delta::check(sql, table),
                None => delta::named_by(set, sql).map(drop),
            },
            Refresher::Procedure(Sql { sql }) => {
                let call = delta::parse_single_statement(sql, StatementKind::Call)?;
                Prepared::of_user(call, &[]).map(drop)
            }
            Refresher::Incremental(refresher) => incremental::check(set, refresher),
            // It is the family's.
            Refresher::Family(_) => Ok(()),
        })
    });
    let of_sources =
        sources.iter().filter_map(|source| as_owner(&|| source_check::analyse(set, source)));
    of_refresher.into_iter().chain(of_sources).map(advise).collect()
}

/// The columns of a segment's table that its last refresh has given, and that the refresher does not give: they
/// keep their values. Empty where that is not known.
pub fn no_longer_given(
    set: &RelationSet,
    holder: Holder<'_>,
    table: pg_sys::Oid,
    refresher: Option<&Refresher>,
) -> Vec<String> {
    let found = in_subtransaction(OnSuccess::Rollback, || {
        let known = set.as_owner(|| {
            let sql = set.sql(&queries::refresh::analysis::LIST_LAST_COLUMNS, &[]);
            Spi::connect(|_| read_one::<Vec<String>>(&sql, &[holder.id.into()]))
        })?;
        let Some(known) = known.filter(|known| !known.is_empty()) else { return Ok(Vec::new()) };
        let query =
            set.as_segment_owner(holder.owner, || Spi::connect(|_| members(set, refresher)))?;
        let Some(query) = query else { return Ok(Vec::new()) };
        let (given, table) = (query.columns(), Table::check(set, table, holder)?);
        let is_kept = |name: &String| {
            table.columns.iter().any(|column| column.name == *name)
                && given.iter().all(|column| column.name != *name)
        };
        Ok(known.into_iter().filter(is_kept).collect())
    });
    found.unwrap_or_default()
}

/// The query that gives a segment's members, analysed; none: a procedure, or no refresher. An error in the
/// refresher is returned. Runs with the rights of the segment's owner, within an SPI connection.
pub fn members(set: &RelationSet, refresher: Option<&Refresher>) -> Result<Option<Prepared>> {
    match refresher {
        Some(Refresher::Query(Query { sql, .. })) => {
            let query = delta::parse_single_statement(sql, StatementKind::Select)?;
            let prepared = Prepared::of_user(query, &[])?;
            if prepared.is_plain_select() {
                // What it may not read is found where its execution would begin.
                let sql = set.sql(&queries::refresh::CHECK_RIGHTS, &[("query", query)]);
                in_subtransaction(OnSuccess::Rollback, || {
                    Ok(Spi::connect_mut(|client| client.update(&sql, None, &[]).map(drop))?)
                })?;
            }
            Ok(Some(prepared))
        }
        Some(Refresher::Procedure(Sql { sql })) => {
            let call = delta::parse_single_statement(sql, StatementKind::Call)?;
            Prepared::of_user(call, &[]).map(|_| None)
        }
        Some(Refresher::Incremental(refresher)) => incremental::members(set, refresher).map(Some),
        Some(Refresher::Family(_)) | None => Ok(None),
    }
}
