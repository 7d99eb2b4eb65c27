"""A CSV file as columns of cells, and the reading of one cell as a number or a boolean."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from understudy_export.errors import ExportError

INTEGER = re.compile(r"[+-]?[0-9]+\Z")
BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
I64 = range(-(2**63), 2**63)


@dataclass(frozen=True)
class Table:
    """`columns` maps each name of the header, in order, to its cells, one for each of `rows` rows."""

    path: str
    columns: dict[str, list[str]]
    rows: int

    def column(self, name: str) -> list[str]:
        """The cells of column `name`. Raises ExportError, listing the columns, when there is none."""
        if name not in self.columns:
            raise ExportError(f"{self.path}: no column {name!r}; its columns are {', '.join(self.columns)}")
        return self.columns[name]


def read_csv(path: str | Path) -> Table:
    """Read a UTF-8 CSV file with a header; empty lines are skipped.

    Raises ExportError for an empty file, a duplicate or empty column name, and a row of another length than the header.
    """
    name = Path(path).name
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            lines = [(reader.line_num, row) for row in reader if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ExportError(f"{name}: not a UTF-8 CSV file: {error}") from error
    if len(lines) < 2:
        raise ExportError(f"{name}: {len(lines)} lines; expected a header and at least one row")
    header = lines[0][1]
    for column in header:
        if column == "" or header.count(column) > 1:
            raise ExportError(f"{name}: column name {column!r} is empty or not unique in the header")
    for number, row in lines[1:]:
        if len(row) != len(header):
            raise ExportError(f"{name}: line {number} has {len(row)} cells; the header has {len(header)}")
    columns = {column: [row[j] for _, row in lines[1:]] for j, column in enumerate(header)}
    return Table(name, columns, len(lines) - 1)


def number(cell: str) -> int | float | None:
    """The number that a cell holds: an int when it is written as one and fits 64 bits, else the nearest double.

    None for a missing value: an empty cell or NaN. Raises ValueError when the cell is no number.
    """
    cell = cell.strip()
    if cell == "":
        return None
    if INTEGER.match(cell):
        value = int(cell)
        return value if value in I64 else float(cell)
    if "_" in cell:
        raise ValueError(cell)
    value = float(cell)
    return None if value != value else value


def scalars(cells: list[str]) -> list[str | int | float | bool]:
    """The cells with the JSON type that all have in common: boolean, else integer, else number, else string."""
    distinct = set(cells)
    if distinct <= BOOLEANS.keys():
        return [BOOLEANS[cell] for cell in cells]
    try:
        parsed = {cell: number(cell) for cell in distinct}
    except ValueError:
        return list(cells)
    if None in parsed.values():
        return list(cells)
    if not all(isinstance(value, int) for value in parsed.values()):
        parsed = {cell: float(value) for cell, value in parsed.items()}
    return [parsed[cell] for cell in cells]
