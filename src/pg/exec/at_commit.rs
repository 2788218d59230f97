//! Steps that are done right before the transaction commits: what they lock is free again at once, also where the
//! transaction was open for long.

use std::cell::RefCell;

use pgrx::prelude::*;
use pgrx::{PgXactCallbackEvent as Event, register_xact_callback};

use crate::error::{Result, raise};
use crate::pg::exec::snapshot::Active;

struct Step {
    /// The transaction, or subtransaction, that has asked for it.
    of: pg_sys::TransactionId,
    key: u32,
    run: Box<dyn FnOnce() -> Result<()>>,
}

thread_local! {
    /// Those of the transaction that is open.
    static STEPS: RefCell<Vec<Step>> = const { RefCell::new(Vec::new()) };
}

/// Does a step when the transaction commits, unless what it did up to now is rolled back by then. The steps of a lower
/// key come first, and those of one key in the order in which they were asked for. If one fails, so does the commit.
pub fn add(key: u32, run: impl FnOnce() -> Result<()> + 'static) {
    // SAFETY: needs a transaction, in which SQL functions and jobs run.
    let of = unsafe { pg_sys::GetCurrentTransactionId() };
    let is_first = STEPS.with_borrow_mut(|steps| {
        steps.push(Step { of, key, run: Box::new(run) });
        steps.len() == 1
    });
    if is_first {
        register_xact_callback(Event::PreCommit, || {
            if let Err(error) = run_all() {
                raise(error);
            }
        });
        register_xact_callback(Event::Abort, || STEPS.with_borrow_mut(Vec::clear));
    }
}

/// Does them now. What they lock stays locked until the transaction ends.
pub fn run_all() -> Result<()> {
    let mut steps = STEPS.take();
    steps.sort_by_key(|step| step.key);
    for step in steps {
        // SAFETY: only looks the id up among those of this transaction; one that was rolled back is not among them.
        if unsafe { pg_sys::TransactionIdIsCurrentTransactionId(step.of) } {
            // The statement that commits has none.
            let _snapshot = Active::fresh();
            (step.run)()?;
        }
    }
    Ok(())
}
