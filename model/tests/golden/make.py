"""Train the tiny LightGBM models of this directory, and write down what LightGBM itself predicts with them.

usage: make.py [OUT_DIR]          needs: lightgbm, numpy, scipy          made with: lightgbm 4.7.0, x86-64, glibc 2.36
With lightgbm 3 (made with 3.3.5, numpy 1) it makes the models whose names begin with version_3.

For each model NAME.txt (as `Booster.save_model` writes it, without the parameters at its end) and NAME.csv: one row a line,
every number a double's 64 bits in hexadecimal: the columns, then the raw margins, then the predictions. LightGBM predicts
with the model that it reads back from NAME.txt. The rows hold what breaks evaluators: NaN, infinities, both zeros, numbers
around LightGBM's zero threshold, the models' own thresholds and their neighbours, unseen, negative, fractional and huge
categories.
"""
import struct
import sys
from pathlib import Path

import lightgbm as lgb
import numpy as np

OUT = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent)
ROWS = 160
ZERO = float(np.float32(1e-35))
NUMBERS = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-36, -1e-36, ZERO, -ZERO, np.nextafter(ZERO, 1), np.nextafter(-ZERO, -1),
           5e-324, -5e-324, 1e300, -1e300, 1.5]
CODES = [np.nan, np.inf, -np.inf, -1.0, -0.5, -0.0, 0.5, 1.999, 31, 32, 33, 63, 64, 65, 95, 96, 99, 100, 127, 128, 1000,
         2147483647, 2147483648, -2147483648, -2147483649, 4294967297, 1e18, -1e300]
CATEGORICAL = {4: 12, 5: 50, 6: 120}


def data(seed, rows=900, missing=0.1, zeros=0.2):
    """Four numbers and three categories (12, 50 and 120 of them), and a score that depends on all."""
    rng = np.random.default_rng(seed)
    x = np.column_stack([
        rng.normal(size=rows), rng.exponential(50, rows).round(), rng.integers(-5, 6, rows).astype(float),
        rng.uniform(0, 1e-3, rows), *(rng.integers(0, count, rows).astype(float) for count in CATEGORICAL.values())])
    effect = {column: rng.normal(size=count) for column, count in CATEGORICAL.items()}
    score = x[:, 0] + 0.02 * x[:, 1] + np.abs(x[:, 2]) / 3 + 900 * x[:, 3]
    score += sum(table[x[:, column].astype(int)] for column, table in effect.items())
    x[:, :4][rng.random((rows, 4)) < zeros] = 0.0
    x[rng.random(x.shape) < missing] = np.nan
    return x, score - score.mean(), rng


def thresholds(text):
    """The numeric thresholds of each column, as the text has them."""
    found = {}
    for tree in text.split("Tree=")[1:]:
        section = dict(line.split("=", 1) for line in tree.splitlines() if "=" in line)
        if section["num_leaves"] == "1":
            continue
        keys = ("split_feature", "threshold", "decision_type")
        for column, threshold, decision in zip(*(section[key].split() for key in keys)):
            if not int(decision) & 1:
                found.setdefault(int(column), []).append(float(threshold))
    return found


def rows_for(x, text, rng, categorical):
    rows = x[rng.choice(len(x), ROWS, replace=False)].copy()
    own = thresholds(text)
    for i in range(20, ROWS):
        for j in range(rows.shape[1]):
            if rng.random() > 0.35:
                continue
            if j in categorical:
                rows[i, j] = rng.choice(CODES)
            elif j in own and rng.random() < 0.6:
                threshold = rng.choice(own[j])
                rows[i, j] = rng.choice([threshold, np.nextafter(threshold, np.inf), np.nextafter(threshold, -np.inf)])
            else:
                rows[i, j] = rng.choice(NUMBERS)
    return rows


def bits(number):
    return struct.pack(">d", number).hex()


def make(name, objective, target, trees=8, leaves=12, categorical=True, seed=1, columns=7, group=None, predict=True, **params):
    x, score, rng = data(seed)
    x, y = x[:, :columns], target(score, rng)
    codes = [c for c in CATEGORICAL if categorical and c < columns]
    settings = dict(objective=objective, num_leaves=leaves, learning_rate=0.3, min_data_in_leaf=5, max_cat_to_onehot=4,
                    min_data_per_group=5, cat_smooth=1, verbose=-1, num_threads=1, seed=seed, deterministic=True, **params)
    dataset = lgb.Dataset(x, y, categorical_feature=codes, group=group, free_raw_data=False)
    text = lgb.train(settings, dataset, trees).model_to_string()
    text = text[:text.index("end of trees") + len("end of trees\n")]
    (OUT / f"{name}.txt").write_text(text)
    if not predict:
        return
    booster = lgb.Booster(model_file=OUT / f"{name}.txt")
    rows = rows_for(x, text, rng, codes)
    raw = booster.predict(rows, raw_score=True, num_threads=1).reshape(ROWS, -1)
    out = booster.predict(rows, num_threads=1).reshape(ROWS, -1)
    lines = [",".join(bits(v) for v in (*row, *m, *p)) for row, m, p in zip(rows, raw, out)]
    (OUT / f"{name}.csv").write_text("\n".join(lines) + "\n")
    print(name, "outputs", raw.shape[1], "trees", booster.num_trees())


def binary(score, rng):
    return (score + rng.normal(size=len(score)) > 0).astype(float)


def classes(score, rng):
    return np.digitize(score + rng.normal(size=len(score)) * 0.3, [-1, 1]).astype(float)


def number(score, rng):
    return score * 3 + rng.normal(size=len(score))


def positive(score, rng):
    return np.exp(score / 3) + rng.random(len(score))


def counts(score, rng):
    return rng.poisson(np.exp(score / 3)).astype(float)


def shares(score, rng):
    return 1 / (1 + np.exp(-score))


if lgb.__version__.startswith("3."):
    make("version_3_binary", "binary", binary, seed=31)
    make("version_3_multiclass", "multiclass", classes, num_class=3, trees=3, zero_as_missing=True, seed=32)
    sys.exit()

make("binary_categories", "binary", binary)
make("binary_missing_none", "binary", binary, use_missing=False, seed=2)
make("binary_missing_zero", "binary", binary, zero_as_missing=True, seed=3)
make("binary_missing_nan", "binary", binary, categorical=False, columns=4, sigmoid=0.7, seed=4)
make("binary_sigmoid", "binary", binary, sigmoid=1.02703, seed=5)
make("binary_dart", "binary", binary, boosting="dart", drop_rate=0.5, seed=6)
make("binary_forest", "binary", binary, boosting="rf", bagging_freq=1, bagging_fraction=0.6, seed=7)
make("binary_goss", "binary", binary, data_sample_strategy="goss", seed=8)
make("multiclass", "multiclass", classes, num_class=3, trees=3, seed=9)
make("multiclassova", "multiclassova", classes, num_class=3, trees=3, sigmoid=1.3, seed=10)
make("multiclass_forest", "multiclass", classes, num_class=3, trees=3, boosting="rf", bagging_freq=1, bagging_fraction=0.6, seed=11)
make("regression", "regression", number, seed=12)
make("regression_sqrt", "regression", number, reg_sqrt=True, seed=13)
make("regression_l1", "regression_l1", number, seed=14)
make("regression_forest", "regression", number, boosting="rf", bagging_freq=1, bagging_fraction=0.6, trees=7, seed=15)
make("huber", "huber", number, seed=16)
make("fair", "fair", number, seed=17)
make("quantile", "quantile", number, alpha=0.9, seed=18)
make("mape", "mape", positive, seed=19)
make("poisson", "poisson", counts, seed=20)
make("gamma", "gamma", positive, seed=21)
make("tweedie", "tweedie", counts, tweedie_variance_power=1.3, seed=22)
make("cross_entropy", "cross_entropy", shares, seed=23)
make("cross_entropy_lambda", "cross_entropy_lambda", shares, seed=24)
make("lambdarank", "lambdarank", classes, group=[100] * 9, seed=25)
make("single_leaf", "binary", binary, trees=2, min_gain_to_split=1e9, seed=26)
make("custom", lambda p, d: (p - d.get_label(), np.ones_like(p)), number, seed=27)
make("linear", "regression", number, trees=2, leaves=3, linear_tree=True, predict=False, seed=28)
