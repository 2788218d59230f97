//! Says that no member was found, and whose ids resemble the one that was asked for.

use std::time::{Duration, Instant};

use pgrx::prelude::*;

use super::{Listed, SegmentRows};
use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::error::{Result, counted, emit_notice};
use crate::pg::exec::role;
use crate::pg::exec::subtransaction::in_limited_subtransaction;
use crate::refresh::handover::latest;
use segmenter_core::text::shown;

/// The time for the search in all tables. Similar ids are found by reading whole tables.
const LONGEST_SEARCH: Duration = Duration::from_secs(10);
const MOST_NAMED: usize = 5;
const BLANKS: &str = " \t\r\n\u{a0}";

/// Emits a NOTICE, which does not get into the server's log by default: it contains ids.
pub(super) fn report(set: &RelationSet, segments: &[Listed], id: &str) {
    let began = Instant::now();
    let (mut named, mut is_incomplete) = (Vec::new(), false);
    let mut segments: Vec<&Listed> = segments.iter().collect();
    segments.sort_by_key(|segment| (&segment.name, segment.id));
    for segment in &segments {
        let left = LONGEST_SEARCH.saturating_sub(began.elapsed());
        if named.len() >= MOST_NAMED {
            break;
        }
        if left.is_zero() {
            is_incomplete = true;
            break;
        }
        match in_limited_subtransaction(left, || search(set, segment, id, left)) {
            Ok(found) => named.extend(found),
            Err(_) => is_incomplete = true,
        }
    }
    named.truncate(MOST_NAMED);
    let mut detail = match named.is_empty() {
        true => "No id resembles it.".to_owned(),
        false => format!("Similar: {}.", named.join("; ")),
    };
    if is_incomplete {
        detail += " Not every table could be searched for similar ids.";
    }
    emit_notice(
        format!(
            "no member with the id \"{}\" was found in {}",
            shown(id),
            counted(segments.len() as i64, "segment")
        ),
        detail,
        "Ids are compared exactly, as the segments' queries return them: blanks, case and hashes count. Only segments of roles that the caller is a member of are searched.",
    );
}

fn search(set: &RelationSet, listed: &Listed, id: &str, left: Duration) -> Result<Vec<String>> {
    role::with_lock_timeout(left, || {
        let (_snapshot, segment) = latest(set, listed.id)?;
        let Some(rows) = SegmentRows::open(set, &segment)? else { return Ok(Vec::new()) };
        set.as_table_owner(rows.table.owner, || {
            let sql = rows.sql(set, &queries::ops::erase::FIND_SIMILAR, "");
            let args = [segment.id.into(), id.into(), BLANKS.into()];
            Spi::connect(|client| {
                let rows = client.select(&sql, None, &args)?.map(|row| {
                    let similar: String = row.get_by_name("id")?.unwrap_or_default();
                    let why = match row.get_by_name::<String, _>("likeness")?.as_deref() {
                        Some("hash") => ", one is a hash of the other",
                        Some("contact") => ", whose contact it is, or a hash of it",
                        _ => "",
                    };
                    Ok(format!("\"{similar}\" of segment \"{}\"{why}", listed.name))
                });
                rows.collect()
            })
        })
    })
}
