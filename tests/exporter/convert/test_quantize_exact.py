"""The exact simulator against whole int8 files in LiteRT, tensor by tensor."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import target_graphs

from exporter.convert.evaluate import to_feed
from exporter.convert.from_onnx import read_graph
from exporter.convert.graph import Graph, GraphError, MaxPool, Sigmoid
from exporter.convert.passes import INT8_TOLERANCE, for_channels_last, standard
from exporter.convert.quantize.calibrate import calibrate
from exporter.convert.quantize.exact import ExactSimulator
from exporter.convert.quantize.plan import QuantizationPlan
from exporter.convert.quantize.quantize import quantize
from exporter.convert.quantize.simulate import Simulator
from exporter.convert.targets.tflite.writer import to_bytes
from models.contract import Contract, Preprocessing
from models.images import list_images, load_pixels
from support import nets, tflite_files

DATA = Path(__file__).parents[4] / "shared" / "data"
WEIGHTS = DATA / "weights" / "mobilenet_v2_imagenet.pth"
PHOTOGRAPHS = DATA / "images" / "imagenet_dev"
_NOT_WRITTEN = {"average_pool_uneven"}  # TFLite has no such pool


def ending_at(graph: Graph, plan: QuantizationPlan, name: str) -> tuple[Graph, QuantizationPlan]:
    """The graph up to one tensor, which a file can then give."""
    count = [node.output for node in graph.nodes].index(name) + 1
    cut = replace(graph, nodes=graph.nodes[:count], output=name)
    known = set(cut.tensors())
    kept = {tensor: by for tensor, by in plan.activations.items() if tensor in known}
    return cut, replace(plan, activations=kept)


def differing(
    graph: Graph, plan: QuantizationPlan, contract: Contract, images: list[np.ndarray]
) -> dict[str, int]:
    """For each int8 tensor, in how many integers simulation and LiteRT differ."""
    names = [name for name in graph.tensors() if name in plan.activations][1:]
    # a sigmoid at the end of a file is float
    names = [name for name in names if not isinstance(graph.producer(name), Sigmoid)]
    simulated = [ExactSimulator(graph, plan, names, threads=1).run(image) for image in images]
    counts = {}
    for name in names:
        model = to_bytes(*_written(graph, plan, name, contract))
        found = tflite_files.run(model, images)
        pairs = zip(simulated, found, strict=True)
        counts[name] = sum(int((ours[name] != theirs).sum()) for ours, theirs in pairs)
    return counts


def _written(graph: Graph, plan: QuantizationPlan, name: str, contract: Contract) -> tuple:
    cut, kept = ending_at(graph, plan, name)
    return cut, contract, "int8", kept


@pytest.mark.parametrize("name", sorted(set(target_graphs.CASES) - _NOT_WRITTEN))
def test_every_tensor_of_each_node_kind_equals_litert(name: str) -> None:
    sketch = target_graphs.make(name)
    if name == "sigmoid":
        sketch.add(MaxPool, kernel=(1, 1), strides=(1, 1))
    graph = for_channels_last(sketch.graph())
    images = [target_graphs.some_pixels(seed=seed) for seed in range(4)]
    plan = calibrate(graph, images)
    counts = differing(graph, plan, tflite_files.CONTRACT, images)
    assert counts
    assert not any(counts.values()), counts


@pytest.fixture(scope="module")
def small(small_onnx_path: Path) -> Graph:
    return for_channels_last(standard(read_graph(small_onnx_path), tolerance=INT8_TOLERANCE))


@pytest.fixture(scope="module")
def small_plan(small: Graph) -> QuantizationPlan:
    return calibrate(small, nets.images(12))


def test_every_tensor_of_a_mobilenet_equals_litert(
    small: Graph, small_plan: QuantizationPlan
) -> None:
    images = nets.images(2, seed=1)
    counts = differing(small, small_plan, nets.small_contract(), images)
    assert len(counts) > 60
    assert not any(counts.values()), counts


def test_the_float_simulation_is_not_exact(small: Graph, small_plan: QuantizationPlan) -> None:
    """Or nothing would be gained, and the comparison above could not fail."""
    exact = ExactSimulator(small, small_plan, [small.logits], threads=1)
    rough = Simulator(small, small_plan, [small.logits], threads=1)
    images = nets.images(8, seed=1)
    gaps = [exact.run(image)[small.logits] - rough.run(image)[small.logits] for image in images]
    assert np.abs(gaps).max() > 0.5 * small_plan.activations[small.logits].scale


def test_the_probabilities_are_litert_s_but_for_the_float_softmax(
    small: Graph, small_plan: QuantizationPlan
) -> None:
    images = nets.images(4, seed=1)
    model = to_bytes(small, nets.small_contract(), "int8", small_plan)
    simulator = ExactSimulator(small, small_plan, threads=1)
    for image, found in zip(images, tflite_files.run(model, images), strict=True):
        np.testing.assert_allclose(simulator.run(image)[small.output], found, rtol=0, atol=2e-6)


def test_integers_and_real_values_say_the_same(small: Graph, small_plan: QuantizationPlan) -> None:
    first, image = small.nodes[0].output, nets.image(3)
    names = [small.input.name, first, small.output]
    simulator = ExactSimulator(small, small_plan, names, threads=1)
    integers, values = simulator.integers(image), simulator.run(image)
    assert list(values) == names
    assert set(integers) == {small.input.name, first}  # the probabilities are float
    np.testing.assert_allclose(values[small.input.name], to_feed(small.input, image), rtol=1e-6)
    for name, levels in integers.items():
        assert levels.dtype == np.int8
        by = small_plan.activations[name]
        expected = (levels.astype(np.float32) - by.zero_point) * np.float32(by.scale)
        np.testing.assert_array_equal(values[name], expected)


def test_two_runs_and_any_number_of_threads_agree(
    small: Graph, small_plan: QuantizationPlan
) -> None:
    image = nets.image(5)
    runs = [
        ExactSimulator(small, small_plan, [small.logits], threads=count).integers(image)
        for count in (1, 2, 1)
    ]
    for other in runs[1:]:
        np.testing.assert_array_equal(other[small.logits], runs[0][small.logits])


def test_plans_that_are_not_int8_throughout_are_refused(
    small: Graph, small_plan: QuantizationPlan
) -> None:
    mixed = replace(small_plan, float_nodes=frozenset([small.nodes[0].name]))
    with pytest.raises(GraphError, match="int8 throughout"):
        ExactSimulator(small, mixed)
    with pytest.raises(GraphError, match="int8 throughout"):
        ExactSimulator(small, replace(small_plan, activation_type="int16"))


def test_a_tensor_without_quantization_is_refused(
    small: Graph, small_plan: QuantizationPlan
) -> None:
    missing = small.nodes[3].output
    kept = {name: by for name, by in small_plan.activations.items() if name != missing}
    with pytest.raises(GraphError, match="no quantization"):
        ExactSimulator(small, replace(small_plan, activations=kept))


@pytest.mark.slow
@pytest.mark.skipif(
    not (WEIGHTS.is_file() and PHOTOGRAPHS.is_dir()), reason="the shared data is not here"
)
def test_every_tensor_of_the_imagenet_file_equals_litert(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from exporter.convert.to_onnx import export_checkpoint
    from models.checkpoint import imagenet_labels, load_state_dict_file

    checkpoint = load_state_dict_file(
        WEIGHTS, "mobilenet_v2", imagenet_labels(), resize_shorter_side=224
    )
    export_checkpoint(checkpoint, tmp_path / "model.onnx")
    rule = Preprocessing(resize_shorter_side=224)
    images = [load_pixels(file.path, rule) for file in list_images(PHOTOGRAPHS)[:60]]
    graph = for_channels_last(
        standard(read_graph(tmp_path / "model.onnx"), tolerance=INT8_TOLERANCE)
    )
    found = quantize(graph, lambda: images[:20])
    counts = differing(found.graph, found.plan, checkpoint.contract, images[20:22])
    assert len(counts) > 60
    assert not any(counts.values()), counts

    cut, plan = ending_at(found.graph, found.plan, found.graph.logits)
    logits = tflite_files.run(to_bytes(cut, checkpoint.contract, "int8", plan), images[20:])
    simulator = ExactSimulator(found.graph, found.plan, [found.graph.logits], threads=1)
    for image, theirs in zip(images[20:], logits, strict=True):
        np.testing.assert_array_equal(simulator.run(image)[found.graph.logits], theirs)
