"""Small good packages, for tests that spoil them, one for each kind of node.

    PYTHONPATH=../../../export/src python make.py

Needs lightgbm, xgboost, catboost, scikit-learn, torch and pandas. Every number in golden.jsonl comes from the library itself.
"""

import json
import shutil
import tempfile
from pathlib import Path

import catboost
import lightgbm
import numpy as np
import pandas
import torch
import xgboost
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from understudy_export.arrays import safetensors
from understudy_export.catboost import category_hash
from understudy_export.package import document, json_lines, publish

HERE = Path(__file__).parent
NAMES = ["a", "b", "c", "d"]
CATEGORIES = 40
ROWS, GOLDEN = 400, 52
FILLED = [{"name": "filled", "from": "b", "ops": [{"fill": 0}]}]
NUMBERS = ["a", "filled", "c"]


def data():
    """Rows [ROWS, 4]: two floats (the second may be missing), an integer, a category's code; and the target."""
    random = np.random.default_rng(7)
    a, b = random.normal(size=ROWS).round(3), random.normal(size=ROWS).round(3)
    c = random.integers(0, 10, ROWS).astype(float)
    d = random.integers(0, CATEGORIES, ROWS).astype(float)
    b[random.random(ROWS) < 0.1] = np.nan
    target = (a + np.nan_to_num(b) + c / 8 + 4 * (d % 3 == 0) + random.normal(size=ROWS) > 2).astype(int)
    return np.stack([a, b, c, d], axis=1), target


def lightgbm_model(rows, target):
    settings = {"objective": "binary", "num_leaves": 6, "min_data_in_leaf": 5, "verbose": -1, "num_threads": 1, "seed": 1}
    settings |= {"cat_smooth": 1, "min_data_per_group": 5}
    dataset = lightgbm.Dataset(rows, target, feature_name=NAMES, categorical_feature=[3])
    booster = lightgbm.train(settings, dataset, 4)
    path = "nodes/node/model.txt"
    node = {"type": "lightgbm", "model": path, "features": NAMES}
    return node, {path: booster.model_to_string().encode()}, booster.predict(rows[:GOLDEN])


def xgboost_model(rows, target, form):
    settings = {"objective": "binary:logistic", "max_depth": 3, "nthread": 1, "seed": 1, "base_score": 0.5}
    booster = xgboost.train(settings, xgboost.DMatrix(rows[:, :3], target), 4)
    path = f"nodes/node/model.{form}"
    node = {"type": "xgboost", "model": path, "features": NAMES[:3]}
    predictions = booster.predict(xgboost.DMatrix(rows[:GOLDEN, :3]))
    return node, {path: bytes(booster.save_raw(form))}, predictions.astype(np.float64)


def catboost_model(rows, target):
    texts = [str(code) for code in range(CATEGORIES)]
    columns = {name: rows[:, j] for j, name in enumerate(NAMES[:3])}
    columns["d"] = [texts[int(code)] for code in rows[:, 3]]
    frame = pandas.DataFrame(columns)
    model = catboost.CatBoostClassifier(
        iterations=4, depth=3, random_seed=1, thread_count=1, verbose=False, allow_writing_files=False, max_ctr_complexity=1
    )
    model.fit(catboost.Pool(frame, target, cat_features=["d"]))
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "model.json"
        model.save_model(str(file), format="json")
        content = json.loads(file.read_bytes())
    content["model_info"].pop("model_guid", None)
    content["model_info"].pop("train_finish_time", None)
    hashes = {
        "codes": [category_hash(text) for text in texts],
        "missing": category_hash("nan"),
        "unseen": category_hash("never-seen"),
    }
    path = "nodes/node/model.json"
    node = {"type": "catboost", "model": path, "hashes": {"d": hashes}, "features": NAMES}
    return node, {path: json.dumps(content).encode()}, model.predict_proba(frame[:GOLDEN], thread_count=1)[:, 1]


def forest(rows, target):
    model = HistGradientBoostingClassifier(
        max_iter=4, max_leaf_nodes=6, min_samples_leaf=5, categorical_features=[3], random_state=1, early_stopping=False
    )
    model.fit(rows, target)
    parts = {key: [] for key in ("left", "right", "feature", "threshold", "missing_left", "category", "value")}
    offsets, sets = [0], []
    for (predictor,) in model._predictors:
        nodes = predictor.nodes
        leaf = nodes["is_leaf"].astype(bool)
        categorical = nodes["is_categorical"].astype(bool) & ~leaf
        parts["left"].append(np.where(leaf, -1, nodes["left"].astype(np.int64)))
        parts["right"].append(np.where(leaf, -1, nodes["right"].astype(np.int64)))
        parts["feature"].append(np.where(leaf, 0, nodes["feature_idx"]))
        parts["threshold"].append(np.where(leaf | categorical, 0.0, nodes["num_threshold"]))
        parts["missing_left"].append(np.where(leaf, 0, nodes["missing_go_to_left"]))
        parts["category"].append(np.where(categorical, nodes["bitset_idx"].astype(np.int64) + len(sets), -1))
        parts["value"].append(np.where(leaf, nodes["value"], 0.0))
        sets.extend(predictor.raw_left_cat_bitsets)
        offsets.append(offsets[-1] + len(nodes))
    kinds = {"left": "<i4", "right": "<i4", "feature": "<i4", "threshold": "<f8", "missing_left": "u1", "category": "<i4"}
    arrays = {key: np.concatenate(part).astype(kinds.get(key, "<f8")) for key, part in parts.items()}
    arrays["value"] = arrays["value"][:, None]
    arrays["offsets"] = np.array(offsets, "<i8")
    arrays["sets"] = np.array(sets, "<u4").reshape(-1, 8)
    path = "nodes/node/arrays.safetensors"
    start = float(np.ravel(model._baseline_prediction)[0])
    node = {"type": "forest", "arrays": path, "input": "double", "start": [start], "average": False, "link": "sigmoid"}
    # scikit-learn puts the categories first.
    node["features"] = [NAMES[3], *NAMES[:3]]
    return node, {path: safetensors(arrays)}, model.predict_proba(rows[:GOLDEN])[:, 1]


def mlp(rows, target):
    torch.manual_seed(3)
    torch.set_num_threads(1)
    table = torch.nn.Embedding(CATEGORIES + 1, 2)
    layers = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.BatchNorm1d(8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
    numbers = torch.from_numpy(np.nan_to_num(rows[:, :3]).astype(np.float32))
    codes = torch.from_numpy(rows[:, 3].astype(np.int64) + 1)
    read = lambda: layers(torch.cat([numbers, table(codes)], dim=1))
    optimizer = torch.optim.Adam([*table.parameters(), *layers.parameters()], lr=0.02)
    for _ in range(30):
        optimizer.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(read()[:, 0], torch.from_numpy(target).float()).backward()
        optimizer.step()
    layers.eval()
    with torch.no_grad():
        predictions = torch.sigmoid(read())[:GOLDEN, 0].numpy().astype(np.float64)
    first, norm, _, last = layers
    weights = {
        "table": table.weight,
        "first.weight": first.weight,
        "first.bias": first.bias,
        "norm.weight": norm.weight,
        "norm.bias": norm.bias,
        "norm.mean": norm.running_mean,
        "norm.variance": norm.running_var,
        "last.weight": last.weight,
        "last.bias": last.bias,
    }
    path = "nodes/node/weights.safetensors"
    batch_norm = {key: f"norm.{key}" for key in ("weight", "bias", "mean", "variance")} | {"epsilon": norm.eps}
    node = {
        "type": "mlp",
        "weights": path,
        "columns": [*FILLED, {"name": "row", "from": "d", "ops": [{"add": 1}, {"fill": 0}]}],
        "features": NUMBERS,
        "embeddings": [{"feature": "row", "weight": "table"}],
        "layers": [
            {"linear": {"weight": "first.weight", "bias": "first.bias"}},
            {"batch_norm": batch_norm},
            "relu",
            {"linear": {"weight": "last.weight", "bias": "last.bias"}},
        ],
        "link": "sigmoid",
    }
    return node, {path: safetensors({name: value.detach().numpy() for name, value in weights.items()})}, predictions


def linear(rows, target):
    filled = np.nan_to_num(rows[:, :3])
    model = LogisticRegression().fit(filled, target)
    node = {
        "type": "linear",
        "columns": FILLED,
        "features": NUMBERS,
        "coefficients": model.coef_.tolist(),
        "intercepts": model.intercept_.tolist(),
        "link": "sigmoid",
    }
    return node, {}, model.predict_proba(filled[:GOLDEN])[:, 1]


def write(kind, rows, node, files, predictions):
    schema = [{"name": name, "kind": "int" if name == "c" else "float"} for name in NAMES[:3]]
    schema.append({"name": "d", "kind": "category", "categories": list(range(CATEGORIES))})
    quantiles = {"levels": [0, 0.5, 1], "values": [0, 0.5, 1]}
    moments = {"mean": 0.5, "std": 1, "min": 0, "max": 1, "quantiles": quantiles}
    profiles = {name: {"missing_share": 0, "unique": 9, **moments} for name in NAMES[:3]}
    profiles["d"] = {"missing_share": 0, "counts": [10] * CATEGORIES}
    golden = []
    for row, probability in zip(rows[:GOLDEN].tolist(), predictions.tolist()):
        cells = {name: None if value != value else value for name, value in zip(NAMES, row)}
        cells |= {name: int(cells[name]) for name in ("c", "d")}
        golden.append({"row": cells, "nodes": {"node": [probability]}, "label": int(probability > 0.5)})
    files = {
        "schema.json": document({"features": schema}),
        "graph.json": document({"nodes": [{"name": "node", **node}], "output": "node"}),
        "reference.json": document({"rows": ROWS, "features": profiles, "score": moments}),
        "golden.jsonl": json_lines(golden),
        "requirements.txt": b"numpy==2.4.0\n",
        **files,
    }
    manifest = {
        "format": "understudy-package",
        "format_version": 1,
        "name": "tiny",
        "version": "1",
        "task": "binary",
        "label": "y",
        "classes": [0, 1],
        "positive_class": 1,
        "exported_at": "2026-11-23T12:00:00Z",
        "libraries": {},
    }
    shutil.rmtree(HERE / kind, ignore_errors=True)
    publish(HERE / kind, files, manifest, force=False)


def main():
    rows, target = data()
    write("lightgbm", rows, *lightgbm_model(rows, target))
    write("xgboost-json", rows, *xgboost_model(rows, target, "json"))
    write("xgboost-ubjson", rows, *xgboost_model(rows, target, "ubj"))
    write("catboost", rows, *catboost_model(rows, target))
    write("forest", rows, *forest(rows, target))
    write("mlp", rows, *mlp(rows, target))
    write("linear", rows, *linear(rows, target))


main()
