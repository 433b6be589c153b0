"""Damaged neuralnetwork files: each is refused, or its numbers give it away."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporter.prove.runtimes.coreml import CoreMLFileError, CoreMLRuntime
from support.coreml_files import CONTRACT, Samples, edit, needs_coremltools, samples

pytestmark = needs_coremltools


@pytest.fixture(scope="module")
def made() -> Samples:
    return samples()


def layers(spec: Any, kind: str) -> list[Any]:
    return [x for x in spec.neuralNetworkClassifier.layers if x.WhichOneof("layer") == kind]


def lower_version(spec: Any) -> None:
    spec.specificationVersion = 3


def unknown_layers(spec: Any) -> None:
    for layer in layers(spec, "clip")[:2]:
        layer.erf.SetInParent()
    layers(spec, "softmaxND")[0].mvn.epsilon = 1.0


def unread_field(spec: Any) -> None:
    layers(spec, "add")[0].add.alpha = 3.0


def second_preprocessing(spec: Any) -> None:
    steps = spec.neuralNetworkClassifier.preprocessing
    steps.add().CopyFrom(steps[0])


def gray_bias(spec: Any) -> None:
    spec.neuralNetworkClassifier.preprocessing[0].scaler.grayBias = 1.0


def zero_scale(spec: Any) -> None:
    spec.neuralNetworkClassifier.preprocessing[0].scaler.channelScale = 0.0


def other_image_preprocessed(spec: Any) -> None:
    spec.neuralNetworkClassifier.preprocessing[0].featureName = "picture"


def truncate_weights(spec: Any) -> None:
    del layers(spec, "convolution")[3].convolution.weights.floatValue[-5:]


def two_kinds_of_weights(spec: Any) -> None:
    layers(spec, "convolution")[3].convolution.weights.float16Value = b"\x00\x00"


def drop_label(spec: Any) -> None:
    del spec.neuralNetworkClassifier.stringClassLabels.vector[-1]


def double_label(spec: Any) -> None:
    vector = spec.neuralNetworkClassifier.stringClassLabels.vector
    vector[1] = vector[0]


def swap_labels(spec: Any) -> None:
    vector = spec.neuralNetworkClassifier.stringClassLabels.vector
    vector[0], vector[1] = vector[1], vector[0]


def swap_labels_everywhere(spec: Any) -> None:
    swap_labels(spec)
    del spec.description.metadata.userDefined["contract"]


def other_probabilities(spec: Any) -> None:
    spec.neuralNetworkClassifier.labelProbabilityLayerName = "linear_0"


def rename_input(spec: Any) -> None:
    spec.description.input[0].name = "picture"


def rename_input_and_preprocessing(spec: Any) -> None:
    rename_input(spec)
    other_image_preprocessed(spec)


def wrong_channels(spec: Any) -> None:
    layers(spec, "convolution")[0].convolution.nGroups = 3


def wrong_declared_shape(spec: Any) -> None:
    tensor = layers(spec, "clip")[0].outputTensor.add()
    tensor.rank = 4
    tensor.dimValue.extend([1, 16, 31, 32])


def change_image_size(spec: Any) -> None:
    spec.description.input[0].type.imageType.height = 96


def no_padding(spec: Any) -> None:
    layers(spec, "convolution")[0].convolution.ClearField("valid")


def updatable_layer(spec: Any) -> None:
    layers(spec, "convolution")[0].isUpdatable = True


REFUSED: list[tuple[Callable[[Any], None], list[str]]] = [
    (lower_version, ["specification version 3"]),
    (unknown_layers, ["erf: clip_0, clip_1", "mvn: probabilities"]),
    (unread_field, ["(add) sets alpha"]),
    (second_preprocessing, ["2 preprocessing steps"]),
    (gray_bias, ["grayBias"]),
    (zero_scale, ["by zero"]),
    (other_image_preprocessed, ["'picture'"]),
    (truncate_weights, ["values;", "are needed"]),
    (two_kinds_of_weights, ["float32", "float16"]),
    (drop_label, ["9 class labels and 10 probabilities"]),
    (double_label, ["there twice", "species 0"]),
    (swap_labels, ["not those of the contract in the user metadata"]),
    (other_probabilities, ["'linear_0'"]),
    (rename_input, ["the input is 'picture'"]),
    (rename_input_and_preprocessing, ["reads ['image'], which nothing has made"]),
    (wrong_channels, ["conv_0"]),
    (wrong_declared_shape, ["clip_0", "[1, 16, 31, 32]"]),
    (change_image_size, ["64 x 96"]),
    (no_padding, ["does not say how it is padded"]),
    (updatable_layer, ["updatable"]),
]


@pytest.mark.parametrize(
    ("change", "words"), REFUSED, ids=[change.__name__ for change, _ in REFUSED]
)
def test_a_contradiction_is_refused(
    made: Samples, tmp_path: Path, change: Callable[[Any], None], words: list[str]
) -> None:
    path = edit(made.path("network.mlmodel"), tmp_path, change)
    with pytest.raises(CoreMLFileError) as caught:
        CoreMLRuntime(run_natively=False).open(path, CONTRACT)
    for word in [*words, "network.mlmodel"]:
        assert word in str(caught.value)


@pytest.mark.parametrize("version", [1, 2])
def test_quantized_weights_need_their_specification_version(
    made: Samples, tmp_path: Path, version: int
) -> None:
    def change(spec: Any) -> None:
        spec.specificationVersion = version

    path = edit(made.path("network_4_linear.mlmodel"), tmp_path, change)
    with pytest.raises(CoreMLFileError, match=f"specification version {version}"):
        CoreMLRuntime(run_natively=False).open(path, CONTRACT)


def move_clip_bound(spec: Any) -> None:
    layers(spec, "clip")[4].clip.maxVal = 5.0


def zero_weights(spec: Any) -> None:
    weights = max(layers(spec, "convolution"), key=lambda x: len(x.convolution.weights.floatValue))
    values = weights.convolution.weights.floatValue
    values[:1000] = [0.0] * 1000  # 4,000 bytes


def shift_red(spec: Any) -> None:
    spec.neuralNetworkClassifier.preprocessing[0].scaler.redBias = 40.0


def swap_padding(spec: Any) -> None:
    convolution = layers(spec, "convolution")[0].convolution
    for edges in convolution.valid.paddingAmounts.borderAmounts:
        edges.startEdgeSize, edges.endEdgeSize = 0, 2


@pytest.mark.parametrize(
    "change", [move_clip_bound, zero_weights, swap_labels_everywhere, shift_red, swap_padding]
)
def test_a_file_that_is_sound_but_wrong_gives_other_probabilities(
    made: Samples, tmp_path: Path, change: Callable[[Any], None]
) -> None:
    path = edit(made.path("network.mlmodel"), tmp_path, change)
    with CoreMLRuntime(run_natively=False).open(path, CONTRACT) as session:
        found = np.stack([session.probabilities(image) for image in made.pixels])
    assert np.abs(found - made.expected).max() > 1e-2
