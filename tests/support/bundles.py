"""Files that a user would bring, made small: a checkpoint, an ONNX file, photographs."""

from __future__ import annotations

import colorsys
import functools
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from support import nets

DECIDED = Path(__file__).parents[1] / "data" / "decided.safetensors"


def write_images(folder: Path, count: int, seed: int = 0, size: int = 96) -> Path:
    """`count` different PNGs, flat in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        Image.fromarray(nets.image(1000 * seed + index, size)).save(folder / f"{index:03}.png")
    return folder


def _write(path: Path, net: Any) -> Path:
    from models.checkpoint import Checkpoint, save_checkpoint

    options = {"width_mult": nets.WIDTH, "input_size": nets.SIZE}
    state = {name: value.clone() for name, value in net.state_dict().items()}
    save_checkpoint(Checkpoint("mobilenet_v2", options, state, nets.small_contract()), path)
    return path


def class_image(group: int, seed: int, size: int) -> nets.Pixels:
    """A picture of class `group`: a hue of its own under one of `nets.image`'s patterns."""
    hue = np.array(colorsys.hsv_to_rgb(group / nets.CLASSES, 0.9, 1.0)) * 255
    pattern = nets.image(7919 * (group + 1) + seed, size).mean(axis=2, keepdims=True)
    mixed = 0.85 * hue + 0.15 * pattern
    return np.clip(mixed, 0, 255).astype(np.uint8)


def write_class_images(folder: Path, per_class: int, seed: int = 0, size: int = 96) -> Path:
    """`per_class` PNGs in one folder a class, named as the labels of `nets.small_contract`."""
    for group, label in enumerate(nets.small_contract().names):
        (folder / label).mkdir(parents=True)
        for index in range(per_class):
            picture = class_image(group, 1000 * seed + index, size)
            Image.fromarray(picture).save(folder / label / f"{index:03}.png")
    return folder


@functools.lru_cache(maxsize=1)
def decided_net() -> Any:
    """The small network, trained to tell `class_image`'s classes apart.

    A network with random weights changes its first answer on every other image when
    it is quantized, as no trained one does; it could not pass the int8 gate. The
    weights lie in tests/data; `train_decided.py` made them.
    """
    import copy

    from safetensors.torch import load_file

    net = copy.deepcopy(nets.small_net())
    net.load_state_dict(load_file(DECIDED))
    return net.float().eval()


def write_decided_checkpoint(path: Path) -> Path:
    """`decided_net` as one of our checkpoints."""
    return _write(path, decided_net())


def write_decided_onnx(path: Path) -> Path:
    """`decided_net` as model.onnx is written: pixels to probabilities, contract inside."""
    from exporter.convert.to_onnx import export_classifier
    from models.classifier import Classifier

    contract = nets.small_contract()
    export_classifier(Classifier(decided_net(), contract), contract, path)
    return path
