"""A package evaluated with numpy, after FORMAT.md and not after the exporter's code: the oracle of the parity tests.

Slow and simple: every row walks every tree. Only the C library's `expf` is taken from elsewhere, as numpy's own
single-precision exponential differs from it.
"""

import ctypes
import ctypes.util
import json
import math
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from evaluator_trees import catboost, forest, lightgbm, xgboost

libm = ctypes.CDLL(ctypes.util.find_library("m"))
libm.expf.restype = ctypes.c_float
libm.expf.argtypes = [ctypes.c_float]
EPSILON = 1e-7


def expf(values):
    """The C library's exponential in single precision."""
    flat = np.asarray(values, np.float32).ravel()
    return np.array([libm.expf(float(x)) for x in flat], np.float32).reshape(np.shape(values))


def number(value):
    return float(value)


class Package:
    """A package on disk."""

    def __init__(self, path):
        self.path = Path(path)
        self.manifest = json.loads((self.path / "manifest.json").read_text(encoding="utf-8"))
        self.schema = json.loads((self.path / "schema.json").read_text(encoding="utf-8"))
        self.graph = json.loads((self.path / "graph.json").read_text(encoding="utf-8"))
        self.cache = {}

    def golden(self):
        with (self.path / "golden.jsonl").open(encoding="utf-8") as file:
            return [json.loads(line) for line in file]

    def encode(self, rows):
        """Rows (objects by feature name) as columns of doubles by name."""
        table = {}
        for feature in self.schema["features"]:
            table[feature["name"]] = np.array([encode(feature, row.get(feature["name"])) for row in rows], np.float64)
        return table

    def outputs(self, rows, given=None):
        """Each node's output [rows, width]; given: outputs to be read instead of those computed here, by node."""
        table = self.encode(rows)
        count = len(rows)
        for column in self.graph.get("columns", []):
            table[column["name"]] = apply(column.get("ops", []), table[column["from"]])
        result = {}
        for node in self.graph["nodes"]:
            known = given or result
            own = dict(table)
            for column in node.get("columns", []):
                source = known[column["node"]][:, column.get("index", 0)] if "node" in column else own[column["from"]]
                own[column["name"]] = apply(column.get("ops", []), source)
            with np.errstate(all="ignore"):
                out = self.evaluate(node, own, known, count)
                out = np.stack([apply(node.get("output_ops", []), c) for c in out.astype(np.float64).T], axis=1)
                if node.get("normalize"):
                    out = normalize(out)
                if node.get("float"):
                    out = out.astype(np.float32).astype(np.float64)
            result[node["name"]] = out
        return result

    def load(self, path, read):
        if path not in self.cache:
            self.cache[path] = read(self.path / path)
        return self.cache[path]

    def evaluate(self, node, table, known, count):
        kind = node["type"]
        inputs = [known[name] for name in node.get("inputs", [])]
        matrix = None
        if "features" in node:
            matrix = np.zeros((count, 0))
            if node["features"]:
                matrix = np.stack([table[name] for name in node["features"]], axis=1)
        if kind == "lightgbm":
            return self.load(node["model"], lightgbm)(matrix)
        if kind == "xgboost":
            return self.load(node["model"], xgboost)(matrix, expf)
        if kind == "catboost":
            return self.load(node["model"], catboost)(matrix, node["features"], node.get("hashes", {}))
        if kind == "forest":
            arrays = self.load(node["arrays"], safetensors)
            return link(node.get("link", "identity"), forest(node, arrays, matrix))
        if kind == "linear":
            sums = np.zeros((count, len(node["coefficients"])))
            for out, coefficients in enumerate(node["coefficients"]):
                for column, coefficient in enumerate(coefficients):
                    sums[:, out] += matrix[:, column] * number(coefficient)
                sums[:, out] += number(node["intercepts"][out])
            return link(node.get("link", "identity"), sums)
        if kind == "mlp":
            return mlp(node, self.load(node["weights"], safetensors), matrix, table)
        if kind == "weighted":
            total = np.zeros_like(inputs[0])
            for values, weight in zip(inputs, node["weights"]):
                total = total + values * number(weight)
            return total
        if kind == "bag":
            total = inputs[0].astype(np.float32)
            for values in inputs[1:]:
                total = total + values.astype(np.float32)
            return total / np.float32(len(inputs))
        if kind == "concat":
            return np.concatenate(inputs, axis=1)
        if kind == "temperature":
            return temperature(inputs[0], node["temperature"])
        raise AssertionError(kind)

    def labels(self, output):
        """The predicted classes."""
        classes = self.manifest["classes"]
        if self.manifest["task"] == "binary":
            return [classes[int(p > self.manifest["decision_threshold"])] for p in output[:, -1]]
        return [classes[i] for i in np.argmax(output, axis=1)]


def encode(feature, value):
    """One value as FORMAT.md says."""
    if value is None:
        value = feature.get("fill")
    if value is None:
        return math.nan
    if "categories" in feature:
        for code, category in enumerate(feature["categories"]):
            same = isinstance(category, bool) == isinstance(value, bool)
            if same and isinstance(category, str) == isinstance(value, str) and category == value:
                return code
        return -1
    if feature["kind"] == "datetime":
        if isinstance(value, int):
            return float(value)
        text, fraction = value.replace("Z", "+00:00"), 0
        if "." in text:
            head, tail = text.split(".")
            digits = "".join(c for c in tail.split("+")[0].split("-")[0] if c.isdigit())
            fraction, text = int(digits.ljust(9, "0")), head + tail[len(digits) :]
        moment = datetime.fromisoformat(text)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
        return float(int(moment.timestamp()) * 10**9 + fraction)
    return float(value)


def apply(ops, x):
    """The operations on a column."""
    for op in ops:
        if op == "truncate":
            x = np.trunc(x)
        elif op == "float":
            x = x.astype(np.float32).astype(np.float64)
        elif op == "is_missing":
            x = np.isnan(x).astype(np.float64)
        else:
            ((name, v),) = op.items()
            x = APPLY[name](x, v)
    return x


def codes(x, v):
    table = np.array([number(value) for value in v["map"]])
    safe = np.where(np.isnan(x), -1, x).astype(int)
    known = (safe >= 0) & (safe < len(table))
    out = np.where(known, table[np.where(known, safe, 0)], number(v["unseen"]))
    return np.where(np.isnan(x), number(v["missing"]), out)


def quantiles(x, v):
    from scipy.stats import norm

    values, references = np.array(v["values"]), np.array(v["references"])
    out = 0.5 * (np.interp(x, values, references) - np.interp(-x, -values[::-1], -references[::-1]))
    lower, upper = (x == values[0]), (x == values[-1])
    if v.get("normal"):
        lower, upper = x - 1e-7 < values[0], x + 1e-7 > values[-1]
    out = np.where(upper, references[-1], out)
    out = np.where(lower, references[0], out)
    out = np.where(np.isnan(x), np.nan, out)
    if v.get("normal"):
        low = norm.ppf(1e-7 - np.spacing(1))
        high = norm.ppf(1 - (1e-7 - np.spacing(1)))
        out = np.clip(norm.ppf(out), low, high)
    return out


def date(x, part):
    whole = np.where(np.isnan(x), 0, x).astype("int64")
    moments = [datetime(1970, 1, 1, tzinfo=timezone.utc).fromtimestamp(int(n) // 10**9, timezone.utc) for n in whole]
    out = np.array([m.weekday() if part == "dayofweek" else getattr(m, part) for m in moments], np.float64)
    return np.where(np.isnan(x), np.nan, out)


APPLY = {
    "fill": lambda x, v: np.where(np.isnan(x), number(v), x),
    "missing": lambda x, v: np.where(x == number(v), np.nan, x),
    "equals": lambda x, v: (x == number(v)).astype(np.float64),
    "add": lambda x, v: x + number(v),
    "subtract": lambda x, v: x - number(v),
    "multiply": lambda x, v: x * number(v),
    "divide": lambda x, v: x / number(v),
    "clip": lambda x, v: np.clip(x, number(v[0]), number(v[1])),
    "codes": codes,
    "quantiles": quantiles,
    "date": date,
}


def normalize(out):
    """AutoGluon's normalize_pred_probas, row by row."""
    if out.shape[1] == 1:
        top = 1 - EPSILON
        out = np.where(out > top, 1 - EPSILON * np.exp(-(out - top)), out)
        return np.where(out < EPSILON, EPSILON * np.exp(-(EPSILON - out)), out)
    least = out.min(axis=1, keepdims=True)
    clipped = np.clip(out - np.minimum(least, 0), EPSILON, None)
    return np.where(least < EPSILON, clipped / clipped.sum(axis=1, keepdims=True), out)


def temperature(p, scale):
    if p.shape[1] > 1:
        logits = np.log(p.astype(np.float32)) / scale
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)
    both = np.concatenate([(np.float32(1) - p.astype(np.float32)).astype(np.float64), p], axis=1)
    logits = np.log(both) / scale
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers[:, 1:] / powers.sum(axis=1, keepdims=True)


def link(name, x):
    if name == "identity":
        return x
    if name == "sigmoid":
        return 1 / (1 + np.exp(-x))
    if name == "exp":
        return np.exp(x)
    if name == "sort":
        return np.sort(x, axis=1)
    if name == "ovr":
        p = 1 / (1 + np.exp(-x))
        return p / p.sum(axis=1, keepdims=True)
    powers = np.exp(x - x.max(axis=1, keepdims=True))
    p = powers / powers.sum(axis=1, keepdims=True)
    return p[:, 1:2] if name == "binary_softmax" else p


def mlp(node, weights, matrix, table):
    vector = matrix.astype(np.float32)
    if "input_norm" in node:
        vector = batch_norm(node["input_norm"], weights, vector)
    embedded = []
    for entry in node.get("embeddings", []):
        rows = weights[entry["weight"]]
        place = table[entry["feature"]]
        good = (place >= 0) & (place < len(rows)) & (np.trunc(place) == place)
        embedded.append(rows[np.where(good, place, 0).astype(int)])
    parts = [*embedded, vector] if node.get("first") == "embeddings" else [vector, *embedded]
    x = np.concatenate(parts, axis=1)
    for layer in node["layers"]:
        if isinstance(layer, str):
            x = ACTIVATE[layer](x)
        elif "linear" in layer:
            x = x @ weights[layer["linear"]["weight"]].T
            if "bias" in layer["linear"]:
                x = x + weights[layer["linear"]["bias"]]
        else:
            x = batch_norm(layer["batch_norm"], weights, x)
    assert x.dtype == np.float32
    return link(node.get("link", "identity"), x)


def batch_norm(keys, weights, x):
    mean, variance = weights[keys["mean"]], weights[keys["variance"]]
    scale = weights[keys["weight"]] / np.sqrt(variance + np.float32(keys["epsilon"]))
    return (x - mean) * scale + weights[keys["bias"]]


ACTIVATE = {
    "relu": lambda x: np.maximum(x, np.float32(0)),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, np.float32(0)))),
    "leaky_relu": lambda x: np.where(x > 0, x, x * np.float32(0.01)),
    "gelu": lambda x: (x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))).astype(np.float32),
    "selu": lambda x: (1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0)))).astype(
        np.float32
    ),
    "silu": lambda x: x / (np.float32(1) + np.exp(-x)),
    "tanh": np.tanh,
    "sigmoid": lambda x: np.float32(1) / (np.float32(1) + np.exp(-x)),
}


def safetensors(path):
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    kinds = {"F64": "<f8", "F32": "<f4", "I64": "<i8", "I32": "<i4", "U32": "<u4", "U8": "u1"}
    arrays = {}
    for name, entry in json.loads(content[8 : 8 + size]).items():
        start, end = entry["data_offsets"]
        values = np.frombuffer(content[8 + size + start : 8 + size + end], kinds[entry["dtype"]])
        arrays[name] = values.reshape(entry["shape"])
    return arrays
