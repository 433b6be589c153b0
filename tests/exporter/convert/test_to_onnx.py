"""From torch to model.onnx: the same answers, the same bytes, nothing of the machine inside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from support import nets
from support.onnx_files import run

torch = pytest.importorskip("torch", reason="exports PyTorch models")

from exporter.convert import passes  # noqa: E402
from exporter.convert.evaluate import Evaluator  # noqa: E402
from exporter.convert.from_onnx import UnsupportedOperatorsError, read_graph  # noqa: E402
from exporter.convert.fuse_torch import fuse_batch_norms  # noqa: E402
from exporter.convert.onnx_file import OPSET, contract_of, load_model, metadata  # noqa: E402
from exporter.convert.to_onnx import ExportError, export_classifier  # noqa: E402
from models.classifier import Classifier  # noqa: E402

# The network's random weights amplify the order of float additions; the gate is 1e-4.
TOLERANCE = 5e-5


@pytest.fixture(scope="module", params=[nets.HALF, nets.IMAGENET], ids=["half", "imagenet"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    contract = nets.small_onnx(path, request.param)
    return path, Classifier(nets.small_net(request.param), contract).eval()


def test_onnxruntime_and_the_graph_give_what_torch_gives(exported) -> None:  # type: ignore[no-untyped-def]
    path, classifier = exported
    model, graph = load_model(path), read_graph(path)
    ours, lowered = Evaluator(graph), Evaluator(passes.standard(graph))
    seen = set()
    for picture in nets.images(12, seed=2):
        with torch.no_grad():
            wanted = classifier(torch.from_numpy(picture[None])).numpy()
        seen.add(int(wanted.argmax()))
        np.testing.assert_allclose(run(model, picture[None]), wanted, atol=TOLERANCE)
        np.testing.assert_allclose(ours.run(picture)[graph.output], wanted, atol=TOLERANCE)
        np.testing.assert_allclose(lowered.run(picture)["probabilities"], wanted, atol=2e-5)
    assert len(seen) >= 4  # a network that always answers the same could not fail


def test_what_the_file_says(exported) -> None:  # type: ignore[no-untyped-def]
    path, classifier = exported
    model = load_model(path)
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version == OPSET
    assert contract_of(model, "it") == classifier.contract
    assert metadata(model)["labels"].split("\n") == list(classifier.contract.names)
    assert set(metadata(model)) == {"contract", "labels"}
    source, output = model.graph.input[0], model.graph.output[0]
    assert (source.name, source.type.tensor_type.elem_type) == ("image", onnx.TensorProto.UINT8)
    assert [d.dim_value for d in source.type.tensor_type.shape.dim] == [1, 64, 64, 3]
    assert output.name == "probabilities"
    assert [d.dim_value for d in output.type.tensor_type.shape.dim] == [1, 10]
    operators = {node.op_type for node in model.graph.node}
    assert operators == {
        "Transpose", "Cast", "Sub", "Div", "Conv", "Clip", "Add", "ReduceMean", "Reshape",
        "Gemm", "Softmax",
    }  # fmt: skip


def test_nothing_of_the_machine_is_inside(exported) -> None:  # type: ignore[no-untyped-def]
    data = exported[0].read_bytes()
    here = Path(__file__).parents[3]
    for trace in (str(here), ".py", "stack_trace", "torch.", "onnxsim", str(Path.home())):
        assert trace.encode() not in data, trace


def test_the_same_bytes_each_time_even_from_training_mode(tmp_path: Path) -> None:
    """A forgotten eval() is made up for, and leaves the user's own module as it was."""
    contract = nets.small_contract()
    classifier = Classifier(nets.small_net(), contract)
    classifier.net.train()
    try:
        before = {k: v.clone() for k, v in classifier.state_dict().items()}
        export_classifier(classifier, contract, tmp_path / "training.onnx")
        assert classifier.net.training
        assert all(torch.equal(v, before[k]) for k, v in classifier.state_dict().items())
    finally:
        classifier.net.eval()
    nets.small_onnx(tmp_path / "model.onnx")  # by export_checkpoint, maybe in another process
    assert (tmp_path / "training.onnx").read_bytes() == (tmp_path / "model.onnx").read_bytes()


class _Stubborn(torch.nn.Module):
    """Stays in training mode."""

    def train(self, mode: bool = True) -> _Stubborn:
        return super().train(True)

    def forward(self, x):  # type: ignore[no-untyped-def]
        return torch.nn.functional.dropout(x.float().mean((1, 2))[:, :2], training=self.training)


class _Fixed(torch.nn.Module):
    def __init__(self, function) -> None:  # type: ignore[no-untyped-def]
        super().__init__()
        self.function = function
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, x):  # type: ignore[no-untyped-def]
        return self.function(x.float() * self.weight)


def test_a_network_that_refuses_eval_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="training mode"):
        export_classifier(_Stubborn(), nets.small_contract(), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_nan_weights_are_named(tmp_path: Path) -> None:
    module = _Fixed(lambda x: x.mean((1, 2)))
    module.weight.data[0] = float("nan")
    with pytest.raises(ExportError, match="weight"):
        export_classifier(module, nets.small_contract(), tmp_path / "model.onnx")


def test_a_network_that_torch_cannot_trace(tmp_path: Path) -> None:
    module = _Fixed(lambda x: x.mean((1, 2)) if bool(x.sum() > 0) else x.amax((1, 2)))
    with pytest.raises(ExportError, match="torch cannot export"):
        export_classifier(module, nets.small_contract(), tmp_path / "model.onnx")


def test_an_operator_that_no_target_writes(tmp_path: Path) -> None:
    module = _Fixed(lambda x: torch.softmax(torch.erf(x.permute(0, 3, 1, 2)).mean((2, 3)), 1))
    with pytest.raises(UnsupportedOperatorsError, match="Erf"):
        export_classifier(module, nets.small_contract(), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def _norm(channels: int) -> torch.nn.BatchNorm2d:
    norm = torch.nn.BatchNorm2d(channels)
    for values in (norm.weight, norm.running_var):
        torch.nn.init.uniform_(values, 0.5, 2)
    for values in (norm.bias, norm.running_mean):
        torch.nn.init.normal_(values)
    return norm


def test_batch_norms_are_fused_only_where_that_is_certain() -> None:
    torch.manual_seed(3)
    conv = lambda **options: torch.nn.Conv2d(4, 4, 3, padding=1, **options)  # noqa: E731
    shared, hooked, training = conv(), conv(), _norm(4)
    hooked.register_forward_hook(lambda part, given, made: made * 2)
    net = torch.nn.Sequential(
        torch.nn.Sequential(conv(bias=False), _norm(4), torch.nn.ReLU6()),  # these two
        torch.nn.Sequential(conv(groups=4), _norm(4), shared, _norm(4), shared),
        torch.nn.Sequential(hooked, _norm(4), conv(), torch.nn.ReLU(), _norm(4)),
    ).eval()
    relu = torch.nn.ReLU()
    net.append(torch.nn.Sequential(relu, conv(), relu, _norm(4)).eval())
    net.append(torch.nn.Sequential(conv(), training.train()))
    values = torch.randn(2, 4, 7, 7)
    training.momentum = 0.0  # so that running it in training mode leaves no trace
    with torch.no_grad():
        before = net(values)
        fuse_batch_norms(net)
        after = net(values)
    torch.testing.assert_close(after, before, rtol=1e-4, atol=TOLERANCE)
    left = [name for name, m in net.named_modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert left == ["1.3", "2.1", "2.4", "3.3", "4.1"]
