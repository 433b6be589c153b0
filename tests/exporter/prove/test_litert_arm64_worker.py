"""The program inside the ARM64 system, run here in-process: its protocol and its network."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from exporter.prove.runtimes.litert import LiteRtRuntime
from exporter.prove.runtimes.litert_arm64 import selfcheck, worker
from support import tflite_files, tinyfiles


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("worker") / "float32.tflite"
    tinyfiles.write_tflite(made, "float32")
    return made


def frame(kind: bytes, payload: bytes = b"") -> bytes:
    """By the description, not by the code."""
    return kind + struct.pack("<I", len(payload)) + payload


def talk(*requests: bytes) -> list[tuple[bytes, bytes]]:
    answers = io.BytesIO()
    worker.serve(worker.Worker(Interpreter), io.BytesIO(b"".join(requests)), answers)
    answers.seek(0)
    found = []
    while (one := worker.read_frame(answers)) is not None:
        found.append(one)
    assert answers.read() == b""
    return found


def test_a_frame_is_kind_length_and_payload() -> None:
    stream = io.BytesIO()
    worker.write_frame(stream, b"K", b"abc")
    worker.write_frame(stream, b"E", b"")
    assert stream.getvalue() == b"K\x03\0\0\0abcE\0\0\0\0"
    stream.seek(0)
    assert [worker.read_frame(stream) for _ in range(3)] == [(b"K", b"abc"), (b"E", b""), None]


@pytest.mark.parametrize("cut", [b"K", b"K\x03\0\0", b"K\x03\0\0\0", b"K\x03\0\0\0ab"])
def test_a_frame_cut_short_is_the_end(cut: bytes) -> None:
    assert worker.read_frame(io.BytesIO(cut)) is None


def test_two_files_are_opened_and_run_each_by_its_number(path: Path) -> None:
    pixels = tinyfiles.pictures()[0]
    first, second, network, picture = talk(
        frame(b"O", selfcheck.model()),
        frame(b"O", path.read_bytes()),
        frame(b"R", struct.pack("<I", 0) + selfcheck.given().tobytes()),
        frame(b"R", struct.pack("<I", 1) + pixels.tobytes()),
    )
    assert [kind for kind, _ in (first, second, network, picture)] == [b"K"] * 4
    assert json.loads(first[1])["number"] == 0
    assert json.loads(second[1]) == {
        "number": 1,
        "inputs": [{"dtype": "uint8", "shape": [1, tinyfiles.SIDE, tinyfiles.SIDE, 3]}],
        "outputs": [{"dtype": "float32", "shape": [1, tinyfiles.CLASSES]}],
    }
    assert network[1] == selfcheck.answer().tobytes()
    with LiteRtRuntime().open(path, tinyfiles.CONTRACT) as session:
        assert picture[1] == session.probabilities(pixels).tobytes()


def test_it_says_what_it_is() -> None:
    ((kind, payload),) = talk(frame(b"V"))
    assert kind == b"K"
    assert json.loads(payload)["numpy"] == np.__version__


@pytest.mark.parametrize(
    ("request_frame", "words"),
    [
        (frame(b"O", b"no model"), "Error"),
        (frame(b"O", b""), "Error"),
        (frame(b"R", struct.pack("<I", 7) + b"\0"), "IndexError"),
        (frame(b"R", b"\0"), "unpack"),
        (frame(b"?"), "KeyError"),
    ],
)
def test_what_cannot_be_done_is_refused_and_the_next_is_answered(
    request_frame: bytes, words: str
) -> None:
    (refusal, reason), (kind, _) = talk(request_frame, frame(b"V"))
    assert (refusal, kind) == (b"E", b"K")
    assert words in reason.decode()


def test_an_image_of_another_size_is_refused(path: Path) -> None:
    _, (kind, reason) = talk(
        frame(b"O", path.read_bytes()), frame(b"R", struct.pack("<I", 0) + bytes(100))
    )
    assert kind == b"E"
    assert b"reshape" in reason


def run(model: bytes, given: np.ndarray) -> np.ndarray:
    interpreter = Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], given)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def test_the_known_answer_is_what_this_machine_computes() -> None:
    np.testing.assert_array_equal(
        run(selfcheck.model(), selfcheck.given()), selfcheck.answer(), strict=True
    )
    assert tflite_files.kinds_of(selfcheck.model()) == [
        "CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D"
    ]  # fmt: skip


def direct(values: np.ndarray, layer: selfcheck.Layer, zero_in: int, zero_out: int) -> np.ndarray:
    """One layer in Python's integers, one output at a time, without numpy's arithmetic."""
    size = layer.weights.shape[1]
    side = values.shape[1] - size + 1
    made = np.zeros((1, side, side, len(layer.bias)), np.int64)
    channels = range(values.shape[3])
    for y in range(side):
        for x in range(side):
            for out in range(len(layer.bias)):
                total = int(layer.bias[out])
                for i in range(size):
                    for j in range(size):
                        for c in [out] if layer.depthwise else channels:
                            at = (0, i, j, out) if layer.depthwise else (out, i, j, c)
                            pixel = int(values[0, y + i, x + j, c]) - zero_in
                            total += pixel * int(layer.weights[at])
                step = 2 ** int(layer.shifts[out])
                assert total % step != step // 2  # no tie
                made[0, y, x, out] = (total + step // 2) // step + zero_out
    return made.clip(-128, 127)


def test_the_known_answer_by_hand() -> None:
    values: Any = selfcheck.given()
    zeros = selfcheck._ZERO_POINTS
    for number, layer in enumerate(selfcheck.layers()):
        values = direct(values, layer, zeros[number], zeros[number + 1])
    np.testing.assert_array_equal(values, selfcheck.answer())
    assert selfcheck.answer().std() > 15
    assert np.abs(selfcheck.answer()).max() < 127  # nothing is hidden by clipping
