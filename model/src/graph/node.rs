//! The node types: how each is read, and what evaluates it.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::combine::{self, Combine};
use super::evaluator::Evaluator;
use crate::batch::Rows;
use crate::catboost;
use crate::columns::{Column, FindNode, Names, Ops, RawColumn, RawOp};
use crate::error::ensure;
use crate::forest::{self, Forest, Precision};
use crate::json::{FEW, Few, Number, Object};
use crate::lightgbm;
use crate::linear::Linear;
use crate::mlp::{self, Mlp};
use crate::package::GRAPH;
use crate::package::files::Files;
use crate::text::shown;
use crate::xgboost;
use crate::{Link, LoadError};

/// A node of the graph.
#[derive(Debug)]
pub(crate) struct Node {
    name: String,
    columns: Vec<Column>,
    kind: Kind,
    after: After,
    output: Output,
    /// Whether the model's output depends on it.
    needed: bool,
}

/// What is done to each number of the output.
#[derive(Debug)]
struct After {
    ops: Ops,
    normalize: bool,
    float: bool,
}

/// What a node gives for a row.
#[derive(Debug)]
struct Output {
    width: usize,
    probabilities: bool,
    /// Whether the numbers are in single precision.
    single: bool,
}

#[derive(Debug)]
enum Kind {
    Model(Box<dyn Evaluator>),
    Combine(Combine),
}

#[derive(Deserialize)]
struct Head {
    name: String,
    r#type: Type,
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Type {
    LightGbm,
    XgBoost,
    CatBoost,
    Forest,
    Linear,
    Mlp,
    Weighted,
    Bag,
    Concat,
    Temperature,
}

/// What every node may have.
struct Shared {
    columns: Vec<RawColumn>,
    features: Option<Vec<String>>,
    output_ops: Vec<RawOp>,
    normalize: bool,
    float: bool,
}

/// A node's keys: its own ones, and those that every node may have.
macro_rules! keys {
    ($name:ident { $($(#[$attribute:meta])* $key:ident: $type:ty),* $(,)? }) => {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct $name {
            #[serde(rename = "name")]
            _name: serde::de::IgnoredAny,
            #[serde(rename = "type")]
            _type: serde::de::IgnoredAny,
            #[serde(default)]
            columns: Few<RawColumn>,
            features: Option<Few<String>>,
            #[serde(default)]
            output_ops: Few<RawOp>,
            #[serde(default)]
            normalize: bool,
            #[serde(default)]
            float: bool,
            $($(#[$attribute])* $key: $type,)*
        }

        impl $name {
            fn shared(&mut self) -> Shared {
                Shared {
                    columns: std::mem::take(&mut self.columns).0,
                    features: self.features.take().map(|list| list.0),
                    output_ops: std::mem::take(&mut self.output_ops).0,
                    normalize: self.normalize,
                    float: self.float,
                }
            }
        }
    };
}

keys!(RawModel { model: String });
keys!(RawCatBoost {
    model: String,
    #[serde(default)]
    hashes: Object<RawHashes>,
});
keys!(RawForest {
    arrays: String,
    input: Precision,
    start: Few<Number>,
    #[serde(default)]
    average: bool,
    #[serde(default)]
    link: Link,
});
keys!(RawLinear {
    coefficients: Few<Vec<Number>>,
    intercepts: Few<Number>,
    #[serde(default)]
    link: Link,
});
keys!(RawMlp {
    weights: String,
    #[serde(default)]
    embeddings: Few<mlp::EmbeddingSpec>,
    #[serde(default)]
    first: mlp::First,
    input_norm: Option<mlp::NormSpec>,
    layers: Few<mlp::LayerSpec>,
    #[serde(default)]
    link: mlp::Link,
});
keys!(RawWeighted { inputs: Few<String>, weights: Few<Number>, });
keys!(RawInputs { inputs: Few<String>, });
keys!(RawTemperature { inputs: Few<String>, temperature: Number, });

/// CatBoost's hashes of the categories of a feature.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHashes {
    codes: Vec<u32>,
    missing: u32,
    unseen: u32,
}

/// Where a node is loaded: what it may see.
struct Loader<'a> {
    name: &'a str,
    names: &'a mut Names,
    find: FindNode<'a>,
    before: &'a [Node],
    files: &'a mut Files,
    columns: Vec<Column>,
}

impl Node {
    /// Reads a node. `find` and `before`: the nodes that it may read.
    pub(crate) fn load(
        text: &str,
        names: &mut Names,
        find: FindNode<'_>,
        before: &[Node],
        files: &mut Files,
    ) -> Result<Self, LoadError> {
        let head: Head = parse("nodes", text)?;
        let expected = "[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}";
        ensure(is_node_name(&head.name), GRAPH, "a node's name", expected, || shown(&head.name))?;
        let again = || format!("{} twice", shown(&head.name));
        ensure(find(&head.name).is_none(), GRAPH, "nodes", "each name once", again)?;
        names.forget_own();
        let mut loader = Loader { name: &head.name, names, find, before, files, columns: Vec::new() };
        let (kind, shared) = loader.kind(head.r#type, text)?;
        let ops = Ops::new(&format!("node {}, output_ops", head.name), shared.output_ops)?;
        let columns = loader.columns;
        let mut output = match &kind {
            Kind::Model(model) => {
                Output { width: model.outputs(), probabilities: model.gives_probabilities(), single: model.is_single() }
            }
            Kind::Combine(combine) => {
                let mut inputs = combine.inputs().iter().map(|&input| &before[input].output);
                Output {
                    width: combine.width(),
                    probabilities: inputs.clone().all(|input| input.probabilities),
                    single: combine.is_single() || (combine.copies() && inputs.all(|input| input.single)),
                }
            }
        };
        output.single = (output.single && ops.is_empty()) || shared.float;
        let after = After { ops, normalize: shared.normalize, float: shared.float };
        Ok(Self { name: head.name, columns, kind, after, output, needed: false })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Numbers that the node gives for a row.
    pub(crate) fn width(&self) -> usize {
        self.output.width
    }

    /// Whether its output is probabilities.
    pub(crate) fn gives_probabilities(&self) -> bool {
        self.output.probabilities
    }

    /// Whether its output is in single precision.
    pub(crate) fn is_single(&self) -> bool {
        self.output.single
    }

    /// How far from the trainer's answer the output may be, relative to numbers greater than 1.
    pub(crate) fn tolerance(&self) -> f64 {
        let tolerance = match &self.kind {
            Kind::Model(model) => model.tolerance(),
            Kind::Combine(combine) => combine.tolerance(),
        };
        tolerance * self.after.ops.stretch()
    }

    /// Trees and leaves.
    pub(crate) fn size(&self) -> (usize, usize) {
        match &self.kind {
            Kind::Model(model) => model.size(),
            Kind::Combine(_) => (0, 0),
        }
    }

    pub(crate) fn has_columns(&self) -> bool {
        !self.columns.is_empty()
    }

    /// Whether the output depends on it.
    pub(crate) fn is_needed(&self) -> bool {
        self.needed
    }

    pub(crate) fn need(&mut self) {
        self.needed = true;
    }

    /// The nodes that this one reads, all before it.
    pub(crate) fn inputs(&self) -> impl Iterator<Item = usize> {
        let combined = match &self.kind {
            Kind::Model(_) => &[],
            Kind::Combine(combine) => combine.inputs(),
        };
        combined.iter().copied().chain(self.columns.iter().filter_map(Column::input))
    }

    /// Computes the node's own columns of wide rows, `[rows, width]`.
    pub(crate) fn compute_columns(&self, wide: &mut [f64], width: usize, outputs: &[Vec<f64>]) {
        for column in &self.columns {
            column.compute(wide, width, outputs);
        }
    }

    /// Appends the node's output, `[rows, width]`. `before`: the outputs of the nodes before it.
    pub(crate) fn evaluate(&self, rows: Rows<'_>, before: &[Vec<f64>], out: &mut Vec<f64>) {
        let start = out.len();
        match &self.kind {
            Kind::Model(model) => model.evaluate(rows, out),
            Kind::Combine(combine) => combine.evaluate(rows.len(), before, out),
        }
        let out = &mut out[start..];
        if !self.after.ops.is_empty() {
            for number in out.iter_mut() {
                *number = self.after.ops.apply(*number);
            }
        }
        if self.after.normalize {
            combine::normalize(out, self.output.width);
        }
        if self.after.float {
            for number in out.iter_mut() {
                *number = f64::from(*number as f32);
            }
        }
    }
}

impl Loader<'_> {
    fn kind(&mut self, r#type: Type, text: &str) -> Result<(Kind, Shared), LoadError> {
        let what = self.what("");
        match r#type {
            Type::LightGbm => {
                let mut raw: RawModel = parse(&what, text)?;
                let mut shared = raw.shared();
                let places = self.features(&mut shared)?;
                let bytes = self.file("model", &raw.model)?;
                let booster = lightgbm::Booster::parse_for(&bytes, places)
                    .map_err(|source| wrong("LightGBM model", raw.model, source))?;
                Ok((Kind::Model(Box::new(booster)), shared))
            }
            Type::XgBoost => {
                let mut raw: RawModel = parse(&what, text)?;
                let mut shared = raw.shared();
                let places = self.features(&mut shared)?;
                let bytes = self.file("model", &raw.model)?;
                let booster = xgboost::Booster::parse_for(&bytes, places)
                    .map_err(|source| wrong("XGBoost model", raw.model, source))?;
                Ok((Kind::Model(Box::new(booster)), shared))
            }
            Type::CatBoost => {
                let mut raw: RawCatBoost = parse(&what, text)?;
                let mut shared = raw.shared();
                let names = shared.features.clone().unwrap_or_default();
                let places = self.features(&mut shared)?;
                let hashes = self.hashes(&names, raw.hashes)?;
                let bytes = self.file("model", &raw.model)?;
                let booster = catboost::Booster::parse_for(&bytes, &places, &hashes)
                    .map_err(|source| wrong("CatBoost model", raw.model, source))?;
                Ok((Kind::Model(Box::new(booster)), shared))
            }
            Type::Forest => {
                let mut raw: RawForest = parse(&what, text)?;
                let mut shared = raw.shared();
                let places = self.features(&mut shared)?;
                let bytes = self.file("arrays", &raw.arrays)?;
                let start = raw.start.0.iter().map(|number| number.0).collect();
                let spec = forest::Spec { input: raw.input, start, average: raw.average, link: raw.link };
                let forest =
                    Forest::load(&bytes, spec, &places).map_err(|source| wrong("forest", raw.arrays, source))?;
                Ok((Kind::Model(Box::new(forest)), shared))
            }
            Type::Linear => {
                let mut raw: RawLinear = parse(&what, text)?;
                let mut shared = raw.shared();
                let places = self.features(&mut shared)?;
                let numbers = |list: Vec<Number>| list.into_iter().map(|number| number.0).collect::<Vec<f64>>();
                let coefficients: Vec<Vec<f64>> = raw.coefficients.0.into_iter().map(numbers).collect();
                let linear = Linear::new(&what, &coefficients, numbers(raw.intercepts.0), raw.link, &places)?;
                Ok((Kind::Model(Box::new(linear)), shared))
            }
            Type::Mlp => {
                let mut raw: RawMlp = parse(&what, text)?;
                let mut shared = raw.shared();
                let places = self.features(&mut shared)?;
                let codes: Vec<String> = raw.embeddings.0.iter().map(|table| table.feature.clone()).collect();
                let codes = self.places(", embeddings", &codes)?;
                let bytes = self.file("weights", &raw.weights)?;
                let RawMlp { embeddings, first, input_norm, layers, link, .. } = raw;
                let spec = mlp::Spec { embeddings: embeddings.0, first, input_norm, layers: layers.0, link };
                let mlp =
                    Mlp::load(&bytes, &spec, places, &codes).map_err(|source| wrong("network", raw.weights, source))?;
                Ok((Kind::Model(Box::new(mlp)), shared))
            }
            Type::Weighted => {
                let mut raw: RawWeighted = parse(&what, text)?;
                let inputs = self.inputs(&raw.inputs.0)?;
                let weights: Vec<f64> = raw.weights.0.iter().map(|weight| weight.0).collect();
                let expected = format!("{} finite numbers", inputs.len());
                let fits = weights.len() == inputs.len() && weights.iter().all(|weight| weight.is_finite());
                ensure(fits, GRAPH, &self.what(", weights"), &expected, || shown(&format!("{weights:?}")))?;
                let width = self.same_width(&inputs)?;
                Ok((Kind::Combine(Combine::weighted(inputs, weights, width)), self.unread(raw.shared())?))
            }
            Type::Bag => {
                let mut raw: RawInputs = parse(&what, text)?;
                let inputs = self.inputs(&raw.inputs.0)?;
                let width = self.same_width(&inputs)?;
                Ok((Kind::Combine(Combine::bag(inputs, width)), self.unread(raw.shared())?))
            }
            Type::Concat => {
                let mut raw: RawInputs = parse(&what, text)?;
                let inputs = self.inputs(&raw.inputs.0)?;
                let widths: Vec<usize> = inputs.iter().map(|&input| self.before[input].output.width).collect();
                let width = widths.iter().fold(0_usize, |sum, width| sum.saturating_add(*width));
                let expected = format!("nodes of at most {FEW} numbers together");
                ensure(width <= FEW, GRAPH, &self.what(", inputs"), &expected, || width.to_string())?;
                Ok((Kind::Combine(Combine::concat(inputs, widths)), self.unread(raw.shared())?))
            }
            Type::Temperature => {
                let mut raw: RawTemperature = parse(&what, text)?;
                let inputs = self.inputs(&raw.inputs.0)?;
                let (&[input], temperature) = (&inputs[..], raw.temperature.0) else {
                    return Err(LoadError::invalid(GRAPH, self.what(", inputs"), "one node", inputs.len().to_string()));
                };
                let fits = temperature.is_finite() && temperature > 0.0;
                let expected = "a number greater than 0";
                ensure(fits, GRAPH, &self.what(", temperature"), expected, || format!("{temperature:?}"))?;
                let node = &self.before[input];
                let expected = "a node of probabilities";
                ensure(node.output.probabilities, GRAPH, &self.what(", inputs"), expected, || shown(&node.name))?;
                let combine = Combine::temperature(input, temperature, node.output.width, node.output.single);
                Ok((Kind::Combine(combine), self.unread(raw.shared())?))
            }
        }
    }

    fn what(&self, part: &str) -> String {
        format!("node {}{part}", self.name)
    }

    /// Adds the node's own columns, and finds the features that it reads.
    fn features(&mut self, shared: &mut Shared) -> Result<Vec<usize>, LoadError> {
        let Some(features) = shared.features.take() else {
            return Err(LoadError::invalid(GRAPH, self.what(""), "features", "none"));
        };
        let columns = std::mem::take(&mut shared.columns);
        self.columns = self.names.add(&format!("{}, ", self.what("")), columns, Some(self.find))?;
        self.places(", features", &features)
    }

    /// Where features and columns lie in a row.
    fn places(&self, part: &str, names: &[String]) -> Result<Vec<usize>, LoadError> {
        let place = |name: &String| {
            let expected = "a feature of schema.json or a column";
            let unknown = || LoadError::invalid(GRAPH, self.what(part), expected, shown(name));
            self.names.place(name).ok_or_else(unknown)
        };
        names.iter().map(place).collect()
    }

    /// The hashes of the categorical features, in the order of the features.
    fn hashes(&self, features: &[String], raw: Object<RawHashes>) -> Result<Vec<catboost::Hashes>, LoadError> {
        let mut hashes = Vec::with_capacity(raw.0.len());
        for (name, RawHashes { codes, missing, unseen }) in raw.0 {
            let Some(position) = features.iter().position(|feature| *feature == name) else {
                let what = self.what(", hashes");
                return Err(LoadError::invalid(GRAPH, what, "features of the node", shown(&name)));
            };
            hashes.push((position, catboost::Hashes { codes, missing, unseen }));
        }
        hashes.sort_by_key(|(position, _)| *position);
        Ok(hashes.into_iter().map(|(_, hashes)| hashes).collect())
    }

    /// For nodes that read no rows.
    fn unread(&self, shared: Shared) -> Result<Shared, LoadError> {
        let none = shared.features.is_none() && shared.columns.is_empty();
        ensure(none, GRAPH, &self.what(""), "no features and no columns", || "some".to_owned())?;
        Ok(shared)
    }

    /// The nodes that this one reads, at least one.
    fn inputs(&self, names: &[String]) -> Result<Vec<usize>, LoadError> {
        ensure(!names.is_empty(), GRAPH, &self.what(", inputs"), "at least one node", || "none".to_owned())?;
        let find = |name: &String| {
            let unknown = || LoadError::invalid(GRAPH, self.what(", inputs"), "a node before it", shown(name));
            (self.find)(name).map(|(index, _)| index).ok_or_else(unknown)
        };
        names.iter().map(find).collect()
    }

    fn same_width(&self, inputs: &[usize]) -> Result<usize, LoadError> {
        let mut widths = inputs.iter().map(|&input| self.before[input].output.width);
        let first = widths.next().unwrap_or(1);
        let other = widths.find(|width| *width != first);
        let expected = format!("nodes of {first} numbers, as the first one");
        ensure(other.is_none(), GRAPH, &self.what(", inputs"), &expected, || other.unwrap_or(0).to_string())?;
        Ok(first)
    }

    /// The bytes of a file of the node.
    fn file(&mut self, key: &str, path: &str) -> Result<Vec<u8>, LoadError> {
        let inside = path.starts_with(&format!("nodes/{}/", self.name));
        let expected = format!("a path inside nodes/{}/", self.name);
        ensure(inside, GRAPH, &self.what(&format!(", {key}")), &expected, || shown(path))?;
        self.files.take(path)
    }
}

/// A file of a node that cannot be used.
fn wrong(what: &'static str, file: String, source: impl std::error::Error + Send + Sync + 'static) -> LoadError {
    LoadError::Model { file, what, source: Box::new(source) }
}

fn parse<T: DeserializeOwned>(what: &str, text: &str) -> Result<T, LoadError> {
    serde_json::from_str(text).map_err(|source| LoadError::Json { file: format!("{GRAPH}: {what}"), source })
}

fn is_node_name(name: &str) -> bool {
    let tail = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let first = |first: char| first.is_ascii_alphanumeric() || first == '_';
    name.len() <= 128 && name.starts_with(first) && name.bytes().all(tail)
}
