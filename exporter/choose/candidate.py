"""One candidate from weights to finished files: each stage only where it is not done yet."""

from __future__ import annotations

import shutil
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path

from exporter.choose import exporting, learning, measuring
from exporter.choose.board import Board
from exporter.choose.candidates import Candidate
from exporter.choose.exporting import Exported
from exporter.choose.measuring import FileToMeasure
from exporter.choose.photographs import Photographs
from exporter.choose.request import ChooseRequest
from exporter.choose.results import Latency, Outcome
from exporter.choose.starts import Origin
from exporter.choose.state import CANDIDATES, STATE, Stages
from models.errors import UserError
from models.finetune import TrainingInterruptedError

CACHE = "cache"
STEPS = 3  # of one candidate: learning, exporting, weighing


@dataclass(frozen=True)
class Setting:
    """What all candidates share.

    Attributes:
        formats: keys of the formats that are made.
        images: folders of the training and of the test images, for the exports.
        machine_memory: bytes that the measuring process holds without a file.
    """

    request: ChooseRequest
    formats: tuple[str, ...]
    photographs: Photographs
    images: tuple[Path, Path]
    machine_memory: int


@dataclass(frozen=True)
class Finished:
    """A candidate whose stages are done, or what stopped it.

    Attributes:
        seconds: of features and training.
        memory: peak bytes above those of an empty process, by format key.
        failure: why there is nothing of all that; '' where there is.
    """

    candidate: Candidate
    origin: Origin
    folder: Path
    seconds: float = 0.0
    exported: Exported = field(default_factory=lambda: Exported(""))
    memory: dict[str, int] = field(default_factory=dict)
    failure: str = ""

    def files(self) -> list[FileToMeasure]:
        """The files to time."""
        bundle = self.folder / self.exported.folder
        keys = [key for key in self.exported.sizes if measuring.timed(key)]
        return [FileToMeasure(self.candidate.name, bundle, key) for key in keys]

    def outcome(self, setting: Setting, latency: dict[str, Latency]) -> Outcome:
        """All that is known of it."""
        from models.zoo.count import counted

        candidate, origin, exported = self.candidate, self.origin, self.exported
        size = counted(
            candidate.architecture, len(setting.photographs.train.classes), candidate.options
        )
        return Outcome(
            name=candidate.name,
            architecture=candidate.architecture,
            options=dict(candidate.options),
            start=origin.start,
            weights=origin.name,
            epochs=setting.request.epochs,
            training_seconds=round(self.seconds, 2),
            parameters=size.parameters,
            multiply_adds=size.multiply_adds,
            sizes=dict(exported.sizes),
            latency=latency,
            peak_memory=self.memory,
            accuracy=dict(exported.accuracy),
            test_images=exported.images,
            gates_failed=dict(exported.gates_failed),
            failure=self.failure,
            agreement=dict(exported.agreement),
            why_scratch=origin.why_scratch,
        )


def finish(setting: Setting, candidate: Candidate, origin: Origin, board: Board) -> Finished:
    """Train, export and weigh a candidate; what is done already is taken from disk.

    What stops one candidate is told in the result and does not stop the others.

    Raises:
        TrainingInterruptedError: Ctrl-C during the training.
    """
    folder = setting.request.out / CANDIDATES / candidate.slug
    try:
        return _stages(setting, candidate, origin, folder, board)
    except TrainingInterruptedError:
        raise
    except UserError as error:
        why = " ".join(part for part in (error.what, error.why) if part)
    except Exception as error:  # noqa: BLE001 - a defect, told as one; hours of work go on
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "error.txt").write_text(traceback.format_exc(), encoding="utf-8")
        why = f"an error of the program ({type(error).__name__}: {error}); see error.txt"
    board.note(f"left out: {why}")
    return Finished(candidate, origin, folder, failure=why)


def _stages(
    setting: Setting, candidate: Candidate, origin: Origin, folder: Path, board: Board
) -> Finished:
    request, photographs = setting.request, setting.photographs
    done = Stages(folder / STATE)
    key = learning.key_of(candidate, origin, photographs, request.epochs, request.seed)
    if done.result("begun", key) is None:
        shutil.rmtree(folder, ignore_errors=True)
        done.keep("begun", key, {})
    learned = _learned(setting, candidate, origin, folder, done, key, board)
    board.passed()
    exported = _exported(setting, learned.checkpoint, folder, done, board)
    board.passed()
    finished = Finished(candidate, origin, folder, learned.seconds, exported)
    memory = _weighed(setting, finished, done, board)
    board.passed()
    return Finished(candidate, origin, folder, learned.seconds, exported, memory)


def _learned(
    setting: Setting,
    candidate: Candidate,
    origin: Origin,
    folder: Path,
    done: Stages,
    key: str,
    board: Board,
) -> learning.Learned:
    known = done.result("learn", key)
    if known is not None and (folder / known["checkpoint"]).is_file():
        board.note("trained already")
        return learning.Learned(folder / known["checkpoint"], known["seconds"])
    request = setting.request
    learned = learning.learn(
        candidate, origin, setting.photographs, folder, request.out / CACHE / "features",
        request.epochs, request.seed, board,
    )  # fmt: skip
    name = learned.checkpoint.relative_to(folder).as_posix()
    done.keep("learn", key, {"checkpoint": name, "seconds": learned.seconds})
    return learned


def _exported(
    setting: Setting, checkpoint: Path, folder: Path, done: Stages, board: Board
) -> Exported:
    threads = setting.request.threads
    key = exporting.key_of(checkpoint, setting.photographs, setting.formats, threads)
    known = done.result("export", key)
    if known is not None and (folder / known["folder"]).is_dir():
        board.note("exported already")
        return Exported(**known)
    for name in (exporting.DIST, f"{exporting.DIST}.failed"):
        shutil.rmtree(folder / name, ignore_errors=True)
    exported = exporting.export(
        checkpoint, folder, setting.images, setting.formats,
        setting.request.out / CACHE / "stages", threads, board,
    )  # fmt: skip
    done.keep("export", key, asdict(exported))
    return exported


def _weighed(setting: Setting, finished: Finished, done: Stages, board: Board) -> dict[str, int]:
    files = [file for file in finished.files() if measuring.weighed(file.key)]
    threads = setting.request.threads
    key = measuring.key_of(files, threads)
    known = done.result("memory", key)
    if known is not None:
        return known
    board.start("measuring memory", len(files))
    found = {}
    for file in files:
        found[file.key] = max(0, measuring.memory(file.path, threads) - setting.machine_memory)
        board.advance()
    board.done()
    done.keep("memory", key, found)
    return found
