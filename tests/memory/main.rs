//! P15 to the byte: what decoding and encoding a hostile message allocates, by an allocator that counts. The test of the
//! process (`server/tests/process/memory.rs`) sees the same from outside.

#![allow(unsafe_code, reason = "an allocator can't be written without")]
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    fmt::Write as _,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use bytes::Bytes;
use model::Model;
use prost::Message;
use support::examples;
use tonic::Code;
use understudy::{
    encode::{Encoded, RequestError, Rules, decode_rows, decode_tensors, encode_rows, encode_tensors},
    inference::ModelInferRequest,
    v1::PredictRequest,
};

/// The system's, with a count of what is allocated now and was at most.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn more(bytes: usize) {
    PEAK.fetch_max(NOW.fetch_add(bytes, Relaxed) + bytes, Relaxed);
}

// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        more(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Big blocks are moved by the kernel, page by page, not copied beside themselves.
        if size >= layout.size() {
            more(size - layout.size());
        } else {
            NOW.fetch_sub(layout.size() - size, Relaxed);
        }
        unsafe { System.realloc(place, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What `run` had allocated at most, beside what there was before.
fn peak<T>(run: impl FnOnce() -> T) -> (usize, T) {
    let before = NOW.load(Relaxed);
    PEAK.store(before, Relaxed);
    let outcome = run();
    (PEAK.load(Relaxed) - before, outcome)
}

/// Bytes of a message: a limit that an operator might raise the default to.
const WIRE: usize = 4 << 20;

fn field(key: u8, content: &[u8]) -> Vec<u8> {
    let mut length = Vec::new();
    prost::encoding::encode_varint(content.len() as u64, &mut length);
    [&[key], &length[..], content].concat()
}

/// As many of `piece` as there is room for.
fn filled(piece: &[u8]) -> Vec<u8> {
    piece.repeat((WIRE - 64) / piece.len())
}

/// One input with `contents` in an `InferTensorContents`.
fn contents(contents: &[u8]) -> Vec<u8> {
    field(0x2a, &[&b"\x0a\x01x"[..], &field(0x2a, contents)].concat())
}

/// Map entries at `key` with names of their own.
fn entries(key: u8, count: usize) -> Vec<u8> {
    (0..count as u32).flat_map(|i| field(key, &field(0x0a, format!("{i:05x}").as_bytes()))).collect()
}

/// An input named `x` with as many `entries` as are asked for, again and again.
fn with_parameters(count: usize) -> Vec<u8> {
    filled(&field(0x2a, &[&b"\x0a\x01x"[..], &entries(0x22, count)].concat()))
}

/// A name, the message, and whether stock prost takes more than the promise allows.
fn tensors() -> Vec<(&'static str, Vec<u8>, bool)> {
    let just_over = |element: &[u8], elements: usize| element.repeat(elements.next_power_of_two() / 2 + 1);
    vec![
        ("empty inputs", filled(b"\x2a\x00"), true),
        ("named inputs", filled(b"\x2a\x03\x0a\x01x"), true),
        ("4,096 named inputs", b"\x2a\x03\x0a\x01x".repeat(4096), false),
        ("inputs with a parameter", with_parameters(1), true),
        ("inputs with empty contents", filled(b"\x2a\x05\x0a\x01x\x2a\x00"), true),
        ("empty outputs", filled(b"\x32\x00"), true),
        ("empty raw contents", filled(b"\x3a\x00"), false),
        ("parameters", entries(0x22, WIRE / 16), true),
        ("empty parameters", filled(b"\x22\x00"), false),
        ("empty texts", contents(&filled(b"\x42\x00")), false),
        ("empty texts, just over a power of two", contents(&just_over(b"\x42\x00", 1 << 21)), true),
        ("int64 of a byte", contents(&field(0x1a, &vec![1; WIRE - 64])), false),
        ("int64 of a byte, just over a power of two", contents(&field(0x1a, &just_over(b"\x01", 1 << 22))), false),
        ("uint64 of a byte, not packed", contents(&filled(b"\x28\x01")), false),
        ("sizes of a byte", field(0x2a, &[&b"\x0a\x01x"[..], &field(0x1a, &vec![1; WIRE - 64])].concat()), false),
        ("unknown fields", filled(b"\xf8\x07\x00"), false),
        ("unknown groups", filled(b"\xa3\x06\xa4\x06"), false),
        ("empty inputs behind a group", [&b"\xa3\x06\xa4\x06"[..], &filled(b"\x2a\x00")].concat(), true),
        ("good bytes", field(0x3a, &vec![0; WIRE - 64]), false),
    ]
}

fn rows() -> Vec<(&'static str, Vec<u8>, bool)> {
    vec![
        ("empty rows", filled(b"\x1a\x00"), false),
        ("rows of an empty value", filled(b"\x1a\x02\x0a\x00"), true),
        ("rows of a value", filled(b"\x1a\x09\x0a\x07\x0a\x01x\x12\x02\x10\x01"), true),
        ("one row of values", field(0x1a, &entries(0x0a, WIRE / 16)), false),
        ("one row of empty values", field(0x1a, &filled(b"\x0a\x00")), false),
        ("unknown fields", filled(b"\xf8\x07\x00"), false),
        (
            "rows of an empty value behind a group",
            [&b"\xa3\x06\xa4\x06"[..], &filled(b"\x1a\x02\x0a\x00")].concat(),
            true,
        ),
    ]
}

#[test]
fn no_request_takes_more_than_sixteen_times_its_size() {
    let model = Model::load(&examples().join("models/adult/1")).unwrap();
    // As an operator might have raised it. What a batch takes is then his word: rows by features by eight bytes.
    let rules = Rules { max_rows: 5_000, ..Rules::of(&model) };
    let mut encoded = Encoded::new(model.schema().features().len());
    let mut table = String::new();
    let mut complaints = 0;
    let mut tell = |name: &str, wire: usize, stock: usize, ours: usize, code: Code, bites: bool| {
        let limit = 16 * wire + (1 << 20);
        let codes = [Code::Ok, Code::InvalidArgument, Code::ResourceExhausted];
        let fine = ours <= limit && (stock > limit) == bites && codes.contains(&code);
        complaints += usize::from(!fine);
        let times = |bytes: usize| bytes as f64 / wire as f64;
        let mark = if fine { ' ' } else { '!' };
        writeln!(
            table,
            "{mark} {name:45} {wire:8} bytes: stock {:6.1}, ours {:5.1} times, {code:?}",
            times(stock),
            times(ours)
        )
        .unwrap();
    };
    let code = |outcome: Result<(), RequestError>| {
        outcome.map_or_else(|error| tonic::Status::from(error).code(), |()| Code::Ok)
    };
    for (name, message, bites) in tensors() {
        let message = Bytes::from(message);
        let (stock, decoded) = peak(|| ModelInferRequest::decode(message.clone()).map(drop));
        decoded.unwrap();
        let (ours, outcome) =
            peak(|| decode_tensors(&message).and_then(|request| encode_tensors(&request, &model, rules, &mut encoded)));
        tell(name, message.len(), stock, ours, code(outcome), bites);
    }
    for (name, message, bites) in rows() {
        let message = Bytes::from(message);
        let (stock, decoded) = peak(|| PredictRequest::decode(message.clone()).map(drop));
        decoded.unwrap();
        let (ours, outcome) = peak(|| {
            decode_rows(&message, rules.max_rows)
                .and_then(|request| encode_rows(&request.rows, &model, rules, &mut encoded))
        });
        tell(name, message.len(), stock, ours, code(outcome), bites);
        // The sidecar takes as many rows as the primary has taken.
        let (ours, outcome) = peak(|| decode_rows(&message, usize::MAX).map(drop));
        tell(name, message.len(), stock, ours, code(outcome), bites);
    }
    assert_eq!(complaints, 0, "at most 16 times and 1 MiB, and stock prost more where it is said so:\n{table}");
}
