"""What hostile, hasty and unlucky clients meet, and how the server is reached by name."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from exporter.bundle import Bundle, open_bundle
from exporter.prove import devices
from exporter.serve import checks, command, routes, server
from exporter.serve.server import MAX_BODY, TOKEN_HEADER, Bench
from models.errors import UserError
from support import page_bundle


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made") / "dist"
    page_bundle.write(root)
    return root


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Bundle:
    shutil.copytree(made, tmp_path / "dist")
    return open_bundle(tmp_path / "dist")


Serve = Callable[..., AbstractContextManager[Bench]]


@pytest.fixture
def serving(bundle: Bundle) -> Serve:
    @contextmanager
    def _serving(host: str = "127.0.0.1", **options: Any) -> Iterator[Bench]:
        context = options.pop("context", None)
        bench = command.bind(host, 0, bundle, routes.bundle_table(bundle), context, **options)
        thread = threading.Thread(target=bench.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield bench
        finally:
            bench.shutdown()
            bench.server_close()
            thread.join(timeout=10)

    return _serving


def port_of(bench: Bench) -> int:
    return int(bench.server_address[1])


def raw(bench: Bench, sent: bytes) -> bytes:
    """Everything that comes back until the server closes."""
    with socket.create_connection(("127.0.0.1", port_of(bench)), timeout=20) as plug:
        plug.sendall(sent)
        parts = []
        while part := plug.recv(65536):
            parts.append(part)
    return b"".join(parts)


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def post(bench: Bench, body: bytes, **headers: str) -> tuple[int, Any]:
    given = {"Content-Type": "application/json", TOKEN_HEADER: bench.token, **headers}
    connection = http.client.HTTPConnection("127.0.0.1", port_of(bench), timeout=30)
    try:
        connection.request("POST", "/results", body, given)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def result(bundle: Bundle, name: str = "Phone") -> dict[str, Any]:
    """A device on which the first file did not run."""
    row = bundle.formats()[0]
    entry = {"key": row.key, "sha256": "0" * 64, "status": "failed", "reason": "no memory"}
    return {
        "schema": 1,
        "device": {"name": name, "threads": 1},
        "runtime": "LiteRT.js",
        "accelerator": "wasm",
        "artifacts": [{**entry, "images": []}],
    }


@pytest.mark.parametrize("host", ["[", "[::1", "]", "[zz]", "a b", "user@evil.example", "1.2.3"])
def test_a_host_that_is_none_is_refused(
    serving: Serve, host: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with serving() as bench:
        answer = raw(bench, f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    assert status_of(answer) == 421
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "target", ["http://[x", "http://[::1/bundle", "*", "nothing", "?", "http:"]
)
def test_a_target_that_is_no_path_is_not_found(
    serving: Serve, target: str, capfd: pytest.CaptureFixture[str]
) -> None:
    request = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with serving() as bench:
        assert status_of(raw(bench, request.encode())) == 404
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("token", [True, False])
def test_who_sends_too_much_reads_why(serving: Serve, bundle: Bundle, token: bool) -> None:
    headers = {} if token else {TOKEN_HEADER: "guess"}
    with serving() as bench:
        status, said = post(bench, b" " * (MAX_BODY + 1), **headers)
    assert status == (413 if token else 401)
    assert said["error"] and said["mend"]


def test_the_largest_body_is_read(serving: Serve, bundle: Bundle) -> None:
    body = json.dumps(result(bundle)).encode()
    with serving() as bench:
        status, _ = post(bench, body + b" " * (MAX_BODY - len(body)))
    assert status == 201


def test_a_body_that_nobody_ends_is_given_up(
    serving: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "REFUSED_S", 0.5)
    head = b"POST /results HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999\r\n\r\n"
    with serving() as bench:
        started = time.monotonic()
        assert status_of(raw(bench, head)) == 401
        assert time.monotonic() - started < 5


def test_a_body_is_no_second_request(serving: Serve) -> None:
    inner = b"GET /bundle/contract.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
    head = b"GET /bundle/labels.txt HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
    with serving() as bench:
        answer = raw(bench, head % len(inner) + inner)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"Connection: close" in answer


def test_one_connection_serves_many_requests(serving: Serve, bundle: Bundle) -> None:
    body = json.dumps(result(bundle))
    with serving() as bench:
        connection = http.client.HTTPConnection("127.0.0.1", port_of(bench), timeout=20)
        connection.connect()
        plug = connection.sock
        for _ in range(3):
            connection.request("GET", "/bundle/labels.txt")
            assert connection.getresponse().read() == (bundle.root / "labels.txt").read_bytes()
            headers = {"Content-Type": "application/json", TOKEN_HEADER: bench.token}
            connection.request("POST", "/results", body, headers)
            response = connection.getresponse()
            assert (response.status, bool(response.read())) == (201, True)
        assert connection.sock is plug
        connection.close()


@pytest.mark.parametrize(
    "text",
    [
        b'{"a": "\\ud800"}',
        b'{"\\udfff": 1}',
        b"[" * 13 + b"]" * 13,
        b'{"a":' * 13 + b"1" + b"}" * 13,
        b"[1e9, -Infinity]",
        b"9" * 5000,
        b"",
    ],
)
def test_json_that_could_do_harm_is_refused(serving: Serve, bundle: Bundle, text: bytes) -> None:
    with pytest.raises(ValueError):
        checks.parse_json(text)
    with serving() as bench:
        assert post(bench, text)[0] == 400


def test_json_that_is_fine_is_read() -> None:
    assert checks.parse_json('{"a": ["ü", "\\ud83d\\ude00"]}'.encode()) == {"a": ["ü", "😀"]}
    assert checks.parse_json(b"[" * 12 + b"]" * 12)


def test_half_a_surrogate_pair_leaves_nothing_behind(serving: Serve, bundle: Bundle) -> None:
    with serving() as bench:
        status, said = post(bench, json.dumps(result(bundle, "Phone \ud800")).encode())
    assert (status, said["error"]) == (400, "The result is not JSON.")
    assert not devices.folder_of(bundle.root).exists()


def test_a_failure_of_ours_is_answered_and_shown(
    serving: Serve,
    bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def fails(*_: Any) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(devices, "parse", fails)
    with serving() as bench:
        status, said = post(bench, b"{}")
        assert (status, said["error"]) == (500, "The server failed.")
        assert status_of(raw(bench, b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")) == 404
    assert "ZeroDivisionError: a defect" in capfd.readouterr().err


def test_what_was_stored_is_said(serving: Serve, bundle: Bundle) -> None:
    said: list[str] = []
    with serving(tell=said.append) as bench:
        status, answer = post(bench, json.dumps(result(bundle, "My \x1b[31mphone")).encode())
        assert status == 201
    (line,) = said
    assert "My [31mphone" in line and line.endswith(Path(answer["stored"]).name)


@pytest.mark.parametrize(
    ("tags", "status"),
    [("W/{}", 304), ('"x", {}', 304), ('"x"', 200), ("{}x", 200), ("", 200)],
)
def test_a_known_file_is_known_among_others(serving: Serve, tags: str, status: int) -> None:
    with serving() as bench:
        connection = http.client.HTTPConnection("127.0.0.1", port_of(bench), timeout=20)
        connection.request("GET", "/bundle/labels.txt")
        first = connection.getresponse()
        first.read()
        tag = first.headers["ETag"]
        connection.request("GET", "/bundle/labels.txt", headers={"If-None-Match": tags.format(tag)})
        again = connection.getresponse()
        again.read()
        connection.close()
    assert again.status == status
    assert again.headers["ETag"] == tag


def test_hosts_of_this_server() -> None:
    names = {"desk", "desk.local"}
    for named in ("192.168.1.5:8765", "desk", "DESK.local:1", "localhost", "[fe80::1]:80"):
        assert checks.host_fits(named, False, names), named
    for named in ("evil.example", "desk.local.evil.example", "", "192.168.1.5.nip.io"):
        assert not checks.host_fits(named, False, names), named
    assert not checks.host_fits("192.168.1.5", True, ())
    assert checks.host_fits("127.0.0.1:80", True, ())


def test_the_name_that_was_asked_for_is_answered(bundle: Bundle) -> None:
    table = routes.bundle_table(bundle)
    with Bench(("127.0.0.1", 0), bundle, table, host="Desk.Example") as bench:
        thread = threading.Thread(target=bench.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            for name, status in (("desk.example:80", 200), ("other.example", 421)):
                request = f"GET /bundle/labels.txt HTTP/1.0\r\nHost: {name}\r\n\r\n"
                assert status_of(raw(bench, request.encode())) == status
        finally:
            bench.shutdown()
            thread.join(timeout=10)


def test_the_second_address_of_a_name_is_tried(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
    places = [(*kind, ("192.0.2.1", 0)), (*kind, ("127.0.0.1", 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: places)
    with command.bind("desk", 0, bundle, {}, None) as bench:
        assert bench.server_address[0] == "127.0.0.1"
    places.pop()
    with pytest.raises(UserError, match=r"desk:0 cannot be served from\.") as raised:
        command.bind("desk", 0, bundle, {}, None)
    assert raised.value.why


@pytest.mark.parametrize("files", [None, 3, [3], [{"path": "contract.json"}]])
def test_a_manifest_without_checksums_is_refused(bundle: Bundle, files: Any) -> None:
    manifest = {**bundle.manifest, "files": files}
    with pytest.raises(UserError, match=r"manifest\.json cannot be used"):
        routes.bundle_table(Bundle(bundle.root, bundle.contract, manifest))


@pytest.mark.parametrize("path", ["contract.json", "labels.txt", "model_int8.tflite"])
def test_a_file_that_the_manifest_leaves_out_is_refused(bundle: Bundle, path: str) -> None:
    files = [entry for entry in bundle.manifest["files"] if entry["path"] != path]
    manifest = {**bundle.manifest, "files": files}
    with pytest.raises(UserError, match="is not what the manifest says"):
        routes.bundle_table(Bundle(bundle.root, bundle.contract, manifest))


def test_a_bundle_behind_a_link_is_served(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "newest").symlink_to(bundle.root)
    assert "/bundle/model_int8.tflite" in routes.bundle_table(open_bundle(tmp_path / "newest"))


def test_a_damaged_library_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is damaged") as raised:
        routes.page_table(tmp_path)
    assert str(tmp_path) in raised.value.mend
    (tmp_path / "core/dist").mkdir(parents=True)
    (tmp_path / "core/dist/index.js").write_text("export default 1;")
    with pytest.raises(UserError, match="is damaged") as raised:
        routes.page_table(tmp_path)
    assert "does not import" in raised.value.why


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    if shutil.which("openssl") is None:
        pytest.skip("not run: openssl is not installed")
    folder = tmp_path_factory.mktemp("certificate")
    files = folder / "c.pem", folder / "k.pem"
    command_line = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command_line += ["-subj", "/CN=desk.example", "-addext", "subjectAltName=DNS:desk.example"]
    command_line += ["-out", str(files[0]), "-keyout", str(files[1])]
    subprocess.run(command_line, check=True, capture_output=True)
    return files


def test_https_answers_to_the_certificates_name(
    serving: Serve, bundle: Bundle, certificate: tuple[Path, Path]
) -> None:
    trusting = ssl.create_default_context(cafile=str(certificate[0]))
    with serving(context=command._context(*certificate)) as bench:
        plug = socket.create_connection(("127.0.0.1", port_of(bench)), timeout=20)
        with trusting.wrap_socket(plug, server_hostname="desk.example") as private:
            private.sendall(b"GET /bundle/labels.txt HTTP/1.0\r\nHost: desk.example\r\n\r\n")
            parts = iter(lambda: private.recv(65536), b"")
            assert b"".join(parts).endswith((bundle.root / "labels.txt").read_bytes())


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01"])
def test_who_does_not_speak_tls_is_let_go_without_a_word(
    serving: Serve,
    certificate: tuple[Path, Path],
    sent: bytes,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(server, "REQUEST_S", 0.4)
    with (
        serving(context=command._context(*certificate)) as bench,
        socket.create_connection(("127.0.0.1", port_of(bench)), timeout=10) as plug,
    ):
        plug.sendall(sent)
        while plug.recv(4096):
            pass
    assert "Traceback" not in capfd.readouterr().err


def test_a_trickle_over_tls_ends(
    serving: Serve,
    certificate: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(server, "REQUEST_S", 0.5)
    trusting = ssl.create_default_context(cafile=str(certificate[0]))
    with serving(context=command._context(*certificate)) as bench:
        plug = socket.create_connection(("127.0.0.1", port_of(bench)), timeout=10)
        with trusting.wrap_socket(plug, server_hostname="desk.example") as private:
            private.sendall(b"GET / HTTP/1.1\r\nX: ")
            with pytest.raises(ssl.SSLEOFError):
                private.recv(100)
                raise ssl.SSLEOFError  # an orderly end is as good
    assert "Traceback" not in capfd.readouterr().err


def test_it_ends_with_ctrl_c_and_says_where_results_are(
    bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen: list[str] = []

    def look(address: str) -> None:
        """A browser that asks at once: the server has to serve by then."""
        place = address.removeprefix("http://").partition("/")[0]
        connection = http.client.HTTPConnection(place, timeout=20)
        connection.request("GET", "/bundle/labels.txt")
        assert connection.getresponse().status == 200
        connection.close()
        seen.append(address)
        raise KeyboardInterrupt

    monkeypatch.setattr(command.litertjs, "installed", lambda: tmp_path)
    monkeypatch.setattr(command, "page_table", lambda _: {})
    monkeypatch.setattr(command.webbrowser, "open", look)
    command.serve(bundle.root, port=0)
    said = capsys.readouterr().out
    assert seen[0] in said and "#token=" in seen[0]
    assert f"Stopped. Results of devices are in {devices.folder_of(bundle.root)}" in said
    port = int(seen[0].split(":")[2].partition("/")[0])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)
