//! LightGBM's nodes as conditions of a [`Forest`]: what its `missing_type`, `default_left` and zero threshold mean.

use super::{Ensemble, Missing, Split};
use crate::engine::forest::{Builder, Forest};

/// Values this near to zero are zero. LightGBM's constant (`kZeroThreshold`, meta.h) is a float widened to a double.
pub(crate) const ZERO: f64 = 1e-35_f32 as f64;

/// The forest that gives an ensemble's margins, unless a column is too rich for one. `positions`: for each column of the
/// model its position in a row.
///
/// At every node a value within [`ZERO`] is the number 0.0. What is missing goes to the default side: NaN where the
/// node's type is NaN, zero and NaN where it is zero; any other NaN is 0.0 (`NumericalDecision` in tree.h).
pub(crate) fn forest(ensemble: &Ensemble, positions: &[usize]) -> Option<Forest> {
    let mut builder = Builder::default();
    let mut nodes = Vec::new();
    for tree in ensemble.trees() {
        nodes.clear();
        for node in tree.nodes() {
            let position = positions[node.column as usize];
            let question = match &node.split {
                Split::Category { words } => builder.outside(position, words),
                Split::Numeric { threshold, missing, default_left } => {
                    let zero_is_above = 0.0 > *threshold;
                    let (zero, nan) = match missing {
                        Missing::Nothing => (zero_is_above, zero_is_above),
                        Missing::Zero => (!default_left, !default_left),
                        Missing::NaN => (zero_is_above, !default_left),
                    };
                    builder.above(position, ZERO, *threshold, zero, nan)
                }
            };
            nodes.push((question, node.left, node.right));
        }
        builder.tree(&nodes, tree.leaves());
    }
    builder.finish(ensemble.outputs())
}
