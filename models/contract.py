"""What goes into a classifier and what comes out of it, in one place.

Every artifact takes raw RGB pixels and gives probabilities; everything between
a photograph and those pixels, and between those probabilities and an answer, is
written down here and travels with the weights to the phone. The classes are
frozen and validated when they are made, so a contract that exists is sound.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from models.labels import Label, Venomous, labels_from_json, load_labels
from models.strict_json import ContractError, Section, read_text

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "INPUT_NAME",
    "LUMA",
    "OUTPUT_NAME",
    "Contract",
    "ContractError",
    "Label",
    "Normalization",
    "OutputActivation",
    "Preprocessing",
    "Venomous",
    "labels_from_json",
    "load_labels",
]

SCHEMA = 1
OUTPUT_NAME = "probabilities"
INPUT_NAME = "image"
IMAGENET_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
IMAGENET_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)
LUMA = (0.299, 0.587, 0.114)  # red, green, blue: ITU-R BT.601, section 2.5.1

OutputActivation = Literal["softmax", "sigmoid"]


@dataclass(frozen=True)
class Normalization:
    """Per-channel `(pixel - mean) / std`, in units of 8-bit pixel values (0..255)."""

    mean: tuple[float, float, float] = (127.5, 127.5, 127.5)
    std: tuple[float, float, float] = (127.5, 127.5, 127.5)

    def __post_init__(self) -> None:
        for what, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != 3 or not all(math.isfinite(v) for v in values):
                raise ContractError(
                    f"normalization.{what} is {list(values)}.",
                    "it holds three finite numbers, one a channel in the order red, green, blue",
                    "for (pixel / 127.5 - 1) write mean and std as [127.5, 127.5, 127.5]",
                )
        if not all(v > 0 for v in self.std):
            raise ContractError(
                f"normalization.std is {list(self.std)}.",
                "a channel cannot be divided by zero or a negative number",
                "give the standard deviation in units of 0..255 pixels",
            )


@dataclass(frozen=True)
class Preprocessing:
    """How a photograph becomes the square of pixels that every artifact takes.

    In this order: the EXIF orientation is applied, the shorter side is resized
    to `resize_shorter_side` with Pillow's antialiased bilinear filter (the longer
    side is `int(shorter_side * long / short)`), and the centre `height` x `width`
    is cropped at offsets `round((side - crop) / 2)` (half to even). The pixels are RGB, uint8,
    0..255, laid out NHWC `[1, height, width, 3]`; `normalization` happens inside
    the model. So does `grayscale`: a network of one channel still takes RGB here, and
    weighs it by `LUMA` itself, behind the normalization.
    """

    height: int = 224
    width: int = 224
    resize_shorter_side: int = 256
    interpolation: Literal["bilinear"] = "bilinear"
    antialias: Literal[True] = True
    crop: Literal["center"] = "center"
    exif: Literal["apply", "ignore"] = "apply"
    color: Literal["RGB"] = "RGB"
    layout: Literal["NHWC"] = "NHWC"
    dtype: Literal["uint8"] = "uint8"
    normalization: Normalization = field(default_factory=Normalization)
    grayscale: bool = False

    def __post_init__(self) -> None:
        for what in ("height", "width", "resize_shorter_side"):
            value = getattr(self, what)
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 4096:
                raise ContractError(
                    f"input.{what} is {value!r}.",
                    "it is a whole number of pixels from 1 to 4096",
                    "write the size that the model was trained on",
                )
        if self.resize_shorter_side < max(self.height, self.width):
            raise ContractError(
                f"The shorter side is resized to {self.resize_shorter_side}, "
                f"the crop is {self.height} x {self.width}.",
                "a crop larger than the resized picture would need padding",
                "make resize_shorter_side at least as large as the crop",
            )
        if not isinstance(self.grayscale, bool):
            raise ContractError(
                f"input.grayscale is {self.grayscale!r}.",
                "it says whether the network sees one channel: true or false",
                "leave it away for a network that takes colours",
            )
        fixed = {
            "interpolation": ("bilinear",),
            "antialias": (True,),
            "crop": ("center",),
            "exif": ("apply", "ignore"),
            "color": ("RGB",),
            "layout": ("NHWC",),
            "dtype": ("uint8",),
        }
        for what, allowed in fixed.items():
            if getattr(self, what) not in allowed:
                raise ContractError(
                    f"input.{what} is {getattr(self, what)!r}.",
                    "this exporter knows: " + ", ".join(map(str, allowed)),
                    "train with that rule, or export with the nearest and look at the accuracy",
                )


@dataclass(frozen=True)
class Contract:
    """Everything an app has to know about a classifier.

    Attributes:
        labels: the classes in the order of the outputs, at least two, no name twice.
        preprocessing: from a photograph to pixels.
        activation: 'softmax' (exactly one class) or 'sigmoid' (any number of them).
        not_sure_threshold: the answer is 'not sure' when the largest probability
            is below it; in [0, 1]. With sigmoid and without `thresholds` it is the
            threshold of every class.
        thresholds: one a class, in [0, 1], for sigmoid only: a class is in the picture
            where its probability is at or above its threshold; where none is, the answer
            is 'not sure'. None where all classes share `not_sure_threshold`.
        name: what the model is called in the files' metadata.
        architecture: the zoo's name for it, or 'onnx' for a file that came in.
    """

    labels: tuple[Label, ...]
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    activation: OutputActivation = "softmax"
    not_sure_threshold: float = 0.5
    name: str = "classifier"
    architecture: str = "onnx"
    thresholds: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if len(self.labels) < 2:
            raise ContractError(
                f"The contract has {len(self.labels)} label(s).",
                "a classifier tells at least two classes apart",
                "list every class, in the order of the model's outputs",
            )
        seen: set[str] = set()
        for label in self.labels:
            if label.name in seen:
                raise ContractError(
                    f"The label {label.name!r} is there twice.",
                    "an app could not tell the two outputs apart",
                    "give each class a name of its own",
                )
            seen.add(label.name)
        if self.activation not in get_args(OutputActivation):
            raise ContractError(
                f"output.activation is {self.activation!r}.",
                "it is one of: " + ", ".join(get_args(OutputActivation)),
                "use softmax for one class out of many, sigmoid for any number of them",
            )
        threshold = self.not_sure_threshold
        if not isinstance(threshold, int | float) or not 0.0 <= threshold <= 1.0:
            raise ContractError(
                f"output.not_sure_threshold is {threshold!r}.",
                "probabilities lie between 0 and 1",
                "0 never says 'not sure', 1 always does; 0.5 is the default",
            )
        if self.thresholds is not None:
            object.__setattr__(self, "thresholds", self._checked_thresholds(self.thresholds))

    def _checked_thresholds(self, given: Sequence[float]) -> tuple[float, ...]:
        if self.activation != "sigmoid":
            raise ContractError(
                f"output.thresholds are given, output.activation is {self.activation}.",
                "a threshold for each class is for models that may give several answers",
                "remove output.thresholds: not_sure_threshold serves one class out of many",
            )
        if len(given) != len(self.labels):
            raise ContractError(
                f"output.thresholds has {len(given)} number(s), there are "
                f"{len(self.labels)} labels.",
                "each class has a threshold of its own, in the order of the labels",
                "give one for every class, or remove them all",
            )
        for label, value in zip(self.labels, given, strict=True):
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not 0.0 <= value <= 1.0:
                raise ContractError(
                    f"The threshold of {label.name!r} in output.thresholds is {value!r}.",
                    "probabilities lie between 0 and 1",
                    "0 always finds the class, 1 hardly ever; 0.5 is usual",
                )
        return tuple(float(value) for value in given)

    @property
    def multi_label(self) -> bool:
        """Whether a picture may show several classes, or none."""
        return self.activation == "sigmoid"

    @property
    def class_thresholds(self) -> tuple[float, ...]:
        """The probability from which each class counts, in the order of the labels."""
        return self.thresholds or (float(self.not_sure_threshold),) * len(self.labels)

    @property
    def names(self) -> tuple[str, ...]:
        """The label names in output order."""
        return tuple(label.name for label in self.labels)

    @property
    def label_hash(self) -> str:
        """sha256 (hex) over the labels with their attributes, in order."""
        canonical = json.dumps(
            [label.to_json() for label in self.labels],
            ensure_ascii=False,
            sort_keys=True,
            separators=(",", ":"),
        )
        return hashlib.sha256(canonical.encode("utf-8")).hexdigest()

    def to_json(self) -> dict[str, Any]:
        pre = self.preprocessing
        grayscale = {"grayscale": True} if pre.grayscale else {}
        thresholds = {} if self.thresholds is None else {"thresholds": list(self.thresholds)}
        return {
            "schema": SCHEMA,
            "name": self.name,
            "architecture": self.architecture,
            "input": {
                "name": INPUT_NAME,
                "height": pre.height,
                "width": pre.width,
                "layout": pre.layout,
                "dtype": pre.dtype,
                "color": pre.color,
                "exif": pre.exif,
                "resize_shorter_side": pre.resize_shorter_side,
                "interpolation": pre.interpolation,
                "antialias": pre.antialias,
                "crop": pre.crop,
                **grayscale,
            },
            "normalization": {
                "mean": list(pre.normalization.mean),
                "std": list(pre.normalization.std),
                "where": "inside the model",
            },
            "output": {
                "name": OUTPUT_NAME,
                "activation": self.activation,
                "not_sure_threshold": self.not_sure_threshold,
                **thresholds,
            },
            "label_hash": self.label_hash,
            "labels": [label.to_json() for label in self.labels],
        }

    def dumps(self, compact: bool = False) -> str:
        """The JSON text of `contract.json`, the same bytes for the same contract.

        Args:
            compact: without the blanks that a person likes, and a label that is a name
                alone as that name; a fifth of the size.
        """
        content = self.to_json()
        if not compact:
            return json.dumps(content, ensure_ascii=False, indent=2) + "\n"
        content["labels"] = [
            label.name if label == Label(label.name) else label.to_json() for label in self.labels
        ]
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n"

    @classmethod
    def from_json(cls, data: Any) -> Contract:
        """Read what `to_json` wrote.

        Raises:
            ContractError: a key is missing or unknown, a value has the wrong type,
                or the stored label hash is not that of the labels.
        """
        root = Section(data, "contract")
        schema = root.take("schema", int)
        if schema != SCHEMA:
            raise ContractError(
                f"The contract has schema {schema}.",
                f"this exporter reads schema {SCHEMA}",
                "export the model again, or update the exporter",
            )
        given = root.section("input")
        norm = root.section("normalization")
        output = root.section("output")
        given.take("name", str, INPUT_NAME)
        norm.take("where", str, "")
        output.take("name", str, OUTPUT_NAME)
        normalization = Normalization(norm.numbers("mean"), norm.numbers("std"))
        norm.done()
        defaults = Preprocessing()
        options = {
            key: given.take(key, type(getattr(defaults, key)), getattr(defaults, key))
            for key in ("layout", "dtype", "color", "exif", "interpolation", "antialias", "crop")
        }
        preprocessing = Preprocessing(
            height=given.take("height", int),
            width=given.take("width", int),
            resize_shorter_side=given.take("resize_shorter_side", int),
            normalization=normalization,
            grayscale=given.take("grayscale", bool, False),
            **options,
        )
        given.done()
        given_thresholds = "thresholds" in output
        thresholds = output.take("thresholds", list, [])
        contract = cls(
            labels=labels_from_json(root.take("labels", list)),
            preprocessing=preprocessing,
            activation=output.take("activation", str),
            not_sure_threshold=output.take("not_sure_threshold", (int, float), 0.5),
            name=root.take("name", str, "classifier"),
            architecture=root.take("architecture", str, "onnx"),
            thresholds=tuple(thresholds) if given_thresholds else None,
        )
        output.done()
        stored = root.take("label_hash", str, contract.label_hash)
        root.done()
        if stored != contract.label_hash:
            raise ContractError(
                "The contract's label_hash does not match its labels.",
                f"it says {stored[:12]}..., the labels give {contract.label_hash[:12]}...",
                "the labels were edited by hand: remove label_hash to accept them as they are",
            )
        return contract

    @classmethod
    def loads(cls, text: str, origin: str = "contract") -> Contract:
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise ContractError(
                f"{origin} is not JSON.",
                f"line {error.lineno}, column {error.colno}: {error.msg}",
                "write it as exporter does: see contract.json in any dist folder",
            ) from error
        return cls.from_json(data)

    @classmethod
    def load(cls, path: Path) -> Contract:
        return cls.loads(read_text(path, "contract"), str(path))
