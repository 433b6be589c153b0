"""Small graphs for the tests of passes, and the check that a pass keeps its word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from exporter.convert.evaluate import Evaluator
from exporter.convert.graph import (
    BatchNorm,
    Conv,
    Graph,
    GraphInput,
    Node,
    Normalize,
)
from exporter.convert.passes.rewriting import Rewrite
from support.onnx_files import normal, pixels

SIZE = 6
SOURCE = GraphInput("x", (1, 3, SIZE, SIZE), 1 / 64, 128)
RAW = GraphInput("x", (1, 3, SIZE, SIZE))
X = (1, 3, SIZE, SIZE)


def chain(
    nodes: Sequence[Node],
    shapes: Mapping[str, tuple[int, ...]],
    constants: Mapping[str, npt.NDArray[Any]] | None = None,
    source: GraphInput = SOURCE,
) -> Graph:
    """A graph from x whose output is that of the last node."""
    known = {source.name: source.shape, **shapes}
    values = {k: np.asarray(v, np.float32) for k, v in (constants or {}).items()}
    return Graph(source, nodes[-1].output, tuple(nodes), known, values)


def conv(output: str, source: str = "x", out: int = 4, **options: Any) -> Conv:
    options.setdefault("weight", normal(out, 3, 3, 3, seed=5))
    options.setdefault("padding", (1, 1, 1, 1))
    bias = normal(len(options["weight"]), seed=6)
    return Conv(name=output, inputs=(source,), output=output, bias=bias, **options)


def outputs(graph: Graph) -> npt.NDArray[np.float32]:
    run = Evaluator(graph, threads=1)
    return np.stack([run.run(pixels(SIZE, SIZE, seed=i))[graph.output] for i in range(3)])


def check(rewrite: Rewrite, graph: Graph, tolerance: float = 1e-5) -> Graph:
    """Run a pass; nothing moves, and a second run changes nothing."""
    after, changed = rewrite.apply(graph)
    assert changed == (after is not graph)
    assert rewrite.ensures(after) == []
    assert not rewrite.apply(after)[1]
    before = outputs(graph)
    np.testing.assert_allclose(outputs(after), before, atol=tolerance * np.abs(before).max())
    return after


def kinds(graph: Graph) -> list[type[Node]]:
    return [type(node) for node in graph.nodes]


FOUR = {"shape": (1, 4, SIZE, SIZE)}
F = FOUR["shape"]


def batch_norm(output: str, source: str, channels: int = 4) -> BatchNorm:
    scale = normal(channels, seed=7) + 1
    return BatchNorm(name=output, inputs=(source,), output=output, scale=scale,
                     shift=normal(channels, seed=8))  # fmt: skip


def normalized(
    mean: Sequence[float],
    std: Sequence[float],
    nodes: Sequence[Node],
    constants: Mapping[str, npt.NDArray[Any]] | None = None,
    **shapes: tuple[int, ...],
) -> Graph:
    first = Normalize(
        name="n",
        inputs=("x",),
        output="n",
        mean=np.array(mean, np.float32),
        scale=(1 / np.array(std)).astype(np.float32),
    )
    return chain([first, *nodes], {"n": X, **shapes}, constants, source=RAW)


def moved(before: Graph, after: Graph) -> float:
    return float(np.abs(outputs(before) - outputs(after)).max() / np.abs(outputs(before)).max())
