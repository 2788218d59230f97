//! Whether the segments that a segment reads are up to date: until they are, it waits.

use pgrx::datum::{TimestampWithTimeZone, Uuid};
use pgrx::prelude::*;
use pgrx::spi::SpiHeapTupleData;

use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::catalog::settings;
use crate::config::segment_table::{self, Holder, Table};
use crate::config::{self, Key, Segment, SegmentSource, SourceCheck, Subject};
use crate::error::{Error, Result};
use crate::pg::clock::{self, Instant};
use crate::pg::exec::statement;
use crate::refresh::delta;
use crate::refresh::reads::Reads;
use segmenter_core::upstream::{Aged, Obstacle, Upstream};

/// An active segment that is read, or that the sources name.
struct Found {
    id: Uuid,
    /// None: the owner of the segment that reads it may not know it.
    name: Option<String>,
    table: pg_sys::Oid,
    has_refresher: bool,
    upstream: Upstream,
    is_read: bool,
    is_named: bool,
    /// The limit of its age, and whether it is exceeded.
    max_age: Option<(String, bool)>,
    age: String,
}

/// The segments that a segment must wait for, each with the reason: those that it reads, and `lists`,
/// whose members it leaves out. A segment that reads the table of its reader, too, is not waited for:
/// each of a cycle reads the last state of the others.
pub fn check(
    set: &RelationSet,
    segment: &Segment,
    reads: &Reads,
    lists: &[Uuid],
) -> Result<Vec<String>> {
    let named: Vec<&SegmentSource> = segment
        .sources
        .iter()
        .filter_map(|source| match source {
            SourceCheck::Segment(source) => Some(source),
            _ => None,
        })
        .collect();
    let tables = match settings::waits_for_upstream() {
        true => reads.relations(),
        false => Vec::new(),
    };
    wait_for(set, segment, (tables, &named, lists))
}

/// The segments among its lists that a segment must wait for, each with the reason.
pub fn check_lists(set: &RelationSet, segment: &Segment, lists: &[Uuid]) -> Result<Vec<String>> {
    wait_for(set, segment, (Vec::new(), &[], lists))
}

fn wait_for(
    set: &RelationSet,
    segment: &Segment,
    (tables, named, lists): (Vec<pg_sys::Oid>, &[&SegmentSource], &[Uuid]),
) -> Result<Vec<String>> {
    if tables.is_empty() && named.is_empty() && lists.is_empty() {
        return Ok(Vec::new());
    }
    let found = list(set, segment, (tables, named, lists))?;
    for source in named {
        let name = Some(&source.segment);
        if !found.iter().any(|found| found.is_named && found.name.as_ref() == name) {
            return Err(Error::UnknownSource(source.segment.clone()));
        }
    }
    let now = clock::now();
    let mut late: Vec<(&Found, String)> = Vec::new();
    for found in &found {
        // A name that its owner may not know is none that its sources can give.
        if !found.is_read && found.name.is_none() {
            continue;
        }
        if let Some(reason) = found.reason(set, now)? {
            late.push((found, reason));
        }
    }
    if late.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<Uuid> = late.iter().map(|(found, _)| found.id).collect();
    let cyclic: Vec<Uuid> = set
        .as_owner(|| {
            let sql = set.sql(&queries::refresh::upstream::LIST_CYCLIC, &[]);
            Spi::connect(|_| statement::read_one(&sql, &[segment.id.into(), ids.into()]))
        })?
        .unwrap_or_default();
    late.retain(|(found, _)| !cyclic.contains(&found.id));
    Ok(late.into_iter().map(|(_, reason)| reason).collect())
}

fn list(
    set: &RelationSet,
    segment: &Segment,
    (tables, named, lists): (Vec<pg_sys::Oid>, &[&SegmentSource], &[Uuid]),
) -> Result<Vec<Found>> {
    let names: Vec<String> = named.iter().map(|source| source.segment.clone()).collect();
    let max_ages: Vec<Option<String>> = named.iter().map(|source| source.max_age.clone()).collect();
    let args = [
        segment.id.into(),
        segment.owner.into(),
        tables.into(),
        names.into(),
        max_ages.into(),
        lists.to_vec().into(),
    ];
    set.as_owner(|| {
        Spi::connect(|client| {
            let statement = set.kept(&queries::refresh::upstream::LIST_UPSTREAM);
            let rows = client.select(statement, None, &args)?;
            rows.map(|row| Found::read(&row, set)).collect()
        })
    })
}

impl Found {
    fn read(row: &SpiHeapTupleData<'_>, set: &RelationSet) -> Result<Self> {
        let text = |column: &str| Ok::<_, Error>(row.get_by_name::<String, _>(column)?);
        let is = |column: &str| Ok::<_, Error>(row.get_by_name::<bool, _>(column)? == Some(true));
        let refreshed = row.get_by_name::<TimestampWithTimeZone, _>("refreshed")?;
        let refreshed = refreshed.map(clock::instant);
        let zone = text("refresh_timezone")?;
        let zone = zone.as_deref().unwrap_or(set.timezone());
        // A schedule that is not valid is left out: the doctor reports it.
        let next = |cron: Option<String>| -> Option<Option<Instant>> {
            let cron = config::cron("refresh_cron", cron.as_deref(), Subject::Schedule).ok()??;
            let zone =
                config::timezone("refresh_timezone", Some(zone), Subject::Schedule).ok()??;
            Some(cron.next_after(refreshed?, zone))
        };
        let is_automatic = is("refresh_auto")?;
        let hold_until = row.get_by_name::<TimestampWithTimeZone, _>("hold_until")?;
        let hold_until = hold_until.map(clock::instant);
        let times = [text("refresh_cron")?, text("full_cron")?]
            .map(|cron| cron.filter(|_| is_automatic).and_then(|cron| next(Some(cron))));
        Ok(Self {
            id: row.get_by_name("id")?.ok_or(Error::MissingValue("id"))?,
            name: text("name")?,
            table: row.get_by_name("table_oid")?.unwrap_or(pg_sys::InvalidOid),
            has_refresher: is("has_refresher")?,
            upstream: Upstream {
                refreshed,
                status: text("status")?,
                is_scheduled: times.iter().any(Option::is_some),
                // While it is held, it does not become due.
                next: times.into_iter().flatten().flatten().min().map(|next| match hold_until {
                    Some(until) => next.max(until),
                    None => next,
                }),
            },
            is_read: is("is_read")?,
            is_named: is("is_named")?,
            max_age: text("max_age")?.zip(row.get_by_name("is_old")?.or(Some(false))),
            age: text("age")?.unwrap_or_default(),
        })
    }

    /// Why it must be waited for; none: it need not.
    fn reason(&self, set: &RelationSet, now: Instant) -> Result<Option<String>> {
        let what = match &self.name {
            Some(name) => format!("segment \"{name}\""),
            None => {
                let table = segment_table::name(set, self.table)?.unwrap_or_default();
                format!("the segment in table {table}")
            }
        };
        let obstacle = match &self.max_age {
            Some((max_age, is_old)) => match self.upstream.obstacle_by_age(*is_old, now) {
                Some(Aged::TooOld) => {
                    let age = &self.age;
                    return Ok(Some(format!(
                        "{what} was refreshed {age} ago, longer than max_age {max_age}"
                    )));
                }
                Some(Aged::Other(obstacle)) => Some(obstacle),
                None => None,
            },
            None => self.upstream.obstacle(now),
        };
        match obstacle {
            Some(Obstacle::NeverRefreshed) if !self.has_refresher && self.has_members(set)? => {
                Ok(None)
            }
            obstacle => Ok(obstacle.map(|obstacle| format!("{what} {obstacle}"))),
        }
    }

    /// Whether the table of a segment that nothing refreshes has been filled by hand.
    fn has_members(&self, set: &RelationSet) -> Result<bool> {
        let Some(owned) = Segment::find_bare(set, Key::Id(self.id))? else { return Ok(false) };
        let holder = Holder { id: self.id, name: &owned.name, owner: owned.owner };
        let Ok(table) = Table::check(set, self.table, holder) else { return Ok(false) };
        delta::has_members(set, &table, self.id)
    }
}
