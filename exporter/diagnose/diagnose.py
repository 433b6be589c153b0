"""Runs a float and an int8 file over images, and compares them tensor by tensor.

For each image and each operator of the int8 file:

    f    its result in the float network
    a    its result in the int8 network: f and the error accumulated so far
    c    its int8 result at the same input: f's input, rounded to the int8 grid of its own
    b    the operator in float arithmetic with the int8 file's weights: b(x) at f's input,
         b(q) at the rounded one

    c - f = (b(q) - b(x)) + (b(x) - f) + (clip(b(q)) - b(q)) + (c - clip(b(q)))
              input          weights       clipping            rounding

all divided by the equalization's scale, so that they are in the float network's terms. Where
equalized values exceed a fused ReLU6's cap, what the cap takes off counts as clipping.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from exporter.bundle import QUANTIZATION, Bundle
from exporter.diagnose import findings
from exporter.diagnose.answers import Answers
from exporter.diagnose.counterparts import Counterparts
from exporter.diagnose.cuts import CONVERTERS, cut, cut_in_float
from exporter.diagnose.impact import Impact
from exporter.diagnose.inputs import Files, open_files
from exporter.diagnose.probes import Floats, Probe
from exporter.diagnose.results import Layer, QuantizeReport, Weights
from exporter.diagnose.tally import NoiseTally, RangeTally
from exporter.diagnose.tflite_file import Operator, Tensor, Values
from exporter.prove.imageset import ImageSet, evenly
from exporter.prove.runtimes import registry
from exporter.prove.runtimes.base import Pixels

COST_IMAGES = 16  # each takes one run a layer
PIXELS = "it holds the pixels themselves"
UNKNOWN_SCALES = "its equalization was not written down"
NO_COUNTERPART = "the float file has no tensor of this name"


def diagnose(
    bundle: Bundle, images: ImageSet, key: str, on_image: Callable[[], None] | None = None
) -> QuantizeReport:
    """Compare a bundle's int8 file with its float file, layer by layer and image by image.

    Memory does not grow with the number of images.

    Args:
        images: from `prove.imageset.prepare`.
        key: 'tflite-int8' or 'tflite-mixed'.
        on_image: called after each image.

    Raises:
        UserError: files that the bundle lacks or that do not open, an image that does not
            decode, a float file that gives no finite numbers.
    """
    files = open_files(bundle, key)
    watch = _Watch(files)
    answers = Answers(bundle.contract)
    watched = 0.0
    with (
        registry.get(files.reference.runtime).open(
            bundle.path(files.reference.key), bundle.contract
        ) as float_session,
        registry.get(files.row.runtime).open(bundle.path(key), bundle.contract) as int8_session,
    ):
        costly = evenly(len(images.samples), COST_IMAGES)
        for place, sample in enumerate(images.samples):
            pixels = images.pixels(sample)
            found = int8_session.probabilities(pixels)
            answers.add(sample, float_session.probabilities(pixels), found)
            seen = watch.add(pixels, place in costly)
            watched = max(watched, float(np.abs(seen - found).max()))
            if on_image is not None:
                on_image()
    layers, summary = watch.layers(), answers.summary()
    return QuantizeReport(
        name=bundle.contract.name,
        key=key,
        file=files.row.path,
        reference=files.reference.path,
        kernels=f"LiteRT {importlib.metadata.version('ai-edge-litert')} (XNNPACK)",
        watched_difference=watched,
        cost_images=watch.impact.images,
        source=images.source,
        notes=(*images.notes, *_notes(files)),
        findings=findings.sentences(bundle, key, layers, summary),
        summary=summary,
        layers=layers,
        flips=answers.flips(),
    )


def _notes(files: Files) -> tuple[str, ...]:
    if files.scales is not None:
        return ()
    return (
        f"this bundle's int8 file was equalized, but it has no {QUANTIZATION} that says by what: "
        "layers before the logits cannot be compared with the float file's; answers, int8 levels "
        "and weights can. Export again to compare all",
    )


@dataclass
class _Tallies:
    operator: Operator
    tensor: Tensor
    apart: str
    noise: NoiseTally = field(default_factory=NoiseTally)
    range: RangeTally | None = None


class _Watch:
    """Both files with every tensor in view, and what was seen of each layer."""

    def __init__(self, files: Files) -> None:
        self._file, self._floats = files.file, files.floats
        self._parts = Counterparts(
            files.file, files.floats.names, files.scales, files.floats.channels_first
        )
        self._whole = Probe(files.file.with_all_outputs(), files.file.path)
        model, self._given = cut(files.file)
        self._cut = Probe(model, files.file.path)
        model, self._given_float = cut_in_float(files.file)
        self._cut_float = Probe(model, files.file.path)
        self.impact = Impact(files.file)
        self._tallies = [self._tally(operator, files) for operator in files.file.operators]

    def _tally(self, operator: Operator, files: Files) -> _Tallies:
        index = operator.output
        tensor = self._file.tensors[index]
        apart = ""
        if index in self._parts.pixels:
            apart = PIXELS
        elif self._parts.of(index) is None:
            apart = UNKNOWN_SCALES if files.scales is None else NO_COUNTERPART
        return _Tallies(operator, tensor, apart, range=RangeTally(tensor) if tensor.int8 else None)

    def add(self, pixels: Pixels, cost: bool) -> Floats:
        """Take one image; gives the int8 file's answer, `[classes]`.

        Args:
            cost: measure on it what each layer costs the logits.
        """
        self._floats.run(pixels)
        self._whole.run({self._file.input: pixels[None]})
        isolated = self._run_cuts(pixels)
        noises: dict[int, Floats] = {}
        for tally in self._tallies:
            own = self._add(tally, isolated)
            if own is not None and cost:
                noises[tally.operator.output] = own
        if noises:
            self.impact.add(pixels, noises)
        answer: Floats = self._whole.get(self._file.output)[0]
        return answer

    def _run_cuts(self, pixels: Pixels) -> _Isolated:
        """Every layer at the float network's inputs, three times over."""
        stored: dict[int, Values] = {}
        exact: dict[int, Floats] = {}
        rounded: dict[int, Floats] = {}
        for index in self._given:
            tensor = self._file.tensors[index]
            if self._parts.of(index) is None:  # pixels, or what no comparison will use
                values = pixels[None] if index == self._file.input else self._whole.get(index)
                stored[index] = values
                exact[index] = rounded[index] = tensor.real(values)
                continue
            exact[index] = self._equalized(index)
            stored[index] = tensor.quantized(exact[index]) if tensor.int8 else exact[index]
            rounded[index] = tensor.real(stored[index])
        self._cut.run({stand_in: stored[index] for index, stand_in in self._given.items()})
        places = self._given_float.items()
        self._cut_float.run({stand_in: exact[index] for index, stand_in in places})
        at_exact = {
            o.output: self._cut_float.get(o.output)
            for o in self._file.operators
            if o.kind not in CONVERTERS
        }
        self._cut_float.run({stand_in: rounded[index] for index, stand_in in places})
        return _Isolated(exact, rounded, at_exact)

    def _equalized(self, index: int) -> Floats:
        values, scale = self._parts.floats(index, self._floats), self._parts.scale(index)
        values = values if scale is None else values * scale
        return np.ascontiguousarray(values, np.float32)

    def _add(self, tally: _Tallies, isolated: _Isolated) -> Floats | None:
        """Take one layer; gives its own noise as the int8 file scales it, where known."""
        index, tensor = tally.operator.output, tally.tensor
        found = self._whole.get(index)
        if tally.range is not None:
            tally.range.add_levels(found)
        if tally.apart:
            return None
        wanted, scale = self._parts.floats(index, self._floats), self._parts.scale(index)
        scaled = wanted if scale is None else wanted * scale
        inverse = None if scale is None else np.float32(1) / scale
        if tally.range is not None:
            tally.range.add_values(scaled)
        tally.noise.add(wanted, _divided(tensor.real(found), inverse))
        if not self._has_inputs(tally.operator):
            return None
        parts = self._error(tally.operator, scaled, isolated)
        tally.noise.add_isolated({name: _divided(e, inverse) for name, e in parts.items()})
        return parts["weights"] + parts["rounding"] + parts["clipping"]

    def _error(self, operator: Operator, scaled: Floats, isolated: _Isolated) -> dict[str, Floats]:
        """The parts of one operator's error at the float network's input."""
        index, tensor = operator.output, self._file.tensors[operator.output]
        made = tensor.real(self._cut.get(index))
        if operator.kind in CONVERTERS:
            source = operator.inputs[0]
            before, after = isolated.exact[source], isolated.rounded[source]
        else:
            before, after = isolated.at_exact[index], self._cut_float.get(index)
        held = np.clip(after, tensor.low, tensor.high) if tensor.int8 else after
        capped = scaled if operator.cap is None else np.minimum(scaled, np.float32(operator.cap))
        return {
            "input": after - before,
            "weights": before - capped,
            "rounding": made - held,
            "clipping": (held - after) + (capped - scaled),
        }

    def _has_inputs(self, operator: Operator) -> bool:
        return all(
            index in self._parts.pixels or self._parts.of(index) is not None
            for index in self._file.computed(operator)
        )

    def layers(self) -> tuple[Layer, ...]:
        return tuple(self._layer(tally) for tally in self._tallies)

    def _layer(self, tally: _Tallies) -> Layer:
        noise, operator, tensor = tally.noise, tally.operator, tally.tensor
        isolated = noise.isolated > 0
        return Layer(
            index=operator.index,
            tensor=tensor.name,
            kind=operator.kind,
            shape=tensor.shape,
            stored=tensor.dtype.__name__ if tensor.dtype is not None else "",
            apart=tally.apart,
            accumulated_snr_db=noise.decibels(noise.accumulated) if noise.compared else None,
            same_input_snr_db=noise.decibels(noise.same_input) if isolated else None,
            own_snr_db=noise.decibels(noise.own) if isolated else None,
            logit_sqnr_db=self.impact.decibels(operator.output),
            noise=noise.noise,
            range=tally.range.range() if tally.range is not None else None,
            channels=tally.range.channels() if tally.range is not None else None,
            weights=_weights(operator, self._file.tensors),
        )


@dataclass(frozen=True)
class _Isolated:
    """One image at the float network's inputs, equalized.

    Attributes:
        exact, rounded: the inputs, and what they become on their tensors' int8 grids.
        at_exact: results in float arithmetic at `exact`.
    """

    exact: dict[int, Floats]
    rounded: dict[int, Floats]
    at_exact: dict[int, Floats]


def _divided(values: Floats, inverse: Floats | None) -> Floats:
    return values if inverse is None else values * inverse


def _weights(operator: Operator, tensors: tuple[Tensor, ...]) -> Weights | None:
    """The scales of an operator's int8 weights, if it has any."""
    for index in operator.inputs:
        tensor = tensors[index]
        if tensor.constant is None or tensor.dtype is not np.int8 or tensor.scales.size < 2:
            continue
        rows = np.moveaxis(tensor.constant, tensor.axis, 0).reshape(tensor.scales.size, -1)
        live = np.abs(rows.astype(np.int16)).max(axis=1) > 0
        scales = tensor.scales[live] if live.any() else tensor.scales
        low, high = float(scales.min()), float(scales.max())
        zero = tuple(int(place) for place in np.flatnonzero(~live))
        return Weights(len(live), low, high, high / low if low else None, zero)
    return None
