"""What a comparison says, in sentences: which to take and why, and what else to know."""

from __future__ import annotations

from collections.abc import Sequence

from exporter.choose import words
from exporter.choose.decide import (
    MB,
    SAME_SPEED,
    Decision,
    Judged,
    drop_noise,
    noise_between,
    same_accuracy,
)
from exporter.choose.results import NONE_PUBLISHED, Budget, Comparison, Outcome
from models import zoo
from models.zoo import card

INT8 = "tflite-int8"
LARGE_DROP = 0.02
GUESS = 3.0  # standard errors above guessing within which nothing was learnt
COARSE = 0.03  # a standard error above that tells few candidates apart
NAMED = 3


def verdict(comparison: Comparison, decision: Decision) -> str:
    """Which to take and why, in two or three sentences."""
    if not comparison.outcomes:
        return "There is nothing to choose from: no candidate was given."
    if decision.taken is None:
        return _none_fits(comparison, decision)
    taken, best = decision.taken, decision.best
    assert best is not None
    images = taken.outcome.test_images or comparison.test_images
    said = [
        f"Take {taken.name} ({words.file(taken.file)}): {words.percent(taken.accuracy)} "
        f"± {100 * taken.error:.1f} on {images} test images, {words.ms(taken.ms)} an image, "
        f"{words.megabytes(taken.bytes)}."
    ]
    said.append(
        _why_best(comparison, decision, taken)
        if taken is best
        else _why_cheaper(taken, best, decision.equals)
    )
    if comparison.classes and best.accuracy <= 1 / comparison.classes + GUESS * best.error:
        said.append(
            f"But none does much better than guessing among {comparison.classes} classes: train "
            "longer (--epochs) or on more images before choosing."
        )
    return " ".join(said)


def _why_best(comparison: Comparison, decision: Decision, taken: Judged) -> str:
    fitting = [each for each in decision.judged if each.fits and each is not taken]
    allowed = limits(comparison.budget)
    within = f" within {allowed}" if allowed else ""
    if not fitting:
        among = len(comparison.outcomes)
        if among == 1:
            return "It is the only candidate."
        return f"Of {among} candidates it is the only one{within or ' with a file to ship'}."
    equals = [each for each in decision.equals if each is not taken]
    if not equals:
        after = max(fitting, key=lambda each: each.accuracy)
        gap = words.points(taken.accuracy - after.accuracy)
        return f"No other{within} is as accurate: {after.name} follows {gap} behind."
    names = [each.name for each in equals]
    if len(names) > 3:
        names = [*names[:2], f"{len(names) - 2} more"]
    verbs = ("comes", "is") if len(equals) == 1 else ("come", "are")
    slow = taken.ms * (1 + SAME_SPEED)
    dearer = all(each.ms > slow or each.bytes > taken.bytes for each in equals)
    return (
        f"None{within} is more accurate; {words.listed(names)} {verbs[0]} within noise of it and "
        f"{verbs[1]} {'slower or larger' if dearer else 'no cheaper'}."
    )


def _why_cheaper(taken: Judged, best: Judged, equals: Sequence[Judged]) -> str:
    """Why not the most accurate: it is so within noise only, and costs more."""
    gap = best.accuracy - taken.accuracy
    said = (
        f"{best.name} is {words.points(gap)} more accurate, which is within noise "
        f"(± {100 * noise_between(best, taken):.1f})"
        if gap
        else f"{best.name} is as accurate"
    )
    gains = []
    if best.ms > taken.ms:
        ratio = best.ms / taken.ms
        gains.append(
            f"{words.times(ratio)} as fast" if ratio > 1 + SAME_SPEED else "a little faster"
        )
    if best.bytes > taken.bytes:
        ratio = best.bytes / taken.bytes
        gains.append(f"{words.times(ratio)} smaller" if ratio >= 1.1 else "a little smaller")
    said += f"; {taken.name} is {words.listed(gains)}"
    quickest = equals[0]
    if quickest is not taken and quickest is not best:
        said += f", and smaller than {quickest.name} at the same speed"
    return said + "."


def _none_fits(comparison: Comparison, decision: Decision) -> str:
    nearest = decision.nearest
    if nearest is None:
        return "There is nothing to take: no candidate has a measured file that passed its gate."
    number = len(decision.judged)
    budget = comparison.budget
    said = (
        f"None of {number} candidates is within {limits(budget)}."
        if number > 1
        else f"The only candidate is not within {limits(budget)}."
    )
    return (
        f"{said} The nearest is {nearest.name} ({words.file(nearest.file)}), over by "
        f"{_over(nearest)}, with {words.percent(nearest.accuracy)}. Allow "
        f"{_needed(nearest, budget)}, or try {_smaller(nearest)}."
    )


def _needed(judged: Judged, budget: Budget) -> str:
    parts = []
    if budget.ms is not None and judged.over_ms:
        parts.append(f"--budget-ms {_up(judged.ms)}")
    if budget.mb is not None and judged.over_mb:
        parts.append(f"--budget-mb {_up(judged.mb)}")
    return " and ".join(parts)


def _up(value: float) -> str:
    """Two digits, rounded up, so that the limit holds what it was made for."""
    step = 10.0 ** (len(str(int(value))) - 2) if value >= 1 else 0.01
    return f"{step * (int(value / step) + 1):g}"


def _smaller(judged: Judged) -> str:
    dials = ("width_mult", "input_size") if judged.over_ms else ("width_mult",)
    found = [name for name in dials if _can_shrink(judged.outcome, name)]
    if not found:
        return "a network with fewer parameters" if judged.over_mb else "a smaller network"
    return f"it with a smaller {words.listed(found, 'or')}, or a smaller network"


def _can_shrink(outcome: Outcome, name: str) -> bool:
    """Whether the zoo has its network with a smaller value of an option."""
    try:
        option = zoo.get(outcome.architecture).options[name]
    except (zoo.ZooError, KeyError):
        return False
    return option.smallest < outcome.options[name]


def limits(budget: Budget) -> str:
    """The budget in words; '' where there is none."""
    parts = []
    if budget.ms is not None:
        parts.append(f"{budget.ms:g} ms")
    if budget.mb is not None:
        parts.append(f"{budget.mb:g} MB")
    return " and ".join(parts)


def _over(judged: Judged) -> str:
    parts = []
    if judged.over_ms:
        parts.append(words.ms(judged.over_ms))
    if judged.over_mb:
        parts.append(f"{words.figure(judged.over_mb)} MB")
    return " and ".join(parts)


def remarks(comparison: Comparison, decision: Decision) -> tuple[str, ...]:
    """Further sentences, the most important first."""
    found = [
        *_not_int8(comparison, decision, would_fit=True),
        *_price_of_budget(decision),
        *_misses(decision),
        *_slow_tail(comparison.budget, decision.taken),
        *_large_drops(comparison),
        *_not_int8(comparison, decision, would_fit=False),
        *_starts(comparison),
        *_coarse(comparison, decision),
        *(f"{outcome.name} is left out: {reason}." for outcome, reason in decision.left_out),
    ]
    return tuple(found)


def _price_of_budget(decision: Decision) -> list[str]:
    taken = decision.taken
    if taken is None:
        return []
    better = [
        each
        for each in decision.judged
        if not each.fits and each.accuracy > taken.accuracy and not same_accuracy(each, taken)
    ]
    if not better:
        return []
    nearest = min(better, key=lambda each: (each.over_ms, each.over_mb, each.name))
    return [
        f"The budget costs accuracy: {nearest.name} is "
        f"{words.points(nearest.accuracy - taken.accuracy)} better and over by {_over(nearest)}."
    ]


def _misses(decision: Decision) -> list[str]:
    over = [each for each in decision.judged if not each.fits]
    if not over or (decision.taken is None and len(over) == 1):
        return []
    over.sort(key=lambda each: (each.over_ms, each.over_mb))
    said = [f"{each.name} by {_over(each)}" for each in over]
    if len(said) > NAMED + 1:
        said = [*said[:NAMED], f"{len(said) - NAMED} more by more"]
    return [f"Over the budget: {words.listed(said)}."]


def _slow_tail(budget: Budget, taken: Judged | None) -> list[str]:
    if taken is None or budget.ms is None or taken.p90 <= budget.ms:
        return []
    return [
        f"One run in ten of {taken.name} takes {words.ms(taken.p90)} or more, which is over "
        f"{budget.ms:g} ms."
    ]


def large_drop(outcome: Outcome, images: int) -> bool:
    """Whether int8 costs so much accuracy that noise does not explain it."""
    drop = outcome.int8_drop
    return drop is not None and drop > max(LARGE_DROP, drop_noise(outcome, images))


def at_risk(architecture: str) -> bool:
    """Whether the card of an architecture warns of int8."""
    try:
        return card.load(architecture).int8.startswith("At risk")
    except card.CardError:
        return False


def _large_drops(comparison: Comparison) -> list[str]:
    found = [each for each in comparison.outcomes if large_drop(each, comparison.test_images)]
    if not found:
        return []
    said = words.listed([f"{each.name} {words.points(each.int8_drop or 0.0)}" for each in found])
    sentence = f"int8 costs much: {said}."
    risky = list(dict.fromkeys(each.architecture for each in found if at_risk(each.architecture)))
    if risky:
        sentence += (
            f" Of {words.listed(risky)} that is known: swish and squeeze-and-excitation are hard "
            f"to hold in eight bits ('exporter zoo {risky[0]}' says more)."
        )
    return [
        f"{sentence} 'exporter export --quantizer distill' or '--int8-budget 1.25x' may win it "
        "back, and 'exporter quantize-report' says where it is lost."
    ]


def _not_int8(comparison: Comparison, decision: Decision, would_fit: bool) -> list[str]:
    """Whose int8 file failed its gate.

    Args:
        would_fit: those that are over the budget for it alone, or the others.
    """
    found = []
    for each in decision.judged:
        reason = each.outcome.gates_failed.get(INT8)
        if reason is None or each.file == INT8:
            continue
        alone = not each.fits and _int8_fits(each.outcome, comparison.budget)
        if alone is not would_fit:
            continue
        sentence = (
            f"int8 of {each.name} failed its gate ({reason}): its {words.file(each.file)} file "
            "stands here for it."
        )
        if alone:
            sentence += " The int8 file would be within the budget."
        drop, noise = each.outcome.int8_drop, drop_noise(each.outcome, comparison.test_images)
        if "accuracy drop" in reason and drop is not None and drop <= noise:
            images = each.outcome.test_images or comparison.test_images
            sentence += (
                f" On {images} test images that drop is within noise (± {100 * noise:.1f} points): "
                "more of them would tell."
            )
        found.append(sentence)
    return found


def _int8_fits(outcome: Outcome, budget: Budget) -> bool:
    latency, size = outcome.latency.get(INT8), outcome.sizes.get(INT8)
    if latency is None or size is None:
        return False
    slow = budget.ms is not None and latency.median > budget.ms
    return not slow and (budget.mb is None or size / MB <= budget.mb)


def _starts(comparison: Comparison) -> list[str]:
    trained = [each for each in comparison.outcomes if not each.failure]
    scratch = [each for each in trained if each.start == "scratch"]
    if not scratch:
        return []
    names = "All candidates" if len(scratch) == len(trained) > 1 else words.listed(
        [each.name for each in scratch]
    )  # fmt: skip
    reasons = {each.why_scratch for each in scratch}
    why = f" (weights: {reasons.pop()})" if len(reasons) == 1 and reasons != {""} else ""
    said = f"{names} {'was' if len(scratch) == 1 else 'were'} trained from scratch{why}."
    known = [each.name for each in scratch if each.why_scratch != NONE_PUBLISHED]
    if known:
        whose = "that accuracy" if len(known) == len(scratch) else f"that of {words.listed(known)}"
        said += f" Published weights (--weights-dir) would be likely to raise {whose}."
    if len(scratch) < len(trained):
        said += (
            " Beside candidates with published weights the start differs, not the network alone."
        )
    return [said]


def _coarse(comparison: Comparison, decision: Decision) -> list[str]:
    errors = [each.error for each in decision.judged]
    if not errors or max(errors) <= COARSE:
        return []
    return [
        f"{comparison.test_images} test images know an accuracy to ± {100 * max(errors):.0f} "
        "points only: more of them would tell candidates apart."
    ]
