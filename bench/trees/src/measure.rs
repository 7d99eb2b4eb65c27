//! One case: everybody's answers compared with the trainer's, then everybody's time, alternating.

use std::time::Duration;

use serde::Serialize;

use crate::case::{Case, Output, Peer};
use crate::engine::{Engine, Rows};
use crate::peers::{self, Process};
use crate::{Outcome, Plan, ours};

/// A pass of a slow engine is shortened to about this, but not below [`FEWEST`] rows.
const PASS: Duration = Duration::from_secs(1);
const FEWEST: usize = 1_000;

/// What was found about a case.
#[derive(Debug, Serialize)]
pub struct Result {
    pub model: String,
    pub source: String,
    pub columns: usize,
    pub rows: usize,
    pub engines: Vec<Measured>,
    pub missing: Vec<Missing>,
    /// By batch size.
    pub budgets: Vec<(usize, Option<f64>)>,
}

#[derive(Debug, Serialize)]
pub struct Measured {
    pub name: String,
    pub about: String,
    pub ours: bool,
    pub same_model: bool,
    pub parity: Parity,
    /// In the order of the batch sizes.
    pub times: Vec<Time>,
}

/// How the answers compare with the trainer's own, over all batch sizes.
#[derive(Debug, Clone, Serialize)]
pub struct Parity {
    /// Rows that were compared: rows of the case times batch sizes; 0 when there was nothing to compare.
    pub compared: usize,
    /// Of these, equal to the bit.
    pub equal: usize,
    pub max_deviation: f64,
    /// Compared as probabilities.
    pub probabilities: bool,
}

#[derive(Debug, Clone, Serialize)]
pub struct Time {
    pub batch: usize,
    /// Nanoseconds for each row: median, least and most over the repeats.
    pub ns: f64,
    pub least: f64,
    pub most: f64,
    /// Rows of a pass.
    pub rows: usize,
}

#[derive(Debug, Serialize)]
pub struct Missing {
    pub name: String,
    pub why: String,
}

/// Measures one model with everybody who can predict it.
pub fn case(case: &Case, plan: &Plan, process: &Process) -> Outcome<Result> {
    let mut values = case.read_rows()?;
    values.truncate(plan.rows * case.columns);
    let rows = Rows { values, columns: case.columns };
    let expected = case.read_margins()?;
    let mut engines = Vec::new();
    let mut missing = Vec::new();
    match ours::engines(case, plan.ways) {
        Ok(found) => engines.extend(found.into_iter().map(|engine| (true, engine))),
        Err(error) => missing.push(Missing { name: "ours".to_owned(), why: error.to_string() }),
    }
    for peer in &case.peers {
        match start(case, peer, process) {
            Ok(engine) => engines.push((false, engine)),
            Err(error) => missing.push(Missing { name: peer.name.clone(), why: error.to_string() }),
        }
    }
    let mut measured: Vec<Measured> = Vec::new();
    let mut able: Vec<Box<dyn Engine>> = Vec::new();
    for (ours, mut engine) in engines {
        eprintln!("{}: answers of {}", case.name, engine.name());
        match parity(&mut *engine, &rows, &expected, case.output, plan) {
            Ok(parity) => {
                let (name, about, same_model) = (engine.name(), engine.describe(), engine.same_model());
                measured.push(Measured { name, about, ours, same_model, parity, times: Vec::new() });
                able.push(engine);
            }
            Err(error) => missing.push(Missing { name: engine.name(), why: error.to_string() }),
        }
    }
    for &batch in &plan.batches {
        eprintln!("{}: time of batches of {batch}", case.name);
        let times = alternate(&mut able, &rows, batch, plan.repeats);
        // Who fails is out, with all of its figures.
        for (index, time) in times.into_iter().enumerate().rev() {
            match time {
                Ok(time) => measured[index].times.push(time),
                Err(error) => {
                    drop(able.remove(index));
                    missing.push(Missing { name: measured.remove(index).name, why: error.to_string() });
                }
            }
        }
    }
    let budget = |&batch: &usize| (batch, case.budget.get(&batch.to_string()).copied());
    Ok(Result {
        model: case.name.clone(),
        source: case.source.clone(),
        columns: case.columns,
        rows: rows.len(),
        engines: measured,
        missing,
        budgets: plan.batches.iter().map(budget).collect(),
    })
}

fn start(case: &Case, peer: &Peer, process: &Process) -> Outcome<Box<dyn Engine>> {
    match &peer.missing {
        Some(why) => Err(why.as_str().into()),
        None => peers::engine(case, peer, process),
    }
}

/// The answers for all rows by every batch size against the trainer's.
fn parity(engine: &mut dyn Engine, rows: &Rows, expected: &[f64], output: Output, plan: &Plan) -> Outcome<Parity> {
    let probabilities = engine.probabilities() && output == Output::Margin;
    let mut parity = Parity { compared: 0, equal: 0, max_deviation: 0.0, probabilities };
    if !engine.same_model() {
        return Ok(parity);
    }
    for &batch in &plan.batches {
        let answers = engine.predict_all(rows, batch)?;
        // Few are enough of one who takes milliseconds for a row.
        if answers.is_empty() || answers.len() > rows.len() {
            return Err(format!("{} answers for {} rows", answers.len(), rows.len()).into());
        }
        for (&answer, &expected) in answers.iter().zip(expected) {
            let expected = if probabilities { 1.0 / (1.0 + (-expected).exp()) } else { expected };
            let deviation = (answer - expected).abs();
            parity.compared += 1;
            parity.equal += usize::from(answer.to_bits() == expected.to_bits() || deviation == 0.0);
            parity.max_deviation = if deviation.is_nan() { f64::NAN } else { parity.max_deviation.max(deviation) };
        }
    }
    Ok(parity)
}

/// Everybody's passes in turn, `repeats` rounds, and the median of each.
fn alternate(engines: &mut [Box<dyn Engine>], rows: &Rows, batch: usize, repeats: usize) -> Vec<Outcome<Time>> {
    // How long a pass may be, from a first one that does not count.
    let first = |engine: &mut Box<dyn Engine>| -> Outcome<(usize, Vec<f64>)> {
        let some = FEWEST.max(batch).min(rows.len());
        let each = engine.time(rows, batch, some)?.as_secs_f64() / some as f64;
        let fit = (PASS.as_secs_f64() / each.max(1e-12)) as usize / batch * batch;
        Ok((fit.clamp(some, rows.len()), Vec::new()))
    };
    let mut passes: Vec<Outcome<(usize, Vec<f64>)>> = engines.iter_mut().map(first).collect();
    for _ in 0..repeats {
        for (engine, pass) in engines.iter_mut().zip(&mut passes) {
            let Ok((count, times)) = pass else { continue };
            match engine.time(rows, batch, *count) {
                Ok(time) => times.push(time.as_secs_f64() * 1e9 / *count as f64),
                Err(error) => *pass = Err(error),
            }
        }
    }
    let median = |pass: Outcome<(usize, Vec<f64>)>| {
        let (rows, mut times) = pass?;
        times.sort_by(f64::total_cmp);
        let (middle, last) = (times.len() / 2, times.len() - 1);
        let ns = if times.len() % 2 == 1 { times[middle] } else { f64::midpoint(times[middle - 1], times[middle]) };
        Ok(Time { batch, ns, least: times[0], most: times[last], rows })
    };
    passes.into_iter().map(median).collect()
}
