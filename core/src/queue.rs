//! The queue of a scheduler: when segments become due, which are due, and which of these must wait
//! for others. The work grows with the number of due segments, not with the number of all segments.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::Hash;

use crate::clock::Instant;

/// What a due segment reads, and where it is stored: it starts after the segments before it that
/// are stored in a table that it reads, and after its lists.
#[derive(Clone)]
pub struct Position<K, R> {
    pub stored_in: R,
    pub reads: Vec<R>,
    /// The segments whose members it leaves out.
    pub lists: Vec<K>,
    /// Whether it reads the mart, which has all segments.
    pub reads_everything: bool,
}

/// A due segment, or a running one that others may have to wait for.
struct Entry<K, R, T> {
    key: K,
    position: Position<K, R>,
    /// None: it was started.
    what: Option<T>,
}

/// What becomes of a segment that can be started.
pub enum Offer<T> {
    /// It is taken.
    Taken,
    /// It stays due, and the next one is offered.
    Declined(T),
    /// It stays due, as all others.
    Stop(T),
}

/// Segments, identified by `K`; `R` identifies tables, `T` is the data of a due segment.
pub struct Queue<K, R, T> {
    by_time: BTreeSet<(Instant, K)>,
    times: HashMap<K, Instant>,
    /// The due segments in their order, with running ones among them.
    entries: Vec<Entry<K, R, T>>,
    /// The keys of the due ones.
    pending: HashSet<K>,
}

impl<K, R, T> Default for Queue<K, R, T> {
    fn default() -> Self {
        Self {
            by_time: BTreeSet::new(),
            times: HashMap::new(),
            entries: Vec::new(),
            pending: HashSet::new(),
        }
    }
}

impl<K: Copy + Ord + Hash, R: Copy + Eq + Hash, T> Queue<K, R, T> {
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

    /// Replaces the due segments. They are given in their order, with the running ones, which have
    /// no data, at their places.
    pub fn put(&mut self, entries: impl IntoIterator<Item = (K, Position<K, R>, Option<T>)>) {
        let entries = entries.into_iter();
        self.entries = entries.map(|(key, position, what)| Entry { key, position, what }).collect();
        let due = self.entries.iter().filter(|entry| entry.what.is_some());
        self.pending = due.map(|entry| entry.key).collect();
    }

    pub fn is_pending(&self, key: K) -> bool {
        self.pending.contains(&key)
    }

    pub fn pending(&self) -> impl Iterator<Item = K> {
        self.pending.iter().copied()
    }

    /// Offers the due segments that can be started, in their order: those that are not running, and
    /// that read no table in which one before them is stored that is due or running.
    pub fn offer(&mut self, running: &HashSet<K>, mut take: impl FnMut(K, T) -> Offer<T>) {
        self.entries.retain(|entry| entry.what.is_some() || running.contains(&entry.key));
        let (mut occupied, mut before) = (HashSet::new(), HashSet::new());
        for entry in &mut self.entries {
            let Position { stored_in, reads, lists, reads_everything } = &entry.position;
            let must_wait = running.contains(&entry.key)
                || *reads_everything && !occupied.is_empty()
                || reads.iter().any(|table| occupied.contains(table))
                || lists.iter().any(|list| before.contains(list));
            occupied.insert(*stored_in);
            before.insert(entry.key);
            let Some(what) = entry.what.take_if(|_| !must_wait) else { continue };
            match take(entry.key, what) {
                Offer::Taken => {
                    self.pending.remove(&entry.key);
                }
                Offer::Declined(what) => entry.what = Some(what),
                Offer::Stop(what) => {
                    entry.what = Some(what);
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{DateTime, TimeDelta};

    fn at(seconds: i64) -> Instant {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
    }

    /// Stored in the table of its own number, with what it reads.
    fn reading(key: u8, reads: &[u8]) -> (u8, Position<u8, u8>, Option<char>) {
        let position = Position {
            stored_in: key,
            reads: reads.to_vec(),
            lists: Vec::new(),
            reads_everything: false,
        };
        (key, position, Some('a'))
    }

    /// The first one that can be started, which is taken.
    fn first(queue: &mut Queue<u8, u8, char>, running: &[u8]) -> Option<u8> {
        let mut taken = None;
        queue.offer(&running.iter().copied().collect(), |key, what| {
            if taken.is_some() {
                return Offer::Stop(what);
            }
            taken = Some(key);
            Offer::Taken
        });
        taken
    }

    #[test]
    fn segments_become_due_in_the_order_of_their_times() {
        let mut queue = Queue::<u8, u8, ()>::default();
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
        // Nothing is stored in table 9.
        queue.put([reading(2, &[]), reading(3, &[]), reading(1, &[2, 9])]);
        assert_eq!(first(&mut queue, &[]), Some(2));
        assert_eq!(first(&mut queue, &[2]), Some(3));
        assert_eq!(first(&mut queue, &[2, 3]), None);
        assert_eq!(first(&mut queue, &[3]), Some(1));
        assert_eq!(first(&mut queue, &[]), None);
    }

    #[test]
    fn a_segment_waits_for_its_lists() {
        let mut queue = Queue::default();
        let mut last = reading(2, &[]);
        last.1.lists = vec![1];
        queue.put([reading(1, &[]), last]);
        assert_eq!(first(&mut queue, &[]), Some(1));
        assert_eq!(first(&mut queue, &[1]), None);
        assert_eq!(first(&mut queue, &[]), Some(2));
    }

    #[test]
    fn a_segment_that_reads_everything_waits_for_all_before_it() {
        let mut queue = Queue::default();
        let mut all = reading(2, &[]);
        all.1.reads_everything = true;
        queue.put([reading(1, &[]), all, reading(3, &[])]);
        assert_eq!(first(&mut queue, &[]), Some(1));
        assert_eq!(first(&mut queue, &[1]), Some(3));
        assert_eq!(first(&mut queue, &[1, 3]), None);
        assert_eq!(first(&mut queue, &[3]), Some(2));
    }

    #[test]
    fn a_running_segment_is_not_started_again_and_others_wait_for_it() {
        let mut queue = Queue::default();
        let (key, position, _) = reading(1, &[]);
        queue.put([(key, position, None), reading(2, &[1])]);
        assert!(!queue.is_pending(1) && queue.is_pending(2));
        assert_eq!(first(&mut queue, &[1]), None);
        assert_eq!(first(&mut queue, &[]), Some(2));

        queue.put([reading(1, &[])]);
        queue.set(1, Some(at(0)));
        assert_eq!(queue.next(), None);
        assert_eq!(first(&mut queue, &[1]), None);
        assert_eq!(first(&mut queue, &[]), Some(1));
    }

    #[test]
    fn a_declined_segment_stays_due() {
        let mut queue = Queue::default();
        queue.put([reading(1, &[]), reading(2, &[]), reading(3, &[1])]);
        let mut offered = Vec::new();
        queue.offer(&HashSet::new(), |key, what| {
            offered.push(key);
            if key == 1 { Offer::Declined(what) } else { Offer::Taken }
        });
        assert_eq!(offered, [1, 2]);
        assert!(queue.is_pending(1) && !queue.is_pending(2) && queue.is_pending(3));
    }
}
