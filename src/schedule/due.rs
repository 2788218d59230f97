//! When a segment is due: computed from its schedule and the results of its last refreshes.

use std::collections::{BTreeSet, HashMap, HashSet};

use chrono::TimeDelta;
use pgrx::datum::{TimestampWithTimeZone, Uuid};
use pgrx::prelude::*;

use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::catalog::settings;
use crate::config::{self, ConfigError, Subject, exclusion};
use crate::error::Result;
use crate::pg::clock::{self, Instant};
use segmenter_core::clock::is_ahead;
use segmenter_core::due::{Due, InFamily, LastRun};
use segmenter_core::timetable::Timetables;

/// How often a scheduler refreshes a segment without a schedule, which is due at every run.
const RUN_INTERVAL: TimeDelta = TimeDelta::minutes(1);

/// An active segment, and when it is due. Only the schedule is checked here. Other errors in the
/// config are reported by the refresh.
pub struct Item {
    pub id: Uuid,
    pub name: String,
    pub table: pg_sys::Oid,
    pub owner: pg_sys::Oid,
    pub refresh_cron: Option<String>,
    pub last: Option<LastRun>,
    /// None: refreshed by hand only, or with its family.
    pub due: Option<Due>,
    /// The family that it belongs to, with its name.
    pub family: Option<(Uuid, String)>,
    /// The segment whose refresh is its own: its family, where that is refreshed automatically, or itself.
    pub stands_for: Uuid,
    /// Since when the segment has been waiting for its sources.
    pub waiting_since: Option<Instant>,
    /// The relations that it reads, as far as they are known.
    pub reads: Vec<pg_sys::Oid>,
    /// The segments whose members it leaves out.
    pub lists: Vec<Uuid>,
    /// Its lists have gained members that may have to leave it.
    pub must_close: bool,
    /// Until when automatic refreshes rest.
    pub hold_until: Option<Instant>,
    /// An error in the schedule. An automatic segment is then due, and fails; what follows is the
    /// delay of its retry, until the row is corrected.
    pub problem: Option<String>,
}

impl Item {
    /// When its last refresh began.
    pub fn last_refresh(&self) -> Option<Instant> {
        self.last.map(|last| last.began)
    }

    pub fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due.is_at(now))
    }

    /// When a scheduler refreshes it: when it is due, or without a schedule [`RUN_INTERVAL`] after
    /// the last refresh began.
    pub fn next(&self, now: Instant) -> Option<Instant> {
        match self.due? {
            Due::EveryRun => {
                let last = self.last_refresh().filter(|last| !is_ahead(*last, now));
                Some(last.map_or(now, |last| last + RUN_INTERVAL))
            }
            Due::AtOnce | Due::Freed | Due::Redefined => Some(now),
            due => due.at(),
        }
    }

    /// When a scheduler checks again whether a waiting or locked segment can be refreshed: after a
    /// tenth of the time that it has been waiting, but at least 1 s and at most 30 s.
    pub fn next_check(&self, now: Instant) -> Instant {
        let waited = self.waiting_since.map_or(TimeDelta::zero(), |since| now - since);
        now + (waited / 10).clamp(TimeDelta::seconds(1), TimeDelta::seconds(30))
    }

    /// That its automatic refreshes rest, and until when; none: they do not.
    pub fn held(&self) -> Option<String> {
        let is_held = matches!(self.due, Some(Due::Held(_)));
        self.hold_until.filter(|_| is_held).map(clock::held)
    }

    /// Why it is due or not, as text for `segmenter_due()`.
    pub fn reason(&self, now: Instant) -> String {
        let reason = match self.due {
            _ if self.problem.is_some() => self.problem.clone().unwrap_or_default(),
            None => match &self.family {
                Some((_, family)) => format!("with its family \"{family}\""),
                None => "by hand only".into(),
            },
            Some(Due::EveryRun) => "at every run".into(),
            Some(Due::Scheduled(_)) => "scheduled".into(),
            Some(Due::Retry(_, 1)) => "retry after a failure".into(),
            Some(Due::Retry(_, failures)) => format!("retry after {failures} failures"),
            Some(Due::AtOnce) => "the last refresh lies in the future".into(),
            Some(Due::Freed) => "segments whose members it leaves out have lost some".into(),
            Some(Due::Redefined) => "the definition was changed after the last failure".into(),
            Some(Due::Held(_)) => self.held().unwrap_or_default(),
            Some(Due::Never) => "the schedule has no further time".into(),
        };
        if self.waiting_since.is_some() && self.is_due(now) {
            return format!("{reason}; waiting for its sources");
        }
        reason
    }

    fn read(
        row: &pgrx::spi::SpiHeapTupleData<'_>,
        set: &RelationSet,
        timetables: &mut Timetables,
        now: Instant,
    ) -> Result<Option<Self>> {
        // By their places in the header of the query: looking up names takes longer than the rest.
        let time = |place| -> Result<Option<Instant>> {
            Ok(row.get::<TimestampWithTimeZone>(place)?.map(clock::instant))
        };
        // The owner of a set can have taken the constraints away. Such a row is no segment.
        let (Some(id), Some(name)) = (row.get::<Uuid>(1)?, row.get::<String>(2)?) else {
            return Ok(None);
        };
        let refresh_cron: Option<String> = row.get(6)?;
        let timezone: Option<String> = row.get(7)?;
        let failures: i32 = row.get(12)?.unwrap_or_default();
        let last = match (time(10)?, time(11)?) {
            (Some(began), Some(ended)) => {
                Some(LastRun { began, ended, failures: failures.unsigned_abs() })
            }
            _ => None,
        };

        let subject = Subject::Segment(&name);
        let zone = timezone.as_deref().unwrap_or(set.timezone());
        let actual_begin = time(9)?.unwrap_or_default();
        let after = last.map_or(actual_begin, |last| last.began);
        let parse_zone = || config::timezone("refresh_timezone", Some(zone), subject);
        let mut next = |column, cron: Option<&str>| match cron {
            Some(cron) => {
                let timetable = timetables.get(cron, zone, || {
                    let schedule = config::cron(column, Some(cron), subject)?;
                    Ok::<_, ConfigError>(schedule.zip(parse_zone()?))
                });
                timetable.map(|known| known.map(|known| known.next_after(after)))
            }
            None if timezone.is_some() => parse_zone().map(|_| None),
            None => Ok(None),
        };
        let full_cron: Option<String> = row.get(8)?;
        let scheduled = next("refresh_cron", refresh_cron.as_deref());
        let full = next("refresh_params", full_cron.as_deref());
        let delay = settings::retry_delay();
        let (due, problem) = match (scheduled, full) {
            // The schedule of the full passes makes the segment due as well.
            (Ok(scheduled), Ok(full)) => (
                Due::by(scheduled, last, delay).or_at(full.flatten()).unless_ahead(last, now),
                None,
            ),
            (Err(error), _) | (_, Err(error)) => {
                (Due::without_valid_schedule(last, delay), Some(error.to_string()))
            }
        };
        let waiting_since = time(13)?;
        // Members may return that its lists have lost.
        let is_freed = row.get::<bool>(17)?.unwrap_or_default();
        let due = if is_freed { Due::Freed } else { due };
        // What made it fail may be corrected.
        let is_redefined = row.get::<bool>(18)?.unwrap_or_default() && problem.is_none();
        let due = if is_redefined { Due::Redefined } else { due };
        let hold_until = time(19)?;
        let due = due.held(hold_until, now);
        let automatic = row.get::<bool>(5)?.unwrap_or_default();
        let item = Self {
            id,
            table: row.get(3)?.unwrap_or(pg_sys::InvalidOid),
            owner: row.get(4)?.unwrap_or(pg_sys::InvalidOid),
            last,
            waiting_since,
            reads: row.get(14)?.unwrap_or_default(),
            lists: row.get(15)?.unwrap_or_default(),
            must_close: row.get(16)?.unwrap_or_default(),
            name,
            refresh_cron,
            due: Some(due).filter(|_| automatic),
            family: row.get::<Uuid>(20)?.zip(row.get::<String>(21)?),
            stands_for: id,
            hold_until,
            problem,
        };
        Ok(Some(item))
    }
}

/// The active segments, ordered by name: with `reader`, those whose owner this role may act as; with
/// `only`, those of them that it lists.
pub fn items(
    set: &RelationSet,
    reader: Option<pg_sys::Oid>,
    only: Option<&[Uuid]>,
) -> Result<Vec<Item>> {
    let asked: Option<HashSet<Uuid>> = only.map(|only| only.iter().copied().collect());
    let only = only.map(<[Uuid]>::to_vec);
    set.as_owner(|| {
        Spi::connect(|client| {
            let rows = client.select(
                &exclusion::sql(set, &queries::schedule::LIST_DUE),
                None,
                &[reader.into(), only.into()],
            )?;
            let mut timetables = Timetables::default();
            let now = clock::now();
            let items =
                rows.filter_map(|row| Item::read(&row, set, &mut timetables, now).transpose());
            let mut items = with_families(items.collect::<Result<_>>()?, now);
            items.retain(|item| asked.as_ref().is_none_or(|asked| asked.contains(&item.id)));
            Ok(items)
        })
    })
}

/// Decides when segments of families are due. Families are due if lists of their segments have lost members.
/// They come after the segments whose members theirs leave out, and before those that leave out members of
/// theirs.
fn with_families(mut items: Vec<Item>, now: Instant) -> Vec<Item> {
    let automatic: HashSet<Uuid> = items
        .iter()
        .filter(|item| item.due.is_some_and(|due| !matches!(due, Due::Held(_))))
        .map(|item| item.id)
        .collect();
    let mut freed = HashSet::new();
    for item in &mut items {
        let Some((family, _)) = item.family else { continue };
        let beside = InFamily {
            has_schedule: item.refresh_cron.is_some(),
            is_automatic: automatic.contains(&family),
            waiting_since: item.waiting_since,
        };
        let due = item.due;
        item.due =
            due.and_then(|due| due.in_family(beside, item.last, settings::retry_delay(), now));
        if beside.is_automatic {
            item.stands_for = family;
            if due == Some(Due::Freed) && item.due.is_none() {
                freed.insert(family);
            }
        }
    }
    for item in &mut items {
        if freed.contains(&item.id) {
            item.due = Some(Due::Freed);
        }
    }
    let families: HashMap<Uuid, Uuid> =
        items.iter().filter_map(|item| Some((item.id, item.family.as_ref()?.0))).collect();
    if families.is_empty() {
        return items;
    }
    let mut lists: HashMap<Uuid, BTreeSet<[u8; 16]>> = HashMap::new();
    for item in &mut items {
        let own = families.get(&item.id);
        let of_lists = item.lists.iter().filter_map(|list| families.get(list));
        let of_lists: BTreeSet<_> =
            of_lists.filter(|family| Some(*family) != own).map(|it| *it.as_bytes()).collect();
        item.lists.extend(of_lists.into_iter().map(Uuid::from_bytes));
        if let Some(family) = own {
            let among = |list: &&Uuid| families.get(*list) != own && *list != family;
            let others = item.lists.iter().filter(among).map(|list| *list.as_bytes());
            lists.entry(*family).or_default().extend(others);
        }
    }
    for item in &mut items {
        let found = lists.remove(&item.id).into_iter().flatten().map(Uuid::from_bytes);
        let new: Vec<Uuid> = found.filter(|list| !item.lists.contains(list)).collect();
        item.lists.extend(new);
    }
    items
}
