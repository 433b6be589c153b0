"""A few images with the expected answers of every artifact, for apps to replay.

`golden/NN.png` holds the input pixels themselves, already square and lossless, so
that an app can feed them as they are; `golden/golden.json` what each artifact gave
for them where the bundle was made, and a hash of each image's pixels, so that an app
knows that it decoded them right. On another machine the vendor's kernels may add
in another order, so an app compares within the `tolerance` written there.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from exporter.bundle import BY_KEY, GOLDEN, Bundle, Precision
from exporter.prove.answering import Rule
from exporter.prove.golden_photos import write_photos
from exporter.prove.imageset import square_pixels
from exporter.prove.opened import GetRuntime, open_artifacts
from exporter.prove.results import Status
from exporter.prove.runtimes import registry
from exporter.prove.runtimes.base import Pixels, Probabilities, Runtime, Session
from models.contract import Contract
from models.errors import UserError
from models.images import ImageFile, load_pixels

FILE = "golden.json"
COUNT = 8
REFERENCE_KEY = "reference"
# Largest absolute probability difference between two machines. Float: the order of
# additions. int8: one step of one logit, which near an even choice moves a
# probability by a few hundredths.
TOLERANCE: Mapping[Precision, float] = {"float32": 1e-4, "float16": 5e-3, "int8": 0.05}


class GoldenError(UserError):
    """A golden folder that cannot be read."""


@dataclass(frozen=True)
class Replay:
    """One artifact on one golden image, against what was recorded.

    Attributes:
        status: 'not run' where nothing was recorded for it or it did not open.
        difference: largest absolute probability difference.
        exact: equal to the last bit, as it is on the machine that recorded it.
    """

    image: str
    key: str
    status: Status
    difference: float | None = None
    exact: bool = False
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Recorded:
    """What golden.json holds.

    Attributes:
        expected: image file name -> key -> probabilities, float32 `[classes]`.
        pixels: image file name -> sha256 (hex) of its pixels.
    """

    expected: Mapping[str, Mapping[str, Probabilities]]
    pixels: Mapping[str, str] = field(default_factory=dict)

    def replay(self, image: str, key: str, found: Probabilities) -> Replay:
        """Hold an artifact's answer against the recorded one."""
        wanted = self.expected.get(image, {}).get(key)
        if wanted is None:
            return Replay(image, key, "not run", reason="nothing was recorded for it")
        if wanted.shape != found.shape or not np.isfinite(found).all():
            return Replay(image, key, "failed", reason="NaN, or another number of classes")
        difference = float(np.abs(wanted.astype(np.float64) - found).max())
        within = difference <= TOLERANCE[BY_KEY[key].precision]
        reason = "" if within else f"{difference:.2g} off what was recorded"
        exact = bool(np.array_equal(wanted, found))
        return Replay(image, key, "passed" if within else "failed", difference, exact, reason)


class RecordedRuntime(Runtime):
    """The reference's recorded answers, where the reference itself cannot be run.

    Args:
        answers: float32 `[classes]` by the bytes of the pixels they belong to.
        reason: why the reference cannot be run here.
    """

    name = "recorded"
    timed = False

    def __init__(self, answers: Mapping[bytes, Probabilities], reason: str) -> None:
        self._answers, self._reason = answers, reason

    def unavailable(self) -> str | None:
        return None

    def version(self) -> str:
        return f"the reference's answers as recorded at the export ({self._reason})"

    def open(self, path: Path, contract: Contract, threads: int = 1) -> Session:
        return _RecordedSession(self._answers)


class _RecordedSession(Session):
    def __init__(self, answers: Mapping[bytes, Probabilities]) -> None:
        self._answers = answers

    def probabilities(self, pixels: Pixels) -> Probabilities:
        return self._answers[pixels.tobytes()]


def recorded_reference(bundle: Bundle, reason: str) -> RecordedRuntime | None:
    """The reference's answers for the golden images; None where they were not recorded."""
    recorded = load(bundle)
    if recorded is None or not recorded.expected:
        return None
    answers = {}
    for name, found in recorded.expected.items():
        if REFERENCE_KEY not in found:
            return None
        pixels = square_pixels(bundle.root / GOLDEN / name, bundle.contract)
        answers[pixels.tobytes()] = found[REFERENCE_KEY]
    return RecordedRuntime(answers, reason)


def choose(images: Sequence[ImageFile], count: int = COUNT) -> list[ImageFile]:
    """Up to `count` images spread evenly over the classes, or over a flat list.

    The same list gives the same choice. With fewer classes than `count`, classes
    give a second image in turn; with more, every n-th class gives its first.
    """
    classes = sorted({image.label for image in images if image.label is not None})
    if not classes or any(image.label is None for image in images):
        step = max(len(images), 1)
        picked = sorted({(place * step) // count for place in range(count)})
        return [images[place] for place in picked if place < len(images)]
    queues = {name: [image for image in images if image.label == name] for name in classes}
    if len(classes) >= count:
        return [queues[classes[(place * len(classes)) // count]][0] for place in range(count)]
    chosen: list[tuple[str, int, ImageFile]] = []
    deepest = max(len(queue) for queue in queues.values())
    for depth in range(deepest):
        for name in classes:
            if depth < len(queues[name]) and len(chosen) < count:
                chosen.append((name, depth, queues[name][depth]))
    return [image for _, _, image in sorted(chosen, key=lambda entry: entry[:2])]


def write_golden(
    root: Path,
    images: Sequence[ImageFile],
    contract: Contract,
    sessions: Mapping[str, Session],
) -> Path:
    """Write `root/golden/`.

    Args:
        root: the bundle's folder.
        images: what to choose from, see `choose`.
        contract: how a photograph becomes pixels.
        sessions: by format key, and the reference's under 'reference'.

    Returns:
        The path of golden.json.

    Raises:
        UserError: no images, or one that cannot be decoded.
    """
    if not images:
        raise GoldenError(
            "There is no image to make golden answers from.", "", "name a folder of photographs"
        )
    folder = Path(root) / GOLDEN
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    chosen = choose(images)
    for number, image in enumerate(chosen):
        pixels = load_pixels(image.path, contract.preprocessing)
        name = f"{number:02d}.png"
        Image.fromarray(pixels, "RGB").save(folder / name, format="PNG", compress_level=9)
        answers = {key: session.probabilities(pixels) for key, session in sessions.items()}
        entries.append(
            {
                "file": name,
                "label": image.label if image.label in contract.names else None,
                "pixels_sha256": hashlib.sha256(pixels.tobytes()).hexdigest(),
                **_said(contract, answers),
                "probabilities": {key: _numbers(found) for key, found in answers.items()},
            }
        )
    photos = write_photos(folder, chosen[0].path, contract.preprocessing)
    path = folder / FILE
    path.write_text(_dump(contract, entries, photos), encoding="utf-8")
    return path


def _said(contract: Contract, answers: Mapping[str, Probabilities]) -> dict[str, Any]:
    """'answer', the label of each file, or where there may be several 'answers': all that are
    there, the most probable first."""
    names, rule = contract.names, Rule.of(contract)
    if not contract.multi_label:
        return {"answer": {key: names[int(np.argmax(found))] for key, found in answers.items()}}
    return {
        "answers": {
            key: [names[place] for place in sorted(rule.answer(found), key=lambda k: -found[k])]
            for key, found in answers.items()
        }
    }


def _numbers(values: Probabilities) -> list[float]:
    """float32 values as the shortest decimals that give the same float32 back."""
    short = [float(str(value)) for value in values]
    return [
        decimal if np.float32(decimal) == value else float(value)
        for decimal, value in zip(short, values, strict=True)
    ]


def _dump(contract: Contract, entries: list[dict[str, Any]], photos: list[dict[str, Any]]) -> str:
    document = {
        "schema": 1,
        "input": "the PNG's RGB pixels as they are: uint8, 0..255, no resizing, no normalization",
        "output": "probabilities, float32, in the order of labels.txt",
        "tolerance": dict(TOLERANCE),
        "precision": {row.key: row.precision for row in BY_KEY.values()},
        "label_hash": contract.label_hash,
        **({"thresholds": list(contract.class_thresholds)} if contract.multi_label else {}),
        "images": entries,
        "photos": photos,
    }
    # One line a list of numbers: a thousand classes are not a thousand lines.
    lists: list[str] = []

    def keep(values: list[float]) -> str:
        lists.append(json.dumps(values))
        return f"<numbers {len(lists) - 1}>"

    document["images"] = [
        {**entry, "probabilities": {k: keep(v) for k, v in entry["probabilities"].items()}}
        for entry in entries
    ]
    text = json.dumps(document, ensure_ascii=False, indent=1) + "\n"
    return re.sub(r'"<numbers (\d+)>"', lambda match: lists[int(match[1])], text)


def load(bundle: Bundle) -> Recorded | None:
    """Read a bundle's golden.json; None where it has none.

    Raises:
        GoldenError: it is not what `write_golden` wrote.
    """
    path = bundle.root / GOLDEN / FILE
    if not path.is_file():
        return None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        expected = {
            entry["file"]: {
                key: np.array(values, np.float32) for key, values in entry["probabilities"].items()
            }
            for entry in document["images"]
        }
        pixels = {
            entry["file"]: str(entry["pixels_sha256"])
            for entry in document["images"]
            if "pixels_sha256" in entry
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise GoldenError(f"{path} cannot be read.", f"{error}", "export again") from error
    return Recorded(expected, pixels)


def replay_golden(
    bundle: Bundle, threads: int = 1, get_runtime: GetRuntime = registry.get
) -> tuple[Replay, ...]:
    """Run every artifact on the golden images and hold it against what was recorded.

    It needs no reference, so it runs where torch is not installed.

    Raises:
        UserError: the bundle has no golden folder, or an unreadable one.
    """
    recorded = load(bundle)
    if recorded is None:
        raise GoldenError(
            f"{bundle.root} has no {GOLDEN}/{FILE}.", "there is nothing to replay", "export again"
        )
    found: list[Replay] = []
    with open_artifacts(bundle, threads, get=get_runtime) as opened:
        for entry in opened:
            if entry.session is None:
                found.append(Replay("", entry.row.key, entry.status, reason=entry.reason))
        for name in recorded.expected:
            pixels = square_pixels(bundle.root / GOLDEN / name, bundle.contract)
            for entry in opened:
                if entry.session is not None:
                    answer = entry.session.probabilities(pixels)
                    found.append(recorded.replay(name, entry.row.key, answer))
    return tuple(found)


def replay_notes(replays: Sequence[Replay]) -> list[str]:
    """What a reader of the parity report has to know about the replay."""
    ran = [replay for replay in replays if replay.status != "not run"]
    if not ran:
        return ["golden answers: nothing recorded, nothing replayed"]
    bad = [replay for replay in ran if replay.status == "failed"]
    exact = sum(replay.exact for replay in ran)
    notes = [f"golden answers replayed: {exact} of {len(ran)} equal to the last bit"]
    notes += [f"golden {replay.image}, {replay.key}: {replay.reason}" for replay in bad]
    return notes
