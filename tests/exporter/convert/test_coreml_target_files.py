"""What a Core ML file says about itself, its bytes, its precision, and what is refused."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from target_graphs import Sketch, make, small_contract

from exporter.convert.graph import Conv, Dense, Fused, Graph, Node
from exporter.convert.targets import coreml
from exporter.coremltools_shim import import_coremltools, quiet
from models.contract import Contract
from models.errors import MissingExtraError

pytestmark = pytest.mark.skipif(find_spec("coremltools") is None, reason="needs coremltools")

FLOAT16, FLOAT32, INT8 = 10, 11, 21  # DataType in coremltools' MIL.proto
KINDS = {
    "m16.mlpackage": "float16",
    "m32.mlpackage": "float32",
    "m8.mlpackage": "int8",
    "m.mlmodel": "float32",
}


def sample() -> Graph:
    """Convolutions with ReLU6, a pooling, a Dense: weights large enough for weight.bin."""
    from exporter.convert.graph import GlobalAveragePool

    s = Sketch()
    s.normalize()
    s.conv(8, 3, 3, 3, strides=(2, 2), padding=(1, 1, 1, 1), fused=Fused.RELU6)
    s.conv(16, 8, 3, 3, groups=8, padding=(1, 1, 1, 1), fused=Fused.RELU6)
    s.add(GlobalAveragePool, keep_dims=False)
    return s.classify()


def write_all(folder: Path) -> None:
    card = coreml.ModelCard(author="A. Herpetologist", version="2.1", license="CC BY 4.0")
    for name, precision in KINDS.items():
        coreml.write(sample(), small_contract(), folder / name, precision, card)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("coreml")
    write_all(path)
    return path


def opened(path: Path) -> Any:
    ct = import_coremltools("a test")
    with quiet():
        return ct.models.MLModel(str(path), skip_model_load=True)


def operations(spec: Any) -> list[Any]:
    function = spec.mlProgram.functions["main"]
    return list(function.block_specializations[function.opset].operations)


@pytest.mark.parametrize("name", KINDS)
def test_description(folder: Path, name: str) -> None:
    description = opened(folder / name).get_spec().description
    (given,) = description.input
    assert given.name == "image"
    image = given.type.imageType
    assert (image.width, image.height) == (11, 9)
    assert image.ColorSpace.Name(image.colorSpace) == "RGB"
    made = {feature.name: feature for feature in description.output}
    assert set(made) == {"probabilities", "classLabel"}
    assert made["probabilities"].type.WhichOneof("Type") == "dictionaryType"
    assert made["probabilities"].type.dictionaryType.WhichOneof("KeyType") == "stringKeyType"
    assert made["classLabel"].type.WhichOneof("Type") == "stringType"
    assert description.predictedFeatureName == "classLabel"
    assert description.predictedProbabilitiesName == "probabilities"
    assert all(f.shortDescription for f in (given, *made.values()))
    assert "normalizes them itself" in given.shortDescription


@pytest.mark.parametrize("name", KINDS)
def test_metadata(folder: Path, name: str) -> None:
    meta = opened(folder / name).get_spec().description.metadata
    assert (meta.author, meta.versionString, meta.license) == (
        "A. Herpetologist", "2.1", "CC BY 4.0",
    )  # fmt: skip
    assert meta.shortDescription.startswith("tiny: which of 5 classes")
    user = dict(meta.userDefined)
    assert user["com.apple.coreml.model.preview.type"] == "imageClassifier"
    assert Contract.loads(user["contract"]) == small_contract()
    assert user["label_hash"] == small_contract().label_hash
    assert user["precision"] == KINDS[name]
    assert not [key for key in user if "date" in key]


def test_versions_are_the_lowest_promised(folder: Path) -> None:
    versions = {name: opened(folder / name).get_spec().specificationVersion for name in KINDS}
    assert versions == {
        "m16.mlpackage": 7, "m32.mlpackage": 7, "m8.mlpackage": 7,  # iOS 16
        "m.mlmodel": 4,  # iOS 13
    }  # fmt: skip


def test_operators(folder: Path) -> None:
    plain = {"add": 1, "mul": 1, "conv": 2, "clip": 2, "reduce_mean": 1, "linear": 1,
             "softmax": 1, "classify": 1}  # fmt: skip
    extra = {"m32.mlpackage": {}, "m16.mlpackage": {"cast": 2},
             "m8.mlpackage": {"cast": 2, "constexpr_affine_dequantize": 3}}  # fmt: skip
    for name, more in extra.items():
        found = Counter(op.type for op in operations(opened(folder / name).get_spec()))
        found.pop("const")
        assert found == {**plain, **more}, name


def test_precision_of_every_tensor(folder: Path) -> None:
    """float32 for the pixels' arithmetic and the softmax; everything else in half."""
    for name in ("m16.mlpackage", "m8.mlpackage"):
        kinds = {}
        for op in operations(opened(folder / name).get_spec()):
            if op.type in ("const", "classify"):
                continue
            kinds[op.outputs[0].name] = op.outputs[0].type.tensorType.dataType
        single = [n for n, kind in kinds.items() if kind == FLOAT32]
        assert len(single) == 4, kinds  # centred, normalized, logits as float32, softmax
        assert set(kinds.values()) == {FLOAT16, FLOAT32}


def test_int8_is_per_channel(folder: Path) -> None:
    """Every Conv and Dense weight is int8 with as many scales as output channels."""
    found = {}
    for op in operations(opened(folder / "m8.mlpackage").get_spec()):
        if op.type == "constexpr_affine_dequantize":
            shape = [d.constant.size for d in op.outputs[0].type.tensorType.dimensions]
            scale = op.attributes["scale"].type.tensorType.dimensions
            data = op.attributes["quantized_data"].type.tensorType.dataType
            axis = op.attributes["axis"].immediateValue.tensor.ints.values[0]
            found[op.outputs[0].name] = (shape[0], scale[0].constant.size, data, axis)
    assert sorted(found.values()) == [(5, 5, INT8, 0), (8, 8, INT8, 0), (16, 16, INT8, 0)]
    weights = [op for op in operations(opened(folder / "m8.mlpackage").get_spec())
               if op.type in ("conv", "linear")]  # fmt: skip
    assert {op.inputs["weight"].arguments[0].name for op in weights} == set(found)


@pytest.mark.parametrize("name", [name for name in KINDS if name.endswith("package")])
def test_coremltools_reads_it_back(folder: Path, name: str) -> None:
    """Its own loader builds the program anew and infers every shape and type again."""
    import_coremltools("a test")
    from coremltools.converters.mil.frontend.milproto.load import load

    model = opened(folder / name)
    spec = model.get_spec()
    program = load(spec, spec.specificationVersion, model.weights_dir)
    made = [var.name for var in program.functions["main"].outputs]
    assert made == ["classLabel", "probabilities"]


def test_manifest(folder: Path) -> None:
    manifest = json.loads((folder / "m16.mlpackage" / "Manifest.json").read_text())
    items = manifest["itemInfoEntries"]
    root = items[manifest["rootModelIdentifier"]]
    assert root["path"] == "com.apple.CoreML/model.mlmodel"
    for item in items.values():
        assert (folder / "m16.mlpackage" / "Data" / item["path"]).exists()


def digests(folder: Path) -> dict[str, str]:
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def in_a_process(script: str, *arguments: str, **environment: str) -> str:
    head = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    done = subprocess.run(
        [sys.executable, "-c", head + script, *arguments],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    return done.stdout + done.stderr


def test_another_process_writes_the_same_bytes_in_silence(folder: Path, tmp_path: Path) -> None:
    script = (
        "from pathlib import Path; from test_coreml_target_files import write_all\n"
        "write_all(Path(sys.argv[1]))\n"
        "print([m for m in ('torch', 'tensorflow', 'sklearn') if m in sys.modules])\n"
    )
    said = in_a_process(script, str(tmp_path), PYTHONHASHSEED="4711")
    assert said == "[]\n"
    assert digests(tmp_path) == digests(folder)


def test_a_refusal_leaves_no_trace_in_the_next_file(folder: Path, tmp_path: Path) -> None:
    graph = sample()
    nodes = [replace(n, weight=n.weight * 1e6) if isinstance(n, Dense) else n for n in graph.nodes]
    with pytest.raises(coreml.CoreMLError):
        broken = replace(graph, nodes=tuple(nodes))
        coreml.write(broken, small_contract(), tmp_path / "m16.mlpackage", "float16")
    write_all(tmp_path)
    assert digests(tmp_path) == digests(folder)


def test_the_import_leaves_no_trace() -> None:
    """What was kept out of coremltools can be imported afterwards; the logger is as it was."""
    script = (
        "import logging, tqdm; start = vars(tqdm.tqdm)['__init__']\n"
        "from exporter.coremltools_shim import UNUSED, import_coremltools\n"
        "import_coremltools('a test')\n"
        "assert vars(tqdm.tqdm)['__init__'] is start and not set(UNUSED) & set(sys.modules)\n"
        "print(logging.getLogger('coremltools').level)\n"
    )
    assert in_a_process(script) == "0\n"


def test_errors_pass_through_the_silence() -> None:
    import tqdm

    start = vars(tqdm.tqdm)["__init__"]
    with pytest.raises(ValueError, match="heard"), quiet():
        raise ValueError("heard")
    assert vars(tqdm.tqdm)["__init__"] is start


def test_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "coremltools", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"exporter\[coreml\]"):
        import_coremltools("Writing a Core ML file")


def test_a_package_that_is_there_is_replaced(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "m16.mlpackage"
    path.mkdir()
    (path / "stale").write_text("of an older export")
    coreml.write(sample(), small_contract(), path, "float16")
    assert not (path / "stale").exists()
    assert (path / "Manifest.json").is_file()


def refused() -> Iterator[Any]:
    graph, contract = sample(), small_contract()
    yield pytest.param(graph, contract, "m.tflite", "float32", "no suffix of Core ML", id="suffix")
    yield pytest.param(graph, contract, "m.mlmodel", "float16", "in float16", id="old-float16")
    short = replace(contract, labels=contract.labels[:4])
    yield pytest.param(graph, short, "m.mlmodel", "float32", "5 outputs.*4 labels", id="labels")
    large = small_contract(12, 8)
    yield pytest.param(graph, large, "m.mlmodel", "float32", "12 x 8", id="size")
    heavy = [replace(n, weight=n.weight * 1e6) if isinstance(n, Dense) else n for n in graph.nodes]
    yield pytest.param(replace(graph, nodes=tuple(heavy)), contract, "m.mlpackage", "float16",
                       "which float16 cannot hold", id="overflow")  # fmt: skip
    biased = [replace(n, bias=n.bias + 1e5) if isinstance(n, Conv) else n for n in graph.nodes]
    yield pytest.param(replace(graph, nodes=tuple(biased)), contract, "m.mlpackage", "int8",
                       "which float16 cannot hold", id="bias-overflow")  # fmt: skip


@pytest.mark.parametrize(("graph", "contract", "name", "precision", "message"), refused())
def test_refused(
    graph: Graph, contract: Contract, name: str, precision: Any, message: str, tmp_path: Path
) -> None:
    with pytest.raises(coreml.CoreMLError, match=message):
        coreml.write(graph, contract, tmp_path / name, precision)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["m.mlpackage", "m.mlmodel"])
def test_unknown_kinds_are_all_named(name: str, tmp_path: Path) -> None:
    @dataclass(frozen=True, eq=False, kw_only=True)
    class Roll(Node):
        pass

    graph = make("residual").classify()
    first = Roll(name="first", inputs=("image",), output="a")
    second = Roll(name="second", inputs=("a",), output="b")
    shapes = {**graph.shapes, "a": (1, 3, 9, 11), "b": (1, 3, 9, 11)}
    broken = replace(graph, nodes=(first, second, *graph.nodes), shapes=shapes)
    with pytest.raises(coreml.CoreMLError, match=r"Roll \(first\), Roll \(second\)"):
        coreml.write(broken, small_contract(), tmp_path / name, "float32")


def test_awkward_names_stay_apart(tmp_path: Path) -> None:
    """ONNX names hold slashes, colons and dots; two may differ in nothing else."""
    graph = make("residual").classify()
    outputs = ["1", "a/b", "a.b", "a:b", "image.", "probabilities.", "probability/values", "ß"]
    new = dict(zip((n.output for n in graph.nodes), outputs, strict=False))

    def renamed(name: str) -> str:
        return new.get(name, name)

    awkward = replace(
        graph,
        nodes=tuple(
            replace(n, inputs=tuple(map(renamed, n.inputs)), output=renamed(n.output))
            for n in graph.nodes
        ),
        shapes={renamed(name): shape for name, shape in graph.shapes.items()},
        output=renamed(graph.output),
    )
    coreml.write(awkward, small_contract(), tmp_path / "m.mlpackage", "float32")
    names = [op.outputs[0].name for op in operations(opened(tmp_path / "m.mlpackage").get_spec())]
    assert len(names) == len(set(names))
    assert all(name.isascii() and name.isidentifier() for name in names)
    assert np.isin(["a_b", "a_b_2", "a_b_3", "t_1"], names).all()
