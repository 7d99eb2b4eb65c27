//! The tables: aligned for a terminal, Markdown, and JSON.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::json;

use crate::machine::Machine;
use crate::measure::{Measured, Result, Time};
use crate::{Outcome, Plan};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Aligned,
    Markdown,
}

/// Everything, to stdout and to `report.md` and `report.json` in `out`.
pub fn write(results: &[Result], plan: &Plan, before: &Machine, after: &Machine, out: &Path) -> Outcome<()> {
    let about = format!(
        "{}; {} CPUs; {}; load average {} before, {} after; {} repeats, median of CPU time, one thread\n",
        before.cpu,
        before.cpus,
        before.instructions.join(" "),
        before.load_average,
        after.load_average,
        plan.repeats
    );
    print!("\n{}\n{about}", budgets(results, Style::Aligned));
    let mut page = format!("# Tree engines side by side\n\n{about}\n{}", budgets(results, Style::Markdown));
    for result in results {
        page += &full(result, Style::Markdown);
    }
    std::fs::create_dir_all(out)?;
    std::fs::write(out.join("report.md"), page)?;
    let data = json!({"before": before, "after": after, "repeats": plan.repeats, "results": results});
    std::fs::write(out.join("report.json"), serde_json::to_vec_pretty(&data)?)?;
    println!("written: {} and report.json beside it", out.join("report.md").display());
    Ok(())
}

/// Ours against the best peer on the same model, and the budget.
fn budgets(results: &[Result], style: Style) -> String {
    let mut lines = vec![
        ["model", "batch", "ours", "ours: engine", "best peer", "", "ratio", "budget", "met", "YDF, own model"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for result in results {
        for (index, (batch, budget)) in result.budgets.iter().enumerate() {
            let time = |engine: &&Measured| engine.times[index].ns;
            let least = |engines: &mut dyn Iterator<Item = &Measured>| -> Option<(String, Time)> {
                let best = engines.min_by(|a, b| time(&a).total_cmp(&time(&b)))?;
                Some((best.name.clone(), best.times[index].clone()))
            };
            let ours = result.engines.iter().find(|engine| engine.ours);
            let peer = least(&mut result.engines.iter().filter(|engine| !engine.ours && engine.same_model));
            let own = least(&mut result.engines.iter().filter(|engine| !engine.ours && !engine.same_model));
            let ratio = |peer: &Option<(String, Time)>| Some(peer.as_ref()?.1.ns / time(&ours?));
            let times = |ratio: Option<f64>| ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.1}x"));
            let met = match (ratio(&peer), budget) {
                (Some(ratio), Some(budget)) => if ratio >= *budget { "yes" } else { "NO" }.to_owned(),
                _ => "-".to_owned(),
            };
            lines.push(vec![
                result.model.clone(),
                batch.to_string(),
                ours.map_or("-".to_owned(), |ours| figure(&ours.times[index])),
                ours.map_or("-".to_owned(), |ours| way(&ours.about, *batch)),
                peer.as_ref().map_or("-".to_owned(), |(name, _)| name.clone()),
                peer.as_ref().map_or("-".to_owned(), |(_, time)| figure(time)),
                times(ratio(&peer)),
                budget.map_or("-".to_owned(), |budget| format!("{budget}x")),
                met,
                times(ratio(&own)),
            ]);
        }
    }
    table(&lines, style)
}

/// The part of an engine's description that holds for a batch size: "few; from N rows on many".
fn way(about: &str, batch: usize) -> String {
    let part = match about.split_once("; from ").and_then(|(few, rest)| Some((few, rest.split_once(" rows on ")?))) {
        Some((few, (from, many))) => {
            if from.parse().is_ok_and(|from: usize| batch >= from) {
                many
            } else {
                few
            }
        }
        None => about,
    };
    part.split([',', ':', ';', '(']).next().unwrap_or_default().trim().to_owned()
}

/// Everybody's figures for one model.
pub fn full(result: &Result, style: Style) -> String {
    let mut heading = vec!["engine".to_owned()];
    for (batch, _) in &result.budgets {
        heading.push(if *batch == 1 { "one row".to_owned() } else { format!("by {batch}") });
    }
    heading.extend(["equal to the bit", "max deviation"].map(str::to_owned));
    let mut lines = vec![heading];
    for engine in &result.engines {
        let mut line = vec![engine.name.clone()];
        line.extend(engine.times.iter().map(figure));
        let parity = &engine.parity;
        if parity.compared == 0 {
            line.extend(["-", "-"].map(str::to_owned));
        } else {
            line.push(format!("{} of {}", parity.equal, parity.compared));
            let note = if parity.probabilities { " (probability)" } else { "" };
            line.push(format!("{:.1e}{note}", parity.max_deviation));
        }
        lines.push(line);
    }
    let (model, source, rows, columns) = (&result.model, &result.source, result.rows, result.columns);
    let title = if style == Style::Markdown { "## " } else { "" };
    let mut text = format!("\n{title}{model} ({source}; {rows} rows of {columns} columns)\n\n{}", table(&lines, style));
    let item = if style == Style::Markdown { "- " } else { "  " };
    if style == Style::Markdown {
        text.push('\n');
    }
    for engine in result.engines.iter().filter(|engine| !engine.about.is_empty()) {
        let _ = writeln!(text, "{item}{}: {}", engine.name, engine.about);
    }
    for missing in &result.missing {
        let _ = writeln!(text, "{item}left out: {}: {}", missing.name, missing.why);
    }
    text
}

/// Nanoseconds for one row, rows a second for batches; and the spread over the repeats when it is wide.
fn figure(time: &Time) -> String {
    let spread = (time.most - time.least) / time.ns;
    let noise = if spread > 0.3 { format!(" ±{:.0}%", spread * 50.0) } else { String::new() };
    if time.batch == 1 {
        return format!("{} ns{noise}", thousands(time.ns));
    }
    let rate = 1e9 / time.ns;
    let rate = match rate {
        rate if rate >= 1e6 => format!("{:.2} M/s", rate / 1e6),
        rate if rate >= 1e5 => format!("{:.0} K/s", rate / 1e3),
        rate => format!("{:.1} K/s", rate / 1e3),
    };
    rate + &noise
}

fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Lines of equally many cells, the first is the heading.
fn table(lines: &[Vec<String>], style: Style) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (index, line) in lines.iter().enumerate() {
        let cells: Vec<String> = line.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
        match style {
            Style::Aligned => text += cells.join("  ").trim_end(),
            Style::Markdown => {
                text += &format!("| {} |", cells.join(" | "));
                if index == 0 {
                    text += &format!("\n|{}", "---|".repeat(columns));
                }
            }
        }
        text.push('\n');
    }
    text
}
