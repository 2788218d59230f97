//! Members that a segment leaves out, because another segment, its list, has them: they are taken out
//! of a delta, or are the delta.

use std::ffi::CStr;

use pgrx::datum::Uuid;
use pgrx::prelude::*;

use super::{ADDED, CHANGED, DELTA, Delta, DeltaTarget, REMOVED};
use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::config::MatchColumn;
use crate::config::segment_table::Table;
use crate::error::Result;
use crate::pg::exec::statement;
use crate::pg::exec::tuplestore::Relation;
use crate::pg::system_catalog;
use segmenter_core::guards::DeltaStats;

const EXCLUDED: &CStr = c"segmenter_excluded";
const LISTED: &CStr = c"segmenter_listed";

/// The operation of a received row that is left out.
const LEFT_OUT: u8 = b'x';

/// The number of listed ids up to which each is looked up among the members.
const FEW: u64 = 10_000;

/// A segment whose members are left out of another one.
pub struct ListTable<'a> {
    pub id: Uuid,
    pub table: &'a Table,
    pub by: &'a [MatchColumn],
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
    /// Leaves out added members who are kept out of the segments of the role `owner`. Runs within an SPI
    /// connection.
    pub fn leave_out_kept_out(
        &mut self,
        side: &DeltaTarget<'_>,
        owner: pg_sys::Oid,
    ) -> Result<LeftOut> {
        if self.figures.added == 0 {
            return Ok(LeftOut::nobody());
        }
        let excluded = Relation::new(EXCLUDED);
        side.set.as_owner(|| {
            let key = side.set.sql(&queries::catalog::SECRET_KEY, &[]);
            let sql = &queries::refresh::exclusion::MATCH_KEPT_OUT;
            excluded.append(&side.set.sql(sql, &[("secret_key", &key)]), &[owner.into()])
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
        lists: &[ListTable<'_>],
    ) -> Result<LeftOut> {
        let mut concerned = Vec::new();
        if lists.is_empty() || self.figures.added + self.figures.changed == 0 {
            return Ok(LeftOut::nobody());
        }
        let excluded = Relation::new(EXCLUDED);
        for (number, list) in lists.iter().enumerate() {
            let before = excluded.rows();
            let matched =
                || list.by.iter().try_for_each(|by| side.match_received(&excluded, list, *by));
            side.set.as_table_owner(list.table.owner, matched)?;
            if excluded.rows() > before {
                concerned.push(number);
            }
        }
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
        let (histogram, sums) = side.append_delta(&relation, &sql, &[LEFT_OUT])?;
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

    /// Whether they are all that must be known to compare members by these columns.
    pub fn suffice(&self, by: &[MatchColumn]) -> bool {
        by.iter().all(|by| self.of(*by).is_some())
    }
}

/// The members of lists, by the columns that are compared: a relation of the SPI connection.
pub struct Listed {
    relation: Relation,
    by: Vec<MatchColumn>,
}

impl Listed {
    pub fn new() -> Self {
        Self { relation: Relation::new(LISTED), by: Vec::new() }
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

    /// Adds the members that the list's table has. Runs with the rights of that table's owner.
    pub fn add_list(&mut self, set: &RelationSet, list: &ListTable<'_>) -> Result<()> {
        let value = |by: MatchColumn| match list.by.contains(&by) {
            true => format!("(t.{})::pg_catalog.text", by.name()),
            false => "null::pg_catalog.text".into(),
        };
        let [id, email, phone] = MatchColumn::ALL.map(value);
        let parts = [
            ("table", list.table.name.as_str()),
            ("id", &id),
            ("email", &email),
            ("phone", &phone),
        ];
        self.note(list.by);
        let sql = set.sql(&queries::refresh::exclusion::LIST_LISTED, &parts);
        self.relation.append(&sql, &[list.id.into()])
    }
}

/// The delta that removes the members that are listed; none: there are none. `before`: the number of
/// members. Runs with the rights of the segment's owner, within the SPI connection of `listed`.
pub fn of_listed(side: &DeltaTarget<'_>, listed: &Listed, before: u64) -> Result<Option<Delta>> {
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
    let new = side.received_columns().map(|(number, column)| {
        format!(", null::{} as n{number}", system_catalog::type_name(column.type_oid))
    });
    let old = side.columns().map(|(number, _)| format!(", m.o{number}"));
    let values: String = new.chain(old).collect();
    let member = side.member_sql();
    let sql = &queries::refresh::exclusion::REMOVE_MEMBERS;
    let sql = side.sql(sql, &[("values", &values), ("member", &member)]);
    let relation = Relation::new(DELTA);
    let (histogram, sums) = side.append_delta(&relation, &sql, &[])?;
    let removed = histogram.of(REMOVED);
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

    /// Appends the ids of added and changed members that the list has. Runs with the rights of the
    /// owner of the list's table.
    fn match_received(
        &self,
        excluded: &Relation,
        list: &ListTable<'_>,
        by: MatchColumn,
    ) -> Result<()> {
        let value = self.delta_value(by);
        let (column, value) = match by {
            MatchColumn::Id => {
                let collation = &list.table.id_collation;
                let value = format!("({value})::pg_catalog.\"varchar\" collate {collation}");
                ("t.id".to_owned(), value)
            }
            _ => {
                let of_list = format!("(t.{})::pg_catalog.text", by.name());
                let in_bytes = |value: &str| format!("{value} collate pg_catalog.\"C\"");
                (in_bytes(&of_list), in_bytes(&value))
            }
        };
        let parts = [("table", list.table.name.as_str()), ("column", &column), ("value", &value)];
        let sql = self.set.sql(&queries::refresh::exclusion::MATCH_RECEIVED, &parts);
        excluded.append(&sql, &[list.id.into()])
    }
}
