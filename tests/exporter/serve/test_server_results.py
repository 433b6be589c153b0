"""Writing to the server: who may, what is taken, what is kept."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from clients import Running, Serve, failed_result, honest_result, status_of

from exporter.bundle import Bundle
from exporter.prove import devices
from exporter.serve import checks, server
from exporter.serve.server import MAX_BODY, TOKEN_HEADER
from support import page_bundle


def test_a_result_is_compared_and_kept(running: Running, bundle: Bundle) -> None:
    answer = running.post(honest_result(bundle), Origin=f"http://127.0.0.1:{running.port}")
    assert answer.status == 201, answer.body
    stored = bundle.root.parent / answer.json["stored"]
    assert stored.is_file() and stored.parent.name == "dist.devices"
    assert [(row["key"], row["status"], row["exact"]) for row in answer.json["rows"]] == [
        (key, "passed", 8) for key in page_bundle.KEYS
    ]
    (kept,) = devices.load(bundle)
    assert kept.name == "Pixel 7"


def test_only_who_has_the_token_writes(running: Running, bundle: Bundle) -> None:
    good = honest_result(bundle)
    for token in ("", "wrong", running.bench.token + "x", "ü"):
        answer = running.post(good, **{TOKEN_HEADER: token.encode().decode("latin-1")})
        assert answer.status == 401 and "address" in answer.json["mend"]
    assert running.ask(f"/results?token={running.bench.token}", "POST", b"{}").status == 401
    assert not devices.folder_of(bundle.root).exists()


def test_a_result_for_another_export_is_kept_as_such(running: Running, bundle: Bundle) -> None:
    data = honest_result(bundle)
    data["artifacts"] = data["artifacts"][:1]
    data["artifacts"][0]["sha256"] = "0" * 64
    answer = running.post(data)
    assert answer.status == 201
    assert answer.json["rows"][0]["status"] == "not run"
    assert "another export" in answer.json["rows"][0]["reason"]


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


@pytest.mark.parametrize("token", [True, False])
def test_who_sends_too_much_reads_why(serving: Serve, bundle: Bundle, token: bool) -> None:
    headers = {} if token else {TOKEN_HEADER: "guess"}
    with serving() as running:
        answer = running.post(b" " * (MAX_BODY + 1), **headers)
    assert answer.status == (413 if token else 401)
    assert answer.json["error"] and answer.json["mend"]


def test_the_largest_body_is_read(serving: Serve, bundle: Bundle) -> None:
    body = json.dumps(failed_result(bundle)).encode()
    with serving() as running:
        assert running.post(body + b" " * (MAX_BODY - len(body))).status == 201


def test_a_body_that_nobody_ends_is_given_up(
    serving: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "REFUSED_S", 0.5)
    head = b"POST /results HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999\r\n\r\n"
    with serving() as running:
        started = time.monotonic()
        assert status_of(running.raw(head)) == 401
        assert time.monotonic() - started < 5


def test_a_body_is_no_second_request(serving: Serve) -> None:
    inner = b"GET /bundle/contract.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
    head = b"GET /bundle/labels.txt HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
    with serving() as running:
        answer = running.raw(head % len(inner) + inner)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"Connection: close" in answer


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
    with serving() as running:
        assert running.post(text).status == 400


def test_json_that_is_fine_is_read() -> None:
    assert checks.parse_json('{"a": ["ü", "\\ud83d\\ude00"]}'.encode()) == {"a": ["ü", "😀"]}
    assert checks.parse_json(b"[" * 12 + b"]" * 12)


def test_half_a_surrogate_pair_leaves_nothing_behind(serving: Serve, bundle: Bundle) -> None:
    with serving() as running:
        answer = running.post(failed_result(bundle, "Phone \ud800"))
    assert (answer.status, answer.json["error"]) == (400, "The result is not JSON.")
    assert not devices.folder_of(bundle.root).exists()


def test_what_was_stored_is_said(serving: Serve, bundle: Bundle) -> None:
    said: list[str] = []
    with serving(tell=said.append) as running:
        answer = running.post(failed_result(bundle, "My \x1b[31mphone"))
        assert answer.status == 201
    (line,) = said
    assert "My [31mphone" in line and line.endswith(Path(answer.json["stored"]).name)


def test_a_failure_of_ours_is_answered_and_shown(
    serving: Serve,
    bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def fails(*_: Any) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(devices, "parse", fails)
    with serving() as running:
        answer = running.post({})
        assert (answer.status, answer.json["error"]) == (500, "The server failed.")
        assert status_of(running.raw(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")) == 200
    assert "ZeroDivisionError: a defect" in capfd.readouterr().err


def test_a_disk_without_room_is_no_fault_of_the_result(running: Running, bundle: Bundle) -> None:
    devices.folder_of(bundle.root).write_text("a file where the folder should be")
    answer = running.post(honest_result(bundle))
    assert answer.status == 507
    assert "cannot be written" in answer.json["error"] and answer.json["mend"]


def test_results_that_come_at_once_are_all_kept(running: Running, bundle: Bundle) -> None:
    sent = [failed_result(bundle, f"device {number}") for number in range(16)]
    with ThreadPoolExecutor(8) as pool:
        statuses = [answer.status for answer in pool.map(running.post, sent)]
    assert statuses == [201] * 16
    assert len(devices.load(bundle)) == 16


def test_the_last_place_is_taken_once(
    running: Running, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "MAX_RESULTS", 3)
    sent = [failed_result(bundle, f"device {number}") for number in range(12)]
    with ThreadPoolExecutor(8) as pool:
        statuses = [answer.status for answer in pool.map(running.post, sent)]
    assert sorted(statuses) == [201] * 3 + [507] * 9
    assert len(list(devices.folder_of(bundle.root).iterdir())) == 3
