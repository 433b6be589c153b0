"""'Prove it' in Chromium: what is replayed, shown and stored, with and without threads."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages import (
    LAST_BITS,
    MISSING,
    Visit,
    classify,
    in_process,
    prove,
    python_answer,
    save,
)
from PIL import Image

from exporter.bundle import BY_KEY, Bundle
from exporter.prove import devices
from exporter.prove.runtimes.browser_integers import dequantized
from exporter.prove.runtimes.litert import LiteRtRuntime
from exporter.serve.command import lan_addresses
from exporter.serve.server import HEADERS
from support import page_bundle

pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))


def test_the_proof_is_exact_and_is_stored(shown: Bundle, address: str, visit: Visit) -> None:
    before = len(devices.load(shown))
    with visit(address) as watched:
        page = watched.page
        page.fill("#device", "A phone on the desk")
        assert "Stored beside the bundle" in prove(page)
        rows = page.query_selector_all("#rows .row[data-key]")
        assert {row.get_attribute("data-key") for row in rows} == set(page_bundle.KEYS)
        for row in rows:
            assert row.query_selector(".mark.exact, .mark.good"), row.inner_text()
            assert "median of" in row.inner_text()
        assert "Exact" in page.inner_text("[data-photo='photo.png']")
        jpeg = page.inner_text("[data-photo='photo.jpg']")
        assert "Outside" not in jpeg, jpeg
        assert page.inner_text("#facts").split("\n")[-1] == "yes"  # cross-origin isolated
        assert watched.errors == []
    stored = devices.load(shown)
    assert len(stored) == before + 1
    newest = next(one for one in stored if one.name == "A phone on the desk")
    assert {one.key: one.status for one in newest.artifacts} == dict.fromkeys(
        page_bundle.KEYS, "run"
    )
    for one in newest.artifacts:
        recorded = golden_answers(shown, one.key)
        assert one.answers.keys() == recorded.keys()
        worst = max(np.abs(one.answers[name] - recorded[name]).max() for name in recorded)
        assert worst <= LAST_BITS
        assert one.timing is not None
        assert one.timing.runs >= 30


def golden_answers(shown: Bundle, key: str) -> dict[str, np.ndarray]:
    document = json.loads((shown.root / "golden" / "golden.json").read_text(encoding="utf-8"))
    return {
        entry["file"]: np.array(entry["probabilities"][key], np.float32)
        for entry in document["images"]
    }


def test_a_wrong_or_missing_token_is_refused_and_shown(
    shown: Bundle, address: str, visit: Visit
) -> None:
    before = len(devices.load(shown))
    for wrong, words in (("#token=guess", "The token is wrong"), ("", "no token")):
        with visit(address.partition("#")[0] + wrong) as watched:
            said = prove(watched.page)
            assert words in said
            with watched.page.expect_download() as saved:
                watched.page.click("#download")
            result = json.loads(Path(saved.value.path()).read_text(encoding="utf-8"))
            assert len(result["artifacts"]) == len(page_bundle.KEYS)
    assert len(devices.load(shown)) == before


def test_without_isolation_it_runs_on_one_thread(
    shown: Bundle, visit: Visit, tmp_path: Path
) -> None:
    path = save(tmp_path, "a.png", page_bundle.photo(4, 90, 70))

    kept = {name: v for name, v in HEADERS.items() if not name.startswith("Cross-Origin-")}
    with (
        in_process(shown, "127.0.0.1", kept) as server,
        visit(server.address("127.0.0.1")) as watched,
    ):
        facts = watched.page.inner_text("#facts").split("\n")
        assert facts[-1] == "no"
        assert facts[facts.index("Threads") + 1] == "1"
        found = np.float32(classify(watched.page, path))
        assert np.abs(found - python_answer(shown, path, "tflite-int8")).max() <= LAST_BITS
        assert watched.errors == []


def test_over_plain_http_from_another_machine(shown: Bundle, visit: Visit, tmp_path: Path) -> None:
    """As a phone on the local network sees it: no secure context, so neither threads, nor a
    service worker, nor crypto.subtle."""
    reachable = lan_addresses()
    if not reachable:
        pytest.skip("this machine has no address but its loopback")
    path = save(tmp_path, "a.png", page_bundle.photo(4, 90, 70))
    with (
        in_process(shown, "0.0.0.0", HEADERS) as server,
        visit(server.address(reachable[0])) as watched,
    ):
        page = watched.page
        assert page.evaluate("isSecureContext") is False
        found = np.float32(classify(page, path))
        assert np.abs(found - python_answer(shown, path, "tflite-int8")).max() <= LAST_BITS
        assert "Stored beside the bundle" in prove(page)
        assert "https or from localhost only" in page.inner_text("#offline")
        # Chromium itself complains that it ignores the header for threads on such an address.
        ours = [one for one in watched.errors if "Cross-Origin-Opener-Policy" not in one]
        assert ours == []


IN_THE_WORKER = """
async ([model, all]) => {
    const bytes = (text) => Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
    const worker = new Worker("/static/worker.js");
    const ask = (request) => new Promise((resolve, reject) => {
        worker.onmessage = ({data}) => data.error ? reject(data.error) : resolve(data.value);
        worker.postMessage({id: 1, ...request});
    });
    await ask({call: "start", threads: 2});
    await ask({call: "load", bytes: bytes(model), threads: 2});
    const answers = [];
    for (const one of all) {
        const {probabilities} = await ask({call: "run", pixels: bytes(one)});
        answers.push(Array.from(probabilities));
    }
    worker.terminate();
    return answers;
}
"""


def test_the_integers_of_the_int8_file_are_pythons_exactly(
    shown: Bundle, address: str, visit: Visit
) -> None:
    """Up to the last DEQUANTIZE: what comes after it is a softmax in float."""
    path = shown.root / BY_KEY["tflite-int8"].path
    cut = dequantized(path.read_bytes())
    assert cut is not None
    golden = [
        np.asarray(Image.open(shown.root / "golden" / f"{number:02d}.png")) for number in range(8)
    ]
    text = [base64.b64encode(data).decode() for data in (cut.model, *map(bytes, golden))]
    with visit(address) as watched:
        answers = watched.page.evaluate(IN_THE_WORKER, [text[0], text[1:]])
        assert watched.errors == []
    with LiteRtRuntime().open(path, shown.contract) as session:
        for answer, pixels in zip(answers, golden, strict=True):
            expected = session.integers(pixels)
            assert expected is not None
            assert np.array_equal(cut.integers(np.array(answer, np.float32)), expected)


def test_a_downloaded_result_counts_once_it_lies_beside_the_bundle(
    shown: Bundle, address: str, visit: Visit
) -> None:
    folder = devices.folder_of(shown.root)
    with visit(address.partition("#")[0]) as watched:
        watched.page.fill("#device", "A phone by cable")
        assert f"put it into {folder.name}" in prove(watched.page)
        with watched.page.expect_download() as saved:
            watched.page.click("#download")
        assert saved.value.suggested_filename == "proof-A-phone-by-cable.json"
        folder.mkdir(exist_ok=True)
        shutil.copy(saved.value.path(), folder / saved.value.suggested_filename)
    found = next(one for one in devices.load(shown) if one.name == "A phone by cable")
    assert [row.status for row in devices.rows(shown, found)] == ["passed"] * 3


def test_names_with_markup_are_text_everywhere(tmp_path: Path, visit: Visit) -> None:
    evil = "<img src=x onerror=document.title='owned'>"
    bundle = page_bundle.write(tmp_path / "dist", page_bundle.contract(f"{evil} & \u202e\"'"))
    path = save(tmp_path, "a.png", page_bundle.photo(1, 80, 60))
    with in_process(bundle) as server, visit(server.address("127.0.0.1")) as watched:
        page = watched.page
        assert page.inner_text("h1") == bundle.contract.name
        classify(page, path)
        assert evil in page.inner_text("#top")
        page.fill("#device", f"<script>alert(1)</script>{evil[:30]}")
        assert "Stored beside the bundle" in prove(page)
        assert page.query_selector_all("main img:not(#photo), main script") == []
        assert page.title() == bundle.contract.name
        assert watched.errors == []
    (stored,) = devices.load(bundle)
    assert stored.name.startswith("<script>")


def test_the_token_is_in_no_request_but_the_posts_header(address: str, visit: Visit) -> None:
    token = address.partition("#token=")[2]
    with visit(address) as watched:
        seen: list[Any] = []
        watched.page.context.on("request", lambda one: seen.append(one))
        watched.page.reload()
        watched.page.wait_for_selector("body[data-ready]")
        prove(watched.page)
        assert len(seen) > 20
        holders = [one for one in seen if token in one.url + str(one.headers) + str(one.post_data)]
        assert [(one.method, one.headers.get("x-exporter-token")) for one in holders] == [
            ("POST", token)
        ]
        assert not any(one.headers.get("referer") for one in seen)
