//! The service relations: the one module that knows what they are called, and as whom our own
//! statements on them run.

use pgrx::prelude::*;
use pgrx::spi::quote_identifier;

use crate::error::{Error, Result};
use crate::guc;
use crate::pg::role::{self, MEMBERSHIP, Rights, Settings};
use crate::pg::{catalog, statement};

/// A set of service relations.
pub struct Service {
    /// The schema, quoted where it needs to be.
    schema: String,
    /// Who owns them.
    pub owner: pg_sys::Oid,
    /// Who, not being a superuser, may create something in the schema; 0 is everybody.
    creators: Vec<pg_sys::Oid>,
    /// The zone of members' local times.
    pub timezone: String,
}

/// Places in our SQL where a relation's name goes, written `@word@`, and what is put there; `@schema@`
/// is for functions, `@membership@` what `pg_has_role` is asked.
const RELATIONS: [(&str, &str); 9] = [
    ("mart", "segmenter"),
    ("segments", "segmenter_segments"),
    ("consumers", "segmenter_consumers"),
    ("subscriptions", "segmenter_subscriptions"),
    ("log", "segmenter_log"),
    ("outbox", "segmenter_outbox"),
    ("deliveries", "segmenter_deliveries"),
    ("changes", "segmenter_changes"),
    ("status", "segmenter_status"),
];

/// The relation of captured changes of the set that a function belongs to.
pub fn changes_of(function: pg_sys::Oid) -> pg_sys::Oid {
    catalog::relation_beside(function, c"segmenter_changes")
}

impl Service {
    /// The set that belongs to the extension.
    pub fn current() -> Result<Self> {
        Self::find()?.ok_or(Error::NoExtension)
    }

    /// The same, unless the extension is not there. One of another version is an error.
    pub fn find() -> Result<Option<Self>> {
        Spi::connect(|client| {
            let sql = include_str!("../sql/query/extension.sql");
            let row = client.select(sql, Some(1), &[])?.first();
            if row.is_empty() {
                return Ok(None);
            }
            let version: String = row.get_by_name("version")?.unwrap_or_default();
            if version != env!("CARGO_PKG_VERSION") {
                return Err(Error::OtherVersion(version));
            }
            let schema = row.get_by_name::<String, _>("schema")?;
            Ok(Some(Self {
                schema: quote_identifier(schema.unwrap_or_default()),
                owner: row.get_by_name("owner")?.unwrap_or(pg_sys::InvalidOid),
                creators: row.get_by_name("creators")?.unwrap_or_default(),
                timezone: guc::timezone(),
            }))
        })
    }

    /// The mart.
    pub fn mart(&self) -> Result<pg_sys::Oid> {
        self.oid("mart")
    }

    /// The relation of the segments.
    pub fn segments(&self) -> Result<pg_sys::Oid> {
        self.oid("segments")
    }

    /// The relation of the messages.
    pub fn outbox(&self) -> Result<pg_sys::Oid> {
        self.oid("outbox")
    }

    /// The name of the relation of captured changes.
    pub fn changes(&self) -> String {
        self.relation("changes").unwrap_or_default()
    }

    fn oid(&self, word: &str) -> Result<pg_sys::Oid> {
        let sql = "select $1::pg_catalog.regclass::pg_catalog.oid";
        let args = [self.relation(word).into()];
        let oid = self.run_as_owner(|| Spi::connect(|_| statement::read_one(sql, &args)))?;
        Ok(oid.unwrap_or(pg_sys::InvalidOid))
    }

    /// One of our SQL texts with every `@word@` filled in: the relations, and `parts`, which must
    /// be quoted already. What is put in is not looked at again.
    pub fn sql(&self, text: &str, parts: &[(&str, &str)]) -> String {
        let mut filled = String::with_capacity(text.len() + 256);
        let mut rest = text;
        while let Some(at) = rest.find('@') {
            filled.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            let word = rest.find('@').map(|end| &rest[..end]);
            let part = word.and_then(|word| {
                let part = parts
                    .iter()
                    .find(|(name, _)| *name == word)
                    .map(|(_, part)| (*part).to_owned());
                part.or_else(|| self.relation(word))
            });
            match (word, part) {
                (Some(word), Some(part)) => {
                    filled.push_str(&part);
                    rest = &rest[word.len() + 1..];
                }
                _ => filled.push('@'),
            }
        }
        filled.push_str(rest);
        filled
    }

    /// Runs our own statements on the service relations: with their owner's rights.
    pub fn run_as_owner<T>(&self, body: impl FnOnce() -> T) -> T {
        let settings = self.settings("pg_catalog, pg_temp".into());
        role::run_as(self.owner, Rights::Service, &settings, body)
    }

    /// Runs somebody's SQL with the rights of `role`. The schema is in its search_path, unless
    /// yet another role could have planted an operator or a function there.
    pub fn run_as_user<T>(&self, role: pg_sys::Oid, body: impl FnOnce() -> T) -> T {
        let settings = if self.creators.iter().all(|creator| *creator == role) {
            self.settings(format!("pg_catalog, {}, pg_temp", self.schema))
        } else {
            self.settings("pg_catalog, pg_temp".into())
        };
        role::run_as(role, Rights::User, &settings, body)
    }

    fn settings(&self, search_path: String) -> Settings {
        Settings { search_path, timezone: self.timezone.clone() }
    }

    fn relation(&self, word: &str) -> Option<String> {
        match word {
            "schema" => return Some(self.schema.clone()),
            "membership" => return Some(MEMBERSHIP.into()),
            _ => {}
        }
        let (_, name) = RELATIONS.iter().find(|(known, _)| *known == word)?;
        Some(format!("{}.{}", self.schema, quote_identifier(name)))
    }
}
