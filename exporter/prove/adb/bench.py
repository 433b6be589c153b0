"""Times files on a device: interleaved rounds, pauses while it is hot, nothing left behind."""

from __future__ import annotations

import contextlib
import secrets
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from exporter.bundle import BY_KEY
from exporter.prove.adb import states, tool
from exporter.prove.adb.client import AdbError, Answer, Device
from exporter.prove.adb.states import About, State
from exporter.prove.adb.tool import Run
from exporter.prove.latency import MIN_RUNS
from exporter.prove.results import Latency, LatencyResult
from models.errors import UserError

_TMP = "/data/local/tmp"  # the one place where adb's user may store and run programs
_PROGRAM = "benchmark_model"


@dataclass(frozen=True)
class DeviceSettings:
    """How to measure.

    Attributes:
        runs: timed inferences of each file, spread over the rounds.
        rounds: in each of them every file has its turn, another one first.
        warmup: untimed inferences before each turn; the tool warms up for half a
            second at least.
        pause_s: how long to wait at a time while the thermal status is above 'none'.
        pause_limit_s: how long to wait for that in all; 0 measures whatever the heat.
        timeout_s: how long one turn may take.
    """

    threads: int = 1
    delegate: str = "xnnpack"
    runs: int = 100
    rounds: int = 5
    warmup: int = 10
    pause_s: float = 15.0
    pause_limit_s: float = 300.0
    timeout_s: float = 400.0

    def __post_init__(self) -> None:
        if self.delegate not in tool.DELEGATES:
            known = ", ".join(tool.DELEGATES)
            raise UserError(
                f"There is no delegate {self.delegate}.", f"there are: {known}", "name one of these"
            )
        if self.runs < MIN_RUNS or not 1 <= self.rounds <= self.runs or self.threads < 1:
            raise UserError(
                f"{self.runs} runs, {self.rounds} rounds, {self.threads} threads were asked for.",
                f"a steady median takes {MIN_RUNS} runs, and every round at least one",
                "ask for more runs or fewer rounds",
            )


@dataclass(frozen=True)
class Turn:
    """One file in one round, with the device's state around it."""

    round: int
    key: str
    before: State
    after: State
    run: Run


@dataclass(frozen=True)
class DeviceBench:
    """What was measured.

    Attributes:
        turns: every turn of the complete rounds, in order.
        not_timed: key and reason of files on which the tool failed.
        paused_s: seconds spent waiting for the device to cool down.
        notes: what a reader has to know about the figures.
    """

    about: About
    settings: DeviceSettings
    turns: tuple[Turn, ...]
    not_timed: tuple[tuple[str, str], ...]
    paused_s: float
    notes: tuple[str, ...]

    def of(self, key: str) -> list[Run]:
        return [turn.run for turn in self.turns if turn.key == key]

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(sorted((t.key for t in self.turns), key=list(BY_KEY).index)))

    def latency(self) -> Latency:
        """The table: medians over the rounds; ratios to the float32 file, else to the first.

        The model itself is not on the device, so no row is 'torch'.
        """
        middles = {key: median(run.median_us for run in self.of(key)) for key in self.keys}
        base = next((k for k in self.keys if BY_KEY[k].precision == "float32"), self.keys[0])
        return Latency(
            device=self.about.title,
            threads=self.settings.threads,
            warmup=self.settings.warmup,
            results=tuple(
                LatencyResult(
                    key=key,
                    runtime=" / ".join(dict.fromkeys(run.delegate for run in self.of(key))),
                    runs=sum(run.runs for run in self.of(key)),
                    median_ms=middle / 1e3,
                    p90_ms=max(middle, median(run.p90_us for run in self.of(key))) / 1e3,
                    ratio=middle / middles[base],
                )
                for key, middle in middles.items()
            ),
            not_timed=self.not_timed,
            relative_to=base,
        )


@dataclass
class Workplace:
    """A private folder on a device, with the tool in it.

    Attributes:
        folder: its path there.
        left: why it could not be removed in the end, or None.
    """

    device: Device
    folder: str
    left: str | None = None

    def path(self, name: str) -> str:
        return f"{self.folder}/{name}"

    def run(self, flags: Sequence[str], timeout: float) -> Answer:
        """Call the tool; its process id is noted, so that leaving can end it."""
        call = shlex.join((f"./{_PROGRAM}", *flags))
        return self.device.script(
            f"cd {self.folder} && {{ {call} >log 2>&1 & echo $! >pid; wait $!; code=$?; "
            "rm -f pid; cat log; (exit $code); }",
            timeout,
        )


@contextlib.contextmanager
def workplace(device: Device, program: Path) -> Iterator[Workplace]:
    """Put the tool into a fresh folder on the device; remove all of it on leaving.

    Raises:
        AdbError: the folder cannot be made, or the tool does not arrive.
    """
    place = Workplace(device, f"{_TMP}/exporter-{secrets.token_hex(6)}")
    made = device.shell("mkdir", "-m", "700", place.folder)
    if made.code != 0:
        raise AdbError(
            f"{_TMP} on {device.serial} cannot be written.", made.text[:200], "make room there"
        )
    try:
        device.push(program, place.path(_PROGRAM))
        device.shell("chmod", "755", place.path(_PROGRAM))
        yield place
    finally:
        ending = f'[ -f {place.folder}/pid ] && kill -9 "$(cat {place.folder}/pid)"; '
        try:
            removed = device.script(f"{ending}rm -rf {place.folder}")
            place.left = None if removed.code == 0 else removed.text[:200]
        except AdbError as error:
            place.left = error.why or error.what


@dataclass
class _Cooling:
    """Waits while the device is hot, up to a limit over the whole measurement."""

    device: Device
    settings: DeviceSettings
    sleep: Callable[[float], None]
    waited_s: float = 0.0

    def state(self) -> State | None:
        """The state to begin in; None when the limit is used up and it is still hot."""
        while True:
            now = states.state(self.device)
            if not now.thermal or self.settings.pause_limit_s == 0:
                return now
            left = self.settings.pause_limit_s - self.waited_s
            if left <= 0:
                return None
            pause = min(self.settings.pause_s, left)
            self.sleep(pause)
            self.waited_s += pause


@dataclass
class _Record:
    turns: list[Turn] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def measure(
    place: Workplace,
    about: About,
    graphs: Mapping[str, str],
    settings: DeviceSettings,
    sleep: Callable[[float], None] = time.sleep,
    on_turn: Callable[[], None] = lambda: None,
) -> DeviceBench:
    """Time files against each other.

    Args:
        graphs: format key to the file's path on the device.
        sleep: seconds.
        on_turn: called after each turn.

    Raises:
        AdbError: the device went away, or is too hot for a single round.
        ToolError: the tool failed on every file, or prints what is not understood.
    """
    cooling, record = _Cooling(place.device, settings, sleep), _Record()
    keys, ended = list(graphs), ""
    for turn in range(settings.rounds):
        took = _round(place, graphs, [*keys[turn % len(keys) :], *keys[: turn % len(keys)]],
                      turn, settings, cooling, record, on_turn)  # fmt: skip
        if took is None:
            ended = (
                f"ended after {turn} of {settings.rounds} rounds: the device was still hot after "
                f"{cooling.waited_s:g} s of pauses"
            )
            break
        record.turns += took
    if not record.turns and ended:
        raise AdbError(
            f"{place.device.serial} is too hot to be measured.",
            ended,
            "let it cool down, off the charger and out of the sun; --pause-limit 0 measures it hot",
        )
    turns = tuple(turn for turn in record.turns if turn.key not in record.failed)
    if not turns:
        reasons = "; ".join(f"{key}: {why}" for key, why in record.failed.items())
        raise tool.ToolError(
            "The benchmark tool failed on every file.", reasons, "try --delegate none"
        )
    notes = (*((ended,) if ended else ()), *_notes(turns, about, settings))
    return DeviceBench(
        about, settings, turns, tuple(record.failed.items()), cooling.waited_s, notes
    )


def _round(
    place: Workplace,
    graphs: Mapping[str, str],
    order: Sequence[str],
    number: int,
    settings: DeviceSettings,
    cooling: _Cooling,
    record: _Record,
    on_turn: Callable[[], None],
) -> list[Turn] | None:
    """One turn of every file; None when the device is too hot to finish the round."""
    runs = -(-settings.runs // settings.rounds)
    taken = []
    for key in order:
        if key in record.failed:
            continue
        before = cooling.state()
        if before is None:
            return None
        flags = tool.timing_flags(
            graphs[key], settings.threads, settings.delegate, runs, settings.warmup
        )
        answer = place.run(flags, settings.timeout_s)
        try:
            run = tool.read_run(
                answer.text, answer.code, graphs[key], settings.threads, settings.delegate
            )
        except tool.RunFailed as error:
            record.failed[key] = error.what
            continue
        taken.append(Turn(number, key, before, states.state(place.device), run))
        on_turn()
    return taken


def _notes(turns: Sequence[Turn], about: About, settings: DeviceSettings) -> Iterator[str]:
    hot = sorted({turn.key for turn in turns if turn.before.thermal or turn.after.thermal})
    if about.emulator:
        yield "this is an emulator: its times say nothing of a phone"
    if hot:
        yield f"the device was warm in some turns of {', '.join(hot)}; it may have slowed down"
    if turns[0].before.thermal is None:
        yield "this Android does not tell its thermal status (10 and later do): nothing was paused"
    if any(turn.before.charging for turn in turns):
        yield "the device was charging, which warms it"
    runs = [turn.run for turn in turns]
    if any(run.statistic == "mean" for run in runs):
        yield ("this benchmark tool gives no percentiles: 'median' is the mean of each turn, "
               "'p90' its largest time; a current tool gives them")  # fmt: skip
    else:
        yield "p90 is interpolated between the tool's median and its p95"
    refused = sorted({turn.key for turn in turns if turn.run.applied is False})
    if refused:
        yield f"{settings.delegate} was asked for and did not run: {', '.join(refused)}"
    ignored = sorted({flag for run in runs for flag in run.ignored})
    if ignored:
        yield f"flags that this tool does not know: {', '.join(ignored)}"
