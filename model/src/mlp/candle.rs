//! The network by candle's operations, one after another: for comparison.
//!
//! On one thread, as long as a layer has fewer than 589,824 weights: rows pass in blocks that stay below the size from
//! which on candle's matrix product asks rayon for its threads. It reads `/proc/cpuinfo` at every product unless
//! `RAYON_NUM_THREADS` is set.

use candle_core::safetensors::SliceSafetensors;
use candle_core::{Device, Result, Tensor};

use super::network::Network;
use super::spec::{LayerSpec, Link, Spec};
use crate::batch::Rows;

/// Products and sums in a matrix product, from which on it would be spread over threads.
const SPREAD: usize = 48 * 48 * 256;

/// The layers after the input.
#[derive(Debug)]
pub(super) struct Candle {
    layers: Vec<Layer>,
    block: usize,
}

#[derive(Debug)]
enum Layer {
    Linear { weight: Tensor, bias: Option<Tensor> },
    Norm { scale: Tensor, shift: Tensor },
    Function(LayerSpec),
}

impl Candle {
    /// For bytes that are known to be right.
    pub(super) fn load(bytes: &[u8], spec: &Spec) -> Result<Self> {
        let file = SliceSafetensors::new(bytes)?;
        let get = |name: &str| file.load(name, &Device::Cpu);
        let mut layers = Vec::with_capacity(spec.layers.len());
        let mut largest = 1;
        for layer in &spec.layers {
            layers.push(match layer {
                LayerSpec::Linear(linear) => {
                    let weight = get(&linear.weight)?;
                    largest = largest.max(weight.elem_count());
                    let bias = linear.bias.as_deref().map(get).transpose()?;
                    Layer::Linear { weight: weight.t()?, bias }
                }
                LayerSpec::BatchNorm(norm) => {
                    let deviation = (get(&norm.variance)? + norm.epsilon)?.sqrt()?;
                    let scale = (get(&norm.weight)? / deviation)?;
                    let shift = (get(&norm.bias)? - (get(&norm.mean)? * &scale)?)?;
                    Layer::Norm { scale, shift }
                }
                function => Layer::Function(function.clone()),
            });
        }
        Ok(Self { layers, block: ((SPREAD - 1) / largest).max(1) })
    }

    /// Appends the outputs of the rows after the link; NaN where candle refuses.
    pub(super) fn evaluate(&self, network: &Network, link: Link, rows: Rows<'_>, out: &mut Vec<f64>) {
        for rows in rows.blocks(self.block) {
            let mut x = vec![0.0; rows.len() * network.input()];
            for (row, x) in rows.iter().zip(x.chunks_exact_mut(network.input())) {
                network.fill(row, x);
            }
            let numbers = self.forward(x, (rows.len(), network.input()));
            let mut numbers = numbers.unwrap_or_else(|_| vec![f32::NAN; rows.len() * network.outputs()]);
            for row in numbers.chunks_exact_mut(network.outputs()) {
                link.append(row, out);
            }
        }
    }

    fn forward(&self, x: Vec<f32>, shape: (usize, usize)) -> Result<Vec<f32>> {
        let mut x = Tensor::from_vec(x, shape, &Device::Cpu)?;
        for layer in &self.layers {
            x = match layer {
                Layer::Linear { weight, bias: None } => x.matmul(weight)?,
                Layer::Linear { weight, bias: Some(bias) } => x.matmul(weight)?.broadcast_add(bias)?,
                Layer::Norm { scale, shift } => x.broadcast_mul(scale)?.broadcast_add(shift)?,
                Layer::Function(function) => apply(function, &x)?,
            };
        }
        x.flatten_all()?.to_vec1()
    }
}

fn apply(function: &LayerSpec, x: &Tensor) -> Result<Tensor> {
    match function {
        LayerSpec::Relu => x.relu(),
        LayerSpec::Elu => x.elu(1.0),
        LayerSpec::LeakyRelu => x.maximum(&(x * 0.01)?),
        LayerSpec::Gelu => x.gelu_erf(),
        LayerSpec::Selu => x.elu(1.673_263_242_354_377_2)? * 1.050_700_987_355_480_5,
        LayerSpec::Silu => x.silu(),
        LayerSpec::Tanh => x.tanh(),
        LayerSpec::Sigmoid => (x.neg()?.exp()? + 1.0)?.recip(),
        LayerSpec::Linear(_) | LayerSpec::BatchNorm(_) => Ok(x.clone()),
    }
}
