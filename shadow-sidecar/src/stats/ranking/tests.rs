use proptest::prelude::*;

use super::*;

fn of(pairs: impl IntoIterator<Item = (f64, f64)>) -> Ranking {
    let mut all = Ranking::default();
    pairs.into_iter().enumerate().for_each(|(n, (primary, candidate))| all.record((n as u64, 0), primary, candidate));
    all
}

#[test]
fn correlations_of_ranks_are_scipys() {
    let pair = |i: u32| (f64::from(37 * i % 23), f64::from(37 * i % 23 / 2 + 11 * i % 7));
    let ranks = of((0..40).map(pair)).ranks().unwrap();
    // scipy.stats 1.17, spearmanr and kendalltau.
    assert!((ranks.spearman.unwrap() - 0.878_062_322_872_282_9).abs() < 1e-14, "{ranks:?}");
    assert!((ranks.kendall.unwrap() - 0.657_873_602_924_836).abs() < 1e-14, "{ranks:?}");
}

#[test]
fn the_top_is_scikit_learns() {
    let ranks = of((0..20).map(|i| (f64::from(i), f64::from(7 * i % 20)))).ranks().unwrap();
    // The primary's highest are 19 and 18, the candidate's 17 and 14. sklearn.metrics.ndcg_score with k = 2.
    assert_eq!((ranks.rows, ranks.top, ranks.overlap), (20, 2, 0.0));
    assert!((ranks.gain - 0.858_579_268_935_88).abs() < 1e-14, "{ranks:?}");
    let same = of((0..20).map(|i| (f64::from(i), f64::from(i) * 3.0 - 7.0))).ranks().unwrap();
    assert_eq!((same.spearman, same.kendall, same.overlap, same.gain), (Some(1.0), Some(1.0), 1.0, 1.0));
    let opposite = of((0..20).map(|i| (f64::from(i), -f64::from(i)))).ranks().unwrap();
    assert_eq!((opposite.spearman, opposite.kendall, opposite.overlap), (Some(-1.0), Some(-1.0), 0.0));
}

#[test]
fn what_does_not_vary_has_no_correlation_but_a_top() {
    let constant = of((0..50).map(|i| (0.5, f64::from(i)))).ranks().unwrap();
    assert_eq!((constant.spearman, constant.kendall, constant.gain), (None, None, 1.0));
    // Where both models say the same of all rows, chance puts the same ones on top.
    assert_eq!(of([(0.5, 0.5); 50]).ranks().unwrap().overlap, 1.0);
    assert_eq!((of([]).ranks(), of([(0.1, 0.2)]).ranks()), (None, None));
    assert_eq!(of([(f64::NAN, 0.2), (0.1, f64::INFINITY)]).seen(), 0);
}

#[test]
fn the_sample_is_bounded_uniform_and_that_of_the_pool() {
    let rows = 20 * SAMPLE as u64;
    let (mut whole, mut early, mut late) = (Ranking::default(), Ranking::default(), Ranking::default());
    for n in 0..rows {
        let score = n as f64;
        whole.record((n, 3), score, score);
        if n % 3 == 0 { &mut early } else { &mut late }.record((n, 3), score, score);
    }
    assert_eq!((whole.ranks().unwrap().rows, whole.seen()), (SAMPLE, rows));
    assert!(whole.has_shape(rows) && !whole.has_shape(rows - 1));
    // Of a uniform sample the mean is that of all, within four of its standard errors.
    let mean = whole.kept.iter().map(|row| row.1).sum::<f64>() / SAMPLE as f64;
    let error = rows as f64 / 12f64.sqrt() / (SAMPLE as f64).sqrt();
    assert!((mean - rows as f64 / 2.0).abs() < 4.0 * error, "{mean}");
    // In any order, in one process or in two.
    early.merge(&late);
    let sorted = |sample: &Ranking| sample.clone().kept.into_sorted_vec();
    assert!(sorted(&early) == sorted(&whole) && early.seen() == rows);
}

proptest! {
    #[test]
    fn kendall_is_what_counting_all_pairs_gives(pairs in prop::collection::vec((0u8..12, 0u8..12), 2..60)) {
        let pairs: Vec<(f64, f64)> = pairs.into_iter().map(|(p, c)| (f64::from(p), f64::from(c))).collect();
        let (mut concordant, mut varied) = (0.0, [0.0; 2]);
        for (n, left) in pairs.iter().enumerate() {
            for right in &pairs[n + 1..] {
                let [first, second] = [left.0 - right.0, left.1 - right.1];
                concordant += (first * second).signum() * f64::from(u8::from(first * second != 0.0));
                varied[0] += f64::from(u8::from(first != 0.0));
                varied[1] += f64::from(u8::from(second != 0.0));
            }
        }
        let scale: f64 = (varied[0] * varied[1]).sqrt();
        let got = of(pairs).ranks().unwrap().kendall;
        prop_assert_eq!(got.is_some(), scale > 0.0);
        if let Some(got) = got {
            prop_assert!((got - concordant / scale).abs() < 1e-12);
        }
    }
}
