"""LiteRT.js, as a browser runs a .tflite file: WebAssembly, here inside Node.

The package is the one that `exporter serve` gives to browsers, and Node's engine is
Chromium's, so what this runs is what a desktop Chromium runs. Its speed is not
measured: a phone's browser measures itself on the page of `exporter serve`.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from exporter.prove.runtimes import litertjs
from exporter.prove.runtimes.base import Integers, Pixels, Probabilities, Runtime, Session
from exporter.prove.runtimes.browser_integers import Dequantized, dequantized
from exporter.prove.runtimes.browser_process import FramedProcess, ProcessError
from exporter.prove.runtimes.errors import ArtifactError, damaged, require_interface
from exporter.prove.runtimes.litert import embedded_labels, require_tflite
from models.contract import Contract
from models.errors import UserError

SCRIPT = Path(__file__).with_name("browser_node.mjs")
TIMEOUT_S = 120.0
_NAME = "LiteRT.js"


def node() -> str | None:
    """The path of Node, or None where it is not installed."""
    return shutil.which("node")


@functools.cache
def _node_version(path: str) -> str:
    """'20' of 'v20.20.2'; '' where it does not say."""
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return said.stdout.strip().removeprefix("v").partition(".")[0]


class BrowserSession(Session):
    """A .tflite file in a Node process of its own: uint8 `[1, H, W, 3]` to float32."""

    def __init__(self, path: Path, contract: Contract, command: list[str | Path]) -> None:
        require_tflite(path)
        self._path = path
        try:
            self._process = FramedProcess(command, TIMEOUT_S)
        except ProcessError as error:
            raise UserError("Node cannot be started.", str(error), "install node again") from error
        try:
            answer, _ = self._ask({"do": "open", "as": "whole"}, path.read_bytes())
            self._check(answer, contract)
        except BaseException:
            self.close()
            raise

    def _ask(self, request: dict[str, Any], payload: bytes) -> tuple[dict[str, Any], bytes]:
        try:
            return self._process.ask(request, payload)
        except ProcessError as error:
            raise damaged(self._path, _NAME, error) from error

    def _check(self, answer: dict[str, Any], contract: Contract) -> None:
        given, made = answer["inputs"], answer["outputs"]
        if len(given) != 1 or len(made) != 1:
            raise ArtifactError(
                f"{self._path} has {len(given)} inputs and {len(made)} outputs.",
                "the contract says one of each",
                "export the model again",
            )
        sides = [(side[0]["dtype"], side[0]["shape"]) for side in (given, made)]
        require_interface(self._path, contract, sides[0], sides[1])

    def probabilities(self, pixels: Pixels) -> Probabilities:
        return self._run("whole", pixels)

    def integers(self, pixels: Pixels) -> Integers | None:
        if self._cut is None:
            return None
        try:
            return self._cut.integers(self._run("cut", pixels))
        except ValueError as error:
            raise damaged(self._path, _NAME, error) from error

    @functools.cached_property
    def _cut(self) -> Dequantized | None:
        """The file up to its last DEQUANTIZE, opened beside the whole one."""
        made = dequantized(self._path.read_bytes())
        if made is not None:
            self._ask({"do": "open", "as": "cut"}, made.model)
        return made

    def _run(self, which: str, pixels: Pixels) -> Probabilities:
        raw = np.ascontiguousarray(pixels, np.uint8).tobytes()
        _, made = self._ask({"do": "run", "as": which}, raw)
        return np.frombuffer(made, "<f4").astype(np.float32)

    def labels(self) -> tuple[str, ...] | None:
        return embedded_labels(self._path)

    def close(self) -> None:
        self._process.close()


class BrowserRuntime(Runtime):
    """LiteRT.js on one thread of Node."""

    name = "browser"
    timed = False
    counterpart = "litert"

    def unavailable(self) -> str | None:
        if litertjs.installed() is None:
            return "LiteRT.js is not fetched (exporter fetch browser)"
        if node() is None:
            return "node is not installed"
        return None

    def version(self) -> str:
        path = node()
        number = _node_version(path) if path else ""
        return f"{_NAME} {litertjs.VERSION} in Node {number}".rstrip() + " (WebAssembly)"

    def open(self, path: Path, contract: Contract, threads: int = 1) -> Session:
        """Open a file; it runs on one thread whatever `threads` says.

        Raises:
            UserError: LiteRT.js or Node is missing, or the file is not as it should be.
        """
        folder, program = litertjs.installed(), node()
        if folder is None or program is None:
            raise UserError(
                "LiteRT.js cannot be run here.",
                str(self.unavailable()),
                "run 'exporter fetch browser' and install node",
            )
        return BrowserSession(path, contract, [program, SCRIPT, *_packages(folder)])


def _packages(folder: Path) -> tuple[Path, Path]:
    return folder / "core", folder / "wasm-utils"
