//! The part of a scheduler that has consumers served: one worker for each, while it has messages.

use std::collections::HashMap;

use chrono::TimeDelta;
use pgrx::datum::Uuid;
use pgrx::prelude::*;

use crate::catalog::relation_set::Service;
use crate::delivery::push::{self, Waiting};
use crate::error::Result;
use crate::pg::bgw::job_table::{End, Job, Stage, Task};
use crate::pg::bgw::process;
use crate::pg::clock::{self, Instant};

/// For so long a consumer is left alone whose worker has died.
const REST: TimeDelta = TimeDelta::seconds(5);

#[derive(Default)]
pub struct Deliveries {
    waiting: Vec<Waiting>,
    resting: HashMap<Uuid, Instant>,
    /// As many are served as may be: who waits, waits for one of them to end.
    is_busy: bool,
}

impl Deliveries {
    /// Looks at all consumers anew next time.
    pub fn forget(&mut self) {
        self.waiting.clear();
    }

    /// Takes note of a worker that has ended. What one that died had in hand is to be had again.
    pub fn settle(&mut self, service: &Service, job: &Job, now: Instant) -> Result<()> {
        if matches!(job.stage, Stage::Ended(End::Done)) {
            return Ok(());
        }
        self.resting.insert(job.subject(), now + REST);
        push::release(service, Some(job.subject()), &[])
    }

    /// Starts workers for consumers that something waits for, up to `limit` of them at once. `look`: it may
    /// not be known what waits. False: there is no room for another worker.
    pub fn start(
        &mut self,
        service: &Service,
        database: pg_sys::Oid,
        running: &[Uuid],
        limit: usize,
        look: bool,
    ) -> Result<bool> {
        let now = clock::now();
        if process::changed(service.outbox()) || look {
            self.waiting = push::waiting(service)?;
            self.resting.retain(|_, until| *until > now);
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
            let set = (database, service.mart());
            if !super::start(set, Task::Deliver, role, *consumer, &name)? {
                return Ok(false);
            }
            served.push(*consumer);
        }
        Ok(true)
    }

    /// When something is to be delivered next, by consumers that are not served already.
    pub fn next(&self, running: &[Uuid]) -> Option<Instant> {
        if self.is_busy {
            return None;
        }
        let idle = self.waiting.iter().filter(|waiting| !running.contains(&waiting.consumer));
        idle.map(|waiting| self.time(waiting)).min()
    }

    fn time(&self, waiting: &Waiting) -> Instant {
        let rests = self.resting.get(&waiting.consumer).copied();
        rests.map_or(waiting.at, |until| until.max(waiting.at))
    }
}
