"""`exporter train`: how its flags become settings."""

from __future__ import annotations

import sys
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import typer

from exporter.cli.grouped import given, grouped
from exporter.cli.options import network_options
from exporter.cli.roof import app
from exporter.cli.train_flags import (
    DataFlags,
    DescentFlags,
    LayerFlags,
    LossFlags,
    NetworkFlags,
    PictureFlags,
    RunFlags,
    Variant,
)
from models.errors import UserError

if TYPE_CHECKING:
    from models.training.techniques import Techniques


@app.command()
@grouped
def train(
    run: RunFlags,
    data: DataFlags,
    network: NetworkFlags,
    layers: LayerFlags,
    loss: LossFlags,
    pictures: PictureFlags,
    descent: DescentFlags,
) -> None:
    """Train a classifier on photographs, from nothing or from trained weights."""
    from exporter.pipeline import launching, training
    from models.training.settings import TrainSettings

    asked: dict[str, Any] = given(run) | given(network, arch="architecture")
    asked["options"] = network_options(
        asked.pop("option", None), asked.pop("width", None), asked.pop("input_size", None)
    )
    asked |= {
        name: value
        for name, value in given(descent).items()
        if name in TrainSettings.__dataclass_fields__
    }
    asked |= {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in given(data, images_root="images").items()
        if name not in ("synthetic", "variant")
    }
    asked["techniques"] = _techniques(layers, loss, pictures, descent)
    request = training.TrainRequest(TrainSettings(**asked), _drawn(data), frozenset(asked))
    command = sys.argv[1:]
    if launching.wanted(run.devices, run.nodes):
        raise typer.Exit(launching.launch(run.devices, command))
    if descent.find_lr:
        training.find_rate(request, command)
    else:
        training.train(request)


def _drawn(data: DataFlags) -> Any:
    """Which set of drawn snakes, None for photographs.

    Raises:
        UserError: a variant of photographs.
    """
    if data.variant is not None and not data.synthetic:
        raise UserError(
            f"--variant {data.variant.value} without --synthetic.",
            "it is a variant of the drawn snakes",
            "add --synthetic, or leave it away",
        )
    return (data.variant or Variant.plain).value if data.synthetic else None


def _techniques(
    layers: LayerFlags, loss: LossFlags, pictures: PictureFlags, descent: DescentFlags
) -> Techniques:
    """The techniques as they are by default, with what was given put in."""
    from models.training.techniques import Techniques

    usual = Techniques()
    stages = given(layers, unfreeze_from="unfreeze_blocks", feature_cache="cache")
    stages["freeze_backbone"] = stages.pop("freeze", None) is not None
    if "cache" in stages:
        stages["cache"] = str(stages["cache"])
    losses = given(
        loss, loss="name", class_weights="balanced", ldam_margin="margin", ldam_scale="scale",
        focal_gamma="gamma", focal_alpha="alpha",
    )  # fmt: skip
    keeping = {"best": losses.pop("best")} if "best" in losses else {}
    fields = type(usual.descent).__dataclass_fields__
    falling = {name: value for name, value in given(descent).items() if name in fields}
    return replace(
        usual,
        stages=replace(usual.stages, **stages),
        loss=replace(usual.loss, **_plain(losses)),
        mixing=replace(usual.mixing, **given(pictures)),
        descent=replace(usual.descent, **_plain(falling)),
        keeping=replace(usual.keeping, **_plain(keeping)),
    )


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Members of enumerations as the words that they are."""
    return {n: value.value if isinstance(value, StrEnum) else value for n, value in values.items()}
