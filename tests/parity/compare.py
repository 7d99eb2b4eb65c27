"""Export every model of trained predictors, predict with it, and compare with AutoGluon's answers, to the bit.

usage: compare.py PREDICTORS BIN [DATA_SET...]      BIN: the directory of understudy

Prints a table, one line for each model and file of rows, and exits with 1 when a model without networks differs in one
bit, one with networks by more than 5e-7 (relative to numbers above 1), or a label differs.
"""

import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from understudy_export.autogluon.predictor import Predictor
from understudy_export.cli import main as understudy_export
from understudy_export.schema import Feature
from understudy_export.table import read_csv

NETWORK = 5e-7


def predict(binaries, package, path):
    """The answers for a file of JSON rows: the server's own way of encoding and evaluating, in one process."""
    command = [binaries / "understudy", "predict", "--json", "--package", package, "--policy", "autogluon", path]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"understudy predict: {done.stderr}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def write_rows(package, inputs, path):
    """The rows of a CSV as JSON objects with the schema's types."""
    schema = json.loads((package / "schema.json").read_text(encoding="utf-8"))
    table = read_csv(inputs)
    columns = {}
    for entry in schema["features"]:
        categories = tuple(entry["categories"]) if "categories" in entry else None
        feature = Feature(entry["name"], entry["kind"], categories=categories)
        columns[feature.name] = [feature.parse(cell) for cell in table.column(feature.name)]
    with path.open("w", encoding="utf-8") as file:
        for row in zip(*columns.values()):
            file.write(json.dumps(dict(zip(columns, row))) + "\n")
    return table.rows


def scores(answers, manifest):
    """Answers as [rows, width]: probabilities in the order of the classes, quantiles, or the value."""
    if "classes" in manifest:
        names = [text(value) for value in manifest["classes"]]
        return np.array([[answer["probabilities"][name] for name in names] for answer in answers])
    if manifest["task"] == "quantile":
        return np.array([[entry["value"] for entry in answer["quantiles"]] for answer in answers])
    return np.array([[answer["value"]] for answer in answers])


def text(value):
    return json.dumps(value) if isinstance(value, bool) else str(value)


def predicted(probabilities, manifest):
    """The class that AutoGluon takes: the first of the greatest; of two classes the second if it is over the threshold."""
    if manifest["task"] == "binary":
        return (probabilities[:, 1] > manifest.get("decision_threshold", 0.5)).astype(int)
    return probabilities.argmax(axis=1)


def has_network(package):
    graph = json.loads((package / "graph.json").read_text(encoding="utf-8"))
    return any(node["type"] == "mlp" for node in graph["nodes"])


def inexact(package, manifest):
    """Whether answers may differ in the last bits: networks, and numpy's single-precision softmax of a temperature."""
    graph = json.loads((package / "graph.json").read_text(encoding="utf-8"))
    calibrated = any(node["type"] == "temperature" for node in graph["nodes"])
    return has_network(package) or (calibrated and manifest["task"] == "multiclass")


def compare(directory, binaries, name, work):
    """Lines of the table for one predictor, and whether all is well."""
    predictor = Predictor(directory / name)
    reference = np.load(directory / f"{name}.reference.npz")
    good = True
    for model in predictor.ag.model_names():
        if predictor.refusals(model):
            print(f"{name:<12} {model:<32} refused: {predictor.refusals(model)[0]}", flush=True)
            continue
        package = work / f"{name}-{model.replace('/', '_')}" / "1"
        arguments = ["autogluon", directory / name, "--model", model, "--out", package, "--policy", "autogluon"]
        train = directory / f"{name}.train.csv"
        arguments += ["--train", train] if train.exists() else []
        with open(os.devnull, "w") as nowhere:
            saved, sys.stdout = sys.stdout, nowhere
            code = understudy_export([str(argument) for argument in arguments])
            sys.stdout = saved
        if code != 0:
            return False
        manifest = json.loads((package / "manifest.json").read_text(encoding="utf-8"))
        for inputs in sorted(directory.glob(f"{name}.*.inputs.csv")):
            good &= compare_rows(binaries, package, manifest, inputs, reference, predictor.ag.model_best, work)
    return good


def compare_rows(binaries, package, manifest, inputs, reference, best, work):
    """One line of the table."""
    name, file = inputs.name.split(".")[:2]
    model = package.parent.name[len(name) + 1 :]
    if f"{file}|{model}" not in reference:
        return True
    rows = work / "rows.jsonl"
    count = write_rows(package, inputs, rows)
    answers = predict(binaries, package, rows)
    got = scores(answers, manifest)
    want = np.asarray(reference[f"{file}|{model}"], np.float64).reshape(got.shape)
    distance = np.abs(got - want) / np.maximum(1.0, np.abs(want))
    equal = float(np.mean(np.all(got == want, axis=1)))
    limit = NETWORK if inexact(package, manifest) else 0.0
    good = len(answers) == count and math.isfinite(distance.max()) and distance.max() <= limit
    labels = "-"
    if "classes" in manifest:
        # The reference has labels of the best model; of the others, what their probabilities say.
        names = np.array([text(value) for value in manifest["classes"]])
        wanted = reference[f"{file}|labels"] if model == best else names[predicted(want, manifest)]
        same = np.mean(np.array([answer["label"] for answer in answers]) == wanted)
        labels, good = f"{same:.4%}", good and same == 1.0
    line = f"{name:<12} {model:<32} {file:<16} {count:>6} {distance.max():>9.2e} {equal:>9.4%} {labels:>10}"
    print(line + ("" if good else "  <-- differs"), flush=True)
    return good


def main():
    directory, binaries = Path(sys.argv[1]), Path(sys.argv[2])
    names = sys.argv[3:] or sorted(path.name[: -len(".reference.npz")] for path in directory.glob("*.reference.npz"))
    print(f"{'data set':<12} {'model':<32} {'rows of':<16} {'rows':>6} {'max |d|':>9} {'equal':>9} {'labels':>10}")
    with tempfile.TemporaryDirectory() as work:
        results = [compare(directory, binaries, name, Path(work)) for name in names]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
