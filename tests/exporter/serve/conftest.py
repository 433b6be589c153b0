"""Bundles and servers for the tests of this folder, whose helper modules it makes importable."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from exporter.bundle import Bundle, open_bundle
from exporter.serve import routes
from support import chromium, page_bundle
from support.chromium import Watched

sys.path.insert(0, str(Path(__file__).parent))

from clients import Running, Serve, running_server
from pages import Visit, served


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return page_bundle.write(tmp_path_factory.mktemp("made") / "dist").root


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Bundle:
    """A bundle that a test may damage."""
    shutil.copytree(made, tmp_path / "dist")
    return open_bundle(tmp_path / "dist")


@pytest.fixture
def serving(bundle: Bundle, library: Path) -> Serve:
    """Starts a server of `bundle`; takes the options of `running_server`."""

    def start(**options: Any) -> AbstractContextManager[Running]:
        table = {**routes.page_table(library), **routes.bundle_table(bundle)}
        return running_server(bundle, table, **options)

    return start


@pytest.fixture
def running(serving: Serve) -> Iterator[Running]:
    with serving() as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium.launched() as running:
        yield running


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle that the page shows, and that results are stored beside."""
    return page_bundle.write(tmp_path_factory.mktemp("page") / "dist")


@pytest.fixture(scope="module")
def address(shown: Bundle) -> Iterator[str]:
    with served(shown) as found:
        yield found


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
