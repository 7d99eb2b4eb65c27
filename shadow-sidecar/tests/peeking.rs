//! Looking after every row must not promote a candidate that only just misses the gate; a classical bound does.

use shadow_sidecar::stats::agreement::{Prior, log_e_above};
use shadow_sidecar::stats::special::ln_incomplete_beta;

const GATE: f64 = 0.9;
const ALPHA: f64 = 0.05;
const ROWS: usize = 2000;
const RUNS: usize = 2000;

/// A fixed sequence of random numbers in [0, 1), the same everywhere (`SplitMix64`).
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// For every n the fewest agreements that promote. Both tests want more and more of them, never fewer.
fn boundary(promotes: impl Fn(u64, u64) -> bool) -> Vec<u64> {
    let mut fewest = 0;
    (1..=ROWS as u64)
        .map(|n| {
            while fewest <= n && !promotes(n, fewest) {
                fewest += 1;
            }
            fewest
        })
        .collect()
}

/// The share of runs, at agreement p, that are promoted at any of the looks.
fn promoted(boundary: &[u64], p: f64, seed: u64) -> f64 {
    let mut random = Random(seed);
    let runs = (0..RUNS).filter(|_| {
        let mut agreed = 0;
        let mut ever = false;
        // No early end: every run takes the same part of the sequence, whatever the boundary.
        for &fewest in boundary {
            agreed += u64::from(random.next() < p);
            ever |= agreed >= fewest;
        }
        ever
    });
    runs.count() as f64 / RUNS as f64
}

#[test]
fn peeking_is_free_for_the_e_process_only() {
    // Four standard errors of a simulated share of at most alpha.
    let noise = 4.0 * (ALPHA * (1.0 - ALPHA) / RUNS as f64).sqrt();
    for prior in [Prior::Uniform, Prior::Jeffreys] {
        let e_process = boundary(|n, s| log_e_above(n, s, GATE, prior) >= -ALPHA.ln());
        let wrongly = promoted(&e_process, GATE, 7);
        assert!(wrongly <= ALPHA + noise, "{prior:?}: {wrongly}");
        // It is not just timid.
        assert!(wrongly > 0.01, "{prior:?}: {wrongly}");
        assert!(promoted(&e_process, 0.95, 11) > 0.99);
        // Further below the gate it is rarer still.
        assert!(promoted(&e_process, 0.88, 3) < wrongly);
    }
    // Clopper and Pearson's lower bound lies above the gate: P(at least s agreements at the gate) < alpha.
    let classical =
        boundary(|n, s| s > 0 && ln_incomplete_beta(s as f64, (n - s + 1) as f64, GATE, 1.0 - GATE) < ALPHA.ln());
    let wrongly = promoted(&classical, GATE, 7);
    assert!(wrongly > 4.0 * ALPHA, "{wrongly}");
}
