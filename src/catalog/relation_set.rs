//! Relation sets: the only module that knows the names of a set's relations and the roles that our
//! own statements on them run as. (Those of the extension itself are in `extension`.)

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;

use crate::catalog::extension::Extension;
use crate::catalog::query::{Query, RunsAs, assuming};
use crate::catalog::registry::{Lookup, RegisteredRelation, name_of, registered_relations};
use crate::catalog::settings;
use crate::error::{Error, Result, SCHEMA_VERSION, SetError};
use crate::pg::bgw::process;
use crate::pg::exec::kept::Kept;
use crate::pg::exec::role::{self, Rights, Settings};
use crate::pg::exec::segment_calls::Readers;
use crate::pg::exec::session::Session;
use crate::pg::system_catalog;

/// The relations of a set: the word of the placeholder `@word@` in our SQL, and the suffix that the
/// relation's name has after the mart's name.
pub(super) const RELATIONS: [(&str, &str); 20] = [
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
    ("reports", "_reports"),
    ("counts", "_counts"),
    ("alerts", "_alerts"),
    ("alert_states", "_alert_states"),
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
    Alerts = 18,
}

/// The relations that are views for users: no statement of ours reads them, and a set may lack them.
pub const VIEWS: [&str; 2] = ["status", "current"];

/// The name of the check constraint that limits an unshared segment table to one segment's rows.
pub const OWN_CHECK: &str = "segmenter_own_segment";

/// The versions of the definition that this library works with. A release that changes no SQL object
/// changes neither end.
const SCHEMA_VERSIONS: std::ops::RangeInclusive<i32> = 2..=SCHEMA_VERSION;

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
        let owner = if is_own { Some(extension.owner()) } else { *owner };
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
                role::run_as(self.extension.owner(), Rights::Trusted, &settings, body)
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

pub(super) fn placeholder(parts: &[(&str, &str)], word: &str) -> Option<String> {
    parts.iter().find(|(name, _)| *name == word).map(|(_, part)| (*part).to_owned())
}
