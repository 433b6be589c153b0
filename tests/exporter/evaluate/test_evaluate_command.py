"""`exporter evaluate` from end to end, on a checkpoint and on what was exported from it."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from exporter.evaluate import files
from support import bundles
from support.cli import run_cli
from support.evaluating import PER_CLASS, VENOM, World, evaluate, numbers, refused, write_checkpoint


@pytest.fixture(scope="module")
def of_checkpoint(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("checkpoint") / "result"
    ran = evaluate(world.checkpoint, "--data", world.data, "--out", out)
    assert ran.code == 0, ran.text
    return out


@pytest.fixture(scope="module")
def of_bundle(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bundle") / "result"
    ran = evaluate(world.dist, "--data", world.data, "--out", out)
    assert ran.code == 0, ran.text
    return out


def probabilities(world: World) -> tuple[np.ndarray, np.ndarray]:
    """The same once more, without the command: every picture through the network in torch."""
    import torch

    from models.checkpoint import build, load_checkpoint
    from models.classifier import Classifier
    from models.images import load_pixels

    net = Classifier(build(load_checkpoint(world.checkpoint)), world.contract)
    paths = sorted(world.data.rglob("*.png"))
    batch = np.stack([load_pixels(path, world.contract.preprocessing) for path in paths])
    with torch.inference_mode():
        table = net(torch.from_numpy(batch)).numpy()
    return table, np.array([int(path.parent.name.split()[1]) for path in paths])


def test_numbers_are_those_of_scikit_learn_on_the_network_itself(
    world: World, of_checkpoint: Path
) -> None:
    from sklearn.metrics import classification_report

    table, truth = probabilities(world)
    names = [f"species {index}" for index in range(10)]
    theirs = classification_report(
        truth, table.argmax(axis=1), target_names=names, output_dict=True, zero_division=0
    )
    assert 0.5 < theirs["accuracy"] < 0.95  # a set that tells nothing would prove nothing
    with (of_checkpoint / files.PER_CLASS).open(encoding="utf-8") as stream:
        rows = {row[""]: row for row in csv.DictReader(stream)}
    assert set(rows) == {*names, "accuracy", "macro avg", "weighted avg"}
    for name, wanted in theirs.items():
        if name == "accuracy":
            assert float(rows[name]["f1-score"]) == pytest.approx(wanted, abs=1e-6)
            continue
        for column, value in wanted.items():
            assert float(rows[name][column]) == pytest.approx(value, abs=1e-6), (name, column)
    shown = numbers(of_checkpoint)["files"][0]
    assert shown["scores"]["accuracy"] == pytest.approx(theirs["accuracy"], abs=1e-6)


def test_the_answers_of_every_image_are_written(world: World, of_checkpoint: Path) -> None:
    table, truth = probabilities(world)
    with (of_checkpoint / files.ANSWERS).open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["truth"] for row in rows] == [f"species {index}" for index in truth]
    assert [row["answer"] for row in rows] == [f"species {i}" for i in table.argmax(axis=1)]
    assert [float(row["probability"]) for row in rows] == pytest.approx(
        table.max(axis=1).tolist(), abs=1e-5
    )
    assert rows[0]["file"] == "species 0/0.png"


def test_venomous_called_harmless_is_counted_from_the_answers(of_checkpoint: Path) -> None:
    """Counted once more from answers.csv, in the plainest way."""
    venom = {f"species {index}": value for index, value in enumerate(VENOM)}
    with (of_checkpoint / files.ANSWERS).open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    snakes = [row for row in rows if venom[row["truth"]] == "yes"]
    missed = [
        row for row in snakes if venom[row["answer"]] == "no" and float(row["probability"]) >= 0.5
    ]
    unsure = [row for row in rows if float(row["probability"]) < 0.5]
    assert missed
    found = numbers(of_checkpoint)["files"][0]["safety"]
    assert found["called_harmless"]["count"] == len(missed)
    assert found["called_harmless"]["of"] == len(snakes) == 3 * PER_CLASS
    assert found["not_sure_of_all"]["count"] == len(unsure)
    low, high = found["called_harmless"]["interval"]
    assert low < len(missed) / len(snakes) < high


def test_accuracy_before_and_after_export_is_paritys(
    world: World, of_checkpoint: Path, of_bundle: Path, tmp_path: Path
) -> None:
    proof = run_cli(
        "parity", world.dist, "--images", world.data, "--runs", 0, "--json", tmp_path / "p.json",
        "--gate", "int8.min_agreement=off", "--gate", "int8.max_accuracy_drop=off",
    )  # fmt: skip
    wanted = json.loads((tmp_path / "p.json").read_text(encoding="utf-8"))
    accuracy = {each["key"]: each["accuracy"] for each in wanted["artifacts"] if each["accuracy"]}
    assert set(accuracy) >= {"onnx", "tflite-float32", "tflite-int8"}, proof.text
    found = {each["key"]: each for each in numbers(of_bundle)["files"]}
    for key in ("onnx", "tflite-float32", "tflite-int8"):
        assert found[key]["scores"]["accuracy"] == pytest.approx(accuracy[key], abs=1e-6)
        assert found[key]["reference_accuracy"] == pytest.approx(wanted["reference_accuracy"])
    before = numbers(of_checkpoint)["files"][0]["scores"]
    assert found["reference"]["scores"] == before
    assert found["reference"]["reference_accuracy"] is None


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", ["model_float32.tflite", "model_int8.tflite", "model.onnx"])
def test_one_file_of_a_bundle_or_alone_gives_the_same(
    world: World, of_bundle: Path, tmp_path: Path, name: str
) -> None:
    wanted = next(each for each in numbers(of_bundle)["files"] if each["path"] == name)
    alone = shutil.copy(world.dist / name, tmp_path)
    for number, path in enumerate((world.dist / name, Path(alone))):
        out = tmp_path / str(number)
        ran = evaluate(path, "--data", world.data, "--out", out)
        assert ran.code == 0, ran.text
        (found,) = numbers(out)["files"]
        for part in ("scores", "safety"):
            assert found[part] == wanted[part]
        assert found["calibration"]["error"] == pytest.approx(wanted["calibration"]["error"])


@pytest.mark.usefixtures("quick")
def test_a_runs_folder_and_the_reference_in_a_bundle(
    world: World, of_checkpoint: Path, tmp_path: Path
) -> None:
    run = tmp_path / "runs" / "first"
    run.mkdir(parents=True)
    shutil.copy(world.checkpoint, run / "checkpoint.safetensors")
    wanted = numbers(of_checkpoint)["files"][0]["scores"]
    assert evaluate(run, "--data", world.data).code == 0
    assert numbers(tmp_path / "runs" / "first-evaluation")["files"][0]["scores"] == wanted
    reference = next((world.dist / "reference").iterdir())
    out = tmp_path / "reference"
    assert evaluate(reference, "--data", world.data, "--out", out).code == 0
    assert numbers(out)["files"][0]["scores"] == wanted


@pytest.mark.usefixtures("quick")
def test_labels_in_another_order_are_found_out(world: World, tmp_path: Path) -> None:
    """The mutant: names and outputs do not match any more."""
    names = write_checkpoint(tmp_path / "m.safetensors").with_name("m.safetensors")
    from models.checkpoint import load_checkpoint

    labels = load_checkpoint(names).contract.labels
    write_checkpoint(tmp_path / "m.safetensors", labels=labels[1:] + labels[:1])
    out = tmp_path / "out"
    evaluate(tmp_path / "m.safetensors", "--data", world.data, "--out", out, "--limit", 30)
    assert numbers(out)["files"][0]["scores"]["accuracy"] < 0.3


def test_the_folder_is_whole_and_the_page_stands_alone(of_bundle: Path) -> None:
    assert {path.name for path in of_bundle.iterdir()} == {
        files.JSON, files.PAGE, files.PER_CLASS, files.ANSWERS, files.CONFUSION,
        files.CALIBRATION, files.SAFETY,
    }  # fmt: skip
    for name in (files.CONFUSION, files.CALIBRATION, files.SAFETY):
        with Image.open(of_bundle / name) as picture:
            assert min(picture.size) > 400
    page = (of_bundle / files.PAGE).read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 3
    assert not re.search(r"(src|href)=.?(https?:|//)", page)
    assert "tflite-int8" in page
    found = numbers(of_bundle)
    assert (found["schema"], found["kind"]) == (1, "evaluation")
    assert sum(count for _, _, count in found["confusions"]) == 10 * PER_CLASS


def test_answers_of_a_bundle_have_columns_for_each_file(of_bundle: Path) -> None:
    with (of_bundle / files.ANSWERS).open(encoding="utf-8") as stream:
        head = next(csv.reader(stream))
    assert head[:4] == ["file", "truth", "answer", "probability"]
    assert "tflite-int8 answer" in head


@pytest.mark.usefixtures("quick")
def test_a_threshold_for_a_stated_rate_keeps_it(world: World, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ran = evaluate(world.checkpoint, "--data", world.data, "--most-missed", 0.06, "--out", out)
    assert ran.code == 0, ran.text
    chosen = numbers(out)["files"][0]["chosen"]
    assert chosen["safety"]["called_harmless"]["count"] <= 1  # of 18
    flag = re.search(r"exporter export \S+ --threshold (\S+)", ran.out)
    assert flag is not None
    again = write_checkpoint(tmp_path / "m.safetensors", not_sure_threshold=float(flag[1]))
    evaluate(again, "--data", world.data, "--out", tmp_path / "again")
    found = numbers(tmp_path / "again")["files"][0]["safety"]
    assert found["called_harmless"] == chosen["safety"]["called_harmless"]
    assert found["not_sure_of_all"] == chosen["safety"]["not_sure_of_all"]


@pytest.mark.usefixtures("quick")
def test_fewer_classes_are_said_and_broken_images_listed(world: World, tmp_path: Path) -> None:
    data = tmp_path / "data"
    for name in ("species 1", "species 4"):
        shutil.copytree(world.data / name, data / name)
    (data / "species 4" / "cut.png").write_bytes((data / "species 4" / "0.png").read_bytes()[:900])
    ran = evaluate(world.checkpoint, "--data", data, "--out", tmp_path / "out")
    assert ran.code == 0, ran.text
    assert "8 of the model's 10 classes have no image here" in ran.out
    assert "species 4/cut.png" in ran.out
    found = numbers(tmp_path / "out")
    assert found["images"] == 2 * PER_CLASS
    assert [each["name"] for each in found["broken"]] == ["species 4/cut.png"]
    assert "cut.png" in (tmp_path / "out" / files.PAGE).read_text(encoding="utf-8")
    assert "cut.png" not in (tmp_path / "out" / files.ANSWERS).read_text(encoding="utf-8")


@pytest.mark.usefixtures("quick")
def test_limit_takes_images_of_all_classes(world: World, tmp_path: Path) -> None:
    out = tmp_path / "out"
    evaluate(world.checkpoint, "--data", world.data, "--limit", 20, "--out", out)
    found = numbers(out)
    assert found["images"] == 20
    assert all(each["support"] == 2 for each in found["files"][0]["scores"]["classes"])
    assert "20 of 60 images" in " ".join(found["notes"])


def test_without_attributes_there_is_no_picture_of_them(world: World, tmp_path: Path) -> None:
    plain = bundles.write_decided_checkpoint(tmp_path / "plain.safetensors")
    out = tmp_path / "out"
    assert evaluate(plain, "--data", world.data, "--out", out, "--limit", 10).code == 0
    assert not (out / files.SAFETY).exists()
    assert numbers(out)["files"][0]["safety"] is None


@pytest.mark.usefixtures("quick")
def test_what_was_evaluated_stays_as_it_is(world: World, tmp_path: Path) -> None:
    dist = tmp_path / "dist"
    shutil.copytree(world.dist, dist)
    assert evaluate(dist / "model.onnx", "--data", world.data, "--limit", 5).code == 0
    assert (tmp_path / "dist-model-evaluation" / files.PAGE).exists()
    assert run_cli("verify", dist).code == 0


@pytest.mark.usefixtures("quick")
def test_images_that_int8_was_calibrated_on_are_said(world: World, tmp_path: Path) -> None:
    calibration = world.data.parent / "calibration"
    ran = evaluate(world.dist, "--data", calibration, "--out", tmp_path / "out")
    assert "int8 was calibrated on 10 of these images" in ran.out


@pytest.mark.usefixtures("quick")
def test_a_table_with_other_names_is_taken(
    world: World, of_checkpoint: Path, tmp_path: Path
) -> None:
    rows = [f"{path.relative_to(world.data).as_posix()},{path.parent.name.upper()}"
            for path in sorted(world.data.rglob("*.png"))]  # fmt: skip
    (tmp_path / "set.csv").write_text("file,label\n" + "\n".join(rows) + "\n")
    names = [f"SPECIES {index},species {index}" for index in range(10)]
    (tmp_path / "map.csv").write_text("from,to\n" + "\n".join(names) + "\n")
    ran = evaluate(
        world.checkpoint, "--data", tmp_path / "set.csv", "--images", world.data,
        "--class-map", tmp_path / "map.csv", "--out", tmp_path / "out",
    )  # fmt: skip
    assert ran.code == 0, ran.text
    found = numbers(tmp_path / "out")["files"][0]["scores"]
    assert found == numbers(of_checkpoint)["files"][0]["scores"]


@pytest.mark.usefixtures("quick")
def test_several_labels_an_image_with_the_contracts_thresholds(
    world: World, tmp_path: Path
) -> None:
    from sklearn.metrics import average_precision_score, classification_report

    thresholds = (0.1, 0.9, *(0.3,) * 8)
    model = write_checkpoint(
        tmp_path / "many.safetensors", activation="sigmoid", thresholds=thresholds
    )
    paths = sorted(world.data.rglob("*.png"))[:40]
    right = np.zeros((40, 10), dtype=int)
    for row, path in zip(right, paths, strict=True):
        first = int(path.parent.name.split()[1])
        row[[first, (first + int(path.stem) % 2) % 10]] = 1
    rows = [
        f"{path.relative_to(world.data).as_posix()},"
        + "|".join(f"species {index}" for index in np.flatnonzero(row))
        for path, row in zip(paths, right, strict=True)
    ]
    (tmp_path / "set.csv").write_text("file,labels\n" + "\n".join(rows) + "\n")
    data = ("--data", tmp_path / "set.csv", "--images", world.data)
    ran = evaluate(model, *data, "--out", tmp_path / "out")
    assert ran.code == 0, ran.text
    found = numbers(tmp_path / "out")["files"][0]["scores"]

    import torch

    from models.checkpoint import build, load_checkpoint
    from models.classifier import Classifier
    from models.images import load_pixels

    checkpoint = load_checkpoint(model)
    batch = np.stack([load_pixels(path, checkpoint.contract.preprocessing) for path in paths])
    with torch.inference_mode():
        table = Classifier(build(checkpoint), checkpoint.contract)(torch.from_numpy(batch)).numpy()
    theirs = classification_report(
        right, table >= np.array(thresholds), output_dict=True, zero_division=0
    )
    assert found["micro"]["f1"] == pytest.approx(theirs["micro avg"]["f1-score"], abs=1e-6)
    for index, each in enumerate(found["classes"]):
        assert each["recall"] == pytest.approx(theirs[str(index)]["recall"], abs=1e-6)
    known = [index for index in range(10) if right[:, index].any()]
    assert found["mean_average_precision"] == pytest.approx(
        np.mean([average_precision_score(right[:, i], table[:, i]) for i in known]), abs=1e-5
    )
    said = refused(model, *data, "--most-missed", 0.01)
    assert "one class an image" in said
