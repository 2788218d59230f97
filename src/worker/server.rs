//! A server: a worker that is connected as the owner of relation sets, and starts the workers for
//! them. So whatever these relations make a process do (row security policies, triggers, views) is
//! done with the rights of their owner, and holds up no other role.

use std::time::{Duration, Instant};

use chrono::TimeDelta;
use pgrx::prelude::*;

use super::SERVER;
use super::logged::Action;
use super::sets::Sets;
use crate::catalog::extension::Extension;
use crate::catalog::session_settings::SessionSettings;
use crate::catalog::settings;
use crate::error::Report;
use crate::pg::bgw::job_table;
use crate::pg::bgw::process;
use crate::pg::clock;

/// A server ends if nothing is due for so long. The scheduler starts it again in time.
const IDLE: TimeDelta = TimeDelta::seconds(10);
/// How long a server keeps its place while servers of other roles are needed.
const TURN: Duration = Duration::from_secs(5);
/// How long a role whose sets only fail waits for its next turn.
const FAILING: TimeDelta = TimeDelta::seconds(30);
/// The longest time without a server, so that what is past its retention is deleted.
const LONGEST_PAUSE: TimeDelta = TimeDelta::hours(1);

/// Serves the sets of a role until there is nothing to do. Returns when to continue.
pub fn work(owner: pg_sys::Oid) -> std::result::Result<Option<clock::Instant>, Report> {
    super::prepare_scheduling();
    let connected = || Ok((process::current_database(), SessionSettings::read()?));
    let (database, settings) = process::transaction(connected)?;
    process::announce(SERVER, None);
    let mut sets = Sets::new(database, Some(owner));
    let began = Instant::now();
    // Whatever is due in the sets, it ends with its database's entry, as the scheduler does.
    while settings::databases().contains(&sets.database_name) {
        let extension = process::transaction(|| {
            if process::is_database_wanted() {
                return Ok(None);
            }
            // The next one has the new ones.
            if settings.have_changed()? {
                return Ok(Some(None));
            }
            let extension = Extension::find()?;
            if let Some(extension) = extension.as_ref().filter(|_| sets.must_list()) {
                sets.list(extension)?;
            }
            Ok(extension.map(Some))
        })?;
        match extension {
            None => return Ok(None),
            Some(None) => return Ok(Some(clock::now())),
            Some(Some(_)) => {}
        }
        sets.errors.clear(Action::List);
        sets.collect();
        let rounds = sets.round(true);
        sets.note_room(!rounds.is_full);
        let now = clock::now();
        let is_early = rounds.next.is_none_or(|next| next > now + IDLE);
        if is_early && sets.are_idle() {
            let latest = now + LONGEST_PAUSE;
            return Ok(Some(rounds.next.map_or(latest, |next| next.min(latest))));
        }
        let scheduler = job_table::scheduler(sets.database);
        let is_wanted = scheduler.is_some_and(|scheduler| scheduler.lacks_servers);
        if is_wanted && began.elapsed() > TURN {
            return Ok(Some(if sets.was_any_served() { now } else { now + FAILING }));
        }
        process::wait(rounds.pause());
        if process::reload_config() {
            process::invalidate_all();
        }
    }
    Ok(Some(clock::now()))
}
