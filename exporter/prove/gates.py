"""What an artifact has to reach: one table, a row for each precision."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

from exporter.bundle import Precision
from exporter.prove.compare import Metrics
from exporter.prove.results import ArtifactResult, GateCheck
from models.contract import OutputActivation
from models.errors import UserError


class GateError(UserError):
    """A gate on the command line that does not exist or has no such limit."""


@dataclass(frozen=True)
class Limits:
    """The limits of one precision; None leaves a gate out.

    Attributes:
        max_probability_difference: over all images and classes.
        min_agreement: agreement with the reference, 0..1: the same first class, or where
            there may be several answers the same set of classes; below 1 one changed answer
            is always allowed, however few images there are.
        max_accuracy_drop: reference's accuracy minus the artifact's, 0..1; it counts where
            labels are known and is left out where they are not.
        max_macro_f1_drop: the same of the macro F1, which takes the place of accuracy where
            there may be several answers; one picture of a rare class moves it further.
        max_mean_logit_difference: mean absolute error of the centred logits.
        min_sqnr_db: signal to quantization noise of the centred logits.
    """

    max_probability_difference: float | None = None
    min_agreement: float | None = None
    max_accuracy_drop: float | None = None
    max_macro_f1_drop: float | None = None
    max_mean_logit_difference: float | None = None
    min_sqnr_db: float | None = None


GATES: Mapping[Precision, Limits] = {
    "float32": Limits(max_probability_difference=1e-4, min_agreement=1.0),
    "float16": Limits(min_agreement=0.99),
    "int8": Limits(min_agreement=0.94, max_accuracy_drop=0.015, max_macro_f1_drop=0.02),
}
AGREEMENT: Mapping[OutputActivation, str] = {
    "softmax": "top-1 agreement",
    "sigmoid": "agreement on all classes",
}
# These hold for every precision and cannot be moved: a file beyond them is broken.
MAX_SUM_ERROR = 1e-3  # softmax only; 1,000 float16 probabilities sum to 1 within it
MAX_RANGE_ERROR = 1e-6
_ROUNDING = 1e-12  # so that 0.94 - 0.92 counts as 0.02


def check(metrics: Metrics, limits: Limits, activation: OutputActivation) -> tuple[GateCheck, ...]:
    """Hold the figures of one artifact against its limits.

    A logit gate whose figure cannot be measured (every reference answers 0 or 1, or no
    output is finite) fails, as '... (not measurable)' with the value 0.
    """
    checks = [
        _at_most("images with NaN or infinity", metrics.not_finite, 0),
        _at_most("probabilities outside 0..1", metrics.range_error, MAX_RANGE_ERROR),
    ]
    if activation == "softmax":
        checks.append(_at_most("sum of probabilities off 1", metrics.sum_error, MAX_SUM_ERROR))
    if limits.max_probability_difference is not None:
        found = metrics.max_probability_difference
        if found is not None:  # None only where every image failed the first gate
            checks.append(
                _at_most("max probability difference", found, limits.max_probability_difference)
            )
    if limits.min_agreement is not None:
        limit = _one_flip(limits.min_agreement, metrics.images)
        checks.append(_at_least(AGREEMENT[activation], metrics.top1_agreement, limit))
    name, most = _most_drop(limits, activation)
    if most is not None and metrics.accuracy is not None and metrics.reference_accuracy is not None:
        drop = metrics.reference_accuracy - metrics.accuracy
        checks.append(_at_most(name, drop, most))
    return tuple(checks + _logit_checks(metrics, limits))


def judged(result: ArtifactResult, checks: tuple[GateCheck, ...]) -> ArtifactResult:
    """The result with its gates: passed, or failed with those that did not hold."""
    bad = [gate for gate in checks if not gate.passed]
    return replace(
        result,
        status="failed" if bad else "passed",
        reason="; ".join(f"{g.name} {g.value:.4g}, limit {g.limit:.4g}" for g in bad),
        gates=checks,
    )


def _most_drop(limits: Limits, activation: OutputActivation) -> tuple[str, float | None]:
    """What is measured where labels are known, and by how much it may fall."""
    if activation == "softmax":
        return "accuracy drop", limits.max_accuracy_drop
    return "macro F1 drop", limits.max_macro_f1_drop


def _one_flip(limit: float, images: int) -> float:
    """An agreement limit over few images: one changed answer never fails it, unless none may
    change. A single flip of eight says nothing about a limit of 94 %."""
    return limit if limit >= 1.0 else min(limit, 1.0 - 1.0 / images)


def _logit_checks(metrics: Metrics, limits: Limits) -> list[GateCheck]:
    checks = []
    if limits.max_mean_logit_difference is not None:
        name, found = "mean logit difference", metrics.mean_logit_difference
        limit = limits.max_mean_logit_difference
        checks.append(
            _not_measurable(name, limit) if found is None else _at_most(name, found, limit)
        )
    if limits.min_sqnr_db is not None:
        name, found, limit = "logit SQNR in dB", metrics.logit_sqnr_db, limits.min_sqnr_db
        checks.append(
            _not_measurable(name, limit) if found is None else _at_least(name, found, limit)
        )
    return checks


def _not_measurable(name: str, limit: float) -> GateCheck:
    """A limit that was asked for and could not be held against anything: it fails.

    The value is 0 because JSON has no NaN; the name says that nothing was measured.
    """
    return GateCheck(f"{name} (not measurable)", 0.0, float(limit), False)


def _at_most(name: str, value: float, limit: float) -> GateCheck:
    return GateCheck(name, float(value), float(limit), bool(value <= limit + _ROUNDING))


def _at_least(name: str, value: float, limit: float) -> GateCheck:
    return GateCheck(name, float(value), float(limit), bool(value >= limit - _ROUNDING))


def with_overrides(items: Sequence[str]) -> Mapping[Precision, Limits]:
    """The table with some limits moved, e.g. `["int8.min_agreement=0.95"]`.

    The value is a number, or 'off' to leave the gate out.

    Raises:
        GateError: no such precision or limit, or not a number.
    """
    table: dict[Precision, Limits] = dict(GATES)
    names = [entry.name for entry in fields(Limits)]
    for item in items:
        place, equals, text = item.partition("=")
        precision, _, name = place.strip().partition(".")
        name = name.replace("-", "_")
        row = next((key for key in table if key == precision), None)
        if not equals or row is None or name not in names:
            raise GateError(
                f"There is no gate {item!r}.",
                f"a gate is PRECISION.LIMIT=NUMBER; precisions: {', '.join(table)}; "
                f"limits: {', '.join(names)}",
                "for example int8.min_agreement=0.95",
            )
        table[row] = replace(table[row], **{name: _number(item, text.strip())})
    return table


def _number(item: str, text: str) -> float | None:
    if text == "off":
        return None
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not math.isfinite(value):
        raise GateError(
            f"The gate {item!r} has no number.",
            f"{text!r} is neither a number nor 'off'",
            "for example int8.min_agreement=0.95",
        )
    return value
