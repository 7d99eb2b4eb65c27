//! Each row decides alone, by name, and NaN never agrees.

use super::*;

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn comparator(task: Task, primary: &[&str], candidate: &[&str], tolerance: Tolerance) -> Comparator {
    Comparator::new(task, &names(primary), &names(candidate), tolerance).expect("these can be compared")
}

fn exact(task: Task, primary: &[&str], candidate: &[&str]) -> Comparator {
    comparator(task, primary, candidate, Tolerance::default())
}

fn answer(labels: &[u32], scores: &[f64], width: usize) -> Answer {
    let rows = if labels.is_empty() { scores.len().checked_div(width).unwrap_or(0) } else { labels.len() };
    Answer { rows, labels: labels.to_vec(), scores: scores.to_vec(), width, ..Answer::default() }
}

fn compare(comparator: &Comparator, primary: &Answer, candidate: &Answer) -> Vec<RowOutcome> {
    // Whatever was there before must go.
    let mut outcomes = vec![RowOutcome::default(); 3];
    comparator.compare(primary, candidate, &mut outcomes).expect("these can be compared");
    outcomes
}

fn near(got: Option<f64>, expected: f64) -> bool {
    got.is_some_and(|got| (got - expected).abs() < 1e-12)
}

#[test]
fn binary_labels_and_the_positive_class() {
    let comparator = exact(Task::Binary, &["no", "yes"], &["no", "yes"]);
    let outcomes =
        compare(&comparator, &answer(&[0, 1], &[0.9, 0.1, 0.4, 0.6], 2), &answer(&[0, 0], &[0.8, 0.2, 0.7, 0.3], 2));
    assert!(outcomes[0].agreed && !outcomes[1].agreed);
    assert!(near(outcomes[0].delta, 0.1) && near(outcomes[1].delta, -0.3));
    assert_eq!((outcomes[1].primary_class, outcomes[1].candidate_class), (Some(1), Some(0)));
}

#[test]
fn classes_are_matched_by_name_not_position() {
    let comparator = exact(Task::Multiclass, &["cat", "dog", "emu"], &["emu", "fox", "cat"]);
    assert_eq!(comparator.classes(), names(&["cat", "dog", "emu", "fox"]));
    assert_eq!(comparator.label(Role::Primary, "emu"), 2);
    assert_eq!(comparator.label(Role::Candidate, "emu"), 0);
    assert_eq!(comparator.label(Role::Candidate, "dog"), Answer::UNKNOWN);
    let primary = answer(&[0, 1, 2, 2], &[0.7, 0.2, 0.1, 0.1, 0.8, 0.1, 0.2, 0.2, 0.6, 0.2, 0.2, 0.6], 3);
    let candidate = answer(&[2, 1, 0, 1], &[0.2, 0.2, 0.6, 0.1, 0.8, 0.1, 0.9, 0.0, 0.1, 0.3, 0.4, 0.3], 3);
    let outcomes = compare(&comparator, &primary, &candidate);
    let agreed: Vec<_> = outcomes.iter().map(|outcome| outcome.agreed).collect();
    assert_eq!(agreed, [true, false, true, false]);
    // Of the primary's class: cat 0.6 - 0.7; the candidate knows no dog; emu.
    assert!(near(outcomes[0].delta, -0.1) && near(outcomes[2].delta, 0.3) && near(outcomes[3].delta, -0.3));
    assert_eq!(outcomes[1].delta, None);
    assert_eq!(outcomes[1].candidate_class, Some(3));
}

#[test]
fn a_swapped_binary_candidate_is_read_by_name() {
    let comparator = exact(Task::Binary, &["no", "yes"], &["yes", "no"]);
    let outcomes = compare(&comparator, &answer(&[1], &[0.25, 0.75], 2), &answer(&[0], &[0.5, 0.5], 2));
    assert!(outcomes[0].agreed && near(outcomes[0].delta, -0.25));
}

#[test]
fn unknown_labels_never_agree() {
    let comparator = exact(Task::Binary, &["no", "yes"], &["no", "yes"]);
    let unknown = answer(&[Answer::UNKNOWN, 7], &[], 0);
    for outcome in compare(&comparator, &unknown, &unknown) {
        assert_eq!(outcome, RowOutcome::default());
    }
}

#[test]
fn labels_follow_from_scores_where_they_are_missing() {
    let binary = exact(Task::Binary, &["no", "yes"], &["no", "yes"]).with_decision_thresholds(0.3, 0.5);
    let scores = answer(&[], &[0.6, 0.4, 0.5, 0.5, 0.7, 0.3], 2);
    let outcomes = compare(&binary, &scores, &answer(&[1, 1, 0], &[], 0));
    assert!(outcomes.iter().all(|outcome| outcome.agreed && outcome.delta.is_none()), "{outcomes:?}");
    // The candidate decides at more than 0.5.
    let classes: Vec<_> = compare(&binary, &scores, &scores).iter().map(|outcome| outcome.candidate_class).collect();
    assert_eq!(classes, [Some(0); 3]);

    let multiclass = exact(Task::Multiclass, &["a", "b", "c"], &["a", "b", "c"]);
    let tie = answer(&[], &[0.2, 0.4, 0.4], 3);
    assert_eq!(compare(&multiclass, &tie, &answer(&[1], &[], 0))[0].primary_class, Some(1));
}

#[test]
fn regression_agrees_within_the_tolerance() {
    let comparator = comparator(Task::Regression, &[], &[], Tolerance { absolute: 0.5, relative: 0.1 });
    let primary = answer(&[], &[10.0, 10.0, -10.0, 0.0, 0.0, 1e308], 1);
    let candidate = answer(&[], &[11.5, 11.6, -8.5, -0.5, -0.0, -1e308], 1);
    let outcomes = compare(&comparator, &primary, &candidate);
    let agreed: Vec<_> = outcomes.iter().map(|outcome| outcome.agreed).collect();
    assert_eq!(agreed, [true, false, true, true, true, false]);
    assert_eq!(outcomes[0].delta, Some(1.5));
    // The scores are finite, their difference is not.
    assert_eq!((outcomes[5].nonfinite, outcomes[5].delta), (false, None));
    assert_eq!(outcomes[0].primary_class, None);
}

#[test]
fn negative_zero_is_zero() {
    let comparator = exact(Task::Regression, &[], &[]);
    assert!(compare(&comparator, &answer(&[], &[0.0], 1), &answer(&[], &[-0.0], 1))[0].agreed);
}

#[test]
fn what_is_not_finite_disagrees_even_with_itself() {
    let regression = exact(Task::Regression, &[], &[]);
    let binary = exact(Task::Binary, &["no", "yes"], &["no", "yes"]);
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        for (comparator, bad, good) in [
            (&regression, answer(&[], &[bad], 1), answer(&[], &[1.0], 1)),
            (&binary, answer(&[1], &[bad, 0.9], 2), answer(&[1], &[0.1, 0.9], 2)),
            (&binary, answer(&[], &[bad, bad], 2), answer(&[1], &[], 0)),
        ] {
            for (primary, candidate) in [(&bad, &good), (&good, &bad), (&bad, &bad)] {
                let outcome = compare(comparator, primary, candidate)[0];
                assert!(outcome.nonfinite && !outcome.agreed && outcome.delta.is_none(), "{outcome:?}");
            }
        }
    }
}

#[test]
fn quantiles_are_matched_by_level() {
    let tolerance = Tolerance { absolute: 0.1, relative: 0.0 };
    let comparator = comparator(Task::Quantile, &["0.1", "0.5", "0.9"], &["0.5", "0.9"], tolerance);
    let primary = answer(&[], &[1.0, 2.0, 3.0, 1.0, 2.0, 3.0], 3);
    let candidate = answer(&[], &[2.05, 3.05, 2.0, 3.4], 2);
    let outcomes = compare(&comparator, &primary, &candidate);
    assert!(outcomes[0].agreed && !outcomes[1].agreed);
    assert!(near(outcomes[0].delta, 0.05) && near(outcomes[1].delta, 0.2));
    assert!(comparator.classes().is_empty());
}

#[test]
fn quantiles_without_names_are_matched_by_position() {
    let comparator = exact(Task::Quantile, &[], &[]);
    let three = answer(&[], &[1.0, 2.0, 3.0], 3);
    assert!(compare(&comparator, &three, &three)[0].agreed);
    let mut outcomes = Vec::new();
    let two = answer(&[], &[1.0, 2.0], 2);
    assert!(matches!(comparator.compare(&three, &two, &mut outcomes), Err(Incomparable::Scores { .. })));
}

#[test]
fn what_cannot_be_compared_is_said() {
    let comparator = exact(Task::Binary, &["no", "yes"], &["no", "yes"]);
    let mut outcomes = Vec::new();
    let mut refused = |primary: &Answer, candidate: &Answer| {
        let error = comparator.compare(primary, candidate, &mut outcomes).expect_err("must be refused");
        assert!(outcomes.is_empty());
        error
    };
    let good = answer(&[0, 1], &[0.9, 0.1, 0.4, 0.6], 2);
    let empty = Answer { rows: 2, ..Answer::default() };
    assert_eq!(refused(&empty, &good), Incomparable::Nothing { role: Role::Primary });
    assert_eq!(refused(&good, &empty), Incomparable::Nothing { role: Role::Candidate });
    assert_eq!(refused(&good, &answer(&[0], &[], 0)), Incomparable::Rows { primary: 2, candidate: 1 });
    let short = Answer { rows: 2, ..answer(&[0], &[], 0) };
    assert_eq!(refused(&good, &short), Incomparable::Labels { role: Role::Candidate, expected: 2, got: 1 });
    let narrow = answer(&[0, 1], &[0.1, 0.6], 1);
    assert_eq!(refused(&narrow, &good), Incomparable::Scores { role: Role::Primary, expected: 4, got: 2 });
    let message = refused(&narrow, &good).to_string();
    assert_eq!(message, "primary: expected 4 scores, got 2");
    // Labels say nothing about a value.
    let regression = exact(Task::Regression, &[], &[]);
    let labelled = answer(&[0, 1], &[], 0);
    let error = regression.compare(&labelled, &labelled, &mut Vec::new());
    assert_eq!(error, Err(Incomparable::Nothing { role: Role::Primary }));
}

#[test]
fn no_rows_have_no_outcome() {
    let comparator = exact(Task::Binary, &["no", "yes"], &["no", "yes"]);
    assert!(compare(&comparator, &Answer::default(), &Answer::default()).is_empty());
}

#[test]
fn models_that_cannot_be_compared_are_refused() {
    let refused = |task, primary: &[&str], candidate: &[&str], tolerance| {
        Comparator::new(task, &names(primary), &names(candidate), tolerance).expect_err("must be refused").to_string()
    };
    let none = Tolerance::default();
    assert_eq!(
        refused(Task::Binary, &["a"], &["a", "b"], none),
        "primary: 1 classes don't make a classification of this kind"
    );
    assert_eq!(refused(Task::Multiclass, &["a", "b"], &["b", "b"], none), "candidate: \"b\" is listed twice");
    assert_eq!(refused(Task::Quantile, &["0.1"], &["0.2"], none), "the models have no quantile level in common");
    for bad in [-1.0, f64::NAN, f64::INFINITY] {
        assert!(refused(Task::Regression, &[], &[], Tolerance { absolute: bad, relative: 0.0 }).contains("tolerances"));
    }
}

#[test]
fn agreement_is_described() {
    assert_eq!(exact(Task::Binary, &["a", "b"], &["a", "b"]).describe(), "labels are equal, by name of the class");
    let within = comparator(Task::Regression, &[], &[], Tolerance { absolute: 0.1, relative: 0.01 });
    assert_eq!(within.describe(), "values are within 0.1 + 0.01 of the primary's magnitude");
}

#[test]
fn the_primary_is_compared_with_itself_by_its_own_classes() {
    let names = |all: &[&str]| -> Vec<String> { all.iter().map(|&name| name.to_owned()).collect() };
    let comparator =
        Comparator::new(Task::Binary, &names(&["no", "yes"]), &names(&["yes", "maybe"]), Tolerance::default()).unwrap();
    let itself = comparator.against_itself();
    let answer =
        |yes: f64| Answer { rows: 1, labels: Vec::new(), scores: vec![1.0 - yes, yes], width: 2, ..Answer::default() };
    let mut outcomes = Vec::new();
    itself.compare(&answer(0.75), &answer(0.875), &mut outcomes).unwrap();
    assert_eq!((outcomes[0].agreed, outcomes[0].candidate_class, outcomes[0].delta), (true, Some(1), Some(0.125)));
    itself.compare(&answer(0.75), &answer(0.25), &mut outcomes).unwrap();
    assert!(!outcomes[0].agreed);
    assert_eq!(itself.label(Role::Candidate, "no"), comparator.label(Role::Primary, "no"));
}

/// What is compared as a number: -0 is 0; NaN is never like anything, not even NaN; infinities are never tolerated.
#[test]
fn zero_has_no_sign_and_nan_no_equal() {
    let wide = Tolerance { absolute: 1e300, relative: 1e300 };
    for (task, width) in [(Task::Regression, 1), (Task::Quantile, 1), (Task::Tensor, 1), (Task::Tensor, 3)] {
        let exact = Comparator::new(task, &[], &[], Tolerance::default()).unwrap();
        let lenient = Comparator::new(task, &[], &[], wide).unwrap();
        let answer =
            |value: f64| Answer { rows: 1, labels: Vec::new(), scores: vec![value; width], width, ..Answer::default() };
        let mut outcomes = Vec::new();
        exact.compare(&answer(0.0), &answer(-0.0), &mut outcomes).unwrap();
        assert!(outcomes[0].agreed && !outcomes[0].nonfinite, "{task:?}");
        for odd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            lenient.compare(&answer(odd), &answer(odd), &mut outcomes).unwrap();
            assert!(!outcomes[0].agreed && outcomes[0].nonfinite, "{task:?} {odd}");
            assert_eq!((outcomes[0].delta, outcomes[0].scores), (None, None));
        }
    }
}

#[test]
fn a_tensor_agrees_if_all_its_numbers_do() {
    let comparator = Comparator::new(Task::Tensor, &[], &[], Tolerance { absolute: 0.5, relative: 0.0 }).unwrap();
    let answer = |scores: &[f64]| Answer {
        rows: 2,
        labels: Vec::new(),
        scores: scores.to_vec(),
        width: scores.len() / 2,
        ..Answer::default()
    };
    let mut outcomes = Vec::new();
    comparator.compare(&answer(&[1.0, 2.0, 3.0, 4.0]), &answer(&[1.5, 2.0, 3.0, 2.0]), &mut outcomes).unwrap();
    let seen: Vec<_> = outcomes.iter().map(|outcome| (outcome.agreed, outcome.delta)).collect();
    assert_eq!(seen, [(true, Some(0.5)), (false, Some(-2.0))]);
    let other = comparator.compare(&answer(&[1.0, 2.0, 3.0, 4.0]), &answer(&[1.0, 2.0]), &mut outcomes);
    assert!(matches!(other, Err(Incomparable::Scores { role: Role::Candidate, expected: 4, got: 2 })));
}

#[test]
fn quantile_levels_are_matched_by_name() {
    let names = |all: &[&str]| -> Vec<String> { all.iter().map(|&name| name.to_owned()).collect() };
    let comparator = Comparator::new(
        Task::Quantile,
        &names(&["0.1", "0.5", "0.9"]),
        &names(&["0.9", "0.1"]),
        Tolerance { absolute: 0.5, relative: 0.0 },
    )
    .unwrap();
    assert_eq!(comparator.level_names(), ["0.1", "0.9"]);
    let primary = Answer {
        rows: 2,
        labels: Vec::new(),
        scores: vec![1.0, 2.0, 3.0, 4.0, 5.0, f64::NAN],
        width: 3,
        ..Answer::default()
    };
    let candidate =
        Answer { rows: 2, labels: Vec::new(), scores: vec![3.25, 1.5, 6.0, 4.0], width: 2, ..Answer::default() };
    let mut levels = vec![7.0];
    comparator.levels(&primary, &candidate, &mut levels);
    assert_eq!(levels[..3], [0.5, 0.25, 0.0]);
    assert!(levels[3].is_nan() && levels.len() == 4);
}

/// A class that only one model knows has probability 0 with the other.
#[test]
fn probabilities_are_compared_over_the_classes_of_both() {
    let names = |all: &[&str]| -> Vec<String> { all.iter().map(|&name| name.to_owned()).collect() };
    let comparator =
        Comparator::new(Task::Multiclass, &names(&["a", "b", "c"]), &names(&["b", "a", "d"]), Tolerance::default())
            .unwrap();
    let answer = |scores: [f64; 3]| Answer {
        rows: 1,
        labels: Vec::new(),
        scores: scores.to_vec(),
        width: 3,
        ..Answer::default()
    };
    let mut outcomes = Vec::new();
    comparator.compare(&answer([0.5, 0.25, 0.25]), &answer([0.25, 0.25, 0.5]), &mut outcomes).unwrap();
    let distance = outcomes[0].distance.unwrap();
    assert_eq!((distance.largest, distance.mean, distance.squared), (0.5, 0.25, 0.375));
    assert_eq!(outcomes[0].scores, Some((0.5, 0.25)));
}
