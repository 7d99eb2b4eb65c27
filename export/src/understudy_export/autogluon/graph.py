"""From a predictor's models to nodes, and each node's answer by AutoGluon's own code."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from understudy_export.autogluon import networks, trees
from understudy_export.autogluon.columns import Columns, Value
from understudy_export.autogluon.features import Stage
from understudy_export.autogluon.predictor import FAMILIES, Predictor, progress
from understudy_export.autogluon.preprocess import Matrix
from understudy_export.autogluon.trees import Part
from understudy_export.errors import ExportError


@dataclass
class Rows:
    """Rows on their way through AutoGluon: the table after the feature generators, and answers by model."""

    table: pd.DataFrame
    answers: dict[str, np.ndarray]


Answer = Callable[[Rows, dict[str, np.ndarray]], np.ndarray]


class Graph:
    """The nodes so far. `answers[i]` makes the i-th node's output with AutoGluon from rows and earlier outputs."""

    def __init__(self, predictor: Predictor, stage: Stage) -> None:
        self.predictor = predictor
        self.stage = stage
        self.nodes: list[dict] = []
        self.files: dict[str, bytes] = {}
        self.names: dict[str, str] = {}
        self.answers: list[tuple[str, str | None, Answer]] = []

    def width(self) -> int:
        """Numbers in a model's output."""
        task = self.predictor.task
        if task == "multiclass":
            return self.predictor.trainer.num_classes
        return len(self.predictor.ag.quantile_levels) if task == "quantile" else 1

    def add(self, model: str, base: str, node: dict, answer: Answer, files: dict[str, bytes] | None = None) -> str:
        """Append a node named after `base`; `model` is AutoGluon's model that it is the output of, or empty."""
        name = re.sub(r"[^A-Za-z0-9_.-]", "_", base).lstrip(".-")[:100] or "model"
        known = {entry["name"] for entry in self.nodes}
        unique = next(n for n in (name, *(f"{name}_{i}" for i in range(2, 10**6))) if n not in known)
        for path, content in (files or {}).items():
            self.files[f"nodes/{unique}/{path}"] = content
        self.nodes.append({"name": unique, **node})
        if model:
            self.names[model] = unique
        self.answers.append((unique, model or None, answer))
        return unique

    def build(self, name: str) -> None:
        """Nodes for a model and all that it reads; the last one is the output. Raises ExportError naming the model."""
        needed = self.predictor.needed(name)
        for place, current in enumerate(needed):
            progress(f"model {place + 1} of {len(needed)}: {current}")
            try:
                self.add_model(current)
            except ExportError as error:
                kind = type(self.predictor.model(current)).__name__
                raise ExportError(f"{current} ({kind}): {error}") from error

    def add_model(self, name: str) -> None:
        """The nodes of one model, after those that it reads."""
        model = self.predictor.model(name)
        calibrated = model.temperature_scalar is not None
        base = f"{name}.raw" if calibrated else name
        own = "" if calibrated else name
        if self.predictor.weighted(model) is not None:
            raw = self.add_weighted(own, base, model)
        elif self.predictor.is_bag(model):
            raw = self.add_bag(own, base, model)
        else:
            raw = self.add_single(own, base, model, model, self.stage.values, lambda rows: rows.table, {})
        if calibrated:
            scale = model.temperature_scalar
            node = {"type": "temperature", "inputs": [raw], "temperature": float(scale)}

            def answer(rows: Rows, outputs: dict[str, np.ndarray]) -> np.ndarray:
                single = outputs[raw].astype(np.float32)
                return model._apply_temperature_scaling(single[:, 0] if self.width() == 1 else single)

            self.add(name, name, node, answer)

    def add_weighted(self, own: str, base: str, model: Any) -> str:
        """A weighted ensemble: the sum of answers times weights, in double precision, then single."""
        inner = self.predictor.weighted(model)
        weights = list(inner.model.weights_)
        if not all(isinstance(weight, np.floating) and weight.dtype == np.float64 for weight in weights):
            raise ExportError(f"weights of type {type(weights[0]).__name__}; expected double precision")
        bases = [model.stack_column_prefix_to_model_map[prefix] for prefix in inner.base_model_names]
        node = {
            "type": "weighted",
            "inputs": [self.names[name] for name in bases],
            "weights": [float(weight) for weight in weights],
            **self.flags(inner),
        }

        def answer(rows: Rows, outputs: dict[str, np.ndarray]) -> np.ndarray:
            table = model.preprocess(rows.table, infer=False, model_pred_proba_dict=rows.answers)
            return single(inner, inner._predict_proba(table, preprocess_nonadaptive=False))

        return self.add(own, base, node, answer)

    def add_bag(self, own: str, base: str, model: Any) -> str:
        """A bag: one node for each child, and their mean in single precision."""
        values, columns = self.stack_values(model)

        def prepared(rows: Rows) -> pd.DataFrame:
            return model.preprocess(rows.table, infer=False, model_pred_proba_dict=rows.answers)

        inputs = []
        for entry in model.models:
            child = self.predictor.child(model, entry)
            keywords = {"preprocess_nonadaptive": False}
            place = f"{base}.{child.name}"
            inputs.append(self.add_single("", place, child, model, values, prepared, keywords, columns))

        def answer(rows: Rows, outputs: dict[str, np.ndarray]) -> np.ndarray:
            total = outputs[inputs[0]].astype(np.float32)
            for name in inputs[1:]:
                total = total + outputs[name].astype(np.float32)
            return shaped(total / len(inputs))

        return self.add(own, base, {"type": "bag", "inputs": inputs}, answer)

    def stack_values(self, model: Any) -> tuple[dict[str, Value], list[str]]:
        """Where the columns of a stacked model are: other models' answers, and AutoGluon's matrix."""
        values = dict(self.stage.values)
        stacked = []
        if self.predictor.bases(model):
            task, width = self.predictor.task, self.width()
            levels = self.predictor.ag.quantile_levels if task == "quantile" else range(width)
            for prefix in model.stack_column_prefix_lst:
                node = self.names[model.stack_column_prefix_to_model_map[prefix]]
                single_number = width == 1 and task != "quantile"
                for index, level in enumerate(levels):
                    column = prefix if single_number else f"{prefix}_{level}"
                    values[column] = Value(node=node, index=index, single=True)
                    stacked.append(column)
        return values, stacked

    def add_single(
        self,
        own: str,
        base: str,
        model: Any,
        owner: Any,
        values: dict[str, Value],
        table: Callable[[Rows], pd.DataFrame],
        keywords: dict,
        stacked: list[str] | None = None,
    ) -> str:
        """One model of a library; `owner` is the model that the trainer knows. Returns the node's name."""
        taken = {feature.name for feature in self.stage.features} | self.stage.columns.taken
        columns = Columns(sorted(taken))
        matrix = Matrix(values, columns)
        task = self.predictor.task

        def answer(rows: Rows, outputs: dict[str, np.ndarray]) -> np.ndarray:
            return single(model, model._predict_proba(table(rows), **keywords))

        if type(model.model).__name__ == "QuantileBooster":
            return self.add_levels(own, base, model, matrix, table, keywords, answer)
        node, files = self.entry(base, part_of(model, matrix, task), columns)
        return self.add(own, base, {**node, **self.flags(model)}, answer, files)

    def entry(self, base: str, part: Part, columns: Columns) -> tuple[dict, dict[str, bytes]]:
        """A node without its name and flags, and its files; `columns` that nothing else shares."""
        node = {"columns": columns.items, **part.keys} if columns.items else dict(part.keys)
        return node, part.files

    def add_levels(
        self, own: str, base: str, model: Any, matrix: Matrix, table: Callable, keywords: dict, answer: Answer
    ) -> str:
        """LightGBM for quantiles: one node for each level, and all of them one after another."""
        inputs = []
        for level in model.model.quantile_levels:
            booster = model.model.model_dict[level]
            columns = Columns(sorted(matrix.columns.taken))
            part = trees.lightgbm(model, Matrix(matrix.values, columns), booster)
            node, files = self.entry(base, part, columns)

            def one(rows: Rows, outputs: dict[str, np.ndarray], booster: Any = booster) -> np.ndarray:
                return booster.predict(model.preprocess(table(rows), **keywords))

            inputs.append(self.add("", f"{base}.{level}", node, one, files))
        return self.add(own, base, {"type": "concat", "inputs": inputs, **self.flags(model)}, answer)

    def flags(self, model: Any) -> dict:
        """`normalize` as AutoGluon set it, and single precision, which every AutoGluon model gives."""
        classification = self.predictor.task in ("binary", "multiclass")
        return {**({"normalize": True} if classification and model.normalize_pred_probas else {}), "float": True}

    def document(self) -> dict:
        """The content of graph.json: paths are made absolute in the package."""
        nodes = []
        for node in self.nodes:
            entry = dict(node)
            for key in ("model", "arrays", "weights"):
                if isinstance(entry.get(key), str):
                    entry[key] = f"nodes/{node['name']}/{entry[key]}"
            nodes.append(entry)
        columns = self.stage.columns.items
        return {**({"columns": columns} if columns else {}), "nodes": nodes, "output": self.nodes[-1]["name"]}

    def evaluate(self, table: pd.DataFrame) -> dict[str, np.ndarray]:
        """Each node's output [rows, width] by AutoGluon's own code, for rows after its feature generators."""
        rows = Rows(table, {})
        outputs: dict[str, np.ndarray] = {}
        for name, model, answer in self.answers:
            result = np.asarray(answer(rows, outputs))
            if model is not None:
                rows.answers[model] = result
            outputs[name] = result.reshape(len(table), -1).astype(np.float64)
        return outputs

    def steady(self, table: pd.DataFrame, outputs: dict[str, np.ndarray]) -> np.ndarray:
        """How far each row's answers of the networks lie from those for the row alone, relative to numbers above 1.

        A network adds in another order for one row than for many: where that matters much, the row is no good test of
        another implementation. outputs: of `evaluate`. Returns [rows], 0 without networks.
        """
        networks_ = {node["name"] for node in self.nodes if node["type"] == "mlp"}
        worst = np.zeros(len(table))
        owners = {model: name for name, model, _ in self.answers if model is not None}
        for row in range(len(table) if networks_ else 0):
            here = {model: shaped(outputs[name][row : row + 1]) for model, name in owners.items()}
            alone = Rows(table.iloc[row : row + 1].reset_index(drop=True), here)
            for name, _, answer in self.answers:
                if name in networks_:
                    given = outputs[name][row]
                    with np.errstate(invalid="ignore"):
                        distance = np.abs(np.asarray(answer(alone, {})).reshape(-1) - given)
                    worst[row] = max(worst[row], np.max(distance / np.maximum(1.0, np.abs(given))))
        return worst


def shaped(output: np.ndarray) -> np.ndarray:
    """A node's output [rows, width] as AutoGluon hands it on: single precision, one dimension for one number."""
    result = output.astype(np.float32)
    return result[:, 0] if result.shape[1] == 1 else result


def part_of(model: Any, matrix: Matrix, task: str) -> Part:
    """The node of one model by its class."""
    family = FAMILIES[type(model).__name__]
    binary = task == "binary"
    if family == "lightgbm":
        return trees.lightgbm(model, matrix, model.model)
    if family == "xgboost":
        return trees.xgboost(model, matrix)
    if family == "catboost":
        return trees.catboost(model, matrix)
    if family == "forest":
        return trees.forest(model, matrix, binary)
    if family == "linear":
        return trees.linear(model, matrix, binary)
    if family == "torch":
        return networks.torch_network(model, matrix, task)
    return networks.fastai_network(model, matrix, task)


def single(model: Any, raw: np.ndarray) -> np.ndarray:
    """AutoGluon's answer from a library's: normalized row by row, not by batch, in single precision."""
    from autogluon.core.utils.utils import normalize_pred_probas

    raw = np.asarray(raw)
    if model.normalize_pred_probas and model.problem_type in ("binary", "multiclass"):
        if raw.ndim == 1:
            raw = normalize_pred_probas(raw, model.problem_type)
        else:
            raw = np.concatenate([normalize_pred_probas(row[None], model.problem_type) for row in raw])
    return raw.astype(np.float32)
