//! The statements of `sql/query`, and as which role each of them runs.
//!
//! The build makes a constant of each file ([`super::queries`]). A file's header says which role runs
//! the statement; a build with debug assertions (every test's) refuses to take its text while
//! another role is assumed, so that the headers, and the page that is made of them, are true.

use std::cell::Cell;

/// The role that a statement runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunsAs {
    /// The owner of the extension, on its own relations.
    ExtensionOwner,
    /// The owner of the relation set.
    SetOwner,
    /// The owner of the segment, restricted: users' SQL runs.
    SegmentOwner,
    /// The owner of the segment table, restricted.
    TableOwner,
    /// The role of the consumer, restricted.
    ConsumerRole,
    /// The role that called the function.
    Caller,
}

/// A statement: the text of a file in `sql/query`.
#[derive(Debug)]
pub struct Query {
    /// The file's path below `sql/query`, without its ending.
    pub name: &'static str,
    pub runs_as: &'static [RunsAs],
    pub(super) text: &'static str,
}

thread_local! {
    static ASSUMED: Cell<RunsAs> = const { Cell::new(RunsAs::Caller) };
}

impl Query {
    /// A statement that is in no file.
    #[cfg(feature = "pg_test")]
    pub fn of(name: &'static str, text: &'static str) -> Self {
        Self { name, runs_as: &[], text }
    }

    /// The text of a statement without placeholders.
    pub fn text(&self) -> &'static str {
        self.check_role();
        self.text
    }

    /// The text of a fragment: a part of a statement, which is checked itself.
    pub const fn fragment(&self) -> &'static str {
        self.text.trim_ascii_end()
    }

    /// A statement of the caller's own may run wherever a caller calls from.
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

/// Runs `body` while statements of `role` may be taken.
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
