"""`quantize_report` from end to end: files, terminal, page, refusals."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from exporter.bundle import Bundle
from exporter.convert.quantize.plan import QuantizationPlan
from exporter.diagnose import page, terminal
from exporter.diagnose.command import beside_bundle, quantize_report
from exporter.diagnose.diagnose import diagnose
from exporter.diagnose.results import Flip, QuantizeReport
from exporter.prove.imageset import prepare
from models.errors import UserError
from support import chromium, nets

MakeBundle = Callable[..., Bundle]
KEY = "tflite-int8"


@pytest.fixture
def bundle(plan: QuantizationPlan, make_bundle: MakeBundle) -> Bundle:
    return make_bundle(plan)


@pytest.fixture
def flipping(plan: QuantizationPlan, make_bundle: MakeBundle) -> Bundle:
    """The last layer's channels in reverse: class 9 - k where float says k."""
    stored = plan.weights["dense9"]
    order = np.arange(10)[::-1]
    swapped = replace(stored, values=stored.values[order], scales=stored.scales[order],
                      bias=stored.bias[order])  # fmt: skip
    return make_bundle(replace(plan, weights={**plan.weights, "dense9": swapped}), name="flipping")


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Twelve photographs of another size, labelled in a file."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    rows = ["file,label"]
    for index in range(12):
        name = f"{index:02} <b>.png"
        Image.fromarray(nets.image(index, 48)).save(folder / name)
        rows.append(f"{name},{index % 10}")
    (folder / "labels.csv").write_text("\n".join(rows))
    return folder


def show(report: QuantizeReport) -> str:
    console = Console(file=io.StringIO(), width=80, force_terminal=False)
    console.print(terminal.table(report))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_planted_flips_are_listed_with_their_pictures(
    flipping: Bundle, photographs: Path, tmp_path: Path, capsys: Any
) -> None:
    out = tmp_path / "report"
    assert quantize_report(flipping.root, photographs, None, out, KEY) == 0
    written = json.loads((out / page.JSON).read_text())
    assert written["schema"] == 1
    flips = written["flips"]
    assert len(flips) > 6
    planted = [flip for flip in flips
               if int(flip["float_label"][-1]) + int(flip["int8_label"][-1]) == 9]  # fmt: skip
    assert len(planted) >= 4
    assert flips[0] in planted
    margins = [flip["float_margin"] for flip in flips]
    assert margins == sorted(margins, reverse=True)
    assert written["summary"]["flips"] == len(flips)
    assert written["summary"]["agreement"] == pytest.approx(1 - len(flips) / 12)
    assert written["summary"]["labelled"] == 12
    assert {flip["effect"] for flip in flips} <= {"lost", "gained", "wrong either way"}
    html = (out / page.PAGE).read_text()
    assert html.count("data:image/jpeg;base64,") == min(len(flips), page.SHOWN)
    assert "&lt;b&gt;.png" in html
    assert "<b>.png" not in html
    said = capsys.readouterr().out
    assert "flipped" in said
    assert str(out / page.PAGE) in said.replace("\n", "")


def test_a_mixed_file_is_not_told_to_become_one(
    plan: QuantizationPlan, make_bundle: MakeBundle
) -> None:
    """Coarse logits: flips, and a layer to name."""
    logits = "dense9/out"
    coarse = replace(plan.activations[logits], scale=30 * plan.activations[logits].scale)
    ruined = replace(plan, activations={**plan.activations, logits: coarse})
    said = {}
    for key in (KEY, "tflite-mixed"):
        made = make_bundle(ruined, key=key, name=key)
        said[key] = " ".join(diagnose(made, prepare(made, [], None), key).findings)
    assert "--int8-budget 1.25x' makes model_mixed.tflite" in said[KEY]
    assert "makes model_mixed.tflite" not in said["tflite-mixed"]
    assert "--float-layers" in said["tflite-mixed"]


def test_golden_images_where_none_are_given(bundle: Bundle, capsys: Any) -> None:
    before = {path: path.read_bytes() for path in bundle.root.rglob("*") if path.is_file()}
    assert quantize_report(bundle.root, None, 4, None, KEY) == 0
    out = bundle.root.parent / "dist-quantize-report"
    assert sorted(path.name for path in out.iterdir()) == [page.PAGE, page.JSON]
    assert "golden images only" in capsys.readouterr().out
    assert "golden images only" in (out / page.PAGE).read_text()
    after = {path: path.read_bytes() for path in bundle.root.rglob("*") if path.is_file()}
    assert after == before


def test_twice_the_same_is_the_same_bytes(bundle: Bundle, tmp_path: Path) -> None:
    for name in ("one", "two"):
        quantize_report(bundle.root, None, 3, tmp_path / name, KEY)
    for name in (page.PAGE, page.JSON):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    quantize_report(bundle.root, None, 2, tmp_path / "one", KEY)  # a report may be replaced
    assert json.loads((tmp_path / "one" / page.JSON).read_text())["summary"]["images"] == 2


def test_where_a_report_goes(tmp_path: Path, monkeypatch: Any) -> None:
    assert beside_bundle(Path("dist")) == Path("dist-quantize-report")
    assert beside_bundle(Path("a/dist/")) == Path("a/dist-quantize-report")
    (tmp_path / "dist").mkdir()
    monkeypatch.chdir(tmp_path / "dist")
    assert beside_bundle(Path()) == tmp_path / "dist-quantize-report"


def test_a_folder_of_other_things_is_not_replaced(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="cannot be replaced") as raised:
        quantize_report(bundle.root, None, 2, tmp_path / "mine", KEY)
    assert "thesis.tex" in raised.value.why
    assert (tmp_path / "mine" / "thesis.tex").exists()
    with pytest.raises(UserError, match="cannot be replaced"):
        quantize_report(bundle.root, None, 2, bundle.root, KEY)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be replaced"):
        quantize_report(bundle.root, None, 2, tmp_path / "file", KEY)


def test_what_cannot_be_done_is_said(bundle: Bundle, tmp_path: Path) -> None:
    def refused(*, images: Path | None = None, key: str = KEY, root: Path = bundle.root) -> str:
        with pytest.raises(UserError) as raised:
            quantize_report(root, images, None, tmp_path / "out", key)
        assert raised.value.mend
        assert not (tmp_path / "out").exists()
        return str(raised.value)

    assert "tflite-int8 and tflite-mixed" in refused(key="tflite-float16")
    assert "holds no model_mixed.tflite" in refused(key="tflite-mixed")
    (tmp_path / "empty").mkdir()
    assert "holds no image" in refused(images=tmp_path / "empty")
    assert "no folder" in refused(root=tmp_path / "nowhere")
    for image in (bundle.root / "golden").iterdir():
        image.unlink()
    assert "no image" in refused()
    (bundle.root / "golden").rmdir()
    assert "no images to compare on" in refused()


def test_files_that_are_missing_or_damaged(
    bundle: Bundle, plan: QuantizationPlan, make_bundle: MakeBundle, tmp_path: Path
) -> None:
    def run() -> None:
        quantize_report(bundle.root, None, 1, tmp_path / "out", KEY)

    whole = bundle.path(KEY).read_bytes()
    bundle.path(KEY).write_bytes(whole[:400])
    with pytest.raises(UserError):
        run()
    bundle.path(KEY).unlink()
    with pytest.raises(UserError, match="missing"):
        run()
    bundle.path(KEY).write_bytes(whole)
    bundle.path("tflite-float32").unlink()
    with pytest.raises(UserError, match="missing"):
        run()
    manifest = json.loads((bundle.root / "manifest.json").read_text())
    manifest["artifacts"] = {KEY: {}}
    (bundle.root / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="no float file"):
        run()


@pytest.fixture
def report(flipping: Bundle) -> QuantizeReport:
    return diagnose(flipping, prepare(flipping, [], None), KEY)


def long_names(report: QuantizeReport) -> QuantizeReport:
    flip = Flip("photographs/of a very long day/" + 40 * "x" + ".jpg", 50 * "a", 60 * "b",
                1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 30 * "t", "gained")  # fmt: skip
    layers = tuple(
        replace(layer, tensor=f"model/backbone/stage_{layer.index}/inverted_residual/expand/Relu6")
        for layer in report.layers
    )
    return replace(report, flips=(flip, *report.flips), layers=layers)


def test_the_terminal_is_readable_in_80_columns(report: QuantizeReport) -> None:
    text = show(long_names(report))
    assert max(map(len, text.splitlines())) <= 80
    header = next(line for line in text.splitlines() if "worst layers" in line)
    assert header.split()[-1] == "outside"
    rows = re.findall(r"^ *\d+ mod\S*…\S+ +(?:conv|depthwise|dense|add|mean) ", text, re.MULTILINE)
    assert len(rows) == 10
    assert "…" in text
    assert "gained" in text


def test_the_page_is_self_contained(report: QuantizeReport) -> None:
    html = page.render(long_names(report), lambda name: None)
    assert "<script" not in html
    assert not re.search(r"(src|href)=\"(?!data:)", html)
    assert "http" not in html
    assert html.count("<svg") >= 4
    assert "prefers-color-scheme: dark" in html


@pytest.mark.skipif(chromium.why_not() is not None, reason=str(chromium.why_not()))
def test_the_page_fits_a_phone(report: QuantizeReport, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(page.render(long_names(report), lambda name: None), encoding="utf-8")
    with chromium.launched() as browser:
        for width in (400, 1100):
            opened = browser.new_page(viewport={"width": width, "height": 800})
            opened.goto(path.as_uri())
            opened.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
            assert opened.evaluate("document.documentElement.scrollWidth") == width


def test_progress_is_told_image_by_image(bundle: Bundle) -> None:
    seen = []
    chosen = prepare(bundle, [], None, 5)
    diagnose(bundle, chosen, KEY, on_image=lambda: seen.append(1))
    assert len(seen) == 5
