//! Erasing a person: from the segments, from messages, and by telling those who were told of him.

use std::collections::BTreeSet;

use pgrx::JsonB;
use pgrx::datum::Uuid;
use pgrx::prelude::*;
use pgrx::spi::SpiClient;
use serde_json::{Value, json};

use crate::claim;
use crate::config::{Fields, Segment};
use crate::error::{Error, Result};
use crate::handover::latest;
use crate::log::{self, Action, Counts, Entry, Status};
use crate::outbox;
use crate::payload::{self, Source};
use crate::pg::snapshot::Active;
use crate::pg::{clock, lock, role, statement};
use crate::service::Service;
use crate::subscription::{self, Subscription};
use crate::table::Table;

/// What was erased from one segment.
pub struct Erased {
    pub segment: String,
    /// Rows of its table.
    pub rows: u64,
    /// Messages that tell consumers of it.
    pub messages: u64,
}

/// Erases a person from every segment of roles that the caller is a member of.
pub fn erase(service: &Service, id: &str, run_id: Uuid) -> Result<Vec<Erased>> {
    let sql = service.sql(include_str!("../sql/query/erase_segments.sql"), &[]);
    let args = [role::current().into()];
    let segments: Option<Vec<Uuid>> =
        service.run_as_owner(|| Spi::connect(|_| statement::read_one(&sql, &args)))?;
    let mut erased = Vec::new();
    for segment in segments.unwrap_or_default() {
        // A refresh that is going on comes first: it may be about to hand the person over.
        let _held = claim::wait(service, segment)?;
        let (_snapshot, segment) = match latest(service, segment) {
            Ok(latest) => latest,
            Err(Error::UnknownSegment(_)) => continue,
            Err(error) => return Err(error),
        };
        let of_segment = erase_from(service, &segment, id, run_id)?;
        if of_segment.rows > 0 || of_segment.messages > 0 {
            log_erased(service, &segment, None, &of_segment, run_id)?;
            erased.push(of_segment);
        }
    }
    Ok(erased)
}

fn erase_from(service: &Service, segment: &Segment, id: &str, run_id: Uuid) -> Result<Erased> {
    let table = match lock::lock_table(segment.table) {
        true => Some(Table::check(service, segment.table, segment.holder())?),
        // What it held is gone with it.
        false => None,
    };
    let mut erased = Erased { segment: segment.name.clone(), rows: 0, messages: 0 };
    let _snapshot = Active::fresh();
    let subscriptions = subscription::find(service, service.owner, Some(segment.id), None)?;
    Spi::connect_mut(|client| {
        for subscription in &subscriptions {
            let members = take_out(client, service, table.as_ref(), subscription, id)?;
            if members.is_empty() {
                continue;
            }
            erased.messages += outbox::hand_over_removal(
                client,
                &Source { service, table: Err(no_table(segment)), delta: None, run_id },
                subscription,
                members,
            )?;
            let told = Erased { segment: segment.name.clone(), rows: 0, messages: 1 };
            log_erased(service, segment, Some(subscription), &told, run_id)?;
        }
        let mut tells = BTreeSet::from([id.to_owned()]);
        if let Some(table) = &table {
            erased.rows = delete_rows(client, service, table, segment, id, &mut tells)?;
        }
        scrub(client, service, segment, &tells)
    })?;
    Ok(erased)
}

fn no_table(segment: &Segment) -> crate::error::Report {
    Error::TableDropped(segment.name.clone()).report()
}

/// Takes the person out of a subscription's messages. Gives what the consumer may have of him, as
/// members to remove.
fn take_out(
    client: &mut SpiClient<'_>,
    service: &Service,
    table: Option<&Table>,
    subscription: &Subscription,
    id: &str,
) -> Result<Vec<Value>> {
    let sql = service.sql(include_str!("../sql/query/erase_fields.sql"), &[]);
    let logged: Option<JsonB> = service.run_as_owner(|| {
        let row = client.select(&sql, Some(1), &[subscription.id.into()])?.first();
        row.get_one()
    })?;
    let logged = logged.map(|json| json.0).unwrap_or(Value::Array(Vec::new()));
    let mut used: BTreeSet<Fields> = serde_json::from_value(logged).unwrap_or_default();
    let current = subscription.served_fields();
    used.insert(current.clone());

    let mut members = Vec::new();
    let mut probes = Vec::new();
    for fields in &used {
        let versions = versions(client, service, table, subscription.segment, fields, id)?;
        match fields.id_name() {
            Some(name) => probes.push(json!({ name: id })),
            None => probes.extend(versions.iter().map(|(member, _)| member.clone())),
        }
        if fields == current {
            let actual = versions.into_iter().filter(|(_, is_actual)| *is_actual);
            members.extend(actual.map(|(member, _)| member));
        }
    }
    let sql = service.sql(include_str!("../sql/query/erase_messages.sql"), &[]);
    let args = [subscription.id.into(), JsonB(Value::Array(probes)).into()];
    let taken: Option<JsonB> =
        service.run_as_owner(|| client.update(&sql, Some(1), &args)?.first().get_one())?;
    if !subscription.has_audience() {
        return Ok(Vec::new());
    }
    if let Some(JsonB(Value::Array(taken))) = taken {
        for member in taken {
            if !members.contains(&member) {
                members.push(member);
            }
        }
    }
    Ok(members)
}

/// What the segment's table holds, or held, of the person, as members, and whether it is so now.
fn versions(
    client: &mut SpiClient<'_>,
    service: &Service,
    table: Option<&Table>,
    segment: Uuid,
    fields: &Fields,
    id: &str,
) -> Result<Vec<(Value, bool)>> {
    let Some(table) = table else { return Ok(Vec::new()) };
    // Of fields that the table does not have any more nothing can be told.
    let Ok(now) = payload::member_as_stored(table, fields) else { return Ok(Vec::new()) };
    let parts = [
        ("table", table.name.as_str()),
        ("collation", table.id_collation.as_str()),
        ("now", now.as_str()),
    ];
    let sql = service.sql(include_str!("../sql/query/erase_versions.sql"), &parts);
    let found: Option<JsonB> = service.run_as_user(table.owner, || {
        client.select(&sql, Some(1), &[segment.into(), id.into()])?.first().get_one()
    })?;
    Ok(found.and_then(|json| serde_json::from_value(json.0).ok()).unwrap_or_default())
}

/// Deletes the person's rows, with the rights of the table's owner, and notes their hashes.
fn delete_rows(
    client: &mut SpiClient<'_>,
    service: &Service,
    table: &Table,
    segment: &Segment,
    id: &str,
    tells: &mut BTreeSet<String>,
) -> Result<u64> {
    let parts = [("table", table.name.as_str()), ("collation", table.id_collation.as_str())];
    let sql = service.sql(include_str!("../sql/query/erase_rows.sql"), &parts);
    service.run_as_user(table.owner, || {
        let rows = client.update(&sql, None, &[segment.id.into(), id.into()])?;
        let count = rows.len() as u64;
        for row in rows {
            for column in ["hash_email", "hash_phone"] {
                tells.extend(row.get_by_name::<String, _>(column)?);
            }
        }
        Ok(count)
    })
}

/// Takes what errors, consumers and hand-made lists say of the person out of the log.
fn scrub(
    client: &mut SpiClient<'_>,
    service: &Service,
    segment: &Segment,
    tells: &BTreeSet<String>,
) -> Result<()> {
    let Some(pattern) = pattern(tells) else { return Ok(()) };
    service.run_as_owner(|| {
        for text in [
            include_str!("../sql/query/erase_log.sql"),
            include_str!("../sql/query/erase_errors.sql"),
        ] {
            let args = [segment.id.into(), pattern.as_str().into()];
            client.update(&service.sql(text, &[]), None, &args)?;
        }
        Ok(())
    })
}

/// A regular expression that finds any of these as a word of its own; none: there is nothing to find.
fn pattern(tells: &BTreeSet<String>) -> Option<String> {
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
    service: &Service,
    segment: &Segment,
    subscription: Option<&Subscription>,
    erased: &Erased,
    run_id: Uuid,
) -> Result<()> {
    let entry = Entry {
        run_id: Some(run_id),
        action: Action::Erase,
        status: Status::Ok,
        segment: (Some(segment.id), &segment.name),
        subscription: subscription
            .map(|subscription| (subscription.id, subscription.target.as_str())),
        counts: Counts::default(),
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
    log::write(service, entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_takes_nothing_for_a_sign() {
        let tells = BTreeSet::from(["a.b|c\\".to_owned(), String::new(), "42".to_owned()]);
        let found = pattern(&tells).expect("a pattern");
        assert_eq!(found, r"(^|[^[:alnum:]_])(42|a\.b\|c\\)($|[^[:alnum:]_])");
        assert_eq!(pattern(&BTreeSet::from([String::new()])), None);
    }
}
