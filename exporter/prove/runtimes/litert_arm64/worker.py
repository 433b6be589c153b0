"""The program that runs inside the emulated ARM64 system: it opens models and runs them.

Only the standard library, numpy and LiteRT exist there; nothing of exporter does. What is
asked comes in through stdin, what is answered goes out through stdout, in frames of one
byte (the kind), four bytes (the length, little endian) and the payload:

* `O`, a TFLite file: open it. Answered with JSON: a number for it, and the dtype and shape
  of each input and output.
* `R`, that number in four bytes and the raw bytes of the one input: run it. Answered with
  the raw bytes of the first output.
* `V`, nothing: answered with JSON, the versions here.

An answer's kind is `K`, or `E` where LiteRT refused; its payload is the reason then.
"""

from __future__ import annotations

import json
import os
import platform
import struct
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

HEADER = struct.Struct("<cI")
NUMBER = struct.Struct("<I")
OPEN, RUN, VERSIONS = b"O", b"R", b"V"
GOOD, REFUSED = b"K", b"E"


def read_frame(stream: BinaryIO) -> tuple[bytes, bytes] | None:
    """Kind and payload of the next frame; None where the stream has ended."""
    head = stream.read(HEADER.size)
    if len(head) < HEADER.size:
        return None
    kind, length = HEADER.unpack(head)
    payload = stream.read(length)
    return None if len(payload) < length else (kind, payload)


def write_frame(stream: BinaryIO, kind: bytes, payload: bytes) -> None:
    stream.write(HEADER.pack(kind, len(payload)))
    stream.write(payload)
    stream.flush()


class Worker:
    """Keeps the opened models and answers one request at a time.

    Args:
        interpreter: LiteRT's class `Interpreter`.
    """

    def __init__(self, interpreter: Callable[..., Any]) -> None:
        self._interpreter = interpreter
        self._opened: list[Any] = []

    def answer(self, kind: bytes, payload: bytes) -> tuple[bytes, bytes]:
        """Kind and payload of the answer to one frame."""
        tasks = {OPEN: self._open, RUN: self._run, VERSIONS: self._versions}
        try:
            return GOOD, tasks[kind](payload)
        except (ValueError, RuntimeError, LookupError, TypeError, struct.error) as error:
            return REFUSED, f"{type(error).__name__}: {error}".encode()

    def _open(self, model: bytes) -> bytes:
        opened = self._interpreter(model_content=model, num_threads=1)
        opened.allocate_tensors()
        self._opened.append(opened)
        found = {
            "number": len(self._opened) - 1,
            "inputs": [_interface(one) for one in opened.get_input_details()],
            "outputs": [_interface(one) for one in opened.get_output_details()],
        }
        return json.dumps(found).encode()

    def _run(self, payload: bytes) -> bytes:
        import numpy as np

        (number,) = NUMBER.unpack_from(payload)
        opened = self._opened[number]
        given = opened.get_input_details()[0]
        values = np.frombuffer(payload, given["dtype"], offset=NUMBER.size)
        opened.set_tensor(given["index"], values.reshape(given["shape"]))
        opened.invoke()
        return opened.get_tensor(opened.get_output_details()[0]["index"]).tobytes()

    def _versions(self, _: bytes) -> bytes:
        import numpy as np

        found = {
            "machine": platform.machine(),
            "python": platform.python_version(),
            "numpy": np.__version__,
        }
        return json.dumps(found).encode()


def _interface(details: dict[str, Any]) -> dict[str, Any]:
    import numpy as np

    return {"dtype": np.dtype(details["dtype"]).name, "shape": details["shape"].tolist()}


def serve(worker: Worker, requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer until the requests end."""
    while (frame := read_frame(requests)) is not None:
        write_frame(answers, *worker.answer(*frame))


def main(packages: str) -> None:
    """Serve stdin and stdout with the LiteRT that lies in the folder `packages`."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not end up between the frames
    sys.path.insert(0, packages)
    from ai_edge_litert.interpreter import Interpreter

    serve(Worker(Interpreter), sys.stdin.buffer, answers)


if __name__ == "__main__":
    main(sys.argv[1])
