"""Around the server: what is checked first, where it listens, what it says, https."""

from __future__ import annotations

import contextlib
import http.client
import shutil
import socket
import ssl
import subprocess
from pathlib import Path

import pytest
from clients import Serve

from exporter.bundle import Bundle
from exporter.prove import devices
from exporter.serve import command, server
from models.errors import UserError


def test_errors_are_found_before_anything_starts(
    bundle: Bundle, library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command.litertjs, "installed", lambda: library)
    monkeypatch.setattr(command, "wait", lambda _: pytest.fail("it was started"))
    with pytest.raises(UserError, match="There is no folder"):
        command.serve(tmp_path / "nothing")
    with pytest.raises(UserError, match="belong together"):
        command.serve(bundle.root, certificate=tmp_path / "c.pem")
    with pytest.raises(UserError, match="cannot be used"):
        command.serve(bundle.root, certificate=bundle.root / "labels.txt", key=tmp_path / "k.pem")
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(UserError, match=r"Port \d+ is taken"),
    ):
        command.serve(bundle.root, port=taken.getsockname()[1])
    with pytest.raises(UserError, match="cannot be served from"):
        command.serve(bundle.root, host="no-such-host.invalid")
    (bundle.root / "model_int8.tflite").write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"model_int8\.tflite is not what the manifest says"):
        command.serve(bundle.root)


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
    with serving(context=command._context(*certificate)) as running:
        plug = running.connect()
        silent = running.connect()  # who never says a word keeps nobody waiting
        with trusting.wrap_socket(plug, server_hostname="desk.example") as private:
            private.sendall(b"GET /bundle/labels.txt HTTP/1.0\r\nHost: desk.example\r\n\r\n")
            parts = iter(lambda: private.recv(65536), b"")
            assert b"".join(parts).endswith((bundle.root / "labels.txt").read_bytes())
        silent.close()
        assert running.bench.address("desk.example").startswith("https://desk.example:")


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
        serving(context=command._context(*certificate)) as running,
        running.connect() as plug,
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
    with (
        serving(context=command._context(*certificate)) as running,
        trusting.wrap_socket(running.connect(), server_hostname="desk.example") as private,
    ):
        private.sendall(b"GET / HTTP/1.1\r\nX: ")
        with contextlib.suppress(ssl.SSLEOFError):  # an end without TLS's goodbye is as good
            assert private.recv(100) == b""
    assert "Traceback" not in capfd.readouterr().err
