"""Train the tiny XGBoost models of the directory `xgboost`, and write down what XGBoost itself predicts with them.

usage: make_xgboost.py [OUT_DIR]          needs: xgboost, numpy          made with: xgboost 3.2.0, x86-64, glibc 2.36

For each model xgboost/NAME.json and xgboost/NAME.ubj (as `Booster.save_model` writes them) and xgboost/NAME.csv: one row a
line, every number a double's 64 bits in hexadecimal: the columns, then the raw margins, then the predictions. XGBoost
predicts with the model that it reads back, on one thread; both forms must give the same. The rows hold what breaks
evaluators: NaN, both zeros, subnormal numbers, the models' own thresholds and the floats beside them, and doubles that
round to a threshold only as floats.
"""
import json
import struct
import sys
from pathlib import Path

import numpy as np
import xgboost as xgb

OUT = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "xgboost")
ROWS = 90
NUMBERS = [np.nan, 0.0, -0.0, 1e-46, -1e-46, 1e-45, -1e-45, 1e-38, 3.4e38, -3.4e38, 1.5, 16777217.0]


def data(seed, rows=700, missing=0.15, zeros=0.2):
    """Five numbers, and a score that depends on all."""
    rng = np.random.default_rng(seed)
    x = np.column_stack([rng.normal(size=rows), rng.exponential(50, rows).round(), rng.integers(-5, 6, rows).astype(float),
                         rng.uniform(0, 1e-3, rows), rng.normal(size=rows) * 1e6])
    score = x[:, 0] + 0.02 * x[:, 1] + np.abs(x[:, 2]) / 3 + 900 * x[:, 3] + x[:, 4] / 1e6
    x[rng.random(x.shape) < zeros] = 0.0
    x[rng.random(x.shape) < missing] = np.nan
    return x, score - score.mean(), rng


def thresholds(model):
    """The thresholds of each column, as floats."""
    found = {}
    for tree in model["learner"]["gradient_booster"]["model"]["trees"]:
        for left, column, threshold in zip(tree["left_children"], tree["split_indices"], tree["split_conditions"]):
            if left != -1:
                found.setdefault(column, []).append(np.float32(threshold))
    return found


def rows_for(x, own, rng):
    rows = x[rng.choice(len(x), ROWS, replace=False)].copy()
    for i in range(20, ROWS):
        for j in range(rows.shape[1]):
            if rng.random() > 0.4:
                continue
            if j in own and rng.random() < 0.75:
                threshold = rng.choice(own[j])
                up, down = np.nextafter(threshold, np.float32(np.inf)), np.nextafter(threshold, np.float32(-np.inf))
                exact = float(threshold)
                rows[i, j] = rng.choice([exact, float(up), float(down), np.nextafter(exact, np.inf),
                                         np.nextafter(exact, -np.inf), (exact + float(down)) / 2, (exact + float(up)) / 2])
            else:
                rows[i, j] = rng.choice(NUMBERS)
    return rows


def bits(number):
    return struct.pack(">d", float(number)).hex()


def make(name, objective, target, trees=6, depth=3, seed=1, predict=True, **params):
    x, score, rng = data(seed)
    settings = dict(objective=objective, max_depth=depth, eta=0.4, nthread=1, seed=seed, verbosity=0, **params)
    booster = xgb.train(settings, xgb.DMatrix(x, target(score, rng)), trees)
    answers = []
    for form in ("json", "ubj"):
        path = OUT / f"{name}.{form}"
        booster.save_model(path)
        if not predict:
            continue
        model = json.loads(booster.save_raw("json"))
        if not answers:
            rows = rows_for(x, thresholds(model), rng)
        read = xgb.Booster({"nthread": 1}, model_file=path)
        matrix = xgb.DMatrix(rows)
        raw = read.predict(matrix, output_margin=True)
        out = read.predict(matrix)
        answers.append((raw.reshape(ROWS, -1), out.reshape(ROWS, -1)))
    if not predict:
        return
    (raw, out), (raw_ubj, out_ubj) = answers
    assert np.array_equal(raw, raw_ubj) and np.array_equal(out, out_ubj), name
    lines = [",".join(bits(v) for v in (*row, *m, *p)) for row, m, p in zip(rows, raw, out)]
    (OUT / f"{name}.csv").write_text("\n".join(lines) + "\n")
    deleted = sum(int(t["tree_param"]["num_deleted"]) for t in model["learner"]["gradient_booster"]["model"]["trees"])
    print(name, "outputs", raw.shape[1], "trees", booster.num_boosted_rounds(), "pruned nodes", deleted)


def binary(score, rng):
    return (score + rng.normal(size=len(score)) > 0).astype(float)


def classes(score, rng):
    return np.digitize(score + rng.normal(size=len(score)) * 0.3, [-1, 1]).astype(float)


def number(score, rng):
    return score * 3 + rng.normal(size=len(score))


def two_numbers(score, rng):
    return np.column_stack([number(score, rng), number(-score, rng)])


def positive(score, rng):
    return np.exp(score / 3) + rng.random(len(score))


def counts(score, rng):
    return rng.poisson(np.exp(score / 3)).astype(float)


def shares(score, rng):
    return 1 / (1 + np.exp(-score))


if __name__ == "__main__":
    make("binary", "binary:logistic", binary, seed=2)
    make("binary_base", "binary:logistic", binary, base_score=0.137, seed=3)
    make("binary_parallel", "binary:logistic", binary, trees=2, num_parallel_tree=4, subsample=0.6, seed=4)
    make("binary_lossguide", "binary:logistic", binary, depth=0, max_leaves=24, grow_policy="lossguide", seed=5)
    make("binary_logitraw", "binary:logitraw", binary, seed=6)
    make("multiclass", "multi:softprob", classes, num_class=3, trees=4, seed=7)
    make("multiclass_parallel", "multi:softprob", classes, num_class=3, trees=2, num_parallel_tree=3, subsample=0.6, seed=8)
    make("multiclass_base", "multi:softprob", classes, num_class=3, trees=3, base_score=0.5, seed=9)
    make("regression", "reg:squarederror", number, seed=10)
    make("regression_exact_pruned", "reg:squarederror", number, tree_method="exact", depth=5, gamma=150, seed=11)
    make("regression_two_targets", "reg:squarederror", two_numbers, trees=3, seed=12)
    make("absolute_error", "reg:absoluteerror", number, seed=13)
    make("pseudo_huber", "reg:pseudohubererror", number, seed=14)
    make("poisson", "count:poisson", counts, seed=15)
    make("gamma", "reg:gamma", positive, seed=16)
    make("tweedie", "reg:tweedie", counts, tweedie_variance_power=1.3, seed=17)
    make("logistic", "reg:logistic", shares, seed=18)
    make("deep", "binary:logistic", binary, trees=3, depth=9, min_child_weight=0, seed=19)
    make("stumpless", "binary:logistic", binary, trees=2, gamma=1e9, seed=20)
    make("dart", "binary:logistic", binary, booster="dart", rate_drop=0.5, one_drop=1, predict=False, seed=21)
    make("linear", "binary:logistic", binary, booster="gblinear", predict=False, seed=22)
    make("vectors", "reg:squarederror", two_numbers, trees=2, multi_strategy="multi_output_tree", tree_method="hist",
         predict=False, seed=23)
