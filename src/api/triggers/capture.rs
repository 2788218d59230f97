//! The triggers of watched tables.

use std::ffi::CString;

use pgrx::prelude::*;

use crate::catalog::extension::changes_of;
use crate::error::{self, Error};
use crate::pg::format::transition::{self, trigger_function};
use crate::pg::system_catalog;

pub(super) fn capture(trigger: &PgTrigger<'_>) -> error::Result<()> {
    let data = trigger.trigger_data();
    let column = trigger.extra_args()?.into_iter().next();
    let column = column.and_then(|column| CString::new(column).ok()).unwrap_or_default();
    match trigger.level() {
        PgTriggerLevel::Statement => {
            transition::record(data, &column, changes_of(trigger_function(data)));
            Ok(())
        }
        // What is applied from another server fires no triggers of statements.
        PgTriggerLevel::Row if transition::is_for_replication(data) => {
            if system_catalog::applies_replication() {
                transition::mark_all(data, &column, changes_of(trigger_function(data)));
            }
            Ok(())
        }
        PgTriggerLevel::Row => Err(Error::Watch {
            problem: "segmenter_capture() is for triggers of statements".into(),
            hint: Some("Call segmenter_watch(), which makes them.".into()),
        }),
    }
}
