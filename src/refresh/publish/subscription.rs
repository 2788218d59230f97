//! Subscriptions: their config, what was handed over to them, and which action is pending.

use std::collections::BTreeMap;

use chrono_tz::Tz;
use pgrx::datum::{TimestampWithTimeZone, Uuid};
use pgrx::prelude::*;
use pgrx::spi::SpiHeapTupleData;
use serde::{Deserialize, Serialize};

use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::config::{self, Fields, Mode, Selection, Subject, SubscriptionParams, Updater};
use crate::error::{Error, Result, emit_warning};
use crate::pg::clock::{self, Instant};
use crate::pg::exec::kept::Kept;
use crate::pg::format::json::JsonbText;
use crate::refresh::publish::filter::ColumnTypes;
use segmenter_core::reason::Reason;
use segmenter_core::schedule::Schedule;
use segmenter_core::sync_plan::{self, AudienceState, Lost, SyncAction};

/// A subscription, with all that writing its messages needs.
pub struct Subscription {
    pub id: Uuid,
    pub segment: Uuid,
    pub segment_name: String,
    pub segment_owner: pg_sys::Oid,
    pub target: String,
    pub consumer_id: Uuid,
    pub consumer: String,
    /// Whether the background workers deliver its messages (the updater is not `pull`).
    pub is_pushed: bool,
    /// The audience's name.
    pub audience: String,
    pub external_id: Option<String>,
    pub params: SubscriptionParams,
    schedule: Option<Schedule>,
    /// The time zone of its schedules.
    zone: Tz,
    /// When all members are due again by its schedule; none: never.
    next_resync: Option<Instant>,
    past: AudienceState,
    /// How far it is known what the consumer has of what was held back; none: nothing was.
    pub withheld: Option<Withheld>,
    /// Whether changes were held back when it was last looked at.
    was_held: bool,
    /// Whether they were with the same params.
    is_held_so: bool,
    /// The columns that the filter of the last hand-over used.
    served_columns: Option<ColumnTypes>,
    /// The types of the columns that were handed over last; none: not known.
    pub served_types: Option<ColumnTypes>,
    /// The members that it has been given and not been taken, with those that were left out; none: not
    /// known.
    pub served_members: Option<u64>,
    /// The audience's name in the last message; none: not known.
    handed_audience: Option<String>,
    is_actual: bool,
    /// The consumer's request for a resync that was not made yet, by its time.
    pub resync_of: Option<TimestampWithTimeZone>,
}

/// How far it is known what the consumer has of members that changed while changes are held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Withheld {
    /// It is recorded.
    Known,
    Unknown,
}

impl Withheld {
    pub fn as_str(self) -> &'static str {
        match self {
            Withheld::Known => "known",
            Withheld::Unknown => "unknown",
        }
    }
}

/// A filter as it is recorded with what was handed over.
#[derive(Serialize, Deserialize)]
struct ServedFilter {
    #[serde(rename = "where")]
    filter: String,
    columns: ColumnTypes,
}

impl Subscription {
    /// The action that the subscription requires, after a refresh or without one; none: no action.
    pub fn pending_action(&self, refreshed: bool) -> Option<SyncAction> {
        let SubscriptionParams { mode, selection, .. } = &self.params;
        let action = SyncAction::of(&self.past, self.is_actual, selection, *mode, refreshed)?;
        // Whether what was held back still is can change with a refresh or other params; a pause ends with
        // other params. The end of an audience is not held back.
        let stays = !refreshed && (self.params.is_paused || self.is_held_already());
        (!stays || action == SyncAction::Delete).then_some(action)
    }

    /// Whether it, its segment and its consumer are active.
    pub fn is_actual(&self) -> bool {
        self.is_actual
    }

    /// Whether nothing is handed over, because the segment was never refreshed successfully.
    pub fn is_unready(&self) -> bool {
        self.is_actual && !self.past.exists && !self.past.is_ready
    }

    /// The action that makes the audience correct whatever the consumer has; none: the subscription
    /// has ended, or its segment was never refreshed. `begins`: the consumer does not have the
    /// audience's `create` message yet.
    pub fn recreate_action(&self, begins: bool) -> Option<SyncAction> {
        (self.is_actual && !self.is_unready()).then_some(match self.past.exists && !begins {
            true => SyncAction::FullSync,
            false => SyncAction::Recreate,
        })
    }

    /// Whether the filter means the same as when the audience was handed over: the columns that it uses
    /// have the same types.
    pub fn is_served_by(&self, columns: &ColumnTypes) -> bool {
        self.served_columns.as_ref() == Some(columns)
    }

    /// The filter as it is recorded with what was handed over: that of the subscription. `columns`: those
    /// that it uses; none: it was not analysed, since no members are handed over.
    pub fn filter_to_record(&self, columns: Option<&ColumnTypes>) -> Option<serde_json::Value> {
        let filter = self.params.selection.filter.clone()?;
        let columns = columns.or(self.served_columns.as_ref()).cloned().unwrap_or_default();
        serde_json::to_value(ServedFilter { filter, columns }).ok()
    }

    /// Why an action is taken. `delta`: why the members of the delta have changed; none: there is no delta.
    pub fn reason_of(&self, action: SyncAction, delta: Option<Reason>) -> Option<Reason> {
        match action {
            SyncAction::Create => Some(Reason::FirstLoad),
            SyncAction::Delta => delta,
            // That is how it is handed over, for each refresh.
            SyncAction::FullSync
                if delta.is_some()
                    && self.params.mode == Mode::Replace
                    && self.pending_action(false).is_none() =>
            {
                delta
            }
            SyncAction::FullSync | SyncAction::Recreate => Some(Reason::Resync),
            SyncAction::Select | SyncAction::Rename | SyncAction::Delete => None,
        }
    }

    /// Whether what happens to members is handed over, not the members.
    pub fn is_events(&self) -> bool {
        self.params.mode.is_events()
    }

    /// Whether events were handed over last: the consumer has no members.
    pub fn has_events(&self) -> bool {
        self.past.has_events
    }

    /// Whether the subscription asks for events with a reason. What is said of those who are members at
    /// the first hand-over is another choice.
    pub fn asks_for(&self, action: SyncAction, reason: Option<Reason>) -> bool {
        match (&self.params.reasons, reason) {
            (Some(reasons), Some(reason)) if action == SyncAction::Delta => {
                reasons.contains(&reason)
            }
            _ => true,
        }
    }

    /// What was handed over once the action is, if that is not recorded already: whether there is an
    /// audience. Its fields, whose columns have `types`, and its filter, which uses `columns`, are those of the
    /// subscription.
    pub fn change_by(
        &self,
        action: SyncAction,
        columns: Option<&ColumnTypes>,
        types: Option<&ColumnTypes>,
    ) -> Option<bool> {
        let exists = action != SyncAction::Delete;
        let past = &self.past;
        let is_same = past.exists == exists
            && past.failed.is_none()
            && !self.was_held()
            && !past.resync_requested
            && self.handed_audience.as_deref() == Some(self.audience.as_str())
            && past.served.as_ref() == Some(&self.params.selection)
            && past.has_events == self.is_events()
            && columns.is_none_or(|columns| self.is_served_by(columns))
            && types.is_none_or(|types| self.served_types.as_ref() == Some(types));
        (!is_same).then_some(exists)
    }

    /// Whether an action without any message needs one that carries the audience's new name.
    pub fn needs_rename(&self, action: SyncAction, messages: u64) -> bool {
        sync_plan::needs_rename(&self.past, action, messages)
    }

    /// Whether messages were deleted before they were delivered. Events are not made up for.
    pub fn has_lost(&self) -> bool {
        self.past.lost.is_some() && !self.is_events()
    }

    /// Whether it is not known which members the consumer has.
    pub fn is_unsure(&self) -> bool {
        self.past.failed.is_some() || self.withheld == Some(Withheld::Unknown)
    }

    /// Whether changes are held back, as far as it was looked at with these params.
    pub fn is_held_already(&self) -> bool {
        self.was_held && self.is_held_so
    }

    /// Whether changes were held back when it was last looked at.
    pub fn was_held(&self) -> bool {
        self.was_held || self.withheld.is_some()
    }

    /// Whether its params say when changes are held back.
    pub fn may_be_held(&self) -> bool {
        self.params.is_paused || self.params.min_members.is_some()
    }

    /// Whether changes are held back.
    pub fn is_held(&self) -> bool {
        self.params.is_paused || self.is_held_already()
    }

    /// Whether an audience was handed over, and its deletion was not.
    pub fn has_audience(&self) -> bool {
        self.past.exists
    }

    /// Which members were handed over last, and with which fields.
    pub fn served_selection(&self) -> &Selection {
        self.past.served.as_ref().unwrap_or(&self.params.selection)
    }

    /// The fields with which the members were handed over last.
    pub fn served_fields(&self) -> &Fields {
        &self.served_selection().fields
    }

    /// The time from which messages may be delivered: `now`, or the next time of the subscription's
    /// schedule; none: the schedule has no further time.
    pub fn available_at(&self, now: Instant) -> Option<Instant> {
        match &self.schedule {
            Some(schedule) => schedule.next_after(now, self.zone),
            None => Some(now),
        }
    }

    /// When it may require an action next because of its schedule of resyncs: all members are due again
    /// then, if they were not handed over before. None: other params come before that, or it is
    /// over.
    fn next_pending(&self, now: Instant) -> Option<Instant> {
        let schedule = self.params.resync.as_ref()?;
        match self.next_resync.filter(|at| *at > now) {
            _ if !self.is_actual || self.params.is_paused => None,
            None => schedule.next_after(now, self.zone),
            at => at,
        }
    }

    /// Whether all members are due again, and a `replace` takes the place of what waits: the consumer has
    /// requested a resync, or its schedule says so.
    pub fn is_resync(&self) -> bool {
        self.past.resync_requested
    }

    fn read(row: &SpiHeapTupleData<'_>, set: &RelationSet) -> Result<Self> {
        let missing = |column| move || Error::MissingValue(column);
        let text = |column: &str| Ok::<_, Error>(row.get_by_name::<String, _>(column)?);
        let fields = |column: &str| -> Result<Option<Fields>> {
            let json = row.get_by_name::<JsonbText, _>(column)?;
            Ok(json.and_then(|json| serde_json::from_str(&json.0).ok()))
        };
        let is =
            |column: &str| Ok::<_, Error>(row.get_by_name::<bool, _>(column)?.unwrap_or_default());
        let id =
            |column: &'static str| row.get_by_name::<Uuid, _>(column)?.ok_or_else(missing(column));

        let target = text("target")?.unwrap_or_default();
        let consumer = text("consumer")?.unwrap_or_default();
        let segment_name = text("segment")?.unwrap_or_default();
        let subject = Subject::Subscription(&target);
        let schedule = config::cron("cron", text("cron")?.as_deref(), subject)?;
        let zone = text("timezone")?;
        let zone = zone.as_deref().unwrap_or(set.timezone());
        let zone = config::timezone("timezone", Some(zone), subject)?.unwrap_or_default();
        let of_consumer = Subject::Consumer(&consumer);
        let served_by = config::parse("params", row.get_by_name("consumer_params")?, of_consumer)?;
        let served_by = config::consumer_params(served_by, of_consumer)?;
        let params = config::parse("params", row.get_by_name("params")?, subject)?;
        let params = config::subscription_params(params, subject)?;
        let resync_of = row.get_by_name::<TimestampWithTimeZone, _>("resync_of")?;
        let name = text("name")?.unwrap_or_default();
        let audience = sync_plan::name(&name, &segment_name, &consumer, &target);
        let served_filter: Option<ServedFilter> = row
            .get_by_name::<JsonbText, _>("last_filter")?
            .and_then(|json| serde_json::from_str(&json.0).ok());
        let (filter, served_columns) = match served_filter {
            Some(ServedFilter { filter, columns }) => (Some(filter), Some(columns)),
            None => (None, None),
        };
        let served_types = row
            .get_by_name::<JsonbText, _>("field_types")?
            .and_then(|json| serde_json::from_str(&json.0).ok());
        let selection =
            |fields: Option<Fields>, filter| fields.map(|fields| Selection { fields, filter });
        let members = row.get_by_name::<i64, _>("members")?;
        let left_out = row.get_by_name::<i64, _>("left_out")?.unwrap_or_default();
        let withheld = text("withheld")?.map(|withheld| match withheld.as_str() {
            "known" => Withheld::Known,
            _ => Withheld::Unknown,
        });
        let handed_audience = text("handed_audience")?;
        let is_other = |handed: &String| *handed != audience;
        let now = clock::now();
        let replaced = row.get_by_name::<TimestampWithTimeZone, _>("replaced_at")?;
        let replaced = replaced.map(clock::instant);
        let next_resync = params
            .resync
            .as_ref()
            .and_then(|schedule| sync_plan::next_resync(schedule, zone, replaced, now));
        Ok(Self {
            id: id("id")?,
            segment: id("segment_id")?,
            segment_owner: row.get_by_name("segment_owner")?.unwrap_or(pg_sys::InvalidOid),
            consumer_id: id("consumer_id")?,
            is_pushed: !matches!(served_by.updater, Updater::Pull),
            external_id: text("external_id")?,
            params,
            schedule,
            zone,
            next_resync,
            past: AudienceState {
                exists: is("has_audience")?,
                served: selection(fields("last_fields")?, filter),
                has_events: is("has_events")?,
                failed: selection(fields("failed_fields")?, text("failed_filter")?),
                resync_requested: resync_of.is_some() || next_resync.is_some_and(|at| at <= now),
                is_ready: is("is_ready")?,
                is_renamed: handed_audience.as_ref().is_some_and(is_other),
                is_behind: withheld.is_some(),
                lost: match (is("is_lost")?, is("is_known")?) {
                    (false, _) => None,
                    (true, true) => Some(Lost::Known),
                    (true, false) => Some(Lost::Unknown),
                },
            },
            withheld,
            was_held: text("held")?.is_some(),
            is_held_so: is("is_held_so")?,
            served_columns,
            served_types,
            served_members: members.and_then(|members| u64::try_from(members + left_out).ok()),
            audience,
            handed_audience,
            resync_of,
            is_actual: is("is_actual")?,
            segment_name,
            target,
            consumer,
        })
    }
}

/// Finds subscriptions: all, those to one segment, or one. With `reader`, only those to segments
/// whose owner it is a member of: that is for lists that a role asks for. What a segment's refresh
/// hands over does not depend on a role. A subscription whose config is not valid is left out, with
/// a WARNING.
pub fn find(
    set: &RelationSet,
    reader: Option<pg_sys::Oid>,
    segment: Option<Uuid>,
    only: Option<Uuid>,
) -> Result<Vec<Subscription>> {
    let args = [reader.into(), segment.into(), only.into()];
    // Each condition is a statement of its own, whose plan is kept.
    let which = match (segment, only) {
        (None, None) => "true",
        (Some(_), None) => "u.segment_id = $2",
        (None, Some(_)) => "u.id = $3",
        (Some(_), Some(_)) => "u.segment_id = $2 and u.id = $3",
    };
    let read = set.as_owner(|| {
        Spi::connect(|client| {
            let sql = &queries::refresh::publish::LIST_SUBSCRIPTIONS;
            let statement = Kept::new(set.sql(sql, &[("which", which)]));
            let rows = client.select(statement, None, &args)?;
            Ok::<_, Error>(rows.map(|row| Subscription::read(&row, set)).collect::<Vec<_>>())
        })
    })?;
    let mut subscriptions = Vec::with_capacity(read.len());
    for subscription in read {
        match subscription {
            Ok(subscription) => subscriptions.push(subscription),
            Err(error @ Error::Config(_)) => {
                emit_warning("a subscription was skipped", &error.report())
            }
            Err(error) => return Err(error),
        }
    }
    Ok(subscriptions)
}

/// What subscriptions require without a refresh.
pub struct Pending {
    /// The segments, id and name, with subscriptions that require an action.
    pub segments: BTreeMap<Uuid, String>,
    /// When more may do so as time passes.
    pub next: Option<Instant>,
}

impl Pending {
    pub fn find(set: &RelationSet, reader: Option<pg_sys::Oid>) -> Result<Self> {
        let now = clock::now();
        let mut pending = Self { segments: BTreeMap::new(), next: None };
        for subscription in find(set, reader, None, None)? {
            pending.next = pending.next.into_iter().chain(subscription.next_pending(now)).min();
            if subscription.pending_action(false).is_some() {
                pending.segments.insert(subscription.segment, subscription.segment_name);
            }
        }
        Ok(pending)
    }
}
