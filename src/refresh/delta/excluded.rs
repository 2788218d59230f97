//! Members that a segment leaves out, because another segment, its list, has them: they are taken out
//! of a delta, or are the delta.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::CStr;
use std::rc::Rc;

use pgrx::datum::{DatumWithOid, Uuid};
use pgrx::prelude::*;

use super::{ADDED, CHANGED, DELTA, Delta, DeltaTarget, REMOVED, old_value};
use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::config::MatchColumn;
use crate::config::segment_table::{Column, Readable, Table};
use crate::error::Result;
use crate::pg::exec::role;
use crate::pg::exec::statement;
use crate::pg::exec::tuplestore::Relation;
use crate::pg::format::fingerprint::Counts;
use crate::pg::system_catalog;
use segmenter_core::guards::DeltaStats;

const EXCLUDED: &CStr = c"segmenter_excluded";
const LISTED: &CStr = c"segmenter_listed";
const IDS: &CStr = c"segmenter_ids";
const FORMER: &CStr = c"segmenter_former";

/// The operation of a received row that is left out.
const LEFT_OUT: u8 = b'x';

/// The number of listed ids up to which each is looked up among the members.
pub const FEW: u64 = 10_000;

/// A segment whose members are left out of another one.
pub struct ListMembers<'a> {
    pub id: Uuid,
    pub members: &'a Members,
    pub by: &'a [MatchColumn],
}

/// Where the members of a list are.
pub enum Members {
    In(Readable),
    /// Their ids are known.
    Known(Rc<HashSet<String>>),
}

/// The ids of a segment's members. Runs with the rights of the segment's or the table's owner.
pub fn ids_in(set: &RelationSet, table: &str, segment: Uuid) -> Result<Vec<Option<String>>> {
    let sql = &queries::refresh::exclusion::LIST_MEMBER_IDS;
    let sql = set.sql(sql, &[("table", table)]);
    let ids = Spi::connect(|_| statement::read_one(&sql, &[segment.into()]))?;
    Ok(ids.unwrap_or_default())
}

/// The same of the segment of a delta. Runs with the rights of the segment's owner.
pub fn member_ids(side: &DeltaTarget<'_>) -> Result<Vec<Option<String>>> {
    ids_in(side.set, &side.table.name, side.segment)
}

/// Ids that lists have.
#[derive(Default)]
pub struct LookedUp {
    /// The numbers of the lists that have any.
    pub lists: Vec<usize>,
    /// Each once.
    pub ids: Vec<String>,
}

/// Looks ids up in lists, which are compared by them alone. For each of their tables it takes a statement that
/// the session keeps. Runs within an SPI connection.
pub fn look_up(
    set: &RelationSet,
    ids: Vec<Option<String>>,
    lists: &[ListMembers<'_>],
) -> Result<LookedUp> {
    let mut found = BTreeSet::new();
    let mut looked_up = LookedUp::default();
    let mut tables: HashMap<pg_sys::Oid, Vec<(usize, Uuid, &Readable)>> = HashMap::new();
    for (number, list) in lists.iter().enumerate() {
        match list.members {
            Members::In(table) => {
                tables.entry(table.owner).or_default().push((number, list.id, table));
            }
            Members::Known(known) => {
                let has = ids.iter().flatten().filter(|id| known.contains(*id));
                let before = looked_up.ids.len();
                looked_up.ids.extend(has.cloned());
                if looked_up.ids.len() > before {
                    looked_up.lists.push(number);
                }
            }
        }
    }
    found.extend(std::mem::take(&mut looked_up.ids));
    if !tables.is_empty() {
        let mut args = [Uuid::from_bytes([0; 16]).into(), ids.into()];
        for (owner, tables) in tables {
            set.as_table_owner(owner, || {
                for (number, list, table) in tables {
                    pgrx::check_for_interrupts!();
                    args[0] = list.into();
                    let parts =
                        [("table", table.name.as_str()), ("collation", &table.id_collation)];
                    let sql = set.sql(&queries::refresh::exclusion::MATCH_GIVEN, &parts);
                    let has: Option<Vec<Option<String>>> = statement::look_up(sql, &args)?;
                    if let Some(has) = has {
                        looked_up.lists.push(number);
                        found.extend(has.into_iter().flatten());
                    }
                }
                Ok(())
            })?;
        }
    }
    looked_up.ids = found.into_iter().collect();
    Ok(looked_up)
}

/// Members that were left out of a delta. Their ids are in the relation `segmenter_excluded` until this
/// is dropped.
pub struct LeftOut {
    /// The numbers of the lists that have any.
    pub lists: Vec<usize>,
    pub are_any: bool,
    _relation: Option<Relation>,
}

impl LeftOut {
    fn nobody() -> Self {
        Self { lists: Vec::new(), are_any: false, _relation: None }
    }
}

impl Delta {
    /// Leaves out added members who are kept out of the segments of the role `owner`; if the table was not read
    /// as a whole, changed ones, too, whose rows may have been put into it by hand. Runs within an SPI
    /// connection.
    pub fn leave_out_kept_out(
        &mut self,
        side: &DeltaTarget<'_>,
        owner: pg_sys::Oid,
    ) -> Result<LeftOut> {
        let changed_too = self.found.is_none();
        let changed = if changed_too { self.figures.changed } else { 0 };
        if self.figures.added + changed == 0 {
            return Ok(LeftOut::nobody());
        }
        let excluded = Relation::new(EXCLUDED);
        side.set.as_owner(|| {
            let key = side.set.sql(&queries::catalog::SECRET_KEY, &[]);
            let sql = &queries::refresh::exclusion::MATCH_KEPT_OUT;
            let args = [owner.into(), changed_too.into()];
            excluded.append(&side.set.sql(sql, &[("secret_key", &key)]), &args)
        })?;
        if excluded.rows() == 0 {
            return Ok(LeftOut::nobody());
        }
        self.replace(side)?;
        Ok(LeftOut { lists: Vec::new(), are_any: true, _relation: Some(excluded) })
    }

    /// Leaves out added and changed members that the lists have. Runs with the rights of the segment's
    /// owner, within an SPI connection.
    pub fn leave_out(
        &mut self,
        side: &DeltaTarget<'_>,
        lists: &[ListMembers<'_>],
    ) -> Result<LeftOut> {
        let mut concerned = Vec::new();
        if lists.is_empty() || self.figures.added + self.figures.changed == 0 {
            return Ok(LeftOut::nobody());
        }
        let excluded = Relation::new(EXCLUDED);
        let is_few = self.figures.added + self.figures.changed <= FEW;
        let is_looked_up = is_few && lists.iter().all(|list| list.by == [MatchColumn::Id]);
        if is_looked_up {
            let found = look_up(side.set, side.gained_ids()?, lists)?;
            if !found.ids.is_empty() {
                let ids: Vec<Option<String>> = found.ids.into_iter().map(Some).collect();
                let sql = queries::refresh::exclusion::LIST_GIVEN_IDS.text();
                excluded.append(sql, &[ids.into()])?;
            }
            concerned = found.lists;
        } else {
            let former = side.former_values(lists)?;
            for (number, list) in lists.iter().enumerate() {
                let before = excluded.rows();
                side.match_received(&excluded, list, former.is_some())?;
                if excluded.rows() > before {
                    concerned.push(number);
                }
            }
        }
        concerned.sort_unstable();
        if !concerned.is_empty() {
            self.replace(side)?;
        }
        let are_any = !concerned.is_empty();
        Ok(LeftOut { lists: concerned, are_any, _relation: Some(excluded) })
    }

    /// Replaces the delta by one without the members in the relation `segmenter_excluded`.
    fn replace(&mut self, side: &DeltaTarget<'_>) -> Result<()> {
        let new = side.received_columns().map(|(number, _)| {
            format!(", case when e.id is null then d.n{number} end as n{number}")
        });
        let old = side.columns().map(|(number, _)| format!(", d.o{number}"));
        let values: String = new.chain(old).collect();
        let relation = Relation::new(DELTA);
        let sql = side.sql(&queries::refresh::exclusion::LEAVE_OUT, &[("values", &values)]);
        let (histogram, sums) =
            side.append_delta(&relation, (&sql, &side.args()), &[LEFT_OUT], Counts::Nothing)?;
        std::mem::replace(&mut self.relation, relation).give_up_name();
        let before = self.figures;
        let (added, changed) = (histogram.of(ADDED), histogram.of(CHANGED));
        self.figures = DeltaStats {
            added,
            changed,
            removed: histogram.of(REMOVED),
            excluded: before.excluded + before.added - added + before.changed - changed,
            ..before
        };
        self.change = sums.change;
        Ok(())
    }

    /// The members that a segment has gained, by what the segments that leave them out compare. None:
    /// they are many.
    pub fn gains(&self, side: &DeltaTarget<'_>) -> Result<Option<Gains>> {
        if self.figures.added + self.figures.changed > FEW {
            return Ok(None);
        }
        let mut gains = Gains { values: Vec::new() };
        for by in MatchColumn::ALL {
            if by != MatchColumn::Id && !side.has_received(by.name()) {
                continue;
            }
            let sql = &queries::refresh::exclusion::LIST_GAINS;
            let sql = side.sql(sql, &[("value", &side.delta_value(by))]);
            let values: Option<Vec<Option<String>>> = statement::read_one(&sql, &[])?;
            gains.values.push((by, values.unwrap_or_default()));
        }
        Ok(Some(gains))
    }
}

/// Members that a segment has gained.
pub struct Gains {
    /// The values of each column that is known, in the same order of members.
    values: Vec<(MatchColumn, Vec<Option<String>>)>,
}

impl Gains {
    fn of(&self, by: MatchColumn) -> Option<&Vec<Option<String>>> {
        self.values.iter().find(|(column, _)| *column == by).map(|(_, values)| values)
    }

    /// The number of members.
    pub fn members(&self) -> usize {
        self.values.first().map_or(0, |(_, values)| values.len())
    }

    /// Whether they are all that must be known to compare members by these columns.
    pub fn suffice(&self, by: &[MatchColumn]) -> bool {
        by.iter().all(|by| self.of(*by).is_some())
    }
}

/// The members of lists, or people who are kept out, by the columns that are compared: a relation of the SPI
/// connection, or their ids alone.
pub struct Listed<'a> {
    relation: Relation,
    by: Vec<MatchColumn>,
    /// All of their ids, each once, in the order of bytes, if nothing else is compared.
    ids: Option<Vec<Cow<'a, str>>>,
}

impl<'a> Listed<'a> {
    pub fn new() -> Self {
        Self { relation: Relation::new(LISTED), by: Vec::new(), ids: None }
    }

    /// Members of the segment who are kept out of the segments of its owner, by their ids.
    pub fn of_kept_out(side: &DeltaTarget<'_>, owner: pg_sys::Oid) -> Result<Self> {
        let (set, mut listed) = (side.set, Self::new());
        let ids = Relation::new(IDS);
        set.as_segment_owner(owner, || {
            let sql = side.sql(&queries::refresh::exclusion::LIST_IDS, &[]);
            ids.append(&sql, &side.args())
        })?;
        listed.note(&[MatchColumn::Id]);
        set.as_owner(|| {
            let key = set.sql(&queries::catalog::SECRET_KEY, &[]);
            let sql = &queries::refresh::exclusion::LIST_KEPT_OUT;
            listed.relation.append(&set.sql(sql, &[("secret_key", &key)]), &[owner.into()])
        })?;
        Ok(listed)
    }

    /// Gives the ids of members of the lists, all that the segment can have: nothing else is compared. The
    /// relation may be left empty then.
    pub fn give_ids(&mut self, gains: impl Iterator<Item = &'a Gains>, others: Vec<String>) {
        let ids = gains.filter_map(|gains| gains.of(MatchColumn::Id)).flatten().flatten();
        let ids = ids.map(|id| Cow::from(id.as_str()));
        let mut ids: Vec<Cow<'a, str>> = ids.chain(others.into_iter().map(Cow::from)).collect();
        // Those of one list are in order.
        ids.sort();
        ids.dedup();
        self.ids = Some(ids);
    }

    fn note(&mut self, by: &[MatchColumn]) {
        self.by.extend(by);
        self.by.sort_unstable();
        self.by.dedup();
    }

    /// Adds members that are known.
    pub fn add_gains(&mut self, gains: &Gains, by: &[MatchColumn]) -> Result<()> {
        let values = |column| match by.contains(&column) {
            true => gains.of(column).cloned().unwrap_or_default(),
            false => Vec::new(),
        };
        let args = MatchColumn::ALL.map(|column| values(column).into());
        self.note(by);
        self.relation.append(queries::refresh::exclusion::LIST_GIVEN.text(), &args)
    }

    /// Adds the members that the list has.
    pub fn add_list(&mut self, set: &RelationSet, list: &ListMembers<'_>) -> Result<()> {
        let Members::In(table) = list.members else { return Ok(()) };
        let value = |by: MatchColumn| match list.by.contains(&by) {
            true => format!("(t.{})::pg_catalog.text", by.name()),
            false => "null::pg_catalog.text".into(),
        };
        let [id, email, phone] = MatchColumn::ALL.map(value);
        let parts =
            [("table", table.name.as_str()), ("id", &id), ("email", &email), ("phone", &phone)];
        self.note(list.by);
        set.as_table_owner(table.owner, || {
            let sql = set.sql(&queries::refresh::exclusion::LIST_LISTED, &parts);
            self.relation.append(&sql, &[list.id.into()])
        })
    }
}

/// The delta that removes the members that are listed; none: there are none. `before`: the number of
/// members. Runs with the rights of the segment's owner, within the SPI connection of `listed`.
pub fn of_listed(
    side: &DeltaTarget<'_>,
    listed: &Listed<'_>,
    before: u64,
) -> Result<Option<Delta>> {
    if let Some(ids) = &listed.ids {
        let ids: Vec<Option<&str>> = ids.iter().map(|id| Some(id.as_ref())).collect();
        let args = [side.segment.into(), ids.into()];
        return role::by_index(|| removal(side, (&side.remove_given_sql(), &args), before));
    }
    if listed.relation.rows() == 0 {
        return Ok(None);
    }
    let excluded = Relation::new(EXCLUDED);
    for by in &listed.by {
        match by {
            MatchColumn::Id if listed.relation.rows() <= FEW => {
                excluded.append(queries::refresh::exclusion::LIST_LISTED_IDS.text(), &[])?;
            }
            by => {
                let sql = &queries::refresh::exclusion::MATCH_MEMBERS;
                let sql = side.sql(sql, &[("column", by.name())]);
                excluded.append(&sql, &side.args())?;
            }
        }
    }
    if excluded.rows() == 0 {
        return Ok(None);
    }
    let values = side.removed_values(|number, _| format!("m.o{number}"));
    let member = side.member_sql();
    let sql = &queries::refresh::exclusion::REMOVE_MEMBERS;
    let sql = side.sql(sql, &[("values", &values), ("member", &member)]);
    removal(side, (&sql, &side.args()), before)
}

/// The delta of a query that removes members.
fn removal(
    side: &DeltaTarget<'_>,
    query: (&str, &[DatumWithOid<'_>]),
    before: u64,
) -> Result<Option<Delta>> {
    let relation = Relation::new(DELTA);
    let (histogram, sums) = side.append_delta(&relation, query, &[], Counts::Nothing)?;
    let removed = histogram.of(REMOVED);
    // Rows that were put into the table by hand are not among those that are known.
    let before = before.max(removed);
    let figures = DeltaStats { removed, before, ..DeltaStats::default() };
    let delta = Delta { figures, long_ids: None, found: None, change: sums.change, relation };
    Ok((removed > 0).then_some(delta))
}

impl<'a> DeltaTarget<'a> {
    /// The target of a delta that removes members. `names`: the columns that their hashes cover.
    pub fn of_names(
        (set, table): (&'a RelationSet, &'a Table),
        (segment, seed): (Uuid, u64),
        names: &[String],
    ) -> Self {
        let received = table.columns.iter().map(|column| names.contains(&column.name)).collect();
        Self { set, table, segment, received, has_long_ids: false, seed }
    }

    /// The values of a delta that removes members: new ones, which are null, and old ones.
    fn removed_values(&self, old_value: impl Fn(usize, &Column) -> String) -> String {
        let new = self.received_columns().map(|(number, column)| {
            format!(", null::{} as n{number}", system_catalog::type_name(column.type_oid))
        });
        let old = self
            .columns()
            .map(|(number, column)| format!(", {} as o{number}", old_value(number, column)));
        new.chain(old).collect()
    }

    /// A query for the delta that removes the members with the ids $2.
    fn remove_given_sql(&self) -> String {
        let values = self.removed_values(|_, column| old_value(column));
        let parts = [("values", values.as_str()), ("collation", &self.table.id_collation)];
        self.sql(&queries::refresh::exclusion::REMOVE_GIVEN, &parts)
    }

    fn has_received(&self, name: &str) -> bool {
        self.received_columns().any(|(_, column)| column.name == name)
    }

    /// An expression: the value of a column in a row of the delta that is added or changed.
    fn delta_value(&self, by: MatchColumn) -> String {
        let number = || self.columns().find(|(_, column)| column.name == by.name());
        let value = match (by, number()) {
            (MatchColumn::Id, _) => "d.id".into(),
            (_, Some((number, _))) if self.received[number - 1] => format!("d.n{number}"),
            (_, Some((number, _))) => format!("d.o{number}"),
            (_, None) => "null".into(),
        };
        format!("({value})::pg_catalog.text")
    }

    /// The ids of the added and changed members of the delta.
    fn gained_ids(&self) -> Result<Vec<Option<String>>> {
        let sql = &queries::refresh::exclusion::LIST_GAINS;
        let sql = self.sql(sql, &[("value", &self.delta_value(MatchColumn::Id))]);
        Ok(statement::read_one(&sql, &[])?.unwrap_or_default())
    }

    /// Whether added members of the delta may get a value that the row has which they had as members before.
    fn keeps_former(&self, by: MatchColumn) -> bool {
        !self.table.kind.history && by != MatchColumn::Id && !self.has_received(by.name())
    }

    /// The values of such columns that the lists are compared by: the relation `segmenter_former`. None: there
    /// are no such columns.
    fn former_values(&self, lists: &[ListMembers<'_>]) -> Result<Option<Relation>> {
        if !lists.iter().flat_map(|list| list.by).any(|by| self.keeps_former(*by)) {
            return Ok(None);
        }
        let former = Relation::new(FORMER);
        let parts = [("collation", self.table.id_collation.as_str())];
        let sql = self.sql(&queries::refresh::exclusion::LIST_FORMER, &parts);
        former.append(&sql, &self.args())?;
        Ok(Some(former))
    }

    /// Appends the ids of added and changed members that the list has. `with_former`: the relation
    /// `segmenter_former` has values of them.
    fn match_received(
        &self,
        excluded: &Relation,
        list: &ListMembers<'_>,
        with_former: bool,
    ) -> Result<()> {
        let table = match list.members {
            Members::In(table) => table,
            Members::Known(_) => {
                let found = look_up(self.set, self.gained_ids()?, std::slice::from_ref(list))?;
                let ids: Vec<Option<String>> = found.ids.into_iter().map(Some).collect();
                let sql = queries::refresh::exclusion::LIST_GIVEN_IDS.text();
                return excluded.append(sql, &[ids.into()]);
            }
        };
        let by_column = |by: &MatchColumn| {
            self.match_column(excluded, (list.id, table), *by)?;
            if !with_former || !self.keeps_former(*by) {
                return Ok(());
            }
            let parts = [("table", table.name.as_str()), ("column", by.name())];
            let sql = self.set.sql(&queries::refresh::exclusion::MATCH_FORMER, &parts);
            excluded.append(&sql, &[list.id.into()])
        };
        self.set.as_table_owner(table.owner, || list.by.iter().try_for_each(by_column))
    }

    /// The same by one column. Runs with the rights of the owner of the list's table.
    fn match_column(
        &self,
        excluded: &Relation,
        (list, table): (Uuid, &Readable),
        by: MatchColumn,
    ) -> Result<()> {
        let value = self.delta_value(by);
        let (column, value) = match by {
            MatchColumn::Id => {
                let collation = &table.id_collation;
                let value = format!("({value})::pg_catalog.\"varchar\" collate {collation}");
                ("t.id".to_owned(), value)
            }
            _ => {
                let of_list = format!("(t.{})::pg_catalog.text", by.name());
                let in_bytes = |value: &str| format!("{value} collate pg_catalog.\"C\"");
                (in_bytes(&of_list), in_bytes(&value))
            }
        };
        let parts = [("table", table.name.as_str()), ("column", &column), ("value", &value)];
        let sql = self.set.sql(&queries::refresh::exclusion::MATCH_RECEIVED, &parts);
        excluded.append(&sql, &[list.into()])
    }
}
