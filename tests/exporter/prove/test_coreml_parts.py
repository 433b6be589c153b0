"""Parts of the Core ML evaluator against values worked out by hand."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from exporter.prove.runtimes.coreml import CoreMLFileError, kernels
from exporter.prove.runtimes.coreml.blobs import BlobFile
from exporter.prove.runtimes.coreml.labels import in_contract_order
from exporter.prove.runtimes.coreml.lifetimes import last_uses


def test_bits_are_unpacked_from_either_end() -> None:
    # 2 bits each, least significant first: 0b11_01_00_10 holds 2, 0, 1, 3
    assert kernels.unpack_bits(bytes([0b11010010]), 2, 4, "little").tolist() == [2, 0, 1, 3]
    assert kernels.unpack_bits(bytes([0b11010010]), 2, 4, "big").tolist() == [3, 1, 0, 2]
    # 6 bits each across a byte border: 0b00_000101, 0b0000_0011 holds 5, 12
    assert kernels.unpack_bits(bytes([0b00000101, 0b00000011]), 6, 2, "little").tolist() == [5, 12]
    assert kernels.unpack_bits(bytes([0b00010100, 0b11000000]), 6, 2, "big").tolist() == [5, 12]
    with pytest.raises(ValueError, match="3 bytes"):
        kernels.unpack_bits(bytes(3), 6, 2, "little")


def test_same_padding_puts_the_odd_pixel_where_it_is_told() -> None:
    # 5 wide, kernel 2, stride 2: 3 outputs reach 6 pixels, one more than there are
    assert kernels.same_padding((5, 5), (2, 2), (2, 2)) == ((0, 1), (0, 1))
    assert kernels.same_padding((5, 5), (2, 2), (2, 2), low=True) == ((1, 0), (1, 0))
    # dilation 2 makes a kernel of 3 reach 5
    assert kernels.same_padding((4, 4), (3, 3), (1, 1), (2, 2)) == ((2, 2), (2, 2))


def test_average_pooling_divides_by_what_it_is_told() -> None:
    x = np.array([[[[1, 2], [3, 6]]]], np.float32)
    edges = ((1, 1), (1, 1))
    whole = kernels.pool(x, "average", (2, 2), (2, 2), edges)
    assert whole.reshape(-1).tolist() == [0.25, 0.5, 0.75, 1.5]
    inside = kernels.pool(x, "average", (2, 2), (2, 2), edges, exclude_padding=True)
    assert inside.reshape(-1).tolist() == [1, 2, 3, 6]
    with pytest.raises(ValueError, match="nothing but padding"):
        kernels.pool(x, "average", (1, 1), (1, 1), edges, exclude_padding=True)


def test_padding_never_wins_a_maximum() -> None:
    x = np.full((1, 1, 2, 2), -3, np.float32)
    assert kernels.pool(x, "max", (3, 3), (1, 1), ((1, 1), (1, 1))).max() == -3


def test_softmax_and_sigmoid_do_not_overflow() -> None:
    large = np.array([[1e4, 0, -1e4]], np.float32)
    assert kernels.softmax(large, -1).tolist() == [[1, 0, 0]]
    assert kernels.sigmoid(large).tolist() == [[1, 0.5, 0]]


def test_probabilities_are_put_into_the_order_of_the_contract() -> None:
    order = in_contract_order(("b", "c", "a"), ("a", "b", "c"), Path("file"))
    assert np.array([0.2, 0.7, 0.1])[order].tolist() == [0.1, 0.2, 0.7]
    with pytest.raises(CoreMLFileError, match="lacking: \\['a'\\]"):
        in_contract_order(("b", "c"), ("a", "b"), Path("file"))


def _blob(dtype: int, data: bytes, offset: int, padding: int = 0) -> bytes:
    head = struct.pack("<IIQQQ32x", 0xDEADBEEF, dtype, len(data), offset + 64, padding)
    return (head + data).ljust(-(-(64 + len(data)) // 64) * 64, b"\0")


def test_a_weight_file_written_by_hand_is_read(tmp_path: Path) -> None:
    first = _blob(2, np.arange(3, dtype="<f4").tobytes(), 64)
    second = _blob(4, bytes([255, 2]), 64 + len(first))
    path = tmp_path / "weight.bin"
    path.write_bytes(struct.pack("<II56x", 2, 2) + first + second)
    file = BlobFile(path)
    blob, data = file.read(64, "here")
    assert (blob.dtype, np.frombuffer(data, "<f4").tolist()) == ("float32", [0, 1, 2])
    with pytest.raises(CoreMLFileError, match="nothing reads, at offsets \\[192\\]"):
        file.finish()
    blob, data = file.read(64 + len(first), "here")
    assert (blob.dtype, bytes(data)) == ("int8", b"\xff\x02")
    file.finish()
    with pytest.raises(CoreMLFileError, match="no blob starts there"):
        file.read(128, "here")


@dataclass(frozen=True)
class Step:
    inputs: tuple[str, ...]
    output: str


def test_a_tensor_is_let_go_after_the_last_step_that_reads_it() -> None:
    steps = [
        Step(("image", "weight"), "a"),
        Step(("a",), "b"),
        Step(("b", "a"), "c"),
        Step(("c", "weight"), "d"),
    ]
    freed = last_uses(steps, {"weight"})
    assert freed == {"a": ["image"], "c": ["a", "b"], "d": ["c"]}


def test_local_response_normalization_by_hand() -> None:
    """Channels 1, 2, 3, 4; a window of 3 and alpha 3, so that it is x / (1 + sum of squares)."""
    x = np.float32([1, 2, 3, 4]).reshape(1, 4, 1, 1)
    found = kernels.local_response_norm(x, 3, 3.0, 1.0, 1.0)
    wanted = [1 / (1 + 5), 2 / (1 + 14), 3 / (1 + 29), 4 / (1 + 25)]
    np.testing.assert_allclose(found.reshape(-1), wanted, rtol=1e-6)
    for size in (0, 2):
        with pytest.raises(ValueError, match=f"a window of {size}"):
            kernels.local_response_norm(x, size, 1.0, 1.0, 1.0)
