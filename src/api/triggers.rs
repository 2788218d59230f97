//! The triggers of the config tables, which validate rows when they are written, and the triggers
//! of watched tables.

use std::ffi::CString;

use pgrx::datum::{TimestampWithTimeZone, Uuid};
use pgrx::heap_tuple::PgHeapTuple;
use pgrx::prelude::*;
use pgrx::{AllocatedByPostgres, AllocatedByRust};
use serde_json::Value;

use super::restored;
use super::written::{self, WrittenSegment, check_name_is_free, warn_of_consumer};
use crate::catalog::change_readers;
use crate::catalog::queries;
use crate::catalog::query::Query;
use crate::catalog::relation_set::{Relation, RelationSet, changes_of};
use crate::catalog::state;
use crate::config::readers;
use crate::config::segment_table::{self, Holder, Table};
use crate::config::{
    self, ConfigError, ConsumerParams, Fields, Incremental, Key, Refresher, Segment, SourceCheck,
    Subject, Updater,
};
use crate::delivery::consent::Parties;
use crate::error::{self, Error, Report, raise};
use crate::pg::bgw::activity;
use crate::pg::exec::durable;
use crate::pg::exec::lock;
use crate::pg::exec::role::{self, RegRole};
use crate::pg::exec::statement;
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};
use crate::pg::format::json::JsonbText;
use crate::pg::format::transition::{self, trigger_function};
use crate::pg::system_catalog;
use crate::refresh::incremental::gaps;
use crate::refresh::publish::payload;
use crate::refresh::publish::subscription::{self, Subscription};
use crate::refresh::reads;
use crate::refresh::segment_lock::acquire;
use segmenter_core::guards::Guards;

/// The longest payload of a notification, in bytes. A consumer is notified with its name.
const MAX_CONSUMER: usize = 7999;

type Row<'a> = PgHeapTuple<'a, AllocatedByPostgres>;
pub(super) type NewRow<'a> = PgHeapTuple<'a, AllocatedByRust>;

/// Before a segment is written: validates it, and sets its owner if none is given. Before it is
/// deleted: refuses that while it has subscriptions.
#[pg_trigger]
fn segmenter_check_segment<'a>(trigger: &'a PgTrigger<'a>) -> Result<Option<NewRow<'a>>, Error> {
    if matches!(trigger.op()?, PgTriggerOperation::Delete) {
        return Ok(Some(check_deleted(trigger, true).unwrap_or_else(|error| raise(error))));
    }
    Ok(Some(checked(trigger, check_segment)))
}

/// After a segment is written: attaches its table to the mart, or detaches it.
#[pg_trigger]
fn segmenter_register_segment<'a>(trigger: &'a PgTrigger<'a>) -> Result<Option<NewRow<'a>>, Error> {
    unless_early(trigger, register_segment);
    Ok(None)
}

/// After segments, consumers or subscriptions are written: invalidates the segments' relation, so
/// that the scheduler reads the config again.
#[pg_trigger]
fn segmenter_notice_segments<'a>(trigger: &'a PgTrigger<'a>) -> Result<Option<NewRow<'a>>, Error> {
    unless_early(trigger, notice_segments);
    Ok(None)
}

/// Before a consumer is written: validates it. Before it is deleted: refuses that while it has
/// subscriptions.
#[pg_trigger]
fn segmenter_check_consumer<'a>(trigger: &'a PgTrigger<'a>) -> Result<Option<NewRow<'a>>, Error> {
    if matches!(trigger.op()?, PgTriggerOperation::Delete) {
        return Ok(Some(check_deleted(trigger, false).unwrap_or_else(|error| raise(error))));
    }
    Ok(Some(checked(trigger, check_consumer)))
}

/// Before a subscription is written: validates it, and checks that both parties agree. Before it is
/// deleted: warns if the consumer still has the audience. With the argument `delivery`: checks that
/// the columns are written by a role that acts for the consumer.
#[pg_trigger]
fn segmenter_check_subscription<'a>(
    trigger: &'a PgTrigger<'a>,
) -> Result<Option<NewRow<'a>>, Error> {
    if matches!(trigger.op()?, PgTriggerOperation::Delete) {
        notice_kept_audience(trigger).unwrap_or_else(|error| raise(error));
        return Ok(trigger.old().map(PgHeapTuple::into_owned));
    }
    if trigger.extra_args()?.first().is_some_and(|argument| argument == "delivery") {
        return Ok(Some(check_delivery(trigger).unwrap_or_else(|error| raise(error))));
    }
    Ok(Some(checked(trigger, check_subscription)))
}

/// After a watched table is written: captures the ids that were written.
#[pg_trigger]
fn segmenter_capture<'a>(trigger: &'a PgTrigger<'a>) -> Result<Option<NewRow<'a>>, Error> {
    capture(trigger).unwrap_or_else(|error| raise(error));
    Ok(None)
}

/// The row as it is written, checked by `check`.
fn checked<'a>(
    trigger: &'a PgTrigger<'a>,
    check: impl Fn(&'a PgTrigger<'a>) -> error::Result<NewRow<'a>>,
) -> NewRow<'a> {
    let row = match restored::is_early(trigger) {
        Ok(true) => new_row(trigger),
        Ok(false) => check(trigger),
        Err(error) => Err(error),
    };
    row.unwrap_or_else(|error| raise(error))
}

fn unless_early<'a>(
    trigger: &'a PgTrigger<'a>,
    work: impl Fn(&'a PgTrigger<'a>) -> error::Result<()>,
) {
    let done = restored::is_early(trigger)
        .and_then(|is_early| if is_early { Ok(()) } else { work(trigger) });
    done.unwrap_or_else(|error| raise(error));
}

fn capture(trigger: &PgTrigger<'_>) -> error::Result<()> {
    let data = trigger.trigger_data();
    let column = trigger.extra_args()?.into_iter().next();
    let column = column.and_then(|column| CString::new(column).ok()).unwrap_or_default();
    match trigger.level() {
        PgTriggerLevel::Statement => {
            transition::record(data, &column, changes_of(trigger_function(data)));
            Ok(())
        }
        // What is applied from another server fires no triggers of statements.
        PgTriggerLevel::Row if transition::is_for_replication(data) => {
            if system_catalog::applies_replication() {
                transition::mark_all(data, &column, changes_of(trigger_function(data)));
            }
            Ok(())
        }
        PgTriggerLevel::Row => Err(Error::Watch {
            problem: "segmenter_capture() is for triggers of statements".into(),
            hint: Some("Call segmenter_watch(), which makes them.".into()),
        }),
    }
}

fn notice_segments(trigger: &PgTrigger<'_>) -> error::Result<()> {
    let set = set_of(trigger)?;
    // What was ended must not come back after a crash.
    durable::flush_at_commit();
    let is_truncated = matches!(trigger.op()?, PgTriggerOperation::Truncate);
    if is_truncated && trigger.relation()?.oid() == set.segments() {
        state::delete_orphaned(&set, None)?;
    }
    system_catalog::invalidate(set.segments());
    Ok(())
}

/// The relation set that the trigger's table belongs to.
fn set_of(trigger: &PgTrigger<'_>) -> error::Result<RelationSet> {
    RelationSet::of(trigger.relation()?.oid())
}

fn check_segment<'a>(trigger: &'a PgTrigger<'a>) -> error::Result<NewRow<'a>> {
    let set = set_of(trigger)?;
    let mut row = new_row(trigger)?;
    let name = text(&row, "name")?.unwrap_or_default();
    let subject = Subject::Segment(&name);

    let has_taken = restored::take_owner(&mut row, subject)?;
    let refresher = config::refresher(json(&row, "refresh_params", subject)?, subject)?;
    config::guards(json(&row, "guards", subject)?, subject)?;
    let sources = config::sources(json(&row, "sources", subject)?, subject)?;
    check_sources(&sources, subject)?;
    check_name_and_period(trigger, &row, subject)?;
    config::cron("refresh_cron", text(&row, "refresh_cron")?.as_deref(), subject)?;
    config::timezone("refresh_timezone", text(&row, "refresh_timezone")?.as_deref(), subject)?;

    let caller = role::current();
    let old = trigger.old();
    match row.get_by_name::<pg_sys::Oid>("owner")? {
        None => {
            set.check_owner_can_act_as(caller)?;
            row.set_by_name("owner", RegRole(caller))?;
        }
        Some(owner) => {
            let before = old.as_ref().map(|old| old.get_by_name("owner")).transpose()?.flatten();
            check_member(&set, caller, before, owner, subject)?;
            if before != Some(owner)
                && !role::exists(owner)
                && !has_taken
                && !system_catalog::references_are_deferred()
            {
                return Err(Error::Config(ConfigError {
                    column: "owner",
                    subject: subject.to_string(),
                    problem: format!("role {owner} does not exist", owner = owner.to_u32()),
                    hint: None,
                }));
            }
            if before.is_some_and(|before| before != owner)
                && is_endless(row.get_by_name("actual_end")?)
                && let (Some(id), Some(table)) =
                    (row.get_by_name("id")?, row.get_by_name("table_name")?)
            {
                let holder = Holder { id, name: &name, owner };
                segment_table::check_visible(&set, table, holder)?;
            }
        }
    }
    if old.is_none() {
        check_new_id(&set, &row, caller, &name)?;
    }
    // Restored rows are as they were, and what they refer to may follow.
    let is_new = old.as_ref().is_none_or(|old| concerns_sql(old, &row).unwrap_or(true));
    if is_new && is_endless(row.get_by_name("actual_end")?) && !is_restored(&set) {
        let oid = |column| -> error::Result<pg_sys::Oid> {
            Ok(row.get_by_name(column)?.unwrap_or(pg_sys::InvalidOid))
        };
        if let Some(id) = row.get_by_name::<Uuid>("id")? {
            WrittenSegment {
                holder: Holder { id, name: &name, owner: oid("owner")? },
                table: oid("table_name")?,
                refresher: refresher.as_ref(),
                sources: &sources,
                is_automatic: row.get_by_name("refresh_auto")?.unwrap_or_default(),
            }
            .warn(&set);
        }
    }
    if let Some(old) = old {
        is_free(&set, &queries::config::SEGMENT_NAME_IS_TAKEN, &old, &row, subject)?;
        let (before, after) = (old.get_by_name::<Uuid>("id")?, row.get_by_name::<Uuid>("id")?);
        if before != after {
            return Err(Error::Config(ConfigError {
                column: "id",
                subject: subject.to_string(),
                problem: "it cannot be changed, since the members carry it".into(),
                hint: None,
            }));
        }
    }
    if let Some(Refresher::Incremental(incremental)) = &refresher {
        warn_of_gaps(&set, trigger, &row, incremental, subject)?;
    }
    record_reads(&set, trigger, &row, (refresher, sources))?;
    Ok(row)
}

/// Records what an active segment reads, when its row is written: the segments that it reads are kept
/// from then on. The next refresh records it again. Warns of sources that name no segment.
fn record_reads(
    set: &RelationSet,
    trigger: &PgTrigger<'_>,
    row: &NewRow<'_>,
    (refresher, sources): (Option<Refresher>, Vec<SourceCheck>),
) -> error::Result<()> {
    let is_actual = is_endless(row.get_by_name("actual_end")?);
    // In a dump, what is read may not be there yet, and is recorded already.
    if !is_actual || system_catalog::references_are_deferred() {
        return Ok(());
    }
    if let Some(old) = trigger.old() {
        let is_same = |column| -> error::Result<bool> {
            Ok(old.get_by_name::<JsonbText>(column)? == row.get_by_name::<JsonbText>(column)?)
        };
        let is_owned = old.get_by_name::<pg_sys::Oid>("owner")? == row.get_by_name("owner")?;
        if is_owned && is_same("refresh_params")? && is_same("sources")? {
            return Ok(());
        }
    }
    let (Some(id), Some(table), Some(owner)) =
        (row.get_by_name("id")?, row.get_by_name("table_name")?, row.get_by_name("owner")?)
    else {
        return Ok(());
    };
    let name = text(row, "name")?.unwrap_or_default();
    for source in &sources {
        let SourceCheck::Segment(source) = source else { continue };
        // It can be made later; the refresh fails until then.
        if Segment::find_bare(set, Key::Name(&source.segment))?.is_none() {
            let report = Error::UnknownSource(source.segment.clone()).report();
            let subject = Subject::Segment(&name);
            error::emit_warning(&format!("{subject} will not be refreshed"), &report);
        }
    }
    let segment = Segment {
        id,
        name,
        table,
        owner,
        refresher,
        guards: Guards::default(),
        sources,
        cron: None,
        timezone: None,
        actual: true,
    };
    state::record_reads(set, id, &reads::find(set, &segment).record()).map(drop)
}

/// Warns of what an incremental refresher does not notice, where the row comes to have it. Queries
/// that cannot be analysed now have no known gaps.
fn warn_of_gaps(
    set: &RelationSet,
    trigger: &PgTrigger<'_>,
    row: &NewRow<'_>,
    refresher: &Incremental,
    subject: Subject<'_>,
) -> error::Result<()> {
    let stays = match trigger.old() {
        Some(old) => {
            old.get_by_name::<JsonbText>("refresh_params")?
                == row.get_by_name::<JsonbText>("refresh_params")?
                && is_endless(old.get_by_name("actual_end")?)
        }
        None => false,
    };
    let owner = row.get_by_name::<pg_sys::Oid>("owner")?.unwrap_or(role::current());
    let is_read = is_endless(row.get_by_name("actual_end")?) && role::exists(owner);
    if stays || !is_read || system_catalog::references_are_deferred() {
        return Ok(());
    }
    for gap in gaps::find(set, owner, refresher).unwrap_or_default() {
        let code = PgSqlErrorCode::ERRCODE_WARNING;
        error::emit_warning(&subject.to_string(), &Report::new(code, gap.problem, Some(gap.hint)));
    }
    Ok(())
}

fn register_segment(trigger: &PgTrigger<'_>) -> error::Result<()> {
    let set = set_of(trigger)?;
    // When a dump is restored, the table is attached to the mart already, and has no index yet.
    let is_insert = matches!(trigger.op()?, PgTriggerOperation::Insert);
    if is_insert
        && system_catalog::references_are_deferred()
        && role::may_act_as(role::current(), set.owner)
    {
        return Ok(());
    }
    let old = trigger.old().map(|row| RegisteredRow::read(&row)).transpose()?.flatten();
    let is_delete = matches!(trigger.op()?, PgTriggerOperation::Delete);
    let new = match trigger.new() {
        Some(row) if !is_delete => RegisteredRow::read(&row)?,
        _ => None,
    };
    if let Some(old) = &old {
        let is_retired = old.actual && new.as_ref().is_some_and(|new| !new.actual);
        let what = if is_delete { "deleted" } else { "retired" };
        if is_delete || is_retired {
            readers::check_none(&set, (old.id, &old.name, old.table), what, role::current())?;
        }
    }
    if let (Some(old), Some(new)) = (&old, &new)
        && old.table != new.table
    {
        // A refresh must not write to the table at the same time.
        let _lock = acquire(&set, old.id, &old.name)?;
        check_moved(&set, old)?;
    }
    if let Some(old) = &old
        && new.as_ref().is_none_or(|new| new.table != old.table)
    {
        release(&set, old)?;
    }
    if let (Some(old), true) = (&old, is_delete) {
        state::delete_orphaned(&set, Some(old.id))?;
    }
    // The table of a segment that is retired stays as it is. A segment that is written retired gets
    // its table as an active one does: members are read from it, and erased there.
    let is_moved = old.as_ref().map(|old| old.table) != new.as_ref().map(|new| new.table);
    match new {
        Some(new) if new.actual || is_moved => register(&set, &new, is_insert),
        Some(new) => change_readers::forget(&set, Some(new.id)),
        None => Ok(()),
    }
}

/// Attaches a segment's table to the mart. Locking it requires rights on it, which are checked first.
fn register(set: &RelationSet, new: &RegisteredRow, is_new: bool) -> error::Result<()> {
    let caller = role::current();
    if !role::may_use_table(caller, new.table)? {
        let table = segment_table::name(set, new.table)?.unwrap_or_default();
        return Err(Error::NotTableOwner(table));
    }
    if !lock::lock_table(new.table) {
        return Err(Error::TableDropped(new.name.clone()));
    }
    let holder = Holder { id: new.id, name: &new.name, owner: new.owner };
    let table = Table::check(set, new.table, holder)?;
    table.register(set, holder, caller)?;
    // Rows with its id are those of a segment that was deleted, unless the caller could have written
    // them for it.
    if is_new && table.kind.shared && !is_free_to_take(set, &table, caller) {
        let holds_rows = set.as_table_owner(table.owner, || {
            segment_table::holds_rows_of(set, &table.name, &new.id)
        })?;
        if holds_rows {
            return Err(Error::IdTaken(new.name.clone()));
        }
    }
    Ok(())
}

/// Whether the rows of a table, whatever segment they are of, are the caller's to take.
fn is_free_to_take(set: &RelationSet, table: &Table, caller: pg_sys::Oid) -> bool {
    role::may_act_as(caller, set.owner) || role::owns_table(caller, table.oid)
}

/// Detaches the table that a segment has left, or warns that it stays.
fn release(set: &RelationSet, old: &RegisteredRow) -> error::Result<()> {
    if segment_table::release(set, old.table, &old.id)? {
        return Ok(());
    }
    let table = segment_table::name(set, old.table)?.unwrap_or_default();
    let mart = set.name().to_owned();
    let left = Error::NotReleased { table, mart }.report();
    error::emit_warning(&Subject::Segment(&old.name).to_string(), &left);
    Ok(())
}

fn check_consumer<'a>(trigger: &'a PgTrigger<'a>) -> error::Result<NewRow<'a>> {
    let set = set_of(trigger)?;
    let mut row = new_row(trigger)?;
    let name = text(&row, "name")?.unwrap_or_default();
    let subject = Subject::Consumer(&name);
    restored::take_roles(&mut row, subject)?;
    let params = config::consumer_params(json(&row, "params", subject)?, subject)?;
    check_name_and_period(trigger, &row, subject)?;
    if name.len() > MAX_CONSUMER {
        return Err(Error::Config(ConfigError {
            column: "name",
            subject: "the consumer".into(),
            problem: format!("it has {} bytes, more than {MAX_CONSUMER}", name.len()),
            hint: Some("NOTIFY sends the name, and its payload cannot be longer.".into()),
        }));
    }
    check_updater(&params, subject)?;
    let old = trigger.old();
    if let Some(role) = row.get_by_name::<pg_sys::Oid>("role")? {
        let before = old.as_ref().map(|old| old.get_by_name("role")).transpose()?.flatten();
        check_member(&set, role::current(), before, role, subject)?;
    }
    if let Some(old) = &old {
        is_free(&set, &queries::config::CONSUMER_NAME_IS_TAKEN, old, &row, subject)?;
    }
    if is_endless(row.get_by_name("actual_end")?) && !is_restored(&set) {
        warn_of_consumer(&set, &name, row.get_by_name("role")?, &params);
    }
    // A row that a dump brings has one: its database is another place.
    if row.get_by_name::<String>("home")?.is_none() {
        row.set_by_name("home", activity::place())?;
    }
    Ok(row)
}

/// Whether a dump is being restored by a role that may write any row of the set.
fn is_restored(set: &RelationSet) -> bool {
    system_catalog::references_are_deferred() && role::may_act_as(role::current(), set.owner)
}

/// Whether the row of a segment has other SQL, another owner or table than before, or is active or
/// automatic now.
fn concerns_sql(old: &Row<'_>, new: &NewRow<'_>) -> error::Result<bool> {
    for column in ["refresh_params", "sources"] {
        if old.get_by_name::<JsonbText>(column)? != new.get_by_name::<JsonbText>(column)? {
            return Ok(true);
        }
    }
    for column in ["owner", "table_name"] {
        if old.get_by_name::<pg_sys::Oid>(column)? != new.get_by_name::<pg_sys::Oid>(column)? {
            return Ok(true);
        }
    }
    Ok(old.get_by_name::<bool>("refresh_auto")? != new.get_by_name::<bool>("refresh_auto")?
        || !is_endless(old.get_by_name("actual_end")?))
}

/// Checks that the new name of a row, or that of a row that is active again, is free.
fn is_free(
    set: &RelationSet,
    taken: &Query,
    old: &Row<'_>,
    new: &NewRow<'_>,
    subject: Subject<'_>,
) -> error::Result<()> {
    let (Some(name), Some(id)) = (text(new, "name")?, new.get_by_name::<Uuid>("id")?) else {
        return Ok(());
    };
    let stays = is_endless(old.get_by_name("actual_end")?)
        && old.get_by_name::<String>("name")?.as_ref() == Some(&name);
    if stays || !is_endless(new.get_by_name("actual_end")?) {
        return Ok(());
    }
    check_name_is_free(set, taken, subject, (&name, id))
}

/// Before a segment or a consumer is deleted.
fn check_deleted<'a>(trigger: &'a PgTrigger<'a>, is_segment: bool) -> error::Result<NewRow<'a>> {
    let missing = || Error::Trigger(pgrx::trigger_support::PgTriggerError::NullTriggerData);
    let row = trigger.old().ok_or_else(missing)?.into_owned();
    let name = text(&row, "name")?.unwrap_or_default();
    let id = row.get_by_name::<Uuid>("id")?;
    let (subject, ids) = match is_segment {
        true => (Subject::Segment(&name), (id, None)),
        false => (Subject::Consumer(&name), (None, id)),
    };
    written::check_deleted(&set_of(trigger)?, subject, ids)?;
    Ok(row)
}

/// Checks the parameters of a consumer that workers serve.
fn check_updater(params: &ConsumerParams, subject: Subject<'_>) -> error::Result<()> {
    let timeout = match &params.updater {
        Updater::Pull => &None,
        Updater::Function(function) => &function.timeout,
        Updater::Http(http) => &http.timeout,
    };
    check_interval("params", "timeout", timeout, subject)
}

fn check_subscription<'a>(trigger: &'a PgTrigger<'a>) -> error::Result<NewRow<'a>> {
    let set = set_of(trigger)?;
    let row = new_row(trigger)?;
    let target = text(&row, "target")?.unwrap_or_default();
    let subject = Subject::Subscription(&target);
    let parties = parties(&set, &row)?;
    if let Some(old) = trigger.old()
        && is_ended(&old, &row)?
    {
        // Either party may end it, whether or not its config is valid.
        parties.check_ends(&set, subject)?;
        return Ok(row);
    }
    let params = config::subscription_params(json(&row, "params", subject)?, subject)?;
    check_name_and_period(trigger, &row, subject)?;
    check_target(trigger, &row, subject)?;
    if trigger.old().is_none() {
        check_status(&row, subject)?;
        let caller = role::current();
        // Others may not know which rows there are; and when a dump is restored, these may follow.
        if role::may_act_as(caller, set.owner) && !system_catalog::references_are_deferred() {
            parties.check_exist(&set, row.get_by_name("segment_id")?, subject)?;
        }
    }
    config::cron("cron", text(&row, "cron")?.as_deref(), subject)?;
    config::timezone("timezone", text(&row, "timezone")?.as_deref(), subject)?;
    let segment = row.get_by_name::<Uuid>("segment_id")?;
    if let Some(old) = trigger.old() {
        let stays = segment == old.get_by_name("segment_id")?
            && row.get_by_name::<Uuid>("id")? == old.get_by_name("id")?
            && row.get_by_name::<Uuid>("consumer_id")? == old.get_by_name("consumer_id")?;
        if !stays {
            return Err(Error::Config(ConfigError {
                column: "segment_id, consumer_id or id",
                subject: subject.to_string(),
                problem: "it cannot be changed, since the audience is identified by it".into(),
                hint: Some("End this subscription and make another.".into()),
            }));
        }
    }
    // Only changed parameters are checked. So if the fields have become invalid, other columns can
    // still be changed, and the subscription can be ended.
    let are_new = match trigger.old() {
        Some(old) => {
            let before = old.get_by_name::<JsonbText>("params")?;
            before != row.get_by_name::<JsonbText>("params")?
        }
        None => true,
    };
    if let Some(segment) = segment
        && are_new
    {
        check_fields(&set, segment, &params.fields, subject)?;
    }
    // A new row is up to the policies.
    if trigger.old().is_some() {
        parties.check_config(&set, subject)?;
    }
    if is_endless(row.get_by_name("actual_end")?) {
        parties.check_consent(&set)?;
    }
    if trigger.old().is_none() {
        let status = text(&row, "status")?;
        let is_set = status.is_some_and(|status| status != "not uploaded");
        for (column, is_set) in
            [("status", is_set), ("external_id", text(&row, "external_id")?.is_some())]
        {
            if is_set {
                parties.check_delivery(&set, column, subject)?;
            }
        }
    }
    Ok(row)
}

/// Checks the target of a subscription, and the placeholders in the name of its audience.
fn check_target(
    trigger: &PgTrigger<'_>,
    row: &NewRow<'_>,
    subject: Subject<'_>,
) -> error::Result<()> {
    if !system_catalog::references_are_deferred() {
        check_text(trigger, row, "target", subject)?;
    }
    let name = text(row, "name")?.unwrap_or_default();
    let old = trigger.old().map(|old| old.get_by_name::<String>("name")).transpose()?.flatten();
    if old.as_ref() != Some(&name)
        && let Some(unknown) = config::unknown_placeholder(&name)
    {
        error::emit(
            PgLogLevel::WARNING,
            format!(
                "{{{{{unknown}}}}} in the name of {subject} is no placeholder, and stays as it is"
            ),
            Some("The placeholders are {{name}} (the segment's), {{consumer}} and {{target}}."),
        );
    }
    Ok(())
}

fn check_status(row: &NewRow<'_>, subject: Subject<'_>) -> error::Result<()> {
    match text(row, "status")?.as_deref() {
        None | Some("not uploaded" | "queued" | "uploaded" | "failed") => Ok(()),
        Some(_) => Err(Error::Check {
            column: "status",
            subject: subject.to_string(),
            problem: "it must be not uploaded, queued, uploaded or failed",
        }),
    }
}

/// The status and the external id of a subscription are what deliveries say.
fn check_delivery<'a>(trigger: &'a PgTrigger<'a>) -> error::Result<NewRow<'a>> {
    let row = new_row(trigger)?;
    let target = text(&row, "target")?.unwrap_or_default();
    check_status(&row, Subject::Subscription(&target))?;
    // Our own statements run as the set's owner: nothing is looked up for them.
    if system_catalog::owner_of(&trigger.relation()?) == role::current() {
        return Ok(row);
    }
    let set = set_of(trigger)?;
    let is_changed = |column| -> error::Result<bool> {
        let before = trigger.old().map(|old| old.get_by_name::<String>(column)).transpose()?;
        Ok(before.flatten() != text(&row, column)?)
    };
    let parties = parties(&set, &row)?;
    for column in ["status", "external_id"] {
        if is_changed(column)? {
            parties.check_delivery(&set, column, Subject::Subscription(&target))?;
        }
    }
    Ok(row)
}

fn parties(set: &RelationSet, row: &NewRow<'_>) -> error::Result<Parties> {
    Parties::find(set, row.get_by_name("segment_id")?, row.get_by_name("consumer_id")?)
}

fn is_endless(end: Option<TimestampWithTimeZone>) -> bool {
    end == Some(TimestampWithTimeZone::positive_infinity())
}

/// Whether an active subscription is ended, and nothing else of it is changed.
fn is_ended(old: &Row<'_>, new: &NewRow<'_>) -> error::Result<bool> {
    for column in ["id", "consumer_id", "segment_id"] {
        if old.get_by_name::<Uuid>(column)? != new.get_by_name::<Uuid>(column)? {
            return Ok(false);
        }
    }
    for column in ["target", "name", "cron", "timezone"] {
        if old.get_by_name::<String>(column)? != new.get_by_name::<String>(column)? {
            return Ok(false);
        }
    }
    Ok(old.get_by_name::<JsonbText>("params")? == new.get_by_name::<JsonbText>("params")?
        && old.get_by_name::<TimestampWithTimeZone>("actual_begin")?
            == new.get_by_name::<TimestampWithTimeZone>("actual_begin")?
        && is_endless(old.get_by_name("actual_end")?)
        && new.get_by_name::<TimestampWithTimeZone>("actual_end")?.is_some()
        && !is_endless(new.get_by_name("actual_end")?))
}

/// Checks that the fields are columns of the segment's table. If the table cannot be checked now,
/// the next refresh reports the error.
fn check_fields(
    set: &RelationSet,
    segment: Uuid,
    fields: &Fields,
    subject: Subject<'_>,
) -> error::Result<()> {
    let Ok(Some(segment)) = Segment::find(set, Key::Id(segment)) else { return Ok(()) };
    if !role::may_act_as(role::current(), segment.owner) {
        return Ok(());
    }
    let Ok(table) = Table::check(set, segment.table, segment.holder()) else { return Ok(()) };
    payload::check_fields(&table, fields).map_err(|error| {
        Error::Config(ConfigError {
            column: "params",
            subject: subject.to_string(),
            problem: format!("\"fields\": {error}"),
            hint: Some("Name columns of the segment's table.".into()),
        })
    })
}

/// Before a subscription is deleted: warns that its audience stays at the consumer, which gets no
/// message.
fn notice_kept_audience(trigger: &PgTrigger<'_>) -> error::Result<()> {
    let Some(old) = trigger.old() else { return Ok(()) };
    let set = set_of(trigger)?;
    let id = old.get_by_name::<Uuid>("id")?;
    let known = subscription::find(&set, None, None, id)?;
    if known.iter().any(Subscription::has_audience) {
        let target = old.get_by_name("target")?.unwrap_or_default();
        let subscriptions = set.display_name(Relation::Subscriptions);
        error::emit_warning(
            "a subscription is deleted",
            &Error::AudienceLeft { target, subscriptions }.report(),
        );
    }
    Ok(())
}

/// Refuses the id of a deleted segment, whose log entries and messages would belong to the new
/// segment. The set's owner may use it.
fn check_new_id(
    set: &RelationSet,
    row: &NewRow<'_>,
    caller: pg_sys::Oid,
    name: &str,
) -> error::Result<()> {
    let Some(id) = row.get_by_name::<Uuid>("id")? else { return Ok(()) };
    if role::may_act_as(caller, set.owner) {
        return Ok(());
    }
    let taken = set.as_owner(|| {
        Spi::connect(|client| {
            client
                .select(
                    &set.sql(&queries::config::SEGMENT_ID_IS_TAKEN, &[]),
                    Some(1),
                    &[id.into()],
                )?
                .first()
                .get_one::<bool>()
        })
    })?;
    if taken.unwrap_or_default() { Err(Error::IdTaken(name.to_owned())) } else { Ok(()) }
}

/// The columns of a segment's row that concern its table.
struct RegisteredRow {
    id: Uuid,
    name: String,
    table: pg_sys::Oid,
    owner: pg_sys::Oid,
    actual: bool,
}

impl RegisteredRow {
    fn read(row: &Row<'_>) -> error::Result<Option<Self>> {
        let (Some(id), Some(table), Some(owner)) =
            (row.get_by_name("id")?, row.get_by_name("table_name")?, row.get_by_name("owner")?)
        else {
            return Ok(None);
        };
        let end = row.get_by_name::<TimestampWithTimeZone>("actual_end")?;
        Ok(Some(Self {
            id,
            table,
            owner,
            name: row.get_by_name("name")?.unwrap_or_default(),
            actual: is_endless(end),
        }))
    }
}

/// Checks that the old table holds no rows of a segment that moves to another table: the mart would
/// show them twice.
fn check_moved(set: &RelationSet, old: &RegisteredRow) -> error::Result<()> {
    let Some(table) = segment_table::name(set, old.table)? else { return Ok(()) };
    let holds_rows =
        set.as_segment_owner(old.owner, || segment_table::holds_rows_of(set, &table, &old.id))?;
    if !holds_rows {
        return Ok(());
    }
    Err(Error::Config(ConfigError {
        column: "table_name",
        subject: Subject::Segment(&old.name).to_string(),
        problem: format!("table {table} still holds rows of it"),
        hint: Some(format!(
            "Move them first: insert into the new table, delete from {table} where segment_id = '{}'.",
            old.id
        )),
    }))
}

/// Checks the intervals and table names of source checks. A text that cannot be the name of a table
/// is an error of PostgreSQL's, which names it.
fn check_sources(sources: &[SourceCheck], subject: Subject<'_>) -> error::Result<()> {
    for source in sources {
        match source {
            SourceCheck::Table(source) => {
                statement::split_name(&source.table);
                check_interval("sources", "warn_after", &source.warn_after, subject)?;
                check_interval("sources", "error_after", &source.error_after, subject)?;
            }
            SourceCheck::Ready(_) => {}
            SourceCheck::Segment(source) => {
                check_interval("sources", "max_age", &source.max_age, subject)?;
            }
        }
    }
    Ok(())
}

/// Checks an interval: longer than zero, and finite. A text that is none, or another interval, is an
/// error that names its key.
fn check_interval(
    column: &'static str,
    key: &'static str,
    interval: &Option<String>,
    subject: Subject<'_>,
) -> error::Result<()> {
    let Some(text) = interval else { return Ok(()) };
    let found = in_subtransaction(OnSuccess::Commit, || {
        let sql = queries::config::CHECK_INTERVAL.text();
        let ask = || Spi::connect(|_| statement::read_one::<String>(sql, &[text.into()]));
        role::with_text_form(ask)
    });
    match found {
        Ok(None) => Ok(()),
        Ok(Some(problem)) => Err(Error::Config(ConfigError {
            column,
            subject: subject.to_string(),
            problem: format!("\"{key}\": {text} is {problem}"),
            hint: None,
        })),
        Err(_) => Err(Error::Interval {
            column,
            subject: subject.to_string(),
            key,
            text: text.to_owned(),
        }),
    }
}

/// What checks of the table would refuse, in words, and names that cannot be read. A name that stays
/// is not checked: it may be older than this check.
fn check_name_and_period(
    trigger: &PgTrigger<'_>,
    row: &NewRow<'_>,
    subject: Subject<'_>,
) -> error::Result<()> {
    check_text(trigger, row, "name", subject)?;
    let check = |column, problem| Error::Check { column, subject: subject.to_string(), problem };
    let begin = row.get_by_name::<TimestampWithTimeZone>("actual_begin")?;
    let end = row.get_by_name::<TimestampWithTimeZone>("actual_end")?;
    if let (Some(begin), Some(end)) = (begin, end)
        && end < begin
    {
        return Err(check("actual_end", "it must not be earlier than actual_begin"));
    }
    Ok(())
}

/// Checks that a text that is new has a character other than a blank.
fn check_text(
    trigger: &PgTrigger<'_>,
    row: &NewRow<'_>,
    column: &'static str,
    subject: Subject<'_>,
) -> error::Result<()> {
    let Some(new) = text(row, column)?.filter(|text| text.trim().is_empty()) else { return Ok(()) };
    let old = trigger.old().map(|old| old.get_by_name::<String>(column)).transpose()?.flatten();
    // The check of a table accepts blanks, and so a dump may have them.
    if old.as_ref() == Some(&new) || !new.is_empty() && system_catalog::references_are_deferred() {
        return Ok(());
    }
    let problem = "it must not be empty or blank";
    Err(Error::Check { column, subject: subject.to_string(), problem })
}

fn check_member(
    set: &RelationSet,
    caller: pg_sys::Oid,
    before: Option<pg_sys::Oid>,
    wanted: pg_sys::Oid,
    subject: Subject<'_>,
) -> error::Result<()> {
    if before == Some(wanted) {
        return Ok(());
    }
    if role::may_act_as(caller, wanted) {
        return set.check_owner_can_act_as(wanted);
    }
    Err(Error::NotMember { role: role::name(wanted), subject: subject.to_string() })
}

fn new_row<'a>(trigger: &'a PgTrigger<'a>) -> error::Result<NewRow<'a>> {
    match trigger.new() {
        Some(row) => Ok(row.into_owned()),
        None => Err(Error::Trigger(pgrx::trigger_support::PgTriggerError::NullTriggerData)),
    }
}

fn text(row: &NewRow<'_>, column: &str) -> error::Result<Option<String>> {
    Ok(row.get_by_name::<String>(column)?)
}

fn json(row: &NewRow<'_>, column: &'static str, subject: Subject<'_>) -> error::Result<Value> {
    config::parse(column, row.get_by_name::<JsonbText>(column)?, subject)
}
