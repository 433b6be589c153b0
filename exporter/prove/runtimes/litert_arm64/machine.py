"""The emulated ARM64 machine: one process, spoken to in frames."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import tempfile
import time
import weakref
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from exporter.prove.runtimes.litert_arm64 import worker
from exporter.prove.runtimes.litert_arm64.layout import CPU, Layout

TIMEOUT = 600.0  # seconds for one answer; a large float network takes tens of them
_GRACE = 2.0  # seconds to leave by itself
_TAIL = 400  # characters of the process's complaints that an error shows


class RefusedError(Exception):
    """LiteRT in the machine does not take the file or the input."""


class StoppedError(Exception):
    """The machine is gone: it crashed, was killed, or gave no answer in time."""


@dataclass(frozen=True)
class Model:
    """A model opened in the machine.

    Attributes:
        inputs, outputs: (dtype name, shape) of each.
    """

    number: int
    inputs: tuple[tuple[str, list[int]], ...]
    outputs: tuple[tuple[str, list[int]], ...]


class Machine:
    """`qemu-aarch64` with the worker in it. It ends with `close`, or with this process.

    Args:
        layout: where the ARM64 system lies.
        cpu: the processor that is emulated, as QEMU spells it.
        timeout: seconds to wait for one answer.
        write_bytecode: let Python keep what it compiles in the ARM64 system.

    Raises:
        StoppedError: it does not even start.
    """

    def __init__(
        self,
        layout: Layout,
        cpu: str = CPU,
        timeout: float = TIMEOUT,
        write_bytecode: bool = False,
    ) -> None:
        self._timeout = timeout
        flags = ["-I", "-S"] if write_bytecode else ["-I", "-S", "-B"]
        command = [
            *(str(layout.emulator), "-cpu", cpu, "-L", str(layout.root)),
            *(str(layout.python), *flags, worker.__file__, str(layout.packages)),
        ]
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - closed by _reap
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._complaints,
                bufsize=0,
                cwd=layout.root,
                env={"PATH": os.defpath, "LC_ALL": "C.UTF-8"},
            )
        except OSError as error:
            self._complaints.close()
            raise StoppedError(f"it does not start: {error}") from error
        os.set_blocking(self._stdin.fileno(), False)
        self._reaped = weakref.finalize(self, _reap, self._process, self._complaints)

    @property
    def pid(self) -> int:
        return self._process.pid

    def open(self, model: bytes) -> Model:
        """Open a TFLite file.

        Raises:
            RefusedError, StoppedError: see there.
        """
        found = json.loads(self._ask(worker.OPEN, model))
        return Model(
            found["number"],
            *(
                tuple((one["dtype"], one["shape"]) for one in found[which])
                for which in ("inputs", "outputs")
            ),
        )

    def run(self, model: Model, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Run a model with one input and one output, of the shapes and dtypes it has.

        Raises:
            RefusedError, StoppedError: see there.
        """
        number = worker.NUMBER.pack(model.number)
        made = self._ask(worker.RUN, number + np.ascontiguousarray(values).tobytes())
        dtype, shape = model.outputs[0]
        return np.frombuffer(made, dtype).reshape(shape)

    def versions(self) -> dict[str, str]:
        """What runs in the machine: 'machine', 'python' and 'numpy'."""
        return json.loads(self._ask(worker.VERSIONS, b""))

    def close(self) -> None:
        """End the process and wait for its end."""
        self._reaped()

    @property
    def _stdin(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin

    @property
    def _stdout(self) -> IO[bytes]:
        assert self._process.stdout is not None
        return self._process.stdout

    def _ask(self, kind: bytes, payload: bytes) -> bytes:
        if not self._reaped.alive:
            raise StoppedError("it was closed")
        deadline = time.monotonic() + self._timeout
        try:
            self._send(worker.HEADER.pack(kind, len(payload)) + payload, deadline)
            answer, length = worker.HEADER.unpack(self._receive(worker.HEADER.size, deadline))
            made = self._receive(length, deadline)
        except (BrokenPipeError, EOFError):
            raise StoppedError(self._post_mortem()) from None
        except BaseException:  # an answer that comes later would be taken for the next one's
            self.close()
            raise
        if answer == worker.REFUSED:
            raise RefusedError(made.decode(errors="replace"))
        return made

    def _send(self, data: bytes, deadline: float) -> None:
        view = memoryview(data)
        while view:
            self._wait([], [self._stdin], deadline)
            view = view[os.write(self._stdin.fileno(), view) :]

    def _receive(self, count: int, deadline: float) -> bytes:
        parts = bytearray()
        while len(parts) < count:
            self._wait([self._stdout], [], deadline)
            part = os.read(self._stdout.fileno(), count - len(parts))
            if not part:
                raise EOFError
            parts += part
        return bytes(parts)

    def _wait(self, readable: list[Any], writable: list[Any], deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0 or not any(select.select(readable, writable, [], left)):
            raise StoppedError(f"it gave no answer within {self._timeout:g} seconds")

    def _post_mortem(self) -> str:
        """How the process ended, and the last that it said."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE)
        code = self._process.returncode
        how = "it closed its output" if code is None else f"it ended with exit code {code}"
        if code is not None and code < 0:
            how = f"it was ended by {signal.Signals(-code).name}"
        self._complaints.seek(0)
        said = " ".join(self._complaints.read().decode(errors="replace").split())
        self.close()
        return f"{how}: {said[-_TAIL:]}" if said else how


def _reap(process: subprocess.Popen[bytes], complaints: IO[bytes]) -> None:
    """End the process, by asking first, and leave neither a zombie nor an open pipe."""
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(OSError):
        process.stdin.close()
    try:
        process.wait(0 if process.poll() is not None else _GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()
    complaints.close()
