"""Files that a user would bring, made small: a checkpoint, an ONNX file, photographs."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from support import nets


def write_images(folder: Path, count: int, seed: int = 0, size: int = 96) -> Path:
    """`count` different PNGs, flat in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        Image.fromarray(nets.image(1000 * seed + index, size)).save(folder / f"{index:03}.png")
    return folder


def write_checkpoint(path: Path) -> Path:
    """The small calibrated MobileNetV2 as one of our checkpoints."""
    from models.checkpoint import Checkpoint, save_checkpoint

    options = {"width_mult": nets.WIDTH, "input_size": nets.SIZE}
    state = {name: value.clone() for name, value in nets.small_net().state_dict().items()}
    save_checkpoint(Checkpoint("mobilenet_v2", options, state, nets.small_contract()), path)
    return path
