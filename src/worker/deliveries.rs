//! The part of a scheduler that starts delivery workers: one for each consumer that is served by
//! workers and has waiting messages.

use std::collections::HashMap;

use pgrx::datum::Uuid;
use pgrx::prelude::*;

use super::{Started, owner_role};
use crate::catalog::relation_set::RelationSet;
use crate::delivery::push::{self, Waiting};
use crate::error::Result;
use crate::pg::bgw::job_table::{JobSpec, Limits};
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
    /// When consumers were served last.
    served: HashMap<Uuid, Instant>,
    /// Consumers that must wait until a running worker ends, because a limit was reached.
    must_wait: Vec<Uuid>,
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

    /// Starts workers for consumers with waiting messages, those first that were served longest ago.
    /// `busy`: consumers that have a job already; those that get one are added. Returns false if
    /// there is no room for another worker.
    pub fn start(
        &mut self,
        set: &RelationSet,
        database: pg_sys::Oid,
        busy: &mut Vec<Uuid>,
        limits: Limits,
    ) -> Result<bool> {
        let now = clock::now();
        if process::changed(set.outbox()) || self.must_read {
            // If this fails, the next round tries it again.
            self.must_read = true;
            self.waiting = push::waiting(set)?;
            self.must_read = false;
            self.backing_off.retain(|_, until| *until > now);
            self.served.retain(|id, _| self.waiting.iter().any(|waiting| waiting.consumer == *id));
            self.waiting.sort_by_key(|waiting| self.served.get(&waiting.consumer).copied());
        }
        self.must_wait.clear();
        for waiting in &self.waiting {
            let Waiting { consumer, name, role, account, .. } = waiting;
            if self.time(waiting) > now || busy.contains(consumer) {
                continue;
            }
            let spec = JobSpec {
                task: Task::Deliver,
                database: database.to_u32(),
                set: set.mart().to_u32(),
                role: role.unwrap_or_else(|| owner_role(set)).to_u32(),
                account: account.to_u32(),
                subject: *consumer,
                run: run::new_id(),
            };
            match super::start(spec, limits, &format!("segmenter delivery to {name}")) {
                Started::Yes => {
                    busy.push(*consumer);
                    self.served.insert(*consumer, now);
                }
                Started::ShareTaken | Started::Busy => self.must_wait.push(*consumer),
                Started::NoRoom => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Whether a consumer must wait until a running worker ends.
    pub fn are_held_up(&self) -> bool {
        !self.must_wait.is_empty()
    }

    /// The next time at which a message can be delivered to a consumer that has no job yet and need
    /// not wait for others. None: no message waits for that.
    pub fn next(&self, busy: &[Uuid]) -> Option<Instant> {
        let is_held_up = |id: &Uuid| busy.contains(id) || self.must_wait.contains(id);
        let idle = self.waiting.iter().filter(|waiting| !is_held_up(&waiting.consumer));
        idle.map(|waiting| self.time(waiting)).min()
    }

    fn time(&self, waiting: &Waiting) -> Instant {
        let backoff_until = self.backing_off.get(&waiting.consumer).copied();
        backoff_until.map_or(waiting.at, |until| until.max(waiting.at))
    }
}
