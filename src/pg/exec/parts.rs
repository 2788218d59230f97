//! Keeps the rows of a query in several relations: one for each name that a column of text has.

use std::collections::HashMap;
use std::ffi::CStr;

use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;

use crate::error::Result;
use crate::pg::exec::receiver::{Receive, Received, Receiver, Row, with_bytes};
use crate::pg::exec::statement::Prepared;
use crate::pg::exec::tuplestore::{Place, Relation};

/// The memory of a part, in kB, that is not on disk, at least: a tuplestore needs some of it for itself.
const LEAST_MEMORY: i32 = 64;

/// The rows of a query by the names that a column has.
pub struct Parts {
    place: Place,
    relation: &'static CStr,
    /// The columns of all parts; it has no rows.
    columns: Relation,
    parts: HashMap<Box<[u8]>, Relation>,
    others: Others,
    rows: u64,
}

/// What to do with rows of other names than those that were expected.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum OtherNames {
    /// They are only counted.
    Count,
    /// They are kept as well.
    Keep,
}

/// Rows of other names.
struct Others {
    what: OtherNames,
    /// The number of names that are known at most.
    most: usize,
    names: HashMap<Box<[u8]>, Other>,
    /// The number of rows without a name, and of all rows.
    without: u64,
    rows: u64,
}

/// Rows of one other name.
struct Other {
    rows: u64,
    /// None: they are only counted.
    part: Option<Relation>,
}

/// Rows of other names than those that were expected.
#[derive(Default)]
pub struct Unexpected {
    /// The names, with the number of their rows: the most frequent first, null for rows without a name.
    pub names: Vec<(Option<String>, u64)>,
    /// Whether there are more names than these.
    pub is_more: bool,
    /// The number of all such rows.
    pub rows: u64,
}

impl Parts {
    /// Parts for these names, which are called `relation` where statements read them. At most `most` other names
    /// are known.
    pub fn new<'a>(
        place: Place,
        relation: &'static CStr,
        names: impl ExactSizeIterator<Item = &'a str>,
        (what, most): (OtherNames, usize),
    ) -> Self {
        // SAFETY: a variable of this process's only thread.
        let memory = unsafe { pg_sys::maintenance_work_mem };
        let memory =
            (memory / i32::try_from(names.len().max(1)).unwrap_or(i32::MAX)).max(LEAST_MEMORY);
        let part = |name: &str| (name.as_bytes().into(), Relation::at(place, relation, memory));
        let others = Others { what, most, names: HashMap::new(), without: 0, rows: 0 };
        let columns = Relation::at(place, relation, LEAST_MEMORY);
        Self { place, relation, columns, parts: names.map(part).collect(), others, rows: 0 }
    }

    /// Runs an analysed query with the active snapshot, and keeps its rows by its column with this number, from 0,
    /// which is text.
    pub fn fill(
        &mut self,
        (query, args): (&Prepared, &[DatumWithOid<'_>]),
        column: usize,
    ) -> Result<()> {
        self.columns.take_columns_from(query);
        let mut dividing = Receiver::new(Dividing { parts: self, column });
        query.execute(args, dividing.destination())
    }

    /// The number of rows that the query gave.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The relation with the rows of a name: they are kept no longer than it is.
    pub fn take(&mut self, name: &str) -> Relation {
        let name = name.as_bytes();
        let other = || self.others.names.get_mut(name).and_then(|other| other.part.take());
        let part = self.parts.remove(name).or_else(other);
        let part = part.unwrap_or_else(|| self.empty());
        part.take_columns_of(&self.columns);
        part
    }

    /// A relation without rows.
    pub fn empty(&self) -> Relation {
        let part = Relation::at(self.place, self.relation, LEAST_MEMORY);
        part.take_columns_of(&self.columns);
        part
    }

    /// The rows of names that were not expected.
    pub fn unexpected(&self) -> Unexpected {
        let Others { names, without, rows, .. } = &self.others;
        let known = names.iter();
        let mut found: Vec<(Option<String>, u64)> = known
            .map(|(name, other)| (Some(String::from_utf8_lossy(name).into_owned()), other.rows))
            .collect();
        if *without > 0 {
            found.push((None, *without));
        }
        found.sort_unstable_by(|(one, few), (other, many)| {
            many.cmp(few).then_with(|| one.cmp(other))
        });
        let known: u64 = found.iter().map(|(_, rows)| rows).sum();
        Unexpected { names: found, is_more: known < *rows, rows: *rows }
    }
}

impl Others {
    /// Receives a row of another name.
    fn receive(&mut self, name: &[u8], part: impl FnOnce() -> Relation) -> Received {
        self.rows += 1;
        if !self.names.contains_key(name) {
            if self.names.len() == self.most {
                return Received::Done;
            }
            let part = (self.what == OtherNames::Keep).then(part);
            self.names.insert(name.into(), Other { rows: 0, part });
        }
        let Some(other) = self.names.get_mut(name) else { return Received::Done };
        other.rows += 1;
        other.part.as_ref().map_or(Received::Done, |part| Received::Keep(part.store()))
    }
}

/// Divides the rows of a query into parts.
struct Dividing<'a> {
    parts: &'a mut Parts,
    column: usize,
}

impl Receive for Dividing<'_> {
    unsafe fn receive(&mut self, row: Row<'_>) -> Received {
        let Parts { place, relation, parts, others, rows, .. } = &mut *self.parts;
        *rows += 1;
        if row.nulls[self.column] {
            (others.without, others.rows) = (others.without + 1, others.rows + 1);
            return Received::Done;
        }
        // SAFETY: the column is text, as the caller of `fill` promises.
        unsafe {
            with_bytes(row.values[self.column], |name| match parts.get(name) {
                Some(part) => Received::Keep(part.store()),
                None => others.receive(name, || Relation::at(*place, relation, LEAST_MEMORY)),
            })
        }
    }
}
