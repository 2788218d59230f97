//! Values in columns that are named as hashes, and are none: contact data would be handed over as it is,
//! and no platform would find the person.

use pgrx::prelude::*;

use super::{Delta, DeltaTarget};
use crate::catalog::queries;
use crate::error::{Result, counted, emit};
use crate::pg::exec::statement;

/// What the names of such columns begin with.
const PREFIX: &str = "hash_";
/// The shortest hash, in characters: MD5 in Base64.
pub const SHORTEST_HASH: i32 = 22;

/// What to do about such values.
pub const NO_HASHES: &str = "Hash contact data in the query, for example segmenter_hash(segmenter_email(email)) and segmenter_hash(segmenter_phone(phone, 'US')).";

/// Added and changed members that have no hash where one is expected.
pub struct NoHashes {
    /// For each column that has such values, their number.
    columns: Vec<(String, u64)>,
    /// The id of one of these members.
    example: String,
}

impl Delta {
    /// Finds them; none: there are none. Runs with the rights of the segment's owner, within the SPI
    /// connection of the delta.
    pub fn no_hashes(&self, side: &DeltaTarget<'_>) -> Result<Option<NoHashes>> {
        let is_text = |oid| [pg_sys::TEXTOID, pg_sys::VARCHAROID, pg_sys::BPCHAROID].contains(&oid);
        let columns: Vec<_> = side
            .received_columns()
            .filter(|(_, column)| column.name.starts_with(PREFIX) && is_text(column.type_oid))
            .collect();
        if columns.is_empty() || self.figures.added + self.figures.changed == 0 {
            return Ok(None);
        }
        let conditions: Vec<_> = columns.iter().map(|(number, _)| is_none(*number)).collect();
        let counts = conditions.iter().map(|condition| {
            format!("(pg_catalog.count(*) filter (where {condition}))::pg_catalog.text")
        });
        let counts = counts.collect::<Vec<_>>().join(", ");
        let parts = [("counts", counts.as_str()), ("is_none", &conditions.join(" or "))];
        let sql = side.sql(&queries::refresh::delta::FIND_NO_HASHES, &parts);
        let found: Vec<Option<String>> = statement::read_one(&sql, &[])?.unwrap_or_default();
        let count = |found: &Option<String>| found.as_deref().and_then(|n| n.parse().ok());
        let numbers = found.iter().map(|found| count(found).unwrap_or_default());
        let names = columns.iter().map(|(_, column)| column.name.clone());
        let columns: Vec<(String, u64)> = names.zip(numbers).filter(|(_, n)| *n > 0).collect();
        let example = found.last().cloned().flatten().unwrap_or_default();
        Ok((!columns.is_empty()).then_some(NoHashes { columns, example }))
    }
}

impl NoHashes {
    pub fn warn(&self, segment: &str) {
        let columns: Vec<_> = self
            .columns
            .iter()
            .map(|(name, count)| format!("in {name} of {}", counted(*count as i64, "member")))
            .collect();
        let columns = columns.join(", ");
        let message = format!(
            "segment \"{segment}\" has values that are no hashes: {columns}, for example of \"{}\"",
            self.example
        );
        emit(PgLogLevel::WARNING, message, Some(NO_HASHES));
    }
}

/// The condition that a value is no hash: it is too short, or an address.
fn is_none(number: usize) -> String {
    let value = format!("d.n{number}::pg_catalog.text");
    format!(
        "pg_catalog.octet_length({value}) operator(pg_catalog.<) {SHORTEST_HASH} or pg_catalog.strpos({value}, '@') operator(pg_catalog.>) 0"
    )
}
