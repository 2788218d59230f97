//! Members with an empty id, or with the hash of an empty text: all of them are one person.

use std::time::{Duration, Instant};

use pgrx::prelude::*;

use super::findings::Findings;
use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::config::segment_table;
use crate::error::Result;
use crate::pg::exec::role;
use crate::pg::exec::statement::read_one;
use crate::pg::exec::subtransaction::in_limited_subtransaction;
use crate::schedule::due::Item;

/// The hashes of an empty text in hexadecimal: SHA-256, SHA-1, MD5, SHA-512.
const EMPTY: [&str; 4] = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "da39a3ee5e6b4b0d3255bfef95601890afd80709",
    "d41d8cd98f00b204e9800998ecf8427e",
    "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e",
];
/// How long one table may take, and all of them.
const LIMIT: Duration = Duration::from_secs(2);
const ALL: Duration = Duration::from_secs(10);

/// Reads some members of each segment, with the rights of its owner: of those that the caller may act as.
/// A table that cannot be read is reported by the check of tables.
pub(super) fn check(found: &mut Findings, set: &RelationSet, items: &[Item]) -> Result<()> {
    let began = Instant::now();
    let caller = role::current();
    // Asked once: a membership may be granted or revoked meanwhile.
    let own: Vec<_> = items.iter().filter(|item| role::may_act_as(caller, item.owner)).collect();
    let (mut seen, count) = (0, own.len());
    for item in own {
        if began.elapsed() > ALL {
            break;
        }
        seen += 1;
        let Some(table) = segment_table::name(set, item.table)? else { continue };
        let columns = in_limited_subtransaction(LIMIT, || {
            let sql = &queries::ops::doctor::FIND_EMPTY_HASHES;
            let hashes: Vec<String> = EMPTY.iter().map(|hash| (*hash).to_owned()).collect();
            let args = [item.id.into(), hashes.into()];
            set.as_segment_owner(item.owner, || {
                let sql = set.sql(sql, &[("table", &table)]);
                Spi::connect(|_| read_one::<Vec<String>>(&sql, &args))
            })
        });
        for column in columns.ok().flatten().unwrap_or_default() {
            if column == "id" {
                found.warn(
                    "hashes",
                    format!("segment \"{}\" has a member with an empty id", item.name),
                    "All that lack an id are this one member. Have the query give null: such rows are counted and left out.",
                );
                continue;
            }
            found.warn(
                "hashes",
                format!("members of segment \"{}\" have the hash of an empty text in {column}", item.name),
                "A consumer takes all of them for one person. Have the query give null: encode(sha256(convert_to(nullif(..., ''), 'UTF8')), 'hex').",
            );
        }
    }
    let fine = match count - seen {
        0 => "no empty id or hash of an empty text was found".to_owned(),
        _ => {
            format!("no empty id or hash of an empty text was found in {seen} of {count} segments")
        }
    };
    found.close_segments("hashes", &fine);
    Ok(())
}
