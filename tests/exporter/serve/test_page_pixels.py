"""The page's pixels.js, exif.js and sha256.js against Pillow and hashlib, in plain Node."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import exporter
from models import images
from models.contract import Preprocessing

STATIC = Path(exporter.__file__).parent / "serve" / "static"
NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="node is not installed")

# Reads a job (JSON) and a file of input bytes, calls the module, writes every output behind
# the other: what is compared are bytes, never numbers that went through a text.
SCRIPT = """
import { readFileSync, writeFileSync } from 'node:fs';
const [modules, job, inputs, outputs] = process.argv.slice(1);
const { sha256 } = await import(modules + '/sha256.js');
const { exifOrientation } = await import(modules + '/exif.js');
const pixels = await import(modules + '/pixels.js');
const all = new Uint8Array(readFileSync(inputs));
let at = 0;
const take = (n) => all.subarray(at, (at += n));
const made = [];
for (const one of JSON.parse(readFileSync(job))) {
  const bytes = take(one.bytes);
  const picture = { width: one.width, height: one.height, data: bytes };
  if (one.call === 'resize') made.push(pixels.resize(picture, one.to[0], one.to[1]).data);
  if (one.call === 'square') made.push(pixels.toSquare(picture, one.rule).data);
  if (one.call === 'white') made.push(pixels.overWhite(bytes, one.width, one.height).data);
  if (one.call === 'turn') made.push(pixels.oriented(picture, one.orientation).data);
  if (one.call === 'sha256') made.push(Buffer.from(sha256(bytes)));
  if (one.call === 'exif') made.push(Uint8Array.of(exifOrientation(bytes)));
  if (one.call === 'size') {
    made.push(Buffer.from(JSON.stringify(pixels.resizedSize(one.width, one.height, one.side))));
  }
}
writeFileSync(outputs, Buffer.concat(made));
"""


def run_node(folder: Path, jobs: list[tuple[dict[str, Any], bytes]], modules: Path) -> bytes:
    """The outputs of every job, one behind the other."""
    (folder / "job.json").write_text(json.dumps([{**job, "bytes": len(raw)} for job, raw in jobs]))
    (folder / "in").write_bytes(b"".join(raw for _, raw in jobs))
    command = [str(NODE), "--input-type=module", "-e", SCRIPT, "--", modules.as_uri()]
    names = [str(folder / name) for name in ("job.json", "in", "out")]
    done = subprocess.run([*command, *names], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return (folder / "out").read_bytes()


def noise(rng: np.random.Generator, width: int, height: int, channels: int = 3) -> np.ndarray:
    """Full-range noise: every rounding of a resize shows in it."""
    return rng.integers(0, 256, (height, width, channels), dtype=np.uint8)


def rule_json(rule: Preprocessing) -> dict[str, int]:
    return {
        "height": rule.height,
        "width": rule.width,
        "resize_shorter_side": rule.resize_shorter_side,
    }


def sizes(rng: np.random.Generator, count: int) -> list[tuple[int, int, int, int]]:
    """From and to: odd sizes, enlarged and made smaller, one side kept, single pixels."""
    fixed = [(1, 1, 7, 5), (1, 9, 4, 3), (7, 1, 2, 6), (5, 5, 5, 5), (5, 9, 5, 4), (9, 5, 4, 5)]
    fixed += [(640, 480, 341, 256), (479, 641, 91, 121), (801, 33, 31, 3), (3, 400, 91, 80)]
    drawn = rng.integers(1, 180, (count - len(fixed), 4))
    return fixed + [tuple(map(int, row)) for row in drawn]


def resize_jobs() -> tuple[list[tuple[dict[str, Any], bytes]], list[bytes]]:
    rng = np.random.default_rng(3)
    jobs, expected = [], []
    for width, height, to_width, to_height in sizes(rng, 400):
        picture = noise(rng, width, height)
        job = {"call": "resize", "width": width, "height": height, "to": [to_width, to_height]}
        jobs.append((job, picture.tobytes()))
        wide = Image.fromarray(picture).resize((to_width, height), Image.Resampling.BILINEAR)
        resized = wide.resize((to_width, to_height), Image.Resampling.BILINEAR)
        expected.append(resized.tobytes())
    return jobs, expected


def square_jobs() -> tuple[list[tuple[dict[str, Any], bytes]], list[bytes]]:
    rng = np.random.default_rng(4)
    jobs, expected = [], []
    for _ in range(200):
        crop_height, crop_width = map(int, rng.integers(8, 90, 2))
        side = max(crop_height, crop_width) + int(rng.integers(0, 40))
        rule = Preprocessing(crop_height, crop_width, side)
        short = int(rng.integers(1, 200))
        long = min(int(short * rng.uniform(1, 5)), 50 * short)
        width, height = (short, long) if rng.random() < 0.5 else (long, short)
        picture = noise(rng, width, height)
        job = {"call": "square", "width": width, "height": height, "rule": rule_json(rule)}
        jobs.append((job, picture.tobytes()))
        expected.append(images.to_square(Image.fromarray(picture), rule).tobytes())
    return jobs, expected


def test_resize_is_pillows_to_the_byte(tmp_path: Path) -> None:
    jobs, expected = resize_jobs()
    assert run_node(tmp_path, jobs, STATIC) == b"".join(expected)


def test_square_is_pythons_to_the_byte(tmp_path: Path) -> None:
    jobs, expected = square_jobs()
    assert run_node(tmp_path, jobs, STATIC) == b"".join(expected)


MUTANTS = {
    "a swapped channel": ("red += data[from] * weight", "red += data[from + 2] * weight"),
    "a moved crop": ("const left = halfToEven(", "const left = 1 + halfToEven("),
    "half rounded up": ("floor + (floor % 2)", "floor + 1"),
    "no rounding of a sum": ("const HALF = 1 << (PRECISION - 1)", "const HALF = 0"),
    "no antialias": ("const stretch = Math.max(scale, 1)", "const stretch = 1"),
    "one bit of precision less": ("const PRECISION = 22", "const PRECISION = 14"),
    "a pass too few": ("wide.height === height ? wide", "wide.height <= height ? wide"),
    "floats between the passes": ("data[from + 1] * weight", "(data[from + 1] + 0.3) * weight"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_fails(tmp_path: Path, name: str) -> None:
    text = (STATIC / "pixels.js").read_text(encoding="utf-8")
    before, after = MUTANTS[name]
    assert text.count(before) == 1
    modules = tmp_path / "modules"
    modules.mkdir()
    for other in ("sha256.js", "exif.js"):
        shutil.copy(STATIC / other, modules)
    (modules / "pixels.js").write_text(text.replace(before, after), encoding="utf-8")
    (modules / "package.json").write_text('{"type": "module"}')
    jobs, expected = square_jobs()
    # A weight that is 1.3 times too large may leave the buffer's size unchanged: bytes decide.
    assert run_node(tmp_path, jobs, modules) != b"".join(expected)


def test_longer_side_is_pythons(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    jobs, expected = [], []
    for _ in range(2000):
        side, width, height = map(int, rng.integers((1, 100, 100), (4097, 5000, 5000)))
        jobs.append(({"call": "size", "width": width, "height": height, "side": side}, b""))
        found = images.resized_size((width, height), Preprocessing(1, 1, side))
        expected.append(json.dumps(list(found), separators=(",", ":")).encode())
    assert run_node(tmp_path, jobs, STATIC) == b"".join(expected)


def test_alpha_over_white_is_pillows_for_every_value_and_alpha(tmp_path: Path) -> None:
    value, alpha = np.meshgrid(np.arange(256), np.arange(256))
    layered = np.stack([value, 255 - value, value // 2, alpha], axis=-1).astype(np.uint8)
    ground = Image.new("RGBA", (256, 256), (255, 255, 255, 255))
    expected = Image.alpha_composite(ground, Image.fromarray(layered)).convert("RGB").tobytes()
    job = {"call": "white", "width": 256, "height": 256}
    assert run_node(tmp_path, [(job, layered.tobytes())], STATIC) == expected


def test_orientations_are_pillows(tmp_path: Path) -> None:
    from PIL import ImageOps

    picture = noise(np.random.default_rng(6), 7, 4)
    jobs, expected = [], []
    for orientation in range(10):
        image = Image.fromarray(picture)
        image.getexif()[0x0112] = orientation
        job = {"call": "turn", "width": 7, "height": 4, "orientation": orientation}
        jobs.append((job, picture.tobytes()))
        expected.append(ImageOps.exif_transpose(image).tobytes())
    assert run_node(tmp_path, jobs, STATIC) == b"".join(expected)


@pytest.mark.parametrize("suffix", ["jpeg", "png", "webp"])
def test_exif_is_read_and_damage_means_none(tmp_path: Path, suffix: str) -> None:
    jobs, expected = [], []
    picture = Image.fromarray(noise(np.random.default_rng(7), 20, 10))
    for orientation in (None, *range(1, 9)):
        exif = Image.Exif()
        exif[0x010F] = "maker"
        if orientation is not None:
            exif[0x0112] = orientation
        stream = io.BytesIO()
        picture.save(stream, suffix, exif=exif)
        jobs.append(({"call": "exif"}, stream.getvalue()))
        expected.append(bytes([orientation or 1]))
    whole = stream.getvalue()
    at = whole.index(b"maker")
    jobs += [({"call": "exif"}, whole[:end]) for end in (0, 1, 3, 12, at - 40, at - 20)]
    expected += [b"\1"] * 6
    assert run_node(tmp_path, jobs, STATIC) == b"".join(expected)


def test_sha256_is_hashlibs(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    texts = [rng.bytes(length) for length in (*range(200), 1000, 65_537)]
    jobs = [({"call": "sha256"}, text) for text in texts]
    expected = "".join(hashlib.sha256(text).hexdigest() for text in texts)
    assert run_node(tmp_path, jobs, STATIC).decode() == expected
