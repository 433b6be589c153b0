"""The order of the stages, what is done again and what is not, with the long ones replaced.

Training and exporting are a few lines here that leave the files they would leave; all the
rest is the real thing. `test_choose_whole` runs all of it.
"""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from exporter.choose import candidate, exporting, learning, measuring, run, stored
from exporter.choose.candidates import parse
from exporter.choose.exporting import Exported
from exporter.choose.learning import Learned
from exporter.choose.measuring import FileToMeasure, MeasuringError
from exporter.choose.request import LEDGER, ChooseRequest
from exporter.choose.results import Budget, Comparison, Latency
from exporter.choose.run import ChooseInterruptedError, choose, run_and_show
from models.errors import UserError
from models.finetune import TrainingInterruptedError
from models.zoo import count
from support import nets

pytest.importorskip("torch", reason="parameters are counted with torch")

ONE, OTHER = "mobilenet_v2:width_mult=0.1:input_size=32", "mobilenet_v2:width_mult=0.2"
FORMATS = ("onnx", "tflite-int8")


@dataclass
class Work:
    """What was really done, and where it is to stop."""

    done: list[str] = field(default_factory=list)
    stop: dict[str, Callable[[], None]] = field(default_factory=dict)

    def say(self, what: str) -> None:
        if what in self.stop:
            self.stop.pop(what)()
        self.done.append(what)

    def taken(self) -> list[str]:
        """What was done since the last time."""
        found, self.done = self.done, []
        return found


def interrupt() -> None:
    raise KeyboardInterrupt


def fail() -> None:
    raise UserError("It diverged.", "the rate is too high", "")


def crash() -> None:
    raise ZeroDivisionError("a defect")


COUNTED = count.counted


@functools.cache
def _counted(architecture: str, classes: int, options: Any) -> Any:
    """The real figures, each counted once for all tests."""
    return COUNTED(architecture, classes, dict(options))


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Iterator[Work]:
    found = Work()

    def learn(what: Any, origin: Any, photographs: Any, folder: Path, *more: Any) -> Learned:
        found.say(f"learn {what.slug}")
        (folder / "checkpoint").write_text(f"{what.name} {more[1]} epochs")
        return Learned(folder / "checkpoint", 2.5)

    def export(checkpoint: Path, folder: Path, images: Any, formats: Any, *more: Any) -> Exported:
        found.say(f"export {folder.name}")
        (folder / "dist").mkdir()
        for key in formats:
            path = FileToMeasure("", folder / "dist", key).path
            path.write_bytes(checkpoint.read_bytes() + key.encode())
        return Exported(
            "dist", dict.fromkeys(formats, 100), {"torch": 0.9, "tflite-int8": 0.8},
            {"tflite-int8": 0.95}, {}, 4,
        )  # fmt: skip

    def latencies(files: Any, *more: Any) -> list[Latency]:
        found.say("time " + " ".join(file.key for file in files))
        return [Latency(1.0 + place, 2.0 + place) for place in range(len(files))]

    def memory(path: Path | None, threads: int) -> int:
        found.say(f"weigh {'nothing' if path is None else path.parent.parent.name}")
        return 1000 if path is None else 1700

    def counted(architecture: str, classes: int, options: Any) -> Any:
        return _counted(architecture, classes, tuple(options.items()))

    monkeypatch.setattr(count, "counted", counted)
    monkeypatch.setattr(learning, "learn", learn)
    monkeypatch.setattr(exporting, "export", export)
    monkeypatch.setattr(measuring, "latencies", latencies)
    monkeypatch.setattr(measuring, "memory", memory)
    monkeypatch.setattr("models.training.start.published_state", lambda entry: {})
    yield found


@pytest.fixture
def request_(tmp_path: Path) -> ChooseRequest:
    for place, name in enumerate("ab"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index, picture in enumerate(nets.images(10, 24, place)):
            Image.fromarray(picture).save(tmp_path / "photos" / name / f"{index}.png")
    return ChooseRequest(
        tmp_path / "out", parse(f"{ONE},{OTHER}"), data=tmp_path / "photos", formats=FORMATS,
        budget=Budget(20.0, 5.0),
    )  # fmt: skip


def made(request: ChooseRequest) -> Comparison:
    return choose(request, Console(file=io.StringIO()))


FIRST = "mobilenet_v2-width_mult-0.1-input_size-32"
SECOND = "mobilenet_v2-width_mult-0.2"
ALL = [
    "weigh nothing",
    f"learn {FIRST}", f"export {FIRST}", f"weigh {FIRST}",
    f"learn {SECOND}", f"export {SECOND}", f"weigh {SECOND}",
    "time onnx tflite-int8 onnx tflite-int8",
]  # fmt: skip


def test_candidates_go_one_at_a_time_and_are_timed_together(
    work: Work, request_: ChooseRequest
) -> None:
    found = made(request_)
    assert work.taken() == ALL
    one, other = found.outcomes
    assert (one.name, other.name) == (ONE, OTHER)
    assert one.latency == {"onnx": Latency(1.0, 2.0), "tflite-int8": Latency(2.0, 3.0)}
    assert other.latency == {"onnx": Latency(3.0, 4.0), "tflite-int8": Latency(4.0, 5.0)}
    assert one.peak_memory == {"tflite-int8": 700}
    assert one.accuracy == {"torch": 0.9, "tflite-int8": 0.8}
    assert one.agreement == {"tflite-int8": 0.95}
    assert (one.training_seconds, one.test_images, one.epochs) == (2.5, 4, 8)
    assert 0 < one.parameters < other.parameters
    assert 0 < one.multiply_adds < other.multiply_adds
    assert (one.start, one.why_scratch) == ("scratch", "none are published")
    assert found.budget == Budget(20.0, 5.0)
    assert found.test_images == 4
    assert found.data == "photos: 2 classes, 14 training, 2 validation and 4 test images"
    assert any("set aside to judge" in note for note in found.notes)
    assert any("8 passes" in note for note in found.notes)
    assert found.machine.endswith(", 1 thread")
    assert stored.load(request_.out / stored.FILE) == found


def test_what_is_finished_is_not_done_again(work: Work, request_: ChooseRequest) -> None:
    first = made(request_)
    work.taken()
    assert made(request_) == first
    assert work.taken() == ["weigh nothing"]


@pytest.mark.parametrize("place", range(1, len(ALL)))
def test_it_goes_on_where_it_was_stopped(
    place: int, work: Work, request_: ChooseRequest, tmp_path: Path
) -> None:
    """In front of every stage, so between candidates and within one."""
    work.stop[ALL[place]] = interrupt
    with pytest.raises(ChooseInterruptedError) as error:
        made(request_)
    assert error.value.exit_code == 130
    assert "same command" in error.value.mend
    assert work.taken() == ALL[:place]
    assert not (request_.out / stored.FILE).exists()
    resumed = made(request_)
    assert work.taken() == ["weigh nothing", *ALL[place:]]
    assert [each.failure for each in resumed.outcomes] == ["", ""]
    assert resumed == made(replace(request_, out=tmp_path / "in one go"))


def test_a_training_that_was_interrupted_is_no_failed_candidate(
    work: Work, request_: ChooseRequest
) -> None:
    def stopped() -> None:
        raise TrainingInterruptedError("The training was interrupted.")

    work.stop[ALL[1]] = stopped  # so Lightning answers to Ctrl-C
    with pytest.raises(ChooseInterruptedError):
        made(request_)
    assert work.taken() == ALL[:1]


def test_a_changed_request_does_again_what_changed(work: Work, request_: ChooseRequest) -> None:
    made(request_)
    work.taken()
    more = replace(request_, candidates=parse(f"{OTHER},{ONE},mobilenet_v2:width_mult=0.3"))
    found = made(more)
    third = "mobilenet_v2-width_mult-0.3"
    assert [one for one in work.taken() if not one.startswith(("weigh n", "time"))] == [
        f"learn {third}", f"export {third}", f"weigh {third}",
    ]  # fmt: skip
    assert [each.name for each in found.outcomes][:2] == [OTHER, ONE]
    made(replace(more, budget=Budget(1.0, None)))
    assert work.taken() == ["weigh nothing"]
    made(replace(more, formats=("onnx",)))
    assert sum(one.startswith("learn") for one in work.done) == 0
    assert sum(one.startswith("export") for one in work.taken()) == 3
    made(replace(more, epochs=2))
    assert sum(one.startswith("learn") for one in work.done) == 3
    assert sum(one.startswith("export") for one in work.taken()) == 3


def test_another_image_trains_anew(work: Work, request_: ChooseRequest) -> None:
    made(request_)
    work.taken()
    assert request_.data is not None
    Image.fromarray(nets.image(99, 24)).save(request_.data / "a" / "more.png")
    made(request_)
    assert work.taken() == ALL[:-1]  # the files came out the same, so their times hold


def test_a_file_that_was_lost_is_made_again(work: Work, request_: ChooseRequest) -> None:
    made(request_)
    work.taken()
    (request_.out / "candidates" / FIRST / "checkpoint").unlink()
    made(request_)
    assert f"learn {FIRST}" in work.taken()


@pytest.mark.parametrize(
    ("stop", "said"),
    [(fail, "It diverged. the rate is too high"), (crash, "ZeroDivisionError: a defect")],
)
@pytest.mark.parametrize("stage", ["learn", "export"])
def test_one_that_fails_does_not_stop_the_others(
    stop: Callable[[], None], said: str, stage: str, work: Work, request_: ChooseRequest
) -> None:
    work.stop[f"{stage} {FIRST}"] = stop
    found = made(request_)
    assert said in found.outcomes[0].failure
    assert found.outcomes[0].accuracy == {}
    assert found.outcomes[0].parameters > 0
    assert found.outcomes[1].failure == ""
    assert work.taken()[-1] == "time onnx tflite-int8"
    assert (request_.out / "candidates" / FIRST / "error.txt").exists() == (stop is crash)
    assert made(request_).outcomes[0].failure == ""  # tried again: the disk has room now, say
    again = work.taken()
    assert f"{stage} {FIRST}" in again
    assert not any(SECOND in one for one in again)


def test_nothing_left_is_exit_code_1(work: Work, request_: ChooseRequest) -> None:
    console = Console(file=io.StringIO(), width=200)
    for slug in (FIRST, SECOND):
        work.stop[f"learn {slug}"] = fail
    assert run_and_show(request_, console) == 1
    assert run_and_show(request_, console) == 0


def test_times_that_cannot_be_had_are_an_error_and_the_rest_is_kept(
    work: Work, request_: ChooseRequest
) -> None:
    def fail_to_measure() -> None:
        raise MeasuringError("The process ended early.")

    work.stop[ALL[-1]] = fail_to_measure
    with pytest.raises(MeasuringError):
        made(request_)
    work.taken()
    made(request_)
    assert work.taken() == ["weigh nothing", ALL[-1]]


def test_what_is_wrong_is_found_before_any_work(work: Work, request_: ChooseRequest) -> None:
    assert request_.data is not None
    (request_.data / "b" / "broken.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"broken\.png"):
        made(request_)
    assert work.taken() == []
    with pytest.raises(UserError, match="weights-dir"):
        made(replace(request_, weights_dir=request_.data))
    assert work.taken() == []


def test_force_begins_anew(work: Work, request_: ChooseRequest) -> None:
    request_.out.mkdir()
    (request_.out / "letter.txt").write_text("in the way")
    with pytest.raises(UserError, match="in the way"):
        made(request_)
    made(replace(request_, force=True))
    assert not (request_.out / "letter.txt").exists()
    work.taken()
    made(replace(request_, force=True))
    assert work.taken() == ALL


def test_the_end_says_what_was_written_and_what_is_next(
    work: Work, request_: ChooseRequest
) -> None:
    console = Console(file=io.StringIO(), width=300)
    assert run_and_show(request_, console) == 0
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert f"1 of 2: {ONE}" in text
    assert f"Wrote {request_.out / 'choose.html'}" in text
    assert (
        f"Next: exporter train --data {request_.data} --arch mobilenet_v2 --option width_mult=0.1 "
        f"--option input_size=32 --out runs/{FIRST}" in text
    )
    assert {"choose.html", "choose.csv", "choose.json", LEDGER} <= {
        path.name for path in request_.out.iterdir()
    }
    assert json.loads((request_.out / "choose.json").read_text())["test_images"] == 4


def test_the_line_for_the_full_training_names_the_weights(request_: ChooseRequest) -> None:
    weights = request_.out.parent / "weights"
    weights.mkdir()
    (weights / "w.pth").touch()
    line = run._training_line(replace(request_, weights_dir=weights, test=Path("t")), ONE, "w.pth")
    assert f"--weights {weights / 'w.pth'}" in line
    assert "--test t" in line
    assert "--weights imagenet" in run._training_line(request_, ONE, "w.pth")
    drawn = run._training_line(replace(request_, data=None), ONE, "")
    assert f"--data {request_.out / 'data' / 'train'}" in drawn
    assert "--weights" not in drawn
    spaced = run._training_line(replace(request_, data=Path("my photos")), ONE, "")
    assert "--data 'my photos' --arch" in spaced  # a shell takes it as it is printed


def test_a_failed_gate_is_a_finding(
    work: Work, request_: ChooseRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = exporting.export

    def export(checkpoint: Path, folder: Path, *more: Any) -> Exported:
        found = whole(checkpoint, folder, *more)
        (folder / "dist").rename(folder / "dist.failed")
        return replace(found, folder="dist.failed", gates_failed={"tflite-int8": "agreement"})

    monkeypatch.setattr(exporting, "export", export)
    found = made(request_)
    assert found.outcomes[0].gates_failed == {"tflite-int8": "agreement"}
    assert found.outcomes[0].latency["tflite-int8"].median == 2.0
    assert found.outcomes[0].failure == ""
    assert candidate.STEPS == 3
