"""Label-free distillation: ranges, biases and weights learned against the float network.

The default quantizer's result is where it begins. The last part of the int8 network then
learns to give the float network's logits on views of the calibration images; no labels are
needed. A part of the images is held out: where learning does not help on those, the start is
what comes back, and the record says so.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from exporter.convert.evaluate import Evaluator
from exporter.convert.graph import Conv, Dense, Graph
from exporter.convert.quantize.calibrate import Watcher
from exporter.convert.quantize.distill.settings import DistillSettings
from exporter.convert.quantize.errors import CalibrationError, QuantizationError
from exporter.convert.quantize.groups import quantized_nodes
from exporter.convert.quantize.plan import QuantizationPlan
from exporter.convert.quantize.quantize import Quantized, quantize
from exporter.convert.quantize.ranges.observe import ImageSample
from exporter.convert.quantize.simulate import Simulator
from models.errors import MissingExtraError

_FEWEST_HELD_OUT = 4
FEWEST_IMAGES = 20  # with fewer, what is held out tells nothing
_QUIETEST = 1e-30
_PASSES = 2  # of `quantize` over the images
Image = npt.NDArray[np.uint8]
Images = Callable[[], Iterable[Image]]


def steps_ahead(images: int, settings: DistillSettings | None = None) -> int:
    """How often `distill` calls `on_step` at most, for a progress bar.

    Args:
        images: how many there are.
    """
    return _PASSES * images + (settings or DistillSettings()).steps


def distill(
    graph: Graph,
    images: Images,
    on_step: Callable[[], None] | None = None,
    watchers: Sequence[Watcher] = (),
    settings: DistillSettings | None = None,
) -> Quantized:
    """The default quantizer's result, improved by learning; never one that is worse.

    Learning gives the same plan for the same start, images in any order, settings and kind of
    processor, however many threads there are.

    Args:
        graph: after the standard passes.
        images: gives the images from the first on, each time it is called: uint8 RGB
            `[H, W, 3]`, as the contract makes them. They are read twice, one at a time;
            at most `settings.most_images` are kept.
        on_step: called after each image of each pass and each step of learning; see
            `steps_ahead`.
        watchers: are given the tensors of the first pass that they name.

    Raises:
        CalibrationError: there are fewer than 20 different images, or see `calibrate`.
        QuantizationError: the network has no int8 form.
        MissingExtraError: torch is not installed.
        ValueError: settings that leave nothing to learn from.
    """
    _need_torch()
    settings = settings or DistillSettings()
    _check(settings)
    sample = ImageSample(settings.most_images)
    start = quantize(graph, _sampled(images, sample), on_step, watchers)
    kept = sample.images()
    check(len(kept))
    if not any(isinstance(node, Conv | Dense) for node in quantized_nodes(graph)):
        return _noted(start, {"used": False, "reason": "no layer has weights"})
    return _learned(graph, start, kept, settings, on_step)


def check(images: int) -> None:
    """What can be known before any work; see `distill` for what is raised.

    Args:
        images: how many different ones there are.
    """
    _need_torch()
    if images < FEWEST_IMAGES:
        raise CalibrationError(
            f"There are {images} different calibration images.",
            f"distillation holds some out and learns from the others: {FEWEST_IMAGES} at least",
            "give more photographs with --calibration, 100 or more, or use the default quantizer",
        )


def _need_torch() -> None:
    if importlib.util.find_spec("torch") is None:
        raise MissingExtraError("torch", "torch", "The quantizer 'distill'")


def _check(settings: DistillSettings) -> None:
    if settings.steps < 1 or settings.batch < 1 or settings.views < 1:
        raise ValueError("steps, batch and views are at least 1")
    if not 0.0 < settings.held_out < 1.0:
        raise ValueError("held_out lies between 0 and 1")


def _sampled(images: Images, sample: ImageSample) -> Images:
    """The same images, of which a few are kept on the way."""

    def stream() -> Iterator[Image]:
        for image in images():
            sample.update(image)
            yield image

    return stream


def split(images: Sequence[Image], share: float) -> tuple[list[Image], list[Image]]:
    """Those to learn from and those held out, at least four, spread evenly."""
    count = min(max(_FEWEST_HELD_OUT, round(share * len(images))), len(images) - 1)
    chosen = {round((k + 0.5) * len(images) / count - 0.5) for k in range(count)}
    learned = [image for index, image in enumerate(images) if index not in chosen]
    return learned, [images[index] for index in sorted(chosen)]


def _learned(
    graph: Graph,
    start: Quantized,
    images: Sequence[Image],
    settings: DistillSettings,
    on_step: Callable[[], None] | None,
) -> Quantized:
    from exporter.convert.quantize.distill import lessons as lesson_plans
    from exporter.convert.quantize.distill.network import LearnedNetwork
    from exporter.convert.quantize.distill.parallel import Workers
    from exporter.convert.quantize.distill.training import learn

    to_learn, held_out = split(images, settings.held_out)
    network = LearnedNetwork(start.graph, start.plan)
    course = lesson_plans.choose_course(start.graph, network.nodes, settings.learned_share)
    teacher = lesson_plans.Teacher(graph, start.scales, network, course)
    with Workers() as workers:
        views = lesson_plans.plan_views(to_learn, settings.views, settings.seed)
        given = lesson_plans.make_lessons(teacher, views, workers)
        tests = lesson_plans.make_lessons(
            teacher, lesson_plans.plan_views(held_out, 1, settings.seed), workers
        )
        how = learn(network, course, given, tests, settings, workers, on_step)
    record: dict[str, Any] = {
        "settings": asdict(settings),
        "images": len(to_learn),
        "held_out_images": len(held_out),
        "learning_begins_after": list(course.given),
        "best_step": how.best_step,
    }
    return _better(graph, start, network, held_out, record)


def _better(
    graph: Graph,
    start: Quantized,
    network: Any,
    held_out: Sequence[Image],
    record: Mapping[str, Any],
) -> Quantized:
    """What was learned, or the start where that is as good on the held-out images."""
    from exporter.convert.quantize.distill.harvest import harvest

    plans = {"start": start.plan}
    reason = "no better on the held-out images"
    try:
        plans["learned"] = harvest(network, start.plan)
    except QuantizationError as error:
        reason = error.what
    ratios = {
        name: _logit_ratio(graph, start.graph, plan, held_out) for name, plan in plans.items()
    }
    name = max(ratios, key=lambda each: ratios[each])  # of equal ones the start
    notes = {
        "used": name == "learned",
        **record,
        "held_out_logit_sqnr_db": {which: round(ratio, 2) for which, ratio in ratios.items()},
    }
    if name == "start":
        return _noted(start, {**notes, "reason": reason})
    return _noted(replace(start, plan=plans[name]), notes)


def _logit_ratio(
    graph: Graph, own: Graph, plan: QuantizationPlan, images: Sequence[Image]
) -> float:
    """The simulated logits' signal-to-noise ratio over all the images, dB."""
    exact, rough = Evaluator(graph, [graph.logits]), Simulator(own, plan, [own.logits])
    power = noise = _QUIETEST
    for image in images:
        wanted = exact.run(image)[graph.logits].astype(np.float64)
        power += float((wanted**2).sum())
        noise += float(((rough.run(image)[own.logits] - wanted) ** 2).sum())
    return float(10 * np.log10(power / noise))


def _noted(quantized: Quantized, notes: Mapping[str, Any]) -> Quantized:
    plan = quantized.plan
    return replace(
        quantized, plan=replace(plan, record={**plan.record, "distillation": dict(notes)})
    )
