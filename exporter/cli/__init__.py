"""The command line. A command imports what it needs inside itself: `--help` answers at once."""

from exporter.cli import catalogue, choosing, data, evaluating, making, proving, training
from exporter.cli.roof import app, main

__all__ = [
    "app",
    "catalogue",
    "choosing",
    "data",
    "evaluating",
    "main",
    "making",
    "proving",
    "training",
]
