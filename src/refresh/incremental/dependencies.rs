//! What the queries of an incremental refresher depend on.

use std::collections::BTreeSet;

use pgrx::datum::TimestampWithTimeZone;

use super::{CHANGED, capture, id_query};
use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::config::{Incremental, Key, Segment};
use crate::error::Result;
use crate::pg::exec::analysis::Analysis;
use crate::pg::exec::dependency::Named;
use crate::pg::exec::statement::{Prepared, StatementKind};
use crate::pg::exec::tuplestore::Relation;
use crate::refresh::delta;

/// What the queries of a refresher depend on.
pub struct Dependencies {
    /// The relations and functions that the queries themselves name.
    pub named: Named,
    /// The query for changed ids, or that of the watched tables.
    pub changed: Analysis,
    /// The query for expiring ids.
    pub expires: Option<Analysis>,
    /// The query for members.
    pub sql: Analysis,
    pub members: Prepared,
}

impl Dependencies {
    /// The tables that any of them reads.
    pub fn tables(&self) -> BTreeSet<u32> {
        let expires = self.expires.iter().flat_map(|expires| &expires.tables);
        self.changed.tables.iter().chain(expires).chain(&self.sql.tables).copied().collect()
    }
}

/// Analyses the queries. Runs with the rights of the segment's owner, within an SPI connection.
pub fn analyse(set: &RelationSet, refresher: &Incremental) -> Result<Dependencies> {
    let ever = [TimestampWithTimeZone::negative_infinity(); 2];
    let changed_text = match (&refresher.changed, &refresher.watch) {
        (Some(changed), _) => {
            delta::parse_single_statement(changed, StatementKind::Select)?.to_owned()
        }
        (None, watched) => capture::ids_of(set, watched.as_deref().unwrap_or_default())?,
    };
    let args = id_query::args(&ever[..1]);
    let changed = Prepared::analysed(&changed_text, &args)?;
    let readers = set.readers();
    let mut named = changed.named(&readers);
    // The member query refers to the relation `changed`: an empty one with the right column is
    // enough to analyze it.
    let empty = Relation::new(CHANGED);
    let none = &queries::refresh::incremental::LIST_NO_IDS;
    empty.take_columns(&set.sql(none, &[("query", &changed_text)]), &args)?;
    let expires = match &refresher.expires {
        Some(text) => {
            let text = delta::parse_single_statement(text, StatementKind::Select)?;
            let query = Prepared::analysed(text, &id_query::args(&ever))?;
            named.extend(query.named(&readers));
            Some(Analysis::of(&query, text))
        }
        None => None,
    };
    let text = delta::parse_single_statement(&refresher.sql, StatementKind::Select)?;
    let sql = Prepared::of_user(text, &[])?;
    let members = sql.named(&readers);
    let mut of_sql = Analysis::of(&sql, text);
    // What a function reads is not among the tables of a query.
    for (segment, _) in &members.segments.names {
        if let Some(found) = Segment::find_bare(set, Key::Name(segment))? {
            of_sql.tables.insert(found.table.to_u32());
        }
    }
    named.extend(members);
    Ok(Dependencies {
        named,
        changed: Analysis::of(&changed, &changed_text),
        expires,
        sql: of_sql,
        members: sql,
    })
}
