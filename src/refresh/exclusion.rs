//! A segment leaves out members of other segments, its lists: a refresh takes them out of its delta, and
//! has members leave that its lists have gained.

use pgrx::JsonB;
use pgrx::datum::{Timestamp, Uuid};
use pgrx::prelude::*;
use pgrx::spi::SpiClient;
use serde_json::{Value, json};

use crate::catalog::queries;
use crate::catalog::relation_set::{Relation, RelationSet};
use crate::config::exclusion::{self, List};
use crate::config::segment_table::Table;
use crate::config::{MatchColumn, Segment};
use crate::error::{Error, Result, SetError};
use crate::pg::clock;
use crate::pg::exec::result_set::ResultSet;
use crate::pg::exec::role;
use crate::pg::exec::snapshot::Active;
use crate::pg::system_catalog;
use crate::refresh::delta::excluded::{FEW, Listed, look_up, member_ids, of_listed};
use crate::refresh::delta::{Delta, DeltaTarget, count_members, has_members};
use crate::refresh::lists::{
    Gained, Known, Turns, check_seen, count_changes, members_of, of_lists, seen_by,
};
use crate::refresh::publish::hold;
use crate::refresh::publish::outbox;
use crate::refresh::publish::payload::{Origin, PayloadInput};
use crate::refresh::publish::subscription::{self, Subscription};
use crate::refresh::{actions_of, apply, diff, last_content};
use segmenter_core::exclusion::{self as following, AllSeen};
use segmenter_core::guards::DeltaStats;
use segmenter_core::reason::Reason;

/// The lists of a segment, and how far it has followed them.
#[derive(Default)]
pub struct Exclusion {
    lists: Vec<List>,
    /// By the ids of lists.
    seen: AllSeen<String>,
    /// The segment was refreshed before.
    is_refreshed: bool,
    /// Members of all lists leave, whatever the segment has followed, and people who are kept out.
    follows_all: bool,
    kept_out: KeptOut,
}

/// People who are kept out of the segments of an owner.
#[derive(Default)]
struct KeptOut {
    /// The owner; none: there are no such people.
    of: Option<pg_sys::Oid>,
    /// The number of those that were readmitted.
    readmissions: i64,
}

/// Why rows were left out of a refresh.
#[derive(Default)]
pub struct LeftOut {
    /// The names of the lists that have the members.
    pub lists: Vec<String>,
    /// People among them are kept out since they were erased.
    pub are_kept_out: bool,
}

/// Members that have left a segment, because lists have them, or because they are kept out.
#[derive(Default, Clone)]
pub struct Closed {
    /// The members before, if any have left.
    pub before: u64,
    pub removed: u64,
    pub messages: u64,
    /// The local time at which they have left.
    at: Option<Timestamp>,
    /// The names of the lists that may have them, and whether only their priority makes them lists.
    lists: Vec<(String, bool)>,
    /// Members that have left before, because they were erased and are kept out.
    pub kept_out: u64,
    kept_out_at: Option<Timestamp>,
}

/// Why members have left that one of these lists has: only their priority makes some of them lists.
fn reason_of(lists: &[(String, bool)]) -> Reason {
    let is_priority = lists.iter().all(|(_, is_priority)| *is_priority);
    if is_priority { Reason::Priority } else { Reason::Exclusion }
}

impl Closed {
    /// Why they have left; none: there are none.
    pub fn reason(&self) -> Option<Reason> {
        (self.removed > 0).then(|| self.reason_of_lists())
    }

    /// Why members have left, by the lists that have them.
    pub fn reason_of_lists(&self) -> Reason {
        reason_of(&self.lists)
    }

    /// The number of all that have left.
    pub fn all(&self) -> u64 {
        self.removed + self.kept_out
    }

    /// What the log keeps of it; none: none have left.
    pub fn record(&self) -> Option<Value> {
        let mut record = json!({});
        if self.removed > 0 {
            record = json!({"at": self.at, "removed": self.removed, "lists": self.named()});
        }
        if self.kept_out > 0 {
            record["kept_out"] = json!({"at": self.kept_out_at, "removed": self.kept_out});
        }
        (self.all() > 0).then_some(record)
    }

    /// The lists by name, each with the reason why it is one.
    fn named(&self) -> serde_json::Map<String, Value> {
        let reason = |is_priority| match is_priority {
            true => Reason::Priority.as_str(),
            false => Reason::Exclusion.as_str(),
        };
        let lists = self.lists.iter();
        lists.map(|(name, is_priority)| (name.clone(), reason(*is_priority).into())).collect()
    }
}

impl Exclusion {
    /// The lists of a segment, as the active snapshot sees them. A list that does not exist is an
    /// error: the segment waits for it.
    pub fn find(set: &RelationSet, segment: &Segment) -> Result<Self> {
        let kept_out = match segment.has_kept_out {
            true => KeptOut::find(set, segment.owner)?,
            false => KeptOut::default(),
        };
        let seen = match segment.has_lists || kept_out.of.is_some() {
            true => seen_by(set, segment.id)?,
            false => Default::default(),
        };
        Ok(Self { kept_out, ..Self::find_after(set, segment, seen)? })
    }

    /// The same without people who are kept out, for a segment of which it is known how far it has followed
    /// its lists, and whether it was refreshed.
    pub fn find_after(
        set: &RelationSet,
        segment: &Segment,
        (seen, is_refreshed): (AllSeen<String>, bool),
    ) -> Result<Self> {
        if !segment.has_lists {
            return Ok(Self { is_refreshed, ..Self::default() });
        }
        let missing = exclusion::missing(set, segment.id)?;
        if !missing.is_empty() {
            let missing = missing.iter().map(|name| {
                format!("segment \"{name}\", whose members it leaves out, does not exist")
            });
            return Err(Error::NotLoaded(missing.collect()));
        }
        let mut lists = exclusion::lists(set, segment)?;
        count_changes(set, &mut lists)?;
        Ok(Self { lists, seen, is_refreshed, ..Self::default() })
    }

    /// With all lists to follow, and people who are kept out: rows that were put into the table by hand may
    /// be members of any list, or such people.
    pub fn following(self, follows_all: bool) -> Self {
        Self { follows_all, ..self }
    }

    /// Whether rows that were put into the table by hand may have to leave.
    pub fn may_close(&self) -> bool {
        !self.lists.is_empty() || self.kept_out.of.is_some()
    }

    /// Checks that the segment's owner may still read the members of lists that the segment names, or that
    /// come before it in its priority group: what is left out shows who is in them.
    pub fn check_rights(&self, segment: &Segment) -> Result<()> {
        match self.lists.iter().find(|list| !list.may_read) {
            None => Ok(()),
            Some(list) => Err(Error::MayNotRead {
                segment: list.name.clone(),
                role: role::name(segment.owner),
            }),
        }
    }

    /// The ids of the lists.
    pub fn ids(&self) -> Vec<Uuid> {
        self.lists.iter().map(|list| list.id).collect()
    }

    fn now(&self) -> AllSeen<String> {
        self.lists.iter().map(|list| (list.id.to_string(), list.now.clone())).collect()
    }

    /// Whether members may return that were left out: an incremental pass would not look at them.
    pub fn may_free(&self) -> bool {
        following::may_free(&self.seen, &self.now())
    }

    /// The number of people who were kept out and readmitted.
    pub fn readmissions(&self) -> i64 {
        self.kept_out.readmissions
    }

    /// What a successful refresh has seen; none: the segment has no lists.
    pub fn record(&self) -> Option<JsonB> {
        (!self.lists.is_empty()).then(|| JsonB(json!(self.now())))
    }

    /// The lists that may have members of the segment, of those that its owner may read: from the others
    /// no member leaves, which would show who is in them. Refreshes fail because of these.
    pub fn behind(&self) -> Vec<&List> {
        let is_behind = |list: &&List| {
            let seen = self.seen.get(&list.id.to_string());
            let must_close = self.follows_all || !list.is_tracked || list.now.must_close(seen);
            list.may_read && must_close
        };
        self.lists.iter().filter(is_behind).collect()
    }

    /// What has been seen once members of all lists have left.
    fn after_closing(&self) -> AllSeen<String> {
        let after = self.lists.iter().filter(|list| list.may_read).map(|list| {
            let id = list.id.to_string();
            let seen = list.now.after_closing(self.seen.get(&id));
            (id, seen)
        });
        // Those that are no lists any more are left for the next refresh to see.
        self.seen.clone().into_iter().chain(after).collect()
    }

    /// Takes members of the lists, and people who are kept out, out of the delta of a refresh, and out of
    /// the table if a procedure has written it, at the time `written`. `client` is the SPI connection of
    /// the delta. Runs with the rights of the segment's owner.
    pub fn leave_out(
        &self,
        client: &mut SpiClient<'_>,
        (delta, side): (&mut Delta, &DeltaTarget<'_>),
        (written, turns): (Option<Timestamp>, Option<&Turns>),
    ) -> Result<LeftOut> {
        let are_kept_out = match self.kept_out.of {
            Some(owner) => {
                let left_out = delta.leave_out_kept_out(side, owner)?;
                if let (Some(at), true) = (written, left_out.are_any) {
                    apply::take_out(client, side, at, true)?;
                }
                left_out.are_any
            }
            None => false,
        };
        if delta.figures.added + delta.figures.changed == 0 {
            return Ok(LeftOut { lists: Vec::new(), are_kept_out });
        }
        let is_few = delta.figures.added + delta.figures.changed <= FEW;
        let members = members_of(side.set, self.lists.iter().collect(), turns.filter(|_| is_few))?;
        let left_out = delta.leave_out(side, &of_lists(&members))?;
        check_seen(side.set, &members)?;
        if let (Some(at), true) = (written, left_out.are_any) {
            apply::take_out(client, side, at, false)?;
        }
        let lists = left_out.lists.iter().map(|number| members[*number].0.name.clone());
        Ok(LeftOut { lists: lists.collect(), are_kept_out })
    }

    /// The same in the turn of the segment in a run.
    pub fn close_in_turn(
        &self,
        set: &RelationSet,
        target: (&Segment, &Table),
        run_id: Uuid,
        (turns, shows): (Option<&Turns>, Option<&ResultSet>),
    ) -> Result<Closed> {
        let known = turns.map(|turns| turns.known());
        self.close(set, target, (run_id, false), (turns, known.as_deref(), shows))
    }

    /// Has members leave that the lists have gained, and people who are kept out, if rows may have been put into
    /// the table by hand. The caller holds the locks of the segment and its table. `known`: what lists have
    /// gained in this transaction. `shows`: where these members go, in place of messages. `is_alone`: no refresh
    /// follows that counts them as removed.
    pub fn close(
        &self,
        set: &RelationSet,
        target: (&Segment, &Table),
        (run_id, is_alone): (Uuid, bool),
        (turns, known, shows): (Option<&Turns>, Option<&Known>, Option<&ResultSet>),
    ) -> Result<Closed> {
        let (segment, table) = target;
        let behind = self.behind();
        let kept_out = self.kept_out.of.filter(|_| self.follows_all || !self.is_refreshed);
        // Before the first refresh there are members only if they were put into the table by hand.
        let is_nothing = behind.is_empty() && kept_out.is_none();
        if is_nothing || !self.is_refreshed && !has_members(set, table, segment.id)? {
            return Ok(Closed::default());
        }
        let mut erased = Closed::default();
        if let Some(owner) = kept_out {
            let of_kept_out = |side: &DeltaTarget<'_>, _| Listed::of_kept_out(side, owner);
            let closing = Closing { reason: Reason::Erased, seen: None, is_counted: false };
            erased = leave(set, target, (run_id, shows), closing, of_kept_out)?;
        }
        // What follows sees that members have left.
        let _closed = (erased.removed > 0).then(Active::fresh);
        let mut closed = Closed::default();
        if !behind.is_empty() {
            let lists: Vec<(String, bool)> =
                behind.iter().map(|list| (list.name.clone(), list.is_priority)).collect();
            let seen = Some(JsonB(json!(self.after_closing())));
            let closing = Closing { reason: reason_of(&lists), seen, is_counted: is_alone };
            let of_lists = |side: &DeltaTarget<'_>, how| {
                self.listed((side, segment.owner), &behind, (turns, known), how)
            };
            closed = leave(set, target, (run_id, shows), closing, of_lists)?;
            closed.lists = lists;
        }
        closed.messages += erased.messages;
        (closed.kept_out, closed.kept_out_at) = (erased.removed, erased.at);
        Ok(closed)
    }

    /// The members of the lists that are behind: those that are known to be gained, those that the segment
    /// has too, if it is small, or all. `must_fill`: all are needed, as a relation.
    fn listed<'a>(
        &self,
        (side, owner): (&DeltaTarget<'_>, pg_sys::Oid),
        behind: &[&List],
        (turns, known): (Option<&Turns>, Option<&'a Known>),
        (must_fill, is_small): (bool, bool),
    ) -> Result<Listed<'a>> {
        let set = side.set;
        let mut listed = Listed::new();
        // The gains are all that is new only if the segment had followed the list until then.
        let known = |list: &List| {
            let gains = known?.get(&list.id)?.gains.as_ref()?;
            let seen = self.seen.get(&list.id.to_string())?;
            let is_next = seen.gains + 1 == list.now.gains && seen.by == list.now.by;
            (is_next && gains.suffice(&list.now.by)).then_some(gains)
        };
        let (few, many): (Vec<&List>, Vec<&List>) =
            behind.iter().partition(|list| known(list).is_some());
        let by_ids = behind.iter().all(|list| list.now.by == [MatchColumn::Id]);
        if by_ids && !must_fill && (many.is_empty() || is_small) {
            let found = match many.is_empty() {
                true => Vec::new(),
                false => {
                    let own = set.as_segment_owner(owner, || member_ids(side))?;
                    let lists = members_of(set, many, turns)?;
                    let found = look_up(set, own, &of_lists(&lists))?.ids;
                    check_seen(set, &lists)?;
                    found
                }
            };
            listed.give_ids(few.iter().filter_map(|list| known(list)), found);
            return Ok(listed);
        }
        let lists = members_of(set, many, None)?;
        for list in few {
            if let Some(gains) = known(list) {
                set.as_segment_owner(list.owner, || listed.add_gains(gains, &list.now.by))?;
            }
        }
        for list in of_lists(&lists) {
            listed.add_list(set, &list)?;
        }
        check_seen(set, &lists)?;
        Ok(listed)
    }
}

impl KeptOut {
    /// Finds them, as the active snapshot sees them. That they are not known because the secret of the
    /// set is missing is an error.
    fn find(set: &RelationSet, owner: pg_sys::Oid) -> Result<Self> {
        let (are_any, has_secret, readmissions) = set.as_owner(|| {
            Spi::connect(|client| {
                let statement = set.kept(&queries::refresh::exclusion::FIND_KEPT_OUT);
                let row = client.select(statement, Some(1), &[owner.into()])?.first();
                let is = |column| Ok::<_, Error>(row.get_by_name::<bool, _>(column)? == Some(true));
                let readmissions = row.get_by_name::<i64, _>("readmissions")?;
                Ok::<_, Error>((is("are_any")?, is("has_secret")?, readmissions))
            })
        })?;
        if are_any && !has_secret {
            return Err(SetError::NoSecret(set.display_name(Relation::Secret)).into());
        }
        let readmissions = readmissions.unwrap_or_default();
        Ok(Self { of: are_any.then_some(owner), readmissions })
    }
}

/// Why members leave, and how far the segment has followed its lists then; none: as far as before.
struct Closing {
    reason: Reason,
    seen: Option<JsonB>,
    /// The members count as removed.
    is_counted: bool,
}

/// Has the members leave that `find` lists. It is given whether all are needed, as a relation, and whether the
/// segment is small.
fn leave<'a>(
    set: &RelationSet,
    (segment, table): (&Segment, &Table),
    (run_id, shows): (Uuid, Option<&ResultSet>),
    closing: Closing,
    find: impl FnOnce(&DeltaTarget<'_>, (bool, bool)) -> Result<Listed<'a>>,
) -> Result<Closed> {
    let (at, _, last) = last_content(set, segment)?;
    let close = |client: &mut SpiClient<'_>| {
        let side = DeltaTarget::of_names((set, table), (segment.id, last.seed), last.names());
        let subscriptions = match shows {
            None => subscription::find(set, None, Some(segment.id), None)?,
            Some(_) => Vec::new(),
        };
        let is_held = |found: &Subscription| found.may_be_held() || found.withheld.is_some();
        let must_fill = subscriptions.iter().any(is_held);
        let is_small = !must_fill && last.members().is_some_and(|members| members <= FEW);
        let listed = find(&side, (must_fill, is_small))?;
        let delta = set.as_segment_owner(segment.owner, || {
            let before = match last.members() {
                Some(members) => members,
                None => count_members(set, table, segment.id)?,
            };
            of_listed(&side, &listed, before)
        })?;
        let of_delta = |delta: &Delta| (&side, delta.figures);
        let source = PayloadInput {
            set,
            table: Ok(table),
            delta: delta.as_ref().map(of_delta),
            origin: Origin::Exclusion,
            run_id,
            reason: Some(closing.reason),
            at: Some(at),
            summing: None,
        };
        let Some(delta) = &delta else {
            if shows.is_some() {
                return Ok((Closed::default(), None));
            }
            let messages = withdraw_listed(client, &source, subscriptions)?;
            return Ok((Closed { messages, ..Closed::default() }, None));
        };
        if let Some(result) = shows {
            set.as_segment_owner(segment.owner, || diff::show_removed(&side, result))?;
        }
        set.as_segment_owner(segment.owner, || apply::apply(client, &side, delta.figures, at))?;
        let DeltaStats { before, removed, .. } = delta.figures;
        let closed = Closed { before, removed, at: Some(at), ..Closed::default() };
        if shows.is_some() {
            return Ok((closed, None));
        }
        // This snapshot sees the applied delta.
        let _snapshot = Active::fresh();
        let content = set.as_segment_owner(segment.owner, || last.after(delta, &side))?;
        let handed = outbox::hand_over(client, &source, actions_of(subscriptions))?;
        drop(listed);
        let closed = Closed { messages: handed.messages, ..closed };
        Ok::<_, Error>((closed, content.map(|content| JsonB(json!(content)))))
    };
    let (closed, content) = table.with_constraints_at_once(set, || Spi::connect_mut(close))?;
    let at = (closed.removed > 0).then_some(at);
    let args = [
        segment.id.into(),
        (closed.removed as i64).into(),
        at.into(),
        content.into(),
        closing.seen.into(),
        (if closing.is_counted { closed.removed as i64 } else { 0 }).into(),
    ];
    set.write(&queries::refresh::exclusion::RECORD, &args)?;
    Ok(closed)
}

/// Has consumers remove people whom lists have gained and who are no members any more, but whom they still
/// have because changes are held back. Returns the number of messages.
fn withdraw_listed(
    client: &mut SpiClient<'_>,
    source: &PayloadInput<'_>,
    subscriptions: Vec<Subscription>,
) -> Result<u64> {
    let behind =
        subscriptions.into_iter().filter(|found| found.has_audience() && found.withheld.is_some());
    let behind: Vec<_> = behind.collect();
    match behind.is_empty() {
        true => Ok(0),
        false => hold::withdraw_listed(client, source, behind, clock::now()),
    }
}

/// What a refresh of a list has gained, for the segments that leave out its members; none: nothing.
/// `is_edited`: the table may have members that no refresh has added. Where triggers or rules may have made
/// other rows of those that were added, these are not known. Runs with the rights of the segment's owner, within an SPI connection.
pub fn gained(
    segment: &Segment,
    delta: &Delta,
    side: &DeltaTarget<'_>,
    is_edited: bool,
) -> Result<Option<Gained>> {
    let DeltaStats { added, changed, .. } = delta.figures;
    if !segment.is_list || added + changed == 0 && !is_edited {
        return Ok(None);
    }
    let is_known = || {
        system_catalog::physical(side.table.oid).is_some_and(|physical| !physical.may_alter_rows)
    };
    let gains = if !is_edited && is_known() { delta.gains(side)? } else { None };
    Ok(Some(Gained { list: segment.id, gains }))
}
