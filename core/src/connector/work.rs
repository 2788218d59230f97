//! The work on one message: which step is next, and what its answer changes. A message that takes
//! several requests goes on after a failure where it stopped, because its progress is kept.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::answer::{Answer, Meaning, NEXT, Rows, Verdict};
use super::request::{Request, Values};
use super::spec::Spec;
use super::step::{Operation, Poll, Step};
use super::template::{Template, as_text};
use crate::receipt::{MAX_ID, Receipt};

/// How far the work on a message is, as it is kept between requests.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    pub message: i64,
    /// The first part of its operation.
    pub first: i64,
    /// The members in all parts of its operation.
    pub total: i64,
    /// When the first request of the operation was made.
    pub began_at: Option<DateTime<Utc>>,
    /// The number of steps that are done or left out, by the last one that was done.
    #[serde(skip)]
    pub done: usize,
    /// The step that was done last.
    pub last: Option<String>,
    /// When the platform was first asked whether it has processed what it was sent.
    pub polled_since: Option<DateTime<Utc>>,
    pub external_id: Option<String>,
    pub taken: Map<String, Value>,
    pub kept: Map<String, Value>,
    pub receipt: Map<String, Value>,
    /// The platform has said that it has no such audience: a resync forgets its id.
    #[serde(rename = "gone")]
    pub is_gone: bool,
}

/// Where a message is in its operation, by the messages of the operation that are left: the delivered ones
/// may be deleted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Position {
    pub message: i64,
    /// The first of those that are left.
    pub first: i64,
    /// Those of earlier operations have ids up to this one.
    pub after: i64,
    /// The members of those that are left.
    pub total: i64,
}

impl Progress {
    /// The progress of a message, from what was kept of it or of an earlier part of its operation. That knows
    /// what the first part was, and how many members there are, also when messages are deleted.
    pub fn of(kept: Option<Value>, position: Position, now: DateTime<Utc>) -> Self {
        let before = kept.and_then(|json| serde_json::from_value::<Self>(json).ok());
        let before = before.unwrap_or_default();
        let Position { message, first, after, total } = position;
        if before.message == message {
            return before;
        }
        let new = Self { message, first, total, began_at: Some(now), ..Self::default() };
        match before.first > after && before.message < message {
            true => Self {
                first: before.first,
                total: before.total,
                began_at: before.began_at.or(new.began_at),
                kept: before.kept,
                ..new
            },
            false => new,
        }
    }

    /// What is left of it when the platform could not process what it was sent: the message starts again from its first step. An
    /// audience that was made stays.
    fn begin_anew(&mut self) {
        (self.done, self.last, self.polled_since) = (0, None, None);
        self.taken.clear();
        self.receipt.clear();
    }
}

/// The work on a message.
pub struct Work<'a> {
    spec: &'a Spec,
    operation: &'a Operation,
    pub values: Values<'a>,
    pub progress: Progress,
}

/// What an answer leads to.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// The next step can be done.
    Step,
    /// The next step, or the same one again, has to wait. It is no failure.
    Wait(Duration),
    /// The request was not successful.
    Failed(Verdict),
}

impl<'a> Work<'a> {
    /// The work on a message whose operation the connector has.
    pub fn new(
        spec: &'a Spec,
        operation: &'a Operation,
        mut values: Values<'a>,
        progress: Progress,
    ) -> Self {
        if let Some(id) = &progress.external_id {
            values.external_id = Some(id.clone());
        }
        values.taken = progress.taken.clone();
        values.kept = progress.kept.clone();
        values.began_at = progress
            .began_at
            .map(|at| at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true))
            .unwrap_or_default();
        let mut work = Self { spec, operation, values, progress };
        // The connector may have changed meanwhile: steps are known by their names.
        let last = work.progress.last.as_deref();
        work.progress.done = last.and_then(|last| work.position(last)).map_or(0, |at| at + 1);
        work
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.operation.steps().iter().position(|step| step.name == name)
    }

    /// The next step; `None`: the message is done. Steps whose condition does not hold are left out.
    pub fn step(&mut self) -> Option<&'a Step> {
        loop {
            let step = self.operation.steps().get(self.progress.done)?;
            let scope = self.values.scope();
            if step.when.as_ref().is_none_or(|when| when.is_true(&scope)) {
                return Some(step);
            }
            self.progress.done += 1;
        }
    }

    /// Checks that the work can go on where it stopped, and that the platform takes so many members.
    pub fn check(&self) -> Result<(), String> {
        if let Some(last) = self.progress.last.as_ref().filter(|last| self.position(last).is_none())
        {
            return Err(format!(
                "the connector has changed since step \"{last}\" of the message was done, so that it is not known what is left: call segmenter_resync()"
            ));
        }
        let (count, limits) = (self.values.count(), &self.spec.limits);
        // A replace without members would empty the audience because of a wrong form.
        if self.values.operation() == "replace" && count == 0 && self.values.unfit > 0 {
            return Err(format!(
                "none of the {} members has a value in a form that the platform takes: correct the segment's query or the fields of the subscription, then call segmenter_resync()",
                self.values.unfit
            ));
        }
        let sends_members = self.operation.steps().iter().any(|step| step.body.has_members());
        if let Some(most) = limits.members.filter(|most| sends_members && count > *most as usize) {
            return Err(format!(
                "the message has {count} members, and the connector takes {most} at once: give \"batch_size\" in the params of the subscription, then call segmenter_resync()"
            ));
        }
        // The last part of a replacement is as small as it is.
        let is_change = matches!(self.values.operation(), "add" | "remove");
        match limits.least.filter(|_| is_change && sends_members) {
            Some(least) if count < least as usize => Err(format!(
                "the message has {count} members, and the platform takes no fewer than {least} at once: use \"mode\": \"replace\", or wait until there are more members and call segmenter_resync()"
            )),
            _ => Ok(()),
        }
    }

    /// Whether nothing of the message fits the platform, so that there is nothing to send.
    pub fn has_nothing_to_send(&self) -> bool {
        let is_change = matches!(self.values.operation(), "add" | "remove");
        is_change && self.values.count() == 0 && !self.spec.fields.is_empty()
    }

    /// Takes the answer to a step into account.
    pub fn answered(&mut self, step: &Step, answer: &Answer, now: DateTime<Utc>) -> Next {
        let rules = step.rules.iter().chain(&self.spec.rules);
        let mut verdict = answer.judge(rules);
        self.progress.is_gone = verdict.meaning == Meaning::Gone;
        if verdict.meaning != Meaning::Ok {
            verdict.problem = self.values.masked(&verdict.problem);
            return Next::Failed(verdict);
        }
        let failed =
            |meaning, problem: String| Next::Failed(Verdict { meaning, wait: None, problem });
        if self.spec.has_json_answers && answer.json.is_null() && !answer.text.is_empty() {
            let problem = self.values.masked(&verdict.problem);
            let problem = format!("the answer is no JSON: {problem}");
            return failed(Meaning::Retry, problem);
        }
        if let Some(poll) = &step.poll {
            match self.poll(poll, answer, now) {
                Polled::Done => self.progress.polled_since = None,
                Polled::Failed(problem) => {
                    // It will not be processed any more: it is to be sent again.
                    self.progress.begin_anew();
                    return failed(Meaning::Stop, self.values.masked(&problem));
                }
                Polled::Late(problem) => {
                    self.progress.polled_since = None;
                    return failed(Meaning::Stop, self.values.masked(&problem));
                }
                Polled::Waits => return Next::Wait(poll.every),
            }
        }
        if let Err(problem) = self.take(step, answer) {
            // The platform has done it. Asking it to do it again could make an audience each time.
            return failed(Meaning::Stop, problem);
        }
        self.progress.done += 1;
        self.progress.last = Some(step.name.clone());
        match step.pause {
            Some(pause) => Next::Wait(pause),
            None => Next::Step,
        }
    }

    fn take(&mut self, step: &Step, answer: &Answer) -> Result<(), String> {
        // What is kept may be what was taken just now.
        let value = |template: &Template| template.value(&self.values.scope());
        let taken = step.take.taken_of(answer, value);
        self.check_taken(&taken)?;
        self.progress.taken.extend(taken);
        self.values.taken = self.progress.taken.clone();
        let value = |template: &Template| template.value(&self.values.scope());
        let kept = step.take.kept_of(answer, value);
        self.check_taken(&kept)?;
        self.progress.kept.extend(kept);
        self.values.kept = self.progress.kept.clone();
        let value = |template: &Template| template.value(&self.values.scope());
        let receipt = step.take.receipt_of(answer, value);
        let is_given = |name: &str| receipt.iter().any(|(given, _)| *given == name);
        let needs_id = self.spec.has_json_answers && self.values.external_id.is_none();
        if needs_id && step.take.takes_external_id() && !is_given("external_id") {
            return Err("the answer has no id of the audience".into());
        }
        for (name, value) in receipt {
            // The id must not be lost because something else cannot be used.
            let text = as_text(&value);
            let number = text.as_deref().and_then(|text| text.parse::<i64>().ok());
            let before = self.progress.receipt.get(name).and_then(Value::as_i64);
            let used: Option<Value> = match name {
                "external_id" => {
                    let id = text.filter(|id| self.can_be_id(id));
                    let id =
                        id.ok_or("what the answer has as the id of the audience cannot be one")?;
                    self.values.external_id = Some(id.clone());
                    self.progress.external_id = Some(id);
                    None
                }
                // Several requests of a message are counted together.
                "num_received" | "num_invalid" => number
                    .map(|number| before.unwrap_or_default().saturating_add(number.max(0)).into()),
                "coverage" => number.filter(|number| *number >= 0).map(Value::from),
                _ => text.map(|text| self.values.masked(&text).into()),
            };
            if let Some(used) = used {
                self.progress.receipt.insert(name.into(), used);
            }
        }
        Ok(())
    }

    /// Whether a text that a platform has given can be the id of an audience.
    fn can_be_id(&self, id: &str) -> bool {
        let has_length = (1..=MAX_ID).contains(&id.len());
        has_length && !id.contains(char::is_control) && !self.values.holds_secret(id)
    }

    /// What is taken is kept with the message, where secrets must not be.
    fn check_taken(&self, taken: &[(String, Value)]) -> Result<(), String> {
        match taken.iter().find(|(_, value)| self.values.holds_secret(&value.to_string())) {
            None => Ok(()),
            Some((name, _)) => Err(format!("what the answer has as \"{name}\" holds a secret")),
        }
    }

    fn poll(&mut self, poll: &Poll, answer: &Answer, now: DateTime<Utc>) -> Polled {
        // A time that was set while the clock was ahead counts for nothing.
        let since = self.progress.polled_since.filter(|since| *since <= now).unwrap_or(now);
        self.progress.polled_since = Some(since);
        let scope = self.values.scope();
        let is_row = |row: &&Value| {
            poll.row.iter().all(|(pointer, template)| {
                let found = row.pointer(pointer).and_then(as_text);
                found.is_some() && found == template.text(&scope)
            })
        };
        let row = match &poll.rows {
            None => Some(&answer.json),
            Some(rows) => match answer.json.pointer(rows) {
                Some(Value::Array(rows)) => rows.iter().find(is_row),
                _ => None,
            },
        };
        let state = row.and_then(|row| row.pointer(&poll.state)).and_then(as_text);
        match state {
            Some(state) if poll.done.contains(&state) => return Polled::Done,
            Some(state) if poll.failed.contains(&state) => {
                return Polled::Failed(format!("the platform says \"{state}\": {}", answer.text));
            }
            _ => {}
        }
        let waited = (now - since).to_std().unwrap_or_default();
        match waited < poll.within {
            true => Polled::Waits,
            false => Polled::Late(format!(
                "the platform has not processed it within {:?}; it says \"{}\"",
                poll.within,
                state.unwrap_or_default()
            )),
        }
    }

    /// The receipt of a message that is done.
    pub fn receipt(&self) -> Receipt {
        let mut whole = self.progress.receipt.clone();
        if let Some(id) = &self.progress.external_id {
            whole.insert("external_id".into(), id.as_str().into());
        }
        let unfit = self.values.unfit as i64;
        let count = |whole: &Map<String, Value>, key: &str| whole.get(key).and_then(Value::as_i64);
        if self.operation.steps().iter().any(|step| step.body.has_members()) {
            let sent = self.values.count() as i64;
            let received = count(&whole, "num_received").unwrap_or(sent);
            whole.insert("num_received".into(), received.into());
            let invalid = count(&whole, "num_invalid").unwrap_or_default();
            if invalid + unfit > 0 {
                whole.insert("num_invalid".into(), (invalid + unfit).into());
            }
        }
        if unfit > 0 && !whole.contains_key("message") {
            let message = format!(
                "{unfit} members were not sent: none of their fields has a form that the platform takes"
            );
            whole.insert("message".into(), message.into());
        }
        // What does not have the form of a receipt is kept as a text.
        Receipt::parse(&Value::Object(whole).to_string())
            .unwrap_or_else(|problem| Receipt { message: Some(problem), ..Receipt::default() })
    }
}

enum Polled {
    Done,
    Waits,
    /// The platform could not process it.
    Failed(String),
    /// It may be processed yet.
    Late(String),
}

/// The most pages of a list of audiences.
const MAX_PAGES: usize = 1000;

/// The audiences that a platform has, page by page.
pub struct Listing<'a> {
    spec: &'a Spec,
    pub values: Values<'a>,
    pub step: &'a Step,
    rows: &'a Rows,
    pages: usize,
    pub audiences: Vec<Value>,
}

impl<'a> Listing<'a> {
    /// None: the connector has no operation `list`.
    pub fn new(spec: &'a Spec, values: Values<'a>) -> Option<Self> {
        let step = spec.operations.get("list")?.steps().first()?;
        let rows = step.take.rows.as_ref()?;
        Some(Self { spec, values, step, rows, pages: 0, audiences: Vec::new() })
    }

    /// Takes the answer into account. True: there is another page to ask for.
    pub fn answered(&mut self, answer: &Answer) -> Result<bool, Verdict> {
        let mut verdict = answer.judge(self.step.rules.iter().chain(&self.spec.rules));
        verdict.problem = self.values.masked(&verdict.problem);
        if verdict.meaning != Meaning::Ok {
            return Err(verdict);
        }
        let Some(page) = self.rows.audiences(answer) else {
            let problem = format!("the answer has no list of audiences: {}", verdict.problem);
            return Err(Verdict { meaning: Meaning::Retry, wait: None, problem });
        };
        self.pages += 1;
        // A platform that gives the same page again has no other.
        let page: Vec<Value> =
            page.into_iter().filter(|found| !self.audiences.contains(found)).collect();
        let is_empty = page.is_empty();
        self.audiences.extend(page);
        let next = self.rows.next(answer, self.pages, self.audiences.len());
        let Some(next) = next.filter(|_| !is_empty && self.pages < MAX_PAGES) else {
            return Ok(false);
        };
        self.values.taken.insert(NEXT.into(), next);
        Ok(true)
    }
}

/// The requests that a message would make, from where the work on it stopped, and the id that the audience
/// has after it. What is not known yet is shown as `{external_id}`, `{taken.name}` or `{kept.name}`. Nothing
/// is sent.
pub fn preview(
    spec: &Spec,
    operation: &Operation,
    values: Values<'_>,
    progress: Progress,
) -> Result<(Vec<Request>, Option<String>), String> {
    let mut work = Work::new(spec, operation, values, progress);
    if work.values.token().is_none() {
        work.values.set_token(super::MASK.into());
    }
    let mut requests = Vec::new();
    while let Some(step) = work.step() {
        requests.push(work.values.request(step)?);
        if step.take.takes_external_id() && work.values.external_id.is_none() {
            work.values.external_id = Some("{external_id}".into());
        }
        let later = |kind: &'static str| {
            move |name: &str| (name.to_owned(), Value::from(format!("{{{kind}.{name}}}")))
        };
        work.values.taken.extend(step.take.taken().map(later("taken")));
        work.values.kept.extend(step.take.kept().map(later("kept")));
        work.progress.done += 1;
    }
    Ok((requests, work.values.external_id))
}
