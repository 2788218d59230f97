//! The tables that a segment's queries read, compared with those of its last refresh.

use std::collections::{BTreeMap, BTreeSet};

/// Tables by name, with their OIDs.
pub type Tables = BTreeMap<String, u32>;

/// What is another table than last time, in words; none: all are the same. A table that was renamed
/// is the same.
pub fn replaced(before: &Tables, now: &Tables) -> Option<String> {
    let known: BTreeSet<_> = before.values().collect();
    let new: Vec<_> = now.iter().filter(|(_, oid)| !known.contains(oid)).collect();
    let words = |names: Vec<&str>, one: &str, many: &str| match names.as_slice() {
        [] => None,
        [name] => Some(format!("{name} {one}")),
        names => Some(format!("{} {many}", names.join(", "))),
    };
    let (swapped, added): (Vec<_>, Vec<_>) =
        new.into_iter().map(|(name, _)| name.as_str()).partition(|name| before.contains_key(*name));
    let found = [
        words(
            swapped,
            "is another table than at the last refresh",
            "are other tables than at the last refresh",
        ),
        words(added, "was not read by the last refresh", "were not read by the last refresh"),
    ];
    let found: Vec<_> = found.into_iter().flatten().collect();
    if !found.is_empty() {
        return Some(found.join("; "));
    }
    let current: BTreeSet<_> = now.values().collect();
    let gone = before.iter().filter(|(_, oid)| !current.contains(oid));
    words(
        gone.map(|(name, _)| name.as_str()).collect(),
        "is not read any more",
        "are not read any more",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables(named: &[(&str, u32)]) -> Tables {
        named.iter().map(|(name, oid)| ((*name).to_owned(), *oid)).collect()
    }

    #[test]
    fn a_table_under_the_name_of_another_is_found() {
        let before = tables(&[("a.b", 1), ("a.c", 2)]);
        let found = |now: &[(&str, u32)]| replaced(&before, &tables(now));
        assert_eq!(found(&[("a.b", 1), ("a.c", 2)]), None);
        assert_eq!(found(&[("a.renamed", 1), ("a.c", 2)]), None);
        assert_eq!(found(&[("a.b", 2), ("a.c", 1)]), None, "both are still read");
        let swapped = found(&[("a.b", 3), ("a.c", 2)]);
        assert_eq!(swapped.as_deref(), Some("a.b is another table than at the last refresh"));
        let both = found(&[("a.b", 3), ("a.c", 4), ("a.d", 5)]);
        assert_eq!(
            both.as_deref(),
            Some(
                "a.b, a.c are other tables than at the last refresh; a.d was not read by the last refresh"
            )
        );
        assert_eq!(found(&[("a.b", 1)]).as_deref(), Some("a.c is not read any more"));
        assert_eq!(found(&[]).as_deref(), Some("a.b, a.c are not read any more"));
    }
}
