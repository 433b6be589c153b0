"""The page in headless Chromium, with real clicks, from the server that users start."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from exporter.bundle import BY_KEY, Bundle
from exporter.prove import devices
from exporter.prove.runtimes import litertjs
from exporter.prove.runtimes.litert import LiteRtRuntime
from exporter.serve.command import lan_addresses
from exporter.serve.routes import bundle_table, page_table
from exporter.serve.server import HEADERS, Bench
from models.images import load_pixels
from support import chromium, page_bundle
from support.chromium import Watched

_MISSING = chromium.why_not() or (
    None if litertjs.installed() else "LiteRT.js is not fetched (exporter fetch browser)"
)
pytestmark = pytest.mark.skipif(_MISSING is not None, reason=str(_MISSING))

# The softmax in WebAssembly is another kernel than x86's: on some inputs it rounds the last bits
# of a float32 otherwise. The integers in front of it are equal: see test_browser_runtime.py.
LAST_BITS = 2.4e-7


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium.launched() as running:
        yield running


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return page_bundle.write(tmp_path_factory.mktemp("page") / "dist")


@contextmanager
def served(bundle: Bundle, port: int = 0) -> Iterator[str]:
    """`exporter serve` on this bundle; gives the address that it prints, token and all."""
    program = "from exporter.cli import main; main()"
    options = ["serve", str(bundle.root), "--no-open", "--port", str(port)]
    with subprocess.Popen(
        [sys.executable, "-c", program, *options],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as server:
        try:
            yield printed_address(server)
        finally:
            server.kill()


def printed_address(server: subprocess.Popen[str]) -> str:
    assert server.stdout is not None
    for line in server.stdout:
        found = re.search(r"http://127\.0\.0\.1:\d+/#token=\S+", line)
        if found:
            return found[0]
    raise AssertionError("exporter serve printed no address")


def port_of(address: str) -> int:
    return int(urlsplit(address).port or 0)


@pytest.fixture(scope="module")
def address(bundle: Bundle) -> Iterator[str]:
    with served(bundle) as found:
        yield found


Visit = Callable[..., AbstractContextManager[Watched]]


@pytest.fixture
def visit(browser: Any) -> Visit:
    """Open an address and wait until it can judge photographs."""

    @contextmanager
    def _visit(address: str, **options: Any) -> Iterator[Watched]:
        with chromium.opened(browser, address, **options) as watched:
            watched.page.goto(address)
            watched.page.wait_for_selector("body[data-ready]")
            yield watched

    return _visit


def save(folder: Path, name: str, image: Image.Image, **options: Any) -> Path:
    image.save(folder / name, **options)
    return folder / name


def classify(page: Any, path: Path, key: str = "tflite-int8") -> list[float]:
    """Choose a file and a photograph as a person does; the probabilities shown."""
    page.select_option("#model", key)
    page.evaluate("document.getElementById('result').hidden = true")
    page.set_input_files("#file", str(path))
    page.wait_for_selector("#result:not([hidden])")
    assert page.get_attribute("#result", "data-key") == key
    return json.loads(page.get_attribute("#result", "data-probabilities"))


def python_answer(bundle: Bundle, path: Path, key: str) -> np.ndarray:
    pixels = load_pixels(path, bundle.contract.preprocessing)
    with LiteRtRuntime().open(bundle.root / BY_KEY[key].path, bundle.contract) as session:
        return session.probabilities(pixels)


def prove(page: Any) -> str:
    page.click("#prove")
    page.wait_for_selector("#download:not([hidden])", timeout=60_000)
    page.wait_for_selector("#stored.good, #stored.problem")
    return page.inner_text("#stored")


def test_a_photo_gets_pythons_label_and_probability(
    bundle: Bundle, address: str, visit: Visit, tmp_path: Path
) -> None:
    with visit(address) as watched:
        for seed, size in ((1, (131, 87)), (2, (60, 140)), (3, (37, 37))):
            path = save(tmp_path, f"{seed}.png", page_bundle.photo(seed, *size))
            for key, bound in (("tflite-int8", LAST_BITS), ("tflite-float32", 1e-5)):
                expected = python_answer(bundle, path, key)
                found = classify(watched.page, path, key)
                assert np.abs(np.float32(found) - expected).max() <= bound
                best = bundle.contract.labels[int(expected.argmax())]
                assert watched.page.inner_text("#answer") == best.name
                shown = watched.page.inner_text("#top li:first-child")
                assert best.name in shown
                assert best.scientific_name in shown
                assert f"{100 * expected.max():.1f} %" in shown
        assert watched.errors == []


def test_transparency_and_grey_are_as_in_python(
    bundle: Bundle, address: str, visit: Visit, tmp_path: Path
) -> None:
    photo = page_bundle.photo(5, 70, 50)
    holes = Image.fromarray(np.tile([[0, 255]], (50, 35)).astype(np.uint8))
    pictures = {"grey.png": photo.convert("L"), "palette.png": photo.quantize(40)}
    pictures["holes.png"] = photo.copy()
    pictures["holes.png"].putalpha(holes)
    veil = np.random.default_rng(5).integers(0, 256, (50, 70), dtype=np.uint8)
    pictures["veil.png"] = photo.copy()
    pictures["veil.png"].putalpha(Image.fromarray(veil))
    with visit(address) as watched:
        for name, picture in pictures.items():
            path = save(tmp_path, name, picture)
            found = np.float32(classify(watched.page, path))
            expected = python_answer(bundle, path, "tflite-int8")
            assert np.abs(found - expected).max() <= LAST_BITS, name


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_jpeg_is_turned_as_exif_says(
    bundle: Bundle, address: str, visit: Visit, tmp_path: Path, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = page_bundle.photo(7, 240, 160)
    path = save(tmp_path, "photo.jpg", photo, exif=exif, quality=92)
    with visit(address) as watched:
        found = np.float32(classify(watched.page, path, "tflite-float32"))
        expected = python_answer(bundle, path, "tflite-float32")
        # Two JPEG decoders may differ by a few grey levels; a turn moves far more than this.
        assert np.abs(found - expected).max() < 0.02
    unturned = save(tmp_path, "plain.png", photo)
    if orientation != 1:
        other = python_answer(bundle, unturned, "tflite-float32")
        assert np.abs(expected - other).max() > 0.04


@pytest.mark.parametrize("orientation", [5, 6])
@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_png_and_webp_are_turned_too(
    bundle: Bundle, address: str, visit: Visit, tmp_path: Path, suffix: str, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True, "exact": True} if suffix == "webp" else {}
    path = save(tmp_path, f"a.{suffix}", page_bundle.photo(8, 90, 50), exif=exif, **options)
    with visit(address) as watched:
        found = np.float32(classify(watched.page, path))
        assert np.abs(found - python_answer(bundle, path, "tflite-int8")).max() <= LAST_BITS


def test_the_proof_is_exact_and_is_stored(bundle: Bundle, address: str, visit: Visit) -> None:
    before = len(devices.load(bundle))
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
    stored = devices.load(bundle)
    assert len(stored) == before + 1
    newest = next(one for one in stored if one.name == "A phone on the desk")
    assert {one.key: one.status for one in newest.artifacts} == dict.fromkeys(
        page_bundle.KEYS, "run"
    )
    for one in newest.artifacts:
        recorded = golden_answers(bundle, one.key)
        assert one.answers.keys() == recorded.keys()
        worst = max(np.abs(one.answers[name] - recorded[name]).max() for name in recorded)
        assert worst <= LAST_BITS
        assert one.timing is not None
        assert one.timing.runs >= 30


def golden_answers(bundle: Bundle, key: str) -> dict[str, np.ndarray]:
    document = json.loads((bundle.root / "golden" / "golden.json").read_text(encoding="utf-8"))
    return {
        entry["file"]: np.array(entry["probabilities"][key], np.float32)
        for entry in document["images"]
    }


def test_a_wrong_or_missing_token_is_refused_and_shown(
    bundle: Bundle, address: str, visit: Visit
) -> None:
    before = len(devices.load(bundle))
    for wrong, words in (("#token=guess", "The token is wrong"), ("", "no token")):
        with visit(address.partition("#")[0] + wrong) as watched:
            shown = prove(watched.page)
            assert words in shown
            with watched.page.expect_download() as saved:
                watched.page.click("#download")
            result = json.loads(Path(saved.value.path()).read_text(encoding="utf-8"))
            assert len(result["artifacts"]) == len(page_bundle.KEYS)
    assert len(devices.load(bundle)) == before


def test_not_sure_and_venom_are_said_in_words(tmp_path: Path, visit: Visit) -> None:
    unsure = page_bundle.write(tmp_path / "dist", page_bundle.contract(threshold=1.0))
    path = save(tmp_path, "a.png", page_bundle.photo(1, 80, 60))
    with served(unsure) as address, visit(address) as watched:
        classify(watched.page, path)
        assert watched.page.inner_text("#answer") == "Not sure"
        assert "No class reaches 100.0 %" in watched.page.inner_text("#verdict")
        marks = watched.page.eval_on_selector_all(
            "#top li", "all => all.map(one => one.querySelector('.venom').textContent)"
        )
        words = {"yes": "Venomous", "no": "Not venomous", "unknown": "Venom not known"}
        ranked = np.argsort(-python_answer(unsure, path, "tflite-int8"), kind="stable")[:3]
        assert marks == [words[unsure.contract.labels[index].venomous] for index in ranked]
        assert "No medical advice" in watched.page.inner_text("main")


def test_what_is_no_image_is_said(address: str, visit: Visit, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture at all")
    long = save(tmp_path, "long.png", Image.new("RGB", (1200, 10)))
    with visit(address) as watched:
        for path, words in ((tmp_path / "text.png", "not an image"), (long, "too elongated")):
            watched.page.set_input_files("#file", str(path))
            watched.page.wait_for_selector("#problem:not([hidden])")
            assert words in watched.page.inner_text("#problem")
        assert not watched.page.is_visible("#result")


def test_offline_after_one_visit(bundle: Bundle, visit: Visit, tmp_path: Path) -> None:
    path = save(tmp_path, "a.png", page_bundle.photo(4, 90, 70))
    with served(bundle) as address:
        port = port_of(address)
        opening = visit(address)
        watched = opening.__enter__()
        watched.page.wait_for_selector("text=works without a network")
    try:
        page = watched.page
        page.goto("about:blank")
        page.goto(f"http://127.0.0.1:{port}/")
        page.wait_for_selector("body[data-ready]")
        found = np.float32(classify(page, path))
        assert np.abs(found - python_answer(bundle, path, "tflite-int8")).max() <= LAST_BITS
        assert "Not stored" in prove(page)
        assert page.inner_text("#facts").split("\n")[-1] == "yes"
    finally:
        opening.__exit__(None, None, None)


def test_another_bundle_at_the_same_address_is_not_mixed_with_the_old(
    bundle: Bundle, visit: Visit, tmp_path: Path
) -> None:
    other = page_bundle.write(tmp_path / "other", page_bundle.contract("other beasts"))
    path = save(tmp_path, "a.png", page_bundle.photo(4, 90, 70))
    with served(bundle) as address:
        port = port_of(address)
        opening = visit(address)
        watched = opening.__enter__()
        watched.page.wait_for_selector("text=works without a network")
    try:
        page = watched.page
        with served(other, port) as address:
            page.goto("about:blank")
            page.goto(address)
            page.wait_for_selector("body[data-ready]")
            assert page.inner_text("h1") == "other beasts"
            classify(page, path)
            assert page.inner_text("#answer").startswith(("other beasts", "Not sure"))
            assert "Stored beside the bundle" in prove(page)
            page.wait_for_selector("text=works without a network")
        (stored,) = devices.load(other)
        sums = {entry["path"]: entry["sha256"] for entry in other.manifest["files"]}
        for one in stored.artifacts:
            assert one.sha256 == sums[BY_KEY[one.key].path]
        page.goto("about:blank")
        page.goto(f"http://127.0.0.1:{port}/")
        page.wait_for_selector("body[data-ready]")
        assert page.inner_text("h1") == "other beasts"
        kept = page.evaluate("caches.keys()")
        assert sum(name.startswith("exporter-bundle-") for name in kept) == 1
    finally:
        opening.__exit__(None, None, None)


def test_without_isolation_it_runs_on_one_thread(
    bundle: Bundle, visit: Visit, tmp_path: Path
) -> None:
    path = save(tmp_path, "a.png", page_bundle.photo(4, 90, 70))

    kept = {name: v for name, v in HEADERS.items() if not name.startswith("Cross-Origin-")}
    with (
        in_process(bundle, "127.0.0.1", kept) as server,
        visit(server.address("127.0.0.1")) as watched,
    ):
        facts = watched.page.inner_text("#facts").split("\n")
        assert facts[-1] == "no"
        assert facts[facts.index("Threads") + 1] == "1"
        found = np.float32(classify(watched.page, path))
        assert np.abs(found - python_answer(bundle, path, "tflite-int8")).max() <= LAST_BITS
        assert watched.errors == []


@contextmanager
def in_process(bundle: Bundle, host: str, headers: Mapping[str, str]) -> Iterator[Bench]:
    table = {**page_table(litertjs.place()), **bundle_table(bundle)}
    server = Bench((host, 0), bundle, table, headers=headers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def test_over_plain_http_from_another_machine(bundle: Bundle, visit: Visit, tmp_path: Path) -> None:
    """As a phone on the local network sees it: no secure context, so neither threads, nor a
    service worker, nor crypto.subtle."""
    reachable = lan_addresses()
    if not reachable:
        pytest.skip("this machine has no address but its loopback")
    path = save(tmp_path, "a.png", page_bundle.photo(4, 90, 70))
    with (
        in_process(bundle, "0.0.0.0", HEADERS) as server,
        visit(server.address(reachable[0])) as watched,
    ):
        page = watched.page
        assert page.evaluate("isSecureContext") is False
        found = np.float32(classify(page, path))
        assert np.abs(found - python_answer(bundle, path, "tflite-int8")).max() <= LAST_BITS
        assert "Stored beside the bundle" in prove(page)
        assert "https or from localhost only" in page.inner_text("#offline")
        # Chromium itself complains that it ignores the header for threads on such an address.
        ours = [one for one in watched.errors if "Cross-Origin-Opener-Policy" not in one]
        assert ours == []


def test_drop_keyboard_and_names(address: str, visit: Visit, tmp_path: Path) -> None:
    stream = io.BytesIO()
    page_bundle.photo(4, 90, 70).save(stream, "png")
    with visit(address) as watched:
        page = watched.page
        page.evaluate(
            """bytes => {
                const data = new DataTransfer();
                data.items.add(new File([Uint8Array.from(bytes)], 'a.png', {type: 'image/png'}));
                document.body.dispatchEvent(
                    new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true}));
            }""",
            list(stream.getvalue()),
        )
        page.wait_for_selector("#result:not([hidden])")
        assert page.evaluate("document.activeElement.id") == "answer"
        nameless = page.evaluate(
            """() => [...document.querySelectorAll('input, select, button, img, canvas')]
                .filter(one => !(one.labels?.length || one.textContent.trim() || one.alt ||
                                 one.getAttribute('aria-label')))
                .map(one => one.id)"""
        )
        assert nameless == []
        assert watched.errors == []
