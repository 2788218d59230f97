//! An audience for people: its members, or what has changed of it, as the rows of a query, acknowledged in the
//! transaction that reads them.

use std::ffi::CStr;

use pgrx::JsonB;
use pgrx::datum::Uuid;
use pgrx::prelude::*;
use pgrx::spi::quote_identifier;
use serde_json::json;

use super::ack::mark_interval;
use super::{Consumer, DeliveryUpdate, SubscriptionName, acts_for, set_status};
use crate::catalog::log::{self, Action, Entry, LogCounts, LogStatus};
use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::config::segment_table::{Column, Table};
use crate::config::{Fields, Key, Segment, Updater};
use crate::error::{Error, Result, TakeError, emit};
use crate::pg::bgw::progress::{Kind, Phase, Tracker};
use crate::pg::clock;
use crate::pg::exec::durable;
use crate::pg::exec::result_set::ResultSet;
use crate::pg::exec::role;
use crate::pg::exec::snapshot::Active;
use crate::pg::exec::statement::{self, ResultColumn};
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};
use crate::pg::exec::tuplestore::Relation;
use crate::pg::system_catalog;
use crate::refresh::handover::doubting_edits;
use crate::refresh::publish::filter::{Audience, Filters};
use crate::refresh::publish::payload::{Members, Origin, PayloadInput};
use crate::refresh::publish::subscription::{self, Subscription};
use segmenter_core::sync_plan::SyncAction;

/// The names that the column may have which says what has changed. `segmenter_diff` has the second one.
const CHANGE: [&str; 2] = ["change", "operation"];

/// The members in waiting messages.
const WAITING: &CStr = c"segmenter_waiting";

/// Takes the audience of a subscription, or with `changes` what has changed of it since the last time: its
/// members become the rows of the function, and the messages that say the same are acknowledged. A session that
/// takes the same audience at the same time waits. Nothing but the cursor of the subscription stays locked.
pub fn take(
    set: &RelationSet,
    name: &SubscriptionName<'_>,
    changes: bool,
    result: &ResultSet,
) -> Result<()> {
    let consumer = Consumer::find(set, Key::Name(name.consumer))?
        .ok_or_else(|| Error::UnknownConsumer(name.consumer.into()))?;
    if !acts_for(set, role::current(), consumer.role) {
        return Err(Error::NotConsumer(consumer.name));
    }
    if !matches!(consumer.params.updater, Updater::Pull) {
        return Err(TakeError::Pushed(consumer.name).into());
    }
    let args = [consumer.id.into(), name.segment.into(), name.target.into()];
    let found: Option<Uuid> = set.as_owner(|| {
        let sql = set.sql(&queries::delivery::take::FIND_SUBSCRIPTION, &[]);
        Spi::connect(|_| statement::read_one(&sql, &args))
    })?;
    let id = found.ok_or_else(|| name.unknown(set))?;
    let cursor = Cursor::lock(set, id)?;
    // What other sessions have changed meanwhile is seen from here on, in one snapshot.
    let _snapshot = Active::fresh();
    let subscription =
        subscription::find(set, None, None, Some(id))?.pop().ok_or_else(|| name.unknown(set))?;
    if subscription.is_events() {
        return Err(Error::Argument {
            name: "target",
            problem: "the subscription hands over events, not members".into(),
            hint: "Claim its messages: segmenter_claim().",
        });
    }
    if let Some(cursor) = &cursor {
        cursor.check(&subscription)?;
    }
    let waiting = match &cursor {
        Some(cursor) => Waiting::read(set, id, cursor.through)?,
        None => Waiting::default(),
    };
    let _progress =
        Tracker::begin(Kind::Delivery, set.mart(), subscription.segment, Phase::Delivering);
    let taking = Taking { set, subscription: &subscription, waiting: &waiting, result };
    let fields = match changes {
        true => taking.changes()?,
        false => taking.members()?,
    };
    // Of changes nothing is handed over where there are none; all members are, also where they are none.
    if changes && waiting.messages == 0 {
        return Ok(());
    }
    if let Some(cursor) = &cursor {
        taking.acknowledge(cursor, changes)?;
    }
    taking.log(changes, fields)
}

/// The cursor of a subscription, which is locked until the transaction ends.
struct Cursor {
    /// The last message that is delivered.
    through: i64,
    is_leased: bool,
    leased_until: String,
    is_failed: bool,
    last_error: Option<String>,
}

impl Cursor {
    /// None: nothing was handed over yet. A transaction that keeps its snapshot fails if another one has
    /// moved the cursor since.
    fn lock(set: &RelationSet, subscription: Uuid) -> Result<Option<Self>> {
        set.as_owner(|| {
            Spi::connect_mut(|client| {
                let sql = set.sql(&queries::delivery::take::LOCK_CURSOR, &[]);
                let row = client.update(&sql, Some(1), &[subscription.into()])?.first();
                if row.is_empty() {
                    return Ok(None);
                }
                let is =
                    |name: &str| Ok::<_, Error>(row.get_by_name::<bool, _>(name)? == Some(true));
                Ok(Some(Self {
                    through: row.get_by_name("delivered_through")?.unwrap_or_default(),
                    is_leased: is("is_leased")?,
                    leased_until: row.get_by_name("leased_until")?.unwrap_or_default(),
                    is_failed: is("is_failed")?,
                    last_error: row.get_by_name("last_error")?,
                }))
            })
        })
    }

    /// Checks that no message is with another session, and that none is stuck.
    fn check(&self, subscription: &Subscription) -> Result<()> {
        let target = subscription.target.clone();
        if self.is_failed {
            return Err(TakeError::Stuck { target, error: self.last_error.clone() }.into());
        }
        if self.is_leased {
            let until = self.leased_until.clone();
            return Err(TakeError::Claimed { target, until }.into());
        }
        Ok(())
    }
}

/// The messages of a subscription that wait.
#[derive(Default)]
struct Waiting {
    last: Option<i64>,
    messages: i64,
    /// The first one from which on they say what the audience is.
    first: Option<i64>,
    /// The first one creates the audience: the consumer has nothing of it.
    begins: bool,
    /// All members are among them, or the end of the audience.
    is_anew: bool,
    /// The end of the audience is among them, or is the last one.
    deletes: bool,
    ends: bool,
}

impl Waiting {
    /// Sees the active snapshot.
    fn read(set: &RelationSet, subscription: Uuid, through: i64) -> Result<Self> {
        let args = [subscription.into(), through.into()];
        let values: Option<Vec<Option<i64>>> = set.as_owner(|| {
            let sql = set.sql(&queries::delivery::take::DESCRIBE_WAITING, &[]);
            Spi::connect(|_| statement::read_one(&sql, &args))
        })?;
        let values = values.unwrap_or_default();
        let value = |place: usize| values.get(place).copied().flatten();
        let is = |place: usize| value(place) == Some(1);
        Ok(Self {
            last: value(0),
            messages: value(1).unwrap_or_default(),
            first: value(2),
            begins: is(3),
            is_anew: is(4),
            deletes: is(5),
            ends: is(6),
        })
    }
}

/// A column of the caller's list.
enum Given<'a> {
    /// A field: the column of the segment table, and the name of the field.
    Field { column: &'a str, name: &'a str, list: &'a ResultColumn },
    /// What has changed.
    Change(&'a ResultColumn),
}

/// An audience that is being taken.
struct Taking<'a> {
    set: &'a RelationSet,
    subscription: &'a Subscription,
    waiting: &'a Waiting,
    result: &'a ResultSet,
}

impl Taking<'_> {
    /// Takes all members, as the segment table has them. Returns the fields that were taken.
    fn members(&self) -> Result<Vec<String>> {
        let Self { set, subscription, result, .. } = *self;
        let fields = &subscription.params.selection.fields;
        let given = self.given(fields, false)?;
        if !subscription.is_actual() {
            return self.end().map(|()| Vec::new());
        }
        if subscription.is_unready() {
            return Err(Error::NeverRefreshed(subscription.segment_name.clone()));
        }
        let held_back = || Error::HeldBack { target: subscription.target.clone() };
        if subscription.params.is_paused {
            return Err(held_back());
        }
        self.reading(|table| {
            if let Some(segment) = Segment::find_bare(set, Key::Id(subscription.segment))? {
                doubting_edits(set, &segment, table, |_| Ok(()))?;
            }
            let source = PayloadInput {
                set,
                table: Ok(table),
                delta: None,
                origin: Origin::Refresh,
                run_id: Uuid::from_bytes([0; 16]),
                reason: None,
                at: None,
                summing: None,
            };
            let values = values(set, table, &given, |column| match column {
                Some(column) => format!("t.{}", column.quoted()),
                None => "t.id".into(),
            })?;
            let filters = Filters::analyse(&source, [(subscription, SyncAction::FullSync)]);
            let filter = filters.of(subscription)?;
            let audience = filter
                .map(|filter| Audience::select(&source, subscription, Members::All, filter))
                .transpose()?;
            let selected = match &audience {
                Some(_) => queries::refresh::publish::filter::IS_SELECTED.fragment(),
                None => "",
            };
            let parts =
                [("values", values.as_str()), ("table", &table.name), ("selected", selected)];
            set.as_table_owner(table.owner, || {
                let sql = set.sql(&queries::delivery::take::LIST_MEMBERS, &parts);
                role::with_text_form(|| result.append(&sql, &[subscription.segment.into()]))
            })
        })?;
        if subscription.params.min_members.is_some_and(|min| result.rows() < min) {
            return Err(held_back());
        }
        Ok(taken(&given))
    }

    /// The end of an audience: no members are left. It can be taken once.
    fn end(&self) -> Result<()> {
        let Self { subscription, waiting, .. } = *self;
        if !subscription.has_audience() && waiting.messages == 0 {
            return Err(Error::EndedSubscription(subscription.id));
        }
        emit(
            PgLogLevel::NOTICE,
            format!("the audience for \"{}\" has ended: it has no members", subscription.target),
            Some("Delete what was taken of it before."),
        );
        Ok(())
    }

    /// Takes what the waiting messages amount to. Returns the fields that were taken.
    fn changes(&self) -> Result<Vec<String>> {
        let Self { set, subscription, waiting, result } = *self;
        let fields = subscription.served_fields();
        let given = self.given(fields, true)?;
        let target = || subscription.target.clone();
        if !subscription.is_actual() {
            return Err(match subscription.has_audience() || waiting.messages > 0 {
                true => TakeError::Ended { target: target() }.into(),
                false => Error::EndedSubscription(subscription.id),
            });
        }
        if subscription.is_unready() {
            return Err(Error::NeverRefreshed(subscription.segment_name.clone()));
        }
        if waiting.is_anew && !waiting.begins {
            return Err(TakeError::Anew { target: target() }.into());
        }
        self.reading(|table| {
            let values = values(set, table, &given, |column| {
                let column = column.map_or("id", |column| &column.name);
                let name = fields.iter().find(|(known, _)| *known == column);
                format!("m.{}", quote_identifier(name.map_or(column, |(_, name)| name)))
            })?;
            let (Some(first), Some(last)) = (waiting.first, waiting.last) else { return Ok(()) };
            let members = Relation::new(WAITING);
            set.as_owner(|| {
                let sql = set.sql(&queries::delivery::take::LIST_WAITING, &[]);
                members.append(&sql, &[subscription.id.into(), first.into(), last.into()])
            })?;
            let types = fields.iter().map(|(column, name)| {
                let column = column_of(table, column)?;
                let typ = column.map_or(pg_sys::VARCHAROID, |column| column.type_oid);
                Ok(format!("{} {}", quote_identifier(name), system_catalog::type_name(typ)))
            });
            let types = types.collect::<Result<Vec<_>>>()?.join(", ");
            set.as_table_owner(table.owner, || {
                let changes = match fields.id_name() {
                    Some(id) => {
                        let id = pgrx::spi::quote_literal(id);
                        let id = format!("(w.member operator(pg_catalog.->>) {id})");
                        set.sql(&queries::delivery::take::CHANGES_BY_ID, &[("id", &id)])
                    }
                    None => set.sql(&queries::delivery::take::CHANGES_BY_VALUE, &[]),
                };
                let parts =
                    [("values", values.as_str()), ("changes", &changes), ("fields", &types)];
                let sql = set.sql(&queries::delivery::take::LIST_CHANGES, &parts);
                role::with_text_form(|| result.append(&sql, &[]))
            })
        })?;
        Ok(taken(&given))
    }

    /// Runs `body` with the segment's table, and gives up all locks that it takes.
    fn reading(&self, body: impl FnOnce(&Table) -> Result<()>) -> Result<()> {
        let Self { set, subscription, .. } = *self;
        let read = in_subtransaction(OnSuccess::Rollback, || {
            let segment = Segment::find_bare(set, Key::Id(subscription.segment))?
                .ok_or_else(|| set.unknown_segment(&subscription.segment_name))?;
            let table = Table::check(set, segment.table, segment.holder())?;
            table.check_in_mart(set, segment.holder())?;
            table.check_visible_to_owner()?;
            Spi::connect(|_| body(&table))
        });
        read.map_err(|error| self.for_caller(error))
    }

    /// An error as the caller may see it: what is wrong with a segment, its table or a condition is for members of the
    /// segment's owner.
    fn for_caller(&self, error: Error) -> Error {
        const OF_SESSION: [PgSqlErrorCode; 3] = [
            PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE,
            PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE,
            PgSqlErrorCode::ERRCODE_QUERY_CANCELED,
        ];
        let subscription = self.subscription;
        if matches!(error, Error::Take(_))
            || OF_SESSION.iter().any(|code| error.is_code(*code))
            || role::may_act_as(role::current(), subscription.segment_owner)
        {
            return error;
        }
        TakeError::Unreadable { target: subscription.target.clone() }.into()
    }

    /// The columns of the caller's list, by their names.
    fn given<'a>(&'a self, fields: &'a Fields, changes: bool) -> Result<Vec<Given<'a>>> {
        let target = || self.subscription.target.clone();
        let of = |name: &str| fields.iter().find(|(_, field)| *field == name);
        let is_change = |column: &&ResultColumn| CHANGE.contains(&column.name.as_str());
        let change = match changes {
            false => None,
            true => {
                let columns = || self.result.columns().iter().filter(is_change);
                let change = columns().find(|column| of(&column.name).is_none());
                match (change, columns().next()) {
                    (None, Some(column)) => {
                        let column = column.name.clone();
                        return Err(TakeError::ChangeIsField { column, target: target() }.into());
                    }
                    (None, None) => return Err(TakeError::NoChange.into()),
                    (change, _) => change,
                }
            }
        };
        let columns = self.result.columns().iter().map(|list| {
            if change.is_some_and(|change| change.name == list.name) {
                return Ok(Given::Change(list));
            }
            match of(&list.name) {
                Some((column, name)) => Ok(Given::Field { column, name, list }),
                None => Err(TakeError::NoField {
                    column: list.name.clone(),
                    target: target(),
                    fields: fields.iter().map(|(_, name)| name.to_owned()).collect(),
                }
                .into()),
            }
        });
        columns.collect()
    }

    /// Acknowledges the waiting messages.
    fn acknowledge(&self, cursor: &Cursor, changes: bool) -> Result<()> {
        let Self { set, subscription, waiting, result } = *self;
        durable::flush_at_commit();
        let through = waiting.last.unwrap_or(cursor.through);
        let coverage = (!changes).then(|| result.rows() as i64);
        set.as_owner(|| {
            Spi::connect_mut(|client| {
                let args = [
                    subscription.id.into(),
                    through.into(),
                    None::<JsonB>.into(),
                    mark_interval().into(),
                    coverage.into(),
                    0_i64.into(),
                    (!changes).into(),
                ];
                client.update(set.kept(&queries::delivery::ack::ADVANCE_CURSOR), None, &args)?;
                client.update(
                    &set.sql(&queries::delivery::ack::DELETE_ERASED_MESSAGES, &[]),
                    None,
                    &[subscription.id.into(), through.into()],
                )?;
                let update = DeliveryUpdate {
                    external_id: None,
                    is_deleted: waiting.deletes,
                    is_final: waiting.ends,
                };
                set_status(client, set, subscription.id, update)
            })
        })
    }

    fn log(&self, changes: bool, fields: Vec<String>) -> Result<()> {
        let Self { set, subscription, waiting, result } = *self;
        let members = result.rows() as i64;
        let mut params = json!({
            "operation": "take",
            "changes": changes,
            "consumer": subscription.consumer,
            "role": role::name(role::current()),
            "fields": fields,
            "members": members,
            "messages": waiting.messages,
            "message_id": waiting.last,
        });
        if !subscription.is_actual() {
            params["ended"] = json!(true);
        }
        let entry = Entry {
            run_id: None,
            action: Action::Deliver,
            status: LogStatus::Ok,
            segment: (Some(subscription.segment), &subscription.segment_name),
            subscription: Some((subscription.id, &subscription.target)),
            counts: LogCounts {
                received: Some(members),
                coverage: (!changes).then_some(members),
                ..LogCounts::default()
            },
            began: clock::now(),
            elapsed: None,
            message: None,
            error: None,
            params,
            reason: None,
        };
        log::write(set, entry)
    }
}

/// The names of the fields in the caller's list.
fn taken(given: &[Given<'_>]) -> Vec<String> {
    let names = given.iter().filter_map(|given| match given {
        Given::Field { name, .. } => Some((*name).to_owned()),
        Given::Change(_) => None,
    });
    names.collect()
}

/// A column of the segment table; none: it is the id.
fn column_of<'a>(table: &'a Table, name: &str) -> Result<Option<&'a Column>> {
    if name == "id" {
        return Ok(None);
    }
    let column = table.columns.iter().find(|column| column.name == name);
    let missing = || Error::MissingField { column: name.into(), table: table.name.clone() };
    column.map(Some).ok_or_else(missing)
}

/// The values of the caller's list, as expressions that have its types. `value` gives that of a column of the
/// segment table, or that of the id. A text is for a spreadsheet; any other type is given as it is.
fn values(
    set: &RelationSet,
    table: &Table,
    given: &[Given<'_>],
    value: impl Fn(Option<&Column>) -> String,
) -> Result<String> {
    let text = system_catalog::type_name(pg_sys::TEXTOID);
    let varchar = system_catalog::type_name(pg_sys::VARCHAROID);
    let values = given.iter().map(|given| match given {
        Given::Change(list) => {
            check_type(list, &[(pg_sys::TEXTOID, -1), (pg_sys::VARCHAROID, -1)])?;
            Ok(format!("(n.change)::{}", system_catalog::type_name(list.type_oid)))
        }
        Given::Field { column, list, .. } => {
            let column = column_of(table, column)?;
            let own = column
                .map_or((pg_sys::VARCHAROID, -1), |column| (column.type_oid, column.modifier));
            check_type(list, &[own, (pg_sys::TEXTOID, -1), (pg_sys::VARCHAROID, -1)])?;
            let value = value(column);
            Ok(match list.type_oid {
                pg_sys::TEXTOID => {
                    let value = format!("({value})::{text}");
                    let cell = set.sql(&queries::delivery::take::CELL, &[("value", &value)]);
                    cell.trim_end().to_owned()
                }
                pg_sys::VARCHAROID => format!("(({value})::{text})::{varchar}"),
                own => format!("({value})::{}", system_catalog::type_name(own)),
            })
        }
    });
    Ok(values.collect::<Result<Vec<_>>>()?.join(", "))
}

/// Checks that a column of the caller's list has one of some types; one that has a modifier may also be without it.
fn check_type(list: &ResultColumn, accepted: &[(pg_sys::Oid, i32)]) -> Result<()> {
    let fits = |(typ, modifier): &(pg_sys::Oid, i32)| {
        list.type_oid == *typ && (list.modifier == -1 || list.modifier == *modifier)
    };
    if accepted.iter().any(fits) {
        return Ok(());
    }
    let mut names: Vec<String> = Vec::new();
    for (typ, _) in accepted {
        let name = system_catalog::format_type(*typ);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Err(TakeError::FieldType {
        column: list.name.clone(),
        declared: system_catalog::full_type_name(list.type_oid, list.modifier),
        accepted: names.join(" or "),
    }
    .into())
}
