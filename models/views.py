"""Photographs as a frozen backbone is shown them: plain, or each in a drawn way of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from models.contract import Preprocessing
from models.data.labelled import Item
from models.images import open_rgb, resize, to_square
from models.torchvision_shim import import_torchvision

if TYPE_CHECKING:
    from torch import nn

BATCH = 16


@dataclass(frozen=True)
class View:
    """One way of showing every photograph to the backbone.

    Attributes:
        number: 0 is the plain view, the very square that every artifact takes; any other
            number draws its own crop, mirroring and colours for each image.
        crop_scale: smallest and largest share of the area that a crop keeps.
        jitter: how far brightness, contrast and saturation wander; 0 for none.
        vertical_flip: also mirror top to bottom.
    """

    number: int = 0
    crop_scale: tuple[float, float] = (0.5, 1.0)
    jitter: float = 0.1
    vertical_flip: bool = False

    def to_json(self) -> dict[str, Any]:
        """What decides the pictures; of the plain view that is nothing but its number."""
        return asdict(self) if self.number else {"number": 0}


def batches(
    rule: Preprocessing, items: Sequence[Item], view: View, seed: int
) -> Iterator[npt.NDArray[np.uint8]]:
    """uint8 `[n, height, width, 3]`; the next batch is decoded while one is in use."""

    def decode(item: Item) -> npt.NDArray[np.uint8]:
        photograph = open_rgb(item.path, rule.exif)
        picture = resize(photograph, rule) if view.number else to_square(photograph, rule)
        return np.asarray(picture, dtype=np.uint8)

    augment = _augmentation(rule, view) if view.number else None
    parts = [items[start : start + BATCH] for start in range(0, len(items), BATCH)]
    with ThreadPoolExecutor(max_workers=2) as pool:

        def send(part: Sequence[Item]) -> list[Future[npt.NDArray[np.uint8]]]:
            return [pool.submit(decode, item) for item in part]

        waiting = send(parts[0])
        for place, part in enumerate(parts):
            decoded = [each.result() for each in waiting]
            if place + 1 < len(parts):
                waiting = send(parts[place + 1])
            if augment is not None:
                pairs = zip(part, decoded, strict=True)
                decoded = [augment(picture, _drawn(item, view, seed)) for item, picture in pairs]
            yield np.stack(decoded)


def _augmentation(
    rule: Preprocessing, view: View
) -> Callable[[npt.NDArray[np.uint8], int], npt.NDArray[np.uint8]]:
    """From a whole photograph and a seed to the square that an augmented view shows."""
    import torch

    import_torchvision()
    from torchvision.transforms import v2

    size = (rule.height, rule.width)
    steps: list[nn.Module] = [
        v2.RandomResizedCrop(size, scale=view.crop_scale, antialias=True),
        v2.RandomHorizontalFlip(),
    ]
    if view.vertical_flip:
        steps.append(v2.RandomVerticalFlip())
    if view.jitter > 0:
        steps.append(v2.ColorJitter(view.jitter, view.jitter, view.jitter))
    transform = v2.Compose(steps)

    def augment(picture: npt.NDArray[np.uint8], drawn: int) -> npt.NDArray[np.uint8]:
        # torchvision's transforms draw from the global generator, which stays untouched.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(drawn)
            shown = transform(torch.from_numpy(picture.copy()).permute(2, 0, 1))
        return np.asarray(shown.permute(1, 2, 0).numpy())

    return augment


def _drawn(item: Item, view: View, seed: int) -> int:
    """63 bits from the image's content, the view and the seed: not from its place in a list."""
    text = f"{seed} {view.number} {item.digest}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1
