//! What the segments' tables hold: as many members as after the last refresh; none with an empty id, or with
//! the hash of an empty text, which would all be one person.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use pgrx::datum::Uuid;
use pgrx::prelude::*;
use pgrx::spi::quote_literal;

use super::findings::Findings;
use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::config::segment_table;
use crate::error::{Error, Result, counted};
use crate::pg::exec::role;
use crate::pg::exec::subtransaction::in_limited_subtransaction;
use crate::refresh::delta::{NO_HASHES, SHORTEST_HASH};
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

/// Reads the members of each segment, with the rights of its owner: of those that the caller may act as.
/// A table that cannot be read is reported by the check of tables.
pub(super) fn check(found: &mut Findings, set: &RelationSet, items: &[Item]) -> Result<()> {
    let began = Instant::now();
    let caller = role::current();
    let known = known_counts(set)?;
    // Asked once: a membership may be granted or revoked meanwhile.
    let own: Vec<_> = items.iter().filter(|item| role::may_act_as(caller, item.owner)).collect();
    let (mut seen, count) = (0, own.len());
    for item in own {
        if began.elapsed() > ALL {
            break;
        }
        seen += 1;
        let Some(table) = segment_table::name(set, item.table)? else { continue };
        let Ok(Examined { members, empty_in, no_hashes_in }) =
            in_limited_subtransaction(LIMIT, || examine(set, item, &table))
        else {
            continue;
        };
        if let Some(before) = known.get(&item.id)
            && *before != members
        {
            edited(found, &item.name, *before, members);
        }
        empty_in.iter().for_each(|column| empty(found, &item.name, column));
        no_hashes_in.iter().for_each(|column| no_hash(found, &item.name, column));
    }
    let of_all = match count - seen {
        0 => String::new(),
        _ => format!(" in {seen} of {count} segments"),
    };
    let fine = format!("tables hold as many members as after the last refresh{of_all}");
    found.close_segments("members", &fine);
    let fine =
        format!("no empty id, hash of an empty text or value that is no hash was found{of_all}");
    found.close_segments("hashes", &fine);
    Ok(())
}

/// The numbers of members after the last refreshes.
fn known_counts(set: &RelationSet) -> Result<HashMap<Uuid, i64>> {
    set.as_owner(|| {
        Spi::connect(|client| {
            let sql = set.sql(&queries::ops::doctor::LIST_MEMBER_COUNTS, &[]);
            let rows = client.select(&sql, None, &[])?.map(|row| {
                let id: Option<Uuid> = row.get(1)?;
                Ok::<_, Error>(id.zip(row.get(2)?))
            });
            Ok(rows.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
        })
    })
}

/// What a table holds.
struct Examined {
    members: i64,
    /// The columns with the hash of an empty text, or with an empty id.
    empty_in: Vec<String>,
    /// The columns with values that are no hashes.
    no_hashes_in: Vec<String>,
}

fn examine(set: &RelationSet, item: &Item, table: &str) -> Result<Examined> {
    let hashes: Vec<String> = EMPTY.iter().map(|hash| (*hash).to_owned()).collect();
    let args = [item.id.into(), hashes.into(), SHORTEST_HASH.into()];
    set.as_segment_owner(item.owner, || {
        let sql = set.sql(&queries::ops::doctor::EXAMINE_MEMBERS, &[("table", table)]);
        Spi::connect(|client| {
            let row = client.select(&sql, Some(1), &args)?.first();
            Ok(Examined {
                members: row.get(1)?.unwrap_or_default(),
                empty_in: row.get::<Vec<String>>(2)?.unwrap_or_default(),
                no_hashes_in: row.get::<Vec<String>>(3)?.unwrap_or_default(),
            })
        })
    })
}

fn edited(found: &mut Findings, segment: &str, before: i64, members: i64) {
    found.warn(
        "members",
        format!(
            "the table of segment \"{segment}\" holds {}, it held {before} after the last refresh: rows were changed by hand",
            counted(members, "member")
        ),
        format!(
            "The next full pass notices it, and gives each subscription all members: select segmenter_refresh({}, \"full\" => true).",
            quote_literal(segment)
        ),
    );
}

fn empty(found: &mut Findings, segment: &str, column: &str) {
    if column == "id" {
        found.warn(
            "hashes",
            format!("segment \"{segment}\" has a member with an empty id"),
            "All that lack an id are this one member. Have the query give null: such rows are counted and left out.",
        );
        return;
    }
    found.warn(
        "hashes",
        format!("members of segment \"{segment}\" have the hash of an empty text in {column}"),
        "A consumer takes all of them for one person. Have the query give null: encode(sha256(convert_to(nullif(..., ''), 'UTF8')), 'hex').",
    );
}

fn no_hash(found: &mut Findings, segment: &str, column: &str) {
    found.warn(
        "hashes",
        format!("members of segment \"{segment}\" have in {column} what is no hash"),
        NO_HASHES,
    );
}
