"""Whether an ONNX file that came in and the contract given for it fit each other."""

from __future__ import annotations

import numpy as np

from exporter.convert.graph import Graph, Normalize
from exporter.convert.onnx_file import OnnxFileError
from models.contract import Contract, Normalization

_SAME = 0.01  # two normalizations that differ by less than this are the same


class AdoptError(OnnxFileError):
    """An ONNX file and a contract that do not fit each other."""


def check_contracts(embedded: Contract, given: Contract, origin: str) -> None:
    """A contract may rename classes; what the weights were trained for stays."""
    for what, ours, theirs in (
        ("number of classes", len(embedded.labels), len(given.labels)),
        ("output activation", embedded.activation, given.activation),
        ("normalization", *(c.preprocessing.normalization for c in (embedded, given))),
        ("grayscale", *(c.preprocessing.grayscale for c in (embedded, given))),
    ):
        if ours != theirs:
            raise AdoptError(
                f"The {what} in {origin} is not the contract's.",
                f"the file was exported with {ours}, the contract says {theirs}",
                "leave --contract away (the file carries its own), or correct it",
            )


def check_graph(graph: Graph, contract: Contract, origin: str) -> None:
    """What is going to be written takes and gives what the contract says."""
    rule = contract.preprocessing
    taken, given = graph.input.shape, graph.shapes[graph.output]
    if taken != (1, 3, rule.height, rule.width) or given != (1, len(contract.labels)):
        raise AdoptError(
            f"{origin} turns {list(taken)} into {list(given)}.",
            f"the contract says {rule.height} x {rule.width} pixels, {len(contract.labels)} labels",
            "correct the contract",
        )


def check_normalization(graph: Graph, contract: Contract, origin: str, *, inside: bool) -> None:
    """Refuse a normalization that is done twice, or not as the contract says.

    Args:
        inside: the model takes uint8 pixels, so all its normalization is its own.
    """
    rule = contract.preprocessing.normalization
    mean, scale = np.zeros(3), np.ones(3)
    if graph.nodes and isinstance(graph.nodes[0], Normalize):
        mean, scale = (
            np.asarray(v, np.float64) for v in (graph.nodes[0].mean, graph.nodes[0].scale)
        )
    if inside:
        if not _alike(mean, 1.0 / scale, rule, 1.0):
            found = f"mean {mean.round(3).tolist()} and std {(1 / scale).round(3).tolist()}"
            raise AdoptError(
                f"{origin} takes raw pixels and normalizes them otherwise than the contract says.",
                f"it has {found}, the contract {list(rule.mean)} and {list(rule.std)}",
                "write what the model does into the contract",
            )
        return
    std = np.array(rule.std)
    own_mean, own_std = (mean - np.array(rule.mean)) / std, 1.0 / (scale * std)
    if any(rule.mean) and any(_alike(own_mean, own_std, rule, unit) for unit in (1.0, 255.0)):
        raise AdoptError(
            f"{origin} normalizes its input itself, as the contract does.",
            "pixels would be normalized twice",
            "set mean 0 in the contract, and std 255 (the model takes 0..1) or 1 (0..255)",
        )


def _alike(
    mean: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    std: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    rule: Normalization,
    unit: float,
) -> bool:
    wanted_mean, wanted_std = np.array(rule.mean) / unit, np.array(rule.std) / unit
    return bool(
        (np.abs(mean - wanted_mean) <= _SAME * wanted_std).all()
        and (np.abs(std - wanted_std) <= _SAME * wanted_std).all()
    )
