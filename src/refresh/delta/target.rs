//! The segment table that a delta is computed against, and the SQL of this.

use pgrx::datum::{DatumWithOid, Uuid};
use pgrx::prelude::*;

use super::query::check_query;
use super::{LONGEST_ID, OPERATIONS, count_members};
use crate::catalog::queries;
use crate::catalog::query::Query;
use crate::catalog::relation_set::RelationSet;
use crate::config::segment_table::{Column, Table};
use crate::error::Result;
use crate::pg::bgw::activity;
use crate::pg::exec::statement::Prepared;
use crate::pg::exec::tuplestore::{ByteHistogram, Relation};
use crate::pg::format::fingerprint::{
    Counts, DeltaColumns, DeltaSums, append_delta, hash_text, sum,
};
use crate::pg::system_catalog;
use segmenter_core::content::{self, Checksum, Hashed};

/// The segment table that a delta is computed against, and the columns that the refresher returns.
pub struct DeltaTarget<'a> {
    pub set: &'a RelationSet,
    pub table: &'a Table,
    pub segment: Uuid,
    /// For each column of the table, whether the received rows have it.
    pub(super) received: Vec<bool>,
    /// Whether received ids are of a type whose values may be too long to be stored.
    pub(super) has_long_ids: bool,
    /// The seed of the members' fingerprints.
    pub(super) seed: u64,
}

impl<'a> DeltaTarget<'a> {
    /// Whether the received rows have all columns of the table.
    pub fn receives_all(&self) -> bool {
        self.received.iter().all(|received| *received)
    }

    /// Whether the received rows have the column with this number in the delta.
    pub fn receives(&self, number: usize) -> bool {
        self.received.get(number - 1).is_some_and(|received| *received)
    }

    /// The columns of the table that the received rows have, with their numbers in the delta.
    pub fn received_columns(&self) -> impl Iterator<Item = (usize, &Column)> {
        self.columns().filter(|(number, _)| self.received[number - 1])
    }

    /// Those of the names that are columns of the table and not received.
    pub fn not_received(&self, names: &[String]) -> Vec<String> {
        let others = self.columns().filter(|(number, _)| !self.received[number - 1]);
        let others = others.map(|(_, column)| &column.name);
        others.filter(|name| names.contains(*name)).cloned().collect()
    }

    /// The columns whose values a new version of a row takes from the old one: not received,
    /// writable, and in no unique index.
    pub fn carried_columns(&self) -> impl Iterator<Item = (usize, &Column)> {
        self.columns().filter(|(number, column)| {
            !self.received[number - 1]
                && !column.is_generated
                && !column.is_identity
                && !column.is_unique
        })
    }

    /// All columns of the table, with their numbers in the delta, from 1.
    pub(super) fn columns(&self) -> impl Iterator<Item = (usize, &Column)> {
        self.table.columns.iter().enumerate().map(|(index, column)| (index + 1, column))
    }

    pub(super) fn args(&self) -> [DatumWithOid<'static>; 1] {
        [self.segment.into()]
    }

    /// The columns that fingerprints are computed from: those that are received and stored as they
    /// are.
    pub(super) fn hashed_columns(&self) -> impl Iterator<Item = (usize, &Column)> {
        self.received_columns().filter(|(_, column)| !is_fitted_array(column))
    }

    /// The names of these columns.
    pub fn hashed_names(&self) -> Vec<String> {
        self.hashed_columns().map(|(_, column)| column.name.clone()).collect()
    }

    /// The seed of the members' fingerprints.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// How the members are hashed.
    pub fn hashed(&self) -> Hashed {
        let columns = self
            .hashed_columns()
            .map(|(_, column)| format!("{} {}", column.quoted(), column.type_oid.to_u32()));
        let columns = columns.collect::<Vec<_>>().join(", ");
        let is_portable =
            self.hashed_columns().all(|(_, column)| system_catalog::is_portable(column.type_oid));
        Hashed {
            version: content::VERSION,
            seed: self.seed,
            place: if is_portable { String::new() } else { activity::place() },
            columns: hash_text(&columns, self.seed),
        }
    }

    /// The sum of the members that the table holds. Runs with the rights of the segment's owner,
    /// within an SPI connection, with the active snapshot.
    pub fn sum_members(&self) -> Result<Checksum> {
        sum(&self.fingerprint_sql(&queries::refresh::delta::LIST_MEMBERS), &self.args(), self.seed)
    }

    /// The sum of the members with this id. Runs with the rights of the table's owner.
    pub fn sum_member(&self, id: &str) -> Result<Checksum> {
        let sql = &queries::refresh::delta::LIST_ONE_MEMBER;
        let args = [self.segment.into(), id.into()];
        sum(&self.fingerprint_sql(sql), &args, self.seed)
    }

    /// Appends the rows of a delta, and sums them up.
    pub(super) fn append_delta(
        &self,
        relation: &Relation,
        query: (&str, &[DatumWithOid<'_>]),
        skipped: &[u8],
        counts: Counts,
    ) -> Result<(ByteHistogram, DeltaSums)> {
        // The columns of a delta: the operation, the key, the new values that are received, and all
        // old values.
        let (key, first_new) = (1, 2);
        let first_old = first_new + self.received_columns().count();
        let received: Vec<usize> = self.received_columns().map(|(number, _)| number).collect();
        let (mut new, mut old) = (vec![key], vec![key]);
        for (number, _) in self.hashed_columns() {
            let place = received.iter().take_while(|it| **it < number).count();
            new.push(first_new + place);
            old.push(first_old + number - 1);
        }
        let columns = DeltaColumns { new, old };
        append_delta(relation, query, skipped, columns, OPERATIONS, (self.seed, counts))
    }

    pub(super) fn sql(&self, query: &Query, parts: &[(&str, &str)]) -> String {
        let mut all = vec![("table", self.table.name.as_str())];
        all.extend_from_slice(parts);
        self.set.sql(query, &all)
    }

    /// A query for the stored members, as the old side of a delta.
    pub(super) fn members_sql(&self) -> String {
        let values: String = self
            .columns()
            .map(|(number, column)| format!(", {} as o{number}", old_value(column)))
            .collect();
        self.sql(&queries::refresh::delta::LIST_MEMBERS, &[("old_values", &values)])
    }

    /// A user's query, with its values cast to the types of the table, as the new side of a delta.
    pub(super) fn received_sql(&self, query: &str) -> String {
        let values: String = self
            .received_columns()
            .map(|(number, column)| format!(", {} as n{number}", new_value(column)))
            .collect();
        let parts = [("query", query), ("new_values", &values)];
        self.sql(&queries::refresh::delta::RECEIVED_ROWS, &parts)
    }

    /// The received rows without the ids that are too long to be stored.
    pub(super) fn checked_sql(&self, received: &str) -> String {
        let values: String =
            self.received_columns().map(|(number, _)| format!(", q.n{number}")).collect();
        let most = LONGEST_ID.to_string();
        let part = |query: &Query| self.sql(query, &[("most", &most)]);
        let (id, long_id) = match self.has_long_ids {
            true => (
                part(&queries::refresh::delta::CHECKED_ID),
                part(&queries::refresh::delta::LONG_ID),
            ),
            false => ("q.id".into(), "null::pg_catalog.text".into()),
        };
        let parts =
            [("received", received), ("id", &id), ("long_id", &long_id), ("values", &values)];
        self.sql(&queries::refresh::delta::CHECKED_ROWS, &parts)
    }

    pub(super) fn delta_sql(&self, received: &str, members: &str) -> String {
        let sql = &queries::refresh::delta::FULL_JOIN;
        self.delta_of(sql, &[("received", received), ("members", members)])
    }

    /// Fills in one of our statements that compares received rows (q) with members (m).
    pub(super) fn delta_of(&self, query: &Query, sides: &[(&str, &str)]) -> String {
        let differs: Vec<_> =
            self.received_columns().map(|(number, column)| differs(number, column)).collect();
        let differs = if differs.is_empty() { "false".into() } else { differs.join(" or ") };
        let new: String =
            self.received_columns().map(|(number, _)| format!(", q.n{number}")).collect();
        let old: String = self.columns().map(|(number, _)| format!(", m.o{number}")).collect();
        let values = new + &old;
        let mut parts = vec![("differs", differs.as_str()), ("values", values.as_str())];
        parts.extend_from_slice(sides);
        self.sql(query, &parts)
    }

    /// The number of members in the table.
    pub(super) fn count_members(&self) -> Result<u64> {
        count_members(self.set, self.table, self.segment)
    }
}

impl<'a> DeltaTarget<'a> {
    /// The target of a delta between a query, which is one statement, and a segment's members. A
    /// query that does not fit the table is an error.
    pub fn of_query(
        target: (&'a RelationSet, &'a Table),
        segment: (Uuid, u64),
        query: &str,
    ) -> Result<Self> {
        Self::of_analysed(target, segment, &Prepared::of_user(query, &[])?)
    }

    /// The same for a query that was analysed.
    pub(super) fn of_analysed(
        (set, table): (&'a RelationSet, &'a Table),
        (segment, seed): (Uuid, u64),
        query: &Prepared,
    ) -> Result<Self> {
        let (received, has_long_ids) = check_query(query, table)?;
        Ok(Self { set, table, segment, received, has_long_ids, seed })
    }
}

/// An expression: a received value, cast to the column's type and modifier as storing would do it.
pub(super) fn new_value(column: &Column) -> String {
    let cast = format!("(s.{})::{}", column.quoted(), system_catalog::type_name(column.type_oid));
    system_catalog::coerce_to_typmod(&cast, column.type_oid, column.modifier)
}

pub(super) fn old_value(column: &Column) -> String {
    if column.is_plain {
        format!("t.{}", column.quoted())
    } else {
        format!("(t.{})::{}", column.quoted(), system_catalog::type_name(column.type_oid))
    }
}

/// Whether a column is an array whose elements are coerced to a type modifier when they are stored.
pub(super) fn is_fitted_array(column: &Column) -> bool {
    column.modifier >= 0 && system_catalog::is_array(column.type_oid)
}

/// A condition: whether the stored bytes of the new and old value differ. For character types,
/// comparing text gives the same result faster. The record image operator also compares types
/// without an equality operator.
fn differs(number: usize, column: &Column) -> String {
    let (new, old) = (format!("q.n{number}"), format!("m.o{number}"));
    match column.type_oid {
        pg_sys::TEXTOID | pg_sys::VARCHAROID => format!(
            "({new} is null) operator(pg_catalog.<>) ({old} is null) \
             or {new}::pg_catalog.text operator(pg_catalog.<>) {old}::pg_catalog.text collate pg_catalog.\"C\""
        ),
        // The received array is stored without this cast, so that storing an element that is too
        // long is an error. It is compared as it would be stored.
        array if is_fitted_array(column) => format!(
            "row({new}::{})::pg_catalog.record operator(pg_catalog.*<>) row({old})::pg_catalog.record",
            system_catalog::full_type_name(array, column.modifier)
        ),
        _ => format!(
            "row({new})::pg_catalog.record operator(pg_catalog.*<>) row({old})::pg_catalog.record"
        ),
    }
}
