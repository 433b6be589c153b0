"""The network that a training begins with."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import URLError

from models import checkpoint, state_files, zoo
from models.contract import Contract, Label, Normalization
from models.normalization import renormalize
from models.torchvision_shim import import_torchvision
from models.training.record import CHECKPOINT
from models.training.settings import (
    NO_WEIGHTS,
    PUBLISHED_WEIGHTS,
    TrainingError,
    TrainSettings,
)

if TYPE_CHECKING:
    from torch import Tensor, nn


def starting_network(
    settings: TrainSettings, labels: tuple[Label, ...], on_message: Callable[[str], None]
) -> nn.Module:
    """A network in training mode that takes `pixel / 127.5 - 1`.

    Fresh, or with the weights that the settings name: their first convolution is
    rewritten to that normalization, and their head replaced unless they come from a
    checkpoint with the very same labels.

    Raises:
        CheckpointError: the weights file cannot be used.
        TrainingError: the published weights cannot be downloaded.
    """
    import torch

    from models.initialization import initialize

    entry = zoo.get(settings.architecture)
    torch.manual_seed(settings.seed)
    if settings.weights == NO_WEIGHTS:
        on_message(f"{entry.name}: fresh weights")
        net = entry.create(len(labels), settings.options)
        initialize(net, entry)
        return net
    return _continued_network(settings, entry, labels, on_message)


def weights_file(weights: str) -> str:
    """The checkpoint of a run whose folder was given; other weights as they are."""
    if weights in (NO_WEIGHTS, PUBLISHED_WEIGHTS) or not Path(weights).is_dir():
        return weights
    return str(Path(weights) / CHECKPOINT)


def continued(settings: TrainSettings) -> TrainSettings:
    """A quantization-aware run with all that its checkpoint says of itself filled in.

    The architecture, its options, the rule for pictures, the labels and the name are those
    of the checkpoint that `weights` names, or of the run whose folder it names. Other
    settings are given back as they are.

    Raises:
        TrainingError: an option was given and is another one; a network of several answers.
        CheckpointError: the file cannot be used.
    """
    if not settings.quantization_aware or settings.weights in (NO_WEIGHTS, PUBLISHED_WEIGHTS):
        return settings
    path = Path(weights_file(settings.weights))
    found = checkpoint.load_checkpoint(path)
    other = {k: v for k, v in settings.options.items() if found.options.get(k) != v}
    if other:
        raise TrainingError(
            f"{path} was trained with other options.",
            ", ".join(f"{k} is {found.options.get(k)} there, not {v}" for k, v in other.items()),
            "leave them away: quantization-aware training goes on with the checkpoint's",
        )
    contract = found.contract
    if contract.activation != "softmax":
        raise TrainingError(
            f"{path} gives several answers at once.",
            f"its activation is {contract.activation}; a folder per class teaches one answer",
            "train it where it was trained, or let exporter export quantize it as it is",
        )
    return replace(
        settings,
        weights=str(path),
        architecture=found.architecture,
        options=found.options,
        labels=contract.labels if settings.labels is None else settings.labels,
        name=settings.name or contract.name,
        resize_shorter_side=contract.preprocessing.resize_shorter_side,
    )


def _continued_network(
    settings: TrainSettings,
    entry: zoo.Architecture,
    labels: tuple[Label, ...],
    on_message: Callable[[str], None],
) -> nn.Module:
    """A network with the weights that the settings name."""
    normalization = entry.normalization
    same_labels, temperature = False, 1.0
    if settings.weights == PUBLISHED_WEIGHTS:
        state, origin = published_state(entry), str(entry.published)
    else:
        origin = settings.weights
        found = state_files.read(Path(origin))
        state = found.state
        if found.header is not None:
            contract = _contract_of(found.header, entry, origin)
            normalization = contract.preprocessing.normalization
            temperature = json.loads(found.header).get("temperature", 1.0)
            same_labels = contract.names == tuple(label.name for label in labels)
    if settings.quantization_aware and not same_labels:
        raise TrainingError(
            f"{origin} was trained on other classes.",
            "quantization-aware training goes on with a trained head, in the order of its labels",
            "give the data that it was trained on, or train on the new classes first",
        )
    classes = state_files.outputs_of(state, entry.name) or len(labels)
    state = state_files.check_match(state, entry.name, classes, settings.options, origin)
    if normalization != Normalization():
        state = renormalize(state, entry.stem, normalization, Normalization())
    net = entry.create(classes, settings.options)
    net.load_state_dict(state)
    if temperature != 1.0:
        on_message(
            f"the temperature of {origin}, {temperature:g}, is left behind: "
            "training goes on from the logits as they were trained"
        )
    on_message(
        f"{entry.name}: weights of {origin}, "
        + (f"head kept ({classes} classes)" if same_labels else f"new head ({len(labels)} classes)")
    )
    return net if same_labels else entry.replace_head(net, len(labels))


def published_state(entry: zoo.Architecture) -> dict[str, Tensor]:
    """The state_dict that torchvision publishes, downloaded into torch's cache.

    Raises:
        TrainingError: nobody publishes one, or it cannot be downloaded.
    """
    torchvision = import_torchvision()
    if entry.published is None:
        raise TrainingError(f"Nobody publishes weights of {entry.name}.", "", "give a file")
    enum, member = entry.published.split(".")
    weights = getattr(torchvision.models, enum)[member]
    try:
        return dict(weights.get_state_dict(progress=False, check_hash=True))
    except (URLError, HTTPException, TimeoutError, ConnectionError) as error:
        raise TrainingError(
            "The ImageNet weights cannot be downloaded: there is no way to the network.",
            f"{weights.url}: {getattr(error, 'reason', None) or error}",
            "download that file on another machine and give it with --weights FILE, "
            "or train from nothing with --weights none",
        ) from error
    except (OSError, RuntimeError) as error:  # a full disk, or a hash that does not match
        raise TrainingError(
            "The ImageNet weights were not stored.",
            f"{weights.url}: {error}",
            "make room or try again, or give a file with --weights FILE",
        ) from error


def _contract_of(header: str, entry: zoo.Architecture, origin: str) -> Contract:
    """The contract of a checkpoint whose backbone is to be used again."""
    try:
        content = json.loads(header)
        architecture = content["architecture"]
        contract = Contract.from_json(content["contract"])
    except (ValueError, KeyError, TypeError) as error:
        raise checkpoint.CheckpointError(
            f"{origin} has a damaged header.", str(error), "take another weights file"
        ) from error
    if architecture != entry.name:
        raise checkpoint.CheckpointError(
            f"{origin} holds a {architecture}.",
            f"a {entry.name} was to be trained",
            f"add --arch {architecture}, or take other weights",
        )
    return contract
