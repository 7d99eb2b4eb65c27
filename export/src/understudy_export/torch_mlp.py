"""The PyTorch part: a Sequential of dense layers as an `mlp` node, behind scikit-learn's transformers if any."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from understudy_export import libraries
from understudy_export.arguments import add_package_options, read_options
from understudy_export.arrays import read_safetensors, safetensors
from understudy_export.errors import ExportError
from understudy_export.export import Built, build
from understudy_export.prepared import Prepared, prepare, split_steps
from understudy_export.schema import Scalar
from understudy_export.sklearn import load as load_pickle
from understudy_export.table import Table, read_csv

NODE = "mlp"
WEIGHTS_PATH = f"nodes/{NODE}/weights.safetensors"
TASKS = ("binary", "multiclass", "regression")
ACTIVATIONS = {
    "ReLU": "relu",
    "ELU": "elu",
    "LeakyReLU": "leaky_relu",
    "GELU": "gelu",
    "SELU": "selu",
    "SiLU": "silu",
    "Tanh": "tanh",
    "Sigmoid": "sigmoid",
}
# The settings that the format's activations have.
SETTINGS = {"ELU": ("alpha", 1.0), "LeakyReLU": ("negative_slope", 0.01), "GELU": ("approximate", "none")}
# What does nothing to a row in evaluation.
IDLE = ("Dropout", "AlphaDropout", "Identity")
OUTPUTS = ("Sigmoid", "Softmax", "LogSoftmax")


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Arguments of `understudy-export torch-mlp`."""
    add = command.add_argument
    add(
        "model",
        metavar="FILE",
        help="a torch.nn.Sequential as torch.save wrote it, which is UNPICKLED and so runs what code it holds: only "
        "for files that you trust; or its state_dict as .safetensors, with --architecture",
    )
    add(
        "--architecture",
        metavar="JSON",
        help='the modules of a Sequential, in order: ["Linear", "ReLU", {"BatchNorm1d": {"eps": 0.001}}, ..]',
    )
    add(
        "--preprocessor",
        metavar="FILE",
        help="a fitted scikit-learn transformer or Pipeline before the network (joblib or pickle, UNPICKLED too)",
    )
    add(
        "--task",
        choices=TASKS,
        help="default: regression for one output without a Sigmoid, else classification; one output with "
        "--task binary is a logit",
    )
    add_package_options(command, without=("--categories",))


def run(arguments: argparse.Namespace) -> Built:
    """The package of the model that the command line names."""
    return export(load(arguments.model, arguments.architecture), Path(arguments.model).name, arguments)


def export(module: Any, where: str, arguments: argparse.Namespace) -> Built:
    """The package of a Sequential; where: what to call it in an error."""
    options = read_options(arguments)
    train = read_csv(options.train)
    ignored = {options.label, *options.ignore}
    columns = [name for name in train.columns if name not in ignored]
    file = getattr(arguments, "preprocessor", None)
    preprocessor = None if file is None else load_pickle(file)
    labels = set(train.column(options.label))
    model = read(module, where, preprocessor, train, columns, getattr(arguments, "task", None), labels)
    refused = model.prepared.refused_missing(model.accepts)
    return build(model, replace(options, required=options.required | refused - options.optional))


@dataclass
class Model:
    """A Sequential: what `export.Model` asks of a library."""

    module: Any
    prepared: Prepared
    transformer: Any
    layers: list
    weights: dict[str, np.ndarray]
    link: str
    logarithm: bool
    task: str
    classes: int
    eval_metric: str | None = None
    objective: str = "torch.nn.Sequential"
    quantile_levels: tuple[float, ...] = ()
    node: str = NODE

    def column_names(self, columns: list[str], where: str) -> list[str]:
        """The training columns in the order of the model's features."""
        return libraries.columns_in_order(self.prepared.names, len(self.prepared.order), columns, where)

    def categories(self, columns: list[str], path: str | None) -> dict[str, list[Scalar]]:
        """The categories that the preprocessor's encoders know, by column."""
        return self.prepared.known

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        """PyTorch's own output [rows, width] for rows [rows, features] in the order of the model's columns."""
        torch = libraries.load("torch")
        inputs = self.prepared.frame(matrix)
        if self.transformer is not None:
            inputs = self.transformer.transform(inputs)
            inputs = inputs.toarray() if hasattr(inputs, "toarray") else inputs
        inputs = np.asarray(inputs, np.float64)
        with torch.no_grad(), np.errstate(over="ignore"):
            outputs = self.module(torch.from_numpy(inputs.astype(np.float32)))
            last = type(flatten(self.module)[-1][1]).__name__
            if self.link == "sigmoid" and last != "Sigmoid":
                outputs = torch.sigmoid(outputs)
            elif self.logarithm:
                outputs = torch.exp(outputs)
            elif self.link in ("softmax", "binary_softmax") and last != "Softmax":
                outputs = torch.softmax(outputs, dim=1)
        result = outputs.numpy().astype(np.float64)
        return result[:, 1:] if self.link == "binary_softmax" else result

    def accepts(self, matrix: np.ndarray) -> np.ndarray:
        """Which of the rows give an output that is a number."""

        def finite(rows: np.ndarray) -> np.ndarray:
            outputs = self.predict(rows)
            if np.isnan(outputs).any():
                raise ValueError("not a number")
            return outputs

        return libraries.accepted(finite, matrix, (ValueError, TypeError))

    def files(self) -> dict[str, bytes]:
        """The model's files by path in the package."""
        return {WEIGHTS_PATH: safetensors(self.weights)}

    def graph(self, columns: list[str]) -> dict:
        """graph.json: the preprocessor's columns and one node."""
        node = {"name": NODE, "type": "mlp", "weights": WEIGHTS_PATH, "layers": self.layers, "link": self.link}
        return self.prepared.graph(node, columns)

    def libraries(self) -> dict[str, str]:
        """Versions of what trains and predicts, by name."""
        names = ("torch", "numpy", *(("scikit-learn",) if self.transformer is not None else ()))
        return libraries.versions(*names)


def load(path: str | Path, architecture: str | Path | None = None) -> Any:
    """The module of a file. Raises ExportError when it is no module, or a state_dict without an architecture."""
    torch = libraries.load("torch")
    name = Path(path).name
    with Path(path).open("rb") as file:
        head = file.read(9)
    if head[8:9] == b"{":
        state: Any = read_safetensors(Path(path).read_bytes(), name)
    else:
        try:
            state = torch.load(path, map_location="cpu", weights_only=False)
        except Exception as error:
            raise ExportError(f"{name}: PyTorch cannot read it: {str(error).splitlines()[0]}") from error
    if not isinstance(state, dict):
        if architecture is not None:
            raise ExportError(f"--architecture: {name} is a whole {type(state).__name__}, which has its own")
        return state
    if architecture is None:
        raise ExportError(f"{name}: a state_dict; --architecture has to name the modules")
    return assemble(state, architecture, name)


def assemble(state: dict[str, Any], architecture: str | Path, where: str) -> Any:
    """The Sequential of a state_dict and the names of its modules. Raises ExportError when they do not fit together."""
    torch = libraries.load("torch")
    tensors = {key: torch.as_tensor(np.array(value)) for key, value in state.items()}
    modules = []
    try:
        listed = json.loads(Path(architecture).read_text(encoding="utf-8"))
        for position, item in enumerate(listed):
            [(kind, settings)] = item.items() if isinstance(item, dict) else [(item, {})]
            if kind not in ("Linear", "BatchNorm1d", *ACTIVATIONS, *IDLE, *OUTPUTS):
                raise ExportError(f"{Path(architecture).name}: module {position}: {kind!r}")
            if kind == "Linear":
                out, inputs = tensors[f"{position}.weight"].shape
                settings = {**settings, "bias": f"{position}.bias" in tensors}
                modules.append(torch.nn.Linear(inputs, out, **settings))
            elif kind == "BatchNorm1d":
                settings = {**settings, "affine": f"{position}.weight" in tensors}
                modules.append(torch.nn.BatchNorm1d(len(tensors[f"{position}.running_mean"]), **settings))
            else:
                settings = {"dim": 1, **settings} if kind in ("Softmax", "LogSoftmax") else settings
                modules.append(getattr(torch.nn, kind)(**settings))
        module = torch.nn.Sequential(*modules)
        wanted = module.state_dict().keys()
        lost = sorted(tensors.keys() - wanted)
        if lost:
            raise ExportError(f"{where}: tensors that no module of the architecture has: {', '.join(lost)}")
        module.load_state_dict(
            tensors, strict=not any(key.endswith("num_batches_tracked") for key in wanted - tensors.keys())
        )
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise ExportError(f"{where} and {Path(architecture).name} do not fit together: {error!r}") from error
    return module


def flatten(module: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """The modules of a Sequential with their names, nested ones too; without those that do nothing in evaluation."""
    found = []
    for name, child in module.named_children():
        kind = type(child).__name__
        if kind == "Sequential":
            found += flatten(child, f"{prefix}{name}.")
        elif kind not in IDLE:
            found.append((f"{prefix}{name}", child))
    return found


def read(
    module: Any, where: str, preprocessor: Any, train: Table, columns: list[str], task: str | None, labels: set[str]
) -> Model:
    """What a Sequential says about itself.

    preprocessor: a fitted transformer or None; columns: the features of the training data; labels: the label's values.
    Raises ExportError, naming the module, for what the format cannot carry.
    """
    torch = libraries.load("torch")
    kind = type(module).__name__
    if not isinstance(module, torch.nn.Sequential):
        raise ExportError(f"{where}: {kind}: its forward is code; the exporter takes a torch.nn.Sequential")
    module = module.eval()
    modules = flatten(module)
    layers, weights, width = read_layers(modules, where)
    first = weights[layers[0]["linear"]["weight"]].shape[1] if "linear" in layers[0] else None
    steps: list[tuple[str, Any]] = []
    if preprocessor is not None:
        steps, last = split_steps(preprocessor, where)
        steps = [*steps, ("preprocessor" if not steps else "last", last)]
    prepared = prepare(preprocessor, steps, None, where, train, columns)
    if first is not None and first != len(prepared.columns):
        raise ExportError(
            f"{where}: the first layer takes {first} numbers; the preprocessed row has {len(prepared.columns)}"
        )
    output = type(modules[-1][1]).__name__
    link, task = read_output(output, width, task, where, labels)
    classes = {"binary": 2, "multiclass": width}.get(task, 0)
    return Model(module, prepared, preprocessor, layers, weights, link, output == "LogSoftmax", task, classes)


def read_output(output: str, width: int, task: str | None, where: str, labels: set[str]) -> tuple[str, str]:
    """The link and the task, from the last module, the number of outputs and what the user said."""
    if width == 1:
        if output in ("Softmax", "LogSoftmax"):
            raise ExportError(f"{where}: {output} of one output")
        if task is None and output != "Sigmoid" and len(labels) == 2:
            raise ExportError(
                f"{where}: one output without a Sigmoid, and a label of two values: say --task binary (it is a logit) "
                "or --task regression"
            )
        task = task or ("binary" if output == "Sigmoid" else "regression")
        if task == "multiclass" or (task == "regression" and output == "Sigmoid"):
            raise ExportError(f"{where}: --task {task}: the network has one output and ends in {output}")
        return ("sigmoid" if task == "binary" else "identity"), task
    if output == "Sigmoid":
        raise ExportError(f"{where}: a Sigmoid of {width} outputs: not one class of several")
    if task is None:
        task = "binary" if width == 2 else "multiclass"
    if task != ("binary" if width == 2 else "multiclass"):
        raise ExportError(f"{where}: --task {task}: the network has {width} outputs")
    return ("binary_softmax" if width == 2 else "softmax"), task


def read_layers(modules: list[tuple[str, Any]], where: str) -> tuple[list, dict[str, np.ndarray], int]:
    """The `layers` of the node, the arrays of its weights, and the number of outputs; a link is no layer."""
    layers: list = []
    weights: dict[str, np.ndarray] = {}
    width = 0

    def keep(name: str, tensor: Any) -> str:
        if str(tensor.dtype) != "torch.float32":
            raise ExportError(f"{where}: {name}: {tensor.dtype}; the format takes single precision")
        weights[name] = tensor.detach().cpu().numpy()
        return name

    for position, (name, module) in enumerate(modules):
        kind = type(module).__name__
        place = f"{where}: module {name!r}: {kind}"
        if not type(module).__module__.startswith("torch.nn.modules."):
            raise ExportError(f"{place}: not a module of PyTorch")
        if kind == "Linear":
            entry = {"weight": keep(f"{name}.weight", module.weight)}
            if module.bias is not None:
                entry["bias"] = keep(f"{name}.bias", module.bias)
            layers.append({"linear": entry})
            width = module.out_features
        elif kind == "BatchNorm1d":
            layers.append({"batch_norm": read_norm(name, module, place, keep)})
        elif kind in OUTPUTS and position == len(modules) - 1:
            if kind != "Sigmoid" and module.dim not in (1, -1):
                raise ExportError(f"{place}: over dimension {module.dim}; expected 1")
        elif kind in ACTIVATIONS:
            if kind in SETTINGS and getattr(module, SETTINGS[kind][0]) != SETTINGS[kind][1]:
                setting, value = SETTINGS[kind]
                raise ExportError(f"{place}: {setting}={getattr(module, setting)}; the format takes {value}")
            layers.append(ACTIVATIONS[kind])
        else:
            known = ("Linear", "BatchNorm1d", *ACTIVATIONS, *IDLE)
            raise ExportError(f"{place}: the exporter takes {', '.join(known)}, and at the end Softmax or LogSoftmax")
    if not width:
        raise ExportError(f"{where}: no Linear module")
    return layers, weights, width


def read_norm(name: str, module: Any, place: str, keep: Any) -> dict:
    """A batch norm; one without running statistics is refused."""
    torch = libraries.load("torch")
    if module.running_mean is None:
        raise ExportError(f"{place}: without running statistics its output depends on the other rows")
    ones, zeros = torch.ones(module.num_features), torch.zeros(module.num_features)
    return {
        "weight": keep(f"{name}.weight", ones if module.weight is None else module.weight),
        "bias": keep(f"{name}.bias", zeros if module.bias is None else module.bias),
        "mean": keep(f"{name}.running_mean", module.running_mean),
        "variance": keep(f"{name}.running_var", module.running_var),
        "epsilon": float(module.eps),
    }
