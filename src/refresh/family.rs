//! The refresh of a family: its query is run once, and its rows are those of its segments, which are
//! refreshed one after another, each as if it were alone.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::CStr;
use std::rc::Rc;

use pgrx::datum::Uuid;
use pgrx::prelude::*;
use pgrx::spi::quote_identifier;

use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::config::exclusion;
use crate::config::segment_table::Table;
use crate::config::{Incremental, Key, NewMember, Refresher, Segment};
use crate::error::{Error, Result, counted, emit_warning};
use crate::pg::clock::{self, Instant};
use crate::pg::exec::role;
use crate::pg::exec::snapshot::Active;
use crate::pg::exec::statement::{Prepared, StatementKind};
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};
use crate::pg::exec::tuplestore::Relation;
use crate::pg::format::json::JsonbText;
use crate::refresh::delta::{self, parse_single_statement};
use crate::refresh::incremental::{self, Given, Ids, Plan, Progress, WatermarkCandidate};
use crate::refresh::lists::Turns;
use crate::refresh::{RefreshRequest, RefreshResult, refresh};
use segmenter_core::dependency_order::{self, Placed};

const ROWS: &CStr = c"segmenter_family_rows";
const SORTED: &CStr = c"segmenter_family_sorted";
const RECEIVED: &CStr = c"segmenter_received";
const SLICE: &CStr = c"segmenter_family_slice";

/// A row that is for no segment of the family.
const UNKNOWN: u8 = b'u';

/// The number of names that a remark gives.
const NAMED: usize = 5;

/// The rows of a family, and the segments that they are for. It is made before the refresh of the family
/// begins, and outlives its subtransaction.
pub struct Rows {
    kept: Relation,
    /// The same rows, sorted again for segments that were created meanwhile.
    sorted: Relation,
    is_sorted_again: Cell<bool>,
    /// The family's own rows: none.
    none: Relation,
    /// The ids that have changed, of an incremental refresh.
    changed: (Relation, Relation),
    found: RefCell<Found>,
}

/// What the refresh of a family has found.
#[derive(Default)]
struct Found {
    members: Vec<Member>,
    /// The query that reads the rows of one of them from the relation that has them.
    sql: String,
    /// What an incremental refresh has done, and whether ids of their type are equal exactly if their texts
    /// are; none: another refresher.
    pass: Option<(Plan<'static>, bool)>,
    at: Option<Instant>,
}

/// A segment of a family, at its place in the order.
struct Member {
    id: Uuid,
    name: String,
    /// The names of the segments in its cycle; none: it is in no cycle.
    cycle: Option<Vec<String>>,
}

/// The rows of one segment of a family.
#[derive(Clone, Copy)]
pub struct Slice<'a> {
    relation: &'a Relation,
    /// The query that reads them.
    sql: &'a str,
    /// An incremental refresh: its plan, the ids that have changed, and whether those of their type are equal
    /// exactly if their texts are.
    pass: Option<(&'a Plan<'a>, Ids<'a>, bool)>,
    /// When the family has read them.
    at: Instant,
}

impl<'a> Slice<'a> {
    /// The query for the rows, which become readable in the current SPI connection.
    pub fn published(&self) -> String {
        self.relation.publish();
        self.sql.to_owned()
    }

    /// Whether a segment that was refreshed at this time may go by the rows: they are no older.
    pub fn is_newer_than(&self, refreshed: Option<Instant>) -> bool {
        refreshed.is_none_or(|refreshed| refreshed <= self.at)
    }

    /// The watermark of a segment that must read by itself: that of the family, which is no later.
    pub fn watermark(&self) -> WatermarkCandidate {
        self.pass.map_or(WatermarkCandidate::none(), |(plan, ..)| plan.beginning())
    }

    /// The progress of a segment that had to read by itself: from now on it is as far as its family.
    pub fn caught_up(&self, made: Progress) -> Progress {
        match self.pass {
            Some((plan, ..)) => plan.caught_up(made),
            None => made,
        }
    }

    /// The plan of an incremental refresh of the segment, by that of its family; none: the segment must read by
    /// itself.
    pub fn plan(
        &self,
        set: &RelationSet,
        target: (&Segment, &Table),
        incremental: &Incremental,
        changes: (bool, i64),
    ) -> Result<Option<Plan<'a>>> {
        let Some((plan, ids, is_plain)) = self.pass else { return Ok(None) };
        let given = Given { sql: self.sql.to_owned(), ids, is_plain };
        incremental::plan_of_member(set, target, incremental, (plan, given), changes)
    }
}

impl Rows {
    pub fn new() -> Self {
        Self {
            kept: Relation::new(ROWS),
            sorted: Relation::new(SORTED),
            is_sorted_again: Cell::new(false),
            none: Relation::new(SLICE),
            changed: incremental::new_ids(),
            found: RefCell::default(),
        }
    }

    /// Runs the family's query, and keeps its rows. Segments are created for names that are new, if the
    /// family says what they are made of. Returns remarks.
    pub fn read(
        &self,
        set: &RelationSet,
        (segment, table): (&Segment, &Table),
        refresher: &Refresher,
        (plan, at, dry_run): (Option<Plan<'static>>, Instant, bool),
    ) -> Result<(Vec<String>, Option<Progress>)> {
        let (sql, create) = (refresher.members_sql().unwrap_or_default(), refresher.create());
        self.kept.clear();
        self.changed.0.clear();
        self.changed.1.clear();
        self.sorted.clear();
        self.is_sorted_again.set(false);
        let mut members = list_members(set, segment)?;
        let (columns, mut unknown, pass) = set.as_segment_owner(segment.owner, || {
            let read = || self.run(set, table, sql, &members);
            let ((columns, has_unknown), pass) = match plan {
                Some(mut plan) => {
                    let ids: Vec<Uuid> = members.iter().map(|member| member.id).collect();
                    let (read, is_plain) =
                        plan.read_family(set, (table, &ids), self.ids(), read)?;
                    (read, Some((plan, is_plain)))
                }
                None => (role::read_only(read)?, None),
            };
            let unknown = if has_unknown { self.list_unknown(set)? } else { Vec::new() };
            Ok::<_, Error>((columns, unknown, pass))
        })?;
        let rows = self.kept.rows();
        let mut remarks = Vec::new();
        let created = match create {
            Some(create) if !unknown.is_empty() => {
                let new = list_new(set, &unknown)?;
                if dry_run && !new.is_empty() {
                    remarks
                        .push(format!("{} would be created", counted(new.len() as i64, "segment")));
                }
                let new = if dry_run { Vec::new() } else { new };
                create_members(set, segment, create, new)?
            }
            _ => Vec::new(),
        };
        if !created.is_empty() {
            remarks.push(format!("{} created", counted(created.len() as i64, "segment")));
            unknown.retain(|(name, _)| name.as_ref().is_none_or(|name| !created.contains(name)));
            let _snapshot = Active::fresh();
            members = list_members(set, segment)?;
            let received = format!("select {} from {}", list(&columns), ROWS.to_string_lossy());
            set.as_segment_owner(segment.owner, || keep(set, &self.sorted, &received, &members))?;
            self.is_sorted_again.set(true);
        }
        let segments = counted(members.len() as i64, "segment");
        remarks.insert(0, format!("{} for {segments}", counted(rows as i64, "row")));
        remarks.extend(remark_of(&unknown));
        let sql = format!("select {} from {}", list(&columns), SLICE.to_string_lossy());
        self.none.take_columns_of(&self.kept);
        let progress = pass.as_ref().map(|(plan, _)| plan.progress_of_family(&self.changed.0));
        self.found.replace(Found { members, sql, pass, at: Some(at) });
        Ok((remarks, progress))
    }

    fn ids(&self) -> Ids<'_> {
        Ids { changed: &self.changed.0, ids: &self.changed.1 }
    }

    /// The query for the rows of the family itself, which has none. They become readable in the current SPI
    /// connection.
    pub fn own_sql(&self) -> String {
        self.none.publish();
        self.found.borrow().sql.clone()
    }

    /// Runs the family's query, and keeps its rows. Returns its columns, and whether there are rows of no
    /// segment of the family.
    fn run(
        &self,
        set: &RelationSet,
        table: &Table,
        sql: &str,
        members: &[Member],
    ) -> Result<(Vec<String>, bool)> {
        let query = parse_single_statement(sql, StatementKind::Select)?;
        let analysed = Rc::new(Prepared::of_user(query, &[])?);
        delta::check_analysed(&analysed, table)?;
        let received = delta::localized(RECEIVED, query.to_owned(), &[])?;
        let has_unknown = keep(set, &self.kept, &received.sql, members)?;
        let columns = analysed.columns().into_iter().map(|column| column.name).collect();
        analysed.check_seen(query, &[])?;
        Ok((columns, has_unknown))
    }

    /// The names of rows that no segment of the family has, with their number.
    fn list_unknown(&self, set: &RelationSet) -> Result<Vec<(Option<String>, i64)>> {
        Spi::connect(|client| {
            self.kept.publish();
            let sql = set.sql(&queries::refresh::family::LIST_UNKNOWN, &[]);
            let rows = client.select(&sql, None, &[])?;
            rows.map(|row| Ok((row.get_by_name("name")?, row.get_by_name("number")?.unwrap_or(0))))
                .collect()
        })
    }
}

/// Keeps the rows of a query, sorted by segment. Returns whether there are some of no segment of the family.
fn keep(
    set: &RelationSet,
    relation: &Relation,
    received: &str,
    members: &[Member],
) -> Result<bool> {
    let sql = set.sql(&queries::refresh::family::LIST_ROWS, &[("received", received)]);
    let names: Vec<String> = members.iter().map(|member| member.name.clone()).collect();
    let kinds = relation.append_counted(&sql, &[names.into()], &[])?;
    Ok(kinds.of(UNKNOWN) > 0)
}

/// Columns as a list.
fn list(columns: &[String]) -> String {
    columns.iter().map(quote_identifier).collect::<Vec<_>>().join(", ")
}

/// That rows are for no segment of the family.
fn remark_of(unknown: &[(Option<String>, i64)]) -> Option<String> {
    let rows: i64 = unknown.iter().map(|(_, rows)| rows).sum();
    if rows == 0 {
        return None;
    }
    let name = |(name, rows): &(Option<String>, i64)| match name {
        Some(name) => format!("\"{name}\" ({rows})"),
        None => format!("null ({rows})"),
    };
    let mut names: Vec<String> = unknown.iter().take(NAMED).map(name).collect();
    if unknown.len() > NAMED {
        names.push(format!("and {} more", unknown.len() - NAMED));
    }
    let verb = if rows == 1 { "names" } else { "name" };
    Some(format!("{} {verb} no segment of the family: {}", counted(rows, "row"), names.join(", ")))
}

/// The segments of a family, each after those whose members it leaves out.
fn list_members(set: &RelationSet, family: &Segment) -> Result<Vec<Member>> {
    let args = [family.name.as_str().into(), family.owner.into()];
    let found: Vec<(Uuid, String, Vec<Uuid>)> = set.as_owner(|| {
        Spi::connect(|client| {
            let sql = exclusion::sql(set, &queries::refresh::family::LIST_MEMBERS);
            let rows = client.select(&sql, None, &args)?;
            rows.map(|row| {
                let id: Uuid = row.get_by_name("id")?.ok_or(Error::MissingValue("id"))?;
                let name: Option<String> = row.get_by_name("name")?;
                let lists: Option<Vec<Uuid>> = row.get_by_name("lists")?;
                Ok::<_, Error>((id, name.unwrap_or_default(), lists.unwrap_or_default()))
            })
            .collect::<Result<_>>()
        })
    })?;
    let places: HashMap<Uuid, usize> =
        found.iter().enumerate().map(|(place, (id, ..))| (*id, place)).collect();
    let after: Vec<Vec<usize>> = found
        .iter()
        .map(|(.., lists)| lists.iter().filter_map(|list| places.get(list).copied()).collect())
        .collect();
    let items: Vec<_> = (0..found.len())
        .map(|place| dependency_order::Item {
            stored_in: place,
            reads: &[],
            after: &after[place],
            reads_everything: false,
        })
        .collect();
    let member = |Placed { item, cycle }: Placed| {
        let names = |cycle: &[usize]| cycle.iter().map(|item| found[*item].1.clone()).collect();
        let (id, name, _) = &found[item];
        Member { id: *id, name: name.clone(), cycle: cycle.as_deref().map(names) }
    };
    Ok(dependency_order::order(&items).into_iter().map(member).collect())
}

/// Those of the names that no segment has or had.
fn list_new(set: &RelationSet, unknown: &[(Option<String>, i64)]) -> Result<Vec<String>> {
    let names: Vec<String> = unknown.iter().filter_map(|(name, _)| name.clone()).collect();
    set.as_owner(|| {
        Spi::connect(|client| {
            let sql = set.sql(&queries::refresh::family::LIST_NEW, &[]);
            let rows = client.select(&sql, None, &[names.into()])?;
            let names: Result<Vec<Option<String>>> =
                rows.map(|row| Ok(row.get_by_name("name")?)).collect();
            Ok(names?.into_iter().flatten().collect())
        })
    })
}

/// Creates segments. One that cannot be created is a WARNING, and concerns no other. Returns the names of
/// those that were created.
fn create_members(
    set: &RelationSet,
    family: &Segment,
    create: &NewMember,
    new: Vec<String>,
) -> Result<Vec<String>> {
    let mut created = Vec::new();
    for name in new {
        pgrx::check_for_interrupts!();
        match in_subtransaction(OnSuccess::Commit, || create_member(set, family, create, &name)) {
            Ok(()) => created.push(name),
            Err(error) => {
                let family = &family.name;
                let what = format!("segment \"{name}\" was not created for family \"{family}\"");
                emit_warning(&what, &error.report());
            }
        }
    }
    Ok(created)
}

fn create_member(
    set: &RelationSet,
    family: &Segment,
    create: &NewMember,
    name: &str,
) -> Result<()> {
    let json = |value: &Option<serde_json::Value>| {
        value.as_ref().map(|value| JsonbText(value.to_string()))
    };
    set.as_segment_owner(family.owner, || {
        Spi::connect_mut(|client| {
            let args = [
                name.into(),
                family.table.into(),
                family.owner.into(),
                family.name.as_str().into(),
                json(&create.guards).into(),
                create.context.as_deref().into(),
            ];
            let sql = set.sql(&queries::refresh::family::INSERT_SEGMENT, &[]);
            let id: Option<Uuid> = client.update(&sql, None, &args)?.first().get_one()?;
            let id = id.ok_or(Error::MissingValue("id"))?;
            for subscription in &create.subscriptions {
                let target = subscription.target.as_deref().unwrap_or(name);
                let args = [
                    subscription.consumer.as_str().into(),
                    id.into(),
                    target.into(),
                    json(&subscription.params).into(),
                ];
                let sql = set.sql(&queries::refresh::family::INSERT_SUBSCRIPTION, &[]);
                if client.update(&sql, None, &args)?.is_empty() {
                    return Err(Error::UnknownConsumer(subscription.consumer.clone()));
                }
            }
            Ok(())
        })
    })
}

/// Refreshes the segments of a family that was refreshed, each with its rows, in a subtransaction of its own.
pub fn refresh_members(
    set: &RelationSet,
    request: &RefreshRequest<'_>,
    family: &Segment,
    rows: &Rows,
) -> Result<Vec<RefreshResult>> {
    let found = rows.found.take();
    let kept = if rows.is_sorted_again.get() { &rows.sorted } else { &rows.kept };
    let own = Turns::default();
    let turns = request.turns.unwrap_or(&own);
    turns.extend(found.members.iter().map(|member| member.id));
    let (ids, at) = (rows.ids(), found.at.unwrap_or_else(clock::now));
    let pass = found.pass.as_ref().map(|(plan, is_plain)| (plan, ids, *is_plain));
    let slice = Relation::new(SLICE);
    slice.take_columns_of(kept);
    let mut groups = kept.groups();
    let mut results = Vec::new();
    for (number, member) in (1..).zip(&found.members) {
        pgrx::check_for_interrupts!();
        slice.clear();
        groups.take(number, &slice);
        turns.begin(member.id);
        // It sees what those before it have done.
        let _snapshot = Active::fresh();
        let of_member = RefreshRequest {
            query: None,
            dry_run: request.dry_run,
            force: request.force,
            skip_busy: request.skip_busy,
            cycle: member.cycle.as_deref(),
            turns: Some(turns),
            slice: Some(Slice { relation: &slice, sql: &found.sql, pass, at }),
            ..RefreshRequest::by_hand(Key::Id(member.id), &member.name, request.run_id)
        };
        results.push(refresh(set, &of_member)?);
    }
    drop(groups);
    if !request.dry_run {
        let ids: Vec<Uuid> = found.members.iter().map(|member| member.id).collect();
        set.write(&queries::refresh::family::COPY_READS, &[family.id.into(), ids.into()])?;
    }
    Ok(results)
}
