"""The package on disk: JSON text, hashes, manifest, and a publication that is seen as a whole or not at all."""

from __future__ import annotations

import datetime
import hashlib
import json
import math
import os
import re
import secrets
import shutil
from importlib import metadata
from pathlib import Path

from understudy_export.errors import ExportError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
VERSION = re.compile(r"[1-9][0-9]*\Z")
RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)\Z")
INSTALLERS = {"pip", "setuptools", "wheel", "uv", "distribute", "pkg-resources", "understudy-export"}


def check_identity(name: str, version: str) -> None:
    """Raise ExportError for a name or version that the format does not allow."""
    if not NAME.match(name):
        raise ExportError(f"name {name!r}: expected 1 to 128 of A-Z a-z 0-9 . _ -, starting with a letter or digit")
    if not VERSION.match(version) or int(version) >= 2**63:
        raise ExportError(f"version {version!r}: expected a positive integer without leading zeros, below 2^63")


def timestamp(given: str | None) -> str:
    """RFC 3339: `given` when it is one, else SOURCE_DATE_EPOCH (seconds), else now; in UTC, whole seconds."""
    if given is not None:
        if not RFC_3339.match(given):
            raise ExportError(f"time {given!r}: expected RFC 3339, such as 2026-01-31T12:00:00Z")
        return given
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if epoch is not None and not epoch.isdigit():
        raise ExportError(f"SOURCE_DATE_EPOCH={epoch!r}: expected whole seconds since 1970")
    now = datetime.datetime.now(datetime.timezone.utc)
    if epoch is not None:
        now = datetime.datetime.fromtimestamp(int(epoch), datetime.timezone.utc)
    return now.strftime("%Y-%m-%dT%H:%M:%SZ")


def requirements() -> str:
    """The Python environment, pinned, one `name==version` a line, sorted; without installers and this exporter."""
    pins = {}
    for distribution in metadata.distributions():
        name = re.sub(r"[-_.]+", "-", distribution.metadata["Name"] or "").lower()
        if name and name not in INSTALLERS:
            pins.setdefault(name, distribution.version)
    return "".join(f"{name}=={version}\n" for name, version in sorted(pins.items()))


def jsonable(value: object) -> object:
    """`value` with each float that JSON cannot hold replaced by "inf", "-inf" or "nan"."""
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    if isinstance(value, dict):
        return {key: jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    return value


def document(value: object) -> bytes:
    """A JSON file: UTF-8, indented; floats are shortest decimals that round-trip."""
    return (json.dumps(jsonable(value), ensure_ascii=False, allow_nan=False, indent=1) + "\n").encode()


def json_lines(values: list[dict]) -> bytes:
    """A JSON lines file: UTF-8, one object a line."""
    text = "".join(
        json.dumps(jsonable(value), ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"
        for value in values
    )
    return text.encode()


def publish(out: Path, files: dict[str, bytes], manifest: dict, force: bool) -> None:
    """Write a package to the directory `out`, whose parent is made when absent.

    files: content by relative path; manifest: manifest.json without `files`, written last. All of it is written and
    synced in a hidden directory beside `out`, which then takes the name `out` in one rename. An existing `out` is
    refused with ExportError, or with `force` moved aside first and removed afterwards.
    """
    if out.exists() and not force:
        raise ExportError(f"{out} exists; --force replaces it")
    if out.exists() and not out.is_dir():
        raise ExportError(f"{out} exists and is not a directory")
    out.parent.mkdir(parents=True, exist_ok=True)
    suffix = secrets.token_hex(4)
    staging = out.parent / f".{out.name}.{suffix}.new"
    aside = out.parent / f".{out.name}.{suffix}.old"
    entries = [
        {"path": path, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for path, content in sorted(files.items())
    ]
    try:
        staging.mkdir()
        for path, content in sorted(files.items()):
            write(staging / path, content)
        write(staging / "manifest.json", document({**manifest, "files": entries}))
        for directory in [*(path for path in staging.rglob("*") if path.is_dir()), staging]:
            sync(directory)
        if out.exists():
            out.rename(aside)
        try:
            staging.rename(out)
        except OSError:
            if aside.exists():
                aside.rename(out)
            raise
        sync(out.parent)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if out.exists():
            shutil.rmtree(aside, ignore_errors=True)


def write(path: Path, content: bytes) -> None:
    """Write and sync one file, with the directories it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync(directory: Path) -> None:
    """Sync a directory's entries to disk, where the platform can."""
    if os.name == "posix":
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
