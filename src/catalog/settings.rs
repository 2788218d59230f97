//! The settings (GUCs): private statics, one accessor each.

use std::ffi::{CStr, CString};
use std::time::Duration;

use chrono::TimeDelta;
use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum};

use crate::error::Result;
use crate::pg::exec::session;
use crate::pg::settings;
use segmenter_core::http::address::Address;

static CFG_TABLE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static TIMEZONE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c"UTC"));
static DATABASES: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static MAX_WORKERS: GucSetting<i32> = GucSetting::<i32>::new(4);
static MAX_WORKERS_PER_ROLE: GucSetting<i32> = GucSetting::<i32>::new(0);
static REFRESH_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(0);
static RETRY_DELAY: GucSetting<i32> = GucSetting::<i32>::new(60);
static LOG_RETENTION: GucSetting<i32> = GucSetting::<i32>::new(90 * 24 * 60);
static OUTBOX_RETENTION: GucSetting<i32> = GucSetting::<i32>::new(7 * 24 * 60);
static CAPTURE_RETENTION: GucSetting<i32> = GucSetting::<i32>::new(7 * 24 * 60);
static METRICS_SEGMENTS: GucSetting<i32> = GucSetting::<i32>::new(1000);
static MAX_DELIVERIES: GucSetting<i32> = GucSetting::<i32>::new(4);
static MAX_DELIVERIES_PER_ROLE: GucSetting<i32> = GucSetting::<i32>::new(0);
static UPSTREAM: GucSetting<Upstream> = GucSetting::<Upstream>::new(Upstream::Wait);
static FORCE_RETIRE: GucSetting<bool> = GucSetting::<bool>::new(false);
static HTTP_ALLOW: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));

const TIMEZONE_NAME: &CStr = c"segmenter.timezone";

/// Values of `segmenter.upstream`.
#[derive(Clone, Copy, PartialEq, Eq, PostgresGucEnum)]
enum Upstream {
    #[name = c"wait"]
    Wait,
    #[name = c"ignore"]
    Ignore,
}

/// The highest value of `segmenter.max_workers` and `segmenter.max_deliveries`.
const WORKERS_LIMIT: i32 = 64;

/// Defines the settings. `is_set` checks that a name is that of a relation set's mart.
pub fn init(is_set: fn(&str) -> Result<()>) {
    settings::define_set(
        c"segmenter.cfg_table",
        [
            c"Relation set that the functions work on, by the name of its mart.",
            c"A set created by segmenter_init(); empty: the extension's own.",
        ],
        &CFG_TABLE,
        is_set,
    );
    settings::define_timezone(
        TIMEZONE_NAME,
        [
            c"Time zone of members' actual_begin, actual_end and processed.",
            c"A segment's SQL runs in it too, and schedules without a zone of their own follow it.",
        ],
        &TIMEZONE,
    );
    settings::define_names(
        c"segmenter.databases",
        [
            c"Databases whose segments the background workers refresh.",
            c"A list of names separated by commas; names with blanks or commas in double quotes.",
        ],
        &DATABASES,
    );
    GucRegistry::define_int_guc(
        c"segmenter.max_workers",
        c"Refreshes that the background workers run at once in one database.",
        c"Each takes one of max_worker_processes.",
        &MAX_WORKERS,
        1,
        WORKERS_LIMIT,
        GucContext::Sighup,
        GucFlags::empty(),
    );
    GucRegistry::define_int_guc(
        c"segmenter.max_workers_per_role",
        c"Refreshes of segments of one role that run at once in one database.",
        c"0: all of segmenter.max_workers but one, if other roles have segments too.",
        &MAX_WORKERS_PER_ROLE,
        0,
        WORKERS_LIMIT,
        GucContext::Sighup,
        GucFlags::empty(),
    );
    GucRegistry::define_int_guc(
        c"segmenter.refresh_timeout",
        c"Time limit of a refresh in a background worker; 0: none.",
        c"For refreshes called by hand, statement_timeout applies.",
        &REFRESH_TIMEOUT,
        0,
        i32::MAX,
        GucContext::Suset,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_int_guc(
        c"segmenter.retry_delay",
        c"Time after which a failed refresh or delivery is tried again; 0: as if it had not failed.",
        c"It doubles with each failure up to one hour; a refresh's never goes past its schedule.",
        &RETRY_DELAY,
        0,
        60 * 60,
        GucContext::Suset,
        GucFlags::UNIT_S,
    );
    GucRegistry::define_int_guc(
        c"segmenter.log_retention",
        c"Time for which entries of the log are kept; -1: for ever.",
        c"The last entry of each status of a segment is always kept.",
        &LOG_RETENTION,
        -1,
        i32::MAX,
        GucContext::Suset,
        GucFlags::UNIT_MIN,
    );
    GucRegistry::define_int_guc(
        c"segmenter.outbox_retention",
        c"Time for which messages are kept after their delivery; -1: for ever.",
        c"Undelivered messages are always kept.",
        &OUTBOX_RETENTION,
        -1,
        i32::MAX,
        GucContext::Suset,
        GucFlags::UNIT_MIN,
    );
    GucRegistry::define_int_guc(
        c"segmenter.capture_retention",
        c"Time for which captured changes wait for segments that do not read them; -1: for ever.",
        c"The next refresh of such a segment compares all ids.",
        &CAPTURE_RETENTION,
        -1,
        i32::MAX,
        GucContext::Suset,
        GucFlags::UNIT_MIN,
    );
    GucRegistry::define_int_guc(
        c"segmenter.max_deliveries",
        c"Consumers that the background workers serve at once in one database.",
        c"Each takes one of max_worker_processes while there is something to deliver.",
        &MAX_DELIVERIES,
        0,
        WORKERS_LIMIT,
        GucContext::Sighup,
        GucFlags::empty(),
    );
    GucRegistry::define_int_guc(
        c"segmenter.max_deliveries_per_role",
        c"Consumers of one role that are served at once in one database.",
        c"0: all of segmenter.max_deliveries but one, if there are other roles.",
        &MAX_DELIVERIES_PER_ROLE,
        0,
        WORKERS_LIMIT,
        GucContext::Sighup,
        GucFlags::empty(),
    );
    GucRegistry::define_int_guc(
        c"segmenter.metrics_segments",
        c"Segments that have series of their own in segmenter_metrics().",
        c"The others, and their subscriptions, are summed up.",
        &METRICS_SEGMENTS,
        0,
        100_000,
        GucContext::Userset,
        GucFlags::empty(),
    );
    GucRegistry::define_enum_guc(
        c"segmenter.upstream",
        c"Whether a segment waits for the segments that it reads until they are up to date.",
        c"\"ignore\": it is refreshed from what they have. Segments that sources name are waited for.",
        &UPSTREAM,
        GucContext::Suset,
        GucFlags::empty(),
    );
    GucRegistry::define_bool_guc(
        c"segmenter.force_retire",
        c"Permits to retire or delete a segment that other segments read.",
        c"They go on with the members that it has in the end.",
        &FORCE_RETIRE,
        GucContext::Userset,
        GucFlags::empty(),
    );
    settings::define_addresses(
        c"segmenter.http_allow",
        [
            c"URL prefixes that messages may be sent to.",
            c"A list separated by commas; empty: none. A path matches up to a slash.",
        ],
        &HTTP_ALLOW,
    );
    settings::reserve_prefix(c"segmenter");
}

/// The name of the set that the functions work on; none: the extension's own.
pub fn cfg_table() -> Option<String> {
    let name = CFG_TABLE.get()?.to_string_lossy().into_owned();
    (!name.is_empty()).then_some(name)
}

/// The time zone of members' local times; `of_database` is that of `alter database … set`. Neither the
/// session nor its role has any other.
pub fn timezone(of_database: Option<String>) -> Result<String> {
    session::value_in_database(TIMEZONE_NAME, of_database)
}

/// The databases that have a scheduler.
pub fn databases() -> Vec<String> {
    let names = DATABASES.get();
    let mut names = names.as_deref().and_then(settings::split_names).unwrap_or_default();
    names.sort_unstable();
    names.dedup();
    names
}

/// The number of refreshes that a scheduler runs at the same time.
pub fn max_workers() -> usize {
    MAX_WORKERS.get().max(1) as usize
}

/// How many of them are for segments of one role; 0: all but one.
pub fn max_workers_per_role() -> usize {
    MAX_WORKERS_PER_ROLE.get().max(0) as usize
}

/// The time limit of a worker's refresh; none: no limit.
pub fn refresh_timeout() -> Option<Duration> {
    let limit = REFRESH_TIMEOUT.get();
    (limit > 0).then(|| Duration::from_millis(limit as u64))
}

/// The delay before the first retry after a failure; zero: no retry before the schedule's next
/// time.
pub fn retry_delay() -> TimeDelta {
    TimeDelta::seconds(RETRY_DELAY.get().into())
}

/// The number of consumers that a scheduler serves at the same time.
pub fn max_deliveries() -> usize {
    MAX_DELIVERIES.get().max(0) as usize
}

/// How many of them belong to one role; 0: all but one.
pub fn max_deliveries_per_role() -> usize {
    MAX_DELIVERIES_PER_ROLE.get().max(0) as usize
}

/// The number of segments that have metrics of their own.
pub fn metrics_segments() -> usize {
    METRICS_SEGMENTS.get().max(0) as usize
}

/// Whether segments wait for the segments that they read.
pub fn waits_for_upstream() -> bool {
    UPSTREAM.get() == Upstream::Wait
}

/// Whether segments that others read may be retired.
pub fn may_retire_read() -> bool {
    FORCE_RETIRE.get()
}

/// The URL prefixes that messages may be sent to.
pub fn http_allow() -> Vec<Address> {
    let listed = HTTP_ALLOW.get();
    let names = listed.as_deref().and_then(settings::split_names).unwrap_or_default();
    names.iter().filter_map(|name| name.parse().ok()).collect()
}

/// How long messages are kept after their delivery; none: for ever.
pub fn outbox_retention() -> Option<TimeDelta> {
    let minutes = OUTBOX_RETENTION.get();
    (minutes >= 0).then(|| TimeDelta::minutes(minutes.into()))
}

/// How long captured changes are kept for segments that do not read them; none: for ever.
pub fn capture_retention() -> Option<TimeDelta> {
    let minutes = CAPTURE_RETENTION.get();
    (minutes >= 0).then(|| TimeDelta::minutes(minutes.into()))
}

/// How long entries of the log are kept; none: for ever.
pub fn log_retention() -> Option<TimeDelta> {
    let minutes = LOG_RETENTION.get();
    (minutes >= 0).then(|| TimeDelta::minutes(minutes.into()))
}
