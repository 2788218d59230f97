//! Alerts: after each refresh its segment is looked at, and from time to time all segments are; what has changed is
//! reported to consumers, in the outbox and as a notification.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::time::Duration;

use pgrx::datum::{TimestampWithTimeZone, Uuid};
use pgrx::prelude::*;
use pgrx::spi::SpiHeapTupleData;
use serde_json::Value;

use crate::catalog::log;
use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::config::{self, AlertKind, AlertRule, Subject as Of};
use crate::error::{Error, Result, emit_warning};
use crate::pg::bgw::process;
use crate::pg::clock::{self, Instant};
use crate::pg::exec::at_commit;
use crate::pg::exec::durable;
use crate::pg::exec::kept::Kept;
use crate::pg::exec::lock;
use crate::pg::exec::snapshot::Active;
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction, unless_superseded};
use crate::pg::format::json::JsonbText;
use segmenter_core::alert::{
    self, Damping, Facts, Handed, Interval, Memory, Observed, Reported, Status, Subject,
};
use segmenter_core::guards::DeltaStats;
use segmenter_core::unusual::Unusual;

mod intervals;
mod message;

use intervals::Intervals;
pub use message::write_now;
use message::{Message, Recipient, notify};

/// What is known of all segments beside what a refresh records.
#[derive(Default)]
pub struct Surroundings {
    /// For how long segments have been due that are.
    pub due: HashMap<Uuid, Duration>,
    /// How far audiences differ from what was handed over, by subscription, and whether that is more than allowed.
    pub drifts: HashMap<Uuid, (f64, bool)>,
}

/// Looks at a segment after an attempt to refresh it. A look that fails is a WARNING: the next one makes up
/// for it.
pub fn look_at(set: &RelationSet, segment: Uuid, run_id: Uuid) -> Result<()> {
    guarded(set, || Look { set, segment: Some(segment), run_id: Some(run_id), all: None }.report())
}

/// Looks at all segments that rules cover. `surroundings` says what is known of them beside.
pub fn look_at_all(
    set: &RelationSet,
    surroundings: impl FnOnce() -> Result<Surroundings>,
) -> Result<()> {
    guarded(set, || {
        let all = surroundings()?;
        Look { set, segment: None, run_id: None, all: Some(all) }.report()
    })
}

/// Whether there is a rule of alerts.
fn has_rules(set: &RelationSet) -> Result<bool> {
    let found: Option<bool> = set.as_owner(|| {
        Spi::connect(|client| {
            let sql = set.kept(&queries::refresh::alerts::HAS_RULES);
            client.select(sql, Some(1), &[])?.first().get_one()
        })
    })?;
    Ok(found == Some(true))
}

fn guarded(set: &RelationSet, look: impl FnOnce() -> Result<()>) -> Result<()> {
    if process::is_in_recovery() || !has_rules(set)? {
        return Ok(());
    }
    // What this transaction has recorded is seen.
    let _snapshot = Active::fresh();
    // Another session may have reported it since the snapshot of a transaction that keeps it.
    if let Err(error) = in_subtransaction(OnSuccess::Commit, || unless_superseded(look)) {
        emit_warning("alerts were not reported", &error.report());
    }
    Ok(())
}

/// A rule, and a segment that it covers.
struct Watched {
    alert: Uuid,
    consumer: Recipient,
    rule: Rc<Readable>,
    segment: Uuid,
    name: String,
    facts: Facts,
    unusual: Unusual,
    memories: HashMap<String, Memory>,
}

/// A rule, with its intervals.
struct Readable {
    rule: AlertRule,
    intervals: Intervals,
}

impl Readable {
    /// Reads a rule. One that was written while its trigger was off, or by another version, may be none.
    fn read(set: &RelationSet, rule: Option<JsonbText>, consumer: &str) -> Result<Self> {
        let of = Of::Alert(consumer);
        let rule = config::alert_rule(config::parse("rule", rule, of)?, of)?;
        let intervals = Intervals::of(set, &rule)?;
        Ok(Self { rule, intervals })
    }
}

/// Checks a rule that is recorded.
pub fn check_rule(set: &RelationSet, rule: Option<JsonbText>, consumer: &str) -> Result<()> {
    Readable::read(set, rule, consumer).map(drop)
}

/// What is to be recorded of a subject, and reported.
struct Change {
    alert: Uuid,
    consumer: Recipient,
    segment: (Uuid, String),
    subject: String,
    /// None: nothing has to be kept.
    memory: Option<Memory>,
    reported: Option<(Reported, Value)>,
}

struct Look<'a> {
    set: &'a RelationSet,
    segment: Option<Uuid>,
    run_id: Option<Uuid>,
    /// None: only what a refresh has recorded is looked at.
    all: Option<Surroundings>,
}

impl Look<'_> {
    /// Reports what has changed. Segments that another session is reporting about are left to it, and to the next
    /// look.
    fn report(&self) -> Result<()> {
        let now = clock::now();
        let changes = self.changes(now)?;
        let segments: BTreeSet<[u8; 16]> =
            changes.iter().map(|change| *change.segment.0.as_bytes()).collect();
        let locked: BTreeSet<[u8; 16]> = segments
            .into_iter()
            .filter(|segment| lock::try_lock_alerts(self.set.segments(), segment))
            .collect();
        if locked.is_empty() {
            return Ok(());
        }
        // What was reported before the locks were taken is seen now.
        let _snapshot = Active::fresh();
        let changes = self.changes(now)?;
        let changes: Vec<Change> = changes
            .into_iter()
            .filter(|change| locked.contains(change.segment.0.as_bytes()))
            .collect();
        self.record(&changes, now)
    }

    /// What has changed since the last look.
    fn changes(&self, now: Instant) -> Result<Vec<Change>> {
        let mut changes = Vec::new();
        for watched in self.watched(now)? {
            pgrx::check_for_interrupts!();
            self.compare(watched, now, &mut changes)?;
        }
        if self.all.is_some() {
            changes.extend(self.left(now)?);
        }
        Ok(changes)
    }

    fn watched(&self, now: Instant) -> Result<Vec<Watched>> {
        let mut handed = match self.all {
            Some(_) => self.handed(now)?,
            None => HashMap::new(),
        };
        self.set.as_owner(|| {
            Spi::connect(|client| {
                let sql = self.set.sql(&queries::refresh::alerts::LIST_WATCHED, &[]);
                let args = [self.segment.into()];
                let rows = match self.segment {
                    Some(_) => client.select(Kept::new(sql), None, &args)?,
                    None => client.select(&sql, None, &args)?,
                };
                let mut watched = Vec::new();
                let mut rules = HashMap::new();
                for row in rows {
                    let rule = rules.entry(uuid(&row, "alert_id")?);
                    let rule = rule.or_insert_with(|| {
                        let consumer: Option<String> = row.get_by_name("consumer").ok()?;
                        let rule = row.get_by_name("rule").ok()?;
                        // The doctor tells of a rule that is not valid. The others are looked at.
                        let read = Readable::read(self.set, rule, &consumer.unwrap_or_default());
                        read.ok().map(Rc::new)
                    });
                    let Some(rule) = rule.clone() else { continue };
                    let mut found = self.read(&row, rule, now)?;
                    let key = (found.alert, found.segment);
                    found.facts.subscriptions = handed.remove(&key).unwrap_or_default();
                    watched.push(found);
                }
                Ok(watched)
            })
        })
    }

    fn read(
        &self,
        row: &SpiHeapTupleData<'_>,
        rule: Rc<Readable>,
        now: Instant,
    ) -> Result<Watched> {
        let text = |column| Ok::<_, Error>(row.get_by_name::<String, _>(column)?);
        let count = |column| {
            let count: Option<i64> = row.get_by_name(column)?;
            Ok::<_, Error>(count.unwrap_or_default())
        };
        let segment = uuid(row, "segment_id")?;
        let consumer = Recipient::read(row)?;
        let json = |column| -> Result<Value> {
            let json: Option<JsonbText> = row.get_by_name(column)?;
            Ok(json.and_then(|json| json.parse().ok()).unwrap_or_default())
        };
        let since = |at: Option<TimestampWithTimeZone>| {
            at.map(|at| (now - clock::instant(at)).to_std().unwrap_or_default())
        };
        let unusual = json("guards")?.get("unusual").cloned();
        let after = count("coverage")?;
        let before = after - count("added")? + count("removed")?;
        let status = text("status")?;
        Ok(Watched {
            alert: uuid(row, "alert_id")?,
            rule,
            segment,
            name: text("segment")?.unwrap_or_default(),
            unusual: unusual.and_then(|json| serde_json::from_value(json).ok()).unwrap_or_default(),
            memories: serde_json::from_value(json("states")?).unwrap_or_default(),
            facts: Facts {
                status: status.map(|status| match status.as_str() {
                    "ok" => Status::Ok,
                    "waiting" => Status::Waiting,
                    "refused" => Status::Refused,
                    _ => Status::Failed,
                }),
                message: text("message")?,
                failures: row.get_by_name::<i32, _>("failures")?.unwrap_or_default().unsigned_abs(),
                waiting: since(row.get_by_name("waiting_since")?),
                due: self
                    .all
                    .as_ref()
                    .map(|all| all.due.get(&segment).copied().unwrap_or_default()),
                refreshes: count("refreshes")?,
                before: before.max(0) as u64,
                after: after.max(0) as u64,
                unusual: Vec::new(),
                version: i64::from(row.get_by_name::<i32, _>("version")?.unwrap_or_default()),
                changed: row.get_by_name("changed")?.unwrap_or_default(),
                changed_by: row.get_by_name("changed_by")?.unwrap_or_default(),
                subscriptions: Vec::new(),
            },
            consumer,
        })
    }

    /// The subscriptions of each rule and segment whose deliveries are looked at.
    fn handed(&self, now: Instant) -> Result<HashMap<(Uuid, Uuid), Vec<Handed>>> {
        let drifts = self.all.as_ref().map(|all| &all.drifts);
        self.set.as_owner(|| {
            Spi::connect(|client| {
                let sql = self.set.sql(&queries::refresh::alerts::LIST_HANDED, &[]);
                let mut handed: HashMap<_, Vec<_>> = HashMap::new();
                for row in client.select(&sql, None, &[])? {
                    let text = |column| Ok::<_, Error>(row.get_by_name::<String, _>(column)?);
                    let id = uuid(&row, "subscription_id")?;
                    let available: Option<TimestampWithTimeZone> =
                        row.get_by_name("available_at")?;
                    let drift = drifts.and_then(|drifts| drifts.get(&id)).copied();
                    let subscription = Handed {
                        id: id.to_string(),
                        consumer: text("consumer")?.unwrap_or_default(),
                        target: text("target")?.unwrap_or_default(),
                        problem: text("problem")?,
                        lag: available.and_then(|at| (now - clock::instant(at)).to_std().ok()),
                        drift: drift.map(|(drift, _)| drift),
                        is_over: drift.is_some_and(|(_, is_over)| is_over),
                    };
                    let key = (uuid(&row, "alert_id")?, uuid(&row, "segment_id")?);
                    handed.entry(key).or_default().push(subscription);
                }
                Ok(handed)
            })
        })
    }

    /// Compares what is known of a segment with what was known.
    fn compare(&self, mut watched: Watched, now: Instant, changes: &mut Vec<Change>) -> Result<()> {
        let is_new = |facts: &Facts, memory: &Memory| memory.seen != Some(facts.refreshes);
        let asks_for_unusual =
            watched.rule.rule.on(AlertKind::Size).is_some_and(|on| on.limit.is_none());
        let size = watched.memories.get("size");
        if asks_for_unusual && size.is_some_and(|memory| is_new(&watched.facts, memory)) {
            watched.facts.unusual = self.unusual(&watched)?;
        }
        let Watched { alert, consumer, rule, segment, name, facts, mut memories, .. } = watched;
        let Readable { rule, intervals } = &*rule;
        let damping = rule.flapping.as_ref().map(|flapping| Damping {
            changes: flapping.changes as usize,
            within: chrono::TimeDelta::from_std(intervals.duration(&flapping.within))
                .unwrap_or(chrono::TimeDelta::MAX),
        });
        let ids = (alert.to_string(), segment.to_string());
        let seen = |subject: &Subject| memories.get(&subject.to_string())?.seen;
        let observed = alert::observe(rule, &facts, intervals, seen);
        let mut push =
            |subject: String, memory: Option<Memory>, reported: Option<(Reported, Value)>| {
                let segment = (segment, name.clone());
                let consumer = consumer.clone();
                changes.push(Change { alert, consumer, segment, subject, memory, reported });
            };
        for observed in &observed {
            let subject = observed.subject.to_string();
            let known = memories.remove(&subject);
            let mut memory = known.clone().unwrap_or_else(|| Memory::new(now, None));
            let reported = alert::look(&mut memory, observed, now, damping).map(|reported| {
                let about = (subject.as_str(), Some(observed));
                let message = alert::message(&ids.0, (&ids.1, &name), about, &reported);
                (reported, message)
            });
            let memory = Some(memory).filter(|memory| !memory.is_empty());
            if memory != known || reported.is_some() {
                push(subject, memory, reported);
            }
        }
        // What was known of others is not looked at any more: the rule is another one, or a subscription has
        // ended.
        if self.all.is_some() {
            for (subject, memory) in memories {
                let reported = alert::leave(&memory.reported, now);
                let reported = reported.map(|reported| {
                    let about = (subject.as_str(), None);
                    let message = alert::message(&ids.0, (&ids.1, &name), about, &reported);
                    (reported, message)
                });
                push(subject, None, reported);
            }
        }
        Ok(())
    }

    /// What is unusual of the last refresh, by the segment's guard or the usual limits.
    fn unusual(&self, watched: &Watched) -> Result<Vec<String>> {
        let Watched { segment, unusual, .. } = watched;
        let mut past = log::past_figures(self.set, *segment, unusual.runs.saturating_add(1))?;
        if past.is_empty() {
            return Ok(Vec::new());
        }
        // The newest is that of the refresh itself.
        let last = past.remove(0);
        let figures = DeltaStats {
            before: (last.members + last.removed).saturating_sub(last.added),
            added: last.added,
            removed: last.removed,
            changed: last.changed,
            ..DeltaStats::default()
        };
        Ok(unusual.find(&past, figures))
    }

    /// What was known of segments that the rules do not cover any more.
    fn left(&self, now: Instant) -> Result<Vec<Change>> {
        self.set.as_owner(|| {
            Spi::connect(|client| {
                let sql = self.set.sql(&queries::refresh::alerts::LIST_LEFT, &[]);
                let rows = client.select(&sql, None, &[])?.map(|row| {
                    let text = |column| {
                        let text: Option<String> = row.get_by_name(column)?;
                        Ok::<_, Error>(text.unwrap_or_default())
                    };
                    let (alert, id) = (uuid(&row, "alert_id")?, uuid(&row, "segment_id")?);
                    let (segment, subject) = (text("segment")?, text("subject")?);
                    let ids = (alert.to_string(), id.to_string());
                    let message = |about: Option<&Observed>, reported: Reported| {
                        let about = (subject.as_str(), about);
                        let message = alert::message(&ids.0, (&ids.1, &segment), about, &reported);
                        (reported, message)
                    };
                    let version: Option<i32> = row.get_by_name("version")?;
                    let (memory, reported) = match version {
                        None => {
                            let reported = alert::leave(&text("reported")?, now);
                            (None, reported.map(|reported| message(None, reported)))
                        }
                        Some(version) => {
                            let facts = Facts {
                                version: version.into(),
                                changed: row.get_by_name("changed")?.unwrap_or_default(),
                                changed_by: row.get_by_name("changed_by")?.unwrap_or_default(),
                                ..Facts::default()
                            };
                            let seen = row.get_by_name("seen")?;
                            let observed = alert::definition(&facts, seen);
                            let mut memory = Memory::new(now, seen);
                            let reported = alert::look(&mut memory, &observed, now, None);
                            let reported =
                                reported.map(|reported| message(Some(&observed), reported));
                            (Some(memory), reported)
                        }
                    };
                    let consumer = Recipient::read(&row)?;
                    let segment = (id, segment);
                    Ok(Change { alert, consumer, segment, subject, memory, reported })
                });
                rows.collect()
            })
        })
    }

    /// Records what is known now. The messages are written when the transaction commits.
    fn record(&self, changes: &[Change], now: Instant) -> Result<()> {
        let mut messages = Vec::new();
        for change in changes {
            let Change { alert, consumer, segment: (segment, name), subject, memory, reported } =
                change;
            let key = [(*alert).into(), (*segment).into(), subject.as_str().into()];
            match memory {
                None => self.set.write(&queries::refresh::alerts::FORGET_STATE, &key)?,
                Some(memory) => {
                    let changes: Vec<TimestampWithTimeZone> =
                        memory.changes.iter().map(|at| clock::timestamp(*at)).collect();
                    let values = [
                        name.as_str().into(),
                        memory.state.as_str().into(),
                        memory.reported.as_str().into(),
                        clock::timestamp(memory.since).into(),
                        changes.into(),
                        memory.seen.into(),
                    ];
                    let args: Vec<_> = key.into_iter().chain(values).collect();
                    self.set.write(&queries::refresh::alerts::RECORD_STATE, &args)?;
                }
            }
            let Some((reported, message)) = reported else { continue };
            notify(reported, message, name);
            messages.push(Message {
                alert: *alert,
                consumer: consumer.clone(),
                segment: (*segment, name.clone()),
                run_id: self.run_id,
                at: now,
                alert_key: message.clone(),
            });
        }
        if !messages.is_empty() {
            durable::flush_at_commit();
            let outbox = self.set.outbox();
            at_commit::add(outbox.to_u32(), move || message::write(outbox, &messages));
        }
        Ok(())
    }
}

fn uuid(row: &SpiHeapTupleData<'_>, column: &'static str) -> Result<Uuid> {
    row.get_by_name(column)?.ok_or(Error::MissingValue(column))
}
