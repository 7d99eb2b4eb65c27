"""The command `understudy-export`: one subcommand for each training library."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path

from understudy_export import __version__, package
from understudy_export.errors import ExportError

# A subcommand is a module with `add_arguments(command)` and `run(arguments) -> Built`; it is imported when it is asked
# for, so that one library does not need the others.
LIBRARIES = {
    "lightgbm": "a LightGBM text model (Booster.save_model)",
    "xgboost": "an XGBoost model, JSON or UBJSON (Booster.save_model, XGBClassifier.save_model)",
    "catboost": "a CatBoost model, .cbm or JSON (save_model)",
    "sklearn": "a fitted scikit-learn estimator or Pipeline in a pickle; reading it runs code, so trust its source",
    "torch-mlp": "a torch.nn.Sequential with its preprocessing; reading a torch.save file runs code",
    "mlflow": "an MLflow model's directory",
    "autogluon": "an AutoGluon TabularPredictor, with every model that its answer needs",
}


def parser(argv: list[str]) -> argparse.ArgumentParser:
    """The command line; only subcommands that occur in `argv` know their arguments."""
    top = argparse.ArgumentParser(
        prog="understudy-export", description="Turn a trained model into an Understudy package."
    )
    top.add_argument("--version", action="version", version=f"understudy-export {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="LIBRARY")
    for name, summary in LIBRARIES.items():
        command = commands.add_parser(name, help=summary)
        if name in argv:
            module = import_module("understudy_export." + name.replace("-", "_"))
            module.add_arguments(command)
            command.add_argument("--force", action="store_true", help="replace an existing --out")
            command.set_defaults(run=module.run)
    return top


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns 0, or 1 after an error on stderr (argparse itself exits with 2 on wrong usage)."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        arguments = parser(argv).parse_args(argv)
        out = Path(arguments.out)
        if out.exists() and not arguments.force:
            raise ExportError(f"{out} exists; --force replaces it")
        built = arguments.run(arguments)
        package.publish(out, built.files, built.manifest, arguments.force)
    except (ExportError, OSError, ModuleNotFoundError) as error:
        print(f"understudy-export: error: {error}", file=sys.stderr)
        return 1
    size = sum(map(len, built.files.values()))
    print(
        f"{out}: {built.manifest['name']} version {built.manifest['version']}, {len(built.files)} files, "
        f"{size:,} bytes, {built.golden_rows} golden rows"
    )
    for name, value in built.manifest.get("metrics", {}).items():
        print(f"  {name} {value:.6g}")
    return 0
