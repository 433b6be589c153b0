"""Evaluate the neuralnetwork that a `.mlmodel` holds, in float32.

This computes what the file says, not what Apple's kernels do with it; Core ML may run
such a network in float16 on the GPU or the Neural Engine. As with programs, a layer
or field that is not known or not read is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from exporter.prove.runtimes.coreml import network_shapes
from exporter.prove.runtimes.coreml.description import Description, ImageInput
from exporter.prove.runtimes.coreml.errors import CoreMLFileError
from exporter.prove.runtimes.coreml.kernels import Array
from exporter.prove.runtimes.coreml.lifetimes import last_uses
from exporter.prove.runtimes.coreml.network_layers import LAYERS, ND_SINCE, Compute, Layer
from exporter.prove.runtimes.coreml.protos import Fields

LAYER_MODULES = (network_shapes,)  # importing them fills LAYERS
KINDS = ("neuralNetworkClassifier", "neuralNetwork")
_RANK4_IMAGE = 1


@dataclass(frozen=True, eq=False)
class _Step:
    where: str
    inputs: tuple[str, ...]
    output: str
    compute: Compute
    declared: tuple[tuple[int, ...] | None, ...]  # of the inputs, then of the output

    def run(self, values: Mapping[str, Array]) -> Array:
        inputs = [values[name] for name in self.inputs]
        try:
            result = np.asarray(self.compute(*inputs), np.float32)
        except (ValueError, IndexError, TypeError) as error:
            raise CoreMLFileError(f"{self.where} cannot be computed.", str(error)) from error
        for declared, tensor in zip(self.declared, [*inputs, result], strict=True):
            if declared is not None and declared != tensor.shape:
                raise CoreMLFileError(
                    f"{self.where} is declared with {list(declared)}, it has {list(tensor.shape)}."
                )
        return result


class Network:
    """A checked network.

    Attributes:
        labels: the class labels; None when it is no classifier.
        classes: how many probabilities it gives; known after the first run.

    Raises:
        CoreMLFileError: it has layers that are not known (all are listed), fields that
            nothing reads, or names that do not fit together.
    """

    def __init__(self, spec: Any, description: Description) -> None:
        kind = spec.WhichOneof("Type")
        self._version: int = spec.specificationVersion
        self._fields = Fields(getattr(spec, kind), "The network")
        self._image = description.image
        self._output = description.probabilities
        self.labels = self._read_labels(kind, description)
        self._rank = self._read_mapping()
        self._preprocess = _preprocessing(self._fields, self._image)
        layers = self._fields.take("layers")
        _refuse_unknown(layers, self._version)
        self._steps = [self._step(message) for message in layers]
        if self._fields.take("updateParams").ByteSize():
            raise CoreMLFileError("The network is updatable.")
        self._fields.finish()
        self._check_names()
        self._last_use = last_uses(self._steps, {self._output})
        self.shape: tuple[int, ...] = ()

    def run(self, planes: Array) -> Array:
        """Planes `[1, 3, H, W]` float32, 0..255, to float32 `[classes]`."""
        start = self._preprocess(planes)
        values = {self._image.name: start if self._rank == 4 else start[None]}
        for step in self._steps:
            values[step.output] = step.run(values)
            for name in self._last_use.get(step.output, ()):
                del values[name]
        self.shape = values[self._output].shape
        return values[self._output].reshape(-1)

    def _read_labels(self, kind: str, description: Description) -> tuple[str, ...] | None:
        if (kind == "neuralNetworkClassifier") != (description.label is not None):
            raise CoreMLFileError(f"The model is a {kind}, its description says otherwise.")
        if description.label is None:
            return None
        if self._fields.choice("ClassLabels") != "stringClassLabels":
            raise CoreMLFileError("The class labels are no names.")
        source = self._fields.take("labelProbabilityLayerName")
        if source != self._output:
            raise CoreMLFileError(
                f"The network's probabilities are {source!r}, the description says "
                f"{self._output!r}."
            )
        return tuple(self._fields.sub("stringClassLabels").take("vector"))

    def _read_mapping(self) -> int:
        image = self._fields.take("imageInputShapeMapping")
        array = self._fields.take("arrayInputShapeMapping")
        if (image or array) and self._version < ND_SINCE:
            raise CoreMLFileError(
                f"The file has specification version {self._version}.",
                f"its shape mappings need version {ND_SINCE}",
            )
        return 4 if image == _RANK4_IMAGE else 5

    def _step(self, message: Any) -> _Step:
        kind = message.WhichOneof("layer")
        where = f"The layer {message.name!r} ({kind})"
        fields = Fields(message, where)
        fields.take("name")
        inputs, outputs = tuple(fields.take("input")), tuple(fields.take("output"))
        if len(outputs) != 1 or fields.take("isUpdatable"):
            raise CoreMLFileError(f"{where} has {len(outputs)} outputs or is updatable.")
        declared = [
            _declared(fields.take(side), count, where)
            for side, count in (("inputTensor", len(inputs)), ("outputTensor", 1))
        ]
        parameters = fields.sub(kind)
        parameters.where = where
        compute = LAYERS[kind].handler(Layer(parameters, len(inputs), self._version))
        fields.finish()
        return _Step(where, inputs, outputs[0], compute, (*declared[0], *declared[1]))

    def _check_names(self) -> None:
        known, read = {self._image.name}, {self._output}
        for step in self._steps:
            missing = sorted(set(step.inputs) - known)
            if missing:
                raise CoreMLFileError(f"{step.where} reads {missing}, which nothing has made.")
            if step.output in known:
                raise CoreMLFileError(f"{step.where} makes {step.output!r} a second time.")
            known.add(step.output)
            read.update(step.inputs)
        if self._output not in known:
            raise CoreMLFileError(
                f"The description names the output {self._output!r}, which no layer makes."
            )
        unread = sorted(known - read)
        if unread:
            raise CoreMLFileError(
                f"The network makes or is given {', '.join(unread[:5])}, which nothing reads."
            )


def _refuse_unknown(layers: Any, version: int) -> None:
    strange: dict[str, list[str]] = {}
    early: dict[str, list[str]] = {}
    for message in layers:
        kind = message.WhichOneof("layer") or "no kind"
        entry = LAYERS.get(kind)
        if entry is None:
            strange.setdefault(kind, []).append(message.name)
        elif entry.since > version:
            early.setdefault(kind, []).append(message.name)
    for found, why in (
        (strange, "layers that the evaluator does not know"),
        (early, f"layers that specification version {version} does not have"),
    ):
        if found:
            listed = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in found.items())
            raise CoreMLFileError(f"The network has {why}.", listed)


def _declared(tensors: Any, count: int, where: str) -> list[tuple[int, ...] | None]:
    if not tensors:
        return [None] * count
    shapes = [tuple(int(size) for size in tensor.dimValue) for tensor in tensors]
    if len(shapes) != count or any(t.rank != len(s) for t, s in zip(tensors, shapes, strict=True)):
        raise CoreMLFileError(f"{where} declares the shapes {shapes}.")
    return list(shapes)


def _preprocessing(fields: Fields, image: ImageInput) -> Compute:
    """What the network does to the pixels first: `scale * x + bias`, or minus a mean image."""
    steps = fields.take("preprocessing")
    if not steps:
        return lambda planes: planes
    if len(steps) > 1:
        raise CoreMLFileError(f"The network has {len(steps)} preprocessing steps for one image.")
    step = Fields(steps[0], "The preprocessing")
    if step.take("featureName") not in ("", image.name):
        raise CoreMLFileError(
            f"The preprocessing is for {steps[0].featureName!r}, the input is {image.name!r}."
        )
    kind = step.choice("preprocessor")
    if kind == "meanImage":
        mean = np.array(step.sub(kind).take("meanImage"), np.float32)
        step.finish()
        if mean.size != 3 * image.height * image.width:
            raise CoreMLFileError(f"The mean image has {mean.size} values.")
        shaped = mean.reshape(1, 3, image.height, image.width)
        return lambda planes: planes - shaped
    if kind != "scaler":
        raise CoreMLFileError("The preprocessing says nothing.")
    scaler = step.sub("scaler")
    scale = np.float32(scaler.take("channelScale"))
    red, green, blue = (scaler.take(f"{colour}Bias") for colour in ("red", "green", "blue"))
    step.finish()  # grayBias has nothing to act on in a colour image, so it stays an error
    if scale == 0:
        raise CoreMLFileError("The preprocessing multiplies the image by zero.")
    order = (blue, green, red) if image.bgr else (red, green, blue)
    bias = np.array(order, np.float32).reshape(1, 3, 1, 1)
    return lambda planes: scale * planes + bias
