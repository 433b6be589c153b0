"""A stand-in for LiteRT's benchmark_model: its flags, its messages, made-up times.

Messages are worded as in google-ai-edge/LiteRT, tflite/tools/benchmark. The outputs
are real: those of LiteRT for a .tflite, else of the tests' linear model.

How it behaves on a file (Scenario.tool): 'ok'; 'old' (no percentiles, no
--output_filepath); 'same' (all times equal); 'crash'; 'killed'; 'garbage'; 'silent';
'refused' (the delegate takes nothing); 'gpu-fails'; 'odd-average'; 'odd-threads';
'odd-order'; 'one-line'; 'short' (too few bytes come out); 'nan'; 'stuck'.
"""

# ruff: noqa: T201 - a program prints

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path


def _statistics(values: list[int], old: bool) -> str:
    """As StatWithPercentiles prints it: percentile p is element p * n / 100 of the sorted."""
    ordered, count = sorted(values), len(values)
    average = f"{sum(values) / count:.6g}"
    if ordered[0] == ordered[-1]:
        text = f"count={count} curr={values[-1]}" + ("(all same)" if count > 1 else "")
    else:
        text = (
            f"count={count} first={values[0]} curr={values[-1]} min={ordered[0]} "
            f"max={ordered[-1]} avg={average} std=42"
        )
    if old:
        return text
    p5, middle, p95 = (ordered[percent * count // 100] for percent in (5, 50, 95))
    return f"{text} p5={p5} median={middle} p95={p95}"


def _output(graph: Path, pixels: Path, shape: list[int], behaviour: str) -> bytes:
    import numpy as np

    image = np.frombuffer(pixels.read_bytes(), np.uint8).reshape(shape[1:])
    if graph.read_bytes()[4:8] == b"TFL3":
        from ai_edge_litert.interpreter import Interpreter

        model = Interpreter(str(graph))
        model.allocate_tensors()
        model.set_tensor(model.get_input_details()[0]["index"], image[None])
        model.invoke()
        found = model.get_tensor(model.get_output_details()[0]["index"])[0]
    else:
        sys.path[:0] = [str(Path(__file__).parents[1] / "exporter" / "prove")]
        sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]
        from fakes import linear

        found = linear(image)
    found = np.asarray(found, "<f4")
    if behaviour == "nan":
        found[0] = np.nan
    return found.tobytes()[: -4 if behaviour == "short" else None]


def _delegate(flags: dict[str, str], behaviour: str) -> list[str]:
    name = "GPU" if "use_gpu" in flags else "XNNPACK"
    if flags.get("use_xnnpack") == "false":
        return []
    if behaviour == "refused":
        return [f"Though {name} delegate is explicitly applied, the model graph will not be "
                "executed by the delegate."]  # fmt: skip
    return [
        f"{name} delegate created.",
        f"VERBOSE: Replacing 66 out of 69 node(s) with delegate (TfLite{name}Delegate) node, "
        "yielding 1 partitions for subgraph 0.",
        f"Explicitly applied {name} delegate, and the model graph will be partially executed by "
        "the delegate w/ 1 delegate kernels.",
    ]


def _play(
    flags: dict[str, str], graph: Path, folder: Path, turns: list[list[int]] | None, behaviour: str
) -> None:
    """A run that ends well: what it prints, and the output where that is asked for."""
    old = behaviour == "old"
    for line in _delegate(flags, behaviour):
        print(f"INFO: {line}")
    print("INFO: The input model file size (MB): 3.5\nINFO: Initialized session in 12.345ms.")
    warm = [9000, 8000]
    timed = "output_filepath" not in flags
    values = [5000]
    if timed:
        count = folder / f"{graph.name}.count"
        turn = int(count.read_text()) if count.exists() else 0
        count.write_text(str(turn + 1))
        values = turns[turn] if turns else [4000 + 10 * i for i in range(int(flags["num_runs"]))]
    if behaviour == "same":
        values = [4321] * len(values)
    average = f"{sum(values) / len(values):.6g}"
    line = _statistics(values, old)
    if behaviour == "odd-order":
        line = line.replace(" min=", " min=9")
    print("INFO: Running benchmark for at least 10 iterations and at least 0.5 seconds but "
          "terminate if exceeding 150 seconds.")  # fmt: skip
    print(f"INFO: {_statistics(warm, old)}\n")
    if behaviour != "one-line":
        print(f"INFO: {line}\n")
    shown = "123.4" if behaviour == "odd-average" else average
    print(f"INFO: Inference timings in us: Init: 12345, First inference: 9000, "
          f"Warmup (avg): 8500, Inference (avg): {shown}")  # fmt: skip
    print("INFO: Note: as the benchmark tool itself affects memory footprint, the following is "
          "only APPROXIMATE to the actual memory footprint of the model at runtime. Take the "
          "information at your discretion.")  # fmt: skip
    print("INFO: Memory footprint delta from the start of the tool (MB): init=2.5 overall=6.75")
    if not timed and not old:
        pixels = Path(flags["input_layer_value_files"].split(":", 1)[1])
        shape = [int(size) for size in flags["input_layer_shape"].split(",")]
        Path(flags["output_filepath"]).write_bytes(_output(graph, pixels, shape, behaviour))


def main() -> int:
    flags = dict(word[2:].split("=", 1) for word in sys.argv[1:])
    folder = Path(os.environ["FAKE_ADB"])
    scenario = json.loads((folder / "scenario.json").read_text())
    graph = Path(flags["graph"].replace("/data/local/tmp", str(folder / "tmp")))
    behaviour = scenario["tool"].get(graph.name, "ok")
    old = behaviour == "old"
    if behaviour == "stuck":
        time.sleep(60)
    if behaviour == "killed":
        os.kill(os.getpid(), 9)
    if behaviour == "silent":
        return 0
    if behaviour == "garbage":
        print("Model benchmark v9\nmean latency 4.2 ms")
        return 0
    threads = "7" if behaviour == "odd-threads" else flags["num_threads"]
    print("INFO: STARTING!")
    if old:
        known = {"output_filepath"} & set(flags)
        if known:
            print("WARN: Unconsumed cmdline flags: "
                  + " ".join(f"--{n}={flags[n]}" for n in known))  # fmt: skip
    print("INFO: Log parameter values verbosely: [0]")
    print(f"INFO: Graph: [{flags['graph']}]\nINFO: #threads used for CPU inference: [{threads}]")
    print(f"INFO: Loaded model {flags['graph']}")
    if behaviour == "crash":
        print("ERROR: Failed to apply XNNPACK delegate.\nERROR: Benchmarking failed.",
              file=sys.stderr)  # fmt: skip
        return 1
    _play(flags, graph, folder, scenario["times"].get(graph.name), behaviour)
    return 0


if __name__ == "__main__":
    sys.exit(main())
