"""The exact simulation of each kernel against LiteRT: full-range integers, none may differ."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_cases import CASES, Scales, beyond_float32, capped, differing, graph_of

from exporter.convert.graph import Add, Conv, Fused, GraphError, Mul, Node, Relu6
from exporter.convert.quantize.exact import ExactSimulator, linear, writer
from exporter.convert.quantize.exact.activations import hard_swish_table
from exporter.convert.quantize.exact.fixed_point import Multiplier
from exporter.convert.quantize.plan import Affine, QuantizationPlan

ROUNDS = 10


@pytest.mark.parametrize("ties", [False, True], ids=["odd", "ties"])
@pytest.mark.parametrize("name", sorted(CASES))
def test_a_kernel_equals_litert(name: str, ties: bool) -> None:
    random = np.random.default_rng([*name.encode(), ties])
    for _ in range(ROUNDS):
        assert differing(CASES[name](Scales(random, ties)), random) == 0


@pytest.mark.slow
@pytest.mark.parametrize("ties", [False, True], ids=["odd", "ties"])
@pytest.mark.parametrize("name", sorted(CASES))
def test_a_kernel_equals_litert_for_many_scales(name: str, ties: bool) -> None:
    random = np.random.default_rng([*name.encode(), ties, 1])
    for _ in range(100):
        assert differing(CASES[name](Scales(random, ties)), random) == 0


def test_sums_beyond_what_float32_holds_are_exact() -> None:
    case = beyond_float32()
    stored = case[1].weights["n"]
    source = writer.Steps("p", case[1].activations["p"])
    parts = linear.exact_parts(stored.values, source)
    assert len(parts) > 4
    np.testing.assert_array_equal(sum(part.astype(int) for part in parts), stored.values)
    assert differing(case, np.random.default_rng(0), images=16) == 0


@pytest.mark.parametrize("kind", [Add, Mul, Conv, Relu6])
def test_a_cap_between_two_steps_is_rounded_as_litert_does(kind: type[Node]) -> None:
    """Kernels of XNNPACK round the sum with the zero point, to even."""
    random = np.random.default_rng(2)
    for steps in range(0, 80, 3):
        scale = float(np.float32(6 / (steps + 0.5 + random.uniform(-1e-6, 1e-6))))
        made = Affine(scale, int(random.integers(-128, 126 - steps)))
        assert differing(capped(kind, made), random, images=1) == 0


# by hand


def test_fixed_point_by_hand() -> None:
    assert Multiplier.of(1.0) == Multiplier(2**30, 1)
    assert Multiplier.of(0.4) == Multiplier(round(0.8 * 2**31), -1)
    assert Multiplier.of(2.0**-40) == Multiplier(0, 0)
    # 1 * 0.4 is first 0.8, rounded to 1, then 0.5, rounded up
    values = np.array([1, 2, 3, 6, -1, -6])
    np.testing.assert_array_equal(Multiplier.of(0.4).times(values), [1, 1, 1, 3, 0, -2])


def test_tables_by_hand() -> None:
    swish = hard_swish_table(Affine(1.0, 0), Affine(1.0, 0))
    np.testing.assert_array_equal(swish[[0, 125, 128, 129, 131, 228]], [0, 0, 0, 1, 3, 100])


def test_conversion_has_eight_fractional_bits() -> None:
    table = writer.conversion_table(Affine(1.0, 0), Affine(3.0, 0))
    # 85 / 256 instead of 1 / 3: 127 becomes 42.2, and 100 33.2
    assert (table[255], table[228], table[129]) == (42, 33, 0)


def test_fused_bounds_by_hand() -> None:
    assert writer.fused_bounds(Affine(0.1, -10), Fused.NONE) == (-128, 127)
    assert writer.fused_bounds(Affine(0.1, -10), Fused.RELU) == (-10, 127)
    assert writer.fused_bounds(Affine(0.1, -10), Fused.RELU6) == (-10, 50)
    assert writer.fused_bounds(Affine(0.01, -128), Fused.RELU6) == (-128, 127)


# what cannot be simulated


@pytest.mark.parametrize("kind", [Add, Mul])
def test_where_litert_overflows_is_refused(kind: type[Node]) -> None:
    source = Affine(1.0, 0)
    made = Affine(1 / 300, 0)
    plan = QuantizationPlan({"p": source, "o": made}, {}, {"k": (np.int8([127]), source)})
    node = kind(name="n", inputs=("p", "k"), output="o")
    graph = graph_of([node], source, constants={"k": np.zeros(1, np.float32)})
    with pytest.raises(GraphError, match="overflows"):
        ExactSimulator(graph, plan)
