"""What is refused, with which words; and that a refusal leaves nothing behind."""

import lightgbm
import numpy as np
import pytest

from understudy_export import package
from understudy_export.cli import main


def replace(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def refused(case, capsys, *more):
    """The error's text, after checking exit code 1, silence on stdout and no trace of a package."""
    assert case.export(*more) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("understudy-export: error: ")
    assert not case.out.exists()
    assert not case.out.parent.exists() or list(case.out.parent.iterdir()) == []
    return output.err


def test_missing_label_column(binary, capsys):
    error = refused(binary, capsys, "--label", "income")
    assert "train.csv: no column 'income'" in error and "shape" in error


def test_mismatching_feature_names(binary, capsys):
    replace(binary.train, "count", "number")
    error = refused(binary, capsys)
    assert "only in the model: count; only in the table: number" in error


def test_ignored_column(binary):
    text = binary.train.read_text(encoding="utf-8").splitlines()
    binary.train.write_text("\n".join(["id," + text[0], *(f"{i},{line}" for i, line in enumerate(text[1:]))]))
    assert binary.export() == 1
    assert binary.export("--ignore", "id") == 0


def test_unknown_categories(binary, capsys):
    binary.categories = None
    error = refused(binary, capsys)
    assert "categorical features without known categories: colour, shape" in error


def test_categories_of_something_else(binary, capsys):
    replace(binary.categories, '"disc", "ring"', '"x", "z"')
    assert "feature 'shape': none of its 2 values" in refused(binary, capsys)
    replace(binary.categories, '"x", "z"', '"disc", "disc"')
    assert "feature 'shape': no categories, or two look the same" in refused(binary, capsys)
    binary.categories.write_text("[]")
    assert 'categories.json: expected {"features"' in refused(binary, capsys)


def test_linear_tree(tmp_path, regression, capsys):
    random = np.random.default_rng(1)
    matrix = random.normal(size=(200, 2))
    data = lightgbm.Dataset(matrix, matrix.sum(axis=1), feature_name=["count", "size"], params={"linear_tree": True})
    settings = {"objective": "regression", "linear_tree": True, "verbose": -1, "num_threads": 1, "num_leaves": 4}
    lightgbm.train(settings, data, 3).save_model(regression.model)
    assert "linear_tree=1" in refused(regression, capsys)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("objective=regression", "objective=lambdarank", "objective 'lambdarank'"),
        ("objective=regression\n", "", "custom objective"),
        ("objective=regression", "objective=quantile alpha:1.5", "alpha 1.5"),
        ("version=v4", "version=v2", "model version 'v2'"),
        ("tree\n", "booster\n", "not a LightGBM text model"),
    ],
)
def test_models_the_format_cannot_carry(regression, capsys, old, new, words):
    replace(regression.model, old, new)
    assert words in refused(regression, capsys)


def test_text_in_a_number_column(binary, capsys):
    lines = binary.train.read_text(encoding="utf-8").splitlines()
    cells = lines[3].split(",")
    lines[3] = ",".join([cells[0], "many", *cells[2:]])
    binary.train.write_text("\n".join(lines), encoding="utf-8")
    assert "row 2, column 'count': expected a number, got 'many'" in refused(binary, capsys)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--classes", "no,maybe"], "holds ['yes']"),
        (["--classes", "yes,no", "--positive-class", "yes"], "not the last"),
        (["--positive-class", "perhaps"], "'perhaps'"),
        (["--bounds", "colour=1:2"], "only int and float have bounds"),
        (["--bounds", "count=5:2"], "low 5 is above high 2"),
        (["--optional", "weight"], "no feature 'weight'"),
        (["--name", "../x"], "name '../x'"),
        (["--version", "01"], "version '01'"),
        (["--exported-at", "yesterday"], "time 'yesterday'"),
        (["--train", "absent.csv"], "absent.csv"),
    ],
)
def test_options_that_contradict(binary, capsys, options, words):
    assert words in refused(binary, capsys, *options)


@pytest.mark.parametrize(
    "options",
    [["--golden-rows", "49"], ["--bounds", "count"], ["--threshold", "2"], ["--policy", "lax"], ["--max-rows", "0"]],
)
def test_wrong_usage_exits_with_2(binary, options):
    with pytest.raises(SystemExit) as exit_code:
        binary.export(*options)
    assert exit_code.value.code == 2


def test_existing_package_is_kept_without_force(binary, capsys):
    assert binary.export() == 0
    before = (binary.out / "manifest.json").read_bytes()
    assert binary.export("--threshold", "0.1") == 1
    assert "--force" in capsys.readouterr().err
    assert (binary.out / "manifest.json").read_bytes() == before
    assert binary.export("--threshold", "0.1", "--force") == 0
    assert (binary.out / "manifest.json").read_bytes() != before
    assert [path.name for path in binary.out.parent.iterdir()] == ["1"]


@pytest.mark.parametrize("force", [False, True])
def test_failed_write_leaves_the_old_state(binary, capsys, monkeypatch, force):
    """The disk fails at the manifest, which is written last: nothing new is seen, nothing old is lost."""
    if force:
        assert binary.export() == 0
    before = sorted(path.relative_to(binary.out).as_posix() for path in binary.out.rglob("*"))
    write = package.write

    def fail(path, content):
        if path.name == "manifest.json":
            raise OSError(28, "No space left on device")
        write(path, content)

    monkeypatch.setattr(package, "write", fail)
    assert binary.export("--force") == 1
    assert "No space left" in capsys.readouterr().err
    assert sorted(path.relative_to(binary.out).as_posix() for path in binary.out.rglob("*")) == before
    assert [path.name for path in binary.out.parent.iterdir()] == (["1"] if force else [])


def test_no_subcommand_is_wrong_usage():
    with pytest.raises(SystemExit) as exit_code:
        main([])
    assert exit_code.value.code == 2
