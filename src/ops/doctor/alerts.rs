//! Rules of alerts: whether they can report anything.

use super::findings::Findings;
use super::texts;
use crate::catalog::queries;
use crate::catalog::relation_set::{Relation, RelationSet};
use crate::catalog::viewer::Viewer;
use crate::error::Result;
use crate::pg::format::json::JsonbText;
use crate::refresh::alerts::check_rule;

pub(super) fn check(found: &mut Findings, set: &RelationSet, viewer: Viewer) -> Result<()> {
    let args = [viewer.role.into(), set.owner.into()];
    let rules = set.display_name(Relation::Alerts);
    for [consumer, what, detail] in texts(set, &queries::ops::doctor::LIST_ALERTS, &args)? {
        match what.as_str() {
            "rule" => {
                if let Err(error) = check_rule(set, Some(JsonbText(detail)), &consumer) {
                    found.problem(
                        "alerts",
                        format!(
                            "a rule of alerts for \"{consumer}\" reports nothing, since it is not valid: {}",
                            error.report().message
                        ),
                        format!("Correct the rule in {rules}, or end it."),
                    );
                }
            }
            "failed" => found.problem(
                "alerts",
                format!("alerts for \"{consumer}\" are not delivered: {detail}"),
                format!(
                    "Fix the cause, then call segmenter_retry() or segmenter_skip() with the id of the rule in {rules}."
                ),
            ),
            "late" => found.warn(
                "alerts",
                format!("an alert for \"{consumer}\" has been waiting since {detail}"),
                "See whether the consumer claims its messages.",
            ),
            "owner" => found.problem(
                "alerts",
                format!(
                    "a rule of alerts for \"{consumer}\" covers no segment: {detail}, whose rule it is, does not exist"
                ),
                format!("End the rule in {rules}, and make another one as the role that is to have it."),
            ),
            _ => found.warn(
                "alerts",
                format!(
                    "a rule of alerts for \"{consumer}\" names segment \"{detail}\", which does not exist"
                ),
                format!("Correct the rule in {rules}."),
            ),
        }
    }
    found.close(
        "alerts",
        "every rule of alerts covers what it names, and what it reports is delivered",
    );
    Ok(())
}
