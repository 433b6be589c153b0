"""What the page's tests share: the server that users start, and a person's clicks."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from clients import serving_thread
from PIL import Image

from exporter.bundle import BY_KEY, Bundle
from exporter.prove.runtimes import litertjs
from exporter.prove.runtimes.litert import LiteRtRuntime
from exporter.serve.routes import bundle_table, page_table
from exporter.serve.server import HEADERS, Bench
from models.images import load_pixels
from support import chromium
from support.chromium import Watched

MISSING = chromium.why_not() or (
    None if litertjs.installed() else "LiteRT.js is not fetched (exporter fetch browser)"
)

# The softmax in WebAssembly is another kernel than x86's: on some inputs it rounds the last bits
# of a float32 otherwise. The integers in front of it are equal: see test_page_proof.py.
LAST_BITS = 2.4e-7

Visit = Callable[..., AbstractContextManager[Watched]]


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


@contextmanager
def in_process(
    bundle: Bundle, host: str = "127.0.0.1", headers: Mapping[str, str] = HEADERS, port: int = 0
) -> Iterator[Bench]:
    """A server in this process, for what `exporter serve` has no option for."""
    table = {**page_table(litertjs.place()), **bundle_table(bundle)}
    with serving_thread(Bench((host, port), bundle, table, headers=headers)) as server:
        yield server
