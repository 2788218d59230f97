//! The part of a scheduler that starts delivery workers: one for each consumer that is served by
//! workers and has waiting messages.

use std::collections::HashMap;

use pgrx::datum::Uuid;
use pgrx::prelude::*;

use crate::catalog::relation_set::RelationSet;
use crate::delivery::push::{self, Waiting};
use crate::error::Result;
use crate::pg::bgw::job_table::JobSpec;
use crate::pg::bgw::process;
use crate::pg::clock::{self, Instant};
use crate::schedule::run;
use segmenter_core::job::{RETRY_DELAY, Task};

#[derive(Default)]
pub struct Deliveries {
    waiting: Vec<Waiting>,
    /// The list must be read again even if the outbox was not invalidated.
    must_read: bool,
    backing_off: HashMap<Uuid, Instant>,
    /// The limit of workers was reached. The next one starts when a running one ends.
    is_busy: bool,
}

impl Deliveries {
    /// Makes the next round read the list of waiting consumers again.
    pub fn read_again(&mut self) {
        self.must_read = true;
    }

    /// Does not serve a consumer for [`RETRY_DELAY`].
    pub fn back_off(&mut self, consumer: Uuid, now: Instant) {
        self.backing_off.insert(consumer, now + RETRY_DELAY);
    }

    /// Starts at most `free` workers for consumers with waiting messages. `busy`: consumers that
    /// have a job already; those that get one are added. Returns false if there is no room for
    /// another worker.
    pub fn start(
        &mut self,
        set: &RelationSet,
        database: pg_sys::Oid,
        busy: &mut Vec<Uuid>,
        free: usize,
    ) -> Result<bool> {
        let now = clock::now();
        if process::changed(set.outbox()) || self.must_read {
            // If this fails, the next round tries it again.
            self.must_read = true;
            self.waiting = push::waiting(set)?;
            self.must_read = false;
            self.backing_off.retain(|_, until| *until > now);
        }
        let mut started = 0;
        self.is_busy = false;
        for at in 0..self.waiting.len() {
            let Waiting { consumer, name, role, .. } = &self.waiting[at];
            if self.time(&self.waiting[at]) > now || busy.contains(consumer) {
                continue;
            }
            if started >= free {
                self.is_busy = true;
                break;
            }
            let spec = JobSpec {
                task: Task::Deliver,
                database: database.to_u32(),
                set: set.mart().to_u32(),
                role: role.unwrap_or(pg_sys::InvalidOid).to_u32(),
                subject: *consumer,
                run: run::new_id(),
            };
            if !super::start(spec, &format!("segmenter delivery to {name}")) {
                return Ok(false);
            }
            busy.push(*consumer);
            started += 1;
        }
        Ok(true)
    }

    /// The next time at which a message can be delivered to a consumer that has no job yet.
    /// None: no message waits, or the limit was reached.
    pub fn next(&self, busy: &[Uuid]) -> Option<Instant> {
        if self.is_busy {
            return None;
        }
        let idle = self.waiting.iter().filter(|waiting| !busy.contains(&waiting.consumer));
        idle.map(|waiting| self.time(waiting)).min()
    }

    fn time(&self, waiting: &Waiting) -> Instant {
        let backoff_until = self.backing_off.get(&waiting.consumer).copied();
        backoff_until.map_or(waiting.at, |until| until.max(waiting.at))
    }
}
