//! What must hold whatever comes: nothing is lost from sight, merging is pooling, more agreement is never less evidence.

use proptest::prelude::*;
use shadow_sidecar::compare::{Answer, Comparator, RowOutcome, Task, Tolerance};
use shadow_sidecar::stats::agreement::{
    Prior, confidence_sequence, log_e_above, log_e_below, log_m, one_sided_lower, pairs_needed, pairs_needed_at_best,
};
use shadow_sidecar::stats::bernstein::Bernstein;
use shadow_sidecar::stats::histogram::Histogram;
use shadow_sidecar::stats::ranks::ranks;
use shadow_sidecar::tally::{DropReason, Latency, Measures, Outcomes, Tally, Ticket};
use shadow_sidecar::verdict::{Gates, Verdict, judge};

const CLASSES: [&str; 3] = ["a", "b", "c"];

#[derive(Debug, Clone)]
enum Event {
    Begin(u64),
    /// Which of those in flight, and whether each row agrees, in turn.
    Compared(usize, u8),
    WrongRows(usize),
    Dropped(usize, usize),
    Failed(usize, u32),
    Lost(usize, u64, u64),
    Look,
    Close,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0..5u64).prop_map(Event::Begin),
        4 => (any::<usize>(), any::<u8>()).prop_map(|(which, agreed)| Event::Compared(which, agreed)),
        1 => any::<usize>().prop_map(Event::WrongRows),
        1 => (any::<usize>(), 0..7usize).prop_map(|(which, reason)| Event::Dropped(which, reason)),
        1 => (any::<usize>(), 0..20u32).prop_map(|(which, code)| Event::Failed(which, code)),
        1 => (0..7usize, any::<u64>(), any::<u64>()).prop_map(|(r, e, n)| Event::Lost(r, e >> 40, n >> 40)),
        1 => Just(Event::Look),
    ]
}

fn outcome(agreed: bool, class: u32) -> RowOutcome {
    RowOutcome {
        agreed,
        nonfinite: false,
        primary_class: Some(class % 3),
        candidate_class: Some((class + u32::from(!agreed)) % 3),
        // Multiples of a power of two: sums are exact in any order.
        delta: Some(f64::from(class) / 8.0),
        scores: Some((0.5, 0.5 + f64::from(class) / 8.0)),
        distance: None,
    }
}

/// Runs a schedule; `check` sees the tally after every event. Tickets still in flight are left so.
fn run(events: &[Event], check: impl FnMut(&Tally)) -> Tally {
    run_in(events, None, check)
}

/// The same, judging every exchange on its way where there are gates.
fn run_in(events: &[Event], gates: Option<&Gates>, mut check: impl FnMut(&Tally)) -> Tally {
    let measures = Measures { slices: CLASSES.map(str::to_owned).to_vec(), ..Measures::default() };
    let mut tally = Tally::new(1, &CLASSES.map(str::to_owned)).measuring(&measures);
    if let Some(gates) = gates {
        tally = tally.judging(gates);
    }
    let mut flying: Vec<Ticket> = Vec::new();
    for event in events {
        let mut take = |which: usize| {
            if flying.is_empty() { None } else { Some(flying.swap_remove(which % flying.len())) }
        };
        match *event {
            Event::Begin(rows) => flying.push(tally.begin(rows)),
            Event::Compared(which, agreed) => {
                if let Some(ticket) = take(which) {
                    let outcomes: Vec<_> =
                        (0..ticket.rows() as u32).map(|row| outcome(agreed >> (row % 8) & 1 == 1, row)).collect();
                    // Each row is in the slice of its class.
                    let slices: Vec<u16> = (0..ticket.rows() as u16).map(|row| row % 3).collect();
                    let all = Outcomes::of(&outcomes).with_noise(&outcomes).with_slices(&slices);
                    tally.compared(ticket, all, Latency { primary: which as u64 >> 30, candidate: 1000 });
                }
            }
            Event::WrongRows(which) => {
                if let Some(ticket) = take(which) {
                    let outcomes = vec![outcome(true, 0); ticket.rows() as usize + 1];
                    tally.compared(ticket, &outcomes, Latency::default());
                }
            }
            Event::Dropped(which, reason) => {
                if let Some(ticket) = take(which) {
                    tally.dropped(ticket, DropReason::ALL[reason]);
                }
            }
            Event::Failed(which, code) => {
                if let Some(ticket) = take(which) {
                    tally.failed(ticket, code);
                }
            }
            Event::Lost(reason, exchanges, rows) => tally.lost(DropReason::ALL[reason], exchanges, rows),
            Event::Look => tally.look(&Gates::default()),
            Event::Close => tally.close(DropReason::Shutdown),
        }
        check(&tally);
    }
    tally
}

/// The counters of a tally, all of them.
fn counters(tally: &Tally) -> String {
    let flips: Vec<_> = tally.flips().iter().collect();
    let slices: Vec<_> = tally.slices().iter().collect();
    let (scores, noise) = (tally.scores(), tally.noise_floor());
    format!(
        "{:?} {:?} {} {} {} {} {} {:?} {:?} {:?} {:?} {slices:?} {:?} {:?} {} {} {} {}",
        tally.exchanges(),
        tally.rows(),
        tally.agreed(),
        tally.observations(),
        tally.shares(),
        tally.nonfinite(),
        tally.stale(),
        flips,
        tally.delta(),
        tally.primary_latency(),
        tally.candidate_latency(),
        scores.bins(),
        scores.sizes(),
        noise.compared(),
        noise.agreed(),
        noise.shares(),
        tally.slower(),
    )
}

fn prior() -> impl Strategy<Value = Prior> {
    prop_oneof![
        Just(Prior::Jeffreys),
        Just(Prior::Uniform),
        (1.0..1e5f64).prop_map(|t_opt| Prior::NullCentred { t_opt }),
    ]
}

/// n and s <= n, on all scales; s a whole number (each exchange has one row) or not.
fn counts() -> impl Strategy<Value = (u64, f64)> {
    (0..33u32, any::<u64>(), 0.0..=1.0f64, any::<bool>()).prop_map(|(shift, n, share, whole)| {
        let n = (n >> 32) >> shift;
        let s = n as f64 * share;
        (n, if whole { s.floor() } else { s })
    })
}

proptest! {
    #[test]
    fn nothing_is_lost_from_sight(
        before in prop::collection::vec(event(), 0..80),
        after in prop::collection::vec(event(), 0..30),
        close in any::<bool>(),
    ) {
        let closing = if close { vec![Event::Close] } else { Vec::new() };
        let events = [before, closing, after].concat();
        run(&events, |tally| {
            assert!(tally.holds(), "{tally:?}");
            let pairs: u64 = tally.flips().iter().map(|flip| flip.count).sum();
            assert_eq!(pairs, tally.rows().compared());
            assert_eq!(tally.primary_latency().count(), tally.exchanges().compared());
            let coverage = tally.rows().coverage().unwrap_or(0.0);
            assert!((0.0..=1.0).contains(&coverage));
            assert!((0.0..=tally.observations() as f64).contains(&tally.shares()));
            assert!(tally.shares() <= tally.agreed() as f64);
            // Every row is in one slice of the one feature, and every difference in one bin of each model.
            assert_eq!(tally.slices().iter().map(|(_, slice)| slice.compared()).sum::<u64>(), tally.rows().compared());
            assert_eq!(tally.slices().iter().map(|(_, slice)| slice.agreed()).sum::<u64>(), tally.agreed());
            let binned: u64 = tally.scores().bins().iter().map(|(_, _, primary, _)| primary).sum();
            assert_eq!(binned, tally.delta().count());
            // Compared with itself in the same rows, the candidate is as good as the noise.
            let excess = tally.noise_floor().excess(0.05);
            assert!(excess.is_none_or(|(lower, mean, upper)| lower <= 0.0 && mean == 0.0 && upper >= 0.0));
        });
    }

    /// The largest evidence does not depend on anybody's looks, never falls, and is in the end at least that of the sums.
    #[test]
    fn every_exchange_is_a_look(events in prop::collection::vec(event(), 0..120)) {
        let gates = Gates { gate: 0.6, abort: Some(0.5), ..Gates::default() };
        let mut last = f64::NEG_INFINITY;
        let mut tally = run_in(&events, Some(&gates), |tally| {
            assert!(tally.holds(), "{tally:?}");
            let now = tally.evidence(&gates).above;
            assert!(now >= last, "{now} {last}");
            last = now;
        });
        let unwatched: Vec<_> = events.iter().filter(|event| !matches!(event, Event::Look)).cloned().collect();
        let mut other = run_in(&unwatched, Some(&gates), |_| {});
        tally.close(DropReason::Shutdown);
        other.close(DropReason::Shutdown);
        prop_assert_eq!(tally.evidence(&gates), other.evidence(&gates));
        let (n, s, evidence) = (tally.observations(), tally.shares(), tally.evidence(&gates));
        prop_assert!(evidence.above >= log_e_above(n, s, gates.gate, gates.prior) - 1e-9);
        prop_assert!(evidence.below >= log_e_below(n, s, gates.abort(), gates.prior) - 1e-9);
        prop_assert!(tally.holds());
    }

    /// However exchanges are spread over replicas, the sum is what one sidecar would have counted.
    #[test]
    fn merging_is_pooling(
        left in prop::collection::vec(event(), 0..60),
        right in prop::collection::vec(event(), 0..60),
    ) {
        let (mut first, second) = (run(&left, |_| {}), run(&right, |_| {}));
        let mut other_way = second.clone();
        let again = run(&left, |_| {});
        prop_assert!(first.merge(&second) && other_way.merge(&again));
        prop_assert_eq!(counters(&first), counters(&other_way));
        prop_assert!(first.holds());

        // One after the other in one tally. A ticket of the left schedule that is still in flight must not be taken by
        // an event of the right one, so those that would be are ended first.
        let ended: Vec<_> = left.iter().cloned().chain((0..60).map(|_| Event::Failed(0, 4))).collect();
        let mut split = run(&ended, |_| {});
        let pooled = run(&[ended, right].concat(), |_| {});
        prop_assert!(split.merge(&second));
        prop_assert_eq!(counters(&split), counters(&pooled));
        let (split, pooled) = (split.evidence(&Gates::default()), pooled.evidence(&Gates::default()));
        // Maxima are not taken over, so merging can only forget.
        prop_assert!(split.above <= pooled.above && split.below <= pooled.below);
    }

    #[test]
    fn bounds_enclose_the_estimate((n, s) in counts(), prior in prior(), alpha in 0.001..0.5f64) {
        let (lower, upper) = confidence_sequence(n, s, alpha, prior);
        prop_assert!(0.0 <= lower && lower <= upper && upper <= 1.0);
        if n > 0 {
            let estimate = s / n as f64;
            prop_assert!(lower <= estimate && estimate <= upper, "{lower} {estimate} {upper}");
            prop_assert!(one_sided_lower(n, s, alpha, prior) <= estimate);
        }
        // More confidence is wider.
        let (wider_lower, wider_upper) = confidence_sequence(n, s, alpha / 2.0, prior);
        prop_assert!(wider_lower <= lower && upper <= wider_upper);
        // What lies outside is rejected, what lies inside is not.
        for p in [lower - 1e-9, upper + 1e-9] {
            if p > 0.0 && p < 1.0 && n < 1_000_000 {
                prop_assert!(log_m(n, s, p, prior) >= -alpha.ln() - 1e-6);
            }
        }
    }

    #[test]
    fn more_agreement_is_more_evidence((n, s) in counts(), p in 0.001..0.999f64, prior in prior()) {
        let above = log_e_above(n, s, p, prior);
        let below = log_e_below(n, s, p, prior);
        prop_assert!(!above.is_nan() && !below.is_nan());
        let scale = 1e-9 * (1.0 + above.abs() + below.abs());
        prop_assert!(log_e_above(n + 1, s + 1.0, p, prior) >= above - scale);
        prop_assert!(log_e_above(n + 1, s, p, prior) <= above + scale);
        // A share between 0 and 1 lies between.
        prop_assert!(log_e_above(n + 1, s + 0.5, p, prior) <= log_e_above(n + 1, s + 1.0, p, prior) + scale);
        prop_assert!(log_e_above(n + 1, s + 0.5, p, prior) >= log_e_above(n + 1, s, p, prior) - scale);
        prop_assert!(log_e_below(n + 1, s + 1.0, p, prior) <= below + scale);
        prop_assert!(log_e_below(n + 1, s, p, prior) >= below - scale);
        // Both gates can't be proven at once from the same counts.
        prop_assert!(above < 3.0 || below < 3.0);
    }

    /// E is a martingale at p0 where shares are 0 or 1: its mean after one more observation is what it was.
    #[test]
    fn evidence_is_fair_at_the_gate((n, s) in counts(), p in 0.01..0.99f64, prior in prior()) {
        let now = log_e_above(n, s, p, prior);
        let ratio = |next: f64| (next - now).exp();
        let mean = p * ratio(log_e_above(n + 1, s + 1.0, p, prior)) + (1.0 - p) * ratio(log_e_above(n + 1, s, p, prior));
        prop_assert!((mean - 1.0).abs() < 1e-6 * (1.0 + now.abs()), "{mean} at {now}");
    }

    /// Whatever the distribution of the next share, and so however the rows in it depend on each other: where its mean
    /// is at most p0, E is not expected to grow; where it is at least p1, neither is the other.
    #[test]
    fn evidence_is_not_expected_to_grow_at_the_gate(
        (n, s) in counts(),
        p in 0.01..0.99f64,
        low in 0.0..=1.0f64,
        high in 0.0..=1.0f64,
        prior in prior(),
    ) {
        // Two shares, one on either side of p, with mean p.
        let (low, high) = (p * low, p + (1.0 - p) * high);
        let weight = if high > low { (p - low) / (high - low) } else { 1.0 };
        for log_e in [log_e_above, log_e_below] {
            let now = log_e(n, s, p, prior);
            let ratio = |share: f64| (log_e(n + 1, s + share, p, prior) - now).exp();
            let mean = weight * ratio(high) + (1.0 - weight) * ratio(low);
            prop_assert!(mean <= 1.0 + 1e-6 * (1.0 + now.abs()), "{mean} at {now}");
        }
        let now = log_m(n, s, p, prior);
        let ratio = |share: f64| (log_m(n + 1, s + share, p, prior) - now).exp();
        let mean = weight * ratio(high) + (1.0 - weight) * ratio(low);
        prop_assert!(mean <= 1.0 + 1e-6 * (1.0 + now.abs()), "{mean} at {now}");
    }

    #[test]
    fn pairs_needed_are_just_enough(n in 0..3000u64, missing in 0.0..30.0f64, gate in 0.5..0.999f64) {
        let s = (n as f64 - missing).max(0.0);
        let proven = |n, s| log_e_above(n, s, gate, Prior::Uniform) >= 20f64.ln();
        let best = pairs_needed_at_best(n, s, gate, 0.05, Prior::Uniform);
        let Some(best) = best else { return Err(TestCaseError::fail("complete agreement always gets there")) };
        prop_assert!(proven(n + best, s + best as f64));
        prop_assert!(best == 0 || !proven(n + best - 1, s + (best - 1) as f64));
        match pairs_needed(n, s, gate, 0.05, Prior::Uniform) {
            Some(needed) => prop_assert!(needed >= best),
            None => prop_assert!(!proven(n, s)),
        }
    }

    #[test]
    fn quantiles_are_within_the_promised_error(
        mut nanos in prop::collection::vec(1..3_600_000_000_000u64, 1..200),
        q in 0.0..=1.0f64,
        split in any::<prop::sample::Index>(),
    ) {
        let (mut left, mut right) = (Histogram::default(), Histogram::default());
        let split = split.index(nanos.len());
        for (i, &value) in nanos.iter().enumerate() {
            if i < split { left.record(value) } else { right.record(value) }
        }
        left.merge(&right);
        nanos.sort_unstable();
        let rank = ((q * nanos.len() as f64).ceil() as usize).clamp(1, nanos.len());
        let exact = nanos[rank - 1] as f64;
        let got = left.quantile(q).map_or(f64::NAN, |duration| duration.as_nanos() as f64);
        prop_assert!((got - exact).abs() <= Histogram::RELATIVE_ERROR * exact + 1.0, "{got} {exact}");
    }

    /// Whatever a candidate sends, comparing it ends in outcomes or in an error.
    #[test]
    fn comparing_never_panics(
        task in prop::sample::select(vec![Task::Binary, Task::Multiclass, Task::Regression, Task::Quantile, Task::Tensor]),
        rows in prop::sample::select(vec![0, 1, 2, usize::MAX]),
        width in prop::sample::select(vec![0, 1, 2, 3, usize::MAX]),
        labels in prop::collection::vec(prop_oneof![0..4u32, any::<u32>()], 0..3),
        scores in prop::collection::vec(any::<f64>(), 0..5),
        exact_width in prop::sample::select(vec![0, 1, 2, usize::MAX]),
        exact in prop::collection::vec(any::<i128>(), 0..5),
    ) {
        let names: Vec<String> = ["x", "y"].map(str::to_owned).to_vec();
        let comparator = Comparator::new(task, &names, &names, Tolerance { absolute: 0.1, relative: 0.1 });
        let Ok(comparator) = comparator else { return Err(TestCaseError::fail("the classes are fine")) };
        let odd = Answer { rows, labels, scores, width, exact, exact_width };
        let good = Answer { rows: 1, labels: vec![0], scores: vec![0.5, 0.5], width: 2, ..Answer::default() };
        let (mut outcomes, mut levels) = (Vec::new(), Vec::new());
        for (primary, candidate) in [(&odd, &good), (&good, &odd), (&odd, &odd)] {
            if comparator.compare(primary, candidate, &mut outcomes).is_ok() {
                prop_assert_eq!(outcomes.len(), primary.rows);
                let distances = outcomes.iter().filter_map(|outcome| outcome.distance);
                prop_assert!(distances.clone().all(|all| (0.0..=1.0).contains(&all.divergence)));
                comparator.levels(primary, candidate, &mut levels);
                prop_assert!(levels.len() <= primary.scores.len());
            } else {
                prop_assert!(outcomes.is_empty());
            }
        }
    }

    /// The bounds for agreement that drifts enclose the mean, and never promise more than what was seen.
    #[test]
    fn drifting_bounds_enclose_the_mean(
        scores in prop::collection::vec(prop_oneof![Just(1.0), 0.0..=1.0f64], 1..400),
        alpha in 0.001..0.5f64,
        v_opt in 0.1..1e4f64,
    ) {
        let mut all = Bernstein::new(1.0);
        for &score in &scores {
            all.record(score);
        }
        let mean = all.mean().unwrap_or(f64::NAN);
        let (lower, upper) = all.confidence_sequence(alpha, v_opt);
        prop_assert!(0.0 <= lower && lower <= mean && mean <= upper && upper <= 1.0, "{lower} {mean} {upper}");
        let (wider_lower, wider_upper) = all.confidence_sequence(alpha / 2.0, v_opt);
        prop_assert!(wider_lower <= lower && upper <= wider_upper);
        // Half the level on one side is the same bound.
        prop_assert_eq!(all.lower(alpha / 2.0, v_opt), lower);
    }

    /// Ranks enclose the quantile's, more data narrows them.
    #[test]
    fn ranks_enclose_the_quantile(n in 1..100_000u64, p in 0.01..0.99f64, alpha in 0.001..0.5f64) {
        let (low, high) = ranks(n, p, alpha, Prior::Jeffreys);
        prop_assert!(low <= high && high <= n);
        let middle = p * n as f64;
        prop_assert!(low as f64 <= middle + 1.0 && high as f64 >= middle - 1.0, "{low} {middle} {high}");
        let (low_of_more, high_of_more) = ranks(4 * n, p, alpha, Prior::Jeffreys);
        prop_assert!((high_of_more - low_of_more) as f64 <= 4.0 * (high - low) as f64 + 4.0);
    }

    /// A promotion is never given without the evidence for it, and always with reasons.
    #[test]
    fn verdicts_have_grounds(events in prop::collection::vec(event(), 0..80), gate in 0.01..0.99f64, hours in 0..3u32) {
        let gates = Gates { gate, min_pairs: 5, ..Gates::default() };
        let tally = run(&events, |_| {});
        let judgement = judge(&tally, &gates, gates.min_duration * hours);
        let figures = judgement.figures;
        prop_assert!(!judgement.reasons.is_empty());
        match judgement.verdict {
            Verdict::Promote => {
                prop_assert!(figures.log_e >= figures.log_e_needed && hours > 0 && figures.observations >= 5);
                prop_assert_eq!(judgement.pairs_needed, Some(0));
            }
            Verdict::Reject => prop_assert_eq!(judgement.pairs_needed, None),
            Verdict::Undecided => prop_assert!(figures.log_e_abort < figures.log_e_needed),
        }
    }
}
