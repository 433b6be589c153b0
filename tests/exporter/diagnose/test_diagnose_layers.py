"""The report on tiny bundles: figures by hand, planted faults, equalization, a float reference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from exporter.bundle import Bundle, open_bundle, write_manifest
from exporter.convert.evaluate import Evaluator
from exporter.convert.graph import Conv, Graph
from exporter.convert.quantize.plan import QuantizationPlan
from exporter.convert.quantize.rounding.equalize import ChannelExtremes, equalize
from exporter.diagnose.diagnose import NO_COUNTERPART, PIXELS, UNKNOWN_SCALES, diagnose
from exporter.diagnose.results import Layer, QuantizeReport, worst
from exporter.prove.imageset import prepare
from models.errors import UserError
from support import nets, tflite_files

MakeBundle = Callable[..., Bundle]


def report_on(bundle: Bundle, key: str = "tflite-int8", limit: int | None = None) -> QuantizeReport:
    return diagnose(bundle, prepare(bundle, [], None, limit), key)


def layer_of(report: QuantizeReport, tensor: str) -> Layer:
    return next(layer for layer in report.layers if layer.tensor == tensor)


def golden(count: int = 8) -> list[np.ndarray]:
    return nets.images(count, 32, seed=5)  # those that make_bundle writes


def squares(values: np.ndarray) -> float:
    return float(np.square(values, dtype=np.float64).sum())


@pytest.fixture
def rescaled(graph: Graph) -> Callable[[QuantizationPlan, str, float], QuantizationPlan]:
    """Plants a fault: one activation's step is so many times as wide, biases following."""

    def change(plan: QuantizationPlan, tensor: str, factor: float) -> QuantizationPlan:
        affine = plan.activations[tensor]
        wider = replace(affine, scale=affine.scale * factor)
        weights = dict(plan.weights)
        for node in graph.nodes:
            if node.name in weights and node.inputs[0] == tensor:
                steps = weights[node.name].scales.astype(np.float64) * wider.scale
                bias = np.round(node.bias / steps).astype(np.int32)  # type: ignore[attr-defined]
                weights[node.name] = replace(weights[node.name], bias=bias)
        return replace(plan, activations={**plan.activations, tensor: wider}, weights=weights)

    return change


def test_the_first_layers_figures_by_hand(
    graph: Graph, plan: QuantizationPlan, make_bundle: MakeBundle
) -> None:
    """Its input is the pixels, exact; so the rest follows from its rounded weights and grid."""
    report = report_on(make_bundle(plan))
    name = graph.nodes[0].output
    affine = plan.activations[name]
    low, high = (affine.scale * (q - affine.zero_point) for q in (-128, 127))
    signal = error = weights = clipping = below = above = count = 0.0
    for pixels in golden():
        wanted = Evaluator(graph, [name], threads=1).run(pixels)[name]
        rounded = tflite_files.with_rounded_weights(graph, plan)
        made = Evaluator(rounded, [name], threads=1).run(pixels)[name]
        held = np.clip(made, low, high)
        grid = np.rint(held / affine.scale) * affine.scale
        signal += squares(wanted)
        error += squares(grid - wanted)
        weights += squares(made - wanted)
        clipping += squares(held - made)
        below += float((wanted < low - affine.scale / 2).sum())
        above += float((wanted > high + affine.scale / 2).sum())
        count += wanted.size
    layer = layer_of(report, name)
    assert layer.noise is not None
    assert layer.range is not None
    assert layer.accumulated_snr_db == pytest.approx(10 * np.log10(signal / error), abs=0.02)
    assert layer.same_input_snr_db == layer.own_snr_db == layer.accumulated_snr_db
    assert layer.noise.input == 0
    assert layer.noise.weights == pytest.approx(weights / signal, rel=1e-3)
    assert layer.noise.clipping == pytest.approx(clipping / signal, rel=1e-3, abs=1e-9)
    assert (layer.range.below, layer.range.above) == pytest.approx((below / count, above / count))


def test_a_layer_fed_the_float_networks_input(
    graph: Graph, plan: QuantizationPlan, make_bundle: MakeBundle
) -> None:
    """The dense layer in numpy's integers, from the float network's input on its int8 grid."""
    report = report_on(make_bundle(plan))
    node = graph.nodes[-2]
    source, made = plan.activations[node.inputs[0]], plan.activations[node.output]
    stored = plan.weights[node.name]
    signal = noise = rounding_of_input = 0.0
    for pixels in golden():
        run = Evaluator(graph, [node.inputs[0], node.output], threads=1).run(pixels)
        wanted = run[node.output][0]
        levels = np.rint(run[node.inputs[0]][0] / source.scale) + source.zero_point
        integers = np.clip(levels, -128, 127).astype(np.int64) - source.zero_point
        sums = stored.values.astype(np.int64) @ integers + stored.bias
        real = sums * stored.scales.astype(np.float64) * source.scale
        out = np.clip(np.rint(real / made.scale) + made.zero_point, -128, 127)
        signal += squares(wanted)
        noise += squares((out - made.zero_point) * made.scale - wanted)
        exact = stored.values @ (run[node.inputs[0]][0] / source.scale) * stored.scales
        inexact = stored.values @ integers * stored.scales
        rounding_of_input += squares((inexact - exact) * source.scale)
    layer = layer_of(report, node.output)
    assert layer.noise is not None
    assert layer.same_input_snr_db == pytest.approx(10 * np.log10(signal / noise), abs=0.02)
    assert layer.noise.input == pytest.approx(rounding_of_input / signal, rel=1e-2)


def test_accumulated_is_the_int8_networks_own_logits(
    graph: Graph, plan: QuantizationPlan, make_bundle: MakeBundle
) -> None:
    bundle = make_bundle(plan)
    report = report_on(bundle)
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    # the other kernels, which keep all tensors
    interpreter = Interpreter(
        model_path=str(bundle.path("tflite-int8")), num_threads=1,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
    )  # fmt: skip
    interpreter.allocate_tensors()
    index = next(d["index"] for d in interpreter.get_tensor_details() if d["name"] == graph.logits)
    affine = plan.activations[graph.logits]
    signal = noise = 0.0
    for pixels in golden():
        wanted = Evaluator(graph, [graph.logits], threads=1).run(pixels)[graph.logits]
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], pixels[None])
        interpreter.invoke()
        levels = interpreter.get_tensor(index).astype(np.float64)
        signal += squares(wanted)
        noise += squares((levels - affine.zero_point) * affine.scale - wanted)
    found = layer_of(report, graph.logits).accumulated_snr_db
    assert found == pytest.approx(10 * np.log10(signal / noise), abs=0.5)  # kernels differ a little
    assert report.watched_difference == 0.0


def test_a_sound_file_blames_nobody_wrongly(
    plan: QuantizationPlan, make_bundle: MakeBundle
) -> None:
    report = report_on(make_bundle(plan))
    computed = [layer for layer in report.layers if not layer.apart]
    assert {layer.apart for layer in report.layers} == {"", PIXELS}
    assert min(layer.own_snr_db or 999 for layer in computed) > 25
    assert report.reference == "model_float32.tflite"
    moved = [layer for layer in computed if layer.kind in ("DEQUANTIZE", "SOFTMAX")]
    assert all(layer.own_snr_db is not None and layer.own_snr_db >= 150 for layer in moved)


@pytest.mark.parametrize(
    ("tensor", "factor", "cause"),
    [("conv3/out", 1 / 8, "clipping"), ("conv5/out", 64, "rounding"),
     ("conv0/out", 1 / 6, "clipping")],
)  # fmt: skip
def test_a_step_that_is_wrong_is_named_as_worst(
    plan: QuantizationPlan, make_bundle: MakeBundle, rescaled: Any, tensor: str, factor: float,
    cause: str,
) -> None:  # fmt: skip
    report = report_on(make_bundle(rescaled(plan, tensor, factor)))
    first = worst(report.layers, 1)[0]
    assert first.tensor == tensor
    assert first.noise is not None
    assert first.noise.cause == cause
    said = next(text for text in report.findings if text.startswith(tensor))
    assert ("clips" in said) == (cause == "clipping")
    assert tensor in report.findings[1]
    sound = report_on(make_bundle(plan, name="sound"))
    assert (first.own_snr_db or 0) < (layer_of(sound, tensor).own_snr_db or 0) - 10
    assert report.summary.logit_sqnr_db < sound.summary.logit_sqnr_db  # type: ignore[operator]
    if cause == "clipping":
        assert first.range is not None
        assert first.range.saturated > 0.01  # type: ignore[operator]
    # whoever reads the spoiled tensor is not blamed: the noise of its input is another's
    reader = report.layers[report.layers.index(first) + 1]
    assert (reader.same_input_snr_db or 0) < (reader.own_snr_db or 0) - 10


def test_weights_that_are_wrong_are_named_as_worst(
    graph: Graph, plan: QuantizationPlan, make_bundle: MakeBundle
) -> None:
    stored = plan.weights["conv7"]
    coarse = np.clip(np.round(stored.values / 24.0) * 24, -120, 120).astype(np.int8)
    spoiled = {**plan.weights, "conv7": replace(stored, values=coarse)}
    report = report_on(make_bundle(replace(plan, weights=spoiled)))
    first = worst(report.layers, 1)[0]
    assert first.tensor == "conv7/out"
    assert first.noise is not None
    assert first.noise.cause == "weights"
    assert "conv7/out loses most in its weights" in " ".join(report.findings)


def test_weights_scales_and_dead_ones(plan: QuantizationPlan, make_bundle: MakeBundle) -> None:
    stored = plan.weights["conv7"]
    values = stored.values.copy()
    values[3] = 0
    spoiled = {**plan.weights, "conv7": replace(stored, values=values)}
    report = report_on(make_bundle(replace(plan, weights=spoiled)), limit=2)
    weights = layer_of(report, "conv7/out").weights
    assert weights is not None
    live = np.delete(stored.scales, 3)
    assert (weights.channels, weights.zero) == (24, (3,))
    assert weights.spread == pytest.approx(live.max() / live.min())


def test_a_dead_channel_and_one_that_int8_loses(
    graph: Graph, plan: QuantizationPlan, make_bundle: MakeBundle, tmp_path: Any
) -> None:
    """Channel 0 of a layer never gets above zero; channel 1 stays below half a step."""
    nodes = list(graph.nodes)
    conv = nodes[1]
    assert isinstance(conv, Conv)
    weight, bias = conv.weight.copy(), conv.bias.copy()
    weight[0], bias[0] = -np.abs(weight[0]), -1  # it reads what a ReLU6 made
    weight[1], bias[1] = np.abs(weight[1]) * 1e-4, 0.0
    nodes[1] = replace(conv, weight=weight, bias=bias)
    changed = replace(graph, nodes=tuple(nodes))
    bundle = make_bundle(tflite_files.plan_for(changed, nets.images(8, 32)), int8_graph=changed)
    from exporter.convert.targets.tflite.writer import to_bytes

    float_file = to_bytes(changed, bundle.contract, "float32")
    bundle.path("tflite-float32").write_bytes(float_file)
    channels = layer_of(report_on(bundle), conv.output).channels
    run = Evaluator(changed, [conv.output], threads=1)
    seen = np.stack([run.run(pixels)[conv.output][0] for pixels in golden()])
    dead = np.flatnonzero((seen == 0).all(axis=(0, 2, 3)))
    assert channels is not None
    assert channels.zero == tuple(dead.tolist())
    assert 0 in dead
    assert 1 not in dead
    assert channels.lost == (1,)
    assert 1 in channels.narrow


def equalized_bundle(
    graph: Graph, make_bundle: MakeBundle, written: bool, factor: float = 1.0
) -> tuple[Bundle, dict[str, np.ndarray]]:
    images = [*nets.images(8, 32), *golden()]
    extremes = ChannelExtremes(graph)
    evaluator = Evaluator(graph, extremes.names, threads=1)
    for image in images:
        extremes.update(evaluator.run(image))
    found = equalize(graph, extremes)
    scales = {name: np.asarray(scale) * factor for name, scale in found.scales.items()}
    plan = tflite_files.plan_for(found.graph, images)
    bundle = make_bundle(plan, found.graph, scales if written else None, equalized=True,
                         name=f"equalized-{written}-{factor}")  # fmt: skip
    return bundle, scales


def test_an_equalized_file_is_compared_by_its_scales(graph: Graph, make_bundle: MakeBundle) -> None:
    bundle, scales = equalized_bundle(graph, make_bundle, True)
    assert any((scale > 1.5).any() for scale in scales.values())
    report = report_on(bundle)
    inner = [layer for layer in report.layers if layer.tensor in scales]
    assert len(inner) == len(scales)
    assert min(layer.accumulated_snr_db or 0 for layer in inner) > 30
    assert min(layer.own_snr_db or 0 for layer in inner) > 35
    # ranges are of the equalized values, which int8 holds
    name = next(iter(scales))
    seen = layer_of(report, name).range
    assert seen is not None
    top = max(
        float((Evaluator(graph, [name], threads=1).run(pixels)[name]
               * scales[name].reshape(1, -1, 1, 1)).max())
        for pixels in golden()
    )  # fmt: skip
    assert seen.observed is not None
    assert seen.observed[1] == pytest.approx(top, rel=1e-4)


def test_wrong_scales_show(graph: Graph, make_bundle: MakeBundle) -> None:
    bundle, scales = equalized_bundle(graph, make_bundle, True, factor=1.3)
    layer = layer_of(report_on(bundle, limit=2), next(iter(scales)))
    assert (layer.accumulated_snr_db or 99) < 15


def test_an_old_bundle_is_compared_as_far_as_it_can_be(
    graph: Graph, make_bundle: MakeBundle
) -> None:
    bundle, scales = equalized_bundle(graph, make_bundle, False)
    report = report_on(bundle, limit=3)
    assert any("no quantization.json" in note for note in report.notes)
    inner = layer_of(report, next(iter(scales)))
    assert (inner.apart, inner.accumulated_snr_db) == (UNKNOWN_SCALES, None)
    assert inner.range is not None
    assert inner.range.levels_used > 1
    assert inner.weights is not None
    assert (layer_of(report, graph.logits).accumulated_snr_db or 0) > 15
    assert layer_of(report, graph.logits).own_snr_db is None
    assert report.summary.logit_sqnr_db is not None
    assert "could not be compared" in " ".join(report.findings)


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "cannot be read"), ('{"schema": 9, "equalization": {}}', "cannot be read"),
     ('{"schema": 1}', "cannot be read"),
     ('{"schema": 1, "equalization": {"conv0/out": [2, 2]}}', "does not fit"),
     ('{"schema": 1, "equalization": {"conv0/out": [0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]}}',
      "cannot be used")],
)  # fmt: skip
def test_a_damaged_record_of_the_equalization(
    plan: QuantizationPlan, make_bundle: MakeBundle, text: str, said: str
) -> None:
    bundle = make_bundle(plan, equalized=True)
    (bundle.root / "quantization.json").write_text(text)
    with pytest.raises(UserError, match=said):
        report_on(bundle, limit=1)


def test_a_mixed_file(graph: Graph, plan: QuantizationPlan, make_bundle: MakeBundle) -> None:
    mixed = replace(plan, float_nodes=frozenset({"conv2", "conv3"}))
    report = report_on(make_bundle(mixed, key="tflite-mixed"), "tflite-mixed")
    left = layer_of(report, "conv2/out")
    assert (left.stored, left.range) == ("float32", None)
    assert (left.own_snr_db or 0) > 100  # float weights, float arithmetic
    whole = layer_of(report_on(make_bundle(plan, name="int8")), "conv2/out")
    assert (left.same_input_snr_db or 0) > (whole.same_input_snr_db or 0)
    assert {layer.apart for layer in report.layers} == {"", PIXELS}


def test_model_onnx_stands_in_for_an_absent_float_file(make_bundle: MakeBundle) -> None:
    from exporter.convert import passes
    from exporter.convert.from_onnx import read_graph
    from exporter.convert.targets.tflite.writer import to_bytes

    bundle = make_bundle(None)
    contract = nets.small_onnx(bundle.root / "model.onnx")
    (bundle.root / "contract.json").write_text(contract.dumps())
    graph = passes.for_channels_last(passes.standard(read_graph(bundle.root / "model.onnx")))
    plan = tflite_files.plan_for(graph, nets.images(8))
    bundle.path("tflite-int8").write_bytes(to_bytes(graph, contract, "int8", plan))
    bundle.path("tflite-float32").write_bytes(to_bytes(graph, contract, "float32"))
    from PIL import Image

    for index, pixels in enumerate(nets.images(8)):
        Image.fromarray(pixels).save(bundle.root / "golden" / f"{index:02}.png")
    by_tflite = report_on(open_bundle(bundle.root), limit=2)
    manifest = {k: v for k, v in bundle.manifest.items() if k not in ("schema", "files")}
    write_manifest(bundle.root, {**manifest, "artifacts": {"onnx": {}, "tflite-int8": {}}})
    by_onnx = report_on(open_bundle(bundle.root), limit=2)
    assert (by_tflite.reference, by_onnx.reference) == ("model_float32.tflite", "model.onnx")
    assert NO_COUNTERPART not in {layer.apart for layer in by_onnx.layers}
    compared = 0
    for one, other in zip(by_tflite.layers, by_onnx.layers, strict=True):
        assert (one.tensor, one.apart) == (other.tensor, other.apart)
        if one.accumulated_snr_db is not None:
            assert other.accumulated_snr_db == pytest.approx(one.accumulated_snr_db, abs=0.1)
            # values that lie between two levels may be rounded either way
            found, wanted = other.same_input_snr_db, one.same_input_snr_db
            assert min(found or 0, 100) == pytest.approx(min(wanted or 0, 100), abs=1)
            compared += 1
    assert compared > 60
