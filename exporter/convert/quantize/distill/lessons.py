"""What is learned from: views of the images, what the float network says to them, and what
the part of the int8 network that stays as it is makes of them.

    pixels -> nodes that stay -> [given] -> nodes that learn -> features -> ... -> logits

All of it is computed once. Everything behind is cheap, since most numbers of a network lie
in its first layers, and most of what is lost in its last (docs/distillation.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from exporter.convert.graph import Conv, Graph, Node
from exporter.convert.quantize.distill.network import FloatNetwork, LearnedNetwork, needed
from exporter.convert.quantize.distill.parallel import Workers
from exporter.convert.quantize.distill.views import make_view

MICRO_BATCH = 4  # pictures at a time: their tensors stay in the processor's caches
Image = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Course:
    """Which part of a graph learns.

    Attributes:
        nodes: those that learn, in order.
        given: the tensors that they read, made by the others.
        features: the last convolution's result where it is not the logits.
        logits: the logits.
    """

    nodes: tuple[Node, ...]
    given: tuple[str, ...]
    features: str | None
    logits: str

    @property
    def watched(self) -> tuple[str, ...]:
        """The tensors that are compared with the float network's."""
        return (self.logits,) if self.features is None else (self.logits, self.features)


def choose_course(graph: Graph, nodes: Sequence[Node], share: float) -> Course:
    """Let the last nodes learn that make at most `share` of all numbers.

    Where it can be had a little later, one tensor is all that they read; with a share of 1
    or more it is the pixels.

    Args:
        nodes: those that run in int8, in order; the last makes the logits.
    """
    sizes = [math.prod(graph.shapes[node.output]) for node in nodes]
    wanted = 0 if share >= 1 else _first_behind(sizes, share * sum(sizes))
    firsts = [k for k in range(wanted, len(nodes)) if len(_read_before(graph, nodes, k)) == 1]
    first = firsts[0] if firsts else wanted
    given = _read_before(graph, nodes, first)
    learned = needed(nodes, set(given), [graph.logits])
    convolved = [n.output for n in learned if isinstance(n, Conv) and n.output != graph.logits]
    return Course(learned, given, convolved[-1] if convolved else None, graph.logits)


def _first_behind(sizes: Sequence[int], limit: float) -> int:
    left = sum(sizes)
    for index, size in enumerate(sizes):
        if left <= limit:
            return index
        left -= size
    return len(sizes) - 1


def _read_before(graph: Graph, nodes: Sequence[Node], first: int) -> tuple[str, ...]:
    """The tensors that `nodes[first:]` read and do not make."""
    made = {node.output for node in nodes[first:]}
    read = dict.fromkeys(name for node in nodes[first:] for name in node.inputs)
    return tuple(n for n in read if n not in made and n not in graph.constants)


@dataclass(frozen=True, eq=False)
class Lesson:
    """A few views: what the learning part is given, and what it should make of it.

    Attributes:
        given: int8 `[n, ...]` by name; `LearnedNetwork.from_steps` makes the tensors of it.
        logits: float32 `[n, classes]`.
        features: float16 `[n, ...]`, or None.
    """

    given: dict[str, Tensor]
    logits: Tensor
    features: Tensor | None


class Teacher:
    """Makes lessons.

    Args:
        graph: the float graph.
        scales: by what the learning network's tensors are larger, float64 `[C]` by name.
        learner: the network that learns, as it starts.
    """

    def __init__(
        self,
        graph: Graph,
        scales: Mapping[str, npt.NDArray[np.float64]],
        learner: LearnedNetwork,
        course: Course,
    ) -> None:
        self._float, self._learner, self._course = FloatNetwork(graph), learner, course
        scale = scales.get(course.features or "")
        self._scale = None if scale is None else torch.from_numpy(scale.astype(np.float32))

    @torch.no_grad()
    def lesson(self, pictures: Sequence[Image]) -> Lesson:
        """One lesson of a few pictures, uint8 `[H, W, 3]`."""
        pixels = torch.from_numpy(np.stack(pictures))
        told = self._float.run(pixels, self._course.watched)
        given = self._learner(pixels, self._course.given)
        features = None
        if self._course.features is not None:
            features = told[self._course.features]
            if self._scale is not None:
                features = features * self._scale.reshape(-1, *(1,) * (features.dim() - 2))
            features = _stored(features.half())
        kept = {
            name: _stored(self._learner.to_steps(name, values)) for name, values in given.items()
        }
        return Lesson(kept, told[self._course.logits], features)


def make_lessons(
    teacher: Teacher,
    views: Sequence[Callable[[], Image]],
    workers: Workers,
) -> list[Lesson]:
    """Lessons of single views, in order."""
    tasks = [views[start : start + MICRO_BATCH] for start in range(0, len(views), MICRO_BATCH)]
    parts = workers.map(lambda task: teacher.lesson([make() for make in task]), tasks)
    return [each for part in parts for each in _split(part)]


def plan_views(images: Sequence[Image], views: int, seed: int) -> list[Callable[[], Image]]:
    """All views of all images, the images themselves first; each is made when it is called."""

    def planned(index: int, view: int) -> Callable[[], Image]:
        if view == 0:
            return lambda: images[index]
        return lambda: make_view(images, index, np.random.default_rng((seed, view, index)))

    return [planned(index, view) for view in range(views) for index in range(len(images))]


def join(lessons: Sequence[Lesson]) -> Lesson:
    """Several lessons as one."""
    first = lessons[0]
    given = {name: torch.cat([each.given[name] for each in lessons]) for name in first.given}
    features = [each.features for each in lessons if each.features is not None]
    return Lesson(
        given,
        torch.cat([each.logits for each in lessons]),
        torch.cat(features) if features else None,
    )


def _split(lesson: Lesson) -> list[Lesson]:
    return [
        Lesson(
            {name: values[k : k + 1] for name, values in lesson.given.items()},
            lesson.logits[k : k + 1],
            None if lesson.features is None else lesson.features[k : k + 1],
        )
        for k in range(len(lesson.logits))
    ]


def _stored(values: Tensor) -> Tensor:
    if values.dim() == 4:
        return values.contiguous(memory_format=torch.channels_last)
    return values.contiguous()
