"""The table of addresses, made of a bundle and of LiteRT.js."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from exporter.bundle import Bundle, open_bundle
from exporter.serve import routes
from models.errors import UserError


def test_a_link_in_a_bundle_is_not_followed(bundle: Bundle, tmp_path: Path) -> None:
    path = bundle.root / "labels.txt"
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"labels\.txt"):
        routes.bundle_table(bundle)


def test_a_bundle_without_tflite_or_golden_answers_is_refused(bundle: Bundle) -> None:
    manifest = {**bundle.manifest, "artifacts": {"onnx": {}}}
    with pytest.raises(UserError, match=r"no \.tflite"):
        routes.bundle_table(Bundle(bundle.root, bundle.contract, manifest))
    files = [e for e in bundle.manifest["files"] if e["path"] != "golden/golden.json"]
    with pytest.raises(UserError, match="no golden"):
        routes.bundle_table(
            Bundle(bundle.root, bundle.contract, {**bundle.manifest, "files": files})
        )


@pytest.mark.parametrize("files", [None, 3, [3], [{"path": "contract.json"}]])
def test_a_manifest_without_checksums_is_refused(bundle: Bundle, files: Any) -> None:
    manifest = {**bundle.manifest, "files": files}
    with pytest.raises(UserError, match=r"manifest\.json cannot be used"):
        routes.bundle_table(Bundle(bundle.root, bundle.contract, manifest))


@pytest.mark.parametrize("path", ["contract.json", "labels.txt", "model_int8.tflite"])
def test_a_file_that_the_manifest_leaves_out_is_refused(bundle: Bundle, path: str) -> None:
    files = [entry for entry in bundle.manifest["files"] if entry["path"] != path]
    manifest = {**bundle.manifest, "files": files}
    with pytest.raises(UserError, match="is not what the manifest says"):
        routes.bundle_table(Bundle(bundle.root, bundle.contract, manifest))


def test_a_bundle_behind_a_link_is_served(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "newest").symlink_to(bundle.root)
    assert "/bundle/model_int8.tflite" in routes.bundle_table(open_bundle(tmp_path / "newest"))


def test_a_damaged_library_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is damaged") as raised:
        routes.page_table(tmp_path)
    assert str(tmp_path) in raised.value.mend
    (tmp_path / "core/dist").mkdir(parents=True)
    (tmp_path / "core/dist/index.js").write_text("export default 1;")
    with pytest.raises(UserError, match="is damaged") as raised:
        routes.page_table(tmp_path)
    assert "does not import" in raised.value.why
