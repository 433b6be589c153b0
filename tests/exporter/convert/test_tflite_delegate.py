"""What XNNPACK takes: from the first convolution to the softmax in one partition.

A node that the delegate leaves out cuts the graph in two and copies tensors back and
forth; a file can be right and slow for it.
"""

from __future__ import annotations

import pytest
from ai_edge_litert.interpreter import Interpreter

from exporter.convert.graph import Graph
from exporter.convert.targets.tflite.writer import to_bytes
from support import nets
from support.node_cases import CONVOLUTIONS, MOVES, Case
from support.tflite_files import CONTRACT, classifier, pixels_for, plan_for


def partitions(graph: Graph, precision: str) -> list[tuple[set[str], set[str]]]:
    """The names of what goes into and comes out of each delegated part."""
    images = nets.images(4, 32) if graph.input.shape[2] == 32 else pixels_for(graph)
    plan = plan_for(graph, images) if precision == "int8" else None
    interpreter = Interpreter(
        model_content=to_bytes(graph, CONTRACT, precision, plan), num_threads=1
    )
    interpreter.allocate_tensors()
    names = {one["index"]: one["name"] for one in interpreter.get_tensor_details()}
    return [
        (
            {names.get(index, "") for index in part["inputs"]},
            {names.get(index, "") for index in part["outputs"]},
        )
        for part in interpreter._get_ops_details()
        if part["op_name"] == "DELEGATE"
    ]


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_a_classifier_is_one_partition(precision: str) -> None:
    """In int8 the QUANTIZE of the pixels alone stays outside."""
    ((inputs, outputs),) = partitions(classifier(), precision)
    assert ("pixels/int8" if precision == "int8" else "image") in inputs
    assert "probabilities" in outputs


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=lambda case: case.name)
def test_no_convolution_is_left_out(case: Case) -> None:
    for precision in ("float32", "float16", "int8"):
        ((_, outputs),) = partitions(case.net().graph(), precision)
        assert "probabilities" in outputs


@pytest.mark.parametrize("case", MOVES, ids=lambda case: case.name)
def test_slices_and_channel_shuffles_are_taken(case: Case) -> None:
    for precision in ("float32", "float16", "int8"):
        ((_, outputs),) = partitions(case.net().graph(), precision)
        assert "probabilities" in outputs
