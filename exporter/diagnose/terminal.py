"""The report in a terminal of 80 columns: the worst layers, the flips, what to do."""

from __future__ import annotations

from rich.console import Group, JustifyMethod, RenderableType
from rich.table import Table
from rich.text import Text

from exporter.diagnose.findings import percent
from exporter.diagnose.page import decibel
from exporter.diagnose.results import Flip, QuantizeReport, shares, worst
from exporter.diagnose.svg import shortened

LISTED = 10
_LAYER, _IMAGE, _LABEL = 22, 20, 16


def table(report: QuantizeReport) -> RenderableType:
    """Everything but where the files were written."""
    said = report.summary
    head = f"{report.file} against {report.reference}, {said.images} images ({report.source})"
    parts: list[RenderableType] = [Text(head), Text("")]
    ranked = worst(report.layers, LISTED)
    if ranked:
        parts += [_layers(report), Text("")]
    if report.flips:
        parts.append(_flips(report.flips[:LISTED]))
        if len(report.flips) > LISTED:
            parts.append(Text(f"and {len(report.flips) - LISTED} more", "dim"))
        parts.append(Text(""))
    if said.accuracy is not None:
        parts.append(
            Text(f"{'macro F1' if said.several else 'accuracy'} on "
                 f"{said.labelled} labelled images: float "
                 f"{percent(said.float_accuracy)}, int8 {percent(said.accuracy)}")
        )  # fmt: skip
    parts += [Text(f"- {sentence}") for sentence in report.findings]
    parts += [Text(f"note: {note}", "dim") for note in report.notes]
    if report.watched_difference:
        parts.append(
            Text(f"note: reading the tensors moved probabilities by up to "
                 f"{report.watched_difference:.2g}", "dim")
        )  # fmt: skip
    return Group(*parts)


def _layers(report: QuantizeReport) -> Table:
    """The worst ten. 'cost': to the logits, of the sum over all layers; 'own': what the layer
    adds itself; 'same': with its input's rounding."""
    grid = _grid(
        (("#", "right"), ("worst layers", "left"), ("operator", "left"), ("cost", "right"),
         ("own dB", "right"), ("same", "right"), ("accum.", "right"), ("mostly", "left"),
         ("outside", "right"))
    )  # fmt: skip
    costs = shares(report.layers)
    for layer in worst(report.layers, LISTED):
        grid.add_row(
            str(layer.index),
            Text(shortened(layer.tensor, _LAYER)),
            _operator(layer.kind),
            percent(costs[layer.index]),
            decibel(layer.own_snr_db),
            decibel(layer.same_input_snr_db),
            decibel(layer.accumulated_snr_db),
            layer.noise.cause if layer.noise is not None else "",
            percent(layer.range.saturated) if layer.range is not None else "",
        )
    return grid


def _operator(kind: str) -> str:
    return {"DEPTHWISE_CONV_2D": "depthwise", "FULLY_CONNECTED": "dense"}.get(
        kind, kind.removesuffix("_2D").lower().replace("_", " ")
    )


def _flips(flips: tuple[Flip, ...]) -> Table:
    grid = _grid((("flipped", "left"), ("float", "left"), ("by", "right"),
                  ("int8", "left"), ("by", "right"), ("", "left")))  # fmt: skip
    for flip in flips:
        grid.add_row(
            Text(shortened(flip.image, _IMAGE)),
            Text(shortened(flip.float_label, _LABEL)),
            percent(flip.float_margin),
            Text(shortened(flip.int8_label, _LABEL)),
            percent(flip.int8_margin),
            "" if flip.effect is None or flip.effect.startswith("wrong") else flip.effect,
        )
    return grid


def _grid(columns: tuple[tuple[str, JustifyMethod], ...]) -> Table:
    grid = Table(box=None, pad_edge=False, collapse_padding=True, header_style="bold")
    for name, justify in columns:
        grid.add_column(name, justify=justify, no_wrap=True)
    return grid
