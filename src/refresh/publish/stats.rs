//! The result of a hand-over, and what is said of it.

use pgrx::prelude::*;

use crate::error::{counted, emit};
use crate::pg::format::members::{Example, LeftOut};
use crate::refresh::publish::subscription::Subscription;
use segmenter_core::sync_plan::Hold;

/// The result of a hand-over.
#[derive(Debug, Default)]
pub struct PublishStats {
    pub messages: u64,
    /// The number of subscriptions that could not be served; the log has the reasons.
    pub failed: usize,
    /// The number of new audiences whose names are still taken.
    pub held_back: usize,
    /// The number of subscriptions from which changes are held back: those that are paused, and those
    /// with too few members.
    paused: usize,
    too_few: usize,
    /// The number of subscriptions that got all members in place of a delta, and why one of them did.
    made_up: (usize, Option<String>),
    /// Members that cannot be part of a message, of one subscription to which this applies.
    pub(super) left_out: Option<LeftOut>,
}

impl PublishStats {
    pub(super) fn note_held(&mut self, hold: Hold) {
        match hold {
            Hold::Paused => self.paused += 1,
            Hold::TooFew { .. } => self.too_few += 1,
        }
    }

    /// Notes why a subscription gets all members in place of a delta, if it does.
    pub(super) fn note_made_up(&mut self, why: Option<String>) {
        if let Some(why) = why {
            self.made_up.0 += 1;
            self.made_up.1.get_or_insert(why);
        }
    }

    /// Whether changes are held back from a subscription.
    pub fn is_held(&self) -> bool {
        self.paused + self.too_few > 0
    }

    /// A remark about what was not handed over; none: all was.
    pub fn remark(&self) -> Option<String> {
        let number = |count: usize| counted(count as i64, "subscription");
        let failed = (self.failed > 0)
            .then(|| format!("it could not be handed over to {}", number(self.failed)));
        let held_back = (self.held_back > 0).then(|| {
            format!(
                "{} will be handed over after the end of an audience of the same name",
                number(self.held_back)
            )
        });
        let held = |count: usize, why: &str| {
            (count > 0).then(|| format!("changes are held back from {}{why}", number(count)))
        };
        let verb = if self.paused == 1 { ", which is paused" } else { ", which are paused" };
        let paused = held(self.paused, verb);
        let too_few = held(self.too_few, " with fewer members than min_members");
        let made_up = match &self.made_up {
            (count, Some(why)) => Some(format!("{} got all members: {why}", number(*count))),
            _ => None,
        };
        let left_out = self.left_out.as_ref().map(describe);
        let remarks = [failed, held_back, paused, too_few, made_up, left_out];
        let remarks: Vec<_> = remarks.into_iter().flatten().collect();
        (!remarks.is_empty()).then(|| remarks.join("; "))
    }
}

/// Names members that cannot be part of a message, and the largest of those that soon may not be.
pub(super) fn describe(left_out: &LeftOut) -> String {
    let name = |Example { id, column, problem }: &Example| {
        let id: String = id.chars().take(100).collect();
        format!("id \"{id}\", column \"{column}\": {problem}")
    };
    let clause = |count: u64, one: &str, many: &str, examples: String| {
        let verb = if count == 1 { one } else { many };
        (count > 0).then(|| format!("{} {verb} ({examples})", counted(count as i64, "member")))
    };
    let examples = left_out.examples.iter().map(name).collect::<Vec<_>>().join("; ");
    let largest = left_out.largest.iter().map(name).collect();
    let (left, large) = (
        clause(left_out.count, "was left out of messages", "were left out of messages", examples),
        clause(
            left_out.large,
            "is close to the limit of a message",
            "are close to the limit of a message",
            largest,
        ),
    );
    left.into_iter().chain(large).collect::<Vec<_>>().join("; ")
}

pub(super) fn warn_left_out(subscription: &Subscription, left_out: &LeftOut) {
    let Subscription { consumer, target, segment_name, .. } = subscription;
    emit(
        PgLogLevel::WARNING,
        format!(
            "segment \"{segment_name}\" for \"{consumer}\", \"{target}\": {}",
            describe(left_out)
        ),
        Some(
            "A value must be one that jsonb can hold; a message can have about 250 MB. Leave the field out, or convert it in the segment's query.",
        ),
    );
}
