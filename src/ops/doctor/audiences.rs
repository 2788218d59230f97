//! Checks of audiences: whether they are what the segments are, and whether this database delivers.

use super::findings::Findings;
use super::{rows, texts};
use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::catalog::sequence;
use crate::catalog::viewer::Viewer;
use crate::config::{self, Subject};
use crate::delivery::audiences::{self as reported, Audience};
use crate::error::{Result, counted};
use crate::pg::bgw::activity;
use crate::pg::clock;

/// Schedules of subscriptions that cannot be read, or have no further time.
pub(super) fn schedules(found: &mut Findings, set: &RelationSet, viewer: Viewer) -> Result<()> {
    let now = clock::now();
    let args = [viewer.role.into(), viewer.sees_figures.into()];
    let sql = &queries::ops::doctor::LIST_SUBSCRIPTION_SCHEDULES;
    for [consumer, target, segment, zone, cron, resync] in rows(set, sql, &args)? {
        let [consumer, target, segment] =
            [consumer, target, segment].map(Option::unwrap_or_default);
        let subject = Subject::Subscription(&target);
        let zone = zone.as_deref().unwrap_or(set.timezone());
        for (column, text) in [("cron", cron), ("resync_cron", resync)] {
            let schedule = config::cron(column, text.as_deref(), subject);
            match (schedule, config::timezone("timezone", Some(zone), subject)) {
                (Err(error), _) | (_, Err(error)) => {
                    found.problem(
                        "schedules",
                        error.to_string(),
                        "Correct the subscription's row.",
                    );
                }
                (Ok(Some(schedule)), Ok(Some(zone)))
                    if schedule.next_after(now, zone).is_none() =>
                {
                    let detail = format!(
                        "the {column} of \"{consumer}\" for \"{target}\" of segment \"{segment}\" does not come any more"
                    );
                    found.warn("schedules", detail, format!("Correct {column}."));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Consumers that workers deliver to from another database, of which this one is a copy.
pub(super) fn paused(found: &mut Findings, set: &RelationSet, viewer: Viewer) -> Result<()> {
    let sql = &queries::ops::doctor::PAUSED_CONSUMERS;
    let sees = viewer.sees_figures;
    let args = [viewer.role.into(), set.owner.into(), activity::place().into(), sees.into()];
    for [name, cluster, database] in rows(set, sql, &args)? {
        let name = name.unwrap_or_default();
        let origin = match (cluster, database) {
            (Some(cluster), Some(database)) if !database.is_empty() => format!(
                "this database is a copy of the one that delivers to it, with the OID {database} in the cluster {cluster}"
            ),
            _ => "it is not known whether this database is a copy".into(),
        };
        found.warn(
            "copies",
            format!("deliveries to consumer \"{name}\" are paused: {origin}"),
            "If this database is to deliver now, and the other one no longer does, call segmenter_resume_deliveries().",
        );
    }
    found.close("copies", "no delivery is paused because the database is a copy");
    Ok(())
}

/// Sequences that are behind. They are lifted before they are used.
pub(super) fn sequences(found: &mut Findings, set: &RelationSet) -> Result<()> {
    for [what, through, name] in texts(set, &queries::ops::doctor::SEQUENCE_FINDINGS, &[])? {
        let next = set.as_owner(|| sequence::next_id(set, &name))?;
        if through.parse::<i64>().is_ok_and(|through| next > through) {
            continue;
        }
        found.warn(
            "sequences",
            format!("the next {what} gets id {next}, but there was one with id {through}"),
            "The next refresh lifts the sequence. Find out why it is behind: a logical replica has no sequences, and a restore in parts can leave them out.",
        );
    }
    found.close("sequences", "ids of messages and log entries grow");
    Ok(())
}

/// Audiences that are known to differ from their segments.
pub(super) fn differences(found: &mut Findings, set: &RelationSet, viewer: Viewer) -> Result<()> {
    const RESYNC: &str = "segmenter_resync() hands over all members.";
    let sql = &queries::ops::doctor::AUDIENCE_FINDINGS;
    let args = [viewer.role.into(), set.owner.into(), viewer.sees_figures.into()];
    let number = |text: Option<String>| text.and_then(|text| text.parse::<i64>().ok());
    for row in rows(set, sql, &args)? {
        let [
            consumer,
            target,
            segment,
            refused,
            skipped,
            skipped_members,
            left_out,
            given,
            counted_there,
        ] = row;
        let [consumer, target, segment] =
            [consumer, target, segment].map(Option::unwrap_or_default);
        let audience =
            format!("the audience of \"{consumer}\" for \"{target}\" of segment \"{segment}\"");
        let members = |count: i64| counted(count, "member");
        if let Some(refused) = number(refused) {
            found.warn(
                "audiences",
                format!("{audience} lacks changes: the consumer refused {}", members(refused)),
                format!("The receipts in the log say when. {RESYNC}"),
            );
        }
        if let Some(skipped) = number(skipped) {
            let lost = members(number(skipped_members).unwrap_or_default());
            found.warn(
                "audiences",
                format!(
                    "{audience} lacks changes: {} with {lost} were skipped",
                    counted(skipped, "message")
                ),
                RESYNC,
            );
        }
        if let Some(left_out) = number(left_out) {
            found.warn(
                "audiences",
                format!(
                    "{audience} is without {}, which cannot be part of a message",
                    members(left_out)
                ),
                "The log's entries of the hand-over name an id, the column and the reason.",
            );
        }
        if let (Some(counted_there), Some(given)) = (number(counted_there), number(given)) {
            found.warn(
                "audiences",
                format!("{audience} has {} by the consumer's receipt, {given} were handed over", members(counted_there)),
                format!("{RESYNC} A target system that counts only members it could match should leave \"coverage\" out of its receipts."),
            );
        }
    }
    for row in reported::list(set, viewer)? {
        let Audience { consumer, target, segment, state, members, size, .. } = row;
        let [target, segment] = [target, segment].map(Option::unwrap_or_default);
        let audience =
            format!("the audience of \"{consumer}\" for \"{target}\" of segment \"{segment}\"");
        if state == "missing" {
            found.warn(
                "audiences",
                format!("{audience} is missing by the consumer's last report"),
                "To create it again, end the subscription, and make it active again after the next run.",
            );
        }
        if row.is_over {
            found.warn(
                "audiences",
                format!(
                    "{audience} has {} by the consumer's last report, {} were handed over: that is more than max_drift",
                    counted(size.unwrap_or_default(), "member"),
                    members.unwrap_or_default()
                ),
                match row.heals {
                    true => "The next run hands over all members.",
                    false => RESYNC,
                },
            );
        }
    }
    let sql = &queries::ops::doctor::UNANSWERED_QUESTIONS;
    for [consumer, detail] in texts(set, sql, &args)? {
        found.warn(
            "audiences",
            format!("consumer \"{consumer}\" was asked for its audiences, and did not answer: {detail}"),
            "It is asked again after an hour at the latest. Its function must return an object with the key audiences for the operation \"list\"; without list_every in its params it is not asked.",
        );
    }
    found.close_segments("audiences", "no audience is known to differ from its segment");
    Ok(())
}
