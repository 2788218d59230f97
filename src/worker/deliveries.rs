//! The part of a scheduler that starts delivery workers: one for each consumer that is served by
//! workers and has waiting messages.

use std::collections::HashMap;

use chrono::TimeDelta;
use pgrx::datum::Uuid;
use pgrx::prelude::*;

use crate::catalog::relation_set::RelationSet;
use crate::delivery::push::{self, Waiting};
use crate::error::Result;
use crate::pg::bgw::job_table::{Job, JobResult, JobState, Task};
use crate::pg::bgw::process;
use crate::pg::clock::{self, Instant};

/// Delay before a consumer is served again whose worker has died.
const RETRY_DELAY: TimeDelta = TimeDelta::seconds(5);

#[derive(Default)]
pub struct Deliveries {
    waiting: Vec<Waiting>,
    backing_off: HashMap<Uuid, Instant>,
    /// The limit of workers was reached. The next one starts when a running one ends.
    is_busy: bool,
}

impl Deliveries {
    /// Discards the list of waiting consumers. The next round reads it again.
    pub fn forget(&mut self) {
        self.waiting.clear();
    }

    /// Handles the end of a worker. If it did not end normally, its leases are released, and the
    /// consumer is not served for [`RETRY_DELAY`].
    pub fn on_worker_exit(&mut self, set: &RelationSet, job: &Job, now: Instant) -> Result<()> {
        if matches!(job.stage, JobState::Ended(JobResult::Done)) {
            return Ok(());
        }
        self.backing_off.insert(job.subject(), now + RETRY_DELAY);
        push::release(set, Some(job.subject()), &[])
    }

    /// Starts workers for consumers with waiting messages, until `limit` consumers are served.
    /// `running`: the consumers that are served already. `look`: read the list of waiting consumers
    /// again even if the outbox was not invalidated. Returns false if there is no room for another
    /// worker.
    pub fn start(
        &mut self,
        set: &RelationSet,
        database: pg_sys::Oid,
        running: &[Uuid],
        limit: usize,
        look: bool,
    ) -> Result<bool> {
        let now = clock::now();
        if process::changed(set.outbox()) || look {
            self.waiting = push::waiting(set)?;
            self.backing_off.retain(|_, until| *until > now);
        }
        let mut served = running.to_vec();
        self.is_busy = false;
        for at in 0..self.waiting.len() {
            let Waiting { consumer, name, role, .. } = &self.waiting[at];
            if self.time(&self.waiting[at]) > now || served.contains(consumer) {
                continue;
            }
            if served.len() >= limit {
                self.is_busy = true;
                break;
            }
            let role = role.unwrap_or(pg_sys::InvalidOid);
            let name = format!("segmenter delivery to {name}");
            let set = (database, set.mart());
            if !super::start(set, Task::Deliver, role, *consumer, &name)? {
                return Ok(false);
            }
            served.push(*consumer);
        }
        Ok(true)
    }

    /// The next time at which a message can be delivered to a consumer that is not served yet.
    /// None: no message waits, or the limit was reached.
    pub fn next(&self, running: &[Uuid]) -> Option<Instant> {
        if self.is_busy {
            return None;
        }
        let idle = self.waiting.iter().filter(|waiting| !running.contains(&waiting.consumer));
        idle.map(|waiting| self.time(waiting)).min()
    }

    fn time(&self, waiting: &Waiting) -> Instant {
        let backoff_until = self.backing_off.get(&waiting.consumer).copied();
        backoff_until.map_or(waiting.at, |until| until.max(waiting.at))
    }
}
