"""Mutants of the exact simulation's arithmetic: each must differ from LiteRT."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from kernel_cases import CASES, Case, Scales, beyond_float32, differing

from exporter.convert.graph import Fused, GlobalAveragePool
from exporter.convert.quantize.exact import elementwise, linear, writer
from exporter.convert.quantize.plan import Affine


def _half_up(
    self: writer.Writer, product: str, affine: Affine, fused: Fused = Fused.NONE
) -> writer.Steps:
    whole = self.op("Floor", [self.op("Add", [product, self.constant(0.5)])])
    return _ROUNDED(self, whole, affine, fused)


_ROUNDED = writer.Writer.rounded


def _differs(name: str, rounds: int = 25) -> bool:
    random = np.random.default_rng(9)
    return any(differing(CASES[name](Scales(random, True)), random) for _ in range(rounds))


@pytest.mark.parametrize("name", ["conv_1x1", "depthwise", "mul", "dense"])
def test_rounding_half_up_is_found_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer.Writer, "rounded", _half_up)
    assert _differs(name)


def _with_input_one_off(case: Case) -> Case:
    graph, plan = case
    first = plan.activations["p"]
    moved = Affine(first.scale, first.zero_point + (1 if first.zero_point <= 0 else -1))
    given = replace(graph.input, zero_point=moved.zero_point + 128)
    return replace(graph, input=given), replace(plan, activations={**plan.activations, "p": moved})


@pytest.mark.parametrize("name", ["conv_1x1", "add", "mul", "mean", "quantize", "silu"])
def test_a_zero_point_off_by_one_is_found_out(name: str) -> None:
    random = np.random.default_rng(9)
    case = CASES[name](Scales(random, False))
    assert differing(case, random, simulated=_with_input_one_off(case)) > 0


def test_a_mean_rounded_before_the_zero_point_is_added_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def mean(node: GlobalAveragePool, to: writer.Writer) -> writer.Steps:
        source, made = to.read(node), to.affine(node)
        axes = to.constant([2, 3], np.int64)
        keep = int(node.keep_dims)
        total = to.op("ReduceSum", [source.name, axes], keepdims=keep)
        factor = np.float32(source.affine.scale / made.scale / 32)
        return to.rounded(to.op("Mul", [total, to.constant(factor)]), made)

    monkeypatch.setitem(writer._KERNELS, GlobalAveragePool, mean)
    assert _differs("mean")


def test_a_sum_in_float32_alone_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "exact_parts", lambda values, source: [values])
    assert differing(beyond_float32(), np.random.default_rng(0), images=16) > 0


def test_a_coarser_factor_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elementwise, "_FACTOR_BITS", 12)
    random = np.random.default_rng(9)
    cases = (CASES["add"](Scales(random, False)) for _ in range(12))
    assert any(differing(case, random) for case in cases)
