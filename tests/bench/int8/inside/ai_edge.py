"""ai-edge-quantizer, static int8: as shipped, or with mean ranges and unclipped logits."""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_quantizer import calibrator, quantizer, recipe, recipe_manager
from job import MODEL, Job


def calibrated_by_mean(job: Job, model: str, rules: Any, images: list[Any]) -> dict[str, Any]:
    """Each tensor's mean of per-image minima and of maxima; the logits' true extremes."""

    def add(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
        lowest = np.minimum(old.get("lowest", old["min"]), new["min"])
        highest = np.maximum(old.get("highest", old["max"]), new["max"])
        return {
            "min": old["min"] + new["min"],
            "max": old["max"] + new["max"],
            "lowest": lowest,
            "highest": highest,
            "count": old.get("count", 1) + 1,
        }

    manager = recipe_manager.RecipeManager()
    manager.load_quantization_recipe(rules)
    watching = calibrator.Calibrator(model, num_threads=1, qsv_update_func=add)
    watching.calibrate({"serving_default": images}, manager)
    found = watching.get_model_qsvs()
    counts = {entry.get("count", 1) for entry in found.values() if entry}
    if counts - {1, len(images)}:
        raise SystemExit(f"error: tensors were seen {sorted(counts)} times in {len(images)} images")
    logits = logits_of(model)
    if logits not in found:
        raise SystemExit(f"error: no range of the logits, {logits}")
    means = {}
    for name, entry in found.items():
        if not entry or "count" not in entry:
            means[name] = entry
        elif name == logits:
            means[name] = {"min": entry["lowest"], "max": entry["highest"]}
        else:
            means[name] = {part: entry[part] / entry["count"] for part in ("min", "max")}
    return means


def logits_of(model: str) -> str:
    """The name of what the softmax reads."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=model)
    last = next(op for op in interpreter._get_ops_details() if op["op_name"] == "SOFTMAX")
    names = {entry["index"]: entry["name"] for entry in interpreter.get_tensor_details()}
    return str(names[last["inputs"][0]])


def main() -> None:
    job = Job()
    rules = recipe.static_wi8_ai8()
    images = [{"image": image} for image in job.images("calibration")]
    with job.timed():
        made = quantizer.Quantizer(job.float_tflite, rules)
        if job.variant["ranges"] == "mean":
            ranges = calibrated_by_mean(job, job.float_tflite, rules, images)
        else:
            ranges = made.calibrate({"serving_default": images}, num_threads=1)
        result = made.quantize(ranges)
    (job.out / MODEL).write_bytes(bytes(result.quantized_model))
    job.finish()


main()
