"""The server: what can be read, what is refused, what is kept. No browser here."""

from __future__ import annotations

import hashlib
import http.client
import json
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from exporter.bundle import Bundle, open_bundle
from exporter.prove import devices, golden
from exporter.serve import command, routes, server
from exporter.serve.server import HEADERS, TOKEN_HEADER, Bench
from models.errors import UserError
from support import page_bundle


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LiteRT.js in name only: the server never looks into it."""
    folder = tmp_path_factory.mktemp("litertjs")
    for name in ("core/dist", "core/wasm", "wasm-utils/dist"):
        (folder / name).mkdir(parents=True)
    (folder / "core/dist/index.js").write_text('import { x } from "@litertjs/wasm-utils";')
    (folder / "wasm-utils/dist/index.js").write_text("export const x = 1;")
    (folder / "core/wasm/litert.wasm").write_bytes(b"\0asm")
    (folder / "core/wasm/README").write_text("not served")
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made") / "dist"
    page_bundle.write(root)
    return root


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Bundle:
    shutil.copytree(made, tmp_path / "dist")
    return open_bundle(tmp_path / "dist")


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Running:
    def __init__(self, bench: Bench) -> None:
        self.bench, self.port = bench, bench.server_address[1]

    def ask(
        self,
        path: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
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
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        given = {"Content-Type": "application/json", TOKEN_HEADER: self.bench.token}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        return self.ask("/results", "POST", body, {k: v for k, v in given.items() if v})

    def raw(self, sent: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as plug:
            plug.sendall(sent)
            plug.shutdown(socket.SHUT_WR)
            parts = []
            while part := plug.recv(65536):
                parts.append(part)
        return b"".join(parts)


@pytest.fixture
def running(bundle: Bundle, library: Path) -> Iterator[Running]:
    resources = {**routes.page_table(library), **routes.bundle_table(bundle)}
    bench = command.bind("127.0.0.1", 0, bundle, resources, None)
    thread = threading.Thread(target=bench.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield Running(bench)
    bench.shutdown()
    bench.server_close()
    thread.join(timeout=10)


def result(bundle: Bundle) -> dict[str, Any]:
    """What an honest device sends: the recorded answers."""
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


def test_what_a_page_needs_is_there_with_its_type(running: Running, bundle: Bundle) -> None:
    kinds = {
        "/": "text/html; charset=utf-8",
        "/static/app.js": "text/javascript; charset=utf-8",
        "/sw.js": "text/javascript; charset=utf-8",
        "/manifest.webmanifest": "application/manifest+json",
        "/litert/core.js": "text/javascript; charset=utf-8",
        "/litert/wasm/litert.wasm": "application/wasm",
        "/bundle/index.json": "application/json",
        "/bundle/contract.json": "application/json",
        "/bundle/golden/00.png": "image/png",
        "/bundle/golden/photo.jpg": "image/jpeg",
        "/bundle/model_int8.tflite": "application/octet-stream",
        "/bundle/model_int8.tflite?v=123": "application/octet-stream",
    }
    for path, kind in kinds.items():
        answer = running.ask(path)
        assert (path, answer.status, answer.headers["Content-Type"]) == (path, 200, kind)
        head = running.ask(path, "HEAD")
        assert (head.status, head.body) == (200, b"")
        assert head.headers["Content-Length"] == str(len(answer.body))
    assert running.ask("/litert/core.js").body == b'import { x } from "/litert/wasm-utils.js";'
    model = running.ask("/bundle/model_int8.tflite").body
    assert model == (bundle.root / "model_int8.tflite").read_bytes()
    index = running.ask("/bundle/index.json").json
    assert [entry["key"] for entry in index["tflite"]] == list(page_bundle.KEYS)
    assert index["tflite"][2]["sha256"] == hashlib.sha256(model).hexdigest()
    assert index["label_hash"] == bundle.contract.label_hash


@pytest.mark.parametrize(
    "path",
    [
        "/bundle/manifest.json",
        "/bundle/reference/checkpoint.safetensors",
        "/bundle/../manifest.json",
        "/bundle/%2e%2e/manifest.json",
        "/bundle/golden/../contract.json",
        "/bundle//contract.json",
        "/bundle/golden\\00.png",
        "/bundle/contract.json%00.png",
        "//etc/passwd",
        "/static/../server.py",
        "/static/..%2fserver.py",
        "/static/",
        "/bundle/",
        "/litert/wasm/README",
        "/server.py",
        "/results",
        "/" + "a" * 4000,
    ],
)
def test_nothing_else_is(running: Running, path: str) -> None:
    answer = running.ask(path)
    assert answer.status == 404
    assert set(answer.json) == {"error", "mend"}


def test_every_answer_has_the_headers(running: Running) -> None:
    answers = [running.ask("/"), running.ask("/nothing"), running.post({}, **{TOKEN_HEADER: "x"})]
    answers += [running.ask("/", "PUT"), running.ask("/", headers={"Host": "evil.example"})]
    assert [answer.status for answer in answers] == [200, 404, 401, 501, 421]
    for answer in answers:
        for name, value in HEADERS.items():
            assert answer.headers[name] == value
    policy = HEADERS["Content-Security-Policy"]
    assert "unsafe-inline" not in policy and "'unsafe-eval'" not in policy
    assert "default-src 'none'" in policy and "http" not in policy


def test_a_known_file_is_not_sent_twice(running: Running) -> None:
    tag = running.ask("/bundle/model_int8.tflite").headers["ETag"]
    again = running.ask("/bundle/model_int8.tflite", headers={"If-None-Match": tag})
    assert (again.status, again.body) == (304, b"")
    other = running.ask("/bundle/model_float32.tflite", headers={"If-None-Match": tag})
    assert other.status == 200


def test_a_file_that_changed_is_not_served(running: Running, bundle: Bundle) -> None:
    path = bundle.root / "model_int8.tflite"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert running.ask("/bundle/model_int8.tflite").status == 409
    path.unlink()
    assert running.ask("/bundle/model_int8.tflite").status == 409


def test_a_result_is_compared_and_kept(running: Running, bundle: Bundle) -> None:
    answer = running.post(result(bundle), Origin=f"http://127.0.0.1:{running.port}")
    assert answer.status == 201, answer.body
    stored = bundle.root.parent / answer.json["stored"]
    assert stored.is_file() and stored.parent.name == "dist.devices"
    assert [(row["key"], row["status"], row["exact"]) for row in answer.json["rows"]] == [
        (key, "passed", 8) for key in page_bundle.KEYS
    ]
    (kept,) = devices.load(bundle)
    assert kept.name == "Pixel 7"


def test_only_who_has_the_token_writes(running: Running, bundle: Bundle) -> None:
    good = result(bundle)
    for token in ("", "wrong", running.bench.token + "x", "ü"):
        answer = running.post(good, **{TOKEN_HEADER: token.encode().decode("latin-1")})
        assert answer.status == 401 and "address" in answer.json["mend"]
    assert running.ask(f"/results?token={running.bench.token}", "POST", b"{}").status == 401
    assert not devices.folder_of(bundle.root).exists()


def test_a_request_from_another_page_is_refused(running: Running, bundle: Bundle) -> None:
    assert running.post(result(bundle), Origin="http://evil.example").status == 403
    assert running.post(result(bundle), Origin="null").status == 403
    for host in ("evil.example", "evil.example:80", "", "192.0.2.1"):
        assert running.ask("/", headers={"Host": host}).status == 421
    for host in ("localhost", f"127.0.0.1:{running.port}", "[::1]:80"):
        assert running.ask("/", headers={"Host": host}).status == 200
    assert not devices.folder_of(bundle.root).exists()


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", {}, 400),
        (b'{"schema": NaN}', {}, 400),
        (b"[" * 100_000, {}, 400),
        (b"\xff\xfe", {}, 400),
        (b'"text"', {}, 400),
        (b'{"schema": 1}', {}, 400),
        (b"{}", {"Content_Type": "text/plain"}, 415),
        (b"{}", {"Content_Type": ""}, 415),
        (b"{}", {"Content_Length": str(2**40)}, 413),
        (b"{}", {"Content_Length": "9" * 5000}, 413),
        (b"{}", {"Content_Length": "-2"}, 411),
        (b"0\r\n\r\n", {"Transfer_Encoding": "chunked", "Content_Length": "5"}, 411),
    ],
)
def test_what_cannot_be_a_result_is_refused(
    running: Running, bundle: Bundle, body: bytes, headers: dict[str, str], status: int
) -> None:
    answer = running.post(body, **headers)
    assert answer.status == status, answer.body
    assert answer.json["error"]
    assert not devices.folder_of(bundle.root).exists()


def test_a_result_for_another_export_is_kept_as_such(running: Running, bundle: Bundle) -> None:
    data = result(bundle)
    data["artifacts"] = data["artifacts"][:1]
    data["artifacts"][0]["sha256"] = "0" * 64
    answer = running.post(data)
    assert answer.status == 201
    assert answer.json["rows"][0]["status"] == "not run"
    assert "another export" in answer.json["rows"][0]["reason"]


def test_slow_clients_block_nobody(
    running: Running, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugs = []
    for sent in (b"GET / HT", b"POST /results HTTP/1.1\r\nHost: localhost\r\nX: ", b"") * 5:
        plug = socket.create_connection(("127.0.0.1", running.port))
        plug.sendall(sent)
        plugs.append(plug)
    assert running.ask("/bundle/index.json").status == 200
    for plug in plugs:
        plug.close()


def test_a_trickle_ends(bundle: Bundle, library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "REQUEST_S", 0.4)
    resources = {**routes.page_table(library), **routes.bundle_table(bundle)}
    bench = command.bind("127.0.0.1", 0, bundle, resources, None)
    thread = threading.Thread(target=bench.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        with socket.create_connection(("127.0.0.1", bench.server_address[1]), timeout=10) as plug:
            plug.sendall(b"GET / HTTP/1.1\r\nX: ")
            assert plug.recv(100) == b""
    finally:
        bench.shutdown()
        bench.server_close()
        thread.join(timeout=10)


def test_too_many_connections_are_turned_away(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugs = [
        socket.create_connection(("127.0.0.1", running.port), timeout=10)
        for _ in range(server.MAX_CONNECTIONS)
    ]
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as late:
        assert late.recv(10) == b""
    for plug in plugs:
        plug.close()


def test_many_ask_at_once(running: Running) -> None:
    statuses: list[int] = []

    def some() -> None:
        statuses.extend(running.ask("/bundle/model_float32.tflite").status for _ in range(5))

    threads = [threading.Thread(target=some) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert statuses == [200] * 40


def test_garbage_gets_an_answer_of_ours(running: Running) -> None:
    for sent in (b"\0\1\2\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"):
        answer = running.raw(sent)
        if answer:
            assert b"Content-Security-Policy" in answer and b'"error"' in answer
    long = b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n"
    assert b"414" in running.raw(long).split(b"\r\n")[0]


def test_errors_are_found_before_anything_starts(
    bundle: Bundle, library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command.litertjs, "installed", lambda: library)
    monkeypatch.setattr(command, "wait", lambda _: pytest.fail("it was started"))
    with pytest.raises(UserError, match="no bundle"):
        command.serve(tmp_path / "nothing")
    with pytest.raises(UserError, match="belong together"):
        command.serve(bundle.root, certificate=tmp_path / "c.pem")
    with pytest.raises(UserError, match="cannot be used"):
        command.serve(bundle.root, certificate=bundle.root / "labels.txt", key=tmp_path / "k.pem")
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(UserError, match="cannot be served from"),
    ):
        command.serve(bundle.root, port=taken.getsockname()[1])
    with pytest.raises(UserError, match="cannot be served from"):
        command.serve(bundle.root, host="no-such-host.invalid")
    (bundle.root / "model_int8.tflite").write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"model_int8\.tflite is not what the manifest says"):
        command.serve(bundle.root)


def test_a_link_in_a_bundle_is_not_followed(bundle: Bundle, tmp_path: Path) -> None:
    path = bundle.root / "labels.txt"
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"labels\.txt"):
        routes.bundle_table(bundle)


def test_a_bundle_without_tflite_or_golden_answers_is_refused(bundle: Bundle) -> None:
    manifest = {**bundle.manifest, "artifacts": {"onnx": {}}}
    with pytest.raises(UserError, match=r"no \.tflite"):
        routes.bundle_table(Bundle(bundle.root, bundle.contract, manifest))
    files = [e for e in bundle.manifest["files"] if e["path"] != "golden/golden.json"]
    with pytest.raises(UserError, match="no golden"):
        routes.bundle_table(
            Bundle(bundle.root, bundle.contract, {**bundle.manifest, "files": files})
        )


def test_what_is_printed_says_who_can_reach_it(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    with command.bind("127.0.0.1", 0, bundle, {}, None) as local:
        text = "\n".join(command.said(local, "127.0.0.1"))
        assert f"http://127.0.0.1:{local.server_address[1]}/#token={local.token}" in text
        assert "--host 0.0.0.0" in text
    monkeypatch.setattr(command, "lan_addresses", lambda: ["192.0.2.7"])
    with command.bind("0.0.0.0", 0, bundle, {}, None) as wide:
        text = "\n".join(command.said(wide, "0.0.0.0"))
        assert f"http://192.0.2.7:{wide.server_address[1]}/#token=" in text
        assert "nothing is encrypted" in text and not wide.local_only
        assert wide.token != local.token and len(wide.token) >= 32


def test_https_with_a_certificate_of_ones_own(
    bundle: Bundle, library: Path, tmp_path: Path
) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("not run: openssl is not installed")
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
         "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out",
         certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    context = command._context(certificate, key)
    bench = command.bind("127.0.0.1", 0, bundle, routes.page_table(library), context)
    thread = threading.Thread(target=bench.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        silent = socket.create_connection(("127.0.0.1", bench.server_address[1]))
        trusting = ssl.create_default_context(cafile=str(certificate))
        connection = http.client.HTTPSConnection(
            "127.0.0.1", bench.server_address[1], context=trusting, timeout=20
        )
        connection.request("GET", "/")
        assert connection.getresponse().status == 200
        connection.close()
        silent.close()
        assert bench.address("127.0.0.1").startswith("https://")
    finally:
        bench.shutdown()
        bench.server_close()
        thread.join(timeout=10)
