"""Two photographs in golden/ that are not square yet, for apps to replay their own preprocessing.

`photo.png` is lossless, so an app's resize and crop must give `photo_square.png` to the
bit. `photo.jpg` shows the same picture, stored turned with an EXIF orientation; two JPEG
decoders differ by a few grey levels, so `photo_jpg_square.png` is met within the bounds
that golden.json states.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from models.contract import Preprocessing
from models.images import load_pixels, open_rgb

PNG, JPEG = "photo.png", "photo.jpg"
_TURN_LEFT = 6  # EXIF 2.32, tag 0x0112: row 0 of the stored picture is its right side
_ORIENTATION = 0x0112
_LARGEST = 1.5  # shorter side in units of the contract's: something is left to scale down
# Grey levels: no decoder that was tried came near. A fast inverse DCT, and chroma enlarged
# without smoothing, move this photograph by up to 20, 1.6 in the mean (docs/contract.md).
JPEG_MAX_DIFFERENCE = 32
JPEG_MEAN_DIFFERENCE = 2.0


def write_photos(folder: Path, source: Path, rule: Preprocessing) -> list[dict[str, Any]]:
    """Write the two photographs and the squares that the contract makes of them.

    Args:
        folder: golden/.
        source: a photograph; it is scaled down, and cropped to 4:3 where it is square.
        rule: the contract's.

    Returns:
        The entries for golden.json.

    Raises:
        ImageError: the photograph cannot be decoded.
    """
    picture = _reduced(open_rgb(source), rule)
    picture.save(folder / PNG, format="PNG", compress_level=9)
    exif = Image.Exif()
    exif[_ORIENTATION] = _TURN_LEFT
    stored = picture.transpose(Image.Transpose.ROTATE_90)
    stored.save(folder / JPEG, format="JPEG", quality=90, exif=exif.tobytes())
    entries = []
    for name, square, largest, mean in (
        (PNG, "photo_square.png", 0, 0.0),
        (JPEG, "photo_jpg_square.png", JPEG_MAX_DIFFERENCE, JPEG_MEAN_DIFFERENCE),
    ):
        pixels = load_pixels(folder / name, rule)
        Image.fromarray(pixels, "RGB").save(folder / square, format="PNG", compress_level=9)
        entries.append(
            {"file": name, "square": square, "max_difference": largest, "mean_difference": mean}
        )
    return entries


def _reduced(picture: Image.Image, rule: Preprocessing) -> Image.Image:
    width, height = picture.size
    if width == height:
        trim = height // 8
        picture = picture.crop((0, trim, width, max(height - trim, trim + 1)))
    limit = round(_LARGEST * rule.resize_shorter_side)
    factor = min(1.0, limit / min(picture.size))
    size = tuple(max(1, round(side * factor)) for side in picture.size)
    return picture if factor == 1.0 else picture.resize(size, Image.Resampling.BILINEAR)  # type: ignore[arg-type]
