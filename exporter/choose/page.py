"""The comparison as one self-contained HTML page."""

from __future__ import annotations

from exporter import __version__
from exporter.choose.results import Comparison


def render(comparison: Comparison) -> str:
    """The page as text."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("exporter.choose"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("choose.html.j2").render(
        comparison=comparison, version=__version__
    )
