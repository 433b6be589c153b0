"""A quantized network as files: what one stage decided, for the formats made from it.

Arrays lie in `plan.npz` (no pickles), the rest in `plan.json`. The graph is not stored: it
is read from model.onnx again and scaled as the quantizer scaled it; of float nodes the
corrected biases are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from exporter.convert.graph import Conv, Dense, Graph, Node
from exporter.convert.quantize.plan import Affine, QuantizationPlan, QuantizedWeights
from exporter.convert.quantize.quantize import Quantized
from exporter.convert.quantize.rounding.equalize import rescaled

ARRAYS, NOTES = "plan.npz", "plan.json"
_NODE_SETS = ("float_nodes", "dynamic_nodes", "dequantized_nodes")


def save(quantized: Quantized, folder: Path) -> None:
    """Write a quantized network into an existing folder."""
    plan = quantized.plan
    arrays: dict[str, npt.NDArray[np.generic]] = {}
    for index, weights in enumerate(plan.weights.values()):
        arrays[f"weights/{index}/values"] = weights.values
        arrays[f"weights/{index}/scales"] = weights.scales
        arrays[f"weights/{index}/bias"] = weights.bias
    for index, (values, _) in enumerate(plan.constants.values()):
        arrays[f"constants/{index}"] = values
    for index, scale in enumerate(quantized.scales.values()):
        arrays[f"scales/{index}"] = scale
    biases = _float_biases(quantized)
    for index, bias in enumerate(biases.values()):
        arrays[f"float_biases/{index}"] = bias
    notes = {
        "float_biases": list(biases),
        "activations": {name: _pair(affine) for name, affine in plan.activations.items()},
        "weights": list(plan.weights),
        "constants": {name: _pair(affine) for name, (_, affine) in plan.constants.items()},
        "scales": list(quantized.scales),
        "record": plan.record,
        **{kind: sorted(getattr(plan, kind)) for kind in _NODE_SETS},
        "activation_type": plan.activation_type,
    }
    with (folder / ARRAYS).open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]
    (folder / NOTES).write_text(json.dumps(notes), encoding="utf-8")


def load(graph: Graph, folder: Path) -> Quantized:
    """Read what `save` wrote.

    Args:
        graph: the one that the quantizer was given.
    """
    notes = json.loads((folder / NOTES).read_text(encoding="utf-8"))
    with np.load(folder / ARRAYS, allow_pickle=False) as arrays:
        weights = {
            name: QuantizedWeights(
                *(arrays[f"weights/{index}/{part}"] for part in ("values", "scales", "bias"))
            )
            for index, name in enumerate(notes["weights"])
        }
        constants = {
            name: (arrays[f"constants/{index}"], Affine(*pair))
            for index, (name, pair) in enumerate(notes["constants"].items())
        }
        biases = {
            name: arrays[f"float_biases/{index}"]
            for index, name in enumerate(notes.get("float_biases", ()))
        }
        scales = {name: arrays[f"scales/{index}"] for index, name in enumerate(notes["scales"])}
    activations: Mapping[str, Affine] = {
        name: Affine(*pair) for name, pair in notes["activations"].items()
    }
    plan = QuantizationPlan(
        activations,
        weights,
        constants,
        notes["record"],
        **{kind: frozenset(notes.get(kind, ())) for kind in _NODE_SETS},
        activation_type=notes.get("activation_type", "int8"),
    )
    scaled = rescaled(graph, scales) if scales else graph
    return Quantized(_with_biases(scaled, biases), plan, scales)


def _float_biases(quantized: Quantized) -> dict[str, npt.NDArray[np.float32]]:
    """Those of float nodes, which were corrected in the graph itself."""
    return {
        node.name: node.bias
        for node in quantized.graph.nodes
        if isinstance(node, Conv | Dense) and not quantized.plan.keeps_int8_weights(node.name)
    }


def _with_biases(graph: Graph, biases: Mapping[str, npt.NDArray[np.float32]]) -> Graph:
    def changed(node: Node) -> Node:
        if isinstance(node, Conv | Dense) and node.name in biases:
            return replace(node, bias=biases[node.name])
        return node

    return replace(graph, nodes=tuple(map(changed, graph.nodes))) if biases else graph


def _pair(affine: Affine) -> tuple[float, int]:
    return affine.scale, affine.zero_point
