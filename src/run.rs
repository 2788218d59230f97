//! A run: every segment that is due, in an order that heeds what they are built on.

use pgrx::datum::{TimestampWithTimeZone, Uuid};
use pgrx::prelude::*;

use crate::config::{self, Key, Refresher, Sql, Subject};
use crate::delta;
use crate::due::{self, Due, Item};
use crate::error::Result;
use crate::guc;
use crate::log;
use crate::order::{Reads, order};
use crate::pg::attempt::{Keep, attempt};
use crate::pg::{clock, role};
use crate::readiness;
use crate::refresh::{self, Outcome, Request};
use crate::service::Service;

/// A segment that is due, in its place.
pub struct Planned {
    pub id: Uuid,
    pub name: String,
    /// The names of the segments it forms a cycle with, its own among them.
    pub cycle: Option<Vec<String>>,
}

/// A segment that a run may concern.
struct Candidate {
    id: Uuid,
    name: String,
    table: pg_sys::Oid,
    reads: Vec<pg_sys::Oid>,
}

/// The segments that the caller may refresh and that are due, in order.
pub fn plan(service: &Service) -> Result<Vec<Planned>> {
    let (candidates, mart) = candidates(service)?;
    let reads: Vec<Reads> = candidates
        .iter()
        .enumerate()
        .map(|(this, reader)| Reads {
            items: (0..candidates.len())
                .filter(|&other| other != this && reader.reads.contains(&candidates[other].table))
                .collect(),
            everything: reader.reads.contains(&mart),
        })
        .collect();
    let planned = order(&reads).into_iter().map(|placed| {
        let Candidate { id, name, .. } = &candidates[placed.item];
        let names = placed.cycle.iter().map(|&item| candidates[item].name.clone()).collect();
        Planned { id: *id, name: name.clone(), cycle: (!placed.cycle.is_empty()).then_some(names) }
    });
    Ok(planned.collect())
}

/// Refreshes one segment of a run.
pub fn step(service: &Service, planned: &Planned, run_id: Uuid) -> Result<Outcome> {
    refresh::refresh(
        service,
        &Request {
            segment: Key::Id(planned.id),
            name: &planned.name,
            query: None,
            dry_run: false,
            force: false,
            skip_busy: true,
            cycle: planned.cycle.as_deref(),
            run_id,
        },
    )
}

/// Refreshes everything that is due, in one transaction.
pub fn run(service: &Service, run_id: Uuid) -> Result<Vec<Outcome>> {
    let plan = plan(service)?;
    let outcomes = plan.iter().map(|planned| step(service, planned, run_id)).collect();
    log::prune(service)?;
    outcomes
}

/// When a schedule comes next after a time, by the wall clock of a zone.
pub fn cron_next(
    expression: &str,
    after: TimestampWithTimeZone,
    timezone: Option<&str>,
) -> Result<Option<TimestampWithTimeZone>> {
    let service_zone = guc::timezone();
    let zone = timezone.unwrap_or(&service_zone);
    let schedule = config::cron("expression", Some(expression), Subject::Schedule)?;
    let zone = config::timezone("timezone", Some(zone), Subject::Schedule)?;
    let next = schedule
        .zip(zone)
        .and_then(|(schedule, zone)| schedule.next_after(clock::instant(after), zone));
    Ok(next.map(clock::timestamp))
}

/// A segment's row of `segmenter_due`.
pub struct DueRow {
    pub segment: String,
    pub refresh_cron: Option<String>,
    pub last_refresh: Option<TimestampWithTimeZone>,
    pub next_refresh: Option<TimestampWithTimeZone>,
    pub due: bool,
    pub reason: String,
}

/// Which segments that the caller may see are due at a time, and why.
pub fn due(service: &Service, at: TimestampWithTimeZone) -> Result<Vec<DueRow>> {
    let at = clock::instant(at);
    let items = due::items(service, role::current(), None)?;
    let rows = items.into_iter().map(|item| DueRow {
        due: item.is_due(at),
        reason: item.reason(at),
        last_refresh: item.last_refresh.map(clock::timestamp),
        next_refresh: item.due.and_then(Due::at).map(clock::timestamp),
        segment: item.name,
        refresh_cron: item.refresh_cron,
    });
    Ok(rows.collect())
}

/// What is due now, with what it reads, and the mart.
fn candidates(service: &Service) -> Result<(Vec<Candidate>, pg_sys::Oid)> {
    let now = clock::now();
    let mut items = due::items(service, role::current(), None)?;
    items.retain(|item| item.is_due(now));
    let reads = items.iter().map(|item| reads(service, item)).collect::<Vec<_>>();
    let candidates = items.into_iter().zip(reads).map(|(item, reads)| Candidate {
        id: item.id,
        name: item.name,
        table: item.table,
        reads,
    });
    Ok((candidates.collect(), service.mart()?))
}

/// The relations that a segment's query reads and its sources name; those that cannot be told are
/// left out.
fn reads(service: &Service, item: &Item) -> Vec<pg_sys::Oid> {
    if !role::exists(item.owner) {
        return Vec::new();
    }
    let subject = Subject::Segment(&item.name);
    let refresher = config::refresher(item.refresh_params.clone(), subject);
    let sources = config::sources(item.sources.clone(), subject).unwrap_or_default();
    let as_owner = |ask: &dyn Fn() -> Result<Vec<pg_sys::Oid>>| {
        let asked =
            attempt(Keep::Nothing, || service.run_as_user(item.owner, || Spi::connect(|_| ask())));
        asked.unwrap_or_default()
    };
    let mut reads = match refresher {
        Ok(Some(Refresher::Query(Sql { sql }))) => as_owner(&|| delta::relations_of(&sql)),
        _ => Vec::new(),
    };
    if !sources.is_empty() {
        reads.extend(as_owner(&|| readiness::relations(&sources)));
    }
    reads
}
