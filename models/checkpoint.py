"""One file that carries a trained classifier: weights, architecture and contract.

Written as safetensors with one metadata entry, `exporter`, whose JSON holds
`schema`, `architecture`, `options`, `contract` and, where there is something to note,
`training` and `temperature`. Read back from that, or from a
file of `torch.save({"exporter": JSON, "state_dict": ...})`.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models import state_files, zoo
from models.contract import Contract, Label, Preprocessing
from models.errors import MissingExtraError
from models.state_files import CheckpointError
from models.torchvision_shim import import_torchvision

if TYPE_CHECKING:
    from torch import Tensor, nn

SCHEMA = 1
LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.05, 20.0

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "build",
    "default_resize",
    "imagenet_labels",
    "load_checkpoint",
    "load_state_dict_file",
    "save_checkpoint",
]


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A trained classifier at rest.

    Attributes:
        architecture: a name of the zoo.
        options: all of the architecture's options; those not given get their
            defaults, 'input_size' the contract's.
        state: the network's state_dict, on the CPU.
        contract: what goes in and comes out; its `architecture` is made the one here.
        training: notes on how it was trained, as JSON; nothing depends on them.
        temperature: what the logits are divided by before the activation (Guo et al. 2017,
            arXiv:1706.04599, section 4.2), in [0.05, 20]. `state` is what was trained,
            at temperature 1, so that training goes on from it; `build` divides the head.

    Raises:
        ZooError: unknown architecture or option, or a value out of range.
        CheckpointError: 'input_size' is not the contract's, or only one of network and
            contract is of grayscale, or a temperature that is out of range.
    """

    architecture: str
    options: Mapping[str, int | float]
    state: Mapping[str, Tensor]
    contract: Contract
    training: Mapping[str, Any] = field(default_factory=dict)
    temperature: float = 1.0

    def __post_init__(self) -> None:
        rule = self.contract.preprocessing
        entry = zoo.get(self.architecture)
        options = entry.settle({"input_size": rule.height, **self.options})
        if options["input_size"] not in (rule.height, rule.width):
            raise CheckpointError(
                f"The network's input_size is {options['input_size']}, "
                f"its contract says {rule.height} x {rule.width}.",
                "the exported files would take pictures of the wrong size",
                "make the two agree",
            )
        if rule.grayscale != entry.grayscale:
            raise CheckpointError(
                f"{entry.name} takes {'one channel' if entry.grayscale else 'three channels'}, "
                f"its contract says input.grayscale: {str(rule.grayscale).lower()}.",
                "the exported files would be fed other pictures than the network was trained on",
                "make the two agree",
            )
        _refuse_temperature(self.temperature)
        object.__setattr__(self, "temperature", float(self.temperature))
        contract = replace(self.contract, architecture=self.architecture)
        object.__setattr__(self, "options", options)
        object.__setattr__(self, "contract", contract)


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint as safetensors, beside and renamed into place.

    The same checkpoint gives the same bytes.

    Raises:
        CheckpointError: the weights are not those of the architecture, or the file
            cannot be written.
        MissingExtraError: safetensors is not installed.
    """
    try:
        from safetensors.torch import save
    except ImportError as error:
        raise MissingExtraError("safetensors", "torch", "Writing a checkpoint") from error
    state = _checked(checkpoint.state, checkpoint, path)
    header = {
        "schema": SCHEMA,
        "architecture": checkpoint.architecture,
        "options": dict(checkpoint.options),
        "contract": checkpoint.contract.to_json(),
    }
    if checkpoint.training:
        header["training"] = dict(checkpoint.training)
    if checkpoint.temperature != 1.0:
        header["temperature"] = checkpoint.temperature
    # One metadata entry only: safetensors writes several in random order.
    content = save(
        {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()},
        {state_files.HEADER: json.dumps(header, ensure_ascii=False, sort_keys=True)},
    )
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise CheckpointError(
            f"{path} cannot be written.", error.strerror or str(error), "choose another place"
        ) from error


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        CheckpointError: missing or damaged file, a pickle that is not a checkpoint,
            a bare state_dict, NaN weights, weights of another architecture, or labels
            whose number is not that of the outputs.
        ContractError, ZooError: the contract or the architecture in it is not sound.
    """
    found = state_files.read(path)
    if found.header is None:
        raise CheckpointError(
            f"{path} holds weights only.",
            "a state_dict says neither what architecture it is nor what its classes are called",
            "say it: --arch mobilenet_v2 --labels labels.txt (or --labels imagenet)",
        )
    header = _parse_header(found.header, path)
    checkpoint = Checkpoint(
        header["architecture"],
        header["options"],
        found.state,
        Contract.from_json(header["contract"]),
        header.get("training", {}),
        header.get("temperature", 1.0),
    )
    return replace(checkpoint, state=_checked(found.state, checkpoint, path))


def load_state_dict_file(
    path: Path,
    architecture: str,
    labels: tuple[Label, ...],
    options: Mapping[str, int | float] | None = None,
    resize_shorter_side: int | None = None,
) -> Checkpoint:
    """Make a checkpoint of a bare state_dict, such as torchvision publishes.

    Its normalization is taken to be that of the architecture's published weights
    (ImageNet mean and standard deviation). The shorter side is resized to 256 for
    an input of 224, in proportion for others, unless `resize_shorter_side` says
    otherwise.

    Args:
        labels: one for each output, in the order of training.

    Raises:
        CheckpointError: see `load_checkpoint`; also for a file that is a checkpoint
            already, whose contract must not be replaced.
        ZooError: unknown architecture or option.
    """
    entry = zoo.get(architecture)
    settled = entry.settle(options)
    found = state_files.read(path)
    if found.header is not None:
        raise CheckpointError(
            f"{path} is a checkpoint that carries its own contract.",
            "other labels or another architecture would contradict it",
            "leave --arch and --labels away",
        )
    size = int(settled["input_size"])
    rule = Preprocessing(
        height=size,
        width=size,
        resize_shorter_side=resize_shorter_side or default_resize(size),
        normalization=entry.normalization,
        grayscale=entry.grayscale,
    )
    state = state_files.check_match(found.state, architecture, len(labels), settled, path)
    contract = Contract(labels, rule, name=Path(path).stem, architecture=architecture)
    return Checkpoint(architecture, settled, state, contract)


def build(checkpoint: Checkpoint) -> nn.Module:
    """The network of a checkpoint in eval mode, with its own copy of the weights.

    Weight and bias of the head are divided by the checkpoint's temperature: a head of
    plain products and sums, and whatever stands behind it in the zoo (ReLU and average
    pooling in SqueezeNet), then gives logits divided by it, at no cost in any file.

    Returns:
        A module from normalized float32 `[N, 3, height, width]` to logits
        `[N, classes]`, calibrated ones; `models.classifier.Classifier` puts pixels before it and
        probabilities behind it.

    Raises:
        CheckpointError: the weights are not those of the architecture.
    """
    import torch

    state = _checked(checkpoint.state, checkpoint, "The checkpoint")
    entry, classes = zoo.get(checkpoint.architecture), len(checkpoint.contract.labels)
    with torch.device("meta"):  # initial weights would be thrown away, after seconds for VGG16
        net = entry.create(classes, checkpoint.options)
    net.load_state_dict({name: tensor.clone() for name, tensor in state.items()}, assign=True)
    if any(_not_there(value) for part in net.modules() for value in _tensors(part)):
        with torch.random.fork_rng(devices=[]):
            net = entry.create(classes, checkpoint.options)
        net.load_state_dict(dict(state))
    if checkpoint.temperature != 1.0:
        with torch.no_grad():
            for values in net.get_submodule(entry.head).parameters(recurse=False):
                values.div_(checkpoint.temperature)
    return net.eval()


def _refuse_temperature(value: Any) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and math.isfinite(value) and LOWEST_TEMPERATURE <= value <= HIGHEST_TEMPERATURE:
        return
    raise CheckpointError(
        f"The checkpoint's temperature is {value!r}.",
        f"logits are divided by a number from {LOWEST_TEMPERATURE:g} to {HIGHEST_TEMPERATURE:g}",
        "1 leaves the probabilities as they were trained; fit it anew on validation images",
    )


def _tensors(part: nn.Module) -> Iterator[Any]:
    """What a module holds of its own, tensors among it."""
    for held in (part._parameters, part._buffers, vars(part)):
        yield from held.values()


def _not_there(value: Any) -> bool:
    """Whether it is a tensor that no state_dict stores: it has a shape, and no numbers."""
    return bool(getattr(value, "is_meta", False))


def imagenet_labels() -> tuple[Label, ...]:
    """The 1000 ImageNet classes in the order of torchvision's models, from its metadata.

    Raises:
        MissingExtraError: torchvision is not installed.
    """
    import_torchvision()
    from torchvision.models import MobileNet_V2_Weights

    categories = MobileNet_V2_Weights.IMAGENET1K_V1.meta["categories"]
    return tuple(Label(name) for name in apart(categories))


def apart(names: Sequence[str]) -> tuple[str, ...]:
    """Names that are all different: each one that occurs more than once gets its index.

    ("crane", "bus", "crane") becomes ("crane (0)", "bus", "crane (2)"). Some releases
    of torchvision name two ImageNet classes alike.
    """
    counted = Counter(names)
    return tuple(
        f"{name} ({index})" if counted[name] > 1 else name for index, name in enumerate(names)
    )


def default_resize(size: int) -> int:
    """The shorter side before a centre crop of `size`: 256 for 224, as torchvision does."""
    return round(size * 256 / 224)


def _checked(
    state: Mapping[str, Tensor], checkpoint: Checkpoint, origin: object
) -> dict[str, Tensor]:
    return state_files.check_match(
        state,
        checkpoint.architecture,
        len(checkpoint.contract.labels),
        checkpoint.options,
        origin,
    )


def _parse_header(text: str, path: Path) -> dict[str, Any]:
    try:
        header = json.loads(text)
        schema = header["schema"]
        sound = isinstance(header["architecture"], str) and isinstance(header["options"], dict)
        sound = sound and "contract" in header and isinstance(header.get("training", {}), dict)
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} has a damaged header.", str(error), "train or convert it again"
        ) from error
    if schema != SCHEMA or not sound:
        raise CheckpointError(
            f"{path} was written by another version of the exporter.",
            f"its schema is {schema!r}, this one reads {SCHEMA}",
            "update the exporter",
        )
    return dict(header)
