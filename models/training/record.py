"""The folder of a run: what it was asked, how far it is, the best weights.

    runs/NAME/
      run.json                what was asked, and a hash over the images
      checkpoint.safetensors  the best epoch's weights, ready to export
      last.ckpt               everything that --resume needs
      stage-N.safetensors     the weights that stage N begins with, until it is finished
      history.json metrics.csv   one row an epoch
      tensorboard/            the curves, for `tensorboard --logdir runs`
      split.csv               which images learned and which judged, where the run divided them

Each file is written beside and renamed, so none is ever half there.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.contract import Label
from models.data.labelled import LabelledSet
from models.training.settings import TrainingError, TrainSettings

CHECKPOINT = "checkpoint.safetensors"
_EVENTS = "events.out.tfevents.*"
_STARTS = "stage-*.safetensors"
_NO_MATTER = {  # changes no result, so a resumed run may differ in it; techniques stand below
    "out", "data", "validation", "test", "test_fraction", "images", "class_map", "multi_label",
    "split", "most_broken", "near_bits", "weights", "labels", "workers", "memory_limit",
    "resume", "force", "temperature", "device", "progress", "techniques", "devices", "nodes",
    "tensorboard",
}  # fmt: skip


@dataclass(frozen=True)
class RunFolder:
    """The files of a run."""

    path: Path

    @property
    def description(self) -> Path:
        return self.path / "run.json"

    @property
    def checkpoint(self) -> Path:
        return self.path / CHECKPOINT

    @property
    def last(self) -> Path:
        return self.path / "last.ckpt"

    @property
    def history(self) -> Path:
        return self.path / "history.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.csv"

    @property
    def split(self) -> Path:
        return self.path / "split.csv"

    @property
    def curves(self) -> Path:
        return self.path / "tensorboard"

    def held(self) -> list[Path]:
        """Those of a run's files that are there."""
        files = (
            self.description, self.checkpoint, self.last, self.history, self.metrics, self.split,
        )  # fmt: skip
        found = [path for path in files if path.exists()]
        return found + sorted(self.path.glob(_STARTS)) + sorted(self.curves.glob(_EVENTS))

    def start_of(self, stage: int) -> Path:
        """The weights that a later stage begins with, while it is not finished."""
        return self.path / _STARTS.replace("*", str(stage))

    def check(self, resume: bool, force: bool) -> None:
        """Refuse to touch another run, before anything is done.

        Raises:
            TrainingError: a run is there and neither flag was given, there is none to
                resume, or `path` is a file.
        """
        if self.path.exists() and not self.path.is_dir():
            raise TrainingError(
                f"{self.path} is in the way.", "it is a file", "choose another --out"
            )
        held = self.held()
        if resume and not self.description.exists():
            raise TrainingError(
                f"There is no run to resume in {self.path}.",
                f"it has no {self.description.name}",
                "check --out, or leave --resume away to begin one",
            )
        if held and not resume and not force:
            raise TrainingError(
                f"{self.path} holds a run already.",
                f"{held[0].name} is there",
                "go on with it (--resume), replace it (--force) or choose another --out",
            )

    def begin(self, description: Mapping[str, Any]) -> None:
        """Remove the files of an earlier run and write down what this one was asked."""
        self.path.mkdir(parents=True, exist_ok=True)
        for path in self.held():
            path.unlink()
        write_text(self.description, _dumps(description))

    def refuse_unshared(self, description: Mapping[str, Any]) -> None:
        """Refuse a folder that the first process has begun and this one does not see.

        Raises:
            TrainingError: so it is.
        """
        if not self.description.exists() or _read_json(self.description) != json.loads(
            json.dumps(description)
        ):
            raise TrainingError(
                f"{self.path} is not the folder that the first process writes.",
                "later stages and resumed runs read there what it has written",
                "give --out a folder that all machines share",
            )

    def compare(self, description: Mapping[str, Any]) -> None:
        """Refuse to resume something else than what was begun.

        Raises:
            TrainingError: settings, classes or images differ; all are named.
        """
        begun = _read_json(self.description)
        lines = []
        before, now = begun.get("settings", {}), description["settings"]
        for key in sorted(set(before) | set(now)):
            if before.get(key) != now.get(key):
                lines.append(f"  {key} was {before.get(key)!r} and is now {now.get(key)!r}")
        if begun.get("labels") != description["labels"]:
            lines.append("  the labels are others")
        if begun.get("images") != description["images"]:
            lines.append("  the training or validation images are others")
        if lines:
            raise TrainingError(
                f"The run in {self.path} was begun differently:\n" + "\n".join(lines),
                "a resumed run gives what an uninterrupted one gives, so it has to be the same",
                "repeat the flags of the first call, or begin anew with --force",
            )

    def finished(self) -> bool:
        return self.history.exists() and bool(_read_json(self.history).get("finished"))

    def write_history(self, epochs: list[dict[str, Any]], **more: Any) -> None:
        """Write history.json and metrics.csv."""
        write_text(self.history, _dumps({"epochs": epochs, **more}))
        if epochs:
            text = io.StringIO()
            writer = csv.DictWriter(text, list(epochs[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(epochs)
            write_text(self.metrics, text.getvalue())


def describe(
    settings: TrainSettings, labels: tuple[Label, ...], train: LabelledSet, validation: LabelledSet
) -> dict[str, Any]:
    """What decides a run's result, as JSON: settings, labels and images."""
    asked = {
        name: getattr(settings, name)
        for name in TrainSettings.__dataclass_fields__
        if name not in _NO_MATTER
    }
    for name in ("quantization_aware", "resize_shorter_side"):
        if not asked[name]:  # runs begun before there was such a thing go on
            del asked[name]
    recipe = settings.recipe
    asked |= {
        "epochs": recipe.epochs,
        "learning_rate": recipe.learning_rate,
        "weight_decay": settings.decay,
        "head_factor": recipe.head_factor,
        "train_size": settings.picture_size,
        "options": dict(settings.options),
        "weights": Path(settings.weights).name,
        "crop_scale": list(settings.crop_scale),
        "label_smoothing": settings.techniques.loss.label_smoothing,
        **settings.techniques.differing(),
        **({"multi_label": True} if train.multi_label else {}),
    }
    images = hashlib.sha256()
    for part in (train, validation):
        for item in part.items:
            classes = " ".join(map(str, item.labels))
            images.update(f"{classes} {item.digest}\n".encode())
        images.update(b"--\n")
    return {
        "schema": 1,
        "settings": asked,
        "labels": [label.to_json() for label in labels],
        "images": images.hexdigest(),
    }


def write_text(path: Path, text: str) -> None:
    """Write a file beside and rename it into place."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def _dumps(content: Mapping[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainingError(
            f"{path} cannot be read.", str(error), "begin the run anew with --force"
        ) from error
    if not isinstance(content, dict):
        raise TrainingError(f"{path} is damaged.", "", "begin the run anew with --force")
    return content
