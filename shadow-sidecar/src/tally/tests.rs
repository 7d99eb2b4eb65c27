//! Nothing is lost from sight and nothing counted twice.

use super::*;
use crate::compare::Task;

const NAN: RowOutcome = RowOutcome {
    agreed: false,
    nonfinite: true,
    primary_class: Some(1),
    candidate_class: None,
    delta: None,
    scores: None,
    distance: None,
};
const OK: RowOutcome = RowOutcome {
    agreed: true,
    nonfinite: false,
    candidate_class: Some(1),
    delta: Some(0.25),
    scores: Some((0.5, 0.75)),
    ..NAN
};
const FLIP: RowOutcome =
    RowOutcome { nonfinite: false, candidate_class: Some(0), delta: Some(-0.5), scores: Some((0.75, 0.25)), ..NAN };

fn tally() -> Tally {
    Tally::new(1, &["no".to_owned(), "yes".to_owned()])
}

#[test]
fn a_ticket_ends_once() {
    let mut tally = tally();
    let tickets: Vec<Ticket> = (0..4).map(|_| tally.begin(3)).collect();
    assert_eq!((tally.exchanges().in_flight(), tally.rows().in_flight()), (4, 12));
    assert!(tally.holds());
    let latency = Latency { primary: 1000, candidate: 2000 };
    for (i, ticket) in tickets.into_iter().enumerate() {
        match i {
            0 => tally.compared(ticket, &[OK, FLIP, NAN], latency),
            1 => tally.dropped(ticket, DropReason::Undecodable),
            2 => tally.failed(ticket, 14),
            _ => tally.failed(ticket, 99),
        }
        assert!(tally.holds());
    }
    tally.lost(DropReason::ServerQueueFull, 2, 40);
    assert!(tally.holds());

    assert_eq!((tally.exchanges().offered(), tally.rows().offered()), (6, 52));
    assert_eq!((tally.rows().compared(), tally.agreed(), tally.nonfinite()), (3, 1, 1));
    assert_eq!(tally.rows().dropped(DropReason::Undecodable), 3);
    assert_eq!(tally.exchanges().failed().collect::<Vec<_>>(), [(2, 1), (14, 1)]);
    assert_eq!(tally.rows().coverage(), Some(3.0 / 52.0));
    assert_eq!((tally.delta().count(), tally.delta().mean()), (2, Some(-0.125)));
    assert_eq!((tally.primary_latency().count(), tally.candidate_latency().count()), (1, 1));
    let flips: Vec<_> = tally.flips().iter().map(|flip| (flip.primary, flip.candidate, flip.count)).collect();
    assert_eq!(flips, [("yes", "no", 1), ("yes", "yes", 1), ("yes", "other", 1)]);
}

#[test]
fn outcomes_must_fit_the_rows() {
    let mut tally = tally();
    let ticket = tally.begin(2);
    tally.compared(ticket, &[OK], Latency::default());
    assert_eq!((tally.rows().compared(), tally.agreed()), (0, 0));
    assert_eq!(tally.rows().dropped(DropReason::Incomparable), 2);
    assert!(tally.holds());
}

#[test]
fn an_ended_epoch_counts_nothing_more() {
    let mut old = tally();
    let (first, second) = (old.begin(1), old.begin(2));
    old.close(DropReason::Shutdown);
    assert_eq!((old.rows().in_flight(), old.rows().dropped(DropReason::Shutdown)), (0, 3));
    old.failed(first, 4);
    assert_eq!((old.stale(), old.exchanges().failed_total()), (1, 0));
    let late = old.begin(5);
    assert_eq!(old.rows().dropped(DropReason::Shutdown), 8);
    old.compared(late, &[OK; 5], Latency::default());
    assert_eq!((old.agreed(), old.stale()), (0, 2));
    assert!(old.holds());

    let mut new = Tally::new(2, &[]);
    let mine = new.begin(2);
    new.compared(second, &[OK, OK], Latency::default());
    assert_eq!((new.stale(), new.agreed(), new.rows().in_flight()), (1, 0, 2));
    assert!(new.holds());
    new.compared(mine, &[OK, FLIP], Latency::default());
    assert_eq!((new.agreed(), new.rows().in_flight()), (1, 0));
    assert!(new.flips().iter().next().is_none());
}

/// Where the primary had no answer there is nothing the candidate could have missed.
#[test]
fn coverage_is_of_what_could_be_compared() {
    let mut tally = tally();
    assert_eq!(tally.rows().coverage(), None);
    tally.lost(DropReason::PrimaryError, 5, 50);
    tally.lost(DropReason::OtherModel, 7, 70);
    assert_eq!((tally.rows().coverage(), tally.rows().eligible()), (None, 0));
    let ticket = tally.begin(1);
    assert_eq!(tally.rows().coverage(), None);
    tally.compared(ticket, &[OK], Latency::default());
    assert_eq!(tally.rows().coverage(), Some(1.0));
    tally.lost(DropReason::QueueFull, 1, 3);
    assert_eq!(tally.rows().coverage(), Some(0.25));
}

#[test]
fn many_classes_share_a_counter() {
    let classes: Vec<String> = (0..1000).map(|i| format!("c{i}")).collect();
    let mut tally = Tally::new(1, &classes);
    for (primary, candidate) in [(0, 63), (64, 999), (u32::MAX, 1)] {
        let ticket = tally.begin(1);
        let outcome = RowOutcome { primary_class: Some(primary), candidate_class: Some(candidate), ..OK };
        tally.compared(ticket, &[outcome], Latency::default());
    }
    let flips: Vec<_> = tally.flips().iter().map(|flip| (flip.primary, flip.candidate)).collect();
    assert_eq!(flips, [("c0", "c63"), ("other", "c1"), ("other", "other")]);
}

/// However many rows a request has, it is one observation.
#[test]
fn an_exchange_is_one_observation() {
    let mut tally = tally();
    let exchanges: [&[RowOutcome]; 5] = [&[OK], &[OK, OK, OK, FLIP], &[], &[NAN, FLIP], &[OK; 50]];
    for outcomes in exchanges {
        let ticket = tally.begin(outcomes.len() as u64);
        tally.compared(ticket, outcomes, Latency::default());
    }
    assert_eq!((tally.exchanges().compared(), tally.rows().compared(), tally.agreed()), (5, 57, 54));
    assert_eq!((tally.observations(), tally.shares()), (4, 2.75));
    let gates = Gates { gate: 0.5, abort: Some(0.25), ..Gates::default() };
    let evidence = tally.evidence(&gates);
    assert_eq!(evidence.above, log_e_above(4, 2.75, 0.5, gates.prior));
    assert_eq!(evidence.below, log_e_below(4, 2.75, 0.25, gates.prior));

    // What was not compared is no observation, here.
    let ticket = tally.begin(3);
    tally.failed(ticket, 14);
    tally.lost(DropReason::QueueFull, 1, 9);
    assert_eq!((tally.observations(), tally.shares()), (4, 2.75));
    let copy = tally.clone();
    assert!(tally.merge(&copy) && tally.holds());
    assert_eq!((tally.observations(), tally.shares()), (8, 5.5));
}

/// The largest evidence stays, but only evidence about the same gates.
#[test]
fn evidence_is_kept() {
    let gates = Gates { gate: 0.9, ..Gates::default() };
    let mut tally = tally();
    let rows = |tally: &mut Tally, outcome: RowOutcome, count: usize| {
        for _ in 0..count {
            let ticket = tally.begin(1);
            tally.compared(ticket, &[outcome], Latency::default());
        }
    };
    rows(&mut tally, OK, 100);
    tally.look(&gates);
    let best = tally.evidence(&gates).above;
    assert!(best > 20f64.ln());
    rows(&mut tally, FLIP, 100);
    tally.look(&gates);
    assert_eq!(tally.evidence(&gates).above, best);
    assert!(tally.evidence(&gates).below > 20f64.ln());
    // Evidence at other gates is not mixed in; gates that ask nothing about agreement don't matter.
    assert!(tally.evidence(&Gates { gate: 0.95, ..gates }).above < 0.0);
    assert_eq!(tally.evidence(&Gates { min_pairs: 7, ..gates }).above, best);
    // A maximum over replicas would not be evidence.
    let other = Tally::new(9, &["no".to_owned(), "yes".to_owned()]);
    assert!(tally.merge(&other));
    assert!(tally.evidence(&gates).above < 0.0);
}

#[test]
fn epochs_with_other_classes_are_not_added_up() {
    let mut tally = tally();
    let mut other = Tally::new(1, &["a".to_owned()]);
    other.lost(DropReason::QueueFull, 1, 1);
    assert!(!tally.merge(&other));
    assert_eq!(tally.rows().offered(), 0);
}

#[test]
fn sums_do_not_overflow() {
    let mut tally = tally();
    tally.lost(DropReason::ServerQueueFull, u64::MAX, u64::MAX);
    tally.lost(DropReason::QueueFull, 5, 5);
    let ticket = tally.begin(1);
    tally.failed(ticket, 13);
    let copy = tally.clone();
    assert!(tally.merge(&copy));
    assert!(tally.holds());
}

/// The candidate disagrees in as many rows as the primary does with itself: nothing speaks against it.
#[test]
fn the_noise_floor_is_paired() {
    let mut tally = tally();
    assert_eq!(tally.noise_floor().excess(0.05), None);
    for i in 0..4000 {
        let ticket = tally.begin(2);
        let candidate = if i % 10 == 0 { [OK, FLIP] } else { [OK, OK] };
        let again = if i % 10 == 5 { [OK, FLIP] } else { [OK, OK] };
        tally.compared(ticket, Outcomes::of(&candidate).with_noise(&again), Latency::default());
    }
    tally.noise(&[OK]);
    let noise = *tally.noise_floor();
    assert_eq!((noise.compared(), noise.agreed(), noise.observations(), noise.paired()), (8001, 7601, 4001, 4000));
    assert_eq!(noise.shares(), 3801.0);
    let (lower, mean, upper) = noise.excess(0.05).unwrap_or_default();
    assert!(lower < 0.0 && upper > 0.0 && mean.abs() < 1e-9 && upper - lower < 0.05, "{lower} {mean} {upper}");
    // A candidate that is worse than the noise is found out.
    for _ in 0..2000 {
        let ticket = tally.begin(1);
        tally.compared(ticket, Outcomes::of(&[FLIP]).with_noise(&[OK]), Latency::default());
    }
    assert!(tally.noise_floor().excess(0.05).is_some_and(|(lower, ..)| lower > 0.2));
    // It changes nothing in what is known of the candidate, and an ended epoch counts nothing.
    assert_eq!((tally.observations(), tally.rows().compared()), (6000, 10_000));
    let copy = tally.clone();
    assert!(tally.merge(&copy));
    assert_eq!(tally.noise_floor().paired(), 12_000);
    tally.close(DropReason::Shutdown);
    tally.noise(&[OK]);
    assert_eq!(tally.noise_floor().observations(), 12_002);
}

/// What is known of scores, slices and latencies adds up over replicas.
#[test]
fn what_is_measured_adds_up() {
    let measures = Measures { slices: vec!["a".to_owned(), "b".to_owned()], latency_ratio: 1.5, ..Measures::default() };
    let new = || tally().measuring(&measures);
    let exchanges: [(&[RowOutcome], &[u16], u64); 3] =
        [(&[OK, FLIP, OK], &[0, 1, 1], 1500), (&[OK], &[0], 1501), (&[NAN, FLIP], &[1, 1], 9000)];
    let run = |tally: &mut Tally, exchanges: &[(&[RowOutcome], &[u16], u64)]| {
        for &(outcomes, slices, candidate) in exchanges {
            let ticket = tally.begin(outcomes.len() as u64);
            tally.compared(ticket, Outcomes::of(outcomes).with_slices(slices), Latency { primary: 1000, candidate });
        }
    };
    let (mut left, mut right, mut whole) = (new(), new(), new());
    run(&mut whole, &exchanges);
    run(&mut left, &exchanges[..1]);
    run(&mut right, &exchanges[1..]);
    assert!(left.merge(&right));
    for tally in [&whole, &left] {
        assert_eq!(tally.slower(), 2);
        let slices: Vec<_> = tally
            .slices()
            .iter()
            .map(|(name, slice)| (name, slice.compared(), slice.agreed(), slice.observations(), slice.shares()))
            .collect();
        assert_eq!(slices, [("a", 2, 2, 2, 2.0), ("b", 4, 1, 2, 0.5)]);
        let scores = tally.scores();
        assert_eq!((scores.delta().count(), scores.bins().count(), scores.correlation().count()), (5, 5, 5));
        // Exchange means 0, 0.25 and -0.5.
        let (lower, mean, upper) = scores.shift(0.05).unwrap_or_default();
        assert!((mean - -0.25 / 3.0).abs() < 1e-12 && (lower, upper) == (-1.0, 1.0), "{lower} {mean} {upper}");
        assert!(tally.holds());
    }
    // Slices that do not fit the rows are not counted; other slices are not added up.
    let ticket = whole.begin(2);
    whole.compared(ticket, Outcomes::of(&[OK, OK]).with_slices(&[0, 1, 1]), Latency::default());
    assert_eq!(whole.slices().iter().map(|(_, slice)| slice.compared()).sum::<u64>(), 6);
    assert!(!whole.merge(&tally()));
    assert!(!whole.merge(&tally().measuring(&Measures { latency_ratio: 2.0, ..measures.clone() })));
}

#[test]
fn quantile_levels_have_sums_of_their_own() {
    let measures = Measures { task: Task::Quantile, levels: vec!["0.1".into(), "0.9".into()], ..Measures::default() };
    let mut tally = Tally::new(1, &[]).measuring(&measures);
    let ticket = tally.begin(2);
    tally.compared(ticket, Outcomes::of(&[OK, OK]).with_levels(&[0.5, -1.0, 1.5, f64::NAN]), Latency::default());
    let levels: Vec<_> = tally.scores().levels().map(|(name, level)| (name, level.count(), level.mean())).collect();
    assert_eq!(levels, [("0.1", 2, Some(1.0)), ("0.9", 1, Some(-1.0))]);
}

#[test]
fn kappa_is_agreement_beyond_chance() {
    let kappa = |pairs: &[(u32, u32, usize)]| {
        let mut tally = tally();
        for &(primary, candidate, count) in pairs {
            for _ in 0..count {
                let ticket = tally.begin(1);
                let (primary_class, candidate_class) = (Some(primary), Some(candidate));
                tally.compared(ticket, &[RowOutcome { primary_class, candidate_class, ..OK }], Latency::default());
            }
        }
        tally.flips().kappa()
    };
    // The textbook's: 20 and 15 of 50 agree, by chance half would.
    let textbook = kappa(&[(0, 0, 20), (0, 1, 5), (1, 0, 10), (1, 1, 15)]).unwrap();
    assert!((textbook - 0.4).abs() < 1e-12, "{textbook}");
    assert_eq!(kappa(&[(0, 0, 3), (1, 1, 5)]), Some(1.0));
    assert_eq!(kappa(&[(0, 1, 3), (1, 0, 3)]), Some(-1.0));
    assert_eq!((kappa(&[]), kappa(&[(1, 1, 9)])), (None, None));
    assert_eq!(Tally::new(1, &[]).flips().kappa(), None);
}

/// A state that was written before there was one more reason is still read.
#[test]
fn counts_of_fewer_reasons_are_read() {
    let mut tally = Tally::new(1, &[]);
    tally.lost(DropReason::Ttl, 3, 7);
    let mut written = ciborium::Value::serialized(tally.exchanges()).unwrap();
    let fields = written.as_map_mut().unwrap();
    let (_, dropped) = fields.iter_mut().find(|(key, _)| key.as_text() == Some("dropped")).unwrap();
    let reasons = dropped.as_array_mut().unwrap();
    reasons.pop();
    let read: Conservation = written.deserialized().unwrap();
    assert_eq!(&read, tally.exchanges());
    let (_, dropped) =
        written.as_map_mut().unwrap().iter_mut().find(|(key, _)| key.as_text() == Some("dropped")).unwrap();
    dropped.as_array_mut().unwrap().extend([0.into(), 0.into()]);
    assert!(written.deserialized::<Conservation>().is_err(), "of a later version");
}
