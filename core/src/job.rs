//! The life of a job of the background workers: its states, the events that change them, and what
//! has to be done then. [`transition`] is the only place that decides this.
//!
//! A job has a place in the job table (`job_table.rs`) from its request until the scheduler
//! collects it or withdraws it. After that it is in the memory of the scheduler alone, until its
//! end is handled: recorded in the database, and its subject queued again.
//!
//! `src/worker/README.md` contains the table of all transitions; a test compares it with this code.

use std::fmt;
use std::time::Duration;

use crate::clock::Instant;

/// How long a requested worker may take to start. After that the job is withdrawn.
pub const START_LIMIT: Duration = Duration::from_secs(60);
/// The shortest delay before something that has failed is tried again.
pub const RETRY_DELAY: Duration = Duration::from_secs(5);
/// How long an ended or withdrawn job of a database without a scheduler keeps its place in the
/// table. A scheduler that is started again in this time takes the job over.
pub const ABANDON_LIMIT: Duration = Duration::from_secs(120);

/// The kind of a worker's task.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Task {
    /// Refresh a segment.
    Refresh,
    /// Hand over pending messages of a segment without refreshing it.
    HandOver,
    /// Deliver messages to a consumer.
    Deliver,
    /// Serve the relation sets of a role: start the workers for them.
    Serve,
}

/// What a job takes room from: a database may have a number of jobs of each kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Refreshes,
    Deliveries,
    Servers,
}

impl Task {
    pub fn kind(self) -> Kind {
        match self {
            Task::Refresh | Task::HandOver => Kind::Refreshes,
            Task::Deliver => Kind::Deliveries,
            Task::Serve => Kind::Servers,
        }
    }
}

/// What a worker reports when it has finished its task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum JobResult {
    /// The task is finished; the outcome of a refresh is recorded in the database.
    Done,
    /// The refresh was not made: it failed or was refused, which is recorded in the database.
    Failed,
    /// The sources are still not loaded.
    Waiting,
    /// Another session has locked the segment.
    Busy,
    /// It was not known that the segment reads tables of other segments, so it may have to wait for
    /// them. Nothing was refreshed.
    Unordered,
}

/// How a job ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// The worker reported a result.
    Reported(JobResult),
    /// The worker exited without reporting a result.
    Died,
    /// The worker's process was ended, because its transaction did not react to the cancellation at
    /// its time limit.
    Overrun,
    /// No worker started within [`START_LIMIT`].
    NotStarted,
}

impl End {
    /// Whether the job ended without a result.
    pub fn is_failure(self) -> bool {
        !matches!(self, End::Reported(_))
    }
}

/// The state of a job.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum JobState {
    /// There is no job.
    Free,
    /// A worker process has been requested.
    Requested,
    /// A worker has begun.
    Running,
    /// The job has ended and is still in the job table.
    Ended(End),
    /// The job has ended and is in the memory of the scheduler.
    Collected(End),
}

impl JobState {
    /// Whether a job in this state has a place in the job table.
    pub fn has_place(self) -> bool {
        matches!(self, JobState::Requested | JobState::Running | JobState::Ended(_))
    }
}

/// What happens to a job.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// The scheduler requests a worker.
    Request,
    /// The server has no free process for the worker.
    NoProcess,
    /// The worker begins.
    Begin,
    /// The worker reports a result.
    Report(JobResult),
    /// The process of the worker exits.
    Exit,
    /// The process of the worker exits after its time limit, as its SQL did not react to the
    /// cancellation.
    Overrun,
    /// [`START_LIMIT`] has passed since the request.
    StartLimit,
    /// The scheduler finds the ended job in the table.
    Collect,
    /// The database has no scheduler, and [`ABANDON_LIMIT`] has passed.
    Abandon,
    /// The transaction that handles the end is committed.
    Handled,
    /// The transaction that handles the end has failed.
    NotHandled,
    /// The relation set of the job does not exist any more.
    SetDropped,
}

/// What has to be done when a job changes its state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// The job gets a place in the table.
    TakePlace,
    /// Its place in the table becomes free.
    FreePlace,
    /// Its end is handled again after [`RETRY_DELAY`]. Until then its subject gets no other job.
    HandleAgain,
    /// The run is recorded as `failed` if nothing is recorded of it, as `interrupted` if it is
    /// recorded as running.
    RecordLostRun,
    /// The failure is recorded: of the refresh if its end is not recorded yet, of the hand-over after
    /// it, of the delivery.
    RecordOverrun,
    /// The leases of the consumer are released.
    ReleaseLeases,
    /// The subject gets no job of this task before [`RETRY_DELAY`] has passed.
    BackOff,
    /// The segment is queued for its next time, by its schedule or as a retry.
    QueueAgain,
    /// The segment is queued for the next check of its sources or its lock.
    QueueCheck,
    /// The segment is queued at once, in order; or after [`RETRY_DELAY`], if this has happened within
    /// that time before.
    Reorder,
    /// The segment has no more pending messages.
    RemovePending,
    /// Its pending messages are tried again after [`RETRY_DELAY`].
    RetryPending,
    /// The list of consumers with waiting messages is read again.
    ListConsumers,
    /// The sets of the role get another server at the time that this one named.
    Resume,
}

/// The next state of a job, and what has to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transition {
    pub next: JobState,
    pub effects: &'static [Effect],
}

/// What an event does to a job. `None`: the event has no meaning in this state and changes nothing.
pub fn transition(task: Task, state: JobState, event: Event) -> Option<Transition> {
    use JobState::*;
    let (next, effects): (JobState, &'static [Effect]) = match (state, event) {
        (Free, Event::Request) => (Requested, &[Effect::TakePlace]),
        (Requested, Event::NoProcess | Event::Abandon) => (Free, &[Effect::FreePlace]),
        (Requested, Event::Begin) => (Running, &[]),
        (Requested, Event::StartLimit) => (Collected(End::NotStarted), &[Effect::FreePlace]),
        (Running, Event::Report(result)) => (Ended(End::Reported(result)), &[]),
        (Running, Event::Exit) => (Ended(End::Died), &[]),
        (Running, Event::Overrun) => (Ended(End::Overrun), &[]),
        (Ended(end), Event::Collect) => (Collected(end), &[Effect::FreePlace]),
        (Ended(_), Event::Abandon) => (Free, &[Effect::FreePlace]),
        (Collected(end), Event::Handled) => (Free, effects_of_end(task, end)),
        (Collected(end), Event::NotHandled) => (Collected(end), &[Effect::HandleAgain]),
        (Collected(_), Event::SetDropped) => (Free, &[]),
        _ => return None,
    };
    Some(Transition { next, effects })
}

/// What has to be done about the end of a job.
fn effects_of_end(task: Task, end: End) -> &'static [Effect] {
    use Effect::*;
    use JobResult::*;
    match (task, end) {
        // A failure is recorded as an attempt: the delay of its retry is that of the segment.
        (Task::Refresh, End::Reported(Done | Failed)) => &[QueueAgain, RemovePending],
        (Task::Refresh, End::Reported(Waiting)) => &[QueueCheck, RemovePending],
        (Task::Refresh, End::Reported(Busy)) => &[QueueCheck, RetryPending],
        (Task::Refresh, End::Reported(Unordered)) => &[Reorder, RetryPending],
        (Task::Refresh, End::Died | End::NotStarted) => {
            &[RecordLostRun, BackOff, QueueAgain, RetryPending]
        }
        (Task::Refresh, End::Overrun) => &[RecordOverrun, BackOff, QueueAgain, RetryPending],
        (Task::HandOver, End::Reported(Done)) => &[QueueAgain, RemovePending],
        (Task::HandOver, End::Overrun) => &[RecordOverrun, QueueAgain, RetryPending],
        (Task::HandOver, _) => &[QueueAgain, RetryPending],
        (Task::Deliver, End::Reported(_)) => &[ListConsumers],
        (Task::Deliver, End::Died | End::NotStarted) => &[ReleaseLeases, BackOff, ListConsumers],
        (Task::Deliver, End::Overrun) => &[RecordOverrun, ReleaseLeases, BackOff, ListConsumers],
        (Task::Serve, End::Reported(_)) => &[Resume],
        (Task::Serve, End::Died | End::Overrun | End::NotStarted) => &[BackOff, Resume],
    }
}

/// The event that the time brings about for a job in the table that has been in its state since
/// `since`. `is_served`: the database has a scheduler.
pub fn due_event(state: JobState, since: Instant, now: Instant, is_served: bool) -> Option<Event> {
    let age = (now - since).to_std().unwrap_or_default();
    match state {
        JobState::Ended(_) if is_served => Some(Event::Collect),
        JobState::Requested if is_served => (age >= START_LIMIT).then_some(Event::StartLimit),
        JobState::Ended(_) | JobState::Requested => {
            (age >= ABANDON_LIMIT).then_some(Event::Abandon)
        }
        JobState::Free | JobState::Running | JobState::Collected(_) => None,
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JobState::Ended(End::Reported(result)) => write!(f, "Ended({result:?})"),
            JobState::Collected(End::Reported(result)) => write!(f, "Collected({result:?})"),
            state => write!(f, "{state:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{DateTime, TimeDelta};

    const TASKS: [Task; 4] = [Task::Refresh, Task::HandOver, Task::Deliver, Task::Serve];
    const RESULTS: [JobResult; 5] = [
        JobResult::Done,
        JobResult::Failed,
        JobResult::Waiting,
        JobResult::Busy,
        JobResult::Unordered,
    ];

    fn ends() -> Vec<End> {
        let others = [End::Died, End::Overrun, End::NotStarted];
        RESULTS.into_iter().map(End::Reported).chain(others).collect()
    }

    fn states() -> Vec<JobState> {
        [JobState::Free, JobState::Requested, JobState::Running]
            .into_iter()
            .chain(ends().into_iter().map(JobState::Ended))
            .chain(ends().into_iter().map(JobState::Collected))
            .collect()
    }

    fn events() -> Vec<Event> {
        [Event::Request, Event::NoProcess, Event::Begin]
            .into_iter()
            .chain(RESULTS.into_iter().map(Event::Report))
            .chain([Event::Exit, Event::Overrun, Event::StartLimit])
            .chain([Event::Collect, Event::Abandon])
            .chain([Event::Handled, Event::NotHandled, Event::SetDropped])
            .collect()
    }

    /// Every task, state and event that mean something together.
    fn cells() -> Vec<(Task, JobState, Event, Transition)> {
        let mut cells = Vec::new();
        for state in states() {
            for event in events() {
                for task in TASKS {
                    if let Some(to) = transition(task, state, event) {
                        cells.push((task, state, event, to));
                    }
                }
            }
        }
        cells
    }

    #[test]
    fn a_place_is_taken_and_freed_with_the_state() {
        for (task, state, event, Transition { next, effects }) in cells() {
            let cell = format!("{task:?}, {state}, {event:?}");
            let takes = effects.contains(&Effect::TakePlace);
            let frees = effects.contains(&Effect::FreePlace);
            assert_eq!(takes, !state.has_place() && next.has_place(), "{cell}");
            assert_eq!(frees, state.has_place() && !next.has_place(), "{cell}");
        }
    }

    #[test]
    fn an_end_never_changes() {
        for (task, state, event, Transition { next, .. }) in cells() {
            let end = |state| match state {
                JobState::Ended(end) | JobState::Collected(end) => Some(end),
                _ => None,
            };
            if let (Some(before), Some(after)) = (end(state), end(next)) {
                assert_eq!(before, after, "{task:?}, {state}, {event:?}");
            }
        }
    }

    #[test]
    fn only_handling_has_effects_outside_the_table() {
        for (task, state, event, Transition { effects, .. }) in cells() {
            let is_inner = |effect: &Effect| {
                matches!(effect, Effect::TakePlace | Effect::FreePlace | Effect::HandleAgain)
            };
            let is_handling = event == Event::Handled;
            assert_eq!(effects.iter().all(is_inner), !is_handling, "{task:?}, {state}, {event:?}");
        }
    }

    #[test]
    fn a_failure_is_recorded_and_never_tried_again_at_once() {
        for task in TASKS {
            for end in ends() {
                let handled = transition(task, JobState::Collected(end), Event::Handled);
                let effects = handled.map(|to| to.effects).unwrap_or_default();
                let delays = match task {
                    Task::HandOver => effects.contains(&Effect::RetryPending),
                    _ => effects.contains(&Effect::BackOff),
                };
                let records = match (task, end) {
                    // It has recorded nothing that would have to be ended.
                    (Task::Serve, _) => true,
                    (_, End::Overrun) => effects.contains(&Effect::RecordOverrun),
                    (Task::Refresh, _) => effects.contains(&Effect::RecordLostRun),
                    (Task::HandOver, _) => true,
                    (Task::Deliver, _) => effects.contains(&Effect::ReleaseLeases),
                };
                if end.is_failure() {
                    assert!(delays && records, "{task:?}, {end:?}: {effects:?}");
                }
                // A segment is always queued again.
                let queued = [Effect::QueueAgain, Effect::QueueCheck, Effect::Reorder];
                let queued = queued.iter().filter(|effect| effects.contains(effect));
                let is_segment = task.kind() == Kind::Refreshes;
                assert_eq!(queued.count(), usize::from(is_segment), "{task:?}, {end:?}");
            }
        }
    }

    #[test]
    fn from_every_state_the_job_comes_to_its_end() {
        for task in TASKS {
            for state in states() {
                let mut at = vec![state];
                let mut seen = at.clone();
                while let Some(state) = at.pop() {
                    for to in events().iter().filter_map(|event| transition(task, state, *event)) {
                        if !seen.contains(&to.next) {
                            seen.push(to.next);
                            at.push(to.next);
                        }
                    }
                }
                assert!(seen.contains(&JobState::Free), "{task:?}, {state}");
            }
        }
    }

    #[test]
    fn a_worker_that_is_late_finds_no_job() {
        let withdrawn = transition(Task::Refresh, JobState::Requested, Event::StartLimit);
        let next = withdrawn.map(|to| to.next);
        assert_eq!(next, Some(JobState::Collected(End::NotStarted)));
        for state in states().into_iter().filter(|state| *state != JobState::Requested) {
            assert_eq!(transition(Task::Refresh, state, Event::Begin), None, "{state}");
        }
        // One that has begun is not withdrawn any more.
        assert_eq!(transition(Task::Refresh, JobState::Running, Event::StartLimit), None);
    }

    #[test]
    fn time_withdraws_collects_and_abandons() {
        let start = DateTime::UNIX_EPOCH;
        let after = |seconds| start + TimeDelta::seconds(seconds);
        let died = JobState::Ended(End::Died);
        let event = |state, seconds, is_served| due_event(state, start, after(seconds), is_served);
        assert_eq!(event(JobState::Requested, 59, true), None);
        assert_eq!(event(JobState::Requested, 60, true), Some(Event::StartLimit));
        assert_eq!(event(JobState::Requested, 119, false), None);
        assert_eq!(event(JobState::Requested, 120, false), Some(Event::Abandon));
        assert_eq!(event(JobState::Running, 1_000_000, true), None);
        assert_eq!(event(JobState::Running, 1_000_000, false), None);
        assert_eq!(event(died, 0, true), Some(Event::Collect));
        assert_eq!(event(died, 119, false), None);
        assert_eq!(event(died, 120, false), Some(Event::Abandon));
        // The clock was set back.
        assert_eq!(event(JobState::Requested, -1000, true), None);
        for (state, seconds, is_served) in
            [(JobState::Requested, 60, true), (died, 0, true), (died, 120, false)]
        {
            let event = event(state, seconds, is_served).map(|event| {
                transition(Task::Refresh, state, event).is_some_and(|to| !to.next.has_place())
            });
            assert_eq!(event, Some(true));
        }
    }

    /// The table of the README. What is the same for every result, every end or every task is one
    /// row.
    fn markdown() -> String {
        let mut rows: Vec<(String, Vec<String>, String)> = Vec::new();
        let (handling, others): (Vec<_>, Vec<_>) =
            cells().into_iter().partition(|(_, _, event, _)| *event == Event::Handled);
        for (task, state, event, to) in others.into_iter().chain(handling) {
            let is_handling = event == Event::Handled;
            let general = |state: JobState| match state {
                JobState::Ended(_) if matches!(event, Event::Report(_)) => "Ended(result)".into(),
                JobState::Ended(_) if !matches!(event, Event::Exit | Event::Overrun) => {
                    "Ended(end)".into()
                }
                JobState::Collected(_) if !is_handling && event != Event::StartLimit => {
                    "Collected(end)".into()
                }
                state => state.to_string(),
            };
            let event_name = match event {
                Event::Report(_) => "Report(result)".into(),
                event => format!("{event:?}"),
            };
            let from = format!("`{}` | `{event_name}`", general(state));
            let effects: Vec<String> =
                to.effects.iter().map(|effect| format!("`{effect:?}`")).collect();
            let to = format!("`{}` | {}", general(to.next), effects.join(", "));
            let task = format!("{task:?}");
            match rows.iter_mut().find(|row| row.0 == from && row.2 == to) {
                Some((_, tasks, _)) if tasks.contains(&task) => {}
                Some((_, tasks, _)) => tasks.push(task),
                None => rows.push((from, vec![task], to)),
            }
        }
        let mut table = String::from("| state | event | task | next state | effects |\n");
        table += "| --- | --- | --- | --- | --- |\n";
        for (from, tasks, to) in rows {
            let tasks = if tasks.len() == TASKS.len() { "any".into() } else { tasks.join(", ") };
            table += &format!("| {from} | {tasks} | {to} |\n");
        }
        table
    }

    #[test]
    fn the_readme_has_the_same_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../src/worker/README.md");
        let readme = std::fs::read_to_string(path).unwrap();
        let table = markdown();
        assert!(readme.contains(&table), "src/worker/README.md must contain this table:\n{table}");
    }
}
