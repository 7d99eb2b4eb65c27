//! Peers that are reached through Python only: one process, asked over pipes, that measures its own thread's CPU time.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::Outcome;
use crate::case::{Case, Peer};
use crate::engine::{Engine, Rows};

/// Rows that are compared one by one: a forest in Python takes ten milliseconds for each.
const ONE_BY_ONE: usize = 1_000;

/// The process, started when first needed.
#[derive(Clone)]
pub struct Process {
    command: Rc<(String, String)>,
    running: Rc<RefCell<Option<Running>>>,
}

struct Running {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Process {
    /// `python`: the interpreter; `script`: what it runs.
    pub fn new(python: &Path, script: &Path) -> Self {
        let command = (python.display().to_string(), script.display().to_string());
        Self { command: Rc::new(command), running: Rc::default() }
    }

    /// One line of JSON there, one line back.
    pub fn ask(&self, question: &Value) -> Outcome<Value> {
        let mut running = self.running.borrow_mut();
        if running.is_none() {
            let (python, script) = &*self.command;
            let mut child = Command::new(python).arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
            let input = child.stdin.take().ok_or("no pipe")?;
            let output = BufReader::new(child.stdout.take().ok_or("no pipe")?);
            *running = Some(Running { child, input, output });
        }
        let Some(process) = running.as_mut() else { return Err("no process".into()) };
        writeln!(process.input, "{question}")?;
        process.input.flush()?;
        let mut line = String::new();
        if process.output.read_line(&mut line)? == 0 {
            let status = process.child.wait()?;
            *running = None;
            return Err(format!("the Python process ended: {status}").into());
        }
        let answer: Value = serde_json::from_str(&line)?;
        match answer.get("error").and_then(Value::as_str) {
            Some(error) => Err(error.into()),
            None => Ok(answer),
        }
    }

    pub fn peer(&self, case: &Case, peer: &Peer) -> Outcome<Remote> {
        let id = peer.peer.clone().ok_or("no peer")?;
        let about = json!({
            "do": "load", "peer": id, "case": case.name, "model": case.model, "rows": case.rows, "columns": case.columns,
            "directory": case.directory,
        });
        let answer = self.ask(&about)?;
        let describe = answer.get("about").and_then(Value::as_str).unwrap_or_default().to_owned();
        let (process, case) = (self.clone(), case.name.clone());
        Ok(Remote { process, name: peer.name.clone(), describe, id, case, own_model: peer.own_model })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Nothing to do about a process that is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A peer in the Python process.
pub struct Remote {
    process: Process,
    name: String,
    describe: String,
    id: String,
    case: String,
    own_model: bool,
}

impl Engine for Remote {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn describe(&self) -> String {
        self.describe.clone()
    }

    fn predict(&mut self, _: &[f64], _: &mut Vec<f64>) -> Outcome<()> {
        Err("the rows are in the Python process".into())
    }

    fn predict_all(&mut self, rows: &Rows, batch: usize) -> Outcome<Vec<f64>> {
        let count = if batch == 1 { rows.len().min(ONE_BY_ONE) } else { rows.len() };
        let question = json!({"do": "predict", "peer": self.id, "case": self.case, "batch": batch, "rows": count});
        let answer = self.process.ask(&question)?;
        Ok(serde_json::from_value(answer.get("answers").cloned().unwrap_or_default())?)
    }

    fn time(&mut self, _: &Rows, batch: usize, count: usize) -> Outcome<Duration> {
        let question = json!({"do": "time", "peer": self.id, "case": self.case, "batch": batch, "rows": count});
        let answer = self.process.ask(&question)?;
        let seconds = answer.get("seconds").and_then(Value::as_f64).ok_or("no time")?;
        Ok(Duration::from_secs_f64(seconds))
    }

    fn same_model(&self) -> bool {
        !self.own_model
    }
}
