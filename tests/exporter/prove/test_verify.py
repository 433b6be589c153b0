"""Taking stock of a bundle of real files: sound as it is, and each kind of damage named."""

from __future__ import annotations

import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from exporter.bundle import BY_KEY, hash_files, open_bundle
from exporter.prove import golden
from exporter.prove.opened import open_artifacts
from exporter.prove.runtimes import registry
from exporter.prove.runtimes.base import Runtime
from exporter.prove.tflite_schemes import faults
from exporter.prove.tflite_structure import Operator, Tensor, read_operators
from exporter.prove.verify import Finding, verify
from models.contract import Contract
from models.errors import UserError
from models.images import ImageFile
from support import node_cases, tflite_files, tinyfiles

INT8 = BY_KEY["tflite-int8"]
KEYS = ("onnx", "tflite-float32", "tflite-float16", "tflite-int8")


def seal(root: Path) -> None:
    """Write the manifest over what is there now."""
    manifest = {
        "schema": 1,
        "artifacts": {key: {"path": BY_KEY[key].path} for key in KEYS},
        "files": [entry.__dict__ for entry in hash_files(root)],
        "reference": "reference/checkpoint.safetensors",
    }
    (root / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made") / "dist"
    root.mkdir()
    (root / "contract.json").write_text(tinyfiles.CONTRACT.dumps())
    (root / "labels.txt").write_text("\n".join(tinyfiles.CONTRACT.names) + "\n")
    tinyfiles.write_onnx(root / "model.onnx")
    for precision in ("float32", "float16", "int8"):
        tinyfiles.write_tflite(root / f"model_{precision}.tflite", precision)
    seal(root)
    images = []
    for number, picture in enumerate(tinyfiles.pictures()):
        path = root.parent / f"{number}.png"
        Image.fromarray(picture).save(path)
        images.append(ImageFile(path))
    bundle = open_bundle(root)
    with open_artifacts(bundle) as opened:
        sessions = {entry.row.key: entry.session for entry in opened if entry.session}
        golden.write_golden(root, images, bundle.contract, sessions)
    seal(root)
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "dist"))


def failed(root: Path) -> set[tuple[str, str]]:
    return {(found.check, found.subject) for found in verify(root) if found.status == "failed"}


def about(findings: list[Finding], subject: str) -> dict[str, str]:
    return {found.check: found.status for found in findings if found.subject == subject}


def test_a_sound_bundle(root: Path) -> None:
    findings = verify(root)
    assert {found.status for found in findings} == {"ok"}
    assert about(findings, "model_int8.tflite") == dict.fromkeys(
        ("opens", "labels", "contract", "operators", "probabilities", "golden"), "ok"
    )
    assert about(findings, "model.onnx") == dict.fromkeys(
        ("opens", "labels", "contract", "probabilities", "golden"), "ok"
    )
    exact = [found.what for found in findings if found.check == "golden"]
    assert set(exact) == {"8 answers as recorded, 8 of them to the last bit"}


def shuffled(**changes: tuple[int, ...]) -> tuple[Operator, ...]:
    """A channel shuffle of [1, 2, 3, 8] in 2 groups; some shape or the order changed."""
    sizes = {"y": (1, 2, 3, 8), "g": (6, 2, 4), "t": (6, 4, 2), "s": (1, 2, 3, 8), **changes}
    y, g, t, s = (tensor(name, shape=sizes[name]) for name in "ygts")
    order = tensor("p", "INT32", constant=True, values=changes.get("order", (0, 2, 1)))
    wanted = tensor("n", "INT32", constant=True)
    made = (
        Operator("RESHAPE", (y, wanted), (g,)),
        Operator("TRANSPOSE", (g, order), (t,)),
        Operator("RESHAPE", (t, wanted), (s,)),
    )
    return (*int8_net()[:2], *made, *int8_net()[2:])


def test_a_channel_shuffle_may_transpose_within_pixels() -> None:
    assert faults(shuffled(), INT8) == []
    broken = [
        shuffled(order=(1, 0, 2)),
        shuffled(g=(2, 3, 8), t=(2, 8, 3)),
        shuffled(s=(1, 3, 2, 8)),
        (*shuffled()[:2], *shuffled()[3:]),
        (*shuffled(), Operator("ADD", (tensor("t"), tensor("s")), (tensor("a"),))),
    ]
    for operators in broken:
        assert "a TRANSPOSE makes t" in faults(operators, INT8)


@pytest.mark.parametrize("kind", ["LOCAL_RESPONSE_NORMALIZATION", "HARD_SWISH"])
def test_what_int8_lacks_stands_between_dequantize_and_quantize(kind: str) -> None:
    f, n = tensor("f", "FLOAT32"), tensor("m", "FLOAT32")
    into = Operator("DEQUANTIZE", (tensor("y"),), (f,))
    norm = Operator(kind, (f,), (n,))
    back = Operator("QUANTIZE", (n,), (tensor("q"),))
    start, end = int8_net()[:2], int8_net()[2:]
    assert faults((*start, into, norm, back, *end), INT8) == []
    int8 = Operator("HARD_SWISH", (tensor("y"),), (tensor("q"),))
    assert faults((*start, int8, *end), INT8) == []
    loose = Operator("ADD", (n, n), (tensor("q"),))
    assert any("not between" in text for text in faults((*start, into, norm, loose, *end), INT8))
    assert any("not between" in text for text in faults((*start, norm, back, *end), INT8))
    assert any("2 DEQUANTIZE" in text for text in faults((*start, into, back, *end), INT8))


def test_changed_missing_and_extra_files(root: Path) -> None:
    whole = bytearray((root / "model_float32.tflite").read_bytes())
    whole[len(whole) // 2] ^= 1
    (root / "model_float32.tflite").write_bytes(whole)
    (root / "model.onnx").unlink()
    (root / "notes.txt").write_text("mine")
    findings = verify(root)
    bad = {(f.subject, f.what.split(" (")[0]) for f in findings if f.status == "failed"}
    assert bad == {
        ("model_float32.tflite", "changed since the export"),
        ("model.onnx", "the file is missing"),
        ("notes.txt", "not in the manifest"),
    }
    assert all(found.mend for found in findings if found.status == "failed")
    # What is not as it was exported is not opened at all.
    assert about(findings, "model_float32.tflite")["opens"] == "not run"
    assert about(findings, "model_int8.tflite")["opens"] == "ok"


def test_labels_that_disagree(root: Path) -> None:
    swapped = replace(tinyfiles.CONTRACT, labels=tinyfiles.CONTRACT.labels[::-1])
    tinyfiles.write_tflite(root / "model_int8.tflite", "int8", swapped)
    names = [*tinyfiles.CONTRACT.names]
    tinyfiles.write_onnx(
        root / "model.onnx",
        {"labels": "\n".join(names[:-1]), "contract": swapped.dumps()},
    )
    (root / "labels.txt").write_text("\n".join(names[1:] + names[:1]) + "\n")
    seal(root)
    assert failed(root) == {
        ("labels", "labels.txt"), ("labels", "model.onnx"), ("contract", "model.onnx"),
        ("labels", "model_int8.tflite"), ("contract", "model_int8.tflite"),
    }  # fmt: skip
    what = {f.subject: f.what for f in verify(root) if f.check == "labels"}
    assert what["model_int8.tflite"] == "label 0 is 'species 4', contract.json says 'species 0'"
    assert what["model.onnx"] == "4 labels, contract.json has 5"


def test_only_what_differs_in_a_contract_is_named(root: Path) -> None:
    """The TFLite file's own contract writes labels in short, which is no difference."""
    surer = replace(tinyfiles.CONTRACT, not_sure_threshold=0.875)
    tinyfiles.write_tflite(root / "model_int8.tflite", "int8", surer)
    seal(root)
    said = [f.what for f in verify(root) if f.check == "contract" and f.status == "failed"]
    assert said == ["differs from contract.json in: output.not_sure_threshold"]


def test_files_without_labels_or_contract(root: Path) -> None:
    tinyfiles.write_onnx(root / "model.onnx", {})
    path = root / "model_float16.tflite"
    with zipfile.ZipFile(path) as archive:
        start = min(entry.header_offset for entry in archive.infolist())
    path.write_bytes(path.read_bytes()[:start])
    seal(root)
    assert failed(root) == {
        ("labels", "model.onnx"), ("contract", "model.onnx"),
        ("labels", "model_float16.tflite"), ("contract", "model_float16.tflite"),
    }  # fmt: skip


def test_a_float_file_under_the_name_of_int8(root: Path) -> None:
    tinyfiles.write_tflite(root / "model_int8.tflite", "float32")
    seal(root)
    assert ("operators", "model_int8.tflite") in failed(root)
    what = [f.what for f in verify(root) if f.check == "operators" and f.status == "failed"]
    assert any("FLOAT32" in text for text in what)
    assert len(what) == 4  # three, and how many more


def test_logits_where_probabilities_belong(root: Path) -> None:
    tinyfiles.write_onnx(root / "model.onnx", end="logits")
    seal(root)
    assert ("probabilities", "model.onnx") in failed(root)


def test_answers_other_than_recorded(root: Path) -> None:
    path = root / "golden" / "golden.json"
    document = json.loads(path.read_text())
    for entry in document["images"]:
        entry["probabilities"]["onnx"].reverse()
    path.write_text(json.dumps(document))
    seal(root)
    assert failed(root) == {("golden", "model.onnx")}
    path.write_text("{")
    seal(root)
    assert failed(root) == {("golden", "golden")}


def test_a_file_of_the_wrong_size_or_kind(root: Path) -> None:
    (root / "model_float32.tflite").write_bytes(b"no flatbuffer at all")
    larger = replace(
        tinyfiles.CONTRACT,
        preprocessing=replace(tinyfiles.CONTRACT.preprocessing, height=8, resize_shorter_side=16),
    )
    seal(root)
    assert failed(root) == {("opens", "model_float32.tflite")}
    (root / "contract.json").write_text(larger.dumps())
    seal(root)
    assert {check for check, _ in failed(root)} >= {"opens", "golden"}


def test_an_absent_runtime_is_not_run(root: Path) -> None:
    class Absent(Runtime):
        name = "litert"

        def unavailable(self) -> str:
            return "ai_edge_litert is not installed"

        def version(self) -> str:
            raise AssertionError

        def open(self, path: Path, contract: Contract, threads: int = 1) -> None:  # type: ignore[override]
            raise AssertionError

    def get(name: str) -> Runtime:
        return Absent() if name == "litert" else registry.get(name)

    findings = verify(root, get)
    assert about(findings, "model_int8.tflite") == {"opens": "not run"}
    assert about(findings, "model.onnx")["opens"] == "ok"


def test_no_bundle_and_no_checksums(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no bundle"):
        verify(tmp_path)
    manifest = json.loads((root / "manifest.json").read_text())
    del manifest["files"]
    (root / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="no checksums"):
        verify(root)


# The rules of the int8 specification, each broken by hand.


def tensor(name: str, kind: str = "INT8", scales: int = 1, **more: object) -> Tensor:
    settings: dict[str, object] = {
        "shape": (4, 1, 1, 3), "scales": (0.1,) * scales, "zero_points": (0,) * scales,
        "axis": 0, "constant": False, **more,
    }  # fmt: skip
    return Tensor(name, kind, **settings)  # type: ignore[arg-type]


def int8_net(
    weight: Tensor | None = None, bias: str = "INT32", body: str = "INT8"
) -> tuple[Operator, ...]:
    weight = weight or tensor("w", scales=4, constant=True)
    image, x, y, z, out = (tensor(n, t) for n, t in (("image", "UINT8"), ("x", "INT8"),
                           ("y", body), ("z", "FLOAT32"), ("out", "FLOAT32")))  # fmt: skip
    return (
        Operator("QUANTIZE", (image,), (x,)),
        Operator("CONV_2D", (x, weight, tensor("b", bias, constant=True)), (y,)),
        Operator("DEQUANTIZE", (y,), (z,)),
        Operator("SOFTMAX", (z,), (out,)),
    )


def test_the_rules_of_int8_by_hand() -> None:
    assert faults(int8_net(), INT8) == []
    transpose = Operator("TRANSPOSE", (tensor("y"),), (tensor("t"),))
    broken = {
        "have 1 scale(s) for 4": int8_net(tensor("w", scales=1, constant=True)),
        "have 4 scale(s) for 4": int8_net(tensor("w", scales=4, constant=True, axis=3)),
        "not symmetric": int8_net(tensor("w", scales=4, zero_points=(0, 0, 1, 0), constant=True)),
        "not constant INT8": int8_net(tensor("w", "FLOAT32", scales=4, constant=True)),
        "not positive": int8_net(
            replace(tensor("w", scales=4, constant=True), scales=(0.1, 0.0, 0.1, 0.1))
        ),
        "is FLOAT32, not INT32": int8_net(bias="FLOAT32"),
        "computes in FLOAT32 (y)": int8_net(body="FLOAT32"),
        "0 DEQUANTIZE": int8_net()[:2],
        "a TRANSPOSE": (*int8_net()[:2], transpose, *int8_net()[2:]),
    }  # fmt: skip
    for words, operators in broken.items():
        assert any(words in fault for fault in faults(operators, INT8)), words


def test_a_depthwise_convolution_has_its_channels_last() -> None:
    good = tensor("w", scales=3, constant=True, axis=3)
    operator = Operator("DEPTHWISE_CONV_2D", (tensor("x"), good), (tensor("y"),))
    after = int8_net()[2:]
    assert faults((operator, *after), INT8) == []
    bad = replace(operator, inputs=(tensor("x"), tensor("w", scales=4, constant=True, axis=0)))
    assert faults((bad, *after), INT8) != []


def test_each_precision_refuses_the_files_of_the_others(made: Path) -> None:
    keys = ("tflite-float32", "tflite-float16", "tflite-int8")
    for key in keys:
        operators = read_operators(made / BY_KEY[key].path)
        assert [k for k in keys if not faults(operators, BY_KEY[k])] == [key]


def test_a_damaged_flatbuffer_is_a_user_error(made: Path, tmp_path: Path) -> None:
    whole = (made / "model_int8.tflite").read_bytes()
    path = tmp_path / "cut.tflite"
    path.write_bytes(whole[:200])
    with pytest.raises(UserError, match="cannot be opened"):
        read_operators(path)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_no_rule_refuses_what_the_writer_writes(precision: str, tmp_path: Path) -> None:
    """Every node kind alone: a form that the writer may choose and verify would refuse."""
    path = tmp_path / "model.tflite"
    for case in node_cases.ALL:
        graph = case.net().graph()
        plan = tflite_files.plan_for(graph, tflite_files.pixels_for(graph))
        given = plan if precision == "int8" else None
        path.write_bytes(
            tflite_files.to_bytes(graph, tflite_files.CONTRACT, precision, given)  # type: ignore[arg-type]
        )
        assert faults(read_operators(path), BY_KEY[f"tflite-{precision}"]) == [], case.name
