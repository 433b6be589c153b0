"""A small bundle for the page: three .tflite files with labels, golden answers, a manifest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from exporter.bundle import BY_KEY, Bundle, open_bundle, write_manifest
from exporter.prove import golden
from exporter.prove.runtimes.litert import LiteRtRuntime
from models.contract import Contract, Label, Preprocessing
from models.images import list_images
from support import nets

SIDE, CLASSES = 32, 6
KEYS = ("tflite-float32", "tflite-float16", "tflite-int8")
_VENOM = ("yes", "no", "unknown")


def contract(name: str = "test snakes", threshold: float = 0.2) -> Contract:
    labels = tuple(
        Label(f"{name} {index}", f"Fictus {index}", _VENOM[index % 3])  # type: ignore[arg-type]
        for index in range(CLASSES)
    )
    rule = Preprocessing(SIDE, SIDE, SIDE + 5)
    return Contract(labels, rule, name=name, not_sure_threshold=threshold)


def write(root: Path, what: Contract | None = None, keys: tuple[str, ...] = KEYS) -> Bundle:
    """The bundle, whose golden answers are LiteRT's on this machine."""
    from exporter.convert.targets.tflite.writer import to_bytes
    from support import tflite_files

    what = what or contract()
    graph = tflite_files.classifier(SIDE, CLASSES)
    plan = tflite_files.plan_for(graph, nets.images(12, SIDE))
    root.mkdir(parents=True)
    for key in keys:
        row = BY_KEY[key]
        chosen = plan if row.precision == "int8" else None
        (root / row.path).write_bytes(to_bytes(graph, what, row.precision, chosen))
    (root / "contract.json").write_text(what.dumps(), encoding="utf-8")
    (root / "labels.txt").write_text("\n".join(what.names) + "\n", encoding="utf-8")
    (root / "reference").mkdir()
    (root / "reference" / "checkpoint.safetensors").write_bytes(b"not needed here")
    _write_golden(root, what, keys)
    write_manifest(
        root,
        {
            "artifacts": {key: {"path": BY_KEY[key].path} for key in keys},
            "reference": "reference/checkpoint.safetensors",
        },
    )
    return open_bundle(root)


def photo(seed: int, width: int, height: int) -> Image.Image:
    """A picture of any size, as a camera would give."""
    square = nets.image(seed, max(width, height))
    return Image.fromarray(np.ascontiguousarray(square[:height, :width]))


def _write_golden(root: Path, what: Contract, keys: tuple[str, ...]) -> None:
    folder = root.parent / f"{root.name}-images"
    folder.mkdir()
    for index in range(golden.COUNT):
        photo(index, 60 + 7 * index, 90 - 5 * index).save(folder / f"{index}.png")
    runtime = LiteRtRuntime()
    sessions = {key: runtime.open(root / BY_KEY[key].path, what) for key in keys}
    sessions[golden.REFERENCE_KEY] = sessions[keys[0]]
    golden.write_golden(root, list_images(folder), what, sessions)
