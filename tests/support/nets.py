"""Small networks whose answers move when their weights do.

A freshly initialized network gives nearly the same probabilities for every image,
so nothing can be tested on it. Here the batch-norm statistics are those of images,
and the last layer is scaled until the logits spread like a trained network's.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.contract import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Contract,
    Label,
    Normalization,
    Preprocessing,
)

SIZE = 64
CLASSES = 10
WIDTH = 0.25
HALF = Normalization()  # pixel / 127.5 - 1
IMAGENET = Normalization(IMAGENET_MEAN, IMAGENET_STD)
_LOGIT_SPREAD = 1.5  # standard deviation over classes and images

Pixels = npt.NDArray[np.uint8]


def image(seed: int, size: int = SIZE) -> Pixels:
    """A deterministic picture, uint8 `[size, size, 3]`: a gradient, discs and noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:size, 0:size] / size
    angle = rng.uniform(0, 2 * np.pi)
    ramp = (np.cos(angle) * x + np.sin(angle) * y)[..., None]
    picture = rng.uniform(40, 215, 3) + ramp * rng.uniform(-120, 120, 3)
    for _ in range(rng.integers(2, 6)):
        centre, radius = rng.uniform(0, 1, 2), rng.uniform(0.08, 0.4)
        inside = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2
        picture[inside] = rng.uniform(0, 255, 3)
    picture += rng.normal(0, rng.uniform(2, 25), picture.shape)
    return np.clip(picture, 0, 255).astype(np.uint8)


def images(count: int, size: int = SIZE, seed: int = 0) -> list[Pixels]:
    """`count` different pictures of `image`."""
    return [image(1000 * seed + index, size) for index in range(count)]


def small_contract(
    normalization: Normalization = HALF, activation: Any = "softmax", size: int = SIZE
) -> Contract:
    """Ten labels, a square of 64 pixels."""
    labels = tuple(Label(f"species {index}") for index in range(CLASSES))
    return Contract(
        labels,
        Preprocessing(size, size, size + size // 8, normalization=normalization),
        activation=activation,
        name="small",
        architecture="mobilenet_v2",
    )


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Sums over one thread, so that every process makes the same weights."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@functools.lru_cache(maxsize=4)
def small_net(normalization: Normalization = HALF) -> Any:
    """A calibrated MobileNetV2 (width 0.25): normalized float NCHW to 10 logits, eval mode."""
    import torch

    from models.zoo import create

    with torch.random.fork_rng(), one_thread():
        torch.manual_seed(7)
        net = create("mobilenet_v2", CLASSES, width_mult=WIDTH, input_size=SIZE)
        norms = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        for norm in norms:
            torch.nn.init.uniform_(norm.weight, 0.6, 1.4)
            torch.nn.init.normal_(norm.bias, 0.5, 0.3)
            norm.momentum = None  # the plain mean over all batches
        for block in net.features[1:-1]:
            torch.nn.init.uniform_(block.conv[-1].weight, 0.3, 0.7)  # residual branches
        pixels = torch.from_numpy(np.stack(images(32))).permute(0, 3, 1, 2).float()
        mean = torch.tensor(normalization.mean).reshape(1, 3, 1, 1)
        std = torch.tensor(normalization.std).reshape(1, 3, 1, 1)
        given = ((pixels - mean) / std).float()
        with torch.no_grad():
            net.train()
            net(given)
            net.eval()
            for norm in norms:
                norm.momentum = 0.1
            head = net.classifier[1]
            logits = net(given)
            centred = logits - logits.mean(0)
            factor = _LOGIT_SPREAD / float(centred.std())
            head.weight *= factor
            head.bias.copy_(head.bias - factor * (logits - head.bias).mean(0))
    return net.eval()


def small_checkpoint(normalization: Normalization = HALF) -> Any:
    """The small network as a `models.checkpoint.Checkpoint`."""
    from models.checkpoint import Checkpoint

    return Checkpoint(
        architecture="mobilenet_v2",
        options={"width_mult": WIDTH, "input_size": SIZE},
        state=small_net(normalization).state_dict(),
        contract=small_contract(normalization),
    )


def small_onnx(path: Path, normalization: Normalization = HALF) -> Contract:
    """Write the small network as `model.onnx` is written; returns its contract.

    torch takes seconds to export it, so the file is kept in the temporary folder
    under a hash of all the code that makes it, and shared by processes.
    """
    kept = Path(tempfile.gettempdir()) / f"exporter-small-{_made_by(normalization)}.onnx"
    if not kept.is_file():
        from exporter.convert.to_onnx import export_checkpoint

        partial = kept.with_suffix(f".{os.getpid()}")
        export_checkpoint(small_checkpoint(normalization), partial)
        partial.replace(kept)
    Path(path).write_bytes(kept.read_bytes())
    return small_contract(normalization)


@functools.lru_cache(maxsize=4)
def _made_by(normalization: Normalization) -> str:
    """A hash of everything that decides the bytes of the small file."""
    root = Path(__file__).parents[2]
    makers = [Path(__file__), *sorted((root / "models").glob("*.py"))]
    names = ("to_onnx", "fuse_torch", "onnx_fold", "onnx_file")
    makers += [root / "exporter" / "convert" / f"{name}.py" for name in names]
    digest = hashlib.sha256(repr(normalization).encode())
    for path in makers:
        digest.update(path.read_bytes())
    for package in ("torch", "torchvision", "onnx", "onnxscript", "onnxsim"):
        digest.update(importlib.metadata.version(package).encode())
    return digest.hexdigest()[:20]
