"""`exporter zoo`: the table, a card, JSON, and docs/zoo.md."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from exporter import zoo_table
from exporter.cli import app
from models import zoo
from models.errors import UserError
from models.zoo.card import load

ROOT = Path(__file__).parents[2]


def run(*words: str) -> str:
    result = CliRunner().invoke(app, ["zoo", *words], env={"COLUMNS": "80"})
    if result.exception is not None:
        raise result.exception
    return result.output


def test_the_table_has_a_line_for_each_and_fits_80_columns() -> None:
    title, *lines = run().splitlines()
    assert title.split()[:3] == ["name", "parameters", "multiply-adds"]
    assert sorted(line.split()[0] for line in lines) == list(zoo.names())
    assert all(len(line) <= 80 and "…" not in line for line in lines)
    cells = next(line.split() for line in lines if line.startswith("mobilenet_v2 "))
    assert cells == ["mobilenet_v2", "3.50", "M", "301", "M", "224", "72.15", "weights", "public"]
    cells = next(line.split() for line in lines if line.startswith("resnext152_32x4d "))
    assert cells[-3:] == ["78.88", "others", "none"]
    cells = next(line.split() for line in lines if line.startswith("inception_v2 "))
    assert cells[-3:] == ["74.80", "paper", "none"], "another paper's is a paper's"
    cells = next(line.split() for line in lines if line.startswith("lenet5_relu "))
    assert cells[-3:] == ["-", "-", "none"]


def test_a_card_has_its_options_and_its_differences() -> None:
    shown = " ".join(run("mobilenet_v2").split())
    card = load("mobilenet_v2")
    for text in (card.title, card.licence, card.int8, card.notes, card.weights):
        assert text in shown
    assert f"{card.parameters:,} parameters" in shown
    difference = card.published[0].difference
    assert difference is not None
    assert difference in shown
    for name, option in zoo.get("mobilenet_v2").options.items():
        assert f"{name}: {option.meaning}; {option.default} unless given" in shown
    assert "one of 8, 16, 32" in shown


def test_json_of_all_and_of_one(tmp_path: Path) -> None:
    file = tmp_path / "zoo.json"
    run("--json", str(file))
    every = json.loads(file.read_text(encoding="utf-8"))
    assert sorted(card["name"] for card in every) == list(zoo.names())
    run("lenet5", "--json", str(file))
    one = json.loads(file.read_text(encoding="utf-8"))
    assert one in every
    assert one["grayscale"] is True
    assert one["options"]["input_size"]["choices"] == [28, 32]
    assert one["published"][0]["top1"] == 99.05


def test_the_page_is_up_to_date(tmp_path: Path) -> None:
    file = tmp_path / "zoo.md"
    run("--markdown", str(file))
    assert file.read_bytes() == (ROOT / "docs" / "zoo.md").read_bytes(), (
        "write it again: exporter zoo --markdown docs/zoo.md"
    )


def test_the_page_has_every_card() -> None:
    text = zoo_table.markdown(zoo_table.cards())
    assert [text.count(f"\n### {name}: ") for name in zoo.names()] == [1] * len(zoo.names())
    families = {load(name).family for name in zoo.names()}
    assert all(text.count(f"\n## {family}\n") == 1 for family in families)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nonet"], "Unknown architecture"),
        (["lenet5", "--markdown", "x.md"], "--markdown"),
        (["--json", "no/such/folder/x.json"], "cannot be written"),
    ],
)
def test_mistakes(words: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        run(*words)


def test_rounded() -> None:
    values = (60_000, 417_120, 3_504_872, 999_950, 568_740_352, 15_470_264_320, 950)
    assert [zoo_table.rounded(value) for value in values] == [
        "60.0 K", "417 K", "3.50 M", "1.00 M", "569 M", "15.5 G", "950",
    ]  # fmt: skip


def test_it_answers_without_torch() -> None:
    code = (
        "import sys; sys.argv = ['exporter', 'zoo']\n"
        "from exporter.cli import app\n"
        "app(standalone_mode=False)\n"
        "heavy = {'torch', 'torchvision', 'onnx', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True)
