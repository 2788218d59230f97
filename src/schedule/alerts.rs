//! Alerts about all segments: what is late, stuck or has drifted is found without a refresh.

use std::collections::HashMap;

use pgrx::datum::Uuid;

use crate::catalog::relation_set::RelationSet;
use crate::catalog::viewer::Viewer;
use crate::delivery::audiences;
use crate::error::Result;
use crate::pg::clock::{self, Instant};
use crate::refresh::alerts::{self, Surroundings};
use crate::schedule::due;

/// Looks at all segments that rules of alerts cover, and reports what has changed.
pub fn look(set: &RelationSet) -> Result<()> {
    alerts::look_at_all(set, || {
        let now = clock::now();
        let items = due::items(set, None, None)?;
        let next: HashMap<Uuid, Instant> =
            items.iter().filter_map(|item| Some((item.id, item.next(now)?))).collect();
        // A segment that is refreshed with its family is as late as that.
        let due = items.iter().filter_map(|item| {
            let of_family = || item.family.as_ref().and_then(|(family, _)| next.get(family));
            let since = now - *next.get(&item.id).or_else(of_family)?;
            Some((item.id, since.to_std().ok()?))
        });
        let viewer = Viewer { role: set.owner, sees_figures: true, is_limited: false };
        let audiences = audiences::list(set, viewer)?;
        let drifts = audiences.into_iter().filter_map(|audience| {
            let drift = audience.drift?.try_into().ok()?;
            Some((audience.subscription?, (drift, audience.is_over)))
        });
        Ok(Surroundings { due: due.collect(), drifts: drifts.collect() })
    })
}
