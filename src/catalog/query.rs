//! The statements of `sql/query`, and the role that each of them runs as.
//!
//! The build turns each file into a constant ([`super::queries`]). The file's header names the
//! roles that the statement runs as. A build with debug assertions, as the tests use it, panics if
//! the text is taken while another role is assumed: the headers, and the page generated from them,
//! therefore match the code.

use std::cell::Cell;

use crate::pg::exec::kept::Kept;

/// The role that a statement runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunsAs {
    /// The owner of the extension, on its own relations.
    ExtensionOwner,
    /// The owner of the relation set.
    SetOwner,
    /// The owner of the segment, restricted: the statement contains users' SQL.
    SegmentOwner,
    /// The owner of the segment table, restricted.
    TableOwner,
    /// The role of the consumer, restricted.
    ConsumerRole,
    /// The role that called the function.
    Caller,
}

/// The text of a file in `sql/query`.
#[derive(Debug)]
pub struct Query {
    /// The file's path below `sql/query`, without its extension.
    pub name: &'static str,
    pub runs_as: &'static [RunsAs],
    pub(super) text: &'static str,
}

thread_local! {
    static ASSUMED: Cell<RunsAs> = const { Cell::new(RunsAs::Caller) };
}

impl Query {
    /// A statement that is in no file, for tests.
    #[cfg(feature = "pg_test")]
    pub fn of(name: &'static str, text: &'static str) -> Self {
        Self { name, runs_as: &[], text }
    }

    /// The text of a statement without placeholders. Checks the assumed role.
    pub fn text(&self) -> &'static str {
        self.check_role();
        self.text
    }

    /// A statement without placeholders that the session keeps.
    pub fn kept(&self) -> Kept {
        Kept::new(self.text())
    }

    /// The text of a fragment. Only the statement that includes it is checked for its role.
    pub const fn fragment(&self) -> &'static str {
        self.text.trim_ascii_end()
    }

    /// Panics, with debug assertions, if the assumed role is not one of the header. A statement
    /// that runs as the caller may run under any role, because functions are called under any role.
    pub(super) fn check_role(&self) {
        debug_assert!(
            self.runs_as.is_empty()
                || self.runs_as.contains(&RunsAs::Caller)
                || self.runs_as.contains(&ASSUMED.get()),
            "{} runs as {:?}, not as {:?}",
            self.name,
            self.runs_as,
            ASSUMED.get()
        );
    }
}

/// Runs `body` with `role` as the assumed role, which [`Query::text`] checks statements against.
pub(super) fn assuming<T>(role: RunsAs, body: impl FnOnce() -> T) -> T {
    struct Restore(RunsAs);
    impl Drop for Restore {
        fn drop(&mut self) {
            ASSUMED.set(self.0);
        }
    }
    let _restore = Restore(ASSUMED.replace(role));
    body()
}
