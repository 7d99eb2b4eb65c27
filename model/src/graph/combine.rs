//! Nodes that only read nodes: AutoGluon's ensembles, to the last rounding.

/// Predictions are kept this far from 0 and 1: `normalize_pred_probas` of AutoGluon 1.6.
const EPSILON: f64 = 1e-7;
/// numpy's logarithms and exponentials in single precision are its own, a few units in the last place from the C library's.
const SINGLE_TOLERANCE: f64 = 5e-7;

/// How the outputs of nodes become one.
#[derive(Debug)]
pub(crate) struct Combine {
    inputs: Vec<usize>,
    width: usize,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Weighted { weights: Vec<f64> },
    Bag,
    Concat { widths: Vec<usize> },
    Temperature { temperature: f64, single: bool },
}

impl Combine {
    /// The sum of the inputs, each times its weight, in double precision.
    pub(crate) fn weighted(inputs: Vec<usize>, weights: Vec<f64>, width: usize) -> Self {
        Self { inputs, width, way: Way::Weighted { weights } }
    }

    /// The mean of the inputs in single precision.
    pub(crate) fn bag(inputs: Vec<usize>, width: usize) -> Self {
        Self { inputs, width, way: Way::Bag }
    }

    /// The inputs one after another.
    pub(crate) fn concat(inputs: Vec<usize>, widths: Vec<usize>) -> Self {
        Self { inputs, width: widths.iter().sum(), way: Way::Concat { widths } }
    }

    /// The softmax of the logarithms divided by the temperature. `single`: the input is in single precision.
    pub(crate) fn temperature(input: usize, temperature: f64, width: usize, single: bool) -> Self {
        Self { inputs: vec![input], width, way: Way::Temperature { temperature, single } }
    }

    pub(crate) fn inputs(&self) -> &[usize] {
        &self.inputs
    }

    /// Numbers for a row.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// Whether the output is in single precision whatever the inputs are.
    pub(crate) fn is_single(&self) -> bool {
        matches!(self.way, Way::Bag)
    }

    /// Whether the outputs are numbers of the inputs.
    pub(crate) fn copies(&self) -> bool {
        matches!(self.way, Way::Concat { .. })
    }

    pub(crate) fn tolerance(&self) -> f64 {
        match self.way {
            Way::Temperature { single: true, .. } if self.width > 1 => SINGLE_TOLERANCE,
            _ => 0.0,
        }
    }

    /// Appends `[rows, width]`. `outputs`: of the nodes before.
    pub(crate) fn evaluate(&self, rows: usize, outputs: &[Vec<f64>], out: &mut Vec<f64>) {
        let start = out.len();
        out.resize(start + rows * self.width, 0.0);
        let out = &mut out[start..];
        match &self.way {
            Way::Weighted { weights } => {
                for (&input, weight) in self.inputs.iter().zip(weights) {
                    for (sum, number) in out.iter_mut().zip(&outputs[input]) {
                        *sum += number * weight;
                    }
                }
            }
            Way::Bag => {
                for &input in &self.inputs {
                    for (sum, number) in out.iter_mut().zip(&outputs[input]) {
                        *sum = f64::from(*sum as f32 + *number as f32);
                    }
                }
                let count = self.inputs.len() as f32;
                for sum in out.iter_mut() {
                    *sum = f64::from(*sum as f32 / count);
                }
            }
            Way::Concat { widths } => {
                let mut first = 0;
                for (&input, &width) in self.inputs.iter().zip(widths) {
                    let given = outputs[input].chunks_exact(width.max(1));
                    for (row, given) in out.chunks_exact_mut(self.width).zip(given) {
                        row[first..first + width].copy_from_slice(given);
                    }
                    first += width;
                }
            }
            Way::Temperature { temperature, single } => {
                out.copy_from_slice(&outputs[self.inputs[0]][..rows * self.width]);
                if self.width == 1 {
                    for p in out.iter_mut() {
                        *p = cooled(*p, *temperature);
                    }
                } else {
                    for row in out.chunks_exact_mut(self.width) {
                        cool(row, *temperature, *single);
                    }
                }
            }
        }
    }
}

/// The probability of the second of two classes, divided by a temperature. The first one's is 1 - p in single precision.
fn cooled(p: f64, temperature: f64) -> f64 {
    let logits = [f64::from(1.0 - p as f32), p].map(|p| p.ln() / temperature);
    let max = if logits[0] > logits[1] { logits[0] } else { logits[1] };
    let [first, second] = logits.map(|logit| (logit - max).exp());
    second / (first + second)
}

/// A row of probabilities, divided by a temperature.
fn cool(row: &mut [f64], temperature: f64, single: bool) {
    let round = |x: f64| if single { f64::from(x as f32) } else { x };
    for p in &mut *row {
        *p = round(round(p.ln()) / temperature);
    }
    let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    for p in &mut *row {
        *p = round(round(*p - max).exp());
    }
    let sum = round(row.iter().sum());
    for p in row {
        *p = round(*p / sum);
    }
}

/// Keeps probabilities away from 0 and 1: `normalize_pred_probas`. AutoGluon does it for several classes if any number of the
/// whole batch is too small; here a row does not depend on its neighbours.
pub(crate) fn normalize(out: &mut [f64], width: usize) {
    const TOP: f64 = 1.0 - EPSILON;
    if width == 1 {
        for p in out {
            if *p > TOP {
                *p = 1.0 - EPSILON * (-(*p - TOP)).exp();
            }
            if *p < EPSILON {
                *p = EPSILON * (-(EPSILON - *p)).exp();
            }
        }
        return;
    }
    for row in out.chunks_exact_mut(width) {
        let least = row.iter().copied().fold(f64::INFINITY, f64::min);
        if least < 0.0 {
            for p in row.iter_mut() {
                *p -= least;
            }
        }
        if least < EPSILON {
            for p in row.iter_mut() {
                *p = if *p < EPSILON { EPSILON } else { *p };
            }
            let sum: f64 = row.iter().sum();
            for p in row.iter_mut() {
                *p /= sum;
            }
        }
    }
}
