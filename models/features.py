"""What a frozen backbone makes of photographs, computed once and kept on disk.

Training a new head costs next to nothing once the layers before it have been run. So
they are run once for each image and each way of showing it (a `View`), and what the head
would get is kept:

    ROOT/KEY/features.npy    [images, *shape], float32 or float16, C order
    ROOT/KEY/features.json   architecture, options, shape, dtype, view, seconds, and the
                             parts of the key

`shape` is that of the head's input for one image: `[channels]` before a dense layer,
`[channels, rows, columns]` before a convolution. Row i belongs to the i-th image asked
for. The file is mapped into memory read-only, so a set larger than memory can be used.

KEY is a sha256 over all that decides the numbers: the architecture with its options, the
weights of everything before the head, the rule that makes pixels of a photograph, the
sha256 of every image in order, the view, the seed (of other views than the plain one),
the number format, and the versions of the libraries that compute. The head is no part of
it: other classes, another learning rate or another seed find the same features. A folder
is written beside its place and renamed, so what is there is whole.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from models import zoo
from models.atomic import beside
from models.contract import Preprocessing
from models.data.labelled import DataError, Item
from models.views import View, batches

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from models.classifier import Classifier

SCHEMA = 1
DATA, RECORD = "features.npy", "features.json"
_LARGE = 8192  # numbers an image from which features are stored as float16
_PACKAGES = ("torch", "torchvision", "pillow")
Number = Literal["float32", "float16"]
OnImage = Callable[[], None]


@dataclass(frozen=True, eq=False)
class Backbone:
    """A network whose layers before the head stay as they are.

    Attributes:
        architecture, options: as in the zoo, every option with its value.
        classifier: the network behind its normalization; put into eval mode here.
    """

    architecture: str
    options: Mapping[str, int | float]
    classifier: Classifier

    def __post_init__(self) -> None:
        self.classifier.eval()

    @property
    def rule(self) -> Preprocessing:
        """From a photograph to pixels."""
        return self.classifier.contract.preprocessing

    @cached_property
    def tail(self) -> nn.Module:
        """The layers from the head on: head inputs to logits `[n, classes]`."""
        return zoo.get(self.architecture).tail(self.classifier.net)

    @cached_property
    def weights_hash(self) -> str:
        """sha256 (hex) over all that stands before the head, by name.

        The last layers of auxiliary heads, which exist in training only, do not count.
        """
        entry, net = zoo.get(self.architecture), self.classifier.net
        spared = {id(value) for value in self.tail.state_dict(keep_vars=True).values()}
        for path in entry.auxiliary:
            held = net.get_submodule(path).state_dict(keep_vars=True)
            spared |= {id(value) for value in held.values()}
        total = hashlib.sha256()
        for name, value in sorted(net.state_dict(keep_vars=True).items()):
            if id(value) not in spared:
                array = value.detach().cpu().contiguous().numpy()
                total.update(f"{name} {array.dtype} {array.shape}\0".encode())
                total.update(array.tobytes())
        return total.hexdigest()

    def features(self, pixels: Tensor) -> Tensor:
        """uint8 `[n, height, width, 3]` to the head's input, float32 `[n, *shape]`."""
        import torch

        caught: list[Tensor] = []
        head = self.classifier.net.get_submodule(zoo.get(self.architecture).head)

        def catch(module: nn.Module, given: tuple[Tensor, ...]) -> None:
            caught.append(given[0])

        handle = head.register_forward_pre_hook(catch)
        try:
            with torch.inference_mode():
                given = self.classifier.normalize(pixels.to(self.device))
                self.classifier.net(given.contiguous(memory_format=torch.channels_last))
        finally:
            handle.remove()
        if len(caught) != 1:
            raise RuntimeError(f"the head of {self.architecture} ran {len(caught)} times")
        return caught[0].cpu()

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.classifier.net.parameters()).device

    @cached_property
    def number(self) -> Number:
        """What to store features as: float16 for large maps, which would fill the disk."""
        import torch

        grey = torch.full((1, self.rule.height, self.rule.width, 3), 128, dtype=torch.uint8)
        count = math.prod(self.features(grey).shape[1:])
        return "float16" if count > _LARGE else "float32"


@dataclass(frozen=True, eq=False)
class Features:
    """The features of some images in one view.

    Attributes:
        values: `[images, *shape]`, mapped read-only; rows in the order of the images.
        path: the folder that holds them; its name is the key.
        seconds: what computing them took, in the run that did.
        known: whether they were there already.
    """

    values: npt.NDArray[np.floating[Any]]
    path: Path
    seconds: float
    known: bool


def frozen_features(
    backbone: Backbone,
    items: Sequence[Item],
    root: Path,
    *,
    view: View | None = None,
    seed: int = 0,
    number: Number = "float32",
    on_image: OnImage = lambda: None,
) -> Features:
    """The features of images, from the cache where they are there.

    Args:
        items: the images, in the order of the rows wanted.
        root: the folder of the cache; made where it is not there.
        view: how each image is shown; None for the plain view.
        seed: decides what an augmented view draws; no part of the plain view.
        number: what is stored; float16 halves the file, to about three digits.
        on_image: called after each image that is computed, for a progress bar.

    Raises:
        ImageError: an image cannot be decoded.
        DataError: no image, or no room on the disk.
    """
    if not items:
        raise DataError("There is no image to compute features of.", "", "give some")
    shown = view or View()
    parts = key_parts(backbone, items, view=shown, seed=seed, number=number)
    folder = Path(root) / _key(parts)
    found = _opened(folder)
    if found is not None:
        return found
    started = time.perf_counter()
    try:
        with beside(folder) as staging:
            shape = _write(staging.folder / DATA, backbone, items, shown, seed, number, on_image)
            record = {
                "schema": SCHEMA,
                "architecture": backbone.architecture,
                "options": dict(backbone.options),
                "images": len(items),
                "shape": list(shape),
                "dtype": number,
                "view": shown.to_json(),
                "seconds": round(time.perf_counter() - started, 3),
                "parts": parts,
            }
            text = json.dumps(record, indent=1) + "\n"
            (staging.folder / RECORD).write_text(text, encoding="utf-8")
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise _no_room(len(items), root, error) from error
    made = _opened(folder)
    if made is None:
        raise RuntimeError(f"{folder} was written and cannot be read")
    return Features(made.values, made.path, made.seconds, known=False)


def _no_room(images: int, root: Path, error: OSError) -> DataError:
    return DataError(
        f"There is no room for the features of {images} images in {root}.",
        error.strerror or str(error),
        "free some space or choose another folder",
    )


def key_of(
    backbone: Backbone,
    items: Sequence[Item],
    *,
    view: View | None = None,
    seed: int = 0,
    number: Number = "float32",
) -> str:
    """The name under which features are kept: sha256 (hex), see the module's text."""
    return _key(key_parts(backbone, items, view=view, seed=seed, number=number))


def key_parts(
    backbone: Backbone,
    items: Sequence[Item],
    *,
    view: View | None = None,
    seed: int = 0,
    number: Number = "float32",
) -> dict[str, Any]:
    """All that decides the features, by name, as JSON; same arguments as `key_of`."""
    shown = view or View()
    return {
        "schema": SCHEMA,
        "architecture": backbone.architecture,
        "options": dict(backbone.options),
        "weights": backbone.weights_hash,
        "rule": asdict(backbone.rule),
        "images": hashlib.sha256("\n".join(item.digest for item in items).encode()).hexdigest(),
        "view": shown.to_json(),
        "seed": seed if shown.number else None,
        "dtype": number,
        "versions": {name: metadata.version(name) for name in _PACKAGES},
    }


def differing(parts: Mapping[str, Any], root: Path) -> tuple[str, ...]:
    """In what the features kept in a folder differ from those that are wanted.

    Args:
        parts: of what is wanted, see `key_parts`.

    Returns:
        The names of the parts in which the most similar features of the same view differ;
        none where they are there, or none of that view are.
    """
    wanted = json.loads(json.dumps(parts))
    found: list[tuple[str, ...]] = []
    for path in Path(root).glob(f"*/{RECORD}"):
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))["parts"]
            alike = kept["view"]["number"] == wanted["view"]["number"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if alike:
            found.append(tuple(name for name in wanted if kept.get(name) != wanted[name]))
    return min(found, key=lambda names: (len(names), names), default=())


def _key(parts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _opened(folder: Path) -> Features | None:
    """What lies in a folder of the cache; None where it is not there or not sound."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        values = np.load(folder / DATA, mmap_mode="r")
        sound = list(values.shape) == [record["images"], *record["shape"]]
        sound = sound and record["schema"] == SCHEMA and values.dtype == record["dtype"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not sound:
        return None
    return Features(values, folder, float(record["seconds"]), known=True)


def _write(
    path: Path,
    backbone: Backbone,
    items: Sequence[Item],
    view: View,
    seed: int,
    number: Number,
    on_image: OnImage,
) -> tuple[int, ...]:
    """Write all rows; the shape of one."""
    import torch

    shape: tuple[int, ...] | None = None
    # Written, not mapped: a mapped file on a full disk kills the process with SIGBUS.
    with path.open("wb") as stream:
        for pixels in batches(backbone.rule, items, view, seed):
            rows = backbone.features(torch.from_numpy(pixels)).numpy().astype(number)
            if shape is None:
                shape = rows.shape[1:]
                _write_header(stream, (len(items), *shape), rows.dtype)
            stream.write(np.ascontiguousarray(rows).tobytes())
            for _ in range(len(rows)):
                on_image()
    assert shape is not None
    return shape


def _write_header(stream: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
