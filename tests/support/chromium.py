"""Headless Chromium, driven by playwright: the system's own browser, nothing downloaded."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


def executable() -> str | None:
    """The path of Chromium or Chrome, or None."""
    return next(filter(None, map(shutil.which, _NAMES)), None)


def why_not() -> str | None:
    """Why no browser can be driven here; None if one can."""
    if importlib.util.find_spec("playwright") is None:
        return "playwright is not installed (pip install 'exporter[test]')"
    if executable() is None:
        return "no Chromium on PATH (Debian: apt-get install chromium)"
    return None


@contextmanager
def launched() -> Iterator[Any]:
    """A running browser; it ends with the block."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=executable(), args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Watched:
    """A page, and everything it did that it should not do.

    Attributes:
        errors: uncaught exceptions, console errors (violations of the content security
            policy are among them), and requests to other hosts.
    """

    page: Any
    host: str
    errors: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("pageerror", lambda error: self.errors.append(f"uncaught: {error}"))
        self.page.on("console", self._console)
        self.page.context.on("request", self._request)

    def _console(self, message: Any) -> None:
        if message.type == "error":
            self.errors.append(f"console: {message.text}")

    def _request(self, request: Any) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("blob", "data") and parts.netloc != self.host:
            self.errors.append(f"request to another host: {request.url}")


@contextmanager
def opened(browser: Any, url: str, **options: Any) -> Iterator[Watched]:
    """A fresh profile of a phone's size with one page, not yet gone to `url`."""
    context = browser.new_context(**{**PHONE, **options})
    context.set_default_timeout(30_000)
    try:
        yield Watched(context.new_page(), urlsplit(url).netloc)
    finally:
        context.close()
