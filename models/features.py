"""What a frozen backbone makes of photographs, computed once and kept on disk.

Training a new head costs next to nothing once the layers before it have been run. So
they are run once for each image and each way of showing it (a `View`), and what the head
would get is kept:

    ROOT/KEY/features.npy    [images, *shape], float32 or float16, C order
    ROOT/KEY/features.json   architecture, options, shape, dtype, view, seconds

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
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
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
from models.images import open_rgb, resize, to_square
from models.torchvision_shim import import_torchvision

if TYPE_CHECKING:
    from torch import Tensor, nn

    from models.classifier import Classifier

SCHEMA = 1
DATA, RECORD = "features.npy", "features.json"
BATCH = 16
_PACKAGES = ("torch", "torchvision", "pillow")
Number = Literal["float32", "float16"]
OnImage = Callable[[], None]


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
                given = self.classifier.normalize(pixels)
                self.classifier.net(given.contiguous(memory_format=torch.channels_last))
        finally:
            handle.remove()
        if len(caught) != 1:
            raise RuntimeError(f"the head of {self.architecture} ran {len(caught)} times")
        return caught[0]


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
    folder = Path(root) / key_of(backbone, items, view=shown, seed=seed, number=number)
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
    shown = view or View()
    rule = asdict(backbone.rule)
    parts = {
        "schema": SCHEMA,
        "architecture": backbone.architecture,
        "options": dict(backbone.options),
        "weights": backbone.weights_hash,
        "rule": rule,
        "images": hashlib.sha256("\n".join(item.digest for item in items).encode()).hexdigest(),
        "view": shown.to_json(),
        "seed": seed if shown.number else None,
        "dtype": number,
        "versions": {name: metadata.version(name) for name in _PACKAGES},
    }
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
        for pixels in _batches(backbone.rule, items, view, seed):
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


def _batches(
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
