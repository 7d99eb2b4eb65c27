//! Node type `linear`: scikit-learn's linear models, in double precision.
//!
//! Read at the source of scikit-learn 1.9 (`linear_model/_base.py`, `linear_model/_logistic.py`, `utils/extmath.py`) and
//! SciPy 1.17 (`csr_matvecs`, `expit`). With a sparse matrix the products are added in the order of the features, which
//! is what this module does; with a dense one BLAS adds them in an order of its own.

use crate::LoadError;
use crate::batch::Rows;
use crate::error::ensure;
use crate::link::Link;
use crate::package::GRAPH;

/// A linear model: for each output the features times their coefficients, plus an intercept.
#[derive(Debug)]
pub(crate) struct Linear {
    /// The feature's position in the row and its place in `coefficients`.
    terms: Vec<Term>,
    /// `[terms, outputs]`: what a feature adds to all outputs lies together.
    coefficients: Vec<f64>,
    intercepts: Vec<f64>,
    link: Link,
    outputs: usize,
}

#[derive(Debug, Clone, Copy)]
struct Term {
    position: usize,
    start: usize,
}

impl Linear {
    /// `coefficients`: `[outputs][features]`; `intercepts`: `[outputs]`; `positions`: where in a row the features are.
    /// `place`: the node, for messages.
    ///
    /// # Errors
    /// When the shapes contradict each other or the link, or a number is not finite.
    pub(crate) fn new(
        place: &str,
        coefficients: &[Vec<f64>],
        intercepts: Vec<f64>,
        link: Link,
        positions: &[usize],
    ) -> Result<Self, LoadError> {
        let what = |what: &str| format!("{place}, {what}");
        let outputs = intercepts.len();
        ensure(outputs > 0, GRAPH, &what("intercepts"), "at least one number", || "none".to_owned())?;
        let rows = coefficients.len();
        let expected = format!("{outputs} lists, as many as intercepts");
        ensure(rows == outputs, GRAPH, &what("coefficients"), &expected, || rows.to_string())?;
        let given = link.outputs(outputs);
        ensure(given.is_some(), GRAPH, &what("link"), "as many outputs as it converts", || outputs.to_string())?;
        for (output, (row, intercept)) in coefficients.iter().zip(&intercepts).enumerate() {
            let list = what(&format!("coefficients, list {output}"));
            let expected = format!("{} numbers, as many as features", positions.len());
            ensure(row.len() == positions.len(), GRAPH, &list, &expected, || row.len().to_string())?;
            let wrong = row.iter().find(|coefficient| !coefficient.is_finite());
            ensure(wrong.is_none(), GRAPH, &list, "finite numbers", || wrong.map_or_else(String::new, f64::to_string))?;
            let list = what(&format!("intercepts, {output}"));
            ensure(intercept.is_finite(), GRAPH, &list, "a finite number", || intercept.to_string())?;
        }
        let mut terms = Vec::with_capacity(positions.len());
        let mut by_feature = Vec::with_capacity(positions.len().saturating_mul(outputs));
        for (feature, &position) in positions.iter().enumerate() {
            terms.push(Term { position, start: by_feature.len() });
            by_feature.extend(coefficients.iter().map(|row| row[feature]));
        }
        Ok(Self { terms, coefficients: by_feature, intercepts, link, outputs: given.unwrap_or(0) })
    }

    /// How its sums become its output.
    pub(crate) fn link(&self) -> Link {
        self.link
    }

    /// Numbers for each row.
    pub(crate) fn outputs(&self) -> usize {
        self.outputs
    }

    /// Appends the output of each row, `[rows, outputs]`.
    pub(crate) fn evaluate(&self, rows: Rows<'_>, out: &mut Vec<f64>) {
        let (width, first) = (self.intercepts.len(), out.len());
        for row in rows.iter() {
            let start = out.len();
            if width == 1 {
                let mut sum = 0.0;
                for term in &self.terms {
                    sum += self.coefficients[term.start] * row[term.position];
                }
                out.push(sum);
            } else {
                out.resize(start + width, 0.0);
                let sums = &mut out[start..];
                for term in &self.terms {
                    let x = row[term.position];
                    // Most columns of a one-hot encoding are 0, and 0 times a finite number adds nothing.
                    if x != 0.0 {
                        let coefficients = &self.coefficients[term.start..term.start + width];
                        for (sum, coefficient) in sums.iter_mut().zip(coefficients) {
                            *sum += coefficient * x;
                        }
                    }
                }
            }
            for (sum, intercept) in out[start..].iter_mut().zip(&self.intercepts) {
                *sum += intercept;
            }
        }
        self.link.convert(out, first, width);
    }
}

#[cfg(test)]
mod tests;
