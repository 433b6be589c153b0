"""From an image file to the pixels a classifier takes; the only place that does it.

Training, calibration and parity all come through here, so none of them can see
other pixels than the rest. The rule itself is `models.contract.Preprocessing`.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from models.contract import Preprocessing
from models.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
MAX_PIXELS = 64_000_000  # a 64-megapixel photograph: 192 MB once decoded
MAX_ELONGATION = 50  # a 1 x 60,000 picture would resize to gigabytes

Pixels = npt.NDArray[np.uint8]


class ImageError(UserError):
    """An image or a folder of images that cannot be used."""


@dataclass(frozen=True)
class ImageFile:
    """One image on disk.

    Attributes:
        path: where it is.
        label: the name of the class folder it lies in, or None in a flat folder.
    """

    path: Path
    label: str | None = None


def list_images(folder: Path) -> list[ImageFile]:
    """The images in a folder, flat or one folder a class, sorted by path.

    Hidden files and folders are passed over, as is every file whose name does not
    end in one of `SUFFIXES`.

    Raises:
        ImageError: the folder is missing or not a folder, holds no image, mixes
            loose images with class folders, or has a class folder without images.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ImageError(
            f"{folder} is not a folder.",
            "images are read from a folder, flat or with one folder a class",
            "check the path",
        )
    loose = _images_in(folder)
    groups = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    found = {group: _images_in(group) for group in groups}
    with_images = [group for group in groups if found[group]]
    if loose and with_images:
        raise ImageError(
            f"{folder} mixes loose images with folders of images.",
            f"{loose[0].name} lies beside the folder {with_images[0].name}",
            "use either a flat folder or one folder a class",
        )
    if loose:
        return [ImageFile(path) for path in loose]
    if not with_images:
        raise ImageError(
            f"{folder} holds no image.",
            f"looked for {', '.join(SUFFIXES)} in it and one folder down",
            "point at a folder of photographs",
        )
    empty = [group.name for group in groups if not found[group]]
    if empty:
        raise ImageError(
            f"{folder} has class folders without images: {', '.join(empty[:5])}.",
            "a class without images cannot be learned or measured",
            "add images or remove the folder",
        )
    return [ImageFile(path, group.name) for group in with_images for path in found[group]]


def _images_in(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith(".")
    )


def content_hash(path: Path) -> str:
    """sha256 (hex) of a file's bytes."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def open_rgb(path: Path, exif: str = "apply") -> Image.Image:
    """Decode one image to RGB, with its EXIF orientation applied.

    Transparent pixels are laid over white. Nothing larger than `MAX_PIXELS` is
    decoded.

    Raises:
        ImageError: the file is missing, no image, cut short, or too large.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels")
                image.load()
                picture = ImageOps.exif_transpose(image) if exif == "apply" else image
                return _to_rgb(picture)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(
            f"{path} is too large to decode.",
            f"{error}; the limit is {MAX_PIXELS // 1_000_000} megapixels",
            "scale the photograph down",
        ) from error
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{path} is not an image.",
            "its content is none of the formats JPEG, PNG or WebP",
            "remove it or save it again as JPEG or PNG",
        ) from error
    except FileNotFoundError as error:
        raise ImageError(f"{path} does not exist.", "", "check the path") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise ImageError(
            f"{path} cannot be decoded.",
            f"{error} (a truncated or damaged file)",
            "remove it or copy it again from where it came",
        ) from error


def check_images(paths: Sequence[Path], exif: str = "apply") -> None:
    """Decode every image once, before long work begins.

    Raises:
        ImageError: one or more cannot be decoded; all of them are named.
    """
    problems = []
    for path in paths:
        try:
            open_rgb(path, exif)
        except ImageError as error:
            problems.append(error)
    raise_all(problems)


def raise_all(problems: Sequence[ImageError]) -> None:
    """Raise what was found wrong with several images as one error; nothing if there is none."""
    if len(problems) == 1:
        raise problems[0]
    if problems:
        shown = "\n".join(f"  {error.what} {error.why}" for error in problems[:20])
        more = f"\n  and {len(problems) - 20} more" if len(problems) > 20 else ""
        raise ImageError(
            f"{len(problems)} images cannot be used:\n{shown}{more}",
            "an image that cannot be decoded can be neither calibrated with nor compared",
            "remove them or copy them again from where they came",
        )


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):  # its convert() would make white of all above 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layered = image.convert("RGBA")
        ground = Image.new("RGBA", layered.size, (255, 255, 255, 255))
        return Image.alpha_composite(ground, layered).convert("RGB")
    return image.convert("RGB")


def resized_size(size: tuple[int, int], rule: Preprocessing) -> tuple[int, int]:
    """Width and height once the shorter side is `rule.resize_shorter_side`.

    Raises:
        ImageError: the picture is more than `MAX_ELONGATION` times as long as wide.
    """
    width, height = size
    if max(size) > MAX_ELONGATION * min(size):
        raise ImageError(
            f"A picture of {width} x {height} pixels is too elongated.",
            f"its centre square would be less than 1/{MAX_ELONGATION} of it",
            "crop it first",
        )
    side = rule.resize_shorter_side
    if width <= height:
        return side, int(side * height / width)
    return int(side * width / height), side


def resize(image: Image.Image, rule: Preprocessing) -> Image.Image:
    """Resize the shorter side as the contract says, without cropping.

    Width first, in a call of its own: from Pillow 13 on one call for both starts with the
    height on some tall pictures, which moves an eighth of the bytes by one.
    """
    width, height = resized_size(image.size, rule)
    for size in ((width, image.height), (width, height)):
        if size != image.size:
            image = image.resize(size, Image.Resampling.BILINEAR)
    return image


def to_square(image: Image.Image, rule: Preprocessing) -> Image.Image:
    """Resize the shorter side and crop the centre, as the contract says."""
    image = resize(image, rule)
    left = round((image.width - rule.width) / 2)
    top = round((image.height - rule.height) / 2)
    return image.crop((left, top, left + rule.width, top + rule.height))


def load_pixels(path: Path, rule: Preprocessing) -> Pixels:
    """One image as the model takes it.

    Returns:
        uint8 RGB, `[height, width, 3]`, values 0..255.

    Raises:
        ImageError: see `open_rgb`.
    """
    return np.asarray(to_square(open_rgb(path, rule.exif), rule), dtype=np.uint8)


def load_batches(
    paths: Sequence[Path], rule: Preprocessing, batch_size: int = 1
) -> Iterator[Pixels]:
    """Images in order, `[n, height, width, 3]` uint8, never more than a batch in memory."""
    for start in range(0, len(paths), batch_size):
        yield np.stack([load_pixels(path, rule) for path in paths[start : start + batch_size]])
