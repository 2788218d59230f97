//! Decides which messages follow from a refresh and from the state of a subscription.

use std::fmt;

use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use crate::clock::{Instant, is_ahead};
use crate::config::{First, Mode, Selection};
use crate::schedule::Schedule;

/// The operation of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// The consumer creates the audience, without members.
    Create,
    Add,
    Remove,
    /// The members of the message, with all its parts, replace those of the audience.
    Replace,
    /// What has happened to members, in mode `events`.
    Events,
    /// The consumer deletes the audience.
    Delete,
}

impl Operation {
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Create => "create",
            Operation::Add => "add",
            Operation::Remove => "remove",
            Operation::Replace => "replace",
            Operation::Events => "events",
            Operation::Delete => "delete",
        }
    }

    /// Whether its messages have members.
    pub fn has_members(self) -> bool {
        !matches!(self, Operation::Create | Operation::Delete)
    }
}

/// What was handed over for a subscription so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AudienceState {
    /// Whether a `create` was handed over, and no `delete` after it.
    pub exists: bool,
    /// Which members were handed over, and with which fields; `None` if that is not known.
    pub served: Option<Selection>,
    /// Whether events were handed over last: the consumer has no members.
    pub has_events: bool,
    /// The same of the last attempt to hand over, if that failed.
    pub failed: Option<Selection>,
    /// Whether all members are due again: the consumer has requested them, or a schedule says so.
    pub resync_requested: bool,
    /// Whether the segment was refreshed successfully before: until then nothing is handed over.
    pub is_ready: bool,
    /// Whether the audience has another name than the one that was handed over last.
    pub is_renamed: bool,
    /// Whether changes were held back, so that the consumer lacks them.
    pub is_behind: bool,
    /// Whether messages were deleted before they were delivered.
    pub lost: Option<Lost>,
}

/// Messages that were deleted before they were delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// The consumer has the audience.
    Known,
    /// It may not: its `create` is among them.
    Unknown,
}

/// Why what is to be handed over is held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    Paused,
    /// The audience would have fewer members than it may have.
    TooFew {
        members: u64,
        min: u64,
    },
}

impl Hold {
    /// Decides whether something is held back. `members` counts the members of the audience; it is called
    /// only where there is a limit.
    pub fn of<E>(
        is_paused: bool,
        min_members: Option<u64>,
        members: impl FnOnce() -> Result<u64, E>,
    ) -> Result<Option<Self>, E> {
        match (is_paused, min_members) {
            (true, _) => Ok(Some(Hold::Paused)),
            (false, None) => Ok(None),
            (false, Some(min)) => {
                let members = members()?;
                Ok((members < min).then_some(Hold::TooFew { members, min }))
            }
        }
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Hold::Paused => write!(f, "it is paused"),
            Hold::TooFew { members, min } => {
                let plural = if *members == 1 { "" } else { "s" };
                write!(f, "the audience would have {members} member{plural}, min_members is {min}")
            }
        }
    }
}

/// What must be handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SyncAction {
    /// A new audience and all members.
    Create,
    /// All members, in place of those in the audience.
    FullSync,
    /// The same, for an audience that the consumer may not know: `create` comes first.
    Recreate,
    /// The delta of the refresh.
    Delta,
    /// Nothing: the next events are those of another selection.
    Select,
    /// The audience's new name, without members.
    Rename,
    /// The end of the audience.
    Delete,
}

impl SyncAction {
    /// Decides what must be handed over; `None`: nothing. `is_actual`: the subscription, its
    /// segment and its consumer are active. `refreshed`: a refresh has just been done; `mode`
    /// matters only then. An audience begins with the first successful refresh of its segment.
    ///
    /// Where messages were deleted before they were delivered, the audience's end or all members follow.
    ///
    /// After a failure, the next attempt follows at the next refresh, or when the selection is
    /// different. It hands over all members, because changes were missed.
    ///
    /// Events say what happens, and none makes up for another: whatever was missed or is selected now, the
    /// next events follow.
    pub fn of(
        past: &AudienceState,
        is_actual: bool,
        selection: &Selection,
        mode: Mode,
        refreshed: bool,
    ) -> Option<Self> {
        if !is_actual {
            return (past.exists || past.lost.is_some()).then_some(SyncAction::Delete);
        }
        if past.failed.as_ref().is_some_and(|tried| tried == selection) && !refreshed {
            return None;
        }
        if !past.exists {
            return (past.is_ready || refreshed).then_some(SyncAction::Create);
        }
        let is_other =
            past.served.as_ref() != Some(selection) || past.has_events != mode.is_events();
        if mode.is_events() {
            let is_behind = is_other || past.failed.is_some() || past.is_behind;
            return match refreshed {
                true => Some(SyncAction::Delta),
                false if is_behind || past.resync_requested => Some(SyncAction::Select),
                false => past.is_renamed.then_some(SyncAction::Rename),
            };
        }
        if past.lost == Some(Lost::Unknown) {
            return Some(SyncAction::Recreate);
        }
        let is_lost = past.lost.is_some();
        if past.failed.is_some() || past.resync_requested || past.is_behind || is_other || is_lost {
            return Some(SyncAction::FullSync);
        }
        match (refreshed, mode) {
            (true, Mode::Replace) => Some(SyncAction::FullSync),
            (true, _) => Some(SyncAction::Delta),
            (false, _) => past.is_renamed.then_some(SyncAction::Rename),
        }
    }

    /// The same with all members in place of a delta: the consumer does not have what the delta was
    /// computed against. Events stay what they are.
    pub fn with_all_members(self, mode: Mode) -> Self {
        match self {
            SyncAction::Delta if !mode.is_events() => SyncAction::FullSync,
            other => other,
        }
    }

    /// The operations that it consists of, in order.
    pub fn operations(self, mode: Mode) -> &'static [Operation] {
        match (self, mode) {
            (SyncAction::Create, Mode::Delta) => &[Operation::Create, Operation::Add],
            (SyncAction::Create, Mode::Replace)
            | (SyncAction::Recreate, Mode::Delta | Mode::Replace) => {
                &[Operation::Create, Operation::Replace]
            }
            (SyncAction::Create | SyncAction::Recreate, Mode::Events(First::All)) => {
                &[Operation::Create, Operation::Events]
            }
            (SyncAction::Create | SyncAction::Recreate, Mode::Events(First::Silent)) => {
                &[Operation::Create]
            }
            (SyncAction::Delta | SyncAction::Rename, Mode::Events(_)) => &[Operation::Events],
            (SyncAction::FullSync, Mode::Events(_)) | (SyncAction::Select, _) => &[],
            (SyncAction::FullSync, _) => &[Operation::Replace],
            (SyncAction::Delta, _) => &[Operation::Remove, Operation::Add],
            (SyncAction::Rename, _) => &[Operation::Add],
            (SyncAction::Delete, _) => &[Operation::Delete],
        }
    }
}

/// When all members are handed over again by a schedule: at its first time since they were handed over
/// last, however many more have passed; `None`: it has no further time. Where it is not known when that
/// was, or a clock was ahead, they are due at once.
pub fn next_resync(
    schedule: &Schedule,
    zone: Tz,
    replaced: Option<Instant>,
    now: Instant,
) -> Option<Instant> {
    match replaced.filter(|replaced| !is_ahead(*replaced, now)) {
        Some(replaced) => schedule.next_after(replaced, zone),
        None => schedule.next_after(now, zone).map(|_| now),
    }
}

/// Whether an action without any message needs one without members: it carries the audience's new
/// name.
pub fn needs_rename(past: &AudienceState, action: SyncAction, messages: u64) -> bool {
    let may_be_silent =
        matches!(action, SyncAction::Delta | SyncAction::Select | SyncAction::Rename);
    past.is_renamed && messages == 0 && may_be_silent
}

/// The number of messages of an operation with so many members.
pub fn messages(operation: Operation, members: u64, batch_size: u32) -> u64 {
    let parts = members.div_ceil(batch_size.max(1).into());
    match operation {
        Operation::Create | Operation::Delete => 1,
        Operation::Replace => parts.max(1),
        Operation::Add | Operation::Remove | Operation::Events => parts,
    }
}

/// The name of the audience: the subscription's template with its placeholders replaced.
/// `segmenter_status` shows the same name.
pub fn name(template: &str, segment: &str, consumer: &str, target: &str) -> String {
    let name = template.replace("{{name}}", segment);
    name.replace("{{consumer}}", consumer).replace("{{target}}", target)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(json: serde_json::Value) -> Selection {
        Selection { fields: serde_json::from_value(json).expect("fields"), filter: None }
    }

    fn served(selection: &Selection) -> AudienceState {
        let served = Some(selection.clone());
        AudienceState { exists: true, served, is_ready: true, ..AudienceState::default() }
    }

    #[test]
    fn an_audience_is_created_updated_and_deleted() {
        let fields = Selection::default();
        let of = |past: &AudienceState, is_actual, mode, refreshed| {
            SyncAction::of(past, is_actual, &fields, mode, refreshed)
        };
        let unready = AudienceState::default();
        assert_eq!(of(&unready, true, Mode::Delta, false), None);
        assert_eq!(of(&unready, true, Mode::Delta, true), Some(SyncAction::Create));
        assert_eq!(of(&unready, false, Mode::Delta, true), None);
        let never = AudienceState { is_ready: true, ..AudienceState::default() };
        for refreshed in [false, true] {
            assert_eq!(of(&never, true, Mode::Delta, refreshed), Some(SyncAction::Create));
            assert_eq!(of(&never, false, Mode::Delta, refreshed), None);
            assert_eq!(
                of(&served(&fields), false, Mode::Delta, refreshed),
                Some(SyncAction::Delete)
            );
        }
        assert_eq!(of(&served(&fields), true, Mode::Delta, false), None);
        assert_eq!(of(&served(&fields), true, Mode::Delta, true), Some(SyncAction::Delta));
        assert_eq!(of(&served(&fields), true, Mode::Replace, false), None);
        assert_eq!(of(&served(&fields), true, Mode::Replace, true), Some(SyncAction::FullSync));
    }

    #[test]
    fn events_follow_whatever_was_missed() {
        let (fields, other) =
            (Selection::default(), fields(serde_json::json!({"hash_email": "e"})));
        let mode = Mode::Events(First::Silent);
        let of = |past: &AudienceState, is_actual, refreshed| {
            SyncAction::of(past, is_actual, &fields, mode, refreshed)
        };
        let begun = AudienceState { has_events: true, ..served(&fields) };
        let never = AudienceState { is_ready: true, ..AudienceState::default() };
        assert_eq!(of(&never, true, false), Some(SyncAction::Create));
        assert_eq!(of(&begun, true, false), None);
        assert_eq!(of(&begun, false, true), Some(SyncAction::Delete));
        let renamed = AudienceState { is_renamed: true, ..begun.clone() };
        assert_eq!(of(&renamed, true, false), Some(SyncAction::Rename));
        let failed = AudienceState { failed: Some(other.clone()), ..begun.clone() };
        for past in [
            served(&fields),
            AudienceState { has_events: true, ..served(&other) },
            AudienceState { is_behind: true, ..begun.clone() },
            AudienceState { resync_requested: true, ..begun.clone() },
            failed,
        ] {
            assert_eq!(of(&past, true, false), Some(SyncAction::Select));
            assert_eq!(of(&past, true, true), Some(SyncAction::Delta));
        }
        // From events to members.
        for refreshed in [false, true] {
            let members = SyncAction::of(&begun, true, &fields, Mode::Delta, refreshed);
            assert_eq!(members, Some(SyncAction::FullSync));
        }
        let all = Mode::Events(First::All);
        assert_eq!(SyncAction::Create.operations(mode), [Operation::Create]);
        assert_eq!(SyncAction::Create.operations(all), [Operation::Create, Operation::Events]);
        assert_eq!(SyncAction::Delta.operations(all), [Operation::Events]);
        assert_eq!(SyncAction::Select.operations(all), []);
        assert_eq!(SyncAction::Delta.with_all_members(mode), SyncAction::Delta);
        assert_eq!(SyncAction::Delta.with_all_members(Mode::Delta), SyncAction::FullSync);
        assert_eq!(messages(Operation::Events, 0, 10), 0);
        assert_eq!(messages(Operation::Events, 11, 10), 2);
    }

    #[test]
    fn a_schedule_hands_over_all_members_once_for_the_times_that_have_passed() {
        let at = |text: &str| -> Instant { text.parse().expect("a time") };
        let next = |schedule: &str, replaced: Option<&str>, now: &str| {
            let schedule = schedule.parse().expect("a schedule");
            next_resync(&schedule, Tz::Europe__Berlin, replaced.map(at), at(now))
        };
        let now = "2026-05-04T12:00:00Z";
        let monthly = "0 4 1 * *";
        assert_eq!(next(monthly, Some(now), now), Some(at("2026-06-01T02:00:00Z")));
        let missed = next(monthly, Some("2026-01-10T00:00:00Z"), now);
        assert_eq!(missed, Some(at("2026-02-01T03:00:00Z")));
        assert_eq!(next(monthly, None, now), Some(at(now)));
        // The clock was ahead.
        assert_eq!(next(monthly, Some("2027-01-01T00:00:00Z"), now), Some(at(now)));
        let never = "0 0 30 2 *";
        for replaced in [None, Some(now), Some("2027-01-01T00:00:00Z")] {
            assert_eq!(next(never, replaced, now), None);
        }
    }

    #[test]
    fn different_or_unknown_fields_need_a_full_sync() {
        let (old, new) = (Selection::default(), fields(serde_json::json!({"hash_email": "e"})));
        let of = |past: &AudienceState| SyncAction::of(past, true, &new, Mode::Delta, false);
        assert_eq!(of(&served(&old)), Some(SyncAction::FullSync));
        assert_eq!(of(&served(&new)), None);
        let unknown = AudienceState { exists: true, ..AudienceState::default() };
        assert_eq!(of(&unknown), Some(SyncAction::FullSync));
    }

    #[test]
    fn another_filter_needs_a_full_sync() {
        let filtered = |filter: Option<&str>| Selection {
            filter: filter.map(str::to_owned),
            ..Selection::default()
        };
        let of = |past: Option<&str>, now| {
            let past = served(&filtered(past));
            SyncAction::of(&past, true, &filtered(now), Mode::Delta, false)
        };
        assert_eq!(of(None, None), None);
        assert_eq!(of(Some("city = 1"), Some("city = 1")), None);
        for (past, now) in [(None, Some("true")), (Some("true"), None), (Some("a"), Some("b"))] {
            assert_eq!(of(past, now), Some(SyncAction::FullSync));
        }
        // A failure is tried again with another one.
        let failed = AudienceState { failed: Some(filtered(Some("a"))), ..served(&filtered(None)) };
        let of = |now| SyncAction::of(&failed, true, &filtered(now), Mode::Delta, false);
        assert_eq!(of(Some("a")), None);
        assert_eq!(of(None), Some(SyncAction::FullSync));
    }

    #[test]
    fn a_requested_resync_needs_a_full_sync() {
        let fields = Selection::default();
        let requested = AudienceState { resync_requested: true, ..served(&fields) };
        let of = |past: &AudienceState, is_actual, refreshed| {
            SyncAction::of(past, is_actual, &fields, Mode::Delta, refreshed)
        };
        for refreshed in [false, true] {
            assert_eq!(of(&requested, true, refreshed), Some(SyncAction::FullSync));
            assert_eq!(of(&requested, false, refreshed), Some(SyncAction::Delete));
        }
        let failed = AudienceState { failed: Some(fields.clone()), ..requested };
        assert_eq!(of(&failed, true, false), None);
        assert_eq!(of(&failed, true, true), Some(SyncAction::FullSync));
    }

    #[test]
    fn a_failure_is_retried_after_a_refresh_or_with_other_fields() {
        let (old, new) = (Selection::default(), fields(serde_json::json!({"hash_email": "e"})));
        let broken = |exists| AudienceState {
            exists,
            is_ready: true,
            failed: Some(old.clone()),
            ..AudienceState::default()
        };
        let of = |past: &AudienceState, fields, refreshed| {
            SyncAction::of(past, true, fields, Mode::Delta, refreshed)
        };
        assert_eq!(of(&broken(true), &old, false), None);
        assert_eq!(of(&broken(true), &old, true), Some(SyncAction::FullSync));
        assert_eq!(of(&broken(true), &new, false), Some(SyncAction::FullSync));
        assert_eq!(of(&broken(false), &old, false), None);
        assert_eq!(of(&broken(false), &new, false), Some(SyncAction::Create));
        // The end does not depend on the fields.
        let end = SyncAction::of(&broken(true), false, &old, Mode::Delta, false);
        assert_eq!(end, Some(SyncAction::Delete));
    }

    #[test]
    fn a_new_name_is_told() {
        let fields = Selection::default();
        let renamed = AudienceState { is_renamed: true, ..served(&fields) };
        let of = |mode, refreshed| SyncAction::of(&renamed, true, &fields, mode, refreshed);
        assert_eq!(of(Mode::Delta, false), Some(SyncAction::Rename));
        assert_eq!(of(Mode::Replace, false), Some(SyncAction::Rename));
        // What a refresh hands over has the name.
        assert_eq!(of(Mode::Delta, true), Some(SyncAction::Delta));
        assert_eq!(of(Mode::Replace, true), Some(SyncAction::FullSync));
        assert!(needs_rename(&renamed, SyncAction::Delta, 0));
        assert!(needs_rename(&renamed, SyncAction::Rename, 0));
        assert!(!needs_rename(&renamed, SyncAction::Delta, 1));
        assert!(!needs_rename(&served(&fields), SyncAction::Delta, 0));
        let ended = SyncAction::of(&renamed, false, &fields, Mode::Delta, false);
        assert_eq!(ended, Some(SyncAction::Delete));
    }

    #[test]
    fn what_was_held_back_needs_a_full_sync() {
        let fields = Selection::default();
        let behind = AudienceState { is_behind: true, ..served(&fields) };
        for refreshed in [false, true] {
            let of =
                |is_actual| SyncAction::of(&behind, is_actual, &fields, Mode::Delta, refreshed);
            assert_eq!(of(true), Some(SyncAction::FullSync));
            assert_eq!(of(false), Some(SyncAction::Delete));
        }
    }

    #[test]
    fn a_pause_and_too_few_members_hold_back() {
        let of = |is_paused, min, members| Hold::of::<()>(is_paused, min, || Ok(members));
        assert_eq!(of(false, None, 0), Ok(None));
        assert_eq!(of(true, Some(5), 9), Ok(Some(Hold::Paused)));
        assert_eq!(of(false, Some(5), 5), Ok(None));
        let few = Hold::TooFew { members: 4, min: 5 };
        assert_eq!(of(false, Some(5), 4), Ok(Some(few)));
        assert!(few.to_string().contains("4 members"));
        let one = Hold::TooFew { members: 1, min: 5 };
        assert!(one.to_string().contains("1 member,"));
        // Members are counted only for a limit.
        assert_eq!(Hold::of(true, Some(1), || Err(())), Ok(Some(Hold::Paused)));
        assert_eq!(Hold::of(false, None, || Err(())), Ok(None));
        assert_eq!(Hold::of(false, Some(1), || Err(())), Err(()));
    }

    #[test]
    fn messages_are_counted_in_batches() {
        assert_eq!(messages(Operation::Create, 0, 10), 1);
        assert_eq!(messages(Operation::Add, 0, 10), 0);
        assert_eq!(messages(Operation::Add, 10, 10), 1);
        assert_eq!(messages(Operation::Remove, 11, 10), 2);
        assert_eq!(messages(Operation::Replace, 0, 10), 1);
        assert_eq!(messages(Operation::Replace, 21, 10), 3);
    }

    #[test]
    fn placeholders_in_names_are_replaced() {
        let name = |template| name(template, "vip", "crm", "ads");
        assert_eq!(name("{{name}}"), "vip");
        assert_eq!(name("{{consumer}}: {{name}} {{other}} {{{target}}"), "crm: vip {{other}} {ads");
    }
}
