"""`make bench-int8` without any peer: files and logits, scripts, environments, failures."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bench.int8 import environments, ours, peers, prepared, rows, tflite_files
from bench.int8.environments import NotRunError
from exporter import fetched
from exporter.convert.graph import GlobalAveragePool, Softmax
from exporter.convert.targets.tflite.writer import to_bytes
from models.contract import Contract, Label, Preprocessing
from models.errors import UserError
from support.tflite_files import Net, pixels_for, plan_for
from support.tflite_files import run as run_file


class TestOurs:
    HELP = "--calibration DIR  --quantizer  <default|fast|distill>  int8"

    def test_only_what_the_exporter_names_is_run(self) -> None:
        by_key = {method.key: method for method in ours.METHODS}
        assert ours.missing(by_key["default"], self.HELP) is None
        assert ours.missing(by_key["distill"], self.HELP) is None
        assert "distill" in str(ours.missing(by_key["distill"], self.HELP.replace("|distill", "")))
        assert "--int8-budget" in str(ours.missing(by_key["mixed"], self.HELP))
        unknown = replace(by_key["fast"], format="tflite-int3")
        assert "tflite-int3" in str(ours.missing(unknown, self.HELP))


def plain_model(path: Path, end: str = "Softmax") -> np.ndarray:
    """pixels -> Transpose, Cast, Sub, Div -> convolution, mean, Softmax; returns its weights."""
    weights = np.random.default_rng(1).normal(size=(4, 3, 1, 1)).astype(np.float32)
    mean = np.array([120, 110, 100], np.float32).reshape(1, 3, 1, 1)
    std = np.array([60, 55, 50], np.float32).reshape(1, 3, 1, 1)
    nodes = [
        helper.make_node("Transpose", ["image"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["nchw"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["float", "mean"], ["shifted"]),
        helper.make_node("Div", ["shifted", "std"], ["scaled"]),
        helper.make_node("Conv", ["scaled", "weights"], ["maps"]),
        helper.make_node("GlobalAveragePool", ["maps"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["logits"]),
        helper.make_node(end, ["logits"], ["probabilities"]),
    ]
    graph = helper.make_graph(
        nodes, "net",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, 8, 6, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [1, 4])],
        [numpy_helper.from_array(value, name) for name, value in
         (("mean", mean), ("std", std), ("weights", weights))],
    )  # fmt: skip
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path
    )
    return weights[:, :, 0, 0]


class TestPrepared:
    def test_other_tools_get_the_network_without_its_ends(self, tmp_path: Path) -> None:
        weights = plain_model(tmp_path / "model.onnx")
        made = tmp_path / "logits.onnx", tmp_path / "probabilities.onnx"
        mean, std = prepared.write_plain(tmp_path / "model.onnx", *made)
        assert mean.tolist() == [120, 110, 100]
        assert std.tolist() == [60, 55, 50]
        pixels = np.random.default_rng(2).integers(0, 256, (3, 8, 6, 3), np.uint8)
        images = ((pixels - mean) / std).astype(np.float32)
        expected = images.mean(axis=(1, 2)) @ weights.T
        logits, probabilities = (prepared.run_onnx(path, images, 1) for path in made)
        np.testing.assert_allclose(logits, expected, atol=1e-5)
        np.testing.assert_allclose(
            probabilities, np.exp(expected) / np.exp(expected).sum(1, keepdims=True), atol=1e-6
        )

    def test_a_network_of_another_form_is_refused(self, tmp_path: Path) -> None:
        plain_model(tmp_path / "model.onnx", end="Sigmoid")
        with pytest.raises(UserError, match="softmax"):
            prepared.write_plain(tmp_path / "model.onnx", tmp_path / "a", tmp_path / "b")


class TestTfliteLogits:
    CONTRACT = Contract(tuple(Label(f"kind {i}") for i in range(5)), Preprocessing(9, 8, 9))

    @pytest.mark.parametrize("precision", ["int8", "float32"])
    def test_they_are_the_softmax_input(self, precision: str) -> None:
        net = Net(3, 9, 8)
        made = net.conv("pixels", 6, (3, 3), padding=(1, 1, 1, 1))
        net.add(Softmax, net.dense(net.add(GlobalAveragePool, made, keep_dims=False), 5))
        graph = net.graph()
        images = pixels_for(graph, 4)
        plan = plan_for(graph, images) if precision == "int8" else None
        model = to_bytes(graph, self.CONTRACT, precision, plan)  # type: ignore[arg-type]
        copy = tflite_files.with_logits(model)
        assert copy != model
        assert tflite_files.with_logits(copy) == copy  # it ends in logits now
        given = _GivenPixels()
        file = tflite_files.File(copy, given, pixels_in=True)  # type: ignore[arg-type]
        for image, probabilities in zip(images, run_file(model, images), strict=True):
            logits = file.run(file.given(image))
            power = np.exp(logits - logits.max())
            np.testing.assert_allclose(power / power.sum(), probabilities.reshape(-1), atol=1e-6)


class _GivenPixels:
    """Normalization is not asked for where a file takes raw pixels."""


class TestMeasuring:
    @pytest.fixture
    def task(self, tmp_path: Path) -> prepared.Prepared:
        exact = np.random.default_rng(0).normal(size=(60, 7))
        return prepared.Prepared(
            tmp_path, None, tmp_path, np.zeros((60, 2, 2, 3), np.uint8),  # type: ignore[arg-type]
            np.zeros(3, np.float32), np.ones(3, np.float32), exact.argmax(1),
            exact.astype(np.float32), "h",
        )  # fmt: skip

    def test_differences_are_to_our_default_and_failures_are_rows(
        self, task: prepared.Prepared, tmp_path: Path
    ) -> None:
        exact = task.reference.astype(np.float64)
        found = exact + np.random.default_rng(1).normal(scale=0.3, size=exact.shape)
        path = tmp_path / "ours.tflite"
        path.write_bytes(bytes(1500))
        said: list[str] = []
        measuring = rows.Measuring(task, said.append)
        measuring.add_ours(
            ours.METHODS[0],
            lambda _: ours.Made(found.astype(np.float32), 3.0, 2.5, path),
            "1",
            60.0,
        )
        worse = (exact + 2 * (found - exact)).astype(np.float32)
        measuring.add_peer(
            peers.PEERS[6], lambda *_: peers.Ran(worse, 9.0, 8.0, "3.4", 300.0, None)
        )

        nothing = np.full_like(worse, np.nan)
        measuring.add_peer(
            peers.PEERS[8], lambda *_: peers.Ran(nothing, 9.0, 8.0, "3", 300.0, None)
        )

        def fails(*_: object) -> peers.Ran:
            raise NotRunError("pip failed: no such version")

        measuring.add_peer(peers.PEERS[7], fails)
        first, second, lost, failed = measuring.rows(runs=0)
        assert first.sqnr_to_ours is None
        assert first.megabytes == 0.0015
        assert second.sqnr_to_ours is not None
        assert second.sqnr_to_ours.value == pytest.approx(-20 * math.log10(2), abs=1e-3)
        assert second.sqnr_to_ours.high < 0
        assert (second.seconds, second.cpu_seconds, second.installed_mb) == (9.0, 8.0, 300.0)
        assert not second.writes
        assert lost.figures is None
        assert lost.not_run == "no image gave finite logits"
        assert failed.figures is None
        assert failed.not_run == "pip failed: no such version"
        assert said[3].endswith("not run: pip failed: no such version")


class TestEnvironments:
    @pytest.fixture(autouse=True)
    def own_cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(fetched.HOME, str(tmp_path / "cache"))

    def test_a_failed_install_is_a_reason_and_is_tried_again(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        built: list[Path] = []

        def build(root: Path, *_: object) -> None:
            built.append(root)
            if len(built) == 1:
                raise NotRunError("pip failed: no such version")
            root.mkdir(parents=True)
            ready = {"megabytes": 1.5, "versions": {"nncf": "3.4.0"}}
            (root / environments.READY).write_text(json.dumps(ready), encoding="utf-8")

        monkeypatch.setattr(environments, "_build", build)
        with pytest.raises(NotRunError, match="no such version"):
            environments.environment("nncf", ["nncf==3.4.0"])
        for _ in range(2):
            found = environments.environment("nncf", ["nncf==3.4.0"])
        assert len(built) == 2
        assert found.megabytes == 1.5
        assert environments.environment("nncf", ["nncf==3.3.0"]).megabytes == 1.5
        assert built[2].name != built[1].name

    def test_the_last_error_of_a_log_is_what_is_told(self, tmp_path: Path) -> None:
        log = tmp_path / "log"
        log.write_text("a\nERROR: no matching distribution\nhint: look\n\n", encoding="utf-8")
        assert environments.last_words(log) == "ERROR: no matching distribution"
        log.write_text("\n", encoding="utf-8")
        assert environments.last_words(log) == "nothing was said"

    def test_a_script_that_fails_is_a_reason_and_leaves_no_result(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        home = environments.Environment(Path(sys.executable), 1.0, {"numpy": "1"})
        monkeypatch.setattr(peers, "_environment", lambda _: home)
        monkeypatch.setattr(prepared.Prepared, "require_tensorflow_files", lambda _: None)
        monkeypatch.setattr(peers, "INSIDE", tmp_path)
        (tmp_path / "job.py").write_text("", encoding="utf-8")
        (tmp_path / "broken.py").write_text("raise RuntimeError('an error of its own')\n",
                                            encoding="utf-8")  # fmt: skip
        peer = peers.Peer("broken", "broken", "broken.py", "numpy", ("numpy==1",))
        task = prepared.Prepared(
            tmp_path, None, tmp_path, np.zeros((1, 2, 2, 3), np.uint8),  # type: ignore[arg-type]
            np.zeros(3, np.float32), np.ones(3, np.float32), np.zeros(1, np.int64),
            np.zeros((1, 2), np.float32), "h",
        )  # fmt: skip
        for _ in range(2):
            with pytest.raises(NotRunError, match="RuntimeError: an error of its own"):
                peers.run(peer, task)
        (kept,) = (tmp_path / "cache" / environments.CACHE / "results").iterdir()
        assert kept.name.endswith(".failed")

    def test_a_finished_result_is_taken_from_the_cache(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        home = environments.Environment(Path(sys.executable), 7.0, {"numpy": "2.0"})
        monkeypatch.setattr(peers, "_environment", lambda _: home)
        monkeypatch.setattr(prepared.Prepared, "require_tensorflow_files", lambda _: None)
        monkeypatch.setattr(peers, "INSIDE", tmp_path)
        real = (Path(prepared.__file__).parent / "inside" / "job.py").read_text(encoding="utf-8")
        (tmp_path / "job.py").write_text(real, encoding="utf-8")
        script = """
import numpy as np
from job import LOGITS, Job
job = Job()
with job.timed():
    found = [image.mean((2, 3))[0, :2] * job.variant['by'] for image in job.planes('evaluation')]
np.save(job.out / LOGITS, np.stack(found))
with open(job.out.parent.parent / 'runs', 'a') as count: count.write('.')
job.finish()
"""
        (tmp_path / "once.py").write_text(script, encoding="utf-8")
        pixels = np.full((2, 2, 2, 3), 10, np.uint8)
        np.save(tmp_path / "evaluation.npy", pixels)
        task = prepared.Prepared(
            tmp_path, None, tmp_path, pixels,  # type: ignore[arg-type]
            np.full(3, 4, np.float32), np.full(3, 2, np.float32), np.zeros(2, np.int64),
            np.zeros((2, 2), np.float32), "h",
        )  # fmt: skip
        peer = peers.Peer("once", "once", "once.py", "numpy", ("numpy==2",), {"by": 2.0})
        first, second = peers.run(peer, task), peers.run(peer, task)
        assert first.logits.tolist() == second.logits.tolist() == [[6.0, 6.0], [6.0, 6.0]]
        assert (first.version, first.megabytes, first.tflite) == ("2.0", 7.0, None)
        runs = tmp_path / "cache" / environments.CACHE / "runs"
        assert runs.read_text(encoding="utf-8") == "."
        peers.run(replace(peer, variant={"by": 3.0}), task)
        assert runs.read_text(encoding="utf-8") == ".."
