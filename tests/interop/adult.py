"""The rows of examples/adult as the two kinds of tensors that the server takes."""

import csv
import json
from dataclasses import dataclass

import numpy as np

DATATYPES = {"int": "INT64", "float": "FP64", "bool": "BOOL", "text": "BYTES", "category": "BYTES"}
CONVERT = {"INT64": np.int64, "FP64": np.float64}


def read(path):
    """Header and rows of a CSV file, as text."""
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = [row for row in csv.reader(file) if row]
    return header, rows


@dataclass
class Rows:
    """Columns as (name, values, datatype), and the same rows encoded as the model sees them, FP64 [N,F]."""

    columns: list
    matrix: np.ndarray

    def part(self, start, end):
        """The rows from `start` to before `end`."""
        columns = [(name, values[start:end], datatype) for name, values, datatype in self.columns]
        return Rows(columns, self.matrix[start:end])

    @classmethod
    def read(cls, examples):
        """Reads rows.csv under the served model's own schema."""
        schema = json.loads((examples / "models/adult/1/schema.json").read_text(encoding="utf-8"))
        header, rows = read(examples / "adult/rows.csv")
        columns, encoded = [], []
        for feature in schema["features"]:
            cells = [row[header.index(feature["name"])] for row in rows]
            datatype = DATATYPES[feature["kind"]]
            if datatype == "BYTES":
                values = np.array([cell.encode() for cell in cells], dtype=object)
                codes = {category: code for code, category in enumerate(feature["categories"])}
                encoded.append([codes.get(cell, -1) for cell in cells])
            else:
                values = np.array([CONVERT[datatype](cell) for cell in cells])
                encoded.append(values)
            columns.append((feature["name"], values, datatype))
        return cls(columns, np.array(encoded, dtype=np.float64).T.copy())


def answers(examples):
    """LightGBM's own P(>50K) for these rows."""
    header, rows = read(examples / "adult/answers.csv")
    return np.array([float(row[header.index("adult")]) for row in rows])
