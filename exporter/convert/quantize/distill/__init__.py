"""`--quantizer distill`: what the default quantizer decided, learned on from there."""

from exporter.convert.quantize.distill.distill import FEWEST_IMAGES, check, distill, steps_ahead
from exporter.convert.quantize.distill.settings import DistillSettings

__all__ = ["FEWEST_IMAGES", "DistillSettings", "check", "distill", "steps_ahead"]
