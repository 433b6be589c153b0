"""Slow, broken, foreign and many clients."""

from __future__ import annotations

import http.client
import json
import threading

import pytest
from clients import Running, Serve, failed_result, honest_result, serving_thread, status_of

from exporter.bundle import Bundle
from exporter.prove import devices
from exporter.serve import checks, routes, server
from exporter.serve.server import TOKEN_HEADER, Bench


def test_a_request_from_another_page_is_refused(running: Running, bundle: Bundle) -> None:
    assert running.post(honest_result(bundle), Origin="http://evil.example").status == 403
    assert running.post(honest_result(bundle), Origin="null").status == 403
    for host in ("evil.example", "evil.example:80", "", "192.0.2.1"):
        assert running.ask("/", headers={"Host": host}).status == 421
    for host in ("localhost", f"127.0.0.1:{running.port}", "[::1]:80"):
        assert running.ask("/", headers={"Host": host}).status == 200
    assert not devices.folder_of(bundle.root).exists()


@pytest.mark.parametrize("host", ["[", "[::1", "]", "[zz]", "a b", "user@evil.example", "1.2.3"])
def test_a_host_that_is_none_is_refused(
    serving: Serve, host: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with serving() as running:
        answer = running.raw(
            f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
        )
    assert status_of(answer) == 421
    assert capfd.readouterr().err == ""


def test_hosts_of_this_server() -> None:
    names = {"desk", "desk.local"}
    for named in ("192.168.1.5:8765", "desk", "DESK.local:1", "localhost", "[fe80::1]:80"):
        assert checks.host_fits(named, False, names), named
    for named in ("evil.example", "desk.local.evil.example", "", "192.168.1.5.nip.io"):
        assert not checks.host_fits(named, False, names), named
    assert not checks.host_fits("192.168.1.5", True, ())
    assert checks.host_fits("127.0.0.1:80", True, ())


def test_the_name_that_was_asked_for_is_answered(bundle: Bundle) -> None:
    bench = Bench(("127.0.0.1", 0), bundle, routes.bundle_table(bundle), host="Desk.Example")
    with serving_thread(bench):
        for name, status in (("desk.example:80", 200), ("other.example", 421)):
            answer = Running(bench).ask("/bundle/labels.txt", headers={"Host": name})
            assert answer.status == status


def test_one_connection_serves_many_requests(serving: Serve, bundle: Bundle) -> None:
    body = json.dumps(failed_result(bundle))
    with serving() as running:
        connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=20)
        connection.connect()
        plug = connection.sock
        for _ in range(3):
            connection.request("GET", "/bundle/labels.txt")
            assert connection.getresponse().read() == (bundle.root / "labels.txt").read_bytes()
            headers = {"Content-Type": "application/json", TOKEN_HEADER: running.bench.token}
            connection.request("POST", "/results", body, headers)
            response = connection.getresponse()
            assert (response.status, bool(response.read())) == (201, True)
        assert connection.sock is plug
        connection.close()


def test_slow_clients_block_nobody(running: Running) -> None:
    plugs = []
    for sent in (b"GET / HT", b"POST /results HTTP/1.1\r\nHost: localhost\r\nX: ", b"") * 5:
        plugs.append(running.connect())
        plugs[-1].sendall(sent)
    assert running.ask("/bundle/index.json").status == 200
    for plug in plugs:
        plug.close()


def test_a_trickle_ends(serving: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "REQUEST_S", 0.4)
    with serving() as running, running.connect() as plug:
        plug.sendall(b"GET / HTTP/1.1\r\nX: ")
        assert plug.recv(100) == b""


def test_too_many_connections_are_turned_away(running: Running) -> None:
    plugs = [running.connect() for _ in range(server.MAX_CONNECTIONS)]
    with running.connect() as late:
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


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\0\1\2\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 505),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 70_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"TRACE / HTTP/1.1\r\nHost: localhost\r\n\r\n", 501),
        (b"OPTIONS /results HTTP/1.1\r\nHost: localhost\r\nOrigin: http://x\r\n\r\n", 501),
    ],
)
def test_garbage_gets_an_answer_of_ours(running: Running, sent: bytes, status: int) -> None:
    answer = running.raw(sent, end=True)
    assert status_of(answer) == status
    assert b"Content-Security-Policy" in answer and b'"error"' in answer
    assert b"Access-Control-Allow" not in answer


def test_a_stopped_server_answers_nobody(serving: Serve) -> None:
    with serving() as running:
        connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=20)
        connection.request("GET", "/bundle/labels.txt")
        assert connection.getresponse().read()
    with pytest.raises(http.client.RemoteDisconnected):
        connection.request("GET", "/bundle/labels.txt")
        connection.getresponse()
    connection.close()
