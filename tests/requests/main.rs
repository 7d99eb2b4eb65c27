//! Requests that no client would write: never a panic, only the statuses that a wrong request may get.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use std::sync::LazyLock;

use bytes::Bytes;
use model::{Model, Predictions};
use proptest::{
    collection::vec,
    prelude::*,
    sample::{Index, select},
};
use prost::Message;
use support::{
    adult::test_set,
    examples,
    tensors::{RAW, TYPED},
};
use understudy::{
    encode::{Answered, Encoded},
    inference::{InferParameter, ModelInferRequest, infer_parameter::ParameterChoice},
    v1::{PredictRequest, Value, value::Kind},
};

mod body;

use body::Subject;

static ADULT: LazyLock<Subject> =
    LazyLock::new(|| Subject::new(Model::load(&examples().join("models/adult/1")).expect("the example")));

/// A change of some bytes, wherever they are.
#[derive(Clone, Debug)]
enum Edit {
    Flip(Index, u8),
    Set(Index, u8),
    Cut(Index),
    Insert(Index, Vec<u8>),
    /// From, length, to: what is repeated is often a field.
    Repeat(Index, usize, Index),
    Remove(Index, usize),
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = any::<Index>;
    prop_oneof![
        (at(), 0..8_u8).prop_map(|(at, bit)| Edit::Flip(at, bit)),
        (at(), any::<u8>()).prop_map(|(at, byte)| Edit::Set(at, byte)),
        at().prop_map(Edit::Cut),
        (at(), vec(any::<u8>(), 1..12)).prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
        (at(), 1..64_usize, at()).prop_map(|(from, length, to)| Edit::Repeat(from, length, to)),
        (at(), 1..16_usize).prop_map(|(at, length)| Edit::Remove(at, length)),
    ]
}

fn edited(mut bytes: Vec<u8>, edits: &[Edit]) -> Vec<u8> {
    for edit in edits {
        if bytes.is_empty() {
            break;
        }
        let length = bytes.len();
        let end = |from: usize, count: usize| (from + count).min(length);
        match edit {
            Edit::Flip(at, bit) => bytes[at.index(length)] ^= 1 << bit,
            Edit::Set(at, byte) => bytes[at.index(length)] = *byte,
            Edit::Cut(at) => bytes.truncate(at.index(length)),
            Edit::Insert(at, more) => drop(bytes.splice(at.index(length)..at.index(length), more.iter().copied())),
            Edit::Repeat(from, count, to) => {
                let from = from.index(length);
                let piece = bytes[from..end(from, *count)].to_vec();
                let to = to.index(length);
                drop(bytes.splice(to..to, piece));
            }
            Edit::Remove(at, count) => {
                let at = at.index(length);
                drop(bytes.drain(at..end(at, *count)));
            }
        }
    }
    bytes
}

/// Names and texts as they might be meant, or not.
fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        select(vec![
            "",
            "age",
            "race",
            "sex",
            "input",
            "INT64",
            "BYTES",
            "FP32",
            "BOOL",
            "label",
            "policy",
            "strict",
            "autogluon",
            "suspicious",
            "refuse",
            "reject_non_finite",
            "classification",
            "shared_memory_region",
            "White",
            "\u{1b}[31m\r\n",
            "\u{202e}",
            "é",
        ])
        .prop_map(str::to_owned),
        any::<String>(),
    ]
}

fn number() -> impl Strategy<Value = i64> {
    prop_oneof![-2..5_i64, any::<i64>(), Just(1 << 40), Just(i64::MIN)]
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        any::<f64>().prop_map(Kind::Number),
        Just(Kind::Number(f64::INFINITY)),
        number().prop_map(Kind::Integer),
        word().prop_map(Kind::Text),
        any::<bool>().prop_map(Kind::Boolean),
        any::<i32>().prop_map(Kind::Null),
    ]
}

/// A change of what a request says, which leaves it a request.
#[derive(Clone, Debug)]
enum Change {
    Name(Index, String),
    Datatype(Index, String),
    Shape(Index, Vec<i64>),
    Raw(Index, Vec<u8>),
    Swap(Index, Index),
    Drop(Index),
    Twice(Index),
    Parameter(String, Option<ParameterChoice>),
    InputParameter(Index, String, Option<ParameterChoice>),
    Output(String),
}

fn choice() -> impl Strategy<Value = Option<ParameterChoice>> {
    proptest::option::of(prop_oneof![
        word().prop_map(ParameterChoice::StringParam),
        any::<bool>().prop_map(ParameterChoice::BoolParam),
        number().prop_map(ParameterChoice::Int64Param),
    ])
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    prop_oneof![
        (at(), word()).prop_map(|(at, name)| Change::Name(at, name)),
        (at(), word()).prop_map(|(at, datatype)| Change::Datatype(at, datatype)),
        (at(), vec(number(), 0..12)).prop_map(|(at, shape)| Change::Shape(at, shape)),
        (at(), vec(any::<u8>(), 0..40)).prop_map(|(at, bytes)| Change::Raw(at, bytes)),
        (at(), at()).prop_map(|(one, other)| Change::Swap(one, other)),
        at().prop_map(Change::Drop),
        at().prop_map(Change::Twice),
        (word(), choice()).prop_map(|(name, choice)| Change::Parameter(name, choice)),
        (at(), word(), choice()).prop_map(|(at, name, choice)| Change::InputParameter(at, name, choice)),
        word().prop_map(Change::Output),
    ]
}

fn changed(mut request: ModelInferRequest, changes: Vec<Change>) -> ModelInferRequest {
    for change in changes {
        if request.inputs.is_empty() {
            break;
        }
        let length = request.inputs.len();
        match change {
            Change::Name(at, name) => request.inputs[at.index(length)].name = name,
            Change::Datatype(at, datatype) => request.inputs[at.index(length)].datatype = datatype,
            Change::Shape(at, shape) => request.inputs[at.index(length)].shape = shape,
            Change::Raw(at, bytes) if !request.raw_input_contents.is_empty() => {
                let at = at.index(request.raw_input_contents.len());
                request.raw_input_contents[at] = Bytes::from(bytes);
            }
            Change::Raw(..) => {}
            Change::Swap(one, other) => {
                let (one, other) = (one.index(length), other.index(length));
                let contents = request.inputs[one].contents.take();
                let contents = std::mem::replace(&mut request.inputs[other].contents, contents);
                request.inputs[one].contents = contents;
            }
            Change::Drop(at) => drop(request.inputs.remove(at.index(length))),
            Change::Twice(at) => request.inputs.push(request.inputs[at.index(length)].clone()),
            Change::Parameter(name, parameter_choice) => {
                request.parameters.insert(name, InferParameter { parameter_choice });
            }
            Change::InputParameter(at, name, parameter_choice) => {
                request.inputs[at.index(length)].parameters.insert(name, InferParameter { parameter_choice });
            }
            Change::Output(name) => support::tensors::ask(&mut request, &[&name, "label"]),
        }
    }
    request
}

fn good_tensors() -> impl Strategy<Value = ModelInferRequest> {
    (0..3, 0..4_usize).prop_map(|(style, rows)| match style {
        0 => test_set().columns(0..rows, RAW),
        1 => test_set().columns(0..rows, TYPED),
        _ => test_set().matrix(0..rows, true),
    })
}

fn good_rows() -> impl Strategy<Value = PredictRequest> {
    let values = vec((word(), kind()), 0..6);
    let asked = (0..5_i32, 0..5_i32, proptest::option::of(any::<bool>()));
    (0..4_usize, values, asked).prop_map(|(rows, values, (policy, suspicious, reject_non_finite))| {
        let mut request = PredictRequest { policy, suspicious, reject_non_finite, ..test_set().predict(0..rows) };
        if let Some(row) = request.rows.last_mut() {
            row.values.extend(values.into_iter().map(|(name, kind)| (name, Value { kind: Some(kind) })));
        }
        request
    })
}

/// The first inputs of the fuzz target `infer`.
#[test]
#[ignore = "writes files"]
fn write_the_corpus() {
    let corpus = examples().join("../fuzz/corpus/infer");
    std::fs::create_dir_all(&corpus).unwrap();
    let table = test_set();
    for (name, request) in
        [("raw", table.columns(0..2, RAW)), ("typed", table.columns(0..2, TYPED)), ("matrix", table.matrix(0..2, true))]
    {
        std::fs::write(corpus.join(name), request.encode_to_vec()).unwrap();
    }
    std::fs::write(corpus.join("rows"), table.predict(0..2).encode_to_vec()).unwrap();
}

#[test]
fn answers_of_every_task_are_written_as_they_are_encoded() {
    let packages = std::fs::read_dir(examples().join("../model/tests/packages")).unwrap();
    let mut tasks = std::collections::HashSet::new();
    for package in packages {
        let package = package.unwrap().path().join("1");
        if !package.is_dir() {
            // What makes them.
            continue;
        }
        let model = Model::load(&package).unwrap();
        let width = model.schema().features().len();
        let (mut encoded, mut predictions) = (Encoded::new(width), Predictions::new());
        for value in [0.0, 1.0, f64::NAN, 1e9] {
            encoded.batch.push_row().fill(value);
        }
        model.predict(&encoded.batch, &mut predictions).unwrap();
        // Zeros of either sign, long numbers: what encoders leave out.
        for scores in
            [predictions.scores.clone(), vec![0.0; predictions.scores.len()], vec![-0.0; predictions.scores.len()]]
        {
            predictions.scores = scores;
            for id in ["", "an id"] {
                body::check_written(id, &Answered { model: &model, predictions: &predictions, encoded: &encoded });
            }
        }
        tasks.insert(model.task());
    }
    assert_eq!(tasks.len(), 4, "{tasks:?}");
}

/// A field with a length: short ones only.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, content.len() as u8][..], content].concat()
}

/// Protobuf allows what no library writes, and rows must mean the same however they are read.
#[test]
fn rows_that_are_written_as_nobody_writes_them() {
    let (age, text) = (field(1, b"age"), field(2, &field(3, b"White")));
    let (whole, number) = (field(2, b"\x10\x25"), field(2, &[&[9][..], &37.5_f64.to_le_bytes()].concat()));
    let entry = |parts: &[&[u8]]| field(1, &parts.concat());
    let plain = entry(&[&age, &whole]);
    for row in [
        plain.clone(),
        // Twice: the last counts. Of the same kind, of another, of none.
        [plain.clone(), entry(&[&age, &number])].concat(),
        [plain.clone(), entry(&[&age, &field(2, b"")])].concat(),
        [entry(&[&age, &field(2, b"")]), plain.clone()].concat(),
        // Within an entry, and within a value.
        entry(&[&age, &whole, &number]),
        entry(&[&age, &age, &whole]),
        entry(&[&field(1, b"race"), &age, &whole]),
        entry(&[&age, &field(2, b"\x10\x25\x20\x01")]),
        entry(&[&age, &field(2, b"\x20\x02")]),
        entry(&[&age, &field(2, b"\x28\x07")]),
        // The other way round, half of it, none of it.
        entry(&[&whole, &age]),
        entry(&[&age]),
        entry(&[&whole]),
        entry(&[]),
        // Names of no feature, twice, and the empty one.
        [entry(&[&field(1, b"x"), &whole]), entry(&[&field(1, b"a"), &text]), entry(&[&field(1, b"x"), &text])]
            .concat(),
        entry(&[&field(1, b""), &whole]),
        // What nobody knows: a number, a group, at each depth.
        [plain.clone(), b"\x78\x01".to_vec()].concat(),
        [b"\x7b\x7c".to_vec(), plain.clone()].concat(),
        entry(&[&age, &whole, b"\x78\x01"]),
        entry(&[&age, &field(2, b"\x10\x25\x78\x01")]),
        // Numbers that are longer than they need to be, and than they may be.
        entry(&[&age, &field(2, b"\x10\xa5\x80\x80\x00")]),
        entry(&[&age, &field(2, b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")]),
        entry(&[&age, &field(2, b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02")]),
        [&[0x8a, 0x00][..], &plain[1..]].concat(),
        // Another type, a text that is none, an end within.
        entry(&[&age, b"\x10\x25"]),
        entry(&[b"\x08\x25", &whole]),
        entry(&[&field(1, b"\xff"), &whole]),
        entry(&[&age, &field(2, &field(3, b"\xff"))]),
        entry(&[&age, &field(2, b"\x09\x00")]),
        entry(&[&age, &field(2, b"\x1a\x05Whit")]),
        plain[..plain.len() - 1].to_vec(),
        b"\x08\x01".to_vec(),
    ] {
        // Alone, behind one that is good, and before it.
        let (row, good) = (field(3, &row), field(3, &plain));
        for rows in [row.clone(), [good.clone(), row.clone()].concat(), [row, good].concat()] {
            ADULT.predict(&rows);
            ADULT.predict(&[field(1, b"adult"), rows.clone(), field(4, b"id")].concat());
            // A policy of another type, and an unknown field behind all.
            ADULT.predict(&[field(5, b"x"), rows.clone()].concat());
            ADULT.predict(&[rows, b"\xf8\x01\x01".to_vec()].concat());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes(bytes in vec(any::<u8>(), 0..300)) {
        ADULT.infer(&bytes);
        ADULT.predict(&bytes);
    }

    #[test]
    fn tensors_that_are_changed(request in good_tensors(), changes in vec(change(), 0..6)) {
        ADULT.infer(&changed(request, changes).encode_to_vec());
    }

    #[test]
    fn tensors_whose_bytes_are_changed(request in good_tensors(), edits in vec(edit(), 1..6)) {
        ADULT.infer(&edited(request.encode_to_vec(), &edits));
    }

    #[test]
    fn rows_that_are_changed(request in good_rows()) {
        ADULT.predict(&request.encode_to_vec());
    }

    #[test]
    fn rows_whose_bytes_are_changed(request in good_rows(), edits in vec(edit(), 1..6)) {
        ADULT.predict(&edited(request.encode_to_vec(), &edits));
    }
}
