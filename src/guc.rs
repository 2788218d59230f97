//! The settings: private statics, one accessor each.

use std::ffi::{CStr, CString};
use std::time::Duration;

use chrono::TimeDelta;
use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};

use crate::pg::setting;

static TIMEZONE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c"UTC"));
static DATABASES: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static MAX_WORKERS: GucSetting<i32> = GucSetting::<i32>::new(4);
static REFRESH_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(0);
static RETRY_DELAY: GucSetting<i32> = GucSetting::<i32>::new(60);
static LOG_RETENTION: GucSetting<i32> = GucSetting::<i32>::new(90 * 24 * 60);

/// The highest number of workers that one scheduler may have.
const MOST_WORKERS: i32 = 64;

/// Defines the settings.
pub fn init() {
    setting::define_timezone(
        c"segmenter.timezone",
        [
            c"Time zone of members' actual_begin, actual_end and processed.",
            c"A segment's SQL runs in it too, and schedules without a zone of their own follow it.",
        ],
        &TIMEZONE,
    );
    setting::define_names(
        c"segmenter.databases",
        [
            c"Databases whose segments the background workers refresh.",
            c"A list of names by commas, in double quotes where they hold blanks or commas.",
        ],
        &DATABASES,
    );
    GucRegistry::define_int_guc(
        c"segmenter.max_workers",
        c"Refreshes that the background workers run at once in one database.",
        c"Each takes one of max_worker_processes.",
        &MAX_WORKERS,
        1,
        MOST_WORKERS,
        GucContext::Sighup,
        GucFlags::empty(),
    );
    GucRegistry::define_int_guc(
        c"segmenter.refresh_timeout",
        c"Time after which a background worker gives a refresh up; 0: never.",
        c"Refreshes that are called by hand keep to statement_timeout.",
        &REFRESH_TIMEOUT,
        0,
        i32::MAX,
        GucContext::Suset,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_int_guc(
        c"segmenter.retry_delay",
        c"Time after which a failed refresh is tried again; 0: not before its schedule comes.",
        c"It doubles with each failure up to one hour, and never goes past the schedule.",
        &RETRY_DELAY,
        0,
        60 * 60,
        GucContext::Suset,
        GucFlags::UNIT_S,
    );
    GucRegistry::define_int_guc(
        c"segmenter.log_retention",
        c"Time for which entries of the log are kept; -1: for ever.",
        c"A segment's last entry of each status is kept in any case.",
        &LOG_RETENTION,
        -1,
        i32::MAX,
        GucContext::Suset,
        GucFlags::UNIT_MIN,
    );
    setting::reserve_prefix(c"segmenter");
}

/// The zone of members' local times.
pub fn timezone() -> String {
    let zone = TIMEZONE.get();
    zone.as_deref().map(CStr::to_string_lossy).map_or_else(|| "UTC".into(), Into::into)
}

/// The databases that have a scheduler.
pub fn databases() -> Vec<String> {
    let names = DATABASES.get();
    let mut names = names.as_deref().and_then(setting::split_names).unwrap_or_default();
    names.sort_unstable();
    names.dedup();
    names
}

/// How many refreshes a scheduler runs at once.
pub fn max_workers() -> usize {
    MAX_WORKERS.get().max(1) as usize
}

/// How long a worker's refresh may take.
pub fn refresh_timeout() -> Option<Duration> {
    let limit = REFRESH_TIMEOUT.get();
    (limit > 0).then(|| Duration::from_millis(limit as u64))
}

/// How long after a failure the next attempt comes; zero: when the schedule says.
pub fn retry_delay() -> TimeDelta {
    TimeDelta::seconds(RETRY_DELAY.get().into())
}

/// How long entries of the log are kept.
pub fn log_retention() -> Option<TimeDelta> {
    let minutes = LOG_RETENTION.get();
    (minutes >= 0).then(|| TimeDelta::minutes(minutes.into()))
}
