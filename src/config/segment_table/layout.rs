//! The columns and unique indexes of a segment table: whether they are those of one, and with which layout.

use pgrx::prelude::*;
use pgrx::spi::SpiClient;

use super::{Column, MART, TableLayout, unfit};
use crate::catalog::queries;
use crate::error::{Error, Result};
use crate::pg::system_catalog;

/// A unique index that could cover the members' key.
pub(super) struct UniqueIndex {
    columns: Vec<String>,
    predicate: Option<String>,
}

/// The layout of a table with these indexes. An index without a predicate rules out history, so it
/// takes precedence.
pub(super) fn kind(indexes: &[UniqueIndex]) -> Option<TableLayout> {
    [(false, false), (true, false), (false, true), (true, true)]
        .into_iter()
        .map(|(shared, history)| TableLayout { shared, history })
        .find(|kind| indexes.iter().any(|index| index.holds(*kind)))
}

impl UniqueIndex {
    fn holds(&self, kind: TableLayout) -> bool {
        let mut columns: Vec<_> = self.columns.iter().map(String::as_str).collect();
        columns.sort_unstable();
        let key: &[&str] = if kind.shared { &["id", "segment_id"] } else { &["id"] };
        // The text that PostgreSQL generates with only pg_catalog in the search_path.
        let open = "(actual_end = 'infinity'::timestamp without time zone)";
        columns == key && self.predicate.as_deref() == kind.history.then_some(open)
    }
}

pub(super) fn columns(client: &SpiClient<'_>, table: pg_sys::Oid) -> Result<Vec<Column>> {
    client
        .select(queries::config::segment_table::LIST_COLUMNS.kept(), None, &[table.into()])?
        .map(|row| {
            let is =
                |fact: &str| Ok::<_, Error>(row.get_by_name::<bool, _>(fact)?.unwrap_or_default());
            let declared_type = row.get_by_name("type_oid")?.unwrap_or(pg_sys::InvalidOid);
            let modifier = row.get_by_name("modifier")?.unwrap_or(-1);
            let (type_oid, modifier) = system_catalog::base_type(declared_type, modifier);
            Ok(Column {
                name: row.get_by_name("name")?.unwrap_or_default(),
                is_plain: type_oid == declared_type,
                type_oid,
                modifier,
                is_generated: is("is_generated")?,
                generated_from: row.get_by_name("generated_from")?.unwrap_or_default(),
                is_identity: is("is_identity")?,
                is_unique: is("is_unique")?,
                is_not_null: is("is_not_null")?,
                declared: row.get_by_name("declared")?.unwrap_or_default(),
                collation: row.get_by_name("collation")?,
            })
        })
        .collect()
}

pub(super) fn unique_indexes(
    client: &SpiClient<'_>,
    table: pg_sys::Oid,
) -> Result<Vec<UniqueIndex>> {
    client
        .select(queries::config::segment_table::LIST_UNIQUE_INDEXES.kept(), None, &[table.into()])?
        .map(|row| {
            Ok(UniqueIndex {
                columns: row.get_by_name("columns")?.unwrap_or_default(),
                predicate: row.get_by_name("predicate")?,
            })
        })
        .collect()
}

pub(super) fn check_columns(table: &str, columns: &[Column]) -> Result<()> {
    for (name, declared, not_null) in MART {
        let Some(column) = columns.iter().find(|column| column.name == name) else {
            let not_null = if not_null { " not null" } else { "" };
            let hint = format!("alter table {table} add column {name} {declared}{not_null}");
            return Err(unfit(table, &format!("column \"{name}\" is missing"), Some(hint)));
        };
        if column.declared != declared {
            let problem =
                format!("column \"{name}\" is {}, it must be {declared}", column.declared);
            let hint = format!(
                "alter table {table} alter column {name} type {declared} using {name}::{declared}"
            );
            return Err(unfit(table, &problem, Some(hint)));
        }
        if not_null && !column.is_not_null {
            let problem = format!("column \"{name}\" must be NOT NULL");
            let hint = format!("alter table {table} alter column {name} set not null");
            return Err(unfit(table, &problem, Some(hint)));
        }
        if column.is_generated || column.is_identity {
            return Err(unfit(table, &format!("column \"{name}\" is generated"), None));
        }
    }
    Ok(())
}

pub(super) fn no_index(table: &str) -> Error {
    unfit(
        table,
        "it has no unique index that tells members apart",
        Some(format!(
            "create unique index on {table} (id) for one segment's latest state, add \"where actual_end = 'infinity'\" to keep history; (segment_id, id) where segments share it."
        )),
    )
}

#[cfg(feature = "pg_test")]
mod tests {
    use pgrx::prelude::*;

    use super::*;

    const OPEN: &str = "(actual_end = 'infinity'::timestamp without time zone)";

    fn index(columns: &[&str], predicate: Option<&str>) -> UniqueIndex {
        UniqueIndex {
            columns: columns.iter().map(|column| (*column).into()).collect(),
            predicate: predicate.map(Into::into),
        }
    }

    #[pg_extern]
    fn the_unique_index_determines_the_layout() {
        let found = |index| kind(&[index]).map(|kind| (kind.shared, kind.history));
        assert_eq!(found(index(&["id"], None)), Some((false, false)));
        assert_eq!(found(index(&["segment_id", "id"], None)), Some((true, false)));
        assert_eq!(found(index(&["id", "segment_id"], None)), Some((true, false)));
        assert_eq!(found(index(&["id"], Some(OPEN))), Some((false, true)));
        assert_eq!(found(index(&["id", "segment_id"], Some(OPEN))), Some((true, true)));
        assert_eq!(found(index(&["id"], Some("(id IS NOT NULL)"))), None);
        assert_eq!(found(index(&["hash_email"], None)), None);
        assert_eq!(found(index(&["id", "actual_begin"], None)), None);
        assert_eq!(kind(&[]), None);
    }

    #[pg_extern]
    fn an_index_without_a_predicate_rules_out_history() {
        let both = [index(&["id"], Some(OPEN)), index(&["segment_id", "id"], None)];
        assert_eq!(kind(&both), Some(TableLayout { shared: true, history: false }));
    }
}
