//! Keeps the rows of a query in several relations, by the names that a column of text has.

use std::collections::HashMap;
use std::ffi::CStr;
use std::mem::take;

use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;

use crate::error::Result;
use crate::pg::bgw::progress::Figure;
use crate::pg::exec::receiver::{Receive, Received, Receiver, Row, with_bytes};
use crate::pg::exec::statement::Prepared;
use crate::pg::exec::tuplestore::{Place, Relation};

/// The memory of a relation, in kB, that is not on disk, at least: a tuplestore needs some of it for itself.
const LEAST_MEMORY: i32 = 64;

/// The length of all names together that were not expected and are known at most, in bytes.
const MOST_BYTES: usize = 4 << 20;

/// The rows of a query by the names that a column has. With many names a relation has the rows of several that
/// follow each other, and is divided when those of one of them are taken: so the memory of all is limited.
pub struct Parts {
    place: Place,
    relation: &'static CStr,
    /// In kB, of all relations.
    memory: i32,
    /// The columns of all parts; it has no rows.
    columns: Relation,
    /// The number of the column with the names.
    column: usize,
    /// The number of the bundle that has the rows of a name.
    places: HashMap<Box<[u8]>, usize>,
    bundles: Vec<Bundle>,
    /// Parts of bundles that were divided.
    divided: HashMap<Box<[u8]>, Relation>,
    others: Others,
    rows: u64,
}

/// Names, and a relation with their rows; none: it was taken or divided.
struct Bundle {
    names: Vec<Box<[u8]>>,
    rows: Option<Relation>,
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
    /// None: they are only counted.
    kept: Option<Relation>,
    /// The number of names that are known at most.
    most: usize,
    /// The length of those that are known.
    bytes: usize,
    /// The number of rows of each.
    names: HashMap<Box<[u8]>, u64>,
    /// The number of rows without a name, and of all rows.
    without: u64,
    rows: u64,
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
    /// Parts for these names, which are called `relation` where statements read them. They are to be taken in
    /// this order, more or less. At most `most` other names are known.
    pub fn new<'a>(
        place: Place,
        relation: &'static CStr,
        names: impl ExactSizeIterator<Item = &'a str>,
        (what, most): (OtherNames, usize),
    ) -> Self {
        // SAFETY: a variable of this process's only thread.
        let all = unsafe { pg_sys::maintenance_work_mem };
        let (memory, kept) = match what {
            OtherNames::Count => (all, None),
            OtherNames::Keep => {
                let half = (all / 2).max(LEAST_MEMORY);
                (half, Some(Relation::at(place, relation, half)))
            }
        };
        let others = Others { kept, most, bytes: 0, names: HashMap::new(), without: 0, rows: 0 };
        let mut parts = Self {
            place,
            relation,
            memory,
            columns: Relation::at(place, relation, LEAST_MEMORY),
            column: 0,
            places: HashMap::new(),
            bundles: Vec::new(),
            divided: HashMap::new(),
            others,
            rows: 0,
        };
        parts.make_bundles(names.map(|name| name.as_bytes().into()).collect());
        parts
    }

    /// Makes bundles for names.
    fn make_bundles(&mut self, names: Vec<Box<[u8]>>) {
        let most = usize::try_from(self.memory / LEAST_MEMORY).unwrap_or(1).max(1);
        let (bundles, memory) = match names.len() {
            0 => return,
            all if all <= most => (all, self.memory / i32::try_from(all).unwrap_or(i32::MAX)),
            // As much is left for those that one is divided into; if they were fewer than the root, these
            // would be more.
            all => ((most / 2).max(all.isqrt()), LEAST_MEMORY),
        };
        for names in names.chunks(names.len().div_ceil(bundles)) {
            let place = self.bundles.len();
            self.places.extend(names.iter().map(|name| (name.clone(), place)));
            let rows = Relation::at(self.place, self.relation, memory);
            self.bundles.push(Bundle { names: names.to_vec(), rows: Some(rows) });
        }
    }

    /// Runs an analysed query with the active snapshot, and keeps its rows by its column with this number, from 0,
    /// which is text.
    pub fn fill(
        &mut self,
        (query, args): (&Prepared, &[DatumWithOid<'_>]),
        column: usize,
    ) -> Result<()> {
        self.columns.take_columns_from(query);
        self.column = column;
        let received = Figure::received();
        let mut dividing = Receiver::new(Dividing {
            column,
            store: |name: Option<&[u8]>| {
                self.rows += 1;
                received.reach(self.rows);
                let place = name.and_then(|name| self.places.get(name));
                match place.map(|place| &self.bundles[*place]) {
                    Some(bundle) => bundle.rows.as_ref().map(Relation::store),
                    None => self.others.receive(name),
                }
            },
        });
        query.execute(args, dividing.destination())
    }

    /// The number of rows that the query gave.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Has these names expected now: the rows of those among the others are theirs. The rows of other names are
    /// kept no longer.
    pub fn adopt<'a>(&mut self, names: impl Iterator<Item = &'a str>) -> Result<()> {
        let Some(kept) = self.others.kept.take() else { return Ok(()) };
        let names = names.map(str::as_bytes);
        let new = names.filter(|name| {
            self.others.names.contains_key(*name) && !self.places.contains_key(*name)
        });
        let new: Vec<Box<[u8]>> = new.map(Box::from).collect();
        if new.is_empty() {
            return Ok(());
        }
        self.make_bundles(new);
        self.divide(kept, |name| {
            let bundle = &self.bundles[*self.places.get(name)?];
            bundle.rows.as_ref().map(Relation::store)
        })
    }

    /// The relation with the rows of a name: they are kept no longer than it is.
    pub fn take(&mut self, name: &str) -> Result<Relation> {
        let name = name.as_bytes();
        let bundle = self.places.get(name).map(|place| &mut self.bundles[*place]);
        let rows = bundle.and_then(|bundle| Some((bundle.rows.take()?, take(&mut bundle.names))));
        match rows {
            Some((rows, names)) if names.len() == 1 => {
                rows.take_columns_of(&self.columns);
                return Ok(rows);
            }
            Some((rows, names)) if rows.rows() > 0 => {
                let parts: HashMap<Box<[u8]>, Relation> =
                    names.into_iter().map(|name| (name, self.empty())).collect();
                self.divide(rows, |name| parts.get(name).map(Relation::store))?;
                self.divided.extend(parts);
            }
            _ => {}
        }
        Ok(self.divided.remove(name).unwrap_or_else(|| self.empty()))
    }

    /// Divides the rows of a relation: `store` says where those of a name are put.
    fn divide(
        &self,
        rows: Relation,
        store: impl Fn(&[u8]) -> Option<*mut pg_sys::Tuplestorestate>,
    ) -> Result<()> {
        rows.take_columns_of(&self.columns);
        Spi::connect(|_| {
            rows.publish();
            let sql = format!("select * from {}", self.relation.to_string_lossy());
            let query = Prepared::new(&sql, &[])?;
            let column = self.column;
            let mut dividing = Receiver::new(Dividing {
                column,
                store: |name: Option<&[u8]>| name.and_then(&store),
            });
            let divided = query.execute(&[], dividing.destination());
            // The name is that of this connection.
            drop(rows);
            divided
        })
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
        let mut found: Vec<(Option<String>, u64)> = names
            .iter()
            .map(|(name, rows)| (Some(String::from_utf8_lossy(name).into_owned()), *rows))
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
    /// Receives a row of another name, or without a name. Returns where it is put.
    fn receive(&mut self, name: Option<&[u8]>) -> Option<*mut pg_sys::Tuplestorestate> {
        self.rows += 1;
        let Some(name) = name else {
            self.without += 1;
            return None;
        };
        if let Some(rows) = self.names.get_mut(name) {
            *rows += 1;
        } else {
            if self.names.len() == self.most || self.bytes + name.len() > MOST_BYTES {
                return None;
            }
            self.bytes += name.len();
            self.names.insert(name.into(), 1);
        }
        self.kept.as_ref().map(Relation::store)
    }
}

/// Divides the rows of a query: `store` says where those of a name, or those without one, are put.
struct Dividing<F> {
    column: usize,
    store: F,
}

impl<F: FnMut(Option<&[u8]>) -> Option<*mut pg_sys::Tuplestorestate>> Receive for Dividing<F> {
    unsafe fn receive(&mut self, row: Row<'_>) -> Received {
        let store = match row.nulls[self.column] {
            true => (self.store)(None),
            // SAFETY: the column is text, as the caller of `fill` promises.
            false => unsafe {
                with_bytes(row.values[self.column], |name| (self.store)(Some(name)))
            },
        };
        store.map_or(Received::Done, Received::Keep)
    }
}
