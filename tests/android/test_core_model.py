"""The core on a finished bundle: golden pictures to tensors, recorded tensors to answers."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zipfile

import numpy as np
import pytest
from PIL import Image

from models.answers import present
from models.contract import Contract, Label
from models.images import load_pixels
from support import bundles, kotlin, nets
from support.cli import run_cli
from support.core_replay import Cases

missing = kotlin.unavailable()
pytestmark = pytest.mark.skipif(missing is not None, reason=missing or "")

FORMATS = ("tflite-float32", "tflite-float16", "tflite-int8")


def write_photographs(folder):
    """One picture a class, 150 x 110: larger than the contract's square, and no square."""
    for group, label in enumerate(nets.small_contract().names):
        (folder / label).mkdir(parents=True)
        pixels = bundles.class_image(group, 5, 150)[20:130]
        Image.fromarray(pixels).save(folder / label / "0.png")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """The folder that `make android` would copy from, small."""
    pytest.importorskip("torch", reason="the small network is made with torch")
    folder = tmp_path_factory.mktemp("core")
    bundles.write_decided_checkpoint(folder / "small.safetensors")
    bundles.write_images(folder / "calibration", 50)
    write_photographs(folder / "images")
    ran = run_cli(
        *("export", folder / "small.safetensors", "--calibration", folder / "calibration"),
        *("--images", folder / "images", "--formats", ",".join(FORMATS)),
        *("--quantizer", "fast", "--out", folder / "dist"),
    )
    assert ran.code == 0, ran.text
    return folder / "dist"


@pytest.fixture(scope="module")
def golden(bundle):
    return json.loads((bundle / "golden" / "golden.json").read_text())


@pytest.fixture(scope="module")
def text(bundle):
    return (bundle / "contract.json").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def int8(bundle):
    return (bundle / "model_int8.tflite").read_bytes()


def shown(text, probabilities, count=3):
    """What the core has to answer: sure and what is there, then index, name and float32 bits
    of each of the first `count`."""
    contract = Contract.loads(text)
    values = np.asarray(probabilities, np.float32)
    order = sorted(range(len(values)), key=lambda index: (-values[index], index))
    there = present(values, contract.class_thresholds)
    found = [i for i in (order if contract.multi_label else order[:1]) if there[i]]
    bits = values.view(np.int32)
    head = f"{str(bool(found)).lower()}|{','.join(map(str, found))}"
    return "\n".join([head, *(f"{i}|{contract.names[i]}|{bits[i]}" for i in order[:count])])


def reshaped(model, change):
    """A model file with its flatbuffer changed through the schema's own objects, no metadata."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    table = schema.ModelT.InitFromPackedBuf(model, 0)
    table.metadata = [entry for entry in table.metadata if entry.name != b"TFLITE_METADATA"]
    change(table.subgraphs[0], schema)
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(table.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def renamed_output(name, kind="FLOAT32", scale=0.0, zero_point=0):
    def change(graph, schema):
        tensor = graph.tensors[graph.outputs[0]]
        tensor.name = name
        tensor.type = getattr(schema.TensorType, kind)
        if scale:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = [scale]
            tensor.quantization.zeroPoint = [zero_point]

    return change


def typed_input(kind):
    def change(graph, schema):
        graph.tensors[graph.inputs[0]].type = getattr(schema.TensorType, kind)

    return change


def test_every_file_is_read_as_litert_reads_it(bundle, text):
    from ai_edge_litert.interpreter import Interpreter

    cases, expected = Cases(), []
    for path in sorted(bundle.glob("*.tflite")):
        cases.info(path.read_bytes())
        interpreter = Interpreter(model_path=str(path))
        lines = []
        for tensor in (interpreter.get_input_details()[0], interpreter.get_output_details()[0]):
            scale, zero_point = tensor["quantization"]
            kind = np.dtype(tensor["dtype"]).name.upper()
            shape = tensor["shape"].tolist()
            lines.append((tensor["name"], kind, str(shape), np.float32(scale), zero_point))
        expected.append(lines)
    contract = Contract.loads(text)
    assert len(expected) == len(FORMATS)
    for found, wanted in zip(cases.run(), expected, strict=True):
        assert not found.failed, found.text
        lines = found.text.split("\n")
        for line, tensor in zip(lines[:2], wanted, strict=True):
            name, kind, shape, scale, zero_point = line.split("|")
            assert (name, kind, shape) == tensor[:3]
            assert (np.float32(scale), int(zero_point)) == tensor[3:]
        assert lines[2].count(".") == 2  # the lowest runtime, such as 1.13.1
        assert lines[3] == contract.label_hash
        assert tuple(lines[4:]) == contract.names


def test_contract_as_python_reads_it(text):
    names = [
        "Kreuzotter \u00fc",
        'a "quoted" \\ name',
        "snake \U0001f40d",
        "tab\tand\u2028",
        "\x7f/",
    ]
    labels = [Label(name, "Vipera berus" if i % 2 else None) for i, name in enumerate(names)]
    cases = Cases()
    for contract in (Contract(tuple(labels), name="\u00e9"), Contract.loads(text)):
        for dumped in (contract.dumps(), json.dumps(contract.to_json(), ensure_ascii=True)):
            cases.contract(dumped)
    cases.contract(Contract(tuple(labels)).dumps().replace("Kreuzotter", "Kreuzviper"))
    *good, edited = cases.run()
    for found in good:
        assert not found.failed, found.text
    assert Contract(tuple(labels), name="\u00e9").label_hash in good[1].text
    assert names[2] in good[0].text
    assert edited.failed and "label_hash" in edited.text


def test_golden_pictures_become_python_s_tensor(bundle, golden, text):
    """A square picture is resized and cropped again by the contract: compared with that."""
    rule = Contract.loads(text).preprocessing
    cases, expected = Cases(), []
    for path in sorted(bundle.glob("*.tflite")):
        model = path.read_bytes()
        pictures = [entry["file"] for entry in golden["images"]] + ["photo.png"]
        for name in pictures:
            cases.pack(model, text, bundle / "golden" / name)
            expected.append(load_pixels(bundle / "golden" / name, rule).tobytes())
    square = np.asarray(Image.open(bundle / "golden" / "photo_square.png").convert("RGB"))
    assert expected[-1] == square.tobytes()
    assert min(Image.open(bundle / "golden" / "photo.png").size) > rule.resize_shorter_side
    for found, wanted in zip(cases.run(), expected, strict=True):
        assert not found.failed, found.text
        assert found.content == wanted


def test_golden_pixels_are_those_that_were_recorded(bundle, golden, int8):
    """A contract that neither scales nor crops: the tensor is the PNG itself, byte for byte."""
    side = golden_side(bundle)
    plain = json.loads((bundle / "contract.json").read_text())
    plain["input"]["resize_shorter_side"] = side
    model = reshaped(int8, lambda graph, schema: None)
    cases = Cases()
    for entry in golden["images"]:
        cases.pack(model, json.dumps(plain), bundle / "golden" / entry["file"])
    for found, entry in zip(cases.run(), golden["images"], strict=True):
        assert hashlib.sha256(found.content).hexdigest() == entry["pixels_sha256"]


def golden_side(bundle):
    return Image.open(bundle / "golden" / "00.png").width


def test_golden_jpeg_within_what_two_decoders_differ_by(bundle, golden, text):
    """photo.jpg lies turned: without its orientation nothing would be near."""
    rule = Contract.loads(text).preprocessing
    (entry,) = [photo for photo in golden["photos"] if photo["file"].endswith(".jpg")]
    cases = Cases()
    cases.picture(bundle / "golden" / entry["file"], rule)
    found = cases.run()[0].pixels(rule.height, rule.width).astype(int)
    wanted = np.asarray(Image.open(bundle / "golden" / entry["square"]).convert("RGB")).astype(int)
    difference = np.abs(found - wanted)
    assert difference.max() <= entry["max_difference"]
    assert difference.mean() <= entry["mean_difference"]
    assert np.abs(np.rot90(found) - wanted).mean() > 3 * difference.mean()


def test_input_types(bundle, text, int8):
    """The same pixels as uint8, as int8 and as float32."""
    photo = bundle / "golden" / "photo.png"
    pixels = load_pixels(photo, Contract.loads(text).preprocessing)
    cases = Cases()
    for kind in ("UINT8", "INT8", "FLOAT32", "INT32"):
        cases.pack(reshaped(int8, typed_input(kind)), text, photo)
    unsigned, signed, real, other = cases.run()
    assert unsigned.content == pixels.tobytes()
    assert signed.content == (pixels.astype(int) - 128).astype(np.int8).tobytes()
    assert real.content == pixels.astype(np.float32).tobytes()
    assert other.failed and "ModelException" in other.text and "INT32" in other.text


def test_recorded_outputs_become_the_shown_answer(bundle, golden, text):
    cases, expected = Cases(), []
    files = dict(zip(FORMATS, ("float32", "float16", "int8"), strict=True))
    for key, suffix in files.items():
        model = (bundle / f"model_{suffix}.tflite").read_bytes()
        for entry in golden["images"]:
            values = np.array(entry["probabilities"][key], np.float32)
            cases.answer(model, text, values.tobytes())
            expected.append((shown(text, values), entry["answer"][key]))
    for found, (lines, name) in zip(cases.run(), expected, strict=True):
        assert found.text == lines
        assert found.text.split("\n")[1].split("|")[1] == name


def test_not_sure_ties_and_counts(text, int8):
    """Equal ones in the order of the labels; the threshold itself is sure; sigmoid alike."""
    threshold = 0.7
    moved = json.loads(text)
    moved["output"]["not_sure_threshold"] = threshold
    values = np.full(10, 0.01, np.float32)
    values[[7, 2, 4]] = 0.3
    sure = np.zeros(10, np.float32)
    sure[3] = threshold  # as float32 below 0.7, and still as written
    below = sure.copy()
    below[3] = np.nextafter(np.float32(threshold), np.float32(0))
    given = [(values, 3), (values, 1), (values, 99), (values, 0), (sure, 3), (below, 3)]
    cases = Cases()
    for vector, count in given:
        cases.answer(int8, json.dumps(moved), vector.tobytes(), count)
    cases.answer(int8, json.dumps(moved), np.full(10, np.nan, np.float32).tobytes())
    *found, nan = cases.run()
    for answered, (vector, count) in zip(found, given, strict=True):
        assert answered.text == shown(json.dumps(moved), vector, count)
    assert found[0].text.split("\n")[1].startswith("2|")
    assert [answered.text.split("\n")[0] for answered in found[4:]] == ["true|3", "false|"]
    assert nan.failed and "ModelException" in nan.text and "NaN" in nan.text


def test_several_answers_by_thresholds_of_their_own(text, int8):
    """All that reach their threshold, however few are asked for; else not sure."""
    moved = json.loads(text)
    moved["output"] = {"activation": "sigmoid", "not_sure_threshold": 0.01,
                       "thresholds": [0.7] * 5 + [0.2] * 5}  # fmt: skip
    model = reshaped(int8, renamed_output("probabilities"))
    just = np.float32(0.7)
    values = np.array([0.9, just, 0.69, 0, 0.8, 0.1, 0.2, 0.3, 0.19, 0], np.float32)
    none = np.array([0.69, 0.6, 0, 0, 0, 0.19, 0, 0, 0, 0], np.float32)
    shared = {**moved, "output": {"activation": "sigmoid", "not_sure_threshold": 0.3}}
    given = [(moved, values, 3), (moved, values, 1), (moved, none, 3), (shared, values, 2)]
    cases = Cases()
    for contract, vector, count in given:
        cases.answer(model, json.dumps(contract), vector.tobytes(), count)
    found = cases.run()
    for answered, (contract, vector, count) in zip(found, given, strict=True):
        assert answered.text == shown(json.dumps(contract), vector, count)
    heads = [answered.text.split("\n")[0] for answered in found]
    assert heads == ["true|0,4,1,7,6", "true|0,4,1,7,6", "false|", "true|0,4,1,2,7"]


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("kind", ["INT8", "UINT8", "FLOAT32"])
def test_logits_quantized_or_not(text, int8, activation, kind):
    """An output tensor named 'logits' gets the activation; numpy in double says what comes out."""
    scale, zero_point = np.float32(0.11), {"INT8": -13, "UINT8": 101, "FLOAT32": 0}[kind]
    changed = json.loads(text)
    changed["output"]["activation"] = activation
    quantized = kind != "FLOAT32"
    model = reshaped(
        int8, renamed_output("logits", kind, float(scale) if quantized else 0.0, zero_point)
    )
    rng = np.random.default_rng(3)
    cases, expected = Cases(), []
    for _ in range(40):
        if quantized:
            stored = rng.integers(0, 256, 10).astype(np.uint8).view(kind.lower())
            logits = (stored.astype(np.float32) - np.float32(zero_point)) * scale
        else:
            stored = logits = rng.normal(0, 5, 10).astype(np.float32)
        powers = np.exp(logits.astype(np.float64) - logits.max())
        plain = 1 / (1 + np.exp(-logits.astype(np.float64)))
        expected.append(powers / powers.sum() if activation == "softmax" else plain)
        cases.answer(model, json.dumps(changed), stored.tobytes(), 10)
    for found, wanted in zip(cases.run(), expected, strict=True):
        assert not found.failed, found.text
        lines = [line.split("|") for line in found.text.split("\n")[1:]]
        order = [int(line[0]) for line in lines]
        values = np.array([int(line[2]) for line in lines], np.int32).view(np.float32)
        np.testing.assert_allclose(values, wanted[order], rtol=1e-6, atol=1e-9)
        assert (np.diff(values) <= 0).all()


def test_a_file_and_a_contract_that_disagree_are_refused(text, int8):
    data = json.loads(text)

    def edited(**changes):
        copy = json.loads(text)
        copy.pop("label_hash")
        for path, value in changes.items():
            *parents, last = path.split("__")
            inner = copy
            for parent in parents:
                inner = inner[parent]
            inner[last] = value
        return json.dumps(copy)

    swapped = [data["labels"][1], data["labels"][0], *data["labels"][2:]]
    poisoned = [{**data["labels"][0], "venomous": "yes"}, *data["labels"][1:]]
    wrong = {
        "labels": (edited(labels=swapped), ["species 0", "species 1"]),
        "attributes": (edited(labels=poisoned), ["YES", "UNKNOWN"]),
        "count": (edited(labels=data["labels"][:9]), ["[1, 10]", "9 labels"]),
        "size": (edited(input__height=32), ["[1, 64, 64, 3]", "[1, 32, 64, 3]"]),
        "resize": (edited(input__resize_shorter_side=99), ["72", "99"]),
        "activation": (edited(output__activation="sigmoid"), ["SOFTMAX", "SIGMOID"]),
    }
    cases = Cases()
    zeros = bytes(40)
    for contract, _ in wrong.values():
        cases.answer(int8, contract, zeros)
    cases.answer(int8, "", zeros)  # the contract inside is used
    cases.answer(int8, edited(output__not_sure_threshold=0.9, name="other"), zeros)
    bare = reshaped(int8, lambda graph, schema: None)
    cases.answer(bare, "", zeros)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as packed:
        packed.writestr("labels.txt", "".join(f"{label['name']}\n" for label in swapped))
    cases.answer(bare + stream.getvalue(), text, zeros)
    *refused, inside, moved, alone, lines = cases.run()
    assert lines.failed and "'species 1'" in lines.text and "'species 0'" in lines.text
    for found, (_, words) in zip(refused, wrong.values(), strict=True):
        assert found.failed and found.text.startswith("ContractException"), found.text
        for word in ["the model", "the contract", *words]:
            assert word in found.text
    assert not inside.failed and not moved.failed
    assert alone.failed and "no contract" in alone.text


def test_files_in_the_archive(int8):
    """Deflated by another tool, found by offsets from the archive's own front; damaged, refused."""
    end = int8.index(b"PK\x03\x04")
    model = int8[:end]
    archive = zipfile.ZipFile(io.BytesIO(int8))
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in archive.namelist():
            packed.writestr(name, archive.read(name))
        packed.comment = b"a comment"
    other = stream.getvalue()
    broken = bytearray(int8)
    broken[end + 60] ^= 1  # inside the first stored file: its checksum no longer holds
    cases = Cases()
    for content in (int8, model + other, model, int8[:-30], bytes(broken)):
        cases.info(content)
    whole, deflated, cut, shorter, bad = cases.run()
    assert not whole.failed and whole.text == deflated.text
    for found in (cut, shorter, bad):
        assert found.failed and found.text.startswith("ModelException"), found.text


def test_no_model_at_all(int8):
    cases = Cases()
    two = reshaped(int8, lambda graph, schema: setattr(graph, "outputs", [0, 1]))
    for content in (b"", b"TFL3", bytes(64), b"\x08\0\0\0TFL3" + b"\xff" * 40, two):
        cases.info(content)
    for found in cases.run():
        assert found.failed and found.text.startswith("ModelException"), found.text


def test_damaged_files_raise_nothing_else(bundle, text):
    """6,000 damaged models and contracts; most are refused, and none in another way."""
    cases = Cases()
    for seed, path in enumerate(sorted(bundle.glob("*.tflite"))):
        cases.fuzz(path.read_bytes(), text, seed, 2000)
    for found in cases.run():
        assert not found.failed, found.text
        assert int(found.text) > 2000  # of three attempts each


def test_the_reply_is_read_as_it_was_written():
    """Zero padding would make any comparison of bytes pass: the reader counts them."""
    cases = Cases()
    cases.exif(b"")
    assert struct.pack(">b", 1) == cases.run()[0].content
