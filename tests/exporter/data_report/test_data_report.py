"""`exporter data-report`: files, terminal, page, refusals."""

from __future__ import annotations

import io
import json
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from exporter.data_report import page, terminal, thumbs
from exporter.data_report.findings import findings
from models.data.looking import look_at
from models.data.quality import Quality, judge
from models.data.reading import read_set
from support import chromium
from support.cli import run_cli
from support.pictures import noise, scene, table


@pytest.fixture
def messy(tmp_path: Path) -> Path:
    """Two dozen images of three classes with one fault of each kind."""
    root = tmp_path / "snakes"
    for number, (name, count) in enumerate((("adder <b>", 23), ("boa", 4), ("cobra", 2))):
        for i in range(count):
            noise(root / name / f"{i}.png", 100 * number + i, 40)
    scene(7, 96).save(root / "boa" / "scene.png")
    scene(7, 80).save(root / "cobra" / "small scene.png")
    shutil.copy(root / "adder <b>" / "0.png", root / "boa" / "wrong.png")
    shutil.copy(root / "adder <b>" / "1.png", root / "adder <b>" / "again.png")
    (root / "boa" / "cut.png").write_bytes((root / "boa" / "0.png").read_bytes()[:90])
    return root


def _quality(path: Path) -> Quality:
    data = read_set(path, strict=False)
    return judge(data, look_at(data.items))


def test_every_fault_is_found_and_written(messy: Path, tmp_path: Path) -> None:
    ran = run_cli("data-report", messy, "--out", tmp_path / "out")
    assert ran.code == 0, ran.text
    written = json.loads((tmp_path / "out" / page.JSON).read_text())
    assert written["schema"] == 1
    assert written["images"] == 34
    assert {each["name"]: each["images"] for each in written["classes"]} == {
        "adder <b>": 24, "boa": 6, "cobra": 3,
    }  # fmt: skip
    assert written["imbalance"] == 8
    assert [each["file"] for each in written["broken"]] == ["boa/cut.png"]
    copies = {frozenset(each["file"] for each in same) for same in written["exact_copies"]}
    assert copies == {
        frozenset({"adder <b>/0.png", "boa/wrong.png"}),
        frozenset({"adder <b>/1.png", "adder <b>/again.png"}),
    }
    (pair,) = written["near_copies"]
    assert pair["labels"] == [["boa"], ["cobra"]]
    assert written["shorter_side"]["greatest"] == 96
    said = " ".join(written["findings"])
    for what in ("1 image in two classes", "1 pair of images that look alike, with different",
                 "1 image (2.9 %) cannot be decoded", "1 image could go"):  # fmt: skip
        assert what in said
    for name in (page.PAGE, page.JSON, page.SHEET):
        assert f"Wrote {tmp_path / 'out' / name}" in ran.out


def test_the_page_shows_all_of_it_and_asks_for_nothing(messy: Path, tmp_path: Path) -> None:
    quality = _quality(messy)
    page.write(quality, tmp_path / "out")
    text = (tmp_path / "out" / page.PAGE).read_text()
    assert "adder &lt;b&gt;" in text
    assert "adder <b>" not in text
    assert "<script" not in text
    assert not re.search(r'(?:src|href)="(?!data:)', text)
    assert text.count("<figure>") == 2 + 4
    assert "different labels" in text
    assert "boa/cut.png" in text
    with Image.open(tmp_path / "out" / page.SHEET) as sheet:
        assert sheet.height == 4 + 3 * 96


def test_a_clean_set_has_nothing_to_complain_about(tmp_path: Path) -> None:
    for number, name in enumerate(("a", "b")):
        for i in range(20):
            noise(tmp_path / "set" / name / f"{i}.png", 100 * number + i, 170)
    quality = _quality(tmp_path / "set")
    assert findings(quality) == []
    assert "Nothing to complain about" in page.render(quality, Image.new("RGB", (4, 4)))


def test_the_sheet_shows_the_commonest_and_the_rarest(messy: Path) -> None:
    data = _quality(messy).data
    assert thumbs.sheet_rows(data, 40) == [0, 1, 2]
    assert thumbs.sheet_rows(data, 2) == [0, 2]
    sheet = thumbs.contact_sheet(data, [0, 2], frozenset({2}), per_class=3)
    red = (0xB3, 0x26, 0x1E)
    assert sheet.getpixel((1, 10)) == (255, 255, 255)
    assert sheet.getpixel((1, 110)) == red


def test_a_multi_label_set(tmp_path: Path) -> None:
    for i in range(6):
        noise(tmp_path / f"{i}.png", i, 40)
    rows = [f"{i}.png,{'a|b' if i % 2 else 'a' if i else ''},g{i // 2}" for i in range(6)]
    quality = _quality(table(tmp_path, "file,labels,group", *rows))
    assert (quality.without_label, quality.groups) == (1, 3)
    text = page.render(quality, Image.new("RGB", (4, 4)))
    assert "an image may have several, or none" in text
    assert "Of none of the classes" in text


def test_the_terminal_fits_eighty_columns(messy: Path) -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=False)
    console.print(terminal.summary(_quality(messy)))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= 80
    assert "adder <b>" in text


def test_what_is_refused(messy: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ran = run_cli("data-report", messy, "--out", out, "--most-broken", "0.01")
    assert (ran.code, out.exists()) == (2, False)
    assert "boa/cut.png" in ran.err
    assert run_cli("data-report", messy, "--out", out, "--near-bits", "40").code == 2
    out.mkdir()
    (out / "mine.txt").write_text("precious")
    ran = run_cli("data-report", messy, "--out", out)
    assert ran.code == 2
    assert "in the way" in ran.err
    assert (out / "mine.txt").read_text() == "precious"
    assert run_cli("data-report", tmp_path / "nowhere", "--out", tmp_path / "x").code == 2


def test_an_earlier_report_is_replaced(messy: Path, tmp_path: Path) -> None:
    for _ in range(2):
        assert run_cli("data-report", messy, "--out", tmp_path / "out", "--near-bits", -1).code == 0
    assert json.loads((tmp_path / "out" / page.JSON).read_text())["near_copies"] == []


@pytest.mark.skipif(chromium.why_not() is not None, reason=str(chromium.why_not()))
def test_the_page_is_no_wider_than_the_window(messy: Path, tmp_path: Path) -> None:
    page.write(_quality(messy), tmp_path / "out")
    with chromium.launched() as browser:
        for width in (1100, 500):
            context = browser.new_context(viewport={"width": width, "height": 800})
            shown = context.new_page()
            shown.goto((tmp_path / "out" / page.PAGE).as_uri())
            assert shown.evaluate("document.documentElement.scrollWidth") <= width
            context.close()
