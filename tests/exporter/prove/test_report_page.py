"""The report page says what the results say, escapes what users wrote, loads nothing."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from exporter.bundle import Bundle
from exporter.prove.report.charts import Bar, bar_chart, nice_step
from exporter.prove.report.page import human_size, render, verdict
from exporter.prove.results import (
    ArtifactResult,
    GateCheck,
    ImageResult,
    Latency,
    LatencyResult,
    ParityReport,
)
from models.contract import Contract, Label


def artifact(
    key: str = "tflite-int8", precision: str = "int8", **changes: object
) -> ArtifactResult:
    flip = ImageResult("adder/one.png", "adder", 0, 1, 0.52, 0.55, 0.04, 0.07)
    base = ArtifactResult(
        key, f"model_{precision}.tflite", precision, "litert", "ai-edge-litert 2.3.0", "run",
        "passed", images=50, max_probability_difference=0.08, mean_probability_difference=1e-3,
        max_logit_difference=0.9, mean_logit_difference=0.12, logit_sqnr_db=22.4,
        top1_agreement=0.98, top5_agreement=0.99, accuracy=0.9, reference_accuracy=0.92,
        gates=(GateCheck("agreement", 0.98, 0.93, True),), flipped=(flip,), worst=(flip,),
        bytes=3_620_000,
    )  # fmt: skip
    return replace(base, **changes)  # type: ignore[arg-type]


def report(*artifacts: ArtifactResult) -> ParityReport:
    timing = (
        LatencyResult("torch", "eager", 50, 9.0, 9.9, 1.0),
        LatencyResult("tflite-int8", "litert", 50, 1.9, 2.2, 0.21),
    )
    return ParityReport(
        "snakes", "torch eager 2.13.0", "validation", 50, 50, artifacts,
        Latency("A Processor", 1, 5, timing, (("coreml", "evaluated, not run"),)),
    )  # fmt: skip


@pytest.fixture
def opened(tmp_path: Path) -> Bundle:
    labels = (Label("adder"), Label("<b>boa</b> & co"))
    keys = ("tflite-int8", "tflite-float32", "coreml")
    manifest = {
        "artifacts": {key: {} for key in keys},
        "tools": {"onnx": "1.23"},
        "files": [],
        "reference": "reference/x",
    }
    return Bundle(tmp_path, Contract(labels, name="snakes"), manifest)


class _Links(HTMLParser):
    """Collects everything that a browser would fetch, and checks the nesting."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.scripts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        for name, value in attrs:
            if name in ("src", "href", "srcset") and value and not value.startswith("data:"):
                self.fetched.append(value)


def test_page_is_self_contained_and_has_thumbnails(opened: Bundle, tmp_path: Path) -> None:
    (tmp_path / "adder").mkdir()
    Image.new("RGB", (300, 200), (10, 120, 30)).save(tmp_path / "adder" / "one.png")
    page = render(opened, report(artifact()), tmp_path)
    links = _Links()
    links.feed(page)
    assert links.fetched == []
    assert links.scripts == 0
    assert page.count("data:image/jpeg;base64,") == 1
    assert "url(" not in page


def test_labels_are_escaped(opened: Bundle) -> None:
    page = render(opened, report(artifact()), None)
    assert "<b>boa</b> & co" not in page
    assert "&lt;b&gt;boa&lt;/b&gt; &amp; co" in page


def test_banner_follows_the_worst_artifact(opened: Bundle) -> None:
    failed = artifact(status="failed", gates=(GateCheck("agreement", 0.5, 0.93, False),))
    good = artifact("tflite-float32", "float32")
    page = render(opened, report(good, failed), None)
    assert "1 of 2 compared files fail a gate" in page
    assert "Do not ship it: agreement is 0.5, the gate is 0.93." in page
    absent = artifact(status="not run", reason="coremltools is not installed")
    page = render(opened, report(absent), None)
    assert "Nothing was compared" in page
    assert "banner passed" not in page
    page = render(opened, report(good, absent), None)
    assert "All 1 compared files pass their gates. 1 not run." in page


def test_evaluated_emulated_and_reported_are_never_called_run() -> None:
    assert "evaluated, not run" in verdict(artifact(evidence="evaluated"))
    assert "on an emulated processor" in verdict(artifact(evidence="emulated"))
    assert "as another device reported" in verdict(artifact(evidence="reported"))


def test_one_file_in_several_runtimes_has_a_card_in_each_and_one_size(opened: Bundle) -> None:
    rows = (
        artifact(),
        artifact(runtime="litert-arm64", evidence="emulated"),
        artifact(runtime="browser", evidence="reported", device="<Pixel> 7", bytes=0),
    )
    page = render(opened, report(*rows), None)
    for title in ("tflite-int8", "tflite-int8 @ litert-arm64", "tflite-int8 @ &lt;Pixel&gt; 7"):
        assert f"<td><code>{title}</code></td>" in page
        assert f"<h2>Answers that <code>{title}</code> changed</h2>" in page
    cards = re.findall(r"<header><code><b>(.*?)</b>", page)
    assert cards == [
        "model_int8.tflite",
        "model_int8.tflite @ litert-arm64",
        "model_int8.tflite @ &lt;Pixel&gt; 7",
    ]
    sizes = page.partition("Size on the phone")[2].partition("</svg>")[0]
    assert len(re.findall('class="bar ', sizes)) == 1


def test_a_file_that_does_not_open_says_why() -> None:
    broken = artifact(status="failed", gates=(), reason="it is cut short", images=0)
    assert verdict(broken) == "Do not ship it: it is cut short."


def test_latency_names_the_machine_and_what_was_not_timed(opened: Bundle) -> None:
    page = render(opened, report(artifact()), None)
    assert "A Processor, 1 thread;" in page
    assert "not a phone" in page
    assert re.search(r"Not timed: <code>coreml</code> \(evaluated, not run\)", page)


def test_bars_are_in_proportion() -> None:
    svg = bar_chart([Bar("a", 2.0, "2"), Bar("b", 4.0, "4")], "ms", "t")
    first, second = (float(w) for w in re.findall(r'<rect[^>]* width="([\d.]+)"', svg))
    assert second == pytest.approx(2 * first)


@pytest.mark.parametrize(
    ("largest", "step"), [(1.0, 0.25), (3.9, 1.0), (10.0, 2.5), (14.0, 5.0), (0.0, 1.0)]
)
def test_nice_step(largest: float, step: float) -> None:
    assert nice_step(largest) == pytest.approx(step)


def test_human_size() -> None:
    assert [human_size(n) for n in (12, 912_000, 3_621_000)] == ["12 B", "912 kB", "3.62 MB"]
