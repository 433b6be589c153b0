"""The weight file of an ML program: MIL blob storage, version 2.

A header of 64 bytes (uint32 count, uint32 version = 2, reserved zeros), then for
each blob its 64 bytes of metadata (uint32 sentinel 0xDEADBEEF, uint32 data type,
uint64 size in bytes, uint64 offset of the data, uint64 padding in bits where an
element is smaller than a byte, reserved zeros) and its data; metadata and data each
start at a multiple of 64. All little-endian. A program refers to a blob by the
offset of its metadata. (The format is described in coremltools'
`mlmodel/src/MILBlob/Blob/StorageFormat.hpp`.)
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from exporter.prove.runtimes.coreml.errors import CoreMLFileError

ALIGNMENT = 64
SENTINEL = 0xDEADBEEF
VERSION = 2
_HEADER = struct.Struct("<II56x")
_METADATA = struct.Struct("<IIQQQ32x")
DTYPES = {
    1: "float16", 2: "float32", 3: "uint8", 4: "int8", 5: "bfloat16", 6: "int16",
    7: "uint16", 8: "int4", 9: "uint1", 10: "uint2", 11: "uint4", 12: "uint3",
    13: "uint6", 14: "int32", 15: "uint32", 16: "float8e4m3fn", 17: "float8e5m2",
}  # fmt: skip


@dataclass(frozen=True)
class Blob:
    """Where one blob's data lies.

    Attributes:
        dtype: name of the element type.
        start: offset of the first byte of data in the file.
        size: length of the data in bytes.
        padding_bits: how many of the last bits belong to no element.
    """

    dtype: str
    start: int
    size: int
    padding_bits: int


class BlobFile:
    """One weight file, walked from end to end when it is opened.

    Raises:
        CoreMLFileError: the file is missing, its header or any blob's metadata is not
            as the format says, or it ends before its last blob does.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._bytes = path.read_bytes()
        except OSError as error:
            raise CoreMLFileError(
                f"The weight file {path.name} cannot be read.", str(error)
            ) from error
        self.blobs = self._walk()
        self._read: set[int] = set()

    def read(self, offset: int, where: str) -> tuple[Blob, memoryview]:
        """The blob whose metadata starts at `offset`, and its data.

        Raises:
            CoreMLFileError: no blob starts there.
        """
        blob = self.blobs.get(offset)
        if blob is None:
            raise CoreMLFileError(
                f"{where} points to offset {offset} of {self.path.name}.",
                f"no blob starts there (the file has {len(self._bytes)} bytes)",
            )
        self._read.add(offset)
        return blob, memoryview(self._bytes)[blob.start : blob.start + blob.size]

    def finish(self) -> None:
        """Raise when the file holds a blob that nothing read.

        Raises:
            CoreMLFileError: some weights are not used, so an offset is likely wrong.
        """
        unread = sorted(set(self.blobs) - self._read)
        if unread:
            raise CoreMLFileError(
                f"{self.path.name} has blobs that nothing reads, at offsets {unread[:8]}.",
                "weights that are not used mean that something else is used in their place",
            )

    def _walk(self) -> dict[int, Blob]:
        if len(self._bytes) < _HEADER.size:
            raise self._damaged(f"it has {len(self._bytes)} bytes, its header alone has 64")
        count, version = _HEADER.unpack_from(self._bytes)
        if version != VERSION:
            raise self._damaged(f"its version is {version}, not {VERSION}")
        blobs: dict[int, Blob] = {}
        offset = _HEADER.size
        for index in range(count):
            blob = self._metadata(offset, index, count)
            blobs[offset] = blob
            offset = _aligned(blob.start + blob.size)
        if _aligned(len(self._bytes)) > offset:
            raise self._damaged(f"it goes on after its {count} blobs, from byte {offset}")
        return blobs

    def _metadata(self, offset: int, index: int, count: int) -> Blob:
        which = f"blob {index + 1} of {count} at offset {offset}"
        if offset + _METADATA.size > len(self._bytes):
            raise self._damaged(f"it ends before {which}")
        sentinel, code, size, start, padding = _METADATA.unpack_from(self._bytes, offset)
        if sentinel != SENTINEL:
            raise self._damaged(f"{which} starts with {sentinel:#010x}, not {SENTINEL:#010x}")
        if code not in DTYPES:
            raise self._damaged(f"{which} has the unknown data type {code}")
        if start != offset + _METADATA.size:
            raise self._damaged(f"{which} has its data at {start}, not right after its metadata")
        if start + size > len(self._bytes):
            raise self._damaged(
                f"{which} needs {size} bytes, {max(len(self._bytes) - start, 0)} are left"
            )
        return Blob(DTYPES[code], start, size, padding)

    def _damaged(self, why: str) -> CoreMLFileError:
        return CoreMLFileError(f"The weight file {self.path.name} is damaged.", why)


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT
