//! The delta of a refresh, computed in one pass over the received rows and the members, and stored
//! as the relation `segmenter_delta`. Where the fingerprints of the members fit in memory, they are
//! compared; otherwise a full join is used, which spills to disk.

use std::ffi::CStr;
use std::rc::Rc;

use pgrx::datum::{DatumWithOid, Uuid};
use pgrx::prelude::*;

use crate::catalog::queries;
use crate::catalog::query::Query;
use crate::catalog::relation_set::RelationSet;
use crate::config::SERVICE_COLUMNS;
use crate::config::segment_table::{Column, MOST_COLUMNS, Table};
use crate::error::{Error, Result};
use crate::pg::bgw::activity;
use crate::pg::bgw::progress::{self, Figure, Phase};
use crate::pg::exec::dependency::Named;
use crate::pg::exec::role;
use crate::pg::exec::statement::{self, Prepared, StatementKind};
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};
use crate::pg::exec::tuplestore::{ByteHistogram, Relation};
use crate::pg::format::fingerprint::{
    Counts, DeltaColumns, DeltaOperations, DeltaSums, append_delta, hash_text, sum,
};
use crate::pg::system_catalog;
use segmenter_core::content::{self, Checksum, Hashed};
use segmenter_core::guards::DeltaStats;

mod changed;
pub mod excluded;
mod fingerprint;
mod hashes;
mod received;

pub use changed::of_changed;
use fingerprint::by_fingerprint;
pub use hashes::{NO_HASHES, NoHashes, SHORTEST_HASH};
use received::received;
pub use received::{Source, localized};

const DELTA: &CStr = c"segmenter_delta";
const BEFORE: &CStr = c"segmenter_before";

const ADDED: u8 = b'a';
const REMOVED: u8 = b'r';
const CHANGED: u8 = b'c';
const INVALID: u8 = b'i';
const UNCHANGED: u8 = b'=';
/// A received row whose id is too long to be stored.
const LONG: u8 = b'l';

/// The length of the longest id, in bytes: an entry of a unique index on (segment_id, id) has room for
/// it, also where it cannot be compressed.
pub const LONGEST_ID: usize = 2600;

/// The operation of a changed id that is no member, neither before nor now.
const NEITHER: u8 = b'-';

const OPERATIONS: DeltaOperations = DeltaOperations {
    added: ADDED,
    removed: REMOVED,
    changed: CHANGED,
    unchanged: UNCHANGED,
    neither: NEITHER,
};

/// The delta of one refresh. Dropping it drops the relation `segmenter_delta`.
pub struct Delta {
    pub figures: DeltaStats,
    /// Rows that were left out because their ids are too long: one of the error's kind, which is
    /// reported and keeps no other member back. They are among the invalid ones.
    pub long_ids: Option<LongIds>,
    /// The members that were found in the table; none: not all of them were read.
    pub found: Option<Checksum>,
    /// What the delta adds to the sum of the members.
    pub change: Checksum,
    relation: Relation,
}

/// Received rows that were left out because their ids are too long.
pub struct LongIds {
    pub count: u64,
    example: String,
}

impl LongIds {
    /// Finds an example in the delta.
    fn find(count: u64) -> Result<Option<Self>> {
        if count == 0 {
            return Ok(None);
        }
        let example = statement::read_one(queries::refresh::delta::FIND_LONG_ID.text(), &[])?;
        Ok(Some(Self { count, example: example.unwrap_or_default() }))
    }

    pub fn error(&self) -> Error {
        let (count, example) = (self.count, self.example.clone());
        Error::IdTooLong { count, example, most: LONGEST_ID }
    }
}

/// The segment table that a delta is computed against, and the columns that the refresher returns.
pub struct DeltaTarget<'a> {
    pub set: &'a RelationSet,
    pub table: &'a Table,
    pub segment: Uuid,
    /// For each column of the table, whether the received rows have it.
    received: Vec<bool>,
    /// Whether received ids are of a type whose values may be too long to be stored.
    has_long_ids: bool,
    /// The seed of the members' fingerprints.
    seed: u64,
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
    fn columns(&self) -> impl Iterator<Item = (usize, &Column)> {
        self.table.columns.iter().enumerate().map(|(index, column)| (index + 1, column))
    }

    fn args(&self) -> [DatumWithOid<'static>; 1] {
        [self.segment.into()]
    }

    /// The columns that fingerprints are computed from: those that are received and stored as they
    /// are.
    fn hashed_columns(&self) -> impl Iterator<Item = (usize, &Column)> {
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
    fn append_delta(
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

    fn sql(&self, query: &Query, parts: &[(&str, &str)]) -> String {
        let mut all = vec![("table", self.table.name.as_str())];
        all.extend_from_slice(parts);
        self.set.sql(query, &all)
    }

    /// A query for the stored members, as the old side of a delta.
    fn members_sql(&self) -> String {
        let values: String = self
            .columns()
            .map(|(number, column)| format!(", {} as o{number}", old_value(column)))
            .collect();
        self.sql(&queries::refresh::delta::LIST_MEMBERS, &[("old_values", &values)])
    }

    /// A user's query, with its values cast to the types of the table, as the new side of a delta.
    fn received_sql(&self, query: &str) -> String {
        let values: String = self
            .received_columns()
            .map(|(number, column)| format!(", {} as n{number}", new_value(column)))
            .collect();
        let parts = [("query", query), ("new_values", &values)];
        self.sql(&queries::refresh::delta::RECEIVED_ROWS, &parts)
    }

    /// The received rows without the ids that are too long to be stored.
    fn checked_sql(&self, received: &str) -> String {
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

    fn delta_sql(&self, received: &str, members: &str) -> String {
        let sql = &queries::refresh::delta::FULL_JOIN;
        self.delta_of(sql, &[("received", received), ("members", members)])
    }

    /// Fills in one of our statements that compares received rows (q) with members (m).
    fn delta_of(&self, query: &Query, sides: &[(&str, &str)]) -> String {
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
    fn count_members(&self) -> Result<u64> {
        count_members(self.set, self.table, self.segment)
    }
}

/// The number of members of a segment. Runs within an SPI connection.
pub fn count_members(set: &RelationSet, table: &Table, segment: Uuid) -> Result<u64> {
    let parts = [("table", table.name.as_str())];
    Ok(statement::read_one::<i64>(
        &set.sql(&queries::refresh::COUNT_MEMBERS, &parts),
        &[segment.into()],
    )?
    .unwrap_or_default() as u64)
}

/// Computes the delta between a query and a segment's members, both as the active snapshot sees
/// them. Runs with the rights of the segment's owner, within an SPI connection. A query that does
/// not fit the table, writes, or returns a key twice is an error. `has_changed`: the SPI connection has
/// the relation `changed`.
pub fn of_query<'a>(
    set: &'a RelationSet,
    table: &'a Table,
    (segment, seed): (Uuid, u64),
    sql: &str,
    has_changed: bool,
) -> Result<(Delta, DeltaTarget<'a>)> {
    let relation = Relation::new(DELTA);
    let (figures, long_ids, sums, side) = role::read_only(|| {
        let query = parse_single_statement(sql, StatementKind::Select)?;
        let analysed = match has_changed {
            true => Rc::new(Prepared::of_user(query, &[])?),
            false => Prepared::analysed(query, &[])?,
        };
        let side = DeltaTarget::of_analysed((set, table), (segment, seed), &analysed)?;

        let source = self::received(&side, query, &analysed, has_changed)?;
        let found = compare(&side, &relation, &source)?;
        analysed.check_seen(query, &[])?;
        Ok((found.0, found.1, found.2, side))
    })?;
    Ok((Delta::of(figures, long_ids, sums, relation), side))
}

/// Compares received rows with the members, by fingerprints or by a join.
fn compare(
    side: &DeltaTarget<'_>,
    relation: &Relation,
    source: &Source,
) -> Result<(DeltaStats, Option<LongIds>, DeltaSums)> {
    if let Some((figures, sums)) = by_fingerprint(side, relation, &source.sql)? {
        return Ok((figures, None, sums));
    }
    let received = side.checked_sql(&source.sql);
    let sql = side.delta_sql(&received, &side.members_sql());
    progress::enter_comparing(Prepared::new(&source.sql, &[])?.estimated_rows());
    let args = side.args();
    let (histogram, sums) =
        side.append_delta(relation, (&sql, &args), &[UNCHANGED], Counts::Received)?;
    let figures = figures(&histogram);
    // Each member is counted once, unless its key was received twice.
    check_duplicates(side, figures.before != side.count_members()?, figures, &received)?;
    Ok((figures, LongIds::find(histogram.of(LONG))?, sums))
}

impl Delta {
    /// A delta for which all members were read.
    fn of(
        figures: DeltaStats,
        long_ids: Option<LongIds>,
        sums: DeltaSums,
        relation: Relation,
    ) -> Self {
        let DeltaSums { before, change } = sums;
        Self { figures, long_ids, found: Some(before), change, relation }
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
    fn of_analysed(
        (set, table): (&'a RelationSet, &'a Table),
        (segment, seed): (Uuid, u64),
        query: &Prepared,
    ) -> Result<Self> {
        let (received, has_long_ids) = check_query(query, table)?;
        Ok(Self { set, table, segment, received, has_long_ids, seed })
    }
}

/// A copy of a segment's members, taken before a procedure changes them.
pub struct Before<'a> {
    side: DeltaTarget<'a>,
    _relation: Relation,
}

/// Copies the members, as the active snapshot sees them.
pub fn before_procedure<'a>(
    set: &'a RelationSet,
    table: &'a Table,
    (segment, seed): (Uuid, u64),
) -> Result<Before<'a>> {
    check_width(table, table.columns.len())?;
    let received = vec![true; table.columns.len()];
    // What is stored was not too long.
    let side = DeltaTarget { set, table, segment, received, has_long_ids: false, seed };
    let relation = Relation::new(BEFORE);
    progress::enter(Phase::ReadingMembers);
    relation.append(&side.members_sql(), &side.args())?;
    Figure::before().reach(relation.rows());
    Ok(Before { side, _relation: relation })
}

impl<'a> Before<'a> {
    /// Computes the delta between the copy and the members that the active snapshot sees now.
    /// Members without an id are an error.
    pub fn compare(self) -> Result<(Delta, DeltaTarget<'a>)> {
        let received = self
            .side
            .received_sql(&self.side.sql(&queries::refresh::delta::LIST_STORED_MEMBERS, &[]));
        let received = self.side.checked_sql(&received);
        let sql = self.side.delta_sql(&received, "select * from segmenter_before");
        let relation = Relation::new(DELTA);
        progress::enter(Phase::Comparing);
        let args = self.side.args();
        let (histogram, sums) =
            self.side.append_delta(&relation, (&sql, &args), &[UNCHANGED], Counts::Received)?;
        if histogram.of(INVALID) > 0 {
            return Err(Error::MembersWithoutId {
                table: self.side.table.name.clone(),
                count: histogram.of(INVALID),
            });
        }
        Ok((Delta::of(figures(&histogram), None, sums, relation), self.side))
    }
}

/// The only statement of a text, without a trailing semicolon or comment. Another number of
/// statements, or another kind, is an error.
pub fn parse_single_statement(sql: &str, kind: StatementKind) -> Result<&str> {
    let problem = |problem: String| {
        let hint = match kind {
            StatementKind::Call => "Give one CALL of the procedure.",
            _ => "Give one SELECT whose column \"id\" is the member's key.",
        };
        Err(Error::Query {
            code: PgSqlErrorCode::ERRCODE_SYNTAX_ERROR,
            problem,
            detail: None,
            hint: Some(hint.into()),
        })
    };
    let what = if kind == StatementKind::Call { "CALL" } else { "SELECT" };
    let parsed = in_subtransaction(OnSuccess::Commit, || Ok(statement::parse(sql)))
        .map_err(|error| error.in_statement(sql))?;
    match parsed.as_slice() {
        [] => problem("the SQL holds no statement".into()),
        [one] if one.kind == kind => Ok(one.text),
        [_] => problem(format!("the SQL is not a {what}")),
        more => problem(format!("the SQL holds {} statements, not one", more.len())),
    }
}

/// The relations, functions and segments that a query names. Runs with the rights of the segment's
/// owner, within an SPI connection.
pub fn named_by(set: &RelationSet, sql: &str) -> Result<Named> {
    let query = Prepared::analysed(parse_single_statement(sql, StatementKind::Select)?, &[])?;
    Ok(query.named(&set.readers()))
}

/// Checks that a query fits a table. Runs with the rights of the segment's owner, within an SPI
/// connection.
pub fn check(sql: &str, table: &Table) -> Result<()> {
    let query = parse_single_statement(sql, StatementKind::Select)?;
    check_analysed(&Prepared::of_user(query, &[])?, table)
}

/// The same for a query that was analysed.
pub fn check_analysed(query: &Prepared, table: &Table) -> Result<()> {
    check_query(query, table).map(drop)
}

/// Checks that a query fits a table. Returns for each column of the table whether the query returns
/// it, and whether its ids may be too long to be stored.
fn check_query(query: &Prepared, table: &Table) -> Result<(Vec<bool>, bool)> {
    use PgSqlErrorCode as Code;
    let problem = |code, problem: String, hint: Option<String>| {
        Err(Error::Query { code, problem, detail: None, hint })
    };
    if !query.is_plain_select() {
        return problem(
            Code::ERRCODE_FEATURE_NOT_SUPPORTED,
            "the query does more than read".into(),
            Some("Leave out INTO, FOR UPDATE and statements in WITH that change data.".into()),
        );
    }
    let mut received = vec![false; table.columns.len()];
    let (mut has_id, mut has_long_ids) = (false, false);
    for column in query.columns() {
        let name = &column.name;
        if name == "id" && !has_id {
            has_id = true;
            has_long_ids = !system_catalog::has_fixed_length(column.type_oid);
            continue;
        }
        let position = table.columns.iter().position(|target| target.name == *name);
        let Some(position) = position else {
            if name == "id" {
                return duplicate_column(name);
            }
            if SERVICE_COLUMNS.contains(&name.as_str()) {
                return problem(
                    Code::ERRCODE_INVALID_COLUMN_REFERENCE,
                    format!("the query gives the service column \"{name}\""),
                    Some(
                        "Segmenter fills it itself: leave it out, or give it another name.".into(),
                    ),
                );
            }
            let known: Vec<_> = table.columns.iter().map(Column::quoted).collect();
            return problem(
                Code::ERRCODE_UNDEFINED_COLUMN,
                format!(
                    "the query gives column \"{name}\", which table {} does not have",
                    table.name
                ),
                Some(format!(
                    "Besides \"id\" it may give {}; add the column to the table, or leave it out.",
                    known.join(", ")
                )),
            );
        };
        let target = &table.columns[position];
        if received[position] {
            return duplicate_column(name);
        }
        if target.is_generated || target.is_identity {
            return problem(
                Code::ERRCODE_GENERATED_ALWAYS,
                format!("the query gives column \"{name}\", which table {} generates", table.name),
                Some("Leave it out.".into()),
            );
        }
        if !system_catalog::is_assignable(column.type_oid, target.type_oid) {
            let (given, wanted) = (
                system_catalog::format_type(column.type_oid),
                system_catalog::format_type(target.type_oid),
            );
            return problem(
                Code::ERRCODE_DATATYPE_MISMATCH,
                format!(
                    "column \"{name}\" of the query is {given}, in table {} it is {wanted}",
                    table.name
                ),
                Some(format!("Cast it: {}::{wanted}.", target.quoted())),
            );
        }
        received[position] = true;
    }
    check_width(table, received.iter().filter(|received| **received).count())?;
    if !has_id {
        return problem(
            Code::ERRCODE_UNDEFINED_COLUMN,
            "the query gives no column \"id\"".into(),
            Some("Name the member's key so: select customer_id as id, ...".into()),
        );
    }
    Ok((received, has_long_ids))
}

/// Checks that the new values of `received` columns fit into one target list with the old values of
/// all columns.
fn check_width(table: &Table, received: usize) -> Result<()> {
    match received + table.columns.len() > 2 * MOST_COLUMNS + 1 {
        true => Err(table.too_wide()),
        false => Ok(()),
    }
}

fn duplicate_column<T>(name: &str) -> Result<T> {
    Err(Error::Query {
        code: PgSqlErrorCode::ERRCODE_DUPLICATE_COLUMN,
        problem: format!("the query gives column \"{name}\" twice"),
        detail: None,
        hint: Some("Give each column a name of its own.".into()),
    })
}

/// Raises an error, with examples, if a key was received twice. `matched_twice` says so for keys of
/// members; new keys are checked in the delta here.
fn check_duplicates(
    side: &DeltaTarget<'_>,
    matched_twice: bool,
    figures: DeltaStats,
    received: &str,
) -> Result<()> {
    let duplicate_new_key = || -> Result<bool> {
        let sql = &queries::refresh::delta::HAS_DUPLICATE_ADDED;
        Ok(figures.added > 1 && statement::read_one(sql.text(), &[])?.unwrap_or_default())
    };
    if matched_twice || duplicate_new_key()? {
        let examples = duplicates(side, received)?;
        if !examples.is_empty() {
            return Err(Error::DuplicateIds { examples });
        }
    }
    Ok(())
}

/// Examples of ids that are received more than once.
fn duplicates(side: &DeltaTarget<'_>, received: &str) -> Result<Vec<String>> {
    Ok(statement::read_one(
        &side.sql(&queries::refresh::delta::FIND_DUPLICATES, &[("received", received)]),
        &[],
    )?
    .unwrap_or_default())
}

fn figures(histogram: &ByteHistogram) -> DeltaStats {
    let (added, removed, changed) =
        (histogram.of(ADDED), histogram.of(REMOVED), histogram.of(CHANGED));
    let invalid = histogram.of(INVALID) + histogram.of(LONG);
    let unchanged = histogram.of(UNCHANGED);
    DeltaStats {
        received: unchanged + added + changed + invalid,
        invalid,
        added,
        removed,
        changed,
        before: unchanged + changed + removed,
        excluded: 0,
    }
}

/// An expression: a received value, cast to the column's type and modifier as storing would do it.
fn new_value(column: &Column) -> String {
    let cast = format!("(s.{})::{}", column.quoted(), system_catalog::type_name(column.type_oid));
    system_catalog::coerce_to_typmod(&cast, column.type_oid, column.modifier)
}

fn old_value(column: &Column) -> String {
    if column.is_plain {
        format!("t.{}", column.quoted())
    } else {
        format!("(t.{})::{}", column.quoted(), system_catalog::type_name(column.type_oid))
    }
}

/// Whether a column is an array whose elements are coerced to a type modifier when they are stored.
fn is_fitted_array(column: &Column) -> bool {
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
