//! Every way to each verdict, and back.

use super::*;
use crate::compare::RowOutcome;
use crate::tally::{DropReason, Latency};

const HOUR: Duration = Duration::from_hours(1);

/// One row an exchange.
fn tally(agreed: u64, disagreed: u64, failed: u64) -> Tally {
    let mut tally = Tally::new(1, &[]);
    add(&mut tally, agreed, disagreed, failed);
    tally
}

fn add(tally: &mut Tally, agreed: u64, disagreed: u64, failed: u64) {
    for i in 0..agreed + disagreed {
        let ticket = tally.begin(1);
        let outcome = RowOutcome { agreed: i < agreed, ..RowOutcome::default() };
        tally.compared(ticket, &[outcome], Latency::default());
    }
    for _ in 0..failed {
        let ticket = tally.begin(1);
        tally.failed(ticket, 14);
    }
    tally.look(&Gates::default());
}

fn verdict(tally: &Tally) -> Verdict {
    judge(tally, &Gates::default(), HOUR).verdict
}

#[test]
fn nothing_is_undecided() {
    let judgement = judge(&tally(0, 0, 0), &Gates::default(), Duration::ZERO);
    assert_eq!(judgement.verdict, Verdict::Undecided);
    assert_eq!(judgement.reasons[0], "no row has been compared yet");
    assert_eq!(judgement.reasons.len(), 5, "{:?}", judgement.reasons);
    assert_eq!(judgement.pairs_needed, Some(1000));
    assert_eq!((judgement.figures.rate, judgement.figures.accuracy_change_bound), (None, None));
}

#[test]
fn a_good_candidate_is_promoted() {
    let judgement = judge(&tally(2990, 10, 0), &Gates::default(), HOUR);
    assert_eq!(judgement.verdict, Verdict::Promote);
    assert_eq!(judgement.pairs_needed, Some(0));
    let expected = [
        "agreement 99.67 % over 3,000 exchanges (3,000 rows) is above the gate 99 % (log e 7.8 of 3.0 needed)",
        "3,000 exchanges were compared, 1,000 are required",
        "coverage 100 % is at least 95 %",
        "the candidate failed 0 of 3,000 exchanges: proven to be below 1 % (at most 0.15 %)",
        "the rehearsal has had traffic for 1 h, at least 1 h are required",
    ];
    assert_eq!(judgement.reasons, expected);
}

#[test]
fn each_guardrail_holds_a_promotion_back() {
    let good = tally(2990, 10, 0);
    let gates = Gates::default();
    for (tally, gates, elapsed, reason) in [
        (good.clone(), gates, HOUR / 2, "the rehearsal has had traffic for 30 min"),
        (good.clone(), Gates { min_pairs: 4000, ..gates }, HOUR, "3,000 exchanges were compared, 4,000"),
        (tally(2990, 10, 30), gates, HOUR, "the candidate failed 30 of 3,030 exchanges: not yet proven"),
    ] {
        let judgement = judge(&tally, &gates, elapsed);
        assert_eq!(judgement.verdict, Verdict::Undecided, "{reason}");
        assert_eq!(judgement.reasons.len(), 2, "{:?}", judgement.reasons);
        assert!(judgement.reasons[1].starts_with(reason), "{:?}", judgement.reasons);
    }
    let judgement = judge(&good, &Gates { min_pairs: 4000, ..gates }, HOUR);
    assert_eq!(judgement.pairs_needed, Some(1000));
}

#[test]
fn low_coverage_takes_proof_of_the_worst_case() {
    let mut good = tally(2990, 10, 0);
    good.lost(DropReason::ServerQueueFull, 200, 200);
    let judgement = judge(&good, &Gates::default(), HOUR);
    assert_eq!(judgement.verdict, Verdict::Undecided);
    let reason = "coverage 93.75 % is below 95 %, and the gate is not proven with the 200 missing exchanges counted as \
                  disagreements";
    assert!(judgement.reasons[1].starts_with(reason), "{:?}", judgement.reasons);

    let lenient = Gates { gate: 0.9, ..Gates::default() };
    let judgement = judge(&good, &lenient, HOUR);
    assert_eq!(judgement.verdict, Verdict::Promote, "{:?}", judgement.reasons);
    assert!(judgement.reasons[2].contains("but the gate is proven"), "{:?}", judgement.reasons);
    assert!(judgement.figures.worst_case_lower > 0.9);

    // What could not have been compared is not missing.
    let mut good = tally(2990, 10, 0);
    good.lost(DropReason::PrimaryError, 2000, 2000);
    assert_eq!(verdict(&good), Verdict::Promote);
    // Exchanges lost with an unknown number of rows are.
    good.lost(DropReason::Undecodable, 2000, 0);
    assert_eq!(verdict(&good), Verdict::Undecided);
}

#[test]
fn a_bad_candidate_is_rejected_and_stays_so() {
    let mut bad = tally(950, 50, 0);
    let judgement = judge(&bad, &Gates::default(), Duration::ZERO);
    assert_eq!((judgement.verdict, judgement.pairs_needed), (Verdict::Reject, None));
    let reason = &judgement.reasons[0];
    assert!(reason.starts_with("agreement 95 % over 1,000 exchanges (1,000 rows) is below 99 % (log e "), "{reason}");
    add(&mut bad, 20_000, 0, 0);
    assert_eq!(verdict(&bad), Verdict::Reject);
    assert!(judge(&bad, &Gates::default(), HOUR).reasons[0].ends_with("though it was above the gate earlier"));
}

#[test]
fn a_lower_abort_waits_longer() {
    let gates = Gates { abort: Some(0.9), ..Gates::default() };
    assert_eq!(judge(&tally(950, 50, 0), &gates, HOUR).verdict, Verdict::Undecided);
    assert_eq!(judge(&tally(850, 150, 0), &gates, HOUR).verdict, Verdict::Reject);
}

#[test]
fn a_failing_candidate_is_rejected_until_it_recovers() {
    let mut failing = tally(1000, 0, 50);
    let judgement = judge(&failing, &Gates::default(), HOUR);
    assert_eq!(judgement.verdict, Verdict::Reject);
    let reason = &judgement.reasons[0];
    assert!(
        reason.starts_with("the candidate failed 50 of 1,050 exchanges: its error rate, at least 2.69 %, "),
        "{reason}"
    );
    assert!(reason.ends_with(", is above 1 %"), "{reason}");
    add(&mut failing, 20_000, 0, 0);
    assert_eq!(verdict(&failing), Verdict::Promote);
    let off = Gates { max_error_rate: 1.0, min_coverage: 0.5, ..Gates::default() };
    assert_eq!(judge(&tally(1000, 0, 500), &off, HOUR).verdict, Verdict::Promote);
}

/// The evidence was there, then the traffic changed.
#[test]
fn agreement_that_falls_takes_the_promotion_back() {
    let mut tally = tally(1500, 0, 0);
    assert_eq!(verdict(&tally), Verdict::Promote);
    add(&mut tally, 0, 16, 0);
    let judgement = judge(&tally, &Gates::default(), HOUR);
    assert_eq!((judgement.verdict, judgement.pairs_needed), (Verdict::Undecided, None));
    assert!(judgement.reasons[0].contains("has fallen below the gate"), "{:?}", judgement.reasons);
    add(&mut tally, 0, 100, 0);
    assert_eq!(verdict(&tally), Verdict::Reject);
}

/// Exchanges of several rows, of which the first `agreed` agree.
fn add_of(tally: &mut Tally, exchanges: usize, rows: usize, agreed: usize) {
    let outcomes: Vec<_> = (0..rows).map(|row| RowOutcome { agreed: row < agreed, ..RowOutcome::default() }).collect();
    for _ in 0..exchanges {
        let ticket = tally.begin(rows as u64);
        tally.compared(ticket, &outcomes, Latency::default());
    }
}

/// A hundred rows an exchange are one observation, not a hundred.
#[test]
fn evidence_counts_exchanges() {
    let gates = Gates { min_pairs: 0, ..Gates::default() };
    let mut tally = Tally::new(1, &[]);
    add_of(&mut tally, 20, 100, 100);
    let judgement = judge(&tally, &gates, HOUR);
    assert_eq!((judgement.verdict, judgement.pairs_needed), (Verdict::Undecided, Some(429)));
    let seen = "agreement 100 % over 20 exchanges (2,000 rows) is not yet proven";
    assert!(judgement.reasons[0].starts_with(seen), "{:?}", judgement.reasons);
    // The least number, too.
    assert_eq!(judge(&tally, &Gates::default(), HOUR).pairs_needed, Some(980));

    add_of(&mut tally, 429, 100, 100);
    assert_eq!(verdict(&tally), Verdict::Undecided);
    assert_eq!(judge(&tally, &gates, HOUR).verdict, Verdict::Promote);

    // Every request weighs the same: 449 that agree, one that doesn't, whatever its size.
    add_of(&mut tally, 1, 4, 1);
    let figures = judge(&tally, &gates, HOUR).figures;
    assert_eq!((figures.compared, figures.agreed), (44_904, 44_901));
    assert_eq!((figures.observations, figures.shares, figures.rate), (450, 449.25, Some(449.25 / 450.0)));
}

/// Missing exchanges count as shares of 0; those that had no rows to compare are not missing.
#[test]
fn the_worst_case_counts_exchanges() {
    let mut tally = Tally::new(1, &[]);
    add_of(&mut tally, 1000, 5, 5);
    add_of(&mut tally, 300, 0, 0);
    tally.lost(DropReason::QueueFull, 10, 5000);
    let ticket = tally.begin(7);
    tally.failed(ticket, 14);
    let gates = Gates::default();
    let figures = Figures::of(&tally, &gates);
    assert_eq!((figures.observations, figures.shares), (1000, 1000.0));
    // Of rows, the smaller one.
    assert_eq!(figures.coverage, Some(5000.0 / 10_007.0));
    assert_eq!(figures.worst_case_lower, agreement::one_sided_lower(1011, 1000.0, gates.alpha, gates.prior));
    assert_eq!(figures.worst_case_log_e, agreement::log_e_above(1011, 1000.0, gates.gate, gates.prior));
    let reasons = judge(&tally, &gates, HOUR).reasons;
    assert!(reasons.iter().any(|reason| reason.contains("the 11 missing exchanges")), "{reasons:?}");
}

/// The error rate is about all exchanges that were answered, agreement about those with rows.
#[test]
fn pairs_needed_cover_the_error_rate() {
    let gates = Gates { gate: 0.5, min_pairs: 0, ..Gates::default() };
    let judgement = judge(&tally(20, 0, 0), &gates, HOUR);
    assert!(judgement.figures.log_e >= judgement.figures.log_e_needed);
    assert_eq!((judgement.verdict, judgement.pairs_needed), (Verdict::Undecided, Some(429)));
}

#[test]
fn wrong_gates_are_named_and_promote_nothing() {
    assert!(Gates::default().problems().is_empty());
    let wrong = Gates { gate: 1.0, alpha: f64::NAN, min_coverage: 2.0, max_error_rate: 0.0, ..Gates::default() };
    let problems = wrong.problems();
    assert_eq!(problems.len(), 5, "{problems:?}");
    assert_eq!(problems[0], "gate: expected a number greater than 0 and less than 1, got 1");
    assert!(Gates { abort: Some(0.995), ..Gates::default() }.problems()[0].contains("at most the gate"));
    assert_eq!(judge(&tally(5000, 0, 0), &wrong, HOUR).verdict, Verdict::Undecided);
    let nan = Gates { gate: f64::NAN, max_error_rate: f64::NAN, min_coverage: f64::NAN, ..Gates::default() };
    assert_eq!(judge(&tally(5000, 0, 0), &nan, HOUR).verdict, Verdict::Undecided);
}

/// Traffic that agrees at first, and then less and less, though on average still above the gate.
#[test]
fn agreement_that_drifts_takes_more_to_be_proven() {
    let robust = Gates { drift_robust: true, ..Gates::default() };
    let mut good = tally(1000, 0, 0);
    assert_eq!(verdict(&good), Verdict::Promote);
    let judgement = judge(&good, &robust, HOUR);
    // u(1) / 1000 is still more than one percent only below 568 exchanges.
    assert_eq!(judgement.verdict, Verdict::Promote, "{:?}", judgement.reasons);
    add(&mut good, 0, 9, 0);
    let judgement = judge(&good, &robust, HOUR);
    assert_eq!(judgement.verdict, Verdict::Undecided);
    let reason = "is not yet proven to be above the gate 99 %";
    assert!(judgement.reasons.iter().any(|text| text.contains(reason)), "{:?}", judgement.reasons);
    let figures = judgement.figures;
    assert!(figures.drift_lower < 0.991 && 0.991 < figures.drift_upper);
    let early = tally(500, 0, 0);
    let (plain, robust) = (Gates { min_pairs: 0, ..Gates::default() }, Gates { min_pairs: 0, ..robust });
    assert_eq!(judge(&early, &plain, HOUR).verdict, Verdict::Promote);
    assert_eq!(judge(&early, &robust, HOUR).verdict, Verdict::Undecided);
}

#[test]
fn a_candidate_proven_to_be_slower_is_held_back() {
    let gates = Gates { max_latency_ratio: Some(2.0), ..Gates::default() };
    let measures = crate::tally::Measures { latency_ratio: 2.0, ..Default::default() };
    let run = |candidate: u64| {
        let mut tally = Tally::new(1, &[]).measuring(&measures);
        for _ in 0..1500 {
            let ticket = tally.begin(1);
            let agreed = RowOutcome { agreed: true, ..RowOutcome::default() };
            tally.compared(ticket, &[agreed], Latency { primary: 1000, candidate });
        }
        tally
    };
    assert_eq!(judge(&run(2000), &gates, HOUR).verdict, Verdict::Promote);
    let slow = judge(&run(2001), &gates, HOUR);
    assert_eq!(slow.verdict, Verdict::Undecided);
    let reason = "the candidate took more than 2 times as long as the primary in 1,500 of 1,500 exchanges: proven to be more \
                  than 50 % (at least 99.";
    assert!(slow.reasons[1].starts_with(reason), "{:?}", slow.reasons);
    assert_eq!(judge(&run(2001), &Gates::default(), HOUR).verdict, Verdict::Promote);
}

#[test]
fn scores_that_move_hold_a_promotion_back() {
    let run = |shift: f64| {
        let mut tally = Tally::new(1, &[]);
        for i in 0..2000 {
            let primary = f64::from(i % 10) / 20.0;
            let (delta, scores) = (Some(shift), Some((primary, primary + shift)));
            let ticket = tally.begin(1);
            tally.compared(
                ticket,
                &[RowOutcome { agreed: true, delta, scores, ..RowOutcome::default() }],
                Latency::default(),
            );
        }
        tally
    };
    let by_shift = Gates { max_score_shift: Some(0.02), ..Gates::default() };
    assert_eq!(judge(&run(0.001), &by_shift, HOUR).verdict, Verdict::Promote);
    let moved = judge(&run(0.3), &by_shift, HOUR);
    assert!(moved.reasons[1].contains("not yet proven to be within 0.02"), "{:?}", moved.reasons);
    let by_index = Gates { max_score_psi: Some(0.2), ..Gates::default() };
    assert_eq!(judge(&run(0.001), &by_index, HOUR).verdict, Verdict::Promote);
    let moved = judge(&run(0.3), &by_index, HOUR);
    assert_eq!(moved.verdict, Verdict::Undecided);
    assert!(moved.reasons[1].ends_with("is above 0.2"), "{:?}", moved.reasons);
}

/// Half of one slice differs; the others don't, and a tiny one isn't blamed for being tiny.
#[test]
fn the_slices_that_differ_are_named() {
    use crate::tally::{Measures, Outcomes};
    let names = ["bad", "good", "tiny", "empty"].map(str::to_owned).to_vec();
    let mut tally = Tally::new(1, &[]).measuring(&Measures { slices: names, ..Measures::default() });
    for i in 0..1000 {
        let slice = if i == 7 { 2 } else { u16::from(i % 10 != 0) };
        let agreed = slice == 1 || (slice == 0 && i % 20 == 0);
        let ticket = tally.begin(1);
        let outcome = RowOutcome { agreed, ..RowOutcome::default() };
        tally.compared(ticket, Outcomes::of(&[outcome]).with_slices(&[slice]), Latency::default());
    }
    let gates = Gates { gate: 0.95, ..Gates::default() };
    let all = slices(&tally, &gates);
    let seen: Vec<_> = all.iter().map(|slice| (slice.name.as_str(), slice.observations, slice.discovered)).collect();
    assert_eq!(seen[0], ("bad", 100, true));
    assert!(seen[1..].iter().all(|slice| !slice.2), "{seen:?}");
    assert_eq!((all[0].rate, all.len()), (Some(0.5), 4));
    assert!(all[0].upper < 0.7 && all[0].log_e_below > 20.0);
    // A margin asks for more.
    assert!(!slices(&tally, &Gates { slice_margin: 0.6, ..gates })[0].discovered);
}

#[test]
fn time_needed_follows_from_the_pace() {
    let gates = Gates::default();
    let judgement = judge(&tally(500, 0, 0), &gates, HOUR);
    assert_eq!(judgement.pairs_needed, Some(500));
    assert_eq!(judgement.time_needed(10.0, &gates, HOUR), Some(Duration::from_secs(50)));
    assert_eq!(judgement.time_needed(10.0, &gates, HOUR / 2), Some(HOUR / 2));
    assert_eq!(judgement.time_needed(0.0, &gates, HOUR), None);
    assert_eq!(judgement.time_needed(f64::NAN, &gates, HOUR), None);
    let done = judge(&tally(5000, 0, 0), &gates, Duration::ZERO);
    assert_eq!(done.time_needed(1.0, &gates, Duration::ZERO), Some(HOUR));
    assert_eq!(done.time_needed(0.0, &gates, Duration::ZERO), None, "time without traffic does not count");
    // Nothing is missing but what need not come.
    let mut lossy = tally(5000, 0, 0);
    lossy.lost(DropReason::QueueFull, 5000, 5000);
    let lossy = judge(&lossy, &gates, HOUR);
    assert_eq!((lossy.verdict, lossy.pairs_needed), (Verdict::Undecided, Some(0)));
    assert_eq!(lossy.time_needed(10.0, &gates, HOUR), None, "{:?}", lossy.reasons);
    assert_eq!(judge(&tally(500, 100, 0), &gates, HOUR).time_needed(10.0, &gates, HOUR), None);
}

/// Who got no answer, or one that nobody compared, may have got a wrong one.
#[test]
fn what_is_said_of_accuracy_holds_for_all_that_was_asked() {
    let gates = Gates::default();
    let classes = ["no", "yes"].map(str::to_owned);
    let mut classifier = Tally::new(1, &classes);
    add(&mut classifier, 1000, 0, 30);
    classifier.lost(DropReason::QueueFull, 20, 20);
    let figures = Figures::of(&classifier, &gates);
    let lower = agreement::one_sided_lower(1050, 1000.0, gates.alpha, gates.prior);
    assert_eq!(figures.accuracy_change_bound, Some(1.0 - lower));
    assert!(1.0 - lower > 10.0 * (1.0 - figures.one_sided_lower), "of what was compared it would be {figures:?}");
    let values = tally(1000, 0, 30);
    assert_eq!(Figures::of(&values, &gates).accuracy_change_bound, None, "a value is not right or wrong");
}

#[test]
fn failures_of_a_cold_start_reject_nobody() {
    for (agreed, failed) in [(0, 1), (0, 49), (9, 1), (46, 4)] {
        let judgement = judge(&tally(agreed, 0, failed), &Gates::default(), HOUR);
        assert_eq!(judgement.verdict, Verdict::Undecided, "{agreed} and {failed}: {:?}", judgement.reasons);
        let told = format!("the candidate failed {failed} of {} exchanges: not yet proven", agreed + failed);
        assert!(judgement.reasons.iter().any(|reason| reason.starts_with(&told)), "{:?}", judgement.reasons);
    }
    for (agreed, failed) in [(0, 50), (45, 5), (10_000, 150)] {
        assert_eq!(verdict(&tally(agreed, 0, failed)), Verdict::Reject, "{agreed} and {failed}");
    }
}

/// A candidate that is as the primary would be: a person must see that it can't agree more often than the primary with itself.
#[test]
fn the_noise_of_the_primary_is_told() {
    use crate::tally::Outcomes;
    let run = |noisy: u64| {
        let mut tally = Tally::new(1, &[]);
        for n in 0..1000 {
            let row = |agreed| [RowOutcome { agreed, ..RowOutcome::default() }];
            let (again, outcome) = (row(n >= noisy), row(n >= 40));
            let ticket = tally.begin(1);
            tally.compared(ticket, Outcomes::of(&outcome).with_noise(&again), Latency::default());
        }
        tally.look(&Gates::default());
        judge(&tally, &Gates::default(), HOUR)
    };
    let told = run(30);
    assert_eq!(told.verdict, Verdict::Reject);
    let reason = "the primary differs from itself by 3 % when it is asked twice; beyond that the candidate differs from it by 1.00 \
                  points (-";
    assert!(told.reasons[1].starts_with(reason), "{:?}", told.reasons);
    assert_eq!(run(0).reasons.len(), 1, "nothing is said where there is none");
}
