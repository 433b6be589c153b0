"""Run the command line in this process, as a shell would see it."""

from __future__ import annotations

import contextlib
import io
import sys
from dataclasses import dataclass
from unittest import mock


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


def run_cli(*words: object) -> Ran:
    """`exporter WORDS...`; every exception that would be a traceback is let through."""
    from exporter import cli
    from exporter.cli import roof

    out, err = io.StringIO(), io.StringIO()
    code = 0
    roof.errors.file = err
    arguments = ["exporter", *map(str, words)]
    with (
        mock.patch.object(sys, "argv", arguments),
        mock.patch.dict("os.environ", {"COLUMNS": "200"}),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            cli.main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(bool(ended.code))
    return Ran(code, out.getvalue(), err.getvalue())
