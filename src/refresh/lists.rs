//! What a refresh reads of the lists of a segment: how far they have got, and their members; and what a run
//! in one transaction keeps of them, so that each table of a priority group is read once.

use std::cell::{Cell, Ref, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use pgrx::datum::Uuid;
use pgrx::prelude::*;

use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::config::MatchColumn;
use crate::config::exclusion::{Dependent, List};
use crate::config::segment_table::{self, Holder, Readable};
use crate::error::Result;
use crate::pg::exec::seen;
use crate::pg::exec::statement;
use crate::pg::format::json::JsonbText;
use crate::refresh::delta::excluded::{FEW, Gains, ListMembers, Members, ids_in};
use crate::refresh::incremental::Readings;
use segmenter_core::exclusion::{AllSeen, Seen};

/// What the segments that leave out members of a list must know of a refresh of the list.
pub struct Gained {
    pub list: Uuid,
    /// None: the members that it has gained are many, or not known.
    pub gains: Option<Gains>,
}

/// What lists have gained in this transaction, by their ids.
pub type Known = HashMap<Uuid, Gained>;

/// The number of members that lists have gained up to which a transaction keeps them: about 100 MB.
const MOST_KEPT: usize = 1_000_000;

/// The segments of a run in one transaction whose turn is still to come. Members that leave such a segment
/// only because of its priority leave it in its own turn, with all that those before it have gained:
/// each of a group would change all that come after it otherwise.
pub struct Turns {
    /// The captured changes that they have read.
    pub readings: Readings,
    left: RefCell<HashSet<Uuid>>,
    known: RefCell<Known>,
    /// The members of lists.
    members: RefCell<HashMap<Uuid, KnownMembers>>,
    kept: Cell<usize>,
}

/// The ids of the members of a list as it was seen.
struct KnownMembers {
    now: Seen,
    table: pg_sys::Oid,
    ids: Rc<HashSet<String>>,
}

impl Turns {
    pub fn of(segments: impl Iterator<Item = Uuid>) -> Self {
        Self {
            readings: Readings::within_current(),
            left: RefCell::new(segments.collect()),
            known: RefCell::default(),
            members: RefCell::default(),
            kept: Cell::default(),
        }
    }

    /// More segments get a turn.
    pub fn extend(&self, segments: impl Iterator<Item = Uuid>) {
        self.left.borrow_mut().extend(segments);
    }

    /// The turn of a segment has come.
    pub fn begin(&self, segment: Uuid) {
        self.left.borrow_mut().remove(&segment);
    }

    /// What the lists before have gained.
    pub fn known(&self) -> Ref<'_, Known> {
        self.known.borrow()
    }

    /// Whether the segment follows this list in a turn of its own.
    pub fn is_to_come(&self, dependent: &Dependent) -> bool {
        dependent.is_priority && self.left.borrow().contains(&dependent.id)
    }

    /// The members of a list, if they are known, and it has not changed since.
    fn members_of(&self, list: &List) -> Option<Rc<HashSet<String>>> {
        let members = self.members.borrow();
        let known = members.get(&list.id)?;
        let is_same = known.now == list.now && known.table == list.table;
        is_same.then(|| Rc::clone(&known.ids))
    }

    /// Whether the members of a list should be kept: it has few, and others of its priority group follow.
    fn may_keep(&self, list: &List, table: &Readable) -> bool {
        let is_small = list.members.is_some_and(|members| {
            members <= FEW && self.kept.get() + members as usize <= MOST_KEPT
        });
        // Equal ids are the same bytes.
        let is_plain = table.is_deterministic && list.now.by == [MatchColumn::Id];
        is_small && is_plain && list.is_priority && list.is_tracked
    }

    /// Keeps the members of a list as the active snapshot sees them.
    fn keep_members(
        &self,
        set: &RelationSet,
        list: &List,
        table: &Readable,
    ) -> Result<Rc<HashSet<String>>> {
        let ids = set.as_table_owner(table.owner, || ids_in(set, &table.name, list.id))?;
        seen::check_relations(&[table.oid])?;
        segment_table::readable(set, &[(list.table, holder(list))])?;
        let ids: Rc<HashSet<String>> = Rc::new(ids.into_iter().flatten().collect());
        self.kept.set(self.kept.get() + ids.len());
        let known = KnownMembers { now: list.now.clone(), table: list.table, ids: ids.clone() };
        if let Some(before) = self.members.borrow_mut().insert(list.id, known) {
            self.kept.set(self.kept.get().saturating_sub(before.ids.len()));
        }
        Ok(ids)
    }

    /// Keeps what a list has gained, for the turns that are to come.
    pub fn keep(&self, gained: Gained) {
        let members = gained.gains.as_ref().map_or(0, Gains::members);
        let is_much = self.kept.get() + members > MOST_KEPT;
        let gains = gained.gains.filter(|_| !is_much);
        if gains.is_some() {
            self.kept.set(self.kept.get() + members);
        }
        self.known.borrow_mut().insert(gained.list, Gained { gains, ..gained });
    }
}

/// How far a segment has followed its lists, and whether it was refreshed before.
pub fn seen_by(set: &RelationSet, segment: Uuid) -> Result<(AllSeen<String>, bool)> {
    set.as_owner(|| {
        Spi::connect(|client| {
            let statement = set.kept(&queries::refresh::exclusion::FIND_SEEN);
            let row = client.select(statement, Some(1), &[segment.into()])?.first();
            if row.is_empty() {
                return Ok((AllSeen::new(), false));
            }
            let seen = row.get_by_name::<JsonbText, _>("lists")?;
            let seen = seen.and_then(|json| serde_json::from_str(&json.0).ok());
            let is_refreshed = row.get_by_name("is_refreshed")? == Some(true);
            Ok((seen.unwrap_or_default(), is_refreshed))
        })
    })
}

/// Sets how far lists have got to what the active snapshot sees, as which their members are read: a later
/// gain must not be taken for one that was followed.
pub fn count_changes(set: &RelationSet, lists: &mut [List]) -> Result<()> {
    let ids: Vec<Uuid> = lists.iter().map(|list| list.id).collect();
    if ids.is_empty() {
        return Ok(());
    }
    let counts: Option<String> = set.as_owner(|| {
        let sql = set.sql(&queries::refresh::exclusion::COUNT_CHANGES, &[]);
        Spi::connect(|_| statement::look_up(sql, &[ids.into()]))
    })?;
    let counts: Option<HashMap<String, (i64, i64)>> =
        counts.and_then(|counts| serde_json::from_str(&counts).ok());
    let counts = counts.unwrap_or_default();
    for list in lists {
        let (gains, losses) = counts.get(&list.id.to_string()).copied().unwrap_or_default();
        (list.now.gains, list.now.losses) = (gains, losses);
    }
    Ok(())
}

/// Where the members of lists are: in their tables, which are checked, or known in the turns of a run.
pub fn members_of<'a>(
    set: &RelationSet,
    lists: Vec<&'a List>,
    turns: Option<&Turns>,
) -> Result<Vec<(&'a List, Members)>> {
    let mut found: Vec<_> = lists
        .iter()
        .map(|list| turns.and_then(|turns| turns.members_of(list)).map(Members::Known))
        .collect();
    let unknown: Vec<&'a List> = lists
        .iter()
        .zip(&found)
        .filter(|(_, found)| found.is_none())
        .map(|(list, _)| *list)
        .collect();
    let tables: Vec<_> = unknown.iter().map(|list| (list.table, holder(list))).collect();
    let mut tables = unknown.into_iter().zip(segment_table::readable(set, &tables)?);
    for place in found.iter_mut().filter(|place| place.is_none()) {
        let Some((list, table)) = tables.next() else { break };
        let kept = match turns.filter(|turns| turns.may_keep(list, &table)) {
            Some(turns) => Some(turns.keep_members(set, list, &table)?),
            None => None,
        };
        *place = Some(kept.map_or(Members::In(table), Members::Known));
    }
    Ok(lists.into_iter().zip(found.into_iter().flatten()).collect())
}

pub fn of_lists<'a>(lists: &'a [(&'a List, Members)]) -> Vec<ListMembers<'a>> {
    let of_list = |(list, members): &'a (&'a List, Members)| ListMembers {
        id: list.id,
        members,
        by: &list.now.by,
    };
    lists.iter().map(of_list).collect()
}

/// The error that not all members of lists that were read could be seen: the active snapshot is older than
/// their tables, or row-level security hides rows. Reading a table has locked it, so it is as it was read.
pub fn check_seen(set: &RelationSet, lists: &[(&List, Members)]) -> Result<()> {
    let read = lists.iter().filter(|(_, members)| matches!(members, Members::In(_)));
    let read: Vec<_> = read.map(|(list, _)| (list.table, holder(list))).collect();
    seen::check_relations(&read.iter().map(|(table, _)| *table).collect::<Vec<_>>())?;
    segment_table::readable(set, &read).map(drop)
}

fn holder(list: &List) -> Holder<'_> {
    Holder { id: list.id, name: &list.name, owner: list.owner }
}
