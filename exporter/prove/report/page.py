"""The page a person reads: one self-contained HTML file, drawn from results alone."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from exporter import __version__, bundle
from exporter.bundle import Bundle
from exporter.prove.outputs import wording
from exporter.prove.report.charts import Bar, bar_chart
from exporter.prove.results import ArtifactResult, ImageResult, ParityReport
from exporter.prove.runtimes.base import Evidence
from models.contract import Contract
from models.errors import UserError
from models.images import open_rgb

THUMBNAIL = 176
MOST_FLIPPED = 24
_HOW: dict[Evidence, str] = {
    "evaluated": "file evaluated, not run",
    "emulated": "run on an emulated processor",
    "reported": "as another device reported",
}


@dataclass(frozen=True)
class Flip:
    """One photograph whose answer an artifact changed, ready to be shown."""

    image: str
    thumbnail: str  # a data: URI, or '' where the photograph is not at hand
    truth: str | None
    before: str
    after: str
    before_probability: float
    after_probability: float
    margin: float
    decisive: str | None = None  # of several answers: the class that the probabilities are of


def write_report(
    opened: Bundle, report: ParityReport, images_root: Path | None, path: Path
) -> None:
    """Write the report page.

    Args:
        opened: the bundle that was proven.
        report: what the proof found.
        images_root: the folder that image names in the report are relative to; None
            leaves the thumbnails out.
        path: the HTML file to write.
    """
    path.write_text(render(opened, report, images_root), encoding="utf-8")


def render(opened: Bundle, report: ParityReport, images_root: Path | None) -> str:
    """The page as text; see `write_report`."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("exporter.prove.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        size=human_size, sci=_scientific, percent=_percent, decibel=_decibel, number=_number
    )
    held = {row.key for row in opened.formats()}
    report = replace(
        report, artifacts=tuple(entry for entry in report.artifacts if entry.key in held)
    )
    return environment.get_template("report.html.j2").render(
        title=opened.contract.name,
        report=report,
        use={row.key: row.use for row in bundle.FORMATS},
        verdicts=[(artifact, verdict(artifact, report.several)) for artifact in report.artifacts],
        latency_chart=_latency_chart(report),
        not_timed=_not_timed(report, held),
        size_chart=_size_chart(report),
        flips=[(artifact, _flips(opened, artifact, images_root)) for artifact in _int8(report)],
        most_flipped=MOST_FLIPPED,
        left_out=opened.manifest.get("left_out") or {},
        provenance=_provenance(opened),
        files=opened.manifest.get("files", []),
        version=__version__,
    )


def verdict(artifact: ArtifactResult, several: bool = False) -> str:
    """One sentence that says what was found, without a table.

    Args:
        several: whether an image may have several answers.
    """
    if artifact.status == "not run":
        return f"Not run: {artifact.reason}."
    broken = [gate for gate in artifact.gates if not gate.passed]
    if broken:
        gates = "; ".join(
            f"{gate.name} is {gate.value:.4g}, the gate is {gate.limit:.4g}" for gate in broken
        )
        return f"Do not ship it: {gates}."
    if artifact.status == "failed":
        return f"Do not ship it: {artifact.reason}."
    same = round((artifact.top1_agreement or 0.0) * artifact.images)
    what = "classes" if several else "first answer"
    if artifact.evidence == "run":
        answer = f"The same {what} on {same} of {artifact.images} images"
    else:
        whats = "sets of classes" if several else "first answers"
        answer = f"{same} of {artifact.images} {whats} the same ({_HOW[artifact.evidence]})"
    if artifact.precision == "float32":
        tail = f"probabilities within {_scientific(artifact.max_probability_difference)}"
    elif artifact.logit_sqnr_db is not None:
        tail = f"logits at {artifact.logit_sqnr_db:.1f} dB"
    else:
        tail = f"probabilities within {_scientific(artifact.max_probability_difference)}"
    return f"{answer}; {tail}."


def _int8(report: ParityReport) -> list[ArtifactResult]:
    return [a for a in report.artifacts if a.precision == "int8" and a.status != "not run"]


def _latency_chart(report: ParityReport) -> Any:
    if report.latency is None:
        return ""
    precision = {a.key: a.precision for a in report.artifacts}
    bars = [
        Bar(
            result.key,
            result.median_ms,
            f"{result.median_ms:.2f} ms  ({result.ratio:.2f}x)",
            result.p90_ms,
            precision.get(result.key, "reference"),
        )
        for result in report.latency.results
    ]
    return bar_chart(bars, "ms", "Median latency of one image, in milliseconds")


def _not_timed(report: ParityReport, held: set[str]) -> dict[str, list[str]]:
    """Reason to keys, for the artifacts of this bundle."""
    grouped: dict[str, list[str]] = {}
    for key, reason in report.latency.not_timed if report.latency is not None else ():
        if key in held:
            grouped.setdefault(reason, []).append(key)
    return grouped


def _size_chart(report: ParityReport) -> Any:
    files = {a.key: a for a in report.artifacts if a.bytes}  # one bar a file, however often it ran
    bars = [
        Bar(a.key, a.bytes / 1e6, human_size(a.bytes), None, a.precision) for a in files.values()
    ]
    return bar_chart(bars, "MB", "Size of each artifact, in megabytes")


def _flips(opened: Bundle, artifact: ArtifactResult, root: Path | None) -> list[Flip]:
    names = opened.contract.names
    return [
        Flip(
            result.image,
            _thumbnail(result, root),
            result.label,
            *_answers(result, names),
            result.reference_probability,
            result.probability,
            result.reference_margin,
            names[result.top] if result.classes is not None else None,
        )
        for result in artifact.flipped[:MOST_FLIPPED]
    ]


def _answers(result: ImageResult, names: tuple[str, ...]) -> tuple[str, str]:
    """The reference's answer and the artifact's."""
    if result.reference_classes is None or result.classes is None:
        return names[result.reference_top], names[result.top]
    return wording.said(result.reference_classes, names), wording.said(result.classes, names)


def _thumbnail(result: ImageResult, root: Path | None) -> str:
    if root is None:
        return ""
    try:
        picture = open_rgb(root / result.image)
    except UserError:
        return ""
    picture.thumbnail((THUMBNAIL * 2, THUMBNAIL * 2))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def _provenance(opened: Bundle) -> list[tuple[str, str]]:
    manifest, rule = opened.manifest, opened.contract.preprocessing
    rows = [
        ("Architecture", opened.contract.architecture),
        ("Made from", str(manifest.get("reference", ""))),
        ("Classes", f"{len(opened.contract.labels)}, label hash {opened.contract.label_hash[:16]}"),
        (
            "Input",
            f"raw RGB, uint8, {rule.width} x {rule.height}: shorter side to "
            f"{rule.resize_shorter_side} (bilinear, antialiased), centre crop, "
            f"EXIF orientation {'applied' if rule.exif == 'apply' else 'ignored'}",
        ),
        ("Output", f"probabilities ({opened.contract.activation}), {_thresholds(opened.contract)}"),
    ]
    temperature = manifest.get("temperature")
    if temperature is not None:
        said = f"logits divided by {temperature:g} inside every file"
        rows.append(("Temperature", said))
    calibration = manifest.get("calibration")
    if calibration:
        rows.append(("int8 calibration", f"{calibration.get('count', '?')} images"))
    tools = manifest.get("tools", {})
    here = ", ".join(f"{name} {version}" for name, version in sorted(tools.items())
                     if version != "absent")  # fmt: skip
    rows.append(("Tools", here))
    return rows


def _thresholds(contract: Contract) -> str:
    """From which probability on a class is said to be there."""
    if not contract.multi_label:
        return f"'not sure' below {contract.not_sure_threshold:g}"
    lowest, highest = min(contract.class_thresholds), max(contract.class_thresholds)
    span = f"{lowest:.3g}" if lowest == highest else f"{lowest:.3g} to {highest:.3g} by class"
    return f"a class is there from {span} on, 'not sure' where none is"


def human_size(count: float) -> str:
    """Bytes in a person's unit: 3.62 MB, 912 kB."""
    if count >= 1e6:
        return f"{count / 1e6:.2f} MB"
    if count >= 1e3:
        return f"{count / 1e3:.0f} kB"
    return f"{count:.0f} B"


def _scientific(value: float | None) -> str:
    if value is None:
        return "–"
    if value == 0:
        return "0"
    return f"{value:.1e}" if abs(value) < 1e-3 else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _decibel(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
