//! The SQL function that writes the report.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::require_arg;
use crate::catalog::relation_set::RelationSet;
use crate::ops::report;

/// Writes a page about the segments that the caller may see, to be looked at in a browser.
///
/// - `days`: how many days back it goes, from 1 to 3660.
///
/// Returns one self-contained HTML page, in ASCII: which segment shrank in the last seven days, which source was
/// late, what waits, what the doctor found; the members of segments over time, who came and who left, how
/// refreshes ended, what segments have in common, and what they are made from. It fetches nothing and runs no
/// script, and has at most 2 MB: what is left out, it says. It has the segments of roles that the caller may act
/// as, and what the largest of those have in common whose members it may read; names and figures, and no members.
/// A number of days that is out of range is an error (22023).
///
/// ```sql
/// select length(segmenter_report(7)) > 0 as is_written;
/// ```
#[pg_extern]
fn segmenter_report(days: default!(Option<i32>, "30")) -> Result<String, ErrorReport> {
    Ok(report::report(&RelationSet::current()?, require_arg("days", days)?)?)
}
