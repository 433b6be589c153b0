"""The roof: every command, its flags and how its errors look.

Only typer and rich are imported here; each command imports what it needs itself,
so that `exporter --help` answers at once.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Annotated

import typer
from rich.console import Console

from models.errors import UserError

app = typer.Typer(
    name="exporter",
    help="From a trained image classifier to files for a phone, each proven against the model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
_PATIENCE = 5.0  # seconds
_INTERRUPTED = 130
errors = Console(stderr=True, highlight=False)


def _show_version(wanted: bool) -> None:
    if wanted:
        from exporter import __version__

        typer.echo(f"exporter {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show it and stop."),
    ] = False,
) -> None:
    """From a trained image classifier to files for a phone, each proven against the model."""


def main() -> None:
    """Entry point: user errors become two or three plain lines and exit code 2."""
    try:
        app()
    except UserError as error:
        _leave_it_to_the_first(error.exit_code)
        errors.print(f"[bold red]Error:[/] {_plain(error.what)}", soft_wrap=True)
        if error.why:
            errors.print(f"  [bold]Why:[/] {_plain(error.why)}", soft_wrap=True)
        if error.mend:
            errors.print(f"  [bold]To mend it:[/] {_plain(error.mend)}", soft_wrap=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        _leave_it_to_the_first(_INTERRUPTED)
        errors.print("Interrupted; nothing was left half written.")
        sys.exit(_INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


def _leave_it_to_the_first(code: int) -> None:
    """Of several processes that train together, only the first says what went wrong.

    torchrun ends all of them as soon as one has ended; so the others wait for that.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("RANK", "0") != "0":
        if code != _INTERRUPTED:  # that comes to all of them at once
            time.sleep(_PATIENCE)
        sys.exit(code)


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)
