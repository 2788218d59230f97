//! Connectors: how an ad platform, a CRM or a mail tool is reached, as data.
//!
//! A spec says which options and secrets a connection has, which requests each operation takes, and what
//! their answers mean. Nothing here sends anything.

mod answer;
mod body;
pub mod builtin;
mod field;
mod grant;
mod limits;
mod mask;
pub mod number;
mod option;
mod request;
mod spec;
mod step;
mod template;
mod work;

pub use answer::{Answer, Meaning, Verdict};
pub use field::FieldSpec;
pub use grant::{Grant, Token};
pub use limits::Limits;
pub use mask::MASK;
pub use request::{Message, OptionError, Request, Server, Values, masked};
pub use spec::{ACCESS_TOKEN, ACCESS_TOKEN_EXPIRES, CONNECTOR, Spec, TIMEOUT};
pub use step::{Operation, Step};
pub use work::{Listing, Next, Position, Progress, Work, preview};

/// A text in one line.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ").trim().to_owned()
}

#[cfg(test)]
mod tests;
