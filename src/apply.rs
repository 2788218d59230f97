//! Brings a delta into the segment table: only rows that changed are written.

use pgrx::datum::{Timestamp, Uuid};
use pgrx::spi::SpiClient;

use crate::delta::Side;
use crate::error::{Error, Result};
use crate::guards::Figures;
use crate::service::Service;
use crate::table::Table;

/// One statement of an apply, and how many rows it must touch.
struct Step {
    sql: String,
    rows: u64,
}

/// Applies the relation `segmenter_delta` to a segment's table, at the local time `at`. Runs with
/// the owner's rights, in the SPI connection that knows the relation.
pub fn apply(
    client: &mut SpiClient<'_>,
    service: &Service,
    table: &Table,
    segment: Uuid,
    side: &Side<'_>,
    figures: Figures,
    at: Timestamp,
) -> Result<()> {
    for step in steps(service, table, side, figures) {
        if step.rows == 0 {
            continue;
        }
        let touched = client.update(&step.sql, None, &[segment.into(), at.into()])?.len() as u64;
        if touched != step.rows {
            return Err(Error::TableChanged {
                table: table.name.clone(),
                detail: format!("{touched} of {} rows could be written.", step.rows),
            });
        }
    }
    Ok(())
}

/// Removals first, so that whoever watches the table sees them first too.
fn steps(service: &Service, table: &Table, side: &Side<'_>, figures: Figures) -> Vec<Step> {
    let sql = |text: &str, parts: &[(&str, &str)]| {
        let mut all =
            vec![("table", table.name.as_str()), ("collation", table.id_collation.as_str())];
        all.extend_from_slice(parts);
        service.sql(text, &all)
    };
    let close = |operations: &str| {
        sql(include_str!("../sql/query/close.sql"), &[("operations", operations)])
    };
    let open = |operation: &str, columns: &[String], values: &[String]| {
        sql(
            include_str!("../sql/query/open.sql"),
            &[("operation", operation), ("columns", &listed(columns)), ("values", &listed(values))],
        )
    };
    let (names, values): (Vec<_>, Vec<_>) = side
        .received_columns()
        .map(|(number, column)| (column.quoted(), format!("d.n{number}")))
        .unzip();
    let added = open(&operation("a"), &names, &values);

    if table.kind.history {
        let (carried, old): (Vec<_>, Vec<_>) = side
            .carried_columns()
            .map(|(number, column)| (column.quoted(), format!("d.o{number}")))
            .unzip();
        let version = open(&operation("c"), &[names, carried].concat(), &[values, old].concat());
        vec![
            Step { sql: close(&operations(&["r", "c"])), rows: figures.removed + figures.changed },
            Step { sql: version, rows: figures.changed },
            Step { sql: added, rows: figures.added },
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
            include_str!("../sql/query/change.sql"),
            &[("assignments", &assign(&|number, _| format!("d.n{number}")).join(", "))],
        );
        let reopen = sql(
            include_str!("../sql/query/reopen.sql"),
            &[
                ("key", if table.kind.shared { "segment_id, id" } else { "id" }),
                ("assignments", &listed(&assign(&|_, name| format!("excluded.{name}")))),
            ],
        );
        vec![
            Step { sql: close(&operations(&["r"])), rows: figures.removed },
            Step { sql: change, rows: figures.changed },
            Step { sql: added + &reopen, rows: figures.added },
        ]
    }
}

/// A list to follow another element.
fn listed(elements: &[String]) -> String {
    elements.iter().map(|element| format!(", {element}")).collect()
}

fn operation(letter: &str) -> String {
    format!("'{letter}'::pg_catalog.\"char\"")
}

fn operations(letters: &[&str]) -> String {
    let quoted: Vec<_> = letters.iter().map(|letter| operation(letter)).collect();
    format!("array[{}]", quoted.join(", "))
}
