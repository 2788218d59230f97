//! The SQL functions. They convert arguments and results; the rules are in the other modules.

#![allow(clippy::result_large_err, reason = "pgrx raises an ErrorReport with its SQLSTATE, no box")]

use std::ffi::CStr;

use pgrx::datum::{Interval, TimestampWithTimeZone, Uuid};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::catalog::extension::Extension;
use crate::catalog::log;
use crate::catalog::relation_set::RelationSet;
use crate::catalog::visibility;
use crate::config::Key;
use crate::error::{self, Error, SetError};
use crate::ops::doctor;
use crate::pg::bgw::process;
use crate::pg::clock;
use crate::pg::exec::call::remembered;
use crate::pg::exec::commit::Call;
use crate::pg::exec::role;
use crate::refresh::incremental::watch;
use crate::refresh::retention::When;
use crate::refresh::{self, RefreshResult};
use crate::schedule::alerts;
use crate::schedule::run::{self, PlannedRefresh};
use segmenter_core::bucket;

mod audiences;
mod connectors;
mod consumers;
mod explain;
mod figures;
mod identifiers;
mod lineage;
mod members;
mod progress;
mod report;
mod restored;
mod segments;
mod sets;
mod stat;
mod triggers;
mod written;

/// Refreshes one segment by hand.
///
/// - `name`: the segment.
/// - `query`: a one-off query instead of the segment's refresher, for example a list of ids.
/// - `dry_run`: compute the exact figures, change nothing, log nothing.
/// - `force`: ignore the segment's guards.
/// - `full`: have an incremental refresher compare all ids, not only those that have changed.
///
/// Returns one row, and for a family one more for each of its segments: how many members were added, removed and changed, how many rows were left out
/// because other segments have their members (`excluded`), how many members there are now (`coverage`), how many messages were written, and the time it took. An error is returned as a
/// row with the status `failed` (or `refused`, by a guard), together with a WARNING that has the
/// SQLSTATE, and a log entry; the segment stays as it was.
///
/// ```sql
/// select * from segmenter_refresh('vip', dry_run => true);
/// ```
#[pg_extern]
#[allow(clippy::type_complexity)]
fn segmenter_refresh(
    name: Option<&str>,
    query: default!(Option<&str>, "NULL"),
    dry_run: default!(Option<bool>, "false"),
    force: default!(Option<bool>, "false"),
    full: default!(Option<bool>, "false"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(segment, String),
            name!(status, String),
            name!(added, Option<i64>),
            name!(removed, Option<i64>),
            name!(changed, Option<i64>),
            name!(excluded, Option<i64>),
            name!(coverage, Option<i64>),
            name!(messages, Option<i64>),
            name!(elapsed, Interval),
            name!(detail, Option<String>),
        ),
    >,
    ErrorReport,
> {
    let name = require_arg("name", name)?;
    let request = refresh::RefreshRequest {
        query,
        dry_run: require_arg("dry_run", dry_run)?,
        force: require_arg("force", force)?,
        full: require_arg("full", full)?,
        ..refresh::RefreshRequest::by_hand(Key::Name(name), name, run::new_id())
    };
    let mut outcome = run::by_hand(&RelationSet::writable()?, &request)?;
    let members = std::mem::take(&mut outcome.members);
    Ok(TableIterator::new(std::iter::once(outcome).chain(members).map(row)))
}

/// Refreshes every segment that is active, automatic and due, and whose owner the caller is a
/// member of, in one transaction. A segment that reads the table of another segment is refreshed
/// after that one.
///
/// - `all`: refresh also those that are not due.
///
/// Returns a row for each segment, as `segmenter_refresh` does. A segment that fails does not stop
/// the others. A locked segment is `skipped`. For segments that are not due, pending messages are
/// written (for new and ended subscriptions): such a row has no figures.
///
/// ```sql
/// select * from segmenter_run();
/// ```
#[pg_extern(name = "segmenter_run")]
#[allow(clippy::type_complexity)]
fn segmenter_run_due(
    all: default!(Option<bool>, "false"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(segment, String),
            name!(status, String),
            name!(added, Option<i64>),
            name!(removed, Option<i64>),
            name!(changed, Option<i64>),
            name!(excluded, Option<i64>),
            name!(coverage, Option<i64>),
            name!(messages, Option<i64>),
            name!(elapsed, Interval),
            name!(detail, Option<String>),
        ),
    >,
    ErrorReport,
> {
    let all = require_arg("all", all)?;
    let outcomes = run::run(&RelationSet::current()?, all, run::new_id())?;
    Ok(TableIterator::new(outcomes.into_iter().map(row)))
}

/// Begins a run for `segmenter_run_each`, and returns its id: a UUID of version 7, which sorts by
/// time. Only the session and the role that called it can make steps of the run.
#[pg_extern]
fn segmenter_run_id() -> Uuid {
    run::begin()
}

/// The functions of version 1.0.0, which have no argument: an error, until the extension is updated.
#[pg_extern(sql = false)]
fn segmenter_run() -> Result<(), ErrorReport> {
    Ok(RelationSet::current().map(drop)?)
}

/// As [`segmenter_run`].
#[pg_extern(sql = false)]
fn segmenter_run_plan() -> Result<(), ErrorReport> {
    Ok(RelationSet::current().map(drop)?)
}

/// The segments that a run would refresh now, in order, and those that it would only hand over: the
/// first half of `segmenter_run_each`.
#[pg_extern(name = "segmenter_run_plan")]
#[allow(clippy::type_complexity)]
fn segmenter_run_plan_due(
    all: default!(Option<bool>, "false"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(segment_id, Uuid),
            name!(segment, String),
            name!(cycle, Option<Vec<String>>),
            name!(hand_over_only, bool),
        ),
    >,
    ErrorReport,
> {
    let planned = run::plan(&RelationSet::current()?, require_arg("all", all)?)?;
    Ok(TableIterator::new(planned.into_iter().map(
        |PlannedRefresh { id, name, cycle, hand_over_only, .. }| {
            (id, name, cycle.map(|names| names.to_vec()), hand_over_only)
        },
    )))
}

/// Refreshes one segment of a run, or only hands it over: the second half of `segmenter_run_each`.
/// Returns its status; null: there was nothing to hand over. A run that the caller has not begun is an
/// error; a segment that the caller may not refresh fails as one that does not exist.
#[pg_extern]
fn segmenter_run_step(
    segment_id: Option<Uuid>,
    segment: Option<String>,
    cycle: Option<Vec<Option<String>>>,
    run_id: Option<Uuid>,
    hand_over_only: default!(Option<bool>, "false"),
) -> Result<Option<String>, ErrorReport> {
    let mut planned = PlannedRefresh::standalone(
        require_arg("segment_id", segment_id)?,
        require_arg("segment", segment)?,
    );
    planned.cycle = cycle.map(|names| names.into_iter().flatten().collect());
    planned.hand_over_only = require_arg("hand_over_only", hand_over_only)?;
    let outcome =
        run::step_of_caller(&RelationSet::writable()?, &planned, require_arg("run_id", run_id)?)?;
    Ok(outcome.map(|outcome| outcome.status.as_str().to_owned()))
}

/// Checks that a run may commit each of its segments, before anything is done: the first part of
/// `segmenter_run_each`. Within a transaction block or a function it is an error, also if nothing is due.
#[pg_extern(sql = "
create procedure segmenter_run_check()
language c as 'MODULE_PATHNAME', '@FUNCTION_NAME@';
")]
fn segmenter_run_check(call: Call) -> Result<(), ErrorReport> {
    Ok(call.check()?)
}

/// Commits one segment of a run: the last part of `segmenter_run_each`. A commit that fails (because
/// of a deferred constraint, or a lost connection to a foreign server) is logged as a failure of that
/// segment, and the run goes on. It is called outside of a transaction block.
#[pg_extern(sql = "
create procedure segmenter_run_commit(segment_id uuid, segment text, run_id uuid, hand_over_only boolean)
language c as 'MODULE_PATHNAME', '@FUNCTION_NAME@';
")]
fn segmenter_run_commit(
    segment_id: Option<Uuid>,
    segment: Option<String>,
    run_id: Option<Uuid>,
    hand_over_only: Option<bool>,
    call: Call,
) -> Result<(), ErrorReport> {
    let mut planned = PlannedRefresh::standalone(
        require_arg("segment_id", segment_id)?,
        require_arg("segment", segment)?,
    );
    planned.hand_over_only = require_arg("hand_over_only", hand_over_only)?;
    Ok(run::commit_step(&call, &planned, require_arg("run_id", run_id)?)?)
}

/// The time of the refresh that is going on, for users' SQL: the same for all statements of a refresh,
/// also for those that a procedure runs. Outside of a refresh it is `now()`.
///
/// ```sql
/// select o.customer_id as id from crm.orders o where o.ordered_at > segmenter_now() - interval '30 days';
/// ```
#[pg_extern(stable, parallel_restricted)]
fn segmenter_now() -> TimestampWithTimeZone {
    // A parallel worker does not know the time of its leader's refresh.
    clock::timestamp(refresh::now::current().unwrap_or_else(clock::transaction_start))
}

/// The bucket of an id: it splits members into groups of any size without a table, always in the same
/// way.
///
/// - `id`: the member's id.
/// - `salt`: the name of the split: groups of different salts are independent of each other.
/// - `buckets`: the number of buckets.
///
/// Returns a number from 0 to `buckets - 1`: the first eight bytes of `sha256(salt || ':' || id)`, as
/// an unsigned number with the highest byte first, modulo `buckets`. Null if an argument is null.
///
/// ```sql
/// select segmenter_bucket('42', 'spring') < 500 as is_held_out;
/// ```
#[pg_extern(immutable, strict, parallel_safe)]
fn segmenter_bucket(
    id: &str,
    salt: default!(&str, "''"),
    buckets: default!(i32, "10000"),
) -> Result<i32, ErrorReport> {
    let count = u64::try_from(buckets).unwrap_or_default();
    let bucket =
        bucket::of(id.as_bytes(), salt.as_bytes(), count).ok_or_else(|| Error::Argument {
            name: "buckets",
            problem: format!("{buckets} is less than 1"),
            hint: "Give the number of buckets, which is 10000 by default.",
        })?;
    Ok(bucket as i32)
}

/// The next time of a schedule.
///
/// - `expression`: five cron fields, a name such as `@daily`, or a number of seconds.
/// - `after`: the time to search from, exclusive.
/// - `timezone`: the time zone of the schedule; by default `segmenter.timezone`.
///
/// Returns null if the schedule has no further time. The error for an invalid expression or zone
/// names what is wrong.
///
/// ```sql
/// select segmenter_cron_next('30 6 * * mon-fri', now(), 'Europe/Berlin');
/// ```
#[pg_extern(stable, parallel_safe)]
fn segmenter_cron_next(
    expression: Option<&str>,
    after: default!(Option<TimestampWithTimeZone>, "now()"),
    timezone: default!(Option<&str>, "NULL"),
) -> Result<Option<TimestampWithTimeZone>, ErrorReport> {
    let after = require_arg("after", after)?;
    Ok(run::cron_next(require_arg("expression", expression)?, after, timezone)?)
}

/// When the active segments that the caller may see are due.
///
/// - `at`: the time to answer for.
///
/// Returns a row for each: its schedule, when the last attempt began, the time of the next one
/// (null: at every run, by hand only, or never), whether it is due at the time `at`, and why. After
/// a failure the next attempt is due after `segmenter.retry_delay`, doubled with each failure up to
/// an hour, or at the next time of the schedule, whichever is earlier.
///
/// ```sql
/// select * from segmenter_due(now() + interval '1 hour') where due;
/// ```
#[pg_extern(stable)]
#[allow(clippy::type_complexity)]
fn segmenter_due(
    at: default!(Option<TimestampWithTimeZone>, "now()"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(segment, String),
            name!(refresh_cron, Option<String>),
            name!(last_refresh, Option<TimestampWithTimeZone>),
            name!(next_refresh, Option<TimestampWithTimeZone>),
            name!(due, bool),
            name!(reason, String),
        ),
    >,
    ErrorReport,
> {
    let at = require_arg("at", at)?;
    let rows = run::due(&RelationSet::current()?, at)?;
    Ok(TableIterator::new(rows.into_iter().map(due_row)))
}

/// `segmenter_due` for one relation set, independent of the set that the session works on: used by
/// the set's status view.
///
/// - `cfg_table`: the set's mart.
/// - `at`: the time to answer for.
///
/// ```sql
/// select segment, next_refresh from segmenter_due_in('segmenter');
/// ```
#[pg_extern(sql = "
create function segmenter_due_in(cfg_table regclass, at timestamptz default now())
returns table (
    segment text, refresh_cron text, last_refresh timestamptz, next_refresh timestamptz, due boolean, reason text
)
stable language c as 'MODULE_PATHNAME', '@FUNCTION_NAME@';
")]
#[allow(clippy::type_complexity)]
fn segmenter_due_in(
    cfg_table: Option<pg_sys::Oid>,
    at: Option<TimestampWithTimeZone>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(segment, String),
            name!(refresh_cron, Option<String>),
            name!(last_refresh, Option<TimestampWithTimeZone>),
            name!(next_refresh, Option<TimestampWithTimeZone>),
            name!(due, bool),
            name!(reason, String),
        ),
    >,
    ErrorReport,
> {
    let mart = require_arg("cfg_table", cfg_table)?;
    let at = require_arg("at", at)?;
    let set = RelationSet::of_mart(Extension::current()?, mart);
    let rows = match set.and_then(|set| run::due(&set, at)) {
        // The status view of a set that is not migrated yet shows the rest.
        Err(error @ Error::Set(SetError::OtherVersion { is_own: false, .. })) => {
            error::emit_warning("its due times are not known", &error.report());
            Vec::new()
        }
        Err(Error::Set(error)) if error.is_broken() => {
            error::emit_warning("its due times are not known", &Error::Set(error).report());
            Vec::new()
        }
        rows => rows?,
    };
    Ok(TableIterator::new(rows.into_iter().map(due_row)))
}

type DueRow = (
    String,
    Option<String>,
    Option<TimestampWithTimeZone>,
    Option<TimestampWithTimeZone>,
    bool,
    String,
);

fn due_row(row: run::DueRow) -> DueRow {
    (row.segment, row.refresh_cron, row.last_refresh, row.next_refresh, row.due, row.reason)
}

/// Health checks of this database: whether the background workers are configured and running,
/// whether all segments are refreshed on time, and whether owners, tables, sources and schedules
/// are valid.
///
/// Returns a row for each check without findings (`ok`) and for each finding (`warning`, `problem`)
/// about the segments that the caller may see, and the `summary` as the last row.
///
/// ```sql
/// select * from segmenter_doctor() where status <> 'ok';
/// ```
#[pg_extern]
#[allow(clippy::type_complexity)]
fn segmenter_doctor() -> Result<
    TableIterator<
        'static,
        (
            name!(check, String),
            name!(status, String),
            name!(detail, String),
            name!(hint, Option<String>),
        ),
    >,
    ErrorReport,
> {
    let findings = doctor::examine_current()?;
    Ok(TableIterator::new(findings.into_iter().map(
        |doctor::Finding { check, level, detail, hint }| {
            (check.to_owned(), level.as_str().to_owned(), detail, hint)
        },
    )))
}

/// Captures the changes of a table for the segments that watch it: triggers record the ids that
/// each statement writes, in the transaction of the writer.
///
/// - `source`: the table. Its partitions and children are included.
/// - `id_column`: the column that holds the ids of members.
///
/// The caller must own the table. Tables that are captured already are not changed; call it again
/// after adding a partition. `segmenter_unwatch` ends the capture.
///
/// ```sql
/// select segmenter_watch('crm.orders', 'customer_id');
/// ```
#[pg_extern(sql = "
create function segmenter_watch(source regclass, id_column name default 'id') returns void
language c as 'MODULE_PATHNAME', '@FUNCTION_NAME@';
")]
fn segmenter_watch(
    source: Option<pg_sys::Oid>,
    id_column: Option<&CStr>,
) -> Result<(), ErrorReport> {
    let column = require_arg("id_column", id_column)?.to_string_lossy();
    watch::watch(&RelationSet::writable()?, require_arg("source", source)?, &column)?;
    Ok(())
}

/// Ends the capture of a table's changes.
///
/// - `source`: the table. Its partitions and children are included.
/// - `id_column`: the column; by default all captured columns.
///
/// ```sql
/// select segmenter_unwatch('crm.orders');
/// ```
#[pg_extern(sql = "
create function segmenter_unwatch(source regclass, id_column name default null) returns void
language c as 'MODULE_PATHNAME', '@FUNCTION_NAME@';
")]
fn segmenter_unwatch(
    source: Option<pg_sys::Oid>,
    id_column: Option<&CStr>,
) -> Result<(), ErrorReport> {
    let column = id_column.map(|column| column.to_string_lossy().into_owned());
    let set = RelationSet::writable()?;
    watch::unwatch(&set, require_arg("source", source)?, column.as_deref())?;
    Ok(())
}

/// Reports, as a NOTICE, the settings that are missing for the background workers to serve this
/// database. Called once while the extension is created, and then dropped.
#[pg_extern]
fn segmenter_say_what_is_missing() {
    let (_, database) = process::current_database();
    if let Some(hint) = doctor::missing_settings(&database) {
        let message =
            format!("no background worker refreshes segments of database \"{database}\" yet");
        error::emit(PgLogLevel::NOTICE, message, Some(&hint));
    }
}

/// Whether the caller may act as a role: it is a member of it, and from PostgreSQL 16 on may also
/// `SET ROLE` to it. The policies of the service relations call this function because the condition
/// depends on the version, while `pg_upgrade` carries a policy over as it is.
///
/// ```sql
/// select segmenter_may_act_as('marketing'::regrole);
/// ```
#[pg_extern(stable, parallel_safe)]
fn segmenter_may_act_as(role: pg_sys::Oid) -> bool {
    role::may_act_as(role::current(), role)
}

/// Whether rows of a segment in a table are members that the caller may see. The policy of the mart
/// calls this for each row; the answer is looked up once for each segment and table of a query.
///
/// - `segment_id`: the segment.
/// - `in_table`: the table that holds the row.
/// - `segments`: the relation of the set's segments.
///
/// ```sql
/// select segmenter_may_see(id, table_name, 'segmenter_segments') from segmenter_segments;
/// ```
#[pg_extern(sql = "
create function segmenter_may_see(segment_id uuid, in_table oid, segments regclass) returns boolean
stable parallel safe language c as 'MODULE_PATHNAME', '@FUNCTION_NAME@';
")]
fn segmenter_may_see(
    segment_id: Option<Uuid>,
    in_table: Option<pg_sys::Oid>,
    segments: Option<pg_sys::Oid>,
    call: pg_sys::FunctionCallInfo,
) -> Result<bool, ErrorReport> {
    let (Some(segment), Some(table), Some(segments)) = (segment_id, in_table, segments) else {
        return Ok(false);
    };
    let key = (*segment.as_bytes(), table.to_u32(), segments.to_u32());
    Ok(remembered(call, key, || visibility::may_see(segments, segment, table))?)
}

/// Deletes what is past its retention, one batch per call: log entries older than
/// `segmenter.log_retention`, messages that were delivered longer than `segmenter.outbox_retention` ago,
/// captured changes that all segments have read, and what the retention of segments says of former members.
/// Runs and the background workers do this automatically.
///
/// ```sql
/// select segmenter_prune();
/// ```
#[pg_extern]
fn segmenter_prune() -> Result<(), ErrorReport> {
    Ok(run::prune(&RelationSet::current()?, When::Always)?)
}

/// The same at the end of a run, after alerts were reported: former members are looked for once an hour.
///
/// ```sql
/// select segmenter_run_prune();
/// ```
#[pg_extern]
fn segmenter_run_prune() -> Result<(), ErrorReport> {
    let set = RelationSet::current()?;
    alerts::look(&set)?;
    Ok(run::prune(&set, When::Due)?)
}

type Row = (
    String,
    String,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Interval,
    Option<String>,
);

fn row(outcome: RefreshResult) -> Row {
    let figures = outcome.figures;
    let count =
        |of: fn(&segmenter_core::guards::DeltaStats) -> u64| figures.as_ref().map(|f| of(f) as i64);
    (
        outcome.segment,
        outcome.status.as_str().to_owned(),
        count(|f| f.added),
        count(|f| f.removed),
        count(|f| f.changed),
        count(|f| f.excluded),
        count(segmenter_core::guards::DeltaStats::coverage),
        outcome.messages,
        log::interval(outcome.elapsed),
        outcome.detail,
    )
}

/// Returns an argument that must not be null.
fn require_arg<T>(name: &'static str, value: Option<T>) -> error::Result<T> {
    value.ok_or(Error::NullArgument(name))
}
