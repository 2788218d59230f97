//! The outcome of a refresh, as it is reported in its result, in the log and in a WARNING.

use pgrx::JsonB;
use pgrx::datum::Timestamp;
use pgrx::prelude::*;
use serde_json::{Value, json};

use super::{Applied, RefreshRequest, follow};
use crate::catalog::log::LogStatus;
use crate::config::Segment;
use crate::error::{Error, Report, Result, counted};
use crate::pg::exec::role;
use crate::refresh::exclusion::LeftOut;
use segmenter_core::content::{Content, Edited};
use segmenter_core::guards::DeltaStats;
use segmenter_core::reason::Reason;

/// The outcome of a refresh.
pub struct Ending {
    pub status: LogStatus,
    pub figures: Option<DeltaStats>,
    pub messages: Option<i64>,
    pub at: Option<Timestamp>,
    pub message: Option<String>,
    pub error: Option<Report>,
    /// Details of an incremental pass, for the log.
    pub pass: Option<Value>,
    /// The checkpoint of an incremental refresh.
    pub checkpoint: Option<Value>,
    /// The sources whose newest load time lies in the future.
    pub ahead: Vec<String>,
    /// What the segment's table holds after the refresh; none: not known.
    pub content: Option<Content>,
    /// The segment's lists as it has seen them.
    pub lists: Option<JsonB>,
    /// Rows of the table were changed by hand before, or put into it before the first refresh.
    pub is_edited: bool,
    /// Why the refresh has changed members itself.
    pub reason: Option<Reason>,
    /// Members that have left before, because of lists, or because they are kept out, for the log.
    pub closed: Option<Value>,
    /// False where the segment was busy, the caller may not refresh it, or another session has
    /// refreshed it since the caller's snapshot: nothing was attempted, and the entry does not
    /// count for the segment's schedule. For a worker, to find that it may not refresh its segment is
    /// an attempt.
    pub attempted: bool,
}

impl Ending {
    pub fn of(
        result: Result<Applied>,
        request: &RefreshRequest<'_>,
        segment: Option<&Segment>,
    ) -> Self {
        let plain = |status, message: String| Self {
            status,
            figures: None,
            messages: None,
            at: None,
            message: Some(message),
            error: None,
            pass: None,
            checkpoint: None,
            ahead: Vec::new(),
            content: None,
            lists: None,
            is_edited: false,
            reason: None,
            closed: None,
            attempted: true,
        };
        match result {
            Ok(done) => {
                let message = remark(&done, request);
                // Those that have left before it count as removed by it.
                let removed = done.closed.all();
                let figures = DeltaStats {
                    removed: done.figures.removed + removed,
                    before: done.figures.before + removed,
                    ..done.figures
                };
                let ahead = done.ahead;
                let (pass, checkpoint) = match done.progress {
                    Some(progress) => (Some(progress.pass), Some(progress.checkpoint)),
                    None => (None, None),
                };
                Self {
                    status: LogStatus::Ok,
                    figures: Some(figures),
                    messages: Some((done.handed.messages + done.closed.messages) as i64),
                    at: Some(done.at),
                    message,
                    error: None,
                    pass,
                    checkpoint,
                    ahead,
                    content: done.content,
                    lists: done.lists,
                    is_edited: done.is_edited,
                    reason: done.reason,
                    closed: done.closed.record(),
                    attempted: true,
                }
            }
            Err(error @ (Error::Busy { .. } | Error::Held { .. })) if request.skip_busy => {
                Self { attempted: false, ..plain(LogStatus::Skipped, error.to_string()) }
            }
            Err(error @ Error::Cancelled { .. }) => {
                plain(LogStatus::Interrupted, error.to_string())
            }
            Err(error @ Error::NotLoaded(_)) => plain(LogStatus::Waiting, error.to_string()),
            Err(error) => {
                let error = advise(error);
                let report = with_owner(error.report(), segment);
                let (status, figures) = match &error {
                    Error::Refused(refusal) => (LogStatus::Refused, Some(refusal.figures)),
                    _ => (LogStatus::Failed, None),
                };
                Self {
                    status,
                    figures,
                    messages: None,
                    at: None,
                    message: Some(report.message.clone()),
                    error: Some(report),
                    pass: None,
                    checkpoint: None,
                    ahead: Vec::new(),
                    content: None,
                    lists: None,
                    is_edited: false,
                    reason: None,
                    closed: None,
                    attempted: match error {
                        Error::Busy { .. } | Error::Superseded(_) => false,
                        Error::NotPermitted { .. } => request.is_scheduled,
                        _ => true,
                    },
                }
            }
        }
    }
}

/// The hint for a name that the search_path of a segment's SQL does not find.
pub const QUALIFY: &str = "A segment's SQL runs with search_path = pg_catalog and the extension's schema, which is left out if other roles may create objects in it: qualify all other names with their schemas.";

/// Adds hints to an error of a segment's SQL that follow from how Segmenter runs it.
pub fn advise(error: Error) -> Error {
    match error {
        Error::Postgres(report) => Error::Postgres(Box::new(advise_report(*report))),
        error => error,
    }
}

fn advise_report(mut report: Report) -> Report {
    use PgSqlErrorCode as Code;
    let code = PgSqlErrorCode::from(report.sqlstate);
    let hint = match code {
        Code::ERRCODE_UNDEFINED_TABLE
        | Code::ERRCODE_UNDEFINED_OBJECT
        | Code::ERRCODE_UNDEFINED_FUNCTION => QUALIFY,
        Code::ERRCODE_READ_ONLY_SQL_TRANSACTION => {
            "A query and the functions that it calls may only read. To write, use a procedure: {\"procedure\": {\"sql\": \"call ...()\"}}."
        }
        Code::ERRCODE_UNDEFINED_PARAMETER => {
            "There is no value for it: write the value itself into the SQL."
        }
        Code::ERRCODE_INVALID_TRANSACTION_TERMINATION => {
            "A procedure runs within the refresh's transaction: leave COMMIT and ROLLBACK out."
        }
        _ => return report,
    };
    report.hint = match report.hint.take() {
        // Of a function that it does not find, PostgreSQL says which casts could help.
        Some(given) if code == Code::ERRCODE_UNDEFINED_FUNCTION => Some(format!("{given} {hint}")),
        None if code == Code::ERRCODE_UNDEFINED_FUNCTION => None,
        given => given.or_else(|| Some(hint.into())),
    };
    report
}

/// An error of a segment's SQL, with what follows from how Segmenter runs it.
pub fn explain(error: Error, segment: Option<&Segment>) -> Error {
    match advise(error) {
        Error::Postgres(report) => Error::Postgres(Box::new(with_owner(*report, segment))),
        error => error,
    }
}

/// Says with whose rights a segment's SQL runs, where they do not suffice.
fn with_owner(mut report: Report, segment: Option<&Segment>) -> Report {
    let is_refused = report.sqlstate == PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE as i32;
    if let (true, None, Some(segment)) = (is_refused, &report.detail, segment) {
        report.detail = Some(format!(
            "The segment's SQL runs with the rights of role \"{}\".",
            role::name(segment.owner)
        ));
    }
    report
}

/// A remark about rows that were changed by hand.
fn by_hand(Edited { before, found }: Edited) -> String {
    let rows = match before == found {
        true => format!("{} before and after", counted(before as i64, "member")),
        false => format!("{} before, {found} after", counted(before as i64, "member")),
    };
    format!(
        "rows of the table were changed by hand since the last refresh ({rows}): each audience gets all members"
    )
}

/// Names columns that are given no longer, and says what becomes of their values.
pub fn columns_that_stay(names: &[String]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("\"{name}\"")).collect();
    let (columns, values) = match names.len() {
        1 => ("column", "its last values stay"),
        _ => ("columns", "their last values stay"),
    };
    format!("the {columns} {} of its table: {values}", quoted.join(", "))
}

/// Why people are left out, or have left, since they were erased.
fn kept_out(count: u64) -> &'static str {
    match count {
        1 => "the person was erased and is kept out",
        _ => "people were erased and are kept out",
    }
}

/// A remark about rows that were left out.
fn left_out(count: u64, LeftOut { lists, are_kept_out }: &LeftOut) -> String {
    let rows = match count {
        1 => "1 row was".to_owned(),
        many => format!("{many} rows were"),
    };
    let lists: Vec<_> = lists.iter().map(|list| format!("\"{list}\"")).collect();
    let kept_out = kept_out(count);
    let why = match (lists.is_empty(), are_kept_out) {
        (true, _) => kept_out.to_owned(),
        (false, false) => format!("their members are in {}", lists.join(", ")),
        (false, true) => format!("their members are in {}, or {kept_out}", lists.join(", ")),
    };
    format!("{rows} left out: {why}")
}

/// Remarks about a successful refresh, separated by semicolons; none: there are none.
fn remark(done: &Applied, request: &RefreshRequest<'_>) -> Option<String> {
    let mut remarks = done.late.clone();
    remarks.extend(done.edited.map(by_hand));
    remarks.extend(done.unusual.iter().cloned());
    if !done.kept.is_empty() {
        remarks.push(format!("it no longer gives {}", columns_that_stay(&done.kept)));
    }
    if request.dry_run {
        remarks.push("dry run: nothing was changed".to_owned());
    }
    let long = done.long_ids.as_ref();
    match done.figures.invalid - long.map_or(0, |long| long.count) {
        0 => {}
        1 => remarks.push("1 row without an id was left out".to_owned()),
        many => remarks.push(format!("{many} rows without an id were left out")),
    }
    remarks.extend(long.map(|long| long.error().to_string()));
    if done.figures.excluded > 0 {
        remarks.push(left_out(done.figures.excluded, &done.left_out));
    }
    if done.closed.kept_out > 0 {
        let members = counted(done.closed.kept_out as i64, "member");
        remarks.push(format!("{members} removed: {}", kept_out(done.closed.kept_out)));
    }
    if done.closed.removed > 0 {
        remarks.push(follow::remark(done.closed.removed));
    }
    remarks.extend(done.progress.as_ref().and_then(|progress| progress.remark.clone()));
    remarks.extend(done.handed.remark());
    (!remarks.is_empty()).then(|| remarks.join("; "))
}

pub fn params(
    request: &RefreshRequest<'_>,
    segment: Option<&Segment>,
    ended: Option<&Ending>,
) -> Value {
    let refresher = match (request.query, segment) {
        (Some(sql), _) => json!({"query": {"sql": sql}}),
        (None, Some(Segment { refresher: Some(refresher), .. })) => json!(refresher),
        (None, _) => json!({}),
    };
    let mut params = json!({
        "refresh_params": refresher,
        "one_off": request.query.is_some(),
        "force": request.force,
        "role": role::name(role::current()),
    });
    if let Some(Segment { exempt: Value::Object(exempt), .. }) = segment {
        params["exempt"] = json!(exempt);
    }
    if let Some(ended) = ended {
        params["at"] = json!(ended.at);
        if let Some(pass) = &ended.pass {
            params["incremental"] = pass.clone();
        }
        if let Some(closed) = &ended.closed {
            params["closed"] = closed.clone();
        }
        if !ended.attempted {
            params["attempted"] = Value::Bool(false);
        }
    }
    params
}

#[cfg(feature = "pg_test")]
mod tests {
    use pgrx::prelude::*;

    use super::*;
    use crate::config::Key;
    use crate::error::Holder;
    use crate::pg::format::uuid;

    #[pg_extern]
    fn a_worker_that_may_not_refresh_its_segment_has_tried_it() {
        let id = uuid::time_ordered();
        let request = |is_scheduled| RefreshRequest {
            segment: Key::Id(id),
            name: "vip",
            query: None,
            dry_run: false,
            force: false,
            full: false,
            skip_busy: false,
            is_scheduled,
            ends_only: false,
            cycle: None,
            turns: None,
            shows: None,
            slice: None,
            run_id: id,
        };
        let refused = |request: RefreshRequest<'_>| {
            let error = Error::NotPermitted { segment: "vip".into(), owner: "marketing".into() };
            Ending::of(Err(error), &request, None).attempted
        };
        assert!(refused(request(true)));
        assert!(!refused(request(false)));
        let busy = Error::Busy { segment: "vip".into(), holder: Holder::Unknown };
        assert!(!Ending::of(Err(busy), &request(true), None).attempted);
    }
}
