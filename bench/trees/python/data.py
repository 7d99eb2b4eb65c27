"""Training data and rows to measure on: UCI Adult and a synthetic table of the kind of HIGGS.

Everything is made from fixed seeds, so that the same versions of the libraries give the same models.
"""

import csv
from pathlib import Path

import numpy as np

NUMERIC = ("age", "education_num", "capital_gain", "capital_loss", "hours_per_week")
ROWS = 10_000


def synthetic(rows, seed):
    """28 numeric features and a label, 5 % of the values missing: `[rows, 28]` doubles, `[rows]` of 0 and 1.

    Like HIGGS: momenta (log-normal), directions (normal or uniform) and tags (a few distinct values) of five objects,
    then seven numbers derived from them. Only the kind of table matters here: many distinct values, hence many thresholds.
    """
    random = np.random.default_rng(seed)
    columns = []
    for index in range(5):
        momentum = random.lognormal(-0.1 * index, 0.6, rows)
        eta = random.normal(0, 1, rows)
        phi = random.uniform(-np.pi, np.pi, rows)
        columns += [momentum, eta, phi]
        if index < 4:
            columns.append(random.choice([0.0, 1.1, 2.2], rows, p=[0.5, 0.25, 0.25]))
    low = np.stack(columns, axis=1)
    columns.append(random.normal(0, 1, rows))
    columns.append(random.exponential(1, rows))
    momenta = low[:, [0, 4, 8, 12, 16]]
    x, y = momenta * np.cos(low[:, [2, 6, 10, 14, 18]]), momenta * np.sin(low[:, [2, 6, 10, 14, 18]])
    for a, b in ((0, 1), (1, 2), (2, 3), (3, 4), (0, 4)):
        columns.append(np.hypot(x[:, a] + x[:, b], y[:, a] + y[:, b]))
    columns.append(momenta.sum(axis=1))
    columns.append(np.hypot(x.sum(axis=1), y.sum(axis=1)))
    values = np.stack(columns, axis=1)
    assert values.shape[1] == 28
    logit = 1.2 * np.sin(2 * values[:, 21]) + 0.8 * np.tanh(values[:, 22] - values[:, 23])
    logit += 0.7 * np.where(values[:, 3] > 1, values[:, 26] - 3, 1 - values[:, 24]) + 0.4 * values[:, 1] * values[:, 5]
    label = (random.logistic(0, 1, rows) < logit).astype(float)
    values[random.random(values.shape) < 0.05] = np.nan
    return values, label


class Adult:
    """UCI Adult. Columns: the five numbers, then the eight categories as codes."""

    def __init__(self, shared, repository):
        if shared and (shared / "data/adult_train.csv").is_file():
            self.source = "the whole of UCI Adult"
            header, train = _read(shared / "data/adult_train.csv")
            test = _read(shared / "data/adult_test.csv")[1]
        else:
            self.source = "the 4,000 rows of examples/adult"
            header, train = _read(Path(repository) / "examples/adult/rows.csv")
            labels = _read(Path(repository) / "examples/adult/labels.csv")[1]
            header, train = [*header, "income"], [row + label for row, label in zip(train, labels)]
            test = train
        names = [name for name in header if name != "income"]
        self.names = [name for name in names if name in NUMERIC] + [name for name in names if name not in NUMERIC]
        self.categorical = [index for index, name in enumerate(self.names) if name not in NUMERIC]
        order = [header.index(name) for name in self.names]
        self.categories = {index: sorted({row[order[index]] for row in train}) for index in self.categorical}
        label = header.index("income")
        self.train, self.label = self._codes(train, order), np.array([row[label] == ">50K" for row in train], float)
        rows = self._codes(test, order)
        if len(rows) < ROWS:
            # Too few rows to measure on: more of the kind, each number and each category from a row of its own choice.
            random = np.random.default_rng(5)
            more = np.stack([random.choice(rows[:, j], ROWS - len(rows)) for j in range(rows.shape[1])], axis=1)
            rows = np.concatenate([rows, more])
        self.rows = rows[:ROWS]

    def _codes(self, rows, order):
        codes = {j: {value: code for code, value in enumerate(values)} for j, values in self.categories.items()}
        matrix = np.empty((len(rows), len(order)))
        for j, position in enumerate(order):
            cells = (row[position] for row in rows)
            if j in codes:
                matrix[:, j] = [codes[j].get(cell, -1) for cell in cells]
            else:
                matrix[:, j] = [float(cell) if cell else np.nan for cell in cells]
        return matrix

    def one_hot(self, matrix):
        """The numbers, then a column of 0 and 1 for each category."""
        blocks = [matrix[:, [j for j in range(matrix.shape[1]) if j not in self.categories]]]
        blocks += [(matrix[:, [j]] == np.arange(len(values))).astype(float) for j, values in self.categories.items()]
        return np.concatenate(blocks, axis=1)


def _read(path):
    with open(path, newline="", encoding="utf-8") as file:
        header, *rows = [row for row in csv.reader(file) if row]
    return header, rows
