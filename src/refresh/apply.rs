//! Applies a delta to the segment table: only rows that changed are written.

use pgrx::datum::Timestamp;
use pgrx::spi::SpiClient;

use crate::catalog::queries;
use crate::catalog::query::Query;
use crate::config::segment_table;
use crate::error::{Error, Result};
use crate::pg::bgw::progress::Figure;
use crate::pg::exec::snapshot::{self, Active};
use crate::pg::exec::statement::read_one;
use crate::refresh::delta::DeltaTarget;
use segmenter_core::guards::DeltaStats;

/// A statement of an apply, and the number of rows that it must write.
struct Step {
    sql: String,
    rows: u64,
    /// The members among them that no other step counts.
    members: u64,
}

impl Step {
    fn of(sql: String, rows: u64) -> Self {
        Self { sql, rows, members: rows }
    }
}

/// Applies the relation `segmenter_delta` to a segment's table. `at` is the local time of the new
/// membership periods. `client` is the SPI connection in which the relation is registered. Runs
/// with the rights of the table's owner: that role decides what the table's triggers, defaults and
/// checks do, so they must not run with the rights of the segment's owner. If a statement does not
/// write exactly the rows of the delta, the error is [`Error::TableChanged`].
pub fn apply(
    client: &mut SpiClient<'_>,
    side: &DeltaTarget<'_>,
    figures: DeltaStats,
    at: Timestamp,
) -> Result<()> {
    side.set.as_table_owner(side.table.owner, || {
        if snapshot::is_kept() && figures.added > 0 && has_unseen(side)? {
            let detail = "It has rows that the transaction's snapshot does not show.".into();
            return Err(Error::TableChanged { table: side.table.name.clone(), detail });
        }
        for step in steps(side, figures)? {
            if step.rows == 0 {
                continue;
            }
            let args = [side.segment.into(), at.into()];
            let touched = client.update(&step.sql, None, &args)?.len() as u64;
            Figure::written().add(step.members);
            if touched != step.rows {
                return Err(Error::TableChanged {
                    table: side.table.name.clone(),
                    detail: format!("{touched} of {} rows could be written.", step.rows),
                });
            }
        }
        Ok(())
    })
}

/// Whether the table has added members that a snapshot which is kept does not show: a conflict of
/// transactions, which a unique index would report as a duplicate key.
fn has_unseen(DeltaTarget { set, table, segment, .. }: &DeltaTarget<'_>) -> Result<bool> {
    let parts = [("table", table.name.as_str()), ("collation", table.id_collation.as_str())];
    let sql = set.sql(&queries::refresh::apply::HAS_UNSEEN, &parts);
    let _latest = Active::latest();
    Ok(read_one(&sql, &[(*segment).into()])?.unwrap_or_default())
}

/// Takes members that other segments have out of a table that a procedure has written: their ids are in
/// the relation `segmenter_excluded`. In a table of periods, or if they are `erased`, nothing of those is
/// left that were not members before.
pub fn take_out(
    client: &mut SpiClient<'_>,
    side: &DeltaTarget<'_>,
    at: Timestamp,
    erased: bool,
) -> Result<()> {
    let DeltaTarget { set, table, segment, .. } = side;
    let parts = [("table", table.name.as_str()), ("collation", table.id_collation.as_str())];
    set.as_table_owner(table.owner, || {
        if table.kind.history || erased {
            let sql = set.sql(&queries::refresh::exclusion::DELETE_NEW_ROWS, &parts);
            client.update(&sql, None, &[(*segment).into()])?;
        }
        let sql = set.sql(&queries::refresh::exclusion::CLOSE_ROWS, &parts);
        client.update(&sql, None, &[(*segment).into(), at.into()])?;
        Ok(())
    })
}

/// The statements, removals first: triggers and other observers of the table see removals before
/// additions.
fn steps(side: &DeltaTarget<'_>, figures: DeltaStats) -> Result<Vec<Step>> {
    let DeltaTarget { set, table, segment, .. } = side;
    let sql = |query: &Query, parts: &[(&str, &str)]| {
        let mut all = vec![("table", table.name.as_str())];
        all.extend_from_slice(parts);
        set.sql(query, &all)
    };
    let close =
        |operations: &str| sql(&queries::refresh::apply::CLOSE_ROWS, &[("operations", operations)]);
    let open = |operation: &str, columns: &[String], values: &[String]| {
        sql(
            &queries::refresh::apply::INSERT_ROWS,
            &[
                ("operation", operation),
                ("columns", &comma_prefixed(columns)),
                ("values", &comma_prefixed(values)),
            ],
        )
    };
    let (names, values): (Vec<_>, Vec<_>) = side
        .received_columns()
        .map(|(number, column)| (column.quoted(), format!("d.n{number}")))
        .unzip();
    let added = open(&operation("a"), &names, &values);

    Ok(if table.kind.history {
        let (carried, old): (Vec<_>, Vec<_>) = side
            .carried_columns()
            .map(|(number, column)| (column.quoted(), format!("d.o{number}")))
            .unzip();
        let version = open(&operation("c"), &[names, carried].concat(), &[values, old].concat());
        vec![
            Step::of(close(&operations(&["r", "c"])), figures.removed + figures.changed),
            Step { sql: version, rows: figures.changed, members: 0 },
            Step::of(added, figures.added),
        ]
    } else {
        let assign = |value: &dyn Fn(usize, &str) -> String| -> Vec<String> {
            side.received_columns()
                .map(|(number, column)| {
                    let name = column.quoted();
                    format!("{name} = {}", value(number, &name))
                })
                .collect()
        };
        let change = sql(
            &queries::refresh::apply::UPDATE_ROWS,
            &[("assignments", &assign(&|number, _| format!("d.n{number}")).join(", "))],
        );
        let reopen = sql(
            &queries::refresh::apply::ON_CONFLICT_REOPEN,
            &[
                ("key", if table.kind.shared { "segment_id, id" } else { "id" }),
                ("assignments", &comma_prefixed(&assign(&|_, name| format!("excluded.{name}")))),
            ],
        );
        // The first load of a segment has no returning members: the insert is much faster without
        // ON CONFLICT.
        let is_first =
            figures.before == 0 && !segment_table::holds_rows_of(set, &table.name, segment)?;
        vec![
            Step::of(close(&operations(&["r"])), figures.removed),
            Step::of(change, figures.changed),
            Step::of(if is_first { added } else { added + "\n" + &reopen }, figures.added),
        ]
    })
}

/// The elements, each after a comma: a list that continues another one.
fn comma_prefixed(elements: &[String]) -> String {
    elements.iter().map(|element| format!(", {element}")).collect()
}

fn operation(letter: &str) -> String {
    format!("'{letter}'::pg_catalog.\"char\"")
}

fn operations(letters: &[&str]) -> String {
    let quoted: Vec<_> = letters.iter().map(|letter| operation(letter)).collect();
    format!("array[{}]", quoted.join(", "))
}
