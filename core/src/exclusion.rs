//! How far a segment has followed the segments whose members it leaves out: their lists. Each list
//! counts the refreshes in which it gained members and those in which it lost some; the segment's
//! state keeps these numbers as it has seen them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::MatchColumn;

/// A list as a segment has seen it last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The columns that members were compared by.
    pub by: Vec<MatchColumn>,
    pub gains: i64,
    pub losses: i64,
}

/// The lists of a segment by their ids, as it has seen them last.
pub type AllSeen<Id> = BTreeMap<Id, Seen>;

impl Seen {
    /// Whether members may have to leave, since the list was seen as `before`.
    pub fn must_close(&self, before: Option<&Seen>) -> bool {
        before.is_none_or(|before| before.by != self.by || before.gains != self.gains)
    }

    /// Whether members may return, since the list was seen as `before`.
    pub fn may_free(&self, before: Option<&Seen>) -> bool {
        before.is_some_and(|before| before.by != self.by || before.losses != self.losses)
    }

    /// What is seen after members have left, and before a refresh of the segment lets others return.
    pub fn after_closing(&self, before: Option<&Seen>) -> Seen {
        let losses = before.map_or(self.losses, |before| before.losses);
        // Other columns than before may let members return, too: a number that the list never has.
        let is_other = before.is_some_and(|before| before.by != self.by);
        Seen { losses: if is_other { -1 } else { losses }, ..self.clone() }
    }
}

/// Whether members may return to a segment: a list has lost members, or is none of its lists now.
pub fn may_free<Id: Ord>(before: &AllSeen<Id>, now: &AllSeen<Id>) -> bool {
    before.keys().any(|list| !now.contains_key(list))
        || now.iter().any(|(list, now)| now.may_free(before.get(list)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(by: &[MatchColumn], gains: i64, losses: i64) -> Seen {
        Seen { by: by.to_vec(), gains, losses }
    }

    const ID: &[MatchColumn] = &[MatchColumn::Id];

    #[test]
    fn a_list_that_gains_closes_and_one_that_loses_frees() {
        let before = seen(ID, 3, 2);
        let gained = seen(ID, 4, 2);
        assert!(gained.must_close(Some(&before)) && !gained.may_free(Some(&before)));
        let lost = seen(ID, 3, 3);
        assert!(!lost.must_close(Some(&before)) && lost.may_free(Some(&before)));
        assert!(!before.must_close(Some(&before)) && !before.may_free(Some(&before)));
        // A new list can only take members away.
        assert!(gained.must_close(None) && !gained.may_free(None));
    }

    #[test]
    fn what_a_closing_leaves_to_free_is_freed_by_the_next_refresh() {
        let before = seen(ID, 3, 2);
        let both = seen(ID, 4, 5);
        let closed = both.after_closing(Some(&before));
        assert!(!both.must_close(Some(&closed)) && both.may_free(Some(&closed)));
        let new = both.after_closing(None);
        assert!(!both.must_close(Some(&new)) && !both.may_free(Some(&new)));
        let other = seen(&[MatchColumn::HashEmail], 3, 2);
        assert!(other.must_close(Some(&before)) && other.may_free(Some(&before)));
        let closed = other.after_closing(Some(&before));
        assert!(!other.must_close(Some(&closed)) && other.may_free(Some(&closed)));
    }

    #[test]
    fn a_list_that_is_none_any_more_frees() {
        let one = AllSeen::from([(1, seen(ID, 1, 1))]);
        let none = AllSeen::new();
        assert!(may_free(&one, &none));
        assert!(!may_free(&none, &one));
        assert!(!may_free(&one, &one.clone()));
    }
}
