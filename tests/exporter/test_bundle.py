"""Manifests that were damaged or made by somebody else are refused where they are opened."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from exporter.bundle import BundleError, open_bundle, write_manifest
from models.contract import Contract, Label, Preprocessing

ABSENT = object()
SOUND = {"artifacts": {"onnx": {"path": "model.onnx"}}, "reference": "reference/model.onnx"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    contract = Contract((Label("plain"), Label("banded")), Preprocessing(8, 8, 8))
    (tmp_path / "contract.json").write_text(contract.dumps(), encoding="utf-8")
    write_manifest(tmp_path, SOUND)
    return tmp_path


def change(root: Path, key: str, value: Any) -> None:
    manifest = json.loads((root / "manifest.json").read_text(encoding="utf-8"))
    manifest[key] = value
    if value is ABSENT:
        del manifest[key]
    (root / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def test_a_sound_manifest_opens(root: Path) -> None:
    bundle = open_bundle(root)
    assert bundle.reference == root / "reference" / "model.onnx"
    assert [row.key for row in bundle.formats()] == ["onnx"]


@pytest.mark.parametrize(
    "reference",
    [ABSENT, None, 5, ["reference/model.onnx"], "", ".", "/etc/model.onnx", "../model.onnx",
     "reference/../../model.onnx", "C:/model.onnx", "..\\model.onnx", "a\0b"],
)  # fmt: skip
def test_a_reference_that_is_missing_or_outside(root: Path, reference: Any) -> None:
    change(root, "reference", reference)
    with pytest.raises(BundleError, match=r"manifest\.json") as caught:
        open_bundle(root)
    assert "reference" in caught.value.why


@pytest.mark.parametrize("key", ["schema", "artifacts"])
def test_what_is_missing_is_named(root: Path, key: str) -> None:
    change(root, key, ABSENT)
    with pytest.raises(BundleError) as caught:
        open_bundle(root)
    assert key in caught.value.why


@pytest.mark.parametrize("artifacts", [None, 5, "", ["onnx"], [["onnx"]], {"onnx": "model.onnx"}])
def test_artifacts_of_a_wrong_type(root: Path, artifacts: Any) -> None:
    change(root, "artifacts", artifacts)
    with pytest.raises(BundleError):
        open_bundle(root)


@pytest.mark.parametrize("text", [b"", b"[]", b"5", b"{", b"\xff"])
def test_no_manifest_at_all(root: Path, text: bytes) -> None:
    (root / "manifest.json").write_bytes(text)
    with pytest.raises(BundleError):
        open_bundle(root)
