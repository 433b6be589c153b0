"""The stages of a run: which layers learn in which epochs; imports nothing heavy.

A run without a frozen backbone has one stage. With one, the head learns first, on features
that are computed once; then one more block a stage is let go, backwards from the head
(gradual unfreezing: Howard and Ruder 2018, arXiv:1801.06146, section 3.3). Each stage has
a schedule of its own and begins with the best weights so far.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace

from models.training.settings import TrainSettings


@dataclass(frozen=True)
class Stage:
    """Some epochs in which the same layers learn.

    Attributes:
        number: from 0, in the order of the run.
        name: for the terminal and the metrics; '' where a run has one stage only.
        blocks: how many of the last blocks learn besides the head; None: all layers.
        settings: the run's, with this stage's epochs, learning rate and seed put in.
    """

    number: int
    name: str
    blocks: int | None
    settings: TrainSettings

    @property
    def epochs(self) -> int:
        return self.settings.recipe.epochs

    @property
    def patience(self) -> int:
        """Epochs without a better one before it stops.

        LDAM gains most once its class weights have begun: it never stops before that.
        """
        loss = self.settings.techniques.loss
        deferred = loss.name == "ldam" and loss.reweight_from < 1.0
        waited = math.ceil(loss.reweight_from * self.epochs) if deferred else 0
        return self.settings.patience + waited

    @property
    def on_features(self) -> bool:
        """Whether the head alone learns, on features that were computed before."""
        return self.blocks == 0


def plan(settings: TrainSettings) -> tuple[Stage, ...]:
    """The stages of a run, in order."""
    stages = settings.techniques.stages
    if not stages.freeze_backbone:
        return (Stage(0, "", None, settings),)
    planned = [Stage(0, "head", 0, settings)]
    for blocks in range(1, stages.unfreeze_blocks + 1):
        own = replace(
            settings,
            epochs=stages.stage_epochs,
            learning_rate=stages.stage_rate,
            seed=_seed(settings.seed, blocks),
        )
        name = f"head and last {blocks} blocks" if blocks > 1 else "head and last block"
        planned.append(Stage(blocks, name, blocks, own))
    return tuple(planned)


def _seed(seed: int, stage: int) -> int:
    """Another order and other crops in each stage."""
    digest = hashlib.blake2b(f"{seed} {stage}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big")
