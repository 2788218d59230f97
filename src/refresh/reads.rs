//! What a segment reads: it decides the order of refreshes, and which segments it waits for.

use std::collections::{BTreeSet, HashSet};

use pgrx::pg_sys::Oid;
use pgrx::prelude::*;

use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::catalog::state::ReadsRecord;
use crate::config::{Key, Query, Refresher, Segment, SourceCheck};
use crate::error::{Error, Report, Result};
use crate::pg::exec::dependency::Named;
use crate::pg::exec::role;
use crate::pg::exec::segment_calls::{self, NamedSegments, Readers};
use crate::pg::exec::statement::Prepared;
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};
use crate::pg::system_catalog;
use crate::refresh::{delta, incremental, source_check};

/// What to do where it is not known which segments a segment reads.
pub const NAME_SOURCES: &str = "In a run it comes after all others. Name the segments in sources: [{\"segment\": \"...\"}], or as constants.";

/// The number of objects that are listed at most: a chain of views is not longer.
const MAX_OBJECTS: usize = 10_000;

/// A relation or a function that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Object {
    Relation(pg_sys::Oid),
    Function(pg_sys::Oid),
}

impl Object {
    fn of(oid: pg_sys::Oid, is_function: bool) -> Self {
        if is_function { Self::Function(oid) } else { Self::Relation(oid) }
    }

    pub fn oid(self) -> pg_sys::Oid {
        match self {
            Self::Relation(oid) | Self::Function(oid) => oid,
        }
    }

    pub fn is_function(self) -> bool {
        matches!(self, Self::Function(_))
    }
}

/// What a segment reads.
#[derive(Debug, Default)]
pub struct Reads {
    /// Each object, and the view or the function that names it; none: the segment itself does.
    pub edges: HashSet<(Object, Option<Object>)>,
    /// The tables of segments that only its sources name: they are not read, but come before it.
    pub named: Vec<pg_sys::Oid>,
    /// The tables that the queries of its incremental refresher read; none: it has none, or they
    /// cannot be analysed.
    pub tables: Option<BTreeSet<u32>>,
    /// The tables of segments that are read under the segments' names, each with the view or the function
    /// that has the name.
    pub segments: HashSet<(pg_sys::Oid, Option<Object>, String)>,
    /// Why it is not known which segments it reads; none: it is known.
    pub open: Option<Open>,
}

/// Why it is not known which segments a segment reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// It reads the mart.
    Mart,
    /// It names segments by expressions that only their execution tells.
    Names,
}

impl Reads {
    /// The relations that it reads, also through views and SQL functions.
    pub fn relations(&self) -> Vec<pg_sys::Oid> {
        let relations = self.edges.iter().filter(|(object, _)| !object.is_function());
        let relations = relations.map(|(object, _)| object.oid());
        let named = self.segments.iter().map(|(table, ..)| *table);
        let relations: HashSet<_> = relations.chain(named).collect();
        relations.into_iter().collect()
    }

    /// These relations, and the tables of the segments that its sources name.
    pub fn ordering(&self) -> Vec<pg_sys::Oid> {
        let relations: HashSet<_> = self.relations().into_iter().collect();
        relations.into_iter().chain(self.named.iter().copied()).collect()
    }

    /// That it is not known which segments the segment reads; none: it is known, or its sources name some.
    pub fn warning(&self, segment: &Segment) -> Option<Report> {
        let names_sources =
            segment.sources.iter().any(|source| matches!(source, SourceCheck::Segment(_)));
        let what = match self.open.filter(|_| !names_sources)? {
            Open::Mart => "the segments that it reads in the mart are not known",
            Open::Names => "the segments that it reads are not known: their names are no constants",
        };
        let problem = format!("{what}, so it waits for none of them");
        Some(Report::new(PgSqlErrorCode::ERRCODE_WARNING, problem, Some(NAME_SOURCES.into())))
    }

    /// What is recorded of it.
    pub fn record(&self) -> ReadsRecord {
        let plain = |object: Object| (object.oid(), object.is_function());
        let edges = self.edges.iter().map(|(object, via)| (plain(*object), via.map(plain)));
        let named = self.named.iter().map(|table| ((*table, false), None));
        let segments = self.segments.iter();
        let segments = segments.map(|(table, via, name)| (*table, via.map(plain), name.clone()));
        ReadsRecord {
            relations: self.ordering(),
            lineage: edges.chain(named).collect(),
            segments: segments.collect(),
        }
    }
}

/// What a segment's queries read and its sources name. What cannot be analysed counts as reading
/// nothing. This analyses the queries with the rights of the segment's owner, which can call
/// functions of that role.
pub fn find(set: &RelationSet, segment: &Segment) -> Reads {
    let mut reads = Reads::default();
    if !role::exists(segment.owner) {
        return reads;
    }
    let as_owner = |ask: &dyn Fn() -> Result<(Named, Option<BTreeSet<u32>>)>| {
        let asked = in_subtransaction(OnSuccess::Rollback, || {
            set.as_segment_owner(segment.owner, || Spi::connect(|_| ask()))
        });
        asked.unwrap_or_default()
    };
    let (mut named, tables) = match &segment.refresher {
        Some(Refresher::Query(Query { sql, .. })) => {
            as_owner(&|| Ok((delta::named_by(set, sql)?, None)))
        }
        Some(Refresher::Incremental(incremental)) => as_owner(&|| {
            let (named, tables) = incremental::named_by(set, incremental)?;
            Ok((named, Some(tables)))
        }),
        // What a procedure reads is not known.
        Some(Refresher::Procedure(_) | Refresher::Family(_)) | None => Default::default(),
    };
    reads.tables = tables;
    if !segment.sources.is_empty() {
        named.extend(as_owner(&|| Ok((source_check::named_by(&segment.sources)?, None))).0);
    }
    let expanded = in_subtransaction(OnSuccess::Rollback, || {
        let readers = set.readers();
        set.as_segment_owner(segment.owner, || Spi::connect(|_| expand(named, readers)))
    });
    let (edges, segments) = expanded.unwrap_or_default();
    reads.edges = edges;
    reads.add_segments(set, segments);
    for source in &segment.sources {
        let SourceCheck::Segment(source) = source else { continue };
        if let Ok(Some(Segment { table: named, .. })) =
            Segment::find_bare(set, Key::Name(&source.segment))
        {
            let is_read = reads.edges.contains(&(Object::Relation(named), None))
                || reads.segments.iter().any(|(.., name)| *name == source.segment);
            if !is_read && !reads.named.contains(&named) {
                reads.named.push(named);
            }
        }
    }
    reads
}

/// The segments that were found by their names, each with the view or the function that names it.
#[derive(Default)]
struct Segments {
    names: HashSet<(String, Option<Object>)>,
    is_open: bool,
}

impl Segments {
    /// Adds what a statement, or the body of the function `via`, names.
    fn add(&mut self, named: NamedSegments, via: Option<Object>) {
        let NamedSegments { names, is_open } = named;
        let of_view = |view: Option<Oid>| view.map(Object::Relation).or(via);
        self.names.extend(names.into_iter().map(|(name, view)| (name, of_view(view))));
        self.is_open |= is_open;
    }
}

impl Reads {
    /// Adds the tables of segments that are named. Names that no segment has are an error of the query.
    fn add_segments(&mut self, set: &RelationSet, segments: Segments) {
        let Segments { names, is_open } = segments;
        for (name, via) in names {
            if let Ok(Some(found)) = Segment::find_bare(set, Key::Name(&name)) {
                self.segments.insert((found.table, via, name));
            }
        }
        let (mart, current) = (Object::Relation(set.mart()), set.readers().current);
        let through = Some(Object::Relation(current));
        if self.edges.iter().any(|(object, via)| *object == mart && *via != through) {
            self.open = Some(Open::Mart);
        } else if is_open {
            self.open = Some(Open::Names);
            // It comes after all others.
            self.edges.insert((mart, None));
        }
    }
}

type Edges = HashSet<(Object, Option<Object>)>;

/// Follows what is named through views and SQL functions. Runs with the rights of the segment's
/// owner, within an SPI connection.
fn expand(mut named: Named, readers: Readers) -> Result<(Edges, Segments)> {
    let mut edges = HashSet::new();
    let mut seen = HashSet::new();
    let mut segments = Segments::default();
    segments.add(std::mem::take(&mut named.segments), None);
    let mut found = own(named, None)?;
    while !found.is_empty() && seen.len() < MAX_OBJECTS {
        pgrx::check_for_interrupts!();
        let mut new = HashSet::new();
        for (object, via) in found {
            edges.insert((object, via));
            if seen.insert(object) {
                new.insert(object);
            }
        }
        found = parts_of(&new, &readers, &mut segments)?;
    }
    Ok((edges, segments))
}

/// What the new objects name. The segments among it are added to `segments`: of views those that the
/// statement has shown already.
fn parts_of(
    objects: &HashSet<Object>,
    readers: &Readers,
    segments: &mut Segments,
) -> Result<Vec<(Object, Option<Object>)>> {
    let oids = |functions: bool| -> Vec<pg_sys::Oid> {
        let those = objects.iter().filter(|object| object.is_function() == functions);
        those.map(|object| object.oid()).collect()
    };
    let (mut views, functions) = (oids(false), oids(true));
    views.retain(|relation| system_catalog::is_view(*relation));
    let mut found = Vec::new();
    if views.is_empty() && functions.is_empty() {
        return Ok(found);
    }
    let mut called: Vec<(pg_sys::Oid, Option<Object>)> = Vec::new();
    Spi::connect(|client| {
        let sql = queries::refresh::reads::LIST_PARTS.kept();
        for row in client.select(sql, None, &[views.into(), functions.clone().into()])? {
            let is =
                |column: &str| Ok::<_, Error>(row.get_by_name::<bool, _>(column)? == Some(true));
            let oid = |column: &'static str| {
                row.get_by_name::<pg_sys::Oid, _>(column)?.ok_or(Error::MissingValue(column))
            };
            let via = Some(Object::of(oid("via")?, is("via_is_function")?));
            match is("is_function")? {
                true => called.push((oid("object")?, via)),
                false => found.push((Object::Relation(oid("object")?), via)),
            }
        }
        Ok::<_, Error>(())
    })?;
    let users = users_functions(called.iter().map(|(function, _)| *function).collect())?;
    let is_users = |function: &pg_sys::Oid| users.iter().any(|(users, _)| users == function);
    let called = called.into_iter().filter(|(function, _)| is_users(function));
    found.extend(called.map(|(function, via)| (Object::Function(function), via)));
    for (function, body) in users_functions(functions)? {
        let via = Some(Object::Function(function));
        // A body that cannot be analysed without a call counts as reading nothing.
        let named = in_subtransaction(OnSuccess::Rollback, || match &body {
            Some(body) => Ok(Prepared::of_function(function, body)?.named(readers)),
            // What else it names is known from the catalogue.
            None => {
                let segments = segment_calls::of_body(function, readers);
                Ok(Named { segments, ..Named::default() })
            }
        });
        let mut named = named.unwrap_or_default();
        segments.add(std::mem::take(&mut named.segments), via);
        found.extend(own(named, via)?);
    }
    Ok(found)
}

/// What a statement names itself, without functions of the server and of extensions.
fn own(named: Named, via: Option<Object>) -> Result<Vec<(Object, Option<Object>)>> {
    let Named { relations, functions, .. } = named;
    let functions = users_functions(functions.into_iter().collect())?;
    let functions = functions.into_iter().map(|(function, _)| Object::Function(function));
    let objects = relations.into_iter().map(Object::Relation).chain(functions);
    Ok(objects.map(|object| (object, via)).collect())
}

/// Those functions that users made, with the bodies that are kept as text.
fn users_functions(mut functions: Vec<pg_sys::Oid>) -> Result<Vec<(pg_sys::Oid, Option<String>)>> {
    functions.retain(|function| system_catalog::is_users(*function));
    if functions.is_empty() {
        return Ok(Vec::new());
    }
    Spi::connect(|client| {
        let sql = queries::refresh::reads::LIST_FUNCTIONS.kept();
        let rows = client.select(sql, None, &[functions.into()])?;
        rows.map(|row| {
            let function = row.get_by_name::<pg_sys::Oid, _>("function")?;
            Ok((function.ok_or(Error::MissingValue("function"))?, row.get_by_name("body")?))
        })
        .collect()
    })
}
