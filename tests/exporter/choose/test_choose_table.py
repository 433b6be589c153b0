"""choose.csv and the terminal's table."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import pytest
from rich.console import Console

from exporter.choose import csv_file, terminal, words
from exporter.choose.decide import decide
from exporter.choose.marks import marks
from exporter.choose.results import Comparison, Latency, Outcome
from support.comparisons import INT8, comparison, five, outcome, twelve, two


def rows(said: Comparison) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(csv_file.text(said), newline=""), strict=True))


def shown(said: Comparison, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    terminal.show(said, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


# choose.csv


def test_every_figure_comes_back_from_the_csv() -> None:
    said = outcome(
        "mobilenet_v2:width_mult=0.35",
        2.3,
        0.93,
        0.7,
        0.011,
        options={"width_mult": 0.35, "input_size": 224},
        gates_failed={INT8: 'a "quoted", reason\nof two lines'},
        latency={INT8: Latency(2.3000001, 2.7)},
        agreement={INT8: 0.97},
    )
    (row,) = rows(comparison(said))
    assert row["candidate"] == said.name
    assert row["options"] == "width_mult=0.35 input_size=224"
    assert float(row["latency_median_ms_tflite_int8"]) == 2.3000001
    assert float(row["latency_p90_ms_tflite_int8"]) == 2.7
    assert row["latency_median_ms_tflite_float32"] == ""
    assert float(row["accuracy_torch"]) == said.accuracy["torch"]
    assert float(row["accuracy_tflite_int8"]) == 0.93
    assert float(row["agreement_tflite_int8"]) == 0.97
    assert int(row["size_bytes_tflite_int8"]) == 700_000
    assert int(row["peak_memory_bytes_tflite_int8"]) == said.peak_memory[INT8]
    assert row["gate_failed_tflite_int8"] == said.gates_failed[INT8]
    assert (row["parameters"], row["multiply_adds"]) == ("700000", "230000000")
    assert (row["start"], row["weights"]) == ("published", said.weights)
    assert (row["epochs"], row["training_seconds"], row["test_images"]) == ("3", "61.0", "272")


def test_a_failed_candidate_has_a_row_without_figures() -> None:
    row = rows(five())[-1]
    assert {name: value for name, value in row.items() if value} == {
        "candidate": "vgg16",
        "architecture": "vgg16",
        "options": "input_size=224",
        "failure": "needs 11 GB of memory, 8 are free",
    }


def test_names_of_columns_do_not_depend_on_what_was_measured() -> None:
    """A script that reads one file reads the next."""
    header = csv_file.text(comparison()).splitlines()[0]
    assert header == csv_file.text(twelve()).splitlines()[0]
    assert len(set(header.split(","))) == len(header.split(","))
    more = replace(outcome("a"), sizes={"tflite-mixed": 5})
    added = csv_file.text(comparison(more)).splitlines()[0]
    assert "size_bytes_tflite_mixed" in added


def test_lines_end_as_rfc_4180_says() -> None:
    text = csv_file.text(two())
    assert text.count("\r\n") == text.count("\n") == 3


# the terminal


@pytest.mark.parametrize("width", [80, 100, 120])
@pytest.mark.parametrize("said", [two(), five(), twelve()], ids=["two", "five", "twelve"])
def test_the_table_fits(said: Comparison, width: int) -> None:
    text = shown(said, width)
    assert max(map(len, text.splitlines())) <= width
    table = text.split("\n\n")[0]
    for each in said.outcomes:
        assert each.name.split(":input")[0] in table
        if not each.failure:
            assert f"{100 * each.accuracy[INT8]:.1f} ±" in table
    assert "…" not in table


def test_more_columns_where_there_is_room() -> None:
    heads = [shown(five(), width).split("►")[0] for width in (80, 100, 120)]
    assert ["params" in head for head in heads] == [False, True, True]
    assert all("start" in head for head in heads)


def line(said: Comparison, name: str) -> list[str]:
    return next(row for row in shown(said, 120).splitlines() if f" {name} " in row).split()


def test_marks_say_without_colour_what_is_to_be_taken() -> None:
    said = twelve()
    found = {each.name: marks(decide(said), each) for each in said.outcomes}
    assert found["mobilenet_v2"] == "►●≈"
    assert found["mobilenet_v3_large"] == "≈"
    assert found["mobilenet_v3_small"] == ""
    assert found["resnet18"] == "●×"
    assert found["vgg16"] == "×"
    assert "".join(found.values()).count("►") == 1
    assert line(said, "mobilenet_v2")[0] == "►●≈"
    assert marks(decide(five()), five().outcomes[-1]) == ""


def test_cells_are_the_figures() -> None:
    assert line(five(), "lenet5") == [
        "●", "lenet5", "scratch", "90.0", "k", "21.0", "M", "0.09", "0.63", "0.21", "40",
        "41.0", "41.0", "±3.0", "1.0",
    ]  # fmt: skip
    assert line(five(), "vgg16")[:2] == ["vgg16", "failed"]
    assert "!95.1" in line(twelve(), "efficientnet_b0")


def test_only_signs_that_occur_are_explained() -> None:
    assert "over the budget" in shown(five(), 100).split("\n\n")[0]
    assert "over the budget" not in shown(two(), 100)
    assert "failed its parity gate" in shown(twelve(), 100)


def test_names_are_parted_where_an_option_begins() -> None:
    name = "mobilenet_v2:width_mult=0.35:input_size=160:output_stride=16"
    parted = words.broken(name)
    assert parted.splitlines() == [
        "mobilenet_v2:width_mult=0.35:", "  input_size=160:", "  output_stride=16"
    ]  # fmt: skip
    assert parted.replace("\n  ", "") == name
    assert words.broken("resnet18") == "resnet18"


def test_nothing_to_show_is_no_error() -> None:
    assert "nothing to choose from" in shown(comparison(), 80)
    assert "nothing to take" in shown(comparison(Outcome("a", "a", {}, failure="no")), 80)
