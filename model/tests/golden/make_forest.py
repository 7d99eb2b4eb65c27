"""Train the tiny scikit-learn forests of the directory `forest`, and write down what scikit-learn itself predicts with them.

usage: make_forest.py [OUT_DIR]     needs: scikit-learn, numpy     made with: scikit-learn 1.9.1, numpy 2.4.6, x86-64, glibc 2.36

For each model of the directory `forest` NAME.safetensors (the arrays), NAME.json (the keys of `graph.json`) and NAME.csv: one
row a line, every number a double's 64 bits in hexadecimal: the columns, then the predictions. The rows hold what breaks
evaluators: NaN, infinities, both zeros, numbers that single precision cannot hold, the models' own thresholds and their
neighbours, and unseen, negative, fractional and huge categories.
"""
import json
import struct
import sys
from pathlib import Path

import numpy as np
from scipy.special import expit
from sklearn import config_context
from sklearn.ensemble import (ExtraTreesClassifier, ExtraTreesRegressor, GradientBoostingClassifier, GradientBoostingRegressor,
                              HistGradientBoostingClassifier, HistGradientBoostingRegressor, RandomForestClassifier,
                              RandomForestRegressor)

OUT = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "forest")
ROWS = 70
COLUMNS = 6
NUMBERS = [np.nan, np.nan, np.inf, -np.inf, 0.0, -0.0, 5e-324, 1e-46, 1e39, -1e39, 1e300, -1e300, -1.0, 0.1, 16777217.0, 3.4028235677973366e38]
CODES = [np.nan, -1.0, -0.0, 0.0, 3.0, 31.0, 32.0, 39.0, 40.0, 63.0, 64.0, 254.0, 255.0]
DTYPES = {"int64": "I64", "int32": "I32", "float64": "F64", "uint8": "U8", "uint32": "U32"}


def save(path, arrays):
    header, blobs, at = {}, [], 0
    for name, array in arrays.items():
        blob = np.ascontiguousarray(array).tobytes()
        header[name] = {"dtype": DTYPES[str(array.dtype)], "shape": list(array.shape), "data_offsets": [at, at + len(blob)]}
        blobs.append(blob)
        at += len(blob)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def data(seed, classes=None, missing=0.1, rows=400):
    rng = np.random.default_rng(seed)
    x = np.column_stack([
        rng.normal(size=rows), rng.exponential(50, rows).round(), rng.integers(-5, 6, rows), rng.uniform(0, 1e-3, rows),
        rng.integers(0, 40, rows), rng.normal(size=rows) * 1e30]).astype(float)
    effect = rng.normal(size=40)
    score = x[:, 0] + 0.02 * x[:, 1] + np.abs(x[:, 2]) / 3 + 900 * x[:, 3] + effect[x[:, 4].astype(int)]
    score = score - score.mean() + rng.normal(size=rows) * 0.3
    x[rng.random(x.shape) < missing] = np.nan
    if classes is None:
        return x, score * 3, rng
    return x, np.digitize(score, np.quantile(score, np.linspace(0, 1, classes + 1)[1:-1])), rng


def rows_for(x, arrays, rng, categories=()):
    rows = x[rng.choice(len(x), ROWS)].copy()
    for i in range(20, ROWS):
        for j in range(COLUMNS):
            if rng.random() > 0.4:
                continue
            own = arrays["threshold"][(arrays["feature"] == j) & (arrays["left"] >= 0)]
            if j in categories:
                rows[i, j] = rng.choice(CODES)
            elif len(own) and rng.random() < 0.6:
                t = rng.choice(own)
                near = np.float32(t)
                rows[i, j] = rng.choice([t, np.nextafter(t, np.inf), np.nextafter(t, -np.inf), near,
                                         np.nextafter(near, np.float32(np.inf)), np.nextafter(near, np.float32(-np.inf))])
            else:
                rows[i, j] = rng.choice(NUMBERS)
    return rows


def bits(number):
    return struct.pack(">d", number).hex()


def write(name, arrays, rows, predictions, **spec):
    save(OUT / f"{name}.safetensors", arrays)
    (OUT / f"{name}.json").write_text(json.dumps(spec) + "\n")
    out = np.asarray(predictions, dtype=np.float64).reshape(ROWS, -1)
    lines = [",".join(bits(v) for v in (*row, *p)) for row, p in zip(rows, out)]
    (OUT / f"{name}.csv").write_text("\n".join(lines) + "\n")
    print(name, "nodes", len(arrays["left"]), "outputs", out.shape[1])


def stack(trees, value, missing=True):
    """The arrays of scikit-learn's `Tree`s."""
    def together(of, dtype):
        return np.concatenate([of(tree) for tree in trees]).astype(dtype)
    arrays = {
        "offsets": np.cumsum([0] + [tree.node_count for tree in trees]).astype(np.int64),
        "left": together(lambda t: t.children_left, np.int32), "right": together(lambda t: t.children_right, np.int32),
        "feature": together(lambda t: t.feature, np.int32), "threshold": together(lambda t: t.threshold, np.float64),
        "value": together(value, np.float64)}
    if missing:
        arrays["missing_left"] = together(lambda t: t.missing_go_to_left, np.uint8)
    return arrays


def forest(name, model, classes=None, seed=1, missing=0.1, positive=False):
    """A random forest or extra trees: leaves are averaged in doubles."""
    x, y, rng = data(seed, classes, missing)
    model.set_params(random_state=seed, n_jobs=1).fit(x, y)
    columns = slice(1, 2) if positive else slice(None)
    arrays = stack([e.tree_ for e in model.estimators_], lambda t: t.value[:, 0, columns])
    rows = rows_for(x, arrays, rng)
    with np.errstate(over="ignore"), config_context(assume_finite=True):
        # Infinities, too, which scikit-learn's checks refuse: what its sums do with each tree's answers.
        single = rows.astype(np.float32)
        total = np.zeros((ROWS, arrays["value"].shape[1]))
        for tree in model.estimators_:
            total += tree.tree_.predict(single).reshape(ROWS, -1)[:, columns]
        total /= len(model.estimators_)
        finite = np.isfinite(single) | np.isnan(single)
        if missing == 0:
            finite &= ~np.isnan(single)
        plain = finite.all(axis=1)
        own = (model.predict_proba if classes else model.predict)(rows[plain])
    assert plain.sum() > 20 and (own.reshape(plain.sum(), -1)[:, columns] == total[plain]).all()
    write(name, arrays, rows, total, input="float", start=[0.0] * total.shape[1], average=True, link="identity")


def boosting(name, model, classes=None, seed=1):
    """Gradient boosting: learning rate times leaf, one tree after another; no missing values."""
    x, y, rng = data(seed, classes, missing=0)
    model.set_params(random_state=seed).fit(x, y)
    stages = model.estimators_
    arrays = stack([e.tree_ for e in stages.ravel()],
                   lambda t: model.learning_rate * t.value[:, 0, :], missing=False)
    start = model._raw_predict_init(x[:1])[0]
    if len(start) > 1:
        arrays["output"] = np.tile(np.arange(len(start)), len(stages)).astype(np.int32)
    rows = rows_for(x, arrays, rng)
    rows[np.isnan(rows)] = 0.25
    rows = np.clip(rows, -3e38, 3e38)
    out, link = (model.predict(rows), "identity") if classes is None else (model.predict_proba(rows), "softmax")
    if classes == 2:
        out, link = out[:, 1], "sigmoid"
    write(name, arrays, rows, out, input="float", start=start.tolist(), average=False, link=link)


def histogram(name, model, classes=None, seed=1, categories=(4,)):
    """Histogram gradient boosting: doubles, missing values, and a set of categories in a node."""
    x, y, rng = data(seed, classes)
    model.set_params(random_state=seed, categorical_features=list(categories) or None).fit(x, y)
    nodes, sets, outputs, offsets, parts = 0, [], [], [0], []
    known, index = model._bin_mapper.make_known_categories_bitsets()
    for stage in model._predictors:
        for output, predictor in enumerate(stage):
            n, category = predictor.nodes, np.full(len(predictor.nodes), -1, dtype=np.int32)
            for i, node in enumerate(n):
                if node["is_categorical"] and not node["is_leaf"]:
                    left = predictor.raw_left_cat_bitsets[node["bitset_idx"]]
                    # What was not known in training goes where missing values go.
                    unknown = ~known[index[node["feature_idx"]]]
                    category[i] = len(sets)
                    sets.append(left | unknown if node["missing_go_to_left"] else left)
            leaf = n["is_leaf"].astype(bool)
            parts.append({
                "left": np.where(leaf, -1, n["left"].astype(np.int64)).astype(np.int32),
                "right": np.where(leaf, -1, n["right"].astype(np.int64)).astype(np.int32),
                "feature": n["feature_idx"].astype(np.int32), "threshold": n["num_threshold"].astype(np.float64),
                "missing_left": n["missing_go_to_left"].astype(np.uint8), "category": category,
                "value": n["value"].astype(np.float64).reshape(-1, 1)})
            nodes += len(n)
            offsets.append(nodes)
            outputs.append(output)
    arrays = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    arrays["offsets"] = np.array(offsets, dtype=np.int64)
    if sets:
        arrays["sets"] = np.array(sets, dtype=np.uint32)
    else:
        del arrays["category"]
    start = np.asarray(model._baseline_prediction).ravel()
    if len(start) > 1:
        arrays["output"] = np.array(outputs, dtype=np.int32)
    # scikit-learn puts the categorical columns first, and encodes them; here the codes are the categories.
    order = [*categories, *(j for j in range(COLUMNS) if j not in categories)]
    rows = rows_for(x[:, order], arrays, rng, range(len(categories)))
    link = {None: "identity", 2: "sigmoid"}.get(classes, "softmax")
    link = "exp" if getattr(model, "loss", "") == "poisson" else link
    with np.errstate(over="ignore"):
        raw = np.zeros((ROWS, len(start))) + start
        for stage in model._predictors:
            for output, predictor in enumerate(stage):
                raw[:, output] += predictor.predict(rows, known, index, 1)
        out = model._loss.link.inverse(raw) if classes != 2 else expit(raw)
    # The same through the front door, where codes are categories that it knows.
    back = np.argsort(order)
    plain = np.ones(ROWS, dtype=bool)
    for j, _ in enumerate(categories):
        plain &= np.isin(rows[:, j], x[:, order[j]]) | np.isnan(rows[:, j])
    own = model.predict(rows[plain][:, back]) if classes is None else model.predict_proba(rows[plain][:, back])
    own = own[:, 1:] if classes == 2 else own.reshape(plain.sum(), -1)
    assert plain.sum() > 20 and (own == out[plain]).all()
    write(name, arrays, rows, out, input="double", start=start.tolist(), average=False, link=link)


forest("forest_binary", RandomForestClassifier(6, max_leaf_nodes=40), 2, seed=1, positive=True)
forest("forest_multiclass", RandomForestClassifier(5, max_depth=5), 4, seed=2)
forest("forest_regressor", RandomForestRegressor(4, min_samples_leaf=4), seed=3)
forest("forest_complete", RandomForestClassifier(4, max_depth=6), 3, seed=4, missing=0)
forest("extra_trees", ExtraTreesClassifier(3, min_samples_leaf=5), 3, seed=5)
forest("extra_trees_regressor", ExtraTreesRegressor(3, min_samples_leaf=5), seed=6)
boosting("boosting_binary", GradientBoostingClassifier(n_estimators=8), 2, seed=7)
boosting("boosting_multiclass", GradientBoostingClassifier(n_estimators=5, learning_rate=0.37), 4, seed=8)
boosting("boosting_many", GradientBoostingClassifier(n_estimators=2, max_depth=2), 11, seed=9)
boosting("boosting_regressor", GradientBoostingRegressor(n_estimators=8, loss="huber", max_leaf_nodes=9), seed=10)
histogram("histogram_binary", HistGradientBoostingClassifier(max_iter=6, min_samples_leaf=5), 2, seed=11)
histogram("histogram_multiclass", HistGradientBoostingClassifier(max_iter=3, min_samples_leaf=12), 3, seed=12)
histogram("histogram_regressor", HistGradientBoostingRegressor(max_iter=6, min_samples_leaf=5), seed=13)
histogram("histogram_plain", HistGradientBoostingRegressor(max_iter=8, max_leaf_nodes=15), seed=14, categories=())
