"""`make bench-int8` without any peer: its statistics, its protocol, its tables and reports."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from bench.int8 import __main__ as command
from bench.int8 import (
    figures,
    output,
    peers,
    plot,
    protocol,
    rows,
)
from bench.int8.figures import Estimate
from exporter.prove.compare import Comparison
from models.errors import UserError
from models.images import ImageFile

REFERENCE = np.array([[2.0, 0.0, -2.0], [0.0, 4.0, -4.0], [3.0, -3.0, 0.0], [1.0, 0.0, -1.0]])
TRUTH = np.array([0, 1, 1, 2])


def answers(seed: int = 0, size: float = 0.3, images: int = 60) -> tuple[np.ndarray, ...]:
    draw = np.random.default_rng(seed)
    exact = draw.normal(size=(images, 7))
    return exact, exact + draw.normal(scale=size, size=exact.shape), exact.argmax(1)


class TestFigures:
    def test_by_hand(self) -> None:
        # image 0: error (0.3, 0, -0.3); image 1: classes 0 and 1 swapped; the rest exact
        found = REFERENCE.copy()
        found[0] += [0.3, 0.0, -0.3]
        found[1] = [4.0, 0.0, -4.0]
        got = figures.figures(figures.compare(REFERENCE, found, TRUTH), figures.resamples(4))
        assert got.sqnr.value == pytest.approx(10 * math.log10((8 + 32 + 18 + 2) / (0.18 + 32)))
        assert got.error.value == pytest.approx((0.6 + 8.0) / 12)
        assert got.agreement.value == 0.75
        assert got.top1.value == 0.25  # image 0 only; the float network has 0 and 1
        assert got.drop.value == 25.0
        assert got.not_finite == 0

    def test_a_constant_an_image_changes_nothing(self) -> None:
        exact, found, truth = answers()
        shifted = found + np.arange(len(found))[:, None]
        one, other = (
            figures.figures(figures.compare(exact, each, truth), figures.resamples(60))
            for each in (found, shifted)
        )
        assert other.sqnr.value == pytest.approx(one.sqnr.value)
        assert other.error.low == pytest.approx(one.error.low)

    def test_they_are_those_of_parity(self) -> None:
        exact, found, truth = answers()
        got = figures.figures(figures.compare(exact, found, truth), figures.resamples(60))
        parity = Comparison("softmax")
        for index in range(60):
            pair = [np.exp(each[index]) / np.exp(each[index]).sum() for each in (exact, found)]
            parity.add(
                str(index), *(p.astype(np.float32) for p in pair), truth=(int(truth[index]),)
            )
        expected = parity.metrics()
        assert got.sqnr.value == pytest.approx(expected.logit_sqnr_db, rel=1e-4)
        assert got.error.value == pytest.approx(expected.mean_logit_difference, rel=1e-4)
        assert got.agreement.value == expected.top1_agreement
        assert got.top1.value == expected.accuracy

    def test_a_nan_agrees_with_nothing_and_counts_in_no_difference(self) -> None:
        found = REFERENCE + np.array([0.1, 0.0, -0.1])
        found[2, 0] = np.nan
        got = figures.figures(figures.compare(REFERENCE, found, TRUTH), figures.resamples(4))
        assert got.not_finite == 1
        assert got.agreement.value == 0.75
        assert got.sqnr.value == pytest.approx(10 * math.log10((8 + 32 + 2) / (3 * 0.02)))
        assert got.error.value == pytest.approx(0.2 / 3)

    def test_shapes_that_differ_are_refused(self) -> None:
        with pytest.raises(ValueError, match="against"):
            figures.compare(REFERENCE, REFERENCE[:, :2], TRUTH)


class TestBootstrap:
    def test_every_resample_draws_as_many_images(self) -> None:
        drawn = figures.resamples(17, draws=50)
        assert drawn.shape == (50, 17)
        assert (drawn.sum(axis=1) == 17).all()
        assert len({tuple(row) for row in drawn}) == 50

    def test_it_is_the_same_every_time(self) -> None:
        assert np.array_equal(figures.resamples(9), figures.resamples(9))
        assert not np.array_equal(figures.resamples(9), figures.resamples(9, seed=1))

    def test_the_interval_of_a_share_is_the_binomial_one(self) -> None:
        # 320 of 400: standard error sqrt(0.8 * 0.2 / 400) = 0.02
        exact = np.tile([1.0, 0.0], (400, 1))
        found = exact.copy()
        found[:80] = [0.0, 1.0]
        images = figures.compare(exact, found, np.zeros(400, np.int64))
        got = figures.figures(images, figures.resamples(400)).agreement
        assert got.value == 0.8
        assert got.low == pytest.approx(0.8 - 1.96 * 0.02, abs=0.003)
        assert got.high == pytest.approx(0.8 + 1.96 * 0.02, abs=0.003)

    def test_paired_differences_are_narrower_than_the_figures(self) -> None:
        exact, found, truth = answers()
        worse = exact + 1.25 * (found - exact)  # 1.938 dB below on every image
        weights = figures.resamples(60)
        one, other = (figures.compare(exact, each, truth) for each in (worse, found))
        gap = figures.difference(figures.sqnr, one, other, weights)
        alone = figures.figures(one, weights).sqnr
        assert gap.value == pytest.approx(-20 * math.log10(1.25))
        assert gap.high - gap.low < 1e-9 < alone.high - alone.low


class TestProtocol:
    @pytest.fixture
    def data(self, tmp_path: Path) -> Path:
        photographs = tmp_path / protocol.PHOTOGRAPHS
        photographs.mkdir(parents=True)
        for index in (8, 0, 4, 2, 10, 6, 12):
            Image.new("RGB", (8, 8)).save(photographs / f"{index:04d}_n0_kind.jpg")
        (tmp_path / protocol.WEIGHTS).parent.mkdir()
        (tmp_path / protocol.WEIGHTS).write_bytes(b"weights")
        return tmp_path

    def test_every_fifth_by_name_calibrates_and_the_others_evaluate(self, data: Path) -> None:
        task = protocol.imagenet(data)
        assert [path.name[:4] for path in task.calibration] == ["0000", "0010"]
        assert task.truth == (2, 4, 6, 8, 12)
        assert [path.name[:4] for path in task.evaluation] == ["0002", "0004", "0006", "0008",
                                                               "0012"]  # fmt: skip
        assert task.words[-2:] == ("--resize", "224")

    def test_folds_use_every_image_once_to_calibrate(self, data: Path) -> None:
        tasks = [protocol.imagenet(data, fold) for fold in range(protocol.FOLDS)]
        used = [path for task in tasks for path in task.calibration]
        assert sorted(used) == sorted(set(used))
        assert len(used) == 7
        for task in tasks:
            assert not set(task.calibration) & set(task.evaluation)
        with pytest.raises(ValueError, match="fold 5"):
            protocol.split(used, 5)

    def test_a_photograph_without_a_class_is_named(self, data: Path) -> None:
        Image.new("RGB", (8, 8)).save(data / protocol.PHOTOGRAPHS / "cat.jpg")
        with pytest.raises(UserError, match=r"cat\.jpg"):
            protocol.imagenet(data)

    def test_missing_data_is_said_and_ends_with_two(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert command.main(["--data", str(tmp_path / "nowhere")]) == 2
        assert "not run" in capsys.readouterr().out
        monkeypatch.setenv(protocol.DATA, str(tmp_path / "other"))
        with pytest.raises(UserError, match="other"):
            protocol.find_data(None)
        assert command.main(["--data", str(tmp_path)]) == 2  # the folder, but no weights in it
        assert "mobilenet_v2_imagenet.pth" in capsys.readouterr().out

    def test_flowers_have_the_names_of_their_folders(self, tmp_path: Path) -> None:
        for part in ("train", "test"):
            for kind in ("00_rose", "01_tulip"):
                folder = tmp_path / protocol.FLOWERS / part / kind
                folder.mkdir(parents=True)
                Image.new("RGB", (8, 8)).save(folder / f"{part}.jpg")
        checkpoint = tmp_path / "net.safetensors"
        with pytest.raises(UserError, match="no checkpoint"):
            protocol.flowers(tmp_path, checkpoint)
        checkpoint.write_bytes(b"")
        task = protocol.flowers(tmp_path, checkpoint)
        assert task.truth == ("00_rose", "01_tulip")
        assert [path.stem for path in task.calibration] == ["train", "train"]

    def test_calibration_is_spread_over_the_classes(self) -> None:
        files = [ImageFile(Path(f"{index:03d}.jpg")) for index in range(1088)]
        found = protocol.spread(files, 100)
        assert len(set(found)) == 100
        assert (found[0].stem, found[-1].stem) == ("000", "1077")
        assert len(protocol.spread(files[:3], 100)) == 3

    def test_which_quantizers_are_measured(self) -> None:
        methods, others = command.chosen(None, "all", folds=False)
        assert [one.key for one in methods] == ["default", "fast", "distill", "mixed"]
        assert len(others) == len(peers.PEERS)
        assert command.chosen(["nncf", "fast"], "all", folds=False)[1][0].key == "nncf"
        assert command.chosen(None, "none", folds=False)[1] == []
        assert command.chosen(None, "all", folds=True)[1] == []
        with pytest.raises(UserError, match="no quantizer is left"):
            command.chosen(["nncf"], "none", folds=False)


def line(key: str = "default", **changes: object) -> rows.Row:
    exact, found, truth = answers()
    made = figures.figures(figures.compare(exact, found, truth), figures.resamples(60))
    row = rows.Row(key, f"the {key}", True, True, version="1", figures=made, seconds=2.0)
    return replace(row, **changes)  # type: ignore[arg-type]


class TestTables:
    FAILED = rows.Row("nncf", "nncf", False, False, not_run="pip failed: a | b")

    def test_what_was_not_run_shows_its_reason_and_no_figure(self) -> None:
        lines = output.fidelity_lines([line(), self.FAILED])
        assert lines[1][:3] == ("nncf", rows.SIMULATED, "not run: pip failed: a | b")
        assert set(lines[1][3:]) == {output.NONE}
        assert len(lines[0]) == len(lines[1]) == len(output.FIDELITY)
        assert [one[0] for one in output.cost_lines([line(), self.FAILED])] == ["the default"]

    def test_intervals(self) -> None:
        assert output.interval(Estimate(1.234, 1.1, 1.3), 2) == "1.23 (1.10 to 1.30)"
        assert output.interval(Estimate(-1.0, -2.0, 0.5), 1, True) == "-1.0 (-2.0 to +0.5)"
        assert output.interval(None, 2) == output.NONE

    def test_goals_are_not_reached_by_what_was_not_run(self) -> None:
        good = Estimate(23.0, 22, 24)
        row = line()
        assert row.figures is not None
        reached = replace(row, figures=replace(row.figures, sqnr=good))
        lines = output.goal_lines([reached, self.FAILED, replace(self.FAILED, key="mixed")])
        assert lines[0] == ("the default", "sqnr", ">= 23", "23.00", "yes")
        below = replace(row.figures, sqnr=Estimate(22.99, 22, 24))
        assert output.goal_lines([replace(row, figures=below)])[0][-1] == "no"
        assert {one[-1] for one in lines if one[3] == "not run"} == {"no"}
        assert len(lines) == 8

    def test_markdown_keeps_its_columns(self) -> None:
        text = output.markdown(output.FIDELITY, output.fidelity_lines([line(), self.FAILED]))
        counts = {each.replace("\\|", "").count("|") for each in text.splitlines()}
        assert counts == {len(output.FIDELITY) + 1}

    def test_json_holds_everything(self, tmp_path: Path) -> None:
        output.write_json(tmp_path / "int8.json", "a task", [line(), self.FAILED])
        read = json.loads((tmp_path / "int8.json").read_text(encoding="utf-8"))
        assert read["bootstrap"] == {"draws": figures.DRAWS, "seed": figures.SEED, "level": 0.95}
        assert read["rows"][1]["figures"] is None
        assert read["rows"][0]["figures"]["sqnr"]["low"] < read["rows"][0]["figures"]["sqnr"][
            "value"
        ]  # fmt: skip

    def test_folds(self) -> None:
        other = line()
        assert other.figures is not None
        first = replace(other, figures=replace(other.figures, sqnr=Estimate(20, 0, 0)))
        second = replace(other, figures=replace(other.figures, sqnr=Estimate(23, 0, 0)))
        found = rows.over_folds([[first, self.FAILED], [second, self.FAILED]])
        assert list(found) == ["the default"]
        assert found["the default"]["sqnr"] == rows.FoldFigures(
            21.5, pytest.approx(4.5**0.5), 20, 23
        )
        assert output.fold_lines(found)[0][1] == "21.50 ± 2.12 (20.00 to 23.00)"

    def test_a_picture_of_it(self, tmp_path: Path) -> None:
        pytest.importorskip("matplotlib")
        plot.write_plot(tmp_path / "one.png", "title", [line(), self.FAILED])
        plot.write_plot(tmp_path / "two.png", "title", [line(), line("other", ours=False)])
        with Image.open(tmp_path / "one.png") as one, Image.open(tmp_path / "two.png") as two:
            assert one.width == two.width > 500
        first = (tmp_path / "one.png").read_bytes()
        assert first != (tmp_path / "two.png").read_bytes()


class TestReports:
    TASK = protocol.Task(protocol.IMAGENET, (), (Path("a"),), (Path("b"), Path("c")), (0, 1))

    def test_three_files_are_written(self, tmp_path: Path) -> None:
        pytest.importorskip("matplotlib")
        out = tmp_path / "found"
        command._report(out, self.TASK, [line(), TestTables.FAILED], Console(width=200, quiet=True))
        assert sorted(path.name for path in out.iterdir()) == ["int8.json", "int8.md", "int8.png"]
        text = (out / "int8.md").read_text(encoding="utf-8")
        assert text.startswith("ImageNet: 1 photographs calibrate, 2 others evaluate.\n\n| quant")
        assert "pip failed" in text
        assert "| the default | sqnr | >= 23 |" in text

    def test_goals_are_those_of_imagenet(self, tmp_path: Path) -> None:
        pytest.importorskip("matplotlib")
        task = replace(self.TASK, name="flowers17")
        command._report(tmp_path, task, [line()], Console(quiet=True))
        assert ">= 23" not in (tmp_path / "int8.md").read_text(encoding="utf-8")

    def test_folds_name_what_was_not_run(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        folds = [[line(), TestTables.FAILED], [line(), TestTables.FAILED]]
        command._report_folds(tmp_path, folds, Console(width=200))
        assert "nncf: not run: pip failed" in capsys.readouterr().out
        read = json.loads((tmp_path / "int8.json").read_text(encoding="utf-8"))
        assert list(read["folds"]) == ["the default"]
        assert len(read["rows"]) == 4

    def test_folds_are_for_imagenet(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        words = ["--data", str(tmp_path), "--folds", "5", "--checkpoint", "net.safetensors"]
        assert command.main(words) == 2
        assert "--folds is for ImageNet" in capsys.readouterr().out
