"""Makes the fixtures of neural networks, linear models and quantiles, with torch, scikit-learn and SciPy.

    python make_nn.py

Writes `nn_<case>.json`: what `graph.json` would say, rows, and torch's answers to all rows at once and to each alone;
`nn_<case>.safetensors`: the tensors; `linear.json` and `quantiles.json`. Doubles are written as hexadecimal bits.
Made with torch 2.13, scikit-learn 1.9, SciPy 1.17, NumPy 2.4 and safetensors 0.8 on a processor with AVX2.
"""

import json
import struct
import warnings
from pathlib import Path

import numpy as np
import torch
from scipy import sparse
from sklearn import linear_model
from sklearn.preprocessing import QuantileTransformer

HERE = Path(__file__).parent
warnings.filterwarnings("ignore")
torch.set_num_threads(1)


def bits(array):
    return np.ascontiguousarray(array, dtype=">f8").tobytes().hex()


def save(path, tensors):
    """A safetensors file: what the library writes, with names in order."""
    header, blobs, offset = {}, [], 0
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name].detach().numpy().astype("<f4"))
        blobs.append(array.tobytes())
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [offset, offset + len(blobs[-1])]}
        offset += len(blobs[-1])
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))


class Net(torch.nn.Module):
    """Embeddings, a batch norm of the features, layers."""

    def __init__(self, features, tables, first, input_norm, layers):
        super().__init__()
        self.tables = torch.nn.ModuleList([torch.nn.Embedding(rows, width) for rows, width in tables])
        self.norm = torch.nn.BatchNorm1d(features) if input_norm else None
        self.first = first
        self.layers = torch.nn.Sequential(*layers)

    def forward(self, x, codes):
        parts = [self.norm(x) if self.norm is not None else x] if x.shape[1] else []
        embedded = [table(codes[:, index]) for index, table in enumerate(self.tables)]
        parts = embedded + parts if self.first == "embeddings" else parts + embedded
        return self.layers(torch.cat(parts, dim=1))


NAMES = {
    torch.nn.ReLU: "relu", torch.nn.ELU: "elu", torch.nn.LeakyReLU: "leaky_relu", torch.nn.GELU: "gelu",
    torch.nn.SELU: "selu", torch.nn.SiLU: "silu", torch.nn.Tanh: "tanh", torch.nn.Sigmoid: "sigmoid",
}


def norm_spec(prefix, norm):
    return {"weight": f"{prefix}.weight", "bias": f"{prefix}.bias", "mean": f"{prefix}.running_mean",
            "variance": f"{prefix}.running_var", "epsilon": norm.eps}


def describe(net, link):
    layers = []
    for index, layer in enumerate(net.layers):
        if isinstance(layer, torch.nn.Linear):
            spec = {"weight": f"layers.{index}.weight"}
            if layer.bias is not None:
                spec["bias"] = f"layers.{index}.bias"
            layers.append({"linear": spec})
        elif isinstance(layer, torch.nn.BatchNorm1d):
            layers.append({"batch_norm": norm_spec(f"layers.{index}", layer)})
        elif not isinstance(layer, torch.nn.Dropout):
            layers.append(NAMES[type(layer)])
    spec = {"layers": layers, "link": link, "first": net.first}
    if len(net.tables):
        spec["embeddings"] = [{"feature": f"e{i}", "weight": f"tables.{i}.weight"} for i in range(len(net.tables))]
    if net.norm is not None:
        spec["input_norm"] = norm_spec("norm", net.norm)
    return spec


def link_of(name, y):
    if name == "softmax":
        return torch.softmax(y, dim=1)
    if name == "binary_softmax":
        return torch.softmax(y, dim=1)[:, 1:]
    if name == "sigmoid":
        return torch.sigmoid(y)
    if name == "sort":
        return torch.sort(y, dim=1).values
    return y


def network(name, features, tables, first, input_norm, layers, link, rows=22):
    torch.manual_seed(sum(name.encode()))
    net = Net(features, tables, first, input_norm, layers())
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            torch.nn.init.normal_(module.weight, 1.0, 0.3)
            torch.nn.init.normal_(module.bias, 0.0, 0.3)
            torch.nn.init.normal_(module.running_mean, 0.0, 0.5)
            torch.nn.init.uniform_(module.running_var, 0.3, 2.0)
    net.eval()
    x = torch.randn(rows, features, dtype=torch.float64)
    x[torch.rand(rows, features) < 0.2] = 0.0
    # The last row of the codes: numbers that are in no table.
    codes = torch.stack([torch.randint(0, count, (rows,)) for count, _ in tables], dim=1) if tables else None
    given = codes.double() if tables else torch.zeros(rows, 0, dtype=torch.float64)
    if tables:
        codes[-1] = 0
        given[-1] = torch.tensor([[-1.0, 1e9, 0.5][index % 3] for index in range(len(tables))])
    with torch.inference_mode():
        together = link_of(link, net(x.float(), codes)).double().numpy()
        alone = [link_of(link, net(x[i:i + 1].float(), codes[i:i + 1] if tables else None)) for i in range(rows)]
    save(HERE / f"nn_{name}.safetensors", {k: v for k, v in net.state_dict().items() if "num_batches" not in k})
    values = torch.cat([x, given], dim=1).numpy()
    text = {"spec": describe(net, link), "features": features, "width": values.shape[1], "rows": bits(values),
            "together": bits(together), "alone": bits(torch.cat(alone).double().numpy())}
    (HERE / f"nn_{name}.json").write_text(json.dumps(text) + "\n")
    print(name, together.shape, "torch against itself:", np.abs(together - torch.cat(alone).double().numpy()).max())


def networks():
    nn = torch.nn
    lin, norm = nn.Linear, nn.BatchNorm1d
    tables = [(10, 5), (17, 7), (43, 3)]
    # The two layouts of AutoGluon: NN_TORCH, plain and with batch norm, and FASTAI.
    network("torch", 12, tables, "features", False, lambda: [
        lin(27, 40), nn.ReLU(), nn.Dropout(0.1), lin(40, 40), nn.ReLU(), nn.Dropout(0.1), lin(40, 2)], "binary_softmax")
    network("torch_norm", 6, tables, "features", False, lambda: [
        norm(21), lin(21, 24), nn.ELU(), norm(24), nn.Dropout(0.1), lin(24, 24), nn.ELU(), lin(24, 4)], "softmax")
    network("fastai", 9, tables, "embeddings", True, lambda: [
        lin(24, 50, bias=False), nn.ReLU(), norm(50), lin(50, 20, bias=False), nn.ReLU(), norm(20), lin(20, 2)], "softmax")
    network("embeddings_only", 0, tables, "features", False, lambda: [lin(15, 16), nn.Tanh(), lin(16, 1)], "sigmoid")
    network("regression", 20, [], "features", False, lambda: [lin(20, 64), nn.ReLU(), lin(64, 1)], "identity")
    network("quantile", 5, [], "features", False, lambda: [lin(5, 33), nn.SiLU(), lin(33, 7)], "sort")
    for name, function in [("leaky_relu", nn.LeakyReLU), ("gelu", nn.GELU), ("selu", nn.SELU), ("silu", nn.SiLU),
                           ("tanh", nn.Tanh), ("sigmoid", nn.Sigmoid), ("elu", nn.ELU)]:
        network(f"function_{name}", 3, [], "features", False, lambda: [
            lin(3, 17), function(), lin(17, 9), function()], "identity", rows=10)


def linear():
    rng = np.random.default_rng(7)
    n, features = 300, 24
    x = rng.normal(size=(n, features)) * (rng.random((n, features)) < 0.4)
    signal = x @ rng.normal(size=features)
    two = (signal + rng.normal(size=n) > 0).astype(int)
    four = np.digitize(signal + rng.normal(size=n), [-2, 0, 2])
    ten = rng.integers(0, 10, n)
    some, cases = x[:16], []

    def case(name, model, y, link, answer):
        model.fit(x, y)
        coefficients, intercepts = np.atleast_2d(model.coef_), np.atleast_1d(model.intercept_)
        dense, csr = answer(model, some), answer(model, sparse.csr_matrix(some))
        cases.append({"name": name, "link": link, "width": features, "outputs": len(intercepts),
                      "coefficients": bits(coefficients), "intercepts": bits(intercepts),
                      "dense": bits(dense), "sparse": bits(csr)})

    second = lambda model, rows: model.predict_proba(rows)[:, 1]
    probabilities = lambda model, rows: model.predict_proba(rows)
    value = lambda model, rows: model.predict(rows)
    logistic = linear_model.LogisticRegression
    case("logistic_binary", logistic(max_iter=500), two, "sigmoid", second)
    case("logistic_multinomial", logistic(max_iter=500), four, "softmax", probabilities)
    case("logistic_ten", logistic(max_iter=100), ten, "softmax", probabilities)
    case("sgd_binary", linear_model.SGDClassifier(loss="log_loss", random_state=0), two, "sigmoid", second)
    case("sgd_ovr", linear_model.SGDClassifier(loss="log_loss", random_state=0), four, "ovr", probabilities)
    case("sgd_ovr_ten", linear_model.SGDClassifier(loss="log_loss", random_state=0), ten, "ovr", probabilities)
    case("ridge", linear_model.Ridge(), signal, "identity", value)
    case("lasso", linear_model.Lasso(alpha=0.05), signal, "identity", value)
    case("elastic_net", linear_model.ElasticNet(alpha=0.05), signal, "identity", value)
    case("ridge_outputs", linear_model.Ridge(), np.stack([signal, -signal, two], axis=1), "identity", value)
    case("poisson", linear_model.PoissonRegressor(), np.abs(four), "exp", value)
    (HERE / "linear.json").write_text(json.dumps({"rows": bits(some), "cases": cases}) + "\n")


def quantiles():
    rng = np.random.default_rng(11)
    columns = {
        "smooth": rng.normal(size=2000),
        "whole": rng.integers(0, 12, 2000).astype(float),
        "mostly_zero": np.where(rng.random(2000) < 0.9, 0.0, rng.integers(1, 99999, 2000)),
        "constant": np.full(50, 3.25),
        "two": np.array([0.0, 1.0] * 30),
        "wide": np.array([-1.7e308, -1.0, 0.0, 1.0, 1.7e308]),
        "tiny": rng.normal(size=100) * 1e-8,
    }
    cases = []
    for name, column in columns.items():
        for distribution in ["normal", "uniform"]:
            count = min(len(column), 24 if name != "smooth" else 60)
            transformer = QuantileTransformer(n_quantiles=count, output_distribution=distribution, random_state=0)
            transformer.fit(column[:, None])
            values, references = transformer.quantiles_[:, 0], transformer.references_
            tail = np.array([np.inf, -np.inf, np.nan, -0.0, 1e300, -1e300, 1e-300])
            near = values[0] + np.array([-2e-7, -1e-7, -5e-8, 5e-8, 1e-7, 2e-7])
            end = values[-1] + np.array([-2e-7, -1e-7, -5e-8, 5e-8, 1e-7, 2e-7])
            spread = values[0] + rng.random(20) * (min(values[-1], 1e300) - max(values[0], -1e300))
            x = np.concatenate([values[::3], np.nextafter(values[::7], np.inf), np.nextafter(values[::7], -np.inf),
                                tail, near, end, spread])
            y = np.array([transformer._transform_col(np.array([v]), values, False)[0] for v in x])
            assert np.array_equal(y, transformer._transform_col(x.copy(), values, False), equal_nan=True)
            cases.append({"name": f"{name} {distribution}", "normal": distribution == "normal", "values": bits(values),
                          "references": bits(references), "x": bits(x), "y": bits(y)})
    (HERE / "quantiles.json").write_text(json.dumps(cases) + "\n")


networks()
linear()
quantiles()
