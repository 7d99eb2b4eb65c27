"""Train the tiny CatBoost models of the directory `catboost`, and write down what CatBoost itself predicts with them.

usage: make_catboost.py [OUT_DIR]          needs: catboost, numpy, pandas          made with: catboost 1.2.10, x86-64

For each model: NAME.json (as `save_model(format="json")` writes it, without what nobody reads), NAME.hashes (for each
categorical feature the hashes of its codes, of a missing value and of an unseen one), and NAME.csv: one row a line, every
number a double's 64 bits in hexadecimal: the columns, then the raw margins, then the predictions. Categories are codes:
NaN is missing, -1 unseen. The model that was trained predicts, not one that was read back: CatBoost's JSON reader is off
by an ulp now and then. The rows hold what breaks evaluators: NaN, infinities, both zeros, the models' own borders and
their neighbours in single and in double precision, missing and unseen categories.
"""
import json
import struct
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from catboost import CatBoostClassifier, CatBoostRegressor, Pool

OUT = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "catboost")
ROWS = 60
NUMBERS = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e300, -1e300, 3.4028234663852886e38, 1e-46, 1.5]
# The texts of the categories; longer ones take other branches of the hash.
TEXTS = {2: ["no", "yes"], 3: [f"category {i}" for i in range(6)],
         4: [f"{'a rather long name of a category, ' * (i % 4)}{i}" for i in range(25)]}
MISSING, UNSEEN = "__NaN__", "never seen before"


def data(seed, rows=900):
    """Two numbers and three categories, and a score that depends on all."""
    rng = np.random.default_rng(seed)
    x = np.column_stack([rng.normal(size=rows), rng.exponential(3, rows).round(2),
                         *(rng.integers(0, len(texts), rows).astype(float) for texts in TEXTS.values())])
    effect = {column: rng.normal(size=len(texts)) for column, texts in TEXTS.items()}
    score = x[:, 0] + 0.3 * x[:, 1] + sum(table[x[:, column].astype(int)] for column, table in effect.items())
    score += (x[:, 2] == 1) * (x[:, 3] % 2) * 2 + 0.3 * rng.normal(size=rows)
    x[rng.random(x.shape) < 0.06] = np.nan
    return x, score - score.mean(), rng


def frame(x, categorical):
    table = pd.DataFrame({str(column): x[:, column] for column in range(x.shape[1])}, dtype=float)
    for column in categorical:
        text = [MISSING if np.isnan(code) else TEXTS[column][int(code)] if code >= 0 else UNSEEN for code in x[:, column]]
        table[str(column)] = pd.Series(text, dtype=object)
    return table


def rows_for(x, model, rng, categorical):
    rows = x[rng.choice(len(x), ROWS, replace=False)].copy()
    own = {feature["flat_feature_index"]: feature["borders"] for feature in model["features_info"].get("float_features", [])}
    for i in range(12, ROWS):
        for j in range(rows.shape[1]):
            if rng.random() > 0.35:
                continue
            if j in categorical:
                rows[i, j] = rng.choice([np.nan, -1.0])
            elif own.get(j) and rng.random() < 0.6:
                border = np.float32(rng.choice(own[j]))
                rows[i, j] = rng.choice([border, np.nextafter(border, np.float32(np.inf)), np.nextafter(border, np.float32(-np.inf)),
                                         np.nextafter(float(border), np.inf), np.nextafter(float(border), -np.inf)])
            else:
                rows[i, j] = rng.choice(NUMBERS)
    return rows


def bits(number):
    return struct.pack(">d", number).hex()


def make(name, kind, target, columns=5, seed=1, scale=None, **params):
    x, score, rng = data(seed)
    x = x[:, :columns]
    categorical = [column for column in TEXTS if column < columns]
    names = [str(column) for column in categorical]
    y = target(score)
    options = {"iterations": 8, "depth": 3, "learning_rate": 0.4, "random_seed": 1, "thread_count": 1, "verbose": 0,
               "allow_writing_files": False, **params}
    model = kind(**options).fit(frame(x, categorical), y, cat_features=names)
    if scale:
        model.set_scale_and_bias(*scale)
    every = np.full((max(len(texts) for texts in TEXTS.values()) + 2, columns), -1.0)
    every[0] = np.nan
    for column in categorical:
        every[2:2 + len(TEXTS[column]), column] = range(len(TEXTS[column]))
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        # The file lists the hashes of this pool's texts.
        pool = Pool(frame(every, categorical), np.resize(y, len(every)), cat_features=names)
        model.save_model(file.name, format="json", pool=pool)
        read = json.loads(Path(file.name).read_text())
    hash_of = {entry["value"]: entry["hash"] for entry in read["features_info"].pop("cat_features_hash", None) or []}
    read["model_info"] = {"params": {"loss_function": read["model_info"]["params"]["loss_function"]}}
    for tree in read.get("oblivious_trees", []):
        del tree["leaf_weights"]
    (OUT / f"{name}.json").write_text(json.dumps(read, separators=(",", ":")) + "\n")
    hashes = [{"codes": [hash_of[text] for text in TEXTS[column]], "missing": hash_of[MISSING], "unseen": hash_of[UNSEEN]}
              for column in categorical]
    (OUT / f"{name}.hashes").write_text(json.dumps(hashes, separators=(",", ":")) + "\n")
    rows = rows_for(x, read, rng, categorical)
    table = frame(rows, categorical)
    raw = model.predict(table, prediction_type="RawFormulaVal").reshape(ROWS, -1)
    if kind is CatBoostClassifier:
        predictions = model.predict_proba(table)
        predictions = predictions[:, 1:] if raw.shape[1] == 1 else predictions
    else:
        predictions = model.predict(table).reshape(ROWS, -1)
    lines = (",".join(map(bits, [*row, *margins, *answers])) for row, margins, answers in zip(rows, raw, predictions))
    (OUT / f"{name}.csv").write_text("\n".join(lines) + "\n")
    kinds = {(ctr["ctr_type"], tuple(element["combination_element"] for element in ctr["elements"]))
             for ctr in read["features_info"].get("ctrs", [])}
    print(f"{name}: {(OUT / f'{name}.json').stat().st_size} bytes, {len(np.unique(raw))} margins, {sorted(kinds)}")


def main():
    OUT.mkdir(exist_ok=True)
    binary = lambda score: (score > 0).astype(int)
    classes = lambda count: lambda score: np.digitize(score, np.quantile(score, np.arange(1, count) / count))
    positive = lambda score: np.exp(score / 4).round(2)
    same = lambda score: score.round(2)
    classifier, regressor = CatBoostClassifier, CatBoostRegressor
    make("binary", classifier, binary, iterations=30, depth=5, one_hot_max_size=3, max_ctr_complexity=3)
    make("binary_numbers", classifier, binary, columns=2, depth=4)
    make("cross_entropy", classifier, lambda score: 1 / (1 + np.exp(-score)), loss_function="CrossEntropy")
    make("ctr_types", regressor, same, iterations=20, one_hot_max_size=2, max_ctr_complexity=2,
         simple_ctr=["BinarizedTargetMeanValue", "Borders:TargetBorderCount=3", "Buckets:TargetBorderCount=2", "Counter"],
         combinations_ctr=["Buckets:TargetBorderCount=2", "Counter", "BinarizedTargetMeanValue", "Borders:TargetBorderCount=2"])
    make("multiclass", classifier, classes(5), iterations=6, one_hot_max_size=3)
    make("one_vs_all", classifier, classes(3), loss_function="MultiClassOneVsAll")
    make("missing_low", regressor, same, columns=2, iterations=12, nan_mode="Min")
    make("missing_high", regressor, same, columns=2, iterations=12, nan_mode="Max")
    make("deep", regressor, same, columns=2, iterations=1, depth=10, random_strength=0, l2_leaf_reg=0.01, border_count=1000)
    make("scaled", regressor, same, scale=(2.7182818, 0.3))
    make("poisson", regressor, positive, loss_function="Poisson")
    make("tweedie", regressor, positive, loss_function="Tweedie:variance_power=1.5")
    make("quantile", regressor, same, loss_function="Quantile:alpha=0.3")
    make("multi_quantile", regressor, same, loss_function="MultiQuantile:alpha=0.1,0.5,0.9")
    make("lossguide", classifier, binary, iterations=10, grow_policy="Lossguide", max_leaves=9, depth=6, one_hot_max_size=3)
    make("lossguide_multiclass", classifier, classes(3), iterations=5, grow_policy="Lossguide", max_leaves=6)
    make("depthwise", regressor, same, grow_policy="Depthwise", max_ctr_complexity=2, depth=4)
    make("single_leaf", classifier, binary, iterations=2, depth=1, grow_policy="Depthwise", min_data_in_leaf=900)


main()
