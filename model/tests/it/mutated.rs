//! The fuzz targets of `fuzz/`, on every stable toolchain: good files, changed anyhow.

mod body;

use std::time::{Duration, Instant};

use model::Model;
use proptest::prelude::*;
use proptest::sample::Index;

use body::{Files, TARGETS};

/// A change of a file.
#[derive(Debug, Clone)]
enum Change {
    /// One byte.
    Byte(Index, u8),
    /// A number of a text, for another.
    Number(Index, &'static str),
    /// Eight bytes, for a number in binary.
    Binary(Index, u64, bool),
    /// A piece is put somewhere else, too.
    Copy(Index, Index, usize),
    /// A piece is cut out.
    Cut(Index, usize),
    /// The end is cut off.
    Truncate(Index),
}

const NUMBERS: [&str; 16] = [
    "0",
    "1",
    "-1",
    "2",
    "3",
    "63",
    "64",
    "2147483647",
    "2147483648",
    "18446744073709551615",
    "-9223372036854775808",
    "1e999",
    "1e38",
    "0.5",
    "\"nan\"",
    "null",
];

fn change() -> impl Strategy<Value = Change> {
    let binary =
        prop::sample::select(vec![0, 1, 2, 255, 1 << 31, u64::from(u32::MAX), 1 << 40, 1 << 62, 1 << 63, u64::MAX]);
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Change::Byte(at, byte)),
        (any::<Index>(), prop::sample::select(NUMBERS.to_vec())).prop_map(|(at, number)| Change::Number(at, number)),
        (any::<Index>(), binary, any::<bool>()).prop_map(|(at, number, big)| Change::Binary(at, number, big)),
        (any::<Index>(), any::<Index>(), 1..200_usize).prop_map(|(from, to, length)| Change::Copy(from, to, length)),
        (any::<Index>(), 1..64_usize).prop_map(|(at, length)| Change::Cut(at, length)),
        any::<Index>().prop_map(Change::Truncate),
    ]
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let length = bytes.len();
        match self {
            Self::Byte(at, byte) => bytes[at.index(length)] = *byte,
            Self::Number(at, number) => {
                let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'.' | b'e');
                let Some(start) = (at.index(length)..length).find(|&start| is_digit(&bytes[start])) else { return };
                let end = (start..length).find(|&end| !is_digit(&bytes[end])).unwrap_or(length);
                bytes.splice(start..end, number.bytes());
            }
            Self::Binary(at, number, big) => {
                let at = at.index(length);
                let eight = if *big { number.to_be_bytes() } else { number.to_le_bytes() };
                let count = eight.len().min(length - at);
                bytes[at..at + count].copy_from_slice(&eight[..count]);
            }
            Self::Copy(from, to, count) => {
                let from = from.index(length);
                let piece = bytes[from..length.min(from + count)].to_vec();
                let to = to.index(length);
                bytes.splice(to..to, piece);
            }
            Self::Cut(at, count) => {
                let at = at.index(length);
                bytes.drain(at..length.min(at + count));
            }
            Self::Truncate(at) => bytes.truncate(at.index(length)),
        }
    }
}

fn packages() -> Vec<Files> {
    TARGETS.iter().map(|target| body::read(target.package)).collect()
}

#[test]
fn mutated_files_never_panic() {
    let packages = packages();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 2_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let mut accepted = [0; TARGETS.len()];
    let counts = std::cell::RefCell::new(&mut accepted);
    let strategy = (0..TARGETS.len(), prop::collection::vec(change(), 0..4));
    let outcome = runner.run(&strategy, |(which, changes)| {
        let good = &packages[which];
        let mut bytes = good[TARGETS[which].file].clone();
        for change in &changes {
            change.apply(&mut bytes);
        }
        let started = Instant::now();
        let loaded = body::load(TARGETS[which], good, &bytes);
        counts.borrow_mut()[which] += usize::from(loaded);
        prop_assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
        Ok(())
    });
    outcome.unwrap();
    // Otherwise nothing behind the first check was reached.
    for (target, accepted) in TARGETS.iter().zip(accepted) {
        let builds = Model::from_files(body::read(target.package)).is_ok();
        assert!(accepted > 0 || !builds, "{}: nothing was ever accepted", target.name);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn anything_is_no_file(which in 0..TARGETS.len(), bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        body::load(TARGETS[which], &body::read(TARGETS[which].package), &bytes);
    }

    #[test]
    fn good_packages_predict_anything(which in 0..TARGETS.len(), bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        if let Ok(model) = Model::from_files(body::read(TARGETS[which].package)) {
            let values: Vec<f64> = bytes.chunks(8).map(body::number).collect();
            body::predict(&model, &values);
        }
    }
}
