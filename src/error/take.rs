//! Errors of taking an audience.

use pgrx::prelude::*;
use thiserror::Error;

#[derive(Debug, Error)]
pub enum TakeError {
    /// The function is called without a list of columns.
    #[error("a column definition list is required")]
    NoColumns,

    #[error("column \"{column}\" is not a field of the subscription for \"{target}\"")]
    NoField { column: String, target: String, fields: Vec<String> },

    #[error("column \"{column}\" is declared as {declared}")]
    FieldType { column: String, declared: String, accepted: String },

    /// Changes are taken without the column that says what has changed.
    #[error("the column definition list has no column \"change\"")]
    NoChange,

    /// A field has the name of the column that says what has changed.
    #[error("the subscription for \"{target}\" has a field \"{column}\"")]
    ChangeIsField { column: String, target: String },

    /// The background workers deliver to the consumer.
    #[error("consumer \"{0}\" is served by the background workers")]
    Pushed(String),

    #[error("messages for \"{target}\" are claimed by another session")]
    Claimed { target: String, until: String },

    #[error("the delivery for \"{target}\" has failed")]
    Stuck { target: String, error: Option<String> },

    /// Among the changes is a set of all members.
    #[error("the changes of the audience for \"{target}\" are not known")]
    Anew { target: String },

    /// An error that is not the consumer's to see.
    #[error("the audience for \"{target}\" cannot be read")]
    Unreadable { target: String },

    #[error("the audience for \"{target}\" has ended")]
    Ended { target: String },
}

impl TakeError {
    pub fn code(&self) -> PgSqlErrorCode {
        use PgSqlErrorCode as Code;
        match self {
            Self::NoColumns => Code::ERRCODE_SYNTAX_ERROR,
            Self::NoField { .. } | Self::NoChange => Code::ERRCODE_UNDEFINED_COLUMN,
            Self::FieldType { .. } => Code::ERRCODE_DATATYPE_MISMATCH,
            Self::ChangeIsField { .. } => Code::ERRCODE_DUPLICATE_COLUMN,
            Self::Claimed { .. } => Code::ERRCODE_LOCK_NOT_AVAILABLE,
            Self::Pushed(_)
            | Self::Stuck { .. }
            | Self::Anew { .. }
            | Self::Unreadable { .. }
            | Self::Ended { .. } => Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        }
    }

    pub fn detail(&self) -> Option<String> {
        match self {
            Self::NoField { fields, .. } => Some(format!("Its fields are {}.", quoted(fields))),
            Self::FieldType { accepted, .. } => Some(format!("It can be declared as {accepted}.")),
            Self::Claimed { until, .. } => Some(format!("The lease ends at {until}.")),
            Self::Stuck { error, .. } => error.clone(),
            Self::Anew { .. } => Some("All its members were handed over again.".into()),
            _ => None,
        }
    }

    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoColumns => {
                "Name the fields and their types, such as: select * from segmenter_take('crm', 'vip', 'mail') as t (id text, hash_email text)."
            }
            Self::NoField { .. } | Self::FieldType { .. } => return None,
            Self::NoChange => "It gets 'added', 'changed' or 'removed': declare it as text.",
            Self::ChangeIsField { .. } => {
                "Give the field another name in the subscription's params."
            }
            Self::Pushed(_) => {
                "Only audiences of a consumer whose updater is \"pull\" can be taken."
            }
            Self::Claimed { .. } => {
                "Have them acknowledged with segmenter_ack(), or take the audience when the lease has ended."
            }
            Self::Unreadable { .. } => {
                "Ask the owner of the segment: the log says why its hand-over fails."
            }
            Self::Stuck { .. } => "segmenter_retry() has its deliveries go on.",
            Self::Anew { .. } | Self::Ended { .. } => {
                "Take the whole audience, without changes => true."
            }
        };
        Some(hint.into())
    }
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}
