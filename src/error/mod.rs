//! All errors of the extension, and the one place where they become PostgreSQL errors.

use pgrx::datum::TryFromDatumError;
use pgrx::datum::Uuid;
use pgrx::prelude::*;
use thiserror::Error;

use segmenter_core::config::ConfigError;
use segmenter_core::content::Edited;
use segmenter_core::guards::Refusal;

mod fields;
mod report;
mod set;
mod take;

pub use report::{Report, emit, emit_notice, emit_warning, raise};
pub use set::{SCHEMA_VERSION, SetError, counted};
pub use take::TakeError;

/// Why other segments need one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tie {
    /// They belong to it.
    Family,
    /// They leave out its members, or are exempt from it.
    List,
    /// They read it, or their sources name it.
    Reads,
}

/// The segments that need one for the same reason: the names of those that the caller may see, and the number of
/// the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tied {
    pub tie: Tie,
    pub names: Vec<String>,
    pub hidden: u64,
}

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

    /// An audience that cannot be taken.
    #[error(transparent)]
    Take(#[from] TakeError),

    #[error("segment \"{name}\" does not exist")]
    UnknownSegment { name: String, status: String },

    /// The sources of a segment name a segment.
    #[error("source segment \"{0}\" does not exist")]
    UnknownSource(String),

    /// A segment that is to leave out members of another one, which does not exist or is unknown to it.
    #[error("segment \"{0}\", whose members are to be left out, does not exist")]
    UnknownList(String),

    /// A segment is exempt from one that does not exist or is unknown to it.
    #[error("segment \"{0}\", from which {1} is exempt, does not exist")]
    UnknownExemption(String, String),

    #[error("role \"{role}\" may not read the members of segment \"{segment}\"")]
    MayNotRead { segment: String, role: String },

    #[error("permission denied to make {subject} a suppression list")]
    MayNotSuppress { subject: String, owner: String },

    #[error("the priority group \"{group}\" of {subject} belongs to another role")]
    OthersGroup { subject: String, group: String },

    /// A segment that others need is retired, deleted or renamed.
    #[error("segment \"{segment}\" cannot be {what}: {}", why_needed(tied))]
    IsNeeded { segment: String, what: &'static str, tied: Vec<Tied> },

    #[error("permission denied for segment \"{segment}\"")]
    NotPermitted { segment: String, owner: String },

    #[error("segment \"{segment}\" is being refreshed by {holder}")]
    Busy { segment: String, holder: Holder },

    /// Automatic refreshes of a segment rest. `held`: until when.
    #[error("segment \"{segment}\" is {held}")]
    Held { segment: String, held: String },

    /// A role has cancelled the refresh.
    #[error("the refresh was cancelled by role \"{role}\"")]
    Cancelled { role: String },

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

    /// The rows of a family have more new names than segments are made of one by one.
    #[error("the rows of family \"{family}\" have more than {most} names that no segment has")]
    TooManyNew { family: String, most: usize },

    /// A family has no members of its own.
    #[error("segment \"{0}\" is a family: it has no members of its own")]
    IsFamily(String),

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

    #[error("role \"{role}\", which owns table {table}, may not read it")]
    CannotRead { table: String, role: String },

    /// The table of a segment whose members others leave out.
    #[error("the members of segment \"{list}\" cannot be left out: {error}")]
    ListTable { list: String, error: Box<Error> },

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

    /// The table may have members whom lists have, or who are kept out, since rows were put into it by hand: the
    /// refresh is made again, with all of them.
    #[error("rows of the table were changed by hand")]
    Unfollowed(Edited),

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

    /// What is not members.
    #[error("{what} for \"{target}\" cannot be sent again")]
    NoResync { what: &'static str, target: String },

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

    /// A foreign server cannot be used.
    #[error("server \"{server}\" cannot be used: {problem}")]
    Server { code: PgSqlErrorCode, server: String, problem: String, hint: String },

    /// The spec of a connector is invalid.
    #[error("the spec of connector \"{name}\" is invalid: {problem}")]
    Connector { name: String, problem: String },

    /// A connector must stay as it is.
    #[error("connector \"{name}\" cannot be changed: {problem}")]
    KeptConnector { name: String, problem: String, hint: &'static str },

    /// An option of a foreign server or a user mapping.
    #[error("invalid option \"{name}\": {problem}")]
    ServerOption { name: String, problem: String, hint: String },

    #[error("{url} is not under segmenter.http_allow")]
    NotAllowed { url: String },

    /// A statement of ours returned null, or another form, where it must not.
    #[error("a statement returned no valid \"{0}\"")]
    MissingValue(&'static str),

    #[error(transparent)]
    Spi(#[from] pgrx::spi::Error),

    #[error("{}", of_value(.0))]
    Datum(#[from] TryFromDatumError),

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

/// What is wrong with a value that was read: in a relation of a set a column may be missing.
fn of_value(error: &TryFromDatumError) -> String {
    match error {
        TryFromDatumError::NoSuchAttributeName(column) => {
            format!("column \"{column}\" does not exist")
        }
        error => error.to_string(),
    }
}

/// By the first of the reasons.
fn why_needed(tied: &[Tied]) -> &'static str {
    match tied.first().map(|tied| tied.tie) {
        Some(Tie::Family) => "it is a family that segments belong to",
        Some(Tie::List) => "it is a list for other segments",
        Some(Tie::Reads) | None => "other segments read it",
    }
}

fn quoted(names: &[String]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("\"{name}\"")).collect();
    quoted.join(", ")
}
