//! The time type of all decisions.

use chrono::{DateTime, Utc};

/// A point in time, in UTC.
pub type Instant = DateTime<Utc>;
