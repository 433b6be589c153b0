"""What a person should do about a data set, in sentences; the worst first."""

from __future__ import annotations

from models.data.quality import Quality
from models.data.words import plural, short

FEW = 20  # images of a class from which on a network has a chance
SMALL = 160  # pixels of the shorter side
WARN, SAY = "warn", "say"


def findings(quality: Quality) -> list[tuple[str, str]]:
    """(how grave, sentence) each; 'warn' for what makes a training worse."""
    return [
        *_contradictions(quality), *_broken(quality), *_copies(quality), *_classes(quality),
        *_pictures(quality),
    ]  # fmt: skip


def _contradictions(quality: Quality) -> list[tuple[str, str]]:
    said = []
    exact, near = quality.exact_contradictions, quality.near_contradictions
    if exact and not quality.data.multi_label:
        said.append((WARN, f"{plural(len(exact), 'image')} in two classes, byte for byte. "
                     "'exporter train' refuses that: remove each from the wrong one."))  # fmt: skip
    if exact and quality.data.multi_label:
        said.append((WARN, f"{plural(len(exact), 'image')} there several times with different "
                     "labels. Give the copies the same labels, or keep one."))  # fmt: skip
    if near:
        said.append((WARN, f"{plural(len(near), 'pair')} of images that look alike, with different "
                     "labels. One of the two is probably wrong; look at them below."))  # fmt: skip
    return said


def _broken(quality: Quality) -> list[tuple[str, str]]:
    if not quality.broken:
        return []
    share = 100 * len(quality.broken) / quality.images
    return [(WARN, f"{plural(len(quality.broken), 'image')} ({share:.1f} %) cannot be decoded and "
             "will be left out.")]  # fmt: skip


def _copies(quality: Quality) -> list[tuple[str, str]]:
    said = []
    agreeing = [same for same in quality.exact if same not in quality.exact_contradictions]
    if agreeing:
        spare = sum(len(same) - 1 for same in agreeing)
        said.append((SAY, f"{plural(spare, 'image')} could go: the same file is there already. "
                     "They weigh double in training; copies are kept on one side."))  # fmt: skip
    if quality.near:
        said.append((SAY, f"{plural(len(quality.near), 'pair')} of images look alike. Where this "
                     "program divides the set, they stay on one side; a split made elsewhere may "
                     "have parted them."))  # fmt: skip
    return said


def _classes(quality: Quality) -> list[tuple[str, str]]:
    data, said = quality.data, []
    counts = dict(zip(data.classes, data.counts(), strict=True))
    lone = [name for name, count in counts.items() if count < 2]
    if lone and not data.multi_label:
        said.append((WARN, f"{plural(len(lone), 'class')} with fewer than two images cannot be "
                     f"divided: {short(lone)}. Add images, or drop or join them with a class "
                     "map."))  # fmt: skip
    few = [name for name, count in counts.items() if 2 <= count < FEW]
    if few:
        said.append((WARN, f"{plural(len(few), 'class')} with fewer than {FEW} images: "
                     f"{short(few)}. Do not trust their figures; photographs of these help "
                     "most."))  # fmt: skip
    if quality.imbalance >= 10:
        advice = (
            "--loss focal, and --balanced-sampling" if data.multi_label
            else "--loss ldam or --balanced-sampling, and look at macro F1, not accuracy"
        )  # fmt: skip
        said.append((SAY, f"The largest class has {quality.imbalance:.0f} times the images of the "
                     f"smallest. Try {advice}."))  # fmt: skip
    return said


def _pictures(quality: Quality) -> list[tuple[str, str]]:
    said = []
    small = sum(min(size) < SMALL for size in quality.sizes)
    if small:
        said.append((SAY, f"{plural(small, 'image')} with a shorter side below {SMALL} pixels, "
                     "which most networks need enlarged."))  # fmt: skip
    long = sum(max(size) > 2 * min(size) for size in quality.sizes)
    if long:
        said.append((SAY, f"{plural(long, 'image')} more than twice as long as wide: the centre "
                     "square that a network sees is less than half of them."))  # fmt: skip
    return said
