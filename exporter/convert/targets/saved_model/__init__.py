"""Rebuild the graph with `tf.nn` and write it as a TensorFlow SavedModel.

`nodes.py` has one function a node kind. Weights are constants of the function and
not variables: the folder is smaller, the same graph gives the same bytes, and
converters need not freeze it. Only very large networks have variables (`held_back.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from exporter.bundle import CONTRACT, LABELS
from exporter.convert.graph import Conv, Dense, Graph
from exporter.convert.targets.input_scale import fold_input_scale
from exporter.convert.targets.saved_model.held_back import HeldBack
from exporter.convert.targets.saved_model.nodes import Value, build, supported_kinds
from exporter.convert.targets.saved_model.reproducible import make_reproducible
from exporter.hushed import hushed
from models.contract import INPUT_NAME, OUTPUT_NAME, Contract
from models.errors import MissingExtraError, UserError

SIGNATURE = "serving_default"
_LIMIT = 1_900_000_000  # bytes of constants; a protobuf message ends at 2 GB


class SavedModelError(UserError):
    """A model that cannot be written as a SavedModel."""


def write(graph: Graph, contract: Contract, path: Path) -> None:
    """Write a SavedModel folder.

    The signature 'serving_default' takes 'image', uint8 `[1, H, W, 3]`, and gives
    'probabilities', float32 `[1, classes]`. Labels and contract lie in `assets/`.

    Args:
        graph: what to write.
        contract: what goes beside it.
        path: the folder, made if it is not there.

    Raises:
        SavedModelError: operators that cannot be written, all at once; weights
            beyond what one file of this kind can hold.
        MissingExtraError: TensorFlow is not installed.
    """
    _check(graph)
    tf = _import_tensorflow()
    graph, held = fold_input_scale(graph), HeldBack()
    with _quiet(tf), hushed():
        tf.saved_model.save(_module(tf, graph, held), str(path))
    make_reproducible(Path(path), held)
    assets = Path(path) / "assets"
    assets.mkdir(exist_ok=True)
    (assets / LABELS).write_text("\n".join(contract.names) + "\n", encoding="utf-8")
    (assets / CONTRACT).write_text(contract.dumps(), encoding="utf-8")


def _module(tf: Any, graph: Graph, held: HeldBack) -> Any:
    _, channels, height, width = graph.input.shape
    call = build(tf, graph, held)
    shape = [1, height, width, channels]
    held.collect(tf, lambda: call(tf.raw_ops.Placeholder(dtype=tf.uint8, shape=shape)))

    class Classifier(tf.Module):
        @tf.function(
            autograph=False,
            input_signature=[tf.TensorSpec(shape, tf.uint8, name=INPUT_NAME)],
        )
        def serving_default(self, image: Value) -> dict[str, Value]:
            return {OUTPUT_NAME: call(image)}

    classifier = Classifier()
    if held.variables:
        classifier.weights = held.variables
    return classifier


def _check(graph: Graph) -> None:
    unknown = [n for n in graph.nodes if type(n) not in supported_kinds()]
    if unknown:
        raise SavedModelError(
            "The model cannot be written as a SavedModel.",
            "no operator for: " + ", ".join(f"{type(n).__name__} ({n.name})" for n in unknown),
            "leave that format out with --formats, or replace those layers",
        )
    weights = sum(n.weight.nbytes for n in graph.nodes if isinstance(n, Conv | Dense))
    if weights > _LIMIT:
        raise SavedModelError(
            "The model is too large for a SavedModel with constants.",
            f"its weights take {weights / 1e9:.1f} GB, one file holds 2 GB",
            "leave that format out with --formats",
        )


def _import_tensorflow() -> Any:
    try:
        with hushed():
            import tensorflow as tf
    except ImportError as error:
        raise MissingExtraError("tensorflow", "tensorflow", "Writing a SavedModel") from error
    return tf


@contextmanager
def _quiet(tf: Any) -> Iterator[None]:
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
