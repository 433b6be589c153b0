"""The parts of an evaluation, with runtimes that say what they are told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from exporter.bundle import Format
from exporter.evaluate import files, matrix, measuring, photographs, pictures, running, terminal
from exporter.evaluate.photographs import Photograph, Photographs
from exporter.evaluate.subject import Entry
from models import calibration, metrics, safety
from models.contract import Contract, Label, Preprocessing
from models.data.labelled import DataError, Item, LabelledSet
from models.errors import UserError
from support.evaluating import SaidRuntime

CONTRACT = Contract(
    (Label("adder", None, "yes"), Label("grass snake", None, "no"), Label("boa")),
    Preprocessing(8, 8, 8),
    name="three",
)
MANY = replace(CONTRACT, activation="sigmoid")
ROWS = [[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.2, 0.6, 0.2], [0.1, 0.2, 0.7]]


def some(folder: Path, classes: list[tuple[int, ...]], many: bool = False) -> Photographs:
    found = []
    for index, each in enumerate(classes):
        path = folder / f"{index}.png"
        Image.new("RGB", (8, 8), (index, 0, 0)).save(path)
        found.append(Photograph(path, path.name, each, str(index)))
    return Photographs("here", tuple(found), len(found), (), many)


def entries(*runtimes: str) -> list[Entry]:
    return [Entry(Format(name, name, "float32", name, None, ""), Path(name)) for name in runtimes]


def measured(
    given: Photographs, contract: Contract, most: float | None = None, **runtimes: SaidRuntime
) -> tuple[Any, Any]:
    answered, whole, broken = running.run(
        entries(*runtimes), given.each, contract, get_runtime=lambda name: runtimes[name]
    )
    return measuring.evaluate("model", contract, given, answered, whole, broken, most, ["said"])


def test_four_images_by_hand(tmp_path: Path) -> None:
    given = some(tmp_path, [(0,), (1,), (0,), (2,)])
    found, _ = measured(given, CONTRACT, 0.0, first=SaidRuntime(ROWS))
    shown = found.shown
    assert shown.scores.accuracy == 0.75
    assert (shown.safety.called_harmless.count, shown.safety.called_harmless.of) == (1, 2)
    assert shown.chosen.threshold == pytest.approx(0.6001)
    assert "keeps it already" not in _printed(terminal.table(found))
    cautious = replace(CONTRACT, not_sure_threshold=0.7)
    found, _ = measured(given, cautious, 0.0, first=SaidRuntime(ROWS))
    assert "own threshold 0.7 keeps it already" in _printed(terminal.table(found))
    assert [(each.truth, each.answer, each.count) for each in found.confusions] == [
        (0, 0, 1), (0, 1, 1), (1, 1, 1), (2, 2, 1),
    ]  # fmt: skip


def test_several_labels_an_image(tmp_path: Path) -> None:
    given = some(tmp_path, [(0, 1), (1,), (), (2,)], many=True)
    rows = [[0.9, 0.7, 0.1], [0.2, 0.8, 0.1], [0.3, 0.2, 0.2], [0.1, 0.2, 0.6]]
    found, answers = measured(given, MANY, first=SaidRuntime(rows))
    shown = found.shown
    assert found.thresholds == (0.5, 0.5, 0.5)
    assert shown.scores.accuracy == 1.0
    assert shown.scores.mean_average_precision == 1.0
    assert (shown.safety.called_harmless.count, shown.safety.called_harmless.of) == (0, 1)
    assert shown.safety.not_sure_of_all.count == 1  # the image without any class
    high = replace(MANY, not_sure_threshold=0.85)  # one number for all classes
    given = some(tmp_path, [(0, 1), (1,), (), (2,)], many=True)
    stricter, _ = measured(given, high, first=SaidRuntime(rows))
    assert stricter.shown.safety.not_sure_of_all.count == 3
    assert found.confusions == ()
    files.write(found, answers, MANY, tmp_path / "out")
    table = (tmp_path / "out" / files.PER_CLASS).read_text(encoding="utf-8").splitlines()
    assert table[0] == ",precision,recall,f1-score,support,average-precision,threshold"
    assert table[1] == "adder,1.0,1.0,1.0,1,1.0,0.5"
    assert [line.split(",")[0] for line in table[4:]] == [
        "micro avg", "macro avg", "weighted avg", "samples avg",
    ]  # fmt: skip
    said = (tmp_path / "out" / files.ANSWERS).read_text(encoding="utf-8").splitlines()
    assert said[1] == "0.png,adder|grass snake,adder|grass snake,0.9"
    assert said[3] == "2.png,,,0.3"
    assert not (tmp_path / "out" / files.CONFUSION).exists()


def test_a_file_that_gives_nan_or_too_few_numbers_is_failed(tmp_path: Path) -> None:
    given = some(tmp_path, [(0,), (1,), (0,), (2,)])
    bad = [*ROWS[:2], [np.nan, 0.5, 0.5], ROWS[3]]
    found, _ = measured(
        given, CONTRACT, first=SaidRuntime(ROWS), nan=SaidRuntime(bad), short=SaidRuntime([[1.0]])
    )
    assert [each.status for each in found.files] == ["passed", "failed", "failed"]
    assert "NaN or infinity for 2.png" in found.files[1].reason
    assert "(1,) values for 3 labels" in found.files[2].reason
    with pytest.raises(UserError, match="nan cannot be evaluated"):
        measured(given, CONTRACT, nan=SaidRuntime(bad))


def test_a_file_that_saw_some_images_is_held_against_the_same(tmp_path: Path) -> None:
    given = some(tmp_path, [(0,), (1,), (0,), (2,)])
    slow = SaidRuntime([ROWS[0], ROWS[2]], "evaluated")
    runtimes: dict[str, Any] = {"first": SaidRuntime(ROWS), "slow": slow}
    answered, whole, broken = running.run(
        entries("first", "slow"),
        given.each,
        CONTRACT,
        evaluated=2,
        get_runtime=runtimes.__getitem__,
    )
    found, answers = measuring.evaluate("model", CONTRACT, given, answered, whole, broken, None, [])
    assert [each.images for each in found.files] == [4, 2]
    assert found.files[1].reference_accuracy == 0.5  # of images 0 and 2
    assert files.answers_csv(found, answers).splitlines()[2] == (
        "1.png,grass snake,grass snake,0.8,,"
    )
    text = _printed(terminal.table(found))
    assert "evaluated" in text
    assert "50.0 +0.0" in text


def test_the_table_of_a_bundle_fits_80_columns(tmp_path: Path) -> None:
    given = some(tmp_path, [(0,), (1,), (0,), (2,)])
    found, _ = measured(given, CONTRACT, first=SaidRuntime(ROWS), second=SaidRuntime(ROWS))
    long = replace(found.files[1], key="tflite-int8-weights", evidence="evaluated", images=12345,
                   reference_accuracy=1.0, safety=safety.count(
                       safety.verdicts(ROWS, [0, 0, 0, 0], ["yes", "no", "no"]), 0.0))  # fmt: skip
    text = _printed(terminal.table(replace(found, files=(found.files[0], long))))
    table = text.split("lowest F1")[0]
    assert "…" not in table
    assert max(map(len, table.splitlines())) <= 80
    (row,) = [line for line in table.splitlines() if "int8-weights" in line]
    assert "75.0 -25.0" in row
    assert row.split()[-2:] == ["75.0", "0.0"]  # missed, not sure


def test_no_session_can_change_the_pixels_of_another(tmp_path: Path) -> None:
    class Writes(SaidRuntime):
        def open(self, path: Path, contract: Contract, threads: int = 1) -> Any:
            session = super().open(path, contract, threads)

            def spoil(pixels: Any) -> Any:
                pixels[:] = 0
                return ROWS[0]

            session.probabilities = spoil  # type: ignore[method-assign]
            return session

    given = some(tmp_path, [(0,)])
    with pytest.raises(ValueError, match="read-only"):
        measured(given, CONTRACT, first=Writes(ROWS))


def of(items: list[tuple[int, ...]], classes: tuple[str, ...], many: bool = False) -> LabelledSet:
    return LabelledSet(
        Path("set.csv"),
        classes,
        tuple(Item(Path("set.csv") / f"{i}.png", each, str(i)) for i, each in enumerate(items)),
        multi_label=many,
    )


def test_classes_are_matched_by_name_or_by_index() -> None:
    found = photographs.prepare(of([(0,), (1,)], ("grass snake", "2")), CONTRACT)
    assert [each.classes for each in found.each] == [(1,), (2,)]
    assert found.absent == ("adder",)
    assert found.each[0].name == "set.csv/0.png"


def test_strangers_and_several_classes_are_refused() -> None:
    with pytest.raises(DataError, match="2 classes that the model does not know: cobra, 3"):
        photographs.prepare(of([(0,), (1,)], ("cobra", "3")), CONTRACT)
    with pytest.raises(DataError, match="several classes, or none: 1"):
        photographs.prepare(of([(0,), (0, 1)], ("adder", "boa"), True), CONTRACT)
    found = photographs.prepare(of([(0,), (0, 1), ()], ("adder", "boa"), True), MANY)
    truth = photographs.truth_of(found.each, 3, found.many)
    assert truth.tolist() == [[1, 0, 0], [1, 0, 1], [0, 0, 0]]


def made_up(classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(classes), 8)
    logits = rng.normal(0, 1, (len(truth), classes))
    logits[np.arange(len(truth)), truth] += 2
    return calibration.activate(logits, "softmax"), truth


@pytest.mark.parametrize("classes", [2, 8, 85, 200])
def test_pictures_are_drawn_for_few_and_many_classes(tmp_path: Path, classes: int) -> None:
    table, truth = made_up(classes)
    counted = metrics.confusion_matrix(truth, table.argmax(axis=1), classes)
    names = [f"a species with a rather long $name$ {index}" for index in range(classes)]
    pictures.confusion(counted, names, tmp_path / "c.png")
    with Image.open(tmp_path / "c.png") as picture:
        assert 600 < picture.width < 3000
        seen = np.asarray(picture.convert("RGB")).reshape(-1, 3).astype(int)
    blue = (seen[:, 2] - seen[:, 0] > 60).mean()
    red = (seen[:, 0] - seen[:, 2] > 25).mean()
    assert blue > 0.001
    assert red > 0.001


def test_classes_that_occur_nowhere_are_not_drawn(tmp_path: Path) -> None:
    counted = np.zeros((100, 100), dtype=int)
    counted[3, 3], counted[3, 7] = 5, 2
    pictures.confusion(counted, [str(i) for i in range(100)], tmp_path / "sparse.png")
    pictures.confusion(counted[[3, 7]][:, [3, 7]], ["3", "7"], tmp_path / "dense.png")
    assert (tmp_path / "sparse.png").read_bytes() == (tmp_path / "dense.png").read_bytes()


def test_the_larger_a_rows_share_the_deeper_its_colour() -> None:
    colours = matrix._colours(np.array([[90, 10, 0], [40, 60, 0], [0, 0, 0]]))
    assert colours[0, 0, 0] < colours[1, 1, 0] < 1  # blue: less red, the more is right
    assert colours[1, 0, 2] < colours[0, 1, 2] < 1  # red: less blue, the more is wrong
    assert np.all(colours[0, 2] == 1)
    assert np.all(colours[2] < 1)  # a class without an image is grey


def test_rates_without_a_harmful_answer_are_drawn(tmp_path: Path) -> None:
    found = safety.verdicts(ROWS, [0, 0, 0, 0], ["yes", "yes", "yes"])
    pictures.safety(safety.sweep(found), 4, 0.5, tmp_path / "s.png", 0.0, 0.0)
    pictures.calibration(
        calibration.reliability(ROWS, [0, 1, 0, 2]), 0.1, (), None, 1.0, tmp_path / "r.png"
    )
    assert (tmp_path / "s.png").stat().st_size > 5000


def test_names_keep_both_ends_when_they_are_shortened() -> None:
    assert matrix.shortened("Crotalus adamanteus adamanteus", 15) == "Crotalu…manteus"
    assert matrix.shortened("adder", 15) == "adder"


def test_a_failing_write_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = some(tmp_path, [(0,), (1,), (0,), (2,)])
    found, answers = measured(given, CONTRACT, first=SaidRuntime(ROWS))
    files.write(found, answers, CONTRACT, tmp_path / "out")
    before = (tmp_path / "out" / files.JSON).read_bytes()

    def full(*_: Any) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "_draw", lambda *_: None)
    monkeypatch.setattr(files, "answers_csv", full)
    with pytest.raises(UserError, match="No space left") as caught:
        files.write(replace(found, model="other"), answers, CONTRACT, tmp_path / "out")
    assert caught.value.exit_code == 2
    assert (tmp_path / "out" / files.JSON).read_bytes() == before
    assert not list(tmp_path.glob(".out.partial*"))


def _printed(what: Any) -> str:
    from rich.console import Console

    console = Console(width=80)
    with console.capture() as caught:
        console.print(what)
    return caught.get()
