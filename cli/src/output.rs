//! Standard output, with colour where a person reads it.

use std::{
    fmt::{self, Display},
    io::{self, IsTerminal, Write},
};

/// Standard output.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// A person reads it.
    pub(crate) terminal: bool,
    /// Colour on a terminal, unless `NO_COLOR` is set (no-color.org) or the terminal has none.
    pub(crate) paint: Paint,
}

/// Nobody reads standard output any more.
#[derive(Debug)]
pub(crate) struct Closed;

impl Display for Closed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("standard output is closed")
    }
}

impl std::error::Error for Closed {}

impl Output {
    pub(crate) fn new() -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let terminal = io::stdout().is_terminal();
        Self { terminal, paint: Paint { colour: terminal && !dumb && !set("NO_COLOR") } }
    }
}

/// Writes `text`, which may have several lines, and a line break to standard output.
///
/// # Errors
/// [`Closed`], or it can't be written.
pub(crate) fn line(text: impl Display) -> anyhow::Result<()> {
    let text = format!("{text}\n");
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Closed.into()),
        written => Ok(written?),
    }
}

/// Writes each line.
///
/// # Errors
/// As [`line`].
pub(crate) fn lines(lines: &[String]) -> anyhow::Result<()> {
    if lines.is_empty() { Ok(()) } else { line(lines.join("\n")) }
}

/// Colours, or none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint {
    pub(crate) colour: bool,
}

impl Paint {
    pub(crate) fn bold(self, text: impl Display) -> String {
        self.sgr("1", text)
    }

    pub(crate) fn dim(self, text: impl Display) -> String {
        self.sgr("2", text)
    }

    pub(crate) fn red(self, text: impl Display) -> String {
        self.sgr("31", text)
    }

    pub(crate) fn green(self, text: impl Display) -> String {
        self.sgr("32", text)
    }

    pub(crate) fn yellow(self, text: impl Display) -> String {
        self.sgr("33", text)
    }

    pub(crate) fn cyan(self, text: impl Display) -> String {
        self.sgr("36", text)
    }

    fn sgr(self, code: &str, text: impl Display) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_colour_nothing_is_added() {
        assert_eq!(Paint { colour: false }.red("x"), "x");
        assert_eq!(Paint { colour: true }.red("x"), "\x1b[31mx\x1b[0m");
    }
}
