"""The fresh process that files are measured in: `python -m exporter.choose.worker`.

It reads one JSON object from standard input and answers with JSON lines:

* `{"task": "memory", "file": PATH or null, "threads": n}`: the most memory that this process
  ever held, in bytes, once it has opened a .tflite file and run it; of no file, what the
  process needs by itself with LiteRT loaded.
* `{"task": "latency", "threads": n, "rounds": n, "warmup": n, "files": [{"bundle": FOLDER,
  "key": FORMAT}], "images": [PATH]}`: `{"round": i}` after each round, and at the end
  `{"milliseconds": [[...] for each file]}`, or `{"error": why}`.

Nothing else of the program is loaded that would count: no PyTorch, no TensorFlow.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

RUNS_FOR_MEMORY = 5
Clock = Callable[[], int]


def main() -> None:
    """Answer the one request on standard input."""
    asked = json.load(sys.stdin)
    if asked["task"] == "memory":
        _say({"bytes": peak_memory(asked["file"], asked["threads"])})
        return
    from models.errors import UserError

    try:
        times = measure(asked, lambda done: _say({"round": done}))
    except UserError as error:
        _say({"error": f"{error.what} {error.why}".rstrip()})
        sys.exit(1)
    _say({"milliseconds": times})


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def peak_memory(file: str | None, threads: int) -> int:
    """Bytes: the largest resident set of this process so far, after running a file or none."""
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    if file is not None:
        interpreter = Interpreter(model_path=file, num_threads=threads)
        interpreter.allocate_tensors()
        given, made = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
        picture = np.full(given["shape"], 128, dtype=given["dtype"])
        for _ in range(RUNS_FOR_MEMORY):
            interpreter.set_tensor(given["index"], picture)
            interpreter.invoke()
            interpreter.get_tensor(made["index"])
    return _largest_resident_set()


def _largest_resident_set() -> int:
    """VmHWM on Linux: `ru_maxrss` would there count the process that started this one."""
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource

    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024


def measure(
    asked: dict[str, Any],
    on_round: Callable[[int], None],
    clock: Clock = time.perf_counter_ns,
) -> list[list[float]]:
    """Wall times in milliseconds, of each file in each round after the warm-up.

    Every round lets each file answer twice and times the second answer: the first one
    brings its weights back into the processor's caches, as they are in an app that
    classifies one picture after another. Each round begins with another file.
    """
    from exporter.bundle import BY_KEY, open_bundle
    from exporter.prove.runtimes import registry
    from models.images import load_pixels

    sessions, pictures = [], []
    squares: dict[Any, list[Any]] = {}
    for file in asked["files"]:
        opened = open_bundle(Path(file["bundle"]))
        rule = opened.contract.preprocessing
        if rule not in squares:
            squares[rule] = [load_pixels(Path(path), rule) for path in asked["images"]]
        runtime = registry.get(BY_KEY[file["key"]].runtime)
        path = opened.path(file["key"])
        sessions.append(runtime.open(path, opened.contract, asked["threads"]))
        pictures.append(squares[rule])
    return in_turns(
        [session.probabilities for session in sessions], pictures,
        asked["rounds"], asked["warmup"], on_round, clock,
    )  # fmt: skip


def in_turns(
    answers: list[Callable[[Any], Any]],
    pictures: list[list[Any]],
    rounds: int,
    warmup: int,
    on_round: Callable[[int], None],
    clock: Clock,
) -> list[list[float]]:
    """See `measure`; `answers[i]` is timed on `pictures[i]`, taken in turn."""
    count = len(answers)
    times: list[list[float]] = [[] for _ in answers]
    gc.collect()
    gc.disable()  # a collection inside one file's turn would be booked on that file
    try:
        for turn in range(warmup + rounds):
            for place in range(count):
                index = (turn + place) % count
                picture = pictures[index][turn % len(pictures[index])]
                answers[index](picture)
                before = clock()
                answers[index](picture)
                after = clock()
                if turn >= warmup:
                    times[index].append((after - before) / 1e6)
            on_round(turn + 1)
    finally:
        gc.enable()
    return times


if __name__ == "__main__":
    main()
