"""The report as one self-contained HTML page, as JSON, and its contact sheet as a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from exporter import __version__
from exporter.data_report import svg, thumbs
from exporter.data_report.findings import findings
from models.atomic import beside
from models.data.labelled import Item
from models.data.quality import Quality, effective_number, shown
from models.errors import UserError

PAGE = "data-report.html"
JSON = "data-report.json"
SHEET = "contact-sheet.jpg"
SHOWN = 24  # pairs with thumbnails, files in a list
ROWS = 40  # classes on the contact sheet
BARS = 100  # classes in the bar chart


def write(quality: Quality, out: Path) -> None:
    """Make the folder `out` with the page, the JSON and the sheet; whole or not at all.

    Raises:
        UserError: the folder cannot be written.
    """
    sheet = thumbs.contact_sheet(
        quality.data, thumbs.sheet_rows(quality.data, ROWS), rarest(quality)
    )
    try:
        with beside(out) as staging:
            text = json.dumps(to_json(quality), indent=1, ensure_ascii=False, allow_nan=False)
            (staging.folder / JSON).write_text(text + "\n", encoding="utf-8")
            (staging.folder / PAGE).write_text(render(quality, sheet), encoding="utf-8")
            sheet.save(staging.folder / SHEET, quality=85)
    except OSError as error:
        raise UserError(
            f"{out} cannot be written.",
            error.strerror or str(error),
            "give a folder that may be written with --out",
        ) from error


def rarest(quality: Quality) -> frozenset[int]:
    """Classes with less than a fifth of the images of the median class, or fewer than 20."""
    counts = quality.data.counts()
    median = sorted(counts)[len(counts) // 2]
    return frozenset(place for place, count in enumerate(counts) if count < max(0.2 * median, 20))


def to_json(quality: Quality) -> dict[str, Any]:
    """Everything that was found; 'schema' 1."""
    data = quality.data
    name = lambda item: shown(item.path, data.root)  # noqa: E731
    labels = lambda item: [data.classes[label] for label in item.labels]  # noqa: E731
    return {
        "schema": 1,
        "data": data.root.name,
        "multi_label": data.multi_label,
        "images": quality.images,
        "groups": quality.groups,
        "without_label": quality.without_label,
        "classes": [
            {"name": one, "images": count, "effective_number": round(effective_number(count), 2)}
            for one, count in zip(data.classes, data.counts(), strict=True)
        ],
        "imbalance": round(quality.imbalance, 3),
        "broken": [
            {"file": shown(each.path, data.root), "reason": each.reason} for each in quality.broken
        ],
        "skipped": [shown(path, data.root) for path in data.skipped],
        "exact_copies": [
            [{"file": name(item), "labels": labels(item)} for item in same]
            for same in quality.exact
        ],
        "near_copies": [
            {
                "files": [name(pair.first), name(pair.second)],
                "labels": [labels(pair.first), labels(pair.second)],
                "bits": pair.bits,
            }
            for pair in quality.near
        ],
        "shorter_side": vars(quality.shorter),
        "aspect": vars(quality.aspect),
        "findings": [sentence for _, sentence in findings(quality)],
        "notes": list(data.notes),
    }


def render(quality: Quality, sheet: Any) -> str:
    """The page as text.

    Args:
        sheet: the contact sheet, a PIL image.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("exporter.data_report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    data = quality.data

    def item(each: Item) -> dict[str, str]:
        said = " + ".join(data.classes[label] for label in each.labels) or "none of the classes"
        return {"file": shown(each.path, data.root), "labels": said, "picture": thumbs.inline(each)}

    counts = data.counts()
    rare = rarest(quality)
    order = thumbs.sheet_rows(data, BARS)
    return environment.get_template(f"{PAGE}.j2").render(
        q=quality,
        name=data.root.resolve().name,
        findings=findings(quality),
        bars=svg.count_bars(
            [(data.classes[label], counts[label], label in rare) for label in order],
            "Images of each class",
        ),
        rare=len(rare),
        left_out=len(counts) - len(order),
        sheet=thumbs.data_uri(sheet),
        sheet_left_out=max(len(counts) - ROWS, 0),
        pairs=[(item(p.first), item(p.second), p) for p in quality.near[:SHOWN]],
        copies=[[item(each) for each in same[:6]] for same in _worst_first(quality)[:SHOWN]],
        broken=[(shown(each.path, data.root), each.reason) for each in quality.broken],
        shorter=svg.histogram([min(s) for s in quality.sizes], "Shorter side in pixels"),
        aspect=svg.histogram([w / h for w, h in quality.sizes], "Width over height"),
        effective=[effective_number(count) for count in counts],
        shown=SHOWN,
        version=__version__,
    )


def _worst_first(quality: Quality) -> list[tuple[Item, ...]]:
    return sorted(quality.exact, key=lambda same: len({item.labels for item in same}) == 1)
