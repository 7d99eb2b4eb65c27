"""Train a predictor on UCI Adult: every family that the exporter reads, and AutoGluon's weighted ensemble of them.

usage: train.py REPOSITORY OUT TRAIN.csv TEST.csv [--shared DIR]
Writes the two tables, too: those of the shared folder, or examples/adult in two halves (small: for a first look only).
"""

import argparse
from pathlib import Path

import pandas as pd
from autogluon.tabular import TabularPredictor

FAMILIES = {
    "GBM": [{}, {"extra_trees": True, "ag_args": {"name_suffix": "XT"}}],
    "CAT": {},
    "XGB": {},
    "RF": {"n_estimators": 100},
    "XT": {"n_estimators": 100},
    "NN_TORCH": {},
    "FASTAI": {},
    "LR": {},
}


def tables(repository, shared):
    if shared:
        return [pd.read_csv(shared / f"data/adult_{part}.csv", float_precision="round_trip") for part in ("train", "test")]
    adult = repository / "examples/adult"
    rows = [pd.read_csv(adult / f"{name}.csv", float_precision="round_trip") for name in ("rows", "labels")]
    joined = pd.concat(rows, axis=1)
    return [joined.iloc[::2], joined.iloc[1::2]]


parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
for argument in ("repository", "out", "train", "test"):
    parser.add_argument(argument, type=Path)
parser.add_argument("--shared", type=Path)
arguments = parser.parse_args()
train, test = tables(arguments.repository, arguments.shared)
train.to_csv(arguments.train, index=False)
test.to_csv(arguments.test, index=False)
# What the exporter and the predictor read is the same file.
train = pd.read_csv(arguments.train, float_precision="round_trip")
predictor = TabularPredictor(label="income", positive_class=">50K", path=str(arguments.out))
predictor.fit(train, hyperparameters=FAMILIES, time_limit=300, num_gpus=0)
