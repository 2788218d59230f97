//! What is recorded of hand-overs, and logged.

use pgrx::JsonB;
use pgrx::datum::{DatumWithOid, Uuid};
use pgrx::prelude::*;
use serde_json::{Value, json};

use crate::catalog::log::{self, Action, Entry, LogCounts, LogStatus};
use crate::catalog::queries;
use crate::catalog::query::Query;
use crate::catalog::relation_set::RelationSet;
use crate::config::{Selection, SubscriptionParams};
use crate::error::{Report, Result, emit_warning};
use crate::pg::clock::{self, Instant};
use crate::pg::format::members::LeftOut;
use crate::refresh::publish::field_types;
use crate::refresh::publish::filter::ColumnTypes;
use crate::refresh::publish::payload::{Members, Parts, PayloadInput};
use crate::refresh::publish::stats::describe;
use crate::refresh::publish::subscription::Subscription;
use segmenter_core::reason::Reason;
use segmenter_core::sync_plan::{Operation, SyncAction};

/// The messages written for one subscription.
#[derive(Default)]
pub(super) struct WrittenMessages {
    pub(super) messages: u64,
    pub(super) counts: LogCounts,
    /// The number of events in them.
    pub(super) events: u64,
    /// Why they are written.
    pub(super) reason: Option<Reason>,
    /// They hold data of an erased person.
    pub(super) is_erasure: bool,
    /// The number of all members, if the messages are about all.
    pub(super) all: Option<u64>,
    /// The number of members after the delta, if they are filtered.
    pub(super) audience: Option<u64>,
    /// How many more members are left out than before; where the messages are about all members, how
    /// many are.
    pub(super) more_left_out: i64,
    /// Members that should have been handed over, but were left out.
    pub(super) left_out: Option<LeftOut>,
    /// Why all members were handed over in place of a delta; none: they were not, or as usual.
    pub(super) made_up: Option<String>,
}

impl WrittenMessages {
    /// The number of members, or of events, in them.
    pub(super) fn members(&self) -> i64 {
        let LogCounts { added, removed, coverage, .. } = self.counts;
        let members: i64 = [added, removed, coverage].into_iter().flatten().sum();
        members + self.events as i64
    }

    /// Notes what of the members of an operation is left out. A member that cannot be removed by a
    /// message was never added by one.
    pub(super) fn note(&mut self, members: Members, operation: Operation, parts: &Parts) {
        let left_out = parts.left_out.count;
        if members == Members::All {
            self.all = Some(parts.members + left_out);
        }
        if operation == Operation::Remove {
            self.more_left_out -= left_out as i64;
        } else if left_out > 0 {
            self.more_left_out += left_out as i64;
            self.counts.invalid = Some(left_out as i64);
        }
        if operation != Operation::Remove && !parts.left_out.is_empty() {
            self.left_out = Some(parts.left_out.clone());
        }
    }
}

/// What subscriptions have been given: how many messages and members, and how many members they have now
/// (none: as many as before).
#[derive(Default)]
pub(super) struct Given {
    subscriptions: Vec<Uuid>,
    members: Vec<Option<i64>>,
    left_out: Vec<i64>,
    are_all: Vec<bool>,
    messages: Vec<i64>,
    handed_over: Vec<i64>,
}

impl Given {
    pub(super) fn add(
        &mut self,
        source: &PayloadInput<'_>,
        subscription: &Subscription,
        action: SyncAction,
        written: &WrittenMessages,
    ) {
        let coverage = source.delta.as_ref().map(|(_, figures)| figures.coverage());
        let members = match action {
            // Events give no members, and take none.
            _ if subscription.is_events() => None,
            SyncAction::Select | SyncAction::Rename => None,
            SyncAction::Delete => Some(0),
            SyncAction::Delta => written.audience.or(coverage),
            SyncAction::Create | SyncAction::FullSync | SyncAction::Recreate => written.all,
        };
        let members = members.map(|members| members as i64);
        let are_all = members.is_some() && action != SyncAction::Delta;
        self.note(subscription.id, (members, are_all), written);
    }

    /// Notes that a subscription has been written messages, and has so many members.
    pub(super) fn note(
        &mut self,
        subscription: Uuid,
        (members, are_all): (Option<i64>, bool),
        written: &WrittenMessages,
    ) {
        self.subscriptions.push(subscription);
        self.members.push(members);
        self.left_out.push(written.more_left_out);
        self.are_all.push(are_all);
        self.messages.push(written.messages as i64);
        self.handed_over.push(written.members());
    }

    pub(super) fn record(self, set: &RelationSet, now: Instant) -> Result<()> {
        if self.subscriptions.is_empty() {
            return Ok(());
        }
        let Self { subscriptions, members, left_out, are_all, messages, handed_over } = self;
        let args = [
            subscriptions.into(),
            members.into(),
            left_out.into(),
            are_all.into(),
            clock::timestamp(now).into(),
            messages.into(),
            handed_over.into(),
        ];
        set.write(&queries::refresh::publish::RECORD_MEMBERS, &args)
    }
}

/// Records what was handed over, if that is new, and logs it.
pub(super) fn record_handed_over(
    source: &PayloadInput<'_>,
    subscription: &Subscription,
    (action, columns): (SyncAction, Option<&ColumnTypes>),
    now: Instant,
    written: &WrittenMessages,
) -> Result<()> {
    let SubscriptionParams { mode, selection, .. } = &subscription.params;
    // The end of an audience and a new name have no members, whose table may not have been read.
    let table = source.table.as_ref().ok();
    let table = table.filter(|_| {
        !matches!(action, SyncAction::Delete | SyncAction::Rename | SyncAction::Select)
    });
    let types = table.map(|table| field_types::of(table, &selection.fields));
    if let Some(has_audience) = subscription.change_by(action, columns, types.as_ref()) {
        let types = types.as_ref().or(subscription.served_types.as_ref());
        let fields = JsonB(json!(selection.fields));
        let resync_of = subscription.resync_of;
        let args = [
            subscription.id.into(),
            has_audience.into(),
            fields.into(),
            resync_of.into(),
            subscription.audience.as_str().into(),
            subscription.filter_to_record(columns).map(JsonB).into(),
            types.map(|types| JsonB(json!(types))).into(),
            subscription.is_events().into(),
        ];
        run(source, &queries::refresh::publish::RECORD_HANDOVER, &args)?;
    }
    if written.messages == 0 {
        return Ok(());
    }
    let mut params = described(selection);
    params["operations"] = json!(action.operations(*mode));
    params["messages"] = json!(written.messages);
    if subscription.is_events() {
        params["events"] = json!(written.events);
    }
    let (status, counts) = (LogStatus::Ok, written.counts);
    let mut entry = entry(source, subscription, now, status, counts, None, params);
    let made_up = written.made_up.as_ref();
    let made_up = made_up.map(|why| format!("all members were handed over: {why}"));
    let left_out = written.left_out.as_ref().map(describe);
    let is_scheduled = matches!(action, SyncAction::FullSync | SyncAction::Recreate)
        && subscription.is_resync()
        && subscription.resync_of.is_none();
    let scheduled = is_scheduled.then(|| "all members were due again by resync_cron".to_owned());
    let remarks: Vec<_> = made_up.into_iter().chain(scheduled).chain(left_out).collect();
    let remarks = (!remarks.is_empty()).then(|| remarks.join("; "));
    entry.message = remarks.as_deref();
    entry.reason = written.reason;
    log::write(source.set, entry)
}

/// What a subscription selects, for the log.
pub(super) fn described(Selection { fields, filter }: &Selection) -> Value {
    match filter {
        Some(filter) => json!({ "fields": fields, "where": filter }),
        None => json!({ "fields": fields }),
    }
}

/// Records and logs that a hand-over failed.
pub(super) fn record_failed(
    source: &PayloadInput<'_>,
    subscription: &Subscription,
    now: Instant,
    report: &Report,
) -> Result<()> {
    let Subscription { consumer, target, segment_name, .. } = subscription;
    emit_warning(
        &format!(
            "segment \"{segment_name}\" was not handed over to \"{consumer}\" for \"{target}\""
        ),
        report,
    );
    let selection = &subscription.params.selection;
    let args = [
        subscription.id.into(),
        JsonB(json!(selection.fields)).into(),
        report.message.as_str().into(),
        selection.filter.as_deref().into(),
    ];
    run(source, &queries::refresh::publish::RECORD_FAILED_HANDOVER, &args)?;
    let params = described(selection);
    let (status, counts) = (LogStatus::Failed, LogCounts::default());
    let entry = entry(source, subscription, now, status, counts, Some(report), params);
    log::write(source.set, entry)
}

fn run(source: &PayloadInput<'_>, query: &Query, args: &[DatumWithOid<'_>]) -> Result<()> {
    source.set.as_owner(|| Ok(Spi::run_with_args(&source.set.sql(query, &[]), args)?))
}

pub(super) fn entry<'a>(
    source: &PayloadInput<'_>,
    subscription: &'a Subscription,
    began: Instant,
    status: LogStatus,
    counts: LogCounts,
    error: Option<&'a Report>,
    params: Value,
) -> Entry<'a> {
    Entry {
        run_id: Some(source.run_id),
        action: Action::HandOver,
        status,
        segment: (Some(subscription.segment), &subscription.segment_name),
        subscription: Some((subscription.id, &subscription.target)),
        counts,
        began,
        elapsed: (clock::now() - began).to_std().ok(),
        message: error.map(|report| report.message.as_str()),
        error,
        params,
        reason: None,
    }
}
