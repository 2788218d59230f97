//! The refresh of a family: its query is run once, and its rows are those of its segments, which are
//! refreshed one after another, each as if it were alone.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::ffi::CStr;
use std::rc::Rc;

use pgrx::datum::Uuid;
use pgrx::prelude::*;

use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::config::segment_table::Table;
use crate::config::{self, exclusion};
use crate::config::{FAMILY_COLUMN, Incremental, Key, NewMember, Refresher, Segment};
use crate::error::{Error, Result, counted, emit_warning};
use crate::pg::bgw::progress::{Figure, Kind, Phase, Tracker};
use crate::pg::exec::parts::{OtherNames, Parts, Unexpected};
use crate::pg::exec::role;
use crate::pg::exec::snapshot::Active;
use crate::pg::exec::statement::{Prepared, StatementKind};
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};
use crate::pg::exec::tuplestore::{Place, Relation};
use crate::pg::format::json::JsonbText;
use crate::pg::system_catalog;
use crate::refresh::delta::{self, parse_single_statement};
use crate::refresh::incremental::{self, Given, Ids, Plan, Progress, WatermarkCandidate};
use crate::refresh::lists::Turns;
use crate::refresh::{RefreshRequest, RefreshResult, refresh};
use segmenter_core::dependency_order::{self, Placed};
use segmenter_core::text;

const ROWS: &CStr = c"segmenter_family_rows";
const SLICE: &CStr = c"segmenter_family_slice";
const IDS: &CStr = c"segmenter_ids";

/// The number of segments that one refresh creates at most.
const MOST_CREATED: usize = 10_000;

/// As many look-ups by the index take about as long as reading a block of the table.
const LOOK_UPS_PER_BLOCK: u64 = 4;

/// The number of names that a remark gives, and how many characters of each.
const NAMED: usize = 5;
const LONGEST_NAME: usize = 100;

/// The rows of a family, and the segments that they are for. It is made before the refresh of the family
/// begins, whose subtransaction the rows outlive.
pub struct Rows {
    place: Place,
    kept: RefCell<Option<Kept>>,
    found: RefCell<Found>,
}

/// What the query of a family gave.
struct Kept {
    /// By the names of segments.
    slices: Parts,
    /// Of an incremental refresh: the ids that have changed and that segments have or get, by their names.
    changed: Parts,
}

/// What the refresh of a family has found.
#[derive(Default)]
struct Found {
    members: Vec<Member>,
    /// The query of the family.
    of_family: String,
    /// The table as it was checked for the family.
    table: Option<Table>,
    /// What an incremental refresh has done; none: another refresher.
    pass: Option<Plan<'static>>,
}

/// A segment of a family, at its place in the order.
struct Member {
    id: Uuid,
    name: String,
    /// The version of its state when the rows were read.
    version: Option<String>,
    /// The names of the segments in its cycle; none: it is in no cycle.
    cycle: Option<Vec<String>>,
}

/// The rows of one segment of a family.
#[derive(Clone, Copy)]
pub struct Slice<'a> {
    relation: &'a Relation,
    /// The query of the family, which has given them.
    of_family: &'a str,
    table: Option<&'a Table>,
    /// An incremental refresh: its plan, and the ids that have changed and that the segment has or gets.
    pass: Option<(&'a Plan<'a>, &'a Relation)>,
    /// The version of the segment's state when they were read.
    version: Option<&'a str>,
}

impl<'a> Slice<'a> {
    /// Checks the table of the segment, which is that of its family as a rule.
    pub fn check_table(&self, set: &RelationSet, segment: &Segment) -> Result<Table> {
        match self.table.filter(|table| table.oid == segment.table) {
            Some(table) => table.check_for(set, segment.holder()),
            None => Table::check(set, segment.table, segment.holder()),
        }
    }

    /// The query for the rows, which become readable in the current SPI connection.
    pub fn published(&self) -> String {
        self.relation.publish();
        slice_sql()
    }

    /// Whether the segment, whose state has this version, may go by the rows: since they were read, nobody has
    /// refreshed it, nobody was erased from it, and its query is still that of the family.
    pub fn is_of(
        &self,
        set: &RelationSet,
        segment: &Segment,
        version: Option<&str>,
    ) -> Result<bool> {
        if version != self.version {
            return Ok(false);
        }
        let sql = config::family::sql_of_member(set, self.of_family, &segment.name)?;
        let own = segment.refresher.as_ref().and_then(Refresher::members_sql);
        Ok(own == Some(&*sql))
    }

    /// The watermark of a segment that must read by itself: that of the family, which is no later.
    pub fn watermark(&self) -> WatermarkCandidate {
        self.pass.map_or(WatermarkCandidate::none(), |(plan, _)| plan.beginning())
    }

    /// The progress of a segment that had to read by itself: from now on it is as far as its family.
    pub fn caught_up(&self, made: Progress) -> Progress {
        match self.pass {
            Some((plan, _)) => plan.caught_up(made),
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
        let Some((plan, ids)) = self.pass else { return Ok(None) };
        let given = Given { sql: slice_sql(), ids };
        incremental::plan_of_member(set, target, incremental, (plan, given), changes)
    }
}

impl Rows {
    pub fn new() -> Self {
        Self { place: Place::current(), kept: RefCell::default(), found: RefCell::default() }
    }

    /// Runs the family's query, and keeps its rows. Segments are created for names that are new, if the
    /// family says what they are made of. Returns remarks.
    pub fn read(
        &self,
        set: &RelationSet,
        (segment, table): (&Segment, &Table),
        refresher: &Refresher,
        (plan, dry_run): (Option<Plan<'static>>, bool),
    ) -> Result<(Vec<String>, Option<Progress>)> {
        let mut members = list_members(set, segment)?;
        let others = match refresher.create() {
            Some(_) => OtherNames::Keep,
            None => OtherNames::Count,
        };
        let names = || members.iter().map(|member| member.name.as_str());
        let slices = Parts::new(self.place, SLICE, names(), (others, MOST_CREATED + 1));
        let changed = Parts::new(self.place, IDS, names(), (OtherNames::Count, 0));
        let mut kept = Kept { slices, changed };
        let sql = refresher.members_sql().unwrap_or_default();
        let pass = set.as_segment_owner(segment.owner, || match plan {
            Some(plan) => kept.read_changes(set, table, (sql, plan), &members).map(Some),
            None => role::read_only(|| kept.read_all(table, sql)).map(|()| None),
        })?;
        let (rows, mut unexpected) = (kept.slices.rows(), kept.slices.unexpected());
        let mut remarks = Vec::new();
        if let (Some(create), true) = (refresher.create(), unexpected.rows > 0) {
            let new = list_new(set, &unexpected)?;
            let (created, remark) = create_members(set, segment, create, (new, dry_run))?;
            remarks.extend(remark);
            if !created.is_empty() {
                forget_created(&mut unexpected, &created);
                let _snapshot = Active::fresh();
                members = with_created(members, list_members(set, segment)?);
            }
        }
        kept.slices.adopt(members.iter().map(|member| member.name.as_str()))?;
        let segments = counted(members.len() as i64, "segment");
        remarks.insert(0, format!("{} for {segments}", counted(rows as i64, "row")));
        remarks.extend(remark_of(&unexpected));
        let (pass, progress) = pass.unzip();
        self.kept.replace(Some(kept));
        let of_family = refresher.members_sql().unwrap_or_default().to_owned();
        self.found.replace(Found { members, of_family, table: Some(table.clone()), pass });
        Ok((remarks, progress))
    }

    /// The rows of the family itself, which has none, and the query that reads them in this SPI connection.
    pub fn own(&self) -> (Option<Relation>, String) {
        let none = self.kept.borrow().as_ref().map(|kept| kept.slices.empty());
        if let Some(none) = &none {
            none.publish();
        }
        (none, slice_sql())
    }
}

impl Kept {
    /// Runs the family's query, and keeps its rows.
    fn read_all(&mut self, table: &Table, sql: &str) -> Result<()> {
        let query = parse_single_statement(sql, StatementKind::Select)?;
        let (analysed, column) = analysed(table, query)?;
        self.slices.fill((&analysed, &[]), column)?;
        analysed.check_seen(query, &[])
    }

    /// The same for the ids that have changed, or all of them.
    fn read_changes(
        &mut self,
        set: &RelationSet,
        table: &Table,
        (sql, mut plan): (&str, Plan<'static>),
        members: &[Member],
    ) -> Result<(Plan<'static>, Progress)> {
        let ids: Vec<Uuid> = members.iter().map(|member| member.id).collect();
        let (changed, with_variants) = incremental::new_ids();
        let changed = Ids { changed: &changed, ids: &with_variants };
        let slices = RefCell::new(&mut self.slices);
        // Few rows, which are looked up once more.
        let rows = Relation::new(ROWS);
        let read = |is_of_changes: bool| {
            let query = parse_single_statement(sql, StatementKind::Select)?;
            let (analysed, column) = analysed(table, query)?;
            let source = delta::of_changed_ids(set, query, &analysed)?;
            match is_of_changes {
                true => {
                    rows.append(&source.sql, &[])?;
                    let sql = queries::refresh::family::LIST_ROWS.text();
                    slices.borrow_mut().fill((&Prepared::new(sql, &[])?, &[]), column)?;
                }
                false => {
                    slices.borrow_mut().fill((&Prepared::new(&source.sql, &[])?, &[]), column)?;
                }
            }
            analysed.check_seen(query, &[])
        };
        let is_plain = plan.read_family(set, (table, &ids), changed, read)?;
        if plan.is_of_changes() {
            let names: Vec<String> = members.iter().map(|member| member.name.clone()).collect();
            let (relation, looked_at) = changed.all(is_plain);
            let has_id = has_id(set, table, looked_at.rows() * ids.len() as u64);
            let parts =
                [("table", table.name.as_str()), ("ids", relation), ("has_id", has_id.as_str())];
            let sql = set.sql(&queries::refresh::family::LIST_CHANGED, &parts);
            let args = [ids.into(), names.into()];
            let query = Prepared::new(&sql, &args)?;
            role::read_only(|| self.changed.fill((&query, &args), 0))?;
        }
        let progress = plan.progress_of_family(changed.changed);
        Ok((plan, progress))
    }
}

/// A condition: whether a member has a changed id. Each id is looked up in each segment by the index if these look-ups
/// are few; otherwise the table is read.
fn has_id(set: &RelationSet, table: &Table, look_ups: u64) -> String {
    let blocks = system_catalog::physical(table.oid).map_or(0, |physical| physical.blocks);
    let query = match look_ups < u64::from(blocks) * LOOK_UPS_PER_BLOCK {
        true => &queries::refresh::family::HAS_ID_BY_INDEX,
        false => &queries::refresh::family::HAS_ID_BY_READING,
    };
    set.sql(query, &[("collation", &table.id_collation)])
}

/// Analyses the query of a family. Returns the number of the column that names segments, too.
fn analysed(table: &Table, query: &str) -> Result<(Rc<Prepared>, usize)> {
    let analysed = Rc::new(Prepared::of_user(query, &[])?);
    delta::check_analysed(&analysed, table)?;
    let column = analysed.columns().iter().position(|column| column.name == FAMILY_COLUMN);
    Ok((analysed, column.ok_or(Error::MissingValue(FAMILY_COLUMN))?))
}

/// Takes the rows of segments that were created out of those of names that are unknown.
fn forget_created(unexpected: &mut Unexpected, created: &HashSet<String>) {
    let is_created =
        |name: &Option<String>| name.as_ref().is_some_and(|name| created.contains(name));
    let rows = unexpected.names.iter().filter(|(name, _)| is_created(name)).map(|(_, rows)| rows);
    unexpected.rows -= rows.sum::<u64>();
    unexpected.names.retain(|(name, _)| !is_created(name));
}

/// That rows are for no segment of the family.
fn remark_of(unexpected: &Unexpected) -> Option<String> {
    let Unexpected { names, is_more, rows } = unexpected;
    if *rows == 0 {
        return None;
    }
    let name = |(name, rows): &(Option<String>, u64)| match name {
        Some(name) => format!("\"{}\" ({rows})", text::first(name, LONGEST_NAME)),
        None => format!("null ({rows})"),
    };
    let mut named: Vec<String> = names.iter().take(NAMED).map(name).collect();
    let more = names.len().saturating_sub(NAMED);
    match (is_more, more) {
        (true, more) => named.push(format!("and more than {more} more")),
        (false, 0) => {}
        (false, more) => named.push(format!("and {more} more")),
    }
    let (verb, named) = (if *rows == 1 { "names" } else { "name" }, named.join(", "));
    Some(format!("{} {verb} no segment of the family: {named}", counted(*rows as i64, "row")))
}

/// The segments of a family with those that were created meanwhile. The rows are no newer than they were.
fn with_created(before: Vec<Member>, mut now: Vec<Member>) -> Vec<Member> {
    let mut versions: HashMap<Uuid, Option<String>> =
        before.into_iter().map(|member| (member.id, member.version)).collect();
    for member in &mut now {
        member.version = versions.remove(&member.id).flatten();
    }
    now
}

/// The query that reads the rows of one segment from the relation that has them.
fn slice_sql() -> String {
    queries::refresh::family::LIST_SLICE.fragment().to_owned()
}

/// The segments of a family, each after those whose members it leaves out.
fn list_members(set: &RelationSet, family: &Segment) -> Result<Vec<Member>> {
    let args = [family.name.as_str().into(), family.owner.into()];
    let found: Vec<(Member, Vec<Uuid>)> = set.as_owner(|| {
        Spi::connect(|client| {
            let sql = exclusion::sql(set, &queries::refresh::family::LIST_MEMBERS);
            let rows = client.select(&sql, None, &args)?;
            rows.map(|row| {
                let member = Member {
                    id: row.get_by_name("id")?.ok_or(Error::MissingValue("id"))?,
                    name: row.get_by_name::<String, _>("name")?.unwrap_or_default(),
                    version: row.get_by_name("version")?,
                    cycle: None,
                };
                let lists: Option<Vec<Uuid>> = row.get_by_name("lists")?;
                Ok::<_, Error>((member, lists.unwrap_or_default()))
            })
            .collect::<Result<_>>()
        })
    })?;
    let places: HashMap<Uuid, usize> =
        found.iter().enumerate().map(|(place, (member, _))| (member.id, place)).collect();
    let after: Vec<Vec<usize>> = found
        .iter()
        .map(|(_, lists)| lists.iter().filter_map(|list| places.get(list).copied()).collect())
        .collect();
    let items: Vec<_> = (0..found.len())
        .map(|place| dependency_order::Item {
            stored_in: place,
            reads: &[],
            after: &after[place],
            reads_everything: false,
        })
        .collect();
    let mut found: Vec<Option<Member>> =
        found.into_iter().map(|(member, _)| Some(member)).collect();
    let names: Vec<String> = found.iter().flatten().map(|member| member.name.clone()).collect();
    let member = |Placed { item, cycle }: Placed| {
        let in_cycle = |cycle: &[usize]| cycle.iter().map(|item| names[*item].clone()).collect();
        let cycle = cycle.as_deref().map(in_cycle);
        found[item].take().map(|member| Member { cycle, ..member })
    };
    Ok(dependency_order::order(&items).into_iter().filter_map(member).collect())
}

/// Those of the names that no segment has or had.
fn list_new(set: &RelationSet, unexpected: &Unexpected) -> Result<Vec<String>> {
    let names: Vec<String> = unexpected.names.iter().filter_map(|(name, _)| name.clone()).collect();
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
/// those that were created, and a remark.
fn create_members(
    set: &RelationSet,
    family: &Segment,
    create: &NewMember,
    (new, dry_run): (Vec<String>, bool),
) -> Result<(HashSet<String>, Option<String>)> {
    let mut created = HashSet::new();
    if new.len() > MOST_CREATED {
        let error = Error::TooManyNew { family: family.name.clone(), most: MOST_CREATED };
        let report = error.report();
        emit_warning("segments were not created", &report);
        return Ok((created, Some(report.to_line())));
    }
    let count = |segments: usize| counted(segments as i64, "segment");
    if dry_run {
        let remark = format!("{} would be created", count(new.len()));
        return Ok((created, Some(remark).filter(|_| !new.is_empty())));
    }
    let (mut failed, mut first_failed) = (0, None);
    for name in new {
        pgrx::check_for_interrupts!();
        match in_subtransaction(OnSuccess::Commit, || create_member(set, family, create, &name)) {
            Ok(()) => drop(created.insert(name)),
            Err(error) => {
                let family = &family.name;
                let what = format!("segment \"{name}\" was not created for family \"{family}\"");
                let report = error.report();
                // All of them are counted; a reader needs no more than a few.
                if failed < NAMED {
                    emit_warning(&what, &report);
                }
                failed += 1;
                first_failed.get_or_insert_with(|| {
                    format!("\"{}\" ({})", text::first(&name, LONGEST_NAME), report.to_line())
                });
            }
        }
    }
    let made = (!created.is_empty()).then(|| format!("{} created", count(created.len())));
    // Whoever reads the log sees no WARNING.
    let failed = first_failed
        .map(|first| format!("{} could not be created, the first {first}", count(failed)));
    let remarks: Vec<String> = made.into_iter().chain(failed).collect();
    Ok((created, Some(remarks.join("; ")).filter(|_| !remarks.is_empty())))
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
    let (found, kept) = (rows.found.take(), rows.kept.take());
    let Some(mut kept) = kept else { return Ok(Vec::new()) };
    let own = Turns::of(std::iter::empty());
    let turns = request.turns.unwrap_or(&own);
    turns.extend(found.members.iter().map(|member| member.id));
    // Its refresh goes on: it is shown, and can be cancelled, beside that of each segment.
    let _progress = Tracker::begin(Kind::Refresh, set.mart(), family.id, Phase::Applying);
    Figure::received().settle(kept.slices.rows());
    let mut results = Vec::new();
    for member in &found.members {
        pgrx::check_for_interrupts!();
        turns.begin(member.id);
        // It sees what those before it have done.
        let _snapshot = Active::fresh();
        let slice = kept.slices.take(&member.name)?;
        let changed = kept.changed.take(&member.name)?;
        let pass = found.pass.as_ref().map(|plan| (plan, &changed));
        let version = member.version.as_deref();
        let of_member = RefreshRequest {
            query: None,
            dry_run: request.dry_run,
            force: request.force,
            skip_busy: request.skip_busy,
            cycle: member.cycle.as_deref(),
            turns: Some(turns),
            slice: Some(Slice {
                relation: &slice,
                of_family: &found.of_family,
                table: found.table.as_ref(),
                pass,
                version,
            }),
            ..RefreshRequest::by_hand(Key::Id(member.id), &member.name, request.run_id)
        };
        let result = refresh(set, &of_member)?;
        Figure::written().add(result.moved());
        Figure::messages().add(result.messages.unwrap_or_default().unsigned_abs());
        results.push(result);
    }
    if !request.dry_run {
        let args = [family.id.into(), family.name.as_str().into(), family.owner.into()];
        set.write(&queries::refresh::family::COPY_READS, &args)?;
    }
    Ok(results)
}
