//! The members in messages: their values, from the delta or from the segment table, combined into
//! objects with the names that the subscription requests, and split into parts.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::ffi::CStr;
use std::fmt::Write as _;

use pgrx::datum::{DatumWithOid, Timestamp, ToIsoString, Uuid};
use pgrx::pg_sys;
use pgrx::spi::quote_literal;

use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::config::segment_table::{Column, Table};
use crate::config::{EVENT_KEYS, Fields};
use crate::error::{Error, Report, Result};
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};
use crate::pg::exec::tuplestore::Relation;
use crate::pg::format::json::JsonbText;
use crate::pg::format::members::{self, Hashed, Key, LeftOut, Side};
use crate::refresh::delta::DeltaTarget;
use crate::refresh::publish::subscription::Subscription;
use segmenter_core::content::Checksum;
use segmenter_core::guards::DeltaStats;
use segmenter_core::reason::Reason;
use segmenter_core::sync_plan::Operation;

const PARTS: &CStr = c"segmenter_parts";

/// The input for payloads.
pub struct PayloadInput<'a> {
    pub set: &'a RelationSet,
    /// The segment's table, or the reason why it cannot be read.
    pub table: std::result::Result<&'a Table, Report>,
    /// The delta of the refresh, in the SPI connection; none: a hand-over without a refresh.
    pub delta: Option<(&'a DeltaTarget<'a>, DeltaStats)>,
    pub origin: Origin,
    pub run_id: Uuid,
    /// Why the members of the delta have changed.
    pub reason: Option<Reason>,
    /// The local time at which they have changed; none: there is no delta.
    pub at: Option<Timestamp>,
    /// Sums up the members while they are read for messages; none: the sum is not needed.
    pub summing: Option<&'a Summing<'a>>,
}

/// The sum of the members that the segment's table holds, if messages needed all of them.
pub struct Summing<'a> {
    side: &'a DeltaTarget<'a>,
    sum: Cell<Option<Checksum>>,
}

impl<'a> Summing<'a> {
    pub fn new(side: &'a DeltaTarget<'a>) -> Self {
        Self { side, sum: Cell::new(None) }
    }

    /// The sum; none: not all members were read.
    pub fn sum(&self) -> Option<Checksum> {
        self.sum.get()
    }
}

/// Where the delta of a hand-over comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Refresh,
    /// A refresh before which rows were changed by hand: consumers do not have what it was computed
    /// against.
    Edited,
    /// Lists have gained members, or people are kept out, who are removed.
    Exclusion,
}

/// The members that messages hold.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Members {
    None,
    All,
    Changed,
}

/// The members of an operation, split into parts, as the relation `segmenter_parts`.
pub struct Parts {
    relation: Relation,
    pub members: u64,
    /// Members that cannot be part of a message.
    pub left_out: LeftOut,
}

impl Parts {
    /// Builds the parts. Runs with the rights of the table's owner, because converting values can
    /// call functions of that role's types. `batch_size` is the number of members in a part at
    /// most. `is_filtered`: of the members only those in the relation `segmenter_audience`. If a value
    /// cannot be converted, all are converted one by one, and the member is left out.
    pub fn build(
        source: &PayloadInput<'_>,
        subscription: &Subscription,
        (members, operation): (Members, Operation),
        fields: &Fields,
        batch_size: u32,
        is_filtered: bool,
    ) -> Result<Self> {
        let relation = Relation::new(PARTS);
        let args = members_args(source, subscription, (members, operation));
        let keys = keys(fields, operation == Operation::Events);
        let (owner, size) = (table(source)?.owner, batch_size as usize);
        let is_whole = members == Members::All && !is_filtered;
        let summing = source.summing.filter(|summing| is_whole && summing.sum().is_none());
        let appended = in_subtransaction(OnSuccess::Commit, || {
            source.set.as_table_owner(owner, || {
                let (sql, hashed) = match summing {
                    Some(Summing { side, .. }) => {
                        let (sql, places) =
                            summed_members_sql(source, operation, fields, side.hashed_values())?;
                        (sql, Some(Hashed { seed: side.seed(), places }))
                    }
                    None => (members_sql(source, (members, is_filtered), operation, fields)?, None),
                };
                members::append(&relation, (&sql, &args), &keys, size, hashed)
            })
        });
        if let (Some(summing), Ok(appended)) = (summing, &appended) {
            summing.sum.set(appended.sum);
        }
        let (relation, appended) = match appended {
            Ok(appended) => (relation, appended),
            Err(error) if members::is_of_value(&error) => {
                drop(relation);
                let relation = Relation::new(PARTS);
                let appended = source.set.as_table_owner(owner, || {
                    let (sql, side) =
                        values_sql(source, (members, is_filtered), operation, fields)?;
                    members::append_tolerant(&relation, &sql, &args, &keys, size, side)
                })?;
                (relation, appended)
            }
            Err(error) => return Err(error),
        };
        Ok(Self { relation, members: appended.members, left_out: appended.left_out })
    }

    /// The number of parts.
    pub fn count(&self) -> u64 {
        self.relation.rows()
    }

    /// One part with the given members, which are JSON texts.
    pub fn given(members: &[String]) -> Result<Self> {
        let count = members.len();
        let relation = Relation::new(PARTS);
        let sql = "select 1 as part, $1 as members, $2 as payload";
        let payload = JsonbText(format!("[{}]", members.join(", ")));
        relation.append(sql, &[(count as i32).into(), payload.into()])?;
        Ok(Self { relation, members: count as u64, left_out: LeftOut::default() })
    }
}

/// A member as the segment table `t` stores it: names and values in turn, for `jsonb_build_object`.
pub fn member_as_stored(table: &Table, fields: &Fields) -> Result<String> {
    Ok(Given::pairs(&stored(table, fields)?))
}

fn stored(table: &Table, fields: &Fields) -> Result<Vec<Given>> {
    let given = fields.iter().map(|(column, name)| match column {
        "id" => Ok(Given::new(name, "t.id".into(), None)),
        _ => {
            let column = &table.columns[position(table, column)?];
            Ok(Given::new(name, format!("t.{}", column.quoted()), Some(column)))
        }
    });
    given.collect()
}

fn position(table: &Table, column: &str) -> Result<usize> {
    let position = table.columns.iter().position(|known| known.name == column);
    position.ok_or_else(|| Error::MissingField { column: column.into(), table: table.name.clone() })
}

/// Checks that a table has the columns of the fields.
pub fn check_fields(table: &Table, fields: &Fields) -> Result<()> {
    member_as_stored(table, fields).map(drop)
}

/// The keys of members in messages, or of events, in the order that `jsonb` keeps keys in.
fn keys(fields: &Fields, are_events: bool) -> Vec<Key<'_>> {
    let mut keys: Vec<Key<'_>> = fields.iter().map(|(column, name)| Key { name, column }).collect();
    if are_events {
        let id = ["id"].into_iter().filter(|_| fields.id_name() != Some("id"));
        keys.extend(EVENT_KEYS.into_iter().chain(id).map(|name| Key { name, column: name }));
    }
    keys.sort_by_key(|key| (key.name.len(), key.name));
    keys
}

/// The place of the old values among the keys of an event.
fn old_place(keys: &[Key<'_>]) -> usize {
    keys.iter().position(|key| key.name == "old").unwrap_or_default()
}

/// The event of a person who was erased: without any value but the id. As a JSON text.
pub fn erased_event(fields: &Fields, id: &str, at: Timestamp) -> String {
    let mut event = serde_json::Map::new();
    for (column, name) in fields.iter() {
        let value = if column == "id" { id.into() } else { serde_json::Value::Null };
        event.insert(name.to_owned(), value);
    }
    event.insert("id".into(), id.into());
    event.insert("event".into(), "exited".into());
    event.insert("at".into(), at.to_iso_string().into());
    event.insert("reason".into(), Reason::Erased.as_str().into());
    event.insert("old".into(), serde_json::json!({}));
    serde_json::Value::Object(event).to_string()
}

/// A field of a member: its name and its value, an SQL expression. A text is passed as it is,
/// everything else as `jsonb`.
struct Given {
    name: String,
    value: String,
    is_text: bool,
}

impl Given {
    fn new(name: &str, value: String, column: Option<&Column>) -> Self {
        let is_text = column.is_none_or(|column| {
            column.is_plain && [pg_sys::TEXTOID, pg_sys::VARCHAROID].contains(&column.type_oid)
        });
        Self { name: name.to_owned(), value, is_text }
    }

    /// The values of fields as they are, separated by commas, in the order of [`keys`].
    fn raw_values(fields: &mut [Self]) -> String {
        Self::sort(fields);
        fields.iter().map(|field| field.value.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// Puts fields in the order of [`keys`].
    fn sort(fields: &mut [Self]) {
        fields.sort_by(|a, b| (a.name.len(), &a.name).cmp(&(b.name.len(), &b.name)));
    }

    /// The values of fields as texts and `jsonb`, separated by commas, in the order of [`keys`].
    fn values(fields: &mut [Self]) -> String {
        Self::sort(fields);
        let values = fields.iter().map(|Self { value, is_text, .. }| match is_text {
            true => value.clone(),
            false => format!("pg_catalog.to_jsonb({value})"),
        });
        values.collect::<Vec<_>>().join(", ")
    }

    /// The values of events: those of the fields that a member has after the event, or had last.
    fn of_events(old: &[Self], new: &[Self]) -> Vec<Self> {
        let values = old.iter().zip(new).map(|(old, new)| Self {
            name: old.name.clone(),
            value: format!(
                "case when e.event operator(pg_catalog.=) 'exited' then {} else {} end",
                old.value, new.value
            ),
            is_text: old.is_text && new.is_text,
        });
        values.collect()
    }

    /// Adds what an event has besides the fields: expressions for its keys, and for the id.
    fn add_event(fields: &mut Vec<Self>, id: &str, [event, at, reason, old]: [&str; 4]) {
        if fields.iter().all(|field| field.name != "id") {
            fields.push(Self::new("id", id.into(), None));
        }
        fields.push(Self::new("event", event.into(), None));
        fields.push(Self::new("reason", reason.into(), None));
        for (name, value) in [("at", at), ("old", old)] {
            fields.push(Self { name: name.into(), value: value.into(), is_text: false });
        }
    }

    /// Names and values in turn, separated by commas.
    fn pairs(fields: &[Self]) -> String {
        let pairs = fields
            .iter()
            .map(|Self { name, value, .. }| format!("{}, {value}", quote_literal(name)));
        pairs.collect::<Vec<_>>().join(", ")
    }
}

/// The condition on members in the relation `segmenter_audience`, where they are filtered.
fn selected(is_filtered: bool) -> &'static str {
    match is_filtered {
        true => queries::refresh::publish::filter::IS_SELECTED.fragment(),
        false => "",
    }
}

/// A query for the members that an operation concerns: the id, and the values of `fields`, in the order
/// of [`keys`]. With the flag, for those in the relation `segmenter_audience` alone.
pub fn members_sql(
    source: &PayloadInput<'_>,
    (members, is_filtered): (Members, bool),
    operation: Operation,
    fields: &Fields,
) -> Result<String> {
    if members == Members::All {
        let table = table(source)?;
        let now = Given::values(&mut all(table, operation, fields)?);
        return Ok(all_members_sql(source, table, is_filtered, &now));
    }
    let (set, table) = (source.set, table(source)?);
    let Changed { mut old, mut new, delta } =
        Changed::of(source, table, fields, (is_filtered, &[]))?;
    if operation == Operation::Events {
        let mut values = Given::of_events(&old, &new);
        let place = ["e.event", "e.at", "e.reason", "v.old"];
        Given::add_event(&mut values, "d.id", place);
        let (old, new) = (Given::pairs(&old), Given::pairs(&new));
        let member = Given::values(&mut values);
        let parts = [("delta", delta.as_str()), ("member", &member), ("old", &old), ("new", &new)];
        return Ok(set.sql(&queries::refresh::publish::LIST_EVENTS, &parts));
    }
    let (letter, member) = match operation {
        Operation::Remove => (REMOVED, Given::values(&mut old)),
        _ => (ADDED, Given::values(&mut new)),
    };
    let (old, new) = (Given::pairs(&old), Given::pairs(&new));
    let parts = [
        ("delta", delta.as_str()),
        ("operation", letter),
        ("member", &member),
        ("old", &old),
        ("new", &new),
    ];
    Ok(set.sql(&queries::refresh::publish::LIST_CHANGED_MEMBERS, &parts))
}

fn all_members_sql(
    source: &PayloadInput<'_>,
    table: &Table,
    is_filtered: bool,
    values: &str,
) -> String {
    let parts =
        [("table", table.name.as_str()), ("now", values), ("selected", selected(is_filtered))];
    source.set.sql(&queries::refresh::publish::LIST_ALL_MEMBERS, &parts)
}

/// A query for all members, as [`members_sql`] makes it, and the places among its columns of the id and of
/// the `hashed` expressions. Those that the message does not have follow its values.
fn summed_members_sql(
    source: &PayloadInput<'_>,
    operation: Operation,
    fields: &Fields,
    hashed: impl Iterator<Item = String>,
) -> Result<(String, Vec<usize>)> {
    let table = table(source)?;
    let mut given = all(table, operation, fields)?;
    let mut values = Given::values(&mut given);
    let (mut columns, mut places) = (1 + given.len(), vec![0]);
    for expression in hashed {
        match given.iter().position(|field| field.is_text && field.value == expression) {
            Some(place) => places.push(1 + place),
            None => {
                values.extend([", ", &expression]);
                places.push(columns);
                columns += 1;
            }
        }
    }
    Ok((all_members_sql(source, table, false, &values), places))
}

/// What an operation has of all members. As an event it is that each has entered.
fn all(table: &Table, operation: Operation, fields: &Fields) -> Result<Vec<Given>> {
    let mut values = stored(table, fields)?;
    if operation == Operation::Events {
        let reason = format!("{}::pg_catalog.text", quote_literal(Reason::FirstLoad.as_str()));
        let event = [
            "'entered'::pg_catalog.text",
            "t.actual_begin::pg_catalog.timestamp",
            reason.as_str(),
            "'{}'::pg_catalog.jsonb",
        ];
        Given::add_event(&mut values, "t.id", event);
    }
    Ok(values)
}

/// The parameters of a query for members.
pub fn members_args(
    source: &PayloadInput<'_>,
    subscription: &Subscription,
    what: (Members, Operation),
) -> Vec<DatumWithOid<'static>> {
    let mut args = Vec::from(segment_arg(subscription));
    if what == (Members::Changed, Operation::Events) {
        args.extend([source.at.into(), source.reason.map(Reason::as_str).into()]);
    }
    args
}

/// A query for what consumers have of the members that the delta changes: of those that are removed (or
/// changed) their old values, of those that are added nothing.
pub fn kept_sql(
    source: &PayloadInput<'_>,
    is_filtered: bool,
    operation: Operation,
    fields: &Fields,
) -> Result<String> {
    let (set, table) = (source.set, table(source)?);
    let is_removed = operation == Operation::Remove;
    let number = |name: &str| table.columns.iter().position(|column| column.name == name);
    let contacts = ["hash_email", "hash_phone"].map(|name| (name, number(name)));
    let more: Vec<usize> = contacts.iter().filter_map(|(_, place)| *place).collect();
    let Changed { old, new, delta } = Changed::of(source, table, fields, (is_filtered, &more))?;
    let (old, new) = (Given::pairs(&old), Given::pairs(&new));
    let contacts = contacts.map(|(name, place)| match place.filter(|_| is_removed) {
        Some(place) => format!("(d.o{})::pg_catalog.text as {name}", place + 1),
        None => format!("null::pg_catalog.text as {name}"),
    });
    let (letter, member) = match is_removed {
        true => (REMOVED, format!("pg_catalog.jsonb_build_object({old})")),
        false => (ADDED, "null::pg_catalog.jsonb".into()),
    };
    let parts = [
        ("delta", delta.as_str()),
        ("operation", letter),
        ("member", &member),
        ("contacts", &contacts.join(", ")),
        ("old", &old),
        ("new", &new),
    ];
    Ok(set.sql(&queries::refresh::publish::hold::LIST_KEPT, &parts))
}

const REMOVED: &str = "'r'::pg_catalog.\"char\"";
const ADDED: &str = "'a'::pg_catalog.\"char\"";

/// A query for the same members with their values as they are, and which of them a message has.
fn values_sql(
    source: &PayloadInput<'_>,
    (members, is_filtered): (Members, bool),
    operation: Operation,
    fields: &Fields,
) -> Result<(String, Side)> {
    let (set, table) = (source.set, table(source)?);
    if members == Members::All {
        let now = Given::raw_values(&mut all(table, operation, fields)?);
        let parts =
            [("table", table.name.as_str()), ("now", &now), ("selected", selected(is_filtered))];
        return Ok((set.sql(&queries::refresh::publish::LIST_ALL_MEMBERS, &parts), Side::Only));
    }
    let Changed { mut old, mut new, delta } =
        Changed::of(source, table, fields, (is_filtered, &[]))?;
    if operation == Operation::Events {
        let mut values = Given::of_events(&old, &new);
        // The receiver of the rows makes the old values of the others.
        Given::add_event(&mut values, "d.id", ["e.event", "e.at", "e.reason", "e.old"]);
        let member = Given::raw_values(&mut values);
        let (old, new) = (Given::raw_values(&mut old), Given::raw_values(&mut new));
        let parts = [("delta", delta.as_str()), ("member", &member), ("old", &old), ("new", &new)];
        let sql = set.sql(&queries::refresh::publish::LIST_EVENT_VALUES, &parts);
        let (keys, fields) = (keys(fields, true), keys(fields, false));
        let names = fields.iter().map(|field| field.name.to_owned()).collect();
        return Ok((sql, Side::Event { old: old_place(&keys), names }));
    }
    let (letter, side) = match operation {
        Operation::Remove => (REMOVED, Side::Old),
        _ => (ADDED, Side::New),
    };
    let (old, new) = (Given::raw_values(&mut old), Given::raw_values(&mut new));
    let parts = [("delta", delta.as_str()), ("operation", letter), ("old", &old), ("new", &new)];
    Ok((set.sql(&queries::refresh::publish::LIST_CHANGED_VALUES, &parts), side))
}

/// The old and the new values of members of a delta, and the relation that they are read from.
struct Changed {
    old: Vec<Given>,
    new: Vec<Given>,
    delta: String,
}

impl Changed {
    /// `more`: the places of columns whose old values are read, too.
    fn of(
        source: &PayloadInput<'_>,
        table: &Table,
        fields: &Fields,
        (is_filtered, more): (bool, &[usize]),
    ) -> Result<Self> {
        let set = source.set;
        let received: BTreeSet<usize> = match &source.delta {
            Some((side, _)) => side.received_columns().map(|(number, _)| number).collect(),
            None => BTreeSet::new(),
        };
        let (mut old, mut new) = (Vec::new(), Vec::new());
        let mut is_stored = false;
        // The values that are read from the delta, each after a comma.
        let mut values = String::new();
        for (column, name) in fields.iter() {
            if column == "id" {
                old.push(Given::new(name, "d.id".into(), None));
                new.push(Given::new(name, "d.id".into(), None));
                continue;
            }
            let number = position(table, column)? + 1;
            let column = &table.columns[number - 1];
            old.push(Given::new(name, format!("d.o{number}"), Some(column)));
            let _ = write!(values, ", d.o{number}");
            let value = if received.contains(&number) {
                let _ = write!(values, ", d.n{number}");
                format!("d.n{number}")
            } else {
                is_stored = true;
                format!("t.{}", column.quoted())
            };
            new.push(Given::new(name, value, Some(column)));
        }
        for place in more {
            let column = &table.columns[*place];
            if fields.iter().all(|(name, _)| name != column.name) {
                let _ = write!(values, ", d.o{}", place + 1);
            }
        }
        let delta = match is_filtered {
            true => set.sql(
                &queries::refresh::publish::filter::DELTA_OF_AUDIENCE,
                &[("values", values.as_str())],
            ),
            false => "segmenter_delta".into(),
        };
        let delta = match is_stored {
            true => set.sql(
                &queries::refresh::publish::DELTA_WITH_STORED,
                &[
                    ("delta", delta.as_str()),
                    ("table", &table.name),
                    ("collation", &table.id_collation),
                ],
            ),
            false => format!("{delta} as d"),
        };
        Ok(Self { old, new, delta })
    }
}

pub fn table<'a>(source: &PayloadInput<'a>) -> Result<&'a Table> {
    source.table.clone().map_err(|report| Error::Postgres(Box::new(report)))
}

pub fn segment_arg(subscription: &Subscription) -> [DatumWithOid<'static>; 1] {
    [subscription.segment.into()]
}
