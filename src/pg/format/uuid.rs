//! Ids that sort by the time at which they were made.

use pgrx::datum::Uuid;

/// A new id: a UUID of version 7. Those of one process are in the order in which they were made.
pub fn time_ordered() -> Uuid {
    Uuid::from_bytes(*uuid::Uuid::now_v7().as_bytes())
}
