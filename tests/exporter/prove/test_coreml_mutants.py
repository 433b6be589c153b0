"""Damaged Core ML programs: each is refused, or its numbers give it away."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporter.prove.runtimes.coreml import CoreMLFileError, CoreMLRuntime
from models.contract import Contract, Label
from support.coreml_files import (
    CONTRACT,
    SPEC_IN_PACKAGE,
    WEIGHTS_IN_PACKAGE,
    Samples,
    edit,
    needs_coremltools,
    operations,
    samples,
)

pytestmark = needs_coremltools
FLOAT16, RGB, BGR, GRAYSCALE = 10, 20, 30, 10


@pytest.fixture(scope="module")
def made() -> Samples:
    return samples()


@pytest.fixture
def package(made: Samples, tmp_path: Path) -> Path:
    copy = tmp_path / "copy.mlpackage"
    shutil.copytree(made.path("float32.mlpackage"), copy)
    return copy


def answers(path: Path, made: Samples, contract: Contract = CONTRACT) -> np.ndarray:
    with CoreMLRuntime(run_natively=False).open(path, contract) as session:
        return np.stack([session.probabilities(image) for image in made.pixels])


def refusal(path: Path, contract: Contract = CONTRACT) -> str:
    with pytest.raises(CoreMLFileError) as caught:
        CoreMLRuntime(run_natively=False).open(path, contract)
    assert caught.value.mend
    return str(caught.value)


# --- refused -------------------------------------------------------------------------


def lower_version(spec: Any) -> None:
    spec.specificationVersion = 6


def raise_version(spec: Any) -> None:
    spec.specificationVersion = 99


def older_opset(spec: Any) -> None:
    function = spec.mlProgram.functions["main"]
    function.block_specializations["CoreML5"].CopyFrom(function.block_specializations["CoreML6"])
    del function.block_specializations["CoreML6"]
    function.opset = "CoreML5"


def strange_opset(spec: Any) -> None:
    spec.mlProgram.functions["main"].opset = "CoreML77"


def add_unread_input(spec: Any) -> None:
    conv = operations(spec, "conv")[2]
    conv.inputs["interleave"].CopyFrom(conv.inputs["groups"])


def add_unread_attribute(spec: Any) -> None:
    clip = operations(spec, "clip")[0]
    const = operations(spec, "const")[0]
    clip.attributes["beta_again"].CopyFrom(const.attributes["val"])


def add_unread_constant(spec: Any) -> None:
    function = spec.mlProgram.functions["main"]
    operation = function.block_specializations[function.opset].operations.add()
    operation.CopyFrom(operations(spec, "const")[0])
    operation.outputs[0].name = "nobody"


def add_unknown_field(spec: Any) -> None:
    spec.mlProgram.MergeFromString(bytes([0xA2, 0x06, 0x01, 0x00]))  # field 100, one byte


def drop_operand(spec: Any) -> None:
    del operations(spec, "add")[0].inputs["y"]


def rename_operand(spec: Any) -> None:
    operations(spec, "add")[0].inputs["y"].arguments[0].name = "nobody"


def change_declared_shape(spec: Any) -> None:
    operations(spec, "conv")[3].outputs[0].type.tensorType.dimensions[1].constant.size += 1


def change_declared_type(spec: Any) -> None:
    operations(spec, "conv")[3].outputs[0].type.tensorType.dataType = FLOAT16


def change_constant_type(spec: Any) -> None:
    big = next(c for c in operations(spec, "const") if _is_blob(c))
    big.outputs[0].type.tensorType.dataType = FLOAT16
    big.attributes["val"].type.tensorType.dataType = FLOAT16


def unknown_operations(spec: Any) -> None:
    for op in operations(spec, "clip")[:2]:
        op.type = "clamp_twice"
    operations(spec, "softmax")[0].type = "sharpmax"


def change_image_size(spec: Any) -> None:
    spec.description.input[0].type.imageType.width = 96


def make_image_gray(spec: Any) -> None:
    spec.description.input[0].type.imageType.colorSpace = GRAYSCALE


def make_image_flexible(spec: Any) -> None:
    sizes = spec.description.input[0].type.imageType.imageSizeRange
    sizes.widthRange.upperBound = 500


def rename_input(spec: Any) -> None:
    spec.description.input[0].name = "picture"


def name_missing_probabilities(spec: Any) -> None:
    spec.description.predictedProbabilitiesName = "scores"


def rename_output(spec: Any) -> None:
    for feature in spec.description.output:
        if feature.name == spec.description.predictedProbabilitiesName:
            feature.name = "scores"
    spec.description.predictedProbabilitiesName = "scores"


def add_output(spec: Any) -> None:
    spec.description.output.add().CopyFrom(spec.description.output[0])
    spec.description.output[-1].name = "another"


def swap_classes(spec: Any) -> None:
    values = operations(spec, "classify")[0].inputs["classes"].arguments[0].value
    names = values.immediateValue.list.values
    first = names[0].immediateValue.tensor.strings.values
    second = names[1].immediateValue.tensor.strings.values
    first[0], second[0] = second[0], first[0]


def drop_class(spec: Any) -> None:
    value = operations(spec, "classify")[0].inputs["classes"].arguments[0].value
    del value.immediateValue.list.values[-1]
    value.type.listType.length.constant.size -= 1


def miscount_classes(spec: Any) -> None:
    value = operations(spec, "classify")[0].inputs["classes"].arguments[0].value
    value.type.listType.length.constant.size += 1


def _is_blob(constant: Any) -> bool:
    return constant.attributes["val"].WhichOneof("value") == "blobFileValue"


def move_offset_between_blobs(spec: Any) -> None:
    weight = next(c for c in operations(spec, "const") if _is_blob(c))
    weight.attributes["val"].blobFileValue.offset += 64


def move_offset_to_another_blob(spec: Any) -> None:
    blobs: dict[str, list[Any]] = {}
    for constant in operations(spec, "const"):
        if _is_blob(constant):
            blobs.setdefault(str(constant.outputs[0].type), []).append(constant)
    first, second, *_ = next(same for same in blobs.values() if len(same) > 1)
    first.attributes["val"].blobFileValue.offset = second.attributes["val"].blobFileValue.offset


def rename_weight_file(spec: Any) -> None:
    weight = next(c for c in operations(spec, "const") if _is_blob(c))
    weight.attributes["val"].blobFileValue.fileName = "@model_path/../../Manifest.json"


def add_function(spec: Any) -> None:
    spec.mlProgram.functions["other"].CopyFrom(spec.mlProgram.functions["main"])


REFUSED: list[tuple[Callable[[Any], None], list[str]]] = [
    (lower_version, ["specification version 6", "CoreML6 needs version 7"]),
    (raise_version, ["specification version 99"]),
    (strange_opset, ["CoreML77"]),
    (add_unread_input, ["interleave", "does not read"]),
    (add_unread_attribute, ["beta_again", "does not read"]),
    (add_unread_constant, ["nobody", "nothing reads"]),
    (add_unknown_field, ["mlProgram", "not known here", "100"]),
    (drop_operand, ["add", "lacks the input 'y'"]),
    (rename_operand, ["'nobody', which nothing before it has made"]),
    (change_declared_shape, ["declared to give"]),
    (change_declared_type, ["declared float16, it is float32"]),
    (change_constant_type, ["float16", "holds float32"]),
    (unknown_operations, ["clamp_twice: clip_0, clip_1", "sharpmax: probabilities"]),
    (change_image_size, ["96 x 64"]),
    (make_image_gray, ["colour space number 10"]),
    (make_image_flexible, ["no fixed size"]),
    (rename_input, ["picture", "the program takes image"]),
    (name_missing_probabilities, ["'scores'"]),
    (rename_output, ["'scores'"]),
    (add_output, ["another"]),
    (swap_classes, ["not those of the contract in the user metadata", "species 1"]),
    (drop_class, ["9 classes and 10 probabilities"]),
    (miscount_classes, ["declared to hold 11 names"]),
    (move_offset_between_blobs, ["no blob starts there"]),
    (move_offset_to_another_blob, ["blobs that nothing reads"]),
    (rename_weight_file, ["weights lie below @model_path"]),
    (add_function, ["functions"]),
]


@pytest.mark.parametrize(
    ("change", "words"), REFUSED, ids=[change.__name__ for change, _ in REFUSED]
)
def test_a_contradiction_is_refused(
    made: Samples, tmp_path: Path, change: Callable[[Any], None], words: list[str]
) -> None:
    said = refusal(edit(made.path("float32.mlpackage"), tmp_path, change))
    for word in words:
        assert word in said
    assert "float32.mlpackage" in said


def test_an_operation_from_a_later_opset_is_refused(made: Samples, tmp_path: Path) -> None:
    said = refusal(edit(made.path("int8.mlpackage"), tmp_path, older_opset))
    assert "CoreML5 does not have" in said
    assert "constexpr_affine_dequantize" in said


def test_labels_that_the_contract_lacks_are_refused(made: Samples) -> None:
    other = Contract((*CONTRACT.labels[:-1], Label("a stranger")), CONTRACT.preprocessing)
    said = refusal(made.path("float32.mlpackage"), other)
    assert "a stranger" in said
    assert "species 9" in said


def _patch(path: Path, offset: int, layout: str, value: int) -> None:
    data = bytearray(path.read_bytes())
    struct.pack_into(layout, data, offset, value)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("offset", "layout", "value", "word"),
    [
        (0, "<I", 10_000, "it ends before blob"),  # count
        (0, "<I", 3, "goes on after its 3 blobs"),
        (4, "<I", 1, "version is 1"),
        (64, "<I", 0xDEADBEE0, "starts with 0xdeadbee0"),  # sentinel
        (68, "<I", 1, "holds float16"),  # type
        (68, "<I", 77, "unknown data type 77"),
        (72, "<Q", 4, "blob 2 of"),  # size
        (72, "<Q", 1 << 40, "needs"),
        (80, "<Q", 192, "not right after its metadata"),  # where the data starts
        (88, "<Q", 3, "bytes do not fit"),
    ],
)
def test_a_damaged_weight_header_is_refused(
    package: Path, offset: int, layout: str, value: int, word: str
) -> None:
    _patch(package / WEIGHTS_IN_PACKAGE, offset, layout, value)
    said = refusal(package)
    assert word in said


@pytest.mark.parametrize("left", [0, 40, 64, 5000, -1, -300])
def test_truncated_weights_are_refused(package: Path, left: int) -> None:
    weights = package / WEIGHTS_IN_PACKAGE
    weights.write_bytes(weights.read_bytes()[:left])
    assert "weight.bin is damaged" in refusal(package)


def test_a_package_with_missing_parts_is_refused(package: Path) -> None:
    manifest = package / "Manifest.json"
    whole = json.loads(manifest.read_text())
    items = whole["itemInfoEntries"]
    weights = next(key for key, item in items.items() if item["name"] == "weights")
    root = whole["rootModelIdentifier"]
    mutants = [
        (whole | {"rootModelIdentifier": "nobody"}, "nobody"),
        (whole | {"fileFormatVersion": "9.0.0"}, "9.0.0"),
        (whole | {"itemInfoEntries": {root: items[root]}}, "Manifest.json does not list"),
        (whole | {"itemInfoEntries": items | {"x": {"path": "gone.bin"}}}, "lacks Data/gone.bin"),
        (whole | {"itemInfoEntries": items | {"x": {"path": "../../x"}}}, "inside the package"),
        (whole | {"itemInfoEntries": items | {weights: {}}}, "cannot be read"),
    ]
    for data, word in mutants:
        manifest.write_text(json.dumps(data))
        assert word in refusal(package)
    manifest.write_text("{")
    assert "cannot be read" in refusal(package)
    manifest.unlink()
    assert "no Manifest.json" in refusal(package)


def test_bytes_that_are_no_model_are_refused(package: Path, tmp_path: Path) -> None:
    (package / SPEC_IN_PACKAGE).write_bytes(b"\xff" * 100)
    assert "is not a Core ML model" in refusal(package)
    (package / SPEC_IN_PACKAGE).write_bytes(b"")
    assert "specification version 0" in refusal(package)
    assert "does not exist" in refusal(tmp_path / "nothing.mlpackage")


# --- sound by the rules: the probabilities have to differ ------------------------------


def move_clip_bound(spec: Any) -> None:
    for constant in operations(spec, "const"):
        if constant.outputs[0].name == operations(spec, "clip")[4].inputs["beta"].arguments[0].name:
            constant.attributes["val"].immediateValue.tensor.floats.values[0] = 5.0


def swap_classes_everywhere(spec: Any) -> None:
    swap_classes(spec)
    del spec.description.metadata.userDefined["contract"]


def turn_colours_around(spec: Any) -> None:
    spec.description.input[0].type.imageType.colorSpace = BGR


@pytest.mark.parametrize("change", [move_clip_bound, swap_classes_everywhere, turn_colours_around])
def test_a_file_that_is_sound_but_wrong_gives_other_probabilities(
    made: Samples, tmp_path: Path, change: Callable[[Any], None]
) -> None:
    mutant = edit(made.path("float32.mlpackage"), tmp_path, change)
    assert np.abs(answers(mutant, made) - made.expected).max() > 1e-2


@pytest.mark.parametrize("place", [0.1, 0.5, 0.85])
def test_zeroed_weights_give_other_probabilities(
    made: Samples, package: Path, place: float
) -> None:
    weights = package / WEIGHTS_IN_PACKAGE
    data = bytearray(weights.read_bytes())
    start = _inside_a_blob(bytes(data), int(len(data) * place))
    data[start : start + 4000] = bytes(4000)
    weights.write_bytes(data)
    assert np.abs(answers(package, made) - made.expected).max() > 1e-2


def _inside_a_blob(data: bytes, wanted: int) -> int:
    """Start of the first 4,000 bytes of data after `wanted` that lie in one blob."""
    offset = 64
    while True:
        _, _, size, start = struct.unpack_from("<IIQQ", data, offset)
        if start + size > wanted and size >= 4000:
            return max(start, min(wanted, start + size - 4000))
        offset = -(-(start + size) // 64) * 64


def test_the_untouched_copy_passes(made: Samples, package: Path) -> None:
    assert np.abs(answers(package, made) - made.expected).max() < 1e-5
