"""coremltools' own torch front end as a second opinion on a small network."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("coremltools") is None or find_spec("torch") is None,
        reason="needs coremltools and torch",
    ),
]

# In a process of its own: coremltools has to see torch, which our import keeps from it.
SCRIPT = """
import sys
from collections import Counter
from pathlib import Path
import coremltools as ct
import numpy as np
import torch
from exporter.convert.graph import (
    Conv, Dense, Fused, GlobalAveragePool, Graph, GraphInput, Normalize, Softmax)
from exporter.convert.targets import coreml
from exporter.prove.runtimes.coreml import CoreMLRuntime
from models.contract import Contract, Label, Preprocessing

torch.manual_seed(0)
mean, std = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.4, 57.1, 57.4])

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 8, 3, 2, 1)
        self.deep = torch.nn.Conv2d(8, 8, 3, 1, 1, groups=8)
        self.head = torch.nn.Linear(8, 4)
    def forward(self, x):
        x = (x - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)
        x = torch.nn.functional.relu6(self.deep(torch.nn.functional.relu6(self.stem(x))))
        return torch.softmax(self.head(x.mean((2, 3))) * 8, 1)

net = Net().eval()
pixels = np.random.default_rng(0).integers(0, 256, (11, 13, 3), dtype=np.uint8)
sample = torch.from_numpy(pixels).permute(2, 0, 1)[None].float().contiguous()
labels = ["a", "b", "c", "d"]
exported = torch.export.export(net, (sample,)).run_decompositions({})
theirs = Path(sys.argv[1]) / "theirs.mlpackage"
ct.convert(
    exported, inputs=[ct.ImageType(name="image", shape=sample.shape)],
    classifier_config=ct.ClassifierConfig(labels), compute_precision=ct.precision.FLOAT32,
    minimum_deployment_target=ct.target.iOS16, skip_model_load=True,
).save(str(theirs))

n = lambda t: t.detach().numpy()
nodes = (
    Normalize(name="n", inputs=("image",), output="x", mean=n(mean), scale=1 / n(std)),
    Conv(name="s", inputs=("x",), output="y", weight=n(net.stem.weight), bias=n(net.stem.bias),
         strides=(2, 2), padding=(1, 1, 1, 1), fused=Fused.RELU6),
    Conv(name="d", inputs=("y",), output="z", weight=n(net.deep.weight), bias=n(net.deep.bias),
         padding=(1, 1, 1, 1), groups=8, fused=Fused.RELU6),
    GlobalAveragePool(name="g", inputs=("z",), output="v", keep_dims=False),
    Dense(name="h", inputs=("v",), output="l", weight=8 * n(net.head.weight),
          bias=8 * n(net.head.bias)),
    Softmax(name="p", inputs=("l",), output="q"),
)
shapes = {"image": (1, 3, 11, 13), "x": (1, 3, 11, 13), "y": (1, 8, 6, 7), "z": (1, 8, 6, 7),
          "v": (1, 8), "l": (1, 4), "q": (1, 4)}
contract = Contract(tuple(map(Label, labels)), Preprocessing(11, 13, 13))
ours = Path(sys.argv[1]) / "ours.mlpackage"
graph = Graph(GraphInput("image", (1, 3, 11, 13)), "q", nodes, shapes)
coreml.write(graph, contract, ours, "float32")

def operators(path):
    spec = ct.models.MLModel(str(path), skip_model_load=True).get_spec()
    main = spec.mlProgram.functions["main"]
    found = Counter(op.type for op in main.block_specializations[main.opset].operations)
    found.pop("const")
    return found

def evaluate(path):
    with CoreMLRuntime(run_natively=False).open(path, contract) as session:
        return session.probabilities(pixels)

wanted = n(net(sample))[0]
assert np.ptp(wanted) > 0.1, wanted
np.testing.assert_allclose(evaluate(ours), wanted, atol=1e-5)
np.testing.assert_allclose(evaluate(theirs), wanted, atol=1e-5)
a, b = operators(ours), operators(theirs)
print(dict(a), dict(b))
for kind in ("conv", "linear", "reduce_mean", "softmax", "classify"):
    assert a[kind] == b[kind] == {"conv": 2}.get(kind, 1), kind
assert sum(a.values()) <= sum(b.values())
"""


def test_torch_front_end_agrees(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-4000:]
