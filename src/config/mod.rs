//! Reads and validates the config rows of segments. Later code may assume that they are valid.

use pgrx::datum::{TimestampWithTimeZone, Uuid};
use pgrx::prelude::*;
use serde_json::Value;

use segmenter_core::guards::Guards;

use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::error::Result;
use crate::pg::clock::{self, Instant};
use crate::pg::format::json::JsonbText;

pub mod exclusion;
pub mod family;
pub mod readers;
pub mod segment_table;

use family::Kinship;
use segment_table::Holder;
pub use segmenter_core::config::*;

/// A row of `segmenter_segments`, read and validated.
pub struct Segment {
    pub id: Uuid,
    pub name: String,
    pub table: pg_sys::Oid,
    pub owner: pg_sys::Oid,
    /// How the members are computed; none: the segment is loaded by hand. That of a segment of a
    /// family gives the rows for it.
    pub refresher: Option<Refresher>,
    pub kinship: Kinship,
    pub guards: Guards,
    pub sources: Vec<SourceCheck>,
    /// The schedule; none: it is refreshed at every run.
    pub cron: Option<String>,
    /// The time zone of its schedules; none: `segmenter.timezone`.
    pub timezone: Option<String>,
    pub actual: bool,
    /// Whether it leaves out members of other segments, or did so at its last refresh.
    pub has_lists: bool,
    /// Whether its members are left out of every segment that is not exempt.
    pub is_suppression: bool,
    /// Whether other segments leave out its members.
    pub is_list: bool,
    /// Whether people are or were kept out of segments of the set.
    pub has_kept_out: bool,
    /// Suppression lists that do not apply, each with the reason; null: there are none.
    pub exempt: Value,
    /// The version of its definition; none: it has no history.
    pub definition: Option<i32>,
    /// Until when automatic refreshes rest; none: they do not.
    pub held_until: Option<Instant>,
}

impl Segment {
    /// The part of the segment that checks of its table need.
    pub fn holder(&self) -> Holder<'_> {
        Holder { id: self.id, name: &self.name, owner: self.owner }
    }
}

/// Identifies a segment or a consumer.
#[derive(Clone, Copy)]
pub enum Key<'a> {
    Name(&'a str),
    Id(Uuid),
}

/// Parses a `jsonb` of a config row; null stays null. A value that PostgreSQL takes and the parser
/// does not (nested too deeply, a number that is out of range) is an error that names the column.
pub fn parse(column: &'static str, json: Option<JsonbText>, subject: Subject<'_>) -> Result<Value> {
    let parsed = json.map_or(Ok(Value::Null), |json| json.parse());
    Ok(parsed.map_err(|problem| ConfigError::new(column, subject, problem, ""))?)
}

impl Segment {
    /// Reads a segment as the active snapshot sees it. A name finds active segments only, an id
    /// retired ones too. A value that is not valid is an error.
    pub fn find(set: &RelationSet, key: Key<'_>) -> Result<Option<Segment>> {
        let Some(mut found) = Self::read(set, key, true)? else { return Ok(None) };
        let named = (found.name.as_str(), found.table, found.owner);
        (found.refresher, found.kinship) = family::resolve(set, found.refresher.take(), named)?;
        Ok(Some(found))
    }

    /// Reads a segment without its refresher, its guards and its sources, which need not be valid.
    pub fn find_bare(set: &RelationSet, key: Key<'_>) -> Result<Option<Segment>> {
        Self::read(set, key, false)
    }

    /// Checks the schedule. Only runs depend on it: a segment is refreshed by hand whatever its
    /// schedule is.
    pub fn check_schedule(&self, set: &RelationSet) -> Result<()> {
        let subject = Subject::Segment(&self.name);
        cron("refresh_cron", self.cron.as_deref(), subject)?;
        let zone = match self.cron {
            Some(_) => Some(self.timezone.as_deref().unwrap_or(set.timezone())),
            None => self.timezone.as_deref(),
        };
        timezone("refresh_timezone", zone, subject)?;
        Ok(())
    }

    /// Reads a segment; what it has of its family is not looked up.
    fn read(set: &RelationSet, key: Key<'_>, with_config: bool) -> Result<Option<Segment>> {
        let (name, id) = match key {
            Key::Name(name) => (Some(name), None),
            Key::Id(id) => (None, Some(id)),
        };
        set.as_owner(|| {
            Spi::connect(|client| {
                let row = client
                    .select(
                        set.kept(&queries::config::FIND_SEGMENT),
                        Some(1),
                        &[name.into(), id.into()],
                    )?
                    .first();
                if row.is_empty() {
                    return Ok(None);
                }
                let Some(name) = row.get_by_name::<String, _>("name")? else { return Ok(None) };
                let Some(id) = row.get_by_name::<Uuid, _>("id")? else { return Ok(None) };
                let subject = Subject::Segment(&name);
                let json = |column| parse(column, row.get_by_name(column)?, subject);
                let table = row.get_by_name("table_oid")?.unwrap_or(pg_sys::InvalidOid);
                let owner = row.get_by_name("owner")?.unwrap_or(pg_sys::InvalidOid);
                let (refresher, guards, sources) = match with_config {
                    true => (
                        refresher(json("refresh_params")?, subject)?,
                        guards(json("guards")?, subject)?,
                        sources(json("sources")?, subject)?,
                    ),
                    false => (None, Guards::default(), Vec::new()),
                };
                Ok(Some(Segment {
                    refresher,
                    kinship: Kinship::None,
                    guards,
                    sources,
                    table,
                    owner,
                    cron: row.get_by_name("refresh_cron")?,
                    timezone: row.get_by_name("refresh_timezone")?,
                    actual: row.get_by_name("actual")?.unwrap_or_default(),
                    has_lists: row.get_by_name("has_lists")?.unwrap_or_default(),
                    is_suppression: row.get_by_name("is_suppression")?.unwrap_or_default(),
                    is_list: row.get_by_name("is_list")?.unwrap_or_default(),
                    has_kept_out: row.get_by_name("has_kept_out")?.unwrap_or_default(),
                    exempt: json("exempt")?,
                    definition: row.get_by_name("definition")?,
                    held_until: row
                        .get_by_name::<TimestampWithTimeZone, _>("held_until")?
                        .map(clock::instant),
                    id,
                    name,
                }))
            })
        })
    }
}
