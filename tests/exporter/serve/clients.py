"""Everything that the server's tests share: a running server, and what asks it."""

from __future__ import annotations

import hashlib
import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from exporter.bundle import Bundle
from exporter.prove import golden
from exporter.serve import command
from exporter.serve.routes import Resource
from exporter.serve.server import TOKEN_HEADER, Bench


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Running:
    """A server that answers on 127.0.0.1, and its clients."""

    def __init__(self, bench: Bench) -> None:
        self.bench, self.port = bench, int(bench.server_address[1])

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def ask(
        self,
        path: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.putrequest(method, path, skip_host="Host" in (headers or {}))
            for name, value in (headers or {}).items():
                connection.putheader(name, value)
            if body is not None and "Content-Length" not in (headers or {}):
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def post(self, data: Any, **headers: str) -> Answer:
        """Send a result with the token; a header given as '' is left out."""
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        given = {"Content-Type": "application/json", TOKEN_HEADER: self.bench.token}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        return self.ask("/results", "POST", body, {k: v for k, v in given.items() if v})

    def raw(self, sent: bytes, end: bool = False) -> bytes:
        """Everything that comes back until the server closes.

        Args:
            end: say that nothing more will be sent.
        """
        with self.connect() as plug:
            plug.sendall(sent)
            if end:
                plug.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: plug.recv(65536), b""))


Serve = Callable[..., AbstractContextManager[Running]]


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


@contextmanager
def running_server(
    bundle: Bundle, table: Mapping[str, Resource], host: str = "127.0.0.1", **options: Any
) -> Iterator[Running]:
    """A server in a thread of this process; options are those of `command.bind`."""
    context = options.pop("context", None)
    with serving_thread(command.bind(host, 0, bundle, table, context, **options)) as bench:
        yield Running(bench)


@contextmanager
def serving_thread(bench: Bench) -> Iterator[Bench]:
    """A bound server, serving until the block ends."""
    thread = threading.Thread(target=bench.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield bench
    finally:
        bench.shutdown()
        bench.server_close()
        thread.join(timeout=10)


def failed_result(bundle: Bundle, name: str = "Phone") -> dict[str, Any]:
    """From a device on which the first file did not run."""
    row = bundle.formats()[0]
    known = {entry["path"]: entry["sha256"] for entry in bundle.manifest["files"]}
    entry = {"key": row.key, "sha256": known[row.path], "status": "failed", "reason": "no memory"}
    return {
        "schema": 1,
        "device": {"name": name, "threads": 1},
        "runtime": "LiteRT.js",
        "accelerator": "wasm",
        "artifacts": [{**entry, "images": []}],
    }


def honest_result(bundle: Bundle) -> dict[str, Any]:
    """From an honest device: the recorded answers."""
    recorded = golden.load(bundle)
    assert recorded is not None
    known = {entry["path"]: entry["sha256"] for entry in bundle.manifest["files"]}
    artifacts = []
    for row in bundle.formats():
        images = []
        for name, answers in recorded.expected.items():
            pixels = np.asarray(Image.open(bundle.root / "golden" / name))
            digest = hashlib.sha256(pixels.tobytes()).hexdigest()
            found = [float(value) for value in answers[row.key]]
            images.append({"file": name, "pixels_sha256": digest, "probabilities": found})
        artifacts.append(
            {"key": row.key, "sha256": known[row.path], "status": "run", "images": images}
        )
    about = {"name": "Pixel 7", "user_agent": "x", "threads": 2}
    return {"schema": 1, "device": about, "runtime": "LiteRT.js 2.5.3", "accelerator": "wasm",
            "artifacts": artifacts}  # fmt: skip
