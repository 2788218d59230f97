//! What a function remembers between the rows of one query.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::Hash;

use pgrx::PgMemoryContexts;
use pgrx::prelude::*;

use crate::error::Result;

/// The value for a key: computed at the first call with this key, remembered until the query ends. `call`
/// is the argument that PostgreSQL has given to the function. A function must call this at one place
/// only, since what it remembers has the types of that place.
pub fn remembered<K, V>(
    call: pg_sys::FunctionCallInfo,
    key: K,
    compute: impl FnOnce() -> Result<V>,
) -> Result<V>
where
    K: Eq + Hash + 'static,
    V: Copy + 'static,
{
    // SAFETY: PostgreSQL gives a function the data of its call, which are live until it returns, and has
    // in `flinfo` those of its place in the query. `fn_extra` there is for the function alone, null at
    // first. What is put there lives in `fn_mcxt`, as long as `flinfo`, and only this function takes
    // references to it, which end before it returns.
    let known = unsafe {
        let place = call.as_ref().and_then(|call| call.flinfo.as_mut());
        place.map(|place| {
            if place.fn_extra.is_null() {
                let known = RefCell::new(HashMap::<K, V>::new());
                place.fn_extra =
                    PgMemoryContexts::For(place.fn_mcxt).leak_and_drop_on_delete(known).cast();
            }
            &*place.fn_extra.cast::<RefCell<HashMap<K, V>>>()
        })
    };
    if let Some(value) = known.and_then(|known| known.borrow().get(&key).copied()) {
        return Ok(value);
    }
    let value = compute()?;
    if let Some(known) = known {
        known.borrow_mut().insert(key, value);
    }
    Ok(value)
}
