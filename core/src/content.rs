//! What a segment's table holds, in short: the number of members and sums of their fingerprints. The
//! state keeps it as it was after the last refresh, so that the next one notices rows that were
//! changed by hand.

use serde::{Deserialize, Serialize};

/// The number of members, and the sums of the hashes of their ids and of their rows. The order of
/// the rows does not matter. A difference between two of them is one, too: sums wrap around.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checksum {
    pub members: u64,
    pub ids: u64,
    pub rows: u64,
}

impl Checksum {
    /// Adds a member with these hashes of its id and its row.
    pub fn add(&mut self, (id, row): (u64, u64)) {
        *self = self.plus(Self { members: 1, ids: id, rows: row });
    }

    /// Takes a member away.
    pub fn remove(&mut self, (id, row): (u64, u64)) {
        self.members = self.members.wrapping_sub(1);
        self.ids = self.ids.wrapping_sub(id);
        self.rows = self.rows.wrapping_sub(row);
    }

    pub fn plus(self, other: Self) -> Self {
        Self {
            members: self.members.wrapping_add(other.members),
            ids: self.ids.wrapping_add(other.ids),
            rows: self.rows.wrapping_add(other.rows),
        }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            members: self.members.wrapping_sub(other.members),
            ids: self.ids.wrapping_sub(other.ids),
            rows: self.rows.wrapping_sub(other.rows),
        }
    }
}

/// The hash function. Another number is another function, whose sums cannot be compared.
pub const VERSION: u32 = 1;

/// How rows are hashed: only sums over the same are comparable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hashed {
    pub version: u32,
    /// The seed of the hashes.
    pub seed: u64,
    /// The cluster and the database, if values have other bytes elsewhere, such as those of an enum.
    pub place: String,
    /// A hash of the columns, by name and type, that the hash of a row covers.
    pub columns: u64,
}

/// The members of a segment's table after the last refresh, as the state keeps them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    #[serde(flatten)]
    pub hashed: Hashed,
    pub ids: u64,
    pub rows: u64,
    /// The file that held the table's rows: TRUNCATE and whatever rewrites the table changes it.
    pub storage: u32,
    /// The columns, by name, that the hash of a row covers.
    #[serde(default)]
    pub names: Vec<String>,
}

impl Content {
    /// A content that the table does not have: the next refresh takes its rows for changed by hand, and
    /// an incremental pass reads them all.
    pub fn doubted(self) -> Self {
        Self { ids: self.ids.wrapping_add(1), storage: 0, ..self }
    }
}

/// What is known of the members after the last refresh.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Their number; `None`: it is not known.
    pub members: Option<u64>,
    /// `None`: not known, or not comparable.
    pub content: Option<Content>,
}

/// Rows of the table were changed by hand since the last refresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edited {
    /// The members after the last refresh.
    pub before: u64,
    /// The members that were found.
    pub found: u64,
}

impl Known {
    /// Keeps a content only if its hash function is the present one.
    pub fn new(members: Option<u64>, content: Option<Content>) -> Self {
        Self { members, content: content.filter(|content| content.hashed.version == VERSION) }
    }

    /// Compares what is known with what was found in the table. `hashed` tells how the found rows
    /// were hashed, with the seed that is known if there is one.
    pub fn edited(&self, found: &Checksum, hashed: &Hashed) -> Option<Edited> {
        let other_number = self.members.is_some_and(|members| members != found.members);
        let other_rows = self.content.as_ref().is_some_and(|known| {
            let is_same_hash = known.hashed.seed == hashed.seed;
            let is_comparable = known.hashed == *hashed;
            is_same_hash && known.ids != found.ids || is_comparable && known.rows != found.rows
        });
        let before = self.members.unwrap_or(found.members);
        (other_number || other_rows).then_some(Edited { before, found: found.members })
    }

    /// The content after these members were deleted, given how they were hashed.
    pub fn without(&self, gone: Checksum, hashed: &Hashed) -> Option<Content> {
        self.changed(Checksum::default().minus(gone), hashed)
    }

    /// What is known with a change: what was changed by hand before stays a difference. Where rows are
    /// hashed otherwise by now, only the ids are known any further.
    fn changed(&self, change: Checksum, hashed: &Hashed) -> Option<Content> {
        let mut content = self.content.clone()?;
        if content.hashed.seed != hashed.seed {
            return None;
        }
        content.ids = content.ids.wrapping_add(change.ids);
        if content.hashed == *hashed {
            content.rows = content.rows.wrapping_add(change.rows);
        }
        Some(content)
    }

    /// The content after a change, given how the rows of the change were hashed. `found`: the
    /// members before it, if they were read; otherwise they are taken to be those that are known.
    /// `None`: it is not known.
    pub fn after(
        &self,
        found: Option<Checksum>,
        change: Checksum,
        (hashed, names): (Hashed, Vec<String>),
        storage: u32,
    ) -> Option<Content> {
        match found {
            Some(found) => {
                let Checksum { ids, rows, .. } = found.plus(change);
                Some(Content { hashed, ids, rows, storage, names })
            }
            None => Some(Content { storage, ..self.changed(change, &hashed)? }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(members: &[(u64, u64)]) -> Checksum {
        members.iter().fold(Checksum::default(), |mut sum, member| {
            sum.add(*member);
            sum
        })
    }

    fn hashed() -> Hashed {
        Hashed { version: VERSION, seed: 7, place: "1/2".into(), columns: 3 }
    }

    fn known(members: &[(u64, u64)]) -> Known {
        let sum = sum(members);
        let content = Content {
            hashed: hashed(),
            ids: sum.ids,
            rows: sum.rows,
            storage: 5,
            names: Vec::new(),
        };
        Known::new(Some(sum.members), Some(content))
    }

    const ONE: (u64, u64) = (u64::MAX, 10);
    const TWO: (u64, u64) = (2, u64::MAX - 3);

    #[test]
    fn the_order_does_not_matter_and_a_removal_undoes_an_addition() {
        assert_eq!(sum(&[ONE, TWO]), sum(&[TWO, ONE]));
        let mut both = sum(&[ONE, TWO]);
        both.remove(ONE);
        assert_eq!(both, sum(&[TWO]));
        let mut change = Checksum::default();
        change.remove(ONE);
        assert_eq!(sum(&[ONE, TWO]).plus(change), sum(&[TWO]));
    }

    #[test]
    fn changes_by_hand_are_noticed() {
        let state = known(&[ONE, TWO]);
        let edited = |found: &[(u64, u64)]| state.edited(&sum(found), &hashed());
        assert_eq!(edited(&[ONE, TWO]), None);
        assert_eq!(edited(&[]), Some(Edited { before: 2, found: 0 }));
        // One left and another came; one has other values.
        assert_eq!(edited(&[ONE, (3, 3)]), Some(Edited { before: 2, found: 2 }));
        assert_eq!(edited(&[ONE, (TWO.0, 1)]), Some(Edited { before: 2, found: 2 }));
    }

    #[test]
    fn only_what_is_comparable_is_compared() {
        let state = known(&[ONE, TWO]);
        // Other columns, or another cluster: the rows are not comparable, the ids are.
        for other in [Hashed { columns: 4, ..hashed() }, Hashed { place: "1/3".into(), ..hashed() }]
        {
            assert_eq!(state.edited(&sum(&[ONE, (TWO.0, 1)]), &other), None);
            assert!(state.edited(&sum(&[ONE, (3, 3)]), &other).is_some());
        }
        // Another seed: nothing but the number is.
        let other = Hashed { seed: 8, ..hashed() };
        assert_eq!(state.edited(&sum(&[ONE, (3, 3)]), &other), None);
        assert!(state.edited(&sum(&[ONE]), &other).is_some());
        let unknown = Known::new(None, None);
        assert_eq!(unknown.edited(&sum(&[ONE]), &hashed()), None);
        // After an upgrade the number alone is known.
        let number = Known::new(Some(2), None);
        assert_eq!(number.edited(&sum(&[ONE, (3, 3)]), &hashed()), None);
        let edited = number.edited(&sum(&[ONE]), &hashed());
        assert_eq!(edited, Some(Edited { before: 2, found: 1 }));
        let mut content = state.content.clone().expect("content");
        content.hashed.version = VERSION + 1;
        assert!(Known::new(Some(2), Some(content)).content.is_none());
    }

    #[test]
    fn the_content_follows_the_changes() {
        let state = known(&[ONE]);
        let mut change = Checksum::default();
        change.add(TWO);
        let after = state.after(None, change, (hashed(), Vec::new()), 5);
        assert_eq!(after, known(&[ONE, TWO]).content);
        // What was found counts more than what is known.
        let after = state.after(Some(sum(&[])), change, (hashed(), Vec::new()), 5);
        assert_eq!(after, known(&[TWO]).content);
        // Rows that are hashed otherwise by now, as in a restored database: the ids are still known.
        let other = Hashed { place: "1/3".into(), ..hashed() };
        let after = state.after(None, change, (other.clone(), Vec::new()), 5);
        let after = Known::new(Some(2), after);
        assert_eq!(after.edited(&sum(&[ONE, (TWO.0, 1)]), &other), None);
        assert!(after.edited(&sum(&[ONE, (3, 3)]), &other).is_some());
        let other = Hashed { seed: 8, ..hashed() };
        assert_eq!(state.after(None, change, (other, Vec::new()), 5), None);
        assert_eq!(Known::default().after(None, change, (hashed(), Vec::new()), 5), None);
    }

    #[test]
    fn who_is_deleted_is_taken_from_the_content() {
        let state = known(&[ONE, TWO]);
        assert_eq!(state.without(sum(&[TWO]), &hashed()), known(&[ONE]).content);
        // A row that was changed by hand before stays a difference.
        let left = Known::new(Some(1), state.without(sum(&[(TWO.0, 1)]), &hashed()));
        assert!(left.edited(&sum(&[ONE]), &hashed()).is_some());
        // With other columns only the ids can be told.
        let other = Hashed { columns: 4, ..hashed() };
        let left = Known::new(Some(1), state.without(sum(&[(TWO.0, 1)]), &other));
        assert_eq!(left.edited(&sum(&[(ONE.0, 1)]), &other), None);
        assert!(left.edited(&sum(&[(3, 3)]), &other).is_some());
        assert_eq!(Known::default().without(sum(&[ONE]), &hashed()), None);
    }

    #[test]
    fn the_content_is_kept_as_json() {
        let content = known(&[ONE, TWO]).content.expect("content");
        let json = serde_json::to_string(&content).expect("json");
        assert_eq!(serde_json::from_str::<Content>(&json).expect("content"), content);
    }
}
