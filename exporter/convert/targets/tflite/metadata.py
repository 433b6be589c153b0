"""TFLite Metadata: what goes in, what comes out, and the labels, inside the file.

The tables are those of `metadata_schema.fbs` (TensorFlow Lite Support), written
slot by slot, since the package that carries generated code for them is large and
holds nothing else that is needed. Associated files are appended as a ZIP archive,
stored without compression, so that `labels.txt` can be read with any ZIP reader
and mapped into memory on the phone.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import flatbuffers
import numpy as np

from exporter.convert.graph import GraphInput
from exporter.convert.targets.thresholds import in_words
from models.contract import INPUT_NAME, OUTPUT_NAME, Contract

METADATA_KEY = "TFLITE_METADATA"
LABELS_FILE = "labels.txt"
THRESHOLDS_FILE = "score_calibration.csv"
CONTRACT_FILE = "contract.json"
_IDENTIFIER = b"M001"
_JUST_UNDER, _SMALLEST = 1 - 1e-6, 1e-6  # clients compute the logistic in float32
_PARSER_VERSION = "1.0.0"  # every table used here was there from the first parser on
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest a ZIP can say, so that bytes never depend on time
_UNIX = 3

# Enumerations and unions of the schema.
_DESCRIPTIONS, _TENSOR_AXIS_LABELS = 1, 2
_RGB = 1
_FEATURE_PROPERTIES, _IMAGE_PROPERTIES = 1, 2
_NORMALIZATION_OPTIONS, _SCORE_CALIBRATION_OPTIONS, _SCORE_THRESHOLDING_OPTIONS = 1, 2, 3
_TENSOR_AXIS_SCORE_CALIBRATION = 4
_INVERSE_LOGISTIC = 2  # what undoes the sigmoid of the calibration


@dataclass(frozen=True)
class About:
    """Who made the model and under what terms, for a person who opens the file.

    Attributes:
        version: of the model.
        author: a person or organization.
        license: the terms, in words or as an SPDX identifier.
    """

    version: str = "1"
    author: str = ""
    license: str = ""


class _Tables:
    """A flatbuffers builder that takes a table as its list of fields, in slot order."""

    def __init__(self) -> None:
        self.builder = flatbuffers.Builder(4096)

    def text(self, value: str) -> int:
        return int(self.builder.CreateString(value))

    def vector(self, offsets: Sequence[int]) -> int:
        self.builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self.builder.PrependUOffsetTRelative(offset)
        return int(self.builder.EndVector())

    def floats(self, values: Sequence[float]) -> int:
        self.builder.StartVector(4, len(values), 4)
        for value in reversed(values):
            self.builder.PrependFloat32(value)
        return int(self.builder.EndVector())

    def table(self, slots: int, fields: Mapping[int, tuple[str, float]]) -> int:
        """A table; each field is ('offset' | 'byte' | 'uint' | 'float', value) by slot."""
        self.builder.StartObject(slots)
        for slot, (kind, value) in fields.items():
            if kind == "offset":
                self.builder.PrependUOffsetTRelativeSlot(slot, int(value), 0)
            elif kind == "byte":
                self.builder.PrependInt8Slot(slot, int(value), 0)
            elif kind == "float":
                self.builder.PrependFloat32Slot(slot, value, 0.0)
            else:
                self.builder.PrependUint32Slot(slot, int(value), 0)
        return int(self.builder.EndObject())

    def finish(self, root: int) -> bytes:
        self.builder.Finish(root, file_identifier=_IDENTIFIER)
        return bytes(self.builder.Output())


def metadata_buffer(contract: Contract, source: GraphInput, about: About) -> bytes:
    """The flatbuffer that goes into the model under `METADATA_KEY`."""
    to = _Tables()
    labels = _associated_file(
        to, LABELS_FILE, "one label a line, in the order of the scores", _TENSOR_AXIS_LABELS
    )
    whole = _associated_file(
        to, CONTRACT_FILE, "what goes in and what comes out, in full", _DESCRIPTIONS
    )
    inputs = to.vector([_input_tensor(to, contract, source)])
    outputs = to.vector([_output_tensor(to, contract, labels)])
    graph = to.table(10, {2: ("offset", inputs), 3: ("offset", outputs)})
    fields = {
        0: ("offset", to.text(contract.name)),
        1: ("offset", to.text(_describe(contract))),
        2: ("offset", to.text(about.version)),
        3: ("offset", to.vector([graph])),
        4: ("offset", to.text(about.author)),
        5: ("offset", to.text(about.license)),
        6: ("offset", to.vector([whole])),
        7: ("offset", to.text(_PARSER_VERSION)),
    }
    return to.finish(to.table(8, fields))


def _describe(contract: Contract) -> str:
    rule = contract.preprocessing
    return (
        f"{contract.architecture}: {len(contract.labels)} classes, {contract.activation}. "
        f"Raw RGB pixels in, probabilities out; {in_words(contract)}. "
        f"Resize the shorter side to {rule.resize_shorter_side} (bilinear, antialiased) and "
        f"crop the centre {rule.height} x {rule.width}."
    )


def _associated_file(to: _Tables, name: str, description: str, kind: int) -> int:
    title, text = to.text(name), to.text(description)
    return to.table(5, {0: ("offset", title), 1: ("offset", text), 2: ("byte", kind)})


def _input_tensor(to: _Tables, contract: Contract, source: GraphInput) -> int:
    """The pixels.

    The normalization named here leads from pixels to the tensor's own real values,
    `scale * (pixel - zero_point)`, as the schema has it for quantized inputs: a client
    that normalizes and then quantizes gives the file its pixels unchanged. What the
    network was trained with happens inside.
    """
    rule = contract.preprocessing
    size = to.table(2, {0: ("uint", rule.width), 1: ("uint", rule.height)})
    image = to.table(2, {0: ("byte", _RGB), 1: ("offset", size)})
    content = to.table(3, {0: ("byte", _IMAGE_PROPERTIES), 1: ("offset", image)})
    mean, std = to.floats([float(source.zero_point)]), to.floats([1.0 / source.scale])
    options = to.table(2, {0: ("offset", mean), 1: ("offset", std)})
    unit = to.table(2, {0: ("byte", _NORMALIZATION_OPTIONS), 1: ("offset", options)})
    stats = to.table(2, {0: ("offset", to.floats([255.0])), 1: ("offset", to.floats([0.0]))})
    fields = {
        0: ("offset", to.text(INPUT_NAME)),
        1: ("offset", to.text("raw RGB pixels, uint8, 0..255; nothing to normalize")),
        3: ("offset", content),
        4: ("offset", to.vector([unit])),
        5: ("offset", stats),
    }
    return to.table(7, fields)


def _output_tensor(to: _Tables, contract: Contract, labels: int) -> int:
    feature = to.table(0, {})
    content = to.table(3, {0: ("byte", _FEATURE_PROPERTIES), 1: ("offset", feature)})
    stats = to.table(2, {0: ("offset", to.floats([1.0])), 1: ("offset", to.floats([0.0]))})
    fields = {
        0: ("offset", to.text(OUTPUT_NAME)),
        1: ("offset", to.text(f"{contract.activation} score of each label, 0..1")),
        3: ("offset", content),
        5: ("offset", stats),
        6: ("offset", to.vector([labels])),
    }
    if contract.multi_label:
        text = "below its threshold a class scores 0: scale, slope, offset, smallest score"
        file = _associated_file(to, THRESHOLDS_FILE, text, _TENSOR_AXIS_SCORE_CALIBRATION)
        fields[4] = ("offset", to.vector(_threshold_units(to, contract)))
        fields[6] = ("offset", to.vector([labels, file]))
    return to.table(7, fields)


def _threshold_units(to: _Tables, contract: Contract) -> list[int]:
    """How a client finds the classes that are there, from the metadata alone.

    The schema has one threshold for all classes, and a calibration of scores by class: the
    logistic function of a line, of the score's logit here, where the score exceeds a number of
    its own, else a fixed score. With the identity for a line that is a threshold for each
    class: those below score 0, and the threshold for all, just under the lowest, drops them.
    """
    transformed = to.table(2, {0: ("byte", _INVERSE_LOGISTIC), 1: ("float", 0.0)})
    lowest = max(min(contract.class_thresholds) * _JUST_UNDER, _SMALLEST)
    limit = to.table(1, {0: ("float", lowest)})
    return [
        to.table(2, {0: ("byte", _SCORE_CALIBRATION_OPTIONS), 1: ("offset", transformed)}),
        to.table(2, {0: ("byte", _SCORE_THRESHOLDING_OPTIONS), 1: ("offset", limit)}),
    ]


def thresholds_csv(contract: Contract) -> str:
    """One line a class: scale 1, slope 1, offset 0, and the number that a score must exceed.

    A class is there at its threshold already, so that number is the float32 before it. No
    line ends after the last class: MediaPipe takes what follows for another one.
    """
    before = [np.nextafter(np.float32(t), np.float32(0)) for t in contract.class_thresholds]
    return "\n".join(f"1.0,1.0,0.0,{float(limit):.9g}" for limit in before)


def with_associated_files(model: bytes, contract: Contract) -> bytes:
    """The model followed by a ZIP of `labels.txt`, `contract.json` and, where there may be
    several answers, their thresholds.

    Flatbuffer readers start at the front and never see it; ZIP readers start at the
    end, and the offsets in it count from the front of the whole file. Nothing is
    deflated: MediaPipe refuses a model that holds a deflated file.
    """
    files = {
        LABELS_FILE: "".join(f"{name}\n" for name in contract.names),
        **({THRESHOLDS_FILE: thresholds_csv(contract)} if contract.multi_label else {}),
        CONTRACT_FILE: contract.dumps(compact=True),
    }
    stream = io.BytesIO(model)
    with zipfile.ZipFile(stream, mode="a", compression=zipfile.ZIP_STORED) as archive:
        for name, text in files.items():
            entry = zipfile.ZipInfo(name, date_time=_EPOCH)
            entry.create_system = _UNIX
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, text.encode("utf-8"))
    return stream.getvalue()
