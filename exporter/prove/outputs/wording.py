"""How figures are written, the same in every output."""

from __future__ import annotations

from exporter.prove.compare import MAX_SQNR_DB
from exporter.prove.results import ArtifactResult, GateCheck, ImageResult, ParityReport

NONE = "–"  # a figure that was not measured
COLUMNS = ("file", "precision", "status", "how", "max Δp", "logit Δ", "dB", "same", "accuracy")


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
    """Top-1 in percent, with its change against the reference in points: '82.1 -0.4'."""
    if artifact.accuracy is None or artifact.reference_accuracy is None:
        return NONE
    change = 100 * (artifact.accuracy - artifact.reference_accuracy)
    return f"{100 * artifact.accuracy:.1f} {change:+.1f}"


def cells(artifact: ArtifactResult) -> tuple[str, ...]:
    """One row under `COLUMNS`."""
    ran = artifact.status != "not run"
    return (
        artifact.key,
        artifact.precision,
        artifact.status.upper() if artifact.status == "failed" else artifact.status,
        artifact.evidence if ran else NONE,
        difference(artifact.max_probability_difference),
        logits(artifact.mean_logit_difference),
        decibels(artifact.logit_sqnr_db),
        percent(artifact.top1_agreement),
        accuracy(artifact),
    )


def gate(check: GateCheck) -> str:
    """'top-1 agreement is 0.915, the limit is 0.93'."""
    return f"{check.name} is {check.value:.4g}, the limit is {check.limit:.4g}"


def flip(result: ImageResult, names: tuple[str, ...] | None = None) -> str:
    """'a/b.jpg: 12 (0.41) became 13 (0.40)', with class names where they are given."""
    before = names[result.reference_top] if names else str(result.reference_top)
    after = names[result.top] if names else str(result.top)
    return (
        f"{result.image}: {before} ({result.reference_probability:.2f}) "
        f"became {after} ({result.probability:.2f})"
    )


def verdict(report: ParityReport) -> str:
    """The whole run in one sentence."""
    failed = [found.key for found in report.artifacts if found.status == "failed"]
    passed = [found.key for found in report.artifacts if found.status == "passed"]
    if failed:
        return f"{len(failed)} of {len(failed) + len(passed)} files failed: {', '.join(failed)}"
    if not passed:
        return "nothing was compared: no file could be run here"
    return f"all {len(passed)} compared files pass their gates"


def scope(report: ParityReport) -> str:
    """What was compared with what."""
    labelled = f"{report.labelled} labelled" if report.labelled else "unlabelled"
    return (
        f"{report.model} against {report.reference}, "
        f"{report.images} images ({labelled}), {report.image_source}"
    )


def not_run(report: ParityReport) -> dict[str, list[str]]:
    """Keys of the files that were not run, by reason."""
    reasons: dict[str, list[str]] = {}
    for artifact in report.artifacts:
        if artifact.status == "not run":
            reasons.setdefault(artifact.reason, []).append(artifact.key)
    return reasons
