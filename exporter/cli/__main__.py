"""`python -m exporter.cli` is `exporter`."""

from exporter.cli import main

main()
