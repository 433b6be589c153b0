"""From the dictionary that a Core ML classifier gives to the contract's order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from exporter.prove.runtimes.coreml.errors import CoreMLFileError


def in_contract_order(
    labels: tuple[str, ...], names: tuple[str, ...], path: Path
) -> npt.NDArray[np.intp]:
    """Where each of the contract's labels is among the file's.

    Core ML hands an app probabilities by label, so a file with its labels in another
    order gives other answers, and this is what shows it.

    Raises:
        CoreMLFileError: the file and the contract do not have the same labels.
    """
    places = {label: place for place, label in enumerate(labels)}
    lacking = [name for name in names if name not in places]
    extra = sorted(set(labels) - set(names))
    if lacking or extra:
        raise CoreMLFileError(
            f"{path}: the class labels are not those of the contract.",
            f"lacking: {lacking[:5]}; not in the contract: {extra[:5]}",
        )
    return np.array([places[name] for name in names], dtype=np.intp)
