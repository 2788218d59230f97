//! The queue of a scheduler: when segments become due, which are due, and which of these must wait
//! for others. The work grows with the number of due segments, not with the number of all segments.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::Hash;

use crate::clock::Instant;

/// A due segment.
struct Entry<K, T> {
    key: K,
    /// The segments that must be finished first.
    after: HashSet<K>,
    what: T,
}

/// Segments, identified by `K`; `T` is the data of a due one.
pub struct Queue<K, T> {
    by_time: BTreeSet<(Instant, K)>,
    times: HashMap<K, Instant>,
    /// The due segments in their order, and their keys.
    pending: Vec<Entry<K, T>>,
    pending_keys: HashSet<K>,
}

impl<K, T> Default for Queue<K, T> {
    fn default() -> Self {
        Self {
            by_time: BTreeSet::new(),
            times: HashMap::new(),
            pending: Vec::new(),
            pending_keys: HashSet::new(),
        }
    }
}

impl<K: Copy + Ord + Hash, T> Queue<K, T> {
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Sets when a segment becomes due next; `None`: never. A segment that is due already stays
    /// due.
    pub fn set(&mut self, key: K, time: Option<Instant>) {
        if let Some(before) = self.times.remove(&key) {
            self.by_time.remove(&(before, key));
        }
        if let Some(time) = time.filter(|_| !self.is_pending(key)) {
            self.by_time.insert((time, key));
            self.times.insert(key, time);
        }
    }

    /// When the next segment becomes due.
    pub fn next(&self) -> Option<Instant> {
        self.by_time.first().map(|(time, _)| *time)
    }

    /// Removes and returns the segments whose time has come.
    pub fn take_due(&mut self, now: Instant) -> Vec<K> {
        let mut due = Vec::new();
        while let Some((_, key)) = self.by_time.first().filter(|(time, _)| *time <= now).copied() {
            self.set(key, None);
            due.push(key);
        }
        due
    }

    /// Replaces the due segments. They are given in their order, each with the segments that it
    /// must come after.
    pub fn put(&mut self, pending: impl IntoIterator<Item = (K, HashSet<K>, T)>) {
        self.pending =
            pending.into_iter().map(|(key, after, what)| Entry { key, after, what }).collect();
        self.pending_keys = self.pending().collect();
    }

    pub fn is_pending(&self, key: K) -> bool {
        self.pending_keys.contains(&key)
    }

    pub fn pending(&self) -> impl Iterator<Item = K> {
        self.pending.iter().map(|pending| pending.key)
    }

    /// Removes and returns the first due segment that is not running itself and does not come after
    /// one that is due or running.
    pub fn take_ready(&mut self, running: &HashSet<K>) -> Option<(K, T)> {
        let is_unfinished = |key: &K| running.contains(key) || self.pending_keys.contains(key);
        let ready = self.pending.iter().position(|pending| {
            !running.contains(&pending.key) && !pending.after.iter().any(is_unfinished)
        })?;
        let Entry { key, what, .. } = self.pending.remove(ready);
        self.pending_keys.remove(&key);
        Some((key, what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{DateTime, TimeDelta};

    fn at(seconds: i64) -> Instant {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
    }

    fn after(keys: &[u8]) -> HashSet<u8> {
        keys.iter().copied().collect()
    }

    #[test]
    fn segments_become_due_in_the_order_of_their_times() {
        let mut queue = Queue::<u8, ()>::default();
        queue.set(1, Some(at(30)));
        queue.set(2, Some(at(10)));
        queue.set(3, Some(at(20)));
        queue.set(3, Some(at(5)));
        queue.set(4, Some(at(1)));
        queue.set(4, None);
        assert_eq!(queue.next(), Some(at(5)));
        assert!(queue.take_due(at(4)).is_empty());
        assert_eq!(queue.take_due(at(10)), [3, 2]);
        assert_eq!(queue.next(), Some(at(30)));
    }

    #[test]
    fn a_segment_waits_for_those_that_it_reads() {
        let mut queue = Queue::default();
        queue.put([(1, after(&[2, 9]), 'a'), (2, after(&[]), 'b'), (3, after(&[]), 'c')]);
        // 9 is not in the queue.
        assert_eq!(queue.take_ready(&after(&[])), Some((2, 'b')));
        assert_eq!(queue.take_ready(&after(&[2])), Some((3, 'c')));
        assert_eq!(queue.take_ready(&after(&[2, 3])), None);
        assert_eq!(queue.take_ready(&after(&[3])), Some((1, 'a')));
    }

    #[test]
    fn a_running_segment_is_not_started_again() {
        let mut queue = Queue::default();
        queue.put([(1, after(&[]), ())]);
        queue.set(1, Some(at(0)));
        assert_eq!(queue.next(), None);
        assert_eq!(queue.take_ready(&after(&[1])), None);
        assert_eq!(queue.take_ready(&after(&[])), Some((1, ())));
    }
}
