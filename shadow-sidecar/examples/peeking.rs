//! What looking all the time costs: the share of rehearsals in which a candidate that must not be promoted is, or one that must not be
//! rejected is, and how many requests it takes to promote a good one. `cargo run --release -p shadow-sidecar --example peeking [RUNS]`; exits with 1
//! when a verdict is given falsely more often than promised.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use simulation::{ALPHA, CASES, POWER, Shares, exchanges_needed, false_promotions};

#[path = "../tests/peeking/simulation.rs"]
#[expect(unreachable_pub, reason = "shared with the test")]
mod simulation;

/// Rehearsals of each case.
const RUNS: u32 = 4000;
const SEED: u64 = 7;

fn main() -> io::Result<ExitCode> {
    let mut out = io::stdout().lock();
    let runs = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(RUNS).max(1);
    let error = (ALPHA * (1.0 - ALPHA) / f64::from(runs)).sqrt();
    writeln!(
        out,
        "False promotions, and false rejections, in {runs} rehearsals each, looked at after every request. Promised: at most 5 % (s.e. {:.2} %).\n",
        100.0 * error
    )?;
    writeln!(
        out,
        "{:<32}{:>7}{:>10}{:>10}{:>14}{:>18}{:>12}",
        "agreement", "gate", "requests", "verdict", "drift-robust", "classical bound", "rejections"
    )?;
    let mut kept = true;
    for case in CASES {
        let Shares { verdict, robust, classical, rejected } = false_promotions(case, runs, SEED);
        kept &= verdict.max(robust).max(rejected) <= ALPHA + 3.0 * error;
        let percent = |share: f64| format!("{:.2} %", 100.0 * share);
        let [verdict, robust, classical, rejected] = [verdict, robust, classical, rejected].map(percent);
        writeln!(
            out,
            "{:<32}{:>7}{:>10}{verdict:>10}{robust:>14}{classical:>18}{rejected:>12}",
            case.name, case.gate, case.exchanges
        )?;
    }
    writeln!(out, "\nRequests until the first promotion at the gate 0.99: quantiles 0.1, 0.5 and 0.9.\n")?;
    writeln!(out, "{:<12}{:>24}{:>11}{:>12}{:>30}", "agreement", "verdict", "reference", "difference", "drift-robust")?;
    for (case, reference) in POWER {
        let [verdict, robust] = exchanges_needed(case, runs, SEED);
        let text = |all: [Option<u32>; 3]| all.map(|n| n.map_or_else(|| "-".to_owned(), |n| n.to_string())).join(" / ");
        let off = verdict[1].map_or(f64::INFINITY, |median| f64::from(median) / f64::from(reference) - 1.0);
        kept &= off.abs() <= 0.2;
        let off = format!("{:+.1} %", 100.0 * off);
        writeln!(out, "{:<12}{:>24}{reference:>11}{off:>12}{:>30}", case.name, text(verdict), text(robust))?;
    }
    if kept {
        Ok(ExitCode::SUCCESS)
    } else {
        eprintln!("\nnot as promised");
        Ok(ExitCode::FAILURE)
    }
}
