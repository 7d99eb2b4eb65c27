"""The options that the subcommands share, and how their values are written."""

from __future__ import annotations

import argparse
import math
from collections.abc import Collection
from dataclasses import fields
from pathlib import Path
from typing import Any

from understudy_export.export import Options
from understudy_export.golden import MINIMUM_ROWS
from understudy_export.schema import POLICIES
from understudy_export.table import number


def pair(text: str) -> tuple[str, str]:
    """NAME=VALUE; the last `=` divides, so that a name may hold one."""
    name, equals, value = text.rpartition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got {text!r}")
    return name, value


def provenance_pair(text: str) -> tuple[str, str]:
    """KEY=VALUE; the first `=` divides, so that a value may hold one."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE, got {text!r}")
    return name, value


def bounds(text: str) -> tuple[str, tuple[float | None, float | None]]:
    """NAME=LOW:HIGH; an empty side is open."""
    name, value = pair(text)
    low, colon, high = value.partition(":")
    try:
        sides = number(low), number(high)
    except ValueError:
        colon = ""
    if not colon or any(side is not None and math.isinf(side) for side in sides):
        raise argparse.ArgumentTypeError(f"expected NAME=LOW:HIGH with finite numbers or nothing, got {text!r}")
    return name, sides


def metric(text: str) -> tuple[str, float]:
    """NAME=VALUE with a finite number."""
    name, value = pair(text)
    try:
        parsed = float(value)
    except ValueError:
        parsed = math.nan
    if not math.isfinite(parsed):
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE with a finite number, got {text!r}")
    return name, parsed


def golden_rows(text: str) -> int:
    """A number of training rows, at least what the format asks for."""
    if not text.isdigit() or int(text) < MINIMUM_ROWS:
        raise argparse.ArgumentTypeError(f"expected at least {MINIMUM_ROWS}, got {text!r}")
    return int(text)


def positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a positive integer, got {text!r}")
    return int(text)


def probability(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 <= value <= 1.0:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, got {text!r}")
    return value


def add_package_options(command: argparse.ArgumentParser, without: Collection[str] = ()) -> None:
    """The options that all libraries share, but those in `without` (`--label`), which have no meaning for a library."""

    def add(name: str, **settings: Any) -> None:
        if name not in without:
            command.add_argument(name, **settings)

    add(
        "--train",
        required=True,
        metavar="CSV",
        help="training data, UTF-8, with header and label; an empty cell is missing",
    )
    add("--label", required=True, metavar="NAME", help="the label's column")
    add("--out", required=True, metavar="DIR", help="the package to write, such as models/adult/1")
    add(
        "--categories",
        metavar="JSON",
        help='{"features": [..], "categories": {..}}; default: those in the model (pandas)',
    )
    add("--name", help="default: the directory above --out if that ends in the version, else its last part")
    add("--version", default="1", help="a positive integer (default 1)")
    add("--classes", metavar="A,B", help="in the order of the probabilities; default: the label's values, sorted")
    add("--positive-class", metavar="CLASS", help="binary: default the second class")
    add(
        "--threshold",
        type=probability,
        default=0.5,
        metavar="P",
        help="binary: positive if strictly above (default 0.5)",
    )
    add(
        "--golden-rows",
        type=golden_rows,
        default=64,
        metavar="N",
        help=f"training rows in the self-test, besides the constructed ones (default 64, at least {MINIMUM_ROWS})",
    )
    add(
        "--bounds",
        type=bounds,
        action="append",
        default=[],
        metavar="NAME=LOW:HIGH",
        help="what the schema allows; repeatable",
    )
    add(
        "--required",
        action="append",
        default=[],
        metavar="NAME",
        help="refuse null; default: numbers never missing in training",
    )
    add("--optional", action="append", default=[], metavar="NAME", help="accept null; repeatable")
    add(
        "--ignore",
        action="append",
        default=[],
        metavar="NAME",
        help="a column of --train that is no feature; repeatable",
    )
    add("--max-rows", type=positive, default=100, metavar="N", help="rows in a request (default 100)")
    add("--policy", choices=POLICIES, default="sanitize", help="for values outside the schema (default sanitize)")
    add(
        "--metric",
        type=metric,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a metric to record; repeatable",
    )
    add("--test", metavar="CSV", help="test data with the label: records test_* metrics")
    add("--eval-metric", metavar="NAME", help="what the trainer optimised; default: the model's own metric parameter")
    add(
        "--provenance",
        type=provenance_pair,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="free text; repeatable",
    )
    add("--trained-at", metavar="TIME", help="RFC 3339")
    add("--exported-at", metavar="TIME", help="RFC 3339; default: SOURCE_DATE_EPOCH, else now")


def read_options(arguments: argparse.Namespace, **replaced: Any) -> Options:
    """The options from the command line; `replaced` are values that a library knows better, by field of `Options`."""
    given = {**vars(arguments), **replaced}
    out = Path(given["out"]).absolute()
    for key in ("bounds", "metric", "provenance"):
        given[key] = dict(given[key])
    for key in ("required", "optional", "ignore"):
        given[key] = frozenset(given.get(key) or ())
    given["metrics"] = given.pop("metric")
    given["name"] = given["name"] or (out.parent.name if out.name == given["version"] else out.name)
    known = {field.name for field in fields(Options)}
    return Options(**{key: value for key, value in given.items() if key in known})
