"""Reading from the server: what is there, what is not, with which headers."""

from __future__ import annotations

import hashlib

import pytest
from clients import Running, Serve, status_of

from exporter.bundle import Bundle
from exporter.serve.server import HEADERS, TOKEN_HEADER
from support import page_bundle


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


@pytest.mark.parametrize(
    ("tags", "status"),
    [("{}", 304), ("W/{}", 304), ('"x", {}', 304), ('"x"', 200), ("{}x", 200), ("", 200)],
)
def test_a_known_file_is_not_sent_twice(running: Running, tags: str, status: int) -> None:
    first = running.ask("/bundle/model_int8.tflite")
    tag = first.headers["ETag"]
    headers = {"If-None-Match": tags.format(tag)}
    again = running.ask("/bundle/model_int8.tflite", headers=headers)
    assert (again.status, again.headers["ETag"]) == (status, tag)
    assert again.body == (first.body if status == 200 else b"")
    assert running.ask("/bundle/model_float32.tflite", headers=headers).status == 200


def test_a_file_that_changed_is_not_served(running: Running, bundle: Bundle) -> None:
    path = bundle.root / "model_int8.tflite"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert running.ask("/bundle/model_int8.tflite").status == 409
    path.unlink()
    assert running.ask("/bundle/model_int8.tflite").status == 409


@pytest.mark.parametrize(
    "target", ["http://[x", "http://[::1/bundle", "*", "nothing", "?", "http:"]
)
def test_a_target_that_is_no_path_is_not_found(
    serving: Serve, target: str, capfd: pytest.CaptureFixture[str]
) -> None:
    request = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with serving() as running:
        assert status_of(running.raw(request.encode())) == 404
    assert capfd.readouterr().err == ""
