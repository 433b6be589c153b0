"""A Node process that answers frames; see browser_node.mjs for what is in one."""

from __future__ import annotations

import contextlib
import json
import struct
import subprocess
import tempfile
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

_HEAD = struct.Struct("<II")
_MAX_ANSWER = 1 << 28
_END_S = 5.0


class ProcessError(Exception):
    """The process answered with an error, ended, or was too slow; the text says which."""


class FramedProcess:
    """One child process, asked and answering over its pipes.

    Args:
        command: what to start.
        timeout_s: the longest that one answer may take, in seconds.

    Raises:
        ProcessError: it cannot be started.
    """

    def __init__(self, command: Sequence[str | Path], timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        try:
            self._process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
            )
        except OSError as error:
            self._errors.close()
            raise ProcessError(f"{command[0]} cannot be started: {error}") from error
        self.close = weakref.finalize(self, _end, self._process, self._errors)

    @property
    def pid(self) -> int:
        """The child's process number."""
        return self._process.pid

    def ask(self, request: dict[str, Any], payload: bytes = b"") -> tuple[dict[str, Any], bytes]:
        """Send one frame and wait for its answer.

        Raises:
            ProcessError: it answered with an error, ended, or took longer than `timeout_s`.
        """
        late = threading.Event()
        timer = threading.Timer(self._timeout_s, self._kill, [late])
        timer.start()
        try:
            answer, made = self._exchange(request, payload)
        except (OSError, EOFError, ValueError, struct.error) as error:
            if late.is_set():
                raise ProcessError(f"no answer within {self._timeout_s:g} s") from error
            self._process.kill()
            code = self._process.wait()
            raise ProcessError(f"it ended with status {code}: {self._last_words()}") from error
        finally:
            timer.cancel()
        if "error" in answer:
            raise ProcessError(str(answer["error"]))
        return answer, made

    def _exchange(self, request: dict[str, Any], payload: bytes) -> tuple[dict[str, Any], bytes]:
        assert self._process.stdin is not None
        text = json.dumps(request).encode("utf-8")
        self._process.stdin.write(_HEAD.pack(len(text), len(payload)) + text + payload)
        self._process.stdin.flush()
        text_length, payload_length = _HEAD.unpack(self._read(_HEAD.size))
        if text_length + payload_length > _MAX_ANSWER:
            raise ValueError("an answer of impossible length")
        return json.loads(self._read(text_length)), self._read(payload_length)

    def _read(self, length: int) -> bytes:
        assert self._process.stdout is not None
        found = self._process.stdout.read(length)
        if len(found) < length:
            raise EOFError
        return found

    def _kill(self, late: threading.Event) -> None:
        late.set()
        self._process.kill()

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        said = [line for line in lines if "Error" in line] or lines[-1:]
        return said[-1].strip() if said else "it said nothing"


def _end(process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
    """Close its input, which ends it, and kill it where that does not."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):  # it ended with unread bytes in the pipe
                pipe.close()
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    errors.close()
