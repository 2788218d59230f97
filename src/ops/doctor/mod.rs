//! Health checks of a database: background workers, segments, sources, consumers and deliveries.

use chrono::TimeDelta;
use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;
use pgrx::spi::SpiHeapTupleData;

use crate::catalog::queries;
use crate::catalog::query::Query;
use crate::catalog::registry::RegisteredSet;
use crate::catalog::relation_set::{Relation, RelationSet};
use crate::catalog::settings;
use crate::catalog::viewer::Viewer;
use crate::config::segment_table::{Holder, Table};
use crate::delivery::connector;
use crate::delivery::push::is_allowed;
use crate::error::{Error, Report, Result, SCHEMA_VERSION, SetError};
use crate::pg::bgw::job_table;
use crate::pg::bgw::process;
use crate::pg::clock;
use crate::pg::exec::role;
use crate::pg::exec::statement::read_one;
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};
use crate::pg::system_catalog;
use crate::schedule::due::{self, Item};
use crate::schedule::run::PlannedRefresh;
use segmenter_core::due::Due;

mod alerts;
mod audiences;
mod clocks;
mod exclusion;
mod families;
mod findings;
mod incremental;
mod lineage;
mod members;
mod refreshes;
mod replication;
mod retention;
mod roles;

use findings::Findings;
pub use findings::{Finding, Level};

/// Heartbeat age after which a scheduler is reported as stuck.
const SCHEDULER_STALE_AFTER: TimeDelta = TimeDelta::seconds(60);
/// Time after which a segment that is due but not refreshed is reported.
const OVERDUE: TimeDelta = TimeDelta::minutes(2);

/// Runs all checks on the current set, on what the caller may see. Returns the findings in the order
/// of the checks, the summary last. Of a set that is not what it was made as, only that is checked.
pub fn examine_current() -> Result<Vec<Finding>> {
    match RelationSet::current() {
        Err(Error::Set(error)) if error.is_broken() => {
            let mut findings = Findings::default();
            broken(&mut findings, &error);
            findings.sum_up();
            Ok(findings.rows)
        }
        set => {
            let set = set?;
            examine(&set, Viewer::current(&set))
        }
    }
}

/// Runs all checks on a set, on what a viewer may see.
pub fn examine(set: &RelationSet, viewer: Viewer) -> Result<Vec<Finding>> {
    let items = due::items(set, viewer.reader(), None)?;
    let (_, database) = process::current_database();
    // The server's settings and jobs do not belong to the set: read them as the extension's owner.
    let ask_server = |query: &Query| -> Result<Vec<Option<String>>> {
        Ok(set.extension.read(query, &[])?.unwrap_or_default())
    };
    let server = ask_server(&queries::ops::doctor::SERVER_SETTINGS)?;
    let [zone, cron, room, decided] = [0, 1, 2, 3].map(|at| server.get(at).cloned().flatten());
    let jobs = match cron {
        Some(_) => ask_server(&queries::ops::doctor::CRON_JOBS)?,
        None => Vec::new(),
    };
    let is_served = job_table::is_initialized() && settings::databases().contains(&database);

    let mut findings = Findings::default();
    sets(&mut findings, set, is_served)?;
    roles::segments(&mut findings, set, viewer)?;
    // The same for every caller: it is a fact of the server.
    let is_automatic = set.as_owner(|| {
        let sql = set.sql(&queries::ops::doctor::NEEDS_WORKERS, &[]);
        Spi::connect(|_| read_one::<bool>(&sql, &[]))
    })?;
    let is_automatic = is_automatic.unwrap_or_default();
    server_side(&mut findings, &database, (!jobs.is_empty(), is_automatic), room);
    cron_jobs(&mut findings, &jobs, is_served);
    audiences::schedules(&mut findings, set, viewer)?;
    schedules(&mut findings, &items, is_served);
    held(&mut findings, &items);
    if is_served {
        owners(&mut findings, set, &items);
    }
    tables(&mut findings, set, &items);
    families::check(&mut findings, set, viewer)?;
    roles::roles(&mut findings, set, viewer)?;
    refreshes::check(&mut findings, set, viewer, &items)?;
    clocks::clocks(&mut findings, set, viewer)?;
    let zone = (zone.unwrap_or_default(), decided.is_some());
    clocks::zones(&mut findings, set, (viewer, &items), zone)?;
    members::check(&mut findings, set, &items)?;
    retention::check(&mut findings, set, viewer, is_served)?;
    exclusion::lists(&mut findings, set, (viewer, &items, is_served))?;
    sources(&mut findings, set, viewer)?;
    lineage::unknown_segments(&mut findings, set, viewer)?;
    vacuum(&mut findings, set, viewer)?;
    replication::replication(&mut findings, set, viewer)?;
    incremental::examine(&mut findings, set, viewer, &items)?;
    consumers(&mut findings, set, viewer, is_served)?;
    consents(&mut findings, set, viewer)?;
    deliveries(&mut findings, set, viewer)?;
    alerts::check(&mut findings, set, viewer)?;
    audiences::differences(&mut findings, set, viewer)?;
    audiences::paused(&mut findings, set, viewer)?;
    audiences::sequences(&mut findings, set)?;
    findings.sum_up();
    Ok(findings.rows)
}

/// The hint that names the settings that are missing for the workers to serve a database. None:
/// nothing is missing.
pub fn missing_settings(database: &str) -> Option<String> {
    let mut databases = settings::databases();
    let is_listed = databases.iter().any(|name| name == database);
    if job_table::is_initialized() && is_listed {
        return None;
    }
    if !is_listed {
        databases.push(database.to_owned());
    }
    let is_plain = |name: &str| name.chars().all(|c| c.is_alphanumeric() || "_-.".contains(c));
    let list = databases.iter().map(|name| match is_plain(name) {
        true => name.clone(),
        false => format!("\"{}\"", name.replace('"', "\"\"")),
    });
    let list = list.collect::<Vec<_>>().join(", ").replace('\'', "''");
    Some(format!(
        "Set shared_preload_libraries = 'segmenter' (beside what is there; needs a restart) and segmenter.databases = '{list}', or have pg_cron call segmenter_run_each()."
    ))
}

/// A set that is not what it was made as.
fn broken(found: &mut Findings, error: &SetError) {
    let detail = format!("{error}: nothing of it is refreshed or delivered");
    found.problem("sets", detail, error.hint().unwrap_or_default());
}

/// Relation sets, of all owners, that the update of the extension could not migrate, or that are not
/// what they were made as, or that no worker can serve.
fn sets(found: &mut Findings, set: &RelationSet, is_served: bool) -> Result<()> {
    let sql = &queries::catalog::migrate::LIST_OUTDATED_SETS;
    let outdated: Option<Vec<pg_sys::Oid>> = set.extension.read(sql, &[SCHEMA_VERSION.into()])?;
    for mart in outdated.unwrap_or_default() {
        let name = system_catalog::display_name(mart);
        let detail = format!("relation set {name} has an older version of its definition");
        found.problem("sets", detail, SetError::migrate_hint(&name));
    }
    for RegisteredSet { mart, owner, is_own, .. } in set.extension.sets()? {
        let server = owner.filter(|_| is_served && !is_own);
        if let Some(owner) = server
            && !(role::can_log_in(owner)? && role::can_connect(owner)?)
        {
            let (name, owner) = (system_catalog::display_name(mart), role::name(owner));
            found.problem(
                "sets",
                format!("relation set {name} is not served: its owner \"{owner}\" cannot log in"),
                "A worker is connected as the owner of the set: give the role LOGIN, and CONNECT on the database.",
            );
        }
        match RelationSet::of_any_version(set.extension.clone(), mart) {
            Err(Error::Set(error)) if error.is_broken() => broken(found, &error),
            other => drop(other?),
        }
    }
    found.close("sets", "every relation set has the current version and is what it was made as");
    Ok(())
}

/// `is_automatic`: a segment is refreshed, or a consumer served, without a session that asks for it.
fn server_side(
    found: &mut Findings,
    database: &str,
    (has_jobs, is_automatic): (bool, bool),
    room: Option<String>,
) {
    if process::is_in_recovery() {
        found.ok("scheduler", "the server is a standby: segments are refreshed on the primary");
        return;
    }
    if let Some(hint) = missing_settings(database) {
        let (check, detail) = if job_table::is_initialized() {
            ("database", format!("database \"{database}\" is not in segmenter.databases"))
        } else {
            ("library", "segmenter is not in shared_preload_libraries".to_owned())
        };
        if has_jobs {
            found.ok(check, format!("{detail}: pg_cron refreshes its segments"));
        } else if !is_automatic {
            found.ok(check, format!("{detail}: no segment and no consumer needs it"));
        } else {
            found.problem(check, format!("{detail}: segments are not refreshed on schedule"), hint);
        }
        return;
    }
    found.ok("library", "segmenter is preloaded");
    found.ok("database", format!("database \"{database}\" is in segmenter.databases"));
    match job_table::scheduler(process::current_database().0) {
        None => found.problem(
            "scheduler",
            "there is no scheduler for this database".into(),
            "It is started again within a minute; if it is not, the server's log says why, and max_worker_processes may be too low.",
        ),
        Some(scheduler) => {
            let ago = clock::now() - scheduler.last_heartbeat();
            let detail = format!(
                "process {}, last heartbeat {} s ago",
                scheduler.pid,
                ago.num_seconds().max(0)
            );
            if ago > SCHEDULER_STALE_AFTER {
                let hint = "See in pg_stat_activity and pg_locks what it waits for; pg_terminate_backend() has it started again.";
                found.problem("scheduler", detail, hint);
            } else {
                found.ok("scheduler", detail);
            }
        }
    }
    let wanted =
        2 + settings::databases().len() + settings::max_workers() + settings::max_deliveries();
    match room.and_then(|room| room.parse::<usize>().ok()) {
        Some(room) if room < wanted => found.warn(
            "max_worker_processes",
            format!("it is {room}; the workers may need {wanted}, and parallel queries some more"),
            format!("Raise max_worker_processes to {} or more.", wanted + 4),
        ),
        _ => found.ok("max_worker_processes", "there is room for the workers"),
    }
}

fn cron_jobs(found: &mut Findings, jobs: &[Option<String>], is_served: bool) {
    let jobs = jobs.iter().flatten().cloned().collect::<Vec<_>>().join(", ");
    if is_served && !jobs.is_empty() {
        found.warn(
            "pg_cron",
            format!("pg_cron refreshes segments too: job {jobs}"),
            "One of both will do: cron.unschedule() the job, or take the database out of segmenter.databases.",
        );
    } else {
        found.ok(
            "pg_cron",
            if jobs.is_empty() { "no job refreshes segments" } else { "it refreshes segments" },
        );
    }
}

fn schedules(found: &mut Findings, items: &[Item], is_served: bool) {
    let now = clock::now();
    let running: Vec<_> = segments_with_jobs();
    for item in items {
        let name = &item.name;
        if let Some(problem) = &item.problem {
            found.problem(
                "schedules",
                problem.clone(),
                "Correct refresh_cron or refresh_timezone.",
            );
        }
        if item.due == Some(Due::Never) && item.problem.is_none() {
            let detail = format!("the schedule of segment \"{name}\" does not come any more");
            found.warn("schedules", detail, "Correct refresh_cron.");
        }
        let due = if is_served { item.next(now) } else { item.due.and_then(Due::at) };
        let Some(due) = due.filter(|due| now - *due > OVERDUE) else { continue };
        if item.waiting_since.is_none() && !running.contains(&item.id) {
            found.problem(
                "due",
                format!("segment \"{name}\" has been due since {}", due.format("%F %T UTC")),
                "See whether workers are busy (pg_stat_activity) and what the log says of it.",
            );
        }
    }
    found.close_segments("schedules", "every schedule comes again");
    found.close_segments("due", "no segment is overdue");
}

/// Segments whose automatic refreshes rest: a decision, and not a finding to be alerted on.
fn held(found: &mut Findings, items: &[Item]) {
    for item in items {
        if let Some(held) = item.held() {
            let detail =
                format!("segment \"{}\" is {held}: it is refreshed by hand only", item.name);
            found.ok("held", detail);
        }
    }
}

fn segments_with_jobs() -> Vec<pgrx::datum::Uuid> {
    if !job_table::is_initialized() {
        return Vec::new();
    }
    let jobs = job_table::jobs(process::current_database().0);
    jobs.iter().filter_map(|job| job.segment()).collect()
}

fn owners(found: &mut Findings, set: &RelationSet, items: &[Item]) {
    for item in items.iter().filter(|item| item.due.is_some()) {
        let mut planned = PlannedRefresh::standalone(item.id, item.name.clone());
        planned.owner = item.owner;
        if let Some(obstacle) = planned.blocking_error(set) {
            let Report { message, hint, .. } = obstacle.report();
            found.add("owners", Level::Problem, message, hint);
        }
    }
    found.close_segments("owners", "every owner can log in");
}

fn tables(found: &mut Findings, set: &RelationSet, items: &[Item]) {
    // An owner that does not exist has no rights on any table: `roles` reports it.
    for item in items.iter().filter(|item| role::exists(item.owner)) {
        let holder = Holder { id: item.id, name: &item.name, owner: item.owner };
        let checked = in_subtransaction(OnSuccess::Rollback, || {
            let table = Table::check(set, item.table, holder)?;
            table.check_usable(set, holder)?;
            Ok(table.caution())
        });
        match checked {
            Err(error) => {
                let Report { message, hint, .. } = error.report();
                let detail = format!("segment \"{}\": {message}", item.name);
                found.add("tables", Level::Problem, detail, hint);
            }
            Ok(Some((caution, hint))) => {
                found.warn("tables", format!("segment \"{}\": {caution}", item.name), hint);
            }
            Ok(None) => {}
        }
    }
    found.close_segments("tables", "every segment's table is as it has to be");
}

fn sources(found: &mut Findings, set: &RelationSet, viewer: Viewer) -> Result<()> {
    let sql = &queries::ops::doctor::UNINDEXED_SOURCES;
    for [name, table, column] in texts(set, sql, &[viewer.role.into(), viewer.sees_figures.into()])?
    {
        found.warn(
            "sources",
            format!("source {table} of segment \"{name}\" has no index on {column}"),
            format!(
                "create index on {table} ({}): it is read at every look whether the source is loaded.",
                pgrx::spi::quote_identifier(&column)
            ),
        );
    }
    found.close_segments("sources", "load times are found by an index");
    Ok(())
}

fn vacuum(found: &mut Findings, set: &RelationSet, viewer: Viewer) -> Result<()> {
    let sql = &queries::ops::doctor::UNVACUUMED_TABLES;
    for [table] in texts(set, sql, &[viewer.role.into(), viewer.sees_figures.into()])? {
        found.warn(
            "vacuum",
            format!("table {table} was never vacuumed and has many dead rows"),
            format!("See whether autovacuum is on for it, and vacuum (analyze) {table}."),
        );
    }
    found.close_segments("vacuum", "no segment table lacks it");
    Ok(())
}

fn consumers(
    found: &mut Findings,
    set: &RelationSet,
    viewer: Viewer,
    is_served: bool,
) -> Result<()> {
    let sql = &queries::ops::doctor::PUSHED_CONSUMERS;
    let args = [viewer.role.into(), set.owner.into(), viewer.sees_figures.into()];
    for [name, function, role, url, acts, server] in rows(set, sql, &args)? {
        let name = name.unwrap_or_default();
        if !is_served {
            found.problem(
                "consumers",
                format!("messages are not delivered to consumer \"{name}\": the background workers do not serve this database"),
                "See the checks \"library\" and \"database\", or have it claim its messages: {\"updater\": \"pull\"}.",
            );
        }
        if let Some(url) = url.as_ref().and_then(|url| url.parse().ok())
            && !is_allowed(&url)
        {
            let url = if acts.is_some() { url.to_string() } else { "its URL".into() };
            let Report { message, hint, .. } = Error::NotAllowed { url }.report();
            let detail = format!("consumer \"{name}\": {message}");
            found.add("consumers", Level::Problem, detail, hint);
        }
        if let Some(server) = &server
            && acts.is_some()
        {
            let of = role.as_deref().and_then(|role| role.parse().ok()).map(pg_sys::Oid::from_u32);
            if let Err(error) = connector::connect(set, of, server) {
                let Report { message, hint, .. } = error.report();
                let detail = format!("consumer \"{name}\": {message}");
                found.add("consumers", Level::Problem, detail, hint);
            }
        }
        if function.is_some() && role.is_none() {
            found.problem(
                "consumers",
                format!("consumer \"{name}\" has no role to call its function with"),
                format!(
                    "Give it one: update {} set role = ... for it.",
                    set.display_name(Relation::Consumers)
                ),
            );
        }
    }
    found.close_segments("consumers", "every consumer can be served");
    Ok(())
}

fn deliveries(found: &mut Findings, set: &RelationSet, viewer: Viewer) -> Result<()> {
    let sql = &queries::ops::doctor::DELIVERY_FINDINGS;
    let args = [viewer.role.into(), set.owner.into(), viewer.sees_figures.into()];
    let mut decided = Vec::new();
    for [consumer, target, segment, what, detail] in texts(set, sql, &args)? {
        let subscription = format!("\"{consumer}\" for \"{target}\" of segment \"{segment}\"");
        match what.as_str() {
            "paused" => decided.push((subscription, "it is paused".to_owned())),
            "small" => decided.push((subscription, detail)),
            "held" => found.warn(
                "deliveries",
                format!("changes are held back from {subscription}: {detail}"),
                "They are handed over once it has as many members; or change min_members in the subscription's params.",
            ),
            "failed" => found.problem(
                "deliveries",
                format!("delivery to {subscription} has failed: {detail}"),
                "Fix the cause, then call segmenter_retry(), segmenter_skip() or segmenter_resync().",
            ),
            "end" => found.problem(
                "deliveries",
                format!("the end of {subscription} is not delivered, so that the audience may still be there: {detail}"),
                "Fix the cause, then call segmenter_retry(); or segmenter_skip() for each message, if the audience was deleted by hand.",
            ),
            "lost" => found.problem(
                "deliveries",
                format!("messages for {subscription} were deleted before they were delivered"),
                "The segment's next run makes up for it: it hands all members over, or the end of the audience once more. Delivered messages are deleted by themselves; segmenter_skip() leaves one out.",
            ),
            "lost events" => found.problem(
                "deliveries",
                format!("events for {subscription} were deleted before they were delivered"),
                "They are not written again, and this problem remains until the next events are written. segmenter_timeline() and the history of the segment's table show what has happened.",
            ),
            "broken" => found.problem(
                "deliveries",
                format!("no messages could be written for {subscription}: {detail}"),
                "Correct the subscription's params; then all members are handed over.",
            ),
            _ => found.warn(
                "deliveries",
                format!("a message to {subscription} has been waiting since {detail}"),
                format!(
                    "See whether the consumer claims its messages, and what delivery_error in {} says.",
                    set.display_name(Relation::Status)
                ),
            ),
        }
    }
    found.close_segments("deliveries", "no message has been waiting for a day");
    // To pause it, and how many members its audience has at least, is a decision.
    for (subscription, why) in decided {
        found.ok("deliveries", format!("changes are held back from {subscription}: {why}"));
    }
    Ok(())
}

/// Subscriptions that the consumer has not permitted: version 1.0.0 did not ask for it.
fn consents(found: &mut Findings, set: &RelationSet, viewer: Viewer) -> Result<()> {
    let sql = &queries::ops::doctor::MISSING_CONSENTS;
    let args = [viewer.role.into(), set.owner.into(), viewer.sees_figures.into()];
    for [consumer, target, segment, owner] in texts(set, sql, &args)? {
        let role = pgrx::spi::quote_literal(&owner);
        found.warn(
            "consents",
            format!("consumer \"{consumer}\" has not permitted the subscription for \"{target}\" of segment \"{segment}\", which belongs to {owner}"),
            format!(
                "If it is right, members of the consumer's role can permit it: update {} set subscribers = subscribers || {role}::regrole for it. Otherwise they can end the subscription.",
                set.display_name(Relation::Consumers)
            ),
        );
    }
    found.close_segments("consents", "every subscription is permitted by its consumer");
    Ok(())
}

/// The rows of a query whose columns are texts, in the order of its header. NULL becomes an empty
/// text.
fn texts<const COLUMNS: usize>(
    set: &RelationSet,
    query: &Query,
    args: &[DatumWithOid<'_>],
) -> Result<Vec<[String; COLUMNS]>> {
    let rows = rows(set, query, args)?.into_iter();
    Ok(rows.map(|row| row.map(Option::unwrap_or_default)).collect())
}

/// The rows of a query whose columns are texts, in the order of its header.
fn rows<const COLUMNS: usize>(
    set: &RelationSet,
    query: &Query,
    args: &[DatumWithOid<'_>],
) -> Result<Vec<[Option<String>; COLUMNS]>> {
    let read = |row: SpiHeapTupleData<'_>| {
        let mut values = [const { None }; COLUMNS];
        for (value, ordinal) in values.iter_mut().zip(1..) {
            *value = row.get(ordinal)?;
        }
        Ok(values)
    };
    set.as_owner(|| {
        Spi::connect(|client| client.select(&set.sql(query, &[]), None, args)?.map(read).collect())
    })
}
