//! Models and packages that are wrong on purpose: what the program makes of them, as a process.
//!
//! Every case takes a good small package, spoils it in one place, makes the hashes in the manifest right again (so that it is
//! the check behind the hash that refuses) and runs `understudy check`. It must refuse with exit code 1 and say why, without a
//! panic, within ten seconds, and with at most 16 times the file's size in memory beyond what the good package takes. Cases
//! are numbered M1 to M43; each number has a case or the reason why there is none. The table:
//!
//! `cargo test -p understudy-cli --test refusals -- --nocapture` (`REFUSALS=forest` or `REFUSALS=M23`: only those)
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by a panic and prints a table")]
#![allow(
    clippy::assigning_clones,
    clippy::explicit_counter_loop,
    clippy::format_push_string,
    clippy::needless_pass_by_value,
    reason = "a case is short and runs once"
)]

mod cases;
mod package;
mod run;
mod tensors;
mod ubjson;

use std::collections::BTreeMap;

use cases::{Case, Expect, NOT_APPLICABLE};
use package::Package;

/// Beyond the good package's peak: so many times the file, and so much besides.
const TIMES: u64 = 16;
const BESIDES: u64 = 8 << 20;

/// The good packages.
const KINDS: [&str; 7] = ["lightgbm", "xgboost-json", "xgboost-ubjson", "catboost", "forest", "mlp", "linear"];

/// One line of the table; the reason why it is not as expected, if it is not.
struct Line {
    text: String,
    wrong: Option<String>,
}

fn line(case: &Case, good: u64) -> Line {
    let mut package = Package::copy(case.kind);
    (case.spoil)(&mut package);
    let size = package.size();
    let ran = run::check(&package.target());
    let peak = ran.peak.saturating_sub(good);
    let limit = TIMES * size + BESIDES;
    let (code, words) = match case.expect {
        Expect::Refused(words) => (Some(1), words),
        Expect::Accepted => (Some(0), "rows equal to the bit"),
        Expect::Either(words) => (ran.code.filter(|code| *code < 2), words),
    };
    let wrong = if ran.stopped {
        Some(format!("longer than {:?}", run::LIMIT))
    } else if ran.said.contains("panicked") || ran.code.is_none() {
        Some("a panic or a signal".to_owned())
    } else if ran.code != code || code.is_none() {
        Some(format!("exit {code:?} expected"))
    } else if !ran.said.contains(words) {
        Some(format!("no {words:?}"))
    } else if peak > limit {
        Some(format!("more than {limit} bytes"))
    } else {
        None
    };
    let reason = ran.said.lines().find(|line| line.contains(words) && !words.is_empty());
    let reason = reason.or_else(|| ran.said.lines().find(|line| line.starts_with('✗'))).or(ran.said.lines().last());
    let reason: String = reason.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
    let text = format!(
        "M{:<3} {:<14} {:<46} {:>10} {:>5} {:>9} {:>6} {}",
        case.number,
        case.kind,
        case.what,
        size,
        ran.code.map_or("-".to_owned(), |code| code.to_string()),
        format!("{} KiB", peak >> 10),
        format!("{:.2}", ran.took.as_secs_f64()),
        reason.chars().take(150).collect::<String>(),
    );
    let said: String = ran
        .said
        .lines()
        .filter(|line| !line.starts_with('✓'))
        .collect::<Vec<_>>()
        .join("\n")
        .chars()
        .take(600)
        .collect();
    let wrong = wrong.map(|wrong| format!("{text}\n    WRONG: {wrong}; it said:\n{said}"));
    Line { text, wrong }
}

#[test]
fn every_case_is_as_expected() {
    let only = std::env::var("REFUSALS").unwrap_or_default();
    let mut all = Vec::new();
    for cases in [
        cases::lightgbm::cases(),
        cases::xgboost::cases("xgboost-json"),
        cases::xgboost::cases("xgboost-ubjson"),
        cases::catboost::cases(),
        cases::forest::cases(),
        cases::network::mlp(),
        cases::network::linear(),
        cases::package::cases(),
    ] {
        all.extend(cases.all);
    }
    all.sort_by_key(|case| case.number);
    let mut good = BTreeMap::new();
    let mut wrong = Vec::new();
    for kind in KINDS {
        let ran = run::check(&package::good(kind));
        println!("{kind}: good, exit {:?}, {} KiB at most, {:.2} s", ran.code, ran.peak >> 10, ran.took.as_secs_f64());
        if ran.code != Some(0) {
            wrong.push(format!("the good package {kind}: {}", ran.said));
        }
        good.insert(kind, ran.peak);
    }
    println!("case kind           what{:>52} {:>5} {:>9} {:>6} reason", "bytes", "exit", "peak", "s");
    let mut counted = 0;
    for number in 1..=43 {
        let cases: Vec<&Case> = all.iter().filter(|case| case.number == number).collect();
        let reasons: Vec<_> = NOT_APPLICABLE.iter().filter(|(of, ..)| *of == number).collect();
        assert!(!cases.is_empty() || !reasons.is_empty(), "nothing about M{number}");
        for case in cases {
            if !only.is_empty() && !format!("M{} {} {}", case.number, case.kind, case.what).contains(&only) {
                continue;
            }
            counted += 1;
            let line = line(case, good[case.kind]);
            println!("{}", line.text);
            wrong.extend(line.wrong);
        }
        for (number, kind, why) in reasons {
            println!("M{number:<3} {kind:<14} not applicable: {why}");
        }
    }
    for wrong in &wrong {
        println!("\n{wrong}");
    }
    println!("\n{counted} cases, {} as expected", counted - wrong.len());
    assert!(wrong.is_empty(), "{} of {counted} cases are not as expected", wrong.len());
}

/// The peak of large models: `UNDERSTUDY_SHARED` names a directory with `trees/{lgb_*.txt, xgb_*.json, xgb_*.ubj, cb_*.json}`.
#[test]
fn large_models_take_little() {
    let Some(shared) = std::env::var_os("UNDERSTUDY_SHARED") else {
        println!("skipped: UNDERSTUDY_SHARED does not name the directory with large models");
        return;
    };
    let mut paths: Vec<_> = std::fs::read_dir(std::path::Path::new(&shared).join("trees")).unwrap().collect();
    paths.sort_by_key(|entry| entry.as_ref().unwrap().path());
    let mut wrong = Vec::new();
    for path in paths.into_iter().map(|entry| entry.unwrap().path()) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let kind = match (name.split('_').next(), path.extension().and_then(|extension| extension.to_str())) {
            (Some("lgb"), Some("txt")) => "lightgbm",
            (Some("xgb"), Some("json")) => "xgboost-json",
            (Some("xgb"), Some("ubj")) => "xgboost-ubjson",
            (Some("cb"), Some("json")) => "catboost",
            _ => continue,
        };
        let good = run::check(&package::good(kind)).peak;
        let package = Package::copy(kind);
        let bytes = std::fs::read(&path).unwrap();
        large(&package, kind, &bytes);
        let ran = run::check(&package.path());
        let factor = ran.peak.saturating_sub(good) as f64 / bytes.len() as f64;
        let graph = ran.said.lines().find(|line| line.contains(" graph ")).unwrap_or_default();
        println!(
            "{name:<24} {:>9} bytes, peak {:>6} KiB more than the small one: {factor:.1} x, {:.2} s  {graph}",
            bytes.len(),
            ran.peak.saturating_sub(good) >> 10,
            ran.took.as_secs_f64()
        );
        // The answers in the golden rows are another model's: all but these have to be right.
        if factor > TIMES as f64 || !graph.starts_with('✓') {
            wrong.push(format!("{name}: {}", ran.said));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Puts a large model into a package of its kind, with as many features as it has columns.
fn large(package: &Package, kind: &str, bytes: &[u8]) {
    use serde_json::{Value, json};
    let text = String::from_utf8_lossy(bytes);
    let after = |key: &str| {
        let rest = &text[text.find(key).unwrap() + key.len()..];
        rest.trim_start_matches([':', '"', ' '])
            .chars()
            .take_while(char::is_ascii_digit)
            .collect::<String>()
            .parse::<usize>()
            .unwrap()
    };
    let mut categories = Vec::new();
    let columns = match kind {
        "lightgbm" => after("\nmax_feature_idx=") + 1,
        "xgboost-json" => after("\"num_feature\""),
        "xgboost-ubjson" => {
            let model = ubjson::decode(bytes);
            model["learner"]["learner_model_param"]["num_feature"].as_str().unwrap().parse().unwrap()
        }
        _ => {
            let model: Value = serde_json::from_slice(bytes).unwrap();
            let of = |key: &str| -> Vec<usize> {
                let list = model["features_info"][key].as_array().cloned().unwrap_or_default();
                list.iter().map(|feature| feature["flat_feature_index"].as_u64().unwrap() as usize).collect()
            };
            categories = of("categorical_features");
            1 + *of("float_features").iter().chain(&categories).max().unwrap()
        }
    };
    let names: Vec<String> = (0..columns).map(|column| format!("f{column}")).collect();
    let file = package.model_file();
    package.write(&file, bytes);
    package.edit("schema.json", |schema| {
        let feature = |(index, name): (usize, &String)| {
            let list: Vec<usize> = (0..200).collect();
            if categories.contains(&index) {
                json!({"name": name, "kind": "category", "categories": list})
            } else {
                json!({"name": name, "kind": "float"})
            }
        };
        schema["features"] = names.iter().enumerate().map(feature).collect();
    });
    package.edit("reference.json", |reference| {
        let profile = reference["features"]["a"].clone();
        reference["features"] = json!({});
        for (index, name) in names.iter().enumerate() {
            let counts = json!({"missing_share": 0, "counts": vec![1; 200]});
            reference["features"][name] = if categories.contains(&index) { counts } else { profile.clone() };
        }
    });
    package.node(|node| {
        node["features"] = json!(names);
        if kind == "catboost" {
            let codes: Vec<u32> = (0..200_u32).map(|code| code.wrapping_mul(2_654_435_761)).collect();
            let hashes = json!({"codes": codes, "missing": 1, "unseen": 2});
            let all: serde_json::Map<String, Value> =
                categories.iter().map(|index| (names[*index].clone(), hashes.clone())).collect();
            node["hashes"] = Value::Object(all);
        }
    });
    let line = json!({"row": {}, "nodes": {"node": [0.5]}, "label": 0}).to_string();
    package.put("golden.jsonl", vec![line; 52].join("\n"));
}
