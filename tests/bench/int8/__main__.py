"""`make bench-int8`: our int8 files beside those of other quantizers, with 95 % intervals.

All quantize the same float weights on the same 100 photographs; 400 others judge. Files
run in LiteRT with XNNPACK on one thread and give their logits as a measuring copy's
output; quantizers that write no phone file are simulated, and say so. Peers are installed
once, each in an environment of its own in the user's cache ($EXPORTER_CACHE moves it),
and their answers are kept there.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from bench import sizes
from bench.int8 import output, peers, plot, protocol, rows
from bench.int8.ours import METHODS, Method, Ours, help_text
from bench.int8.peers import PEERS, Peer
from bench.int8.prepared import Prepared, export_float, prepare
from bench.int8.protocol import Task
from models.errors import UserError

RUNS = 200


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; 2 where there is nothing to measure on."""
    options = _parser().parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 220, highlight=False)
    try:
        _run(options, console)
    except UserError as error:
        console.print(escape(str(error)))
        return error.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make bench-int8", description=__doc__)
    parser.add_argument("--data", type=Path, help="weights and photographs; default: "
                        f"${protocol.DATA}, else ../shared/data")  # fmt: skip
    parser.add_argument("--only", action="append", metavar="NAME",
                        choices=[*(one.key for one in METHODS), *(one.key for one in PEERS)],
                        help="one quantizer, ours or a peer; may be given again")  # fmt: skip
    parser.add_argument("--peers", choices=["all", "none"], default="all")
    parser.add_argument("--folds", type=int, choices=[protocol.FOLDS],
                        help="cross-validate our own: each fifth calibrates once")  # fmt: skip
    parser.add_argument("--checkpoint", type=Path,
                        help="flowers17 with this fine-tuned checkpoint, not ImageNet")  # fmt: skip
    parser.add_argument("--runs", type=int, default=RUNS, help="timed runs of a file; 0: none")
    parser.add_argument("--out", type=Path, help="write int8.json, int8.md and int8.png here")
    return parser


def chosen(
    only: Sequence[str] | None, which_peers: str, folds: bool
) -> tuple[list[Method], list[Peer]]:
    """The quantizers asked for, in the table's order.

    Raises:
        UserError: none is left.
    """
    methods = [one for one in METHODS if not only or one.key in only]
    others = [one for one in PEERS if not only or one.key in only]
    if which_peers == "none" or folds:
        others = []
    if not methods and not others:
        raise UserError(
            "not run: no quantizer is left to measure.",
            "--only names peers, and --peers none or --folds leaves those out",
            "name one of " + ", ".join(one.key for one in METHODS),
        )
    return methods, others


def _run(options: argparse.Namespace, console: Console) -> None:
    methods, others = chosen(options.only, options.peers, bool(options.folds))
    data = protocol.find_data(options.data)

    def say(line: str) -> None:
        console.print(escape(line))

    if options.checkpoint:
        if options.folds:
            raise UserError("not run: --folds is for ImageNet.", "flowers17 has its own two splits")
        tasks = [protocol.flowers(data, options.checkpoint)]
    else:
        tasks = [protocol.imagenet(data, fold) for fold in range(options.folds or 1)]
    with tempfile.TemporaryDirectory(prefix="bench-int8-") as name:
        found = []
        say(f"{tasks[0].name}: exporting the float network ...")
        bundle = export_float(tasks[0], Path(name) / "float")
        for index, task in enumerate(tasks):
            if options.folds:
                say(f"Fold {index + 1} of {len(tasks)}")
            prepared = prepare(task, bundle, Path(name) / str(index))
            runs = 0 if options.folds else options.runs
            found.append(measure(prepared, methods, others, runs, say))
    if options.folds:
        _report_folds(options.out, found, console)
    else:
        _report(options.out, tasks[0], found[0], console)


def measure(
    prepared: Prepared, methods: Sequence[Method], others: Sequence[Peer], runs: int,
    say: Callable[[str], None],
) -> list[rows.Row]:  # fmt: skip
    """One task with every quantizer asked for, one after the other."""
    measuring = rows.Measuring(prepared, say)
    ours = Ours(prepared, help_text())
    version = importlib.metadata.version("exporter")
    installed = sizes.installed_megabytes(frozenset())
    for method in methods:
        measuring.add_ours(method, ours.run, version, installed)
    for peer in others:
        measuring.add_peer(peer, peers.run)
    return measuring.rows(runs)


def _report(out: Path | None, task: Task, found: Sequence[rows.Row], console: Console) -> None:
    title = (
        f"{task.name}: {len(task.calibration)} photographs calibrate, "
        f"{len(task.evaluation)} others evaluate"
    )
    parts = [
        ("Fidelity", output.FIDELITY, output.fidelity_lines(found)),
        ("Cost", output.COST, output.cost_lines(found)),
    ]
    if task.name == protocol.IMAGENET:
        parts.append(("Goals", output.GOAL_HEAD, output.goal_lines(found)))
    _show(console, title, parts)
    if out:
        _write(out, title, parts)
        output.write_json(out / "int8.json", title, found)
        plot.write_plot(out / "int8.png", title, found)


def _report_folds(out: Path | None, folds: Sequence[list[rows.Row]], console: Console) -> None:
    found = rows.over_folds(folds)
    title = f"ImageNet over {len(folds)} folds: mean ± standard deviation (extremes)"
    parts = [("Folds", output.FOLDS, output.fold_lines(found))]
    _show(console, title, parts)
    for row in folds[0]:
        if row.label not in found:
            console.print(f"{row.label}: not run: {row.not_run or 'it failed in one of the folds'}")
    if out:
        _write(out, title, parts)
        every = [row for fold in folds for row in fold]
        output.write_json(out / "int8.json", title, every, found)


Parts = Sequence[tuple[str, Sequence[str], output.Lines]]


def _show(console: Console, title: str, parts: Parts) -> None:
    for name, head, lines in parts:
        console.print(output.terminal(f"{title}: {name}", head, lines))


def _write(folder: Path, title: str, parts: Parts) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(f"\n{output.markdown(head, lines)}" for _, head, lines in parts)
    (folder / "int8.md").write_text(f"{title}.\n{text}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
