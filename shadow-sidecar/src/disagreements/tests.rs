#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use understudy::{
    inference::{InferTensorContents, ModelInferRequest, model_infer_request::InferInputTensor},
    v1::{PredictRequest, Row, Value, value},
};

use super::*;
use crate::exchange::Request;
use prost::Message as _;

fn example(file: &str) -> Vec<u8> {
    let path = format!("{}/../examples/models/adult/1/{file}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(path).unwrap()
}

fn reader(policy: Inputs, reference: bool) -> Reader {
    let reference = if reference { example("reference.json") } else { Vec::new() };
    Reader::new(policy, &Schemas { schema: example("schema.json").into(), reference: reference.into() })
}

fn disagreements(keep: usize) -> Disagreements {
    Disagreements::new(keep, reader(Inputs::None, false), [Vec::new(), Vec::new()])
}

#[test]
fn a_late_one_is_as_likely_as_an_early_one() {
    const SEEN: u64 = 2_000;
    const PLACES: usize = 20;
    let mut quarters = [0_u32; 4];
    for _ in 0..400 {
        let mut sample = Sample::new(PLACES, 0);
        for _ in 0..SEEN {
            let (number, place) = sample.seen(Kind::Flip);
            sample.keep(Arc::new(v1::Disagreement { number, ..v1::Disagreement::default() }), place, true);
        }
        let kept = sample.kept();
        assert!(kept.len() == PLACES && kept.is_sorted_by(|a, b| a.number > b.number), "{kept:?}");
        for each in kept {
            quarters[((each.number - 1) * 4 / SEEN) as usize] += 1;
        }
    }
    // 2,000 each, and six standard deviations of 39.
    assert!(quarters.iter().all(|count| (1_766..=2_234).contains(count)), "{quarters:?}");
}

#[test]
fn the_last_ones_are_always_there_and_none_is_twice() {
    let mut all = disagreements(10);
    let told = Mutex::new(0);
    for n in 0..500_u64 {
        let count = |_: &v1::Disagreement| *told.lock().unwrap() += 1;
        let kind = if n % 5 == 0 { Kind::Status } else { Kind::Flip };
        all.note(kind, (n % 100 == 0).then_some(&count as &dyn Fn(&v1::Disagreement)), v1::Disagreement::default);
    }
    // Slower than the limit, so that the very last is described.
    all.began -= std::time::Duration::from_secs(1);
    all.note(Kind::Shape, None, v1::Disagreement::default);
    let kept = all.kept();
    assert_eq!((kept[0].number, kept[0].kind.as_str()), (501, "shape"));
    assert!((9..=10).contains(&kept.len()), "{}", kept.len());
    let counts = [("flip", 400), ("shape", 1), ("status", 100)].map(|(kind, count)| (kind.to_owned(), count));
    assert_eq!(all.counts(), counts.into());
    assert_eq!(*told.lock().unwrap(), 5);
}

/// Through bytes, as the state file has it.
fn restarted(before: &Disagreements, keep: usize, inputs: Inputs, bytes: usize) -> Disagreements {
    let sealed = crate::state::seal(b"", &before.save(bytes)).unwrap();
    let saved: Examples = crate::state::unseal(b"", &sealed).unwrap();
    let config = Config { keep, inputs, ..Config::default() };
    let names = before.names.clone();
    Disagreements::new(keep, reader(inputs, false), names).after(&saved.allowed(&config))
}

fn numbers(all: &Disagreements) -> Vec<u64> {
    all.kept().iter().map(|each| each.number).collect()
}

/// A row of eight bytes' worth of inputs.
fn noted(all: &Disagreements, count: u64) {
    for _ in 0..count {
        all.note(Kind::Flip, None, || v1::Disagreement {
            features: [("name".to_owned(), "Jane Doe".to_owned())].into(),
            ..v1::Disagreement::default()
        });
    }
}

#[test]
fn a_restart_loses_nothing_and_a_sample_stays_fair() {
    const ALL: usize = 1 << 20;
    let before = disagreements(20);
    noted(&before, 500);
    let after = restarted(&before, 20, Inputs::None, ALL);
    assert_eq!((numbers(&after), after.counts()), (numbers(&before), before.counts()));
    noted(&after, 1);
    assert_eq!(numbers(&after)[0], 501, "numbers go on, and so do pages");
    // Fewer places keep fewer; more places would be for late ones only.
    for (keep, most) in [(10, 10), (200, 20)] {
        let after = restarted(&before, keep, Inputs::None, ALL);
        noted(&after, 500);
        let kept = after.kept().len();
        // Each of the last ones may be in the sample, too.
        assert!((most - 2..=most + MOST_RECENT).contains(&kept), "{keep}: {kept}");
    }
    // While all that were seen are known, more places are as fair.
    let few = disagreements(20);
    noted(&few, 15);
    let after = restarted(&few, 200, Inputs::None, ALL);
    noted(&after, 150);
    assert_eq!(numbers(&after), (1..=165).rev().collect::<Vec<_>>());

    let mut quarters = [0_u32; 4];
    for _ in 0..400 {
        let mut sampled = disagreements(22);
        for _ in 0..4 {
            noted(&sampled, 500);
            sampled = restarted(&sampled, 22, Inputs::None, ALL);
        }
        for each in sampled.sample().reservoir.iter().flatten() {
            quarters[((each.number - 1) / 500) as usize] += 1;
        }
    }
    // 400 times 20 places: 2,000 each, and six standard deviations of 39.
    assert!(quarters.iter().all(|count| (1_766..=2_234).contains(count)), "{quarters:?}");
}

#[test]
fn what_is_saved_has_bounds_and_a_part_is_as_fair() {
    let before = disagreements(200);
    noted(&before, 10_000);
    let one = before.kept()[0].encoded_len();
    let some = before.save(60 * one + one / 2);
    let bytes = crate::state::seal(b"", &some).unwrap().len();
    assert!((50 * one..70 * one + 500).contains(&bytes), "{bytes} bytes, one has {one}");
    let after = restarted(&before, 200, Inputs::None, 60 * one + one / 2);
    let kept = numbers(&after);
    assert!((57..=61).contains(&kept.len()), "{kept:?}");
    assert!(before.sample().recent.iter().all(|each| kept.contains(&each.number)), "{kept:?}");
    assert!(before.save(0).is_empty() && restarted(&before, 200, Inputs::None, 0).counts().is_empty());
}

#[test]
fn what_may_not_be_told_any_more_is_not_kept_any_more() {
    let full = Disagreements::new(20, reader(Inputs::Full, false), [Vec::new(), Vec::new()]);
    noted(&full, 100);
    let told = |all: &Disagreements| all.kept().iter().filter(|each| !each.features.is_empty()).count();
    let text = |examples: &Examples| format!("{examples:?}").contains("Jane Doe");
    let saved = full.save(1 << 20);
    assert!(text(&saved), "as it is configured");
    for (inputs, kept) in [(Inputs::Full, true), (Inputs::Redacted, false), (Inputs::None, false)] {
        let config = Config { keep: 20, inputs, ..Config::default() };
        assert_eq!(text(&saved.clone().allowed(&config)), kept, "{inputs:?}");
        let after = restarted(&full, 20, inputs, 1 << 20);
        assert_eq!((told(&after) > 0, numbers(&after)), (kept, numbers(&full)));
    }
    assert_eq!(saved.allowed(&Config { keep: 0, ..Config::default() }), Examples::default());
}

#[test]
fn what_nobody_wants_is_not_described() {
    let all = disagreements(0);
    all.note(Kind::Flip, None, || unreachable!("nothing is kept"));
    assert_eq!((all.kept().len(), all.counts()), (0, [("flip".to_owned(), 1)].into()));
}

fn row(values: &[(&str, value::Kind)]) -> Request {
    let values = values.iter().map(|(name, kind)| ((*name).to_owned(), Value { kind: Some(kind.clone()) })).collect();
    Request::Rows(PredictRequest { rows: vec![Row { values }], ..PredictRequest::default() })
}

/// What is told of one row, sorted by name.
fn told(reader: &Reader, request: &Request) -> Vec<(String, String)> {
    reader.of(request, 0).into_iter().collect()
}

fn texts<const N: usize>(pairs: [(&str, &str); N]) -> Vec<(String, String)> {
    pairs.map(|(name, text)| (name.to_owned(), text.to_owned())).to_vec()
}

#[test]
fn redacted_inputs_tell_ranges_and_categories_that_are_known() {
    use value::Kind::{Integer, Null, Number, Text};
    let request = row(&[
        ("age", Integer(39)),
        ("capital_gain", Number(1e12)),
        ("education_num", Null(0)),
        ("hours_per_week", Number(f64::NAN)),
        ("native_country", Text("Jane Doe, 12 Elm Street".into())),
        ("workclass", Text("Private".into())),
        ("Jane Doe", Text("her name is no feature".into())),
    ]);
    let redacted = told(&reader(Inputs::Redacted, true), &request);
    let expected = texts([
        ("age", "[37, 41)"),
        ("capital_gain", ">= 99999"),
        ("education_num", "missing"),
        ("hours_per_week", "missing"),
        ("native_country", "unseen"),
        ("workclass", "Private"),
    ]);
    assert_eq!(redacted, expected);
    // Nobody knows the ranges: two digits are left.
    let rounded =
        told(&reader(Inputs::Redacted, false), &row(&[("age", Integer(39)), ("capital_gain", Number(-12_345.0))]));
    assert_eq!(rounded, texts([("age", "39"), ("capital_gain", "-12000")]));
    assert_eq!(told(&reader(Inputs::None, true), &request), []);
    let full = told(&reader(Inputs::Full, true), &request);
    assert!(full.contains(&("native_country".to_owned(), "Jane Doe, 12 Elm Street".to_owned())), "{full:?}");
}

#[test]
fn without_a_schema_no_text_is_told() {
    use value::Kind::{Boolean, Integer, Text};
    let reader = Reader::new(Inputs::Redacted, &Schemas::default());
    let request = row(&[("a", Text("Jane".into())), ("b", Integer(-123_456)), ("c", Boolean(true))]);
    assert_eq!(told(&reader, &request), texts([("a", "text"), ("b", "-120000"), ("c", "true")]));
    assert!(reader.kinds().is_empty());
}

fn tensor(name: &str, datatype: &str, shape: &[i64]) -> InferInputTensor {
    InferInputTensor { name: name.into(), datatype: datatype.into(), shape: shape.to_vec(), ..Default::default() }
}

#[test]
fn a_row_is_found_in_tensors_however_they_came() {
    let text = |text: &str| [&(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat();
    let contents = InferTensorContents { fp32_contents: vec![20.0, 39.0], ..Default::default() };
    let typed = InferInputTensor { contents: Some(contents), ..tensor("age", "FP32", &[2]) };
    let request = Request::Tensors(ModelInferRequest { inputs: vec![typed], ..Default::default() });
    let redacted = reader(Inputs::Redacted, true);
    assert_eq!(redacted.of(&request, 1), texts([("age", "[37, 41)")]).into_iter().collect());
    assert_eq!(redacted.of(&request, 2)["age"], "missing", "there is no such row");

    let inputs = vec![
        tensor("workclass", "BYTES", &[2, 1]),
        tensor("education_num", "INT64", &[2, 1]),
        tensor("their own", "FP32", &[2, 2]),
        tensor("odd", "FP64", &[2, -1]),
    ];
    let raw_input_contents = vec![
        [text("Never-worked"), text("Private")].concat().into(),
        [0_i64, 13].map(i64::to_le_bytes).concat().into(),
        [1.0_f32, 2.0, 3.26, 4.0].map(f32::to_le_bytes).concat().into(),
    ];
    let request = Request::Tensors(ModelInferRequest { inputs, raw_input_contents, ..Default::default() });
    let expected =
        [("education_num", "[13, 14)"), ("their own[0]", "3.3"), ("their own[1]", "4"), ("workclass", "Private")];
    assert_eq!(redacted.of(&request, 1), texts(expected).into_iter().collect());

    // A matrix of codes and numbers.
    let width = redacted.kinds().len();
    let mut cells = vec![0.0_f64; 2 * width];
    cells[width..width + 2].copy_from_slice(&[39.0, 4.0]);
    let raw = cells.iter().flat_map(|cell| cell.to_le_bytes()).collect::<Vec<_>>();
    let request = Request::Tensors(ModelInferRequest {
        inputs: vec![tensor("all", "FP64", &[2, width as i64])],
        raw_input_contents: vec![raw.into()],
        ..Default::default()
    });
    for policy in [Inputs::Redacted, Inputs::Full] {
        let told = reader(policy, true).of(&request, 1);
        let age = if policy == Inputs::Full { "39" } else { "[37, 41)" };
        assert_eq!((told["age"].as_str(), told["workclass"].as_str(), told.len()), (age, "Private", width));
    }
}
