"""Try every network and write docs/coverage.md.

make coverage-table [COVERAGE_FLAGS="--side 96 --only resnet18,vgg11"]

Each network runs in a process of its own. Results are kept in the work folder, so that an
interrupted run goes on; `--anew` forgets them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console

from exporter.cache import source_hash
from zoo_coverage.subjects import Subject, subjects
from zoo_coverage.table import markdown
from zoo_coverage.trial import CALIBRATION, EVALUATED, JUDGES, RESULT

_PAGE = Path(__file__).parents[2] / "docs" / "coverage.md"
_PACKAGES = ("torch", "torchvision", "onnx", "onnxruntime", "ai-edge-litert", "coremltools")


def main() -> None:
    options = _options()
    console = Console(highlight=False)
    chosen = [s for s in subjects(options.side) if not options.only or s.name in options.only]
    options.work.mkdir(parents=True, exist_ok=True)
    results: list[dict[str, Any]] = []
    broken_off = []
    for number, subject in enumerate(chosen, 1):
        console.print(f"{number} of {len(chosen)}: {subject.title} at {subject.side} px")
        result = _tried(subject, options, console)
        if result is None:
            broken_off.append(subject.title)
        else:
            results.append(result)
    if broken_off:
        raise SystemExit(
            f"No page was written: {', '.join(broken_off)} broke off, see above: a defect. "
            "The others are kept: the same command goes on."
        )
    words = _words(options.side)
    command = "make coverage-table" + (
        f' COVERAGE_FLAGS="--side {options.side}"' if options.side else ""
    )
    options.out.write_text(markdown(results, command, words), encoding="utf-8")
    console.print(f"Wrote {options.out}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m zoo_coverage", description=__doc__)
    parser.add_argument("--side", type=int, help="largest input in pixels; default: each one's own")
    parser.add_argument("--only", type=lambda text: text.split(","), help="names, by commas")
    parser.add_argument("--out", type=Path, default=_PAGE)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "zoo-coverage")
    parser.add_argument("--anew", action="store_true", help="forget earlier results")
    return parser.parse_args()


def _tried(
    subject: Subject, options: argparse.Namespace, console: Console
) -> dict[str, Any] | None:
    """What came of one trial, kept or anew; None where it broke off."""
    kept = options.work / f"{subject.name}-{subject.kind}-{subject.side}-{source_hash()[:12]}.json"
    if kept.is_file() and not options.anew:
        found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
        return found
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        words = [subject.name, subject.kind, str(subject.side), subject.head, folder]
        ran = subprocess.run([sys.executable, "-m", "zoo_coverage.trial", *words], check=False)
        if ran.returncode:
            return None
        shutil.copyfile(Path(folder) / RESULT, kept)
    result: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
    console.print(f"  {result.get('refused', 'exported').splitlines()[0]}")
    return result


def _words(side: int | None) -> str:
    size = f"inputs of at most {side} px where a network takes them" if side else "full-size inputs"
    tools = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return (
        f"Eight classes of drawn pictures, {size}; random weights with calibrated batch norm and a "
        f"fitted head (`tests/support/zoo_nets.py`); int8 calibrated on {CALIBRATION} pictures, "
        f"judged on {JUDGES} others (evaluated files on {EVALUATED}). {tools}."
    )


if __name__ == "__main__":
    main()
