"""What comes out: files, hashes, and answers that are LightGBM's own."""

import hashlib
import json
import math
from pathlib import Path

import lightgbm
import numpy as np
import pytest
from conftest import TIME, Case, write_csv

FILES = {"schema.json", "graph.json", "reference.json", "golden.jsonl", "requirements.txt", "nodes/lightgbm/model.txt"}
EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "models"


def read(package, name):
    return json.loads((package / name).read_text(encoding="utf-8"))


def encode(package, row):
    """A golden row as FORMAT.md says, without the exporter's code."""
    schema = {feature["name"]: feature for feature in read(package, "schema.json")["features"]}
    numbers = []
    for name in read(package, "graph.json")["nodes"][0]["features"]:
        feature, value = schema[name], row[name]
        value = feature.get("fill") if value is None else value
        if value is None:
            numbers.append(math.nan)
        elif "categories" in feature:
            codes = [type(category) is type(value) and category == value for category in feature["categories"]]
            numbers.append(float(codes.index(True)) if True in codes else -1.0)
        else:
            numbers.append(float(value))
    return numbers


def check(package):
    """The manifest is true, and every golden output equals a fresh prediction. Returns the golden lines."""
    manifest = read(package, "manifest.json")
    found = {path.relative_to(package).as_posix() for path in package.rglob("*") if path.is_file()}
    assert found == FILES | {"manifest.json"}
    assert {entry["path"] for entry in manifest["files"]} == FILES
    for entry in manifest["files"]:
        content = (package / entry["path"]).read_bytes()
        assert entry == {
            "path": entry["path"],
            "size": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
    assert manifest["name"] == package.parent.name
    assert manifest["version"] == package.name
    golden = [json.loads(line) for line in (package / "golden.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(golden) >= 50
    booster = lightgbm.Booster(model_file=package / "nodes/lightgbm/model.txt")
    outputs = booster.predict(np.array([encode(package, line["row"]) for line in golden]), num_threads=1)
    outputs = outputs.reshape(len(golden), -1)
    assert np.array_equal(outputs, [line["nodes"]["lightgbm"] for line in golden])
    classes = manifest.get("classes")
    for line, output in zip(golden, outputs):
        if manifest["task"] == "binary":
            assert line["label"] == classes[int(output[0] > manifest["decision_threshold"])]
        elif classes:
            assert line["label"] == classes[int(np.argmax(output))]
        else:
            assert "label" not in line
    return golden


def test_binary_package(binary: Case):
    assert binary.export("--positive-class", "yes", "--threshold", "0.4", "--bounds", "count=0:") == 0
    golden = check(binary.out)
    manifest = read(binary.out, "manifest.json")
    assert (manifest["classes"], manifest["positive_class"], manifest["exported_at"]) == (["no", "yes"], "yes", TIME)
    features = read(binary.out, "schema.json")["features"]
    assert features[0] == {
        "name": "colour",
        "kind": "text",
        "required": False,
        "categories": ["", "blue", "grün", "red"],
        "fill": "",
    }
    assert features[1] == {"name": "count", "kind": "int", "required": True, "bounds": [0, None]}
    assert features[2] == {"name": "size", "kind": "float", "required": False}
    assert features[3] == {"name": "shape", "kind": "text", "required": False, "categories": ["disc", "ring"]}
    rows = [line["row"] for line in golden]
    for name in ("colour", "size", "shape"):
        assert any(row[name] is None for row in rows)
    assert all(row["count"] is not None for row in rows)
    assert any(isinstance(row["count"], float) and row["count"] % 1 == 0.5 for row in rows)
    assert any(row["colour"] == "understudy-never-seen" for row in rows)
    assert any(row["size"] == 1e300 for row in rows)
    assert any(row["count"] < 0 for row in rows)


def test_positive_class_may_be_the_first_value(binary):
    assert binary.export("--positive-class", "no") == 0
    assert read(binary.out, "manifest.json")["classes"] == ["yes", "no"]


def test_multiclass_package_has_integer_classes(multiclass):
    assert multiclass.export("--test", multiclass.train, "--policy", "strict", "--max-rows", "7") == 0
    check(multiclass.out)
    manifest = read(multiclass.out, "manifest.json")
    assert manifest["classes"] == [10, 20, 30]
    assert "positive_class" not in manifest
    assert 0.8 < manifest["metrics"]["test_accuracy"] <= 1
    schema = read(multiclass.out, "schema.json")
    assert (schema["policy"], schema["limits"]) == ("strict", {"max_rows": 7, "max_text_bytes": 1000})


def test_regression_package(regression):
    assert regression.export("--test", regression.train, "--metric", "cost=1.5", "--provenance", "run=a=b") == 0
    check(regression.out)
    manifest = read(regression.out, "manifest.json")
    assert "classes" not in manifest
    assert manifest["metrics"].keys() == {"cost", "test_rmse", "test_mae"}
    assert manifest["provenance"] == {"run": "a=b"}


def test_reference_profile(binary):
    assert binary.export() == 0
    reference = read(binary.out, "reference.json")
    assert reference["rows"] == 240
    rows = [line.split(",") for line in binary.train.read_text(encoding="utf-8").split()[1:]]
    sizes = np.array([float(row[2]) for row in rows if row[2]])
    size = reference["features"]["size"]
    assert size["missing_share"] == (240 - len(sizes)) / 240
    assert (size["min"], size["max"], size["unique"]) == (sizes.min(), sizes.max(), len(set(sizes)))
    assert math.isclose(size["mean"], sizes.mean()) and math.isclose(size["std"], sizes.std())
    assert size["quantiles"]["values"] == np.quantile(sizes, size["quantiles"]["levels"]).tolist()
    assert reference["features"]["shape"]["counts"] == [sum(r[3] == shape for r in rows) for shape in ("disc", "ring")]
    assert 0 < reference["score"]["min"] <= reference["score"]["max"] < 1
    assert reference["features"].keys() == {"colour", "count", "size", "shape"}


def test_auc_and_log_loss_agree_with_their_definitions(binary):
    assert binary.export("--test", binary.train) == 0
    measured = read(binary.out, "manifest.json")["metrics"]
    rows = [line.split(",") for line in binary.train.read_text(encoding="utf-8").split()[1:]]
    cells = [dict(zip(("colour", "count", "size", "shape"), row)) for row in rows]
    for row in cells:
        row["count"], row["size"] = int(row["count"]), float(row["size"]) if row["size"] else None
    matrix = np.array([encode(binary.out, row) for row in cells])
    scores = lightgbm.Booster(model_file=binary.model).predict(matrix)
    truth = np.array([row[-1] == "yes" for row in rows])
    pairs = np.sign(scores[truth][:, None] - scores[~truth][None, :])
    assert math.isclose(measured["test_auc"], (pairs.mean() + 1) / 2)
    assert math.isclose(measured["test_log_loss"], -np.log(np.where(truth, scores, 1 - scores)).mean())
    assert measured["test_accuracy"] == ((scores > 0.5) == truth).mean()


def test_same_input_gives_the_same_bytes(binary, monkeypatch):
    assert binary.export() == 0
    first = {path: path.read_bytes() for path in binary.out.rglob("*") if path.is_file()}
    assert binary.export("--force") == 0
    assert first == {path: path.read_bytes() for path in binary.out.rglob("*") if path.is_file()}


def test_source_date_epoch(binary, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1769860800")
    monkeypatch.setattr(
        Case,
        "arguments",
        lambda self, *more: ["lightgbm", self.model, "--train", self.train, "--label", "y", "--out", self.out, *more],
    )
    assert binary.export() == 0
    assert read(binary.out, "manifest.json")["exported_at"] == "2026-01-31T12:00:00Z"


def test_pandas_categories_of_any_type(binary):
    """The trailer that LightGBM writes for pandas frames, with integers; a CSV writes them as 1 or 1.0."""
    text = binary.model.read_text(encoding="utf-8")
    binary.model.write_text(text.replace("pandas_categorical:null", "pandas_categorical:[[1,2,3,7],[true,false]]"))
    lines = binary.train.read_text(encoding="utf-8").splitlines()
    cells = {"": "1", "blue": "2.0", "grün": "", "red": "7", "disc": "True", "ring": "False"}
    rows = [
        [cells.get(cell, cell) if j in (0, 3) else cell for j, cell in enumerate(line.split(","))] for line in lines
    ]
    write_csv(binary.train, rows[0], rows[1:])
    binary.categories = None
    assert binary.export() == 0
    golden = check(binary.out)
    colour = read(binary.out, "schema.json")["features"][0]
    assert colour == {"name": "colour", "kind": "category", "required": False, "categories": [1, 2, 3, 7]}
    assert {1, 2, 7, 8, None} <= {line["row"]["colour"] for line in golden}
    assert read(binary.out, "reference.json")["features"]["colour"]["missing_share"] > 0


def test_blanks_in_names_and_infinite_values(regression):
    text = regression.train.read_text(encoding="utf-8").replace("count,size", "co unt,size", 1)
    header, first, rest = text.split("\n", 2)
    first = ",".join([first.split(",")[0], "inf", first.split(",")[2]])
    regression.train.write_text("\n".join([header, first, rest]))
    regression.model.write_text(regression.model.read_text(encoding="utf-8").replace("=count size", "=co_unt size"))
    assert regression.export() == 0
    golden = check(regression.out)
    assert golden[0]["row"]["size"] == "inf"
    assert read(regression.out, "graph.json")["nodes"][0]["features"] == ["co unt", "size"]
    size = read(regression.out, "reference.json")["features"]["size"]
    assert (size["max"], size["mean"], size["std"]) == ("inf", "inf", "nan")


@pytest.mark.parametrize("name", ["adult", "adult-candidate", "adult-candidate-bad"])
def test_shipped_examples(name):
    if not EXAMPLES.is_dir():
        pytest.skip(f"no {EXAMPLES}: not in a clone of the project")
    check(EXAMPLES / name / "1")
