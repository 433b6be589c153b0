"""How figures and findings are written, the same on the terminal and on the page."""

from __future__ import annotations

from exporter.evaluate.results import Chosen, Evaluation, Measured
from models.metrics import most_confused_of
from models.safety import Share

NONE = "–"


def percent(value: float | None, digits: int = 1) -> str:
    """'93.4 %'; '–' for None."""
    return NONE if value is None else f"{100 * value:.{digits}f} %"


def share(value: Share | None) -> str:
    """'1.2 % (3 of 250; 0.2 to 3.5 %)', with the interval."""
    if value is None or value.rate is None:
        return NONE
    low, high = value.interval
    return (
        f"{100 * value.rate:.1f} % ({value.count} of {value.of}; "
        f"95 %: {100 * low:.1f} to {100 * high:.1f} %)"
    )


def rate(value: Share | None) -> str:
    return percent(value.rate) if value is not None else NONE


def number(value: float | None, digits: int = 3) -> str:
    return NONE if value is None else f"{value:.{digits}f}"


def how(file: Measured) -> str:
    """'run', 'evaluated' (Core ML off a Mac), 'emulated', or why not."""
    return file.evidence if file.status == "passed" else file.status


def scope(evaluation: Evaluation) -> str:
    """What was measured on what."""
    some = f"{evaluation.images} images"
    read = evaluation.total - len(evaluation.broken)
    if evaluation.images < read:
        some = f"{evaluation.images} of {evaluation.total} images"
    return f"{evaluation.model} on {some} ({evaluation.data})"


def confused(evaluation: Evaluation, limit: int) -> list[str]:
    """'12 x daffodil taken for tulip (15 %)'."""
    names = evaluation.names
    return [
        f"{pair.count} x {names[pair.truth]} taken for {names[pair.answer]} "
        f"({100 * pair.share:.0f} %)"
        for pair in most_confused_of(evaluation.confusions, limit)
    ]


def calibrated(file: Measured) -> str:
    """What the calibration error is, and what a temperature would do."""
    found = file.calibration
    if found is None:
        return ""
    said = f"calibration error {percent(found.error)}"
    if found.note:
        return f"{said}; a temperature was not fitted: {found.note}"
    if found.error_after is not None:
        said += (
            f"; with a temperature near {found.temperature:.2f} it would be "
            f"{percent(found.error_after)} (each half of the images judged by the other's)"
        )
    return said


def safety_lines(evaluation: Evaluation) -> list[str]:
    """How often venomous is called harmless, in sentences."""
    found = evaluation.shown.safety
    if found is None:
        return []
    if not found.called_harmless.of:
        return ["there is no image of a venomous species: what is missed cannot be counted"]
    at = (
        "the classes' thresholds" if evaluation.thresholds else f"the threshold {found.threshold:g}"
    )
    lines = [
        f"venomous called harmless at {at}: {share(found.called_harmless)}",
        f"'not sure': {share(found.not_sure_of_all)} of all images, "
        f"{rate(found.not_sure)} of those of venomous species",
        f"harmless called venomous: {share(found.false_alarms)}",
    ]
    if found.unknown:
        lines.append(
            f"{found.unknown} images are of species of which it is not known; counted as "
            f"venomous, the rate is {share(found.cautious)}"
        )
    return lines


def chosen_lines(chosen: Chosen, own: float) -> list[str]:
    """The threshold for a stated rate, and what it costs.

    Args:
        own: the contract's threshold.
    """
    wanted = f"at most {100 * chosen.most:g} % of venomous called harmless"
    if chosen.threshold is None or chosen.safety is None:
        return [f"{wanted}: no threshold does it, some are missed with certainty"]
    lines = [
        f"{wanted}: threshold {chosen.threshold:g}, where it is "
        f"{share(chosen.safety.called_harmless)}",
        f"it costs {share(chosen.safety.not_sure_of_all)} 'not sure' of all images, "
        f"{rate(chosen.safety.not_sure)} of those of venomous species",
    ]
    if chosen.threshold < own:
        lines.append(
            f"the model's own threshold {own:g} keeps it already, with more 'not sure'; "
            "lower it only if that is too much"
        )
    high = chosen.safety.called_harmless.interval[1]
    if chosen.needed is not None and high > chosen.most:
        lines.append(
            f"these images do not prove the rate: for others it may be up to {percent(high)}; "
            f"to rule out more than {100 * chosen.most:g} % takes {chosen.needed} images of "
            "venomous species of which none is missed"
        )
    return lines
