"""The page in a browser: it fits a phone and a desk, and asks for nothing from elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from exporter.bundle import Format
from exporter.evaluate import files, measuring
from exporter.evaluate.photographs import Photograph, Photographs
from exporter.evaluate.running import Answered, Broken
from exporter.prove.opened import Opened
from models.contract import Contract, Label, Preprocessing
from support import chromium
from support.evaluating import Said

CLASSES = 85


def write_page(folder: Path) -> Path:
    """An evaluation of many species with long names, made up."""
    rng = np.random.default_rng(5)
    venom = ("yes", "no", "unknown")
    contract = Contract(
        tuple(
            Label(f"a snake with a long common name {index}", f"Longissima exempli{index}",
                  venom[index % 3])  # type: ignore[arg-type]
            for index in range(CLASSES)
        ),
        Preprocessing(8, 8, 8),
        name="a model with a name that does not end before the line does",
    )  # fmt: skip
    truth = np.repeat(np.arange(CLASSES), 6)
    logits = rng.normal(0, 1, (len(truth), CLASSES))
    logits[np.arange(len(truth)), truth] += 4
    rows = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    each = tuple(
        Photograph(Path(f"{i}.jpg"), f"some/{'deep/' * 9}{i}.jpg", (int(label),), str(i))
        for i, label in enumerate(truth)
    )
    opened = Opened(
        Format("checkpoint", "m.safetensors", "float32", "torch", None, ""), "torch",
        "torch eager 2", "run", True, Said(iter(())),
    )  # fmt: skip
    answered = Answered(opened, list(range(len(each))), _rows=list(rows.astype(np.float32)))
    other = Opened(
        Format("tflite-int8", "m.tflite", "int8", "litert", None, ""), "litert", "", "run", False,
        None, "failed", "a reason that is as long as those of damaged files tend to be " * 3,
    )  # fmt: skip
    evaluation, answers = measuring.evaluate(
        "runs/snakes", contract, Photographs("test", each, len(each), (), False),
        [answered, Answered(other)], each, [Broken("cut.jpg", "x" * 200)], 0.01, ["a note"],
    )  # fmt: skip
    files.write(evaluation, answers, contract, folder)
    return folder / files.PAGE


@pytest.mark.skipif(chromium.why_not() is not None, reason=str(chromium.why_not()))
def test_the_page_fits_a_phone_and_a_desk(tmp_path: Path) -> None:
    page = write_page(tmp_path / "out")
    with chromium.launched() as browser:
        for width in (390, 500, 1100):
            with chromium.opened(
                browser, page.as_uri(), viewport={"width": width, "height": 900}
            ) as watched:
                watched.page.goto(page.as_uri())
                wide = watched.page.evaluate("document.documentElement.scrollWidth")
                assert wide <= width
                drawn = watched.page.evaluate(
                    "[...document.images].every(image => image.complete && image.naturalWidth)"
                )
                assert drawn
                assert watched.page.locator("img").count() == 3
                watched.page.locator("details summary").last.click()
                assert watched.page.locator("tbody tr").last.is_visible()
                assert watched.errors == []
