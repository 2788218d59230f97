//! The type of time that decisions are made with.

use chrono::{DateTime, Utc};

/// A point in time, in UTC.
pub type Instant = DateTime<Utc>;
