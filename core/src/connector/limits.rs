//! What a platform takes: members in a message, requests in a time.

use std::time::Duration;

use serde::Deserialize;

/// What the platform takes.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// The most members in a request.
    pub members: Option<u32>,
    /// The fewest members in a request that changes an audience.
    pub least: Option<u32>,
    /// The most requests in a time, of one server and user mapping.
    pub per_second: Option<u32>,
    pub per_minute: Option<u32>,
    pub per_hour: Option<u32>,
    pub per_day: Option<u32>,
    /// GET requests do not count.
    pub free_reads: bool,
}

impl Limits {
    /// Whether requests of a method are among those that the platform limits.
    pub fn counts(&self, method: &str) -> bool {
        !(self.free_reads && method == "GET")
    }

    /// Windows and the most requests in each.
    pub fn windows(&self) -> Vec<(Duration, u32)> {
        let windows = [
            (Duration::from_secs(1), self.per_second),
            (Duration::from_mins(1), self.per_minute),
            (Duration::from_hours(1), self.per_hour),
            (Duration::from_hours(24), self.per_day),
        ];
        windows.into_iter().filter_map(|(window, most)| Some((window, most?))).collect()
    }
}
