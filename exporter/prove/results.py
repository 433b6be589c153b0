"""What the proof found, as data: the tables, the page and the gates read only this."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from exporter.bundle import BY_KEY
from exporter.prove.runtimes.base import Evidence

Status = Literal["passed", "failed", "not run"]


@dataclass(frozen=True)
class GateCheck:
    """One gate of one artifact.

    Attributes:
        name: e.g. 'max probability difference'.
        value: what was measured.
        limit: what it is held against.
        passed: whether it holds.
    """

    name: str
    value: float
    limit: float
    passed: bool


@dataclass(frozen=True)
class ImageResult:
    """One image, as the reference and one artifact answered it.

    Attributes:
        image: path relative to the image folder, with '/'.
        label: the true class name where it is known.
        reference_top: index of the reference's largest probability.
        top: index of the artifact's.
        reference_probability: the reference's probability of its own top class.
        probability: the artifact's probability of its own top class.
        reference_margin: reference's first minus second largest probability.
        max_difference: largest absolute probability difference over the classes.
        reference_classes, classes: all that the reference and the artifact say is there,
            where there may be several answers, else None. `reference_top` and `top` are
            then the class that tells the answers apart, with both its probabilities, and
            the margin is the smallest distance of a probability from its threshold.
    """

    image: str
    label: str | None
    reference_top: int
    top: int
    reference_probability: float
    probability: float
    reference_margin: float
    max_difference: float
    reference_classes: tuple[int, ...] | None = None
    classes: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Versus:
    """The same file in two runtimes, number by number.

    Attributes:
        runtime: the other runtime's name; a device's numbers are held against what that
            runtime answered at the export.
        unit: 'steps' of the integers in front of the last DEQUANTIZE, or 'probability'.
        elements: how many numbers were compared.
        differing: how many were not equal; NaN and infinity never are.
        largest: the largest absolute difference, in that unit; of finite numbers.
    """

    runtime: str
    unit: Literal["steps", "probability"]
    elements: int
    differing: int
    largest: float


@dataclass(frozen=True)
class ArtifactResult:
    """One artifact in one runtime against the reference.

    Probability figures are absolute differences over all images and classes. Logit
    figures come from the log-probabilities, centred per image (softmax cannot be
    inverted further than up to a constant), over the classes whose probability the
    file's number format can hold; None for sigmoid outputs saturated everywhere.

    Attributes:
        key: the format's key, see `bundle.FORMATS`.
        runtime: name of the runtime, with `version` of its library.
        device: the device that sent the result, or '' for this machine.
        evidence: see `runtimes.base.Runtime`; 'reported' for what a device sent.
        status: 'not run' when the runtime or the file was absent, with `reason`.
        top1_agreement: share of images with the reference's answer: the same first class,
            or where there may be several the same set of classes.
        accuracy, reference_accuracy: top-1 where labels are known, else None; of several
            answers the macro F1 at the contract's thresholds.
        worst: the images with the largest differences, worst first.
        flipped: the images whose answer changed.
    """

    key: str
    path: str
    precision: str
    runtime: str
    version: str
    evidence: Evidence
    status: Status
    reason: str = ""
    images: int = 0
    max_probability_difference: float | None = None
    mean_probability_difference: float | None = None
    max_logit_difference: float | None = None
    mean_logit_difference: float | None = None
    logit_sqnr_db: float | None = None
    top1_agreement: float | None = None
    top5_agreement: float | None = None
    accuracy: float | None = None
    reference_accuracy: float | None = None
    gates: tuple[GateCheck, ...] = ()
    worst: tuple[ImageResult, ...] = ()
    flipped: tuple[ImageResult, ...] = ()
    bytes: int = 0
    device: str = ""
    versus: Versus | None = None

    @property
    def title(self) -> str:
        """What tells this row from the others: the key, and where it is not the file's own
        runtime on this machine, that too."""
        if self.device:
            return f"{self.key} @ {self.device}"
        own = self.runtime == BY_KEY[self.key].runtime
        return self.key if own else f"{self.key} @ {self.runtime}"


@dataclass(frozen=True)
class LatencyResult:
    """Interleaved wall times of one artifact, in milliseconds, batch 1.

    Attributes:
        key: the format's key, or 'torch' for the reference.
        runs: how many were timed after the warm-up.
        ratio: median over the reference's median in the same run.
    """

    key: str
    runtime: str
    runs: int
    median_ms: float
    p90_ms: float
    ratio: float


@dataclass(frozen=True)
class Latency:
    """One interleaved latency measurement.

    Attributes:
        device: the processor's name, or the device that measured itself.
        relative_to: key of the row whose median the ratios are taken to; '' for the
            reference's.
    """

    device: str
    threads: int
    warmup: int
    results: tuple[LatencyResult, ...]
    not_timed: tuple[tuple[str, str], ...] = ()  # (key, reason)
    relative_to: str = ""


@dataclass(frozen=True)
class ParityReport:
    """A whole parity run.

    Attributes:
        reference_accuracy: the reference's top-1, or macro F1, over the labelled images.
        several: whether an image may have several answers, see `answering`.
        device_latencies: what devices measured of themselves.
    """

    model: str
    reference: str  # e.g. 'torch eager 2.13.0' or 'onnxruntime 1.31.1 (the ONNX that came in)'
    image_source: str
    images: int
    labelled: int
    artifacts: tuple[ArtifactResult, ...]
    latency: Latency | None = None
    notes: tuple[str, ...] = field(default_factory=tuple)
    device_latencies: tuple[Latency, ...] = ()
    reference_accuracy: float | None = None
    several: bool = False

    @property
    def passed(self) -> bool:
        """No gate failed, and at least one artifact was compared."""
        compared = [a for a in self.artifacts if a.status != "not run"]
        return bool(compared) and all(a.status == "passed" for a in compared)

    def to_json(self) -> dict[str, Any]:
        """Everything, for `json.dumps`; NaN and infinity, which JSON lacks, become null."""
        return _finite({"passed": self.passed, **asdict(self)})


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(held) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(held) for held in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
