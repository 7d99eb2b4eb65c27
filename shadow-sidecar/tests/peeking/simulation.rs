//! Rehearsals of imagined candidates, looked at after every exchange.
//!
//! What is given is the product's own verdict: [`judge`] on a [`Tally`] that was fed exchange by exchange. Half a billion of looks would
//! take hours, so it is asked only where a table says that a promotion, or a rejection, is not out of the question; a test asks it at
//! every look of some rehearsals and finds the same.

use std::time::Duration;

use shadow_sidecar::compare::RowOutcome;
use shadow_sidecar::stats::agreement::{Prior, log_e_above, log_e_below};
use shadow_sidecar::stats::bernstein::{AGREEMENT_V_OPT, Bernstein, boundary};
use shadow_sidecar::stats::special::ln_incomplete_beta;
use shadow_sidecar::tally::{DropReason, Evidence, Latency, Tally};
use shadow_sidecar::verdict::{Gates, Verdict, judge};

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
    /// Which exchanges are lost on the way.
    pub lost: Lost,
    /// Sidecars that see the exchanges in turn; one look is at all of them together.
    pub replicas: usize,
}

/// Which exchanges are lost on the way: offered, and never compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// None.
    Nothing,
    /// Those in which any row would have disagreed: the worst that losses can do.
    WhatDisagrees,
}

/// When a rule first promotes, or rejects, as a number of exchanges; and whether the mean of what was expected was on the wrong side
/// of the gate then.
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
    /// The verdict.
    pub verdict: Promotion,
    /// The verdict where it must also hold for agreement that drifts.
    pub robust: Promotion,
    /// Clopper and Pearson's lower bound at level 1 - alpha, over the rows that were compared.
    pub classical: Promotion,
    /// The verdict against a candidate, where agreement proven to be below the gate rejects.
    pub rejected: Promotion,
}

/// The rules for one case, worked out once.
pub struct Rules {
    case: Case,
    gates: Gates,
    /// By number of exchanges: the most rows that may disagree where the evidence can be enough, and one more: 0 is no promotion.
    evidence: Vec<u32>,
    /// The fewest rows that must disagree where the evidence for a rejection can be.
    against: Vec<u32>,
    classical: Vec<u32>,
    /// u(v) of the drifting bound for v = 0, 1, 2, ...
    widths: Vec<f64>,
    /// Ask for the verdict at every look, also where the tables rule one out.
    pub everywhere: bool,
}

/// What is given without asking about anything but agreement and what is missing; the other guardrails only hold promotions back.
fn gates(case: &Case) -> Gates {
    Gates {
        gate: case.gate,
        // Whoever is rejected can't be promoted any more: here only what can't happen is.
        abort: Some(1e-6),
        alpha: ALPHA,
        min_pairs: 1,
        min_duration: Duration::ZERO,
        max_error_rate: 1.0,
        // What is missing up to that share is taken to be like the rest, which it is not where what disagrees gets lost.
        min_coverage: if case.lost == Lost::Nothing { Gates::default().min_coverage } else { 1.0 },
        ..Gates::default()
    }
}

/// One rehearsal: what happened, and the product's counters of as much of it as somebody has asked about.
struct Staged<'a> {
    case: &'a Case,
    /// Rows that disagreed in each exchange; none: it was lost.
    log: Vec<Option<u32>>,
    counted: usize,
    tallies: Vec<Tally>,
    /// Of the looks at all replicas together.
    seen: Option<Evidence>,
}

impl Staged<'_> {
    /// The product's verdict on what happened so far.
    fn verdict(&mut self, gates: &Gates) -> Verdict {
        if self.tallies.is_empty() {
            self.tallies = vec![Tally::new(1, &[]).judging(gates); self.case.replicas];
        }
        let rows = self.case.rows;
        for (index, happened) in self.log.iter().enumerate().skip(self.counted) {
            let tally = &mut self.tallies[index % self.case.replicas];
            match happened {
                None => tally.lost(DropReason::Ttl, 1, rows.into()),
                Some(missed) => {
                    let row = |row| RowOutcome { agreed: row >= *missed, ..RowOutcome::default() };
                    let outcomes: Vec<RowOutcome> = (0..rows).map(row).collect();
                    let ticket = tally.begin(rows.into());
                    tally.compared(ticket, &outcomes, Latency::default());
                }
            }
        }
        self.counted = self.log.len();
        let [first, others @ ..] = self.tallies.as_slice() else { return Verdict::Undecided };
        if others.is_empty() {
            return judge(first, gates, Duration::ZERO).verdict;
        }
        // As a pool does it: counts are added up, and what is remembered is the evidence of the pool's own looks.
        let mut pooled = first.clone();
        assert!(others.iter().all(|other| pooled.merge(other)), "they count the same");
        if let Some(seen) = self.seen {
            pooled.after(seen);
        }
        self.seen = Some(pooled.evidence(gates));
        judge(&pooled, gates, Duration::ZERO).verdict
    }
}

impl Rules {
    /// For this case.
    pub fn new(case: Case) -> Self {
        let threshold = -ALPHA.ln();
        let rows = f64::from(case.rows);
        // A little less than what it takes: the product decides.
        let enough = threshold - 1e-9;
        let shares = |n: u32, disagreed: u32| f64::from(n) - f64::from(disagreed) / rows;
        let evidence = allowed(case.exchanges, |n, disagreed| {
            log_e_above(n.into(), shares(n, disagreed), case.gate, Prior::Uniform) >= enough
        });
        // Fewer do not suffice, and what suffices grows.
        let mut fewest = 0;
        let against = (0..=case.exchanges).map(|n| {
            while fewest <= n * case.rows
                && log_e_below(n.into(), shares(n, fewest), case.gate, Prior::Uniform) < enough
            {
                fewest += 1;
            }
            fewest
        });
        let against = against.collect();
        // P(at least that many agree at the gate) < alpha.
        let classical = allowed(case.exchanges, |n, disagreed| {
            let (all, disagreed) = (f64::from(n) * rows, f64::from(disagreed));
            disagreed < all
                && ln_incomplete_beta(all - disagreed, disagreed + 1.0, case.gate, 1.0 - case.gate) < ALPHA.ln()
        });
        Self { case, gates: gates(&case), evidence, against, classical, widths: Vec::new(), everywhere: false }
    }

    /// One rehearsal, from its first exchange to its last.
    pub fn rehearse(&mut self, random: &mut Random) -> Promotions {
        let case = self.case;
        let Case { gate, exchanges, rows, .. } = case;
        let (plain, robust) = (self.gates, Gates { drift_robust: true, ..self.gates });
        let rejecting = Gates { abort: None, ..plain };
        let staged = || Staged { case: &case, log: Vec::new(), counted: 0, tallies: Vec::new(), seen: None };
        let (mut stage, mut against) = (staged(), staged());
        let mut found = Promotions::default();
        let mut drift = Bernstein::new(1.0);
        let (mut disagreed, mut lost, mut expected, mut proven) = (0u32, 0u32, 0.0, false);
        for exchange in 0..exchanges {
            let p = (case.expected)(exchange);
            let missed = self.missed(p, random);
            expected += p;
            let happened = (case.lost == Lost::Nothing || missed == 0).then_some(missed);
            stage.log.push(happened);
            against.log.push(happened);
            match happened {
                None => lost += 1,
                Some(missed) => {
                    disagreed += missed;
                    drift.record(1.0 - f64::from(missed) / f64::from(rows));
                }
            }
            let offered = exchange + 1;
            let n = offered - lost;
            proven |= disagreed < self.evidence[n as usize];
            let above = drift.sum() > gate * f64::from(n);
            // With every loss counted as a disagreement; below that share of losses nobody asks.
            let few = f64::from(lost) <= (1.0 - plain.min_coverage) * f64::from(offered) + 1.0;
            let possible = proven && above && (few || disagreed + lost * rows < self.evidence[offered as usize]);
            // Rounding must not make a mean at the gate one above it.
            let falsely = expected <= f64::from(offered) * gate * (1.0 + 1e-12);
            let promotion = Promotion { at: Some(offered), falsely };
            let ask = possible || self.everywhere;
            if found.verdict.at.is_none() && ask && stage.verdict(&plain) == Verdict::Promote {
                found.verdict = promotion;
            }
            if found.robust.at.is_none()
                && (self.everywhere || (possible && self.robust(&drift)))
                && stage.verdict(&robust) == Verdict::Promote
            {
                found.robust = promotion;
            }
            if found.classical.at.is_none() && disagreed < self.classical[n as usize] {
                found.classical = promotion;
            }
            if found.rejected.at.is_none()
                && (self.everywhere || disagreed >= self.against[n as usize])
                && against.verdict(&rejecting) == Verdict::Reject
            {
                let falsely = expected >= f64::from(offered) * gate * (1.0 - 1e-12);
                found.rejected = Promotion { at: Some(offered), falsely };
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

    /// Whether the drifting lower bound can be above the gate. It is worked out only where the table can't tell.
    fn robust(&mut self, drift: &Bernstein) -> bool {
        let ahead = drift.sum() - self.case.gate * drift.count() as f64;
        let v = drift.variance().max(1.0);
        let (low, high) = (self.width(v.floor()), self.width(v.ceil()));
        ahead > high || (ahead > low && drift.lower(ALPHA, AGREEMENT_V_OPT) > self.case.gate - 1e-9)
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
    /// Rejected, though it agreed as often as the gate wants.
    pub rejected: f64,
}

/// The shares of false promotions, and of false rejections.
pub fn false_promotions(case: Case, runs: u32, seed: u64) -> Shares {
    let mut rules = Rules::new(case);
    let mut random = Random(seed);
    let mut all = Shares::default();
    for _ in 0..runs {
        let Promotions { verdict, robust, classical, rejected } = rules.rehearse(&mut random);
        let one = |promotion: Promotion| f64::from(u8::from(promotion.falsely)) / f64::from(runs);
        all.verdict += one(verdict);
        all.robust += one(robust);
        all.classical += one(classical);
        all.rejected += one(rejected);
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
const SINGLE: Case = Case {
    name: "",
    gate: 0.99,
    exchanges: 20_000,
    rows: 1,
    kind: Rows::Repeated,
    expected: |_| 0.99,
    lost: Lost::Nothing,
    replicas: 1,
};

/// Candidates that must not be promoted, at least not by what they do on average.
pub const CASES: [Case; 15] = [
    Case { name: "at the gate", gate: 0.9, exchanges: 5000, expected: |_| 0.9, ..SINGLE },
    Case { name: "at the gate", gate: 0.95, exchanges: 10_000, expected: |_| 0.95, ..SINGLE },
    Case { name: "at the gate", ..SINGLE },
    Case { name: "at the gate", gate: 0.999, exchanges: 50_000, expected: |_| 0.999, ..SINGLE },
    Case { name: "just below it: 0.989", expected: |_| 0.989, ..SINGLE },
    Case { name: "each row sent 5 times", rows: 5, ..SINGLE },
    Case { name: "5 rows, hard and easy requests", rows: 5, kind: Rows::Clustered, ..SINGLE },
    Case { name: "5 independent rows", rows: 5, kind: Rows::Independent, ..SINGLE },
    // Without the worst case all would be promoted.
    Case {
        name: "what disagrees gets lost",
        gate: 0.9,
        exchanges: 5000,
        expected: |_| 0.9,
        lost: Lost::WhatDisagrees,
        ..SINGLE
    },
    Case { name: "seen by three replicas", replicas: 3, ..SINGLE },
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
