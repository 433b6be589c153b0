"""What a training run is asked to do, checked before any long work."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from models import zoo
from models.checkpoint import default_resize
from models.contract import Label, Preprocessing
from models.errors import UserError
from models.training.ranges import TrainingError, number, refuse_undividable, whole
from models.training.techniques import Stages, Techniques, check_techniques

__all__ = [
    "FINE_TUNE",
    "FROM_SCRATCH",
    "FROZEN",
    "NO_WEIGHTS",
    "PUBLISHED_WEIGHTS",
    "QUANTIZATION_AWARE",
    "Device",
    "Recipe",
    "TrainSettings",
    "TrainingError",
    "TrainingInterruptedError",
    "check",
]
NO_WEIGHTS = "none"
PUBLISHED_WEIGHTS = "imagenet"
_SGD_FACTOR = 30.0  # AdamW's steps are about as long as its rate says, SGD's as the gradient is
_ADAMW_DECAY, _SGD_DECAY = 0.02, 1e-4
Device = Literal["auto", "cpu", "cuda", "mps"]


class TrainingInterruptedError(UserError):
    """Somebody stopped the training; it can be resumed."""

    exit_code = 130


@dataclass(frozen=True)
class Recipe:
    """The figures that differ between training from nothing, fine-tuning and the like.

    Attributes:
        epochs: passes over the training images.
        learning_rate: peak of the schedule, AdamW; SGD's is `_SGD_FACTOR` times as high.
        head_factor: how much faster the new head learns than the backbone.
        size_factor: side of the augmented training pictures over the input size. A
            random crop shows things enlarged, so smaller pictures match what the
            validation sees (Touvron et al. 2019, arXiv:1906.06423), and cost less.
    """

    epochs: int
    learning_rate: float
    head_factor: float
    size_factor: float


FINE_TUNE = Recipe(epochs=8, learning_rate=1.5e-4, head_factor=10.0, size_factor=0.72)
FROM_SCRATCH = Recipe(epochs=30, learning_rate=4e-3, head_factor=1.0, size_factor=0.86)
FROZEN = Recipe(epochs=20, learning_rate=5e-3, head_factor=1.0, size_factor=0.72)
QUANTIZATION_AWARE = Recipe(epochs=3, learning_rate=3e-5, head_factor=1.0, size_factor=0.72)


@dataclass(frozen=True)
class TrainSettings:
    """One training run.

    Attributes:
        out: the run's folder; only files of the run's own are written or replaced in it.
        data: class folders, tables (.csv) or COCO files (.json), several of them as one set;
            a single folder may be divided into train and val (and test) already. None
            where the caller hands `train` the images.
        validation: images that judge each epoch; else a share of `data` does.
        validation_fraction: that share.
        test: images that the best weights are measured on at the end.
        test_fraction: the share of `data` that does where there are none; 0: nothing does.
        images: the folder that tables and COCO files name images in; None for their own.
        class_map: which classes are meant by which names, see `models.data.class_map`.
        multi_label: whether an image may have several classes; None: as the files are.
        split: a file of who is where; used where it is there, else written.
        most_broken: the share of images that may be broken and left out.
        near_bits: see `models.data.dividing.DataChoice`; None for the usual number.
        labels: attributes of the classes (a file or labels); names as the folders'.
        architecture, options: as in the zoo; 'input_size' is the picture's side.
        weights: 'none', 'imagenet' (downloaded), or the path of a weights file.
        epochs, learning_rate: None for the recipe's, see `recipe`.
        batch_size: at most; never more than there are training images.
        weight_decay: on weights of two or more dimensions; None for 0.02 (AdamW's, apart from
            the gradient) or 1e-4 (SGD's, added to it).
        warm_up: share of the steps in which the learning rate rises, of any schedule.
        train_size: side of the augmented training pictures; None for the recipe's.
        crop_scale: smallest and largest share of the area that a random crop keeps.
        jitter: how far brightness, contrast and saturation wander; 0 for none.
        vertical_flip: also mirror top to bottom, where up and down mean nothing.
        patience: epochs without a better validation accuracy before it stops.
        seed: decides the initial weights, the split, the order and the augmentation.
        workers: processes that augment; 0 does it in this one (best on few cores).
        memory_limit: bytes of decoded pictures kept in memory; beyond, in a file.
        resume: go on where the run at `out` stopped.
        force: replace the run at `out`.
        name: what the model is called in its contract; the folder's name if None.
        quantization_aware: go on from a trained checkpoint (`weights`) with the rounding of
            int8 in the forward pass; see `models.training.quantization_aware`.
        resize_shorter_side: of the contract; None for the usual one of the input size.
        temperature: fit one on the validation images when the weights are settled.
        device: 'auto' is CUDA where there is a GPU, else the CPU.
        devices: processes on each machine, one a GPU where there are some; torchrun starts
            them. Together they take batches of `batch_size`.
        nodes: machines.
        tensorboard: write curves for TensorBoard into the run's folder.
        progress: show a bar.
        techniques: the loss, what is mixed into the pictures, which layers learn, the
            descent.
    """

    out: Path
    data: Path | tuple[Path, ...] | None = None
    validation: Path | tuple[Path, ...] | None = None
    validation_fraction: float = 0.15
    test: Path | tuple[Path, ...] | None = None
    test_fraction: float = 0.0
    images: Path | None = None
    class_map: Path | None = None
    multi_label: bool | None = None
    split: Path | None = None
    most_broken: float = 0.05
    near_bits: int | None = None
    labels: Path | tuple[Label, ...] | None = None
    architecture: str = "mobilenet_v2"
    options: Mapping[str, int | float] = field(default_factory=dict)
    weights: str = NO_WEIGHTS
    epochs: int | None = None
    batch_size: int = 32
    learning_rate: float | None = None
    weight_decay: float | None = None
    warm_up: float = 0.2
    train_size: int | None = None
    crop_scale: tuple[float, float] = (0.35, 1.0)
    jitter: float = 0.2
    vertical_flip: bool = False
    patience: int = 10
    seed: int = 0
    workers: int = 0
    memory_limit: int = 4_000_000_000
    resume: bool = False
    force: bool = False
    name: str | None = None
    quantization_aware: bool = False
    resize_shorter_side: int | None = None
    temperature: bool = True
    device: Device = "auto"
    devices: int = 1
    nodes: int = 1
    tensorboard: bool = True
    progress: bool = True
    techniques: Techniques = field(default_factory=Techniques)

    @property
    def recipe(self) -> Recipe:
        """The recipe with this run's own figures put in."""
        base = FROM_SCRATCH if self.weights == NO_WEIGHTS else FINE_TUNE
        if self.techniques.stages.freeze_backbone:
            base = FROZEN
        if self.quantization_aware:
            base = QUANTIZATION_AWARE
        usual = base.learning_rate * (_SGD_FACTOR if self._by_sgd else 1.0)
        return replace(
            base,
            epochs=base.epochs if self.epochs is None else self.epochs,
            learning_rate=usual if self.learning_rate is None else self.learning_rate,
        )

    @property
    def decay(self) -> float:
        """The weight decay that is meant."""
        usual = _SGD_DECAY if self._by_sgd else _ADAMW_DECAY
        return usual if self.weight_decay is None else self.weight_decay

    @property
    def _by_sgd(self) -> bool:
        return self.techniques.descent.optimizer == "sgd"

    @property
    def input_size(self) -> int:
        return int(zoo.get(self.architecture).settle(self.options)["input_size"])

    @property
    def preprocessing(self) -> Preprocessing:
        """The rule of the trained model: pixel / 127.5 - 1, the centre of the picture."""
        size = self.input_size
        side = self.resize_shorter_side or default_resize(size)
        grayscale = zoo.get(self.architecture).grayscale
        return Preprocessing(height=size, width=size, resize_shorter_side=side, grayscale=grayscale)

    @property
    def picture_size(self) -> int:
        """Side of the augmented training pictures, a multiple of 16 unless it was given.

        A network that takes chosen sizes only is trained at its own; no other smaller than
        it takes.
        """
        if self.train_size is not None:
            return self.train_size
        sizes = zoo.get(self.architecture).options["input_size"]
        if sizes.choices:
            return self.input_size
        rounded = 16 * round(self.input_size * self.recipe.size_factor / 16)
        return max(rounded, 16 * math.ceil(sizes.smallest / 16))


def check(settings: TrainSettings) -> None:
    """Refuse settings that cannot work; touches no data and imports nothing heavy.

    Raises:
        ZooError: unknown architecture or option, or a value out of range.
        TrainingError: a figure out of its range, a weights file that is missing, or
            weights that nobody publishes.
    """
    entry = zoo.get(settings.architecture)
    options = entry.settle(settings.options)
    recipe = settings.recipe
    whole("--epochs", recipe.epochs, 1, 100_000)
    whole("--batch-size", settings.batch_size, 2, 65_536)
    whole("--devices", settings.devices, 1, 4096)
    whole("--nodes", settings.nodes, 1, 4096)
    whole("--seed", settings.seed, 0, 2**32 - 1)
    whole("patience", settings.patience, 1, 100_000)
    whole("workers", settings.workers, 0, 256)
    whole("train_size", settings.picture_size, 16, 4096)
    number("--learning-rate", recipe.learning_rate, 1e-8, 10.0)
    number("validation_fraction", settings.validation_fraction, 0.001, 0.9)
    number("test_fraction", settings.test_fraction, 0.0, 0.9)
    number("--most-broken", settings.most_broken, 0.0, 1.0)
    number("weight_decay", settings.decay, 0.0, 10.0)
    number("warm_up", settings.warm_up, 0.01, 0.99)
    number("jitter", settings.jitter, 0.0, 1.0)
    low, high = settings.crop_scale
    number("crop_scale[0]", low, 0.01, 1.0)
    number("crop_scale[1]", high, low, 1.0)
    check_techniques(settings.techniques)
    _check_stages(settings)
    if settings.resume and settings.force:
        raise TrainingError(
            "--resume and --force exclude each other.",
            "one goes on with the run, the other one replaces it",
            "give one of them",
        )
    if settings.quantization_aware and settings.weights in (NO_WEIGHTS, PUBLISHED_WEIGHTS):
        raise TrainingError(
            "--quantization-aware goes on from a trained model.",
            f"--weights is '{settings.weights}', which knows none of the classes yet",
            "train first; then give the run with --weights RUN or --weights "
            "RUN/checkpoint.safetensors, and an --out of its own",
        )
    _check_descent(settings)
    _check_processes(settings)
    if settings.weights == PUBLISHED_WEIGHTS:
        _check_published(entry, options)
    elif settings.weights != NO_WEIGHTS and not Path(settings.weights).is_file():
        raise TrainingError(
            f"The weights file {settings.weights} does not exist.",
            "--weights is a file, 'imagenet' or 'none'",
            "check the path",
        )


def _check_stages(settings: TrainSettings) -> None:
    """Refuse stages that contradict each other or the rest.

    Raises:
        TrainingError: what is only for a frozen backbone without one, a frozen backbone of
            weights that nobody trained, or of a network that is trained as int8.
    """
    stages, usual, mixing = settings.techniques.stages, Stages(), settings.techniques.mixing
    if not stages.freeze_backbone:
        names = {
            "unfreeze_blocks": "--unfreeze-from",
            "views": "--views",
            "rate_decay": "--rate-decay",
            "stage_epochs": "--stage-epochs",
            "stage_rate": "--stage-rate",
        }
        given = [flag for name, flag in names.items()
                 if getattr(stages, name) != getattr(usual, name)]  # fmt: skip
        if given:
            raise TrainingError(
                f"{' and '.join(given)} without --freeze backbone.",
                "nothing is frozen: all layers learn from the first epoch on",
                "add --freeze backbone, or leave it away",
            )
        return
    if settings.quantization_aware:
        raise TrainingError(
            "--quantization-aware and --freeze backbone exclude each other.",
            "all layers have to adapt to int8's rounding",
            "train with --freeze backbone first, then go on from that run with "
            "--quantization-aware",
        )
    if settings.weights == NO_WEIGHTS:
        raise TrainingError(
            "--freeze backbone with --weights none.",
            "layers that nobody has trained would be kept as they are",
            "give --weights imagenet or a file, or leave --freeze away",
        )
    mixed = [f"--{name}" for name in ("mixup", "cutmix", "randaugment") if getattr(mixing, name)]
    if mixed and not stages.unfreeze_blocks:
        raise TrainingError(
            f"{' and '.join(mixed)} with --freeze backbone.",
            "pictures are shown to a frozen backbone once, so there is nothing to mix anew",
            "leave it away and ask for more --views, or let layers learn too (--unfreeze-from)",
        )


def _check_descent(settings: TrainSettings) -> None:
    """Refuse what int8's rounding cannot be learned with.

    Raises:
        TrainingError: averaged weights or another precision in a quantization-aware run.
    """
    descent = settings.techniques.descent
    asked = {"--ema": descent.ema > 0, "--precision": descent.precision != "float32"}
    given = [flag for flag, wanted in asked.items() if wanted]
    if settings.quantization_aware and given:
        raise TrainingError(
            f"--quantization-aware and {' and '.join(given)} exclude each other.",
            "the ranges of int8 are those of the very weights that learn, in float32",
            f"leave {' and '.join(given)} away",
        )


def _check_processes(settings: TrainSettings) -> None:
    """Refuse what several processes cannot do together.

    Raises:
        TrainingError: batches that cannot be divided, or a quantization-aware run.
    """
    count = settings.devices * settings.nodes
    refuse_undividable(settings.batch_size, count)
    if count > 1 and settings.quantization_aware:
        raise TrainingError(
            f"--quantization-aware in {count} processes.",
            "it measures int8's ranges and figures in one",
            "leave --devices and --nodes away: it takes a few epochs only",
        )


def refuse_range_test(settings: TrainSettings) -> None:
    """Refuse to try learning rates where that cannot be done.

    Raises:
        TrainingError: a run that is resumed, or several processes.
    """
    if settings.resume:
        raise TrainingError(
            "--find-lr and --resume exclude each other.",
            "a run is resumed at the learning rate that it was begun with",
            "leave one of them away",
        )
    if settings.devices * settings.nodes > 1:
        raise TrainingError(
            "--find-lr tries learning rates in one process.",
            "the rates depend on --batch-size, and that is the same however many share it",
            "leave --devices and --nodes away; give them with the rate that was found",
        )


def _check_published(entry: zoo.Architecture, options: Mapping[str, Any]) -> None:
    if entry.published is None:
        raise TrainingError(
            f"Nobody publishes ImageNet weights of {entry.name}.",
            "torchvision has none",
            "give a weights file, or --weights none to train from nothing",
        )
    for name, value in entry.published_options.items():
        if options[name] != value:
            raise TrainingError(
                f"The published weights of {entry.name} have {name}={value}, not {options[name]}.",
                "weights of another shape cannot be loaded",
                f"leave {name} at {value}, give a weights file, or train with --weights none",
            )
