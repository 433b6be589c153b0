"""How figures are written, the same in every output."""

from __future__ import annotations

from exporter.prove.compare import MAX_SQNR_DB
from exporter.prove.results import ArtifactResult, GateCheck, ImageResult, Latency, ParityReport

NONE = "–"  # a figure that was not measured
REFERENCE = "reference"  # the first row: the model that all files are compared with


def columns(report: ParityReport) -> tuple[str, ...]:
    """The heads of the table; what stands under 'same' is `ArtifactResult.top1_agreement`."""
    score = "macro F1" if report.several else "accuracy"
    return ("file", "runtime", "status", "max Δp", "logit Δ", "dB", "same", score)


def difference(value: float | None) -> str:
    """A probability difference: '3.1e-07'."""
    return NONE if value is None else f"{value:.1e}"


def logits(value: float | None) -> str:
    """A mean logit difference: '0.231', or '1.2e-05' where that would show zeros."""
    if value is None:
        return NONE
    return f"{value:.3f}" if value == 0 or value >= 0.001 else f"{value:.1e}"


def decibels(value: float | None) -> str:
    """An SQNR: '20.8', or 'exact' for outputs that are equal to the last bit."""
    if value is None:
        return NONE
    return "exact" if value >= MAX_SQNR_DB else f"{value:.1f}"


def percent(value: float | None) -> str:
    """A share, rounded down so that '100.0%' means all of them."""
    return NONE if value is None else f"{int(value * 1000 + 1e-9) / 10:.1f}%"


def accuracy(artifact: ArtifactResult) -> str:
    """Top-1 (or macro F1) in percent, and its change against the reference in points:
    '82.1 -0.4'."""
    if artifact.accuracy is None or artifact.reference_accuracy is None:
        return NONE
    change = 100 * (artifact.accuracy - artifact.reference_accuracy)
    return f"{100 * artifact.accuracy:.1f} {change:+.1f}"


def where(artifact: ArtifactResult) -> str:
    """'litert', 'coreml, evaluated', 'arm64, emulated', 'Pixel 7, reported'."""
    if artifact.device:
        return f"{artifact.device}, {artifact.evidence}"
    if artifact.status == "not run" or artifact.evidence == "run":
        return artifact.runtime
    return f"{artifact.runtime.removeprefix('litert-')}, {artifact.evidence}"


def cells(artifact: ArtifactResult) -> tuple[str, ...]:
    """One row under `columns`."""
    return (
        artifact.key,
        where(artifact),
        artifact.status.upper() if artifact.status == "failed" else artifact.status,
        difference(artifact.max_probability_difference),
        logits(artifact.mean_logit_difference),
        decibels(artifact.logit_sqnr_db),
        percent(artifact.top1_agreement),
        accuracy(artifact),
    )


def reference_cells(report: ParityReport) -> tuple[str, ...]:
    """The reference's row: what all others are compared with."""
    found = report.reference_accuracy
    right = NONE if found is None else f"{100 * found:.1f}"
    return (REFERENCE, report.reference.split()[0], *(NONE,) * 5, right)


def versus(artifact: ArtifactResult) -> str | None:
    """'tflite-int8 @ litert-arm64: 0 of 2560 numbers differ from litert'; None where it was
    not compared."""
    found = artifact.versus
    if found is None:
        return None
    said = f"{artifact.title}: {found.differing} of {found.elements} numbers differ from"
    said = f"{said} {found.runtime}'s"
    if not found.differing:
        return said
    if not found.largest:
        return f"{said}: NaN or infinity"
    steps = f"{found.largest:.0f} step{'' if found.largest == 1 else 's'}"
    largest = steps if found.unit == "steps" else f"{found.largest:.1e}"
    return f"{said}, the largest by {largest}"


def gate(check: GateCheck) -> str:
    """'top-1 agreement is 0.915, the limit is 0.93'."""
    return f"{check.name} is {check.value:.4g}, the limit is {check.limit:.4g}"


def flip(result: ImageResult, names: tuple[str, ...] | None = None) -> str:
    """'a/b.jpg: 12 (0.41) became 13 (0.40)', with class names where they are given.

    Of several answers: 'a/b.jpg: 1, 12 became 1 (12: 0.52 became 0.48)'.
    """
    if result.reference_classes is not None and result.classes is not None:
        apart = names[result.top] if names else str(result.top)
        return (
            f"{result.image}: {said(result.reference_classes, names)} became "
            f"{said(result.classes, names)} ({apart}: {result.reference_probability:.2f} "
            f"became {result.probability:.2f})"
        )
    before = names[result.reference_top] if names else str(result.reference_top)
    after = names[result.top] if names else str(result.top)
    return (
        f"{result.image}: {before} ({result.reference_probability:.2f}) "
        f"became {after} ({result.probability:.2f})"
    )


def said(classes: tuple[int, ...], names: tuple[str, ...] | None = None) -> str:
    """Several answers as a person reads them: 'adder, slow worm', or 'none'."""
    return ", ".join(names[place] if names else str(place) for place in classes) or "none"


def verdict(report: ParityReport) -> str:
    """The whole run in one sentence."""
    failed = [found for found in report.artifacts if found.status == "failed"]
    compared = len([found for found in report.artifacts if found.status == "passed"]) + len(failed)
    elsewhere = any(found.title != found.key for found in report.artifacts)
    rows = "rows" if elsewhere else "files"  # one file has a row in each runtime
    absent = len(report.artifacts) - compared
    tail = f"; {absent} not run" if absent else ""
    if failed:
        names = ", ".join(found.title for found in failed)
        return f"{len(failed)} of {compared} {rows} failed: {names}{tail}"
    if not compared:
        return "nothing was compared: no file could be run here"
    return f"all {compared} compared {rows} pass their gates{tail}"


def scope(report: ParityReport) -> str:
    """What was compared with what."""
    labelled = f"{report.labelled} labelled" if report.labelled else "unlabelled"
    return (
        f"{report.model} against {report.reference}, "
        f"{report.images} images ({labelled}), {report.image_source}"
    )


def not_run(report: ParityReport) -> dict[str, list[str]]:
    """Files that were not run, by reason."""
    reasons: dict[str, list[str]] = {}
    for artifact in report.artifacts:
        if artifact.status == "not run":
            reasons.setdefault(artifact.reason, []).append(artifact.title)
    return reasons


def not_timed(latency: Latency) -> dict[str, list[str]]:
    """Files that were not timed, by reason."""
    reasons: dict[str, list[str]] = {}
    for key, reason in latency.not_timed:
        reasons.setdefault(reason, []).append(key)
    return reasons
