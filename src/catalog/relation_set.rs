//! Relation sets: the only module that knows the names of a set's relations and the roles that our
//! own statements on them run as.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;
use pgrx::spi::{SpiHeapTupleData, quote_identifier};

use super::queries;
use super::query::{Query, RunsAs, assuming};
use crate::catalog::settings;
use crate::error::{Error, Result, SCHEMA_VERSION, SetError};
use crate::pg::bgw::process;
use crate::pg::exec::kept::Kept;
use crate::pg::exec::role::{self, MEMBERSHIP, Rights, Settings};
use crate::pg::exec::segment_calls::Readers;
use crate::pg::exec::session::Session;
use crate::pg::exec::statement;
use crate::pg::system_catalog;

/// The relations of a set: the word of the placeholder `@word@` in our SQL, and the suffix that the
/// relation's name has after the mart's name.
const RELATIONS: [(&str, &str); 16] = [
    ("mart", ""),
    ("segments", "_segments"),
    ("consumers", "_consumers"),
    ("subscriptions", "_subscriptions"),
    ("log", "_log"),
    ("outbox", "_outbox"),
    ("deliveries", "_deliveries"),
    ("handovers", "_handovers"),
    ("state", "_state"),
    ("attempts", "_attempts"),
    ("definitions", "_definitions"),
    ("secret", "_secret"),
    ("kept_out", "_kept_out"),
    ("status", "_status"),
    ("current", "_current"),
    ("withheld", "_withheld"),
];
/// A relation of a set, by its index in [`RELATIONS`].
#[derive(Debug, Clone, Copy)]
pub enum Relation {
    Mart = 0,
    Segments = 1,
    Consumers = 2,
    Subscriptions = 3,
    Log = 4,
    Outbox = 5,
    Handovers = 7,
    Definitions = 10,
    Secret = 11,
    Status = 13,
    Current = 14,
}

/// The relations that are views for users: no statement of ours reads them, and a set may lack them.
pub const VIEWS: [&str; 2] = ["status", "current"];

/// The name of the check constraint that limits an unshared segment table to one segment's rows.
pub const OWN_CHECK: &str = "segmenter_own_segment";

/// Relations that belong to the extension, not to a set. Two more placeholders are not relations:
/// `@schema@`, the extension's schema, and `@membership@`, the privilege that is passed to
/// `pg_has_role`.
const SHARED: [(&str, &str); 4] = [
    ("registry", "segmenter_registry"),
    ("registry_relations", "segmenter_registry_relations"),
    ("changes", "segmenter_changes"),
    ("change_readers", "segmenter_change_readers"),
];

/// The versions of the definition that this library works with. A release that changes no SQL object
/// changes neither end.
const SCHEMA_VERSIONS: std::ops::RangeInclusive<i32> = 2..=SCHEMA_VERSION;

/// The relation of captured changes in the schema of a function of the extension.
pub fn changes_of(function: pg_sys::Oid) -> pg_sys::Oid {
    system_catalog::relation_beside(function, c"segmenter_changes")
}

/// The extension, as installed in this database.
#[derive(Clone)]
pub struct Extension {
    /// The schema, quoted where it needs to be.
    schema: String,
    owner: pg_sys::Oid,
    /// The roles, other than superusers, that may create objects in the schema, and could so plant an
    /// operator or a function there; 0 is PUBLIC.
    creators: Vec<pg_sys::Oid>,
    /// The time zone of members' local times: `segmenter.timezone` of the database.
    timezone: String,
}

impl Extension {
    /// Finds the extension; none: it is not installed. A version whose registry this library does
    /// not know is an error.
    pub fn find() -> Result<Option<Self>> {
        role::with_own_settings(Self::found)
    }

    fn found() -> Result<Option<Self>> {
        Spi::connect(|client| {
            let statement = queries::catalog::FIND_EXTENSION.kept();
            let row = client.select(statement, Some(1), &[])?.first();
            if row.is_empty() {
                return Ok(None);
            }
            if !row.get_by_name::<bool, _>("has_versions")?.unwrap_or_default() {
                let version: String = row.get_by_name("version")?.unwrap_or_default();
                return Err(Error::OtherVersion(version));
            }
            let schema = row.get_by_name::<String, _>("schema")?;
            let creators: Option<Vec<pg_sys::Oid>> = row.get_by_name("creators")?;
            let timezone = settings::timezone(row.get_by_name("timezone")?)?;
            // A superuser can do anything without it.
            let is_other = |role: &pg_sys::Oid| !role::is_superuser(*role);
            Ok(Some(Self {
                schema: quote_identifier(schema.unwrap_or_default()),
                owner: row.get_by_name("owner")?.unwrap_or(pg_sys::InvalidOid),
                creators: creators.unwrap_or_default().into_iter().filter(is_other).collect(),
                timezone,
            }))
        })
    }

    /// The schema, quoted where it needs to be.
    pub fn schema(&self) -> &str {
        &self.schema
    }

    pub fn owner(&self) -> pg_sys::Oid {
        self.owner
    }

    pub fn current() -> Result<Self> {
        Self::find()?.ok_or(Error::NoExtension)
    }

    /// The text of a statement that uses no relation of a set, with its placeholders filled in.
    pub fn sql(&self, query: &Query, parts: &[(&str, &str)]) -> String {
        query.check_role();
        render(query.text, |word| placeholder(parts, word).or_else(|| self.name(word)))
    }

    /// A statement that uses no relation of a set, and that the session keeps.
    pub fn kept(&self, query: &Query) -> Kept {
        Kept::new(self.sql(query, &[]))
    }

    /// Runs statements on the extension's own relations, as its owner.
    pub fn as_owner<T>(&self, body: impl FnOnce() -> T) -> T {
        assuming(RunsAs::ExtensionOwner, || {
            role::run_as(self.owner, Rights::Trusted, &self.own_settings(), body)
        })
    }

    /// Runs our own statements on a set with the caller's rights, restricted.
    pub fn as_caller<T>(&self, body: impl FnOnce() -> T) -> T {
        assuming(RunsAs::Caller, || self.restricted(role::current(), body))
    }

    /// Runs our own statements as a role other than the extension's owner. They may call code that
    /// the role has attached to its relations (triggers, defaults), so the operation is restricted.
    fn restricted<T>(&self, role: pg_sys::Oid, body: impl FnOnce() -> T) -> T {
        role::run_as(role, Rights::Restricted, &self.own_settings(), body)
    }

    /// The settings of our own statements.
    fn own_settings(&self) -> Settings {
        Settings {
            search_path: "pg_catalog, pg_temp".into(),
            timezone: self.timezone.clone(),
            session: None,
        }
    }

    /// The time zone of members' local times, and of schedules that have none of their own.
    pub fn timezone(&self) -> &str {
        &self.timezone
    }

    /// Runs a query that returns one value as the extension's owner.
    pub fn read<T: FromDatum + IntoDatum>(
        &self,
        query: &Query,
        args: &[DatumWithOid<'_>],
    ) -> Result<Option<T>> {
        self.as_owner(|| Spi::connect(|_| statement::read_one(&self.sql(query, &[]), args)))
    }

    /// Runs a writing statement that returns one value as the extension's owner.
    pub fn write<T: FromDatum + IntoDatum>(
        &self,
        query: &Query,
        args: &[DatumWithOid<'_>],
    ) -> Result<Option<T>> {
        self.as_owner(|| {
            Spi::connect_mut(|client| {
                let rows = client.update(&self.sql(query, &[]), None, args)?;
                if rows.is_empty() { Ok(None) } else { Ok(rows.first().get_one()?) }
            })
        })
    }

    /// All sets, the extension's own first.
    pub fn sets(&self) -> Result<Vec<RegisteredSet>> {
        let invalid = pg_sys::InvalidOid;
        self.as_owner(|| {
            Spi::connect(|client| {
                let rows =
                    client.select(&self.sql(&queries::catalog::LIST_SETS, &[]), None, &[])?;
                rows.map(|row| {
                    Ok(RegisteredSet {
                        mart: row.get_by_name("mart")?.ok_or(Error::MissingValue("mart"))?,
                        owner: row.get_by_name("owner")?,
                        is_own: row.get_by_name("is_own")?.unwrap_or_default(),
                        segments: row.get_by_name("segments")?.unwrap_or(invalid),
                        outbox: row.get_by_name("outbox")?.unwrap_or(invalid),
                    })
                })
                .collect()
            })
        })
    }

    /// The relation in which sets are registered.
    pub fn registry(&self) -> Result<pg_sys::Oid> {
        let registry = self.read(&queries::catalog::REGISTRY_OID, &[])?;
        Ok(registry.unwrap_or(pg_sys::InvalidOid))
    }

    fn name(&self, word: &str) -> Option<String> {
        match word {
            "schema" => return Some(self.schema.clone()),
            "membership" => return Some(MEMBERSHIP.into()),
            _ => {}
        }
        let (_, name) = SHARED.iter().find(|(known, _)| *known == word)?;
        Some(format!("{}.{name}", self.schema))
    }
}

/// A relation set as the registry knows it, without reading anything of the set itself.
#[derive(Clone, Copy)]
pub struct RegisteredSet {
    pub mart: pg_sys::Oid,
    /// None: there is no role of its owner's name.
    pub owner: Option<pg_sys::Oid>,
    /// It is the extension's own.
    pub is_own: bool,
    pub segments: pg_sys::Oid,
    pub outbox: pg_sys::Oid,
}

/// A row of the registry: a relation of a set, with what is registered of the set.
struct RegisteredRelation {
    /// None: the set is the extension's, or its owner was dropped.
    owner: Option<pg_sys::Oid>,
    owner_name: Option<String>,
    is_own: bool,
    version: i32,
    kind: String,
    oid: pg_sys::Oid,
    registered_name: String,
    /// None: the relation was dropped.
    name: Option<String>,
    relation_owner: Option<pg_sys::Oid>,
    /// Whether it is still a table, or a view, as it was made.
    is_kind: bool,
}

impl RegisteredRelation {
    fn read(row: &SpiHeapTupleData<'_>) -> Result<Self> {
        let missing = |column| move || Error::MissingValue(column);
        Ok(Self {
            owner: row.get_by_name("owner")?,
            owner_name: row.get_by_name("owner_name")?,
            is_own: row.get_by_name("is_own")?.ok_or_else(missing("is_own"))?,
            version: row.get_by_name("schema_version")?.ok_or_else(missing("schema_version"))?,
            kind: row.get_by_name("kind")?.ok_or_else(missing("kind"))?,
            oid: row.get_by_name("relation")?.ok_or_else(missing("relation"))?,
            registered_name: row
                .get_by_name("registered_name")?
                .ok_or_else(missing("registered_name"))?,
            name: row.get_by_name("name")?,
            relation_owner: row.get_by_name("relation_owner")?,
            is_kind: row.get_by_name("is_kind")?.unwrap_or_default(),
        })
    }
}

/// The criterion by which a set is looked up.
enum Lookup {
    Default,
    ByMart(pg_sys::Oid),
    /// The set that this relation belongs to.
    ByMember(pg_sys::Oid),
}

/// A relation set.
#[derive(Clone)]
pub struct RelationSet {
    pub extension: Extension,
    /// The role that made or adopted it, which owns all its relations.
    pub owner: pg_sys::Oid,
    /// Whether it is the extension's own set.
    pub is_own: bool,
    /// The version of its definition.
    pub version: i32,
    /// The relations' OIDs and their names, qualified and quoted, in the order of [`RELATIONS`].
    oids: Vec<pg_sys::Oid>,
    names: Vec<String>,
    /// The sessions of the roles whose SQL has been run.
    sessions: Rc<RefCell<HashMap<pg_sys::Oid, Rc<Session>>>>,
}

impl RelationSet {
    /// The set that this session works on: `segmenter.cfg_table`, or the extension's own.
    pub fn current() -> Result<Self> {
        let extension = Extension::current()?;
        let Some(name) = settings::cfg_table() else { return Self::own(extension) };
        Self::named(extension, &name)
    }

    /// The set that this session works on, to be changed.
    pub fn writable() -> Result<Self> {
        process::must_not_be_in_recovery()?;
        Self::current()
    }

    /// The set that belongs to the extension.
    pub fn own(extension: Extension) -> Result<Self> {
        let gone = || SetError::Broken { set: "segmenter".into(), relation: "mart" };
        Ok(Self::registered(extension, Lookup::Default)?.ok_or_else(gone)?)
    }

    /// The set whose mart has this name, resolved in the caller's search_path.
    pub fn named(extension: Extension, name: &str) -> Result<Self> {
        let unknown = || SetError::Unknown(name.to_owned());
        let mart = system_catalog::relation_named(name)?.ok_or_else(unknown)?;
        Ok(Self::registered(extension, Lookup::ByMart(mart))?.ok_or_else(unknown)?)
    }

    /// The set with this mart.
    pub fn of_mart(extension: Extension, mart: pg_sys::Oid) -> Result<Self> {
        let unknown = || SetError::Unknown(system_catalog::display_name(mart));
        Ok(Self::registered(extension, Lookup::ByMart(mart))?.ok_or_else(unknown)?)
    }

    /// The set with this mart, whatever the version of its definition is: to migrate it or to drop
    /// it. Of an older version, the relations that were added later have no name.
    pub fn of_any_version(extension: Extension, mart: pg_sys::Oid) -> Result<Self> {
        let unknown = || SetError::Unknown(system_catalog::display_name(mart));
        let found = Self::registered_as(extension, Lookup::ByMart(mart), 1..=i32::MAX)?;
        Ok(found.ok_or_else(unknown)?)
    }

    /// The set that a relation belongs to; for triggers.
    pub fn of(relation: pg_sys::Oid) -> Result<Self> {
        let foreign = || SetError::Foreign(system_catalog::display_name(relation));
        let found = Self::registered(Extension::current()?, Lookup::ByMember(relation))?;
        Ok(found.ok_or_else(foreign)?)
    }

    fn registered(extension: Extension, which: Lookup) -> Result<Option<Self>> {
        Self::registered_as(extension, which, SCHEMA_VERSIONS)
    }

    /// The set, if its definition has one of the versions `accepted`.
    fn registered_as(
        extension: Extension,
        which: Lookup,
        accepted: std::ops::RangeInclusive<i32>,
    ) -> Result<Option<Self>> {
        let rows = registered_relations(&extension, which)?;
        let Some(RegisteredRelation { owner, owner_name, is_own, version, .. }) = rows.first()
        else {
            return Ok(None);
        };
        let (is_own, version) = (*is_own, *version);
        let owner = if is_own { Some(extension.owner) } else { *owner };
        let set = name_of(&rows);
        if !accepted.contains(&version) {
            return Err(SetError::OtherVersion { set, version, is_own }.into());
        }
        let (mut oids, mut names) = (Vec::new(), Vec::new());
        for (relation, _) in RELATIONS {
            let row = rows.iter().find(|row| row.kind == relation);
            let name = row.and_then(|row| row.name.clone());
            // A missing view is accepted. So are relations that the version of the set does not have.
            let may_lack = VIEWS.contains(&relation) || row.is_none() && version < SCHEMA_VERSION;
            if name.is_none() && !may_lack {
                return Err(SetError::Broken { set, relation }.into());
            }
            if let Some((row, name)) = row.zip(name.as_ref()) {
                if !row.is_kind {
                    return Err(SetError::OtherKind { set, relation, name: name.clone() }.into());
                }
                if row.relation_owner != owner {
                    return Err(SetError::OtherOwner {
                        set,
                        relation,
                        owner: row.relation_owner.map(role::name).unwrap_or_default(),
                        maker: (!is_own).then(|| match owner {
                            Some(owner) => role::name(owner),
                            None => owner_name.clone().unwrap_or_default(),
                        }),
                    }
                    .into());
                }
            }
            oids.push(row.map_or(pg_sys::InvalidOid, |row| row.oid));
            names.push(name.unwrap_or_default());
        }
        let owner = owner.ok_or(Error::MissingValue("owner"))?;
        let sessions = Rc::default();
        Ok(Some(Self { extension, owner, is_own, version, oids, names, sessions }))
    }

    /// The time zone of members' local times, and of schedules that have none of their own.
    pub fn timezone(&self) -> &str {
        self.extension.timezone()
    }

    /// The OID of a relation.
    fn oid(&self, relation: Relation) -> pg_sys::Oid {
        self.oids[relation as usize]
    }

    /// The name of a relation in messages, as the caller would write it in a statement.
    pub fn display_name(&self, relation: Relation) -> String {
        system_catalog::visible_name(self.oid(relation))
            .unwrap_or_else(|| self.names[relation as usize].clone())
    }

    /// The error for a segment that does not exist or is not visible to the caller.
    pub fn unknown_segment(&self, name: impl Into<String>) -> Error {
        Error::UnknownSegment { name: name.into(), status: self.display_name(Relation::Status) }
    }

    /// The OIDs of all its relations; invalid where a relation is missing.
    pub fn relations(&self) -> &[pg_sys::Oid] {
        &self.oids
    }

    /// The mart, which identifies the set.
    pub fn mart(&self) -> pg_sys::Oid {
        self.oid(Relation::Mart)
    }

    /// The relation `segmenter_segments` of this set.
    pub fn segments(&self) -> pg_sys::Oid {
        self.oid(Relation::Segments)
    }

    /// What shows the members of segments.
    pub fn readers(&self) -> Readers {
        // Only a name that has quotes around it has quotes in it.
        let schema = self.extension.schema();
        let quoted = schema.strip_prefix('"').and_then(|schema| schema.strip_suffix('"'));
        let schema = quoted.map_or_else(|| schema.to_owned(), |inner| inner.replace("\"\"", "\""));
        Readers { members: (schema, "segmenter_members"), current: self.oid(Relation::Current) }
    }

    /// The relation `segmenter_outbox` of this set.
    pub fn outbox(&self) -> pg_sys::Oid {
        self.oid(Relation::Outbox)
    }

    /// The set's name, as `segmenter.cfg_table` takes it.
    pub fn name(&self) -> &str {
        &self.names[0]
    }

    /// The name of the relation of captured changes.
    pub fn changes(&self) -> String {
        self.extension.name("changes").unwrap_or_default()
    }

    /// The text of a statement with its placeholders filled in: the relations, and `parts`, which
    /// must be quoted already. Placeholders inside of inserted text are not replaced.
    pub fn sql(&self, query: &Query, parts: &[(&str, &str)]) -> String {
        query.check_role();
        render(query.text, |word| placeholder(parts, word).or_else(|| self.relation(word)))
    }

    /// A statement that the session keeps.
    pub fn kept(&self, query: &Query) -> Kept {
        Kept::new(self.sql(query, &[]))
    }

    /// Runs a writing statement that the session keeps, as the set's owner.
    pub fn write(&self, query: &Query, args: &[DatumWithOid<'_>]) -> Result<()> {
        self.as_owner(|| {
            Spi::connect_mut(|client| client.update(self.kept(query), None, args).map(drop))
        })?;
        Ok(())
    }

    /// Fills in the placeholders of a text that is not in a file of `sql/query`.
    pub fn fill(&self, text: &str, part: impl Fn(&str) -> Option<String>) -> String {
        render(text, |word| part(word).or_else(|| self.relation(word)))
    }

    /// Whether the set has its status view, which may have been dropped.
    pub fn has_status(&self) -> bool {
        !self.names[Relation::Status as usize].is_empty()
    }

    /// Runs our own statements on the relations of the set, as its owner. Those on a set other than
    /// the extension's own are always restricted, whichever role owns it now: the code that is attached to
    /// its relations may be of an earlier owner.
    pub fn as_owner<T>(&self, body: impl FnOnce() -> T) -> T {
        assuming(RunsAs::SetOwner, || match self.is_own {
            true => {
                let settings = self.extension.own_settings();
                role::run_as(self.extension.owner, Rights::Trusted, &settings, body)
            }
            false => self.extension.restricted(self.owner, body),
        })
    }

    /// Runs our own statements as the set's owner in another time zone than `segmenter.timezone`. A zone
    /// that PostgreSQL does not know raises an error.
    pub fn in_zone<T>(&self, zone: &str, body: impl FnOnce() -> T) -> T {
        self.as_owner(|| role::with_timezone(zone, body))
    }

    /// Runs users' SQL of a segment as the segment's owner.
    pub fn as_segment_owner<T>(
        &self,
        owner: pg_sys::Oid,
        body: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        assuming(RunsAs::SegmentOwner, || self.as_user(owner, body))
    }

    /// Reads or writes a segment table as its owner.
    pub fn as_table_owner<T>(
        &self,
        owner: pg_sys::Oid,
        body: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        assuming(RunsAs::TableOwner, || self.as_user(owner, body))
    }

    /// Runs a consumer's SQL as its role.
    pub fn as_consumer<T>(&self, role: pg_sys::Oid, body: impl FnOnce() -> Result<T>) -> Result<T> {
        assuming(RunsAs::ConsumerRole, || self.as_user(role, body))
    }

    /// Runs the caller's own SQL as the caller.
    pub fn as_caller<T>(&self, body: impl FnOnce() -> Result<T>) -> Result<T> {
        let caller = role::current();
        let settings = self.user_settings(caller)?;
        assuming(RunsAs::Caller, || {
            let rights = if self.is_own { Rights::User } else { Rights::Restricted };
            role::run_as(caller, rights, &settings, body)
        })
    }

    /// Runs our own statements on the set as the caller, who may have settings of its own that they
    /// must not depend on (`row_security = off` makes each of them an error).
    pub fn write_as_caller<T>(&self, body: impl FnOnce() -> Result<T>) -> Result<T> {
        self.as_caller(|| role::with_own_settings(body))
    }

    /// Runs as a role that a row of this set names. The set's owner must be able to act as the
    /// role. The extension's schema is in the search_path, unless another role may create operators
    /// or functions there.
    fn as_user<T>(&self, role: pg_sys::Oid, body: impl FnOnce() -> Result<T>) -> Result<T> {
        self.check_owner_can_act_as(role)?;
        role::run_as(role, Rights::User, &self.user_settings(role)?, body)
    }

    /// Checks that the set's owner may act as a role. The owner can forge any column `owner` or
    /// `role` in its set, so SQL of a row runs only as a role that the set's owner may `SET ROLE`
    /// to. A dropped role passes: the caller reports it.
    pub fn check_owner_can_act_as(&self, role: pg_sys::Oid) -> Result<()> {
        if self.is_own || !role::exists(role) || role::may_act_as(self.owner, role) {
            return Ok(());
        }
        Err(SetError::OwnerNotMember {
            set: self.name().to_owned(),
            owner: role::name(self.owner),
            role: role::name(role),
        }
        .into())
    }

    /// The role in whose share of the workers a job is that a row of this set asks for. A row that names
    /// a role that the set's owner may not act as takes nothing of that role's share, nor does it
    /// get the set's owner more than its own.
    pub fn account_of(&self, role: Option<pg_sys::Oid>) -> pg_sys::Oid {
        let is_its_own =
            |role: &pg_sys::Oid| role::exists(*role) && self.check_owner_can_act_as(*role).is_ok();
        role.filter(is_its_own).unwrap_or(self.owner)
    }

    fn user_settings(&self, role: pg_sys::Oid) -> Result<Settings> {
        let Extension { creators, schema, timezone, .. } = &self.extension;
        let search_path = if creators.iter().all(|creator| *creator == role) {
            format!("pg_catalog, {schema}, pg_temp")
        } else {
            "pg_catalog, pg_temp".into()
        };
        let session = Some(self.session_of(role)?);
        Ok(Settings { search_path, timezone: timezone.clone(), session })
    }

    /// The session that the SQL of a role runs in. It is found once in each call of a function.
    fn session_of(&self, role: pg_sys::Oid) -> Result<Rc<Session>> {
        if let Some(session) = self.sessions.borrow().get(&role) {
            return Ok(Rc::clone(session));
        }
        let session = Rc::new(Session::of(role)?);
        self.sessions.borrow_mut().insert(role, Rc::clone(&session));
        Ok(session)
    }

    fn relation(&self, word: &str) -> Option<String> {
        let place = RELATIONS.iter().position(|(known, _)| *known == word);
        place.map(|place| self.names[place].clone()).or_else(|| self.extension.name(word))
    }
}

/// Checks that a name is that of a set's mart, whatever the version of the set is. Passes where the
/// extension is not installed, because there is nothing to check against.
pub fn is_set(name: &str) -> Result<()> {
    let Some(extension) = Extension::find()? else { return Ok(()) };
    let unknown = || SetError::Unknown(name.to_owned());
    let mart = system_catalog::relation_named(name)?.ok_or_else(unknown)?;
    match registered_relations(&extension, Lookup::ByMart(mart))?.is_empty() {
        true => Err(unknown().into()),
        false => Ok(()),
    }
}

/// Makes the owner of all relations of a set its owner. The caller must be able to act as that role.
pub fn adopt(cfg_table: &str) -> Result<()> {
    let extension = Extension::current()?;
    let unknown = || SetError::Unknown(cfg_table.to_owned());
    let mart = system_catalog::relation_named(cfg_table)?.ok_or_else(unknown)?;
    let rows = registered_relations(&extension, Lookup::ByMart(mart))?;
    let set = name_of(&rows);
    match rows.first() {
        None => return Err(unknown().into()),
        Some(row) if row.is_own => return Err(SetError::Own(set).into()),
        Some(_) => {}
    }
    let mut owners = Vec::new();
    for row in &rows {
        let known = RELATIONS.iter().find(|(kind, _)| *kind == row.kind);
        let relation = known.map_or("relation", |(kind, _)| kind);
        match (&row.name, row.relation_owner) {
            (Some(name), _) if !row.is_kind => {
                return Err(SetError::OtherKind { set, relation, name: name.clone() }.into());
            }
            (Some(_), Some(owner)) if !owners.contains(&owner) => owners.push(owner),
            (Some(_), _) => {}
            (None, _) if VIEWS.contains(&row.kind.as_str()) => {}
            (None, _) => return Err(SetError::Broken { set, relation }.into()),
        }
    }
    let [owner] = owners[..] else {
        let mut owners: Vec<_> = owners.into_iter().map(role::name).collect();
        owners.sort_unstable();
        return Err(SetError::ManyOwners { set, owners }.into());
    };
    if !role::may_act_as(role::current(), owner) {
        return Err(SetError::NotOwner(set).into());
    }
    extension.as_owner(|| {
        let sql = extension.sql(&queries::catalog::ADOPT_SET, &[]);
        Ok::<_, Error>(Spi::run_with_args(&sql, &[mart.into(), owner.into()])?)
    })?;
    system_catalog::invalidate(extension.registry()?);
    Ok(())
}

/// The rows of the registry for a set; none: it is not registered.
fn registered_relations(extension: &Extension, which: Lookup) -> Result<Vec<RegisteredRelation>> {
    extension.as_owner(|| {
        Spi::connect(|client| {
            let mart_of = |relation: Option<pg_sys::Oid>| {
                let statement = extension.kept(&queries::catalog::FIND_MART);
                let row = client.select(statement, Some(1), &[relation.into()])?.first();
                Ok::<_, Error>(if row.is_empty() { None } else { row.get_one::<pg_sys::Oid>()? })
            };
            let mart = match which {
                Lookup::Default => mart_of(None)?,
                Lookup::ByMart(mart) => Some(mart),
                Lookup::ByMember(relation) => mart_of(Some(relation))?,
            };
            let Some(mart) = mart else { return Ok(Vec::new()) };
            let statement = extension.kept(&queries::catalog::FIND_SET);
            let rows = client.select(statement, None, &[mart.into()])?;
            rows.map(|row| RegisteredRelation::read(&row)).collect()
        })
    })
}

/// The name of a set: that of its mart.
fn name_of(rows: &[RegisteredRelation]) -> String {
    let mart = rows.iter().find(|row| row.kind == "mart");
    let name = mart.map(|row| row.name.as_ref().unwrap_or(&row.registered_name));
    name.cloned().unwrap_or_default()
}

/// The names of a set's relations, derived from the mart's name; the log may have a name of its
/// own.
pub fn names_of<'a>(mart: &str, log: Option<&str>) -> impl Iterator<Item = (&'a str, String)> {
    RELATIONS.iter().map(move |(word, ending)| match (*word, log) {
        ("log", Some(log)) => (*word, log.to_owned()),
        _ => (*word, format!("{mart}{ending}")),
    })
}

/// Fills in the placeholders of a text. `@word@` becomes the part itself; `@text:word@` is written
/// inside of a string literal and becomes the part with its quotes doubled. Words without a part
/// are left as they are.
pub fn render(text: &str, part: impl Fn(&str) -> Option<String>) -> String {
    let mut filled = String::with_capacity(text.len() + 256);
    let mut rest = text;
    while let Some(at) = rest.find('@') {
        filled.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let word = rest.find('@').map(|end| &rest[..end]);
        let part = |word: &str| match word.strip_prefix("text:") {
            Some(word) => part(word).map(|part| part.replace('\'', "''")),
            None => part(word),
        };
        match word.and_then(|word| Some((word, part(word)?))) {
            Some((word, part)) => {
                filled.push_str(&part);
                rest = &rest[word.len() + 1..];
            }
            None => filled.push('@'),
        }
    }
    filled.push_str(rest);
    filled
}

fn placeholder(parts: &[(&str, &str)], word: &str) -> Option<String> {
    parts.iter().find(|(name, _)| *name == word).map(|(_, part)| (*part).to_owned())
}
