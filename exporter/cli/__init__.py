"""The command line. A command imports what it needs inside itself: `--help` answers at once."""

from exporter.cli import making, proving
from exporter.cli.roof import app, main

__all__ = ["app", "main", "making", "proving"]
