"""A run's stages, one after the other, and where an interrupted one goes on."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from torch import nn

from models import zoo
from models.checkpoint import load_checkpoint
from models.classifier import Classifier
from models.contract import Contract
from models.data.labelled import LabelledSet
from models.features import Backbone
from models.training import cached, fitting, processes
from models.training.adapting import Adaptation
from models.training.averaging import Averaging
from models.training.batches import targets_of
from models.training.blocks import last_blocks, parts_of
from models.training.board import Board
from models.training.judging import goal_of
from models.training.keeper import Keeper, Meter
from models.training.library import lightning, torch
from models.training.loading import Decoded, decode, scratch_in
from models.training.progress import bar
from models.training.record import RunFolder
from models.training.settings import TrainingError, TrainSettings
from models.training.stages import Stage, plan
from models.training.task import Task

Say = Callable[[str], None]
Loaders = tuple[Any, Any]


@dataclass(frozen=True)
class Position:
    """Where a run goes on.

    Attributes:
        stage: the number of the stage.
        last: what was left of it, None where it has no finished epoch.
    """

    stage: int = 0
    last: Path | None = None


class Course:
    """The stages of one run.

    Args:
        net: the network that the run begins with; trained in place.
        contract: of the checkpoint that is kept.
        sets: training and validation images.
        adaptation: of a network that is trained as int8; None for one in float.
        notes: for the checkpoint, on how it was trained.

    Raises:
        TrainingError: more blocks are to be unfrozen than the network has, or the device
            cannot compute in the precision that was asked for.
    """

    def __init__(
        self,
        settings: TrainSettings,
        folder: RunFolder,
        net: nn.Module,
        contract: Contract,
        sets: tuple[LabelledSet, LabelledSet],
        on_message: Say,
        adaptation: Adaptation | None = None,
        notes: Mapping[str, Any] | None = None,
    ) -> None:
        self._settings, self._folder, self._sets = settings, folder, sets
        self._net, self._contract, self._say = net, contract, on_message
        self.adaptation = adaptation
        self._parts = parts_of(zoo.get(settings.architecture), net)
        self._stages = plan(settings)
        self._refuse_too_many_blocks()
        fitting.precision_of(settings)
        total = sum(stage.epochs for stage in self._stages)
        self.keeper = Keeper(folder, settings, contract, on_message, total, notes)
        self.board: Board | None = None
        if settings.tensorboard and processes.place().first:
            self.board = Board(folder.curves, self.keeper, on_message)

    def run(self, begin: Callable[[], None]) -> None:
        """Train all stages that are not finished.

        Args:
            begin: called before the first epoch, when all that can fail early has not.

        Raises:
            DataError: images that cannot be decoded, or no room for features.
            TrainingInterruptedError: Ctrl-C.
            TrainingError: it diverged, or the disk is full.
        """
        try:
            self._run(begin)
        finally:
            if self.board is not None:
                self.board.close()

    def opening(self) -> tuple[Stage, Task, Loaders]:
        """The first stage, and what it trains on what."""
        stage = self._stages[0]
        return stage, *self._prepared(stage)

    def _run(self, begin: Callable[[], None]) -> None:
        at, begun = self._position(), self._settings.resume
        for stage in self._stages[at.stage :]:
            last = at.last if stage.number == at.stage else None
            self.keeper.enter(stage)
            task, loaders = processes.together(partial(self._prepared, stage))
            if not begun:
                begin()
                begun = True
            if last is not None:
                self._say(f"resuming from {last}")
            elif stage.number:
                with fitting.disk_errors_in_words(self._folder):
                    self._begin_with_the_best(stage)
            self._fit(stage, task, loaders, last)
            if processes.place().first:
                self._folder.start_of(stage.number).unlink(missing_ok=True)

    def _position(self) -> Position:
        if not (self._settings.resume and self._folder.last.exists()):
            return Position()
        kept = torch.load(self._folder.last, map_location="cpu", weights_only=True, mmap=True)
        self.keeper.load_state_dict(kept["callbacks"][self.keeper.state_key])
        if self.board is not None:
            self.board.load_state_dict(kept["callbacks"].get(self.board.state_key, {"steps": 0}))
        if self.keeper.complete and self.adaptation is None:
            return Position(self.keeper.stage + 1)
        return Position(self.keeper.stage, self._folder.last)

    def _prepared(self, stage: Stage) -> tuple[Task, Loaders]:
        """What a stage trains, and on what."""
        if stage.on_features:
            return self._on_features(stage)
        loaders = self._decoded.loaders(stage.settings)
        steps = len(loaders[0]) * stage.epochs
        pictures = learning = None
        if self.adaptation is not None:
            pictures = self.adaptation.pictures
        if stage.blocks is not None:
            decay = self._settings.techniques.stages.rate_decay
            learning = last_blocks(self._parts, self._net, stage.blocks, decay)
        goal = goal_of(self._sets[0])
        return Task(self._net, stage.settings, steps, pictures, learning, goal), loaders

    def _on_features(self, stage: Stage) -> tuple[Task, Loaders]:
        options = zoo.get(self._settings.architecture).settle(self._settings.options)
        classifier = Classifier(self._net, self._contract)
        backbone = Backbone(self._settings.architecture, options, classifier)
        with fitting.on_device(self._net, self._settings), scratch_in(self._folder.path):
            views, judging = processes.in_turn(
                lambda: cached.compute(backbone, self._sets, self._settings, self._say)
            )
        targets = [targets_of(part) for part in self._sets]
        loaders = cached.loaders(views, targets[0], judging, targets[1], stage.settings)
        steps = len(loaders[0]) * stage.epochs
        goal = goal_of(self._sets[0])
        return cached.HeadTask(self._net, backbone.tail, stage.settings, steps, goal), loaders

    @cached_property
    def _decoded(self) -> Decoded:
        return decode(self._settings, self._folder.path, self._sets)

    def _begin_with_the_best(self, stage: Stage) -> None:
        """The best weights so far, kept aside: this stage may find better ones."""
        start = self._folder.start_of(stage.number)

        def keep() -> None:
            if not start.exists():
                partial = start.with_name(start.name + ".partial")
                shutil.copyfile(self._folder.checkpoint, partial)
                partial.replace(start)

        processes.alone(keep)
        self._net.load_state_dict(dict(load_checkpoint(start).state))

    def _fit(self, stage: Stage, task: Task, loaders: Loaders, last: Path | None) -> None:
        if self.adaptation is not None:
            self.adaptation.before(task, loaders[1], self.keeper, last is None)
        stopping = lightning.pytorch.callbacks.EarlyStopping(
            self.keeper.criterion,
            mode="max",
            patience=stage.patience,
            check_on_train_epoch_end=False,
        )
        steps = len(loaders[0]) * stage.epochs
        with bar(steps, self._settings.progress) as shown, fitting.quiet():
            self.keeper.say = shown.above(self._say)
            callbacks = [stopping, self.keeper, Meter(shown, self.keeper)]
            if self.board is not None:
                callbacks.append(self.board)
            if self._settings.techniques.descent.ema > 0:
                callbacks.append(Averaging(self._settings.techniques.descent.ema))
            trainer = fitting.trainer_of(stage.settings, self._folder, callbacks)
            fitting.run(trainer, task, loaders, self.keeper, last)
        if self.adaptation is not None:
            self.adaptation.after(task, loaders[1], self.keeper)

    def _refuse_too_many_blocks(self) -> None:
        wanted, there = self._settings.techniques.stages.unfreeze_blocks, len(self._parts.blocks)
        if wanted > there:
            raise TrainingError(
                f"--unfreeze-from {wanted}: {self._settings.architecture} has {there} blocks.",
                "they are counted from the head backwards",
                f"give a number up to {there}; {there} lets all layers learn in the end",
            )
