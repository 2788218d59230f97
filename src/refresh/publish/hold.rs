//! Changes that are held back: from a subscription that is paused, or whose audience would have fewer
//! members than `min_members`. What its consumer has of members that change meanwhile is recorded, so that
//! people whom a list excludes, or who are erased, are removed nevertheless.

use std::ffi::CStr;

use pgrx::prelude::*;
use pgrx::spi::SpiClient;
use serde_json::json;

use crate::catalog::log::{self, LogCounts, LogStatus};
use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::config::{Selection, Subject};
use crate::error::Result;
use crate::pg::clock::Instant;
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};
use crate::pg::exec::tuplestore::Relation;
use crate::refresh::delta::count_members;
use crate::refresh::publish::field_types;
use crate::refresh::publish::filter::{Audience, Filter, Filters};
use crate::refresh::publish::outbox::{self, update_subscription_state};
use crate::refresh::publish::payload::{
    self, Members, Origin, Parts, PayloadInput, segment_arg, table,
};
use crate::refresh::publish::record::{Given, WrittenMessages, described, entry, record_failed};
use crate::refresh::publish::stats::PublishStats;
use crate::refresh::publish::subscription::{Subscription, Withheld};
use segmenter_core::reason::Reason;
use segmenter_core::sync_plan::{Hold, Operation, SyncAction};

/// What consumers have of members that have changed.
const KEPT: &CStr = c"segmenter_kept";

/// Takes those out of `actions` from whose subscriptions changes are held back, and records what is held
/// back. The end of an audience is not.
pub fn hold_back(
    client: &mut SpiClient<'_>,
    source: &PayloadInput<'_>,
    filters: &Filters,
    actions: Vec<(Subscription, SyncAction)>,
    (handed, now): (&mut PublishStats, Instant),
) -> Result<Vec<(Subscription, SyncAction)>> {
    let (mut ready, mut held) = (Vec::new(), Vec::new());
    for (subscription, action) in actions {
        match in_subtransaction(OnSuccess::Commit, || {
            hold_of(source, filters, &subscription, action)
        }) {
            Ok(None) => ready.push((subscription, action)),
            Ok(Some(hold)) => held.push((subscription, hold)),
            Err(error) => {
                handed.failed += 1;
                record_failed(source, &subscription, now, &error.report())?;
            }
        }
    }
    for (_, hold) in &held {
        handed.note_held(*hold);
    }
    withhold_all(client, source, held, (handed, now))?;
    Ok(ready)
}

/// Why changes are held back from a subscription; none: they are not.
pub fn hold_of(
    source: &PayloadInput<'_>,
    filters: &Filters,
    subscription: &Subscription,
    action: SyncAction,
) -> Result<Option<Hold>> {
    let params = &subscription.params;
    let members = || audience_size(source, filters, subscription, action);
    match action {
        SyncAction::Delete => Ok(None),
        _ => Hold::of(params.is_paused, params.min_members, members),
    }
}

/// The number of members that the audience of a subscription should have.
fn audience_size(
    source: &PayloadInput<'_>,
    filters: &Filters,
    subscription: &Subscription,
    action: SyncAction,
) -> Result<u64> {
    let owner = subscription.segment_owner;
    let select = |members, filter| Audience::select(source, subscription, members, filter);
    match (filters.of(subscription)?, &source.delta) {
        (None, Some((_, figures))) => Ok(figures.coverage()),
        (None, None) => {
            let table = table(source)?;
            source.set.as_segment_owner(owner, || {
                Spi::connect(|_| count_members(source.set, table, subscription.segment))
            })
        }
        (Some(filter), _) => {
            let is_delta = filters.action(source, subscription, action) == SyncAction::Delta;
            if let Some(before) = subscription.served_members.filter(|_| is_delta) {
                let growth = select(Members::Changed, filter)?.growth;
                return Ok(before.saturating_add_signed(growth));
            }
            Ok(select(Members::All, filter)?.members.unwrap_or_default())
        }
    }
}

/// Has consumers remove people whom lists have gained, of whom the segment has no member any more: those
/// whom they have because changes are held back. `client` is the SPI connection of the relation
/// `segmenter_listed`. Returns the number of messages.
pub fn withdraw_listed(
    client: &mut SpiClient<'_>,
    source: &PayloadInput<'_>,
    subscriptions: Vec<Subscription>,
    now: Instant,
) -> Result<u64> {
    let mut handed = PublishStats::default();
    let mut withdrawn = Vec::new();
    for subscription in subscriptions {
        let written =
            in_subtransaction(OnSuccess::Commit, || withdraw(client, source, &subscription, now));
        match written {
            Ok(written) => withdrawn.push((subscription, written)),
            Err(error) => record_failed(source, &subscription, now, &error.report())?,
        }
    }
    finish(client, source, withdrawn, (&mut handed, now))?;
    Ok(handed.messages)
}

fn withhold_all(
    client: &mut SpiClient<'_>,
    source: &PayloadInput<'_>,
    held: Vec<(Subscription, Hold)>,
    (handed, now): (&mut PublishStats, Instant),
) -> Result<()> {
    let mut withdrawn = Vec::new();
    for (subscription, hold) in held {
        let mut withheld = None;
        if subscription.has_audience() && source.delta.is_some() {
            match source.origin {
                // The consumer has what the state says, not what the table had.
                Origin::Edited => withheld = Some(Withheld::Unknown),
                Origin::Refresh => {
                    let traced = in_subtransaction(OnSuccess::Commit, || {
                        trace(client, source, &subscription)
                    });
                    // What cannot be read is not known; it is handed over as all members later.
                    withheld = traced.unwrap_or(Some(Withheld::Unknown));
                }
                Origin::Exclusion => {
                    let written = in_subtransaction(OnSuccess::Commit, || {
                        withdraw(client, source, &subscription, now)
                    });
                    match written {
                        Ok(written) => {
                            record(source, &subscription, hold, None, now)?;
                            withdrawn.push((subscription, written));
                        }
                        Err(error) => {
                            handed.failed += 1;
                            record_failed(source, &subscription, now, &error.report())?;
                        }
                    }
                    continue;
                }
            }
        }
        record(source, &subscription, hold, withheld, now)?;
    }
    finish(client, source, withdrawn, (handed, now))
}

/// Records that changes are held back, and logs when that begins.
fn record(
    source: &PayloadInput<'_>,
    subscription: &Subscription,
    hold: Hold,
    withheld: Option<Withheld>,
    now: Instant,
) -> Result<()> {
    let why = hold.to_string();
    let withheld = withheld.map(Withheld::as_str);
    let args = [subscription.id.into(), why.as_str().into(), withheld.into()];
    source.set.write(&queries::refresh::publish::hold::RECORD_HOLD, &args)?;
    if subscription.is_held_already() {
        return Ok(());
    }
    let params = described(&subscription.params.selection);
    let counts = LogCounts::default();
    let mut entry = entry(source, subscription, now, LogStatus::Waiting, counts, None, params);
    let message = format!("changes are held back: {why}");
    entry.message = Some(&message);
    log::write(source.set, entry)
}

/// Records that nothing is held back any more.
pub fn release(set: &RelationSet, subscription: &Subscription) -> Result<()> {
    set.write(&queries::refresh::publish::hold::RELEASE, &[subscription.id.into()])
}

/// Records what the consumer has of the members that the delta changes. None: it changes nothing of the
/// audience.
fn trace(
    client: &mut SpiClient<'_>,
    source: &PayloadInput<'_>,
    subscription: &Subscription,
) -> Result<Option<Withheld>> {
    if subscription.withheld == Some(Withheld::Unknown) {
        return Ok(None);
    }
    if field_types::changed(source, subscription).is_some() {
        return Ok(Some(Withheld::Unknown));
    }
    let Selection { fields, .. } = subscription.served_selection();
    let audience = match served_filter(source, subscription)? {
        Served::All => None,
        Served::Unknown => return Ok(Some(Withheld::Unknown)),
        Served::By(filter) => {
            Some(Audience::select(source, subscription, Members::Changed, &filter)?)
        }
    };
    let kept = Relation::new(KEPT);
    // Of a changed member the first row counts, which has what the consumer has.
    for operation in [Operation::Remove, Operation::Add] {
        source.set.as_table_owner(table(source)?.owner, || {
            let sql = payload::kept_sql(source, audience.is_some(), operation, fields)?;
            kept.append(&sql, &segment_arg(subscription))
        })?;
    }
    if kept.rows() == 0 {
        return Ok(None);
    }
    source.set.as_owner(|| {
        let sql = source.set.sql(&queries::refresh::publish::hold::INSERT_KEPT, &[]);
        client.update(&sql, None, &[subscription.id.into()]).map(drop)
    })?;
    Ok(Some(Withheld::Known))
}

/// The filter that members were handed over with.
enum Served {
    /// There was none.
    All,
    By(Filter),
    /// It does not mean the same any more, or the delta does not show all that it depends on.
    Unknown,
}

fn served_filter(source: &PayloadInput<'_>, subscription: &Subscription) -> Result<Served> {
    let Some(text) = &subscription.served_selection().filter else { return Ok(Served::All) };
    let (table, Some((side, _))) = (table(source)?, &source.delta) else {
        return Ok(Served::Unknown);
    };
    let subject = Subject::Subscription(&subscription.target);
    let owner = subscription.segment_owner;
    let filter = Filter::analyse(source.set, (table, owner), text, subject)?;
    let is_same = filter.follows(side, table) && subscription.is_served_by(&filter.types(table));
    Ok(if is_same { Served::By(filter) } else { Served::Unknown })
}

/// Writes messages that remove people at the consumer whom lists have gained: those whom the delta removes,
/// as far as the consumer has them, and those whom it has because changes are held back.
fn withdraw(
    client: &mut SpiClient<'_>,
    source: &PayloadInput<'_>,
    subscription: &Subscription,
    now: Instant,
) -> Result<WrittenMessages> {
    let set = source.set;
    let (mut ids, mut members) = (Vec::new(), Vec::new());
    set.as_owner(|| {
        let removed = match source.delta {
            Some(_) => queries::refresh::publish::hold::IS_REMOVED.fragment(),
            None => "",
        };
        let sql = &queries::refresh::publish::hold::TAKE_LISTED;
        let sql = set.sql(sql, &[("removed", removed)]);
        for row in client.update(&sql, None, &[subscription.id.into()])? {
            ids.extend(row.get_by_name::<String, _>("id")?);
            members.extend(row.get_by_name::<String, _>("member")?);
        }
        Ok::<_, crate::error::Error>(())
    })?;
    let reason = source.reason.or(Some(Reason::Exclusion));
    let mut written = WrittenMessages { reason, ..WrittenMessages::default() };
    let mut removed = members.len() as u64;
    let size = subscription.params.batch_size as usize;
    for members in members.chunks(size.max(1)) {
        let parts = Parts::given(members)?;
        let operation = Operation::Remove;
        outbox::write(client, source, now, subscription, operation, Some(&parts), &mut written)?;
    }
    if source.delta.is_some() {
        let _audience = removed_members(source, subscription, ids)?;
        let Selection { fields, .. } = subscription.served_selection();
        let (what, size) = ((Members::Changed, Operation::Remove), subscription.params.batch_size);
        let parts = Parts::build(source, subscription, what, fields, size, true)?;
        written.note(what.0, what.1, &parts);
        outbox::write(client, source, now, subscription, what.1, Some(&parts), &mut written)?;
        removed += parts.members;
    }
    written.counts.removed = Some(removed as i64);
    Ok(written)
}

/// The members that the delta removes and that the consumer has, without those with the ids: the relation
/// `segmenter_audience`.
fn removed_members(
    source: &PayloadInput<'_>,
    subscription: &Subscription,
    ids: Vec<String>,
) -> Result<Relation> {
    let is_known = subscription.withheld != Some(Withheld::Unknown);
    let all = Audience::relation();
    let filtered = in_subtransaction(OnSuccess::Commit, || {
        let Served::By(filter) = served_filter(source, subscription)? else { return Ok(false) };
        if is_known {
            Audience::fill(&all, source, subscription, Members::Changed, &filter)?;
        }
        Ok(is_known)
    });
    source.set.as_owner(|| {
        // Rather too many: what the consumer does not have it cannot remove.
        if !filtered.unwrap_or_default() {
            all.clear();
            all.append(queries::refresh::publish::hold::LIST_REMOVED.text(), &[])?;
        }
        let others = Audience::relation();
        others.append(queries::refresh::publish::hold::LIST_OTHERS.text(), &[ids.into()])?;
        all.give_up_name();
        Ok(others)
    })
}

/// Logs the messages that were written for subscriptions from which changes are held back, and has their
/// consumers get them.
fn finish(
    client: &mut SpiClient<'_>,
    source: &PayloadInput<'_>,
    mut withdrawn: Vec<(Subscription, WrittenMessages)>,
    (handed, now): (&mut PublishStats, Instant),
) -> Result<()> {
    withdrawn.retain(|(_, written)| written.messages > 0);
    let mut given = Given::default();
    for (subscription, written) in &withdrawn {
        handed.messages += written.messages;
        let removed = written.counts.removed.unwrap_or_default();
        let before = subscription.served_members.and_then(|before| i64::try_from(before).ok());
        let members = before.map(|before| (before - removed).max(0));
        given.note(subscription.id, (members, false), written);
        let mut params = described(subscription.served_selection());
        params["operations"] = json!([Operation::Remove]);
        params["messages"] = json!(written.messages);
        let mut entry =
            entry(source, subscription, now, LogStatus::Ok, written.counts, None, params);
        entry.message = Some("people who are excluded are removed, though changes are held back");
        entry.reason = source.reason;
        log::write(source.set, entry)?;
    }
    let served: Vec<&Subscription> =
        withdrawn.iter().map(|(subscription, _)| subscription).collect();
    update_subscription_state(client, source.set, &served)?;
    given.record(source.set, now)
}
