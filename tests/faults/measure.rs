//! The measuring rule: pairs of windows, interleaved ABBA; "within 5 %" is a median of the paired ratios of at most 1.05 whose
//! bootstrap bound of 95 % is at most 1.10, or a change of at most 0.3 ms, or what two windows without shadowing differ by.

use std::time::Duration;

use support::open_loop::Seen;

/// Of the median ratio.
const RATIO: f64 = 1.05;
/// Of its upper bound.
const UPPER: f64 = 1.10;
/// In the p99, whatever the ratio.
const CHANGE: Duration = Duration::from_micros(300);
/// Resamples of the bootstrap.
const RESAMPLES: usize = 2_000;

/// Whether shadowing is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Off,
    On,
}

impl Kind {
    /// Off, on, on, off, off, on...
    pub(crate) fn order(pairs: usize) -> impl Iterator<Item = Self> {
        (0..pairs).flat_map(|pair| if pair % 2 == 0 { [Self::Off, Self::On] } else { [Self::On, Self::Off] })
    }
}

/// What was seen in each window, in order.
#[derive(Debug, Default)]
pub(crate) struct Windows {
    p99: Vec<(Kind, Duration)>,
    /// Calls in all, those that failed, and why.
    pub(crate) calls: u64,
    pub(crate) failed: u64,
    pub(crate) errors: Vec<String>,
}

/// What the windows say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Judgement {
    off: Duration,
    on: Duration,
    ratio: f64,
    upper: f64,
    /// Of neighbouring windows of the same kind: the larger p99 by the smaller.
    floor: f64,
}

impl Windows {
    pub(crate) fn push(&mut self, kind: Kind, seen: &Seen) {
        self.p99.push((kind, seen.p99()));
        self.calls += seen.calls;
        self.failed += seen.failed;
        self.errors.extend(seen.errors.iter().take(3).cloned());
    }

    fn of(&self, kind: Kind) -> Vec<f64> {
        self.p99.iter().filter(|(own, _)| *own == kind).map(|(_, p99)| p99.as_secs_f64()).collect()
    }

    pub(crate) fn judge(&self) -> Judgement {
        let (off, on) = (self.of(Kind::Off), self.of(Kind::On));
        let ratios: Vec<f64> = on.iter().zip(&off).map(|(on, off)| on / off).collect();
        let alike = self.p99.windows(2).filter(|pair| pair[0].0 == pair[1].0);
        let alike = alike.map(|pair| {
            let [first, second] = [pair[0].1.as_secs_f64(), pair[1].1.as_secs_f64()];
            first.max(second) / first.min(second)
        });
        Judgement {
            off: Duration::from_secs_f64(median(off)),
            on: Duration::from_secs_f64(median(on)),
            upper: upper_bound(&ratios),
            ratio: median(ratios),
            floor: median(alike.collect()),
        }
    }
}

impl Judgement {
    /// Whether the primary's p99 is what it would have been.
    pub(crate) fn within(&self) -> bool {
        let close = self.ratio <= RATIO && self.upper <= UPPER;
        close || self.on <= self.off + CHANGE || self.ratio <= self.floor
    }
}

impl std::fmt::Display for Judgement {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [off, on] = [self.off, self.on].map(|time| time.as_secs_f64() * 1e3);
        let (ratio, upper, floor) = (self.ratio, self.upper, self.floor);
        write!(out, "p99 {off:.2} -> {on:.2} ms, ratio {ratio:.2} (< {upper:.2}), floor {floor:.2}")
    }
}

/// Zero of nothing; the mean of the two in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

/// Efron's percentile bootstrap of the median, one-sided, 95 %; always with the same draws.
fn upper_bound(values: &[f64]) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    // SplitMix64.
    let mut state = 0_u64;
    let mut draw = |below: usize| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) % below as u64) as usize
    };
    let mut medians: Vec<f64> =
        (0..RESAMPLES).map(|_| median((0..values.len()).map(|_| values[draw(values.len())]).collect())).collect();
    medians.sort_by(f64::total_cmp);
    medians[RESAMPLES * 95 / 100]
}
