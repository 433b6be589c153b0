"""Mixed precision within a latency budget: choose, write, measure, back off.

It converts and measures, so it stands above both wings. The times are those of the files
themselves in LiteRT with XNNPACK on one thread, all in turn within the same seconds, as
processor time of that thread: another process that takes the processor away does not
count. Only ratios to the int8 file are used.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from exporter.convert.graph import Graph
from exporter.convert.quantize.mixed import modes as mixed
from exporter.convert.quantize.mixed.sensitivity import (
    IMAGES,
    Effect,
    Sensitivity,
    measure_sensitivity,
)
from exporter.convert.quantize.quantize import Images, Quantized
from models.contract import Contract

MARGIN = 0.04  # of the int8 file's time, kept free for what a measurement is uncertain by;
#                half of what there is, where a budget leaves less than twice that
SAMPLES = 24  # files from which the prices are learned
ROUNDS = 5  # choices that are written and measured
_RUNS, _FINAL_RUNS = 50, 100
_SEED = 4
_RIDGE = 1e-3


@dataclass(frozen=True, eq=False)
class Mixed:
    """What was found.

    Attributes:
        quantized: with float nodes; write it like any int8 network.
        record: the choice and how it was found, for the manifest.
        table: what each layer costs in accuracy; None where the choice was given.
    """

    quantized: Quantized
    record: dict[str, Any]
    table: Sensitivity | None = None


def given(
    quantized: Quantized,
    images: Images,
    float_nodes: Sequence[str],
    dynamic_nodes: Sequence[str] = (),
) -> Mixed:
    """A choice by name; nothing is measured.

    A node's name is the one in a record and in sensitivity.json; that of the tensor it
    makes, as quantize-report shows it, does as well.

    Raises:
        QuantizationError: a name is no node's, or a node cannot be dynamic.
    """
    nodes = mixed.body(quantized.graph)
    names = {node.output: node.name for node in nodes} | {node.name: node.name for node in nodes}
    modes: mixed.Modes = {names.get(name, name): "float" for name in float_nodes}
    modes |= {names.get(name, name): "dynamic" for name in dynamic_nodes}
    kept = mixed.kept_images(quantized.graph, images)
    made = mixed.apply(quantized, modes, kept)
    return Mixed(_with_record(made, {}), {"chosen": "by name", **mixed.record_of(made.plan)})


def search(
    quantized: Quantized,
    contract: Contract,
    images: Images,
    budget: float,
    on_step: Callable[[], None] | None = None,
) -> Mixed:
    """The most accurate choice found whose file stays within a budget on this machine.

    Args:
        quantized: an int8 network without float nodes.
        images: calibration images; none but these are looked at.
        budget: the most time, by that of the int8 file; see `request.parse_budget`.
        on_step: called after each node of the sensitivity table and each round.
    """
    graph = quantized.graph
    kept = mixed.kept_images(graph, images)
    probes = kept[:IMAGES]
    table = measure_sensitivity(graph, quantized.plan, probes, on_step)
    with tempfile.TemporaryDirectory(prefix="int8-budget-") as folder:
        clock = _Stopwatch(quantized, contract, Path(folder), kept[0])
        prices = clock.prices()
        tried = _search(graph, table, clock, prices, budget, on_step)
        best = _confirmed(tried, clock, budget)
        found = mixed.apply(quantized, best.modes, kept)
        simulated = _simulated(quantized, found, probes)
        record = {
            "chosen": "by search",
            "budget": budget,
            "measured_ratio": round(best.ratio, 3),
            "device": clock.device,
            "threads": 1,
            "clock": "processor time of the running thread",
            **mixed.record_of(found.plan),
            "prices_percent": {
                name: float(f"{100 * value:.4g}") for name, value in asdict(prices).items()
            },
            "rounds": [
                {"float_nodes": len(one.float_names), "measured_ratio": round(one.ratio, 3)}
                for one in tried
            ],
            "calibration_images": {"table": len(probes), "biases": len(kept)},
            "calibration_logits": simulated,
        }
    return Mixed(_with_record(found, record), record, table)


def _with_record(found: Quantized, record: Mapping[str, Any]) -> Quantized:
    plan = found.plan
    mixed_record = {**mixed.record_of(plan), **record}
    return replace(found, plan=replace(plan, record={**plan.record, "mixed": mixed_record}))


@dataclass(frozen=True, eq=False)
class _Tried:
    modes: mixed.Modes
    noise: float
    ratio: float

    @property
    def float_names(self) -> list[str]:
        return [name for name, mode in self.modes.items() if mode != "int8"]


def _search(
    graph: Graph,
    table: Sensitivity,
    clock: _Stopwatch,
    prices: mixed.Work,
    budget: float,
    on_step: Callable[[], None] | None,
) -> list[_Tried]:
    """Choices by the learned prices; their budget is corrected by what each file really took."""
    wanted = budget - min(MARGIN, (budget - 1) / 2)
    assumed, tried = wanted, list[_Tried]()
    for _ in range(ROUNDS):
        modes = mixed.choose(graph, table, lambda one: _price(graph, prices, one), assumed)
        if any(one.modes == modes for one in tried):
            break
        ratio = clock.ratio(modes, _RUNS)
        tried.append(_Tried(modes, mixed.predicted_noise(graph, table, modes), ratio))
        if on_step is not None:
            on_step()
        assumed = 1 + (assumed - 1) * (wanted - 1) / max(ratio - 1, 0.25 * (wanted - 1))
    return tried


def _confirmed(tried: Sequence[_Tried], clock: _Stopwatch, budget: float) -> _Tried:
    """The best that stays within the budget when measured once more; the int8 file if none."""
    for one in sorted(tried, key=lambda each: each.noise):
        if one.ratio > budget:
            continue
        again = clock.ratio(one.modes, _FINAL_RUNS)
        if again <= budget:
            return replace(one, ratio=again)
    return _Tried({}, float("inf"), 1.0)


def _price(graph: Graph, prices: mixed.Work, modes: Mapping[str, mixed.Mode]) -> float:
    wanted, each = asdict(mixed.work(graph, modes)), asdict(prices)
    return 1.0 + sum(each[name] * amount for name, amount in wanted.items()) / 1e6


def _simulated(
    quantized: Quantized, found: Quantized, probes: Sequence[Any]
) -> dict[str, dict[str, float]]:
    """The calibration images' logits, int8 and mixed, against the float graph's."""
    from exporter.convert.evaluate import Evaluator
    from exporter.convert.quantize.mixed.sensitivity import effect
    from exporter.convert.quantize.simulate import Simulator

    graph = quantized.graph

    def logits(runner: Any) -> Any:
        rows = [runner.run(image)[graph.logits].reshape(-1) for image in probes]
        return np.stack(rows).astype(np.float64)

    reference = logits(Evaluator(graph, [graph.logits]))

    def compared(one: Quantized) -> dict[str, float]:
        seen: Effect = effect(reference, logits(Simulator(one.graph, one.plan, [graph.logits])))
        return {name: round(value, 4) for name, value in asdict(seen).items()}

    return {"int8": compared(quantized), "mixed": compared(found)}


class _Stopwatch:
    """Writes choices as files and times them against the int8 file."""

    def __init__(self, quantized: Quantized, contract: Contract, folder: Path, image: Any) -> None:
        from exporter.prove.latency import device_name

        self._quantized, self._contract, self._folder = quantized, contract, folder
        self._image, self._count = image, 0
        self.device = device_name()
        self._int8 = self._write(mixed.all_int8(quantized.graph))

    def ratio(self, modes: Mapping[str, mixed.Mode], runs: int) -> float:
        return self._ratios([self._write(modes)], runs)[0]

    def prices(self) -> mixed.Work:
        """What a million of each quantity of `Work` adds, by the int8 file's time.

        Least squares over files whose modes are drawn at random, in runs of nodes.
        """
        graph = self._quantized.graph
        choices = _samples(graph)
        ratios = self._ratios([self._write(one) for one in choices], _RUNS)
        amounts = np.array([list(asdict(mixed.work(graph, one)).values()) for one in choices])
        amounts /= 1e6
        largest = np.maximum(amounts.max(axis=0), 1e-9)
        scaled = amounts / largest
        normal = scaled.T @ scaled + _RIDGE * len(choices) * np.eye(scaled.shape[1])
        each = np.linalg.solve(normal, scaled.T @ (np.array(ratios) - 1.0)) / largest
        names = mixed.Work.__dataclass_fields__
        return mixed.Work(**{name: float(max(v, 0.0)) for name, v in zip(names, each, strict=True)})

    def _write(self, modes: Mapping[str, mixed.Mode]) -> Path:
        from exporter.convert.targets import tflite

        made = mixed.apply(self._quantized, modes, ())
        path = self._folder / f"{self._count}.tflite"
        self._count += 1
        tflite.write(made.graph, self._contract, path, "int8", made.plan)
        return path

    def _ratios(self, paths: Sequence[Path], runs: int) -> list[float]:
        from exporter.prove.latency import LatencySettings, Timed, measure
        from exporter.prove.runtimes.litert import LiteRtRuntime

        runtime = LiteRtRuntime()
        entries = [
            Timed(path.stem, runtime.name, runtime.open(path, self._contract, 1))
            for path in (self._int8, *paths)
        ]
        settings = LatencySettings(runs, 5)
        found = measure(entries, [self._image], 1, settings, clock=time.thread_time_ns)
        return [one.ratio for one in found.results[1:]]


def _samples(graph: Graph) -> list[mixed.Modes]:
    """Different choices: runs of random length in random modes; always the same ones."""
    random = np.random.default_rng(_SEED)
    nodes, found = mixed.body(graph), []
    kinds: tuple[mixed.Mode, ...] = ("int8", "dynamic", "float")
    for _ in range(SAMPLES):
        modes, place = mixed.all_int8(graph), 0
        while place < len(nodes):
            length = int(random.integers(1, max(2, len(nodes) // 4)))
            mode = kinds[int(random.integers(0, 3))]
            modes |= mixed.as_mode(graph, nodes[place : place + length], mode)
            place += length
        found.append(modes)
    return found
