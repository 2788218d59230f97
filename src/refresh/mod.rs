//! One refresh of one segment: its steps, in order, in one subtransaction.

use std::time::{Duration, Instant};

use pgrx::JsonB;
use pgrx::datum::{Timestamp, Uuid};

use crate::catalog::log::{self, Action, Entry, LogCounts, LogStatus};
use crate::catalog::relation_set::RelationSet;
use crate::catalog::state::{self, Attempt, SegmentState, Success};
use crate::config::{Key, Refresher, Segment};
use crate::error::{Error, Report, Result, emit_warning};
use crate::pg::clock;
use crate::pg::exec::portal;
use crate::pg::exec::result_set::ResultSet;
use crate::pg::exec::role;
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};
use crate::pg::system_catalog;
use crate::refresh::delta::{LongIds, NoHashes};
use crate::refresh::exclusion::{Closed, Exclusion, LeftOut};
use crate::refresh::family::Slice;
use crate::refresh::incremental::Progress;
use crate::refresh::lists::{Gained, Turns};
use crate::refresh::publish::stats::PublishStats;
use crate::refresh::segment_lock::acquire;
use segmenter_core::content::{Content, Edited};
use segmenter_core::guards::DeltaStats;
use segmenter_core::reason::Reason;

pub mod alerts;
pub mod analysis;
pub mod apply;
pub mod ask;
pub mod content;
pub mod delta;
pub mod diff;
pub mod exclusion;
pub mod family;
pub mod follow;
pub mod handover;
pub mod incremental;
pub mod lists;
pub mod now;
mod outcome;
pub mod publish;
pub mod reads;
pub mod retention;
pub mod segment_lock;
pub mod source_check;
mod steps;
pub mod upstream;

use outcome::{Ending, params};
pub use outcome::{advise, columns_that_stay};
use steps::{actions_of, attempt, check_not_held, check_sources_loaded, find, hash_of};
pub use steps::{check_not_superseded, last_content, may_refresh};

/// The arguments of a refresh.
pub struct RefreshRequest<'a> {
    pub segment: Key<'a>,
    /// The name to report if the segment is not found.
    pub name: &'a str,
    /// A one-off query in place of the segment's refresher.
    pub query: Option<&'a str>,
    /// Compute and report the delta, but change nothing.
    pub dry_run: bool,
    /// Apply the delta even if a guard refuses it.
    pub force: bool,
    /// Make a full pass with an incremental refresher.
    pub full: bool,
    /// Report a busy segment as skipped instead of failed.
    pub skip_busy: bool,
    /// Only the ends of audiences are handed over, for which no member is read.
    pub ends_only: bool,
    /// A worker of the scheduler refreshes the segment. Whatever keeps it from that is an attempt,
    /// since the schedule would have it try again at once.
    pub is_scheduled: bool,
    /// The names of the segments that it forms a cycle with, its own among them; a cycle is an
    /// error.
    pub cycle: Option<&'a [String]>,
    /// The turns of the run in this transaction that it is a part of.
    pub turns: Option<&'a Turns>,
    /// Where the members of the delta go, for a dry run that nothing but these are wanted of.
    pub shows: Option<&'a ResultSet>,
    /// The rows of the segment, which the refresh of its family has read.
    pub slice: Option<Slice<'a>>,
    pub run_id: Uuid,
}

impl<'a> RefreshRequest<'a> {
    /// The request to refresh a segment by hand, as its row says.
    pub fn by_hand(segment: Key<'a>, name: &'a str, run_id: Uuid) -> Self {
        Self {
            segment,
            name,
            query: None,
            dry_run: false,
            force: false,
            full: false,
            skip_busy: false,
            ends_only: false,
            is_scheduled: false,
            cycle: None,
            turns: None,
            shows: None,
            slice: None,
            run_id,
        }
    }
}

/// The result of a refresh: a row of the functions' results.
pub struct RefreshResult {
    pub segment: String,
    pub status: LogStatus,
    pub figures: Option<DeltaStats>,
    pub messages: Option<i64>,
    pub elapsed: Duration,
    pub detail: Option<String>,
    /// Whether it has read captured changes.
    pub watches: bool,
    /// Why it failed or was refused.
    pub error: Option<Report>,
    /// The segments of a family, which were refreshed with it.
    pub members: Vec<RefreshResult>,
    /// Other segments, from which members were removed because this one has gained them.
    pub others: Vec<RefreshResult>,
}

impl RefreshResult {
    /// Whether members were added, removed or changed, also in the segments of a family.
    pub fn has_moved(&self) -> bool {
        self.moved() > 0 || self.members.iter().any(Self::has_moved)
    }

    /// The number of members that were added, removed or changed; if it was refused, that would have been.
    pub fn moved(&self) -> u64 {
        let moved = |figures: DeltaStats| figures.added + figures.removed + figures.changed;
        self.figures.map_or(0, moved)
    }

    /// The result, and then those of the segments that were refreshed with it.
    pub fn flattened(mut self) -> Vec<RefreshResult> {
        let (members, others) =
            (std::mem::take(&mut self.members), std::mem::take(&mut self.others));
        let mut all = vec![self];
        all.extend(members.into_iter().flat_map(Self::flattened));
        all.extend(others);
        all
    }
}

/// What a successful refresh did.
struct Applied {
    figures: DeltaStats,
    at: Timestamp,
    handed: PublishStats,
    /// Remarks about sources and clocks, and about the rows of a family.
    late: Vec<String>,
    /// The sources whose newest load time lies in the future.
    ahead: Vec<String>,
    /// Rows that were left out because their ids are too long.
    long_ids: Option<LongIds>,
    /// Members without a hash where one is expected.
    no_hashes: Option<NoHashes>,
    /// What is unusual of its figures, and was not refused.
    unusual: Vec<String>,
    /// The checkpoint and the remark of an incremental refresh.
    progress: Option<Progress>,
    /// Rows of the table were changed by hand before.
    edited: Option<Edited>,
    /// So they were; or, before the first refresh, put into it.
    is_edited: bool,
    /// Columns of the table that the refresh before has given, and this one has not.
    kept: Vec<String>,
    /// What the table holds now; none: not known.
    content: Option<Content>,
    /// Members that have left before, because its lists have them.
    closed: Closed,
    /// Why rows which the refresher gave were left out.
    left_out: LeftOut,
    /// Its lists as it has seen them; none: it has none.
    lists: Option<JsonB>,
    /// What it has gained, for the segments that leave out its members.
    gained: Option<Gained>,
    /// Why it has changed members; none: not known.
    reason: Option<Reason>,
}

/// Refreshes a segment. An error in it becomes a WARNING, an entry of the log and the status of the
/// result, and everything that it changed is rolled back. Only what concerns the whole transaction
/// is raised or returned as an error: a cancelled query, a log that cannot be written.
pub fn refresh(set: &RelationSet, request: &RefreshRequest<'_>) -> Result<RefreshResult> {
    let (began, timer) = (clock::now(), Instant::now());
    let (mut segment, mut reads) = (None, None);
    let family = family::Rows::new();
    let mut result = attempt(set, (request, &family), &mut segment, &mut reads);
    if let (Some(segment), Some(reads), false) = (&segment, &reads, request.dry_run) {
        // Whatever became of the refresh.
        state::record_reads(set, segment.id, &reads.record())?;
    }
    if let (Err(Error::NotPermitted { .. }), Key::Name(_)) = (&result, request.segment) {
        return Ok(refuse(set, request, timer.elapsed()));
    }
    let gained = result.as_mut().ok().and_then(|applied| applied.gained.take());
    let segment = segment.as_ref();
    let mut outcome = finish(set, request, segment, result, (began, timer.elapsed()))?;
    if !request.dry_run {
        outcome.others = follow_lists(set, request, segment, (&outcome, gained))?;
    }
    if let (Some(segment), LogStatus::Ok) =
        (segment.filter(|it| it.kinship.is_family()), outcome.status)
    {
        outcome.members = family::refresh_members(set, request, segment, &family)?;
    }
    Ok(outcome)
}

/// Has members leave other segments that a successful refresh has gained. If a refresh did not succeed,
/// the members that its lists have gained leave it nevertheless.
fn follow_lists(
    set: &RelationSet,
    request: &RefreshRequest<'_>,
    segment: Option<&Segment>,
    (outcome, gained): (&RefreshResult, Option<Gained>),
) -> Result<Vec<RefreshResult>> {
    let is_list = segment.is_some_and(|segment| segment.is_list);
    if outcome.status == LogStatus::Ok && is_list && outcome.has_moved() {
        // The segments that leave out its members may be due now.
        system_catalog::invalidate(set.segments());
    }
    if let Some(gained) = gained {
        return follow::close_dependents(set, gained, request.run_id, request.turns);
    }
    match (segment, outcome.status) {
        (_, LogStatus::Ok | LogStatus::Skipped) | (None, _) => Ok(Vec::new()),
        (Some(segment), _) if segment.has_lists => {
            let named = (segment.id, segment.name.as_str());
            let followed = follow::follow(set, named, request.run_id, request.turns)?;
            Ok(followed.result().into_iter().collect())
        }
        _ => Ok(Vec::new()),
    }
}

/// Answers a caller that may not act as the segment's owner as if the segment did not exist, and
/// records nothing: what a role may not do leaves no trace at another's segment.
pub fn refuse(set: &RelationSet, request: &RefreshRequest<'_>, elapsed: Duration) -> RefreshResult {
    let report = set.unknown_segment(request.name).report();
    emit_warning(&not_refreshed(request.name), &report);
    RefreshResult {
        segment: request.name.to_owned(),
        status: LogStatus::Failed,
        figures: None,
        messages: None,
        elapsed,
        detail: Some(report.to_line()),
        watches: false,
        error: Some(report),
        members: Vec::new(),
        others: Vec::new(),
    }
}

fn not_refreshed(name: &str) -> String {
    format!("segment \"{name}\" was not refreshed")
}

/// Whether a refresh can begin now.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// It begins, and is logged as `running`.
    Now,
    /// It has been waiting for its sources, and they are still not loaded.
    Waiting,
    /// Another process holds the segment's lock.
    Busy,
    /// Automatic refreshes of the segment rest.
    Held,
    /// It was not known that it reads tables of other segments.
    Unordered,
    /// The segment no longer exists.
    Gone,
}

/// Records and logs that a refresh begins. Where it cannot begin, nothing is recorded, so that repeated attempts
/// do not fill the log. The refresh itself follows in a transaction of its own.
pub fn start(set: &RelationSet, request: &RefreshRequest<'_>) -> Result<Start> {
    let mut found = None;
    let ready = in_subtransaction(OnSuccess::Rollback, || {
        let segment = find(set, request, &mut found)?;
        let _portals = portal::CursorScope::begin()?;
        may_refresh(set, segment, role::current())?;
        check_not_held(request, segment)?;
        let _lock = acquire(set, segment.id, &segment.name)?;
        let state = SegmentState::find(set, segment.id)?;
        let reads = reads::find(set, segment);
        if state.as_ref().is_some_and(SegmentState::is_waiting) {
            let lists = Exclusion::find(set, segment)?.ids();
            check_sources_loaded(set, segment, &reads, &lists)?;
        }
        Ok(reads)
    });
    match (ready, &found) {
        (Err(Error::Busy { .. }), _) => return Ok(Start::Busy),
        (Err(Error::Held { .. }), _) => return Ok(Start::Held),
        (Err(Error::NotLoaded(_)), _) => return Ok(Start::Waiting),
        (_, None) => return Ok(Start::Gone),
        (Ok(reads), Some(segment)) if state::record_reads(set, segment.id, &reads.record())? => {
            return Ok(Start::Unordered);
        }
        // Any other error is left to the refresh, which logs it.
        (_, Some(segment)) => {
            let began = clock::now();
            // What is logged as running is recorded: so the log gets its end if the worker is lost.
            if !state::begin(set, segment.id, request.run_id, began)? {
                return Ok(Start::Now);
            }
            log::write_refresh(
                set,
                Entry {
                    run_id: Some(request.run_id),
                    action: Action::Refresh,
                    status: LogStatus::Running,
                    segment: (Some(segment.id), &segment.name),
                    subscription: None,
                    counts: LogCounts::default(),
                    began,
                    elapsed: None,
                    message: None,
                    error: None,
                    params: params(request, Some(segment), None),
                    reason: None,
                },
                segment.definition,
            )?
        }
    }
    Ok(Start::Now)
}

/// Logs as failed a refresh that could not be made, or that was stopped.
pub fn fail(
    set: &RelationSet,
    request: &RefreshRequest<'_>,
    error: Error,
    (began, elapsed): (clock::Instant, Duration),
) -> Result<RefreshResult> {
    let segment = match Segment::find(set, request.segment) {
        Err(Error::Config(_)) => Segment::find_bare(set, request.segment)?,
        found => found?,
    };
    finish(set, request, segment.as_ref(), Err(error), (began, elapsed))
}

/// Reports the end of a refresh: in the log, in the result, and, where it failed, as a WARNING.
fn finish(
    set: &RelationSet,
    request: &RefreshRequest<'_>,
    segment: Option<&Segment>,
    result: Result<Applied>,
    (began, elapsed): (clock::Instant, Duration),
) -> Result<RefreshResult> {
    let name = segment.map_or(request.name, |segment| segment.name.as_str());
    let ended = Ending::of(result, request, segment);
    if let Some(report) = &ended.error {
        emit_warning(&not_refreshed(name), report);
    }
    let attempt =
        segment.map(|segment| Attempt { segment: segment.id, run: request.run_id, began, elapsed });
    let goes_on = match &attempt {
        Some(attempt) if !request.dry_run => {
            // A one-off query does not count as the segment's.
            let refresher = segment.and_then(|segment| segment.refresher.as_ref());
            let definition = segment.and_then(|segment| segment.definition);
            let refresher = refresher.filter(|_| request.query.is_none());
            record(set, attempt, &ended, (definition, refresher))?
        }
        _ => false,
    };
    // A segment deleted meanwhile may have been logged as `running`: that entry is closed under its
    // id.
    let id = match request.segment {
        Key::Id(id) => Some(id),
        Key::Name(_) => segment.map(|segment| segment.id),
    };
    if let (Some(id), None, false) = (id, segment, request.dry_run) {
        state::abandon(set, id, request.run_id)?;
        state::delete_orphaned(set, Some(id))?;
    }
    if !request.dry_run && !goes_on {
        log::write_refresh(
            set,
            Entry {
                run_id: Some(request.run_id),
                action: Action::Refresh,
                status: ended.status,
                segment: (id, name),
                subscription: None,
                counts: ended.figures.map(LogCounts::from).unwrap_or_default(),
                began,
                elapsed: Some(elapsed),
                message: ended.message.as_deref(),
                error: ended.error.as_ref(),
                params: params(request, segment, Some(&ended)),
                reason: ended.reason,
            },
            segment.and_then(|segment| segment.definition),
        )?;
        // The state counts those that succeed.
        if let (Some(segment), true) = (segment, ended.status != LogStatus::Ok) {
            state::count_outcome(set, segment.id, ended.status)?;
        }
    }
    if let (Some(segment), false) = (segment, request.dry_run) {
        alerts::look_at(set, segment.id, request.run_id)?;
    }
    // The scheduler must learn of a failure outside of a run, because the retry can come before the
    // next scheduled refresh.
    if ended.status == LogStatus::Failed && !request.skip_busy && segment.is_some() {
        system_catalog::invalidate(set.segments());
    }
    Ok(RefreshResult {
        segment: name.to_owned(),
        status: ended.status,
        figures: ended.figures,
        messages: ended.messages,
        elapsed,
        detail: ended.error.as_ref().map(Report::to_line).or(ended.message),
        watches: ended.checkpoint.is_some_and(|checkpoint| checkpoint["captured"].is_object()),
        error: ended.error,
        members: Vec::new(),
        others: Vec::new(),
    })
}

/// Records the end of a refresh in the segment's state, or as an attempt. Returns whether the segment
/// was waiting before and still is, so that the log has it already.
fn record(
    set: &RelationSet,
    attempt: &Attempt,
    ended: &Ending,
    (definition, refresher): (Option<i32>, Option<&Refresher>),
) -> Result<bool> {
    if !ended.attempted {
        state::abandon(set, attempt.segment, attempt.run)?;
        return Ok(false);
    }
    let message = ended.message.as_deref();
    match (ended.status, ended.figures, ended.at) {
        (LogStatus::Ok, Some(figures), Some(at)) => {
            let ran_with = refresher.map(hash_of);
            let success = Success {
                figures,
                at,
                ahead: &ended.ahead,
                checkpoint: ended.checkpoint.clone(),
                content: ended.content.as_ref(),
                lists: ended.lists.as_ref(),
                is_edited: ended.is_edited,
                definition,
                ran_with: ran_with.as_deref(),
            };
            attempt.succeed(set, success)?;
        }
        (LogStatus::Waiting, ..) => {
            let state = SegmentState::find(set, attempt.segment)?;
            // A run that is logged as `running` must still be closed there.
            if state.is_some_and(|state| state.is_waiting()) {
                return Ok(true);
            }
            attempt.wait(set, message)?;
        }
        (status, ..) => attempt.fail(set, (status, message), definition)?,
    }
    Ok(false)
}
