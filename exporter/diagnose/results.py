"""What a report holds, as data; `to_json` is its form on disk."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

SCHEMA = 1
PARTS = ("input", "weights", "rounding", "clipping")


@dataclass(frozen=True)
class Noise:
    """The power of a layer's error at the same input, each part relative to its signal's power.

    Attributes:
        input: of its inputs' rounding, passed through the layer.
        weights: of its weights' rounding (and, in the first layer, of folding the
            normalization into them).
        rounding: of its output's rounding to the int8 grid.
        clipping: of values beyond the int8 range or, once equalized, beyond a ReLU6's cap.
    """

    input: float
    weights: float
    rounding: float
    clipping: float

    @property
    def cause(self) -> str:
        """The largest part that the layer itself adds."""
        own = {name: getattr(self, name) for name in PARTS[1:]}
        return max(own, key=lambda name: own[name])


@dataclass(frozen=True)
class Histogram:
    """Counts of values in bins of one width, from `low` up; the outermost hold all beyond."""

    low: float
    width: float
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Range:
    """What a tensor held and what its int8 form can hold, as real (equalized) values.

    Attributes:
        observed: least and greatest value in the float network over all images.
        representable: of levels -128 and 127.
        step: between two levels.
        below, above: share of float values that lie outside by more than half a step.
        levels_used: of 256, in the int8 network.
        entropy_bits: of the int8 levels' distribution; 8 would be all alike.
        histogram: of the float values; None where there are none to be had.
    """

    observed: tuple[float, float] | None
    representable: tuple[float, float]
    step: float
    below: float | None
    above: float | None
    levels_used: int
    entropy_bits: float
    histogram: Histogram | None

    @property
    def saturated(self) -> float | None:
        return None if self.below is None or self.above is None else self.below + self.above


@dataclass(frozen=True)
class Channels:
    """Channels that carry little, by index.

    Attributes:
        zero: always zero in the float network.
        constant: always the same other value there.
        lost: those that vary there, and in the int8 network never do.
        narrow: those that vary over less than 1/16 of the int8 range.
    """

    count: int
    zero: tuple[int, ...]
    constant: tuple[int, ...]
    lost: tuple[int, ...]
    narrow: tuple[int, ...]


@dataclass(frozen=True)
class Weights:
    """int8 weights' scales, one an output channel.

    Attributes:
        spread: the largest scale over the smallest, channels of zeros left out; None where
            a scale is 0.
        zero: channels whose weights are all zero, by index.
    """

    channels: int
    smallest: float
    largest: float
    spread: float | None
    zero: tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """One operator of the int8 file.

    Attributes:
        index: its place in the file.
        tensor: the name of its result.
        kind: 'CONV_2D' ...
        stored: how its result is stored: 'int8', 'float32'.
        apart: why nothing was compared; '' where it was.
        accumulated_snr_db: of its result in the int8 network against the float one.
        same_input_snr_db: the same, where it gets the float network's input, rounded to
            its own int8 grid.
        own_snr_db: the same without what the rounding of its input cost: what this layer
            adds itself.
        logit_sqnr_db: of the logits in a float network to which this layer's own noise is
            added, and no other: what the layer costs. Measured on some of the images.
        noise: the parts of the error at the same input.
    """

    index: int
    tensor: str
    kind: str
    shape: tuple[int, ...]
    stored: str
    apart: str
    accumulated_snr_db: float | None
    same_input_snr_db: float | None
    own_snr_db: float | None
    logit_sqnr_db: float | None
    noise: Noise | None
    range: Range | None
    channels: Channels | None
    weights: Weights | None


@dataclass(frozen=True)
class Flip:
    """An image whose answer the int8 file changed.

    Attributes:
        float_label, int8_label: the first answers, or all of them where there may be several.
        float_probability, int8_probability: each file's for its own answer, or for `decisive`.
        float_margin, int8_margin: each file's first probability minus its second; of several
            answers the smallest distance of a probability from its threshold.
        float_logit_margin, int8_logit_margin: the same of the logits, from the
            probabilities; None where one of them is 0.
        truth: the true label, where known.
        effect: 'gained', 'lost' or 'wrong either way'; None without a label.
        decisive: of several answers, the class that only one of the files names.
    """

    image: str
    float_label: str
    int8_label: str
    float_probability: float
    int8_probability: float
    float_margin: float
    int8_margin: float
    float_logit_margin: float | None
    int8_logit_margin: float | None
    truth: str | None
    effect: str | None
    decisive: str | None = None


@dataclass(frozen=True)
class MarginBand:
    """Images whose float margin (first probability minus second) lies in [low, high)."""

    low: float
    high: float
    images: int
    flips: int


@dataclass(frozen=True)
class Summary:
    """Both files' answers compared, by the definitions of `exporter parity`.

    Attributes:
        agreement: share of images with the same first answer, or of several answers the
            same classes.
        logit_sqnr_db, mean_logit_error: on logits recovered from the probabilities.
        accuracy, float_accuracy: over the labelled images; of several answers macro F1.
        several: whether an image may have several answers.
    """

    images: int
    agreement: float
    flips: int
    logit_sqnr_db: float | None
    mean_logit_error: float | None
    max_probability_difference: float | None
    labelled: int
    accuracy: float | None
    float_accuracy: float | None
    bands: tuple[MarginBand, ...]
    several: bool = False


@dataclass(frozen=True)
class QuantizeReport:
    """Everything that `exporter quantize-report` found.

    Attributes:
        key: of the int8 file, in the table of formats.
        reference: the file that it was compared with.
        kernels: what ran the layers.
        watched_difference: largest difference of a probability between the int8 file as it
            is and the copy whose tensors were read; 0 where watching changed nothing.
        cost_images: on how many images `Layer.logit_sqnr_db` was measured.
        findings: sentences: what is worst and what to do.
    """

    name: str
    key: str
    file: str
    reference: str
    kernels: str
    watched_difference: float
    cost_images: int
    source: str
    notes: tuple[str, ...]
    findings: tuple[str, ...]
    summary: Summary
    layers: tuple[Layer, ...]
    flips: tuple[Flip, ...]

    def to_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA, **asdict(self)}


def worst(layers: tuple[Layer, ...], count: int) -> list[Layer]:
    """The layers that cost the logits most, the worst first."""
    ranked = [layer for layer in layers if layer.logit_sqnr_db is not None]
    return sorted(ranked, key=lambda layer: (layer.logit_sqnr_db or 0.0, layer.index))[:count]


def shares(layers: tuple[Layer, ...]) -> dict[int, float]:
    """What each layer costs the logits, of the sum over all layers, by its index."""
    costs = {layer.index: 10 ** (-layer.logit_sqnr_db / 10) for layer in layers
             if layer.logit_sqnr_db is not None}  # fmt: skip
    total = sum(costs.values())
    return {index: cost / total for index, cost in costs.items()} if total else {}
