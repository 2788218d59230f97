//! How far a refresh or a delivery has got.

/// What a process is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    WaitingForLock,
    CheckingSources,
    ReadingMembers,
    Comparing,
    Applying,
    HandingOver,
    Delivering,
}

impl Phase {
    /// All phases, in the order in which a refresh passes through them.
    pub const ALL: [Phase; 7] = [
        Phase::WaitingForLock,
        Phase::CheckingSources,
        Phase::ReadingMembers,
        Phase::Comparing,
        Phase::Applying,
        Phase::HandingOver,
        Phase::Delivering,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Phase::WaitingForLock => "waiting for lock",
            Phase::CheckingSources => "checking sources",
            Phase::ReadingMembers => "reading members",
            Phase::Comparing => "comparing",
            Phase::Applying => "applying",
            Phase::HandingOver => "handing over",
            Phase::Delivering => "delivering",
        }
    }
}

/// What is expected of a phase and of those after it, in rows. It is made when the phase begins and stays
/// as it is, so that the fraction never goes back.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Expectation {
    /// The fraction of the whole work that was done when the phase began.
    pub floor: f64,
    /// The rows of the phase.
    pub rows: u64,
    /// The rows of later phases.
    pub later: u64,
}

impl Expectation {
    /// The fraction of the whole work that is done once the phase has handled `done` rows. A phase that has
    /// more rows than were expected stays at its end.
    pub fn fraction(&self, done: u64) -> f64 {
        let all = self.rows.saturating_add(self.later);
        if all == 0 {
            return self.floor;
        }
        let share = done.min(self.rows) as f64 / all as f64;
        (self.floor + (1.0 - self.floor) * share).clamp(self.floor, 1.0)
    }

    /// The expectation of the next phase, which begins after `done` rows of this one.
    pub fn next(&self, done: u64, rows: u64, later: u64) -> Self {
        Self { floor: self.fraction(done), rows, later }
    }
}

/// The rows that are written where a query is expected to return `received` rows for a segment of `before`
/// members: at least as many as their numbers differ.
pub fn least_written(before: u64, received: u64) -> u64 {
    before.abs_diff(received)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fraction_never_goes_back_and_ends_at_one() {
        // 10 members, 30 rows of the query expected: 20 at least are written.
        let reading = Expectation { floor: 0.0, rows: 10, later: 50 };
        assert_eq!(reading.fraction(0), 0.0);
        assert_eq!(reading.fraction(10), reading.fraction(1000));
        let comparing = reading.next(10, 30, least_written(10, 30));
        let applying = comparing.next(25, 40, 0);
        assert_eq!(applying.fraction(40), 1.0);
        let mut last = 0.0;
        for (phase, rows) in [(reading, 12), (comparing, 25), (applying, 45)] {
            for done in 0..=rows {
                let fraction = phase.fraction(done);
                assert!((last..=1.0).contains(&fraction), "{fraction} after {last}");
                last = fraction;
            }
        }
    }

    #[test]
    fn a_phase_of_no_rows_stays_where_it_began() {
        let nothing = Expectation { floor: 0.25, rows: 0, later: 0 };
        assert_eq!(nothing.fraction(5), 0.25);
        assert_eq!(nothing.next(5, u64::MAX, u64::MAX).fraction(u64::MAX), 1.0);
    }

    #[test]
    fn phases_have_names_of_their_own() {
        let names: std::collections::HashSet<_> = Phase::ALL.map(Phase::as_str).into();
        assert_eq!(names.len(), Phase::ALL.len());
        // Their places are what shared memory holds.
        for (place, phase) in Phase::ALL.into_iter().enumerate() {
            assert_eq!(phase as usize, place);
        }
    }
}
