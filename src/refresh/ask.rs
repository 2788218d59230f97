//! What a segment's refresher says of one person. Nothing is changed.

use pgrx::prelude::*;

use super::delta::{self, parse_single_statement};
use super::incremental;
use super::now::RefreshTime;
use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::config::{MatchColumn, Query, Refresher, Segment};
use crate::error::{Error, Result};
use crate::pg::exec::portal;
use crate::pg::exec::role;
use crate::pg::exec::statement::{Prepared, StatementKind};
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};
use crate::refresh::outcome;

/// What a query gives for an id.
#[derive(Default)]
pub struct Given {
    pub rows: i64,
    /// Of a person whom it gives: the hashes that are among its columns.
    pub hashes: Vec<(MatchColumn, Option<String>)>,
}

/// Runs the segment's query for one id, with the rights of the segment's owner; none: it has no query that can be
/// asked for one.
pub fn ask(set: &RelationSet, segment: &Segment, id: &str) -> Result<Option<Given>> {
    let (sql, ids) = match &segment.refresher {
        Some(Refresher::Query(Query { sql, .. })) => (sql, None),
        Some(Refresher::Incremental(refresher)) => (&refresher.sql, Some(refresher)),
        Some(Refresher::Procedure(_) | Refresher::Family(_)) | None => return Ok(None),
    };
    let asked = in_subtransaction(OnSuccess::Rollback, || {
        let _portals = portal::CursorScope::begin()?;
        let _time = RefreshTime::begin();
        let ask = || {
            Spi::connect(|client| {
                let changed = match ids {
                    Some(refresher) => match incremental::changed_id(set, refresher, id)? {
                        Some(changed) => Some(changed),
                        None => return Ok(Given::default()),
                    },
                    None => None,
                };
                let query = parse_single_statement(sql, StatementKind::Select)?;
                let analysed = Prepared::of_user(query, &[])?;
                let columns = analysed.columns();
                let is_given = |by: MatchColumn| columns.iter().any(|it| it.name == by.name());
                let value = |by: MatchColumn| match is_given(by) {
                    true => format!("s.{}", by.name()),
                    false => "null".into(),
                };
                let (email, phone) = (value(MatchColumn::HashEmail), value(MatchColumn::HashPhone));
                let source = match changed {
                    Some(_) => Some(delta::of_changed_ids(set, query, &analysed)?),
                    None => None,
                };
                let query = source.as_ref().map_or(query, |source| source.sql.as_str());
                let parts = [("query", query), ("email", &email), ("phone", &phone)];
                let sql = set.sql(&queries::refresh::ask::COUNT_GIVEN, &parts);
                let row = client.select(&sql, Some(1), &[id.into()])?.first();
                let rows = row.get_by_name("given")?.unwrap_or_default();
                let mut hashes = vec![
                    (MatchColumn::HashEmail, row.get_by_name("email")?),
                    (MatchColumn::HashPhone, row.get_by_name("phone")?),
                ];
                hashes.retain(|(by, _)| rows > 0 && is_given(*by));
                drop((source, changed));
                Ok::<_, Error>(Given { rows, hashes })
            })
        };
        set.as_segment_owner(segment.owner, || role::read_only(ask))
    });
    asked.map(Some).map_err(|error| outcome::explain(error, Some(segment)))
}

/// Whether a captured change of an id waits for the segment's next refresh.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Captured {
    /// The segment watches no table.
    Unwatched,
    /// The next refresh compares all ids.
    All,
    Waiting,
    Nothing,
}

/// Looks up the captured changes that the segment has not read.
pub fn captured(set: &RelationSet, segment: &Segment, id: &str) -> Result<Captured> {
    let Some(Refresher::Incremental(refresher)) = &segment.refresher else {
        return Ok(Captured::Unwatched);
    };
    let Some(watched) = &refresher.watch else { return Ok(Captured::Unwatched) };
    in_subtransaction(OnSuccess::Rollback, || {
        Ok(match incremental::is_captured(set, segment, watched, id)? {
            None => Captured::All,
            Some(true) => Captured::Waiting,
            Some(false) => Captured::Nothing,
        })
    })
}
