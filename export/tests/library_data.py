"""A table that all the libraries' tests train on, and how they run the command."""

import numpy as np
import pandas
import pytest

from understudy_export.cli import main

TIME = "2026-01-31T12:00:00Z"
LONG = "a category whose text is longer than the sixty-four bytes that a short hash would take in one go"


def table(rows=240, seed=5):
    """Numbers with missing cells (`x`), integers (`k`), skewed ones (`z`), text (`c`), few integers (`s`), booleans."""
    random = np.random.default_rng(seed)
    frame = pandas.DataFrame(
        {
            "x": random.normal(size=rows) * 10,
            "k": random.integers(0, 30, rows),
            "z": random.lognormal(size=rows),
            "c": random.choice(["red", "grün", LONG, "b"], rows, p=[0.35, 0.3, 0.3, 0.05]),
            "s": random.integers(1, 5, rows),
            "b": random.random(rows) > 0.5,
        }
    )
    frame.loc[random.random(rows) < 0.1, "x"] = np.nan
    frame.loc[random.random(rows) < 0.1, "c"] = None
    frame["c"] = frame["c"].astype(object).where(frame["c"].notna(), np.nan)
    score = np.nan_to_num(frame.x) / 10 + frame.k / 15 + (frame.c == "red") + frame.s / 4
    return frame, score.to_numpy()


def numbers(frame):
    """The columns that need no encoder."""
    return frame[["x", "k", "z", "s", "b"]]


def targets(score):
    """yes and no; 0, 10, 20; ten classes."""
    return (
        np.where(score > np.median(score), "yes", "no"),
        np.digitize(score, np.quantile(score, [0.4, 0.7])) * 10,
        np.digitize(score, np.quantile(score, np.arange(1, 10) / 10)),
    )


class Runner:
    """Writes the training CSV and runs `understudy-export`."""

    def __init__(self, directory):
        self.directory = directory
        self.train = directory / "train.csv"
        self.out = directory / "models" / "tiny" / "1"

    def __call__(self, library, model, frame, label, *more):
        """The command's exit code; frame: a DataFrame or matrix of features; label: [rows]."""
        frame = pandas.DataFrame(frame).rename(columns=str).copy()
        frame["y"] = label
        frame.to_csv(self.train, index=False)
        arguments = [library, model, "--train", self.train, "--label", "y", "--exported-at", TIME, "--out", self.out]
        return main([str(argument) for argument in (*arguments, *more)])


@pytest.fixture
def run(tmp_path):
    return Runner(tmp_path)
