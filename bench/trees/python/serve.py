"""Peers that are reached through Python only, measured in this process: lines of JSON on stdin, answers on stdout.

A pass walks over the given number of rows by batches, and its time is this thread's CPU time.
"""

import json
import os
import pickle
import sys
import time
from pathlib import Path

import numpy as np


def batches(rows, size, count):
    return [rows[start : min(start + size, count)] for start in range(0, count, size)]


class CatBoost:
    """CatBoost on Pools that were built before: the conversion of the input is not in its time."""

    about = "conversion of the input not counted"

    def __init__(self, model, rows, _case, _directory):
        import catboost

        self.pool, self.rows, self.made = catboost.Pool, rows.astype("<f4"), {}
        self.model = catboost.CatBoost()
        self.model.load_model(model, format="json")

    def prepare(self, size, count):
        if self.made.get("size") != (size, count):
            self.made = {"size": (size, count), "pools": [self.pool(part) for part in batches(self.rows, size, count)]}
        return self.made["pools"]

    def predict(self, pool):
        return self.model.predict(pool, prediction_type="RawFormulaVal", thread_count=1)


class Sklearn:
    about = "n_jobs=1"

    def __init__(self, model, rows, _case, _directory):
        self.model, self.rows = pickle.loads(Path(model).read_bytes()), rows
        self.model.set_params(n_jobs=1)

    def prepare(self, size, count):
        return batches(self.rows, size, count)

    def predict(self, rows):
        return self.model.predict_proba(rows)[:, 1]


class Ydf:
    """YDF's own C++ benchmark of a model that it trained on the same kind of data.

    It reports wall time; that is multiplied by the share of the processor that this process had meanwhile.
    """

    def __init__(self, _model, _rows, case, directory):
        import ydf

        ydf.verbose(0)
        adult = case != "lgb_syn_500x63"
        data = np.load(directory / ("ydf_adult.npz" if adult else "ydf_table.npz"))
        self.columns = range(data["train"].shape[1])
        features = None
        if adult:
            # In this order: five numbers, then categories.
            numbers = [ydf.Feature(f"f{j}", ydf.Semantic.NUMERICAL) for j in self.columns if j < 5]
            features = numbers + [ydf.Feature(f"f{j}", ydf.Semantic.CATEGORICAL) for j in self.columns if j >= 5]
        learner = ydf.GradientBoostedTreesLearner(
            label="label", task=ydf.Task.CLASSIFICATION, features=features, include_all_columns=features is None,
            num_trees=300 if adult else 500, growing_strategy="BEST_FIRST_GLOBAL", max_num_nodes=63, max_depth=-1,
            shrinkage=0.03 if adult else 0.1, early_stopping="NONE", validation_ratio=0.0, min_examples=20,
            num_threads=2,
        )
        stored = directory / f"ydf_{'adult' if adult else 'table'}_model"
        if not stored.is_dir():
            learner.train(self.table(data["train"], adult, data["label"])).save(str(stored))
        self.model = ydf.load_model(str(stored))
        self.data = self.table(data["rows"], adult)
        leaves = [tree_leaves(self.model.get_tree(t).root) for t in range(self.model.num_trees())]
        engine = self.model.list_compatible_engines()[0]
        self.about = (
            f"{len(leaves)} trees of {np.mean(leaves):.0f} leaves, {engine}; C++ loop on converted input, "
            "wall time times share of the processor"
        )

    def table(self, values, adult, label=None):
        table = {}
        for j in self.columns:
            column = values[:, j]
            table[f"f{j}"] = np.array([f"c{int(v)}" for v in column]) if adult and j >= 5 else column.astype("<f4")
        if label is not None:
            table["label"] = label.astype(int)
        return table

    def time(self, size, count):
        wall, used = time.perf_counter(), time.process_time()
        found = self.model.benchmark(
            self.data, benchmark_duration=0.3, warmup_duration=0.1, batch_size=size, num_threads=1
        )
        share = (time.process_time() - used) / (time.perf_counter() - wall)
        return seconds(found.duration_per_example) * min(1.0, share) * count


def seconds(duration):
    """YDF's durations are numbers or timedeltas, by version."""
    return duration.total_seconds() if hasattr(duration, "total_seconds") else duration


def tree_leaves(root):
    stack, leaves = [root], 0
    while stack:
        node = stack.pop()
        if node.is_leaf:
            leaves += 1
        else:
            stack += [node.neg_child, node.pos_child]
    return leaves


PEERS = {"catboost": CatBoost, "sklearn": Sklearn, "ydf": Ydf}


def answer(question, loaded):
    key = question["case"], question["peer"]
    if question["do"] == "load":
        rows = np.fromfile(question["rows"], dtype="<f8").reshape(-1, question["columns"])
        loaded.pop(key, None)
        directory = Path(question["directory"])
        loaded[key] = PEERS[question["peer"]](question["model"], rows, question["case"], directory)
        return {"about": loaded[key].about}
    peer, size = loaded[key], question["batch"]
    if question["do"] == "predict":
        if isinstance(peer, Ydf):
            return {"answers": []}
        parts = peer.prepare(size, question["rows"])
        return {"answers": np.concatenate([peer.predict(part) for part in parts]).tolist()}
    if isinstance(peer, Ydf):
        return {"seconds": peer.time(size, question["rows"])}
    parts = peer.prepare(size, question["rows"])
    for part in parts[-max(1, len(parts) // 20) :]:
        peer.predict(part)
    start = time.thread_time()
    for part in parts:
        peer.predict(part)
    return {"seconds": time.thread_time() - start}


def main():
    # Libraries may print: their lines must not be among the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    loaded = {}
    for line in sys.stdin:
        try:
            reply = answer(json.loads(line), loaded)
        except Exception as error:
            reply = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
        print(json.dumps(reply), file=answers, flush=True)


main()
