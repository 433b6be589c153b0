"""The page in Chromium without its server, and with another than the one it was loaded from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from pages import (
    LAST_BITS,
    MISSING,
    Visit,
    classify,
    in_process,
    port_of,
    prove,
    python_answer,
    save,
    served,
)

from exporter.bundle import BY_KEY, Bundle
from exporter.prove import devices
from exporter.serve import routes
from support import page_bundle

pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))


def test_offline_after_one_visit(shown: Bundle, visit: Visit, tmp_path: Path) -> None:
    path = save(tmp_path, "a.png", page_bundle.photo(4, 90, 70))
    with served(shown) as address:
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
        assert np.abs(found - python_answer(shown, path, "tflite-int8")).max() <= LAST_BITS
        assert "Not stored" in prove(page)
        assert page.inner_text("#facts").split("\n")[-1] == "yes"
    finally:
        opening.__exit__(None, None, None)


def test_another_bundle_at_the_same_address_is_not_mixed_with_the_old(
    shown: Bundle, visit: Visit, tmp_path: Path
) -> None:
    other = page_bundle.write(tmp_path / "other", page_bundle.contract("other beasts"))
    path = save(tmp_path, "a.png", page_bundle.photo(4, 90, 70))
    with served(shown) as address:
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


def changed_page(folder: Path, title: str) -> Path:
    """A copy of the page whose every part tells its version."""
    shutil.copytree(routes.STATIC, folder)
    script = folder / "app.js"
    text = script.read_text(encoding="utf-8")
    wanted = "at.title.textContent = bundle.contract.name;"
    assert text.count(wanted) == 1
    script.write_text(text.replace(wanted, f"at.title.textContent = '{title}';"), encoding="utf-8")
    return folder


def test_an_upgraded_page_replaces_the_kept_one(
    shown: Bundle, visit: Visit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with in_process(shown) as server:
        port = server.server_address[1]
        opening = visit(server.address("127.0.0.1"))
        page = opening.__enter__().page
        page.wait_for_selector("text=works without a network")
    try:
        monkeypatch.setattr(routes, "STATIC", changed_page(tmp_path / "new", "The new page"))
        with in_process(shown, port=port):
            page.reload()
            page.wait_for_selector("body[data-ready]")
            assert page.inner_text("h1") == "The new page"
            page.wait_for_selector("text=works without a network")
        page.reload()
        page.wait_for_selector("body[data-ready]")
        assert page.inner_text("h1") == "The new page"
        kept = page.evaluate("caches.keys()")
        assert sum(name.startswith("exporter-page-") for name in kept) == 1
    finally:
        opening.__exit__(None, None, None)


def test_half_an_upgrade_leaves_the_kept_page_whole(
    shown: Bundle, visit: Visit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with in_process(shown) as server:
        port = server.server_address[1]
        opening = visit(server.address("127.0.0.1"))
        page = opening.__enter__().page
        page.wait_for_selector("text=works without a network")
    try:
        monkeypatch.setattr(routes, "STATIC", changed_page(tmp_path / "new", "The new page"))
        with in_process(shown, port=port) as server:
            table = dict(server.table)
            index = table[routes.PAGE_INDEX].read()
            assert index is not None
            server.table = {**table, "/static/worker.js": table["/static/sha256.js"]}
            page.evaluate("navigator.serviceWorker.ready")
            page.goto("about:blank")
            page.goto(server.address("127.0.0.1"))
            page.wait_for_selector("text=/Not stored|LiteRT.js|cannot/")
            found = page.evaluate(KEEP, json.loads(index)["files"])
            assert "worker.js has changed on the server" in found["error"]
        page.goto("about:blank")
        page.goto(f"http://127.0.0.1:{port}/")
        page.wait_for_selector("body[data-ready]")
        assert page.inner_text("h1") == shown.contract.name
    finally:
        opening.__exit__(None, None, None)


# What offline.js asks of the service worker.
KEEP = """
async (files) => {
    const {active} = await navigator.serviceWorker.ready;
    const {port1, port2} = new MessageChannel();
    const answer = new Promise((resolve) => (port1.onmessage = ({data}) => resolve(data)));
    active.postMessage({page: {id: "new", files}, bundle: [], id: "x", index: "{}"}, [port2]);
    return answer;
}
"""


def test_it_can_be_installed(address: str, visit: Visit) -> None:
    with visit(address) as watched:
        watched.page.wait_for_selector("text=works without a network")
        session = watched.page.context.new_cdp_session(watched.page)
        found = session.send("Page.getInstallabilityErrors")["installabilityErrors"]
        # A test's profile is like a private window, where nothing can be installed.
        assert {one["errorId"] for one in found} <= {"in-incognito"}
        manifest = session.send("Page.getAppManifest")
        assert manifest["errors"] == [] and manifest["url"].endswith("/manifest.webmanifest")
