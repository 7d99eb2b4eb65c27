"""Make models/ and adult/ of this directory from the shared folder's Adult models and data.

usage: python export.py [SHARED]          SHARED: default ../shared, as seen from the root of the clone
needs: pip install ../export (brings lightgbm and numpy)

The same input and the same versions of lightgbm and numpy give the same bytes. The answers (the tests' oracle) are
computed by code of its own, not by the exporter, and compared with the probabilities that the trainer left.
"""

import csv
import json
import sys
from pathlib import Path

import lightgbm
import numpy as np

from understudy_export.cli import main as understudy_export

HERE = Path(__file__).resolve().parent
MODELS = {"adult": "primary", "adult-candidate": "candidate", "adult-candidate-bad": "candidate-bad"}
NUMERIC = ("age", "education_num", "capital_gain", "capital_loss", "hours_per_week")
BOUNDS = {
    "age": (17, 90),
    "education_num": (1, 16),
    "capital_gain": (0, 99999),
    "capital_loss": (0, 4356),
    "hours_per_week": (1, 99),
}
ROWS, STRESS_ROWS = 4000, 500
EXPORTED_AT = "2026-11-22T00:00:00Z"


def read(path):
    """Header and rows of a CSV file, as text."""
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = [row for row in csv.reader(file) if row]
    return header, rows


def write(name, header, rows):
    """A CSV file in adult/."""
    with (HERE / "adult" / name).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


def encode(header, rows, document):
    """The rows as LightGBM was trained on them, [rows, features]: code, -1 for unseen; NaN for a missing number.

    A missing category is the category "" where training had it, else NaN.
    """
    matrix = np.full((len(rows), len(document["features"])), np.nan)
    for j, feature in enumerate(document["features"]):
        cells = [row[header.index(feature)] for row in rows]
        if feature in NUMERIC:
            matrix[:, j] = [float(cell) if cell else np.nan for cell in cells]
        else:
            code = {value: k for k, value in enumerate(document["categories"][feature])}
            matrix[:, j] = [code.get(cell, -1 if cell else np.nan) for cell in cells]
    return matrix


def export(shared):
    """Write the three packages."""
    for name, source in MODELS.items():
        arguments = ["lightgbm", shared / "adult-lightgbm" / f"{source}.txt", "--out", HERE / "models" / name / "1"]
        arguments += ["--force", "--exported-at", EXPORTED_AT]
        arguments += ["--train", shared / "data/adult_train.csv", "--test", shared / "data/adult_test.csv"]
        arguments += ["--categories", shared / "adult-lightgbm/categories.json"]
        arguments += ["--label", "income", "--positive-class", ">50K"]
        arguments += ["--provenance", "data_set=UCI Adult (Becker and Kohavi, 1996), CC BY 4.0"]
        arguments += ["--provenance", f"model=adult-lightgbm/{source}.txt"]
        for feature, (low, high) in BOUNDS.items():
            arguments += ["--bounds", f"{feature}={low}:{high}", "--optional", feature]
        if understudy_export([str(argument) for argument in arguments]) != 0:
            sys.exit(1)


def answer(shared):
    """Write the rows, the labels and LightGBM's own answers."""
    document = json.loads((shared / "adult-lightgbm/categories.json").read_text(encoding="utf-8"))
    boosters = {n: lightgbm.Booster(model_file=shared / "adult-lightgbm" / f"{s}.txt") for n, s in MODELS.items()}
    header, test = read(shared / "data/adult_test.csv")
    for feature, (low, high) in BOUNDS.items():
        outside = [row for row in test if not low <= float(row[header.index(feature)]) <= high]
        assert not outside, f"{len(outside)} test rows have {feature} outside {low} to {high}: {outside[0]}"
    matrix = encode(header, test, document)
    stored = np.load(shared / "adult-lightgbm/test_probabilities.npz")
    answers = []
    for name, source in MODELS.items():
        probabilities = boosters[name].predict(matrix, num_threads=1)
        assert np.array_equal(probabilities, stored[source]), f"{name}: not what the trainer left"
        answers.append(probabilities[:ROWS].tolist())
        agreement = np.mean((probabilities[:ROWS] > 0.5) == (np.array(answers[0]) > 0.5))
        print(f"{name}: equals test_probabilities.npz on {len(test)} rows; label agreement with adult {agreement:.4f}")
    label = header.index("income")
    (HERE / "adult").mkdir(exist_ok=True)
    write("rows.csv", header[:label], [row[:label] for row in test[:ROWS]])
    write("labels.csv", ["income"], [[row[label]] for row in test[:ROWS]])
    write("answers.csv", [name.replace("-", "_") for name in MODELS], [map(repr, line) for line in zip(*answers)])
    header, stress = read(shared / "data/adult_stress.csv")
    stress = stress[:STRESS_ROWS]
    probabilities = boosters["adult"].predict(encode(header, stress, document), num_threads=1)
    write("stress_rows.csv", header, stress)
    write("stress_answers.csv", ["adult"], [[repr(value)] for value in probabilities.tolist()])


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else HERE.parent / "../shared")
    export(folder)
    answer(folder)
