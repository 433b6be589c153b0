"""What the model description promises: one image in, class probabilities out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from exporter.prove.runtimes.coreml.errors import CoreMLFileError
from models.contract import Contract, ContractError

_RGB, _BGR = 20, 30
CONTRACT_KEY = "contract"


@dataclass(frozen=True)
class ImageInput:
    """The image that Core ML hands to the model, scaled to this size by no one.

    Attributes:
        name: the input's name in the description and in the program or network.
        height, width: in pixels.
        bgr: whether the planes come in the order blue, green, red.
    """

    name: str
    height: int
    width: int
    bgr: bool


@dataclass(frozen=True)
class Description:
    """Input and outputs.

    Attributes:
        image: the only input.
        probabilities: name of the output with the probabilities.
        label: name of the output with the most probable label; None when the model
            is no classifier and gives its probabilities as a plain array.
    """

    image: ImageInput
    probabilities: str
    label: str | None

    @property
    def outputs(self) -> set[str]:
        return {self.probabilities} | ({self.label} if self.label else set())


def read_description(spec: Any) -> Description:
    """Check the description of a `CoreML.Specification.Model` by itself.

    Raises:
        CoreMLFileError: it is not one fixed-size colour image in and class
            probabilities out, or it names an output that it does not list.
    """
    described = spec.description
    if spec.isUpdatable or described.trainingInput:
        raise CoreMLFileError("The model is updatable.", "only finished classifiers are evaluated")
    if described.functions or described.defaultFunctionName or described.state:
        raise CoreMLFileError(
            "The model has several functions or keeps state.",
            "a classifier has one function and no state",
        )
    label, probabilities = _outputs(described)
    return Description(_image(described), probabilities, label)


def _image(described: Any) -> ImageInput:
    if len(described.input) != 1:
        names = [feature.name for feature in described.input]
        raise CoreMLFileError(
            f"The description has {len(names)} inputs: {names}.", "a classifier takes one image"
        )
    feature = described.input[0]
    if feature.type.WhichOneof("Type") != "imageType" or feature.type.isOptional:
        raise CoreMLFileError(
            f"The input {feature.name!r} is {feature.type.WhichOneof('Type')}.",
            "a classifier takes an image that is not optional",
        )
    image = feature.type.imageType
    if image.WhichOneof("SizeFlexibility") is not None:
        raise CoreMLFileError(f"The input {feature.name!r} has no fixed size.")
    if image.colorSpace not in (_RGB, _BGR):
        raise CoreMLFileError(
            f"The input {feature.name!r} has colour space number {image.colorSpace}.",
            "RGB (20) and BGR (30) are evaluated",
        )
    if image.width < 1 or image.height < 1:
        raise CoreMLFileError(f"The input image is {image.width} x {image.height}.")
    return ImageInput(feature.name, image.height, image.width, image.colorSpace == _BGR)


def _outputs(described: Any) -> tuple[str | None, str]:
    types = {feature.name: feature.type for feature in described.output}
    if len(types) != len(described.output):
        raise CoreMLFileError("The description names an output twice.")
    label, probabilities = described.predictedFeatureName, described.predictedProbabilitiesName
    if not label and not probabilities:
        if [t.WhichOneof("Type") for t in types.values()] != ["multiArrayType"]:
            raise CoreMLFileError(
                f"The description has the outputs {sorted(types)} and names none as predicted.",
                "a classifier names its label and its probabilities",
            )
        return None, next(iter(types))
    for role, name in (("label", label), ("probabilities", probabilities)):
        if name not in types:
            raise CoreMLFileError(
                f"The description names {name!r} as the output for the {role}.",
                f"its outputs are {sorted(types)}",
            )
    if len(types) != 2:
        raise CoreMLFileError(f"The description has the outputs {sorted(types)}.", "two are known")
    if types[label].WhichOneof("Type") != "stringType":
        raise CoreMLFileError(f"The output {label!r} is no string.", "labels are names")
    kind = types[probabilities]
    if (
        kind.WhichOneof("Type") != "dictionaryType"
        or kind.dictionaryType.WhichOneof("KeyType") != "stringKeyType"
    ):
        raise CoreMLFileError(
            f"The output {probabilities!r} is no dictionary from names to probabilities."
        )
    return label, probabilities


def check_array_output(spec: Any, name: str, shape: tuple[int, ...]) -> None:
    """Hold a plain array output's described shape against the computed one.

    Raises:
        CoreMLFileError: they differ.
    """
    array = next(f for f in spec.description.output if f.name == name).type.multiArrayType
    if array.shape and tuple(array.shape) != shape:
        raise CoreMLFileError(
            f"The output {name!r} is described as {list(array.shape)}, computed is {list(shape)}."
        )


def check_labels(spec: Any, labels: tuple[str, ...] | None, classes: int) -> None:
    """Hold the class labels against the probabilities and the contract in the metadata.

    Raises:
        CoreMLFileError: their number is not that of the probabilities, a name is there
            twice, or the contract stored in the user metadata lists others.
    """
    if labels is not None:
        if len(labels) != classes:
            raise CoreMLFileError(
                f"The file has {len(labels)} class labels and {classes} probabilities."
            )
        if len(set(labels)) != len(labels):
            twice = sorted({name for name in labels if labels.count(name) > 1})
            raise CoreMLFileError(f"These class labels are there twice: {twice[:5]}.")
    text = spec.description.metadata.userDefined.get(CONTRACT_KEY)
    if text is None:
        return
    try:
        stored = Contract.loads(text, "the contract in the user metadata").names
    except ContractError as error:
        raise CoreMLFileError(error.what, error.why) from error
    if len(stored) != classes or (labels is not None and stored != labels):
        wrong = [f"{a!r} is {b!r}" for a, b in zip(labels or (), stored, strict=False) if a != b]
        raise CoreMLFileError(
            "The class labels are not those of the contract in the user metadata.",
            f"{len(labels or ())} against {len(stored)}; in the contract " + ", ".join(wrong[:3]),
        )
