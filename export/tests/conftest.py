"""Tiny models, trained here, with their training data as CSV."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import lightgbm
import numpy as np
import pytest

from understudy_export.cli import main

TIME = "2026-01-31T12:00:00Z"


@dataclass
class Case:
    """A trained model on disk; `categories` is a path or None; `out` is where its package goes."""

    directory: Path
    model: Path
    train: Path
    categories: Path
    out: Path

    def arguments(self, *more):
        return [
            "lightgbm",
            self.model,
            "--train",
            self.train,
            "--label",
            "y",
            "--exported-at",
            TIME,
            "--out",
            self.out,
            *more,
        ]

    def export(self, *more):
        """Run the command on this case; returns the exit code."""
        if self.categories is not None:
            more = ("--categories", self.categories, *more)
        return main([str(argument) for argument in self.arguments(*more)])


def write_csv(path, header, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def train(directory, columns, categories, labels, target, **parameters):
    """columns: cells by name; categories: by name; labels: cells; target: what LightGBM gets, [rows]."""
    rows = len(labels)
    matrix = np.full((rows, len(columns)), np.nan)
    for j, (name, cells) in enumerate(columns.items()):
        for i, cell in enumerate(cells):
            if name in categories:
                matrix[i, j] = categories[name].index(cell)
            elif cell != "":
                matrix[i, j] = float(cell)
    data = lightgbm.Dataset(
        matrix,
        np.asarray(target, float),
        feature_name=list(columns),
        categorical_feature=[j for j, name in enumerate(columns) if name in categories],
    )
    settings = {
        "num_leaves": 7,
        "min_data_in_leaf": 5,
        "verbose": -1,
        "num_threads": 1,
        "deterministic": True,
        "seed": 1,
    }
    booster = lightgbm.train({**settings, **parameters}, data, 8)
    booster.save_model(directory / "model.txt")
    write_csv(directory / "train.csv", [*columns, "y"], zip(*columns.values(), labels))
    path = None
    if categories:
        path = directory / "categories.json"
        path.write_text(json.dumps({"features": list(columns), "categories": categories}))
    return Case(directory, directory / "model.txt", directory / "train.csv", path, directory / "models" / "tiny" / "1")


def numbers(seed=5, rows=240):
    """Columns `count` (int), `size` (float with missing cells) and the raw doubles behind them."""
    random = np.random.default_rng(seed)
    count = random.integers(0, 60, rows)
    size = random.normal(size=rows)
    cells = [repr(value) if random.random() > 0.1 else "" for value in size.tolist()]
    return {"count": [str(c) for c in count], "size": cells}, count, size, random


@pytest.fixture
def binary(tmp_path):
    columns, count, size, random = numbers()
    kinds = {"colour": ["", "blue", "grün", "red"], "shape": ["disc", "ring"]}
    colour = random.integers(0, 4, len(count))
    shape = random.integers(0, 2, len(count))
    columns = {"colour": [kinds["colour"][c] for c in colour], **columns, "shape": [kinds["shape"][s] for s in shape]}
    target = (count / 30 + size + colour + shape + random.normal(size=len(count)) > 3).astype(int)
    return train(tmp_path, columns, kinds, [["no", "yes"][t] for t in target], target, objective="binary")


@pytest.fixture
def multiclass(tmp_path):
    columns, count, size, random = numbers()
    target = np.clip(np.round(count / 20 + size), 0, 2).astype(int)
    labels = [["10", "20", "30"][t] for t in target]
    return train(tmp_path, columns, {}, labels, target, objective="multiclass", num_class=3)


@pytest.fixture
def regression(tmp_path):
    columns, count, size, random = numbers()
    target = count + 3 * size
    return train(tmp_path, columns, {}, [repr(value) for value in target.tolist()], target, objective="regression")
