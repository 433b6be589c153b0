"""`exporter choose`: candidates one at a time, then all their files against each other."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from exporter.choose import measuring, output, photographs, starts, stored, terminal
from exporter.choose.board import Board
from exporter.choose.candidate import STEPS, Finished, Setting, finish
from exporter.choose.decide import decide
from exporter.choose.photographs import Photographs
from exporter.choose.request import ChooseRequest, check
from exporter.choose.results import Comparison, Latency
from exporter.choose.starts import Origin
from exporter.choose.state import CANDIDATES, Stages, workplace
from exporter.prove.latency import device_name
from models.errors import UserError
from models.finetune import TrainingInterruptedError

IMAGES = "images"


class ChooseInterruptedError(UserError):
    """Somebody stopped the comparison; the same command goes on with it."""

    exit_code = 130


def run_and_show(request: ChooseRequest, console: Console | None = None) -> int:
    """Compare, write the table and the page, and print them.

    Returns:
        The exit code: 0, or 1 when no candidate was finished.
    """
    console = console or Console()
    comparison = choose(request, console)
    page = output.write(comparison, request.out)
    console.print()
    terminal.show(comparison, console)
    _say_what_next(comparison, request, page, console)
    return 0 if any(not each.failure for each in comparison.outcomes) else 1


def choose(request: ChooseRequest, console: Console) -> Comparison:
    """Train, export, prove and measure every candidate; choose.json is written at the end.

    What an earlier call in the same folder has finished is not done again.

    Raises:
        UserError: anything that the person can mend; found before the first training.
        ChooseInterruptedError: Ctrl-C; what is finished is kept.
    """
    formats = check(request)
    with Board(console) as board:
        try:
            found = photographs.gather(request) if request.data is not None else None
            board.start("looking for weights", None)
            origins = starts.settle(request.candidates, request.weights_dir, board.note)
            board.done(_origins_in_words(origins))
            with workplace(request.out, request.force) as ledger:
                comparison = _compare(request, formats, found, origins, ledger, board)
                stored.save(comparison, request.out)
        except (KeyboardInterrupt, TrainingInterruptedError) as error:
            raise ChooseInterruptedError(
                "The comparison was interrupted.",
                f"what is finished lies in {request.out}",
                "go on with the same command",
            ) from error
    return comparison


def _compare(
    request: ChooseRequest,
    formats: tuple[str, ...],
    found: Photographs | None,
    origins: dict[str, Origin],
    ledger: Stages,
    board: Board,
) -> Comparison:
    board.plan(STEPS * len(request.candidates) + 1)
    images = _images(request, found, ledger, board)
    setting = Setting(
        request,
        formats,
        images,
        photographs.set_out(images, request.out / IMAGES),
        measuring.memory(None, request.threads),
    )
    finished = []
    for place, candidate in enumerate(request.candidates):
        title = f"{place + 1} of {len(request.candidates)}: {candidate.name}"
        board.at(title, STEPS * place)
        finished.append(finish(setting, candidate, origins[candidate.name], board))
    board.at("All of them, in turns", STEPS * len(request.candidates))
    latency = _latencies(setting, finished, ledger, board)
    board.passed()
    outcomes = tuple(each.outcome(setting, latency[each.candidate.name]) for each in finished)
    threads = f"{request.threads} thread{'s' if request.threads > 1 else ''}"
    return Comparison(
        outcomes,
        request.budget,
        images.words,
        f"{device_name()}, {threads}",
        len(images.test),
        _notes(request, images),
        len(images.train.classes),
    )


def _images(
    request: ChooseRequest, found: Photographs | None, ledger: Stages, board: Board
) -> Photographs:
    """The images, drawn where asked, each of them decoded once."""
    if found is None:
        from models.data.synthetic import LABELS

        board.start("drawing snakes", sum(request.drawn) * len(LABELS))
        photographs.draw(request, board.advance)
        found = photographs.gather(request)
        board.done()
    if ledger.result("images", found.identity) is None:
        count = len(found.train) + len(found.validation) + len(found.test)
        board.start("looking at every image", count)
        photographs.refuse_unreadable(found, board.advance)
        board.done(found.words)
        ledger.keep("images", found.identity, {})
    return found


def _latencies(
    setting: Setting, finished: Sequence[Finished], ledger: Stages, board: Board
) -> dict[str, dict[str, Latency]]:
    """Of each candidate's files by format key; all of them measured in turns."""
    threads = setting.request.threads
    files = [file for each in finished for file in each.files()]
    table: dict[str, dict[str, Latency]] = {each.candidate.name: {} for each in finished}
    if not files:
        return table
    key = measuring.key_of(files, threads)
    known = ledger.result("latency", key)
    if known is None:
        board.start(f"timing {len(files)} files", measuring.ROUNDS + measuring.WARMUP)
        items = setting.photographs.test.items
        pictures = [item.path for item in items[:: max(1, len(items) // measuring.PICTURES)]]
        taken = measuring.latencies(files, pictures[: measuring.PICTURES], threads, board.advance)
        board.done()
        known = {"files": [[latency.median, latency.p90] for latency in taken]}
        ledger.keep("latency", key, known)
    for file, (median, p90) in zip(files, known["files"], strict=True):
        table[file.candidate][file.key] = Latency(median, p90)
    return table


def _origins_in_words(origins: dict[str, Origin]) -> str:
    from_nothing = sum(origin.start == "scratch" for origin in origins.values())
    return f"{len(origins) - from_nothing} published, {from_nothing} from nothing"


def _notes(request: ChooseRequest, images: Photographs) -> tuple[str, ...]:
    passes = f"{request.epochs} pass{'es' if request.epochs > 1 else ''}"
    return (
        *images.notes,
        f"Every candidate had {passes} over the same images. Where it starts from published "
        "weights, its backbone stays as it is and a new head is trained on its features; from "
        "scratch, the whole network is trained.",
        f"Latency: one picture at a time, the median of {measuring.ROUNDS} rounds in which all "
        "files take turns in one process; times of this machine, not of a phone.",
        "Peak memory: the most that a process holds which loads a .tflite file and runs it in "
        "LiteRT, above what the same process holds without a file.",
    )


def _say_what_next(
    comparison: Comparison, request: ChooseRequest, page: Path, console: Console
) -> None:
    out = request.out
    console.print()
    console.print(
        f"[bold green]Wrote {escape(str(page))}[/], {output.CSV} and {stored.FILE} beside it; "
        f"the files of each candidate lie in {escape(str(out / CANDIDATES))}/",
        highlight=False,
        soft_wrap=True,
    )
    decision = decide(comparison)
    taken = decision.taken or decision.nearest
    if taken is None:
        return
    candidate = next(each for each in request.candidates if each.name == taken.name)
    dist = out / CANDIDATES / candidate.slug / "dist"
    lines = [f"Next: {_training_line(request, candidate.name, taken.outcome.weights)}"]
    if dist.is_dir():
        lines.append(f"      {dist} is a bundle already, of the short training")
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _training_line(request: ChooseRequest, name: str, weights: str) -> str:
    """The command that trains a candidate in full."""
    candidate = next(each for each in request.candidates if each.name == name)
    data = request.data
    drawn = request.out / photographs.DRAWN
    sources = {"--data": data, "--validation": request.validation, "--test": request.test}
    if data is None:
        sources = {"--data": drawn / "train", "--validation": drawn / "validation"}
    words = ["exporter", "train"]
    for flag, folder in sources.items():
        words += [flag, str(folder)] if folder is not None else []
    words += ["--arch", candidate.architecture]
    for key, value in candidate.given.items():
        words += ["--option", f"{key}={value:g}"]
    if weights:
        local = request.weights_dir / weights if request.weights_dir is not None else None
        known = local is not None and local.is_file()
        words += ["--weights", str(local) if known else "imagenet"]
    return shlex.join([*words, "--out", f"runs/{candidate.slug}"])
