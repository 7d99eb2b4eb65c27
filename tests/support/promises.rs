//! Promise by promise: the figure asked for and the figure seen.

#![allow(clippy::print_stdout, reason = "that is what it is for")]

/// What is said about a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Kept,
    Missed,
    /// Not here, or not by this server.
    NotApplicable,
}

/// The lines so far.
#[derive(Debug, Default)]
pub struct Report {
    missed: Vec<String>,
    kept: usize,
    not_applicable: usize,
}

impl Report {
    /// The names of the columns.
    pub fn heading() {
        println!("\n{:<4} {:<44} {:<58} {:<58} ok", "", "promise", "asked", "seen");
    }

    fn print(&mut self, promise: &str, what: &str, asked: &str, seen: &str, verdict: Verdict) {
        let mark = match verdict {
            Verdict::Kept => {
                self.kept += 1;
                "✓"
            }
            Verdict::Missed => {
                self.missed.push(format!("{promise} {what}"));
                "✗"
            }
            Verdict::NotApplicable => {
                self.not_applicable += 1;
                "–"
            }
        };
        println!("{promise:<4} {what:<44} {asked:<58} {seen:<58} {mark}");
    }

    /// What was asked, what was seen, and whether that is enough.
    pub fn line(&mut self, promise: &str, what: &str, asked: &str, seen: &str, kept: bool) {
        self.print(promise, what, asked, seen, if kept { Verdict::Kept } else { Verdict::Missed });
    }

    /// Not here, or not by this program.
    pub fn not_applicable(&mut self, promise: &str, what: &str, why: &str) {
        self.print(promise, what, "", &format!("not applicable: {why}"), Verdict::NotApplicable);
    }

    /// How many were missed.
    pub fn summary(&self) -> usize {
        println!("\n{} kept, {} missed, {} not applicable", self.kept, self.missed.len(), self.not_applicable);
        for missed in &self.missed {
            println!("  ✗ {missed}");
        }
        self.missed.len()
    }
}
