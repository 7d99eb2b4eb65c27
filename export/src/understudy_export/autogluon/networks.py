"""Nodes of AutoGluon's neural networks: PyTorch's embedding network and fastai's tabular model."""

from __future__ import annotations

from typing import Any

import numpy as np

from understudy_export.arrays import safetensors
from understudy_export.autogluon.columns import Op, lookup
from understudy_export.autogluon.preprocess import (
    Matrix,
    one_hot_merged,
    ordinal_merged,
    quantile_normal,
    rounded,
    scaled,
    standard,
)
from understudy_export.autogluon.trees import Part
from understudy_export.errors import ExportError

ACTIVATIONS = {"ReLU": "relu", "ELU": "elu", "Tanh": "tanh", "Sigmoid": "sigmoid", "SELU": "selu", "GELU": "gelu"}
IGNORED = {"Dropout", "Identity"}
# Steps of fastai's that only touch the target.
TARGET_PROCS = ("RegressionSetup", "Categorize")
WEIGHTS = "weights.safetensors"


class Weights:
    """The arrays of a network, in single precision, and its layers in the words of the format."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}

    def add(self, name: str, tensor: Any) -> str:
        """Keep a tensor under `name`; returns the name."""
        self.arrays[name] = np.asarray(tensor.detach().cpu().numpy(), np.float32)
        return name

    def batch_norm(self, module: Any, name: str) -> dict:
        """A batch norm in evaluation mode."""
        if module.running_mean is None or module.weight is None:
            raise ExportError(f"{name}: a batch norm without running statistics or weights")
        keys = {"weight": module.weight, "bias": module.bias}
        keys |= {"mean": module.running_mean, "variance": module.running_var}
        entry: dict = {key: self.add(f"{name}.{key}", tensor) for key, tensor in keys.items()}
        return {**entry, "epsilon": float(module.eps)}

    def layer(self, module: Any, name: str) -> list:
        """The layers of a module of PyTorch. Raises ExportError, with the class, for one that the format has not."""
        kind = type(module).__name__
        if kind in IGNORED:
            return []
        if kind in ("Sequential", "LinBnDrop"):
            # Not named_children, which leaves out the second use of one activation.
            return [layer for place, inner in module._modules.items() for layer in self.layer(inner, f"{name}.{place}")]
        if kind == "Linear":
            entry = {"weight": self.add(f"{name}.weight", module.weight)}
            if module.bias is not None:
                entry["bias"] = self.add(f"{name}.bias", module.bias)
            return [{"linear": entry}]
        if kind == "BatchNorm1d":
            return [{"batch_norm": self.batch_norm(module, name)}]
        plain = getattr(module, "alpha", 1.0) == 1.0 and getattr(module, "approximate", "none") == "none"
        if kind in ACTIVATIONS and plain:
            return [ACTIVATIONS[kind]]
        raise ExportError(f"{name}: layer {module}")

    def magnitude(self, width: int) -> list:
        """Layers that give the absolute value of each of `width` numbers: relu(x) + relu(-x), which is exact."""
        one = np.eye(width, dtype=np.float32)
        self.arrays["magnitude.split"] = np.concatenate([one, -one])
        self.arrays["magnitude.join"] = np.concatenate([one, one], axis=1)
        return [{"linear": {"weight": "magnitude.split"}}, "relu", {"linear": {"weight": "magnitude.join"}}]


def single_steps(*steps: tuple[str, float]) -> list[Op]:
    """Operations with one number each, every result in single precision."""
    return [op for operation, number in steps for op in ({operation: number}, "float")]


def torch_features(model: Any, matrix: Matrix) -> tuple[list[str], list[str]]:
    """Columns of AutoGluon's `ColumnTransformer`: those of the vector, and those of the embeddings."""
    made: list[str] = []
    for name, transformer, names in model.processor.transformers_:
        names = list(names)
        steps = dict(getattr(transformer, "steps", []))
        if name == "continuous":
            made += standard(matrix, names, steps)
        elif name == "skewed":
            made += quantile_normal(matrix, names, steps)
        elif name == "onehot":
            for columns in one_hot_merged(matrix, names, steps["onehot"], zero_is_missing=False):
                made += columns
        elif name == "ordinal":
            made += ordinal_merged(matrix, names, steps["ordinal"])
        elif name == "remainder" and transformer != "drop":
            made += [matrix.add(column, "", []) for column in names]
        elif names:
            raise ExportError(f"the network prepares {names[:3]} by {name!r}, which is not known")
    if len(made) != sum(map(len, model.feature_arraycol_map.values())):
        known = len(model.feature_arraycol_map)
        raise ExportError(f"the network knows {known} features, its preparation makes {len(made)} columns of them")
    vector, embedded = [], []
    for name, kind in model.feature_type_map.items():
        columns = [made[place] for place in model.feature_arraycol_map[name]]
        if kind == "vector":
            vector += columns
        else:
            embedded += columns
    return vector, embedded


def torch_network(model: Any, matrix: Matrix, task: str) -> Part:
    """`TabularNeuralNetTorchModel`: the vector and the embeddings through AutoGluon's `EmbedNet`."""
    vector, embedded = torch_features(model, matrix)
    net = model.model
    weights = Weights()
    blocks = net.embed_blocks if net.has_embed_features else []
    embeddings = [
        {"feature": feature, "weight": weights.add(f"embedding.{place}", block.weight)}
        for place, (feature, block) in enumerate(zip(embedded, blocks))
    ]
    layers = weights.layer(net.main_block, "main")
    keys: dict = {"type": "mlp", "weights": WEIGHTS, "features": vector, "embeddings": embeddings}
    ops: list[Op] = []
    if task in ("binary", "multiclass"):
        link = "binary_softmax" if task == "binary" else "softmax"
    else:
        link = "sort" if task == "quantile" else "identity"
        width = len(model.quantile_levels) if task == "quantile" else 1
        lower, upper, span = (rounded(n, single=True) for n in (net.y_lower, net.y_upper, net.y_span))
        if net.y_constraint == "bounded":
            layers.append("sigmoid")
            ops = single_steps(("multiply", span), ("add", lower))
        elif net.y_constraint == "nonnegative":
            layers += weights.magnitude(width)
            ops = single_steps(("add", lower))
        elif net.y_constraint == "nonpositive" and task == "regression":
            layers += weights.magnitude(width)
            ops = single_steps(("multiply", -1.0), ("add", upper))
        elif net.y_constraint is not None:
            raise ExportError(f"TabularNeuralNetTorchModel with y_constraint {net.y_constraint!r} for {task}")
    keys = {**keys, "layers": layers, "link": link}
    if ops:
        keys["output_ops"] = ops
    return Part(keys, {WEIGHTS: safetensors(weights.arrays)})


def fastai_features(model: Any, matrix: Matrix) -> tuple[list[str], list[str]]:
    """Columns of fastai's model: continuous ones, and rows of the embeddings' tables."""
    continuous, rows = [], []
    names = list(model.cont_columns or [])
    if names:
        means, deviations = model._cont_normalization
        for name, mean, deviation in zip(names, means, deviations):
            fill = (model.columns_fills or {}).get(name)
            ops: list[Op] = [] if fill is None else [{"fill": float(fill)}]
            continuous.append(matrix.add(name, "scaled", scaled(ops, float(mean), float(deviation), single=False)))
    procs = {type(proc).__name__: proc for proc in model.model.dls.procs}
    unknown = sorted(procs.keys() - {"Categorify", *TARGET_PROCS})
    if unknown:
        raise ExportError(f"fastai prepares the table by {', '.join(unknown)}")
    for name in model.cat_columns or []:
        vocabulary = list(procs["Categorify"].classes[name].items)
        count = matrix.value(name).categories
        if not count or vocabulary != ["#na#", *range(count)]:
            raise ExportError(f"fastai's vocabulary of {name!r} is {vocabulary[:5]}; expected #na#, 0, 1, 2, ...")
        rows.append(matrix.add(name, "row", [lookup({code: code + 1 for code in range(count)}, count, 0)]))
    return continuous, rows


def fastai_network(model: Any, matrix: Matrix, task: str) -> Part:
    """`NNFastAiTabularModel`: embeddings and normed numbers through fastai's `TabularModel`."""
    if task == "quantile":
        raise ExportError("NNFastAiTabularModel for quantiles: its isotonic regression is not in the format")
    continuous, rows = fastai_features(model, matrix)
    net = model.model.model
    weights = Weights()
    embeddings = [
        {"feature": feature, "weight": weights.add(f"embedding.{place}", table.weight)}
        for place, (feature, table) in enumerate(zip(rows, net.embeds))
    ]
    keys: dict = {"type": "mlp", "weights": WEIGHTS, "features": continuous, "embeddings": embeddings}
    keys["first"] = "embeddings"
    if continuous and net.bn_cont is not None:
        keys["input_norm"] = weights.batch_norm(net.bn_cont, "continuous")
    keys["layers"] = weights.layer(net.layers, "layers")
    keys["link"] = {"binary": "binary_softmax", "multiclass": "softmax"}.get(task, "identity")
    ops = unscale(model.y_scaler) if task == "regression" else []
    if ops:
        keys["output_ops"] = ops
    return Part(keys, {WEIGHTS: safetensors(weights.arrays)})


def unscale(scaler: Any) -> list[Op]:
    """The inverse of the target's scaler, in single precision. Raises ExportError for an unknown one."""
    kind = type(scaler).__name__
    if scaler is None:
        return []
    if kind == "Pipeline":
        return [op for _, step in reversed(scaler.steps) for op in unscale(step)]
    if kind == "StandardScaler":
        steps = [("multiply", scaler.scale_)] if scaler.with_std else []
        steps += [("add", scaler.mean_)] if scaler.with_mean else []
        return single_steps(*((operation, rounded(numbers[0], single=True)) for operation, numbers in steps))
    if kind == "MinMaxScaler":
        return single_steps(("subtract", float(scaler.min_[0])), ("divide", float(scaler.scale_[0])))
    if kind == "FunctionTransformer":
        function = scaler.inverse_func
        limits = getattr(function, "keywords", {})
        if getattr(function, "func", None) is np.clip and set(limits) == {"a_min", "a_max"}:
            return [{"clip": [float(limits["a_min"]), float(limits["a_max"])]}, "float"]
    raise ExportError(f"fastai's target is scaled by {kind}")
