//! Looking after every exchange must not promote a candidate that only just misses the gate, whatever the rows of a
//! request have to do with each other. A classical bound does, and so does counting rows.

use shadow_sidecar::stats::agreement::{Prior, log_e_above};
use shadow_sidecar::stats::special::ln_incomplete_beta;
use simulation::{ALPHA, CASES, Case, Lost, POWER, Random, Rules, exchanges_needed, false_promotions};

#[expect(unreachable_pub, reason = "shared with the example, which has the long form")]
mod simulation;

const GATE: f64 = 0.9;
const EXCHANGES: usize = 2000;
const RUNS: usize = 2000;

/// Four standard errors of a simulated share of at most alpha.
fn noise() -> f64 {
    4.0 * (ALPHA * (1.0 - ALPHA) / RUNS as f64).sqrt()
}

/// For every number of exchanges, of `rows` rows each, the fewest rows that must agree for a promotion. All tests here
/// want more and more of them, never fewer.
fn boundary(rows: u64, promotes: impl Fn(u64, u64) -> bool) -> Vec<u64> {
    let mut fewest = 0;
    (1..=EXCHANGES as u64)
        .map(|exchanges| {
            while fewest <= exchanges * rows && !promotes(exchanges, fewest) {
                fewest += 1;
            }
            fewest
        })
        .collect()
}

/// The share of runs that are promoted at any of the looks. `agreeing` draws how many rows of the next exchange agree.
fn promoted(boundary: &[u64], seed: u64, agreeing: impl Fn(&mut Random) -> u64) -> f64 {
    let mut random = Random(seed);
    let runs = (0..RUNS).filter(|_| {
        let mut agreed = 0;
        let mut ever = false;
        // No early end: every run takes the same part of the sequence, whatever the boundary.
        for &fewest in boundary {
            agreed += agreeing(&mut random);
            ever |= agreed >= fewest;
        }
        ever
    });
    runs.count() as f64 / RUNS as f64
}

/// Exchanges of one row, which agrees with probability p.
fn single(p: f64) -> impl Fn(&mut Random) -> u64 {
    move |random| u64::from(random.happens(p))
}

#[test]
fn peeking_is_free_for_the_e_process_only() {
    for prior in [Prior::Uniform, Prior::Jeffreys] {
        let e_process = boundary(1, |n, s| log_e_above(n, s as f64, GATE, prior) >= -ALPHA.ln());
        let wrongly = promoted(&e_process, 7, single(GATE));
        assert!(wrongly <= ALPHA + noise(), "{prior:?}: {wrongly}");
        // It is not just timid.
        assert!(wrongly > 0.01, "{prior:?}: {wrongly}");
        assert!(promoted(&e_process, 11, single(0.95)) > 0.99);
        // Further below the gate it is rarer still.
        assert!(promoted(&e_process, 3, single(0.88)) < wrongly);
    }
    // Clopper and Pearson's lower bound lies above the gate: P(at least s agreements at the gate) < alpha.
    let classical =
        boundary(1, |n, s| s > 0 && ln_incomplete_beta(s as f64, (n - s + 1) as f64, GATE, 1.0 - GATE) < ALPHA.ln());
    let wrongly = promoted(&classical, 7, single(GATE));
    assert!(wrongly > 4.0 * ALPHA, "{wrongly}");
}

const ROWS: u64 = 5;

/// Exchanges of one row, sent five times: all agree or none does.
fn identical(p: f64) -> impl Fn(&mut Random) -> u64 {
    move |random| if random.happens(p) { ROWS } else { 0 }
}

/// Easy requests, in which every row agrees, and hard ones, in which every other does: p in the mean.
fn clustered(p: f64) -> impl Fn(&mut Random) -> u64 {
    move |random| {
        let hard = random.happens(2.0 * (1.0 - p));
        let each = if hard { 0.5 } else { 1.0 };
        (0..ROWS).map(|_| u64::from(random.happens(each))).sum()
    }
}

/// Rows that have nothing to do with each other: what counting rows takes for granted.
fn independent(p: f64) -> impl Fn(&mut Random) -> u64 {
    move |random| (0..ROWS).map(|_| u64::from(random.happens(p))).sum()
}

#[test]
fn rows_of_a_request_may_repeat_each_other() {
    let threshold = -ALPHA.ln();
    let share = |agreed: u64| agreed as f64 / ROWS as f64;
    let exchanges = boundary(ROWS, |n, agreed| log_e_above(n, share(agreed), GATE, Prior::Uniform) >= threshold);
    // What it was: an observation for every row.
    let rows = boundary(ROWS, |n, agreed| log_e_above(n * ROWS, agreed as f64, GATE, Prior::Uniform) >= threshold);

    let wrongly = promoted(&exchanges, 7, identical(GATE));
    assert!(wrongly <= ALPHA + noise(), "{wrongly}");
    // As often as if each had been sent once: the share is 0 or 1.
    assert!(wrongly > 0.01, "{wrongly}");
    assert!(promoted(&exchanges, 11, identical(0.95)) > 0.99);
    let naively = promoted(&rows, 7, identical(GATE));
    assert!(naively > 4.0 * ALPHA, "{naively}");

    let wrongly = promoted(&exchanges, 5, clustered(GATE));
    assert!(wrongly <= ALPHA + noise(), "{wrongly}");
    assert!(promoted(&exchanges, 13, clustered(0.95)) > 0.99);
    let naively = promoted(&rows, 5, clustered(GATE));
    assert!(naively > ALPHA + noise(), "{naively}");

    // Counting rows is right only here, where counting exchanges is right, too.
    for boundary in [&exchanges, &rows] {
        let wrongly = promoted(boundary, 17, independent(GATE));
        assert!(wrongly <= ALPHA + noise(), "{wrongly}");
    }
}

/// The short form of `cargo run --release -p shadow-sidecar --example peeking`.
#[test]
fn no_case_is_promoted_more_often_than_promised() {
    const RUNS: u32 = 150;
    let noise = 4.0 * (ALPHA * (1.0 - ALPHA) / f64::from(RUNS)).sqrt();
    for case in CASES {
        let shares = false_promotions(Case { exchanges: case.exchanges.min(4000), ..case }, RUNS, 7);
        assert!(shares.verdict <= ALPHA + noise, "{}: {shares:?}", case.name);
        assert!(shares.robust <= shares.verdict + 0.01, "{}: {shares:?}", case.name);
        assert!(shares.rejected <= ALPHA + noise, "{}: {shares:?}", case.name);
    }
    // The classical bound, looked at as often.
    let shares = false_promotions(CASES[0], RUNS, 7);
    assert!(shares.classical > 4.0 * ALPHA && shares.verdict > 0.005, "{shares:?}");
    // Whoever takes no account of what is missing promotes them all.
    let losing = CASES.into_iter().find(|case| case.lost == Lost::WhatDisagrees).expect("a case with losses");
    assert!(false_promotions(losing, 20, 7).classical > 0.99);
}

/// The simulation asks for the verdict where a table lets it be possible: nowhere else is it given.
#[test]
fn a_verdict_at_every_look_is_the_same() {
    for case in CASES.into_iter().chain(POWER.map(|(case, _)| case)) {
        let case = Case { exchanges: case.exchanges.min(600), ..case };
        let (mut random, mut again) = (Random(11), Random(11));
        for _ in 0..2 {
            let asked = Rules::new(case).rehearse(&mut random);
            let mut rules = Rules::new(case);
            rules.everywhere = true;
            assert_eq!(format!("{asked:?}"), format!("{:?}", rules.rehearse(&mut again)), "{}", case.name);
        }
    }
}

#[test]
fn a_good_candidate_takes_as_many_requests_as_the_reference_says() {
    for (case, reference) in POWER {
        let [verdict, robust] = exchanges_needed(case, 100, 7);
        let median = verdict[1].map_or(f64::INFINITY, f64::from);
        assert!((median / f64::from(reference) - 1.0).abs() <= 0.2, "{}: {median} {reference}", case.name);
        assert!(robust[1] >= verdict[1], "{}: {robust:?}", case.name);
    }
}
