//! The starts of jobs: what is due, in its order, as far as there is room for workers.

use std::collections::HashSet;
use std::time::Duration;

use pgrx::datum::Uuid;
use pgrx::prelude::*;

use super::{Busy, Deadline, SetScheduler};
use crate::error::{Error, Result};
use crate::pg::bgw::job_table::JobSpec;
use crate::pg::bgw::process;
use crate::pg::clock;
use crate::refresh;
use crate::schedule::due::{self, Item};
use crate::schedule::run::{self, PlannedRefresh};
use crate::worker::logged::Action;
use crate::worker::{Started, limits, owner_role};
use segmenter_core::job::{Kind, RETRY_DELAY, Task};
use segmenter_core::queue::Offer;

/// The number of segments that no worker can refresh and whose failure is logged in one round.
const MAX_BLOCKED: usize = 20;

impl SetScheduler {
    /// Puts the segments whose time has come into the order in which they are refreshed.
    pub(super) fn take_due(&mut self, busy: &HashSet<Uuid>, now: clock::Instant) -> Result<()> {
        let due = self.queue.take_due(now);
        if due.is_empty() {
            return Ok(());
        }
        let Some(set) = &self.set else { return Err(Error::NoExtension) };
        // Segments that are waiting or running count for the order, too.
        let concerned: Vec<Uuid> =
            due.iter().copied().chain(self.queue.pending()).chain(busy.iter().copied()).collect();
        let items = due::items(set, None, Some(&concerned))?;
        // A segment that was refreshed by hand in the meantime may not be due any more.
        let is_due = |item: &Item| item.next(now).is_some_and(|at| at <= now);
        let (mut items, others): (Vec<Item>, Vec<Item>) =
            items.into_iter().partition(|item| busy.contains(&item.id) || is_due(item));
        items.sort_by_key(|item| item.next(now));
        let planned = run::order_by_dependency(set, items);
        for item in others {
            self.queue.set(item.id, item.next(now));
        }
        self.queue.put(planned.into_iter().map(|planned| {
            let is_busy = busy.contains(&planned.id);
            (planned.id, planned.position.clone(), (!is_busy).then_some(planned))
        }));
        Ok(())
    }

    /// Starts workers for refreshes. Returns the segments that no worker can refresh, and whether
    /// there was no room for another worker.
    pub(super) fn start_refreshes(
        &mut self,
        busy: &mut Busy,
        is_shared: bool,
    ) -> Result<(Vec<PlannedRefresh>, bool)> {
        let Some(set) = &self.set else { return Err(Error::NoExtension) };
        let limits = limits(Kind::Refreshes, self.is_own, is_shared);
        let (mut blocked, mut started, mut is_full) = (Vec::new(), Vec::new(), false);
        let (database, mart) = (self.database, self.mart);
        self.queue.offer(&busy.segments, |id, planned| {
            if planned.blocking_error(set).is_some() {
                if blocked.len() == MAX_BLOCKED {
                    return Offer::Declined(planned);
                }
                blocked.push(planned);
                return Offer::Taken;
            }
            let spec = refresh_spec(Task::Refresh, (database, mart), planned.owner, id);
            match crate::worker::start(spec, limits, &process_name(&planned.name)) {
                Started::Yes => {
                    started.push(id);
                    Offer::Taken
                }
                Started::ShareTaken => Offer::Declined(planned),
                Started::Busy => Offer::Stop(planned),
                Started::NoRoom => {
                    is_full = true;
                    Offer::Stop(planned)
                }
            }
        });
        busy.segments.extend(started);
        Ok((blocked, is_full))
    }

    /// Starts workers for pending messages that need no refresh. Returns false if there is no room
    /// for another worker.
    pub(super) fn start_hand_overs(&mut self, busy: &mut Busy, is_shared: bool) -> Result<bool> {
        let Some(set) = &self.set else { return Err(Error::NoExtension) };
        let limits = limits(Kind::Refreshes, self.is_own, is_shared);
        let now = clock::now();
        for (id, entry) in &self.pending {
            // A segment that is due or running is handed over by its refresh.
            let has_job = busy.segments.contains(id) || self.queue.is_pending(*id);
            if has_job || entry.at > now {
                continue;
            }
            let Some(planned) = run::hand_over_only(set, *id)? else { continue };
            // A hand-over runs no code of the segment's owner: if that role cannot connect, the set's
            // owner makes it.
            let can_connect = planned.blocking_error(set).is_none();
            let role = if can_connect { planned.owner } else { owner_role(set) };
            let mut spec = refresh_spec(Task::HandOver, (self.database, self.mart), role, *id);
            spec.account = set.account_of(Some(planned.owner)).to_u32();
            match crate::worker::start(spec, limits, &process_name(&entry.name)) {
                Started::Yes => {
                    busy.segments.insert(*id);
                }
                Started::ShareTaken => {}
                Started::Busy => break,
                Started::NoRoom => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Logs the failure of each segment that no worker can refresh, in transactions of their own.
    pub(super) fn log_blocked(&mut self, blocked: Vec<PlannedRefresh>, deadline: &Deadline) {
        for planned in blocked {
            let (id, now) = (planned.id, clock::now());
            if deadline.is_over() {
                self.queue_at(id, Some(now));
                continue;
            }
            let logged = process::transaction_within(deadline.limit(), || {
                let set = self.open()?;
                if let Some(error) = planned.blocking_error(set) {
                    let request = planned.request(run::new_id());
                    refresh::fail(set, &request, error, (now, Duration::ZERO))?;
                }
                Ok(due::items(set, None, Some(&[id]))?.pop())
            });
            self.not_before.insert(id, now + RETRY_DELAY);
            match logged {
                Ok(item) => {
                    self.errors.clear(Action::LogFailure(id));
                    self.queue_at(id, item.and_then(|item| item.next(now)));
                }
                Err(report) => {
                    let what = format!(
                        "{}, logging a failure of \"{}\"",
                        self.description(),
                        planned.name
                    );
                    self.errors.log(Action::LogFailure(id), &what, &report);
                    self.queue_at(id, Some(now));
                }
            }
        }
    }
}

/// The job of a worker for a segment.
fn refresh_spec(
    task: Task,
    (database, set): (pg_sys::Oid, pg_sys::Oid),
    role: pg_sys::Oid,
    segment: Uuid,
) -> JobSpec {
    JobSpec {
        task,
        database: database.to_u32(),
        set: set.to_u32(),
        role: role.to_u32(),
        account: role.to_u32(),
        subject: segment,
        run: run::new_id(),
    }
}

/// The name of the process of a worker for a segment.
fn process_name(segment: &str) -> String {
    format!("segmenter worker for {segment}")
}
