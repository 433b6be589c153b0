"""The command that shows which networks there are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from exporter.cli.options import Report
from exporter.cli.roof import app
from models.errors import UserError


@app.command()
def zoo(
    name: Annotated[
        str | None, typer.Argument(help="One architecture: its card and its options.")
    ] = None,
    json: Report = None,
    markdown: Report = None,
) -> None:
    """Show the architectures: size, cost, published accuracy; with NAME the whole card."""
    import json as json_text

    from rich.console import Console

    from exporter import zoo_table
    from models import zoo as registry
    from models.zoo.card import load

    if name is not None:
        registry.get(name)  # a wrong name is the user's, a missing card ours
        if markdown is not None:
            raise UserError("--markdown was given with a NAME.", "it writes all cards", "omit one")
    shown = zoo_table.cards() if name is None else [load(name)]
    if json is not None:
        data = [zoo_table.as_json(card) for card in shown]
        _write(json, json_text.dumps(data if name is None else data[0], indent=1) + "\n")
    if markdown is not None:
        _write(markdown, zoo_table.markdown(shown))
    Console(highlight=False).print(
        zoo_table.table(shown) if name is None else zoo_table.page(shown[0])
    )


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"{path} cannot be written.",
            error.strerror or str(error),
            "give the path of a file in a folder that exists and may be written",
        ) from error
