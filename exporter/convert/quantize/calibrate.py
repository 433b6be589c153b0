"""Calibration: run the float graph over images, choose ranges, quantize the weights.

Measured on MobileNetV2 1.0/224 (100 photographs to calibrate, 400 others to evaluate,
the int8 file run in LiteRT; docs/quantization.md has the table): least squared error
16.7 dB of logit SQNR, mean of per-image minimum and maximum 19.8, that with corrected
biases 22.1. A small random network prefers least squared error by 2 dB, hence 'auto'.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NoReturn, Protocol

import numpy as np
import numpy.typing as npt

from exporter.convert.evaluate import Evaluator
from exporter.convert.graph import Add, Conv, Dense, Graph, Mul, Sub
from exporter.convert.quantize.errors import CalibrationError, QuantizationError
from exporter.convert.quantize.groups import Group, find_groups, quantized_nodes
from exporter.convert.quantize.plan import Affine, QuantizationPlan, QuantizedWeights
from exporter.convert.quantize.ranges.gradients import LogitGradients
from exporter.convert.quantize.ranges.observe import ImageSample, Observation, Observer
from exporter.convert.quantize.ranges.per_tensor import Choice, choose
from exporter.convert.quantize.ranges.rules import (
    RULES,
    Range,
    Rule,
    affine,
    choose_range,
    saturated_share,
    within,
)
from exporter.convert.quantize.rounding.bias_correction import (
    FEWEST_IMAGES,
    correct_biases,
    image_limit,
)
from exporter.convert.quantize.rounding.weights import quantize_weights
from exporter.convert.quantize.select import FloatLogits, best_of

AUTO: Literal["auto"] = "auto"
COMPARED: tuple[Rule, ...] = ("mean_min_max", "least_squared_error")  # min-max never wins
FALLBACK_RULE: Rule = "mean_min_max"  # where there are too few images to compare rules on
WEIGHTED: Rule = "weighted_squared_error"  # the only rule that needs the logits' derivatives
FEW_IMAGES = 50  # below it the record carries a warning

Image = npt.NDArray[np.uint8]
Constants = dict[str, tuple[npt.NDArray[np.int8], Affine]]


def calibrate(
    graph: Graph,
    images: Iterable[Image],
    on_image: Callable[[], None] | None = None,
    rule: Rule | Literal["auto"] = AUTO,
    correct_bias: bool = True,
) -> QuantizationPlan:
    """Decide everything about the int8 file of a graph.

    The images are read one at a time; at most 32 are kept, for the biases. The logits,
    and with them anything that shares their scale, are never clipped, whatever the rule.

    Args:
        graph: after the standard passes.
        images: uint8 RGB `[H, W, 3]`, as the contract makes them.
        on_image: called after each image, for a progress bar.
        rule: how the range of an activation is chosen (see `ranges`), or 'auto': the
            one of `COMPARED` whose simulated logits come nearest to the float graph's
            on 16 of the images; 'mean_min_max' where there are fewer than 8.
        correct_bias: whether to take each channel's typical error out of its bias; see
            `bias_correction`. Left out on fewer than 8 images.

    Raises:
        CalibrationError: there is no image, one is not as the graph takes it, or a
            tensor is not finite.
        QuantizationError: the network has no int8 form.
    """
    measured = measure(graph, images, on_image, derivatives=rule == WEIGHTED)
    plan = with_ranges(graph, measured, rule)
    if correct_bias and measured.enough:
        plan = with_corrected_biases(graph, plan, measured)
    return plan


class Watcher(Protocol):
    """Something else that looks at tensors while the ranges are measured."""

    names: tuple[str, ...]

    def update(self, values: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """Take one image's tensors by name, float32 with a batch of 1."""


@dataclass(frozen=True, eq=False)
class Measured:
    """What one pass over the images told of a graph.

    Attributes:
        groups: tensors that share a scale.
        seen: what each group held; None where its scale is given.
        count: how many images there were.
        kept: up to 32 of them, none twice.
    """

    groups: tuple[Group, ...]
    seen: tuple[Observation | None, ...]
    count: int
    kept: tuple[Image, ...]

    @property
    def enough(self) -> bool:
        """Whether plans can be compared, and biases corrected, on the kept images."""
        return len(self.kept) >= FEWEST_IMAGES


def with_ranges(
    graph: Graph,
    measured: Measured,
    rule: Rule | Literal["auto"] = AUTO,
    reference: FloatLogits | None = None,
) -> QuantizationPlan:
    """Ranges by a rule, or by the best of `COMPARED`; weights rounded to the nearest.

    Args:
        reference: of this graph and the kept images, where somebody has it already.

    Raises:
        ValueError: the rule is unknown.
        QuantizationError: the network has no int8 form.
    """
    if rule != AUTO and rule not in RULES:
        raise ValueError(f"unknown range rule {rule!r}; there are: {AUTO}, {', '.join(RULES)}")
    groups, seen = measured.groups, measured.seen
    if rule != AUTO:
        plan = _with_ranges(graph, groups, seen, rule)
    elif not measured.enough:
        plan = _with_ranges(graph, groups, seen, FALLBACK_RULE)
    else:
        reference = reference or FloatLogits(graph, measured.kept)
        plan = _with_best_ranges(graph, groups, seen, reference)
    record = dict(plan.record)
    record["images"] = measured.count
    record["warnings"] = _warnings(measured, record["activations"]["tensors"])
    record["bias_correction"] = None
    return replace(plan, record=record)


def with_ranges_per_tensor(
    graph: Graph, measured: Measured, plan: QuantizationPlan
) -> QuantizationPlan:
    """The plan of `with_ranges` with other ranges for late tensors, where `choose` finds any."""
    groups, seen, rule = measured.groups, measured.seen, plan.record["rule"]
    choices = choose(graph, groups, seen, rule, measured.kept)
    if not choices:
        return plan
    other = _with_ranges(graph, groups, seen, rule, choices)
    parts = {name: other.record[name] for name in ("weights", "activations")}
    return replace(other, record={**plan.record, **parts})


def with_corrected_biases(
    graph: Graph, plan: QuantizationPlan, measured: Measured
) -> QuantizationPlan:
    """The plan after `correct_biases` on the kept images, and a record of it."""
    corrected = correct_biases(graph, plan, measured.kept)
    how = {"rule": "median over images", "images": len(measured.kept)}
    return replace(corrected, record={**plan.record, "bias_correction": how})


def _with_best_ranges(
    graph: Graph,
    groups: tuple[Group, ...],
    seen: Sequence[Observation | None],
    reference: FloatLogits,
) -> QuantizationPlan:
    """The plan of the rule that keeps the logits best; one rule does not suit all networks."""
    plans: dict[str, QuantizationPlan] = {}
    refused = []
    for name in COMPARED:
        try:
            plans[name] = _with_ranges(graph, groups, seen, name)
        except QuantizationError as error:  # narrower ranges than another rule's, mostly
            refused.append(error)
    if not plans:
        raise refused[0]
    pairs = {name: (graph, plan) for name, plan in plans.items()}
    best, ratios = best_of(reference, pairs)
    tried = {name: _rounded(ratio)[0] for name, ratio in ratios.items()}
    return replace(plans[best], record={**plans[best].record, "tried_logit_sqnr_db": tried})


def _with_ranges(
    graph: Graph,
    groups: tuple[Group, ...],
    seen: Sequence[Observation | None],
    rule: Rule,
    choices: Mapping[str, Choice] | None = None,
) -> QuantizationPlan:
    """Ranges by one rule but for `choices`, and the weights and biases that follow."""
    activations: dict[str, Affine] = {}
    tensors: dict[str, Any] = {}
    for group, observation in zip(groups, seen, strict=True):
        choice = (choices or {}).get(group.tensors[0])
        chosen, notes = _decide(group, observation, rule, choice)
        activations.update(dict.fromkeys(group.tensors, chosen))
        tensors[group.tensors[0]] = notes
        if len(group.tensors) > 1:
            notes["shared_with"] = list(group.tensors[1:])
    weights, weight_notes = _weights(graph, activations)
    record: dict[str, Any] = {
        "rule": rule,
        "weights": {"scheme": "int8, symmetric, per output channel", **weight_notes},
        "activations": {"scheme": "int8, asymmetric, per tensor", "tensors": tensors},
    }
    ordered = {name: activations[name] for name in graph.tensors() if name in activations}
    return QuantizationPlan(ordered, weights, quantize_constants(graph), record)


def measure(
    graph: Graph,
    images: Iterable[Image],
    on_image: Callable[[], None] | None = None,
    watchers: Sequence[Watcher] = (),
    derivatives: bool = False,
) -> Measured:
    """Run the float graph over the images once; its memory does not grow with their number.

    Args:
        watchers: are given the tensors that they name, image by image.
        derivatives: whether to back-propagate as well, for `weighted_squared_error`: on
            MobileNetV2 about four times as long.

    Raises:
        CalibrationError: there is no image, one is not as the graph takes it, or a
            tensor is not finite.
        QuantizationError: the network has no int8 form.
    """
    groups = find_groups(graph)
    observers = [None if group.fixed else Observer() for group in groups]
    watched = [name for group in groups if not group.fixed for name in group.watched]
    named = [name for watcher in watchers for name in watcher.names]
    evaluator = Evaluator(graph, list(dict.fromkeys([*watched, *named])))
    gradients = LogitGradients(graph, watched) if derivatives else None
    kept = ImageSample(image_limit(graph))
    count = 0
    for image in images:
        _check_image(graph, image, count)
        kept.update(image)
        values = evaluator.run(image)
        moved = gradients.run(image) if gradients else {}
        for group, observer in zip(groups, observers, strict=True):
            if observer is None:
                continue
            each = [moved[name] for name in group.watched] if gradients else []
            if not observer.update(*(values[name] for name in group.watched), each=each):
                _raise_not_finite(graph, values, count)
        for watcher in watchers:
            watcher.update(values)
        count += 1
        if on_image is not None:
            on_image()
    if not count:
        _raise_no_images()
    seen = tuple(None if observer is None else observer.finish() for observer in observers)
    return Measured(groups, seen, count, tuple(kept.images()))


def _raise_no_images() -> NoReturn:
    raise CalibrationError(
        "There are no calibration images.",
        "int8 ranges are measured on images",
        "give a folder of photographs with --calibration, 100 or more",
    )


def _check_image(graph: Graph, image: Image, index: int) -> None:
    height, width = graph.input.shape[2:]
    if image.dtype != np.uint8 or image.shape != (height, width, 3):
        raise CalibrationError(
            f"Calibration image {index} is {image.dtype} {list(image.shape)}.",
            f"the network takes uint8 [{height}, {width}, 3]",
            "load the images by the contract's rule",
        )


def _raise_not_finite(
    graph: Graph, values: Mapping[str, npt.NDArray[np.float32]], index: int
) -> None:
    name = next(t for t in graph.tensors() if t in values and not np.isfinite(values[t]).all())
    node = graph.producer(name)
    raise CalibrationError(
        f"The tensor {name!r} is not finite on calibration image {index}.",
        f"the operator {node.name if node else 'input'!r} makes NaN or infinity of it",
        "look for weights that diverged in training; export an earlier checkpoint",
    )


def _decide(
    group: Group, seen: Observation | None, rule: Rule, choice: Choice | None
) -> tuple[Affine, dict[str, Any]]:
    """The scale of one group, and what the manifest says about it."""
    if seen is None:
        assert group.fixed is not None
        return group.fixed, {"rule": "given", **_affine_json(group.fixed)}
    used: Rule = "min_max" if group.logits else rule
    wanted = within(choice.wanted if choice else choose_range(seen, used), group.useful)
    chosen = affine(wanted)
    gain = {"alone_gain_db": [round(each, 2) for each in choice.gain_db]} if choice else {}
    return chosen, {
        "rule": choice.rule if choice else used,
        **gain,
        "observed": _rounded(seen.low, seen.high),
        "mean": _rounded(seen.mean_low, seen.mean_high),
        "chosen": _rounded(wanted.low, wanted.high),
        "saturated": _rounded(saturated_share(seen, chosen, group.useful))[0],
        **_affine_json(chosen),
    }


def _affine_json(value: Affine) -> dict[str, Any]:
    return {"scale": _rounded(value.scale)[0], "zero_point": value.zero_point}


def _rounded(*values: float) -> list[float]:
    return [float(f"{value:.6g}") for value in values]


def _warnings(measured: Measured, tensors: Mapping[str, Any]) -> list[str]:
    warnings = []
    if not measured.enough:
        warnings.append(
            f"fewer than {FEWEST_IMAGES} different images: biases not corrected, range rules "
            "not compared"
        )
    if measured.count < FEW_IMAGES:
        warnings.append(
            f"calibrated on {measured.count} image(s); with fewer than {FEW_IMAGES} the ranges "
            "depend on which images those are"
        )
    dead = [name for name, notes in tensors.items() if notes.get("observed") == [0.0, 0.0]]
    if dead:
        warnings.append(f"always zero on the calibration images: {', '.join(dead)}")
    return warnings


def _weights(
    graph: Graph, activations: Mapping[str, Affine]
) -> tuple[dict[str, QuantizedWeights], dict[str, Any]]:
    weights: dict[str, QuantizedWeights] = {}
    dead: dict[str, list[int]] = {}
    widened: dict[str, list[int]] = {}
    for node in quantized_nodes(graph):
        if not isinstance(node, Conv | Dense):
            continue
        source, result = activations[node.inputs[0]], activations[node.output]
        weights[node.name], notes = quantize_weights(
            node.weight, node.bias, source, result, node.name
        )
        if notes.dead:
            dead[node.name] = list(notes.dead)
        if notes.widened:
            widened[node.name] = list(notes.widened)
    return weights, {"dead_channels": dead, "widened_channels": widened}


def quantize_constants(graph: Graph) -> Constants:
    """The int8 constants of Add, Sub and Mul by name; each keeps its shape.

    Normalize and BatchNorm have none: as 1x1 depthwise convolutions, which is how they
    are written, they keep 32 bits for the shift.
    """
    found: Constants = {}
    for node in quantized_nodes(graph):
        if isinstance(node, Add | Sub | Mul):
            for name in node.inputs:
                if name in graph.constants and name not in found:
                    found[name] = quantize_constant(graph.constants[name])
    return found


def quantize_constant(
    value: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.int8], Affine]:
    """One constant operand as int8 with a scale and zero point of its own."""
    used = affine(Range(min(float(value.min()), 0.0), max(float(value.max()), 0.0)))
    steps = np.rint(value.astype(np.float64) / used.scale) + used.zero_point
    return np.clip(steps, -128, 127).astype(np.int8), used
