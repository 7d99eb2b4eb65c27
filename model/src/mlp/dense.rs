//! Linear layers: a matrix times the numbers of one row, or of several at once.
//!
//! The weights lie in panels of 16 outputs: for each input 16 weights side by side, so that one load serves 16 sums. Each
//! output's products are added in the order of the inputs, whatever the number of rows: a row's answer does not depend on
//! the rows beside it.
//!
//! The orders of addition are those in which MKL, torch's BLAS, multiplies a matrix of several rows on a processor with
//! AVX2, so that most layers are equal to torch's to the bit where products can be fused:
//!
//! - 11 outputs or more: one after another, in blocks of at most 192 inputs; each block's products are added to zero, and its
//!   sum to the bias and the blocks before.
//! - 2 to 10 outputs, as last layers have them: dot products without fusing, in four sums side by side for every whole group
//!   of four outputs and in eight for the others; the bias is added last.
//! - 1 output: there MKL's order depends on where the numbers lie in memory; here it is that of many outputs.

use std::ops::RangeInclusive;

use super::weights::Matrix;

/// Outputs of a panel: two registers of AVX2, one of AVX-512.
pub(super) const LANES: usize = 16;
/// Rows that are computed at once.
const ROWS: usize = 4;
/// Panels at once for one row, so that enough sums are under way.
const PANELS: usize = 4;

/// Inputs of a block, at most.
const BLOCK: usize = 192;

/// So many outputs have no panels.
const FEW: RangeInclusive<usize> = 2..=10;

type Lanes = [f32; LANES];

/// A linear layer.
#[derive(Debug)]
pub(super) struct Dense {
    inputs: usize,
    /// Inputs of a block.
    block: usize,
    /// `[panels][inputs]`, zeros where there is no output.
    panels: Vec<Lanes>,
    /// `[panels]`
    bias: Vec<Lanes>,
    /// For few outputs, instead of panels: `[outputs][inputs]`.
    rows: Vec<f32>,
}

/// The place of a row with so many numbers: whole panels.
pub(super) fn padded(width: usize) -> usize {
    width.next_multiple_of(LANES)
}

impl Dense {
    /// `weight`: `[out, in]`; `bias`: `[out]`.
    pub(super) fn new(weight: &Matrix, bias: Option<&[f32]>) -> Self {
        let (outputs, inputs) = (weight.rows, weight.width);
        let count = outputs.div_ceil(LANES);
        let few = FEW.contains(&outputs);
        let mut panels = vec![[0.0; LANES]; if few { 0 } else { count * inputs }];
        for (output, row) in weight.values.chunks_exact(inputs.max(1)).enumerate().filter(|_| !few) {
            let panel = &mut panels[output / LANES * inputs..][..inputs];
            for (lanes, value) in panel.iter_mut().zip(row) {
                lanes[output % LANES] = *value;
            }
        }
        let mut biases = vec![[0.0; LANES]; count];
        for (output, value) in bias.unwrap_or_default().iter().enumerate() {
            biases[output / LANES][output % LANES] = *value;
        }
        let block = if inputs <= BLOCK { inputs } else { BLOCK.min(inputs / 2) };
        let rows = if few { weight.values.clone() } else { Vec::new() };
        Self { inputs, block, panels, bias: biases, rows }
    }

    /// From `x`, rows of `from` numbers, to `y`, rows of `to`: both whole panels. `FUSED`: the processor has `mul_add`.
    #[inline(always)]
    pub(super) fn apply<const FUSED: bool>(&self, x: &[f32], from: usize, y: &mut [f32], to: usize) {
        if !self.rows.is_empty() {
            for (x, y) in x.chunks_exact(from).zip(y.chunks_exact_mut(to)) {
                self.apply_few(&x[..self.inputs], y);
            }
            return;
        }
        let whole = x.len() / from / ROWS * ROWS;
        let (x_blocks, x_rest) = x.split_at(whole * from);
        let (y_blocks, y_rest) = y.split_at_mut(whole * to);
        // A panel stays in the nearest cache while all rows pass by.
        for (index, bias) in self.bias.iter().enumerate() {
            let panel = self.panel(index);
            for (x, y) in x_blocks.chunks_exact(ROWS * from).zip(y_blocks.chunks_exact_mut(ROWS * to)) {
                let rows: [&[f32]; ROWS] = std::array::from_fn(|row| &x[row * from..][..self.inputs]);
                let sums = products::<FUSED, ROWS, 1>(rows, [panel], [bias], self.block);
                for (row, [sums]) in sums.iter().enumerate() {
                    y[row * to + index * LANES..][..LANES].copy_from_slice(sums);
                }
            }
        }
        for (x, y) in x_rest.chunks_exact(from).zip(y_rest.chunks_exact_mut(to)) {
            self.apply_to_row::<FUSED>(&x[..self.inputs], y);
        }
    }

    #[inline(always)]
    fn apply_to_row<const FUSED: bool>(&self, x: &[f32], y: &mut [f32]) {
        let mut index = 0;
        while index + PANELS <= self.bias.len() {
            let panels = std::array::from_fn(|panel| self.panel(index + panel));
            let bias = std::array::from_fn(|panel| &self.bias[index + panel]);
            let [sums] = products::<FUSED, 1, PANELS>([x], panels, bias, self.block);
            y[index * LANES..][..PANELS * LANES].copy_from_slice(sums.as_flattened());
            index += PANELS;
        }
        for index in index..self.bias.len() {
            let [[sums]] = products::<FUSED, 1, 1>([x], [self.panel(index)], [&self.bias[index]], self.block);
            y[index * LANES..][..LANES].copy_from_slice(&sums);
        }
    }

    /// One row, for few outputs.
    #[inline(always)]
    fn apply_few(&self, x: &[f32], y: &mut [f32]) {
        let grouped = self.rows.len() / self.inputs / 4 * 4;
        for (output, weights) in self.rows.chunks_exact(self.inputs).enumerate() {
            let sum = if output < grouped { dot::<4>(x, weights) } else { dot::<8>(x, weights) };
            y[output] = sum + self.bias[0][output];
        }
    }

    #[inline(always)]
    fn panel(&self, index: usize) -> &[Lanes] {
        &self.panels[index * self.inputs..][..self.inputs]
    }
}

/// The sums of products of `R` rows with `P` panels, and the bias. All rows and panels have the same length.
#[inline(always)]
fn products<const FUSED: bool, const R: usize, const P: usize>(
    rows: [&[f32]; R],
    panels: [&[Lanes]; P],
    bias: [&Lanes; P],
    block: usize,
) -> [[Lanes; P]; R] {
    let inputs = rows[0].len();
    let mut totals = [bias.map(|bias| *bias); R];
    let mut start = 0;
    while start < inputs {
        let end = (start + block).min(inputs);
        let sums =
            block_products::<FUSED, R, P>(rows.map(|row| &row[start..end]), panels.map(|panel| &panel[start..end]));
        for (total, sum) in
            totals.as_flattened_mut().as_flattened_mut().iter_mut().zip(sums.as_flattened().as_flattened())
        {
            *total += sum;
        }
        start = end;
    }
    totals
}

/// The sums of products of one block.
#[inline(always)]
fn block_products<const FUSED: bool, const R: usize, const P: usize>(
    rows: [&[f32]; R],
    panels: [&[Lanes]; P],
) -> [[Lanes; P]; R] {
    let inputs = rows[0].len();
    // Lengths that the compiler can see: no check in the loop.
    let rows = rows.map(|row| &row[..inputs]);
    let panels = panels.map(|panel| &panel[..inputs]);
    let mut sums = [[[0.0; LANES]; P]; R];
    for input in 0..inputs {
        for (row, sums) in rows.iter().zip(&mut sums) {
            let x = row[input];
            for (panel, sums) in panels.iter().zip(sums) {
                for (weight, sum) in panel[input].iter().zip(sums) {
                    *sum = if FUSED { weight.mul_add(x, *sum) } else { weight * x + *sum };
                }
            }
        }
    }
    sums
}

/// A dot product: `N` sums side by side, added by halves, and what is left over one after another.
#[inline(always)]
fn dot<const N: usize>(x: &[f32], weights: &[f32]) -> f32 {
    let (x_chunks, x_rest) = x.as_chunks::<N>();
    let (weight_chunks, weight_rest) = weights.as_chunks::<N>();
    let mut sums = [0.0; N];
    for (x, weights) in x_chunks.iter().zip(weight_chunks) {
        for ((sum, x), weight) in sums.iter_mut().zip(x).zip(weights) {
            *sum += x * weight;
        }
    }
    let mut width = N / 2;
    while width > 0 {
        for index in 0..width {
            sums[index] += sums[index + width];
        }
        width /= 2;
    }
    x_rest.iter().zip(weight_rest).fold(sums[0], |sum, (x, weight)| sum + x * weight)
}
