"""The zoo's entries made small enough to be tried in seconds: fewer channels or blocks.

What is narrow has the same kinds of layers in the same order as the whole network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from models import zoo

_BLOCKS = {  # of the four stages; a stage's second block is the one without a projection
    "resnet50": (2, 1, 1, 1),
    "resnet152": (1, 1, 2, 1),
    "resnext50_32x4d": (2, 1, 1, 1),
    "resnext101_32x8d": (1, 1, 2, 1),
    "resnext152_32x4d": (1, 2, 1, 1),
}
_EFFICIENT = {"b0": (1.0, 1.0), "b1": (1.0, 1.1), "b2": (1.1, 1.2), "b3": (1.2, 1.4)}
_NARROWER = 8  # times fewer channels in VGG and in AlexNet's dense layers
OPTIONS: dict[str, dict[str, int | float]] = {
    "efficientnet": {"width_mult": 0.25, "depth_mult": 0.3},
    "mobilenet_v1": {"width_mult": 0.25},
    "mobilenet_v2": {"width_mult": 0.25, "output_stride": 16},
}


def narrow(name: str) -> tuple[zoo.Architecture, dict[str, int | float]]:
    """A small version of an entry, and the options to build it with."""
    entry = zoo.get(name)
    builders: dict[str, Callable[..., Any]] = {
        **dict.fromkeys(_BLOCKS, _shallow),
        **dict.fromkeys(("vgg16", "vgg16_bn"), _narrow_vgg),
        **dict.fromkeys(("alexnet", "alexnet_lrn"), _narrow_dense),
        **{f"efficientnet_{which}": _narrow_efficient for which in _EFFICIENT},
        **dict.fromkeys(("mobilenet_v3_small", "mobilenet_v3_large"), _narrow_v3),
    }
    if name in builders:
        entry = replace(entry, function=_bound(builders[name], name, entry.function))
    return entry, OPTIONS.get(name, {})


def _bound(build: Callable[..., Any], name: str, whole: Callable[..., Any]) -> Callable[..., Any]:
    def function(classes: int, **options: Any) -> Any:
        return build(name, whole, classes, options)

    return function


def _shallow(name: str, whole: Any, classes: int, options: dict[str, Any]) -> Any:
    from torchvision.models.resnet import Bottleneck, ResNet

    del whole, options
    groups, width = (32, int(name[-2])) if "next" in name else (1, 64)
    return ResNet(
        Bottleneck, list(_BLOCKS[name]), num_classes=classes, groups=groups, width_per_group=width
    )


def _narrow_vgg(name: str, whole: Any, classes: int, options: dict[str, Any]) -> Any:
    from torchvision.models.vgg import VGG, cfgs, make_layers

    del whole, options
    plan = [c if c == "M" else int(c) // _NARROWER for c in cfgs["D"]]
    net = VGG(make_layers(plan, batch_norm=name.endswith("bn")), num_classes=classes)
    last = [c for c in plan if c != "M"][-1]
    _replace_dense(net, [int(last) * 49, 64, 48, classes])
    return net


def _narrow_dense(name: str, whole: Any, classes: int, options: dict[str, Any]) -> Any:
    """AlexNet's convolutions are kept; its dense layers have most of the weights."""
    from torch import nn

    net = whole(classes, **options)
    dense = [layer for layer in net.classifier if isinstance(layer, nn.Linear)]
    _replace_dense(net, [dense[0].in_features, 64, 48, classes])
    return net


def _narrow_efficient(name: str, whole: Any, classes: int, options: dict[str, Any]) -> Any:
    del whole
    width, depth = _EFFICIENT[name[-2:]]
    scaled = {**options, "width_mult": 0.3 * width, "depth_mult": 0.4 * depth}
    return zoo.get("efficientnet").function(classes, **scaled)


def _narrow_v3(name: str, whole: Any, classes: int, options: dict[str, Any]) -> Any:
    from torchvision import models

    del whole, options
    return getattr(models, name)(weights=None, num_classes=classes, width_mult=0.35)


def _replace_dense(net: Any, sizes: list[int]) -> None:
    from torch import nn

    places = [i for i, layer in enumerate(net.classifier) if isinstance(layer, nn.Linear)]
    for place, inputs, outputs in zip(places, sizes[:-1], sizes[1:], strict=True):
        net.classifier[place] = nn.Linear(inputs, outputs)
