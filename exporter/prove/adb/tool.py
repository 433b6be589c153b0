"""LiteRT's `benchmark_model`: its flags, and what it prints.

Flags and messages follow google-ai-edge/LiteRT, tflite/tools/benchmark
(benchmark_model.cc, benchmark_tflite_model.cc). Newer tools add p5, median and p95 to
their statistics; older ones give the mean only, which is then said.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from models.errors import UserError

Delegate = Literal["xnnpack", "gpu", "none"]
DELEGATES: tuple[str, ...] = get_args(Delegate)
_FLAGS: dict[str, tuple[str, ...]] = {
    "xnnpack": ("--use_xnnpack=true",),
    "gpu": ("--use_gpu=true",),
    "none": ("--use_xnnpack=false",),
}
_MACHINES = {183: "arm64-v8a", 40: "armeabi-v7a", 62: "x86_64", 3: "x86", 243: "riscv64"}
_NUMBER = r"([0-9.]+(?:e[+-]?\d+)?)"
WHERE = "https://developers.google.com/edge/litert/models/measurement"  # Google's page
_OTHER_TOOL = f"take a current benchmark_model for Android from {WHERE}"


class ToolError(UserError):
    """The benchmark tool cannot be used, or printed what is not understood."""


class RunFailed(UserError):  # noqa: N818 - one file's fate, not an error of the whole
    """The tool ended with an error on one file."""


@dataclass(frozen=True)
class Run:
    """One call of the tool, times in microseconds.

    Attributes:
        runs: timed inferences.
        median_us: their median; the mean where the tool is too old to give one.
        p90_us: interpolated between the tool's median and its p95; the largest time
            where the tool gives neither.
        statistic: which of the two `median_us` is.
        delegate: what ran the graph, in words.
        applied: whether the delegate asked for took any of it; None: not told.
        memory_mb: growth of the tool's footprint while it ran.
        ignored: flags that the tool did not know.
    """

    runs: int
    median_us: float
    p90_us: float
    min_us: float
    max_us: float
    statistic: Literal["median", "mean"]
    init_us: float
    delegate: str
    applied: bool | None
    memory_mb: float | None
    ignored: tuple[str, ...]


def check_tool(path: Path, abis: tuple[str, ...]) -> str:
    """Look at the tool's ELF header before it goes to a device.

    Returns:
        The tool's ABI, e.g. 'arm64-v8a'.

    Raises:
        ToolError: no file, no program for Linux, or for another processor than the device's.
    """
    try:
        with Path(path).open("rb") as stream:
            head = stream.read(20)
    except OSError as error:
        raise ToolError(
            f"The benchmark tool {path} cannot be read.",
            error.strerror or str(error),
            f"check --benchmark-tool, or {_OTHER_TOOL}",
        ) from error
    if len(head) < 20 or head[:4] != b"\x7fELF":
        kind = "an archive or an .apk" if head[:2] == b"PK" else "no program for Android"
        raise ToolError(f"{path} is no benchmark tool.", f"it is {kind}", _OTHER_TOOL)
    number = int.from_bytes(head[18:20], "little" if head[5] == 1 else "big")
    abi = _MACHINES.get(number, f"machine {number}")
    if abi not in abis:
        raise ToolError(
            f"The benchmark tool {path} is built for {abi}.",
            f"the device runs {', '.join(abis)}",
            f"{_OTHER_TOOL}, built for {abis[0]}",
        )
    return abi


def timing_flags(
    graph: str, threads: int, delegate: str, runs: int, warmup: int
) -> tuple[str, ...]:
    """Flags that time one file: exactly `runs` inferences after at least `warmup`."""
    return (
        f"--graph={graph}", f"--num_threads={threads}", f"--num_runs={runs}",
        "--min_secs=0", f"--warmup_runs={warmup}", *_FLAGS[delegate],
    )  # fmt: skip


def answer_flags(
    graph: str, threads: int, delegate: str, size: tuple[int, int], pixels: str, output: str
) -> tuple[str, ...]:
    """Flags that run one image once and save what comes out.

    Args:
        size: height and width of the input.
        pixels: file on the device with the raw bytes of the input tensor.
        output: file on the device that the output tensor's raw bytes go to.
    """
    return (
        f"--graph={graph}", f"--num_threads={threads}", "--num_runs=1", "--min_secs=0",
        "--warmup_runs=1", "--warmup_min_secs=0", "--input_layer=image",
        f"--input_layer_shape=1,{size[0]},{size[1]},3",
        f"--input_layer_value_files=image:{pixels}", f"--output_filepath={output}",
        *_FLAGS[delegate],
    )  # fmt: skip


def read_run(text: str, code: int, graph: str, threads: int, delegate: str) -> Run:
    """Read what the tool printed.

    Args:
        code: its exit code.
        graph, threads, delegate: what it was called with; its output has to agree.

    Raises:
        RunFailed: it ended with an error.
        ToolError: it ended well, but its output is not understood or contradicts itself.
    """
    if code != 0:
        raise RunFailed(failure(text, code))
    summary = _one(
        rf"Inference timings in us: Init: {_NUMBER}, First inference: {_NUMBER}, "
        rf"Warmup \(avg\): {_NUMBER}, Inference \(avg\): {_NUMBER}\s*$",
        text,
        "the line 'Inference timings in us'",
    )
    statistics = re.findall(r"\bcount=.*$", text, re.MULTILINE)
    if len(statistics) != 2:
        raise _odd(f"{len(statistics)} lines of statistics where 2 were expected", text)
    numbers = _statistics(statistics[1], text)
    if not math.isclose(numbers["avg"], float(summary[3]), rel_tol=1e-3):
        raise _odd(f"two averages: {numbers['avg']:g} and {summary[3]}", text)
    for what, found, wanted in (
        ("graph", re.findall(r"Graph: \[(.*?)\]", text), graph),
        ("threads", re.findall(r"#threads used for CPU inference: \[(\d+)\]", text), str(threads)),
    ):
        if any(value != wanted for value in found):
            raise _odd(f"{what} {found[0]} where {wanted} was asked for", text)
    has_median = "median" in numbers
    middle = numbers["median"] if has_median else numbers["avg"]
    high = middle + (numbers["p95"] - middle) * (90 - 50) / (95 - 50)
    words, applied = _delegate(text, delegate)
    return Run(
        runs=int(numbers["count"]),
        median_us=middle,
        p90_us=high if has_median else numbers["max"],
        min_us=numbers["min"],
        max_us=numbers["max"],
        statistic="median" if has_median else "mean",
        init_us=float(summary[0]),
        delegate=words,
        applied=applied,
        memory_mb=_memory(text),
        ignored=unknown_flags(text),
    )


def unknown_flags(text: str) -> tuple[str, ...]:
    """Names of the flags that the tool says it does not know."""
    found = re.search(r"Unconsumed cmdline flags: (.*)$", text, re.MULTILINE)
    return tuple(re.findall(r"(--\w+)", found.group(1))) if found else ()


def _statistics(line: str, text: str) -> dict[str, float]:
    """The figures of one `count=...` line; where all times are equal it names them once."""
    found = {name: float(value) for name, value in re.findall(rf"\b(\w+)={_NUMBER}", line)}
    if "curr" in found and "avg" not in found:
        same = found["curr"]
        found = {"min": same, "max": same, "avg": same, **found}
    if not {"count", "min", "max", "avg"} <= set(found) or found["count"] < 1:
        raise _odd(f"statistics that are not understood: {line.strip()[:120]}", text)
    found.setdefault("p95", found["max"])
    order = [found[name] for name in ("min", "p5", "median", "p95", "max") if name in found]
    if order != sorted(order) or order[0] <= 0 or not order[0] <= found["avg"] <= order[-1] * 1.001:
        raise _odd(f"statistics out of order: {line.strip()[:120]}", text)
    return found


def _delegate(text: str, asked: str) -> tuple[str, bool | None]:
    """Who ran the graph, in words, and whether the delegate asked for had a part in it."""
    nodes = re.findall(r"Replacing (\d+) out of (\d+) node\(s\) with delegate \((\w+)\)", text)
    share = ", ".join(f"{took} of {all_} operators" for took, all_, _ in nodes[:1])
    tail = f" ({share})" if share else ""
    said = re.search(r"Explicitly applied (\w+) delegate, and the model graph will be (\w+)", text)
    if said is not None:
        extent = "whole graph" if said.group(2) == "completely" else "part of the graph"
        return f"{said.group(1)}, {extent}{tail}", True
    refused = re.search(
        r"Though (\w+) delegate is explicitly applied, the model graph will not", text
    )
    if refused is not None:
        return f"CPU: {refused.group(1)} took nothing of the graph", False
    if asked == "none":
        return "CPU, LiteRT's own kernels", None
    if asked == "gpu":
        return "CPU: the tool made no GPU delegate", False
    return f"CPU, delegate not told{tail}", None


def _memory(text: str) -> float | None:
    found = re.search(rf"[Mm]emory footprint[^\n]*\(MB\): init={_NUMBER} overall={_NUMBER}", text)
    return float(found.group(2)) if found else None


def failure(text: str, code: int) -> str:
    """Why the tool failed on a file, in one line."""
    signals = {132: "an instruction that this processor lacks", 134: "it aborted",
               137: "it was killed, perhaps for want of memory", 139: "it crashed"}  # fmt: skip
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"error|fail|cannot|not executable", line, re.I)]
    last = (errors or lines or ["it printed nothing"])[-1][:200]
    return f"{signals.get(code, 'it failed')} (exit code {code}): {last}"


def _one(pattern: str, text: str, what: str) -> tuple[str, ...]:
    found = re.findall(pattern, text, re.MULTILINE)
    if len(found) != 1:
        raise _odd(f"{what} is there {len(found)} times", text)
    return tuple(found[0])


def _odd(why: str, text: str) -> ToolError:
    last = [line.strip() for line in text.splitlines() if line.strip()][-1:]
    shown = f"; its last line: {last[0][:120]}" if last else "; it printed nothing"
    return ToolError("The benchmark tool's output is not understood.", why + shown, _OTHER_TOOL)
