"""A network of several answers: which of five hues are in a picture, some of them or none.

The trained backbone of `bundles.decided_net` under a logistic head that is fitted here, in a
second, with the thresholds that suit it and a temperature.
"""

from __future__ import annotations

import csv
import functools
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from models.contract import Contract, Label
from models.thresholds import tune_thresholds
from support import bundles, nets

TEMPERATURE = 1.6
CLASSES = 5
_FITTED_ON = 240
Truth = tuple[int, ...]


def picture(seed: int, size: int = 96) -> tuple[nets.Pixels, Truth]:
    """A grey picture, or one of which one or two sides have the hue of a class."""
    random = np.random.default_rng(seed)
    pixels = np.repeat(nets.image(seed, size).mean(axis=2, keepdims=True), 3, axis=2)
    pixels = np.clip(0.4 * pixels + 70, 0, 255).astype(np.uint8)
    kinds = sorted(random.choice(CLASSES, int(random.integers(3)), replace=False).tolist())
    for place, kind in enumerate(kinds):
        half = slice(place * size // 2, (place + 1) * size // 2)
        pixels[:, half] = bundles.class_image(2 * kind, seed, size)[:, half]
    return pixels, tuple(kinds)


def write_pictures(folder: Path, count: int, seed: int = 0) -> Path:
    """`count` pictures with their classes in labels.csv, 'a|b' or nothing."""
    folder.mkdir(parents=True)
    with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["file", "labels"])
        for index in range(count):
            pixels, truth = picture(1000 * seed + index)
            Image.fromarray(pixels).save(folder / f"{index:03}.png")
            rows.writerow([f"{index:03}.png", "|".join(f"hue {kind}" for kind in truth)])
    return folder


@functools.lru_cache(maxsize=1)
def checkpoint() -> Any:
    """As a training would store it: raw weights, the temperature, thresholds by class."""
    import copy
    from dataclasses import replace

    import torch

    from models.checkpoint import Checkpoint

    with nets.one_thread():
        net = copy.deepcopy(bundles.decided_net())
        made = [picture(50_000 + index, nets.SIZE) for index in range(_FITTED_ON)]
        truth = np.array([[kind in kinds for kind in range(CLASSES)] for _, kinds in made])
        pixels = torch.from_numpy(np.stack([one for one, _ in made])).permute(0, 3, 1, 2)
        head = torch.nn.Linear(net.classifier[1].in_features, CLASSES)
        net.classifier = torch.nn.Identity()
        with torch.no_grad():
            features = net(pixels.float() / 127.5 - 1)
        logits = _fit(head, features, torch.from_numpy(truth).float())
        net.classifier = torch.nn.Sequential(torch.nn.Dropout(0.2), head)
    contract = replace(
        nets.small_contract(activation="sigmoid"),
        labels=tuple(Label(f"hue {kind}") for kind in range(CLASSES)),
        thresholds=tune_thresholds(1 / (1 + np.exp(-logits / TEMPERATURE)), truth),
    )
    options = {"width_mult": nets.WIDTH, "input_size": nets.SIZE}
    return Checkpoint(
        "mobilenet_v2", options, net.eval().state_dict(), contract, temperature=TEMPERATURE
    )


def contract() -> Contract:
    found: Contract = checkpoint().contract
    return found


def _fit(head: Any, features: Any, truth: Any) -> npt.NDArray[np.float64]:
    """Logistic regression, a little regularized; gives the logits of what it was fitted on."""
    import torch

    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=150, line_search_fn="strong_wolfe")

    def loss() -> Any:
        optimizer.zero_grad()
        found = torch.nn.functional.binary_cross_entropy_with_logits(head(features), truth)
        found = found + 1e-4 * head.weight.square().sum()
        found.backward()
        return found

    optimizer.step(loss)
    with torch.no_grad():
        logits: npt.NDArray[np.float64] = head(features).numpy().astype(np.float64)
    return logits
