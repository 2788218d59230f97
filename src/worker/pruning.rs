//! What is done from time to time, in transactions of its own: once an hour what is past its retention is deleted,
//! every half a minute alerts are looked for.

use std::time::{Duration, Instant};

use crate::error::{Report, Result};
use crate::pg::bgw::process;

/// The pause after everything old has been deleted.
const INTERVAL: Duration = Duration::from_secs(3600);
/// The pause after an error.
const RETRY_DELAY: Duration = Duration::from_secs(60);
/// The pause before something that is to happen soon.
const SOON: Duration = Duration::from_secs(1);
/// Time limit of one deletion.
const MAX_PRUNING: Duration = Duration::from_secs(60);

/// When something is done next.
pub struct Pruning {
    /// None: now.
    not_before: Option<Instant>,
    /// The pause after all of it has been done.
    interval: Duration,
}

impl Default for Pruning {
    fn default() -> Self {
        Self::every(INTERVAL)
    }
}

impl Pruning {
    /// What is done again after a time.
    pub fn every(interval: Duration) -> Self {
        Self { not_before: None, interval }
    }

    /// Makes it happen soon.
    pub fn hurry(&mut self) {
        let soon = Instant::now() + SOON;
        self.not_before = self.not_before.map(|time| time.min(soon));
    }

    /// Whether it happens soon.
    pub fn is_near(&self) -> bool {
        self.not_before.is_none_or(|time| time <= Instant::now() + SOON)
    }

    /// Deletes one batch, if it is time, in a transaction that is cancelled after `limit` (default:
    /// [`MAX_PRUNING`]). `delete` returns whether there may be more to delete; the next round
    /// continues then. `None`: it is not time.
    pub fn run(
        &mut self,
        limit: Option<Duration>,
        delete: impl FnOnce() -> Result<bool>,
    ) -> Option<std::result::Result<(), Report>> {
        if self.not_before.is_some_and(|time| time > Instant::now()) {
            return None;
        }
        let deleted = process::transaction_within(limit.or(Some(MAX_PRUNING)), delete);
        self.not_before = match deleted {
            Ok(true) => None,
            Ok(false) => Some(Instant::now() + self.interval),
            Err(_) => Some(Instant::now() + RETRY_DELAY),
        };
        Some(deleted.map(drop))
    }
}
