//! Rehearsals of imagined candidates, looked at after every exchange.

use shadow_sidecar::stats::agreement::{Prior, log_e_above};
use shadow_sidecar::stats::bernstein::{AGREEMENT_V_OPT, Bernstein, boundary};
use shadow_sidecar::stats::special::ln_incomplete_beta;

/// The accepted share of false promotions.
pub const ALPHA: f64 = 0.05;

/// A fixed sequence of random numbers in [0, 1), the same everywhere (`SplitMix64`).
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn number(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// True with probability p.
    pub fn happens(&mut self, p: f64) -> bool {
        self.number() < p
    }
}

/// How the rows of one exchange have to do with each other.
#[derive(Debug, Clone, Copy)]
pub enum Rows {
    /// One row, or the same row several times: all agree or none does.
    Repeated,
    /// Easy requests, in which every row agrees, and hard ones, in which every other does.
    Clustered,
    /// Each row for itself.
    Independent,
}

/// A candidate and its traffic.
#[derive(Clone, Copy)]
pub struct Case {
    /// For people.
    pub name: &'static str,
    /// What it has to prove.
    pub gate: f64,
    /// Exchanges in a rehearsal; all are looked at.
    pub exchanges: u32,
    /// Rows in each.
    pub rows: u32,
    /// What they have to do with each other.
    pub kind: Rows,
    /// The expected share of agreeing rows of the exchange with this index.
    pub expected: fn(u32) -> f64,
}

/// When a rule first promotes, as a number of exchanges; and whether the mean of what was expected was at most the gate
/// then.
#[derive(Debug, Clone, Copy, Default)]
pub struct Promotion {
    /// Exchanges; none: never.
    pub at: Option<u32>,
    /// It should not have.
    pub falsely: bool,
}

/// Who promotes when, in one rehearsal.
#[derive(Debug, Clone, Copy, Default)]
pub struct Promotions {
    /// The verdict's evidence, with the agreement seen so far above the gate.
    pub verdict: Promotion,
    /// The same, and the lower bound for agreement that drifts.
    pub robust: Promotion,
    /// Clopper and Pearson's lower bound at level 1 - alpha, over rows.
    pub classical: Promotion,
}

/// The rules for one case, worked out once.
pub struct Rules {
    case: Case,
    /// By number of exchanges: the most rows that may disagree, and one more: 0 is no promotion.
    evidence: Vec<u32>,
    classical: Vec<u32>,
    /// u(v) of the drifting bound for v = 0, 1, 2, ...
    widths: Vec<f64>,
}

impl Rules {
    /// For this case.
    pub fn new(case: Case) -> Self {
        let threshold = -ALPHA.ln();
        let rows = f64::from(case.rows);
        let evidence = allowed(case.exchanges, |n, disagreed| {
            let n = u64::from(n);
            log_e_above(n, n as f64 - f64::from(disagreed) / rows, case.gate, Prior::Uniform) >= threshold
        });
        // P(at least that many agree at the gate) < alpha.
        let classical = allowed(case.exchanges, |n, disagreed| {
            let (all, disagreed) = (f64::from(n) * rows, f64::from(disagreed));
            disagreed < all
                && ln_incomplete_beta(all - disagreed, disagreed + 1.0, case.gate, 1.0 - case.gate) < ALPHA.ln()
        });
        Self { case, evidence, classical, widths: Vec::new() }
    }

    /// One rehearsal, from its first exchange to its last.
    pub fn rehearse(&mut self, random: &mut Random) -> Promotions {
        let Case { gate, exchanges, rows, .. } = self.case;
        let mut found = Promotions::default();
        let mut drift = Bernstein::new(1.0);
        let (mut disagreed, mut expected, mut proven) = (0u32, 0.0, false);
        for exchange in 0..exchanges {
            let p = (self.case.expected)(exchange);
            let missed = self.missed(p, random);
            expected += p;
            disagreed += missed;
            drift.record(1.0 - f64::from(missed) / f64::from(rows));
            let n = exchange + 1;
            proven |= disagreed < self.evidence[n as usize];
            let above = drift.sum() > gate * f64::from(n);
            // Rounding must not make a mean at the gate one above it.
            let falsely = expected <= f64::from(n) * gate * (1.0 + 1e-12);
            let promotion = Promotion { at: Some(n), falsely };
            if found.verdict.at.is_none() && proven && above {
                found.verdict = promotion;
            }
            if found.robust.at.is_none() && proven && above && self.robust(&drift) {
                found.robust = promotion;
            }
            if found.classical.at.is_none() && disagreed < self.classical[n as usize] {
                found.classical = promotion;
            }
        }
        found
    }

    /// Rows of the next exchange that disagree.
    fn missed(&self, p: f64, random: &mut Random) -> u32 {
        let rows = self.case.rows;
        match self.case.kind {
            Rows::Repeated => u32::from(!random.happens(p)) * rows,
            Rows::Independent => (0..rows).map(|_| u32::from(!random.happens(p))).sum(),
            Rows::Clustered if random.happens(2.0 * (1.0 - p)) => {
                (0..rows).map(|_| u32::from(random.happens(0.5))).sum()
            }
            Rows::Clustered => 0,
        }
    }

    /// Whether the drifting lower bound is above the gate. It is worked out only where the table can't tell.
    fn robust(&mut self, drift: &Bernstein) -> bool {
        let ahead = drift.sum() - self.case.gate * drift.count() as f64;
        let v = drift.variance().max(1.0);
        let (low, high) = (self.width(v.floor()), self.width(v.ceil()));
        if ahead > high { true } else { ahead > low && drift.lower(ALPHA, AGREEMENT_V_OPT) > self.case.gate }
    }

    fn width(&mut self, v: f64) -> f64 {
        while self.widths.len() <= v as usize {
            let v = (self.widths.len() as f64).max(1.0);
            self.widths.push(boundary(v, ALPHA, AGREEMENT_V_OPT).unwrap_or(f64::INFINITY));
        }
        self.widths[v as usize]
    }
}

/// For every number of exchanges, the most rows that may disagree, and one more; 0 where none may. All rules allow more
/// and more of them, never fewer.
fn allowed(exchanges: u32, promotes: impl Fn(u32, u32) -> bool) -> Vec<u32> {
    let mut fewest = 0;
    let one = |n: u32| {
        while n > 0 && promotes(n, fewest) {
            fewest += 1;
        }
        fewest
    };
    (0..=exchanges).map(one).collect()
}

/// Who promoted how often falsely, in `runs` rehearsals.
#[derive(Debug, Clone, Copy, Default)]
pub struct Shares {
    /// By the verdict.
    pub verdict: f64,
    /// By the verdict that must hold for drifting agreement.
    pub robust: f64,
    /// By the classical bound.
    pub classical: f64,
}

/// The shares of false promotions.
pub fn false_promotions(case: Case, runs: u32, seed: u64) -> Shares {
    let mut rules = Rules::new(case);
    let mut random = Random(seed);
    let mut all = Shares::default();
    for _ in 0..runs {
        let Promotions { verdict, robust, classical } = rules.rehearse(&mut random);
        let one = |promotion: Promotion| f64::from(u8::from(promotion.falsely)) / f64::from(runs);
        all.verdict += one(verdict);
        all.robust += one(robust);
        all.classical += one(classical);
    }
    all
}

/// Exchanges until the first promotion at the quantiles 0.1, 0.5 and 0.9, by the verdict and by the robust one; none where
/// so many rehearsals end without.
pub fn exchanges_needed(case: Case, runs: u32, seed: u64) -> [[Option<u32>; 3]; 2] {
    let mut rules = Rules::new(case);
    let mut random = Random(seed);
    let all: Vec<Promotions> = (0..runs).map(|_| rules.rehearse(&mut random)).collect();
    let quantiles = |at: fn(&Promotions) -> Option<u32>| {
        let mut times: Vec<u32> = all.iter().map(|one| at(one).unwrap_or(u32::MAX)).collect();
        times.sort_unstable();
        [0.1, 0.5, 0.9]
            .map(|q| times[(q * f64::from(runs)) as usize])
            .map(|time| Some(time).filter(|time| *time < u32::MAX))
    };
    [quantiles(|one| one.verdict.at), quantiles(|one| one.robust.at)]
}

/// One exchange of one row, at the gate 99 %.
const SINGLE: Case =
    Case { name: "", gate: 0.99, exchanges: 20_000, rows: 1, kind: Rows::Repeated, expected: |_| 0.99 };

/// Candidates that must not be promoted, at least not by what they do on average.
pub const CASES: [Case; 13] = [
    Case { name: "at the gate", gate: 0.9, exchanges: 5000, expected: |_| 0.9, ..SINGLE },
    Case { name: "at the gate", gate: 0.95, exchanges: 10_000, expected: |_| 0.95, ..SINGLE },
    Case { name: "at the gate", ..SINGLE },
    Case { name: "at the gate", gate: 0.999, exchanges: 50_000, expected: |_| 0.999, ..SINGLE },
    Case { name: "just below it: 0.989", expected: |_| 0.989, ..SINGLE },
    Case { name: "each row sent 5 times", rows: 5, ..SINGLE },
    Case { name: "5 rows, hard and easy requests", rows: 5, kind: Rows::Clustered, ..SINGLE },
    Case { name: "5 independent rows", rows: 5, kind: Rows::Independent, ..SINGLE },
    Case { name: "rises from 0.97 to the gate", expected: |i| 0.97 + 0.02 * (f64::from(i) / 2e4), ..SINGLE },
    Case { name: "0.98 and 1 in turns of 500", expected: |i| if i / 500 % 2 == 0 { 0.98 } else { 1.0 }, ..SINGLE },
    Case { name: "0.999, after 300 requests 0.95", expected: |i| if i < 300 { 0.999 } else { 0.95 }, ..SINGLE },
    Case { name: "falls from 0.999 to 0.95", expected: |i| 0.999 - 0.049 * (f64::from(i) / 2e4), ..SINGLE },
    Case { name: "0.9, after 200 requests 0.9905", expected: |i| if i < 200 { 0.9 } else { 0.9905 }, ..SINGLE },
];

/// Good candidates, at the gate 99 %, with the reference's median of exchanges until a promotion. It looked at every 25th.
pub const POWER: [(Case, u32); 5] = [
    (Case { name: "1", expected: |_| 1.0, exchanges: 5000, ..SINGLE }, 449),
    (Case { name: "0.9995", expected: |_| 0.9995, exchanges: 10_000, ..SINGLE }, 450),
    (Case { name: "0.999", expected: |_| 0.999, exchanges: 10_000, ..SINGLE }, 450),
    (Case { name: "0.998", expected: |_| 0.998, ..SINGLE }, 700),
    (Case { name: "0.995", expected: |_| 0.995, ..SINGLE }, 1875),
];
