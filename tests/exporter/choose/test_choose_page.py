"""The page and the files beside it, also as a browser shows them."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from exporter.choose import advice, output, page
from exporter.choose.decide import decide
from exporter.choose.results import Budget, Comparison, Outcome
from models.errors import UserError
from support import chromium
from support.comparisons import INT8, comparison, five, outcome, twelve, two

VOID = {"meta", "br", "wbr", "line", "rect", "circle", "path"}
CASES = {
    "two": two(),
    "five": five(),
    "twelve": twelve(),
    "no budget": replace(five(), budget=Budget()),
    "none fits": replace(five(), budget=Budget(0.1, 0.05)),
    "equal": comparison(*(outcome(f"net{place}") for place in range(5)), ms=3),
    "all failed": comparison(Outcome("a", "a", {}, failure="no")),
    "nobody": comparison(),
}


class _Balance(HTMLParser):
    """Every element is closed where it should be."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def words_of(text: str) -> str:
    """What a reader sees, without tags."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", "", text)).split())


@pytest.mark.parametrize("said", CASES.values(), ids=CASES)
def test_the_page_is_whole_and_needs_no_network(said: Comparison) -> None:
    text = page.render(said)
    balance = _Balance()
    balance.feed(text)
    assert balance.open == []
    assert re.findall(r"(?:src|href|url)\s*[=(]\s*[\"']?(?!#)[\w/]", text) == []
    assert set(re.findall(r"https?://[^\s\"'<]+", text)) <= {"http://www.w3.org/2000/svg"}
    assert "<script" not in text


@pytest.mark.parametrize("said", CASES.values(), ids=CASES)
def test_the_sentence_and_the_remarks_are_on_it(said: Comparison) -> None:
    seen = words_of(page.render(said)).replace("'", "")
    decision = decide(said)
    assert advice.verdict(said, decision).replace("'", "") in seen
    for remark in advice.remarks(said, decision):
        assert remark.replace("'", "") in seen


def rows(said: Comparison) -> list[list[str]]:
    body = page.render(said).split("<tbody>")[1].split("</tbody>")[0]
    return [
        [words_of(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL)]
        for row in body.split("<tr")[1:]
    ]


def test_the_table_holds_all_figures() -> None:
    assert rows(five())[2] == [
        "3", "●", "lenet5", "from scratch", "90.0 k", "21.0 M",
        "41.0", "41.0", "41.0", "41.0 ±3.0", "0.0",
        "0.63", "0.63", "0.21",
        "0.36", "0.36", "0.18", "0.09",
        "41", "40", "1 min 01 s",
    ]  # fmt: skip
    assert rows(five())[4] == [
        "5", "", "vgg16", "no figures: needs 11 GB of memory, 8 are free"
    ]  # fmt: skip
    text = page.render(five())
    head = text.split("<thead>")[1].split("</thead>")[0]
    spans = sum(map(int, re.findall(r'colspan="(\d+)"', head)))
    assert spans == len(re.findall(r"<th", head.split("</tr>")[1]))
    failed = re.findall(r'class="reason" colspan="(\d+)"', text)
    assert int(failed[0]) == len(rows(five())[0]) - 3


def test_one_row_is_marked_as_the_one_to_take() -> None:
    for said, count in ((five(), 1), (CASES["none fits"], 0)):
        assert page.render(said).count('<tr class="taken">') == count
    assert rows(two())[1][1] == "►●≈"


def test_a_failed_gate_is_marked_in_the_table() -> None:
    text = page.render(twelve())
    assert "! 95.1 ±1.3" in words_of(text)
    assert "failed its gate: accuracy drop is 0.025, limit 0.015" in text
    assert "! failed its parity gate" in words_of(text)


def test_what_people_wrote_is_escaped() -> None:
    said = comparison(
        outcome("<i>net</i>", gates_failed={INT8: "<u>"}),
        Outcome("b", "b", {}, failure="<script>alert(1)</script>"),
    )
    said = replace(said, data="<s>data</s>", machine="<s>machine</s>", notes=("<s>note</s>",))
    text = page.render(said)
    for mark in ("<i>", "<u>", "<s>", "<script>alert"):
        assert mark not in text
    assert "<i>net</i>" in html.unescape(text)


def test_commands_are_code_and_flags_stay_on_one_line() -> None:
    marked = page.commands("Run 'exporter zoo b' & allow --budget-ms 3.1, or it's <b>.")
    assert marked == (
        "Run <code>exporter zoo b</code> &amp; allow "
        '<span class="flag">--budget-ms 3.1</span>, or it&#39;s &lt;b&gt;.'
    )


# the folder


def test_all_files_are_written_and_others_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "choose"
    folder.mkdir(parents=True)
    (folder / "state.json").write_text("kept")
    assert output.write(two(), folder) == folder / "choose.html"
    assert sorted(path.name for path in folder.iterdir()) == [
        "choose-accuracy.svg", "choose-size.svg", "choose.csv", "choose.html", "state.json",
    ]  # fmt: skip
    assert (folder / "state.json").read_text() == "kept"
    assert (folder / "choose.csv").read_bytes().count(b"\r\n") == 3
    for name in ("choose-accuracy.svg", "choose-size.svg"):
        root = ElementTree.parse(folder / name).getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert "--int8" in next(root.iter("{http://www.w3.org/2000/svg}style")).text or ""


def test_a_second_comparison_replaces_the_first(tmp_path: Path) -> None:
    output.write(two(), tmp_path)
    output.write(CASES["all failed"], tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["choose.csv", "choose.html"]
    assert "mobilenet_v2" not in (tmp_path / "choose.html").read_text()


def test_who_has_the_old_page_open_reads_all_of_it(tmp_path: Path) -> None:
    path = output.write(two(), tmp_path)
    before = path.read_text()
    with path.open() as reader:
        output.write(five(), tmp_path)
        assert reader.read() == before != path.read_text()


def test_a_failing_write_leaves_the_old_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = output.write(two(), tmp_path).read_text()

    def full(self: Path, data: bytes) -> int:
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match="No space left") as caught:
        output.write(five(), tmp_path)
    assert "--out" in caught.value.mend
    assert (tmp_path / "choose.html").read_text() == before
    assert not list(tmp_path.glob(".*"))


# in a browser

OVERLAPS = """() => {
  const shown = [...document.querySelectorAll('svg.chart text.name, svg.chart circle.point')]
    .filter(e => e.getClientRects().length && e.closest('.card > div'));
  const box = e => e.getBoundingClientRect();
  const found = [];
  for (const a of shown) for (const b of shown) {
    if (a === b || a.tagName !== 'text' || a.ownerSVGElement !== b.ownerSVGElement) continue;
    const p = box(a), q = box(b);
    const w = Math.min(p.right, q.right) - Math.max(p.left, q.left);
    const h = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
    if (w > 2 && h > 4) found.push(`${a.textContent} on ${b.textContent}: ${w} x ${h}`);
  }
  return found;
}"""
OUTSIDE = """() => [...document.querySelectorAll('svg.chart text')]
  .filter(e => e.getClientRects().length && e.closest('.card > div'))
  .filter(e => { const p = e.getBoundingClientRect(), q = e.ownerSVGElement.getBoundingClientRect();
    return p.left < q.left - 1 || p.right > q.right + 1 || p.top < q.top - 1; })
  .map(e => e.textContent)"""
SMALL = """() => [...document.querySelectorAll('svg.chart text')]
  .filter(e => e.getClientRects().length).map(e => {
    const svg = e.ownerSVGElement;
    return parseFloat(getComputedStyle(e).fontSize)
      * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width; })
  .filter(size => size < 11)"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    reason = chromium.why_not()
    if reason is not None:
        pytest.skip(reason)
    with chromium.launched() as running:
        yield running


@pytest.mark.parametrize("width", [1100, 500])
@pytest.mark.parametrize("case", ["two", "five", "twelve", "equal", "all failed"])
def test_names_are_readable_in_a_browser(
    browser: Any, tmp_path: Path, case: str, width: int
) -> None:
    url = output.write(CASES[case], tmp_path).as_uri()
    with chromium.opened(browser, url, viewport={"width": width, "height": 900}) as watched:
        watched.page.goto(url)
        assert watched.page.evaluate("document.documentElement.scrollWidth") <= width
        assert watched.page.evaluate(OVERLAPS) == []
        assert watched.page.evaluate(OUTSIDE) == []
        assert watched.page.evaluate(SMALL) == []
        charts = watched.page.locator("div.card svg[role=img]:visible").count()
        assert charts == (0 if case == "all failed" else 2)
    assert watched.errors == []
