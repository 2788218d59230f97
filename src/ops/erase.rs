//! Erasing a person from segment tables, messages and the log. Consumers that have received the
//! person get a message to remove the person.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use pgrx::datum::Uuid;
use pgrx::prelude::*;
use pgrx::spi::SpiClient;
use serde_json::json;

use crate::catalog::log::{self, Action, Entry, LogCounts, LogStatus};
use crate::catalog::queries;
use crate::catalog::query::Query;
use crate::catalog::relation_set::RelationSet;
use crate::catalog::settings;
use crate::catalog::state;
use crate::config::segment_table::Table;
use crate::config::{Fields, Segment};
use crate::error::{Error, Report, Result, emit_warning};
use crate::pg::clock;
use crate::pg::exec::durable;
use crate::pg::exec::lock;
use crate::pg::exec::role;
use crate::pg::exec::snapshot::Active;
use crate::pg::exec::subtransaction::{OnSuccess, in_limited_subtransaction, in_subtransaction};
use crate::refresh;
use crate::refresh::handover::latest;
use crate::refresh::publish::outbox;
use crate::refresh::publish::payload::{self, Origin, PayloadInput};
use crate::refresh::publish::subscription::{self, Subscription};
use crate::refresh::segment_lock;
use segmenter_core::content::Content;
use segmenter_core::reason::Reason;
use segmenter_core::sync_plan::SyncAction;

pub mod kept_out;
mod messages;
mod redact;
mod similar;

use messages::{Notice, Search, redact_messages};

/// How long an erasure waits for locks because of the segments of one owner, all in all: a role that
/// holds locks delays the erasure of other roles' segments by no more than that.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The time that an erasure spends on all segments of a role other than the current one, whose triggers
/// and policies run meanwhile. A shorter segmenter.refresh_timeout applies instead.
const LONGEST_WORK: Duration = Duration::from_secs(60);
/// The part of a segment's time that does not count.
const GRACE: Duration = Duration::from_secs(1);

/// What is left of the time for the segments of one owner.
#[derive(Clone, Copy)]
struct Allowance {
    /// For locks.
    wait: Duration,
    /// None: no limit.
    work: Option<Duration>,
}

impl Allowance {
    fn of(owner: pg_sys::Oid) -> Self {
        let limit =
            settings::refresh_timeout().map_or(LONGEST_WORK, |limit| limit.min(LONGEST_WORK));
        Self { wait: LONGEST_WAIT, work: (owner != role::current()).then_some(limit) }
    }
}

/// Works on a segment in a subtransaction, for the time that is left.
fn work<T>(left: &mut Option<Duration>, body: impl FnOnce() -> Result<T>) -> Result<T> {
    let Some(limit) = left else { return in_subtransaction(OnSuccess::Commit, body) };
    let began = Instant::now();
    let result = in_limited_subtransaction(*limit + GRACE, body);
    *limit = limit.saturating_sub(began.elapsed().saturating_sub(GRACE));
    result
}

/// What was erased from one segment.
pub struct Erased {
    pub segment: String,
    /// Deleted rows of the segment table.
    pub rows: u64,
    /// Messages that have consumers remove the person.
    pub messages: u64,
    /// Why the segment may still hold the person; none: it does not.
    pub failure: Option<Report>,
}

/// What segment tables held of the person, beside the id that was given.
#[derive(Default)]
struct Traces {
    /// The ids, which a collation may take for equal.
    ids: BTreeSet<String>,
    hashes: BTreeSet<String>,
}

/// What is left of a segment.
#[derive(Default)]
struct Left {
    /// The members that were deleted.
    members: u64,
    /// What the segment's table holds without them; none: as before, or not known.
    content: Option<Content>,
}

impl Left {
    /// Without the members with this id. Where that cannot be told, nothing is taken off: the next refresh
    /// takes the missing row for one that was deleted by hand, and hands over all members.
    fn without(set: &RelationSet, segment: &Segment, rows: &SegmentRows, id: &str) -> Result<Self> {
        if !rows.has_end {
            return Ok(Self::default());
        }
        let (_, _, last) = refresh::last_content(set, segment)?;
        let table = &rows.table;
        let left = set.as_table_owner(table.owner, || {
            in_subtransaction(OnSuccess::Commit, || last.without((set, table), segment.id, id))
        });
        Ok(match left {
            Ok((members, content)) => Self { members, content },
            Err(error @ Error::Superseded(_)) => return Err(error),
            Err(_) => Self::default(),
        })
    }
}

/// A segment that the caller may erase from.
struct Listed {
    id: Uuid,
    name: String,
    owner: pg_sys::Oid,
}

/// Erases a person from every segment whose owner the caller may act as. Each segment is a
/// subtransaction: what cannot be erased from one stops no other. With `keep_out`, no refresh adds the
/// person again. Returns the segments that held the person, and those that may still hold the person.
pub fn erase(set: &RelationSet, id: &str, keep_out: bool, run_id: Uuid) -> Result<Vec<Erased>> {
    durable::flush_at_commit();
    let mut erased: BTreeMap<usize, Erased> = BTreeMap::new();
    let mut traces = Traces { ids: BTreeSet::from([id.to_owned()]), ..Traces::default() };
    let segments = list(set)?;
    let mut owners: HashMap<pg_sys::Oid, Allowance> = HashMap::new();
    for (place, segment) in segments.iter().enumerate() {
        let left = owners.entry(segment.owner).or_insert_with(|| Allowance::of(segment.owner));
        let found = erase_segment(set, segment, id, run_id, &mut traces, left)?;
        if found.rows > 0 || found.messages > 0 || found.failure.is_some() {
            erased.insert(place, found);
        }
    }
    // The hashes that one segment holds may occur in the log of another segment.
    let patterns = redact::patterns(id, &traces.hashes);
    if !patterns.is_empty() {
        for (place, segment) in segments.iter().enumerate() {
            let Allowance { wait, work: time } =
                owners.entry(segment.owner).or_insert_with(|| Allowance::of(segment.owner));
            let began = Instant::now();
            // The log of the extension's own set runs no code of others.
            let mut none = None;
            let time = if set.is_own { &mut none } else { time };
            let scrubbed = work(time, || {
                role::with_lock_timeout(*wait, || redact::redact(set, segment.id, &patterns, id))
            });
            if let Err(error) = scrubbed {
                *wait = wait.saturating_sub(began.elapsed());
                let report = failed(set, segment, error.report(), run_id)?;
                let entry = erased.entry(place).or_insert_with(|| Erased::nothing(&segment.name));
                entry.failure.get_or_insert(report);
            }
        }
        redact::redact_rest(set, &segments, &patterns, id);
    }
    // Captured changes are shared by all segments of the database. Ids are removed from them only
    // if the caller may act as the owner of the extension's own set. Otherwise they are deleted
    // once they have been read.
    if set.is_own && role::may_act_as(role::current(), set.owner) {
        set.extension.as_owner(|| {
            Spi::run_with_args(&set.sql(&queries::ops::erase::DELETE_CAPTURED, &[]), &[id.into()])
        })?;
    }
    if keep_out {
        kept_out::keep_out(set, &traces.ids, run_id)?;
    }
    if erased.is_empty() {
        similar::report(set, &segments, id);
    }
    Ok(erased.into_values().collect())
}

impl Erased {
    fn nothing(segment: &str) -> Self {
        Self { segment: segment.to_owned(), rows: 0, messages: 0, failure: None }
    }
}

fn list(set: &RelationSet) -> Result<Vec<Listed>> {
    let args = [role::current().into()];
    set.as_owner(|| {
        Spi::connect(|client| {
            let missing = |column| move || Error::MissingValue(column);
            let rows =
                client.select(&set.sql(&queries::ops::erase::LIST_SEGMENTS, &[]), None, &args)?;
            let rows = rows.map(|row| {
                Ok(Listed {
                    id: row.get_by_name("id")?.ok_or_else(missing("id"))?,
                    name: row.get_by_name("name")?.ok_or_else(missing("name"))?,
                    owner: row.get_by_name("owner")?.ok_or_else(missing("owner"))?,
                })
            });
            rows.collect()
        })
    })
}

/// Erases from one segment. If that fails, at least the messages are searched that hold the id.
fn erase_segment(
    set: &RelationSet,
    listed: &Listed,
    id: &str,
    run_id: Uuid,
    traces: &mut Traces,
    Allowance { wait, work: time }: &mut Allowance,
) -> Result<Erased> {
    let began = Instant::now();
    let limit = *wait;
    let mut erase = |is_table_read: bool, limit: Duration| {
        work(time, || {
            // A running refresh may be about to hand the person over: wait until it has ended.
            let _held = segment_lock::wait(set, listed.id, &listed.name, limit)?;
            // From here on, waits are those of a table or of rows.
            *wait = wait.saturating_sub(began.elapsed());
            role::with_lock_timeout(*wait, || {
                let (_snapshot, segment) = match latest(set, listed.id) {
                    Ok(latest) => latest,
                    Err(Error::UnknownSegment { .. }) => return Ok(Erased::nothing(&listed.name)),
                    Err(error) => return Err(error),
                };
                let table = match is_table_read {
                    true => SegmentRows::open(set, &segment)?,
                    false => None,
                };
                let mut left = Left::default();
                let found =
                    erase_from(set, &segment, table.as_ref(), id, run_id, (traces, &mut left))?;
                if found.rows > 0 || found.messages > 0 {
                    state::count_erasure(set, segment.id, left.members, left.content.as_ref())?;
                    log_erased(set, &segment, None, &found, run_id)?;
                }
                Ok(found)
            })
        })
    };
    let error = match erase(true, limit) {
        Ok(found) => return Ok(found),
        // The transaction must be tried again as a whole.
        Err(error @ Error::Superseded(_)) => return Err(error),
        Err(error) => error,
    };
    let found = match &error {
        Error::Busy { .. } => None,
        _ => erase(false, Duration::ZERO).ok(),
    };
    if error.report().sqlstate == PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE as i32 {
        *wait = limit.saturating_sub(began.elapsed());
    }
    let mut found = found.unwrap_or_else(|| Erased::nothing(&listed.name));
    found.failure = Some(failed(set, listed, error.report(), run_id)?);
    Ok(found)
}

/// Reports that a segment may still hold the person.
fn failed(set: &RelationSet, segment: &Listed, report: Report, run_id: Uuid) -> Result<Report> {
    emit_warning(&format!("the person was not erased from segment \"{}\"", segment.name), &report);
    let entry = Entry {
        run_id: Some(run_id),
        action: Action::Erase,
        status: LogStatus::Failed,
        segment: (Some(segment.id), &segment.name),
        subscription: None,
        counts: LogCounts::default(),
        began: clock::now(),
        elapsed: None,
        message: Some(&report.message),
        error: Some(&report),
        params: json!({ "role": role::name(role::current()) }),
        reason: None,
    };
    log::write(set, entry)?;
    Ok(report)
}

/// The table of a segment, locked, as far as an erasure needs it.
struct SegmentRows {
    table: Table,
    has_end: bool,
}

impl SegmentRows {
    /// Checks and locks the table. None: it was dropped, and its rows with it. The rights are checked
    /// before the lock: a row of a segment can name any table.
    fn open(set: &RelationSet, segment: &Segment) -> Result<Option<Self>> {
        let check = || match Table::check_erasable(set, segment.table, segment.holder()) {
            Ok((table, has_end)) => Ok(Some(Self { table, has_end })),
            Err(Error::TableDropped(_)) => Ok(None),
            Err(error) => Err(error),
        };
        let Some(found) = check()? else { return Ok(None) };
        let table = found.table;
        table.check_visible_to_owner()?;
        let may = |role| role::may_use_table(role, table.oid);
        if !may(role::current())? || !(table.is_in_mart() || may(segment.owner)?) {
            let role = role::name(segment.owner);
            return Err(Error::NotTableUser { table: table.name, role });
        }
        if !lock::lock_table(table.oid) {
            return Ok(None);
        }
        let locked = check()?;
        if let Some(locked) = &locked {
            locked.table.check_visible_to_owner()?;
        }
        Ok(locked)
    }

    /// The SQL of a member as the table stores it, with those of the fields that are columns of the
    /// table. None: no field is.
    fn member(&self, fields: &Fields) -> Result<Option<String>> {
        fields
            .restrict_to(|column| self.has(column))
            .map(|fields| payload::member_as_stored(&self.table, &fields))
            .transpose()
    }

    fn has(&self, column: &str) -> bool {
        self.table.columns.iter().any(|known| known.name == column)
    }

    fn sql(&self, set: &RelationSet, query: &Query, now: &str) -> String {
        const END: &str = "t.actual_end operator(pg_catalog.=) 'infinity'::pg_catalog.timestamp";
        let contacts = ["hash_email", "hash_phone"].into_iter().filter(|column| self.has(column));
        let contacts: Vec<String> =
            contacts.map(|column| format!("t.{column}::pg_catalog.text")).collect();
        let parts = [
            ("table", self.table.name.as_str()),
            ("collation", self.table.id_collation.as_str()),
            ("now", now),
            ("actual", if self.has_end { END } else { "true" }),
            ("contacts", &contacts.join(", ")),
        ];
        set.sql(query, &parts)
    }
}

fn erase_from(
    set: &RelationSet,
    segment: &Segment,
    rows: Option<&SegmentRows>,
    id: &str,
    run_id: Uuid,
    (traces, left): (&mut Traces, &mut Left),
) -> Result<Erased> {
    let mut erased = Erased::nothing(&segment.name);
    let snapshot = Active::fresh();
    let subscriptions = subscription::find(set, None, Some(segment.id), None)?;
    let (at, ..) = refresh::last_content(set, segment)?;
    let mut search = Search { set, segment: segment.id, rows, id, at, known: HashMap::new() };
    let notices = Spi::connect_mut(|client| {
        let notices = redact_messages(client, &mut search, subscriptions)?;
        set.as_owner(|| {
            let sql = set.sql(&queries::ops::erase::DELETE_ORPHANED_MESSAGES, &[]);
            client.update(&sql, None, &[segment.id.into()]).map(drop)
        })?;
        if let Some(rows) = rows {
            *left = Left::without(set, segment, rows, id)?;
            erased.rows = rows.table.with_constraints_at_once(set, || {
                delete_rows(client, set, rows, segment, id, traces)
            })?;
        }
        Ok::<_, Error>(notices)
    })?;
    drop(snapshot);

    let _snapshot = Active::fresh();
    let gone = Error::TableDropped(segment.name.clone()).report();
    let table = rows.map(|rows| &rows.table).ok_or(gone);
    let source = PayloadInput {
        set,
        table,
        delta: None,
        origin: Origin::Refresh,
        run_id,
        reason: None,
        at: Some(at),
        summing: None,
    };
    let (mut removals, mut actions) = (Vec::new(), Vec::new());
    for (subscription, notice) in notices {
        match notice {
            Notice::Remove(members) => removals.push((subscription, members)),
            Notice::Everything => actions.push((subscription, SyncAction::FullSync)),
        }
    }
    Spi::connect_mut(|client| {
        erased.messages += outbox::hand_over_removals(client, &source, &removals)?;
        for (subscription, _) in &removals {
            let sent = Erased { messages: 1, ..Erased::nothing(&segment.name) };
            log_erased(set, segment, Some(subscription), &sent, run_id)?;
        }
        if !actions.is_empty() {
            erased.messages += outbox::hand_over(client, &source, actions)?.messages;
        }
        Ok(erased)
    })
}

/// Deletes the person's rows with the rights of the table's owner, and adds what they held to
/// `traces`. Rows that are still there are an error.
fn delete_rows(
    client: &mut SpiClient<'_>,
    set: &RelationSet,
    rows: &SegmentRows,
    segment: &Segment,
    id: &str,
    traces: &mut Traces,
) -> Result<u64> {
    let args = [segment.id.into(), id.into()];
    set.as_table_owner(rows.table.owner, || {
        let sql = rows.sql(set, &queries::ops::erase::DELETE_ROWS, "");
        let deleted = client.update(&sql, None, &args)?;
        let count = deleted.len() as u64;
        for row in deleted {
            let contacts = row.get_by_name::<Vec<Option<String>>, _>("contacts")?;
            traces.hashes.extend(contacts.unwrap_or_default().into_iter().flatten());
            traces.ids.extend(row.get_by_name::<String, _>("id")?);
        }
        let sql = rows.sql(set, &queries::ops::erase::HAS_MEMBER, "");
        // Not read-only: it has to see what was deleted.
        match client.update(&sql, Some(1), &args)?.first().get_one::<bool>()? {
            Some(true) => Err(Error::RowsRemain(rows.table.name.clone())),
            _ => Ok(count),
        }
    })
}

fn log_erased(
    set: &RelationSet,
    segment: &Segment,
    subscription: Option<&Subscription>,
    erased: &Erased,
    run_id: Uuid,
) -> Result<()> {
    let entry = Entry {
        run_id: Some(run_id),
        action: Action::Erase,
        status: LogStatus::Ok,
        segment: (Some(segment.id), &segment.name),
        subscription: subscription
            .map(|subscription| (subscription.id, subscription.target.as_str())),
        counts: LogCounts::default(),
        began: clock::now(),
        elapsed: None,
        message: None,
        error: None,
        params: json!({
            "rows": erased.rows,
            "messages": erased.messages,
            "role": role::name(role::current()),
        }),
        reason: Some(Reason::Erased),
    };
    log::write(set, entry)
}
