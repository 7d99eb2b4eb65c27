//! A view that is redrawn in place on a terminal, and one line every second elsewhere.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::{self, Output, Paint};

/// Between two lines where nothing can be redrawn.
const LINE_INTERVAL: Duration = Duration::from_secs(1);
/// Redraws in a second, at most.
const REDRAWS: u8 = 10;

/// The view.
#[derive(Debug)]
pub(crate) struct Live {
    output: Output,
    canvas: Option<ProgressBar>,
    last_line: Option<Instant>,
}

impl Live {
    pub(crate) fn new(output: Output) -> Self {
        let canvas = output.terminal.then(|| {
            // Its message is the whole view: indicatif knows how to redraw lines, also in a small terminal.
            let style = ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
            ProgressBar::with_draw_target(None, ProgressDrawTarget::stdout_with_hz(REDRAWS)).with_style(style)
        });
        Self { output, canvas: canvas.filter(|canvas| !canvas.is_hidden()), last_line: None }
    }

    /// Shows `view` in place of the one before, or at most once a second `line`.
    ///
    /// # Errors
    /// Nobody reads the output any more.
    pub(crate) fn show(
        &mut self,
        view: impl FnOnce(Paint) -> Vec<String>,
        line: impl FnOnce() -> String,
    ) -> anyhow::Result<()> {
        if let Some(canvas) = &self.canvas {
            canvas.set_message(view(self.output.paint).join("\n"));
            canvas.tick();
        } else if self.last_line.is_none_or(|last| last.elapsed() >= LINE_INTERVAL) {
            self.last_line = Some(Instant::now());
            output::line(line())?;
        }
        Ok(())
    }

    /// Removes it, so that what is printed next stands in its place.
    pub(crate) fn clear(&self) {
        if let Some(canvas) = &self.canvas {
            canvas.finish_and_clear();
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.clear();
    }
}
