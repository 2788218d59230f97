//! Masks secrets in what platforms say: they may repeat what they were sent.

use std::collections::BTreeSet;
use std::ops::Range;

use data_encoding::{BASE64, BASE64_NOPAD, BASE64URL, BASE64URL_NOPAD};
use regex::bytes::Regex;

use super::one_line;

/// What secrets are replaced by where a text or a request is shown.
pub const MASK: &str = "********";
/// Shorter secrets, which occur by chance within words, are masked where they are whole words.
const SHORT: usize = 4;
/// Lines of a secret that are shorter are not masked by themselves.
const LINE: usize = 16;

/// A text without secrets: neither as they are, nor as JSON, URLs, forms and Base64 write them.
pub fn mask<'a>(text: &str, secrets: impl Iterator<Item = &'a String>) -> String {
    let needles: BTreeSet<String> = secrets.flat_map(|secret| needles(secret)).collect();
    let views = [
        View::plain(text),
        View::percent(text, false),
        View::percent(text, true),
        View::json(text),
    ];
    let mut found: Vec<Range<usize>> = Vec::new();
    for needle in needles.iter().filter(|needle| !needle.is_empty()) {
        let Ok(pattern) = Regex::new(&regex::escape(needle)) else { continue };
        found.extend(views.iter().flat_map(|view| view.find(&pattern)));
    }
    found.sort_by_key(|range| range.start);
    let (mut masked, mut end) = (String::new(), 0);
    for range in found {
        if range.start >= end {
            masked.push_str(&text[end..range.start]);
            masked.push_str(MASK);
        }
        end = end.max(range.end);
    }
    masked.push_str(&text[end..]);
    masked
}

/// What is looked for in place of a secret.
fn needles(secret: &str) -> Vec<String> {
    let lines = secret.lines().map(str::trim).filter(|line| line.len() >= LINE);
    let wholes = [secret.to_owned(), one_line(secret), secret.replace("\\n", "\n")];
    let mut needles = Vec::new();
    for whole in wholes.into_iter().chain(lines.map(str::to_owned)) {
        if whole.len() >= SHORT {
            let encodings = [BASE64, BASE64_NOPAD, BASE64URL, BASE64URL_NOPAD];
            needles.extend(encodings.map(|encoding| encoding.encode(whole.as_bytes())));
        }
        needles.push(whole);
    }
    needles
}

/// A text, decoded.
#[derive(Default)]
struct View {
    bytes: Vec<u8>,
    /// Where in the text each byte comes from.
    sources: Vec<Range<usize>>,
}

impl View {
    fn push(&mut self, bytes: &[u8], source: Range<usize>) {
        self.bytes.extend_from_slice(bytes);
        self.sources.extend(bytes.iter().map(|_| source.clone()));
    }

    /// Decodes a text: `decode` gives the bytes that the beginning of a text stands for, and its length;
    /// `None`: a character that stands for itself.
    fn of(text: &str, decode: impl Fn(&str) -> Option<(Vec<u8>, usize)>) -> Self {
        let mut view = Self::default();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let at = text.len() - rest.len();
            let (bytes, length) =
                decode(rest).unwrap_or_else(|| (rest[..c.len_utf8()].into(), c.len_utf8()));
            view.push(&bytes, at..at + length);
            rest = &rest[length..];
        }
        view
    }

    fn plain(text: &str) -> Self {
        Self::of(text, |_| None)
    }

    /// What a URL means, or a form, in which a plus is a blank.
    fn percent(text: &str, is_form: bool) -> Self {
        Self::of(text, |rest| {
            if is_form && rest.starts_with('+') {
                return Some((b" ".into(), 1));
            }
            let digits = rest.strip_prefix('%')?.get(..2)?;
            u8::from_str_radix(digits, 16).ok().map(|byte| (vec![byte], 3))
        })
    }

    /// What the text of a JSON string means.
    fn json(text: &str) -> Self {
        Self::of(text, |rest| {
            let escaped = rest.strip_prefix('\\')?;
            // A character may take two escapes.
            let lengths: &[usize] = if escaped.starts_with('u') { &[12, 6] } else { &[2] };
            let texts = lengths.iter().filter_map(|length| rest.get(..*length));
            let read = |text: &str| {
                Some((serde_json::from_str::<String>(&format!("\"{text}\"")).ok()?, text.len()))
            };
            let (decoded, length) = { texts }.find_map(read)?;
            Some((decoded.into_bytes(), length))
        })
    }

    fn find(&self, needle: &Regex) -> Vec<Range<usize>> {
        let is_word = |at: Option<usize>| {
            let byte = at.and_then(|at| self.bytes.get(at));
            byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || !byte.is_ascii())
        };
        let is_whole = |found: &Range<usize>| {
            found.len() >= SHORT
                || !is_word(found.start.checked_sub(1)) && !is_word(Some(found.end))
        };
        let found = needle.find_iter(&self.bytes).map(|found| found.range()).filter(is_whole);
        found
            .map(|found| self.sources[found.start].start..self.sources[found.end - 1].end)
            .collect()
    }
}
