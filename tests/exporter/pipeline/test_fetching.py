"""`exporter fetch`: what is fetched, what is left alone, and what a failure leaves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from exporter import fetched
from exporter.pipeline import fetching
from exporter.pipeline.fetching import Fetcher, fetch
from models.errors import UserError


class Shop:
    """Something to be fetched into `home`; it notes each time that it was."""

    def __init__(self, home: Path, fault: UserError | None = None) -> None:
        self.home, self.fault, self.times = home, fault, 0

    def installed(self) -> Path | None:
        return self.home if self.home.exists() else None

    def fetch(self, say: Callable[[str], None]) -> Path:
        say("downloading [it]")
        self.times += 1
        if self.fault is not None:
            raise self.fault
        self.home.mkdir(exist_ok=True)
        return self.home


def shelf(**shops: Shop) -> dict[str, Fetcher]:
    return {
        name: Fetcher(f"The {name}", shop.installed, shop.fetch) for name, shop in shops.items()
    }


def test_what_is_absent_is_fetched_and_what_is_there_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shop = Shop(tmp_path / "[a]")
    fetch(["arm64", "arm64"], fetchers=shelf(arm64=shop))
    assert shop.times == 1
    said = capsys.readouterr().out
    assert f"Fetched The arm64 into {tmp_path / '[a]'}" in said
    assert "exporter parity dist --runtime all" in said
    fetch(["arm64"], fetchers=shelf(arm64=shop))
    assert shop.times == 1
    assert f"The arm64 is here: {tmp_path / '[a]'}" in capsys.readouterr().out
    fetch(["arm64"], anew=True, fetchers=shelf(arm64=shop))
    assert shop.times == 2


def test_only_what_was_named_is_fetched(tmp_path: Path) -> None:
    one, other = Shop(tmp_path / "one"), Shop(tmp_path / "other")
    fetch(["browser"], fetchers=shelf(arm64=one, browser=other))
    assert (one.times, other.times) == (0, 1)


def test_one_that_fails_does_not_stop_the_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fault = UserError("No arm64.", "no apt here", "use Debian")
    one, other = Shop(tmp_path / "one", fault), Shop(tmp_path / "other")
    with pytest.raises(UserError) as caught:
        fetch(["arm64", "browser"], fetchers=shelf(arm64=one, browser=other))
    assert caught.value is fault
    said = capsys.readouterr().out
    assert "Fetched The browser" in said and "Next" not in said


def test_two_failures_are_both_told(tmp_path: Path) -> None:
    shops = {
        "arm64": Shop(tmp_path / "one", UserError("No arm64.", "no apt here", "use Debian")),
        "browser": Shop(tmp_path / "two", UserError("No LiteRT.js.", "no npm here", "")),
    }
    with pytest.raises(UserError) as caught:
        fetch(list(shops), fetchers=shelf(**shops))
    error = caught.value
    assert (error.what, error.why) == ("No arm64. No LiteRT.js.", "no apt here; no npm here")
    assert error.mend == "use Debian"


def test_every_runtime_that_asks_to_be_fetched_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The names in 'exporter fetch NAME' of the reports, of the command and of the shelf agree."""
    from exporter.cli.options import Fetchable
    from exporter.prove.runtimes import registry

    assert {item.value for item in Fetchable} == set(fetching.FETCHERS)
    monkeypatch.setenv(fetched.HOME, str(tmp_path))
    for name, runtime in (("arm64", "litert-arm64"), ("browser", "browser")):
        assert fetching.FETCHERS[name].installed() is None
        reason = registry.get(runtime).unavailable() or ""
        assert f"exporter fetch {name}" in reason or "ARM64 itself" in reason or "Linux" in reason


@pytest.mark.parametrize(
    ("own", "shared", "expected"),
    [
        ("/own", "/shared", "/own/x-1"),
        ("own", "/shared", "{here}/own/x-1"),
        ("", "/shared", "/shared/exporter/x-1"),
        ("", "shared", "{home}/.cache/exporter/x-1"),
        ("", "", "{home}/.cache/exporter/x-1"),
    ],
)
def test_where_fetched_things_lie(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, own: str, shared: str, expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv(fetched.HOME, own)
    monkeypatch.setenv("XDG_CACHE_HOME", shared)
    wanted = expected.format(here=tmp_path, home=tmp_path / "home")
    assert fetched.folder("x-1") == Path(wanted)
