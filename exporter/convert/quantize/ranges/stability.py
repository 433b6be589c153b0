"""Is the calibration set large enough? Two networks calibrated on disjoint parts, compared.

Some images are held out, the others divided into two halves. Each half gives ranges of
its own, and both int8 networks are simulated on the images held out. Where one is worse
than the other by more than those few images explain, the ranges hang on which images they
were measured on, and more are needed; where both are as good as the float network there is
nothing to mend. The ranges are `mean_min_max`'s and the weights are
rounded to the nearest, whatever the quantizer does later: that part of its work is the
one that a handful of images spoils. Each half holds 3/8 to 1/2 of the images, so what is
said of it is the worst to be feared of the whole set.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from exporter.convert.evaluate import Evaluator
from exporter.convert.graph import Conv, Dense, Graph
from exporter.convert.quantize.answers import gives_several, same_answers
from exporter.convert.quantize.calibrate import quantize_constants
from exporter.convert.quantize.errors import QuantizationError
from exporter.convert.quantize.groups import find_groups, quantized_nodes
from exporter.convert.quantize.plan import Affine, QuantizationPlan
from exporter.convert.quantize.ranges.rules import Range, affine, within
from exporter.convert.quantize.rounding.weights import quantize_weights
from exporter.convert.quantize.select import SAME_DB
from exporter.convert.quantize.simulate import Simulator

COMPARED_BY = "mean_min_max"  # the rule of the halves' ranges
FEWEST = 16  # images; below it four to judge by and six a half cannot be had
MOST_JUDGED = 16  # a quarter of the images is held out, no more than these
TOLERATED_DB = 1.5  # MobileNetV2 on photographs: halves of 9 and more differ by less
RESAMPLED = 2000  # of the bootstrap
_SMALLEST = 1e-30

Image = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.float64]


class ImageExtremes:
    """Watches the smallest and largest value of every range, image by image.

    It keeps 8 bytes a range and image: half a megabyte for 1000 images of MobileNetV2.

    Attributes:
        names: the tensors to give to `update`.
    """

    def __init__(self, graph: Graph) -> None:
        self._groups = [group for group in find_groups(graph) if group.fixed is None]
        self.names = tuple(dict.fromkeys(n for group in self._groups for n in group.watched))
        self._rows: list[npt.NDArray[np.float32]] = []

    def update(self, values: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """Take one image's tensors by name, float32 of any shape."""
        bounds = {name: (values[name].min(), values[name].max()) for name in self.names}
        row = [
            (min(bounds[n][0] for n in group.watched), max(bounds[n][1] for n in group.watched))
            for group in self._groups
        ]
        self._rows.append(np.array(row, np.float32).reshape(-1, 2))

    def __len__(self) -> int:
        return len(self._rows)

    def ranges(self, chosen: Sequence[int]) -> dict[str, Affine]:
        """The scale of every tensor over some of the images, by `mean_min_max`.

        Args:
            chosen: places of the images in the order of `update`.
        """
        rows = np.stack([self._rows[place] for place in chosen]).astype(np.float64)
        found: dict[str, Affine] = {}
        for group, seen in zip(self._groups, rows.swapaxes(0, 1), strict=True):
            low, high = seen.mean(axis=0)
            if group.logits:  # they are never clipped
                low, high = seen[:, 0].min(), seen[:, 1].max()
            wanted = within(Range(min(float(low), 0.0), max(float(high), 0.0)), group.useful)
            scale = affine(wanted)
            found.update(dict.fromkeys(group.tensors, scale))
        return found


@dataclass(frozen=True)
class Score:
    """How near one int8 network's logits are to the float ones.

    Attributes:
        images: how many its ranges come from.
        sqnr_db: `10 log10(sum y^2 / sum (y' - y)^2)`.
        logit_error: mean of `|y' - y|`.
        agreement: share of the images with the same answer, 0..1, see `answers`.
    """

    images: int
    sqnr_db: float
    logit_error: float
    agreement: float


@dataclass(frozen=True)
class Difference:
    """First half minus second half, with the 95 % interval of a paired bootstrap."""

    value: float
    low: float
    high: float

    @property
    def beyond_noise(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low > 0.0 or self.high < 0.0


@dataclass(frozen=True)
class Stability:
    """What two halves of a calibration set say of it.

    Attributes:
        images: in the set.
        judged: held out, and used to compare the halves.
        stable: None where there were too few images to tell.
        verdict: for a person.
        halves: None where `stable` is None, and so are the differences.
    """

    images: int
    judged: int
    stable: bool | None
    verdict: str
    halves: tuple[Score, Score] | None = None
    sqnr_db: Difference | None = None
    logit_error: Difference | None = None
    agreement: Difference | None = None

    @property
    def warning(self) -> str | None:
        """The verdict, where a person should act on it."""
        return self.verdict if self.stable is False else None

    def record(self) -> dict[str, Any]:
        """As JSON, six digits each, for the manifest."""
        return dict(_plain(asdict(self)))


def observed(graph: Graph, images: Iterable[Image]) -> ImageExtremes:
    """The extremes of a graph over images, uint8 `[H, W, 3]`, in a pass of their own.

    A calibration that runs anyway watches them on the way: give it an `ImageExtremes`.
    """
    extremes = ImageExtremes(graph)
    evaluator = Evaluator(graph, extremes.names)
    for image in images:
        extremes.update(evaluator.run(image))
    return extremes


def stability(
    graph: Graph,
    extremes: ImageExtremes,
    images: Callable[[], Iterable[Image]],
    rule: str = COMPARED_BY,
) -> Stability:
    """Compare what two halves of the calibration images make of a graph.

    Which image goes where is decided by its pixels alone, not by its name or place. Costs
    three networks on at most `MOST_JUDGED` images, and two passes over the pixels.

    Args:
        graph: whose tensors `extremes` has watched.
        images: gives the same images in the same order as then, uint8 `[H, W, 3]`.
        rule: of the ranges of the network that is written. The halves' are those of
            `mean_min_max`; where that rule was not chosen because it suits the network badly,
            a gap in SQNR says little about the file, and only one in agreement counts.

    Where there are fewer than `FEWEST` images, or a half's ranges suit no int8 kernel, nothing
    is compared, and the verdict says so.

    Raises:
        ValueError: there are not as many images as were watched.
    """
    judges, first, second = _divide([_key(image) for image in images()], len(extremes))
    if not judges:
        return _unchecked(extremes, f"fewer than {FEWEST} images cannot be divided and compared")
    try:
        plans = [_plan(graph, extremes.ranges(half)) for half in (first, second)]
    except QuantizationError as error:
        return _unchecked(extremes, f"{error.what} {error.why}")
    wanted = frozenset(judges)
    held = [image for place, image in enumerate(images()) if place in wanted]
    reference = _logits(Evaluator(graph, [graph.logits]), graph, held)
    errors = []
    for plan in plans:
        errors.append(_logits(Simulator(graph, plan, [graph.logits]), graph, held) - reference)
    by_sqnr = rule == COMPARED_BY
    several = gives_several(graph)
    return _compare(len(extremes), len(first), reference, errors[0], errors[1], by_sqnr, several)


def _unchecked(extremes: ImageExtremes, why: str) -> Stability:
    return Stability(len(extremes), 0, None, f"not checked: {why}")


def _key(image: Image) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()


def _divide(keys: Sequence[bytes], watched: int) -> tuple[list[int], list[int], list[int]]:
    """Places of the images held out and of two halves of one size; all empty if too few."""
    if len(keys) != watched:
        raise ValueError(f"{watched} images were watched, {len(keys)} are there now")
    if watched < FEWEST:
        return [], [], []
    order = sorted(range(watched), key=lambda place: keys[place])
    held = min(watched // 4, MOST_JUDGED)
    size = (watched - held) // 2
    return order[:held], order[held::2][:size], order[held + 1 :: 2][:size]


def _plan(graph: Graph, scales: Mapping[str, Affine]) -> QuantizationPlan:
    """Ranges as given or as they have to be, weights rounded to the nearest."""
    given = {name: g.fixed for g in find_groups(graph) if g.fixed is not None for name in g.tensors}
    activations = {**scales, **given}
    weights = {
        node.name: quantize_weights(
            node.weight,
            node.bias,
            activations[node.inputs[0]],
            activations[node.output],
            node.name,
        )[0]
        for node in quantized_nodes(graph)
        if isinstance(node, Conv | Dense)
    }
    return QuantizationPlan(activations, weights, quantize_constants(graph))


def _logits(runner: Evaluator | Simulator, graph: Graph, images: Sequence[Image]) -> Numbers:
    """`[images, classes]`."""
    rows = [runner.run(image)[graph.logits].reshape(-1) for image in images]
    return np.stack(rows).astype(np.float64)


def _compare(
    images: int,
    half: int,
    reference: Numbers,
    first: Numbers,
    second: Numbers,
    by_sqnr: bool,
    several: bool = False,
) -> Stability:
    """The verdict over float logits and the errors of two networks, each `[judged, classes]`."""
    judged = len(reference)
    per_image = [
        np.stack(
            [
                (error**2).sum(axis=1),
                np.abs(error).mean(axis=1),
                same_answers(reference, reference + error, several),
            ]
        )
        for error in (first, second)
    ]
    power = (reference**2).sum(axis=1)
    every = np.arange(judged)[None]
    drawn = np.random.default_rng(0).integers(0, judged, (RESAMPLED, judged))
    point = [_scores(power, values, every) for values in per_image]
    spread = [_scores(power, values, drawn) for values in per_image]
    low, high = np.percentile(spread[0] - spread[1], [2.5, 97.5], axis=1)
    gaps = point[0][:, 0] - point[1][:, 0]
    sqnr_db, logit_error, agreement = (
        Difference(float(gaps[k]), float(low[k]), float(high[k])) for k in range(3)
    )
    worse = min(scores[0, 0] for scores in point)
    far = sqnr_db.beyond_noise and abs(sqnr_db.value) > TOLERATED_DB
    apart = by_sqnr and worse < SAME_DB and far
    stable = not apart and not agreement.beyond_noise
    halves = tuple(Score(half, *map(float, scores[:, 0])) for scores in point)
    return Stability(
        images,
        judged,
        stable,
        _verdict(stable, images, half, judged, sqnr_db, agreement),
        (halves[0], halves[1]),
        sqnr_db,
        logit_error,
        agreement,
    )


def _scores(power: Numbers, values: Numbers, drawn: npt.NDArray[np.int64]) -> Numbers:
    """SQNR in dB, mean abs error and agreement of each draw `[n, judged]`: `[3, n]`."""
    noise, error, same = values
    ratio = np.maximum(power[drawn].sum(axis=1), _SMALLEST) / np.maximum(
        noise[drawn].sum(axis=1), _SMALLEST
    )
    return np.stack([10 * np.log10(ratio), error[drawn].mean(axis=1), same[drawn].mean(axis=1)])


def _verdict(
    stable: bool, images: int, half: int, judged: int, sqnr_db: Difference, agreement: Difference
) -> str:
    gap = (
        f"two networks calibrated on {half} of the {images} images each differ by "
        f"{abs(sqnr_db.value):.1f} dB of logit SQNR and {abs(100 * agreement.value):.0f} points "
        f"of agreement on {judged} others"
    )
    if stable:
        return f"large enough: {gap}"
    return (
        f"the calibration set is too small or too uneven: {gap}; "
        "add photographs of all that the app will see"
    )


def _plain(value: Any) -> Any:
    """Floats with six digits, tuples as lists."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
