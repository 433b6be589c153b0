"""The SavedModel folder: signature, bytes, and what TensorFlow's own converter makes of it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from target_graphs import Sketch, make, small_contract, some_pixels

from exporter.convert.evaluate import Evaluator
from exporter.convert.graph import (
    ChannelShuffle,
    Concat,
    Fused,
    GlobalAveragePool,
    Graph,
    HardSwish,
    LocalResponseNorm,
    MaxPool,
    Node,
    Slice,
    Softmax,
    Tanh,
)
from exporter.convert.targets import saved_model
from models.contract import Contract

tf = pytest.importorskip("tensorflow")


def inverted_residual() -> Graph:
    """A MobileNetV2 in small: stem, expansion, depthwise, projection, sum, head."""
    from exporter.convert.graph import Add, Dense

    s = Sketch(16, 16)
    s.normalize()
    x = s.conv(8, 3, 3, 3, strides=(2, 2), padding=(1, 1, 1, 1), fused=Fused.RELU6)
    s.conv(16, 8, fused=Fused.RELU6)
    s.conv(16, 16, 3, 3, groups=16, padding=(1, 1, 1, 1), fused=Fused.RELU6)
    s.add(Add, x, s.conv(8, 16))
    s.add(GlobalAveragePool, keep_dims=False)
    s.add(Dense, weight=s.numbers(5, 8, scale=3), bias=s.numbers(5))
    s.add(Softmax)
    return s.graph()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Graph, Contract, Path]:
    graph, contract = inverted_residual(), small_contract(16, 16)
    path = tmp_path_factory.mktemp("saved") / "saved_model"
    saved_model.write(graph, contract, path)
    return graph, contract, path


def test_signature(written: tuple[Graph, Contract, Path]) -> None:
    graph, _, path = written
    serve = tf.saved_model.load(str(path)).signatures["serving_default"]
    (name, spec), = serve.structured_input_signature[1].items()  # fmt: skip
    assert (name, spec.dtype, spec.shape.as_list()) == ("image", tf.uint8, [1, 16, 16, 3])
    assert list(serve.structured_outputs) == ["probabilities"]
    pixels = some_pixels(16, 16)
    found = serve(image=tf.constant(pixels[None]))["probabilities"].numpy()
    wanted = Evaluator(graph, threads=1).run(pixels)[graph.output]
    assert found.dtype == np.float32
    assert np.ptp(wanted) > 0.1
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_assets(written: tuple[Graph, Contract, Path]) -> None:
    _, contract, path = written
    labels = (path / "assets" / "labels.txt").read_text(encoding="utf-8").splitlines()
    assert tuple(labels) == contract.names
    assert Contract.load(path / "assets" / "contract.json") == contract


def tflite_operators(path: Path, **options: Any) -> Counter[str]:
    converter = tf.lite.TFLiteConverter.from_saved_model(str(path))
    for key, value in options.items():
        setattr(converter, key, value)
    interpreter = tf.lite.Interpreter(model_content=converter.convert())
    # no public list of operators exists; the name is as old as the interpreter
    return Counter(op["op_name"] for op in interpreter._get_ops_details())


@pytest.mark.filterwarnings("ignore")
def test_tensorflows_converter_finds_nothing_to_do(written: tuple[Graph, Contract, Path]) -> None:
    """One operator a layer: bias and ReLU6 fused, no transpose, an explicit pad for stride 2."""
    found = tflite_operators(written[2])
    found.pop("DELEGATE", None)
    assert found == {
        "CAST": 1, "SUB": 1, "MUL": 1, "PAD": 1, "CONV_2D": 3, "DEPTHWISE_CONV_2D": 1,
        "ADD": 1, "MEAN": 1, "FULLY_CONNECTED": 1, "SOFTMAX": 1,
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore")
def test_operators_of_the_zoo_become_one_each(tmp_path: Path) -> None:
    """Those of the TFLite writer: SLICE and not STRIDED_SLICE, one CONV_2D for all groups."""
    sketch = Sketch()
    sketch.conv(8, 3)
    sketch.add(Tanh)
    sketch.add(LocalResponseNorm, size=5, alpha=0.1)
    whole = sketch.conv(8, 8, 3, 3, groups=4, padding=(1, 1, 1, 1))
    low = sketch.add(Slice, whole, axis=1, start=0, stop=3)
    high = sketch.add(Slice, whole, axis=1, start=3, stop=8)
    sketch.add(Concat, high, low)
    sketch.add(ChannelShuffle, groups=2)
    sketch.add(MaxPool, kernel=(3, 3), strides=(2, 2), padding=(0, 0, 1, 1))
    sketch.add(GlobalAveragePool)
    saved_model.write(sketch.classify(), small_contract(), tmp_path / "m")
    found = tflite_operators(tmp_path / "m")
    found.pop("DELEGATE", None)
    assert found == {
        "CAST": 1, "CONV_2D": 2, "TANH": 1, "LOCAL_RESPONSE_NORMALIZATION": 1, "SLICE": 2,
        "CONCATENATION": 1, "RESHAPE": 2, "TRANSPOSE": 1, "PADV2": 1, "MAX_POOL_2D": 1,
        "MEAN": 1, "FULLY_CONNECTED": 1, "SOFTMAX": 1,
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore")
def test_dilation_and_hard_swish_become_one_operator(tmp_path: Path) -> None:
    sketch = make("depthwise_dilated")
    sketch.add(HardSwish)
    sketch.add(GlobalAveragePool)
    saved_model.write(sketch.classify(), small_contract(), tmp_path / "m")
    found = tflite_operators(tmp_path / "m")
    assert found["HARD_SWISH"] == 1
    assert found["DEPTHWISE_CONV_2D"] == 1
    assert not {"SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND", "TRANSPOSE"} & set(found)


def digests(folder: Path) -> dict[str, str]:
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def test_another_process_writes_the_same_bytes(
    written: tuple[Graph, Contract, Path], tmp_path: Path
) -> None:
    """The other process has another hash seed and has made functions of its own before."""
    script = (
        "import sys; from pathlib import Path\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import tensorflow as tf\n"
        "for n in range(7): tf.function(lambda x: x + 1)(tf.constant(n))\n"
        "from test_saved_model_files import inverted_residual, small_contract, saved_model\n"
        "saved_model.write(inverted_residual(), small_contract(16, 16), Path(sys.argv[1]))\n"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "4711"}
    subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "again")],
        check=True,
        capture_output=True,
        env=environment,
    )
    assert digests(tmp_path / "again") == digests(written[2])


def test_unknown_kinds_are_all_named(tmp_path: Path) -> None:
    @dataclass(frozen=True, eq=False, kw_only=True)
    class Roll(Node):
        pass

    sketch = Sketch()
    graph = sketch.graph()
    nodes = (
        Roll(name="first", inputs=("image",), output="a"),
        Roll(name="second", inputs=("a",), output="b"),
    )
    shape = graph.input.shape
    broken = Graph(graph.input, "b", nodes, {"image": shape, "a": shape, "b": shape})
    with pytest.raises(saved_model.SavedModelError, match=r"Roll \(first\), Roll \(second\)"):
        saved_model.write(broken, small_contract(), tmp_path / "m")
    assert not (tmp_path / "m").exists()
