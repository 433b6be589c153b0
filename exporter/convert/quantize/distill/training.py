"""Learn: gradients of the error against the float network, summed in a fixed order; Adam."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from exporter.convert.quantize.distill.lessons import MICRO_BATCH, Course, Lesson, join
from exporter.convert.quantize.distill.network import LearnedNetwork
from exporter.convert.quantize.distill.parallel import Workers
from exporter.convert.quantize.distill.settings import DistillSettings

_WARM_UP = 5  # steps until the learning rates are reached
_BETAS = (0.9, 0.99)
_EPSILON = 1e-12  # below any gradient: rates are steps, whatever the loss's unit
_QUIETEST = 1e-30


@dataclass(frozen=True)
class Learned:
    """How learning went.

    Attributes:
        best_step: after which the network was best on the held-out lessons; 0 is the start.
        start_db: the logits' signal-to-noise ratio there before the first step.
        best_db: and after the best.
    """

    best_step: int
    start_db: float
    best_db: float


def learn(
    network: LearnedNetwork,
    course: Course,
    lessons: Sequence[Lesson],
    held_out: Sequence[Lesson],
    settings: DistillSettings,
    workers: Workers,
    on_step: Callable[[], None] | None = None,
) -> Learned:
    """Change the network in place; it ends as it was after its best step.

    Args:
        lessons: single views to learn from.
        held_out: single pictures that say which step was best.
        on_step: called after each step.
    """
    groups = parameters(network, course, settings)
    values = [value for group in groups for value in group["params"]]
    optimizer = torch.optim.Adam(groups, betas=_BETAS, eps=_EPSILON)
    start = found = logit_ratio(network, course, held_out, workers)
    best, best_step = [value.detach().clone() for value in values], 0
    batches = _batches(len(lessons), settings)
    every = max(1, settings.steps // max(1, settings.checks))
    for step in range(1, settings.steps + 1):
        chosen = [lessons[index] for index in next(batches)]
        sums = _gradients(network, course, chosen, values, settings.feature_weight, workers)
        for value, gradient in zip(values, sums, strict=True):
            value.grad = gradient
        for group in optimizer.param_groups:
            group["lr"] = group["rate"] * _schedule(step, settings.steps)
        optimizer.step()
        if step % every == 0 or step == settings.steps:
            ratio = logit_ratio(network, course, held_out, workers)
            if ratio > found:
                found, best_step = ratio, step
                best = [value.detach().clone() for value in values]
        if on_step is not None:
            on_step()
    with torch.no_grad():
        for value, kept in zip(values, best, strict=True):
            value.copy_(kept)
    return Learned(best_step, start, found)


def parameters(
    network: LearnedNetwork, course: Course, settings: DistillSettings
) -> list[dict[str, Any]]:
    """What learns, with its rates: groups for an optimizer, `rate` beside `lr`.

    A scale that a tensor before the learning part shares stays as it is.
    """
    learned = {node.output for node in course.nodes}
    layers = [network.layers[n.name] for n in course.nodes if n.name in network.layers]
    roundings = [
        rounding
        for group, rounding in zip(network.groups, network.roundings, strict=True)
        if learned.issuperset(group.tensors)
    ]
    wanted: list[tuple[float, list[Tensor]]] = [
        (settings.weight_rate, [layer.steps for layer in layers]),
        (settings.gain_rate, [layer.gain for layer in layers]),
        (settings.shift_rate, [layer.shift for layer in layers]),
        (settings.scale_rate, [each.growth for each in roundings]),
        (settings.zero_point_rate, [each.moved for each in roundings]),
    ]
    groups: list[dict[str, Any]] = []
    for rate, values in wanted:
        values = [value for value in values if value.requires_grad]
        if rate > 0 and values:
            groups.append({"params": values, "lr": rate, "rate": rate})
    return groups


def logit_ratio(
    network: LearnedNetwork, course: Course, lessons: Sequence[Lesson], workers: Workers
) -> float:
    """The logits' signal-to-noise ratio over some lessons, dB."""

    def sums(part: Sequence[Lesson]) -> tuple[float, float]:
        lesson = join(part)
        with torch.no_grad():
            made = network.resume(_given(network, lesson), (course.logits,))[course.logits]
        error = (made - lesson.logits).double()
        return float((lesson.logits.double() ** 2).sum()), float((error**2).sum())

    pairs = workers.map(sums, _parts(lessons))
    power, noise = (max(sum(each), _QUIETEST) for each in zip(*pairs, strict=True))
    return 10 * math.log10(power / noise)


def _gradients(
    network: LearnedNetwork,
    course: Course,
    lessons: Sequence[Lesson],
    values: Sequence[Tensor],
    feature_weight: float,
    workers: Workers,
) -> list[Tensor]:
    """Of the mean loss of a batch, by each of `values`."""

    def work(part: Sequence[Lesson]) -> tuple[Tensor, ...]:
        lesson = join(part)
        made = network.resume(_given(network, lesson), course.watched)
        loss = _relative_error(made[course.logits], lesson.logits)
        if course.features is not None and feature_weight > 0:
            assert lesson.features is not None
            error = _relative_error(made[course.features], lesson.features.float())
            loss = loss + feature_weight * error
        share = len(part) / len(lessons)
        return torch.autograd.grad(loss * share, values, allow_unused=True, materialize_grads=True)

    found = workers.map(work, _parts(lessons))
    sums = [gradient.clone() for gradient in found[0]]
    for part in found[1:]:
        for total, gradient in zip(sums, part, strict=True):
            total += gradient
    return sums


def _given(network: LearnedNetwork, lesson: Lesson) -> dict[str, Tensor]:
    return {name: network.from_steps(name, steps) for name, steps in lesson.given.items()}


def _relative_error(made: Tensor, wanted: Tensor) -> Tensor:
    return ((made - wanted) ** 2).sum() / (wanted**2).sum().clamp_min(_QUIETEST)


def _parts(lessons: Sequence[Lesson]) -> list[Sequence[Lesson]]:
    return [lessons[k : k + MICRO_BATCH] for k in range(0, len(lessons), MICRO_BATCH)]


def _batches(count: int, settings: DistillSettings) -> Iterator[list[int]]:
    """Indices of lessons, shuffled anew after each round."""
    random = np.random.default_rng(settings.seed)
    waiting: list[int] = []
    while True:
        while len(waiting) < settings.batch:
            waiting += [int(index) for index in random.permutation(count)]
        yield waiting[: settings.batch]
        waiting = waiting[settings.batch :]


def _schedule(step: int, steps: int) -> float:
    """Up in a few steps, then down along half a cosine."""
    cosine = 0.5 * (1 + math.cos(math.pi * (step - 1) / steps))
    return min(1.0, step / _WARM_UP) * cosine
