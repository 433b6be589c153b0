"""Import torchvision where its compiled operators do not load.

A torchvision wheel built for another build of torch imports its Python code but
not its C++ library, and then fails on the missing operators `torchvision::nms`
and `torchvision::qnms`, which no classifier uses. Declaring the two schemas lets
the import through. Nothing happens where torchvision imports by itself.
"""

from __future__ import annotations

import sys
from typing import Any

from models.errors import MissingExtraError

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_keep_alive: list[Any] = []


def import_torchvision() -> Any:
    """Return the torchvision module, declaring its missing operators if need be.

    Call it before anything that imports torchvision by itself (lightning and
    torchmetrics do).

    Raises:
        MissingExtraError: torch or torchvision is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError("torch", "torch", "Reading a PyTorch model") from error
    try:
        import torchvision
    except ImportError as error:
        raise MissingExtraError("torchvision", "torch", "Reading a PyTorch model") from error
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        for name in [m for m in sys.modules if m.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        for schema in _SCHEMAS:
            library.define(schema)
        _keep_alive.append(library)  # the schemas live as long as this object
        import torchvision
    return torchvision
