//! The forms of an error: for the client, for the log, for the column `detail` of a result.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use serde_json::{Value, json};

use super::Error;

/// An error as PostgreSQL reports it to the client and in the server's log.
#[derive(Debug, Clone)]
pub struct Report {
    /// The SQLSTATE in PostgreSQL's packed form, which can also hold codes that users define.
    pub sqlstate: i32,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    pub context: Option<String>,
    /// Where in its statement PostgreSQL found the error: the number of the character, from 1.
    pub position: Option<usize>,
}

impl Report {
    /// A report of a message and a hint.
    pub fn new(code: PgSqlErrorCode, message: String, hint: Option<String>) -> Self {
        let sqlstate = code as i32;
        Self { sqlstate, message, detail: None, hint, context: None, position: None }
    }

    /// The five characters of the SQLSTATE.
    pub fn sqlstate(&self) -> String {
        unpack_sqlstate(self.sqlstate)
    }

    /// Whether the query was cancelled, by a user or by a time limit.
    pub fn is_cancelled(&self) -> bool {
        self.sqlstate == PgSqlErrorCode::ERRCODE_QUERY_CANCELED as i32
    }

    /// Whether the server lacks memory: for locks, where a transaction has many.
    pub fn lacks_memory(&self) -> bool {
        self.sqlstate == PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY as i32
    }

    /// The value of the column `error` of the log.
    pub fn to_json(&self) -> Value {
        json!({
            "sqlstate": self.sqlstate(),
            "message": self.message,
            "detail": self.detail,
            "hint": self.hint,
            "context": self.context,
        })
    }

    /// Names the line and column of the error within the user's statement, unless there is a detail.
    pub fn locate(&mut self, sql: &str) {
        let Some(position) = self.position.take().filter(|_| self.detail.is_none()) else { return };
        let before: String = sql.chars().take(position - 1).collect();
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        let text = sql.lines().nth(line - 1).unwrap_or_default().trim();
        let text: String = text.chars().take(100).collect();
        self.detail = Some(format!("Line {line}, column {column} of the SQL: {text}"));
    }

    /// Message and SQLSTATE in one line, for the column `detail` of a result.
    pub fn to_line(&self) -> String {
        format!("{} [{}]", self.message, self.sqlstate())
    }
}

impl From<Error> for ErrorReport {
    fn from(error: Error) -> Self {
        let report = error.report();
        let code = PgSqlErrorCode::from(report.sqlstate);
        let mut raised = ErrorReport::new(code, report.message, "segmenter");
        if let Some(detail) = report.detail {
            raised = raised.set_detail(detail);
        }
        if let Some(hint) = report.hint {
            raised = raised.set_hint(hint);
        }
        raised
    }
}

/// Six bits for each character, the first one in the lowest bits, counted from `0`.
fn unpack_sqlstate(packed: i32) -> String {
    (0..5).map(|i| char::from(b'0' + ((packed >> (6 * i)) & 0x3f) as u8)).collect()
}

/// Raises the error; does not return.
pub fn raise(error: Error) -> ! {
    ErrorReport::from(error).report(PgLogLevel::ERROR);
    unreachable!("an ERROR does not return")
}

/// Reports an error as a WARNING, so that the caller's statement continues. The message begins with
/// `what`, the consequence of the error.
pub fn emit_warning(what: &str, report: &Report) {
    let code = PgSqlErrorCode::from(report.sqlstate);
    let mut warning = ErrorReport::new(code, format!("{what}: {}", report.message), "segmenter");
    if let Some(detail) = &report.detail {
        warning = warning.set_detail(detail.clone());
    }
    if let Some(hint) = &report.hint {
        warning = warning.set_hint(hint.clone());
    }
    warning.report(PgLogLevel::WARNING);
}

/// Reports to the client that nothing was found, which is no error.
pub fn emit_notice(message: String, detail: String, hint: &str) {
    ErrorReport::new(PgSqlErrorCode::ERRCODE_NO_DATA, message, "segmenter")
        .set_detail(detail)
        .set_hint(hint)
        .report(PgLogLevel::NOTICE);
}

/// Reports something that is not an error. The level decides whether it goes to the client or to
/// the server's log.
pub fn emit(level: PgLogLevel, message: String, hint: Option<&str>) {
    let code = PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION;
    let mut report = ErrorReport::new(code, message, "segmenter");
    if let Some(hint) = hint {
        report = report.set_hint(hint);
    }
    report.report(level);
}
