//! The extension in the current database: its own relations, and the roles that statements on them run as.

use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;
use pgrx::spi::quote_identifier;

use crate::catalog::queries;
use crate::catalog::query::{Query, RunsAs, assuming};
use crate::catalog::registry::RegisteredSet;
use crate::catalog::relation_set::{placeholder, render};
use crate::catalog::settings;
use crate::error::{Error, Result};
use crate::pg::exec::kept::Kept;
use crate::pg::exec::role::{self, MEMBERSHIP, Rights, Settings};
use crate::pg::exec::statement;
use crate::pg::system_catalog;

/// Relations that belong to the extension, not to a set. Two more placeholders are not relations:
/// `@schema@`, the extension's schema, and `@membership@`, the privilege that is passed to
/// `pg_has_role`.
const SHARED: [(&str, &str); 6] = [
    ("registry", "segmenter_registry"),
    ("registry_relations", "segmenter_registry_relations"),
    ("changes", "segmenter_changes"),
    ("change_readers", "segmenter_change_readers"),
    ("connectors", "segmenter_connectors"),
    ("requests", "segmenter_requests"),
];

/// The relation of captured changes in the schema of a function of the extension.
pub fn changes_of(function: pg_sys::Oid) -> pg_sys::Oid {
    system_catalog::relation_beside(function, c"segmenter_changes")
}

/// The extension, as installed in this database.
#[derive(Clone)]
pub struct Extension {
    /// The schema, quoted where it needs to be.
    pub(super) schema: String,
    owner: pg_sys::Oid,
    /// The roles, other than superusers, that may create objects in the schema, and could so plant an
    /// operator or a function there; 0 is PUBLIC.
    pub(super) creators: Vec<pg_sys::Oid>,
    /// The time zone of members' local times: `segmenter.timezone` of the database.
    pub(super) timezone: String,
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
    pub(super) fn restricted<T>(&self, role: pg_sys::Oid, body: impl FnOnce() -> T) -> T {
        role::run_as(role, Rights::Restricted, &self.own_settings(), body)
    }

    /// The settings of our own statements.
    pub(super) fn own_settings(&self) -> Settings {
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

    pub(super) fn name(&self, word: &str) -> Option<String> {
        match word {
            "schema" => return Some(self.schema.clone()),
            "membership" => return Some(MEMBERSHIP.into()),
            _ => {}
        }
        let (_, name) = SHARED.iter().find(|(known, _)| *known == word)?;
        Some(format!("{}.{name}", self.schema))
    }
}
