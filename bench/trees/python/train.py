"""Models to measure on, and their trainers' own raw predictions for every row.

A model is `(files, rows, margins)`: it comes from the shared folder when that has it, else it is trained here.
"""

import json
import pickle

import numpy as np

THREADS = 2
ADULT = {"lgb_cat_300x63": (300, 63), "lgb_cat_1000x31": (1000, 31), "lgb_num_300x63": (300, 63)}


def write(path, array, dtype):
    np.ascontiguousarray(array, dtype=dtype).tofile(path)


def lightgbm_model(name, out, adult, table):
    import lightgbm

    params = dict(objective="binary", verbose=-1, num_threads=THREADS, seed=1, deterministic=True)
    if name in ADULT:
        trees, leaves = ADULT[name]
        categorical = adult.categorical if "cat" in name else "auto"
        data, rows = lightgbm.Dataset(adult.train, adult.label, categorical_feature=categorical), adult.rows
        params.update(num_leaves=leaves, learning_rate=0.03)
    else:
        (values, label), (rows, _) = table
        trees = 500
        data = lightgbm.Dataset(values, label)
        params.update(num_leaves=63, learning_rate=0.1)
    booster = lightgbm.train(params, data, trees)
    booster.save_model(out / f"{name}.txt")
    write(out / f"{name}.rows.f64", rows, "<f8")
    write(out / f"{name}.margins.f64", booster.predict(rows, raw_score=True, num_threads=1), "<f8")


def xgboost_model(name, out, _, table):
    import xgboost

    (values, label), (rows, _) = table
    params = dict(objective="binary:logistic", tree_method="hist", max_depth=6, eta=0.1, nthread=THREADS, seed=1)
    booster = xgboost.train(params, xgboost.DMatrix(values.astype("<f4"), label), 500)
    for suffix in ("json", "ubj"):
        booster.save_model(out / f"{name}.{suffix}")
    write(out / f"{name}.rows.f64", rows, "<f8")
    margins = booster.predict(xgboost.DMatrix(rows.astype("<f4")), output_margin=True)
    write(out / f"{name}.margins.f32", margins, "<f4")


def catboost_model(name, out, _, table):
    import catboost

    (values, label), (rows, _) = table
    model = catboost.CatBoostClassifier(
        iterations=1000, depth=6, random_seed=1, thread_count=THREADS, verbose=False, allow_writing_files=False
    )
    model.fit(catboost.Pool(values.astype("<f4"), label))
    model.save_model(out / f"{name}.json", format="json")
    write(out / f"{name}.rows.f64", rows, "<f8")
    margins = model.predict(catboost.Pool(rows.astype("<f4")), prediction_type="RawFormulaVal", thread_count=1)
    write(out / f"{name}.margins.f64", margins, "<f8")


def forest_model(name, out, adult, _):
    """scikit-learn's random forest, trees of unlimited depth, on the one-hot columns."""
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(n_estimators=300, random_state=1, n_jobs=THREADS)
    forest.fit(adult.one_hot(adult.train), adult.label.astype(int))
    # Threads add the trees in the order of arrival; one thread adds them in their own order.
    forest.set_params(n_jobs=1)
    (out / f"{name}.pickle").write_bytes(pickle.dumps(forest, protocol=5))
    rows = adult.one_hot(adult.rows)
    write(out / f"{name}.rows.f64", rows, "<f8")
    write(out / f"{name}.margins.f64", forest.predict_proba(rows)[:, 1], "<f8")


def forest_arrays(path, out):
    """A forest as the package format has it (FORMAT.md): P(second class) in every leaf."""
    forest = pickle.loads(path.read_bytes())
    trees = [tree.tree_ for tree in forest.estimators_]
    leaves = np.concatenate([tree.children_left < 0 for tree in trees])
    joined = lambda name: np.concatenate([getattr(tree, name) for tree in trees])
    arrays = {
        "threshold": np.where(leaves, 0.0, joined("threshold")).astype("<f8"),
        "value": np.where(leaves, np.concatenate([tree.value[:, 0, 1] for tree in trees]), 0.0).astype("<f8")[:, None],
        "offsets": np.cumsum([0, *(tree.node_count for tree in trees)]).astype("<i8"),
        "left": np.where(leaves, -1, joined("children_left")).astype("<i4"),
        "right": np.where(leaves, -1, joined("children_right")).astype("<i4"),
        "feature": np.where(leaves, 0, joined("feature")).astype("<i4"),
        "missing_left": np.where(leaves, 0, joined("missing_go_to_left")).astype("u1"),
    }
    names = {"<f8": "F64", "<i8": "I64", "<i4": "I32", "|u1": "U8"}
    header, start = {}, 0
    for name, array in arrays.items():
        end = start + array.nbytes
        header[name] = {"dtype": names[array.dtype.str], "shape": array.shape, "data_offsets": [start, end]}
        start = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    parts = [len(text).to_bytes(8, "little"), text, *(array.tobytes() for array in arrays.values())]
    out.write_bytes(b"".join(parts))


def shared_files(name, shared):
    """The files of a model in the shared folder, or nothing when one is missing."""
    trees = shared / "trees"
    rows = trees / ("rows_syn_10000x28.f64" if "_syn_" in name else "rows_cat_10000x13.f64")
    library = name.split("_")[0]
    suffix = {"lgb": "txt", "xgb": "json", "cb": "json"}.get(library)
    margins = trees / f"{name}.margins.{'f32' if library == 'xgb' else 'f64'}"
    files = {"model": trees / f"{name}.{suffix}", "rows": rows, "margins": margins}
    return files if all(path.is_file() for path in files.values()) else None


TRAINERS = {"lgb": lightgbm_model, "xgb": xgboost_model, "cb": catboost_model, "rf": forest_model}
SUFFIX = {"lgb": "txt", "xgb": "json", "cb": "json", "rf": "pickle"}


def files(name, out, shared, adult, table):
    """Paths of model, rows and margins, after training where that is needed."""
    found = shared and shared_files(name, shared)
    if found:
        return {**found, "source": "given"}
    library = name.split("_")[0]
    margins = out / f"{name}.margins.{'f32' if library == 'xgb' else 'f64'}"
    paths = {"model": out / f"{name}.{SUFFIX[library]}", "rows": out / f"{name}.rows.f64", "margins": margins}
    if not all(path.is_file() for path in paths.values()):
        print(f"train {name}", flush=True)
        TRAINERS[library](name, out, adult(), table() if "_syn_" in name else None)
    if library == "rf":
        paths["arrays"] = out / f"{name}.safetensors"
        if not paths["arrays"].is_file():
            forest_arrays(paths["model"], paths["arrays"])
    return {**paths, "source": f"trained here on {'synthetic data' if '_syn_' in name else adult().source}"}


def columns(model, library):
    """Number of columns that a model reads."""
    if library == "lgb":
        with open(model, encoding="utf-8") as file:
            return next(int(line.split("=")[1]) for line in file if line.startswith("max_feature_idx=")) + 1
    if library == "xgb":
        return int(json.loads(model.read_text())["learner"]["learner_model_param"]["num_feature"])
    if library == "cb":
        return len(json.loads(model.read_text())["features_info"]["float_features"])
    return pickle.loads(model.read_bytes()).n_features_in_
