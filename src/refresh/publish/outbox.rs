//! The messages that follow from a refresh or a hand-over, written in its transaction. Their
//! payloads hold members from the delta or from the segment table.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use pgrx::datum::{TimestampWithTimeZone, Uuid};
use pgrx::prelude::*;
use pgrx::spi::SpiClient;

use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::catalog::sequence;
use crate::catalog::settings;
use crate::config::{Fields, Selection, SubscriptionParams};
use crate::error::Result;
use crate::pg::bgw::process;
use crate::pg::bgw::progress::Figure;
use crate::pg::clock::{self, Instant};
use crate::pg::exec::durable;
use crate::pg::exec::notification;
use crate::pg::exec::statement;
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction, unless_superseded};
use crate::pg::system_catalog;
use crate::refresh::delta::DeltaTarget;
use crate::refresh::publish::field_types;
use crate::refresh::publish::filter::{Audience, Filters};
use crate::refresh::publish::hold;
use crate::refresh::publish::names;
use crate::refresh::publish::payload::{
    Members, Parts, PayloadInput, check_fields, members_args, members_sql, table,
};
use crate::refresh::publish::record::{Given, WrittenMessages, record_failed, record_handed_over};
use crate::refresh::publish::stats::{PublishStats, warn_left_out};
use crate::refresh::publish::subscription::Subscription;
use segmenter_core::guards::DeltaStats;
use segmenter_core::reason::Reason;
use segmenter_core::sync_plan::{self, Operation, SyncAction};

/// The channel that consumers listen on.
const CHANNEL: &std::ffi::CStr = c"segmenter_outbox";

/// What subscriptions must have in common to share parts, which are built once for all of them: the
/// source of the members, whether they are events, the fields, the filter, and the size of a part.
type Group = (Members, bool, Fields, Option<String>, u32);

/// Whether a delta is handed over with columns that the refresher does not return, or members are
/// filtered: what is stored is read from the table.
pub fn reads_stored(side: &DeltaTarget<'_>, actions: &[(Subscription, SyncAction)]) -> bool {
    actions.iter().any(|(subscription, handover)| {
        let Selection { fields, filter } = &subscription.params.selection;
        filter.is_some()
            || *handover == SyncAction::Delta
                && fields.iter().any(|(name, _)| {
                    name != "id" && side.received_columns().all(|(_, column)| column.name != name)
                })
    })
}

/// Counts the messages that [`hand_over`] would write after the delta is applied.
pub fn count(
    source: &PayloadInput<'_>,
    actions: &[(Subscription, SyncAction)],
) -> Result<PublishStats> {
    let mut counted = PublishStats::default();
    let all = source.delta.as_ref().map_or(0, |(_, figures)| figures.coverage());
    let filters = Filters::analyse(source, pairs(actions));
    for (subscription, handover) in actions {
        let SubscriptionParams { mode, batch_size, selection, .. } = &subscription.params;
        let fields = &selection.fields;
        let handover = filters.action(source, subscription, *handover);
        let (handover, why) = field_types::action(source, subscription, handover);
        let why = why_all(subscription, why);
        let handover = &handover;
        match hold::hold_of(source, &filters, subscription, *handover) {
            Ok(None) => {}
            Ok(Some(hold)) => {
                counted.note_held(hold);
                continue;
            }
            Err(_) => {
                counted.failed += 1;
                continue;
            }
        }
        let count = || -> Result<u64> {
            let mut messages = 0;
            let filter = filters.of(subscription)?;
            let audience = filter
                .map(|filter| Audience::select(source, subscription, members_of(*handover), filter))
                .transpose()?;
            for &operation in handover.operations(*mode) {
                if !subscription.asks_for(*handover, source.reason) {
                    continue;
                }
                let members = match (handover, operation) {
                    (SyncAction::Delta, _) => {
                        let owner = table(source)?.owner;
                        let what = (Members::Changed, operation);
                        let args = members_args(source, subscription, what);
                        let count = || {
                            let members = (Members::Changed, audience.is_some());
                            let members = members_sql(source, members, operation, fields)?;
                            let count = match operation {
                                Operation::Events => &queries::refresh::publish::COUNT_EVENTS,
                                _ => &queries::refresh::publish::COUNT_MEMBERS,
                            };
                            let sql = source.set.sql(count, &[("members", &members)]);
                            statement::read_one::<i64>(&sql, &args)
                        };
                        source.set.as_table_owner(owner, count)?.unwrap_or_default() as u64
                    }
                    (SyncAction::Delete | SyncAction::Select | SyncAction::Rename, _) => 0,
                    _ => {
                        check_fields(table(source)?, fields)?;
                        audience.as_ref().and_then(|audience| audience.members).unwrap_or(all)
                    }
                };
                messages += sync_plan::messages(operation, members, *batch_size);
            }
            let is_renamed = subscription.needs_rename(*handover, messages);
            Ok(messages + u64::from(is_renamed))
        };
        match count() {
            Ok(messages) => {
                counted.messages += messages;
                counted.note_made_up(why);
            }
            Err(_) => counted.failed += 1,
        }
    }
    Ok(counted)
}

/// Writes the messages for the actions in `actions`. `client` is the SPI connection in which the delta
/// is registered. An error with one group of subscriptions does not affect the others: it is
/// recorded, and the next hand-over sends all members. The caller holds the segment's lock, and the
/// active snapshot sees the applied delta.
pub fn hand_over(
    client: &mut SpiClient<'_>,
    source: &PayloadInput<'_>,
    actions: Vec<(Subscription, SyncAction)>,
) -> Result<PublishStats> {
    let now = clock::now();
    let ids: Vec<Uuid> = actions.iter().map(|(subscription, _)| subscription.id).collect();
    if !ids.is_empty() {
        sequence::lift_messages(source.set, &ids)?;
    }
    let mut handed = PublishStats::default();
    let actions = free_names(client, source, actions, &mut handed)?;
    let filters = Filters::analyse(source, pairs(&actions));
    let actions = match actions.iter().any(|(subscription, _)| subscription.may_be_held()) {
        true => hold::hold_back(client, source, &filters, actions, (&mut handed, now))?,
        false => actions,
    };
    let mut groups: BTreeMap<Group, Vec<(Subscription, SyncAction)>> = BTreeMap::new();
    let mut reasons = HashMap::new();
    for (subscription, handover) in actions {
        if let Err(error) = filters.of(&subscription) {
            handed.failed += 1;
            record_failed(source, &subscription, now, &error.report())?;
            continue;
        }
        let handover = filters.action(source, &subscription, handover);
        let (handover, why) = field_types::action(source, &subscription, handover);
        let why = why_all(&subscription, why);
        reasons.extend(why.map(|why| (subscription.id, why)));
        let SubscriptionParams { batch_size, selection, .. } = &subscription.params;
        let Selection { fields, filter } = selection.clone();
        let members = members_of(handover);
        let group = (members, subscription.is_events(), fields, filter, *batch_size);
        groups.entry(group).or_default().push((subscription, handover));
    }

    let mut served = Vec::new();
    let mut given = Given::default();
    for (group, mut subscriptions) in groups {
        let written = in_subtransaction(OnSuccess::Commit, || {
            for (subscription, handover) in &mut subscriptions {
                if *handover == SyncAction::FullSync && subscription.is_resync() {
                    *handover = discard_waiting(client, source.set, subscription)?;
                }
            }
            write_group(client, source, now, (&group, &filters), &subscriptions)
        });
        match written {
            Ok(written) => {
                for ((subscription, handover), mut written) in
                    subscriptions.into_iter().zip(written)
                {
                    written.made_up = reasons.remove(&subscription.id);
                    handed.note_made_up(written.made_up.clone());
                    given.add(source, &subscription, handover, &written);
                    if subscription.was_held() {
                        hold::release(source.set, &subscription)?;
                    }
                    if let Some(left_out) = &written.left_out {
                        warn_left_out(&subscription, left_out);
                        handed.left_out.get_or_insert_with(|| left_out.clone());
                    }
                    let columns = filters.columns(&subscription);
                    // Another selection may hand over nothing at all.
                    let is_selected = subscription.is_events()
                        && subscription.change_by(handover, columns, None).is_some();
                    if written.messages > 0 || is_selected {
                        let action = (handover, columns);
                        record_handed_over(source, &subscription, action, now, &written)?;
                    }
                    if written.messages > 0 {
                        handed.messages += written.messages;
                        served.push(subscription);
                    } else {
                        field_types::note(source, &subscription)?;
                    }
                }
            }
            Err(error) => {
                handed.failed += subscriptions.len();
                let report = error.report();
                for (subscription, _) in &subscriptions {
                    record_failed(source, subscription, now, &report)?;
                }
            }
        }
    }
    let served: Vec<&Subscription> = served.iter().collect();
    update_subscription_state(client, source.set, &served)?;
    given.record(source.set, now)?;
    Ok(handed)
}

/// Why all members are handed over to a subscription in place of a delta. `retyped`: columns have other types.
fn why_all(subscription: &Subscription, retyped: Option<String>) -> Option<String> {
    let lost = || "messages were deleted before they were delivered".to_owned();
    retyped.or_else(|| subscription.has_lost().then(lost))
}

fn pairs(
    actions: &[(Subscription, SyncAction)],
) -> impl Iterator<Item = (&Subscription, SyncAction)> {
    actions.iter().map(|(subscription, action)| (subscription, *action))
}

/// The members that the messages of an action hold.
fn members_of(action: SyncAction) -> Members {
    match action {
        SyncAction::Delete | SyncAction::Select | SyncAction::Rename => Members::None,
        SyncAction::Create | SyncAction::FullSync | SyncAction::Recreate => Members::All,
        SyncAction::Delta => Members::Changed,
    }
}

/// The members in the messages of these actions after a refresh with these figures, of the one with most.
pub fn members_of_actions(actions: &[(Subscription, SyncAction)], figures: DeltaStats) -> u64 {
    let members = actions.iter().map(|(_, action)| match members_of(*action) {
        Members::None => 0,
        Members::All => figures.coverage(),
        Members::Changed => figures.added + figures.removed + figures.changed,
    });
    members.max().unwrap_or_default()
}

/// Frees the names that new audiences take. Those whose names are still taken are left for the next
/// hand-over.
fn free_names(
    client: &mut SpiClient<'_>,
    source: &PayloadInput<'_>,
    actions: Vec<(Subscription, SyncAction)>,
    handed: &mut PublishStats,
) -> Result<Vec<(Subscription, SyncAction)>> {
    let mut held_back = Vec::new();
    for (subscription, action) in &actions {
        if !matches!(action, SyncAction::Create | SyncAction::Recreate) {
            continue;
        }
        match names::free(client, source, subscription, &actions)? {
            Some(messages) => handed.messages += messages,
            None => held_back.push(subscription.id),
        }
    }
    handed.held_back += held_back.len();
    let ready =
        actions.into_iter().filter(|(subscription, _)| !held_back.contains(&subscription.id));
    Ok(ready.collect())
}

/// Makes a resync, which the consumer has requested or a schedule says: discards what waits for it. Returns
/// the action that is left: an audience whose `create` was discarded is created again, and on request also one
/// that is gone in the target system. By a schedule that would make another one unnoticed.
fn discard_waiting(
    client: &mut SpiClient<'_>,
    set: &RelationSet,
    subscription: &Subscription,
) -> Result<SyncAction> {
    durable::flush_at_commit();
    set.as_owner(|| {
        let sql = set.sql(&queries::refresh::publish::DISCARD_WAITING, &[]);
        let args = [subscription.id.into(), subscription.resync_of.is_some().into()];
        let rows = client.update(&sql, None, &args)?;
        let begins = if rows.is_empty() { None } else { rows.first().get_by_name("begins")? };
        Ok(match begins {
            Some(true) => SyncAction::Recreate,
            _ => SyncAction::FullSync,
        })
    })
}

/// Writes a message to each subscription that removes members at its consumer, whether or not the
/// consumer has them; or that says so, where it gets events. Members are given as JSON texts. Returns the
/// number of messages.
pub fn hand_over_removals(
    client: &mut SpiClient<'_>,
    source: &PayloadInput<'_>,
    removals: &[(Subscription, Vec<String>)],
) -> Result<u64> {
    let now = clock::now();
    let ids: Vec<Uuid> = removals.iter().map(|(subscription, _)| subscription.id).collect();
    if !ids.is_empty() {
        sequence::lift_messages(source.set, &ids)?;
    }
    let (mut messages, mut handed_over) = (Vec::new(), Vec::new());
    for (subscription, members) in removals {
        let reason = Some(Reason::Erased);
        let mut written =
            WrittenMessages { is_erasure: true, reason, ..WrittenMessages::default() };
        let parts = Parts::given(members)?;
        let operation = match subscription.has_events() {
            true => Operation::Events,
            false => Operation::Remove,
        };
        write(client, source, now, subscription, operation, Some(&parts), &mut written)?;
        messages.push(written.messages as i64);
        handed_over.push(written.members());
    }
    let served: Vec<&Subscription> =
        removals.iter().map(|(subscription, _)| subscription).collect();
    update_subscription_state(client, source.set, &served)?;
    if !ids.is_empty() {
        let args = [ids.into(), messages.clone().into(), handed_over.into()];
        source.set.write(&queries::refresh::publish::FORGET_MEMBERS, &args)?;
    }
    Ok(messages.iter().sum::<i64>() as u64)
}

fn write_group(
    client: &mut SpiClient<'_>,
    source: &PayloadInput<'_>,
    now: Instant,
    ((members, _, fields, _, batch_size), filters): (&Group, &Filters),
    subscriptions: &[(Subscription, SyncAction)],
) -> Result<Vec<WrittenMessages>> {
    let written = subscriptions.iter().map(|(subscription, handover)| WrittenMessages {
        reason: subscription.reason_of(*handover, source.reason),
        ..WrittenMessages::default()
    });
    let mut written: Vec<WrittenMessages> = written.collect();
    // The segment, its owner and the filter are the same for all.
    let Some((first, _)) = subscriptions.first() else { return Ok(written) };
    let filter = filters.of(first)?;
    let audience = filter.map(|filter| Audience::select(source, first, *members, filter));
    let audience = audience.transpose()?;
    // Each action has one or two operations, counted here from the end. At the same position they
    // concern the same members, so the parts are shared.
    for place in [1, 0] {
        let mut parts = None;
        for ((subscription, handover), written) in subscriptions.iter().zip(&mut written) {
            let operations = handover.operations(subscription.params.mode);
            let Some(&operation) = operations.iter().rev().nth(place) else { continue };
            if !subscription.asks_for(*handover, source.reason) {
                continue;
            }
            if operation.has_members() && *members != Members::None && parts.is_none() {
                let members = (*members, operation);
                let is_filtered = audience.is_some();
                let built =
                    Parts::build(source, subscription, members, fields, *batch_size, is_filtered)?;
                parts = Some(built);
            }
            if let Some(parts) = parts.as_ref().filter(|_| operation.has_members()) {
                written.note(*members, operation, parts);
            }
            write(client, source, now, subscription, operation, parts.as_ref(), written)?;
        }
    }
    if let (Some(filter), Some(growth), Members::Changed) =
        (filter, audience.map(|audience| audience.growth), members)
    {
        for ((subscription, _), written) in subscriptions.iter().zip(&mut written) {
            let after = subscription.served_members.and_then(|it| it.checked_add_signed(growth));
            written.audience = match after {
                Some(after) => Some(after),
                // It was not known how many there were before.
                None => Audience::select(source, subscription, Members::All, filter)?.members,
            };
        }
    }
    for ((subscription, handover), written) in subscriptions.iter().zip(&mut written) {
        if subscription.needs_rename(*handover, written.messages) {
            let operation = match subscription.is_events() {
                true => Operation::Events,
                false => Operation::Add,
            };
            insert(client, source, now, subscription, operation, (1, NO_MEMBERS), written)?;
        }
    }
    Ok(written)
}

/// Writes the messages of one operation: one for each part, or one message without members.
pub(super) fn write(
    client: &mut SpiClient<'_>,
    source: &PayloadInput<'_>,
    now: Instant,
    subscription: &Subscription,
    operation: Operation,
    parts: Option<&Parts>,
    written: &mut WrittenMessages,
) -> Result<()> {
    let parts = parts.filter(|parts| operation.has_members() && parts.members > 0);
    let members = parts.map_or(0, |parts| parts.members);
    let count = match parts {
        Some(parts) => parts.count(),
        None => sync_plan::messages(operation, 0, subscription.params.batch_size),
    };
    let relation = if parts.is_some() { "segmenter_parts" } else { NO_MEMBERS };
    if count > 0 {
        insert(client, source, now, subscription, operation, (count, relation), written)?;
    }
    match operation {
        Operation::Add => written.counts.added = Some(members as i64),
        Operation::Remove => written.counts.removed = Some(members as i64),
        Operation::Replace => written.counts.coverage = Some(members as i64),
        Operation::Events => written.events += members,
        Operation::Create | Operation::Delete => {}
    }
    Ok(())
}

/// One part without members, as a relation.
const NO_MEMBERS: &str = "(select 1 as part, 0 as members, '[]'::pg_catalog.jsonb as payload)";

/// Writes `count` messages, the rows of a relation of parts.
fn insert(
    client: &mut SpiClient<'_>,
    source: &PayloadInput<'_>,
    now: Instant,
    subscription: &Subscription,
    operation: Operation,
    (count, relation): (u64, &str),
    written: &mut WrittenMessages,
) -> Result<()> {
    durable::flush_at_commit();
    let available = subscription.available_at(now).map(clock::timestamp);
    let args = [
        clock::timestamp(now).into(),
        available.unwrap_or(TimestampWithTimeZone::positive_infinity()).into(),
        subscription.consumer_id.into(),
        subscription.id.into(),
        subscription.segment.into(),
        source.run_id.into(),
        operation.as_str().into(),
        (count as i32).into(),
        subscription.segment_name.as_str().into(),
        subscription.audience.as_str().into(),
        subscription.target.as_str().into(),
        subscription.external_id.as_deref().into(),
        written.is_erasure.into(),
        written.reason.map(Reason::as_str).into(),
        (operation == Operation::Events).then(|| source.set.timezone()).into(),
    ];
    source.set.as_owner(|| {
        client
            .update(
                &source
                    .set
                    .sql(&queries::refresh::publish::INSERT_MESSAGES, &[("parts", relation)]),
                None,
                &args,
            )
            .map(drop)
    })?;
    written.messages += count;
    Figure::messages().add(count);
    Ok(())
}

/// Creates missing cursors, marks the subscriptions as queued, and wakes their consumers and the
/// background workers.
pub(super) fn update_subscription_state(
    client: &mut SpiClient<'_>,
    set: &RelationSet,
    served: &[&Subscription],
) -> Result<()> {
    if served.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = served.iter().map(|subscription| subscription.id).collect();
    let names: BTreeSet<&str> = served.iter().map(|served| served.consumer.as_str()).collect();
    let is_pushed = served.iter().any(|subscription| subscription.is_pushed);
    announce(client, set, &ids, names, is_pushed)
}

/// The same for subscriptions by their ids, with the names of their consumers, and whether workers deliver
/// to any of these.
pub fn announce(
    client: &mut SpiClient<'_>,
    set: &RelationSet,
    ids: &[Uuid],
    consumers: BTreeSet<&str>,
    is_pushed: bool,
) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    queue(client, set, ids)?;
    notify(consumers);
    if is_pushed { wake_workers(set) } else { Ok(()) }
}

/// Makes subscriptions ones whose messages are delivered.
pub fn queue(client: &mut SpiClient<'_>, set: &RelationSet, ids: &[Uuid]) -> Result<()> {
    set.as_owner(|| {
        for query in
            [&queries::refresh::publish::INSERT_CURSORS, &queries::refresh::publish::MARK_QUEUED]
        {
            client.update(&set.sql(query, &[]), None, &[ids.to_vec().into()])?;
        }
        Ok(())
    })
}

/// The size in bytes of the messages that one call deletes at most; the next call deletes the rest.
const PRUNED_AT_ONCE: i64 = 64 << 20;

/// Deletes messages that were delivered longer than `segmenter.outbox_retention` ago. Returns
/// whether more messages may be left to delete.
pub fn prune(set: &RelationSet) -> Result<bool> {
    if process::is_in_recovery() {
        return Ok(false);
    }
    let Some(retention) = settings::outbox_retention() else { return Ok(false) };
    let Some(before) = clock::now().checked_sub_signed(retention) else { return Ok(false) };
    let args = [clock::timestamp(before).into(), PRUNED_AT_ONCE.into()];
    set.as_owner(|| {
        let old = set.sql(&queries::refresh::publish::FIND_DELIVERED, &[]);
        // The search runs read-only: no transaction id is assigned where there is nothing to
        // delete.
        let old = Spi::connect(|_| statement::read_one::<Vec<i64>>(&old, &args))?;
        let Some(old) = old.filter(|old| !old.is_empty()) else { return Ok(false) };
        unless_superseded(|| {
            let sql = set.sql(&queries::refresh::publish::DELETE_MESSAGES, &[]);
            Ok(Spi::run_with_args(&sql, &[old.into()])?)
        })
    })
}

/// Notifies consumers by their names.
pub fn notify<'a>(consumers: impl IntoIterator<Item = &'a str>) {
    consumers.into_iter().for_each(|consumer| notification::send(CHANNEL, consumer));
}

/// Makes the scheduler check for messages that the background workers deliver.
pub fn wake_workers(set: &RelationSet) -> Result<()> {
    system_catalog::invalidate(set.outbox());
    Ok(())
}
