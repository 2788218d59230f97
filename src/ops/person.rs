//! One person in one segment: the periods of membership, what changed them, and why.

use std::collections::HashMap;

use pgrx::datum::{Timestamp, TimestampWithTimeZone, Uuid};
use pgrx::prelude::*;
use pgrx::spi::SpiHeapTupleData;

use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::catalog::visibility;
use crate::config::exclusion::{self, List};
use crate::config::segment_table::{Holder, Table};
use crate::config::{MatchColumn, Segment};
use crate::error::{Error, Result};
use crate::ops::members;
use crate::pg::exec::role;
use crate::pg::exec::statement;
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};
use crate::pg::system_catalog;
use segmenter_core::reason::Reason;

/// A segment whose table is read for one person.
pub struct Place {
    pub id: Uuid,
    pub name: String,
    oid: pg_sys::Oid,
    /// Qualified and quoted.
    table: String,
    owner: pg_sys::Oid,
    /// The zone of the members' times.
    pub zone: String,
}

/// The segments, retired ones too, whose owner the caller may act as and whose table it may read; with a name, the
/// active one that has it.
pub fn places(set: &RelationSet, name: Option<&str>) -> Result<Vec<Place>> {
    let args = [role::current().into(), name.into()];
    set.as_owner(|| {
        Spi::connect(|client| {
            let sql = set.sql(&queries::ops::person::LIST_SEGMENTS, &[]);
            let rows = client.select(&sql, None, &args)?;
            let places = rows.map(|row| Place::read(set, &row));
            let places: Vec<Option<Place>> = places.collect::<Result<_>>()?;
            Ok(places.into_iter().flatten().collect())
        })
    })
}

/// The active segment that has a name, if the caller may act as its owner or read its table.
pub fn known(set: &RelationSet, name: &str) -> Result<Option<Place>> {
    let args = [vec![name.to_owned()].into(), role::current().into()];
    set.as_owner(|| {
        Spi::connect(|client| {
            let sql = set.sql(&queries::ops::members::FIND_SEGMENTS, &[]);
            let rows = client.select(&sql, Some(1), &args)?;
            let found: Option<Result<Option<Place>>> =
                rows.map(|row| Place::read(set, &row)).next();
            found.unwrap_or(Ok(None))
        })
    })
}

/// A row of a segment table.
struct Row {
    began: Timestamp,
    ended: Timestamp,
    processed: Timestamp,
    began_at: TimestampWithTimeZone,
    ended_at: TimestampWithTimeZone,
    processed_at: TimestampWithTimeZone,
}

/// What happened to a membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Entered,
    Exited,
    Changed,
}

/// A change of a membership, at a local time.
#[derive(Clone)]
pub struct Moment {
    pub change: Change,
    pub local: Timestamp,
    pub at: TimestampWithTimeZone,
}

impl Place {
    /// None: the table was dropped.
    fn read(set: &RelationSet, row: &SpiHeapTupleData<'_>) -> Result<Option<Self>> {
        let oid = row.get_by_name("table_oid")?.unwrap_or(pg_sys::InvalidOid);
        let Some(table) = system_catalog::qualified_name(oid) else { return Ok(None) };
        let zone: Option<String> = row.get_by_name("timezone")?;
        Ok(Some(Self {
            id: row.get_by_name("id")?.ok_or(Error::MissingValue("id"))?,
            name: row.get_by_name("name")?.unwrap_or_default(),
            oid,
            table,
            owner: row.get_by_name("owner")?.unwrap_or(pg_sys::InvalidOid),
            zone: zone.unwrap_or_else(|| set.timezone().to_owned()),
        }))
    }

    /// The changes of a person's membership, in order. The table is read with the rights of the caller.
    pub fn moments(&self, set: &RelationSet, id: &str) -> Result<Vec<Moment>> {
        let rows = set.extension.as_caller(|| {
            role::with_timezone(&self.zone, || {
                Spi::connect(|client| {
                    let parts = [("table", self.table.as_str())];
                    let sql = set.sql(&queries::ops::person::LIST_PERIODS, &parts);
                    let rows = client.select(&sql, None, &[self.id.into(), id.into()])?;
                    rows.map(|row| {
                        let local = |name: &'static str| {
                            row.get_by_name::<Timestamp, _>(name)?.ok_or(Error::MissingValue(name))
                        };
                        let time = |name: &'static str| {
                            row.get_by_name::<TimestampWithTimeZone, _>(name)?
                                .ok_or(Error::MissingValue(name))
                        };
                        Ok(Row {
                            began: local("began")?,
                            ended: local("ended")?,
                            processed: local("processed")?,
                            began_at: time("began_at")?,
                            ended_at: time("ended_at")?,
                            processed_at: time("processed_at")?,
                        })
                    })
                    .collect::<Result<Vec<Row>>>()
                })
            })
        })?;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        Ok(moments(&rows, self.keeps_history(set)))
    }

    fn keeps_history(&self, set: &RelationSet) -> bool {
        let holder = Holder { id: self.id, name: &self.name, owner: self.owner };
        let table =
            in_subtransaction(OnSuccess::Rollback, || Table::check(set, self.oid, holder)).ok();
        table.is_none_or(|table| table.kind.history)
    }

    /// The hashes of a person that the table has, now or at a local time. Those that it cannot have kept are left out.
    pub fn hashes(&self, set: &RelationSet, id: &str, at: Option<Timestamp>) -> Result<Hashes> {
        let args = [self.id.into(), id.into(), at.into()];
        let row = set.extension.as_caller(|| {
            Spi::connect(|client| {
                let parts = [("table", self.table.as_str())];
                let sql = set.sql(&queries::ops::person::FIND_HASHES, &parts);
                let row = client.select(&sql, Some(1), &args)?.first();
                if row.is_empty() {
                    return Ok(None);
                }
                let hash = |name: &str| Ok::<_, Error>(row.get_by_name::<String, _>(name)?);
                let is = |name: &str| Ok::<_, Error>(row.get_by_name(name)? == Some(true));
                let hashes = [
                    (MatchColumn::HashEmail, hash("email")?),
                    (MatchColumn::HashPhone, hash("phone")?),
                ];
                Ok::<_, Error>(Some((hashes, is("is_open")?, is("is_older")?)))
            })
        })?;
        let Some((hashes, is_open, is_older)) = row else { return Ok(Hashes::new()) };
        // Without history a later change has replaced them.
        if !is_older && !self.keeps_history(set) {
            return Ok(Hashes::new());
        }
        Ok(hashes.into_iter().filter(|(_, hash)| is_open || hash.is_some()).collect())
    }
}

/// The changes that rows show. Rows of a table with history that follow each other are versions of one membership.
fn moments(rows: &[Row], keeps_history: bool) -> Vec<Moment> {
    let mut moments = Vec::new();
    for (place, row) in rows.iter().enumerate() {
        let goes_on = place > 0 && rows[place - 1].ended == row.began;
        let change = if goes_on { Change::Changed } else { Change::Entered };
        moments.push(Moment { change, local: row.began, at: row.began_at });
        let is_open = row.ended.is_infinity();
        let is_continued = rows.get(place + 1).is_some_and(|next| next.began == row.ended);
        if !is_open && !is_continued {
            moments.push(Moment { change: Change::Exited, local: row.ended, at: row.ended_at });
        }
        // Changes in place leave the time of the last one.
        if !keeps_history && is_open && row.processed > row.began {
            let (local, at) = (row.processed, row.processed_at);
            moments.push(Moment { change: Change::Changed, local, at });
        }
    }
    moments
}

/// The run that has made a change, and why, as far as the log tells.
#[derive(Clone, Default)]
pub struct Cause {
    pub run: Option<Uuid>,
    pub reason: Option<String>,
    /// The lists because of which a member has left, each with the reason.
    pub lists: Vec<(String, String)>,
    /// The version of the segment's definition that the run went by.
    pub definition: Option<i32>,
    /// Time alone may have changed it, in a refresh that has found changed data as well.
    pub may_be_clock: bool,
}

/// The causes of changes, by their local times.
pub fn causes(set: &RelationSet, segment: Uuid, moments: &[Moment]) -> Result<HashMap<i64, Cause>> {
    let times: Vec<Timestamp> = moments.iter().map(|moment| moment.local).collect();
    if times.is_empty() {
        return Ok(HashMap::new());
    }
    set.as_owner(|| {
        Spi::connect(|client| {
            let sql = set.sql(&queries::ops::person::LIST_CAUSES, &[]);
            let rows = client.select(&sql, None, &[segment.into(), times.into()])?;
            let mut found = HashMap::new();
            for row in rows {
                let Some(at) = row.get_by_name::<Timestamp, _>("at")? else { continue };
                let lists: Option<String> = row.get_by_name("lists")?;
                let lists = lists.and_then(|lists| {
                    serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&lists).ok()
                });
                let lists = lists.into_iter().flatten();
                let cause = Cause {
                    run: row.get_by_name("run_id")?,
                    reason: row.get_by_name("reason")?,
                    lists: lists
                        .map(|(name, reason)| (name, reason.as_str().unwrap_or_default().into()))
                        .collect(),
                    definition: row.get_by_name("definition")?,
                    may_be_clock: row.get_by_name("expired")? == Some(true),
                };
                found.insert(micros(at), cause);
            }
            Ok::<_, Error>(found)
        })
    })
}

/// A time as a number, for look-ups.
pub fn micros(at: Timestamp) -> i64 {
    at.into()
}

/// The time of the last refresh before the one that made a change.
pub fn previous_refresh(
    set: &RelationSet,
    segment: Uuid,
    at: Timestamp,
) -> Result<Option<Timestamp>> {
    set.as_owner(|| {
        let sql = set.sql(&queries::ops::person::FIND_PREVIOUS, &[]);
        Spi::connect(|_| statement::read_one(&sql, &[segment.into(), at.into()]))
    })
}

/// That a person was erased, and is kept out since.
pub struct KeptOut {
    pub at: TimestampWithTimeZone,
    /// The role whose segments the person is kept out of; none: the whole set.
    pub role: Option<String>,
}

/// Since when a person is kept out: of segments of a role, or of those of all roles as which the caller may act.
pub fn kept_out(set: &RelationSet, id: &str, owner: Option<pg_sys::Oid>) -> Result<Vec<KeptOut>> {
    let args = [id.into(), role::current().into(), owner.into()];
    set.as_owner(|| {
        Spi::connect(|client| {
            let key = set.sql(&queries::catalog::SECRET_KEY, &[]);
            let sql = set.sql(&queries::ops::person::FIND_KEPT_OUT, &[("secret_key", &key)]);
            let rows = client.select(&sql, None, &args)?;
            rows.map(|row| {
                let at = row.get_by_name("at")?.ok_or(Error::MissingValue("at"))?;
                Ok(KeptOut { at, role: row.get_by_name("role")? })
            })
            .collect::<Result<_>>()
        })
    })
}

/// Hashes of a person that are known: none is known to be null.
pub type Hashes = Vec<(MatchColumn, Option<String>)>;

/// What members are compared by.
#[derive(Clone, Default)]
pub struct Identity {
    pub id: String,
    pub email: Option<String>,
    pub phone: Option<String>,
    /// The hashes that are not known.
    pub unknown: Vec<MatchColumn>,
}

/// A list of a segment, with how it comes to be one.
pub struct Listed {
    pub list: List,
    pub reason: Reason,
    /// The owner of the segment.
    reader: pg_sys::Oid,
}

/// The lists of a segment.
pub fn lists(set: &RelationSet, segment: &Segment) -> Result<Vec<Listed>> {
    let reason = |list: &List| if list.is_priority { Reason::Priority } else { Reason::Exclusion };
    let lists = exclusion::lists(set, segment)?.into_iter();
    let reader = segment.owner;
    Ok(lists.map(|list| Listed { reason: reason(&list), list, reader }).collect())
}

impl Listed {
    /// Whether it compares members by hashes.
    pub fn is_by_hashes(&self) -> bool {
        self.list.now.by.iter().any(|by| *by != MatchColumn::Id)
    }

    /// The columns that it compares and that are not known of a person.
    pub fn unknown_of(&self, who: &Identity) -> Vec<&'static str> {
        let by = self.list.now.by.iter().filter(|by| who.unknown.contains(by));
        by.map(|by| by.name()).collect()
    }

    /// Whether the caller may read the table of the list.
    pub fn may_be_read(&self, set: &RelationSet) -> Result<bool> {
        visibility::may_read(set, (self.list.table, self.list.owner), role::current())
    }

    /// Since when the person is in the list: now, or at a local time; or, with `after`, since when it was in it before
    /// it left between that time and `at`. None: it is not in it. The table is read as a refresh reads it, with the
    /// rights of its owner, as long as the segment's owner may read it.
    pub fn since(
        &self,
        set: &RelationSet,
        who: &Identity,
        (at, after): (Option<Timestamp>, Option<Timestamp>),
    ) -> Result<Option<TimestampWithTimeZone>> {
        let List { id, name, owner, table, now, may_read, .. } = &self.list;
        if !may_read {
            let role = role::name(self.reader);
            return Err(Error::MayNotRead { segment: name.clone(), role });
        }
        let holder = Holder { id: *id, name, owner: *owner };
        let table = Table::check(set, *table, holder)?;
        let period = match (at, after) {
            (Some(_), Some(_)) => queries::ops::person::IS_FREED.fragment().to_owned(),
            (Some(_), None) => members::period(set, Some("$5")),
            (None, _) => members::period(set, None),
        };
        let matches = now.by.iter().map(|by| match by {
            MatchColumn::Id => "t.id operator(pg_catalog.=) $2::pg_catalog.\"varchar\"",
            MatchColumn::HashEmail => "(t.hash_email)::pg_catalog.text operator(pg_catalog.=) $3",
            MatchColumn::HashPhone => "(t.hash_phone)::pg_catalog.text operator(pg_catalog.=) $4",
        });
        let matches = matches.collect::<Vec<_>>().join(" or ");
        let parts = [
            ("table", table.name.as_str()),
            ("matches", matches.as_str()),
            ("period", period.as_str()),
        ];
        let sql = || set.sql(&queries::ops::person::FIND_LISTED, &parts);
        let args = [
            (*id).into(),
            who.id.as_str().into(),
            who.email.as_deref().into(),
            who.phone.as_deref().into(),
            at.into(),
            after.into(),
        ];
        set.as_table_owner(table.owner, || {
            Spi::connect(|_| statement::read_one::<TimestampWithTimeZone>(&sql(), &args))
        })
    }
}
