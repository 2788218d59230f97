//! The last refreshes that did not succeed.

use std::collections::{BTreeMap, HashMap, HashSet};

use pgrx::datum::Uuid;

use super::findings::{Findings, Level};
use super::texts;
use crate::catalog::queries;
use crate::catalog::relation_set::{Relation, RelationSet};
use crate::catalog::viewer::Viewer;
use crate::error::Result;
use crate::schedule::due::Item;

/// An automatic segment that failed or was refused stays as it is until an operator acts, which an alert is for.
/// Segments that wait for one whose members they leave out are counted with that one.
pub(super) fn check(
    found: &mut Findings,
    set: &RelationSet,
    viewer: Viewer,
    items: &[Item],
) -> Result<()> {
    let sql = &queries::ops::doctor::LAST_FAILURES;
    let rows: Vec<[String; 4]> =
        texts(set, sql, &[viewer.role.into(), viewer.sees_figures.into()])?;
    let late = Late::of(items, &rows);
    let mut followers: BTreeMap<&str, i64> = BTreeMap::new();
    for [name, status, ..] in &rows {
        if let Some(list) = late.waits_for(name, status) {
            *followers.entry(list).or_default() += 1;
        }
    }
    let hint =
        format!("See {} for the error, its detail and its hint.", set.display_name(Relation::Log));
    for [name, status, message, automatic] in &rows {
        if late.waits_for(name, status).is_some() {
            continue;
        }
        let ended = match status.as_str() {
            "failed" => "has failed",
            "waiting" => "is waiting",
            "refused" => "was refused",
            _ => "was interrupted",
        };
        let level = match status.as_str() {
            "failed" | "refused" if !automatic.is_empty() => Level::Problem,
            _ => Level::Warning,
        };
        let waiting = followers.remove(name.as_str()).map(wait).unwrap_or_default();
        let detail = format!("segment \"{name}\" {ended}: {message}{waiting}");
        found.add("refreshes", level, detail, Some(hint.clone()));
    }
    // Those that have not failed: they were never refreshed.
    for (name, count) in followers {
        let detail = format!("segment \"{name}\" was never refreshed{}", wait(count));
        found.add("refreshes", Level::Warning, detail, Some(hint.clone()));
    }
    found.close_segments("refreshes", "the last refresh of every segment went well");
    Ok(())
}

fn wait(followers: i64) -> String {
    match followers {
        1 => "; 1 segment that leaves out its members waits for it".to_owned(),
        many => format!("; {many} segments that leave out its members wait for it"),
    }
}

/// The segments that are not up to date, as far as others that leave out their members wait for them.
struct Late<'a> {
    by_id: HashMap<[u8; 16], &'a Item>,
    by_name: HashMap<&'a str, &'a Item>,
    failed: HashSet<&'a str>,
}

impl<'a> Late<'a> {
    fn of(items: &'a [Item], rows: &'a [[String; 4]]) -> Self {
        Self {
            by_id: items.iter().map(|item| (*item.id.as_bytes(), item)).collect(),
            by_name: items.iter().map(|item| (item.name.as_str(), item)).collect(),
            failed: rows.iter().map(|[name, ..]| name.as_str()).collect(),
        }
    }

    /// The segment that a waiting one waits for in the end; none: it waits for something else.
    fn waits_for(&self, name: &str, status: &str) -> Option<&'a str> {
        if status != "waiting" {
            return None;
        }
        let is_late = |list: &&'a Item| {
            self.failed.contains(list.name.as_str()) || list.last_refresh().is_none()
        };
        let list_of = |item: &'a Item| {
            let lists = item.lists.iter().filter_map(|id: &Uuid| self.by_id.get(id.as_bytes()));
            lists.copied().filter(is_late).min_by_key(|list| &list.name)
        };
        let mut last = list_of(self.by_name.get(name)?)?;
        // Lists have lists. Cycles are refused; a row that a hand has written may have one.
        for _ in 0..self.by_id.len() {
            let is_waiting = last.waiting_since.is_some();
            match list_of(last).filter(|_| is_waiting) {
                Some(next) => last = next,
                None => break,
            }
        }
        Some(last.name.as_str())
    }
}
