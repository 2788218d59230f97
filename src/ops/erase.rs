//! Erasing a person from segment tables, messages and the log. Consumers that have received the
//! person get a message to remove the person.

use std::collections::BTreeSet;

use pgrx::JsonB;
use pgrx::datum::Uuid;
use pgrx::prelude::*;
use pgrx::spi::SpiClient;
use serde_json::{Value, json};

use crate::catalog::log::{self, Action, Entry, LogCounts, LogStatus};
use crate::catalog::queries;
use crate::catalog::query::Query;
use crate::catalog::relation_set::{Relation, RelationSet};
use crate::catalog::state;
use crate::config::segment_table::{self, Purpose, Table};
use crate::config::{Fields, Segment};
use crate::error::{Error, Result};
use crate::pg::clock;
use crate::pg::exec::role;
use crate::pg::exec::snapshot::Active;
use crate::pg::exec::statement;
use crate::refresh::handover::latest;
use crate::refresh::publish::outbox;
use crate::refresh::publish::payload::{self, PayloadInput};
use crate::refresh::publish::subscription::{self, Subscription};
use crate::refresh::segment_lock;
use segmenter_core::sync_plan::SyncAction;

/// What was erased from one segment.
pub struct Erased {
    pub segment: String,
    /// Deleted rows of the segment table.
    pub rows: u64,
    /// Messages that have consumers remove the person.
    pub messages: u64,
}

/// Erases a person from every segment whose owner the caller may act as. Returns the segments that
/// held the person.
pub fn erase(set: &RelationSet, id: &str, run_id: Uuid) -> Result<Vec<Erased>> {
    let args = [role::current().into()];
    let segments: Option<Vec<Uuid>> = set.as_owner(|| {
        Spi::connect(|_| {
            statement::read_one(&set.sql(&queries::ops::erase::LIST_SEGMENTS, &[]), &args)
        })
    })?;
    let segments = segments.unwrap_or_default();
    let mut erased = Vec::new();
    let mut hashes = BTreeSet::new();
    for segment in &segments {
        // A running refresh may be about to hand the person over: wait until it has ended.
        let _held = segment_lock::wait(set, *segment)?;
        let (_snapshot, segment) = match latest(set, *segment) {
            Ok(latest) => latest,
            Err(Error::UnknownSegment { .. }) => continue,
            Err(error) => return Err(error),
        };
        let of_segment = erase_from(set, &segment, id, run_id, &mut hashes)?;
        if of_segment.rows > 0 || of_segment.messages > 0 {
            state::count_erasure(set, segment.id)?;
            log_erased(set, &segment, None, &of_segment, run_id)?;
            erased.push(of_segment);
        }
    }
    // The hashes that one segment holds may occur in the log of another segment.
    if let Some(pattern) = pattern(id, &hashes) {
        segments.iter().try_for_each(|segment| scrub(set, *segment, &pattern, id))?;
    }
    // Captured changes are shared by all segments of the database. Ids are removed from them only
    // if the caller may act as the owner of the extension's own set. Otherwise they are deleted
    // once they have been read.
    if set.is_own && role::may_act_as(role::current(), set.owner) {
        set.extension.as_owner(|| {
            Spi::run_with_args(&set.sql(&queries::ops::erase::DELETE_CAPTURED, &[]), &[id.into()])
        })?;
    }
    Ok(erased)
}

/// What a subscription's consumer has to receive.
enum Notice {
    /// A `remove` of these members, even of those that the consumer may not have.
    Remove(Vec<Value>),
    /// All remaining members as `replace`: other members look like the person, or it is unknown
    /// what the consumer has of the person.
    Everything,
}

fn erase_from(
    set: &RelationSet,
    segment: &Segment,
    id: &str,
    run_id: Uuid,
    hashes: &mut BTreeSet<String>,
) -> Result<Erased> {
    let table = match segment_table::lock(set, segment.table, segment.holder(), Purpose::Access)? {
        true => Some(Table::check(set, segment.table, segment.holder())?),
        // The table was dropped, and its rows with it.
        false => None,
    };
    let mut erased = Erased { segment: segment.name.clone(), rows: 0, messages: 0 };
    let snapshot = Active::fresh();
    let subscriptions = subscription::find(set, None, Some(segment.id), None)?;
    let mut notices = Vec::new();
    Spi::connect_mut(|client| {
        for subscription in subscriptions {
            if let Some(notice) = redact_messages(client, set, table.as_ref(), &subscription, id)? {
                notices.push((subscription, notice));
            }
        }
        set.as_owner(|| {
            client
                .update(
                    &set.sql(&queries::ops::erase::DELETE_ORPHANED_MESSAGES, &[]),
                    None,
                    &[segment.id.into()],
                )
                .map(drop)
        })?;
        if let Some(table) = &table {
            erased.rows = delete_rows(client, set, table, segment, id, hashes)?;
        }
        Ok::<_, Error>(())
    })?;
    drop(snapshot);

    let _snapshot = Active::fresh();
    let gone = Error::TableDropped(segment.name.clone()).report();
    let source = PayloadInput { set, table: table.as_ref().ok_or(gone), delta: None, run_id };
    Spi::connect_mut(|client| {
        for (subscription, notice) in notices {
            match notice {
                Notice::Remove(members) => {
                    erased.messages +=
                        outbox::hand_over_removal(client, &source, &subscription, members)?;
                    let sent = Erased { segment: segment.name.clone(), rows: 0, messages: 1 };
                    log_erased(set, segment, Some(&subscription), &sent, run_id)?;
                }
                Notice::Everything => {
                    let actions = vec![(subscription, SyncAction::FullSync)];
                    erased.messages += outbox::hand_over(client, &source, actions)?.messages;
                }
            }
        }
        Ok(erased)
    })
}

/// Removes the person from a subscription's messages. Returns what the consumer has to receive;
/// none: it has nothing of the person.
fn redact_messages(
    client: &mut SpiClient<'_>,
    set: &RelationSet,
    table: Option<&Table>,
    subscription: &Subscription,
    id: &str,
) -> Result<Option<Notice>> {
    let mut used = handed_over_fields(client, set, subscription)?;
    let current = subscription.served_fields();
    used.insert(current.clone());

    let (mut members, mut probes) = (Vec::new(), Vec::new());
    let mut is_unsure = false;
    for fields in &used {
        let versions = versions(client, set, table, subscription.segment, fields, id)?;
        match (fields.id_name(), table) {
            (Some(name), _) => probes.push(json!({ name: id })),
            (None, Some(table)) => {
                let like: Vec<Value> = versions.iter().map(|(member, _)| member.clone()).collect();
                is_unsure |= are_shared(client, set, table, subscription, fields, id, &like)?;
                probes.extend(like);
            }
            (None, None) => {}
        }
        // If the table lacks a column that is handed over, it is unknown what the consumer has.
        let is_whole = table.is_none_or(|table| payload::check_fields(table, fields).is_ok());
        if fields == current && !is_whole {
            is_unsure = true;
            members.extend(actual_key(client, set, table, subscription.segment, id)?);
        } else if fields == current {
            let actual = versions.into_iter().filter(|(_, is_actual)| *is_actual);
            members.extend(actual.map(|(member, _)| member));
        }
    }
    let args = [subscription.id.into(), JsonB(Value::Array(probes)).into()];
    let taken: Option<JsonB> = set.as_owner(|| {
        client
            .update(&set.sql(&queries::ops::erase::REDACT_MESSAGES, &[]), Some(1), &args)?
            .first()
            .get_one()
    })?;
    if let Some(JsonB(Value::Array(taken))) = taken {
        // Without the id among the fields it is unknown which person a removed member was.
        is_unsure |= current.id_name().is_none();
        for member in taken {
            // A member with other fields was replaced by a later message, or will be.
            if current.matches(&member) && !members.contains(&member) {
                members.push(member);
            }
        }
    }
    Ok(match (members.is_empty() || !subscription.has_audience(), is_unsure) {
        (true, _) => None,
        (false, true) => Some(Notice::Everything),
        (false, false) => Some(Notice::Remove(members)),
    })
}

/// All sets of fields that members were ever handed over with. A set that cannot be read is an
/// error: messages with it may hold the person.
fn handed_over_fields(
    client: &mut SpiClient<'_>,
    set: &RelationSet,
    subscription: &Subscription,
) -> Result<BTreeSet<Fields>> {
    let known: Option<JsonB> = set.as_owner(|| {
        let sql = set.sql(&queries::ops::erase::LIST_FIELDS, &[]);
        let row = client.select(&sql, Some(1), &[subscription.id.into()])?.first();
        if row.is_empty() { Ok::<_, Error>(None) } else { Ok(row.get_one()?) }
    })?;
    let Some(JsonB(known)) = known else { return Ok(BTreeSet::new()) };
    serde_json::from_value(known).map_err(|error| Error::UnreadableFields {
        handovers: set.display_name(Relation::Handovers),
        subscription: subscription.id,
        problem: error.to_string(),
    })
}

/// The person's id as a member. None: the person is not a member now.
fn actual_key(
    client: &mut SpiClient<'_>,
    set: &RelationSet,
    table: Option<&Table>,
    segment: Uuid,
    id: &str,
) -> Result<Option<Value>> {
    let versions = versions(client, set, table, segment, &Fields::key(), id)?;
    Ok(versions.into_iter().find(|(_, is_actual)| *is_actual).map(|(member, _)| member))
}

/// Whether other members look like the person in what is handed over without the id.
fn are_shared(
    client: &mut SpiClient<'_>,
    set: &RelationSet,
    table: &Table,
    subscription: &Subscription,
    fields: &Fields,
    id: &str,
    members: &[Value],
) -> Result<bool> {
    let Some(now) = as_stored(table, fields)? else { return Ok(false) };
    let members = JsonB(Value::Array(members.to_vec()));
    let args = [subscription.segment.into(), id.into(), members.into()];
    let shared: Option<bool> = set.as_table_owner(table.owner, || {
        let sql = sql_on(set, table, &queries::ops::erase::HAS_LOOKALIKES, &now);
        Ok(client.select(&sql, Some(1), &args)?.first().get_one()?)
    })?;
    Ok(shared.unwrap_or_default())
}

/// The SQL of a member as the table stores it, with those of the fields that are columns of the
/// table. None: no field is.
fn as_stored(table: &Table, fields: &Fields) -> Result<Option<String>> {
    let has = |column: &str| table.columns.iter().any(|known| known.name == column);
    fields.restrict_to(has).map(|fields| payload::member_as_stored(table, &fields)).transpose()
}

fn sql_on(set: &RelationSet, table: &Table, query: &Query, now: &str) -> String {
    let parts =
        [("table", table.name.as_str()), ("collation", table.id_collation.as_str()), ("now", now)];
    set.sql(query, &parts)
}

/// What the segment table holds of the person, as members with these fields. The flag says whether
/// a row of such a member is current.
fn versions(
    client: &mut SpiClient<'_>,
    set: &RelationSet,
    table: Option<&Table>,
    segment: Uuid,
    fields: &Fields,
    id: &str,
) -> Result<Vec<(Value, bool)>> {
    let Some(table) = table else { return Ok(Vec::new()) };
    let Some(now) = as_stored(table, fields)? else { return Ok(Vec::new()) };
    let found: Option<JsonB> = set.as_table_owner(table.owner, || {
        let sql = sql_on(set, table, &queries::ops::erase::LIST_VERSIONS, &now);
        Ok(client.select(&sql, Some(1), &[segment.into(), id.into()])?.first().get_one()?)
    })?;
    let malformed = |_| Error::MissingValue("versions");
    found.map_or(Ok(Vec::new()), |JsonB(json)| serde_json::from_value(json).map_err(malformed))
}

/// Deletes the person's rows with the rights of the table's owner, and adds their hashes to
/// `hashes`.
fn delete_rows(
    client: &mut SpiClient<'_>,
    set: &RelationSet,
    table: &Table,
    segment: &Segment,
    id: &str,
    hashes: &mut BTreeSet<String>,
) -> Result<u64> {
    set.as_table_owner(table.owner, || {
        let sql = sql_on(set, table, &queries::ops::erase::DELETE_ROWS, "");
        let rows = client.update(&sql, None, &[segment.id.into(), id.into()])?;
        let count = rows.len() as u64;
        for row in rows {
            for column in ["hash_email", "hash_phone"] {
                hashes.extend(row.get_by_name::<String, _>(column)?);
            }
        }
        Ok(count)
    })
}

/// Redacts errors, receipts and one-off queries that mention the person, in a segment's log and
/// state.
fn scrub(set: &RelationSet, segment: Uuid, pattern: &str, id: &str) -> Result<()> {
    let letters: String = id.chars().filter(|c| c.is_alphanumeric()).collect();
    set.as_owner(|| {
        Spi::run_with_args(
            &set.sql(&queries::ops::erase::REDACT_LOG, &[]),
            &[segment.into(), pattern.into(), letters.into()],
        )?;
        Ok(Spi::run_with_args(
            &set.sql(&queries::ops::erase::REDACT_STATE, &[]),
            &[segment.into(), pattern.into()],
        )?)
    })
}

/// A regular expression that matches the id or one of the hashes as a whole word, also in the
/// notation of SQL and JSON. None: there is nothing to match.
fn pattern(id: &str, hashes: &BTreeSet<String>) -> Option<String> {
    let mut tells = hashes.clone();
    for text in [id.to_owned(), id.replace('\'', "''")] {
        let quoted = json!(text).to_string();
        tells.insert(quoted[1..quoted.len() - 1].to_owned());
        tells.insert(text);
    }
    let escape = |text: &String| {
        text.chars().fold(String::new(), |mut escaped, c| {
            if c.is_ascii_punctuation() {
                escaped.push('\\');
            }
            escaped.push(c);
            escaped
        })
    };
    let escaped: Vec<String> = tells.iter().filter(|text| !text.is_empty()).map(escape).collect();
    let any = escaped.join("|");
    (!any.is_empty()).then(|| format!("(^|[^[:alnum:]_])({any})($|[^[:alnum:]_])"))
}

fn log_erased(
    set: &RelationSet,
    segment: &Segment,
    subscription: Option<&Subscription>,
    erased: &Erased,
    run_id: Uuid,
) -> Result<()> {
    let entry = Entry {
        run_id: Some(run_id),
        action: Action::Erase,
        status: LogStatus::Ok,
        segment: (Some(segment.id), &segment.name),
        subscription: subscription
            .map(|subscription| (subscription.id, subscription.target.as_str())),
        counts: LogCounts::default(),
        began: clock::now(),
        elapsed: None,
        message: None,
        error: None,
        params: json!({
            "rows": erased.rows,
            "messages": erased.messages,
            "role": role::name(role::current()),
        }),
    };
    log::write(set, entry)
}

#[cfg(feature = "pg_test")]
#[allow(clippy::expect_used)]
mod tests {
    use pgrx::prelude::*;

    use super::*;

    #[pg_extern]
    fn a_pattern_escapes_punctuation() {
        let found = pattern("a.b|c", &BTreeSet::from(["42".to_owned(), String::new()]));
        assert_eq!(found.as_deref(), Some(r"(^|[^[:alnum:]_])(42|a\.b\|c)($|[^[:alnum:]_])"));
        assert_eq!(pattern("", &BTreeSet::new()), None);
    }

    #[pg_extern]
    fn a_pattern_matches_the_notation_of_sql_and_json() {
        let found = pattern("o'b\"c", &BTreeSet::new()).expect("a pattern");
        for text in [r#"o\'b\"c"#, r#"o\'\'b\"c"#, r#"o\'b\\\"c"#, r#"o\'\'b\\\"c"#] {
            assert!(found.contains(text), "{text} in {found}");
        }
    }
}
