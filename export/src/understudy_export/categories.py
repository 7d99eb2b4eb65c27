"""The file of --categories."""

from __future__ import annotations

import json
from pathlib import Path

from understudy_export.errors import ExportError
from understudy_export.schema import Scalar


def read_categories(path: str | Path, columns: list[str]) -> dict[str, list[Scalar]]:
    """Categories by column name from a file {"features": [..], "categories": {..}}.

    columns: names in the model's order. Raises ExportError when the file is another thing, or is about other features.
    """
    name = Path(path).name
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
        known = {column: list(values) for column, values in document["categories"].items()}
        listed = list(document.get("features", columns))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ExportError(f'{name}: expected {{"features": [..], "categories": {{..}}}}: {error!r}') from error
    if listed != columns:
        raise ExportError(f"{name}: its features are {listed}; the model's are {columns}")
    unknown = sorted(known.keys() - set(columns))
    if unknown:
        raise ExportError(f"{name}: categories for {', '.join(unknown)}: not a feature of the model")
    return known
