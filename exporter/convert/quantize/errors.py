"""What calibration and quantization ask the user to change."""

from __future__ import annotations

from models.errors import UserError


class CalibrationError(UserError):
    """The calibration images cannot be used, or the network breaks on them."""


class QuantizationError(UserError):
    """The network cannot be expressed in int8 as it stands."""
