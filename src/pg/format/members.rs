//! The members of messages: a query's rows become arrays of objects, as `jsonb`. A member that cannot
//! be part of a message is left out, and named.

use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;

use crate::error::{Error, Result};
use crate::pg::exec::memory::new_context;
use crate::pg::exec::receiver::{Receive, Received, Receiver, Row, with_bytes};
use crate::pg::exec::statement::Prepared;
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};
use crate::pg::exec::tuplestore::{Relation, append_rows};
use crate::pg::format::fingerprint::Hashing;
use segmenter_core::content::Checksum;
use segmenter_core::jsonb::{Array, Value};

/// The size in bytes from which on a message gets no further member.
const FULL: usize = 64 << 20;

/// The size in bytes from which on a member is close to the limit of a message.
const LARGE: usize = 128 << 20;

const TOO_LARGE: &str = "the member is too large for a message";

/// The number of members that are named of those that are left out.
const NAMED: usize = 3;

/// Members that cannot be part of a message, and those that are in one, but soon may not be.
#[derive(Clone, Debug, Default)]
pub struct LeftOut {
    pub count: u64,
    pub examples: Vec<Example>,
    /// The number of members that are close to the limit of a message, and the largest of them.
    pub large: u64,
    pub largest: Option<Example>,
    largest_size: usize,
}

impl LeftOut {
    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.count == 0 && self.large == 0
    }
}

/// A member that is left out, or is close to that: its id, the column, and why.
#[derive(Clone, Debug)]
pub struct Example {
    pub id: String,
    pub column: String,
    pub problem: String,
}

/// A key of members: its name, and the column that its values come from. Keys are in the order in which
/// `jsonb` keeps them.
#[derive(Clone, Copy)]
pub struct Key<'a> {
    pub name: &'a str,
    pub column: &'a str,
}

/// What of rows is hashed: the seed of the hashes, and the places of the key and of the values.
pub struct Hashed {
    pub seed: u64,
    pub places: Vec<usize>,
}

/// The members that were appended, and those that were left out.
pub struct Appended {
    pub members: u64,
    pub left_out: LeftOut,
    /// The sum of all rows, if they were hashed.
    pub sum: Option<Checksum>,
}

/// Runs a query and appends its rows to a relation as arrays of at most `size` objects, and of about 64
/// MB. Each new row has the number of the array (from 1), the number of its objects, and the array as
/// `jsonb`. The query's columns are the member's id, and the values of `keys`: texts, or values of the
/// type `jsonb`; others may follow. A member that is too large for any message is left out. With `hashed`,
/// all rows are hashed and summed up.
pub fn append(
    relation: &Relation,
    (sql, args): (&str, &[DatumWithOid<'_>]),
    keys: &[Key<'_>],
    size: usize,
    hashed: Option<Hashed>,
) -> Result<Appended> {
    let query = Prepared::new(sql, args)?;
    let arrays = arrays()?;
    let types: Vec<_> = query.columns().iter().map(|column| column.type_oid).collect();
    let hashing = hashed.map(|Hashed { seed, places }| {
        let types = places.iter().map(|place| types[*place]);
        (Hashing::new(types, seed), places, Checksum::default())
    });
    let is_json = types.iter().skip(1).take(keys.len()).map(|oid| *oid == pg_sys::JSONBOID);
    let mut receiving = Receiver::new(MemberReceiver {
        is_json: is_json.collect(),
        writer: Writer::new(relation, &arrays, keys, size),
        hashing,
    });
    query.execute(args, receiving.destination())?;
    let MemberReceiver { mut writer, hashing, .. } = receiving.inner;
    let appended = writer.finish(relation, &arrays)?;
    Ok(Appended { sum: hashing.map(|(_, _, sum)| sum), ..appended })
}

/// Which of a row's values a message has.
#[derive(Clone, PartialEq, Eq)]
pub enum Side {
    /// The row has one value for each key, after the id.
    Only,
    /// The row has an operation, the id, and for each key an old value, then for each a new one. Of a
    /// changed member, whose operation is `c`, nothing is appended if both sides are the same.
    Old,
    New,
    /// The row has an operation, the id, one value for each key, and for each of the fields with `names` an
    /// old value, then for each a new one. The key at the place `old` gets an object: of a changed member
    /// the old values of those fields that are others now.
    Event {
        old: usize,
        names: Vec<String>,
    },
}

/// The same for values of any type, each of which is converted by itself: a member with a value that
/// cannot be converted is left out. That is slow, and done where [`append`] has failed.
pub fn append_tolerant(
    relation: &Relation,
    sql: &str,
    args: &[DatumWithOid<'_>],
    keys: &[Key<'_>],
    size: usize,
    side: Side,
) -> Result<Appended> {
    let query = Prepared::new(sql, args)?;
    let arrays = arrays()?;
    let columns = query.columns();
    let first = side.first();
    let converters: Vec<_> =
        columns.iter().skip(first).map(|column| Converter::of(column.type_oid)).collect();
    let mut receiving = Receiver::new(TolerantReceiver {
        converters,
        side,
        writer: Writer::new(relation, &arrays, keys, size),
        failure: None,
    });
    query.execute(args, receiving.destination())?;
    match receiving.inner.failure.take() {
        Some(error) => Err(error),
        None => receiving.inner.writer.finish(relation, &arrays),
    }
}

/// A query with the columns of a row of parts.
fn arrays() -> Result<Prepared> {
    Prepared::new("select 1 as part, 1 as members, '[]'::pg_catalog.jsonb as payload", &[])
}

/// Collects members and writes them as arrays.
struct Writer {
    store: *mut pg_sys::Tuplestorestate,
    desc: pg_sys::TupleDesc,
    size: usize,
    /// The columns that the values come from.
    columns: Vec<String>,
    array: Array,
    arrays: i32,
    members: u64,
    left_out: LeftOut,
    /// The sizes of the values of the last member.
    sizes: Vec<usize>,
}

/// A value of a member that was converted.
enum Converted {
    Null,
    Text(Vec<u8>),
    Json(Vec<u8>),
}

impl Writer {
    fn new(relation: &Relation, arrays: &Prepared, keys: &[Key<'_>], size: usize) -> Self {
        Self {
            store: relation.store(),
            desc: arrays.result_desc(),
            size,
            columns: keys.iter().map(|key| key.column.to_owned()).collect(),
            array: Array::of(&keys.iter().map(|key| key.name).collect::<Vec<_>>(), size),
            arrays: 0,
            members: 0,
            left_out: LeftOut::default(),
            sizes: Vec::new(),
        }
    }

    /// Adds a member. `fill` adds its values to the array, in the order of the keys, and their sizes to
    /// the list; it may be called again. `id` is called for a member that is left out.
    fn add(&mut self, fill: impl Fn(&mut Array, &mut Vec<usize>), id: impl Fn() -> String) {
        loop {
            self.array.begin();
            self.sizes.clear();
            fill(&mut self.array, &mut self.sizes);
            let is_alone = self.array.is_empty();
            let fits = self.array.end();
            if fits && (is_alone || self.array.size() <= FULL) && self.array.is_deliverable() {
                if is_alone && self.array.size() > LARGE {
                    self.note_large(id());
                }
                break;
            }
            if fits {
                self.array.undo();
            }
            if is_alone {
                let size = self.sizes.iter().sum::<usize>() >> 20;
                let problem = format!("{TOO_LARGE} ({size} MB)");
                return self.leave_out(id(), self.largest_key(), problem);
            }
            self.put();
        }
        self.members += 1;
        if self.array.len() >= self.size {
            self.put();
        }
    }

    /// The key with the largest value of the last member.
    fn largest_key(&self) -> usize {
        (0..self.sizes.len()).max_by_key(|place| self.sizes[*place]).unwrap_or_default()
    }

    /// Notes that the only member of the array is close to the limit of a message.
    fn note_large(&mut self, id: String) {
        let size = self.array.size();
        self.left_out.large += 1;
        if size > self.left_out.largest_size {
            let example = self.example(id, self.largest_key(), format!("{} MB", size >> 20));
            self.left_out.largest_size = size;
            self.left_out.largest = Some(example);
        }
    }

    fn leave_out(&mut self, id: String, key: usize, problem: String) {
        self.left_out.count += 1;
        if self.left_out.examples.len() < NAMED {
            let example = self.example(id, key, problem);
            self.left_out.examples.push(example);
        }
    }

    fn example(&self, id: String, key: usize, problem: String) -> Example {
        let column = self.columns.get(key).cloned().unwrap_or_default();
        Example { id, column, problem }
    }

    /// Appends the array as a row, unless it is empty.
    fn put(&mut self) {
        if self.array.is_empty() {
            return;
        }
        self.arrays += 1;
        let (number, members) = (self.arrays, self.array.len() as i32);
        let Self { array, store, desc, .. } = self;
        array.take(|datum| {
            let start = datum.as_mut_ptr();
            let values = [number.into(), members.into(), pg_sys::Datum::from(start)];
            // SAFETY: `datum` begins with room for its length. The descriptor has the three columns of
            // the values, and the store, which is live during the query, copies the row.
            unsafe {
                pgrx::set_varsize_4b(start.cast(), datum.len() as i32);
                append_rows(*store, *desc, &[Row { values: &values, nulls: &[false; 3] }]);
            }
        });
    }

    fn finish(&mut self, relation: &Relation, arrays: &Prepared) -> Result<Appended> {
        self.put();
        relation.register(arrays);
        let left_out = std::mem::take(&mut self.left_out);
        Ok(Appended { members: self.members, left_out, sum: None })
    }
}

/// The text of an id, which is a value of a row.
///
/// # Safety
///
/// The value is null or a live text.
unsafe fn id_of(row: Row<'_>, place: usize) -> String {
    if row.nulls[place] {
        return String::new();
    }
    // SAFETY: as the caller promises.
    unsafe { with_bytes(row.values[place], |text| String::from_utf8_lossy(text).into_owned()) }
}

struct MemberReceiver {
    /// For each value of a member: whether it is a `jsonb`; otherwise it is a text.
    is_json: Vec<bool>,
    writer: Writer,
    /// The hash functions, the places of the hashed values, and the sum of the rows so far.
    hashing: Option<(Hashing, Vec<usize>, Checksum)>,
}

impl Receive for MemberReceiver {
    unsafe fn receive(&mut self, row: Row<'_>) -> Received {
        let Self { is_json, writer, hashing } = self;
        if let Some((hashing, places, sum)) = hashing {
            let values = places.iter().map(|place| (row.values[*place], row.nulls[*place]));
            // SAFETY: the hashing was made for the types of these columns; values live as long as the row.
            sum.add(unsafe { hashing.hash_each(values) });
        }
        let fill = |array: &mut Array, sizes: &mut Vec<usize>| {
            let values = row.values.iter().zip(row.nulls).skip(1);
            for ((value, is_null), is_json) in values.zip(is_json.iter()) {
                let mut size = 0;
                // SAFETY: a value that is not null is a text or a `jsonb`, as `append` requires of
                // its query, and lives as long as the row.
                unsafe {
                    match (*is_null, *is_json) {
                        (true, _) => array.add(Value::Null),
                        (_, true) => with_bytes(*value, |json| {
                            size = json.len();
                            array.add(Value::Json(json));
                        }),
                        _ => with_bytes(*value, |text| {
                            size = text.len();
                            array.add(Value::Text(text));
                        }),
                    }
                }
                sizes.push(size);
            }
        };
        // SAFETY: the first column is the id, a text.
        writer.add(fill, || unsafe { id_of(row, 0) });
        Received::Done
    }
}

/// Converts values of one type to JSON.
enum Converter {
    Text,
    /// By the function `to_jsonb`.
    Function(Box<pg_sys::FmgrInfo>),
}

impl Converter {
    fn of(type_oid: pg_sys::Oid) -> Self {
        if [pg_sys::TEXTOID, pg_sys::VARCHAROID].contains(&type_oid) {
            return Self::Text;
        }
        let function = pg_sys::Oid::from(pg_sys::F_TO_JSONB);
        let mut info = Box::new(pg_sys::FmgrInfo::default());
        // SAFETY: the function exists, and takes one value of any type. Its expression tells which;
        // that and what the function keeps are in the current memory context, which lives as long as
        // the SPI connection of the query.
        unsafe {
            pg_sys::fmgr_info(function, &raw mut *info);
            let mut args = pgrx::PgList::<pg_sys::Const>::new();
            args.push(pg_sys::makeNullConst(type_oid, -1, pg_sys::InvalidOid));
            let call = pg_sys::makeFuncExpr(
                function,
                pg_sys::JSONBOID,
                args.into_pg(),
                pg_sys::InvalidOid,
                pg_sys::InvalidOid,
                pg_sys::CoercionForm::COERCE_EXPLICIT_CALL,
            );
            info.fn_expr = call.cast();
        }
        Self::Function(info)
    }

    /// Converts a value that is not null. An error of the value itself is in the result.
    ///
    /// # Safety
    ///
    /// The value has the type of the converter, and is live.
    unsafe fn convert(&mut self, value: pg_sys::Datum) -> Result<Converted> {
        match self {
            // SAFETY: a text, as the caller promises.
            Self::Text => Ok(Converted::Text(unsafe { with_bytes(value, <[u8]>::to_vec) })),
            Self::Function(info) => in_subtransaction(OnSuccess::Commit, || {
                // SAFETY: the function gives a `jsonb` for a value of this type, which is copied
                // before the context that it is in is deleted.
                unsafe {
                    let context = new_context(c"segmenter member");
                    let outer = pg_sys::MemoryContextSwitchTo(context);
                    let json =
                        pg_sys::FunctionCall1Coll(&raw mut **info, pg_sys::InvalidOid, value);
                    let json = with_bytes(json, <[u8]>::to_vec);
                    pg_sys::MemoryContextSwitchTo(outer);
                    pg_sys::MemoryContextDelete(context);
                    Ok(Converted::Json(json))
                }
            }),
        }
    }
}

/// The classes of SQLSTATEs that a value can be the cause of: data, and what functions raise of users'
/// types.
const OF_VALUES: [&str; 6] = ["0A", "21", "22", "38", "54", "P0"];

/// Whether an error is one of a value.
pub fn is_of_value(error: &Error) -> bool {
    let sqlstate = error.report().sqlstate();
    OF_VALUES.iter().any(|class| sqlstate.starts_with(class))
}

impl Side {
    /// The place of the first value in a row.
    fn first(&self) -> usize {
        if *self == Side::Only { 1 } else { 2 }
    }
}

/// The values of a member, or the place and the reason of one that cannot be converted.
type Values = std::result::Result<Vec<Converted>, (usize, String)>;

struct TolerantReceiver {
    converters: Vec<Converter>,
    side: Side,
    writer: Writer,
    /// An error that is not one of a value.
    failure: Option<Error>,
}

impl TolerantReceiver {
    /// So many values from a place on.
    ///
    /// # Safety
    ///
    /// The row has the columns of the query of `append_tolerant`, and is live.
    unsafe fn values(&mut self, row: Row<'_>, from: usize, count: usize) -> Result<Values> {
        let first = self.side.first();
        let mut values = Vec::with_capacity(count);
        for key in 0..count {
            let place = from + key;
            if row.nulls[place] {
                values.push(Converted::Null);
                continue;
            }
            // SAFETY: as the caller promises.
            match unsafe { self.converters[place - first].convert(row.values[place]) } {
                Ok(value) => values.push(value),
                Err(error) if is_of_value(&error) => {
                    return Ok(Err((key, error.report().message)));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Ok(values))
    }

    /// # Safety
    ///
    /// As for [`Self::values`].
    unsafe fn take(&mut self, row: Row<'_>) -> Result<()> {
        let (keys, first) = (self.writer.columns.len(), self.side.first());
        let is_changed = |row: Row<'_>| row.values[0].value() as u8 == b'c';
        // SAFETY: as the caller promises.
        let (wanted, other) = unsafe {
            match self.side.clone() {
                Side::Only => (self.values(row, first, keys)?, None),
                side @ (Side::Old | Side::New) => {
                    let (old, new) = (first, first + keys);
                    let (from, against) = if side == Side::Old { (old, new) } else { (new, old) };
                    let wanted = self.values(row, from, keys)?;
                    let other = match is_changed(row) {
                        true => Some(self.values(row, against, keys)?),
                        false => None,
                    };
                    (wanted, other)
                }
                Side::Event { old: place, names } => {
                    let mut event = self.values(row, first, keys)?;
                    if is_changed(row) {
                        let from = first + keys;
                        let old = self.values(row, from, names.len())?;
                        let new = self.values(row, from + names.len(), names.len())?;
                        if is_same(&old, &new) {
                            return Ok(());
                        }
                        if let (Ok(values), Ok(old), Ok(new)) = (&mut event, &old, &new) {
                            match differences(&names, old, new) {
                                Some(old) => values[place] = Converted::Json(old),
                                None => event = Err((place, TOO_LARGE.into())),
                            }
                        }
                    }
                    (event, None)
                }
            }
        };
        if other.as_ref().is_some_and(|other| is_same(&wanted, other)) {
            return Ok(());
        }
        let id = first - 1;
        // SAFETY: the column of the id is a text.
        let id = || unsafe { id_of(row, id) };
        match wanted {
            Err((key, problem)) => self.writer.leave_out(id(), key, problem),
            Ok(values) => {
                let fill = |array: &mut Array, sizes: &mut Vec<usize>| {
                    sizes.extend(values.iter().map(|value| value.add_to(array)));
                };
                self.writer.add(fill, id);
            }
        }
        Ok(())
    }
}

fn is_same(one: &Values, other: &Values) -> bool {
    match (one, other) {
        (Ok(one), Ok(other)) => one.iter().zip(other).all(|(a, b)| a.is_same(b)),
        (Err(_), Err(_)) => true,
        _ => false,
    }
}

/// The old values of those fields that are others now, as an object, whose keys are in the order of `jsonb`;
/// none: they are too large for one.
fn differences(names: &[String], old: &[Converted], new: &[Converted]) -> Option<Vec<u8>> {
    let other = old.iter().zip(new).zip(names).filter(|((old, new), _)| !old.is_same(new));
    let (values, names): (Vec<&Converted>, Vec<&str>) =
        other.map(|((old, _), name)| (old, name.as_str())).unzip();
    let mut array = Array::of(&names, 1);
    array.begin();
    for value in values {
        value.add_to(&mut array);
    }
    array.end().then(|| array.last().to_vec())
}

impl Converted {
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Text(one), Self::Text(two)) | (Self::Json(one), Self::Json(two)) => one == two,
            _ => false,
        }
    }

    /// Adds it to an array. Returns its size.
    fn add_to(&self, array: &mut Array) -> usize {
        match self {
            Self::Null => {
                array.add(Value::Null);
                0
            }
            Self::Text(text) => {
                array.add(Value::Text(text));
                text.len()
            }
            Self::Json(json) => {
                array.add(Value::Json(json));
                json.len()
            }
        }
    }
}

impl Receive for TolerantReceiver {
    unsafe fn receive(&mut self, row: Row<'_>) -> Received {
        // SAFETY: as the caller promises.
        match unsafe { self.take(row) } {
            Ok(()) => Received::Done,
            Err(error) => {
                self.failure = Some(error);
                Received::Stop
            }
        }
    }
}
