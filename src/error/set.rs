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

    /// A relation was replaced by one of another kind.
    #[error(
        "the {relation} of the set {set}, {name}, is not the kind of relation that it was made as"
    )]
    OtherKind { set: String, relation: &'static str, name: String },

    /// A relation belongs to a role that has neither made nor adopted the set.
    #[error("the {relation} of the set {set} belongs to role \"{owner}\", not to {}", of_maker(.maker))]
    OtherOwner { set: String, relation: &'static str, owner: String, maker: Option<String> },

    /// The relations of a set that is to be adopted belong to several roles.
    #[error("the relations of the set {set} belong to roles {}", quoted(.owners))]
    ManyOwners { set: String, owners: Vec<String> },

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

    /// Ids of people who are kept out cannot be hashed.
    #[error("{0} has no row: it is not known who is kept out")]
    NoSecret(String),

    #[error("role \"{owner}\", the owner of the set {set}, is not a member of role \"{role}\"")]
    OwnerNotMember { set: String, owner: String, role: String },

    #[error("role \"{owner}\", the owner of the set {set}, is not an owner of table {table}")]
    NotTableOwner { set: String, owner: String, table: String },
}

impl SetError {
    /// Whether the set is not what it was made as, so that nothing of it runs.
    pub fn is_broken(&self) -> bool {
        matches!(self, Self::Broken { .. } | Self::OtherKind { .. } | Self::OtherOwner { .. })
    }

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
            Self::OtherKind { .. }
            | Self::OtherOwner { .. }
            | Self::ManyOwners { .. }
            | Self::NoSecret(_) => Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
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
            Self::OtherOwner { .. } => {
                Some("Nothing of the set runs, since triggers, policies and other code that the previous owner attached to its relations would run with the rights of the new one.".into())
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
            Self::NoSecret(_) => {
                "Restore its row from a backup: without it nobody can be kept out who was erased before.".into()
            }
            Self::OtherKind { .. } => {
                "Drop it and restore the relation from a backup, or drop what is left of the set by hand.".into()
            }
            Self::OtherOwner { maker: None, .. } => {
                "Alter its owner to that role.".into()
            }
            Self::OtherOwner { set, .. } => {
                format!(
                    "Inspect what is attached to its relations. When all of them belong to one role: select segmenter_adopt_set({}).",
                    pgrx::spi::quote_literal(set)
                )
            }
            Self::ManyOwners { .. } => "Give all of them to one role first.".into(),
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

/// The role that a set belongs to; none: the extension's owner.
fn of_maker(maker: &Option<String>) -> String {
    match maker {
        Some(name) => format!("role \"{name}\", which owns the set"),
        None => "the owner of the extension".into(),
    }
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
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
