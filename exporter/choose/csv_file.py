"""choose.csv: every figure of every candidate, one row each, units in the names (RFC 4180)."""

from __future__ import annotations

import csv
import io

from exporter.choose.results import Comparison, Outcome

FILES = ("onnx", "tflite-float32", "tflite-float16", "tflite-int8", "saved-model", "coreml",
         "mlmodel")  # fmt: skip


def text(comparison: Comparison) -> str:
    """The file's text, lines ended by CRLF; an empty field is a figure that is not there."""
    keys = _keys(comparison)
    stream = io.StringIO()
    writer = csv.DictWriter(stream, _columns(keys), restval="", lineterminator="\r\n")
    writer.writeheader()
    for outcome in comparison.outcomes:
        writer.writerow(_row(outcome, keys))
    return stream.getvalue()


def _keys(comparison: Comparison) -> tuple[str, ...]:
    """The usual files, and what else was measured."""
    seen: dict[str, None] = dict.fromkeys(FILES)
    for outcome in comparison.outcomes:
        for figures in (outcome.sizes, outcome.latency, outcome.peak_memory, outcome.accuracy):
            seen |= dict.fromkeys(key for key in figures if key != "torch")
    return tuple(seen)


def _columns(keys: tuple[str, ...]) -> list[str]:
    columns = ["candidate", "architecture", "options", "start", "weights", "epochs",
               "training_seconds", "parameters", "multiply_adds", "test_images",
               "accuracy_torch"]  # fmt: skip
    for key in keys:
        name = _name(key)
        columns += [f"accuracy_{name}", f"size_bytes_{name}", f"latency_median_ms_{name}",
                    f"latency_p90_ms_{name}", f"peak_memory_bytes_{name}",
                    f"agreement_{name}", f"gate_failed_{name}"]  # fmt: skip
    return [*columns, "failure"]


def _row(outcome: Outcome, keys: tuple[str, ...]) -> dict[str, object]:
    row: dict[str, object] = {
        "candidate": outcome.name,
        "architecture": outcome.architecture,
        "options": " ".join(f"{name}={value}" for name, value in outcome.options.items()),
        "failure": outcome.failure,
    }
    if outcome.failure:
        return row
    row |= {
        "start": outcome.start,
        "weights": outcome.weights,
        "epochs": outcome.epochs,
        "training_seconds": outcome.training_seconds,
        "parameters": outcome.parameters,
        "multiply_adds": outcome.multiply_adds,
        "test_images": outcome.test_images,
        "accuracy_torch": outcome.accuracy.get("torch", ""),
    }
    for key in keys:
        name = _name(key)
        row[f"accuracy_{name}"] = outcome.accuracy.get(key, "")
        row[f"size_bytes_{name}"] = outcome.sizes.get(key, "")
        row[f"peak_memory_bytes_{name}"] = outcome.peak_memory.get(key, "")
        row[f"agreement_{name}"] = outcome.agreement.get(key, "")
        row[f"gate_failed_{name}"] = outcome.gates_failed.get(key, "")
        if key in outcome.latency:
            row[f"latency_median_ms_{name}"] = outcome.latency[key].median
            row[f"latency_p90_ms_{name}"] = outcome.latency[key].p90
    return row


def _name(key: str) -> str:
    return key.replace("-", "_")
