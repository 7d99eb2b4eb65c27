"""CatBoost models: hashes of categories, and golden rows that equal CatBoost's own answers and the evaluator's."""

import json

import numpy as np
import pytest
from library_data import LONG, run, table, targets  # noqa: F401
from parity import parity

from understudy_export.cityhash import category_hash, city64

catboost = pytest.importorskip("catboost")
pandas = pytest.importorskip("pandas")


def test_hashes_of_texts_of_every_length(tmp_path):
    """A one-hot model holds the hashes of its categories: each is the hash of a text that it was trained on."""
    random = np.random.default_rng(3)
    letters = np.array(list("abc XYZ019ä€𝄞"))
    texts = sorted({"".join(random.choice(letters, n)) for n in (*range(100), 127, 128, 129, 192, 255, 256, 500)})
    rows, target = texts * 2, list(random.normal(size=len(texts)) * 100) * 2
    model = catboost.CatBoostRegressor(
        iterations=300, depth=1, one_hot_max_size=255, verbose=0, thread_count=1, learning_rate=1
    )
    model.fit(pandas.DataFrame({"c": rows}), target, cat_features=[0])
    model.save_model(str(tmp_path / "model.json"), format="json")
    document = json.loads((tmp_path / "model.json").read_text())
    known = {value & 0xFFFFFFFF for value in document["features_info"]["categorical_features"][0]["values"]}
    by_hash = {category_hash(text): len(text.encode()) for text in texts}
    assert known <= by_hash.keys()
    lengths = sorted(by_hash[value] for value in known)
    assert lengths[0] < 4 and lengths[-1] > 500
    for low, high in ((4, 8), (9, 16), (17, 32), (33, 64), (65, 128), (129, 10_000)):
        assert any(low <= length <= high for length in lengths), (low, high)
    assert city64(b"") == 0x9AE16A3B2F90404F


def fit(run, columns, label, fill="nan", suffix="cbm", **settings):  # noqa: F811
    frame, _ = table()
    data = frame[columns].copy()
    if "c" in data:
        data["c"] = data["c"].fillna(fill)
    categorical = [column for column in columns if column in ("c", "s", "b")]
    parameters = {"iterations": 12, "depth": 3, "verbose": 0, "thread_count": 1, "random_seed": 1, **settings}
    model = catboost.CatBoost({**parameters, "allow_writing_files": False}).fit(data, label, cat_features=categorical)
    path = run.directory / f"model.{suffix}"
    model.save_model(str(path), format=suffix)
    return model, path, frame[columns], data


@pytest.mark.parametrize("suffix", ["cbm", "json"])
@pytest.mark.parametrize("onehot", [2, 10])
@pytest.mark.parametrize(
    ("loss", "which", "task"),
    [("Logloss", 0, "binary"), ("MultiClass", 1, "multiclass"), ("RMSE", None, "regression")],
)
def test_categories(run, suffix, onehot, loss, which, task):  # noqa: F811
    _, score = table()
    label = score if which is None else targets(score)[which]
    model, path, frame, data = fit(
        run, ["x", "k", "c", "s", "b"], label, suffix=suffix, loss_function=loss, one_hot_max_size=onehot
    )
    assert run("catboost", path, frame, label, "--test", run.train) == 0
    golden = parity(run.out)
    manifest = json.loads((run.out / "manifest.json").read_text())
    assert manifest["task"] == task
    assert manifest.get("classes") == {"binary": ["no", "yes"], "multiclass": [0, 10, 20]}.get(task)
    [node] = json.loads((run.out / "graph.json").read_text())["nodes"]
    features = {f["name"]: f for f in json.loads((run.out / "schema.json").read_text())["features"]}
    assert features["c"]["categories"] == sorted(["red", "grün", LONG, "b"])
    assert features["s"] == {"name": "s", "kind": "category", "required": False, "categories": [1, 2, 3, 4]}
    assert node["hashes"]["c"]["codes"] == [category_hash(text) for text in features["c"]["categories"]]
    assert node["hashes"]["c"]["missing"] == category_hash("nan")
    assert node["hashes"]["s"]["codes"] == [category_hash(text) for text in "1234"]
    assert node["hashes"]["b"]["codes"] == [category_hash("0"), category_hash("1")]
    kind = "RawFormulaVal" if which is None else "Probability"
    own = np.asarray(model.predict(data, prediction_type=kind)).reshape(len(data), -1)[:, -1]
    assert golden[0]["nodes"]["catboost"][-1] == own[0]
    rows = [line["row"] for line in golden]
    assert any(row["c"] == "understudy-never-seen" for row in rows) and any(row["c"] is None for row in rows)
    assert any(row["s"] == 5 for row in rows) and any(row["x"] is None for row in rows)


@pytest.mark.parametrize("fill", ["nan", "missing", "", "NULL", "my own word"])
def test_what_missing_was_called(run, fill):  # noqa: F811
    _, score = table()
    _, path, frame, _ = fit(run, ["x", "c"], score, fill=fill, one_hot_max_size=10, loss_function="RMSE", iterations=60)
    more = ("--missing-text", fill) if fill == "my own word" else ()
    assert run("catboost", path, frame, score, *more) == 0
    [node] = json.loads((run.out / "graph.json").read_text())["nodes"]
    assert node["hashes"]["c"]["missing"] == category_hash(fill)
    parity(run.out)


@pytest.mark.parametrize(
    ("loss", "levels", "grow"),
    [
        ("MultiQuantile:alpha=0.1,0.5,0.9", [0.1, 0.5, 0.9], "SymmetricTree"),
        ("Quantile:alpha=0.3", [0.3], "SymmetricTree"),
        ("MAE", None, "SymmetricTree"),
    ],
)
def test_losses(run, loss, levels, grow):  # noqa: F811
    _, score = table()
    _, path, frame, _ = fit(run, ["x", "k", "z"], score, loss_function=loss, grow_policy=grow)
    assert run("catboost", path, frame, score, "--test", run.train) == 0
    parity(run.out)
    manifest = json.loads((run.out / "manifest.json").read_text())
    assert manifest.get("quantile_levels") == levels
    assert manifest["task"] == ("quantile" if levels else "regression")


def test_refusals(run, capsys):  # noqa: F811
    _, score = table()
    _, path, frame, _ = fit(run, ["x", "k"], score, loss_function="RMSEWithUncertainty")
    assert run("catboost", path, frame, score) == 1
    assert "loss function 'RMSEWithUncertainty'" in capsys.readouterr().err
    path.write_bytes(b"tree")
    assert run("catboost", path, frame, score) == 1
    assert "not a CatBoost model" in capsys.readouterr().err
    _, path, frame, _ = fit(run, ["x", "k"], targets(score)[0], loss_function="Logloss")
    assert run("catboost", path, frame, targets(score)[0], "--classes", "yes,no") == 1
    assert "the model's own classes are no,yes" in capsys.readouterr().err
