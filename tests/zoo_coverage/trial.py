"""One network through the whole export, in a process of its own; what came of it, as JSON.

python -m zoo_coverage.trial NAME KIND SIDE HEAD FOLDER
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from models.errors import UserError
from models.zoo.count import counted
from support import zoo_nets
from support.progress import Silent
from zoo_coverage.subjects import (
    CLASSES,
    Kind,
    Subject,
    network_of,
    write_onnx,
)

CALIBRATION, JUDGES, EVALUATED = 32, 64, 4
RESULT = "result.json"


def run(subject: Subject, folder: Path) -> dict[str, Any]:
    """Export and prove one subject; every outcome is data, a defect raises."""
    from models.checkpoint import Checkpoint, save_checkpoint

    net, contract = network_of(subject)
    side = contract.preprocessing.resize_shorter_side
    _draw(folder / "calibration", CALIBRATION, side, seed=1)
    _draw(folder / "judges", JUDGES, side, seed=2)
    result: dict[str, Any] = {
        "name": subject.title, "kind": subject.kind, "side": subject.side,
        "parameters": _parameters(subject, net),
    }  # fmt: skip
    more: dict[str, Path] = {}
    if subject.kind == "zoo":
        model = folder / "model.safetensors"
        options = {"input_size": subject.side}
        save_checkpoint(Checkpoint(subject.name, options, net.state_dict(), contract), model)
    else:
        model = folder / "brought.onnx"
        write_onnx(subject, net, model)
        more["contract"] = folder / "contract.json"
        described = replace(contract, architecture="onnx")
        more["contract"].write_text(described.dumps(), encoding="utf-8")
    del net
    try:
        result |= _exported(model, folder, more)
    except UserError as error:
        result |= {"refused": error.what}
    return result


def _exported(model: Path, folder: Path, more: dict[str, Path]) -> dict[str, Any]:
    from exporter.pipeline.request import ExportRequest
    from exporter.pipeline.run import export

    request = ExportRequest(
        model=model, out=folder / "dist", calibration=folder / "calibration",
        images=folder / "judges", latency_runs=0, evaluated_limit=EVALUATED, **more,
    )  # fmt: skip
    outcome = export(request, Silent())
    report = outcome.report
    return {
        "left_out": dict(outcome.left_out),
        "files": {
            row.key: {
                "status": row.status,
                "reason": row.reason,
                "max_probability_difference": row.max_probability_difference,
                "sqnr_db": row.logit_sqnr_db,
                "agreement": row.top1_agreement,
                "images": row.images,
                "bytes": row.bytes,
                "failed": [f"{g.name} {g.value:.3g} (limit {g.limit:g})"
                           for g in row.gates if not g.passed],
            }
            for row in report.artifacts
        },
    }  # fmt: skip


def _parameters(subject: Subject, net: Any) -> int:
    """Without heads that exist in training only."""
    if subject.kind != "zoo":
        return sum(each.numel() for each in net.parameters())
    return counted(subject.name, CLASSES, {"input_size": subject.side}).parameters


def _draw(folder: Path, count: int, side: int, seed: int) -> None:
    from PIL import Image

    pictures, _ = zoo_nets.drawings(count, side, seed, CLASSES, clear=True)
    folder.mkdir()
    for index, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{index:03d}.png")


if __name__ == "__main__":
    name, kind, side, head, place = sys.argv[1:]
    tried = Subject(name, cast(Kind, kind), int(side), head)
    written = run(tried, Path(place))
    (Path(place) / RESULT).write_text(json.dumps(written, indent=1), encoding="utf-8")
