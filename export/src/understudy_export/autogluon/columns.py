"""Where a value of AutoGluon's matrix is found in the graph, and the columns that make one value from another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Union

from understudy_export.schema import MAX_NAME_BYTES

Op = Union[str, dict]
# Room for a suffix that keeps names apart.
LONGEST = MAX_NAME_BYTES - 16


@dataclass(frozen=True)
class Value:
    """One value of a row: a feature or column by name, or an output of a node (`node` and `index`).

    `categories`: how many codes it has when it is a category's code (missing and unseen are -1 then); 0 for a number.
    `single`: it is a single-precision number.
    """

    name: str = ""
    node: str = ""
    index: int = 0
    categories: int = 0
    single: bool = False

    def source(self) -> dict:
        """The keys of a column that say what it reads."""
        return {"node": self.node, "index": self.index} if self.node else {"from": self.name}


class Columns:
    """The list `columns` of the graph or of one node; `taken`: names that it must not use."""

    def __init__(self, taken: Sequence[str]) -> None:
        self.taken = set(taken)
        self.items: list[dict] = []

    def add(self, hint: str, value: Value, ops: Sequence[Op] = ()) -> str:
        """The name of a column with `ops` applied to `value`; a new one, called `hint`, unless nothing is to do."""
        if not ops and not value.node:
            return value.name
        entry = {**value.source(), "ops": list(ops)}
        for item in self.items:
            if {key: item[key] for key in item if key != "name"} == entry:
                return item["name"]
        name = self.unique(hint)
        self.items.append({"name": name, **entry})
        return name

    def unique(self, hint: str) -> str:
        """`hint`, cut to the format's length, with a number when the name is taken."""
        base = hint.encode()[:LONGEST].decode(errors="ignore")
        name, number = base, 1
        while name in self.taken:
            number += 1
            name = f"{base}~{number}"
        self.taken.add(name)
        return name


def lookup(table: Mapping[int, float | str], count: int, otherwise: float | str) -> dict:
    """The operation that maps a code of `count` to a number.

    table: by code, -1 for missing and unseen ("nan" is missing); otherwise: for codes that are not in it.
    """
    values = [table.get(code, otherwise) for code in range(count)]
    absent = table.get(-1, otherwise)
    return {"codes": {"map": values, "unseen": absent, "missing": absent}}
