//! Foreign text in our messages: capped and escaped, so that it can neither flood nor forge a log line.

use std::fmt::{self, Display, Formatter};

/// Characters of a foreign text that a message shows.
const SHOWN_CHARS: usize = 64;

/// The beginning of a text, at most 64 characters.
pub(crate) fn capped(text: &str) -> &str {
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => &text[..end],
        None => text,
    }
}

/// In quotes, with control characters escaped.
#[derive(Debug)]
pub(crate) struct Escaped<'a>(pub(crate) &'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_debug())
    }
}

/// A foreign text for a message: quoted, escaped, and capped at 64 characters.
pub(crate) fn shown(text: &str) -> String {
    let start = capped(text);
    let dots = if start.len() < text.len() { "..." } else { "" };
    format!("{}{dots}", Escaped(start))
}
