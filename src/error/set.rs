//! Errors of relation sets.

use pgrx::prelude::*;
use thiserror::Error;

/// The newest version of the definition of sets that this library knows, which new sets get.
pub const SCHEMA_VERSION: i32 = 2;

#[derive(Debug, Error)]
pub enum SetError {
    #[error("\"{0}\" is not a relation set")]
    Unknown(String),

    #[error("relation {0} belongs to no relation set")]
    Foreign(String),

    #[error("the set {set} lacks its {relation}")]
    Broken { set: String, relation: &'static str },

    /// Its definition has a version that this library does not work with.
    #[error(
        "the set {set} has version {version} of its definition, which library {library} does not work with",
        library = env!("CARGO_PKG_VERSION")
    )]
    OtherVersion { set: String, version: i32, is_own: bool },

    /// A relation has the name of one that the set gets.
    #[error("the set {set} cannot be migrated: {relation} exists already")]
    InTheWay { set: String, relation: String },

    #[error("cannot create a relation set named {name}: {problem}")]
    Name { code: PgSqlErrorCode, name: String, problem: String, hint: &'static str },

    #[error("the set {0} is the extension's own")]
    Own(String),

    #[error("cannot drop the set {set}: {}", quantity(*.segments, *.messages))]
    InUse { set: String, segments: i64, messages: i64 },

    #[error("must be owner of the set {0}")]
    NotOwner(String),

    #[error("role \"{owner}\", the owner of the set {set}, is not a member of role \"{role}\"")]
    OwnerNotMember { set: String, owner: String, role: String },

    #[error("role \"{owner}\", the owner of the set {set}, is not an owner of table {table}")]
    NotTableOwner { set: String, owner: String, table: String },
}

impl SetError {
    /// The hint for a set that the update of the extension has not migrated.
    pub fn migrate_hint(set: &str) -> String {
        let set = pgrx::spi::quote_literal(set);
        format!(
            "Until it is migrated, nothing of it is refreshed or delivered: take away what is in the way, then select segmenter_migrate_set({set})."
        )
    }

    pub fn code(&self) -> PgSqlErrorCode {
        use PgSqlErrorCode as Code;
        match self {
            Self::Unknown(_) | Self::Foreign(_) => Code::ERRCODE_UNDEFINED_OBJECT,
            Self::Broken { .. } => Code::ERRCODE_UNDEFINED_TABLE,
            Self::Name { code, .. } => *code,
            Self::InTheWay { .. } => Code::ERRCODE_DUPLICATE_TABLE,
            Self::OtherVersion { .. } => Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            Self::Own(_) => Code::ERRCODE_FEATURE_NOT_SUPPORTED,
            Self::InUse { .. } => Code::ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST,
            Self::NotOwner(_) | Self::OwnerNotMember { .. } | Self::NotTableOwner { .. } => {
                Code::ERRCODE_INSUFFICIENT_PRIVILEGE
            }
        }
    }

    pub fn detail(&self) -> Option<String> {
        match self {
            Self::OwnerNotMember { .. } => {
                Some("The owner of a set can write any row in it, so a row is accepted only for roles that this owner may act as.".into())
            }
            _ => None,
        }
    }

    pub fn hint(&self) -> Option<String> {
        let quoted = pgrx::spi::quote_identifier::<&str>;
        Some(match self {
            Self::Unknown(_) => {
                "segmenter_sets() lists the sets; segmenter_init() makes one. RESET segmenter.cfg_table goes back to the extension's own.".into()
            }
            Self::Foreign(_) => "segmenter_init() makes sets, with their triggers.".into(),
            Self::Broken { .. } => "Restore it from a backup, or drop what is left of the set by hand.".into(),
            Self::OtherVersion { version, .. } if *version > SCHEMA_VERSION => {
                "Restart the server, or the session, so that the new library is loaded.".into()
            }
            Self::OtherVersion { is_own: true, .. } => "ALTER EXTENSION segmenter UPDATE.".into(),
            Self::OtherVersion { set, .. } => Self::migrate_hint(set),
            Self::InTheWay { relation, .. } => {
                format!("The set needs a relation of this name: rename {relation}, or drop it.")
            }
            Self::Name { hint, .. } => (*hint).into(),
            Self::Own(_) => "DROP EXTENSION drops it.".into(),
            Self::InUse { .. } => {
                "Retire the segments and let the consumers acknowledge the last messages, or pass force => true.".into()
            }
            Self::NotOwner(_) => return None,
            Self::OwnerNotMember { owner, role, .. } => {
                format!("grant {} to {}, or have a superuser own the set.", quoted(role), quoted(owner))
            }
            Self::NotTableOwner { table, owner, .. } => {
                format!("alter table {table} owner to {}, or have a superuser own the set.", quoted(owner))
            }
        })
    }
}

/// A number of things, in English.
pub fn counted(count: i64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn quantity(segments: i64, messages: i64) -> String {
    let has = |what| format!("it has {what}");
    match (segments, messages) {
        (0, messages) => has(counted(messages, "undelivered message")),
        (segments, 0) => has(counted(segments, "active segment")),
        _ => has([counted(segments, "active segment"), counted(messages, "undelivered message")]
            .join(" and ")),
    }
}
