//! A run: every segment that is due, in an order that heeds what they are built on.

use pgrx::JsonB;
use pgrx::datum::{TimestampWithTimeZone, Uuid};
use pgrx::prelude::*;
use serde_json::Value;

use crate::config::{self, Key, Refresher, Sql, Subject};
use crate::delta;
use crate::error::{Error, Result};
use crate::guc;
use crate::order::{Reads, order};
use crate::pg::attempt::{Keep, attempt};
use crate::pg::{clock, role};
use crate::readiness;
use crate::refresh::{self, Outcome, Request};
use crate::schedule::{self, Due};
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
    plan(service)?.iter().map(|planned| step(service, planned, run_id)).collect()
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

fn candidates(service: &Service) -> Result<(Vec<Candidate>, pg_sys::Oid)> {
    let caller = role::current();
    let sql = service.sql(include_str!("../sql/query/candidates.sql"), &[]);
    let now = clock::now();
    let mut mart = pg_sys::InvalidOid;
    let due: Vec<Found> = service.run_as_owner(|| {
        Spi::connect(|client| {
            let mut due = Vec::new();
            for row in client.select(&sql, None, &[caller.into()])? {
                mart = row.get_by_name("mart")?.unwrap_or(pg_sys::InvalidOid);
                let found = Found::read(&row)?;
                if found.is_due(service, now) {
                    due.push(found);
                }
            }
            Ok::<_, Error>(due)
        })
    })?;
    let candidates = due.into_iter().map(|found| {
        let reads = found.reads(service);
        Candidate { id: found.id, name: found.name, table: found.table, reads }
    });
    Ok((candidates.collect(), mart))
}

/// A row of the candidates, as far as a run needs it. What is wrong with it, its refresh will say.
struct Found {
    id: Uuid,
    name: String,
    table: pg_sys::Oid,
    owner: pg_sys::Oid,
    refresh_params: Value,
    sources: Value,
    cron: Option<String>,
    timezone: Option<String>,
    actual_begin: TimestampWithTimeZone,
    last_attempt: Option<TimestampWithTimeZone>,
}

impl Found {
    fn read(row: &pgrx::spi::SpiHeapTupleData<'_>) -> Result<Self> {
        let missing = || Error::Spi(pgrx::spi::Error::InvalidPosition);
        let json = |column| -> Result<Value> {
            Ok(row.get_by_name::<JsonB, _>(column)?.map_or(Value::Null, |json| json.0))
        };
        Ok(Self {
            id: row.get_by_name("id")?.ok_or_else(missing)?,
            name: row.get_by_name("name")?.ok_or_else(missing)?,
            table: row.get_by_name("table_oid")?.unwrap_or(pg_sys::InvalidOid),
            owner: row.get_by_name("owner")?.unwrap_or(pg_sys::InvalidOid),
            refresh_params: json("refresh_params")?,
            sources: json("sources")?,
            cron: row.get_by_name("refresh_cron")?,
            timezone: row.get_by_name("refresh_timezone")?,
            actual_begin: row.get_by_name("actual_begin")?.ok_or_else(missing)?,
            last_attempt: row.get_by_name("last_attempt")?,
        })
    }

    fn is_due(&self, service: &Service, now: clock::Instant) -> bool {
        let subject = Subject::Segment(&self.name);
        let zone = self.timezone.as_deref().unwrap_or(&service.timezone);
        let schedule = config::cron("refresh_cron", self.cron.as_deref(), subject);
        let zone = config::timezone("refresh_timezone", Some(zone), subject);
        let (Ok(schedule), Ok(Some(zone))) = (schedule, zone) else { return true };
        let due = schedule::due(
            schedule.as_ref().map(|schedule| (schedule, zone)),
            self.last_attempt.map(clock::instant),
            clock::instant(self.actual_begin),
            now,
        );
        matches!(due, Due::Now)
    }

    /// The relations that its query reads and its sources name; those that cannot be told are
    /// left out.
    fn reads(&self, service: &Service) -> Vec<pg_sys::Oid> {
        if !role::exists(self.owner) {
            return Vec::new();
        }
        let subject = Subject::Segment(&self.name);
        let refresher = config::refresher(self.refresh_params.clone(), subject);
        let sources = config::sources(self.sources.clone(), subject).unwrap_or_default();
        let as_owner = |ask: &dyn Fn() -> Result<Vec<pg_sys::Oid>>| {
            let asked = attempt(Keep::Nothing, || {
                service.run_as_user(self.owner, || Spi::connect(|_| ask()))
            });
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
}
