"""What the figures say, in sentences: what is worst, why, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence

from exporter.bundle import Bundle
from exporter.diagnose.results import Layer, Summary, shares, worst

NAMED = 3
FEW_IMAGES = 64  # the mean of per-image extremes is still moving below that
CLIPPED = 0.001
ENOUGH_IMAGES = 16  # on fewer, a channel that stays the same says little
SURE = 0.25
CLEAN_DB = 40.0  # noise below 1/10,000 of the logits: not worth a sentence


def sentences(
    bundle: Bundle, key: str, layers: tuple[Layer, ...], summary: Summary
) -> tuple[str, ...]:
    """A few plain sentences, the most important first.

    Args:
        key: of the file that they are about.
    """
    found = [_answers(summary)]
    ranked = [each for each in worst(layers, NAMED) if (each.logit_sqnr_db or 0.0) < CLEAN_DB]
    if ranked:
        costs = shares(layers)
        names = ", ".join(f"{each.tensor} ({percent(costs[each.index])})" for each in ranked)
        found.append(f"Of all that the layers cost the logits, most is by {names}.")
        found += [_cause(layer) for layer in ranked]
    else:
        known = any(layer.logit_sqnr_db is not None for layer in layers)
        found.append(
            f"No layer alone brings the logits below {CLEAN_DB:.0f} dB."
            if known
            else "Layers could not be compared one by one."
        )
    if summary.images >= ENOUGH_IMAGES:
        found += _channels(layers)
    found += _what_to_do(bundle, key, ranked, summary)
    return tuple(found)


def _answers(summary: Summary) -> str:
    same = summary.images - summary.flips
    what = "classes" if summary.several else "first answer"
    text = f"The same {what} on {same} of {summary.images} images"
    if summary.logit_sqnr_db is not None:
        text += f"; logits at {summary.logit_sqnr_db:.1f} dB"
    sure = sum(band.flips for band in summary.bands if band.low >= SURE)
    if sure:
        text += f"; {sure} of the flips where float was sure by {SURE:g} or more"
    return text + "."


def _cause(layer: Layer) -> str:
    assert layer.noise is not None
    cause, seen = layer.noise.cause, layer.range
    if cause == "clipping" and seen is not None and seen.observed is not None:
        (low, high), (least, greatest) = seen.representable, seen.observed
        return (
            f"{layer.tensor} clips: its int8 range {low:.3g} to {high:.3g} leaves out "
            f"{percent(seen.saturated)} of the values, which go from {least:.3g} to {greatest:.3g}."
        )
    if cause == "weights":
        spread = None if layer.weights is None else layer.weights.spread
        tail = f"; its channels' weight scales differ {spread:.0f}-fold" if spread else ""
        return f"{layer.tensor} loses most in its weights{tail}."
    if seen is None:
        return f"{layer.tensor} loses most in its arithmetic."
    return (
        f"{layer.tensor} loses most in its output's step of {seen.step:.3g}: its values use "
        f"{seen.entropy_bits:.1f} of 8 bits, {seen.levels_used} of 256 levels."
    )


def _channels(layers: Sequence[Layer]) -> list[str]:
    lost = [(layer.tensor, len(layer.channels.lost)) for layer in layers
            if layer.channels is not None and layer.channels.lost]  # fmt: skip
    if not lost:
        return []
    lost.sort(key=lambda pair: -pair[1])
    total = sum(count for _, count in lost)
    name, most = lost[0]
    return [
        f"{total} channel{'s' * (total > 1)} that vary in float never do in int8, most of them "
        f"in {name} ({most})."
    ]


def _what_to_do(bundle: Bundle, key: str, ranked: list[Layer], summary: Summary) -> list[str]:
    if not ranked or not summary.flips:
        return []
    calibration = bundle.manifest.get("calibration") or {}
    count, quantizer = calibration.get("count"), calibration.get("quantizer")
    causes = {layer.noise.cause for layer in ranked if layer.noise is not None}
    said = []
    if isinstance(count, int) and count < FEW_IMAGES:
        said.append(
            f"Ranges were measured on {count} images: give --calibration about 100, like those "
            "that the app will see."
        )
    elif "clipping" in causes and any(_clips(layer) for layer in ranked):
        said.append(
            "Ranges leave values out that these images have: calibrate on more images, or on "
            "images more like these."
        )
    if quantizer == "fast":
        said.append("Export with '--quantizer default', which makes rounding errors cancel.")
    elif quantizer == "default":
        said.append("Export with '--quantizer distill' to learn ranges and weights from float.")
    said.append(
        "Or leave more layers in float: a larger --int8-budget, or more of them by name with "
        "--float-layers."
        if key == "tflite-mixed"
        else "Or leave the layers that matter most in float: 'exporter export --int8-budget "
        "1.25x' makes model_mixed.tflite within that latency."
    )
    return said


def _clips(layer: Layer) -> bool:
    return layer.range is not None and (layer.range.saturated or 0.0) > CLIPPED


def percent(share: float | None) -> str:
    """A share as a person reads it: '0.012 %', '3.4 %'."""
    if share is None:
        return "–"
    value = 100 * share
    if value == 0:
        return "0 %"
    return f"{value:.1f} %" if value >= 1 else f"{value:.2g} %" if value >= 0.001 else "<0.001 %"
