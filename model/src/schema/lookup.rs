//! Names and categories to numbers, fast: this is asked once for each value of each request.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};

use crate::Scalar;

/// A map with [`FastHash`].
pub(crate) type FastMap<K, V> = HashMap<K, V, FastHash>;

/// Builds [`FoldHasher`]s that share one secret seed.
///
/// The standard hasher costs more than the rest of a lookup for names of ten bytes. The seed is random, so that a
/// package cannot be written to make its own names collide.
#[derive(Debug, Clone)]
pub(crate) struct FastHash(u64);

impl Default for FastHash {
    fn default() -> Self {
        Self(RandomState::new().hash_one(0_u8))
    }
}

impl BuildHasher for FastHash {
    type Hasher = FoldHasher;

    fn build_hasher(&self) -> FoldHasher {
        FoldHasher { state: self.0, seed: self.0 | 1 }
    }
}

/// A folded multiplication for every eight bytes, as foldhash and wyhash do it.
#[derive(Debug)]
pub(crate) struct FoldHasher {
    state: u64,
    seed: u64,
}

impl FoldHasher {
    fn fold(&mut self, word: u64) {
        let product = u128::from(self.state ^ word) * u128::from(self.seed ^ 0x9e37_79b9_7f4a_7c15);
        self.state = (product as u64) ^ ((product >> 64) as u64);
    }
}

impl Hasher for FoldHasher {
    fn write(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            let mut eight = [0; 8];
            eight.copy_from_slice(word);
            self.fold(u64::from_le_bytes(eight));
        }
        let mut last = [0; 8];
        let rest = words.remainder();
        last[..rest.len()].copy_from_slice(rest);
        // The length goes in too: "a" and "a\0" differ.
        self.fold(u64::from_le_bytes(last) ^ ((bytes.len() as u64) << 56));
    }

    fn write_u8(&mut self, byte: u8) {
        // Only the end mark of a `str`, which `write` already covers by its length.
        self.state ^= u64::from(byte);
    }

    fn write_u64(&mut self, word: u64) {
        self.fold(word);
    }

    fn write_i64(&mut self, word: i64) {
        self.fold(word.cast_unsigned());
    }

    fn finish(&self) -> u64 {
        self.state
    }
}

/// The categories of a feature and the way back from a value to its code.
#[derive(Debug, Default)]
pub(crate) struct Categories {
    values: Vec<Scalar>,
    texts: FastMap<Box<str>, u32>,
    integers: FastMap<i64, u32>,
    fractions: FastMap<u64, u32>,
    bools: [Option<u32>; 2],
}

impl Categories {
    /// Takes the list of `schema.json`, or gives the position of a value that is there twice.
    pub(crate) fn new(values: Vec<Scalar>) -> Result<Self, usize> {
        let mut categories = Self::default();
        for (code, value) in values.iter().enumerate() {
            let code = u32::try_from(code).map_err(|_| code)?;
            let before = match value {
                Scalar::Text(text) => categories.texts.insert(text.as_str().into(), code),
                Scalar::Bool(truth) => categories.bools[usize::from(*truth)].replace(code),
                Scalar::Int(number) => categories.integers.insert(*number, code),
                Scalar::Float(number) => match whole(*number) {
                    Some(number) => categories.integers.insert(number, code),
                    None => categories.fractions.insert(number.to_bits(), code),
                },
            };
            if before.is_some() {
                return Err(code as usize);
            }
        }
        categories.values = values;
        Ok(categories)
    }

    /// The categories, by code.
    pub(crate) fn values(&self) -> &[Scalar] {
        &self.values
    }

    /// Number of categories.
    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    /// The code of a scalar.
    pub(crate) fn scalar(&self, value: &Scalar) -> Option<u32> {
        match value {
            Scalar::Int(number) => self.int(*number),
            Scalar::Float(number) => self.float(*number),
            Scalar::Bool(truth) => self.truth(*truth),
            Scalar::Text(text) => self.text(text),
        }
    }

    /// The code of a text.
    pub(crate) fn text(&self, text: &str) -> Option<u32> {
        self.texts.get(text).copied()
    }

    /// The code of a boolean.
    pub(crate) fn truth(&self, truth: bool) -> Option<u32> {
        self.bools[usize::from(truth)]
    }

    /// The code of an integer.
    pub(crate) fn int(&self, number: i64) -> Option<u32> {
        self.integers.get(&number).copied()
    }

    /// The code of a number; 1.0 and 1 are one number.
    pub(crate) fn float(&self, number: f64) -> Option<u32> {
        match whole(number) {
            Some(number) => self.int(number),
            None => self.fractions.get(&number.to_bits()).copied(),
        }
    }
}

/// The integer that a double is, if it is one.
fn whole(number: f64) -> Option<i64> {
    // 2^63 itself does not fit; -2^63 does.
    let fits = (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&number);
    (fits && number.trunc() == number).then_some(number as i64)
}
