//! What the graph asks of a model that reads rows, and how each kind answers.

use std::fmt::Debug;

use crate::batch::Rows;
use crate::catboost;
use crate::forest::Forest;
use crate::lightgbm;
use crate::linear::Linear;
use crate::mlp::Mlp;
use crate::xgboost;

/// BLAS adds products in an order of its own, that of the processor it was made for.
const LINEAR_TOLERANCE: f64 = 1e-12;
/// torch adds in single precision, in another order for one row than for many.
const NETWORK_TOLERANCE: f64 = 5e-7;

/// A model that reads rows.
pub(crate) trait Evaluator: Debug + Send + Sync {
    /// Numbers for a row.
    fn outputs(&self) -> usize;

    /// Appends the outputs, `[rows, outputs]`. The rows hold what the model reads at the places it was given.
    fn evaluate(&self, rows: Rows<'_>, out: &mut Vec<f64>);

    /// Whether the outputs are probabilities.
    fn gives_probabilities(&self) -> bool;

    /// Whether the outputs are single-precision numbers.
    fn is_single(&self) -> bool {
        false
    }

    /// How far an output may be from the trainer's, relative to numbers greater than 1: 0 is to the bit.
    fn tolerance(&self) -> f64 {
        0.0
    }

    /// Trees and leaves.
    fn size(&self) -> (usize, usize) {
        (0, 0)
    }
}

/// What each kind has under the same names.
macro_rules! own {
    () => {
        fn outputs(&self) -> usize {
            Self::outputs(self)
        }

        fn evaluate(&self, rows: Rows<'_>, out: &mut Vec<f64>) {
            Self::evaluate(self, rows, out);
        }
    };
}

/// The same, of trees.
macro_rules! trees {
    ($probabilities:expr) => {
        own!();

        fn gives_probabilities(&self) -> bool {
            $probabilities(self)
        }

        fn size(&self) -> (usize, usize) {
            (self.trees(), self.leaves())
        }
    };
}

impl Evaluator for lightgbm::Booster {
    trees!(|booster: &Self| booster.objective().is_probability());
}

impl Evaluator for xgboost::Booster {
    trees!(Self::is_probability);

    fn is_single(&self) -> bool {
        true
    }
}

impl Evaluator for catboost::Booster {
    trees!(Self::is_probability);
}

impl Evaluator for Forest {
    trees!(Self::is_probability);
}

impl Evaluator for Linear {
    own!();

    fn gives_probabilities(&self) -> bool {
        self.link().is_probability()
    }

    fn tolerance(&self) -> f64 {
        LINEAR_TOLERANCE
    }
}

impl Evaluator for Mlp {
    own!();

    fn gives_probabilities(&self) -> bool {
        Self::gives_probabilities(self)
    }

    fn is_single(&self) -> bool {
        true
    }

    fn tolerance(&self) -> f64 {
        NETWORK_TOLERANCE
    }
}
