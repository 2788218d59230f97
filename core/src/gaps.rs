//! What an incremental refresher does not notice: members can be wrong for ever, without an error. Each
//! gap is said when the row is written, and by the doctor.

use crate::config::Incremental;

/// What the analysis of the refresher's queries has found.
#[derive(Debug, Default)]
pub struct Facts {
    /// What `sql` has the time from; none: it does not depend on the clock.
    pub clock: Option<String>,
    /// The tables that `sql` reads and that are neither watched nor read by `changed`.
    pub unlisted: Vec<String>,
    /// Whether `changed` and `expires` compare a parameter with a time without a zone.
    pub zoneless_changed: bool,
    pub zoneless_expires: bool,
}

/// Something that a refresher does not notice.
#[derive(Debug, PartialEq, Eq)]
pub struct Gap {
    pub problem: String,
    pub hint: String,
}

/// The gaps of a refresher. Full passes on schedule close all of them but those of the time zone, which
/// no query is meant to have.
pub fn gaps(refresher: &Incremental, facts: &Facts) -> Vec<Gap> {
    let has_full = refresher.full_cron.is_some();
    let mut found = Vec::new();
    let mut add = |problem: String, hint: &str| found.push(Gap { problem, hint: hint.to_owned() });
    if let Some(clock) = facts.clock.as_ref().filter(|_| !has_full && refresher.expires.is_none()) {
        add(
            format!(
                "\"sql\" depends on the clock ({clock}), and there is neither \"expires\" nor \"full_cron\": members whose answer changes with time alone are not recomputed"
            ),
            "Add \"expires\", a query of the ids whose answer changes between $1 and $2, or full passes: \"full_cron\".",
        );
    }
    if !facts.unlisted.is_empty() && !has_full {
        let (what, tables) = (facts.unlisted.join(", "), facts.unlisted.len());
        let (its, hint) = match refresher.watch {
            Some(_) => (
                if tables == 1 { "which is not watched" } else { "which are not watched" },
                "Add it to \"watch\", or add full passes: \"full_cron\".",
            ),
            None => (
                "which \"changed\" does not read",
                "Have \"changed\" return the ids that change there, too, or add full passes: \"full_cron\".",
            ),
        };
        add(format!("\"sql\" reads {what}, {its}, and there is no \"full_cron\""), hint);
    }
    for (is_zoneless, key, time) in
        [(facts.zoneless_changed, "changed", "$1"), (facts.zoneless_expires, "expires", "$1 or $2")]
    {
        if is_zoneless {
            add(
                format!(
                    "\"{key}\" compares {time} with a timestamp without time zone, which is taken as local time of segmenter.timezone"
                ),
                "Say in which zone it is written: updated_at at time zone 'America/New_York' > $1.",
            );
        }
    }
    if refresher.changed.is_some() && !has_full {
        add(
            "\"changed\" cannot return the ids of deleted rows, unless something records them, and there is no \"full_cron\""
                .into(),
            "Add full passes, which find what is gone: \"full_cron\". Or watch the tables.",
        );
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Watched;

    fn refresher(key: &str, expires: bool, full: bool) -> Incremental {
        Incremental {
            changed: (key == "changed").then(|| "select 1".into()),
            watch: (key == "watch").then(|| vec![Watched { table: "t".into(), id: "id".into() }]),
            sql: "select 1".into(),
            expires: expires.then(|| "select 1".into()),
            full_cron: full.then(|| "@daily".into()),
            family: false,
            create: None,
        }
    }

    fn problems(refresher: &Incremental, facts: &Facts) -> Vec<String> {
        gaps(refresher, facts).into_iter().map(|gap| gap.problem).collect()
    }

    #[test]
    fn the_clock_needs_expires_or_full_passes() {
        let facts = Facts { clock: Some("now()".into()), ..Facts::default() };
        let found = problems(&refresher("watch", false, false), &facts);
        assert!(
            matches!(found.as_slice(), [one] if one.contains("the clock (now())")),
            "{found:?}"
        );
        assert!(problems(&refresher("watch", true, false), &facts).is_empty());
        assert!(problems(&refresher("watch", false, true), &facts).is_empty());
        assert!(problems(&refresher("watch", false, false), &Facts::default()).is_empty());
    }

    #[test]
    fn a_table_that_nothing_lists_needs_full_passes() {
        let facts = Facts { unlisted: vec!["a.b".into(), "a.c".into()], ..Facts::default() };
        let found = problems(&refresher("watch", false, false), &facts);
        assert_eq!(
            found,
            ["\"sql\" reads a.b, a.c, which are not watched, and there is no \"full_cron\""]
        );
        let found = problems(&refresher("changed", false, false), &facts);
        assert!(found[0].contains("a.b, a.c, which \"changed\" does not read"), "{found:?}");
        assert!(problems(&refresher("changed", false, true), &facts).is_empty());
        assert!(!problems(&refresher("watch", true, false), &facts).is_empty());
    }

    #[test]
    fn a_time_without_a_zone_is_said_in_any_case() {
        let facts = Facts { zoneless_changed: true, zoneless_expires: true, ..Facts::default() };
        let found = problems(&refresher("changed", true, true), &facts);
        assert!(found[0].starts_with("\"changed\"") && found[1].starts_with("\"expires\""));
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn deleted_rows_need_full_passes() {
        let found = problems(&refresher("changed", false, false), &Facts::default());
        assert!(matches!(found.as_slice(), [one] if one.contains("deleted")), "{found:?}");
        assert!(problems(&refresher("changed", false, true), &Facts::default()).is_empty());
    }
}
