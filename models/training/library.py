"""Torch and Lightning for the modules of this package, which only `train` imports."""

from __future__ import annotations

from models.errors import MissingExtraError
from models.torchvision_shim import import_torchvision

import_torchvision()  # Lightning imports torchvision by itself
try:
    import lightning
    import torch
except ImportError as error:
    raise MissingExtraError("lightning", "train", "Training") from error

__all__ = ["lightning", "torch"]
