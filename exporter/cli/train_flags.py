"""The flags of `exporter train`, group by group; each group is a panel of its help."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

_data = partial(typer.Option, rich_help_panel="Data")
_network = partial(typer.Option, rich_help_panel="Network")
_layers = partial(typer.Option, rich_help_panel="Which layers learn")
_loss = partial(typer.Option, rich_help_panel="Loss")
_pictures = partial(typer.Option, rich_help_panel="What is done to pictures")
_descent = partial(typer.Option, rich_help_panel="Descent")


class Freeze(StrEnum):
    """What stays as it is."""

    backbone = "backbone"


class Variant(StrEnum):
    """What is drawn with --synthetic."""

    plain = "plain"
    imbalanced = "imbalanced"
    multi_label = "multi-label"


class Loss(StrEnum):
    """What is made small."""

    cross_entropy = "cross-entropy"
    ldam = "ldam"
    bce = "bce"
    focal = "focal"


class Criterion(StrEnum):
    """Which figure tells the best epoch."""

    accuracy = "accuracy"
    macro_f1 = "macro-f1"
    mean_average_precision = "map"


class Optimizer(StrEnum):
    """Who takes the steps."""

    adamw = "adamw"
    sgd = "sgd"


class Schedule(StrEnum):
    """Of the learning rate."""

    one_cycle = "one-cycle"
    cosine = "cosine"
    constant = "constant"


class Precision(StrEnum):
    """Of activations and gradients."""

    float32 = "float32"
    bf16 = "bf16"
    fp16 = "fp16"


@dataclass(frozen=True)
class RunFlags:
    """The run itself."""

    out: Annotated[Path, typer.Option("--out", help="The folder of the run: runs/NAME.")]
    epochs: Annotated[
        int | None, typer.Option("--epochs", min=1, help="Passes; with --freeze, the head's.")
    ] = None
    batch_size: Annotated[int | None, typer.Option("--batch-size", min=2)] = None
    patience: Annotated[
        int | None,
        typer.Option("--patience", min=1, help="Stop after so many epochs that are no better."),
    ] = None
    temperature: Annotated[
        bool | None,
        typer.Option(
            "--temperature/--no-temperature",
            help="Fit one on the validation images in the end; default yes.",
        ),
    ] = None
    devices: Annotated[
        int,
        typer.Option(
            "--devices", min=1, help="Processes on a machine, one a GPU; they share batches."
        ),
    ] = 1
    nodes: Annotated[
        int,
        typer.Option("--nodes", min=1, help="Machines; more than one are started with torchrun."),
    ] = 1
    seed: Annotated[int, typer.Option("--seed", help="Reproduces the run on the same machine.")] = 0
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where the run at --out stopped.")
    ] = False
    force: Annotated[bool, typer.Option("--force", help="Replace the run at --out.")] = False


@dataclass(frozen=True)
class DataFlags:
    """What is learned from and what judges."""

    data: Annotated[
        list[Path] | None,
        _data("--data", help="A folder a class, a .csv or COCO .json; several are one set."),
    ] = None
    images_root: Annotated[
        Path | None,
        _data("--images-root", help="Where tables and COCO files find their images."),
    ] = None
    class_map: Annotated[
        Path | None, _data("--class-map", help="A table of which names mean which class.")
    ] = None
    multi_label: Annotated[
        bool | None,
        _data(
            "--multi-label/--single-label",
            help="Whether an image may have several classes; default: as the files are.",
        ),
    ] = None
    synthetic: Annotated[bool, _data("--synthetic", help="Train on the built-in drawn snakes.")] = (
        False
    )
    variant: Annotated[
        Variant | None,
        _data("--variant", help="Of the drawn snakes: a long tail, or several in a picture."),
    ] = None
    split: Annotated[
        Path | None,
        _data("--split", help="A file of who learns and who judges: used, or written if new."),
    ] = None
    validation: Annotated[
        list[Path] | None, _data("--validation", help="Validation images; else a share of --data.")
    ] = None
    validation_fraction: Annotated[
        float | None, _data("--validation-fraction", help="That share; default 0.15.")
    ] = None
    test: Annotated[list[Path] | None, _data("--test", help="Images to measure the result on.")] = (
        None
    )
    test_fraction: Annotated[
        float | None, _data("--test-fraction", help="Else a share of --data; default none.")
    ] = None
    most_broken: Annotated[
        float | None,
        _data("--most-broken", help="Share of broken images to leave out; default 0.05."),
    ] = None
    labels: Annotated[
        Path | None, _data("--labels", help="JSON or CSV with attributes; names as the classes.")
    ] = None


@dataclass(frozen=True)
class NetworkFlags:
    """What is trained."""

    arch: Annotated[str, _network("--arch", help="'exporter zoo' lists them.")] = "mobilenet_v2"
    weights: Annotated[
        str, _network("--weights", help="FILE, a run's folder, 'imagenet' (downloads) or 'none'.")
    ] = "none"
    width: Annotated[float | None, _network("--width", help="Width multiplier.")] = None
    input_size: Annotated[int | None, _network("--input-size", help="In pixels.")] = None
    option: Annotated[
        list[str] | None,
        _network(
            "--option",
            metavar="NAME=VALUE",
            help="An option of the architecture; 'exporter zoo NAME' lists them.",
        ),
    ] = None
    quantization_aware: Annotated[
        bool,
        _network("--quantization-aware", help="Go on from trained --weights with int8's rounding."),
    ] = False


@dataclass(frozen=True)
class LayerFlags:
    """Which layers learn."""

    freeze: Annotated[
        Freeze | None,
        _layers("--freeze", help="Train the head on features of the frozen rest, computed once."),
    ] = None
    views: Annotated[
        int | None,
        _layers(
            "--views",
            min=0,
            help="Augmented views of each image whose features are kept too; default 0.",
        ),
    ] = None
    unfreeze_from: Annotated[
        int | None,
        _layers(
            "--unfreeze-from",
            min=0,
            help="Afterwards let the last N blocks learn too, one more a stage.",
        ),
    ] = None
    stage_epochs: Annotated[
        int | None,
        _layers("--stage-epochs", min=1, help="Epochs of each of those stages; default 2."),
    ] = None
    stage_rate: Annotated[
        float | None,
        _layers("--stage-rate", help="The head's peak learning rate in them; default 0.001."),
    ] = None
    rate_decay: Annotated[
        float | None,
        _layers(
            "--rate-decay",
            help="Each block learns so many times as fast as the one behind it; default 0.5.",
        ),
    ] = None
    feature_cache: Annotated[
        Path | None,
        _layers("--feature-cache", help="Where features are kept; default .features beside --out."),
    ] = None


@dataclass(frozen=True)
class LossFlags:
    """What is made small."""

    loss: Annotated[
        Loss | None,
        _loss(
            "--loss", help="Default: cross-entropy, or bce where an image may have several classes."
        ),
    ] = None
    class_weights: Annotated[
        bool,
        _loss("--class-weights", help="Weigh rare classes up; with ldam from --reweight-from on."),
    ] = False
    label_smoothing: Annotated[
        float | None, _loss("--label-smoothing", help="Of cross-entropy; default 0.1.")
    ] = None
    ldam_margin: Annotated[
        float | None, _loss("--ldam-margin", help="Of the rarest class; default 0.5.")
    ] = None
    ldam_scale: Annotated[
        float | None, _loss("--ldam-scale", help="On the logits; default 30.")
    ] = None
    reweight_from: Annotated[
        float | None,
        _loss(
            "--reweight-from", help="Share of the epochs before ldam's class weights; default 0.8."
        ),
    ] = None
    focal_gamma: Annotated[
        float | None, _loss("--focal-gamma", help="The exponent; default 2.")
    ] = None
    focal_alpha: Annotated[
        float | None, _loss("--focal-alpha", help="Weight of positives; default none.")
    ] = None
    best: Annotated[
        Criterion | None,
        _loss("--best", help="The figure that tells the best epoch; default accuracy, or map."),
    ] = None


@dataclass(frozen=True)
class PictureFlags:
    """What is done to pictures."""

    mixup: Annotated[float | None, _pictures("--mixup", help="Alpha, e.g. 0.2; default off.")] = (
        None
    )
    cutmix: Annotated[float | None, _pictures("--cutmix", help="Alpha, e.g. 1.0; default off.")] = (
        None
    )
    randaugment: Annotated[
        int | None,
        _pictures("--randaugment", min=0, help="Operations a picture, e.g. 2; default off."),
    ] = None
    magnitude: Annotated[
        int | None, _pictures("--magnitude", help="RandAugment's, 0 to 30; default 9.")
    ] = None
    balanced_sampling: Annotated[
        bool,
        _pictures(
            "--balanced-sampling", help="Draw each class equally often, whatever its images."
        ),
    ] = False


@dataclass(frozen=True)
class DescentFlags:
    """How the loss is followed downhill."""

    learning_rate: Annotated[
        float | None, _descent("--learning-rate", help="The peak of the schedule.")
    ] = None
    optimizer: Annotated[Optimizer | None, _descent("--optimizer", help="Default adamw.")] = None
    schedule: Annotated[Schedule | None, _descent("--schedule", help="Default one-cycle.")] = None
    warm_up: Annotated[
        float | None,
        _descent("--warm-up", help="Share of the steps in which the rate rises; default 0.2."),
    ] = None
    weight_decay: Annotated[
        float | None, _descent("--weight-decay", help="Default 0.02; of sgd 0.0001.")
    ] = None
    clip_norm: Annotated[
        float | None, _descent("--clip-norm", help="Largest norm of the gradient.")
    ] = None
    ema: Annotated[
        float | None,
        _descent(
            "--ema", help="Decay of the weights' moving average, which is what is kept, e.g. 0.999."
        ),
    ] = None
    find_lr: Annotated[
        bool,
        _descent("--find-lr", help="Try learning rates, save the curve, say which, and stop."),
    ] = False
    precision: Annotated[
        Precision | None,
        _descent("--precision", help="Of activations and gradients; default float32."),
    ] = None
