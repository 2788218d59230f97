//! The part of a scheduler that starts servers: one for each role that has relation sets of its own,
//! while there is something to do for them. It reads no relation of theirs.

use std::collections::{BTreeMap, HashSet};

use pgrx::datum::Uuid;
use pgrx::prelude::*;

use super::{Started, limits};
use crate::catalog::registry::RegisteredSet;
use crate::error::emit;
use crate::pg::bgw::job_table::{self, JobSpec};
use crate::pg::bgw::process;
use crate::pg::clock::{self, Instant};
use crate::pg::exec::role;
use crate::schedule::run;
use segmenter_core::job::{Effect, Event, JobState, Kind, RETRY_DELAY, Task};

/// The sets of one role.
#[derive(Default)]
struct Owner {
    sets: Vec<RegisteredSet>,
    /// No server is needed before; none: one is needed for a change only.
    resume_at: Option<Instant>,
    /// Something has changed since the last server was started.
    is_changed: bool,
    /// After a server that ended without a result.
    not_before: Option<Instant>,
    started_at: Option<Instant>,
    /// It was logged that the role cannot connect.
    is_refusal_logged: bool,
}

/// The roles that own sets, by OID.
#[derive(Default)]
pub struct Servers {
    owners: BTreeMap<u32, Owner>,
    /// The marts of all sets.
    marts: HashSet<u32>,
    /// More are needed than may run at once.
    pub are_lacking: bool,
}

impl Servers {
    /// Takes over the list of sets.
    pub fn list(&mut self, listed: &[RegisteredSet]) {
        let mut before = std::mem::take(&mut self.owners);
        self.marts = listed.iter().map(|set| set.mart.to_u32()).collect();
        for set in listed.iter().filter(|set| !set.is_own) {
            // A set without an owner is served by no worker.
            let Some(role) = set.owner.map(pg_sys::Oid::to_u32) else { continue };
            let owner = self.owners.entry(role).or_insert_with(|| {
                before.remove(&role).map_or_else(Owner::default, |mut owner| {
                    owner.unwatch();
                    owner
                })
            });
            owner.sets.push(*set);
            // What has changed is read by the server.
            owner.is_changed = true;
            process::watch(set.segments);
            process::watch(set.outbox);
        }
        before.into_values().for_each(|mut owner| owner.unwatch());
    }

    pub fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    /// Starts the servers that are needed, those first that were started longest ago. Must be called
    /// in a transaction. Returns false if there is no room for another process.
    pub fn start(&mut self, database: pg_sys::Oid) -> bool {
        let now = clock::now();
        // Jobs of sets that do not exist any more are dropped.
        let is_own = |spec: &JobSpec| spec.task == Task::Serve || !self.marts.contains(&spec.set);
        for mut job in job_table::collect(database, is_own) {
            let owner = self.owners.get_mut(&job.spec.role);
            let Some(owner) = owner.filter(|_| job.spec.task == Task::Serve) else { continue };
            let handled = job.apply(Event::Handled, now);
            for effect in handled.map(|to| to.effects).unwrap_or_default() {
                match effect {
                    Effect::BackOff => owner.not_before = Some(now + RETRY_DELAY),
                    Effect::Resume => owner.resume_at = Some(job.resume_at.unwrap_or(now)),
                    _ => {}
                }
            }
        }
        let jobs = job_table::jobs(database);
        let mut needed = Vec::new();
        for (&role, owner) in &mut self.owners {
            owner.note_changes();
            let is_running =
                jobs.iter().any(|job| job.spec.task == Task::Serve && job.spec.role == role);
            let has_ended = jobs.iter().any(|job| {
                matches!(job.state, JobState::Ended(_))
                    && owner.sets.iter().any(|set| set.mart.to_u32() == job.spec.set)
            });
            let is_needed =
                owner.is_changed || has_ended || owner.resume_at.is_some_and(|at| at <= now);
            let is_early = owner.not_before.is_some_and(|at| at > now);
            if is_needed && !is_running && !is_early {
                needed.push((owner.started_at, role));
            }
        }
        needed.sort_unstable();
        self.are_lacking = false;
        for (_, role) in needed {
            let Some(owner) = self.owners.get_mut(&role) else { continue };
            if !owner.can_connect(role.into()) {
                owner.not_before = Some(now + RETRY_DELAY);
                continue;
            }
            let spec = JobSpec {
                task: Task::Serve,
                database: database.to_u32(),
                set: 0,
                role,
                account: role,
                subject: Uuid::from_bytes([0; 16]),
                run: run::new_id(),
            };
            let name = format!("segmenter server for {}", role::name(role.into()));
            match super::start(spec, limits(Kind::Servers, true, true), &name) {
                Started::Yes => {
                    owner.is_changed = false;
                    owner.resume_at = None;
                    owner.started_at = Some(now);
                }
                Started::Busy => {
                    self.are_lacking = true;
                    break;
                }
                Started::ShareTaken => {}
                Started::NoRoom => return false,
            }
        }
        true
    }

    /// Forgets all.
    pub fn close(&mut self) {
        std::mem::take(&mut self.owners).into_values().for_each(|mut owner| owner.unwatch());
    }
}

impl Owner {
    fn note_changes(&mut self) {
        for set in &self.sets {
            self.is_changed |= process::changed(set.segments);
            self.is_changed |= process::changed(set.outbox);
        }
    }

    fn unwatch(&mut self) {
        for set in self.sets.drain(..) {
            process::unwatch(set.segments);
            process::unwatch(set.outbox);
        }
    }

    /// Whether a worker can connect as the role. If not, it is logged once.
    fn can_connect(&mut self, role: pg_sys::Oid) -> bool {
        let can = role::exists(role)
            && role::can_log_in(role).unwrap_or_default()
            && role::can_connect(role).unwrap_or_default();
        if !can && !self.is_refusal_logged {
            emit(
                PgLogLevel::WARNING,
                format!(
                    "segmenter: the relation sets of role \"{}\" are not served: it cannot log in",
                    role::name(role)
                ),
                Some(
                    "A worker is connected as the owner of the sets: give the role LOGIN, and CONNECT on the database.",
                ),
            );
        }
        self.is_refusal_logged = !can;
        can
    }
}
