//! In which predeclared segments of rows the models differ.

use super::Gates;
use super::figures::shown;
use crate::stats::agreement::{log_e_above, log_e_below};
use crate::stats::discoveries::discoveries;
use crate::tally::Tally;

/// One slice, with bounds of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct SliceFigures {
    /// Its name.
    pub name: String,
    /// Rows compared.
    pub compared: u64,
    /// Rows that agreed.
    pub agreed: u64,
    /// Exchanges with a row in it.
    pub observations: u64,
    /// The sum over them of the share of agreeing rows.
    pub shares: f64,
    /// The mean share of agreeing rows per exchange. None before the first.
    pub rate: Option<f64>,
    /// Two-sided confidence sequence for agreement at level 1 - alpha, for this slice alone.
    pub lower: f64,
    /// Its upper end.
    pub upper: f64,
    /// Evidence for "agreement > gate", now.
    pub log_e: f64,
    /// Evidence for "agreement < gate - margin", now.
    pub log_e_below: f64,
    /// Whether it is proven to differ, all slices taken together: of those named, at most the share alpha is named
    /// wrongly, on average.
    pub discovered: bool,
}

/// All slices, those first that are proven to differ most: by the lower bound on their disagreement, which is 1 - `upper`;
/// a slice with few rows is not worst just because of them. Each is one hypothesis, also those without a row.
pub fn slices(tally: &Tally, gates: &Gates) -> Vec<SliceFigures> {
    let below = gates.gate - gates.slice_margin;
    let mut all: Vec<SliceFigures> = tally
        .slices()
        .iter()
        .map(|(name, slice)| {
            let (n, s) = (slice.observations(), slice.shares());
            let (lower, upper) = shown(n, s, gates.alpha);
            SliceFigures {
                name: name.to_owned(),
                compared: slice.compared(),
                agreed: slice.agreed(),
                observations: n,
                shares: s,
                rate: (n > 0).then(|| s / n as f64),
                lower,
                upper,
                log_e: log_e_above(n, s, gates.gate, gates.prior),
                log_e_below: log_e_below(n, s, below, gates.prior),
                discovered: false,
            }
        })
        .collect();
    let log_e: Vec<f64> = all.iter().map(|slice| slice.log_e_below).collect();
    for index in discoveries(&log_e, gates.alpha) {
        if let Some(slice) = all.get_mut(index) {
            slice.discovered = true;
        }
    }
    all.sort_by(|a, b| a.upper.total_cmp(&b.upper).then(b.observations.cmp(&a.observations)));
    all
}
