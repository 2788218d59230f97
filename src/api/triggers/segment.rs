//! Rows of segments: what is checked before they are written, and the registration of their tables.

use pgrx::datum::{TimestampWithTimeZone, Uuid};
use pgrx::prelude::*;

use super::family::{resolve, warn_of_family, warn_of_orphans};
use super::retention::{check_retained, check_retention};
use super::row::{
    NewRow, Row, check_member, check_name_and_period, is_endless, is_free, is_restored, json,
    new_row, set_of, text,
};
use crate::api::restored;
use crate::api::written::WrittenSegment;
use crate::catalog::change_readers;
use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::catalog::state;
use crate::config::family::Kinship;
use crate::config::readers::{self, Fate};
use crate::config::segment_table::{self, Holder, Table};
use crate::config::{
    self, ConfigError, Incremental, Key, Refresher, Retention, Segment, SourceCheck, Subject,
};
use crate::error::{self, Error, Report};
use crate::pg::exec::lock;
use crate::pg::exec::role::{self, RegRole};
use crate::pg::exec::statement;
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};
use crate::pg::format::json::JsonbText;
use crate::pg::system_catalog;
use crate::refresh::incremental::gaps;
use crate::refresh::reads;
use crate::refresh::segment_lock::acquire;
use segmenter_core::guards::Guards;

pub(super) fn check_segment<'a>(trigger: &'a PgTrigger<'a>) -> error::Result<NewRow<'a>> {
    let set = set_of(trigger)?;
    let mut row = new_row(trigger)?;
    let name = text(&row, "name")?.unwrap_or_default();
    let subject = Subject::Segment(&name);

    let has_taken = restored::take_owner(&mut row, subject)?;
    let refresher = config::refresher(json(&row, "refresh_params", subject)?, subject)?;
    if let Some(Refresher::Incremental(Incremental { watch: Some(watch), .. })) = &refresher {
        for watched in watch {
            check_table_name("refresh_params", &watched.table, subject)?;
        }
    }
    config::guards(json(&row, "guards", subject)?, subject)?;
    let sources = config::sources(json(&row, "sources", subject)?, subject)?;
    check_sources(&sources, subject)?;
    config::exclude(json(&row, "exclude", subject)?, subject)?;
    config::exempt(json(&row, "exempt", subject)?, subject)?;
    let retention = config::retention(json(&row, "retention", subject)?, subject)?;
    check_retention(&retention, subject)?;
    let priority = row.get_by_name::<i32>("priority")?;
    config::priority(text(&row, "priority_group")?, priority, subject)?;
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
    let (resolved, kinship) = resolve(&set, trigger, &row, refresher.as_ref(), &name)?;
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
                refresher: resolved.as_ref(),
                has_named_rows: kinship.has_named_rows(),
                sources: &sources,
                is_automatic: row.get_by_name("refresh_auto")?.unwrap_or_default(),
                has_other_refresher: match &old {
                    Some(old) => {
                        old.get_by_name::<JsonbText>("refresh_params")?
                            != row.get_by_name::<JsonbText>("refresh_params")?
                            && old.get_by_name("table_name")? == Some(oid("table_name")?)
                    }
                    None => false,
                },
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
    if let Some(old) = trigger.old() {
        warn_of_orphans(&set, &old, &row, refresher.as_ref())?;
    }
    if let Some(refresher) = refresher.as_ref().filter(|it| it.is_family()) {
        warn_of_family(&set, trigger, &row, refresher, subject)?;
    }
    if retention != Retention::default() && !is_restored(&set) {
        check_retained(&set, trigger, &row, &retention)?;
    }
    record_reads(&set, trigger, &row, (resolved, kinship, sources))?;
    Ok(row)
}

/// Records what an active segment reads, when its row is written: the segments that it reads are kept
/// from then on. The next refresh records it again. Warns of sources that name no segment.
pub(super) fn record_reads(
    set: &RelationSet,
    trigger: &PgTrigger<'_>,
    row: &NewRow<'_>,
    (refresher, kinship, sources): (Option<Refresher>, Kinship, Vec<SourceCheck>),
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
        kinship,
        guards: Guards::default(),
        sources,
        cron: None,
        timezone: None,
        actual: true,
        // What it leaves out is known once its row is written.
        has_lists: false,
        is_suppression: false,
        is_list: false,
        has_kept_out: false,
        exempt: serde_json::Value::Null,
        definition: None,
        held_until: None,
    };
    let found = reads::find(set, &segment);
    if let Some(report) = found.warning(&segment) {
        error::emit_warning(&Subject::Segment(&segment.name).to_string(), &report);
    }
    state::record_reads(set, id, &found.record())?;
    if segment.kinship.is_family() {
        // So do its segments from now on.
        let args = [id.into(), segment.name.as_str().into(), owner.into()];
        set.write(&queries::refresh::family::COPY_READS, &args)?;
    }
    Ok(())
}

/// Warns of what an incremental refresher does not notice, where the row comes to have it. Queries
/// that cannot be analysed now have no known gaps.
pub(super) fn warn_of_gaps(
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

pub(super) fn register_segment(trigger: &PgTrigger<'_>) -> error::Result<()> {
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
        let renamed = |new: &RegisteredRow| {
            (old.actual && new.actual && new.name != old.name).then_some(Fate::Renamed)
        };
        let fate = match is_delete {
            true => Some(Fate::Deleted),
            false if is_retired => Some(Fate::Retired),
            false => new.as_ref().and_then(renamed),
        };
        if let Some(fate) = fate {
            let named = (old.id, old.name.as_str(), old.table, old.owner);
            readers::check_none(&set, named, old.is_suppression, fate, role::current())?;
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
pub(super) fn register(set: &RelationSet, new: &RegisteredRow, is_new: bool) -> error::Result<()> {
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
pub(super) fn is_free_to_take(set: &RelationSet, table: &Table, caller: pg_sys::Oid) -> bool {
    role::may_act_as(caller, set.owner) || role::owns_table(caller, table.oid)
}

/// Detaches the table that a segment has left, or warns that it stays.
pub(super) fn release(set: &RelationSet, old: &RegisteredRow) -> error::Result<()> {
    if segment_table::release(set, old.table, &old.id)? {
        return Ok(());
    }
    let table = segment_table::name(set, old.table)?.unwrap_or_default();
    let mart = set.name().to_owned();
    let left = Error::NotReleased { table, mart }.report();
    error::emit_warning(&Subject::Segment(&old.name).to_string(), &left);
    Ok(())
}

/// Whether the row of a segment has other SQL, another owner or table than before, or is active or
/// automatic now.
pub(super) fn concerns_sql(old: &Row<'_>, new: &NewRow<'_>) -> error::Result<bool> {
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

/// Refuses the id of a deleted segment, whose log entries and messages would belong to the new
/// segment. The set's owner may use it.
pub(super) fn check_new_id(
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
pub(super) struct RegisteredRow {
    id: Uuid,
    name: String,
    table: pg_sys::Oid,
    owner: pg_sys::Oid,
    actual: bool,
    is_suppression: bool,
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
            is_suppression: row.get_by_name("is_suppression")?.unwrap_or_default(),
        }))
    }
}

/// Checks that the old table holds no rows of a segment that moves to another table: the mart would
/// show them twice.
pub(super) fn check_moved(set: &RelationSet, old: &RegisteredRow) -> error::Result<()> {
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

/// Checks a text that names a table, which need not exist.
fn check_table_name(column: &'static str, name: &str, subject: Subject<'_>) -> error::Result<()> {
    statement::split_name(name).map(drop).map_err(|error| {
        let hint = error.report().hint.unwrap_or_default();
        Error::Config(ConfigError::new(column, subject, error.to_string(), &hint))
    })
}

/// Checks the intervals and table names of source checks.
pub(super) fn check_sources(sources: &[SourceCheck], subject: Subject<'_>) -> error::Result<()> {
    for source in sources {
        match source {
            SourceCheck::Table(source) => {
                check_table_name("sources", &source.table, subject)?;
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
pub(super) fn check_interval(
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
