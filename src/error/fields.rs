//! The SQLSTATE, the DETAIL and the HINT of each error.

use pgrx::datum::TryFromDatumError;
use pgrx::prelude::*;

use super::{Error, Holder, Tie, Tied, counted, quoted};

impl Error {
    pub(super) fn code(&self) -> PgSqlErrorCode {
        use PgSqlErrorCode as Code;
        match self {
            Error::NoExtension
            | Error::UnknownSegment { .. }
            | Error::UnknownSource(_)
            | Error::UnknownList(_)
            | Error::UnknownExemption(..)
            | Error::UnknownConsumer(_)
            | Error::UnknownRole(_)
            | Error::RoleNotRestored { .. }
            | Error::UnknownSubscription { .. }
            | Error::UnknownSubscriptionName { .. }
            | Error::OwnerDropped { .. } => Code::ERRCODE_UNDEFINED_OBJECT,
            Error::NotPermitted { .. }
            | Error::NoRole { .. }
            | Error::MayNotRead { .. }
            | Error::CannotRead { .. }
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
            Error::ListTable { error, .. } => error.code(),
            Error::TooManyColumns { .. } => Code::ERRCODE_TOO_MANY_COLUMNS,
            Error::IdTaken(_) => Code::ERRCODE_DUPLICATE_OBJECT,
            Error::OwnerCannotLogIn { .. } => Code::ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION,
            Error::WorkerDied(_) => Code::ERRCODE_CONNECTION_FAILURE,
            Error::TimedOut(_)
            | Error::TimeLimit(_)
            | Error::Overrun { .. }
            | Error::Cancelled { .. } => Code::ERRCODE_QUERY_CANCELED,
            Error::Busy { .. } | Error::OpenAttempt(_) => Code::ERRCODE_LOCK_NOT_AVAILABLE,
            Error::Superseded(_)
            | Error::TableChanged { .. }
            | Error::Replaced(_)
            | Error::Unfollowed(_) => Code::ERRCODE_T_R_SERIALIZATION_FAILURE,
            Error::OtherVersion(_)
            | Error::NoRefresher { .. }
            | Error::IsFamily(_)
            | Error::TooManyNew { .. }
            | Error::Held { .. }
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
            | Error::NoResync { .. }
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
            Error::Config(_) | Error::Argument { .. } | Error::Connector { .. } => {
                Code::ERRCODE_INVALID_PARAMETER_VALUE
            }
            Error::IsNeeded { .. } => Code::ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST,
            Error::Interval { .. } => Code::ERRCODE_INVALID_DATETIME_FORMAT,
            Error::HasSubscriptions { .. } | Error::NoParty { .. } => {
                Code::ERRCODE_FOREIGN_KEY_VIOLATION
            }
            Error::Check { .. } => Code::ERRCODE_CHECK_VIOLATION,
            Error::MissingField { .. } => Code::ERRCODE_UNDEFINED_COLUMN,
            Error::Function { .. } => Code::ERRCODE_INVALID_FUNCTION_DEFINITION,
            Error::KeptConnector { .. } => Code::ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST,
            Error::ServerOption { .. } => Code::ERRCODE_FDW_INVALID_OPTION_NAME,
            Error::Query { code, .. }
            | Error::Server { code, .. }
            | Error::Exists { code, .. }
            | Error::NotRestored { code, .. } => *code,
            Error::Set(error) => error.code(),
            Error::Take(error) => error.code(),
            Error::DuplicateIds { .. } => Code::ERRCODE_CARDINALITY_VIOLATION,
            Error::TableDropped(_) => Code::ERRCODE_UNDEFINED_TABLE,
            Error::Datum(TryFromDatumError::NoSuchAttributeName(_)) => {
                Code::ERRCODE_UNDEFINED_COLUMN
            }
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

    pub(super) fn detail(&self) -> Option<String> {
        match self {
            Error::NotPermitted { owner, .. } => {
                Some(format!("The segment belongs to role \"{owner}\"."))
            }
            Error::NoHistory(_) => Some("Its table keeps the last period of each member only, and members were added after that time.".into()),
            Error::OthersConsumer { owner, .. } => Some(format!(
                "Role \"{owner}\", whose segments it would get, is not a member of it, and the consumer does not list that role as a subscriber."
            )),
            Error::ListTable { error, .. } => error.detail(),
            Error::CannotRead { .. } => {
                Some("The members of a list are read with the rights of the role that owns its table.".into())
            }
            Error::RowsHidden { .. } => Some("Members are read as the segment's owner and written as the table's owner: members that either does not see would be added again at each refresh, and never be removed.".into()),
            Error::IsNeeded { tied, .. } => {
                let sentences = tied.iter().map(|Tied { tie, names, hidden }| {
                    let segments = named(names, *hidden);
                    match tie {
                        Tie::Family => format!("It is the family of {segments}."),
                        Tie::List => format!("It is a list for {segments}."),
                        Tie::Reads => format!("It is read by {segments}."),
                    }
                });
                Some(sentences.collect::<Vec<_>>().join(" "))
            }
            Error::HasSubscriptions { active, ended, .. } => {
                Some(format!("{active} of them are active, {ended} have ended."))
            }
            Error::Query { detail, .. } => detail.clone(),
            Error::Set(error) => error.detail(),
            Error::Take(error) => error.detail(),
            Error::TableChanged { detail, .. } => Some(detail.clone()),
            Error::Refused(refusal) => Some(refusal.figures()),
            Error::Overrun { .. } => Some("The process of its worker was ended.".into()),
            _ => None,
        }
    }

    pub(super) fn hint(&self) -> Option<String> {
        let hint = match self {
            Error::Set(error) => return error.hint(),
            Error::Take(error) => return error.hint(),
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
            Error::TooManyNew { .. } => "Look at the column \"segment\" of the query.".into(),
            Error::IsFamily(_) => "Name one of the segments of the family.".into(),
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
            Error::ListTable { error, .. } => return error.hint(),
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
            Error::NoResync { .. } => {
                "They say what has happened, and there is no audience to be made right. segmenter_retry() tries the next message again, segmenter_skip() leaves it out.".into()
            }
            Error::AudienceLeft { subscriptions, .. } => {
                format!("To have it deleted there, end the subscription instead: update {} set actual_end = now(). The next run hands that over.", subscriptions)
            }
            Error::NoLease { .. } => {
                "It has expired and the message was claimed again, or it never existed: the message belongs to the lease that holds it now.".into()
            }
            Error::Argument { hint, .. } if !hint.is_empty() => (*hint).into(),
            Error::NotRestored { hint, .. } if !hint.is_empty() => hint.clone(),
            Error::Function { hint, .. }
            | Error::Server { hint, .. }
            | Error::ServerOption { hint, .. } => hint.clone(),
            Error::KeptConnector { hint, .. } => (*hint).into(),
            Error::Connector { .. } => {
                "docs/connectors.md describes specs, connectors/schema.json their form.".into()
            }
            Error::NotAllowed { .. } => {
                "A superuser lists the beginnings of URLs that may be called in segmenter.http_allow.".into()
            }
            Error::NeverRefreshed(_) => {
                "The first successful refresh hands over all members.".into()
            }
            Error::UnknownList(_) => {
                "Name an active segment whose members the segment's owner may read.".into()
            }
            Error::UnknownExemption(..) => {
                "Name an active suppression list (is_suppression) in the column exempt.".into()
            }
            Error::CannotRead { .. } => {
                "Grant the role SELECT on the table, and USAGE on its schema.".into()
            }
            Error::MayNotRead { .. } => {
                "The segment's owner must be a member of that segment's owner, or have SELECT on its table and no policy that limits it.".into()
            }
            Error::MayNotSuppress { owner, .. } => format!("A suppression list holds for the segments of all roles: a member of role \"{owner}\", which owns the relation set, must set is_suppression. Or name the segment in the column exclude of your own."),
            Error::OthersGroup { .. } => "Choose another name for the group.".into(),
            Error::UnknownSource(_) => {
                "A source can be an active segment whose table the segment's owner may read.".into()
            }
            Error::IsNeeded { tied, .. } => {
                let first = match tied.first().map(|tied| tied.tie) {
                    Some(Tie::Family) => "Have them belong to another family",
                    Some(Tie::List) => {
                        "Take it out of their exclude and exempt, set is_suppression to false,"
                    }
                    Some(Tie::Reads) | None => "Have them read something else",
                };
                format!("{first} or retire them first, or set segmenter.force_retire = on.")
            }
            Error::Cycle { .. } => "Have one of them read something else, or not leave out the other's members: a suppression list is one for every segment that does not name it in exempt.".into(),
            Error::NameTooLong(_) => "Pass a table_name of at most 63 bytes.".into(),
            Error::NoSchema(_) => "Set search_path, or pass table_name with a schema.".into(),
            Error::Datum(TryFromDatumError::NoSuchAttributeName(_)) => {
                "Restore the column of this relation of the set, or drop the set: segmenter_drop_set().".into()
            }
            _ => return None,
        };
        Some(hint)
    }
}

/// The most segments that are named at once.
const MOST_NAMED: usize = 10;

/// Segments by their names, the first of many, and the number of those that the caller may not see.
fn named(names: &[String], hidden: u64) -> String {
    let shown = &names[..names.len().min(MOST_NAMED)];
    let word = if names.len() == 1 { "segment" } else { "segments" };
    let mut parts = Vec::new();
    if !shown.is_empty() {
        parts.push(format!("{word} {}", quoted(shown)));
    }
    if names.len() > shown.len() {
        parts.push(format!("{} more", names.len() - shown.len()));
    }
    if hidden > 0 {
        parts.push(counted_of_others(hidden));
    }
    parts.join(" and ")
}

/// A number of segments that belong to roles that the caller may not act as.
fn counted_of_others(number: u64) -> String {
    format!("{} of other roles", counted(number as i64, "segment"))
}
