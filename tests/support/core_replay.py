"""Cases for android_demo/core, answered by its code on the JVM in one start.

`Replay.kt` among its tests reads what is written here and writes what is read here.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.contract import Preprocessing
from support import kotlin

ROOT = Path(__file__).parents[2] / "android_demo" / "core"
PACKAGE = "com.example.classifier.core"

Pixels = npt.NDArray[np.uint8]


def core_jar() -> Path:
    """The core, compiled as if Java 8 were all there is."""
    return kotlin.compile([ROOT / "src" / "main"])


def tests_jar() -> Path:
    """The core's tests, which may see what is internal to it."""
    core = core_jar()
    return kotlin.compile(
        [ROOT / "src" / "test"], [core, *kotlin.JUNIT], options=[f"-Xfriend-paths={core}"]
    )


@dataclass(frozen=True)
class Answered:
    """What the core said to one case.

    Attributes:
        content: the bytes, or the exception's class and message.
        failed: it threw.
    """

    content: bytes
    failed: bool

    @property
    def text(self) -> str:
        return self.content.decode("utf-8")

    def pixels(self, height: int, width: int) -> Pixels:
        """Returns uint8 `[height, width, 3]`; an exception is an assertion error."""
        assert not self.failed, self.text
        return np.frombuffer(self.content, np.uint8).reshape(height, width, 3)


@dataclass
class Cases:
    """A request in the making; `run` gives the answers in the order of the cases."""

    parts: list[bytes] = field(default_factory=list)
    count: int = 0
    core: Path | None = None  # another build of the core

    def _add(self, operation: str, *arguments: bytes) -> None:
        name = operation.encode()
        self.parts.append(struct.pack(">H", len(name)) + name + b"".join(arguments))
        self.count += 1

    def resize(self, pixels: Pixels, width: int, height: int) -> None:
        self._add("resize", _image(pixels), _ints(width, height))

    def square(self, pixels: Pixels, rule: Preprocessing) -> None:
        self._add("square", _image(pixels), _rule(rule))

    def orient(self, pixels: Pixels, orientation: int) -> None:
        self._add("orient", _image(pixels), _ints(orientation))

    def argb(self, rgba: Pixels) -> None:
        """`rgba`: uint8 `[height, width, 4]`."""
        height, width, _ = rgba.shape
        block = _block(np.ascontiguousarray(rgba[..., [3, 0, 1, 2]]).tobytes())
        self._add("argb", _ints(width, height), block)

    def exif(self, file: bytes) -> None:
        self._add("exif", _block(file))

    def contract(self, text: str) -> None:
        self._add("contract", _block(text.encode("utf-8")))

    def info(self, model: bytes) -> None:
        self._add("info", _block(model))

    def picture(self, path: Path, rule: Preprocessing) -> None:
        self._add("picture", _rule(rule), _block(str(path).encode()))

    def pack(self, model: bytes, contract: str, picture: Path) -> None:
        self._add("pack", _block(model), _block(contract.encode()), _block(str(picture).encode()))

    def answer(self, model: bytes, contract: str, output: bytes, count: int = 3) -> None:
        self._add("answer", _block(model), _block(contract.encode()), _block(output), _ints(count))

    def fuzz(self, model: bytes, contract: str, seed: int, count: int) -> None:
        given = _block(model), _block(contract.encode())
        self._add("fuzz", *given, struct.pack(">qi", seed, count))

    def run(self) -> list[Answered]:
        with tempfile.TemporaryDirectory() as name:
            request, reply = Path(name) / "request", Path(name) / "reply"
            request.write_bytes(_ints(self.count) + b"".join(self.parts))
            classpath = [self.core or core_jar(), tests_jar(), kotlin.stdlib()]
            arguments = [str(request), str(reply)]
            kotlin.run_java(classpath, f"{PACKAGE}.ReplayKt", arguments, jvm=["-Xmx1g"])
            return _read(reply.read_bytes(), self.count)


def _read(reply: bytes, count: int) -> list[Answered]:
    found, at = [], 0
    for _ in range(count):
        failed, length = struct.unpack_from(">bi", reply, at)
        found.append(Answered(reply[at + 5 : at + 5 + length], bool(failed)))
        at += 5 + length
    assert at == len(reply)
    return found


def _ints(*values: int) -> bytes:
    return struct.pack(f">{len(values)}i", *values)


def _block(content: bytes) -> bytes:
    return _ints(len(content)) + content


def _image(pixels: Pixels) -> bytes:
    height, width, channels = pixels.shape
    assert channels == 3
    return _ints(width, height) + _block(pixels.tobytes())


def _rule(rule: Preprocessing) -> bytes:
    return _ints(rule.height, rule.width, rule.resize_shorter_side)


def classes(folder: Path = ROOT) -> Sequence[str]:
    """The names of the core's JUnit classes."""
    return [f"{PACKAGE}.{path.stem}" for path in sorted(folder.rglob("*Test.kt"))]
