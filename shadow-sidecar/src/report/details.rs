//! What a report says beyond agreement.

use understudy::v1;

use crate::{
    compare::Task,
    stats::ranks::{self, Quantile},
    tally::{DropReason, Tally},
    verdict::{self, Figures, Gates},
};

/// Of the latencies' quantiles.
const LEVELS: [f64; 3] = [0.5, 0.95, 0.99];

/// The candidate is asked only what the primary has answered.
pub(super) fn statuses(tally: &Tally) -> v1::Statuses {
    let exchanges = tally.exchanges();
    v1::Statuses {
        both_ok: exchanges.compared() + exchanges.dropped(DropReason::Incomparable),
        candidate_failed: exchanges.failed_total(),
        primary_failed: exchanges.dropped(DropReason::PrimaryError),
    }
}

pub(super) fn distances(tally: &Tally, alpha: f64) -> Option<v1::Distances> {
    let distances = tally.scores().distances();
    let (divergence, divergence_upper) = distances.divergence(alpha)?;
    Some(v1::Distances {
        count: distances.count(),
        largest: distances.largest(),
        mean: distances.mean()?,
        squared: distances.squared()?,
        divergence,
        divergence_upper,
        relative_entropy: distances.relative_entropy(),
    })
}

pub(super) fn values(tally: &Tally, task: Task) -> Option<v1::Values> {
    let scores = tally.scores();
    let quantile = |q: f64| scores.sizes().quantile(q);
    let of_values = matches!(task, Task::Regression | Task::Quantile | Task::Tensor);
    let p50 = quantile(0.5).filter(|_| of_values)?;
    Some(v1::Values {
        correlation: scores.correlation().pearson(),
        p50,
        p95: quantile(0.95)?,
        p99: quantile(0.99)?,
        mean_relative: scores.relative().mean().unwrap_or_default(),
        mean_absolute_relative: scores.relative().mean_absolute().unwrap_or_default(),
    })
}

pub(super) fn scores(tally: &Tally, figures: &Figures) -> Option<v1::ScoreDistribution> {
    let bins = tally.scores().bins();
    let (shift_lower, shift, shift_upper) = figures.score_shift.map_or((0.0, None, 0.0), |(l, m, u)| (l, Some(m), u));
    Some(v1::ScoreDistribution {
        bins: bins.iter().map(|(from, to, primary, candidate)| v1::ScoreBin { from, to, primary, candidate }).collect(),
        stability_index: bins.stability_index()?,
        divergence: bins.divergence()?,
        shift,
        shift_lower,
        shift_upper,
        kolmogorov_smirnov: bins.kolmogorov_smirnov()?,
        wasserstein: bins.wasserstein()?,
    })
}

/// Elements of tensors have no order in which rows could be ranked.
pub(super) fn ranking(tally: &Tally) -> Option<v1::Ranking> {
    let ranks = tally.scores().ranking().ranks()?;
    Some(v1::Ranking {
        rows: ranks.rows as u64,
        spearman: ranks.spearman,
        kendall: ranks.kendall,
        top: ranks.top as u64,
        top_overlap: ranks.overlap,
        top_gain: ranks.gain,
    })
}

pub(super) fn latency(tally: &Tally, figures: &Figures, gates: &Gates) -> Option<v1::LatencyComparison> {
    let slower = &figures.slower;
    let ratio = |level: f64| {
        ranks::ratio(tally.primary_latency(), tally.candidate_latency(), level, gates.alpha, ranks::PRIOR)
            .map(|Quantile { value, lower, upper }| v1::QuantileRatio { level, ratio: value, lower, upper })
    };
    (slower.of > 0).then(|| v1::LatencyComparison {
        ratio: slower.ratio,
        slower: slower.count,
        exchanges: slower.of,
        slower_lower: slower.lower,
        slower_upper: slower.upper,
        quantiles: LEVELS.into_iter().filter_map(ratio).collect(),
    })
}

pub(super) fn noise(tally: &Tally, figures: &Figures, alpha: f64) -> Option<v1::NoiseFloor> {
    let noise = tally.noise_floor();
    let n = noise.observations();
    let (lower, upper) = verdict::shown(n, noise.shares(), alpha);
    let (excess_lower, excess, excess_upper) = figures.excess.map_or((0.0, None, 0.0), |(l, m, u)| (l, Some(m), u));
    (n > 0).then(|| v1::NoiseFloor {
        compared: noise.compared(),
        agreed: noise.agreed(),
        observations: n,
        rate: Some(noise.shares() / n as f64),
        lower,
        upper,
        excess,
        excess_lower,
        excess_upper,
    })
}

pub(super) fn slices(tally: &Tally, gates: &Gates) -> Vec<v1::Slice> {
    let slices = verdict::slices(tally, gates).into_iter();
    slices
        .map(|slice| v1::Slice {
            name: slice.name,
            compared: slice.compared,
            agreed: slice.agreed,
            observations: slice.observations,
            rate: slice.rate,
            lower: slice.lower,
            upper: slice.upper,
            log_e: slice.log_e,
            log_e_below: slice.log_e_below,
            discovered: slice.discovered,
            shares: slice.shares,
        })
        .collect()
}
