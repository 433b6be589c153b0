"""Which networks are tried: the zoo's by checkpoint, others of torchvision as ONNX files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from models import zoo
from models.contract import IMAGENET_MEAN, IMAGENET_STD, Contract, Normalization
from support import zoo_nets

if TYPE_CHECKING:
    from torch import nn

Kind = Literal["zoo", "onnx", "onnx-torchscript"]
CLASSES = 8
_OPSET = 17  # of the files that torch's older exporter writes
_TORCHSCRIPT = "torchscript"


@dataclass(frozen=True)
class Subject:
    """One network to try.

    Attributes:
        name: the zoo's, or that of torchvision's function.
        kind: how it comes to the exporter: as a checkpoint, or as an ONNX file, written by
            torch.export or by the older TorchScript exporter.
        side: of its input square, in pixels.
        head: module path of its last layer; '' where the zoo knows it.
    """

    name: str
    kind: Kind
    side: int
    head: str = ""

    @property
    def title(self) -> str:
        return f"{self.name} ({_TORCHSCRIPT})" if self.kind == "onnx-torchscript" else self.name


# torchvision's classifiers that are not in the zoo: name, side, last layer.
OTHERS: tuple[tuple[str, int, str], ...] = (
    ("convnext_tiny", 224, "classifier.2"),
    ("densenet121", 224, "classifier"),
    ("efficientnet_v2_s", 224, "classifier.1"),
    ("mnasnet1_0", 224, "classifier.1"),
    ("regnet_x_400mf", 224, "fc"),
    ("regnet_y_400mf", 224, "fc"),
    ("resnet34", 224, "fc"),
    ("shufflenet_v2_x1_0", 224, "fc"),
    ("vgg11", 224, "classifier.6"),
    ("vgg11_bn", 224, "classifier.6"),
    ("wide_resnet50_2", 224, "fc"),
    ("maxvit_t", 224, "classifier.5"),
    ("swin_t", 224, "head"),
    ("vit_b_32", 224, "heads.head"),
)
AGAIN_WITH_TORCHSCRIPT = ("mnasnet1_0", "regnet_y_400mf", "resnet34", "shufflenet_v2_x1_0")


def subjects(largest_side: int | None = None) -> tuple[Subject, ...]:
    """All of them, in the order of the table.

    Args:
        largest_side: smaller pictures than the default where the network takes them.
    """
    found = []
    for name in zoo.names():
        option = zoo.get(name).options["input_size"]
        side = int(option.default)
        if largest_side is not None and not option.choices:
            side = int(max(min(side, largest_side), option.smallest))
        found.append(Subject(name, "zoo", side))
    for name, side, head in OTHERS:
        small = side if largest_side is None or name in ("maxvit_t", "vit_b_32") else largest_side
        found.append(Subject(name, "onnx", min(side, small), head))
        if name in AGAIN_WITH_TORCHSCRIPT:
            found.append(Subject(name, "onnx-torchscript", min(side, small), head))
    return tuple(found)


def network_of(subject: Subject) -> tuple[nn.Module, Contract]:
    """The network, in eval mode with weights that decide (see `support.zoo_nets`), and its
    contract."""
    known = subject.kind == "zoo"
    entry = zoo.get(subject.name) if known else _entry(subject)
    return zoo_nets.decided(entry, CLASSES, clear=True, input_size=subject.side)


def _entry(subject: Subject) -> zoo.Architecture:
    """An entry of no registry, for a network that torchvision has and the zoo has not."""
    return zoo.Architecture(
        name=subject.name,
        function=_builder(subject.name),
        head=subject.head,
        stem=("", None),
        options={"input_size": zoo.input_size_option(subject.side)},
        normalization=Normalization(IMAGENET_MEAN, IMAGENET_STD),
    )


def _builder(name: str) -> Callable[..., Any]:
    def build(classes: int, *, input_size: int) -> Any:
        del input_size
        from torchvision import models

        return getattr(models, name)(weights=None, num_classes=classes)

    return build


def write_onnx(subject: Subject, net: Any, path: Path) -> None:
    """An ONNX file as a person brings it: normalized float NCHW of batch 1 to logits."""
    import torch

    from exporter.convert.onnx_fold import quiet

    given = torch.zeros(1, 3, subject.side, subject.side)
    with quiet(), torch.no_grad():
        if subject.kind == "onnx":
            torch.onnx.export(net, (given,), path, dynamo=True, external_data=False, verbose=False)
        else:
            torch.onnx.export(net, (given,), path, dynamo=False, opset_version=_OPSET)
