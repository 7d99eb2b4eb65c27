use std::time::Duration;

use ciborium::Value;

use super::*;
use crate::{compare::RowOutcome, state::Subject, tally::Latency};

/// Exchange number `n` of a stream: 1 to 4 rows, of which about one in nine disagrees.
fn exchange(n: u64) -> (Vec<RowOutcome>, Latency) {
    let row = |i: u64| {
        let agreed = !(n * 7 + i).is_multiple_of(9);
        let primary = ((n * 31 + i) % 97) as f64 / 97.0;
        let candidate = (primary + ((n + i) % 13) as f64 / 128.0).min(1.0);
        RowOutcome {
            agreed,
            primary_class: Some(0),
            candidate_class: Some(u32::from(!agreed)),
            delta: Some(candidate - primary),
            scores: Some((primary, candidate)),
            ..RowOutcome::default()
        }
    };
    ((0..=n % 4).map(row).collect(), Latency { primary: 1_000 + n, candidate: 1_500 + 3 * n })
}

fn classes() -> [String; 2] {
    ["a".to_owned(), "b".to_owned()]
}

fn count(exchanges: impl Iterator<Item = u64>) -> Tally {
    let mut tally = Tally::new(1, &classes());
    for n in exchanges {
        let (rows, latency) = exchange(n);
        let ticket = tally.begin(rows.len() as u64);
        if n % 50 == 3 {
            tally.failed(ticket, 14);
        } else {
            tally.compared(ticket, &rows, latency);
        }
        // Three thousand are two hours.
        tally.mark(Duration::from_millis(2_400 * n));
    }
    tally
}

/// What a replica would say, and what it has counted.
#[derive(Clone)]
struct One {
    address: &'static str,
    instance: String,
    primary_instance: String,
    kind: &'static str,
    sent: Sent,
}

fn one(address: &'static str, tally: Tally) -> One {
    let pair = |name: &str| (name.to_owned(), "1".to_owned());
    let subject = Subject {
        primary: pair("p"),
        candidate: pair("c"),
        task: v1::Task::Binary.into(),
        classes: classes().to_vec(),
        comparator: "labels".into(),
        proves: Some(Gates::default().question()),
    };
    let epoch = Saved {
        name: "c".into(),
        subject,
        number: tally.epoch(),
        manual_restarts: 0,
        started_unix_nanos: address.bytes().map(u64::from).sum(),
        observed_nanos: 7_200_000_000_000,
        tally,
        disagreements: crate::disagreements::Examples::default(),
        history: crate::history::History::default(),
    };
    let sent = Sent { epoch, gates: Gates { gate: 0.8, ..Gates::default() } };
    One { address, instance: address.into(), primary_instance: format!("server of {address}"), kind: "tap", sent }
}

fn answer(one: &One) -> Answer {
    let tally = seal(FORMAT, &one.sent).unwrap();
    let counters =
        v1::Counters { instance_id: one.instance.clone(), primary_instance_id: one.primary_instance.clone(), tally };
    let about = About {
        epoch: v1::Epoch { number: one.sent.epoch.number, task: v1::Task::Binary.into(), ..v1::Epoch::default() },
        task: Task::Binary,
        per_second: Some(2.5),
        observed_via: ["server", "in-process"].map(str::to_owned),
    };
    let intake = v1::Intake { connected: true, kind: one.kind.into(), ..v1::Intake::default() };
    let report = report::of(&one.sent.epoch.tally, &one.sent.gates, about);
    Answer {
        address: one.address.into(),
        report: Ok(v1::Report { counters: Some(counters), intake: Some(intake), ..report }),
    }
}

fn pool_of(all: &[One]) -> Pool {
    pool(&all.iter().map(answer).collect::<Vec<_>>(), &mut Memory::default())
}

fn standings(pool: &Pool) -> Vec<&Standing> {
    pool.replicas.iter().map(|replica| &replica.standing).collect()
}

fn refused(why: &str) -> Standing {
    Standing::Refused(why.into())
}

#[test]
fn a_pool_is_one_sidecar_that_has_seen_all() {
    let all = [
        one("a", count((0..3000).filter(|n| n % 3 == 0))),
        one("b", count((0..3000).filter(|n| n % 3 == 1))),
        one("cc", count((0..3000).filter(|n| n % 3 == 2))),
    ];
    let pooled = pool_of(&all);
    assert_eq!((pooled.pooled(), pooled.all(), pooled.missing().count()), (3, 3, 0));
    let pooled = pooled.report.unwrap();
    let whole = answer(&one("whole", count(0..3000))).report.unwrap();

    assert_eq!((&pooled.exchanges, &pooled.rows), (&whole.exchanges, &whole.rows));
    let agreement = |report: &v1::Report| v1::Agreement {
        // Each replica's guesses are its own.
        drift_lower: 0.0,
        drift_upper: 0.0,
        // That of one look, which is the largest where the tally never looked, either.
        ..report.agreement.unwrap()
    };
    assert_eq!(agreement(&pooled), agreement(&whole));
    assert_eq!(pooled.flips, whole.flips);
    assert_eq!(pooled.verdict(), whole.verdict());
    assert_eq!(pooled.reasons, whole.reasons);
    assert_eq!(pooled.pairs_needed, whole.pairs_needed);
    assert_eq!(
        (&pooled.primary_latency, &pooled.candidate_latency),
        (&whole.primary_latency, &whole.candidate_latency)
    );
    assert_eq!(pooled.latency, whole.latency);
    assert_eq!(pooled.scores.as_ref().unwrap().bins, whole.scores.as_ref().unwrap().bins);
    let index = |report: &v1::Report| report.scores.as_ref().unwrap().stability_index;
    assert_eq!(index(&pooled), index(&whole));
    assert_eq!(pooled.per_second, Some(7.5));
    let drift = |report: &v1::Report| report.agreement.as_ref().unwrap().drift_lower;
    let (pooled_drift, whole_drift) = (drift(&answer(&all[0]).report.unwrap()), drift(&whole));
    assert!(pooled_drift < whole_drift, "more exchanges, a closer bound");
}

#[test]
fn the_largest_group_is_pooled_and_the_others_are_told_why_not() {
    type Change = fn(&mut Sent);
    let tally = || count(0..100);
    let (a, b, c) = (one("a", tally()), one("b", tally()), one("cc", tally()));
    let differing: [(&str, Change); 6] = [
        ("gate 0.9, not 0.8", |sent| sent.gates.gate = 0.9),
        ("alpha 0.01, not 0.05; min-duration 5s, not 3600s", |sent| {
            sent.gates.alpha = 0.01;
            sent.gates.min_duration = Duration::from_secs(5);
        }),
        ("primary p 2, not p 1", |sent| sent.epoch.subject.primary.1 = "2".into()),
        ("candidate d 1, not c 1", |sent| sent.epoch.subject.candidate.0 = "d".into()),
        ("epochs begun by hand: 1, not 0", |sent| sent.epoch.manual_restarts = 1),
        ("the outputs of its models are read in another way", |sent| sent.epoch.subject.comparator = "values".into()),
    ];
    for (why, change) in differing {
        let mut other = c.clone();
        change(&mut other.sent);
        // Wherever it stands: the others are more.
        for all in [[a.clone(), b.clone(), other.clone()], [other.clone(), a.clone(), b.clone()]] {
            let pooled = pool_of(&all);
            assert_eq!((pooled.pooled(), pooled.all()), (2, 3), "{why}");
            assert_eq!(pooled.missing().collect::<Vec<_>>(), [("cc", why)]);
            assert_eq!(pooled.report.unwrap().exchanges.unwrap().offered, 200, "{why}");
        }
    }
    // One against one: the one that has seen more, whatever it has seen.
    let mut more = one("more", count(0..101));
    more.sent.gates.gate = 0.9;
    let pooled = pool_of(&[a.clone(), more]);
    assert_eq!(standings(&pooled), [&refused("gate 0.8, not 0.9"), &Standing::Pooled]);

    // The number of an epoch is its process's own.
    let mut later = one("later", Tally::new(7, &classes()));
    later.sent.epoch.number = 7;
    assert_eq!(pool_of(&[a, later]).pooled(), 2);
}

#[test]
fn nothing_is_counted_twice() {
    let (a, b) = (one("a", count(0..100)), one("b", count(100..200)));
    let with = |change: fn(&mut One)| {
        let mut other = b.clone();
        change(&mut other);
        other
    };
    let same = with(|other| other.instance = "a".into());
    let pooled = pool_of(&[a.clone(), same]);
    assert_eq!((pooled.pooled(), pooled.all()), (1, 1));
    assert_eq!(standings(&pooled), [&Standing::Pooled, &Standing::Same("a".into())]);

    let beside = with(|other| other.primary_instance = "server of a".into());
    let pooled = pool_of(&[a.clone(), beside.clone()]);
    let why = "it follows the tap of the same server as a: exchanges would be counted twice";
    assert_eq!(standings(&pooled), [&Standing::Pooled, &refused(why)]);
    // A mesh sends each request to one of them only, or so it is hoped.
    let [mut one, mut other] = [a.clone(), beside];
    (one.kind, other.kind) = ("mirror", "mirror");
    assert_eq!(pool_of(&[one, other]).pooled(), 2);

    let mut twin = b.clone();
    twin.sent.epoch.started_unix_nanos = a.sent.epoch.started_unix_nanos;
    let why = "it goes on with the same counts as a: both began with one state file";
    assert_eq!(standings(&pool_of(&[a, twin])), [&Standing::Pooled, &refused(why)]);
}

#[test]
fn who_says_nothing_is_named() {
    let silent = Answer { address: "gone".into(), report: Err("nobody listens".into()) };
    let intake = v1::Intake { last_error: "no tap".into(), ..v1::Intake::default() };
    let idle = v1::Report { intake: Some(intake), ..v1::Report::default() };
    let old = v1::Report { agreement: Some(v1::Agreement::default()), ..v1::Report::default() };
    let told = |address: &str, report| Answer { address: address.into(), report: Ok(report) };
    let answers = [silent, told("idle", idle), told("old", old), answer(&one("a", count(0..10)))];
    let pooled = pool(&answers, &mut Memory::default());
    let missing: Vec<_> = pooled.missing().collect();
    let expected = [
        ("gone", "nobody listens"),
        ("idle", "it has no epoch yet: no tap"),
        ("old", "it sends no counters: a sidecar of an earlier version"),
    ];
    assert_eq!((missing.as_slice(), pooled.pooled(), pooled.all()), (&expected[..], 1, 4));
    let none = pool(&answers[..3], &mut Memory::default());
    assert!(none.report.is_none() && none.pooled() == 0);
}

/// Evidence of several looks is that of one stream, as long as it is one.
#[test]
fn evidence_stays_while_nothing_goes_missing() {
    // All agree, then none does: the evidence has been there.
    let agreeing = |rows: u64, n: u64| {
        let mut tally = Tally::new(1, &classes());
        for i in 0..n {
            let ticket = tally.begin(1);
            let outcome = RowOutcome { agreed: i < rows, ..RowOutcome::default() };
            tally.compared(ticket, &[outcome], Latency::default());
        }
        tally
    };
    let log_e = |all: &[One], memory: &mut Memory| {
        let answers: Vec<Answer> = all.iter().map(answer).collect();
        pool(&answers, memory).report.unwrap().agreement.unwrap().log_e
    };
    let (good, other) = (one("a", agreeing(50, 50)), one("b", agreeing(50, 50)));
    let later = one("a", agreeing(50, 90));
    let mut memory = Memory::default();
    let high = log_e(&[good.clone(), other.clone()], &mut memory);
    assert!(high > 3.0, "{high}");
    let third = one("third", agreeing(0, 30));
    assert_eq!(log_e(&[later.clone(), other.clone(), third.clone()], &mut memory), high, "more of the same stream");
    let fresh = log_e(&[later.clone(), other.clone()], &mut Memory::default());
    assert_eq!(log_e(&[later, other.clone()], &mut memory), fresh, "one has gone");

    let mut memory = Memory::default();
    log_e(&[good.clone(), other.clone()], &mut memory);
    let less = one("a", agreeing(49, 49));
    let fresh = log_e(&[less.clone(), other.clone(), third.clone()], &mut Memory::default());
    assert_eq!(log_e(&[less, other, third], &mut memory), fresh, "one has lost counts");
}

/// A replica is another process: what it sends may be anything.
#[test]
fn counters_that_are_wrong_are_refused_and_none_panics() {
    let (good, spoiled) = (one("a", count(0..60)), one("b", count(60..120)));
    let whole = answer(&spoiled).report.unwrap();
    let sealed = whole.counters.clone().unwrap().tally;
    let with = |tally: Vec<u8>| {
        let counters = Some(v1::Counters { tally, ..whole.counters.clone().unwrap() });
        let report = v1::Report { counters, ..whole.clone() };
        let answers = [answer(&good), Answer { address: "b".into(), report: Ok(report) }];
        pool(&answers, &mut Memory::default())
    };
    for length in (0..sealed.len()).step_by(61) {
        assert_eq!(with(sealed[..length].to_vec()).pooled(), 1, "cut after {length} bytes");
    }
    for at in (0..sealed.len()).step_by(61) {
        let mut changed = sealed.clone();
        changed[at] ^= 0x10;
        assert_eq!(with(changed).pooled(), 1, "byte {at} changed");
    }

    // Sealed again: every number and every list in it, one after the other, as somebody else might have it.
    let value = Value::serialized(&spoiled.sent).unwrap();
    let mut places = 0;
    let mut refusals = 0;
    for strange in [Value::from(u64::MAX), Value::from(1_u64 << 60), Value::from(-1), Value::from(f64::NAN)] {
        for place in 0.. {
            let mut changed = value.clone();
            let mut countdown = place;
            if !spoil(&mut changed, &strange, &mut countdown) {
                places = places.max(place);
                break;
            }
            refusals += u32::from(with(seal(FORMAT, &changed).unwrap()).pooled() == 1);
        }
    }
    assert!(places > 100 && refusals > 200, "{refusals} refusals, {places} places");
}

/// Replaces the number at `countdown`, or shortens the list there; of long lists only the first few. False when there is none.
fn spoil(value: &mut Value, strange: &Value, countdown: &mut usize) -> bool {
    let here = |countdown: &mut usize| {
        let here = *countdown == 0;
        *countdown = countdown.saturating_sub(1);
        here
    };
    match value {
        Value::Integer(_) | Value::Float(_) => {
            let here = here(countdown);
            if here {
                *value = strange.clone();
            }
            here
        }
        Value::Array(list) => {
            if !list.is_empty() && here(countdown) {
                list.pop();
                return true;
            }
            list.iter_mut().take(3).any(|value| spoil(value, strange, countdown))
        }
        Value::Map(map) => map.iter_mut().any(|(_, value)| spoil(value, strange, countdown)),
        _ => false,
    }
}
