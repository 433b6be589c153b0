"""Interleaving and statistics on a clock that the test moves."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from fakes import FakeSession, linear

from exporter.prove.latency import LatencySettings, Timed, device_name, measure
from models.errors import UserError

PIXELS = [np.zeros((8, 8, 3), np.uint8), np.ones((8, 8, 3), np.uint8)]


class Clock:
    """Nanoseconds that pass only while a session computes."""

    def __init__(self) -> None:
        self.now = 0
        self.calls: list[tuple[str, int]] = []

    def __call__(self) -> int:
        return self.now

    def session(self, name: str, cost: list[int]) -> Timed:
        turns = iter(cost * 1000)

        def answer(pixels: np.ndarray) -> np.ndarray:
            assert not gc.isenabled()
            self.calls.append((name, int(pixels[0, 0, 0])))
            self.now += next(turns)
            return linear(pixels)

        return Timed(name, f"{name} 1.0", FakeSession(answer, None))


def test_median_p90_and_ratio_by_hand() -> None:
    clock = Clock()
    uneven = [1_000_000] * 8 + [9_000_000] * 2
    entries = [clock.session("torch", [4_000_000]), clock.session("a", uneven)]
    latency = measure(entries, PIXELS, 2, LatencySettings(runs=50, warmup=10), clock=clock)
    torch, fast = latency.results
    assert (torch.median_ms, torch.p90_ms, torch.ratio, torch.runs) == (4.0, 4.0, 1.0, 50)
    assert (fast.median_ms, fast.p90_ms, fast.ratio) == (1.0, 9.0, 0.25)
    assert (latency.threads, latency.warmup) == (2, 10)
    assert gc.isenabled()


def test_rounds_are_interleaved_and_begin_with_another_session_each_time() -> None:
    clock = Clock()
    entries = [clock.session(name, [1]) for name in "abc"]
    measure(entries, PIXELS, 1, LatencySettings(runs=50, warmup=1), clock=clock)
    order = "".join(name for name, _ in clock.calls)
    assert order.startswith("abcbcacababc")
    assert len(order) == 3 * 51
    rounds = [clock.calls[start : start + 3] for start in range(0, len(clock.calls), 3)]
    assert all(len({pixel for _, pixel in taken}) == 1 for taken in rounds)


def test_warm_up_does_not_count() -> None:
    clock = Clock()
    slow_start = clock.session("a", [50_000_000] * 10 + [1_000_000] * 990)
    latency = measure([slow_start], PIXELS, 1, LatencySettings(runs=50, warmup=10), clock=clock)
    assert latency.results[0].p90_ms == 1.0


def test_long_runs_are_few() -> None:
    clock = Clock()
    long = [clock.session(name, [1_000_000_000]) for name in "ab"]  # a second each
    latency = measure(long, PIXELS, 1, LatencySettings(runs=50, warmup=10), clock=clock)
    assert latency.warmup == 2  # after 2 of 20 seconds
    assert [each.runs for each in latency.results] == [11, 11]  # the first that ends beyond 20 s
    clock = Clock()
    longer = [clock.session(name, [10_000_000_000]) for name in "ab"]
    latency = measure(longer, PIXELS, 1, LatencySettings(runs=50, warmup=10), clock=clock)
    assert latency.warmup == 1
    assert [each.runs for each in latency.results] == [10, 10]


def test_the_collector_is_switched_on_again_after_an_error() -> None:
    def breaks(_: np.ndarray) -> np.ndarray:
        raise UserError("broken")

    with pytest.raises(UserError):
        measure([Timed("a", "", FakeSession(breaks, None))], PIXELS, 1, LatencySettings())
    assert gc.isenabled()


@pytest.mark.parametrize("settings", [{"runs": 49}, {"warmup": 0}])
def test_too_few_runs_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(UserError, match="steady median"):
        LatencySettings(**settings)


def test_the_device_has_a_name() -> None:
    assert "cores" in device_name()
