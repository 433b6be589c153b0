"""Adaptive pooling of any size, and local response normalization, through to TFLite."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from support.tflite_files import CONTRACT, kinds_of, run

torch = pytest.importorskip("torch", reason="exports PyTorch models")
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from exporter.convert import passes  # noqa: E402
from exporter.convert.evaluate import Evaluator  # noqa: E402
from exporter.convert.from_onnx import read_graph  # noqa: E402
from exporter.convert.graph import AveragePool, LocalResponseNorm, MaxPool, Slice  # noqa: E402
from exporter.convert.restate_torch import restated, windows  # noqa: E402
from exporter.convert.targets.tflite.writer import to_bytes  # noqa: E402
from exporter.convert.to_onnx import export_classifier  # noqa: E402
from models.classifier import Classifier  # noqa: E402
from models.contract import Contract, Label, Preprocessing  # noqa: E402


@pytest.mark.parametrize("kind", [nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d])
@pytest.mark.parametrize("wanted", [7, (3, 4), (None, 2), (6, 6), (5, 9)])
@pytest.mark.parametrize("size", [(2, 2), (5, 5), (7, 4), (12, 18), (1, 3)])
def test_the_results_are_those_of_torch(
    kind: type[nn.Module], wanted: tuple[int | None, int], size: tuple[int, int]
) -> None:
    values = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 3, *size))).float()
    pool = kind(wanted)
    with restated():
        found = pool(values)
    torch.testing.assert_close(found, pool(values), rtol=1e-6, atol=1e-6)


def test_windows_by_hand() -> None:
    assert windows(5, 3) == [(0, 2), (1, 4), (3, 5)]
    assert windows(2, 7) == [(0, 1)] * 3 + [(0, 2)] + [(1, 2)] * 3


def test_what_cannot_be_restated_is_left_to_torch() -> None:
    values = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 6, 5, 5))).float()
    calls = [
        lambda: functional.adaptive_avg_pool2d(values, 1),
        lambda: functional.adaptive_avg_pool2d(values, (1, 1)),
        lambda: functional.adaptive_max_pool2d(values, 3, return_indices=True)[1],
        lambda: functional.local_response_norm(values, 4),
    ]
    for call in calls:
        with restated():
            found = call()
        assert torch.equal(found, call())


def test_torch_gets_its_functions_back() -> None:
    usual = functional.adaptive_avg_pool2d, functional.local_response_norm
    with pytest.raises(ZeroDivisionError), restated():
        assert functional.adaptive_avg_pool2d is not usual[0]
        raise ZeroDivisionError
    assert (functional.adaptive_avg_pool2d, functional.local_response_norm) == usual


SIZE = 21
RULE = Contract(
    tuple(Label(f"class {index}") for index in range(4)),
    Preprocessing(SIZE, SIZE, resize_shorter_side=SIZE),
)


class Call(nn.Module):
    """A function where others have a module."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


NET = nn.Sequential(  # 21 x 21, 5 x 5, 7 x 3, 4 x 5, 3 x 7, 2 x 5 pixels
    nn.Conv2d(3, 6, 5, 4),
    nn.ReLU(),
    nn.LocalResponseNorm(5, 0.3, 0.6, 2.0),
    nn.AdaptiveMaxPool2d((7, 3)),
    Call(lambda x: functional.adaptive_max_pool2d(x, [4, 5])),
    nn.Conv2d(6, 6, 1),
    Call(lambda x: functional.local_response_norm(x, 3, alpha=0.2, k=1.5)),
    nn.AdaptiveAvgPool2d((3, 7)),
    Call(lambda x: functional.adaptive_avg_pool2d(x, output_size=(2, 5))),
    nn.Flatten(),
    nn.Linear(60, 4),
)


def test_torch_the_graph_and_the_file_agree(tmp_path: Path) -> None:
    torch.manual_seed(1)
    nn.init.normal_(NET[-1].weight, std=0.3)
    classifier = Classifier(NET, RULE).eval()
    path = tmp_path / "model.onnx"
    export_classifier(classifier, RULE, path)
    read = read_graph(path)
    graph = passes.for_channels_last(passes.standard(read))
    model = to_bytes(graph, CONTRACT, "float32")
    evaluator = Evaluator(read, threads=1)
    images = list(np.random.default_rng(5).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8))
    with torch.no_grad():
        wanted = classifier(torch.from_numpy(np.stack(images))).numpy()
    assert np.ptp(wanted, axis=0).max() > 0.01  # the images matter
    for image, row, found in zip(images, wanted, run(model, images), strict=True):
        np.testing.assert_allclose(evaluator.run(image)[read.output][0], row, atol=1e-5)
        np.testing.assert_allclose(found[0], row, atol=5e-5)
    kinds = [type(node) for node in graph.nodes]
    assert {Slice, MaxPool, AveragePool} < set(kinds) and kinds.count(LocalResponseNorm) == 2
    assert "TRANSPOSE" not in kinds_of(model)
