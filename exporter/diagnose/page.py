"""The report as one self-contained HTML page, and as JSON beside it."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from exporter import __version__
from exporter.diagnose import svg
from exporter.diagnose.counterparts import MOVERS
from exporter.diagnose.findings import percent
from exporter.diagnose.results import PARTS, Flip, Layer, QuantizeReport, shares, worst
from exporter.diagnose.tally import BINS
from models.atomic import beside
from models.errors import UserError
from models.images import open_rgb

PAGE = "quantize-report.html"
JSON = "quantize-report.json"
SHOWN = 12  # layers drawn, thumbnails of flips
_THUMBNAIL = 240
EXACT_DB = 150.0
Picture = Callable[[str], Path | None]


def write(report: QuantizeReport, out: Path, picture: Picture) -> None:
    """Make the folder `out` with the page and the JSON; it appears whole or not at all.

    Args:
        picture: where the image of a name lies; None leaves its thumbnail out.

    Raises:
        UserError: the folder cannot be written.
    """
    try:
        with beside(out) as staging:
            text = json.dumps(report.to_json(), indent=1, ensure_ascii=False, allow_nan=False)
            (staging.folder / JSON).write_text(text + "\n", encoding="utf-8")
            (staging.folder / PAGE).write_text(render(report, picture), encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"{out} cannot be written.",
            error.strerror or str(error),
            "give a folder that may be written with --out",
        ) from error


def render(report: QuantizeReport, picture: Picture) -> str:
    """The page as text."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("exporter.diagnose"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(decibel=decibel, percent=percent, short=svg.shortened)
    ranked = worst(report.layers, SHOWN)
    return environment.get_template("quantize-report.html.j2").render(
        report=report,
        curves=_curves(report.layers),
        costs=shares(report.layers),
        together=together(report.layers),
        noise=_noise(ranked),
        histograms=[(layer, _histogram(layer)) for layer in ranked if _drawable(layer)],
        saturated=_saturated(report.layers),
        channels=_channels(report.layers),
        flips=[(flip, _thumbnail(flip, picture)) for flip in report.flips[:SHOWN]],
        version=__version__,
    )


def together(layers: tuple[Layer, ...]) -> float | None:
    """SNR of the logits if the layers' costs simply added up, as independent noises do."""
    costs = [10 ** (-(layer.logit_sqnr_db or 0.0) / 10) for layer in layers
             if layer.logit_sqnr_db is not None]  # fmt: skip
    return -10 * math.log10(sum(costs)) if costs else None


def decibel(value: float | None) -> str:
    """'23.7'; 'exact' where there is no error to speak of."""
    if value is None:
        return "–"
    return "exact" if value >= EXACT_DB else f"{value:.1f}"


def _curves(layers: tuple[Layer, ...]) -> Any:
    def shown(value: float | None) -> float | None:
        return None if value is None or value >= EXACT_DB else value

    lines = [
        svg.Curve([shown(layer.own_snr_db) for layer in layers], "own"),
        svg.Curve([shown(layer.same_input_snr_db) for layer in layers], "same"),
        svg.Curve([layer.accumulated_snr_db for layer in layers], "accumulated"),
    ]
    names = [layer.tensor for layer in layers]
    return svg.curves(lines, names, "SNR of each layer's result in dB, in the file's order")


def _noise(ranked: list[Layer]) -> Any:
    rows = []
    for layer in ranked:
        if layer.noise is None:
            continue
        parts = {name: getattr(layer.noise, name) for name in PARTS}
        total = sum(parts.values())
        pieces = [
            (f"part-{name}", value / total, f"{name}: {100 * value / total:.0f} %")
            for name, value in parts.items()
            if total
        ]
        rows.append((svg.title_of(layer), pieces))
    return svg.shares(rows, "What each layer's error at the same input is made of")


def _drawable(layer: Layer) -> bool:
    return layer.range is not None and layer.range.histogram is not None


def _histogram(layer: Layer) -> Any:
    assert layer.range is not None
    assert layer.range.histogram is not None
    return svg.histogram(layer.range.histogram, BINS, f"Values of {layer.tensor}")


def _saturated(layers: tuple[Layer, ...]) -> Any:
    found = [
        (layer.range.saturated or 0.0, layer)
        for layer in layers
        if layer.range is not None and layer.kind not in MOVERS
    ]
    found = sorted((pair for pair in found if pair[0]), key=lambda pair: -pair[0])[:SHOWN]
    rows = [
        (svg.title_of(layer), layer.range.below or 0.0, layer.range.above or 0.0, percent(share))
        for share, layer in found
        if layer.range is not None
    ]
    return svg.bars(rows, "Share of values outside the int8 range")


def _channels(layers: tuple[Layer, ...]) -> list[Layer]:
    """Layers with channels that carry little, where a RESHAPE or PAD does not repeat them."""
    return [
        layer
        for layer in layers
        if layer.channels is not None
        and layer.kind not in MOVERS
        and (layer.channels.zero or layer.channels.constant or layer.channels.lost
             or layer.channels.narrow)
    ]  # fmt: skip


def _thumbnail(flip: Flip, picture: Picture) -> str:
    path = picture(flip.image)
    if path is None:
        return ""
    try:
        image = open_rgb(path)
    except UserError:
        return ""
    image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
