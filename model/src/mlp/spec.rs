//! What `graph.json` says about a network.

use serde::Deserialize;

/// The keys of a node of type `mlp`, but for those that every node has and for `weights`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Tables of rows that stand for categories.
    #[serde(default)]
    pub embeddings: Vec<EmbeddingSpec>,
    /// What the input begins with.
    #[serde(default)]
    pub first: First,
    /// A batch norm of the features.
    #[serde(default)]
    pub input_norm: Option<NormSpec>,
    /// From the input on.
    pub layers: Vec<LayerSpec>,
    /// What becomes of the last layer's numbers.
    #[serde(default)]
    pub link: Link,
}

/// A table, and the feature or column that holds its row number.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbeddingSpec {
    /// Name of the feature or column.
    pub feature: String,
    /// Name of the tensor `[rows, width]`.
    pub weight: String,
}

/// What the input begins with; the other follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum First {
    /// The features.
    #[default]
    Features,
    /// The embeddings' rows.
    Embeddings,
}

/// A layer.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerSpec {
    /// `torch.nn.Linear`
    Linear(LinearSpec),
    /// `torch.nn.BatchNorm1d` in evaluation
    BatchNorm(NormSpec),
    /// `torch.nn.ReLU`
    Relu,
    /// `torch.nn.ELU` with `alpha` 1
    Elu,
    /// `torch.nn.LeakyReLU` with `negative_slope` 0.01
    LeakyRelu,
    /// `torch.nn.GELU` with `approximate` none
    Gelu,
    /// `torch.nn.SELU`
    Selu,
    /// `torch.nn.SiLU`
    Silu,
    /// `torch.nn.Tanh`
    Tanh,
    /// `torch.nn.Sigmoid`
    Sigmoid,
}

/// Names of a linear layer's tensors.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinearSpec {
    /// `[out, in]`
    pub weight: String,
    /// `[out]`
    #[serde(default)]
    pub bias: Option<String>,
}

/// Names of a batch norm's tensors, each `[width]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NormSpec {
    /// What the normed number is multiplied with.
    pub weight: String,
    /// What is added then.
    pub bias: String,
    /// The running mean.
    pub mean: String,
    /// The running variance.
    pub variance: String,
    /// Added to the variance.
    pub epsilon: f64,
}

/// What becomes of the last layer's numbers of a row, in single precision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Link {
    /// As they are.
    #[default]
    Identity,
    /// The logistic function of each.
    Sigmoid,
    /// Probabilities that add up to 1.
    Softmax,
    /// The second probability of two.
    BinarySoftmax,
    /// Ascending.
    Sort,
}
