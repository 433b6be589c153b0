"""Comparisons with made-up figures: test data, measured nowhere."""

from __future__ import annotations

from typing import Any

from exporter.choose.results import Budget, Comparison, Latency, Outcome

IMAGES = 272
INT8, FLOAT16, FLOAT32 = "tflite-int8", "tflite-float16", "tflite-float32"


def outcome(
    name: str,
    ms: float = 2.0,
    accuracy: float = 0.9,
    mb: float = 1.0,
    drop: float = 0.0,
    images: int = IMAGES,
    **more: Any,
) -> Outcome:
    """A candidate with all figures.

    Args:
        ms, accuracy, mb: of its int8 file; the float files follow from them.
        drop: accuracy that int8 lost.
    """
    size = round(mb * 1e6)
    floats = accuracy + drop
    figures: dict[str, Any] = {
        "options": {"input_size": 224},
        "start": "published",
        "weights": f"{name}-0123abcd.pth",
        "epochs": 3,
        "training_seconds": 61.0,
        "parameters": size,
        "multiply_adds": round(ms * 100e6),
        "sizes": {"onnx": 4 * size, FLOAT32: 4 * size, FLOAT16: 2 * size, INT8: size},
        "latency": {
            FLOAT32: Latency(3 * ms, 3.3 * ms),
            FLOAT16: Latency(3 * ms, 3.3 * ms),
            INT8: Latency(ms, 1.1 * ms),
        },
        "peak_memory": {FLOAT32: 40_000_000 + 8 * size, INT8: 40_000_000 + 2 * size},
        "accuracy": {"torch": floats, FLOAT32: floats, FLOAT16: floats, INT8: accuracy},
        "test_images": images,
    }
    figures |= more
    figures.setdefault("architecture", name.split(":", maxsplit=1)[0])
    return Outcome(name, **figures)


def comparison(
    *outcomes: Outcome, ms: float | None = None, mb: float | None = None, images: int = IMAGES
) -> Comparison:
    return Comparison(
        outcomes,
        Budget(ms, mb),
        "flowers17 (test data): 17 classes, 1088 training images",
        "a test's machine, 2 threads",
        images,
        ("These figures are made up.",),
    )


def two() -> Comparison:
    """The small one is as accurate within noise."""
    return comparison(
        outcome("mobilenet_v2", 9.1, 0.945, 2.6, 0.004),
        outcome("mobilenet_v2:width_mult=0.35", 2.3, 0.93, 0.7, 0.011),
        ms=20,
        mb=5,
    )


def five() -> Comparison:
    """One over the budget, one whose int8 breaks, one that failed, scratch and published."""
    scratch: dict[str, Any] = {"start": "scratch", "weights": ""}
    return comparison(
        outcome("mobilenet_v2", 9.1, 0.945, 2.6, 0.004),
        outcome("efficientnet_b0", 24.0, 0.89, 5.6, 0.07),
        outcome("lenet5", 0.21, 0.41, 0.09, 0.0, **scratch, why_scratch="none are published"),
        outcome("squeezenet1_1", 5.2, 0.62, 0.8, -0.004, **scratch, why_scratch="not within reach"),
        Outcome("vgg16", "vgg16", {"input_size": 224}, failure="needs 11 GB of memory, 8 are free"),
        ms=20,
        mb=5,
    )


def twelve() -> Comparison:
    """Long names, equal points, neighbours that lie close, a gate that failed."""
    rows = [
        ("lenet5", 0.2, 0.41, 0.09, 0.001),
        ("lenet5_relu:input_size=32", 0.2, 0.41, 0.09, 0.002),
        ("mobilenet_v1:width_mult=0.25:input_size=128", 0.9, 0.72, 0.5, 0.012),
        ("mobilenet_v2:width_mult=0.35:input_size=160:output_stride=16", 2.1, 0.90, 0.7, 0.015),
        ("mobilenet_v2:width_mult=0.35", 2.3, 0.92, 0.7, 0.011),
        ("mobilenet_v2", 9.1, 0.945, 2.6, 0.004),
        ("mobilenet_v3_small", 3.1, 0.915, 1.9, 0.030),
        ("mobilenet_v3_large", 9.4, 0.944, 4.5, 0.041),
        ("efficientnet_b0", 24.0, 0.951, 5.6, 0.025),
        ("resnet18", 31.0, 0.946, 11.3, 0.001),
        ("resnext101_32x4d", 290.0, 0.963, 44.0, 0.002),
        ("vgg16", 410.0, 0.93, 134.6, -0.002),
    ]
    outcomes = [outcome(*row) for row in rows]
    outcomes[8] = outcome(*rows[8], gates_failed={INT8: "accuracy drop is 0.025, limit 0.015"})
    return comparison(*outcomes, ms=20, mb=5)
