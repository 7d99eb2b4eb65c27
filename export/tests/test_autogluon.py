"""AutoGluon predictors: the package, evaluated by numpy after FORMAT.md, answers as the library does."""

import json
import math
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("autogluon.tabular", reason="AutoGluon is not installed", exc_type=ImportError)

import pandas as pd  # noqa: E402
import tiny  # noqa: E402
from evaluator import Package  # noqa: E402

from understudy_export.autogluon.predictor import Predictor  # noqa: E402
from understudy_export.cli import main  # noqa: E402

TIME = "2026-01-31T12:00:00Z"
# Networks add in an order of their own; AutoGluon disagrees with itself by as much between one row and many.
NETWORK = 2e-6


@pytest.fixture(scope="session")
def predictors(tmp_path_factory):
    """Trains a predictor when it is first asked for; a directory in UNDERSTUDY_TINY keeps them."""
    directory = Path(os.environ.get("UNDERSTUDY_TINY") or tmp_path_factory.mktemp("predictors"))
    directory.mkdir(parents=True, exist_ok=True)
    loaded = {}

    def get(name):
        if name not in loaded:
            if not (directory / name / "predictor.pkl").exists():
                tiny.train(name, directory)
            loaded[name] = Predictor(directory / name)
        return loaded[name], directory

    return get


def export(directory, name, out, *more, model=None, train=True):
    arguments = ["autogluon", directory / name, "--out", out, "--exported-at", TIME, "--golden-rows", 50, "--force"]
    arguments += ["--model", model] if model else []
    arguments += ["--train", directory / f"{name}.train.csv"] if train else []
    return main([str(argument) for argument in [*arguments, *more]])


def json_rows(package, table):
    """A table's rows as a client would send them."""
    names = [feature["name"] for feature in package.schema["features"]]
    return json.loads(table[names].to_json(orient="records", double_precision=15))


def exact_rows(package, table):
    """Like `json_rows`, with every bit of a double."""
    rows = []
    for record in table[[f["name"] for f in package.schema["features"]]].to_dict(orient="records"):
        row = {}
        for name, value in record.items():
            value = value.item() if isinstance(value, np.generic) else value
            row[name] = None if isinstance(value, float) and math.isnan(value) else value
        rows.append(row)
    return rows


def upstream(package, name):
    """The node and all that it reads, by name."""
    nodes = {node["name"]: node for node in package.graph["nodes"]}
    found, todo = set(), [name]
    while todo:
        node = nodes[todo.pop()]
        found.add(node["name"])
        todo += node.get("inputs", [])
        todo += [column["node"] for column in node.get("columns", []) if "node" in column]
    return {nodes[one]["type"] for one in found}


def check_golden(package):
    """Each node, given the golden outputs that it reads, gives its own golden output."""
    golden = package.golden()
    assert len(golden) >= 50
    given = {n: np.array([[float(x) for x in line["nodes"][n]] for line in golden]) for n in golden[0]["nodes"]}
    assert given.keys() == {node["name"] for node in package.graph["nodes"]}
    outputs = package.outputs([line["row"] for line in golden], given)
    for node in package.graph["nodes"]:
        name = node["name"]
        distance = np.abs(outputs[name] - given[name]) / np.maximum(1.0, np.abs(given[name]))
        single_softmax = node["type"] == "temperature" and given[name].shape[1] > 1
        limit = NETWORK if node["type"] == "mlp" or single_softmax else 1e-12 if node["type"] == "linear" else 0.0
        assert np.max(distance) <= limit, name
    if "classes" in package.manifest:
        assert package.labels(given[package.graph["output"]]) == [line["label"] for line in golden]
    return golden


def check_parity(package, predictor, model, table):
    """Answers and labels on a table are AutoGluon's: to the bit where no network takes part."""
    output = package.outputs(exact_rows(package, table))[package.graph["output"]]
    ag = predictor.ag
    if "classes" in package.manifest:
        want = ag.predict_proba(table, model=model, as_pandas=False, as_multiclass=True)
        want = want[:, 1:] if package.manifest["task"] == "binary" else want
        assert package.labels(output) == np.asarray(ag.predict(table, model=model, as_pandas=False)).tolist()
    else:
        want = ag.predict(table, model=model, as_pandas=False)
    want = np.asarray(want, np.float64).reshape(output.shape)
    distance = np.max(np.abs(output - want) / np.maximum(1.0, np.abs(want)))
    kinds = upstream(package, package.graph["output"])
    single_softmax = "temperature" in kinds and output.shape[1] > 1
    limit = NETWORK if "mlp" in kinds or single_softmax else 0.0
    assert distance <= limit, model
    return distance


CASES = [
    ("binary", None),
    *(("binary", m) for m in ("LightGBM", "RandomForest", "CatBoost", "ExtraTrees", "XGBoost", "LinearModel")),
    *(("binary", m) for m in ("NeuralNetFastAI", "NeuralNetTorch")),
    ("stacked", "WeightedEnsemble_L3"),
    ("stacked", "WeightedEnsemble_L3_FULL"),
    *(("multiclass", m) for m in ("LightGBM", "RandomForest", "CatBoost", "XGBoost", "LinearModel")),
    *(("multiclass", m) for m in ("NeuralNetFastAI", "NeuralNetTorch", "WeightedEnsemble_L2")),
    *(("regression", m) for m in ("LightGBM", "RandomForest", "CatBoost", "ExtraTrees", "XGBoost", "LinearModel")),
    *(("regression", m) for m in ("NeuralNetFastAI", "NeuralNetTorch", "WeightedEnsemble_L2")),
    *(("quantile", m) for m in ("LightGBM", "CatBoost", "NeuralNetTorch")),
    *(("dates", m) for m in ("LightGBM", "CatBoost", "XGBoost", "LinearModel", "WeightedEnsemble_L2")),
    *(("networks", m) for m in ("NeuralNetTorch", "NeuralNetTorch_2", "XGBoost", "LinearModel")),
]


@pytest.mark.parametrize(("name", "model"), CASES)
def test_answers_are_the_librarys(predictors, tmp_path, name, model):
    predictor, directory = predictors(name)
    out = tmp_path / "tiny" / "1"
    assert export(directory, name, out, model=model) == 0
    package = Package(out)
    check_golden(package)
    table = pd.read_csv(directory / f"{name}.test.csv", float_precision="round_trip")
    check_parity(package, predictor, model or predictor.ag.model_best, table[:400])


def test_rows_hold_what_a_client_may_send(predictors, tmp_path):
    _, directory = predictors("binary")
    out = tmp_path / "tiny" / "1"
    test = directory / "binary.test.csv"
    assert export(directory, "binary", out, "--test", test, "--provenance", "run=7", model="LightGBM") == 0
    package = Package(out)
    assert package.manifest["classes"] == ["<=50K", ">50K"]
    assert package.manifest["positive_class"] == ">50K"
    assert package.manifest["eval_metric"] == "log_loss"
    assert package.manifest["metrics"].keys() == {"test_accuracy", "test_log_loss", "test_auc"}
    assert {"autogluon.tabular", "lightgbm", "numpy"} <= package.manifest["libraries"].keys()
    features = {feature["name"]: feature for feature in package.schema["features"]}
    assert features["age"]["kind"] == "int" and not features["age"]["required"]
    assert features["score"]["kind"] == features["level"]["kind"] == "float"
    assert features["sex"]["categories"] == ["Female", "Male"]
    assert "" in features["workclass"]["categories"] and features["workclass"]["kind"] == "text"
    rows = [line["row"] for line in package.golden()]
    for name in ("age", "score", "workclass", "sex", "level"):
        assert any(row[name] is None for row in rows)
    assert any(row["workclass"] == "understudy-never-seen" for row in rows)
    assert any(isinstance(row["age"], float) and row["age"] % 1 == 0.5 for row in rows)
    reference = json.loads((out / "reference.json").read_text(encoding="utf-8"))
    assert reference["rows"] == 1200
    assert 0.1 < reference["features"]["score"]["missing_share"] < 0.3
    assert sum(reference["features"]["sex"]["counts"]) == 1200


def test_without_training_table(predictors, tmp_path, capsys):
    predictor, directory = predictors("binary")
    out = tmp_path / "tiny" / "1"
    assert export(directory, "binary", out, model="XGBoost", train=False) == 0
    assert "no --train" in capsys.readouterr().err
    package = Package(out)
    check_golden(package)
    table = pd.read_csv(directory / "binary.test.csv", float_precision="round_trip")
    check_parity(package, predictor, "XGBoost", table[:300])


def test_threshold_and_positive_class(predictors, tmp_path):
    predictor, directory = predictors("binary")
    copy = tmp_path / "binary"
    shutil.copytree(directory / "binary", copy)
    from autogluon.tabular import TabularPredictor

    changed = TabularPredictor.load(str(copy))
    changed.set_decision_threshold(0.3)
    changed.save()
    for part in ("train", "test"):
        shutil.copy(directory / f"binary.{part}.csv", tmp_path)
    out = tmp_path / "tiny" / "1"
    assert export(tmp_path, "binary", out, model="CatBoost") == 0
    package = Package(out)
    assert package.manifest["decision_threshold"] == 0.3
    check_golden(package)


@pytest.mark.parametrize(
    ("name", "model", "words"),
    [
        ("networks", "KNeighbors", ["KNeighbors (KNNModel): the format has no such model"]),
        ("networks", None, ["WeightedEnsemble_L2 cannot be exported", "KNeighbors (KNNModel)"]),
        ("quantile", "RandomForest", ["RandomForest (RFModel): quantiles of a forest"]),
        ("binary", "Nothing", ["no model 'Nothing'; the predictor has LightGBM"]),
    ],
)
def test_refusals(predictors, tmp_path, capsys, name, model, words):
    predictor, directory = predictors(name)
    out = tmp_path / "tiny" / "1"
    assert export(directory, name, out, model=model) == 1
    output = capsys.readouterr()
    assert not out.exists() and output.out == ""
    for word in words:
        assert word in output.err
    if name == "networks":
        offered = output.err.split("--model ")[1].split()[0]
        assert offered in predictor.ag.model_names()
        assert export(directory, name, out, model=offered) == 0


def test_what_is_no_predictor(tmp_path, capsys):
    assert main(["autogluon", str(tmp_path), "--out", str(tmp_path / "m" / "1")]) == 1
    assert "no predictor.pkl" in capsys.readouterr().err


def test_text_features_are_refused(tmp_path, capsys):
    from autogluon.tabular import TabularPredictor

    random = np.random.default_rng(3)
    words = np.array(["red", "green", "blue", "large", "small", "old", "new", "fast", "slow", "round"])
    table = pd.DataFrame({"text": [" ".join(random.choice(words, 8)) for _ in range(300)]})
    table["y"] = table["text"].str.contains("red").astype(int)
    TabularPredictor(label="y", path=str(tmp_path / "p"), verbosity=0).fit(
        table, hyperparameters={"GBM": {"num_boost_round": 3}}, num_cpus=1
    )
    assert main(["autogluon", str(tmp_path / "p"), "--out", str(tmp_path / "m" / "1")]) == 1
    error = capsys.readouterr().err
    assert "TextSpecialFeatureGenerator" in error or "TextNgramFeatureGenerator" in error
