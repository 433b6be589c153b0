"""The coverage table: which networks are tried, and what its page says of each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from exporter import bundle
from exporter.convert.unsupported import Offender, UnsupportedOperatorsError
from models import zoo

torch = pytest.importorskip("torch")

from zoo_coverage import subjects as tried  # noqa: E402 - needs torch
from zoo_coverage import table, trial  # noqa: E402

REFUSED = ("convnext_tiny", "maxvit_t", "swin_t", "vit_b_32")
BROUGHT = [subject for subject in tried.subjects(64) if subject.kind != "zoo"]
USUAL = [row.key for row in bundle.FORMATS if row.usual]


def file(status: str = "passed", **more: Any) -> dict[str, Any]:
    """One file's figures as a trial writes them."""
    figures = {"max_probability_difference": 2.2e-6, "sqnr_db": 24.4, "agreement": 0.97}
    return {"status": status, **figures, **more}


def result(**more: Any) -> dict[str, Any]:
    made = {"name": "net", "kind": "zoo", "side": 64, "parameters": 1_250_000, "left_out": {}}
    return {**made, "files": {key: file() for key in USUAL}, **more}


def test_the_whole_zoo_and_ten_others_are_tried() -> None:
    found = tried.subjects()
    assert [s.name for s in found if s.kind == "zoo"] == list(zoo.names())
    others = {s.name for s in found if s.kind != "zoo"}
    assert not others & set(zoo.names())
    assert len(others - set(REFUSED)) >= 10
    families = ("densenet", "shufflenet_v2", "mnasnet", "regnet", "convnext_tiny", "vgg11",
                "efficientnet_v2_s", "wide_resnet", "resnet34", "swin", "vit")  # fmt: skip
    assert all(any(name.startswith(family) for name in others) for family in families)


def test_a_smaller_side_keeps_to_what_a_network_takes() -> None:
    sides = {s.name: s.side for s in tried.subjects(64)}
    assert sides["lenet5"] == 32
    assert sides["inception_v3"] == zoo.get("inception_v3").options["input_size"].smallest > 64
    assert (sides["vit_b_32"], sides["maxvit_t"]) == (224, 224)
    assert sides["resnet34"] == sides["vgg16"] == 64


def test_the_table_has_a_column_for_every_usual_format() -> None:
    assert sorted(key for key, _ in table._COLUMNS) == sorted(USUAL)


@pytest.mark.parametrize(
    ("key", "given", "said"),
    [
        ("onnx", file(), "2e-06"),
        ("tflite-int8", file(), "24 dB, 97%"),
        ("coreml-int8", file("failed"), "**24 dB, 97%**"),
        ("tflite-float32", file("failed"), "**2e-06**"),
        ("mlmodel", {"status": "not run"}, "not run"),
    ],
)
def test_a_cell(key: str, given: Mapping[str, Any], said: str) -> None:
    assert table.cell(result(files={key: given}), key) == said


def test_files_that_were_not_made() -> None:
    made = result(files={}, left_out={"mlmodel": "it cannot say that"})
    assert table.cell(made, "mlmodel") == "left out"
    assert table.cell(made, "onnx") == "not run"


def test_the_page_lists_what_is_refused_with_all_operators() -> None:
    offenders = tuple(
        Offender(f"n{i}", kind, "unknown") for i, kind in enumerate(("Einsum", "Erf"))
    )
    refusal = UnsupportedOperatorsError("brought.onnx", offenders).what
    brought = [
        result(name="taken", kind="onnx"),
        {"name": "not_taken", "kind": "onnx", "side": 224, "parameters": 1, "refused": refusal},
    ]
    page = table.markdown([result(name="ours"), *brought], "make coverage-table", "On pictures.")
    assert "- `not_taken`: Einsum, Erf\n" in page
    zoo_part, _, brought_part = page.partition("## ONNX files that people bring")
    assert "| `ours` | 64 | 1.25 M |" in zoo_part
    assert "| `taken` | 64 | 1.25 M |" in brought_part
    assert "`taken`" not in zoo_part


def test_a_transformer_is_refused_by_its_operators(tmp_path: Path) -> None:
    (subject,) = (s for s in tried.subjects(64) if s.name == "swin_t")
    found = trial.run(subject, tmp_path)
    assert "files" not in found
    named = table._operators(found["refused"]).split(", ")
    assert {"LayerNormalization", "MatMul"} & set(named)
    assert not (tmp_path / "dist").exists()


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("subject", BROUGHT, ids=lambda s: f"{s.name}-{s.kind}")
def test_a_network_that_people_bring(subject: tried.Subject, tmp_path: Path) -> None:
    """Refused by its operators, or through every usual format with the float gates passed."""
    found = trial.run(subject, tmp_path)
    if subject.name in REFUSED:
        assert "cannot be converted" in found["refused"]
        return
    assert "refused" not in found, found["refused"]
    assert set(found["files"]) == set(USUAL)
    bad = {key: row for key, row in found["files"].items() if row["status"] != "passed"}
    assert set(bad) <= {"tflite-int8"}, json.dumps(bad)
