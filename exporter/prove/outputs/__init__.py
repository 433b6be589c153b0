"""The proof for its readers: a terminal, a CI system, a pull request."""

from __future__ import annotations

from exporter.prove.outputs.junit import junit
from exporter.prove.outputs.markdown import append_to_step_summary, markdown
from exporter.prove.outputs.tables import findings_table, latency_table, table

__all__ = [
    "append_to_step_summary",
    "findings_table",
    "junit",
    "latency_table",
    "markdown",
    "table",
]
