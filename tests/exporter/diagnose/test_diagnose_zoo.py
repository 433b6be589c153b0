"""The report on the operators of the zoo."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from exporter.bundle import Bundle
from exporter.convert.evaluate import Evaluator
from exporter.convert.graph import (
    AveragePool,
    ChannelShuffle,
    Concat,
    Fused,
    GlobalAveragePool,
    Graph,
    HardSwish,
    LocalResponseNorm,
    Mul,
    Sigmoid,
    Slice,
    Softmax,
    Tanh,
)
from exporter.convert.quantize.rounding.equalize import ChannelExtremes, equalize
from exporter.diagnose.diagnose import PIXELS, diagnose
from exporter.diagnose.results import QuantizeReport
from exporter.prove.imageset import prepare
from support import nets, tflite_files
from support.tflite_files import Net

MakeBundle = Callable[..., Bundle]
PICTURES = [*nets.images(8, 32), *nets.images(8, 32, seed=5)]  # the last lie in golden/


@pytest.fixture(scope="module")
def zoo() -> Graph:
    """A shuffle between convolutions, a gate, and the operators that int8 computes in float."""
    net = Net(3, 32, 32)
    first = net.conv("pixels", 12, (3, 3), strides=(2, 2), fused=Fused.RELU)
    left = net.add(Slice, first, axis=1, start=0, stop=4)
    right = net.add(Slice, first, axis=1, start=4, stop=12)
    mixed = net.add(ChannelShuffle, net.add(Concat, right, left), groups=2)
    squeezed = net.add(GlobalAveragePool, mixed, keep_dims=True)
    gate = net.add(Sigmoid, net.conv(squeezed, 12))
    gated = net.conv(net.add(Mul, mixed, gate), 12, groups=3)
    normed = net.add(LocalResponseNorm, gated, size=3, alpha=0.1, beta=0.75, bias=1.0)
    bent = net.add(Tanh, net.conv(net.add(HardSwish, normed), 8))
    pooled = net.add(AveragePool, bent, kernel=(3, 3), strides=(2, 2))
    net.dense(net.add(GlobalAveragePool, pooled, keep_dims=False), 10)
    net.add(Softmax, net.nodes[-1].output)
    return net.graph()


def report_on(bundle: Bundle) -> QuantizeReport:
    return diagnose(bundle, prepare(bundle, [], None, None), "tflite-int8")


@pytest.mark.parametrize("equalized", [False, True])
def test_every_operator_is_compared(zoo: Graph, make_bundle: MakeBundle, equalized: bool) -> None:
    extremes = ChannelExtremes(zoo)
    for pixels in PICTURES:
        extremes.update(Evaluator(zoo, extremes.names, threads=1).run(pixels))
    other = equalize(zoo, extremes)
    shuffled = next(node.output for node in zoo.nodes if isinstance(node, ChannelShuffle))
    assert np.ptp(other.scales[shuffled]) > 1
    own, scales = (other.graph, other.scales) if equalized else (zoo, {})
    plan = tflite_files.plan_for(own, PICTURES)
    bundle = make_bundle(plan, own, scales, equalized=equalized, float_graph=zoo)
    report = report_on(bundle)
    kinds = {layer.kind: layer for layer in report.layers}
    made = {"TRANSPOSE", "HARD_SWISH", "TANH", "SLICE", "CONCATENATION", "MUL", "AVERAGE_POOL_2D"}
    assert made < set(kinds)
    compared = [layer for layer in report.layers if layer.apart != PIXELS]
    apart = {(layer.tensor, layer.kind, layer.apart) for layer in compared if layer.apart}
    assert compared and not apart
    for layer in compared:
        assert layer.accumulated_snr_db is not None and layer.accumulated_snr_db > 20, layer
