"""PyTorch: golden rows within the bound of FORMAT.md of the evaluator's, and refusals by module."""

import json

import pytest
from library_data import numbers, run, table, targets  # noqa: F401
from parity import parity

torch = pytest.importorskip("torch")
joblib = pytest.importorskip("joblib")
from test_sklearn import prepared  # noqa: E402

from understudy_export.arrays import safetensors  # noqa: E402

nn = torch.nn


def network(width, *modules):
    torch.manual_seed(1)
    norm = nn.BatchNorm1d(12)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    return nn.Sequential(nn.Linear(width, 12), norm, *modules).eval()


@pytest.mark.parametrize(
    ("tail", "kind", "link"),
    [
        ((nn.SiLU(), nn.Dropout(0.3), nn.Linear(12, 3)), 1, "softmax"),
        ((nn.GELU(), nn.Linear(12, 2)), 0, "binary_softmax"),
        ((nn.Sequential(nn.ELU(), nn.Linear(12, 5)), nn.LeakyReLU(), nn.Linear(5, 1), nn.Sigmoid()), 0, "sigmoid"),
        ((nn.SELU(), nn.Linear(12, 3), nn.LogSoftmax(dim=1)), 1, "softmax"),
        ((nn.Tanh(), nn.Linear(12, 1)), None, "identity"),
    ],
)
def test_networks_behind_a_preprocessor(run, tail, kind, link):  # noqa: F811
    frame, score = table()
    label = score if kind is None else targets(score)[kind]
    preprocessor = prepared()
    module = network(preprocessor.fit_transform(frame).shape[1], *tail)
    torch.save(module, run.directory / "model.pt")
    joblib.dump(preprocessor, run.directory / "pre.joblib")
    more = ("--preprocessor", run.directory / "pre.joblib", "--test", run.train)
    assert run("torch-mlp", run.directory / "model.pt", frame, label, *more) == 0
    golden = parity(run.out)
    assert json.loads((run.out / "graph.json").read_text())["nodes"][0]["link"] == link
    assert any(line["row"]["c"] is None for line in golden)


def test_a_state_dict_with_its_architecture_is_the_same_model(run, tmp_path):  # noqa: F811
    frame, score = table()
    data, label = numbers(frame).fillna({"x": 0.0}), targets(score)[1]
    module = network(5, nn.ReLU(), nn.Linear(12, 3))
    torch.save(module, tmp_path / "model.pt")
    assert run("torch-mlp", tmp_path / "model.pt", data, label) == 0
    parity(run.out)
    first = (run.out / "nodes/mlp/weights.safetensors").read_bytes()
    state = {name: tensor.numpy() for name, tensor in module.state_dict().items() if tensor.dtype == torch.float32}
    (tmp_path / "model.safetensors").write_bytes(safetensors(state))
    (tmp_path / "modules.json").write_text('["Linear", {"BatchNorm1d": {"eps": 1e-5}}, "ReLU", "Linear"]')
    more = ("--architecture", tmp_path / "modules.json", "--force")
    assert run("torch-mlp", tmp_path / "model.safetensors", data, label, *more) == 0
    assert (run.out / "nodes/mlp/weights.safetensors").read_bytes() == first
    parity(run.out)


def test_one_output_may_be_a_logit(run, tmp_path, capsys):  # noqa: F811
    frame, score = table()
    data, label = numbers(frame).fillna({"x": 0.0}), targets(score)[0]
    torch.save(network(5, nn.ReLU(), nn.Linear(12, 1)), tmp_path / "model.pt")
    assert run("torch-mlp", tmp_path / "model.pt", data, label) == 1
    assert "say --task binary" in capsys.readouterr().err
    assert run("torch-mlp", tmp_path / "model.pt", data, label, "--task", "binary") == 0
    assert all(0 <= line["nodes"]["mlp"][0] <= 1 for line in parity(run.out))


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (nn.Sequential(nn.Linear(5, 4), nn.PReLU(), nn.Linear(4, 3)), "module '1': PReLU"),
        (nn.Sequential(nn.Linear(5, 4), nn.LeakyReLU(0.2), nn.Linear(4, 3)), "negative_slope=0.2"),
        (nn.Sequential(nn.Linear(5, 4), nn.Softmax(dim=1), nn.Linear(4, 3)), "module '1': Softmax"),
        (nn.Sequential(nn.Linear(5, 3).double()), "torch.float64"),
        (nn.Sequential(nn.Linear(7, 3)), "the first layer takes 7 numbers"),
        (nn.Sequential(nn.BatchNorm1d(5, track_running_stats=False), nn.Linear(5, 3)), "running statistics"),
        (nn.Linear(5, 3), "Linear: its forward is code"),
    ],
)
def test_refusals(run, tmp_path, capsys, module, words):  # noqa: F811
    frame, score = table()
    torch.save(module, tmp_path / "model.pt")
    data = numbers(frame).fillna({"x": 0.0})
    assert run("torch-mlp", tmp_path / "model.pt", data, targets(score)[1]) == 1
    assert words in capsys.readouterr().err
