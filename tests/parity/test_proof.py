"""The proof on a real bundle: sound files pass, and files that were tampered with do not.

The network is a small MobileNetV2 whose answers move with its weights; the images lie
in folders named after the reference's own answers, so that accuracy is known.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from exporter.bundle import BY_KEY, GOLDEN, Bundle, Precision, open_bundle, write_manifest
from exporter.convert import passes
from exporter.convert.from_onnx import read_graph
from exporter.convert.graph import Conv, Dense, Graph
from exporter.convert.quantize.calibrate import calibrate
from exporter.convert.targets import coreml, saved_model, tflite
from exporter.prove import golden
from exporter.prove.gates import with_overrides
from exporter.prove.opened import open_artifacts, open_reference
from exporter.prove.parity import ParitySettings, run_parity
from exporter.prove.results import ParityReport
from exporter.prove.verify import verify
from models.images import list_images, load_pixels
from support import nets

pytest.importorskip("torch", reason="the reference runs in torch")
pytest.importorskip("tensorflow", reason="SavedModels are written with TensorFlow")
pytest.importorskip("coremltools", reason="Core ML files are written with coremltools")

USUAL = {key: row for key, row in BY_KEY.items() if row.usual}
KEYS = tuple(USUAL)
# Random weights, unlike trained ones, multiply rounding errors from layer to layer: this
# network keeps about two answers in three in int8. Files that are wrong keep far fewer.
GATES = with_overrides(["int8.min_agreement=0.5", "int8.max_accuracy_drop=off"])
QUICK = ParitySettings(latency=None, evaluated_limit=6, gates=GATES)
IMAGES = 30


@pytest.fixture(scope="module")
def graph(small_onnx_path: Path) -> Graph:
    return passes.standard(read_graph(small_onnx_path))


def seal(root: Path) -> None:
    artifacts = {key: {"path": row.path, "precision": row.precision} for key, row in USUAL.items()}
    content = {"artifacts": artifacts, "reference": "reference/checkpoint.safetensors"}
    write_manifest(root, content)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures that are the input pixels already, in folders by the reference's answer."""
    import torch

    from models.classifier import Classifier

    contract = nets.small_contract()
    classifier = Classifier(nets.small_net(), contract).eval()
    folder = tmp_path_factory.mktemp("photographs")
    for number in range(IMAGES):
        picture = Image.fromarray(nets.image(5000 + number, nets.SIZE + nets.SIZE // 8))
        path = folder / f"{number:02d}.png"
        picture.save(path)
        pixels = load_pixels(path, contract.preprocessing)
        with torch.no_grad():
            answer = int(classifier(torch.from_numpy(pixels.copy()[None]))[0].argmax())
        (folder / contract.names[answer]).mkdir(exist_ok=True)
        path.rename(folder / contract.names[answer] / path.name)
    return folder


@pytest.fixture(scope="module")
def made(
    graph: Graph,
    small_onnx_path: Path,
    photographs: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Every format of the table, with golden answers and a manifest."""
    from models.checkpoint import Checkpoint, save_checkpoint

    root = tmp_path_factory.mktemp("bundle") / "dist"
    (root / "reference").mkdir(parents=True)
    contract = nets.small_contract()
    options = {"width_mult": nets.WIDTH, "input_size": nets.SIZE}
    checkpoint = Checkpoint("mobilenet_v2", options, nets.small_net().state_dict(), contract)
    save_checkpoint(checkpoint, root / "reference" / "checkpoint.safetensors")
    (root / "contract.json").write_text(contract.dumps(), encoding="utf-8")
    (root / "labels.txt").write_text("\n".join(contract.names) + "\n", encoding="utf-8")
    shutil.copyfile(small_onnx_path, root / "model.onnx")
    plan = calibrate(graph, nets.images(40, seed=1))
    for key, row in USUAL.items():
        path = root / row.path
        if row.runtime == "litert":
            tflite.write(graph, contract, path, row.precision, plan if key.endswith("8") else None)
        elif row.runtime == "coreml":
            coreml.write(graph, contract, path, row.precision)
        elif row.runtime == "tensorflow":
            saved_model.write(graph, contract, path)
    seal(root)
    bundle = open_bundle(root)
    with open_reference(bundle) as (reference, _), open_artifacts(bundle) as opened:
        sessions = {entry.row.key: entry.session for entry in opened if entry.session}
        assert set(sessions) == set(KEYS)
        everything = {golden.REFERENCE_KEY: reference, **sessions}
        golden.write_golden(root, list_images(photographs), contract, everything)
    seal(root)
    return root


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Bundle:
    return open_bundle(Path(shutil.copytree(made, tmp_path / "dist")))


def proven(bundle: Bundle, photographs: Path, *runtimes: str) -> ParityReport:
    settings = replace(QUICK, runtimes=runtimes or None)
    return run_parity(bundle, list_images(photographs), photographs, settings=settings)


def failing(report: ParityReport) -> set[str]:
    return {found.key for found in report.artifacts if found.status == "failed"}


def test_every_file_of_a_sound_bundle_passes(made: Path, photographs: Path) -> None:
    report = proven(open_bundle(made), photographs)
    assert {found.key: (found.status, found.reason) for found in report.artifacts} == dict.fromkeys(
        KEYS, ("passed", "")
    )
    assert report.reference.startswith("torch eager")
    by_key = {found.key: found for found in report.artifacts}
    for key, row in USUAL.items():
        found = by_key[key]
        assert found.reference_accuracy == 1.0  # the folders are the reference's own answers
        assert found.logit_sqnr_db is not None
        if row.precision == "float32":
            assert found.logit_sqnr_db > 70
    assert by_key["tflite-int8"].images == IMAGES
    int8 = by_key["tflite-int8"].logit_sqnr_db
    assert int8 is not None
    assert 4 < int8 < 60


def test_a_sound_bundle_verifies(made: Path) -> None:
    assert [found for found in verify(made) if found.status != "ok"] == []


def test_golden_images_alone_prove_it_too(made: Path) -> None:
    report = run_parity(open_bundle(made), [], None, settings=QUICK)
    assert failing(report) == set()
    assert report.image_source.startswith("golden images only")
    assert (made / GOLDEN / golden.FILE).is_file()
    replayed = next(note for note in report.notes if "replayed" in note)
    count = replayed.split("replayed: ")[1].split(" of ")
    assert count[0] == count[1].split(" ")[0]  # all of them equal to the last bit


def with_weights(graph: Graph, change: Callable[[Conv | Dense], Conv | Dense]) -> Graph:
    nodes = [change(n) if isinstance(n, Conv | Dense) else n for n in graph.nodes]
    return replace(graph, nodes=tuple(nodes))


def labels_swapped(node: Conv | Dense) -> Conv | Dense:
    if not isinstance(node, Dense):
        return node
    order = np.array([1, 0, *range(2, nets.CLASSES)])
    return replace(node, weight=node.weight[order], bias=node.bias[order])


def a_class_zeroed(node: Conv | Dense) -> Conv | Dense:
    if not isinstance(node, Dense):
        return node
    weight = node.weight.copy()
    weight[3] = 0
    return replace(node, weight=weight)


def a_kernel_zeroed(node: Conv | Dense) -> Conv | Dense:
    if not (isinstance(node, Conv) and node.weight.shape[0] >= 64):
        return node
    weight = node.weight.copy()
    weight.reshape(-1)[:400] = 0
    return replace(node, weight=weight)


def a_weight_not_a_number(node: Conv | Dense) -> Conv | Dense:
    if not isinstance(node, Dense):
        return node
    weight = node.weight.copy()
    weight[0, 0] = np.nan
    return replace(node, weight=weight)


@pytest.mark.parametrize(
    "mutate", [labels_swapped, a_class_zeroed, a_kernel_zeroed, a_weight_not_a_number]
)
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_mutated_files_fail(
    bundle: Bundle,
    graph: Graph,
    photographs: Path,
    mutate: Callable[[Conv | Dense], Conv | Dense],
    precision: Precision,
) -> None:
    key = f"tflite-{precision}"
    mutant = with_weights(graph, mutate)
    tflite.write(mutant, bundle.contract, bundle.path(key), precision)
    assert failing(proven(bundle, photographs, "litert")) == {key}


def test_int8_calibrated_on_one_black_image_fails(
    bundle: Bundle, graph: Graph, photographs: Path
) -> None:
    black = np.zeros((nets.SIZE, nets.SIZE, 3), np.uint8)
    plan = calibrate(graph, [black])
    tflite.write(graph, bundle.contract, bundle.path("tflite-int8"), "int8", plan)
    assert failing(proven(bundle, photographs, "litert")) == {"tflite-int8"}


def test_a_damaged_file_fails_and_the_others_go_on(bundle: Bundle, photographs: Path) -> None:
    whole = bundle.path("tflite-float32").read_bytes()
    bundle.path("tflite-float32").write_bytes(whole[: len(whole) // 2])
    report = proven(bundle, photographs, "litert", "onnxruntime")
    assert failing(report) == {"tflite-float32"}
    statuses = {found.key: found.status for found in report.artifacts}
    assert statuses["onnx"] == "passed"
    assert statuses["saved-model"] == "not run"
