"""`make bench`: the figures of the README, measured on this machine.

Without --model the network is torchvision's MobileNetV2 1.0/224 with 1000 classes and
random weights, its batch norm calibrated on drawn snakes: times and sizes do not
depend on what a network has learned. Fidelity does, and is measured by
`exporter parity` on a trained one.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import export_times, latency, sizes


def main() -> None:
    """Run the parts asked for and print one table."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--model", type=Path, help="a checkpoint, or a state_dict with --arch")
    parser.add_argument("--arch")
    parser.add_argument("--labels")
    parser.add_argument("--calibration", type=Path)
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    parser.add_argument("--only", choices=["sizes", "export", "latency"], action="append")
    options = parser.parse_args()
    parts = options.only or ["sizes", "export", "latency"]
    rows: list[tuple[str, str, str]] = []
    console = Console()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        work = Path(name)
        if "sizes" in parts:
            rows += sizes.measure()
        if {"export", "latency"} & set(parts):
            console.print("Preparing the model and 100 calibration images ...")
            given = export_times.prepare(work, options)
            console.print("Exporting ...")
            rows += export_times.measure(work, given, only_bundle="export" not in parts)
        if "latency" in parts:
            console.print("Converting with tf.lite.TFLiteConverter and timing, interleaved ...")
            rows += latency.measure(work)
    table = Table("figure", "measured", "goal", title=f"{platform.processor() or 'CPU'}, "
                  f"Python {platform.python_version()}")  # fmt: skip
    for row in rows:
        table.add_row(*row)
    console.print(table)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
