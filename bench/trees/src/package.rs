//! Answers from a package in this process, for `bench/autogluon/run`: lines of JSON on stdin, one line back for each.
//!
//! `package DIR` reads the package and then:
//!
//! | line | answer |
//! |---|---|
//! | `{"rows": [[..], ..]}` | `{"rows": N}`: rows of raw values by feature, kept as a caller would send them |
//! | `{"predict": true}` | `{"scores": [..]}`: all rows' scores, row-major |
//! | `{"calls": C, "size": S}` | `{"ns": [..], "cpu_ns": M}`: wall time of each of C calls on the next S rows; CPU time of one, in the mean |
//!
//! A call is what a server does with a request once it is decoded: each typed value is encoded against the schema
//! (policy `autogluon`), then the rows are predicted.
#![allow(clippy::print_stdout, reason = "answers")]

mod clock;

use std::hint::black_box;
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

use model::{Batch, Limits, Model, Policy, Predictions, Value};
use serde_json::{Value as Json, json};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let directory = std::env::args().nth(1).ok_or("usage: package DIRECTORY")?;
    let model = Model::load(Path::new(&directory))?;
    let golden = model.self_test()?;
    let features: Vec<&str> = model.schema().features().iter().map(model::Feature::name).collect();
    let mut answers = std::io::stdout().lock();
    writeln!(answers, "{}", json!({"features": features, "width": model.width(), "golden": golden}))?;
    let mut rows: Vec<Vec<Json>> = Vec::new();
    for line in std::io::stdin().lock().lines() {
        let question: Json = serde_json::from_str(&line?)?;
        let answer = match &question {
            question if question.get("rows").is_some() => {
                rows = serde_json::from_value(question["rows"].clone())?;
                json!({"rows": rows.len()})
            }
            question if question.get("predict").is_some() => {
                let (mut batch, mut out) = (Batch::new(features.len()), Predictions::new());
                predict(&model, &typed(&rows)?, &mut batch, &mut out)?;
                json!({"scores": out.scores})
            }
            question => {
                let number = |key: &str| question.get(key).and_then(Json::as_u64).ok_or(format!("no {key}"));
                let (calls, size) = (number("calls")? as usize, number("size")? as usize);
                let (times, used) = time(&model, &typed(&rows)?, calls, size)?;
                json!({"ns": times, "cpu_ns": used})
            }
        };
        writeln!(answers, "{answer}")?;
        answers.flush()?;
    }
    Ok(())
}

/// Rows of JSON as typed values that borrow from them.
fn typed(rows: &[Vec<Json>]) -> Outcome<Vec<Vec<Value<'_>>>> {
    let value = |value| {
        Ok(match value {
            &Json::Null => Value::Null,
            &Json::Bool(truth) => Value::Bool(truth),
            Json::String(text) => Value::Text(text),
            Json::Number(number) => match number.as_i64() {
                Some(whole) => Value::Int(whole),
                None => Value::Float(number.as_f64().ok_or("not a number")?),
            },
            other => return Err(format!("not a value: {other}").into()),
        })
    };
    rows.iter().map(|row| row.iter().map(value).collect()).collect()
}

/// Encodes and predicts rows.
fn predict(model: &Model, rows: &[Vec<Value<'_>>], batch: &mut Batch, out: &mut Predictions) -> Outcome<()> {
    let limits = Limits::default();
    batch.clear();
    for row in rows {
        let numbers = batch.push_row();
        for ((number, &value), feature) in numbers.iter_mut().zip(row).zip(model.schema().features()) {
            *number = feature.encode(value, Policy::Autogluon, &limits)?.0;
        }
    }
    Ok(model.predict(batch, out)?)
}

/// Wall time of each call, and the mean CPU time, in nanoseconds.
fn time(model: &Model, rows: &[Vec<Value<'_>>], calls: usize, size: usize) -> Outcome<(Vec<u64>, f64)> {
    if size == 0 || size > rows.len() {
        return Err(format!("calls of {size} rows of {}", rows.len()).into());
    }
    let (mut batch, mut out) = (Batch::new(model.schema().features().len()), Predictions::new());
    let mut times = Vec::with_capacity(calls);
    // The first calls fill caches and buffers.
    let warm = calls.min(20);
    let mut before = clock::now();
    for call in 0..calls + warm {
        if call == warm {
            before = clock::now();
        }
        let first = call * size % (rows.len() - size + 1);
        let start = Instant::now();
        predict(model, &rows[first..first + size], &mut batch, &mut out)?;
        let taken = start.elapsed().as_nanos() as u64;
        black_box(&out.scores);
        if call >= warm {
            times.push(taken);
        }
    }
    let used = (clock::now() - before).as_nanos() as f64 / calls.max(1) as f64;
    Ok((times, used))
}
