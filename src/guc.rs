//! The settings: private statics, one accessor each.

use std::ffi::{CStr, CString};

use pgrx::guc::GucSetting;

use crate::pg::setting;

static TIMEZONE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c"UTC"));

/// Defines the settings.
pub fn init() {
    setting::define_timezone(
        c"segmenter.timezone",
        c"Time zone of members' actual_begin, actual_end and processed.",
        c"A segment's SQL runs in it too, and schedules without a zone of their own follow it.",
        &TIMEZONE,
    );
    setting::reserve_prefix(c"segmenter");
}

/// The zone of members' local times.
pub fn timezone() -> String {
    let zone = TIMEZONE.get();
    zone.as_deref().map(CStr::to_string_lossy).map_or_else(|| "UTC".into(), Into::into)
}
