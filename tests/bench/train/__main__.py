"""`make bench-train`: the figures of docs/training.md, measured by the commands that stand there.

Photographs and weights are those of `--data`, `$EXPORTER_BENCH_DATA` or `../shared/data`; parts
that need them say 'not run' where they are absent. Finished parts are kept in `--work`, so that an
interrupted bench goes on; `--anew` forgets them.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.int8.protocol import find_data
from bench.train import flowers, longtail, multilabel, resumed, written
from bench.train.commands import Bench
from bench.train.rows import Row, not_run
from models.errors import UserError

Part = Callable[[Bench], list[Row]]
PARTS: dict[str, Part] = {
    "frozen": flowers.frozen,
    "unfrozen": flowers.unfrozen,
    "long-tail": longtail.measure,
    "multi-label": multilabel.measure,
    "resume": resumed.measure,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write the table into the page; 1 where a goal was missed."""
    options = _options(arguments)
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    options.work.mkdir(parents=True, exist_ok=True)
    bench = Bench(options.work, _data(options.data), options.anew, console)
    rows: list[Row] = []
    for name in options.only or PARTS:
        console.print(f"== {name} ==")
        try:
            rows += PARTS[name](bench)
        except UserError as error:
            rows.append(not_run(name, str(error).splitlines()[0]))
    _show(rows, console)
    if options.page:
        written.put(options.page, rows)
        console.print(f"Wrote {escape(str(options.page))}")
    return int(any(row.reached is False for row in rows))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-train", description=__doc__)
    parser.add_argument("--data", type=Path, help="weights/ and images/flowers17/")
    parser.add_argument("--only", action="append", choices=list(PARTS), help="one part; repeatable")
    parser.add_argument("--page", type=Path, help="put the table into this page, docs/training.md")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "bench-train")
    parser.add_argument("--anew", action="store_true", help="forget earlier results")
    return parser.parse_args(arguments)


def _data(given: Path | None) -> Path | None:
    try:
        return find_data(given)
    except UserError:
        if given is not None:
            raise
        return None


def _show(rows: Sequence[Row], console: Console) -> None:
    table = Table("figure", "measured", "goal", "", title=f"{platform.processor() or 'CPU'}, "
                  f"Python {platform.python_version()}")  # fmt: skip
    for row in rows:
        table.add_row(escape(row.figure), escape(row.measured), escape(row.goal), row.verdict)
    console.print(table)


if __name__ == "__main__":
    raise SystemExit(main())
