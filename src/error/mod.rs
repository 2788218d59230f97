//! All errors of the extension, and the one place where they become PostgreSQL errors.

use pgrx::datum::Uuid;
use pgrx::prelude::*;
use thiserror::Error;

use segmenter_core::config::ConfigError;
use segmenter_core::guards::Refusal;

mod report;
mod set;

pub use report::{Report, emit, emit_notice, emit_warning, raise};
pub use set::{SCHEMA_VERSION, SetError, counted};

/// Why an operation fails.
#[derive(Debug, Error)]
pub enum Error {
    #[error("the extension \"segmenter\" does not exist in this database")]
    NoExtension,

    /// The SQL objects have another version than the library, which may not understand them.
    #[error(
        "the extension \"segmenter\" is at version {0} in this database, its library at {library}",
        library = env!("CARGO_PKG_VERSION")
    )]
    OtherVersion(String),

    #[error("nothing can be changed while the server is in recovery")]
    InRecovery,

    /// Locks are kept until the end of the transaction.
    #[error("the server has no memory for more locks: {done} of {planned} segments are done")]
    OutOfLocks { done: usize, planned: usize },

    /// A procedure that commits, within a transaction block or a function.
    #[error("segmenter_run_each() cannot be called within a transaction block or a function")]
    InTransaction,

    /// An error of a relation set.
    #[error(transparent)]
    Set(#[from] SetError),

    #[error("segment \"{name}\" does not exist")]
    UnknownSegment { name: String, status: String },

    /// The sources of a segment name a segment.
    #[error("source segment \"{0}\" does not exist")]
    UnknownSource(String),

    /// A segment that is to leave out members of another one, which does not exist or is unknown to it.
    #[error("segment \"{0}\", whose members are to be left out, does not exist")]
    UnknownList(String),

    #[error("role \"{role}\" may not read the members of segment \"{segment}\"")]
    MayNotRead { segment: String, role: String },

    #[error("permission denied to make {subject} a suppression list")]
    MayNotSuppress { subject: String, owner: String },

    #[error("the priority group \"{group}\" of {subject} belongs to another role")]
    OthersGroup { subject: String, group: String },

    /// A segment that others read is retired, deleted or renamed.
    #[error("segment \"{segment}\" cannot be {what}: other segments read it")]
    IsRead { segment: String, what: &'static str, readers: Vec<String>, hidden: u64 },

    #[error("permission denied for segment \"{segment}\"")]
    NotPermitted { segment: String, owner: String },

    #[error("segment \"{segment}\" is being refreshed by {holder}")]
    Busy { segment: String, holder: Holder },

    #[error("segment \"{0}\" was refreshed or changed after this transaction took its snapshot")]
    Superseded(String),

    /// The record of what was handed over, in a form that erasure cannot read.
    #[error("the fields in {handovers} of subscription {subscription} cannot be read: {problem}")]
    UnreadableFields { handovers: String, subscription: pgrx::datum::Uuid, problem: String },

    /// Members at a time, of a table that keeps the last period of each only.
    #[error("the members of segment \"{0}\" at that time are not known")]
    NoHistory(String),

    #[error("segment \"{segment}\" has no refresher")]
    NoRefresher { segment: String, segments: String },

    #[error("argument \"{0}\" must not be null")]
    NullArgument(&'static str),

    /// A column of a config row with an invalid value.
    #[error(transparent)]
    Config(#[from] ConfigError),

    /// A key of a config row that should be an interval and is not one.
    #[error("invalid {column} of {subject}: \"{key}\": \"{text}\" is not an interval")]
    Interval { column: &'static str, subject: String, key: &'static str, text: String },

    /// An object with that name exists.
    #[error("{what} exists already")]
    Exists { code: PgSqlErrorCode, what: String, hint: String },

    /// A row that subscriptions refer to is to be deleted.
    #[error("{subject} has subscriptions")]
    HasSubscriptions { subject: String, active: i64, ended: i64, hint: String },

    /// A subscription refers to a segment or a consumer that does not exist.
    #[error("the {what} of {subject} does not exist")]
    NoParty { what: &'static str, subject: String, listed: String },

    /// A row that a check of its table would refuse.
    #[error("invalid {column} of {subject}: {problem}")]
    Check { column: &'static str, subject: String, problem: &'static str },

    /// The SQL of a segment is not usable.
    #[error("{problem}")]
    Query { code: PgSqlErrorCode, problem: String, detail: Option<String>, hint: Option<String> },

    #[error("changes of column \"{column}\" of table {table} are not captured")]
    NotWatched { table: String, column: String },

    /// The changes of a table cannot be captured.
    #[error("{problem}")]
    Watch { problem: String, hint: Option<String> },

    #[error("a message cannot be put together, or would be larger than a jsonb may be")]
    MessageTooLarge,

    #[error("the query changed the database")]
    NotReadOnly,

    #[error("the query gives id {} more than once", quoted(.examples))]
    DuplicateIds { examples: Vec<String> },

    #[error("the table of segment \"{0}\" does not exist")]
    TableDropped(String),

    #[error("the owner of segment \"{segment}\" no longer exists")]
    OwnerDropped { segment: String, segments: String },

    #[error("the owner of segment \"{segment}\", role \"{owner}\", is not permitted to log in")]
    OwnerCannotLogIn { segment: String, owner: String },

    #[error(
        "the owner of segment \"{segment}\", role \"{owner}\", may not connect to this database"
    )]
    OwnerCannotConnect { segment: String, owner: String },

    #[error("the worker for segment \"{0}\" ended before it began")]
    WorkerDied(String),

    #[error("the refresh took longer than segmenter.refresh_timeout, {0} ms")]
    TimedOut(u128),

    /// The time limit of a subtransaction: it was cancelled.
    #[error("it took longer than {0} ms")]
    TimeLimit(u128),

    /// SQL has caught the cancellation at a time limit, so its process was ended.
    #[error(
        "{what} took longer than {limit}, {milliseconds} ms, and its SQL did not react to the cancellation"
    )]
    Overrun { what: &'static str, limit: &'static str, milliseconds: u128 },

    /// A segment has left a table that may not be locked for it.
    #[error("table {table} stays in the mart, since the current role may not write to it")]
    NotReleased { table: String, mart: String },

    #[error("table {table} cannot hold a segment: {problem}")]
    Table { table: String, problem: String, hint: Option<String> },

    #[error("table {table} {problem}")]
    NotInMart { table: String, problem: &'static str, segments: String },

    #[error("must be owner of table {0}")]
    NotTableOwner(String),

    #[error("permission denied for table {table}")]
    NotTableUser { table: String, role: String },

    #[error("row-level security of table {table} hides rows from role \"{role}\"")]
    RowsHidden { table: String, role: String, is_table_owner: bool },

    #[error(
        "table {table} cannot hold a segment: it has {columns} columns besides the service columns, and a refresh can compare at most {most}"
    )]
    TooManyColumns { table: String, columns: usize, most: usize },

    /// A version of the definition of a segment.
    #[error("version {version} of {subject} cannot be restored: {problem}")]
    NotRestored {
        code: PgSqlErrorCode,
        version: i32,
        subject: String,
        problem: String,
        hint: String,
    },

    #[error("the id of segment \"{0}\" belonged to another segment")]
    IdTaken(String),

    #[error("role \"{role}\" cannot be given to {subject} by a role that is not a member of it")]
    NotMember { role: String, subject: String },

    #[error("table {table} was changed by another session during the refresh")]
    TableChanged { table: String, detail: String },

    /// A relation or a function that a query reads or calls is newer than the snapshot of the refresh.
    #[error("{0} was replaced, truncated or rewritten after the snapshot of the refresh")]
    Replaced(String),

    #[error("table {0} still has rows of the person")]
    RowsRemain(String),

    #[error("the procedure altered table {0}")]
    TableAltered(String),

    #[error(
        "an id is at most {most} bytes: {} left out, such as id \"{example}...\"",
        counted(*.count as i64, "row")
    )]
    IdTooLong { count: u64, example: String, most: usize },

    #[error("{} members in table {table} have no id", .count)]
    MembersWithoutId { table: String, count: u64 },

    #[error("{0}")]
    Refused(Box<Refusal>),

    /// Not a failure: the refresh is tried again until the sources are loaded.
    #[error("{}", .0.join("; "))]
    NotLoaded(Vec<String>),

    #[error("another session is recording an attempt to refresh segment {0}")]
    OpenAttempt(pgrx::datum::Uuid),

    #[error("segment \"{segment}\" is part of a cycle: {} read each other's tables or leave out each other's members", quoted(.cycle))]
    Cycle { segment: String, cycle: Vec<String> },

    #[error("no schema has been selected to create the table of segment \"{0}\" in")]
    NoSchema(String),

    #[error("\"{0}\" is too long for the name of a table")]
    NameTooLong(String),

    #[error("table {table} has no column \"{column}\" to hand over")]
    MissingField { column: String, table: String },

    #[error("consumer \"{0}\" does not exist")]
    UnknownConsumer(String),

    #[error("permission denied for consumer \"{0}\"")]
    NotConsumer(String),

    /// A subscription of another role's consumer, which does not permit it.
    #[error("role \"{role}\" may not subscribe consumer \"{consumer}\"")]
    NoConsent { role: String, consumer: String, consumers: String },

    /// A superuser would subscribe a consumer that belongs to a role outside of the segment's.
    #[error("consumer \"{consumer}\" belongs to role \"{role}\"")]
    OthersConsumer { consumer: String, role: String, owner: String },

    #[error("consumer \"{consumer}\" does not belong to role \"{role}\"")]
    NotConsumerOf { consumer: String, role: String },

    /// A role changes a column of a subscription that the other party writes.
    #[error("permission denied for {what}")]
    NotParty { what: String, who: &'static str },

    #[error("role \"{0}\" does not exist")]
    UnknownRole(String),

    /// A restored row names a role that does not exist here, or that did not exist when it was dumped.
    #[error("{}", match .name {
        Some(name) => format!("role \"{name}\" does not exist"),
        None => "its role did not exist any more when it was dumped".into(),
    })]
    RoleNotRestored { name: Option<String>, column: &'static str },

    #[error("subscription {id} does not exist")]
    UnknownSubscription { id: Uuid, subscriptions: String },

    #[error(
        "consumer \"{consumer}\" has no subscription to segment \"{segment}\" for \"{target}\""
    )]
    UnknownSubscriptionName { consumer: String, segment: String, target: String, status: String },

    #[error("the subscription for \"{target}\" could not be handed over")]
    NotHandedOver { target: String },

    #[error("changes are held back from the subscription for \"{target}\"")]
    HeldBack { target: String },

    #[error("segment \"{0}\" was never refreshed successfully: it is not handed over yet")]
    NeverRefreshed(String),

    #[error("subscription {0} has ended")]
    EndedSubscription(Uuid),

    #[error("the consumer keeps the audience for \"{target}\", and gets no message to delete it")]
    AudienceLeft { target: String, subscriptions: String },

    #[error("{lease} is no lease on message {message}")]
    NoLease { lease: Uuid, message: i64 },

    /// An invalid answer of a consumer, or an invalid argument of a claim.
    #[error("invalid {name}: {problem}")]
    Argument { name: &'static str, problem: String, hint: &'static str },

    /// A text that cannot be the name of a relation.
    #[error("\"{0}\" is not the name of a relation")]
    NotAName(String),

    /// A column of a config row that must have a value is null.
    #[error("invalid {column} of {subject}: it must not be null")]
    Null { column: String, subject: String },

    /// A consumer of no role is made by a role that is not the owner of the set.
    #[error("permission denied to have {consumer} without a role")]
    NoRole { consumer: String, role: String },

    /// The function of a consumer cannot be called.
    #[error("the function of consumer \"{consumer}\" cannot be called: {problem}")]
    Function { consumer: String, problem: String, hint: String },

    #[error("{url} is not under segmenter.http_allow")]
    NotAllowed { url: String },

    /// A statement of ours returned null, or another form, where it must not.
    #[error("a statement returned no valid \"{0}\"")]
    MissingValue(&'static str),

    #[error(transparent)]
    Spi(#[from] pgrx::spi::Error),

    #[error(transparent)]
    Datum(#[from] pgrx::datum::TryFromDatumError),

    #[error(transparent)]
    Trigger(#[from] pgrx::trigger_support::PgTriggerError),

    /// An error that PostgreSQL raised, with all its parts.
    #[error("{}", .0.message)]
    Postgres(Box<Report>),
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Adds to an error of PostgreSQL's where in the user's statement it is.
    pub fn in_statement(mut self, sql: &str) -> Self {
        if let Error::Postgres(report) = &mut self {
            report.locate(sql);
        }
        self
    }

    /// Names the line and the column of an error of PostgreSQL's within a part of a statement, before
    /// which the statement has so many characters.
    pub fn in_part(mut self, before: usize, part: &str) -> Self {
        if let Error::Postgres(report) = &mut self {
            let position = report.position.and_then(|position| position.checked_sub(before));
            report.position = position.filter(|position| *position > 0);
            report.locate(part);
        }
        self
    }

    /// Puts what an error of PostgreSQL's is about before its message.
    pub fn about(mut self, subject: &str) -> Self {
        if let Error::Postgres(report) = &mut self {
            report.message = format!("{subject}: {}", report.message);
        }
        self
    }

    /// Whether it is reported with this SQLSTATE.
    pub fn is_code(&self, code: PgSqlErrorCode) -> bool {
        self.report().sqlstate == code as i32
    }

    /// Adds a hint to an error of PostgreSQL's with a SQLSTATE, unless it has one.
    pub fn with_hint(mut self, code: PgSqlErrorCode, hint: &str) -> Self {
        if let Error::Postgres(report) = &mut self
            && report.sqlstate == code as i32
        {
            report.hint.get_or_insert_with(|| hint.to_owned());
        }
        self
    }

    /// The error as PostgreSQL reports it.
    pub fn report(&self) -> Report {
        if let Error::Postgres(report) = self {
            return Report::clone(report);
        }
        Report {
            sqlstate: self.code() as i32,
            message: self.to_string(),
            detail: self.detail(),
            hint: self.hint(),
            context: None,
            position: None,
        }
    }

    fn code(&self) -> PgSqlErrorCode {
        use PgSqlErrorCode as Code;
        match self {
            Error::NoExtension
            | Error::UnknownSegment { .. }
            | Error::UnknownSource(_)
            | Error::UnknownList(_)
            | Error::UnknownConsumer(_)
            | Error::UnknownRole(_)
            | Error::RoleNotRestored { .. }
            | Error::UnknownSubscription { .. }
            | Error::UnknownSubscriptionName { .. }
            | Error::OwnerDropped { .. } => Code::ERRCODE_UNDEFINED_OBJECT,
            Error::NotPermitted { .. }
            | Error::NoRole { .. }
            | Error::MayNotRead { .. }
            | Error::MayNotSuppress { .. }
            | Error::OthersGroup { .. }
            | Error::NotTableOwner(_)
            | Error::NotTableUser { .. }
            | Error::RowsHidden { .. }
            | Error::NotReleased { .. }
            | Error::NotMember { .. }
            | Error::NotConsumer(_)
            | Error::NoConsent { .. }
            | Error::OthersConsumer { .. }
            | Error::NotConsumerOf { .. }
            | Error::NotParty { .. }
            | Error::NotAllowed { .. }
            | Error::OwnerCannotConnect { .. } => Code::ERRCODE_INSUFFICIENT_PRIVILEGE,
            Error::TooManyColumns { .. } => Code::ERRCODE_TOO_MANY_COLUMNS,
            Error::IdTaken(_) => Code::ERRCODE_DUPLICATE_OBJECT,
            Error::OwnerCannotLogIn { .. } => Code::ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION,
            Error::WorkerDied(_) => Code::ERRCODE_CONNECTION_FAILURE,
            Error::TimedOut(_) | Error::TimeLimit(_) | Error::Overrun { .. } => {
                Code::ERRCODE_QUERY_CANCELED
            }
            Error::Busy { .. } | Error::OpenAttempt(_) => Code::ERRCODE_LOCK_NOT_AVAILABLE,
            Error::Superseded(_) | Error::TableChanged { .. } | Error::Replaced(_) => {
                Code::ERRCODE_T_R_SERIALIZATION_FAILURE
            }
            Error::OtherVersion(_)
            | Error::NoRefresher { .. }
            | Error::NoHistory(_)
            | Error::NotInMart { .. }
            | Error::NotWatched { .. }
            | Error::TableAltered(_)
            | Error::RowsRemain(_)
            | Error::NotLoaded(_)
            | Error::EndedSubscription(_)
            | Error::NeverRefreshed(_)
            | Error::NotHandedOver { .. }
            | Error::HeldBack { .. }
            | Error::AudienceLeft { .. }
            | Error::NoLease { .. }
            | Error::Refused(_) => Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            Error::UnreadableFields { .. } => Code::ERRCODE_DATA_EXCEPTION,
            Error::OutOfLocks { .. } => Code::ERRCODE_OUT_OF_MEMORY,
            Error::InTransaction => Code::ERRCODE_INVALID_TRANSACTION_TERMINATION,
            Error::NotReadOnly | Error::InRecovery => Code::ERRCODE_READ_ONLY_SQL_TRANSACTION,
            Error::Watch { .. } => Code::ERRCODE_FEATURE_NOT_SUPPORTED,
            Error::MessageTooLarge | Error::IdTooLong { .. } => {
                Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED
            }
            Error::NullArgument(_) => Code::ERRCODE_NULL_VALUE_NOT_ALLOWED,
            Error::Config(_) | Error::Argument { .. } => Code::ERRCODE_INVALID_PARAMETER_VALUE,
            Error::IsRead { .. } => Code::ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST,
            Error::Interval { .. } => Code::ERRCODE_INVALID_DATETIME_FORMAT,
            Error::HasSubscriptions { .. } | Error::NoParty { .. } => {
                Code::ERRCODE_FOREIGN_KEY_VIOLATION
            }
            Error::Check { .. } => Code::ERRCODE_CHECK_VIOLATION,
            Error::MissingField { .. } => Code::ERRCODE_UNDEFINED_COLUMN,
            Error::Function { .. } => Code::ERRCODE_INVALID_FUNCTION_DEFINITION,
            Error::Query { code, .. }
            | Error::Exists { code, .. }
            | Error::NotRestored { code, .. } => *code,
            Error::Set(error) => error.code(),
            Error::DuplicateIds { .. } => Code::ERRCODE_CARDINALITY_VIOLATION,
            Error::TableDropped(_) => Code::ERRCODE_UNDEFINED_TABLE,
            Error::Table { .. } => Code::ERRCODE_INVALID_TABLE_DEFINITION,
            Error::MembersWithoutId { .. } | Error::Null { .. } => Code::ERRCODE_NOT_NULL_VIOLATION,
            Error::NotAName(_) => Code::ERRCODE_INVALID_NAME,
            Error::Cycle { .. } => Code::ERRCODE_INVALID_RECURSION,
            Error::NameTooLong(_) => Code::ERRCODE_NAME_TOO_LONG,
            Error::NoSchema(_) => Code::ERRCODE_INVALID_SCHEMA_NAME,
            Error::MissingValue(_)
            | Error::Spi(_)
            | Error::Datum(_)
            | Error::Trigger(_)
            | Error::Postgres(_) => Code::ERRCODE_INTERNAL_ERROR,
        }
    }

    fn detail(&self) -> Option<String> {
        match self {
            Error::NotPermitted { owner, .. } => {
                Some(format!("The segment belongs to role \"{owner}\"."))
            }
            Error::NoHistory(_) => Some("Its table keeps the last period of each member only, and members were added after that time.".into()),
            Error::OthersConsumer { owner, .. } => Some(format!(
                "Role \"{owner}\", which owns the segment, is not a member of it, and the consumer does not list that role as a subscriber."
            )),
            Error::RowsHidden { .. } => Some("Members are read as the segment's owner and written as the table's owner: members that either does not see would be added again at each refresh, and never be removed.".into()),
            Error::IsRead { readers, hidden, .. } => Some(match (readers.as_slice(), hidden) {
                ([], hidden) => format!("It is read by {}.", counted_of_others(*hidden)),
                ([one], 0) => format!("It is read by segment \"{one}\"."),
                (names, 0) => format!("It is read by segments {}.", quoted(names)),
                ([one], hidden) => {
                    format!("It is read by segment \"{one}\" and {}.", counted_of_others(*hidden))
                }
                (names, hidden) => {
                    let names = quoted(names);
                    format!("It is read by segments {names} and {}.", counted_of_others(*hidden))
                }
            }),
            Error::HasSubscriptions { active, ended, .. } => {
                Some(format!("{active} of them are active, {ended} have ended."))
            }
            Error::Query { detail, .. } => detail.clone(),
            Error::Set(error) => error.detail(),
            Error::TableChanged { detail, .. } => Some(detail.clone()),
            Error::Refused(refusal) => Some(refusal.figures()),
            Error::Overrun { .. } => Some("The process of its worker was ended.".into()),
            _ => None,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Error::Set(error) => return error.hint(),
            Error::OtherVersion(_) => {
                "After a new package: restart the server where the library is preloaded, then ALTER EXTENSION segmenter UPDATE.".into()
            }
            Error::UnknownSegment { status, .. } => {
                format!("Names are matched exactly; {} lists the segments you may see.", status)
            }
            Error::NotPermitted { owner, .. } => {
                format!("Only members of role \"{owner}\" may refresh it.")
            }
            Error::UnreadableFields { handovers, .. } => {
                format!("Correct the columns fields and past_fields of {handovers}, then erase again: earlier messages are searched by them.")
            }
            Error::Busy { holder: Holder::Prepared(gid), .. } => format!(
                "Its locks are held until it is committed or rolled back: commit prepared {0}, or rollback prepared {0}.",
                pgrx::spi::quote_literal(gid)
            ),
            Error::Busy { holder: Holder::This(_), .. } => {
                "SQL that a segment runs cannot work on that segment.".into()
            }
            Error::Busy { .. } | Error::OpenAttempt(_) => {
                "Try again when it has finished.".into()
            }
            Error::OutOfLocks { .. } => "The others stay due. Have segmenter_run_each() called, which commits each segment, or raise max_locks_per_transaction.".into(),
            Error::InTransaction => "It commits each segment: call it alone, or call segmenter_run(), which is one transaction.".into(),
            Error::InRecovery => "Call the function on the primary server.".into(),
            Error::Superseded(_) => "Refresh it again, in a new transaction.".into(),
            Error::Replaced(_) => "Refresh the segment again, in another transaction.".into(),
            Error::TableChanged { .. } => {
                "Refresh it again. If that does not help, a trigger or a rule keeps rows from being written.".into()
            }
            Error::NoHistory(_) => "Ask for the members of now, or of a time after that. A table with history keeps all periods.".into(),
            Error::NoRefresher { segments, .. } => {
                format!("Set refresh_params in {}, or pass a query to segmenter_refresh().", segments)
            }
            Error::Config(error) => return error.hint.clone(),
            Error::Exists { hint, .. } | Error::HasSubscriptions { hint, .. } => hint.clone(),
            Error::NoParty { listed, .. } => format!("{listed} has the ids; segmenter_subscribe() looks them up by name."),
            Error::Interval { .. } => "Give a number and a unit, such as \"12 hours\" or \"1 day\".".into(),
            Error::Query { hint, .. }
            | Error::Table { hint, .. }
            | Error::Watch { hint, .. } => {
                return hint.clone();
            }
            Error::DuplicateIds { .. } => {
                "The column \"id\" is the member's key: group the query by it, or select distinct on it.".into()
            }
            Error::TableDropped(_) => {
                "Point table_name of the segment at an existing table, or retire the segment by setting actual_end.".into()
            }
            Error::OwnerDropped { segments, .. } => {
                format!("Give the segment an owner: update {} set owner = ... for it.", segments)
            }
            Error::OwnerCannotLogIn { owner, .. } => format!(
                "The background workers connect as the owner: alter role {} login (it needs no password).",
                pgrx::spi::quote_identifier(owner)
            ),
            Error::OwnerCannotConnect { owner, .. } => format!(
                "The background workers connect as the owner: grant connect on this database to {}.",
                pgrx::spi::quote_identifier(owner)
            ),
            Error::WorkerDied(_) => "The server's log says why.".into(),
            Error::TimedOut(_) => {
                "Look at what the refresh waits for or computes, or raise segmenter.refresh_timeout.".into()
            }
            Error::TimeLimit(_) => "Look for a trigger or a policy of its table that does not end. For the segment's own owner there is no limit: set role to it, and try again.".into(),
            Error::Overrun { .. } => {
                "Look for SQL that catches query_canceled, and let it raise the error on.".into()
            }
            Error::NotReleased { table, mart } => {
                format!("Its owner can take it out: alter table {table} no inherit {mart}.")
            }
            Error::MessageTooLarge => "Lower the subscription's batch_size.".into(),
            Error::NotWatched { .. } => {
                "Have the table's owner call segmenter_watch() with the table and the column.".into()
            }
            Error::NotInMart { segments, .. } => {
                format!("Register the table: update {} set table_name = table_name for this segment.", segments)
            }
            Error::NotTableOwner(_) => {
                "A segment table is registered by a role that could alter it.".into()
            }
            Error::NotTableUser { table, role } => {
                format!("grant select, insert, update on {table} to {}", pgrx::spi::quote_identifier(role))
            }
            Error::RowsHidden { table, role, is_table_owner } => {
                let role = pgrx::spi::quote_identifier(role);
                match is_table_owner {
                    true => format!("alter table {table} no force row level security, or disable it; the mart keeps members from roles that may not see the segment."),
                    false => format!("alter table {table} owner to {role}, or alter table {table} disable row level security; the mart keeps members from roles that may not see the segment."),
                }
            }
            Error::IdTooLong { .. } => "Return a shorter key, for example a hash of it.".into(),
            Error::RoleNotRestored { column, .. } => {
                format!("Create the role, then set {column} of the row.")
            }
            Error::TooManyColumns { .. } => {
                "Keep in the table what is handed over, and join the rest by the id.".into()
            }
            Error::IdTaken(_) => "Leave the id to its default.".into(),
            Error::NotAName(_) => "Give it as name or schema.name, each part in double quotes where it is no plain lower-case word.".into(),
            Error::Null { column, .. } if column == "table_name" => "Set it to the segment's table, or have segmenter_create_segment() make both.".into(),
            Error::NoRole { role, .. } => format!("Set role, for example to {}: its members claim the messages.", pgrx::spi::quote_literal(pgrx::spi::quote_identifier(role))),
            Error::NotMember { .. } => "Ask a member of that role to do it.".into(),
            Error::RowsRemain(_) => {
                "A trigger, a rule or a policy keeps them from being deleted.".into()
            }
            Error::TableAltered(_) => {
                "Have it change the table's rows only: to replace the table, point table_name at the new one.".into()
            }
            Error::MembersWithoutId { .. } => {
                "Every member needs an id: have the procedure set it, or leave such rows out.".into()
            }
            Error::Refused(_) => {
                "Look at the segment's sources; if the change is right, pass force => true or change the segment's guards.".into()
            }
            Error::MissingField { .. } => {
                "Correct fields in the subscription's params, or add the column to the table.".into()
            }
            Error::UnknownConsumer(_) => {
                "Names are matched exactly, and the consumer must not be retired.".into()
            }
            Error::NotConsumer(_) => {
                "Only members of the consumer's role may do it; without a role, the owner of the consumers' table.".into()
            }
            Error::NoConsent { role, consumers, .. } => format!(
                "Members of the consumer's role can permit it: update {consumers} set subscribers = subscribers || {}::regrole for it.",
                pgrx::spi::quote_literal(pgrx::spi::quote_identifier(role))
            ),
            Error::OthersConsumer { role, .. } => format!(
                "If it is the one that is meant, pass consumer_role => {}; otherwise choose another name.",
                pgrx::spi::quote_literal(role)
            ),
            Error::NotConsumerOf { .. } => "Pass the role that it belongs to, or choose another name.".into(),
            Error::NotParty { who, .. } => (*who).into(),
            Error::UnknownSubscriptionName { status, .. } => {
                format!("{status} lists the subscriptions you may see.")
            }
            Error::UnknownSubscription { subscriptions, .. } => {
                format!("{} lists the subscriptions you may see.", subscriptions)
            }
            Error::NotHandedOver { .. } => "The warning before this says why.".into(),
            Error::HeldBack { .. } => {
                "It is paused, or its audience has fewer members than min_members: change its params first.".into()
            }
            Error::EndedSubscription(_) => {
                "Set its actual_end to infinity to take it up again.".into()
            }
            Error::AudienceLeft { subscriptions, .. } => {
                format!("To have it deleted there, end the subscription instead: update {} set actual_end = now(). The next run hands that over.", subscriptions)
            }
            Error::NoLease { .. } => {
                "It has expired and the message was claimed again, or it never existed: the message belongs to the lease that holds it now.".into()
            }
            Error::Argument { hint, .. } if !hint.is_empty() => (*hint).into(),
            Error::NotRestored { hint, .. } if !hint.is_empty() => hint.clone(),
            Error::Function { hint, .. } => hint.clone(),
            Error::NotAllowed { .. } => {
                "A superuser lists the beginnings of URLs that may be called in segmenter.http_allow.".into()
            }
            Error::NeverRefreshed(_) => {
                "The first successful refresh hands over all members.".into()
            }
            Error::UnknownList(_) => {
                "Name an active segment whose members the segment's owner may read.".into()
            }
            Error::MayNotRead { .. } => {
                "The segment's owner must be a member of that segment's owner, or have SELECT on its table and no policy that limits it.".into()
            }
            Error::MayNotSuppress { owner, .. } => format!("A suppression list holds for the segments of all roles: a member of role \"{owner}\", which owns the relation set, must set is_suppression. Or name the segment in the column exclude of your own."),
            Error::OthersGroup { .. } => "Choose another name for the group.".into(),
            Error::UnknownSource(_) => {
                "A source can be an active segment whose table the segment's owner may read.".into()
            }
            Error::IsRead { .. } => {
                "Have them read something else or retire them first, or set segmenter.force_retire = on.".into()
            }
            Error::Cycle { .. } => "Have one of them read something else, or not leave out the other's members: a suppression list is one for every segment that does not name it in exempt.".into(),
            Error::NameTooLong(_) => "Pass a table_name of at most 63 bytes.".into(),
            Error::NoSchema(_) => "Set search_path, or pass table_name with a schema.".into(),
            _ => return None,
        };
        Some(hint)
    }
}

/// What holds the lock of a segment.
#[derive(Debug)]
pub enum Holder {
    Process(i32),
    /// This process, in a statement that is running.
    This(i32),
    /// A prepared transaction, by its identifier.
    Prepared(String),
    Unknown,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Holder::Process(pid) => write!(f, "process {pid}"),
            Holder::This(pid) => write!(f, "process {pid}, which is this one"),
            Holder::Prepared(gid) => write!(f, "the prepared transaction \"{gid}\""),
            Holder::Unknown => write!(f, "another transaction"),
        }
    }
}

/// A number of segments that belong to roles that the caller may not act as.
fn counted_of_others(number: u64) -> String {
    format!("{} of other roles", counted(number as i64, "segment"))
}

fn quoted(names: &[String]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("\"{name}\"")).collect();
    quoted.join(", ")
}
