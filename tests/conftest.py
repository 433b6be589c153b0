"""Makes `tests/support` importable from every test, and shares its small networks."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

# The repository's root comes first: `tests/exporter` must not be taken for `exporter`.
_TESTS = Path(__file__).parent
sys.path[:0] = [str(_TESTS.parent), str(_TESTS)]

from support import nets  # noqa: E402


@pytest.fixture(scope="session")
def small_onnx_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small MobileNetV2 as an ONNX file: uint8 `[1,64,64,3]` to probabilities."""
    pytest.importorskip("torch", reason="the small network is made with torch")
    path = tmp_path_factory.mktemp("small") / "model.onnx"
    nets.small_onnx(path)
    return path


@pytest.fixture(scope="session")
def small_onnx_imagenet_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same network, normalized by a mean and a deviation per channel."""
    pytest.importorskip("torch", reason="the small network is made with torch")
    path = tmp_path_factory.mktemp("small_imagenet") / "model.onnx"
    nets.small_onnx(path, normalization=nets.IMAGENET)
    return path
