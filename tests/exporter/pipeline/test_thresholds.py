"""--threshold and --class-thresholds: which wins, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from exporter.pipeline.intake import override
from exporter.pipeline.request import ExportRequest
from models.contract import Contract, Label
from models.errors import UserError

LABELS = (Label("adder"), Label("slow worm"))
PLAIN = Contract(LABELS, activation="sigmoid")
OWN = Contract(LABELS, activation="sigmoid", thresholds=(0.2, 0.8))
ONE = Contract(LABELS)


def settled(contract: Contract, threshold: float | None = None, by_class: Any = None) -> Contract:
    request = ExportRequest(
        Path("m"), Path("d"), threshold=threshold, class_thresholds=by_class and str(by_class)
    )
    return override(contract, request)


def written(folder: Path, content: Any) -> Path:
    path = folder / "thresholds.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return path


def test_one_for_all_where_no_class_has_its_own() -> None:
    assert settled(ONE, 0.3).not_sure_threshold == 0.3
    assert settled(PLAIN, 0.3).class_thresholds == (0.3, 0.3)
    assert settled(PLAIN, 0.3).thresholds is None
    assert settled(OWN) == OWN


def test_one_for_all_does_not_silently_replace_those_by_class() -> None:
    with pytest.raises(UserError, match="contradicts") as caught:
        settled(OWN, 0.3)
    assert "--class-thresholds off" in str(caught.value)
    replaced = settled(OWN, 0.3, "off")
    assert (replaced.thresholds, replaced.class_thresholds) == (None, (0.3, 0.3))
    assert settled(OWN, None, "off").class_thresholds == (0.5, 0.5)


def test_a_file_goes_before_the_models_own(tmp_path: Path) -> None:
    both = written(tmp_path, {"slow worm": 0.4, "adder": 0.1})
    assert settled(OWN, None, both).thresholds == (0.1, 0.4)
    some = written(tmp_path, {"slow worm": 0.4})
    assert settled(OWN, None, some).thresholds == (0.2, 0.4)
    assert settled(PLAIN, None, some).thresholds == (0.5, 0.4)
    with pytest.raises(UserError, match="contradicts"):
        settled(PLAIN, 0.3, some)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not JSON"),
        ([0.5, 0.5], "holds no thresholds"),
        ({}, "holds no thresholds"),
        ({"viper": 0.5}, "viper"),
        ({"adder": 1.5}, "'adder' in output.thresholds is 1.5"),
        ({"adder": "high"}, "'high'"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, content: Any, words: str) -> None:
    with pytest.raises(UserError) as caught:
        settled(PLAIN, None, written(tmp_path, content))
    assert words in str(caught.value)
    assert caught.value.mend


def test_one_answer_has_no_thresholds_by_class(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="softmax"):
        settled(ONE, None, written(tmp_path, {"adder": 0.5}))
    with pytest.raises(UserError, match="cannot be read"):
        settled(PLAIN, None, tmp_path / "absent.json")
