//! Prediction ids: 32 hexadecimal digits, 80 random bits of this process and a 48-bit counter. Unique over replicas and
//! restarts, made without a lock and without asking the system for randomness each time.

use std::sync::atomic::{AtomicU64, Ordering};

/// Makes ids.
#[derive(Debug)]
pub struct PredictionIds {
    process: String,
    next: AtomicU64,
}

impl PredictionIds {
    /// Draws the random part.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn new() -> Result<Self, getrandom::Error> {
        let mut random = [0; 10];
        getrandom::fill(&mut random)?;
        let mut process = String::with_capacity(20);
        for byte in random {
            push_hex(&mut process, u64::from(byte), 2);
        }
        Ok(Self { process, next: AtomicU64::new(0) })
    }

    /// The random part: 20 hexadecimal digits that no other process has.
    pub fn process(&self) -> &str {
        &self.process
    }

    /// Ids for `count` rows, in order.
    pub fn take(&self, count: usize) -> impl FnMut() -> String + use<'_> {
        let mut next = self.next.fetch_add(count as u64, Ordering::Relaxed);
        move || {
            let mut id = String::with_capacity(32);
            id.push_str(&self.process);
            push_hex(&mut id, next, 12);
            next += 1;
            id
        }
    }
}

/// The lowest `digits` hexadecimal digits of `number`.
fn push_hex(text: &mut String, number: u64, digits: u32) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for digit in (0..digits).rev() {
        text.push(char::from(DIGITS[(number >> (4 * digit) & 0xf) as usize]));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_unique_and_well_formed() {
        let (a, b) = (PredictionIds::new().expect("randomness"), PredictionIds::new().expect("randomness"));
        let mut seen = HashSet::new();
        for ids in [&a, &b] {
            let (mut first, mut second) = (ids.take(3), ids.take(2));
            for id in [first(), second(), first(), second(), first()] {
                assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
                assert!(seen.insert(id));
            }
        }
    }
}
