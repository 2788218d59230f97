//! Why members of a segment change.

use ring::digest;

/// The reason of a change, which the log keeps with the refresh, the hand-over or the erasure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// What the refresher reads has changed.
    Data,
    /// Time has passed: an incremental pass has looked at nothing but ids of `expires`.
    Clock,
    /// The refresher is another one than that of the refresh before.
    Definition,
    /// Members have come to a list, or left it.
    Exclusion,
    /// The same for a segment with a lower priority.
    Priority,
    OneOff,
    FirstLoad,
    /// All members were handed over again.
    Resync,
    Erased,
}

impl Reason {
    pub const ALL: [Self; 9] = [
        Reason::Data,
        Reason::Clock,
        Reason::Definition,
        Reason::Exclusion,
        Reason::Priority,
        Reason::OneOff,
        Reason::FirstLoad,
        Reason::Resync,
        Reason::Erased,
    ];

    /// The reason with a name; none: there is no such reason.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Data => "data",
            Reason::Clock => "clock",
            Reason::Definition => "definition",
            Reason::Exclusion => "exclusion",
            Reason::Priority => "priority",
            Reason::OneOff => "one-off",
            Reason::FirstLoad => "first load",
            Reason::Resync => "resync",
            Reason::Erased => "erased",
        }
    }
}

/// A hash that tells refreshers apart.
pub fn hash(refresher: &str) -> String {
    let hash = digest::digest(&digest::SHA256, refresher.as_bytes());
    hash.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// What is known of a refresh that decides its reason.
#[derive(Debug, Clone, Copy, Default)]
pub struct Facts<'a> {
    pub is_one_off: bool,
    /// The segment was refreshed successfully before.
    pub is_refreshed: bool,
    /// The refresher that the last refresh ran with, and the present one; none: not known.
    pub ran_with: Option<&'a str>,
    pub runs_with: &'a str,
    /// Time alone has changed the answers that were looked at.
    pub is_by_clock: bool,
}

/// The reason of the changes that a refresh makes itself.
pub fn of_refresh(facts: Facts<'_>) -> Reason {
    match facts {
        Facts { is_one_off: true, .. } => Reason::OneOff,
        Facts { is_refreshed: false, .. } => Reason::FirstLoad,
        Facts { ran_with: Some(before), runs_with, .. } if before != runs_with => {
            Reason::Definition
        }
        Facts { is_by_clock: true, .. } => Reason::Clock,
        _ => Reason::Data,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_have_names() {
        for reason in Reason::ALL {
            assert_eq!(Reason::named(reason.as_str()), Some(reason));
        }
        assert_eq!(Reason::named("Data"), None);
    }

    #[test]
    fn the_strongest_reason_counts() {
        let facts = Facts { is_refreshed: true, runs_with: "b", ..Facts::default() };
        assert_eq!(of_refresh(facts), Reason::Data);
        assert_eq!(of_refresh(Facts { is_by_clock: true, ..facts }), Reason::Clock);
        let altered = Facts { ran_with: Some("a"), is_by_clock: true, ..facts };
        assert_eq!(of_refresh(altered), Reason::Definition);
        assert_eq!(of_refresh(Facts { runs_with: "a", ..altered }), Reason::Clock);
        assert_eq!(of_refresh(Facts { is_refreshed: false, ..altered }), Reason::FirstLoad);
        let one_off = Facts { is_one_off: true, is_refreshed: false, ..altered };
        assert_eq!(of_refresh(one_off), Reason::OneOff);
    }
}
