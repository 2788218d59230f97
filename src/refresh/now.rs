//! The time of the refresh that is going on: one for all its statements, also for those that users'
//! SQL runs.

use std::cell::Cell;

use crate::pg::clock::{self, Instant};

thread_local! {
    static NOW: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// The time of a refresh, until it is dropped. A refresh within a refresh has a time of its own.
pub struct RefreshTime {
    pub at: Instant,
    outer: Option<Instant>,
}

impl RefreshTime {
    /// Begins with the current time.
    pub fn begin() -> Self {
        let at = clock::now();
        Self { at, outer: NOW.replace(Some(at)) }
    }
}

impl Drop for RefreshTime {
    fn drop(&mut self) {
        NOW.set(self.outer);
    }
}

/// The time of the refresh that is going on; none: none is.
pub fn current() -> Option<Instant> {
    NOW.get()
}
