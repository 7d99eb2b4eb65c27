//! Layers that fit together, and their evaluation block by block.

use std::cell::RefCell;

use super::activation::Activation;
use super::dense::{Dense, padded};
use super::spec::{First, LayerSpec, LinearSpec, Link, NormSpec, Spec};
use super::weights::{Matrix, Weights};
use crate::TextError;
use crate::batch::Rows;
use crate::engine::simd::{Simd, Tier, Work};

/// Numbers between two layers, at most.
const MAX_WIDTH: usize = 1 << 16;
/// Layers, at most, functions among them.
const MAX_LAYERS: usize = 1 << 10;
/// Rows that pass through all layers together: their numbers stay in the nearest cache.
const BLOCK: usize = 32;
/// Numbers of a block between two layers, at most, unless one row has more: half a mebibyte.
const BLOCK_NUMBERS: usize = 1 << 17;

/// The layers, and where their input comes from.
#[derive(Debug)]
pub(super) struct Network {
    features: Vec<usize>,
    input_norm: Option<Norm>,
    embeddings: Vec<Embedding>,
    first: First,
    /// Numbers of the input.
    input: usize,
    layers: Vec<Layer>,
    /// Numbers after the last layer.
    outputs: usize,
    /// Numbers between any two layers, at most, in whole panels.
    widest: usize,
    tier: Tier,
}

/// A table of rows that stand for categories.
#[derive(Debug)]
struct Embedding {
    position: usize,
    table: Matrix,
}

#[derive(Debug)]
enum Layer {
    Dense { dense: Dense, outputs: usize },
    Norm(Norm),
    Activation(Activation),
}

/// A batch norm in evaluation, as torch computes it: one factor and one summand for each number.
#[derive(Debug)]
struct Norm {
    scale: Vec<f32>,
    shift: Vec<f32>,
}

/// Numbers before and after a layer: `[rows, width in whole panels]`.
#[derive(Default)]
struct Scratch {
    x: Vec<f32>,
    y: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Network {
    pub(super) fn load(
        bytes: &[u8],
        spec: &Spec,
        features: Vec<usize>,
        positions: &[usize],
    ) -> Result<Self, TextError> {
        let mut weights = Weights::parse(bytes)?;
        let expected = format!("{} positions, as many as embeddings", spec.embeddings.len());
        check(positions.len() == spec.embeddings.len(), "embeddings", "positions", &expected, positions.len())?;
        let mut embeddings = Vec::with_capacity(positions.len());
        let mut input = features.len();
        for (index, (embedding, &position)) in spec.embeddings.iter().zip(positions).enumerate() {
            let table = weights.matrix(&format!("embedding {index}"), &embedding.weight, None)?;
            input += table.width;
            embeddings.push(Embedding { position, table });
        }
        check((1..=MAX_WIDTH).contains(&input), "input", "width", &format!("1 to {MAX_WIDTH} numbers"), input)?;
        let input_norm = match &spec.input_norm {
            Some(norm) => Some(Norm::load(&mut weights, "input_norm", norm, features.len())?),
            None => None,
        };
        let count = spec.layers.len();
        check(count <= MAX_LAYERS, "layers", "number", &format!("at most {MAX_LAYERS}"), count)?;
        let (mut width, mut widest) = (input, padded(input));
        let mut layers = Vec::with_capacity(count);
        for (index, layer) in spec.layers.iter().enumerate() {
            let place = format!("layer {index}");
            let layer = Layer::load(&mut weights, &place, layer, width)?;
            if let Layer::Dense { outputs, .. } = &layer {
                width = *outputs;
                let expected = format!("at most {MAX_WIDTH} numbers");
                check(width <= MAX_WIDTH, &place, "width", &expected, width)?;
                widest = widest.max(padded(width));
            }
            layers.push(layer);
        }
        weights.finish()?;
        let fits = spec.link != Link::BinarySoftmax || width == 2;
        check(fits, "link", "binary_softmax", "a last layer of 2 numbers", width)?;
        let first = spec.first;
        let tier = Tier::best();
        Ok(Self { features, input_norm, embeddings, first, input, layers, outputs: width, widest, tier })
    }

    /// Numbers after the last layer.
    pub(super) fn outputs(&self) -> usize {
        self.outputs
    }

    /// Numbers of the input.
    #[cfg(feature = "candle")]
    pub(super) fn input(&self) -> usize {
        self.input
    }

    #[cfg(test)]
    pub(super) fn set_tier(&mut self, tier: Tier) {
        self.tier = tier;
    }

    /// Appends the outputs of the rows after the link.
    pub(super) fn evaluate(&self, rows: Rows<'_>, link: Link, out: &mut Vec<f64>) {
        let block = (BLOCK_NUMBERS / self.widest).clamp(1, BLOCK).min(rows.len());
        SCRATCH.with_borrow_mut(|scratch| {
            let needed = block * self.widest;
            if scratch.x.len() < needed {
                scratch.x.resize(needed, 0.0);
                scratch.y.resize(needed, 0.0);
            }
            self.tier.run(Pass { network: self, rows, block, link, out, scratch });
        });
    }

    /// Writes the input of a row, `[input]`.
    #[inline(always)]
    pub(super) fn fill(&self, row: &[f64], x: &mut [f32]) {
        let embedded = self.input - self.features.len();
        let (features, embeddings) = match self.first {
            First::Features => x[..self.input].split_at_mut(self.features.len()),
            First::Embeddings => {
                let (embeddings, features) = x[..self.input].split_at_mut(embedded);
                (features, embeddings)
            }
        };
        for (x, &position) in features.iter_mut().zip(&self.features) {
            *x = row[position] as f32;
        }
        if let Some(norm) = &self.input_norm {
            norm.apply(features);
        }
        let mut rest = embeddings;
        for embedding in &self.embeddings {
            let (x, after) = rest.split_at_mut(embedding.table.width);
            x.copy_from_slice(embedding.row(row[embedding.position]));
            rest = after;
        }
    }
}

/// The way of some rows through the network.
struct Pass<'a> {
    network: &'a Network,
    rows: Rows<'a>,
    block: usize,
    link: Link,
    out: &'a mut Vec<f64>,
    scratch: &'a mut Scratch,
}

impl Work for Pass<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _simd: S) {
        if S::FUSED { self.pass::<true>() } else { self.pass::<false>() }
    }
}

impl Pass<'_> {
    #[inline(always)]
    fn pass<const FUSED: bool>(self) {
        let Self { network, rows, block, link, out, scratch } = self;
        let (mut x, mut y) = (&mut scratch.x[..], &mut scratch.y[..]);
        for rows in rows.blocks(block.max(1)) {
            let mut stride = padded(network.input);
            for (row, x) in rows.iter().zip(x.chunks_exact_mut(stride)) {
                network.fill(row, x);
            }
            let mut width = network.input;
            for layer in &network.layers {
                let numbers = &mut x[..rows.len() * stride];
                match layer {
                    Layer::Dense { dense, outputs } => {
                        let next = padded(*outputs);
                        dense.apply::<FUSED>(numbers, stride, &mut y[..rows.len() * next], next);
                        std::mem::swap(&mut x, &mut y);
                        (stride, width) = (next, *outputs);
                    }
                    Layer::Norm(norm) => numbers.chunks_exact_mut(stride).for_each(|row| norm.apply(&mut row[..width])),
                    Layer::Activation(activation) => {
                        for row in numbers.chunks_exact_mut(stride) {
                            activation.apply(&mut row[..width]);
                        }
                    }
                }
            }
            for row in x[..rows.len() * stride].chunks_exact_mut(stride) {
                link.append(&mut row[..width], out);
            }
        }
    }
}

impl Embedding {
    /// The row of a number; the first one if there is none.
    fn row(&self, number: f64) -> &[f32] {
        let known = number >= 0.0 && number < self.table.rows as f64 && number.fract() == 0.0;
        let row = if known { number as usize } else { 0 };
        &self.table.values[row * self.table.width..][..self.table.width]
    }
}

impl Layer {
    fn load(weights: &mut Weights<'_>, place: &str, spec: &LayerSpec, width: usize) -> Result<Self, TextError> {
        Ok(match spec {
            LayerSpec::Linear(LinearSpec { weight, bias }) => {
                let weight = weights.matrix(place, weight, Some(width))?;
                let bias = match bias {
                    Some(bias) => Some(weights.vector(place, bias, weight.rows)?),
                    None => None,
                };
                Self::Dense { dense: Dense::new(&weight, bias.as_deref()), outputs: weight.rows }
            }
            LayerSpec::BatchNorm(norm) => Self::Norm(Norm::load(weights, place, norm, width)?),
            LayerSpec::Relu => Self::Activation(Activation::Relu),
            LayerSpec::Elu => Self::Activation(Activation::Elu),
            LayerSpec::LeakyRelu => Self::Activation(Activation::LeakyRelu),
            LayerSpec::Gelu => Self::Activation(Activation::Gelu),
            LayerSpec::Selu => Self::Activation(Activation::Selu),
            LayerSpec::Silu => Self::Activation(Activation::Silu),
            LayerSpec::Tanh => Self::Activation(Activation::Tanh),
            LayerSpec::Sigmoid => Self::Activation(Activation::Sigmoid),
        })
    }
}

impl Norm {
    fn load(weights: &mut Weights<'_>, place: &str, spec: &NormSpec, width: usize) -> Result<Self, TextError> {
        let weight = weights.vector(place, &spec.weight, width)?;
        let bias = weights.vector(place, &spec.bias, width)?;
        let mean = weights.vector(place, &spec.mean, width)?;
        let variance = weights.vector(place, &spec.variance, width)?;
        let epsilon = spec.epsilon as f32;
        check(epsilon.is_finite() && epsilon >= 0.0, place, "epsilon", "a number of at least 0", spec.epsilon)?;
        let (mut scale, mut shift) = (Vec::with_capacity(width), Vec::with_capacity(width));
        for (((weight, bias), mean), variance) in weight.iter().zip(bias).zip(mean).zip(variance) {
            check(variance >= 0.0 && variance + epsilon > 0.0, place, "variance", "numbers greater than 0", variance)?;
            let factor = (1.0 / (variance + epsilon).sqrt()) * weight;
            scale.push(factor);
            shift.push(bias - mean * factor);
        }
        Ok(Self { scale, shift })
    }

    #[inline(always)]
    fn apply(&self, numbers: &mut [f32]) {
        for ((x, scale), shift) in numbers.iter_mut().zip(&self.scale).zip(&self.shift) {
            *x = *x * scale + shift;
        }
    }
}

fn check(holds: bool, place: &str, what: &str, expected: &str, got: impl std::fmt::Display) -> Result<(), TextError> {
    if holds { Ok(()) } else { Err(TextError::new(place, what, expected, got)) }
}
