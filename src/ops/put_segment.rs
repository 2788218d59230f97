//! Creates a segment, or makes an existing one what it is said to be: for files of segments that are run
//! again and again.

use PgSqlErrorCode as Code;
use pgrx::datum::{DatumWithOid, Uuid};
use pgrx::prelude::*;
use pgrx::spi::quote_identifier;
use serde_json::json;

use crate::catalog::log::LogStatus;
use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::config::family::{self, Kinship};
use crate::config::segment_table::{Holder, Table};
use crate::config::{self, FAMILY_COLUMN, Key, Refresher, Segment, Subject};
use crate::error::{Error, Result, emit};
use crate::ops::new_table::{self, NewTable};
use crate::pg::clock;
use crate::pg::exec::lock;
use crate::pg::exec::role;
use crate::pg::exec::snapshot::Active;
use crate::pg::exec::statement::{Prepared, ResultColumn};
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};
use crate::pg::format::json::JsonbText;
use crate::pg::system_catalog;
use crate::refresh::{RefreshRequest, advise, analysis, delta};
use crate::schedule::{due, run};
use segmenter_core::due::Due;

/// The arguments of `segmenter_put_segment()`. What is not given stays as it is.
pub struct PutSegment<'a> {
    pub name: &'a str,
    pub query: Option<&'a str>,
    pub refresh_params: Option<JsonbText>,
    pub refresh_cron: Option<&'a str>,
    pub refresh_timezone: Option<&'a str>,
    pub table_name: Option<&'a str>,
    pub history: bool,
    pub description: Option<&'a str>,
    pub owner: Option<&'a str>,
    pub sources: Option<JsonbText>,
    pub guards: Option<JsonbText>,
    pub exclude: Option<JsonbText>,
}

/// What was done.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Created,
    Altered,
    Unchanged,
}

impl Action {
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Created => "created",
            Action::Altered => "altered",
            Action::Unchanged => "unchanged",
        }
    }
}

/// A segment that was put.
pub struct Put {
    pub id: Uuid,
    pub action: Action,
    /// The columns of its row that were changed, and `columns` if its table got new ones.
    pub changed: Vec<String>,
}

/// The columns that can be changed, with the places of their values in the statements.
const COLUMNS: [(&str, &str); 10] = [
    ("description", "$2"),
    ("table_name", "$3::oid::regclass"),
    ("owner", "$4::oid::regrole"),
    ("refresh_auto", "$5"),
    ("refresh_params", "$6"),
    ("refresh_cron", "$7"),
    ("refresh_timezone", "$8"),
    ("sources", "$9"),
    ("guards", "$10"),
    ("exclude", "$11"),
];

/// The active segment that has the name.
struct Existing {
    id: Uuid,
    table: pg_sys::Oid,
    owner: pg_sys::Oid,
    refresh_params: Option<JsonbText>,
    has_cron: bool,
    is_automatic: bool,
}

/// Creates or alters a segment, with the rights of the caller. An error is raised, and nothing is changed.
pub fn put(set: &RelationSet, request: &PutSegment<'_>) -> Result<Put> {
    let subject = Subject::Segment(request.name);
    if request.name.trim().is_empty() {
        let problem = "it must not be empty or blank";
        return Err(Error::Check { column: "name", subject: subject.to_string(), problem });
    }
    let refresh_params = given_refresher(request)?;
    let owner = request.owner.map(|name| owner_named(set, name, subject)).transpose()?;
    // What is of another role is refused before anything is locked.
    find(set, request.name)?;
    lock::lock_name(set.segments(), request.name);
    // Sessions that put the same name come one after another, and see what the last one has done.
    let _snapshot = Active::fresh();
    let put = match find(set, request.name)? {
        Some(existing) => alter(set, request, &existing, refresh_params, owner)?,
        None => create(set, request, refresh_params, owner.unwrap_or_else(role::current))?,
    };
    Ok(put)
}

/// The refresher that the arguments give.
fn given_refresher(request: &PutSegment<'_>) -> Result<Option<JsonbText>> {
    match (request.query, &request.refresh_params) {
        (Some(_), Some(_)) => Err(Error::Argument {
            name: "query",
            problem: "refresh_params is given, too".into(),
            hint: "query => '...' stands for refresh_params => '{\"query\": {\"sql\": \"...\"}}': give one of them.",
        }),
        (Some(query), None) => Ok(Some(JsonbText(json!({"query": {"sql": query}}).to_string()))),
        (None, given) => Ok(given.clone()),
    }
}

/// The role of the argument `owner`, as which the caller must be able to act.
fn owner_named(set: &RelationSet, name: &str, subject: Subject<'_>) -> Result<pg_sys::Oid> {
    let owner = role::named(name).ok_or_else(|| Error::Argument {
        name: "owner",
        problem: format!("role \"{name}\" does not exist"),
        hint: "",
    })?;
    if !role::may_act_as(role::current(), owner) {
        return Err(Error::NotMember { role: name.to_owned(), subject: subject.to_string() });
    }
    set.check_owner_can_act_as(owner)?;
    Ok(owner)
}

fn find(set: &RelationSet, name: &str) -> Result<Option<Existing>> {
    let args = [name.into(), role::current().into()];
    let found = set.as_owner(|| {
        Spi::connect(|client| {
            let sql = set.sql(&queries::ops::put_segment::FIND_SEGMENT, &[]);
            let row = client.select(&sql, Some(1), &args)?.first();
            if row.is_empty() {
                return Ok::<_, Error>(None);
            }
            let is = |column: &str| {
                Ok::<_, Error>(row.get_by_name::<bool, _>(column)?.unwrap_or_default())
            };
            let existing = Existing {
                id: row.get_by_name("id")?.ok_or(Error::MissingValue("id"))?,
                table: row.get_by_name("table_oid")?.unwrap_or(pg_sys::InvalidOid),
                owner: row.get_by_name("owner")?.unwrap_or(pg_sys::InvalidOid),
                refresh_params: row.get_by_name("refresh_params")?,
                has_cron: row.get_by_name::<String, _>("refresh_cron")?.is_some(),
                is_automatic: is("refresh_auto")?,
            };
            Ok(Some((existing, is("is_permitted")?)))
        })
    })?;
    match found {
        Some((_, false)) => Err(taken(name)),
        found => Ok(found.map(|(existing, _)| existing)),
    }
}

fn taken(name: &str) -> Error {
    Error::Exists {
        code: Code::ERRCODE_UNIQUE_VIOLATION,
        what: format!("segment \"{name}\""),
        hint: "Names are unique among active segments, also those of other owners: choose another name, or retire the other segment.".into(),
    }
}

fn create(
    set: &RelationSet,
    request: &PutSegment<'_>,
    refresh_params: Option<JsonbText>,
    owner: pg_sys::Oid,
) -> Result<Put> {
    let Some(refresh_params) = refresh_params else {
        return Err(Error::Argument {
            name: "query",
            problem: format!(
                "there is no segment \"{}\" yet, and a new one needs a query",
                request.name
            ),
            hint: "Pass query or refresh_params; refresh_params => '{}' for a segment that is loaded by hand.",
        });
    };
    let refresher = parse_refresher(&refresh_params, request.name)?;
    // The segment has no id yet.
    let holder = Holder { id: Uuid::from_bytes([0; 16]), name: request.name, owner };
    let named = match request.table_name {
        Some(name) => system_catalog::relation_named(name)?,
        None => table_of_family(set, refresher.as_ref(), owner)?,
    };
    let members = Members::of(set, &holder, (refresher, named))?;
    let (table, _) = members.fit_table(set, request, &holder, named)?;
    let args = [
        request.name.into(),
        request.description.into(),
        table.into(),
        owner.into(),
        refresh_params.into(),
        request.refresh_cron.into(),
        request.refresh_timezone.into(),
        request.sources.clone().into(),
        request.guards.clone().into(),
        request.exclude.clone().into(),
    ];
    let created = in_subtransaction(OnSuccess::Commit, || {
        set.write_as_caller(|| {
            Spi::connect_mut(|client| {
                // No row limit here: a statement that stops after its first row does not fire its
                // statement-level triggers.
                let sql = set.sql(&queries::ops::put_segment::INSERT_SEGMENT, &[]);
                Ok(client.update(&sql, None, &args)?.first().get_one::<Uuid>()?)
            })
        })
    });
    let id = created.map_err(|error| match &error {
        Error::Postgres(report) if report.sqlstate == Code::ERRCODE_UNIQUE_VIOLATION as i32 => {
            taken(request.name)
        }
        _ => error,
    })?;
    let id = id.ok_or_else(|| set.unknown_segment(request.name))?;
    Ok(Put { id, action: Action::Created, changed: Vec::new() })
}

fn alter(
    set: &RelationSet,
    request: &PutSegment<'_>,
    existing: &Existing,
    refresh_params: Option<JsonbText>,
    owner: Option<pg_sys::Oid>,
) -> Result<Put> {
    let id = existing.id;
    let actual = refresh_params.as_ref().or(existing.refresh_params.as_ref());
    let refresher = match actual {
        Some(refresh_params) => parse_refresher(refresh_params, request.name)?,
        None => None,
    };
    let holder = Holder { id, name: request.name, owner: owner.unwrap_or(existing.owner) };
    let named = match request.table_name {
        None => Some(existing.table),
        Some(name) => system_catalog::relation_named(name)?,
    };
    let is_checked = refresh_params.is_some()
        || request.table_name.is_some()
        || owner.is_some()
        || !request.history;
    let (mut table, mut has_new_columns) = (existing.table, false);
    if is_checked {
        let members = Members::of(set, &holder, (refresher, named))?;
        (table, has_new_columns) = members.fit_table(set, request, &holder, named)?;
    }
    // A first schedule makes the segment automatic. Later the column is the owner's to set.
    let becomes_automatic =
        request.refresh_cron.is_some() && !existing.has_cron && !existing.is_automatic;
    let args = [
        id.into(),
        request.description.into(),
        table.into(),
        owner.into(),
        becomes_automatic.then_some(true).into(),
        refresh_params.into(),
        request.refresh_cron.into(),
        request.refresh_timezone.into(),
        request.sources.clone().into(),
        request.guards.clone().into(),
        request.exclude.clone().into(),
    ];
    let mut changed = changes(set, &args)?;
    if let Some(owner) = owner.filter(|owner| *owner != existing.owner) {
        give_table(set, table, (existing.owner, owner), &holder)?;
    }
    if !changed.is_empty() {
        update(set, &changed, &args)?;
    }
    if has_new_columns {
        changed.push("columns".into());
    }
    let action = if changed.is_empty() { Action::Unchanged } else { Action::Altered };
    Ok(Put { id, action, changed })
}

/// The columns that have other values now.
fn changes(set: &RelationSet, args: &[DatumWithOid<'_>]) -> Result<Vec<String>> {
    let changed = set.as_owner(|| {
        let sql = set.sql(&queries::ops::put_segment::LIST_CHANGES, &[]);
        Spi::connect(|client| client.select(&sql, Some(1), args)?.first().get_one())
    })?;
    Ok(changed.unwrap_or_default())
}

fn update(set: &RelationSet, changed: &[String], args: &[DatumWithOid<'_>]) -> Result<()> {
    let assignments: Vec<String> = COLUMNS
        .iter()
        .filter(|(column, _)| changed.iter().any(|changed| changed == column))
        .map(|(column, value)| format!("{column} = {value}"))
        .collect();
    let parts = [("assignments", assignments.join(", "))];
    set.write_as_caller(|| {
        let parts = parts.each_ref().map(|(name, part)| (*name, part.as_str()));
        Ok(Spi::run_with_args(&set.sql(&queries::ops::put_segment::UPDATE_SEGMENT, &parts), args)?)
    })
}

/// Gives the segment's own table to the new owner, if the former one owned it.
fn give_table(
    set: &RelationSet,
    table: pg_sys::Oid,
    (former, owner): (pg_sys::Oid, pg_sys::Oid),
    holder: &Holder<'_>,
) -> Result<()> {
    let found = Table::check(set, table, *holder)?;
    if found.owner != former || found.kind.shared {
        return Ok(());
    }
    let owner = quote_identifier(role::name(owner));
    let parts = [("table", found.name.as_str()), ("owner", owner.as_str())];
    set.write_as_caller(|| Ok(Spi::run(&set.sql(&queries::ops::put_segment::GIVE_TABLE, &parts))?))
}

fn parse_refresher(refresh_params: &JsonbText, segment: &str) -> Result<Option<Refresher>> {
    let subject = Subject::Segment(segment);
    let parsed = config::parse("refresh_params", Some(refresh_params.clone()), subject)?;
    Ok(config::refresher(parsed, subject)?)
}

/// The table of the family that a segment belongs to; none: it belongs to none that is there.
fn table_of_family(
    set: &RelationSet,
    refresher: Option<&Refresher>,
    owner: pg_sys::Oid,
) -> Result<Option<pg_sys::Oid>> {
    let Some(Refresher::Family(family)) = refresher else { return Ok(None) };
    let found = Segment::find_bare(set, Key::Name(family))?;
    Ok(found.filter(|found| found.owner == owner).map(|found| found.table))
}

/// The query for the members of a segment, analysed with its owner's rights.
struct Members {
    query: Option<Prepared>,
    columns: Vec<ResultColumn>,
    kinship: Kinship,
}

impl Members {
    /// `table`: the segment's, which that of its family must be.
    fn of(
        set: &RelationSet,
        holder: &Holder<'_>,
        (refresher, table): (Option<Refresher>, Option<pg_sys::Oid>),
    ) -> Result<Self> {
        let named = (holder.name, table.unwrap_or(pg_sys::InvalidOid), holder.owner);
        let (refresher, kinship) = family::resolve(set, refresher, named)?;
        let query = in_subtransaction(OnSuccess::Commit, || {
            set.as_segment_owner(holder.owner, || {
                Spi::connect(|_| analysis::members(set, refresher.as_ref()))
            })
        })
        .map_err(advise)?;
        let mut columns = query.as_ref().map(Prepared::columns).unwrap_or_default();
        if kinship.has_named_rows() {
            columns.retain(|column| column.name != FAMILY_COLUMN);
        }
        new_table::check_columns(&columns)?;
        Ok(Self { query, columns, kinship })
    }

    /// Makes the table fit the query: creates it, or adds the columns that only the query has. Returns the
    /// table, and whether it got columns. A query that does not fit all the same is an error.
    fn fit_table(
        &self,
        set: &RelationSet,
        request: &PutSegment<'_>,
        holder: &Holder<'_>,
        named: Option<pg_sys::Oid>,
    ) -> Result<(pg_sys::Oid, bool)> {
        let table = match named {
            Some(table) => table,
            None => {
                let name = new_table::name_of(request.name, request.table_name)?;
                match system_catalog::relation_named(&name)? {
                    Some(table) => table,
                    None => return Ok((self.create_table(set, request, holder, &name)?, false)),
                }
            }
        };
        let found = Table::check(set, table, *holder)?;
        if !request.history && found.kind.history {
            return Err(Error::Argument {
                name: "history",
                problem: format!("table {} keeps history", found.name),
                hint: "It decides about a new table only: pass another table_name, or leave it out.",
            });
        }
        let added = self.add_columns(set, &found, holder)?;
        let found = match added {
            true => Table::check(set, table, *holder)?,
            false => found,
        };
        self.check(found)?;
        Ok((table, added))
    }

    fn create_table(
        &self,
        set: &RelationSet,
        request: &PutSegment<'_>,
        holder: &Holder<'_>,
        name: &str,
    ) -> Result<pg_sys::Oid> {
        let new = NewTable {
            name,
            columns: &self.columns,
            history: request.history,
            shared: self.kinship.is_family(),
            is_named: request.table_name.is_some(),
        };
        let what = format!("the table of segment \"{}\" cannot be created", request.name);
        set.as_segment_owner(holder.owner, || new.create(set))
            .map_err(|error| error.about(&what))?;
        let created = system_catalog::relation_named(name);
        let table = created?.ok_or_else(|| Error::TableDropped(request.name.into()))?;
        self.check(Table::check(set, table, *holder)?)?;
        Ok(table)
    }

    fn check(&self, table: Table) -> Result<()> {
        if self.kinship.is_family() {
            family::check_table(&table)?;
        }
        let table = table.with_named_rows(self.kinship.has_named_rows());
        self.query.as_ref().map_or(Ok(()), |query| delta::check_analysed(query, &table))
    }

    /// Adds the columns that only the query has, if the caller or the segment's owner could do so. Returns
    /// whether there were any.
    fn add_columns(&self, set: &RelationSet, table: &Table, holder: &Holder<'_>) -> Result<bool> {
        let mut missing: Vec<&ResultColumn> = Vec::new();
        for column in new_table::extra(&self.columns) {
            let is_known = table.columns.iter().any(|known| known.name == column.name)
                || missing.iter().any(|known| known.name == column.name);
            if !is_known {
                missing.push(column);
            }
        }
        let may_alter = |role| role::owns_table(role, table.oid);
        if missing.is_empty() || !may_alter(role::current()) && !may_alter(holder.owner) {
            return Ok(false);
        }
        let columns: Vec<String> = missing
            .iter()
            .map(|column| format!("add column if not exists {}", new_table::definition(column)))
            .collect();
        let parts = [("table", table.name.as_str()), ("columns", &columns.join(", "))];
        set.as_table_owner(table.owner, || {
            Ok(Spi::run(&set.sql(&queries::ops::put_segment::ADD_COLUMNS, &parts))?)
        })?;
        let columns: Vec<String> =
            missing.iter().map(|column| quote_identifier(&column.name)).collect();
        let message = format!("table {} has new columns: {}", table.name, columns.join(", "));
        emit(PgLogLevel::NOTICE, message, None);
        Ok(true)
    }
}

/// Refreshes a segment that was put, or says when that will be.
pub fn refresh(
    set: &RelationSet,
    name: &str,
    put: &Put,
    at_once: bool,
    run_id: Uuid,
) -> Result<()> {
    let _snapshot = Active::fresh();
    let mut is_refreshed = false;
    if at_once {
        let request = RefreshRequest::by_hand(Key::Id(put.id), name, run_id);
        let outcome = run::by_hand(set, &request)?;
        is_refreshed = outcome.status == LogStatus::Ok;
        if outcome.status == LogStatus::Waiting {
            // A failure is a WARNING already.
            let why = outcome.detail.unwrap_or_default();
            let message = format!("{} was not refreshed, it waits: {why}", Subject::Segment(name));
            emit(PgLogLevel::NOTICE, message, None);
        }
    }
    let _snapshot = Active::fresh();
    say_when(set, (name, is_refreshed), put)
}

/// Says when a segment that was created, or that has another schedule, is refreshed. `is_refreshed`: it
/// just was.
fn say_when(set: &RelationSet, (name, is_refreshed): (&str, bool), put: &Put) -> Result<()> {
    let is_scheduled = |column: &String| {
        ["refresh_auto", "refresh_cron", "refresh_timezone"].contains(&column.as_str())
    };
    if put.action != Action::Created && !put.changed.iter().any(is_scheduled) {
        return Ok(());
    }
    let items = due::items(set, None, Some(&[put.id]))?;
    let Some(item) = items.first() else { return Ok(()) };
    let next = item.due.and_then(Due::at).map(clock::timestamp);
    let segment = Subject::Segment(name);
    let first = if put.action == Action::Created && !is_refreshed { " first" } else { "" };
    let message = match (item.due, next) {
        (None, _) => match &item.family {
            Some((_, family)) => format!("{segment} is refreshed with its family \"{family}\""),
            None => format!("{segment} is refreshed by hand only"),
        },
        (Some(Due::Held(_)), None) => {
            format!("{segment} is {}", item.held().unwrap_or_default())
        }
        (Some(Due::Never), _) => {
            format!("{segment} is never refreshed: its schedule has no further time")
        }
        (Some(_), Some(next)) => format!("{segment} is refreshed{first} at {next}"),
        (Some(_), None) => format!("{segment} is refreshed{first} by the next run"),
    };
    emit(PgLogLevel::NOTICE, message, None);
    Ok(())
}
