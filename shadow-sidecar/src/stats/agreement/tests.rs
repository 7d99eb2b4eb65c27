//! The vectors of the reference (confseq 0.0.11's C++ core, and closed forms), digit by digit. There every share is 0 or
//! 1, and s a whole number.
#![expect(clippy::unreadable_literal, reason = "vectors, digit by digit")]

use super::*;

type Bounds = (f64, f64);
type OneSided = (u64, u64, f64, [f64; 2], [f64; 2]);

// n, s, alpha, then (lower, upper) for Jeffreys, Uniform, null-centred with t_opt = 1000.
const TWO_SIDED: &[(u64, u64, f64, [Bounds; 3])] = &[
    (100, 95, 0.05, [(0.8442055565, 0.9928505211), (0.8397411262, 0.9934228738), (0.8096710017, 0.9942509307)]),
    (100, 100, 0.05, [(0.9429714024, 1.0), (0.9267156266, 1.0), (0.8960475972, 1.0)]),
    (1000, 500, 0.05, [(0.4424183857, 0.5575816143), (0.4443853297, 0.5556146703), (0.4520916083, 0.5479083917)]),
    (1000, 990, 0.05, [(0.9738355696, 0.9975935317), (0.9720582526, 0.9979245188), (0.9776291795, 0.9970830056)]),
    (1000, 1000, 0.05, [(0.9930024975, 1.0), (0.9901444008, 1.0), (0.9958777969, 1.0)]),
    (10000, 9950, 0.05, [(0.9916717444, 0.9972990268), (0.9913099483, 0.9974639086), (0.9923869967, 0.9970211221)]),
    (10000, 9950, 0.01, [(0.9912855023, 0.9974746340), (0.9909444234, 0.9976191111), (0.9919472725, 0.9972455603)]),
    (10000, 9990, 0.05, [(0.9971828375, 0.9997931920), (0.9968384767, 0.9998437328), (0.9976294188, 0.9997678954)]),
    (100000, 99500, 0.05, [(0.9939947296, 0.9958868128), (0.9939083294, 0.9959533439), (0.9941607099, 0.9957659980)]),
    (50, 0, 0.05, [(0.0, 0.1046424771), (0.0, 0.1293812891), (0.0, 0.2853149044)]),
];

// n, s, alpha, lower for Uniform and Jeffreys, ln E at 0.99 for Uniform and Jeffreys.
const ONE_SIDED: &[OneSided] = &[
    (500, 500, 0.05, [0.9910193535, 0.9924526884], [3.40720599, 4.09622372]),
    (1000, 995, 0.05, [0.9859822003, 0.9856620845], [0.91305365, 0.56564434]),
    (1000, 1000, 0.05, [0.9954979063, 0.9962189726], [7.74670852, 8.77645593]),
    (10000, 9950, 0.05, [0.9925997357, 0.9924476733], [13.73753182, 13.38937917]),
    (10000, 9950, 0.01, [0.9921196799, 0.9919925831], [13.73753182, 13.38937917]),
    (100000, 99200, 0.05, [0.9910257684, 0.9909691499], [19.03661045, 18.45723081]),
];

// n, s, p, ln M for Jeffreys and Uniform.
const LOG_M: &[(u64, u64, f64, f64, f64)] = &[
    (100, 95, 0.9, -0.867312379731, -1.229771006360),
    (1000, 990, 0.98, -0.564582712969, -1.715841518577),
    (10000, 9950, 0.99, 10.636884196602, 9.132361654433),
    (10, 7, 0.5, -0.582332814220, -0.253915209981),
];

const NULL_CENTRED: Prior = Prior::NullCentred { t_opt: 1000.0 };

fn close(got: f64, expected: f64, digits: f64, what: &dyn std::fmt::Debug) {
    assert!((got - expected).abs() <= digits, "{what:?}: got {got:.12}, expected {expected:.12}");
}

#[test]
fn two_sided_bounds_match_the_reference() {
    for row @ &(n, s, alpha, expected) in TWO_SIDED {
        for (prior, (lower, upper)) in [Prior::Jeffreys, Prior::Uniform, NULL_CENTRED].into_iter().zip(expected) {
            let got = confidence_sequence(n, s as f64, alpha, prior);
            close(got.0, lower, 6e-11, &(row, prior));
            close(got.1, upper, 6e-11, &(row, prior));
        }
    }
}

#[test]
fn one_sided_bounds_and_evidence_match_the_reference() {
    for row @ &(n, s, alpha, lower, log_e) in ONE_SIDED {
        for (i, prior) in [Prior::Uniform, Prior::Jeffreys].into_iter().enumerate() {
            close(one_sided_lower(n, s as f64, alpha, prior), lower[i], 6e-11, &(row, prior));
            close(log_e_above(n, s as f64, 0.99, prior), log_e[i], 6e-9, &(row, prior));
        }
    }
}

#[test]
fn martingale_matches_the_reference() {
    for row @ &(n, s, p, jeffreys, uniform) in LOG_M {
        // The reference subtracts log gammas in f64 and is itself off by 1e-11 at n = 10,000.
        close(log_m(n, s as f64, p, Prior::Jeffreys), jeffreys, 2e-11, row);
        close(log_m(n, s as f64, p, Prior::Uniform), uniform, 2e-11, row);
    }
    // mpmath 1.3, 40 digits.
    close(log_m(10_000, 9950.0, 0.99, Prior::Jeffreys), 10.63688419661433, 1e-13, &"mpmath");
    close(log_m(10_000, 9950.0, 0.99, Prior::Uniform), 9.132361654430001, 1e-13, &"mpmath");
}

/// Observations needed to prove 99 % at alpha = 5 %, given 0 to 10 disagreements.
#[test]
fn pairs_needed_match_the_reference() {
    let uniform = [449, 683, 882, 1065, 1238, 1404, 1565, 1722, 1875, 2026, 2174];
    let jeffreys = [377, 663, 883, 1079, 1262, 1436, 1604, 1767, 1925, 2081, 2233];
    for (prior, expected) in [(Prior::Uniform, uniform), (Prior::Jeffreys, jeffreys)] {
        for (disagreed, expected) in (0..).zip(expected) {
            let more = pairs_needed_at_best(disagreed, 0.0, 0.99, 0.05, prior);
            assert_eq!(more, Some(expected - disagreed), "{prior:?}, {disagreed} disagreements");
            let agreed = (expected - disagreed) as f64;
            assert!(log_e_above(expected, agreed, 0.99, prior) >= 20f64.ln());
            assert!(log_e_above(expected - 1, agreed - 1.0, 0.99, prior) < 20f64.ln());
        }
    }
}

#[test]
fn pairs_needed_at_the_rate_so_far() {
    let needed = |n, s: u32| pairs_needed(n, f64::from(s), 0.99, 0.05, Prior::Uniform);
    assert_eq!(needed(0, 0), Some(449));
    assert_eq!(needed(100, 100), Some(349));
    assert_eq!(needed(449, 449), Some(0));
    assert_eq!(needed(1000, 990), None);
    assert_eq!(needed(1000, 980), None);
    // 2,623 in all at exactly 99.5 %. (The median of the reference's simulations is 1,875: a path that wanders crosses
    // earlier than the straight line.)
    assert_eq!(needed(1000, 995), Some(1623));
    let proven = |n, s: u32| log_e_above(n, f64::from(s), 0.99, Prior::Uniform) >= 20f64.ln();
    assert!(!proven(2600, 2587) && proven(2800, 2786));
    // So close to the gate that it is out of reach.
    assert_eq!(needed(1_000_000_000, 990_000_001), None);
}

#[test]
fn below_mirrors_above() {
    for prior in [Prior::Jeffreys, Prior::Uniform, NULL_CENTRED] {
        for (n, s) in [(100, 3.0), (100, 50.0), (100, 49.75), (1000, 995.0)] {
            let (below, above) = (log_e_below(n, n as f64 - s, 0.25, prior), log_e_above(n, s, 0.75, prior));
            close(below, above, 1e-12, &(n, s, prior));
        }
    }
    assert!(log_e_below(1000, 950.0, 0.99, Prior::Uniform) > 20f64.ln());
    assert!(log_e_above(1000, 950.0, 0.99, Prior::Uniform) < 0.0);
}

/// Far below the gate, density and tail are exponentials in n that cancel.
#[test]
fn evidence_neither_underflows_nor_overflows() {
    let hopeless = log_e_above(1_000_000_000, 1000.0, 0.99, Prior::Uniform);
    assert!(hopeless.is_finite() && hopeless < -10.0, "{hopeless}");
    assert!(log_e_above(1_000_000_000, 999_999_000.0, 0.99, Prior::Uniform) > 1e6);
    // P(theta > p0 given the data) is at most 1, so E is at most M.
    for s in [989_990_000.0, 990_000_000.0, 990_000_000.5, 990_010_000.0] {
        let (e, m) =
            (log_e_above(1_000_000_000, s, 0.99, Prior::Uniform), log_m(1_000_000_000, s, 0.99, Prior::Uniform));
        assert!(e.is_finite() && e <= m + 100f64.ln() + 1e-9, "{e} {m}");
    }
}

#[test]
fn before_the_first_observation_nothing_is_known() {
    for prior in [Prior::Jeffreys, Prior::Uniform, NULL_CENTRED] {
        assert_eq!(confidence_sequence(0, 0.0, 0.05, prior), (0.0, 1.0));
        assert_eq!(one_sided_lower(0, 0.0, 0.05, prior), 0.0);
        close(log_e_above(0, 0.0, 0.99, prior), 0.0, 1e-12, &prior);
        close(log_e_below(0, 0.0, 0.99, prior), 0.0, 1e-12, &prior);
        close(log_m(0, 0.0, 0.3, prior), 0.0, 1e-12, &prior);
    }
}

#[test]
fn nonsense_is_no_evidence() {
    for p in [f64::NAN, -1.0, 1.0, 2.0, f64::INFINITY] {
        assert_eq!(log_e_above(0, 0.0, p, Prior::Uniform), f64::NEG_INFINITY, "{p}");
    }
    assert_eq!(log_e_above(100, 100.0, f64::NAN, Prior::Uniform), f64::NEG_INFINITY);
    for alpha in [f64::NAN, 0.0, 1.0, -0.1] {
        assert_eq!(confidence_sequence(100, 90.0, alpha, Prior::Uniform), (0.0, 1.0));
        assert_eq!(one_sided_lower(100, 90.0, alpha, Prior::Uniform), 0.0);
        assert_eq!(pairs_needed(100, 100.0, 0.99, alpha, Prior::Uniform), None);
    }
    for gate in [f64::NAN, 1.0, 1.5] {
        assert_eq!(pairs_needed(100, 100.0, gate, 0.05, Prior::Uniform), None);
        assert_eq!(pairs_needed_at_best(100, 100.0, gate, 0.05, Prior::Uniform), None);
    }
    assert_eq!(
        confidence_sequence(10, 20.0, 0.05, Prior::Uniform),
        confidence_sequence(10, 10.0, 0.05, Prior::Uniform)
    );
    let odd = Prior::NullCentred { t_opt: f64::NAN };
    assert_eq!(one_sided_lower(100, 90.0, 0.05, odd).partial_cmp(&0.9), Some(std::cmp::Ordering::Less));
    let unknown = f64::NAN;
    assert_eq!(confidence_sequence(100, unknown, 0.05, Prior::Uniform), (0.0, 1.0));
    assert_eq!(one_sided_lower(100, unknown, 0.05, Prior::Uniform), 0.0);
    assert_eq!(log_m(100, unknown, 0.9, Prior::Uniform), f64::NEG_INFINITY);
    assert_eq!(log_e_above(100, unknown, 0.9, Prior::Uniform), f64::NEG_INFINITY);
    assert_eq!(log_e_below(100, unknown, 0.9, Prior::Uniform), f64::NEG_INFINITY);
    assert_eq!(pairs_needed(100, unknown, 0.9, 0.05, Prior::Uniform), None);
    assert_eq!(pairs_needed_at_best(100, unknown, 0.9, 0.05, Prior::Uniform), None);
}

/// Sums that are no whole numbers: mpmath 1.3, 40 digits, ln E by quadrature of its definition.
#[test]
fn shares_match_the_definition() {
    // n, s, p, then ln M and ln E for Jeffreys and Uniform.
    let vectors = [
        (100, 97.25, 0.9, [1.439590277970257, 3.022302611397571], [0.8101411270934654, 3.107451766499567]),
        (1000, 994.75, 0.99, [-2.309211425870378, 0.3871314490823467], [-3.768976984606532, 0.7540667529959877]),
        (10, 2.5, 0.5, [-0.09936211170010277, -2.312335046004461], [0.1794048193736392, -1.875913302816106]),
    ];
    for row @ (n, s, p, jeffreys, uniform) in vectors {
        for (prior, [m, e]) in [(Prior::Jeffreys, jeffreys), (Prior::Uniform, uniform)] {
            close(log_m(n, s, p, prior), m, 1e-13, &(row, prior));
            close(log_e_above(n, s, p, prior), e, 1e-13, &(row, prior));
            close(log_e_below(n, n as f64 - s, 1.0 - p, prior), e, 1e-13, &(row, prior));
        }
    }
}

/// Section 3.9 of the reference: how many observations prove 99 % with F of them in complete disagreement.
#[test]
fn the_fewest_observations_for_each_number_of_disagreements() {
    const UNIFORM: [u64; 11] = [449, 683, 882, 1065, 1238, 1404, 1565, 1722, 1875, 2026, 2174];
    const JEFFREYS: [u64; 11] = [377, 663, 883, 1079, 1262, 1436, 1604, 1767, 1925, 2081, 2233];
    for (prior, expected) in [(Prior::Uniform, UNIFORM), (Prior::Jeffreys, JEFFREYS)] {
        for (disagreed, fewest) in (0..).zip(expected) {
            let proven = |n: u64| log_e_above(n, (n - disagreed) as f64, 0.99, prior) >= 20f64.ln();
            assert!(proven(fewest) && !proven(fewest - 1), "{prior:?} {disagreed}");
            let more = pairs_needed_at_best(disagreed, 0.0, 0.99, 0.05, prior);
            assert_eq!(more, Some(fewest - disagreed), "{prior:?} {disagreed}");
        }
    }
}
